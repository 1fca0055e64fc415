//! Reads the objects of an answer: a completion, or a chunk of one. Both are read by the same lines, for providers
//! send either's fields in the other (CONVERSION 12).

use crate::wire::event::{Sink, Usage};
use crate::wire::fault::Fault;
use crate::wire::json::{Cursor, Json, JsonError, JsonStr, Kind};
use crate::wire::openai_chat::answer::{Answer, Piece};
use crate::wire::openai_chat::usage;

/// The top level.
#[derive(Debug, Default)]
pub(super) struct Body<'a> {
    pub(super) id: Option<JsonStr<'a>>,
    pub(super) model: Option<JsonStr<'a>>,
    /// Seconds since 1970.
    pub(super) created: u64,
    pub(super) usage: Option<Usage>,
    /// Stands before a list that has an item.
    pub(super) choices: Option<Cursor<'a>>,
    /// It is an error, or holds one.
    pub(super) is_error: bool,
}

impl<'a> Body<'a> {
    /// Reads the whole text, so that what is walked later is known to be JSON.
    pub(super) fn read(text: &'a str) -> Result<Self, JsonError> {
        let mut body = Self::default();
        let mut cursor = Cursor::new(text.trim_start_matches('\u{feff}'));
        let mut aside = None;
        cursor.object()?;
        while let Some(key) = cursor.key()? {
            match key.decode().as_ref() {
                "id" => body.id = cursor.any_str()?,
                "model" => body.model = cursor.any_str()?,
                "created" => body.created = cursor.skip()?.as_u64().unwrap_or(0),
                "usage" => body.usage = usage::read(&mut cursor)?.or(body.usage),
                // Groq counts here too; its older streams nowhere else.
                "x_groq" => aside = usage::inside(&mut cursor)?,
                "choices" => body.choices = list(&mut cursor)?,
                "error" => body.is_error |= !matches!(cursor.skip()?.as_str(), "null" | "\"\"" | "{}" | "false"),
                "object" => body.is_error |= cursor.any_str()?.is_some_and(|object| object.is("error")),
                // Fingerprints, tiers, timings, filters' reports: what no event has a word for.
                _ => {
                    cursor.skip()?;
                }
            }
        }
        cursor.end()?;
        body.usage = body.usage.or(aside);
        Ok(body)
    }
}

/// One alternative. Only the first is read: more than one was never asked for.
#[derive(Debug, Default)]
pub(super) struct Choice<'a> {
    pub(super) index: u64,
    pub(super) delta: Option<Cursor<'a>>,
    pub(super) message: Option<Cursor<'a>>,
    pub(super) finish: Option<JsonStr<'a>>,
    /// The stop sequence that matched, as vLLM tells it.
    pub(super) sequence: Option<JsonStr<'a>>,
    pub(super) error: Option<Json<'a>>,
    /// A content filter has reported on it.
    pub(super) filtered: bool,
}

impl<'a> Choice<'a> {
    pub(super) fn read(cursor: &mut Cursor<'a>) -> Result<Self, JsonError> {
        let mut choice = Self::default();
        cursor.object()?;
        while let Some(key) = cursor.key()? {
            match key.decode().as_ref() {
                "index" => choice.index = cursor.skip()?.as_u64().unwrap_or(0),
                "delta" => choice.delta = object(cursor)?,
                "message" => choice.message = object(cursor)?,
                "finish_reason" => choice.finish = cursor.any_str()?,
                // Elsewhere a number: the token that stopped it.
                "stop_reason" => choice.sequence = cursor.any_str()?,
                "error" => choice.error = cursor.opt_skip()?,
                "content_filter_results" | "content_filter_result" => choice.filtered = object(cursor)?.is_some(),
                // Probabilities, tokens, seeds, the vendor's own reason.
                _ => {
                    cursor.skip()?;
                }
            }
        }
        Ok(choice)
    }

    /// Tells the error it holds, if it does.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.error.as_ref().map(|error| Fault::read_event(&format!("{{\"error\":{}}}", error.as_str())))
    }
}

