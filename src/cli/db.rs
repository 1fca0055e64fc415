//! `db stats`, `db prune`, `db reset`: what the journal says, and what is left of it.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::cli::flags::NAME;
use crate::cli::parse::Given;
use crate::cli::{Exit, Unready, environment, lines, lookup, say, start, wants_json};
use crate::config::Prices;
use crate::journal::{By, Keep, Reader, Stat, Store, StoreError, Value};
use crate::route::near::near;
use crate::time::{Clock, Rfc3339};
use crate::wire::json::Writer;

const HOUR: u64 = 3600;

pub(crate) fn stats(given: &Given) -> Exit {
    tell(given, |given, path| {
        let json = wants_json(given)?;
        let by = by(given.text_or_default("by")?)?;
        let hour = since(given)? / HOUR;
        let stats = reader(given, path)?.stats(by, hour)?;
        say::out(&if json { stats_json(&stats) } else { stats_table(given.text_or_default("by")?, &stats) });
        if !json && 0 < hour {
            say::err(&format!("counted from {} on: sums are kept by the hour", Rfc3339(hour * HOUR)));
        }
        Ok(Exit::Fine)
    })
}

pub(crate) fn prune(given: &Given) -> Exit {
    tell(given, |given, path| {
        let json = wants_json(given)?;
        let days: u32 = given.number("days", "a number of days")?;
        let keep = Keep { age: Duration::from_secs(u64::from(days) * 86_400), bytes: u64::MAX };
        let reader = Reader::open_up_to_date(path, Box::new(|_, _| None))?;
        let mut store = Store::open(path)?;
        // What is written meanwhile is none of those that go.
        let last = u64::try_from(reader.last()?).unwrap_or(0);
        let (bytes, rows) = (store.bytes()?, rows(&reader, last)?);
        while store.prune(keep, Clock::unix_millis())? {}
        let (bytes_now, removed) = (store.bytes()?, rows.saturating_sub(self::rows(&reader, last)?));
        say::out(&if json {
            counts(path, &[("removed", removed), ("bytes_before", bytes), ("bytes", bytes_now)])
        } else {
            format!("removed {removed} requests from {}: {bytes} bytes before, {bytes_now} now", path.display())
        });
        Ok(Exit::Fine)
    })
}

/// How many requests there are, up to the one with this number.
fn rows(reader: &Reader, last: u64) -> Result<u64, StoreError> {
    let mut count = 0;
    reader.query("SELECT count(*) FROM requests WHERE id <= ?1", &[last], &mut |_, values| {
        if let [Value::Int(n)] = values {
            count = u64::try_from(*n).unwrap_or(0);
        }
        true
    })?;
    Ok(count)
}

pub(crate) fn reset(given: &Given) -> Exit {
    tell(given, |given, path| {
        let json = wants_json(given)?;
        let mut store = open(path)?;
        if !given.has("confirm") && !is_sure(path)? {
            say::err(&format!("{NAME}: nothing was removed"));
            return Ok(Exit::No);
        }
        let removed = store.clear()?;
        say::out(&if json {
            counts(path, &[("removed", removed as u64)])
        } else {
            format!("removed {removed} requests, and all that was counted, from {}", path.display())
        });
        Ok(Exit::Fine)
    })
}

/// What was done to a journal, for scripts.
fn counts(path: &Path, counts: &[(&str, u64)]) -> String {
    let mut out = Vec::new();
    let mut w = Writer::new(&mut out);
    w.object().key("journal").str(&path.to_string_lossy());
    for (name, count) in counts {
        w.key(name).int(*count);
    }
    w.end_object();
    String::from_utf8_lossy(&out).into_owned()
}

/// The second since 1970 from which on something is asked for.
pub(in crate::cli) fn since(given: &Given) -> Result<u64, Unready> {
    match given.text_or_default("since")? {
        "all" => Ok(0),
        text => Ok(Clock::unix_seconds().saturating_sub(seconds(text)?)),
    }
}

/// The journal to be read, with what its tokens cost today.
pub(in crate::cli) fn reader(given: &Given, path: &Path) -> Result<Reader, Trouble> {
    Ok(priced(path, &prices(given)?)?)
}

