//! Reads a stream of Messages events (CONVERSION 8.1, 8.3).
//!
//! ```text
//! message_start (content_block_start content_block_delta* content_block_stop)* message_delta message_stop
//! ```
//!
//! Anthropic adds event and delta types without notice and asks clients to pass over those they do not know: they
//! count as a sign of life. Everything else that does not fit ends the stream with a fault, and so does an end of
//! the bytes before `message_stop`: half an answer must not look like a whole one.

use crate::wire::StreamDecoder;
use crate::wire::event::{Delta, Event, Open, Sink};
use crate::wire::fault::Fault;
use crate::wire::json::{Cursor, Json, JsonError, JsonStr, Kind};
use crate::wire::prompt::Args;

use super::reply::{Ending, Message, Piece, blocks, garbage};
use super::usage;

#[derive(Debug, Default)]
pub(super) struct Decoder {
    stage: Stage,
    open: Option<Block>,
    /// Blocks opened so far.
    opened: u64,
    /// There was a call among them.
    calls: bool,
    /// The message's id: makes ids for calls that come without.
    seed: String,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Stage {
    #[default]
    Before,
    Started,
    /// The reason of the end was told; only counts may follow.
    Stopped,
    Over,
}

/// The block that is open.
#[derive(Debug)]
struct Block {
    /// As the upstream counts; `None`: it does not.
    index: Option<u64>,
    inside: Inside,
}

#[derive(Debug)]
enum Inside {
    Text,
    Thinking,
    Redacted,
    /// A call; its input, where it came whole with the start. Fragments that follow take its place.
    Tool {
        input: Option<String>,
    },
    Foreign,
}

impl StreamDecoder for Decoder {
    fn frame<'a>(&mut self, name: Option<&[u8]>, data: &'a str, sink: &mut dyn Sink<'a>) {
        if self.stage == Stage::Over || (data.is_empty() && name != Some(b"error")) {
            return;
        }
        if let Err(fault) = self.read(name, data, sink) {
            self.stage = Stage::Over;
            sink.event(Event::Fault(fault));
        }
    }

    fn finish(&mut self, sink: &mut dyn Sink<'static>) {
        if self.stage != Stage::Over {
            self.stage = Stage::Over;
            sink.event(Event::Fault(Fault::garbage("the upstream's stream ended before the answer did")));
        }
    }

    /// Never before `message_stop`, which is never late.
    fn is_complete(&self) -> bool {
        self.stage == Stage::Over
    }
}

/// One event's members, before it is known what they mean.
#[derive(Debug, Default)]
pub(super) struct Parts<'a> {
    pub(super) kind: Option<JsonStr<'a>>,
    index: Option<u64>,
    pub(super) message: Option<Cursor<'a>>,
    pub(super) block: Option<Cursor<'a>>,
    pub(super) delta: Option<Cursor<'a>>,
    pub(super) usage: Option<Cursor<'a>>,
    is_error: bool,
}

impl<'a> Parts<'a> {
    pub(super) fn read(data: &'a str) -> Result<Self, JsonError> {
        let mut parts = Self::default();
        let mut cursor = Cursor::new(data);
        cursor.object()?;
        while let Some(key) = cursor.key()? {
            match key.decode().as_ref() {
                "type" => parts.kind = cursor.any_str()?,
                "index" => parts.index = cursor.skip()?.as_u64(),
                "message" => parts.message = object(&mut cursor)?,
                "content_block" => parts.block = object(&mut cursor)?,
                "delta" => parts.delta = object(&mut cursor)?,
                "usage" => parts.usage = object(&mut cursor)?,
                "error" => parts.is_error = cursor.opt_skip()?.is_some(),
                // `context_management`, padding, and what is yet to come.
                _ => {
                    cursor.skip()?;
                }
            }
        }
        cursor.end()?;
        Ok(parts)
    }
}

/// A place to read an object from later; what is no object is nothing.
fn object<'a>(cursor: &mut Cursor<'a>) -> Result<Option<Cursor<'a>>, JsonError> {
    let found = (cursor.peek()? == Kind::Object).then(|| cursor.clone());
    cursor.skip()?;
    Ok(found)
}

