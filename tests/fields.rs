//! Holds the tables of fields (`Codec::fields`) to the official SDKs' types and to what the code does.
//!
//! `tests/sdk/fields.txt` lists every field the types have (`tests/sdk/fields.py` writes it), `tests/sdk/beyond.txt` those
//! that clients and providers send all the same. Every one of them must be in a table, every row must be about one of
//! them, and for every one a request, reply or stream is made that sets it: what is seen to happen must be what the row
//! says, word for word where a reason is given.

mod list;
mod scene;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use model_proxy::wire::Format;
use model_proxy::wire::loss::{Fate, Field};
use serde_json::Value;

use list::{List, Listed, root};
use scene::{Seen, is_near, observe, place};

/// The row that a field goes by, or one value of it: of those that fit the first.
fn row(table: &[&'static Field], path: &str, value: Option<&Value>) -> Option<usize> {
    table.iter().position(|field| match (field.name.split_once('='), value) {
        (Some((name, word)), Some(value)) => {
            matches(name.as_bytes(), path.as_bytes(), true)
                && serde_json::from_str(word).is_ok_and(|word: Value| word == *value)
        }
        (Some(_), None) => false,
        (None, _) => fits(field, path),
    })
}

/// Whether a row is about a field. What is carried is named one by one; any other fate is that of all inside.
fn fits(field: &Field, path: &str) -> bool {
    let (before, last) = field.name.rsplit_once('.').unwrap_or(("", field.name));
    let wholly = field.fate == Fate::Carry;
    last.split('|').any(|name| {
        let pattern = if before.is_empty() { name.to_owned() } else { format!("{before}.{name}") };
        matches(pattern.as_bytes(), path.as_bytes(), wholly)
    })
}

/// `*` stands for any name, `**` for any beginning of a path.
fn matches(pattern: &[u8], path: &[u8], wholly: bool) -> bool {
    match (pattern, path) {
        ([], []) => true,
        ([], [next, ..]) => !wholly && b".[({".contains(next),
        ([b'*', b'*', rest @ ..], _) => (0..=path.len()).any(|skip| matches(rest, &path[skip..], wholly)),
        ([b'*', rest @ ..], _) => {
            let name = path.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
            (0..=name).any(|skip| matches(rest, &path[skip..], wholly))
        }
        ([a, pattern @ ..], [b, path @ ..]) => a == b && matches(pattern, path, wholly),
        ([_, ..], []) => false,
    }
}

#[test]
fn every_field_is_in_a_table_and_every_row_is_about_one() {
    let (mut missing, mut idle) = (Vec::new(), Vec::new());
    for list in List::all() {
        let table = list.tables();
        let mut met: BTreeSet<usize> = BTreeSet::new();
        for line in list.lines.values() {
            match row(&table, &line.path, None) {
                Some(at) => _ = met.insert(at),
                None => missing.push(format!("{} {} {}", list.format, list.kind, line.path)),
            }
            met.extend(list.values(line).iter().filter_map(|value| row(&table, &line.path, Some(value))));
        }
        let rows = table.iter().enumerate().filter(|(at, _)| !met.contains(at));
        idle.extend(rows.map(|(_, field)| format!("{} {} {}", list.format, list.kind, field.name)));
        for to in list.targets() {
            let rows = list.particular(to);
            let goes_by = |line: &Listed, at| {
                let by_value = list.values(line).iter().any(|value| row(&rows, &line.path, Some(value)) == Some(at));
                by_value || row(&rows, &line.path, None) == Some(at)
            };
            let is_met = |at: usize| list.lines.values().any(|line| goes_by(line, at));
            let rows = rows.iter().enumerate().filter(|(at, _)| !is_met(*at));
            idle.extend(rows.map(|(_, field)| format!("{} {} {} to {to}", list.format, list.kind, field.name)));
        }
    }
    assert!(missing.is_empty(), "{} fields are in no table:\n{}", missing.len(), missing.join("\n"));
    assert!(idle.is_empty(), "rows that are about nothing, or come too late:\n{}", idle.join("\n"));
}

#[test]
fn every_field_meets_its_fate() {
    let mut wrong = Vec::new();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (list, to) in List::all().iter().flat_map(|list| list.targets().map(move |to| (list, to))) {
        let table = list.tables_towards(to);
        for line in list.lines.values() {
            let observed = observe(list, line, to);
            let tells = |seen: &Seen| matches!(seen, Seen::Lost(..) | Seen::Refused(..));
            let speaks = observed.iter().any(|(_, seen)| tells(seen));
            for (value, seen) in observed {
                let Some(at) = row(&table, &line.path, Some(&value)) else {
                    continue;
                };
                let field = table[at];
                // Some values say no more than their absence: `n: 1`, `false`.
                if speaks && matches!(seen, Seen::Silent | Seen::Within(..)) {
                    continue;
                }
                *counts.entry(if seen == Seen::Fixed { "cannot be compared" } else { "compared" }).or_default() += 1;
                if !agrees((list, to), field, &line.path, &value, &seen) {
                    let what = format!("{} {} {} to {to} {value}", list.format, list.kind, line.path);
                    wrong.push(format!("{what}\n    table: {:?} {}\n    seen:  {seen:?}", field.fate, field.name));
                }
            }
        }
    }
    eprintln!("{counts:?}");
    assert!(wrong.is_empty(), "{} fields meet another fate:\n{}", wrong.len(), wrong.join("\n"));
}

/// Whether what was seen is what the row says.
fn agrees((list, to): (&List, Format), field: &Field, path: &str, value: &Value, seen: &Seen) -> bool {
    let place = place(list, path, value);
    let near = |at: &str| is_near(&place, at);
    match (field.fate_towards(list.format, to), seen) {
        (Fate::Carry, Seen::Arrives | Seen::Fixed) => true,
        (Fate::Ignore(_), Seen::Silent | Seen::Fixed) => true,
        (Fate::Drop(_), Seen::Silent | Seen::Fixed) => list.kind != "request",
        (Fate::Drop(why), Seen::Lost(said) | Seen::Within(said)) => {
            said.iter().any(|(at, words)| near(at) && why == words)
        }
        // An upstream's error is the client's.
        (Fate::Carry, Seen::Refused(_)) => list.kind != "request" && path.starts_with("error"),
        (Fate::Refuse(why), Seen::Refused((at, words))) => (list.kind != "request" || near(at)) && words.contains(why),
        _ => false,
    }
}

/// `docs/FIELDS.md` and the counts in the README are written from the tables.
#[test]
fn the_documents_show_the_tables() {
    let bless = std::env::var_os("MODEL_PROXY_BLESS").is_some();
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let (before, rest) = readme.split_once(BEGIN).expect("the README has the table's begin");
    let (_, after) = rest.split_once(END).expect("the README has the table's end");
    let wanted = [
        ("README.md", format!("{before}{BEGIN}\n{}{END}{after}", summary())),
        ("docs/FIELDS.md", format!("{INTRODUCTION}{}", whole())),
    ];
    for (file, text) in wanted {
        let path = root().join(file);
        if bless {
            fs::write(&path, &text).unwrap();
        }
        let found = fs::read_to_string(path).unwrap_or_default();
        assert!(found == text, "{file} is stale: MODEL_PROXY_BLESS=1 cargo test --test main fields writes it anew");
    }
}

const BEGIN: &str = "<!-- fields -->";
const END: &str = "<!-- /fields -->";

const INTRODUCTION: &str = "\
# Every field and its fate

Written from the tables in `src/wire/*/fields.rs` by `MODEL_PROXY_BLESS=1 cargo test --test main fields`. `tests/fields.rs`
holds the tables to the official SDKs' types, stable and beta (`tests/sdk/fields.txt`), and to the code: for every field
a request, reply or stream that sets it is converted, and what happens must be what stands here, word for word.

What follows is about conversion from the format named to another. Between client and provider of one format nothing is
touched but the model's name. A request's field is

- **carried**: its meaning arrives, on a route whose model and provider take it; where they do not, that is reported;
- **dropped**, and named in `x-model-proxy-dropped` (with `on_lossy: reject`, refused);
- **without effect** on the answer, and left out without a word;
- **refused** with a 400 that names it, because an answer without it would be wrong.

A reply's or a stream's field is carried, or dropped because the client's format has no place for it.

In a path `.x` is a member, `[]` an item of a list, and a kind of object (its `type` or `role`) is in the brackets: `[text]`
for an item, `(base64)` for a value. `*` is any name, `**` any way there, `{a,b}` either member. What is carried is named
one by one; another fate goes for all that is inside; `x=\"v\"` is one value of `x`. The first row that fits counts, of a
request those inside before the top level. A value that says no more than its absence (`n: 1`, `false`, `{}`) is never
lost. The number is how many fields of the official types a row decides; † marks those that only older versions, other
clients or other providers send.
";

fn heading(list: &List) -> String {
    let kind = match list.kind {
        "request" => "requests",
        "reply" => "whole replies",
        _ => "streams",
    };
    format!("{}: {kind}", name(list.format))
}

fn name(format: Format) -> &'static str {
    match format {
        Format::OpenaiChat => "OpenAI Chat Completions",
        Format::OpenaiResponses => "OpenAI Responses",
        Format::Anthropic => "Anthropic Messages",
    }
}

