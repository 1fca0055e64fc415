//! The pool against scripted servers on the loopback.

mod tls;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;
use crate::wire::splice::Parts;

const PATIENT: Timeouts = Timeouts { connect: SECS_5, first_byte: SECS_5, idle: SECS_5, total: SECS_5 };
const SECS_5: Duration = Duration::from_secs(5);
const TINY: Duration = Duration::from_millis(30);
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

#[expect(clippy::disallowed_methods, reason = "tests have no server whose tasks could be waited for")]
fn spawn<F: Future<Output: Send> + Send + 'static>(task: F) -> JoinHandle<F::Output> {
    tokio::spawn(task)
}

fn upstream_with(tls: Arc<rustls::ClientConfig>, keep: Keep) -> Upstream {
    let spawn: Spawn = Arc::new(|task| drop(spawn(task)));
    Upstream::new(Settings { tls, spawn, clock: Clock::start(), keep })
}

fn upstream() -> Upstream {
    upstream_with(tls_config(None).unwrap(), Keep::default())
}

fn post(origin: &Arc<Origin>, body: &'static str) -> Outgoing {
    Outgoing {
        origin: Arc::clone(origin),
        method: Method::POST,
        path: PathAndQuery::from_static("/v1/x?y=1"),
        headers: HeaderMap::new(),
        body: Parts::whole(Bytes::from_static(body.as_bytes())).into(),
        timeouts: PATIENT,
    }
}

/// What a scripted server does on each connection, in order: the last entry serves all that follow.
type Script = fn(TcpStream) -> Pin<Box<dyn Future<Output = ()> + Send>>;

struct Server {
    origin: Arc<Origin>,
    accepted: Arc<AtomicUsize>,
}

impl Server {
    async fn start(scripts: &[Script]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        let mut scripts: VecDeque<Script> = scripts.iter().copied().collect();
        drop(spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let script = if 1 < scripts.len() { scripts.pop_front() } else { scripts.front().copied() };
                drop(spawn(script.unwrap()(stream)));
            }
        }));
        Self { origin: origin(port), accepted }
    }

    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

fn origin(port: u16) -> Arc<Origin> {
    Arc::new(Origin { tls: false, host: "127.0.0.1".into(), port, proxy: None })
}

/// Reads one request whose body is as long as it says; `None` at the end.
async fn read_request<T: tokio::io::AsyncRead + Unpin>(stream: &mut T) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        if let Some(at) = memchr::memmem::find(&bytes, b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..at]).to_ascii_lowercase();
            let length =
                head.split("content-length: ").nth(1).map_or(0, |t| t.lines().next().unwrap().parse().unwrap());
            if at + 4 + length <= bytes.len() {
                return Some(String::from_utf8(bytes).unwrap());
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// Answers every request alike.
fn serve(mut stream: TcpStream) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        while read_request(&mut stream).await.is_some() {
            stream.write_all(OK.as_bytes()).await.unwrap();
        }
    })
}

/// Answers one request and closes without a word of warning.
fn serve_once(mut stream: TcpStream) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        if read_request(&mut stream).await.is_some() {
            drop(stream.write_all(OK.as_bytes()).await);
        }
    })
}

async fn text(mut answer: Answer) -> String {
    String::from_utf8(answer.body.collect(1 << 20, |_| true).await.unwrap().to_vec()).unwrap()
}

/// The chain of an error as a person would read it.
fn words(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |s| format!("{error}: {}", words(s)))
}

#[tokio::test]
async fn a_connection_is_used_again_once_its_answer_is_read() {
    let server = Server::start(&[serve]).await;
    let upstream = upstream();
    for expect in [false, true, true] {
        let answer = upstream.send(post(&server.origin, "{}")).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.reused), (200, expect));
        assert_eq!(text(answer).await, "hi");
    }
    // An answer that is still being read keeps its connection to itself.
    let first = upstream.send(post(&server.origin, "{}")).await.unwrap();
    let second = upstream.send(post(&server.origin, "{}")).await.unwrap();
    assert_eq!((first.reused, second.reused, server.accepted()), (true, false, 2));
}

