//! Takes thinking out of a request: that whose seal is ours, or another vendor's under our mark, for it came from an upstream of
//! another format, is replayed by the client, and would be refused; or all that is sealed.

use crate::wire::Sealed;
use crate::wire::json::{Cursor, JsonError, Kind};
use crate::wire::prompt::ENVELOPE;
use crate::wire::splice::{Edit, Item, cut, text_with};

/// What to take out: items of the input. An input that would be left without one keeps them.
pub(super) fn unvouched(body: &[u8], sealed: Sealed) -> Vec<Edit> {
    let sign = match sealed {
        Sealed::ByUs => ENVELOPE,
        Sealed::ByAnybody => "encrypted_content",
    };
    text_with(body, sign).and_then(|text| edits(text, sealed).ok()).unwrap_or_default()
}

fn edits(body: &str, sealed: Sealed) -> Result<Vec<Edit>, JsonError> {
    let mut c = Cursor::new(body);
    let mut edits = Vec::new();
    c.object()?;
    while let Some(key) = c.key()? {
        if !key.is("input") || c.peek()? != Kind::Array {
            c.skip()?;
            continue;
        }
        let mut items: Vec<Item> = Vec::new();
        c.array()?;
        while c.item()? {
            let from = c.at();
            let goes = is_sealed(&mut c, sealed)?;
            items.push((from, c.passed(), goes));
        }
        cut(&items, &mut edits);
    }
    Ok(edits)
}

/// Takes an item, and tells whether it is thinking that is sealed so.
fn is_sealed(c: &mut Cursor<'_>, sealed: Sealed) -> Result<bool, JsonError> {
    if c.peek()? != Kind::Object {
        c.skip()?;
        return Ok(false);
    }
    let (mut is_thinking, mut is_marked) = (false, false);
    c.object()?;
    while let Some(key) = c.key()? {
        match (key.decode().as_ref(), c.peek()?) {
            ("type", Kind::Str) => is_thinking = c.str()?.is("reasoning"),
            ("encrypted_content", Kind::Str) => {
                let seal = c.str()?;
                is_marked = sealed == Sealed::ByAnybody || seal.decode().starts_with(ENVELOPE);
            }
            _ => drop(c.skip()?),
        }
    }
    Ok(is_thinking && is_marked)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::wire::head;

    #[test]
    fn only_what_we_have_marked_goes() {
        let mark = |n: u8| format!(r#"{{"type":"reasoning","summary":[],"encrypted_content":"mp1.a.{n}"}}"#);
        let (ours, theirs, word) = (
            mark(1),
            r#"{"type":"reasoning","summary":[],"encrypted_content":"gAAA"}"#,
            r#"{"role":"user","content":"mp1."}"#,
        );
        for (items, expect) in [
            (vec![ours.as_str(), word], vec![word]),
            (vec![word, &ours], vec![word]),
            (vec![word, &ours, theirs, &ours, &ours], vec![word, theirs]),
            (vec![&ours, &ours, word, &ours], vec![word]),
            (vec![&ours], vec![&ours]),
            (vec![theirs, word], vec![theirs, word]),
        ] {
            let body = |items: &[&str]| format!(r#"{{"model":"m","input":[{}],"x":1}}"#, items.join(", "));
            let text = body(&items);
            let head = head::read(text.as_bytes()).unwrap();
            let edits = unvouched(text.as_bytes(), Sealed::ByUs).into_iter().collect();
            let left = head.apply(&Bytes::from(text.clone()), edits).into_bytes();
            let left = String::from_utf8(left.to_vec()).unwrap();
            let without_space = |text: &str| text.replace(", {", ",{");
            assert_eq!(without_space(&left), without_space(&body(&expect)));
            let sealed = items.iter().filter(|item| item.contains("encrypted_content")).count();
            let all = unvouched(text.as_bytes(), Sealed::ByAnybody).len();
            assert!(all == sealed || sealed == items.len() && all == 0, "{text}");
        }
    }
}
