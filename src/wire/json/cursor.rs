//! Walks text once, front to back, and takes from it what is asked for.

use std::borrow::Cow;

use crate::wire::json::plain::{near_plain_len, plain_len, unmarked_len};
use crate::wire::json::{DEPTH_MAX, Json, JsonError, JsonStr, Kind, Result};

/// Digits that fit any `u64`.
const COUNT_DIGITS_MAX: usize = 18;

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
        Self::starting(text, 0)
    }

    /// Begins at a byte of the text, which is that of a value's first.
    pub(in crate::wire) fn starting(text: &'a str, at: usize) -> Self {
        Self { text, at, fresh: false, depth: 0 }
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
        match self.plain_key() {
            Some(key) => Ok(Some(key)),
            None => self.any_key(),
        }
    }

    /// Takes a key as nearly all are written: no white space about it, no escape in it. Anything else is left for the
    /// long way.
    fn plain_key(&mut self) -> Option<JsonStr<'a>> {
        let (from, rest) = match (self.rest(), self.fresh) {
            ([b'"', rest @ ..], true) => (self.at + 1, rest),
            ([b',', b'"', rest @ ..], false) => (self.at + 2, rest),
            _ => return None,
        };
        let to = from + near_plain_len(rest)?;
        let [b'"', b':', ..] = self.text.as_bytes().get(to..)? else { return None };
        let key = self.text.get(from..to)?;
        self.at = to + 2;
        self.fresh = false;
        Some(JsonStr::checked(key, false))
    }

    #[inline(never)]
    fn any_key(&mut self) -> Result<Option<JsonStr<'a>>> {
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
        match self.plain_str() {
            Some(plain) => Ok(plain),
            None => self.long_str(),
        }
    }

    #[inline(never)]
    fn long_str(&mut self) -> Result<JsonStr<'a>> {
        match self.peek()? {
            Kind::Str => self.literal(),
            other @ (Kind::Object | Kind::Array | Kind::Num | Kind::Bool | Kind::Null) => {
                Err(self.mismatch("a string", other))
            }
        }
    }

    /// Takes a string as most are written: right here, short, and no escape in it. Anything else is left for the long way.
    fn plain_str(&mut self) -> Option<JsonStr<'a>> {
        let [b'"', rest @ ..] = self.rest() else { return None };
        let from = self.at + 1;
        let to = from + near_plain_len(rest)?;
        if self.text.as_bytes().get(to) != Some(&b'"') {
            return None;
        }
        let text = self.text.get(from..to)?;
        self.at = to + 1;
        self.fresh = false;
        Some(JsonStr::checked(text, false))
    }

    /// Takes a string, or null as `None`.
    pub fn opt_str(&mut self) -> Result<Option<JsonStr<'a>>> {
        if let Some(plain) = self.plain_str() {
            return Ok(Some(plain));
        }
        self.long_opt_str()
    }

    #[inline(never)]
    fn long_opt_str(&mut self) -> Result<Option<JsonStr<'a>>> {
        match self.peek()? {
            Kind::Str => self.literal().map(Some),
            Kind::Null => self.skip().map(|_| None),
            other @ (Kind::Object | Kind::Array | Kind::Num | Kind::Bool) => {
                Err(self.mismatch("a string or null", other))
            }
        }
    }

    /// Takes whatever comes next: the string it is, if it is one.
    pub fn any_str(&mut self) -> Result<Option<JsonStr<'a>>> {
        if let Some(plain) = self.plain_str() {
            return Ok(Some(plain));
        }
        self.long_any_str()
    }

    #[inline(never)]
    fn long_any_str(&mut self) -> Result<Option<JsonStr<'a>>> {
        match self.peek()? {
            Kind::Str => self.literal().map(Some),
            Kind::Object | Kind::Array | Kind::Num | Kind::Bool | Kind::Null => self.skip().map(|_| None),
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
        if let Some(n) = self.count() {
            return Ok(Some(n));
        }
        let Some(num) = self.opt_num()? else {
            return Ok(None);
        };
        match num.as_u64() {
            Some(n) => Ok(Some(n)),
            None => Err(JsonError::new(at, "expected a whole number of 0 or more")),
        }
    }

    /// Takes whatever comes next: the whole number it is, if it is one that is not negative.
    pub fn any_u64(&mut self) -> Result<Option<u64>> {
        self.space();
        match self.count() {
            Some(n) => Ok(Some(n)),
            None => Ok(self.skip()?.as_u64()),
        }
    }

    /// Takes a number of plain digits, as nearly all counts are; anything else is left for the long way.
    fn count(&mut self) -> Option<u64> {
        let mut n = 0_u64;
        for (len, &byte) in self.rest().iter().enumerate().take(COUNT_DIGITS_MAX + 1) {
            match byte {
                b'0'..=b'9' if len == 0 || n != 0 => n = n.wrapping_mul(10).wrapping_add(u64::from(byte - b'0')),
                b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t' if 0 < len => {
                    self.at += len;
                    self.fresh = false;
                    return Some(n);
                }
                _ => return None,
            }
        }
        None
    }

    /// Takes whatever comes next, checked but not looked into.
    pub fn skip(&mut self) -> Result<Json<'a>> {
        self.peek()?;
        let from = self.at;
        self.value()?;
        self.fresh = false;
        Ok(Json::raw(self.slice(from, self.at)?))
    }

    /// Steps over a value by its brackets and quotes alone, for whoever reads all of it afterwards: what is wrong inside is
    /// found then, and nothing is checked twice.
    pub(in crate::wire) fn step_over(&mut self) -> Result<()> {
        match self.peek()? {
            Kind::Array | Kind::Object => {}
            Kind::Str => {
                self.at += 1;
                self.step_over_string()?;
                self.fresh = false;
                return Ok(());
            }
            Kind::Num | Kind::Bool | Kind::Null => return self.skip().map(drop),
        }
        let bytes = self.text.as_bytes();
        let from = self.at;
        let mut depth = 0_usize;
        while let Some(rest) = bytes.get(self.at..) {
            // Between strings marks stand close together: a plain loop beats setting up a search.
            let Some(n) = rest.iter().position(|b| matches!(b, b'"' | b'{' | b'}' | b'[' | b']')) else { break };
            self.at += n + 1;
            match rest.get(n) {
                Some(b'"') => self.step_over_string()?,
                Some(b'{' | b'[') => depth += 1,
                _ => depth -= 1,
            }
            if depth == 0 {
                self.fresh = false;
                return Ok(());
            }
        }
        self.at = from;
        Err(self.fail("brackets that are never closed"))
    }

    /// Steps over the rest of a string.
    fn step_over_string(&mut self) -> Result<()> {
        let from = self.at;
        while let Some(rest) = self.text.as_bytes().get(self.at..) {
            self.at += unmarked_len(rest);
            match self.byte() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                // Whatever is escaped, it is not the end.
                Some(b'\\') => self.at += 2,
                Some(_) | None => break,
            }
        }
        self.at = from;
        Err(self.fail("a string without its closing quote"))
    }

    /// What was taken from an offset on: one value, if that is where it began.
    pub(in crate::wire) fn since(&self, from: usize) -> Result<Json<'a>> {
        Ok(Json::raw(self.slice(from, self.at)?))
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

    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
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
        let has_escape = self.string()?;
        self.fresh = false;
        Ok(JsonStr::checked(self.slice(from, self.at - 1)?, has_escape))
    }

    /// Steps over a string, quotes included, checking escapes and control characters. Whether it has escapes.
    fn string(&mut self) -> Result<bool> {
        self.at += 1;
        let mut has_escape = false;
        loop {
            self.at += plain_len(self.rest());
            match self.byte() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(has_escape);
                }
                Some(b'\\') => {
                    has_escape = true;
                    self.at += 1;
                    self.escape()?;
                }
                Some(_) => return Err(self.fail("a control character inside a string")),
                None => return Err(self.fail("a string without its closing quote")),
            }
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
                Kind::Str => {
                    self.string()?;
                }
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
        let rest = self.rest();
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
