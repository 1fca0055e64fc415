//! Verdicts in words: whose trouble it is, who rests and how long, what comes next. For people who ask why.

use std::fmt::Write as _;
use std::time::Duration;

use crate::route::keys::{KeyState, Share};
use crate::route::plan::GiveUp;
use crate::route::table::{Route, Slot};
use crate::route::verdict::{Cool, Rest, Scope, Then, Verdict};

/// Whose trouble a verdict says it is; `None` where there is none.
#[must_use]
pub fn whose(verdict: &Verdict) -> Option<&'static str> {
    if let Some(cool) = verdict.cool {
        return Some(scope(cool.scope));
    }
    match verdict.then {
        Then::Deliver => None,
        Then::Refuse | Then::Repair | Then::Unseal | Then::LargerRoute => Some("the request"),
        Then::SameAgain => Some("the kept connection"),
        Then::NextKey => Some("the key"),
        Then::NextRoute => Some("the route"),
    }
}

/// Who rests.
#[must_use]
pub fn scope(scope: Scope) -> &'static str {
    match scope {
        Scope::Key => "the key",
        Scope::KeyModel => "the key for this model",
        Scope::Route => "the route",
        Scope::Provider => "the provider",
    }
}

/// The same, for machines.
#[must_use]
pub fn scope_name(scope: Scope) -> &'static str {
    match scope {
        Scope::Key => "key",
        Scope::KeyModel => "key_model",
        Scope::Route => "route",
        Scope::Provider => "provider",
    }
}

/// What comes next.
#[must_use]
pub fn then(then: Then) -> &'static str {
    match then {
        Then::Deliver => "it is the answer",
        Then::Refuse => "the client gets it as the upstream said it",
        Then::SameAgain => "the same key once more, on a fresh connection",
        Then::Repair => "the same key once more, with the tool results it missed",
        Then::Unseal => "the same key once more, without the thinking that another has sealed",
        Then::NextKey => "the next key",
        Then::NextRoute => "the next route",
        Then::LargerRoute => "the next route that is declared to take longer requests; else the client gets it as said",
    }
}

/// The same, for machines.
#[must_use]
pub fn then_name(then: Then) -> &'static str {
    match then {
        Then::Deliver => "deliver",
        Then::Refuse => "refuse",
        Then::SameAgain => "same_again",
        Then::Repair => "repair",
        Then::Unseal => "unseal",
        Then::NextKey => "next_key",
        Then::NextRoute => "next_route",
        Then::LargerRoute => "larger_route",
    }
}

/// Why a plan goes no further.
#[must_use]
pub fn give_up(why: GiveUp) -> &'static str {
    match why {
        GiveUp::Exhausted => "all that may be tried was",
        GiveUp::AllResting(..) => "nothing is left to be tried: all rest",
        GiveUp::NoKeys => "nothing can be tried: no route has a key",
        GiveUp::Deadline => "the request's time is over",
    }
}

/// A whole verdict as a rule: `the key rests 180 s; the next key`.
#[must_use]
pub fn rule(verdict: &Verdict) -> String {
    let mut text = String::new();
    match verdict.cool.filter(|cool| !longest(cool.rest).is_zero()) {
        None => text.push_str("nobody rests"),
        Some(Cool { scope: who, rest, .. }) => {
            let _ = write!(text, "{} rests {}", scope(who), self::rest(rest));
        }
    }
    let _ = write!(text, "; {}", then(verdict.then));
    text
}

/// How long: `180 s`, or how that changes with the failures in a row.
#[must_use]
pub fn rest(rest: Rest) -> String {
    let (first, most) = (rest.after(0), longest(rest));
    if !grows(rest) || first == most {
        return seconds(most);
    }
    if first.is_zero() {
        return format!("{} from the third failure in a row on", seconds(most));
    }
    format!("{}, doubled with each failure in a row, at most {}", seconds(first), seconds(most))
}

/// How long at most.
#[must_use]
pub fn longest(rest: Rest) -> Duration {
    match rest {
        Rest::Asked(rest) | Rest::For(rest) | Rest::Growing(rest) | Rest::FromThird(rest) => rest,
        Rest::GrowingFrom(asked, most) => asked.max(most),
    }
}

/// Whether it depends on the failures in a row.
#[must_use]
pub fn grows(rest: Rest) -> bool {
    match rest {
        Rest::Asked(_) | Rest::For(_) => false,
        Rest::Growing(_) | Rest::GrowingFrom(..) | Rest::FromThird(_) => true,
    }
}

/// `5 s`, `0.25 s`.
#[must_use]
pub fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}

/// All that must be ready for a key of a route to be tried, the widest first.
#[must_use]
pub fn scopes<'r>(route: &'r Route, slot: &'r Slot, share: Share) -> [(Scope, &'r KeyState); 4] {
    [
        (Scope::Provider, &route.provider.state),
        (Scope::Route, route.state.of(share)),
        (Scope::Key, &slot.on_key),
        (Scope::KeyModel, slot.on_model.of(share)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::keys::Why;

    #[track_caller]
    fn check(then: Then, cool: Option<(Scope, Rest)>, expect: &str) {
        let cool = cool.map(|(scope, rest)| Cool { scope, rest, why: Why::Failed });
        assert_eq!(rule(&Verdict { then, cool }), expect);
    }

    #[test]
    fn reads_like_the_policy() {
        let long = Duration::from_secs(180);
        check(Then::Refuse, None, "nobody rests; the client gets it as the upstream said it");
        check(Then::NextKey, Some((Scope::Key, Rest::For(long))), "the key rests 180 s; the next key");
        check(
            Then::NextRoute,
            Some((Scope::Route, Rest::Growing(long))),
            "the route rests 1 s, doubled with each failure in a row, at most 180 s; the next route",
        );
        let third = Rest::FromThird(long);
        check(
            Then::NextKey,
            Some((Scope::Key, third)),
            "the key rests 180 s from the third failure in a row on; the next key",
        );
        let short = Duration::from_millis(500);
        check(Then::NextRoute, Some((Scope::Route, Rest::Growing(short))), "the route rests 0.5 s; the next route");
        check(Then::NextKey, Some((Scope::KeyModel, Rest::For(Duration::ZERO))), "nobody rests; the next key");
    }
}
