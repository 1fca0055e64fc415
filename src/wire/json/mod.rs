//! JSON without a tree: a cursor that walks text once, leaves that borrow from it, a writer into bytes.
//!
//! Every wire format is read through [`Cursor`]: the caller asks for the keys of an object in the order they
//! stand there and takes, or skips, each value. So no field can vanish unseen: whoever reads an object meets
//! every key in a `match`. Text stays the literal it came in ([`JsonStr`]), numbers and everything not looked
//! into stay raw ([`Json`]); nothing is rounded, re-ordered or re-escaped.
//!
//! The cursor accepts exactly what RFC 8259 allows, nested at most [`DEPTH_MAX`] deep, and never recurses.
//!
//! A cursor rather than serde: `flatten`, `untagged` and `tag` lose data with raw values, `&str` refuses every
//! string with an escape, and an unknown field would be skipped without a word.

mod cursor;
mod leaf;
mod path;
pub(in crate::wire) mod plain;
mod writer;

pub use cursor::Cursor;
pub use leaf::{Json, JsonStr};
pub use path::path_at;
pub use writer::{Writer, escape_into};

use std::borrow::Cow;
use std::fmt;

/// Deepest nesting that is read. The same as serde_json's, so that no parser behind us sees more than we do.
pub const DEPTH_MAX: u32 = 128;

/// What the next value is, told by its first byte.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    Object,
    Array,
    Str,
    Num,
    Bool,
    Null,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Object => "an object",
            Self::Array => "an array",
            Self::Str => "a string",
            Self::Num => "a number",
            Self::Bool => "a boolean",
            Self::Null => "null",
        })
    }
}

/// Why text could not be read as what was asked for, and the byte where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JsonError {
    /// Offset in bytes from the start of the text.
    pub at: usize,
    pub what: Cow<'static, str>,
}

impl JsonError {
    pub fn new(at: usize, what: impl Into<Cow<'static, str>>) -> Self {
        Self { at, what: what.into() }
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at)
    }
}

impl std::error::Error for JsonError {}

type Result<T> = std::result::Result<T, JsonError>;

