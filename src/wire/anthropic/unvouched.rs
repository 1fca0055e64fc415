//! Takes thinking out of a request: that which we signed ourselves, for it came from an upstream of another format, is replayed
//! by the client, and would be refused by Anthropic, this turn and every turn after it; or all of it.

use bytes::Bytes;

use super::kind_of;
use super::names::ENVELOPE;
use crate::wire::Sealed;
use crate::wire::json::{Cursor, JsonError, Kind};
use crate::wire::splice::{Edit, Item, cut, text_with};

/// What to take out: blocks, and messages that hold nothing else. A conversation that would be left without a message
/// keeps them.
///
/// Models that think by budget refuse a call whose thinking is gone, so where that was ours, thinking is turned off for
/// this request.
pub(super) fn unvouched(body: &[u8], sealed: Sealed) -> Vec<Edit> {
    let sign = match sealed {
        Sealed::ByUs => ENVELOPE,
        Sealed::ByAnybody => "thinking",
    };
    text_with(body, sign).and_then(|text| edits(text, sealed).ok()).unwrap_or_default()
}

fn edits(body: &str, sealed: Sealed) -> Result<Vec<Edit>, JsonError> {
    let mut cursor = Cursor::new(body);
    let mut edits = Vec::new();
    let mut budget = None;
    let mut bare = false;
    let mut clearing = Vec::new();
    cursor.object()?;
    while let Some(key) = cursor.key()? {
        match (key.decode().as_ref(), cursor.peek()?) {
            ("messages", Kind::Array) => bare = messages(&mut cursor, sealed, &mut edits)?,
            ("thinking", Kind::Object) => {
                let enabled = kind_of(&cursor)?.is_some_and(|kind| kind.is("enabled"));
                let from = cursor.at();
                cursor.skip()?;
                budget = enabled.then(|| Edit { from, to: cursor.passed(), with: Bytes::from_static(OFF) });
            }
            ("context_management", Kind::Object) => context(&mut cursor, &mut clearing)?,
            _ => drop(cursor.skip()?),
        }
    }
    if let Some(off) = budget.filter(|_| bare) {
        edits.push(off);
        edits.extend(clearing);
    }
    Ok(edits)
}

/// Finds what clears thinking, which is refused where there is none.
fn context(cursor: &mut Cursor<'_>, edits: &mut Vec<Edit>) -> Result<(), JsonError> {
    cursor.object()?;
    while let Some(key) = cursor.key()? {
        if !key.is("edits") || cursor.peek()? != Kind::Array {
            cursor.skip()?;
            continue;
        }
        let begin = cursor.at();
        let mut items: Vec<Item> = Vec::new();
        cursor.array()?;
        while cursor.item()? {
            let kind = if cursor.peek()? == Kind::Object { kind_of(cursor)? } else { None }.unwrap_or_default();
            let from = cursor.at();
            cursor.skip()?;
            items.push((from, cursor.passed(), kind.decode().starts_with("clear_thinking")));
        }
        if items.iter().all(|(_, _, goes)| *goes) && !items.is_empty() {
            edits.push(Edit { from: begin, to: cursor.passed(), with: Bytes::from_static(b"[]") });
        } else {
            cut(&items, edits);
        }
    }
    Ok(())
}

const OFF: &[u8] = br#"{"type":"disabled"}"#;

/// Takes the messages; whether the last answer is left with a call and without the thinking before it.
fn messages(cursor: &mut Cursor<'_>, sealed: Sealed, edits: &mut Vec<Edit>) -> Result<bool, JsonError> {
    let mut items: Vec<Item> = Vec::new();
    let mut bare = false;
    cursor.array()?;
    while cursor.item()? {
        let from = cursor.at();
        let message = Message::read(cursor, sealed)?;
        let gone = !message.blocks.is_empty() && message.blocks.iter().all(|(_, _, ours)| *ours);
        items.push((from, cursor.passed(), gone));
        if message.is_answer && !gone {
            bare = message.calls && !message.thinks && message.blocks.iter().any(|(_, _, ours)| *ours);
        }
        if !gone {
            cut(&message.blocks, edits);
        }
    }
    cut(&items, edits);
    Ok(bare)
}

#[derive(Default)]
struct Message {
    /// The assistant's.
    is_answer: bool,
    blocks: Vec<Item>,
    calls: bool,
    /// There is thinking that Anthropic vouches for.
    thinks: bool,
}

impl Message {
    fn read(cursor: &mut Cursor<'_>, sealed: Sealed) -> Result<Self, JsonError> {
        let mut message = Self::default();
        if cursor.peek()? != Kind::Object {
            cursor.skip()?;
            return Ok(message);
        }
        cursor.object()?;
        while let Some(key) = cursor.key()? {
            match (key.decode().as_ref(), cursor.peek()?) {
                ("role", Kind::Str) => message.is_answer = cursor.str()?.is("assistant"),
                ("content", Kind::Array) => {
                    cursor.array()?;
                    while cursor.item()? {
                        message.block(cursor, sealed)?;
                    }
                }
                _ => drop(cursor.skip()?),
            }
        }
        Ok(message)
    }

