//! What must hold of every plan, for any table, any outcomes and any times. The fuzz target and the tests call these;
//! nothing else does.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::route::keys::{KeyState, ModelState, Share};
use crate::route::plan::{Attempt, GiveUp, PROBE_PAUSE, Plan, Step, WAIT_MAX, states};
use crate::route::table::{Address, Gate, Key, Names, Pattern, Policy, Provider, Route, Slot, Timeouts};
use crate::route::verdict::{Outcome, Rest, Stage, Then};
use crate::secret::Secret;
use crate::time::Millis;
use crate::wire::Format;
use crate::wire::caps::{Capabilities, Quirks};
use crate::wire::fault::FaultKind;

/// A route with so many keys and nothing else to it.
#[must_use]
pub fn route(name: &str, keys: usize) -> Route {
    let second = Duration::from_secs(1);
    let slot = |n| Slot {
        key: Arc::new(Key { name: "K".into(), secret: Some(Secret::new(&format!("key {n}"))), header: None }),
        on_key: Arc::default(),
        on_model: ModelState::default(),
        sent: OnceLock::new(),
    };
    Route {
        provider: Arc::new(Provider {
            name: name.into(),
            display_name: name.into(),
            state: Arc::default(),
            filled: Box::default(),
        }),
        model: Pattern::new("m"),
        names: Names::new(name, &Pattern::new("m")),
        via: "m".into(),
        format: Format::Anthropic,
        counts: None,
        passed: Box::default(),
        address: Address::Builtin,
        headers: http::HeaderMap::new(),
        keys: (0..keys).map(slot).collect(),
        state: ModelState::default(),
        rotation: AtomicUsize::new(0),
        answered: OnceLock::new(),
        timeouts: Timeouts { connect: second, first_byte: second, idle: second, total: second },
        gate: Gate::within(second),
        context_tokens: None,
        policy: Policy { model_cooldown: second * 180, key_cooldown: second * 600, ..Policy::default() },
        capabilities: Capabilities::default(),
        quirks: Quirks::default(),
        defaults: Box::new([]),
        twin: None,
    }
}

/// Bytes taken one after the other as choices; zeros when there are none left.
struct Choices<'d>(&'d [u8]);

impl Choices<'_> {
    fn below(&mut self, n: usize) -> usize {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        usize::from(*first) % n.max(1)
    }
}

/// One request under way, and what is known of it from outside.
struct Walk<'t> {
    plan: Plan<'t>,
    deadline: Millis,
    attempts_max: u32,
    tried: Vec<Attempt>,
    replays: usize,
    /// Routes it has no more use for.
    left: Vec<usize>,
    longer_than: Option<u64>,
    waits_since: Option<Millis>,
    /// What it tries now.
    current: Option<Attempt>,
}

/// Some requests share a table; they begin, go on, fail, wait and leave in any order.
pub fn plan(data: &[u8]) {
    let mut choices = Choices(data);
    let shape = 1 + choices.below(4);
    let routes: Vec<Arc<Route>> = (0..shape)
        .map(|_| {
            let mut route = route("p", choices.below(4));
            route.context_tokens = [None, Some(100), Some(200)].get(choices.below(3)).copied().flatten();
            if choices.below(6) == 0 {
                route.policy.model_cooldown = Duration::ZERO;
            }
            Arc::new(route)
        })
        .collect();
    let mut now = Millis(1);
    let mut walks: Vec<Walk<'_>> = Vec::new();
    for _ in 0..STEPS_MAX {
        if choices.0.is_empty() {
            break;
        }
        now = Millis(now.0 + [0, 0, 1, 40, 900, 2_500, 30_000, 700_000].get(choices.below(8)).copied().unwrap_or(0));
        let at = choices.below(walks.len());
        let (choice, has_room) = (choices.below(6), walks.len() < WALKS_MAX);
        match (choice, walks.get_mut(at)) {
            (0 | 1, _) if has_room => walks.push(begin(&routes, now, &mut choices)),
            // A client leaves.
            (2, Some(_)) => drop(walks.swap_remove(at)),
            (_, Some(walk)) if walk.current.is_some() => end(&routes, walk, now, &mut choices),
            (_, Some(walk)) => {
                if !go_on(&routes, walk, now) {
                    drop(walks.swap_remove(at));
                }
            }
            (_, None) => {}
        }
        probes_are_apart(&routes, &walks, now);
    }
}

