//! What an HTTP/1 connection and the requests on it know of each other: whether one is being answered, since when none
//! is, and whether bytes move. By this a connection that only sits there is found and closed.
//!
//! hyper's own clock for heads is set and cleared with every request, which costs as much as reading the head. Here
//! one timer runs for the whole connection, and requests only leave a note of when they ended.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::config::bounds::Bounds;
use crate::gateway::{Body, Broken};
use crate::server::auth::Known;
use crate::server::malformed;
use crate::server::stream::Stream;
use crate::time::{Clock, Millis};
use crate::upstream::watch::{Watch, from_now};

/// Only its connection's task changes it, so plain loads and stores do.
#[derive(Debug)]
pub(super) struct Seat {
    clock: Clock,
    bounds: Arc<Bounds>,
    is_busy: AtomicBool,
    /// When the last answer was handed over or, if later, last taken from; and how much had been read by then.
    idle_since: AtomicU64,
    read_then: AtomicU64,
    read: AtomicU64,
    /// An answer was handed over of which not all has gone out.
    is_owing: AtomicBool,
    /// Since when the client has taken nothing of what waits for it; 0 where it does.
    stalled_since: AtomicU64,
    pub(super) known: Known,
}

/// What a look at the seat found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Finding {
    /// Nothing is wrong; look again after this.
    Fine(Duration),
    /// It has sat there too long.
    Late(Late),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Late {
    /// With no request.
    Idle,
    /// With half a head.
    Head,
    /// With an answer it does not take.
    Stalled,
}

impl Seat {
    pub(super) fn new(clock: Clock, bounds: &Arc<Bounds>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            bounds: Arc::clone(bounds),
            is_busy: AtomicBool::new(false),
            idle_since: AtomicU64::new(clock.now().0),
            read_then: AtomicU64::new(0),
            read: AtomicU64::new(0),
            is_owing: AtomicBool::new(false),
            stalled_since: AtomicU64::new(0),
            known: Known::default(),
        })
    }

    /// A request has come.
    pub(super) fn take(&self) {
        self.is_busy.store(true, Ordering::Relaxed);
    }

    fn leave(&self) {
        self.wrote();
        self.read_then.store(self.read.load(Ordering::Relaxed), Ordering::Relaxed);
        self.is_owing.store(true, Ordering::Relaxed);
        self.is_busy.store(false, Ordering::Relaxed);
    }

    /// Whoever still takes an answer is not idle.
    fn wrote(&self) {
        self.idle_since.store(self.clock.now().0, Ordering::Relaxed);
    }

    /// A head has begun and is not complete.
    fn is_in_head(&self) -> bool {
        !self.is_busy.load(Ordering::Relaxed)
            && self.read.load(Ordering::Relaxed) != self.read_then.load(Ordering::Relaxed)
    }

    /// What goes out now is hyper's own word on a head: every answer has gone out whole.
    fn is_refusing(&self) -> bool {
        self.is_in_head() && !self.is_owing.load(Ordering::Relaxed)
    }
}

/// Watches one seat.
#[derive(Debug)]
pub(super) struct Keeper {
    seat: Arc<Seat>,
    watch: Watch,
    look_at: Instant,
    /// The timer knows whom to wake.
    is_set: bool,
    /// Since when a head has been unfinished.
    head_since: Option<Millis>,
}

impl Keeper {
    pub(super) fn new(seat: &Arc<Seat>) -> Self {
        let look_at = from_now(seat.bounds.idle);
        let watch = Watch::new(look_at);
        Self { seat: Arc::clone(seat), watch, look_at, is_set: false, head_since: None }
    }

    /// Ready when the connection has sat there too long. Nearly always there is nothing to do.
    pub(super) fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<Late> {
        // A head has begun, or is complete: the timer was set for something else.
        let mut is_stirred = self.seat.is_in_head() != self.head_since.is_some();
        while is_stirred || !self.is_set || self.watch.has_fired() {
            if is_stirred || self.watch.poll_past(cx, self.look_at).is_ready() {
                match self.look() {
                    Finding::Fine(left) => self.look_at = from_now(left),
                    Finding::Late(why) => return Poll::Ready(why),
                }
                is_stirred = false;
                self.is_set = false;
            } else {
                self.is_set = true;
            }
        }
        Poll::Pending
    }

