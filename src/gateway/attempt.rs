//! One try at one route with one key: what is sent, and whether what comes back is an answer.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Response, StatusCode};
use smallvec::SmallVec;

use crate::gateway::body::{Body, Noted};
use crate::gateway::capacity::Room;
use crate::gateway::failure::{Failure, Said};
use crate::gateway::forward::{Inbound, Request};
use crate::gateway::pulse::Pulse;
use crate::gateway::relay::{Around, Lane, Relay, Unanswered, read_fault};
use crate::gateway::ticket::Ticket;
use crate::gateway::{Gateway, headers, retry_after};
use crate::route::table::{Address, OnLossy, Origin, Route, Slot};
use crate::route::verdict::Stage;
use crate::time::Clock;
use crate::upstream::{self, Answer, Outgoing, ReadError, SendError};
use crate::wire::event::Usage;
use crate::wire::fault::{Fault, FaultKind};
use crate::wire::head::{self, Head};
use crate::wire::json::{self, JsonStr};
use crate::wire::loss::{Losses, Refusal};
use crate::wire::splice::{Edit, Parts};
use crate::wire::translate::{self, StreamTranslator, Whole};
use crate::wire::{Format, Memory, Sealed, Target, rename};

/// An answer on its way to the client.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) content: Content,
    /// For the log.
    pub(super) dropped: String,
}

#[derive(Debug)]
pub(super) enum Content {
    Whole {
        body: Bytes,
        usage: Usage,
        is_stream: bool,
        paused: bool,
        room: Room,
    },
    Stream(Box<Relay>),
    /// Passed through as it comes; how long it is, if that is known; and what is noted of it.
    Raw(upstream::Body, Option<u64>, Noted),
}

/// A request as a route wants it.
struct Outbound {
    parts: Parts,
    /// What the way back needs; `None` on the verbatim lane.
    memory: Option<Memory>,
    /// Paths of what was dropped.
    dropped: String,
}

/// How much of an error's body is kept: its words are wanted, its page is not (LIMITS section 3).
const ERROR_BYTES_MAX: usize = 64 * 1024;

impl Gateway {
    pub(super) async fn attempt(
        &self,
        request: &Request<'_>,
        route: &Route,
        slot: &Slot,
        mend: Mend,
    ) -> Result<Box<Delivery>, Box<Failure>> {
        if let Some(passing) = request.passing {
            return Box::pin(self.pass_on(request, passing, (route, slot))).await;
        }
        let model = request.resolved.upstream_model(route);
        let Outbound { parts, memory, dropped } = said(request, route, &model, mend)?;
        // One reading before and one after all of it: each costs as much as finding the model.
        let (answer, begun) = match &route.address {
            Address::Builtin => (demo(route, parts), self.clock.micros()),
            Address::Http { origin, path, ready } => {
                let path = ready.clone().map_or_else(|| path_of(path, &model), Ok)?;
                let outgoing = outgoing(request, (route, slot), (origin, path), parts);
                let begun = self.clock.micros();
                let sent = self.upstream.send(outgoing).await.map_err(|error| {
                    request.waited(begun, self.clock);
                    unsent(route, &error)
                });
                (sent?, begun)
            }
        };
        if !answer.status.is_success() {
            let failure = Box::pin(refused(request, route, answer)).await;
            request.waited(begun, self.clock);
            return Err(failure);
        }
        let is_stream = request.stream && is_event_stream(&answer.headers);
        let Answer { status, headers, mut body, .. } = answer;
        let way = Way { request, route, memory, gateway: self };
        let content = if is_stream {
            let content = Box::pin(way.stream(body)).await;
            request.waited(begun, self.clock);
            content?
        } else {
            let mut room = self.capacity.room();
            let whole = body.collect(self.bounds.reply_bytes, |bytes| room.fit(bytes)).await;
            request.waited(begun, self.clock);
            way.content(whole.map_err(|e| unread(&e))?, room).map_err(|fault| faulty(route, fault))?
        };
        let mut headers =
            headers::answered(&headers, (route, &request.resolved.secrets), request.inbound.format, &model);
        if request.on_lossy != OnLossy::Silent {
            headers::dropped(&mut headers, &dropped);
        }
        Ok(Box::new(Delivery { status, headers, content, dropped }))
    }
}

