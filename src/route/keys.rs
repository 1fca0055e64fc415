//! Whether a key may be used now. A few atomics, shared by every table and every worker.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use ahash::AHashMap;
use parking_lot::Mutex;

use crate::time::Millis;

/// The rest of one key, of one key for one model, of one route, or of one provider.
///
/// `ready_at_ms` only moves later: two failures at once give the longer rest, whichever is counted last.
///
/// ```text
/// trusted ── cool ──▶ resting ── time ──▶ in doubt ── claim ──▶ probed (one request; the others stay away)
///    ▲                   ▲                                        │  │
///    │                   └──────────── cool ──────────────────────┘  │ release: in doubt
///    └──────────────── succeed ──────────────────────────────────────┘
/// ```
#[derive(Default)]
pub struct KeyState {
    ready_at_ms: AtomicU64,
    /// Failures since the last success.
    strikes: AtomicU32,
    why: AtomicU8,
    /// [`TRUSTED`], [`IN_DOUBT`], or until when a request's probe of it is waited for, with a number of that probe in its lowest
    /// bits.
    probe: AtomicU64,
    probes: AtomicU64,
}

/// Bits that tell probes apart which begin in one millisecond.
const PROBE_BITS: u32 = 12;

const TRUSTED: u64 = 0;
const IN_DOUBT: u64 = 1;

/// How long others stay away for one probe. An upstream that has not begun to answer by then is no news; whoever comes next
/// may see for himself.
const PROBE_MAX: Duration = Duration::from_secs(20);

/// Why something rests, for people.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(u8)]
pub enum Why {
    #[default]
    Nothing = 0,
    /// The upstream refused the credential (401, 403).
    Refused = 1,
    /// The account has no credit left (402, insufficient quota).
    NoCredit = 2,
    /// The upstream limits its rate (429).
    Limited = 3,
    /// The upstream failed, was overloaded, or answered garbage.
    Failed = 4,
    /// It could not be reached, or did not answer in time.
    Unreachable = 5,
    /// It is overloaded, or asks to be left alone for a while.
    Busy = 6,
}

impl Why {
    const ALL: [Self; 7] =
        [Self::Nothing, Self::Refused, Self::NoCredit, Self::Limited, Self::Failed, Self::Unreachable, Self::Busy];

    #[must_use]
    pub fn parse(words: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|why| why.as_str() == words && *why != Self::Nothing)
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Refused => "credential refused",
            Self::NoCredit => "no credit left",
            Self::Limited => "rate limited",
            Self::Failed => "upstream failed",
            Self::Unreachable => "unreachable",
            Self::Busy => "overloaded, or asks to be left alone",
        }
    }
}

impl KeyState {
    /// When it may be used again; the past if it may be now.
    #[must_use]
    pub fn ready_at(&self) -> Millis {
        Millis(self.ready_at_ms.load(Ordering::Relaxed))
    }

    #[must_use]
    pub fn is_ready(&self, now: Millis) -> bool {
        self.ready_at() <= now
    }

    /// One more failure: lets it rest from `now`, never shorter than it already does.
    pub fn cool(&self, now: Millis, rest: Duration, why: Why) {
        self.strikes.fetch_add(1, Ordering::Relaxed);
        self.hold(now, rest, why);
    }

    /// The same for a failure that was counted already.
    pub fn hold(&self, now: Millis, rest: Duration, why: Why) {
        if rest.is_zero() {
            return;
        }
        let until = now.after(rest).0;
        if self.ready_at_ms.fetch_max(until, Ordering::Relaxed) < until {
            self.why.store(why as u8, Ordering::Relaxed);
        }
        self.probe.store(IN_DOUBT, Ordering::Relaxed);
    }

    /// It worked.
    pub fn succeed(&self) {
        // Almost always nothing to clear: a load is cheaper than a store to a shared line.
        if self.strikes.load(Ordering::Relaxed) != 0 {
            self.strikes.store(0, Ordering::Relaxed);
        }
        if self.probe.load(Ordering::Relaxed) != TRUSTED {
            self.probe.store(TRUSTED, Ordering::Relaxed);
        }
    }

    /// Takes the one probe there may be at a time of what has failed and not succeeded since. `None`: another request has
    /// it. Nothing is to be taken of what is trusted.
    #[must_use]
    pub fn claim(&self, now: Millis) -> Option<Claim> {
        let seen = self.probe.load(Ordering::Relaxed);
        if seen == TRUSTED {
            return Some(Claim(TRUSTED));
        }
        if now.0 < seen >> PROBE_BITS {
            return None;
        }
        let number = self.probes.fetch_add(1, Ordering::Relaxed) % (1 << PROBE_BITS);
        let probe = (now.after(PROBE_MAX).0 << PROBE_BITS) | number;
        let taken = self.probe.compare_exchange(seen, probe, Ordering::Relaxed, Ordering::Relaxed);
        taken.is_ok().then_some(Claim(probe))
    }

