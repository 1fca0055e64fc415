//! What routing needs of a request, found in one scan of the top level, without a tree and without a copy.
//!
//! Every top-level member is noted as a pair of spans; the few the router reads are checked and looked at. Nested
//! values are stepped over by their brackets and quotes alone: whether they are well formed is the upstream's to
//! say (verbatim lane) or the decoder's (translated lane). A key written with escapes (`"m\u006fdel"`) is the same
//! key. A key the router reads may stand only once: two parsers must not see two meanings.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use memchr::memmem::Finder;
use smallvec::SmallVec;

use crate::wire::json::plain::unmarked_len;
use crate::wire::json::{Cursor, JsonError, JsonStr};
use crate::wire::splice::{Edit, Parts, splice};

/// The keys the router reads; each may stand once.
const READ_ONCE: [&str; 7] =
    ["model", "stream", "messages", "max_tokens", "max_completion_tokens", "stream_options", "system"];

/// The top level of one request body.
#[derive(Clone, Debug)]
pub struct Head {
    /// The model as the client names it.
    pub model: String,
    model_at: Range<usize>,
    pub stream: Option<bool>,
    /// `max_completion_tokens`, or else `max_tokens`.
    pub max_tokens: Option<u64>,
    /// How deep it is nested at most, the body's own braces counted, and the byte where it is first so deep.
    pub depth: (u32, usize),
    members: SmallVec<[Member; 16]>,
    /// The byte after the opening brace.
    inside: usize,
}

/// Where one top-level member stands.
#[derive(Clone, Debug)]
struct Member {
    key: Span,
    value: Span,
}

/// A range of a body's bytes, in half the room: a head is handed on, and most of it is these.
#[derive(Clone, Copy, Debug)]
struct Span {
    from: u32,
    to: u32,
}

impl Span {
    /// Bodies that are longer than this can count are refused before any span is made.
    fn of(range: &Range<usize>) -> Self {
        let short = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self { from: short(range.start), to: short(range.end) }
    }

    fn from(self) -> usize {
        self.from as usize
    }

    fn to(self) -> usize {
        self.to as usize
    }

    fn bytes(self, body: &[u8]) -> &[u8] {
        body.get(self.from()..self.to()).unwrap_or_default()
    }
}

/// Reads a body's top level. The error names the byte.
pub fn read(body: &[u8]) -> Result<Head, JsonError> {
    read_text(body).map(|(head, _)| head)
}

/// The same of a body that need not name a model: that is then empty.
pub fn read_any(body: &[u8]) -> Result<Head, JsonError> {
    read_any_text(body).map(|(head, _)| head)
}

/// As [`read`], with the body as the text it is: nobody has to look once more.
pub fn read_text(body: &[u8]) -> Result<(Head, &str), JsonError> {
    let (head, text) = read_any_text(body)?;
    match head.model.is_empty() {
        true => Err(JsonError::new(head.inside, "the field \"model\" is missing")),
        false => Ok((head, text)),
    }
}

