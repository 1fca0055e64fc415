//! Requests that are made up, one after the other, on one table and one clock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::cli::outcome::Said;
use crate::gateway::rehearsal::{Mishap, Rehearsal, Told};
use crate::route::keys::{KeyState, Share, Why};
use crate::route::plan::{Attempt, Plan, Step};
use crate::route::reason;
use crate::route::table::{Resolved, Route, Slot, Terms};
use crate::route::verdict::{Outcome, Scope, Then, Verdict};
use crate::time::Millis;
use crate::upstream;

/// One `--outcome`: as it was typed, and what it means.
#[derive(Clone, Debug)]
pub(super) struct Typed {
    pub(super) text: String,
    pub(super) said: Said,
}

/// What requests find, and leave to those after them.
#[derive(Debug)]
pub(super) struct Scene<'r> {
    resolved: &'r Resolved,
    /// The name that was asked for.
    name: &'r str,
    /// What to set so that a route has a key, by route.
    remedies: Vec<String>,
    now: Millis,
}

/// What became of one request.
#[derive(Debug)]
pub(super) struct Request {
    /// Since the first began.
    pub(super) at: Duration,
    pub(super) steps: Vec<Decision>,
    pub(super) end: End,
    pub(super) attempts: u32,
    /// Outcomes that no attempt was made for.
    pub(super) unreached: Vec<String>,
}

/// One decision.
#[derive(Debug)]
pub(super) enum Decision {
    /// A route or a key that is not tried, and why.
    PassedOver {
        route: String,
        key: Option<String>,
        why: String,
    },
    /// All that is left rests, and something of it not for long.
    Waited(Duration),
    Tried(Tried),
}

#[derive(Debug)]
pub(super) struct Tried {
    pub(super) at: Duration,
    pub(super) route: String,
    pub(super) via: String,
    pub(super) key: Option<String>,
    pub(super) fingerprint: Option<String>,
    pub(super) outcome: String,
    pub(super) verdict: Verdict,
    pub(super) rest: Option<Rested>,
}

/// Who rests since a decision.
#[derive(Debug)]
pub(super) struct Rested {
    pub(super) scope: Scope,
    pub(super) time: Duration,
    pub(super) why: Why,
    pub(super) strikes: u32,
}

#[derive(Debug)]
pub(super) enum End {
    Delivered { route: String },
    Refused(Told),
    GaveUp { why: &'static str, told: Told },
}

impl Request {
    pub(super) fn is_delivered(&self) -> bool {
        matches!(self.end, End::Delivered { .. })
    }
}

/// When the clock stands still at first: far enough from zero, which means "long ago".
const START: Millis = Millis(1_000_000);

impl<'r> Scene<'r> {
    pub(super) fn new(resolved: &'r Resolved, name: &'r str, remedies: Vec<String>) -> Self {
        Self { resolved, name, remedies, now: START }
    }

    /// One request, whose attempts end as is said; those for which nothing is said deliver.
    pub(super) fn request(&mut self, said: Vec<Typed>) -> Request {
        let routes = &self.resolved.model.routes;
        let Terms { deadline, attempts_max, .. } = self.resolved.model.terms;
        let at = START.until(self.now);
        let mut said = VecDeque::from(said);
        let mut plan = Plan::new(routes, self.share(), self.now.after(deadline)).within(attempts_max);
        let mut rehearsal = Rehearsal::default();
        let mut steps: Vec<Decision> = Vec::new();
        let end = loop {
            self.wait_before_an_outcome(&mut said);
            let attempt = match plan.next(self.now) {
                Step::Try(attempt) => attempt,
                Step::Wait(until) => {
                    self.pass_over(None, &mut steps);
                    steps.push(Decision::Waited(self.now.until(until)));
                    self.now = until;
                    continue;
                }
                Step::GiveUp(why) => {
                    self.pass_over(None, &mut steps);
                    let told = rehearsal.give_up(why, self.name, self.now);
                    break End::GaveUp { why: reason::give_up(why), told };
                }
            };
            let Some((route, slot)) = place(routes, attempt) else { continue };
            self.pass_over(Some(attempt), &mut steps);
            // What is left to be waited for comes after the request.
            let next = said.pop_front_if(|next| !matches!(next.said, Said::Wait(_)));
            let next = next.unwrap_or_else(|| Typed { text: "200".to_owned(), said: Said::Delivered });
            let begun = self.now;
            let mishap = self.mishap(next.said, route);
            let outcome = mishap.as_ref().and_then(|mishap| rehearsal.fail(route, mishap));
            let outcome = outcome.unwrap_or_else(|| Outcome::replied(200, None));
            let (verdict, rest) = self.observe(&mut plan, &outcome, (route, slot));
            steps.push(Decision::Tried(self.tried((route, slot), begun, next.text, (verdict, rest))));
            let Some(mishap) = mishap else { break End::Delivered { route: self.label(route) } };
            if verdict.then == Then::Refuse {
                break End::Refused(Rehearsal::refused(route, &mishap));
            }
        };
        let attempts = plan.attempts();
        drop(plan);
        Request { at, steps, end, attempts, unreached: self.wait_for_the_rest(said) }
    }

