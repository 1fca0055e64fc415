//! What tokens cost: `config/prices.json` over what is shipped.
//!
//! Prices are asked for when something is told, never when it is kept: whoever mends a price has mended the past too. What
//! has no price costs an unknown amount, which is not nothing.

use ahash::AHashMap;

use crate::config::diagnostic::{Diagnostic, Place, Report, Severity};
use crate::config::lookup::{self, Kind, Lookup, Text};
use crate::config::schema::{self, Schema};
use crate::config::source::{PriceEntry, PricesFile};
use crate::route::table::Pattern;
use crate::wire::event::Usage;

/// The prices that are shipped.
const SHIPPED: &str = include_str!("../../config/prices.json");

/// Every price that is known.
#[derive(Debug, Default)]
pub struct Prices {
    named: AHashMap<Box<str>, PriceEntry>,
    patterns: Vec<(Pattern, PriceEntry)>,
}

impl Prices {
    /// Reads them. What is wrong with the file is told, and what is right in it holds.
    #[must_use]
    pub fn load(lookup: &Lookup) -> (Self, Vec<Diagnostic>) {
        let mut report = Report::default();
        let own = lookup::prices(lookup, &mut report);
        let schema = match Schema::compile(schema::PRICES) {
            Ok(schema) => schema,
            Err(error) => {
                report.error(&Place::file("the compiled-in schema"), error);
                return (Self::default(), report.sorted());
            }
        };
        let shipped = schema.read(SHIPPED, &Place::file("built-in/prices.json"), &mut report);
        let own = own.and_then(|text| read(&schema, &text, &mut report));
        (Self::new([shipped, own].into_iter().flatten()), report.sorted())
    }

    /// Later files win, entry by entry.
    fn new(files: impl Iterator<Item = PricesFile>) -> Self {
        let mut prices = Self::default();
        for (name, price) in files.flat_map(|file| file.models.unwrap_or_default()) {
            let pattern = Pattern::new(&name);
            if pattern.is_wildcard() {
                prices.patterns.retain(|(other, _)| *other != pattern);
                prices.patterns.push((pattern, price));
            } else {
                prices.named.insert(name.into(), price);
            }
        }
        prices
    }

    /// What the tokens of a route (`provider/model`) cost, in US dollars. `None`: nobody counted them, or the price of some
    /// of them is not known.
    #[must_use]
    pub fn cost(&self, route: &str, used: &Usage) -> Option<f64> {
        if used.is_empty() {
            return None;
        }
        let price = self.find(route)?;
        let hour = used.cache_write_1h.unwrap_or(0);
        let parts = [
            (used.input.unwrap_or(0), price.input),
            (used.cache_read.unwrap_or(0), price.cache_read),
            (used.cache_write.unwrap_or(0).saturating_sub(hour), price.cache_write),
            (hour, price.cache_write_1h),
            (used.output.unwrap_or(0), price.output),
        ];
        let mut cost = 0.0;
        for (tokens, price) in parts.into_iter().filter(|(tokens, _)| 0 < *tokens) {
            #[expect(clippy::cast_precision_loss, reason = "tokens are far below 2^53")]
            let millions = tokens as f64 / 1e6;
            cost += millions * price?.0;
        }
        Some(cost)
    }

    /// By its name; by the name without the date of a snapshot; by the pattern that says most.
    fn find(&self, route: &str) -> Option<&PriceEntry> {
        let named = self.named.get(route).or_else(|| self.named.get(undated(route)?));
        named.or_else(|| {
            let fitting = self.patterns.iter().filter(|(pattern, _)| pattern.matches(route).is_some());
            fitting.max_by_key(|(pattern, _)| pattern.particular()).map(|(_, price)| price)
        })
    }
}

/// A name without the date at its end: `-20250929`, `-2025-09-29`.
fn undated(name: &str) -> Option<&str> {
    ["-########", "-####-##-##"].iter().find_map(|form| {
        let (before, date) = name.split_at_checked(name.len().checked_sub(form.len())?)?;
        let fits = |(letter, form): (u8, u8)| if form == b'#' { letter.is_ascii_digit() } else { letter == form };
        date.bytes().zip(form.bytes()).all(fits).then_some(before)
    })
}

fn read(schema: &Schema, text: &Text, report: &mut Report) -> Option<PricesFile> {
    let place = Place::file(&text.name);
    let file: PricesFile = schema.read(&text.text, &place, report)?;
    let models = place.at("models");
    for (name, price) in file.models.iter().flatten() {
        check(name, price, &models.at(name), report);
    }
    Some(file)
}

fn check(name: &str, price: &PriceEntry, place: &Place, report: &mut Report) {
    // A star may stand for the slash, too.
    if !name.contains(['/', '*']) {
        report
            .warn(place, "is no route, and prices nothing")
            .hint("write PROVIDER/MODEL, as db stats --by route names it");
    }
    if price.input.is_none() && price.output.is_none() {
        report.warn(place, "has neither a price of input nor one of output");
    }
}

