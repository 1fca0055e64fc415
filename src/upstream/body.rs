//! The body of an answer: pulled by its reader, chunk by chunk.
//!
//! No task and no channel of ours stand between the socket and the reader, so a slow reader slows the upstream, and
//! a reader that leaves closes it: dropping a body that has not ended closes its connection (HTTP/1) or resets its
//! stream (HTTP/2). A body that has ended gives its connection back.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body as _, Incoming};
use tokio::time::Instant;

use crate::route::table::Timeouts;
use crate::time::Clock;
use crate::upstream::error::ReadError;
use crate::upstream::gzip::Inflate;
use crate::upstream::h1::H1;
use crate::upstream::line::Line;
use crate::upstream::pool::Place;
use crate::upstream::watch::{Watch, after};

/// What is left of an answer.
#[derive(Debug)]
pub struct Body {
    source: Source,
    inflate: Option<Box<Inflate>>,
    timer: Option<Timer>,
}

enum Source {
    Net(Incoming, Lease),
    Whole(Bytes),
    Steps(Steps),
    Ended,
}

/// Makes a body that comes from no socket: called like [`Body::poll_chunk`].
type Steps = Box<dyn FnMut(&mut Context<'_>) -> Poll<Option<Result<Bytes, ReadError>>> + Send>;

/// A request's hold on its connection.
#[derive(Debug)]
pub(super) enum Lease {
    H1 { connection: Box<H1>, place: Arc<Place> },
    H2 { _stream: Stream },
}

/// One request's part of an HTTP/2 connection.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) line: Arc<Line>,
    pub(super) clock: Clock,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.line.leave(self.clock.now());
    }
}

/// The clocks that run while a body is read.
#[derive(Debug)]
pub(super) struct Timer {
    watch: Option<Watch>,
    /// How long the reader waits for the next chunk, and for those after it.
    patience: Duration,
    idle: Duration,
    total: Duration,
    /// When the request was sent.
    started: Instant,
    /// Since when the reader has been waiting for the upstream: what a slow reader lets lie is not held against it.
    waiting_since: Option<Instant>,
    /// When the whole must be here. Set only by who reads the whole: a stream that makes progress is never cut.
    ends_at: Option<Instant>,
}

impl Timer {
    pub(super) fn new(watch: Option<Watch>, timeouts: &Timeouts, started: Instant) -> Self {
        let Timeouts { idle, total, .. } = *timeouts;
        Self { watch, patience: idle, idle, total, started, waiting_since: None, ends_at: None }
    }

    /// Called when nothing is there: has it lasted too long?
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<ReadError> {
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        let silent_at = after(since, self.patience);
        let deadline = self.ends_at.map_or(silent_at, |end| end.min(silent_at));
        ready!(self.watch.get_or_insert_with(|| Watch::new(deadline)).poll_past(cx, deadline));
        Poll::Ready(if deadline < silent_at { ReadError::Total } else { ReadError::Idle })
    }
}

impl Body {
    /// A body that is already here.
    #[must_use]
    pub fn whole(bytes: Bytes) -> Self {
        Self { source: Source::Whole(bytes), inflate: None, timer: None }
    }

