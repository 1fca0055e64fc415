//! Reads what a request carries: within its limits of size and time, as far as there is room for it, and only if it says
//! that it is JSON.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Frame, Incoming};
use tokio::time::Instant;

use crate::config::bounds::Bounds;
use crate::gateway::{Room, stopping};
use crate::server::refusal::Refusal;
use crate::server::worker::Worker;
use crate::upstream::watch::{Watch, after, from_now};
use crate::upstream::{BoxError, Unsent, Upload};
use crate::wire::fault::{Fault, FaultKind};

/// A body, and the room it takes.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) body: Bytes,
    pub(super) room: Room,
}

/// Reads a request's body. What it declares is looked at first: nothing of what is refused is read, and whoever waits to be
/// told to go on (`expect: 100-continue`) is not told to.
pub(super) async fn collect(worker: &Worker, headers: &HeaderMap, body: &mut Incoming) -> Result<Taken, Refusal> {
    let bounds = &worker.gateway.bounds;
    let declared = declared(headers, bounds)?;
    let mut room = worker.gateway.capacity.room();
    // All of it, before any of it comes: half a body is worth nothing.
    if declared.is_some_and(|length| !room.fit(length)) {
        return Err(no_room());
    }
    let clock = worker.gateway.clock;
    let mut ends_at = None;
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = next_frame(worker, body).await? {
        let frame = frame.map_err(|e| unreadable(&e))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let length = first.len() + rest.len() + data.len();
        if bounds.body_bytes < length {
            return Err(too_large(bounds));
        }
        // Almost every body comes in one piece, and is then not copied.
        if first.is_empty() && rest.is_empty() {
            first = data;
            continue;
        }
        if !room.fit(length) {
            return Err(no_room());
        }
        // Looked at whenever something more came: whoever sends nothing is stopped by the other clock.
        let now = clock.now();
        if *ends_at.get_or_insert_with(|| now.after(bounds.body_total)) < now {
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
    Ok(Taken { body: if rest.is_empty() { first } else { rest.freeze() }, room })
}

/// A body that is sent on as it comes, within the same limits of size and time.
pub(super) fn upload(worker: &Worker, headers: &HeaderMap, body: Incoming) -> Result<Upload, Refusal> {
    let bounds = Arc::clone(&worker.gateway.bounds);
    let length = length(headers, &bounds)?.map(|length| length as u64);
    let deadline = from_now(bounds.body_total);
    let watch = Watch::new(from_now(bounds.body_idle).min(deadline));
    Ok(Upload::new(Guarded { body, bounds, read: 0, silent_since: None, deadline, watch }, length))
}

/// A client's body that may be so long and take so long.
struct Guarded {
    body: Incoming,
    bounds: Arc<Bounds>,
    read: usize,
    /// Since when it has been waited for.
    silent_since: Option<Instant>,
    deadline: Instant,
    watch: Watch,
}

impl hyper::body::Body for Guarded {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Poll::Ready(frame) = self.poll_data(cx) else {
            let idle = self.bounds.body_idle;
            let since = *self.silent_since.get_or_insert_with(|| from_now(Duration::ZERO));
            let deadline = after(since, idle).min(self.deadline);
            ready!(self.watch.poll_past(cx, deadline));
            return Poll::Ready(Some(Err(Unsent::Slow.into())));
        };
        self.silent_since = None;
        let frame = match frame {
            None => return Poll::Ready(None),
            Some(frame) => frame.map_err(BoxError::from),
        };
        self.read += frame.as_ref().ok().and_then(Frame::data_ref).map_or(0, Bytes::len);
        if self.bounds.body_bytes < self.read {
            return Poll::Ready(Some(Err(Unsent::TooLarge.into())));
        }
        Poll::Ready(Some(frame))
    }
}

impl Guarded {
    /// Trailers are left out: which headers may cross is known, and they are none of these.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        loop {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) if !frame.is_data() => {}
                frame => return Poll::Ready(frame),
            }
        }
    }
}

/// Most memory set aside for a body before it has come.
const BODY_RESERVE_MAX: usize = 1024 * 1024;