fn begin<'t>(routes: &'t [Arc<Route>], now: Millis, choices: &mut Choices<'_>) -> Walk<'t> {
    let deadline = now.after(Duration::from_secs([5, 60, 600].get(choices.below(3)).copied().unwrap_or(0)));
    let attempts_max = [2, 4, 16].get(choices.below(3)).copied().unwrap_or(16);
    let session = (choices.below(2) == 0).then(|| choices.below(9) as u64);
    Walk {
        plan: Plan::new(routes, Share::default(), deadline).within(attempts_max).of_session(session),
        deadline,
        attempts_max,
        tried: Vec::new(),
        replays: 0,
        left: Vec::new(),
        longer_than: None,
        waits_since: None,
        current: None,
    }
}

/// The next step of one of them; whether it goes on.
fn go_on(routes: &[Arc<Route>], walk: &mut Walk<'_>, now: Millis) -> bool {
    let is_of_use = |at: usize| {
        let context = routes.get(at).and_then(|r| r.context_tokens);
        !walk.left.contains(&at) && walk.longer_than.is_none_or(|long| context.is_some_and(|most| long < most))
    };
    // What could be tried at once, in order.
    let ready: Vec<Attempt> = all(routes)
        .filter(|(at, route, slot)| is_of_use(at.route) && !walk.tried.contains(at) && is_ready(route, slot, now))
        .map(|(at, ..)| at)
        .collect();
    match walk.plan.next(now) {
        Step::Try(attempt) => {
            assert!(now < walk.deadline, "nothing is tried after the deadline");
            if walk.tried.last() == Some(&attempt) {
                walk.replays += 1;
            } else {
                assert!(!walk.tried.contains(&attempt), "each key once");
                match ready.first() {
                    Some(first) => assert_eq!(first.route, attempt.route, "routes in order, and what is ready first"),
                    None => {
                        // Who has waited, or has no time left to, goes along with a probe that another makes.
                        let has_waited = walk.waits_since.is_some() || walk.deadline <= now.after(PROBE_PAUSE);
                        let is_over = has_waited && has_rested(routes, attempt, now);
                        let is_first = walk.plan.attempts() == 1;
                        assert!(is_over || is_first, "what rests is tried only where nothing else was");
                    }
                }
                assert!(ready.is_empty() || ready.contains(&attempt), "nothing at rest while something is ready");
                walk.tried.push(attempt);
            }
            walk.current = Some(attempt);
            let attempts = walk.plan.attempts();
            // On a fresh connection once, with tool results once, and without seals once for each route.
            let replays_max = 2 + routes.len();
            assert!(attempts <= walk.attempts_max && walk.replays <= replays_max, "within the budget");
            true
        }
        Step::Wait(until) => {
            let since = *walk.waits_since.get_or_insert(now);
            assert!(ready.is_empty(), "nobody waits while something is ready");
            assert!(now < until && until <= since.after(WAIT_MAX + Duration::from_millis(1)), "and not for long");
            true
        }
        Step::GiveUp(GiveUp::Deadline) => {
            assert!(walk.deadline <= now, "it has time left");
            false
        }
        Step::GiveUp(why) => {
            let spent = walk.plan.attempts() == walk.attempts_max;
            assert!(ready.is_empty() || spent, "{why:?} while something is ready");
            false
        }
    }
}

