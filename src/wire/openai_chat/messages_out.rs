//! Writes turns as messages (CONVERSION 10.1).
//!
//! One user turn may become several messages: each tool's answer is its own, and what a tool message cannot hold (an
//! image) follows in the user message after the whole run of them. Nothing may come between calls and their answers.

use std::collections::HashMap;

use crate::wire::Target;
use crate::wire::caps::{Quirks, SystemRole};
use crate::wire::data_url;
use crate::wire::json::{JsonStr, Writer};
use crate::wire::loss::{Losses, Refusal};
use crate::wire::openai_chat::parts_in::is_pdf;
use crate::wire::openai_chat::reply::spelled;
use crate::wire::openai_chat::thinking_out::{Thought, replay};
use crate::wire::openai_chat::{functions_out, names};
use crate::wire::openai_shared;
use crate::wire::prompt::{Args, Block, BlockKind, Cache, Prompt, Role, Source, Tool, Turn};

/// Writes the `messages` of a request.
pub(super) fn encode(
    prompt: &Prompt<'_>,
    target: &Target<'_>,
    w: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Refusal> {
    let system = openai_shared::instructions(prompt, losses);
    if loses_marks(prompt, target.quirks) {
        losses.field(prompt.path("cache_control", "cache_control"), "this provider takes no cache breakpoint there");
    }
    let quirks = target.quirks;
    let mut history =
        History { target, quirks, w, losses, folded: Vec::new(), held: Vec::new(), calls: false, empty: true };
    history.w.key("messages").array();
    match target.quirks.system_role {
        _ if system.is_empty() => {}
        SystemRole::System => history.message("system", &system)?,
        SystemRole::Developer => history.message("developer", &system)?,
        SystemRole::User => {
            if let Some(block) = system.first() {
                history.losses.at(block.at, USERS);
            }
            history.folded = system;
        }
    }
    for (turn, is_last) in prompt.turns.iter().zip((0..prompt.turns.len()).rev().map(|left| left == 0)) {
        match turn.role {
            Role::System if history.calls => history.held.push(turn),
            Role::System => history.inline_system(turn)?,
            Role::User => {
                history.user(turn)?;
                history.release()?;
            }
            Role::Assistant if is_last && !target.capabilities.prefill => {
                return Err(Refusal::at(turn.at, "this model does not continue an assistant message"));
            }
            Role::Assistant => {
                history.release()?;
                history.unfold()?;
                history.assistant(turn)?;
            }
        }
    }
    history.release()?;
    history.unfold()?;
    history.w.end_array();
    match history.empty {
        true => {
            Err(Refusal::field(prompt.path("messages", "messages"), "at least one message with content is required"))
        }
        false => Ok(()),
    }
}

struct History<'t, 'w, 'o, 'p> {
    target: &'t Target<'t>,
    quirks: &'t Quirks,
    w: &'w mut Writer<'o>,
    losses: &'w mut Losses,
    /// Instructions that wait for the first user message, for models that know no other role.
    folded: Vec<&'p Block<'p>>,
    /// Instructions that wait for the answers to open calls.
    held: Vec<&'p Turn<'p>>,
    /// Calls wait for their answers.
    calls: bool,
    /// No message has been written.
    empty: bool,
}

impl<'p> History<'_, '_, '_, 'p> {
    /// Writes a message of these blocks.
    fn message(&mut self, role: &str, blocks: &[&Block<'_>]) -> Result<(), Refusal> {
        self.empty = false;
        self.w.object().key("role").str(role).key("content");
        self.content(blocks, None)?;
        self.w.end_object();
        Ok(())
    }

    /// Writes the instructions that no user message has taken in, before the model speaks.
    fn unfold(&mut self) -> Result<(), Refusal> {
        match std::mem::take(&mut self.folded) {
            folded if folded.is_empty() => Ok(()),
            folded => self.message("user", &folded),
        }
    }

    /// Writes the instructions that had to wait.
    fn release(&mut self) -> Result<(), Refusal> {
        self.calls = false;
        for turn in std::mem::take(&mut self.held) {
            self.inline_system(turn)?;
        }
        Ok(())
    }

    /// A system message between turns; where the model takes none, a user message that says what it is.
    fn inline_system(&mut self, turn: &Turn<'_>) -> Result<(), Refusal> {
        let blocks: Vec<&Block<'_>> = turn.blocks.iter().filter(|block| says_something(block)).collect();
        if blocks.is_empty() {
            return Ok(());
        }
        let role = match (self.target.capabilities.inline_system, self.quirks.system_role) {
            (true, SystemRole::System) => "system",
            (true, SystemRole::Developer) => "developer",
            (false, _) | (true, SystemRole::User) => {
                if let Some(block) = blocks.iter().find(|block| text_of(block).is_none()) {
                    let known = !matches!(block.kind, BlockKind::Foreign { .. });
                    return Err(if known { misplaced(block) } else { foreign(block) });
                }
                self.losses.at(turn.at, USERS);
                let mut text = JsonStr::quoted("<system>");
                text.push(&joined(&texts(&blocks)));
                text.push(&JsonStr::quote("</system>"));
                self.empty = false;
                self.w.object().key("role").word("user").key("content").lit(&text).end_object();
                return Ok(());
            }
        };
        self.message(role, &blocks)
    }

    fn user(&mut self, turn: &'p Turn<'p>) -> Result<(), Refusal> {
        let (answers, own): (Vec<&Block<'_>>, Vec<&Block<'_>>) =
            turn.blocks.iter().filter(|block| says_something(block)).partition(|block| answered(block).is_some());
        if answers.is_empty() && own.is_empty() {
            return Err(Refusal::at(turn.at, "a user message must not be empty"));
        }
        let mut rest = std::mem::take(&mut self.folded);
        let last: HashMap<_, usize> =
            answers.iter().filter_map(|block| Some((answered(block)?.decode(), block.at))).collect();
        for answer in &answers {
            let counts = answered(answer).is_some_and(|id| last.get(&id.decode()) == Some(&answer.at));
            if !counts {
                self.losses.at(answer.at, "a later result answers the same call");
            } else {
                rest.extend(self.answer(answer)?);
            }
        }
        rest.extend(own);
        if rest.is_empty() {
            return Ok(());
        }
        self.message("user", &rest)
    }

    /// Writes a tool's answer; gives back what has to follow in a user message.
    fn answer(&mut self, block: &'p Block<'p>) -> Result<Vec<&'p Block<'p>>, Refusal> {
        let BlockKind::ToolResult { id, content, is_error } = &block.kind else {
            return Ok(Vec::new());
        };
        if *is_error {
            self.losses.at(block.at, "the format cannot mark an answer as an error: its words have to say it");
        }
        self.empty = false;
        self.w.object().key("role").word("tool");
        let (id, _) = names::unsealed(id);
        self.w.key("tool_call_id").lit(&names::tool_id(&id, self.quirks.tool_id));
        self.w.key("content");
        let all: Vec<&Block<'_>> = content.iter().collect();
        let is_text = |block: &&Block<'_>| matches!(&block.kind, BlockKind::Text(_)) || is_text_document(block);
        let mut hoisted = Vec::new();
        if all.iter().all(is_text) || self.quirks.tool_result_images {
            self.content(&all, block.cache)?;
        } else {
            let mut words = Vec::new();
            for block in &all {
                match &block.kind {
                    BlockKind::Image(_) => words.push(JsonStr::quote("[image attached below]")),
                    BlockKind::Document { .. } if !is_text_document(block) => {
                        words.push(JsonStr::quote("[document attached below]"));
                    }
                    BlockKind::Text(_) => words.extend(text_of(block)),
                    BlockKind::Document { .. } => {
                        self.losses.at(block.at, PLAIN);
                        words.extend(text_of(block));
                    }
                    BlockKind::ToolUse { .. } | BlockKind::ToolResult { .. } => return Err(misplaced(block)),
                    BlockKind::Thinking { .. } | BlockKind::RedactedThinking { .. } => return Err(misplaced(block)),
                    BlockKind::Refusal(_) => return Err(misplaced(block)),
                    BlockKind::Foreign { .. } => return Err(foreign(block)),
                }
            }
            self.w.lit(&joined(&words));
            hoisted = content.iter().filter(|block| !is_text(block)).collect();
        }
        self.w.end_object();
        Ok(hoisted)
    }

    /// Writes content: a string where the provider wants one or one text is all there is, else parts. `mark`: the cache
    /// breakpoint after all of it.
    fn content(&mut self, blocks: &[&Block<'_>], mark: Option<Cache>) -> Result<(), Refusal> {
        let all_text = blocks.iter().all(|block| matches!(block.kind, BlockKind::Text(_)) || is_text_document(block));
        let marks =
            self.quirks.prompt_cache_breakpoint && (mark.is_some() || blocks.iter().any(|block| block.cache.is_some()));
        let whole = blocks.is_empty() || (!marks && (self.quirks.content_as_string || blocks.len() < 2));
        if all_text && whole {
            for block in blocks.iter().filter(|block| is_text_document(block)) {
                self.losses.at(block.at, PLAIN);
            }
            self.w.lit(&joined(&texts(blocks)));
            return Ok(());
        }
        self.w.array();
        for (block, left) in blocks.iter().zip((0..blocks.len()).rev()) {
            self.part(block, block.cache.or_else(|| mark.filter(|_| left == 0)))?;
        }
        self.w.end_array();
        Ok(())
    }

    fn part(&mut self, block: &Block<'_>, mark: Option<Cache>) -> Result<(), Refusal> {
        if let BlockKind::Document { source, context: Some(context), .. } = &block.kind
            && !matches!(source, Source::Text(_))
            && !context.is_blank()
        {
            self.w.object().key("type").word("text").key("text").lit(context).end_object();
        }
        self.w.object();
        match &block.kind {
            BlockKind::Text(text) => {
                self.w.key("type").word("text").key("text").lit(text);
            }
            BlockKind::Image(source) => {
                let url = self.image(source, block.at)?;
                self.w.key("type").word("image_url").key("image_url").object().key("url").lit(&url);
                if let Some(detail) = &block.detail {
                    self.w.key("detail").lit(detail);
                }
                self.w.end_object();
            }
            BlockKind::Document { source: Source::Text(_), .. } => {
                let text = text_of(block).unwrap_or_default();
                self.losses.at(block.at, PLAIN);
                self.w.key("type").word("text").key("text").lit(&text);
            }
            BlockKind::Document { source, title, .. } => {
                let data = self.document(source, block.at)?;
                let name = title.as_ref().filter(|title| !title.is_empty());
                let unnamed = JsonStr::quote("document.pdf");
                self.w.key("type").word("file").key("file").object();
                self.w.key("filename").lit(name.unwrap_or(&unnamed));
                self.w.key("file_data").lit(&data).end_object();
            }
            BlockKind::ToolUse { .. } | BlockKind::ToolResult { .. } => return Err(misplaced(block)),
            BlockKind::Thinking { .. } | BlockKind::RedactedThinking { .. } => return Err(misplaced(block)),
            BlockKind::Refusal(_) => return Err(misplaced(block)),
            BlockKind::Foreign { .. } => return Err(foreign(block)),
        }
        // OpenAI refuses the mark on images, whatever its schema says.
        if self.quirks.prompt_cache_breakpoint
            && let Some(cache) = mark.filter(|_| !matches!(block.kind, BlockKind::Image(_)))
        {
            self.w.key("prompt_cache_breakpoint").object().key("mode").word("explicit");
            // Theirs last half an hour or twelve.
            if cache == Cache::OneHour {
                self.w.key("ttl").word("12h");
            }
            self.w.end_object();
        }
        self.w.end_object();
        Ok(())
    }

    fn image<'s>(&self, source: &'s Source<'_>, at: usize) -> Result<JsonStr<'s>, Refusal> {
        if !self.target.capabilities.images {
            return Err(Refusal::at(at, "this model takes no images"));
        }
        match source {
            Source::Base64 { media_type, data } => data_url::write_image(media_type, data, at),
            Source::Url(url) if is_pdf(&url.decode()) => {
                Err(Refusal::at(at, "an image is no PDF: send it as a document, with its bytes"))
            }
            Source::Url(url) => Ok(url.borrow()),
            Source::Text(_) | Source::File(_) => {
                Err(Refusal::at(at, "a file kept by another vendor cannot be read here: send its content"))
            }
        }
    }

    fn document<'s>(&self, source: &'s Source<'_>, at: usize) -> Result<JsonStr<'s>, Refusal> {
        if !self.target.capabilities.pdf {
            return Err(Refusal::at(at, "this model takes no documents"));
        }
        match source {
            Source::Base64 { media_type, data } if media_type.is_empty() || media_type.is("application/pdf") => {
                data_url::write(&JsonStr::quote("application/pdf"), data, at)
            }
            Source::Base64 { media_type, .. } => {
                let kind = media_type.decode();
                Err(Refusal::at(at, format!("a document whose bytes are sent must be a PDF, not `{kind}`")))
            }
            Source::Url(_) => Err(Refusal::at(at, "this model takes no documents by URL: send their bytes")),
            Source::Text(text) => Ok(text.borrow()),
            Source::File(_) => {
                Err(Refusal::at(at, "a file kept by another vendor cannot be read here: send its content"))
            }
        }
    }

    fn assistant(&mut self, turn: &Turn<'_>) -> Result<(), Refusal> {
        let mut said = Said::default();
        for block in &turn.blocks {
            match &block.kind {
                BlockKind::Text(text) | BlockKind::Refusal(text) => {
                    if !said.calls.is_empty() && !text.is_empty() {
                        self.losses.at(block.at, "text after a call is told before it");
                    }
                    said.text.push(text);
                }
                BlockKind::Thinking { .. } | BlockKind::RedactedThinking { .. } => {
                    said.thoughts.extend(Thought::of(block));
                }
                BlockKind::ToolUse { id, name, input } => said.calls.push((id, name, input)),
                BlockKind::Image(_) | BlockKind::Document { .. } | BlockKind::ToolResult { .. } => {
                    return Err(misplaced(block));
                }
                BlockKind::Foreign { .. } => return Err(foreign(block)),
            }
        }
        let replay = replay(&said.thoughts, !said.calls.is_empty(), self.quirks, self.losses);
        if said.text.is_empty() && said.calls.is_empty() && replay.is_none() {
            self.losses.at(turn.at, "an assistant message without content is left out");
            return Ok(());
        }
        self.empty = false;
        self.w.object().key("role").word("assistant").key("content");
        if said.text.is_empty() && !said.calls.is_empty() && !self.quirks.empty_content {
            self.w.null();
        } else {
            self.w.lit(&said.text);
        }
        if let Some(replay) = replay {
            replay.write(self.w);
        }
        self.write_calls(&said);
        self.calls = !said.calls.is_empty();
        self.w.end_object();
        Ok(())
    }

    fn write_calls(&mut self, said: &Said<'_>) {
        if said.calls.is_empty() {
            return;
        }
        self.w.key("tool_calls").array();
        let takes = self.quirks.thought_signatures;
        // One signature stands for all calls of a turn. Where another model made them there is none to check.
        let mut unsigned = takes && said.calls.iter().all(|(id, ..)| names::unsealed(id).1.is_none());
        for (id, name, input) in &said.calls {
            let text = spelled(input);
            self.w.object();
            let (id, signature) = names::unsealed(id);
            self.w.key("id").lit(&names::tool_id(&id, self.quirks.tool_id));
            self.w.key("type").word("function");
            self.w.key("function").object();
            self.w.key("name").lit(&functions_out::tool_name(name));
            self.w.key("arguments");
            if text.is_blank() {
                self.w.str("{}")
            } else {
                self.w.lit(&text)
            };
            self.w.end_object();
            let unchecked = std::mem::take(&mut unsigned).then(|| JsonStr::quote(UNCHECKED));
            if let Some(signature) = signature.or(unchecked).filter(|_| takes) {
                self.w.key("extra_content").object().key("google").object();
                self.w.key("thought_signature").lit(&signature).end_object().end_object();
            }
            self.w.end_object();
        }
        self.w.end_array();
    }
}

/// What Google's documents tell to send for calls that Gemini did not make.
const UNCHECKED: &str = "skip_thought_signature_validator";

/// An assistant turn, sorted into the places the format has.
#[derive(Default)]
struct Said<'b> {
    /// Several texts are one text.
    text: JsonStr<'b>,
    thoughts: Vec<Thought<'b>>,
    calls: Vec<(&'b JsonStr<'b>, &'b JsonStr<'b>, &'b Args<'b>)>,
}

/// The call that a block answers.
fn answered<'b>(block: &'b Block<'_>) -> Option<&'b JsonStr<'b>> {
    if let BlockKind::ToolResult { id, .. } = &block.kind { Some(id) } else { None }
}

