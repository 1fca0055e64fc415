//! Writes JSON into bytes.

use crate::wire::json::plain::plain_len;
use crate::wire::json::{Json, JsonStr};

/// Writes JSON into bytes, minding the commas.
///
/// What is written is what was asked for, in that order; balance is the caller's.
#[derive(Debug)]
pub struct Writer<'o> {
    out: &'o mut Vec<u8>,
    comma: bool,
}

impl<'o> Writer<'o> {
    pub fn new(out: &'o mut Vec<u8>) -> Self {
        Self { out, comma: false }
    }

    pub fn object(&mut self) -> &mut Self {
        self.mark(b'{')
    }

    pub fn end_object(&mut self) -> &mut Self {
        self.close(b'}')
    }

    pub fn array(&mut self) -> &mut Self {
        self.mark(b'[')
    }

    /// Whether an array was begun and nothing has been written into it.
    #[must_use]
    pub fn is_at_start(&self) -> bool {
        self.out.last() == Some(&b'[')
    }

    pub fn end_array(&mut self) -> &mut Self {
        self.close(b']')
    }

    /// Writes a key that needs no escape.
    pub fn key(&mut self, name: &str) -> &mut Self {
        self.before();
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.comma = false;
        self
    }

    /// Writes a string of our own that needs no escape.
    pub fn word(&mut self, word: &'static str) -> &mut Self {
        debug_assert_eq!(plain_len(word.as_bytes()), word.len(), "it needs none");
        self.before();
        self.out.push(b'"');
        self.out.extend_from_slice(word.as_bytes());
        self.out.push(b'"');
        self
    }

    /// Writes plain text as a string.
    pub fn str(&mut self, text: &str) -> &mut Self {
        self.before();
        self.out.push(b'"');
        escape_into(text, self.out);
        self.out.push(b'"');
        self
    }

    /// Writes a literal as it is spelled, but for line separators that would tear a stream (see `literal_into`).
    pub fn lit(&mut self, text: &JsonStr<'_>) -> &mut Self {
        self.before();
        self.out.push(b'"');
        literal_into(text.literal(), self.out);
        self.out.push(b'"');
        self
    }

    /// Writes any value as it is spelled, but for line separators (see `literal_into`). Line breaks between its tokens become
    /// spaces: an event's data is one line.
    pub fn json(&mut self, value: &Json<'_>) -> &mut Self {
        self.before();
        let from = self.out.len();
        raw_into(value.as_str(), self.out);
        for byte in self.out.get_mut(from..).unwrap_or_default() {
            // In a string they could not stand bare.
            *byte = if matches!(*byte, b'\n' | b'\r') { b' ' } else { *byte };
        }
        self
    }

    /// Writes a value the caller has spelled out.
    pub fn raw(&mut self, value: &str) -> &mut Self {
        self.before();
        self.out.extend_from_slice(value.as_bytes());
        self
    }

    /// Writes members the caller has spelled out, each with a comma before it.
    pub fn members(&mut self, members: &str) -> &mut Self {
        self.out.extend_from_slice(members.as_bytes());
        self
    }

    pub fn int(&mut self, n: u64) -> &mut Self {
        self.before();
        let mut digits = [0_u8; 20];
        let mut left = n;
        let mut at = digits.len();
        loop {
            at -= 1;
            if let Some(d) = digits.get_mut(at) {
                *d = b'0' + u8::try_from(left % 10).unwrap_or(0);
            }
            left /= 10;
            if left == 0 {
                break;
            }
        }
        self.out.extend_from_slice(digits.get(at..).unwrap_or_default());
        self
    }

    pub fn bool(&mut self, yes: bool) -> &mut Self {
        self.raw(if yes { "true" } else { "false" })
    }

    pub fn null(&mut self) -> &mut Self {
        self.raw("null")
    }

    fn before(&mut self) {
        if std::mem::replace(&mut self.comma, true) {
            self.out.push(b',');
        }
    }

    fn mark(&mut self, mark: u8) -> &mut Self {
        self.before();
        self.out.push(mark);
        self.comma = false;
        self
    }

    fn close(&mut self, mark: u8) -> &mut Self {
        self.out.push(mark);
        self.comma = true;
        self
    }
}

/// Appends plain text, escaped.
pub fn escape_into(text: &str, out: &mut Vec<u8>) {
    let mut rest = text;
    loop {
        let n = plain_len(rest.as_bytes());
        // What stops the search is one byte long, so this cuts no character.
        let (plain, from) = rest.split_at_checked(n).unwrap_or((rest, ""));
        literal_into(plain, out);
        let Some(mark) = from.bytes().next() else {
            return;
        };
        match mark {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            other => out.extend_from_slice(format!("\\u{other:04x}").as_bytes()),
        }
        rest = from.get(1..).unwrap_or_default();
    }
}

/// Appends a literal, spelling U+0085, U+2028 and U+2029 as escapes.
///
/// They are legal in JSON, but Python clients split event streams on them (`str.splitlines`) and lose text.
fn literal_into(literal: &str, out: &mut Vec<u8>) {
    raw_into(literal, out);
}

/// As `literal_into`, for any JSON: outside strings these characters cannot stand.
fn raw_into(json: &str, out: &mut Vec<u8>) {
    let mut rest = json.as_bytes();
    if rest.is_ascii() {
        out.extend_from_slice(rest);
        return;
    }
    while let Some(n) = memchr::memchr2(0xc2, 0xe2, rest) {
        let Some((before, from)) = rest.split_at_checked(n) else {
            break;
        };
        let (escape, len): (&[u8], usize) = match from {
            [0xc2, 0x85, ..] => (b"\\u0085", 2),
            [0xe2, 0x80, 0xa8, ..] => (b"\\u2028", 3),
            [0xe2, 0x80, 0xa9, ..] => (b"\\u2029", 3),
            _ => (b"", 1),
        };
        out.extend_from_slice(before);
        let (char, after) = from.split_at_checked(len).unwrap_or((from, b""));
        out.extend_from_slice(if escape.is_empty() { char } else { escape });
        rest = after;
    }
    out.extend_from_slice(rest);
}
