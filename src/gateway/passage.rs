//! Requests that are passed through as they are: declared paths, one rule for all of them.
//!
//! The model is named in the body, if that is JSON, or in the header `x-model-proxy-model`; its routes are tried in order, as
//! far as their providers declare the path. Where none is named, the one provider that declares the path is asked, or the one
//! that `x-model-proxy-provider` names. Keys, rests and failover are those of every other request. A JSON body is kept for all
//! attempts; any other is sent on as it comes, and can be tried again only as long as none of it was read.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Response, StatusCode};
use memchr::memmem::Finder;

use crate::gateway::attempt::{Content, Delivery, path_of, refused, unread, unsent};
use crate::gateway::body::{Body, Noted};
use crate::gateway::failure::Failure;
use crate::gateway::forward::{Inbound, Request, clip, unknown_model};
use crate::gateway::ticket::Ticket;
use crate::gateway::{Gateway, headers, permit};
use crate::limit::Need;
use crate::route::table::{Address, Model, OnLossy, Resolved, Route, Slot, Table, Terms};
use crate::upstream::{Answer, Load, Outgoing, Unsent, Upload};
use crate::wire::event::Usage;
use crate::wire::fault::{Fault, FaultKind};
use crate::wire::head::{self, Head};
use crate::wire::json::{Cursor, JsonError, Kind};

/// What is passed through.
#[derive(Debug)]
pub struct Passing {
    pub method: Method,
    pub path: Box<str>,
    pub query: Option<Box<str>>,
    /// A body that is sent on as it comes. Where there is none, the inbound's own is kept.
    pub upload: Option<Upload>,
}

impl Passing {
    /// It is about one response that some upstream keeps, and only that one knows: the others say they have none (404). So each
    /// provider is asked until one knows it. Nothing is remembered for it: it holds over restarts, and for every replica.
    pub(super) fn asks_around(&self) -> bool {
        self.path.starts_with("/v1/responses/")
    }
}

/// Which model is meant, where the body does not say.
const MODEL: HeaderName = HeaderName::from_static("x-model-proxy-model");
/// Which provider, where no model is named.
const PROVIDER: HeaderName = HeaderName::from_static("x-model-proxy-provider");

/// JSON replies up to so many bytes are read for their usage; others go on as they come.
const READ_BYTES_MAX: u64 = 1024 * 1024;

impl Gateway {
    /// Passes a request through. Every path ends in a response and in one record.
    pub async fn pass(&self, mut inbound: Box<Inbound>, passing: Passing) -> Response<Body> {
        let mut ticket = Ticket::open(&mut inbound, self);
        ticket.record().path.clone_from(&passing.path);
        let (head, resolved) = match self.open_passage(&inbound, &passing, &mut ticket) {
            Ok(opened) => opened,
            Err(failure) => return failure.respond(&inbound, ticket),
        };
        let (waited_us, on_lossy) = (AtomicU64::new(0), OnLossy::Silent);
        let passing = Some(&passing);
        let request = Request {
            inbound: &inbound,
            head: &head,
            text: "",
            resolved: &resolved,
            stream: false,
            waited_us,
            on_lossy,
            passing,
        };
        match self.try_routes(&request, &mut ticket).await {
            Ok(delivery) => delivery.respond(&inbound, ticket),
            Err(failure) => failure.respond(&inbound, ticket),
        }
    }

    /// Finds the routes it may take, and lets it in.
    fn open_passage(
        &self,
        inbound: &Inbound,
        passing: &Passing,
        ticket: &mut Ticket,
    ) -> Result<(Head, Resolved), Box<Failure>> {
        let invalid = |e| Failure::local(Fault::invalid(format!("invalid request body: {e}")));
        let named = text(&inbound.headers, &MODEL);
        // JSON that is no object names no model, and is not read.
        let is_object = inbound.body.trim_ascii_start().first().is_some_and(|first| *first != b'[');
        let head = match passing.upload.is_none() && is_object {
            true => head::read_any(&inbound.body).map_err(invalid)?,
            false => Head::elsewhere(named.unwrap_or_default()),
        };
        self.shallow(&head)?;
        let table = self.table.load();
        let asked = if head.model.is_empty() { named.unwrap_or_default() } else { &head.model };
        ticket.record().model = clip(asked);
        if let Some(client) = inbound.client.as_deref().filter(|c| passing.upload.is_some() && c.is_by_model()) {
            let message = format!(
                "what the client \"{}\" may ask is told by model, and which one this body is for cannot be read; send JSON",
                client.name
            );
            return Err(Failure::local(Fault::new(403, FaultKind::Permission, message)));
        }
        let resolved = if asked.is_empty() {
            nameless(&table, inbound, passing)
        } else {
            of_model(&table, asked, inbound, passing)
        };
        let resolved = resolved?;
        ticket.record().found = Some(Arc::clone(&resolved.model));
        // Four bytes of text are a token, more or less; what is no text is not counted by tokens.
        let need = Need { input: inbound.body.len() as u64 / 4, output_max: head.max_tokens.or(Some(0)) };
        let client = inbound.client.as_ref();
        let place = client.and_then(|client| client.place(&resolved.model.name, asked));
        ticket.hold(self.permit_for(inbound, place, need)?);
        Ok((head, resolved))
    }

