//! Reads content parts (CONVERSION 3.3): text, images, files, and the data URLs they hide in.

use data_encoding::BASE64;

use crate::wire::data_url::{Payload, Span, is_data_url};
use crate::wire::json::{Cursor, JsonStr, Kind};
use crate::wire::loss::{Losses, Refusal};
use crate::wire::openai_chat::request_in::unknown;
use crate::wire::openai_shared;
use crate::wire::prompt::{Block, BlockKind, Cache, Source};

/// Reads content: a text, or a list of parts. An unknown part stays whole, for its own format only.
pub(super) fn content<'a>(c: &mut Cursor<'a>, body: &'a str, losses: &mut Losses) -> Result<Vec<Block<'a>>, Refusal> {
    let at = c.at();
    match c.peek()? {
        Kind::Null => {
            c.skip()?;
            Ok(Vec::new())
        }
        Kind::Str => Ok(vec![Block::new(BlockKind::Text(c.str()?), at)]),
        Kind::Array => {
            let mut blocks = Vec::new();
            c.array()?;
            while c.item()? {
                let at = c.at();
                // A bare string among parts is text, to OpenAI too.
                let block = match c.peek()? {
                    Kind::Str => Block::new(BlockKind::Text(c.str()?), at),
                    Kind::Object | Kind::Array | Kind::Num | Kind::Bool | Kind::Null => part(c, body, losses)?,
                };
                blocks.push(block);
            }
            Ok(blocks)
        }
        found @ (Kind::Object | Kind::Num | Kind::Bool) => Err(c.mismatch("a string or a list of parts", found).into()),
    }
}

/// The members a part may have.
#[derive(Default)]
struct Part<'a> {
    kind: Option<JsonStr<'a>>,
    text: Option<JsonStr<'a>>,
    image: Option<Cursor<'a>>,
    file: Option<Cursor<'a>>,
    thinking: Option<Cursor<'a>>,
    signature: Option<JsonStr<'a>>,
    data: Option<JsonStr<'a>>,
    cache: Option<Cache>,
    /// A member that only a part of an unknown kind may have.
    odd: Option<usize>,
}

fn part<'a>(c: &mut Cursor<'a>, body: &'a str, losses: &mut Losses) -> Result<Block<'a>, Refusal> {
    let at = c.at();
    let start = c.clone();
    let part = Part::read(c, losses)?;
    let kind = part.kind.ok_or_else(|| Refusal::at(at, "a content part needs a `type`"))?;
    let word = kind.decode().into_owned();
    let place = |cursor: Option<Cursor<'a>>| cursor.ok_or_else(|| Refusal::at(at, format!("the part has no `{word}`")));
    let mut detail = None;
    let block = match word.as_str() {
        "text" => BlockKind::Text(part.text.ok_or_else(|| Refusal::at(at, "the part has no `text`"))?),
        "refusal" => BlockKind::Refusal(part.text.unwrap_or_default()),
        "image_url" => image(place(part.image)?, body, losses, &mut detail)?,
        "file" => file(place(part.file)?, body, losses)?,
        "thinking" => {
            let text = thoughts(place(part.thinking)?, losses)?;
            BlockKind::Thinking { text, signature: part.signature }
        }
        "redacted_thinking" => BlockKind::RedactedThinking { data: part.data.unwrap_or_default() },
        _ => {
            let json = start.clone().skip()?;
            return Ok(Block { cache: part.cache, ..Block::new(BlockKind::Foreign { kind, json }, at) });
        }
    };
    if let Some(odd) = part.odd {
        losses.at(odd, "not a member of this part");
    }
    Ok(Block { cache: part.cache, detail, ..Block::new(block, at) })
}

impl<'a> Part<'a> {
    fn read(c: &mut Cursor<'a>, losses: &mut Losses) -> Result<Self, Refusal> {
        let mut part = Self::default();
        c.object()?;
        while let Some(key) = c.key()? {
            let at = c.at();
            let start = c.clone();
            match key.decode().as_ref() {
                "type" => part.kind = c.opt_str()?,
                "text" | "refusal" => part.text = c.opt_str()?.or(part.text),
                "image_url" => part.image = c.opt_skip()?.map(|_| start),
                "file" => part.file = c.opt_skip()?.map(|_| start),
                "thinking" => part.thinking = c.opt_skip()?.map(|_| start),
                "signature" => part.signature = c.opt_str()?,
                "data" => part.data = c.opt_str()?,
                "cache_control" | "prompt_cache_breakpoint" => {
                    part.cache = openai_shared::cache(c, losses)?.or(part.cache);
                }
                _ => part.odd = c.opt_skip()?.map(|_| at).or(part.odd),
            }
        }
        Ok(part)
    }
}