fn read_any_text(body: &[u8]) -> Result<(Head, &str), JsonError> {
    // Some clients write a byte order mark, which is no JSON (RFC 8259 8.1); say so rather than "expected a value".
    if body.starts_with(b"\xef\xbb\xbf") {
        return Err(JsonError::new(0, "the body starts with a byte order mark"));
    }
    if u32::try_from(body.len()).is_err() {
        return Err(JsonError::new(0, "the body is longer than 4 GiB"));
    }
    // JSON between machines is UTF-8 (RFC 8259 8.1), whoever is to read it: said here, with the byte, and not left to upstreams.
    let text = std::str::from_utf8(body).map_err(|e| JsonError::new(e.valid_up_to(), "not UTF-8"))?;
    let mut scan = Scan::new(text);
    scan.expect(b'{', "expected a JSON object")?;
    let inside = scan.at;
    let mut members: SmallVec<[Member; 16]> = SmallVec::new();
    let mut found: [Option<Range<usize>>; READ_ONCE.len()] = Default::default();
    while let Some(key) = scan.key(members.is_empty())? {
        let value = scan.value()?;
        let name = scan.text(&key)?;
        if let Some(slot) = READ_ONCE.iter().position(|k| *k == name).and_then(|i| found.get_mut(i))
            && slot.replace(value.clone()).is_some()
        {
            return Err(JsonError::new(key.span.start, format!("the key \"{name}\" stands twice")));
        }
        members.push(Member { key: Span::of(&key.span), value: Span::of(&value) });
    }
    scan.space();
    if scan.at < body.len() {
        return Err(JsonError::new(scan.at, "unexpected text after the JSON object"));
    }
    let [model_at, stream, _, max_tokens, max_completion_tokens, ..] = found;
    let model = match &model_at {
        None => String::new(),
        Some(at) => leaf(text, at, "model", |c| c.str().map(|s| Some(s.decode().into_owned())))?.unwrap_or_default(),
    };
    if let Some(at) = model_at.as_ref().filter(|_| model.is_empty()) {
        return Err(JsonError::new(at.start, "the field \"model\" is empty"));
    }
    let model_at = model_at.unwrap_or(inside..inside);
    let stream = match stream {
        Some(at) => leaf(text, &at, "stream", Cursor::opt_bool)?,
        None => None,
    };
    // Limits are estimates of ours only: one that is no number is for the upstream to refuse.
    let tokens = |at: Option<Range<usize>>| at.and_then(|at| leaf(text, &at, "", Cursor::opt_u64).ok().flatten());
    let max_tokens = tokens(max_completion_tokens).or_else(|| tokens(max_tokens));
    let depth = scan.deepest;
    Ok((Head { model, model_at, stream, max_tokens, depth, members, inside }, text))
}

/// Walks the top level of an object, giving each key and its value as they are spelled. Nested values are stepped over,
/// not checked: for side readers of what goes through untouched.
pub(in crate::wire) fn members<'t>(text: &'t str, mut each: impl FnMut(&str, &'t str)) -> Result<(), JsonError> {
    let mut scan = Scan::new(text);
    scan.expect(b'{', "expected a JSON object")?;
    let mut first = true;
    while let Some(key) = scan.key(first)? {
        first = false;
        let value = scan.value()?;
        let name = scan.text(&key)?;
        // Spans begin and end at ASCII marks, so they never cut a character.
        each(&name, text.get(value).unwrap_or_default());
    }
    scan.space();
    if scan.at < text.len() {
        return scan.fail("unexpected text after the JSON object");
    }
    Ok(())
}

/// Reads the value of the last top-level member of a name, found without looking at what stands before: a reply's usage
/// stands behind its content. `key` searches for the name in its quotes. `None`: there is none that can be told so.
///
/// What follows the value must be members up to the brace that ends the text; were the name nested, more than one
/// brace would have to close, and this would not read. An escaped quote begins no name.
pub(crate) fn last_member<'t, T>(
    text: &'t str,
    key: &Finder<'_>,
    read: impl FnOnce(&mut Cursor<'t>) -> Result<T, JsonError>,
) -> Option<T> {
    let body = text.as_bytes();
    let at = key.find_iter(body).last()?;
    if body.get(..at)?.last() == Some(&b'\\') {
        return None;
    }
    let mut scan = Scan { at: at + key.needle().len(), ..Scan::new(text) };
    scan.expect(b':', "").ok()?;
    let mut cursor = Cursor::starting(text, scan.at);
    let value = read(&mut cursor).ok()?;
    scan.at = cursor.passed();
    while scan.key(false).ok()?.is_some() {
        scan.value().ok()?;
    }
    scan.space();
    (scan.at == body.len()).then_some(value)
}

/// Reads a member's value with a strict cursor; offsets are the body's.
fn leaf<'a, T>(
    body: &'a str,
    at: &Range<usize>,
    name: &str,
    read: impl FnOnce(&mut Cursor<'a>) -> Result<Option<T>, JsonError>,
) -> Result<Option<T>, JsonError> {
    // Spans begin and end at ASCII marks, so they never cut a character.
    let mut cursor = Cursor::new(body.get(at.clone()).unwrap_or_default());
    read(&mut cursor)
        .and_then(|value| cursor.end().map(|()| value))
        .map_err(|e| JsonError::new(at.start + e.at, format!("in \"{name}\": {}", e.what)))
}

impl Head {
    /// Of a body that is no JSON, or none: a model that was named elsewhere.
    #[must_use]
    pub fn elsewhere(model: &str) -> Self {
        Self {
            model: model.to_owned(),
            model_at: 0..0,
            stream: None,
            max_tokens: None,
            depth: (0, 0),
            members: SmallVec::new(),
            inside: 0,
        }
    }

