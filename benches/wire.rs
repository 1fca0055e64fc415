//! What the pure operations cost: nanoseconds and allocations, by the size of what is read.
//!
//! `cargo bench --bench wire [-- --quick]`. Each figure is the median of several rounds; all operations take their
//! turn in each round, so that a noisy moment hits all of them alike.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench prints, and stops where it cannot go on")]
#![expect(clippy::disallowed_methods, reason = "a bench measures time and reads its arguments")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use model_proxy::wire::caps::{Capabilities, Quirks};
use model_proxy::wire::loss::Losses;
use model_proxy::wire::sse::{FRAME_BYTES_MAX, Frame, Framer};
use model_proxy::wire::translate::{self, StreamTranslator};
use model_proxy::wire::{Format, Memory, Target, head};
use smallvec::smallvec;

/// Something that is done over and over.
struct Operation {
    name: String,
    /// How many things one call does: events of a stream, else one.
    units: usize,
    run: Box<dyn FnMut()>,
}

fn main() {
    let is_quick = std::env::args().any(|a| a == "--quick");
    let (rounds, span) = if is_quick { (3, Duration::from_millis(2)) } else { (11, Duration::from_millis(50)) };
    let mut operations = Vec::new();
    for kib in [1, 16, 128] {
        whole_requests(kib, &mut operations);
    }
    streams(&mut operations);
    let mut figures: Vec<Vec<f64>> = vec![Vec::new(); operations.len()];
    for _ in 0..rounds {
        for (operation, figures) in operations.iter_mut().zip(&mut figures) {
            figures.push(nanoseconds(operation, span));
        }
    }
    println!("{:<56}{:>12}{:>14}", "operation", "ns", "allocations");
    for (operation, figures) in operations.iter_mut().zip(figures) {
        let allocations = allocation_counter::measure(|| (operation.run)()).count_total;
        let each = allocations as f64 / operation.units as f64;
        println!("{:<56}{:>12.0}{each:>14.2}", operation.name, median(figures));
    }
}

