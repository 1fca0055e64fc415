//! Writes a request's top level and its tools (CONVERSION 10.1, 4, 5.1). Messages are written next door.

use crate::wire::caps::{Capabilities, MaxTokensField, Quirks};
use crate::wire::json::{Cursor, Json, JsonStr, Kind, Writer};
use crate::wire::loss::{Losses, Refusal};
use crate::wire::openai_chat::{messages_out, names};
use crate::wire::prompt::{Choice, Effort, Function, Output, Prompt, Thinking, Tier, Tool};
use crate::wire::{Memory, Target};

/// Writes a request for a route.
pub(super) fn encode(
    prompt: &Prompt<'_>,
    target: &Target<'_>,
    out: &mut Vec<u8>,
    losses: &mut Losses,
) -> Result<Memory, Refusal> {
    let mut w = Writer::new(out);
    w.object();
    w.key("model").str(target.model);
    let mut body = Body { prompt, can: target.capabilities, quirks: target.quirks, w, losses };
    messages_out::encode(prompt, target, &mut body.w, body.losses)?;
    let mut memory = Memory::default();
    body.tools(&mut memory)?;
    body.output(&mut memory)?;
    body.limits()?;
    body.sampling();
    body.effort();
    body.bookkeeping();
    body.stream();
    body.w.end_object();
    Ok(memory)
}

/// The request being written.
struct Body<'p, 'o, 'l> {
    prompt: &'p Prompt<'p>,
    can: &'p Capabilities,
    quirks: &'p Quirks,
    w: Writer<'o>,
    losses: &'l mut Losses,
}

