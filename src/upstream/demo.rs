//! The demo provider: answers in-process, in any format, without network or key.
//!
//! For a first run, for the tests of applications, and for benchmarks. It reads a request and writes its reply through
//! the format's own codec, so it speaks every format there is, and it is deterministic: the same request gives the
//! same bytes. It echoes the last text of the user, word by word when streamed. Where tools are offered it calls the
//! first one (or the one that is demanded) with arguments made from its schema, and once it is told the result it
//! answers with text again. Where JSON is demanded it answers with JSON. Tokens are guessed.
//!
//! The user's text can tell it to misbehave. Words may be combined; a number follows its word after a space.
//!
//! ```text
//! demo:fail 503   answers with this status, and an error in the format's words
//! demo:stall 5    waits so many seconds before the first byte; without a number, until the client leaves
//! demo:cut        ends in the middle: a stream without its last events, a whole body short of its length
//! demo:slow 50    waits so many milliseconds between two words
//! demo:think      thinks before it answers
//! ```

mod example;

use std::collections::VecDeque;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::time::Instant;

use crate::upstream::Answer;
use crate::upstream::body::Body;
use crate::upstream::error::ReadError;
use crate::upstream::watch::{Watch, from_now};
use crate::wire::event::{Delta, Event, Open, Reason, Sink, Stop, Usage};
use crate::wire::fault::{Fault, FaultKind};
use crate::wire::json::JsonStr;
use crate::wire::loss::Losses;
use crate::wire::prompt::{Args, Block, BlockKind, Choice, Function, Output, Prompt, Role, Tool};
use crate::wire::reply::Reply;
use crate::wire::tokens::{estimate, estimate_text};
use crate::wire::{Codec, Format, Memory, StreamEncoder};

/// Answers one request of a format.
#[must_use]
pub fn answer(format: Format, body: &Bytes) -> Answer {
    let codec = format.codec();
    let Ok(text) = std::str::from_utf8(body) else {
        return failed(codec, &Fault::invalid("the body is not UTF-8"));
    };
    let mut prompt = match (codec.decode_request)(text, &mut Losses::default()) {
        Ok(prompt) => prompt,
        Err(refusal) => {
            return failed(codec, &Fault::invalid(refusal.message).param(refusal.place.path(text)));
        }
    };
    let words = prompt.turns.iter().rev().find(|t| t.role == Role::User).and_then(|t| last_text(&t.blocks));
    let orders = Orders::read(words.as_deref().unwrap_or_default());
    let mut memory =
        Memory { created: CREATED, seed: hash(body), input_estimate: estimate(text, format), ..Memory::default() };
    memory.note(&mut prompt);
    let script = Script::new(&prompt, words.as_deref().unwrap_or_default(), &orders, &memory);
    if let Some(status) = orders.fail {
        let message = format!("demo: failing with {status} as told");
        let failed = failed(codec, &Fault::new(status, FaultKind::of_status(status), message));
        return Answer { body: orders.delayed(failed.body), ..failed };
    }
    if prompt.stream {
        streamed((codec.encoder)(&memory), script, &orders)
    } else {
        whole(codec, script, &memory, &orders)
    }
}

/// Counts a request's input tokens as its answer's usage would.
#[must_use]
pub fn count(format: Format, body: &Bytes) -> Answer {
    let tokens = estimate(&String::from_utf8_lossy(body), format);
    let kind = if format == Format::OpenaiResponses { "\"object\":\"response.input_tokens\"," } else { "" };
    complete(StatusCode::OK, format!("{{{kind}\"input_tokens\":{tokens}}}").into())
}

/// When every reply says it was made: replies do not change from run to run. The first second of 2026.
const CREATED: u64 = 1_767_225_600;

/// FNV-1a, for ids that are the same for the same request.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3))
}

