//! Reads tools and the choice among them (CONVERSION 4): functions, texts, groups of both, and the vendor's own.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::wire::json::{Cursor, Json, JsonStr, Kind};
use crate::wire::loss::{Losses, Refusal};
use crate::wire::openai_responses::names;
use crate::wire::openai_responses::request_in::unknown;
use crate::wire::prompt::{Choice, Function, Group, Prompt, Tool};

/// The arguments of a tool that is given a text, where every tool is given an object.
const TEXT: &str =
    r#"{"type":"object","properties":{"input":{"type":"string"}},"required":["input"],"additionalProperties":false}"#;

/// Tools of the vendor's that are offered, not asked for: an answer without them is an answer.
const OFFERED: [(&str, &str); 4] = [
    ("web_search", "the search runs at the vendor, and this route is another"),
    ("tool_search", "every tool is sent at once here"),
    ("image_generation", "no other format draws"),
    ("local_shell", "no other format has the vendor's shell"),
];

/// Reads the list.
pub(super) fn tools<'a>(c: &mut Cursor<'a>, tools: &mut Vec<Tool<'a>>, losses: &mut Losses) -> Result<(), Refusal> {
    list(c, None, tools, losses)?;
    let mut names = HashSet::new();
    for tool in tools.iter() {
        if let Tool::Function(function) = tool
            && !names.insert(function.name.decode())
        {
            return Err(Refusal::at(function.at, format!("two tools are named `{}`", function.name.decode())));
        }
    }
    Ok(())
}

fn list<'a>(
    c: &mut Cursor<'a>,
    namespace: Option<&JsonStr<'a>>,
    tools: &mut Vec<Tool<'a>>,
    losses: &mut Losses,
) -> Result<(), Refusal> {
    c.array()?;
    while c.item()? {
        tool(c, namespace, tools, losses)?;
    }
    Ok(())
}

/// The members a tool may have, whatever it is.
#[derive(Default)]
struct Parts<'a> {
    kind: Option<JsonStr<'a>>,
    name: Option<JsonStr<'a>>,
    description: Option<JsonStr<'a>>,
    parameters: Option<Json<'a>>,
    strict: Option<bool>,
    format: Option<Json<'a>>,
    format_at: usize,
    tools: Option<Cursor<'a>>,
    later: Option<usize>,
    /// A member that only a tool of another kind may have.
    odd: Option<usize>,
}

impl<'a> Parts<'a> {
    fn read(c: &mut Cursor<'a>) -> Result<Self, Refusal> {
        let mut parts = Self::default();
        c.object()?;
        while let Some(key) = c.key()? {
            let at = c.at();
            match key.decode().as_ref() {
                "type" => parts.kind = c.opt_str()?,
                "name" if c.peek()? == Kind::Str => parts.name = c.opt_str()?,
                "description" if c.peek()? == Kind::Str => parts.description = c.opt_str()?,
                "parameters" => parts.parameters = c.opt_skip()?,
                "strict" => parts.strict = c.opt_bool()?,
                "format" => {
                    parts.format_at = at;
                    parts.format = c.opt_skip()?;
                }
                "tools" => {
                    let start = c.clone();
                    parts.tools = c.opt_skip()?.map(|_| start);
                }
                "defer_loading" => parts.later = c.opt_skip()?.filter(|v| v.as_str() == "true").map(|_| at),
                _ => parts.odd = c.opt_skip()?.map(|_| at).or(parts.odd),
            }
        }
        Ok(parts)
    }
}

