//! Whether a key is taken, asked of the provider itself with a request that costs nothing: one so empty that it can't be
//! answered. Whoever knows the key complains of the request, and whoever does not, of the key.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};

use crate::gateway::attempt::path_of;
use crate::gateway::headers;
use crate::route::table::{Address, Route, Slot, Timeouts};
use crate::upstream::{Answer, Outgoing, Upstream};
use crate::wire::fault::{Fault, FaultKind};
use crate::wire::splice::Parts;

/// What came of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Inquiry {
    pub standing: Standing,
    /// What the provider, or the network, said.
    pub words: String,
}

/// How a key stands with its provider.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// It was let in.
    Valid,
    /// It is known, and has nothing left just now.
    Limited,
    Refused,
    /// Nobody has judged it.
    Unreachable,
}

impl Standing {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Limited => "limited",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
        }
    }
}

/// Nobody waits longer for a word on a key.
const PATIENCE: Duration = Duration::from_secs(15);

/// An error has some hundred bytes; a page of HTML is cut.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// What providers say of keys with a status that blames the request.
const NO_KEY: [&str; 5] =
    ["api key not valid", "api_key_invalid", "invalid api key", "incorrect api key", "invalid authentication"];

/// Sends `{}` to where a route's requests go, with one of its keys.
pub async fn inquire(upstream: &Upstream, route: &Route, slot: &Slot) -> Inquiry {
    let unreached = |words: String| Inquiry { standing: Standing::Unreachable, words };
    let Address::Http { origin, path, ready } = &route.address else {
        return Inquiry { standing: Standing::Valid, words: "it answers by itself".to_owned() };
    };
    let model = route.model.fixed().unwrap_or("model");
    let path = match ready.clone().map_or_else(|| path_of(path, model), Ok) {
        Ok(path) => path,
        Err(failure) => return unreached(failure.fault.message),
    };
    let outgoing = Outgoing {
        origin: Arc::clone(origin),
        method: Method::POST,
        path,
        headers: headers::up(&HeaderMap::new(), route.format, route, slot),
        body: Parts::whole(Bytes::from_static(b"{}")).into(),
        timeouts: Timeouts { first_byte: PATIENCE, idle: PATIENCE, total: PATIENCE, ..route.timeouts },
    };
    match upstream.send(outgoing).await {
        Ok(answer) => judged(answer).await,
        Err(error) => unreached(error.to_string()),
    }
}

async fn judged(answer: Answer) -> Inquiry {
    let Answer { status, mut body, .. } = answer;
    let status = status.as_u16();
    let bytes = body.collect(ANSWER_BYTES_MAX, |_| true).await.unwrap_or_default();
    let fault = Fault::read(status, &bytes);
    Inquiry { standing: standing(status, &fault), words: format!("{status}: {}", fault.message) }
}

fn standing(status: u16, fault: &Fault) -> Standing {
    let words = fault.message.to_lowercase();
    match fault.kind {
        _ if (200..300).contains(&status) => Standing::Valid,
        _ if status < 400 => Standing::Unreachable,
        _ if NO_KEY.iter().any(|word| words.contains(word)) => Standing::Refused,
        FaultKind::Authentication | FaultKind::Permission => Standing::Refused,
        FaultKind::RateLimit | FaultKind::Quota | FaultKind::Billing => Standing::Limited,
        FaultKind::InvalidRequest
        | FaultKind::ContextLength
        | FaultKind::ForeignThinking
        | FaultKind::ModelNotFound
        | FaultKind::TooLarge => Standing::Valid,
        // That nothing is at this path says nothing of the key.
        FaultKind::NotFound
        | FaultKind::Timeout
        | FaultKind::Overloaded
        | FaultKind::Unavailable
        | FaultKind::Server => Standing::Unreachable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_complains_of_the_request_knows_the_key() {
        for (status, body, expect) in [
            (400, r#"{"error":{"message":"you must provide a model parameter"}}"#, Standing::Valid),
            (
                400,
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"model: field required"}}"#,
                Standing::Valid,
            ),
            (422, r#"{"detail":[{"msg":"field required"}]}"#, Standing::Valid),
            (200, "{}", Standing::Valid),
            (404, r#"{"error":{"code":"model_not_found","message":"The model does not exist"}}"#, Standing::Valid),
            (401, r#"{"error":{"message":"Incorrect API key provided"}}"#, Standing::Refused),
            (403, "{}", Standing::Refused),
            (
                400,
                r#"[{"error":{"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT"}}]"#,
                Standing::Refused,
            ),
            (429, "{}", Standing::Limited),
            (429, r#"{"error":{"code":"insufficient_quota","message":"x"}}"#, Standing::Limited),
            (402, "{}", Standing::Limited),
            (404, "<html>nothing here</html>", Standing::Unreachable),
            (302, "", Standing::Unreachable),
            (500, "{}", Standing::Unreachable),
            (529, r#"{"type":"error","error":{"type":"overloaded_error","message":"x"}}"#, Standing::Unreachable),
        ] {
            let fault = Fault::read(status, body.as_bytes());
            assert_eq!(standing(status, &fault), expect, "{status} {body}: {fault:?}");
        }
    }
}
