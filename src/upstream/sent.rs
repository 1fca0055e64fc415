//! The body of a request as hyper wants it: pieces whose length is known, so that head and body leave in one write.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::wire::splice::Parts;

/// Kept small: a request is moved a dozen times on its way through hyper.
#[derive(Debug)]
pub(super) struct Sent {
    first: Bytes,
    more: Option<Box<Pieces>>,
    /// Bytes not yet taken.
    left: u64,
}

type Pieces = <Parts as IntoIterator>::IntoIter;

impl Sent {
    pub(super) fn new(parts: Parts) -> Self {
        let left = parts.len() as u64;
        if parts.len() <= JOINED_MAX {
            return Self { first: parts.into_bytes(), more: None, left };
        }
        Self { first: Bytes::new(), more: Some(Box::new(parts.into_iter())), left }
    }

    fn next(&mut self) -> Option<Bytes> {
        if !self.first.is_empty() {
            return Some(std::mem::take(&mut self.first));
        }
        self.more.as_mut()?.next()
    }
}

/// Shorter bodies are copied into one piece: what each piece costs on its way, the kernel's part included, is more than
/// the copy.
const JOINED_MAX: usize = 4 * 1024;

impl Body for Sent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.next().map(|piece| {
            self.left = self.left.saturating_sub(piece.len() as u64);
            Ok(Frame::data(piece))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;
    use crate::wire::splice::{Edit, splice};

    #[test]
    fn short_bodies_are_joined_and_long_ones_never_copied() {
        for (len, pieces) in [(10, 1), (JOINED_MAX * 2, 3)] {
            let body = Bytes::from(vec![b'x'; len]);
            let parts = splice(&body, smallvec![Edit { from: 2, to: 3, with: Bytes::from_static(b"yy") }]);
            let mut sent = Sent::new(parts);
            assert_eq!(sent.left, len as u64 + 1);
            let frames: Vec<Bytes> = std::iter::from_fn(|| sent.next()).collect();
            assert_eq!(frames.len(), pieces, "{len}");
            let shares = frames.first().is_some_and(|first| first.as_ptr() == body.as_ptr());
            assert_eq!(shares, pieces != 1, "{len}");
            assert!(frames.concat().starts_with(b"xxyyx"), "{len}");
        }
    }
}
