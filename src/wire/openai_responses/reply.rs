//! Whole responses: one read into events, and one written from their fold.

use crate::wire::event::{Delta, Event, Open, Reason, Sink, Stop, Usage};
use crate::wire::fault::Fault;
use crate::wire::json::{Cursor, Json, JsonError, JsonStr, Kind};
use crate::wire::names::token;
use crate::wire::openai_responses::encoder::Encoder;
use crate::wire::openai_responses::items::texts;
use crate::wire::openai_responses::{names, usage};
use crate::wire::prompt::Args;
use crate::wire::reply::{Reply, ReplyBlock};
use crate::wire::{Format, Memory};

/// The response object, as far as anybody asks.
#[derive(Default)]
pub(super) struct Response<'a> {
    pub(super) id: Option<JsonStr<'a>>,
    pub(super) model: Option<JsonStr<'a>>,
    pub(super) status: Option<JsonStr<'a>>,
    /// Why it is incomplete.
    pub(super) reason: Option<JsonStr<'a>>,
    pub(super) output: Option<Cursor<'a>>,
    pub(super) usage: Option<Usage>,
    pub(super) has_error: bool,
}

impl<'a> Response<'a> {
    pub(super) fn read(c: &mut Cursor<'a>) -> Result<Self, JsonError> {
        let mut response = Self::default();
        c.object()?;
        while let Some(key) = c.key()? {
            match (key.decode().as_ref(), c.peek()?) {
                ("id", Kind::Str) => response.id = c.opt_str()?,
                ("model", Kind::Str) => response.model = c.opt_str()?,
                ("status", Kind::Str) => response.status = c.opt_str()?,
                ("output", Kind::Array) => {
                    response.output = Some(c.clone());
                    c.step_over()?;
                }
                ("usage", _) => response.usage = usage::read(c)?,
                ("error", Kind::Object | Kind::Str) => {
                    response.has_error = true;
                    c.skip()?;
                }
                ("incomplete_details", Kind::Object) => {
                    c.object()?;
                    while let Some(key) = c.key()? {
                        match key.is("reason") {
                            true => response.reason = c.opt_str()?,
                            false => drop(c.skip()?),
                        }
                    }
                }
                _ => drop(c.skip()?),
            }
        }
        Ok(response)
    }

    /// Reads the response of a stream's last event. The kind of the event tells how it ended, where the response itself does not.
    pub(super) fn read_end(c: &mut Cursor<'a>, kind: &str) -> Result<Self, JsonError> {
        const ENDED: [&str; 4] = ["completed", "incomplete", "failed", "cancelled"];
        let mut response = Self::read(c)?;
        let status = kind.strip_prefix("response.").unwrap_or(kind);
        let is_told = response.status.as_ref().is_some_and(|told| ENDED.iter().any(|ended| told.is(ended)));
        if !is_told || status != "completed" {
            response.status = Some(JsonStr::quoted(status));
        }
        Ok(response)
    }

    /// Why it is no answer; `text` is all of it.
    pub(super) fn fault(&self, text: &str) -> Option<Fault> {
        match self.status.as_ref().map(|status| status.decode()).as_deref() {
            Some("failed") => Some(Fault::read_event(text)),
            Some(status @ ("cancelled" | "queued" | "in_progress")) => {
                Some(Fault::garbage(format!("the upstream's response is {status}, and not complete")))
            }
            _ if self.has_error => Some(Fault::read_event(text)),
            None if self.output.is_none() => Some(Fault::garbage("the upstream's reply is no response")),
            _ => None,
        }
    }

    pub(super) fn stop(&self, seen: Seen) -> Stop<'static> {
        let is_incomplete = self.status.as_ref().is_some_and(|status| status.is("incomplete"));
        Stop::because(match self.reason.as_ref().map(|reason| reason.decode()).as_deref() {
            Some("max_output_tokens") if is_incomplete => Reason::MaxTokens,
            Some("content_filter") if is_incomplete => Reason::Refusal,
            _ if seen.called => Reason::ToolUse,
            _ if seen.refused => Reason::Refusal,
            _ => Reason::EndTurn,
        })
    }
}

