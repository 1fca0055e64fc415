//! The front door over raw sockets: what is no request, what is too much, what is too slow. Each is refused in words, its
//! connection ends where it must, and no upstream hears of it (LIMITS 2 and 3).

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use model_proxy::wire::Format;

use crate::support::gateway::{Gateway, Setup};
use crate::support::http::{Client, Request};
use crate::support::samples::{CHAT, CHAT_REPLY, CHAT_REQUEST, MESSAGES, SIDES};
use crate::support::upstream::{After, Script, Upstream};
use crate::support::{CLIENT_KEY, comes_true, wait_until};

/// Longer than any limit in these tests, and shorter than patience.
const PATIENCE: Duration = Duration::from_secs(15);

/// One connection, as bytes.
struct Raw(TcpStream);

impl Raw {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    /// Whoever has been refused may be cut off while it still writes.
    fn write(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.0.write_all(bytes.as_ref()).is_ok()
    }

    /// All that comes until the other side ends the connection.
    fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        match self.0.read_to_end(&mut bytes) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            Err(error) => panic!("the connection stays open ({error}) after {:?}", String::from_utf8_lossy(&bytes)),
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Sends bytes and reads until the connection ends.
#[track_caller]
fn ends_with(gateway: &Gateway, bytes: impl AsRef<[u8]>) -> String {
    let mut raw = Raw::connect(gateway.address);
    raw.write(bytes);
    raw.rest()
}

/// The status of an answer; 0 if there is none.
fn status(answer: &str) -> u16 {
    answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok()).unwrap_or(0)
}

/// What an answer says, in whichever vendor's shape.
fn message(answer: &str) -> String {
    let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    let json: serde_json::Value = serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {answer:?}"));
    json["error"]["message"].as_str().unwrap().to_owned()
}

/// A chat request with these lines in its head, and this body.
fn post(lines: &str, body: &str) -> String {
    format!(
        "POST {CHAT} HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {CLIENT_KEY}\r\ncontent-type: application/json\r\n{lines}\r\n{body}"
    )
}

fn start(vars: &[(&str, &str)]) -> (Upstream, Gateway) {
    let upstream = Upstream::answering(|_, _| Script::json(200, CHAT_REPLY));
    let setup = Setup::simple(Format::OpenaiChat, &upstream);
    let gateway = vars.iter().fold(setup, |setup, (name, value)| setup.env(name, value)).start();
    (upstream, gateway)
}

