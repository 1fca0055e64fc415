//! HTTP/2 as attackers speak it: floods that cost the sender little and the server much. Each is ended or bounded, memory stays
//! small, and others are served meanwhile (LIMITS 1, 2.1 and 3).

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use model_proxy::wire::Format;
use serde_json::json;

use crate::support::gateway::{Gateway, Setup};
use crate::support::http::Request;
use crate::support::samples::{CHAT, CHAT_REPLY, CHAT_REQUEST, SIDES};
use crate::support::upstream::{After, Script, Upstream};
use crate::support::{CLIENT_KEY, wait_until};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;

/// What a flood may add to the gateway's memory, in KiB: less than what any of them sends.
const GROWTH_KIB_MAX: u64 = 16 * 1024;

#[derive(Debug)]
struct Frame {
    kind: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

/// A connection that speaks frames.
struct Peer(TcpStream);

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header list, each field spelled out (RFC 7541 6.2.2).
fn fields(list: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| {
        let mut length = text.len();
        let mut out = Vec::new();
        if length < 127 {
            out.push(u8::try_from(length).unwrap());
        } else {
            out.push(127);
            length -= 127;
            while 128 <= length {
                out.push(u8::try_from(length % 128).unwrap() | 128);
                length /= 128;
            }
            out.push(u8::try_from(length).unwrap());
        }
        out.extend_from_slice(text.as_bytes());
        out
    };
    list.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

fn request(method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let key = format!("Bearer {CLIENT_KEY}");
    let usual =
        [(":method", method), (":scheme", "http"), (":path", path), (":authority", "test"), ("authorization", &key)];
    fields(&[&usual[..], more].concat())
}

impl Peer {
    fn connect(gateway: &Gateway) -> Self {
        let stream = TcpStream::connect(gateway.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut peer = Self(stream);
        // No table of fields: what is answered is spelled out.
        let begin = frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0]);
        peer.send(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", begin.as_slice()].concat());
        peer
    }

    /// `false`: the other side has ended the connection.
    fn send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).is_ok()
    }

    /// The next frame; `None` where the connection has ended.
    fn read(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        read_exact(&mut self.0, &mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        read_exact(&mut self.0, &mut payload)?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], stream, payload })
    }

    /// The next frame for which something holds.
    #[track_caller]
    fn until(&mut self, what: &str, is_it: impl Fn(&Frame) -> bool) -> Frame {
        loop {
            let frame = self.read().unwrap_or_else(|| panic!("the connection has ended without {what}"));
            if is_it(&frame) {
                return frame;
            }
        }
    }

    /// Why the connection ends; `None` if it was not said.
    fn goaway(&mut self) -> Option<u32> {
        let mut code = None;
        while let Some(frame) = self.read() {
            if frame.kind == GOAWAY {
                code = Some(frame.code());
            }
        }
        code
    }

    /// The status of a stream's answer, by the bytes of its header list: hyper writes it as one of the static table or spelled
    /// out.
    #[track_caller]
    fn status(&mut self, stream: u32) -> u16 {
        let head = self.until("an answer", |f| f.stream == stream && (f.kind == HEADERS || f.kind == RST_STREAM));
        assert_eq!(head.kind, HEADERS, "stream {stream} was reset with {}", head.code());
        // Whole static entries are 8 to 14 (RFC 7541 A); else the name is entry 8 and three digits follow, in Huffman's code.
        match head.payload.iter().find(|byte| !(0x20..0x40).contains(*byte)) {
            Some(0x88) => 200,
            Some(0x8c) => 400,
            Some(0x8d) => 404,
            _ => digits(&head.payload),
        }
    }
}

