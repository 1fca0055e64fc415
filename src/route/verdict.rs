//! What an outcome means: one match that reads like the policy.
//!
//! Who failed decides all: the *request* (returned as the upstream said it, tried once, nobody rests), the *key*
//! (rests for all models), the *key for this model*, the *route* (this model at this provider, whatever the key), or
//! the *provider*. Retry is derived here and nowhere stored as a flag.

use std::time::Duration;

use crate::route::keys::Why;
use crate::route::table::{Action, Policy, RuleScope};
use crate::time::Millis;
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
    /// Which of the provider's own `error_rules` its status and words fit: see [`Policy::rule`].
    pub rule: Option<usize>,
}

impl Outcome {
    /// A reply with this status, and with what its words say it is.
    #[must_use]
    pub fn replied(status: u16, fault: Option<FaultKind>) -> Self {
        Self { stage: Stage::Replied, status: Some(status), fault, retry_after: None, rule: None }
    }

    /// No reply, or none that makes sense.
    #[must_use]
    pub fn failed(stage: Stage) -> Self {
        Self { stage, status: None, fault: None, retry_after: None, rule: None }
    }
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
    /// The same key once more, without the thinking in the history that another has sealed.
    Unseal,
    NextKey,
    NextRoute,
    /// The next route whose model is declared to take longer requests than this one's; else as `Refuse`.
    LargerRoute,
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
    /// As long as the upstream asked, to the millisecond.
    Asked(Duration),
    /// As long as the configuration says.
    For(Duration),
    /// One second, doubled with every failure in a row, up to this.
    Growing(Duration),
    /// The same, but no shorter than the upstream asked.
    GrowingFrom(Duration, Duration),
    /// Not for the first two in a row, then as long as the configuration says.
    FromThird(Duration),
}

impl Rest {
    /// The time to rest after so many failures in a row before this one.
    #[must_use]
    pub fn after(self, strikes: u32) -> Duration {
        match self {
            Self::Asked(rest) | Self::For(rest) => rest,
            Self::Growing(most) => Duration::from_secs(1_u64 << strikes.min(16)).min(most),
            Self::GrowingFrom(asked, most) => Self::Growing(most).after(strikes).max(asked),
            Self::FromThird(_) if strikes < 2 => Duration::ZERO,
            Self::FromThird(rest) => rest,
        }
    }

    /// The same, with up to a tenth more where the time is ours to choose: what failed together must not come back
    /// together (LIMITS R11). Spread by the moment, which is the only chance a pure room has.
    #[must_use]
    pub fn jittered(self, strikes: u32, now: Millis) -> Duration {
        let rest = self.after(strikes);
        let ours = match self {
            Self::Asked(_) => return rest,
            Self::GrowingFrom(asked, _) if rest == asked => return rest,
            Self::For(_) | Self::Growing(_) | Self::GrowingFrom(..) | Self::FromThird(_) => rest,
        };
        let spread = now.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
        ours + ours.mul_f64(0.1 * spread as f64 / 256.0)
    }
}

/// Longest `retry-after` that is believed (LIMITS section 3).
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// How long a route rests at most that failed again and again: SDKs wait for a `retry-after` of a minute and no longer, and
/// who was away may be back at any time.
const FAILING_REST_MAX: Duration = Duration::from_secs(60);

/// How long an overloaded route (529) rests at most when it does not say: overload passes in seconds.
const OVERLOADED_REST: Duration = Duration::from_secs(5);

