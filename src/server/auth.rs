//! Who may pass: a client's key, in either vendor's header, compared in constant time.

use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use parking_lot::Mutex;
use subtle::ConstantTimeEq;

use crate::config::clients::{Client, Clients};
use crate::wire::fault::{Fault, FaultKind};

/// Whom a connection has been let in as, and with what: sent again, as it is with every request, it need not be hashed again.
/// It is forgotten when clients are read anew.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<Option<Met>>);

#[derive(Debug)]
struct Met {
    offered: HeaderValue,
    client: Arc<Client>,
    reading: u64,
}

impl Known {
    /// Who this is. Compared in constant time, and only with what this connection has sent itself.
    fn recall(&self, offered: &HeaderValue, reading: u64) -> Option<Arc<Client>> {
        let met = self.0.lock();
        let met = met.as_ref().filter(|met| met.reading == reading)?;
        let is: bool = met.offered.as_bytes().ct_eq(offered.as_bytes()).into();
        is.then(|| Arc::clone(&met.client))
    }

    fn learn(&self, offered: &HeaderValue, client: &Arc<Client>, reading: u64) {
        // A copy: the header is a slice of what the connection reads into, which must become free again.
        let Ok(mut offered) = HeaderValue::from_bytes(offered.as_bytes()) else {
            return;
        };
        offered.set_sensitive(true);
        *self.0.lock() = Some(Met { offered, client: Arc::clone(client), reading });
    }
}

/// Checks a request's credential (SEED.md 4.2) and tells whose it is: `Authorization` wins over `x-api-key` when both are there;
/// any number of `Bearer ` in any case may stand before the key.
pub(super) fn check(headers: &HeaderMap, clients: &Clients, known: &Known) -> Result<Arc<Client>, Fault> {
    let Some((value, offered)) = offered(headers) else {
        return Err(denied("missing API key: send it as `authorization: Bearer KEY` or as `x-api-key: KEY`"));
    };
    if let Some(client) = known.recall(value, clients.reading) {
        return Ok(client);
    }
    let Some(client) = clients.find(offered) else {
        return Err(denied("invalid API key"));
    };
    known.learn(value, client, clients.reading);
    Ok(Arc::clone(client))
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
    use crate::config::clients::Accounts;
    use crate::limit::Limits;
    use crate::secret::Secret;

    fn clients(key: &str) -> Clients {
        Clients::new(&[Client::of_key(&Secret::new(key), Limits::default())], &Accounts::default())
    }

    #[track_caller]
    fn check_one(pairs: &[(&'static str, &'static str)], passes: bool) {
        let pair = |&(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v));
        let headers: HeaderMap = pairs.iter().map(pair).collect();
        let known = Known::default();
        let all = clients("k-1");
        for _ in 0..2 {
            assert_eq!(check(&headers, &all, &known).is_ok(), passes, "{pairs:?}");
        }
        let other = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static("Bearer other"))]);
        assert!(check(&other, &all, &known).is_err(), "who was let in once is not let in with anything");
        assert!(check(&headers, &clients("k-2"), &known).is_err(), "nor once the key is another");
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
