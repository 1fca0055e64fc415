//! What a client is sent: bytes that are here, or a stream that is pulled.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use memchr::memmem;

use crate::gateway::capacity::Room;
use crate::gateway::early::Early;
use crate::gateway::passage;
use crate::gateway::relay::Relay;
use crate::gateway::ticket::{Record, Ticket};
use crate::upstream;

/// The body of every reply. What breaks is told inside the stream, in the client's format; only where that is not known, for
/// the bytes go through as they come, the connection is broken off.
#[derive(Debug)]
pub struct Body(Kind);

#[derive(Debug)]
enum Kind {
    Whole {
        bytes: Bytes,
        /// Closed when the bytes have been handed over, or the client left before.
        ticket: Option<Ticket>,
        /// What the bytes take, as long as they are here.
        room: Option<Room>,
    },
    Stream(Box<Relay>),
    Early(Box<Early>),
    Raw(Box<Raw>),
}

/// An upstream's bytes, whatever they are.
#[derive(Debug)]
struct Raw {
    upstream: upstream::Body,
    ticket: Option<Ticket>,
    /// Bytes that are to come, where the upstream has said how many: whoever has them all asks for no more.
    left: Option<u64>,
    noted: Noted,
    /// It is broken, and that is not told yet: what came before has to be on its way first.
    is_broken: bool,
}

/// What is noted of an answer as it passes.
#[derive(Debug)]
pub(super) enum Noted {
    Nothing,
    /// The end of JSON: where usage stands as a rule.
    End(Vec<u8>),
    /// How many events have passed.
    Events(u64),
}

/// So much of an answer's end is kept: usage, and the few fields that may follow.
const END_BYTES: usize = 1024;

impl Noted {
    fn note(&mut self, bytes: &[u8]) {
        match self {
            Self::Nothing => {}
            Self::End(end) => {
                end.extend_from_slice(bytes.get(bytes.len().saturating_sub(END_BYTES)..).unwrap_or_default());
                end.drain(..end.len().saturating_sub(END_BYTES));
            }
            // One that is cut between two pieces is missed, which does not matter.
            Self::Events(events) => *events += memmem::find_iter(bytes, b"\ndata:").count() as u64,
        }
    }

    /// What is to be recorded of it.
    fn tell(&self, record: &mut Record) {
        match self {
            Self::Nothing => {}
            Self::End(end) => record.usage = passage::usage_at_end(&String::from_utf8_lossy(end)),
            // An event of output is a token, more or less.
            Self::Events(events) => record.output_guess = *events,
        }
    }
}

/// The upstream broke in the middle of an answer of which nothing is known.
#[derive(Debug)]
pub struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the upstream's answer broke off")
    }
}

impl std::error::Error for Broken {}

impl Raw {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        if std::mem::take(&mut self.is_broken) {
            return Poll::Ready(Some(Err(Broken)));
        }
        let chunk = ready!(self.upstream.poll_chunk(cx));
        if let Some(Ok(bytes)) = &chunk {
            self.noted.note(bytes);
            if let Some(ticket) = &mut self.ticket {
                ticket.sent(bytes);
            }
            self.left = self.left.map(|left| left.saturating_sub(bytes.len() as u64));
        }
        if let Some(ticket) = self.ticket.as_mut().filter(|_| !matches!(chunk, Some(Ok(_))) || self.left == Some(0)) {
            self.noted.tell(ticket.record());
        }
        match (&chunk, self.ticket.take()) {
            (Some(Ok(_)), Some(ticket)) if self.left == Some(0) => ticket.complete(),
            (Some(Ok(_)), ticket) => self.ticket = ticket,
            (None, Some(ticket)) => ticket.complete(),
            (Some(Err(error)), Some(ticket)) => ticket.broken(error.to_string()),
            (None | Some(Err(_)), None) => {}
        }
        if let Some(Err(_)) = &chunk {
            // A server that is told at once throws away what it has not yet written, the head too.
            self.is_broken = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(chunk.map(|chunk| chunk.map_err(|_| Broken)))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(ticket) = &mut self.ticket {
            self.noted.tell(ticket.record());
        }
    }
}

impl Body {
    #[must_use]
    pub fn whole(bytes: Bytes) -> Self {
        Self(Kind::Whole { bytes, ticket: None, room: None })
    }

    pub(super) fn recorded(bytes: Bytes, mut ticket: Ticket, room: impl Into<Option<Room>>) -> Self {
        ticket.sent(&bytes);
        Self(Kind::Whole { bytes, ticket: Some(ticket), room: room.into() })
    }

    /// The bytes, where all of them are here.
    pub(super) fn here(&self) -> &[u8] {
        match &self.0 {
            Kind::Whole { bytes, .. } => bytes,
            Kind::Stream(_) | Kind::Early(_) | Kind::Raw(_) => &[],
        }
    }

    /// `left`: how long it is, if that is known.
    pub(super) fn raw(upstream: upstream::Body, (left, noted): (Option<u64>, Noted), ticket: Ticket) -> Self {
        Self(Kind::Raw(Box::new(Raw { upstream, ticket: Some(ticket), left, noted, is_broken: false })))
    }

    pub(super) fn early(early: Box<Early>) -> Self {
        Self(Kind::Early(early))
    }

    pub(super) fn stream(relay: Box<Relay>) -> Self {
        Self(Kind::Stream(relay))
    }
}

/// A long answer goes out in pieces of so many bytes: what a slow reader has not taken yet is still here, and counted.
const PIECE_BYTES: usize = 256 * 1024;

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &mut self.0 {
            Kind::Whole { bytes, ticket, room } => {
                let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
                if bytes.is_empty() {
                    drop(room.take());
                    if let Some(ticket) = ticket.take() {
                        ticket.complete();
                    }
                }
                Poll::Ready((!piece.is_empty()).then(|| Ok(Frame::data(piece))))
            }
            Kind::Stream(relay) => relay.poll(cx).map(|next| next.map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Early(early) => early.poll(cx).map(|next| next.map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Raw(raw) => raw.poll(cx).map(|next| next.map(|bytes| bytes.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole { bytes, .. } => bytes.is_empty(),
            Kind::Stream(relay) => relay.is_over(),
            Kind::Early(early) => early.is_over(),
            // Known only once it is asked for more.
            Kind::Raw(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole { bytes, .. } => SizeHint::with_exact(bytes.len() as u64),
            Kind::Stream(_) | Kind::Early(_) | Kind::Raw(_) => SizeHint::default(),
        }
    }
}
