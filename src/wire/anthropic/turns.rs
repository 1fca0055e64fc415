//! Writes the turns of a conversation (CONVERSION 3.2 to 3.5).
//!
//! What Anthropic holds every history to: a call is answered in the very next user message, answers first; no
//! message is empty; an instruction between turns stands right before an answer of the model, or at the end.

use std::collections::{HashMap, HashSet};

use crate::wire::Format;
use crate::wire::json::{JsonStr, Writer};
use crate::wire::loss::Refusal;
use crate::wire::prompt::{Block, BlockKind, Role, Turn};

use super::encode::{BLANK, Body};
use super::names::is_vendors;

/// Where the writing of turns stands.
#[derive(Default)]
struct Run<'p> {
    /// The role of the last message written.
    last: Option<Role>,
    /// Calls without an answer: id as sent, and the byte of the call.
    calls: Vec<(String, usize)>,
    /// Instructions that wait for their place.
    held: Vec<&'p Turn<'p>>,
}

impl<'p> Body<'p, '_> {
    pub(super) fn messages(&mut self, w: &mut Writer<'_>) -> Result<(), Refusal> {
        if self.prompt.turns.iter().all(|turn| turn.role == Role::System) {
            return Err(Refusal::field(
                self.prompt.path("messages", "messages"),
                "at least one user message is required",
            ));
        }
        let mut turns = self.prompt.turns.as_slice();
        while let Some((last, before)) = turns.split_last()
            && last.role != Role::User
            && is_hollow(last)
        {
            if last.role == Role::Assistant {
                self.losses.at(last.at, EMPTY);
            }
            turns = before;
        }
        let mut run = Run::default();
        let inline = self.target.capabilities.inline_system;
        w.key("messages").array();
        for (i, turn) in turns.iter().enumerate() {
            match turn.role {
                Role::System => {
                    run.held.push(turn);
                    self.instruct(&mut run, false, w)?;
                }
                Role::User => {
                    self.user_turn(turn, &mut run, w)?;
                    for held in run.held.iter().filter(|held| inline && !is_hollow(held)) {
                        self.losses.at(held.at, "moved behind the user's words: an answer has to follow it");
                    }
                    self.instruct(&mut run, false, w)?;
                }
                Role::Assistant if is_hollow(turn) => self.losses.at(turn.at, EMPTY),
                Role::Assistant => {
                    self.instruct(&mut run, true, w)?;
                    self.assistant_turn(turn, &mut run, i + 1 == turns.len(), w)?;
                }
            }
        }
        self.instruct(&mut run, true, w)?;
        if w.is_at_start() {
            return Err(Refusal::field(self.prompt.path("messages", "messages"), "there is nothing in them to send"));
        }
        w.end_array();
        unanswered(&run.calls, &HashMap::new())
    }

    /// Writes the instructions that wait, if this is a place for them. `before_answer`: the model speaks next.
    fn instruct(&mut self, run: &mut Run<'p>, before_answer: bool, w: &mut Writer<'_>) -> Result<(), Refusal> {
        // An answer must follow its call at once; nothing may come between.
        if run.held.is_empty() || !run.calls.is_empty() && !before_answer {
            return Ok(());
        }
        let inline = self.target.capabilities.inline_system;
        if inline && !before_answer {
            return Ok(());
        }
        unanswered(&run.calls, &HashMap::new())?;
        for turn in std::mem::take(&mut run.held) {
            if is_hollow(turn) {
                let is_empty = |block: &Block<'_>| matches!(&block.kind, BlockKind::Text(text) if text.is_empty());
                if !turn.blocks.iter().all(is_empty) {
                    self.losses.at(turn.at, BLANK);
                }
                continue;
            }
            if inline && matches!(run.last, Some(Role::User | Role::System)) {
                w.object().key("role").word("system").key("content");
                self.blocks(turn, &turn.blocks.iter().collect::<Vec<_>>(), w)?;
                w.end_object();
                run.last = Some(Role::System);
            } else {
                self.wrapped(turn, w)?;
                run.last = Some(Role::User);
            }
        }
        Ok(())
    }

    /// Writes an instruction as the user's words, marked: moving it to the top would change what it is about.
    fn wrapped(&mut self, turn: &Turn<'_>, w: &mut Writer<'_>) -> Result<(), Refusal> {
        let mut text = JsonStr::quoted("<system>\n");
        let mut first = true;
        for block in &turn.blocks {
            let BlockKind::Text(more) = &block.kind else {
                return Err(Refusal::at(block.at, "instructions can only be text"));
            };
            if more.is_blank() {
                continue;
            }
            if !std::mem::take(&mut first) {
                text.push(&JsonStr::quote("\n\n"));
            }
            text.push(more);
        }
        text.push(&JsonStr::quote("\n</system>"));
        self.losses.at(turn.at, "written as the user's words: the model takes no system message here");
        w.object().key("role").word("user").key("content").array();
        w.object().key("type").word("text").key("text").lit(&text);
        if let Some(block) = turn.blocks.iter().rev().find(|block| block.cache.is_some()) {
            self.cache(block.cache, block.at, w);
        }
        w.end_object().end_array().end_object();
        Ok(())
    }

    fn user_turn(&mut self, turn: &Turn<'_>, run: &mut Run<'p>, w: &mut Writer<'_>) -> Result<(), Refusal> {
        if is_hollow(turn) {
            return Err(Refusal::at(turn.at, "a user message must not be empty or only white space"));
        }
        let mut answers: HashMap<String, usize> = HashMap::new();
        for block in &turn.blocks {
            if let BlockKind::ToolResult { id, .. } = &block.kind {
                answers.insert(self.ids.sent(id).decode().into_owned(), block.at);
            }
        }
        unanswered(&run.calls, &answers)?;
        let calls: HashSet<&str> = run.calls.iter().map(|(id, _)| id.as_str()).collect();
        if let Some((id, at)) = answers.iter().find(|(id, _)| !calls.contains(id.as_str())) {
            let message = format!("unexpected tool result `{id}`: no call of the message before it has this id");
            return Err(Refusal::at(*at, message));
        }
        if let Some(block) = turn.blocks.iter().find(|block| is_assistants(block)) {
            return Err(Refusal::at(block.at, "only assistant messages may hold this content"));
        }
        let mut blocks = Vec::with_capacity(turn.blocks.len());
        for block in &turn.blocks {
            if let BlockKind::ToolResult { id, .. } = &block.kind
                && answers.get(self.ids.sent(id).decode().as_ref()).is_some_and(|last| *last != block.at)
            {
                self.losses.at(block.at, "a later result answers the same call");
            } else {
                blocks.push(block);
            }
        }
        w.object().key("role").word("user").key("content");
        self.blocks(turn, &blocks, w)?;
        w.end_object();
        run.calls.clear();
        run.last = Some(Role::User);
        Ok(())
    }

    fn assistant_turn(
        &mut self,
        turn: &Turn<'_>,
        run: &mut Run<'p>,
        is_last: bool,
        w: &mut Writer<'_>,
    ) -> Result<(), Refusal> {
        if is_last && !self.target.capabilities.prefill {
            let message = "this model does not support continuing an assistant message: end with a user message";
            return Err(Refusal::at(turn.at, message));
        }
        self.ids.turn(turn.blocks.iter().filter_map(called_id));
        for block in &turn.blocks {
            if let Some(id) = called_id(block) {
                run.calls.push((self.ids.sent(id).decode().into_owned(), block.at));
            } else if let BlockKind::ToolResult { .. } = block.kind {
                return Err(Refusal::at(block.at, "only user messages may hold tool results"));
            }
        }
        w.object().key("role").word("assistant").key("content");
        let mut blocks: Vec<&Block<'_>> = turn.blocks.iter().collect();
        let trimmed = if is_last { self.trimmed(&mut blocks) } else { None };
        blocks.extend(&trimmed);
        self.blocks(turn, &blocks, w)?;
        w.end_object();
        run.last = Some(Role::Assistant);
        Ok(())
    }

    /// Cuts the white space at the end of a message that the model is to continue: "final assistant content cannot end
    /// with trailing whitespace". Blank blocks go; a last one that has to be cut is taken out and returned, cut.
    fn trimmed(&mut self, blocks: &mut Vec<&Block<'_>>) -> Option<Block<'static>> {
        while let Some(last) = blocks.pop() {
            let BlockKind::Text(text) = &last.kind else {
                blocks.push(last);
                return None;
            };
            let text = text.decode();
            let cut = text.trim_end();
            if cut.len() == text.len() && !cut.is_empty() {
                blocks.push(last);
                return None;
            }
            if !text.is_empty() {
                self.losses.at(last.at, "white space at the end of the answer's beginning is cut");
            }
            if !cut.is_empty() {
                return Some(Block { cache: last.cache, ..Block::new(BlockKind::Text(JsonStr::quoted(cut)), last.at) });
            }
        }
        None
    }

    /// Writes a message's content: a string where it is one plain text, else blocks.
    fn blocks(&mut self, turn: &Turn<'_>, blocks: &[&Block<'_>], w: &mut Writer<'_>) -> Result<(), Refusal> {
        if let [only] = blocks
            && let BlockKind::Text(text) = &only.kind
            && only.cache.is_none()
            && turn.role != Role::System
        {
            w.lit(text);
            return Ok(());
        }
        w.array();
        for block in blocks {
            self.block(block, w)?;
        }
        w.end_array();
        Ok(())
    }

    /// Content that only its own format knows goes back into that format and nowhere else.
    pub(super) fn is_native(&self) -> bool {
        self.prompt.from == Format::Anthropic
    }
}

