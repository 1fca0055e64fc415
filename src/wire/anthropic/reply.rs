//! Whole replies: read into the events a stream of the same answer would give, and written from their fold
//! (CONVERSION 6, 7, 10.3).

use crate::wire::event::{Delta, Event, Open, Reason, Sink, Stop, Usage};
use crate::wire::fault::Fault;
use crate::wire::json::{Cursor, Json, JsonError, JsonStr, Kind, Writer};
use crate::wire::prompt::Args;
use crate::wire::reply::{Reply, ReplyBlock};
use crate::wire::{Format, Memory};

use super::names::{Envelope, made_up_id, message_id};
use super::{kind_of, usage};

pub(super) fn decode<'a>(body: &'a str, sink: &mut dyn Sink<'a>) {
    if let Err(fault) = read(body, sink) {
        sink.event(Event::Fault(fault));
    }
}

fn read<'a>(body: &'a str, sink: &mut dyn Sink<'a>) -> Result<(), Fault> {
    let mut cursor = Cursor::new(body);
    let message = Message::read(&mut cursor).and_then(|message| cursor.end().map(|()| message)).map_err(garbage)?;
    if message.is_error {
        return Err(Fault::read_event(body));
    }
    let Some(mut content) = message.content.clone() else {
        return Err(Fault::garbage("the upstream's answer is no message: it has no content"));
    };
    sink.event(message.start());
    let seed = message.id.as_ref().map(JsonStr::literal).unwrap_or_default();
    let calls = blocks(&mut content, seed, sink)?;
    sink.event(Event::Stop(message.ending.stop(calls)));
    sink.event(Event::End);
    Ok(())
}

/// What a message says of itself: whole, or as `message_start` begins it.
pub(super) struct Message<'a> {
    pub(super) id: Option<JsonStr<'a>>,
    pub(super) model: Option<JsonStr<'a>>,
    /// Stands before the list of blocks.
    pub(super) content: Option<Cursor<'a>>,
    pub(super) usage: Usage,
    pub(super) ending: Ending<'a>,
    /// It is an error object, whatever its status said.
    pub(super) is_error: bool,
}

impl<'a> Message<'a> {
    pub(super) fn read(cursor: &mut Cursor<'a>) -> Result<Self, JsonError> {
        let mut this = Self {
            id: None,
            model: None,
            content: None,
            usage: Usage::default(),
            ending: Ending::default(),
            is_error: false,
        };
        cursor.object()?;
        while let Some(key) = cursor.key()? {
            let key = key.decode();
            match key.as_ref() {
                "type" => this.is_error |= cursor.any_str()?.is_some_and(|kind| kind.is("error")),
                "id" => this.id = cursor.any_str()?.filter(|id| !id.is_empty()),
                "model" => this.model = cursor.any_str()?,
                "content" => {
                    this.content = (cursor.peek()? == Kind::Array).then(|| cursor.clone());
                    cursor.step_over()?;
                }
                "usage" => this.usage = usage::read(cursor)?,
                "error" => this.is_error |= cursor.opt_skip()?.is_some(),
                other if this.ending.key(other, cursor)? => {}
                // role, container, context_management, diagnostics and what is yet to come: other formats have no
                // place for them, and an answer is not refused for them.
                _ => {
                    cursor.skip()?;
                }
            }
        }
        Ok(this)
    }

    pub(super) fn start(&self) -> Event<'a> {
        Event::Start { id: self.id.clone(), model: self.model.clone(), usage: self.usage }
    }
}

/// Why a message ended, in a whole one and in `message_delta`.
#[derive(Debug, Default)]
pub(super) struct Ending<'a> {
    pub(super) reason: Option<JsonStr<'a>>,
    sequence: Option<JsonStr<'a>>,
    explanation: Option<JsonStr<'a>>,
}