impl<'o> Body<'_, 'o, '_> {
    /// Begins a field, unless the provider is never sent it.
    fn field(&mut self, name: &'static str) -> Option<&mut Writer<'o>> {
        if self.quirks.drop_params.iter().any(|dropped| dropped == name) {
            self.losses.field(name, "this provider does not take it");
            return None;
        }
        self.w.key(name);
        Some(&mut self.w)
    }

    fn tools(&mut self, memory: &mut Memory) -> Result<(), Refusal> {
        if self.prompt.tools.is_empty() {
            if self.prompt.choice.is_some() {
                self.losses.field("tool_choice", "there are no tools to choose from");
            }
            return Ok(());
        }
        let strict_tools = self.quirks.strict_tools;
        // The list is the one thing that may not be left out: dropped, the answer would be another.
        self.w.key("tools").array();
        for tool in &self.prompt.tools {
            match tool {
                Tool::Function(function) => {
                    write_function(function, strict_tools, memory, &mut self.w, self.losses)?;
                }
                Tool::Foreign { kind, at, .. } => {
                    return Err(Refusal::at(
                        *at,
                        format!(
                            "the tool `{}` runs at its own vendor and cannot be offered to this model",
                            kind.decode()
                        ),
                    ));
                }
            }
        }
        self.w.end_array();
        if self.prompt.parallel == Some(false)
            && let Some(w) = self.field("parallel_tool_calls")
        {
            w.bool(false);
        }
        match &self.prompt.choice {
            Some(choice) => self.choice(choice),
            None => Ok(()),
        }
    }

    fn choice(&mut self, choice: &Choice<'_>) -> Result<(), Refusal> {
        if matches!(choice, Choice::Any | Choice::Tool(_)) && !self.can.forced_tool_choice {
            return Err(Refusal::field("tool_choice", "this model cannot be made to call a tool"));
        }
        let any = if self.quirks.tool_choice_required { "required" } else { "any" };
        let Some(w) = self.field("tool_choice") else {
            return Ok(());
        };
        match choice {
            Choice::Auto => w.str("auto"),
            Choice::None => w.str("none"),
            Choice::Any => w.str(any),
            Choice::Tool(name) => {
                w.object().key("type").str("function").key("function").object();
                w.key("name").lit(&tool_name(name)).end_object().end_object()
            }
        };
        Ok(())
    }

    /// The shape of the answer. A model that takes no schema is given a tool of that shape, and must call it.
    fn output(&mut self, memory: &mut Memory) -> Result<(), Refusal> {
        let Some(output) = &self.prompt.output else {
            return Ok(());
        };
        match output {
            Output::Json => {
                if let Some(w) = self.field("response_format") {
                    w.object().key("type").str("json_object").end_object();
                }
            }
            Output::Schema { name, schema, strict } if self.can.structured_outputs => {
                let strict = *strict != Some(false) && is_strict(schema);
                if let Some(w) = self.field("response_format") {
                    w.object().key("type").str("json_schema").key("json_schema").object();
                    w.key("name").lit(&schema_name(name.as_ref()));
                    w.key("schema").json(schema);
                    w.key("strict").bool(strict);
                    w.end_object().end_object();
                }
            }
            Output::Schema { name, schema, .. } => self.output_tool(name.as_ref(), schema, memory)?,
        }
        Ok(())
    }

    fn output_tool(
        &mut self,
        name: Option<&JsonStr<'_>>,
        schema: &Json<'_>,
        memory: &mut Memory,
    ) -> Result<(), Refusal> {
        if !self.prompt.tools.is_empty() || !self.can.forced_tool_choice {
            return Err(Refusal::field("output_config", "this model takes no JSON Schema for its answer"));
        }
        self.losses.field("output_config", "the model takes no schema: it is made to call a tool of that shape");
        let name = schema_name(name);
        let w = &mut self.w;
        w.key("tools").array().object().key("type").str("function").key("function").object();
        w.key("name").lit(&name);
        w.key("description").str("Gives the answer.");
        w.key("parameters").json(schema);
        w.end_object().end_object().end_array();
        w.key("tool_choice").object().key("type").str("function");
        w.key("function").object().key("name").lit(&name).end_object().end_object();
        memory.unwrap_tool = Some(name.decode().into_owned());
        Ok(())
    }

    fn limits(&mut self) -> Result<(), Refusal> {
        if let Some(wanted) = self.prompt.max_tokens {
            if wanted == 0 {
                return Err(Refusal::field("max_tokens", "`max_tokens` must be at least 1 for this model"));
            }
            let most = self.can.max_output_tokens.unwrap_or(wanted);
            if most < wanted {
                self.losses.field("max_tokens", "lowered to the most this model answers with");
            }
            let name = match self.quirks.max_tokens_field {
                MaxTokensField::MaxTokens => "max_tokens",
                MaxTokensField::MaxCompletionTokens => "max_completion_tokens",
            };
            if let Some(w) = self.field(name) {
                w.int(wanted.min(most));
            }
        }
        if self.prompt.stop.is_empty() {
            return Ok(());
        }
        if !self.can.stop {
            self.losses.field("stop_sequences", "this model takes no stop sequences");
            return Ok(());
        }
        if STOP_MAX < self.prompt.stop.len() {
            self.losses.field("stop_sequences", "only the first four are sent: the format takes no more");
        }
        let stop = &self.prompt.stop;
        if let Some(w) = self.field("stop") {
            w.array();
            for sequence in stop.iter().take(STOP_MAX) {
                w.lit(sequence);
            }
            w.end_array();
        }
        Ok(())
    }

    fn sampling(&mut self) {
        let Prompt { temperature, top_p, top_k, .. } = self.prompt;
        let both = temperature.is_some() && top_p.is_some();
        for (name, value) in [("temperature", temperature), ("top_p", top_p), ("top_k", top_k)] {
            let Some(value) = value else {
                continue;
            };
            if !self.can.sampling {
                self.losses.field(name, "this model chooses its own sampling");
            } else if name == "top_p" && both && !self.can.temperature_and_top_p {
                self.losses.field(name, "this model takes only one of temperature and top_p");
            } else if name == "top_k" && !self.quirks.top_k {
                self.losses.field(name, "this provider does not take it");
            } else if let Some(w) = self.field(name) {
                w.json(value);
            }
        }
    }

    /// How hard to think. No wish is no wish: the model's own default is not spelled out.
    fn effort(&mut self) {
        let budget = |tokens| match tokens {
            0..=2048 => Effort::Low,
            2049..=12_000 => Effort::Medium,
            12_001..=24_000 => Effort::High,
            _ => Effort::Xhigh,
        };
        let (wanted, place) = match (self.prompt.thinking, self.prompt.effort) {
            (Some(Thinking::Disabled), _) => (Effort::None, "thinking"),
            (_, Some(effort)) => (effort, "effort"),
            (Some(Thinking::Budget(tokens)), None) => (budget(tokens), "thinking.budget_tokens"),
            (Some(Thinking::Adaptive) | None, None) => return,
        };
        match nearest(wanted, &self.can.effort) {
            Some(level) => {
                if level != wanted || place == "thinking.budget_tokens" {
                    self.losses.field(place, "sent as the nearest level of effort this model takes");
                }
                if let Some(w) = self.field("reasoning_effort") {
                    w.str(level.as_str());
                }
            }
            // A model without levels does not think, which is what was asked for.
            None if wanted == Effort::None => {}
            None => self.losses.field(place, "this model takes no level of effort"),
        }
    }

    fn bookkeeping(&mut self) {
        if let Some(user) = &self.prompt.user {
            let most = usize::try_from(self.quirks.user_max_len).unwrap_or(usize::MAX);
            let text = user.decode();
            let fits = text.chars().nth(most).is_none();
            if !fits {
                self.losses.field("metadata.user_id", "too long for this provider: sent as its hash");
            }
            if let Some(w) = self.field("user") {
                if fits {
                    w.lit(user);
                } else {
                    w.str(names::sha256_hex(&text).get(..most.min(64)).unwrap_or_default());
                }
            }
        }
        // `auto` is what both vendors do unasked.
        if self.prompt.tier == Some(Tier::Standard)
            && let Some(w) = self.field("service_tier")
        {
            w.str("default");
        }
    }

    fn stream(&mut self) {
        if !self.prompt.stream {
            return;
        }
        self.w.key("stream").bool(true);
        // Asked for whether the client wants it or not: usage is accounted.
        if self.quirks.stream_options
            && let Some(w) = self.field("stream_options")
        {
            w.object().key("include_usage").bool(true).end_object();
        }
    }
}

/// A tool's name as this format takes it.
pub(super) fn tool_name<'n>(name: &'n JsonStr<'n>) -> JsonStr<'n> {
    match names::short_tool_name(&name.decode()) {
        Some(short) => JsonStr::quoted(&short),
        None => name.borrow(),
    }
}

fn write_function(
    function: &Function<'_>,
    strict_tools: bool,
    memory: &mut Memory,
    w: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Refusal> {
    let name = function.name.decode();
    w.object().key("type").str("function").key("function").object();
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
            losses.at(function.at, "`strict` needs every object closed and every property required here");
        }
    }
    w.end_object().end_object();
    Ok(())
}