/// What the items of an answer were.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) called: bool,
    pub(super) refused: bool,
}

/// Reads a whole response into events.
pub(super) fn decode<'a>(text: &'a str, sink: &mut dyn Sink<'a>) {
    let read = || -> Result<Response<'a>, JsonError> {
        let mut c = Cursor::new(text);
        let response = Response::read(&mut c)?;
        c.end()?;
        Ok(response)
    };
    let fault = match read() {
        Err(error) => Fault::garbage(format!("the upstream's reply cannot be read: {error}")),
        Ok(response) => match response.fault(text) {
            Some(fault) => fault,
            None => return whole(&response, sink),
        },
    };
    sink.event(Event::Fault(fault));
}

fn whole<'a>(response: &Response<'a>, sink: &mut dyn Sink<'a>) {
    let Response { id, model, .. } = response;
    sink.event(Event::Start { id: id.clone(), model: model.clone(), usage: Usage::default() });
    let mut seen = Seen::default();
    if let Some(mut output) = response.output.clone()
        && let Err(error) = all(&mut output, &mut seen, sink)
    {
        let fault = Fault::garbage(format!("the upstream's reply cannot be read: {error}"));
        return sink.event(Event::Fault(fault));
    }
    if let Some(usage) = response.usage {
        sink.event(Event::Usage(usage));
    }
    sink.event(Event::Stop(response.stop(seen)));
    sink.event(Event::End);
}

/// Tells the items of an output, one by one: of a hostile one there may be millions.
fn all<'a>(c: &mut Cursor<'a>, seen: &mut Seen, sink: &mut dyn Sink<'a>) -> Result<(), JsonError> {
    let mut index = 0;
    c.array()?;
    while c.item()? {
        Done::read(c)?.tell(index, seen, sink);
        index += 1;
    }
    Ok(())
}

/// An item of an output that is all there.
#[derive(Clone, Debug, Default)]
pub(super) struct Done<'a> {
    pub(super) kind: JsonStr<'a>,
    pub(super) id: JsonStr<'a>,
    pub(super) call_id: JsonStr<'a>,
    pub(super) name: JsonStr<'a>,
    pub(super) arguments: JsonStr<'a>,
    input: JsonStr<'a>,
    /// Of a message.
    pub(super) parts: Vec<Part<'a>>,
    thinking: JsonStr<'a>,
    pub(super) encrypted: JsonStr<'a>,
    json: Option<Json<'a>>,
}

impl<'a> Done<'a> {
    pub(super) fn read(c: &mut Cursor<'a>) -> Result<Self, JsonError> {
        let start = c.clone();
        let mut done = Self::default();
        let mut namespace = None;
        let mut thinking = [JsonStr::default(), JsonStr::default()];
        c.object()?;
        while let Some(key) = c.key()? {
            match (key.decode().as_ref(), c.peek()?) {
                ("type", Kind::Str) => done.kind = c.str()?,
                ("id", Kind::Str) => done.id = c.str()?,
                ("call_id", Kind::Str) => done.call_id = c.str()?,
                ("name", Kind::Str) => done.name = c.str()?,
                ("namespace", Kind::Str) => namespace = c.opt_str()?,
                ("arguments", Kind::Str) => done.arguments = c.str()?,
                // Some give the object itself.
                ("arguments", Kind::Object) => done.arguments = JsonStr::quoted(c.skip()?.as_str()),
                ("input", Kind::Str) => done.input = c.str()?,
                ("encrypted_content", Kind::Str) => done.encrypted = c.str()?,
                ("summary", Kind::Array) => thinking[0] = texts(c)?,
                // Of a message the parts; of thinking its own words.
                ("content", Kind::Array) => {
                    let mut words = c.clone();
                    done.parts = parts(c)?;
                    thinking[1] = texts(&mut words).unwrap_or_default();
                }
                _ => drop(c.skip()?),
            }
        }
        done.name = names::flat(namespace.as_ref(), &done.name);
        let [summary, words] = thinking;
        done.thinking = if summary.is_empty() { words } else { summary };
        if !["message", "reasoning", "function_call", "custom_tool_call"].iter().any(|known| done.kind.is(known)) {
            done.json = Some(start.clone().skip()?);
        }
        Ok(done)
    }