/// The fuzz target's body: the cursor and serde_json accept the same texts and mean the same strings, and what
/// is written back is what was read.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut cursor = Cursor::new(text);
    let ours = cursor.skip().and_then(|json| cursor.end().map(|()| json));
    let theirs: std::result::Result<serde::de::IgnoredAny, _> = serde_json::from_str(text);
    // serde_json counts depth only while building, not while skipping; deeper than ours is no difference of meaning.
    if let Err(e) = &ours
        && e.what == "nested too deep"
    {
        return;
    }
    assert_eq!(ours.is_ok(), theirs.is_ok(), "{text:?}: {ours:?} {theirs:?}");
    let mut hasty = Cursor::new(text);
    let stepped = hasty.step_over();
    let Ok(json) = ours else {
        return;
    };
    assert_eq!(stepped.and_then(|()| hasty.end()), Ok(()), "what is JSON is stepped over to its end");
    let mut out = Vec::new();
    Writer::new(&mut out).json(&json);
    let same: std::result::Result<serde::de::IgnoredAny, _> = serde_json::from_slice(&out);
    assert!(same.is_ok(), "what is written is JSON");
    if json.kind() == Kind::Str
        && let Ok(meant) = serde_json::from_str::<String>(text)
    {
        let read = Cursor::new(text).str();
        assert_eq!(read.map(|s| s.decode().into_owned()), Ok(meant.clone()), "the same text");
        let again = JsonStr::quoted(&meant);
        assert_eq!(again.decode(), meant, "quoting is undone by decoding");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: std::result::Result<(), usize>) {
        let mut cursor = Cursor::new(text);
        let got = cursor.skip().and_then(|_| cursor.end()).map_err(|e| e.at);
        assert_eq!(got, expect, "{text}");
        fuzz(text.as_bytes());
    }

    #[test]
    fn reads_what_the_standard_allows() {
        for text in
            ["null", " true ", "-0.5e+10", "\"\\u00e9\\n\"", "[]", "{}", "[[],{}]", "{\"a\":[1,{\"b\":null}]}", "1e400"]
        {
            check(text, Ok(()));
        }
    }

    #[test]
    fn refuses_what_it_does_not_and_says_where() {
        for (text, at) in [
            ("", 0),
            ("[1,]", 3),
            ("{\"a\":1,}", 7),
            ("[,1]", 1),
            ("{\"a\" 1}", 5),
            ("{a:1}", 1),
            ("01", 1),
            ("1.", 2),
            ("\"\n\"", 1),
            ("\"\\x\"", 2),
            ("\"\\u12g4\"", 2),
            ("[1}", 2),
            ("\"a", 2),
            ("tru", 0),
            ("[1 2]", 3),
            ("1 2", 2),
            ("{\"a\":}", 5),
            ("\"\\", 2),
            ("[", 1),
            ("-", 1),
        ] {
            check(text, Err(at));
        }
    }

    #[test]
    fn stops_at_its_depth() {
        let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        check(&deep(128), Ok(()));
        check(&deep(129), Err(128));
        check(&deep(100_000), Err(128));
    }

    #[test]
    fn decodes_escapes_pairs_and_lone_surrogates() {
        for (literal, text) in [
            ("a\\n\\\"b", "a\n\"b"),
            ("\\ud83d\\ude00!", "😀!"),
            ("\\ud83d!", "\u{fffd}!"),
            ("\\ude00", "\u{fffd}"),
            ("\\ud83d\\ud83d\\ude00", "\u{fffd}😀"),
            ("\\u0041\\/", "A/"),
        ] {
            let quoted = format!("\"{literal}\"");
            let read = Cursor::new(&quoted).str().unwrap();
            assert_eq!(read.decode(), text, "{literal}");
        }
    }

    #[test]
    fn line_separators_leave_as_escapes() {
        let mut out = Vec::new();
        Writer::new(&mut out).array().str("a\u{2028}b\u{85}—é").lit(&JsonStr::quote("\u{2029}")).end_array();
        assert_eq!(String::from_utf8(out).unwrap(), "[\"a\\u2028b\\u0085—é\",\"\\u2029\"]");
    }

    #[test]
    fn writes_commas_where_they_belong() {
        let mut out = Vec::new();
        let mut w = Writer::new(&mut out);
        w.object().key("a").array().int(0).int(18_446_744_073_709_551_615).end_array();
        w.key("b").object().end_object().key("c").null().end_object();
        assert_eq!(String::from_utf8(out).unwrap(), r#"{"a":[0,18446744073709551615],"b":{},"c":null}"#);
    }

    #[test]
    fn names_the_place_of_a_byte() {
        let text = r#"{"model": "m", "messages": [{"role": "user"}, {"content": [{"type": 7}]}]}"#;
        for (mark, path) in [
            ("\"m\"", "model"),
            ("\"user\"", "messages[0].role"),
            ("7", "messages[1].content[0].type"),
            ("{\"content", "messages[1]"),
        ] {
            assert_eq!(path_at(text, text.find(mark).unwrap()), path);
        }
    }

    #[test]
    fn counts_are_taken_where_they_stand() {
        for (text, expect) in [
            (
                "[0,12 ,999999999999999999,18446744073709551615,8.0,null]",
                Ok(vec![Some(0), Some(12), Some(999_999_999_999_999_999), Some(u64::MAX), Some(8), None]),
            ),
            ("[01]", Err(2)),
            ("[-1]", Err(1)),
            ("[1.5]", Err(1)),
            ("[1x]", Err(2)),
        ] {
            let mut cursor = Cursor::new(text);
            let mut read = || -> Result<Vec<Option<u64>>> {
                let mut all = Vec::new();
                cursor.array()?;
                while cursor.item()? {
                    all.push(cursor.opt_u64()?);
                }
                cursor.end().map(|()| all)
            };
            assert_eq!(read().map_err(|e| e.at), expect, "{text}");
        }
    }

    #[test]
    fn whole_numbers_are_read_however_they_are_spelled() {
        for (spelled, n) in
            [("8", Some(8)), ("8.0", Some(8)), ("8e2", Some(800)), ("-1", None), ("1.5", None), ("1e99", None)]
        {
            assert_eq!(Json::raw(spelled).as_u64(), n, "{spelled}");
        }
    }
}