/// What a fate is called, and why it is.
fn called(list: &List, fate: Fate) -> (&'static str, &'static str) {
    match fate {
        Fate::Carry => ("carried", ""),
        Fate::Drop(why) => ("dropped", why),
        Fate::Ignore(why) if list.kind == "request" => ("without effect", why),
        Fate::Ignore(why) => ("dropped", why),
        Fate::Refuse(why) => ("refused", why),
        Fate::Twin(why) => ("carried to OpenAI's other format; else dropped", why),
        Fate::QuietTwin(why) => ("carried to OpenAI's other format; else without effect", why),
    }
}

/// How many fields of the official types each row decides.
fn decided(list: &List, table: &[&'static Field]) -> Vec<usize> {
    let official = fs::read_to_string(root().join("tests/sdk/fields.txt")).unwrap();
    let mut counts = vec![0; table.len()];
    for line in official.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        if words[0] == list.format.as_str()
            && words[1] == list.kind
            && let Some(at) = row(table, words[2], None)
        {
            counts[at] += 1;
        }
    }
    counts
}

fn whole() -> String {
    let mut out = String::new();
    for list in List::all() {
        let table = list.tables();
        let counts = decided(&list, &table);
        write!(out, "\n## {}\n", heading(&list)).unwrap();
        let mut rows: Vec<_> = table.into_iter().zip(counts).collect();
        if list.kind == "request" {
            // A request is read from its top.
            rows.rotate_left(list.format.codec().fields.inside.len());
        }
        write_rows(&list, rows, &mut out);
        for to in list.targets() {
            let rows = list.particular(to);
            if !rows.is_empty() {
                write!(out, "\nOn the way to {} these count first:\n", name(to)).unwrap();
                let counts = decided(&list, &rows);
                write_rows(&list, rows.into_iter().zip(counts).collect(), &mut out);
            }
        }
    }
    out
}

