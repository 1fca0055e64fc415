//! Which attempt comes next. Pure: `next(now)` and `observe(outcome, now)` are all there is.
//!
//! ```text
//! for each route in order            a route that rests, or has no key, is stepped over
//!   for each key from its turn on    a key that rests, for this model or at all, is stepped over
//!     Try ── observe ──▶ Deliver | Refuse    the plan is over
//!                        SameAgain | Repair  this key once more (each once per request)
//!                        NextKey | NextRoute
//! nothing was tried, everything rests: the soonest that only failed is tried; else GiveUp says when
//! ```
//!
//! Laws (tested by simulation): each (route, key) is tried at most once, replays aside; nothing that rests is tried
//! while something ready is left; order is kept; the plan ends within its budget and before its deadline.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::route::keys::{KeyState, Share, Why};
use crate::route::table::{Route, Slot};
use crate::route::verdict::{Cool, Outcome, Rest, Scope, Then, Verdict, judge};
use crate::time::Millis;

/// Attempts one request may cost, replays included. Enough for a few keys on a few routes; a client is better
/// told than kept waiting beyond that.
pub const ATTEMPTS_MAX: u32 = 16;

/// One request's way through its model's routes.
#[derive(Debug)]
pub struct Plan<'t> {
    routes: &'t [Arc<Route>],
    share: Share,
    deadline: Millis,
    attempts: u32,
    /// The route being tried.
    route: usize,
    /// Where its keys are begun with, once it was begun.
    turn: Option<usize>,
    /// Keys of it stepped over so far.
    stepped: usize,
    current: Option<Attempt>,
    /// The current key is to be tried again.
    again: bool,
    replayed: bool,
    repaired: bool,
    over: bool,
    resting: SmallVec<[(Millis, Why, Attempt); 4]>,
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
            attempts: 0,
            route: 0,
            turn: None,
            stepped: 0,
            current: None,
            again: false,
            replayed: false,
            repaired: false,
            over: false,
            resting: SmallVec::new(),
        }
    }

    /// Attempts made so far.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Says what to try now.
    pub fn next(&mut self, now: Millis) -> Step {
        if self.over || ATTEMPTS_MAX <= self.attempts {
            return Step::GiveUp(GiveUp::Exhausted);
        }
        if self.deadline <= now {
            return Step::GiveUp(GiveUp::Deadline);
        }
        let found = match self.current.filter(|_| self.again) {
            Some(same) => Some(same),
            None => self.walk(now),
        };
        self.again = false;
        match found.or_else(|| self.soonest_failed()) {
            Some(attempt) => {
                self.attempts += 1;
                self.current = Some(attempt);
                Step::Try(attempt)
            }
            None => Step::GiveUp(self.why_nothing()),
        }
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
        {
            verdict.then = Then::NextRoute;
        }
        match verdict.then {
            Then::Deliver | Then::Refuse => self.over = true,
            Then::SameAgain | Then::Repair => self.again = true,
            Then::NextKey => {}
            Then::NextRoute => self.leave(attempt.route),
        }
        verdict
    }

    /// Leaves the current route without a verdict: the request cannot be said in its format. It costs no attempt, and
    /// none of the route's keys is worth another.
    pub fn pass_over(&mut self) {
        if let Some(attempt) = self.current {
            self.attempts = self.attempts.saturating_sub(1);
            self.resting.retain(|(_, _, other)| other.route != attempt.route);
            self.leave(attempt.route);
        }
    }

    fn current_slot(&self) -> Option<(Attempt, &'t Route, &'t Slot)> {
        let attempt = self.current?;
        let route = self.routes.get(attempt.route)?;
        Some((attempt, route, route.keys.get(attempt.slot)?))
    }

    /// Goes on to the next key that is ready, from where the last one was found.
    fn walk(&mut self, now: Millis) -> Option<Attempt> {
        while let Some(route) = self.routes.get(self.route) {
            let turn = *self.turn.get_or_insert_with(|| route.rotate());
            while self.stepped < route.keys.len() {
                let slot = (turn + self.stepped) % route.keys.len();
                self.stepped += 1;
                let attempt = Attempt { route: self.route, slot };
                let Some(keys) = route.keys.get(slot) else {
                    continue;
                };
                match rests(route, keys, self.share, now) {
                    None => return Some(attempt),
                    Some((until, why)) => self.resting.push((until, why, attempt)),
                }
            }
            self.leave(self.route);
        }
        None
    }

    fn leave(&mut self, route: usize) {
        if self.route == route {
            self.route += 1;
            self.turn = None;
            self.stepped = 0;
        }
    }

    /// With nothing tried and all at rest: one that only failed is worth a try, since failing may have passed and
    /// the client gets no answer otherwise. One that was refused or limited is not: its rest was asked for.
    fn soonest_failed(&self) -> Option<Attempt> {
        if 0 < self.attempts {
            return None;
        }
        let failed = self.resting.iter().filter(|(_, why, _)| matches!(why, Why::Failed | Why::Unreachable));
        failed.min_by_key(|(until, _, _)| *until).map(|(_, _, attempt)| *attempt)
    }

    fn why_nothing(&self) -> GiveUp {
        if 0 < self.attempts {
            return GiveUp::Exhausted;
        }
        match self.resting.iter().min_by_key(|(until, _, _)| *until) {
            Some(&(until, why, _)) => GiveUp::AllResting(until, why),
            None => GiveUp::NoKeys,
        }
    }
}

