//! An explained model, for people and for scripts.

use std::fmt::Write as _;

use crate::cli::config_explain::conversion::{Conversion, Counts, Group, Lane, fate, shown};
use crate::cli::config_explain::failures::{Asked, Rule};
use crate::cli::config_explain::{Explained, Keys, Way};
use crate::route::reason::{self, seconds};
use crate::route::table::Timeouts;
use crate::wire::json::Writer;
use crate::wire::loss::Field;

pub(super) fn table(explained: &Explained<'_>, all_fields: bool) -> String {
    let Explained { name, model, aliases, on_lossy, attempts_max, deadline, ways } = explained;
    let mut text = format!("{name}: ");
    if name != model {
        let _ = write!(text, "the model {model}, ");
    }
    let others: Vec<&str> = aliases.iter().copied().filter(|alias| alias != name).collect();
    if !others.is_empty() {
        let _ = write!(text, "also called {}, ", others.join(", "));
    }
    let routes =
        if ways.len() == 1 { "1 route".to_owned() } else { format!("{} routes, tried in this order", ways.len()) };
    let deadline = seconds(*deadline);
    let _ = writeln!(text, "{routes}, at most {attempts_max} attempts in {deadline}; on_lossy: {on_lossy}");
    let mut told = Vec::new();
    for (number, way) in ways.iter().enumerate() {
        route(&mut text, number + 1, way, all_fields, &mut told);
    }
    text
}

/// What was told of a route: of those after it only what differs is told again.
type Told = Vec<(String, usize)>;

/// The part, or which route it was told of.
fn once(part: String, heading: &str, number: usize, told: &mut Told) -> String {
    match told.iter().find(|(other, _)| *other == part) {
        Some((_, first)) => format!("   {heading} as for route {first}\n"),
        None => {
            told.push((part.clone(), number));
            part
        }
    }
}

fn route(text: &mut String, number: usize, way: &Way<'_>, all_fields: bool, told: &mut Told) {
    let via = way.fallback.map_or_else(String::new, |model| format!(" (fallback: a route of {model})"));
    let _ = writeln!(text, "\n{number}. {}/{}{via}", way.provider, way.model);
    let proxy = way.proxy.as_ref().map_or_else(String::new, |proxy| format!(" through {proxy}"));
    line(text, "speaks", &format!("{} to {}{proxy}", way.format, way.address));
    if let Some((format, address, needs)) = &way.twin {
        let whom = if *needs {
            "clients that speak it, and for tools while the model thinks"
        } else {
            "clients that speak it"
        };
        line(text, "also", &format!("{format} to {address}, for {whom}"));
    }
    line(text, "keys", &keys(&way.keys));
    let Timeouts { connect, first_byte, idle, total } = way.timeouts;
    let times = [("connect", connect), ("first byte", first_byte), ("idle", idle), ("total", total)];
    let times = times.map(|(name, time)| format!("{name} {}", seconds(time)));
    line(text, "timeouts", &format!("{} (total: whole replies only)", times.join(", ")));
    if let Some(tokens) = way.context_tokens {
        line(text, "takes", &format!("{tokens} tokens, as is declared"));
    }
    let mut failures = String::new();
    for (nth, rule) in way.rules.iter().enumerate() {
        let name = if nth == 0 { "failures" } else { "" };
        line(&mut failures, name, &format!("{}: {}", rule.on.join(", "), rule.says()));
    }
    text.push_str(&once(failures, "failures ", number, told));
    if !way.sets.is_empty() {
        line(text, "sets", &format!("{}, where the client does not", way.sets.join(", ")));
    }
    let usual = way.conversions.iter().map(|conversion| (conversion, ""));
    for (conversion, when) in usual.chain(way.with_tools.iter().map(|conversion| (conversion, WITH_TOOLS))) {
        let mut part = String::new();
        from(&mut part, conversion, when, all_fields);
        // What takes one line is told each time.
        let is_short = part.lines().nth(1).is_none();
        let heading = format!("from {}{when}:", conversion.from);
        text.push_str(&if is_short { part } else { once(part, &heading, number, told) });
    }
}