    fn look(&mut self) -> Finding {
        let now = self.seat.clock.now();
        if !self.seat.is_in_head() {
            self.head_since = None;
        } else if self.head_since.is_none() {
            self.head_since = Some(now);
        }
        let Bounds { head, idle, stalled, .. } = *self.seat.bounds;
        let stalled_since = self.seat.stalled_since.load(Ordering::Relaxed);
        let is_busy = self.seat.is_busy.load(Ordering::Relaxed);
        // A head that has begun has its own time, however long the connection was idle before.
        let (since, max, late) = match (stalled_since, self.head_since) {
            (0, _) if is_busy => return Finding::Fine(idle.min(stalled)),
            (0, Some(since)) => (since, head, Late::Head),
            (0, None) => (Millis(self.seat.idle_since.load(Ordering::Relaxed)), idle, Late::Idle),
            (since, _) => (Millis(since), stalled, Late::Stalled),
        };
        match max.checked_sub(since.until(now)).filter(|left| !left.is_zero()) {
            Some(left) => Finding::Fine(left),
            None => Finding::Late(late),
        }
    }
}

/// An answer that keeps its connection's seat until it is handed over.
#[derive(Debug)]
pub(super) struct Seated {
    body: Body,
    seat: Arc<Seat>,
}

impl Seated {
    pub(super) fn new(body: Body, seat: Arc<Seat>) -> Self {
        Self { body, seat }
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        self.seat.leave();
    }
}

impl hyper::body::Body for Seated {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A client's connection whose bytes are counted.
#[derive(Debug)]
pub(super) struct Counted {
    stream: Stream,
    /// What was read of it before it was known what it speaks.
    begun: Bytes,
    /// It speaks HTTP/1: what is refused there is refused in text.
    is_text: bool,
    /// Our words in the place of hyper's, as far as they have not gone out.
    instead: Bytes,
    seat: Arc<Seat>,
}

impl Counted {
    pub(super) fn new(stream: Stream, begun: Bytes, is_text: bool, seat: &Arc<Seat>) -> Self {
        Self { stream, begun, is_text, instead: Bytes::new(), seat: Arc::clone(seat) }
    }

    /// Our words, where hyper's are about to go out. An answer that looks like them, an upstream's say, is left alone.
    fn instead_of(&self, bytes: &[u8]) -> Option<Bytes> {
        malformed::instead_of(bytes).filter(|_| self.is_text && self.seat.is_refusing())
    }

    /// The connection, for last words.
    pub(super) fn into_stream(self) -> Stream {
        self.stream
    }

    /// Notes that bytes moved, or that they do not.
    fn wrote(&self, wrote: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let stalled_since = &self.seat.stalled_since;
        match &wrote {
            Poll::Pending if stalled_since.load(Ordering::Relaxed) == 0 => {
                stalled_since.store(self.seat.clock.now().0, Ordering::Relaxed);
            }
            Poll::Pending => {}
            Poll::Ready(wrote) => {
                stalled_since.store(0, Ordering::Relaxed);
                // While a request is answered nothing asks for it.
                if !self.seat.is_busy.load(Ordering::Relaxed) && wrote.is_ok() {
                    self.seat.wrote();
                }
            }
        }
        wrote
    }

    /// Sends what is to go out in the place of hyper's own words.
    fn poll_instead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.instead.is_empty() {
            let polled = Pin::new(&mut self.stream).poll_write(cx, &self.instead);
            let n = ready!(self.wrote(polled))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.instead = self.instead.split_off(n.min(self.instead.len()));
        }
        Poll::Ready(Ok(()))
    }
}

