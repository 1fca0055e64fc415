//! Citations, which this format tells beside the text and by position.

use crate::wire::json::{Cursor, Json, JsonStr, Kind, Writer};

/// One entry of `annotations`.
#[derive(Debug)]
pub(super) enum Annotation {
    /// As this format wrote it.
    Own(Json<'static>),
    /// A page that Anthropic cites for a text block.
    Page { url: JsonStr<'static>, title: JsonStr<'static>, start: u64, end: u64 },
}

impl Annotation {
    /// Reads a citation of the text between two positions. Anthropic's citations of documents have no counterpart.
    pub(super) fn read(citation: &Json<'_>, start: u64, end: u64) -> Option<Self> {
        let mut cursor = citation.cursor();
        let (mut url, mut title, mut is_own) = (None, None, true);
        cursor.object().ok()?;
        while let Some(key) = cursor.key().ok()? {
            match key.decode().as_ref() {
                "type" => is_own = !word(&mut cursor)?.is_some_and(|kind| kind.literal().ends_with("_location")),
                "url" => url = word(&mut cursor)?,
                "title" => title = word(&mut cursor)?,
                // The cited words and their seal: the position tells them.
                _ => {
                    cursor.skip().ok()?;
                }
            }
        }
        if is_own {
            return Some(Self::Own(citation.borrow().into_owned()));
        }
        Some(Self::Page { url: url?, title: title.unwrap_or_default(), start, end })
    }

    /// Tells where the cited text ends, once that is known.
    pub(super) fn end_at(&mut self, place: u64) {
        match self {
            Self::Own(_) => {}
            Self::Page { end, .. } => *end = place,
        }
    }
}

fn word(cursor: &mut Cursor<'_>) -> Option<Option<JsonStr<'static>>> {
    if cursor.peek().ok()? == Kind::Str {
        return Some(Some(cursor.str().ok()?.into_owned()));
    }
    cursor.skip().ok().map(|_| None)
}

pub(super) fn write(annotations: &[Annotation], w: &mut Writer<'_>) {
    w.array();
    for annotation in annotations {
        match annotation {
            Annotation::Own(json) => {
                w.json(json);
            }
            Annotation::Page { url, title, start, end } => {
                w.object().key("type").word("url_citation").key("url_citation").object();
                w.key("url").lit(url).key("title").lit(title);
                w.key("start_index").int(*start).key("end_index").int(*end);
                w.end_object().end_object();
            }
        }
    }
    w.end_array();
}