#[tokio::test]
async fn a_dead_reused_connection_is_named_as_such_and_the_next_one_is_fresh() {
    // Reads the second request, then resets: the worst moment.
    let server = Server::start(&[
        |mut stream| {
            Box::pin(async move {
                read_request(&mut stream).await.unwrap();
                stream.write_all(OK.as_bytes()).await.unwrap();
                read_request(&mut stream).await.unwrap();
            })
        },
        serve,
    ])
    .await;
    let upstream = upstream();
    text(upstream.send(post(&server.origin, "{}")).await.unwrap()).await;
    let error = upstream.send(post(&server.origin, "{}")).await.unwrap_err();
    assert_eq!((error.stage, error.reused, error.what), (Stage::Sent, true, What::Closed), "{}", words(&error));
    let answer = upstream.send(post(&server.origin, "{}")).await.unwrap();
    assert!(!answer.reused, "a fresh connection");
}

#[tokio::test]
async fn a_fresh_connection_that_dies_is_not_called_reused() {
    let server = Server::start(&[|mut stream| {
        Box::pin(async move {
            read_request(&mut stream).await.unwrap();
        })
    }])
    .await;
    let error = upstream().send(post(&server.origin, "{}")).await.unwrap_err();
    assert_eq!((error.stage, error.reused), (Stage::Sent, false), "{}", words(&error));
}

#[tokio::test]
async fn an_upstream_that_always_closes_costs_no_request() {
    let server = Server::start(&[serve_once]).await;
    let upstream = upstream();
    for n in 0..60 {
        let answer = match upstream.send(post(&server.origin, "{}")).await {
            Err(error) if error.stage == Stage::Sent && error.reused => {
                // What R30 allows, and it has to be enough.
                upstream.send(post(&server.origin, "{}")).await
            }
            other => other,
        };
        let answer = answer.unwrap_or_else(|e| panic!("request {n}: {}", words(&e)));
        assert_eq!(text(answer).await, "hi");
    }
}

#[test]
fn numbers_are_spelled_as_headers() {
    for n in [0, 7, 10, 1099, usize::MAX] {
        assert_eq!(decimal(n), n.to_string());
    }
}

#[tokio::test]
async fn head_and_body_leave_in_one_write() {
    let server = Server::start(&[|mut stream| {
        Box::pin(async move {
            let mut first = vec![0; 65_536];
            let n = stream.read(&mut first).await.unwrap();
            let seen = String::from_utf8_lossy(&first[..n]).into_owned();
            let reply = format!("HTTP/1.1 200 OK\r\ncontent-length: {n}\r\n\r\n{seen}");
            stream.write_all(reply.as_bytes()).await.unwrap();
        })
    }])
    .await;
    let mut outgoing = post(&server.origin, "");
    let edit = |at| crate::wire::splice::Edit { from: at, to: at + 1, with: Bytes::from_static(b"<new>") };
    outgoing.body =
        crate::wire::splice::splice(&Bytes::from_static(b"aXbYc"), [edit(1), edit(3)].into_iter().collect()).into();
    outgoing.headers.insert("x-a", HeaderValue::from_static("1"));
    outgoing.headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    outgoing.headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("3"));
    let seen = text(upstream().send(outgoing).await.unwrap()).await;
    let host = server.origin.authority();
    let (head, body) = seen.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, "a<new>b<new>c");
    let mut lines: Vec<&str> = head.lines().collect();
    assert_eq!(lines.remove(0), "POST /v1/x?y=1 HTTP/1.1");
    lines.sort_unstable();
    assert_eq!(lines, ["content-length: 13", &format!("host: {host}"), "x-a: 1"]);
}

