//! The door: which endpoint a request is for, in which format its client speaks, and whether it may come in.

use std::convert::Infallible;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ALLOW, CONTENT_ENCODING, CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Frame, Incoming};

use crate::gateway::{Body, Gateway, Inbound, RequestId, fault_response, stopping};
use crate::server::auth::Known;
use crate::server::worker::Worker;
use crate::server::{auth, health, models};
use crate::wire::Format;
use crate::wire::fault::{Fault, FaultKind};

/// One place a request can go to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Endpoint {
    /// A request for an answer. The second is whether it always streams.
    Answer(Format, bool),
    /// A request to be counted.
    Count(Format),
    Models,
    Health,
    HealthDetailed,
    Root,
}

/// Every path there is, the methods it takes, and whether it is open to those without a key.
const DOORS: [(&str, &[Method], bool, Endpoint); 10] = [
    ("/v1/chat/completions", &[Method::POST], false, Endpoint::Answer(Format::OpenaiChat, false)),
    ("/v1/chat/completions-stream", &[Method::POST], false, Endpoint::Answer(Format::OpenaiChat, true)),
    ("/v1/chat/completions/stream", &[Method::POST], false, Endpoint::Answer(Format::OpenaiChat, true)),
    ("/v1/messages", &[Method::POST], false, Endpoint::Answer(Format::Anthropic, false)),
    ("/v1/messages/count_tokens", &[Method::POST], false, Endpoint::Count(Format::Anthropic)),
    ("/v1/messages-stream", &[Method::POST], false, Endpoint::Answer(Format::Anthropic, true)),
    ("/v1/models", &[Method::GET, Method::HEAD], false, Endpoint::Models),
    ("/health", &[Method::GET, Method::HEAD], true, Endpoint::Health),
    ("/health/detailed", &[Method::GET, Method::HEAD], false, Endpoint::HealthDetailed),
    ("/", &[Method::GET, Method::HEAD], true, Endpoint::Root),
];

/// One model's path goes on with its name, which may hold slashes.
const ONE_MODEL: &str = "/v1/models/";

/// Largest request body (LIMITS section 3: Anthropic's own cap is 32 MB).
pub(super) const REQUEST_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Longest path and query (LIMITS section 3).
const TARGET_BYTES_MAX: usize = 16 * 1024;

/// Longest wait for more of a body, and for all of it (LIMITS section 3).
const BODY_IDLE_MAX: Duration = Duration::from_secs(30);
const BODY_TOTAL_MAX: Duration = Duration::from_secs(120);

/// Answers one request, whatever it is.
pub(super) async fn serve(
    worker: &Worker,
    known: &Known,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let id = worker.ids.of(&parts.headers);
    let format = format_of(&parts.uri, &parts.headers);
    let entered = pin!(enter(worker, known, parts, body, &id, format));
    let answered = unless_it_panics(entered).await;
    let answered =
        answered.unwrap_or_else(|| Err(Fault::new(500, FaultKind::Server, "an error of the proxy's own").into()));
    Ok(answered.unwrap_or_else(|refused| refused.respond(format, &id)))
}

/// Runs a future; `None` if it panics. A mistake of ours costs one request its answer, not its connection (LIMITS R12).
async fn unless_it_panics<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    // What a panic leaves half done belongs to this request and goes with it.
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(polled) => polled.map(Some),
        Err(_) => Poll::Ready(None),
    })
    .await
}

/// A request that was turned away at the door.
struct Refused {
    fault: Fault,
    allow: Option<HeaderValue>,
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self { fault, allow: None }
    }
}

impl Refused {
    fn respond(self, format: Format, id: &RequestId) -> Response<Body> {
        let mut response = fault_response(format, &self.fault, id);
        if let Some(allow) = self.allow {
            response.headers_mut().insert(ALLOW, allow);
        }
        response
    }
}