    /// One try with one key.
    pub(super) async fn pass_on(
        &self,
        request: &Request<'_>,
        passing: &Passing,
        (route, slot): (&Route, &Slot),
    ) -> Result<Box<Delivery>, Box<Failure>> {
        let model = request.resolved.upstream_model(route);
        let Some((passed, star)) = route.passes(&passing.path) else {
            return Err(Failure::local(nowhere(passing, &[])));
        };
        let Address::Http { origin, path, .. } = &passed.address else {
            let fault = Fault::new(404, FaultKind::NotFound, "the provider that is built in passes nothing through");
            return Err(Failure::local(fault));
        };
        let outgoing = Outgoing {
            origin: Arc::clone(origin),
            method: passing.method.clone(),
            path: path_for(path, star, &model, passing)?,
            headers: up(request.inbound, route, slot),
            body: load(request, passing, route, &model)?,
            timeouts: route.timeouts,
        };
        let begun = self.clock.micros();
        let sent = self.upstream.send(outgoing).await;
        request.waited(begun, self.clock);
        if let Some(unsent) = passing.upload.as_ref().and_then(Upload::unsent) {
            let (status, kind) = match unsent {
                Unsent::Slow => (408, FaultKind::Timeout),
                Unsent::TooLarge => (413, FaultKind::TooLarge),
                Unsent::Cut => (400, FaultKind::InvalidRequest),
            };
            return Err(Failure::local(Fault::new(status, kind, unsent.to_string())).last());
        }
        let answer = sent.map_err(|error| unsent(route, &error))?;
        let begun = self.clock.micros();
        let delivered = if answer.status.is_success() {
            self.deliver(request, route, answer, &model).await
        } else {
            Err(Box::pin(refused(request, route, answer)).await)
        };
        request.waited(begun, self.clock);
        delivered
    }

    async fn deliver(
        &self,
        request: &Request<'_>,
        route: &Route,
        answer: Answer,
        model: &str,
    ) -> Result<Box<Delivery>, Box<Failure>> {
        let Answer { status, headers: upstream, mut body, .. } = answer;
        let secrets = &request.resolved.secrets;
        let mut headers = headers::answered(&upstream, (route, secrets), request.inbound.format, model);
        headers.remove(CONTENT_TYPE);
        for name in [CONTENT_TYPE, CONTENT_DISPOSITION, CONTENT_ENCODING] {
            if let Some(value) = upstream.get(&name) {
                headers.insert(name, value.clone());
            }
        }
        headers::hide(&mut headers, secrets);
        let length = text(&upstream, &CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
        let is_kind = |kind: &str| text(&upstream, &CONTENT_TYPE).is_some_and(|told| told.starts_with(kind));
        let is_json = is_kind("application/json");
        // Nobody asks for a body where there is none.
        let is_empty = status == StatusCode::NO_CONTENT || length == Some(0);
        if !is_empty && is_json && length.is_some_and(|length| length <= READ_BYTES_MAX) {
            let mut room = self.capacity.room();
            let whole = body.collect(self.bounds.reply_bytes, |bytes| room.fit(bytes)).await.map_err(|e| unread(&e))?;
            let usage = std::str::from_utf8(&whole).ok().and_then(|text| usage(text).ok()).unwrap_or_default();
            let content = Content::Whole { body: whole, usage, is_stream: false, paused: false, room };
            return Ok(Box::new(Delivery { status, headers, content, dropped: String::new() }));
        }
        if let Some(value) = upstream.get(CONTENT_LENGTH) {
            headers.insert(CONTENT_LENGTH, value.clone());
        }
        let content = if is_empty {
            let (usage, room) = (Usage::default(), self.capacity.room());
            Content::Whole { body: Bytes::new(), usage, is_stream: false, paused: false, room }
        } else if is_json {
            Content::Raw(body, length, Noted::End(Vec::new()))
        } else if is_kind("text/event-stream") {
            Content::Raw(body, length, Noted::Events(0))
        } else {
            Content::Raw(body, length, Noted::Nothing)
        };
        Ok(Box::new(Delivery { status, headers, content, dropped: String::new() }))
    }
}

impl Request<'_> {
    /// Its body has gone, and cannot be sent again.
    pub(super) fn is_spent(&self) -> bool {
        self.passing.and_then(|passing| passing.upload.as_ref()).is_some_and(Upload::is_touched)
    }
}

