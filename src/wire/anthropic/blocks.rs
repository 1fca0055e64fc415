//! Writes content blocks (CONVERSION 3.3 to 3.5).

use std::borrow::Cow;

use data_encoding::{BASE64, BASE64_NOPAD};

use crate::wire::json::{Cursor, Json, JsonStr, Kind, Writer};
use crate::wire::loss::Refusal;
use crate::wire::prompt::{Args, Block, BlockKind, Source};

use super::encode::{BLANK, Body};
use super::names::is_vendors;

impl Body<'_, '_> {
    /// Writes one block, or nothing where Anthropic would refuse a blank one.
    pub(super) fn block(&mut self, block: &Block<'_>, w: &mut Writer<'_>) -> Result<(), Refusal> {
        match &block.kind {
            BlockKind::Text(text) | BlockKind::Refusal(text) if text.is_blank() => {
                if !text.is_empty() {
                    self.losses.at(block.at, BLANK);
                }
                return Ok(());
            }
            BlockKind::Text(text) | BlockKind::Refusal(text) => {
                if let BlockKind::Refusal(_) = block.kind {
                    self.losses.at(block.at, "a refusal is text here, like any other");
                }
                w.object().key("type").word("text").key("text").lit(text);
            }
            BlockKind::Image(source) => self.image(source, block, w)?,
            BlockKind::Document { source, title, context } => {
                self.document(source, block, w)?;
                for (key, text) in [("title", title), ("context", context)] {
                    if let Some(text) = text.as_ref().filter(|text| !text.is_blank()) {
                        w.key(key).lit(text);
                    }
                }
            }
            BlockKind::ToolUse { id, name, input } => {
                let name = self.name(name);
                w.object().key("type").word("tool_use").key("id").lit(&self.ids.sent(id)).key("name").lit(&name);
                w.key("input").json(&self::input(input, block.at)?);
            }
            BlockKind::ToolResult { id, content, is_error } => {
                w.object().key("type").word("tool_result").key("tool_use_id").lit(&self.ids.sent(id));
                self.answer(content, w)?;
                if *is_error {
                    w.key("is_error").bool(true);
                }
            }
            BlockKind::Thinking { text, signature } => {
                let Some(signature) = signature.as_ref().filter(|s| is_vendors(s)) else {
                    self.losses.at(block.at, "thinking that Anthropic did not sign cannot go back to it");
                    return Ok(());
                };
                w.object().key("type").word("thinking").key("thinking").lit(text);
                w.key("signature").lit(signature).end_object();
                return Ok(());
            }
            BlockKind::RedactedThinking { data } => {
                if is_vendors(data) {
                    w.object().key("type").word("redacted_thinking").key("data").lit(data).end_object();
                } else {
                    self.losses.at(block.at, "thinking that Anthropic did not seal cannot go back to it");
                }
                return Ok(());
            }
            BlockKind::Foreign { kind, json } => {
                if !self.is_native() {
                    let message = format!("content of type `{}` has no counterpart on this route", kind.decode());
                    return Err(Refusal::at(block.at, message));
                }
                w.json(json);
                return Ok(());
            }
        }
        self.cache(block.cache, block.at, w);
        w.end_object();
        Ok(())
    }