    pub(super) fn is_call(&self) -> bool {
        self.kind.is("function_call") || self.kind.is("custom_tool_call")
    }

    /// The call's id; one is made up where there is none, of its name and its place among the items.
    pub(super) fn call_id(&self, index: u64) -> JsonStr<'a> {
        match (self.call_id.is_empty(), self.id.is_empty()) {
            (false, _) => self.call_id.clone(),
            (true, false) => self.id.clone(),
            (true, true) => {
                let of = format!("{index} {}", self.name.literal());
                JsonStr::quoted(&format!("call_{}", token(of.as_bytes(), 24)))
            }
        }
    }

    /// The citations of one of its parts, beyond those that are told already.
    pub(super) fn citations(&self, part: u64, told: usize) -> impl Iterator<Item = &Json<'a>> {
        let part = self.parts.iter().find(|found| found.index == part && !found.is_refusal);
        part.into_iter().flat_map(move |part| part.citations.iter().skip(told))
    }

    /// Tells all of it. `index`: its place among the items.
    pub(super) fn tell(self, index: u64, seen: &mut Seen, sink: &mut dyn Sink<'a>) {
        let id = self.call_id(index);
        match self.kind.decode().as_ref() {
            "message" => {
                for part in self.parts {
                    seen.refused |= part.is_refusal;
                    sink.event(Event::Open(if part.is_refusal { Open::Refusal } else { Open::Text }));
                    if !part.words.is_empty() {
                        sink.event(Event::Delta(Delta::Text(part.words)));
                    }
                    part.citations.into_iter().for_each(|citation| sink.event(Event::Delta(Delta::Citation(citation))));
                    sink.event(Event::Close);
                }
            }
            "reasoning" if self.thinking.is_empty() && self.encrypted.is_empty() => {}
            "reasoning" => {
                sink.event(Event::Open(Open::Thinking));
                if !self.thinking.is_empty() {
                    sink.event(Event::Delta(Delta::Thinking(self.thinking)));
                }
                if !self.encrypted.is_empty() {
                    sink.event(Event::Delta(Delta::Signature(names::seal_item(&self.id, &self.encrypted))));
                }
                sink.event(Event::Close);
            }
            "function_call" | "custom_tool_call" => {
                seen.called = true;
                let is_text = self.kind.is("custom_tool_call");
                let name = if self.name.is_empty() { JsonStr::quote("unnamed") } else { self.name };
                sink.event(Event::Open(Open::ToolUse { id, name }));
                if is_text {
                    let spelled = format!("{{\"input\":\"{}\"}}", self.input.literal());
                    sink.event(Event::Delta(Delta::Args(Args::Json(Json::raw(spelled)))));
                } else if !self.arguments.is_blank() {
                    sink.event(Event::Delta(Delta::Args(Args::Text(self.arguments))));
                }
                sink.event(Event::Close);
            }
            _ => {
                if let Some(json) = self.json {
                    sink.event(Event::Open(Open::Foreign { from: Format::OpenaiResponses, kind: self.kind, json }));
                    sink.event(Event::Close);
                }
            }
        }
    }

    pub(super) fn into_owned(self) -> Done<'static> {
        Done {
            kind: self.kind.into_owned(),
            id: self.id.into_owned(),
            call_id: self.call_id.into_owned(),
            name: self.name.into_owned(),
            arguments: self.arguments.into_owned(),
            input: self.input.into_owned(),
            parts: self.parts.into_iter().map(Part::into_owned).collect(),
            thinking: self.thinking.into_owned(),
            encrypted: self.encrypted.into_owned(),
            json: self.json.map(Json::into_owned),
        }
    }
}

