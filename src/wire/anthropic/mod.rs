//! The Anthropic Messages format: requests, replies, streams and errors, to and from the waist.
//!
//! ```text
//!   request.rs  content.rs            request bytes ─▶ Prompt
//!   encode.rs  turns.rs  blocks.rs
//!   tools.rs  reasoning.rs  schema.rs  Prompt ─▶ request bytes
//!   reply.rs                          whole replies, both ways
//!   decoder.rs  encoder.rs            streams, both ways
//!   fault.rs  inspect.rs              errors; the verbatim lane's look at a frame
//!   names.rs  usage.rs                ids, names and counts that several of these share
//!   fields.rs  probes.rs              the fate of each field; what finds out which a route takes
//! ```
//!
//! Knows no other format and no model: what a route can do is asked of [`crate::wire::caps`]. Rules are numbered as
//! in CONVERSION.md; tests name the edge case (EC) they hold.

mod blocks;
mod content;
mod decoder;
mod encode;
mod encoder;
mod fault;
mod fields;
mod inspect;
mod names;
mod probes;
mod reasoning;
mod reply;
mod request;
mod schema;
mod tools;
mod turns;
mod unvouched;
mod usage;

#[cfg(test)]
mod tests;

use crate::wire::Codec;
use crate::wire::json::{Cursor, JsonError, JsonStr};

pub(super) static CODEC: Codec = Codec {
    name: "anthropic",
    fields: &fields::ALL,
    probes: probes::PROBES,
    needed: crate::wire::probe::MESSAGES,
    decode_request: request::decode,
    encode_request: encode::encode,
    decode_reply: reply::decode,
    encode_reply: reply::encode,
    needs_usage: true,
    decoder: || Box::new(decoder::Decoder::default()),
    encoder: |memory| Box::new(encoder::Encoder::new(memory)),
    status: fault::status,
    encode_fault: fault::encode,
    encode_fault_event: |fault, _, out| fault::encode_event(fault, out),
    numbers_events: false,
    repair: crate::wire::repair::anthropic,
    unvouched: unvouched::unvouched,
    keep_alive: "event: ping\ndata: {\"type\": \"ping\"}\n\n",
    headers: &[("anthropic-version", "2023-06-01")],
    inspect: inspect::frame,
    inspect_reply: inspect::reply,
};

/// The `type` of the object that comes next, wherever in it that stands. Nothing is taken.
fn kind_of<'a>(cursor: &Cursor<'a>) -> Result<Option<JsonStr<'a>>, JsonError> {
    let mut ahead = cursor.clone();
    ahead.object()?;
    while let Some(key) = ahead.key()? {
        if key.is("type") {
            return ahead.any_str();
        }
        ahead.skip()?;
    }
    Ok(None)
}