    /// Whether the body names its model itself.
    #[must_use]
    pub fn names_model(&self) -> bool {
        !self.model_at.is_empty()
    }

    /// Whether the client set a top-level field, however it spelled the key.
    #[must_use]
    pub fn has(&self, body: &[u8], name: &str) -> bool {
        self.members.iter().any(|m| is_key(m.key.bytes(body), name))
    }

    /// A top-level field's value as it stands.
    #[must_use]
    pub fn value<'b>(&self, body: &'b [u8], name: &str) -> Option<&'b [u8]> {
        self.members.iter().find(|m| is_key(m.key.bytes(body), name)).map(|m| m.value.bytes(body))
    }

    /// How many answers are asked for side by side: one, where the client does not say otherwise.
    #[must_use]
    pub fn answers(&self, body: &[u8]) -> u64 {
        let member = self.members.iter().find(|m| is_key(m.key.bytes(body), "n"));
        let n = member.and_then(|m| std::str::from_utf8(m.value.bytes(body)).ok());
        n.and_then(|n| leaf(n, &(0..n.len()), "n", Cursor::opt_u64).ok().flatten()).unwrap_or(1).max(1)
    }

    /// The body with another model name (a JSON string, quotes included).
    #[must_use]
    pub fn model_edit(&self, literal: Bytes) -> Edit {
        Edit { from: self.model_at.start, to: self.model_at.end, with: literal }
    }

    /// Sets a top-level field: replaces its value, or puts it in front of all others.
    #[must_use]
    pub fn set(&self, body: &[u8], name: &str, value: &str) -> Edit {
        let member = self.members.iter().find(|m| is_key(m.key.bytes(body), name));
        match member {
            Some(m) => {
                let (from, to) = (m.value.from(), m.value.to());
                Edit { from, to, with: Bytes::copy_from_slice(value.as_bytes()) }
            }
            None => self.insert(name, value),
        }
    }

    /// Puts a field in front of all others. There is always another: the model.
    #[must_use]
    pub fn insert(&self, name: &str, value: &str) -> Edit {
        let name = JsonStr::quote(name);
        Edit { from: self.inside, to: self.inside, with: Bytes::from(format!("\"{}\":{value},", name.literal())) }
    }

    /// Takes top-level fields out, each with one of the commas beside it. The model is never among them.
    #[must_use]
    pub fn remove(&self, body: &[u8], names: &[&str]) -> Vec<Edit> {
        let is_lost = |m: &Member| names.iter().any(|n| is_key(m.key.bytes(body), n));
        let kept = self.members.iter().position(|m| !is_lost(m)).unwrap_or_default();
        let cut = |from, to| Edit { from, to, with: Bytes::new() };
        // In front of the first that stays, up to the next one's quote; behind it, from the end of the one before.
        let leading = self.members.iter().take(kept).zip(self.members.iter().skip(1));
        let leading = leading.map(|(m, next)| cut(m.key.from() - 1, next.key.from() - 1));
        let behind = self.members.iter().skip(kept).zip(self.members.iter().skip(kept + 1));
        let behind = behind.filter(|(_, m)| is_lost(m)).map(|(before, m)| cut(before.value.to(), m.value.to()));
        leading.chain(behind).collect()
    }

    /// Applies edits of this head's to its body.
    #[must_use]
    pub fn apply(&self, body: &Bytes, edits: SmallVec<[Edit; 2]>) -> Parts {
        splice(body, edits)
    }
}

/// Whether the inside of a key's quotes means `name`.
fn is_key(key: &[u8], name: &str) -> bool {
    if memchr::memchr(b'\\', key).is_none() {
        return key == name.as_bytes();
    }
    std::str::from_utf8(key).is_ok_and(|k| unescaped(k).is_some_and(|k| k == name))
}

/// What a key with escapes means; `None` if they are none.
fn unescaped(key: &str) -> Option<String> {
    let quoted = format!("\"{key}\"");
    Cursor::new(&quoted).str().ok().map(|s| s.decode().into_owned())
}

/// A key as it is spelled: the inside of its quotes.
struct Key {
    span: Range<usize>,
    has_escape: bool,
}

