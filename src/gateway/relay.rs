//! Carries a stream from the upstream to the client. Pulled by the client: no channel, no task, one chunk at a time.
//!
//! Only whole frames go on, so that whatever breaks can be told in a frame of its own. Where both speak one format
//! the frames are slices of what the network delivered, looked at as they pass; else they are translated.
//!
//! ```text
//!  upstream chunk ─▶ Framer ─▶ verbatim: inspect, slice  ─┐
//!                             translated: events, encode ─┴▶ ready ─▶ client
//!  upstream ended ─▶ said so before?  yes: end    no: an error event of the client's format, and no clean end
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use memchr::memmem;

use crate::gateway::capacity::Room;
use crate::gateway::drain::Drain;
use crate::gateway::forward::stopping;
use crate::gateway::pulse::Pulse;
use crate::gateway::ticket::Ticket;
use crate::route::secrets::Secrets;
use crate::route::table::Gate;
use crate::upstream::{self, ReadError};
use crate::wire::event::Usage;
use crate::wire::fault::{Fault, FaultKind};
use crate::wire::sse::{Frame, Framer};
use crate::wire::translate::{StreamTranslator, TOO_LONG};
use crate::wire::{Format, Given, Past, Sign, rename};

#[derive(Debug)]
pub(super) struct Relay {
    upstream: upstream::Body,
    framer: Framer,
    lane: Lane,
    /// Whole frames on their way to the client.
    ready: VecDeque<Bytes>,
    /// The upstream has nothing more to say, or has been told to stop.
    over: bool,
    /// Frames read so far.
    frames: u32,
    /// Tokens of output in them, guessed.
    output_guess: u64,
    /// Bytes held in `ready` before the commit point.
    held_bytes: usize,
    pulse: Option<Pulse>,
    around: Around,
    lacks_room: bool,
    pub(super) ticket: Option<Ticket>,
}

/// What it needs of its surroundings.
#[derive(Debug)]
pub(super) struct Around {
    pub(super) drain: Arc<Drain>,
    /// For an event that is not yet whole.
    pub(super) room: Room,
    /// What no error may show.
    pub(super) secrets: Arc<Secrets>,
}

#[derive(Debug)]
pub(super) enum Lane {
    Verbatim(Verbatim),
    Translated(Translated),
}

/// Frames go through as they came.
#[derive(Debug)]
pub(super) struct Verbatim {
    format: Format,
    /// The model's name to be put into the frames that carry one, as a JSON string.
    model: Option<Bytes>,
    output: bool,
    /// The model thinks.
    begun: bool,
    /// The first frame that was given and the last, where an error has to go on from them.
    given: Option<(Bytes, Bytes)>,
    /// Where several answers were asked for side by side: those that have not ended, a bit each.
    awaited: Option<u128>,
    /// Its content has ended: nothing is missing if the bytes end here.
    finished: bool,
    /// Its last event has been seen: nothing can be missing any more.
    ended: bool,
    fault: Option<Fault>,
    usage: Usage,
}

#[derive(Debug)]
pub(super) struct Translated {
    translator: StreamTranslator,
    /// The upstream's format.
    from: Format,
    /// The model thinks.
    begun: bool,
    /// Written to again and again.
    scratch: Vec<u8>,
    /// Where `ready` pieces are cut from, so that a delta needs no allocation of its own.
    pool: BytesMut,
}

/// A translated stream's pieces are cut from blocks of this size: some hundred deltas each.
const POOL_BYTES: usize = 16 * 1024;

impl Lane {
    /// `answers`: how many the client asked for side by side.
    pub(super) fn verbatim(format: Format, model: Option<Bytes>, answers: u64) -> Self {
        let all = |n| u32::try_from(n).ok().and_then(|n| 1_u128.checked_shl(n)).unwrap_or(0).wrapping_sub(1);
        Self::Verbatim(Verbatim {
            format,
            model,
            output: false,
            begun: false,
            given: None,
            awaited: (1 < answers).then(|| all(answers)),
            finished: false,
            ended: false,
            fault: None,
            usage: Usage::default(),
        })
    }

    pub(super) fn translated(translator: StreamTranslator, from: Format) -> Self {
        let pool = BytesMut::with_capacity(POOL_BYTES);
        Self::Translated(Translated { translator, from, begun: false, scratch: Vec::new(), pool })
    }
}

