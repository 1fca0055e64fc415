//! `GET /v1/models`, in the caller's shape.

use http::Uri;

use crate::route::table::{Model, Pattern, Table};
use crate::time::Rfc3339;
use crate::wire::Format;
use crate::wire::json::Writer;

/// Models one page holds unless asked otherwise, and at most (the Anthropic API's own numbers).
const PAGE: (usize, usize) = (20, 1000);

/// All logical models a client can name. A wildcard is a rule, not a name, and is left out.
pub(super) fn list(
    table: &Table,
    is_shown: impl Fn(&Model) -> bool,
    (format, uri): (Format, &Uri),
    started: u64,
) -> Vec<u8> {
    let named = |model: &&Model| !Pattern::new(&model.name).is_wildcard() && is_shown(model);
    let models: Vec<&Model> = table.models().map(AsRef::as_ref).filter(named).collect();
    let mut out = Vec::new();
    match format {
        Format::OpenaiChat | Format::OpenaiResponses => {
            let mut w = Writer::new(&mut out);
            w.object().key("object").str("list").key("data").array();
            for model in models {
                write_openai(&mut w, model, &model.name, started);
            }
            w.end_array().end_object();
        }
        Format::Anthropic => page(&models, uri, started, &mut out),
    }
    out
}

/// One model, under the name it was asked for.
pub(super) fn one(model: &Model, name: &str, format: Format, started: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let mut w = Writer::new(&mut out);
    match format {
        Format::OpenaiChat | Format::OpenaiResponses => write_openai(&mut w, model, name, started),
        Format::Anthropic => write_anthropic(&mut w, model, name, started),
    }
    out
}

/// One page of the list, by the Anthropic API's `limit`, `after_id` and `before_id`.
fn page(models: &[&Model], uri: &Uri, started: u64, out: &mut Vec<u8>) {
    let limit = query(uri, "limit").and_then(|l| l.parse().ok()).unwrap_or(PAGE.0).clamp(1, PAGE.1);
    let place = |id: String| models.iter().position(|m| *m.name == *id);
    let (from, to) = match (query(uri, "after_id").and_then(place), query(uri, "before_id").and_then(place)) {
        (Some(after), _) => (after + 1, models.len().min(after + 1 + limit)),
        (None, Some(before)) => (before.saturating_sub(limit), before),
        (None, None) => (0, models.len().min(limit)),
    };
    let shown = models.get(from..to).unwrap_or_default();
    let mut w = Writer::new(out);
    w.object().key("data").array();
    for model in shown {
        write_anthropic(&mut w, model, &model.name, started);
    }
    w.end_array().key("has_more").bool(to < models.len());
    for (key, model) in [("first_id", shown.first()), ("last_id", shown.last())] {
        w.key(key);
        match model {
            Some(model) => w.str(&model.name),
            None => w.null(),
        };
    }
    w.end_object();
}

fn write_openai(w: &mut Writer<'_>, model: &Model, id: &str, started: u64) {
    w.object().key("id").str(id).key("object").str("model");
    w.key("created").int(started).key("owned_by").str(model.owner()).end_object();
}

fn write_anthropic(w: &mut Writer<'_>, model: &Model, id: &str, started: u64) {
    let name = model.display_name.as_deref().unwrap_or(id);
    w.object().key("type").str("model").key("id").str(id).key("display_name").str(name);
    w.key("created_at").str(&Rfc3339(started).to_string()).key("lifecycle").str("active").end_object();
}

/// The value of one query parameter, percent-decoded.
fn query(uri: &Uri, name: &str) -> Option<String> {
    let pairs = uri.query()?.split('&');
    let value = pairs.filter_map(|p| p.split_once('=')).find(|(k, _)| *k == name)?.1;
    Some(percent_decode(value))
}

/// Undoes percent-encoding; what is no encoding stays.
pub(super) fn percent_decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digits = tail
            .get(..2)
            .filter(|d| *first == b'%' && d.iter().all(u8::is_ascii_hexdigit))
            .and_then(|d| std::str::from_utf8(d).ok());
        match digits.and_then(|d| u8::from_str_radix(d, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undoes_percent_encoding() {
        for (text, plain) in
            [("a%2Fb", "a/b"), ("a/b", "a/b"), ("%zz%+f%4", "%zz%+f%4"), ("%e2%82%ac", "€"), ("%ff", "\u{fffd}")]
        {
            assert_eq!(percent_decode(text), plain, "{text}");
        }
    }
}