/// A model's routes, as far as their providers pass the path through.
fn of_model(table: &Table, asked: &str, inbound: &Inbound, passing: &Passing) -> Result<Resolved, Box<Failure>> {
    let found = table.resolve(asked).ok_or_else(|| unknown_model(table, asked))?;
    if let Some(client) = inbound.client.as_deref().filter(|c| !c.may_use(&found.model.name, asked)) {
        return Err(permit::forbidden(client, &clip(asked)));
    }
    let routes: Box<[Arc<Route>]> = found.model.routes.iter().filter(|route| takes(route, passing)).cloned().collect();
    if routes.is_empty() {
        let fault = nowhere(passing, &names(table, passing));
        return Err(Failure::local(fault.param("model")));
    }
    let Model { name, aliases, display_name, on_lossy, rewrite_model, terms, .. } = &*found.model;
    let model = Model {
        name: name.clone(),
        aliases: aliases.clone(),
        display_name: display_name.clone(),
        routes,
        on_lossy: *on_lossy,
        rewrite_model: *rewrite_model,
        terms: *terms,
    };
    Ok(Resolved { model: Arc::new(model), ..found })
}

/// The provider that is meant where no model is named.
fn nameless(table: &Table, inbound: &Inbound, passing: &Passing) -> Result<Resolved, Box<Failure>> {
    if let Some(client) = inbound.client.as_deref().filter(|client| client.is_restricted()) {
        let message = format!(
            "what the client \"{}\" may ask is told by model, and none is named; name one in the header {MODEL}",
            client.name
        );
        return Err(Failure::local(Fault::new(403, FaultKind::Permission, message)));
    }
    let of = |model: &Arc<Model>| model.routes.first().map(|route| Arc::clone(&route.provider));
    let wanted = text(&inbound.headers, &PROVIDER);
    let fits =
        |model: &&Arc<Model>| wanted.is_none_or(|wanted| of(model).is_some_and(|provider| *provider.name == *wanted));
    let has_key = |model: &&Arc<Model>| model.routes.iter().any(|route| !route.keys.is_empty());
    let all: Vec<&Arc<Model>> = table.passing(&passing.path).filter(fits).collect();
    let keyed: Vec<&Arc<Model>> = all.iter().copied().filter(has_key).collect();
    match (keyed.as_slice(), all.as_slice()) {
        ([one], _) | ([], [one]) => {
            Ok(Resolved { model: Arc::clone(one), star: None, secrets: Arc::clone(&table.secrets) })
        }
        ([], []) => Err(Failure::local(nowhere(passing, &names(table, passing)))),
        (several, _) if passing.asks_around() => {
            let several = if several.is_empty() { &all } else { several };
            Ok(Resolved { model: Arc::new(of_all(several, passing)), star: None, secrets: Arc::clone(&table.secrets) })
        }
        (several, _) => {
            let several = if several.is_empty() { &all } else { several };
            let names: Vec<String> = several.iter().filter_map(|m| Some(of(m)?.name.to_string())).collect();
            let message = format!(
                "no model is named, and {} could be asked: name one in the header {PROVIDER}, or a model in the body or in {MODEL}",
                names.join(", ")
            );
            Err(Failure::local(Fault::invalid(message)))
        }
    }
}

/// The routes of several providers, as one model's.
fn of_all(several: &[&Arc<Model>], passing: &Passing) -> Model {
    let routes =
        several.iter().flat_map(|model| &model.routes).filter(|route| takes(route, passing)).cloned().collect();
    Model {
        name: "(responses)".into(),
        aliases: Box::default(),
        display_name: None,
        routes,
        on_lossy: OnLossy::default(),
        rewrite_model: false,
        terms: Terms::default(),
    }
}

