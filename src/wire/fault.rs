//! What a client is told when something went wrong, in no format yet; and how any provider's error is read.

use std::borrow::Cow;
use std::fmt;

use crate::wire::json::{Cursor, Json, JsonStr, Kind};

/// An error on its way to a client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    pub kind: FaultKind,
    /// The status the client is to see, before its format has a say (see `Codec::status`).
    pub status: u16,
    /// For the client: upstream's own words where there are any.
    pub message: String,
    /// The place in the client's request, where one is known.
    pub param: Option<String>,
    /// The upstream's own code, where it named one.
    pub code: Option<String>,
}

/// What kind of trouble it is. Each format has its own words for each (CONVERSION 9.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FaultKind {
    InvalidRequest,
    /// The request is longer than the model can take.
    ContextLength,
    Authentication,
    Billing,
    Permission,
    /// The path does not exist.
    NotFound,
    ModelNotFound,
    TooLarge,
    RateLimit,
    /// 429 that means the account has no money left.
    Quota,
    Timeout,
    Overloaded,
    /// We, or every route, cannot serve just now.
    Unavailable,
    Server,
}

impl FaultKind {
    /// What a status alone tells.
    #[must_use]
    pub fn of_status(status: u16) -> Self {
        match status {
            401 => Self::Authentication,
            402 => Self::Billing,
            403 => Self::Permission,
            404 => Self::NotFound,
            408 | 504 => Self::Timeout,
            413 => Self::TooLarge,
            429 => Self::RateLimit,
            400..=499 => Self::InvalidRequest,
            502 | 503 => Self::Unavailable,
            529 => Self::Overloaded,
            _ => Self::Server,
        }
    }
}

impl Fault {
    #[must_use]
    pub fn new(status: u16, kind: FaultKind, message: impl Into<String>) -> Self {
        Self { kind, status, message: message.into(), param: None, code: None }
    }

    /// A client's mistake: 400.
    #[must_use]
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, FaultKind::InvalidRequest, message)
    }

    /// The upstream did not hold to its format: 502.
    #[must_use]
    pub fn garbage(message: impl Into<String>) -> Self {
        Self::new(502, FaultKind::Server, message)
    }

    #[must_use]
    pub fn param(mut self, path: impl Into<String>) -> Self {
        self.param = Some(path.into());
        self
    }

    /// Reads any provider's error body (CONVERSION 9.1): its words, its code, and what kind of trouble it is.
    #[must_use]
    pub fn read(status: u16, body: &[u8]) -> Self {
        let found = std::str::from_utf8(body).ok().and_then(Words::find).unwrap_or_default();
        let message = match found.message {
            Some(text) => clip(&text),
            None => plain_text(body).unwrap_or_else(|| format!("the upstream answered with status {status}")),
        };
        let mut fault = Self::new(status, FaultKind::of_status(status), message);
        fault.param = found.param;
        fault.code = found.code;
        fault.refine(found.kind.as_deref());
        fault
    }

    /// Reads the error object of a stream event. Its words tell the status there would have been.
    #[must_use]
    pub fn read_event(body: &str) -> Self {
        let kind = Words::find(body).and_then(|w| w.kind.or(w.code));
        let status = match kind.as_deref() {
            Some("invalid_request_error") => 400,
            Some("authentication_error" | "invalid_api_key") => 401,
            Some("billing_error") => 402,
            Some("permission_error") => 403,
            Some("not_found_error") => 404,
            Some("request_too_large") => 413,
            Some("rate_limit_error" | "rate_limit_exceeded" | "insufficient_quota" | "tokens" | "requests") => 429,
            Some("timeout_error") => 504,
            Some("overloaded_error" | "overloaded") => 529,
            Some(code) => code.parse().ok().filter(|s| (400..600).contains(s)).unwrap_or(500),
            None => 500,
        };
        Self::read(status, body.as_bytes())
    }

    /// Narrows the kind by what the upstream called it and by its words.
    fn refine(&mut self, kind: Option<&str>) {
        let code = self.code.as_deref();
        let says = |word: &str| code == Some(word) || kind == Some(word);
        if says("insufficient_quota") || says("billing_hard_limit_reached") {
            self.kind = FaultKind::Quota;
        } else if self.status == 404
            && (says("model_not_found") || says("not_found_error") || self.message.contains("model"))
        {
            self.kind = FaultKind::ModelNotFound;
        } else if matches!(self.status, 400 | 413 | 422)
            && (says("context_length_exceeded") || is_context_length(&self.message))
        {
            self.kind = FaultKind::ContextLength;
        } else if says("overloaded_error") {
            self.kind = FaultKind::Overloaded;
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.status, self.message)
    }
}

