//! One request on one connection, until the head of its reply.
//!
//! What is large is handed to hyper before anything is waited for, and what is waited for stands in a box: so whoever
//! awaits an exchange carries little, and nothing large is moved each time futures are nested.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use http::uri::{Scheme, Uri};
use http::{Request, Response, header};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tokio::time::Instant;

use crate::route::table::Timeouts;
use crate::upstream::body::{Lease, Stream, Timer};
use crate::upstream::connect::HEAD_FIELDS_MAX;
use crate::upstream::error::{SendError, Stage, What};
use crate::upstream::gzip::{Coding, Inflate};
use crate::upstream::h1::H1;
use crate::upstream::pool::{Place, Taken};
use crate::upstream::sent::Sent;
use crate::upstream::watch::{Watch, after};
use crate::upstream::{Answer, Body};

/// A request that was handed to its connection.
pub(super) struct Exchange {
    sending: Sending,
    way: Way,
    /// The connection had served an earlier request.
    reused: bool,
    watch: Option<Watch>,
    started: Instant,
}

type Sending = Pin<Box<dyn Future<Output = Replied> + Send>>;

/// The head of a reply, or why there is none.
type Replied = Result<Response<Incoming>, TrySendError<Request<Sent>>>;

/// What the request travels on.
enum Way {
    H1 { connection: Box<H1>, read_before: u64 },
    H2(Stream),
}

/// Why an exchange gave no answer.
pub(super) enum Failed {
    /// The connection had closed; the request is as it was.
    Unsent(Box<Request<Sent>>),
    Sent(SendError),
}

impl Exchange {
    /// Hands a request over.
    pub(super) fn start(
        place: &Place,
        taken: Taken,
        mut request: Request<Sent>,
        reused: bool,
    ) -> Result<Self, SendError> {
        let started = Instant::now();
        match taken {
            Taken::H1(mut connection) => {
                if place.is_relayed() {
                    address_whole(place, &mut request)?;
                    if let Some(secret) = &place.proxy_authorization {
                        request.headers_mut().insert(header::PROXY_AUTHORIZATION, secret.clone());
                    }
                }
                request.headers_mut().insert(header::HOST, place.host.clone());
                let read_before = connection.bytes_read();
                let watch = connection.watch.take();
                let sending = Box::pin(connection.sender.try_send_request(request));
                Ok(Self { sending, way: Way::H1 { connection, read_before }, reused, watch, started })
            }
            Taken::H2(mut h2) => {
                let stream = Stream { line: h2.line, clock: place.clock };
                address_whole(place, &mut request)?;
                request.headers_mut().remove(header::HOST);
                let sending = Box::pin(h2.sender.try_send_request(request));
                Ok(Self { sending, way: Way::H2(stream), reused, watch: None, started })
            }
        }
    }

    /// Waits for the head of the reply; `None` if it takes longer than the first byte may.
    pub(super) fn head(&mut self, timeouts: &Timeouts) -> impl Future<Output = Option<Replied>> + Send {
        let deadline = after(self.started, timeouts.first_byte);
        poll_fn(move |cx| {
            let sending = &mut self.sending;
            let replied = match &mut self.way {
                Way::H1 { connection, .. } => connection.drive(cx, |cx| sending.as_mut().poll(cx)),
                Way::H2(_) => sending.as_mut().poll(cx),
            };
            if let Poll::Ready(replied) = replied {
                return Poll::Ready(Some(replied));
            }
            self.watch.get_or_insert_with(|| Watch::new(deadline)).poll_past(cx, deadline).map(|()| None)
        })
    }

    /// What came of it.
    pub(super) fn answer(
        self,
        head: Option<Replied>,
        place: &Arc<Place>,
        timeouts: &Timeouts,
    ) -> Result<Answer, Failed> {
        match head {
            None => Err(Failed::Sent(SendError::new(Stage::FirstByte, What::FirstByteTimeout).reused(self.reused))),
            Some(Ok(response)) => self.settle(response, place, timeouts).map_err(Failed::Sent),
            Some(Err(error)) => Err(self.failed(error, place)),
        }
    }

    /// Puts an answer together. The body is decoded where it has to be.
    fn settle(
        self,
        response: Response<Incoming>,
        place: &Arc<Place>,
        timeouts: &Timeouts,
    ) -> Result<Answer, SendError> {
        let reused = self.reused;
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
        let timer = Timer::new(self.watch, timeouts, self.started);
        let lease = match self.way {
            Way::H1 { connection, .. } => Lease::H1 { connection, place: Arc::clone(place) },
            Way::H2(stream) => Lease::H2 { _stream: stream },
        };
        Ok(Answer { status: head.status, headers, body: Body::net(incoming, lease, inflate, timer), reused })
    }

    /// What went wrong. A connection that is found dead takes those that rested beside it along.
    fn failed(self, mut error: TrySendError<Request<Sent>>, place: &Place) -> Failed {
        let unsent = error.take_message().map(Box::new);
        let error = error.into_error();
        let (failed, reused) = match self.way {
            Way::H1 { connection, read_before } => {
                if let Some(request) = unsent {
                    return Failed::Unsent(request);
                }
                let untouched = connection.bytes_read() == read_before;
                let failed = if error.is_parse_too_large() {
                    SendError::new(Stage::Head, What::HeadTooLarge)
                } else if error.is_parse() {
                    SendError::new(Stage::Head, What::NotHttp)
                } else if untouched {
                    if self.reused {
                        place.condemn(None);
                    }
                    SendError::new(Stage::Sent, What::Closed)
                } else {
                    SendError::new(Stage::Head, What::HeadCut)
                };
                (failed, self.reused)
            }
            Way::H2(Stream { ref line, .. }) => {
                let died = unsent.is_some() || is_connection_error(&error);
                if died {
                    place.condemn(Some(line));
                }
                if let Some(request) = unsent {
                    return Failed::Unsent(request);
                }
                let what = if died { What::Closed } else { What::Reset };
                (SendError::new(Stage::Sent, what), self.reused && died)
            }
        };
        Failed::Sent(failed.because(error).reused(reused))
    }
}

/// Writes scheme and authority into the request's target.
fn address_whole(place: &Place, request: &mut Request<Sent>) -> Result<(), SendError> {
    if request.uri().authority().is_some() {
        return Ok(());
    }
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(if place.origin.tls { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = Some(place.authority.clone());
    *request.uri_mut() = Uri::from_parts(parts).map_err(|e| SendError::connect(What::Address).because(e))?;
    Ok(())
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
