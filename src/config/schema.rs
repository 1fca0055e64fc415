#![expect(clippy::disallowed_types, reason = "JSON Schema is defined over any JSON; this is the one room that may")]
//! Checks files against `schemas/*.schema.json` and says in plain words what does not fit.
//!
//! What does not fit is then taken out of the file, so that the rest of it can be searched for other faults: all
//! diagnostics come at once.

use std::sync::Arc;

use jsonschema::error::ValidationErrorKind as Kind;
use jsonschema::{ValidationError, Validator};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::config::diagnostic::{Place, Report, did_you_mean};

/// The schemas as they are shipped, for editors and for `config schema`.
pub const MODEL: &str = include_str!("../../schemas/model.schema.json");
pub const PROVIDER: &str = include_str!("../../schemas/provider.schema.json");
pub const CLIENT: &str = include_str!("../../schemas/client.schema.json");
pub const SERVER: &str = include_str!("../../schemas/server.schema.json");
pub const PRICES: &str = include_str!("../../schemas/prices.schema.json");

/// Every schema, by what its files are called.
pub const ALL: [(&str, &str); 5] =
    [("model", MODEL), ("provider", PROVIDER), ("client", CLIENT), ("server", SERVER), ("prices", PRICES)];

/// One compiled schema. Some hundred kilobytes: dropped when loading is over.
#[derive(Debug)]
pub(crate) struct Schema {
    text: Value,
    validator: Validator,
}

impl Schema {
    /// Compiles a shipped schema. An `Err` is our own mistake, and says so.
    pub(crate) fn compile(text: &str) -> Result<Self, String> {
        let text: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
        let validator = jsonschema::draft202012::new(&text).map_err(|e| e.to_string())?;
        Ok(Self { text, validator })
    }

    /// Reads a file's text. `None`: it is no JSON, or no object.
    pub(crate) fn read<T: DeserializeOwned>(&self, text: &str, place: &Place, report: &mut Report) -> Option<T> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut value: Value = match serde_json::from_str(text) {
            Ok(value) => value,
            Err(error) => {
                syntax_error(&error, place, report);
                return None;
            }
        };
        let faults: Vec<Fault> = self.validator.iter_errors(&value).flat_map(|e| self.explain(&e)).collect();
        for fault in &faults {
            fault.tell(place, report);
            if fault.pointer.is_empty() && fault.instead.is_some() {
                return None;
            }
        }
        for fault in &faults {
            fault.cut(&mut value);
        }
        match T::deserialize(&value) {
            Ok(value) => Some(value),
            Err(error) => {
                report.error(place, format!("cannot be read: {error}"));
                None
            }
        }
    }

    /// One validation error as one fault for each thing that is wrong.
    #[expect(clippy::wildcard_enum_match_arm, reason = "rules our schemas do not use keep the library's own words")]
    fn explain(&self, error: &ValidationError<'_>) -> Vec<Fault> {
        let pointer = error.instance_path().as_str().to_owned();
        let rule = self.rule(error);
        let (found, path) = (error.instance(), error.schema_path().as_str());
        let here =
            |message: String| Fault { pointer: pointer.clone(), message, hint: None, instead: Some(neutral(rule)) };
        match error.kind() {
            Kind::AdditionalProperties { unexpected } => {
                unexpected.iter().map(|name| unknown_field(name, &pointer, rule)).collect()
            }
            Kind::PropertyNames { error } => {
                let name = error.instance().as_str().unwrap_or_default();
                let message = format!("{name:?} cannot stand here");
                let names = self.names_rule(path).get("description").and_then(Value::as_str);
                let hint = names.map(|n| format!("what can: {n}"));
                vec![Fault { hint, instead: Some(Value::Null), ..Fault::new(step(&pointer, name), message) }]
            }
            Kind::Required { property } => {
                let name = property.as_str().unwrap_or_default();
                vec![Fault::new(pointer, format!("the field {name:?} is missing"))]
            }
            Kind::Type { .. } => vec![here(format!("must be {}, not {}", types(rule), kind(found)))],
            Kind::Enum { options } => vec![here(not_among(found, options))],
            Kind::Pattern { .. } if takes_numbers(rule) => {
                vec![here(format!("must be {}, not {found}", number(rule)))]
            }
            Kind::Minimum { .. } | Kind::Maximum { .. } | Kind::ExclusiveMinimum { .. } => {
                vec![here(format!("must be {}, not {found}", number(rule)))]
            }
            Kind::MinLength { .. } => vec![here("must not be empty".to_owned())],
            Kind::AnyOf { .. } => {
                let ways = rule.get("anyOf").and_then(Value::as_array).into_iter().flatten();
                let names = ways.filter_map(|way| way.pointer("/required/0")).map(Value::to_string);
                vec![Fault::new(pointer, format!("needs {}", names.collect::<Vec<_>>().join(" or ")))]
            }
            Kind::UniqueItems => vec![Fault::new(pointer, "has the same entry twice".to_owned())],
            _ => vec![here(error.to_string())],
        }
    }

    /// What the schema says of the names in an object, given where it refuses one.
    fn names_rule(&self, path: &str) -> &Value {
        const NAMES: &str = "/propertyNames";
        let end = path.rfind(NAMES).map_or(path.len(), |at| at + NAMES.len());
        path.get(..end).and_then(|p| self.text.pointer(p)).unwrap_or(&Value::Null)
    }

    /// The object of the schema that holds the rule an error speaks of.
    fn rule(&self, error: &ValidationError<'_>) -> &Value {
        let path = error.schema_path().as_str();
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        self.text.pointer(parent).unwrap_or(&Value::Null)
    }
}

