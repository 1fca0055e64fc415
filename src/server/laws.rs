//! What must hold of the door, for any bytes on a connection. The fuzz target and the tests call this; nothing else does.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use crate::config::bounds::Bounds;
use crate::config::clients::{Accounts, Client, Clients};
use crate::config::snapshot::Snapshot;
use crate::gateway::{Capacity, Gateway, RequestIds};
use crate::limit::Limits;
use crate::metrics::Metrics;
use crate::route::table::Table;
use crate::secret::Secret;
use crate::server::accept::{Arrived, Crowd};
use crate::server::cors::Cors;
use crate::server::log::{Log, LogLevel};
use crate::server::refusal::Refusals;
use crate::server::reload::Standing;
use crate::server::tasks::{self, Tasks};
use crate::server::worker::{self, Phase, Purpose, Worker};
use crate::time::Clock;
use crate::upstream::{self, Upstream};

/// The key that is let in.
const KEY: &str = "fuzz-key";

/// A worker without a listener: connections are handed to it.
struct Alone {
    runtime: Runtime,
    worker: Arc<Worker>,
    /// Held, so that it never ends.
    _stop: watch::Sender<Phase>,
}

impl Alone {
    fn new() -> Option<Self> {
        let runtime = Builder::new_current_thread().enable_all().build().ok()?;
        let (stop, stopped) = watch::channel(Phase::Serving);
        let (clock, bounds, tasks) = (Clock::start(), Arc::new(Bounds::default()), Tasks::default());
        let log = Log::start(LogLevel::Error, super::log_line::LogFormat::Human).ok()?;
        let metrics = Metrics::new();
        let keep =
            upstream::Keep { resting: 0, rest_max: bounds.upstream_idle, age_max: bounds.upstream_age, origins: 1 };
        let tls = upstream::tls_config(None).ok()?;
        // No model: what the door lets through ends where models are looked for.
        let gateway = Gateway {
            table: Arc::new(Snapshot::new(Arc::new(Table::new(Vec::new(), String::new())))),
            upstream: Upstream::new(upstream::Settings { tls, spawn: tasks::aside(), clock, keep }),
            clock,
            recorder: log.recorder(Arc::clone(&metrics), None, super::log::LogBodies::Off),
            drain: Arc::default(),
            capacity: Capacity::new(bounds.requests, bounds.held_bytes),
            bodies: None,
            bounds,
        };
        let client = Client::of_key(&Secret::new(KEY), Limits::default());
        let worker = Worker {
            gateway,
            clients: Arc::new(ArcSwap::from_pointee(Clients::new(&[client], &Accounts::default()))),
            ids: RequestIds::new(7),
            tasks,
            started: 0,
            stop: stopped,
            standing: Standing::now(),
            certificate: None,
            crowd: Crowd::new(1),
            watchers: Crowd::new(1),
            cors: Cors::parse("https://app.test").ok()?,
            counted: [Arc::clone(&metrics)].into(),
            metrics,
            metrics_at: None,
            log,
            journal: None,
            refusals: Refusals::default(),
        };
        Some(Self { runtime, worker: Arc::new(worker), _stop: stop })
    }

    /// What a connection that sends these bytes, so many at a time, and then no more, is answered.
    fn answered(&self, bytes: &[u8], step: usize) -> Vec<u8> {
        self.runtime.block_on(async {
            let Ok((mut client, server)) = UnixStream::pair() else {
                return Vec::new();
            };
            worker::admit(&self.worker, Arrived::Unix(server), Purpose::Everything);
            let mut answer = Vec::new();
            let (mut read, mut write) = client.split();
            let send = async {
                for piece in bytes.chunks(step) {
                    // Whoever was refused is not read to the end.
                    if write.write_all(piece).await.is_err() {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
                let _closed = write.shutdown().await;
            };
            let _ended = tokio::join!(send, read.read_to_end(&mut answer));
            // It ends by itself, for its client has.
            self.worker.tasks.wait().await;
            answer
        })
    }
}

/// A connection is answered in whole responses, or frames, or closed; it ends with its client, and no bytes make it panic.
///
/// # Panics
/// Where that is not so.
pub fn door(data: &[u8]) {
    thread_local! {
        static ALONE: Option<Alone> = Alone::new();
    }
    let Some((step, bytes)) = data.split_first() else {
        return;
    };
    let step = usize::from(*step).max(1) * 16;
    ALONE.with(|alone| {
        let answer = alone.as_ref().map(|alone| alone.answered(bytes, step)).unwrap_or_default();
        if bytes.starts_with(b"PRI ") {
            assert!(answer.is_empty() || answer.get(3) == Some(&4), "HTTP/2 begins with SETTINGS");
            return;
        }
        let text = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || text.starts_with("HTTP/1."), "no response: {text}");
        let is_mistake = text.starts_with("HTTP/1.1 500") || text.starts_with("HTTP/1.0 500");
        assert!(!is_mistake, "a mistake of ours: {text}");
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            let code: u16 = head.get(9..12).and_then(|code| code.parse().ok()).unwrap_or(0);
            assert!((100..600).contains(&code), "no status: {head}");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_requests_in_any_pieces_are_answered() {
        let get = format!("GET /v1/models HTTP/1.1\r\nhost: t\r\nauthorization: {KEY}\r\n\r\n");
        let alone = Alone::new().unwrap();
        for step in [1, 7, 4096] {
            let answer = String::from_utf8(alone.answered(get.repeat(3).as_bytes(), step)).unwrap();
            assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 3, "{answer}");
            let nothing = format!(
                "POST /v1/messages HTTP/1.1\r\nhost: t\r\nx-api-key: {KEY}\r\ncontent-length: 13\r\n\r\n{{\"model\":\"m\"}}"
            );
            let answer = String::from_utf8(alone.answered(nothing.as_bytes(), step)).unwrap();
            assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("not_found_error"), "{answer}");
        }
        assert_eq!(alone.answered(b"", 1), b"");
    }
}
