//! An upstream that answers at once, in either format, whole or as a stream.
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
    let is_chat = request.uri().path() != "/v1/messages";
    let body = request.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_default();
    if memmem::find(&body, b"\"stream\":true").is_none() {
        let whole = Bytes::from_static(if is_chat { CHAT_REPLY } else { MESSAGES_REPLY });
        let response = Response::builder().header("content-type", "application/json");
        return Ok(response.body(Answer::Whole(Some(whole))).unwrap());
    }
    let pace = memmem::find(&body, b"-paced\"").map(|_| interval(PACE));
    let response = Response::builder().header("content-type", "text/event-stream");
    Ok(response.body(Answer::Events(Events { is_chat, at: 0, deltas: deltas(&body), pace })).unwrap())
}

/// The request's token limit, whatever it is called.
fn deltas(body: &[u8]) -> usize {
    let (_, rest) = ["\"max_tokens\":", "\"max_completion_tokens\":"]
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
    is_chat: bool,
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
        let (start, delta, end) = if self.is_chat {
            (CHAT_START, CHAT_DELTA, CHAT_END)
        } else {
            (MESSAGES_START, MESSAGES_DELTA, MESSAGES_END)
        };
        let data = match self.at {
            0 => Some(start),
            at if at <= self.deltas => Some(delta),
            at if at == self.deltas + 1 => Some(end),
            _ => None,
        };
        self.at += 1;
        Poll::Ready(data.map(|text| Bytes::from_static(text.as_bytes())))
    }
}

const CHAT_REPLY: &[u8] = br#"{"id":"chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG","object":"chat.completion","created":1741570283,"model":"up-same","choices":[{"index":0,"message":{"role":"assistant","content":"The quick brown fox jumps over the lazy dog, and the dog, who has seen many foxes come and go, sleeps on in the late sun of an autumn afternoon, dreaming.","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":117,"completion_tokens":46,"total_tokens":163,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0}},"service_tier":"default","system_fingerprint":"fp_fc9f1d7035"}"#;

const MESSAGES_REPLY: &[u8] = br#"{"id":"msg_013Zva2CMHLNnXjNJJKqJ2EF","type":"message","role":"assistant","model":"up-other","content":[{"type":"text","text":"The quick brown fox jumps over the lazy dog, and the dog, who has seen many foxes come and go, sleeps on in the late sun of an autumn afternoon, dreaming."}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":117,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":46,"service_tier":"standard"}}"#;

const CHAT_START: &str = "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1741570283,\"model\":\"up-same\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n";
const CHAT_DELTA: &str = "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1741570283,\"model\":\"up-same\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" a word\"},\"finish_reason\":null}]}\n\n";
const CHAT_END: &str = "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1741570283,\"model\":\"up-same\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";

const MESSAGES_START: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"up-other\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n";
const MESSAGES_DELTA: &str = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" a word\"}}\n\n";
const MESSAGES_END: &str = "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":4}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
