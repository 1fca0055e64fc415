//! Which attempt comes next. Pure: `next(now)` and `observe(outcome, now)` are all there is.
//!
//! ```text
//! for each route in order            a route that rests, or has no key, is stepped over
//!   for each key in its order        a key that rests, or is being probed, is stepped over
//!     Try ── observe ──▶ Deliver | Refuse    the plan is over
//!                        SameAgain | Repair | Unseal  this key once more (each once per request; Unseal per route)
//!                        NextKey | NextRoute | LargerRoute
//! what is left rests: Wait for what is due soon, or is being probed; then what has rested is tried all the same; nothing
//! was tried, and the soonest only failed: it is probed before its time; else GiveUp says until when
//! ```
//!
//! A route's keys take turns, unless the request belongs to a session: then they come in an order that is the session's own,
//! the same on every machine (rendezvous hashing), so that what the provider caches for one key is found again.
//!
//! Laws (tested by simulation): each (route, key) is tried at most once, replays aside; nothing that rests is tried
//! while something ready is left; of what has failed one request at a time finds out whether it works again; order is
//! kept; the plan ends within its budget and before its deadline.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use crate::route::keys::{Claim, KeyState, Share, Why};
use crate::route::table::{Route, Slot};
use crate::route::verdict::{Cool, Outcome, Rest, Scope, Then, Verdict, judge};
use crate::secret::Secret;
use crate::time::Millis;

/// Attempts one request may cost where its model does not say, replays included. Enough for a few keys on a few routes; a
/// client is better told than kept waiting beyond that.
pub const ATTEMPTS_MAX: u32 = 16;

/// How long a request waits in all for what rests: short of what a person or an SDK takes for a failure.
pub const WAIT_MAX: Duration = Duration::from_secs(3);

/// When a probe that another request makes is asked about again: an answer has mostly begun by then.
pub(in crate::route) const PROBE_PAUSE: Duration = Duration::from_millis(250);

/// One request's way through its model's routes. Dropped before its end, it gives back what it was to find out.
#[derive(Debug)]
pub struct Plan<'t> {
    routes: &'t [Arc<Route>],
    share: Share,
    deadline: Millis,
    attempts_max: u32,
    /// A number of the session the request belongs to.
    session: Option<u64>,
    attempts: u32,
    /// Where each route's keys begin for this request, once it was asked for.
    turns: SmallVec<[(usize, usize); 1]>,
    current: Option<Attempt>,
    /// What was tried, and need not be again.
    tried: SmallVec<[Attempt; 2]>,
    /// Routes that are of no use to this request any more.
    left: SmallVec<[usize; 2]>,
    /// Only routes that are declared to take longer requests than this are of use.
    longer_than: Option<u64>,
    /// Until when it may wait; from when it first did.
    wait_until: Option<Millis>,
    /// The current key is to be tried again.
    again: bool,
    replayed: bool,
    repaired: bool,
    /// Routes that are asked without thinking that is sealed.
    unsealed: SmallVec<[usize; 1]>,
    over: bool,
    resting: SmallVec<[(Millis, Why, Attempt); 1]>,
    /// What the current attempt finds out for others.
    claims: SmallVec<[(&'t KeyState, Claim); 1]>,
}

/// One key of one route.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Attempt {
    pub route: usize,
    pub slot: usize,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    Try(Attempt),
    /// Nothing is ready, but something soon is: ask again then.
    Wait(Millis),
    GiveUp(GiveUp),
}

/// Why nothing more is tried.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum GiveUp {
    /// Everything that could be tried was.
    Exhausted,
    /// Nothing was tried: all rest, the first until then, for that reason.
    AllResting(Millis, Why),
    /// Nothing was tried: no route has a key.
    NoKeys,
    /// The request's time is over.
    Deadline,
}

impl<'t> Plan<'t> {
    #[must_use]
    pub fn new(routes: &'t [Arc<Route>], share: Share, deadline: Millis) -> Self {
        Self {
            routes,
            share,
            deadline,
            attempts_max: ATTEMPTS_MAX,
            session: None,
            attempts: 0,
            turns: SmallVec::new(),
            current: None,
            tried: SmallVec::new(),
            left: SmallVec::new(),
            longer_than: None,
            wait_until: None,
            again: false,
            replayed: false,
            repaired: false,
            unsealed: SmallVec::new(),
            over: false,
            resting: SmallVec::new(),
            claims: SmallVec::new(),
        }
    }

