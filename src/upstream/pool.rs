//! The connections that rest or are shared, by origin.
//!
//! An HTTP/1 connection is either in here or leased to one request. It comes back once its answer has been read to
//! the end and its driver asks for more; otherwise it is dropped, which closes it. The one that rested last is taken
//! first, so the others may grow old and go. An HTTP/2 connection stays here while requests share it.

use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ahash::AHashMap;
use http::HeaderValue;
use http::uri::Authority;
use hyper::client::conn::http2;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::route::table::Origin;
use crate::time::{Clock, Millis};
use crate::upstream::Spawn;
use crate::upstream::connect::Connector;
use crate::upstream::error::{SendError, What};
use crate::upstream::h1::H1;
use crate::upstream::line::Line;
use crate::upstream::sent::Sent;
use crate::upstream::watch::{Watch, from_now};

/// How many connections are kept, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// Resting HTTP/1 connections of one origin. They rest for seconds only, so that many are cheap.
    pub resting: usize,
    /// How long one rests.
    pub rest_max: Duration,
    /// How old one may grow.
    pub age_max: Duration,
    /// Origins that have a place at one time; those that are not in use make room.
    pub origins: usize,
}

#[cfg(test)]
impl Default for Keep {
    fn default() -> Self {
        Self { resting: 256, rest_max: Duration::from_secs(15), age_max: Duration::from_secs(600), origins: 256 }
    }
}

/// A share of an HTTP/2 connection.
#[derive(Clone, Debug)]
pub(super) struct H2 {
    pub(super) sender: http2::SendRequest<Sent>,
    pub(super) line: Arc<Line>,
    pub(super) born: Millis,
}

/// A connection to send on.
#[derive(Debug)]
pub(super) enum Taken {
    H1(Box<H1>),
    /// Its stream is counted already: see [`Line::enter`].
    H2(H2),
}

/// All origins of one worker.
#[derive(Debug)]
pub(super) struct Pool {
    places: Mutex<AHashMap<Arc<Origin>, Arc<Place>>>,
    keep: Keep,
}

impl Pool {
    pub(super) fn new(keep: Keep) -> Self {
        Self { places: Mutex::default(), keep }
    }

    /// The place of an origin, made when it is first asked for.
    pub(super) fn place(&self, origin: &Arc<Origin>, connector: &Connector) -> Result<Arc<Place>, SendError> {
        let mut places = self.places.lock();
        if let Some(place) = places.get(origin) {
            return Ok(Arc::clone(place));
        }
        let place = Arc::new(Place::new(origin, connector, self.keep)?);
        if self.keep.origins <= places.len() {
            // Origins come from the configuration; only those that reloads have left behind fill this up.
            places.retain(|_, place| 1 < Arc::strong_count(place) || place.is_used());
        }
        if places.len() < self.keep.origins {
            places.insert(Arc::clone(origin), Arc::clone(&place));
        }
        Ok(place)
    }
}