/// Writes a schema, whose root must say that it is an object.
fn write_parameters(schema: &Json<'_>, at: usize, w: &mut Writer<'_>) -> Result<(), Refusal> {
    let mut c = schema.cursor();
    c.object().map_err(|_| Refusal::at(at, "a tool's schema must be an object"))?;
    let (mut has_type, mut has_ref) = (false, false);
    while let Some(key) = c.key().map_err(|e| Refusal::at(at, e.to_string()))? {
        has_type |= key.is("type");
        has_ref |= key.is("$ref");
        c.skip().map_err(|e| Refusal::at(at, e.to_string()))?;
    }
    if has_type {
        w.json(schema);
        return Ok(());
    }
    if has_ref {
        return Err(Refusal::at(at, "a tool's schema must be an object itself, not a reference to one"));
    }
    let rest = schema.as_str().trim_start_matches('{').trim_start();
    let comma = if rest.starts_with('}') { "" } else { "," };
    w.json(&Json::raw(format!("{{\"type\":\"object\"{comma}{rest}")));
    Ok(())
}

/// The name of an answer's shape: letters, digits, `_` and `-`.
fn schema_name<'n>(name: Option<&'n JsonStr<'n>>) -> JsonStr<'n> {
    match name.filter(|name| !name.is_empty()) {
        Some(name) => tool_name(name),
        None => JsonStr::quote("response"),
    }
}

/// The highest level that is not above the wish; where there is none, the lowest there is.
fn nearest(wanted: Effort, levels: &[Effort]) -> Option<Effort> {
    if wanted == Effort::None {
        return levels.iter().copied().min();
    }
    // Not to think at all is no lower level of thinking.
    let thinking = || levels.iter().copied().filter(|level| *level != Effort::None);
    thinking().filter(|level| *level <= wanted).max().or_else(|| thinking().min()).or_else(|| levels.first().copied())
}

/// Most stop sequences OpenAI takes.
const STOP_MAX: usize = 4;

/// Whether a schema holds to OpenAI's rules for strict ones: every object is closed and requires all it has.
fn is_strict(schema: &Json<'_>) -> bool {
    let mut c = schema.cursor();
    strict_at(&mut c).unwrap_or(false)
}

/// Judges one schema and those inside it. It descends no deeper than a cursor does.
fn strict_at(c: &mut Cursor<'_>) -> Result<bool, crate::wire::json::JsonError> {
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
    let required: std::collections::HashSet<String> = required.into_iter().collect();
    Ok(strict && (!is_object || (closed && has.iter().all(|name| required.contains(name)))))
}
