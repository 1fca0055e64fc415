//! Rewrites a JSON Schema into the subset that Anthropic's structured outputs and strict tools take (CONVERSION 3.1,
//! `anthropic/lib/_parse/_transform.py`), while it is read: order and spelling stay.
//!
//! A keyword outside the subset is said in the node's `description` instead, so the model still reads it.

use crate::wire::json::{Cursor, Json, JsonError, JsonStr, Kind, Writer};

/// Writes a schema; tells whether it now says less. (An object that did not say whether it is open is closed: whatever
/// fits it then, fits the client's schema too.)
pub(super) fn rewrite(schema: &Json<'_>, w: &mut Writer<'_>) -> Result<bool, JsonError> {
    node(&mut schema.cursor(), w)
}

/// What the keys of one node tell before it is written.
#[derive(Debug, Default)]
struct Survey<'a> {
    is_object: bool,
    has_any_of: bool,
    description: Option<JsonStr<'a>>,
    /// `minimum: 1, pattern: "…"`: what cannot stay a keyword.
    moved: String,
}

fn survey<'a>(cursor: &mut Cursor<'a>) -> Result<Survey<'a>, JsonError> {
    let mut found = Survey::default();
    let mut other = None;
    cursor.object()?;
    while let Some(key) = cursor.key()? {
        let name = key.decode();
        match name.as_ref() {
            "description" if cursor.peek()? == Kind::Str => found.description = Some(cursor.str()?),
            name => {
                let value = cursor.skip()?;
                found.is_object |= name == "properties" || name == "type" && is_object(&value)?;
                found.has_any_of |= name == "anyOf";
                if name == "oneOf" {
                    other = Some(value.clone());
                }
                if fate(name, &value) == Fate::Moves {
                    found.move_in(name, &value);
                }
            }
        }
    }
    if let Some(other) = other.filter(|_| found.has_any_of) {
        // Two alternatives of alternatives cannot both be `anyOf`.
        found.move_in("oneOf", &other);
    }
    Ok(found)
}

impl Survey<'_> {
    fn move_in(&mut self, name: &str, value: &Json<'_>) {
        let comma = if self.moved.is_empty() { "" } else { ", " };
        self.moved.push_str(&format!("{comma}{name}: {}", value.as_str()));
    }
}

/// Whether a `type` is, or may be, that of objects.
fn is_object(kind: &Json<'_>) -> Result<bool, JsonError> {
    let mut cursor = kind.cursor();
    match kind.kind() {
        Kind::Str => Ok(cursor.str()?.is("object")),
        Kind::Array => {
            let mut found = false;
            cursor.array()?;
            while cursor.item()? {
                found |= cursor.peek()? == Kind::Str && cursor.clone().str()?.is("object");
                cursor.skip()?;
            }
            Ok(found)
        }
        Kind::Object | Kind::Num | Kind::Bool | Kind::Null => Ok(false),
    }
}

/// What becomes of a keyword that holds no schema to be rewritten.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fate {
    Stays,
    /// Into the description, as words.
    Moves,
    /// It speaks of the schema itself, and to nobody here.
    Goes,
}

fn fate(name: &str, value: &Json<'_>) -> Fate {
    let stays = match name {
        "$schema" | "$id" | "$comment" => return Fate::Goes,
        "items" => value.kind() == Kind::Object,
        "enum" => is_plain_list(value).unwrap_or(false),
        "const" => is_plain(value.kind()),
        "minItems" => matches!(value.as_str(), "0" | "1"),
        "format" => value.cursor().str().is_ok_and(|format| FORMATS.iter().any(|known| format.is(known))),
        _ => KEPT.contains(&name),
    };
    if stays { Fate::Stays } else { Fate::Moves }
}

fn is_plain(kind: Kind) -> bool {
    !matches!(kind, Kind::Object | Kind::Array)
}

fn is_plain_list(value: &Json<'_>) -> Result<bool, JsonError> {
    let mut cursor = value.cursor();
    cursor.array()?;
    while cursor.item()? {
        if !is_plain(cursor.peek()?) {
            return Ok(false);
        }
        cursor.skip()?;
    }
    Ok(true)
}

/// What is enforced whatever it says, or at least read.
const KEPT: [&str; 12] = [
    "type",
    "properties",
    "required",
    "additionalProperties",
    "anyOf",
    "oneOf",
    "allOf",
    "$ref",
    "$defs",
    "definitions",
    "title",
    "default",
];

/// The formats of strings that are enforced.
const FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"];

