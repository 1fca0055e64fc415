//! One timer for many deadlines.
//!
//! A deadline that moves later costs nothing: the timer is only set again once it has fired too early. So a
//! connection keeps one timer for all its requests, and a chunk of a stream never touches the runtime's timer wheel.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::task::coop::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};

#[derive(Debug)]
pub(crate) struct Watch {
    sleep: Pin<Box<Sleep>>,
}

impl Watch {
    pub(crate) fn new(deadline: Instant) -> Self {
        Self { sleep: Box::pin(sleep_until(deadline)) }
    }

    /// Whether it has gone off since it was last polled. Until then nothing is late, and a task that polled it once need
    /// not poll it again: its waker is known.
    pub(crate) fn has_fired(&self) -> bool {
        self.sleep.is_elapsed()
    }

    /// Ready once `deadline` is past; wakes the caller when it is.
    pub(crate) fn poll_past(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        if deadline < self.sleep.deadline() {
            self.sleep.as_mut().reset(deadline);
        }
        loop {
            // However much the task has done in this turn: whoever does not poll again must have left its waker here.
            ready!(pin!(unconstrained(self.sleep.as_mut())).poll(cx));
            if deadline <= Instant::now() {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(deadline);
        }
    }
}

/// The moment `duration` from now. What is configured may be absurd; it does not overflow.
pub(crate) fn from_now(duration: Duration) -> Instant {
    after(Instant::now(), duration)
}

pub(crate) fn after(from: Instant, duration: Duration) -> Instant {
    from + duration.min(DEADLINE_MAX)
}

/// No deadline lies further ahead: nothing waits for a month.
const DEADLINE_MAX: Duration = Duration::from_secs(30 * 86_400);
