//! Writes the history (CONVERSION 10): items of turns, one for each thing that was said, thought, called or answered.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::wire::Format;
use crate::wire::data_url;
use crate::wire::json::{Cursor, JsonError, JsonStr};
use crate::wire::loss::Refusal;
use crate::wire::openai_responses::names;
use crate::wire::openai_responses::request_out::{Body, fitting};
use crate::wire::prompt::{Args, Block, BlockKind, Cache, Function, Prompt, Role, Source, Tool, Turn};

impl Body<'_, '_, '_> {
    /// Reports cache breakpoints that stand where none can be written.
    pub(super) fn marks(&mut self) {
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

    pub(super) fn input(&mut self, first: Option<&JsonStr<'_>>) -> Result<(), Refusal> {
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

    pub(super) fn takes_text(&self, name: &JsonStr<'_>) -> bool {
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

pub(super) fn join(all: &mut JsonStr<'_>, text: &JsonStr<'_>) {
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