/// Writes one node. Each level is read twice: its description comes before keywords that have yet to be found.
fn node(cursor: &mut Cursor<'_>, w: &mut Writer<'_>) -> Result<bool, JsonError> {
    if cursor.peek()? != Kind::Object {
        // `true` and `false` are schemas too.
        w.json(&cursor.skip()?);
        return Ok(false);
    }
    let found = survey(&mut cursor.clone())?;
    let mut changed = !found.moved.is_empty();
    w.object();
    if !found.moved.is_empty() || found.description.is_some() {
        describe(&found, w);
    }
    let mut closed = false;
    cursor.object()?;
    while let Some(key) = cursor.key()? {
        let name = key.decode();
        match (name.as_ref(), cursor.peek()?) {
            ("description", Kind::Str) => {
                cursor.skip()?;
            }
            ("properties" | "$defs" | "definitions", _) => {
                w.key(&name);
                changed |= map(cursor, w)?;
            }
            ("items", Kind::Object) => {
                w.key(&name);
                changed |= node(cursor, w)?;
            }
            ("anyOf" | "allOf", _) => {
                w.key(&name);
                changed |= list(cursor, w)?;
            }
            ("oneOf", _) if found.has_any_of => {
                cursor.skip()?;
            }
            ("oneOf", _) => {
                changed = true;
                w.key("anyOf");
                list(cursor, w)?;
            }
            ("additionalProperties", _) => {
                let value = cursor.skip()?;
                closed = true;
                changed |= value.as_str() != "false";
                w.key("additionalProperties").bool(false);
            }
            (name, _) => {
                let value = cursor.skip()?;
                if fate(name, &value) == Fate::Stays {
                    w.key(key.literal()).json(&value);
                }
            }
        }
    }
    if found.is_object && !closed {
        w.key("additionalProperties").bool(false);
    }
    w.end_object();
    Ok(changed)
}

/// Writes the description, with what was moved into it on a line of its own.
fn describe(found: &Survey<'_>, w: &mut Writer<'_>) {
    let mut text = found.description.as_ref().map(JsonStr::borrow).unwrap_or_default();
    if !found.moved.is_empty() {
        let note = format!("{{{}}}", found.moved);
        if !text.is_empty() {
            text.push(&JsonStr::quote("\n\n"));
        }
        text.push(&JsonStr::quote(&note));
    }
    w.key("description").lit(&text);
}

/// Writes an object whose values are schemas.
fn map(cursor: &mut Cursor<'_>, w: &mut Writer<'_>) -> Result<bool, JsonError> {
    if cursor.peek()? != Kind::Object {
        w.json(&cursor.skip()?);
        return Ok(false);
    }
    let mut changed = false;
    cursor.object()?;
    w.object();
    while let Some(key) = cursor.key()? {
        w.key(key.literal());
        changed |= node(cursor, w)?;
    }
    w.end_object();
    Ok(changed)
}

/// Writes an array whose items are schemas.
fn list(cursor: &mut Cursor<'_>, w: &mut Writer<'_>) -> Result<bool, JsonError> {
    if cursor.peek()? != Kind::Array {
        w.json(&cursor.skip()?);
        return Ok(false);
    }
    let mut changed = false;
    cursor.array()?;
    w.array();
    while cursor.item()? {
        changed |= node(cursor, w)?;
    }
    w.end_array();
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(schema: &str, expect: &str, says_less: bool) {
        let mut out = Vec::new();
        let changed = rewrite(&Json::raw(schema), &mut Writer::new(&mut out)).unwrap();
        let got = String::from_utf8(out).unwrap();
        assert_eq!(got, expect);
        assert_eq!(changed, says_less, "{schema}");
    }

    #[test]
    fn ec33_what_is_not_supported_is_described() {
        for (schema, expect) in [
            (
                r#"{"type":"integer","minimum":1,"maximum":9}"#,
                r#"{"description":"{minimum: 1, maximum: 9}","type":"integer"}"#,
            ),
            (
                r#"{"type":"string","pattern":"^\"a\"$","format":"regex"}"#,
                r#"{"description":"{pattern: \"^\\\"a\\\"$\", format: \"regex\"}","type":"string"}"#,
            ),
            (
                r#"{"description":"d","type":"string","maxLength":3}"#,
                r#"{"description":"d\n\n{maxLength: 3}","type":"string"}"#,
            ),
            (
                r#"{"not":{"type":"null"},"enum":[{"a":1}],"x-odd":0}"#,
                r#"{"description":"{not: {\"type\":\"null\"}, enum: [{\"a\":1}], x-odd: 0}"}"#,
            ),
            (
                r#"{"anyOf":[{"type":"null"}],"oneOf":[true]}"#,
                r#"{"description":"{oneOf: [true]}","anyOf":[{"type":"null"}]}"#,
            ),
            (r#"{"description":1,"minimum":1}"#, r#"{"description":"{description: 1, minimum: 1}"}"#),
            (r#"{"type":"array","items":[{}]}"#, r#"{"description":"{items: [{}]}","type":"array"}"#),
        ] {
            check(schema, expect, true);
        }
    }

    #[test]
    fn ec33_one_of_becomes_any_of_and_objects_are_closed() {
        check(
            r#"{"oneOf":[{"type":"object","properties":{"b":{},"a":true}}]}"#,
            r#"{"anyOf":[{"type":"object","properties":{"b":{},"a":true},"additionalProperties":false}]}"#,
            true,
        );
        check(
            r#"{"type":"object","additionalProperties":{"type":"string"}}"#,
            r#"{"type":"object","additionalProperties":false}"#,
            true,
        );
        check(
            r#"{"$schema":"s","type":["object","null"]}"#,
            r#"{"type":["object","null"],"additionalProperties":false}"#,
            false,
        );
    }

    #[test]
    fn what_is_supported_stays_to_the_byte() {
        for schema in [
            r##"{"$defs":{"z":{"enum":[1.0,1e2,null,"a"]}},"type":"array","minItems":1,"items":{"$ref":"#/$defs/z"}}"##,
            r#"{"type":"string","format":"date-time","title":"T","default":"d"}"#,
            r#"{"type":"object","properties":{"minimum":{"type":"null"}},"additionalProperties":false}"#,
        ] {
            check(schema, schema, false);
        }
    }
}
