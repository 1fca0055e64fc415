//! Reads the items of a request's `input`: messages, calls, their outputs, thinking (CONVERSION 10).

use crate::wire::data_url::{Payload, Span, is_data_url};
use crate::wire::json::{Cursor, Json, JsonStr, Kind};
use crate::wire::loss::{Losses, Refusal};
use crate::wire::openai_responses::names::{self, Seal};
use crate::wire::openai_shared;
use crate::wire::prompt::{Args, Block, BlockKind, Role, Source};

/// One item.
pub(super) enum Item<'a> {
    Message {
        role: Role,
        blocks: Vec<Block<'a>>,
        at: usize,
    },
    /// Something the assistant did: it called, or thought.
    Done(Block<'a>),
    /// The answer to a call.
    Output {
        id: JsonStr<'a>,
        content: Vec<Block<'a>>,
        at: usize,
    },
    /// It says nothing here.
    Nothing,
}

/// The members an item may have, whatever it is.
#[derive(Default)]
struct Parts<'a> {
    kind: Option<JsonStr<'a>>,
    role: Option<JsonStr<'a>>,
    id: Option<JsonStr<'a>>,
    call_id: Option<JsonStr<'a>>,
    name: Option<JsonStr<'a>>,
    namespace: Option<JsonStr<'a>>,
    content: Option<Cursor<'a>>,
    summary: Option<Cursor<'a>>,
    output: Option<Cursor<'a>>,
    arguments: Option<Cursor<'a>>,
    input: Option<JsonStr<'a>>,
    encrypted: Option<JsonStr<'a>>,
    /// A member that only an item of another kind may have.
    odd: Option<usize>,
}

impl<'a> Parts<'a> {
    fn read(c: &mut Cursor<'a>) -> Result<Self, Refusal> {
        let mut parts = Self::default();
        c.object()?;
        while let Some(key) = c.key()? {
            let at = c.at();
            let start = c.clone();
            match key.decode().as_ref() {
                "type" => parts.kind = c.opt_str()?,
                "role" => parts.role = c.opt_str()?,
                "id" => parts.id = c.opt_str()?,
                "call_id" => parts.call_id = c.opt_str()?,
                "name" => parts.name = c.opt_str()?,
                "namespace" => parts.namespace = c.opt_str()?,
                "content" => parts.content = c.opt_skip()?.map(|_| start),
                "summary" => parts.summary = c.opt_skip()?.map(|_| start),
                "output" => parts.output = c.opt_skip()?.map(|_| start),
                "arguments" => parts.arguments = c.opt_skip()?.map(|_| start),
                "input" if c.peek()? == Kind::Str => parts.input = c.opt_str()?,
                "encrypted_content" => parts.encrypted = c.opt_str()?,
                // How it came about: the history tells that it is over.
                "status" | "phase" | "caller" => drop(c.skip()?),
                _ => parts.odd = c.opt_skip()?.map(|_| at).or(parts.odd),
            }
        }
        Ok(parts)
    }
}

/// Reads one item.
pub(super) fn item<'a>(c: &mut Cursor<'a>, body: &'a str, losses: &mut Losses) -> Result<Item<'a>, Refusal> {
    let at = c.at();
    let start = c.clone();
    let parts = Parts::read(c)?;
    let kind = match &parts.kind {
        Some(kind) => kind.decode().into_owned(),
        // A message may be written short; anything else that has no type is a reference.
        None if parts.role.is_some() => "message".to_owned(),
        None => "item_reference".to_owned(),
    };
    let odd = parts.odd;
    let known = match kind.as_str() {
        "message" => message(parts, body, losses, at)?,
        "function_call" => call(parts, at)?,
        "custom_tool_call" => custom_call(parts, at)?,
        "function_call_output" | "custom_tool_call_output" => output(parts, body, losses, at)?,
        "reasoning" => thought(parts, losses, at)?,
        "web_search_call" => {
            losses.at(at, "what the vendor's search found stays with the vendor");
            return Ok(Item::Nothing);
        }
        "item_reference" => {
            return Err(Refusal::at(at, "the item is kept at the vendor, and this route is another: send it whole"));
        }
        _ => {
            let kind = parts.kind.unwrap_or_default();
            return Ok(Item::Done(Block::new(BlockKind::Foreign { kind, json: start.clone().skip()? }, at)));
        }
    };
    if let Some(odd) = odd {
        losses.at(odd, "not a member of this item");
    }
    Ok(known)
}