    /// A body made step by step: each call is one [`poll_chunk`](Self::poll_chunk).
    #[must_use]
    pub fn steps<F>(steps: F) -> Self
    where
        F: FnMut(&mut Context<'_>) -> Poll<Option<Result<Bytes, ReadError>>> + Send + 'static,
    {
        Self { source: Source::Steps(Box::new(steps)), inflate: None, timer: None }
    }

    /// A body from the network.
    pub(super) fn net(incoming: Incoming, lease: Lease, inflate: Option<Box<Inflate>>, timer: Timer) -> Self {
        let ended = incoming.is_end_stream();
        let mut body = Self { source: Source::Net(incoming, lease), inflate, timer: Some(timer) };
        if ended {
            body.release();
        }
        body
    }

    /// The same body under these clocks, which start now; `first_byte` is the one for the first chunk. Bodies from
    /// the network have theirs already.
    #[must_use]
    pub fn timed(mut self, timeouts: &Timeouts) -> Self {
        let timer = || Timer { patience: timeouts.first_byte, ..Timer::new(None, timeouts, Instant::now()) };
        self.timer.get_or_insert_with(timer);
        self
    }

    /// Since when its reader has been waiting for more.
    #[must_use]
    pub fn silent_since(&self) -> Option<Instant> {
        self.timer.as_ref().and_then(|timer| timer.waiting_since)
    }

    /// Waits no longer than this for each chunk from now on.
    pub fn hasten(&mut self, idle: Duration) {
        if let Some(timer) = &mut self.timer {
            timer.idle = timer.idle.min(idle);
            timer.patience = timer.patience.min(idle);
        }
    }

    /// The next chunk, never empty; `None` at the end. After an error there is nothing more.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ReadError>>> {
        if self.inflate.is_none() {
            return self.poll_source(cx);
        }
        loop {
            if let Some(inflate) = &mut self.inflate {
                match inflate.pull() {
                    Ok(None) => {}
                    Ok(Some(chunk)) => return Poll::Ready(Some(Ok(chunk))),
                    Err(e) => return Poll::Ready(Some(Err(self.fail(e)))),
                }
            }
            let raw = ready!(self.poll_source(cx));
            match (raw, &mut self.inflate) {
                (Some(Ok(chunk)), Some(inflate)) => inflate.push(chunk),
                (None, Some(inflate)) if !inflate.is_complete() => {
                    let cut = self.fail(ReadError::Encoding);
                    return Poll::Ready(Some(Err(cut)));
                }
                (other, _) => return Poll::Ready(other),
            }
        }
    }

    /// As [`poll_chunk`](Self::poll_chunk), awaited.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, ReadError>> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// Collects at most `max` bytes, within the total time. `fits` is asked whether so many may be held.
    pub async fn collect(&mut self, max: usize, mut fits: impl FnMut(usize) -> bool) -> Result<Bytes, ReadError> {
        if let Some(timer) = &mut self.timer {
            timer.ends_at = Some(after(timer.started, timer.total));
        }
        let Some(first) = self.chunk().await.transpose()? else {
            return Ok(Bytes::new());
        };
        if max < first.len() {
            return Err(ReadError::TooLong);
        }
        if !fits(first.len()) {
            return Err(ReadError::NoRoom);
        }
        // Most answers come in one piece, which is then not copied.
        let Some(second) = self.chunk().await.transpose()? else {
            return Ok(first);
        };
        let mut whole = BytesMut::with_capacity((first.len() + second.len()).next_power_of_two());
        whole.extend_from_slice(&first);
        let mut next = Some(second);
        while let Some(chunk) = next {
            let length = whole.len().saturating_add(chunk.len());
            if max < length {
                return Err(ReadError::TooLong);
            }
            if !fits(length) {
                return Err(ReadError::NoRoom);
            }
            whole.extend_from_slice(&chunk);
            next = self.chunk().await.transpose()?;
        }
        Ok(whole.freeze())
    }

    /// What comes within a time, at most `max` bytes of it, and whether that is all: where a body breaks, trickles or has
    /// no end, its beginning is better than nothing.
    pub async fn beginning(&mut self, max: usize, within: Duration) -> (Bytes, bool) {
        let deadline = after(Instant::now(), within);
        let mut whole = BytesMut::new();
        while whole.len() < max {
            match tokio::time::timeout_at(deadline, self.chunk()).await {
                Ok(Some(Ok(chunk))) => whole.extend_from_slice(&chunk),
                Ok(None) => return (whole.freeze(), true),
                Ok(Some(Err(_))) | Err(_) => return (whole.freeze(), false),
            }
        }
        whole.truncate(max);
        (whole.freeze(), false)
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ReadError>>> {
        let polled = match &mut self.source {
            Source::Net(incoming, Lease::H1 { connection, .. }) => connection.drive(cx, |cx| poll_net(incoming, cx)),
            Source::Net(incoming, Lease::H2 { .. }) => poll_net(incoming, cx),
            Source::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                self.source = Source::Ended;
                return Poll::Ready((!bytes.is_empty()).then_some(Ok(bytes)));
            }
            Source::Steps(steps) => steps(cx),
            Source::Ended => return Poll::Ready(None),
        };
        match polled {
            Poll::Ready(Some(Ok(chunk))) => {
                if let Some(timer) = &mut self.timer {
                    timer.waiting_since = None;
                    timer.patience = timer.idle;
                }
                // The last chunk of a known length: the connection need not wait for the reader to ask again.
                if matches!(&self.source, Source::Net(incoming, _) if incoming.is_end_stream()) {
                    self.release();
                }
                Poll::Ready(Some(Ok(chunk)))
            }
            Poll::Ready(Some(Err(e))) => Poll::Ready(Some(Err(self.fail(e)))),
            Poll::Ready(None) => {
                self.release();
                Poll::Ready(None)
            }
            Poll::Pending => {
                let Some(timer) = &mut self.timer else {
                    return Poll::Pending;
                };
                let late = ready!(timer.poll_late(cx));
                Poll::Ready(Some(Err(self.fail(late))))
            }
        }
    }