async fn enter(
    worker: &Worker,
    known: &Known,
    parts: http::request::Parts,
    body: Incoming,
    id: &RequestId,
    format: Format,
) -> Result<Response<Body>, Refused> {
    well_formed(&parts)?;
    let path = parts.uri.path();
    let door = DOORS.iter().find(|(p, ..)| *p == path);
    if !door.is_some_and(|(_, _, open, _)| *open) {
        auth::check(&parts.headers, &worker.client_key, known)?;
    }
    let one_model = path.strip_prefix(ONE_MODEL).filter(|name| !name.is_empty());
    let (methods, endpoint) = match (door, one_model) {
        (Some((_, methods, _, endpoint)), _) => (*methods, *endpoint),
        (None, Some(_)) => (&[Method::GET, Method::HEAD][..], Endpoint::Models),
        (None, None) => return Err(unknown_path(path).into()),
    };
    if !methods.contains(&parts.method) {
        return Err(wrong_method(&parts.method, path, methods));
    }
    match endpoint {
        // No box of its own: its place is made with the connection, and a box of this size is dear to make for each request.
        Endpoint::Answer(format, always_stream) => {
            answer(worker, parts.headers, body, id, (format, always_stream)).await
        }
        Endpoint::Count(format) => Box::pin(count(worker, parts.headers, body, id, format)).await,
        Endpoint::Models => list_models(worker, &parts.uri, one_model, format, id),
        Endpoint::Health => Ok(unless_draining(worker, json(health::basic(worker.gateway.drain.is_draining()), id))),
        Endpoint::HealthDetailed => {
            let Gateway { table, clock, drain, .. } = &worker.gateway;
            let body = health::detailed(&table.load(), clock.now(), &worker.standing.state(), drain);
            Ok(unless_draining(worker, json(body, id)))
        }
        Endpoint::Root => Ok(json(about(), id)),
    }
}

/// What hyper leaves to us: one Host (RFC 9112 3.2), and a target of sane length.
fn well_formed(parts: &http::request::Parts) -> Result<(), Fault> {
    let hosts = parts.headers.get_all(HOST).iter().count();
    if 1 < hosts || hosts == 0 && parts.version == Version::HTTP_11 {
        return Err(Fault::invalid("the request must have exactly one host header"));
    }
    let target = parts.uri.path_and_query().map_or(0, |p| p.as_str().len());
    if TARGET_BYTES_MAX < target {
        let message = format!("the path and query are longer than {} KiB", TARGET_BYTES_MAX / 1024);
        return Err(Fault::new(414, FaultKind::InvalidRequest, message));
    }
    Ok(())
}

/// Collects a request for an answer and passes it on.
async fn answer(
    worker: &Worker,
    headers: HeaderMap,
    mut body: Incoming,
    id: &RequestId,
    (format, always_stream): (Format, bool),
) -> Result<Response<Body>, Refused> {
    let body = collect(worker, &headers, &mut body).await?;
    let inbound = Inbound { id: id.clone(), format, always_stream, headers, body };
    Ok(worker.gateway.forward(inbound).await)
}

/// Collects a request to be counted and passes it on.
async fn count(
    worker: &Worker,
    headers: HeaderMap,
    mut body: Incoming,
    id: &RequestId,
    format: Format,
) -> Result<Response<Body>, Refused> {
    let body = collect(worker, &headers, &mut body).await?;
    let inbound = Inbound { id: id.clone(), format, always_stream: false, headers, body };
    Ok(worker.gateway.count(&inbound).await)
}

/// Which vendor's client is asking: told by its path, or, where both ask the same, by its headers.
fn format_of(uri: &Uri, headers: &HeaderMap) -> Format {
    let is_anthropic = uri.path().starts_with("/v1/messages") || headers.contains_key("anthropic-version");
    if is_anthropic { Format::Anthropic } else { Format::OpenaiChat }
}

fn list_models(
    worker: &Worker,
    uri: &Uri,
    one: Option<&str>,
    format: Format,
    id: &RequestId,
) -> Result<Response<Body>, Refused> {
    let table = worker.gateway.table.load();
    let Some(name) = one else {
        return Ok(json(models::list(&table, format, uri, worker.started), id));
    };
    let name = models::percent_decode(name);
    match table.resolve(&name) {
        Some(found) => Ok(json(models::one(&found.model, &name, format, worker.started), id)),
        None => {
            let message = format!("the model \"{name}\" does not exist; `GET /v1/models` lists those there are");
            Err(Fault::new(404, FaultKind::ModelNotFound, message).param("model").into())
        }
    }
}

