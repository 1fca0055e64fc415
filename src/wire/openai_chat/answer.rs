//! Puts the pieces of an answer in the order of the grammar, whole or streamed.
//!
//! Chat completions tell text, thinking and several calls side by side; the grammar has one block open at a time. The
//! first call goes through live; the fragments of the others are held, at most [`HELD_BYTES_MAX`], until the ones
//! before them are complete JSON or the answer ends. A reply that comes whole is the same pieces, each complete.
//!
//! ```text
//! start ─▶ (thinking │ text │ call …)* ─▶ finished ─▶ end          fault: from anywhere
//! ```

use crate::wire::Format;
use crate::wire::event::{Delta, Event, Open, Reason, Sink, Stop, Usage};
use crate::wire::fault::Fault;
use crate::wire::json::{Json, JsonStr, Kind};
use crate::wire::openai_chat::names;
use crate::wire::prompt::Args;

/// What has been told of an answer.
#[derive(Debug, Default)]
pub(super) struct Answer {
    started: bool,
    over: bool,
    block: Block,
    /// The open thinking block has its signature: what follows is another block.
    signed: bool,
    calls: Vec<Call>,
    /// How many of `calls` have been opened. The last of them is live while `block` is a call.
    opened: usize,
    /// What was said while a call was told: it is not the call's end.
    words: Vec<(Word, JsonStr<'static>)>,
    /// The number of the thought that was told last, where thoughts are numbered.
    thought: Option<u64>,
    held_bytes: usize,
    finish: Option<Finish>,
    sequence: Option<JsonStr<'static>>,
    refused: bool,
    /// Tells answers apart where ids have to be made up.
    salt: String,
}

/// The block that is open.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Block {
    #[default]
    None,
    Text,
    Refusal,
    Thinking,
    Call,
}

/// What is said beside calls.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Word {
    Text,
    Refusal,
    Thinking,
    Signature,
    Redacted,
    /// Not said, but meant: what follows is another thought.
    NextThought,
}

/// Why it ended, as the format has words for it. Other words mean nothing and the content decides.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Finish {
    Stop,
    Length,
    Filter,
    Other,
}

/// What one fragment says of a call.
#[derive(Debug, Default)]
pub(super) struct Piece<'a> {
    pub(super) index: Option<u64>,
    pub(super) id: Option<JsonStr<'a>>,
    pub(super) name: Option<JsonStr<'a>>,
    pub(super) args: Option<JsonStr<'a>>,
    /// Vouches for the thinking behind the call.
    pub(super) signature: Option<JsonStr<'a>>,
    /// Another call stood before it in the same list, so without an index it is not a continuation.
    pub(super) another: bool,
}

#[derive(Debug, Default)]
struct Call {
    index: Option<u64>,
    id: JsonStr<'static>,
    name: JsonStr<'static>,
    signature: Option<JsonStr<'static>>,
    /// Arguments that wait for the call to be opened.
    held: JsonStr<'static>,
    braces: Braces,
}

impl Answer {
    pub(super) fn has_started(&self) -> bool {
        self.started
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    pub(super) fn has_finished(&self) -> bool {
        self.finish.is_some()
    }

    /// Whether nothing of it has been shown yet.
    pub(super) fn is_blank(&self) -> bool {
        self.block == Block::None && self.calls.is_empty()
    }

    pub(super) fn start<'a>(
        &mut self,
        id: Option<JsonStr<'a>>,
        model: Option<JsonStr<'a>>,
        created: u64,
        sink: &mut dyn Sink<'a>,
    ) {
        if self.started || self.over {
            return;
        }
        self.started = true;
        // Ids are rarely missing where calls lack theirs; the date keeps turns of one conversation apart.
        self.salt.push_str(id.as_ref().map_or("", |id| id.literal()));
        self.salt.push_str(&created.to_string());
        sink.event(Event::Start { id, model, usage: Usage::default() });
    }

