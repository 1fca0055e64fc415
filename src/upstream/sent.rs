//! The body of a request as hyper wants it: pieces whose length is known, so that head and body leave in one write; or a stream
//! that somebody else sends.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use parking_lot::Mutex;

use crate::wire::splice::Parts;

/// What a request carries.
#[derive(Debug)]
pub enum Load {
    Parts(Parts),
    Streamed(Upload),
}

impl From<Parts> for Load {
    fn from(parts: Parts) -> Self {
        Self::Parts(parts)
    }
}

/// Why a streamed body ends before its end.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What became of a streamed body that did not arrive: whoever sends it is to blame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unsent {
    Slow,
    TooLarge,
    Cut,
}

impl fmt::Display for Unsent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Slow => "the request body did not arrive in time",
            Self::TooLarge => "the request body is too large",
            Self::Cut => "the request body ended early",
        })
    }
}

impl std::error::Error for Unsent {}

/// A body that is sent on as it comes. It can be sent once more as long as none of it was read, by whoever began last: an attempt
/// that has failed may still hold it, and must not take what belongs to the next.
#[derive(Clone)]
pub struct Upload {
    inner: Arc<Mutex<Inner>>,
    /// As it was declared.
    pub length: Option<u64>,
    attempt: u32,
}

struct Inner {
    body: Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>>,
    /// Who may read.
    attempt: u32,
    is_touched: bool,
    unsent: Option<Unsent>,
}

impl Upload {
    pub fn new(body: impl Body<Data = Bytes, Error = BoxError> + Send + 'static, length: Option<u64>) -> Self {
        let inner = Inner { body: Box::pin(body), attempt: 0, is_touched: false, unsent: None };
        Self { inner: Arc::new(Mutex::new(inner)), length, attempt: 0 }
    }

    /// The body for one more attempt, and for no earlier one any more; `None` if some of it has gone already.
    #[must_use]
    pub fn begin(&self) -> Option<Self> {
        let mut inner = self.inner.lock();
        if inner.is_touched {
            return None;
        }
        inner.attempt += 1;
        Some(Self { attempt: inner.attempt, ..self.clone() })
    }

    /// Some of it was read, so it cannot be sent again.
    #[must_use]
    pub fn is_touched(&self) -> bool {
        self.inner.lock().is_touched
    }

    /// Why it did not arrive, if it did not.
    #[must_use]
    pub fn unsent(&self) -> Option<Unsent> {
        self.inner.lock().unsent
    }

    fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut inner = self.inner.lock();
        if inner.attempt != self.attempt {
            return Poll::Ready(Some(Err("another attempt has begun".into())));
        }
        let frame = ready!(inner.body.as_mut().poll_frame(cx));
        inner.is_touched = true;
        if let Some(Err(error)) = &frame {
            inner.unsent = Some(error.downcast_ref().copied().unwrap_or(Unsent::Cut));
        }
        Poll::Ready(frame)
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").field("length", &self.length).finish_non_exhaustive()
    }
}

/// Kept small: a request is moved a dozen times on its way through hyper.
#[derive(Debug)]
pub(super) struct Sent {
    first: Bytes,
    more: Option<Box<More>>,
    /// Bytes not yet taken.
    left: u64,
}

#[derive(Debug)]
enum More {
    Pieces(<Parts as IntoIterator>::IntoIter),
    Streamed(Upload),
}

impl Sent {
    pub(super) fn new(load: Load) -> Self {
        match load {
            Load::Parts(parts) => {
                let left = parts.len() as u64;
                if parts.len() <= JOINED_MAX {
                    return Self { first: parts.into_bytes(), more: None, left };
                }
                Self { first: Bytes::new(), more: Some(Box::new(More::Pieces(parts.into_iter()))), left }
            }
            Load::Streamed(upload) => {
                let left = upload.length.unwrap_or(u64::MAX);
                Self { first: Bytes::new(), more: Some(Box::new(More::Streamed(upload))), left }
            }
        }
    }

    /// How long it is, where that is known.
    pub(super) fn length(&self) -> Option<u64> {
        (self.left != u64::MAX).then_some(self.left)
    }

    fn next(&mut self) -> Option<Bytes> {
        if !self.first.is_empty() {
            return Some(std::mem::take(&mut self.first));
        }
        match self.more.as_deref_mut()? {
            More::Pieces(pieces) => pieces.next(),
            More::Streamed(_) => None,
        }
    }
}

/// Shorter bodies are copied into one piece: what each piece costs on its way, the kernel's part included, is more than
/// the copy.
const JOINED_MAX: usize = 4 * 1024;

impl Body for Sent {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(More::Streamed(upload)) = self.more.as_deref() {
            let frame = ready!(upload.poll_frame(cx));
            if self.left != u64::MAX
                && let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref())
            {
                self.left = self.left.saturating_sub(data.len() as u64);
            }
            return Poll::Ready(frame);
        }
        Poll::Ready(self.next().map(|piece| {
            self.left = self.left.saturating_sub(piece.len() as u64);
            Ok(Frame::data(piece))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        self.length().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use smallvec::smallvec;

    use super::*;
    use crate::wire::splice::{Edit, splice};

    #[test]
    fn a_body_belongs_to_the_attempt_that_began_last() {
        let upload = Upload::new(http_body_util::Full::new(Bytes::from_static(b"x")).map_err(|e| match e {}), None);
        let [first, second] = [upload.begin().unwrap(), upload.begin().unwrap()];
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        assert!(matches!(first.poll_frame(cx), Poll::Ready(Some(Err(_)))), "it is over for the first");
        assert!(!upload.is_touched() && upload.unsent().is_none(), "which has taken nothing");
        let frame = second.poll_frame(cx);
        assert!(matches!(&frame, Poll::Ready(Some(Ok(data))) if data.data_ref().is_some_and(|data| data == "x")));
        assert!(upload.begin().is_none(), "and now there is none left for a third");
    }

    #[test]
    fn short_bodies_are_joined_and_long_ones_never_copied() {
        for (len, pieces) in [(10, 1), (JOINED_MAX * 2, 3)] {
            let body = Bytes::from(vec![b'x'; len]);
            let parts = splice(&body, smallvec![Edit { from: 2, to: 3, with: Bytes::from_static(b"yy") }]);
            let mut sent = Sent::new(parts.into());
            assert_eq!(sent.left, len as u64 + 1);
            let frames: Vec<Bytes> = std::iter::from_fn(|| sent.next()).collect();
            assert_eq!(frames.len(), pieces, "{len}");
            let shares = frames.first().is_some_and(|first| first.as_ptr() == body.as_ptr());
            assert_eq!(shares, pieces != 1, "{len}");
            assert!(frames.concat().starts_with(b"xxyyx"), "{len}");
        }
    }
}
