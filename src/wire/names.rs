//! Names that fit, where OpenAI's rules hold: made of what they stand for, so that one name means the same bytes every time.

use data_encoding::HEXLOWER;
use ring::digest::{SHA256, digest};

/// Letters and digits that stand for any bytes; at most 32 of them.
pub(in crate::wire) fn token(of: &[u8], len: usize) -> String {
    const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let hash = digest(&SHA256, of);
    let letter = |byte: &u8| LETTERS.get(usize::from(byte % 62)).copied().map_or('0', char::from);
    hash.as_ref().iter().take(len).map(letter).collect()
}

/// The SHA-256 of a text in 64 hexadecimal digits.
pub(in crate::wire) fn sha256_hex(text: &str) -> String {
    HEXLOWER.encode(digest(&SHA256, text.as_bytes()).as_ref())
}

/// A tool's name as OpenAI takes it, if the name itself is not: `^[a-zA-Z0-9_-]{1,64}$`.
///
/// The hash keeps names apart that only differ in what had to go.
pub(in crate::wire) fn short_tool_name(name: &str) -> Option<String> {
    if !name.is_empty() && name.len() <= TOOL_NAME_MAX && name.bytes().all(is_word) {
        return None;
    }
    let mut short: String =
        name.chars().take(55).map(|c| if c.is_ascii() && is_word(c as u8) { c } else { '_' }).collect();
    short.push('_');
    short.extend(sha256_hex(name).chars().take(8));
    Some(short)
}

const TOOL_NAME_MAX: usize = 64;

pub(in crate::wire) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}