impl std::error::Error for Fault {}

/// The phrases by which providers say that a prompt is too long (CONVERSION 9.2, recorded).
fn is_context_length(message: &str) -> bool {
    const PHRASES: [&str; 7] = [
        "prompt is too long",
        "maximum context length",
        "context_length_exceeded",
        "context length exceeded",
        "exceeds the context window",
        "exceed context limit",
        "input is too long",
    ];
    let lower = message.to_ascii_lowercase();
    PHRASES.iter().any(|phrase| lower.contains(phrase))
}

/// What an error body says of itself.
#[derive(Debug, Default)]
struct Words {
    message: Option<String>,
    kind: Option<String>,
    code: Option<String>,
    param: Option<String>,
}

impl Words {
    /// Looks through the shapes of CONVERSION 9.1: `error` an object or a string, `message`, `detail` a string or a
    /// list, the whole in a list of one.
    fn find(body: &str) -> Option<Self> {
        let mut cursor = Cursor::new(body.trim_start_matches('\u{feff}'));
        let json = cursor.skip().ok()?;
        Self::of(&json, 3)
    }

    fn of(json: &Json<'_>, depth: u8) -> Option<Self> {
        let depth = depth.checked_sub(1)?;
        let mut cursor = json.cursor();
        if json.kind() == Kind::Array {
            cursor.array().ok()?;
            return cursor.item().ok()?.then(|| cursor.skip().ok()).flatten().and_then(|first| Self::of(&first, depth));
        }
        let mut words = Self::default();
        let mut fallback = None;
        cursor.object().ok()?;
        while let Some(key) = cursor.key().ok()? {
            let value = cursor.skip().ok()?;
            match key.decode().as_ref() {
                "error" => match value.kind() {
                    Kind::Str => words.message = text(&value),
                    Kind::Object | Kind::Array | Kind::Num | Kind::Bool | Kind::Null => {
                        if let Some(inner) = Self::of(&value, depth) {
                            words = Self { code: inner.code.or(words.code), ..inner };
                        }
                    }
                },
                "message" | "msg" => fallback = fallback.or_else(|| text(&value)),
                "detail" => {
                    fallback =
                        fallback.or_else(|| text(&value).or_else(|| Self::of(&value, depth).and_then(|w| w.message)));
                }
                "type" => words.kind = words.kind.or_else(|| text(&value)),
                "code" => words.code = words.code.or_else(|| text(&value)),
                "param" => words.param = words.param.or_else(|| text(&value)),
                _ => {}
            }
        }
        words.message = words.message.or(fallback);
        Some(words)
    }
}

/// A string's text, or a number as it is spelled.
fn text(value: &Json<'_>) -> Option<String> {
    match value.kind() {
        Kind::Str => value.cursor().str().ok().map(|s| s.decode().into_owned()),
        Kind::Num => Some(value.as_str().to_owned()),
        Kind::Object | Kind::Array | Kind::Bool | Kind::Null => None,
    }
}