/// Sends once to a server that answers with `reply` and keeps the connection open; gives what became of it.
async fn reply_of(reply: &'static str) -> Result<Answer, SendError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = origin(listener.local_addr().unwrap().port());
    drop(spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await.unwrap();
        drop(stream.write_all(reply.as_bytes()).await);
        drop(stream.read_u8().await);
    }));
    upstream().send(Outgoing { timeouts: Timeouts { first_byte: TINY * 10, ..PATIENT }, ..post(&origin, "{}") }).await
}

#[tokio::test]
async fn a_head_that_is_none_is_refused() {
    let long: &'static str = Box::leak(format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(70_000)).into());
    let many: &'static str = Box::leak(format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(257)).into());
    for (reply, what) in [
        (long, What::HeadTooLarge),
        (many, What::HeadTooLarge),
        ("SSH-2.0-OpenSSH_9.6\r\n\r\n", What::NotHttp),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxy", What::NotHttp),
        ("HTTP/1.1 200 OK\r\ncontent-encoding: br\r\n\r\n", What::Encoding),
        ("HTTP/1.1 200 OK\r\ncontent-encoding: gzip, gzip\r\n\r\n", What::Encoding),
    ] {
        let error = reply_of(reply).await.unwrap_err();
        assert_eq!((error.stage, error.what), (Stage::Head, what), "{}", words(&error));
    }
}

#[tokio::test]
async fn many_fields_an_early_hint_and_a_redirect_are_answers() {
    let many: &'static str =
        Box::leak(format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", "a: b\r\n".repeat(99)).into());
    for (reply, status) in [
        (many, 200),
        ("HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 201 Made\r\ncontent-length: 0\r\n\r\n", 201),
        ("HTTP/1.1 307 Elsewhere\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", 307),
    ] {
        assert_eq!(reply_of(reply).await.unwrap().status, status);
    }
}

#[tokio::test]
async fn each_clock_stops_its_own_stage() {
    let error = reply_of("").await.unwrap_err();
    assert_eq!((error.stage, error.what), (Stage::FirstByte, What::FirstByteTimeout));
    let error = reply_of("HTTP/1.1 200 ").await.unwrap_err();
    assert_eq!(error.stage, Stage::FirstByte, "half a head is none");

    for (timeouts, total) in [(Timeouts { idle: TINY, ..PATIENT }, false), (Timeouts { total: TINY, ..PATIENT }, true)]
    {
        let server = Server::start(&[|mut stream| {
            Box::pin(async move {
                read_request(&mut stream).await.unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi").await.unwrap();
                drop(stream.read_u8().await);
            })
        }])
        .await;
        let mut answer = upstream().send(Outgoing { timeouts, ..post(&server.origin, "{}") }).await.unwrap();
        let error = answer.body.collect(99, |_| true).await.unwrap_err();
        assert_eq!(matches!(error, ReadError::Total), total, "{error:?}");
        assert_eq!(matches!(error, ReadError::Idle), !total, "{error:?}");
    }
}

#[tokio::test]
async fn a_stream_outlives_its_total_and_its_readers_pauses() {
    let server = Server::start(&[|mut stream| {
        Box::pin(async move {
            read_request(&mut stream).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            for _ in 0..8 {
                stream.write_all(b"x").await.unwrap();
                tokio::time::sleep(TINY / 3).await;
            }
        })
    }])
    .await;
    let timeouts = Timeouts { total: TINY, idle: TINY * 3, ..PATIENT };
    let mut answer = upstream().send(Outgoing { timeouts, ..post(&server.origin, "{}") }).await.unwrap();
    let mut read = 0;
    while let Some(chunk) = answer.body.chunk().await {
        read += chunk.unwrap().len();
        if read == 2 {
            tokio::time::sleep(TINY * 4).await;
        }
    }
    assert_eq!(read, 8);
}

#[tokio::test]
async fn a_connect_that_takes_too_long_is_given_up() {
    // A listener that never accepts, its queue full, is as close as the loopback comes to a lost packet; TLS to a
    // server that stays silent is surer.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut origin = Origin::clone(&origin(listener.local_addr().unwrap().port()));
    origin.tls = true;
    let timeouts = Timeouts { connect: TINY, ..PATIENT };
    let error = upstream().send(Outgoing { timeouts, ..post(&Arc::new(origin.clone()), "{}") }).await.unwrap_err();
    assert_eq!((error.stage, error.what), (Stage::Connect, What::ConnectTimeout));
    drop(listener);
    let error = upstream().send(post(&Arc::new(origin), "{}")).await.unwrap_err();
    assert_eq!((error.stage, error.what), (Stage::Connect, What::Dial));
}

/// A server that tells when its connection was closed, after it has written `reply`.
async fn closing(reply: &'static str) -> (Arc<Origin>, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = origin(listener.local_addr().unwrap().port());
    let closed = spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await.unwrap();
        stream.write_all(reply.as_bytes()).await.unwrap();
        // End or reset: either way it is closed.
        assert!(!matches!(stream.read(&mut [0; 16]).await, Ok(1..)), "the client says nothing more");
    });
    (origin, closed)
}

