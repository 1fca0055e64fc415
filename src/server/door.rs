//! The door: which endpoint a request is for, in which format its client speaks, and whether it may come in.

use std::convert::Infallible;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use http::header::{ALLOW, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HOST, RETRY_AFTER, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;

use crate::config::clients::Client;
use crate::gateway::{Body, Inbound, Limited, Passing, Place, RequestId};
use crate::route::table::Model;
use crate::server::auth::Known;
use crate::server::intake::{self, Taken};
use crate::server::refusal::{self, Refusal};
use crate::server::worker::Worker;
use crate::server::{auth, cors, health, models, scrape};
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
    /// A path that is passed through.
    Passage,
    Metrics,
    Health,
    HealthDetailed,
    Live,
    Ready,
    Root,
}

/// Every path there is, the methods it takes, and whether it is open to those without a key.
const DOORS: [(&str, &[Method], bool, Endpoint); 16] = [
    ("/v1/chat/completions", &[Method::POST], false, Endpoint::Answer(Format::OpenaiChat, false)),
    ("/v1/chat/completions-stream", &[Method::POST], false, Endpoint::Answer(Format::OpenaiChat, true)),
    ("/v1/chat/completions/stream", &[Method::POST], false, Endpoint::Answer(Format::OpenaiChat, true)),
    ("/v1/responses", &[Method::POST], false, Endpoint::Answer(Format::OpenaiResponses, false)),
    ("/v1/responses/input_tokens", &[Method::POST], false, Endpoint::Count(Format::OpenaiResponses)),
    ("/v1/messages", &[Method::POST], false, Endpoint::Answer(Format::Anthropic, false)),
    ("/v1/messages/count_tokens", &[Method::POST], false, Endpoint::Count(Format::Anthropic)),
    ("/v1/messages-stream", &[Method::POST], false, Endpoint::Answer(Format::Anthropic, true)),
    ("/v1/models", &[Method::GET, Method::HEAD], false, Endpoint::Models),
    ("/metrics", &[Method::GET, Method::HEAD], false, Endpoint::Metrics),
    ("/health", &[Method::GET, Method::HEAD], true, Endpoint::Health),
    ("/health/detailed", &[Method::GET, Method::HEAD], false, Endpoint::HealthDetailed),
    ("/healthz", &[Method::GET, Method::HEAD], true, Endpoint::Health),
    ("/livez", &[Method::GET, Method::HEAD], true, Endpoint::Live),
    ("/readyz", &[Method::GET, Method::HEAD], true, Endpoint::Ready),
    ("/", &[Method::GET, Method::HEAD], true, Endpoint::Root),
];

/// One model's path goes on with its name, which may hold slashes.
const ONE_MODEL: &str = "/v1/models/";

/// A request's head and its body. The head is boxed: a future keeps room for what it is given and once more for what it makes
/// of it, and there are several on the way.
pub(super) fn split(request: Request<Incoming>) -> (Box<Parts>, Incoming) {
    let (parts, body) = request.into_parts();
    (Box::new(parts), body)
}

