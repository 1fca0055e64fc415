//! Reads a request's top level, its tools and its choices (CONVERSION 3.1, 4). Messages are read next door.

use std::collections::HashSet;

use crate::wire::Format;
use crate::wire::json::{Cursor, Json, JsonError, JsonStr, Kind};
use crate::wire::loss::{Fate, Losses, Refusal};
use crate::wire::openai_chat::fields::REQUEST;
use crate::wire::openai_chat::messages_in;
use crate::wire::openai_shared;
use crate::wire::prompt::{Choice, Effort, Function, Output, Prompt, Tool, Twin};

/// Reads a request. What other formats cannot carry is in the losses, or refused with its place.
pub(super) fn decode<'a>(body: &'a str, losses: &mut Losses) -> Result<Prompt<'a>, Refusal> {
    let mut reader = Reader { body, losses, prompt: Prompt::new(Format::OpenaiChat), later: Later::default() };
    reader.read()?;
    Ok(reader.prompt)
}

struct Reader<'a, 'l> {
    body: &'a str,
    losses: &'l mut Losses,
    prompt: Prompt<'a>,
    later: Later<'a>,
}

/// What can only be understood when the whole request is known.
#[derive(Default)]
struct Later<'a> {
    has_messages: bool,
    choice: Option<Cursor<'a>>,
    function_call: Option<Cursor<'a>>,
    /// The byte where it stands, and the number.
    max_tokens: Option<(usize, u64)>,
    max_completion_tokens: Option<u64>,
    /// Who it is, and the byte where it stands.
    user: Option<(JsonStr<'a>, usize)>,
    safety_identifier: Option<JsonStr<'a>>,
}

const UNKNOWN: &str = "not a field other formats know";

