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

/// Strings up to this length are looked through byte by byte. Measured: most keys are shorter, and setting up a search
/// costs as much as twenty bytes.
const SHORT: usize = 24;

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

/// Walks JSON text from front to back.
///
/// ```text
/// object()  then  key() … a value …  until key() gives None
/// array()   then  item() … a value … until item() gives false
/// end()     nothing but white space may follow
/// ```
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    text: &'a str,
    at: usize,
    /// The innermost object or array has had no member yet.
    fresh: bool,
    /// How deep the cursor stands; bounds callers that descend by themselves.
    depth: u32,
}

impl<'a> Cursor<'a> {
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0, fresh: false, depth: 0 }
    }

    /// The offset of the next value or mark, white space skipped.
    pub fn at(&mut self) -> usize {
        self.space();
        self.at
    }

    /// The offset after what was taken last.
    #[must_use]
    pub fn passed(&self) -> usize {
        self.at
    }

    /// Tells what the next value is, without taking it.
    pub fn peek(&mut self) -> Result<Kind> {
        self.space();
        match self.byte() {
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'"') => Ok(Kind::Str),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Num),
            Some(b't' | b'f') => Ok(Kind::Bool),
            Some(b'n') => Ok(Kind::Null),
            Some(_) => Err(self.fail("expected a value")),
            None => Err(self.fail("the text ends where a value should be")),
        }
    }

    /// Enters an object.
    pub fn object(&mut self) -> Result<()> {
        self.enter(b'{', Kind::Object)
    }

    /// Enters an array.
    pub fn array(&mut self) -> Result<()> {
        self.enter(b'[', Kind::Array)
    }

    /// Takes the next key and its colon; `None` at the end of the object, which is left.
    pub fn key(&mut self) -> Result<Option<JsonStr<'a>>> {
        if !self.member(b'}')? {
            return Ok(None);
        }
        if self.byte() != Some(b'"') {
            return Err(self.fail("expected a key in double quotes"));
        }
        let key = self.literal()?;
        self.space();
        self.take(b':', "expected ':' after the key")?;
        Ok(Some(key))
    }

    /// Tells whether another item follows; `false` at the end of the array, which is left.
    pub fn item(&mut self) -> Result<bool> {
        self.member(b']')
    }

    /// Takes a string.
    pub fn str(&mut self) -> Result<JsonStr<'a>> {
        match self.peek()? {
            Kind::Str => self.literal(),
            other @ (Kind::Object | Kind::Array | Kind::Num | Kind::Bool | Kind::Null) => {
                Err(self.mismatch("a string", other))
            }
        }
    }

    /// Takes a string, or null as `None`.
    pub fn opt_str(&mut self) -> Result<Option<JsonStr<'a>>> {
        match self.peek()? {
            Kind::Str => self.literal().map(Some),
            Kind::Null => self.skip().map(|_| None),
            other @ (Kind::Object | Kind::Array | Kind::Num | Kind::Bool) => {
                Err(self.mismatch("a string or null", other))
            }
        }
    }

    /// Takes a boolean, or null as `None`.
    pub fn opt_bool(&mut self) -> Result<Option<bool>> {
        match self.peek()? {
            Kind::Bool => Ok(Some(self.skip()?.as_str() == "true")),
            Kind::Null => self.skip().map(|_| None),
            other @ (Kind::Object | Kind::Array | Kind::Num | Kind::Str) => {
                Err(self.mismatch("a boolean or null", other))
            }
        }
    }

    /// Takes a number as it is spelled, or null as `None`.
    pub fn opt_num(&mut self) -> Result<Option<Json<'a>>> {
        match self.peek()? {
            Kind::Num => self.skip().map(Some),
            Kind::Null => self.skip().map(|_| None),
            other @ (Kind::Object | Kind::Array | Kind::Str | Kind::Bool) => {
                Err(self.mismatch("a number or null", other))
            }
        }
    }

    /// Takes a whole number that is not negative, or null as `None`. `8.0` is 8.
    pub fn opt_u64(&mut self) -> Result<Option<u64>> {
        let at = self.at();
        let Some(num) = self.opt_num()? else {
            return Ok(None);
        };
        match num.as_u64() {
            Some(n) => Ok(Some(n)),
            None => Err(JsonError::new(at, "expected a whole number of 0 or more")),
        }
    }

    /// Takes whatever comes next, checked but not looked into.
    pub fn skip(&mut self) -> Result<Json<'a>> {
        self.peek()?;
        let from = self.at;
        self.value()?;
        self.fresh = false;
        Ok(Json(Cow::Borrowed(self.slice(from, self.at)?)))
    }

    /// Takes whatever comes next; null as `None`.
    pub fn opt_skip(&mut self) -> Result<Option<Json<'a>>> {
        let is_null = self.peek()? == Kind::Null;
        let json = self.skip()?;
        Ok((!is_null).then_some(json))
    }

    /// Checks that only white space follows.
    pub fn end(&mut self) -> Result<()> {
        self.space();
        match self.byte() {
            None => Ok(()),
            Some(_) => Err(self.fail("unexpected text after the value")),
        }
    }

    /// An error about the value that comes next.
    #[must_use]
    pub fn mismatch(&self, wanted: &str, found: Kind) -> JsonError {
        self.fail(format!("expected {wanted}, found {found}"))
    }

    fn fail(&self, what: impl Into<Cow<'static, str>>) -> JsonError {
        JsonError::new(self.at, what)
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.byte() {
            self.at += 1;
        }
    }

    fn slice(&self, from: usize, to: usize) -> Result<&'a str> {
        self.text.get(from..to).ok_or_else(|| JsonError::new(from, "cut inside a character"))
    }

    fn take(&mut self, byte: u8, what: &'static str) -> Result<()> {
        if self.byte() != Some(byte) {
            return Err(self.fail(what));
        }
        self.at += 1;
        Ok(())
    }

    fn enter(&mut self, mark: u8, wanted: Kind) -> Result<()> {
        let found = self.peek()?;
        if found != wanted {
            return Err(self.fail(format!("expected {wanted}, found {found}")));
        }
        if self.depth == DEPTH_MAX {
            return Err(self.fail("nested too deep"));
        }
        debug_assert_eq!(self.byte(), Some(mark), "peek told the kind");
        self.depth += 1;
        self.at += 1;
        self.fresh = true;
        Ok(())
    }

    /// Steps to the next member, over its comma, or out at `close`.
    fn member(&mut self, close: u8) -> Result<bool> {
        self.space();
        let first = std::mem::replace(&mut self.fresh, false);
        match self.byte() {
            Some(b) if b == close => {
                self.at += 1;
                self.depth = self.depth.saturating_sub(1);
                Ok(false)
            }
            Some(_) if first => Ok(true),
            Some(b',') => {
                self.at += 1;
                self.space();
                match self.byte() {
                    Some(b) if b == close => Err(self.fail("a comma before the end")),
                    _ => Ok(true),
                }
            }
            Some(_) => Err(self.fail("expected ',' or the end")),
            None => Err(self.fail("the text ends too early")),
        }
    }

    /// Takes a string literal whose quote comes next.
    fn literal(&mut self) -> Result<JsonStr<'a>> {
        let from = self.at + 1;
        self.string()?;
        self.fresh = false;
        Ok(JsonStr(Cow::Borrowed(self.slice(from, self.at - 1)?)))
    }

    /// Steps over a string, quotes included, checking escapes and control characters.
    fn string(&mut self) -> Result<()> {
        self.at += 1;
        // Keys and short words end within a few bytes: a plain loop is done before a search has begun.
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        for (n, byte) in rest.iter().take(SHORT).enumerate() {
            match byte {
                b'"' => {
                    self.at += n + 1;
                    return Ok(());
                }
                b'\\' | 0..0x20 => break,
                _ => {}
            }
        }
        loop {
            let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
            let Some(n) = memchr::memchr2(b'"', b'\\', rest) else {
                self.at = self.text.len();
                return Err(self.fail("a string without its closing quote"));
            };
            let (plain, marked) = rest.split_at_checked(n).unwrap_or_default();
            // A fold rather than `any`: without the early exit it is done many bytes at a time.
            if plain.iter().fold(false, |bad, b| bad | (*b < 0x20)) {
                self.at += plain.iter().position(|b| *b < 0x20).unwrap_or(0);
                return Err(self.fail("a control character inside a string"));
            }
            self.at += n + 1;
            if marked.first() == Some(&b'"') {
                return Ok(());
            }
            self.escape()?;
        }
    }

    /// Steps over what follows a backslash.
    fn escape(&mut self) -> Result<()> {
        match self.byte() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                Ok(())
            }
            Some(b'u') => {
                let digits = self.text.as_bytes().get(self.at + 1..self.at + 5);
                if !digits.is_some_and(|d| d.iter().all(u8::is_ascii_hexdigit)) {
                    return Err(self.fail("expected four hexadecimal digits after \\u"));
                }
                self.at += 5;
                Ok(())
            }
            _ => Err(self.fail("an unknown escape")),
        }
    }

    /// Steps over one value of any kind. Iterative: the open brackets are bits of one number.
    fn value(&mut self) -> Result<()> {
        // A set bit is an object, a clear one an array; the lowest is the innermost.
        let mut open: u128 = 0;
        let mut deep = self.depth;
        loop {
            let kind = self.peek()?;
            match kind {
                Kind::Object | Kind::Array => {
                    if deep == DEPTH_MAX {
                        return Err(self.fail("nested too deep"));
                    }
                    deep += 1;
                    open = (open << 1) | u128::from(kind == Kind::Object);
                    self.at += 1;
                    self.fresh = true;
                }
                Kind::Str => self.string()?,
                Kind::Num => self.number()?,
                Kind::Bool | Kind::Null => self.word()?,
            }
            // Leave every bracket that closes here, then stand before the next value.
            loop {
                if deep == self.depth {
                    return Ok(());
                }
                let more = self.step(open & 1 == 1)?;
                if more {
                    break;
                }
                deep -= 1;
                open >>= 1;
            }
        }
    }

    /// `member` and, in an object, the key; without touching the callers' depth.
    fn step(&mut self, object: bool) -> Result<bool> {
        let depth = self.depth;
        let more = self.member(if object { b'}' } else { b']' });
        self.depth = depth;
        if !more? {
            return Ok(false);
        }
        if object {
            if self.byte() != Some(b'"') {
                return Err(self.fail("expected a key in double quotes"));
            }
            self.string()?;
            self.space();
            self.take(b':', "expected ':' after the key")?;
        }
        Ok(true)
    }

    fn word(&mut self) -> Result<()> {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        for word in ["true", "false", "null"] {
            if rest.starts_with(word.as_bytes()) {
                self.at += word.len();
                return Ok(());
            }
        }
        Err(self.fail("expected true, false or null"))
    }

    fn number(&mut self) -> Result<()> {
        if self.byte() == Some(b'-') {
            self.at += 1;
        }
        match self.byte() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits()?,
            _ => return Err(self.fail("expected a digit")),
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.byte() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.byte() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<()> {
        let from = self.at;
        while let Some(b'0'..=b'9') = self.byte() {
            self.at += 1;
        }
        if self.at == from {
            return Err(self.fail("expected a digit"));
        }
        Ok(())
    }
}

