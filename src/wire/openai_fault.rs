//! Errors as OpenAI's clients know them, whichever of its formats they speak (CONVERSION 9.2).

use crate::wire::fault::{Fault, FaultKind};
use crate::wire::json::Writer;

/// The type and the code for each kind of trouble.
pub(in crate::wire) fn terms(kind: FaultKind) -> (&'static str, Option<&'static str>) {
    match kind {
        FaultKind::InvalidRequest => ("invalid_request_error", None),
        FaultKind::ForeignThinking => ("invalid_request_error", Some("invalid_encrypted_content")),
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
pub(in crate::wire) fn status(fault: &Fault) -> u16 {
    if fault.status == 529 { 503 } else { fault.status }
}

/// Writes an error body. The request's id goes into a header in this format.
pub(in crate::wire) fn encode(fault: &Fault, _request_id: &str, out: &mut Vec<u8>) {
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
