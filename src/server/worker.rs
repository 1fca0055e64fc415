//! One worker: a thread, its runtime, its listener, its connections. Nothing of it is shared on a request's path but
//! the table.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use http::HeaderValue;
use http::header::CONNECTION;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::config::clients::Clients;
use crate::gateway::{Gateway, RequestIds};
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::server::accept::{Arrived, Crowd, Listener, Member};
use crate::server::auth::Known;
use crate::server::certificate::Shown;
use crate::server::cors::Cors;
use crate::server::flow::Flowing;
use crate::server::listen::Opened;
use crate::server::log::Log;
use crate::server::refusal::Refusals;
use crate::server::reload::Standing;
use crate::server::seat::{Counted, Keeper, Late, Seat, Seated};
use crate::server::stream::Stream;
use crate::server::tasks::Tasks;
use crate::server::{door, flow, malformed};
use crate::time::Clock;

/// What every connection of a worker shares.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) gateway: Gateway,
    pub(super) clients: Arc<ArcSwap<Clients>>,
    pub(super) ids: RequestIds,
    pub(super) tasks: Tasks,
    /// When the process started, in seconds since 1970.
    pub(super) started: u64,
    /// Tells of the end. Nobody waits on it, but on copies of it: so it stays unseen, and is cheap to ask.
    pub(super) stop: watch::Receiver<Phase>,
    pub(super) standing: Arc<Standing>,
    /// Shown to who speaks TLS.
    pub(super) certificate: Option<Arc<Shown>>,
    pub(super) crowd: Arc<Crowd>,
    /// Those who read metrics on a port of their own: they come in when nobody else does any more.
    pub(super) watchers: Arc<Crowd>,
    pub(super) cors: Cors,
    /// What this worker counts, and what all do.
    pub(super) metrics: Arc<Metrics>,
    pub(super) counted: Arc<[Arc<Metrics>]>,
    /// Where metrics are served, if not here.
    pub(super) metrics_at: Option<Arc<str>>,
    pub(super) log: Log,
    pub(super) journal: Option<Arc<Journal>>,
    pub(super) refusals: Refusals,
}

/// What a listener is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Purpose {
    Everything,
    Metrics,
}

/// How far the end has come.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Phase {
    Serving,
    /// Nothing new begins; what is under way goes on.
    Draining,
    /// What is still under way is cut.
    Over,
}

/// How long an idle connection is kept after the first signal: time for a request that is on its way to arrive, and to
/// be told that its connection ends with it. Round trips to clients are shorter.
const LINGER: Duration = Duration::from_millis(100);

/// How long an HTTP/2 client has to say that it knows of the end, and to take what it was sent last.
const PARTING: Duration = Duration::from_millis(500);

