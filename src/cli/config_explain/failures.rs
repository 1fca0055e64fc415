//! What failures do on a route: every kind there is, judged by the gateway's own judge with the route's own policy. The
//! provider's own `error_rules` come first, as they do there.

use std::time::Duration;

use crate::cli::outcome::{self, Said};
use crate::gateway::rehearsal::{self, Mishap};
use crate::route::keys::Why;
use crate::route::reason;
use crate::route::table::{ErrorRule, Route};
use crate::route::verdict::{Cool, Verdict, judge};
use crate::upstream::Stage;

/// Failures that are all treated alike.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Rule {
    /// For people: statuses, or what went wrong.
    pub(super) on: Vec<String>,
    pub(super) verdict: Verdict,
    /// What the upstream's `retry-after` changes.
    pub(super) asked: Asked,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Asked {
    Nothing,
    /// It is what counts, up to so much.
    Instead(Duration),
    /// It counts where it is longer.
    AtLeast,
}

/// Kinds of failure beside the statuses: (for people, as an outcome).
const KINDS: [(&str, &str); 9] = [
    ("no credit left", "429 insufficient_quota"),
    ("model not found", "404 model_not_found"),
    ("prompt too long", "400 context_length_exceeded"),
    ("unknown seal of thinking", "400 invalid_encrypted_content"),
    ("no connection", "connect"),
    ("connection broken", "reset"),
    ("kept connection dead", "stale"),
    ("no answer in time", "timeout"),
    ("nonsense", "garbage"),
];

/// The statuses providers answer with.
const STATUSES: [u16; 17] = [400, 401, 402, 403, 404, 405, 408, 409, 413, 415, 422, 429, 500, 502, 503, 504, 529];

/// All kinds of failure, those treated alike together, in the order of the first of each.
pub(super) fn rules(route: &Route) -> Vec<Rule> {
    let mut statuses = STATUSES.to_vec();
    statuses.extend(route.policy.actions.iter().map(|(status, ..)| *status));
    statuses.sort_unstable();
    statuses.dedup();
    let statuses = statuses.into_iter().map(|status| (status.to_string(), status.to_string()));
    let kinds = KINDS.iter().map(|(label, words)| ((*label).to_owned(), (*words).to_owned()));
    let mut rules: Vec<Rule> = Vec::new();
    for (label, words) in route.policy.rules.iter().map(ruled).chain(statuses).chain(kinds) {
        let Some((verdict, asked)) = treated(&words, route) else { continue };
        match rules.iter_mut().find(|rule| (rule.verdict, rule.asked) == (verdict, asked)) {
            // A status that a rule of the provider's takes whole stands there already.
            Some(rule) if rule.on.contains(&label) => {}
            Some(rule) => rule.on.push(label),
            None => rules.push(Rule { on: vec![label], verdict, asked }),
        }
    }
    rules
}

/// One of the provider's own `error_rules`: for people, and as an outcome that fits it.
fn ruled(rule: &ErrorRule) -> (String, String) {
    let status = rule.status.map_or_else(|| "any error".to_owned(), |status| status.to_string());
    let outcome = rule.status.unwrap_or(500);
    match rule.body_contains.as_deref() {
        None => (status, format!("{outcome}")),
        Some(words) => (format!("{status} with {words:?}"), format!("{outcome} says={words}")),
    }
}

fn treated(words: &str, route: &Route) -> Option<(Verdict, Asked)> {
    let verdict = verdict(words, None, route)?;
    let rest = |asked| Some(reason::longest(self::verdict(words, Some(asked), route)?.cool?.rest));
    // What nobody would set in a file, so that it is seen who asked for it; and more than anybody is believed.
    let (short, long) = (Duration::from_millis(1_001), Duration::from_millis(3_599_999));
    let most = || rest(Duration::from_secs(86_400 * 365)).unwrap_or_default();
    let asked = match (rest(short), rest(long)) {
        (Some(a), Some(b)) if (a, b) == (short, long) => Asked::Instead(most()),
        (_, Some(b)) if b == long => Asked::AtLeast,
        _ => Asked::Nothing,
    };
    Some((verdict, asked))
}

fn verdict(words: &str, asked: Option<Duration>, route: &Route) -> Option<Verdict> {
    let mut mishap = match outcome::parse(words).ok()? {
        Said::Failed(mishap) => mishap,
        Said::TimedOut => Mishap::Unsent { stage: Stage::FirstByte, reused: false },
        Said::Delivered | Said::Wait(_) | Said::Request => return None,
    };
    if let Mishap::Error { retry_after, .. } = &mut mishap {
        *retry_after = asked;
    }
    let verdict = judge(&rehearsal::outcome(route, &mishap)?, &route.policy);
    // Why something rests is for whoever looks at it then; here it would only part what is treated alike.
    let cool = verdict.cool.map(|cool| Cool { why: Why::Nothing, ..cool });
    Some(Verdict { cool, ..verdict })
}

impl Rule {
    /// As a sentence.
    pub(super) fn says(&self) -> String {
        let asked = match self.asked {
            Asked::Nothing => String::new(),
            Asked::Instead(most) => format!(", or as long as retry-after says, at most {}", reason::seconds(most)),
            Asked::AtLeast => ", or longer if retry-after says so".to_owned(),
        };
        let rule = reason::rule(&self.verdict);
        match rule.split_once(';') {
            Some((rests, next)) => format!("{rests}{asked};{next}"),
            None => rule,
        }
    }
}