/// A body that is not JSON, as one short line: markup and its contents' layout do not reach the client.
fn plain_text(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body.get(..2048).unwrap_or(body));
    let mut plain = String::new();
    let mut inside_tag = false;
    for c in text.chars() {
        match c {
            '<' => inside_tag = true,
            '>' => {
                inside_tag = false;
                plain.push(' ');
            }
            _ if inside_tag => {}
            c if c.is_control() => plain.push(' '),
            c => plain.push(c),
        }
    }
    let words: Vec<&str> = plain.split_whitespace().collect();
    let line = words.join(" ");
    // JSON that says nothing we know is better shown as our own sentence.
    if line.is_empty() || line.starts_with(['{', '[']) {
        return None;
    }
    Some(clip(&line))
}

/// Longest message kept of an upstream: its words are wanted, its page is not.
const MESSAGE_CHARS_MAX: usize = 4000;

fn clip(text: &str) -> String {
    match text.char_indices().nth(MESSAGE_CHARS_MAX) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// A fault's message as a literal.
#[must_use]
pub fn literal(message: &str) -> JsonStr<'_> {
    JsonStr::quote(message)
}

/// The words for a fault's kind in one format.
pub type Terms = fn(FaultKind) -> (&'static str, Option<&'static str>);

/// Cuts what Claude Code looks for to the front of a message about context length.
#[must_use]
pub fn prompt_too_long(message: &str) -> Cow<'_, str> {
    if message.starts_with("prompt is too long") {
        Cow::Borrowed(message)
    } else {
        Cow::Owned(format!("prompt is too long: {message}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: u16, body: &str, kind: FaultKind, message: &str) {
        let fault = Fault::read(status, body.as_bytes());
        assert_eq!((fault.kind, fault.message.as_str()), (kind, message), "{body}");
    }

    #[test]
    fn reads_every_shape_of_error() {
        use FaultKind::*;
        check(400, r#"{"error":{"message":"bad","type":"x","code":null}}"#, InvalidRequest, "bad");
        check(429, r#"{"type":"error","error":{"type":"rate_limit_error","message":"slow"}}"#, RateLimit, "slow");
        check(400, r#"{"code":"invalid-argument","error":"text"}"#, InvalidRequest, "text");
        check(401, r#"{"detail":"Invalid API key"}"#, Authentication, "Invalid API key");
        check(422, r#"{"detail":[{"loc":["a"],"msg":"field required","type":"m"}]}"#, InvalidRequest, "field required");
        check(500, r#"{"object":"error","message":"m","type":"t","code":"3"}"#, Server, "m");
        check(404, r#"[{"error":{"code":404,"message":"no","status":"NOT_FOUND"}}]"#, NotFound, "no");
        check(403, r#"{"message":"forbidden"}"#, Permission, "forbidden");
        check(
            502,
            "<html><head><title>502 Bad Gateway</title></head>\n<body></body></html>",
            Unavailable,
            "502 Bad Gateway",
        );
        check(503, "", Unavailable, "the upstream answered with status 503");
        check(500, r#"{"a":1}"#, Server, "the upstream answered with status 500");
        check(429, r#"{"error":{"message":"x","code":"insufficient_quota"}}"#, Quota, "x");
        check(400, r#"{"error":{"message":"y","code":"context_length_exceeded"}}"#, ContextLength, "y");
        check(
            400,
            r#"{"error":{"message":"prompt is too long: 9 tokens > 8 maximum"}}"#,
            ContextLength,
            "prompt is too long: 9 tokens > 8 maximum",
        );
    }

    #[test]
    fn an_events_words_tell_its_status() {
        for (body, status) in [
            (r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#, 529),
            (r#"{"error":{"message":"m","code":429}}"#, 429),
            (r#"{"error":{"message":"m"}}"#, 500),
        ] {
            assert_eq!(Fault::read_event(body).status, status, "{body}");
        }
    }

    #[test]
    fn a_page_is_not_echoed_whole() {
        let body = "x".repeat(1_000_000);
        assert!(Fault::read(500, body.as_bytes()).message.len() <= 2048, "clipped");
    }
}
