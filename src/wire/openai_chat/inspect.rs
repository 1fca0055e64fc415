//! The side reader of the verbatim lane: what a frame or a reply means, without translating it.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::wire::event::{Delta, Event, Open, Usage};
use crate::wire::fault::Fault;
use crate::wire::head;
use crate::wire::json::{Cursor, JsonError};
use crate::wire::openai_chat::answer::Answer;
use crate::wire::openai_chat::body::{self, Body, Choice};
use crate::wire::openai_chat::usage;
use crate::wire::sse::Frame;
use crate::wire::{Inspection, Past, Sign};

/// Tells what a frame is.
pub(super) fn frame(frame: &Frame, past: Past) -> Inspection {
    let Some(data) = frame.data() else {
        return Inspection::default();
    };
    if is_only_delta(&data) {
        if past == Past::Output {
            return Inspection::default();
        }
        if MARKS.content.after(&data).is_some_and(|v| v.first() == Some(&b'"') && v.get(1).is_some_and(|b| *b != b'"'))
        {
            return Inspection::of(Sign::Output, None);
        }
    }
    let Ok(text) = std::str::from_utf8(&data) else {
        return fault(Fault::garbage("the upstream's stream is not UTF-8"));
    };
    match text.trim() {
        "" => Inspection::default(),
        "[DONE]" => Inspection::of(Sign::Over, None),
        text => chunk(text)
            .unwrap_or_else(|error| fault(Fault::garbage(format!("the upstream's stream cannot be read: {error}")))),
    }
}

/// Reads the usage of a whole reply, and nothing else of it: it is forwarded, not understood.
pub(super) fn reply(text: &str) -> Result<Usage, Fault> {
    // Nearly every reply: no word of an error, and its usage at the end.
    if MARKS.error.0.find(text.as_bytes()).is_none()
        && text.trim_ascii_start().starts_with('{')
        && let Some(counts) = head::last_member(text, &MARKS.usage.0, usage::read)
    {
        return Ok(counts.unwrap_or_default());
    }
    let (mut counts, mut is_error, mut has_choices) = (None, false, false);
    let read = head::members(text, |key, value| match key {
        "usage" => counts = Some(value),
        "choices" => has_choices |= value != "null",
        "error" => is_error |= !matches!(value, "null" | "\"\"" | "{}" | "false"),
        "object" => is_error |= value == "\"error\"",
        _ => {}
    });
    if is_error && !has_choices {
        return Err(Fault::read_event(text));
    }
    let counted = read.and_then(|()| counts.map_or(Ok(None), |counts| usage::read(&mut Cursor::new(counts))));
    counted
        .map(Option::unwrap_or_default)
        .map_err(|error| Fault::garbage(format!("the upstream's reply cannot be read: {error}")))
}

/// Whether a chunk certainly is a delta of some kind and nothing else, told without parsing it.
///
/// A key cannot hide inside a text, where its quotes would be escaped; a chunk that might spell a key with escapes takes
/// the long way.
fn is_only_delta(data: &[u8]) -> bool {
    data.first() == Some(&b'{')
        && MARKS.unicode.find(data).is_none()
        && [&MARKS.finish, &MARKS.usage, &MARKS.error]
            .iter()
            .all(|key| key.after(data).is_none_or(|value| value.starts_with(b"null") && key.after(value).is_none()))
}

/// What chunks are searched for. Made once: making a searcher costs more than a search.
struct Marks {
    content: Mark,
    finish: Mark,
    usage: Mark,
    error: Mark,
    unicode: Finder<'static>,
}

static MARKS: LazyLock<Marks> = LazyLock::new(|| Marks {
    content: Mark::new("\"content\""),
    finish: Mark::new("\"finish_reason\""),
    usage: Mark::new("\"usage\""),
    error: Mark::new("\"error\""),
    unicode: Finder::new("\\u"),
});

/// A key in its quotes.
struct Mark(Finder<'static>);

impl Mark {
    fn new(key: &'static str) -> Self {
        Self(Finder::new(key))
    }

    /// What stands after the key and its colon.
    fn after<'d>(&self, data: &'d [u8]) -> Option<&'d [u8]> {
        let at = self.0.find(data)?;
        let rest = data.get(at + self.0.needle().len()..)?.trim_ascii_start();
        Some(rest.strip_prefix(b":").unwrap_or(rest).trim_ascii_start())
    }
}

fn fault(fault: Fault) -> Inspection {
    Inspection::of(Sign::Fault(fault), None)
}

fn chunk(text: &str) -> Result<Inspection, JsonError> {
    let body = Body::read(text)?;
    if body.is_error {
        return Ok(fault(Fault::read_event(text)));
    }
    let (mut sign, mut finished) = (Sign::Quiet, 0_u128);
    if let Some(mut choices) = body.choices {
        choices.array()?;
        while choices.item()? {
            let choice = Choice::read(&mut choices)?;
            if let Some(broken) = choice.fault() {
                return Ok(fault(broken));
            }
            if choice.finish.as_ref().is_some_and(|finish| !finish.is_empty()) {
                sign = Sign::Finished;
                finished |= u32::try_from(choice.index).ok().and_then(|at| 1_u128.checked_shl(at)).unwrap_or(0);
            } else if matches!(sign, Sign::Quiet) && has_output(choice)? {
                sign = Sign::Output;
            }
        }
    }
    Ok(Inspection { sign, finished, usage: body.usage })
}

