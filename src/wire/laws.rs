//! What must hold of every conversion, for any bytes at all. The fuzz targets and the tests that replay their corpus
//! call these; nothing else does.

use bytes::Bytes;

use crate::wire::caps::{Capabilities, Quirks, ThinkingModes};
use crate::wire::convert::{self, Converted, Document};
use crate::wire::event::{Event, Grammar, Sink};
use crate::wire::json::{Cursor, Json, JsonError, JsonStr, Kind};
use crate::wire::loss::{Losses, Place};
use crate::wire::prompt::{Args, Block, BlockKind, Choice, Effort, Output, Prompt, Role, Source, Tool};
use crate::wire::reply::Reply;
use crate::wire::sse::{FRAME_BYTES_MAX, Frame, Framer};
use crate::wire::{Format, Memory, Target, translate};

/// Any bytes yield a grammatical stream of the client's format; any chunking gives the same; who reads it again sees a
/// fault exactly where there was one; and what they gather of it is the reply that would have been given whole.
///
/// The first byte chooses the formats, and whether thinking may stand in tags; the second the cuts.
pub fn stream(data: &[u8]) {
    let [choice, cuts, input @ ..] = data else {
        return;
    };
    let (from, to) = (chosen(*choice, 1, 8), chosen(*choice, 2, 16));
    let memory = Memory { think_tags: choice & 4 != 0, ..memory() };
    let (whole, fault) = translated(from, to, &memory, &[input]);
    let size = usize::from(*cuts).max(1);
    let chunks: Vec<&[u8]> = input.chunks(size).collect();
    assert_eq!(translated(from, to, &memory, &chunks).0, whole, "a cut changes nothing");
    let again = faults(to, &whole);
    assert_eq!(again, fault, "a fault is told, and only a fault: {}", String::from_utf8_lossy(&whole));
    // Tags are looked for on the way from one format to the other, which a fold does not take.
    if !fault && !memory.think_tags {
        assert_eq!(folded(to, to, &whole), folded(from, to, input), "streamed and whole are one answer");
    }
}

/// The format that two bits of a choice stand for.
fn chosen(choice: u8, anthropic: u8, responses: u8) -> Format {
    match (choice & anthropic != 0, choice & responses != 0) {
        (_, true) => Format::OpenaiResponses,
        (true, false) => Format::Anthropic,
        (false, false) => Format::OpenaiChat,
    }
}

/// A stream of one format gathered and written whole in another; empty if it breaks.
fn folded(from: Format, to: Format, stream: &[u8]) -> String {
    let mut framer = Framer::new(FRAME_BYTES_MAX);
    framer.push(Bytes::copy_from_slice(stream));
    let mut frames: Vec<Frame> = std::iter::from_fn(|| framer.next()?.ok()).collect();
    frames.extend(framer.finish());
    let data: Vec<_> = frames.iter().map(|frame| String::from_utf8(frame.data().unwrap_or_default().into())).collect();
    let mut decoder = (from.codec().decoder)();
    let mut reply = Reply::default();
    for (frame, data) in frames.iter().zip(&data) {
        if let (Some(_), Ok(data)) = (frame.data(), data) {
            decoder.frame(frame.name(), data, &mut reply);
        }
    }
    decoder.finish(&mut |event: Event<'static>| reply.event(event));
    let mut out = Vec::new();
    if reply.fault.is_none() {
        (to.codec().encode_reply)(&reply, &memory(), &mut out);
    }
    String::from_utf8(out).unwrap_or_default()
}

fn memory() -> Memory {
    Memory { model: "m".into(), seed: 7, include_usage: true, ..Memory::default() }
}

fn translated(from: Format, to: Format, memory: &Memory, chunks: &[&[u8]]) -> (Vec<u8>, bool) {
    let chunks = chunks.iter().map(|chunk| Bytes::copy_from_slice(chunk));
    let (out, seen) = translate::stream(from, to, chunks, memory);
    assert!(seen.ended || seen.fault.is_some(), "it ends one way or the other");
    (out, seen.fault.is_some())
}

/// Reads a stream of ours again; whether it holds a fault.
fn faults(format: Format, stream: &[u8]) -> bool {
    let mut grammar = Grammar::default();
    let mut fault = false;
    let mut decoder = (format.codec().decoder)();
    let mut framer = Framer::new(FRAME_BYTES_MAX);
    framer.push(Bytes::copy_from_slice(stream));
    let mut watch = |event: Event<'_>| {
        if grammar.is_over() {
            return;
        }
        fault |= matches!(event, Event::Fault(_));
        let step = grammar.step(&event);
        assert_eq!(step, Ok(()), "{event:?}");
    };
    while let Some(Ok(frame)) = framer.next() {
        let data = frame.data().unwrap_or_default();
        let text = std::str::from_utf8(&data);
        assert!(text.is_ok(), "what is written is text");
        decoder.frame(frame.name(), text.unwrap_or_default(), &mut watch);
    }
    decoder.finish(&mut watch);
    fault
}