    /// Gives a probe back that told nothing: the client left, or the request itself was wrong.
    pub fn release(&self, claim: Claim) {
        if claim.0 != TRUSTED {
            // Not if it was cooled, trusted again or, too late, claimed anew since.
            let _is_theirs = self.probe.compare_exchange(claim.0, IN_DOUBT, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Whether a claim is the one that counts.
    pub(in crate::route) fn is_held_by(&self, claim: Claim) -> bool {
        self.probe.load(Ordering::Relaxed) == claim.0
    }

    /// Whether a request is finding out if it works again.
    #[must_use]
    pub fn is_probed(&self, now: Millis) -> bool {
        now.0 < self.probe.load(Ordering::Relaxed) >> PROBE_BITS
    }

    /// Failures since the last success.
    #[must_use]
    pub fn strikes(&self) -> u32 {
        self.strikes.load(Ordering::Relaxed)
    }

    /// Why it rests, or rested last.
    #[must_use]
    pub fn last_why(&self) -> Why {
        Why::ALL.get(usize::from(self.why.load(Ordering::Relaxed))).copied().unwrap_or_default()
    }

    /// Why it rests; `Nothing` when it does not.
    #[must_use]
    pub fn why(&self, now: Millis) -> Why {
        if self.is_ready(now) { Why::Nothing } else { self.last_why() }
    }
}

/// The right to probe one state, until it is given back or an outcome is known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Claim(u64);

impl Claim {
    /// Whether it stands for a probe at all.
    #[must_use]
    pub fn is_probe(self) -> bool {
        self.0 != TRUSTED
    }
}

impl fmt::Debug for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyState(ready_at {}, {} strikes)", self.ready_at().0, self.strikes())
    }
}

/// One that rests.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Resting {
    pub name: String,
    pub left: Duration,
    pub why: Why,
    pub strikes: u32,
}

/// All states there are, by stable names, so that a reload finds the ones it had.
///
/// Names are made of provider, upstream model and key fingerprint; never of a position in a file.
#[derive(Debug, Default)]
pub struct Registry(Mutex<AHashMap<String, Arc<KeyState>>>);

impl Registry {
    /// The state of that name, fresh if there was none.
    #[must_use]
    pub fn state(&self, name: String) -> Arc<KeyState> {
        Arc::clone(self.0.lock().entry(name).or_default())
    }

    /// All that rest, in no order.
    #[must_use]
    pub fn resting(&self, now: Millis) -> Vec<Resting> {
        let states = self.0.lock();
        let resting = states.iter().filter(|(_, state)| !state.is_ready(now));
        let rest = |(name, state): (&String, &Arc<KeyState>)| Resting {
            name: name.clone(),
            left: now.until(state.ready_at()),
            why: state.why(now),
            strikes: state.strikes(),
        };
        resting.map(rest).collect()
    }

    /// Lets one rest as it did before: at start, before there is a table.
    pub fn restore(&self, resting: Resting, now: Millis) {
        let state = self.state(resting.name);
        state.cool(now, resting.left, resting.why);
        state.strikes.store(resting.strikes, Ordering::Relaxed);
    }

    /// Forgets the states nobody but the registry holds: call it after a table was swapped out.
    pub fn prune(&self) {
        self.0.lock().retain(|_, state| 1 < Arc::strong_count(state));
    }
}

/// The rest of a key, or of a route, for its upstream model; or, behind a wildcard, for each of the models asked for.
///
/// Those are without number and named by strangers, so they share a fixed count of states by their names' hash: a limit on one
/// model holds up one in so many others, rather than all.
#[derive(Clone, Debug, Default)]
pub struct ModelState {
    first: Arc<KeyState>,
    /// Empty where there is one model.
    more: Arc<[Arc<KeyState>]>,
}

/// States of a wildcard. A proxy's users ask for a handful of models at a time.
const SHARES: usize = 32;

/// Which of a wildcard's states a request's model has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Share(usize);

impl Share {
    /// The share of the model that a wildcard's `*` stands for.
    #[must_use]
    pub fn of(star: Option<&str>) -> Self {
        let hash = |name: &str| name.bytes().fold(0_usize, |h, b| h.wrapping_mul(31).wrapping_add(usize::from(b)));
        Self(star.map_or(0, hash) % SHARES)
    }
}

