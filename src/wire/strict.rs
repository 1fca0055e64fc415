//! JSON Schemas by OpenAI's rules: what one must have, and whether it may be strict (CONVERSION 4.1).

use std::collections::HashSet;

use crate::wire::json::{Cursor, Json, JsonError, Kind, Writer};
use crate::wire::loss::Refusal;

/// Why a schema is not strict.
pub(in crate::wire) const STRICT: &str =
    "not held to strictly: that needs every object closed and every property required here";

/// Writes a schema, whose root must say that it is an object and list its properties: OpenAI refuses one that does not
/// ("object schema missing properties"), as that of a tool without arguments often is.
pub(in crate::wire) fn write_parameters(schema: &Json<'_>, at: usize, w: &mut Writer<'_>) -> Result<(), Refusal> {
    let mut c = schema.cursor();
    c.object().map_err(|_| Refusal::at(at, "a tool's schema must be an object"))?;
    let (mut has_type, mut has_ref, mut has_properties) = (false, false, false);
    while let Some(key) = c.key().map_err(|e| Refusal::at(at, e.to_string()))? {
        has_type |= key.is("type");
        has_ref |= key.is("$ref");
        has_properties |= key.is("properties");
        c.skip().map_err(|e| Refusal::at(at, e.to_string()))?;
    }
    if has_type && (has_properties || has_ref) {
        w.json(schema);
        return Ok(());
    }
    if has_ref {
        return Err(Refusal::at(at, "a tool's schema must be an object itself, not a reference to one"));
    }
    let whole = schema.as_str().trim();
    let inside = whole.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or_default().trim();
    let first = if has_type { "" } else { r#""type":"object""# };
    let last = if has_properties { "" } else { r#""properties":{}"# };
    let members: Vec<&str> = [first, inside, last].into_iter().filter(|members| !members.is_empty()).collect();
    w.json(&Json::raw(format!("{{{}}}", members.join(","))));
    Ok(())
}

/// Whether a schema holds to OpenAI's rules for strict ones: every object is closed and requires all it has.
pub(in crate::wire) fn is_strict(schema: &Json<'_>) -> bool {
    let mut c = schema.cursor();
    strict_at(&mut c).unwrap_or(false)
}

/// Judges one schema and those inside it. It descends no deeper than a cursor does.
fn strict_at(c: &mut Cursor<'_>) -> Result<bool, JsonError> {
    if c.peek()? != Kind::Object {
        c.skip()?;
        return Ok(true);
    }
    let (mut strict, mut closed, mut is_object) = (true, false, false);
    let (mut has, mut required): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    c.object()?;
    while let Some(key) = c.key()? {
        match key.decode().as_ref() {
            "type" => is_object |= c.skip()?.as_str().contains("\"object\""),
            "additionalProperties" => closed = c.skip()?.as_str() == "false",
            "required" if c.peek()? == Kind::Array => {
                c.array()?;
                while c.item()? {
                    required.push(c.opt_str()?.unwrap_or_default().decode().into_owned());
                }
            }
            "properties" | "$defs" | "definitions" if c.peek()? == Kind::Object => {
                let own = key.is("properties");
                is_object |= own;
                c.object()?;
                while let Some(name) = c.key()? {
                    strict &= strict_at(c)?;
                    if own {
                        has.push(name.decode().into_owned());
                    }
                }
            }
            "anyOf" | "prefixItems" if c.peek()? == Kind::Array => {
                c.array()?;
                while c.item()? {
                    strict &= strict_at(c)?;
                }
            }
            "items" => strict &= strict_at(c)?,
            // What strict schemas may not have.
            "allOf" | "oneOf" | "not" | "if" | "then" | "else" | "dependentSchemas" | "patternProperties" => {
                strict = false;
                c.skip()?;
            }
            // Descriptions and bounds.
            _ => {
                c.skip()?;
            }
        }
    }
    let required: HashSet<String> = required.into_iter().collect();
    Ok(strict && (!is_object || (closed && has.iter().all(|name| required.contains(name)))))
}
