//! Streams: chunks read into events (CONVERSION 8.2), events written as chunks (8.3).

use crate::wire::event::{Delta, Event, Open, Reason, Sink, Stop, Usage};
use crate::wire::fault::Fault;
use crate::wire::json::{Cursor, JsonError, JsonStr, Writer};
use crate::wire::openai_annotations::{self, Annotation, Style, chars};
use crate::wire::openai_chat::answer::Answer;
use crate::wire::openai_chat::body::{self, Body, Choice};
use crate::wire::openai_chat::reply::{Detail, REFUSED, finish_reason, is_unwrapped, spelled, write_detail};
use crate::wire::openai_chat::{fault, names, usage};
use crate::wire::prompt::Args;
use crate::wire::{Memory, StreamDecoder, StreamEncoder};

/// Reads a stream of chunks.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    answer: Answer,
}

impl StreamDecoder for Decoder {
    fn frame<'a>(&mut self, name: Option<&[u8]>, data: &'a str, sink: &mut dyn Sink<'a>) {
        if self.answer.is_over() {
            return;
        }
        match data.trim() {
            // A keep-alive.
            "" => {}
            "[DONE]" => self.done(sink),
            text if name == Some(b"error") => self.answer.fault(Fault::read_event(text), sink),
            text => {
                if let Err(error) = self.chunk(text, sink) {
                    let fault = Fault::garbage(format!("the upstream's stream cannot be read: {error}"));
                    self.answer.fault(fault, sink);
                }
            }
        }
    }

    fn finish(&mut self, sink: &mut dyn Sink<'static>) {
        if self.answer.has_finished() {
            self.answer.end(sink);
        } else {
            self.answer.fault(Fault::garbage("the upstream's stream broke off before its answer was complete"), sink);
        }
    }

    fn is_complete(&self) -> bool {
        self.answer.has_finished()
    }
}

impl Decoder {
    /// The mark of a complete answer, also where no reason was given for its end.
    fn done(&mut self, sink: &mut dyn Sink<'_>) {
        if self.answer.has_started() {
            self.answer.end(sink);
        } else {
            self.answer.fault(Fault::garbage("the upstream's stream is empty"), sink);
        }
    }

    fn chunk<'a>(&mut self, text: &'a str, sink: &mut dyn Sink<'a>) -> Result<(), JsonError> {
        let body = Body::read(text)?;
        if body.is_error {
            self.answer.fault(Fault::read_event(text), sink);
            return Ok(());
        }
        let id = body.id.filter(|id| !id.is_empty());
        // Azure begins with a chunk that says nothing at all; the next one has the names.
        if id.is_none() && body.choices.is_none() && body.usage.is_none() {
            return Ok(());
        }
        self.answer.start(id, body.model.filter(|model| !model.is_empty()), body.created, sink);
        if let Some(choices) = body.choices {
            self.choices(choices, sink)?;
        }
        if let Some(usage) = body.usage {
            self.answer.usage(usage, sink);
        }
        Ok(())
    }

    fn choices<'a>(&mut self, mut choices: Cursor<'a>, sink: &mut dyn Sink<'a>) -> Result<(), JsonError> {
        choices.array()?;
        while choices.item()? {
            let choice = Choice::read(&mut choices)?;
            // One answer was asked for.
            if choice.index != 0 {
                continue;
            }
            if let Some(fault) = choice.fault() {
                self.answer.fault(fault, sink);
                return Ok(());
            }
            // Perplexity repeats the whole message beside the delta.
            let message = choice.message.filter(|_| choice.delta.is_none() && self.answer.is_blank());
            if let Some(delta) = choice.delta.or(message) {
                body::message(delta, &mut self.answer, sink)?;
            }
            self.answer.finished(&choice.finish.unwrap_or_default(), choice.sequence, sink);
        }
        Ok(())
    }
}

/// Writes a stream of chunks.
#[derive(Debug)]
pub(super) struct Encoder {
    memory: Memory,
    /// All of a chunk before its delta: id, date and model are the same in each.
    before: Vec<u8>,
    /// All of a chunk after its delta.
    after: &'static [u8],
    block: Block,
    /// Calls told so far: their index counts nothing else.
    calls: u64,
    /// Thinking blocks told so far.
    thoughts: u64,
    /// Characters of text told so far, and where the open block began.
    chars: u64,
    block_from: u64,
    citations: Vec<Annotation>,
    /// The open thought's signature. It may come in pieces, and a reader takes each it is told for the end of one thought.
    seal: Option<JsonStr<'static>>,
    /// The words of a refusal have been told.
    refused: bool,
    usage: Usage,
    stop: Option<Stop<'static>>,
}

