//! What an outcome means: one match that reads like the policy.
//!
//! Who failed decides all: the *request* (returned as the upstream said it, tried once, nobody rests), the *key*
//! (rests for all models), the *key for this model*, the *route* (this model at this provider, whatever the key), or
//! the *provider*. Retry is derived here and nowhere stored as a flag.

use std::time::Duration;

use crate::route::keys::Why;
use crate::route::table::{Action, Policy};
use crate::wire::fault::FaultKind;

/// How one attempt ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Outcome {
    pub stage: Stage,
    /// The upstream's status, once there was one.
    pub status: Option<u16>,
    /// What its error body says it is.
    pub fault: Option<FaultKind>,
    /// How long the upstream asks to be left alone.
    pub retry_after: Option<Duration>,
}

/// How far an attempt came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stage {
    /// No connection: nothing was sent.
    Connect,
    /// The connection died after the request was sent and before a byte of the reply came.
    Sent { reused: bool },
    /// No reply came in time.
    Silent,
    /// A reply came that makes no sense, or broke before any output.
    Garbage,
    /// A reply came, whole or up to its first output.
    Replied,
}

/// What to do now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Then {
    /// It is the answer.
    Deliver,
    /// It is the client's own mistake: hand it back as the upstream said it.
    Refuse,
    /// The same key once more, on a fresh connection.
    SameAgain,
    /// The same key once more, with the tool results it missed.
    Repair,
    NextKey,
    NextRoute,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Verdict {
    pub then: Then,
    pub cool: Option<Cool>,
}

