//! Who may pass: the client key, in either vendor's header, compared in constant time.

use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::secret::Secret;
use crate::wire::fault::{Fault, FaultKind};

/// Checks a request's credential (SEED.md 4.2): `Authorization` wins over `x-api-key` when both are there; any number of
/// `Bearer ` in any case may stand before the key.
pub(super) fn check(headers: &HeaderMap, key: &Secret) -> Result<(), Fault> {
    let Some(offered) = offered(headers) else {
        return Err(denied("missing API key: send it as `authorization: Bearer KEY` or as `x-api-key: KEY`"));
    };
    if key.is(offered) { Ok(()) } else { Err(denied("invalid API key")) }
}

fn denied(message: &str) -> Fault {
    Fault::new(401, FaultKind::Authentication, message)
}

fn offered(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION).or_else(|| headers.get("x-api-key"))?;
    let mut key = value.as_bytes().trim_ascii();
    while let Some((scheme, rest)) = key.split_at_checked(6) {
        if !scheme.eq_ignore_ascii_case(b"bearer") || !rest.first().is_some_and(u8::is_ascii_whitespace) {
            break;
        }
        key = rest.trim_ascii();
    }
    (!key.is_empty()).then_some(key)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[track_caller]
    fn check_one(pairs: &[(&'static str, &'static str)], passes: bool) {
        let pair = |&(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v));
        let headers: HeaderMap = pairs.iter().map(pair).collect();
        assert_eq!(check(&headers, &Secret::new("k-1")).is_ok(), passes, "{pairs:?}");
    }

    #[test]
    fn takes_either_header_with_or_without_bearer() {
        for value in ["k-1", "Bearer k-1", "bearer k-1", "BEARER  k-1", " Bearer bearer k-1 "] {
            check_one(&[("authorization", value)], true);
        }
        check_one(&[("x-api-key", "k-1")], true);
        check_one(&[("authorization", "Bearer wrong"), ("x-api-key", "k-1")], false);
        check_one(&[("authorization", "k-1"), ("x-api-key", "wrong")], true);
    }

    #[test]
    fn refuses_all_else() {
        for value in ["", "Bearer", "Bearer ", "k-", "k-11", "K-1", "Basic k-1", "Bearerk-1"] {
            check_one(&[("authorization", value)], false);
        }
        check_one(&[], false);
    }
}