/// When a request goes to the vendor's other format though its own would be here.
const WITH_TOOLS: &str = " with tools while the model thinks";

fn line(text: &mut String, name: &str, value: &str) {
    let _ = writeln!(text, "   {name:9} {value}");
}

fn keys(keys: &Keys) -> String {
    match keys {
        Keys::NoneNeeded => "none needed".to_owned(),
        Keys::Missing(remedy) => format!("no key: {remedy}"),
        Keys::Found(found) => {
            let turns = if found.len() == 1 { "" } else { ", in turn; a session keeps to one" };
            let found: Vec<String> = found.iter().map(|(name, print)| format!("{name} ({print})")).collect();
            format!("{}{turns}", found.join(", "))
        }
    }
}

fn from(text: &mut String, conversion: &Conversion, when: &str, all_fields: bool) {
    let name = format!("from {}{when}", conversion.from);
    match &conversion.lane {
        Lane::Verbatim { never } if never.is_empty() => {
            let _ = writeln!(text, "   {name}: as it came, but for the model's name");
        }
        Lane::Verbatim { never } => {
            let _ = writeln!(text, "   {name}: as it came, but for the model's name, and without {}", never.join(", "));
        }
        Lane::Translated { counts, dropped, refused, here, here_refused, rows } => {
            let Counts { carried, dropped: lost, ignored, refused: barred } = counts;
            let _ = writeln!(
                text,
                "   {name}: converted; of {} kinds of fields {carried} are carried, {lost} dropped and reported, \
                 {ignored} without effect, {barred} refused",
                rows.len()
            );
            if all_fields {
                every(text, rows);
            } else {
                groups(text, "refused", refused);
                groups(text, "dropped", dropped);
            }
            groups(text, "refused on this route", here_refused);
            groups(text, "dropped or changed on this route", here);
        }
    }
}

fn groups(text: &mut String, name: &str, groups: &[Group]) {
    for group in groups {
        let _ = writeln!(text, "     {name}: {} ({})", group.fields.join(", "), group.why);
    }
}

fn every(text: &mut String, rows: &[Field]) {
    for row in rows {
        let (fate, why) = fate(row);
        let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
        let _ = writeln!(text, "     {fate:14}  {}{why}", shown(row.name));
    }
}

pub(super) fn json(explained: &Explained<'_>, all_fields: bool) -> String {
    let mut out = Vec::new();
    let mut w = Writer::new(&mut out);
    w.object().key("name").str(explained.name).key("logical_name").str(explained.model);
    strings(w.key("aliases"), &explained.aliases);
    w.key("on_lossy").str(explained.on_lossy).key("attempts_max").int(u64::from(explained.attempts_max));
    w.key("deadline_seconds").raw(&explained.deadline.as_secs_f64().to_string()).key("routes").array();
    for way in &explained.ways {
        write_route(&mut w, way, all_fields);
    }
    w.end_array().end_object();
    String::from_utf8_lossy(&out).into_owned()
}

fn write_route(w: &mut Writer<'_>, way: &Way<'_>, all_fields: bool) {
    w.object().key("provider").str(way.provider).key("model").str(&way.model);
    text(w.key("fallback"), way.fallback);
    w.key("wire_protocol").str(way.format.as_str()).key("url").str(&way.address);
    w.key("twin");
    match &way.twin {
        Some((format, address, needs)) => {
            w.object().key("wire_protocol").str(format.as_str()).key("url").str(address);
            w.key("for_tools_while_thinking").bool(*needs).end_object();
        }
        None => {
            w.null();
        }
    }
    text(w.key("proxy"), way.proxy.as_deref());
    write_keys(w, &way.keys);
    let Timeouts { connect, first_byte, idle, total } = way.timeouts;
    w.key("timeouts").object();
    let times = [("connect", connect), ("first_byte", first_byte), ("idle", idle), ("total", total)];
    for (name, time) in times {
        w.key(&format!("{name}_seconds")).raw(&time.as_secs_f64().to_string());
    }
    w.end_object().key("context_tokens");
    match way.context_tokens {
        Some(tokens) => w.int(tokens),
        None => w.null(),
    };
    w.key("failures").array();
    for rule in &way.rules {
        write_rule(w, rule);
    }
    strings(w.end_array().key("sets"), &way.sets);
    w.key("from").object();
    for conversion in &way.conversions {
        write_conversion(w.key(conversion.from.as_str()), &conversion.lane, all_fields);
    }
    w.end_object().key("from_with_tools_while_thinking").object();
    for conversion in &way.with_tools {
        write_conversion(w.key(conversion.from.as_str()), &conversion.lane, all_fields);
    }
    w.end_object().end_object();
}