fn message<'a>(parts: Parts<'a>, body: &'a str, losses: &mut Losses, at: usize) -> Result<Item<'a>, Refusal> {
    let role = match parts.role.unwrap_or_default().decode().as_ref() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" | "developer" => Role::System,
        "" => return Err(Refusal::at(at, "a message needs a `role`")),
        other => return Err(Refusal::at(at, format!("`{other}` is no role of a message"))),
    };
    let Some(mut content) = parts.content else {
        return Err(Refusal::at(at, "a message needs `content`"));
    };
    let mut blocks = self::content(&mut content, body, losses)?;
    if role == Role::Assistant {
        // What else an assistant did is an item, never a part.
        for block in &blocks {
            if let BlockKind::Foreign { kind, .. } = &block.kind {
                let message = format!("a part of type `{}` has no place in an assistant's message", kind.decode());
                return Err(Refusal::at(block.at, message));
            }
        }
        blocks.retain(|block| !matches!(&block.kind, BlockKind::Text(text) if text.is_empty()));
    }
    if role == Role::System
        && let Some(block) = blocks.iter().find(|block| !matches!(block.kind, BlockKind::Text(_)))
    {
        return Err(Refusal::at(block.at, "a system message can only hold text"));
    }
    Ok(Item::Message { role, blocks, at })
}

fn call(parts: Parts<'_>, at: usize) -> Result<Item<'_>, Refusal> {
    let (id, name) = called(&parts, at)?;
    let input = match parts.arguments {
        Some(mut arguments) => self::arguments(&mut arguments)?,
        None => Args::Json(Json::raw("{}")),
    };
    Ok(Item::Done(Block::new(BlockKind::ToolUse { id, name, input }, at)))
}

/// A text that a tool was given goes on as the one argument of a function.
fn custom_call(parts: Parts<'_>, at: usize) -> Result<Item<'_>, Refusal> {
    let (id, name) = called(&parts, at)?;
    let text = parts.input.unwrap_or_default();
    let input = Args::Json(Json::raw(format!("{{\"input\":\"{}\"}}", text.literal())));
    Ok(Item::Done(Block::new(BlockKind::ToolUse { id, name, input }, at)))
}

fn called<'a>(parts: &Parts<'a>, at: usize) -> Result<(JsonStr<'a>, JsonStr<'a>), Refusal> {
    let id = parts.call_id.clone().or_else(|| parts.id.clone()).filter(|id| !id.is_empty());
    let id = id.ok_or_else(|| Refusal::at(at, "a call needs a `call_id`"))?;
    let name = parts.name.clone().filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| Refusal::at(at, "a call needs a `name`"))?;
    Ok((id, names::flat(parts.namespace.as_ref(), &name)))
}

fn output<'a>(parts: Parts<'a>, body: &'a str, losses: &mut Losses, at: usize) -> Result<Item<'a>, Refusal> {
    let id = parts.call_id.filter(|id| !id.is_empty());
    let id = id.ok_or_else(|| Refusal::at(at, "`call_id` is needed to tell which call is answered"))?;
    let mut told = match parts.output {
        Some(mut output) => content(&mut output, body, losses)?,
        None => Vec::new(),
    };
    told.retain(|block| !matches!(&block.kind, BlockKind::Text(text) if text.is_empty()));
    Ok(Item::Output { id, content: told, at })
}