/// How long to hold back after `accept` failed for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Accepts connections on one listener until told to stop. They are tasks of the worker's, and so is this.
pub(super) async fn run(worker: Arc<Worker>, listener: Opened, purpose: Purpose) -> io::Result<()> {
    let mut told = worker.stop.clone();
    let listener = Listener::new(listener)?;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = told.changed() => break,
        };
        match accepted {
            Ok(arrived) => admit(&worker, arrived, purpose),
            // Out of descriptors, or a client that left while waiting. Trying again at once would spin.
            Err(error) => {
                worker.crowd.cannot_accept(&error, worker.gateway.clock.now());
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Those that the kernel has accepted already would be reset.
    while let Poll::Ready(Ok(arrived)) = poll_fn(|cx| Poll::Ready(listener.poll_accept(cx))).await {
        admit(&worker, arrived, purpose);
    }
    Ok(())
}

/// Serves a connection, unless there are too many.
pub(super) fn admit(worker: &Arc<Worker>, arrived: Arrived, purpose: Purpose) {
    let crowd = match purpose {
        Purpose::Everything => &worker.crowd,
        Purpose::Metrics => &worker.watchers,
    };
    match crowd.join(worker.gateway.clock.now()) {
        Some(member) => worker.tasks.spawn(connection(Arc::clone(worker), arrived, (member, purpose))),
        None => drop(arrived),
    }
}

/// Waits until idle connections are to be closed.
async fn lingered(mut stop: watch::Receiver<Phase>) {
    // An `Err` says that nobody is left to tell, which ends things too.
    drop(stop.wait_for(|phase| Phase::Draining <= *phase).await);
    tokio::time::sleep(LINGER).await;
}

/// Waits until what is under way is to be cut.
async fn is_cut(mut stop: watch::Receiver<Phase>) {
    drop(stop.wait_for(|phase| Phase::Over <= *phase).await);
}

/// Runs a stream's future, which is polled once more when everything is cut: what it carries finds out then.
async fn told_of_the_end(future: impl Future<Output = ()>, stop: watch::Receiver<Phase>) {
    let (mut future, mut cut) = (pin!(future), pin!(is_cut(stop)));
    let mut is_told = false;
    poll_fn(|cx| {
        is_told = is_told || cut.as_mut().poll(cx).is_ready();
        future.as_mut().poll(cx)
    })
    .await;
}

/// Serves one connection. HTTP/2 is spoken to those who begin with its preface, or have agreed on it over TLS.
async fn connection(worker: Arc<Worker>, arrived: Arrived, (_member, purpose): (Member, Purpose)) {
    let begun = tokio::select! {
        biased;
        begun = tokio::time::timeout(worker.gateway.bounds.first_byte, begin(&worker, arrived)) => begun,
        () = lingered(worker.stop.clone()) => return,
    };
    match begun {
        // Who reads metrics speaks HTTP/1.
        Ok(Some(Begun { stream, bytes, is_h2: true })) if purpose == Purpose::Everything => {
            serve_h2(worker, stream, bytes).await;
        }
        Ok(Some(Begun { stream, bytes, .. })) => serve_h1(worker, stream, bytes, purpose).await,
        Ok(None) | Err(_) => {}
    }
}

/// A connection of which it is known what it speaks.
struct Begun {
    stream: Stream,
    /// What was read to find out.
    bytes: Bytes,
    is_h2: bool,
}

/// Finds out what a connection speaks; `None` if it ends before it begins.
async fn begin(worker: &Worker, arrived: Arrived) -> Option<Begun> {
    let mut stream = match arrived {
        Arrived::Tcp(tcp) => Stream::Tcp(tcp),
        Arrived::Unix(unix) => Stream::Unix(unix),
        Arrived::Tls(tcp) => {
            let acceptor = TlsAcceptor::from(worker.certificate.as_ref()?.now());
            // In a box: a handshake is large, and every connection would carry room for it about.
            Stream::Tls(Box::new(Box::pin(acceptor.accept(tcp)).await.ok()?))
        }
    };
    let agreed = match &stream {
        Stream::Tls(tls) => tls.get_ref().1.alpn_protocol().map(|name| name == b"h2"),
        Stream::Tcp(_) | Stream::Unix(_) => None,
    };
    let mut bytes = BytesMut::with_capacity(FIRST_READ_BYTES);
    let is_h2 = begins_as_h2(&mut stream, &mut bytes).await?;
    Some(Begun { stream, bytes: bytes.freeze(), is_h2: agreed.unwrap_or(is_h2) })
}

/// Whether a connection begins with HTTP/2's preface; `None` if it ends before it begins.
async fn begins_as_h2(stream: &mut Stream, bytes: &mut BytesMut) -> Option<bool> {
    loop {
        if stream.read_buf(bytes).await.ok()? == 0 {
            return None;
        }
        match bytes.get(..PREFACE.len()) {
            Some(begin) => return Some(begin == PREFACE),
            // `P` may be the start of POST too.
            None if PREFACE.starts_with(bytes) => {}
            None => return Some(false),
        }
    }
}

/// How HTTP/2 begins, as far as nothing else does (RFC 9113 3.4).
const PREFACE: &[u8] = b"PRI ";

/// So much is read at first: most requests fit.
const FIRST_READ_BYTES: usize = 4096;

async fn serve_h1(worker: Arc<Worker>, stream: Stream, begun: Bytes, purpose: Purpose) {
    let bounds = Arc::clone(&worker.gateway.bounds);
    let seat = Seat::new(worker.gateway.clock, &bounds);
    let io = TokioIo::new(Counted::new(stream, begun, true, &seat));
    let keeper = Keeper::new(&seat);
    let stop = worker.stop.clone();
    let service = service_fn(move |request| {
        seat.take();
        let (worker, seat) = (Arc::clone(&worker), Arc::clone(&seat));
        let (parts, body) = door::split(request);
        async move {
            let mut served = match purpose {
                Purpose::Everything => door::serve(&worker, &seat.known, parts, body).await,
                Purpose::Metrics => door::serve_metrics(&worker, &parts),
            };
            if let Ok(response) = &mut served
                && is_over(&worker.stop)
            {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            served.map(|response| response.map(|body| Seated::new(body, seat)))
        }
    });
    let mut builder = http1::Builder::new();
    // The keeper sees to it.
    builder.header_read_timeout(None);
    builder.max_buf_size(bounds.head_bytes).max_header_size(bounds.head_bytes);
    // Told anything else than its own number hyper keeps the fields on the heap.
    if bounds.head_fields != HYPERS_FIELDS {
        builder.max_headers(bounds.head_fields);
    }
    let mut connection = builder.serve_connection(io, service);
    if keep(&mut connection, keeper, stop).await == Some(Late::Head) {
        last_words(connection.into_parts().io.into_inner().into_stream()).await;
    }
}

/// Most fields of a head where hyper is told nothing.
const HYPERS_FIELDS: usize = 100;

/// Tells whoever has sent half a head that it was too slow. Who does not take it goes without.
async fn last_words(mut stream: Stream) {
    let said = async {
        stream.write_all(&malformed::late()).await?;
        stream.shutdown().await
    };
    // What matters is that it ends.
    drop(tokio::time::timeout(PARTING, said).await);
}

/// Runs a connection until it ends, sits there too long, or everything ends, and says if it was the second. What else ends
/// it is the client's affair; what mattered of it was recorded request by request.
///
/// This is polled several times for each request, so what else it waits for is looked at, not polled: both wake this task,
/// whose waker stays the same, by what the first poll has left with them.
async fn keep<S>(
    connection: &mut http1::Connection<TokioIo<Counted>, S>,
    mut keeper: Keeper,
    stop: watch::Receiver<Phase>,
) -> Option<Late>
where
    S: HttpService<Incoming, ResBody = Seated>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut lingers = pin!(tokio::task::coop::unconstrained(lingered(stop.clone())));
    let mut cut = pin!(tokio::task::coop::unconstrained(is_cut(stop.clone())));
    let mut is_waiting = false;
    let mut is_told = false;
    let mut is_late = false;
    poll_fn(|cx| {
        // First of all what has arrived: it is answered.
        if Pin::new(&mut *connection).poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        if !is_told && (!is_waiting || is_over(&stop)) && lingers.as_mut().poll(cx).is_ready() {
            is_told = true;
            Pin::new(&mut *connection).graceful_shutdown();
            if Pin::new(&mut *connection).poll(cx).is_ready() {
                return Poll::Ready(None);
            }
        }
        // What it carries looks up when it is polled.
        if is_told && !is_late && cut.as_mut().poll(cx).is_ready() {
            is_late = true;
            if Pin::new(&mut *connection).poll(cx).is_ready() {
                return Poll::Ready(None);
            }
        }
        is_waiting = true;
        keeper.poll_late(cx).map(Some)
    })
    .await
}

/// Everything ends. Asked of receivers that nobody waits on: what was waited for is seen, and no change any more.
fn is_over(stop: &watch::Receiver<Phase>) -> bool {
    stop.has_changed().unwrap_or(true)
}

/// HTTP/2: how often a client is asked whether it is still there, and how long it may take to say so: one that has vanished
/// without a word is gone within a minute.
const H2_PING_EVERY: Duration = Duration::from_secs(30);
const H2_PING_WAIT: Duration = Duration::from_secs(20);

async fn serve_h2(worker: Arc<Worker>, stream: Stream, begun: Bytes) {
    let stop = worker.stop.clone();
    let bounds = Arc::clone(&worker.gateway.bounds);
    let seat = Seat::new(worker.gateway.clock, &bounds);
    let streams = Tasks::default();
    let executor = Executor {
        streams: streams.clone(),
        stop: worker.stop.clone(),
        clock: worker.gateway.clock,
        stalled: bounds.stalled,
    };
    let known = Arc::new(Known::default());
    let begins = Arc::new(AtomicU64::new(0));
    let begun_streams = Arc::clone(&begins);
    let service = service_fn(move |request| {
        let (worker, known) = (Arc::clone(&worker), Arc::clone(&known));
        begun_streams.fetch_add(1, Ordering::Relaxed);
        let (parts, body) = door::split(request);
        async move { door::serve(&worker, &known, parts, body).await.map(|response| response.map(Flowing::new)) }
    });
    let mut builder = http2::Builder::new(executor);
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(H2_PING_EVERY))
        .keep_alive_timeout(H2_PING_WAIT)
        .max_header_list_size(bounds.h2_header_list_bytes)
        .max_concurrent_streams(bounds.h2_streams)
        .initial_stream_window_size(bounds.h2_stream_window_bytes)
        .initial_connection_window_size(bounds.h2_connection_window_bytes)
        .max_pending_accept_reset_streams(bounds.h2_pending_resets)
        .max_local_error_reset_streams(bounds.h2_local_resets)
        .max_send_buf_size(bounds.h2_send_bytes);
    {
        let io = TokioIo::new(Counted::new(stream, begun, false, &seat));
        let mut connection = pin!(builder.serve_connection(io, service));
        let leaves = async {
            tokio::select! {
                () = lingered(stop) => {}
                () = sits_idle(&streams, &begins, bounds.idle) => {}
            }
        };
        let _ended = tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            () = leaves => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    biased;
                    ended = connection.as_mut() => ended,
                    () = quiet(&streams) => Ok(()),
                }
            }
        };
    }
    // Without it they come to their ends, and leave their records.
    streams.wait().await;
}

