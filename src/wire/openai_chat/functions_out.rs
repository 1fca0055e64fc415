//! Writes the definitions of tools, and judges schemas (CONVERSION 4.1).

use crate::wire::Memory;
use crate::wire::json::{JsonStr, Writer};
use crate::wire::loss::{Losses, Refusal};
use crate::wire::openai_chat::names;
use crate::wire::prompt::Function;
use crate::wire::strict::write_parameters;
pub(super) use crate::wire::strict::{STRICT, is_strict};

/// A tool's name as this format takes it.
pub(super) fn tool_name<'n>(name: &'n JsonStr<'n>) -> JsonStr<'n> {
    match names::short_tool_name(&name.decode()) {
        Some(short) => JsonStr::quoted(&short),
        None => name.borrow(),
    }
}

/// Writes a tool the client runs.
pub(super) fn write_function(
    function: &Function<'_>,
    strict_tools: bool,
    memory: &mut Memory,
    w: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Refusal> {
    let name = function.name.decode();
    w.object().key("type").word("function").key("function").object();
    w.key("name");
    match names::short_tool_name(&name) {
        Some(short) => {
            w.str(&short);
            memory.names.push((short, name.into_owned()));
        }
        None => {
            w.lit(&function.name);
        }
    }
    if let Some(description) = function.description.as_ref().filter(|text| !text.is_empty()) {
        w.key("description").lit(description);
    }
    w.key("parameters");
    match &function.schema {
        Some(schema) => write_parameters(schema, function.at, w)?,
        None => {
            w.raw(r#"{"type":"object","properties":{}}"#);
        }
    }
    if function.strict == Some(true) {
        // Strict here asks for more than elsewhere: every property required, every object closed.
        if strict_tools && function.schema.as_ref().is_some_and(is_strict) {
            w.key("strict").bool(true);
        } else {
            losses.at(function.at, if strict_tools { STRICT } else { "this provider takes no `strict`" });
        }
    }
    w.end_object().end_object();
    Ok(())
}

/// The name of an answer's shape: letters, digits, `_` and `-`.
pub(super) fn schema_name<'n>(name: Option<&'n JsonStr<'n>>) -> JsonStr<'n> {
    match name.filter(|name| !name.is_empty()) {
        Some(name) => tool_name(name),
        None => JsonStr::quote("response"),
    }
}
