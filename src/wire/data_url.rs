//! Data URLs, in which images and files travel where a format has only strings: found, split and put into their standard form.

use std::borrow::Cow;

use crate::wire::json::{Cursor, JsonError, JsonStr};
use crate::wire::loss::Refusal;

/// A string of the body, by its place: megabytes that are not to be copied.
#[derive(Clone, Copy)]
pub(in crate::wire) struct Span<'a> {
    /// The literal, without its quotes.
    pub(in crate::wire) raw: &'a str,
    pub(in crate::wire) at: usize,
}

/// What a data URL holds: base64 of the standard alphabet, padded, nothing else.
pub(in crate::wire) struct Payload<'a> {
    pub(in crate::wire) media_type: String,
    pub(in crate::wire) data: JsonStr<'a>,
}

impl<'a> Span<'a> {
    pub(in crate::wire) fn read(c: &mut Cursor<'a>, body: &'a str) -> Result<Self, JsonError> {
        let at = c.at();
        let length = c.str()?.literal().len();
        let raw = body.get(at + 1..at + 1 + length).ok_or_else(|| JsonError::new(at, "cut inside a character"))?;
        Ok(Self { raw, at })
    }

    pub(in crate::wire) fn text(self) -> Cow<'a, str> {
        match memchr::memchr(b'\\', self.raw.as_bytes()) {
            None => Cow::Borrowed(self.raw),
            Some(_) => Cow::Owned(unescaped(self.raw)),
        }
    }

    pub(in crate::wire) fn literal(self) -> JsonStr<'a> {
        match self.text() {
            Cow::Borrowed(plain) => JsonStr::quote(plain),
            Cow::Owned(text) => JsonStr::quoted(&text),
        }
    }

    /// Reads a data URL; bare base64 too, where that is usual, of the type it then has unless its first bytes differ.
    pub(in crate::wire) fn payload(self, bare: Option<&str>) -> Result<Payload<'a>, Refusal> {
        let refuse = |why: &str| Refusal::at(self.at, why);
        let (named, data) = match self.text() {
            Cow::Borrowed(text) => {
                let (named, data) = split(text, bare.is_some()).map_err(refuse)?;
                (
                    named.to_ascii_lowercase(),
                    base64(data).map(|data| match data {
                        Cow::Borrowed(plain) => JsonStr::quote(plain),
                        Cow::Owned(text) => JsonStr::quoted(&text),
                    }),
                )
            }
            Cow::Owned(text) => {
                let (named, data) = split(&text, bare.is_some()).map_err(refuse)?;
                (named.to_ascii_lowercase(), base64(data).map(|data| JsonStr::quoted(&data)))
            }
        };
        let data = data.ok_or_else(|| refuse("the data is not base64"))?;
        let media_type = match (named.is_empty(), sniff(data.literal()).or(bare)) {
            (false, _) => named,
            (true, Some(kind)) => kind.to_owned(),
            (true, None) => return Err(refuse("the data URL names no media type")),
        };
        Ok(Payload { media_type, data })
    }
}

/// The text of a literal cut out of a body.
fn unescaped(raw: &str) -> String {
    let quoted = format!("\"{raw}\"");
    Cursor::new(&quoted).str().map(|text| text.decode().into_owned()).unwrap_or_default()
}

pub(in crate::wire) fn is_data_url(text: &str) -> bool {
    text.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"))
}

/// Writes the data URL of an image, of a kind that all vendors take.
pub(in crate::wire) fn write_image(
    media_type: &JsonStr<'_>,
    data: &JsonStr<'_>,
    at: usize,
) -> Result<JsonStr<'static>, Refusal> {
    match media_type.decode().as_ref() {
        "image/jpeg" | "image/jpg" | "image/png" | "image/gif" | "image/webp" => write(media_type, data, at),
        other => Err(Refusal::at(at, format!("an image must be jpeg, png, gif or webp, not `{other}`"))),
    }
}

/// Writes a data URL: base64 as all vendors take it, for some of them would refuse anything else.
pub(in crate::wire) fn write(
    media_type: &JsonStr<'_>,
    data: &JsonStr<'_>,
    at: usize,
) -> Result<JsonStr<'static>, Refusal> {
    let text = data.decode();
    let letters = text.trim_end_matches('=');
    let is_letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    if letters.is_empty()
        || text.len() - letters.len() > 2
        || !text.len().is_multiple_of(4)
        || !letters.bytes().all(is_letter)
    {
        return Err(Refusal::at(at, "the data is not base64"));
    }
    let mut url = JsonStr::quoted("data:");
    url.push(media_type);
    url.push(&JsonStr::quote(";base64,"));
    url.push(data);
    Ok(url)
}

/// Splits a data URL into its media type and its data.
fn split(text: &str, bare: bool) -> Result<(&str, &str), &'static str> {
    if !is_data_url(text) {
        return if bare { Ok(("", text)) } else { Err("the data is not a data URL") };
    }
    let (head, data) = text.get(5..).and_then(|rest| rest.split_once(',')).ok_or("the data URL has no comma")?;
    let mut params = head.split(';').map(str::trim);
    let media_type = params.next().unwrap_or_default();
    match params.any(|param| param.eq_ignore_ascii_case("base64")) {
        true => Ok((media_type, data)),
        false => Err("the data URL is not base64"),
    }
}

/// Puts base64 into its standard form: no white space, standard alphabet, padded.
fn base64(data: &str) -> Option<Cow<'_, str>> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
    let body = data.trim_end_matches('=');
    if data.len().is_multiple_of(4) && data.len() - body.len() < 3 && body.bytes().all(is_plain) {
        return (!data.is_empty()).then_some(Cow::Borrowed(data));
    }
    let mut clean = String::with_capacity(data.len() + 3);
    for c in data.chars() {
        match c {
            '-' => clean.push('+'),
            '_' => clean.push('/'),
            c if c.is_ascii_whitespace() || c == '=' => {}
            c if c.is_ascii() && is_plain(c as u8) => clean.push(c),
            _ => return None,
        }
    }
    match clean.len() % 4 {
        2 => clean.push_str("=="),
        3 => clean.push('='),
        1 => return None,
        _ => {}
    }
    (!clean.is_empty()).then_some(Cow::Owned(clean))
}

/// Tells a media type by the first bytes.
fn sniff(base64: &str) -> Option<&'static str> {
    const STARTS: [(&str, &str); 5] = [
        ("iVBORw0KGgo", "image/png"),
        ("/9j/", "image/jpeg"),
        ("R0lGOD", "image/gif"),
        ("UklGR", "image/webp"),
        ("JVBERi", "application/pdf"),
    ];
    STARTS.into_iter().find(|(start, _)| base64.starts_with(start)).map(|(_, kind)| kind)
}
