//! One request, end to end. The only room where configuration, routing, conversion and sending meet.
//!
//! `forward.rs` tells the story; `attempt.rs` is one try at one route; `count.rs` tells tokens instead of an answer, and
//! `passage.rs` passes declared paths through;
//! `relay.rs` carries a stream, `pulse.rs` keeps it alive, `early.rs` answers before it has begun; `ticket.rs` is how
//! every request ends, in one record, however it ends, and `drain.rs` how all do. `capacity.rs` is what all together may take,
//! `permit.rs` what one client may.
//! `rehearsal.rs` is for those who only ask what would happen, `inquiry.rs` for whoever wants to know whether a key is good.

mod attempt;
mod bodies;
mod body;
mod capacity;
mod count;
mod drain;
mod early;
mod failure;
mod forward;
mod headers;
pub mod inquiry;
mod passage;
mod permit;
mod pulse;
pub mod rehearsal;
mod relay;
mod retry_after;
mod session;
mod ticket;

pub use bodies::Bodies;
pub use body::{Body, Broken};
pub use capacity::{Capacity, Place, Room};
pub use drain::Drain;
pub use failure::OUTCOMES;
pub use forward::{Inbound, stopping};
pub use headers::{RequestId, RequestIds};
pub use passage::Passing;
pub use permit::Limited;
pub use ticket::{Ended, Record, Recorder, Tried};

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, Response, StatusCode};

use crate::config::bounds::Bounds;
use crate::config::snapshot::Snapshot;
use crate::time::Clock;
use crate::upstream::Upstream;
use crate::wire::Format;
use crate::wire::fault::Fault;

/// All that serving a request needs. One per worker; clones share.
#[derive(Clone)]
pub struct Gateway {
    pub table: Arc<Snapshot>,
    pub upstream: Upstream,
    pub clock: Clock,
    pub recorder: Recorder,
    pub drain: Arc<Drain>,
    pub bounds: Arc<Bounds>,
    pub capacity: Arc<Capacity>,
    /// So many bytes of what is asked and answered are kept for the record, if that is wanted.
    pub bodies: Option<usize>,
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("table", &self.table.load().hash).finish_non_exhaustive()
    }
}

/// Writes a fault as a whole response in a client's format.
#[must_use]
pub fn fault_response(format: Format, fault: &Fault, id: &RequestId) -> Response<Body> {
    let codec = format.codec();
    let mut body = Vec::new();
    (codec.encode_fault)(fault, id.as_str(), &mut body);
    let mut response = Response::new(Body::whole(body.into()));
    *response.status_mut() = StatusCode::from_u16((codec.status)(fault)).unwrap_or(StatusCode::BAD_GATEWAY);
    let headers: &mut HeaderMap = response.headers_mut();
    headers::json(headers);
    headers::identify(headers, id);
    response
}

/// Writes JSON as a whole response.
#[must_use]
pub fn json_response(body: Vec<u8>, id: &RequestId) -> Response<Body> {
    let mut response = Response::new(Body::whole(body.into()));
    headers::json(response.headers_mut());
    headers::identify(response.headers_mut(), id);
    response
}
