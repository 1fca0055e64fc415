//! What an attempt would come to, and what the client would be told, without sending anything: mishaps that are made up
//! are read, judged and weighed by the code that does so with real ones.

use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderValue};

use crate::gateway::attempt::{faulty, unsent_at};
use crate::gateway::failure::{Failure, last_word};
use crate::route::plan::GiveUp;
use crate::route::table::Route;
use crate::route::verdict::{Outcome, Stage};
use crate::time::Millis;
use crate::upstream;
use crate::wire::Format;
use crate::wire::fault::Fault;

/// How an attempt ends badly.
#[derive(Clone, Debug)]
pub enum Mishap {
    /// No answer: how far the request came, and whether on a connection that had served another.
    Unsent { stage: upstream::Stage, reused: bool },
    /// An answer with a status that is an error, or means nothing here.
    Error { status: u16, body: String, retry_after: Option<Duration> },
    /// An answer with a good status that says it is an error after all, as a stream's first event or whole.
    Faulty { body: String },
}

/// The failures of one request so far.
#[derive(Debug, Default)]
pub struct Rehearsal {
    best: Option<Box<Failure>>,
}

/// What the client would be told.
#[derive(Clone, Debug)]
pub struct Told {
    pub fault: Fault,
    pub retry_after_seconds: Option<u64>,
}

impl Told {
    /// The status a client of a format sees.
    #[must_use]
    pub fn status(&self, format: Format) -> u16 {
        (format.codec().status)(&self.fault)
    }
}

/// What the plan is told of a mishap on a route.
#[must_use]
pub fn outcome(route: &Route, mishap: &Mishap) -> Option<Outcome> {
    failure(route, mishap).outcome
}

impl Rehearsal {
    /// Takes in one more mishap, on a route; says what the plan is to be told of it.
    pub fn fail(&mut self, route: &Route, mishap: &Mishap) -> Option<Outcome> {
        let mut failure = failure(route, mishap);
        failure.whose = Some(format!("provider \"{}\"", route.provider.name));
        let outcome = failure.outcome;
        self.best = Some(failure.more_useful(self.best.take()));
        outcome
    }

    /// What the client is told of a mishap that is its own mistake.
    #[must_use]
    pub fn refused(route: &Route, mishap: &Mishap) -> Told {
        told(&failure(route, mishap))
    }

    /// What the client is told when the plan gives up.
    #[must_use]
    pub fn give_up(self, why: GiveUp, model: &str, now: Millis) -> Told {
        told(&last_word(why, self.best, model, now))
    }
}

fn failure(route: &Route, mishap: &Mishap) -> Box<Failure> {
    match mishap {
        Mishap::Unsent { stage, reused } => unsent_at((*stage, *reused), &route.provider.name),
        Mishap::Error { status, .. } if *status < 400 => {
            let fault = Fault::garbage(format!("the upstream answers with status {status}, which is no answer here"));
            Failure::unanswered(Stage::Garbage, fault)
        }
        Mishap::Error { status, body, retry_after } => {
            let mut headers = HeaderMap::new();
            if let Some(after) = retry_after {
                headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs()));
            }
            let fault = Fault::read(*status, body.as_bytes());
            Failure::replied(*status, fault, headers, *retry_after).ruled(&route.policy, body.as_bytes())
        }
        Mishap::Faulty { body } => faulty(route, Fault::read_event(body)),
    }
}

fn told(failure: &Failure) -> Told {
    let seconds = failure.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    Told { fault: failure.fault.clone(), retry_after_seconds: seconds }
}
