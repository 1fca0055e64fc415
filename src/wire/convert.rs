//! One document from one format to another: what the command line converts with, and the fuzzer too.
//!
//! It is the gateway's own translation with nothing around it. The one difference: a document whose format is asked for
//! again is read and written, where the gateway passes it on untouched.

use bytes::Bytes;

use crate::wire::caps::{Capabilities, Quirks};
use crate::wire::fault::Fault;
use crate::wire::loss::Losses;
use crate::wire::{Format, Memory, Target, head, translate};

/// What a document is, and what is known of where it goes.
#[derive(Clone, Copy, Debug)]
pub enum Document<'d> {
    /// A client's request. What a route says of its model; the model keeps its name where that is `None`.
    Request {
        model: Option<&'d str>,
        capabilities: &'d Capabilities,
        quirks: &'d Quirks,
        defaults: &'d [(Box<str>, Box<str>)],
    },
    /// An upstream's whole reply, and what is remembered of its request.
    Reply(&'d Memory),
    /// An upstream's event stream.
    Stream(&'d Memory),
}

/// What became of a document.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Converted {
    /// What is sent on: upstream for a request, to the client for the others. An error is told there in the client's
    /// format; a refused request leaves nothing to send.
    pub out: Vec<u8>,
    /// What a request lost, as `path: why`.
    pub losses: Vec<String>,
    /// Why it is no conversion after all: a request refused, as `path: why`; a reply that is an error or breaks off.
    pub refused: Option<String>,
}

/// Converts a document, whatever its bytes.
#[must_use]
pub fn convert((from, to): (Format, Format), document: Document<'_>, input: Bytes) -> Converted {
    match document {
        Document::Request { model, capabilities, quirks, defaults } => {
            let mut losses = Losses::default();
            match request((from, to), &input, (model, capabilities, quirks), &mut losses) {
                Ok(out) => {
                    let lines = losses.lines(&String::from_utf8_lossy(&input));
                    let out = translate::with_defaults(out.into(), defaults).into_bytes().into();
                    Converted { out, losses: lines, refused: None }
                }
                Err(refused) => Converted { refused: Some(refused), ..Converted::default() },
            }
        }
        Document::Reply(memory) => match reply((from, to), &input, memory) {
            Ok(out) => Converted { out, ..Converted::default() },
            Err(fault) => {
                let mut out = Vec::new();
                (to.codec().encode_fault)(&fault, "", &mut out);
                Converted { out, losses: Vec::new(), refused: Some(format!("the reply is an error: {fault}")) }
            }
        },
        Document::Stream(memory) => {
            let (out, seen) = translate::stream(from, to, [input], memory);
            let refused = seen.fault.map(|fault| format!("the stream breaks off: {fault}"));
            Converted { out, losses: Vec::new(), refused }
        }
    }
}

fn request(
    formats: (Format, Format),
    input: &[u8],
    (model, capabilities, quirks): (Option<&str>, &Capabilities, &Quirks),
    losses: &mut Losses,
) -> Result<Vec<u8>, String> {
    // The gateway's first look at a body: what it would not route is not converted either.
    let head = head::read(input).map_err(|e| format!("invalid request body: {e}"))?;
    let text = std::str::from_utf8(input)
        .map_err(|e| format!("invalid request body: not UTF-8 at byte {}", e.valid_up_to()))?;
    let target = Target { model: model.unwrap_or(&head.model), capabilities, quirks };
    let (out, _) = translate::request(formats, text, None, &target, losses).map_err(|refusal| refusal.line(text))?;
    Ok(out)
}

fn reply((from, to): (Format, Format), input: &[u8], memory: &Memory) -> Result<Vec<u8>, Fault> {
    let text = std::str::from_utf8(input).map_err(|_| Fault::garbage("the upstream's reply is not UTF-8"))?;
    translate::reply(from, to, text, memory).map(|(out, _)| out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Format::{Anthropic, OpenaiChat};

    #[track_caller]
    fn asked(input: &str) -> (String, Vec<String>, Option<String>) {
        let (capabilities, quirks) = (Capabilities::default(), Quirks::default());
        let defaults = [("top_p".into(), "0.5".into())];
        let document =
            Document::Request { model: None, capabilities: &capabilities, quirks: &quirks, defaults: &defaults };
        let got = convert((OpenaiChat, Anthropic), document, input.to_owned().into());
        (String::from_utf8(got.out).unwrap(), got.losses, got.refused)
    }

    #[test]
    fn a_request_keeps_its_models_name_and_is_given_defaults() {
        let (out, losses, refused) =
            asked(r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"logit_bias":{"1":2}}"#);
        assert!(out.starts_with(r#"{"top_p":0.5,"#) && out.contains(r#""model":"m""#), "{out}");
        assert!(losses.len() == 1 && losses[0].starts_with("logit_bias: "), "{losses:?}");
        assert_eq!(refused, None);
    }

    #[test]
    fn a_refusal_names_the_place_and_leaves_nothing() {
        let (out, _, refused) = asked(r#"{"model":"m","n":2,"messages":[{"role":"user","content":"hi"}]}"#);
        assert_eq!(out, "");
        assert!(refused.as_deref().is_some_and(|r| r.starts_with("n: ")), "{refused:?}");
        for broken in ["", "[]", r#"{"model":"m","model":"m"}"#, r#"{"messages":[]}"#] {
            let (out, _, refused) = asked(broken);
            assert!(out.is_empty() && refused.is_some_and(|r| r.starts_with("invalid request body: ")), "{broken}");
        }
    }

    #[test]
    fn an_error_is_told_in_the_clients_format() {
        let memory = Memory::default();
        let error = r#"{"error":{"message":"slow down","type":"rate_limit_error"}}"#;
        let got = convert((OpenaiChat, Anthropic), Document::Reply(&memory), error.to_owned().into());
        assert_eq!(got.refused.as_deref(), Some("the reply is an error: 429: slow down"));
        let out = String::from_utf8(got.out).unwrap();
        assert!(out.starts_with(r#"{"type":"error""#), "{out}");
        let stream = format!("data: {error}\n\n");
        let got = convert((OpenaiChat, Anthropic), Document::Stream(&memory), stream.into());
        assert_eq!(got.refused.as_deref(), Some("the stream breaks off: 429: slow down"));
        assert!(got.out.starts_with(b"event: error\n"), "{}", got.out.escape_ascii());
    }

    #[test]
    fn a_reply_nobody_named_keeps_the_upstreams_name() {
        let memory = Memory::default();
        let reply = r#"{"id":"msg_1","type":"message","role":"assistant","model":"up","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn","usage":{"input_tokens":1,"output_tokens":1}}"#;
        for to in Format::ALL {
            let got = convert((Anthropic, to), Document::Reply(&memory), reply.into());
            assert!(String::from_utf8(got.out).unwrap().contains(r#""model":"up""#), "{to}");
        }
    }
}
