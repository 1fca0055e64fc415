//! A credential that cannot be shown by accident.

use std::fmt;
use std::sync::Arc;

use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq;

/// A key of a provider or of a client. `Debug` shows its fingerprint; there is no `Display`.
#[derive(Clone)]
pub struct Secret {
    text: Arc<str>,
    digest: [u8; 32],
}

impl Secret {
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self { text: text.into(), digest: sha256(text.as_bytes()) }
    }

    /// The credential itself: for the header that carries it, and nothing else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// The SHA-256 of the credential.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Whether `offered` is this credential. Takes the same time wherever they differ, and whatever their lengths.
    #[must_use]
    pub fn is(&self, offered: &[u8]) -> bool {
        self.digest.ct_eq(&sha256(offered)).into()
    }

    /// Eight hexadecimal digits of the SHA-256: enough to tell keys apart, useless to whoever reads them.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        data_encoding::HEXLOWER.encode(self.digest.get(..4).unwrap_or_default())
    }

    /// The same as a number: the first four bytes.
    #[must_use]
    pub fn short(&self) -> u32 {
        self.digest.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
    }

    /// A number made of the SHA-256: the same on every machine, and as useless to whoever sees it as the fingerprint.
    #[must_use]
    pub fn ordinal(&self) -> u64 {
        self.digest.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }

    /// What people recognise their own key by: `sk-…last4`, or only dots when the key is short.
    #[must_use]
    pub fn redacted(&self) -> String {
        let chars: Vec<char> = self.text.chars().collect();
        match chars.len() {
            0..16 => "…".to_owned(),
            n => {
                let head: String = chars.iter().take(3).collect();
                let tail: String = chars.iter().skip(n - 4).collect();
                format!("{head}…{tail}")
            }
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.fingerprint())
    }
}

/// What credentials of many makers begin with.
const BEGINNINGS: [&str; 19] = [
    "sk-",
    "sk_",
    "pk_",
    "rk_",
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "xapp-",
    "AKIA",
    "AIza",
    "hf_",
    "gsk_",
    "npm_",
    // Those `keys new` makes.
    "mp-",
    "eyJ",
];

/// A shorter word is none.
const CREDENTIAL_BYTES_MIN: usize = 20;

/// A text without what looks like somebody's credential; `None` if there is nothing of the kind. What it does not look like it
/// cannot be known by: this is for bodies, beside the search for every key that is known.
#[must_use]
pub fn scrub(text: &str) -> Option<String> {
    let is_of_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let mut clean: Option<String> = None;
    let (mut at, mut copied) = (0, 0);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let begin = at + rest.find(is_of_word).unwrap_or(rest.len());
        let before = text.get(..begin).unwrap_or_default();
        let begin = begin + escaped(before, text.get(begin..).unwrap_or_default());
        let rest = text.get(begin..).unwrap_or_default();
        let is_told = TOLD.iter().any(|told| ends_with(before, told));
        // What is told to be one may have letters that words have not.
        let is_of_it = |c: char| is_of_word(c) || is_told && matches!(c, '+' | '/' | '=' | '~');
        let word = rest.get(..rest.find(|c| !is_of_it(c)).unwrap_or(rest.len())).unwrap_or_default();
        at = begin + word.len();
        let shown = BEGINNINGS.iter().find(|first| word.starts_with(**first)).map(|first| first.len());
        let shown = shown.or_else(|| is_told.then_some(0));
        if let Some(shown) = shown.filter(|_| CREDENTIAL_BYTES_MIN <= word.len()) {
            let clean = clean.get_or_insert_default();
            clean.push_str(text.get(copied..begin + shown).unwrap_or_default());
            clean.push('…');
            copied = at;
        }
    }
    if let Some(clean) = &mut clean {
        clean.push_str(text.get(copied..).unwrap_or_default());
    }
    clean
}

/// What stands before a credential in a header, in small letters.
const TOLD: [&str; 2] = ["bearer ", "basic "];

fn ends_with(text: &str, end: &str) -> bool {
    let from = text.len().checked_sub(end.len());
    from.and_then(|from| text.get(from..)).is_some_and(|last| last.eq_ignore_ascii_case(end))
}

/// How many letters of a word belong to the escape before it: bodies are JSON, and a line that begins is spelled `\n`.
fn escaped(before: &str, word: &str) -> usize {
    let slashes = before.bytes().rev().take_while(|byte| *byte == b'\\').count();
    match word.bytes().next() {
        Some(b'n' | b't' | b'r' | b'b' | b'f') if slashes % 2 == 1 => 1,
        Some(b'u') if slashes % 2 == 1 => 5.min(word.len()),
        _ => 0,
    }
}

/// The SHA-256 of what a client offers as its key.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_shows_itself() {
        let secret = Secret::new("sk-canary-0123456789abcdef");
        let shown = format!("{secret:?} {} {}", secret.fingerprint(), secret.redacted());
        assert!(!shown.contains("canary"), "{shown}");
        assert_eq!(secret.redacted(), "sk-…cdef");
        assert_eq!(Secret::new("short").redacted(), "…");
    }

    #[test]
    fn what_looks_like_a_credential_is_taken_out() {
        let long = "0123456789abcdefghij";
        for (text, expect) in [
            ("nothing to see".to_owned(), None),
            ("sk-short, task-sk-no and risk-free words that are quite long".to_owned(), None),
            (format!("use sk-{long}, and ghp_{long}!"), Some("use sk-…, and ghp_…!")),
            (format!("{{\"Authorization\":\"Bearer {long}\"}}"), Some("{\"Authorization\":\"Bearer …\"}")),
            (format!("eyJ{long}.{long}.{long} é"), Some("eyJ… é")),
            (format!("é{long}"), None),
            (
                format!("{{\"a\":\"keys:\\nsk-{long}\\tghp_{long}\\u000aAIza{long}\"}}"),
                Some("{\"a\":\"keys:\\nsk-…\\tghp_…\\u000aAIza…\"}"),
            ),
            (format!("a\\\\nsk-{long}"), None),
            (
                format!("authorization: bearer {long}+/=, basic {long}== and Basic plans"),
                Some("authorization: bearer …, basic … and Basic plans"),
            ),
            (format!("mp-{long}"), Some("mp-…")),
            (String::new(), None),
        ] {
            assert_eq!(scrub(&text).as_deref(), expect, "{text}");
        }
    }

    #[test]
    fn knows_itself_from_others() {
        let secret = Secret::new("one");
        assert!(secret.is(b"one"), "the same");
        assert!(!secret.is(b"on") && !secret.is(b"one ") && !secret.is(b""), "others");
    }
}
