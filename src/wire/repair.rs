//! Puts empty results into a request for tool calls that lack one, so that an upstream that insists on them takes the
//! history (the seed's `auto_fix_tool_responses`, SEED.md 3.3). Only insertions: every byte of the client's stays.

use std::borrow::Cow;

use bytes::Bytes;

use crate::wire::json::{Cursor, JsonError, Kind};
use crate::wire::splice::Edit;

/// A message, as far as calls and results go.
#[derive(Debug, Default)]
struct Message<'a> {
    /// After its last byte.
    end: usize,
    calls: Vec<Cow<'a, str>>,
    results: Vec<Cow<'a, str>>,
    /// After the opening bracket of its content, where that is a list; and whether the list is empty.
    content: Option<(usize, bool)>,
    is_user: bool,
}

/// Chat: a `tool` message for each call, after the message that calls or the answers it has.
pub(super) fn openai_chat(body: &str) -> Vec<Edit> {
    let messages = messages(body).unwrap_or_default();
    let mut edits = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        let answers = messages.iter().skip(at + 1).take_while(|m| !m.results.is_empty());
        let last = answers.clone().last().unwrap_or(message);
        let missing = missing(message, answers);
        let said: String = missing
            .map(|id| format!(",{{\"role\":\"tool\",\"tool_call_id\":{},\"content\":\"\"}}", quoted(id)))
            .collect();
        insert(&mut edits, last.end, said);
    }
    edits
}

/// Messages: a `tool_result` block for each call, first in the user message after it, or in one of its own.
pub(super) fn anthropic(body: &str) -> Vec<Edit> {
    let messages = messages(body).unwrap_or_default();
    let mut edits = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        let next = messages.get(at + 1).filter(|m| m.is_user);
        let missing = missing(message, next.into_iter());
        let results: Vec<String> = missing
            .map(|id| format!("{{\"type\":\"tool_result\",\"tool_use_id\":{},\"content\":\"\"}}", quoted(id)))
            .collect();
        if results.is_empty() {
            continue;
        }
        let results = results.join(",");
        match next.and_then(|m| m.content) {
            Some((inside, is_empty)) => {
                let comma = if is_empty { "" } else { "," };
                insert(&mut edits, inside, format!("{results}{comma}"));
            }
            // The next message is plain text, or there is none: consecutive user messages count as one.
            None => insert(&mut edits, message.end, format!(",{{\"role\":\"user\",\"content\":[{results}]}}")),
        }
    }
    edits
}

/// Responses: an output item for each call, right after the calls or the outputs they have.
pub(super) fn openai_responses(body: &str) -> Vec<Edit> {
    let items = items(body).unwrap_or_default();
    let answered: Vec<&Cow<'_, str>> = items.iter().flat_map(|item| &item.results).collect();
    let mut edits = Vec::new();
    for item in items.iter().filter(|item| item.calls.iter().any(|id| !answered.contains(&id))) {
        let said: String = item
            .calls
            .iter()
            .map(|id| format!(",{{\"type\":\"function_call_output\",\"call_id\":{},\"output\":\"\"}}", quoted(id)))
            .collect();
        insert(&mut edits, item.end, said);
    }
    edits
}

/// The items of a request's input, as far as calls and outputs go.
fn items(body: &str) -> Result<Vec<Message<'_>>, JsonError> {
    let mut cursor = Cursor::new(body);
    let mut found = Vec::new();
    cursor.object()?;
    while let Some(key) = cursor.key()? {
        if !key.is("input") || cursor.peek()? != Kind::Array {
            cursor.skip()?;
            continue;
        }
        cursor.array()?;
        while cursor.item()? {
            let (mut kind, mut id) = (Cow::default(), None);
            cursor.object()?;
            while let Some(key) = cursor.key()? {
                match (key.decode().as_ref(), cursor.peek()?) {
                    ("type", Kind::Str) => kind = owned(&mut cursor)?,
                    ("call_id", Kind::Str) => id = Some(owned(&mut cursor)?),
                    _ => drop(cursor.skip()?),
                }
            }
            let mut item = Message { end: cursor.passed(), ..Message::default() };
            match kind.as_ref() {
                "function_call" => item.calls.extend(id),
                "function_call_output" => item.results.extend(id),
                _ => {}
            }
            found.push(item);
        }
    }
    Ok(found)
}

fn missing<'m, 'a: 'm>(
    message: &'m Message<'a>,
    answers: impl Iterator<Item = &'m Message<'a>> + Clone + 'm,
) -> impl Iterator<Item = &'m Cow<'a, str>> {
    message.calls.iter().filter(move |id| !answers.clone().any(|m| m.results.contains(id)))
}

fn insert(edits: &mut Vec<Edit>, at: usize, text: String) {
    if !text.is_empty() {
        edits.push(Edit { from: at, to: at, with: Bytes::from(text) });
    }
}

fn quoted(id: &str) -> String {
    format!("\"{}\"", crate::wire::json::JsonStr::quote(id).literal())
}

/// The messages of a request of either format: their keys do not collide.
fn messages(body: &str) -> Result<Vec<Message<'_>>, JsonError> {
    let mut cursor = Cursor::new(body);
    let mut found = Vec::new();
    cursor.object()?;
    while let Some(key) = cursor.key()? {
        if !key.is("messages") || cursor.peek()? != Kind::Array {
            cursor.skip()?;
            continue;
        }
        cursor.array()?;
        while cursor.item()? {
            found.push(message(&mut cursor)?);
        }
    }
    Ok(found)
}

