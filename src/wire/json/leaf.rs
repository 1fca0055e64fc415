//! What is taken from text and not looked into: strings and values as they are spelled.

use std::borrow::Cow;
use std::fmt;

use crate::wire::json::plain::plain_len;
use crate::wire::json::writer::escape_into;
use crate::wire::json::{Cursor, Kind};

/// A JSON string as it is spelled, without its quotes: escapes are kept.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct JsonStr<'a> {
    literal: Cow<'a, str>,
    /// There is a backslash in it. Whoever made it has looked, so nobody has to look again.
    has_escape: bool,
}

impl fmt::Debug for JsonStr<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("JsonStr").field(&self.literal).finish()
    }
}

impl<'a> JsonStr<'a> {
    /// Takes the inside of a literal that a cursor has checked.
    pub(super) fn checked(literal: &'a str, has_escape: bool) -> Self {
        debug_assert_eq!(has_escape, literal.contains('\\'), "{literal}");
        Self { literal: Cow::Borrowed(literal), has_escape }
    }

    /// Spells plain text as a literal.
    #[must_use]
    pub fn quote(text: &'a str) -> Self {
        if plain_len(text.as_bytes()) == text.len() {
            return Self { literal: Cow::Borrowed(text), has_escape: false };
        }
        let mut out = Vec::with_capacity(text.len() + 8);
        escape_into(text, &mut out);
        Self { literal: Cow::Owned(owned(out)), has_escape: true }
    }

    /// Spells plain text as a literal that owns itself.
    #[must_use]
    pub fn quoted(text: &str) -> JsonStr<'static> {
        JsonStr::quote(text).into_owned()
    }

    /// Takes a literal that was put together from letters of others, each of them whole.
    #[must_use]
    pub fn spelled(literal: String) -> JsonStr<'static> {
        let has_escape = literal.contains('\\');
        JsonStr { literal: Cow::Owned(literal), has_escape }
    }

    /// The literal without its quotes, escapes and all.
    #[must_use]
    #[inline]
    pub fn literal(&self) -> &str {
        &self.literal
    }

    /// Whether the literal and what it means differ.
    #[must_use]
    #[inline]
    pub fn has_escape(&self) -> bool {
        self.has_escape
    }

    /// The text that is meant. A lone surrogate, which no text can hold, becomes U+FFFD.
    #[must_use]
    #[inline]
    pub fn decode(&self) -> Cow<'_, str> {
        if self.has_escape { Cow::Owned(unescape(&self.literal)) } else { Cow::Borrowed(&self.literal) }
    }

    /// Whether the text that is meant is `text`, however it is spelled.
    #[must_use]
    #[inline]
    pub fn is(&self, text: &str) -> bool {
        self.literal == text || (self.has_escape && self.decode() == text)
    }

    /// Whether there is nothing but white space.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        // Almost every text says no with its first letter.
        match self.literal.bytes().next() {
            None => true,
            Some(b) if b.is_ascii_graphic() && b != b'\\' => false,
            Some(_) => self.decode().trim().is_empty(),
        }
    }

    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.literal.is_empty()
    }

    /// Lengthens this text by another, literal by literal.
    pub fn push(&mut self, more: &JsonStr<'_>) {
        self.has_escape |= more.has_escape;
        if self.literal.is_empty() {
            self.literal = Cow::Owned(more.literal.as_ref().to_owned());
        } else {
            self.literal.to_mut().push_str(&more.literal);
        }
    }

    /// The same literal, owned.
    #[must_use]
    pub fn into_owned(self) -> JsonStr<'static> {
        JsonStr { literal: Cow::Owned(self.literal.into_owned()), has_escape: self.has_escape }
    }

    /// The same literal, borrowed from here.
    #[must_use]
    pub fn borrow(&self) -> JsonStr<'_> {
        JsonStr { literal: Cow::Borrowed(&self.literal), has_escape: self.has_escape }
    }
}

/// Any JSON value as it is spelled.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Json<'a>(Cow<'a, str>);

impl<'a> Json<'a> {
    /// Takes text that is known to be one JSON value.
    #[must_use]
    pub fn raw(text: impl Into<Cow<'a, str>>) -> Self {
        Self(text.into())
    }

    #[must_use]
    #[inline]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The number, if it is one that is whole and not negative. `8.0` and `8e0` are 8.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        if let Ok(n) = self.0.parse::<u64>() {
            return Some(n);
        }
        let n = self.as_f64()?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked to be whole, not negative, and below 2^53"
        )]
        (n.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(&n)).then_some(n as u64)
    }

    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        self.0.parse().ok()
    }

    #[must_use]
    pub fn kind(&self) -> Kind {
        // A `Json` holds a value, so peeking at it cannot fail.
        Cursor::new(&self.0).peek().unwrap_or(Kind::Null)
    }

    #[must_use]
    pub fn cursor(&self) -> Cursor<'_> {
        Cursor::new(&self.0)
    }

    #[must_use]
    pub fn into_owned(self) -> Json<'static> {
        Json(Cow::Owned(self.0.into_owned()))
    }

    #[must_use]
    pub fn borrow(&self) -> Json<'_> {
        Json(Cow::Borrowed(&self.0))
    }
}

/// Reads the escapes of a literal that a cursor has checked.
fn unescape(literal: &str) -> String {
    let mut out = String::with_capacity(literal.len());
    let mut rest = literal;
    while let Some((plain, after)) = rest.split_once('\\') {
        out.push_str(plain);
        let mut chars = after.chars();
        let meant = match chars.next() {
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => unescape_unicode(&mut chars),
            Some(other) => other,
            None => break,
        };
        out.push(meant);
        rest = chars.as_str();
    }
    out.push_str(rest);
    out
}

/// Reads four digits and, after a high surrogate, its low half.
fn unescape_unicode(chars: &mut std::str::Chars<'_>) -> char {
    let Some(first) = hex4(chars) else {
        return char::REPLACEMENT_CHARACTER;
    };
    if let 0xd800..0xdc00 = first {
        let mut ahead = chars.clone();
        if ahead.next() == Some('\\')
            && ahead.next() == Some('u')
            && let Some(low @ 0xdc00..0xe000) = hex4(&mut ahead)
        {
            *chars = ahead;
            let code = 0x10000 + ((first - 0xd800) << 10) + (low - 0xdc00);
            return char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
        }
    }
    char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn hex4(chars: &mut std::str::Chars<'_>) -> Option<u32> {
    let digits = chars.as_str().get(..4)?;
    *chars = chars.as_str().get(4..)?.chars();
    u32::from_str_radix(digits, 16).ok()
}

/// Bytes that were built from text.
fn owned(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_default()
}