/// A part of a message: words that are said, or those of a refusal.
#[derive(Clone, Debug, Default)]
pub(super) struct Part<'a> {
    /// Its place among the parts, unknown ones counted.
    pub(super) index: u64,
    is_refusal: bool,
    words: JsonStr<'a>,
    /// As the format writes them. Refusals have none.
    citations: Vec<Json<'a>>,
}

impl Part<'_> {
    fn into_owned(self) -> Part<'static> {
        Part {
            index: self.index,
            is_refusal: self.is_refusal,
            words: self.words.into_owned(),
            citations: self.citations.into_iter().map(Json::into_owned).collect(),
        }
    }
}

fn parts<'a>(c: &mut Cursor<'a>) -> Result<Vec<Part<'a>>, JsonError> {
    let mut parts = Vec::new();
    let mut index = 0;
    c.array()?;
    while c.item()? {
        let (mut kind, mut part) = (JsonStr::default(), Part { index, ..Part::default() });
        index += 1;
        c.object()?;
        while let Some(key) = c.key()? {
            match (key.decode().as_ref(), c.peek()?) {
                ("type", Kind::Str) => kind = c.str()?,
                ("text" | "refusal", Kind::Str) => part.words = c.str()?,
                ("annotations", Kind::Array) => {
                    c.array()?;
                    while c.item()? {
                        part.citations.push(c.skip()?);
                    }
                }
                _ => drop(c.skip()?),
            }
        }
        part.is_refusal = kind.is("refusal");
        part.citations.retain(|citation| !part.is_refusal && citation.kind() == Kind::Object);
        if part.is_refusal || kind.is("output_text") || kind.is("text") {
            parts.push(part);
        }
    }
    Ok(parts)
}

/// Writes a whole response: what the stream's last event holds.
pub(super) fn encode(reply: &Reply<'_>, memory: &Memory, out: &mut Vec<u8>) {
    let mut encoder = Encoder::quiet(memory);
    let mut unseen = Vec::new();
    let mut tell = |event: Event<'_>| encoder.tell(&event, &mut unseen);
    tell(Event::Start {
        id: reply.id.as_ref().map(JsonStr::borrow),
        model: reply.model.as_ref().map(JsonStr::borrow),
        usage: reply.usage,
    });
    for block in &reply.blocks {
        match block {
            ReplyBlock::Text { text, citations } => {
                tell(Event::Open(Open::Text));
                tell(Event::Delta(Delta::Text(text.borrow())));
                citations.iter().for_each(|citation| tell(Event::Delta(Delta::Citation(citation.borrow()))));
            }
            ReplyBlock::Refusal { text } => {
                tell(Event::Open(Open::Refusal));
                tell(Event::Delta(Delta::Text(text.borrow())));
            }
            ReplyBlock::Thinking { text, signature } => {
                tell(Event::Open(Open::Thinking));
                tell(Event::Delta(Delta::Thinking(text.borrow())));
                if let Some(signature) = signature {
                    tell(Event::Delta(Delta::Signature(signature.borrow())));
                }
            }
            ReplyBlock::RedactedThinking { data } => {
                tell(Event::Open(Open::RedactedThinking { data: data.borrow() }));
            }
            ReplyBlock::ToolUse { id, name, args } => {
                tell(Event::Open(Open::ToolUse { id: id.borrow(), name: name.borrow() }));
                tell(Event::Delta(Delta::Args(match args {
                    Args::Json(json) => Args::Json(json.borrow()),
                    Args::Text(text) => Args::Text(text.borrow()),
                })));
            }
            ReplyBlock::Foreign { from, kind, json, .. } => {
                tell(Event::Open(Open::Foreign { from: *from, kind: kind.borrow(), json: json.borrow() }));
            }
        }
        tell(Event::Close);
    }
    if let Some(stop) = &reply.stop {
        tell(Event::Stop(Stop {
            reason: stop.reason,
            sequence: None,
            explanation: stop.explanation.as_ref().map(JsonStr::borrow),
        }));
    }
    encoder.finish();
    encoder.response(out);
}
