//! Errors as OpenAI's clients know them (CONVERSION 9.2, 9.3).

use crate::wire::fault::{Fault, FaultKind};
use crate::wire::json::Writer;

/// The type and the code for each kind of trouble.
fn terms(kind: FaultKind) -> (&'static str, Option<&'static str>) {
    match kind {
        FaultKind::InvalidRequest => ("invalid_request_error", None),
        FaultKind::ContextLength => ("invalid_request_error", Some("context_length_exceeded")),
        FaultKind::Authentication => ("authentication_error", Some("invalid_api_key")),
        FaultKind::Billing | FaultKind::Quota => ("insufficient_quota", Some("insufficient_quota")),
        FaultKind::Permission => ("permission_error", None),
        FaultKind::NotFound => ("invalid_request_error", Some("unknown_url")),
        FaultKind::ModelNotFound => ("invalid_request_error", Some("model_not_found")),
        FaultKind::TooLarge => ("invalid_request_error", Some("request_too_large")),
        FaultKind::RateLimit => ("rate_limit_error", Some("rate_limit_exceeded")),
        FaultKind::Timeout => ("server_error", Some("timeout")),
        FaultKind::Overloaded => ("server_error", Some("overloaded")),
        FaultKind::Unavailable => ("server_error", Some("service_unavailable")),
        FaultKind::Server => ("server_error", None),
    }
}

/// 529 is Anthropic's own: other clients retry a 503.
pub(super) fn status(fault: &Fault) -> u16 {
    if fault.status == 529 { 503 } else { fault.status }
}

/// Writes an error body. The request's id goes into a header in this format.
pub(super) fn encode(fault: &Fault, _request_id: &str, out: &mut Vec<u8>) {
    let (kind, code) = terms(fault.kind);
    // The kind's own code is the format's; the upstream's only where the format has none.
    let code = code.or(fault.code.as_deref());
    let mut w = Writer::new(out);
    w.object().key("error").object();
    w.key("message").str(&fault.message);
    w.key("type").str(kind);
    for (key, value) in [("param", fault.param.as_deref()), ("code", code)] {
        w.key(key);
        match value {
            Some(text) => w.str(text),
            None => w.null(),
        };
    }
    w.end_object().end_object();
}

/// Writes an error after the 200. No `[DONE]` follows: the answer is not complete.
pub(super) fn encode_event(fault: &Fault, out: &mut Vec<u8>) {
    out.extend_from_slice(b"data: ");
    encode(fault, "", out);
    out.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(fault: &Fault, expect_status: u16, expect: &str) {
        let mut out = Vec::new();
        encode(fault, "req_1", &mut out);
        assert_eq!((status(fault), String::from_utf8(out).unwrap().as_str()), (expect_status, expect));
    }

    #[test]
    fn ec97_an_overload_is_a_503() {
        check(
            &Fault::read(529, br#"{"type":"error","error":{"type":"overloaded_error","message":"busy"}}"#),
            503,
            r#"{"error":{"message":"busy","type":"server_error","param":null,"code":"overloaded"}}"#,
        );
    }

    #[test]
    fn ec96_foreign_words_do_not_get_through() {
        check(
            &Fault::read(429, br#"{"error":{"message":"no money","code":"insufficient_quota"}}"#),
            429,
            r#"{"error":{"message":"no money","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#,
        );
        check(
            &Fault::read(
                400,
                br#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 9"}}"#,
            ),
            400,
            r#"{"error":{"message":"prompt is too long: 9","type":"invalid_request_error","param":null,"code":"context_length_exceeded"}}"#,
        );
    }

    #[test]
    fn a_place_in_the_request_is_told() {
        check(
            &Fault::invalid("say \"please\"").param("messages[0].content"),
            400,
            r#"{"error":{"message":"say \"please\"","type":"invalid_request_error","param":"messages[0].content","code":null}}"#,
        );
    }
}
