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
mod inspect;
mod names;
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
use crate::wire::json::{Cursor, JsonError, JsonStr, Kind};
use crate::wire::loss::Field;

pub(super) static CODEC: Codec = Codec {
    name: "anthropic",
    fields: FIELDS,
    decode_request: request::decode,
    encode_request: encode::encode,
    decode_reply: |text, _, sink| reply::decode(text, sink),
    encode_reply: reply::encode,
    decoder: |_| Box::new(decoder::Decoder::default()),
    encoder: |memory| Box::new(encoder::Encoder::new(memory)),
    status: fault::status,
    encode_fault: fault::encode,
    encode_fault_event: fault::encode_event,
    repair: crate::wire::repair::anthropic,
    unvouched: unvouched::unvouched,
    headers: &[("anthropic-version", "2023-06-01")],
    inspect: inspect::frame,
    inspect_reply: inspect::reply,
};

/// The fate of every top-level field of the Messages request, of its betas, and of the two that Bedrock and Vertex
/// put into the body (`anthropic` 2.12.0: `message_create_params`, `beta/message_create_params`).
const FIELDS: &[Field] = &[
    Field::carry("model"),
    Field::carry("messages"),
    Field::carry("max_tokens"),
    Field::carry("metadata"),
    Field::carry("output_config"),
    Field::carry("output_format"),
    Field::carry("service_tier"),
    Field::carry("stop_sequences"),
    Field::carry("stream"),
    Field::carry("system"),
    Field::carry("temperature"),
    Field::carry("thinking"),
    Field::carry("tool_choice"),
    Field::carry("tools"),
    Field::carry("top_k"),
    Field::carry("top_p"),
    Field::drop("anthropic_beta", "betas belong to Anthropic's own endpoints"),
    Field::drop("anthropic_version", "the version belongs to Anthropic's own endpoints"),
    Field::drop("betas", "betas belong to Anthropic's own endpoints"),
    Field::drop("billing_policy", "billing belongs to the Anthropic account"),
    Field::drop("cache_control", "other providers cache prompts by themselves"),
    Field::drop("compaction", "the conversation is not compacted by other providers"),
    Field::drop("container", "containers live on Anthropic's servers"),
    Field::drop("context_management", "the context is not edited by other providers"),
    Field::drop("diagnostics", "diagnostics are Anthropic's own"),
    Field::drop("fallback_credit_token", "billing belongs to the Anthropic account"),
    Field::drop("fallbacks", "falling back to other models is the proxy's business"),
    Field::drop("inference_geo", "the region is chosen by the route"),
    Field::drop("mcp_servers", "no other format calls MCP servers for the client"),
    Field::drop("speed", "the speed tier is Anthropic's own"),
    Field::drop("task_budget", "no other format has a budget for a whole task"),
    Field::refuse(THREAD, "this route does not support message threads: send the whole conversation without `thread`"),
    Field::drop("user_profile_id", "user profiles live on Anthropic's servers"),
    Field::drop("workspace_id", "workspaces belong to the Anthropic account"),
];

/// The field that asks for a conversation kept by the server. The gateway knows its refusal by this place and adds
/// the details that make an SDK go on without (CLIENTS.md, fact 5).
pub(super) const THREAD: &str = "thread";

/// Takes a string; any other value is skipped as `None`.
fn word<'a>(cursor: &mut Cursor<'a>) -> Result<Option<JsonStr<'a>>, JsonError> {
    match cursor.peek()? {
        Kind::Str => cursor.str().map(Some),
        Kind::Object | Kind::Array | Kind::Num | Kind::Bool | Kind::Null => cursor.skip().map(|_| None),
    }
}

/// The `type` of the object that comes next, wherever in it that stands. Nothing is taken.
fn kind_of<'a>(cursor: &Cursor<'a>) -> Result<Option<JsonStr<'a>>, JsonError> {
    let mut ahead = cursor.clone();
    ahead.object()?;
    while let Some(key) = ahead.key()? {
        if key.is("type") {
            return word(&mut ahead);
        }
        ahead.skip()?;
    }
    Ok(None)
}