/// Answers one request, whatever it is.
pub(super) async fn serve(
    worker: &Worker,
    known: &Known,
    parts: Box<Parts>,
    body: Incoming,
) -> Result<Response<Body>, Infallible> {
    let id = worker.ids.of(&parts.headers);
    let format = format_of(&parts.uri, &parts.headers);
    // What follows may be spoken in the other protocol: it is not read as a request.
    let closes = parts.headers.contains_key(UPGRADE);
    let grant = worker.cors.grant(&parts.method, &parts.headers);
    // What is needed should it be refused: copies of both are cheap.
    let (method, uri) = (parts.method.clone(), parts.uri.clone());
    let answered = match well_formed(&parts, closes, worker.gateway.bounds.target_bytes) {
        Err(refusal) => Err(refusal),
        Ok(()) => {
            let entered = pin!(enter(worker, known, parts, body, &id, format));
            let mistake = || Err(Fault::new(500, FaultKind::Server, "an error of the proxy's own").into());
            unless_it_panics(entered).await.unwrap_or_else(mistake)
        }
    };
    let mut response = answered.unwrap_or_else(|refusal| {
        let (limited, why) = (refusal.limited(), refusal.why());
        let response = refusal.respond(format, &id);
        let now = worker.gateway.clock.now();
        worker.refusals.note(now, &id, (&method, uri.path()), (response.status(), &why));
        let limited = limited.as_ref().map(|(client, kind)| (&**client, *kind));
        if let Some(journal) = &worker.journal {
            refusal::keep(journal, (&id, format), (&method, uri.path()), (response.status(), &why), limited);
        }
        worker.metrics.refused(response.status().as_u16(), limited);
        response
    });
    grant.apply(response.headers_mut());
    if closes {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
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

async fn enter(
    worker: &Worker,
    known: &Known,
    parts: Box<Parts>,
    body: Incoming,
    id: &RequestId,
    format: Format,
) -> Result<Response<Body>, Refusal> {
    let path = parts.uri.path();
    let door = DOORS.iter().find(|(p, ..)| *p == path);
    let one_model = path.strip_prefix(ONE_MODEL).filter(|name| !name.is_empty());
    let passed: Vec<Method>;
    let methods = match (door, one_model) {
        (Some((_, methods, ..)), _) => Some(*methods),
        (None, Some(_)) => Some(&[Method::GET, Method::HEAD][..]),
        (None, None) => {
            passed = passed_methods(worker, path);
            (!passed.is_empty()).then_some(passed.as_slice())
        }
    };
    // It bears no key: a browser asks before it has one to show.
    if let Some(methods) = methods.filter(|_| parts.method == Method::OPTIONS) {
        return Ok(options(worker, methods, &parts.headers, id));
    }
    // Checked wherever it is not open; asked for only where it is used.
    let client = match door {
        Some((_, _, true, _)) => None,
        Some(_) | None => Some(auth::check(&parts.headers, &worker.clients.load(), known)?),
    };
    let Some(methods) = methods else {
        return Err(unknown_path(path).into());
    };
    let endpoint = match door {
        Some((.., endpoint)) => *endpoint,
        None if one_model.is_some() => Endpoint::Models,
        None => Endpoint::Passage,
    };
    if !methods.contains(&parts.method) {
        return Err(wrong_method(&parts.method, path, methods));
    }
    match endpoint {
        // No box of its own: its place is made with the connection, and a box of this size is dear to make for each request.
        Endpoint::Answer(format, always_stream) => {
            let place = admitted(worker, client.as_deref())?;
            let mut inbound = inbound(worker, format, (parts.headers, body), id, (client, place)).await?;
            inbound.always_stream = always_stream;
            Ok(worker.gateway.forward(inbound).await)
        }
        Endpoint::Count(format) => {
            // Counting is not limited, so whoever has nothing left may count.
            let place = place(worker)?;
            Box::pin(async {
                let inbound = inbound(worker, format, (parts.headers, body), id, (client, place)).await?;
                Ok(worker.gateway.count(inbound).await)
            })
            .await
        }
        Endpoint::Passage => Box::pin(pass(worker, parts, body, id, (format, client))).await,
        Endpoint::Models => list_models(worker, (&parts.uri, one_model), client.as_deref(), format, id),
        Endpoint::Health => Ok(unless_draining(worker, json(health::basic(worker.gateway.drain.is_draining()), id))),
        Endpoint::HealthDetailed => Ok(unless_draining(worker, json(health::detailed(worker), id))),
        Endpoint::Metrics => match &worker.metrics_at {
            Some(place) => {
                let message = format!("metrics are served at {place}/metrics (--metrics-listen)");
                Err(Fault::new(404, FaultKind::NotFound, message).into())
            }
            None => Ok(metrics(worker, id)),
        },
        // That it is said is all there is to say.
        Endpoint::Live => Ok(plain("ok\n", id)),
        Endpoint::Ready => Ok(ready(worker, &parts.uri, id)),
        Endpoint::Root => Ok(json(about(), id)),
    }
}

/// What hyper leaves to us: one Host that is one (RFC 9112 3.2), no other protocol, and a target of sane length.
fn well_formed(parts: &Parts, has_upgrade: bool, target_max: usize) -> Result<(), Refusal> {
    if parts.method == Method::CONNECT {
        let message = "CONNECT is not served: this is no forward proxy, its own paths are asked";
        return Err(Refusal::closing(Fault::new(405, FaultKind::InvalidRequest, message)).allowing("GET, HEAD, POST"));
    }
    // Whoever offers HTTP/2 is answered in HTTP/1.1, as any server may (RFC 9110 7.8).
    if has_upgrade && parts.headers.get(UPGRADE).is_some_and(|to| !to.as_bytes().eq_ignore_ascii_case(b"h2c")) {
        return Err(Refusal::closing(Fault::invalid("no other protocol is spoken here: send no upgrade header")));
    }
    host(parts)?;
    framing(&parts.headers)?;
    if target_max < parts.uri.path_and_query().map_or(0, |p| p.as_str().len()) {
        let message = format!("the path and query are longer than {target_max} bytes (uri_bytes)");
        return Err(Refusal::closing(Fault::new(414, FaultKind::InvalidRequest, message)));
    }
    Ok(())
}

/// hyper asks no more than that a body ends in chunks. What else was done to it we would not undo, but somebody before us might.
fn framing(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else {
        return Ok(());
    };
    if codings.next().is_none() && coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let message = "transfer-encoding may be chunked and nothing else";
    Err(Refusal::closing(Fault::invalid(message)))
}

/// Nothing here depends on the host; what is ambiguous about it might for somebody before us.
fn host(parts: &Parts) -> Result<(), Refusal> {
    let wrong = |message: &str| Err(Refusal::closing(Fault::invalid(message)));
    let mut hosts = parts.headers.get_all(HOST).iter();
    let first = hosts.next();
    if hosts.next().is_some() || first.is_none() && parts.version == Version::HTTP_11 {
        return wrong("the request must have exactly one host header");
    }
    let Some(first) = first.filter(|host| !host.is_empty()) else {
        return Ok(());
    };
    if parts.version != Version::HTTP_2 && is_plain_host(first.as_bytes()) {
        return Ok(());
    }
    let Some(host) = Authority::try_from(first.as_bytes()).ok().filter(|host| !host.as_str().contains('@')) else {
        return wrong("the host header names no host");
    };
    // RFC 9113 8.3.1 forbids that they differ. In HTTP/1.1 the target wins (RFC 9112 3.2.2).
    if parts.version == Version::HTTP_2 && parts.uri.authority().is_some_and(|target| *target != host) {
        return wrong("the host header and :authority differ");
    }
    Ok(())
}

/// Collects a request that has a place. Whoever has used up what it may has been told before it has sent all of it.
async fn inbound(
    worker: &Worker,
    format: Format,
    (headers, mut body): (HeaderMap, Incoming),
    id: &RequestId,
    (client, place): (Option<Arc<Client>>, Place),
) -> Result<Box<Inbound>, Refusal> {
    let Taken { body, room } = intake::collect(worker, &headers, &mut body).await?;
    let (place, room) = (Some(place), Some(room));
    Ok(Box::new(Inbound { id: id.clone(), format, headers, body, client, place, room, ..Inbound::default() }))
}

/// As nearly all are: letters, digits, dots and dashes, and perhaps a port.
fn is_plain_host(host: &[u8]) -> bool {
    let end = host.iter().position(|b| *b == b':');
    let (name, port) = host.split_at_checked(end.unwrap_or(host.len())).unwrap_or((host, b""));
    let port = port.strip_prefix(b":").unwrap_or(b"0");
    let is_name = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
    !name.is_empty() && name.iter().all(is_name) && (1..=5).contains(&port.len()) && port.iter().all(u8::is_ascii_digit)
}

/// A place for a request of a client that has something left.
fn admitted(worker: &Worker, client: Option<&Client>) -> Result<Place, Refusal> {
    if let Some(client) = client {
        worker.gateway.peek(client).map_err(|Limited { fault, headers, kind }| {
            Refusal::from(*fault).with(headers).limiting(&client.name, kind)
        })?;
    }
    place(worker)
}

/// A place for a request.
fn place(worker: &Worker) -> Result<Place, Refusal> {
    worker.gateway.capacity.enter().ok_or_else(|| {
        let message = "as many requests are under way as there may be (requests_in_flight); try again soon";
        Refusal::from(Fault::new(503, FaultKind::Unavailable, message)).retry_after(1)
    })
}

/// The methods of a path that is passed through; none, if it is not.
fn passed_methods(worker: &Worker, path: &str) -> Vec<Method> {
    let table = worker.gateway.table.load();
    let routes = table.passing(path).flat_map(|model| &model.routes);
    let mut methods: Vec<Method> = Vec::new();
    for method in routes.filter_map(|route| route.passes(path)).flat_map(|(passed, _)| &passed.methods) {
        if !methods.contains(method) {
            methods.push(method.clone());
        }
    }
    methods
}

/// Passes a request through: JSON is kept for all attempts, anything else goes on as it comes.
async fn pass(
    worker: &Worker,
    parts: Box<Parts>,
    body: Incoming,
    id: &RequestId,
    (format, client): (Format, Option<Arc<Client>>),
) -> Result<Response<Body>, Refusal> {
    let Parts { method, uri, headers, .. } = *parts;
    let is_empty = hyper::body::Body::is_end_stream(&body);
    let is_json = headers.get(CONTENT_TYPE).is_some_and(|kind| intake::says_json(kind.as_bytes()));
    let (path, query) = (uri.path().into(), uri.query().map(Into::into));
    let mut passing = Passing { method, path, query, upload: None };
    let place = admitted(worker, client.as_deref())?;
    if is_empty || is_json && !headers.contains_key(CONTENT_ENCODING) {
        let inbound = inbound(worker, format, (headers, body), id, (client, place)).await?;
        return Ok(worker.gateway.pass(inbound, passing).await);
    }
    passing.upload = Some(intake::upload(worker, &headers, body)?);
    let inbound = Inbound { id: id.clone(), format, headers, client, place: Some(place), ..Inbound::default() };
    Ok(worker.gateway.pass(Box::new(inbound), passing).await)
}

/// Which vendor's client is asking: told by its path, or, where both ask the same, by its headers.
fn format_of(uri: &Uri, headers: &HeaderMap) -> Format {
    let path = uri.path();
    if path.starts_with("/v1/responses") {
        Format::OpenaiResponses
    } else if path.starts_with("/v1/messages") || headers.contains_key("anthropic-version") {
        Format::Anthropic
    } else {
        Format::OpenaiChat
    }
}

fn list_models(
    worker: &Worker,
    (uri, one): (&Uri, Option<&str>),
    client: Option<&Client>,
    format: Format,
    id: &RequestId,
) -> Result<Response<Body>, Refusal> {
    let table = worker.gateway.table.load();
    let may_use = |model: &Model, name: &str| client.is_none_or(|client| client.may_use(&model.name, name));
    let Some(name) = one else {
        return Ok(json(models::list(&table, |model| may_use(model, &model.name), (format, uri), worker.started), id));
    };
    let name = models::percent_decode(name);
    match table.resolve(&name).filter(|found| may_use(&found.model, &name)) {
        Some(found) => Ok(json(models::one(&found.model, &name, format, worker.started), id)),
        None => {
            let message = format!("the model \"{name}\" does not exist; `GET /v1/models` lists those there are");
            Err(Fault::new(404, FaultKind::ModelNotFound, message).param("model").into())
        }
    }
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

fn wrong_method(method: &Method, path: &str, methods: &[Method]) -> Refusal {
    let names: Vec<&str> = methods.iter().map(Method::as_str).collect();
    let allow = names.join(", ");
    // Either may be as long as a head.
    let (method, path) = (method.as_str().get(..20).unwrap_or(method.as_str()), path.get(..200).unwrap_or(path));
    let message = format!("{method} is not allowed on {path}; use {}", names.join(" or "));
    Refusal::from(Fault::new(405, FaultKind::InvalidRequest, message)).allowing(&allow)
}

fn json(body: Vec<u8>, id: &RequestId) -> Response<Body> {
    crate::gateway::json_response(body, id)
}

/// Who asks how we are should send nobody here once the end has begun.
fn unless_draining(worker: &Worker, mut response: Response<Body>) -> Response<Body> {
    if worker.gateway.drain.is_draining() {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(1));
    }
    response
}

/// Answers one request on a port of those who watch: it answers when the others have no connection left.
pub(super) fn serve_metrics(worker: &Worker, parts: &Parts) -> Result<Response<Body>, Infallible> {
    let id = worker.ids.of(&parts.headers);
    let refused = |status, kind, message: &str| {
        Ok(Refusal::from(Fault::new(status, kind, message)).respond(Format::OpenaiChat, &id))
    };
    match (parts.uri.path(), &parts.method) {
        ("/metrics", &Method::GET | &Method::HEAD) => Ok(metrics(worker, &id)),
        ("/livez", &Method::GET | &Method::HEAD) => Ok(plain("ok\n", &id)),
        ("/readyz", &Method::GET | &Method::HEAD) => Ok(ready(worker, &parts.uri, &id)),
        ("/metrics" | "/livez" | "/readyz", _) => refused(405, FaultKind::InvalidRequest, "use GET"),
        _ => refused(404, FaultKind::NotFound, "nothing but /metrics, /livez and /readyz is served here"),
    }
}

fn metrics(worker: &Worker, id: &RequestId) -> Response<Body> {
    let text = crate::metrics::render(&worker.counted, &scrape::scraped(worker));
    let mut response = plain(&text, id);
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// What may be asked of a path (RFC 9110 9.3.7), and for whose pages.
fn options(worker: &Worker, methods: &[Method], asked: &HeaderMap, id: &RequestId) -> Response<Body> {
    let names = methods.iter().map(Method::as_str).chain(["OPTIONS"]).collect::<Vec<_>>().join(", ");
    let mut response = plain("", id);
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.remove(CONTENT_TYPE);
    if let Ok(names) = HeaderValue::from_str(&names) {
        headers.insert(ALLOW, names);
    }
    if cors::is_preflight(&Method::OPTIONS, asked) {
        cors::preflight(&worker.cors.grant(&Method::OPTIONS, asked), &names, asked, headers);
    }
    response
}

/// Whether requests are better sent here or elsewhere, for who spreads them; with `?verbose` and why.
fn ready(worker: &Worker, uri: &Uri, id: &RequestId) -> Response<Body> {
    let checks = health::checks(worker);
    let is_ready = checks.iter().all(|(_, is_well)| *is_well);
    let mut text = String::new();
    if uri.query().is_some_and(|query| query.split('&').any(|part| part == "verbose" || part.starts_with("verbose="))) {
        for (what, is_well) in &checks {
            text.push_str(&format!(
                "[{}]{what} {}\n",
                if *is_well { '+' } else { '-' },
                if *is_well { "ok" } else { "failed" }
            ));
        }
    }
    text.push_str(if is_ready { "ok\n" } else { "not ready\n" });
    let mut response = plain(&text, id);
    if !is_ready {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(1));
    }
    response
}

fn plain(text: &str, id: &RequestId) -> Response<Body> {
    let mut response = crate::gateway::json_response(text.as_bytes().to_vec(), id);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
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