/// What the provider that is built in answers.
fn demo(route: &Route, body: Parts) -> Answer {
    let answer = upstream::demo::answer(route.format, &body.into_bytes());
    Answer { body: answer.body.timed(&route.timeouts), ..answer }
}

/// A body for a route with all that goes with it.
pub(super) fn outgoing(
    request: &Request<'_>,
    (route, slot): (&Route, &Slot),
    (origin, path): (&Arc<Origin>, PathAndQuery),
    body: Parts,
) -> Outgoing {
    Outgoing {
        origin: Arc::clone(origin),
        method: Method::POST,
        path,
        headers: headers::up(&request.inbound.headers, request.inbound.format, route, slot),
        body: body.into(),
        timeouts: route.timeouts,
    }
}

/// Puts a model's name into a path. Behind a wildcard the client has named it, so nothing in it may lead elsewhere.
pub(super) fn path_of(path: &str, model: &str) -> Result<PathAndQuery, Box<Failure>> {
    if model.split('/').any(|segment| matches!(segment, "." | "..")) {
        let message = "a model's name may not have \".\" or \"..\" between its slashes here";
        return Err(Failure::local(Fault::invalid(message).param("model")));
    }
    let mut name = String::with_capacity(model.len());
    for byte in model.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:@/".contains(&byte) {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    path.replace("{model}", &name).parse().map_err(|_| {
        Failure::local(Fault::invalid("the model's name cannot stand in this provider's path").param("model"))
    })
}

/// What the upstream complained of, and is mended in the next try.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Mend {
    #[default]
    Nothing,
    /// Tool calls without a result.
    Answers,
    /// Thinking that another has sealed.
    Seals,
}

impl Mend {
    /// `repairs`: the upstream has just missed results. `unsealed`: the route has complained of seals.
    pub(super) fn of(repairs: bool, unsealed: bool) -> Self {
        match (repairs, unsealed) {
            (true, _) => Self::Answers,
            (false, true) => Self::Seals,
            (false, false) => Self::Nothing,
        }
    }
}

/// Says the request the way the route wants it; what has no result, and so cannot be said in another format, may be
/// given one.
fn said(request: &Request<'_>, route: &Route, model: &str, mend: Mend) -> Result<Outbound, Box<Failure>> {
    match mend {
        Mend::Answers => repaired(request, route, model),
        Mend::Seals => unsealed(request, route, model),
        Mend::Nothing => match outbound(request, route, model) {
            Err(refused) if route.policy.mends_tool_calls() => repaired(request, route, model).map_err(|_| refused),
            said => said,
        },
    }
}

/// Says it as it is.
fn outbound(request: &Request<'_>, route: &Route, model: &str) -> Result<Outbound, Box<Failure>> {
    if request.inbound.format == route.format {
        verbatim(request, route, model)
    } else {
        translated(request, route, model, Mend::Nothing)
    }
}

/// Leaves the request as it came, but for what the configuration says of it, and for thinking that an upstream of another
/// format made in an earlier turn.
fn verbatim(request: &Request<'_>, route: &Route, model: &str) -> Result<Outbound, Box<Failure>> {
    let (head, body) = (request.head, &request.inbound.body);
    let mut edits = verbatim_edits(request, head, body, route, model);
    let unvouched = (route.format.codec().unvouched)(body, Sealed::ByUs);
    let never = never_sent(request, route);
    if never.is_empty() && unvouched.is_empty() {
        return Ok(Outbound { parts: head.apply(body, edits), memory: None, dropped: String::new() });
    }
    let text = request.text;
    let mut lost: Vec<(String, &str)> = never.iter().map(|name| ((*name).to_owned(), NEVER_SENT)).collect();
    lost.extend(unvouched.iter().map(|edit| (json::path_at(text, edit.from), UNVOUCHED)));
    if request.on_lossy == OnLossy::Reject {
        return Err(rejected(&lost.iter().map(|(path, why)| format!("{path}: {why}")).collect::<Vec<_>>()));
    }
    edits.extend(unvouched);
    cut(&mut edits, head.remove(body, &never));
    let paths: Vec<String> = lost.into_iter().map(|(path, _)| path).collect();
    Ok(Outbound { parts: head.apply(body, edits), memory: None, dropped: paths.join(", ") })
}

