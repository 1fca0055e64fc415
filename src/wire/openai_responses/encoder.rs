//! Writes a stream of events, and the response that its last one holds (CONVERSION 8.5).
//!
//! ```text
//! created in_progress (output_item.added … output_item.done)* completed | incomplete | error failed
//! ```
//!
//! Texts side by side are parts of one message. Everything that was said is kept, for each item is told once more when it is
//! done, and all of them at the end.

use crate::wire::event::{Delta, Event, Open, Reason, Stop, Usage};
use crate::wire::fault::Fault;
use crate::wire::json::{Cursor, Json, JsonStr, Writer};
use crate::wire::openai_annotations::{self, Annotation, Style, chars};
use crate::wire::openai_responses::items_out::text_of;
use crate::wire::openai_responses::{failed, names, usage};
use crate::wire::prompt::Args;
use crate::wire::{Memory, StreamEncoder};

#[derive(Debug)]
pub(super) struct Encoder {
    memory: Memory,
    /// Nobody reads the events: only the response is wanted.
    is_quiet: bool,
    sequence: u64,
    id: String,
    model: JsonStr<'static>,
    /// The items that are done, as they are told, with commas between them.
    output: Vec<u8>,
    /// Index of the next item.
    next: u64,
    block: Block,
    /// The open block is a call that is over: whether it was cut off is known when it is known what comes next.
    is_closing: bool,
    message: Option<Message>,
    usage: Usage,
    stop: Option<Stop<'static>>,
    has_refusal: bool,
    is_over: bool,
}

/// The message that is open.
#[derive(Debug)]
struct Message {
    id: String,
    /// Its parts that are done, with commas between them.
    parts: Vec<u8>,
    /// Index of the next part.
    next: u64,
}

/// The open block.
#[derive(Debug)]
enum Block {
    None,
    /// A part of a message: begun with its first word.
    Words {
        is_refusal: bool,
        is_begun: bool,
        text: JsonStr<'static>,
        /// Told when the part is done: only then is it known where it ends.
        citations: Vec<Annotation>,
    },
    Thinking {
        id: String,
        is_begun: bool,
        text: JsonStr<'static>,
        signature: JsonStr<'static>,
    },
    Call {
        id: String,
        call_id: JsonStr<'static>,
        /// The name as the client knows it, and the group it belongs to.
        name: JsonStr<'static>,
        namespace: Option<JsonStr<'static>>,
        /// It is given a text: told when it is known.
        is_text: bool,
        arguments: JsonStr<'static>,
    },
    /// It has no place here.
    Skipped,
}

impl StreamEncoder for Encoder {
    fn event(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        if !self.is_over {
            self.tell(event, out);
        }
    }
}

impl Encoder {
    pub(super) fn new(memory: &Memory) -> Self {
        Self {
            memory: memory.clone(),
            is_quiet: false,
            sequence: 0,
            id: String::new(),
            model: JsonStr::default(),
            output: Vec::new(),
            next: 0,
            block: Block::None,
            is_closing: false,
            message: None,
            usage: Usage::default(),
            stop: None,
            has_refusal: false,
            is_over: false,
        }
    }

    /// One that gathers a response and tells no events.
    pub(super) fn quiet(memory: &Memory) -> Self {
        Self { is_quiet: true, ..Self::new(memory) }
    }

    pub(super) fn tell(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        match event {
            Event::Start { id, model, usage } => self.start(id.as_ref(), model.as_ref(), usage, out),
            Event::Open(open) => self.open(open, out),
            Event::Delta(delta) => self.delta(delta, out),
            Event::Close => self.close(out),
            Event::Usage(usage) => self.usage.update(usage),
            Event::Stop(stop) => {
                self.stop = Some(Stop {
                    reason: stop.reason,
                    sequence: None,
                    explanation: stop.explanation.clone().map(JsonStr::into_owned),
                });
            }
            Event::End => self.end(out),
            Event::Fault(fault) => self.fail(fault, out),
            Event::Ping => self.frame("keepalive", out, |_, _| {}),
        }
    }