    /// For a request that belongs to a session.
    #[must_use]
    pub fn of_session(mut self, session: Option<u64>) -> Self {
        self.session = session;
        self
    }

    /// With another budget of attempts, replays included.
    #[must_use]
    pub fn within(mut self, attempts_max: u32) -> Self {
        self.attempts_max = attempts_max;
        self
    }

    /// Attempts made so far.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// When the soonest of its keys may be tried again, by other requests.
    #[must_use]
    pub fn soonest(&self, now: Millis) -> Option<Duration> {
        let ways = self.routes.iter().flat_map(|route| route.keys.iter().map(move |slot| (route, slot)));
        let left = ways.map(|(route, slot)| rests(route, slot, self.share, now).map_or(now, |(until, _)| until));
        left.min().map(|until| now.until(until)).filter(|left| !left.is_zero())
    }

    /// Whether this request finds out for others if something works again.
    pub(in crate::route) fn probes(&self, state: &KeyState) -> bool {
        self.claims.iter().any(|(claimed, claim)| std::ptr::eq(*claimed, state) && state.is_held_by(*claim))
    }

    /// Says what to try now.
    pub fn next(&mut self, now: Millis) -> Step {
        if !self.again {
            self.give_back();
        }
        if self.over || self.attempts_max <= self.attempts {
            return Step::GiveUp(GiveUp::Exhausted);
        }
        if self.deadline <= now {
            return Step::GiveUp(GiveUp::Deadline);
        }
        let found = match self.current.filter(|_| std::mem::take(&mut self.again)) {
            Some(same) => Some(same),
            None => self.walk(now),
        };
        let Some(attempt) = found else {
            if let Some(until) = self.due_soon(now) {
                return Step::Wait(until);
            }
            return match self.last_resort(now) {
                Some(attempt) => self.try_now(attempt),
                None => Step::GiveUp(self.why_nothing()),
            };
        };
        self.try_now(attempt)
    }

    fn try_now(&mut self, attempt: Attempt) -> Step {
        self.attempts += 1;
        self.current = Some(attempt);
        if !self.tried.contains(&attempt) {
            self.tried.push(attempt);
        }
        Step::Try(attempt)
    }

    /// Takes in how the attempt ended, lets rest whom it concerns, and says what that means.
    pub fn observe(&mut self, outcome: &Outcome, now: Millis) -> Verdict {
        let verdict = self.follow(outcome);
        let Some((_, route, slot)) = self.current_slot() else {
            return verdict;
        };
        if let Some(cool) = verdict.cool {
            rest(route, slot, self.share, &cool, now);
        }
        if verdict.then == Then::Deliver {
            for state in states(route, slot, self.share) {
                state.succeed();
            }
        }
        if !self.again {
            self.give_back();
        }
        verdict
    }

    /// The same, but nobody rests for it and nobody is the better for it: for what says nothing about the answers a
    /// route gives.
    pub fn follow(&mut self, outcome: &Outcome) -> Verdict {
        let Some((attempt, route, _)) = self.current_slot() else {
            debug_assert!(false, "nothing was tried");
            return Verdict { then: Then::Refuse, cool: None };
        };
        let mut verdict = judge(outcome, &route.policy);
        // Each remedy is tried once; the second time the failure is the route's.
        if verdict.then == Then::SameAgain && std::mem::replace(&mut self.replayed, true)
            || verdict.then == Then::Repair && std::mem::replace(&mut self.repaired, true)
            || verdict.then == Then::Unseal && self.is_unsealed(attempt.route)
        {
            verdict.then = Then::NextRoute;
        }
        match verdict.then {
            Then::Deliver | Then::Refuse => self.over = true,
            Then::SameAgain | Then::Repair => self.again = true,
            Then::Unseal => {
                self.again = true;
                self.unsealed.push(attempt.route);
            }
            Then::NextKey => {}
            Then::NextRoute => self.left.push(attempt.route),
            Then::LargerRoute => {
                self.longer_than = route.context_tokens;
                self.left.push(attempt.route);
                let is_larger = |r: &Arc<Route>| self.longer_than.is_some() && self.is_long_enough(r);
                if !self.routes.iter().skip(attempt.route).any(is_larger) {
                    verdict.then = Then::Refuse;
                    self.over = true;
                }
            }
        }
        verdict
    }