/// A request that is read can be written, in its own format and in the others, unless that is refused; what is written
/// is read again; and writing that again settles at once.
///
/// The first byte chooses the format.
pub fn prompt(data: &[u8]) {
    let Some((choice, input)) = data.split_first() else {
        return;
    };
    let from = chosen(*choice, 1, 2);
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let Ok(prompt) = (from.codec().decode_request)(text, &mut Losses::default()) else {
        return;
    };
    for to in Format::ALL {
        let Some(first) = encoded(to, &prompt) else {
            continue;
        };
        assert_eq!(Cursor::new(&first).peek(), Ok(Kind::Object), "{first}");
        is_json(&first);
        // The first writing may settle how a thing is spelled (a string, a list of one); after that nothing moves.
        let second = reencoded(to, &first);
        assert_eq!(reencoded(to, &second), second, "writing it once more changes nothing");
    }
}

/// Whatever the command line is given, it answers: what it writes is the other format's, which its own decoder reads, and it
/// says so exactly where that is an error. A refused request leaves nothing.
///
/// The first byte chooses the formats, and what the rest is taken for.
pub fn convert(data: &[u8]) {
    let Some((choice, input)) = data.split_first() else {
        return;
    };
    let (from, to) = (chosen(*choice, 1, 32), chosen(*choice, 2, 64));
    let memory = Memory { seed: 7, include_usage: true, ..Memory::default() };
    let (capabilities, quirks) = if choice & 16 == 0 { Default::default() } else { able() };
    let document = match choice >> 2 & 3 {
        0 => Document::Reply(&memory),
        1 => Document::Stream(&memory),
        _ => Document::Request { model: None, capabilities: &capabilities, quirks: &quirks, defaults: &[] },
    };
    let Converted { out, losses, refused } = convert::convert((from, to), document, Bytes::copy_from_slice(input));
    let text = String::from_utf8(out);
    assert!(text.is_ok(), "what is written is text");
    let text = text.unwrap_or_default();
    match document {
        Document::Stream(_) => assert_eq!(faults(to, text.as_bytes()), refused.is_some(), "{refused:?} {text}"),
        Document::Reply(_) => {
            is_json(&text);
            let mut reply = Reply::default();
            (to.codec().decode_reply)(&text, &mut reply);
            assert_eq!(reply.fault.is_some(), refused.is_some(), "{refused:?} {text}");
        }
        Document::Request { .. } if refused.is_some() => assert!(text.is_empty() && losses.is_empty(), "{text}"),
        Document::Request { .. } => {
            is_json(&text);
            let again = (to.codec().decode_request)(&text, &mut Losses::default());
            assert!(again.is_ok(), "what is written is read again: {again:?} {text}");
        }
    }
}

fn is_json(text: &str) {
    let mut cursor = Cursor::new(text);
    let read = cursor.skip().and_then(|_| cursor.end());
    assert_eq!(read, Ok(()), "what is written is JSON: {text}");
}

