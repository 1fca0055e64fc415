//! Rewrites a JSON Schema into the subset that Anthropic's structured outputs take (CONVERSION 3.1,
//! `anthropic/lib/_parse/_transform.py`), while it is read: order and spelling stay.
//!
//! A keyword outside the subset is said in the node's `description` instead, so the model still reads it.

use crate::wire::json::{Cursor, Json, JsonError, JsonStr, Kind, Writer};

/// Writes a schema; tells whether anything had to be changed.
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
    cursor.object()?;
    while let Some(key) = cursor.key()? {
        let name = key.decode();
        match name.as_ref() {
            "type" if cursor.peek()? == Kind::Str => found.is_object |= cursor.str()?.is("object"),
            "properties" => {
                found.is_object = true;
                cursor.skip()?;
            }
            "anyOf" => {
                found.has_any_of = true;
                cursor.skip()?;
            }
            "description" if cursor.peek()? == Kind::Str => found.description = Some(cursor.str()?),
            _ => {
                let value = cursor.skip()?;
                if !stays(&name, &value) {
                    let comma = if found.moved.is_empty() { "" } else { ", " };
                    found.moved.push_str(&format!("{comma}{name}: {}", value.as_str()));
                }
            }
        }
    }
    Ok(found)
}

/// Whether a keyword may stay as it is. Unknown ones may: they are annotations, or upstream has its say.
fn stays(name: &str, value: &Json<'_>) -> bool {
    match name {
        "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf" | "minLength" | "maxLength"
        | "pattern" | "maxItems" | "uniqueItems" | "contains" | "minContains" | "maxContains" | "minProperties"
        | "maxProperties" | "patternProperties" | "propertyNames" => false,
        "minItems" => matches!(value.as_str(), "0" | "1"),
        "format" => value.cursor().str().is_ok_and(|format| FORMATS.iter().any(|known| format.is(known))),
        _ => true,
    }
}

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
        match name.as_ref() {
            "description" => {
                cursor.skip()?;
            }
            "properties" | "$defs" | "definitions" => {
                w.key(&name);
                changed |= map(cursor, w)?;
            }
            "items" | "not" => {
                w.key(&name);
                changed |= node(cursor, w)?;
            }
            "anyOf" | "allOf" | "prefixItems" => {
                w.key(&name);
                changed |= list(cursor, w)?;
            }
            "oneOf" => {
                changed = true;
                if found.has_any_of {
                    // Two alternatives of alternatives cannot both be `anyOf`; the written one wins.
                    cursor.skip()?;
                } else {
                    w.key("anyOf");
                    list(cursor, w)?;
                }
            }
            "additionalProperties" => {
                let value = cursor.skip()?;
                closed = true;
                changed |= value.as_str() != "false";
                w.key("additionalProperties").bool(false);
            }
            _ => {
                let value = cursor.skip()?;
                if stays(&name, &value) {
                    w.key(key.literal()).json(&value);
                }
            }
        }
    }
    if found.is_object && !closed {
        changed = true;
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
    fn check(schema: &str, expect: &str) {
        let mut out = Vec::new();
        let changed = rewrite(&Json::raw(schema), &mut Writer::new(&mut out)).unwrap();
        let got = String::from_utf8(out).unwrap();
        assert_eq!(got, expect);
        assert_eq!(changed, schema != expect, "{schema}");
    }

    #[test]
    fn ec33_what_is_not_supported_is_described() {
        check(
            r#"{"type":"integer","minimum":1,"maximum":9}"#,
            r#"{"description":"{minimum: 1, maximum: 9}","type":"integer"}"#,
        );
        check(
            r#"{"type":"string","pattern":"^\"a\"$","format":"regex"}"#,
            r#"{"description":"{pattern: \"^\\\"a\\\"$\", format: \"regex\"}","type":"string"}"#,
        );
        check(
            r#"{"description":"d","type":"string","maxLength":3}"#,
            r#"{"description":"d\n\n{maxLength: 3}","type":"string"}"#,
        );
    }

    #[test]
    fn ec33_one_of_becomes_any_of_and_objects_are_closed() {
        check(
            r#"{"oneOf":[{"type":"object","properties":{"b":{},"a":true}}]}"#,
            r#"{"anyOf":[{"type":"object","properties":{"b":{},"a":true},"additionalProperties":false}]}"#,
        );
        check(
            r#"{"type":"object","additionalProperties":{"type":"string"}}"#,
            r#"{"type":"object","additionalProperties":false}"#,
        );
    }

    #[test]
    fn what_is_supported_stays_to_the_byte() {
        for schema in [
            r##"{"$defs":{"z":{"enum":[1.0,1e2]}},"type":"array","minItems":1,"items":{"$ref":"#/$defs/z"}}"##,
            r#"{"type":"string","format":"date-time"}"#,
            r#"{"type":"object","properties":{"minimum":{"type":"null"}},"additionalProperties":false}"#,
        ] {
            check(schema, schema);
        }
    }
}
