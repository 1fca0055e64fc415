//! Writes a request for a route (CONVERSION 10): its top level and its tools here, its history next door.
//!
//! Nothing is kept at the vendor: every request has its whole history, and asks for the seals of its thinking to have them in
//! the next.

use std::collections::HashSet;

use crate::wire::caps::Capabilities;
use crate::wire::json::{Json, JsonStr, Writer};
use crate::wire::loss::{Losses, Refusal};
use crate::wire::names::{sha256_hex, short_tool_name};
use crate::wire::openai_responses::items_out::join;
use crate::wire::openai_shared;
use crate::wire::prompt::{BlockKind, Choice, Effort, Function, Output, Prompt, Thinking, Tool};
use crate::wire::strict::{STRICT, is_strict, write_parameters};
use crate::wire::{Format, Memory, Target};

/// Writes a request for a route.
pub(super) fn encode(
    prompt: &Prompt<'_>,
    target: &Target<'_>,
    out: &mut Vec<u8>,
    losses: &mut Losses,
) -> Result<Memory, Refusal> {
    let mut w = Writer::new(out);
    w.object().key("model").str(target.model);
    let mut body = Body { prompt, target, can: target.capabilities, w, losses, memory: Memory::default() };
    body.marks();
    let first = body.instructions();
    body.input(first.as_ref())?;
    prompt.check_calls()?;
    body.tools()?;
    body.output();
    body.limits()?;
    body.sampling()?;
    body.reasoning();
    body.bookkeeping();
    body.w.end_object();
    Ok(body.memory)
}

/// The request being written.
pub(super) struct Body<'p, 'o, 'l> {
    pub(super) prompt: &'p Prompt<'p>,
    pub(super) target: &'p Target<'p>,
    pub(super) can: &'p Capabilities,
    pub(super) w: Writer<'o>,
    pub(super) losses: &'l mut Losses,
    memory: Memory,
}