/// Reads thinking: a text (LiteLLM), or a list of texts (Mistral).
fn thoughts<'a>(mut c: Cursor<'a>, losses: &mut Losses) -> Result<JsonStr<'a>, Refusal> {
    if c.peek()? == Kind::Str {
        return Ok(c.str()?);
    }
    let mut all = JsonStr::default();
    c.array()?;
    while c.item()? {
        if let Some(text) = Part::read(&mut c, losses)?.text {
            all.push(&text);
        }
    }
    Ok(all)
}

/// Whether what is at a URL is a PDF, by its name: clients send those as images, for want of another place.
pub(super) fn is_pdf(url: &str) -> bool {
    url.split(['?', '#']).next().unwrap_or_default().to_ascii_lowercase().ends_with(".pdf")
}

/// An image: an object with a URL, or, from many clients, the URL itself.
fn image<'a>(
    mut c: Cursor<'a>,
    body: &'a str,
    losses: &mut Losses,
    detail: &mut Option<JsonStr<'a>>,
) -> Result<BlockKind<'a>, Refusal> {
    let at = c.at();
    let mut found = None;
    if c.peek()? == Kind::Str {
        found = Some(Span::read(&mut c, body)?);
    } else {
        c.object()?;
        while let Some(key) = c.key()? {
            let at = c.at();
            match key.decode().as_ref() {
                "url" => found = Some(Span::read(&mut c, body)?),
                "detail" => *detail = c.opt_str()?,
                _ => unknown(&mut c, at, losses)?,
            }
        }
    }
    let url = found.ok_or_else(|| Refusal::at(at, "an image needs a `url`"))?;
    let text = url.text();
    if !is_data_url(&text) {
        let source = Source::Url(url.literal());
        return Ok(match is_pdf(&text) {
            true => BlockKind::Document { source, title: None, context: None },
            false => BlockKind::Image(source),
        });
    }
    let Payload { media_type, data } = url.payload(None)?;
    let media_type = match media_type.as_str() {
        "application/pdf" => {
            let source = Source::Base64 { media_type: JsonStr::quote("application/pdf"), data };
            return Ok(BlockKind::Document { source, title: None, context: None });
        }
        "image/jpeg" | "image/jpg" => "image/jpeg",
        "image/png" => "image/png",
        "image/gif" => "image/gif",
        "image/webp" => "image/webp",
        other => {
            return Err(Refusal::at(url.at, format!("an image must be jpeg, png, gif or webp, not `{other}`")));
        }
    };
    Ok(BlockKind::Image(Source::Base64 { media_type: JsonStr::quote(media_type), data }))
}

/// A file: PDFs and text can be sent along, what a vendor keeps cannot.
fn file<'a>(mut c: Cursor<'a>, body: &'a str, losses: &mut Losses) -> Result<BlockKind<'a>, Refusal> {
    let at = c.at();
    let (mut title, mut id, mut found) = (None, None, None);
    c.object()?;
    while let Some(key) = c.key()? {
        let at = c.at();
        match key.decode().as_ref() {
            "filename" => title = c.opt_str()?,
            "file_id" => id = c.opt_str()?,
            "file_data" if c.peek()? == Kind::Str => found = Some(Span::read(&mut c, body)?),
            _ => unknown(&mut c, at, losses)?,
        }
    }
    let document = |source| BlockKind::Document { source, title, context: None };
    let data = match (found, id) {
        (Some(data), _) => data,
        (None, Some(id)) => return Ok(document(Source::File(id))),
        (None, None) => return Err(Refusal::at(at, "a file needs `file_data`")),
    };
    // OpenRouter takes a URL here.
    if data.raw.starts_with("https:") || data.raw.starts_with("http:") {
        return Ok(document(Source::Url(data.literal())));
    }
    let payload = data.payload(Some("application/pdf"))?;
    match payload.media_type.as_str() {
        "application/pdf" => {
            let media_type = JsonStr::quote("application/pdf");
            Ok(document(Source::Base64 { media_type, data: payload.data }))
        }
        kind if kind.starts_with("text/") => {
            let text = BASE64.decode(payload.data.literal().as_bytes()).ok().and_then(|b| String::from_utf8(b).ok());
            let text = text.ok_or_else(|| Refusal::at(data.at, "the file is not text in UTF-8"))?;
            Ok(document(Source::Text(JsonStr::quoted(&text))))
        }
        other => Err(Refusal::at(data.at, format!("a file must be a PDF or text, not `{other}`"))),
    }
}
