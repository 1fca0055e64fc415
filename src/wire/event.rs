//! The stream waist: what happens in an answer, one thing after another, whatever format it comes in.
//!
//! ```text
//! Start (Open Delta* Close)* Stop End     Usage and Ping anywhere after Start
//! … Fault                                 anywhere; nothing follows
//! ```
//!
//! Decoders emit this grammar for *any* bytes, encoders accept any of it. At most one block is open: OpenAI's
//! interleaved calls are put in order by its decoder, which holds the later call's fragments (bounded) until the
//! open one ends. That memory is needed on the reading side anyway, to tell calls without an index apart, and
//! so every encoder stays simple. A stream that ends before it said why ends in `Fault`, never in `End`.

use crate::wire::Format;
use crate::wire::fault::Fault;
use crate::wire::json::{Json, JsonStr};
use crate::wire::prompt::Args;

#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// The answer begins. What is not known yet is `None` or zero.
    Start {
        id: Option<JsonStr<'a>>,
        model: Option<JsonStr<'a>>,
        usage: Usage,
    },
    Open(Open<'a>),
    Delta(Delta<'a>),
    Close,
    /// Counted so far; the last one is the truth.
    Usage(Usage),
    /// Why the answer ended; once.
    Stop(Stop<'a>),
    End,
    /// The answer broke.
    Fault(Fault),
    /// The upstream is alive.
    Ping,
}

/// A block begins.
#[derive(Clone, Debug)]
pub enum Open<'a> {
    Text,
    /// The words of a refusal, where a format tells them apart from the text. Its deltas are [`Delta::Text`].
    Refusal,
    Thinking,
    RedactedThinking {
        data: JsonStr<'a>,
    },
    /// A call. `id` and `name` are never empty: a decoder makes up what is missing.
    ToolUse {
        id: JsonStr<'a>,
        name: JsonStr<'a>,
    },
    /// A block only its own format knows, as its format wrote it. Its deltas follow as [`Delta::Foreign`].
    Foreign {
        from: Format,
        kind: JsonStr<'a>,
        json: Json<'a>,
    },
}

/// More of the open block.
#[derive(Clone, Debug)]
pub enum Delta<'a> {
    Text(JsonStr<'a>),
    Thinking(JsonStr<'a>),
    Signature(JsonStr<'a>),
    /// Arguments of a call: fragments of text, or, from a whole reply, the JSON itself.
    Args(Args<'a>),
    /// A citation of the open text block, as its own format writes one.
    Citation(Json<'a>),
    Foreign(Json<'a>),
}

/// Why an answer ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stop<'a> {
    pub reason: Reason,
    /// The stop sequence that matched, if the upstream says so.
    pub sequence: Option<JsonStr<'a>>,
    /// What the model says about its refusal.
    pub explanation: Option<JsonStr<'a>>,
}

impl Stop<'_> {
    #[must_use]
    pub fn because(reason: Reason) -> Self {
        Self { reason, sequence: None, explanation: None }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reason {
    EndTurn,
    StopSequence,
    MaxTokens,
    ToolUse,
    Refusal,
    /// Anthropic: the server's own tools need another request to go on.
    PauseTurn,
    /// The context window is full.
    ContextWindow,
}

/// Tokens by kind. `input` excludes what the caches read or wrote; `output` includes `reasoning`.
/// `None`: the upstream did not say, which is not zero.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Usage {
    pub input: Option<u64>,
    pub cache_read: Option<u64>,
    pub cache_write: Option<u64>,
    /// The part of `cache_write` kept for an hour.
    pub cache_write_1h: Option<u64>,
    pub output: Option<u64>,
    pub reasoning: Option<u64>,
}

impl Usage {
    /// Takes over what a later count says, keeping what it does not mention.
    pub fn update(&mut self, later: &Self) {
        let take = |old: &mut Option<u64>, new: Option<u64>| *old = new.or(*old);
        take(&mut self.input, later.input);
        take(&mut self.cache_read, later.cache_read);
        take(&mut self.cache_write, later.cache_write);
        take(&mut self.cache_write_1h, later.cache_write_1h);
        take(&mut self.output, later.output);
        take(&mut self.reasoning, later.reasoning);
    }

    /// All that went in, caches included: what OpenAI calls `prompt_tokens`.
    #[must_use]
    pub fn input_total(&self) -> u64 {
        [self.input, self.cache_read, self.cache_write].into_iter().flatten().fold(0, u64::saturating_add)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Takes events as a decoder finds them. `'a` is how long what they borrow lives.
pub trait Sink<'a> {
    fn event(&mut self, event: Event<'a>);
}

impl<'a, F: FnMut(Event<'a>)> Sink<'a> for F {
    fn event(&mut self, event: Event<'a>) {
        self(event);
    }
}

/// Checks that events follow the grammar. Used by tests and fuzz targets, and by debug builds of the translator.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Grammar {
    #[default]
    Before,
    Between,
    /// In a block of this kind.
    Inside(Inside),
    Stopped,
    Over,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Inside {
    Text,
    Thinking,
    Redacted,
    Tool,
    Foreign,
}

impl Grammar {
    /// Steps over one event; what was wrong with it otherwise.
    pub fn step(&mut self, event: &Event<'_>) -> Result<(), &'static str> {
        let next = match (*self, event) {
            (Self::Over, _) => return Err("an event after the end"),
            (_, Event::Fault(_)) => Self::Over,
            (Self::Before, Event::Start { .. }) => Self::Between,
            (Self::Before, _) => return Err("an event before the start"),
            (_, Event::Start { .. }) => return Err("a second start"),
            (state, Event::Usage(_) | Event::Ping) => state,
            (Self::Between, Event::Open(open)) => Self::Inside(match open {
                Open::Text | Open::Refusal => Inside::Text,
                Open::Thinking => Inside::Thinking,
                Open::RedactedThinking { .. } => Inside::Redacted,
                Open::ToolUse { id, name } => {
                    if id.is_empty() || name.is_empty() {
                        return Err("a call without id or name");
                    }
                    Inside::Tool
                }
                Open::Foreign { .. } => Inside::Foreign,
            }),
            (Self::Inside(inside), Event::Delta(delta)) => {
                let fits = match delta {
                    Delta::Text(_) | Delta::Citation(_) => inside == Inside::Text,
                    Delta::Thinking(_) | Delta::Signature(_) => inside == Inside::Thinking,
                    Delta::Args(_) => inside == Inside::Tool,
                    Delta::Foreign(_) => inside == Inside::Foreign,
                };
                if !fits {
                    return Err("a delta that does not belong to its block");
                }
                Self::Inside(inside)
            }
            (Self::Inside(_), Event::Close) => Self::Between,
            (Self::Between, Event::Stop(_)) => Self::Stopped,
            (Self::Stopped, Event::End) => Self::Over,
            (_, Event::Open(_)) => return Err("a block opened out of place"),
            (_, Event::Delta(_)) => return Err("a delta outside a block"),
            (_, Event::Close) => return Err("a close outside a block"),
            (_, Event::Stop(_)) => return Err("a stop out of place"),
            (_, Event::End) => return Err("an end without a stop"),
        };
        *self = next;
        Ok(())
    }

    /// Whether the stream has ended, one way or the other.
    #[must_use]
    pub fn is_over(&self) -> bool {
        *self == Self::Over
    }
}