    /// Leaves the current route without a verdict: the request cannot be said in its format. It costs no attempt, and
    /// none of the route's keys is worth another.
    pub fn pass_over(&mut self) {
        self.give_back();
        if let Some(attempt) = self.current {
            self.attempts = self.attempts.saturating_sub(1);
            self.left.push(attempt.route);
        }
    }

    /// Leaves the current key without a verdict: it has answered, and is not the one that can.
    pub fn leave_key(&mut self) {
        self.give_back();
    }

    /// Whether there is nothing that it might have tried and has not.
    #[must_use]
    pub fn has_tried_all(&self) -> bool {
        let ways = self.routes.iter().enumerate().filter(|(index, _)| !self.left.contains(index));
        let all = ways.flat_map(|(route, at)| (0..at.keys.len()).map(move |slot| Attempt { route, slot }));
        all.into_iter().all(|attempt| self.tried.contains(&attempt))
    }

    /// What has not been tried because it rests: until when the soonest does, and why.
    #[must_use]
    pub fn untried(&self) -> Option<(Millis, Why)> {
        self.resting.iter().min_by_key(|(until, _, _)| *until).map(|(until, why, _)| (*until, *why))
    }

    /// Whether a route has complained of thinking that another has sealed: from then on it is asked without, with every key.
    #[must_use]
    pub fn is_unsealed(&self, route: usize) -> bool {
        self.unsealed.contains(&route)
    }

    fn current_slot(&self) -> Option<(Attempt, &'t Route, &'t Slot)> {
        let attempt = self.current?;
        let route = self.routes.get(attempt.route)?;
        Some((attempt, route, route.keys.get(attempt.slot)?))
    }

    /// Finds the first key that is ready, from the front: what rested a moment ago may not any more.
    fn walk(&mut self, now: Millis) -> Option<Attempt> {
        self.resting.clear();
        let routes = self.routes;
        for (index, route) in routes.iter().enumerate() {
            if self.left.contains(&index) || !self.is_long_enough(route) {
                continue;
            }
            for slot in self.order(index, route) {
                let attempt = Attempt { route: index, slot };
                let Some(keys) = route.keys.get(slot).filter(|_| !self.tried.contains(&attempt)) else {
                    continue;
                };
                match rests(route, keys, self.share, now).or_else(|| self.claim(route, keys, now).err()) {
                    None => return Some(attempt),
                    Some((until, why)) => self.resting.push((until, why, attempt)),
                }
            }
        }
        None
    }

    /// A route's keys in the order of this request: in turn, or as its session has them.
    fn order(&mut self, index: usize, route: &Route) -> SmallVec<[usize; 4]> {
        let n = route.keys.len();
        if n == 1 {
            return std::iter::once(0).collect();
        }
        if let Some(session) = self.session {
            let weight = |slot: &usize| {
                let key = route.keys.get(*slot).and_then(|slot| slot.key.secret.as_ref());
                mix(session ^ key.map_or(0, Secret::ordinal))
            };
            let mut order: SmallVec<[usize; 4]> = (0..n).collect();
            order.sort_by_cached_key(|slot| std::cmp::Reverse(weight(slot)));
            return order;
        }
        let known = self.turns.iter().find(|(at, _)| *at == index).map(|(_, turn)| *turn);
        let turn = known.unwrap_or_else(|| {
            let turn = route.rotate();
            self.turns.push((index, turn));
            turn
        });
        (0..n).map(|step| (turn + step) % n).collect()
    }

    fn is_long_enough(&self, route: &Route) -> bool {
        self.longer_than.is_none_or(|tokens| route.context_tokens.is_some_and(|most| tokens < most))
    }

    /// Takes the probes of all that has failed on this way. `Err`: another request is making one.
    fn claim(&mut self, route: &'t Route, slot: &'t Slot, now: Millis) -> Result<(), (Millis, Why)> {
        for state in states(route, slot, self.share) {
            match state.claim(now) {
                Some(claim) if claim.is_probe() => self.claims.push((state, claim)),
                Some(_) => {}
                None => {
                    self.give_back();
                    return Err((now.after(PROBE_PAUSE), state.last_why()));
                }
            }
        }
        Ok(())
    }