struct Scan<'b> {
    text: &'b str,
    body: &'b [u8],
    at: usize,
    /// How deep it went, the object it walks counted, and where.
    deepest: (u32, usize),
}

impl<'b> Scan<'b> {
    fn new(text: &'b str) -> Self {
        Self { text, body: text.as_bytes(), at: 0, deepest: (1, 0) }
    }

    fn byte(&self) -> Option<u8> {
        self.body.get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.byte() {
            self.at += 1;
        }
    }

    fn fail<T>(&self, what: &'static str) -> Result<T, JsonError> {
        Err(JsonError::new(self.at, what))
    }

    fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), JsonError> {
        self.space();
        if self.byte() != Some(byte) {
            return self.fail(what);
        }
        self.at += 1;
        Ok(())
    }

    /// Steps to the next key and over its colon.
    fn key(&mut self, first: bool) -> Result<Option<Key>, JsonError> {
        self.space();
        match self.byte() {
            Some(b'}') => {
                self.at += 1;
                return Ok(None);
            }
            Some(b',') if !first => self.at += 1,
            Some(_) if first => {}
            Some(_) => return self.fail("expected ',' or '}'"),
            None => return self.fail("the text ends inside the object"),
        }
        self.space();
        if self.byte() != Some(b'"') {
            return self.fail("expected a key in double quotes");
        }
        let from = self.at + 1;
        let has_escape = self.string()?;
        let key = Key { span: from..self.at - 1, has_escape };
        self.expect(b':', "expected ':' after the key")?;
        Ok(Some(key))
    }

    fn text(&self, key: &Key) -> Result<Cow<'b, str>, JsonError> {
        let text = self.text.get(key.span.clone()).unwrap_or_default();
        if !key.has_escape {
            return Ok(Cow::Borrowed(text));
        }
        match unescaped(text) {
            Some(meant) => Ok(Cow::Owned(meant)),
            None => Err(JsonError::new(key.span.start, "a key with an unknown escape")),
        }
    }

    /// Steps over one value.
    fn value(&mut self) -> Result<Range<usize>, JsonError> {
        self.space();
        let from = self.at;
        match self.byte() {
            Some(b'"') => {
                self.string()?;
            }
            Some(b'{' | b'[') => self.nested()?,
            Some(b't' | b'f' | b'n' | b'-' | b'0'..=b'9') => {
                let rest = self.body.get(self.at..).unwrap_or_default();
                let ends = |b: &u8| matches!(b, b',' | b'}' | b' ' | b'\n' | b'\r' | b'\t' | b'"' | b'[' | b'{');
                self.at += rest.iter().position(ends).unwrap_or(rest.len());
            }
            Some(_) => return self.fail("expected a value"),
            None => return self.fail("the text ends where a value should be"),
        }
        Ok(from..self.at)
    }

    /// Steps over a string whose quote comes next. Whether it has escapes.
    fn string(&mut self) -> Result<bool, JsonError> {
        let start = self.at;
        let mut has_escape = false;
        self.at += 1;
        loop {
            self.at += unmarked_len(self.body.get(self.at..).unwrap_or_default());
            match self.byte() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(has_escape);
                }
                // Whatever is escaped, it is not the end.
                Some(b'\\') => {
                    has_escape = true;
                    self.at += 2;
                }
                // Nothing else stops the search; control characters are for the upstream, or the decoder, to refuse.
                Some(_) | None => {
                    self.at = start;
                    return self.fail("a string without its closing quote");
                }
            }
        }
    }

    /// Steps over an object or an array by its brackets. Not recursive, so depth costs nothing.
    fn nested(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        let mut depth = 0_u32;
        loop {
            let rest = self.body.get(self.at..).unwrap_or_default();
            // Between strings marks stand close together: a plain loop beats setting up a search.
            let Some(n) = rest.iter().position(|b| matches!(b, b'"' | b'{' | b'}' | b'[' | b']')) else {
                self.at = start;
                return self.fail("brackets that are never closed");
            };
            self.at += n;
            match rest.get(n) {
                Some(b'"') => {
                    self.string()?;
                    continue;
                }
                Some(b'{' | b'[') => {
                    depth += 1;
                    if self.deepest.0 <= depth {
                        self.deepest = (depth + 1, self.at);
                    }
                }
                _ => depth -= 1,
            }
            self.at += 1;
            if depth == 0 {
                return Ok(());
            }
        }
    }
}

