//! How many input tokens a request would be: asked of the upstream that would answer it, where that can tell, else
//! guessed, and then a header says so.
//!
//! Counting has limits of its own, and some upstreams fail at it alone: nobody rests for what happens here.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response};
use smallvec::SmallVec;

use crate::gateway::attempt::{cut, model_edit, never_sent, outgoing, path_of, refused, refused_here, unread, unsent};
use crate::gateway::body::Body;
use crate::gateway::failure::{Failure, how_ended};
use crate::gateway::forward::{Inbound, Request, clip, name_route, plan, stopping, twin};
use crate::gateway::ticket::Ticket;
use crate::gateway::{Gateway, headers};
use crate::route::plan::Step;
use crate::route::table::{Address, Route, Slot};
use crate::route::verdict::{Stage, Then};
use crate::upstream;
use crate::wire::fault::{Fault, FaultKind};
use crate::wire::json::{Cursor, Writer};
use crate::wire::loss::Losses;
use crate::wire::splice::Parts;
use crate::wire::{Format, Sealed, tokens};

/// A count on its way to the client.
struct Count {
    tokens: u64,
    body: Bytes,
    headers: HeaderMap,
}

/// What came of asking.
enum Asked {
    Told(Count),
    /// Nobody can tell; the first that would answer speaks this format.
    Nobody(Format),
}

/// How long upstreams are asked: after that a guess is worth more than a count.
const ASK_TIME_MAX: Duration = Duration::from_secs(15);

/// Longest reply to a count: it is one number.
const COUNT_BYTES_MAX: usize = 64 * 1024;

impl Gateway {
    /// Counts the input tokens of a request. A model that is known gets a number, whatever its upstreams do.
    pub async fn count(&self, mut inbound: Box<Inbound>) -> Response<Body> {
        let mut ticket = Ticket::open(&mut inbound, self);
        let inbound = &inbound;
        let tallied = self.drain.until_over(pin!(self.tally(inbound, &mut ticket))).await;
        match tallied.unwrap_or_else(|| Err(Failure::local(stopping()))) {
            Ok(count) => count.respond(inbound, ticket),
            Err(failure) => failure.respond(inbound, ticket),
        }
    }

    async fn tally(&self, inbound: &Inbound, ticket: &mut Ticket) -> Result<Count, Box<Failure>> {
        let (head, text, resolved) = self.open(inbound, ticket)?;
        ticket.hold(self.unlimited(inbound, &head, &resolved));
        let on_lossy = resolved.model.on_lossy;
        let waited_us = AtomicU64::new(0);
        let request = Request {
            inbound,
            head: &head,
            text,
            resolved: &resolved,
            stream: false,
            waited_us,
            on_lossy,
            passing: None,
        };
        match tokio::time::timeout(ASK_TIME_MAX, self.ask(&request, ticket)).await {
            Ok(Ok(Asked::Told(count))) => Ok(count),
            Ok(Ok(Asked::Nobody(format))) => guess(&request, format),
            Ok(Err(failure)) => Err(failure),
            Err(_) => guess(&request, first_format(&request)),
        }
    }

    /// Asks those who would answer, in their order, up to the first that cannot be asked.
    async fn ask(&self, request: &Request<'_>, ticket: &mut Ticket) -> Result<Asked, Box<Failure>> {
        let routes = &request.resolved.model.routes;
        let mut plan = plan(request, self.clock.now());
        loop {
            let Step::Try(attempt) = plan.next(self.clock.now()) else {
                return Ok(Asked::Nobody(first_format(request)));
            };
            let Some((route, slot)) = routes.get(attempt.route).and_then(|r| Some((r, r.keys.get(attempt.slot)?)))
            else {
                return Ok(Asked::Nobody(first_format(request)));
            };
            let (route, slot) = twin(request, route, attempt.slot).unwrap_or((route, slot));
            // What a further one would count is not what this one would; and it is sent on as it came.
            let Some(counts) = route.counts.as_ref().filter(|_| route.format == request.inbound.format) else {
                return Ok(Asked::Nobody(route.format));
            };
            ticket.record().attempts = plan.attempts();
            ticket.record().route = Arc::clone(route.label());
            let (begun, begun_us) = (self.clock.micros(), ticket.micros());
            let counted = self.counted(request, route, slot, counts).await;
            request.waited(begun, self.clock);
            ticket.record().upstream_us = request.waited_us.load(Ordering::Relaxed);
            let (outcome, status) = how_ended(&counted, |_| 200);
            ticket.tried((route, slot), (outcome, status), begun_us);
            let mut failure = match counted {
                Ok(count) => {
                    name_route(request, route, ticket);
                    return Ok(Asked::Told(count));
                }
                Err(failure) => failure,
            };
            failure.scrub(&request.resolved.secrets);
            let Some(mut outcome) = failure.outcome else {
                return Err(failure);
            };
            let why = failure.detail.take().unwrap_or_else(|| failure.fault.to_string());
            ticket.failed(&clip(&why));
            // A path that is not there is the upstream's lack, as a model would be: not the client's mistake.
            if let Some(404 | 405) = outcome.status {
                (outcome.status, outcome.fault) = (Some(404), Some(FaultKind::ModelNotFound));
            }
            if plan.follow(&outcome).then == Then::Refuse {
                return Err(failure);
            }
        }
    }

