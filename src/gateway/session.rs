//! Which conversation a request belongs to, as far as its client says: so that it stays with one key, where the provider's
//! prompt cache, its server-held threads and its encrypted reasoning are (PEERS P7). Nothing is stored: the same words give the
//! same number on every machine.

use http::HeaderMap;

use crate::gateway::forward::Inbound;
use crate::route::plan::mix;
use crate::wire::head::Head;
use crate::wire::json::Cursor;

/// Headers that name a session, the most telling first (CLIENTS 0.8).
const HEADERS: [&str; 5] =
    ["x-claude-code-session-id", "x-session-affinity", "x-session-id", "session-id", "thread-id"];

/// A number of the request's session; `None` where it names none.
pub(super) fn of(inbound: &Inbound, head: &Head) -> Option<u64> {
    in_headers(&inbound.headers).or_else(|| in_body(head, &inbound.body))
}

fn in_headers(headers: &HeaderMap) -> Option<u64> {
    HEADERS.iter().find_map(|name| headers.get(*name)).map(|value| number(value.as_bytes()))
}

fn in_body(head: &Head, body: &[u8]) -> Option<u64> {
    let text = |name: &str| std::str::from_utf8(head.value(body, name)?).ok();
    let key = text("prompt_cache_key").and_then(string);
    let user = || text("metadata").and_then(|metadata| member(metadata, "user_id"));
    let session = key.or_else(user)?;
    // Claude Code's `user_id` is JSON of its own, of which only a part is the session.
    let inner = member(&session, "session_id");
    Some(number(inner.as_deref().unwrap_or(&session).as_bytes()))
}

/// A JSON string's text, unless it is empty.
fn string(json: &str) -> Option<String> {
    let text = Cursor::new(json).str().ok()?.decode().into_owned();
    (!text.is_empty()).then_some(text)
}

/// The text of one string of an object.
fn member(json: &str, name: &str) -> Option<String> {
    let mut cursor = Cursor::new(json);
    cursor.object().ok()?;
    while let Some(key) = cursor.key().ok()? {
        if key.is(name) {
            let text = cursor.str().ok()?.decode().into_owned();
            return (!text.is_empty()).then_some(text);
        }
        cursor.skip().ok()?;
    }
    None
}

/// FNV-1a, spread.
fn number(bytes: &[u8]) -> u64 {
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3)))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::wire::head;

    fn session(headers: &[(&'static str, &'static str)], body: &str) -> Option<u64> {
        let pair = |&(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v));
        let inbound =
            Inbound { headers: headers.iter().map(pair).collect(), body: body.to_owned().into(), ..Inbound::default() };
        of(&inbound, &head::read(&inbound.body).unwrap())
    }

    #[test]
    fn a_session_is_known_by_whichever_name_its_client_has_for_it() {
        let plain = r#"{"model":"m"}"#;
        assert_eq!(session(&[], plain), None);
        let claude = session(&[("x-claude-code-session-id", "s-1")], plain);
        assert!(claude.is_some() && claude == session(&[("x-session-id", "s-1")], plain), "by its words alone");
        assert_ne!(claude, session(&[("x-session-id", "s-2")], plain));
        for body in [
            r#"{"model":"m","prompt_cache_key":"s-1"}"#,
            r#"{"model":"m","metadata":{"a":[1],"user_id":"s-1"}}"#,
            r#"{"model":"m","metadata":{"user_id":"{\"device_id\":\"d\",\"session_id\":\"s-1\"}"}}"#,
        ] {
            assert_eq!(session(&[], body), claude, "{body}");
        }
        for body in [
            r#"{"model":"m","prompt_cache_key":null,"metadata":{"user_id":7}}"#,
            r#"{"model":"m","metadata":"x"}"#,
            r#"{"model":"m","prompt_cache_key":""}"#,
        ] {
            assert_eq!(session(&[], body), None, "{body}");
        }
    }
}
