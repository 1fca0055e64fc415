//! The story of a request.
//!
//! ```text
//! head ─▶ resolve ─▶ Plan ── next ──▶ attempt ──▶ Delivery ─────────────▶ the client's reply
//!                     ▲                  │
//!                     └── observe ◀── Failure ── exhausted, or the client's own ──▶ an error in its format
//! ```
//!
//! Until a delivery is made nothing has been sent to the client, so any failure may still be followed by another try.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{HeaderMap, Response};

use crate::config::clients::Client;
use crate::gateway::Gateway;
use crate::gateway::attempt::{Delivery, Mend};
use crate::gateway::body::Body;
use crate::gateway::capacity::{Place, Room};
use crate::gateway::early::Opened;
use crate::gateway::failure::{Failure, how_ended, keeper_unasked, last_word};
use crate::gateway::headers::{self, RequestId};
use crate::gateway::passage::Passing;
use crate::gateway::permit;
use crate::gateway::session;
use crate::gateway::ticket::Ticket;
use crate::route::keys::Share;
use crate::route::plan::{GiveUp, Plan, Step};
use crate::route::table::{OnLossy, Resolved, Route, Slot, Table, Terms};
use crate::route::verdict::{Outcome, Stage, Then};
use crate::time::{Clock, Millis};
use crate::wire::Format;
use crate::wire::fault::{Fault, FaultKind};
use crate::wire::head::{self, Head};
use crate::wire::translate;

/// A request that has passed the door.
#[derive(Debug, Default)]
pub struct Inbound {
    pub id: RequestId,
    /// The format its endpoint speaks.
    pub format: Format,
    /// The endpoint streams whatever the body says.
    pub always_stream: bool,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Who asks. `None` only where nobody had to say.
    pub client: Option<Arc<Client>>,
    /// What it takes of the proxy's capacity: its place until it has ended, and room for its body until it is answered.
    pub place: Option<Place>,
    pub room: Option<Room>,
}

/// What all attempts at one request share.
#[derive(Debug)]
pub(super) struct Request<'r> {
    pub(super) inbound: &'r Inbound,
    pub(super) head: &'r Head,
    /// The body as text; empty where it is passed through, since that may be none.
    pub(super) text: &'r str,
    pub(super) resolved: &'r Resolved,
    /// The client wants a stream.
    pub(super) stream: bool,
    /// Microseconds that were spent waiting for upstreams.
    pub(super) waited_us: AtomicU64,
    /// What to do if the request loses something: the client's word, else the model's.
    pub(super) on_lossy: OnLossy,
    /// It is passed through as it is.
    pub(super) passing: Option<&'r Passing>,
}

impl Request<'_> {
    /// Since then nothing of ours was done for it.
    pub(super) fn waited(&self, since_us: u64, clock: Clock) {
        self.waited_us.fetch_add(clock.micros().saturating_sub(since_us), Ordering::Relaxed);
    }
}

impl Gateway {
    /// Serves one request. Every path ends in a response and in one record.
    pub async fn forward(&self, mut inbound: Box<Inbound>) -> Response<Body> {
        let mut ticket = Ticket::open(&mut inbound, self);
        let (head, text, resolved) = match self.open(&inbound, &mut ticket) {
            Ok(opened) => opened,
            Err(failure) => return failure.respond(&inbound, ticket),
        };
        let stream = inbound.always_stream || head.stream == Some(true);
        ticket.record().stream = stream;
        match self.permit(&inbound, &head, &resolved) {
            Ok(permit) => ticket.hold(permit),
            Err(failure) => return failure.respond(&inbound, ticket),
        }
        let on_lossy = match headers::on_lossy(&inbound.headers) {
            Ok(said) => said.unwrap_or(resolved.model.on_lossy),
            Err(fault) => return Failure::local(fault).respond(&inbound, ticket),
        };
        if let Some(after) = resolved.model.terms.early_commit.filter(|_| stream) {
            return Box::pin(self.early(Opened { inbound, head, resolved, on_lossy }, ticket, after)).await;
        }
        let waited_us = AtomicU64::new(0);
        let request = Request {
            inbound: &inbound,
            head: &head,
            text,
            resolved: &resolved,
            stream,
            waited_us,
            on_lossy,
            passing: None,
        };
        match self.try_routes(&request, &mut ticket).await {
            Ok(delivery) => delivery.respond(&inbound, ticket),
            Err(failure) => failure.respond(&inbound, ticket),
        }
    }

