//! Writes a stream of Messages events (CONVERSION 8.2).
//!
//! ```text
//! message_start ping (content_block_start content_block_delta* content_block_stop)* message_delta message_stop
//! ```
//!
//! Every frame has an `event:` line, because SDKs pass over those without. A block is begun with the first thing in
//! it: an empty text block would come back in the next request, where it is refused. One delta costs no allocation.

use crate::wire::event::{Delta, Event, Open, Stop, Usage};
use crate::wire::json::{Json, JsonStr, Writer};
use crate::wire::prompt::Args;
use crate::wire::{Format, Memory, StreamEncoder};

use super::names::Envelope;
use super::{fault, reply, usage};

#[derive(Debug)]
pub(super) struct Encoder {
    memory: Memory,
    block: Block,
    /// Index of the next block.
    next: u64,
    usage: Usage,
    stop: Option<Stop<'static>>,
    calls: bool,
    over: bool,
}

/// The open block.
#[derive(Debug)]
enum Block {
    None,
    Text {
        begun: bool,
    },
    Thinking {
        begun: bool,
        /// Fragments gathered: clients keep the last `signature_delta`, not their sum.
        signature: Option<JsonStr<'static>>,
        envelope: Box<Envelope>,
    },
    Tool {
        /// No fragment of the input yet.
        empty: bool,
    },
    /// Begun, and complete or Anthropic's own.
    Whole,
    /// Another format's own: it has no place here.
    Skipped,
}

impl Encoder {
    pub(super) fn new(memory: &Memory) -> Self {
        Self {
            memory: memory.clone(),
            block: Block::None,
            next: 0,
            usage: Usage::default(),
            stop: None,
            calls: false,
            over: false,
        }
    }
}

impl StreamEncoder for Encoder {
    fn event(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        if self.over {
            return;
        }
        match event {
            Event::Start { id, model, usage } => self.start(id.as_ref(), model.as_ref(), usage, out),
            Event::Open(open) => self.open(open, out),
            Event::Delta(delta) => self.delta(delta, out),
            Event::Close => self.close(out),
            Event::Usage(usage) => self.usage.update(usage),
            Event::Stop(stop) => {
                self.stop = Some(Stop {
                    reason: stop.reason,
                    sequence: stop.sequence.clone().map(JsonStr::into_owned),
                    explanation: stop.explanation.clone().map(JsonStr::into_owned),
                });
            }
            Event::End => self.end(out),
            Event::Fault(fault) => {
                self.over = true;
                fault::encode_event(fault, out);
            }
            Event::Ping => out.extend_from_slice(PING),
        }
    }
}

const PING: &[u8] = b"event: ping\ndata: {\"type\":\"ping\"}\n\n";

impl Encoder {
    fn start(&mut self, id: Option<&JsonStr<'_>>, model: Option<&JsonStr<'_>>, usage: &Usage, out: &mut Vec<u8>) {
        self.usage.update(usage);
        let memory = &self.memory;
        frame("message_start", out, |w| {
            w.key("message").object().key("id").lit(&reply::id(id, memory)).key("type").word("message");
            w.key("role").word("assistant").key("model").lit(&memory.model_name(model));
            w.key("content").array().end_array().key("stop_reason").null().key("stop_sequence").null().key("usage");
            usage::write(&usage::shown(usage, memory), w);
            w.end_object();
        });
        out.extend_from_slice(PING);
    }

    fn open(&mut self, open: &Open<'_>, out: &mut Vec<u8>) {
        self.block = match open {
            // There is one kind of words here; `stop_reason` tells what they are.
            Open::Text | Open::Refusal => Block::Text { begun: false },
            Open::Thinking => Block::Thinking { begun: false, signature: None, envelope: Box::new(Envelope::new()) },
            Open::RedactedThinking { data } => {
                begin(self.next, out, |w| {
                    w.object().key("type").word("redacted_thinking").key("data").lit(data).end_object();
                });
                Block::Whole
            }
            Open::ToolUse { name, .. } if self.memory.unwrap_tool.as_deref().is_some_and(|tool| name.is(tool)) => {
                Block::Text { begun: false }
            }
            Open::ToolUse { id, name } => {
                self.calls = true;
                let name = self.memory.tool_name(name);
                begin(self.next, out, |w| {
                    w.object().key("type").word("tool_use").key("id").lit(id).key("name").lit(&name);
                    w.key("input").object().end_object().end_object();
                });
                Block::Tool { empty: true }
            }
            Open::Foreign { from: Format::Anthropic, json, .. } => {
                begin(self.next, out, |w| {
                    w.json(json);
                });
                Block::Whole
            }
            Open::Foreign { .. } => Block::Skipped,
        };
    }

