//! The meaning of bytes: formats, event streams, JSON leaves, converters. Knows no HTTP, no provider, no clock.
//!
//! Two lanes lead through this room. Where the client and the upstream speak one format, [`head`] finds the few
//! fields that routing needs and [`splice`] replaces only those: everything else goes through as it came. Where they
//! differ, a request becomes a [`prompt::Prompt`] and then the other format's bytes; a reply becomes
//! [`event::Event`]s and then the other format's bytes, whole or streamed. No format knows another; each is one
//! folder and one [`Codec`].
//!
//! ```text
//!   request bytes ─ decode ─▶ Prompt ─ encode ─▶ request bytes      (+ Losses, or a Refusal)
//!   reply bytes ◀─ encode ── Event* ◀─ decode ── reply bytes        whole = fold of the same events
//! ```

pub mod caps;
pub mod convert;
mod data_url;
pub mod event;
pub mod fault;
pub mod head;
pub mod json;
#[doc(hidden)]
pub mod laws;
pub mod loss;
mod names;
mod openai_annotations;
mod openai_fault;
pub mod probe;
pub mod prompt;
pub mod rename;
mod repair;
pub mod reply;
pub mod splice;
pub mod sse;
mod strict;
mod tags;
mod think;
pub mod tokens;
pub mod translate;

mod anthropic;
mod openai_chat;
mod openai_responses;
mod openai_shared;

use std::fmt;

use caps::{Capabilities, Quirks};
use event::{Event, Sink};
use fault::Fault;
use loss::{Fields, Losses, Refusal};
use prompt::{Group, Prompt, Tool};
use reply::Reply;

/// A wire format. Spelled one way everywhere; the configuration also takes the seed's `openai`.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Format {
    #[default]
    OpenaiChat,
    OpenaiResponses,
    Anthropic,
}

impl Format {
    pub const ALL: [Self; 3] = [Self::OpenaiChat, Self::OpenaiResponses, Self::Anthropic];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.codec().name
    }

    /// Whether both are one vendor's.
    #[must_use]
    pub fn is_twin(self, other: Self) -> bool {
        let is_openai = |format| match format {
            Self::OpenaiChat | Self::OpenaiResponses => true,
            Self::Anthropic => false,
        };
        is_openai(self) == is_openai(other)
    }

    /// Reads a format's name, or one of the names the seed's files use for it.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "openai" | "openai_chat" => Some(Self::OpenaiChat),
            "openai_responses" | "responses" => Some(Self::OpenaiResponses),
            "anthropic" => Some(Self::Anthropic),
            _ => None,
        }
    }

    /// All that this format can do.
    #[must_use]
    pub fn codec(self) -> &'static Codec {
        match self {
            Self::OpenaiChat => &openai_chat::CODEC,
            Self::OpenaiResponses => &openai_responses::CODEC,
            Self::Anthropic => &anthropic::CODEC,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One format's half of every conversion.
#[derive(Debug)]
pub struct Codec {
    pub name: &'static str,
    /// The fate of everything the format has.
    pub fields: &'static Fields,
    /// Requests that find out what a route takes of what is carried.
    pub probes: &'static [probe::Probe],
    /// What each of those requests has besides.
    pub needed: &'static [probe::Needed],
    /// Reads a request. What its own format knows and no other does is kept as `Foreign` or named in the losses.
    pub decode_request: for<'a> fn(&'a str, &mut Losses) -> Result<Prompt<'a>, Refusal>,
    /// Writes a request for a route.
    pub encode_request: fn(&Prompt<'_>, &Target<'_>, &mut Vec<u8>, &mut Losses) -> Result<Memory, Refusal>,
    /// Reads a whole reply into events of the grammar. Never panics; what is no reply becomes a `Fault`.
    pub decode_reply: for<'a> fn(&'a str, &mut dyn Sink<'a>),
    /// Writes a whole reply.
    pub encode_reply: fn(&Reply<'_>, &Memory, &mut Vec<u8>),
    /// Its replies always tell the input's tokens, its streams at once: guessed where the upstream tells them later or never.
    pub needs_usage: bool,
    pub decoder: fn() -> Box<dyn StreamDecoder>,
    pub encoder: fn(&Memory) -> Box<dyn StreamEncoder>,
    /// The status a client of this format is given for a fault.
    pub status: fn(&Fault) -> u16,
    /// Writes an error body. The id is the request's, for formats that carry it in the body.
    pub encode_fault: fn(&Fault, &str, &mut Vec<u8>),
    /// Writes an error as a stream event of this format, after what the client was given of the stream.
    pub encode_fault_event: fn(&Fault, Given<'_>, &mut Vec<u8>),
    /// Its events are numbered and name what they belong to: whoever adds one has to know those before it.
    pub numbers_events: bool,
    /// What keeps a stream of this format alive, and means nothing: what its clients' watchdogs count as life (CLIENTS, PEERS P13).
    pub keep_alive: &'static str,
    /// What puts empty results into a request for the tool calls that lack one: where to insert what.
    pub repair: fn(&str) -> Vec<splice::Edit>,
    /// What takes thinking out of a request of this format.
    pub unvouched: fn(&[u8], Sealed) -> Vec<splice::Edit>,
    /// Headers every request of this format carries, unless configuration or client set others.
    pub headers: &'static [(&'static str, &'static str)],
    /// What a frame of this format's stream is, for the lane that forwards it untouched.
    pub inspect: fn(&sse::Frame, Past) -> Inspection,
    /// The usage of a whole reply of this format, looked up without decoding the rest. `Err`: it is an error after all.
    pub inspect_reply: fn(&str) -> Result<event::Usage, Fault>,
}

/// Whose thinking is meant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sealed {
    /// What we have signed, because nobody else had, or for another vendor: no upstream of this format vouches for it.
    ByUs,
    /// All that has a seal: this upstream knows none of them.
    ByAnybody,
}

/// What a client was given of a stream, where that is known: the data of its first event and of its last; or nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Given<'g> {
    pub first: &'g str,
    pub last: &'g str,
}