/// The mean over about so long a time.
fn nanoseconds(operation: &mut Operation, span: Duration) -> f64 {
    let started = Instant::now();
    let mut calls = 0_u32;
    while calls < 3 || started.elapsed() < span {
        (operation.run)();
        calls += 1;
    }
    started.elapsed().as_nanos() as f64 / f64::from(calls) / operation.units as f64
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn whole_requests(kib: usize, operations: &mut Vec<Operation>) {
    let mut add = |name: &str, run: Box<dyn FnMut()>| {
        operations.push(Operation { name: format!("{name}, {kib} KB"), units: 1, run });
    };
    let chat = Bytes::from(chat_request(kib * 1024));
    let body = chat.clone();
    add("head scan", Box::new(move || drop(black_box(head::read(&body)).unwrap())));
    let body = chat.clone();
    let literal = Bytes::from_static(b"\"upstream-model\"");
    add(
        "head scan and splice",
        Box::new(move || {
            let head = head::read(&body).unwrap();
            black_box(head.apply(&body, smallvec![head.model_edit(literal.clone())]));
        }),
    );
    let messages = Bytes::from(messages_request(kib * 1024));
    let responses = Bytes::from(responses_request(kib * 1024));
    let all = [(Format::OpenaiChat, chat), (Format::Anthropic, messages), (Format::OpenaiResponses, responses)];
    for (from, to, body) in pairs(&all) {
        let name = &format!("translate request, {from} to {to}");
        let text = String::from_utf8(body.to_vec()).unwrap();
        add(
            name,
            Box::new(move || {
                let (capabilities, quirks) = (Capabilities::default(), Quirks::default());
                let target = Target { model: "upstream-model", capabilities: &capabilities, quirks: &quirks };
                let mut losses = Losses::default();
                black_box(translate::request((from, to), &text, None, &target, &mut losses)).unwrap();
            }),
        );
    }
}

/// Per event: cutting alone, cutting and looking (verbatim lane), decoding and encoding (translated lane).
fn streams(operations: &mut Vec<Operation>) {
    let all = [
        (Format::OpenaiChat, chat_stream()),
        (Format::Anthropic, messages_stream()),
        (Format::OpenaiResponses, responses_stream()),
    ];
    for (from, stream) in &all {
        let (from, frames) = (*from, frames(stream));
        let units = frames.len();
        let mut add = |name: String, run: Box<dyn FnMut()>| operations.push(Operation { name, units, run });
        let bytes = stream.clone();
        add(
            format!("cut an event of {from}"),
            Box::new(move || {
                let mut framer = Framer::new(FRAME_BYTES_MAX);
                framer.push(bytes.clone());
                while let Some(frame) = framer.next() {
                    drop(black_box(frame).unwrap());
                }
            }),
        );
        add(
            format!("look at an event of {from}"),
            Box::new(move || {
                for frame in &frames {
                    drop(black_box((from.codec().inspect)(frame, model_proxy::wire::Past::Output)));
                }
            }),
        );
    }
    for (from, to, stream) in pairs(&all) {
        let frames = frames(&stream);
        let memory = Memory { model: "m".to_owned(), include_usage: true, ..Memory::default() };
        let mut out = Vec::with_capacity(1024 * 1024);
        operations.push(Operation {
            name: format!("translate an event, {from} to {to}"),
            units: frames.len(),
            run: Box::new(move || {
                out.clear();
                let mut translator = StreamTranslator::new(from, to, &memory);
                for frame in &frames {
                    translator.frame(frame, &mut out);
                }
                translator.finish(&mut out);
                black_box(out.len());
            }),
        });
    }
}

/// What there is of each format, beside each other format.
fn pairs(all: &[(Format, Bytes)]) -> Vec<(Format, Format, Bytes)> {
    let others = |from: Format| all.iter().map(|(to, _)| *to).filter(move |to| *to != from);
    all.iter().flat_map(|(from, of)| others(*from).map(|to| (*from, to, of.clone()))).collect()
}

fn frames(stream: &Bytes) -> Vec<Frame> {
    let mut framer = Framer::new(FRAME_BYTES_MAX);
    framer.push(stream.clone());
    std::iter::from_fn(|| framer.next()).map(Result::unwrap).collect()
}

/// Turns of a conversation until they are so many bytes: prose with a few escapes, as prompts are.
fn turns(bytes: usize) -> String {
    let prose = "The quick brown fox jumps over the lazy dog.\\nIt said: \\\"caf\u{e9}\\\" and went on its way. ";
    let mut turns = String::new();
    while turns.len() < bytes {
        let role = if turns.matches("role").count().is_multiple_of(2) { "user" } else { "assistant" };
        let text = prose.repeat(((bytes - turns.len()) / prose.len()).clamp(1, 24));
        _ = write!(turns, "{{\"role\":\"{role}\",\"content\":\"{text}\"}},");
    }
    turns + "{\"role\":\"user\",\"content\":\"Go on.\"}"
}

fn chat_request(bytes: usize) -> String {
    format!(
        r#"{{"model":"m","temperature":0.7,"max_completion_tokens":512,"stream":true,"messages":[{}]}}"#,
        turns(bytes.saturating_sub(140))
    )
}

fn messages_request(bytes: usize) -> String {
    format!(
        r#"{{"model":"m","max_tokens":512,"system":"Be brief.","stream":true,"messages":[{}]}}"#,
        turns(bytes.saturating_sub(140))
    )
}

fn responses_request(bytes: usize) -> String {
    format!(
        r#"{{"model":"m","max_output_tokens":512,"instructions":"Be brief.","stream":true,"input":[{}]}}"#,
        turns(bytes.saturating_sub(140))
    )
}

/// Deltas in one stream: enough for its start and end to weigh nothing.
const DELTAS: usize = 500;

fn chat_stream() -> Bytes {
    let chunk = |delta: &str, finish: &str| {
        format!(
            "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"x\",\
             \"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}]}}\n\n"
        )
    };
    let mut stream = chunk(r#"{"role":"assistant","content":""}"#, "null");
    for _ in 0..DELTAS {
        stream.push_str(&chunk(r#"{"content":" a word or two"}"#, "null"));
    }
    stream.push_str(&chunk("{}", "\"stop\""));
    stream.push_str("data: [DONE]\n\n");
    Bytes::from(stream)
}

fn messages_stream() -> Bytes {
    let event = |kind: &str, rest: &str| format!("event: {kind}\ndata: {{\"type\":\"{kind}\"{rest}}}\n\n");
    let mut stream = event(
        "message_start",
        r#","message":{"id":"msg_1","type":"message","role":"assistant","model":"x","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":9,"output_tokens":1}}"#,
    );
    stream.push_str(&event("content_block_start", r#","index":0,"content_block":{"type":"text","text":""}"#));
    for _ in 0..DELTAS {
        let delta = r#","index":0,"delta":{"type":"text_delta","text":" a word or two"}"#;
        stream.push_str(&event("content_block_delta", delta));
    }
    stream.push_str(&event("content_block_stop", r#","index":0"#));
    stream.push_str(&event(
        "message_delta",
        r#","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":4}"#,
    ));
    stream.push_str(&event("message_stop", ""));
    Bytes::from(stream)
}

fn responses_stream() -> Bytes {
    let event = |kind: &str, rest: &str| {
        format!("event: {kind}\ndata: {{\"type\":\"{kind}\",\"sequence_number\":7{rest}}}\n\n")
    };
    let response = |status: &str, more: &str| {
        format!(
            r#","response":{{"id":"resp_1","object":"response","created_at":1700000000,"status":"{status}","model":"x","output":[]{more}}}"#
        )
    };
    let item = |status: &str, content: &str| {
        format!(
            r#","output_index":0,"item":{{"id":"msg_1","type":"message","status":"{status}","role":"assistant","content":[{content}]}}"#
        )
    };
    let mut stream = event("response.created", &response("in_progress", ""));
    stream.push_str(&event("response.output_item.added", &item("in_progress", "")));
    for _ in 0..DELTAS {
        let delta = r#","item_id":"msg_1","output_index":0,"content_index":0,"delta":" a word or two","logprobs":[]"#;
        stream.push_str(&event("response.output_text.delta", delta));
    }
    let text = format!(r#"{{"type":"output_text","text":"{}","annotations":[]}}"#, " a word or two".repeat(DELTAS));
    stream.push_str(&event("response.output_item.done", &item("completed", &text)));
    let usage = r#","usage":{"input_tokens":9,"output_tokens":4,"total_tokens":13}"#;
    stream.push_str(&event("response.completed", &response("completed", usage)));
    Bytes::from(stream)
}
