//! Sending: one request to one origin, and its answer.
//!
//! The pool is our own, over `hyper::client::conn`, because whoever judges a failure must know how far the request
//! had come ([`Stage`]) and whether its connection had served before. Nothing here knows of formats, keys or
//! routes, retries what was sent, or follows a redirect.
//!
//! ```text
//! send ── take ──▶ a connection that rests, or shares ─┐
//!           └────▶ dial · proxy · TLS · ALPN ──────────┴▶ request ──▶ Answer { Body } ── ended ──▶ put
//!                                          any of it dropped: the socket closes (HTTP/2: the stream is reset)
//! ```
//!
//! Four clocks (LIMITS R5): `connect` covers everything up to a usable connection; `first_byte` runs from the request
//! sent to the head of the reply; `idle` runs while a reader waits for the next chunk; `total` bounds
//! [`Body::collect`] only.

mod body;
mod connect;
pub mod demo;
mod error;
mod gzip;
mod line;
mod pool;
mod proxy;
mod sent;
mod tls;
mod watch;

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use http::uri::{PathAndQuery, Scheme, Uri};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tokio::time::{Instant, timeout};

use crate::route::table::{Origin, Timeouts};
use crate::time::Clock;
use crate::wire::splice::Parts;

pub use body::Body;
pub use error::{ReadError, SendError, Stage, What};
pub use tls::{TlsError, tls_config};

use body::{Lease, Stream, Timer};
use connect::{Connector, HEAD_FIELDS_MAX};
use gzip::{Coding, Inflate};
use pool::{H1, H2, Keep, Place, Pool, Taken};
use sent::Sent;
use watch::{Watch, after};

/// Sends requests. There is one for each worker thread; copies share its connections.
#[derive(Clone)]
pub struct Upstream {
    pool: Arc<Pool>,
    connector: Connector,
}

/// What sending needs of its surroundings.
pub struct Settings {
    pub tls: Arc<rustls::ClientConfig>,
    pub spawn: Spawn,
    pub clock: Clock,
}

/// Runs a connection's driver. The server gives it, since it waits for its tasks.
pub type Spawn = Arc<dyn Fn(Pin<Box<dyn Future<Output = ()> + Send>>) + Send + Sync>;

/// One request, ready to go.
#[derive(Debug)]
pub struct Outgoing {
    pub origin: Arc<Origin>,
    pub method: Method,
    /// Path and query.
    pub path: PathAndQuery,
    /// Without `host` and `content-length`, which are set here.
    pub headers: HeaderMap,
    pub body: Parts,
    pub timeouts: Timeouts,
}

/// The head of a reply, and what is left of it.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    /// Without `content-encoding` and `content-length` where the body is decoded here.
    pub headers: HeaderMap,
    pub body: Body,
    /// The connection had served an earlier request.
    pub reused: bool,
}

impl Upstream {
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self::keeping(settings, Keep::default())
    }

    fn keeping(settings: Settings, keep: Keep) -> Self {
        let Settings { tls, spawn, clock } = settings;
        let connector = Connector { tls, spawn, clock, rest_max: keep.rest_max };
        Self { pool: Arc::new(Pool::new(keep)), connector }
    }

    /// Sends a request and waits for the head of its reply. Dropping the future takes the request back: its
    /// connection is closed.
    pub async fn send(&self, outgoing: Outgoing) -> Result<Answer, SendError> {
        let Outgoing { origin, method, path, headers, body, timeouts } = outgoing;
        let clock = self.connector.clock;
        let place = self.pool.place(&origin, clock)?;
        let mut request = request(method, path, headers, body)?;
        let mut fresh_ones = 0;
        loop {
            let (taken, reused) = match place.take() {
                Some(taken) => (taken, true),
                None => {
                    fresh_ones += 1;
                    Box::pin(self.connect(&place, &timeouts)).await?
                }
            };
            let exchanged = match taken {
                Taken::H1(connection) => place.exchange_h1(connection, request, &timeouts, reused).await,
                Taken::H2(h2) => place.exchange_h2(h2, request, &timeouts, reused, clock).await,
            };
            request = match exchanged {
                Ok(answer) => return Ok(answer),
                Err(Failed::Sent(error)) => return Err(error),
                // Nothing of it has left us, so no rule about sending twice applies. Each round uses up a
                // connection that rested.
                Err(Failed::Unsent(request)) if fresh_ones < FRESH_TRIES_MAX => *request,
                Err(Failed::Unsent(_)) => return Err(SendError::connect(What::Unsent)),
            };
        }
    }

    /// A connection made for this request, or one that another request has made in the meantime.
    async fn connect(&self, place: &Place, timeouts: &Timeouts) -> Result<(Taken, bool), SendError> {
        let connecting = async {
            let mut turn = None;
            if !place.speaks_h1() {
                // It is never closed, so there is always a turn.
                turn = place.gate.acquire().await.ok();
                if let Some(taken) = place.take() {
                    return Ok((taken, true));
                }
            }
            // Whoever went first may have learned that each needs a connection of its own.
            if place.speaks_h1() {
                turn = None;
            }
            let taken = self.connector.connect(&place.origin).await?;
            place.learn(&taken);
            drop(turn);
            Ok((taken, false))
        };
        match timeout(timeouts.connect, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(SendError::connect(What::ConnectTimeout)),
        }
    }
}