/// Looks whether a file of prices can be used. No finding is worse than `worst`.
pub(crate) fn validate(texts: &[Text], worst: Severity, report: &mut Report) {
    let mut own = Report::default();
    // Its schema is not compiled for nothing.
    for text in texts.iter().filter(|text| text.kind == Kind::Prices) {
        match Schema::compile(schema::PRICES) {
            Ok(schema) => drop(read(&schema, text, &mut own)),
            Err(error) => drop(own.error(&Place::file("the compiled-in schema"), error)),
        }
    }
    report.found.extend(own.found.into_iter().map(|d| Diagnostic { severity: d.severity.min(worst), ..d }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Root;
    use crate::config::tests::Dir;

    fn used(input: u64, cache: [u64; 3], output: u64) -> Usage {
        let [read, write, hour] = cache.map(Some);
        Usage {
            input: Some(input),
            cache_read: read,
            cache_write: write,
            cache_write_1h: hour,
            output: Some(output),
            reasoning: None,
        }
    }

    fn prices(own: &str) -> (Prices, Vec<String>) {
        let dir = Dir::new(&[("prices.json", own)]);
        let lookup = Lookup { root: Root::Directory(dir.path("")), extra: Vec::new() };
        let (prices, found) = Prices::load(&lookup);
        (prices, found.iter().map(ToString::to_string).collect())
    }

    const OWN: &str = r#"{"models": {
        "p/a": {"input": 2, "output": 10, "cache_read": 0.5, "cache_write": 3, "cache_write_1h": 4},
        "p/half": {"input": 1, "output": 1},
        "p/free": {"input": 0, "output": 0},
        "p/m-*": {"input": 5, "output": 5},
        "p/*": {"input": 7, "output": 7},
        "anthropic/claude-haiku-4-5": {"input": 100, "output": 100, "as_of": "2026-01-02", "source": "a contract"}
    }}"#;

    #[test]
    fn each_kind_of_token_has_its_price() {
        let (prices, found) = prices(OWN);
        assert!(found.is_empty(), "{found:?}");
        let million = 1_000_000;
        for (route, used, expect) in [
            ("p/a", used(million, [0; 3], 0), Some(2.0)),
            ("p/a", used(0, [million, 2 * million, million], million), Some(0.5 + 3.0 + 4.0 + 10.0)),
            ("p/a-2025-09-29", used(million, [0; 3], 0), Some(2.0)),
            ("p/a-20250929", used(million, [0; 3], 0), Some(2.0)),
            ("p/a-2025092", used(million, [0; 3], 0), Some(7.0)),
            ("p/m-x", used(0, [0; 3], million), Some(5.0)),
            ("p/half", used(million, [0; 3], million), Some(2.0)),
            ("p/half", used(million, [1, 0, 0], million), None),
            ("p/free", used(million, [0; 3], million), Some(0.0)),
            ("q/a", used(1, [0; 3], 1), None),
            ("p/a", Usage::default(), None),
            ("", used(1, [0; 3], 1), None),
            // Shipped, and what is told of one's own instead.
            ("anthropic/claude-sonnet-4-6", used(million, [0; 3], million), Some(18.0)),
            ("anthropic/claude-haiku-4-5-20251001", used(million, [0; 3], 0), Some(100.0)),
        ] {
            assert_eq!(prices.cost(route, &used), expect, "{route} {used:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_and_the_rest_holds() {
        let (prices, found) = prices(
            r#"{"models": {"p/a": {"input": 2, "output": -1}, "b": {"input": 1, "output": 1}, "p/c": {}}, "modles": {}}"#,
        );
        assert_eq!(prices.cost("p/a", &used(1_000_000, [0; 3], 0)), Some(2.0));
        let said = found.join("\n");
        for words in ["output", "at least 0", "is no route", "neither a price of input", "did you mean \"models\""] {
            assert!(said.contains(words), "{words}: {said}");
        }
        assert_eq!(prices.cost("p/a", &used(1, [0; 3], 1)), None);
        let (prices, found) = self::prices(r#"{"models": {"*": {"input": 1, "output": 1}}}"#);
        assert_eq!(prices.cost("q/z", &used(1_000_000, [0; 3], 0)), Some(1.0), "one price for all");
        assert!(found.is_empty(), "{found:?}");
        let (_, found) = self::prices("{");
        assert!(found.join("").contains("is not JSON"), "{found:?}");
    }

    #[test]
    fn the_shipped_prices_say_when_and_where_they_were_read() {
        let schema = Schema::compile(schema::PRICES).unwrap();
        let mut report = Report::default();
        let file: PricesFile = schema.read(SHIPPED, &Place::file("x"), &mut report).unwrap();
        assert!(report.found.is_empty(), "{:?}", report.found);
        for (name, price) in file.models.unwrap() {
            assert!(price.as_of.is_some() && price.source.is_some(), "{name}");
            assert!(price.input.is_some() && price.output.is_some() && price.cache_read.is_some(), "{name}");
        }
    }
}
