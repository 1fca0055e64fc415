//! Which headers cross, in both directions. Lists of what may, never of what may not.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, RETRY_AFTER, USER_AGENT,
};
use http::{HeaderMap, HeaderValue};
use smallvec::SmallVec;

use crate::gateway::retry_after;
use crate::route::secrets::Secrets;
use crate::route::table::{OnLossy, Route, Slot};
use crate::time::{Clock, Rfc3339};
use crate::wire::Format;
use crate::wire::fault::Fault;

/// What a client's API headers are, whatever the upstream's format: tracing only.
const UP_ALWAYS: [&str; 2] = ["traceparent", "tracestate"];

/// API headers of the client that go up where the upstream speaks its format. Credentials, cookies, organisations (the
/// key that is sent belongs to another) and everything about the hop stay here.
const UP_SAME_FORMAT: [&str; 14] = [
    "anthropic-version",
    "anthropic-beta",
    "anthropic-dangerous-direct-browser-access",
    "openai-beta",
    "idempotency-key",
    "x-app",
    "x-client-request-id",
    "x-claude-code-session-id",
    "x-claude-code-agent-id",
    "x-session-affinity",
    "x-session-id",
    "session-id",
    "thread-id",
    "x-stainless-helper-method",
];

/// Families of reply headers that come down: retries, and limits in the words of the format they are told in.
const DOWN_ALWAYS: [&str; 2] = ["retry-after", "x-should-retry"];
const DOWN_SAME_FORMAT: [&str; 5] =
    ["x-ratelimit-", "anthropic-ratelimit-", "openai-processing-ms", "openai-version", "anthropic-processing-ms"];

/// The limits that both vendors tell.
const LIMITS: [&str; 2] = ["requests", "tokens"];

pub(super) const UPSTREAM_REQUEST_ID: HeaderName = HeaderName::from_static("x-upstream-request-id");
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const ROUTE: HeaderName = HeaderName::from_static("x-model-proxy-route");
const ATTEMPTS: HeaderName = HeaderName::from_static("x-model-proxy-attempts");
const STOP_REASON: HeaderName = HeaderName::from_static("x-model-proxy-stop-reason");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
pub(super) const DROPPED: HeaderName = HeaderName::from_static("x-model-proxy-dropped");
/// What a client wants to happen to this request if it would lose something; it wins over the model's `on_lossy`.
pub(super) const ON_LOSSY: HeaderName = HeaderName::from_static("x-model-proxy-on-lossy");
const ESTIMATED: HeaderName = HeaderName::from_static("x-model-proxy-estimated");
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Some gateways turn away requests that do not say who sends them.
const OURS: HeaderValue = HeaderValue::from_static(concat!("model-proxy/", env!("CARGO_PKG_VERSION")));

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream; charset=utf-8");

/// The headers of an attempt: those of every request with this key, and the client's that may cross.
pub(super) fn up(client: &HeaderMap, format: Format, route: &Route, slot: &Slot) -> HeaderMap {
    // A copy of what is put together costs a third of putting it together.
    let mut headers = slot.sent.get_or_init(|| sent_always(route, slot)).clone();
    let same: &[&str] = if format == route.format { &UP_SAME_FORMAT } else { &[] };
    let mut last = None;
    // A client's values come one after another; the first takes the place of what we would have sent.
    for (name, value) in client {
        let known = name.as_str();
        let crosses = same.contains(&known) || UP_ALWAYS.contains(&known);
        if !crosses || slot.key.header.as_ref().is_some_and(|(credential, _)| credential == name) {
            continue;
        }
        if last.replace(name) == Some(name) {
            headers.append(name.clone(), value.clone());
        } else {
            headers.insert(name.clone(), value.clone());
        }
    }
    headers
}

/// What goes up whatever the client sends: the format's own headers, the provider's, the credential.
fn sent_always(route: &Route, slot: &Slot) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(USER_AGENT, OURS);
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    for (name, value) in route.format.codec().headers {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    for (name, value) in &route.headers {
        headers.insert(name.clone(), value.clone());
    }
    // Only their places: what is there already keeps the copy from growing.
    for name in [HOST, CONTENT_LENGTH] {
        headers.insert(name, HeaderValue::from_static(""));
    }
    if let Some((name, value)) = &slot.key.header {
        headers.insert(name.clone(), value.clone());
    }
    headers
}