/// What is no request, or might be two: refused, and nothing after it is read as one.
#[test]
fn ambiguous_requests_are_refused_and_end_their_connection() {
    let (upstream, gateway) = start(&[]);
    let length = CHAT_REQUEST.len();
    // Were the body of one taken for the next request, this would be answered too.
    let hidden = format!("GET /v1/models HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {CLIENT_KEY}\r\n\r\n");
    let chunked = |rest: &str| post("transfer-encoding: chunked\r\n", rest);
    let mut cases: Vec<(&str, String)> = vec![
        ("two lengths that differ", post(&format!("content-length: {length}\r\ncontent-length: 5\r\n"), CHAT_REQUEST)),
        ("a length with a sign", post(&format!("content-length: +{length}\r\n"), CHAT_REQUEST)),
        ("a negative length", post("content-length: -1\r\n", CHAT_REQUEST)),
        ("a length in hexadecimal", post("content-length: 0x10\r\n", CHAT_REQUEST)),
        ("two lengths in one field", post(&format!("content-length: {length}, 5\r\n"), CHAT_REQUEST)),
        ("a length that is too large to be one", post("content-length: 99999999999999999999999\r\n", CHAT_REQUEST)),
        ("a coding that is not the last", post("transfer-encoding: chunked, identity\r\n", "0\r\n\r\n")),
        ("a coding that nobody knows", post("transfer-encoding: xchunked\r\n", "0\r\n\r\n")),
        ("no coding at all", post("transfer-encoding: identity\r\n", CHAT_REQUEST)),
        ("two fields of codings", post("transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n", "0\r\n\r\n")),
        (
            "a coding before the last",
            post("transfer-encoding: gzip, chunked\r\n", &format!("{length:x}\r\n{CHAT_REQUEST}\r\n0\r\n\r\n")),
        ),
        (
            "a coding twice",
            post("transfer-encoding: chunked, chunked\r\n", &format!("{length:x}\r\n{CHAT_REQUEST}\r\n0\r\n\r\n")),
        ),
        (
            "a coding in two fields",
            post(
                "transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n",
                &format!("{length:x}\r\n{CHAT_REQUEST}\r\n0\r\n\r\n"),
            ),
        ),
        ("a folded field", post(&format!("x-a: b\r\n c\r\ncontent-length: {length}\r\n"), CHAT_REQUEST)),
        ("a space before the colon", post(&format!("content-length : {length}\r\n"), CHAT_REQUEST)),
        ("a name with a space in it", post(&format!("x a: b\r\ncontent-length: {length}\r\n"), CHAT_REQUEST)),
        ("a NUL in a value", post(&format!("x-a: b\0c\r\ncontent-length: {length}\r\n"), CHAT_REQUEST)),
        ("a bare CR in a value", post(&format!("x-a: b\rc\r\ncontent-length: {length}\r\n"), CHAT_REQUEST)),
        ("a chunk's size that is none", chunked("g\r\n")),
        ("a chunk's size that overflows", chunked("11111111111111111\r\n")),
        ("a chunk's size with a sign", chunked("+5\r\nhello\r\n0\r\n\r\n")),
        ("a chunk that is longer than its size", chunked("5\r\nhello!\r\n0\r\n\r\n")),
        ("a chunk that is followed by a bare LF", chunked("5\nhello\r\n0\r\n\r\n")),
        ("no version", "GET /health\r\n\r\n".to_owned()),
        ("a version that is none", "GET /health HTTP/9.9\r\nhost: test\r\n\r\n".to_owned()),
        ("nonsense", "\u{1}\u{2}\u{3}\u{4}\r\n\r\n".to_owned()),
        ("a TLS handshake on a plain port", "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}".to_owned() + "xxxx\r\n\r\n"),
        ("no host", format!("POST {CHAT} HTTP/1.1\r\ncontent-length: 0\r\n\r\n")),
        ("two hosts", "GET /health HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n".to_owned()),
        ("two hosts that are the same", "GET /health HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n".to_owned()),
        ("a host that is none", "GET /health HTTP/1.1\r\nhost: a b\r\n\r\n".to_owned()),
        ("a host with a user", "GET /health HTTP/1.1\r\nhost: user@a\r\n\r\n".to_owned()),
        ("a host with a path", "GET /health HTTP/1.1\r\nhost: a/b\r\n\r\n".to_owned()),
    ];
    // A length beside a coding: RFC 9112 6.1 has the coding win, or the request refused.
    cases.push((
        "a length beside a coding",
        post(&format!("content-length: {length}\r\ntransfer-encoding: chunked\r\n"), "0\r\n\r\n"),
    ));
    cases.push((
        "a coding in HTTP/1.0",
        post("transfer-encoding: chunked\r\n", "0\r\n\r\n").replace("HTTP/1.1", "HTTP/1.0"),
    ));
    for (what, bytes) in cases {
        let answer = ends_with(&gateway, bytes + &hidden);
        assert_eq!(status(&answer), 400, "{what}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{what}: what follows is no request: {answer}");
        assert!(!message(&answer).is_empty(), "{what}");
    }
    assert_eq!(upstream.count(), 0, "no upstream hears of any");
    assert_eq!(gateway.send(&Request::get("/health")).status, 200, "and all is well");
}

