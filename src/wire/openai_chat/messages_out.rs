//! Writes turns as messages (CONVERSION 10.1).
//!
//! One user turn may become several messages: each tool's answer is its own, and what a tool message cannot hold (an
//! image) follows in the user message after the whole run of them.

use crate::wire::Target;
use crate::wire::caps::{Quirks, ReasoningField, ReasoningReplay, SystemRole};
use crate::wire::json::{JsonStr, Writer};
use crate::wire::loss::{Losses, Refusal};
use crate::wire::openai_chat::reply::spelled;
use crate::wire::openai_chat::{names, request_out};
use crate::wire::prompt::{Args, Block, BlockKind, Prompt, Role, Source, Turn};

/// Writes the `messages` of a request.
pub(super) fn encode(
    prompt: &Prompt<'_>,
    target: &Target<'_>,
    w: &mut Writer<'_>,
    losses: &mut Losses,
) -> Result<(), Refusal> {
    let system = instructions(prompt, losses);
    let mut history = History { target, quirks: target.quirks, w, losses, folded: Vec::new() };
    history.w.key("messages").array();
    match target.quirks.system_role {
        _ if system.is_empty() => {}
        SystemRole::System => history.message("system", &system)?,
        SystemRole::Developer => history.message("developer", &system)?,
        SystemRole::User => history.folded = system,
    }
    for (turn, is_last) in prompt.turns.iter().zip((0..prompt.turns.len()).rev().map(|left| left == 0)) {
        match turn.role {
            Role::System => history.inline_system(turn)?,
            Role::User => history.user(turn)?,
            Role::Assistant if is_last && !target.capabilities.prefill => {
                return Err(Refusal::at(turn.at, "this model does not continue an assistant message"));
            }
            Role::Assistant => history.assistant(turn)?,
        }
    }
    let rest = std::mem::take(&mut history.folded);
    if !rest.is_empty() {
        history.message("user", &rest)?;
    }
    history.w.end_array();
    Ok(())
}

/// The instructions that are meant for the model.
fn instructions<'p>(prompt: &'p Prompt<'_>, losses: &mut Losses) -> Vec<&'p Block<'p>> {
    let mut system = Vec::new();
    for block in &prompt.system {
        let BlockKind::Text(text) = &block.kind else {
            system.push(block);
            continue;
        };
        if text.literal().trim_start().starts_with(BILLING) {
            // It changes with every request, so the provider's cache would never be hit; and it is no instruction.
            losses.at(block.at, "Claude Code's billing line means nothing to this provider and would spoil its cache");
        } else if !text.is_blank() {
            system.push(block);
        }
    }
    system
}

/// How Claude Code's first system block begins.
const BILLING: &str = "x-anthropic-billing-header:";

struct History<'t, 'w, 'o, 'p> {
    target: &'t Target<'t>,
    quirks: &'t Quirks,
    w: &'w mut Writer<'o>,
    losses: &'w mut Losses,
    /// Instructions that wait for the first user message, for models that know no other role.
    folded: Vec<&'p Block<'p>>,
}