fn write_rows(list: &List, rows: Vec<(&Field, usize)>, out: &mut String) {
    out.push_str("\n| field | fate | why | |\n|---|---|---|---:|\n");
    for (field, count) in rows {
        let (fate, why) = called(list, field.fate);
        let count = match (count, field.name.contains('=')) {
            (0, true) => String::new(),
            (0, false) => "†".to_owned(),
            (count, _) => count.to_string(),
        };
        writeln!(out, "| `{}` | {fate} | {why} | {count} |", shown(field.name)).unwrap();
    }
}

/// A row's name as people read it: `a.b|c` is `a.{b,c}`.
fn shown(name: &str) -> String {
    let (before, last) = name.rsplit_once('.').map_or(("", name), |(before, last)| (&name[..=before.len()], last));
    if last.contains('|') { format!("{before}{{{}}}", last.replace('|', ",")) } else { name.to_owned() }
}

/// Requests: what comes back is told by `docs/FIELDS.md`.
fn summary() -> String {
    let fates = ["carried", "dropped", "without effect", "refused"];
    let mut out =
        format!("| fields of a request, by the official types | {} |\n|---|---:|---:|---:|---:|\n", fates.join(" | "));
    for list in List::all().iter().filter(|list| list.kind == "request") {
        for to in list.targets() {
            let table = list.tables_towards(to);
            let counts = decided(list, &table);
            let fate = |field: &Field| called(list, field.fate_towards(list.format, to)).0;
            let count = |wanted: &str| {
                let rows = table.iter().zip(&counts).filter(|(field, _)| fate(field) == wanted);
                rows.map(|(_, count)| count).sum::<usize>().to_string()
            };
            let numbers = fates.map(count).join(" | ");
            writeln!(out, "| {} to {} | {numbers} |", name(list.format), name(to)).unwrap();
        }
    }
    out
}