    fn start(&mut self, id: Option<&JsonStr<'_>>, model: Option<&JsonStr<'_>>, usage: &Usage, out: &mut Vec<u8>) {
        self.usage.update(usage);
        self.id = names::id("resp_", id, self.memory.seed, 0);
        self.model = self.memory.model_name(model).into_owned();
        for kind in ["response.created", "response.in_progress"] {
            self.frame(kind, out, |encoder, w| {
                w.key("response").object();
                encoder.members("in_progress", None, w);
                w.end_object();
            });
        }
    }

    /// Writes one event: its name twice, its number, and the members after them.
    fn frame(&mut self, kind: &'static str, out: &mut Vec<u8>, members: impl FnOnce(&Self, &mut Writer<'_>)) {
        if self.is_quiet {
            return;
        }
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\ndata: ");
        let mut w = Writer::new(out);
        w.object().key("type").word(kind).key("sequence_number").int(self.sequence);
        members(self, &mut w);
        w.end_object();
        out.extend_from_slice(b"\n\n");
        self.sequence += 1;
    }

    /// An event of an item.
    fn of_item(&mut self, kind: &'static str, id: &str, out: &mut Vec<u8>, members: impl FnOnce(&mut Writer<'_>)) {
        let index = self.next;
        self.frame(kind, out, |_, w| {
            w.key("item_id").str(id).key("output_index").int(index);
            members(w);
        });
    }

    fn open(&mut self, open: &Open<'_>, out: &mut Vec<u8>) {
        self.close_call("completed", out);
        let is_words = match open {
            Open::Text | Open::Refusal => true,
            Open::ToolUse { name, .. } => self.is_unwrapped(name),
            Open::Thinking | Open::RedactedThinking { .. } | Open::Foreign { .. } => false,
        };
        if is_words {
            let is_refusal = matches!(open, Open::Refusal);
            self.block = fresh_part(is_refusal);
            return;
        }
        self.block = match open {
            Open::Thinking => {
                let id = self.item_id("rs_");
                Block::Thinking { id, is_begun: false, text: JsonStr::default(), signature: JsonStr::default() }
            }
            Open::RedactedThinking { data } => {
                self.end_message(out);
                let (id, content) = (self.item_id("rs_"), names::redacted(data));
                self.added(out, |w| reasoning(&id, &JsonStr::default(), Some(&content), w));
                self.done(out, |w| reasoning(&id, &JsonStr::default(), Some(&content), w));
                Block::Skipped
            }
            Open::ToolUse { id, name } => self.open_call(id, name, out),
            // Server tools have been run where they came from; a client would run them again.
            Open::Text | Open::Refusal | Open::Foreign { .. } => Block::Skipped,
        };
    }

    fn open_call(&mut self, call_id: &JsonStr<'_>, name: &JsonStr<'_>, out: &mut Vec<u8>) -> Block {
        self.end_message(out);
        let flat = self.memory.tool_name(name).into_owned();
        let is_text = self.memory.texts.iter().any(|text| flat.is(text));
        let group = self.memory.groups.iter().find(|group| flat.is(&group.0));
        let (namespace, name) = match group {
            Some((_, namespace, name)) => (Some(JsonStr::quoted(namespace)), JsonStr::quoted(name)),
            None => (None, flat),
        };
        let id = self.item_id(if is_text { "ctc_" } else { "fc_" });
        let call_id = call_id.borrow().into_owned();
        let empty = JsonStr::default();
        let call =
            Call { id: &id, call_id: &call_id, name: &name, namespace: namespace.as_ref(), is_text, input: &empty };
        self.added(out, |w| call.write("in_progress", w));
        Block::Call { id, call_id, name, namespace, is_text, arguments: JsonStr::default() }
    }

    fn is_unwrapped(&self, name: &JsonStr<'_>) -> bool {
        self.memory.unwrap_tool.as_deref().is_some_and(|tool| name.is(tool))
    }

    fn item_id(&self, prefix: &str) -> String {
        names::id(prefix, None, self.memory.seed, self.next)
    }

    fn added(&mut self, out: &mut Vec<u8>, item: impl FnOnce(&mut Writer<'_>)) {
        let index = self.next;
        self.frame("response.output_item.added", out, |_, w| {
            w.key("output_index").int(index).key("item");
            item(w);
        });
    }

    /// An item is done: it is told, and kept for the end.
    fn done(&mut self, out: &mut Vec<u8>, item: impl FnOnce(&mut Writer<'_>)) {
        let index = self.next;
        if !self.output.is_empty() {
            self.output.push(b',');
        }
        let from = self.output.len();
        let mut output = std::mem::take(&mut self.output);
        item(&mut Writer::new(&mut output));
        self.output = output;
        self.frame("response.output_item.done", out, |encoder, w| {
            let item = encoder.output.get(from..).unwrap_or_default();
            w.key("output_index").int(index).key("item").raw(&String::from_utf8_lossy(item));
        });
        self.next += 1;
    }

    fn delta(&mut self, delta: &Delta<'_>, out: &mut Vec<u8>) {
        match delta {
            Delta::Text(text) => self.words(text, out),
            Delta::Thinking(text) => self.thought(text, out),
            Delta::Signature(more) => {
                if let Block::Thinking { signature, .. } = &mut self.block {
                    signature.push(more);
                }
            }
            Delta::Args(args) => {
                let text = match args {
                    Args::Text(text) => text.borrow(),
                    Args::Json(json) => JsonStr::quote(json.as_str()),
                };
                match self.block {
                    Block::Words { .. } => self.words(&text, out),
                    Block::None | Block::Thinking { .. } | Block::Call { .. } | Block::Skipped => {
                        self.arguments(&text, out);
                    }
                }
            }
            Delta::Citation(citation) => self.cite(citation, out),
            Delta::Foreign(_) => {}
        }
    }

    fn cite(&mut self, citation: &Json<'_>, out: &mut Vec<u8>) {
        if let Block::Words { is_refusal: false, .. } = &self.block
            && let Some(annotation) = Annotation::read(citation, Style::Flat, 0)
        {
            self.begin_words(out);
            if let Block::Words { citations, .. } = &mut self.block {
                citations.push(annotation);
            }
        }
    }

    fn words(&mut self, more: &JsonStr<'_>, out: &mut Vec<u8>) {
        if more.is_empty() {
            return;
        }
        self.begin_words(out);
        let Block::Words { is_refusal, text, .. } = &mut self.block else {
            return;
        };
        text.push(more);
        let kind = if *is_refusal { "response.refusal.delta" } else { "response.output_text.delta" };
        let is_refusal = *is_refusal;
        self.of_part(kind, out, |w| {
            w.key("delta").lit(more);
            if !is_refusal {
                w.key("logprobs").array().end_array();
            }
        });
    }

    /// An event of the open part of the open message.
    fn of_part(&mut self, kind: &'static str, out: &mut Vec<u8>, members: impl FnOnce(&mut Writer<'_>)) {
        let index = self.next;
        self.frame(kind, out, |encoder, w| {
            let message = encoder.message.as_ref();
            w.key("item_id").str(message.map_or("", |message| &message.id)).key("output_index").int(index);
            w.key("content_index").int(message.map_or(0, |message| message.next));
            members(w);
        });
    }

    fn begin_words(&mut self, out: &mut Vec<u8>) {
        let Block::Words { is_begun, is_refusal, .. } = &mut self.block else {
            return;
        };
        let is_refusal = *is_refusal;
        if std::mem::replace(is_begun, true) {
            return;
        }
        self.has_refusal |= is_refusal;
        if self.message.is_none() {
            let id = self.item_id("msg_");
            self.added(out, |w| message(&id, "in_progress", b"", w));
            self.message = Some(Message { id, parts: Vec::new(), next: 0 });
        }
        self.of_part("response.content_part.added", out, |w| {
            w.key("part");
            part(is_refusal, &JsonStr::default(), &[], w);
        });
    }

    fn end_words(&mut self, is_refusal: bool, text: &JsonStr<'_>, cited: &[Annotation], out: &mut Vec<u8>) {
        for (index, annotation) in cited.iter().enumerate() {
            self.of_part("response.output_text.annotation.added", out, |w| {
                w.key("annotation_index").int(index as u64).key("annotation");
                annotation.write(Style::Flat, w);
            });
        }
        let (kind, key) = match is_refusal {
            true => ("response.refusal.done", "refusal"),
            false => ("response.output_text.done", "text"),
        };
        self.of_part(kind, out, |w| {
            w.key(key).lit(text);
            if !is_refusal {
                w.key("logprobs").array().end_array();
            }
        });
        self.of_part("response.content_part.done", out, |w| {
            w.key("part");
            part(is_refusal, text, cited, w);
        });
        if let Some(message) = &mut self.message {
            if !message.parts.is_empty() {
                message.parts.push(b',');
            }
            part(is_refusal, text, cited, &mut Writer::new(&mut message.parts));
            message.next += 1;
        }
    }

    /// A message after which the answer was cut off is not complete either.
    fn end_message(&mut self, out: &mut Vec<u8>) {
        let status = self.status();
        if let Some(Message { id, parts, .. }) = self.message.take() {
            self.done(out, |w| message(&id, status, &parts, w));
        }
    }

    fn thought(&mut self, more: &JsonStr<'_>, out: &mut Vec<u8>) {
        if more.is_empty() || self.memory.hide_thinking {
            return;
        }
        self.begin_thought(out);
        let Block::Thinking { id, text, .. } = &mut self.block else {
            return;
        };
        let id = std::mem::take(id);
        text.push(more);
        self.of_item("response.reasoning_summary_text.delta", &id, out, |w| {
            w.key("summary_index").int(0).key("delta").lit(more);
        });
        if let Block::Thinking { id: own, .. } = &mut self.block {
            *own = id;
        }
    }

    fn begin_thought(&mut self, out: &mut Vec<u8>) {
        let Block::Thinking { is_begun, id, .. } = &mut self.block else {
            return;
        };
        if std::mem::replace(is_begun, true) {
            return;
        }
        // A message that was open before it takes its number first.
        let was_open = self.message.is_some();
        let mut own = id.clone();
        self.end_message(out);
        if was_open {
            own = self.item_id("rs_");
            if let Block::Thinking { id, .. } = &mut self.block {
                id.clone_from(&own);
            }
        }
        self.added(out, |w| reasoning(&own, &JsonStr::default(), None, w));
        self.of_item("response.reasoning_summary_part.added", &own, out, |w| {
            w.key("summary_index").int(0).key("part");
            summary(&JsonStr::default(), w);
        });
    }

    fn end_thought(&mut self, thought: (&str, bool), text: &JsonStr<'_>, signature: &JsonStr<'_>, out: &mut Vec<u8>) {
        let (id, is_begun) = thought;
        let mut content = names::content_of(signature);
        if is_begun {
            // What nobody vouches for says so when it comes back, to whichever upstream.
            content = content.or_else(|| Some(names::unvouched(text)));
            self.of_item("response.reasoning_summary_text.done", id, out, |w| {
                w.key("summary_index").int(0).key("text").lit(text);
            });
            self.of_item("response.reasoning_summary_part.done", id, out, |w| {
                w.key("summary_index").int(0).key("part");
                summary(text, w);
            });
            return self.done(out, |w| reasoning(id, text, content.as_ref(), w));
        }
        // Nothing to see, but something to give back.
        if content.is_some() {
            self.end_message(out);
            let id = self.item_id("rs_");
            self.added(out, |w| reasoning(&id, &JsonStr::default(), None, w));
            self.done(out, |w| reasoning(&id, &JsonStr::default(), content.as_ref(), w));
        }
    }

    fn arguments(&mut self, more: &JsonStr<'_>, out: &mut Vec<u8>) {
        let Block::Call { id, is_text, arguments, .. } = &mut self.block else {
            return;
        };
        arguments.push(more);
        if *is_text || more.is_empty() {
            return;
        }
        let id = std::mem::take(id);
        self.of_item("response.function_call_arguments.delta", &id, out, |w| {
            w.key("delta").lit(more);
        });
        if let Block::Call { id: own, .. } = &mut self.block {
            *own = id;
        }
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        self.is_closing = matches!(self.block, Block::Call { .. });
        if self.is_closing {
            return;
        }
        match std::mem::replace(&mut self.block, Block::None) {
            Block::Words { is_refusal, is_begun: true, text, mut citations } => {
                if !citations.is_empty() {
                    let end = chars(&text);
                    citations.iter_mut().for_each(|citation| citation.end_at(end));
                }
                self.end_words(is_refusal, &text, &citations, out);
            }
            Block::Thinking { id, is_begun, text, signature } => {
                self.end_thought((&id, is_begun), &text, &signature, out);
            }
            Block::Words { .. } | Block::Call { .. } | Block::Skipped | Block::None => {}
        }
    }

    /// Ends a call that is over.
    fn close_call(&mut self, status: &'static str, out: &mut Vec<u8>) {
        if !std::mem::take(&mut self.is_closing) {
            return;
        }
        let block = std::mem::replace(&mut self.block, Block::None);
        let Block::Call { id, call_id, name, namespace, is_text, mut arguments } = block else {
            return;
        };
        // Clients parse them, and add up what came.
        if !is_text && arguments.is_blank() {
            let none = JsonStr::quote("{}");
            self.of_item("response.function_call_arguments.delta", &id, out, |w| {
                w.key("delta").lit(&none);
            });
            arguments.push(&none);
        }
        let is_whole = Cursor::new(&arguments.decode()).skip().is_ok();
        let input = if is_text { text_of(&Args::Text(arguments)) } else { arguments };
        let call =
            Call { id: &id, call_id: &call_id, name: &name, namespace: namespace.as_ref(), is_text, input: &input };
        self.end_call(&call, if is_whole { "completed" } else { status }, out);
    }

    fn end_call(&mut self, call: &Call<'_>, status: &'static str, out: &mut Vec<u8>) {
        if call.is_text {
            self.of_item("response.custom_tool_call_input.delta", call.id, out, |w| {
                w.key("delta").lit(call.input);
            });
            self.of_item("response.custom_tool_call_input.done", call.id, out, |w| {
                w.key("input").lit(call.input);
            });
        } else {
            self.of_item("response.function_call_arguments.done", call.id, out, |w| {
                w.key("arguments").lit(call.input);
            });
        }
        self.done(out, |w| call.write(status, w));
    }

    /// What is still open is done.
    pub(super) fn finish(&mut self) {
        self.settle(&mut Vec::new());
    }

    fn settle(&mut self, out: &mut Vec<u8>) {
        self.close_call(self.status(), out);
        let is_refusal = self.stop.as_ref().is_some_and(|stop| stop.reason == Reason::Refusal);
        if is_refusal && !self.has_refusal {
            let words = self.stop.as_ref().and_then(|stop| stop.explanation.clone());
            self.block = fresh_part(true);
            self.words(&words.filter(|words| !words.is_empty()).unwrap_or_else(|| JsonStr::quote(REFUSED)), out);
            self.close(out);
        }
        self.end_message(out);
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.is_over = true;
        self.settle(out);
        let kind = if self.incomplete().is_some() { "response.incomplete" } else { "response.completed" };
        self.frame(kind, out, |encoder, w| {
            w.key("response");
            encoder.write(w);
        });
    }

    fn fail(&mut self, fault: &Fault, out: &mut Vec<u8>) {
        self.is_over = true;
        failed(fault, Some(self.sequence), out, |w| self.members("failed", None, w));
    }

    /// The status of an item that the answer ends with.
    fn status(&self) -> &'static str {
        if self.incomplete().is_some() { "incomplete" } else { "completed" }
    }

    /// Why the answer is not whole.
    fn incomplete(&self) -> Option<&'static str> {
        match self.stop.as_ref().map(|stop| stop.reason) {
            Some(Reason::MaxTokens | Reason::ContextWindow) => Some("max_output_tokens"),
            Some(Reason::EndTurn | Reason::StopSequence | Reason::ToolUse | Reason::Refusal | Reason::PauseTurn)
            | None => None,
        }
    }

    /// Writes the response by itself.
    pub(super) fn response(&self, out: &mut Vec<u8>) {
        self.write(&mut Writer::new(out));
    }

    fn write(&self, w: &mut Writer<'_>) {
        let incomplete = self.incomplete();
        w.object();
        self.members(self.status(), incomplete, w);
        w.key("error").null().key("incomplete_details");
        match incomplete {
            Some(reason) => w.object().key("reason").word(reason).end_object(),
            None => w.null(),
        };
        w.end_object();
    }

    /// The response's members but its error and why it is incomplete.
    fn members(&self, status: &'static str, incomplete: Option<&str>, w: &mut Writer<'_>) {
        let is_done = status == "completed" || incomplete.is_some();
        w.key("id").str(&self.id).key("object").word("response").key("created_at").int(self.memory.created);
        w.key("status").word(status).key("model").lit(&self.model);
        w.key("output").array();
        if status != "in_progress" && !self.output.is_empty() {
            w.raw(&String::from_utf8_lossy(&self.output));
        }
        w.end_array();
        match self.memory.echo.as_deref() {
            Some(echo) => w.members(echo),
            None => w.members(r#","tools":[],"tool_choice":"auto","parallel_tool_calls":true"#),
        };
        w.key("usage");
        match is_done {
            true => usage::write(&self.usage, w),
            false => {
                w.null();
            }
        }
    }
}

