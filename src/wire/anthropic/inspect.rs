//! A cheap look at frames and replies that are forwarded untouched: what they count, and whether they end or fail.

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::wire::event::Usage;
use crate::wire::fault::Fault;
use crate::wire::head;
use crate::wire::json::{Cursor, JsonError, JsonStr};
use crate::wire::{Inspection, Past, Sign, sse};

use super::decoder::{More, Parts};
use super::reply::{Message, garbage};
use super::usage;

/// Tells what a frame is by its event's name, and reads its data only where that does not tell enough. A frame that
/// cannot be read goes through as it is: the client is the judge of it.
pub(super) fn frame(frame: &sse::Frame, past: Past) -> Inspection {
    // Most of a stream: what it adds to was seen to be there.
    if past == Past::Output && frame.name().is_some_and(|n| n == b"content_block_delta") {
        return Inspection::default();
    }
    let Some(data) = frame.data() else {
        return Inspection::default();
    };
    let Ok(data) = std::str::from_utf8(&data) else {
        return Inspection::of(Sign::Output, None);
    };
    let kind = match frame.name() {
        Some(name) => String::from_utf8_lossy(name),
        None => Cow::Owned(kind(data).unwrap_or_default()),
    };
    let (sign, usage) = match kind.as_ref() {
        "message_start" => (Sign::Quiet, start_usage(data).ok().flatten()),
        "content_block_start" => (start(data).unwrap_or(Sign::Output), None),
        "content_block_delta" => (delta(data).unwrap_or(Sign::Output), None),
        "message_delta" => (Sign::Quiet, counts(data).ok().flatten()),
        "message_stop" => (Sign::Over, None),
        "error" => (Sign::Fault(Fault::read_event(data)), None),
        // `ping`, `content_block_stop`, and what is yet to come.
        _ => (Sign::Quiet, None),
    };
    Inspection::of(sign, usage)
}

/// Reads the usage of a whole reply, and nothing else of it: it is forwarded, not understood.
pub(super) fn reply(body: &str) -> Result<Usage, Fault> {
    // Nearly every reply: no word of an error, and its usage at the end.
    if ERROR.find(body.as_bytes()).is_none()
        && body.trim_ascii_start().starts_with('{')
        && let Some(counts) = head::last_member(body, &USAGE, usage::read)
    {
        return Ok(counts);
    }
    let (mut counts, mut is_error) = (None, false);
    let read = head::members(body, |key, value| match key {
        "usage" => counts = Some(value),
        "type" => is_error |= value == "\"error\"",
        "error" => is_error |= value != "null",
        _ => {}
    });
    if is_error {
        return Err(Fault::read_event(body));
    }
    let counted = read.and_then(|()| counts.map_or(Ok(None), |counts| usage::read(&mut Cursor::new(counts)).map(Some)));
    counted.map(Option::unwrap_or_default).map_err(garbage)
}

/// Made once: making a searcher costs more than a search.
static ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"error\""));
static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"usage\""));

fn kind(data: &str) -> Option<String> {
    let parts = Parts::read(data).ok()?;
    Some(parts.kind?.decode().into_owned())
}

fn start_usage(data: &str) -> Result<Option<Usage>, JsonError> {
    match Parts::read(data)?.message {
        Some(mut message) => Ok(Some(Message::read(&mut message)?.usage)),
        None => Ok(None),
    }
}

/// A block of text or thinking begins empty; every other block is there for the reader to see.
fn start(data: &str) -> Result<Sign, JsonError> {
    let Some(mut block) = Parts::read(data)?.block else {
        return Ok(Sign::Output);
    };
    let mut kind = JsonStr::default();
    let mut full = false;
    block.object()?;
    while let Some(key) = block.key()? {
        match key.decode().as_ref() {
            "type" => kind = block.any_str()?.unwrap_or_default(),
            "text" | "thinking" => full |= block.any_str()?.is_some_and(|text| !text.is_empty()),
            _ => {
                block.skip()?;
            }
        }
    }
    Ok(match full {
        false if kind.is("thinking") => Sign::Begun,
        false if kind.is("text") => Sign::Quiet,
        true | false => Sign::Output,
    })
}

fn delta(data: &str) -> Result<Sign, JsonError> {
    let Some(cursor) = Parts::read(data)?.delta else {
        return Ok(Sign::Output);
    };
    Ok(if More::read(cursor)?.is_output() { Sign::Output } else { Sign::Quiet })
}

/// What `message_delta` counts. The reason it gives is not the end: that is `message_stop`.
fn counts(data: &str) -> Result<Option<Usage>, JsonError> {
    Parts::read(data)?.usage.map(|mut cursor| usage::read(&mut cursor)).transpose()
}
