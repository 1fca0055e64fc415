//! Whole replies: a chat completion read into events, and one written from their fold.

use crate::wire::Memory;
use crate::wire::event::{Reason, Sink, Stop};
use crate::wire::fault::Fault;
use crate::wire::json::{JsonError, JsonStr, Writer};
use crate::wire::openai_annotations::{self, Annotation, Style, chars};
use crate::wire::openai_chat::answer::Answer;
use crate::wire::openai_chat::body::{self, Body, CLAUDE_FORMAT, Choice};
use crate::wire::openai_chat::{names, usage};
use crate::wire::prompt::Args;
use crate::wire::reply::{Reply, ReplyBlock, join};

/// Reads a whole reply into events.
pub(super) fn decode<'a>(text: &'a str, sink: &mut dyn Sink<'a>) {
    let mut answer = Answer::default();
    if let Err(error) = read(text, &mut answer, sink) {
        answer.fault(Fault::garbage(format!("the upstream's reply cannot be read: {error}")), sink);
    }
}

fn read<'a>(text: &'a str, answer: &mut Answer, sink: &mut dyn Sink<'a>) -> Result<(), JsonError> {
    let body = Body::read(text)?;
    let Some(mut choices) = body.choices else {
        let fault = match body.is_error {
            true => Fault::read_event(text),
            false => Fault::garbage("the upstream's reply has no choices"),
        };
        answer.fault(fault, sink);
        return Ok(());
    };
    answer.start(body.id.filter(|id| !id.is_empty()), body.model, body.created, sink);
    choices.array()?;
    // Of several, which were never asked for, the first is the answer.
    if choices.item()? {
        let choice = Choice::read(&mut choices)?;
        if let Some(fault) = choice.fault() {
            answer.fault(fault, sink);
            return Ok(());
        }
        match choice.message.or(choice.delta) {
            Some(message) => body::message(message, answer, sink)?,
            // Azure takes a filtered message away altogether.
            None if choice.filtered => answer.filtered(),
            None => {}
        }
        answer.flush_calls(sink);
        answer.finished(&choice.finish.unwrap_or_default(), choice.sequence, sink);
    }
    if let Some(usage) = body.usage {
        answer.usage(usage, sink);
    }
    answer.end(sink);
    Ok(())
}

/// Writes a whole reply.
pub(super) fn encode(reply: &Reply<'_>, memory: &Memory, out: &mut Vec<u8>) {
    let said = Said::of(reply, memory);
    let stop = reply.stop.clone().unwrap_or_else(|| Stop::because(Reason::EndTurn));
    let mut w = Writer::new(out);
    w.object();
    w.key("id").str(&names::reply_id(reply.id.as_ref(), memory.seed));
    w.key("object").word("chat.completion");
    w.key("created").int(memory.created);
    w.key("model").lit(&memory.model_name(reply.model.as_ref()));
    w.key("choices").array().object();
    w.key("index").int(0);
    w.key("message");
    said.write(&stop, memory, &mut w);
    w.key("logprobs").null();
    w.key("finish_reason").word(finish_reason(stop.reason, !said.calls.is_empty(), memory));
    w.end_object().end_array();
    if !reply.usage.is_empty() {
        w.key("usage");
        usage::write(&reply.usage, &mut w);
    }
    w.end_object();
}

/// The format's word for a reason. A call made is told whatever the reason says, unless the answer was cut off.
pub(super) fn finish_reason(reason: Reason, calls: bool, memory: &Memory) -> &'static str {
    match reason {
        Reason::MaxTokens | Reason::ContextWindow => "length",
        Reason::Refusal => "content_filter",
        Reason::EndTurn | Reason::StopSequence | Reason::ToolUse | Reason::PauseTurn => match (calls, memory) {
            (false, _) => "stop",
            (true, Memory { legacy_functions: true, .. }) => "function_call",
            (true, _) => "tool_calls",
        },
    }
}

/// What a refusal says when the model gave no reason.
pub(super) const REFUSED: &str = "The model declined to answer this request.";

/// A call on its way to the client: id, name, arguments.
type Call<'r> = (&'r JsonStr<'r>, &'r JsonStr<'r>, &'r Args<'r>);

/// The blocks of a reply, sorted into the places the format has for them.
#[derive(Default)]
struct Said<'r> {
    text: JsonStr<'r>,
    refusal: JsonStr<'r>,
    thinking: JsonStr<'r>,
    thoughts: Vec<&'r ReplyBlock<'r>>,
    calls: Vec<Call<'r>>,
    citations: Vec<Annotation>,
}

impl<'r> Said<'r> {
    fn of(reply: &'r Reply<'_>, memory: &Memory) -> Self {
        let mut said = Self::default();
        // Characters of the text so far: citations are told by position. Where there are none nobody counts.
        let mut end = 0;
        let cites =
            |block: &ReplyBlock<'_>| matches!(block, ReplyBlock::Text { citations, .. } if !citations.is_empty());
        let has_citations = reply.blocks.iter().any(cites);
        for block in &reply.blocks {
            match block {
                ReplyBlock::Text { text, citations } => {
                    let start = end;
                    end += if has_citations { chars(text) } else { 0 };
                    join(&mut said.text, text.borrow());
                    said.citations.extend(citations.iter().filter_map(|citation| {
                        let mut annotation = Annotation::read(citation, Style::Nested, start)?;
                        annotation.end_at(end);
                        Some(annotation)
                    }));
                }
                ReplyBlock::Refusal { text } => join(&mut said.refusal, text.borrow()),
                ReplyBlock::Thinking { .. } | ReplyBlock::RedactedThinking { .. } if memory.hide_thinking => {}
                // Neither words nor a seal: there is nothing to tell.
                ReplyBlock::Thinking { text, signature: None } if text.is_empty() => {}
                ReplyBlock::RedactedThinking { data } if data.is_empty() => {}
                ReplyBlock::Thinking { text, .. } => {
                    join(&mut said.thinking, text.borrow());
                    said.thoughts.push(block);
                }
                ReplyBlock::RedactedThinking { .. } => said.thoughts.push(block),
                ReplyBlock::ToolUse { name, args, .. } if is_unwrapped(name, memory) => {
                    said.text.push(&spelled(args));
                }
                ReplyBlock::ToolUse { id, name, args } => said.calls.push((id, name, args)),
                // Server tools have been run where they came from; a client would run them again.
                ReplyBlock::Foreign { .. } => {}
            }
        }
        said
    }