/// The digits of a status in Huffman's code: 0 to 2 have five bits, 3 to 9 six (RFC 7541 B).
fn digits(payload: &[u8]) -> u16 {
    let at = payload.iter().position(|byte| *byte & 0x0f == 8 && *byte < 0x80).expect("a status");
    let length = usize::from(payload[at + 1]);
    let value = &payload[at + 2..];
    if length & 0x80 == 0 {
        return std::str::from_utf8(&value[..length]).unwrap().parse().unwrap();
    }
    let bits: Vec<u8> =
        value[..length & 0x7f].iter().flat_map(|byte| (0..8).rev().map(move |n| byte >> n & 1)).collect();
    let number = |bits: &[u8]| bits.iter().fold(0_u16, |n, bit| n << 1 | u16::from(*bit));
    let (mut at, mut status) = (0, 0);
    for _ in 0..3 {
        let five = number(&bits[at..at + 5]);
        let digit = if five <= 2 { five } else { number(&bits[at..at + 6]) - 0x19 + 3 };
        at += if five <= 2 { 5 } else { 6 };
        status = status * 10 + digit;
    }
    status
}

fn read_exact(stream: &mut TcpStream, into: &mut [u8]) -> Option<()> {
    match stream.read_exact(into) {
        Ok(()) => Some(()),
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => panic!("silence"),
        Err(_) => None,
    }
}

fn start(vars: &[(&str, &str)]) -> (Upstream, Gateway) {
    let upstream = Upstream::answering(|seen, _| match seen.wants_stream() {
        true => Script::nothing(After::Silence),
        false => Script::json(200, CHAT_REPLY),
    });
    let setup = Setup::simple(Format::OpenaiChat, &upstream);
    let gateway = vars.iter().fold(setup, |setup, (name, value)| setup.env(name, value)).start();
    (upstream, gateway)
}

/// Sends the same again and again until the other side ends the connection, and says whether and why it did. Answers are
/// not read meanwhile.
fn flood(gateway: &Gateway, begin: &[u8], piece: impl Fn(u32) -> Vec<u8>) -> (bool, Option<u32>) {
    let mut peer = Peer::connect(gateway);
    peer.send(begin);
    peer.0.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let begun = Instant::now();
    let mut sent = 0;
    // Whoever is not read from any more has been stopped, too.
    while sent < 200_000 && begun.elapsed() < Duration::from_secs(5) && peer.send(&piece(sent)) {
        sent += 1;
    }
    let before = gateway.peak_rss_kib();
    assert_eq!(gateway.send(&Request::get("/health")).status, 200, "others are served");
    eprintln!("{sent} pieces were sent; the gateway holds {before} KiB at most");
    let mut last = None;
    let mut is_over = false;
    peer.0.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut head = [0; 9];
    while let Ok(()) =
        peer.0.read_exact(&mut head).inspect_err(|e| is_over = !matches!(e.kind(), io::ErrorKind::WouldBlock))
    {
        let mut payload = vec![0; usize::from(head[1]) * 256 + usize::from(head[2])];
        if peer.0.read_exact(&mut payload).is_err() {
            break;
        }
        if head[3] == GOAWAY {
            last = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
        }
    }
    (is_over, last)
}

