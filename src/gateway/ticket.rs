//! How every request ends: in one record, made when its ticket is dropped, whatever the reason.

use std::fmt;
use std::sync::Arc;

use http::HeaderMap;
use smallvec::SmallVec;

use crate::gateway::Gateway;
use crate::gateway::bodies::Bodies;
use crate::gateway::capacity::Place;
use crate::gateway::drain::Drain;
use crate::gateway::forward::Inbound;
use crate::gateway::headers::RequestId;
use crate::gateway::permit::Permit;
use crate::route::table::{Key, Model, Provider, Route, Slot};
use crate::time::{Clock, Millis};
use crate::wire::Format;
use crate::wire::event::Usage;

/// Takes the record of every request. Called once per request, on the worker's thread: it must not wait.
pub type Recorder = Arc<dyn Fn(Box<Record>) + Send + Sync>;

/// What is known of one request when it is over.
#[derive(Clone, Debug, Default)]
pub struct Record {
    pub id: RequestId,
    /// Who asked; empty if nobody's key was asked for.
    pub client: Arc<str>,
    /// The client's format.
    pub format: Format,
    /// The path of what is passed through; empty for what has an endpoint of its own.
    pub path: Box<str>,
    /// The model as the client named it; empty if the body could not be read.
    pub model: String,
    /// `provider/model` that answered, or was tried last.
    pub route: Arc<str>,
    pub stream: bool,
    /// What the client was told.
    pub status: u16,
    pub attempts: u32,
    /// Why nothing was tried; empty if something was.
    pub untried: String,
    /// Paths of what did not arrive as the client set it, joined by commas.
    pub dropped: String,
    pub usage: Usage,
    /// Tokens of output that went on, guessed by what passed: for where nobody has counted them, or not to the end.
    pub output_guess: u64,
    /// What was asked and answered, if that is to be kept.
    pub bodies: Option<Box<Bodies>>,
    /// The tokens told, where only these were asked for.
    pub counted: Option<u64>,
    pub ended: Ended,
    /// The model that was found for the name.
    pub found: Option<Arc<Model>>,
    /// Every attempt, in order.
    pub tries: SmallVec<[Tried; 2]>,
    /// The limit of ours that kept it out.
    pub limited: Option<&'static str>,
    /// Microseconds until the first output that were spent waiting: for upstreams, or for keys that rest.
    pub upstream_us: u64,
    /// Microseconds from the request's arrival to the first output sent.
    pub first_output_us: Option<u64>,
    pub total_us: u64,
}

/// One attempt at a request.
#[derive(Clone, Debug)]
pub struct Tried {
    /// `provider/model`.
    pub route: Arc<str>,
    pub provider: Arc<Provider>,
    pub key: Arc<Key>,
    /// How it ended: a word of [`crate::gateway::OUTCOMES`].
    pub outcome: &'static str,
    /// The upstream's status; 0 if there was none.
    pub status: u16,
    /// Microseconds from the request's arrival to its beginning, and from there to its first output or its failure.
    pub begun_us: u64,
    pub took_us: u64,
    /// Why it failed; empty if it did not.
    pub why: Box<str>,
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Ended {
    /// The client was given all of it.
    Complete,
    /// The answer broke after output was sent; the client was told so.
    Broken(String),
    /// The client left first. So it is until something else is known.
    #[default]
    ClientClosed,
}

/// An open request. Dropping it makes the record.
pub(super) struct Ticket {
    /// In a box, for a ticket goes through many hands; gone once it was handed in.
    open: Option<Box<Record>>,
    clock: Clock,
    started_us: u64,
    recorder: Recorder,
    drain: Arc<Drain>,
    /// Its place among those under way.
    _place: Option<Place>,
    /// What it takes of what its client may. In a box, for most clients are not limited.
    permit: Option<Box<Permit>>,
}

impl Ticket {
    pub(super) fn open(inbound: &mut Inbound, gateway: &Gateway) -> Self {
        let (id, format) = (inbound.id.clone(), inbound.format);
        let client = inbound.client.as_ref().map(|client| Arc::clone(&client.name)).unwrap_or_default();
        let Gateway { clock, recorder, drain, bodies, .. } = gateway;
        let bodies =
            bodies.map(|most| Bodies::new(&inbound.body, &inbound.headers, most, &gateway.table.load().secrets));
        let bodies = bodies.map(Box::new);
        let record = Box::new(Record { id, format, client, bodies, ..Record::default() });
        drain.enter();
        Self {
            open: Some(record),
            clock: *clock,
            started_us: clock.micros(),
            recorder: Arc::clone(recorder),
            drain: Arc::clone(drain),
            _place: inbound.place.take(),
            permit: None,
        }
    }

    pub(super) fn record(&mut self) -> &mut Record {
        self.open.get_or_insert_with(Box::default)
    }

    /// It was let in.
    pub(super) fn hold(&mut self, permit: Option<Permit>) {
        self.permit = permit.map(Box::new);
    }

    /// Tells how the client stands, where it is limited.
    pub(super) fn tell_limits(&self, headers: &mut HeaderMap) {
        if let Some(permit) = &self.permit {
            permit.tell(headers);
        }
    }

    /// Microseconds since the request came.
    pub(super) fn micros(&self) -> u64 {
        self.clock.micros().saturating_sub(self.started_us)
    }

    /// An attempt has ended: in a word, and with which status.
    pub(super) fn tried(
        &mut self,
        (route, slot): (&Route, &Slot),
        (outcome, status): (&'static str, u16),
        begun_us: u64,
    ) {
        let took_us = self.micros().saturating_sub(begun_us);
        let (label, provider, key) = (Arc::clone(route.label()), Arc::clone(&route.provider), Arc::clone(&slot.key));
        let tried = Tried { route: label, provider, key, outcome, status, begun_us, took_us, why: Box::default() };
        self.record().tries.push(tried);
    }

    /// Why the last attempt failed.
    pub(super) fn failed(&mut self, why: &str) {
        if let Some(last) = self.record().tries.last_mut() {
            last.why = why.into();
        }
    }

    /// When the request came.
    pub(super) fn started(&self) -> Millis {
        Clock::millis_of(self.started_us)
    }

    /// A piece of the answer is on its way.
    pub(super) fn sent(&mut self, piece: &[u8]) {
        if let Some(bodies) = self.open.as_mut().and_then(|record| record.bodies.as_mut()) {
            bodies.answer(piece);
        }
    }

    /// Output is on its way.
    pub(super) fn first_output(&mut self) {
        if self.record().first_output_us.is_none() {
            self.record().first_output_us = Some(self.micros());
        }
    }

    /// All of it was handed over.
    pub(super) fn complete(mut self) {
        self.record().ended = Ended::Complete;
    }

    pub(super) fn broken(mut self, why: String) {
        self.record().ended = Ended::Broken(why);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let took = self.micros();
        self.drain.leave();
        let Some(mut record) = self.open.take() else {
            return;
        };
        if std::thread::panicking() {
            record.status = 500;
            record.ended = Ended::Broken("a panic".to_owned());
        } else if record.ended == Ended::ClientClosed && self.drain.is_over() {
            // As far as we know it is we who leave.
            record.ended = Ended::Broken("the proxy stopped, and the client did not read on".to_owned());
            self.drain.count_lost();
        }
        if record.ended == Ended::Complete {
            record.first_output_us.get_or_insert(took);
        }
        record.total_us = took;
        if let Some(mut permit) = self.permit.take() {
            permit.settle(&record);
        }
        (self.recorder)(record);
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ticket").field(&self.open).finish()
    }
}
