//! Signs of life for a client that waits: what lies between it and us closes connections on which nothing moves.
//!
//! One timer for a stream, which is looked at rather than set: silence is measured from when the stream began to wait.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::upstream::watch::{Watch, after};
use crate::wire::Format;

#[derive(Debug)]
pub(super) struct Pulse {
    every: Duration,
    beat: &'static str,
    watch: Option<Watch>,
    /// When the last one was sent.
    sent: Option<Instant>,
}

impl Pulse {
    pub(super) fn new(every: Duration, format: Format) -> Self {
        Self { every, beat: format.codec().keep_alive, watch: None, sent: None }
    }

    /// The sign itself, in the client's format.
    pub(super) fn beat(&mut self) -> Bytes {
        self.sent = Some(Instant::now());
        Bytes::from_static(self.beat.as_bytes())
    }

    /// A sign, if there has been silence for too long; `silent_since`: since when there has been any. Wakes the caller when
    /// it is due: the task that polls a stream stays the same, so once it is known it is not told again.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, silent_since: Instant) -> Poll<Bytes> {
        let since = self.sent.map_or(silent_since, |sent| sent.max(silent_since));
        let deadline = after(since, self.every);
        match &mut self.watch {
            Some(watch) if !watch.has_fired() => return Poll::Pending,
            Some(watch) => ready!(watch.poll_past(cx, deadline)),
            none @ None => ready!(none.insert(Watch::new(deadline)).poll_past(cx, deadline)),
        }
        Poll::Ready(self.beat())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn beats_while_there_is_silence_and_not_before() {
        let mut pulse = Pulse::new(Duration::from_millis(20), Format::Anthropic);
        let began = Instant::now();
        assert!(poll_fn(|cx| Poll::Ready(pulse.poll(cx, began).is_pending())).await, "it has just begun");
        let beat = poll_fn(|cx| pulse.poll(cx, began)).await;
        assert!(Duration::from_millis(20) <= began.elapsed() && beat.starts_with(b"event: ping\n"), "{beat:?}");
        assert!(poll_fn(|cx| Poll::Ready(pulse.poll(cx, began).is_pending())).await, "once in a while");
        poll_fn(|cx| pulse.poll(cx, began)).await;
        assert!(Duration::from_millis(40) <= began.elapsed(), "from one to the next");
        let spoke = Instant::now();
        poll_fn(|cx| pulse.poll(cx, spoke)).await;
        assert!(Duration::from_millis(20) <= spoke.elapsed(), "from when it fell silent again");
    }
}