#[test]
fn floods_are_ended_or_bounded_in_little_memory() {
    let (upstream, gateway) = start(&[]);
    let rest = gateway.peak_rss_kib();
    let get = request("GET", "/v1/models", &[]);
    let stream = |n: u32| 1 + 2 * n;
    let reset = |n: u32| {
        let opened = frame(HEADERS, END_HEADERS | END_STREAM, stream(n), &get);
        [opened, frame(RST_STREAM, 0, stream(n), &8_u32.to_be_bytes())].concat()
    };
    let (is_over, code) = flood(&gateway, b"", reset);
    assert_eq!((is_over, code), (true, Some(ENHANCE_YOUR_CALM)), "rapid reset (CVE-2023-44487)");

    let begin = frame(HEADERS, END_STREAM, 1, &get);
    let more = fields(&[("x-filler", &"x".repeat(4000))]);
    let (is_over, code) = flood(&gateway, &begin, |_| frame(CONTINUATION, 0, 1, &more));
    assert!(is_over && matches!(code, Some(ENHANCE_YOUR_CALM | PROTOCOL_ERROR)), "CONTINUATION: {code:?}");
    let (is_over, code) = flood(&gateway, &begin, |_| frame(CONTINUATION, 0, 1, b""));
    assert!(is_over && matches!(code, Some(ENHANCE_YOUR_CALM | PROTOCOL_ERROR)), "empty CONTINUATION: {code:?}");

    let open = frame(HEADERS, END_HEADERS, 1, &request("POST", CHAT, &[("content-type", "application/json")]));
    let (is_over, code) = flood(&gateway, &open, |_| frame(DATA, 0, 1, b""));
    assert!(is_over && code == Some(ENHANCE_YOUR_CALM), "empty DATA (RUSTSEC-2026-0258): {code:?}");

    // These want an answer each; who does not read it is not read from either.
    for (what, piece) in [
        ("SETTINGS", frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 99])),
        ("PING", frame(PING, 0, 0, b"12345678")),
        ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("unknown frames", frame(99, 0, 0, &[0; 64])),
    ] {
        let (_, code) = flood(&gateway, b"", |_| piece.clone());
        assert_ne!(code, Some(PROTOCOL_ERROR), "{what}");
    }
    let peak = gateway.peak_rss_kib();
    assert!(peak < rest + GROWTH_KIB_MAX, "{rest} KiB became {peak}");
    assert_eq!(upstream.count(), 0);
    assert_eq!(gateway.post(CHAT, CHAT_REQUEST).status, 200, "and all is well");
}

#[test]
fn what_http2_forbids_costs_the_stream_or_the_connection() {
    let (upstream, gateway) = start(&[]);
    let get = |more: &[(&str, &str)]| frame(HEADERS, END_HEADERS | END_STREAM, 1, &request("GET", "/health", more));
    for (what, bytes) in [
        ("te", get(&[("te", "chunked")])),
        ("connection", get(&[("connection", "close")])),
        ("transfer-encoding", get(&[("transfer-encoding", "chunked")])),
        ("upgrade", get(&[("upgrade", "websocket")])),
        ("capitals", get(&[("X-A", "b")])),
        ("a pseudo-header that comes late", get(&[(":path", "/other")])),
        ("an unknown pseudo-header", get(&[(":x", "y")])),
        (
            "a body longer than its length",
            [
                frame(HEADERS, END_HEADERS, 1, &request("POST", CHAT, &[("content-length", "3")])),
                frame(DATA, 0, 1, b"{}"),
                frame(DATA, END_STREAM, 1, b"{}{}"),
            ]
            .concat(),
        ),
        (
            "a body shorter than its length",
            [
                frame(HEADERS, END_HEADERS, 1, &request("POST", CHAT, &[("content-length", "30")])),
                frame(DATA, END_STREAM, 1, &CHAT_REQUEST.as_bytes()[..20]),
            ]
            .concat(),
        ),
    ] {
        let mut peer = Peer::connect(&gateway);
        peer.send(&bytes);
        let end = peer.until(what, |f| f.kind == RST_STREAM || f.kind == GOAWAY && f.code() != 0 || f.kind == HEADERS);
        let refused = match end.kind {
            HEADERS => {
                let mut again = Peer::connect(&gateway);
                again.send(&bytes);
                again.status(1) == 400
            }
            _ => end.code() == PROTOCOL_ERROR,
        };
        assert!(refused, "{what}: {end:?}");
    }
    for (what, bytes, code) in [
        ("a window of nothing", frame(WINDOW_UPDATE, 0, 0, &[0; 4]), PROTOCOL_ERROR),
        ("a window beyond all bounds", frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]), FLOW_CONTROL_ERROR),
        ("DATA of no stream", frame(DATA, 0, 1, b"x"), PROTOCOL_ERROR),
        (
            "an even stream",
            frame(HEADERS, END_HEADERS | END_STREAM, 2, &request("GET", "/health", &[])),
            PROTOCOL_ERROR,
        ),
    ] {
        let mut peer = Peer::connect(&gateway);
        peer.send(&bytes);
        assert_eq!(peer.goaway(), Some(code), "{what}");
    }
    let mut peer = Peer::connect(&gateway);
    peer.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &request("GET", "/health", &[("host", "other")])));
    assert_eq!(peer.status(1), 400, "another host than :authority");
    peer.send(&frame(HEADERS, END_HEADERS | END_STREAM, 3, &request("GET", "/health", &[("host", "test")])));
    assert_eq!(peer.status(3), 200, "the same");
    let connect = fields(&[(":method", "CONNECT"), (":authority", "other.test:443")]);
    peer.send(&frame(HEADERS, END_HEADERS, 5, &connect));
    assert_eq!(peer.status(5), 405, "no tunnel");
    assert_eq!(upstream.count(), 0);
}