/// A thing that is wrong, and what to put in its place to read on.
#[derive(Debug)]
struct Fault {
    pointer: String,
    message: String,
    hint: Option<String>,
    /// `None`: nothing has to be taken out.
    instead: Option<Value>,
}

impl Fault {
    fn new(pointer: String, message: String) -> Self {
        Self { pointer, message, hint: None, instead: None }
    }

    fn tell(&self, file: &Place, report: &mut Report) {
        let place = Place { file: Arc::clone(&file.file), pointer: self.pointer.clone() };
        report.error(&place, &self.message).hint = self.hint.clone();
    }

    /// Takes the thing out: a key goes, an element of a list is replaced, for the others to keep their numbers.
    fn cut(&self, file: &mut Value) {
        let Some(instead) = &self.instead else { return };
        let Some((parent, last)) = self.pointer.rsplit_once('/') else { return };
        match file.pointer_mut(parent) {
            Some(Value::Object(fields)) => {
                fields.shift_remove(&last.replace("~1", "/").replace("~0", "~"));
            }
            Some(Value::Array(items)) => {
                if let Some(item) = last.parse().ok().and_then(|i: usize| items.get_mut(i)) {
                    *item = instead.clone();
                }
            }
            Some(_) | None => {}
        }
    }
}

/// serde_json's sentence without its place, which stands in front.
fn syntax_error(error: &serde_json::Error, place: &Place, report: &mut Report) {
    let said = error.to_string();
    let said = said.split(" at line ").next().unwrap_or_default();
    let place = Place { pointer: format!("{}:{}", error.line(), error.column()), ..place.clone() };
    report.error(&place, format!("is not JSON: {said}"));
}

fn unknown_field(name: &str, pointer: &str, rule: &Value) -> Fault {
    let known = || rule.get("properties").and_then(Value::as_object).into_iter().flat_map(|p| p.keys());
    let near = did_you_mean(name, known().map(String::as_str));
    let mut fault = Fault::new(step(pointer, name), format!("unknown field {name:?}{near}"));
    if near.is_empty() {
        let known: Vec<&str> = known().map(String::as_str).filter(|k| *k != "$schema").collect();
        fault.hint = Some(format!("there are {}; keys that begin with x- or _ are free for notes", known.join(", ")));
    }
    fault.instead = Some(Value::Null);
    fault
}