/// Why an assistant's message is left out.
const EMPTY: &str = "an empty assistant message says nothing";

/// Refuses a history that goes on although a call has no answer.
fn unanswered(calls: &[(String, usize)], answers: &HashMap<String, usize>) -> Result<(), Refusal> {
    match calls.iter().find(|(id, _)| !answers.contains_key(id)) {
        Some((id, at)) => Err(Refusal::at(*at, format!("tool call `{id}` has no result in the message after it"))),
        None => Ok(()),
    }
}

/// Whether nothing of a turn would be written.
pub(super) fn is_hollow(turn: &Turn<'_>) -> bool {
    turn.blocks.iter().all(|block| match &block.kind {
        BlockKind::Text(text) | BlockKind::Refusal(text) => text.is_blank(),
        BlockKind::Thinking { signature, .. } => !signature.as_ref().is_some_and(is_vendors),
        BlockKind::RedactedThinking { data } => !is_vendors(data),
        BlockKind::Foreign { .. } => false,
        BlockKind::Image(_) | BlockKind::Document { .. } | BlockKind::ToolUse { .. } | BlockKind::ToolResult { .. } => {
            false
        }
    })
}

fn called_id<'b>(block: &'b Block<'b>) -> Option<&'b JsonStr<'b>> {
    if let BlockKind::ToolUse { id, .. } = &block.kind { Some(id) } else { None }
}

fn is_assistants(block: &Block<'_>) -> bool {
    matches!(block.kind, BlockKind::ToolUse { .. } | BlockKind::Thinking { .. } | BlockKind::RedactedThinking { .. })
}
