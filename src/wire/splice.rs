//! Replaces a few spans of a body and leaves every other byte as it came.
//!
//! The result is [`Parts`]: slices of the original that share its memory, with the new pieces between. The body is
//! never copied, however long it is.

use bytes::Bytes;
use memchr::memmem;
use smallvec::SmallVec;

/// A piece of a body to be replaced, or, where the span is empty, something to be put in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Edit {
    /// Offset of the first byte replaced.
    pub from: usize,
    /// Offset after the last byte replaced.
    pub to: usize,
    pub with: Bytes,
}

/// A body in pieces, in order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Parts(SmallVec<[Bytes; 3]>);

impl Parts {
    /// A body in one piece.
    #[must_use]
    pub fn whole(body: Bytes) -> Self {
        let mut parts = Self::default();
        parts.push(body);
        parts
    }

    fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.0.push(piece);
        }
    }

    /// Length of all pieces in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    /// The pieces joined: without a copy if there is only one.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        match self.0.as_slice() {
            [] => Bytes::new(),
            [one] => one.clone(),
            many => many.concat().into(),
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Bytes> {
        self.0.iter()
    }
}

impl IntoIterator for Parts {
    type Item = Bytes;
    type IntoIter = smallvec::IntoIter<[Bytes; 3]>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Applies edits to a body. They are sorted here; one that overlaps an earlier one, or lies outside, is a mistake of
/// the caller's and is left out.
#[must_use]
pub fn splice(body: &Bytes, mut edits: SmallVec<[Edit; 2]>) -> Parts {
    // What is put in stands in front of what is taken out there.
    edits.sort_by_key(|e| (e.from, e.to));
    let mut parts = Parts::default();
    let mut at = 0;
    for edit in edits {
        let inside = at <= edit.from && edit.from <= edit.to && edit.to <= body.len();
        debug_assert!(inside, "edits overlap or lie outside: {edit:?}");
        if inside {
            parts.push(body.slice(at..edit.from));
            parts.push(edit.with);
            at = edit.to;
        }
    }
    parts.push(body.slice(at..));
    parts
}

/// An item of a list: where it begins and ends, and whether it goes.
pub(in crate::wire) type Item = (usize, usize, bool);

/// Takes items out of a list, unless none would be left: an edit for each, which begins where the item does, or at the comma
/// before it.
pub(in crate::wire) fn cut(items: &[Item], edits: &mut Vec<Edit>) {
    let Some(first_kept) = items.iter().position(|(_, _, goes)| !goes) else {
        return;
    };
    let without = |from, to| Edit { from, to, with: Bytes::new() };
    for (at, pair) in items.windows(2).enumerate() {
        let [one, next] = pair else { continue };
        if at < first_kept {
            edits.push(without(one.0, next.0));
        } else if next.2 {
            edits.push(without(one.1, next.1));
        }
    }
}

/// A body as text, if a word stands in it: almost none has what is to be taken out, and a search is cheaper than a scan.
pub(in crate::wire) fn text_with<'b>(body: &'b [u8], word: &str) -> Option<&'b str> {
    memmem::find(body, word.as_bytes())?;
    std::str::from_utf8(body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &'static str, edits: &[(usize, usize, &'static str)], expect: &str) {
        let edits = edits.iter().map(|&(from, to, with)| Edit { from, to, with: Bytes::from_static(with.as_bytes()) });
        let parts = splice(&Bytes::from_static(body.as_bytes()), edits.collect());
        let joined: Vec<u8> = parts.iter().flatten().copied().collect();
        assert_eq!(String::from_utf8(joined).unwrap(), expect);
        assert_eq!(parts.len(), expect.len());
    }

    #[test]
    fn replaces_inserts_and_keeps_the_rest() {
        check("abcdef", &[], "abcdef");
        check("abcdef", &[(1, 3, "XYZ")], "aXYZdef");
        check("abcdef", &[(5, 6, "!"), (0, 0, "<")], "<abcde!");
        check("abcdef", &[(2, 2, "|"), (2, 4, "")], "ab|ef");
        check("abcdef", &[(2, 4, ""), (2, 2, "|")], "ab|ef");
        check("", &[(0, 0, "x")], "x");
    }

    #[test]
    fn items_go_with_one_comma_each() {
        for (goes, expect, count) in [
            ("..", "[a, b]", 0),
            ("x.", "[b]", 1),
            (".x", "[a]", 1),
            ("xx.x.xx", "[c, e]", 5),
            (".xx.", "[a, d]", 2),
            ("xx", "[a, b]", 0),
            ("", "[]", 0),
        ] {
            let body =
                format!("[{}]", "abcdefg".chars().take(goes.len()).map(String::from).collect::<Vec<_>>().join(", "));
            let items: Vec<Item> =
                goes.chars().enumerate().map(|(at, mark)| (1 + 3 * at, 2 + 3 * at, mark == 'x')).collect();
            let mut edits = Vec::new();
            cut(&items, &mut edits);
            assert_eq!(edits.len(), count, "{goes}");
            let left = splice(&Bytes::from(body), edits.into_iter().collect()).into_bytes();
            assert_eq!(std::str::from_utf8(&left).unwrap(), expect, "{goes}");
        }
    }

    #[test]
    fn kept_pieces_share_the_bodys_memory() {
        let body = Bytes::from_static(b"abcdef");
        let parts = splice(&body, smallvec::smallvec![Edit { from: 3, to: 4, with: Bytes::new() }]);
        let first = parts.iter().next().unwrap();
        assert_eq!(first.as_ptr(), body.as_ptr());
    }
}
