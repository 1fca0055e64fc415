//! How a request is turned away at the door.

use std::sync::Arc;

use http::header::{ALLOW, CONNECTION, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response};

use crate::gateway::{Body, RequestId, fault_response};
use crate::wire::Format;
use crate::wire::fault::Fault;

/// A request that was turned away. In a box, for it is seldom there.
#[derive(Debug)]
pub(super) struct Refusal(Box<Words>);

/// What it is told, and what becomes of its connection.
#[derive(Debug)]
struct Words {
    fault: Fault,
    /// What may be asked instead.
    allow: Option<HeaderValue>,
    retry_after: Option<u32>,
    /// What else is to be known.
    headers: HeaderMap,
    /// The client that met a limit of ours, and which.
    limited: Option<(Arc<str>, &'static str)>,
    closes: bool,
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self(Box::new(Words {
            fault,
            allow: None,
            retry_after: None,
            headers: HeaderMap::new(),
            limited: None,
            closes: false,
        }))
    }
}

impl Refusal {
    /// It ends its connection: what follows on it cannot be told from a request.
    pub(super) fn closing(fault: Fault) -> Self {
        let mut refusal = Self::from(fault);
        refusal.0.closes = true;
        refusal
    }

    pub(super) fn allowing(mut self, methods: &str) -> Self {
        self.0.allow = HeaderValue::from_str(methods).ok();
        self
    }

    /// Seconds.
    pub(super) fn retry_after(mut self, seconds: u32) -> Self {
        self.0.retry_after = Some(seconds);
        self
    }

    pub(super) fn with(mut self, headers: HeaderMap) -> Self {
        self.0.headers = headers;
        self
    }

    pub(super) fn limiting(mut self, client: &Arc<str>, kind: &'static str) -> Self {
        self.0.limited = Some((Arc::clone(client), kind));
        self
    }

    pub(super) fn limited(&self) -> Option<(Arc<str>, &'static str)> {
        self.0.limited.clone()
    }

    pub(super) fn respond(self, format: Format, id: &RequestId) -> Response<Body> {
        let Words { fault, allow, retry_after, headers: more, closes, .. } = *self.0;
        let mut response = fault_response(format, &fault, id);
        let headers = response.headers_mut();
        headers.extend(more);
        if let Some(allow) = allow {
            headers.insert(ALLOW, allow);
        }
        if let Some(seconds) = retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if closes {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