    /// Whoever comes next may find out what this request did not.
    fn give_back(&mut self) {
        for (state, claim) in self.claims.drain(..) {
            state.release(claim);
        }
    }

    /// When the soonest of what was not tried may be, if the request can wait so long.
    fn due_soon(&mut self, now: Millis) -> Option<Millis> {
        let soonest = self.resting.iter().map(|(until, _, _)| *until).min()?;
        let patience = self.wait_until.unwrap_or_else(|| now.after(WAIT_MAX));
        if patience < soonest || self.deadline <= soonest {
            return None;
        }
        self.wait_until = Some(patience);
        Some(soonest.max(Millis(now.0 + 1)))
    }

    /// What is tried though it is in doubt, because the client gets no answer otherwise. First of all what has rested, and is
    /// being probed by a request that takes longer than this one can wait: an answer written at leisure must not hold up all
    /// others. Else, where nothing was tried, the soonest of those that only failed is worth a probe: failing may have passed.
    /// What was refused or limited is not: its rest was asked for.
    fn last_resort(&mut self, now: Millis) -> Option<Attempt> {
        let routes = self.routes;
        let way = |at: &Attempt| routes.get(at.route).and_then(|route| Some((route, route.keys.get(at.slot)?)));
        let has_rested = |at: &Attempt| way(at).is_some_and(|(r, s)| rests(r, s, self.share, now).is_none());
        if let Some((_, _, attempt)) = self.resting.iter().find(|(_, _, attempt)| has_rested(attempt)) {
            return Some(*attempt);
        }
        if 0 < self.attempts {
            return None;
        }
        let failed = self.resting.iter().filter(|(_, why, _)| matches!(why, Why::Failed | Why::Unreachable));
        let attempt = failed.min_by_key(|(until, _, _)| *until).map(|(_, _, attempt)| *attempt)?;
        let (route, slot) = way(&attempt)?;
        self.claim(route, slot, now).ok()?;
        Some(attempt)
    }

    fn why_nothing(&self) -> GiveUp {
        if 0 < self.attempts {
            return GiveUp::Exhausted;
        }
        self.untried().map_or(GiveUp::NoKeys, |(until, why)| GiveUp::AllResting(until, why))
    }
}

impl Drop for Plan<'_> {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// Spreads every bit over all (the finaliser of splitmix64): what it gives is the same on every machine.
#[must_use]
pub fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The states that must all be ready, the widest first.
pub(in crate::route) fn states<'r>(route: &'r Route, slot: &'r Slot, share: Share) -> [&'r KeyState; 4] {
    [&route.provider.state, route.state.of(share), &slot.on_key, slot.on_model.of(share)]
}

/// Until when this key of this route rests, and why; `None` if it does not.
fn rests(route: &Route, slot: &Slot, share: Share, now: Millis) -> Option<(Millis, Why)> {
    let latest = states(route, slot, share).into_iter().max_by_key(|s| s.ready_at())?;
    (!latest.is_ready(now)).then(|| (latest.ready_at(), latest.why(now)))
}

