//! Writes a request's top level and its tools (CONVERSION 10.1, 4, 5.1). Messages are written next door.

use std::collections::HashSet;

use crate::wire::caps::{Capabilities, MaxTokensField, Quirks};
use crate::wire::json::{Json, JsonStr, Writer};
use crate::wire::loss::{Losses, Refusal};
use crate::wire::openai_chat::functions_out::{STRICT, is_strict, schema_name, tool_name, write_function};
use crate::wire::openai_chat::{messages_out, names};
use crate::wire::openai_shared;
use crate::wire::prompt::{Choice, Effort, NONE_LEFT, Output, Prompt, Thinking, Tool};
use crate::wire::{Memory, Target};

/// Writes a request for a route.
pub(super) fn encode(
    prompt: &Prompt<'_>,
    target: &Target<'_>,
    out: &mut Vec<u8>,
    losses: &mut Losses,
) -> Result<Memory, Refusal> {
    prompt.check_calls()?;
    let mut w = Writer::new(out);
    w.object();
    w.key("model").str(target.model);
    let mut body = Body { prompt, can: target.capabilities, quirks: target.quirks, w, losses };
    messages_out::encode(prompt, target, &mut body.w, body.losses)?;
    let mut memory = Memory::default();
    let effort = body.effort();
    let shape = body.shape()?;
    body.tools(effort, shape.as_ref(), &mut memory)?;
    body.output();
    body.limits()?;
    body.sampling()?;
    if let Some(level) = effort {
        body.w.key("reasoning_effort").str(level.as_str());
    }
    body.bookkeeping();
    body.stream();
    body.w.end_object();
    memory.unwrap_tool = shape.map(|shape| shape.name);
    Ok(memory)
}

/// The tool that a model without schemas is made to call: its input is the answer.
struct Shape<'p> {
    name: String,
    schema: &'p Json<'p>,
}

/// The request being written.
struct Body<'p, 'o, 'l> {
    prompt: &'p Prompt<'p>,
    can: &'p Capabilities,
    quirks: &'p Quirks,
    w: Writer<'o>,
    losses: &'l mut Losses,
}