/// How long a body says it is; refused if it says that it cannot be taken.
fn declared(headers: &HeaderMap, bounds: &Bounds) -> Result<Option<usize>, Refusal> {
    if headers.get(CONTENT_ENCODING).is_some_and(|e| e != "identity") {
        let message = "the request body is encoded; send it without content-encoding";
        return Err(Refusal::closing(Fault::new(415, FaultKind::InvalidRequest, message)));
    }
    if let Some(kind) = headers.get(CONTENT_TYPE)
        && !is_json(kind.as_bytes())
    {
        let shown: String = String::from_utf8_lossy(kind.as_bytes()).chars().take(100).collect();
        let message =
            format!("the request body must be JSON in UTF-8, not {shown:?}; send content-type: application/json");
        return Err(Refusal::closing(Fault::new(415, FaultKind::InvalidRequest, message)));
    }
    length(headers, bounds)
}

/// How long it says it is.
fn length(headers: &HeaderMap, bounds: &Bounds) -> Result<Option<usize>, Refusal> {
    // hyper has seen to it that there is one, and a number.
    let declared = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    match declared {
        Some(length) if bounds.body_bytes < length => Err(too_large(bounds)),
        declared => Ok(declared),
    }
}

/// Whether a media type is JSON's, or says nothing of the kind: `text/plain` is what some clients send where they were told
/// nothing. JSON between machines is UTF-8 (RFC 8259 8.1).
pub(super) fn is_json(kind: &[u8]) -> bool {
    // As nearly all write it.
    if kind == b"application/json" {
        return true;
    }
    let mut parts = kind.split(|b| *b == b';').map(<[u8]>::trim_ascii);
    let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
    let fits =
        essence.is_empty() || essence == b"text/plain" || essence.ends_with(b"/json") || essence.ends_with(b"+json");
    fits && parts.all(|parameter| {
        let parameter = parameter.to_ascii_lowercase();
        let charset = parameter.strip_prefix(b"charset=").unwrap_or(b"utf-8");
        [&b"utf-8"[..], b"utf8", b"us-ascii"].contains(&unquoted(charset))
    })
}

/// Whether a media type says that it is JSON, where other kinds are taken as well.
pub(super) fn says_json(kind: &[u8]) -> bool {
    let essence = kind.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    is_json(kind) && !essence.is_empty() && !essence.eq_ignore_ascii_case(b"text/plain")
}

fn unquoted(text: &[u8]) -> &[u8] {
    let text = text.trim_ascii();
    text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(text)
}

/// The next piece of a body. What is there already costs no timer.
async fn next_frame(
    worker: &Worker,
    body: &mut Incoming,
) -> Result<Option<Result<Frame<Bytes>, hyper::Error>>, Refusal> {
    let at_once = poll_fn(|cx| Poll::Ready(Pin::new(&mut *body).poll_frame(cx))).await;
    match at_once {
        Poll::Ready(frame) => Ok(frame),
        // In a box, for all other requests carry its room about.
        Poll::Pending => {
            let mut waiting = Box::pin(tokio::time::timeout(worker.gateway.bounds.body_idle, body.frame()));
            let waited = worker.gateway.drain.until_over(waiting.as_mut()).await;
            waited.ok_or_else(stopping)?.map_err(|_| too_slow())
        }
    }
}

fn too_large(bounds: &Bounds) -> Refusal {
    let message = format!("the request body is larger than {} bytes (body_bytes)", bounds.body_bytes);
    Refusal::closing(Fault::new(413, FaultKind::TooLarge, message))
}

fn too_slow() -> Refusal {
    Refusal::closing(Fault::new(408, FaultKind::Timeout, "the request body did not arrive in time"))
}

fn no_room() -> Refusal {
    let message = "the proxy holds as many bytes as it may (held_bytes); try again soon";
    Refusal::closing(Fault::new(503, FaultKind::Unavailable, message)).retry_after(1)
}

fn unreadable(error: &hyper::Error) -> Refusal {
    Refusal::closing(Fault::invalid(format!("the request body could not be read: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_told_by_its_name() {
        for (kind, is) in [
            ("application/json", true),
            ("Application/JSON ; charset=UTF-8", true),
            ("application/json; charset=\"utf-8\"", true),
            ("application/vnd.api+json;x=y", true),
            ("text/json", true),
            ("text/plain;charset=UTF-8", true),
            ("", true),
            ("application/json; charset=utf-16", false),
            ("application/x-www-form-urlencoded", false),
            ("multipart/form-data; boundary=x", false),
            ("application/jsonl", false),
            ("application/octet-stream", false),
        ] {
            assert_eq!(is_json(kind.as_bytes()), is, "{kind:?}");
            let says = is && !kind.is_empty() && !kind.starts_with("text/plain");
            assert_eq!(says_json(kind.as_bytes()), says, "{kind:?}");
        }
    }
}
