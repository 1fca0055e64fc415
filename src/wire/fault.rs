//! What a client is told when something went wrong, in no format yet; and how any provider's error is read.

use std::borrow::Cow;
use std::fmt;

use crate::wire::json::{Cursor, Json, Kind};

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
    /// Thinking in the history has a seal that this upstream does not know: another has made it.
    ForeignThinking,
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
    ///
    /// The place it names is not taken over: it is one in the request as the provider saw it, not in the client's.
    #[must_use]
    pub fn read(status: u16, body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        let found =
            Words::find(&text).or_else(|| mended(&text).iter().find_map(|text| Words::find(text))).unwrap_or_default();
        let message = match found.message.filter(|words| !words.trim().is_empty()) {
            Some(words) => clip(&without_owner(&words)),
            None => plain_text(&text).unwrap_or_else(|| format!("the upstream answered with status {status}")),
        };
        let mut fault = Self::new(status, FaultKind::of_status(status), message);
        fault.code = found.code;
        fault.refine(found.kind.as_deref());
        fault
    }

    /// Reads the error object of a stream event. Its words tell the status there would have been; the code before the
    /// type, which is the wider of the two.
    #[must_use]
    pub fn read_event(body: &str) -> Self {
        let words = Words::find(body).unwrap_or_default();
        let told = [words.code, words.kind].into_iter().flatten().find_map(|word| status_of(&word));
        Self::read(told.unwrap_or(500), body.as_bytes())
    }

    /// Narrows the kind by what the upstream called it and by its words.
    fn refine(&mut self, kind: Option<&str>) {
        let code = self.code.as_deref();
        let says = |word: &str| code == Some(word) || kind == Some(word);
        if self.status != 402 && (says("insufficient_quota") || says("billing_hard_limit_reached")) {
            self.kind = FaultKind::Quota;
        } else if matches!(self.status, 400 | 403 | 429)
            && (CLOSED.iter().any(|code| says(code)) || is_spent(&self.message))
        {
            self.kind = if self.status == 429 { FaultKind::Quota } else { FaultKind::Billing };
        } else if self.status == 404
            && (says("model_not_found") || says("not_found_error") || self.message.contains("model"))
        {
            self.kind = FaultKind::ModelNotFound;
        } else if matches!(self.status, 400 | 413 | 422)
            && (says("context_length_exceeded") || is_context_length(&self.message))
        {
            self.kind = FaultKind::ContextLength;
        } else if self.status == 400 && (says("invalid_encrypted_content") || is_foreign_seal(&self.message)) {
            self.kind = FaultKind::ForeignThinking;
        } else if says("overloaded_error") || (self.status == 503 && self.message.contains("overloaded")) {
            self.kind = FaultKind::Overloaded;
        }
    }
}

/// How Anthropic says so, of either kind of block, after the block's place.
fn is_foreign_seal(message: &str) -> bool {
    message.contains("Invalid `signature` in `thinking` block")
        || message.contains("Invalid `data` in `redacted_thinking` block")
}

/// The status that a provider's word for an error stands for: a type, a code, or the number itself.
fn status_of(word: &str) -> Option<u16> {
    Some(match word {
        "invalid_request_error" | "context_length_exceeded" | "content_filter" | "invalid_prompt" => 400,
        "authentication_error" | "invalid_api_key" => 401,
        "billing_error" => 402,
        "permission_error" => 403,
        "not_found_error" | "model_not_found" => 404,
        "request_too_large" => 413,
        "rate_limit_error" | "rate_limit_exceeded" | "insufficient_quota" | "tokens" | "requests" => 429,
        "api_error" | "server_error" | "internal_server_error" => 500,
        "service_unavailable" => 503,
        "timeout_error" | "timeout" => 504,
        "overloaded_error" | "overloaded" => 529,
        number => return number.parse().ok().filter(|status| (400..600).contains(status)),
    })
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.status, self.message)
    }
}

impl std::error::Error for Fault {}

/// Codes by which providers say that an account is closed, under statuses that mean something else.
const CLOSED: [&str; 4] =
    ["billing_not_active", "account_deactivated", "organization_deactivated", "access_terminated"];

/// The phrases by which providers say that an account has no credit left or is closed: Anthropic under 400, others under 403.
///
/// Looked for in front of the first quotation mark: what stands in quotes is the client's, and a client's words must not let a
/// key rest.
fn is_spent(message: &str) -> bool {
    const PHRASES: [&str; 8] = [
        "credit balance is too low",
        "insufficient balance",
        "insufficient credits",
        "account is not active",
        "account has been deactivated",
        "account has been disabled",
        "organization has been disabled",
        "account has been suspended",
    ];
    says_one_of(message.split(['"', '\'', '`', '\u{201c}']).next().unwrap_or_default(), &PHRASES)
}

fn says_one_of(text: &str, phrases: &[&str]) -> bool {
    let lower = text.to_ascii_lowercase();
    phrases.iter().any(|phrase| lower.contains(phrase))
}

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
    says_one_of(message, &PHRASES)
}

/// What an error body says of itself.
#[derive(Debug, Default)]
struct Words {
    message: Option<String>,
    kind: Option<String>,
    code: Option<String>,
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
                _ => {}
            }
        }
        words.message = words.message.or(fallback);
        Some(words)
    }
}

