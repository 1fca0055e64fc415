//! Who may pass: the client key, in either vendor's header, compared in constant time.

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use parking_lot::Mutex;
use subtle::ConstantTimeEq;

use crate::secret::Secret;
use crate::wire::fault::{Fault, FaultKind};

/// What a connection has been let in with: sent again, as it is with every request, it need not be hashed again. The key it
/// was compared with is the process's as long as that runs.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<Option<HeaderValue>>);

impl Known {
    /// Whether this is it. Compared in constant time, and only with what this connection has sent itself.
    fn is(&self, offered: &HeaderValue) -> bool {
        let known = self.0.lock();
        known.as_ref().is_some_and(|known| known.as_bytes().ct_eq(offered.as_bytes()).into())
    }

    fn learn(&self, offered: &HeaderValue) {
        // A copy: the header is a slice of what the connection reads into, which must become free again.
        let Ok(mut copy) = HeaderValue::from_bytes(offered.as_bytes()) else {
            return;
        };
        copy.set_sensitive(true);
        *self.0.lock() = Some(copy);
    }
}

/// Checks a request's credential (SEED.md 4.2): `Authorization` wins over `x-api-key` when both are there; any number of
/// `Bearer ` in any case may stand before the key.
pub(super) fn check(headers: &HeaderMap, key: &Secret, known: &Known) -> Result<(), Fault> {
    let Some((value, offered)) = offered(headers) else {
        return Err(denied("missing API key: send it as `authorization: Bearer KEY` or as `x-api-key: KEY`"));
    };
    if known.is(value) {
        return Ok(());
    }
    if !key.is(offered) {
        return Err(denied("invalid API key"));
    }
    known.learn(value);
    Ok(())
}

fn denied(message: &str) -> Fault {
    Fault::new(401, FaultKind::Authentication, message)
}

/// The header that counts, and the key in it.
fn offered(headers: &HeaderMap) -> Option<(&HeaderValue, &[u8])> {
    let value = headers.get(AUTHORIZATION).or_else(|| headers.get("x-api-key"))?;
    let mut key = value.as_bytes().trim_ascii();
    while let Some((scheme, rest)) = key.split_at_checked(6) {
        if !scheme.eq_ignore_ascii_case(b"bearer") || !rest.first().is_some_and(u8::is_ascii_whitespace) {
            break;
        }
        key = rest.trim_ascii();
    }
    (!key.is_empty()).then_some((value, key))
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    #[track_caller]
    fn check_one(pairs: &[(&'static str, &'static str)], passes: bool) {
        let pair = |&(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v));
        let headers: HeaderMap = pairs.iter().map(pair).collect();
        let known = Known::default();
        let secret = Secret::new("k-1");
        for _ in 0..2 {
            assert_eq!(check(&headers, &secret, &known).is_ok(), passes, "{pairs:?}");
        }
        let other = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static("Bearer other"))]);
        assert!(check(&other, &secret, &known).is_err(), "who was let in once is not let in with anything");
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