/// Whether there is anything in a block. An empty text is refused by some providers, and says nothing to any.
fn says_something(block: &Block<'_>) -> bool {
    !matches!(&block.kind, BlockKind::Text(text) if text.is_empty())
}

/// Whether a cache breakpoint stands where none can be written.
fn loses_marks(prompt: &Prompt<'_>, quirks: &Quirks) -> bool {
    let takes = quirks.prompt_cache_breakpoint;
    let is_lost = |block: &Block<'_>, role: Role| {
        let keeps = takes && role != Role::Assistant && !matches!(block.kind, BlockKind::Image(_));
        block.cache.is_some() && !keeps
    };
    let is_any_lost = |block: &Block<'_>, role: Role| {
        let inner = if let BlockKind::ToolResult { content, .. } = &block.kind { content.as_slice() } else { &[] };
        is_lost(block, role) || inner.iter().any(|block| is_lost(block, role))
    };
    let tools = prompt.tools.iter().any(|tool| matches!(tool, Tool::Function(function) if function.cache.is_some()));
    tools
        || prompt.system.iter().any(|block| is_any_lost(block, Role::System))
        || prompt.turns.iter().any(|turn| turn.blocks.iter().any(|block| is_any_lost(block, turn.role)))
}

/// Why an instruction is not what it was.
const USERS: &str = "written as the user's words: the model takes no system message here";

