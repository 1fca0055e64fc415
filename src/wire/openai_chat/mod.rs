//! OpenAI's Chat Completions, as OpenAI writes them and as the many who are compatible with it do.

mod answer;
mod body;
mod fault;
mod fields;
mod functions_out;
mod inspect;
mod messages_in;
mod messages_out;
mod names;
mod parts_in;
mod probes;
mod reply;
mod request_in;
mod request_out;
mod stream;
mod thinking_out;
mod usage;

use crate::wire::Codec;

pub(super) static CODEC: Codec = Codec {
    name: "openai_chat",
    fields: &fields::ALL,
    probes: probes::PROBES,
    needed: crate::wire::probe::MESSAGES,
    decode_request: request_in::decode,
    encode_request: request_out::encode,
    decode_reply: reply::decode,
    encode_reply: reply::encode,
    needs_usage: false,
    decoder: || Box::new(stream::Decoder::default()),
    encoder: |memory| Box::new(stream::Encoder::new(memory)),
    status: fault::status,
    encode_fault: fault::encode,
    encode_fault_event: |fault, _, out| fault::encode_event(fault, out),
    numbers_events: false,
    repair: crate::wire::repair::openai_chat,
    unvouched: |_, _| Vec::new(),
    keep_alive: ": keep-alive\n\n",
    headers: &[],
    inspect: inspect::frame,
    inspect_reply: inspect::reply,
};

#[cfg(test)]
mod tests;
