//! Writes tools and the choice among them (CONVERSION 4).

use std::collections::HashSet;

use crate::wire::Format;
use crate::wire::json::{Json, JsonStr, Kind, Writer};
use crate::wire::loss::Refusal;
use crate::wire::prompt::{BlockKind, Choice, Function, Prompt, Role, Tool};

use super::encode::{Body, Structure, at_field};
use super::schema;

impl Body<'_, '_> {
    /// Writes `tools` and `tool_choice`, or neither.
    pub(super) fn tools(&mut self, structure: &Structure<'_>, w: &mut Writer<'_>) -> Result<(), Refusal> {
        if !self.prompt.sends_tools(self.losses) && !matches!(structure, Structure::Tool { .. }) {
            return self.no_tools(w);
        }
        let mut seen: HashSet<String> = HashSet::with_capacity(self.prompt.tools.len());
        w.key("tools").array();
        for tool in &self.prompt.tools {
            let name = match tool {
                Tool::Function(function) => Some(self.function(function, w)?),
                Tool::Foreign { offered: Some(_), .. } => None,
                Tool::Foreign { kind, name, json, at, .. } => {
                    if self.prompt.from != Format::Anthropic {
                        let message = format!(
                            "the tool `{}` is its own vendor's and cannot be offered to this model",
                            kind.decode()
                        );
                        return Err(Refusal::at(*at, message));
                    }
                    w.json(json);
                    name.as_ref().map(|name| name.decode().into_owned())
                }
            };
            if let Some(name) = name {
                if seen.contains(&name) {
                    let at = match tool {
                        Tool::Function(Function { at, .. }) | Tool::Foreign { at, .. } => *at,
                    };
                    return Err(Refusal::at(at, format!("two tools are called `{name}`")));
                }
                seen.insert(name);
            }
        }
        if let Structure::Tool { name, schema, .. } = structure {
            w.object().key("name").str(name);
            w.key("description").word("Gives the answer. Its input is the whole answer.");
            w.key("input_schema");
            let at = at_field(self.prompt, "response_format", "output_config.format");
            w.json(&input_schema(Some(schema), 0).map_err(|refusal| Refusal::field(at, refusal.message))?);
            w.end_object();
        }
        w.end_array();
        self.choice(structure, w);
        Ok(())
    }

    /// Writes one function; returns its name.
    fn function(&mut self, function: &Function<'_>, w: &mut Writer<'_>) -> Result<String, Refusal> {
        let name = self.name(&function.name);
        w.object().key("name").lit(&name);
        if let Some(description) = function.description.as_ref().filter(|d| !d.is_empty()) {
            w.key("description").lit(description);
        }
        let schema = input_schema(function.schema.as_ref(), function.at)?;
        w.key("input_schema");
        if self.strict(function) {
            if schema::rewrite(&schema, w)? {
                self.losses.at(function.at, "keywords the model does not enforce were moved into descriptions");
            }
            w.key("strict").bool(true);
        } else {
            w.json(&schema);
        }
        self.cache(function.cache, function.at, w);
        w.end_object();
        Ok(name.decode().into_owned())
    }

    /// Whether a function may be sent as one whose arguments are held to their schema, if the client asks for that.
    fn strict(&mut self, function: &Function<'_>) -> bool {
        if function.strict != Some(true) {
            return false;
        }
        let takes = self.target.capabilities.structured_outputs;
        if !takes || self.strict == STRICT_TOOLS_MAX {
            let why = match takes {
                true => "no more than twenty tools may be strict",
                false => "the model does not hold arguments to their schema",
            };
            self.losses.at(function.at, why);
            return false;
        }
        self.strict += 1;
        true
    }