/// A JSON string as it is spelled, without its quotes: escapes are kept.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct JsonStr<'a>(Cow<'a, str>);

impl<'a> JsonStr<'a> {
    /// Spells plain text as a literal.
    #[must_use]
    pub fn quote(text: &'a str) -> Self {
        if text.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\') {
            return Self(Cow::Borrowed(text));
        }
        let mut out = Vec::with_capacity(text.len() + 8);
        escape_into(text, &mut out);
        Self(Cow::Owned(owned(out)))
    }

    /// Spells plain text as a literal that owns itself.
    #[must_use]
    pub fn quoted(text: &str) -> JsonStr<'static> {
        JsonStr(Cow::Owned(JsonStr::quote(text).0.into_owned()))
    }

    /// The literal without its quotes, escapes and all.
    #[must_use]
    pub fn literal(&self) -> &str {
        &self.0
    }

    /// The text that is meant. A lone surrogate, which no text can hold, becomes U+FFFD.
    #[must_use]
    pub fn decode(&self) -> Cow<'_, str> {
        let has_escape = match self.0.len() {
            ..SHORT => self.0.bytes().any(|b| b == b'\\'),
            SHORT.. => memchr::memchr(b'\\', self.0.as_bytes()).is_some(),
        };
        if has_escape { Cow::Owned(unescape(&self.0)) } else { Cow::Borrowed(&self.0) }
    }

    /// Whether the text that is meant is `text`, however it is spelled.
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        self.0 == text || (self.0.contains('\\') && self.decode() == text)
    }

    /// Whether there is nothing but white space.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        // Almost every text says no with its first letter.
        match self.0.bytes().next() {
            None => true,
            Some(b) if b.is_ascii_graphic() && b != b'\\' => false,
            Some(_) => self.decode().trim().is_empty(),
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Lengthens this text by another, literal by literal.
    pub fn push(&mut self, more: &JsonStr<'_>) {
        if self.0.is_empty() {
            self.0 = Cow::Owned(more.0.as_ref().to_owned());
        } else {
            self.0.to_mut().push_str(&more.0);
        }
    }

    /// The same literal, owned.
    #[must_use]
    pub fn into_owned(self) -> JsonStr<'static> {
        JsonStr(Cow::Owned(self.0.into_owned()))
    }

    /// The same literal, borrowed from here.
    #[must_use]
    pub fn borrow(&self) -> JsonStr<'_> {
        JsonStr(Cow::Borrowed(&self.0))
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

    /// Writes any value as it is spelled, but for line separators (see `literal_into`).
    pub fn json(&mut self, value: &Json<'_>) -> &mut Self {
        self.before();
        raw_into(value.as_str(), self.out);
        self
    }

    /// Writes a value the caller has spelled out.
    pub fn raw(&mut self, value: &str) -> &mut Self {
        self.before();
        self.out.extend_from_slice(value.as_bytes());
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
    let bytes = text.as_bytes();
    let mut from = 0;
    for (at, b) in bytes.iter().enumerate() {
        let short: &[u8] = match b {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0x08 => b"\\b",
            0x0c => b"\\f",
            0x00..0x20 => b"",
            _ => continue,
        };
        literal_into(text.get(from..at).unwrap_or_default(), out);
        from = at + 1;
        if short.is_empty() {
            out.extend_from_slice(format!("\\u{b:04x}").as_bytes());
        } else {
            out.extend_from_slice(short);
        }
    }
    literal_into(text.get(from..).unwrap_or_default(), out);
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

/// Names the place of a byte the way people write it: `messages[3].content[0].type`.
///
/// Walks the text again, so it is for errors and reports only. Text that cannot be read up to there gives the
/// path of the last place that could.
#[must_use]
pub fn path_at(text: &str, offset: usize) -> String {
    let mut path = String::new();
    let mut cursor = Cursor::new(text);
    while descend(&mut cursor, offset, &mut path).is_ok_and(|deeper| deeper) {}
    path
}

/// Finds the member that holds `offset`, names it, and stands before its value.
fn descend(cursor: &mut Cursor<'_>, offset: usize, path: &mut String) -> Result<bool> {
    match cursor.peek()? {
        Kind::Object => {
            cursor.object()?;
            loop {
                let key_at = cursor.at();
                let Some(key) = cursor.key()? else {
                    return Ok(false);
                };
                let value_at = cursor.at();
                let before = cursor.clone();
                let held = cursor.skip().is_err() || offset < cursor.at;
                if key_at <= offset.saturating_add(1) && held {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(&key.decode());
                    *cursor = before;
                    return Ok(value_at < offset);
                }
            }
        }
        Kind::Array => {
            cursor.array()?;
            let mut index = 0_usize;
            while cursor.item()? {
                let value_at = cursor.at();
                let before = cursor.clone();
                if cursor.skip().is_err() || offset < cursor.at {
                    path.push_str(&format!("[{index}]"));
                    *cursor = before;
                    return Ok(value_at < offset);
                }
                index += 1;
            }
            Ok(false)
        }
        Kind::Str | Kind::Num | Kind::Bool | Kind::Null => Ok(false),
    }
}

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
    let Ok(json) = ours else {
        return;
    };
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
            assert_eq!(JsonStr(Cow::Borrowed(literal)).decode(), text, "{literal}");
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
    fn whole_numbers_are_read_however_they_are_spelled() {
        for (spelled, n) in
            [("8", Some(8)), ("8.0", Some(8)), ("8e2", Some(800)), ("-1", None), ("1.5", None), ("1e99", None)]
        {
            assert_eq!(Json::raw(spelled).as_u64(), n, "{spelled}");
        }
    }
}