    /// It has ended well: the connection goes back.
    fn release(&mut self) {
        if let Source::Net(incoming, Lease::H1 { mut connection, place }) =
            std::mem::replace(&mut self.source, Source::Ended)
        {
            // First, so that hyper does not take it for an answer nobody wants.
            drop(incoming);
            connection.watch = self.timer.as_mut().and_then(|t| t.watch.take());
            place.put(connection);
        }
    }

    /// It has not: dropping the lease closes the connection or resets the stream.
    fn fail(&mut self, error: ReadError) -> ReadError {
        self.source = Source::Ended;
        self.inflate = None;
        error
    }
}

fn poll_net(incoming: &mut Incoming, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ReadError>>> {
    loop {
        match ready!(Pin::new(&mut *incoming).poll_frame(cx)) {
            // Trailers say nothing that any format here knows.
            Some(Ok(frame)) => match frame.into_data() {
                Ok(chunk) if !chunk.is_empty() => return Poll::Ready(Some(Ok(chunk))),
                _ => {}
            },
            Some(Err(e)) => return Poll::Ready(Some(Err(ReadError::Broken(e.into())))),
            None => return Poll::Ready(None),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Net(..) => "Net",
            Self::Whole(_) => "Whole",
            Self::Steps(_) => "Steps",
            Self::Ended => "Ended",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TINY: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(60);

    fn stalls_after(chunks: u32) -> Body {
        let mut left = chunks;
        Body::steps(move |_| {
            if left == 0 {
                return Poll::Pending;
            }
            left -= 1;
            Poll::Ready(Some(Ok(Bytes::from_static(b"x"))))
        })
    }

    #[tokio::test]
    async fn a_body_made_here_can_be_put_under_the_same_clocks() {
        let base = Timeouts { connect: LONG, first_byte: LONG, idle: LONG, total: LONG };
        for (chunks, timeouts) in [
            (0, Timeouts { first_byte: TINY, ..base }),
            (3, Timeouts { idle: TINY, ..base }),
            (0, Timeouts { total: TINY, ..base }),
        ] {
            let error = stalls_after(chunks).timed(&timeouts).collect(9, |_| true).await.unwrap_err();
            assert_eq!(matches!(error, ReadError::Total), timeouts.total == TINY, "{error:?}");
        }
        let streamed = stalls_after(0).timed(&Timeouts { total: TINY, first_byte: TINY * 3, ..base }).chunk().await;
        assert!(matches!(streamed, Some(Err(ReadError::Idle))), "no total for who reads chunk by chunk");
    }

    #[tokio::test]
    async fn what_is_here_is_collected_unless_it_is_too_long() {
        assert_eq!(Body::whole(Bytes::from_static(b"abc")).collect(3, |_| true).await.unwrap(), "abc");
        assert_eq!(Body::whole(Bytes::new()).collect(0, |_| true).await.unwrap(), "");
        for (max, room, error) in [(2, 9, ReadError::TooLong), (9, 2, ReadError::NoRoom)] {
            let mut body = Body::whole(Bytes::from_static(b"abc"));
            let found = body.collect(max, |n| n <= room).await.unwrap_err();
            assert_eq!(found.to_string(), error.to_string(), "longer than that");
        }
        let mut pieces = vec![Bytes::from_static(b"c"), Bytes::from_static(b"b"), Bytes::from_static(b"a")];
        let mut body = Body::steps(move |_| Poll::Ready(pieces.pop().map(Ok)));
        assert_eq!(body.collect(3, |_| true).await.unwrap(), "abc");
    }
}