/// The attempt of one of them ends.
fn end(routes: &[Arc<Route>], walk: &mut Walk<'_>, now: Millis, choices: &mut Choices<'_>) {
    let Some(attempt) = walk.current.take() else { return };
    let Some((route, slot)) = routes.get(attempt.route).and_then(|r| Some((r, r.keys.get(attempt.slot)?))) else {
        return;
    };
    if choices.below(9) == 0 {
        walk.plan.pass_over();
        walk.left.push(attempt.route);
        return;
    }
    let outcome = outcome(choices);
    let rests = |at: &Route, of: &Slot| states(at, of, Share::default()).map(|s| (s.ready_at(), s.strikes()));
    let before = rests(route, slot);
    let verdict = walk.plan.observe(&outcome, now);
    let after = rests(route, slot);
    assert!(before.iter().zip(&after).all(|(b, a)| b.0 <= a.0), "rests only grow");
    if matches!(verdict.then, Then::Refuse | Then::LargerRoute) {
        assert_eq!(before, after, "a bad request cools nobody");
    }
    if let Some(Rest::Asked(asked) | Rest::GrowingFrom(asked, _)) = verdict.cool.map(|cool| cool.rest) {
        let latest = after.iter().map(|s| s.0).max().unwrap_or_default();
        assert!(asked.is_zero() || now.after(asked) <= latest, "what was asked for is a floor");
    }
    match verdict.then {
        Then::NextRoute => walk.left.push(attempt.route),
        Then::LargerRoute => {
            walk.left.push(attempt.route);
            walk.longer_than = route.context_tokens;
        }
        Then::Deliver | Then::Refuse => {
            assert!(matches!(walk.plan.next(now), Step::GiveUp(_)), "it is over");
            // Whatever comes now is another request.
            walk.left.extend(0..routes.len());
        }
        Then::SameAgain | Then::Repair | Then::Unseal | Then::NextKey => {}
    }
}

fn outcome(choices: &mut Choices<'_>) -> Outcome {
    let statuses = [200, 200, 200, 400, 401, 403, 404, 408, 422, 429, 500, 503, 529];
    let status = statuses.get(choices.below(statuses.len())).copied().unwrap_or(200);
    let asked = [None, Some(0), Some(1), Some(2), Some(60), Some(9_999)].get(choices.below(6)).copied().flatten();
    let replied = Outcome {
        retry_after: asked.map(Duration::from_secs),
        ..Outcome::replied(status, (300 <= status).then(|| FaultKind::of_status(status)))
    };
    match choices.below(12) {
        0 => Outcome::failed(Stage::Connect),
        1 => Outcome::failed(Stage::Sent { reused: true }),
        2 => Outcome::failed(Stage::Silent),
        3 => Outcome::failed(Stage::Garbage),
        4 => Outcome::replied(400, Some(FaultKind::ContextLength)),
        5 => Outcome::replied(400, Some(FaultKind::Billing)),
        6 => Outcome::replied(400, Some(FaultKind::ForeignThinking)),
        _ => replied,
    }
}

/// Of what has failed and not succeeded since, no two requests find out at once whether it works again.
fn probes_are_apart(routes: &[Arc<Route>], walks: &[Walk<'_>], now: Millis) {
    for (at, route, slot) in all(routes) {
        for state in states(route, slot, Share::default()).into_iter().filter(|s| s.is_probed(now)) {
            let holders = walks.iter().filter(|walk| walk.plan.probes(state)).count();
            assert_eq!(holders, 1, "one at a time, and nobody waits for one that is over: {at:?}");
        }
    }
}

fn all(routes: &[Arc<Route>]) -> impl Iterator<Item = (Attempt, &Arc<Route>, &Slot)> {
    routes.iter().enumerate().flat_map(|(at, route)| {
        route.keys.iter().enumerate().map(move |(slot, keys)| (Attempt { route: at, slot }, route, keys))
    })
}

/// Its rest is over, though another request may be finding out.
fn has_rested(routes: &[Arc<Route>], at: Attempt, now: Millis) -> bool {
    let way = routes.get(at.route).and_then(|route| Some((route, route.keys.get(at.slot)?)));
    way.is_some_and(|(route, slot)| states(route, slot, Share::default()).into_iter().all(|s| s.is_ready(now)))
}

fn is_ready(route: &Route, slot: &Slot, now: Millis) -> bool {
    states(route, slot, Share::default())
        .into_iter()
        .all(|state: &KeyState| state.is_ready(now) && !state.is_probed(now))
}

/// Requests under way at once, and steps of all of them together.
const WALKS_MAX: usize = 6;
const STEPS_MAX: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn laws_hold_under_random_schedules() {
        let mut x = 0x2545_f491_4f6c_dd1d_u64;
        for _ in 0..3_000 {
            let bytes: Vec<u8> = (0..400)
                .map(|_| {
                    x ^= x << 13;
                    x ^= x >> 7;
                    x ^= x << 17;
                    x.to_le_bytes()[3]
                })
                .collect();
            plan(&bytes);
        }
    }
}