/// What tokens cost. What is wrong with the prices is said, and no reason not to read.
pub(in crate::cli) fn prices(given: &Given) -> Result<Arc<Prices>, Unready> {
    let (prices, found) = Prices::load(&lookup(given, &environment(given)?)?);
    if !found.is_empty() {
        say::err(&lines(&found.iter().collect::<Vec<_>>()));
    }
    Ok(Arc::new(prices))
}

/// The journal to be read, with these prices.
pub(in crate::cli) fn priced(path: &Path, prices: &Arc<Prices>) -> Result<Reader, StoreError> {
    let prices = Arc::clone(prices);
    Reader::open_up_to_date(path, Box::new(move |route, used| prices.cost(route, used)))
}

/// Why it was not done.
pub(in crate::cli) enum Trouble {
    /// It was not asked for rightly.
    Unready(Unready),
    Journal(StoreError),
}

impl<U: Into<Unready>> From<U> for Trouble {
    fn from(unready: U) -> Self {
        Self::Unready(unready.into())
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Journal(error)
    }
}

/// Does it with the journal's file, if one is kept.
pub(in crate::cli) fn tell(given: &Given, run: impl FnOnce(&Given, &Path) -> Result<Exit, Trouble>) -> Exit {
    let found = environment(given).and_then(|env| match given.path("journal") {
        Some(path) => Ok(Some(path)),
        None => start::journal(&env),
    });
    let path = match found {
        Ok(Some(path)) => path,
        Ok(None) => return say::no("no journal is kept here; name its file with --journal"),
        Err(unready) => return unready.tell(Exit::Wrong),
    };
    if path.is_dir() {
        return say::no(format!("{}: is a directory, and a journal is a file", path.display()));
    }
    match run(given, &path) {
        Ok(exit) => exit,
        Err(Trouble::Unready(unready)) => unready.tell(Exit::Wrong),
        Err(Trouble::Journal(_)) if !path.exists() => {
            say::no(format!("there is no journal at {}: nothing has been asked yet", path.display()))
        }
        Err(Trouble::Journal(error)) => say::no(format!("{}: {error}", path.display())),
    }
}

/// The journal to be changed; it must be there.
fn open(path: &Path) -> Result<Store, StoreError> {
    drop(Reader::open_up_to_date(path, Box::new(|_, _| None))?);
    Store::open(path)
}