/// What the open block is to this client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Block {
    Text,
    Refusal,
    /// Thinking; whether any of it has been told.
    Thinking {
        told: bool,
    },
    /// A call; whether any of its arguments have been told.
    Call {
        has_args: bool,
    },
    /// A call whose arguments are the answer's text.
    Unwrapped,
    /// Nothing the client is shown.
    Silent,
}

impl Encoder {
    pub(super) fn new(memory: &Memory) -> Self {
        let after: &[u8] = match memory.include_usage {
            true => b",\"finish_reason\":null}],\"usage\":null}\n\n",
            false => b",\"finish_reason\":null}]}\n\n",
        };
        Self {
            memory: memory.clone(),
            before: Vec::new(),
            after,
            block: Block::Silent,
            calls: 0,
            thoughts: 0,
            chars: 0,
            block_from: 0,
            citations: Vec::new(),
            seal: None,
            refused: false,
            usage: Usage::default(),
            stop: None,
        }
    }

    fn start(&mut self, id: Option<&JsonStr<'_>>, model: Option<&JsonStr<'_>>) {
        self.before.extend_from_slice(b"data: ");
        let mut w = Writer::new(&mut self.before);
        w.object();
        w.key("id").str(&names::reply_id(id, self.memory.seed));
        w.key("object").word("chat.completion.chunk");
        w.key("created").int(self.memory.created);
        w.key("model").lit(&self.memory.model_name(model));
        w.key("choices");
    }