    /// Finds the model that is asked for.
    pub(super) fn open<'i>(
        &self,
        inbound: &'i Inbound,
        ticket: &mut Ticket,
    ) -> Result<(Head, &'i str, Resolved), Box<Failure>> {
        let (head, text) = head::read_text(&inbound.body)
            .map_err(|e| Failure::local(Fault::invalid(format!("invalid request body: {e}"))))?;
        self.shallow(&head)?;
        ticket.record().model = clip(&head.model);
        let table = self.table.load();
        let resolved = table.resolve(&head.model).ok_or_else(|| unknown_model(&table, &head.model))?;
        if let Some(client) = inbound.client.as_deref().filter(|c| !c.may_use(&resolved.model.name, &head.model)) {
            return Err(permit::forbidden(client, &clip(&head.model)));
        }
        ticket.record().found = Some(Arc::clone(&resolved.model));
        Ok((head, text, resolved))
    }

    /// What is read here is read without recursion; those behind us may be less careful.
    pub(super) fn shallow(&self, head: &Head) -> Result<(), Box<Failure>> {
        let ((depth, at), most) = (head.depth, self.bounds.json_depth);
        if depth <= most {
            return Ok(());
        }
        let message =
            format!("invalid request body: nested {depth} deep, {most} are allowed (json_depth); see byte {at}");
        Err(Failure::local(Fault::invalid(message)))
    }

    /// Tries routes until one delivers, none is left, or everything ends.
    pub(super) async fn try_routes(
        &self,
        request: &Request<'_>,
        ticket: &mut Ticket,
    ) -> Result<Box<Delivery>, Box<Failure>> {
        let tried = self.drain.until_over(pin!(self.walk(request, ticket))).await;
        tried.unwrap_or_else(|| {
            self.drain.count_cut();
            Err(Failure::local(stopping()))
        })
    }

    async fn walk(&self, request: &Request<'_>, ticket: &mut Ticket) -> Result<Box<Delivery>, Box<Failure>> {
        let model = &request.resolved.model;
        let routes = &model.routes;
        let mut now = ticket.started();
        let mut plan = plan(request, now);
        let mut heard = Heard::default();
        let mut repairs = false;
        loop {
            let attempt = match plan.next(now) {
                Step::Try(attempt) => attempt,
                Step::Wait(until) => {
                    let begun = self.clock.micros();
                    Box::pin(tokio::time::sleep(now.until(until))).await;
                    request.waited(begun, self.clock);
                    now = self.clock.now();
                    continue;
                }
                Step::GiveUp(why) => return Err(self.give_up(why, heard, (&plan, now), ticket)),
            };
            let Some((route, slot)) = routes.get(attempt.route).and_then(|r| Some((r, r.keys.get(attempt.slot)?)))
            else {
                return Err(self.give_up(GiveUp::Exhausted, heard, (&plan, now), ticket));
            };
            let (route, slot) = twin(request, route, attempt.slot).unwrap_or((route, slot));
            ticket.record().attempts = plan.attempts();
            ticket.record().route = Arc::clone(route.label());
            let begun_us = ticket.micros();
            let mend = Mend::of(std::mem::take(&mut repairs), plan.is_unsealed(attempt.route));
            let tried = self.attempt(request, route, slot, mend).await;
            ticket.record().upstream_us = request.waited_us.load(Ordering::Relaxed);
            let (outcome, status) = how_ended(&tried, |delivery| delivery.status.as_u16());
            ticket.tried((route, slot), (outcome, status), begun_us);
            let mut failure = match tried {
                Ok(delivery) => {
                    // When it was begun will do: success is not timed.
                    plan.observe(&DELIVERED, now);
                    name_route(request, route, ticket);
                    return Ok(delivery);
                }
                Err(failure) => failure,
            };
            now = self.clock.now();
            failure.scrub(&request.resolved.secrets);
            failure.whose = Some(format!("provider \"{}\"", route.provider.name));
            ticket.failed(&clip(&failure.why()));
            if failure.is_last {
                return Err(failure);
            }
            let Some(outcome) = failure.outcome else {
                // It cannot be said in this route's format; one further on may speak the client's.
                plan.pass_over();
                ticket.record().attempts = plan.attempts();
                heard.take(failure);
                continue;
            };
            if is_kept_elsewhere(request, &outcome, &failure) {
                // Only who keeps it knows it: it may be the next key's account, or the next provider.
                plan.leave_key();
                heard.absent = Some(failure);
                continue;
            }
            match plan.observe(&outcome, now).then {
                Then::Refuse | Then::Deliver => return Err(failure),
                Then::Repair => repairs = true,
                Then::SameAgain | Then::Unseal | Then::NextKey | Then::NextRoute | Then::LargerRoute => {}
            }
            if request.is_spent() {
                return Err(failure.exhausted());
            }
            heard.take(failure);
        }
    }

    fn give_up(
        &self,
        why: GiveUp,
        heard: Heard,
        (plan, now): (&Plan<'_>, Millis),
        ticket: &mut Ticket,
    ) -> Box<Failure> {
        let Heard { best, absent } = heard;
        match absent.filter(|_| best.as_ref().is_none_or(|best| best.outcome.is_none())) {
            // It is so only if all have said so.
            Some(absent) if plan.has_tried_all() => return absent,
            Some(_) => return keeper_unasked(plan.untried(), now),
            None => {}
        }
        let failure = last_word(why, best, &ticket.record().model, self.clock.now());
        if ticket.record().attempts == 0 {
            ticket.record().untried = failure.fault.message.clone();
        }
        failure.told_when(plan.soonest(now))
    }
}

