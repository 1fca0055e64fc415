//! One worker: a thread, its runtime, its listener, its connections. Nothing of it is shared on a request's path but
//! the table.

use std::future::poll_fn;
use std::io;
use std::net::TcpListener as StdListener;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::HeaderValue;
use http::header::CONNECTION;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::gateway::{Gateway, RequestIds};
use crate::secret::Secret;
use crate::server::auth::Known;
use crate::server::door;
use crate::server::reload::Standing;
use crate::server::seat::{Counted, Keeper, Seat, Seated};
use crate::server::tasks::Tasks;

/// What every connection of a worker shares.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) gateway: Gateway,
    pub(super) client_key: Secret,
    pub(super) ids: RequestIds,
    pub(super) tasks: Tasks,
    /// When the process started, in seconds since 1970.
    pub(super) started: u64,
    /// Tells of the end. Nobody waits on it, but on copies of it: so it stays unseen, and is cheap to ask.
    pub(super) stop: watch::Receiver<Phase>,
    pub(super) standing: Arc<Standing>,
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

/// Longest wait for a connection's first byte (LIMITS section 3).
const FIRST_BYTE_MAX: Duration = Duration::from_secs(10);

/// Largest request head; 16 KB tokens and the headers of coding agents fit well (LIMITS R16).
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// HTTP/2: largest header list, streams at once, windows (LIMITS section 3).
const H2_HEADER_LIST_MAX: u32 = 32 * 1024;
const H2_STREAMS_MAX: u32 = 128;
const H2_STREAM_WINDOW: u32 = 64 * 1024;
const H2_CONNECTION_WINDOW: u32 = 1024 * 1024;

/// How long to wait for the rest of a first word that came in pieces.
const PEEK_PAUSE: Duration = Duration::from_millis(5);
/// How long an idle connection is kept after the first signal: time for a request that is on its way to arrive, and to
/// be told that its connection ends with it. Round trips to clients are shorter.
const LINGER: Duration = Duration::from_millis(100);

/// How long an HTTP/2 client has to say that it knows of the end, and to take what it was sent last.
const PARTING: Duration = Duration::from_millis(500);

/// How long to hold back after `accept` failed for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Accepts connections until told to stop, then waits for those that are open.
pub(super) async fn run(worker: Arc<Worker>, listener: StdListener) -> io::Result<()> {
    let mut told = worker.stop.clone();
    let listener = TcpListener::from_std(listener)?;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = told.changed() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = connection(Arc::clone(&worker), stream);
                worker.tasks.spawn(connection);
            }
            // Out of descriptors, or a client that left while waiting. Trying again at once would spin.
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
    // Those that the kernel has accepted already would be reset.
    let listener = listener.into_std()?;
    while let Ok((stream, _)) = listener.accept() {
        stream.set_nonblocking(true)?;
        worker.tasks.spawn(connection(Arc::clone(&worker), TcpStream::from_std(stream)?));
    }
    Ok(())
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

/// Serves one connection. HTTP/2 is spoken to those who begin with its preface.
async fn connection(worker: Arc<Worker>, stream: TcpStream) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let begins = tokio::select! {
        biased;
        begins = tokio::time::timeout(FIRST_BYTE_MAX, begins_as_h2(&stream)) => begins,
        () = lingered(worker.stop.clone()) => return,
    };
    match begins {
        Ok(Some(true)) => serve_h2(worker, stream).await,
        Ok(Some(false)) => serve_h1(worker, stream).await,
        Ok(None) | Err(_) => {}
    }
}

/// Whether a connection begins with HTTP/2's preface; `None` if it ends before it begins.
async fn begins_as_h2(stream: &TcpStream) -> Option<bool> {
    let mut first = [0; 4];
    loop {
        let n = stream.peek(&mut first).await.ok()?;
        match first.get(..n)? {
            [] => return None,
            b"PRI " => return Some(true),
            // `P` may be the start of POST too. What was peeked at stays readable, so only time tells of more.
            begin if b"PRI ".starts_with(begin) => tokio::time::sleep(PEEK_PAUSE).await,
            _ => return Some(false),
        }
    }
}