/// What a refusal says when the model gave no reason.
const REFUSED: &str = "The model declined to answer this request.";

fn message(id: &str, status: &'static str, parts: &[u8], w: &mut Writer<'_>) {
    w.object().key("id").str(id).key("type").word("message").key("status").word(status);
    w.key("role").word("assistant").key("content").array();
    if !parts.is_empty() {
        w.raw(&String::from_utf8_lossy(parts));
    }
    w.end_array().end_object();
}

/// A part of a message that has not begun.
fn fresh_part(is_refusal: bool) -> Block {
    Block::Words { is_refusal, is_begun: false, text: JsonStr::default(), citations: Vec::new() }
}

fn part(is_refusal: bool, text: &JsonStr<'_>, cited: &[Annotation], w: &mut Writer<'_>) {
    if is_refusal {
        w.object().key("type").word("refusal").key("refusal").lit(text).end_object();
    } else {
        w.object().key("type").word("output_text").key("text").lit(text);
        w.key("annotations");
        openai_annotations::write(cited, Style::Flat, w);
        w.key("logprobs").array().end_array().end_object();
    }
}

fn summary(text: &JsonStr<'_>, w: &mut Writer<'_>) {
    w.object().key("type").word("summary_text").key("text").lit(text).end_object();
}

fn reasoning(id: &str, text: &JsonStr<'_>, content: Option<&JsonStr<'_>>, w: &mut Writer<'_>) {
    w.object().key("id").str(id).key("type").word("reasoning").key("summary").array();
    if !text.is_empty() {
        summary(text, w);
    }
    w.end_array();
    if let Some(content) = content {
        w.key("encrypted_content").lit(content);
    }
    w.end_object();
}

/// A call, as an item.
struct Call<'c> {
    id: &'c str,
    call_id: &'c JsonStr<'c>,
    name: &'c JsonStr<'c>,
    namespace: Option<&'c JsonStr<'c>>,
    is_text: bool,
    /// Its text, or its arguments.
    input: &'c JsonStr<'c>,
}

impl Call<'_> {
    fn write(&self, status: &'static str, w: &mut Writer<'_>) {
        let kind = if self.is_text { "custom_tool_call" } else { "function_call" };
        w.object().key("id").str(self.id).key("type").word(kind).key("status").word(status);
        w.key("call_id").lit(self.call_id).key("name").lit(self.name);
        if let Some(namespace) = self.namespace {
            w.key("namespace").lit(namespace);
        }
        w.key(if self.is_text { "input" } else { "arguments" }).lit(self.input).end_object();
    }
}