impl ModelState {
    /// The state of that name; behind a wildcard, the states.
    #[must_use]
    pub fn new(registry: &Registry, name: &str, is_wildcard: bool) -> Self {
        let more = (1..SHARES).filter(|_| is_wildcard).map(|n| registry.state(format!("{name}\u{0}{n}")));
        Self { first: registry.state(name.to_owned()), more: more.collect() }
    }

    #[must_use]
    pub fn of(&self, share: Share) -> &KeyState {
        share.0.checked_sub(1).and_then(|at| self.more.get(at)).unwrap_or(&self.first)
    }

    /// All of them: one, or behind a wildcard the many.
    pub fn all(&self) -> impl Iterator<Item = &KeyState> {
        std::iter::once(&self.first).chain(&*self.more).map(AsRef::as_ref)
    }

    /// Whether two are the same states, not only alike.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.first, &other.first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_is_never_shortened() {
        let state = KeyState::default();
        assert!(state.is_ready(Millis(1)), "fresh");
        state.cool(Millis(1_000), Duration::from_secs(60), Why::Limited);
        state.cool(Millis(2_000), Duration::from_secs(5), Why::Failed);
        assert_eq!(state.ready_at(), Millis(61_000));
        assert_eq!(state.why(Millis(2_000)), Why::Limited);
        assert!(!state.is_ready(Millis(60_999)) && state.is_ready(Millis(61_000)), "to the millisecond");
        assert_eq!((state.strikes(), state.why(Millis(61_000))), (2, Why::Nothing));
        state.succeed();
        assert_eq!(state.strikes(), 0);
    }

    #[test]
    fn a_registry_keeps_what_is_in_use() {
        let registry = Registry::default();
        let held = registry.state("a".into());
        held.cool(Millis(1), Duration::from_secs(9), Why::Failed);
        drop(registry.state("b".into()));
        registry.prune();
        assert!(!registry.state("a".into()).is_ready(Millis(2)), "the same state");
        assert_eq!(registry.0.lock().len(), 1);
    }

    #[test]
    fn models_behind_a_wildcard_rest_apart() {
        let registry = Registry::default();
        let state = ModelState::new(&registry, "key openai/*", true);
        let (a, b) = (Share::of(Some("gpt-a")), Share::of(Some("gpt-b")));
        state.of(a).cool(Millis(1), Duration::from_secs(9), Why::Limited);
        assert!(!state.of(a).is_ready(Millis(2)) && state.of(b).is_ready(Millis(2)), "only the one that was limited");
        let again = ModelState::new(&registry, "key openai/*", true);
        assert!(!again.of(a).is_ready(Millis(2)) && again.is_same(&state), "and after a reload");
        let fixed = ModelState::new(&registry, "key gpt-a", false);
        fixed.of(a).cool(Millis(1), Duration::from_secs(9), Why::Limited);
        assert!(!fixed.of(b).is_ready(Millis(2)), "one model has one state");
    }

    #[test]
    fn one_request_probes_what_has_failed() {
        let state = KeyState::default();
        let now = Millis(10_000);
        assert!(state.claim(now).is_some_and(|c| !c.is_probe()) && state.claim(now).is_some(), "trusted: for all");
        state.cool(Millis(1), Duration::from_secs(1), Why::Failed);
        let claim = state.claim(now).expect("the first one");
        assert!(claim.is_probe() && state.is_probed(now) && state.claim(now).is_none(), "and no other");
        state.release(claim);
        let claim = state.claim(now).expect("it told nothing");
        let late = now.after(PROBE_MAX);
        let other = state.claim(late).expect("it told nothing for too long");
        state.release(claim);
        assert!(state.is_probed(late), "what comes too late takes nothing from the next");
        state.succeed();
        state.release(other);
        assert!(!state.is_probed(late) && state.claim(late).is_some_and(|c| !c.is_probe()), "trusted again");
    }

    #[test]
    fn a_failed_probe_rests_anew() {
        let state = KeyState::default();
        state.cool(Millis(1), Duration::from_secs(1), Why::Failed);
        let claim = state.claim(Millis(2_000)).expect("due");
        state.cool(Millis(2_100), Duration::from_secs(2), Why::Failed);
        state.release(claim);
        assert_eq!((state.ready_at(), state.strikes()), (Millis(4_100), 2));
        assert!(!state.is_probed(Millis(2_200)) && state.claim(Millis(4_100)).is_some(), "the next one");
    }

    #[test]
    fn no_cooldown_is_no_rest() {
        let state = KeyState::default();
        state.cool(Millis(5), Duration::ZERO, Why::Failed);
        assert!(state.is_ready(Millis(5)), "zero turns resting off");
    }
}