impl<'a> Ending<'a> {
    /// Takes the value of a key that is about the end; `false`: it is not.
    pub(super) fn key(&mut self, key: &str, cursor: &mut Cursor<'a>) -> Result<bool, JsonError> {
        match key {
            "stop_reason" => self.reason = cursor.any_str()?,
            "stop_sequence" => self.sequence = cursor.any_str()?,
            "stop_details" => self.explanation = explanation(cursor)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Derives the reason from the content first, from the label second (CONVERSION 0, principle 4).
    pub(super) fn stop(self, calls: bool) -> Stop<'a> {
        let label = match self.reason.as_ref().map(|word| word.decode()).as_deref() {
            Some("stop_sequence") => Reason::StopSequence,
            Some("max_tokens") => Reason::MaxTokens,
            Some("tool_use") => Reason::ToolUse,
            Some("pause_turn") => Reason::PauseTurn,
            Some("refusal") => Reason::Refusal,
            Some("model_context_window_exceeded") => Reason::ContextWindow,
            // end_turn, compaction, and every reason that is yet to be invented (EC56).
            Some(_) | None => Reason::EndTurn,
        };
        let reason = match (label, calls) {
            (Reason::EndTurn | Reason::StopSequence, true) => Reason::ToolUse,
            (Reason::ToolUse, false) => Reason::EndTurn,
            (label, _) => label,
        };
        let sequence = self.sequence.filter(|_| reason == Reason::StopSequence);
        Stop { reason, sequence, explanation: self.explanation }
    }
}

fn explanation<'a>(cursor: &mut Cursor<'a>) -> Result<Option<JsonStr<'a>>, JsonError> {
    if cursor.peek()? != Kind::Object {
        cursor.skip()?;
        return Ok(None);
    }
    let mut found = None;
    cursor.object()?;
    while let Some(key) = cursor.key()? {
        if key.is("explanation") {
            found = cursor.any_str()?;
        } else {
            cursor.skip()?;
        }
    }
    Ok(found)
}

/// Reads a list of whole blocks; tells whether there were calls among them. `seed` makes ids that are missing.
pub(super) fn blocks<'a>(cursor: &mut Cursor<'a>, seed: &str, sink: &mut dyn Sink<'a>) -> Result<bool, Fault> {
    let mut calls = false;
    let mut index = 0;
    cursor.array().map_err(garbage)?;
    while cursor.item().map_err(garbage)? {
        let piece = Piece::read(cursor).map_err(garbage)?;
        let open = piece.open(seed, index)?;
        let is_call = matches!(open, Open::ToolUse { .. });
        calls |= is_call;
        sink.event(Event::Open(open));
        piece.contents(sink)?;
        if is_call {
            let input = piece.input.unwrap_or_else(|| Json::raw("{}"));
            sink.event(Event::Delta(Delta::Args(Args::Json(input))));
        }
        sink.event(Event::Close);
        index += 1;
    }
    Ok(calls)
}

/// One block as it is written: whole, or as `content_block_start` begins it.
pub(super) struct Piece<'a> {
    kind: JsonStr<'a>,
    text: Option<JsonStr<'a>>,
    thinking: Option<JsonStr<'a>>,
    signature: Option<JsonStr<'a>>,
    data: Option<JsonStr<'a>>,
    id: Option<JsonStr<'a>>,
    name: Option<JsonStr<'a>>,
    pub(super) input: Option<Json<'a>>,
    citations: Option<Cursor<'a>>,
    json: Json<'a>,
}

impl<'a> Piece<'a> {
    pub(super) fn read(cursor: &mut Cursor<'a>) -> Result<Self, JsonError> {
        let from = cursor.at();
        let mut this = Self {
            kind: JsonStr::default(),
            text: None,
            thinking: None,
            signature: None,
            data: None,
            id: None,
            name: None,
            input: None,
            citations: None,
            json: Json::raw("{}"),
        };
        cursor.object()?;
        while let Some(key) = cursor.key()? {
            match key.decode().as_ref() {
                "type" => this.kind = cursor.any_str()?.unwrap_or_default(),
                "text" => this.text = cursor.any_str()?,
                "thinking" => this.thinking = cursor.any_str()?,
                "signature" => this.signature = cursor.any_str()?,
                "data" => this.data = cursor.any_str()?,
                "id" => this.id = cursor.any_str()?,
                "name" => this.name = cursor.any_str()?,
                "input" => this.input = cursor.opt_skip()?,
                "citations" => {
                    this.citations = (cursor.peek()? == Kind::Array).then(|| cursor.clone());
                    cursor.skip()?;
                }
                // `caller`, `toolset_name`; blocks of other kinds stay whole in `json`.
                _ => {
                    cursor.skip()?;
                }
            }
        }
        this.json = cursor.since(from)?;
        Ok(this)
    }

