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
    fn knows_itself_from_others() {
        let secret = Secret::new("one");
        assert!(secret.is(b"one"), "the same");
        assert!(!secret.is(b"on") && !secret.is(b"one ") && !secret.is(b""), "others");
    }
}