impl<'p, 'o> Body<'p, 'o, '_> {
    /// A field's path as the client knows it.
    fn path(&self, chat: &'static str, anthropic: &'static str) -> &'static str {
        self.prompt.path(chat, anthropic)
    }

    /// Begins a field, unless the provider is never sent it. `path` is what the client called it.
    fn field(&mut self, name: &'static str, path: &'static str) -> Option<&mut Writer<'o>> {
        if !self.takes(name) {
            self.losses.field(path, "this provider does not take it");
            return None;
        }
        self.w.key(name);
        Some(&mut self.w)
    }

    fn takes(&self, name: &str) -> bool {
        self.quirks.drop_params.iter().all(|dropped| dropped != name)
    }

    fn tools(&mut self, effort: Option<Effort>, shape: Option<&Shape<'_>>, memory: &mut Memory) -> Result<(), Refusal> {
        self.check_tools(effort)?;
        let alone = !self.prompt.sends_tools(self.losses);
        if alone && shape.is_none() {
            if let Some(Choice::Any | Choice::Tool(_)) = self.prompt.choice
                && !self.prompt.tools.is_empty()
            {
                return Err(Refusal::field(self.prompt.called.choice, NONE_LEFT));
            }
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
                Tool::Foreign { offered: Some(_), .. } => {}
                Tool::Foreign { kind, at, .. } => {
                    return Err(Refusal::at(
                        *at,
                        format!("the tool `{}` is its own vendor's and cannot be offered to this model", kind.decode()),
                    ));
                }
            }
        }
        if let Some(Shape { name, schema }) = shape {
            self.w.object().key("type").word("function").key("function").object().key("name").str(name);
            self.w.key("description").word("Gives the answer. Its input is the whole answer.");
            self.w.key("parameters").json(schema).end_object().end_object();
        }
        self.w.end_array();
        let path = self.path("parallel_tool_calls", "tool_choice.disable_parallel_tool_use");
        if (self.prompt.parallel == Some(false) || (shape.is_some() && !alone))
            && let Some(w) = self.field("parallel_tool_calls", path)
        {
            w.bool(false);
        }
        match (shape, &self.prompt.choice) {
            (Some(shape), choice) if alone || matches!(choice, Some(Choice::None)) => {
                self.choice(&Choice::Tool(JsonStr::quote(&shape.name)))
            }
            (Some(_), _) => self.choice(&Choice::Any),
            (None, Some(choice)) => self.choice(choice),
            (None, None) => Ok(()),
        }
    }

    /// Checks that names are unique, and that this endpoint lets the model call at all.
    fn check_tools(&self, effort: Option<Effort>) -> Result<(), Refusal> {
        let thinks = effort.map_or(self.can.reasoning_default_on, |level| level != Effort::None);
        if !self.prompt.tools.is_empty() && self.can.tools_need_responses_api && thinks {
            let message = "this model calls tools here only with its thinking off: disable it, or use another route";
            return Err(Refusal::field("tools", message));
        }
        let mut names = HashSet::new();
        for tool in &self.prompt.tools {
            if let Tool::Function(function) = tool
                && !names.insert(function.name.decode())
            {
                let message = format!("two tools are called `{}`: their names must differ", function.name.decode());
                return Err(Refusal::at(function.at, message));
            }
        }
        Ok(())
    }

    fn choice(&mut self, choice: &Choice<'_>) -> Result<(), Refusal> {
        if matches!(choice, Choice::Any | Choice::Tool(_)) && !self.can.forced_tool_choice {
            return Err(Refusal::field("tool_choice", "this model cannot be made to call a tool"));
        }
        // It is what models do anyway, and those that cannot be forced refuse the field itself.
        if matches!(choice, Choice::Auto) && !self.can.forced_tool_choice {
            return Ok(());
        }
        let any = if self.quirks.tool_choice_required { "required" } else { "any" };
        let Some(w) = self.field("tool_choice", "tool_choice") else {
            return Ok(());
        };
        match choice {
            Choice::Auto => w.word("auto"),
            Choice::None => w.word("none"),
            Choice::Any => w.str(any),
            Choice::Tool(name) => {
                w.object().key("type").word("function").key("function").object();
                w.key("name").lit(&tool_name(name)).end_object().end_object()
            }
        };
        Ok(())
    }

    /// The shape of the answer, where only a tool can give it one.
    fn shape(&mut self) -> Result<Option<Shape<'p>>, Refusal> {
        let Some(Output::Schema { name, description, schema, .. }) = &self.prompt.output else {
            return Ok(None);
        };
        if self.can.structured_outputs {
            return Ok(None);
        }
        let path = self.path("response_format", "output_config.format");
        let tools = &self.prompt.tools;
        if !tools.is_empty() && matches!(self.prompt.choice, Some(Choice::Any | Choice::Tool(_))) {
            self.losses.field(path, "a forced call leaves no answer to shape");
            return Ok(None);
        }
        if !self.can.forced_tool_choice || !self.takes("tool_choice") {
            return Err(Refusal::field(path, "this model takes no JSON Schema for its answer"));
        }
        self.losses.field(path, "the model takes no schema: it is made to call a tool of that shape");
        if let Some((_, at)) = description {
            self.losses.at(*at, "a schema has no description of its own here");
        }
        let mut name = schema_name(name.as_ref()).decode().into_owned();
        while tools.iter().any(|tool| matches!(tool, Tool::Function(function) if function.name.is(&name))) {
            name.insert(0, '_');
        }
        Ok(Some(Shape { name: names::short_tool_name(&name).unwrap_or(name), schema }))
    }

    fn output(&mut self) {
        let path = self.path("response_format", "output_config.format");
        match &self.prompt.output {
            Some(Output::Json) => {
                if let Some(w) = self.field("response_format", path) {
                    w.object().key("type").word("json_object").end_object();
                }
            }
            Some(Output::Schema { name, description, schema, strict }) if self.can.structured_outputs => {
                let (wanted, strict) = (*strict == Some(true), is_strict(schema));
                if wanted && !strict {
                    self.losses.field(path, STRICT);
                }
                if let Some(w) = self.field("response_format", path) {
                    w.object().key("type").word("json_schema").key("json_schema").object();
                    w.key("name").lit(&schema_name(name.as_ref()));
                    if let Some((description, _)) = description {
                        w.key("description").lit(description);
                    }
                    w.key("schema").json(schema);
                    w.key("strict").bool(wanted && strict);
                    w.end_object().end_object();
                }
            }
            Some(Output::Schema { .. }) | None => {}
        }
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
            if let Some(w) = self.field(name, "max_tokens") {
                w.int(wanted.min(most));
            }
        }
        if self.prompt.stop.is_empty() {
            return Ok(());
        }
        let path = self.path("stop", "stop_sequences");
        if !self.can.stop {
            self.losses.field(path, "this model takes no stop sequences");
            return Ok(());
        }
        if STOP_MAX < self.prompt.stop.len() {
            self.losses.field(path, "only the first four are sent: the format takes no more");
        }
        let stop = &self.prompt.stop;
        if let Some(w) = self.field("stop", path) {
            w.array();
            for sequence in stop.iter().take(STOP_MAX) {
                w.lit(sequence);
            }
            w.end_array();
        }
        Ok(())
    }

    fn sampling(&mut self) -> Result<(), Refusal> {
        let Prompt { temperature, top_p, top_k, .. } = self.prompt;
        if temperature.as_ref().and_then(Json::as_f64).is_some_and(|t| !(0.0..=2.0).contains(&t)) {
            return Err(Refusal::field("temperature", "`temperature` must be from 0 to 2"));
        }
        let both = temperature.is_some() && top_p.is_some();
        for (name, value) in [("temperature", temperature), ("top_p", top_p), ("top_k", top_k)] {
            let Some(value) = value else {
                continue;
            };
            // 1 is the default, and leaving it out says the same.
            let is_default = name != "top_k" && value.as_f64() == Some(1.0);
            let why = if !self.can.sampling {
                Some("this model chooses its own sampling")
            } else if name == "top_p" && both && !self.can.temperature_and_top_p {
                Some("this model takes only one of temperature and top_p")
            } else if name == "top_k" && !self.quirks.top_k {
                Some("this provider does not take it")
            } else {
                None
            };
            match why {
                Some(_) if is_default => {}
                Some(why) => self.losses.field(name, why),
                None => {
                    if let Some(w) = self.field(name, name) {
                        w.json(value);
                    }
                }
            }
        }
        Ok(())
    }

    /// How hard to think, if that is to be said. No wish is no wish: the model's own default is not spelled out.
    fn effort(&mut self) -> Option<Effort> {
        let budget = |tokens| match tokens {
            0..=2048 => Effort::Low,
            2049..=12_000 => Effort::Medium,
            12_001..=24_000 => Effort::High,
            _ => Effort::Xhigh,
        };
        let level = self.path("reasoning_effort", "output_config.effort");
        let (wanted, path) = match (self.prompt.thinking, self.prompt.effort) {
            (Some(Thinking::Disabled), effort) => {
                if effort.is_some_and(|effort| effort != Effort::None) {
                    self.losses.field(level, "thinking is off, and effort is only told as thinking here");
                }
                (Effort::None, "thinking")
            }
            (thinking, Some(effort)) => {
                if let Some(Thinking::Budget(_)) = thinking {
                    self.losses.field("thinking.budget_tokens", "the level of effort is sent instead");
                }
                (effort, level)
            }
            (Some(Thinking::Budget(tokens)), None) => (budget(tokens), "thinking.budget_tokens"),
            (Some(Thinking::Adaptive) | None, None) => return None,
        };
        let nearest = nearest(wanted, &self.can.effort).filter(|_| self.takes("reasoning_effort"));
        match nearest {
            Some(level) if level != wanted || path == "thinking.budget_tokens" => {
                self.losses.field(path, "sent as the nearest level of effort this model takes");
            }
            Some(_) => {}
            // A model without levels does not think, which is what was asked for.
            None if !self.takes("reasoning_effort") => self.losses.field(path, "this provider does not take it"),
            None if wanted == Effort::None && !self.can.reasoning_default_on => {}
            None if wanted == Effort::None => self.losses.field(path, "this model always thinks"),
            None => self.losses.field(path, "this model takes no level of effort"),
        }
        nearest
    }

    fn bookkeeping(&mut self) {
        if let Some(user) = &self.prompt.user {
            let most = usize::try_from(self.quirks.user_max_len).unwrap_or(usize::MAX);
            let text = user.decode();
            let fits = text.chars().nth(most).is_none();
            let path = self.prompt.called.user;
            if most == 0 {
                self.losses.field(path, "this provider does not take it");
            } else if let Some(w) = self.field("user", path) {
                if fits {
                    w.lit(user);
                } else {
                    w.str(names::sha256_hex(&text).get(..most.min(64)).unwrap_or_default());
                    self.losses.field(path, "too long for this provider: sent as its hash");
                }
            }
        }
        if let Some(tier) = openai_shared::spelled_tier(self.prompt)
            && let Some(w) = self.field("service_tier", "service_tier")
        {
            w.json(&tier);
        }
        // Of what else the two formats share, others that speak this one know little. Whoever takes the vendor's breakpoints
        // takes what goes with them.
        for name in openai_shared::CACHE.into_iter().filter(|_| self.quirks.prompt_cache_breakpoint) {
            let value = self.prompt.twin(name).map(|twin| twin.value.borrow());
            if let Some(value) = value
                && let Some(w) = self.field(name, name)
            {
                w.json(&value);
            }
        }
        let verbosity = self.prompt.twin("verbosity").map(|twin| twin.value.borrow());
        if let Some(verbosity) = verbosity
            && let Some(w) = self.field("verbosity", self.prompt.path("verbosity", "verbosity"))
        {
            w.json(&verbosity);
        }
    }

    fn stream(&mut self) {
        if !self.prompt.stream {
            return;
        }
        self.w.key("stream").bool(true);
        // Asked for whether the client wants it or not: usage is accounted. So to leave it out loses nothing of theirs.
        if self.quirks.stream_options && self.takes("stream_options") {
            self.w.key("stream_options").object().key("include_usage").bool(true).end_object();
        }
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