    /// The event that opens it.
    pub(super) fn open(&self, seed: &str, index: u64) -> Result<Open<'a>, Fault> {
        Ok(match self.kind.decode().as_ref() {
            "text" => Open::Text,
            "thinking" => Open::Thinking,
            "redacted_thinking" => Open::RedactedThinking { data: self.data.clone().unwrap_or_default() },
            "tool_use" => {
                let id = self.id.clone().filter(|id| !id.is_empty()).unwrap_or_else(|| made_up_id(seed, index));
                match self.name.clone().filter(|name| !name.is_empty()) {
                    Some(name) => Open::ToolUse { id, name },
                    None => return Err(Fault::garbage("the upstream called a tool without naming it")),
                }
            }
            _ => Open::Foreign { from: Format::Anthropic, kind: self.kind.clone(), json: self.json.clone() },
        })
    }

    /// The text and the thinking it already holds, as deltas.
    pub(super) fn contents(&self, sink: &mut dyn Sink<'a>) -> Result<(), Fault> {
        let full = |text: &Option<JsonStr<'a>>| text.clone().filter(|text| !text.is_empty());
        if self.kind.is("text") {
            if let Some(text) = full(&self.text) {
                sink.event(Event::Delta(Delta::Text(text)));
            }
            if let Some(mut citations) = self.citations.clone() {
                citations.array().map_err(garbage)?;
                while citations.item().map_err(garbage)? {
                    sink.event(Event::Delta(Delta::Citation(citations.skip().map_err(garbage)?)));
                }
            }
        } else if self.kind.is("thinking") {
            if let Some(text) = full(&self.thinking) {
                sink.event(Event::Delta(Delta::Thinking(text)));
            }
            if let Some(signature) = full(&self.signature) {
                sink.event(Event::Delta(Delta::Signature(signature)));
            }
        }
        Ok(())
    }
}

/// What cannot be read is the upstream's fault.
#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` hands over")]
pub(super) fn garbage(error: JsonError) -> Fault {
    Fault::garbage(format!("the upstream's answer cannot be read: {error}"))
}

pub(super) fn encode(reply: &Reply<'_>, memory: &Memory, out: &mut Vec<u8>) {
    let mut w = Writer::new(out);
    w.object().key("id").lit(&id(reply.id.as_ref(), memory)).key("type").word("message").key("role").word("assistant");
    w.key("model").lit(&memory.model_name(reply.model.as_ref()));
    w.key("content").array();
    let mut calls = false;
    for block in &reply.blocks {
        calls |= write_block(block, memory, &mut w);
    }
    w.end_array();
    ending(reply.stop.as_ref(), calls, &mut w);
    w.key("usage");
    usage::write(&usage::shown(&reply.usage, memory), &mut w);
    w.end_object();
}

/// The reply's own id where it is one of Anthropic's, else one made of the request's seed.
pub(super) fn id<'i>(id: Option<&'i JsonStr<'_>>, memory: &Memory) -> JsonStr<'i> {
    match id {
        Some(id) if id.literal().starts_with("msg_") => id.borrow(),
        _ => JsonStr::quoted(&message_id(memory.seed)),
    }
}

/// Writes `stop_reason`, `stop_sequence` and, where there is one, what the model says of its refusal.
pub(super) fn ending(stop: Option<&Stop<'_>>, calls: bool, w: &mut Writer<'_>) {
    let sequence = stop.and_then(|stop| stop.sequence.as_ref());
    let label = stop.map_or(Reason::EndTurn, |stop| stop.reason);
    let reason = match label {
        Reason::EndTurn | Reason::StopSequence | Reason::ToolUse if calls => "tool_use",
        // A stop sequence is never claimed without saying which.
        Reason::StopSequence if sequence.is_some() => "stop_sequence",
        Reason::EndTurn | Reason::StopSequence | Reason::ToolUse => "end_turn",
        Reason::MaxTokens => "max_tokens",
        Reason::Refusal => "refusal",
        Reason::PauseTurn => "pause_turn",
        Reason::ContextWindow => "model_context_window_exceeded",
    };
    w.key("stop_reason").str(reason).key("stop_sequence");
    match sequence.filter(|_| reason == "stop_sequence") {
        Some(sequence) => w.lit(sequence),
        None => w.null(),
    };
    if let Some(explanation) = stop.and_then(|stop| stop.explanation.as_ref())
        && label == Reason::Refusal
    {
        w.key("stop_details").object().key("type").word("refusal").key("category").null();
        w.key("explanation").lit(explanation).end_object();
    }
}