async fn serve_h1(worker: Arc<Worker>, stream: TcpStream) {
    let seat = Seat::new(worker.gateway.clock);
    let io = TokioIo::new(Counted::new(stream, &seat));
    let keeper = Keeper::new(&seat);
    let stop = worker.stop.clone();
    let service = service_fn(move |request| {
        seat.take();
        let (worker, seat) = (Arc::clone(&worker), Arc::clone(&seat));
        async move {
            let mut served = door::serve(&worker, &seat.known, request).await;
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
    builder.max_buf_size(HEAD_BYTES_MAX).max_header_size(HEAD_BYTES_MAX);
    keep(pin!(builder.serve_connection(io, service)), keeper, stop).await;
}

/// Runs a connection until it ends, sits there too long, or everything ends. What ends it is the client's affair; what
/// mattered of it was recorded request by request.
///
/// This is polled several times for each request, so what else it waits for is looked at, not polled: both wake this task,
/// whose waker stays the same, by what the first poll has left with them.
async fn keep<S>(
    mut connection: Pin<&mut http1::Connection<TokioIo<Counted>, S>>,
    mut keeper: Keeper,
    stop: watch::Receiver<Phase>,
) where
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
        if connection.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if !is_told && (!is_waiting || is_over(&stop)) && lingers.as_mut().poll(cx).is_ready() {
            is_told = true;
            connection.as_mut().graceful_shutdown();
            if connection.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
        }
        // What it carries looks up when it is polled.
        if is_told && !is_late && cut.as_mut().poll(cx).is_ready() {
            is_late = true;
            if connection.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
        }
        is_waiting = true;
        keeper.poll_late(cx)
    })
    .await;
}

/// Everything ends. Asked of receivers that nobody waits on: what was waited for is seen, and no change any more.
fn is_over(stop: &watch::Receiver<Phase>) -> bool {
    stop.has_changed().unwrap_or(true)
}

async fn serve_h2(worker: Arc<Worker>, stream: TcpStream) {
    let stop = worker.stop.clone();
    let streams = Tasks::default();
    let executor = Executor(streams.clone(), worker.stop.clone());
    let known = Arc::new(Known::default());
    let service = service_fn(move |request| {
        let (worker, known) = (Arc::clone(&worker), Arc::clone(&known));
        async move { door::serve(&worker, &known, request).await }
    });
    let mut builder = http2::Builder::new(executor);
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .max_header_list_size(H2_HEADER_LIST_MAX)
        .max_concurrent_streams(H2_STREAMS_MAX)
        .initial_stream_window_size(H2_STREAM_WINDOW)
        .initial_connection_window_size(H2_CONNECTION_WINDOW);
    {
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let _ended = tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            () = lingered(stop) => {
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

/// Runs the streams of an HTTP/2 connection as tasks, each of which is woken at the end of everything.
#[derive(Clone, Debug)]
struct Executor(Tasks, watch::Receiver<Phase>);

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(told_of_the_end(future, self.1.clone()));
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn a_first_word_in_pieces_is_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        for (pieces, expect) in [
            (&["P", "OST / HTTP/1.1"][..], Some(false)),
            (&["GET /"], Some(false)),
            (&["P", "R", "I", " * HTTP/2.0"], Some(true)),
            (&["PRO"], Some(false)),
            (&[], None),
        ] {
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            client.set_nodelay(true).unwrap();
            let (server, _) = listener.accept().await.unwrap();
            let write = async {
                for piece in pieces {
                    client.write_all(piece.as_bytes()).await.unwrap();
                    tokio::time::sleep(PEEK_PAUSE * 2).await;
                }
                drop(client);
            };
            assert_eq!(tokio::join!(begins_as_h2(&server), write).0, expect, "{pieces:?}");
        }
    }
}