/// Fields of the request that the provider is never sent, on whichever lane; the model and the stream are the proxy's
/// own to set.
pub(super) fn never_sent<'r>(request: &Request<'_>, route: &'r Route) -> Vec<&'r str> {
    let (head, body) = (request.head, &request.inbound.body);
    let never = route.quirks.drop_params.iter().map(String::as_str).filter(|name| !["model", "stream"].contains(name));
    never.filter(|name| head.has(body, name)).collect()
}

const NEVER_SENT: &str = "this provider is never sent it";
const UNVOUCHED: &str = "thinking that its vendor did not seal cannot go back to it";
const UNKNOWN_SEAL: &str = "the upstream does not know the seal of this thinking: another has made it";

/// The client's request would lose something, and it, or its model, would rather have no answer.
fn rejected(losses: &[String]) -> Box<Failure> {
    let message = format!("the request cannot be sent on whole, as on_lossy asks; lost would be {}", losses.join("; "));
    let first = losses.first().and_then(|line| line.split_once(": ")).map(|(path, _)| path.to_owned());
    let fault = Fault::invalid(message);
    Failure::local(match first {
        Some(path) => fault.param(path),
        None => fault,
    })
}

/// All that is set on the verbatim lane: the model's name, and what the configuration or the endpoint sets.
fn verbatim_edits(request: &Request<'_>, head: &Head, body: &[u8], route: &Route, model: &str) -> SmallVec<[Edit; 2]> {
    let mut edits: SmallVec<[Edit; 2]> = model_edit(head, route, model).into_iter().collect();
    if request.stream && head.stream != Some(true) {
        edits.push(head.set(body, "stream", "true"));
    }
    for (key, value) in &route.defaults {
        if !head.has(body, key) {
            edits.push(head.insert(key, value));
        }
    }
    edits
}

/// Gives the model the name the route has for it.
pub(super) fn model_edit(head: &Head, route: &Route, model: &str) -> Option<Edit> {
    let ready = || route.names.literal.clone().unwrap_or_else(|| Bytes::from(literal(model)));
    (head.model != model).then(|| head.model_edit(ready()))
}

/// Adds what is taken out. What goes as a whole need not be changed first.
pub(super) fn cut(edits: &mut SmallVec<[Edit; 2]>, cuts: Vec<Edit>) {
    edits.retain(|e| e.from == e.to || !cuts.iter().any(|cut| cut.from <= e.from && e.to <= cut.to));
    edits.extend(cuts);
}

fn literal(text: &str) -> String {
    format!("\"{}\"", JsonStr::quote(text).literal())
}

/// Says the request in the route's format, through the waist.
fn translated(request: &Request<'_>, route: &Route, model: &str, mend: Mend) -> Result<Outbound, Box<Failure>> {
    let text = request.text;
    let target = Target { model, capabilities: &route.capabilities, quirks: &route.quirks };
    let mut losses = Losses::default();
    let formats = (request.inbound.format, route.format);
    let stream = Some(request.stream);
    let encoded = match mend {
        Mend::Seals => translate::unsealed_request(formats, text, stream, (&target, UNKNOWN_SEAL), &mut losses),
        Mend::Nothing | Mend::Answers => translate::request(formats, text, stream, &target, &mut losses),
    };
    let (encoded, mut memory) = encoded.map_err(|refusal| Failure::local(refused_here(&refusal, text)))?;
    memory.created = Clock::unix_seconds();
    memory.seed = request.inbound.id.seed();
    if request.on_lossy == OnLossy::Reject && !losses.is_empty() {
        return Err(rejected(&losses.lines(text)));
    }
    let dropped = losses.header(text);
    let parts = translate::with_defaults(Bytes::from(encoded), &route.defaults);
    Ok(Outbound { parts, memory: Some(memory), dropped })
}

/// A refusal as the client's 400, naming the place.
pub(super) fn refused_here(refusal: &Refusal, request: &str) -> Fault {
    let path = refusal.place.path(request);
    let named = path.is_empty() || refusal.message.contains(&path);
    let fault = Fault::invalid(if named { refusal.message.clone() } else { refusal.line(request) });
    if path.is_empty() { fault } else { fault.param(path) }
}

/// The request once more, with empty results for the tool calls that lack one (the seed's `auto_fix_tool_responses`).
fn repaired(request: &Request<'_>, route: &Route, model: &str) -> Result<Outbound, Box<Failure>> {
    let inbound = request.inbound;
    let edits = (inbound.format.codec().repair)(request.text);
    if edits.is_empty() {
        return outbound(request, route, model);
    }
    edited(request, edits, |request| outbound(request, route, model))
}