/// The fuzz target's body: a body that is read can be given another model, and then means the same but for that;
/// and what a strict reader finds, this one finds too.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    let head = match read(&body) {
        Ok(head) => head,
        Err(error) => {
            assert!(error.at <= body.len(), "an error names a byte of the body");
            return;
        }
    };
    let edits = smallvec::smallvec![head.model_edit(Bytes::from_static(b"\"other\"")), head.set(&body, "zzz", "1")];
    let parts = head.apply(&body, edits);
    let spliced: Vec<u8> = parts.iter().flatten().copied().collect();
    let again = match read(&spliced) {
        Ok(again) => again,
        Err(e) => {
            assert!(head.has(&body, "zzz"), "{e}");
            return;
        }
    };
    assert_eq!(again.model, "other", "the model is replaced");
    assert_eq!((again.stream, again.max_tokens), (head.stream, head.max_tokens), "and nothing else");
    let added = usize::from(!head.has(&body, "zzz"));
    assert_eq!(again.members.len(), head.members.len() + added, "members are kept");
    for (old, new) in head.members.iter().zip(again.members.iter().skip(added)) {
        assert_eq!(old.key.bytes(&body), new.key.bytes(&spliced), "keys are kept");
        let is_edited = |name| is_key(old.key.bytes(&body), name);
        if !is_edited("model") && !is_edited("zzz") {
            assert_eq!(old.value.bytes(&body), new.value.bytes(&spliced), "values are kept");
        }
    }
    fuzz_against_cursor(&body, &head);
}

