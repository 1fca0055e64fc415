//! From one format to another, through the waist: requests, whole replies, streams. The gateway and the
//! command line convert with this and nothing else.

use bytes::Bytes;

use crate::wire::caps::Capabilities;
use crate::wire::event::{Delta, Event, Grammar, Open, Reason, Usage};
use crate::wire::fault::Fault;
use crate::wire::loss::{Losses, Refusal};
use crate::wire::prompt::Prompt;
use crate::wire::reply::Reply;
use crate::wire::splice::Parts;
use crate::wire::sse::{FRAME_BYTES_MAX, Frame, Framer};
use crate::wire::think::ThinkTags;
use crate::wire::{Format, Memory, StreamDecoder, StreamEncoder, Target, head, tokens};

/// Writes a request of one format as another's. What could not be carried is added to `losses`.
///
/// `stream` overrides what the body says, for endpoints that always stream.
pub fn request(
    (from, to): (Format, Format),
    body: &str,
    stream: Option<bool>,
    target: &Target<'_>,
    losses: &mut Losses,
) -> Result<(Vec<u8>, Memory), Refusal> {
    let prompt = (from.codec().decode_request)(body, losses)?;
    said((prompt, stream), (body, to), target, losses)
}

/// The same without thinking that has a seal, for an upstream that knows none of them: each is added to `losses`, with `why`.
pub fn unsealed_request(
    (from, to): (Format, Format),
    body: &str,
    stream: Option<bool>,
    (target, why): (&Target<'_>, &'static str),
    losses: &mut Losses,
) -> Result<(Vec<u8>, Memory), Refusal> {
    let mut prompt = (from.codec().decode_request)(body, losses)?;
    prompt.leave_seals(why, losses);
    said((prompt, stream), (body, to), target, losses)
}

