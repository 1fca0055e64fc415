//! A value that fits a JSON Schema, as simple as can be. What the schema demands beyond types, names and choices is
//! not looked at. Any bytes yield a value, and it is small.

use crate::wire::json::{Json, JsonStr, Kind, Writer};

/// An object for a schema of an object; `{}` for what is none.
pub(super) fn of(schema: &Json<'_>) -> String {
    let mut out = Vec::new();
    let mut example = Example { root: schema.borrow(), left: VALUES_MAX };
    example.write(&schema.borrow(), "object", DEPTH_MAX, &mut Writer::new(&mut out));
    String::from_utf8(out).unwrap_or_default()
}

/// Values in one example: schemas that refer to themselves have no end.
const VALUES_MAX: u32 = 256;

const DEPTH_MAX: u8 = 8;

struct Example<'r> {
    root: Json<'r>,
    left: u32,
}

/// What a schema says that matters here.
#[derive(Default)]
struct Shape<'s> {
    kind: Option<String>,
    /// A constant, a default, the first of a choice.
    given: Option<Json<'s>>,
    properties: Option<Json<'s>>,
    required: Vec<String>,
    items: Option<Json<'s>>,
    minimum: Option<Json<'s>>,
    /// Of several schemas the first that is not that of null.
    variant: Option<Json<'s>>,
    refers_to: Option<String>,
}

impl Example<'_> {
    fn write(&mut self, schema: &Json<'_>, otherwise: &str, depth: u8, w: &mut Writer<'_>) {
        let shape = Shape::read(schema).unwrap_or_default();
        self.left = self.left.saturating_sub(1);
        let may_descend = 0 < depth && 0 < self.left;
        if let Some(given) = &shape.given {
            w.json(given);
            return;
        }
        if may_descend && let Some(pointer) = &shape.refers_to {
            let root = self.root.clone();
            if let Some(target) = find(&root, pointer) {
                return self.write(&target, otherwise, depth - 1, w);
            }
        }
        if may_descend && let (Some(variant), None) = (&shape.variant, &shape.properties) {
            return self.write(variant, otherwise, depth - 1, w);
        }
        let known = if shape.properties.is_some() { "object" } else { otherwise };
        match shape.kind.as_deref().unwrap_or(known) {
            "object" => {
                w.object();
                if may_descend {
                    self.members(&shape, depth - 1, w);
                }
                w.end_object();
            }
            "array" => {
                w.array();
                if may_descend && let Some(items) = &shape.items {
                    self.write(items, "string", depth - 1, w);
                }
                w.end_array();
            }
            "integer" | "number" => match &shape.minimum {
                Some(minimum) => drop(w.json(minimum)),
                None => drop(w.int(1)),
            },
            "boolean" => drop(w.bool(true)),
            "null" => drop(w.null()),
            _ => drop(w.str("demo")),
        }
    }

    /// All that is declared, and what is required without being declared.
    fn members(&mut self, shape: &Shape<'_>, depth: u8, w: &mut Writer<'_>) {
        let mut missing: Vec<&str> = shape.required.iter().map(String::as_str).collect();
        let mut cursor = shape.properties.as_ref().map(|p| p.cursor());
        if let Some(cursor) = &mut cursor
            && cursor.object().is_ok()
        {
            while let Ok(Some(key)) = cursor.key() {
                let Ok(schema) = cursor.skip() else { break };
                missing.retain(|name| !key.is(name));
                if 0 < self.left {
                    w.key(key.literal());
                    self.write(&schema, "string", depth, w);
                }
            }
        }
        for name in missing {
            w.key(JsonStr::quote(name).literal()).str("demo");
        }
    }
}

impl<'s> Shape<'s> {
    fn read(schema: &'s Json<'_>) -> Option<Self> {
        let mut shape = Self::default();
        let mut cursor = schema.cursor();
        cursor.object().ok()?;
        while let Some(key) = cursor.key().ok()? {
            let value = cursor.skip().ok()?;
            match key.decode().as_ref() {
                "type" => shape.kind = words(&value).into_iter().find(|t| t != "null"),
                "const" => shape.given = Some(value),
                "default" if value.kind() != Kind::Null => shape.given = Some(value),
                "enum" | "examples" => shape.given = shape.given.or_else(|| first(&value, |_| true)),
                "properties" => shape.properties = Some(value),
                "required" => shape.required = words(&value),
                "items" => shape.items = Some(value),
                "minimum" => shape.minimum = Some(value),
                "anyOf" | "oneOf" | "allOf" => shape.variant = first(&value, |v| !is_of_null(v)),
                "$ref" => shape.refers_to = words(&value).into_iter().next(),
                _ => {}
            }
        }
        Some(shape)
    }
}