    async fn counted(
        &self,
        request: &Request<'_>,
        route: &Route,
        slot: &Slot,
        counts: &Address,
    ) -> Result<Count, Box<Failure>> {
        let model = request.resolved.upstream_model(route);
        let parts = said(request, route, &model);
        let mut answer = match counts {
            Address::Builtin => upstream::demo::count(route.format, &parts.into_bytes()),
            Address::Http { origin, path, ready } => {
                let path = ready.clone().map_or_else(|| path_of(path, &model), Ok)?;
                let outgoing = outgoing(request, (route, slot), (origin, path), parts);
                self.upstream.send(outgoing).await.map_err(|error| unsent(route, &error))?
            }
        };
        if !answer.status.is_success() {
            return Err(refused(request, route, answer).await);
        }
        let body = answer.body.collect(COUNT_BYTES_MAX, |_| true).await.map_err(|e| unread(&e))?;
        let Some(tokens) = read(&body) else {
            let fault = Fault::garbage("the upstream's answer is no count");
            return Err(Failure::unanswered(Stage::Garbage, fault));
        };
        let headers =
            headers::answered(&answer.headers, (route, &request.resolved.secrets), request.inbound.format, &model);
        Ok(Count { tokens, body, headers })
    }
}

/// The format of the route that is first in order.
fn first_format(request: &Request<'_>) -> Format {
    request.resolved.model.routes.first().map_or(request.inbound.format, |route| route.format)
}

/// The request as it is counted: with the route's name of the model, and without what it is never sent. Nothing is
/// set: where tokens are counted other fields are refused.
fn said(request: &Request<'_>, route: &Route, model: &str) -> Parts {
    let (head, body) = (request.head, &request.inbound.body);
    let mut edits: SmallVec<_> = model_edit(head, route, model).into_iter().collect();
    edits.extend((route.format.codec().unvouched)(body, Sealed::ByUs));
    cut(&mut edits, head.remove(body, &never_sent(request, route)));
    head.apply(body, edits)
}

/// The number an upstream told.
fn read(body: &[u8]) -> Option<u64> {
    let mut cursor = Cursor::new(std::str::from_utf8(body).ok()?);
    let mut tokens = None;
    cursor.object().ok()?;
    while let Some(key) = cursor.key().ok()? {
        if key.is("input_tokens") {
            tokens = cursor.opt_u64().ok()?;
        } else {
            cursor.skip().ok()?;
        }
    }
    cursor.end().ok()?;
    tokens
}

/// Counts by itself what nobody else counts. What is no request is refused, as an upstream would.
fn guess(request: &Request<'_>, upstream: Format) -> Result<Count, Box<Failure>> {
    let (head, text, body) = (request.head, request.text, &request.inbound.body);
    let invalid = |e| Failure::local(Fault::invalid(format!("invalid request body: {e}")));
    let mut cursor = Cursor::new(text);
    cursor.skip().and_then(|_| cursor.end()).map_err(invalid)?;
    let is_responses = request.inbound.format == Format::OpenaiResponses;
    let needed = if is_responses { "input" } else { "messages" };
    if !head.has(body, needed) {
        return Err(Failure::local(Fault::invalid(format!("{needed}: field required")).param(needed)));
    }
    if is_responses {
        countable(text, upstream)?;
    }
    let tokens = tokens::estimate(text, upstream);
    let mut body = Vec::new();
    let mut w = Writer::new(&mut body);
    w.object();
    if is_responses {
        w.key("object").str("response.input_tokens");
    }
    w.key("input_tokens").int(tokens).end_object();
    let mut headers = HeaderMap::new();
    headers::estimated(&mut headers);
    Ok(Count { tokens, body: body.into(), headers })
}

/// Refuses what cannot be counted here: what is no input, and what refers to words that somebody keeps. Whatever else could not be
/// converted has words to be counted.
fn countable(text: &str, upstream: Format) -> Result<(), Box<Failure>> {
    let read = (Format::OpenaiResponses.codec().decode_request)(text, &mut Losses::default());
    let Err(refusal) = read else {
        return Ok(());
    };
    let path = refusal.place.path(text);
    // As it says of earlier turns, items and prompts alike.
    let is_kept = refusal.message.contains("kept at the vendor");
    if is_kept && upstream == Format::OpenaiResponses {
        let message = format!("{path}: only the upstream knows what it stands for, and it could not count just now");
        return Err(Failure::local(Fault::new(503, FaultKind::Unavailable, message).param(path)).after(1));
    }
    match is_kept || path.starts_with("input") {
        true => Err(Failure::local(refused_here(&refusal, text))),
        false => Ok(()),
    }
}

impl Count {
    fn respond(self, inbound: &Inbound, mut ticket: Ticket) -> Response<Body> {
        let mut headers = self.headers;
        headers::identify(&mut headers, &inbound.id);
        if 0 < ticket.record().attempts {
            headers::attempts(&mut headers, ticket.record().attempts);
        }
        headers::json(&mut headers);
        ticket.tell_limits(&mut headers);
        ticket.record().status = 200;
        ticket.record().counted = Some(self.tokens);
        let mut response = Response::new(Body::recorded(self.body, ticket, None));
        *response.headers_mut() = headers;
        response
    }
}
