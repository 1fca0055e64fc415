//! Finds the end of plain text inside a string: the one search that most bytes of a request go through.

/// How many bytes at the front are neither a quote, nor a backslash, nor a control character.
///
/// Eight at a time at first, since keys and short words end soon and setting up a wider search costs as much as fifty
/// bytes; then as many as the machine compares at once.
pub(in crate::wire) fn plain_len(bytes: &[u8]) -> usize {
    let mut at = 0;
    while at < NEAR {
        let eight = bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
        let Some(eight) = eight else {
            let rest = bytes.get(at..).unwrap_or_default();
            return at + rest.iter().position(|b| is_mark(*b)).unwrap_or(rest.len());
        };
        let marked = marks(eight);
        if marked != 0 {
            return at + marked.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    let n = memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
    let plain = rest.get(..n).unwrap_or_default();
    // A fold rather than `any`: without the early exit it is done many bytes at a time.
    if plain.iter().fold(false, |bad, b| bad | (*b < 0x20)) {
        return at + plain.iter().position(|b| *b < 0x20).unwrap_or(n);
    }
    at + n
}

/// Bytes looked through eight at a time.
const NEAR: usize = 64;

fn is_mark(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// The high bit of every byte that is a mark. Above the lowest that is set bits may be wrong, by the borrow; the lowest
/// is right, and is all that is asked for.
fn marks(eight: u64) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    let below = |x: u64, n: u64| x.wrapping_sub(ONES * n) & !x & HIGH;
    let equal = |byte: u8| below(eight ^ (ONES * u64::from(byte)), 1);
    equal(b'"') | equal(b'\\') | below(eight, 0x20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_every_mark_at_every_place() {
        for len in 0..150 {
            for mark in [b'"', b'\\', 0, 0x1f, b'\n'] {
                for fill in [b'a', b' ', b'!', b'#', b'[', b']', 0x7f, 0x80, 0xa2, 0xff] {
                    let mut bytes = vec![fill; len];
                    assert_eq!(plain_len(&bytes), len, "none among {fill}");
                    bytes.push(mark);
                    bytes.extend([b'"', 0, fill]);
                    assert_eq!(plain_len(&bytes), len, "{mark} after {len} of {fill}");
                }
            }
        }
    }
}