fn write_keys(w: &mut Writer<'_>, keys: &Keys) {
    let (found, needed, remedy) = match keys {
        Keys::Found(found) => (&found[..], true, None),
        Keys::NoneNeeded => (&[][..], false, None),
        Keys::Missing(remedy) => (&[][..], true, Some(remedy.as_str())),
    };
    w.key("needs_key").bool(needed).key("keys").array();
    for (variable, fingerprint) in found {
        w.object().key("variable").str(variable).key("fingerprint").str(fingerprint).end_object();
    }
    text(w.end_array().key("remedy"), remedy);
}

fn write_rule(w: &mut Writer<'_>, rule: &Rule) {
    strings(w.object().key("on"), &rule.on);
    let cool = rule.verdict.cool;
    text(w.key("rests"), cool.map(|cool| reason::scope_name(cool.scope)));
    w.key("seconds");
    match cool.map(|cool| reason::longest(cool.rest)) {
        Some(most) => w.raw(&most.as_secs_f64().to_string()),
        None => w.null(),
    };
    w.key("growing").bool(cool.is_some_and(|cool| reason::grows(cool.rest))).key("retry_after").str(match rule.asked {
        Asked::Nothing => "ignored",
        Asked::Instead(_) => "instead",
        Asked::AtLeast => "at_least",
    });
    w.key("then").str(reason::then_name(rule.verdict.then)).key("says").str(&rule.says()).end_object();
}

fn write_conversion(w: &mut Writer<'_>, lane: &Lane, all_fields: bool) {
    w.object();
    match lane {
        Lane::Verbatim { never } => strings(w.key("lane").str("verbatim").key("never_sent"), never),
        Lane::Translated { counts, dropped, refused, here, here_refused, rows } => {
            w.key("lane").str("translated").key("counts").object();
            let Counts { carried, dropped: lost, ignored, refused: barred } = *counts;
            for (name, count) in
                [("carried", carried), ("dropped", lost), ("without_effect", ignored), ("refused", barred)]
            {
                w.key(name).int(count as u64);
            }
            w.end_object();
            let groups = [
                ("dropped", dropped),
                ("refused", refused),
                ("dropped_on_this_route", here),
                ("refused_on_this_route", here_refused),
            ];
            for (name, groups) in groups {
                write_groups(w.key(name), groups);
            }
            if all_fields {
                w.key("fields").array();
                for row in rows {
                    let (fate, why) = fate(row);
                    w.object()
                        .key("field")
                        .str(&shown(row.name))
                        .key("fate")
                        .str(fate)
                        .key("why")
                        .str(why)
                        .end_object();
                }
                w.end_array();
            }
        }
    }
    w.end_object();
}

fn write_groups(w: &mut Writer<'_>, groups: &[Group]) {
    w.array();
    for group in groups {
        strings(w.object().key("fields"), &group.fields);
        w.key("why").str(&group.why).end_object();
    }
    w.end_array();
}

fn strings<S: AsRef<str>>(w: &mut Writer<'_>, all: &[S]) {
    w.array();
    for one in all {
        w.str(one.as_ref());
    }
    w.end_array();
}

fn text(w: &mut Writer<'_>, text: Option<&str>) {
    match text {
        Some(text) => w.str(text),
        None => w.null(),
    };
}