    /// A request without tools. Older models refuse a history of calls then, so the tools are made up from it, and
    /// must not be used.
    fn no_tools(&mut self, w: &mut Writer<'_>) -> Result<(), Refusal> {
        if let Some(Choice::Any | Choice::Tool(_)) = self.prompt.choice {
            return Err(Refusal::field(self.prompt.called.choice, "a call is forced, but there are no tools"));
        }
        let called = called(self.prompt);
        if called.is_empty() {
            return Ok(());
        }
        w.key("tools").array();
        for name in &called {
            let name = self.name(name);
            w.object().key("name").lit(&name).key("input_schema").raw(r#"{"type":"object"}"#).end_object();
        }
        w.end_array().key("tool_choice").raw(r#"{"type":"none"}"#);
        self.losses.field("tools", "made up from the calls of the conversation, which need them");
        Ok(())
    }

    fn choice(&mut self, structure: &Structure<'_>, w: &mut Writer<'_>) {
        let single = self.prompt.parallel == Some(false) || self.prompt.legacy_functions;
        let (kind, name) = match (structure, &self.prompt.choice) {
            (Structure::Tool { name, alone: true, .. }, _) => ("tool", Some(JsonStr::quoted(name))),
            (Structure::Tool { alone: false, .. }, _) | (_, Some(Choice::Any)) => ("any", None),
            (_, Some(Choice::Tool(name))) => ("tool", Some(self.name(name).into_owned())),
            (_, Some(Choice::None)) => ("none", None),
            (_, Some(Choice::Auto)) => ("auto", None),
            (_, None) if single => ("auto", None),
            (_, None) => return,
        };
        w.key("tool_choice").object().key("type").str(kind);
        if let Some(name) = name {
            w.key("name").lit(&name);
        }
        if kind != "none" && (single || matches!(structure, Structure::Tool { .. })) {
            w.key("disable_parallel_tool_use").bool(true);
        }
        w.end_object();
    }
}

/// Whether the choice leaves the model no way but to call.
pub(super) fn is_forced(prompt: &Prompt<'_>) -> bool {
    !prompt.tools.is_empty() && matches!(prompt.choice, Some(Choice::Any | Choice::Tool(_)))
}

/// Checks that the model takes the choice.
pub(super) fn check_choice(body: &Body<'_, '_>) -> Result<(), Refusal> {
    if is_forced(body.prompt) && !body.target.capabilities.forced_tool_choice {
        let message = "this model cannot be forced to call a tool; use `auto`";
        return Err(Refusal::field(body.prompt.called.choice, message));
    }
    Ok(())
}

/// The names of tools that were called, each once, in order.
fn called<'p>(prompt: &'p Prompt<'_>) -> Vec<JsonStr<'p>> {
    let mut names: Vec<JsonStr<'p>> = Vec::new();
    let mut seen: HashSet<&str> = HashSet::new();
    for turn in prompt.turns.iter().filter(|turn| turn.role == Role::Assistant) {
        for block in &turn.blocks {
            if let BlockKind::ToolUse { name, .. } = &block.kind
                && seen.insert(name.literal())
            {
                names.push(name.borrow());
            }
        }
    }
    names
}

/// A schema whose root is an object, as every tool's must be. Nothing else of it is touched.
fn input_schema<'s>(schema: Option<&'s Json<'_>>, at: usize) -> Result<Json<'s>, Refusal> {
    let Some(schema) = schema else {
        return Ok(Json::raw(NO_ARGUMENTS));
    };
    if schema.kind() != Kind::Object {
        return Err(Refusal::at(at, "a tool's schema must be an object"));
    }
    let mut cursor = schema.cursor();
    let (mut typed, mut refers, mut empty) = (false, false, true);
    cursor.object()?;
    while let Some(key) = cursor.key()? {
        let value = cursor.skip()?;
        if key.is("type") {
            if !value.cursor().str().is_ok_and(|kind| kind.is("object")) {
                return Err(Refusal::at(at, "a tool's schema must be of type `object`"));
            }
            typed = true;
        }
        refers |= key.is("$ref");
        empty = false;
    }
    if typed {
        Ok(schema.borrow())
    } else if refers {
        Err(Refusal::at(at, "a tool's schema must not be a `$ref`: write the object out"))
    } else if empty {
        Ok(Json::raw(NO_ARGUMENTS))
    } else {
        let rest = schema.as_str().trim_start().strip_prefix('{').unwrap_or_default();
        Ok(Json::raw(format!("{{\"type\":\"object\",{rest}")))
    }
}

/// The schema of a tool that takes nothing, or says nothing of what it takes.
const NO_ARGUMENTS: &str = r#"{"type":"object","properties":{}}"#;

/// Most strict tools in a request: with more of them Anthropic refuses it whole.
const STRICT_TOOLS_MAX: usize = 20;
