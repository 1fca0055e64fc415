//! What became of requests, for people and for scripts.

use std::fmt::Write as _;
use std::time::Duration;

use crate::cli::route_test::scene::{Decision, End, Request, Rested, Tried};
use crate::gateway::rehearsal::Told;
use crate::route::reason;
use crate::wire::Format;
use crate::wire::json::Writer;

pub(super) fn table(requests: &[Request], from: Format) -> String {
    let mut text = String::new();
    for (number, request) in requests.iter().enumerate() {
        let _ = writeln!(text, "request {}, at +{}", number + 1, reason::seconds(request.at));
        let mut attempt = 0;
        for step in &request.steps {
            match step {
                Decision::PassedOver { route, key, why } => {
                    let key = key.as_ref().map_or_else(String::new, |key| format!(" with {key}"));
                    let _ = writeln!(text, "  -  {route}{key} is passed over: {why}");
                }
                Decision::Waited(time) => {
                    let _ =
                        writeln!(text, "  -  all that is left rests: waits {} for the soonest", reason::seconds(*time));
                }
                Decision::Tried(tried) => {
                    attempt += 1;
                    let _ = writeln!(text, "  {attempt}  {}", tried_line(tried, request.at));
                    let _ = writeln!(text, "     {}", judged(tried));
                }
            }
        }
        let _ = writeln!(text, "  {}", end(request, from));
        if !request.unreached.is_empty() {
            let _ = writeln!(text, "  nothing was tried for: {}", request.unreached.join("; "));
        }
    }
    text
}

fn tried_line(tried: &Tried, begun: Duration) -> String {
    let Tried { at, route, key, fingerprint, outcome, .. } = tried;
    let key = match (key, fingerprint) {
        (None, _) => ", which needs no key".to_owned(),
        (Some(key), None) => format!(" with {key}"),
        (Some(key), Some(print)) => format!(" with {key} ({print})"),
    };
    let later = if *at == begun { String::new() } else { format!(", at +{}", reason::seconds(*at)) };
    format!("{route}{key}{later}: {outcome}")
}

fn judged(tried: &Tried) -> String {
    let mut text = String::new();
    if let Some(whose) = reason::whose(&tried.verdict) {
        let _ = write!(text, "due to {whose}, ");
        match &tried.rest {
            Some(Rested { time, why, strikes, .. }) => {
                let _ =
                    write!(text, "which rests {} ({}, {}); ", reason::seconds(*time), why.as_str(), in_a_row(*strikes));
            }
            None => text.push_str("nobody rests; "),
        }
        text.push_str("next: ");
    }
    text.push_str(reason::then(tried.verdict.then));
    text
}

fn in_a_row(strikes: u32) -> String {
    if strikes == 1 { "1 failure".to_owned() } else { format!("{strikes} failures in a row") }
}

fn end(request: &Request, from: Format) -> String {
    let attempts = match request.attempts {
        0 => "nothing was tried".to_owned(),
        1 => "after 1 attempt".to_owned(),
        n => format!("after {n} attempts"),
    };
    match &request.end {
        End::Delivered { route } => format!("the client gets 200 from {route}, {attempts}"),
        End::Refused(told) => format!("the client gets {}, {attempts}", said(told, from)),
        End::GaveUp { why, told } => {
            format!("the plan gives up: {why}\n  the client gets {}, {attempts}", said(told, from))
        }
    }
}

fn said(told: &Told, from: Format) -> String {
    let after = told.retry_after_seconds.map_or_else(String::new, |s| format!(", retry-after {s}"));
    format!("{}{after} ({:?})", told.status(from), told.fault.message)
}

pub(super) fn json(model: &str, requests: &[Request], from: Format) -> String {
    let mut out = Vec::new();
    let mut w = Writer::new(&mut out);
    w.object().key("model").str(model).key("requests").array();
    for request in requests {
        w.object().key("at_seconds").raw(&request.at.as_secs_f64().to_string()).key("steps").array();
        for step in &request.steps {
            write_step(&mut w, step);
        }
        w.end_array().key("attempts").int(u64::from(request.attempts));
        write_end(&mut w, &request.end, from);
        w.key("unreached").array();
        for text in &request.unreached {
            w.str(text);
        }
        w.end_array().end_object();
    }
    w.end_array().end_object();
    String::from_utf8_lossy(&out).into_owned()
}

fn write_step(w: &mut Writer<'_>, step: &Decision) {
    match step {
        Decision::PassedOver { route, key, why } => {
            w.object().key("passed_over").str(route);
            text(w.key("key"), key.as_deref());
            w.key("why").str(why).end_object();
        }
        Decision::Waited(time) => {
            w.object().key("waited_seconds").raw(&time.as_secs_f64().to_string()).end_object();
        }
        Decision::Tried(tried) => {
            w.object().key("tried").str(&tried.route).key("via").str(&tried.via);
            text(w.key("key"), tried.key.as_deref());
            text(w.key("fingerprint"), tried.fingerprint.as_deref());
            w.key("at_seconds").raw(&tried.at.as_secs_f64().to_string()).key("outcome").str(&tried.outcome);
            text(w.key("due_to"), reason::whose(&tried.verdict));
            w.key("rests");
            match &tried.rest {
                None => w.null(),
                Some(Rested { scope, time, why, strikes }) => w
                    .object()
                    .key("scope")
                    .str(reason::scope_name(*scope))
                    .key("seconds")
                    .raw(&time.as_secs_f64().to_string())
                    .key("why")
                    .str(why.as_str())
                    .key("strikes")
                    .int(u64::from(*strikes))
                    .end_object(),
            };
            w.key("then").str(reason::then_name(tried.verdict.then)).end_object();
        }
    }
}

fn write_end(w: &mut Writer<'_>, end: &End, from: Format) {
    let (name, told, why) = match end {
        End::Delivered { .. } => ("delivered", None, None),
        End::Refused(told) => ("refused", Some(told), None),
        End::GaveUp { why, told } => ("gave_up", Some(told), Some(*why)),
    };
    w.key("end").str(name);
    text(w.key("why"), why);
    w.key("client").object().key("status").int(u64::from(told.map_or(200, |told| told.status(from))));
    w.key("retry_after_seconds");
    match told.and_then(|told| told.retry_after_seconds) {
        Some(seconds) => w.int(seconds),
        None => w.null(),
    };
    text(w.key("message"), told.map(|told| told.fault.message.as_str()));
    w.end_object();
}

fn text(w: &mut Writer<'_>, text: Option<&str>) {
    match text {
        Some(text) => w.str(text),
        None => w.null(),
    };
}