fn step(pointer: &str, name: &str) -> String {
    format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"))
}

fn not_among(found: &Value, options: &Value) -> String {
    let options = || options.as_array().into_iter().flatten().filter_map(Value::as_str);
    let near = found.as_str().map_or_else(String::new, |word| did_you_mean(word, options()));
    let list: Vec<&str> = options().collect();
    format!("{found} is none of {}{near}", list.join(", "))
}

/// What stands in for a list's broken element.
fn neutral(rule: &Value) -> Value {
    match type_names(rule).next() {
        Some("object") => Value::Object(serde_json::Map::new()),
        Some("number" | "integer") => Value::from(0),
        _ => Value::String(String::new()),
    }
}

fn type_names(rule: &Value) -> impl Iterator<Item = &str> {
    let (one, many) = match rule.get("type") {
        Some(Value::Array(many)) => (None, Some(many)),
        other => (other, None),
    };
    one.into_iter().chain(many.into_iter().flatten()).filter_map(Value::as_str).filter(|t| *t != "null")
}

fn takes_numbers(rule: &Value) -> bool {
    type_names(rule).any(|t| t == "number" || t == "integer")
}

/// The numbers a rule allows, in words.
fn number(rule: &Value) -> String {
    let whole = if type_names(rule).any(|t| t == "integer") { "a whole number" } else { "a number" };
    match (rule.get("minimum"), rule.get("exclusiveMinimum")) {
        (Some(least), _) => match rule.get("maximum") {
            Some(most) => format!("{whole} from {least} to {most}"),
            None => format!("{whole} of at least {least}"),
        },
        (None, Some(bound)) => format!("{whole} above {bound}"),
        (None, None) => whole.to_owned(),
    }
}

