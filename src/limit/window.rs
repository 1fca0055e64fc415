//! The last minute: what was admitted in it, to the millisecond.
//!
//! What came in one millisecond is one slot, so a window has at most 60,000 of them, 1.4 MB, whatever passes through it and
//! however high its limits are; a client that asks once a second has sixty.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Millis;

/// How long what was admitted counts.
pub(super) const MINUTE: Duration = Duration::from_secs(60);

/// A sliding window. Its times never run backwards.
#[derive(Debug, Default)]
pub(super) struct Window {
    slots: VecDeque<Slot>,
    requests: u64,
    tokens: u64,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    at: Millis,
    requests: u64,
    tokens: u64,
}

/// Kept for a window that is empty: more is given back.
const SLOTS_KEPT: usize = 64;

impl Window {
    /// Lets go of what has left.
    pub(super) fn pass(&mut self, now: Millis) {
        while let Some(first) = self.slots.front().filter(|first| first.at.after(MINUTE) <= now) {
            self.requests -= first.requests;
            self.tokens -= first.tokens;
            self.slots.pop_front();
        }
        if self.slots.is_empty() && SLOTS_KEPT < self.slots.capacity() {
            self.slots = VecDeque::new();
        }
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests
    }

    pub(super) fn tokens(&self) -> u64 {
        self.tokens
    }

    /// One more request, which holds so many tokens.
    pub(super) fn add(&mut self, now: Millis, tokens: u64) {
        self.requests += 1;
        self.tokens += tokens;
        match self.slots.back_mut() {
            Some(last) if last.at == now => {
                last.requests += 1;
                last.tokens += tokens;
            }
            Some(_) | None => self.slots.push_back(Slot { at: now, requests: 1, tokens }),
        }
    }

    /// What a request admitted then held is replaced by what it used; nothing, where it has left.
    pub(super) fn replace(&mut self, at: Millis, held: u64, used: u64) {
        let place = self.slots.partition_point(|slot| slot.at < at);
        let Some(slot) = self.slots.get_mut(place).filter(|slot| slot.at == at) else {
            return;
        };
        slot.tokens = slot.tokens.saturating_sub(held).saturating_add(used);
        self.tokens = self.tokens.saturating_sub(held).saturating_add(used);
    }

    /// When so many requests will have left.
    pub(super) fn requests_left_by(&self, excess: u64) -> Option<Millis> {
        self.left_by(excess, |slot| slot.requests)
    }

    /// When so many tokens will have left.
    pub(super) fn tokens_left_by(&self, excess: u64) -> Option<Millis> {
        self.left_by(excess, |slot| slot.tokens)
    }

    fn left_by(&self, excess: u64, count: impl Fn(&Slot) -> u64) -> Option<Millis> {
        let mut left = 0_u64;
        let enough = self.slots.iter().find(|slot| {
            left = left.saturating_add(count(slot));
            excess <= left
        });
        enough.map(|slot| slot.at.after(MINUTE))
    }

    /// When all of it will have left.
    pub(super) fn empty_at(&self) -> Option<Millis> {
        self.slots.back().map(|last| last.at.after(MINUTE))
    }

    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }
}