impl Decoder {
    fn read<'a>(&mut self, name: Option<&[u8]>, data: &'a str, sink: &mut dyn Sink<'a>) -> Result<(), Fault> {
        if name == Some(b"error") {
            return Err(Fault::read_event(data));
        }
        let parts = Parts::read(data).map_err(garbage)?;
        let kind = parts.kind.as_ref().map(|kind| kind.decode());
        let kind = match (&kind, name) {
            (Some(kind), _) => kind.as_bytes(),
            (None, Some(name)) => name,
            (None, None) => b"",
        };
        match (self.stage, kind) {
            (_, b"error") => Err(Fault::read_event(data)),
            _ if parts.is_error => Err(Fault::read_event(data)),
            (Stage::Before, b"message_start") => self.start(parts, sink),
            (_, b"message_start") => Err(Fault::garbage("the upstream began a second message in one stream")),
            (Stage::Before, b"ping") => Ok(()),
            (Stage::Before, _) => Err(Fault::garbage("the upstream's stream does not begin with message_start")),
            (Stage::Started, b"content_block_start") => self.open(parts, sink),
            (Stage::Started, b"content_block_delta") => self.delta(parts, sink),
            (Stage::Stopped, b"content_block_start" | b"content_block_delta") => {
                Err(Fault::garbage("the upstream went on after it had told why it stopped"))
            }
            (_, b"content_block_stop") => {
                // A block that a later start has closed already is stopped a second time: nothing is lost.
                if self.open.as_ref().is_some_and(|open| agree(open.index, parts.index)) {
                    self.close(sink);
                }
                Ok(())
            }
            (_, b"message_delta") => self.end_of_content(parts, sink),
            (_, b"message_stop") => {
                self.close(sink);
                if self.stage == Stage::Started {
                    sink.event(Event::Stop(Ending::default().stop(self.calls)));
                }
                self.stage = Stage::Over;
                sink.event(Event::End);
                Ok(())
            }
            // `ping`, and the types that are yet to come.
            (_, _) => {
                sink.event(Event::Ping);
                Ok(())
            }
        }
    }

    fn start<'a>(&mut self, parts: Parts<'a>, sink: &mut dyn Sink<'a>) -> Result<(), Fault> {
        let Some(mut cursor) = parts.message else {
            return Err(Fault::garbage("the upstream's message_start holds no message"));
        };
        let message = Message::read(&mut cursor).map_err(garbage)?;
        self.seed = message.id.as_ref().map(|id| id.literal().to_owned()).unwrap_or_default();
        self.stage = Stage::Started;
        sink.event(message.start());
        if let Some(mut content) = message.content {
            self.calls = blocks(&mut content, &self.seed, sink)?;
        }
        Ok(())
    }

    fn open<'a>(&mut self, parts: Parts<'a>, sink: &mut dyn Sink<'a>) -> Result<(), Fault> {
        let Some(mut cursor) = parts.block else {
            return Err(Fault::garbage("the upstream opened a block without saying which"));
        };
        self.close(sink);
        let piece = Piece::read(&mut cursor).map_err(garbage)?;
        let open = piece.open(&self.seed, self.opened)?;
        self.opened += 1;
        let inside = match &open {
            Open::Text | Open::Refusal => Inside::Text,
            Open::Thinking => Inside::Thinking,
            Open::RedactedThinking { .. } => Inside::Redacted,
            Open::ToolUse { .. } => {
                self.calls = true;
                let whole = piece.input.as_ref().filter(|input| !is_empty(input));
                Inside::Tool { input: whole.map(|input| input.as_str().to_owned()) }
            }
            Open::Foreign { .. } => Inside::Foreign,
        };
        self.open = Some(Block { index: parts.index, inside });
        sink.event(Event::Open(open));
        piece.contents(sink)
    }

    fn delta<'a>(&mut self, parts: Parts<'a>, sink: &mut dyn Sink<'a>) -> Result<(), Fault> {
        let Some(open) = &mut self.open else {
            return Err(Fault::garbage("the upstream went on with a block that is not open"));
        };
        if !agree(open.index, parts.index) {
            return Err(Fault::garbage("the upstream mixed the contents of two blocks"));
        }
        let Some(cursor) = parts.delta else {
            return Err(Fault::garbage("the upstream's delta is no object"));
        };
        if let Inside::Foreign = open.inside {
            let json = cursor.clone().skip().map_err(garbage)?;
            sink.event(Event::Delta(Delta::Foreign(json)));
            return Ok(());
        }
        let more = More::read(cursor).map_err(garbage)?;
        if let Some(delta) = more.within(&mut open.inside)? {
            sink.event(Event::Delta(delta));
        }
        Ok(())
    }

    /// `message_delta`: counts so far and, once, why it ended.
    fn end_of_content<'a>(&mut self, parts: Parts<'a>, sink: &mut dyn Sink<'a>) -> Result<(), Fault> {
        let mut ending = Ending::default();
        if let Some(mut cursor) = parts.delta {
            cursor.object().map_err(garbage)?;
            while let Some(key) = cursor.key().map_err(garbage)? {
                if !ending.key(&key.decode(), &mut cursor).map_err(garbage)? {
                    // `container`: lives on Anthropic's servers.
                    cursor.skip().map_err(garbage)?;
                }
            }
        }
        if ending.reason.is_some() {
            self.close(sink);
        }
        if let Some(mut cursor) = parts.usage {
            sink.event(Event::Usage(usage::read(&mut cursor).map_err(garbage)?));
        }
        if ending.reason.is_some() && self.stage == Stage::Started {
            self.stage = Stage::Stopped;
            sink.event(Event::Stop(ending.stop(self.calls)));
        }
        Ok(())
    }

    fn close(&mut self, sink: &mut dyn Sink<'_>) {
        let Some(block) = self.open.take() else {
            return;
        };
        if let Inside::Tool { input: Some(input) } = block.inside {
            sink.event(Event::Delta(Delta::Args(Args::Json(Json::raw(input)))));
        }
        sink.event(Event::Close);
    }
}