fn rest(route: &Route, slot: &Slot, share: Share, cool: &Cool, now: Millis) {
    let state = match cool.scope {
        Scope::Key => &slot.on_key,
        Scope::KeyModel => slot.on_model.of(share),
        Scope::Route => route.state.of(share),
        Scope::Provider => &route.provider.state,
    };
    // Requests that were under way together fail together: that is one failure, not one in a row for each. What they were
    // asked for counts all the same.
    match cool.rest {
        Rest::Growing(_) if !state.is_ready(now) => {}
        Rest::GrowingFrom(asked, _) if !state.is_ready(now) => state.hold(now, asked, cool.why),
        rest @ (Rest::Asked(_) | Rest::For(_) | Rest::Growing(_) | Rest::GrowingFrom(..) | Rest::FromThird(_)) => {
            state.cool(now, rest.jittered(state.strikes(), now), cool.why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::laws;
    use crate::route::verdict::Stage;

    fn route(name: &str, keys: usize) -> Arc<Route> {
        Arc::new(laws::route(name, keys))
    }

    fn replied(status: u16) -> Outcome {
        Outcome::replied(status, None)
    }

    const DEADLINE: Millis = Millis(600_000);

    /// Runs a plan whose attempts end as listed; returns what was tried as `route.key`, and the end.
    fn run(routes: &[Arc<Route>], ends: &[Outcome], now: Millis) -> (String, Step) {
        let mut plan = Plan::new(routes, Share::default(), DEADLINE);
        let mut tried = Vec::new();
        let mut ends = ends.iter();
        loop {
            match plan.next(now) {
                Step::Try(Attempt { route, slot }) => {
                    tried.push(format!("{route}.{slot}"));
                    plan.observe(ends.next().expect("as many ends as attempts"), now);
                }
                end @ (Step::GiveUp(_) | Step::Wait(_)) => return (tried.join(" "), end),
            }
        }
    }

    #[track_caller]
    fn check(keys: &[usize], ends: &[u16], tried: &str) {
        let routes: Vec<_> = keys.iter().map(|k| route("p", *k)).collect();
        let ends: Vec<_> = ends.iter().map(|s| replied(*s)).collect();
        let (got, end) = run(&routes, &ends, Millis(1));
        assert_eq!(got, tried);
        assert_eq!(end, Step::GiveUp(GiveUp::Exhausted), "over");
    }

    #[test]
    fn what_is_only_followed_lets_nobody_rest() {
        let routes = [route("a", 2), route("b", 1)];
        let mut plan = Plan::new(&routes, Share::default(), DEADLINE);
        let now = Millis(1);
        let mut tried = Vec::new();
        for (status, then) in [(429, Then::NextKey), (500, Then::NextRoute), (529, Then::NextRoute)] {
            let Step::Try(attempt) = plan.next(now) else { panic!("{tried:?}") };
            tried.push(attempt.route);
            assert_eq!(plan.follow(&replied(status)).then, then);
        }
        assert_eq!((tried, plan.next(now)), (vec![0, 0, 1], Step::GiveUp(GiveUp::Exhausted)));
        let resting = routes.iter().flat_map(|r| r.keys.iter().map(|s| rests(r, s, Share::default(), now)));
        assert_eq!(resting.flatten().count(), 0);
    }

    #[test]
    fn tries_keys_then_routes() {
        check(&[2, 1], &[200], "0.0");
        check(&[2, 1], &[401, 200], "0.0 0.1");
        check(&[2, 1], &[429, 429, 200], "0.0 0.1 1.0");
        check(&[2, 1], &[500, 200], "0.0 1.0");
        check(&[2, 0, 1], &[401, 401, 401], "0.0 0.1 2.0");
        check(&[2, 1], &[400], "0.0");
    }

    #[test]
    fn a_bad_request_cools_nobody_and_a_bad_key_only_itself() {
        let routes = [route("p", 2)];
        run(&routes, &[replied(400)], Millis(1));
        assert_eq!(run(&routes, &[replied(401), replied(200)], Millis(1)).0, "0.1 0.0", "the rotation went on");
        assert_eq!(run(&routes, &[replied(200)], Millis(1)).0, "0.0", "key 1 rests");
        assert_eq!(run(&routes, &[replied(200)], Millis(2)).0, "0.0");
        assert_eq!(run(&routes, &[replied(200)], Millis(600_001)).0, "", "past the deadline");
    }

    #[test]
    fn a_stale_connection_is_replayed_once() {
        let stale = Outcome::failed(Stage::Sent { reused: true });
        let routes = [route("p", 2), route("q", 1)];
        assert_eq!(run(&routes, &[stale, replied(200)], Millis(1)).0, "0.0 0.0");
        assert_eq!(run(&routes, &[stale, stale, replied(200)], Millis(1)).0, "0.1 0.1 1.0");
    }

    #[test]
    fn what_is_due_soon_is_waited_for_once_and_only_so_long() {
        let routes = [route("p", 1)];
        let asks = |seconds| Outcome { retry_after: Some(Duration::from_secs(seconds)), ..replied(429) };
        run(&routes, &[asks(2)], Millis(1));
        let mut plan = Plan::new(&routes, Share::default(), DEADLINE);
        assert_eq!(plan.next(Millis(500)), Step::Wait(Millis(2_001)));
        assert_eq!(plan.next(Millis(2_000)), Step::Wait(Millis(2_001)), "woken too early");
        assert!(matches!(plan.next(Millis(2_001)), Step::Try(_)), "due");
        plan.observe(&asks(2), Millis(2_002));
        assert_eq!(plan.next(Millis(2_002)), Step::GiveUp(GiveUp::Exhausted), "each key once");
        let mut late = Plan::new(&routes, Share::default(), Millis(3_000));
        assert!(matches!(late.next(Millis(2_100)), Step::GiveUp(GiveUp::AllResting(..))), "not past the deadline");
    }

    #[test]
    fn when_all_rest_for_long_a_failed_one_is_probed_and_a_limited_one_is_not() {
        let routes = [route("p", 1)];
        for strike in 0..4_u32 {
            let end = run(&routes, &[replied(500)], Millis(1 + u64::from(strike) * 70_000)).1;
            assert_eq!(end, Step::GiveUp(GiveUp::Exhausted));
        }
        let now = Millis(210_500);
        let mut first = Plan::new(&routes, Share::default(), DEADLINE);
        assert!(matches!(first.next(now), Step::Try(_)), "failing may have passed");
        let mut second = Plan::new(&routes, Share::default(), DEADLINE);
        assert!(matches!(second.next(now), Step::GiveUp(GiveUp::AllResting(..))), "but one at a time finds out");
        first.observe(&replied(200), now);
        let routes = [route("p", 1)];
        run(&routes, &[replied(429)], Millis(1));
        let (tried, end) = run(&routes, &[], Millis(2));
        let Step::GiveUp(GiveUp::AllResting(until, Why::Limited)) = end else { panic!("{end:?}") };
        assert!(tried.is_empty() && (180_001..=198_001).contains(&until.0), "{until:?}");
        assert_eq!(run(&[route("p", 0)], &[], Millis(1)).1, Step::GiveUp(GiveUp::NoKeys));
    }

    #[test]
    fn after_a_rest_one_request_goes_ahead() {
        let routes = [route("p", 1), route("q", 1)];
        run(&routes, &[replied(500), replied(200)], Millis(1));
        let now = Millis(1_500);
        let next = |plan: &mut Plan<'_>| match plan.next(now) {
            Step::Try(attempt) => attempt.route,
            other @ (Step::Wait(_) | Step::GiveUp(_)) => panic!("{other:?}"),
        };
        let mut plans: Vec<Plan<'_>> = (0..3).map(|_| Plan::new(&routes, Share::default(), DEADLINE)).collect();
        let went: Vec<usize> = plans.iter_mut().map(next).collect();
        assert_eq!(went, [0, 1, 1], "the others stay away");
        drop(plans.remove(0));
        let mut again = Plan::new(&routes, Share::default(), DEADLINE);
        assert_eq!(next(&mut again), 0, "a client that left has found nothing out");
        again.observe(&replied(200), now);
        let mut last = Plan::new(&routes, Share::default(), DEADLINE);
        let mut beside = Plan::new(&routes, Share::default(), DEADLINE);
        assert_eq!((next(&mut last), next(&mut beside)), (0, 0), "trusted again");
    }

    #[test]
    fn a_probe_that_takes_long_does_not_hold_up_all_others() {
        let routes = [route("p", 1)];
        run(&routes, &[replied(500)], Millis(1));
        let mut slow = Plan::new(&routes, Share::default(), DEADLINE);
        assert!(matches!(slow.next(Millis(2_000)), Step::Try(_)), "it takes its time");
        let mut other = Plan::new(&routes, Share::default(), DEADLINE);
        let mut now = Millis(2_000);
        while let Step::Wait(until) = other.next(now) {
            now = until;
        }
        assert!((4_700..=5_000).contains(&now.0) && other.attempts() == 1, "it waited, and then went: {now:?}");
    }

    #[test]
    fn a_403_is_the_keys_fault_the_third_time_in_a_row() {
        let routes = [route("p", 1), route("q", 1)];
        let ends = [replied(403), replied(200)];
        for at in 1..=3 {
            assert_eq!(run(&routes, &ends, Millis(at)).0, "0.0 1.0", "{at}");
        }
        assert_eq!(run(&routes, &[replied(200)], Millis(4)).0, "1.0", "now it rests");
    }

    #[test]
    fn what_is_too_long_goes_only_where_it_is_declared_to_fit() {
        let too_long = Outcome::replied(400, Some(crate::wire::fault::FaultKind::ContextLength));
        let sized = |tokens| Arc::new(Route { context_tokens: tokens, ..laws::route("p", 1) });
        let routes = [sized(Some(100)), sized(None), sized(Some(100)), sized(Some(200)), sized(Some(300))];
        assert_eq!(run(&routes, &[too_long, too_long, replied(200)], Millis(1)).0, "0.0 3.0 4.0");
        assert_eq!(run(&routes, &[replied(500), too_long], Millis(1)).0, "0.0 1.0", "not known to be larger than what");
        let mut plan = Plan::new(&routes[3..4], Share::default(), DEADLINE);
        assert!(matches!(plan.next(Millis(1)), Step::Try(_)), "the only one");
        assert_eq!(plan.observe(&too_long, Millis(1)).then, Then::Refuse, "said as it is");
    }

    #[test]
    fn a_session_stays_with_its_key_while_that_is_ready() {
        let routes = [route("p", 5)];
        let first = |session: u64, now| {
            let mut plan = Plan::new(&routes, Share::default(), DEADLINE).of_session(Some(session));
            match plan.next(now) {
                Step::Try(attempt) => attempt.slot,
                other @ (Step::Wait(_) | Step::GiveUp(_)) => panic!("{other:?}"),
            }
        };
        let keys: Vec<usize> = (0..40).map(|session| first(session, Millis(1))).collect();
        assert_eq!(keys, (0..40).map(|session| first(session, Millis(2))).collect::<Vec<_>>(), "always the same");
        assert!((0..5).all(|key| keys.contains(&key)), "and they are spread: {keys:?}");
        routes[0].keys[keys[0]].on_key.cool(Millis(2), Duration::from_secs(60), Why::Limited);
        let moved = |at: usize| first(at as u64, Millis(3)) != keys[at];
        assert!((0..40).all(|at| moved(at) == (keys[at] == keys[0])), "only those of a key that rests move");
    }

    #[test]
    fn a_route_that_was_passed_over_is_not_come_back_to() {
        let routes = [route("p", 2), route("q", 1)];
        for route in &routes {
            route.state.of(Share::default()).cool(Millis(1), Duration::from_secs(60), Why::Failed);
        }
        let mut plan = Plan::new(&routes, Share::default(), DEADLINE);
        let mut tried = Vec::new();
        while let Step::Try(attempt) = plan.next(Millis(2)) {
            tried.push(attempt.route);
            plan.pass_over();
            assert!(tried.len() < 9, "the plan ends");
        }
        assert_eq!(tried, [0, 1], "each route once, though all rest and none was sent to");
    }

    #[test]
    fn requests_that_fail_together_are_one_failure() {
        let routes = [route("p", 1)];
        let mut plans: Vec<Plan<'_>> = (0..20).map(|_| Plan::new(&routes, Share::default(), DEADLINE)).collect();
        for plan in &mut plans {
            assert!(matches!(plan.next(Millis(1)), Step::Try(_)), "under way");
        }
        for plan in &mut plans {
            plan.observe(&replied(500), Millis(5));
        }
        let asks = Outcome { retry_after: Some(Duration::from_secs(2)), ..replied(503) };
        let busy = [route("p", 1)];
        let mut plans: Vec<Plan<'_>> = (0..20).map(|_| Plan::new(&busy, Share::default(), DEADLINE)).collect();
        for plan in &mut plans {
            assert!(matches!(plan.next(Millis(1)), Step::Try(_)), "under way");
        }
        for (at, plan) in (5..).zip(&mut plans) {
            plan.observe(&asks, Millis(at));
        }
        let until = busy[0].state.of(Share::default()).ready_at();
        assert_eq!(until, Millis(24 + 2_000), "as long as the last was asked for, and no longer");
        let until = routes[0].state.of(Share::default()).ready_at();
        assert!((1_005..=1_105).contains(&until.0), "one second, not the longest rest there is: {until:?}");
    }
}