fn message<'a>(cursor: &mut Cursor<'a>) -> Result<Message<'a>, JsonError> {
    let mut message = Message::default();
    cursor.object()?;
    while let Some(key) = cursor.key()? {
        let kind = cursor.peek()?;
        match (key.decode().as_ref(), kind) {
            ("role", Kind::Str) => message.is_user = cursor.str()?.is("user"),
            ("tool_call_id", Kind::Str) => message.results.push(owned(cursor)?),
            ("tool_calls", Kind::Array) => {
                cursor.array()?;
                while cursor.item()? {
                    let call = block(cursor)?;
                    message.calls.extend(call.id);
                }
            }
            ("content", Kind::Array) => {
                let inside = cursor.at() + 1;
                cursor.array()?;
                let mut is_empty = true;
                while cursor.item()? {
                    is_empty = false;
                    let block = block(cursor)?;
                    message.results.extend(block.tool_use_id);
                    message.calls.extend(block.id.filter(|_| block.is_call));
                }
                message.content = Some((inside, is_empty));
            }
            _ => drop(cursor.skip()?),
        }
    }
    message.end = cursor.passed();
    Ok(message)
}

#[derive(Debug, Default)]
struct Block<'a> {
    id: Option<Cow<'a, str>>,
    tool_use_id: Option<Cow<'a, str>>,
    is_call: bool,
}

fn block<'a>(cursor: &mut Cursor<'a>) -> Result<Block<'a>, JsonError> {
    let mut block = Block::default();
    if cursor.peek()? != Kind::Object {
        cursor.skip()?;
        return Ok(block);
    }
    cursor.object()?;
    while let Some(key) = cursor.key()? {
        match (key.decode().as_ref(), cursor.peek()?) {
            ("id", Kind::Str) => block.id = Some(owned(cursor)?),
            ("tool_use_id", Kind::Str) => block.tool_use_id = Some(owned(cursor)?),
            ("type", Kind::Str) => block.is_call = cursor.str()?.is("tool_use"),
            _ => drop(cursor.skip()?),
        }
    }
    Ok(block)
}

fn owned<'a>(cursor: &mut Cursor<'a>) -> Result<Cow<'a, str>, JsonError> {
    Ok(Cow::Owned(cursor.str()?.decode().into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::splice::splice;

    #[track_caller]
    fn check(repair: fn(&str) -> Vec<Edit>, body: &str, expect: &str) {
        let bytes = Bytes::copy_from_slice(body.as_bytes());
        let repaired = splice(&bytes, repair(body).into_iter().collect()).into_bytes();
        assert_eq!(std::str::from_utf8(&repaired).unwrap(), expect);
        assert!(repair(expect).is_empty(), "nothing is missing any more");
    }

    #[test]
    fn chat_calls_without_a_result_get_an_empty_one() {
        check(
            openai_chat,
            r#"{"messages":[{"role":"assistant","tool_calls":[{"id":"a"},{"id":"b"}]} ,{"role":"tool","tool_call_id":"b","content":"x"}, {"role":"user","content":"go"}]}"#,
            r#"{"messages":[{"role":"assistant","tool_calls":[{"id":"a"},{"id":"b"}]} ,{"role":"tool","tool_call_id":"b","content":"x"},{"role":"tool","tool_call_id":"a","content":""}, {"role":"user","content":"go"}]}"#,
        );
        check(
            openai_chat,
            r#"{"messages":[{"role":"user","content":[{"type":"text"}]}]}"#,
            r#"{"messages":[{"role":"user","content":[{"type":"text"}]}]}"#,
        );
    }

    #[test]
    fn anthropic_calls_without_a_result_get_an_empty_one_first() {
        let call = r#"{"role":"assistant","content":[{"type":"tool_use","id":"a","input":{"id":"no"}}]}"#;
        let result = r#"{"type":"tool_result","tool_use_id":"a","content":""}"#;
        for (before, after) in [
            (
                format!(r#"{{"messages":[{call},{{"role":"user","content":[{{"type":"text","text":"t"}}]}}]}}"#),
                format!(
                    r#"{{"messages":[{call},{{"role":"user","content":[{result},{{"type":"text","text":"t"}}]}}]}}"#
                ),
            ),
            (
                format!(r#"{{"messages":[{call},{{"role":"user","content":"t"}}]}}"#),
                format!(
                    r#"{{"messages":[{call},{{"role":"user","content":[{result}]}},{{"role":"user","content":"t"}}]}}"#
                ),
            ),
            (
                format!(r#"{{"messages":[{call}]}}"#),
                format!(r#"{{"messages":[{call},{{"role":"user","content":[{result}]}}]}}"#),
            ),
        ] {
            check(anthropic, &before, &after);
        }
    }

    #[test]
    fn what_cannot_be_read_is_left_alone() {
        for body in ["", "{", "[]", r#"{"messages":[1]}"#, r#"{"messages":"x"}"#] {
            assert!(openai_chat(body).is_empty() && anthropic(body).is_empty(), "{body}");
        }
    }
}