    fn write(&self, stop: &Stop<'_>, memory: &Memory, w: &mut Writer<'_>) {
        let refused = stop.reason == Reason::Refusal || !self.refusal.is_empty();
        w.object();
        w.key("role").word("assistant");
        w.key("content");
        if self.text.is_empty() && (refused || !self.calls.is_empty()) {
            w.null();
        } else {
            w.lit(&self.text);
        }
        w.key("refusal");
        match &stop.explanation {
            _ if !self.refusal.is_empty() => w.lit(&self.refusal),
            Some(words) if refused => w.lit(words),
            None if refused => w.str(REFUSED),
            Some(_) | None => w.null(),
        };
        if !self.thinking.is_empty() {
            w.key("reasoning_content").lit(&self.thinking);
        }
        self.write_details(w);
        if !self.citations.is_empty() {
            w.key("annotations");
            openai_annotations::write(&self.citations, Style::Nested, w);
        }
        self.write_calls(memory, w);
        w.end_object();
    }

    /// The thinking once more, with the signatures a client has to send back.
    fn write_details(&self, w: &mut Writer<'_>) {
        let is_sealed = |block: &&ReplyBlock<'_>| match block {
            ReplyBlock::Thinking { signature, .. } => signature.is_some(),
            ReplyBlock::RedactedThinking { .. } => true,
            ReplyBlock::Text { .. } | ReplyBlock::Refusal { .. } => false,
            ReplyBlock::ToolUse { .. } | ReplyBlock::Foreign { .. } => false,
        };
        if !self.thoughts.iter().any(is_sealed) {
            return;
        }
        w.key("reasoning_details").array();
        for (block, index) in self.thoughts.iter().zip(0..) {
            match block {
                ReplyBlock::Thinking { text, signature } => {
                    write_detail(&Detail { index, text: Some(text), signature: signature.as_ref(), data: None }, w);
                }
                ReplyBlock::RedactedThinking { data } => {
                    write_detail(&Detail { index, text: None, signature: None, data: Some(data) }, w);
                }
                ReplyBlock::Text { .. } | ReplyBlock::Refusal { .. } => {}
                ReplyBlock::ToolUse { .. } | ReplyBlock::Foreign { .. } => {}
            }
        }
        w.end_array();
    }

    fn write_calls(&self, memory: &Memory, w: &mut Writer<'_>) {
        if memory.legacy_functions {
            // The old form has room for one call, and the request asked for no more.
            if let Some((_, name, args)) = self.calls.first() {
                w.key("function_call").object();
                w.key("name").lit(&memory.tool_name(name));
                w.key("arguments").lit(&arguments(args));
                w.end_object();
            }
            return;
        }
        if self.calls.is_empty() {
            return;
        }
        w.key("tool_calls").array();
        for (id, name, args) in &self.calls {
            w.object();
            w.key("id").lit(id);
            w.key("type").word("function");
            w.key("function").object();
            w.key("name").lit(&memory.tool_name(name));
            w.key("arguments").lit(&arguments(args));
            w.end_object().end_object();
        }
        w.end_array();
    }
}

/// One entry of `reasoning_details`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Detail<'d> {
    pub(super) index: u64,
    pub(super) text: Option<&'d JsonStr<'d>>,
    pub(super) signature: Option<&'d JsonStr<'d>>,
    pub(super) data: Option<&'d JsonStr<'d>>,
}

pub(super) fn write_detail(detail: &Detail<'_>, w: &mut Writer<'_>) {
    w.object();
    w.key("type").str(if detail.data.is_some() { "reasoning.encrypted" } else { "reasoning.text" });
    for (key, value) in [("text", detail.text), ("signature", detail.signature), ("data", detail.data)] {
        if let Some(value) = value {
            w.key(key).lit(value);
        }
    }
    w.key("format").str(CLAUDE_FORMAT);
    w.key("index").int(detail.index);
    w.end_object();
}

/// Whether a call is not the client's, but how its answer was given a shape.
pub(super) fn is_unwrapped(name: &JsonStr<'_>, memory: &Memory) -> bool {
    memory.unwrap_tool.as_deref().is_some_and(|tool| name.is(tool))
}

/// Arguments as the text of a string.
pub(super) fn spelled<'r>(args: &'r Args<'_>) -> JsonStr<'r> {
    match args {
        Args::Json(json) => JsonStr::quote(json.as_str()),
        Args::Text(text) => text.borrow(),
    }
}

/// A call without arguments has empty ones: clients parse them.
fn arguments<'r>(args: &'r Args<'_>) -> JsonStr<'r> {
    let text = spelled(args);
    if text.is_blank() { JsonStr::quote("{}") } else { text }
}
