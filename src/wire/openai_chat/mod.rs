//! OpenAI's Chat Completions, as OpenAI writes them and as the many who are compatible with it do.

mod annotations;
mod answer;
mod body;
mod fault;
mod inspect;
mod messages_in;
mod messages_out;
mod names;
mod parts_in;
mod reply;
mod request_in;
mod request_out;
mod stream;
mod usage;

use crate::wire::Codec;
use crate::wire::loss::Field;

/// The fate of every field of the official request, and of those extensions that are understood.
pub(super) const FIELDS: &[Field] = &[
    Field::carry("model"),
    Field::carry("messages"),
    Field::carry("max_tokens"),
    Field::carry("max_completion_tokens"),
    Field::carry("temperature"),
    Field::carry("top_p"),
    // Not OpenAI's own: many who are compatible take it.
    Field::carry("top_k"),
    Field::carry("stop"),
    Field::carry("stream"),
    Field::carry("stream_options"),
    Field::carry("tools"),
    Field::carry("tool_choice"),
    Field::carry("parallel_tool_calls"),
    Field::carry("functions"),
    Field::carry("function_call"),
    Field::carry("reasoning_effort"),
    Field::carry("response_format"),
    Field::carry("user"),
    Field::carry("safety_identifier"),
    Field::carry("service_tier"),
    Field::refuse("n", "one answer per request; several would multiply its cost unseen"),
    Field::refuse("logprobs", "no other format tells probabilities"),
    Field::drop("top_logprobs", "no other format tells probabilities"),
    Field::drop("logit_bias", "no other format has it"),
    Field::drop("seed", "no other format has it"),
    Field::drop("frequency_penalty", "no other format has it"),
    Field::drop("presence_penalty", "no other format has it"),
    Field::drop("verbosity", "no other format has it"),
    Field::refuse("audio", "no other format speaks"),
    Field::refuse("modalities", "no other format answers in anything but text"),
    Field::refuse("web_search_options", "the search runs at the vendor; give the model a search tool instead"),
    Field::refuse("moderation", "the check runs at the vendor and would not be made"),
    Field::drop("metadata", "bookkeeping of the vendor"),
    Field::drop("store", "bookkeeping of the vendor"),
    Field::drop("prompt_cache_key", "caches differ by vendor"),
    Field::drop("prompt_cache_options", "caches differ by vendor"),
    Field::drop("prompt_cache_retention", "caches differ by vendor"),
    Field::drop("prediction", "speeds the answer up, and changes nothing in it"),
];

pub(super) static CODEC: Codec = Codec {
    name: "openai_chat",
    fields: FIELDS,
    decode_request: request_in::decode,
    encode_request: request_out::encode,
    decode_reply: reply::decode,
    encode_reply: reply::encode,
    decoder: || Box::new(stream::Decoder::default()),
    encoder: |memory| Box::new(stream::Encoder::new(memory)),
    status: fault::status,
    encode_fault: fault::encode,
    encode_fault_event: fault::encode_event,
    repair: crate::wire::repair::openai_chat,
    unvouched: |_| Vec::new(),
    headers: &[],
    inspect: inspect::frame,
    inspect_reply: inspect::reply,
};

#[cfg(test)]
mod tests;
