//! Writes a request for a route (CONVERSION 10): items of turns, and the top level.
//!
//! Nothing is kept at the vendor: every request has its whole history, and asks for the seals of its thinking to have them in
//! the next.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::wire::caps::Capabilities;
use crate::wire::data_url;
use crate::wire::json::{Cursor, Json, JsonError, JsonStr, Writer};
use crate::wire::loss::{Losses, Refusal};
use crate::wire::names::{sha256_hex, short_tool_name};
use crate::wire::openai_responses::names;
use crate::wire::openai_shared;
use crate::wire::prompt::{
    Args, Block, BlockKind, Cache, Choice, Effort, Function, Output, Prompt, Role, Source, Thinking, Tool, Turn,
};
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
struct Body<'p, 'o, 'l> {
    prompt: &'p Prompt<'p>,
    target: &'p Target<'p>,
    can: &'p Capabilities,
    w: Writer<'o>,
    losses: &'l mut Losses,
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

    /// Reports cache breakpoints that stand where none can be written.
    fn marks(&mut self) {
        const WHY: &str = "this provider takes no cache breakpoint there";
        let takes = self.target.quirks.prompt_cache_breakpoint;
        let Prompt { tools, system, turns, .. } = self.prompt;
        for tool in tools {
            if let Tool::Function(Function { cache: Some(_), .. }) = tool {
                self.losses.field("cache_control", WHY);
            }
        }
        let said = turns.iter().flat_map(|turn| turn.blocks.iter().map(|block| (block, turn.role)));
        for (block, role) in system.iter().map(|block| (block, Role::System)).chain(said) {
            // A mark on a whole answer is written on its last part.
            let inner: &[Block<'_>] =
                if let BlockKind::ToolResult { content, .. } = &block.kind { content } else { &[] };
            let lost = std::iter::once(block).chain(inner).find(|block| block.cache.is_some());
            if let Some(lost) = lost.filter(|_| !(takes && role == Role::User)) {
                self.losses.at(lost.at, WHY);
            }
        }
    }

    /// Writes the breakpoint of a part of the user's, and ends it.
    fn end_part(&mut self, mark: Option<Cache>) {
        if let Some(cache) = mark.filter(|_| self.target.quirks.prompt_cache_breakpoint) {
            self.w.key("prompt_cache_breakpoint").object().key("mode").word("explicit");
            // Theirs last half an hour or twelve.
            if cache == Cache::OneHour {
                self.w.key("ttl").word("12h");
            }
            self.w.end_object();
        }
        self.w.end_object();
    }

    fn input(&mut self, first: Option<&JsonStr<'_>>) -> Result<(), Refusal> {
        self.w.key("input").array();
        if let Some(first) = first {
            self.developer(first);
        }
        for (left, turn) in (0..self.prompt.turns.len()).rev().zip(&self.prompt.turns) {
            match turn.role {
                // It could be the end of an answer that is to go on, or of one that is over: then it has called.
                Role::Assistant if left == 0 && !self.can.prefill => {
                    return Err(Refusal::at(turn.at, "this model does not continue an assistant message"));
                }
                Role::User => self.user(turn)?,
                Role::System => self.system(turn)?,
                Role::Assistant => self.assistant(turn, self.prompt.turns.get(self.prompt.turns.len() - left))?,
            }
        }
        if self.w.is_at_start() {
            return Err(Refusal::field(self.prompt.path("messages", "messages"), "there is nothing in them to send"));
        }
        self.w.end_array();
        Ok(())
    }

    fn system(&mut self, turn: &Turn<'_>) -> Result<(), Refusal> {
        let mut all = JsonStr::default();
        for block in &turn.blocks {
            let BlockKind::Text(text) = &block.kind else {
                return Err(misplaced(block));
            };
            join(&mut all, text);
        }
        // One that says nothing is none.
        if !all.is_empty() {
            self.developer(&all);
        }
        Ok(())
    }

    fn developer(&mut self, text: &JsonStr<'_>) {
        self.w.object().key("role").word("developer").key("content").lit(text).end_object();
    }

    /// Answers first, each an item, then the user's words.
    fn user(&mut self, turn: &Turn<'_>) -> Result<(), Refusal> {
        let mut answered = HashSet::new();
        for block in &turn.blocks {
            if let BlockKind::ToolResult { id, content, is_error } = &block.kind {
                if *is_error {
                    self.losses.at(block.at, "the format cannot mark an answer as an error: its words have to say it");
                }
                if !answered.insert(id.decode()) {
                    self.losses.at(block.at, "a second result for one call is left out");
                    continue;
                }
                self.w.object();
                let kind = if self.is_text_call(id) { "custom_tool_call_output" } else { "function_call_output" };
                self.w.key("type").word(kind).key("call_id").lit(&names::call_id(id)).key("output");
                self.answer(content, block.cache)?;
                self.w.end_object();
            }
        }
        let said: Vec<&Block<'_>> =
            turn.blocks.iter().filter(|block| !matches!(block.kind, BlockKind::ToolResult { .. })).collect();
        if said.is_empty() {
            return Ok(());
        }
        self.w.object().key("role").word("user").key("content").array();
        for block in said {
            self.part(block, block.cache)?;
        }
        self.w.end_array().end_object();
        Ok(())
    }

    /// Whether a call was one of a tool that is given a text: only the format's own histories know of those.
    fn is_text_call(&self, id: &JsonStr<'_>) -> bool {
        let calls = self.prompt.turns.iter().flat_map(|turn| &turn.blocks);
        let is_it = |block: &Block<'_>| matches!(&block.kind, BlockKind::ToolUse { id: own, name, .. } if own == id && self.takes_text(name));
        self.prompt.from == Format::OpenaiResponses && calls.into_iter().any(is_it)
    }

    fn takes_text(&self, name: &JsonStr<'_>) -> bool {
        self.prompt.tools.iter().any(|tool| matches!(tool, Tool::Function(f) if f.text && f.name == *name))
    }

    /// Writes an answer: one text, or parts. `mark`: the breakpoint after all of it.
    fn answer(&mut self, content: &[Block<'_>], mark: Option<Cache>) -> Result<(), Refusal> {
        let is_marked = self.target.quirks.prompt_cache_breakpoint
            && (mark.is_some() || content.iter().any(|block| block.cache.is_some()));
        match content {
            [] => {
                self.w.str("");
            }
            [Block { kind: BlockKind::Text(text), .. }] if !is_marked => {
                self.w.lit(text);
            }
            _ => {
                self.w.array();
                for (left, block) in (0..content.len()).rev().zip(content) {
                    self.part(block, block.cache.or_else(|| mark.filter(|_| left == 0)))?;
                }
                self.w.end_array();
            }
        }
        Ok(())
    }

    /// A part of what is told to the model.
    fn part(&mut self, block: &Block<'_>, mark: Option<Cache>) -> Result<(), Refusal> {
        match &block.kind {
            BlockKind::Text(text) => {
                self.w.object().key("type").word("input_text").key("text").lit(text);
                self.end_part(mark);
            }
            BlockKind::Image(source) => {
                if !self.can.images {
                    return Err(Refusal::at(block.at, "this model takes no images"));
                }
                let url = match source {
                    Source::Base64 { media_type, data } => data_url::write_image(media_type, data, block.at)?,
                    Source::Url(url) => url.borrow().into_owned(),
                    Source::File(id) if self.prompt.from == Format::OpenaiResponses => {
                        self.w.object().key("type").word("input_image").key("file_id").lit(id);
                        self.detail(block);
                        self.end_part(mark);
                        return Ok(());
                    }
                    Source::Text(_) | Source::File(_) => return Err(kept(block)),
                };
                self.w.object().key("type").word("input_image").key("image_url").lit(&url);
                self.detail(block);
                self.end_part(mark);
            }
            BlockKind::Document { source, title, context } => self.document(block, (source, title, context), mark)?,
            BlockKind::Refusal(_) | BlockKind::Thinking { .. } | BlockKind::RedactedThinking { .. } => {
                return Err(misplaced(block));
            }
            BlockKind::ToolUse { .. } | BlockKind::ToolResult { .. } => return Err(misplaced(block)),
            BlockKind::Foreign { .. } => self.foreign(block)?,
        }
        Ok(())
    }

    fn document(
        &mut self,
        block: &Block<'_>,
        (source, title, context): (&Source<'_>, &Option<JsonStr<'_>>, &Option<JsonStr<'_>>),
        mark: Option<Cache>,
    ) -> Result<(), Refusal> {
        if let Source::Text(text) = source {
            let mut all = JsonStr::default();
            for words in [title.as_ref(), context.as_ref(), Some(text)].into_iter().flatten() {
                join(&mut all, words);
            }
            self.losses.at(block.at, "a document of text becomes plain text");
            self.w.object().key("type").word("input_text").key("text").lit(&all);
            self.end_part(mark);
            return Ok(());
        }
        if !self.can.pdf {
            return Err(Refusal::at(block.at, "this model takes no documents"));
        }
        if context.is_some() {
            self.losses.at(block.at, "what a document is about has no place here");
        }
        let (key, value) = match source {
            Source::Base64 { media_type, data } if media_type.is_empty() || media_type.is("application/pdf") => {
                ("file_data", data_url::write(&JsonStr::quote("application/pdf"), data, block.at)?)
            }
            Source::Base64 { media_type, .. } => {
                let message = format!("a document whose bytes are sent must be a PDF, not `{}`", media_type.decode());
                return Err(Refusal::at(block.at, message));
            }
            Source::Url(url) => ("file_url", url.borrow().into_owned()),
            Source::File(id) if self.prompt.from == Format::OpenaiResponses => ("file_id", id.borrow().into_owned()),
            Source::Text(_) | Source::File(_) => return Err(kept(block)),
        };
        self.w.object().key("type").word("input_file");
        if key == "file_data" {
            // One without a name is refused.
            let name = title.as_ref().filter(|title| !title.is_empty());
            self.w.key("filename").lit(&name.map_or_else(|| JsonStr::quote("document.pdf"), JsonStr::borrow));
        } else if title.is_some() {
            self.losses.at(block.at, "a document at a URL has no title here");
        }
        self.w.key(key).lit(&value);
        self.end_part(mark);
        Ok(())
    }

    fn detail(&mut self, image: &Block<'_>) {
        if let Some(detail) = &image.detail {
            self.w.key("detail").lit(detail);
        }
    }

    fn foreign(&mut self, block: &Block<'_>) -> Result<(), Refusal> {
        let BlockKind::Foreign { kind, json } = &block.kind else {
            return Err(misplaced(block));
        };
        if self.prompt.from != Format::OpenaiResponses {
            let message = format!("content of type `{}` has no counterpart on this route", kind.decode());
            return Err(Refusal::at(block.at, message));
        }
        self.w.json(json);
        Ok(())
    }

    /// What an assistant did, an item each.
    fn assistant(&mut self, turn: &Turn<'_>, next: Option<&Turn<'_>>) -> Result<(), Refusal> {
        let is_thought =
            |block: &Block<'_>| matches!(block.kind, BlockKind::Thinking { .. } | BlockKind::RedactedThinking { .. });
        // Thinking without the item it led to is refused; that may stand in a message of its own.
        let goes_on =
            next.is_some_and(|next| next.role == Role::Assistant && next.blocks.iter().any(|b| !is_thought(b)));
        let led = match goes_on {
            true => Some(turn.blocks.len()),
            false => turn.blocks.iter().rposition(|block| !is_thought(block)),
        };
        for (index, block) in turn.blocks.iter().enumerate() {
            match &block.kind {
                BlockKind::Text(text) => self.said("output_text", "text", text),
                BlockKind::Refusal(words) => self.said("refusal", "refusal", words),
                BlockKind::Thinking { text, signature } => match signature.as_ref().and_then(names::item_of) {
                    None => self.losses.at(block.at, "thinking that this vendor did not seal is not taken back"),
                    Some(_) if led.is_none_or(|led| led < index) => {
                        self.losses.at(block.at, "thinking that led to nothing is not taken back");
                    }
                    Some(content) => self.thought(text, &content),
                },
                BlockKind::RedactedThinking { .. } => {
                    self.losses.at(block.at, "redacted thinking means nothing to another vendor");
                }
                BlockKind::ToolUse { id, name, input } => {
                    self.check_id(id, block.at)?;
                    self.call(id, name, input);
                }
                BlockKind::Foreign { .. } => self.foreign(block)?,
                BlockKind::Image(_) | BlockKind::Document { .. } | BlockKind::ToolResult { .. } => {
                    return Err(misplaced(block));
                }
            }
        }
        Ok(())
    }

    fn said(&mut self, kind: &'static str, key: &'static str, text: &JsonStr<'_>) {
        self.w.object().key("role").word("assistant").key("content").array();
        self.w.object().key("type").word(kind).key(key).lit(text).end_object();
        self.w.end_array().end_object();
    }

    /// Thinking goes back to whom it came from, and to nobody else.
    fn thought(&mut self, text: &JsonStr<'_>, content: &JsonStr<'_>) {
        self.w.object().key("type").word("reasoning").key("summary").array();
        if !text.is_empty() {
            self.w.object().key("type").word("summary_text").key("text").lit(text).end_object();
        }
        self.w.end_array().key("encrypted_content").lit(content).end_object();
    }

    /// Whether another call has the id that stands here for a longer one.
    fn check_id(&self, id: &JsonStr<'_>, at: usize) -> Result<(), Refusal> {
        let short = names::call_id(id);
        if short == *id {
            return Ok(());
        }
        let mut blocks = self.prompt.turns.iter().flat_map(|turn| &turn.blocks);
        match blocks.any(|block| matches!(&block.kind, BlockKind::ToolUse { id, .. } if *id == short)) {
            true => Err(Refusal::at(at, format!("two tool calls have the id `{}` here", short.decode()))),
            false => Ok(()),
        }
    }

    fn call(&mut self, id: &JsonStr<'_>, name: &JsonStr<'_>, input: &Args<'_>) {
        let is_text = self.prompt.from == Format::OpenaiResponses && self.takes_text(name);
        self.w.object();
        if is_text {
            self.w.key("type").word("custom_tool_call").key("call_id").lit(&names::call_id(id));
            self.w.key("name").lit(&fitting(name)).key("input").lit(&text_of(input)).end_object();
            return;
        }
        self.w.key("type").word("function_call").key("call_id").lit(&names::call_id(id));
        self.w.key("name").lit(&fitting(name)).key("arguments");
        match input {
            Args::Json(json) => self.w.str(json.as_str()),
            Args::Text(text) if text.is_blank() => self.w.str("{}"),
            Args::Text(text) => self.w.lit(text),
        };
        self.w.end_object();
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
fn fitting<'n>(name: &'n JsonStr<'n>) -> JsonStr<'n> {
    match short_tool_name(&name.decode()) {
        Some(short) => JsonStr::quoted(&short),
        None => name.borrow(),
    }
}

/// The text a tool was given, out of the one argument it went as. What is no such object was never asked for, and goes on as
/// it is.
pub(super) fn text_of(input: &Args<'_>) -> JsonStr<'static> {
    let spelled = match input {
        Args::Json(json) => Cow::Borrowed(json.as_str()),
        Args::Text(text) => text.decode(),
    };
    let mut cursor = Cursor::new(&spelled);
    let mut read = || {
        let mut found = None;
        cursor.object()?;
        while let Some(key) = cursor.key()? {
            match key.is("input") {
                true => found = cursor.opt_str()?.map(JsonStr::into_owned),
                false => drop(cursor.skip()?),
            }
        }
        Ok::<_, JsonError>(found)
    };
    read().ok().flatten().unwrap_or_else(|| JsonStr::quoted(&spelled))
}

fn join(all: &mut JsonStr<'_>, text: &JsonStr<'_>) {
    if !all.is_empty() && !text.is_empty() {
        all.push(&JsonStr::quote("\n\n"));
    }
    all.push(text);
}

fn kept(block: &Block<'_>) -> Refusal {
    Refusal::at(block.at, "a file kept by another vendor cannot be read here: send its content")
}

fn misplaced(block: &Block<'_>) -> Refusal {
    Refusal::at(block.at, "this block has no place in a message of this role")
}
