//! What a client may: which models, and how much. A request that was let in holds a [`Permit`] until it is over.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::clients::Client;
use crate::gateway::failure::Failure;
use crate::gateway::forward::Inbound;
use crate::gateway::ticket::{Ended, Record};
use crate::gateway::{Gateway, headers};
use crate::limit::{Entry, Moment, Need, Refusal, State, Which};
use crate::route::table::Resolved;
use crate::time::{Clock, Rfc3339};
use crate::wire::fault::{Fault, FaultKind};
use crate::wire::head::Head;
use crate::wire::tokens;

/// A client's request under way.
#[derive(Debug)]
pub(super) struct Permit {
    client: Arc<Client>,
    entry: Option<Entry>,
    /// Which of the client's limits by model hold for it.
    place: Option<usize>,
    /// Tokens its request is guessed to have.
    input: u64,
    clock: Clock,
}

impl Permit {
    /// The request is over: what it used is known, or guessed.
    pub(super) fn settle(&mut self, record: &Record) {
        if let Some(entry) = self.entry.take() {
            self.client.account.settle(&entry, used(record, (entry.held(), self.input)));
        }
    }

    /// How the client stands now, in the words of both vendors.
    pub(super) fn tell(&self, into: &mut HeaderMap) {
        tell(&self.client, self.place, moment(self.clock), into);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // Nobody came to settle it: it was never sent.
        if let Some(entry) = self.entry.take() {
            self.client.account.settle(&entry, 0);
        }
    }
}

/// What a request has used: as the upstream counted it; nothing where nobody answered it. Many streams are not counted, for most
/// clients of OpenAI's do not ask for it: what has passed is guessed then. And an answer that was left or broke is counted at its
/// beginning only, if at all (Anthropic's `message_start` tells a first few tokens of output), so it costs what was held for it at
/// least: else who leaves just before the end would be answered for nothing.
fn used(record: &Record, (held, input): (u64, u64)) -> u64 {
    let Record { usage, tries, attempts, output_guess, .. } = record;
    let counted = usage.input_total().saturating_add(usage.output.unwrap_or(0));
    let guessed = input.saturating_add(*output_guess);
    let is_under_way = tries.len() < *attempts as usize;
    let is_answered = is_under_way || tries.last().is_some_and(|last| last.outcome == "ok");
    match record.ended {
        _ if !is_answered => counted,
        Ended::Complete if !usage.is_empty() => counted,
        Ended::Complete if 0 < *output_guess => guessed,
        Ended::Complete => held,
        Ended::Broken(_) | Ended::ClientClosed => counted.max(held).max(guessed),
    }
}

fn moment(clock: Clock) -> Moment {
    Moment { now: clock.now(), unix_seconds: Clock::unix_seconds() }
}

impl Gateway {
    /// Whether a client has anything left. Takes nothing.
    pub fn peek(&self, client: &Client) -> Result<(), Limited> {
        if client.is_free {
            return Ok(());
        }
        let at = moment(self.clock);
        client.account.peek(&client.limits, at).map_err(|refusal| {
            let (fault, headers) = refused(client, &refusal, None, at);
            Limited { fault, headers, kind: kind(refusal.which) }
        })
    }

    /// Lets a client ask for a model, if it may. `None`: nothing of it is limited.
    pub(super) fn permit(
        &self,
        inbound: &Inbound,
        head: &Head,
        resolved: &Resolved,
    ) -> Result<Option<Permit>, Box<Failure>> {
        let Some(client) = inbound.client.as_ref().filter(|client| !client.is_free) else {
            return Ok(None);
        };
        let place = client.place(&resolved.model.name, &head.model);
        let terms = client.terms(place);
        let counts = terms.limits.counts_tokens() || terms.model.is_some_and(|(_, limits)| limits.counts_tokens());
        // What is no text is refused further on, or passed on and counted by the upstream.
        let text = if counts { std::str::from_utf8(&inbound.body).unwrap_or_default() } else { "" };
        let input = if text.is_empty() { 0 } else { tokens::estimate(text, inbound.format) };
        self.permit_for(inbound, place, Need { input, output_max: head.max_tokens })
    }

    /// A permit that takes nothing: for what is not limited, and still tells how its client stands.
    pub(super) fn unlimited(&self, inbound: &Inbound, head: &Head, resolved: &Resolved) -> Option<Permit> {
        let client = inbound.client.as_ref().filter(|client| !client.is_free)?;
        let place = client.place(&resolved.model.name, &head.model);
        Some(Permit { client: Arc::clone(client), entry: None, place, input: 0, clock: self.clock })
    }

    /// The same as [`permit`](Self::permit), where it is known what is needed.
    pub(super) fn permit_for(
        &self,
        inbound: &Inbound,
        place: Option<usize>,
        need: Need,
    ) -> Result<Option<Permit>, Box<Failure>> {
        let Some(client) = inbound.client.as_ref().filter(|client| !client.is_free) else {
            return Ok(None);
        };
        let at = moment(self.clock);
        match client.account.admit(client.terms(place), need, at) {
            Ok(entry) => {
                let (client, input) = (Arc::clone(client), need.input);
                Ok(Some(Permit { client, entry: Some(entry), place, input, clock: self.clock }))
            }
            Err(refusal) => {
                let (fault, headers) = refused(client, &refusal, place, at);
                Err(Box::new(Failure { headers, limited: Some(kind(refusal.which)), ..*Failure::local(*fault) }))
            }
        }
    }
}