impl<'p> History<'_, '_, '_, 'p> {
    /// Writes a message of these blocks.
    fn message(&mut self, role: &str, blocks: &[&Block<'_>]) -> Result<(), Refusal> {
        self.w.object().key("role").str(role).key("content");
        self.content(blocks)?;
        self.w.end_object();
        Ok(())
    }

    /// A system message between turns; where the model takes none, a user message that says what it is.
    fn inline_system(&mut self, turn: &Turn<'_>) -> Result<(), Refusal> {
        let blocks: Vec<&Block<'_>> = turn.blocks.iter().collect();
        let role = match (self.target.capabilities.inline_system, self.quirks.system_role) {
            (true, SystemRole::System) => "system",
            (true, SystemRole::Developer) => "developer",
            (false, _) | (true, SystemRole::User) => {
                let mut text = JsonStr::quoted("<system>");
                text.push(&joined(&texts(&blocks)));
                text.push(&JsonStr::quote("</system>"));
                self.w.object().key("role").str("user").key("content").lit(&text).end_object();
                return Ok(());
            }
        };
        self.message(role, &blocks)
    }

    fn user(&mut self, turn: &'p Turn<'p>) -> Result<(), Refusal> {
        let (answers, own): (Vec<&Block<'_>>, Vec<&Block<'_>>) =
            turn.blocks.iter().partition(|block| matches!(block.kind, BlockKind::ToolResult { .. }));
        let mut rest = std::mem::take(&mut self.folded);
        for answer in answers {
            rest.extend(self.answer(answer)?);
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
        self.w.object().key("role").str("tool");
        self.w.key("tool_call_id").lit(&names::tool_id(id, self.quirks.tool_id));
        self.w.key("content");
        let all: Vec<&Block<'_>> = content.iter().collect();
        let is_text = |block: &&Block<'_>| matches!(&block.kind, BlockKind::Text(_)) || is_text_document(block);
        let mut hoisted = Vec::new();
        if all.iter().all(is_text) || self.quirks.tool_result_images {
            self.content(&all)?;
        } else {
            let mut words = Vec::new();
            for block in &all {
                match &block.kind {
                    BlockKind::Image(_) => words.push(JsonStr::quote("[image attached below]")),
                    BlockKind::Document { .. } if !is_text_document(block) => {
                        words.push(JsonStr::quote("[document attached below]"));
                    }
                    BlockKind::Text(_) | BlockKind::Document { .. } => words.extend(text_of(block)),
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

    /// Writes content: a string where the provider wants one or one text is all there is, else parts.
    fn content(&mut self, blocks: &[&Block<'_>]) -> Result<(), Refusal> {
        let all_text = blocks.iter().all(|block| matches!(block.kind, BlockKind::Text(_)) || is_text_document(block));
        let marks = self.quirks.prompt_cache_breakpoint && blocks.iter().any(|block| block.cache.is_some());
        let whole = self.quirks.content_as_string || (blocks.len() < 2 && !marks);
        if all_text && whole {
            self.w.lit(&joined(&texts(blocks)));
            return Ok(());
        }
        self.w.array();
        for block in blocks {
            self.part(block)?;
        }
        self.w.end_array();
        Ok(())
    }

    fn part(&mut self, block: &Block<'_>) -> Result<(), Refusal> {
        if let BlockKind::Document { source, context: Some(context), .. } = &block.kind
            && !matches!(source, Source::Text(_))
            && !context.is_blank()
        {
            self.w.object().key("type").str("text").key("text").lit(context).end_object();
        }
        self.w.object();
        match &block.kind {
            BlockKind::Text(text) => {
                self.w.key("type").str("text").key("text").lit(text);
            }
            BlockKind::Image(source) => {
                let url = self.image(source, block.at)?;
                self.w.key("type").str("image_url").key("image_url").object().key("url").lit(&url).end_object();
            }
            BlockKind::Document { source: Source::Text(_), .. } => {
                let text = text_of(block).unwrap_or_default();
                self.w.key("type").str("text").key("text").lit(&text);
            }
            BlockKind::Document { source, title, .. } => {
                let data = self.document(source, block.at)?;
                let name = title.as_ref().filter(|title| !title.is_empty());
                let unnamed = JsonStr::quote("document.pdf");
                self.w.key("type").str("file").key("file").object();
                self.w.key("filename").lit(name.unwrap_or(&unnamed));
                self.w.key("file_data").lit(&data).end_object();
            }
            BlockKind::ToolUse { .. } | BlockKind::ToolResult { .. } => return Err(misplaced(block)),
            BlockKind::Thinking { .. } | BlockKind::RedactedThinking { .. } => return Err(misplaced(block)),
            BlockKind::Refusal(_) => return Err(misplaced(block)),
            BlockKind::Foreign { .. } => return Err(foreign(block)),
        }
        // OpenAI refuses the mark on images, whatever its schema says.
        if self.quirks.prompt_cache_breakpoint && block.cache.is_some() && !matches!(block.kind, BlockKind::Image(_)) {
            self.w.key("prompt_cache_breakpoint").object().key("mode").str("explicit").end_object();
        }
        self.w.end_object();
        Ok(())
    }

    fn image<'s>(&self, source: &'s Source<'_>, at: usize) -> Result<JsonStr<'s>, Refusal> {
        if !self.target.capabilities.images {
            return Err(Refusal::at(at, "this model takes no images"));
        }
        match source {
            Source::Base64 { media_type, data } => Ok(data_url(media_type, data)),
            Source::Url(url) => Ok(url.borrow()),
            Source::Text(_) | Source::File(_) => {
                Err(Refusal::at(at, "a file kept by another vendor cannot be read by this model: send its bytes"))
            }
        }
    }

    fn document<'s>(&self, source: &'s Source<'_>, at: usize) -> Result<JsonStr<'s>, Refusal> {
        if !self.target.capabilities.pdf {
            return Err(Refusal::at(at, "this model takes no documents"));
        }
        match source {
            Source::Base64 { media_type, data } => Ok(data_url(media_type, data)),
            Source::Url(_) => Err(Refusal::at(at, "this model takes no documents by URL: send their bytes")),
            Source::Text(text) => Ok(text.borrow()),
            Source::File(_) => {
                Err(Refusal::at(at, "a file kept by another vendor cannot be read by this model: send its bytes"))
            }
        }
    }

    fn assistant(&mut self, turn: &Turn<'_>) -> Result<(), Refusal> {
        let mut said = Said::default();
        for block in &turn.blocks {
            match &block.kind {
                BlockKind::Text(text) | BlockKind::Refusal(text) => said.text.push(text),
                BlockKind::Thinking { text, .. } => said.thoughts.push((block.at, text)),
                BlockKind::ToolUse { id, name, input } => said.calls.push((id, name, input)),
                BlockKind::RedactedThinking { .. } => {
                    self.losses.at(block.at, "redacted thinking means nothing to another vendor");
                }
                BlockKind::Image(_) | BlockKind::Document { .. } | BlockKind::ToolResult { .. } => {
                    return Err(misplaced(block));
                }
                BlockKind::Foreign { .. } => return Err(foreign(block)),
            }
        }
        let replay = self.replay(&said);
        if said.text.is_empty() && said.calls.is_empty() && replay.is_none() {
            self.losses.at(turn.at, "an assistant message without content is left out");
            return Ok(());
        }
        self.w.object().key("role").str("assistant").key("content");
        if said.text.is_empty() && !said.calls.is_empty() && !self.quirks.empty_content {
            self.w.null();
        } else {
            self.w.lit(&said.text);
        }
        if let Some((field, text)) = replay {
            self.w.key(field).lit(&text);
        }
        self.calls(&said);
        self.w.end_object();
        Ok(())
    }

    /// The thinking that goes back, and the field for it. What does not is a loss.
    fn replay(&mut self, said: &Said<'_>) -> Option<(&'static str, JsonStr<'static>)> {
        let field = match self.quirks.reasoning_field {
            ReasoningField::ReasoningContent => Some("reasoning_content"),
            ReasoningField::Reasoning => Some("reasoning"),
            ReasoningField::None => None,
        };
        let field = field.filter(|_| match self.quirks.reasoning_replay {
            ReasoningReplay::None => false,
            ReasoningReplay::ToolTurns => !said.calls.is_empty(),
            ReasoningReplay::Always => true,
        });
        let mut text = JsonStr::default();
        for (at, thought) in &said.thoughts {
            match field {
                Some(_) => text.push(thought),
                None => self.losses.at(*at, "this provider takes no thinking back"),
            }
        }
        field.map(|field| (field, text.into_owned())).filter(|(_, text)| !text.is_empty())
    }

    fn calls(&mut self, said: &Said<'_>) {
        if said.calls.is_empty() {
            return;
        }
        self.w.key("tool_calls").array();
        for (id, name, input) in &said.calls {
            let text = spelled(input);
            self.w.object();
            self.w.key("id").lit(&names::tool_id(id, self.quirks.tool_id));
            self.w.key("type").str("function");
            self.w.key("function").object();
            self.w.key("name").lit(&request_out::tool_name(name));
            self.w.key("arguments");
            if text.is_blank() {
                self.w.str("{}")
            } else {
                self.w.lit(&text)
            };
            self.w.end_object().end_object();
        }
        self.w.end_array();
    }
}

/// An assistant turn, sorted into the places the format has.
#[derive(Default)]
struct Said<'b> {
    /// Several texts are one text.
    text: JsonStr<'b>,
    thoughts: Vec<(usize, &'b JsonStr<'b>)>,
    calls: Vec<(&'b JsonStr<'b>, &'b JsonStr<'b>, &'b Args<'b>)>,
}

fn data_url(media_type: &JsonStr<'_>, data: &JsonStr<'_>) -> JsonStr<'static> {
    let mut url = JsonStr::quoted("data:");
    url.push(media_type);
    url.push(&JsonStr::quote(";base64,"));
    url.push(data);
    url
}

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
    Refusal::at(block.at, format!("content of type `{kind}` cannot be carried to this model"))
}