/// The request without thinking that is sealed: the upstream does not know the seal of some of it, and does not say of which.
/// Nothing goes without being said.
fn unsealed(request: &Request<'_>, route: &Route, model: &str) -> Result<Outbound, Box<Failure>> {
    if request.inbound.format != route.format {
        return translated(request, route, model, Mend::Seals);
    }
    let body = &request.inbound.body;
    let edits = (request.inbound.format.codec().unvouched)(body, Sealed::ByAnybody);
    let text = request.text;
    let paths: Vec<String> = edits.iter().map(|edit| json::path_at(text, edit.from)).collect();
    if request.on_lossy == OnLossy::Reject && !paths.is_empty() {
        return Err(rejected(&paths.iter().map(|path| format!("{path}: {UNKNOWN_SEAL}")).collect::<Vec<_>>()));
    }
    let mut outbound = edited(request, edits, |request| outbound(request, route, model))?;
    let more = Some(outbound.dropped).filter(|more| !more.is_empty());
    outbound.dropped = paths.into_iter().chain(more).collect::<Vec<_>>().join(", ");
    Ok(outbound)
}

/// A request with edits made to what the client has sent.
fn edited(
    request: &Request<'_>,
    edits: Vec<Edit>,
    say: impl FnOnce(&Request<'_>) -> Result<Outbound, Box<Failure>>,
) -> Result<Outbound, Box<Failure>> {
    let inbound = request.inbound;
    let body = request.head.apply(&inbound.body, edits.into_iter().collect()).into_bytes();
    let inbound = Inbound {
        id: inbound.id.clone(),
        format: inbound.format,
        always_stream: inbound.always_stream,
        body,
        ..Inbound::default()
    };
    let Ok((head, text)) = head::read_text(&inbound.body) else {
        return say(request);
    };
    let Request { resolved, stream, on_lossy, .. } = *request;
    let waited_us = AtomicU64::new(0);
    say(&Request { inbound: &inbound, head: &head, text, resolved, stream, waited_us, on_lossy, passing: None })
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    // Some upstreams stream without saying so; what says it is JSON is read whole.
    kind.is_empty() || kind.get(..17).is_some_and(|k| k.eq_ignore_ascii_case("text/event-stream"))
}

/// The way back of one attempt.
struct Way<'r> {
    request: &'r Request<'r>,
    route: &'r Route,
    memory: Option<Memory>,
    gateway: &'r Gateway,
}

impl Way<'_> {
    /// Where replies that pass through are to name the logical model: that name, as a JSON string.
    fn rename(&self) -> Option<Bytes> {
        let model = &self.request.resolved.model;
        model.rewrite_model.then(|| Bytes::from(literal(&self.request.head.model)))
    }

    fn formats(&self) -> (Format, Format) {
        (self.route.format, self.request.inbound.format)
    }

    /// Holds the stream until its first output; only then is it an answer.
    async fn stream(&self, body: upstream::Body) -> Result<Content, Box<Failure>> {
        let (from, to) = self.formats();
        let lane = match &self.memory {
            None => {
                let Request { inbound, head, .. } = self.request;
                Lane::verbatim(to, self.rename(), head.answers(&inbound.body))
            }
            Some(memory) => Lane::translated(StreamTranslator::new(from, to, memory), from),
        };
        let keep_alive = self.request.resolved.model.terms.keep_alive;
        let pulse = keep_alive.map(|every| Pulse::new(every, to));
        let Gateway { drain, capacity, bounds, .. } = self.gateway;
        let around = Around {
            drain: Arc::clone(drain),
            room: capacity.room(),
            secrets: Arc::clone(&self.request.resolved.secrets),
        };
        let mut relay = Relay::new(body, (lane, bounds.event_bytes), pulse, around);
        let gate = self.route.gate;
        let first = tokio::time::timeout(gate.time, relay.first_output(gate)).await;
        match first {
            Ok(Ok(())) => Ok(Content::Stream(Box::new(relay))),
            Ok(Err(Unanswered::Fault(fault))) => Err(faulty(self.route, fault)),
            Ok(Err(Unanswered::Broken(error))) => Err(unread(&error)),
            // A model that thinks in silence is not one that does not answer: to ask another would be to begin again.
            Err(_) if relay.has_begun() => Ok(Content::Stream(Box::new(relay))),
            Err(_) => Err(unread(&ReadError::Idle)),
        }
    }

    /// A whole reply.
    fn content(&self, body: Bytes, room: Room) -> Result<Content, Fault> {
        let (from, to) = self.formats();
        let text = std::str::from_utf8(&body).map_err(|_| Fault::garbage("the upstream's reply is not UTF-8"))?;
        if self.request.stream {
            let passed = Memory { model: self.request.head.model.clone(), ..Memory::default() };
            let memory = self.memory.as_ref().unwrap_or(&passed);
            let (stream, usage) = translate::reply_as_stream(from, to, text, memory)?;
            return Ok(Content::Whole { body: stream.into(), usage, is_stream: true, paused: false, room });
        }
        let Some(memory) = &self.memory else {
            let usage = (from.codec().inspect_reply)(text)?;
            let renamed = self.rename().and_then(|name| rename::in_reply(&body, &name));
            let body = renamed.unwrap_or(body);
            return Ok(Content::Whole { body, usage, is_stream: false, paused: false, room });
        };
        let Whole { body, usage, paused } = translate::whole(from, to, text, memory)?;
        Ok(Content::Whole { body: body.into(), usage, is_stream: false, paused, room })
    }
}