    pub(super) fn usage(&self, usage: Usage, sink: &mut dyn Sink<'_>) {
        if self.started && !self.over {
            sink.event(Event::Usage(usage));
        }
    }

    pub(super) fn text<'a>(&mut self, text: JsonStr<'a>, sink: &mut dyn Sink<'a>) {
        self.say(Word::Text, text, sink);
    }

    /// The words of a refusal also decide why the answer ended.
    pub(super) fn refusal<'a>(&mut self, text: JsonStr<'a>, sink: &mut dyn Sink<'a>) {
        self.refused |= !text.is_empty();
        self.say(Word::Refusal, text, sink);
    }

    pub(super) fn thinking<'a>(&mut self, text: JsonStr<'a>, sink: &mut dyn Sink<'a>) {
        self.say(Word::Thinking, text, sink);
    }

    /// Takes the number of the thought that is told next: another one ends the last, signed or not.
    pub(super) fn thought(&mut self, number: Option<u64>, sink: &mut dyn Sink<'_>) {
        let is_next = number.is_some() && self.thought.is_some() && number != self.thought;
        self.thought = number.or(self.thought);
        if is_next {
            self.say(Word::NextThought, JsonStr::default(), sink);
        }
    }

    pub(super) fn signature<'a>(&mut self, signature: JsonStr<'a>, sink: &mut dyn Sink<'a>) {
        self.say(Word::Signature, signature, sink);
    }

    pub(super) fn redacted<'a>(&mut self, data: JsonStr<'a>, sink: &mut dyn Sink<'a>) {
        self.say(Word::Redacted, data, sink);
    }

    /// Takes a citation of the text told so far. After a call has begun its place is gone.
    pub(super) fn citation<'a>(&mut self, annotation: Json<'a>, sink: &mut dyn Sink<'a>) {
        let is_late = self.block == Block::Call || self.is_calling();
        if annotation.kind() == Kind::Object && !is_late && self.enter(Block::Text, sink) {
            sink.event(Event::Delta(Delta::Citation(annotation)));
        }
    }

    /// Tells what is said, or holds it while a call is told: it is not that call's end.
    fn say<'a>(&mut self, word: Word, text: JsonStr<'a>, sink: &mut dyn Sink<'a>) {
        if self.over || (text.is_empty() && word != Word::NextThought) {
            return;
        }
        if self.is_calling() {
            self.words.push((word, text.borrow().into_owned()));
            return self.hold(text.literal().len(), sink);
        }
        match word {
            Word::Text | Word::Refusal => {
                let block = if word == Word::Text { Block::Text } else { Block::Refusal };
                if self.enter(block, sink) {
                    sink.event(Event::Delta(Delta::Text(text)));
                }
            }
            Word::Thinking | Word::Signature => {
                if self.signed {
                    self.close(sink);
                }
                if self.enter(Block::Thinking, sink) {
                    self.signed = word == Word::Signature;
                    let delta = if self.signed { Delta::Signature(text) } else { Delta::Thinking(text) };
                    sink.event(Event::Delta(delta));
                }
            }
            Word::NextThought if self.block == Block::Thinking => self.close(sink),
            Word::NextThought => {}
            Word::Redacted => self.lone(Open::RedactedThinking { data: text }, sink),
        }
    }

    /// Whether a call has begun whose end is still to come.
    fn is_calling(&self) -> bool {
        let live = self.opened.checked_sub(1).filter(|_| self.block == Block::Call);
        let is_open = live.and_then(|live| self.calls.get(live)).is_some_and(|call| !call.braces.closed());
        is_open || self.opened < self.calls.len()
    }

    /// Says what had to wait.
    fn release(&mut self, sink: &mut dyn Sink<'_>) {
        for (word, text) in std::mem::take(&mut self.words) {
            self.held_bytes = self.held_bytes.saturating_sub(text.literal().len());
            self.say(word, text, sink);
        }
    }

    fn hold(&mut self, bytes: usize, sink: &mut dyn Sink<'_>) {
        self.held_bytes = self.held_bytes.saturating_add(bytes);
        if HELD_BYTES_MAX < self.held_bytes {
            self.fault(Fault::garbage("the upstream's parallel tool calls are too long to be ordered"), sink);
        }
    }

    /// Content no other format has a word for.
    pub(super) fn foreign<'a>(&mut self, kind: JsonStr<'a>, json: Json<'a>, sink: &mut dyn Sink<'a>) {
        self.lone(Open::Foreign { from: Format::OpenaiChat, kind, json }, sink);
    }

    /// Takes a fragment of a call.
    pub(super) fn call<'a>(&mut self, piece: Piece<'a>, sink: &mut dyn Sink<'a>) {
        if self.over {
            return;
        }
        let slot = match self.slot(&piece) {
            Some(slot) => slot,
            None if self.calls.len() < CALLS_MAX => {
                self.calls.push(Call { index: piece.index, ..Call::default() });
                self.calls.len() - 1
            }
            None => return self.fault(Fault::garbage("the upstream's answer has too many tool calls"), sink),
        };
        let is_open = slot < self.opened;
        let is_live = self.block == Block::Call && slot + 1 == self.opened;
        let Some(call) = self.calls.get_mut(slot) else {
            return;
        };
        let args = piece.args.unwrap_or_default();
        call.braces.eat(args.literal());
        if is_live {
            if !args.is_empty() {
                sink.event(Event::Delta(Delta::Args(Args::Text(args))));
            }
        } else if is_open {
            if !args.is_blank() {
                return self.fault(Fault::garbage("the upstream went on with a tool call that had ended"), sink);
            }
        } else {
            call.hold(piece.id, piece.name, &args);
            call.signature = call.signature.take().or_else(|| piece.signature.map(JsonStr::into_owned));
            self.hold(args.literal().len(), sink);
        }
        self.advance(sink);
        if !self.words.is_empty() && !self.is_calling() {
            self.release(sink);
        }
    }

    /// Ends every call there is: nothing more of them will come.
    pub(super) fn flush_calls(&mut self, sink: &mut dyn Sink<'_>) {
        while !self.over && self.opened < self.calls.len() {
            let opened = self.opened;
            let Some(call) = self.calls.get_mut(opened) else {
                return;
            };
            if call.name.is_empty() {
                if call.id.is_empty() && call.held.is_blank() {
                    // An empty item says nothing.
                    self.calls.remove(opened);
                    continue;
                }
                return self.fault(Fault::garbage("the upstream's tool call has no name"), sink);
            }
            self.open_next(sink);
        }
        if self.block == Block::Call {
            self.close(sink);
        }
        self.release(sink);
    }

    /// The upstream said why it ended. Some say it twice: the first one counts.
    pub(super) fn finished<'a>(&mut self, label: &JsonStr<'a>, sequence: Option<JsonStr<'a>>, sink: &mut dyn Sink<'a>) {
        let label = label.decode().to_ascii_lowercase();
        if label.is_empty() || self.finish.is_some() {
            return;
        }
        self.finish = Some(match label.as_str() {
            "stop" => Finish::Stop,
            "length" | "max_tokens" | "model_length" => Finish::Length,
            "content_filter" | "safety" | "recitation" => Finish::Filter,
            "error" => return self.fault(Fault::garbage("the upstream ended its answer with an error"), sink),
            _ => Finish::Other,
        });
        if self.finish == Some(Finish::Stop) {
            self.sequence = sequence.filter(|s| !s.is_empty()).map(JsonStr::into_owned);
        }
    }

    /// A filter took the answer away without a word.
    pub(super) fn filtered(&mut self) {
        self.finish = self.finish.or(Some(Finish::Filter));
    }

    pub(super) fn end(&mut self, sink: &mut dyn Sink<'_>) {
        self.flush_calls(sink);
        if self.over {
            return;
        }
        self.close(sink);
        sink.event(Event::Stop(self.stop()));
        sink.event(Event::End);
        self.over = true;
    }

    pub(super) fn fault(&mut self, fault: Fault, sink: &mut dyn Sink<'_>) {
        if !self.over {
            self.over = true;
            self.words.clear();
            sink.event(Event::Fault(fault));
        }
    }

    /// What was said decides before what it was labelled: a forced call comes with `stop` (CONVERSION 6).
    fn stop(&mut self) -> Stop<'static> {
        let reason = match self.finish {
            Some(Finish::Length) => Reason::MaxTokens,
            Some(Finish::Filter) => Reason::Refusal,
            _ if 0 < self.opened => Reason::ToolUse,
            _ if self.refused => Reason::Refusal,
            _ if self.sequence.is_some() => Reason::StopSequence,
            Some(Finish::Stop | Finish::Other) | None => Reason::EndTurn,
        };
        let sequence = self.sequence.take().filter(|_| reason == Reason::StopSequence);
        Stop { reason, sequence, explanation: None }
    }

    /// Finds the call that a fragment goes on with; `None`: it begins another.
    fn slot(&self, piece: &Piece<'_>) -> Option<usize> {
        let id = piece.id.as_ref().filter(|id| !id.is_empty());
        let name = piece.name.as_ref().filter(|name| !name.is_empty());
        let last = self.calls.len().checked_sub(1)?;
        let at = match (piece.index, id) {
            (Some(index), _) => self.calls.iter().rposition(|call| call.index == Some(index))?,
            (None, Some(id)) => self.calls.iter().rposition(|call| call.id == *id).unwrap_or(last),
            (None, None) => last,
        };
        let call = self.calls.get(at)?;
        let other_id = id.is_some_and(|id| !call.id.is_empty() && call.id != *id);
        let begins = match (piece.index, name) {
            // Some number every call 0.
            (Some(_), name) => other_id && name.is_some(),
            (None, None) => other_id,
            (None, Some(name)) => {
                let named = !call.name.is_empty();
                other_id || (named && (piece.another || call.name != *name || call.braces.closed()))
            }
        };
        (!begins).then_some(at)
    }

    /// Opens the next call as soon as the ones before it are complete.
    fn advance(&mut self, sink: &mut dyn Sink<'_>) {
        while !self.over {
            let is_ready = self.calls.get(self.opened).is_some_and(Call::is_ready);
            let live = self.opened.checked_sub(1).filter(|_| self.block == Block::Call);
            let is_free = live.and_then(|live| self.calls.get(live)).is_none_or(|call| call.braces.closed());
            if !is_ready || !is_free {
                return;
            }
            self.open_next(sink);
        }
    }

    fn open_next(&mut self, sink: &mut dyn Sink<'_>) {
        self.close(sink);
        let ordinal = self.opened;
        let Some(call) = self.calls.get_mut(ordinal) else {
            return;
        };
        if call.id.is_empty() {
            let seed = format!("{}/{ordinal}/{}/{}", self.salt, call.name.literal(), call.held.literal());
            call.id = JsonStr::quoted(&format!("call_{}", names::token(seed.as_bytes(), 24)));
        }
        let held = std::mem::take(&mut call.held);
        self.held_bytes = self.held_bytes.saturating_sub(held.literal().len());
        let id = match &call.signature {
            Some(signature) => names::sealed_id(&call.id, signature),
            None => call.id.clone(),
        };
        sink.event(Event::Open(Open::ToolUse { id, name: call.name.clone() }));
        if !held.is_empty() {
            sink.event(Event::Delta(Delta::Args(Args::Text(held))));
        }
        self.opened += 1;
        self.block = Block::Call;
    }

    /// Stands in a block of this kind, closing another. `false`: the answer is over.
    fn enter(&mut self, block: Block, sink: &mut dyn Sink<'_>) -> bool {
        if self.block == block && !self.over {
            return true;
        }
        self.flush_calls(sink);
        if self.over {
            return false;
        }
        self.close(sink);
        sink.event(Event::Open(match block {
            Block::Thinking => Open::Thinking,
            Block::Refusal => Open::Refusal,
            Block::None | Block::Text | Block::Call => Open::Text,
        }));
        self.block = block;
        true
    }

    /// A block that is all there when it opens.
    fn lone<'a>(&mut self, open: Open<'a>, sink: &mut dyn Sink<'a>) {
        self.flush_calls(sink);
        if self.over {
            return;
        }
        self.close(sink);
        sink.event(Event::Open(open));
        sink.event(Event::Close);
    }

    fn close(&mut self, sink: &mut dyn Sink<'_>) {
        if self.block != Block::None && !self.over {
            sink.event(Event::Close);
        }
        self.block = Block::None;
        self.signed = false;
    }
}