impl Relay {
    /// `event_bytes_max`: the longest event.
    pub(super) fn new(
        upstream: upstream::Body,
        (lane, event_bytes_max): (Lane, usize),
        pulse: Option<Pulse>,
        around: Around,
    ) -> Self {
        Self {
            upstream,
            framer: Framer::new(event_bytes_max),
            lane,
            ready: VecDeque::new(),
            over: false,
            frames: 0,
            output_guess: 0,
            held_bytes: 0,
            pulse,
            around,
            lacks_room: false,
            ticket: None,
        }
    }

    /// Reads on until it is known whether there is an answer. `Err`: there is none, and nothing has been sent.
    ///
    /// Bounded by frames and bytes: an upstream that sends so much without output is answering all the same.
    pub(super) async fn first_output(&mut self, gate: Gate) -> Result<(), Unanswered> {
        loop {
            // Output before a fault in one chunk: the answer had begun, wherever the network cut it.
            if self.has_output() {
                return Ok(());
            }
            if self.lacks_room {
                return Err(Unanswered::Broken(ReadError::NoRoom));
            }
            if let Some(fault) = self.fault() {
                return Err(Unanswered::Fault(fault.clone()));
            }
            if self.over || gate.events <= self.frames || gate.bytes <= self.held_bytes {
                return Ok(());
            }
            match self.upstream.chunk().await {
                Some(Ok(chunk)) => self.feed(&chunk),
                Some(Err(error)) => return Err(Unanswered::Broken(error)),
                None => {
                    self.finish();
                    // A stream that ended without a word is no answer, though its bytes were in order.
                    if self.frames == 0 {
                        return Err(Unanswered::Fault(Fault::garbage("the upstream's stream was empty")));
                    }
                }
            }
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                if let Some(ticket) = &mut self.ticket {
                    ticket.sent(&bytes);
                }
                return Poll::Ready(Some(bytes));
            }
            if self.over {
                return Poll::Ready(None);
            }
            if self.around.drain.is_over() {
                self.around.drain.count_cut();
                self.fail(stopping());
                continue;
            }
            match self.upstream.poll_chunk(cx) {
                Poll::Ready(Some(Ok(chunk))) => self.feed(&chunk),
                Poll::Ready(Some(Err(error))) => self.fail(read_fault(&error)),
                Poll::Ready(None) => self.finish(),
                Poll::Pending => return self.poll_pulse(cx).map(Some),
            }
        }
    }

    /// Keeps the client's connection alive while the answer pauses; after its end there is nothing left to wait for.
    fn poll_pulse(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        let has_ended = match &self.lane {
            Lane::Verbatim(lane) => lane.finished,
            Lane::Translated(lane) => lane.translator.seen().ended,
        };
        match (&mut self.pulse, self.upstream.silent_since()) {
            (Some(pulse), Some(since)) if !has_ended => pulse.poll(cx, since),
            _ => Poll::Pending,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.over && self.ready.is_empty()
    }

    fn fault(&self) -> Option<&Fault> {
        match &self.lane {
            Lane::Verbatim(lane) => lane.fault.as_ref(),
            Lane::Translated(lane) => lane.translator.seen().fault.as_ref(),
        }
    }

    fn has_output(&self) -> bool {
        match &self.lane {
            Lane::Verbatim(lane) => lane.output || lane.finished,
            Lane::Translated(lane) => lane.translator.seen().output || lane.translator.seen().ended,
        }
    }

    /// Whether the model is known to think.
    pub(super) fn has_begun(&self) -> bool {
        match &self.lane {
            Lane::Verbatim(lane) => lane.begun,
            Lane::Translated(lane) => lane.begun,
        }
    }

    fn usage(&self) -> Usage {
        match &self.lane {
            Lane::Verbatim(lane) => lane.usage,
            Lane::Translated(lane) => lane.translator.seen().usage,
        }
    }

    fn feed(&mut self, chunk: &Bytes) {
        let held_before = self.framer.held_len();
        self.framer.push(chunk.clone());
        let mut taken = 0_usize;
        // How much of the chunk went on with the frame that began before it.
        let mut sent = 0;
        while let Some(next) = self.framer.next() {
            let Ok(frame) = next else {
                return self.fail(Fault::garbage(TOO_LONG));
            };
            self.frames = self.frames.saturating_add(1);
            match &mut self.lane {
                Lane::Translated(lane) => lane.frame(&frame, &self.around.secrets),
                Lane::Verbatim(lane) => {
                    if let Some(clean) = lane.look(&frame, &self.around.secrets) {
                        // What stands before it in this chunk goes as it came.
                        let end = chunk.len().saturating_sub(self.framer.held_len());
                        let begin = end.saturating_sub(frame.raw().len());
                        if lane.model.is_none() && sent < begin {
                            self.ready.push_back(chunk.slice(sent..begin));
                        }
                        self.ready.push_back(clean);
                        sent = end;
                    } else if lane.model.is_some() {
                        self.ready.push_back(lane.renamed(&frame).unwrap_or_else(|| frame.raw().clone()));
                    } else if taken == 0 && 0 < held_before {
                        sent = frame.raw().len().saturating_sub(held_before);
                        self.ready.push_back(frame.raw().clone());
                    }
                }
            }
            taken += 1;
            if self.has_output() {
                self.output_guess += tokens_in(frame.raw().len());
            }
        }
        if !self.around.room.fit(self.framer.held_len()) {
            self.lacks_room = true;
            return self.fail(no_room());
        }
        match &mut self.lane {
            Lane::Translated(lane) => {
                lane.cut(&mut self.ready);
                if lane.translator.is_complete() {
                    self.upstream.hasten(COUNTS_WAIT_MAX);
                }
            }
            // The other whole frames of the chunk lie side by side: one slice, not one each.
            Lane::Verbatim(lane) if lane.model.is_none() && 0 < taken => {
                let end = chunk.len().saturating_sub(self.framer.held_len());
                if sent < end {
                    self.ready.push_back(chunk.slice(sent..end));
                }
            }
            Lane::Verbatim(_) => {}
        }
        self.held_bytes = self.ready.iter().map(Bytes::len).sum();
    }

    /// The upstream's bytes have ended.
    fn finish(&mut self) {
        let tail = self.framer.finish();
        self.over = true;
        match &mut self.lane {
            Lane::Translated(lane) => {
                if let Some(frame) = tail {
                    self.frames = self.frames.saturating_add(1);
                    lane.frame(&frame, &self.around.secrets);
                }
                lane.translator.finish(&mut lane.scratch);
                lane.cut(&mut self.ready);
            }
            Lane::Verbatim(lane) => {
                // A last event without its blank line still counts, if it is all there.
                if let Some(frame) = tail.filter(is_whole) {
                    self.frames = self.frames.saturating_add(1);
                    let clean = lane.look(&frame, &self.around.secrets).or_else(|| lane.renamed(&frame));
                    self.ready.push_back(clean.unwrap_or_else(|| frame.raw().clone()));
                    if !lane.finished && lane.fault.is_none() {
                        // What is told next must be an event of its own.
                        self.ready.push_back(Bytes::from_static(b"\n\n"));
                    }
                }
                if !lane.finished && lane.fault.is_none() {
                    let fault = Fault::garbage("the upstream's stream ended before its answer did");
                    lane.tell(fault, &mut self.ready);
                }
            }
        }
    }

    /// Breaks the stream off, and says so in the client's format.
    fn fail(&mut self, fault: Fault) {
        self.over = true;
        match &mut self.lane {
            // The client has the whole answer, or has been told why not: there is nothing left to break.
            Lane::Verbatim(lane) if lane.ended || lane.fault.is_some() => {}
            Lane::Verbatim(lane) => lane.tell(fault, &mut self.ready),
            Lane::Translated(lane) => {
                lane.translator.fail(fault, &mut lane.scratch);
                lane.cut(&mut self.ready);
            }
        }
    }
}

