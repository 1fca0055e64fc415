//! OpenAI's Chat Completions, as OpenAI writes them and as the many who are compatible with it do.

mod answer;
mod body;
mod fault;
mod inspect;
mod names;
mod reply;
mod stream;
mod usage;

use crate::wire::loss::{Losses, Refusal};
use crate::wire::prompt::Prompt;
use crate::wire::{Codec, Memory, Target};

pub(super) static CODEC: Codec = Codec {
    name: "openai_chat",
    fields: &[],
    decode_request: |_, _: &mut Losses| Err(Refusal::field("", "not built")) as Result<Prompt<'_>, Refusal>,
    encode_request: |_: &Prompt<'_>, _: &Target<'_>, _: &mut Vec<u8>, _: &mut Losses| Ok(Memory::default()),
    decode_reply: reply::decode,
    encode_reply: reply::encode,
    decoder: || Box::new(stream::Decoder::default()),
    encoder: |memory| Box::new(stream::Encoder::new(memory)),
    status: fault::status,
    encode_fault: fault::encode,
    encode_fault_event: fault::encode_event,
    inspect: inspect::frame,
    inspect_reply: inspect::reply,
};
