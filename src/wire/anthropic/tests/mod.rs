//! Tests of the whole format: requests, replies and streams by tables, and the recorded corpus.

mod corpus;
mod replies;
mod requests;

use bytes::Bytes;

use crate::wire::event::{Event, Grammar};
use crate::wire::json::JsonStr;
use crate::wire::prompt::Args;
use crate::wire::reply::{Reply, ReplyBlock};
use crate::wire::sse::{Frame, Framer};

use super::CODEC;

/// Reads a whole reply, checking the grammar of its events.
fn whole(body: &str) -> Reply<'static> {
    let mut reply = Reply::default();
    let mut grammar = Grammar::default();
    (CODEC.decode_reply)(body, &mut |event: Event<'_>| {
        assert_eq!(grammar.step(&event), Ok(()), "{event:?} in {body}");
        crate::wire::event::Sink::event(&mut reply, lasting(event));
    });
    assert!(grammar.is_over(), "the events end: {body}");
    reply
}

/// Cuts a stream into frames.
fn frames(chunks: &[&[u8]]) -> Vec<Frame> {
    let mut framer = Framer::new(usize::MAX);
    let mut frames = Vec::new();
    for chunk in chunks {
        framer.push(Bytes::copy_from_slice(chunk));
        while let Some(frame) = framer.next() {
            frames.push(frame.unwrap());
        }
    }
    frames.extend(framer.finish());
    frames
}

/// Reads a stream, checking its grammar; hands every event over as text and folds them.
fn streamed(frames: &[Frame]) -> (Vec<String>, Reply<'static>) {
    let mut decoder = (CODEC.decoder)();
    let mut grammar = Grammar::default();
    let mut reply = Reply::default();
    let mut events = Vec::new();
    let mut take = |event: Event<'_>| {
        assert_eq!(grammar.step(&event), Ok(()), "{event:?}");
        events.push(format!("{event:?}"));
        crate::wire::event::Sink::event(&mut reply, lasting(event));
    };
    for frame in frames {
        let Some(data) = frame.data() else {
            continue;
        };
        decoder.frame(frame.name(), std::str::from_utf8(&data).unwrap(), &mut take);
    }
    decoder.finish(&mut |event: Event<'static>| take(event));
    assert!(grammar.is_over(), "the events end");
    (events, reply)
}

/// Writes a stream of the events that another stream holds.
fn translated(frames: &[Frame], memory: &crate::wire::Memory) -> Vec<u8> {
    let mut decoder = (CODEC.decoder)();
    let mut encoder = (CODEC.encoder)(memory);
    let mut out = Vec::new();
    for frame in frames {
        let Some(data) = frame.data() else {
            continue;
        };
        let text = std::str::from_utf8(&data).unwrap();
        decoder.frame(frame.name(), text, &mut |event: Event<'_>| encoder.event(&event, &mut out));
    }
    decoder.finish(&mut |event: Event<'static>| encoder.event(&event, &mut out));
    out
}

/// The same event, owning all it says.
fn lasting(event: Event<'_>) -> Event<'static> {
    use crate::wire::event::{Delta, Open, Stop};
    let own = |text: JsonStr<'_>| text.into_owned();
    match event {
        Event::Start { id, model, usage } => Event::Start { id: id.map(own), model: model.map(own), usage },
        Event::Open(open) => Event::Open(match open {
            Open::Text => Open::Text,
            Open::Refusal => Open::Refusal,
            Open::Thinking => Open::Thinking,
            Open::RedactedThinking { data } => Open::RedactedThinking { data: own(data) },
            Open::ToolUse { id, name } => Open::ToolUse { id: own(id), name: own(name) },
            Open::Foreign { from, kind, json } => Open::Foreign { from, kind: own(kind), json: json.into_owned() },
        }),
        Event::Delta(delta) => Event::Delta(match delta {
            Delta::Text(text) => Delta::Text(own(text)),
            Delta::Thinking(text) => Delta::Thinking(own(text)),
            Delta::Signature(text) => Delta::Signature(own(text)),
            Delta::Args(Args::Text(text)) => Delta::Args(Args::Text(own(text))),
            Delta::Args(Args::Json(json)) => Delta::Args(Args::Json(json.into_owned())),
            Delta::Citation(json) => Delta::Citation(json.into_owned()),
            Delta::Foreign(json) => Delta::Foreign(json.into_owned()),
        }),
        Event::Close => Event::Close,
        Event::Usage(usage) => Event::Usage(usage),
        Event::Stop(stop) => Event::Stop(Stop {
            reason: stop.reason,
            sequence: stop.sequence.map(own),
            explanation: stop.explanation.map(own),
        }),
        Event::End => Event::End,
        Event::Fault(fault) => Event::Fault(fault),
        Event::Ping => Event::Ping,
    }
}

/// A reply as text, where a call's arguments look the same however they came.
fn shown(reply: &Reply<'_>) -> String {
    let blocks: Vec<String> = reply
        .blocks
        .iter()
        .map(|block| match block {
            ReplyBlock::ToolUse { id, name, args } => {
                let args = match args {
                    Args::Json(json) => json.as_str().to_owned(),
                    Args::Text(text) if text.is_empty() => "{}".to_owned(),
                    Args::Text(text) => text.decode().into_owned(),
                };
                format!("call {} {} {args}", id.decode(), name.decode())
            }
            ReplyBlock::Text { text, citations } => format!("text {:?} {citations:?}", text.decode()),
            ReplyBlock::Refusal { text } => format!("refusal {:?}", text.decode()),
            ReplyBlock::Thinking { text, signature } => {
                format!("thinking {:?} {:?}", text.decode(), signature.as_ref().map(|s| s.decode().into_owned()))
            }
            ReplyBlock::RedactedThinking { data } => format!("redacted {}", data.decode()),
            ReplyBlock::Foreign { kind, .. } => format!("foreign {}", kind.decode()),
        })
        .collect();
    format!("{:?} {:?} {blocks:#?} {:?} {:?} {:?}", reply.id, reply.model, reply.usage, reply.stop, reply.fault)
}
