//! Whether a client takes an answer, stream by stream: over HTTP/2 one connection carries many, and one that is left lying must
//! not end the others, nor keep its place for ever.
//!
//! hyper asks a body for more only while its stream's window has room. So an answer is stalled from when a piece of it was handed
//! over until the next is asked for; what waits for its upstream has been asked.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use crate::gateway::{Body, Broken};
use crate::time::{Clock, Millis};
use crate::upstream::watch::{Watch, from_now};

tokio::task_local! {
    /// The flow of the stream that this task carries.
    static FLOW: Arc<Flow>;
}

/// One stream's answer. Only its task changes it.
#[derive(Debug)]
pub(super) struct Flow {
    clock: Clock,
    /// Since when nothing more has been asked for; 0 where it has.
    stalled_since: AtomicU64,
}

impl Flow {
    pub(super) fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self { clock, stalled_since: AtomicU64::new(0) })
    }

    fn handed_over(&self) {
        self.stalled_since.store(self.clock.now().0.max(1), Ordering::Relaxed);
    }

    fn asked(&self) {
        self.stalled_since.store(0, Ordering::Relaxed);
    }
}

/// An answer whose flow is watched.
#[derive(Debug)]
pub(super) struct Flowing {
    body: Body,
    flow: Option<Arc<Flow>>,
}

impl Flowing {
    /// Call it in the stream's task.
    pub(super) fn new(body: Body) -> Self {
        let flow = FLOW.try_with(Arc::clone).ok();
        if let Some(flow) = &flow {
            flow.handed_over();
        }
        Self { body, flow }
    }
}

impl hyper::body::Body for Flowing {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Some(flow) = &self.flow {
            flow.asked();
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(flow) = &self.flow {
            flow.handed_over();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Runs what carries a stream, until it ends or its client has taken nothing for so long: it is dropped then, which resets the
/// stream.
pub(super) async fn until_stalled(future: impl Future<Output = ()>, clock: Clock, most: Duration) {
    let flow = Flow::new(clock);
    let mut carried = std::pin::pin!(FLOW.scope(Arc::clone(&flow), future));
    let mut watch: Option<Watch> = None;
    std::future::poll_fn(|cx| {
        if carried.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let since = Millis(flow.stalled_since.load(Ordering::Relaxed));
        if since == Millis(0) {
            return Poll::Pending;
        }
        let deadline = from_now(most.saturating_sub(since.until(clock.now())));
        watch.get_or_insert_with(|| Watch::new(deadline)).poll_past(cx, deadline)
    })
    .await;
}
