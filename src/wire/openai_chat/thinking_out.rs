//! Writes what an assistant thought, for the providers that take it back (CONVERSION 5.4).

use crate::wire::caps::{Quirks, ReasoningField, ReasoningReplay};
use crate::wire::json::{JsonStr, Writer};
use crate::wire::loss::Losses;
use crate::wire::openai_chat::reply::{Detail, write_detail};
use crate::wire::prompt::{Block, BlockKind, ENVELOPE};

/// The thinking that goes back, and the field for it. What does not is a loss.
///
/// What another vendor sealed is that vendor's, and goes nowhere else; but a turn of calls without thinking is
/// refused where thinking must accompany them, so there it is better than none.
///
/// `calls`: the turn makes calls.
pub(super) fn replay<'b>(
    thoughts: &[Thought<'b>],
    calls: bool,
    quirks: &Quirks,
    losses: &mut Losses,
) -> Option<Replay<'b>> {
    let back = match quirks.reasoning_replay {
        ReasoningReplay::None => false,
        ReasoningReplay::ToolTurns => calls,
        ReasoningReplay::Always => true,
    };
    let field = if back { quirks.reasoning_field } else { ReasoningField::None };
    let mut text = JsonStr::default();
    let mut details = Vec::new();
    for thought in thoughts {
        let sealed = thought.signature.is_some() || thought.data.is_some();
        let why = match (field, thought.text) {
            (ReasoningField::None, _) => "this provider takes no thinking back here",
            (ReasoningField::ReasoningDetails, _) if sealed => {
                details.push(*thought);
                continue;
            }
            (ReasoningField::ReasoningDetails, _) => "thinking that nobody signed is not taken back",
            (_, None) => "redacted thinking means nothing to another vendor",
            (_, Some(_)) if sealed && !calls => "thinking that another vendor sealed stays with that vendor",
            (_, Some(more)) => {
                text.push(more);
                continue;
            }
        };
        losses.at(thought.at, why);
    }
    match field {
        ReasoningField::ReasoningDetails if !details.is_empty() => Some(Replay::Details(details)),
        ReasoningField::ReasoningContent if !text.is_empty() => {
            Some(Replay::Text("reasoning_content", text.into_owned()))
        }
        ReasoningField::Reasoning if !text.is_empty() => Some(Replay::Text("reasoning", text.into_owned())),
        ReasoningField::ReasoningDetails | ReasoningField::ReasoningContent => None,
        ReasoningField::Reasoning | ReasoningField::None => None,
    }
}

/// What of an assistant's thinking goes back.
pub(super) enum Replay<'b> {
    /// As one text, in this field.
    Text(&'static str, JsonStr<'static>),
    Details(Vec<Thought<'b>>),
}

/// Something an assistant thought.
#[derive(Clone, Copy)]
pub(super) struct Thought<'b> {
    at: usize,
    text: Option<&'b JsonStr<'b>>,
    /// Its vendor's.
    signature: Option<&'b JsonStr<'b>>,
    /// All there is of it where its vendor has sealed it.
    data: Option<&'b JsonStr<'b>>,
}

impl<'b> Thought<'b> {
    /// Reads a block, if it is one of thinking.
    pub(super) fn of(block: &'b Block<'_>) -> Option<Self> {
        let at = block.at;
        match &block.kind {
            BlockKind::Thinking { text, signature } => {
                let signature = signature.as_ref().filter(|s| !s.literal().starts_with(ENVELOPE));
                Some(Self { at, text: Some(text), signature, data: None })
            }
            BlockKind::RedactedThinking { data } => Some(Self { at, text: None, signature: None, data: Some(data) }),
            BlockKind::Text(_) | BlockKind::Image(_) | BlockKind::Document { .. } | BlockKind::Refusal(_) => None,
            BlockKind::ToolUse { .. } | BlockKind::ToolResult { .. } | BlockKind::Foreign { .. } => None,
        }
    }
}

impl Replay<'_> {
    pub(super) fn write(&self, w: &mut Writer<'_>) {
        match self {
            Self::Text(field, text) => {
                w.key(field).lit(text);
            }
            Self::Details(thoughts) => {
                w.key("reasoning_details").array();
                for (Thought { text, signature, data, .. }, index) in thoughts.iter().copied().zip(0..) {
                    write_detail(&Detail { index, text, signature, data }, w);
                }
                w.end_array();
            }
        }
    }
}
