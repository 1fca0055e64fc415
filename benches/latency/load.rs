//! The load: so many connections, each asking again as soon as it has its answer.

use std::cell::RefCell;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};

use super::Target;
use super::format::Format;
use super::process::{CLIENT_KEY, cpu_ns};

/// One kind of load.
pub(super) enum Case {
    Whole { kib: usize, connections: usize, requests: usize },
    Stream { connections: usize, streams: usize, events: usize, is_paced: bool },
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole { kib, connections, .. } => write!(f, "whole, {kib} KB, {connections} at once"),
            Self::Stream { connections, is_paced: false, .. } => write!(f, "events, flooded, {connections} at once"),
            Self::Stream { connections, .. } => write!(f, "events, each 10 ms, {connections} at once"),
        }
    }
}

/// What one round came to. A unit is a request, or an event of a stream; latencies are of whole answers.
pub(super) struct Figures {
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) cpu_us: Option<f64>,
}

/// Gives a target its load.
pub(super) async fn run(client: &'static Format, target: &Target, case: &Case) -> Figures {
    let (connections, answers, units, body) = match case {
        Case::Whole { kib, connections, requests } => {
            (*connections, *requests, *requests, body(client, target.model, ("", 512), kib * 1024))
        }
        Case::Stream { connections, streams, events, is_paced } => {
            let model = format!("{}{}", target.model, if *is_paced { "-paced" } else { "" });
            (*connections, *streams, streams * events, body(client, &model, ("\"stream\":true,", *events), 1024))
        }
    };
    let took = Rc::new(RefCell::new(Vec::with_capacity(answers)));
    let left = Rc::new(RefCell::new(answers));
    let before = target.pid.map(cpu_ns);
    let local = LocalSet::new();
    for _ in 0..connections {
        local.spawn_local(ask(target.address, client.path, body.clone(), Rc::clone(&left), Rc::clone(&took)));
    }
    local.await;
    let cpu = target.pid.zip(before).map(|(pid, before)| cpu_ns(pid) - before);
    let mut took = took.take();
    assert_eq!(took.len(), answers, "every request is answered");
    took.sort_by(f64::total_cmp);
    let at = |percent: usize| took[(took.len() - 1) * percent / 100];
    Figures { p50_us: at(50), p99_us: at(99), cpu_us: cpu.map(|ns| ns as f64 / 1_000.0 / units as f64) }
}

/// A request of so many bytes.
fn body(client: &Format, model: &str, (more, limit): (&str, usize), bytes: usize) -> Bytes {
    let Format { limit: of, turns, .. } = client;
    let head = format!(r#"{{"model":"{model}",{more}"{of}":{limit},"{turns}":[{{"role":"user","content":""#);
    let tail = r#""}]}"#;
    let prose = "The quick brown fox jumps over the lazy dog. ";
    let text: String = prose.chars().cycle().take(bytes.saturating_sub(head.len() + tail.len())).collect();
    Bytes::from([head.as_str(), &text, tail].concat())
}

/// One connection's part: asks until nothing is left to ask.
async fn ask(
    address: SocketAddr,
    path: &'static str,
    body: Bytes,
    left: Rc<RefCell<usize>>,
    took: Rc<RefCell<Vec<f64>>>,
) {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    while take_one(&left) {
        let request = Request::post(path)
            .header("host", "bench")
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {CLIENT_KEY}"))
            .body(Full::new(body.clone()))
            .unwrap();
        let started = Instant::now();
        sender.ready().await.unwrap();
        let reply = sender.send_request(request).await.unwrap();
        assert_eq!(reply.status(), StatusCode::OK, "the answer is good");
        let mut body = reply.into_body();
        while let Some(frame) = body.frame().await {
            drop(frame.unwrap());
        }
        took.borrow_mut().push(started.elapsed().as_secs_f64() * 1e6);
    }
}

fn take_one(left: &RefCell<usize>) -> bool {
    let mut left = left.borrow_mut();
    let is_some = 0 < *left;
    *left = left.saturating_sub(1);
    is_some
}