/// An error reply: read for `judge`, and kept as it came where the client can read it.
pub(super) async fn refused(request: &Request<'_>, route: &Route, mut answer: Answer) -> Box<Failure> {
    let status = answer.status;
    let down = headers::down(&answer.headers, route.format, request.inbound.format);
    let now = Clock::unix_seconds();
    let limit = || (status.as_u16() == 429).then(|| retry_after::reset(&answer.headers, now)).flatten();
    let retry_after = retry_after::read(&answer.headers, now).or_else(limit);
    // A body that trickles may not hold up the next try.
    let (body, is_all) = answer.body.beginning(ERROR_BYTES_MAX, route.timeouts.first_byte).await;
    // A redirect is never followed, and to pass on a 101 would be to promise another protocol (LIMITS R15, R23).
    if !status.is_client_error() && !status.is_server_error() {
        let fault = Fault::garbage(format!("the upstream answers with status {status}, which is no answer here"));
        return Failure::unanswered(Stage::Garbage, fault);
    }
    let fault = Fault::read(status.as_u16(), &body);
    let is_own = request.passing.is_some() || body.trim_ascii_start().first().is_none_or(|first| b"{[".contains(first));
    // An API says so in JSON: what has no such path is not what the route takes it for, and the request is not to blame.
    if matches!(status.as_u16(), 404 | 405) && !is_own {
        let who = &route.provider.name;
        let message = format!("the provider \"{who}\" answers with status {status} and a page: is its path right?");
        return Failure::unanswered(Stage::Garbage, Fault::garbage(message));
    }
    let mut failure = Failure::replied(status.as_u16(), fault, down, retry_after).ruled(&route.policy, &body);
    let is_object = is_all && body.trim_ascii_start().first() == Some(&b'{') && std::str::from_utf8(&body).is_ok();
    let format = request.inbound.format;
    // OpenAI's two formats err alike; what is passed through is told as it was said.
    let is_alike = format == route.format || request.passing.is_some() && format.is_twin(route.format);
    if is_alike && is_object {
        failure.said = Some(Said { status, body });
    }
    failure
}

/// An error under a good status. It is judged as if the reply had come with the status its words mean (SEED.md 3.3).
pub(super) fn faulty(route: &Route, fault: Fault) -> Box<Failure> {
    // Not an error it told of, but a reply that makes no sense.
    if fault.kind == FaultKind::Server && fault.status == 502 {
        return Failure::unanswered(Stage::Garbage, fault);
    }
    let words = fault.message.clone();
    Failure::replied(fault.status, fault, HeaderMap::new(), None).ruled(&route.policy, words.as_bytes())
}

/// A request that got no reply.
pub(super) fn unsent(route: &Route, error: &SendError) -> Box<Failure> {
    // It says nothing about the upstream, and another would be reached no better.
    if error.lacks_descriptors() {
        let message = "the proxy has no descriptor left for a connection to an upstream; try again soon";
        return Failure::local(Fault::new(503, FaultKind::Unavailable, message)).after(1).last();
    }
    let mut failure = unsent_at((error.stage, error.reused), &route.provider.name);
    failure.detail = Some(chain(error));
    failure
}