fn failed(codec: &Codec, fault: &Fault) -> Answer {
    let mut body = Vec::new();
    (codec.encode_fault)(fault, "req_demo", &mut body);
    let status = StatusCode::from_u16(fault.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    complete(status, body.into())
}

fn complete(status: StatusCode, body: Bytes) -> Answer {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    Answer { status, headers, body: Body::whole(body), reused: false }
}

fn whole(codec: &Codec, mut script: Script, memory: &Memory, orders: &Orders) -> Answer {
    let mut reply = Reply::default();
    // What cuts a stream cuts the bytes here.
    script.cut = false;
    while let Some(event) = script.next() {
        reply.event(event);
    }
    let mut body = Vec::new();
    (codec.encode_reply)(&reply, memory, &mut body);
    let body = Bytes::from(body);
    let mut answer = complete(StatusCode::OK, body.clone());
    if orders.cut {
        let mut half = Some(body.slice(..body.len() / 2));
        answer.body = Body::steps(move |_| {
            Poll::Ready(Some(half.take().ok_or_else(|| ReadError::Broken("demo: cut as told".into()))))
        });
    }
    Answer { body: orders.delayed(answer.body), ..answer }
}

fn streamed(mut encoder: Box<dyn StreamEncoder>, mut script: Script, orders: &Orders) -> Answer {
    let slow = orders.slow;
    let mut pause: Option<Pause> = None;
    let body = Body::steps(move |cx| {
        if let Some(pause) = &mut pause {
            ready!(pause.poll(cx));
        }
        pause = None;
        let mut out = Vec::new();
        while out.is_empty() {
            let Some(event) = script.next() else {
                return Poll::Ready(None);
            };
            encoder.event(&event, &mut out);
        }
        // Others run between two words, so that each is written by itself.
        pause = Some(slow.map_or(Pause::Turn(false), Pause::until));
        Poll::Ready(Some(Ok(out.into())))
    });
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    Answer { status: StatusCode::OK, headers, body: orders.delayed(body), reused: false }
}

/// How it is told to misbehave.
#[derive(Debug, Default, Eq, PartialEq)]
struct Orders {
    fail: Option<u16>,
    /// `Some(None)`: for ever.
    stall: Option<Option<Duration>>,
    cut: bool,
    slow: Option<Duration>,
    think: bool,
}

impl Orders {
    fn read(text: &str) -> Self {
        let mut orders = Self::default();
        let mut words = text.split_whitespace().peekable();
        while let Some(word) = words.next() {
            let number = words.peek().and_then(|n| n.parse::<u64>().ok()).map(|n| n.min(3_600_000));
            match word {
                "demo:fail" => {
                    orders.fail = number.and_then(|n| u16::try_from(n).ok()).filter(|n| (400..600).contains(n));
                }
                "demo:stall" => orders.stall = Some(number.map(Duration::from_secs)),
                "demo:cut" => orders.cut = true,
                "demo:slow" => orders.slow = number.map(Duration::from_millis),
                "demo:think" => orders.think = true,
                // Only what we say ourselves would be anything else.
                _ => {}
            }
        }
        orders
    }

    /// The body after the stall that is asked for.
    fn delayed(&self, mut body: Body) -> Body {
        let Some(stall) = self.stall else {
            return body;
        };
        let mut pause = stall.map(Pause::until);
        Body::steps(move |cx| match &mut pause {
            // Nothing wakes it: the client leaves, or a clock of the gateway strikes.
            None => Poll::Pending,
            Some(pause) => {
                ready!(pause.poll(cx));
                body.poll_chunk(cx)
            }
        })
    }
}

/// Something to wait for between two chunks.
#[derive(Debug)]
enum Pause {
    /// Until others have run; whether they have.
    Turn(bool),
    Until(Instant, Option<Watch>),
    Over,
}

impl Pause {
    fn until(duration: Duration) -> Self {
        Self::Until(from_now(duration), None)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Turn(false) => {
                cx.waker().wake_by_ref();
                *self = Self::Turn(true);
                return Poll::Pending;
            }
            Self::Until(at, watch) => ready!(watch.get_or_insert_with(|| Watch::new(*at)).poll_past(cx, *at)),
            Self::Turn(true) | Self::Over => {}
        }
        *self = Self::Over;
        Poll::Ready(())
    }
}