/// Connections made for one request that were all closed before it could be written.
const FRESH_TRIES_MAX: u32 = 2;

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("pool", &self.pool).finish_non_exhaustive()
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").finish_non_exhaustive()
    }
}

/// Why an exchange gave no answer.
enum Failed {
    /// The connection had closed; the request is as it was.
    Unsent(Box<Request<Sent>>),
    Sent(SendError),
}

impl Place {
    async fn exchange_h1(
        self: &Arc<Self>,
        mut connection: H1,
        mut request: Request<Sent>,
        timeouts: &Timeouts,
        reused: bool,
    ) -> Result<Answer, Failed> {
        if self.is_relayed() {
            self.address_whole(&mut request).map_err(Failed::Sent)?;
            if let Some(secret) = &self.proxy_authorization {
                request.headers_mut().insert(header::PROXY_AUTHORIZATION, secret.clone());
            }
        }
        request.headers_mut().insert(header::HOST, self.host.clone());
        let read_before = connection.line.bytes_read();
        let started = Instant::now();
        let mut watch = connection.watch.take();
        let sending = connection.sender.try_send_request(request);
        let response = match head(sending, &mut watch, timeouts, started).await {
            None => return Err(Failed::Sent(SendError::new(Stage::FirstByte, What::FirstByteTimeout).reused(reused))),
            Some(Ok(response)) => response,
            Some(Err(mut error)) => {
                if let Some(request) = error.take_message() {
                    return Err(Failed::Unsent(Box::new(request)));
                }
                let untouched = connection.line.bytes_read() == read_before;
                let error = error.into_error();
                let failed = if error.is_parse_too_large() {
                    SendError::new(Stage::Head, What::HeadTooLarge)
                } else if error.is_parse() {
                    SendError::new(Stage::Head, What::NotHttp)
                } else if untouched {
                    if reused {
                        self.condemn(None);
                    }
                    SendError::new(Stage::Sent, What::Closed)
                } else {
                    SendError::new(Stage::Head, What::HeadCut)
                };
                return Err(Failed::Sent(failed.because(error).reused(reused)));
            }
        };
        let timer = Timer::new(watch, timeouts, started);
        let lease = Lease::H1 { connection, place: Arc::clone(self) };
        answer(response, lease, timer, reused).map_err(Failed::Sent)
    }

