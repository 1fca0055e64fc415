//! The side reader of the verbatim lane: what a frame or a reply means, without translating it.

use crate::wire::event::Usage;
use crate::wire::fault::Fault;
use crate::wire::json::{Cursor, JsonError, Kind};
use crate::wire::openai_responses::decoder::nested;
use crate::wire::openai_responses::reply::Response;
use crate::wire::sse::Frame;
use crate::wire::{Inspection, Past, Sign, head};

/// Tells what a frame is.
pub(super) fn frame(frame: &Frame, past: Past) -> Inspection {
    let Some(data) = frame.data() else {
        return Inspection::default();
    };
    // Nearly every frame, and its name stands first.
    if data.starts_with(DELTA) {
        return Inspection::of(if past == Past::Output { Sign::Quiet } else { Sign::Output }, None);
    }
    let Ok(text) = std::str::from_utf8(&data) else {
        return fault(Fault::garbage("the upstream's stream is not UTF-8"));
    };
    if matches!(text.trim(), "" | "[DONE]") {
        return Inspection::default();
    }
    event(text, frame.name())
        .unwrap_or_else(|error| fault(Fault::garbage(format!("the upstream's stream cannot be read: {error}"))))
}

const DELTA: &[u8] = br#"{"type":"response.output_text.delta""#;

fn fault(fault: Fault) -> Inspection {
    Inspection::of(Sign::Fault(fault), None)
}

fn event(text: &str, name: Option<&[u8]>) -> Result<Inspection, JsonError> {
    let mut c = Cursor::new(text);
    let (mut kind, mut response) = (None, None);
    c.object()?;
    while let Some(key) = c.key()? {
        match (key.decode().as_ref(), c.peek()?) {
            ("type", Kind::Str) => kind = Some(c.str()?.decode().into_owned()),
            ("response", Kind::Object) => {
                response = Some(c.clone());
                c.step_over()?;
            }
            _ => c.step_over()?,
        }
    }
    c.end()?;
    let named = || name.and_then(|name| std::str::from_utf8(name).ok()).map(str::to_owned);
    let kind = kind.or_else(named).unwrap_or_default();
    Ok(match kind.as_str() {
        "error" => fault(Fault::read_event(&nested(text))),
        "response.completed" | "response.incomplete" | "response.failed" => match response {
            None => fault(Fault::garbage("the upstream's stream ends without its response")),
            Some(start) => {
                let whole = start.clone().skip()?;
                let response = Response::read_end(&mut start.clone(), &kind)?;
                match response.fault(whole.as_str()) {
                    Some(broken) => fault(broken),
                    None => Inspection::of(Sign::Over, response.usage),
                }
            }
        },
        "response.output_item.done" => Inspection::of(Sign::Output, None),
        // A call has begun; a message, and thinking, have not yet said anything.
        "response.output_item.added" if text.contains("_call\"") => Inspection::of(Sign::Output, None),
        "response.output_item.added" if text.contains("\"reasoning\"") => Inspection::of(Sign::Begun, None),
        kind if kind.ends_with(".delta") => Inspection::of(Sign::Output, None),
        _ => Inspection::default(),
    })
}

/// Reads the usage of a whole reply, and nothing else of it: it is forwarded, not understood.
pub(super) fn reply(text: &str) -> Result<Usage, Fault> {
    let read = head::members(text, |_, _| {}).and_then(|()| Response::read(&mut Cursor::new(text)));
    match read {
        Err(error) => Err(Fault::garbage(format!("the upstream's reply cannot be read: {error}"))),
        // One that was asked to run on is no failure here: it is the client's to ask for again.
        Ok(response) => match response.fault(text).filter(|_| response.has_error || response.output.is_none()) {
            Some(fault) => Err(fault),
            None => Ok(response.usage.unwrap_or_default()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(data: &str, expect: &str) {
        let found = frame(&Frame::of(format!("event: x\ndata: {data}\n\n").into()), Past::Nothing);
        let sign = match found.sign {
            Sign::Quiet => "quiet",
            Sign::Begun => "begun",
            Sign::Output => "output",
            Sign::Finished => "finished",
            Sign::Over => "over",
            Sign::Fault(_) => "fault",
        };
        assert_eq!(sign, expect, "{data}");
    }

    #[test]
    fn tells_what_each_frame_is() {
        for (data, expect) in [
            (r#"{"type":"response.created","response":{"id":"r"}}"#, "quiet"),
            (r#"{"type":"keepalive"}"#, "quiet"),
            (r#"{"type":"response.output_item.added","item":{"type":"message"}}"#, "quiet"),
            (r#"{"type":"response.output_item.added","item":{"type":"reasoning","summary":[]}}"#, "begun"),
            (r#"{"type":"response.output_item.added","item":{"type":"function_call"}}"#, "output"),
            (r#"{"type":"response.output_text.delta","delta":"a"}"#, "output"),
            (r#"{"delta":"a","type":"response.reasoning_summary_text.delta"}"#, "output"),
            (r#"{"type":"response.completed","response":{"status":"completed","output":[]}}"#, "over"),
            (r#"{"type":"response.incomplete","response":{"status":"incomplete","output":[]}}"#, "over"),
            (
                r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"server_error","message":"x"}}}"#,
                "fault",
            ),
            (r#"{"type":"response.failed","response":{"output":[]}}"#, "fault"),
            (r#"{"type":"error","code":"server_error","message":"x"}"#, "fault"),
            (r#"{"type":"error","error":{"type":"server_error","message":"x"}}"#, "fault"),
            ("{", "fault"),
            ("[DONE]", "quiet"),
        ] {
            check(data, expect);
        }
    }

    #[test]
    fn a_reply_that_failed_is_none_and_one_that_runs_on_is() {
        assert!(reply(r#"{"status":"failed","error":{"code":"server_error","message":"x"},"output":[]}"#).is_err());
        assert!(reply(r#"{"error":{"message":"x"}}"#).is_err());
        assert!(reply("<html>").is_err());
        let usage =
            reply(r#"{"status":"completed","error":null,"output":[],"usage":{"input_tokens":3,"output_tokens":4}}"#);
        assert_eq!(usage.map(|u| (u.input, u.output)), Ok((Some(3), Some(4))));
        assert!(reply(r#"{"status":"queued","output":[]}"#).is_ok());
    }
}