/// Reads a request's body, refusing early what it declares to be too long.
async fn collect(worker: &Worker, headers: &HeaderMap, body: &mut Incoming) -> Result<Bytes, Refused> {
    let too_large = || {
        let message = format!("the request body is larger than {} MiB", REQUEST_BYTES_MAX / 1024 / 1024);
        Refused::from(Fault::new(413, FaultKind::TooLarge, message))
    };
    if headers.get(CONTENT_ENCODING).is_some_and(|e| e != "identity") {
        let message = "the request body is encoded; send it without content-encoding";
        return Err(Fault::new(415, FaultKind::InvalidRequest, message).into());
    }
    let declared = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|n| REQUEST_BYTES_MAX < n) {
        return Err(too_large());
    }
    let clock = worker.gateway.clock;
    let mut ends_at = None;
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = next_frame(worker, body).await? {
        let frame = frame.map_err(|e| Fault::invalid(format!("the request body could not be read: {e}")))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if REQUEST_BYTES_MAX < first.len() + rest.len() + data.len() {
            return Err(too_large());
        }
        // Almost every body comes in one piece, and is then not copied.
        if first.is_empty() && rest.is_empty() {
            first = data;
            continue;
        }
        // Looked at whenever something more came: whoever sends nothing is stopped by the other clock.
        let now = clock.now();
        if *ends_at.get_or_insert_with(|| now.after(BODY_TOTAL_MAX)) < now {
            return Err(too_slow());
        }
        if rest.is_empty() {
            // What is declared is not yet there: no more is set aside for it than a large prompt needs.
            rest.reserve(declared.unwrap_or(0).clamp(first.len() * 2, BODY_RESERVE_MAX.max(first.len() * 2)));
            rest.extend_from_slice(&first);
            first = Bytes::new();
        }
        rest.extend_from_slice(&data);
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

/// The next piece of a body. What is there already costs no timer.
async fn next_frame(
    worker: &Worker,
    body: &mut Incoming,
) -> Result<Option<Result<Frame<Bytes>, hyper::Error>>, Refused> {
    let at_once = poll_fn(|cx| Poll::Ready(Pin::new(&mut *body).poll_frame(cx))).await;
    match at_once {
        Poll::Ready(frame) => Ok(frame),
        // In a box, for all other requests carry its room about.
        Poll::Pending => {
            let mut waiting = Box::pin(tokio::time::timeout(BODY_IDLE_MAX, body.frame()));
            let waited = worker.gateway.drain.until_over(waiting.as_mut()).await;
            waited.ok_or_else(stopping)?.map_err(|_| too_slow())
        }
    }
}

/// Most memory set aside for a body before it has come.
const BODY_RESERVE_MAX: usize = 1024 * 1024;

fn too_slow() -> Refused {
    Fault::new(408, FaultKind::Timeout, "the request body did not arrive in time").into()
}

fn unknown_path(path: &str) -> Fault {
    let near = crate::route::near::near(path, DOORS.iter().map(|(p, ..)| *p));
    let known = match near.as_slice() {
        [] => "POST /v1/chat/completions, POST /v1/messages, GET /v1/models and GET /health are served".to_owned(),
        near => format!("did you mean {}?", near.join(" or ")),
    };
    let shown: String = path.chars().take(200).collect();
    Fault::new(404, FaultKind::NotFound, format!("there is nothing at {shown}; {known}"))
}

fn wrong_method(method: &Method, path: &str, methods: &[Method]) -> Refused {
    let names: Vec<&str> = methods.iter().map(Method::as_str).collect();
    let allow = names.join(", ");
    let message = format!("{method} is not allowed on {path}; use {}", names.first().copied().unwrap_or_default());
    Refused { fault: Fault::new(405, FaultKind::InvalidRequest, message), allow: HeaderValue::from_str(&allow).ok() }
}

fn json(body: Vec<u8>, id: &RequestId) -> Response<Body> {
    crate::gateway::json_response(body, id)
}

/// Who asks how we are should send nobody here once the end has begun.
fn unless_draining(worker: &Worker, mut response: Response<Body>) -> Response<Body> {
    if worker.gateway.drain.is_draining() {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

/// What `GET /` says: enough to see that this is the right port.
fn about() -> Vec<u8> {
    let mut out = Vec::new();
    let mut w = crate::wire::json::Writer::new(&mut out);
    w.object().key("name").str("model-proxy").key("version").str(env!("CARGO_PKG_VERSION")).key("endpoints").array();
    for (path, ..) in DOORS {
        w.str(path);
    }
    w.end_array().end_object();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_ends_its_own_future_only() {
        assert_eq!(unless_it_panics(pin!(async { 7 })).await, Some(7));
        let late = async {
            tokio::task::yield_now().await;
            assert!(format!("{}", 1).is_empty(), "on purpose");
            7
        };
        assert_eq!(unless_it_panics(pin!(late)).await, None);
    }
}
