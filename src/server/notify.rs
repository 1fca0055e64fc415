//! What a supervisor is told that asks to be (`sd_notify(3)`): that we serve, that we end, and, where it watches, that every
//! worker still comes round.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::config::env::Env;

/// Where a supervisor listens; nowhere, as a rule.
#[derive(Debug)]
pub(super) struct Supervisor {
    to: Option<(UnixDatagram, SocketAddr)>,
    /// How often it wants to hear of us.
    every: Option<Duration>,
    beats: Arc<[AtomicU64]>,
}

impl Supervisor {
    /// As the environment says: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`.
    pub(super) fn of(env: &Env, workers: usize) -> Self {
        let is_for_us = env.text("WATCHDOG_PID").is_none_or(|pid| pid == process::id().to_string());
        let watchdog_us = env.text("WATCHDOG_USEC").filter(|_| is_for_us).and_then(|text| text.parse().ok());
        Self::new(env.text("NOTIFY_SOCKET"), watchdog_us, workers)
    }

    fn new(named: Option<&str>, watchdog_us: Option<u64>, workers: usize) -> Self {
        let address = |name: &str| match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(name),
        };
        // One that does not listen must not hold us up.
        let socket = || UnixDatagram::unbound().and_then(|socket| socket.set_nonblocking(true).map(|()| socket)).ok();
        let to = named.and_then(|name| Some((socket()?, address(name).ok()?)));
        // Told twice as often as it must be, as systemd advises.
        let every = watchdog_us.filter(|us| to.is_some() && 0 < *us).map(|us| Duration::from_micros(us) / 2);
        let beats = (0..if every.is_some() { workers } else { 0 }).map(|_| AtomicU64::new(0)).collect();
        Self { to, every, beats }
    }

    /// A word to the supervisor. That it does not listen is its own affair.
    pub(super) fn tell(&self, state: &str) {
        if let Some((socket, address)) = &self.to {
            drop(socket.send_to_addr(state.as_bytes(), address));
        }
    }

    /// What a worker shows that it comes round by, if anybody watches.
    pub(super) fn beat(&self, worker: usize) -> Option<Beat> {
        (worker < self.beats.len()).then(|| Beat { all: Arc::clone(&self.beats), worker, every: self.every })
    }

    /// Tells again and again that all is well, as long as it is.
    pub(super) async fn watch(&self) {
        let Some(every) = self.every else {
            return std::future::pending().await;
        };
        let mut seen: Vec<u64> = vec![u64::MAX; self.beats.len()];
        loop {
            let beats: Vec<u64> = self.beats.iter().map(|beat| beat.load(Ordering::Relaxed)).collect();
            if beats.iter().zip(&seen).all(|(now, before)| now != before) {
                self.tell("WATCHDOG=1");
            }
            seen = beats;
            tokio::time::sleep(every).await;
        }
    }
}

/// A worker's own pulse.
#[derive(Debug)]
pub(super) struct Beat {
    all: Arc<[AtomicU64]>,
    worker: usize,
    every: Option<Duration>,
}

impl Beat {
    /// Beats for as long as its worker comes round.
    pub(super) async fn go_on(self) {
        while let (Some(beat), Some(every)) = (self.all.get(self.worker), self.every) {
            beat.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(every / 2).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_worker_that_stands_still_is_not_told_to_be_well() {
        let dir = std::env::temp_dir().join(format!("model-proxy-notify-{}", process::id()));
        drop(std::fs::remove_file(&dir));
        let listener = UnixDatagram::bind(&dir).unwrap();
        listener.set_nonblocking(true).unwrap();
        let heard = || {
            let mut buffer = [0; 64];
            let mut all = Vec::new();
            while let Ok(length) = listener.recv(&mut buffer) {
                all.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
            }
            all
        };
        let supervisor = Supervisor::new(dir.to_str(), Some(40_000), 2);
        supervisor.tell("READY=1");
        assert_eq!(heard(), ["READY=1"]);
        let beat = |worker| supervisor.beat(worker).unwrap().go_on();
        let watched = || tokio::time::timeout(Duration::from_millis(400), supervisor.watch());
        tokio::select! {
            () = beat(0) => {}
            () = beat(1) => {}
            _ = watched() => {}
        }
        assert!(4 < heard().len(), "again and again");
        tokio::select! {
            () = beat(0) => {}
            _ = watched() => {}
        }
        assert!(heard().len() <= 2, "one of two stands still");
        assert!(Supervisor::new(None, Some(1), 2).beat(0).is_none(), "nobody watches");
        std::fs::remove_file(&dir).unwrap();
    }
}
