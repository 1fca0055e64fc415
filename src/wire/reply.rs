//! A whole answer is the fold of its events, so JSON and SSE share one mapping and cannot disagree.

use crate::wire::Format;
use crate::wire::event::{Delta, Event, Open, Sink, Stop, Usage};
use crate::wire::fault::Fault;
use crate::wire::json::{Json, JsonStr};
use crate::wire::prompt::Args;

/// One whole answer.
#[derive(Clone, Debug, Default)]
pub struct Reply<'a> {
    pub id: Option<JsonStr<'a>>,
    /// The model as the upstream names it.
    pub model: Option<JsonStr<'a>>,
    pub blocks: Vec<ReplyBlock<'a>>,
    pub usage: Usage,
    pub stop: Option<Stop<'a>>,
    /// The answer broke, or was an error all along.
    pub fault: Option<Fault>,
}

#[derive(Clone, Debug)]
pub enum ReplyBlock<'a> {
    Text {
        text: JsonStr<'a>,
        citations: Vec<Json<'a>>,
    },
    Refusal {
        text: JsonStr<'a>,
    },
    Thinking {
        text: JsonStr<'a>,
        signature: Option<JsonStr<'a>>,
    },
    RedactedThinking {
        data: JsonStr<'a>,
    },
    ToolUse {
        id: JsonStr<'a>,
        name: JsonStr<'a>,
        args: Args<'a>,
    },
    /// As it was opened, and what was added to it since: only its own format knows how.
    Foreign {
        from: Format,
        kind: JsonStr<'a>,
        json: Json<'a>,
        more: Vec<Json<'a>>,
    },
}

/// Most blocks of an answer. One that is empty has two bytes, and takes a hundred times as much here.
const BLOCKS_MAX: usize = 65_536;

impl<'a> Sink<'a> for Reply<'a> {
    fn event(&mut self, event: Event<'a>) {
        match event {
            Event::Start { id, model, usage } => {
                self.id = id;
                self.model = model;
                self.usage.update(&usage);
            }
            Event::Open(_) if BLOCKS_MAX <= self.blocks.len() => {
                self.fault = Some(Fault::garbage(format!("the upstream's answer has more than {BLOCKS_MAX} blocks")));
            }
            Event::Open(open) => self.blocks.push(match open {
                Open::Text => ReplyBlock::Text { text: JsonStr::default(), citations: Vec::new() },
                Open::Refusal => ReplyBlock::Refusal { text: JsonStr::default() },
                Open::Thinking => ReplyBlock::Thinking { text: JsonStr::default(), signature: None },
                Open::RedactedThinking { data } => ReplyBlock::RedactedThinking { data },
                Open::ToolUse { id, name } => ReplyBlock::ToolUse { id, name, args: Args::Text(JsonStr::default()) },
                Open::Foreign { from, kind, json } => ReplyBlock::Foreign { from, kind, json, more: Vec::new() },
            }),
            Event::Delta(delta) => {
                if let Some(block) = self.blocks.last_mut().filter(|_| self.fault.is_none()) {
                    block.add(delta);
                }
            }
            Event::Usage(usage) => self.usage.update(&usage),
            Event::Stop(stop) => self.stop = Some(stop),
            Event::Fault(fault) => self.fault = Some(fault),
            Event::Close | Event::End | Event::Ping => {}
        }
    }
}

impl<'a> ReplyBlock<'a> {
    /// Lengthens the block. What does not belong to it the grammar has ruled out.
    fn add(&mut self, delta: Delta<'a>) {
        match (self, delta) {
            (Self::Text { text, .. } | Self::Refusal { text }, Delta::Text(more))
            | (Self::Thinking { text, .. }, Delta::Thinking(more)) => join(text, more),
            (Self::Text { citations, .. }, Delta::Citation(citation)) => citations.push(citation),
            (Self::Thinking { signature, .. }, Delta::Signature(more)) => match signature {
                Some(whole) => join(whole, more),
                None => *signature = Some(more),
            },
            (Self::ToolUse { args, .. }, Delta::Args(more)) => match (args, more) {
                (Args::Text(whole), Args::Text(more)) => join(whole, more),
                (args, more) => *args = more,
            },
            (Self::Foreign { more, .. }, Delta::Foreign(delta)) => more.push(delta),
            (block, delta) => debug_assert!(false, "{delta:?} in {block:?}"),
        }
    }
}

/// The first piece is taken as it is; only from the second on is text copied.
pub(in crate::wire) fn join<'a>(whole: &mut JsonStr<'a>, more: JsonStr<'a>) {
    if whole.is_empty() {
        *whole = more;
    } else {
        whole.push(&more);
    }
}