#[tokio::test]
async fn whoever_leaves_closes_the_socket() {
    let (origin, closed) = closing("").await;
    let early = timeout(TINY, upstream().send(post(&origin, "{}"))).await;
    assert!(early.is_err(), "still waiting for the head");
    timeout(SECS_5, closed).await.unwrap().unwrap();

    let (origin, closed) = closing("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi").await;
    let keeps_the_pool = upstream();
    let mut answer = keeps_the_pool.send(post(&origin, "{}")).await.unwrap();
    assert_eq!(answer.body.chunk().await.unwrap().unwrap(), "hi");
    drop(answer);
    timeout(SECS_5, closed).await.unwrap().unwrap();
}

#[tokio::test]
async fn whoever_leaves_in_the_middle_of_sending_closes_the_socket() {
    const LONG: usize = 64 * 1024 * 1024;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = origin(listener.local_addr().unwrap().port());
    let outgoing = Outgoing { body: Parts::whole(Bytes::from(vec![b'x'; LONG])).into(), ..post(&origin, "") };
    let upstream = upstream();
    // Nobody reads, so it is stuck long before the end.
    let early = timeout(TINY * 3, upstream.send(outgoing)).await;
    assert!(early.is_err(), "still sending");
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut seen = 0;
    let mut buffer = vec![0; 1 << 20];
    while let Ok(n @ 1..) = timeout(SECS_5, stream.read(&mut buffer)).await.unwrap() {
        seen += n;
    }
    assert!(seen < LONG, "what was not yet sent stays here: {seen}");
}

#[tokio::test]
async fn a_body_shorter_than_it_says_is_broken() {
    let server = Server::start(&[|mut stream| {
        Box::pin(async move {
            read_request(&mut stream).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi").await.unwrap();
        })
    }])
    .await;
    let mut answer = upstream().send(post(&server.origin, "{}")).await.unwrap();
    let error = answer.body.collect(99, |_| true).await.unwrap_err();
    assert!(matches!(error, ReadError::Broken(_)), "{}", words(&error));
    let mut answer = reply_of("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n123456789").await.unwrap();
    assert!(matches!(answer.body.collect(8, |_| true).await, Err(ReadError::TooLong)), "one byte too many");
}

#[tokio::test]
async fn connections_that_rest_too_long_or_grow_old_are_closed() {
    for (keep, waits) in [
        (Keep { rest_max: TINY, ..Keep::default() }, true),
        (Keep { age_max: Duration::ZERO, ..Keep::default() }, true),
        (Keep { resting: 0, ..Keep::default() }, false),
    ] {
        let (origin, closed) = closing(OK).await;
        let upstream = upstream_with(tls_config(None).unwrap(), keep);
        let answer = upstream.send(post(&origin, "{}")).await.unwrap();
        assert_eq!(text(answer).await, "hi");
        if waits {
            timeout(SECS_5, closed).await.unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn a_connection_that_the_other_side_ends_while_it_rests_is_let_go_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = origin(listener.local_addr().unwrap().port());
    let ended = spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(read_request(&mut stream).await.is_some(), "one request");
        stream.write_all(OK.as_bytes()).await.unwrap();
        // Once it rests: one that ends with its answer never does.
        tokio::time::sleep(TINY).await;
        stream.shutdown().await.unwrap();
        // Our side ends too: no socket is kept until its rest is over.
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
    });
    let upstream = upstream();
    assert_eq!(text(upstream.send(post(&origin, "{}")).await.unwrap()).await, "hi");
    timeout(SECS_5, ended).await.expect("well before its rest of fifteen seconds").unwrap();
}

