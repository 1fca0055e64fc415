//! Sending: one request to one origin, and its answer.
//!
//! The pool is our own, over `hyper::client::conn`, because whoever judges a failure must know how far the request
//! had come ([`Stage`]) and whether its connection had served before: `exchange.rs` is one request on one connection,
//! `h1.rs` and `line.rs` are the connections, `pool.rs` is where they rest. Nothing here knows of formats, keys or
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
mod exchange;
mod gzip;
mod h1;
mod line;
mod pool;
mod proxy;
mod sent;
mod tls;
pub(crate) mod watch;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use http::uri::{PathAndQuery, Uri};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use tokio::time::timeout;

use crate::route::table::{Origin, Timeouts};
use crate::time::Clock;

pub use body::Body;
pub use error::{ReadError, SendError, Stage, What};
pub use pool::Keep;
pub use tls::{TlsError, tls_config};

use connect::Connector;
use exchange::{Exchange, Failed};
use pool::{Place, Pool, Taken};
use sent::Sent;
pub use sent::{BoxError, Load, Unsent, Upload};

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
    pub keep: Keep,
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
    /// Without `host` and `content-length`, which are set here. Who wants plain bodies says so in `accept-encoding`.
    pub headers: HeaderMap,
    pub body: Load,
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
        Self::resolving(settings, connect::by_system())
    }

    fn resolving(settings: Settings, resolve: connect::Resolve) -> Self {
        let Settings { tls, spawn, clock, keep } = settings;
        let connector = Connector { tls, spawn, clock, rest_max: keep.rest_max, resolve };
        Self { pool: Arc::new(Pool::new(keep)), connector }
    }

    /// Sends a request and waits for the head of its reply. Dropping the future takes the request back: its
    /// connection is closed.
    ///
    /// Where a connection rests, the request is on it before this returns.
    pub fn send(&self, outgoing: Outgoing) -> impl Future<Output = Result<Answer, SendError>> + Send + '_ {
        let timeouts = outgoing.timeouts;
        let begun = self.begin(outgoing);
        async move {
            let (place, mut step) = begun?;
            let mut fresh_ones = 0;
            loop {
                let mut exchange = match step {
                    Step::Sent(exchange) => exchange,
                    // Nothing of it has left us, so no rule about sending twice applies. Each round uses up a
                    // connection.
                    Step::Ready(_) if fresh_ones == FRESH_TRIES_MAX => return Err(SendError::connect(What::Unsent)),
                    Step::Ready(request) => {
                        fresh_ones += 1;
                        let (taken, reused) = Box::pin(self.connect(&place, &timeouts)).await?;
                        Exchange::start(&place, taken, *request, reused)?
                    }
                };
                let head = exchange.head(&timeouts).await;
                step = match exchange.answer(head, &place, &timeouts) {
                    Ok(answer) => return Ok(answer),
                    Err(Failed::Sent(error)) => return Err(error),
                    Err(Failed::Unsent(request)) => step_on(&place, *request)?,
                };
            }
        }
    }

    fn begin(&self, outgoing: Outgoing) -> Result<(Arc<Place>, Step), SendError> {
        let place = self.pool.place(&outgoing.origin, &self.connector)?;
        let step = step_on(&place, request(outgoing))?;
        Ok((place, step))
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

/// How far a request has come.
enum Step {
    /// No connection rests: one is to be made.
    Ready(Box<Request<Sent>>),
    Sent(Exchange),
}

/// Hands a request to a connection that rests, or shares, if there is one.
fn step_on(place: &Arc<Place>, request: Request<Sent>) -> Result<Step, SendError> {
    match place.take() {
        Some(taken) => Exchange::start(place, taken, request, true).map(Step::Sent),
        None => Ok(Step::Ready(Box::new(request))),
    }
}

/// The request as it goes to an HTTP/1 origin.
fn request(outgoing: Outgoing) -> Request<Sent> {
    let sent = Sent::new(outgoing.body);
    let length = sent.length();
    let mut request = Request::new(sent);
    *request.method_mut() = outgoing.method;
    *request.uri_mut() = Uri::from(outgoing.path);
    *request.headers_mut() = outgoing.headers;
    let headers = request.headers_mut();
    // Our body knows its length. A header that says otherwise would let two requests be read out of one.
    match length.and_then(|length| usize::try_from(length).ok()) {
        Some(length) => headers.insert(header::CONTENT_LENGTH, decimal(length)),
        None => headers.remove(header::CONTENT_LENGTH),
    };
    headers.remove(header::TRANSFER_ENCODING);
    request
}

/// A number as a header. The library's own way takes two allocations and five times as long.
fn decimal(n: usize) -> HeaderValue {
    let mut digits = [b'0'; 20];
    let mut left = n;
    let mut count = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(left % 10).unwrap_or(0);
        left /= 10;
        count += 1;
        if left == 0 {
            break;
        }
    }
    let written = digits.get(digits.len() - count..).unwrap_or_default();
    HeaderValue::from_bytes(written).unwrap_or_else(|_| HeaderValue::from(n))
}

#[cfg(test)]
mod tests;