/// Whether a delta shows its reader something: asked of the very code that translates it.
fn has_output(choice: Choice<'_>) -> Result<bool, JsonError> {
    let mut output = false;
    let mut look = |event: Event<'_>| {
        output |= match event {
            Event::Delta(Delta::Text(_) | Delta::Thinking(_) | Delta::Signature(_) | Delta::Args(_)) => true,
            Event::Delta(Delta::Citation(_) | Delta::Foreign(_)) => true,
            Event::Open(Open::ToolUse { .. } | Open::RedactedThinking { .. } | Open::Foreign { .. }) => true,
            Event::Open(Open::Text | Open::Refusal | Open::Thinking) => false,
            Event::Start { .. } | Event::Close | Event::Usage(_) | Event::Stop(_) => false,
            Event::End | Event::Fault(_) | Event::Ping => false,
        }
    };
    let mut answer = Answer::default();
    if let Some(delta) = choice.delta.or(choice.message) {
        body::message(delta, &mut answer, &mut look)?;
    }
    // A call's fragment that is held back is shown to this client, who orders calls itself.
    Ok(output || !answer.is_blank())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(data: &str, expect: &str, usage: Option<u64>) {
        for raw in [format!("data: {data}\n\n"), format!("data:{data}\r\n\r\n")] {
            let found = frame(&Frame::of(raw.into()), Past::Nothing);
            let sign = match found.sign {
                Sign::Quiet => "quiet",
                Sign::Begun => "begun",
                Sign::Output => "output",
                Sign::Finished => "finished",
                Sign::Over => "over",
                Sign::Fault(_) => "fault",
            };
            assert_eq!((sign, found.usage.and_then(|u| u.output)), (expect, usage), "{data}");
        }
    }

    #[test]
    fn past_the_first_output_only_what_ends_or_counts_is_told() {
        for (data, expect) in [
            (r#"{"choices":[{"delta":{"content":"a\n"},"finish_reason":null}],"usage":null}"#, "quiet"),
            (r#"{"choices":[{"delta":{},"finish_reason":null},{"delta":{},"finish_reason":"stop"}]}"#, "finished"),
            (r#"{"choices":[{"delta":{},"finish_reas\u006fn":"stop"}]}"#, "finished"),
            (r#"{"error":{"message":"m"}}"#, "fault"),
            ("[DONE]", "over"),
        ] {
            let found = frame(&Frame::of(format!("data: {data}\n\n").into()), Past::Output);
            let is_as_told = match expect {
                "quiet" => matches!(found.sign, Sign::Quiet),
                "finished" => matches!(found.sign, Sign::Finished),
                "fault" => matches!(found.sign, Sign::Fault(_)),
                _ => matches!(found.sign, Sign::Over),
            };
            assert!(is_as_told, "{data}: {found:?}");
        }
    }

    #[test]
    fn tells_what_each_frame_is() {
        let choice = |delta: &str, finish: &str| {
            format!(r#"{{"id":"c","choices":[{{"index":0,"delta":{delta},"finish_reason":{finish}}}]}}"#)
        };
        check(&choice(r#"{"role":"assistant","content":""}"#, "null"), "quiet", None);
        check(&choice(r#"{"content":"a"}"#, "null"), "output", None);
        check(&choice(r#"{"content": "say \"usage\""}"#, "null"), "output", None);
        check(&choice(r#"{"content":"","reasoning":"hm"}"#, "null"), "output", None);
        check(&choice(r#"{"reasoning_content":"hm"}"#, "null"), "output", None);
        check(&choice(r#"{"tool_calls":[{"index":0,"function":{"arguments":"{"}}]}"#, "null"), "output", None);
        check(&choice(r#"{"content":[{"type":"text","text":"a"}]}"#, "null"), "output", None);
        check(&choice("{}", r#""stop""#), "finished", None);
        check(&choice(r#"{"content":"a"}"#, r#""stop""#), "finished", None);
        check("[DONE]", "over", None);
        check("", "quiet", None);
        check(r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":7}}"#, "quiet", Some(7));
        check(
            r#"{"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":1,"completion_tokens":7}}"#,
            "output",
            Some(7),
        );
        check(r#"{"error":{"message":"m"},"choices":[{"delta":{"content":"a"}}]}"#, "fault", None);
        check(r#"{"error":null,"choices":[{"delta":{"content":"a"}}]}"#, "output", None);
        check("{", "fault", None);
    }

    #[test]
    fn a_comment_is_quiet() {
        assert!(matches!(frame(&Frame::of(": OPENROUTER PROCESSING\n\n".into()), Past::Nothing).sign, Sign::Quiet));
    }

    #[test]
    fn ec94_an_error_under_a_200_is_an_error() {
        assert!(reply(r#"{"error":{"message":"filtered","code":"content_filter"}}"#).is_err());
        assert!(reply("<html>").is_err());
        let usage = reply(r#"  {"choices":[{}],"usage":{"prompt_tokens":3,"completion_tokens":4},"error":null}"#);
        assert_eq!(usage.map(|u| (u.input, u.output)), Ok((Some(3), Some(4))));
    }
}