/// Judges an outcome. The provider's own `error_rules` come first, then its `error_handling`, then the default.
#[must_use]
pub fn judge(outcome: &Outcome, policy: &Policy) -> Verdict {
    if let Some(verdict) = ruled(outcome, policy).or_else(|| declared(outcome, policy)) {
        return verdict;
    }
    let limited = asked(outcome).map_or(Rest::For(policy.model_cooldown), Rest::Asked);
    // What asks to be left alone is not probed before its time.
    let most = policy.model_cooldown.min(FAILING_REST_MAX);
    let failing = |why| match asked(outcome).filter(|_| !most.is_zero()) {
        Some(asked) => Verdict::cool(Then::NextRoute, Scope::Route, Rest::GrowingFrom(asked, most), Why::Busy),
        None => Verdict::cool(Then::NextRoute, Scope::Route, Rest::Growing(most), why),
    };
    match (outcome.stage, outcome.status, outcome.fault) {
        // A pooled connection that died unread says nothing about the provider (R30).
        (Stage::Sent { reused: true }, None, _) => Verdict::only(Then::SameAgain),
        (Stage::Connect | Stage::Silent, _, _) => failing(Why::Unreachable),
        // No credit left, whatever the status: the account's trouble, not the client's.
        (Stage::Replied, _, Some(FaultKind::Quota | FaultKind::Billing)) | (Stage::Replied, Some(402), _) => {
            Verdict::cool(Then::NextKey, Scope::Key, Rest::For(policy.key_cooldown), Why::NoCredit)
        }
        (Stage::Replied, Some(200..=299), None) => Verdict::only(Then::Deliver),
        (Stage::Replied, Some(401), _) => {
            Verdict::cool(Then::NextKey, Scope::Key, Rest::For(policy.key_cooldown), Why::Refused)
        }
        // May be about this request only (a region, a policy): the key is to blame once it happens again and again.
        (Stage::Replied, Some(403), _) => {
            Verdict::cool(Then::NextKey, Scope::Key, Rest::FromThird(policy.key_cooldown), Why::Refused)
        }
        // An upstream model that does not exist is a mistake in the route, not in the request.
        (Stage::Replied, Some(404), Some(FaultKind::ModelNotFound)) => Verdict::only(Then::NextRoute),
        (Stage::Replied, Some(429), _) | (Stage::Replied, _, Some(FaultKind::RateLimit)) => {
            Verdict::cool(Then::NextKey, Scope::KeyModel, limited, Why::Limited)
        }
        (Stage::Replied, Some(408), _) => failing(Why::Unreachable),
        // Too long for this model, and so for every key of it.
        (Stage::Replied, _, Some(FaultKind::ContextLength)) => Verdict::only(Then::LargerRoute),
        // No key and no route of the same vendor knows it better, and the answer is one without it too.
        (Stage::Replied, _, Some(FaultKind::ForeignThinking)) => Verdict::only(Then::Unseal),
        (Stage::Replied, Some(400..=499), _) => Verdict::only(Then::Refuse),
        (Stage::Replied, Some(529), _) | (Stage::Replied, _, Some(FaultKind::Overloaded)) => {
            let usual = Rest::For(OVERLOADED_REST.min(policy.model_cooldown));
            Verdict::cool(Then::NextRoute, Scope::Route, asked(outcome).map_or(usual, Rest::Asked), Why::Busy)
        }
        // Everything else is the upstream's failure: 5xx, redirects (never followed), nonsense, an early end.
        (Stage::Sent { .. } | Stage::Garbage | Stage::Replied, _, _) => failing(Why::Failed),
    }
}

/// How long the upstream asked to be left alone, as far as it is believed.
fn asked(outcome: &Outcome) -> Option<Duration> {
    outcome.retry_after.map(|after| after.min(RETRY_AFTER_MAX))
}

/// What an upstream asks for is a floor under what a file says.
fn at_least_asked(rest: Duration, outcome: &Outcome) -> Rest {
    match asked(outcome) {
        Some(asked) if rest < asked => Rest::Asked(asked),
        _ => Rest::For(rest),
    }
}

/// Why something rests that a file lets rest for this status.
fn why(status: Option<u16>) -> Why {
    match status {
        Some(401 | 403) => Why::Refused,
        Some(402) => Why::NoCredit,
        Some(429) => Why::Limited,
        _ => Why::Failed,
    }
}

/// What the rule of the provider's file says that the outcome fits.
fn ruled(outcome: &Outcome, policy: &Policy) -> Option<Verdict> {
    let rule = policy.rules.get(outcome.rule?)?;
    let rest = |usual: Duration| at_least_asked(rule.cooldown.unwrap_or(usual), outcome);
    let why = why(outcome.status);
    Some(match rule.scope {
        RuleScope::Request => Verdict::only(Then::Refuse),
        RuleScope::Key => Verdict::cool(Then::NextKey, Scope::Key, rest(policy.key_cooldown), why),
        RuleScope::KeyModel => Verdict::cool(Then::NextKey, Scope::KeyModel, rest(policy.model_cooldown), why),
        RuleScope::Route => Verdict::cool(Then::NextRoute, Scope::Route, rest(policy.model_cooldown), why),
        RuleScope::Provider => Verdict::cool(Then::NextRoute, Scope::Provider, rest(policy.key_cooldown), why),
    })
}