/// A client that has nothing left.
#[derive(Debug)]
pub struct Limited {
    pub fault: Box<Fault>,
    pub headers: HeaderMap,
    /// Which limit, by its name in the client's file.
    pub kind: &'static str,
}

fn kind(which: Which) -> &'static str {
    match which {
        Which::RequestsPerMinute => "requests_per_minute",
        Which::TokensPerMinute => "tokens_per_minute",
        Which::RequestsAtOnce => "requests_at_once",
        Which::TokensPerDay => "tokens_per_day",
        Which::TokensPerMonth => "tokens_per_month",
    }
}

/// A client asks for a model that it may not use.
pub(super) fn forbidden(client: &Client, model: &str) -> Box<Failure> {
    let few: Vec<&str> = client.models().take(SHOWN_MAX + 1).collect();
    let more = if SHOWN_MAX < few.len() { ", …" } else { "" };
    let shown = few.iter().take(SHOWN_MAX).copied().collect::<Vec<_>>().join(", ");
    let message = format!("the client \"{}\" may not use the model \"{model}\"; it may use {shown}{more}", client.name);
    Failure::local(Fault::new(403, FaultKind::Permission, message).param("model"))
}

/// So many models are named where another may not be used.
const SHOWN_MAX: usize = 8;

/// What a client is told that has met a limit of ours.
fn refused(client: &Client, refusal: &Refusal, place: Option<usize>, at: Moment) -> (Box<Fault>, HeaderMap) {
    let Refusal { which, limit, of_model, retry_after } = *refusal;
    let what = match which {
        Which::RequestsPerMinute => "requests a minute",
        Which::TokensPerMinute => "tokens a minute",
        Which::RequestsAtOnce => "requests at once",
        Which::TokensPerDay => "tokens a day",
        Which::TokensPerMonth => "tokens a month",
    };
    let model = client.terms(place).model.filter(|_| of_model);
    let whose = model.map_or_else(String::new, |(name, _)| format!(" of the model \"{name}\""));
    let seconds = retry_after.map(headers::whole_seconds);
    let then = match seconds {
        Some(seconds) => format!("retry in {seconds} s"),
        None => "this request alone is larger".to_owned(),
    };
    let message = format!("the client \"{}\" may use {limit} {what}{whose}; {then}", client.name);
    let mut told = HeaderMap::new();
    tell(client, place, at, &mut told);
    match seconds {
        Some(seconds) => headers::retry_after(&mut told, seconds),
        None => headers::should_retry(&mut told, false),
    }
    if retry_after.is_some_and(|after| headers::SDK_PATIENCE < after) {
        headers::should_retry(&mut told, false);
    }
    (Box::new(Fault::new(429, FaultKind::RateLimit, message)), told)
}

/// Tells how a client stands with its limits of a minute, in both vendors' headers. What an upstream said of the proxy's own
/// keys gives way: it is not the client's to reckon with.
fn tell(client: &Client, place: Option<usize>, at: Moment, into: &mut HeaderMap) {
    let terms = client.terms(place);
    if !terms.limits.has_window() && !terms.model.is_some_and(|(_, limits)| limits.has_window()) {
        return;
    }
    let standing = client.account.standing(terms, at);
    headers::forget_limits(into);
    for (state, names) in [(standing.requests, &REQUESTS), (standing.tokens, &TOKENS)] {
        if let Some(state) = state {
            write(&state, names, at, into);
        }
    }
}

/// Limit, what is left, and when it is whole again: OpenAI's names, then Anthropic's.
type Names = [HeaderName; 6];

const REQUESTS: Names = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
    HeaderName::from_static("anthropic-ratelimit-requests-limit"),
    HeaderName::from_static("anthropic-ratelimit-requests-remaining"),
    HeaderName::from_static("anthropic-ratelimit-requests-reset"),
];

const TOKENS: Names = [
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
    HeaderName::from_static("anthropic-ratelimit-tokens-limit"),
    HeaderName::from_static("anthropic-ratelimit-tokens-remaining"),
    HeaderName::from_static("anthropic-ratelimit-tokens-reset"),
];

fn write(state: &State, names: &Names, at: Moment, into: &mut HeaderMap) {
    let [limit, left, reset, its_limit, its_left, its_reset] = names;
    let State { limit: most, left: rest, whole_in } = *state;
    for (name, number) in [(limit, most), (its_limit, most), (left, rest), (its_left, rest)] {
        into.insert(name, HeaderValue::from(number));
    }
    let seconds = if whole_in == Duration::ZERO { 0 } else { headers::whole_seconds(whole_in) };
    for (name, text) in [(reset, format!("{seconds}s")), (its_reset, Rfc3339(at.unix_seconds + seconds).to_string())] {
        if let Ok(value) = HeaderValue::try_from(text) {
            into.insert(name, value);
        }
    }
}
