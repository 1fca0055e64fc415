//! What became of an attempt that did not deliver, and what of it the client is shown.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};

use crate::gateway::body::Body;
use crate::gateway::forward::{Inbound, clip};
use crate::gateway::headers::{SDK_PATIENCE, whole_seconds};
use crate::gateway::ticket::Ticket;
use crate::gateway::{fault_response, headers, retry_after};
use crate::route::secrets::Secrets;
use crate::route::table::Policy;
use crate::route::verdict::{Outcome, Stage};
use crate::route::{keys::Why, plan::GiveUp};
use crate::time::{Clock, Millis};
use crate::wire::fault::{Fault, FaultKind, without_owner};

/// An attempt that did not deliver.
#[derive(Debug)]
pub(super) struct Failure {
    /// What `judge` is told. `None`: nothing was tried, because the request cannot be said in the route's format.
    pub(super) outcome: Option<Outcome>,
    pub(super) fault: Fault,
    /// The upstream's own error, where it speaks the client's format: shown as it came.
    pub(super) said: Option<Said>,
    /// Limits and retries the upstream told of.
    pub(super) headers: HeaderMap,
    /// The cause, for the log: never shown to the client.
    pub(super) detail: Option<String>,
    /// Whose credentials were used.
    pub(super) whose: Option<String>,
    /// The proxy's own credentials are at fault: asking again does not help.
    pub(super) is_ours: bool,
    /// Nothing else is to be tried.
    pub(super) is_last: bool,
    /// The limit of ours that was met.
    pub(super) limited: Option<&'static str>,
}

/// The ways an attempt can end.
pub const OUTCOMES: [&str; 11] = [
    "ok",
    "rate_limited",
    "key_refused",
    "client_error",
    "server_error",
    "overloaded",
    "no_connection",
    "timeout",
    "broken",
    "not_sayable",
    "local",
];

/// How an attempt ended, in a word, and the upstream's status; 0 if there was none.
pub(super) fn how_ended<T>(tried: &Result<T, Box<Failure>>, status: impl FnOnce(&T) -> u16) -> (&'static str, u16) {
    match tried {
        Ok(answer) => ("ok", status(answer)),
        Err(failure) => (word(failure), failure.outcome.as_ref().and_then(|outcome| outcome.status).unwrap_or(0)),
    }
}

/// In a word how an attempt ended: `not_sayable`, it was not made, for it cannot be said in the route's format; `local`, it came
/// to its end here, for want of room say, or because the client's upload broke.
pub(super) fn word(failure: &Failure) -> &'static str {
    let Some(outcome) = &failure.outcome else {
        return if failure.is_last { "local" } else { "not_sayable" };
    };
    match (outcome.stage, outcome.status) {
        (Stage::Connect, _) => "no_connection",
        (Stage::Silent, _) => "timeout",
        (Stage::Sent { .. } | Stage::Garbage, _) => "broken",
        (Stage::Replied, Some(429)) => "rate_limited",
        (Stage::Replied, Some(401..=403)) => "key_refused",
        (Stage::Replied, Some(529)) => "overloaded",
        (Stage::Replied, Some(400..=499)) => "client_error",
        (Stage::Replied, Some(200..=299)) => "ok",
        (Stage::Replied, _) => "server_error",
    }
}

/// An upstream's error reply.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

impl Failure {
    /// A fault of ours or of the client's: nothing was sent anywhere.
    pub(super) fn local(fault: Fault) -> Box<Self> {
        Box::new(Self {
            outcome: None,
            fault,
            said: None,
            headers: HeaderMap::new(),
            detail: None,
            whose: None,
            is_ours: false,
            is_last: false,
            limited: None,
        })
    }

    /// Nothing else is tried after it.
    pub(super) fn last(mut self: Box<Self>) -> Box<Self> {
        self.is_last = true;
        self
    }

    /// The client may come back after so many seconds.
    pub(super) fn after(mut self: Box<Self>, seconds: u64) -> Box<Self> {
        headers::retry_after(&mut self.headers, seconds);
        self
    }

    /// An attempt that got no usable reply.
    pub(super) fn unanswered(stage: Stage, fault: Fault) -> Box<Self> {
        Box::new(Self { outcome: Some(Outcome::failed(stage)), ..*Self::local(fault) })
    }