/// Why a document is not what it was.
const PLAIN: &str = "a document of text becomes plain text";

fn is_text_document(block: &Block<'_>) -> bool {
    matches!(&block.kind, BlockKind::Document { source: Source::Text(_), .. })
}

/// The text of a block that is one, or of a document: its title, what it is about, itself.
fn text_of<'b>(block: &'b Block<'_>) -> Option<JsonStr<'b>> {
    match &block.kind {
        BlockKind::Text(text) => Some(text.borrow()),
        BlockKind::Document { source: Source::Text(text), title, context } => {
            let head = [title, context].into_iter().flatten().map(JsonStr::borrow);
            let all: Vec<_> = head.chain([text.borrow()]).collect();
            Some(joined(&all).into_owned())
        }
        BlockKind::Image(_) | BlockKind::Document { .. } | BlockKind::ToolUse { .. } => None,
        BlockKind::ToolResult { .. } | BlockKind::Thinking { .. } | BlockKind::RedactedThinking { .. } => None,
        BlockKind::Refusal(_) | BlockKind::Foreign { .. } => None,
    }
}

fn texts<'b>(blocks: &[&'b Block<'_>]) -> Vec<JsonStr<'b>> {
    blocks.iter().filter_map(|block| text_of(block)).collect()
}

/// One text of several, with blank lines between them.
fn joined<'b>(texts: &[JsonStr<'b>]) -> JsonStr<'b> {
    let Some((first, rest)) = texts.split_first() else {
        return JsonStr::default();
    };
    let mut all = first.clone();
    for text in rest {
        all.push(&JsonStr::quote("\n\n"));
        all.push(text);
    }
    all
}

fn misplaced(block: &Block<'_>) -> Refusal {
    Refusal::at(block.at, "this block has no place in a message of this role")
}

fn foreign(block: &Block<'_>) -> Refusal {
    let kind = if let BlockKind::Foreign { kind, .. } = &block.kind { kind.decode() } else { "unknown".into() };
    Refusal::at(block.at, format!("content of type `{kind}` has no counterpart on this route"))
}