fn said(
    (mut prompt, stream): (Prompt<'_>, Option<bool>),
    (body, to): (&str, Format),
    target: &Target<'_>,
    losses: &mut Losses,
) -> Result<(Vec<u8>, Memory), Refusal> {
    prompt.stream = stream.unwrap_or(prompt.stream);
    let mut out = Vec::with_capacity(body.len() + 256);
    let mut memory = (to.codec().encode_request)(&prompt, target, &mut out, losses)?;
    memory.note(&mut prompt);
    memory.think_tags = target.quirks.think_tags;
    if prompt.from.codec().needs_usage {
        memory.input_estimate = tokens::estimate(body, to);
    }
    Ok((out, memory))
}

/// Whether a request offers tools to a model that is to think: what some models take in one of their vendor's formats only.
#[must_use]
pub fn calls_while_thinking(from: Format, body: &[u8], capabilities: &Capabilities) -> bool {
    let Ok(text) = std::str::from_utf8(body) else {
        return false;
    };
    let prompt = (from.codec().decode_request)(text, &mut Losses::default());
    prompt.is_ok_and(|prompt| {
        prompt.sends_tools(&mut Losses::default()) && prompt.thinks(capabilities.reasoning_default_on)
    })
}

/// Sets the fields the configuration sets, in a body of the route's own format, where they are not there.
#[must_use]
pub fn with_defaults(body: Bytes, defaults: &[(Box<str>, Box<str>)]) -> Parts {
    if defaults.is_empty() {
        return Parts::whole(body);
    }
    let Ok(head) = head::read(&body) else {
        return Parts::whole(body);
    };
    let missing = defaults.iter().filter(|(key, _)| !head.has(&body, key));
    let edits = missing.map(|(key, value)| head.insert(key, value)).collect();
    head.apply(&body, edits)
}

/// A whole reply, translated.
#[derive(Clone, Debug)]
pub struct Whole {
    pub body: Vec<u8>,
    pub usage: Usage,
    /// The upstream's own tools need another request to go on, which not every format can say.
    pub paused: bool,
}

/// Writes a whole reply of one format as another's. `Err`: it was an error, or no reply at all.
pub fn whole(from: Format, to: Format, body: &str, memory: &Memory) -> Result<Whole, Fault> {
    let mut reply = Reply::default();
    match tags(memory) {
        None => (from.codec().decode_reply)(body, &mut reply),
        Some(mut tags) => (from.codec().decode_reply)(body, &mut |event| tags.event(event, &mut reply)),
    }
    if let Some(fault) = reply.fault {
        return Err(fault);
    }
    let mut out = Vec::with_capacity(body.len() + 256);
    (to.codec().encode_reply)(&reply, memory, &mut out);
    let paused = reply.stop.as_ref().is_some_and(|stop| stop.reason == Reason::PauseTurn);
    Ok(Whole { body: out, usage: reply.usage, paused })
}

/// As [`whole`]: the body and what it counts.
pub fn reply(from: Format, to: Format, body: &str, memory: &Memory) -> Result<(Vec<u8>, Usage), Fault> {
    whole(from, to, body, memory).map(|whole| (whole.body, whole.usage))
}

/// Writes a whole reply of one format as another's stream (or its own): for upstreams that answer whole although they
/// were asked to stream.
pub fn reply_as_stream(from: Format, to: Format, body: &str, memory: &Memory) -> Result<(Vec<u8>, Usage), Fault> {
    let mut encoder = (to.codec().encoder)(memory);
    let mut seen = Seen::default();
    let mut out = Vec::with_capacity(body.len() + 512);
    let mut pass = |event: Event<'_>| seen.pass(&event, encoder.as_mut(), &mut out);
    match tags(memory) {
        None => (from.codec().decode_reply)(body, &mut pass),
        Some(mut tags) => (from.codec().decode_reply)(body, &mut |event: Event<'_>| tags.event(event, &mut pass)),
    }
    match seen.fault {
        Some(fault) => Err(fault),
        None => Ok((out, seen.usage)),
    }
}

fn tags(memory: &Memory) -> Option<ThinkTags> {
    memory.think_tags.then(ThinkTags::default)
}

/// Writes a stream that is all there as another format's: what [`StreamTranslator`] makes of its frames.
#[must_use]
pub fn stream(from: Format, to: Format, chunks: impl IntoIterator<Item = Bytes>, memory: &Memory) -> (Vec<u8>, Seen) {
    let mut translator = StreamTranslator::new(from, to, memory);
    let mut framer = Framer::new(FRAME_BYTES_MAX);
    let mut out = Vec::new();
    for chunk in chunks {
        framer.push(chunk);
        while let Some(next) = framer.next() {
            match next {
                Ok(frame) => translator.frame(&frame, &mut out),
                Err(_) => translator.fail(Fault::garbage(TOO_LONG), &mut out),
            }
        }
    }
    if let Some(frame) = framer.finish() {
        translator.frame(&frame, &mut out);
    }
    translator.finish(&mut out);
    (out, translator.seen)
}

/// What is said of a frame past [`FRAME_BYTES_MAX`].
pub const TOO_LONG: &str = "an event of the upstream's stream is too long";

/// Translates a stream as it comes.
#[derive(Debug)]
pub struct StreamTranslator {
    decoder: Box<dyn StreamDecoder>,
    tags: Option<ThinkTags>,
    encoder: Box<dyn StreamEncoder>,
    seen: Seen,
}

/// What has passed so far.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Something the client's reader sees: the commit point is passed.
    pub output: bool,
    /// The stream ended as it should.
    pub ended: bool,
    /// It broke; the client's format has been told, if bytes were asked for.
    pub fault: Option<Fault>,
    pub usage: Usage,
    grammar: Grammar,
    /// Bytes of the open block that encoders keep until it ends: its signature, its citations.
    kept: usize,
    /// Broken off by us: what the decoder still makes of the frame is not passed on.
    is_cut: bool,
}

/// Most an encoder is given to keep of one block. Recorded signatures take some KiB.
const KEPT_BYTES_MAX: usize = 4 * 1024 * 1024;

impl StreamTranslator {
    #[must_use]
    pub fn new(from: Format, to: Format, memory: &Memory) -> Self {
        let (decoder, encoder) = ((from.codec().decoder)(), (to.codec().encoder)(memory));
        Self { decoder, tags: tags(memory), encoder, seen: Seen::default() }
    }

    /// Takes one frame; appends what the client is to read of it.
    pub fn frame(&mut self, frame: &Frame, out: &mut Vec<u8>) {
        if self.seen.grammar.is_over() {
            return;
        }
        let Some(data) = frame.data() else {
            return;
        };
        let Self { decoder, tags, encoder, seen } = self;
        let mut pass = |event: Event<'_>| seen.pass(&event, encoder.as_mut(), out);
        match (std::str::from_utf8(&data), tags) {
            (Ok(text), None) => decoder.frame(frame.name(), text, &mut pass),
            (Ok(text), Some(tags)) => {
                decoder.frame(frame.name(), text, &mut |event: Event<'_>| tags.event(event, &mut pass));
            }
            (Err(_), _) => pass(Event::Fault(Fault::garbage("the upstream's stream is not UTF-8"))),
        }
    }

    /// The upstream's bytes have ended.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if self.seen.grammar.is_over() {
            return;
        }
        let Self { decoder, tags, encoder, seen } = self;
        let mut pass = |event: Event<'static>| seen.pass(&event, encoder.as_mut(), out);
        match tags {
            None => decoder.finish(&mut pass),
            Some(tags) => decoder.finish(&mut |event: Event<'static>| tags.event(event, &mut pass)),
        }
    }

    /// Breaks the stream off, unless nothing is missing.
    pub fn fail(&mut self, fault: Fault, out: &mut Vec<u8>) {
        if self.decoder.is_complete() {
            return self.finish(out);
        }
        if self.seen.grammar.is_over() {
            return;
        }
        self.seen.pass(&Event::Fault(fault), self.encoder.as_mut(), out);
    }

    /// Whether nothing but counts can still come.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.decoder.is_complete()
    }

    #[must_use]
    pub fn seen(&self) -> &Seen {
        &self.seen
    }
}