/// One origin: how it is addressed, and its connections.
pub(super) struct Place {
    pub(super) origin: Arc<Origin>,
    pub(super) authority: Authority,
    pub(super) host: HeaderValue,
    /// For requests that a proxy reads.
    pub(super) proxy_authorization: Option<HeaderValue>,
    /// Passed one at a time until it is known what the origin speaks, and always where that is HTTP/2: a burst
    /// must not make a connection for each of its requests when one will do for all.
    pub(super) gate: Semaphore,
    connections: Mutex<Connections>,
    pub(super) clock: Clock,
    spawn: Spawn,
    keep: Keep,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("origin", &self.origin).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Connections {
    /// The last one rested last.
    #[expect(clippy::vec_box, reason = "one is handed on a dozen times with each request")]
    h1: Vec<Box<H1>>,
    h2: Vec<H2>,
    /// Whether connections may be made side by side.
    speaks_h1: bool,
    /// The task that looks after those that rest, while there is one.
    keeper: Option<Waker>,
}

impl Drop for Connections {
    fn drop(&mut self) {
        // It has nothing left to look after, and whoever waits for all tasks need not wait for its timer.
        if let Some(keeper) = self.keeper.take() {
            keeper.wake();
        }
    }
}

impl Place {
    fn new(origin: &Arc<Origin>, connector: &Connector, keep: Keep) -> Result<Self, SendError> {
        let bad = |e: http::Error| SendError::connect(What::Address).because(e);
        let text = origin.authority();
        let host = HeaderValue::from_str(&text).map_err(|e| bad(e.into()))?;
        let authority = Authority::from_maybe_shared(text.into_bytes()).map_err(|e| bad(e.into()))?;
        let proxy_authorization = match origin.proxy.as_ref().and_then(|p| p.authorization.as_ref()) {
            Some(secret) => {
                let mut value = HeaderValue::from_str(&secret.0).map_err(|e| bad(e.into()))?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        let connections = Connections { h1: Vec::new(), h2: Vec::new(), speaks_h1: !origin.tls, keeper: None };
        Ok(Self {
            origin: Arc::clone(origin),
            authority,
            host,
            proxy_authorization,
            gate: Semaphore::new(1),
            connections: Mutex::new(connections),
            clock: connector.clock,
            spawn: Arc::clone(&connector.spawn),
            keep,
        })
    }

    /// A proxy reads the requests and needs them in absolute form.
    pub(super) fn is_relayed(&self) -> bool {
        !self.origin.tls && self.origin.proxy.is_some()
    }

    pub(super) fn speaks_h1(&self) -> bool {
        self.connections.lock().speaks_h1
    }

    /// A connection that is ready now; `None` if one has to be made.
    pub(super) fn take(&self) -> Option<Taken> {
        let mut connections = self.connections.lock();
        let now = self.clock.now();
        let nobody = Context::from_waker(Waker::noop());
        while let Some(mut h1) = connections.h1.pop() {
            // What happens to it while it rests is its end, as a rule.
            let is_ready = if h1.has_rung() { h1.is_ready_after(&nobody) } else { h1.sender.is_ready() };
            if is_ready && !self.is_stale(&h1, now) {
                h1.hush();
                return Some(Taken::H1(h1));
            }
        }
        connections.h2.retain(|h2| !h2.sender.is_closed() && !self.is_old(h2.born, now));
        if let Some(h2) = connections.h2.iter().find(|h2| h2.line.enter()) {
            return Some(Taken::H2(h2.clone()));
        }
        if H2_PER_ORIGIN_MAX <= connections.h2.len() {
            let h2 = connections.h2.iter().min_by_key(|h2| h2.line.streams())?;
            h2.line.queue();
            return Some(Taken::H2(h2.clone()));
        }
        None
    }

    /// Lets a connection rest whose last answer has been read to the end.
    pub(super) fn put(self: &Arc<Self>, mut h1: Box<H1>) {
        let now = self.clock.now();
        let mut connections = self.connections.lock();
        let keeper = connections.keeper.clone();
        let cx = Context::from_waker(keeper.as_ref().unwrap_or(Waker::noop()));
        // Not ready: the request was answered before it was read, or the other side wants to close.
        if !h1.rest(&cx, now) || self.is_old(h1.born, now) {
            return;
        }
        connections.h1.push(h1);
        if self.keep.resting < connections.h1.len() {
            drop(connections.h1.remove(0));
        }
        if keeper.is_none() {
            // Known from now on, so that no second one is sent for; its first look tells it to all that rest.
            connections.keeper = Some(Waker::noop().clone());
            drop(connections);
            let (place, look_at) = (Arc::downgrade(self), from_now(self.keep.rest_max));
            (self.spawn)(Box::pin(keep(place, Watch::new(look_at))));
        }
    }

    /// Drops those that the other side has closed or that have rested too long. `None`: nothing rests, and nothing did
    /// for so long that the keeper may go.
    fn look_after(&self, cx: &Context<'_>, is_time: bool) -> Option<Duration> {
        let mut connections = self.connections.lock();
        let is_known = connections.keeper.as_ref().is_some_and(|k| k.will_wake(cx.waker()));
        let now = self.clock.now();
        connections.h1.retain_mut(|h1| {
            let is_ready = if is_known && !h1.has_rung() { h1.sender.is_ready() } else { h1.is_ready_after(cx) };
            is_ready && !self.is_stale(h1, now)
        });
        let left = match connections.h1.first() {
            Some(oldest) => self.keep.rest_max.saturating_sub(oldest.rests_since.until(now)),
            None if is_time => {
                connections.keeper = None;
                return None;
            }
            None => self.keep.rest_max,
        };
        if !is_known {
            connections.keeper = Some(cx.waker().clone());
        }
        Some(left)
    }

    /// Remembers what a new connection speaks, and shares it if it can be shared.
    pub(super) fn learn(&self, taken: &Taken) {
        let mut connections = self.connections.lock();
        connections.speaks_h1 = matches!(taken, Taken::H1(_));
        if let Taken::H2(h2) = taken {
            connections.h2.push(h2.clone());
        }
    }

    /// Gives up all that rests: one of them was found dead, and what comes next must not meet another.
    pub(super) fn condemn(&self, dead: Option<&Arc<Line>>) {
        let mut connections = self.connections.lock();
        connections.h1.clear();
        connections.h2.retain(|h2| !dead.is_some_and(|line| Arc::ptr_eq(line, &h2.line)));
    }

    fn is_stale(&self, h1: &H1, now: Millis) -> bool {
        self.keep.rest_max <= h1.rests_since.until(now) || self.is_old(h1.born, now)
    }

    fn is_old(&self, born: Millis, now: Millis) -> bool {
        self.keep.age_max <= born.until(now)
    }

    fn is_used(&self) -> bool {
        let connections = self.connections.lock();
        connections.h1.iter().any(|h1| !h1.sender.is_closed()) || connections.h2.iter().any(|h2| !h2.sender.is_closed())
    }
}

/// Shared connections of one origin. Beyond them requests wait for a stream rather than open more.
const H2_PER_ORIGIN_MAX: usize = 8;

/// Looks after a place's connections that rest, as long as there are any.
async fn keep(place: Weak<Place>, mut watch: Watch) {
    let mut look_at = None;
    poll_fn(|cx| {
        loop {
            let Some(place) = place.upgrade() else {
                return Poll::Ready(());
            };
            let is_time = look_at.is_some_and(|at| watch.poll_past(cx, at).is_ready());
            let Some(left) = place.look_after(cx, is_time) else {
                return Poll::Ready(());
            };
            let at = from_now(left);
            look_at = Some(at);
            if watch.poll_past(cx, at).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await;
}