/// The parts of a message, or of a delta.
#[derive(Debug, Default)]
struct Message<'a> {
    content: Option<Cursor<'a>>,
    reasoning: Option<JsonStr<'a>>,
    details: Option<Cursor<'a>>,
    refusal: Option<JsonStr<'a>>,
    calls: Option<Cursor<'a>>,
    function: Option<Cursor<'a>>,
    annotations: Option<Cursor<'a>>,
}

/// Tells the answer what a message or a delta holds: thinking, then text, then calls.
pub(super) fn message<'a>(
    mut cursor: Cursor<'a>,
    answer: &mut Answer,
    sink: &mut dyn Sink<'a>,
) -> Result<(), JsonError> {
    let mut parts = Message::default();
    cursor.object()?;
    while let Some(key) = cursor.key()? {
        match key.decode().as_ref() {
            "content" => parts.content = Some(place(&mut cursor)?),
            "reasoning_content" | "reasoning" => {
                let text = cursor.any_str()?.filter(|text| !text.is_empty());
                // Where both stand they are the same.
                parts.reasoning = parts.reasoning.or(text);
            }
            "reasoning_details" => parts.details = list(&mut cursor)?,
            "refusal" => parts.refusal = cursor.any_str()?,
            "tool_calls" => parts.calls = list(&mut cursor)?,
            "function_call" => parts.function = object(&mut cursor)?,
            "annotations" => parts.annotations = list(&mut cursor)?,
            // The role is known; audio and the vendor's own have no event.
            _ => {
                cursor.skip()?;
            }
        }
    }
    thinking(parts.reasoning, parts.details, answer, sink)?;
    if let Some(mut content) = parts.content {
        self::content(&mut content, answer, sink)?;
    }
    if let Some(mut list) = parts.annotations {
        list.array()?;
        while list.item()? {
            answer.citation(list.skip()?, sink);
        }
    }
    if let Some(refusal) = parts.refusal {
        answer.refusal(refusal, sink);
    }
    if let Some(mut call) = parts.function {
        let (name, args) = function(&mut call)?;
        answer.call(Piece { name, args, ..Piece::default() }, sink);
    }
    match parts.calls {
        Some(list) => calls(list, answer, sink),
        None => Ok(()),
    }
}

/// The thinking stands in one text, in a list of details, or in both: then the list, which may be signed.
fn thinking<'a>(
    text: Option<JsonStr<'a>>,
    details: Option<Cursor<'a>>,
    answer: &mut Answer,
    sink: &mut dyn Sink<'a>,
) -> Result<(), JsonError> {
    let mut text = text;
    let Some(mut list) = details else {
        answer.thinking(text.unwrap_or_default(), sink);
        return Ok(());
    };
    let mut look = list.clone();
    look.array()?;
    while look.item()? {
        if Detail::read(&mut look)?.text.is_some_and(|text| !text.is_empty()) {
            text = None;
        }
    }
    answer.thinking(text.unwrap_or_default(), sink);
    list.array()?;
    while list.item()? {
        let detail = Detail::read(&mut list)?;
        let is_claudes = detail.is_claudes();
        if is_claudes {
            answer.thought(detail.index, sink);
        }
        answer.thinking(detail.text.unwrap_or_default(), sink);
        // Another vendor's seal opens nothing at ours: it stays with the vendor.
        if is_claudes {
            answer.signature(detail.signature.unwrap_or_default(), sink);
            if let Some(data) = detail.data.filter(|data| !data.is_empty()) {
                answer.redacted(data, sink);
            }
        }
    }
    Ok(())
}

/// One of `reasoning_details` (OpenRouter's invention, and our own extension).
#[derive(Debug, Default)]
pub(super) struct Detail<'a> {
    pub(super) text: Option<JsonStr<'a>>,
    pub(super) signature: Option<JsonStr<'a>>,
    pub(super) data: Option<JsonStr<'a>>,
    pub(super) format: Option<JsonStr<'a>>,
    pub(super) index: Option<u64>,
}

/// How Anthropic's thinking is marked.
pub(super) const CLAUDE_FORMAT: &str = "anthropic-claude-v1";