fn tool<'a>(
    c: &mut Cursor<'a>,
    namespace: Option<&JsonStr<'a>>,
    tools: &mut Vec<Tool<'a>>,
    losses: &mut Losses,
) -> Result<(), Refusal> {
    let at = c.at();
    let start = c.clone();
    let parts = Parts::read(c)?;
    let kind = parts.kind.ok_or_else(|| Refusal::at(at, "a tool needs a `type`"))?;
    let named = || parts.name.clone().filter(|name| !name.is_empty());
    let description = parts.description.filter(|text| !text.is_empty());
    let function = |name: JsonStr<'a>| {
        let group = namespace.map(|namespace| Group { namespace: namespace.clone(), name: name.clone() });
        let (name, text) = (names::flat(namespace, &name), false);
        Function { name, description: None, schema: None, strict: None, cache: None, at, group, text }
    };
    match kind.decode().as_ref() {
        "function" => {
            let name = named().ok_or_else(|| Refusal::at(at, "a tool needs a `name`"))?;
            let schema = parts.parameters.filter(|schema| schema.kind() == Kind::Object);
            // Where nothing is said, theirs are strict, and are sent so.
            tools.push(Tool::Function(Function { description, schema, strict: parts.strict, ..function(name) }));
        }
        "custom" => {
            let name = named().ok_or_else(|| Refusal::at(at, "a tool needs a `name`"))?;
            let told = parts.format.as_ref().and_then(|format| grammar(format));
            let description = match told {
                None => description,
                Some(told) => {
                    losses.at(parts.format_at, "told in words: no other format holds a text to a grammar");
                    let mut text = description.map_or_else(String::new, |text| format!("{}\n\n", text.decode()));
                    text.push_str(&told);
                    Some(JsonStr::quoted(&text))
                }
            };
            let schema = Some(Json::raw(TEXT));
            tools.push(Tool::Function(Function { description, schema, text: true, ..function(name) }));
        }
        "namespace" => {
            let name = named().ok_or_else(|| Refusal::at(at, "a group of tools needs a `name`"))?;
            if description.is_some() {
                losses.at(at, "no other format groups tools: each goes on under the group's name and its own");
            }
            if let Some(mut inner) = parts.tools {
                list(&mut inner, Some(&name), tools, losses)?;
            }
            return Ok(());
        }
        other => {
            let offered = OFFERED.iter().find(|(first, _)| other.starts_with(first)).map(|(_, why)| *why);
            tools.push(Tool::Foreign { kind, name: None, json: start.clone().skip()?, at, offered });
            return Ok(());
        }
    }
    for (place, why) in [(parts.later, "no other format loads tools later"), (parts.odd, "not a member of this tool")] {
        if let Some(place) = place {
            losses.at(place, why);
        }
    }
    Ok(())
}

/// A grammar in words. `None`: any text will do.
fn grammar(format: &Json<'_>) -> Option<String> {
    let mut c = format.cursor();
    let (mut syntax, mut definition) = (None, None);
    c.object().ok()?;
    while let Some(key) = c.key().ok()? {
        match key.decode().as_ref() {
            "syntax" => syntax = c.opt_str().ok()?,
            "definition" => definition = c.opt_str().ok()?,
            _ => drop(c.skip().ok()?),
        }
    }
    let syntax = syntax.unwrap_or_default();
    Some(format!("The input must follow this {} grammar:\n{}", syntax.decode(), definition?.decode()))
}

/// Reads the choice, once the tools are known.
pub(super) fn choice<'a>(mut c: Cursor<'a>, prompt: &mut Prompt<'a>, losses: &mut Losses) -> Result<(), Refusal> {
    let at = c.at();
    if c.peek()? == Kind::Str {
        prompt.choice = Some(match c.str()?.decode().as_ref() {
            "auto" => Choice::Auto,
            "none" => Choice::None,
            "required" => Choice::Any,
            other => return Err(Refusal::at(at, format!("`tool_choice` cannot be `{other}`"))),
        });
        return Ok(());
    }
    let (mut kind, mut name, mut namespace, mut mode, mut allowed) = (None, None, None, None, None);
    c.object()?;
    while let Some(key) = c.key()? {
        let at = c.at();
        match key.decode().as_ref() {
            "type" => kind = c.opt_str()?,
            "name" => name = c.opt_str()?,
            "namespace" => namespace = c.opt_str()?,
            "mode" => mode = c.opt_str()?,
            "tools" => {
                allowed = Some(c.clone());
                c.step_over()?;
            }
            _ => unknown(&mut c, at, losses)?,
        }
    }
    let kind = kind.unwrap_or_default();
    match (kind.decode().as_ref(), name, allowed) {
        ("function" | "custom", Some(name), _) => {
            let name = Meant { kind: "function".into(), namespace, name: Some(name) }.function(prompt, at)?;
            prompt.choice = Some(Choice::Tool(name));
        }
        ("allowed_tools", _, Some(allowed)) => {
            self::allowed(allowed, prompt, (at, losses))?;
            prompt.choice = Some(if mode.is_some_and(|mode| mode.is("required")) { Choice::Any } else { Choice::Auto });
        }
        (kind, ..) => {
            return Err(Refusal::at(at, format!("`tool_choice` of type `{kind}` cannot be carried to this model")));
        }
    }
    Ok(())
}

