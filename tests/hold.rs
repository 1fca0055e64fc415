//! What crowds cost in memory: a thousand connections that say nothing, readers that do not read, uploads that are too much.
//! What slow clients do not take stays upstream.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use model_proxy::wire::Format;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::support::CLIENT_KEY;
use crate::support::gateway::{Gateway, Setup};
use crate::support::samples::{CHAT, CHAT_REPLY, CHAT_STREAM_REQUEST};
use crate::support::upstream::{Script, Upstream};

/// Bytes of one answer, and of one of its events.
const STREAM_BYTES: usize = 10 * 1024 * 1024;
const EVENT_BYTES: usize = 16 * 1024;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Writes a long stream as fast as it is taken, to everyone who asks.
async fn stream_fast(listener: TcpListener, written: Arc<AtomicUsize>) {
    let text = "x".repeat(EVENT_BYTES);
    let event = format!(
        "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n"
    );
    let mut tasks = JoinSet::new();
    while let Ok((mut tcp, _)) = listener.accept().await {
        let (event, written) = (event.clone(), Arc::clone(&written));
        tasks.spawn(async move {
            let mut buffer = [0; 4096];
            // One request on each connection, small enough for one read.
            let _request = tcp.read(&mut buffer).await;
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
            let mut good = tcp.write_all(head.as_bytes()).await.is_ok();
            let mut sent = 0;
            while good && sent < STREAM_BYTES {
                good = tcp.write_all(event.as_bytes()).await.is_ok();
                sent += event.len();
                written.fetch_add(event.len(), Ordering::Relaxed);
            }
            let end = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
            let _end = tcp.write_all(end.as_bytes()).await;
        });
    }
}

async fn settled(what: impl Fn() -> usize) -> usize {
    let (mut seen, mut rounds) = (what(), 0);
    while rounds < 5 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        rounds = if what() == seen { rounds + 1 } else { 0 };
        seen = what();
    }
    seen
}

fn ask(body: &str) -> String {
    let length = body.len();
    format!(
        "POST {CHAT} HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {CLIENT_KEY}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

#[test]
fn two_hundred_readers_that_do_not_read_cost_little() {
    runtime().block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let written = Arc::new(AtomicUsize::new(0));
        let mut upstream = JoinSet::new();
        upstream.spawn(stream_fast(listener, Arc::clone(&written)));
        let elsewhere = Upstream::start();
        let there = json!({ "endpoints": { "base_url": format!("http://{address}"), "completions": CHAT, "compatible_format": "openai" } });
        let gateway = Setup::new()
            .provider_with("p", Format::OpenaiChat, &elsewhere, &there)
            .env("P_API_KEY", "key-one")
            .model("m", &[("p", "m")])
            .start();
        let before = gateway.rss_kib();
        let mut clients = Vec::new();
        for _ in 0..200 {
            let mut client = TcpStream::connect(gateway.address).await.unwrap();
            client.write_all(ask(CHAT_STREAM_REQUEST).as_bytes()).await.unwrap();
            clients.push(client);
        }
        let taken = settled(|| written.load(Ordering::Relaxed)).await;
        let after = gateway.rss_kib();
        let each = (after - before) / 200;
        eprintln!("200 readers that do not read: {before} -> {after} KiB, {each} KiB each; the upstreams could write {} KiB of {}", taken / 1024, 200 * STREAM_BYTES / 1024);
        assert!(each < 256, "{each} KiB a reader (LIMITS 3: 256)");
        assert!(taken < 200 * STREAM_BYTES, "the upstreams wait");
        // They read on after all, and miss nothing.
        for client in clients.iter_mut().take(3) {
            let mut all = Vec::new();
            client.read_to_end(&mut all).await.unwrap();
            let text = String::from_utf8(all).unwrap();
            assert!(STREAM_BYTES < text.len() && text.contains("data: [DONE]\n\n"), "{} bytes", text.len());
        }
    });
}

#[test]
fn a_thousand_connections_that_say_nothing_cost_little() {
    runtime().block_on(async {
        let upstream = Upstream::answering(|_, _| Script::json(200, CHAT_REPLY));
        let gateway = Setup::simple(Format::OpenaiChat, &upstream).start();
        let before = gateway.rss_kib();
        let mut silent = Vec::new();
        // Half of them have asked once and stay; the others never say a word.
        for n in 0..1000 {
            let mut client = TcpStream::connect(gateway.address).await.unwrap();
            if n % 2 == 0 {
                client.write_all(b"GET /health HTTP/1.1\r\nhost: t\r\n\r\n").await.unwrap();
                let mut buffer = [0; 1024];
                let n = client.read(&mut buffer).await.unwrap();
                assert!(buffer[..n].starts_with(b"HTTP/1.1 200 OK"), "{}", String::from_utf8_lossy(&buffer[..n]));
            }
            silent.push(client);
        }
        let after = gateway.rss_kib();
        eprintln!("1000 idle connections: {before} -> {after} KiB, {} KiB each", (after - before) / 1000);
        assert!(after < before + 32 * 1024, "{before} KiB became {after}");
        assert_eq!(served(&gateway).await, 200, "another is served");
    });
}

async fn served(gateway: &Gateway) -> u16 {
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    client.write_all(ask(&CHAT_STREAM_REQUEST.replace("true", "false")).as_bytes()).await.unwrap();
    status(&mut client).await
}

/// The status of an answer; 0 if the connection was cut before it.
async fn status(client: &mut TcpStream) -> u16 {
    let mut all = Vec::new();
    let _cut = client.read_to_end(&mut all).await;
    String::from_utf8_lossy(&all).strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok()).unwrap_or(0)
}

/// Sixty-four uploads of 4 MiB at once where 32 MiB may be held.
#[test]
fn uploads_beyond_the_budget_are_told_so() {
    const BUDGET: usize = 32 * 1024 * 1024;
    let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{}"}}]}}"#, "x".repeat(4 * 1024 * 1024));
    runtime().block_on(async {
        let upstream = Upstream::answering(|_, _| Script::json(200, CHAT_REPLY));
        let gateway =
            Setup::simple(Format::OpenaiChat, &upstream).env("MODEL_PROXY_HELD_BYTES", &BUDGET.to_string()).start();
        let before = gateway.peak_rss_kib();
        let mut clients = JoinSet::new();
        for _ in 0..64 {
            let (address, bytes) = (gateway.address, ask(&body));
            clients.spawn(async move {
                let mut client = TcpStream::connect(address).await.unwrap();
                // Whoever is refused may be cut off while it still sends.
                let _cut = client.write_all(bytes.as_bytes()).await;
                status(&mut client).await
            });
        }
        let answers = clients.join_all().await;
        let count = |wanted: u16| answers.iter().filter(|status| **status == wanted).count();
        let peak = gateway.peak_rss_kib();
        eprintln!(
            "64 uploads of 4 MiB, 32 MiB held at most: {} answered, {} told 503, {} cut; {before} -> {peak} KiB",
            count(200),
            count(503),
            count(0)
        );
        assert_eq!(count(200) + count(503) + count(0), 64, "{answers:?}");
        assert!(0 < count(200) && 0 < count(503), "{answers:?}");
        // A body that came in pieces is twice there while its room doubles; and the allocator keeps some.
        assert!(peak < before + 3 * 32 * 1024, "{before} KiB became {peak}");
        assert_eq!(served(&gateway).await, 200);
    });
}