/// What the verbatim lane needs to know of one frame.
#[derive(Clone, Debug, Default)]
pub struct Inspection {
    pub sign: Sign,
    /// Which of several answers side by side have ended with this frame, a bit each.
    pub finished: u128,
    pub usage: Option<event::Usage>,
}

impl Inspection {
    fn of(sign: Sign, usage: Option<event::Usage>) -> Self {
        let finished = u128::from(matches!(sign, Sign::Finished));
        Self { sign, finished, usage }
    }
}

/// How far a stream has come: what need not be asked again.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Past {
    #[default]
    Nothing,
    /// Output was seen: more of it tells nothing new, and may be taken for [`Sign::Quiet`].
    Output,
}

/// What a frame means for the commit point and for the end.
#[derive(Clone, Debug, Default)]
pub enum Sign {
    /// A ping, a comment, a start, an empty delta: nothing the reader sees.
    #[default]
    Quiet,
    /// The model has begun to think, and has said nothing that the reader sees.
    Begun,
    /// The first such frame is the commit point.
    Output,
    /// An answer is complete; if it was the last, the stream may end after it.
    Finished,
    /// The last frame there is.
    Over,
    Fault(Fault),
}

/// What an encoder has to know of the route a request goes to.
#[derive(Clone, Copy, Debug)]
pub struct Target<'t> {
    /// The upstream's model name.
    pub model: &'t str,
    pub capabilities: &'t Capabilities,
    pub quirks: &'t Quirks,
}

/// What the way back has to remember of the way there. Made by `encode_request`; the gateway fills in the rest.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// The model as the client called it: replies name it so.
    pub model: String,
    /// Seconds since 1970, for formats that date their replies.
    pub created: u64,
    /// Makes ids of replies that carry none.
    pub seed: u64,
    /// The client wants the usage chunk (OpenAI streams).
    pub include_usage: bool,
    /// A guess at the input tokens, for formats that tell them before the upstream has.
    pub input_estimate: u64,
    /// Tool names that had to be shortened: (as sent, as the client knows it).
    pub names: Vec<(String, String)>,
    /// The client spoke of `functions`, not tools.
    pub legacy_functions: bool,
    /// The upstream writes its thinking into its text.
    pub think_tags: bool,
    /// The client does not want to see thinking.
    pub hide_thinking: bool,
    /// Tools that stand in groups at the client: (the name they go by, the group, the name in it).
    pub groups: Vec<(String, String, String)>,
    /// Tools that the client's format gives a text.
    pub texts: Vec<String>,
    /// What the answer repeats of the request: members of its object, each with a comma before it.
    pub echo: Option<String>,
    /// The answer is to be the input of this tool, unwrapped into text: how schemas reach models without them.
    pub unwrap_tool: Option<String>,
}

impl Memory {
    /// Notes what the client's own format will want to know of its request again.
    pub fn note(&mut self, prompt: &mut Prompt<'_>) {
        self.model = prompt.model.decode().into_owned();
        self.include_usage = prompt.include_usage;
        self.legacy_functions = prompt.legacy_functions;
        self.hide_thinking = prompt.hide_thinking;
        self.echo = prompt.echo.take();
        for tool in &prompt.tools {
            let Tool::Function(function) = tool else { continue };
            let name = || function.name.decode().into_owned();
            if let Some(Group { namespace, name: own }) = &function.group {
                self.groups.push((name(), namespace.decode().into_owned(), own.decode().into_owned()));
            }
            if function.text {
                self.texts.push(name());
            }
        }
    }

    /// The client's own name of a tool.
    #[must_use]
    pub fn tool_name<'n>(&'n self, sent: &'n json::JsonStr<'n>) -> json::JsonStr<'n> {
        match self.names.iter().find(|(short, _)| sent.is(short)) {
            Some((_, long)) => json::JsonStr::quote(long),
            None => sent.borrow(),
        }
    }

    /// The model as the client calls it; the upstream's name only where nobody told us that.
    #[must_use]
    pub fn model_name<'n>(&'n self, upstream: Option<&'n json::JsonStr<'n>>) -> json::JsonStr<'n> {
        match upstream {
            Some(upstream) if self.model.is_empty() => upstream.borrow(),
            _ => json::JsonStr::quote(&self.model),
        }
    }
}

/// Reads a stream of one format, frame by frame, into events of the grammar.
pub trait StreamDecoder: Send + fmt::Debug {
    /// Takes one frame's event name and data.
    fn frame<'a>(&mut self, name: Option<&[u8]>, data: &'a str, sink: &mut dyn Sink<'a>);
    /// The bytes have ended: whatever is missing becomes a `Fault`.
    fn finish(&mut self, sink: &mut dyn Sink<'static>);
    /// Whether nothing but counts can still come: an end of the bytes, however it comes about, then breaks nothing.
    fn is_complete(&self) -> bool;
}

/// Writes a stream of one format, event by event.
pub trait StreamEncoder: Send + fmt::Debug {
    fn event(&mut self, event: &Event<'_>, out: &mut Vec<u8>);
}