/// An answer, told event by event.
#[derive(Debug)]
struct Script {
    at: At,
    parts: VecDeque<Part>,
    reason: Reason,
    usage: Usage,
    cut: bool,
}

#[derive(Clone, Copy, Debug)]
enum At {
    Start,
    /// The first part is to be opened, or there is none left.
    Between,
    /// So many bytes of the first part have been told.
    Inside(usize),
    Stop,
    End,
    Over,
}

/// One block of the answer.
#[derive(Debug)]
enum Part {
    Thinking(String),
    Text(String),
    Call { name: JsonStr<'static>, id: String, args: String },
}

impl Script {
    fn new(prompt: &Prompt<'_>, words: &str, orders: &Orders, memory: &Memory) -> Self {
        let mut parts = VecDeque::new();
        if orders.think {
            parts.push_back(Part::Thinking("The user said something. It is said back.".to_owned()));
        }
        let call = chosen(prompt);
        let reason = if call.is_some() { Reason::ToolUse } else { Reason::EndTurn };
        parts.push_back(match call {
            Some(tool) => Part::Call {
                name: tool.name.clone().into_owned(),
                id: format!("call_demo{:016x}", memory.seed),
                args: tool.schema.as_ref().map_or_else(|| "{}".to_owned(), example::of),
            },
            None => Part::Text(said(prompt, words)),
        });
        let output = parts.iter().map(|p| estimate_text(p.text())).sum();
        let usage = Usage { input: Some(memory.input_estimate), output: Some(output), ..Usage::default() };
        Self { at: At::Start, parts, reason, usage, cut: orders.cut }
    }

    fn next(&mut self) -> Option<Event<'static>> {
        match self.at {
            At::Start => {
                self.at = At::Between;
                let usage = Usage { output: None, ..self.usage };
                Some(Event::Start { id: None, model: None, usage })
            }
            At::Between => match self.parts.front() {
                Some(part) => {
                    self.at = At::Inside(0);
                    Some(Event::Open(part.open()))
                }
                None => {
                    self.at = At::Stop;
                    Some(Event::Usage(self.usage))
                }
            },
            At::Inside(from) => {
                let part = self.parts.front()?;
                let text = part.text();
                if self.cut && text.len() <= from * 2 && 0 < from {
                    return None;
                }
                let to = part.word_end(from);
                match text.get(from..to) {
                    Some(word) if !word.is_empty() => {
                        self.at = At::Inside(to);
                        Some(Event::Delta(part.delta(word)))
                    }
                    _ => {
                        self.at = At::Between;
                        self.parts.pop_front();
                        Some(Event::Close)
                    }
                }
            }
            At::Stop => {
                self.at = At::End;
                Some(Event::Stop(Stop::because(self.reason)))
            }
            At::End => {
                self.at = At::Over;
                Some(Event::End)
            }
            At::Over => None,
        }
    }
}

impl Part {
    fn text(&self) -> &str {
        match self {
            Self::Thinking(text) | Self::Text(text) | Self::Call { args: text, .. } => text,
        }
    }

    fn open(&self) -> Open<'static> {
        match self {
            Self::Thinking(_) => Open::Thinking,
            Self::Text(_) => Open::Text,
            Self::Call { name, id, .. } => Open::ToolUse { id: JsonStr::quoted(id), name: name.clone() },
        }
    }

    fn delta(&self, word: &str) -> Delta<'static> {
        let word = JsonStr::quoted(word);
        match self {
            Self::Thinking(_) => Delta::Thinking(word),
            Self::Text(_) => Delta::Text(word),
            Self::Call { .. } => Delta::Args(Args::Text(word)),
        }
    }

    /// Where the word that begins at `from` ends, with the white space (of arguments: the comma) that follows it.
    fn word_end(&self, from: usize) -> usize {
        let ends = match self {
            Self::Thinking(_) | Self::Text(_) => char::is_whitespace,
            Self::Call { .. } => |c: char| c == ',',
        };
        let text = self.text();
        let mut ended = false;
        for (at, c) in text.get(from..).unwrap_or_default().char_indices() {
            if ends(c) {
                ended = true;
            } else if ended {
                return from + at;
            }
        }
        text.len()
    }
}

