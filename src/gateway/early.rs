//! A stream that is answered before anybody has begun to answer it: signs of life go out while routes are still tried.
//!
//! For clients that give up on a silent connection (`early_commit_ms`). The price: a failure can then only be told inside the
//! stream, under a status that said 200.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use tokio::time::Instant;

use crate::gateway::Gateway;
use crate::gateway::attempt::{Content, Delivery};
use crate::gateway::body::Body;
use crate::gateway::failure::Failure;
use crate::gateway::forward::{Inbound, Request};
use crate::gateway::headers::{self, RequestId};
use crate::gateway::pulse::Pulse;
use crate::gateway::relay::Relay;
use crate::gateway::ticket::Ticket;
use crate::route::table::{OnLossy, Resolved};
use crate::wire::head::Head;
use crate::wire::{Format, Given};

/// The trying, with all it needs.
type Pursuit = Pin<Box<dyn Future<Output = Pursued> + Send>>;

struct Pursued {
    tried: Result<Box<Delivery>, Box<Failure>>,
    inbound: Box<Inbound>,
    ticket: Ticket,
}

/// What such a client is given.
pub(super) struct Early {
    state: State,
    format: Format,
    on_lossy: OnLossy,
    pulse: Option<Pulse>,
    began: Instant,
    /// To be sent next: a sign of life at once.
    next: Option<Bytes>,
}

enum State {
    Trying(Pursuit),
    Streaming(Box<Relay>),
    Over,
}

impl fmt::Debug for Early {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Early").field("format", &self.format).finish_non_exhaustive()
    }
}

/// A request that may be answered early.
pub(super) struct Opened {
    pub(super) inbound: Box<Inbound>,
    pub(super) head: Head,
    pub(super) resolved: Resolved,
    pub(super) on_lossy: OnLossy,
}

impl Gateway {
    /// Tries routes, and answers after so long whether one has delivered or not.
    pub(super) async fn early(&self, opened: Opened, ticket: Ticket, after: Duration) -> Response<Body> {
        let (id, format) = (opened.inbound.id.clone(), opened.inbound.format);
        let (keep_alive, on_lossy) = (opened.resolved.model.terms.keep_alive, opened.on_lossy);
        let mut headers = HeaderMap::new();
        ticket.tell_limits(&mut headers);
        let mut pursuit = self.clone().pursuit(opened, ticket);
        match tokio::time::timeout(after, &mut pursuit).await {
            Ok(Pursued { tried: Ok(delivery), inbound, ticket }) => delivery.respond(&inbound, ticket),
            Ok(Pursued { tried: Err(failure), inbound, ticket }) => failure.respond(&inbound, ticket),
            Err(_) => {
                let mut pulse = keep_alive.map(|every| Pulse::new(every, format));
                let next = pulse.as_mut().map(Pulse::beat);
                let state = State::Trying(pursuit);
                respond(Early { state, format, on_lossy, pulse, began: Instant::now(), next }, headers, &id)
            }
        }
    }

    fn pursuit(self, opened: Opened, mut ticket: Ticket) -> Pursuit {
        Box::pin(async move {
            let Opened { inbound, head, resolved, on_lossy } = opened;
            let waited_us = AtomicU64::new(0);
            // It has been read as text before.
            let text = std::str::from_utf8(&inbound.body).unwrap_or_default();
            let request = Request {
                inbound: &inbound,
                head: &head,
                text,
                resolved: &resolved,
                stream: true,
                waited_us,
                on_lossy,
                passing: None,
            };
            let tried = self.try_routes(&request, &mut ticket).await;
            Pursued { tried, inbound, ticket }
        })
    }
}

fn respond(early: Early, headers: HeaderMap, id: &RequestId) -> Response<Body> {
    let mut response = Response::new(Body::early(Box::new(early)));
    *response.headers_mut() = headers;
    headers::identify(response.headers_mut(), id);
    headers::event_stream(response.headers_mut());
    response
}

impl Early {
    pub(super) fn is_over(&self) -> bool {
        match &self.state {
            State::Trying(_) => false,
            State::Streaming(relay) => self.next.is_none() && relay.is_over(),
            State::Over => self.next.is_none(),
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            if let Some(bytes) = self.next.take() {
                return Poll::Ready(Some(bytes));
            }
            let polled = match &mut self.state {
                State::Streaming(relay) => return relay.poll(cx),
                State::Over => return Poll::Ready(None),
                State::Trying(pursuit) => pursuit.as_mut().poll(cx),
            };
            let Poll::Ready(pursued) = polled else {
                return match &mut self.pulse {
                    Some(pulse) => pulse.poll(cx, self.began).map(Some),
                    None => Poll::Pending,
                };
            };
            self.settle(pursued);
        }
    }

    /// What the request has lost, where that is to be told: the headers have gone, so a comment takes their place.
    fn losses(&self, paths: &str) -> Option<String> {
        // What could not stand in a header, a line break in a client's key say, may not stand in a comment.
        let is_plain = !paths.is_empty() && HeaderValue::from_str(paths).is_ok();
        (self.on_lossy != OnLossy::Silent && is_plain).then(|| format!(": {}: {paths}\n\n", headers::DROPPED))
    }

    /// The trying has ended, one way or the other.
    fn settle(&mut self, Pursued { tried, inbound, mut ticket }: Pursued) {
        ticket.record().status = 200;
        self.state = match tried {
            Ok(delivery) => match delivery.into_content(&mut ticket) {
                Content::Stream(mut relay) => {
                    self.next = self.losses(&ticket.record().dropped).map(Bytes::from);
                    ticket.first_output();
                    relay.ticket = Some(ticket);
                    State::Streaming(relay)
                }
                // Only what is passed through is raw, and that is never answered early.
                Content::Raw(..) => State::Over,
                Content::Whole { body, usage, room, .. } => {
                    let losses = self.losses(&ticket.record().dropped).unwrap_or_default();
                    ticket.record().usage = usage;
                    ticket.sent(&body);
                    ticket.complete();
                    self.next = Some([losses.as_bytes(), &body].concat().into());
                    drop(room);
                    State::Over
                }
            },
            Err(failure) => {
                let mut event = Vec::new();
                (inbound.format.codec().encode_fault_event)(&failure.fault, Given::default(), &mut event);
                ticket.sent(&event);
                self.next = Some(event.into());
                ticket.broken(failure.fault.to_string());
                State::Over
            }
        };
    }
}
