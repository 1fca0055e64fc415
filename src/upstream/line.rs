//! One HTTP/2 connection: its driver, and what the requests on it know of each other.
//!
//! Many requests share it, so the future that moves its bytes runs as a task of its own. It ends by itself when the
//! connection has rested too long.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use crate::time::{Clock, Millis};
use crate::upstream::watch::{Watch, after};

/// What the handle and the driver of a connection share.
#[derive(Debug)]
pub(super) struct Line {
    /// Since when nothing is asked of it; 0 while it works.
    rests_since: AtomicU64,
    /// Requests on it, and how many the other side allows at once.
    streams: AtomicUsize,
    streams_max: AtomicUsize,
}

impl Line {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            rests_since: AtomicU64::new(0),
            streams: AtomicUsize::new(0),
            streams_max: AtomicUsize::new(STREAMS_BEFORE_SETTINGS),
        })
    }

    fn rest(&self, now: Millis) {
        self.rests_since.store(now.0, Ordering::Relaxed);
    }

    fn work(&self) {
        self.rests_since.store(0, Ordering::Relaxed);
    }

    /// How much longer it may rest; `None` if its time is up.
    fn rest_left(&self, now: Millis, rest_max: Duration) -> Option<Duration> {
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

/// Runs a connection until it ends or has rested too long.
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