    /// Writes the content of a tool's answer; none at all where it is empty.
    fn answer(&mut self, content: &[Block<'_>], w: &mut Writer<'_>) -> Result<(), Refusal> {
        let is_blank = |block: &&Block<'_>| matches!(&block.kind, BlockKind::Text(text) if text.is_blank());
        let (blank, content): (Vec<_>, Vec<_>) = content.iter().partition(is_blank);
        for block in blank {
            self.losses.at(block.at, BLANK);
        }
        if let [only] = content.as_slice()
            && let BlockKind::Text(text) = &only.kind
            && only.cache.is_none()
        {
            w.key("content").lit(text);
        } else if !content.is_empty() {
            w.key("content").array();
            for block in content {
                self.block(block, w)?;
            }
            w.end_array();
        }
        Ok(())
    }

    /// Writes an image, its object left open.
    fn image(&mut self, source: &Source<'_>, block: &Block<'_>, w: &mut Writer<'_>) -> Result<(), Refusal> {
        let at = block.at;
        if let Source::Base64 { media_type, data } = source
            && media(media_type, data) == "application/pdf"
        {
            return self.document(source, block, w);
        }
        if let Source::Url(url) = source
            && is_pdf(url)
        {
            return self.document(source, block, w);
        }
        if !self.target.capabilities.images {
            return Err(Refusal::at(at, "this model takes no images"));
        }
        w.object().key("type").word("image").key("source").object();
        match source {
            Source::Base64 { media_type, data } => {
                let media = media(media_type, data);
                if !matches!(media.as_ref(), "image/jpeg" | "image/png" | "image/gif" | "image/webp") {
                    let message = format!("images of type `{media}` are not taken: use jpeg, png, gif or webp");
                    return Err(Refusal::at(at, message));
                }
                base64(&media, data, at, w)?;
            }
            Source::Url(url) => {
                w.key("type").word("url").key("url").lit(url);
            }
            Source::File(id) => self.file(id, at, w)?,
            Source::Text(_) => return Err(Refusal::at(at, "an image cannot be text")),
        }
        w.end_object();
        Ok(())
    }

    /// Writes a document, its object left open.
    fn document(&mut self, source: &Source<'_>, block: &Block<'_>, w: &mut Writer<'_>) -> Result<(), Refusal> {
        let at = block.at;
        if let Source::Base64 { media_type, data } = source
            && media(media_type, data).starts_with("image/")
        {
            return self.image(source, block, w);
        }
        if !self.target.capabilities.pdf && !matches!(source, Source::Text(_)) {
            return Err(Refusal::at(at, "this model takes no documents but text"));
        }
        w.object().key("type").word("document").key("source").object();
        match source {
            Source::Base64 { media_type, data } => {
                let media = media(media_type, data);
                if media == "application/pdf" {
                    base64(&media, data, at, w)?;
                } else if media.starts_with("text/") {
                    let text = decoded(data, at)?;
                    w.key("type").word("text").key("media_type").str("text/plain").key("data").str(&text);
                } else {
                    return Err(Refusal::at(at, format!("documents of type `{media}` are not taken: use PDF or text")));
                }
            }
            Source::Url(url) => {
                w.key("type").word("url").key("url").lit(url);
            }
            Source::Text(text) => {
                w.key("type").word("text").key("media_type").str("text/plain").key("data").lit(text);
            }
            Source::File(id) => self.file(id, at, w)?,
        }
        w.end_object();
        Ok(())
    }

    fn file(&self, id: &JsonStr<'_>, at: usize, w: &mut Writer<'_>) -> Result<(), Refusal> {
        if !self.is_native() {
            return Err(Refusal::at(at, "a file kept by another vendor cannot be read here: send its content"));
        }
        w.key("type").word("file").key("file_id").lit(id);
        Ok(())
    }
}

/// A call's arguments as the object that `input` is. Nothing of them is re-spelled.
fn input<'i>(args: &'i Args<'_>, at: usize) -> Result<Json<'i>, Refusal> {
    let json = match args {
        Args::Json(json) => json.borrow(),
        Args::Text(text) if text.is_blank() => Json::raw("{}"),
        Args::Text(text) => {
            let text = text.decode();
            let mut cursor = Cursor::new(&text);
            if let Err(error) = cursor.skip().and_then(|_| cursor.end()) {
                return Err(Refusal::at(at, format!("the call's arguments are not valid JSON: {error}")));
            }
            Json::raw(text)
        }
    };
    if json.kind() == Kind::Object {
        return Ok(json);
    }
    Err(Refusal::at(at, format!("the call's arguments must be an object, not {}", json.kind())))
}

/// The media type in its plain spelling; told by the first bytes where the client gave none.
fn media<'m>(media_type: &'m JsonStr<'_>, data: &JsonStr<'_>) -> Cow<'m, str> {
    let given = media_type.decode();
    let plain = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if plain == "image/jpg" {
        return Cow::Borrowed("image/jpeg");
    }
    if !plain.is_empty() && plain != "application/octet-stream" {
        return if plain == given { given } else { Cow::Owned(plain) };
    }
    // The beginnings of the files, as base64 spells them.
    let sniffed = [
        ("iVBOR", "image/png"),
        ("/9j/", "image/jpeg"),
        ("R0lGOD", "image/gif"),
        ("UklGR", "image/webp"),
        ("JVBERi", "application/pdf"),
    ];
    let start = data.literal().trim_start();
    Cow::Borrowed(sniffed.into_iter().find(|(magic, _)| start.starts_with(magic)).map_or("unknown", |(_, media)| media))
}

fn base64(media: &str, data: &JsonStr<'_>, at: usize, w: &mut Writer<'_>) -> Result<(), Refusal> {
    w.key("type").word("base64").key("media_type").str(media).key("data");
    match tidy(data, at)? {
        Cow::Borrowed(_) => w.lit(data),
        Cow::Owned(data) => w.str(&data),
    };
    Ok(())
}

/// Base64 as Anthropic takes it: the standard alphabet, padded, in one piece. Borrowed if it already is.
fn tidy<'d>(data: &'d JsonStr<'_>, at: usize) -> Result<Cow<'d, str>, Refusal> {
    let is_plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
    let literal = data.literal();
    if literal.len().is_multiple_of(4) && literal.as_bytes().iter().all(is_plain) {
        return Ok(Cow::Borrowed(literal));
    }
    let mut tidied = String::with_capacity(literal.len() + 4);
    for c in data.decode().chars() {
        match c {
            '-' => tidied.push('+'),
            '_' => tidied.push('/'),
            '=' => {}
            c if c.is_ascii_whitespace() => {}
            c if c.is_ascii_alphanumeric() || matches!(c, '+' | '/') => tidied.push(c),
            _ => return Err(Refusal::at(at, "the data is not base64")),
        }
    }
    while !tidied.len().is_multiple_of(4) {
        tidied.push('=');
    }
    Ok(Cow::Owned(tidied))
}

/// The text that base64 spells.
fn decoded(data: &JsonStr<'_>, at: usize) -> Result<String, Refusal> {
    let tidied = tidy(data, at)?;
    let bytes = BASE64
        .decode(tidied.as_bytes())
        .or_else(|_| BASE64_NOPAD.decode(tidied.trim_end_matches('=').as_bytes()))
        .map_err(|_| Refusal::at(at, "the data is not base64"))?;
    String::from_utf8(bytes).map_err(|_| Refusal::at(at, "the document's text is not UTF-8"))
}

fn is_pdf(url: &JsonStr<'_>) -> bool {
    let url = url.decode();
    let path = url.split(['?', '#']).next().unwrap_or_default();
    path.get(path.len().saturating_sub(4)..).is_some_and(|end| end.eq_ignore_ascii_case(".pdf"))
}
