//! What all workers together bear: requests under way, and bytes of bodies held in memory.
//!
//! Both are taken before and given back by whoever drops what was taken, so neither can leak. There is no queue: whoever
//! finds no room is told at once (LIMITS R4).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Shared by all workers.
#[derive(Debug)]
pub struct Capacity {
    requests: Gauge,
    bytes: Gauge,
}

/// Something of which there is only so much.
#[derive(Debug)]
struct Gauge {
    taken: AtomicUsize,
    most: usize,
}

impl Gauge {
    fn new(most: usize) -> Self {
        Self { taken: AtomicUsize::new(0), most }
    }

    /// Takes so much, or nothing.
    fn take(&self, n: usize) -> bool {
        let fit = |taken: usize| taken.checked_add(n).filter(|sum| *sum <= self.most);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fit).is_ok()
    }

    fn give(&self, n: usize) {
        self.taken.fetch_sub(n, Ordering::Relaxed);
    }
}

impl Capacity {
    #[must_use]
    pub fn new(requests_max: usize, bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { requests: Gauge::new(requests_max), bytes: Gauge::new(bytes_max) })
    }

    /// A place for one more request; `None` if there are too many.
    #[must_use]
    pub fn enter(self: &Arc<Self>) -> Option<Place> {
        self.requests.take(1).then(|| Place(Arc::clone(self)))
    }

    /// Room that holds nothing yet.
    #[must_use]
    pub fn room(self: &Arc<Self>) -> Room {
        Room { capacity: Arc::clone(self), bytes: 0 }
    }

    /// Requests under way, and bytes held.
    #[must_use]
    pub fn taken(&self) -> (usize, usize) {
        (self.requests.taken.load(Ordering::Relaxed), self.bytes.taken.load(Ordering::Relaxed))
    }
}

/// The place of one request, as long as it is under way.
#[derive(Debug)]
pub struct Place(Arc<Capacity>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.requests.give(1);
    }
}

/// Room for bytes that are held.
#[derive(Debug)]
pub struct Room {
    capacity: Arc<Capacity>,
    bytes: usize,
}

/// So much needs no room: what is so small is bounded by the number of requests, and is nearly all there is.
const SMALL: usize = 16 * 1024;

impl Room {
    /// Makes it large enough for this, if there is so much. It never grows smaller by it.
    pub fn fit(&mut self, bytes: usize) -> bool {
        let more = if bytes <= SMALL { 0 } else { bytes.saturating_sub(self.bytes) };
        let fits = more == 0 || self.capacity.bytes.take(more);
        if fits {
            self.bytes += more;
        }
        fits
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.capacity.bytes.give(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn what_is_taken_comes_back() {
        const K: usize = 1024;
        let capacity = Capacity::new(2, 100 * K);
        let (a, b) = (capacity.enter(), capacity.enter());
        assert!(a.is_some() && b.is_some() && capacity.enter().is_none(), "two and no more");
        drop(a);
        assert!(capacity.enter().is_some(), "one has left");
        let (mut x, mut y) = (capacity.room(), capacity.room());
        assert!(x.fit(60 * K) && !y.fit(41 * K) && y.fit(40 * K) && !x.fit(61 * K), "a hundred in all");
        assert!(x.fit(30 * K), "which it has");
        assert!(capacity.room().fit(SMALL), "what is small needs none");
        drop(x);
        assert!(y.fit(100 * K), "all of it");
        drop((y, b));
        assert_eq!(capacity.taken(), (0, 0));
    }

    #[test]
    fn of_those_that_come_together_so_many_find_a_place() {
        let capacity = Capacity::new(7, 0);
        for _ in 0..200 {
            let places = thread::scope(|scope| {
                let threads = [0; 4].map(|_| scope.spawn(|| [0; 3].map(|_| capacity.enter())));
                let places = threads.into_iter().flat_map(|thread| thread.join().unwrap());
                places.flatten().collect::<Vec<Place>>()
            });
            assert_eq!((places.len(), capacity.taken().0), (7, 7));
        }
        assert_eq!(capacity.taken().0, 0);
    }
}