/// The same, by how far the request had come, and whether on a connection that had served another.
pub(super) fn unsent_at((stage, reused): (upstream::Stage, bool), provider: &str) -> Box<Failure> {
    let (stage, fault) = match stage {
        upstream::Stage::Connect => (
            Stage::Connect,
            Fault::new(502, FaultKind::Unavailable, format!("the provider \"{provider}\" cannot be reached")),
        ),
        upstream::Stage::Sent => (
            Stage::Sent { reused },
            Fault::new(
                502,
                FaultKind::Unavailable,
                format!("the provider \"{provider}\" closed the connection without an answer"),
            ),
        ),
        upstream::Stage::FirstByte => (
            Stage::Silent,
            Fault::new(504, FaultKind::Timeout, format!("the provider \"{provider}\" did not answer in time")),
        ),
        upstream::Stage::Head => {
            (Stage::Garbage, Fault::garbage(format!("the provider \"{provider}\" answered what is no answer")))
        }
    };
    Failure::unanswered(stage, fault)
}

/// A reply that broke before any output.
pub(super) fn unread(error: &ReadError) -> Box<Failure> {
    let stage = match error {
        ReadError::Idle | ReadError::Total => Stage::Silent,
        // Nothing is wrong with the upstream, and to ask another would only make it worse.
        ReadError::NoRoom => return Failure::local(read_fault(error)).after(1).last(),
        ReadError::TooLong | ReadError::Broken(_) | ReadError::Encoding => Stage::Garbage,
    };
    let mut failure = Failure::unanswered(stage, read_fault(error));
    failure.detail = Some(chain(error));
    failure
}

/// An error with its causes, for the log.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

impl Delivery {
    /// The answer alone, for a client that has been told a status already.
    pub(super) fn into_content(self: Box<Self>, ticket: &mut Ticket) -> Content {
        let Self { content, dropped, .. } = *self;
        ticket.record().dropped = dropped;
        content
    }

    pub(super) fn respond(self: Box<Self>, inbound: &Inbound, mut ticket: Ticket) -> Response<Body> {
        let Self { status, mut headers, content, dropped } = *self;
        headers::identify(&mut headers, &inbound.id);
        // Of which there is one, as a rule.
        if ticket.record().attempts != 1 {
            headers::attempts(&mut headers, ticket.record().attempts);
        }
        ticket.tell_limits(&mut headers);
        ticket.record().status = status.as_u16();
        ticket.record().dropped = dropped;
        let body = match content {
            // Of which nobody will ask.
            Content::Whole { body, usage, .. } if body.is_empty() => {
                ticket.record().usage = usage;
                ticket.complete();
                Body::whole(body)
            }
            Content::Whole { body, usage, is_stream, paused, room } => {
                if paused {
                    headers::paused(&mut headers);
                }
                if is_stream {
                    headers::event_stream(&mut headers);
                }
                ticket.record().usage = usage;
                ticket.first_output();
                Body::recorded(body, ticket, room)
            }
            Content::Raw(body, length, noted) => {
                ticket.first_output();
                Body::raw(body, (length, noted), ticket)
            }
            Content::Stream(mut relay) => {
                headers::event_stream(&mut headers);
                ticket.first_output();
                relay.ticket = Some(ticket);
                Body::stream(relay)
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_models_name_leads_nowhere_else() {
        for (model, expect) in [
            ("gpt-4.1_x~1", Some("/d/gpt-4.1_x~1/chat?v=1")),
            ("@cf/meta/llama-3:8b", Some("/d/@cf/meta/llama-3:8b/chat?v=1")),
            ("a?b#c%2e d\r\n&\u{e9}\\", Some("/d/a%3Fb%23c%252e%20d%0D%0A%26%C3%A9%5C/chat?v=1")),
            ("x/../../other", None),
            ("..", None),
            ("./x", None),
            ("a..b/...", Some("/d/a..b/.../chat?v=1")),
        ] {
            let path = path_of("/d/{model}/chat?v=1", model);
            assert_eq!(path.ok().as_ref().map(PathAndQuery::as_str), expect, "{model:?}");
        }
    }
}