/// Waits until a connection has carried nothing for so long; it may be found out as late as after twice the time.
async fn sits_idle(streams: &Tasks, begins: &AtomicU64, idle: Duration) {
    let mut seen = u64::MAX;
    loop {
        let begun = begins.load(Ordering::Relaxed);
        if begun == seen && streams.running() == 0 {
            return;
        }
        seen = begun;
        tokio::time::sleep(idle).await;
    }
}

/// Waits until a connection that is to end carries nothing any more. A client that answers would have closed it by then.
async fn quiet(streams: &Tasks) {
    loop {
        streams.wait().await;
        tokio::time::sleep(PARTING).await;
        if streams.running() == 0 {
            return;
        }
    }
}

/// Runs the streams of an HTTP/2 connection as tasks, each of which is woken at the end of everything, and ended when its
/// client takes nothing for too long.
#[derive(Clone, Debug)]
struct Executor {
    streams: Tasks,
    stop: watch::Receiver<Phase>,
    clock: Clock,
    stalled: Duration,
}

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.streams.spawn(self.carried(future));
    }
}

impl Executor {
    /// What carries a stream. The stream itself is boxed, for each layer about it would make room for all of it twice.
    fn carried(&self, stream: impl Future<Output = ()> + Send + 'static) -> impl Future<Output = ()> + Send + 'static {
        let told = told_of_the_end(Box::pin(stream), self.stop.clone());
        flow::until_stalled(told, self.clock, self.stalled)
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn a_stream_is_kept_once_whatever_carries_it() {
        let (_end, stop) = watch::channel(Phase::Serving);
        let stalled = Duration::from_secs(1);
        let executor = Executor { streams: Tasks::default(), stop, clock: Clock::start(), stalled };
        let carried = executor.carried(async {
            let room = [1_u8; 8192];
            tokio::task::yield_now().await;
            assert_eq!(room.iter().map(|n| usize::from(*n)).sum::<usize>(), 8192, "it is there after a pause");
        });
        assert!(size_of_val(&carried) < 8192, "{} bytes about a stream of 8,192", size_of_val(&carried));
        carried.await;
    }

    #[tokio::test]
    async fn a_first_word_in_pieces_is_waited_for() {
        for (pieces, expect) in [
            (&["P", "OST / HTTP/1.1"][..], Some(false)),
            (&["GET /"], Some(false)),
            (&["P", "R", "I", " * HTTP/2.0"], Some(true)),
            (&["PRO"], Some(false)),
            (&["PR"], None),
            (&[], None),
        ] {
            let (mut client, server) = UnixStream::pair().unwrap();
            let (mut server, mut read) = (Stream::Unix(server), BytesMut::new());
            let write = async {
                for piece in pieces {
                    client.write_all(piece.as_bytes()).await.unwrap();
                    tokio::task::yield_now().await;
                }
                drop(client);
            };
            assert_eq!(tokio::join!(begins_as_h2(&mut server, &mut read), write).0, expect, "{pieces:?}");
            assert!(pieces.concat().as_bytes().starts_with(&read), "nothing is lost: {read:?}");
        }
    }
}