/// The tool to call: the one demanded or the first, unless a result is there or the last word is not the user's.
fn chosen<'p>(prompt: &'p Prompt<'_>) -> Option<&'p Function<'p>> {
    let last = prompt.turns.last().filter(|t| t.role == Role::User)?;
    if last.blocks.iter().any(|b| matches!(b.kind, BlockKind::ToolResult { .. })) {
        return None;
    }
    let mut functions = prompt.tools.iter().filter_map(|tool| match tool {
        Tool::Function(function) => Some(function),
        Tool::Foreign { .. } => None,
    });
    match &prompt.choice {
        Some(Choice::None) => None,
        Some(Choice::Tool(name)) => functions.find(|f| f.name == *name),
        Some(Choice::Auto | Choice::Any) | None => functions.next(),
    }
}

/// The text of the answer.
fn said(prompt: &Prompt<'_>, words: &str) -> String {
    let clip = |text: &str| text.get(..text.floor_char_boundary(ECHO_BYTES_MAX)).unwrap_or_default().to_owned();
    let results: Vec<String> = match prompt.turns.last() {
        Some(turn) => turn.blocks.iter().filter_map(result).collect(),
        None => Vec::new(),
    };
    match &prompt.output {
        Some(Output::Schema { schema, .. }) => example::of(schema),
        Some(Output::Json) => format!("{{\"demo\": \"{}\"}}", JsonStr::quoted(&clip(words)).literal()),
        None if results.is_empty() => format!("demo: {}", clip(words)),
        None => format!("demo: tool said {}", clip(&results.join(", "))),
    }
}

/// Most of a text that is said back: an answer is not to be as long as a prompt may be.
const ECHO_BYTES_MAX: usize = 16 * 1024;

/// What a tool answered, as far as it is text.
fn result(block: &Block<'_>) -> Option<String> {
    let BlockKind::ToolResult { content, .. } = &block.kind else {
        return None;
    };
    Some(last_text(content).unwrap_or_default())
}