/// What the client wants done about losses, if it says. `Err`: it says what is no choice, or two things.
pub(super) fn on_lossy(client: &HeaderMap) -> Result<Option<OnLossy>, Fault> {
    let mut said = client.get_all(ON_LOSSY).iter();
    let Some(value) = said.next() else {
        return Ok(None);
    };
    let choice = value.to_str().ok().and_then(|text| OnLossy::parse(&text.trim().to_ascii_lowercase()));
    match (choice, said.next()) {
        (Some(choice), None) => Ok(Some(choice)),
        _ => {
            let names = OnLossy::ALL.map(|(name, _)| name).join(", ");
            Err(Fault::invalid(format!("the header {ON_LOSSY} takes one of {names}")))
        }
    }
}

/// The headers of an answer, before anything is known of this one request: those of every answer of this route, and
/// what of the upstream's comes down.
pub(super) fn answered(
    upstream: &HeaderMap,
    (route, secrets): (&Route, &Secrets),
    to: Format,
    model: &str,
) -> HeaderMap {
    let mut headers = route.answered.get_or_init(|| answered_always(route)).clone();
    if route.names.header.is_none() {
        insert(&mut headers, ROUTE, &format!("{}/{model}", route.provider.name));
    }
    descend(upstream, (route.format, to), Some(secrets), &mut headers);
    headers
}

/// Who answered, for people who ask; and the places of what every answer has.
fn answered_always(route: &Route) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(CONTENT_TYPE, JSON);
    identify(&mut headers, &RequestId::default());
    attempts(&mut headers, 1);
    if let Some(label) = &route.names.header {
        headers.insert(ROUTE, label.clone());
    }
    headers
}

/// What of an upstream's reply headers the client is given.
pub(super) fn down(upstream: &HeaderMap, from: Format, to: Format) -> HeaderMap {
    let mut headers = HeaderMap::new();
    descend(upstream, (from, to), None, &mut headers);
    headers
}

/// `secrets`: what no value that comes down may hold; where there are none, somebody else looks.
fn descend(upstream: &HeaderMap, (from, to): (Format, Format), secrets: Option<&Secrets>, headers: &mut HeaderMap) {
    let mut foreign = false;
    let is_fit = |value: &HeaderValue| !secrets.is_some_and(|secrets| secrets.are_in(value.as_bytes()));
    for (name, value) in upstream {
        let known = name.as_str();
        if DOWN_ALWAYS.iter().any(|p| known.starts_with(p)) && is_fit(value) {
            headers.append(name.clone(), value.clone());
        } else if DOWN_SAME_FORMAT.iter().any(|p| known.starts_with(p)) && is_fit(value) {
            if from == to {
                headers.append(name.clone(), value.clone());
            } else {
                foreign = true;
            }
        }
    }
    if foreign {
        headers.extend(LIMITS.iter().filter_map(|kind| limit(upstream, (from, to), kind)).flatten());
    }
    if let Some(id) = upstream.get(&X_REQUEST_ID).or_else(|| upstream.get(&REQUEST_ID)).filter(|id| is_fit(id)) {
        headers.insert(UPSTREAM_REQUEST_ID, id.clone());
    }
}