    async fn exchange_h2(
        self: &Arc<Self>,
        mut h2: H2,
        mut request: Request<Sent>,
        timeouts: &Timeouts,
        reused: bool,
        clock: Clock,
    ) -> Result<Answer, Failed> {
        let stream = Stream { line: Arc::clone(&h2.line), clock };
        self.address_whole(&mut request).map_err(Failed::Sent)?;
        request.headers_mut().remove(header::HOST);
        let started = Instant::now();
        let mut watch = None;
        let sending = h2.sender.try_send_request(request);
        let response = match head(sending, &mut watch, timeouts, started).await {
            None => return Err(Failed::Sent(SendError::new(Stage::FirstByte, What::FirstByteTimeout).reused(reused))),
            Some(Ok(response)) => response,
            Some(Err(mut error)) => {
                if let Some(request) = error.take_message() {
                    self.condemn(Some(&h2.line));
                    return Err(Failed::Unsent(Box::new(request)));
                }
                let error = error.into_error();
                let died = is_connection_error(&error);
                if died {
                    self.condemn(Some(&h2.line));
                }
                let what = if died { What::Closed } else { What::Reset };
                let failed = SendError::new(Stage::Sent, what).because(error).reused(reused && died);
                return Err(Failed::Sent(failed));
            }
        };
        let timer = Timer::new(watch, timeouts, started);
        answer(response, Lease::H2 { _stream: stream }, timer, reused).map_err(Failed::Sent)
    }

    /// Writes scheme and authority into the request's target.
    fn address_whole(&self, request: &mut Request<Sent>) -> Result<(), SendError> {
        if request.uri().authority().is_some() {
            return Ok(());
        }
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(if self.origin.tls { Scheme::HTTPS } else { Scheme::HTTP });
        parts.authority = Some(self.authority.clone());
        *request.uri_mut() = Uri::from_parts(parts).map_err(|e| SendError::connect(What::Address).because(e))?;
        Ok(())
    }
}

/// Whether the connection failed and not just one stream of it. A refused stream counts: RFC 9113 8.7 promises that
/// nothing was done with it.
fn is_connection_error(error: &hyper::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(h2) = cause.downcast_ref::<h2::Error>() {
            return !h2.is_reset() || h2.reason() == Some(h2::Reason::REFUSED_STREAM);
        }
        source = cause.source();
    }
    true
}

/// The request as it goes to an HTTP/1 origin.
fn request(method: Method, path: PathAndQuery, headers: HeaderMap, body: Parts) -> Result<Request<Sent>, SendError> {
    let mut request = Request::new(Sent::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from(path);
    *request.headers_mut() = headers;
    let headers = request.headers_mut();
    // Our body knows its length. A header that says otherwise would let two requests be read out of one.
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::TRANSFER_ENCODING);
    headers.entry(header::ACCEPT_ENCODING).or_insert(HeaderValue::from_static("identity"));
    Ok(request)
}

/// Waits for the head of a reply; `None` if it takes too long.
async fn head<F>(
    sending: F,
    watch: &mut Option<Watch>,
    timeouts: &Timeouts,
    started: Instant,
) -> Option<Result<Response<Incoming>, TrySendError<Request<Sent>>>>
where
    F: Future<Output = Result<Response<Incoming>, TrySendError<Request<Sent>>>>,
{
    let mut sending = pin!(sending);
    let deadline = after(started, timeouts.first_byte);
    poll_fn(|cx| {
        if let Poll::Ready(response) = sending.as_mut().poll(cx) {
            return Poll::Ready(Some(response));
        }
        watch.get_or_insert_with(|| Watch::new(deadline)).poll_past(cx, deadline).map(|()| None)
    })
    .await
}

/// Puts an answer together. The body is decoded where it has to be.
fn answer(response: Response<Incoming>, lease: Lease, timer: Timer, reused: bool) -> Result<Answer, SendError> {
    let (head, incoming) = response.into_parts();
    let mut headers = head.headers;
    if HEAD_FIELDS_MAX < headers.len() {
        return Err(SendError::new(Stage::Head, What::HeadTooLarge).reused(reused));
    }
    let inflate = match Coding::of(&headers) {
        Coding::Identity => None,
        Coding::Gzip => Some(Box::new(Inflate::gzip())),
        Coding::Deflate => Some(Box::new(Inflate::deflate())),
        Coding::Unknown => return Err(SendError::new(Stage::Head, What::Encoding).reused(reused)),
    };
    if inflate.is_some() {
        headers.remove(header::CONTENT_ENCODING);
        headers.remove(header::CONTENT_LENGTH);
    }
    let body = Body::net(incoming, lease, inflate, timer);
    Ok(Answer { status: head.status, headers, body, reused })
}

#[cfg(test)]
mod tests;