/// The last text: what agents put before it are reminders.
fn last_text(blocks: &[Block<'_>]) -> Option<String> {
    blocks.iter().rev().find_map(|block| {
        let BlockKind::Text(text) = &block.kind else {
            return None;
        };
        Some(text.decode().into_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::event::Grammar;
    use crate::wire::sse::Framer;

    /// A minimal request of each format.
    fn request(format: Format, last: &str, more: &str) -> Bytes {
        let text = JsonStr::quoted(last);
        let text = text.literal();
        let said = match format {
            Format::OpenaiChat | Format::Anthropic => "\"max_tokens\":99,\"messages\"",
            Format::OpenaiResponses => "\"input\"",
        };
        format!("{{\"model\":\"demo\"{more},{said}:[{{\"role\":\"user\",\"content\":\"{text}\"}}]}}").into()
    }

    const STREAM: &str = ",\"stream\":true";

    async fn read(answer: Answer) -> (Vec<Bytes>, Option<ReadError>) {
        let mut body = answer.body;
        let mut chunks = Vec::new();
        while let Some(chunk) = body.chunk().await {
            match chunk {
                Ok(chunk) => chunks.push(chunk),
                Err(e) => return (chunks, Some(e)),
            }
        }
        (chunks, None)
    }

    /// What the format's own decoder makes of an answer, as kinds of events and the text in them.
    async fn told(format: Format, answer: Answer) -> (String, Vec<&'static str>) {
        let is_stream = answer.headers[header::CONTENT_TYPE] == "text/event-stream";
        let (chunks, error) = read(answer).await;
        assert!(error.is_none(), "{error:?}");
        let mut text = String::new();
        let mut kinds = Vec::new();
        let mut grammar = Grammar::default();
        let mut see = |event: Event<'_>| {
            assert_eq!(grammar.step(&event), Ok(()), "{event:?}");
            let kind = match &event {
                Event::Start { .. } | Event::Close | Event::Ping => return,
                Event::Open(Open::Text | Open::Refusal) => "text",
                Event::Open(Open::Thinking) => "thinking",
                Event::Open(Open::ToolUse { .. }) => "call",
                Event::Open(Open::RedactedThinking { .. } | Open::Foreign { .. }) => "other",
                Event::Delta(Delta::Text(t) | Delta::Args(Args::Text(t))) => {
                    text.push_str(&t.decode());
                    return;
                }
                Event::Delta(Delta::Args(Args::Json(j))) => {
                    text.push_str(j.as_str());
                    return;
                }
                Event::Delta(_) => return,
                Event::Usage(usage) => {
                    assert!(0 < usage.output.unwrap_or_default(), "{usage:?}");
                    "usage"
                }
                Event::Stop(stop) if stop.reason == Reason::ToolUse => "stop for a call",
                Event::Stop(_) => "stop",
                Event::End => "end",
                Event::Fault(fault) => panic!("{fault:?}"),
            };
            if kinds.last() != Some(&kind) {
                kinds.push(kind);
            }
        };
        if is_stream {
            let mut decoder = (format.codec().decoder)();
            let mut framer = Framer::new(1 << 20);
            for chunk in chunks {
                framer.push(chunk);
                while let Some(frame) = framer.next() {
                    let frame = frame.unwrap();
                    if let Some(data) = frame.data() {
                        decoder.frame(frame.name(), std::str::from_utf8(&data).unwrap(), &mut see);
                    }
                }
            }
            decoder.finish(&mut see);
        } else {
            let whole = chunks.concat();
            (format.codec().decode_reply)(std::str::from_utf8(&whole).unwrap(), &mut see);
        }
        kinds.retain(|k| *k != "usage");
        (text, kinds)
    }

    #[tokio::test]
    async fn says_back_what_was_said_in_every_format_whole_and_streamed() {
        for format in Format::ALL {
            for stream in ["", STREAM] {
                let answer = answer(format, &request(format, "hello \"dear\"\nworld", stream));
                assert_eq!(answer.status, 200);
                let (text, kinds) = told(format, answer).await;
                assert_eq!(text, "demo: hello \"dear\"\nworld", "{format}{stream}");
                assert_eq!(kinds, ["text", "stop", "end"], "{format}{stream}");
                let answer = super::answer(format, &request(format, "demo:think now", stream));
                assert_eq!(told(format, answer).await.1, ["thinking", "text", "stop", "end"], "{format}{stream}");
            }
        }
    }

    #[tokio::test]
    async fn each_word_is_a_chunk_and_nothing_changes_from_run_to_run() {
        for format in Format::ALL {
            let body = request(format, "one two three", STREAM);
            let (first, _) = read(answer(format, &body)).await;
            let words = |chunks: &[Bytes]| {
                let is_in = |c: &Bytes, word: &str| memchr::memmem::find(c, word.as_bytes()).is_some();
                // Where the end repeats the whole text, that is no word of it.
                let has = |c: &Bytes| {
                    ["demo:", "one", "two", "three"].iter().any(|w| is_in(c, w)) && !is_in(c, "demo: one two")
                };
                chunks.iter().filter(|c| has(c)).count()
            };
            assert_eq!(words(&first), 4, "{format}: {first:?}");
            assert_eq!(read(answer(format, &body)).await.0, first);
        }
    }

    #[tokio::test]
    async fn calls_a_tool_and_then_says_what_it_said() {
        let schema = r#"{"type":"object","properties":{"city":{"type":"string"},"days":{"type":"integer"}}}"#;
        let offers = [
            (
                Format::OpenaiChat,
                format!(r#","tools":[{{"type":"function","function":{{"name":"weather","parameters":{schema}}}}}]"#),
                r#"{"role":"assistant","tool_calls":[{"id":"c1","type":"function","function":{"name":"weather","arguments":"{}"}}]},{"role":"tool","tool_call_id":"c1","content":"rain"}"#,
            ),
            (
                Format::Anthropic,
                format!(r#","tools":[{{"name":"weather","input_schema":{schema}}}]"#),
                r#"{"role":"assistant","content":[{"type":"tool_use","id":"c1","name":"weather","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"c1","content":"rain"}]}"#,
            ),
            (
                Format::OpenaiResponses,
                format!(r#","tools":[{{"type":"function","name":"weather","parameters":{schema}}}]"#),
                r#"{"type":"function_call","call_id":"c1","name":"weather","arguments":"{}"},{"type":"function_call_output","call_id":"c1","output":"rain"}"#,
            ),
        ];
        assert_eq!(offers.len(), Format::ALL.len());
        for (format, offer, result) in offers {
            for stream in ["", STREAM] {
                let body = request(format, "how is the weather", &format!("{offer}{stream}"));
                let (text, kinds) = told(format, answer(format, &body)).await;
                assert_eq!(text, r#"{"city":"demo","days":1}"#, "{format}");
                assert_eq!(kinds, ["call", "stop for a call", "end"], "{format}");

                let body = String::from_utf8(body.to_vec()).unwrap();
                let body = format!("{},{result}]}}", body.strip_suffix("]}").unwrap());
                let (text, kinds) = told(format, answer(format, &body.into())).await;
                assert_eq!((text.as_str(), &kinds[..]), ("demo: tool said rain", &["text", "stop", "end"][..]));
            }
        }
    }

    #[tokio::test]
    async fn misbehaves_as_told() {
        for format in Format::ALL {
            for stream in ["", STREAM] {
                let failed = answer(format, &request(format, "please demo:fail 529 now", stream));
                assert_eq!(failed.status, 529);
                let (chunks, _) = read(failed).await;
                assert_eq!(Fault::read(529, &chunks.concat()).message, "demo: failing with 529 as told");

                let mut stalled = answer(format, &request(format, "demo:stall", stream)).body;
                let waited = tokio::time::timeout(Duration::from_millis(20), stalled.chunk()).await;
                assert!(waited.is_err(), "{format}: not a byte");
                let (text, _) = told(format, answer(format, &request(format, "demo:stall 0", stream))).await;
                assert_eq!(text, "demo: demo:stall 0");
            }
            let whole = answer(format, &request(format, "demo:cut", ""));
            let length: usize = whole.headers[header::CONTENT_LENGTH].to_str().unwrap().parse().unwrap();
            let (chunks, error) = read(whole).await;
            assert!(matches!(error, Some(ReadError::Broken(_))) && chunks.concat().len() < length, "{format}");

            let (chunks, error) = read(answer(format, &request(format, "demo:cut one two three", STREAM))).await;
            let bytes = chunks.concat();
            assert!(error.is_none() && memchr::memmem::find(&bytes, b"demo:").is_some(), "{format}: it began");
            for end in [&b"three"[..], b"[DONE]", b"message_stop", b"response.completed", b"finish_reason\":\"stop"] {
                assert!(memchr::memmem::find(&bytes, end).is_none(), "{format}: and did not end");
            }
        }
    }

    #[tokio::test]
    async fn slow_waits_between_words() {
        let started = Instant::now();
        let (text, _) = told(
            Format::OpenaiChat,
            answer(Format::OpenaiChat, &request(Format::OpenaiChat, "demo:slow 5 a b", STREAM)),
        )
        .await;
        assert_eq!(text, "demo: demo:slow 5 a b");
        assert!(Duration::from_millis(25) <= started.elapsed(), "five words");
    }

    #[tokio::test]
    async fn a_request_it_cannot_read_is_refused_in_the_formats_words() {
        for format in Format::ALL {
            for body in [&b"{"[..], b"\xff", b"[]"] {
                let refused = answer(format, &Bytes::from_static(body));
                assert_eq!(refused.status, 400);
                assert!(!Fault::read(400, &read(refused).await.0.concat()).message.is_empty(), "{format}");
            }
        }
    }

    #[test]
    fn an_echo_is_clipped_between_letters() {
        let body = request(Format::OpenaiChat, &"é".repeat(20_000), "");
        let answer = answer(Format::OpenaiChat, &body);
        let length: usize = answer.headers[header::CONTENT_LENGTH].to_str().unwrap().parse().unwrap();
        assert!(length < ECHO_BYTES_MAX + 1024, "{length}");
    }
}