/// A request that goes into the other format and comes back keeps what both can carry, as `view` sees it: what a message
/// says is kept unless a loss inside the messages was reported, and a setting unless any loss was.
///
/// The first byte chooses the format, and whether the model in between can do everything or nothing out of the ordinary.
pub fn pairs(data: &[u8]) {
    let Some((choice, input)) = data.split_first() else {
        return;
    };
    let (near, far) = match (choice & 1, choice & 4, choice & 8) {
        (0, 0, 0) => (Format::OpenaiChat, Format::Anthropic),
        (_, 0, 0) => (Format::Anthropic, Format::OpenaiChat),
        (_, 0, _) => (chosen(*choice, 1, 0), Format::OpenaiResponses),
        (..) => (Format::OpenaiResponses, chosen(*choice, 1, 0)),
    };
    let (capabilities, quirks) = if choice & 2 == 0 { plain() } else { able() };
    let target = Target { model: "m", capabilities: &capabilities, quirks: &quirks };
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let (mut there, mut back) = (Losses::default(), Losses::default());
    let Ok((out, _)) = translate::request((near, far), text, None, &target, &mut there) else {
        return;
    };
    let out = String::from_utf8(out);
    assert!(out.is_ok(), "what is written is text");
    let out = out.unwrap_or_default();
    // What the other format has and this one has not may be refused on the way back: a document, for example.
    let Ok((again, _)) = translate::request((far, near), &out, None, &target, &mut back) else {
        return;
    };
    let again = String::from_utf8(again).unwrap_or_default();
    let legal = |name: &JsonStr<'_>| name.decode().bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    let mut names = Names::default();
    let first = seen(near, text, &mut names, |names, name| {
        if legal(name) && (1..=64).contains(&name.decode().len()) {
            names.0.push(name.decode().into_owned());
        }
    });
    let last = seen(near, &again, &mut names, |_, _| {});
    let told = || format!("{text}\n{out}\n{again}\n{:?} {:?}", there.lines(text), back.lines(&out));
    let in_messages = |losses: &Losses| losses.iter().any(|loss| matches!(loss.place, Place::Byte(_)));
    if !in_messages(&there) && !in_messages(&back) {
        assert!(is_kept(&first.said, &last.said), "what is said is kept: {first:?} {last:?} {}", told());
    }
    if there.is_empty() && back.is_empty() {
        let lost: Vec<&String> = first.settings.iter().filter(|s| !last.settings.contains(s)).collect();
        assert!(lost.is_empty(), "settings are kept: {lost:?} {}", told());
    }
}

/// Whether all that was said is said still. Only the instructions may have become longer: some settings are asked for in
/// words where the model has no such thing, and that is reported.
fn is_kept(first: &[String], last: &[String]) -> bool {
    let instructs = |said: &&String| said.starts_with("system says ");
    let (before, after) = (first.first().filter(instructs), last.first().filter(instructs));
    let rest = |said: &[String], had: bool| said.get(usize::from(had)..).unwrap_or_default().to_vec();
    let is_longer = before.is_none_or(|before| after.is_some_and(|after| after.starts_with(before.as_str())));
    is_longer && rest(first, before.is_some()) == rest(last, after.is_some())
}

/// A model that nothing is known of, at a provider that takes images where they stand; elsewhere they are moved.
fn plain() -> (Capabilities, Quirks) {
    (Capabilities::default(), Quirks { tool_result_images: true, ..Quirks::default() })
}

/// One that can do all there is to do. It takes no system message between turns: where it did, that one would come behind
/// the user's next words.
fn able() -> (Capabilities, Quirks) {
    let thinking = ThinkingModes { adaptive: true, enabled: true, disabled: true };
    let capabilities = Capabilities { thinking, effort: Effort::ALL.to_vec(), ..Capabilities::default() };
    let quirks = Quirks { top_k: true, tool_result_images: true, content_as_string: false, ..Quirks::default() };
    (capabilities, quirks)
}

/// What both formats can carry of a request, in words that do not depend on either.
#[derive(Debug, Default, Eq, PartialEq)]
struct View {
    /// What is said by whom, in order. White space between words is the formats' own affair.
    said: Vec<String>,
    /// What else was asked for.
    settings: Vec<String>,
}