/// The types a rule allows, in words. That numbers may be written as strings is no news to whoever wrote neither.
fn types(rule: &Value) -> String {
    if takes_numbers(rule) {
        return number(rule);
    }
    let words: Vec<&str> = type_names(rule)
        .map(|name| match name {
            "string" => "a string",
            "array" => "a list",
            "object" => "an object",
            "boolean" => "true or false",
            other => other,
        })
        .collect();
    words.join(" or ")
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde::Deserialize;
    use serde::de::{Deserializer, Error as _, Visitor, value};

    use super::*;
    use crate::config::source;

    fn schemas() -> [Value; 5] {
        ALL.map(|(_, text)| serde_json::from_str(text).unwrap())
    }

    #[test]
    fn every_field_has_a_title_and_a_description() {
        fn walk(path: &str, schema: &Value, fields: &mut usize) {
            let Value::Object(map) = schema else { return };
            for (key, value) in map {
                let path = format!("{path}/{key}");
                if key != "properties" {
                    walk(&path, value, fields);
                    continue;
                }
                for (name, field) in value.as_object().unwrap() {
                    let said = |what: &str| field.get(what).and_then(Value::as_str).is_some_and(|t| !t.is_empty());
                    assert!(said("title") && said("description"), "{path}/{name}");
                    *fields += 1;
                    walk(&format!("{path}/{name}"), field, fields);
                }
            }
        }
        let mut fields = 0;
        for schema in schemas() {
            walk("", &schema, &mut fields);
        }
        assert!(80 < fields, "{fields}");
    }

    #[test]
    fn the_examples_and_defaults_of_the_schemas_fit_them() {
        for ((_, text), schema) in ALL.into_iter().zip(schemas()) {
            let compiled = Schema::compile(text).unwrap();
            for example in schema.get("examples").and_then(Value::as_array).unwrap() {
                assert!(compiled.validator.is_valid(example), "{example}");
            }
            check_leaves(&schema, &schema);
        }
    }

    /// Every `default` and every one of `examples` fits the rule it stands in.
    fn check_leaves(root: &Value, rule: &Value) {
        match rule {
            Value::Object(map) => {
                if rule.get("title").is_some_and(Value::is_string) && rule.get("$schema").is_none() {
                    let mut alone = map.clone();
                    alone.extend(root.get("$defs").map(|defs| ("$defs".to_owned(), defs.clone())));
                    let validator = jsonschema::draft202012::new(&Value::Object(alone)).unwrap();
                    let examples = map.get("examples").and_then(Value::as_array).into_iter().flatten();
                    for value in examples.chain(map.get("default")) {
                        assert!(validator.is_valid(value), "{value} in {rule}");
                    }
                }
                map.values().for_each(|v| check_leaves(root, v));
            }
            Value::Array(list) => list.iter().for_each(|v| check_leaves(root, v)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// The names of a struct's fields, as its `Deserialize` asks for them.
    fn fields<'de, T: Deserialize<'de>>() -> BTreeSet<String> {
        struct Ask(&'static [&'static str]);
        impl<'de> Deserializer<'de> for &mut Ask {
            type Error = value::Error;
            fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, value::Error> {
                Err(value::Error::custom("only asked"))
            }
            fn deserialize_struct<V: Visitor<'de>>(
                self,
                _: &'static str,
                fields: &'static [&'static str],
                _: V,
            ) -> Result<V::Value, value::Error> {
                self.0 = fields;
                Err(value::Error::custom("only asked"))
            }
            serde::forward_to_deserialize_any! {
                bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
                newtype_struct seq tuple tuple_struct map enum identifier ignored_any
            }
        }
        let mut ask = Ask(&[]);
        assert!(T::deserialize(&mut ask).is_err(), "it is only asked");
        ask.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn schemas_and_structs_know_the_same_fields() {
        /// What is only for people and editors, or came from older files.
        const PLAIN: [&str; 5] = ["$schema", "description", "id", "note", "provider_notes"];
        let [model, provider, _, _, prices] = schemas();
        let check = |root: &Value, pointer: &str, fields: BTreeSet<String>| {
            let rule = root.pointer(pointer).unwrap().get("properties").unwrap();
            let known: BTreeSet<String> =
                rule.as_object().unwrap().keys().filter(|k| !PLAIN.contains(&k.as_str())).cloned().collect();
            assert_eq!(known, fields, "{pointer}");
        };
        check(&model, "", fields::<source::ModelFile>());
        check(&model, "/$defs/route", fields::<source::RouteEntry>());
        check(&model, "/$defs/output_gate", fields::<source::OutputGate>());
        check(&provider, "", fields::<source::ProviderFile>());
        check(&provider, "/properties/api_keys", fields::<source::ApiKeys>());
        check(&provider, "/properties/endpoints", fields::<source::Endpoints>());
        check(&provider, "/properties/authentication", fields::<source::Authentication>());
        check(&provider, "/properties/request_config", fields::<source::RequestConfig>());
        check(&provider, "/properties/rate_limiting", fields::<source::RateLimiting>());
        check(&provider, "/properties/models/additionalProperties", fields::<source::ProviderModel>());
        check(&provider, "/properties/error_handling/additionalProperties", fields::<source::ErrorAction>());
        check(&provider, "/properties/error_rules/items", fields::<source::ErrorRule>());
        check(&provider, "/properties/proxy_support", fields::<source::ProxySupport>());
        check(&prices, "", fields::<source::PricesFile>());
        check(&prices, "/properties/models/additionalProperties", fields::<source::PriceEntry>());
        for root in [&model, &provider] {
            check(root, "/$defs/capabilities", fields::<source::CapabilityFlags>());
            check(root, "/$defs/capabilities/properties/thinking", fields::<source::ThinkingFlags>());
            check(root, "/$defs/quirks", fields::<source::QuirkFlags>());
        }
    }
}
