//! Errors in a stream of chunks (CONVERSION 9.3).

use crate::wire::fault::Fault;
pub(super) use crate::wire::openai_fault::{encode, status};

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
