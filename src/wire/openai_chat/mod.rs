//! The openai_chat format: to be written.

use crate::wire::event::{Event, Sink, Usage};
use crate::wire::fault::Fault;
use crate::wire::loss::{Losses, Refusal};
use crate::wire::prompt::Prompt;
use crate::wire::reply::Reply;
use crate::wire::{Codec, Inspection, Memory, StreamDecoder, StreamEncoder, Target, sse};

pub(super) static CODEC: Codec = Codec {
    name: "openai_chat",
    fields: &[],
    decode_request: |_, _: &mut Losses| Err(Refusal::field("", "not built")) as Result<Prompt<'_>, Refusal>,
    encode_request: |_: &Prompt<'_>, _: &Target<'_>, _: &mut Vec<u8>, _: &mut Losses| Ok(Memory::default()),
    decode_reply: |_, _: &mut dyn Sink<'_>| {},
    encode_reply: |_: &Reply<'_>, _: &Memory, _: &mut Vec<u8>| {},
    decoder: || Box::new(Nothing) as Box<dyn StreamDecoder>,
    encoder: |_: &Memory| Box::new(Nothing) as Box<dyn StreamEncoder>,
    status: |fault: &Fault| fault.status,
    encode_fault: |_: &Fault, _: &str, _: &mut Vec<u8>| {},
    encode_fault_event: |_: &Fault, _: &mut Vec<u8>| {},
    repair: |_| Vec::new(),
    headers: &[],
    inspect: |_: &sse::Frame| Inspection::default(),
    inspect_reply: |_: &str| Ok(Usage::default()),
};

#[derive(Debug)]
struct Nothing;

impl StreamDecoder for Nothing {
    fn frame<'a>(&mut self, _: Option<&[u8]>, _: &'a str, _: &mut dyn Sink<'a>) {}
    fn finish(&mut self, _: &mut dyn Sink<'static>) {}
}

impl StreamEncoder for Nothing {
    fn event(&mut self, _: &Event<'_>, _: &mut Vec<u8>) {}
}