    /// An error the upstream replied with.
    pub(super) fn replied(status: u16, fault: Fault, headers: HeaderMap, retry_after: Option<Duration>) -> Box<Self> {
        let outcome = Outcome { retry_after, ..Outcome::replied(status, Some(fault.kind)) };
        Box::new(Self { outcome: Some(outcome), headers, ..*Self::local(fault) })
    }

    /// Looks up which of the provider's own rules its words fit.
    pub(super) fn ruled(mut self: Box<Self>, policy: &Policy, words: &[u8]) -> Box<Self> {
        if let Some(outcome) = &mut self.outcome {
            outcome.rule = outcome.status.and_then(|status| policy.rule(status, words));
        }
        self
    }

    /// Takes accounts and keys out of all that is shown, logged or kept: some providers repeat the credential they refuse.
    pub(super) fn scrub(&mut self, secrets: &Secrets) {
        // What the upstream said was found to be UTF-8 before it was kept.
        if let Some(said) = &mut self.said
            && let Ok(text) = std::str::from_utf8(&said.body)
            && let Cow::Owned(shown) = without_owner(text)
        {
            said.body = shown.into();
        }
        let Fault { message, param, code, .. } = &mut self.fault;
        for text in [Some(message), param.as_mut(), code.as_mut(), self.detail.as_mut()].into_iter().flatten() {
            if let Some(clean) = secrets.hidden(text) {
                *text = clean;
            }
        }
        if let Some(said) = &mut self.said
            && let Some(clean) = secrets.hidden_in(&said.body)
        {
            said.body = clean.into();
        }
        headers::hide(&mut self.headers, secrets);
    }

    /// How much the client learns from it: the answer to "which of several failures do I show?"
    fn use_to_client(&self) -> u8 {
        match (self.fault.kind, self.outcome.map(|o| o.stage)) {
            // The route could not carry the request: only the last word if nothing was sent anywhere.
            (_, None) => 1,
            // It was mended, and asked again.
            (FaultKind::ForeignThinking, _) => 2,
            (FaultKind::Authentication | FaultKind::Permission | FaultKind::Billing, _) => 3,
            (_, Some(Stage::Connect | Stage::Sent { .. })) => 4,
            (_, Some(Stage::Silent | Stage::Garbage)) => 5,
            (FaultKind::ModelNotFound, _) => 6,
            (FaultKind::RateLimit | FaultKind::Quota, _) => 8,
            (FaultKind::InvalidRequest | FaultKind::ContextLength | FaultKind::TooLarge, _) => 9,
            (_, Some(Stage::Replied)) => 7,
        }
    }

    /// The more useful of two; of equals the later.
    pub(super) fn more_useful(self: Box<Self>, earlier: Option<Box<Self>>) -> Box<Self> {
        match earlier {
            Some(earlier) if self.use_to_client() < earlier.use_to_client() => earlier,
            _ => self,
        }
    }

    /// Why it failed, for the record.
    pub(super) fn why(&mut self) -> String {
        match (self.detail.take(), self.outcome) {
            (Some(why), _) => why,
            (None, Some(_)) => self.fault.to_string(),
            // Nobody has answered with a status.
            (None, None) => self.fault.message.clone(),
        }
    }

    /// What the client sees when all that could be tried has failed. A credential that was refused was ours: the client
    /// must not take it for its own, so 401, 402 and 403 become 502.
    pub(super) fn exhausted(mut self: Box<Self>) -> Box<Self> {
        // Under 429 it stays a limit, which clients know how to bear.
        let is_spent = self.fault.kind == FaultKind::Quota && self.fault.status != 429;
        let ours = matches!(self.fault.kind, FaultKind::Authentication | FaultKind::Permission | FaultKind::Billing)
            || is_spent
            || matches!(self.fault.status, 401..=403);
        if ours && self.outcome.is_some() {
            let status = self.fault.status;
            let whose = self.whose.as_deref().unwrap_or("an upstream");
            let message = format!("{whose} refused the proxy's own credentials with status {status}");
            self.fault = Fault::new(502, FaultKind::Unavailable, message);
            self.said = None;
            self.is_ours = true;
        }
        self
    }

    /// Where nobody said when to come back: the rest that follows from the failure is known, and worth waiting for.
    pub(super) fn told_when(mut self: Box<Self>, left: Option<Duration>) -> Box<Self> {
        let may_pass = matches!(
            self.fault.kind,
            FaultKind::RateLimit
                | FaultKind::Timeout
                | FaultKind::Overloaded
                | FaultKind::Unavailable
                | FaultKind::Server
        );
        if let Some(left) = left.filter(|_| may_pass && self.outcome.is_some())
            && retry_after::read(&self.headers, Clock::unix_seconds()).is_none()
        {
            headers::retry_after(&mut self.headers, whole_seconds(left));
        }
        self
    }

