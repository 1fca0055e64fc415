//! Puts another model name into a reply that otherwise goes through untouched (`rewrite_model`).
//!
//! Replies name their model at the top level; of streams, Anthropic's first event one level down, in `message`, and events
//! of OpenAI's Responses in `response`. Whatever else is called `model` is content and stays.

use std::ops::Range;

use bytes::Bytes;

use crate::wire::json::{Cursor, JsonError, Kind};
use crate::wire::splice::{Edit, splice};

/// The reply with its model replaced by a JSON string; `None` if it names none.
#[must_use]
pub fn in_reply(body: &Bytes, literal: &Bytes) -> Option<Bytes> {
    let text = std::str::from_utf8(body).ok()?;
    let at = find(text).ok().flatten()?;
    Some(replace(body, at, literal))
}

/// The frame with the model in its data replaced by a JSON string; `None` if it names none.
#[must_use]
pub fn in_frame(frame: &Bytes, literal: &Bytes) -> Option<Bytes> {
    const FIELD: &[u8] = b"data:";
    memchr::memmem::find(frame, b"\"model\"")?;
    let field = if frame.starts_with(FIELD) { 0 } else { memchr::memmem::find(frame, b"\ndata:")? + 1 };
    let from = field + FIELD.len();
    let rest = frame.get(from..)?;
    let line = rest.get(..memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len()))?;
    // An event whose JSON spans several lines goes through as it is: nobody writes one.
    let at = find(std::str::from_utf8(line).ok()?).ok().flatten()?;
    Some(replace(frame, from + at.start..from + at.end, literal))
}

fn replace(bytes: &Bytes, at: Range<usize>, literal: &Bytes) -> Bytes {
    splice(bytes, smallvec::smallvec![Edit { from: at.start, to: at.end, with: literal.clone() }]).into_bytes()
}

/// Where the model's name stands, quotes included.
fn find(text: &str) -> Result<Option<Range<usize>>, JsonError> {
    let mut cursor = Cursor::new(text);
    cursor.object()?;
    while let Some(key) = cursor.key()? {
        let from = cursor.at();
        let kind = cursor.peek()?;
        if key.is("model") && kind == Kind::Str {
            let name = cursor.str()?;
            return Ok(Some(from..from + name.literal().len() + 2));
        }
        let value = cursor.skip()?;
        if (key.is("message") || key.is("response")) && kind == Kind::Object {
            let inner = find(value.as_str())?;
            return Ok(inner.map(|at| from + at.start..from + at.end));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(frame: &'static str, expect: Option<&str>) {
        let got = in_frame(&Bytes::from_static(frame.as_bytes()), &Bytes::from_static(b"\"mine\""));
        assert_eq!(got.as_deref(), expect.map(str::as_bytes), "{frame}");
    }

    #[test]
    fn replaces_the_models_name_and_nothing_else() {
        check(
            "data: {\"id\":1,\"model\" : \"x\",\"a\":2}\n\n",
            Some("data: {\"id\":1,\"model\" : \"mine\",\"a\":2}\n\n"),
        );
        check(
            "event: message_start\r\ndata:{\"type\":\"message_start\",\"message\":{\"model\":\"x\"}}\r\n\r\n",
            Some("event: message_start\r\ndata:{\"type\":\"message_start\",\"message\":{\"model\":\"mine\"}}\r\n\r\n"),
        );
        check(
            "data: {\"type\":\"response.created\",\"response\":{\"id\":\"r\",\"model\":\"x\"}}\n\n",
            Some("data: {\"type\":\"response.created\",\"response\":{\"id\":\"r\",\"model\":\"mine\"}}\n\n"),
        );
        check("data: {\"delta\":{\"model\":\"x\"}}\n\n", None);
        check("data: [DONE]\n\n", None);
        check(": \"model\"\n\n", None);
    }
}
