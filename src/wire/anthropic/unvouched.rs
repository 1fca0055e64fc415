//! Takes out of a request that passes untouched the thinking that we signed ourselves. It came from an upstream of
//! another format, is replayed by the client, and would be refused by Anthropic, this turn and every turn after it.

use bytes::Bytes;
use memchr::memmem;

use super::names::ENVELOPE;
use crate::wire::json::{Cursor, JsonError, Kind};
use crate::wire::splice::Edit;

/// The blocks to take out. A message that holds nothing else keeps them: it may not become empty.
pub(super) fn unvouched(body: &[u8]) -> Vec<Edit> {
    // Almost no request has one; a search is cheaper than a scan.
    match memmem::find(body, ENVELOPE.as_bytes()).map(|_| std::str::from_utf8(body)) {
        Some(Ok(text)) => edits(text).unwrap_or_default(),
        Some(Err(_)) | None => Vec::new(),
    }
}

fn edits(body: &str) -> Result<Vec<Edit>, JsonError> {
    let mut cursor = Cursor::new(body);
    let mut edits = Vec::new();
    cursor.object()?;
    while let Some(key) = cursor.key()? {
        if !key.is("messages") || cursor.peek()? != Kind::Array {
            cursor.skip()?;
            continue;
        }
        cursor.array()?;
        while cursor.item()? {
            message(&mut cursor, &mut edits)?;
        }
    }
    Ok(edits)
}

fn message(cursor: &mut Cursor<'_>, edits: &mut Vec<Edit>) -> Result<(), JsonError> {
    if cursor.peek()? != Kind::Object {
        return cursor.skip().map(drop);
    }
    cursor.object()?;
    while let Some(key) = cursor.key()? {
        if !key.is("content") || cursor.peek()? != Kind::Array {
            cursor.skip()?;
            continue;
        }
        // Where each block begins and ends, and whether it is ours.
        let mut blocks: Vec<(usize, usize, bool)> = Vec::new();
        cursor.array()?;
        while cursor.item()? {
            let from = cursor.at();
            let ours = is_ours(cursor)?;
            blocks.push((from, cursor.passed(), ours));
        }
        if blocks.iter().all(|(_, _, ours)| *ours) {
            continue;
        }
        // Up to the next block; one with nothing kept after it goes from the end of the last that is kept.
        let last = blocks.iter().rposition(|(_, _, ours)| !ours).unwrap_or_default();
        for (block, next) in blocks.iter().zip(blocks.iter().skip(1)).take(last).filter(|(b, _)| b.2) {
            edits.push(Edit { from: block.0, to: next.0, with: Bytes::new() });
        }
        if let (Some(kept), Some(end)) = (blocks.get(last), blocks.last().filter(|b| b.2)) {
            edits.push(Edit { from: kept.1, to: end.1, with: Bytes::new() });
        }
    }
    Ok(())
}

/// Takes a block, and tells whether it is thinking that we signed.
fn is_ours(cursor: &mut Cursor<'_>) -> Result<bool, JsonError> {
    if cursor.peek()? != Kind::Object {
        cursor.skip()?;
        return Ok(false);
    }
    let (mut thinking, mut signed) = (false, false);
    cursor.object()?;
    while let Some(key) = cursor.key()? {
        match (key.decode().as_ref(), cursor.peek()?) {
            ("type", Kind::Str) => thinking = cursor.str()?.is("thinking"),
            ("signature", Kind::Str) => signed = cursor.str()?.decode().starts_with(ENVELOPE),
            _ => drop(cursor.skip()?),
        }
    }
    Ok(thinking && signed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::splice::splice;

    const OURS: &str = r#"{"type":"thinking","thinking":"t","signature":"mp1.abc"}"#;
    const THEIRS: &str = r#"{"type":"thinking","thinking":"t","signature":"EqMB"}"#;
    const TEXT: &str = r#"{"type":"text","text":"mp1."}"#;

    #[track_caller]
    fn check(content: &[&str], expect: &[&str]) {
        let body = |blocks: &[&str]| {
            let blocks = blocks.join(" , ");
            format!(
                r#"{{"messages":[{{"role":"user","content":"mp1."}},1,{{"role":"assistant","content":[ {blocks} ]}}],"x":1}}"#
            )
        };
        let before = body(content);
        let after =
            splice(&Bytes::from(before.clone()), unvouched(before.as_bytes()).into_iter().collect()).into_bytes();
        assert_eq!(std::str::from_utf8(&after).unwrap(), body(expect));
    }

    #[test]
    fn thinking_that_we_signed_goes_and_all_else_stays() {
        check(&[OURS, TEXT], &[TEXT]);
        check(&[TEXT, OURS], &[TEXT]);
        check(&[OURS, OURS, TEXT, OURS, THEIRS, OURS, OURS], &[TEXT, THEIRS]);
        check(&[THEIRS, TEXT], &[THEIRS, TEXT]);
        check(&[OURS], &[OURS]);
    }

    #[test]
    fn what_cannot_be_read_is_left_alone() {
        for body in ["mp1.", r#"{"messages":"mp1."}"#, r#"{"messages":[{"content":["mp1."#] {
            assert!(unvouched(body.as_bytes()).is_empty(), "{body}");
        }
    }
}