/// What was thought: the summary's texts, with blank lines between them, or else the thinking itself.
fn thought<'a>(parts: Parts<'a>, losses: &mut Losses, at: usize) -> Result<Item<'a>, Refusal> {
    let mut text = JsonStr::default();
    for list in [parts.summary, parts.content] {
        if text.is_empty()
            && let Some(mut list) = list
        {
            text = texts(&mut list)?;
        }
    }
    let signature = match parts.encrypted.filter(|content| !content.is_empty()) {
        None => None,
        Some(content) => match names::unsealed(&content) {
            Seal::Signature(signature) => Some(signature),
            Seal::Redacted(data) => return Ok(Item::Done(Block::new(BlockKind::RedactedThinking { data }, at))),
            Seal::Item => Some(names::seal_item(&parts.id.unwrap_or_default(), &content)),
            Seal::Ours => Some(content),
        },
    };
    if text.is_empty() && signature.is_none() {
        losses.at(at, "thinking without words or a seal is left out");
        return Ok(Item::Nothing);
    }
    Ok(Item::Done(Block::new(BlockKind::Thinking { text, signature }, at)))
}

/// The texts of a list of `{"text": …}`, as one.
pub(super) fn texts<'a>(list: &mut Cursor<'a>) -> Result<JsonStr<'a>, crate::wire::json::JsonError> {
    let mut all = JsonStr::default();
    list.array()?;
    while list.item()? {
        let mut text = None;
        list.object()?;
        while let Some(key) = list.key()? {
            match key.is("text") {
                true => text = list.opt_str()?,
                false => drop(list.skip()?),
            }
        }
        let Some(text) = text.filter(|text| !text.is_empty()) else { continue };
        if all.is_empty() {
            all = text;
        } else {
            all.push(&JsonStr::quote("\n\n"));
            all.push(&text);
        }
    }
    Ok(all)
}

/// Reads content: a text, or a list of parts.
fn content<'a>(c: &mut Cursor<'a>, body: &'a str, losses: &mut Losses) -> Result<Vec<Block<'a>>, Refusal> {
    let at = c.at();
    match c.peek()? {
        Kind::Str => Ok(vec![Block::new(BlockKind::Text(c.str()?), at)]),
        Kind::Array => {
            let mut blocks = Vec::new();
            c.array()?;
            while c.item()? {
                blocks.push(part(c, body, losses)?);
            }
            Ok(blocks)
        }
        found @ (Kind::Object | Kind::Num | Kind::Bool | Kind::Null) => {
            Err(c.mismatch("a string or a list of parts", found).into())
        }
    }
}

fn part<'a>(c: &mut Cursor<'a>, body: &'a str, losses: &mut Losses) -> Result<Block<'a>, Refusal> {
    let at = c.at();
    let start = c.clone();
    let (mut kind, mut text, mut image, mut id, mut title, mut data, mut url) =
        (None, None, None, None, None, None, None);
    let (mut odd, mut detail, mut cache) = (None, None, None);
    c.object()?;
    while let Some(key) = c.key()? {
        let at = c.at();
        match key.decode().as_ref() {
            "type" => kind = c.opt_str()?,
            "text" | "refusal" => text = c.opt_str()?.or(text),
            "image_url" if c.peek()? == Kind::Str => image = Some(Span::read(c, body)?),
            "file_id" => id = c.opt_str()?,
            "filename" => title = c.opt_str()?,
            "file_data" if c.peek()? == Kind::Str => data = Some(Span::read(c, body)?),
            "file_url" => url = c.opt_str()?,
            "detail" => detail = c.opt_str()?,
            "prompt_cache_breakpoint" => cache = openai_shared::cache(c, losses)?,
            // Notes on an earlier answer's text.
            "annotations" | "logprobs" => drop(c.skip()?),
            _ => odd = c.opt_skip()?.map(|_| at).or(odd),
        }
    }
    let kind = kind.ok_or_else(|| Refusal::at(at, "a content part needs a `type`"))?;
    let block = match kind.decode().as_ref() {
        "input_text" | "output_text" | "text" => {
            BlockKind::Text(text.ok_or_else(|| Refusal::at(at, "the part has no `text`"))?)
        }
        "refusal" => BlockKind::Refusal(text.unwrap_or_default()),
        "input_image" => self::image(image, id, at)?,
        "input_file" => file((data, url, id), title, at)?,
        _ => return Ok(Block::new(BlockKind::Foreign { kind, json: start.clone().skip()? }, at)),
    };
    if let Some(odd) = odd {
        losses.at(odd, "not a member of this part");
    }
    Ok(Block { detail, cache, ..Block::new(block, at) })
}