impl<'a> Detail<'a> {
    pub(super) fn read(cursor: &mut Cursor<'a>) -> Result<Self, JsonError> {
        let mut detail = Self::default();
        if cursor.peek()? != Kind::Object {
            cursor.skip()?;
            return Ok(detail);
        }
        cursor.object()?;
        while let Some(key) = cursor.key()? {
            match key.decode().as_ref() {
                // `thinking` in LiteLLM's `thinking_blocks`.
                "text" | "summary" | "thinking" => detail.text = cursor.any_str()?,
                "signature" => detail.signature = cursor.any_str()?,
                "data" => detail.data = cursor.any_str()?,
                "format" => detail.format = cursor.any_str()?,
                "index" => detail.index = cursor.skip()?.as_u64(),
                // The type follows from what is there; ids are the vendor's.
                _ => {
                    cursor.skip()?;
                }
            }
        }
        Ok(detail)
    }

    pub(super) fn is_claudes(&self) -> bool {
        self.format.as_ref().is_some_and(|format| format.is(CLAUDE_FORMAT))
    }
}

/// Content is a text; Mistral sends a list, Cloudflare a parsed object.
fn content<'a>(cursor: &mut Cursor<'a>, answer: &mut Answer, sink: &mut dyn Sink<'a>) -> Result<(), JsonError> {
    match cursor.peek()? {
        Kind::Str => answer.text(cursor.str()?, sink),
        Kind::Null => {}
        Kind::Array => {
            cursor.array()?;
            while cursor.item()? {
                part(cursor, answer, sink)?;
            }
        }
        Kind::Object | Kind::Num | Kind::Bool => answer.text(JsonStr::quoted(cursor.skip()?.as_str()), sink),
    }
    Ok(())
}

fn part<'a>(cursor: &mut Cursor<'a>, answer: &mut Answer, sink: &mut dyn Sink<'a>) -> Result<(), JsonError> {
    if cursor.peek()? != Kind::Object {
        return content_leaf(cursor, answer, sink);
    }
    let start = cursor.clone();
    let (mut kind, mut text, mut thought) = (None, None, None);
    cursor.object()?;
    while let Some(key) = cursor.key()? {
        match key.decode().as_ref() {
            "type" => kind = cursor.any_str()?,
            "text" => text = cursor.any_str()?,
            "thinking" => thought = Some(place(cursor)?),
            // Belongs to the part; an unknown part is kept whole below.
            _ => {
                cursor.skip()?;
            }
        }
    }
    let kind = kind.unwrap_or_default();
    match kind.decode().as_ref() {
        "text" | "output_text" => answer.text(text.unwrap_or_default(), sink),
        "refusal" => answer.refusal(text.unwrap_or_default(), sink),
        "thinking" => thoughts(thought, answer, sink)?,
        _ => {
            let json = start.clone().skip()?;
            answer.foreign(kind, json, sink);
        }
    }
    Ok(())
}

fn content_leaf<'a>(cursor: &mut Cursor<'a>, answer: &mut Answer, sink: &mut dyn Sink<'a>) -> Result<(), JsonError> {
    if cursor.peek()? == Kind::Str {
        answer.text(cursor.str()?, sink);
        return Ok(());
    }
    let json = cursor.skip()?;
    answer.text(JsonStr::quoted(json.as_str()), sink);
    Ok(())
}

/// Mistral's thinking: a text, or a list of texts.
fn thoughts<'a>(cursor: Option<Cursor<'a>>, answer: &mut Answer, sink: &mut dyn Sink<'a>) -> Result<(), JsonError> {
    let Some(mut cursor) = cursor else {
        return Ok(());
    };
    match cursor.peek()? {
        Kind::Str => answer.thinking(cursor.str()?, sink),
        Kind::Array => {
            cursor.array()?;
            while cursor.item()? {
                answer.thinking(Detail::read(&mut cursor)?.text.unwrap_or_default(), sink);
            }
        }
        Kind::Object | Kind::Num | Kind::Bool | Kind::Null => {}
    }
    Ok(())
}

