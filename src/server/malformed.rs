//! What is said of requests that are none: hyper turns them away before anybody here sees them, with a status and no word.
//! Whoever sent one is told what is wrong, in a body that both vendors' SDKs read.

use bytes::Bytes;
use memchr::memmem;

use crate::wire::json::Writer;

/// Our words, where what is to be written is all of an answer that is nothing but a status. What we pass through may look the
/// same: whoever asks must know that no answer is being written.
pub(super) fn instead_of(bytes: &[u8]) -> Option<Bytes> {
    let rest = bytes.strip_prefix(b"HTTP/1.1 4").or_else(|| bytes.strip_prefix(b"HTTP/1.0 4"))?;
    let is_bare = bytes.len() < BARE_BYTES_MAX && bytes.ends_with(b"\r\n\r\n");
    if !is_bare || memmem::find(bytes, b"content-length: 0\r\n").is_none() {
        return None;
    }
    let status = match rest.get(..2)? {
        b"14" => Status {
            code: 414,
            reason: "URI Too Long",
            why: "the request's target is longer than a head may be (head_bytes)",
        },
        b"31" => Status {
            code: 431,
            reason: "Request Header Fields Too Large",
            why: "the request's head is larger than head_bytes, or has more fields than head_fields",
        },
        _ => Status {
            code: 400,
            reason: "Bad Request",
            why: "this is no HTTP request that can be told apart from what follows it: see its request line, content-length and transfer-encoding",
        },
    };
    Some(status.response())
}

/// A status line, a date and two fields more.
const BARE_BYTES_MAX: usize = 256;

/// What whoever sends half a head is told in the end.
pub(super) fn late() -> Bytes {
    let why = "the request's head was not complete in time (head_seconds)";
    Status { code: 408, reason: "Request Timeout", why }.response()
}

struct Status {
    code: u16,
    reason: &'static str,
    why: &'static str,
}

impl Status {
    /// In Anthropic's shape, whose `error` is OpenAI's too.
    fn response(&self) -> Bytes {
        let mut body = Vec::new();
        let mut w = Writer::new(&mut body);
        w.object().key("type").str("error").key("error").object();
        w.key("type").str("invalid_request_error").key("message").str(self.why);
        w.key("param").null().key("code").null().end_object().end_object();
        let Self { code, reason, .. } = self;
        let mut response = format!(
            "HTTP/1.1 {code} {reason}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        )
        .into_bytes();
        response.extend_from_slice(&body);
        response.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bare_refusals_are_replaced() {
        for (head, expect) in [
            ("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n", Some("HTTP/1.1 400 ")),
            (
                "HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
                Some("HTTP/1.1 431 "),
            ),
            ("HTTP/1.0 414 URI Too Long\r\ncontent-length: 0\r\n\r\n", Some("HTTP/1.1 414 ")),
            ("HTTP/1.1 400 Bad Request\r\nx-request-id: req_1\r\ncontent-length: 7\r\n\r\n", None),
            ("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n{}", None),
            ("HTTP/1.1 200 OK\r\n\r\n", None),
            ("HTTP/1.1 4", None),
            ("", None),
        ] {
            let found = instead_of(head.as_bytes()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            assert_eq!(found.as_deref().and_then(|text| text.get(..13)), expect, "{head}");
            if let Some((head, body)) = found.as_deref().and_then(|text| text.split_once("\r\n\r\n")) {
                assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
                assert!(
                    body.starts_with(r#"{"type":"error","error":{"type":"invalid_request_error","message":"#),
                    "{body}"
                );
            }
        }
    }
}