#[test]
fn no_other_protocol_is_begun() {
    let (upstream, gateway) = start(&[]);
    let hidden = format!("GET /v1/models HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {CLIENT_KEY}\r\n\r\n");
    for (what, bytes, expect) in [
        ("CONNECT", "CONNECT other.test:443 HTTP/1.1\r\nhost: other.test:443\r\n\r\n".to_owned(), 405),
        ("a web socket", "GET /v1/models HTTP/1.1\r\nhost: t\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n".to_owned(), 400),
        ("any upgrade", "GET /health HTTP/1.1\r\nhost: t\r\nconnection: upgrade\r\nupgrade: tls/1.0\r\n\r\n".to_owned(), 400),
        // Java's client offers it with every first request; it is answered in HTTP/1.1, and the connection ends.
        ("HTTP/2 by upgrade", "GET /health HTTP/1.1\r\nhost: t\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n".to_owned(), 200),
    ] {
        let answer = ends_with(&gateway, bytes + &hidden);
        assert_eq!(status(&answer), expect, "{what}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{what}: {answer}");
        assert!(answer.to_lowercase().contains("connection: close") && !answer.contains("101 "), "{what}: {answer}");
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn every_path_that_is_none_is_closed_to_those_without_a_key() {
    let (upstream, gateway) = start(&[]);
    for path in [
        "//v1/messages",
        "/v1/../health",
        "/v1/messages/",
        "/v1/messages/../../health",
        "/health;x",
        "/HEALTH",
        "/health/",
        "/%68ealth",
        "/health%2f",
        "/v1/chat/completions%00",
        "http://other.test/v1/models",
        "*",
        "/v1/models/../../health",
    ] {
        let method = if path == "*" { "OPTIONS" } else { "GET" };
        let answer =
            ends_with(&gateway, format!("{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n"));
        assert_eq!(status(&answer), 401, "{path}: {answer}");
    }
    let answer =
        ends_with(&gateway, "GET http://other.test/health HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    assert_eq!(status(&answer), 200, "whoever asks as of a proxy asks us all the same: {answer}");
    assert_eq!(upstream.count(), 0);
}

#[test]
fn what_is_too_large_is_refused_before_it_is_read() {
    let (upstream, gateway) = start(&[("MODEL_PROXY_BODY_BYTES", "100000")]);
    let key = format!("authorization: Bearer {CLIENT_KEY}\r\n");
    let many = |n: usize| (0..n).map(|n| format!("x-{n}: y\r\n")).collect::<String>();
    for (what, bytes, expect, says) in [
        (
            "a body that says so",
            post("content-length: 100001\r\nexpect: 100-continue\r\n", ""),
            413,
            "100000 bytes (body_bytes)",
        ),
        (
            "a body that does not",
            post("transfer-encoding: chunked\r\n", &format!("186a1\r\n{}", "x".repeat(100_001))),
            413,
            "body_bytes",
        ),
        (
            "a head",
            format!("GET /health HTTP/1.1\r\nhost: test\r\nx-a: {}\r\n\r\n", "x".repeat(66_000)),
            431,
            "head_bytes",
        ),
        ("many fields", format!("GET /health HTTP/1.1\r\nhost: test\r\n{}\r\n", many(101)), 431, "head_fields"),
        (
            "a target",
            format!("GET /v1/models?{} HTTP/1.1\r\nhost: test\r\n{key}\r\n", "x".repeat(16 * 1024)),
            414,
            "uri_bytes",
        ),
        (
            "a target larger than a head",
            format!("GET /v1/models?{} HTTP/1.1\r\nhost: test\r\n{key}\r\n", "x".repeat(66_000)),
            431,
            "head",
        ),
    ] {
        let answer = ends_with(&gateway, bytes);
        assert_eq!(status(&answer), expect, "{what}: {answer}");
        assert!(!answer.contains("100 Continue"), "{what}: {answer}");
        assert!(message(&answer).contains(says), "{what}: {answer}");
    }
    assert_eq!(upstream.count(), 0);
    let fits = format!(
        "GET /health HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{}x-a: {}\r\n\r\n",
        many(97),
        "x".repeat(60_000)
    );
    assert_eq!(status(&ends_with(&gateway, fits)), 200, "a hundred fields of 60 KB are fine");
    let continued = ends_with(
        &gateway,
        post(
            &format!("content-length: {}\r\nexpect: 100-continue\r\nconnection: close\r\n", CHAT_REQUEST.len()),
            CHAT_REQUEST,
        ),
    );
    assert!(continued.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK"), "{continued}");
}

#[test]
fn what_is_no_json_is_refused_with_its_place() {
    for side in SIDES {
        let upstream = Upstream::start();
        let gateway = Setup::simple(side.format, &upstream).start();
        for (kind, body, expect, says) in [
            ("application/x-www-form-urlencoded", side.request, 415, "send content-type: application/json"),
            ("application/json; charset=utf-16", side.request, 415, "UTF-8"),
            ("application/json", "", 400, "byte 0"),
            ("application/json", "\u{feff}{}", 400, "byte order mark"),
            (
                "application/json",
                r#"{"model":"m","messages":[NaN],"model":1}"#,
                400,
                "the key \"model\" stands twice at byte 31",
            ),
            ("application/json", r#"{"model":"m","stream":NaN,"messages":[]}"#, 400, "byte 22"),
            ("application/json", r#"{"model":"m","messages":[]"#, 400, "byte 26"),
            ("application/json", r#"{"model":"m","messages":[]} x"#, 400, "byte 28"),
            ("application/json", r#"{'model':'m'}"#, 400, "byte 1"),
        ] {
            let request = Request::new("POST", side.path).with_key().header("content-type", kind);
            let reply = gateway.send(&request.body(body));
            assert_eq!(reply.status, expect, "{kind} {body}: {}", reply.text());
            assert!(side.error_message(&reply).contains(says), "{kind} {body}: {}", reply.text());
        }
        let mut raw = side.request.as_bytes().to_vec();
        let at = side.request.find("Hello").unwrap();
        raw[at] = 0xff;
        for other in SIDES {
            let request = Request::new("POST", other.path).with_key().header("content-type", "application/json");
            let reply = gateway.send(&request.body(raw.clone()));
            assert_eq!(reply.status, 400, "translated or not: {}", reply.text());
            assert!(other.error_message(&reply).contains(&format!("not UTF-8 at byte {at}")), "{}", reply.text());
        }
        let encoded =
            gateway.send(&Request::post(side.path, side.request).with_key().header("content-encoding", "gzip"));
        assert_eq!(encoded.status, 415, "{}", encoded.text());
        assert_eq!(upstream.count(), 0, "no upstream hears of any");
    }
}

#[test]
fn deep_json_is_refused_and_costs_no_stack() {
    let deep = |n: usize| {
        let (open, close) = ("[".repeat(n), "]".repeat(n));
        format!(
            r#"{{"model":"m","max_tokens":9,"messages":[{{"role":"user","content":"x"}}],"metadata":{open}{close}}}"#
        )
    };
    for side in SIDES {
        let upstream = Upstream::answering(move |_, _| Script::json(200, side.reply));
        let gateway = Setup::simple(side.format, &upstream).start();
        assert_eq!(gateway.post(side.path, deep(127)).status, 200, "as deep as may be");
        for other in SIDES {
            for n in [128, 100_000, 1_000_000] {
                let reply = gateway.post(other.path, deep(n));
                assert_eq!(reply.status, 400, "{}", reply.text());
                assert!(other.error_message(&reply).contains(&format!("nested {} deep", n + 1)), "{}", reply.text());
            }
        }
        assert_eq!(upstream.count(), 1);
        let gateway = Setup::simple(side.format, &upstream).env("MODEL_PROXY_JSON_DEPTH", "10").start();
        assert_eq!((gateway.post(side.path, deep(9)).status, gateway.post(side.path, deep(10)).status), (200, 400));
    }
}

#[test]
fn who_is_slow_is_told_and_closed() {
    let soon = "0.3";
    let (upstream, gateway) = start(&[
        ("MODEL_PROXY_FIRST_BYTE_SECONDS", soon),
        ("MODEL_PROXY_HEAD_SECONDS", soon),
        ("MODEL_PROXY_IDLE_SECONDS", soon),
        ("MODEL_PROXY_BODY_IDLE_SECONDS", soon),
        ("MODEL_PROXY_BODY_SECONDS", "0.6"),
    ]);
    assert_eq!(ends_with(&gateway, ""), "", "no byte: closed without a word");
    assert_eq!(ends_with(&gateway, "PR"), "", "nor after half a preface");
    let late = ends_with(&gateway, "GET /health HTTP/1.1\r\nhost: te");
    assert_eq!((status(&late), message(&late).contains("head_seconds")), (408, true), "{late}");
    let idle = ends_with(&gateway, "GET /health HTTP/1.1\r\nhost: test\r\n\r\n");
    assert_eq!((status(&idle), idle.matches("HTTP/1.1").count()), (200, 1), "answered, then closed: {idle}");
    let stalled = ends_with(&gateway, post("content-length: 99\r\n", "{"));
    assert_eq!((status(&stalled), message(&stalled).contains("in time")), (408, true), "{stalled}");
    for (what, bytes, drip) in [
        ("a head", "GET /health HTTP/1.1\r\nhost: test\r\nx-a: ".to_owned(), "x"),
        ("a body", post("content-length: 9999\r\n", "{"), " "),
        ("a chunked body", post("transfer-encoding: chunked\r\n", ""), "1\r\n \r\n"),
    ] {
        let mut raw = Raw::connect(gateway.address);
        let begun = Instant::now();
        raw.write(bytes);
        // A byte now and then does not help.
        while begun.elapsed() < PATIENCE && raw.write(drip) {
            thread::sleep(Duration::from_millis(20));
        }
        let answer = raw.rest();
        assert!(begun.elapsed() < PATIENCE, "{what}");
        // Whoever still writes may be reset before it reads.
        assert!(status(&answer) == 408 || answer.is_empty(), "{what}: {answer}");
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn whoever_takes_nothing_of_an_answer_is_closed() {
    let word = r#"data: {"choices":[{"index":0,"delta":{"content":"a long word, and no end"}}]}"#;
    let endless = move |_: &_, _: usize| Script::stream(format!("{word}\n\n").repeat(200_000)).then(After::Silence);
    let upstream = Upstream::answering(endless);
    let gateway = Setup::simple(Format::OpenaiChat, &upstream)
        .env("MODEL_PROXY_STALLED_SECONDS", "0.3")
        .env("MODEL_PROXY_IDLE_SECONDS", "0.3")
        .start();
    let mut client = gateway.connect();
    client.ask(&Request::post(CHAT, SIDES[0].stream_request).with_key());
    upstream.wait_for(1);
    assert!(comes_true(PATIENCE, || upstream.departures() == 1), "the upstream is let go");
    assert!(comes_true(PATIENCE, || gateway.stderr().contains("client_closed")), "{}", gateway.stderr());
}

#[test]
fn so_many_connections_and_no_more() {
    let (_upstream, gateway) = start(&[("MODEL_PROXY_CONNECTIONS", "3")]);
    let mut open: Vec<Client> = (0..3).map(|_| gateway.connect()).collect();
    for client in &mut open {
        assert_eq!(client.send(&Request::get("/health")).status, 200);
    }
    assert_eq!(ends_with(&gateway, "GET /health HTTP/1.1\r\nhost: test\r\n\r\n"), "", "closed as it came");
    assert!(
        comes_true(PATIENCE, || gateway.stderr().contains("connections were closed as they came: 3 are open")),
        "{}",
        gateway.stderr()
    );
    assert_eq!(open[0].send(&Request::get("/health")).status, 200, "those that are in stay");
    open.pop().unwrap().leave();
    let again = || {
        let mut raw = Raw::connect(gateway.address);
        raw.write("GET /health HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        status(&raw.rest()) == 200
    };
    assert!(comes_true(PATIENCE, again), "one has left");
}

#[test]
fn so_many_requests_and_no_more() {
    let upstream = Upstream::answering(|seen, _| match seen.wants_stream() {
        true => Script::nothing(After::Silence),
        false => Script::json(200, CHAT_REPLY),
    });
    let gateway = Setup::simple(Format::OpenaiChat, &upstream).env("MODEL_PROXY_REQUESTS_IN_FLIGHT", "2").start();
    let open: Vec<Client> = [SIDES[0], SIDES[1]]
        .map(|side| {
            let mut client = gateway.connect();
            client.ask(&Request::post(side.path, side.stream_request).with_key());
            client
        })
        .into();
    upstream.wait_for(2);
    for side in SIDES {
        let reply = gateway.post(side.path, side.request);
        assert_eq!((reply.status, reply.headers.one("retry-after")), (503, Some("1")), "{}", reply.text());
        assert!(side.error_message(&reply).contains("requests_in_flight"), "{}", reply.text());
    }
    assert_eq!(gateway.send(&Request::get("/health")).status, 200, "whoever looks after us is answered");
    open.into_iter().for_each(Client::leave);
    assert!(comes_true(PATIENCE, || gateway.post(CHAT, CHAT_REQUEST).status == 200), "their places are free");
}

#[test]
fn so_many_bytes_in_all_and_no_more() {
    let big =
        format!(r#"{{"model":"m","max_tokens":9,"messages":[{{"role":"user","content":"{}"}}]}}"#, "x".repeat(700_000));
    let (upstream, gateway) = start(&[("MODEL_PROXY_HELD_BYTES", "1048576"), ("MODEL_PROXY_BODY_BYTES", "1048576")]);
    let mut half = Raw::connect(gateway.address);
    half.write(post(&format!("content-length: {}\r\n", big.len()), &big[..1000]));
    let told = || {
        let reply = gateway.post(CHAT, big.clone());
        reply.status == 503 && reply.headers.one("retry-after") == Some("1") && reply.text().contains("held_bytes")
    };
    assert!(comes_true(PATIENCE, told), "what was declared is held");
    let chunked = post("transfer-encoding: chunked\r\n", &format!("{:x}\r\n{big}\r\n0\r\n\r\n", big.len()));
    let answer = ends_with(&gateway, chunked);
    assert!(status(&answer) == 503 || answer.is_empty(), "{answer}");
    assert_eq!(gateway.post(CHAT, CHAT_REQUEST).status, 200, "what is small needs no room");
    half.0.shutdown(Shutdown::Both).unwrap();
    assert!(comes_true(PATIENCE, || gateway.post(MESSAGES, big.clone()).status == 200), "it is free again");
    assert!(1 < upstream.count());
    drop(half);
}

#[test]
fn replies_are_held_within_the_same_bound() {
    let long = CHAT_REPLY.replace("Good day.", &"x".repeat(3_000_000));
    for side in SIDES {
        let (reply, first) = (long.clone(), std::sync::atomic::AtomicBool::new(true));
        let upstream = Upstream::answering(move |_, _| match first.swap(false, std::sync::atomic::Ordering::Relaxed) {
            true => Script::json(200, &reply),
            false => Script::json(200, CHAT_REPLY),
        });
        let gateway = Setup::simple(Format::OpenaiChat, &upstream)
            .env("MODEL_PROXY_HELD_BYTES", "1048576")
            .env("MODEL_PROXY_BODY_BYTES", "1048576")
            .start();
        let reply = gateway.post(side.path, side.request);
        assert_eq!((reply.status, reply.headers.one("retry-after")), (503, Some("1")), "{}", reply.text());
        assert!(side.error_message(&reply).contains("held_bytes"), "{}", reply.text());
        assert_eq!(gateway.post(side.path, side.request).status, 200, "nobody rests for it");
    }
}

/// What is said of requests, and of those that are refused, waits for who reads it, and no request does.
#[test]
fn a_log_that_nobody_reads_holds_nobody_up() {
    let upstream = Upstream::answering(|_, _| Script::json(200, CHAT_REPLY));
    let gateway = Setup::simple(Format::OpenaiChat, &upstream).start();
    let unread = gateway.unread();
    // Several times what a pipe takes (64 KiB).
    let unknown = CHAT_REQUEST.replace("\"m\"", &format!("\"{}\"", "x".repeat(300)));
    let mut client = gateway.connect();
    for _ in 0..600 {
        assert_eq!(client.send(&Request::post(CHAT, unknown.as_str()).with_key()).status, 404);
    }
    // Of these there is a line each second.
    for _ in 0..3 {
        assert_eq!(gateway.send(&Request::post(CHAT, CHAT_REQUEST)).status, 401);
        thread::sleep(Duration::from_millis(1010));
    }
    assert_eq!(gateway.send(&Request::get("/livez")).status, 200);
    drop(unread);
    wait_until("the lines", || gateway.stderr().matches("refused POST").count() == 3);
}

/// Whoever is not let in does not fill a disk, whatever it calls its method.
#[test]
fn what_is_said_of_a_refusal_is_short() {
    let upstream = Upstream::answering(|_, _| Script::json(200, CHAT_REPLY));
    let gateway = Setup::simple(Format::OpenaiChat, &upstream).start();
    let mut raw = Raw::connect(gateway.address);
    let method = "M".repeat(60_000);
    raw.write(format!("{method} {CHAT} HTTP/1.1\r\nhost: t\r\nauthorization: {CLIENT_KEY}\r\n\r\n"));
    raw.0.shutdown(Shutdown::Write).unwrap();
    let told = raw.rest();
    assert!(status(&told) == 405 && told.len() < 1000, "{} bytes", told.len());
    wait_until("its line", || gateway.stderr().contains("status=405"));
    let line = gateway.stderr().lines().last().unwrap().to_owned();
    assert!(line.contains(" refused MMMMMMMMMMMMMMMMMMMM /v1/") && line.len() < 500, "{line}");
}

/// With 64 descriptors in all there are places for sixteen, and the process goes on whatever is tried.
#[test]
fn few_descriptors_are_no_end() {
    let upstream = Upstream::answering(|_, _| Script::json(200, CHAT_REPLY));
    let gateway = Setup::simple(Format::OpenaiChat, &upstream).descriptors(64).start();
    assert!(gateway.stderr().contains("connections up to 16, requests up to 16\n"), "{}", gateway.stderr());
    let crowd: Vec<TcpStream> = (0..100).filter_map(|_| TcpStream::connect(gateway.address).ok()).collect();
    assert!(
        comes_true(PATIENCE, || gateway.stderr().contains("connections were closed as they came")),
        "{}",
        gateway.stderr()
    );
    drop(crowd);
    let served = || {
        let mut raw = Raw::connect(gateway.address);
        raw.write(post(&format!("content-length: {}\r\nconnection: close\r\n", CHAT_REQUEST.len()), CHAT_REQUEST));
        status(&raw.rest()) == 200
    };
    assert!(comes_true(PATIENCE, served), "{}", gateway.stderr());
}