/// Tokens that an event of so many bytes brings, for who is not told: one, and more where it is longer than the few words of
/// most events and all that is around them.
fn tokens_in(event_bytes: usize) -> u64 {
    1 + event_bytes.saturating_sub(EVENT_BYTES_USUAL) as u64 / 4
}

/// As long as an event is that brings a word: OpenAI's have 200 to 350 bytes, Anthropic's 120.
const EVENT_BYTES_USUAL: usize = 350;

impl Drop for Relay {
    fn drop(&mut self) {
        let Some(mut ticket) = self.ticket.take() else {
            return;
        };
        ticket.record().usage = self.usage();
        ticket.record().output_guess = self.output_guess;
        // Whoever has had the last event need not wait for the end of the bytes.
        let has_all = matches!(&self.lane, Lane::Verbatim(lane) if lane.ended) && self.ready.is_empty();
        if self.is_over() || has_all {
            match self.fault() {
                None => ticket.complete(),
                Some(fault) => {
                    let why = fault.to_string();
                    ticket.broken(self.around.secrets.hidden(&why).unwrap_or(why));
                }
            }
        }
    }
}

impl Verbatim {
    /// Notes what a frame says. Gives one that tells of a fault without the keys it repeats; any other is not looked through.
    fn look(&mut self, frame: &Frame, secrets: &Secrets) -> Option<Bytes> {
        let past = if self.output { Past::Output } else { Past::Nothing };
        let seen = (self.format.codec().inspect)(frame, past);
        if let Some(usage) = seen.usage {
            self.usage.update(&usage);
        }
        if self.format.codec().numbers_events {
            self.note(frame);
        }
        match seen.sign {
            Sign::Quiet => {}
            Sign::Begun => self.begun = true,
            Sign::Output => self.output = true,
            Sign::Finished => {
                self.output = true;
                self.awaited = self.awaited.map(|awaited| awaited & !seen.finished);
                self.finished |= self.awaited.unwrap_or(0) == 0;
            }
            Sign::Over => (self.finished, self.ended) = (true, true),
            Sign::Fault(fault) => {
                // After the end there is nothing left to break.
                if !self.finished {
                    self.fault = Some(fault);
                }
                return secrets.hidden_in(frame.raw()).map(Bytes::from);
            }
        }
        None
    }

