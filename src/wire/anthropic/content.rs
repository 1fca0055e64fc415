//! Reads content blocks: of messages, of `system`, of tool results.

use crate::wire::json::{Cursor, Json, JsonStr, Kind};
use crate::wire::loss::{Losses, Refusal};
use crate::wire::prompt::{Args, Block, BlockKind, Cache, Source};

use super::fields::CITATIONS;
use super::kind_of;

/// Where content stands. Inside a tool's answer only text, images and documents have a meaning elsewhere.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Where {
    Message,
    Answer,
}

/// Reads a string or a list of blocks; null is nothing.
pub(super) fn content<'a>(
    cursor: &mut Cursor<'a>,
    place: Where,
    losses: &mut Losses,
) -> Result<Vec<Block<'a>>, Refusal> {
    let at = cursor.at();
    let mut blocks = Vec::new();
    match cursor.peek()? {
        Kind::Str => blocks.push(Block::new(BlockKind::Text(cursor.str()?), at)),
        Kind::Array => {
            cursor.array()?;
            while cursor.item()? {
                blocks.push(block(cursor, place, losses)?);
            }
        }
        Kind::Null => {
            cursor.skip()?;
        }
        other @ (Kind::Object | Kind::Num | Kind::Bool) => {
            return Err(cursor.mismatch("a string or a list of content blocks", other).into());
        }
    }
    Ok(blocks)
}

fn block<'a>(cursor: &mut Cursor<'a>, place: Where, losses: &mut Losses) -> Result<Block<'a>, Refusal> {
    let at = cursor.at();
    let Some(kind) = kind_of(cursor)? else {
        return Err(Refusal::at(at, "type: needed in every content block"));
    };
    let mut whole = cursor.clone();
    let known = match (kind.decode().as_ref(), place) {
        ("text", _) => Some(text(cursor, losses)?),
        ("image", _) => image(cursor, losses)?,
        ("document", _) => document(cursor, losses)?,
        ("search_result", _) => search_result(cursor, losses)?,
        ("tool_use", Where::Message) => Some(tool_use(cursor, at, losses)?),
        ("tool_result", Where::Message) => Some(tool_result(cursor, at, losses)?),
        ("thinking", Where::Message) => Some(thinking(cursor, losses)?),
        ("redacted_thinking", Where::Message) => Some(redacted(cursor, losses)?),
        _ => {
            cursor.skip()?;
            None
        }
    };
    let (kind, cache) = match known {
        Some(known) => known,
        None => (BlockKind::Foreign { kind, json: whole.skip()? }, None),
    };
    Ok(Block { cache, ..Block::new(kind, at) })
}

/// What a block's reader found: the block, and the cache breakpoint on it.
type Found<'a> = (BlockKind<'a>, Option<Cache>);