/// What was heard of those who did not answer.
#[derive(Default)]
struct Heard {
    /// What the client learns most from.
    best: Option<Box<Failure>>,
    /// It asks for what one of them keeps, and this one does not.
    absent: Option<Box<Failure>>,
}

impl Heard {
    fn take(&mut self, failure: Box<Failure>) {
        self.best = Some(failure.more_useful(self.best.take()));
    }
}

/// Whether a route says that it does not keep the response that is asked for, or that was to be gone on from.
fn is_kept_elsewhere(request: &Request<'_>, outcome: &Outcome, failure: &Failure) -> bool {
    let is_unknown = || failure.fault.code.as_deref() == Some("previous_response_not_found");
    match request.passing {
        Some(passing) => outcome.status == Some(404) && passing.asks_around(),
        None => request.inbound.format == Format::OpenaiResponses && is_unknown(),
    }
}

/// The route's twin and the same key there, where this request is better sent so.
pub(super) fn twin<'r>(request: &Request<'_>, route: &'r Route, slot: usize) -> Option<(&'r Route, &'r Slot)> {
    let inbound = request.inbound;
    let needs = || translate::calls_while_thinking(inbound.format, &inbound.body, &route.capabilities);
    let twin = route.twin_for(inbound.format, needs).filter(|_| request.passing.is_none())?;
    Some((twin, twin.keys.get(slot)?))
}

/// Names the model that answered where the route is one of many models.
pub(super) fn name_route(request: &Request<'_>, route: &Route, ticket: &mut Ticket) {
    let is_word = |star: &str| !star.contains(char::is_control);
    if route.model.fixed().is_none() && request.resolved.star.as_deref().is_some_and(is_word) {
        let name = format!("{}/{}", route.provider.name, request.resolved.upstream_model(route));
        ticket.record().route = clip(&name).into();
    }
}

/// The way through a model's routes, for one request.
pub(super) fn plan<'r>(request: &Request<'r>, now: Millis) -> Plan<'r> {
    let model = &request.resolved.model;
    // Nobody is asked which session it is where there is nothing to choose.
    let has_choice = model.routes.iter().any(|route| 1 < route.keys.len());
    let session = if has_choice { session::of(request.inbound, request.head) } else { None };
    let share = Share::of(request.resolved.star.as_deref());
    let Terms { deadline, attempts_max, .. } = model.terms;
    Plan::new(&model.routes, share, now.after(deadline)).within(attempts_max).of_session(session)
}

/// What a delivery is to the plan.
const DELIVERED: Outcome =
    Outcome { stage: Stage::Replied, status: Some(200), fault: None, retry_after: None, rule: None };

/// What those are told whose answer the end of the process comes before.
#[must_use]
pub fn stopping() -> Fault {
    Fault::new(503, FaultKind::Unavailable, "the proxy is stopping; ask again")
}

/// Unknown models are 404 in both vendors' words, with what may have been meant.
pub(super) fn unknown_model(table: &Table, name: &str) -> Box<Failure> {
    let near = table.near(name);
    let hint = match near.as_slice() {
        [] => "`GET /v1/models` lists those there are".to_owned(),
        near => format!("did you mean \"{}\"?", near.join("\" or \"")),
    };
    let shown = clip(name);
    let fault = Fault::new(404, FaultKind::ModelNotFound, format!("the model \"{shown}\" does not exist; {hint}"));
    Failure::local(fault.param("model"))
}

/// As much of a stranger's words as a record or a message needs: a name may be as long as a request.
pub(super) fn clip(text: &str) -> String {
    let end = text.char_indices().nth(CLIPPED_CHARS).map_or(text.len(), |(at, _)| at);
    text.get(..end).unwrap_or_default().to_owned()
}

const CLIPPED_CHARS: usize = 300;