#[test]
fn limits_hold_for_streams_as_for_connections() {
    let (upstream, gateway) = start(&[
        ("MODEL_PROXY_H2_STREAMS", "2"),
        ("MODEL_PROXY_BODY_IDLE_SECONDS", "0.3"),
        ("MODEL_PROXY_BODY_BYTES", "2048"),
    ]);
    let mut peer = Peer::connect(&gateway);
    let post = |more: &[(&str, &str)]| request("POST", CHAT, &[&[("content-type", "application/json")], more].concat());
    let large: Vec<(String, String)> = (0..10).map(|n| (format!("x-{n}"), "y".repeat(4000))).collect();
    let large: Vec<(&str, &str)> = large.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let list = request("GET", "/health", &large);
    let (first, rest) = list.split_at(16_000);
    let (second, third) = rest.split_at(16_000);
    peer.send(
        &[
            frame(HEADERS, END_STREAM, 1, first),
            frame(CONTINUATION, 0, 1, second),
            frame(CONTINUATION, END_HEADERS, 1, third),
        ]
        .concat(),
    );
    assert_eq!(peer.status(1), 431, "a header list");
    peer.send(&frame(HEADERS, END_HEADERS, 3, &post(&[("content-length", "2049")])));
    assert_eq!(peer.status(3), 413, "a body that says so");
    peer.send(&[frame(HEADERS, END_HEADERS, 5, &post(&[])), frame(DATA, END_STREAM, 5, &[b' '; 3000])].concat());
    assert_eq!(peer.status(5), 413, "a body that does not");
    // While one body stalls another stream goes on.
    peer.send(&[frame(HEADERS, END_HEADERS, 7, &post(&[])), frame(DATA, 0, 7, b"{")].concat());
    peer.send(
        &[frame(HEADERS, END_HEADERS, 9, &post(&[])), frame(DATA, END_STREAM, 9, CHAT_REQUEST.as_bytes())].concat(),
    );
    assert_eq!(peer.status(9), 200);
    assert_eq!(peer.status(7), 408, "the body did not come");
    let mut peer = Peer::connect(&gateway);
    for stream in [1, 3, 5] {
        peer.send(
            &[
                frame(HEADERS, END_HEADERS, stream, &post(&[])),
                frame(DATA, END_STREAM, stream, SIDES[0].stream_request.as_bytes()),
            ]
            .concat(),
        );
    }
    let refused = peer.until("a refusal", |f| f.kind == RST_STREAM || f.kind == GOAWAY);
    assert_eq!((refused.stream, refused.code()), (5, REFUSED_STREAM), "two at once: {refused:?}");
    upstream.wait_for(3);
    assert_eq!(upstream.count(), 3, "one whole, two streams");
}

