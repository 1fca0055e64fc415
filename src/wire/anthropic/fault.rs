//! Writes errors as Anthropic's clients know them (CONVERSION 9.2, 9.3).

use crate::wire::anthropic::fields::THREAD;
use crate::wire::fault::{Fault, FaultKind, prompt_too_long};
use crate::wire::json::Writer;

/// The status a client is given. The kind decides; a status of the same family is kept.
pub(super) fn status(fault: &Fault) -> u16 {
    let keep = |fits: bool, otherwise: u16| if fits { fault.status } else { otherwise };
    match fault.kind {
        FaultKind::InvalidRequest => keep((400..500).contains(&fault.status), 400),
        FaultKind::ContextLength | FaultKind::ForeignThinking => 400,
        FaultKind::Authentication => 401,
        FaultKind::Billing => 402,
        FaultKind::Permission => 403,
        FaultKind::NotFound | FaultKind::ModelNotFound => 404,
        FaultKind::TooLarge => 413,
        FaultKind::RateLimit | FaultKind::Quota => 429,
        FaultKind::Timeout => keep(fault.status == 408, 504),
        FaultKind::Overloaded => 529,
        FaultKind::Unavailable => keep(fault.status == 502, 503),
        FaultKind::Server => keep((500..600).contains(&fault.status), 500),
    }
}

/// Anthropic's word for a kind of trouble. Another vendor's words never stand here.
fn word(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::InvalidRequest | FaultKind::ContextLength | FaultKind::ForeignThinking => "invalid_request_error",
        FaultKind::Authentication => "authentication_error",
        FaultKind::Billing => "billing_error",
        FaultKind::Permission => "permission_error",
        FaultKind::NotFound | FaultKind::ModelNotFound => "not_found_error",
        FaultKind::TooLarge => "request_too_large",
        FaultKind::RateLimit | FaultKind::Quota => "rate_limit_error",
        FaultKind::Timeout => "timeout_error",
        FaultKind::Overloaded => "overloaded_error",
        FaultKind::Unavailable | FaultKind::Server => "api_error",
    }
}

pub(super) fn encode(fault: &Fault, request_id: &str, out: &mut Vec<u8>) {
    let mut w = Writer::new(out);
    w.object().key("type").word("error");
    error(fault, &mut w);
    if !request_id.is_empty() {
        w.key("request_id").str(request_id);
    }
    w.end_object();
}

/// Writes the event that ends a stream. Neither `message_delta` nor `message_stop` may follow.
pub(super) fn encode_event(fault: &Fault, out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: error\ndata: ");
    encode(fault, "", out);
    out.extend_from_slice(b"\n\n");
}

fn error(fault: &Fault, w: &mut Writer<'_>) {
    w.key("error").object().key("type").str(word(fault.kind)).key("message");
    match (fault.kind, &fault.param) {
        // Claude Code looks for these words to know that it must compact.
        (FaultKind::ContextLength, _) => w.str(&prompt_too_long(&fault.message)),
        // There is no field for the place, so it leads the message, as in Anthropic's own.
        (FaultKind::InvalidRequest, Some(place)) if !place.is_empty() && !fault.message.starts_with(place.as_str()) => {
            w.str(&format!("{place}: {}", fault.message))
        }
        _ => w.str(&fault.message),
    };
    // The SDKs' tool runners look for these words to go on without a thread.
    if fault.kind == FaultKind::InvalidRequest && fault.param.as_deref() == Some(THREAD) {
        w.key("details").object().key("error_code").word("thread_unsupported_request");
        w.key("unsupported").array().str(THREAD).end_array().end_object();
    }
    w.end_object();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(fault: &Fault, expect: (u16, &str)) {
        let mut out = Vec::new();
        encode(fault, "req_1", &mut out);
        let error = expect.1;
        let body = format!("{{\"type\":\"error\",\"error\":{error},\"request_id\":\"req_1\"}}");
        assert_eq!((status(fault), String::from_utf8(out).unwrap()), (expect.0, body));
    }

    #[test]
    fn says_every_kind_in_anthropics_words() {
        let kinds = [
            (400, "invalid_request_error"),
            (401, "authentication_error"),
            (402, "billing_error"),
            (403, "permission_error"),
            (404, "not_found_error"),
            (408, "timeout_error"),
            (409, "invalid_request_error"),
            (413, "request_too_large"),
            (422, "invalid_request_error"),
            (429, "rate_limit_error"),
            (500, "api_error"),
            (502, "api_error"),
            (503, "api_error"),
            (504, "timeout_error"),
            (529, "overloaded_error"),
        ];
        for (status, word) in kinds {
            let fault = Fault::new(status, FaultKind::of_status(status), "m");
            check(&fault, (status, &format!("{{\"type\":\"{word}\",\"message\":\"m\"}}")));
        }
    }

    #[test]
    fn a_refused_thread_is_said_so_that_sdks_go_on_without() {
        let expect = concat!(
            r#"{"type":"invalid_request_error","message":"thread: m","#,
            r#""details":{"error_code":"thread_unsupported_request","unsupported":["thread"]}}"#
        );
        check(&Fault::invalid("m").param("thread"), (400, expect));
        check(
            &Fault::invalid("m").param("threads"),
            (400, r#"{"type":"invalid_request_error","message":"threads: m"}"#),
        );
    }

    #[test]
    fn ec96_another_vendors_quota_is_a_rate_limit() {
        let fault =
            Fault::read(429, br#"{"error":{"message":"m","type":"insufficient_quota","code":"insufficient_quota"}}"#);
        check(&fault, (429, r#"{"type":"rate_limit_error","message":"m"}"#));
    }

    #[test]
    fn ec98_a_long_prompt_is_said_so_that_claude_code_compacts() {
        let fault = Fault::read(400, br#"{"error":{"message":"max 9","code":"context_length_exceeded"}}"#);
        check(&fault, (400, r#"{"type":"invalid_request_error","message":"prompt is too long: max 9"}"#));
    }

    #[test]
    fn the_place_leads_the_message() {
        let fault = Fault::invalid("must not be empty").param("messages[1]");
        check(&fault, (400, r#"{"type":"invalid_request_error","message":"messages[1]: must not be empty"}"#));
    }

    #[test]
    fn ec73_a_broken_stream_says_so_and_no_more() {
        let mut out = Vec::new();
        encode_event(&Fault::new(529, FaultKind::Overloaded, "Overloaded"), &mut out);
        let expect = concat!(
            "event: error\n",
            r#"data: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
            "\n\n"
        );
        assert_eq!(String::from_utf8(out).unwrap(), expect);
    }
}