/// Whether an event is about the block that is open. Who does not count is believed.
fn agree(open: Option<u64>, event: Option<u64>) -> bool {
    open.is_none() || event.is_none() || open == event
}

fn is_empty(input: &Json<'_>) -> bool {
    let mut cursor = input.cursor();
    input.kind() != Kind::Object || cursor.object().is_ok() && matches!(cursor.key(), Ok(None))
}

/// The members of a delta.
#[derive(Debug, Default)]
pub(super) struct More<'a> {
    kind: JsonStr<'a>,
    text: Option<JsonStr<'a>>,
    thinking: Option<JsonStr<'a>>,
    signature: Option<JsonStr<'a>>,
    partial_json: Option<JsonStr<'a>>,
    citation: Option<Json<'a>>,
}

impl<'a> More<'a> {
    pub(super) fn read(mut cursor: Cursor<'a>) -> Result<Self, JsonError> {
        let mut more = Self::default();
        cursor.object()?;
        while let Some(key) = cursor.key()? {
            match key.decode().as_ref() {
                "type" => more.kind = cursor.any_str()?.unwrap_or_default(),
                "text" => more.text = cursor.any_str()?,
                "thinking" => more.thinking = cursor.any_str()?,
                "signature" => more.signature = cursor.any_str()?,
                "partial_json" => more.partial_json = cursor.any_str()?,
                "citation" => more.citation = cursor.opt_skip()?,
                // Counts of thinking tokens and the like: betas add them beside the text.
                _ => {
                    cursor.skip()?;
                }
            }
        }
        Ok(more)
    }

    /// Whether the reader sees something of it.
    pub(super) fn is_output(&self) -> bool {
        let texts = [&self.text, &self.thinking, &self.signature, &self.partial_json];
        let known = ["text_delta", "thinking_delta", "signature_delta", "input_json_delta"];
        texts.into_iter().flatten().any(|text| !text.is_empty()) || !known.iter().any(|kind| self.kind.is(kind))
    }

    /// What it means inside the open block. Empty ones mean nothing, nor do types that are yet to come.
    fn within(self, inside: &mut Inside) -> Result<Option<Delta<'a>>, Fault> {
        let full = |text: Option<JsonStr<'a>>| text.filter(|text| !text.is_empty());
        Ok(match (self.kind.literal(), inside) {
            ("text_delta", Inside::Text) => full(self.text).map(Delta::Text),
            ("citations_delta", Inside::Text) => self.citation.map(Delta::Citation),
            ("thinking_delta", Inside::Thinking) => full(self.thinking).map(Delta::Thinking),
            ("signature_delta", Inside::Thinking) => full(self.signature).map(Delta::Signature),
            ("input_json_delta", Inside::Tool { input }) => full(self.partial_json).map(|fragment| {
                *input = None;
                Delta::Args(Args::Text(fragment))
            }),
            ("text_delta" | "citations_delta" | "thinking_delta" | "signature_delta" | "input_json_delta", _) => {
                return Err(Fault::garbage("the upstream's delta does not belong to its block"));
            }
            (_, _) => None,
        })
    }
}
