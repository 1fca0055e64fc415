//! How a request is turned away at the door.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::header::{ALLOW, CONNECTION, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use crate::gateway::{Body, RequestId, fault_response};
use crate::journal::{Journal, Row};
use crate::server::log;
use crate::time::{Clock, Millis};
use crate::wire::Format;
use crate::wire::fault::Fault;

/// Tells of those who are turned away: one line a second and how many more there were, for whoever is not let in must not be
/// able to fill a disk (LIMITS 2.2).
#[derive(Debug, Default)]
pub(super) struct Refusals {
    told_at: AtomicU64,
    untold: AtomicU64,
}

impl Refusals {
    pub(super) fn note(&self, now: Millis, id: &RequestId, asked: (&Method, &str), told: (StatusCode, &str)) {
        let due = |told: u64| (told == 0 || told + 1000 <= now.0).then_some(now.0);
        if self.told_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, due).is_err() {
            self.untold.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let ((method, path), (status, why)) = (asked, told);
        let short = |text: &str, most| text.chars().take(most).flat_map(char::escape_default).collect::<String>();
        let (method, path) = (short(method.as_str(), 20), short(path, 100));
        let more = match self.untold.swap(0, Ordering::Relaxed) {
            0 => String::new(),
            n => format!(" ({n} more were refused since the last line)"),
        };
        log::warn(&format!("{} refused {method} {path} status={}: {why}{more}", id.as_str(), status.as_u16()));
    }
}

/// Has it counted in the journal, which keeps a row of one in a second. What was asked for stands in the words: whoever is not let
/// in may make up as many paths as he likes, and they are nobody's names.
pub(super) fn keep(
    journal: &Journal,
    (id, format): (&RequestId, Format),
    (method, path): (&Method, &str),
    (status, why): (StatusCode, &str),
    limited: Option<(&str, &'static str)>,
) {
    let short = |text: &str, most| text.chars().take(most).collect::<String>();
    let error = format!("{} {}: {why}", short(method.as_str(), 20), short(path, 100));
    let (client, limited) = limited.unwrap_or_default();
    let row = Row {
        id: id.as_str(),
        at_ms: Clock::unix_millis(),
        client,
        format: format.as_str(),
        status: status.as_u16(),
        ended: "refused",
        limited,
        error: &error,
        ..Row::default()
    };
    journal.log(&row, &[]);
}

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

    /// Why, for the log: our words, which hold nothing secret.
    pub(super) fn why(&self) -> String {
        self.0.fault.message.clone()
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