/// JSON that breaks off, brought to an end in two ways: in the middle of its last string, and before its last member.
fn mended(text: &str) -> [String; 2] {
    let mut open = Vec::new();
    let (mut in_string, mut escape) = (false, 0_u8);
    // Where an escape began that may be cut; where the last whole member ended, and how deep.
    let (mut escape_at, mut member) = (0, (0, 0));
    for (at, c) in text.char_indices() {
        match c {
            'u' if escape == 1 => escape = 4,
            _ if 0 < escape => escape -= 1,
            '\\' if in_string => (escape, escape_at) = (1, at),
            '"' => in_string = !in_string,
            _ if in_string => {}
            '{' | '[' => {
                open.push(if c == '{' { '}' } else { ']' });
                member = (at + 1, open.len());
            }
            '}' | ']' => {
                open.pop();
                member = (at + 1, open.len());
            }
            ',' => member = (at, open.len()),
            _ => {}
        }
    }
    let ended = |end: usize, quote: &str, depth: usize| {
        let mut ended = format!("{}{quote}", text.get(..end).unwrap_or_default());
        ended.extend(open.iter().take(depth).rev());
        ended
    };
    let end = if 0 < escape { escape_at } else { text.len() };
    [ended(end, if in_string { "\"" } else { "" }, open.len()), ended(member.0, "", member.1)]
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
fn plain_text(body: &str) -> Option<String> {
    let mut plain = String::new();
    let mut inside_tag = false;
    for c in body.chars().take(PAGE_CHARS_MAX) {
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

/// How much of a page is looked through for its words.
const PAGE_CHARS_MAX: usize = 2048;

/// Longest message kept of an upstream: its words are wanted, its page is not.
const MESSAGE_CHARS_MAX: usize = 4000;

fn clip(text: &str) -> String {
    match text.char_indices().nth(MESSAGE_CHARS_MAX) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Takes out whose account it is: limits name the organization, which is the proxy's and not the client's.
#[must_use]
pub fn without_owner(message: &str) -> Cow<'_, str> {
    const WORD: &str = "organization";
    let is_id = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let mut out = Cow::Borrowed("");
    let mut rest = message;
    while let Some((before, after)) = rest.split_once(WORD) {
        let id = after.trim_start_matches([' ', '(', '\'', '"', '`', ':']);
        let len = id.find(|c| !is_id(c)).unwrap_or(id.len());
        // Shorter than any id: the next word of the sentence.
        let (id, rest_of) =
            id.split_at_checked(len).filter(|(id, _)| OWNER_BYTES_MIN <= id.len()).unwrap_or(("", after));
        let gap = after.len() - rest_of.len() - id.len();
        let text = out.to_mut();
        text.push_str(before);
        text.push_str(WORD);
        if !id.is_empty() {
            text.push_str(after.get(..gap).unwrap_or_default());
            text.push('…');
        }
        rest = rest_of;
    }
    if out.is_empty() {
        return Cow::Borrowed(message);
    }
    out.to_mut().push_str(rest);
    out
}

/// No word is as long as an organization's id is.
const OWNER_BYTES_MIN: usize = 20;

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
        check(400, r#"{"error":{"message":"y","code":"invalid_encrypted_content"}}"#, ForeignThinking, "y");
        let words = "messages.1.content.0: Invalid `signature` in `thinking` block";
        check(400, &format!(r#"{{"type":"error","error":{{"message":"{words}"}}}}"#), ForeignThinking, words);
        check(
            400,
            r#"{"error":{"message":"prompt is too long: 9 tokens > 8 maximum"}}"#,
            ContextLength,
            "prompt is too long: 9 tokens > 8 maximum",
        );
    }

    #[test]
    fn a_spent_or_closed_account_is_known_by_the_providers_words_and_not_by_the_clients() {
        use FaultKind::*;
        let low = "Your credit balance is too low to access the API. Please go to Plans & Billing.";
        let echoed = "Invalid value: 'my account has been disabled'. Supported values are: 'low' and 'high'.";
        let said = |message: &str| format!(r#"{{"error":{{"message":"{message}"}}}}"#);
        for (status, message, kind) in [
            (400, low, Billing),
            (403, "This organization has been disabled.", Billing),
            (429, "Your account is not active, please check your billing details.", Quota),
            (400, echoed, InvalidRequest),
            (403, echoed, Permission),
            (500, low, Server),
        ] {
            check(status, &said(message), kind, message);
        }
        check(403, r#"{"error":{"message":"x","code":"account_deactivated"}}"#, Billing, "x");
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
    fn words_are_found_in_a_body_that_breaks_off_anywhere() {
        let body = r#"{"type":"error","error":{"code":null,"message":"say \"\u00e9\" {[,]} please","type":"t","more":[1,{"a":tru"#;
        let from = body.find("please").unwrap() + 6;
        for end in 0..body.len() {
            let Some(cut) = body.get(..end) else { continue };
            let fault = Fault::read(400, cut.as_bytes());
            let whole = "say \"\u{e9}\" {[,]} please";
            if from <= end {
                assert_eq!(fault.message, whole, "{cut}");
            } else {
                assert!(
                    whole.starts_with(&fault.message) || fault.message.starts_with("the upstream"),
                    "{fault:?} {cut}"
                );
            }
        }
        let spoilt = b"{\"error\":{\"message\":\"bad \xff byte\"}}";
        assert_eq!(Fault::read(400, spoilt).message, "bad \u{fffd} byte");
    }

    #[test]
    fn the_account_is_not_told() {
        for (said, shown) in [
            ("exceed your organization\u{2019}s limit", "exceed your organization\u{2019}s limit"),
            (
                "for your organization (0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f) of 50,000",
                "for your organization (…) of 50,000",
            ),
            ("in organization org-AbCdEfGhIjKlMnOpQrSt on tokens", "in organization … on tokens"),
            ("organization", "organization"),
            ("m", "m"),
        ] {
            assert_eq!(without_owner(said), shown);
        }
    }

    #[test]
    fn a_page_is_not_echoed_whole() {
        let body = "x".repeat(1_000_000);
        assert!(Fault::read(500, body.as_bytes()).message.len() <= 2048, "clipped");
    }
}