fn calls<'a>(mut list: Cursor<'a>, answer: &mut Answer, sink: &mut dyn Sink<'a>) -> Result<(), JsonError> {
    list.array()?;
    let mut another = false;
    while list.item()? {
        let start = list.clone();
        let mut piece = Piece { another, ..Piece::default() };
        let mut custom = false;
        list.object()?;
        while let Some(key) = list.key()? {
            match key.decode().as_ref() {
                "index" => piece.index = list.skip()?.as_u64(),
                "id" => piece.id = list.any_str()?,
                "function" => {
                    if let Some(mut call) = object(&mut list)? {
                        (piece.name, piece.args) = function(&mut call)?;
                    }
                }
                "custom" => custom = object(&mut list)?.is_some(),
                "extra_content" => piece.signature = signature(&mut list)?,
                // The type says no more than the member does.
                _ => {
                    list.skip()?;
                }
            }
        }
        another = true;
        // Snowflake sends an empty `custom` beside every function.
        if custom && piece.name.as_ref().is_none_or(JsonStr::is_empty) && !is_empty_call(start.clone())? {
            answer.foreign(JsonStr::quote("custom"), start.clone().skip()?, sink);
        } else {
            answer.call(piece, sink);
        }
    }
    Ok(())
}

/// Gemini's signature of the thinking behind a call: `{"google":{"thought_signature":…}}`.
fn signature<'a>(extra: &mut Cursor<'a>) -> Result<Option<JsonStr<'a>>, JsonError> {
    let mut found = None;
    let Some(mut extra) = object(extra)? else {
        return Ok(found);
    };
    extra.object()?;
    while let Some(vendor) = extra.key()? {
        let Some(mut google) = object(&mut extra)?.filter(|_| vendor.is("google")) else {
            continue;
        };
        google.object()?;
        while let Some(key) = google.key()? {
            match key.is("thought_signature") {
                true => found = google.any_str()?.filter(|text| !text.is_empty()),
                false => drop(google.skip()?),
            }
        }
    }
    Ok(found)
}

/// Whether no name stands in a call, of whatever kind it is.
fn is_empty_call(mut call: Cursor<'_>) -> Result<bool, JsonError> {
    let mut is_empty = true;
    call.object()?;
    while let Some(key) = call.key()? {
        match key.decode().as_ref() {
            "custom" => {
                if let Some(mut custom) = object(&mut call)? {
                    is_empty = function(&mut custom)?.0.is_none_or(|name| name.is_empty());
                }
            }
            // Only its own member tells a custom call's name.
            _ => {
                call.skip()?;
            }
        }
    }
    Ok(is_empty)
}

type Named<'a> = (Option<JsonStr<'a>>, Option<JsonStr<'a>>);

/// A function's name and arguments. Arguments that come as an object are spelled as a string.
fn function<'a>(cursor: &mut Cursor<'a>) -> Result<Named<'a>, JsonError> {
    let (mut name, mut args) = (None, None);
    cursor.object()?;
    while let Some(key) = cursor.key()? {
        match key.decode().as_ref() {
            "name" => name = cursor.any_str()?,
            "arguments" => {
                args = match cursor.peek()? {
                    Kind::Str => Some(cursor.str()?),
                    Kind::Null => cursor.opt_str()?,
                    Kind::Object | Kind::Array | Kind::Num | Kind::Bool => {
                        Some(JsonStr::quoted(cursor.skip()?.as_str()))
                    }
                }
            }
            // Nothing else of a call is its meaning.
            _ => {
                cursor.skip()?;
            }
        }
    }
    Ok((name, args))
}

/// Steps over any value, keeping the place before it.
fn place<'a>(cursor: &mut Cursor<'a>) -> Result<Cursor<'a>, JsonError> {
    let start = cursor.clone();
    cursor.skip()?;
    Ok(start)
}

/// Steps over an object, keeping the place before it; anything else is passed over.
fn object<'a>(cursor: &mut Cursor<'a>) -> Result<Option<Cursor<'a>>, JsonError> {
    let is_object = cursor.peek()? == Kind::Object;
    let start = cursor.clone();
    cursor.skip()?;
    Ok(Some(start).filter(|_| is_object))
}

/// Steps over a list, keeping the place before it if it has an item; anything else is passed over.
fn list<'a>(cursor: &mut Cursor<'a>) -> Result<Option<Cursor<'a>>, JsonError> {
    let is_list = cursor.peek()? == Kind::Array;
    let start = cursor.clone();
    cursor.skip()?;
    let mut look = start.clone();
    let has_item = is_list && look.array().and_then(|()| look.item())?;
    Ok(Some(start).filter(|_| has_item))
}
