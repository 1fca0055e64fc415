//! A thousand requests in flight at once: all are answered, and memory stays small.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::support::CLIENT_KEY;
use crate::support::gateway::Setup;
use crate::support::samples::{CHAT, CHAT_REPLY, CHAT_REQUEST};
use crate::support::upstream::Upstream;

/// The most memory the gateway may ever have held: tens of MB, and a bound that no noise reaches.
const RSS_KIB_MAX: u64 = 100 * 1024;

/// How long the upstream thinks: long enough for every request to be in flight before the first is answered.
const THINKING: Duration = Duration::from_millis(1_500);

#[test]
fn a_thousand_requests_in_flight_are_all_answered_in_little_memory() {
    let requests = requests_possible();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        // Only its address is needed of the threaded upstream: the provider file points to the other one.
        let elsewhere = Upstream::start();
        let endpoints = serde_json::json!({ "endpoints": {
            "base_url": format!("http://{address}"), "completions": CHAT, "compatible_format": "openai" } });
        let gateway = Setup::new()
            .provider_with("p", model_proxy::wire::Format::OpenaiChat, &elsewhere, &endpoints)
            .env("P_API_KEY", "key-one")
            .model("m", &[("p", "upstream-model")])
            .start();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener));
        let mut clients = JoinSet::new();
        for _ in 0..requests {
            clients.spawn(ask(gateway.address));
        }
        let mut good = 0;
        while let Some(status) = clients.join_next().await {
            let status = status.unwrap();
            assert!(status.starts_with("HTTP/1.1 200 "), "{status}");
            good += 1;
        }
        assert_eq!(good, requests);
        let peak = gateway.peak_rss_kib();
        eprintln!("{requests} requests in flight; the gateway held {peak} KiB at most");
        assert!(peak < RSS_KIB_MAX, "the gateway held {peak} KiB");
    });
}

/// A thousand, or what the limit on open files leaves: two sockets a request are ours.
fn requests_possible() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap_or_default();
    let files: usize = line.split_whitespace().nth(3).and_then(|n| n.parse().ok()).unwrap_or(1_024);
    let requests = (files.saturating_sub(200) / 2).min(1_000);
    if requests < 1_000 {
        eprintln!("only {requests} requests at once: `ulimit -n` is {files}");
    }
    requests
}

/// Answers every request after a while.
async fn serve(listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        connections.spawn(serve_one(stream));
    }
}

async fn serve_one(mut stream: TcpStream) {
    let reply = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{CHAT_REPLY}",
        CHAT_REPLY.len()
    );
    let mut seen = Vec::new();
    while stream.read_buf(&mut seen).await.is_ok_and(|n| 0 < n) {
        // The body is the last thing sent, and the only one to end so.
        if seen.ends_with(b"}]}") {
            tokio::time::sleep(THINKING).await;
            stream.write_all(reply.as_bytes()).await.unwrap();
            seen.clear();
        }
    }
}

/// Sends one request and returns the status line, once the whole body has been read.
async fn ask(gateway: SocketAddr) -> String {
    let request = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {CLIENT_KEY}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{CHAT_REQUEST}",
        CHAT_REQUEST.len()
    );
    let mut stream = TcpStream::connect(gateway).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut reply = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut reply)).await;
    let text = String::from_utf8_lossy(&reply).into_owned();
    assert!(read.is_ok_and(|r| r.is_ok()), "no answer in a minute; so far: {text:?}");
    let (status, _) = text.split_once("\r\n").unwrap_or((&text, ""));
    assert!(!status.contains(" 200 ") || text.ends_with(CHAT_REPLY), "the whole reply: {text:?}");
    status.to_owned()
}