/// A stream that its client leaves lying is reset and gives its place back; whoever waits for a slow upstream is not meant, nor is
/// the rest of the connection.
#[test]
fn a_stream_that_is_not_taken_is_reset() {
    let pause = Duration::from_millis(1500);
    let stream = SIDES[0].stream;
    let upstream =
        Upstream::answering(move |_, _| Script::stream(stream).cut(&[stream.find("day").unwrap()]).between(pause));
    let gateway = Setup::simple(Format::OpenaiChat, &upstream).env("MODEL_PROXY_STALLED_SECONDS", "0.5").start();
    let ask = |stream: u32| {
        let head = request("POST", CHAT, &[("content-type", "application/json")]);
        let body = SIDES[0].stream_request.as_bytes();
        [frame(HEADERS, END_HEADERS, stream, &head), frame(DATA, END_STREAM, stream, body)].concat()
    };
    let mut peer = Peer::connect(&gateway);
    // SETTINGS_INITIAL_WINDOW_SIZE of nothing; the third stream is given room of its own.
    peer.send(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]));
    peer.send(&[ask(1), ask(3), frame(WINDOW_UPDATE, 0, 3, &[0, 1, 0, 0])].concat());
    let mut taken = Vec::new();
    let mut reset = None;
    while reset.is_none() || !String::from_utf8_lossy(&taken).contains("[DONE]") {
        let frame = peer.until("the rest", |frame| matches!(frame.kind, DATA | RST_STREAM));
        match (frame.kind, frame.stream) {
            (DATA, 3) => taken.extend(frame.payload),
            (RST_STREAM, 1) => reset = Some(frame.code()),
            _ => panic!("the first has no room, and the third waits for its upstream: {frame:?}"),
        }
    }
    assert_eq!(reset, Some(CANCEL));
    wait_until("the line", || gateway.stderr().contains(" client_closed"));
    // The line is written while the place is given back.
    let in_flight = || gateway.send(&Request::get("/health/detailed").with_key()).json()["requests_in_flight"].clone();
    wait_until("both places are free", || in_flight() == 0);
}

/// Each of many streams on one connection may need a connection to an upstream: there are no more requests than descriptors,
/// and no provider is blamed for it.
#[test]
fn many_streams_on_few_connections_leave_descriptors() {
    let upstream = Upstream::answering(|_, _| Script::nothing(After::Silence));
    let gateway = Setup::simple(Format::OpenaiChat, &upstream).descriptors(128).start();
    assert!(gateway.stderr().contains("connections up to 32, requests up to 32\n"), "{}", gateway.stderr());
    let mut peers: Vec<Peer> = (0..3).map(|_| Peer::connect(&gateway)).collect();
    let head = request("POST", CHAT, &[("content-type", "application/json")]);
    for (n, peer) in (0..90).zip((0..3).cycle()) {
        let stream = n / 3 * 2 + 1;
        peers[peer].send(&frame(HEADERS, END_HEADERS, stream, &head));
        peers[peer].send(&frame(DATA, END_STREAM, stream, SIDES[0].stream_request.as_bytes()));
    }
    upstream.wait_for(32);
    let health = gateway.send(&Request::get("/health/detailed").with_key()).json();
    assert_eq!((&health["requests_in_flight"], &health["resting"]), (&json!(32), &json!([])), "{health}");
    let told = gateway.post(CHAT, CHAT_REQUEST);
    assert_eq!((told.status, told.headers.one("retry-after")), (503, Some("1")), "{}", told.text());
    assert_eq!(upstream.count(), 32);
}

#[test]
fn a_connection_without_a_request_is_closed() {
    let (upstream, gateway) = start(&[("MODEL_PROXY_IDLE_SECONDS", "0.3")]);
    let mut peer = Peer::connect(&gateway);
    assert_eq!(peer.goaway(), Some(0), "it is let go");
    let mut peer = Peer::connect(&gateway);
    peer.send(&frame(HEADERS, END_HEADERS, 1, &request("POST", CHAT, &[])));
    peer.send(&frame(DATA, END_STREAM, 1, SIDES[0].stream_request.as_bytes()));
    upstream.wait_for(1);
    // By then it would have been found.
    for _ in 0..3 {
        assert_eq!(Peer::connect(&gateway).goaway(), Some(0));
    }
    assert!(!gateway.stderr().contains("client_closed"), "whoever waits for an answer stays: {}", gateway.stderr());
}