impl Seen {
    fn pass(&mut self, event: &Event<'_>, encoder: &mut dyn StreamEncoder, out: &mut Vec<u8>) {
        if self.is_cut {
            return;
        }
        match event {
            Event::Open(_) => self.kept = 0,
            Event::Delta(Delta::Signature(text)) => self.kept += text.literal().len(),
            Event::Delta(Delta::Citation(json)) => self.kept += json.as_str().len(),
            Event::Delta(Delta::Text(_) | Delta::Thinking(_) | Delta::Args(_) | Delta::Foreign(_))
            | Event::Start { .. }
            | Event::Close
            | Event::Usage(_)
            | Event::Stop(_)
            | Event::Ping
            | Event::End
            | Event::Fault(_) => {}
        }
        if KEPT_BYTES_MAX < self.kept {
            let fault = Fault::garbage("the upstream's signature or citations of one block are too long to be carried");
            self.tell(&Event::Fault(fault), encoder, out);
            self.is_cut = true;
            return;
        }
        self.tell(event, encoder, out);
    }

    fn tell(&mut self, event: &Event<'_>, encoder: &mut dyn StreamEncoder, out: &mut Vec<u8>) {
        let step = self.grammar.step(event);
        debug_assert_eq!(step, Ok(()), "{event:?}");
        match event {
            Event::Start { usage, .. } | Event::Usage(usage) => self.usage.update(usage),
            Event::Open(Open::ToolUse { .. } | Open::RedactedThinking { .. } | Open::Foreign { .. }) => {
                self.output = true;
            }
            Event::Delta(Delta::Text(text) | Delta::Thinking(text)) => self.output |= !text.is_empty(),
            Event::Delta(Delta::Signature(_) | Delta::Args(_) | Delta::Citation(_) | Delta::Foreign(_)) => {
                self.output = true;
            }
            Event::End => self.ended = true,
            Event::Fault(fault) => self.fault = Some(fault.clone()),
            Event::Open(Open::Text | Open::Refusal | Open::Thinking) | Event::Close | Event::Stop(_) | Event::Ping => {}
        }
        encoder.event(event, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::caps::{Capabilities, Quirks};

    /// What is remembered of a request on its way to the other format.
    fn memory(from: Format, to: Format, body: &str) -> Memory {
        let (capabilities, quirks) = (Capabilities::default(), Quirks::default());
        let target = Target { model: "up", capabilities: &capabilities, quirks: &quirks };
        request((from, to), body, None, &target, &mut Losses::default()).unwrap().1
    }

    #[test]
    fn what_is_kept_of_a_block_is_bounded() {
        let frame = |kind: &str, rest: &str| format!("event: {kind}\ndata: {{\"type\":\"{kind}\",{rest}}}\n\n");
        let start = r#""message":{"id":"m","type":"message","role":"assistant","model":"m","content":[],"usage":{"input_tokens":1,"output_tokens":1}}"#;
        let open = r#""index":0,"content_block":{"type":"thinking","thinking":"","signature":""}"#;
        let delta = format!(
            r#""index":0,"delta":{{"type":"signature_delta","signature":"{}"}}"#,
            "s".repeat(KEPT_BYTES_MAX / 4)
        );
        let begin = frame("message_start", start) + &frame("content_block_start", open);
        for (pieces, expect) in [(4, None), (5, Some(502))] {
            let body = begin.clone() + &frame("content_block_delta", &delta).repeat(pieces);
            let end = r#""index":0"#;
            let body = body + &frame("content_block_stop", end) + &frame("message_stop", r#""x":0"#);
            for to in Format::ALL {
                let (out, seen) = stream(Format::Anthropic, to, [Bytes::from(body.clone())], &Memory::default());
                assert_eq!(seen.fault.map(|fault| fault.status), expect, "{pieces} pieces to {to}");
                let told = String::from_utf8(out).unwrap().contains("too long to be carried");
                assert_eq!(told, expect.is_some(), "{pieces} pieces to {to}");
            }
        }
    }

    #[test]
    fn a_stream_that_begins_with_usage_is_given_a_guess() {
        let body = r#"{"model":"m","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"Hello"}]}"#;
        let memory_of = |from, to| memory(from, to, body);
        let guessed = memory_of(Format::Anthropic, Format::OpenaiChat);
        assert_eq!(guessed.input_estimate, tokens::estimate(body, Format::OpenaiChat));
        assert_eq!(memory_of(Format::OpenaiChat, Format::Anthropic).input_estimate, 0, "its usage comes last");
        let frames = "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
        let (out, _) = stream(Format::OpenaiChat, Format::Anthropic, [Bytes::from(frames)], &guessed);
        let said = format!("\"input_tokens\":{}", guessed.input_estimate);
        assert!(String::from_utf8(out).unwrap().contains(&said), "{said}");
    }
}
