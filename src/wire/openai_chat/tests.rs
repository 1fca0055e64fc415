//! Tests across the files of this format, and over recorded traffic where it is at hand.

mod replies;
mod requests;

use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::wire::caps::{Capabilities, MaxTokensField, Quirks};
use crate::wire::event::{Event, Grammar, Sink, Usage};
use crate::wire::fault::Fault;
use crate::wire::json::Cursor;
use crate::wire::loss::Losses;
use crate::wire::openai_chat::CODEC;
use crate::wire::reply::Reply;
use crate::wire::sse::{Frame, Framer};
use crate::wire::{Memory, Sign, Target};

/// What became of an answer.
#[derive(Debug, Default)]
pub(super) struct Got {
    /// Every event, as Rust prints it.
    pub(super) events: Vec<String>,
    /// Written again as a whole reply, and as a stream.
    pub(super) whole: String,
    pub(super) stream: String,
    pub(super) usage: Usage,
    pub(super) fault: Option<Fault>,
}

pub(super) fn memory() -> Memory {
    Memory { model: "logical".to_owned(), created: 1_700_000_000, seed: 7, include_usage: true, ..Memory::default() }
}

/// Cuts a stream into frames, fed in chunks of `size` bytes.
pub(super) fn frames(stream: &[u8], size: usize) -> Vec<Frame> {
    let mut framer = Framer::new(usize::MAX);
    let mut frames = Vec::new();
    for chunk in stream.chunks(size.max(1)) {
        framer.push(Bytes::copy_from_slice(chunk));
        while let Some(frame) = framer.next() {
            frames.push(frame.unwrap());
        }
    }
    frames.extend(framer.finish());
    frames
}

/// Takes events, holding them to the grammar.
struct Witness<'a> {
    grammar: Grammar,
    events: Vec<String>,
    stream: Vec<u8>,
    encoder: Box<dyn crate::wire::StreamEncoder>,
    reply: Reply<'a>,
}

impl<'a> Sink<'a> for Witness<'a> {
    fn event(&mut self, event: Event<'a>) {
        self.grammar.step(&event).unwrap_or_else(|why| panic!("{why}: {event:?}"));
        self.events.push(format!("{event:?}"));
        self.encoder.event(&event, &mut self.stream);
        self.reply.event(event);
    }
}

impl Witness<'_> {
    fn new(memory: &Memory) -> Self {
        Self {
            grammar: Grammar::default(),
            events: Vec::new(),
            stream: Vec::new(),
            encoder: (CODEC.encoder)(memory),
            reply: Reply::default(),
        }
    }

    fn got(self, memory: &Memory) -> Got {
        assert!(self.grammar.is_over(), "an answer has an end");
        let mut whole = Vec::new();
        (CODEC.encode_reply)(&self.reply, memory, &mut whole);
        Got {
            events: self.events,
            whole: String::from_utf8(whole).unwrap(),
            stream: String::from_utf8(self.stream).unwrap(),
            usage: self.reply.usage,
            fault: self.reply.fault,
        }
    }
}

/// Decodes a stream fed in chunks of `size` bytes.
pub(super) fn streamed(stream: &[u8], size: usize, memory: &Memory) -> Got {
    let frames = frames(stream, size);
    let data: Vec<_> = frames
        .iter()
        .filter_map(|frame| Some((frame.name(), String::from_utf8(frame.data()?.into_owned()).unwrap())))
        .collect();
    let mut witness = Witness::new(memory);
    let mut decoder = (CODEC.decoder)();
    for (name, data) in &data {
        decoder.frame(*name, data, &mut witness);
    }
    decoder.finish(&mut Late(&mut witness));
    witness.got(memory)
}

/// What comes at the end borrows from nothing.
struct Late<'w, 'a>(&'w mut Witness<'a>);

impl Sink<'static> for Late<'_, '_> {
    fn event(&mut self, event: Event<'static>) {
        self.0.event(event);
    }
}

/// Decodes a whole reply.
pub(super) fn whole(body: &str, memory: &Memory) -> Got {
    let mut witness = Witness::new(memory);
    (CODEC.decode_reply)(body, &mut witness);
    witness.got(memory)
}

/// One recording: its file, kind and status.
struct Recording {
    path: PathBuf,
    kind: String,
    status: u64,
}

fn recordings(corpus: &Path) -> Vec<Recording> {
    let index = std::fs::read_to_string(corpus.join("index.jsonl")).unwrap();
    let read = |line: &str| {
        let mut c = Cursor::new(line);
        let (mut file, mut kind, mut api, mut status) = Default::default();
        c.object().unwrap();
        while let Some(key) = c.key().unwrap() {
            match key.decode().as_ref() {
                "file" => file = c.str().unwrap().decode().into_owned(),
                "kind" => kind = c.str().unwrap().decode().into_owned(),
                "api" => api = c.str().unwrap().decode().into_owned(),
                "status" => status = c.skip().unwrap().as_u64().unwrap_or(0),
                _ => drop(c.skip().unwrap()),
            }
        }
        let api: String = api;
        let file: String = file;
        (api == "chat").then(|| Recording { path: corpus.join(file), kind, status })
    };
    index.lines().filter_map(read).collect()
}

