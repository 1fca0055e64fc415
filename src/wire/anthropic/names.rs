//! Ids and names that Anthropic accepts, made from whatever another format used; and our own mark on thinking.

use std::collections::HashMap;

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD, HEXLOWER};
use ring::digest::{Context, SHA256, digest};

use crate::wire::json::JsonStr;
pub(super) use crate::wire::prompt::ENVELOPE;

/// Begins an id that we made from one Anthropic would refuse.
const ID_PREFIX: &str = "toolu_mp_";

/// Longest id we make, in bytes: what OpenAI's endpoints take, should it travel on.
const ID_BYTES_MAX: usize = 64;

/// Longest tool name, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// Returns the id of a call as Anthropic takes it (`^[a-zA-Z0-9_-]+$`).
///
/// A legal id stays. Any other is spelled in base32, which can be undone, or hashed when that grows too long; so two
/// ids never become one, and a call and its answer always agree.
pub(super) fn legal_id<'a>(id: &'a JsonStr<'a>) -> JsonStr<'a> {
    let text = id.decode();
    if is_legal(&text) {
        return id.borrow();
    }
    let spelled = base32(text.as_bytes());
    let id = if ID_PREFIX.len() + spelled.len() <= ID_BYTES_MAX {
        format!("{ID_PREFIX}{spelled}")
    } else {
        // The underscore keeps hashes apart from spelled ids: base32 has none.
        format!("{ID_PREFIX}h_{}", base32(digest(&SHA256, text.as_bytes()).as_ref()))
    };
    JsonStr::quoted(&id)
}

/// The ids of a conversation's calls. Anthropic takes each once in a request, but many servers count from nought in
/// every answer: an id that was used in an earlier turn is numbered on.
#[derive(Debug, Default)]
pub(super) struct Ids {
    /// Ids of the turns before, and the number that may be free behind each.
    used: HashMap<String, u32>,
    /// Of the turn that calls, and of its answers: (as Anthropic would take it, as it is sent).
    renamed: Vec<(String, String)>,
}

impl Ids {
    /// A turn begins, with these calls. The same id twice within one turn is left for upstream to refuse.
    pub(super) fn turn<'i>(&mut self, calls: impl Iterator<Item = &'i JsonStr<'i>>) {
        self.renamed.clear();
        let mut sent = Vec::new();
        for call in calls {
            let id = legal_id(call).decode().into_owned();
            let free = self.free(&id);
            sent.push(free.clone().unwrap_or_else(|| id.clone()));
            self.renamed.extend(free.map(|free| (id, free)));
        }
        self.used.extend(sent.into_iter().map(|id| (id, 2)));
    }

    /// The id as it is sent, of a call of this turn or of its answer.
    pub(super) fn sent<'i>(&self, id: &'i JsonStr<'i>) -> JsonStr<'i> {
        let id = legal_id(id);
        match self.renamed.iter().find(|(legal, _)| id.is(legal)) {
            Some((_, sent)) => JsonStr::quoted(sent),
            None => id,
        }
    }

    /// The id numbered on, if it was used before.
    fn free(&mut self, id: &str) -> Option<String> {
        let mut number = *self.used.get(id)?;
        let free = loop {
            let free = format!("{id}_{number}");
            number = number.saturating_add(1);
            if !self.used.contains_key(&free) {
                break free;
            }
        };
        self.used.insert(id.to_owned(), number);
        Some(free)
    }
}

/// Makes up the id of a call that came without one: from the message it is in and its place there.
pub(super) fn made_up_id(message: &str, index: u64) -> JsonStr<'static> {
    let mut seed = message.as_bytes().to_vec();
    seed.extend_from_slice(&index.to_be_bytes());
    let hash = base32(digest(&SHA256, &seed).as_ref());
    JsonStr::quoted(&format!("{ID_PREFIX}{}", hash.get(..24).unwrap_or(&hash)))
}

/// Returns the name of a tool as Anthropic takes it (`^[a-zA-Z0-9_-]{1,128}$`), or `None` when it already is.
pub(super) fn legal_name(name: &str) -> Option<String> {
    if is_legal(name) && name.len() <= NAME_BYTES_MAX {
        return None;
    }
    let hash = HEXLOWER.encode(digest(&SHA256, name.as_bytes()).as_ref());
    let stem: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' })
        .take(NAME_BYTES_MAX - 9)
        .collect();
    Some(format!("{stem}_{}", hash.get(..8).unwrap_or_default()))
}

/// Whether a signature is one that a vendor made.
pub(super) fn is_vendors(signature: &JsonStr<'_>) -> bool {
    !signature.is_empty() && !signature.literal().starts_with(ENVELOPE)
}

/// Makes the signature of thinking that has none, from its text as it passes.
///
/// It holds a short hash of the text and nothing else: nothing of the provider may leak to a client.
#[derive(Clone)]
pub(super) struct Envelope(Context);

impl Envelope {
    pub(super) fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    pub(super) fn update(&mut self, text: &JsonStr<'_>) {
        self.0.update(text.literal().as_bytes());
    }

    pub(super) fn finish(self) -> String {
        let hash = self.0.finish();
        format!("{ENVELOPE}{}", BASE64URL_NOPAD.encode(hash.as_ref().get(..12).unwrap_or_default()))
    }
}

impl std::fmt::Debug for Envelope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Envelope")
    }
}

/// A message's id: 24 letters and digits out of the request's seed, the same each time.
pub(super) fn message_id(seed: u64) -> String {
    const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut id = String::from("msg_");
    let mut state = seed;
    for _ in 0..24 {
        // SplitMix64: well mixed, and no more is asked of it.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let at = usize::try_from((mixed ^ (mixed >> 31)) % 62).unwrap_or(0);
        id.push(char::from(LETTERS.get(at).copied().unwrap_or(b'0')));
    }
    id
}

fn is_legal(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

fn base32(bytes: &[u8]) -> String {
    BASE32_NOPAD.encode(bytes).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(id: &str, expect: &str) {
        let quoted = JsonStr::quoted(id);
        assert_eq!(legal_id(&quoted).decode(), expect);
    }

    #[test]
    fn ec21_ids_become_legal_and_stay_apart() {
        check("toolu_01A-b", "toolu_01A-b");
        check(
            "call_0123456789012345678901234567890123456789012345678901234567890123456789",
            "call_0123456789012345678901234567890123456789012345678901234567890123456789",
        );
        check("functions.Bash:0", "toolu_mp_mz2w4y3unfxw44zoijqxg2b2ga");
        check("a.b", "toolu_mp_mexge");
        check("a:b", "toolu_mp_me5ge");
        check("", "toolu_mp_");
        let long = JsonStr::quoted("a.b".repeat(20).as_str()).into_owned();
        let made = legal_id(&long);
        assert!(made.literal().len() <= ID_BYTES_MAX && is_legal(made.literal()), "{made:?}");
    }

    #[test]
    fn ec36_names_become_legal() {
        assert_eq!(legal_name(&"n".repeat(70)), None);
        let (dot, slash) = (legal_name("a.b").unwrap(), legal_name("a/b").unwrap());
        assert!(dot != slash && dot.starts_with("a_b_") && is_legal(&dot), "{dot} {slash}");
        assert_eq!(legal_name(&"é".repeat(300)).unwrap().len(), NAME_BYTES_MAX);
    }

    #[test]
    fn message_ids_are_made_from_the_seed() {
        assert_eq!(message_id(7), message_id(7));
        assert_ne!(message_id(7), message_id(8));
        assert_eq!(message_id(0).len(), 28);
    }
}