fn takes(route: &Route, passing: &Passing) -> bool {
    route.passes(&passing.path).is_some_and(|(passed, _)| passed.methods.contains(&passing.method))
}

/// Providers that pass a path through: those that have a key, if any has.
fn names(table: &Table, passing: &Passing) -> Vec<String> {
    let routes = || table.passing(&passing.path).filter_map(|model| model.routes.first());
    let has_key = routes().any(|route| !route.keys.is_empty());
    let told = routes().filter(|route| !has_key || !route.keys.is_empty());
    told.map(|route| route.provider.name.to_string()).collect()
}

fn nowhere(passing: &Passing, providers: &[String]) -> Fault {
    let who = match providers {
        [] => "no provider does".to_owned(),
        some => format!("{} do", some.join(", ")),
    };
    let Passing { path, method, .. } = passing;
    let path = clip(path);
    let message =
        format!("none of the routes passes {method} {path} through; {who} (passthrough in a provider's file)");
    Fault::new(404, FaultKind::NotFound, message)
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok().map(str::trim).filter(|text| !text.is_empty())
}

/// The route's path, with what the client's `*` stood for, the model, and the client's query behind the provider's own.
fn path_for(path: &str, star: &str, model: &str, passing: &Passing) -> Result<PathAndQuery, Box<Failure>> {
    if path.contains("{model}") && model == "*" {
        let message = format!("this provider's path needs a model: name one in the body or in {MODEL}");
        return Err(Failure::local(Fault::invalid(message)));
    }
    let mut path = path_of(&path.replace('*', star), model)?;
    if let Some(query) = &passing.query {
        let mark = if path.query().is_some() { '&' } else { '?' };
        let whole = format!("{path}{mark}{query}").parse();
        path = whole.map_err(|_| Failure::local(Fault::invalid("the query cannot be passed on")))?;
    }
    Ok(path)
}

fn up(inbound: &Inbound, route: &Route, slot: &Slot) -> HeaderMap {
    let mut headers = headers::up(&inbound.headers, inbound.format, route, slot);
    headers.remove(CONTENT_TYPE);
    for name in [CONTENT_TYPE, CONTENT_ENCODING, ACCEPT] {
        if let Some(value) = inbound.headers.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    headers
}

/// The body: kept and with the route's name of the model, or sent on.
fn load(request: &Request<'_>, passing: &Passing, route: &Route, model: &str) -> Result<Load, Box<Failure>> {
    if let Some(upload) = &passing.upload {
        // It went on while the attempt before came to its end.
        let spent = || Fault::new(502, FaultKind::Unavailable, "some of the body was sent, and cannot be sent again");
        return upload.begin().map(Load::Streamed).ok_or_else(|| Failure::local(spent()).last());
    }
    let (head, body) = (request.head, &request.inbound.body);
    let edit = head.names_model().then(|| crate::gateway::attempt::model_edit(head, route, model)).flatten();
    Ok(head.apply(body, edit.into_iter().collect()).into())
}

/// What a reply says was used, if it says so as others do.
fn usage(text: &str) -> Result<Usage, JsonError> {
    let mut cursor = Cursor::new(text);
    let mut usage = Usage::default();
    cursor.object()?;
    while let Some(key) = cursor.key()? {
        if !key.is("usage") || cursor.peek()? != Kind::Object {
            cursor.skip()?;
            continue;
        }
        usage = counts(&mut cursor)?;
    }
    Ok(usage)
}

/// The same of the end of one that was not kept; nothing, where it stands elsewhere.
pub(super) fn usage_at_end(end: &str) -> Usage {
    head::last_member(end, &Finder::new("\"usage\""), counts).unwrap_or_default()
}

/// What is counted, in either vendor's words.
fn counts(cursor: &mut Cursor<'_>) -> Result<Usage, JsonError> {
    let mut usage = Usage::default();
    cursor.object()?;
    while let Some(key) = cursor.key()? {
        let count = cursor.any_u64()?;
        match key.decode().as_ref() {
            "prompt_tokens" | "input_tokens" => usage.input = count,
            "completion_tokens" | "output_tokens" => usage.output = count,
            // Totals, and parts of these.
            _ => {}
        }
    }
    Ok(usage)
}