/// Who rests, how long, and why.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cool {
    pub scope: Scope,
    pub rest: Rest,
    pub why: Why,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scope {
    Key,
    KeyModel,
    Route,
    Provider,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rest {
    For(Duration),
    /// One second, doubled with every failure in a row, up to this.
    Growing(Duration),
}

impl Rest {
    /// The time to rest after so many failures in a row before this one.
    #[must_use]
    pub fn after(self, strikes: u32) -> Duration {
        match self {
            Self::For(rest) => rest,
            Self::Growing(most) => Duration::from_secs(1_u64 << strikes.min(16)).min(most),
        }
    }
}

/// Longest `retry-after` that is believed (LIMITS section 3).
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// How long an overloaded route (529) rests at most when it does not say: overload passes in seconds.
const OVERLOADED_REST: Duration = Duration::from_secs(5);

/// Judges an outcome. The provider's own `error_handling` comes first, then the default.
#[must_use]
pub fn judge(outcome: &Outcome, policy: &Policy) -> Verdict {
    if let Some(verdict) = declared(outcome, policy) {
        return verdict;
    }
    let limited = outcome.retry_after.map_or(policy.model_cooldown, |after| after.min(RETRY_AFTER_MAX));
    let failing = Rest::Growing(policy.model_cooldown);
    match (outcome.stage, outcome.status, outcome.fault) {
        // A pooled connection that died unread says nothing about the provider (R30).
        (Stage::Sent { reused: true }, None, _) => Verdict::only(Then::SameAgain),
        (Stage::Connect | Stage::Silent, _, _) => {
            Verdict::cool(Then::NextRoute, Scope::Route, failing, Why::Unreachable)
        }
        // No credit left, whatever the status: the account's trouble, not the client's.
        (Stage::Replied, _, Some(FaultKind::Quota | FaultKind::Billing)) | (Stage::Replied, Some(402), _) => {
            Verdict::cool(Then::NextKey, Scope::Key, Rest::For(policy.key_cooldown), Why::NoCredit)
        }
        (Stage::Replied, Some(200..=299), None) => Verdict::only(Then::Deliver),
        (Stage::Replied, Some(401), _) => {
            Verdict::cool(Then::NextKey, Scope::Key, Rest::For(policy.key_cooldown), Why::Refused)
        }
        // May be about this request only (a region, a policy), so it rests a little and longer each time.
        (Stage::Replied, Some(403), _) => {
            Verdict::cool(Then::NextKey, Scope::Key, Rest::Growing(policy.key_cooldown), Why::Refused)
        }
        // An upstream model that does not exist is a mistake in the route, not in the request.
        (Stage::Replied, Some(404), Some(FaultKind::ModelNotFound)) => Verdict::only(Then::NextRoute),
        (Stage::Replied, Some(429), _) | (Stage::Replied, _, Some(FaultKind::RateLimit)) => {
            Verdict::cool(Then::NextKey, Scope::KeyModel, Rest::For(limited), Why::Limited)
        }
        (Stage::Replied, Some(408), _) => Verdict::cool(Then::NextRoute, Scope::Route, failing, Why::Unreachable),
        (Stage::Replied, Some(400..=499), _) => Verdict::only(Then::Refuse),
        (Stage::Replied, Some(529), _) | (Stage::Replied, _, Some(FaultKind::Overloaded)) => {
            let usual = OVERLOADED_REST.min(policy.model_cooldown);
            let rest = outcome.retry_after.map_or(usual, |after| after.min(RETRY_AFTER_MAX));
            Verdict::cool(Then::NextRoute, Scope::Route, Rest::For(rest), Why::Failed)
        }
        // Everything else is the upstream's failure: 5xx, redirects (never followed), nonsense, an early end.
        (Stage::Sent { .. } | Stage::Garbage | Stage::Replied, _, _) => {
            Verdict::cool(Then::NextRoute, Scope::Route, failing, Why::Failed)
        }
    }
}

/// What the provider's file says about this status (SEED.md 3.3).
fn declared(outcome: &Outcome, policy: &Policy) -> Option<Verdict> {
    let status = outcome.status.filter(|s| 400 <= *s)?;
    let (_, action, cooldown) = policy.actions.iter().find(|(s, _, _)| *s == status)?;
    let why = match status {
        401 | 403 => Why::Refused,
        402 => Why::NoCredit,
        429 => Why::Limited,
        _ => Why::Failed,
    };
    let rest = |default: Duration| {
        let rest = cooldown.unwrap_or(default);
        // What the upstream asks for is a floor under what the file says.
        Rest::For(rest.max(outcome.retry_after.map_or(Duration::ZERO, |after| after.min(RETRY_AFTER_MAX))))
    };
    Some(match action {
        Action::ModelKeyFailure => Verdict::cool(Then::NextKey, Scope::KeyModel, rest(policy.model_cooldown), why),
        Action::GlobalKeyFailure => Verdict::cool(Then::NextKey, Scope::Key, rest(policy.key_cooldown), why),
        Action::ProviderCooldown => Verdict::cool(Then::NextRoute, Scope::Provider, rest(policy.key_cooldown), why),
        Action::FallbackNoCooldown => Verdict::only(Then::NextRoute),
        Action::AutoFixToolResponses => Verdict::only(Then::Repair),
    })
}

impl Verdict {
    fn only(then: Then) -> Self {
        Self { then, cool: None }
    }

    fn cool(then: Then, scope: Scope, rest: Rest, why: Why) -> Self {
        Self { then, cool: Some(Cool { scope, rest, why }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: Duration = Duration::from_secs(180);
    const KEY: Duration = Duration::from_secs(600);

    fn policy() -> Policy {
        Policy { actions: smallvec::smallvec![], model_cooldown: MODEL, key_cooldown: KEY }
    }

    fn replied(status: u16) -> Outcome {
        let fault = (300 <= status).then(|| FaultKind::of_status(status));
        Outcome { stage: Stage::Replied, status: Some(status), fault, retry_after: None }
    }

    fn failed(stage: Stage) -> Outcome {
        Outcome { stage, status: None, fault: None, retry_after: None }
    }

    #[track_caller]
    fn check(outcome: Outcome, policy: &Policy, then: Then, cool: Option<(Scope, Rest)>) {
        let verdict = judge(&outcome, policy);
        assert_eq!((verdict.then, verdict.cool.map(|c| (c.scope, c.rest))), (then, cool), "{outcome:?}");
    }

    #[test]
    fn the_default_policy() {
        use {Scope::*, Then::*};
        let p = &policy();
        let growing = Rest::Growing(MODEL);
        for status in [200, 201] {
            check(replied(status), p, Deliver, None);
        }
        for status in [400, 404, 405, 409, 413, 415, 422] {
            check(replied(status), p, Refuse, None);
        }
        check(replied(401), p, NextKey, Some((Key, Rest::For(KEY))));
        check(replied(402), p, NextKey, Some((Key, Rest::For(KEY))));
        check(replied(403), p, NextKey, Some((Key, Rest::Growing(KEY))));
        check(replied(429), p, NextKey, Some((KeyModel, Rest::For(MODEL))));
        check(replied(529), p, NextRoute, Some((Route, Rest::For(OVERLOADED_REST))));
        for status in [301, 408, 500, 502, 503, 504] {
            check(replied(status), p, NextRoute, Some((Route, growing)));
        }
        for stage in [Stage::Connect, Stage::Silent, Stage::Garbage, Stage::Sent { reused: false }] {
            check(failed(stage), p, NextRoute, Some((Route, growing)));
        }
        check(failed(Stage::Sent { reused: true }), p, SameAgain, None);
    }

    #[test]
    fn with_resting_turned_off_nothing_rests_of_its_own() {
        use {Scope::*, Then::*};
        let off = &Policy { model_cooldown: Duration::ZERO, key_cooldown: Duration::ZERO, ..policy() };
        for status in [500, 503, 529] {
            let verdict = judge(&replied(status), off);
            let rest = verdict.cool.map(|c| c.rest.after(3));
            assert_eq!((verdict.then, rest), (NextRoute, Some(Duration::ZERO)), "{status}");
        }
        check(replied(429), off, NextKey, Some((KeyModel, Rest::For(Duration::ZERO))));
        check(replied(401), off, NextKey, Some((Key, Rest::For(Duration::ZERO))));
    }

    #[test]
    fn what_the_body_says_counts() {
        use {Scope::*, Then::*};
        let p = &policy();
        let says = |status, fault| Outcome { fault: Some(fault), ..replied(status) };
        check(says(400, FaultKind::Billing), p, NextKey, Some((Key, Rest::For(KEY))));
        check(says(429, FaultKind::Quota), p, NextKey, Some((Key, Rest::For(KEY))));
        check(says(404, FaultKind::ModelNotFound), p, NextRoute, None);
        check(says(400, FaultKind::ContextLength), p, Refuse, None);
        // An error under 200, whole or as a stream's first event.
        check(says(200, FaultKind::Overloaded), p, NextRoute, Some((Route, Rest::For(OVERLOADED_REST))));
        check(says(200, FaultKind::RateLimit), p, NextKey, Some((KeyModel, Rest::For(MODEL))));
        check(says(200, FaultKind::Server), p, NextRoute, Some((Route, Rest::Growing(MODEL))));
    }

    #[test]
    fn retry_after_is_believed_up_to_an_hour() {
        use {Scope::*, Then::*};
        let asks = |seconds| Outcome { retry_after: Some(Duration::from_secs(seconds)), ..replied(429) };
        check(asks(7), &policy(), NextKey, Some((KeyModel, Rest::For(Duration::from_secs(7)))));
        check(asks(1_000_000), &policy(), NextKey, Some((KeyModel, Rest::For(RETRY_AFTER_MAX))));
        // On a success it means nothing (recorded on 71 good answers).
        let fine = Outcome { retry_after: Some(Duration::from_secs(7)), ..replied(200) };
        check(fine, &policy(), Deliver, None);
    }

    #[test]
    fn the_providers_file_comes_first() {
        use {Scope::*, Then::*};
        let minute = Duration::from_secs(60);
        let actions = smallvec::smallvec![
            (400, Action::FallbackNoCooldown, None),
            (422, Action::AutoFixToolResponses, None),
            (429, Action::ModelKeyFailure, Some(minute)),
            (500, Action::ProviderCooldown, None),
            (503, Action::GlobalKeyFailure, Some(minute)),
        ];
        let p = &Policy { actions, ..policy() };
        check(replied(400), p, NextRoute, None);
        check(replied(422), p, Repair, None);
        check(replied(429), p, NextKey, Some((KeyModel, Rest::For(minute))));
        let longer = Outcome { retry_after: Some(minute * 2), ..replied(429) };
        check(longer, p, NextKey, Some((KeyModel, Rest::For(minute * 2))));
        check(replied(500), p, NextRoute, Some((Provider, Rest::For(KEY))));
        check(replied(503), p, NextKey, Some((Key, Rest::For(minute))));
        check(replied(404), p, Refuse, None);
    }

    #[test]
    fn rests_grow_and_stop_growing() {
        let rest = Rest::Growing(Duration::from_secs(180));
        let seconds: Vec<u64> = [0, 1, 2, 7, 8, 99].map(|s| rest.after(s).as_secs()).to_vec();
        assert_eq!(seconds, [1, 2, 4, 128, 180, 180]);
    }
}
