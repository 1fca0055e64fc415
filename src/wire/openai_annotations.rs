//! Citations as OpenAI's two formats tell them: beside the text, by position in characters.

use crate::wire::json::{Cursor, Json, JsonError, JsonStr, Kind, Writer};

/// One entry of `annotations`.
#[derive(Debug)]
pub(in crate::wire) enum Annotation {
    /// As this format wrote it.
    Own(Json<'static>),
    /// A page. Where nobody has said which characters cite it, it is the text block that does.
    Page { url: JsonStr<'static>, title: JsonStr<'static>, start: u64, end: Option<u64> },
}

/// How the two formats write a page.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::wire) enum Style {
    /// Chat: its members below `url_citation`, its place one in the whole message.
    Nested,
    /// Responses: its members side by side, its place one in its part of the message.
    Flat,
}

/// A citation of any format, as far as anybody asks.
#[derive(Default)]
struct Told {
    kind: JsonStr<'static>,
    url: Option<JsonStr<'static>>,
    title: JsonStr<'static>,
    start: Option<u64>,
    end: Option<u64>,
    is_nested: bool,
}

impl Annotation {
    /// Reads a citation of the text block that begins at `from`. What has no page, and is not of this format, has no
    /// counterpart: Anthropic's citations of documents, Responses' of files.
    pub(in crate::wire) fn read(citation: &Json<'_>, style: Style, from: u64) -> Option<Self> {
        let mut told = Told::default();
        told.read(&mut citation.cursor()).ok()?;
        let kind = told.kind.decode();
        let is_sealed = kind.ends_with("_location");
        let is_own = match (kind.as_ref(), style) {
            ("url_citation", _) => told.is_nested == (style == Style::Nested),
            ("file_citation" | "container_file_citation" | "file_path", _) => style == Style::Flat,
            // What others have added to the chat's.
            (_, Style::Nested) => !is_sealed,
            (_, Style::Flat) => false,
        };
        if is_own {
            return Some(Self::Own(citation.borrow().into_owned()));
        }
        if !is_sealed && kind != "url_citation" {
            return None;
        }
        let shift = if style == Style::Nested { from } else { 0 };
        let start = told.start.unwrap_or(0).saturating_add(shift);
        let end = told.end.map(|end| end.saturating_add(shift));
        Some(Self::Page { url: told.url?, title: told.title, start, end })
    }

    /// Tells where the text block ends, once that is known.
    pub(in crate::wire) fn end_at(&mut self, place: u64) {
        match self {
            Self::Own(_) => {}
            Self::Page { end, .. } => *end = end.or(Some(place)),
        }
    }

    pub(in crate::wire) fn write(&self, style: Style, w: &mut Writer<'_>) {
        let (url, title, start, end) = match self {
            Self::Own(json) => {
                w.json(json);
                return;
            }
            Self::Page { url, title, start, end } => (url, title, *start, end.unwrap_or(*start)),
        };
        w.object().key("type").word("url_citation");
        if style == Style::Nested {
            w.key("url_citation").object();
        }
        w.key("url").lit(url).key("title").lit(title).key("start_index").int(start).key("end_index").int(end);
        if style == Style::Nested {
            w.end_object();
        }
        w.end_object();
    }
}

/// Writes a list of them.
pub(in crate::wire) fn write(annotations: &[Annotation], style: Style, w: &mut Writer<'_>) {
    w.array();
    for annotation in annotations {
        annotation.write(style, w);
    }
    w.end_array();
}

impl Told {
    fn read(&mut self, c: &mut Cursor<'_>) -> Result<(), JsonError> {
        c.object()?;
        while let Some(key) = c.key()? {
            match (key.decode().as_ref(), c.peek()?) {
                ("type", Kind::Str) => self.kind = c.str()?.into_owned(),
                ("url", Kind::Str) => self.url = Some(c.str()?.into_owned()),
                ("title", Kind::Str) => self.title = c.str()?.into_owned(),
                ("start_index", Kind::Num) => self.start = c.any_u64()?,
                ("end_index", Kind::Num) => self.end = c.any_u64()?,
                ("url_citation", Kind::Object) if !self.is_nested => {
                    self.is_nested = true;
                    self.read(c)?;
                }
                // The cited words and their seal: the position tells them.
                _ => drop(c.skip()?),
            }
        }
        Ok(())
    }
}

/// Counts the characters a literal means, without writing them out.
pub(in crate::wire) fn chars(text: &JsonStr<'_>) -> u64 {
    if !text.has_escape() {
        return text.literal().chars().count() as u64;
    }
    let mut chars = text.literal().chars();
    let mut count = 0;
    while let Some(c) = chars.next() {
        count += 1;
        if c == '\\' && chars.next() == Some('u') {
            let rest = chars.as_str();
            // A pair of surrogates is one character.
            let is_pair = rest.get(..2).is_some_and(is_high) && rest.get(4..).is_some_and(|low| low.starts_with("\\u"));
            chars = rest.get(if is_pair { 10 } else { 4 }..).unwrap_or_default().chars();
        }
    }
    count
}

fn is_high(first_two: &str) -> bool {
    ["d8", "d9", "da", "db"].iter().any(|high| first_two.eq_ignore_ascii_case(high))
}