/// Reads every recorded chat body there is. What is written again goes into `MODEL_PROXY_CORPUS_OUT`, if that is
/// set, for a second opinion.
#[test]
#[expect(clippy::disallowed_methods, reason = "the corpus lies outside the repository")]
fn recorded_traffic_is_understood() {
    let Some(corpus) = std::env::var_os("MODEL_PROXY_CORPUS") else {
        return;
    };
    let out = std::env::var_os("MODEL_PROXY_CORPUS_OUT").map(PathBuf::from);
    let write = |kind: &str, path: &Path, text: &str| {
        if let Some(out) = &out {
            let name =
                path.iter().rev().take(3).map(|p| p.to_string_lossy().into_owned()).collect::<Vec<_>>().join("-");
            std::fs::create_dir_all(out.join(kind)).unwrap();
            std::fs::write(out.join(kind).join(name), text).unwrap();
        }
    };
    let (mut count, mut odd) = (0, Vec::new());
    for recording in recordings(Path::new(&corpus)) {
        let bytes = std::fs::read(&recording.path).unwrap();
        let path = recording.path.strip_prefix(&corpus).unwrap().to_path_buf();
        count += 1;
        match recording.kind.as_str() {
            "requests" => match again(&String::from_utf8(bytes).unwrap()) {
                Ok((text, _)) => write("requests", &path, &text),
                Err(why) => odd.push(format!("refused {} ({}): {why}", path.display(), recording.status)),
            },
            "responses" => {
                let body = String::from_utf8(bytes).unwrap();
                let got = whole(&body, &memory());
                let told = (CODEC.inspect_reply)(&body);
                match got.fault {
                    Some(fault) => odd.push(format!("fault {}: {fault}", path.display())),
                    None => {
                        assert_eq!(told, Ok(got.usage), "{}", path.display());
                        write("responses", &path, &got.whole);
                        write("streams", &path.with_extension("sse"), &got.stream);
                    }
                }
            }
            "streams" => {
                let got = streamed(&bytes, usize::MAX, &memory());
                assert_eq!(streamed(&bytes, 7, &memory()).events, got.events, "{}", path.display());
                match &got.fault {
                    Some(fault) => odd.push(format!("fault {}: {fault}", path.display())),
                    None => {
                        write("streams", &path, &got.stream);
                        write("responses", &path.with_extension("json"), &got.whole);
                    }
                }
                inspected(&bytes, &got, &path);
            }
            "error" => {
                let fault = Fault::read(u16::try_from(recording.status).unwrap(), &bytes);
                let mut body = Vec::new();
                (CODEC.encode_fault)(&fault, "req_1", &mut body);
                write("errors", &path, &String::from_utf8(body).unwrap());
            }
            _ => {}
        }
    }
    odd.sort();
    println!("{count} recordings, {} of them odd:\n{}", odd.len(), odd.join("\n"));
}

/// The side reader must agree with the decoder.
fn inspected(stream: &[u8], got: &Got, path: &Path) {
    let mut usage = Usage::default();
    let (mut output, mut finished, mut fault) = (false, false, false);
    for frame in frames(stream, usize::MAX) {
        let found = (CODEC.inspect)(&frame, crate::wire::Past::Nothing);
        usage.update(&found.usage.unwrap_or_default());
        match found.sign {
            Sign::Quiet | Sign::Begun => {}
            Sign::Output => output = true,
            Sign::Finished | Sign::Over => finished = true,
            Sign::Fault(_) => fault = true,
        }
    }
    let path = path.display();
    assert_eq!(fault || !finished, got.fault.is_some(), "{path}");
    assert!(output || got.fault.is_some() || !got.whole.contains("\"content\":\"\\w"), "{path}");
    if got.fault.is_none() {
        assert_eq!(usage, got.usage, "{path}");
    }
}

/// Reads a request and writes it again for OpenAI itself; also tells what was lost.
pub(super) fn again(body: &str) -> Result<(String, String), String> {
    let capabilities = Capabilities {
        inline_system: true,
        effort: crate::wire::prompt::Effort::ALL.to_vec(),
        ..Capabilities::default()
    };
    let quirks =
        Quirks { max_tokens_field: MaxTokensField::MaxCompletionTokens, content_as_string: false, ..Quirks::default() };
    encoded(body, &capabilities, &quirks).map(|(text, _, lost)| (text, lost))
}

/// Reads a request and writes it again for a route.
pub(super) fn encoded(
    body: &str,
    capabilities: &Capabilities,
    quirks: &Quirks,
) -> Result<(String, Memory, String), String> {
    let mut losses = Losses::default();
    let refused = |refusal: crate::wire::loss::Refusal| format!("{}: {}", refusal.place.path(body), refusal.message);
    let prompt = (CODEC.decode_request)(body, &mut losses).map_err(refused)?;
    let mut out = Vec::new();
    let target = Target { model: "upstream", capabilities, quirks };
    let memory = (CODEC.encode_request)(&prompt, &target, &mut out, &mut losses).map_err(refused)?;
    let text = String::from_utf8(out).unwrap();
    let mut cursor = Cursor::new(&text);
    cursor.skip().and_then(|_| cursor.end()).unwrap_or_else(|e| panic!("{e}: {text}"));
    Ok((text, memory, losses.header(body)))
}
