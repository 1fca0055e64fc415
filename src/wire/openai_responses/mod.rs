//! OpenAI's Responses: flat items in, flat items out, and a stream that tells of each how it grows.
//!
//! What an item means is told once, in `items.rs`; `request_in.rs` makes turns of them and `items_out.rs` items of turns.
//! A response is read from its items whether it came whole (`reply.rs`) or as events (`decoder.rs`), and written into items
//! by one writer, whole or streamed (`encoder.rs`).

mod decoder;
mod encoder;
mod fields;
mod inspect;
mod items;
mod items_out;
mod names;
mod probes;
mod reply;
mod request_in;
mod request_out;
mod tools_in;
mod unvouched;
mod usage;

use crate::wire::fault::Fault;
use crate::wire::json::{Cursor, Json, JsonError, Kind, Writer};
use crate::wire::{Codec, Given, openai_fault};

pub(super) static CODEC: Codec = Codec {
    name: "openai_responses",
    fields: &fields::ALL,
    probes: probes::PROBES,
    needed: probes::NEEDED,
    decode_request: request_in::decode,
    encode_request: request_out::encode,
    decode_reply: reply::decode,
    encode_reply: reply::encode,
    needs_usage: false,
    decoder: || Box::new(decoder::Decoder::default()),
    encoder: |memory| Box::new(encoder::Encoder::new(memory)),
    status: openai_fault::status,
    encode_fault: openai_fault::encode,
    encode_fault_event,
    numbers_events: true,
    // Codex counts events as signs of life, and no comments; every SDK passes over types it does not know.
    keep_alive: "event: keepalive\ndata: {\"type\":\"keepalive\"}\n\n",
    repair: crate::wire::repair::openai_responses,
    unvouched: unvouched::unvouched,
    headers: &[],
    inspect: inspect::frame,
    inspect_reply: inspect::reply,
};

/// Writes an error after the 200, twice: SDKs raise what has an `error` in it, and Codex waits for `response.failed`. It is the
/// response that had begun which fails, if one had.
fn encode_fault_event(fault: &Fault, given: Given<'_>, out: &mut Vec<u8>) {
    let begun = begun(given.first).unwrap_or_default();
    let sequence = number(given.last).ok().flatten().map(|last| last + 1);
    failed(fault, sequence, out, |w| {
        if begun.is_empty() {
            w.key("id").word("resp_failed").key("object").word("response").key("created_at").int(0);
            w.key("model").word("").key("tools").array().end_array();
            w.key("tool_choice").word("auto").key("parallel_tool_calls").bool(true);
        }
        for (name, value) in &begun {
            w.key(name).json(value);
        }
        w.key("status").word("failed").key("output").array().end_array();
    });
}

/// The members of the response that an event begins, but those that tell how it stands.
fn begun(event: &str) -> Result<Vec<(String, Json<'_>)>, JsonError> {
    const STANDING: [&str; 5] = ["status", "output", "error", "incomplete_details", "usage"];
    let mut members = Vec::new();
    let mut c = Cursor::new(event);
    c.object()?;
    while let Some(key) = c.key()? {
        if !key.is("response") || c.peek()? != Kind::Object {
            c.skip()?;
            continue;
        }
        c.object()?;
        while let Some(key) = c.key()? {
            let (name, value) = (key.literal().to_owned(), c.skip()?);
            if !STANDING.contains(&name.as_str()) {
                members.push((name, value));
            }
        }
    }
    Ok(members)
}

/// An event's number.
fn number(event: &str) -> Result<Option<u64>, JsonError> {
    let mut c = Cursor::new(event);
    c.object()?;
    while let Some(key) = c.key()? {
        if key.is("sequence_number") {
            return c.any_u64();
        }
        c.skip()?;
    }
    Ok(None)
}

/// The two last events of a stream that broke. `response`: the members of the response but its error; `sequence`: the number
/// of the first of them.
fn failed(fault: &Fault, sequence: Option<u64>, out: &mut Vec<u8>, response: impl FnOnce(&mut Writer<'_>)) {
    let (kind, code) = openai_fault::terms(fault.kind);
    let code = code.or(fault.code.as_deref()).unwrap_or(kind);
    out.extend_from_slice(b"event: error\ndata: ");
    let mut w = Writer::new(out);
    w.object().key("type").word("error");
    if let Some(sequence) = sequence {
        w.key("sequence_number").int(sequence);
    }
    w.key("code").str(code).key("message").str(&fault.message).key("param").null();
    w.key("error").object().key("type").str(kind).key("code").str(code);
    w.key("message").str(&fault.message).key("param").null().end_object().end_object();
    out.extend_from_slice(b"\n\nevent: response.failed\ndata: ");
    let mut w = Writer::new(out);
    w.object().key("type").word("response.failed");
    if let Some(sequence) = sequence {
        w.key("sequence_number").int(sequence + 1);
    }
    w.key("response").object();
    response(&mut w);
    w.key("error").object().key("code").str(code).key("message").str(&fault.message).end_object();
    w.key("incomplete_details").null().end_object().end_object();
    out.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests;
