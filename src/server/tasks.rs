//! Every task of a worker is spawned here, so that shutdown can wait for those that somebody else waits for.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::upstream::Spawn;

/// Counts the tasks it has spawned and not seen end.
#[derive(Clone, Debug, Default)]
pub(super) struct Tasks(Arc<State>);

#[derive(Debug, Default)]
struct State {
    running: AtomicUsize,
    ended: Notify,
}

impl Tasks {
    /// Runs a future on this thread's runtime.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
    pub(super) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.0.running.fetch_add(1, Ordering::Relaxed);
        let guard = Guard(Arc::clone(&self.0));
        tokio::spawn(async move {
            let _guard = guard;
            future.await;
        });
    }

    #[must_use]
    pub(super) fn running(&self) -> usize {
        self.0.running.load(Ordering::Relaxed)
    }

    /// Waits until none is left.
    pub(super) async fn wait(&self) {
        loop {
            let ended = self.0.ended.notified();
            if self.running() == 0 {
                return;
            }
            ended.await;
        }
    }
}

/// Runs what looks after connections to upstreams. Nobody waits for it: once the requests have ended there is nothing left
/// to be said on these connections, and whatever the other side does then must not hold us up.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "as above, but not waited for")]
pub(super) fn aside() -> Spawn {
    Arc::new(|future| drop(tokio::spawn(future)))
}

/// Counts down however the task ends, by a panic too.
struct Guard(Arc<State>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
        self.0.ended.notify_waiters();
    }
}