/// Tells a limit in the other vendor's words, where all three of its numbers are known.
fn limit(upstream: &HeaderMap, (from, to): (Format, Format), kind: &str) -> Option<[(HeaderName, HeaderValue); 3]> {
    let name = |format: Format, part: &str| match format {
        Format::OpenaiChat | Format::OpenaiResponses => format!("x-ratelimit-{part}-{kind}"),
        Format::Anthropic => format!("anthropic-ratelimit-{kind}-{part}"),
    };
    let told = |part: &str| upstream.get(name(from, part));
    let (most, left, reset) = (told("limit")?, told("remaining")?, told("reset")?);
    let now = Clock::unix_seconds();
    let wait = retry_after::moment(reset.to_str().ok()?.trim(), now)?;
    // Rounded up: who comes back exactly then must not be too early.
    let seconds = wait.as_secs() + u64::from(0 < wait.subsec_nanos());
    let reset = match to {
        Format::OpenaiChat | Format::OpenaiResponses => format!("{seconds}s"),
        Format::Anthropic => Rfc3339(now.saturating_add(seconds)).to_string(),
    };
    let name = |part: &str| HeaderName::try_from(name(to, part)).ok();
    Some([
        (name("limit")?, most.clone()),
        (name("remaining")?, left.clone()),
        (name("reset")?, HeaderValue::try_from(reset).ok()?),
    ])
}

/// Whether it is worth asking again, in the place of what one of several upstreams said of itself. SDKs obey it before
/// they look at the status (CLIENTS 0.10); where waiting helps they are left to do as they would.
pub(super) fn should_retry(headers: &mut HeaderMap, verdict: bool) {
    if verdict {
        headers.remove(&SHOULD_RETRY);
    } else {
        headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    }
}

/// Why an answer stopped, where the client's format has no word for it (CONVERSION 6). A stream cannot tell: its headers
/// have gone before.
pub(super) fn paused(headers: &mut HeaderMap) {
    headers.insert(STOP_REASON, HeaderValue::from_static("pause_turn"));
}

/// How many tries it took.
pub(super) fn attempts(headers: &mut HeaderMap, attempts: u32) {
    const FEW: [&str; 5] = ["0", "1", "2", "3", "4"];
    let few = FEW.get(attempts as usize).map(|n| HeaderValue::from_static(n));
    headers.insert(ATTEMPTS, few.unwrap_or_else(|| HeaderValue::from(attempts)));
}

/// What the conversion dropped.
pub(super) fn dropped(headers: &mut HeaderMap, paths: &str) {
    if !paths.is_empty() {
        insert(headers, DROPPED, paths);
    }
}

/// What is told is a guess of the proxy's own.
pub(super) fn estimated(headers: &mut HeaderMap) {
    headers.insert(ESTIMATED, HeaderValue::from_static("true"));
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    // A name that cannot stand in a header is left out: it is information, not meaning.
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// Rounded up: a client that comes back exactly then must not be too early.
pub(super) fn whole_seconds(left: Duration) -> u64 {
    u64::try_from(left.as_millis().div_ceil(1000).max(1)).unwrap_or(u64::MAX)
}

/// What the official SDKs wait at most because a `retry-after` says so; told of more, they come back after a second.
pub(super) const SDK_PATIENCE: Duration = Duration::from_secs(60);

/// Leaves out whole headers in which a secret stands.
pub(super) fn hide(headers: &mut HeaderMap, secrets: &Secrets) {
    let is_secret = |(_, value): &(&HeaderName, &HeaderValue)| secrets.are_in(value.as_bytes());
    let found: SmallVec<[HeaderName; 1]> = headers.iter().filter(is_secret).map(|(name, _)| name.clone()).collect();
    for name in found {
        headers.remove(name);
    }
}

/// Takes out what an upstream said of its limits.
pub(super) fn forget_limits(headers: &mut HeaderMap) {
    let of_limits = |name: &&HeaderName| RATE_LIMITS.iter().any(|prefix| name.as_str().starts_with(prefix));
    let told: SmallVec<[HeaderName; 8]> = headers.keys().filter(of_limits).cloned().collect();
    for name in told {
        headers.remove(name);
    }
}

/// Both vendors' families of limits.
const RATE_LIMITS: [&str; 2] = ["x-ratelimit-", "anthropic-ratelimit-"];

pub(super) fn retry_after(headers: &mut HeaderMap, seconds: u64) {
    headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
}

pub(super) fn json(headers: &mut HeaderMap) {
    headers.insert(CONTENT_TYPE, JSON);
}

/// An event stream that nothing on the way may hold back.
pub(super) fn event_stream(headers: &mut HeaderMap) {
    headers.insert(CONTENT_TYPE, EVENT_STREAM);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
}

/// The request's id, under the names both vendors' SDKs read.
pub(super) fn identify(headers: &mut HeaderMap, id: &RequestId) {
    headers.insert(X_REQUEST_ID, id.0.clone());
    headers.insert(REQUEST_ID, id.0.clone());
}

/// What one request is called, everywhere: visible ASCII, kept as the header value it leaves as.
#[derive(Clone, Debug)]
pub struct RequestId(HeaderValue);

impl Default for RequestId {
    fn default() -> Self {
        Self(HeaderValue::from_static(""))
    }
}

impl RequestId {
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// A number made of it, for ids that a format wants and the upstream did not give.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.0.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, |h, b| mix(h ^ u64::from(*b)))
    }
}