impl Call {
    fn hold(&mut self, id: Option<JsonStr<'_>>, name: Option<JsonStr<'_>>, args: &JsonStr<'_>) {
        if self.id.is_empty() {
            self.id = id.unwrap_or_default().into_owned();
        }
        if self.name.is_empty() {
            self.name = name.unwrap_or_default().into_owned();
        }
        if !args.is_empty() {
            self.held.push(args);
        }
    }

    /// Whether it can be opened before it has ended. An id may still come while there are arguments to come.
    fn is_ready(&self) -> bool {
        !self.name.is_empty() && (!self.id.is_empty() || self.braces.closed())
    }
}

/// Counts braces through a literal that spells JSON, to know when the JSON is complete.
#[derive(Clone, Copy, Debug, Default)]
struct Braces {
    depth: u32,
    in_string: bool,
    escaped: bool,
    closed: bool,
}

impl Braces {
    fn eat(&mut self, literal: &str) {
        let mut bytes = literal.bytes();
        while let Some(byte) = bytes.next() {
            let meant = match byte {
                b'\\' => match bytes.next() {
                    Some(b'u') => hex(&mut bytes),
                    Some(b'b' | b'f' | b'n' | b'r' | b't') => b' ',
                    Some(other) => other,
                    None => return,
                },
                plain => plain,
            };
            self.step(meant);
        }
    }