impl<'o> Body<'_, 'o, '_> {
    /// Begins a field, unless the provider is never sent it. `path` is what the client called it.
    fn field(&mut self, name: &'static str, path: &'static str) -> Option<&mut Writer<'o>> {
        if self.target.quirks.drop_params.iter().any(|dropped| dropped == name) {
            self.losses.field(path, "this provider does not take it");
            return None;
        }
        self.w.key(name);
        Some(&mut self.w)
    }

    /// Writes the instructions, or gives them to stand first in the input: there where they are all there is, for an input
    /// there has to be; and where the answer is to be JSON of no schema, which is refused unless the input speaks of JSON.
    fn instructions(&mut self) -> Option<JsonStr<'static>> {
        let mut all = JsonStr::default();
        for block in openai_shared::instructions(self.prompt, self.losses) {
            if let BlockKind::Text(text) = &block.kind {
                join(&mut all, text);
            }
        }
        if all.is_empty() {
            return None;
        }
        if self.prompt.turns.is_empty() || matches!(self.prompt.output, Some(Output::Json)) {
            return Some(all.into_owned());
        }
        self.w.key("instructions").lit(&all);
        None
    }

    fn tools(&mut self) -> Result<(), Refusal> {
        let is_own = self.prompt.from == Format::OpenaiResponses;
        if self.prompt.tools.is_empty() || !is_own && !self.prompt.sends_tools(self.losses) {
            if self.prompt.choice.is_some() {
                self.losses.field("tool_choice", "there are no tools to choose from");
            }
            return Ok(());
        }
        let mut names = HashSet::new();
        self.w.key("tools").array();
        for tool in &self.prompt.tools {
            match tool {
                Tool::Function(function) => {
                    if !names.insert(function.name.decode()) {
                        let message =
                            format!("two tools are called `{}`: their names must differ", function.name.decode());
                        return Err(Refusal::at(function.at, message));
                    }
                    self.function(function)?;
                }
                Tool::Foreign { json, .. } if is_own => {
                    self.w.json(json);
                }
                Tool::Foreign { offered: Some(_), .. } => {}
                Tool::Foreign { kind, at, .. } => {
                    let message =
                        format!("the tool `{}` is its own vendor's and cannot be offered to this model", kind.decode());
                    return Err(Refusal::at(*at, message));
                }
            }
        }
        self.w.end_array();
        let path = self.prompt.path("parallel_tool_calls", "tool_choice.disable_parallel_tool_use");
        if self.prompt.parallel == Some(false)
            && let Some(w) = self.field("parallel_tool_calls", path)
        {
            w.bool(false);
        }
        match &self.prompt.choice {
            Some(choice) => self.choice(choice),
            None => Ok(()),
        }
    }

    fn function(&mut self, function: &Function<'_>) -> Result<(), Refusal> {
        let name = fitting(&function.name);
        if name != function.name {
            self.memory.names.push((name.decode().into_owned(), function.name.decode().into_owned()));
        }
        let is_text = function.text && self.prompt.from == Format::OpenaiResponses;
        self.w.object().key("type").word(if is_text { "custom" } else { "function" }).key("name").lit(&name);
        if let Some(description) = function.description.as_ref().filter(|text| !text.is_empty()) {
            self.w.key("description").lit(description);
        }
        if is_text {
            self.w.end_object();
            return Ok(());
        }
        self.w.key("parameters");
        match &function.schema {
            Some(schema) => write_parameters(schema, function.at, &mut self.w)?,
            None => {
                self.w.raw(r#"{"type":"object","properties":{}}"#);
            }
        }
        // Left out, it would be strict.
        let wanted =
            function.strict == Some(true) || function.strict.is_none() && self.prompt.from == Format::OpenaiResponses;
        let strict = wanted && function.schema.as_ref().is_some_and(is_strict);
        if function.strict == Some(true) && !strict {
            self.losses.at(function.at, STRICT);
        }
        self.w.key("strict").bool(strict).end_object();
        Ok(())
    }

    fn choice(&mut self, choice: &Choice<'_>) -> Result<(), Refusal> {
        if matches!(choice, Choice::Any | Choice::Tool(_)) && !self.can.forced_tool_choice {
            return Err(Refusal::field(self.prompt.called.choice, "this model cannot be made to call a tool"));
        }
        let is_text = matches!(choice, Choice::Tool(name) if self.takes_text(name))
            && self.prompt.from == Format::OpenaiResponses;
        let Some(w) = self.field("tool_choice", "tool_choice") else {
            return Ok(());
        };
        match choice {
            Choice::Auto => w.word("auto"),
            Choice::None => w.word("none"),
            Choice::Any => w.word("required"),
            Choice::Tool(name) => {
                let kind = if is_text { "custom" } else { "function" };
                w.object().key("type").word(kind).key("name").lit(&fitting(name)).end_object()
            }
        };
        Ok(())
    }

    /// The shape of the answer, and how long it is to be: one field holds both.
    fn output(&mut self) {
        let path = self.prompt.path("response_format", "output_config.format");
        let verbosity = self.prompt.twin("verbosity").map(|twin| twin.value.borrow());
        let strict = match &self.prompt.output {
            Some(Output::Schema { schema, strict, .. }) => (*strict == Some(true), is_strict(schema)),
            Some(Output::Json) | None => (false, false),
        };
        if let (true, false) = strict {
            self.losses.field(path, STRICT);
        }
        let (output, path) = match (&self.prompt.output, &verbosity) {
            (None, None) => return,
            (None, Some(_)) => (None, self.prompt.path("verbosity", "verbosity")),
            (output, _) => (output.as_ref(), path),
        };
        let Some(w) = self.field("text", path) else {
            return;
        };
        w.object();
        match output {
            None => {}
            Some(Output::Json) => {
                w.key("format").object().key("type").word("json_object").end_object();
            }
            Some(Output::Schema { name, description, schema, .. }) => {
                let name = name.as_ref().filter(|name| !name.is_empty());
                let name = name.map_or_else(|| JsonStr::quote("response"), |name| fitting(name));
                w.key("format").object().key("type").word("json_schema").key("name").lit(&name);
                if let Some((description, _)) = description {
                    w.key("description").lit(description);
                }
                w.key("schema").json(schema).key("strict").bool(strict == (true, true)).end_object();
            }
        }
        if let Some(verbosity) = &verbosity {
            w.key("verbosity").json(verbosity);
        }
        w.end_object();
    }

    fn limits(&mut self) -> Result<(), Refusal> {
        let path = self.prompt.called.max_tokens;
        if let Some(wanted) = self.prompt.max_tokens {
            if wanted == 0 {
                return Err(Refusal::field(path, "must be at least 1 for this model"));
            }
            let most = self.can.max_output_tokens.unwrap_or(wanted);
            if most < wanted {
                self.losses.field(path, "lowered to the most this model answers with");
            } else if wanted < MAX_TOKENS_LEAST {
                self.losses.field(path, "raised to the fewest tokens this format takes");
            }
            if let Some(w) = self.field("max_output_tokens", path) {
                w.int(wanted.min(most).max(MAX_TOKENS_LEAST));
            }
        }
        if !self.prompt.stop.is_empty() {
            self.losses.field(self.prompt.path("stop", "stop_sequences"), "this format takes no stop sequences");
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
            let why = if name == "top_k" {
                Some("this format does not have it")
            } else if !self.can.sampling {
                Some("this model chooses its own sampling")
            } else if name == "top_p" && both && !self.can.temperature_and_top_p {
                Some("this model takes only one of temperature and top_p")
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

    fn reasoning(&mut self) {
        let level = self.effort();
        // A summary is what there is to see of the thinking; asked for only where somebody wants to see it.
        let shows = matches!(self.prompt.thinking, Some(Thinking::Adaptive | Thinking::Budget(_)))
            && !self.prompt.hide_thinking
            || self.prompt.from == Format::OpenaiResponses && level.is_some();
        if level.is_none() && !shows {
            return;
        }
        self.w.key("reasoning").object();
        if let Some(level) = level {
            self.w.key("effort").str(level.as_str());
        }
        if shows && level != Some(Effort::None) {
            self.w.key("summary").word("auto");
        }
        self.w.end_object();
    }

    /// How hard to think, if that is to be said. No wish is no wish: the model's own default is not spelled out.
    fn effort(&mut self) -> Option<Effort> {
        let budget = |tokens| match tokens {
            0..=2048 => Effort::Low,
            2049..=12_000 => Effort::Medium,
            12_001..=24_000 => Effort::High,
            _ => Effort::Xhigh,
        };
        let path = self.prompt.path("reasoning_effort", "output_config.effort");
        let (wanted, path) = match (self.prompt.thinking, self.prompt.effort) {
            (Some(Thinking::Disabled), _) => (Effort::None, "thinking"),
            (_, Some(effort)) => (effort, path),
            (Some(Thinking::Budget(tokens)), None) => (budget(tokens), "thinking.budget_tokens"),
            (Some(Thinking::Adaptive) | None, None) => return None,
        };
        let levels = &self.can.effort;
        let nearest =
            levels.iter().copied().filter(|level| *level <= wanted).max().or_else(|| levels.iter().copied().min());
        match nearest {
            Some(level) if level != wanted || path == "thinking.budget_tokens" => {
                self.losses.field(path, "sent as the nearest level of effort this model takes");
            }
            Some(_) => {}
            None if wanted == Effort::None && !self.can.reasoning_default_on => {}
            None if wanted == Effort::None => self.losses.field(path, "this model always thinks"),
            None => self.losses.field(path, "this model takes no level of effort"),
        }
        nearest
    }

    fn bookkeeping(&mut self) {
        if let Some(user) = &self.prompt.user {
            let most = usize::try_from(self.target.quirks.user_max_len).unwrap_or(usize::MAX);
            let text = user.decode();
            let path = self.prompt.called.user;
            if most == 0 {
                self.losses.field(path, "this provider does not take it");
            } else if let Some(w) = self.field("safety_identifier", path) {
                if text.chars().nth(most).is_none() {
                    w.lit(user);
                } else {
                    w.str(sha256_hex(&text).get(..most.min(64)).unwrap_or_default());
                    self.losses.field(path, "too long for this provider: sent as its hash");
                }
            }
        }
        if let Some(tier) = openai_shared::spelled_tier(self.prompt)
            && let Some(w) = self.field("service_tier", "service_tier")
        {
            w.json(&tier);
        }
        for name in ["metadata"].into_iter().chain(openai_shared::CACHE) {
            if let Some(twin) = self.prompt.twin(name)
                && let Some(w) = self.field(name, name)
            {
                w.json(&twin.value);
            }
        }
        self.w.key("store").bool(false);
        self.w.key("include").array().word("reasoning.encrypted_content").end_array();
        if self.prompt.stream {
            self.w.key("stream").bool(true);
        }
    }
}

/// OpenAI refuses fewer.
const MAX_TOKENS_LEAST: u64 = 16;

/// A name as this format takes it.
pub(super) fn fitting<'n>(name: &'n JsonStr<'n>) -> JsonStr<'n> {
    match short_tool_name(&name.decode()) {
        Some(short) => JsonStr::quoted(&short),
        None => name.borrow(),
    }
}
