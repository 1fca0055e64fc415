//! The policy in words: the table of the README is made from what [`judge`] says, so that the two cannot differ.

use std::fmt::Write as _;
use std::time::Duration;

use crate::route::reason;
use crate::route::table::Policy;
use crate::route::verdict::{Outcome, Rest, Scope, Stage, Verdict, judge};
use crate::wire::fault::FaultKind;

/// What an upstream may do, and the outcomes that are meant. All of a row are judged alike.
const ROWS: &[(&str, &[Outcome])] = &[
    ("400, 405, 409, 413, 415, 422, other 4xx", &[of(400), of(405), of(409), of(413), of(415), of(422), of(418)]),
    ("404 of the client's making", &[of(404)]),
    ("404 that means the upstream model", &[says(404, FaultKind::ModelNotFound)]),
    ("longer than the model takes", &[says(400, FaultKind::ContextLength), says(413, FaultKind::ContextLength)]),
    ("thinking in the history whose seal it does not know", &[says(400, FaultKind::ForeignThinking)]),
    ("401", &[of(401)]),
    (
        "402, or no credit or a closed account under any status",
        &[of(402), says(400, FaultKind::Billing), says(403, FaultKind::Billing), says(429, FaultKind::Quota)],
    ),
    ("403", &[of(403)]),
    ("429", &[of(429)]),
    ("408, no connection, silence", &[of(408), failed(Stage::Connect), failed(Stage::Silent)]),
    (
        "5xx, nonsense, a redirect, an early end",
        &[of(500), of(502), of(503), of(504), of(301), failed(Stage::Garbage), failed(Stage::Sent { reused: false })],
    ),
    ("529, overloaded", &[of(529), says(503, FaultKind::Overloaded)]),
    ("a connection kept from before that dies unread", &[failed(Stage::Sent { reused: true })]),
];

const fn of(status: u16) -> Outcome {
    Outcome { stage: Stage::Replied, status: Some(status), fault: None, retry_after: None, rule: None }
}

const fn says(status: u16, fault: FaultKind) -> Outcome {
    Outcome { stage: Stage::Replied, status: Some(status), fault: Some(fault), retry_after: None, rule: None }
}

const fn failed(stage: Stage) -> Outcome {
    Outcome { stage, status: None, fault: None, retry_after: None, rule: None }
}

/// The default policy as a table in Markdown.
#[must_use]
pub fn table() -> String {
    let policy = Policy { model_cooldown: USUAL, key_cooldown: USUAL, ..Policy::default() };
    let mut table = "| upstream says | who rests | then |\n|---|---|---|\n".to_owned();
    for (what, outcomes) in ROWS {
        let mut verdicts = outcomes.iter().map(|outcome| judge(outcome, &policy));
        let Some(first) = verdicts.next() else { continue };
        // A row whose outcomes differ would be a lie: the test finds it in the table.
        let alike = verdicts.all(|v| v.then == first.then && scope(&v) == scope(&first));
        let (rests, then) = if alike { (rests(&first), reason::then(first.then)) } else { ("?".to_owned(), "?") };
        let _ = writeln!(table, "| {what} | {rests} | {then} |");
    }
    table
}

/// Stands for the configured cooldown.
const USUAL: Duration = Duration::from_secs(180);

fn scope(verdict: &Verdict) -> Option<Scope> {
    verdict.cool.map(|cool| cool.scope)
}

/// Who rests for a verdict, and how long.
fn rests(verdict: &Verdict) -> String {
    let Some(cool) = verdict.cool else {
        return "nobody".to_owned();
    };
    let who = reason::scope(cool.scope);
    let seconds = |rest: Duration| {
        if rest == USUAL { "as configured".to_owned() } else { format!("{} s", rest.as_secs_f64()) }
    };
    match (cool.rest, cool.scope) {
        (Rest::For(rest), Scope::KeyModel) => format!("{who}, until the limit is over, else {}", seconds(rest)),
        (Rest::Asked(rest) | Rest::For(rest), _) => format!("{who}, {}", seconds(rest)),
        (Rest::Growing(most) | Rest::GrowingFrom(_, most), _) => {
            format!("{who}, 1 s, doubled each time in a row up to {}", seconds(most))
        }
        (Rest::FromThird(rest), _) => format!("{who}, the third time in a row, {}", seconds(rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_judged_alike() {
        let table = table();
        assert!(!table.contains('?') && ROWS.len() + 2 == table.lines().count(), "{table}");
    }
}