impl<'a> Reader<'a, '_> {
    fn read(&mut self) -> Result<(), Refusal> {
        let mut cursor = Cursor::new(self.body);
        let mut seen: u64 = 0;
        cursor.object()?;
        while let Some(key) = cursor.key()? {
            let at = cursor.at();
            let name = key.decode();
            let Some((index, field)) = (0_u32..).zip(REQUEST).find(|(_, field)| field.name == name) else {
                if cursor.opt_skip()?.is_some() {
                    self.losses.at(at, UNKNOWN);
                }
                continue;
            };
            let bit = 1_u64 << (index % 64);
            if seen & bit != 0 {
                return Err(Refusal::at(at, format!("`{name}` stands twice in the request")));
            }
            seen |= bit;
            if cursor.peek()? == Kind::Null {
                cursor.skip()?;
                continue;
            }
            match field.fate {
                Fate::Carry => self.carry(field.name, &mut cursor, at)?,
                Fate::Drop(why) => {
                    if !is_idle(field.name, &cursor.skip()?) {
                        self.losses.at(at, why);
                    }
                }
                Fate::Ignore(_) => {
                    cursor.skip()?;
                }
                Fate::Twin(why) => self.twin(field.name, cursor.skip()?, at, Some(why)),
                Fate::QuietTwin(_) => self.twin(field.name, cursor.skip()?, at, None),
                Fate::Refuse(why) => {
                    if !is_idle(field.name, &cursor.skip()?) {
                        return Err(Refusal::at(at, format!("`{name}` cannot be carried to this model: {why}")));
                    }
                }
            }
        }
        cursor.end()?;
        self.settle()
    }

    /// Takes over a field whose meaning arrives.
    fn carry(&mut self, name: &'static str, c: &mut Cursor<'a>, at: usize) -> Result<(), Refusal> {
        let prompt = &mut self.prompt;
        match name {
            "model" => prompt.model = c.str()?,
            "messages" => {
                self.later.has_messages = true;
                messages_in::decode(c, self.body, prompt, self.losses)?;
            }
            "max_tokens" => self.later.max_tokens = c.opt_u64()?.map(|n| (at, n)),
            "max_completion_tokens" => self.later.max_completion_tokens = c.opt_u64()?,
            "temperature" => prompt.temperature = temperature(c, at)?,
            "top_p" => prompt.top_p = c.opt_num()?,
            "top_k" => prompt.top_k = c.opt_num()?,
            "stop" => prompt.stop = stop(c)?,
            "stream" => prompt.stream = c.opt_bool()?.unwrap_or(false),
            "stream_options" => self.stream_options(c)?,
            "tools" => self.tools(c)?,
            "functions" => self.functions(c)?,
            "tool_choice" => self.later.choice = Some(place(c)?),
            "function_call" => self.later.function_call = Some(place(c)?),
            "parallel_tool_calls" => prompt.parallel = c.opt_bool()?,
            "reasoning_effort" => prompt.effort = effort(c, at)?,
            "response_format" => self.prompt.output = self.response_format(c)?,
            "user" => self.later.user = c.opt_str()?.map(|user| (user, at)),
            "safety_identifier" => self.later.safety_identifier = c.opt_str()?,
            "service_tier" => openai_shared::tier(prompt, c.skip()?, at, self.losses),
            other => {
                debug_assert!(false, "{other} is carried but not read");
                c.skip()?;
                self.losses.at(at, UNKNOWN);
            }
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<(), Refusal> {
        if self.prompt.model.is_empty() {
            return Err(Refusal::field("model", "`model` is missing"));
        }
        self.prompt.max_tokens = match (self.later.max_tokens, self.later.max_completion_tokens) {
            (Some((at, old)), Some(new)) if old != new => {
                return Err(Refusal::at(at, "`max_tokens` and `max_completion_tokens` differ: send one of them"));
            }
            (Some((_, old)), None) => Some(old),
            (None, Some(new)) => {
                self.prompt.called.max_tokens = "max_completion_tokens";
                Some(new)
            }
            (_, new) => new,
        };
        let (user, newer) = (self.later.user.take(), self.later.safety_identifier.take());
        openai_shared::users(&mut self.prompt, user, newer, self.losses);
        if let Some(choice) = self.later.choice.take() {
            self.choice(choice)?;
        }
        if let Some(choice) = self.later.function_call.take() {
            self.prompt.called.choice = "function_call";
            self.function_call(choice)?;
        }
        if self.prompt.legacy_functions {
            // The old answer has room for one call.
            self.prompt.parallel = Some(false);
        }
        if self.prompt.tools.is_empty() {
            if let Some(Choice::Any | Choice::Tool(_)) = self.prompt.choice {
                let message = "no tool is there that could be called: send `tools`, or no choice";
                return Err(Refusal::field(self.prompt.called.choice, message));
            }
            self.prompt.choice = None;
            self.prompt.parallel = None;
        }
        if !self.later.has_messages {
            return Err(Refusal::field("messages", "`messages` is missing"));
        }
        Ok(())
    }

    fn stream_options(&mut self, c: &mut Cursor<'a>) -> Result<(), Refusal> {
        c.object()?;
        while let Some(key) = c.key()? {
            let at = c.at();
            match key.decode().as_ref() {
                "include_usage" => self.prompt.include_usage = c.opt_bool()?.unwrap_or(false),
                // Padding of the vendor's own stream: no effect on the answer.
                "include_obfuscation" => {
                    c.skip()?;
                }
                _ => unknown(c, at, self.losses)?,
            }
        }
        Ok(())
    }

    fn tools(&mut self, c: &mut Cursor<'a>) -> Result<(), Refusal> {
        c.array()?;
        let mut names = HashSet::new();
        while c.item()? {
            let tool = self.tool(c)?;
            if let Tool::Function(function) = &tool
                && !names.insert(function.name.decode().into_owned())
            {
                return Err(Refusal::at(function.at, format!("two tools are named `{}`", function.name.decode())));
            }
            self.prompt.tools.push(tool);
        }
        Ok(())
    }

    fn tool(&mut self, c: &mut Cursor<'a>) -> Result<Tool<'a>, Refusal> {
        let at = c.at();
        let start = c.clone();
        let (mut kind, mut function, mut cache, mut odd) = (None, None, None, None);
        c.object()?;
        while let Some(key) = c.key()? {
            let at = c.at();
            match key.decode().as_ref() {
                "type" => kind = c.opt_str()?,
                "function" => function = Some(self.function(c)?),
                "cache_control" => cache = openai_shared::cache(c, self.losses)?,
                // Belongs to a tool of another kind, or is lost with a function.
                _ => odd = c.opt_skip()?.map(|_| at).or(odd),
            }
        }
        match (kind, function) {
            (Some(kind), _) if !kind.is("function") => {
                Ok(Tool::Foreign { kind, name: None, json: start.clone().skip()?, at, offered: None })
            }
            (_, Some(function)) => {
                if let Some(odd) = odd {
                    self.losses.at(odd, UNKNOWN);
                }
                Ok(Tool::Function(Function { cache: cache.or(function.cache), ..function }))
            }
            (_, None) => Err(Refusal::at(at, "a tool needs a `function`")),
        }
    }

    /// Reads a function's definition.
    fn function(&mut self, c: &mut Cursor<'a>) -> Result<Function<'a>, Refusal> {
        let at = c.at();
        let mut name = None;
        let mut function = Function {
            name: JsonStr::default(),
            description: None,
            schema: None,
            strict: None,
            cache: None,
            at,
            group: None,
            text: false,
        };
        c.object()?;
        while let Some(key) = c.key()? {
            let at = c.at();
            match key.decode().as_ref() {
                "name" => name = c.opt_str()?,
                "description" => function.description = c.opt_str()?.filter(|text| !text.is_empty()),
                "parameters" => function.schema = schema(c)?,
                "strict" => function.strict = c.opt_bool()?,
                "cache_control" => function.cache = openai_shared::cache(c, self.losses)?,
                _ => unknown(c, at, self.losses)?,
            }
        }
        function.name = name.filter(|name| !name.is_empty()).ok_or_else(|| Refusal::at(at, "a tool needs a `name`"))?;
        Ok(function)
    }

    fn functions(&mut self, c: &mut Cursor<'a>) -> Result<(), Refusal> {
        c.array()?;
        while c.item()? {
            let function = self.function(c)?;
            self.prompt.tools.push(Tool::Function(function));
            self.prompt.legacy_functions = true;
        }
        Ok(())
    }

    fn choice(&mut self, mut c: Cursor<'a>) -> Result<(), Refusal> {
        let at = c.at();
        if c.peek()? == Kind::Str {
            let word = c.str()?;
            self.prompt.choice = Some(match word.decode().as_ref() {
                "auto" => Choice::Auto,
                "none" => Choice::None,
                // `any` is Mistral's word.
                "required" | "any" => Choice::Any,
                other => return Err(Refusal::at(at, format!("`tool_choice` cannot be `{other}`"))),
            });
            return Ok(());
        }
        let (mut kind, mut name, mut allowed) = (None, None, None);
        c.object()?;
        while let Some(key) = c.key()? {
            let at = c.at();
            match key.decode().as_ref() {
                "type" => kind = c.opt_str()?,
                "function" | "custom" => name = self.named(&mut c)?,
                "name" => name = c.opt_str()?,
                "allowed_tools" => allowed = Some(place(&mut c)?),
                _ => unknown(&mut c, at, self.losses)?,
            }
        }
        let kind = kind.map_or_else(|| "function".to_owned(), |kind| kind.decode().into_owned());
        match (kind.as_str(), name, allowed) {
            ("function", Some(name), _) => self.prompt.choice = Some(Choice::Tool(name)),
            ("allowed_tools", _, Some(allowed)) => self.allowed(allowed)?,
            ("auto" | "any" | "none" | "required", ..) => {
                return Err(Refusal::at(at, format!("write `tool_choice` as the string \"{kind}\"")));
            }
            _ => {
                return Err(Refusal::at(at, format!("`tool_choice` of type `{kind}` cannot be carried to this model")));
            }
        }
        Ok(())
    }

    /// Reads `{"name": …}`.
    fn named(&mut self, c: &mut Cursor<'a>) -> Result<Option<JsonStr<'a>>, Refusal> {
        let mut name = None;
        c.object()?;
        while let Some(key) = c.key()? {
            let at = c.at();
            match key.decode().as_ref() {
                "name" => name = c.opt_str()?,
                _ => unknown(c, at, self.losses)?,
            }
        }
        Ok(name)
    }

    /// Other formats have no list of allowed tools: the others are not sent.
    fn allowed(&mut self, mut c: Cursor<'a>) -> Result<(), Refusal> {
        let at = c.at();
        let mut names: HashSet<String> = HashSet::new();
        let mut must = false;
        c.object()?;
        while let Some(key) = c.key()? {
            let at = c.at();
            match key.decode().as_ref() {
                "mode" => must = c.opt_str()?.is_some_and(|mode| mode.is("required")),
                "tools" => {
                    c.array()?;
                    while c.item()? {
                        names.extend(self.allowed_tool(&mut c)?.map(|name| name.decode().into_owned()));
                    }
                }
                _ => unknown(&mut c, at, self.losses)?,
            }
        }
        let count = self.prompt.tools.len();
        self.prompt.tools.retain(|tool| match tool {
            Tool::Function(function) => names.contains(function.name.decode().as_ref()),
            Tool::Foreign { .. } => false,
        });
        if self.prompt.tools.len() < count {
            self.losses.at(at, "tools that are not allowed are left out, which costs the prompt cache");
        }
        self.prompt.choice = Some(if must { Choice::Any } else { Choice::Auto });
        Ok(())
    }

    fn allowed_tool(&mut self, c: &mut Cursor<'a>) -> Result<Option<JsonStr<'a>>, Refusal> {
        let mut name = None;
        c.object()?;
        while let Some(key) = c.key()? {
            let at = c.at();
            match key.decode().as_ref() {
                "type" => {
                    c.skip()?;
                }
                "function" => name = self.named(c)?,
                "name" => name = c.opt_str()?,
                _ => unknown(c, at, self.losses)?,
            }
        }
        Ok(name)
    }

    fn function_call(&mut self, mut c: Cursor<'a>) -> Result<(), Refusal> {
        let at = c.at();
        if c.peek()? != Kind::Str {
            let name = self.named(&mut c)?.ok_or_else(|| Refusal::at(at, "`function_call` needs a `name`"))?;
            self.prompt.choice = Some(Choice::Tool(name));
            return Ok(());
        }
        self.prompt.choice = Some(match c.str()?.decode().as_ref() {
            "auto" => Choice::Auto,
            "none" => Choice::None,
            other => return Err(Refusal::at(at, format!("`function_call` cannot be `{other}`"))),
        });
        Ok(())
    }

    fn response_format(&mut self, c: &mut Cursor<'a>) -> Result<Option<Output<'a>>, Refusal> {
        let at = c.at();
        let (mut kind, mut output) = (None, None);
        c.object()?;
        while let Some(key) = c.key()? {
            let at = c.at();
            match key.decode().as_ref() {
                "type" => kind = c.opt_str()?,
                "json_schema" => output = Some(self.json_schema(c)?),
                _ => unknown(c, at, self.losses)?,
            }
        }
        match kind.unwrap_or_default().decode().as_ref() {
            "text" => Ok(None),
            "json_object" => Ok(Some(Output::Json)),
            "json_schema" if output.is_some() => Ok(output),
            "json_schema" => Err(Refusal::at(at, "`response_format` of type `json_schema` needs a `json_schema`")),
            other => Err(Refusal::at(at, format!("`response_format` of type `{other}` cannot be carried"))),
        }
    }

    fn json_schema(&mut self, c: &mut Cursor<'a>) -> Result<Output<'a>, Refusal> {
        let at = c.at();
        let (mut name, mut description, mut schema, mut strict) = (None, None, None, None);
        c.object()?;
        while let Some(key) = c.key()? {
            let at = c.at();
            match key.decode().as_ref() {
                "name" => name = c.opt_str()?,
                "description" => description = c.opt_str()?.filter(|text| !text.is_empty()).map(|text| (text, at)),
                "schema" => schema = self::schema(c)?,
                "strict" => strict = c.opt_bool()?,
                _ => unknown(c, at, self.losses)?,
            }
        }
        let schema = schema.ok_or_else(|| Refusal::at(at, "`json_schema` needs a `schema`"))?;
        Ok(Output::Schema { name, description, schema, strict })
    }

    fn twin(&mut self, name: &'static str, value: Json<'a>, at: usize, why: Option<&'static str>) {
        if !openai_shared::is_idle(name, &value) {
            self.prompt.twins.push(Twin { name, value, at, why });
        }
    }
}

/// Whether a field that is set so has no effect on the answer: then nothing is lost with it.
fn is_idle(name: &str, value: &Json<'_>) -> bool {
    match name {
        "n" => value.as_u64() == Some(1),
        "frequency_penalty" | "presence_penalty" | "top_logprobs" => value.as_f64() == Some(0.0),
        "logprobs" => value.as_str() == "false",
        "logit_bias" => is_empty_object(value).unwrap_or(false),
        "modalities" => only_text(value).unwrap_or(false),
        _ => false,
    }
}

fn is_empty_object(value: &Json<'_>) -> Result<bool, JsonError> {
    let mut c = value.cursor();
    c.object()?;
    Ok(c.key()?.is_none())
}

fn only_text(value: &Json<'_>) -> Result<bool, JsonError> {
    let mut c = value.cursor();
    c.array()?;
    while c.item()? {
        if !c.str()?.is("text") {
            return Ok(false);
        }
    }
    Ok(true)
}

fn temperature<'a>(c: &mut Cursor<'a>, at: usize) -> Result<Option<Json<'a>>, Refusal> {
    let number = c.opt_num()?;
    match number.as_ref().and_then(Json::as_f64) {
        Some(t) if !(0.0..=2.0).contains(&t) => Err(Refusal::at(at, "`temperature` must be from 0 to 2")),
        Some(_) | None => Ok(number),
    }
}

fn stop<'a>(c: &mut Cursor<'a>) -> Result<Vec<JsonStr<'a>>, JsonError> {
    if c.peek()? == Kind::Str {
        return Ok(vec![c.str()?]);
    }
    let mut stop = Vec::new();
    c.array()?;
    while c.item()? {
        stop.push(c.str()?);
    }
    Ok(stop)
}

fn effort(c: &mut Cursor<'_>, at: usize) -> Result<Option<Effort>, Refusal> {
    let word = c.str()?;
    let word = word.decode();
    match Effort::parse(&word) {
        Some(effort) => Ok(Some(effort)),
        // Groq's word for no wish.
        None if word == "default" => Ok(None),
        None => Err(Refusal::at(at, format!("`reasoning_effort` cannot be `{word}`"))),
    }
}

/// Takes a JSON Schema as it is spelled; null is none.
fn schema<'a>(c: &mut Cursor<'a>) -> Result<Option<Json<'a>>, JsonError> {
    match c.peek()? {
        Kind::Object | Kind::Null => c.opt_skip(),
        found @ (Kind::Array | Kind::Str | Kind::Num | Kind::Bool) => Err(c.mismatch("a JSON Schema object", found)),
    }
}

/// Steps over a field nobody knows, and says so if it was set.
pub(super) fn unknown(c: &mut Cursor<'_>, at: usize, losses: &mut Losses) -> Result<(), JsonError> {
    if c.opt_skip()?.is_some() {
        losses.at(at, UNKNOWN);
    }
    Ok(())
}

/// Steps over a value, keeping the place before it.
pub(super) fn place<'a>(c: &mut Cursor<'a>) -> Result<Cursor<'a>, JsonError> {
    let start = c.clone();
    c.skip()?;
    Ok(start)
}
