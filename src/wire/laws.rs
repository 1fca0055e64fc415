//! What must hold of every conversion, for any bytes at all. The fuzz targets and the tests that replay their corpus
//! call these; nothing else does.

use bytes::Bytes;

use crate::wire::caps::{Capabilities, Quirks};
use crate::wire::event::{Event, Grammar, Sink};
use crate::wire::json::{Cursor, Kind};
use crate::wire::loss::Losses;
use crate::wire::prompt::Prompt;
use crate::wire::reply::Reply;
use crate::wire::sse::{FRAME_BYTES_MAX, Frame, Framer};
use crate::wire::{Format, Memory, Target, translate};

/// Any bytes yield a grammatical stream of the client's format; any chunking gives the same; who reads it again sees a
/// fault exactly where there was one; and what they gather of it is the reply that would have been given whole.
///
/// The first byte chooses the formats, and whether thinking may stand in tags; the second the cuts.
pub fn stream(data: &[u8]) {
    let [choice, cuts, input @ ..] = data else {
        return;
    };
    let format = |bit: u8| if choice & bit == 0 { Format::OpenaiChat } else { Format::Anthropic };
    let (from, to) = (format(1), format(2));
    let memory = Memory { think_tags: choice & 4 != 0, ..memory() };
    let (whole, fault) = translated(from, to, &memory, &[input]);
    let size = usize::from(*cuts).max(1);
    let chunks: Vec<&[u8]> = input.chunks(size).collect();
    assert_eq!(translated(from, to, &memory, &chunks).0, whole, "a cut changes nothing");
    let again = faults(to, &whole);
    assert_eq!(again, fault, "a fault is told, and only a fault: {}", String::from_utf8_lossy(&whole));
    // Tags are looked for on the way from one format to the other, which a fold does not take.
    if !fault && !memory.think_tags {
        assert_eq!(folded(to, to, &whole), folded(from, to, input), "streamed and whole are one answer");
    }
}

/// A stream of one format gathered and written whole in another; empty if it breaks.
fn folded(from: Format, to: Format, stream: &[u8]) -> String {
    let mut framer = Framer::new(FRAME_BYTES_MAX);
    framer.push(Bytes::copy_from_slice(stream));
    let mut frames: Vec<Frame> = std::iter::from_fn(|| framer.next()?.ok()).collect();
    frames.extend(framer.finish());
    let data: Vec<_> = frames.iter().map(|frame| String::from_utf8(frame.data().unwrap_or_default().into())).collect();
    let mut decoder = (from.codec().decoder)();
    let mut reply = Reply::default();
    for (frame, data) in frames.iter().zip(&data) {
        if let (Some(_), Ok(data)) = (frame.data(), data) {
            decoder.frame(frame.name(), data, &mut reply);
        }
    }
    decoder.finish(&mut |event: Event<'static>| reply.event(event));
    let mut out = Vec::new();
    if reply.fault.is_none() {
        (to.codec().encode_reply)(&reply, &memory(), &mut out);
    }
    String::from_utf8(out).unwrap_or_default()
}

fn memory() -> Memory {
    Memory { model: "m".into(), seed: 7, include_usage: true, ..Memory::default() }
}

fn translated(from: Format, to: Format, memory: &Memory, chunks: &[&[u8]]) -> (Vec<u8>, bool) {
    let chunks = chunks.iter().map(|chunk| Bytes::copy_from_slice(chunk));
    let (out, seen) = translate::stream(from, to, chunks, memory);
    assert!(seen.ended || seen.fault.is_some(), "it ends one way or the other");
    (out, seen.fault.is_some())
}

/// Reads a stream of ours again; whether it holds a fault.
fn faults(format: Format, stream: &[u8]) -> bool {
    let mut grammar = Grammar::default();
    let mut fault = false;
    let mut decoder = (format.codec().decoder)();
    let mut framer = Framer::new(FRAME_BYTES_MAX);
    framer.push(Bytes::copy_from_slice(stream));
    let mut watch = |event: Event<'_>| {
        if grammar.is_over() {
            return;
        }
        fault |= matches!(event, Event::Fault(_));
        let step = grammar.step(&event);
        assert_eq!(step, Ok(()), "{event:?}");
    };
    while let Some(Ok(frame)) = framer.next() {
        let data = frame.data().unwrap_or_default();
        let text = std::str::from_utf8(&data);
        assert!(text.is_ok(), "what is written is text");
        decoder.frame(frame.name(), text.unwrap_or_default(), &mut watch);
    }
    decoder.finish(&mut watch);
    fault
}

/// A request that is read can be written, in its own format and in the others, unless that is refused; what is written
/// is read again; and writing that again settles at once.
///
/// The first byte chooses the format.
pub fn prompt(data: &[u8]) {
    let Some((choice, input)) = data.split_first() else {
        return;
    };
    let from = if choice & 1 == 0 { Format::OpenaiChat } else { Format::Anthropic };
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let Ok(prompt) = (from.codec().decode_request)(text, &mut Losses::default()) else {
        return;
    };
    for to in Format::ALL {
        let Some(first) = encoded(to, &prompt) else {
            continue;
        };
        assert_eq!(Cursor::new(&first).peek(), Ok(Kind::Object), "{first}");
        let mut cursor = Cursor::new(&first);
        let is_json = cursor.skip().and_then(|_| cursor.end());
        assert_eq!(is_json, Ok(()), "what is written is JSON: {first}");
        // The first writing may settle how a thing is spelled (a string, a list of one); after that nothing moves.
        let second = reencoded(to, &first);
        assert_eq!(reencoded(to, &second), second, "writing it once more changes nothing");
    }
}

fn encoded(to: Format, prompt: &Prompt<'_>) -> Option<String> {
    let (capabilities, quirks) = (Capabilities::default(), Quirks::default());
    let target = Target { model: "m", capabilities: &capabilities, quirks: &quirks };
    let mut out = Vec::new();
    (to.codec().encode_request)(prompt, &target, &mut out, &mut Losses::default()).ok()?;
    let text = String::from_utf8(out);
    assert!(text.is_ok(), "what is written is text");
    text.ok()
}

fn reencoded(format: Format, body: &str) -> String {
    let again = (format.codec().decode_request)(body, &mut Losses::default());
    assert!(again.is_ok(), "what is written is read again: {again:?} {body}");
    let written = again.ok().and_then(|prompt| encoded(format, &prompt));
    assert!(written.is_some(), "and written again: {body}");
    written.unwrap_or_default()
}