/// Which tool a choice means.
#[derive(Default)]
struct Meant<'a> {
    kind: Cow<'a, str>,
    namespace: Option<JsonStr<'a>>,
    name: Option<JsonStr<'a>>,
}

impl<'a> Meant<'a> {
    fn read(c: &mut Cursor<'a>) -> Result<Self, Refusal> {
        let mut meant = Self::default();
        c.object()?;
        while let Some(key) = c.key()? {
            match key.decode().as_ref() {
                "type" => meant.kind = c.opt_str()?.map_or_else(Cow::default, |kind| kind.decode().into_owned().into()),
                "name" => meant.name = c.opt_str()?,
                "namespace" => meant.namespace = c.opt_str()?,
                _ => drop(c.skip()?),
            }
        }
        Ok(meant)
    }

    /// The name that a function goes by. One of a group may be meant by its own name alone, if no other has that.
    fn function(&self, prompt: &Prompt<'_>, at: usize) -> Result<JsonStr<'a>, Refusal> {
        let Some(name) = &self.name else {
            return Err(Refusal::at(at, "the choice needs the `name` of a tool"));
        };
        let flat = names::flat(self.namespace.as_ref(), name);
        let functions = || {
            prompt.tools.iter().filter_map(|tool| match tool {
                Tool::Function(function) => Some(function),
                Tool::Foreign { .. } => None,
            })
        };
        if self.namespace.is_some() || functions().any(|function| function.name == flat) {
            return Ok(flat);
        }
        let is_it = |function: &&Function<'_>| function.group.as_ref().is_some_and(|group| group.name == *name);
        let mut grouped = functions().filter(is_it);
        match (grouped.next(), grouped.next()) {
            (Some(only), None) => Ok(only.name.borrow().into_owned()),
            (Some(_), Some(_)) => {
                let message = format!("several groups have a tool `{}`: name its `namespace` too", name.decode());
                Err(Refusal::at(at, message))
            }
            (None, _) => Ok(flat),
        }
    }
}

/// Other formats have no list of allowed tools: the others are not sent. What is meant by its kind is the vendor's own, and meets
/// what its kind meets.
fn allowed<'a>(mut c: Cursor<'a>, prompt: &mut Prompt<'a>, (at, losses): (usize, &mut Losses)) -> Result<(), Refusal> {
    let (mut names, mut groups, mut kinds) = (HashSet::new(), HashSet::new(), HashSet::new());
    c.array()?;
    while c.item()? {
        let meant = Meant::read(&mut c)?;
        match (meant.kind.as_ref(), &meant.name) {
            ("namespace", Some(name)) => drop(groups.insert(name.decode().into_owned())),
            ("function" | "custom" | "", _) => drop(names.insert(meant.function(prompt, at)?.decode().into_owned())),
            (kind, _) => drop(kinds.insert(kind.to_owned())),
        }
    }
    let is_allowed = |tool: &Tool<'_>| match tool {
        Tool::Function(function) => {
            let group = function.group.as_ref();
            names.contains(function.name.decode().as_ref())
                || group.is_some_and(|group| groups.contains(group.namespace.decode().as_ref()))
        }
        Tool::Foreign { kind, .. } => kinds.contains(kind.decode().as_ref()),
    };
    let count = prompt.tools.len();
    prompt.tools.retain(is_allowed);
    if prompt.tools.len() < count {
        losses.at(at, "tools that are not allowed are left out, which costs the prompt cache");
    }
    Ok(())
}