fn text<'a>(cursor: &mut Cursor<'a>, losses: &mut Losses) -> Result<Found<'a>, Refusal> {
    let mut text = None;
    let mut breakpoint = None;
    let at = cursor.at();
    members(cursor, losses, |key, cursor, losses| {
        match key {
            "type" => skip(cursor)?,
            "text" => text = Some(cursor.str()?),
            "cache_control" => breakpoint = cache(cursor, losses)?,
            "citations" => lose(cursor, losses, CITATIONS)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let text = text.ok_or_else(|| Refusal::at(at, "text: needed in a text block"))?;
    Ok((BlockKind::Text(text), breakpoint))
}

fn image<'a>(cursor: &mut Cursor<'a>, losses: &mut Losses) -> Result<Option<Found<'a>>, Refusal> {
    let mut found = None;
    let mut breakpoint = None;
    members(cursor, losses, |key, cursor, losses| {
        match key {
            "type" => skip(cursor)?,
            "source" => found = source(cursor, losses)?,
            "cache_control" => breakpoint = cache(cursor, losses)?,
            "transformations" => lose(cursor, losses, "no other format transforms images")?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(found.map(|source| (BlockKind::Image(source), breakpoint)))
}

fn document<'a>(cursor: &mut Cursor<'a>, losses: &mut Losses) -> Result<Option<Found<'a>>, Refusal> {
    let mut found = None;
    let mut breakpoint = None;
    let mut title = None;
    let mut context = None;
    members(cursor, losses, |key, cursor, losses| {
        match key {
            "type" => skip(cursor)?,
            "source" => found = source(cursor, losses)?,
            "title" => title = cursor.opt_str()?,
            "context" => context = cursor.opt_str()?,
            "cache_control" => breakpoint = cache(cursor, losses)?,
            "citations" => citations_switch(cursor, losses)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(found.map(|source| (BlockKind::Document { source, title, context }, breakpoint)))
}

/// A search result means a document of text: its origin is the context. Citing it is Anthropic's own.
fn search_result<'a>(cursor: &mut Cursor<'a>, losses: &mut Losses) -> Result<Option<Found<'a>>, Refusal> {
    let mut found = None;
    let mut breakpoint = None;
    let mut title = None;
    let mut origin = None;
    losses.at(cursor.at(), "a search result becomes a plain document");
    members(cursor, losses, |key, cursor, losses| {
        match key {
            "type" => skip(cursor)?,
            "content" => found = joined(cursor, losses)?,
            "title" => title = cursor.opt_str()?,
            "source" => origin = cursor.any_str()?,
            "cache_control" => breakpoint = cache(cursor, losses)?,
            "citations" => citations_switch(cursor, losses)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(found.map(|text| (BlockKind::Document { source: Source::Text(text), title, context: origin }, breakpoint)))
}

fn tool_use<'a>(cursor: &mut Cursor<'a>, at: usize, losses: &mut Losses) -> Result<Found<'a>, Refusal> {
    let mut id = None;
    let mut name = None;
    let mut input = None;
    let mut breakpoint = None;
    members(cursor, losses, |key, cursor, losses| {
        match key {
            "type" => skip(cursor)?,
            "id" => id = Some(cursor.str()?),
            "name" => name = Some(cursor.str()?),
            "input" => {
                if cursor.peek()? != Kind::Object {
                    return Err(Refusal::at(cursor.at(), "input: must be an object"));
                }
                input = Some(cursor.skip()?);
            }
            "cache_control" => breakpoint = cache(cursor, losses)?,
            "caller" => {
                let direct = cursor.peek()? == Kind::Object && kind_of(cursor)?.is_some_and(|k| k.is("direct"));
                if direct {
                    skip(cursor)?;
                } else {
                    lose(cursor, losses, "elsewhere only the model calls tools")?;
                }
            }
            "toolset_name" => lose(cursor, losses, "no other format has toolsets")?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    match (id, name, input) {
        (Some(id), Some(name), Some(input)) if !id.is_empty() && !name.is_empty() => {
            Ok((BlockKind::ToolUse { id, name, input: Args::Json(input) }, breakpoint))
        }
        _ => Err(Refusal::at(at, "a tool_use block needs id, name and input")),
    }
}

fn tool_result<'a>(cursor: &mut Cursor<'a>, at: usize, losses: &mut Losses) -> Result<Found<'a>, Refusal> {
    let mut id = None;
    let mut blocks = Vec::new();
    let mut is_error = false;
    let mut breakpoint = None;
    members(cursor, losses, |key, cursor, losses| {
        match key {
            "type" => skip(cursor)?,
            "tool_use_id" => id = Some(cursor.str()?),
            "content" => blocks = content(cursor, Where::Answer, losses)?,
            "is_error" => is_error = cursor.opt_bool()?.unwrap_or(false),
            "cache_control" => breakpoint = cache(cursor, losses)?,
            "toolset_name" => lose(cursor, losses, "no other format has toolsets")?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let Some(id) = id else {
        return Err(Refusal::at(at, "tool_use_id: needed in a tool_result block"));
    };
    // An empty string is how clients spell no content.
    blocks.retain(|b| !matches!(&b.kind, BlockKind::Text(text) if text.is_empty()));
    Ok((BlockKind::ToolResult { id, content: blocks, is_error }, breakpoint))
}

fn thinking<'a>(cursor: &mut Cursor<'a>, losses: &mut Losses) -> Result<Found<'a>, Refusal> {
    let mut text = JsonStr::default();
    let mut signature = None;
    members(cursor, losses, |key, cursor, _| {
        match key {
            "type" => skip(cursor)?,
            "thinking" => text = cursor.opt_str()?.unwrap_or_default(),
            "signature" => signature = cursor.opt_str()?.filter(|s| !s.is_empty()),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok((BlockKind::Thinking { text, signature }, None))
}

fn redacted<'a>(cursor: &mut Cursor<'a>, losses: &mut Losses) -> Result<Found<'a>, Refusal> {
    let mut data = JsonStr::default();
    members(cursor, losses, |key, cursor, _| {
        match key {
            "type" => skip(cursor)?,
            "data" => data = cursor.str()?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok((BlockKind::RedactedThinking { data }, None))
}

/// Reads where an image's or a document's bytes are. `None`: in a way only Anthropic knows.
fn source<'a>(cursor: &mut Cursor<'a>, losses: &mut Losses) -> Result<Option<Source<'a>>, Refusal> {
    let at = cursor.at();
    let mut kind = None;
    let mut media_type = JsonStr::default();
    let mut place = None;
    let mut text = None;
    members(cursor, losses, |key, cursor, losses| {
        match key {
            "type" => kind = Some(cursor.str()?),
            "media_type" => media_type = cursor.opt_str()?.unwrap_or_default(),
            "data" | "url" | "file_id" => place = cursor.opt_str()?,
            "content" => text = joined(cursor, losses)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let kind = kind.ok_or_else(|| Refusal::at(at, "source.type: needed"))?;
    let missing = || Refusal::at(at, "source: the data, url or file_id is missing");
    Ok(match kind.decode().as_ref() {
        "base64" => Some(Source::Base64 { media_type, data: place.ok_or_else(missing)? }),
        "url" => Some(Source::Url(place.ok_or_else(missing)?)),
        "file" => Some(Source::File(place.ok_or_else(missing)?)),
        "text" => Some(Source::Text(place.ok_or_else(missing)?)),
        "content" => text.map(Source::Text),
        _ => None,
    })
}

/// Reads a string, or text blocks as one text; `None` when something else is among them.
fn joined<'a>(cursor: &mut Cursor<'a>, losses: &mut Losses) -> Result<Option<JsonStr<'a>>, Refusal> {
    let mut whole: Option<JsonStr<'a>> = None;
    for block in content(cursor, Where::Answer, losses)? {
        let BlockKind::Text(text) = block.kind else {
            return Ok(None);
        };
        match &mut whole {
            Some(whole) => {
                whole.push(&JsonStr::quote("\n\n"));
                whole.push(&text);
            }
            None => whole = Some(text),
        }
    }
    Ok(whole)
}

/// Reads a cache breakpoint; null is none.
pub(super) fn cache(cursor: &mut Cursor<'_>, losses: &mut Losses) -> Result<Option<Cache>, Refusal> {
    let at = cursor.at();
    let mut kind = None;
    let mut hour = false;
    members(cursor, losses, |key, cursor, losses| {
        match key {
            "type" => kind = cursor.opt_str()?,
            "ttl" => hour = cursor.opt_str()?.is_some_and(|ttl| ttl.is("1h")),
            "scope" => lose(cursor, losses, "cache scopes are Anthropic's own")?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    match kind {
        Some(kind) if kind.is("ephemeral") => Ok(Some(if hour { Cache::OneHour } else { Cache::FiveMinutes })),
        Some(_) => {
            losses.at(at, "a kind of cache breakpoint the proxy does not know");
            Ok(None)
        }
        None => Ok(None),
    }
}

/// Reads an object, or null as an empty one. `take` takes a key's value, or leaves it and says `false`: then nobody
/// knows the key, and it is named in the losses.
pub(super) fn members<'a>(
    cursor: &mut Cursor<'a>,
    losses: &mut Losses,
    mut take: impl FnMut(&str, &mut Cursor<'a>, &mut Losses) -> Result<bool, Refusal>,
) -> Result<(), Refusal> {
    if cursor.peek()? == Kind::Null {
        cursor.skip()?;
        return Ok(());
    }
    cursor.object()?;
    while let Some(key) = cursor.key()? {
        if !take(&key.decode(), cursor, losses)? {
            lose(cursor, losses, "not a field of this format as the proxy knows it")?;
        }
    }
    Ok(())
}

/// Skips a value that no other format can express, and says so when it was set.
pub(super) fn lose(cursor: &mut Cursor<'_>, losses: &mut Losses, why: &'static str) -> Result<(), Refusal> {
    let at = cursor.at();
    if is_set(&cursor.skip()?) {
        losses.at(at, why);
    }
    Ok(())
}

/// Whether a value says more than its absence would.
pub(super) fn is_set(value: &Json<'_>) -> bool {
    !matches!(value.as_str(), "null" | "false" | "[]" | "{}")
}

/// `citations: {"enabled": …}` of a document.
fn citations_switch(cursor: &mut Cursor<'_>, losses: &mut Losses) -> Result<(), Refusal> {
    let at = cursor.at();
    let mut on = false;
    members(cursor, losses, |key, cursor, _| {
        match key {
            "enabled" => on = cursor.opt_bool()?.unwrap_or(false),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if on {
        losses.at(at, CITATIONS);
    }
    Ok(())
}

fn skip(cursor: &mut Cursor<'_>) -> Result<(), Refusal> {
    cursor.skip()?;
    Ok(())
}