    /// Writes one chunk around a delta.
    fn chunk(&self, out: &mut Vec<u8>, delta: impl FnOnce(&mut Writer<'_>)) {
        out.extend_from_slice(&self.before);
        out.extend_from_slice(b"[{\"index\":0,\"delta\":");
        let mut w = Writer::new(out);
        w.object();
        delta(&mut w);
        w.end_object();
        out.extend_from_slice(self.after);
    }

    fn open(&mut self, open: &Open<'_>, out: &mut Vec<u8>) {
        self.block = match open {
            Open::Text => {
                self.block_from = self.chars;
                Block::Text
            }
            Open::Refusal => Block::Refusal,
            Open::Thinking | Open::RedactedThinking { .. } if self.memory.hide_thinking => Block::Silent,
            Open::RedactedThinking { data } if data.is_empty() => Block::Silent,
            Open::Thinking => Block::Thinking { told: false },
            Open::RedactedThinking { data } => {
                let detail = Detail { index: self.thoughts, text: None, signature: None, data: Some(data) };
                self.detail(None, &detail, out);
                Block::Thinking { told: true }
            }
            Open::ToolUse { name, .. } if is_unwrapped(name, &self.memory) => Block::Unwrapped,
            Open::ToolUse { id, name } => self.open_call(id, name, out),
            // Server tools have been run where they came from; a client would run them again.
            Open::Foreign { .. } => Block::Silent,
        };
    }

    fn open_call(&mut self, id: &JsonStr<'_>, name: &JsonStr<'_>, out: &mut Vec<u8>) -> Block {
        let name = self.memory.tool_name(name);
        if self.memory.legacy_functions {
            // The old form has room for one call, and the request asked for no more.
            if self.calls != 0 {
                return Block::Silent;
            }
            self.chunk(out, |w| {
                w.key("function_call").object().key("name").lit(&name).key("arguments").word("").end_object();
            });
        } else {
            self.chunk(out, |w| {
                w.key("tool_calls").array().object();
                w.key("index").int(self.calls);
                w.key("id").lit(id);
                w.key("type").word("function");
                w.key("function").object().key("name").lit(&name).key("arguments").word("").end_object();
                w.end_object().end_array();
            });
        }
        self.calls += 1;
        Block::Call { has_args: false }
    }

    fn delta(&mut self, delta: &Delta<'_>, out: &mut Vec<u8>) {
        match (self.block, delta) {
            (Block::Text, Delta::Text(text)) => self.text(text, out),
            (Block::Refusal, Delta::Text(words)) => self.refusal(words, out),
            (Block::Text, Delta::Citation(citation)) => {
                self.citations.extend(Annotation::read(citation, Style::Nested, self.block_from));
            }
            (Block::Thinking { .. }, Delta::Thinking(text)) if !text.is_empty() => {
                self.block = Block::Thinking { told: true };
                let detail = Detail { index: self.thoughts, text: Some(text), signature: None, data: None };
                self.detail(Some(text), &detail, out);
            }
            (Block::Thinking { .. }, Delta::Signature(signature)) => {
                self.seal.get_or_insert_default().push(signature);
            }
            (Block::Call { .. }, Delta::Args(args)) => self.args(args, out),
            (Block::Unwrapped, Delta::Args(args)) => self.text(&spelled(args), out),
            // What the client is not shown, and what the grammar rules out.
            (_, Delta::Text(_) | Delta::Thinking(_) | Delta::Signature(_) | Delta::Args(_)) => {}
            (_, Delta::Citation(_) | Delta::Foreign(_)) => {}
        }
    }

    fn text(&mut self, text: &JsonStr<'_>, out: &mut Vec<u8>) {
        if text.is_empty() {
            return;
        }
        self.chars += chars(text);
        self.chunk(out, |w| {
            w.key("content").lit(text);
        });
    }

    fn refusal(&mut self, words: &JsonStr<'_>, out: &mut Vec<u8>) {
        self.refused = true;
        self.chunk(out, |w| {
            w.key("refusal").lit(words);
        });
    }

    /// Thinking is told twice, as OpenRouter does: as text for those who show it, and by block for those who send
    /// it back with its signature.
    fn detail(&self, text: Option<&JsonStr<'_>>, detail: &Detail<'_>, out: &mut Vec<u8>) {
        self.chunk(out, |w| {
            if let Some(text) = text {
                w.key("reasoning_content").lit(text);
            }
            w.key("reasoning_details").array();
            write_detail(detail, w);
            w.end_array();
        });
    }

    fn args(&mut self, args: &Args<'_>, out: &mut Vec<u8>) {
        let text = spelled(args);
        if text.is_empty() {
            return;
        }
        self.block = Block::Call { has_args: true };
        self.arguments(&text, out);
    }

    fn arguments(&self, text: &JsonStr<'_>, out: &mut Vec<u8>) {
        let legacy = self.memory.legacy_functions;
        let index = self.calls.saturating_sub(1);
        self.chunk(out, |w| {
            if legacy {
                w.key("function_call").object().key("arguments").lit(text).end_object();
            } else {
                w.key("tool_calls").array().object().key("index").int(index);
                w.key("function").object().key("arguments").lit(text).end_object();
                w.end_object().end_array();
            }
        });
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        match self.block {
            // A call without arguments has empty ones: clients parse them.
            Block::Call { has_args: false } => self.arguments(&JsonStr::quote("{}"), out),
            Block::Text if !self.citations.is_empty() => {
                let mut citations = std::mem::take(&mut self.citations);
                citations.iter_mut().for_each(|citation| citation.end_at(self.chars));
                self.chunk(out, |w| {
                    w.key("annotations");
                    openai_annotations::write(&citations, Style::Nested, w);
                });
            }
            Block::Thinking { told } => {
                let seal = self.seal.take();
                if let Some(signature) = &seal {
                    let detail = Detail { index: self.thoughts, text: None, signature: Some(signature), data: None };
                    self.detail(None, &detail, out);
                }
                self.thoughts += u64::from(told || seal.is_some());
            }
            Block::Call { has_args: true } | Block::Text | Block::Refusal | Block::Unwrapped | Block::Silent => {}
        }
        self.block = Block::Silent;
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        let Stop { reason, explanation, .. } = self.stop.take().unwrap_or_else(|| Stop::because(Reason::EndTurn));
        if reason == Reason::Refusal && !self.refused {
            self.refusal(&explanation.unwrap_or_else(|| JsonStr::quote(REFUSED)), out);
        }
        out.extend_from_slice(&self.before);
        let mut w = Writer::new(out);
        w.array().object().key("index").int(0).key("delta").object().end_object();
        w.key("finish_reason").str(finish_reason(reason, self.calls != 0, &self.memory));
        w.end_object().end_array();
        if self.memory.include_usage {
            w.key("usage").null();
        }
        w.end_object();
        out.extend_from_slice(b"\n\n");
        // Where the upstream counted nothing there is nothing to tell.
        if self.memory.include_usage && !self.usage.is_empty() {
            out.extend_from_slice(&self.before);
            let mut w = Writer::new(out);
            w.array().end_array().key("usage");
            usage::write(&self.usage, &mut w);
            w.end_object();
            out.extend_from_slice(b"\n\n");
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }
}

impl StreamEncoder for Encoder {
    fn event(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        match event {
            Event::Start { id, model, usage } => {
                self.usage.update(usage);
                self.start(id.as_ref(), model.as_ref());
                self.chunk(out, |w| {
                    w.key("role").word("assistant").key("content").word("");
                });
            }
            Event::Open(open) => self.open(open, out),
            Event::Delta(delta) => self.delta(delta, out),
            Event::Close => self.close(out),
            Event::Usage(usage) => self.usage.update(usage),
            Event::Stop(stop) => {
                self.stop = Some(Stop {
                    reason: stop.reason,
                    sequence: None,
                    explanation: stop.explanation.clone().map(JsonStr::into_owned),
                });
            }
            Event::End => self.end(out),
            Event::Fault(broken) => fault::encode_event(broken, out),
            Event::Ping => out.extend_from_slice(b": ping\n\n"),
        }
    }
}