    /// Notes what an error would go on from: the first frame that tells of the response, and the last that has a number.
    fn note(&mut self, frame: &Frame) {
        let raw = frame.raw();
        let (first, last) = self.given.get_or_insert_default();
        if memmem::find(raw, b"\"sequence_number\"").is_some() {
            last.clone_from(raw);
        }
        if first.is_empty() && memmem::find(raw, b"\"response\"").is_some() {
            let model = self.model.as_ref();
            *first = model.and_then(|model| rename::in_frame(raw, model)).unwrap_or_else(|| raw.clone());
        }
    }

    /// The frame with the model's name replaced, where it carries one and that is asked for.
    fn renamed(&self, frame: &Frame) -> Option<Bytes> {
        let model = self.model.as_ref()?;
        rename::in_frame(frame.raw(), model)
    }

    fn tell(&mut self, fault: Fault, ready: &mut VecDeque<Bytes>) {
        let mut event = Vec::new();
        let (first, last) = self.given.take().map(|(first, last)| (Frame::of(first), Frame::of(last))).unzip();
        let [first, last] = [&first, &last].map(|frame| frame.as_ref().and_then(Frame::data).unwrap_or_default());
        let [first, last] = [&first, &last].map(|data| std::str::from_utf8(data).unwrap_or_default());
        (self.format.codec().encode_fault_event)(&fault, Given { first, last }, &mut event);
        ready.push_back(event.into());
        self.fault = Some(fault);
    }
}

impl Translated {
    /// Translates a frame; a fault is told without the keys it repeats.
    fn frame(&mut self, frame: &Frame, secrets: &Secrets) {
        if !self.begun && !self.translator.seen().output {
            let seen = (self.from.codec().inspect)(frame, Past::Nothing);
            self.begun = matches!(seen.sign, Sign::Begun);
        }
        self.translator.frame(frame, &mut self.scratch);
        if self.translator.seen().fault.is_some()
            && let Some(clean) = secrets.hidden_in(&self.scratch)
        {
            self.scratch = clean;
        }
    }

    /// Moves what was written into a piece of the pool.
    fn cut(&mut self, ready: &mut VecDeque<Bytes>) {
        if !self.scratch.is_empty() {
            self.pool.extend_from_slice(&self.scratch);
            self.scratch.clear();
            ready.push_back(self.pool.split().freeze());
        }
    }
}

/// Whether a frame that lacks its blank line was cut by the end of the stream rather than by a fault.
fn is_whole(frame: &Frame) -> bool {
    let Some(data) = frame.data() else {
        return true;
    };
    let Ok(text) = std::str::from_utf8(&data) else {
        return false;
    };
    let mut cursor = crate::wire::json::Cursor::new(text);
    text.trim() == "[DONE]" || cursor.skip().and_then(|_| cursor.end()).is_ok()
}

/// Why there is no answer after all.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// The stream said so itself.
    Fault(Fault),
    Broken(ReadError),
}

