//! Recorded traffic of real clients and providers, where it is at hand: through the running gateway in its own
//! format, byte for byte, and through the converters into the other.
//!
//! `MODEL_PROXY_CORPUS` names the folder; without it these tests say so and pass. `MODEL_PROXY_CONVERTED` names a
//! folder for what the converters wrote, which `tests/sdk/judge.py` holds against the official SDKs' types.

use std::collections::BTreeMap;
use std::fs;
use std::panic;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use model_proxy::wire::caps::{Capabilities, Quirks};
use model_proxy::wire::event::{Event, Sink};
use model_proxy::wire::laws;
use model_proxy::wire::loss::Losses;
use model_proxy::wire::reply::Reply;
use model_proxy::wire::sse::{FRAME_BYTES_MAX, Frame, Framer};
use model_proxy::wire::translate::{self, StreamTranslator};
use model_proxy::wire::{Format, Memory, Target};
use serde_json::Value;

use crate::support::gateway::Setup;
use crate::support::http::Request;
use crate::support::samples::{SIDES, Side};
use crate::support::upstream::{Script, Upstream};
use crate::support::{Chance, span_of, with_model};

/// One recording of an exchange.
#[derive(Clone, Debug)]
struct Item {
    file: String,
    side: Side,
    kind: Kind,
    /// What the provider answered, where the recorder kept it.
    status: Option<u64>,
    body: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Request,
    Response,
    Stream,
}

/// How many recordings there are, so that none goes missing in silence: requests, responses, streams of each format.
const ITEMS: usize = (749 + 260 + 317) + (427 + 215 + 244) + (261 + 77 + 94);

/// How many recorded requests convert at least, of each format to each (in the order of `SIDES`); the others hold what has no
/// counterpart.
const CONVERTED_LEAST: [[usize; 3]; 3] = [[0, 705, 708], [197, 0, 202], [275, 281, 0]];

/// Every format with every other.
fn pairs() -> impl Iterator<Item = (Side, Side)> {
    SIDES.into_iter().flat_map(|side| SIDES.map(|to| (side, to))).filter(|(side, to)| side.path != to.path)
}

/// The corpus, or nothing where it is not at hand.
fn corpus(test: &str) -> Option<Vec<Item>> {
    let Some(folder) = std::env::var_os("MODEL_PROXY_CORPUS").map(PathBuf::from) else {
        eprintln!("{test}: skipped, MODEL_PROXY_CORPUS names no folder");
        return None;
    };
    let index = fs::read_to_string(folder.join("index.jsonl")).expect("the corpus has an index");
    let items: Vec<Item> = index.lines().filter_map(|line| item(&folder, line)).collect();
    assert_eq!(items.len(), ITEMS, "the corpus is the one these counts were made for");
    Some(items)
}

fn item(folder: &Path, line: &str) -> Option<Item> {
    let row: Value = serde_json::from_str(line).unwrap();
    let side = match row["api"].as_str()? {
        "chat" => SIDES[0],
        "messages" => SIDES[1],
        "responses" => SIDES[2],
        _ => return None,
    };
    let kind = match row["kind"].as_str()? {
        "requests" => Kind::Request,
        "responses" => Kind::Response,
        "streams" => Kind::Stream,
        _ => return None,
    };
    let file = row["file"].as_str()?.to_owned();
    let body = fs::read(folder.join(&file)).unwrap();
    Some(Item { file, side, kind, status: row["status"].as_u64(), body })
}

impl Item {
    /// The body with a model in it. Some recordings have none: there the provider took it from the path.
    fn with_some_model(&self) -> Vec<u8> {
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        if body["model"].is_string() {
            return self.body.clone();
        }
        match span_of(&self.body, "model") {
            Some(span) => [&self.body[..span.start], b"\"recorded\"", &self.body[span.end..]].concat(),
            None => {
                let brace = self.body.iter().position(|b| *b == b'{').unwrap() + 1;
                [&self.body[..brace], b"\"model\":\"recorded\",", &self.body[brace..]].concat()
            }
        }
    }

    /// Whether a recorded stream says itself that it came to its end.
    fn is_complete(&self) -> bool {
        let text = String::from_utf8_lossy(&self.body);
        self.side.has_ended_well(&text) && !text.contains("event: error") && !text.contains("data: {\"error\"")
    }
}