fn image<'a>(image: Option<Span<'a>>, id: Option<JsonStr<'a>>, at: usize) -> Result<BlockKind<'a>, Refusal> {
    let url = match (image, id) {
        (Some(url), _) => url,
        (None, Some(id)) => return Ok(BlockKind::Image(Source::File(id))),
        (None, None) => return Err(Refusal::at(at, "an image needs an `image_url`")),
    };
    if !is_data_url(&url.text()) {
        return Ok(BlockKind::Image(Source::Url(url.literal())));
    }
    let Payload { media_type, data } = url.payload(None)?;
    let media_type = match media_type.as_str() {
        "image/jpeg" | "image/jpg" => "image/jpeg",
        "image/png" => "image/png",
        "image/gif" => "image/gif",
        "image/webp" => "image/webp",
        other => return Err(Refusal::at(url.at, format!("an image must be jpeg, png, gif or webp, not `{other}`"))),
    };
    Ok(BlockKind::Image(Source::Base64 { media_type: JsonStr::quote(media_type), data }))
}

/// Where a file's bytes are: in the request, at a URL, with the vendor.
type File<'a> = (Option<Span<'a>>, Option<JsonStr<'a>>, Option<JsonStr<'a>>);

fn file<'a>((data, url, id): File<'a>, title: Option<JsonStr<'a>>, at: usize) -> Result<BlockKind<'a>, Refusal> {
    let document = |source| BlockKind::Document { source, title, context: None };
    let data = match (data, url, id) {
        (Some(data), ..) => data,
        (None, Some(url), _) => return Ok(document(Source::Url(url))),
        (None, None, Some(id)) => return Ok(document(Source::File(id))),
        (None, None, None) => return Err(Refusal::at(at, "a file needs `file_data`")),
    };
    let payload = data.payload(Some("application/pdf"))?;
    match payload.media_type.as_str() {
        "application/pdf" => {
            let media_type = JsonStr::quote("application/pdf");
            Ok(document(Source::Base64 { media_type, data: payload.data }))
        }
        kind if kind.starts_with("text/") => {
            let bytes = data_encoding::BASE64.decode(payload.data.literal().as_bytes());
            let text = bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let text = text.ok_or_else(|| Refusal::at(data.at, "the file is not text in UTF-8"))?;
            Ok(document(Source::Text(JsonStr::quoted(&text))))
        }
        other => Err(Refusal::at(data.at, format!("a file must be a PDF or text, not `{other}`"))),
    }
}

/// Reads a call's arguments: a string that spells a JSON object, or the object itself.
fn arguments<'a>(c: &mut Cursor<'a>) -> Result<Args<'a>, Refusal> {
    let at = c.at();
    match c.peek()? {
        Kind::Object => Ok(Args::Json(c.skip()?)),
        Kind::Null => Ok(Args::Json(Json::raw("{}"))),
        Kind::Str => {
            let literal = c.str()?;
            if literal.is_blank() {
                return Ok(Args::Json(Json::raw("{}")));
            }
            let text = literal.decode();
            let mut spelled = Cursor::new(&text);
            let kind = spelled.peek();
            if let Err(error) = spelled.skip().and_then(|_| spelled.end()) {
                return Err(Refusal::at(at, format!("`arguments` is not valid JSON: {error}")));
            }
            match kind {
                Ok(Kind::Object) => {}
                _ => return Err(Refusal::at(at, "`arguments` must spell a JSON object")),
            }
            Ok(Args::Text(literal))
        }
        found @ (Kind::Array | Kind::Num | Kind::Bool) => Err(c.mismatch("a string of JSON", found).into()),
    }
}
