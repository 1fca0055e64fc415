//! An upstream that answers at once, in every format, whole or as a stream.
//!
//! What it is asked tells how: `stream` in the body, as many events as the request's token limit says, one each
//! [`PACE`] where the model's name ends in `paced`, and as fast as they are taken otherwise.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use memchr::memmem;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Interval, interval};

use super::format::{FORMATS, Format};

/// Time between two events of a paced stream.
const PACE: Duration = Duration::from_millis(10);

/// Opens a port and says which, as the gateway's banner does.
pub(super) async fn listen() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let line = format!("listening on http://{}\n", listener.local_addr().unwrap());
    std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).unwrap();
    listener
}

pub(super) async fn serve() {
    let listener = listen().await;
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        connections.spawn(async move {
            // A client that goes away is no concern of a bench.
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)).await);
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Answer>, Infallible> {
    let format = FORMATS.iter().find(|format| format.path == request.uri().path()).unwrap();
    let body = request.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_default();
    if memmem::find(&body, b"\"stream\":true").is_none() {
        let whole = Bytes::from_static(format.reply.as_bytes());
        let response = Response::builder().header("content-type", "application/json");
        return Ok(response.body(Answer::Whole(Some(whole))).unwrap());
    }
    let pace = memmem::find(&body, b"-paced\"").map(|_| interval(PACE));
    let response = Response::builder().header("content-type", "text/event-stream");
    Ok(response.body(Answer::Events(Events { format, at: 0, deltas: deltas(&body), pace })).unwrap())
}

/// The request's token limit, whatever it is called.
fn deltas(body: &[u8]) -> usize {
    let (_, rest) = ["\"max_tokens\":", "\"max_completion_tokens\":", "\"max_output_tokens\":"]
        .iter()
        .find_map(|key| memmem::find(body, key.as_bytes()).map(|at| body.split_at(at + key.len())))
        .unwrap();
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    std::str::from_utf8(rest.split_at(digits).0).unwrap().parse().unwrap()
}

pub(super) enum Answer {
    Whole(Option<Bytes>),
    Events(Events),
}

pub(super) struct Events {
    format: &'static Format,
    at: usize,
    deltas: usize,
    pace: Option<Interval>,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = match self.get_mut() {
            Self::Whole(whole) => whole.take(),
            Self::Events(events) => ready!(events.next(cx)),
        };
        Poll::Ready(data.map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match self {
            Self::Whole(Some(whole)) => hyper::body::SizeHint::with_exact(whole.len() as u64),
            Self::Whole(None) => hyper::body::SizeHint::with_exact(0),
            Self::Events(_) => hyper::body::SizeHint::default(),
        }
    }
}

impl Events {
    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(pace) = &mut self.pace {
            ready!(pace.poll_tick(cx));
        }
        let data = match self.at {
            0 => Some(self.format.start),
            at if at <= self.deltas => Some(self.format.delta),
            at if at == self.deltas + 1 => Some(self.format.end),
            _ => None,
        };
        self.at += 1;
        Poll::Ready(data.map(|text| Bytes::from_static(text.as_bytes())))
    }
}