/// Makes ids without a system call each: a counter, mixed with a seed of the process.
#[derive(Debug)]
pub struct RequestIds {
    seed: u64,
    next: AtomicU64,
}

impl RequestIds {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, next: AtomicU64::new(0) }
    }

    /// The client's own id, if it sent one, and one that can be echoed (at most 128 visible ASCII characters); else a new one.
    #[must_use]
    pub fn of(&self, headers: &HeaderMap) -> RequestId {
        let sane = |id: &&HeaderValue| (1..=128).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic);
        if let Some(id) = headers.get(&X_REQUEST_ID).filter(sane)
            && headers.get_all(&X_REQUEST_ID).iter().nth(1).is_none()
        {
            return RequestId(id.clone());
        }
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let (high, low) = (mix(self.seed ^ n), mix(self.seed.rotate_left(32).wrapping_add(n)));
        let mut id = *b"req_00000000000000000000000000000000";
        let digits = id.iter_mut().skip(4).rev();
        for (at, digit) in digits.enumerate() {
            let half = if at < 16 { low } else { high };
            let nibble = (half >> (at % 16 * 4)) & 0xf;
            *digit = b"0123456789abcdef".get(usize::from(nibble as u8)).copied().unwrap_or(b'0');
        }
        HeaderValue::from_bytes(&id).map(RequestId).unwrap_or_default()
    }
}

/// Spreads every bit over all (the finaliser of splitmix64).
fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |&(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v));
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn limits_and_ids_come_down_and_nothing_else() {
        let upstream = map(&[
            ("x-ratelimit-remaining-requests", "5"),
            ("anthropic-ratelimit-tokens-reset", "x"),
            ("openai-version", "2020-10-01"),
            ("x-should-retry", "true"),
            ("retry-after", "1"),
            ("retry-after-ms", "1000"),
            ("request-id", "req_up"),
            ("set-cookie", "a=b"),
            ("openai-organization", "org"),
            ("cf-ray", "x"),
            ("server", "x"),
        ]);
        let names = |from, to| {
            let down = down(&upstream, from, to);
            let mut names: Vec<String> = down.keys().map(|name| name.as_str().to_owned()).collect();
            names.sort_unstable();
            names
        };
        let always = ["retry-after", "retry-after-ms", "x-should-retry", "x-upstream-request-id"];
        assert_eq!(names(Format::OpenaiChat, Format::Anthropic), always);
        let same = ["anthropic-ratelimit-tokens-reset", "openai-version", "x-ratelimit-remaining-requests"];
        let mut all = [always.as_slice(), same.as_slice()].concat();
        all.sort_unstable();
        assert_eq!(names(Format::OpenaiChat, Format::OpenaiChat), all);
    }

    #[test]
    fn ids_are_taken_when_sane_and_made_when_not() {
        let ids = RequestIds::new(7);
        assert_eq!(ids.of(&map(&[("x-request-id", "mine-1")])).as_str(), "mine-1");
        let long: &'static str = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
        for bad in ["", "a b", long] {
            let made = ids.of(&map(&[("x-request-id", bad)]));
            assert!(made.as_str().starts_with("req_") && made.as_str().len() == 36, "{made:?}");
        }
        assert_ne!(ids.of(&map(&[])).as_str(), ids.of(&map(&[])).as_str(), "each its own");
    }
}