/// Whether somebody says so. Who cannot be asked has to say it beforehand.
fn is_sure(path: &Path) -> Result<bool, Unready> {
    if !io::stdin().is_terminal() {
        let message = format!("all of {} would be removed; say so with --confirm", path.display());
        return Err(Unready::Usage(message));
    }
    let mut to = io::stderr();
    drop(write!(to, "all of {} will be removed; go on? [y/N] ", path.display()).and_then(|()| to.flush()));
    let mut answer = String::new();
    drop(io::stdin().lock().read_line(&mut answer));
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn by(name: &str) -> Result<By, Unready> {
    if let Some((_, by)) = By::NAMES.iter().find(|(known, _)| *known == name) {
        return Ok(*by);
    }
    let known = By::NAMES.map(|(known, _)| known);
    let hint = near(name, known.iter().copied());
    let hint = hint.first().map_or_else(String::new, |near| format!(" (did you mean {near:?}?)"));
    Err(Unready::Usage(format!("--by takes {}, not {name:?}{hint}", known.join(", "))))
}

/// `90m`, `24h`, `7d`.
fn seconds(text: &str) -> Result<u64, Unready> {
    let read = || {
        let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let unit = match unit {
            "m" => 60,
            "h" => HOUR,
            "d" => 86_400,
            _ => return None,
        };
        number.parse::<u64>().ok()?.checked_mul(unit)
    };
    read().ok_or_else(|| Unready::Usage(format!("--since takes a time like 90m, 24h or 7d, or all, not {text:?}")))
}

fn stats_table(by: &str, stats: &[Stat]) -> String {
    let counts = ["requests", "failed", "broken", "client_closed", "refused", "tries", "input", "output"];
    let names = [&[by][..], &counts, &["cost", "p50", "p95", "p99"]].concat();
    let mut rows = vec![names.into_iter().map(str::to_uppercase).collect::<Vec<_>>()];
    rows.extend(stats.iter().map(|stat| {
        let Stat { requests, failed, broken, left, refused, attempts, tokens, within_us, .. } = stat;
        let [input, read, written, _, output, _] = tokens;
        let name = if stat.name.is_empty() { "-".to_owned() } else { stat.name.clone() };
        let [p50, p95, p99] = within_us.map(|us| us.map_or_else(|| "-".to_owned(), millis));
        let counts = [*requests, *failed, *broken, *left, *refused, *attempts, input + read + written, *output];
        let counts = counts.map(|n| n.to_string());
        [&[name][..], &counts, &[cost(stat), p50, p95, p99]].concat()
    }));
    say::columns(&rows, 1)
}

/// What was spent, as far as that is known: a `+` where it is not known of all.
fn cost(stat: &Stat) -> String {
    match (stat.cost, stat.unpriced + stat.uncounted) {
        (None, _) => "?".to_owned(),
        (Some(cost), 0) => dollars(cost),
        (Some(cost), _) => format!("{}+", dollars(cost)),
    }
}

/// US dollars for people: cents where they say enough.
pub(in crate::cli) fn dollars(cost: f64) -> String {
    match cost {
        0.0 => "$0".to_owned(),
        _ if cost < 0.0001 => "<$0.0001".to_owned(),
        _ if cost < 1.0 => format!("${cost:.4}"),
        _ => format!("${cost:.2}"),
    }
}

/// Microseconds for people: `1.5ms`, `12s`.
pub(in crate::cli) fn millis(us: u64) -> String {
    match us {
        0..10_000 => format!("{}.{}ms", us / 1000, us / 100 % 10),
        10_000..10_000_000 => format!("{}ms", us / 1000),
        _ => format!("{}s", us / 1_000_000),
    }
}

fn stats_json(stats: &[Stat]) -> String {
    let mut out = Vec::new();
    let mut w = Writer::new(&mut out);
    w.array();
    for stat in stats {
        w.object().key("name").str(&stat.name);
        for (name, number) in [
            ("requests", stat.requests),
            ("failed", stat.failed),
            ("broken", stat.broken),
            ("client_closed", stat.left),
            ("refused", stat.refused),
            ("attempts", stat.attempts),
            ("uncounted", stat.uncounted),
            ("unpriced", stat.unpriced),
        ] {
            w.key(name).int(number);
        }
        w.key("tokens").object();
        let names = ["input", "cache_read", "cache_write", "cache_write_1h", "output", "reasoning"];
        for (name, tokens) in names.into_iter().zip(stat.tokens) {
            w.key(name).int(tokens);
        }
        w.end_object();
        w.key("cost_usd");
        match stat.cost {
            Some(cost) => w.raw(&cost.to_string()),
            None => w.null(),
        };
        for (name, us) in ["p50_us", "p95_us", "p99_us"].into_iter().zip(stat.within_us) {
            match us {
                Some(us) => w.key(name).int(us),
                None => w.key(name).null(),
            };
        }
        w.end_object();
    }
    w.end_array();
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_told() {
        for (text, expect) in [("90m", 5400), ("24h", 86_400), ("7d", 604_800), ("0h", 0)] {
            assert_eq!(seconds(text).unwrap_or_else(|e| panic!("{text}: {e:?}")), expect);
        }
        for text in ["", "h", "7", "7w", "-1h", "1.5h", "é", "99999999999999999999d", "9999999999999999999d"] {
            assert!(seconds(text).is_err(), "{text}");
        }
        for (us, text) in [(0, "0.0ms"), (1549, "1.5ms"), (10_000, "10ms"), (9_999_999, "9999ms"), (61_000_000, "61s")]
        {
            assert_eq!(millis(us), text);
        }
        for (cost, text) in
            [(0.0, "$0"), (0.000_01, "<$0.0001"), (0.012_34, "$0.0123"), (1.0, "$1.00"), (1234.567, "$1234.57")]
        {
            assert_eq!(dollars(cost), text);
        }
        let of = |cost, unpriced, uncounted| self::cost(&Stat { cost, unpriced, uncounted, ..Stat::default() });
        let told = [of(Some(0.0), 0, 0), of(Some(2.0), 0, 0), of(Some(2.0), 1, 0), of(Some(0.0), 0, 1), of(None, 1, 0)];
        assert_eq!(told, ["$0", "$2.00", "$2.00+", "$0+", "?"], "unknown is not nothing");
    }
}