/// The first item of an array that is wanted.
fn first(json: &Json<'_>, wanted: fn(&Json<'_>) -> bool) -> Option<Json<'static>> {
    let mut cursor = json.cursor();
    cursor.array().ok()?;
    while cursor.item().ok()? {
        let item = cursor.skip().ok()?;
        if wanted(&item) {
            return Some(item.into_owned());
        }
    }
    None
}

/// Whether a schema allows null and nothing else.
fn is_of_null(schema: &Json<'_>) -> bool {
    let mut cursor = schema.cursor();
    if cursor.object().is_err() {
        return false;
    }
    while let Ok(Some(key)) = cursor.key() {
        match cursor.skip() {
            Ok(value) if key.is("type") => return words(&value) == ["null"],
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    false
}

/// A string, or the strings of an array.
fn words(json: &Json<'_>) -> Vec<String> {
    let mut cursor = json.cursor();
    if let Ok(word) = cursor.str() {
        return vec![word.decode().into_owned()];
    }
    let mut words = Vec::new();
    let mut cursor = json.cursor();
    if cursor.array().is_ok() {
        while let (Ok(true), Ok(word)) = (cursor.item(), cursor.str()) {
            words.push(word.decode().into_owned());
        }
    }
    words
}

/// Follows a local reference: `#/$defs/Name`.
fn find(root: &Json<'_>, pointer: &str) -> Option<Json<'static>> {
    let (name, rest) = pointer.strip_prefix("#/")?.split_once('/').map_or_else(
        || (pointer.strip_prefix("#/").unwrap_or_default(), None),
        |(name, rest)| (name, Some(format!("#/{rest}"))),
    );
    let name = name.replace("~1", "/").replace("~0", "~");
    let mut cursor = root.cursor();
    cursor.object().ok()?;
    while let Some(key) = cursor.key().ok()? {
        let value = cursor.skip().ok()?;
        if key.is(&name) {
            return match rest {
                Some(rest) => find(&value, &rest),
                None => Some(value.into_owned()),
            };
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(schema: &str, expect: &str) {
        assert_eq!(of(&Json::raw(schema)), expect, "{schema}");
    }

    #[test]
    fn fills_all_that_is_declared_or_required() {
        check("{}", "{}");
        check("true", "{}");
        check(r#"{"type":"object"}"#, "{}");
        check(
            r#"{"type":"object","properties":{"a":{"type":"string"},"n":{"type":"integer","minimum":7},"x":{"type":"number"},
              "b":{"type":"boolean"},"l":{"type":"array","items":{"type":"string"}},"z":{"type":["null","string"]},"q\"":{}},
              "required":["a","c"]}"#,
            r#"{"a":"demo","n":7,"x":1,"b":true,"l":["demo"],"z":"demo","q\"":"demo","c":"demo"}"#,
        );
    }

    #[test]
    fn prefers_what_the_schema_gives() {
        check(
            r#"{"properties":{"e":{"enum":["celsius","kelvin"]},"c":{"const":3},"d":{"type":"integer","default":5}}}"#,
            r#"{"e":"celsius","c":3,"d":5}"#,
        );
        check(r#"{"properties":{"o":{"anyOf":[{"type":"null"},{"type":"integer"}]}}}"#, r#"{"o":1}"#);
    }

    #[test]
    fn follows_references_and_comes_to_an_end() {
        check(
            r##"{"$defs":{"P":{"type":"object","properties":{"x":{"type":"integer"}}}},"properties":{"p":{"$ref":"#/$defs/P"}}}"##,
            r#"{"p":{"x":1}}"#,
        );
        let wide: Vec<String> = (0..9).map(|n| format!("\"p{n}\":{{\"$ref\":\"#/$defs/N\"}}")).collect();
        let wide = wide.join(",");
        let endless = format!("{{\"$defs\":{{\"N\":{{\"properties\":{{{wide}}}}}}},\"$ref\":\"#/$defs/N\"}}");
        let example = of(&Json::raw(endless));
        assert!(example.len() < 20_000, "{} bytes", example.len());
        let mut cursor = crate::wire::json::Cursor::new(&example);
        assert!(cursor.skip().is_ok() && cursor.end().is_ok(), "{example}");
        check(r##"{"properties":{"p":{"$ref":"#/nowhere"},"r":{"$ref":"http://x/"}}}"##, r#"{"p":"demo","r":"demo"}"#);
    }
}