fn seen(format: Format, body: &str, names: &mut Names, learn: impl Fn(&mut Names, &JsonStr<'_>)) -> View {
    let prompt = (format.codec().decode_request)(body, &mut Losses::default());
    assert!(prompt.is_ok(), "what was written is read: {prompt:?} {body}");
    let Ok(prompt) = prompt else {
        return View::default();
    };
    for block in prompt.turns.iter().flat_map(|turn| &turn.blocks) {
        if let BlockKind::ToolUse { name, .. } = &block.kind {
            learn(names, name);
        }
    }
    for tool in &prompt.tools {
        if let Tool::Function(function) = tool {
            learn(names, &function.name);
        }
    }
    if let Some(Choice::Tool(name)) = &prompt.choice {
        learn(names, name);
    }
    view(&prompt, names)
}

/// The client's names of tools that need not be changed anywhere.
#[derive(Debug, Default)]
struct Names(Vec<String>);

/// Calls are named by their number, for formats differ in what an id may look like; tools by the client's own names.
fn view(prompt: &Prompt<'_>, names: &Names) -> View {
    let mut look = Look { names, ids: Vec::new(), said: Vec::new() };
    look.blocks("system", &prompt.system);
    for turn in &prompt.turns {
        let who = match turn.role {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        // One format has no order between an answer's text and its calls, and the other wants results in that of calls.
        let mut blocks: Vec<&Block<'_>> = turn.blocks.iter().collect();
        let usual = if turn.role == Role::User { usize::MAX } else { 0 };
        blocks.sort_by_key(|block| match &block.kind {
            BlockKind::ToolUse { .. } => usize::MAX,
            BlockKind::ToolResult { id, .. } => look.number(id).unwrap_or_default(),
            BlockKind::Text(_) | BlockKind::Image(_) | BlockKind::Document { .. } | BlockKind::Refusal(_) => usual,
            BlockKind::Thinking { .. } | BlockKind::RedactedThinking { .. } | BlockKind::Foreign { .. } => usual,
        });
        blocks.into_iter().for_each(|block| look.block(who, block));
    }
    View { settings: settings(prompt, &look), said: look.said }
}

struct Look<'n> {
    names: &'n Names,
    /// Ids of the calls so far.
    ids: Vec<String>,
    said: Vec<String>,
}

impl Look<'_> {
    fn blocks(&mut self, who: &str, blocks: &[Block<'_>]) {
        blocks.iter().for_each(|block| self.block(who, block));
    }

    fn block(&mut self, who: &str, block: &Block<'_>) {
        match &block.kind {
            BlockKind::Text(text) | BlockKind::Refusal(text) => self.text(who, &text.decode()),
            BlockKind::Image(source) => self.said.push(format!("{who} shows {}", self::source(source))),
            // Plain text is text wherever there are no documents.
            BlockKind::Document { source: Source::Text(text), title, context } => {
                for text in [title.as_ref(), context.as_ref(), Some(text)].into_iter().flatten() {
                    self.text(who, &text.decode());
                }
            }
            BlockKind::Document { source, .. } => self.said.push(format!("{who} shows {}", self::source(source))),
            BlockKind::ToolUse { id, name, input } => {
                self.ids.push(id.decode().into_owned());
                self.said.push(format!("{who} calls {} {}", self.name(name), args(input)));
            }
            BlockKind::ToolResult { id, content, .. } => {
                self.said.push(format!("{who} answers {:?}", self.number(id)));
                self.blocks("answer", content);
            }
            // Vouched for by one vendor only.
            BlockKind::Thinking { .. } | BlockKind::RedactedThinking { .. } => {}
            BlockKind::Foreign { kind, .. } => self.said.push(format!("{who} {}", kind.decode())),
        }
    }

    /// The number of the call with that id, the last of several.
    fn number(&self, id: &JsonStr<'_>) -> Option<usize> {
        self.ids.iter().rposition(|known| id.is(known))
    }

    /// Pieces of one speaker's text are one text.
    fn text(&mut self, who: &str, text: &str) {
        let words: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let begins = format!("{who} says ");
        match self.said.last_mut() {
            Some(last) if last.starts_with(&begins) => last.push_str(&words),
            _ if words.is_empty() => {}
            _ => self.said.push(format!("{begins}{words}")),
        }
    }

    /// The name of a tool, where it is the same in both.
    fn name(&self, name: &JsonStr<'_>) -> String {
        let name = name.decode();
        if self.names.0.iter().any(|known| *known == name) { name.into_owned() } else { "?".to_owned() }
    }
}

fn settings(prompt: &Prompt<'_>, look: &Look<'_>) -> Vec<String> {
    // What everybody has anyway is not told to a model that takes nothing else.
    let tells = |value: &&Json<'_>| value.as_f64() != Some(1.0);
    let number = |name: &str, value: Option<&Json<'_>>| value.filter(tells).map(|n| format!("{name} {}", n.as_str()));
    let mut all: Vec<String> = [
        prompt.max_tokens.map(|n| format!("max_tokens {n}")),
        number("temperature", prompt.temperature.as_ref()),
        number("top_p", prompt.top_p.as_ref()),
        number("top_k", prompt.top_k.as_ref()),
        prompt.user.as_ref().filter(|user| !user.is_blank()).map(|user| format!("user {}", user.decode())),
        prompt.stream.then(|| "stream".to_owned()),
        prompt.effort.filter(|effort| *effort != Effort::None).map(|effort| format!("effort {}", effort.as_str())),
    ]
    .into_iter()
    .flatten()
    .collect();
    all.extend(prompt.stop.iter().map(|stop| format!("stop {}", stop.decode())));
    for tool in &prompt.tools {
        if let Tool::Function(function) = tool {
            let text = |text: &JsonStr<'_>| text.decode().into_owned();
            let description = function.description.as_ref().map(text).filter(|text| !text.is_empty());
            let schema = function.schema.as_ref().map(schema).unwrap_or_default();
            all.push(format!("tool {} {description:?} {schema}", look.name(&function.name)));
        }
    }
    match &prompt.choice {
        Some(Choice::None) => all.push("no tool".to_owned()),
        Some(Choice::Any) => all.push("any tool".to_owned()),
        Some(Choice::Tool(name)) => all.push(format!("the tool {}", look.name(name))),
        Some(Choice::Auto) | None => {}
    }
    if let Some(Output::Schema { schema, .. }) = &prompt.output {
        all.push(format!("schema {}", sorted(schema)));
    }
    all
}

fn source(source: &Source<'_>) -> String {
    match source {
        // Spelled in either alphabet, padded or not; its kind is told by the bytes where it is not stated.
        Source::Base64 { data, .. } => {
            let digits = data.decode();
            let digits: String = digits.split(|c: char| c.is_ascii_whitespace() || c == '=').collect();
            digits.replace('-', "+").replace('_', "/")
        }
        Source::Url(text) | Source::Text(text) | Source::File(text) => text.decode().into_owned(),
    }
}

fn args(args: &Args<'_>) -> String {
    match args {
        Args::Json(json) => sorted(json),
        Args::Text(text) => sorted(&Json::raw(text.decode())),
    }
}

/// A schema without what every tool's has to say.
fn schema(json: &Json<'_>) -> String {
    let mut members = Vec::new();
    let mut cursor = json.cursor();
    let mut read = || -> Result<(), JsonError> {
        cursor.object()?;
        while let Some(key) = cursor.key()? {
            let value = member(&mut cursor)?;
            let usual = [("type", "\"object\""), ("properties", "{}"), ("additionalProperties", "false")];
            if !usual.iter().any(|(name, what)| key.is(name) && value == *what) {
                members.push(format!("{:?}:{value}", key.decode()));
            }
        }
        Ok(())
    };
    if read().is_err() {
        return json.as_str().to_owned();
    }
    members.sort();
    members.join(",")
}

/// A value with its members in the order of their names and no white space between its marks; as it came where it is no JSON.
fn sorted(json: &Json<'_>) -> String {
    let mut cursor = json.cursor();
    let whole = member(&mut cursor).and_then(|text| cursor.end().map(|()| text));
    whole.unwrap_or_else(|_| json.as_str().to_owned())
}

/// As deep as the cursor goes, and no deeper.
fn member(cursor: &mut Cursor<'_>) -> Result<String, JsonError> {
    match cursor.peek()? {
        Kind::Object => {
            let mut members = Vec::new();
            cursor.object()?;
            while let Some(key) = cursor.key()? {
                let value = member(cursor)?;
                // Schemas that are to be held to are closed where they were open.
                if !(key.is("additionalProperties") && value == "false") {
                    members.push(format!("{:?}:{value}", key.decode()));
                }
            }
            members.sort();
            Ok(format!("{{{}}}", members.join(",")))
        }
        Kind::Array => {
            let mut items = Vec::new();
            cursor.array()?;
            while cursor.item()? {
                items.push(member(cursor)?);
            }
            Ok(format!("[{}]", items.join(",")))
        }
        Kind::Str => Ok(format!("{:?}", cursor.str()?.decode())),
        Kind::Num | Kind::Bool | Kind::Null => Ok(cursor.skip()?.as_str().to_owned()),
    }
}

fn encoded(to: Format, prompt: &Prompt<'_>) -> Option<String> {
    let (capabilities, quirks) = (Capabilities::default(), Quirks::default());
    let target = Target { model: "m", capabilities: &capabilities, quirks: &quirks };
    let mut out = Vec::new();
    (to.codec().encode_request)(prompt, &target, &mut out, &mut Losses::default()).ok()?;
    let text = String::from_utf8(out);
    assert!(text.is_ok(), "what is written is text");
    text.ok()
}

fn reencoded(format: Format, body: &str) -> String {
    let again = (format.codec().decode_request)(body, &mut Losses::default());
    assert!(again.is_ok(), "what is written is read again: {again:?} {body}");
    let written = again.ok().and_then(|prompt| encoded(format, &prompt));
    assert!(written.is_some(), "and written again: {body}");
    written.unwrap_or_default()
}