/// What the provider's file says about this status (SEED.md 3.3).
fn declared(outcome: &Outcome, policy: &Policy) -> Option<Verdict> {
    let status = outcome.status.filter(|s| 400 <= *s)?;
    let (_, action, cooldown) = policy.actions.iter().find(|(s, _, _)| *s == status)?;
    let rest = |usual: Duration| at_least_asked(cooldown.unwrap_or(usual), outcome);
    let why = why(Some(status));
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
    use crate::route::table::ErrorRule;

    const MODEL: Duration = Duration::from_secs(180);
    const KEY: Duration = Duration::from_secs(600);

    fn policy() -> Policy {
        Policy { model_cooldown: MODEL, key_cooldown: KEY, ..Policy::default() }
    }

    fn replied(status: u16) -> Outcome {
        Outcome::replied(status, (300 <= status).then(|| FaultKind::of_status(status)))
    }

    fn failed(stage: Stage) -> Outcome {
        Outcome::failed(stage)
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
        let growing = Rest::Growing(FAILING_REST_MAX);
        for status in [200, 201] {
            check(replied(status), p, Deliver, None);
        }
        for status in [400, 404, 405, 409, 413, 415, 422] {
            check(replied(status), p, Refuse, None);
        }
        check(replied(401), p, NextKey, Some((Key, Rest::For(KEY))));
        check(replied(402), p, NextKey, Some((Key, Rest::For(KEY))));
        check(replied(403), p, NextKey, Some((Key, Rest::FromThird(KEY))));
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
        check(says(400, FaultKind::ContextLength), p, LargerRoute, None);
        check(says(400, FaultKind::ForeignThinking), p, Unseal, None);
        // An error under 200, whole or as a stream's first event.
        check(says(200, FaultKind::Overloaded), p, NextRoute, Some((Route, Rest::For(OVERLOADED_REST))));
        check(says(200, FaultKind::RateLimit), p, NextKey, Some((KeyModel, Rest::For(MODEL))));
        check(says(200, FaultKind::Server), p, NextRoute, Some((Route, Rest::Growing(FAILING_REST_MAX))));
    }

    #[test]
    fn retry_after_is_believed_up_to_an_hour() {
        use {Scope::*, Then::*};
        let asks = |seconds| Outcome { retry_after: Some(Duration::from_secs(seconds)), ..replied(429) };
        check(asks(7), &policy(), NextKey, Some((KeyModel, Rest::Asked(Duration::from_secs(7)))));
        check(asks(1_000_000), &policy(), NextKey, Some((KeyModel, Rest::Asked(RETRY_AFTER_MAX))));
        let failing = Outcome { retry_after: Some(Duration::from_secs(30)), ..replied(503) };
        let rest = Rest::GrowingFrom(Duration::from_secs(30), FAILING_REST_MAX);
        check(failing, &policy(), NextRoute, Some((Route, rest)));
        assert_eq!([0, 4, 9].map(|strikes| rest.after(strikes).as_secs()), [30, 30, 60], "a floor, and still growing");
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
        check(longer, p, NextKey, Some((KeyModel, Rest::Asked(minute * 2))));
        check(replied(500), p, NextRoute, Some((Provider, Rest::For(KEY))));
        check(replied(503), p, NextKey, Some((Key, Rest::For(minute))));
        check(replied(404), p, Refuse, None);
    }

    #[test]
    fn the_providers_rules_come_before_all_else() {
        use {Scope::*, Then::*};
        let rule = |status, words: &str, scope, seconds: Option<u64>| ErrorRule {
            status,
            body_contains: (!words.is_empty()).then(|| words.into()),
            scope,
            cooldown: seconds.map(Duration::from_secs),
        };
        let p = Policy {
            actions: smallvec::smallvec![(403, Action::ProviderCooldown, None)],
            rules: Box::new([
                rule(Some(403), "Account Suspended", RuleScope::Key, Some(3600)),
                rule(Some(500), "", RuleScope::Request, None),
                rule(None, "capacity", RuleScope::Route, None),
            ]),
            ..policy()
        };
        let fit = |status, body: &str| Outcome { rule: p.rule(status, body.as_bytes()), ..replied(status) };
        check(fit(403, "your account suspended"), &p, NextKey, Some((Key, Rest::For(Duration::from_secs(3600)))));
        check(fit(403, "not in your region"), &p, NextRoute, Some((Provider, Rest::For(KEY))));
        check(fit(500, "boom"), &p, Refuse, None);
        check(fit(400, "no CAPACITY left"), &p, NextRoute, Some((Route, Rest::For(MODEL))));
        check(fit(400, "capacit"), &p, Refuse, None);
    }

    #[test]
    fn only_rests_of_our_own_making_are_spread() {
        let second = Duration::from_secs(1);
        for now in [1, 77, 123_456] {
            assert_eq!(Rest::Asked(second).jittered(0, Millis(now)), second);
            let spread = Rest::Growing(second * 60).jittered(2, Millis(now));
            assert!((second * 4..=second * 4 + second / 2).contains(&spread), "{spread:?}");
            assert_eq!(Rest::For(Duration::ZERO).jittered(0, Millis(now)), Duration::ZERO, "off is off");
        }
        let rests: std::collections::BTreeSet<Duration> =
            (1..50).map(|now| Rest::For(second).jittered(0, Millis(now))).collect();
        assert!(40 < rests.len(), "moments differ: {}", rests.len());
    }

    #[test]
    fn rests_grow_and_stop_growing() {
        let rest = Rest::Growing(Duration::from_secs(180));
        let seconds: Vec<u64> = [0, 1, 2, 7, 8, 99].map(|s| rest.after(s).as_secs()).to_vec();
        assert_eq!(seconds, [1, 2, 4, 128, 180, 180]);
    }
}