/// What became of many items, and which.
#[derive(Debug, Default)]
struct Tally(BTreeMap<String, Vec<String>>);

impl Tally {
    fn add(&mut self, outcome: impl Into<String>, file: &str) {
        self.0.entry(outcome.into()).or_default().push(file.to_owned());
    }

    fn count(&self, outcome: &str) -> usize {
        self.0.get(outcome).map_or(0, Vec::len)
    }

    fn print(&self, title: &str) {
        eprintln!("{title}");
        for (outcome, files) in &self.0 {
            eprintln!("  {:5} {outcome}   e.g. {}", files.len(), files[0]);
        }
    }

    /// Fails if anything became of an item that may not.
    #[track_caller]
    fn expect_only(&self, allowed: &[&str]) {
        let wrong: Vec<_> =
            self.0.iter().filter(|(outcome, _)| !allowed.iter().any(|a| outcome.starts_with(a))).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

#[test]
fn recorded_requests_arrive_as_they_were_recorded() {
    let Some(items) = corpus("recorded_requests_arrive_as_they_were_recorded") else {
        return;
    };
    let mut tally = Tally::default();
    for side in SIDES {
        let upstream = Upstream::start();
        let gateway = Setup::simple(side.format, &upstream).model("*", &[("p", "upstream-model")]).start();
        let mut client = gateway.connect();
        for item in items.iter().filter(|i| i.side.path == side.path && i.kind == Kind::Request) {
            let body = item.with_some_model();
            let before = upstream.count();
            let reply = client.send(&Request::post(side.path, body.clone()).with_key());
            let arrived = upstream.count() == before + 1 && upstream.last().body == with_model(&body, "upstream-model");
            let given = if body == item.body { "" } else { ", given a model it was recorded without" };
            match reply.status {
                200 if arrived => tally.add(format!("identical{given}"), &item.file),
                200 => tally.add(format!("changed{given}"), &item.file),
                status => tally.add(format!("refused with {status}: {}", reply.text()), &item.file),
            }
        }
    }
    tally.print("recorded requests through the gateway, same format");
    tally.expect_only(&["identical"]);
}

#[test]
fn recorded_replies_and_streams_come_back_as_they_were_recorded() {
    let Some(items) = corpus("recorded_replies_and_streams_come_back_as_they_were_recorded") else {
        return;
    };
    let mut tally = Tally::default();
    for side in SIDES {
        let upstream = Upstream::start();
        let gateway = Setup::simple(side.format, &upstream).start();
        for (seed, item) in items.iter().enumerate().filter(|(_, i)| i.side.path == side.path) {
            let places = Chance::new(seed as u64).places(item.body.len(), 1 + seed % 9);
            let (script, request) = match item.kind {
                Kind::Request => continue,
                Kind::Response => (Script::json(200, &item.body).cut(&places), side.request),
                Kind::Stream => (Script::stream(&item.body).cut(&places), side.stream_request),
            };
            upstream.queue(script);
            let reply = gateway.post(side.path, request);
            let kind = format!("{:?}", item.kind).to_lowercase();
            if reply.status != 200 {
                tally.add(format!("{kind} withheld with {}: {}", reply.status, reply.text()), &item.file);
            } else if reply.body == item.body {
                tally.add(format!("{kind} identical"), &item.file);
            } else if !item.is_complete() && reply.body.starts_with(&item.body) {
                tally.add(format!("{kind} incomplete as recorded: told so at its end"), &item.file);
            } else {
                tally.add(format!("{kind} changed"), &item.file);
            }
        }
    }
    tally.print("recorded replies through the gateway, same format");
    tally.expect_only(&["response identical", "stream identical", "stream incomplete as recorded"]);
}

/// Where the converters' output goes, if anybody wants it.
#[derive(Debug)]
struct Output(Option<PathBuf>);

impl Output {
    fn open() -> Self {
        let folder = std::env::var_os("MODEL_PROXY_CONVERTED").map(PathBuf::from);
        Self(folder.map(|f| if f.is_absolute() { f } else { Path::new(env!("CARGO_MANIFEST_DIR")).join(f) }))
    }

    /// A fresh folder for one kind of output: `TO-WHAT/FROM`.
    fn folder(&self, side: &Side, to: &Side, what: &str) -> Option<PathBuf> {
        let folder = self.0.as_ref()?.join(format!("{}-{what}", api(to))).join(api(side));
        // Nothing of an earlier run may stay.
        drop(fs::remove_dir_all(&folder));
        fs::create_dir_all(&folder).unwrap();
        Some(folder)
    }
}

/// What the checker of types calls a format.
fn api(side: &Side) -> &'static str {
    match side.format {
        Format::OpenaiChat => "openai-chat",
        Format::OpenaiResponses => "openai-responses",
        Format::Anthropic => "anthropic-messages",
    }
}

/// The recording's path as one file name; `judge.py` turns it back.
fn flat(file: &str) -> String {
    file.replace('/', "~")
}

/// Refusals that differ only in numbers are one.
fn reason(message: &str) -> String {
    message.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect()
}

#[test]
fn recorded_requests_convert() {
    let Some(items) = corpus("recorded_requests_convert") else {
        return;
    };
    let output = Output::open();
    for (side, to) in pairs() {
        let folder = output.folder(&side, &to, "request");
        let mut tally = Tally::default();
        let mut refused = String::new();
        for item in items.iter().filter(|i| i.side.path == side.path && i.kind == Kind::Request) {
            let body = String::from_utf8(item.with_some_model()).unwrap();
            let outcome = panic::catch_unwind(|| convert_request(&side, &to, &body));
            match outcome {
                Ok(Ok(converted)) => {
                    let parsed: Result<Value, _> = serde_json::from_slice(&converted);
                    match parsed {
                        Ok(_) => tally.add("converted", &item.file),
                        Err(e) => tally.add(format!("failed: it is no JSON: {e}"), &item.file),
                    }
                    if let Some(folder) = &folder {
                        fs::write(folder.join(flat(&item.file)), converted).unwrap();
                    }
                }
                Ok(Err(message)) => {
                    let status = item.status.map_or_else(|| "?".to_owned(), |s| s.to_string());
                    refused.push_str(&format!("{}\t{status}\t{message}\n", item.file));
                    tally.add(format!("refused: {}", reason(&message)), &item.file);
                }
                Err(_) => tally.add("failed: panic", &item.file),
            }
        }
        if let Some(folder) = &folder {
            fs::write(folder.join("refused.tsv"), refused).unwrap();
        }
        tally.print(&format!("recorded requests, {} to {}", side.format, to.format));
        tally.expect_only(&["converted", "refused: "]);
        let at = |side: &Side| SIDES.iter().position(|other| other.path == side.path).unwrap();
        let least = CONVERTED_LEAST[at(&side)][at(&to)];
        assert!(least <= tally.count("converted"), "more is refused than was: {}", tally.count("converted"));
    }
}

/// What routing adds to a request on its way to a provider that is its format's own vendor.
fn convert_request(from: &Side, to: &Side, body: &str) -> Result<Vec<u8>, String> {
    let (capabilities, quirks) = (Capabilities::default(), quirks(to.format));
    let target = Target { model: "upstream-model", capabilities: &capabilities, quirks: &quirks };
    let mut losses = Losses::default();
    translate::request((from.format, to.format), body, None, &target, &mut losses)
        .map(|(bytes, _)| bytes)
        .map_err(|refusal| format!("{}: {}", refusal.place.path(body), refusal.message))
}

fn quirks(to: Format) -> Quirks {
    use model_proxy::wire::caps::ToolId;
    let tool_id = if to == Format::Anthropic { ToolId::Anthropic } else { ToolId::Any };
    Quirks { tool_id, ..Quirks::default() }
}

/// A client that asked for everything.
fn memory() -> Memory {
    Memory {
        model: "m".to_owned(),
        created: 1_700_000_000,
        seed: 42,
        include_usage: true,
        input_estimate: 10,
        ..Memory::default()
    }
}

#[test]
fn recorded_replies_convert() {
    let Some(items) = corpus("recorded_replies_convert") else {
        return;
    };
    let output = Output::open();
    for (side, to) in pairs() {
        let folder = output.folder(&side, &to, "response");
        let mut tally = Tally::default();
        for item in items.iter().filter(|i| i.side.path == side.path && i.kind == Kind::Response) {
            let body = String::from_utf8(item.body.clone()).unwrap();
            let outcome = panic::catch_unwind(|| translate::reply(side.format, to.format, &body, &memory()));
            match outcome {
                Ok(Ok((converted, _))) => {
                    let parsed: Result<Value, _> = serde_json::from_slice(&converted);
                    match parsed {
                        Ok(_) => tally.add("converted", &item.file),
                        Err(e) => tally.add(format!("failed: it is no JSON: {e}"), &item.file),
                    }
                    if let Some(folder) = &folder {
                        fs::write(folder.join(flat(&item.file)), converted).unwrap();
                    }
                }
                // Of requests that run on behind their answer, which are refused.
                Ok(Err(fault)) if fault.message.ends_with("is queued, and not complete") => {
                    tally.add("no reply yet as recorded, told so", &item.file);
                }
                Ok(Err(fault)) => tally.add(format!("failed: {}", fault.message), &item.file),
                Err(_) => tally.add("failed: panic", &item.file),
            }
        }
        tally.print(&format!("recorded replies, {} to {}", side.format, to.format));
        tally.expect_only(&["converted", "no reply yet as recorded"]);
    }
}

#[test]
fn recorded_streams_convert_however_they_are_cut() {
    let Some(items) = corpus("recorded_streams_convert_however_they_are_cut") else {
        return;
    };
    let output = Output::open();
    for (side, to) in pairs() {
        let folder = output.folder(&side, &to, "stream");
        let mut tally = Tally::default();
        for (seed, item) in items.iter().enumerate() {
            if item.side.path != side.path || item.kind != Kind::Stream {
                continue;
            }
            let outcome = panic::catch_unwind(|| {
                let whole = convert_stream(&side, &to, &item.body, &[]);
                let places = Chance::new(seed as u64).places(item.body.len(), 12);
                let cut = convert_stream(&side, &to, &item.body, &places);
                (whole.clone(), whole == cut)
            });
            match outcome {
                Ok((_, false)) => tally.add("failed: a cut changes it", &item.file),
                Ok(((converted, None), true)) => {
                    tally.add("converted", &item.file);
                    if let Some(folder) = &folder {
                        fs::write(folder.join(flat(&item.file)), converted).unwrap();
                    }
                }
                Ok(((_, Some(why)), true)) if !item.is_complete() => {
                    tally.add(format!("broken as recorded, told so: {why}"), &item.file);
                }
                Ok(((_, Some(why)), true)) => tally.add(format!("failed: {why}"), &item.file),
                Err(_) => tally.add("failed: panic", &item.file),
            }
        }
        tally.print(&format!("recorded streams, {} to {}", side.format, to.format));
        tally.expect_only(&["converted", "broken as recorded"]);
    }
}

/// The other format's stream, and what broke it if anything did.
fn convert_stream(from: &Side, to: &Side, body: &[u8], cuts: &[usize]) -> (Vec<u8>, Option<String>) {
    let mut cuts = cuts.to_vec();
    cuts.extend([0, body.len()]);
    cuts.sort_unstable();
    let mut framer = Framer::new(FRAME_BYTES_MAX);
    let mut translator = StreamTranslator::new(from.format, to.format, &memory());
    let mut out = Vec::new();
    for pair in cuts.windows(2) {
        framer.push(Bytes::copy_from_slice(&body[pair[0]..pair[1]]));
        while let Some(frame) = framer.next() {
            translator.frame(&frame.unwrap(), &mut out);
        }
    }
    if let Some(frame) = framer.finish() {
        translator.frame(&frame, &mut out);
    }
    translator.finish(&mut out);
    let fault = translator.seen().fault.clone();
    (out, fault.map(|f| f.message))
}

/// Every recorded stream, to either format: folding what is streamed gives what is given whole.
#[test]
fn recorded_streams_fold_into_their_whole_replies() {
    let Some(items) = corpus("recorded_streams_fold_into_their_whole_replies") else {
        return;
    };
    for side in SIDES {
        for to in SIDES {
            let mut tally = Tally::default();
            for item in items.iter().filter(|i| i.side.path == side.path && i.kind == Kind::Stream) {
                let whole = folded(side.format, to.format, &item.body);
                let (stream, _) = convert_stream(&side, &to, &item.body, &[]);
                let again = folded(to.format, to.format, &stream);
                match (whole, again) {
                    (Ok(whole), Ok(again)) if whole == again => tally.add("agree", &item.file),
                    (Ok(whole), Ok(again)) => {
                        eprintln!("{}\n  whole    {whole}\n  streamed {again}", item.file);
                        tally.add("failed: they differ", &item.file);
                    }
                    (Err(_), Err(_)) if !item.is_complete() => tally.add("broken as recorded, both ways", &item.file),
                    (whole, again) => tally.add(format!("failed: {:?}, {:?}", whole.err(), again.err()), &item.file),
                }
            }
            tally.print(&format!("recorded streams and whole replies, {} to {}", side.format, to.format));
            tally.expect_only(&["agree", "broken as recorded"]);
            let streams = items.iter().filter(|i| i.side.path == side.path && i.kind == Kind::Stream).count();
            assert!(streams <= tally.count("agree") + BROKEN_MOST, "most streams are whole answers");
        }
    }
}

/// How many recorded streams of one format break off at most.
const BROKEN_MOST: usize = 12;

/// A stream folded into one reply and written whole; `Err`: it breaks.
fn folded(from: Format, to: Format, stream: &[u8]) -> Result<String, String> {
    let mut framer = Framer::new(FRAME_BYTES_MAX);
    framer.push(Bytes::copy_from_slice(stream));
    let mut frames: Vec<Frame> = std::iter::from_fn(|| framer.next().map(Result::unwrap)).collect();
    frames.extend(framer.finish());
    let data = |frame: &Frame| Some(String::from_utf8(frame.data()?.into_owned()).unwrap());
    let events: Vec<_> = frames.iter().filter_map(|f| Some((f.name(), data(f)?))).collect();
    let mut decoder = (from.codec().decoder)();
    let mut reply = Reply::default();
    for (name, data) in &events {
        decoder.frame(*name, data, &mut reply);
    }
    decoder.finish(&mut |event: Event<'static>| reply.event(event));
    if let Some(fault) = reply.fault {
        return Err(fault.message);
    }
    let mut out = Vec::new();
    (to.codec().encode_reply)(&reply, &memory(), &mut out);
    Ok(String::from_utf8(out).unwrap())
}

/// What the fuzzer holds of any bytes holds of recorded ones: there and back, and through the command line's entry.
#[test]
fn the_laws_of_conversion_hold_on_what_was_recorded() {
    let Some(items) = corpus("the_laws_of_conversion_hold_on_what_was_recorded") else {
        return;
    };
    let mut tally = Tally::default();
    for item in items {
        type Law = fn(&[u8]);
        // As the laws read their first byte.
        let (from, far, prompt) = match item.side.format {
            Format::OpenaiChat => (0, [0, 8], 0),
            Format::Anthropic => (1, [1, 9], 1),
            Format::OpenaiResponses => (32, [4, 5], 2),
        };
        let both = |kind: u8| [0, 2, 64].map(|to| (laws::convert as Law, from | kind | to));
        let (body, laws): (_, Vec<(Law, u8)>) = match item.kind {
            Kind::Request => {
                let pairs =
                    far.into_iter().flat_map(|choice| [choice, choice | 2]).map(|choice| (laws::pairs as Law, choice));
                let alone = [(laws::prompt as Law, prompt)];
                (item.with_some_model(), both(8).into_iter().chain(pairs).chain(alone).collect())
            }
            Kind::Response => (item.body.clone(), both(0).to_vec()),
            Kind::Stream => (item.body.clone(), both(4).to_vec()),
        };
        for (law, choice) in laws {
            let data = [&[choice], body.as_slice()].concat();
            let holds = panic::catch_unwind(|| law(&data)).is_ok();
            tally.add(if holds { "holds" } else { "BROKEN" }, &item.file);
        }
    }
    tally.print("the laws of conversion, on recorded traffic:");
    assert_eq!(tally.count("BROKEN"), 0);
}