/// Writes one block; tells whether it is a call. Empty text is left out: clients choke on it when they replay it.
fn write_block(block: &ReplyBlock<'_>, memory: &Memory, w: &mut Writer<'_>) -> bool {
    match block {
        ReplyBlock::Text { text, citations } => {
            let citations: Vec<&Json<'_>> = citations.iter().filter(|c| is_native_citation(c)).collect();
            if text.is_empty() && citations.is_empty() {
                return false;
            }
            w.object().key("type").word("text").key("text").lit(text);
            if !citations.is_empty() {
                w.key("citations").array();
                for citation in citations {
                    w.json(citation);
                }
                w.end_array();
            }
            w.end_object();
        }
        ReplyBlock::Refusal { text } => {
            if !text.is_empty() {
                w.object().key("type").word("text").key("text").lit(text).end_object();
            }
        }
        ReplyBlock::Thinking { text, signature } => write_thinking(text, signature.as_ref(), memory, w),
        ReplyBlock::RedactedThinking { data } => {
            w.object().key("type").word("redacted_thinking").key("data").lit(data).end_object();
        }
        ReplyBlock::ToolUse { name, args, .. } if memory.unwrap_tool.as_deref().is_some_and(|t| name.is(t)) => {
            let text = match args {
                Args::Text(text) => text.borrow(),
                Args::Json(json) => JsonStr::quote(json.as_str()),
            };
            if !text.is_empty() {
                w.object().key("type").word("text").key("text").lit(&text).end_object();
            }
        }
        ReplyBlock::ToolUse { id, name, args } => {
            w.object().key("type").word("tool_use").key("id").lit(id).key("name").lit(&memory.tool_name(name));
            w.key("input");
            input(args, w);
            w.end_object();
            return true;
        }
        // Another format's would break a strict client.
        ReplyBlock::Foreign { from, json, more, .. } => {
            if *from == Format::Anthropic {
                write_native(json, more, w);
            }
        }
    }
    false
}

fn write_thinking(text: &JsonStr<'_>, signature: Option<&JsonStr<'_>>, memory: &Memory, w: &mut Writer<'_>) {
    if text.is_empty() && signature.is_none() {
        return;
    }
    let shown = if memory.hide_thinking { JsonStr::default() } else { text.borrow() };
    w.object().key("type").word("thinking").key("thinking").lit(&shown).key("signature");
    match signature {
        Some(signature) => w.lit(signature),
        None => {
            let mut envelope = Envelope::new();
            envelope.update(text);
            w.str(&envelope.finish())
        }
    };
    w.end_object();
}

/// Writes a call's input. Arguments that are no JSON object are kept whole, as `{"_raw": "…"}`: the type demands an
/// object, and the tool's author can tell what went wrong.
fn input(args: &Args<'_>, w: &mut Writer<'_>) {
    match args {
        Args::Json(json) if json.kind() == Kind::Object => w.json(json),
        Args::Json(json) => w.object().key("_raw").str(json.as_str()).end_object(),
        Args::Text(text) if text.is_blank() => w.raw("{}"),
        Args::Text(text) => match whole_json(text).filter(|json| json.kind() == Kind::Object) {
            Some(json) => w.json(&json),
            None => w.object().key("_raw").lit(text).end_object(),
        },
    };
}

/// Writes a block of our own with what its deltas added: the fragments of an input stand for the whole of it, and any
/// other member takes the place of the one before.
fn write_native(json: &Json<'_>, more: &[Json<'_>], w: &mut Writer<'_>) {
    if more.is_empty() {
        w.json(json);
        return;
    }
    let mut input = JsonStr::default();
    let mut members: Vec<(JsonStr<'_>, Json<'_>)> = Vec::new();
    let mut put = |key: JsonStr<'_>, value: Json<'_>| match members.iter_mut().find(|(name, _)| *name == key) {
        Some((_, old)) => *old = value.into_owned(),
        None => members.push((key.into_owned(), value.into_owned())),
    };
    for part in std::iter::once(json).chain(more) {
        let mut cursor = part.cursor();
        // They were read as objects before.
        let Ok(()) = cursor.object() else {
            continue;
        };
        while let Ok(Some(key)) = cursor.key() {
            let Ok(value) = cursor.skip() else {
                break;
            };
            match value.cursor().str() {
                Ok(fragment) if key.is("partial_json") => input.push(&fragment),
                Ok(kind) if key.is("type") && kind.literal().ends_with("_delta") => {}
                Ok(_) | Err(_) => put(key, value),
            }
        }
    }
    if !input.is_blank() {
        put(
            JsonStr::quote("input"),
            whole_json(&input).unwrap_or_else(|| Json::raw(format!("\"{}\"", input.literal()))),
        );
    }
    w.object();
    for (key, value) in &members {
        w.key(key.literal()).json(value);
    }
    w.end_object();
}

/// The JSON a text spells, if it does.
fn whole_json(text: &JsonStr<'_>) -> Option<Json<'static>> {
    let text = text.decode();
    let mut cursor = Cursor::new(&text);
    let json = cursor.skip().ok()?;
    cursor.end().is_ok().then(|| json.into_owned())
}

/// Whether a citation is one of ours. Another format's says where the text is cited, but not the words and the seal that
/// the type demands; and one with an empty seal would be refused when it comes back.
pub(super) fn is_native_citation(citation: &Json<'_>) -> bool {
    let kind = kind_of(&citation.cursor());
    kind.ok().flatten().is_some_and(|kind| kind.literal().ends_with("_location"))
}
