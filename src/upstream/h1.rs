//! One HTTP/1 connection, moved along by whoever waits for something of it.
//!
//! hyper splits a connection into a handle that takes requests and a future that moves bytes. The usual way is to give that
//! future a task of its own; then a request and its answer cross between two tasks four times, and each crossing costs a
//! turn of the scheduler and a look at cold memory. Here the future stays with the handle, and the task that waits for
//! the answer polls both. What either wakes while both are being polled is only noted and looked at again at once.
//!
//! ```text
//! resting ──▶ its waker: the pool's keeper    (closed by the other side, or too old: dropped)
//! at work ──▶ its waker: the request's task   (dropped: the socket closes, whatever state it was in)
//! ```

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};

use hyper::client::conn::http1;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::time::Millis;
use crate::upstream::sent::Sent;
use crate::upstream::watch::Watch;

/// An HTTP/1 connection. Dropping it closes it.
pub(super) struct H1 {
    pub(super) sender: http1::SendRequest<Sent>,
    /// Moves bytes; gone once it has ended.
    run: Option<Run>,
    bell: Arc<Bell>,
    /// Rings the bell. Made once: what is registered with the socket stays the same over all requests.
    waker: Waker,
    /// The timer of whatever request it serves.
    pub(super) watch: Option<Watch>,
    pub(super) born: Millis,
    /// Since when nothing is asked of it.
    pub(super) rests_since: Millis,
}

/// A connection's future, whatever its socket is.
pub(super) type Run = Box<dyn FnMut(&mut Context<'_>) -> Poll<()> + Send>;

impl H1 {
    pub(super) fn new(sender: http1::SendRequest<Sent>, run: Run, bell: Arc<Bell>, born: Millis) -> Self {
        let waker = Waker::from(Arc::clone(&bell));
        Self { sender, run: Some(run), bell, waker, watch: None, born, rests_since: born }
    }

    /// Bytes read so far: tells whether a reply had begun when a connection broke.
    pub(super) fn bytes_read(&self) -> u64 {
        self.bell.read.load(Ordering::Relaxed)
    }

    /// Moves bytes until `ask` has an answer or there is nothing left to move. Then the task is woken when there is.
    pub(super) fn drive<T>(&mut self, cx: &Context<'_>, mut ask: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        self.bell.listen(cx.waker());
        let mut inner = Context::from_waker(&self.waker);
        // What is asked for comes from the connection, so it is asked again whenever that has moved.
        let mut asks = Context::from_waker(Waker::noop());
        for _ in 0..ROUNDS_MAX {
            // First, so that the connection finds what is wanted of it.
            if let Poll::Ready(answer) = ask(&mut asks) {
                return Poll::Ready(answer);
            }
            // The task was woken for something else.
            if self.bell.is_quiet() {
                return Poll::Pending;
            }
            self.bell.attend();
            if self.run.as_mut().is_some_and(|run| run(&mut inner).is_ready()) {
                self.run = None;
            }
            if let Poll::Ready(answer) = ask(&mut asks) {
                return Poll::Ready(answer);
            }
            if self.bell.settle() {
                return Poll::Pending;
            }
        }
        // Others have a turn before it goes on.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Lets it rest; whether it takes another request. From now on the keeper is woken for it.
    pub(super) fn rest(&mut self, cx: &Context<'_>, now: Millis) -> bool {
        self.rests_since = now;
        self.bell.listen(cx.waker());
        // Whoever had its last chunk has moved it as far as it goes, as a rule.
        self.bell.settle() && self.sender.is_ready() || self.is_ready_after(cx)
    }

    /// Whether it takes a request, once it has done all it can for now.
    pub(super) fn is_ready_after(&mut self, cx: &Context<'_>) -> bool {
        let _nothing: Poll<()> = self.drive(cx, |_| Poll::Pending);
        self.run.is_some() && self.sender.is_ready()
    }

    /// Something has happened to it since it was last looked at: while it rests, nothing good.
    pub(super) fn has_rung(&self) -> bool {
        self.bell.state.load(Ordering::SeqCst) == RUNG
    }

    /// From now on whoever waits for it looks by himself: nobody else is to be woken.
    pub(super) fn hush(&self) {
        self.bell.attend();
    }
}

/// Turns of one poll: a connection that always has something left to do does not starve the others.
const ROUNDS_MAX: u32 = 16;

impl fmt::Debug for H1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("H1").field("born", &self.born).finish_non_exhaustive()
    }
}

/// Who is to be woken for a connection, and whether it needs to be.
///
/// ```text
/// QUIET ── ring: wakes the listener ──▶ RUNG ◀── ring: only noted ── ATTENDED
///   ▲                                     └──────── attend ──────────────▲
///   └──────────────────────────────────────────────── settle ────────────┘
/// ```
#[derive(Debug)]
pub(super) struct Bell {
    state: AtomicU8,
    read: AtomicU64,
    listener: Mutex<Waker>,
}

const QUIET: u8 = 0;
const ATTENDED: u8 = 1;
const RUNG: u8 = 2;

impl Bell {
    pub(super) fn new() -> Arc<Self> {
        let listener = Mutex::new(Waker::noop().clone());
        Arc::new(Self { state: AtomicU8::new(ATTENDED), read: AtomicU64::new(0), listener })
    }

    fn listen(&self, waker: &Waker) {
        self.listener.lock().clone_from(waker);
    }

    fn attend(&self) {
        self.state.store(ATTENDED, Ordering::SeqCst);
    }

    /// Whether nothing has rung since all was done that could be done.
    fn is_quiet(&self) -> bool {
        self.state.load(Ordering::SeqCst) == QUIET
    }

    /// Whether nothing has rung since it was attended.
    fn settle(&self) -> bool {
        self.state.compare_exchange(ATTENDED, QUIET, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    fn ring(&self) {
        if self.state.swap(RUNG, Ordering::SeqCst) == QUIET {
            self.listener.lock().wake_by_ref();
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

/// Counts what is read.
#[derive(Debug)]
pub(super) struct Metered<T> {
    io: T,
    bell: Arc<Bell>,
}

impl<T> Metered<T> {
    pub(super) fn new(io: T, bell: &Arc<Bell>) -> Self {
        Self { io, bell: Arc::clone(bell) }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Metered<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.io).poll_read(cx, buf));
        let bytes = buf.filled().len().saturating_sub(before);
        // Only whoever moves the connection changes it.
        let counter = &self.bell.read;
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(bytes as u64), Ordering::Relaxed);
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_bell_wakes_once_and_only_those_who_do_not_look() {
        let (bell, count) = (Bell::new(), Arc::new(Count::default()));
        let waker = Waker::from(Arc::clone(&bell));
        bell.listen(&Waker::from(Arc::clone(&count)));
        let woken = || count.0.load(Ordering::Relaxed);
        waker.wake_by_ref();
        assert_eq!((woken(), bell.settle()), (0, false), "it is attended: looked at again instead");
        bell.attend();
        assert!(bell.settle(), "nothing came");
        waker.wake_by_ref();
        waker.wake_by_ref();
        assert_eq!(woken(), 1, "once is enough");
        bell.attend();
        assert!(bell.settle(), "what rang has been looked at");
        waker.wake();
        assert_eq!(woken(), 2);
    }
}
