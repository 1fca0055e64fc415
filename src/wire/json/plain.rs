//! Finds the end of plain text inside a string: the one search that most bytes of a request go through.

/// How many bytes at the front are neither a quote, nor a backslash, nor a control character.
///
/// Eight at a time at first, since keys and short words end soon and setting up a wider search costs as much as thirty
/// bytes; then as many as the machine compares at once.
pub(in crate::wire) fn plain_len(bytes: &[u8]) -> usize {
    let at = match near(bytes, marks, is_mark) {
        Ok(len) => return len,
        Err(at) => at,
    };
    let plain = before_quote(bytes.get(at..).unwrap_or_default());
    // A fold rather than `any`, and words rather than bytes: without early exits it is done many bytes at a time.
    let (words, tail) = plain.as_chunks::<8>();
    let marks = words.iter().fold(0, |marks, word| marks | below(u64::from_le_bytes(*word), 0x20));
    if marks != 0 || tail.iter().any(|b| *b < 0x20) {
        return at + plain.iter().position(|b| *b < 0x20).unwrap_or(plain.len());
    }
    at + plain.len()
}

/// The same where it ends soon; `None` if it does not.
pub(in crate::wire) fn near_plain_len(bytes: &[u8]) -> Option<usize> {
    near(bytes, marks, is_mark).ok()
}

/// How many bytes at the front are neither a quote nor a backslash: for whom control characters are somebody else's.
pub(in crate::wire) fn unmarked_len(bytes: &[u8]) -> usize {
    match near(bytes, quotes, is_quote) {
        Ok(len) => len,
        Err(at) => at + before_quote(bytes.get(at..).unwrap_or_default()).len(),
    }
}

/// Looks through the first bytes, eight at a time. `Ok`: a mark was found there, or the end; `Err`: how many had none.
#[inline]
fn near(bytes: &[u8], marks: impl Fn(u64) -> u64, is_mark: impl Fn(u8) -> bool) -> Result<usize, usize> {
    let mut rest = bytes;
    let mut at = 0;
    while at < NEAR {
        let Some((eight, after)) = rest.split_first_chunk::<8>() else {
            return Ok(at + rest.iter().position(|b| is_mark(*b)).unwrap_or(rest.len()));
        };
        let marked = marks(u64::from_le_bytes(*eight));
        if marked != 0 {
            return Ok(at + marked.trailing_zeros() as usize / 8);
        }
        at += 8;
        rest = after;
    }
    Err(at)
}

fn before_quote(bytes: &[u8]) -> &[u8] {
    let n = memchr::memchr2(b'"', b'\\', bytes).unwrap_or(bytes.len());
    bytes.get(..n).unwrap_or_default()
}

/// Bytes looked through eight at a time.
const NEAR: usize = 32;

fn is_mark(byte: u8) -> bool {
    byte < 0x20 || is_quote(byte)
}

/// The high bit of every byte that is a quote, a backslash or a control character. Above the lowest that is set bits may be
/// wrong, by the borrow; the lowest is right, and is all that is asked for.
fn marks(eight: u64) -> u64 {
    (less_quote(eight) | less_backslash(eight) | eight.wrapping_sub(ONES * 0x20)) & !eight & HIGH
}

fn is_quote(byte: u8) -> bool {
    byte == b'"' || byte == b'\\'
}

/// The same without control characters.
fn quotes(eight: u64) -> u64 {
    (less_quote(eight) | less_backslash(eight)) & !eight & HIGH
}

/// Below zero where there is a quote. A letter beyond ASCII is no mark, and differs from one in its high bit.
fn less_quote(eight: u64) -> u64 {
    (eight ^ (ONES * u64::from(b'"'))).wrapping_sub(ONES)
}

fn less_backslash(eight: u64) -> u64 {
    (eight ^ (ONES * u64::from(b'\\'))).wrapping_sub(ONES)
}

/// The same of every byte below `n`.
fn below(eight: u64, n: u64) -> u64 {
    eight.wrapping_sub(ONES * n) & !eight & HIGH
}

const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_every_mark_at_every_place() {
        for len in 0..150 {
            for mark in [b'"', b'\\', 0, 0x1f, b'\n'] {
                // The last are marks but for their high bit.
                for fill in [b'a', b' ', b'!', b'#', b'[', b']', 0x7f, 0x80, 0xff, 0x9f, 0xa2, 0xdc] {
                    let mut bytes = vec![fill; len];
                    assert_eq!(plain_len(&bytes), len, "none among {fill}");
                    bytes.push(mark);
                    bytes.extend([b'"', 0, fill]);
                    assert_eq!(plain_len(&bytes), len, "{mark} after {len} of {fill}");
                    let unmarked = if is_quote(mark) { len } else { len + 1 };
                    assert_eq!(unmarked_len(&bytes), unmarked, "{mark} after {len} of {fill}");
                }
            }
        }
    }
}