    /// Lets the clock go on where an outcome is said for after that.
    fn wait_before_an_outcome(&mut self, said: &mut VecDeque<Typed>) {
        if said.iter().all(|next| matches!(next.said, Said::Wait(_))) {
            return;
        }
        while let Some(Typed { said: Said::Wait(time), .. }) = said.front() {
            self.now = self.now.after(*time);
            said.pop_front();
        }
    }

    /// Lets the clock go on as is said for after the request; what else is said comes too late.
    fn wait_for_the_rest(&mut self, said: VecDeque<Typed>) -> Vec<String> {
        let mut unreached = Vec::new();
        for Typed { text, said } in said {
            match said {
                Said::Wait(time) => self.now = self.now.after(time),
                Said::Delivered | Said::Failed(_) | Said::TimedOut | Said::Request => unreached.push(text),
            }
        }
        unreached
    }

    /// What goes wrong, if anything does. Only a timeout takes time.
    fn mishap(&mut self, said: Said, route: &Route) -> Option<Mishap> {
        match said {
            Said::Failed(mishap) => Some(mishap),
            Said::TimedOut => {
                self.now = self.now.after(route.timeouts.first_byte);
                Some(Mishap::Unsent { stage: upstream::Stage::FirstByte, reused: false })
            }
            Said::Delivered | Said::Wait(_) | Said::Request => None,
        }
    }

    fn observe(
        &self,
        plan: &mut Plan<'_>,
        outcome: &Outcome,
        (route, slot): (&Route, &Slot),
    ) -> (Verdict, Option<Rested>) {
        let verdict = plan.observe(outcome, self.now);
        let rest = verdict.cool.and_then(|cool| {
            let scopes = reason::scopes(route, slot, self.share());
            let (scope, state) = scopes.into_iter().find(|(scope, _)| *scope == cool.scope)?;
            let time = self.now.until(state.ready_at());
            let rested = Rested { scope, time, why: state.why(self.now), strikes: state.strikes() };
            (!time.is_zero()).then_some(rested)
        });
        (verdict, rest)
    }

    fn tried(
        &self,
        (route, slot): (&Route, &Slot),
        begun: Millis,
        outcome: String,
        (verdict, rest): (Verdict, Option<Rested>),
    ) -> Tried {
        Tried {
            at: START.until(begun),
            route: self.label(route),
            via: route.via.to_string(),
            key: key(slot),
            fingerprint: slot.key.secret.as_ref().map(|secret| secret.fingerprint()),
            outcome,
            verdict,
            rest,
        }
    }

    /// Tells what the plan has stepped over on its way to an attempt, or to its end, and was not told of yet.
    fn pass_over(&self, to: Option<Attempt>, steps: &mut Vec<Decision>) {
        let routes = &self.resolved.model.routes;
        let last = to.map_or(routes.len(), |attempt| attempt.route + 1);
        for (index, route) in routes.iter().enumerate().take(last) {
            if route.keys.is_empty() {
                let remedy = self.remedies.get(index).map_or("", String::as_str);
                self.tell(route, None, format!("no key: {remedy}"), steps);
            }
            for (number, slot) in route.keys.iter().enumerate() {
                let is_next = to == Some(Attempt { route: index, slot: number });
                if let Some((scope, state)) = self.resting(route, slot).filter(|_| !is_next) {
                    let time = reason::seconds(self.now.until(state.ready_at()));
                    let why = format!("{} rests {time} more: {}", reason::scope(scope), state.why(self.now).as_str());
                    let key = match scope {
                        Scope::Key | Scope::KeyModel => key(slot),
                        Scope::Route | Scope::Provider => None,
                    };
                    self.tell(route, key, why, steps);
                }
            }
        }
    }

    fn tell(&self, route: &Route, key: Option<String>, why: String, steps: &mut Vec<Decision>) {
        let label = self.label(route);
        // What was tried rests because of that, and what was told need not be told again.
        let is_known = |step: &Decision| match step {
            Decision::PassedOver { route, key: other, .. } => *route == label && *other == key,
            Decision::Waited(_) => false,
            Decision::Tried(tried) => {
                tried.route == label && (tried.key == key || tried.verdict.then == Then::NextRoute)
            }
        };
        if !steps.iter().any(is_known) {
            steps.push(Decision::PassedOver { route: label, key, why });
        }
    }

    /// What keeps a key of a route from being tried, the longest.
    fn resting<'s>(&self, route: &'s Route, slot: &'s Slot) -> Option<(Scope, &'s KeyState)> {
        let scopes = reason::scopes(route, slot, self.share());
        scopes.into_iter().filter(|(_, state)| !state.is_ready(self.now)).max_by_key(|(_, state)| state.ready_at())
    }

    fn share(&self) -> Share {
        Share::of(self.resolved.star.as_deref())
    }

    fn label(&self, route: &Route) -> String {
        format!("{}/{}", route.provider.name, self.resolved.upstream_model(route))
    }
}

fn place(routes: &[Arc<Route>], attempt: Attempt) -> Option<(&Route, &Slot)> {
    let route = routes.get(attempt.route)?;
    Some((route, route.keys.get(attempt.slot)?))
}

/// A key's variable; `None` where no key is needed.
fn key(slot: &Slot) -> Option<String> {
    (!slot.key.name.is_empty()).then(|| slot.key.name.to_string())
}