    fn block(&mut self, cursor: &mut Cursor<'_>, sealed: Sealed) -> Result<(), JsonError> {
        let kind = if cursor.peek()? == Kind::Object { kind_of(cursor)? } else { None }.unwrap_or_default();
        let from = cursor.at();
        let is_thinking = kind.is("thinking") || kind.is("redacted_thinking");
        let ours = is_ours(cursor)?;
        let goes = ours || is_thinking && sealed == Sealed::ByAnybody;
        self.blocks.push((from, cursor.passed(), goes));
        self.calls |= kind.is("tool_use");
        self.thinks |= !goes && is_thinking;
        Ok(())
    }
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
            splice(&Bytes::from(before.clone()), unvouched(before.as_bytes(), Sealed::ByUs).into_iter().collect())
                .into_bytes();
        assert_eq!(std::str::from_utf8(&after).unwrap(), body(expect));
    }

    #[test]
    fn thinking_that_we_signed_goes_and_all_else_stays() {
        check(&[OURS, TEXT], &[TEXT]);
        check(&[TEXT, OURS], &[TEXT]);
        check(&[OURS, OURS, TEXT, OURS, THEIRS, OURS, OURS], &[TEXT, THEIRS]);
        check(&[THEIRS, TEXT], &[THEIRS, TEXT]);
    }

    #[test]
    fn what_clears_thinking_goes_with_it() {
        let body = |thinking: &str, edits: &str| {
            format!(
                r#"{{"context_management":{{"edits":{edits}}},"thinking":{thinking},"messages":[{{"role":"assistant","content":[{}{{"type":"tool_use","id":"t","name":"f","input":{{}}}}]}}]}}"#,
                if thinking.contains("enabled") { format!("{OURS},") } else { String::new() }
            )
        };
        let clears = r#"{"type":"clear_thinking_20251015","keep":"all"}"#;
        let other = r#"{"type":"clear_tool_uses_20250919"}"#;
        let (on, off) = (r#"{"type":"enabled","budget_tokens":2000}"#, r#"{"type":"disabled"}"#);
        check_body(&body(on, &format!("[{clears}]")), &body(off, "[]"));
        check_body(&body(on, &format!("[{clears},{other}]")), &body(off, &format!("[{other}]")));
        check_body(&body(on, &format!("[{other}]")), &body(off, &format!("[{other}]")));
    }

    #[test]
    fn all_thinking_goes_where_no_seal_is_known() {
        let body = |blocks: &[&str]| {
            format!(r#"{{"messages":[{{"role":"assistant","content":[{}]}}],"x":1}}"#, blocks.join(","))
        };
        let before = body(&[THEIRS, r#"{"type":"redacted_thinking","data":"E"}"#, TEXT, OURS]);
        let edits = unvouched(before.as_bytes(), Sealed::ByAnybody).into_iter().collect();
        let after = splice(&Bytes::from(before), edits).into_bytes();
        assert_eq!(std::str::from_utf8(&after).unwrap(), body(&[TEXT]));
    }

    #[track_caller]
    fn check_body(before: &str, after: &str) {
        let edits = unvouched(before.as_bytes(), Sealed::ByUs).into_iter().collect();
        let got = splice(&Bytes::copy_from_slice(before.as_bytes()), edits).into_bytes();
        assert_eq!(std::str::from_utf8(&got).unwrap(), after);
    }

    #[test]
    fn a_message_of_nothing_else_goes_with_it() {
        let only = format!(r#"{{"role":"assistant","content":[{OURS}]}}"#);
        let (hi, ho) = (r#"{"role":"user","content":"hi"}"#, r#"{"role":"user","content":"ho"}"#);
        let body = |messages: &[&str]| format!(r#"{{"messages":[{}]}}"#, messages.join(" , "));
        check_body(&body(&[hi, &only, ho]), &body(&[hi, ho]));
        check_body(&body(&[hi, &only]), &body(&[hi]));
        check_body(&body(&[&only]), &body(&[&only]));
    }

    // covers 5.4/ours
    #[test]
    fn a_budget_is_taken_back_where_a_call_lost_its_thinking() {
        const CALL: &str = r#"{"type":"tool_use","id":"a","name":"f","input":{}}"#;
        let body = |thinking: &str, blocks: &[&str]| {
            let blocks = blocks.join(",");
            format!(r#"{{"thinking":{thinking},"messages":[{{"content":[{blocks}],"role":"assistant"}}]}}"#)
        };
        let (on, off) = (r#"{"budget_tokens":1024,"type":"enabled"}"#, r#"{"type":"disabled"}"#);
        check_body(&body(on, &[OURS, CALL]), &body(off, &[CALL]));
        check_body(&body(on, &[OURS, TEXT]), &body(on, &[TEXT]));
        check_body(&body(on, &[OURS, THEIRS, CALL]), &body(on, &[THEIRS, CALL]));
        let adaptive = r#"{"type":"adaptive"}"#;
        check_body(&body(adaptive, &[OURS, CALL]), &body(adaptive, &[CALL]));
    }

    #[test]
    fn what_cannot_be_read_is_left_alone() {
        for body in ["mp1.", r#"{"messages":"mp1."}"#, r#"{"messages":[{"content":["mp1."#] {
            assert!(unvouched(body.as_bytes(), Sealed::ByUs).is_empty(), "{body}");
        }
    }
}
