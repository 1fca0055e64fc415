//! One connection: its bytes, its driver, and what the two sides of it know of each other.
//!
//! hyper splits a connection into a handle that takes requests and a future that moves bytes. That future runs as a
//! task of its own, so an idle connection notices when it is closed. Here it gets a leash: where the handle is
//! dropped, the task ends and the socket closes with it, whatever state either was in. A task also ends by itself
//! when its connection has rested too long, so no sweeper has to come by.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::time::{Clock, Millis};
use crate::upstream::watch::{Watch, after};

/// What the handle and the driver of a connection share.
#[derive(Debug)]
pub(super) struct Line {
    /// Bytes read so far: tells whether a reply had begun when a connection broke.
    read: AtomicU64,
    /// Since when nothing is asked of it; 0 while it works.
    rests_since: AtomicU64,
    /// HTTP/2: requests on it, and how many the other side allows at once.
    streams: AtomicUsize,
    streams_max: AtomicUsize,
    /// The handle is gone; and whom to tell.
    is_dropped: AtomicBool,
    driver: Mutex<Option<Waker>>,
}

impl Line {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            read: AtomicU64::new(0),
            rests_since: AtomicU64::new(0),
            streams: AtomicUsize::new(0),
            streams_max: AtomicUsize::new(STREAMS_BEFORE_SETTINGS),
            is_dropped: AtomicBool::new(false),
            driver: Mutex::new(None),
        })
    }

    pub(super) fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    pub(super) fn rest(&self, now: Millis) {
        self.rests_since.store(now.0, Ordering::Relaxed);
    }

    pub(super) fn work(&self) {
        self.rests_since.store(0, Ordering::Relaxed);
    }

    /// How much longer it may rest; `None` if its time is up.
    pub(super) fn rest_left(&self, now: Millis, rest_max: Duration) -> Option<Duration> {
        let since = match self.rests_since.load(Ordering::Relaxed) {
            0 => now,
            at => Millis(at),
        };
        rest_max.checked_sub(since.until(now)).filter(|left| !left.is_zero())
    }

    /// Counts a request in, unless the other side takes no more.
    pub(super) fn enter(&self) -> bool {
        let max = self.streams_max.load(Ordering::Relaxed);
        let entered = self.streams.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < max).then_some(n + 1));
        if entered.is_ok() {
            self.work();
        }
        entered.is_ok()
    }

    /// Counts a request in that will have to wait for its turn.
    pub(super) fn queue(&self) {
        self.streams.fetch_add(1, Ordering::Relaxed);
        self.work();
    }

    pub(super) fn leave(&self, now: Millis) {
        if self.streams.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.rest(now);
        }
    }

    pub(super) fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    pub(super) fn allow_streams(&self, max: usize) {
        self.streams_max.store(max, Ordering::Relaxed);
    }
}

/// Streams a peer allows until it says otherwise (RFC 9113 6.5.2 recommends no less; hyper assumes the same).
const STREAMS_BEFORE_SETTINGS: usize = 100;

/// Held by a connection's handle: once it is dropped, the driver ends.
#[derive(Debug)]
pub(super) struct Leash(Arc<Line>);

impl Leash {
    pub(super) fn new(line: &Arc<Line>) -> Self {
        Self(Arc::clone(line))
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        self.0.is_dropped.store(true, Ordering::Release);
        if let Some(driver) = self.0.driver.lock().take() {
            driver.wake();
        }
    }
}

/// Runs a connection until it ends, its handle is gone, or it has rested too long.
///
/// This is polled several times for each request, so what else it waits for is looked at, not polled: both wake this task,
/// whose waker stays the same, by what the first poll has left with them.
pub(super) async fn drive<C>(connection: C, line: Arc<Line>, clock: Clock, rest_max: Duration)
where
    C: FnMut(&mut Context<'_>) -> Poll<()>,
{
    let mut connection = connection;
    let mut look_at = after(Instant::now(), rest_max);
    let mut watch = Watch::new(look_at);
    let mut is_known = false;
    poll_fn(|cx| {
        if !is_known {
            *line.driver.lock() = Some(cx.waker().clone());
        }
        if line.is_dropped.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        if !is_known || watch.has_fired() {
            while watch.poll_past(cx, look_at).is_ready() {
                let Some(left) = line.rest_left(clock.now(), rest_max) else {
                    return Poll::Ready(());
                };
                look_at = after(Instant::now(), left);
            }
        }
        is_known = true;
        connection(cx)
    })
    .await;
}

/// Counts what is read.
#[derive(Debug)]
pub(super) struct Metered<T> {
    io: T,
    line: Arc<Line>,
}

impl<T> Metered<T> {
    pub(super) fn new(io: T, line: Arc<Line>) -> Self {
        Self { io, line }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Metered<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.io).poll_read(cx, buf));
        let bytes = buf.filled().len().saturating_sub(before);
        self.line.read.fetch_add(bytes as u64, Ordering::Relaxed);
        Poll::Ready(read)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Metered<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
