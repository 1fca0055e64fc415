//! What was asked and what was answered, for whoever wants that kept (`MODEL_PROXY_LOG_BODIES`). Off, it is one look at a
//! pointer for each piece of an answer.

use std::fmt;
use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use smallvec::SmallVec;

use crate::route::secrets::Secrets;
use crate::secret::{Secret, scrub};

/// The beginnings of a request's body and of its answer, as the client sent and was sent them.
#[derive(Clone)]
pub struct Bodies {
    asked: Beginning,
    answered: Beginning,
    bytes_max: usize,
    secrets: Arc<Secrets>,
    /// What the client came in with.
    offered: SmallVec<[Secret; 1]>,
}

/// As much of a body as is kept, and how long all of it was.
#[derive(Clone, Default)]
struct Beginning {
    bytes: Vec<u8>,
    length: u64,
}

impl fmt::Debug for Bodies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bodies({} and {} bytes)", self.asked.length, self.answered.length)
    }
}

/// So much more than is shown is kept until it is shown: what is cut through would not be known for a credential.
const BEYOND_BYTES: usize = 1024;

/// A client's key that is shorter may be a word of any sentence.
const OFFERED_BYTES_MIN: usize = 8;

impl Bodies {
    pub(super) fn new(asked: &[u8], headers: &HeaderMap, bytes_max: usize, secrets: &Arc<Secrets>) -> Self {
        let keys = [headers.get(AUTHORIZATION), headers.get("x-api-key")].into_iter().flatten();
        let keys = keys.filter_map(|value| value.to_str().ok()?.split(' ').next_back());
        let offered = keys.filter(|key| OFFERED_BYTES_MIN <= key.len()).map(Secret::new).collect();
        let (secrets, none) = (Arc::clone(secrets), Beginning::default());
        let mut bodies = Self { asked: none.clone(), answered: none, bytes_max, secrets, offered };
        bodies.asked.add(asked, bytes_max);
        bodies
    }

    pub(super) fn answer(&mut self, piece: &[u8]) {
        self.answered.add(piece, self.bytes_max);
    }

    /// Both, in order, without credentials: (text, length of all of it in bytes).
    #[must_use]
    pub fn texts(&self) -> [(String, u64); 2] {
        [&self.asked, &self.answered].map(|body| (self.shown(&body.bytes), body.length))
    }

    fn shown(&self, bytes: &[u8]) -> String {
        let text = String::from_utf8_lossy(bytes);
        let hidden = self.secrets.hidden(&text).unwrap_or_else(|| text.into_owned());
        let hidden = self.offered.iter().fold(hidden, |text, key| text.replace(key.expose(), &key.redacted()));
        let mut text = scrub(&hidden).unwrap_or(hidden);
        text.truncate(text.floor_char_boundary(self.bytes_max));
        text
    }
}

impl Beginning {
    fn add(&mut self, piece: &[u8], bytes_max: usize) {
        self.length += piece.len() as u64;
        let left = (bytes_max + BEYOND_BYTES).saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(piece.get(..piece.len().min(left)).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_beginning_is_kept_and_no_credential_is_cut_through() {
        let key = format!("sk-{}", "k".repeat(40));
        let asked = format!("{} {key}", "a".repeat(89));
        let mut bodies = Bodies::new(asked.as_bytes(), &HeaderMap::new(), 100, &Arc::default());
        bodies.answer(b"one ");
        bodies.answer("é".repeat(100_000).as_bytes());
        let [(asked, asked_length), (answered, answered_length)] = bodies.texts();
        assert_eq!((asked, asked_length), (format!("{} sk-…", "a".repeat(89)), 133));
        assert_eq!((answered, answered_length), (format!("one {}", "é".repeat(48)), 200_004));
        assert!(bodies.answered.bytes.len() <= 100 + BEYOND_BYTES, "whatever comes");
    }

    #[test]
    fn no_key_that_is_known_is_kept() {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, "Bearer choose-one-two-three".parse().unwrap());
        headers.insert("x-api-key", "short".parse().unwrap());
        let known = Secrets::of_one("sk-proj-known0123456789abcdef");
        let asked = b"my keys: sk-proj-known0123456789abcdef choose-one-two-three, in short";
        let mut bodies = Bodies::new(asked, &headers, 1000, &Arc::new(known));
        bodies.answer(asked);
        for (text, _) in bodies.texts() {
            assert_eq!(text, "my keys: sk-…cdef cho…hree, in short");
        }
    }
}