    pub(super) fn respond(self: Box<Self>, inbound: &Inbound, mut ticket: Ticket) -> Response<Body> {
        let mut response = fault_response(inbound.format, &self.fault, &inbound.id);
        if let Some(said) = self.said {
            *response.status_mut() = said.status;
            *response.body_mut() = Body::whole(said.body);
        }
        response.headers_mut().extend(self.headers);
        ticket.tell_limits(response.headers_mut());
        if 1 < ticket.record().attempts || self.is_ours {
            // Keys and routes have been gone through already. To do so again at once only multiplies the load; where SDKs
            // are told when to come back, and wait so long, they may.
            let after = retry_after::read(response.headers(), Clock::unix_seconds());
            let waits = after.is_some_and(|after| after <= SDK_PATIENCE);
            headers::should_retry(response.headers_mut(), waits);
        }
        if ticket.record().attempts == 0 && ticket.record().untried.is_empty() {
            ticket.record().untried = clip(&self.fault.message);
        }
        if 0 < ticket.record().attempts {
            headers::attempts(response.headers_mut(), ticket.record().attempts);
        }
        ticket.record().limited = self.limited;
        ticket.record().status = response.status().as_u16();
        ticket.sent(response.body().here());
        ticket.complete();
        response
    }
}

/// What the client is told when the plan gives up.
pub(super) fn last_word(why: GiveUp, best: Option<Box<Failure>>, model: &str, now: Millis) -> Box<Failure> {
    match (best, why) {
        // Another route could carry it, and only rests: the client may come back, so its request is not to blame.
        (Some(best), GiveUp::AllResting(..)) if best.outcome.is_none() => nothing_tried(why, model, now),
        (Some(best), _) => best.exhausted(),
        (None, why) => nothing_tried(why, model, now),
    }
}

/// Who was asked for what one provider keeps does not know it, and not all could be asked: it may be there all the same.
pub(super) fn keeper_unasked(untried: Option<(Millis, Why)>, now: Millis) -> Box<Failure> {
    const WHAT: &str = "those who could be asked do not keep the response, and whoever may keep it";
    match untried {
        Some(untried) => resting(&format!("{WHAT} is resting"), untried, now),
        None => {
            let message = format!("{WHAT} could not be asked in time");
            Failure::local(Fault::new(503, FaultKind::Unavailable, message)).after(1)
        }
    }
}

/// What would be asked rests: until when, and why.
fn resting(who: &str, (until, why): (Millis, Why), now: Millis) -> Box<Failure> {
    let seconds = whole_seconds(now.until(until));
    let said = format!("{who} ({}); retry in {seconds} s", why.as_str());
    let fault = match why {
        Why::Limited => Fault::new(429, FaultKind::RateLimit, said),
        Why::Nothing | Why::Refused | Why::NoCredit | Why::Failed | Why::Unreachable | Why::Busy => {
            Fault::new(503, FaultKind::Unavailable, said)
        }
    };
    let mut failure = Failure::local(fault);
    headers::retry_after(&mut failure.headers, seconds);
    if SDK_PATIENCE < Duration::from_secs(seconds) {
        headers::should_retry(&mut failure.headers, false);
    }
    failure
}

/// What the client is told when the plan gives up with nothing tried. A path that is passed through may name no model.
fn nothing_tried(why: GiveUp, model: &str, now: Millis) -> Box<Failure> {
    match why {
        GiveUp::AllResting(until, why) => {
            let whose = if model.is_empty() { "this path".to_owned() } else { format!("model \"{model}\"") };
            resting(&format!("every key for {whose} is resting"), (until, why), now)
        }
        GiveUp::Deadline => Failure::local(Fault::new(504, FaultKind::Timeout, "the request's time is over")),
        GiveUp::NoKeys | GiveUp::Exhausted if model.is_empty() => Failure::local(Fault::new(
            503,
            FaultKind::Unavailable,
            "no provider that passes this path through has an API key; set one in the environment and see `model-proxy doctor`",
        )),
        GiveUp::NoKeys | GiveUp::Exhausted => Failure::local(Fault::new(
            503,
            FaultKind::Unavailable,
            format!(
                "no route of model \"{model}\" has an API key; set one in the environment and see `model-proxy config show {model}`"
            ),
        )),
    }
}