/// A break after output, in words for the client.
pub(super) fn read_fault(error: &ReadError) -> Fault {
    match error {
        ReadError::Idle | ReadError::Total => {
            Fault::new(504, FaultKind::Timeout, "the upstream stopped answering in the middle of its reply")
        }
        ReadError::TooLong => Fault::garbage("the upstream's reply is longer than allowed"),
        ReadError::NoRoom => no_room(),
        ReadError::Broken(_) | ReadError::Encoding => {
            Fault::garbage("the connection to the upstream broke in the middle of its reply")
        }
    }
}

/// The proxy holds as much as it may.
pub(super) fn no_room() -> Fault {
    Fault::new(503, FaultKind::Unavailable, "the proxy holds as many bytes as it may (held_bytes); try again soon")
}

/// How long the counts are waited for once an answer is complete: some upstreams neither send them nor close.
const COUNTS_WAIT_MAX: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::gateway::capacity::Capacity;
    use crate::route::table::Timeouts;
    use crate::wire::sse::FRAME_BYTES_MAX;

    fn surroundings() -> Around {
        let room = Capacity::new(1, FRAME_BYTES_MAX).room();
        Around { drain: Arc::default(), room, secrets: Arc::default() }
    }

    /// What a client gets of these chunks, after which the upstream ends or breaks. `None`: nothing was sent.
    async fn relayed(format: Format, model: Option<&'static str>, chunks: Vec<Bytes>, breaks: bool) -> Option<Vec<u8>> {
        relayed_of(1, format, model, chunks, breaks).await
    }

    /// As `relayed`, for a client that asked for so many answers side by side.
    async fn relayed_of(
        answers: u64,
        format: Format,
        model: Option<&'static str>,
        chunks: Vec<Bytes>,
        breaks: bool,
    ) -> Option<Vec<u8>> {
        let mut chunks = VecDeque::from(chunks);
        let upstream = upstream::Body::steps(move |_| {
            let end = || breaks.then(|| Err(ReadError::Idle));
            Poll::Ready(chunks.pop_front().map(Ok).or_else(end))
        });
        let model = model.map(|m| Bytes::from_static(m.as_bytes()));
        let lane = (Lane::verbatim(format, model, answers), FRAME_BYTES_MAX);
        let mut relay = Relay::new(upstream, lane, None, surroundings());
        relay.first_output(Gate::within(Duration::from_secs(1))).await.ok()?;
        let mut got = Vec::new();
        while let Some(bytes) = poll_fn(|cx| relay.poll(cx)).await {
            assert!(!bytes.is_empty(), "no empty chunk is sent");
            got.extend_from_slice(&bytes);
        }
        assert!(relay.is_over(), "it ended");
        Some(got)
    }

    /// Whether a client is sent a sign of life while the upstream pauses after these bytes.
    async fn beats_after(format: Format, text: &'static str) -> bool {
        let mut chunk = Some(Bytes::from_static(text.as_bytes()));
        let long = Duration::from_secs(60);
        let timeouts = Timeouts { connect: long, first_byte: long, idle: long, total: long };
        let upstream = upstream::Body::steps(move |_| match chunk.take() {
            Some(chunk) => Poll::Ready(Some(Ok(chunk))),
            None => Poll::Pending,
        });
        let pulse = Pulse::new(Duration::from_millis(5), format);
        let lane = Lane::verbatim(format, None, 1);
        let lane = (lane, FRAME_BYTES_MAX);
        let mut relay = Relay::new(upstream.timed(&timeouts), lane, Some(pulse), surroundings());
        assert!(relay.first_output(Gate::within(long)).await.is_ok(), "output has come");
        let got = poll_fn(|cx| relay.poll(cx)).await;
        assert_eq!(got.as_deref(), Some(text.as_bytes()));
        tokio::time::timeout(Duration::from_millis(60), poll_fn(|cx| relay.poll(cx))).await.is_ok()
    }

    #[tokio::test]
    async fn a_sign_of_life_comes_in_an_answers_pause_and_not_after_its_end() {
        let chat = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
        let chat_end =
            "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
        let end = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
        assert!(beats_after(Format::OpenaiChat, chat).await, "the answer goes on");
        assert!(!beats_after(Format::OpenaiChat, chat_end).await, "it is over");
        assert!(!beats_after(Format::Anthropic, end).await, "it is over");
    }

    fn one(text: &'static str) -> Vec<Bytes> {
        vec![Bytes::from_static(text.as_bytes())]
    }

    #[tokio::test]
    async fn whatever_the_bytes_and_the_cuts_they_come_out_as_they_went_in() {
        const PIECES: [&[u8]; 16] = [
            b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}",
            b"data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"a\"}}",
            b"data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}",
            b"data: {\"error\":{\"message\":\"m\"}}",
            b"event: content_block_delta",
            b"event: error",
            b"data",
            b": ping",
            b"\xef\xbb\xbf",
            b"\xff\xfe",
            "d\u{e9}j\u{e0}".as_bytes(),
            b"\n",
            b"\n\n",
            b"\r",
            b"\r\n",
            b"\r\n\r\n",
        ];
        let mut x = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move |n: usize| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            usize::try_from(x % 1_000_003).unwrap() % n
        };
        let ends = [
            (Format::OpenaiChat, "\n\ndata: [DONE]\n\n"),
            (Format::Anthropic, "\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"),
        ];
        let mut sent = 0;
        for round in 0..4000 {
            let (format, end) = ends[round % 2];
            let mut input: Vec<u8> = (0..random(12)).flat_map(|_| PIECES[random(PIECES.len())]).copied().collect();
            input.extend_from_slice(end.as_bytes());
            let mut rest = Bytes::from(input.clone());
            let mut chunks = Vec::new();
            let longest = 1 + random(40);
            while !rest.is_empty() {
                chunks.push(rest.split_to(rest.len().min(1 + random(longest))));
            }
            // Half of them go frame by frame: no frame here names a model.
            let model = (random(2) == 0).then_some("\"m\"");
            let Some(got) = relayed(format, model, chunks, random(2) == 0).await else {
                continue;
            };
            sent += 1;
            assert_eq!(got.escape_ascii().to_string(), input.escape_ascii().to_string());
        }
        assert!(2000 < sent, "most are answers: {sent}");
    }

    #[tokio::test]
    async fn a_break_is_told_in_an_event_of_its_own() {
        let output = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";
        for tail in [": ping", "data: {\"choices\":[]}", "data: {\"choices\":[]}\n", "event: x\r\n", "data: {\"cho", ""]
        {
            let chunks = vec![Bytes::from(format!("{output}{tail}"))];
            let got = relayed(Format::OpenaiChat, None, chunks, false).await.unwrap();
            let mut framer = Framer::new(FRAME_BYTES_MAX);
            framer.push(got.into());
            let last = std::iter::from_fn(|| framer.next()).last().unwrap().unwrap();
            let told = last.data().unwrap();
            assert!(told.starts_with(b"{\"error\":") && told.ends_with(b"}"), "{tail:?}: {}", told.escape_ascii());
        }
    }

    #[tokio::test]
    async fn several_answers_are_complete_when_each_of_them_is() {
        let ends = |index: u64| {
            format!("data: {{\"choices\":[{{\"index\":{index},\"delta\":{{}},\"finish_reason\":\"stop\"}}]}}\n\n")
        };
        for (answers, indices, is_whole) in [
            (1, [0, 0].as_slice(), true),
            (1, &[3], true),
            (2, &[0, 0], false),
            (2, &[1, 0], true),
            (3, &[0, 1], false),
            (128, &[127], false),
        ] {
            let text: String = indices.iter().copied().map(ends).collect();
            let chunks = vec![Bytes::from(text.clone())];
            let got = relayed_of(answers, Format::OpenaiChat, None, chunks, false).await.unwrap();
            assert_eq!(got == text.as_bytes(), is_whole, "{answers}: {}", got.escape_ascii());
        }
    }

    #[tokio::test]
    async fn after_the_last_event_there_is_nothing_left_to_break() {
        let done = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\ndata: [DONE]\n\n";
        let stopped = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
        for (format, text) in [(Format::OpenaiChat, done), (Format::Anthropic, stopped)] {
            let got = relayed(format, None, one(text), true).await.unwrap();
            assert_eq!(String::from_utf8(got).unwrap(), text);
        }
        // One of two choices has ended: the other may not have.
        let half = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
        let got = String::from_utf8(relayed(Format::OpenaiChat, None, one(half), true).await.unwrap()).unwrap();
        assert!(got.len() > half.len() && got.contains("error"), "{got}");
    }
}