fn fuzz_against_cursor(body: &[u8], head: &Head) {
    let Ok(text) = std::str::from_utf8(body) else {
        return;
    };
    let mut strict = Cursor::new(text);
    let mut walk = || -> Result<Option<String>, JsonError> {
        let mut model = None;
        strict.object()?;
        while let Some(key) = strict.key()? {
            if key.is("model") {
                model = Some(strict.str()?.decode().into_owned());
            } else {
                strict.skip()?;
            }
        }
        strict.end().map(|()| model)
    };
    if let Ok(model) = walk() {
        assert_eq!(model.as_deref(), Some(head.model.as_str()), "both readers see one model");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json::Json;

    #[track_caller]
    fn check(body: &str, expect: Result<(&str, Option<bool>, Option<u64>), &str>) {
        let got = read(body.as_bytes());
        let got = got.as_ref().map(|h| (h.model.as_str(), h.stream, h.max_tokens)).map_err(ToString::to_string);
        assert_eq!(got, expect.map_err(ToOwned::to_owned), "{body}");
        fuzz(body.as_bytes());
    }

    #[test]
    fn finds_what_routing_needs() {
        check(r#"{"model":"m"}"#, Ok(("m", None, None)));
        check(" {\n\"stream\" : true , \"model\":\t\"a/b\" } ", Ok(("a/b", Some(true), None)));
        check(r#"{"m\u006fdel":"\u006d","stream":null,"max_tokens":5}"#, Ok(("m", None, Some(5))));
        check(r#"{"max_tokens":5,"max_completion_tokens":7.0,"model":"m"}"#, Ok(("m", None, Some(7))));
        check(r#"{"messages":[{"model":"x","a":"}]\""}],"model":"m"}"#, Ok(("m", None, None)));
        check(r#"{"x":1,"x":2,"model":"m","":{}}"#, Ok(("m", None, None)));
        check(r#"{"max_tokens":"many","model":"m"}"#, Ok(("m", None, None)));
    }

    #[test]
    fn refuses_and_names_the_byte() {
        for (body, error) in [
            ("", "expected a JSON object at byte 0"),
            ("[]", "expected a JSON object at byte 0"),
            ("{}", "the field \"model\" is missing at byte 1"),
            ("\u{feff}{}", "the body starts with a byte order mark at byte 0"),
            (r#"{"model":""}"#, "the field \"model\" is empty at byte 9"),
            (r#"{"model":7}"#, "in \"model\": expected a string, found a number at byte 9"),
            (r#"{"model":"m","model":"n"}"#, "the key \"model\" stands twice at byte 14"),
            (r#"{"model":"m","mod\u0065l":"n"}"#, "the key \"model\" stands twice at byte 14"),
            (r#"{"model":"m","stream":1}"#, "in \"stream\": expected a boolean or null, found a number at byte 22"),
            (r#"{"model":"m""#, "the text ends inside the object at byte 12"),
            (r#"{"model":"m"} x"#, "unexpected text after the JSON object at byte 14"),
            (r#"{"model":"m","a":[1"#, "brackets that are never closed at byte 17"),
            (r#"{"model":"m"#, "a string without its closing quote at byte 9"),
            (r#"{"model" "m"}"#, "expected ':' after the key at byte 9"),
            (r#"{model:"m"}"#, "expected a key in double quotes at byte 1"),
            (r#"{"model":"m",}"#, "expected a key in double quotes at byte 13"),
            (r#"{"model":"m" "a":1}"#, "expected ',' or '}' at byte 13"),
            (r#"{"model":"\x"}"#, "in \"model\": an unknown escape at byte 11"),
        ] {
            check(body, Err(error));
        }
        assert!(read(b"{\"model\":\"\xff\"}").is_err_and(|e| e.at == 10), "not UTF-8");
    }

    #[test]
    fn sets_fields_where_they_stand_or_in_front() {
        let body = Bytes::from_static(br#"{ "model":"m", "stre\u0061m" : false}"#);
        let head = read(&body).unwrap();
        let edits = smallvec::smallvec![
            head.set(&body, "stream", "true"),
            head.model_edit(Bytes::from_static(b"\"up\"")),
            head.set(&body, "seed", "1"),
        ];
        let joined: Vec<u8> = head.apply(&body, edits).iter().flatten().copied().collect();
        assert_eq!(joined, br#"{"seed":1, "model":"up", "stre\u0061m" : true}"#);
        assert!(head.has(&body, "stream") && !head.has(&body, "seed"), "knows what was set");
    }

    #[test]
    fn takes_fields_out_with_their_commas() {
        for (body, expect) in [
            (r#"{"model":"m","n":1}"#, r#"{"z\"z":0,"model":"M"}"#),
            (r#"{ "n":1 , "model":"m"}"#, r#"{"z\"z":0, "model":"M"}"#),
            (r#"{"n":1,"\u006e":[2],"model":"m","x":3,"n":4,"top":5 }"#, r#"{"z\"z":0,"model":"M","x":3 }"#),
            (r#"{"top":1,"model":"m","n":{"n":1}, "top":2,"x":"n"}"#, r#"{"z\"z":0,"model":"M","x":"n"}"#),
            (r#"{"model":"m"}"#, r#"{"z\"z":0,"model":"M"}"#),
        ] {
            let body = Bytes::from_static(body.as_bytes());
            let head = read(&body).unwrap();
            let mut edits: SmallVec<[Edit; 2]> = head.remove(&body, &["n", "top"]).into();
            edits.push(head.insert("z\"z", "0"));
            edits.push(head.model_edit(Bytes::from_static(b"\"M\"")));
            assert_eq!(head.apply(&body, edits).into_bytes(), expect);
        }
    }

    #[test]
    fn the_last_member_is_found_from_the_end_and_only_at_the_top() {
        for (text, expect) in [
            (r#"{"a":{"usage":1},"usage":{"n":2},"b":[1]}"#, Some(r#"{"n":2}"#)),
            (r#"{"usage":2}"#, Some("2")),
            (r#"{"a":{"usage":1}}"#, None),
            (r#"{"a":[{"usage":1}]}"#, None),
            (r#"{"usage":1,"a":{"usage":2}}"#, None),
            (r#"{"a":"\"usage\":1}"}"#, None),
            (r#"{"x\"usage":1}"#, None),
            (r#"{"usage":[1}"#, None),
            (r#"{"usage":1"#, None),
            (r#"{"usage":1} x"#, None),
            (r#"{}"#, None),
        ] {
            let found = last_member(text, &Finder::new("\"usage\""), Cursor::skip);
            assert_eq!(found.as_ref().map(Json::as_str), expect, "{text}");
        }
    }

    #[test]
    fn depth_costs_nothing() {
        let body = format!("{{\"model\":\"m\",\"a\":{}{}}}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        let head = read(body.as_bytes()).unwrap();
        assert_eq!(head.depth.0, 1_000_001, "a million brackets, and the object they are in");
    }
}