#[tokio::test]
async fn a_name_that_points_elsewhere_is_followed() {
    let (old, new) = (Server::start(&[serve]).await, Server::start(&[serve]).await);
    let points_to = Arc::new(AtomicUsize::new(usize::from(old.origin.port)));
    let shared = Arc::clone(&points_to);
    let resolve: connect::Resolve = Arc::new(move |host, _| {
        assert_eq!(host, "moves.test");
        let port = u16::try_from(shared.load(Ordering::Relaxed)).unwrap();
        Box::pin(async move { Ok(vec![([127, 0, 0, 1], port).into()]) })
    });
    let spawn: Spawn = Arc::new(|task| drop(spawn(task)));
    let keep = Keep { age_max: Duration::from_millis(300), ..Keep::default() };
    let settings = Settings { tls: tls_config(None).unwrap(), spawn, clock: Clock::start(), keep };
    let upstream = Upstream::resolving(settings, resolve);
    let origin = Arc::new(Origin { tls: false, host: "moves.test".into(), port: 80, proxy: None });
    for _ in 0..2 {
        drop(text(upstream.send(post(&origin, "a")).await.unwrap()).await);
    }
    points_to.store(usize::from(new.origin.port), Ordering::Relaxed);
    drop(text(upstream.send(post(&origin, "b")).await.unwrap()).await);
    assert_eq!((old.accepted(), new.accepted()), (1, 0), "what is open is used while it is young");
    tokio::time::sleep(Duration::from_millis(350)).await;
    drop(text(upstream.send(post(&origin, "c")).await.unwrap()).await);
    assert_eq!((old.accepted(), new.accepted()), (1, 1), "and then the name is asked again");
}

#[tokio::test]
async fn origins_are_bounded() {
    let server = Server::start(&[serve]).await;
    let upstream = upstream_with(tls_config(None).unwrap(), Keep { origins: 1, ..Keep::default() });
    let other = Arc::new(Origin { host: "localhost".into(), ..Origin::clone(&server.origin) });
    for (origin, reused) in [(&server.origin, false), (&server.origin, true), (&other, false), (&server.origin, true)] {
        let answer = upstream.send(post(origin, "{}")).await.unwrap();
        assert_eq!(answer.reused, reused, "{origin:?}");
        text(answer).await;
    }
}

#[tokio::test]
async fn gzip_nobody_asked_for_is_undone_and_its_label_removed() {
    let server = Server::start(&[|mut stream| {
        Box::pin(async move {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            std::io::Write::write_all(&mut encoder, b"data: one\n\n").unwrap();
            let coded = encoder.finish().unwrap();
            for short in [0, 3] {
                read_request(&mut stream).await.unwrap();
                let length = coded.len() - short;
                let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {length}\r\n\r\n");
                stream.write_all(&[head.as_bytes(), &coded[..length]].concat()).await.unwrap();
            }
        })
    }])
    .await;
    let upstream = upstream();
    let answer = upstream.send(post(&server.origin, "{}")).await.unwrap();
    assert!(answer.headers.is_empty(), "{:?}", answer.headers);
    assert_eq!(text(answer).await, "data: one\n\n");
    let mut answer = upstream.send(post(&server.origin, "{}")).await.unwrap();
    assert!(answer.reused, "the connection went back");
    assert!(matches!(answer.body.collect(99, |_| true).await, Err(ReadError::Encoding)), "cut inside");
}