fn add(counter: &AtomicU64, n: usize) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(n as u64), Ordering::Relaxed);
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.begun.is_empty() {
            let taken = self.begun.len().min(buf.remaining());
            buf.put_slice(&self.begun.split_to(taken));
            add(&self.seat.read, taken);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        add(&self.seat.read, buf.filled().len().saturating_sub(before));
        Poll::Ready(read)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_instead(cx))?;
        if let Some(ours) = self.instead_of(buf) {
            self.instead = ours;
            return Poll::Ready(Ok(buf.len()));
        }
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_instead(cx))?;
        if let [only] = bufs
            && let Some(ours) = self.instead_of(only)
        {
            self.instead = ours;
            return Poll::Ready(Ok(only.len()));
        }
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wrote(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_instead(cx))?;
        // hyper flushes when it has written all it had.
        self.seat.is_owing.store(false, Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_instead(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const HEAD: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_secs(75);

    /// Moves what a seat and its keeper have noted into the past.
    fn ago(keeper: &mut Keeper, seconds: u64) {
        let earlier = |at: u64| at.saturating_sub(seconds * 1000);
        keeper.seat.idle_since.store(earlier(keeper.seat.idle_since.load(Ordering::Relaxed)), Ordering::Relaxed);
        keeper.head_since = keeper.head_since.map(|since| Millis(earlier(since.0)));
    }

    /// A seat on a clock that has been running for some minutes.
    fn keeper() -> Keeper {
        let clock = Clock::start();
        let seat = Seat {
            clock: clock.ahead(Duration::from_secs(600)),
            ..Arc::into_inner(Seat::new(clock, &Arc::default())).unwrap()
        };
        seat.idle_since.store(seat.clock.now().0, Ordering::Relaxed);
        Keeper::new(&Arc::new(seat))
    }

    #[tokio::test]
    async fn who_asks_nothing_goes_after_its_time() {
        let mut keeper = keeper();
        ago(&mut keeper, 70);
        assert!(matches!(keeper.look(), Finding::Fine(left) if left <= Duration::from_secs(5)), "seventy seconds");
        ago(&mut keeper, 6);
        assert_eq!(keeper.look(), Finding::Late(Late::Idle));
        keeper.seat.take();
        assert_eq!(keeper.look(), Finding::Fine(IDLE), "who is being answered stays");
        keeper.seat.leave();
        ago(&mut keeper, 80);
        keeper.seat.wrote();
        assert!(matches!(keeper.look(), Finding::Fine(_)), "and who still takes an answer");
        ago(&mut keeper, 80);
        assert_eq!(keeper.look(), Finding::Late(Late::Idle));
    }

    #[tokio::test]
    async fn an_answer_keeps_the_seat_until_it_is_handed_over() {
        let mut keeper = keeper();
        ago(&mut keeper, 80);
        keeper.seat.take();
        let answer = Seated::new(Body::whole(Bytes::from_static(b"x")), Arc::clone(&keeper.seat));
        assert_eq!(keeper.look(), Finding::Fine(IDLE));
        drop(answer);
        assert!(matches!(keeper.look(), Finding::Fine(_)), "idle, but only just");
        ago(&mut keeper, 80);
        assert_eq!(keeper.look(), Finding::Late(Late::Idle), "and no longer kept");
    }

    #[tokio::test]
    async fn who_does_not_take_an_answer_goes() {
        let mut keeper = keeper();
        let earlier = |seconds: u64| keeper.seat.clock.now().0 - seconds * 1000;
        keeper.seat.take();
        keeper.seat.stalled_since.store(earlier(200), Ordering::Relaxed);
        let left = Duration::from_secs(100);
        assert!(matches!(keeper.look(), Finding::Fine(more) if more <= left), "two hundred seconds of three");
        keeper.seat.stalled_since.store(keeper.seat.clock.now().0 - 300_000, Ordering::Relaxed);
        assert_eq!(keeper.look(), Finding::Late(Late::Stalled));
        keeper.seat.leave();
        assert_eq!(keeper.look(), Finding::Late(Late::Stalled), "though all of it was handed over");
    }

    #[tokio::test]
    async fn a_head_that_has_begun_must_end() {
        let mut keeper = keeper();
        add(&keeper.seat.read, 5);
        assert!(matches!(keeper.look(), Finding::Fine(left) if left <= HEAD), "it has just begun");
        ago(&mut keeper, 11);
        add(&keeper.seat.read, 1);
        assert_eq!(keeper.look(), Finding::Late(Late::Head), "a byte now and then does not help");
        keeper.seat.take();
        keeper.seat.leave();
        assert!(matches!(keeper.look(), Finding::Fine(left) if HEAD < left), "it was complete");
    }

    #[tokio::test]
    async fn a_head_after_a_long_rest_has_its_own_time() {
        let mut keeper = keeper();
        ago(&mut keeper, 80);
        add(&keeper.seat.read, 5);
        assert!(matches!(keeper.look(), Finding::Fine(left) if left <= HEAD), "it came in time, if only just");
    }

    #[tokio::test]
    async fn the_timer_is_set_anew_when_a_head_begins() {
        let mut keeper = keeper();
        let is_late = poll_fn(|cx| Poll::Ready(keeper.poll_late(cx).is_ready())).await;
        assert!(!is_late, "just come");
        add(&keeper.seat.read, 5);
        let is_late = poll_fn(|cx| Poll::Ready(keeper.poll_late(cx).is_ready())).await;
        assert!(!is_late, "a head has begun");
        assert!(keeper.look_at <= from_now(HEAD), "and is looked after");
    }
}
