//! Connections as they come in, and how many there may be.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::server::listen::Opened;
use crate::server::log;
use crate::time::Millis;

/// A connection that has come.
#[derive(Debug)]
pub(super) enum Arrived {
    Tcp(TcpStream),
    /// It is to speak TLS.
    Tls(TcpStream),
    Unix(UnixStream),
}

/// A listener on a worker's runtime.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp { listener: TcpListener, tls: bool },
    Unix(UnixListener),
}

impl Listener {
    pub(super) fn new(opened: Opened) -> io::Result<Self> {
        Ok(match opened {
            Opened::Tcp { listener, tls } => Self::Tcp { listener: TcpListener::from_std(listener)?, tls },
            Opened::Unix { listener, .. } => Self::Unix(UnixListener::from_std(listener)?),
        })
    }

    pub(super) async fn accept(&self) -> io::Result<Arrived> {
        std::future::poll_fn(|cx| self.poll_accept(cx)).await
    }

    pub(super) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Arrived>> {
        Poll::Ready(match self {
            Self::Tcp { listener, tls } => ready!(listener.poll_accept(cx)).and_then(|(tcp, _)| {
                tcp.set_nodelay(true)?;
                Ok(if *tls { Arrived::Tls(tcp) } else { Arrived::Tcp(tcp) })
            }),
            Self::Unix(listener) => ready!(listener.poll_accept(cx)).map(|(unix, _)| Arrived::Unix(unix)),
        })
    }
}

/// All connections of clients, on all workers.
#[derive(Debug)]
pub(super) struct Crowd {
    open: AtomicUsize,
    most: usize,
    /// Those that were turned away and not told of yet, and when it was told last.
    refused: AtomicU64,
    told_at: AtomicU64,
}

/// Descriptors that are neither clients' nor upstreams': listeners, logs, runtimes.
const OWN_DESCRIPTORS: usize = 64;

/// How many of what costs a descriptor there may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Shares {
    pub(super) connections: usize,
    pub(super) requests: usize,
    /// Connections to upstreams that rest, of all workers together.
    pub(super) resting: usize,
}

impl Shares {
    /// So many as are asked for, but together no more than the descriptor limit leaves: half for connections of clients, three
    /// eighths for requests, each of which may need a connection to an upstream (over HTTP/2 many come on one of a client's),
    /// and an eighth for those that rest (LIMITS R3). Where next to nothing is left, a quarter of all, twice.
    pub(super) fn of(asked: Self, descriptors: Option<usize>) -> Self {
        let Some(all) = descriptors else {
            return asked;
        };
        let (left, least) = (all.saturating_sub(OWN_DESCRIPTORS), (all / 4).max(1));
        Self {
            connections: asked.connections.min((left / 2).max(least)),
            requests: asked.requests.min((left * 3 / 8).max(least)),
            resting: asked.resting.min(left / 8),
        }
    }
}

impl Crowd {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            open: AtomicUsize::new(0),
            most: most.max(1),
            refused: AtomicU64::new(0),
            told_at: AtomicU64::new(0),
        })
    }

    pub(super) fn most(&self) -> usize {
        self.most
    }

    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Lets one more in; `None` if there are as many as there may be.
    pub(super) fn join(self: &Arc<Self>, now: Millis) -> Option<Member> {
        let one_more = |open: usize| (open < self.most).then_some(open + 1);
        if self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok() {
            return Some(Member(Arc::clone(self)));
        }
        let refused = 1 + self.refused.fetch_add(1, Ordering::Relaxed);
        if self.may_tell(now) {
            self.refused.store(0, Ordering::Relaxed);
            let most = self.most;
            log::warn(&format!(
                "{refused} connections were closed as they came: {most} are open, which is the most (connections, and the descriptor limit)"
            ));
        }
        None
    }

    /// The system gives no more.
    pub(super) fn cannot_accept(&self, error: &io::Error, now: Millis) {
        if self.may_tell(now) {
            log::warn(&format!("no connection can be accepted: {error}; {} are open", self.open()));
        }
    }

    /// Once in a second.
    fn may_tell(&self, now: Millis) -> bool {
        let due = |told: u64| (told == 0 || told + 1000 <= now.0).then_some(now.0);
        self.told_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, due).is_ok()
    }
}

/// One connection, as long as it is open.
#[derive(Debug)]
pub(super) struct Member(Arc<Crowd>);

impl Drop for Member {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many descriptors the process may have, where the system tells.
pub fn descriptors() -> Option<usize> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_may_be_open_and_no_more() {
        let crowd = Crowd::new(2);
        let now = Millis(5000);
        let (a, b) = (crowd.join(now), crowd.join(now));
        assert!(a.is_some() && b.is_some() && crowd.join(now).is_none() && crowd.open() == 2, "two");
        drop(a);
        assert!(crowd.join(now).is_some(), "one has left");
        let untold: Vec<bool> = [6000, 6001, 6999, 7000].map(|at| crowd.may_tell(Millis(at))).to_vec();
        assert_eq!(untold, [true, false, false, true], "once in a second");
    }

    #[test]
    fn what_costs_a_descriptor_never_costs_more_than_there_are() {
        let asked = Shares { connections: 10_000, requests: 1024, resting: 512 };
        assert_eq!(Shares::of(asked, None), asked, "nobody tells");
        assert_eq!(Shares::of(asked, Some(1_000_000)), asked, "enough");
        for all in [1, 16, 64, 65, 100, 256, 1024, 4096, 20_000] {
            let Shares { connections, requests, resting } = Shares::of(asked, Some(all));
            assert!(1 <= connections && 1 <= requests, "{all}: somebody is served");
            let least = if all <= 4 { 2 } else { all };
            assert!(connections + requests + resting <= least.max(all.saturating_sub(OWN_DESCRIPTORS)), "{all}");
        }
        assert!(8 <= descriptors().unwrap(), "the limit is known");
    }
}