    fn delta(&mut self, delta: &Delta<'_>, out: &mut Vec<u8>) {
        let index = self.next;
        match (&mut self.block, delta) {
            (Block::Text { begun }, Delta::Text(text) | Delta::Args(Args::Text(text))) => {
                if !text.is_empty() {
                    begin_text(begun, index, out);
                    piece(index, "text_delta", "text", text, out);
                }
            }
            // The answer came as a tool's input: its JSON is the text.
            (Block::Text { begun }, Delta::Args(Args::Json(json))) => {
                begin_text(begun, index, out);
                piece(index, "text_delta", "text", &JsonStr::quote(json.as_str()), out);
            }
            (Block::Text { .. }, Delta::Citation(citation)) if !reply::is_native_citation(citation) => {}
            (Block::Text { begun }, Delta::Citation(citation)) => {
                begin_text(begun, index, out);
                more(index, out, |w| {
                    w.object().key("type").word("citations_delta").key("citation").json(citation).end_object();
                });
            }
            (Block::Thinking { begun, envelope, .. }, Delta::Thinking(text)) => {
                if !text.is_empty() {
                    envelope.update(text);
                    begin_thinking(begun, index, out);
                    if !self.memory.hide_thinking {
                        piece(index, "thinking_delta", "thinking", text, out);
                    }
                }
            }
            (Block::Thinking { signature, .. }, Delta::Signature(fragment)) => {
                signature.get_or_insert_default().push(fragment);
            }
            (Block::Tool { empty }, Delta::Args(args)) => {
                *empty = false;
                match args {
                    Args::Text(fragment) => piece(index, "input_json_delta", "partial_json", fragment, out),
                    Args::Json(json) => whole_input(index, json, out),
                }
            }
            (Block::Whole, Delta::Foreign(json)) => more(index, out, |w| {
                w.json(json);
            }),
            (Block::Skipped, Delta::Foreign(_)) => {}
            (block, delta) => debug_assert!(false, "{delta:?} in {block:?}"),
        }
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        let index = self.next;
        let written = match std::mem::replace(&mut self.block, Block::None) {
            Block::None | Block::Skipped => false,
            Block::Text { begun } => begun,
            Block::Whole => true,
            Block::Tool { empty } => {
                if empty {
                    piece(index, "input_json_delta", "partial_json", &JsonStr::default(), out);
                }
                true
            }
            Block::Thinking { mut begun, signature, envelope } => {
                if signature.is_some() {
                    begin_thinking(&mut begun, index, out);
                }
                if begun {
                    let signature = signature.unwrap_or_else(|| JsonStr::quoted(&envelope.finish()));
                    piece(index, "signature_delta", "signature", &signature, out);
                }
                begun
            }
        };
        if written {
            frame("content_block_stop", out, |w| {
                w.key("index").int(index);
            });
            self.next += 1;
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.over = true;
        frame("message_delta", out, |w| {
            w.key("delta").object();
            reply::ending(self.stop.as_ref(), self.calls, w);
            w.end_object().key("usage");
            usage::write_delta(&self.usage, w);
        });
        frame("message_stop", out, |_| {});
    }
}

/// Writes one event: its name twice, as clients want it, and the members after `type`.
fn frame(kind: &str, out: &mut Vec<u8>, members: impl FnOnce(&mut Writer<'_>)) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    let mut w = Writer::new(out);
    w.object().key("type").str(kind);
    members(&mut w);
    w.end_object();
    out.extend_from_slice(b"\n\n");
}

fn begin(index: u64, out: &mut Vec<u8>, block: impl FnOnce(&mut Writer<'_>)) {
    frame("content_block_start", out, |w| {
        w.key("index").int(index).key("content_block");
        block(w);
    });
}

fn begin_text(begun: &mut bool, index: u64, out: &mut Vec<u8>) {
    if !std::mem::replace(begun, true) {
        begin(index, out, |w| {
            w.raw(r#"{"type":"text","text":""}"#);
        });
    }
}

fn begin_thinking(begun: &mut bool, index: u64, out: &mut Vec<u8>) {
    if !std::mem::replace(begun, true) {
        begin(index, out, |w| {
            w.raw(r#"{"type":"thinking","thinking":"","signature":""}"#);
        });
    }
}

fn more(index: u64, out: &mut Vec<u8>, delta: impl FnOnce(&mut Writer<'_>)) {
    frame("content_block_delta", out, |w| {
        w.key("index").int(index).key("delta");
        delta(w);
    });
}

fn piece(index: u64, kind: &str, key: &str, text: &JsonStr<'_>, out: &mut Vec<u8>) {
    more(index, out, |w| {
        w.object().key("type").str(kind).key(key).lit(text).end_object();
    });
}

fn whole_input(index: u64, json: &Json<'_>, out: &mut Vec<u8>) {
    more(index, out, |w| {
        w.object().key("type").word("input_json_delta").key("partial_json").str(json.as_str()).end_object();
    });
}