    fn step(&mut self, byte: u8) {
        if self.in_string {
            self.in_string = byte != b'"' || self.escaped;
            self.escaped = byte == b'\\' && !self.escaped;
            return;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth = self.depth.saturating_add(1),
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                self.closed = self.depth == 0;
            }
            // Only brackets and quotes tell where JSON ends.
            _ => {}
        }
    }

    fn closed(self) -> bool {
        self.closed && self.depth == 0 && !self.in_string
    }
}

/// The character of four digits, as far as it matters here: all but ASCII is one letter like another.
fn hex(bytes: &mut std::str::Bytes<'_>) -> u8 {
    let code = bytes.take(4).fold(0, |code, digit| code * 16 + char::from(digit).to_digit(16).unwrap_or(0));
    u8::try_from(code).unwrap_or(b'a')
}

/// Most that is held of parallel calls while the first of them goes on: as long as the longest frame would be the
/// most a caller could need, and a quarter of it is more than any recorded call has.
const HELD_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most calls in one answer: a fragment looks for its call among all of them.
const CALLS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_when_json_in_a_literal_is_complete() {
        for (literal, complete) in [
            ("", false),
            ("{}", true),
            ("{", false),
            (r#"{\"a\":\"}"#, false),
            (r#"{\"a\":\"}\"}"#, true),
            (r#"{\"a\":\"\\\"}\"}"#, true),
            (r#"{\"a\":\"\\\"}"#, false),
            (r#"\u007b\u007d"#, true),
            (r#"{\"a\":{}}\n"#, true),
        ] {
            let mut braces = Braces::default();
            braces.eat(literal);
            assert_eq!(braces.closed(), complete, "{literal}");
        }
    }
}