/// The states that must all be ready, the widest first.
fn states<'r>(route: &'r Route, slot: &'r Slot, share: Share) -> [&'r KeyState; 4] {
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
    // Requests that were under way together fail together: that is one failure, not one in a row for each.
    if matches!(cool.rest, Rest::Growing(_)) && !state.is_ready(now) {
        return;
    }
    state.cool(now, cool.rest.after(state.strikes()), cool.why);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use super::*;
    use crate::route::keys::ModelState;
    use crate::route::table::{Address, Key, Pattern, Policy, Provider, Timeouts};
    use std::sync::OnceLock;

    use crate::route::verdict::Stage;
    use crate::wire::Format;

    fn route(name: &str, keys: usize) -> Arc<Route> {
        let second = Duration::from_secs(1);
        let key = || Arc::new(Key { name: "K".into(), secret: None, header: None });
        let slot =
            |_| Slot { key: key(), on_key: Arc::default(), on_model: ModelState::default(), sent: OnceLock::new() };
        Arc::new(Route {
            provider: Arc::new(Provider { name: name.into(), display_name: name.into(), state: Arc::default() }),
            model: Pattern::new("m"),
            names: crate::route::table::Names::new(name, &Pattern::new("m")),
            via: "m".into(),
            format: Format::Anthropic,
            counts: None,
            address: Address::Builtin,
            headers: http::HeaderMap::new(),
            keys: (0..keys).map(slot).collect(),
            state: ModelState::default(),
            rotation: AtomicUsize::new(0),
            answered: OnceLock::new(),
            timeouts: Timeouts { connect: second, first_byte: second, idle: second, total: second },
            policy: Policy { model_cooldown: second * 180, key_cooldown: second * 600, ..Policy::default() },
            capabilities: crate::wire::caps::Capabilities::default(),
            quirks: crate::wire::caps::Quirks::default(),
            defaults: Box::new([]),
        })
    }

    fn replied(status: u16) -> Outcome {
        Outcome { stage: Stage::Replied, status: Some(status), fault: None, retry_after: None }
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
                end @ Step::GiveUp(_) => return (tried.join(" "), end),
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
        let stale = Outcome { stage: Stage::Sent { reused: true }, status: None, fault: None, retry_after: None };
        let routes = [route("p", 2), route("q", 1)];
        assert_eq!(run(&routes, &[stale, replied(200)], Millis(1)).0, "0.0 0.0");
        assert_eq!(run(&routes, &[stale, stale, replied(200)], Millis(1)).0, "0.1 0.1 1.0");
    }

    #[test]
    fn when_all_rest_a_failed_one_is_tried_and_a_limited_one_is_not() {
        let routes = [route("p", 1)];
        run(&routes, &[replied(500)], Millis(1));
        assert_eq!(run(&routes, &[replied(500)], Millis(2)).0, "0.0", "failing may have passed");
        let routes = [route("p", 1)];
        run(&routes, &[replied(429)], Millis(1));
        let (tried, end) = run(&routes, &[], Millis(2));
        assert_eq!((tried.as_str(), end), ("", Step::GiveUp(GiveUp::AllResting(Millis(180_001), Why::Limited))));
        assert_eq!(run(&[route("p", 0)], &[], Millis(1)).1, Step::GiveUp(GiveUp::NoKeys));
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
        assert_eq!(
            routes[0].state.of(Share::default()).ready_at(),
            Millis(1_005),
            "one second, not the longest rest there is"
        );
    }

    /// The plan's laws under random outcomes, with states that carry over from request to request.
    #[test]
    fn laws_hold_under_random_schedules() {
        let mut x = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = move |n: u64| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x % n
        };
        for _ in 0..300 {
            let shape: Vec<u64> = (0..1 + random(4)).map(|_| random(4)).collect();
            let routes: Vec<_> = shape.iter().map(|k| route("p", usize::try_from(*k).unwrap())).collect();
            let mut now = Millis(1);
            for _ in 0..20 {
                now = Millis(now.0 + random(60_000));
                let mut plan = Plan::new(&routes, Share::default(), Millis(now.0 + 300_000));
                let mut tried: Vec<Attempt> = Vec::new();
                let mut replays = 0;
                while let Step::Try(attempt) = plan.next(now) {
                    let route = &routes[attempt.route];
                    let replay = tried.last() == Some(&attempt);
                    assert!(replay || !tried.contains(&attempt), "each key once");
                    assert!(tried.last().is_none_or(|last| last.route <= attempt.route), "routes in order");
                    if !replay && rests(route, &route.keys[attempt.slot], Share::default(), now).is_some() {
                        let others = routes.iter().flat_map(|r| r.keys.iter().map(move |k| (r, k)));
                        let ready = others.filter(|(r, k)| rests(r, k, Share::default(), now).is_none()).count();
                        assert_eq!((ready, tried.len()), (0, 0), "nothing at rest while something is ready");
                    }
                    replays += u32::from(replay);
                    tried.push(attempt);
                    let statuses = [200, 400, 401, 403, 404, 429, 500, 503, 529];
                    let outcome = match random(12) {
                        0 => Outcome { stage: Stage::Connect, status: None, fault: None, retry_after: None },
                        1 => Outcome {
                            stage: Stage::Sent { reused: true },
                            status: None,
                            fault: None,
                            retry_after: None,
                        },
                        n => replied(statuses[usize::try_from(n).unwrap() % statuses.len()]),
                    };
                    let before: Vec<Millis> =
                        states(route, &route.keys[attempt.slot], Share::default()).map(KeyState::ready_at).to_vec();
                    let verdict = plan.observe(&outcome, now);
                    let after: Vec<Millis> =
                        states(route, &route.keys[attempt.slot], Share::default()).map(KeyState::ready_at).to_vec();
                    assert!(before.iter().zip(&after).all(|(b, a)| b <= a), "rests only grow");
                    if verdict.then == Then::Refuse {
                        assert_eq!(before, after, "a bad request cools nobody");
                    }
                    now = Millis(now.0 + random(500));
                }
                assert!(plan.attempts() <= ATTEMPTS_MAX && replays <= 1, "within the budget");
            }
        }
    }
}
