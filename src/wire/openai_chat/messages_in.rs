//! Reads messages into turns (CONVERSION 3.2, 3.4, 3.5).
//!
//! The tools' answers to one assistant turn, and a user message right after them, become one turn; every answer must
//! belong to a call of that turn, and every call must have its answer before the history goes on.

use std::collections::HashMap;

use crate::wire::json::Json;
use crate::wire::json::{Cursor, JsonStr, Kind};
use crate::wire::loss::{Losses, Refusal};
use crate::wire::openai_chat::body::Detail;
use crate::wire::openai_chat::parts_in;
use crate::wire::openai_chat::request_in::{place, unknown};
use crate::wire::openai_shared;
use crate::wire::prompt::{Args, Block, BlockKind, Cache, Prompt, Role, Turn};

/// Reads the list of messages into the prompt.
pub(super) fn decode<'a>(
    c: &mut Cursor<'a>,
    body: &'a str,
    prompt: &mut Prompt<'a>,
    losses: &mut Losses,
) -> Result<(), Refusal> {
    let at = c.at();
    let mut history = History { prompt, losses, open: Open::default() };
    c.array()?;
    while c.item()? {
        let message = Message::read(c, body, history.losses)?;
        history.add(message)?;
    }
    if history.prompt.turns.is_empty() && history.prompt.system.is_empty() {
        return Err(Refusal::at(at, "`messages` must not be empty"));
    }
    history.end(at)
}

/// One message, by its members.
#[derive(Default)]
struct Message<'a> {
    at: usize,
    role: JsonStr<'a>,
    content: Option<Vec<Block<'a>>>,
    name: Option<(usize, JsonStr<'a>)>,
    refusal: Option<(usize, JsonStr<'a>)>,
    tool_calls: Option<Cursor<'a>>,
    function_call: Option<Cursor<'a>>,
    tool_call_id: Option<JsonStr<'a>>,
    reasoning: Option<(usize, JsonStr<'a>)>,
    details: Option<Cursor<'a>>,
    is_error: bool,
    cache: Option<Cache>,
}

impl<'a> Message<'a> {
    fn read(c: &mut Cursor<'a>, body: &'a str, losses: &mut Losses) -> Result<Self, Refusal> {
        let mut message = Self { at: c.at(), ..Self::default() };
        c.object()?;
        while let Some(key) = c.key()? {
            let at = c.at();
            if c.peek()? == Kind::Null {
                c.skip()?;
                continue;
            }
            match key.decode().as_ref() {
                "role" => message.role = c.str()?,
                "content" => message.content = Some(parts_in::content(c, body, losses)?),
                "name" => message.name = Some((at, c.str()?)),
                "refusal" => message.refusal = Some((at, c.str()?)),
                "tool_calls" => message.tool_calls = Some(place(c)?),
                "function_call" => message.function_call = Some(place(c)?),
                "tool_call_id" => message.tool_call_id = Some(c.str()?),
                // Where both stand they are the same.
                "reasoning_content" | "reasoning" if c.peek()? == Kind::Str => {
                    message.reasoning = Some((at, c.str()?)).filter(|(_, t)| !t.is_empty()).or(message.reasoning);
                }
                "reasoning_details" | "thinking_blocks" => message.details = Some(place(c)?),
                "is_error" => message.is_error = c.opt_bool()?.unwrap_or(false),
                "cache_control" => message.cache = openai_shared::cache(c, losses)?,
                "audio" => {
                    return Err(Refusal::at(at, "audio of an earlier answer cannot be carried to this model"));
                }
                // Notes on an earlier answer's text, echoed back; and that an answer goes on, which being last says.
                "annotations" | "prefix" => {
                    c.skip()?;
                }
                _ => unknown(c, at, losses)?,
            }
        }
        Ok(message)
    }
}

struct History<'a, 'p> {
    prompt: &'p mut Prompt<'a>,
    losses: &'p mut Losses,
    open: Open<'a>,
}

/// The calls of the last assistant turn, while they may be answered.
#[derive(Default)]
struct Open<'a> {
    calls: Vec<Call<'a>>,
    by_id: HashMap<String, usize>,
    /// The first of `calls` that may still be looked at for an answer without an id.
    next_blank: usize,
    /// The turn of their answers has begun, and is the last one.
    has_turn: bool,
}

struct Call<'a> {
    id: JsonStr<'a>,
    name: JsonStr<'a>,
    /// The client gave it no id.
    is_blank: bool,
    /// Where in the turn of answers its own stands.
    answer: Option<usize>,
}

impl<'a> History<'a, '_> {
    fn add(&mut self, mut message: Message<'a>) -> Result<(), Refusal> {
        let role = std::mem::take(&mut message.role);
        let role = role.decode();
        if let Some((at, _)) = message.name.as_ref().filter(|_| role != "tool" && role != "function") {
            self.losses.at(*at, "no other format names the author of a message");
        }
        match role.as_ref() {
            "system" | "developer" => self.system(message),
            "user" => self.user(message),
            "assistant" => self.assistant(message),
            "tool" | "function" => self.result(message, role == "function"),
            "" => Err(Refusal::at(message.at, "a message needs a `role`")),
            other => Err(Refusal::at(message.at, format!("`{other}` is no role of a message"))),
        }
    }

    fn system(&mut self, message: Message<'a>) -> Result<(), Refusal> {
        self.settle(message.at)?;
        let mut blocks = message.content.unwrap_or_default();
        mark(&mut blocks, message.cache);
        if let Some(block) = blocks.iter().find(|block| !matches!(block.kind, BlockKind::Text(_))) {
            return Err(Refusal::at(block.at, "a system message can only hold text"));
        }
        match self.prompt.turns.is_empty() {
            true if self.prompt.system.is_empty() => self.prompt.system = blocks,
            true => self.prompt.system.extend(blocks),
            false => self.prompt.turns.push(Turn { role: Role::System, blocks, at: message.at }),
        }
        Ok(())
    }

    fn user(&mut self, message: Message<'a>) -> Result<(), Refusal> {
        let Some(mut blocks) = message.content else {
            return Err(Refusal::at(message.at, "a user message needs `content`"));
        };
        if let Some(calls) = &message.tool_calls {
            self.losses.at(calls.clone().at(), "only assistants call tools");
        }
        let joins = self.open.has_turn;
        self.settle(message.at)?;
        mark(&mut blocks, message.cache);
        match self.prompt.turns.last_mut().filter(|_| joins) {
            Some(answers) => answers.blocks.extend(blocks),
            None => self.prompt.turns.push(Turn { role: Role::User, blocks, at: message.at }),
        }
        Ok(())
    }

    fn assistant(&mut self, message: Message<'a>) -> Result<(), Refusal> {
        self.settle(message.at)?;
        let at = message.at;
        let mut blocks = self.thinking(&message)?;
        let content = message.content.unwrap_or_default();
        let is_thought =
            |block: &Block<'_>| matches!(block.kind, BlockKind::Thinking { .. } | BlockKind::RedactedThinking { .. });
        let is_empty = |block: &Block<'_>| matches!(&block.kind, BlockKind::Text(text) if text.is_empty());
        let (thoughts, said): (Vec<_>, Vec<_>) = content.into_iter().partition(is_thought);
        blocks.extend(thoughts);
        blocks.extend(said.into_iter().filter(|block| !is_empty(block)));
        if let Some((at, words)) = message.refusal.filter(|(_, words)| !words.is_empty()) {
            blocks.push(Block::new(BlockKind::Refusal(words), at));
        }
        if let Some(mut list) = message.tool_calls {
            list.array()?;
            while list.item()? {
                blocks.push(self.call(&mut list)?);
            }
        }
        if let Some(mut call) = message.function_call {
            let at = call.at();
            blocks.push(self.legacy_call(&mut call, at)?);
        }
        mark(&mut blocks, message.cache);
        if blocks.is_empty() {
            self.losses.at(at, "an assistant message without content is left out");
            return Ok(());
        }
        self.prompt.turns.push(Turn { role: Role::Assistant, blocks, at });
        Ok(())
    }

    /// Reads replayed thinking: the signed details if there are any, else the text.
    fn thinking(&mut self, message: &Message<'a>) -> Result<Vec<Block<'a>>, Refusal> {
        let mut blocks: Vec<Block<'a>> = Vec::new();
        let Some(mut list) = message.details.clone() else {
            blocks.extend(message.reasoning.as_ref().map(|(at, text)| thought(text.clone(), None, *at)));
            return Ok(blocks);
        };
        let mut last_index = None;
        list.array()?;
        while list.item()? {
            let at = list.at();
            let detail = Detail::read(&mut list)?;
            let is_ours = detail.format.is_none() || detail.is_claudes();
            let signature = detail.signature.filter(|signature| is_ours && !signature.is_empty());
            let text = detail.text.unwrap_or_default();
            if let Some(data) = detail.data.filter(|data| !data.is_empty()) {
                match is_ours {
                    true => blocks.push(Block::new(BlockKind::RedactedThinking { data }, at)),
                    false => self.losses.at(at, "encrypted reasoning means nothing to another vendor"),
                }
                last_index = None;
                continue;
            }
            // Clients that gather a stream may send its pieces one by one.
            let goes_on = detail.index.is_some() && detail.index == last_index;
            match blocks.last_mut().map(|block| &mut block.kind) {
                Some(BlockKind::Thinking { text: so_far, signature: signed @ None }) if goes_on => {
                    so_far.push(&text);
                    *signed = signature;
                }
                _ if text.is_empty() && signature.is_none() => {}
                _ => blocks.push(thought(text, signature, at)),
            }
            last_index = detail.index;
        }
        if let Some((at, text)) = &message.reasoning {
            fill_in(&mut blocks, text, *at);
        }
        Ok(blocks)
    }

    fn call(&mut self, c: &mut Cursor<'a>) -> Result<Block<'a>, Refusal> {
        let at = c.at();
        let start = c.clone();
        let (mut id, mut kind, mut function, mut cache) = (None, None, None, None);
        c.object()?;
        while let Some(key) = c.key()? {
            let at = c.at();
            match key.decode().as_ref() {
                "id" => id = c.opt_str()?,
                "type" => kind = c.opt_str()?,
                "function" => function = Some(self.function(c)?),
                "cache_control" => cache = openai_shared::cache(c, self.losses)?,
                // The place in a list that is read in order.
                "index" => {
                    c.skip()?;
                }
                "custom" => {
                    c.skip()?;
                }
                _ => unknown(c, at, self.losses)?,
            }
        }
        if let Some(kind) = kind.filter(|kind| !kind.is("function")) {
            // Nothing can be made of the call, but its answer is no stray one.
            self.expect(id, &JsonStr::default(), at)?;
            return Ok(Block::new(BlockKind::Foreign { kind, json: start.clone().skip()? }, at));
        }
        let (name, input) = function.ok_or_else(|| Refusal::at(at, "a tool call needs a `function`"))?;
        let id = self.expect(id, &name, at)?;
        Ok(Block { cache, ..Block::new(BlockKind::ToolUse { id, name, input }, at) })
    }

    fn legacy_call(&mut self, c: &mut Cursor<'a>, at: usize) -> Result<Block<'a>, Refusal> {
        let (name, input) = self.function(c)?;
        let id = self.expect(None, &name, at)?;
        Ok(Block::new(BlockKind::ToolUse { id, name, input }, at))
    }

    fn function(&mut self, c: &mut Cursor<'a>) -> Result<(JsonStr<'a>, Args<'a>), Refusal> {
        let at = c.at();
        let mut name = JsonStr::default();
        let mut input = Args::Json(Json::raw("{}"));
        c.object()?;
        while let Some(key) = c.key()? {
            let at = c.at();
            match key.decode().as_ref() {
                "name" => name = c.str()?,
                "arguments" => input = arguments(c)?,
                _ => unknown(c, at, self.losses)?,
            }
        }
        if name.is_empty() {
            return Err(Refusal::at(at, "a tool call needs a `name`"));
        }
        Ok((name, input))
    }

    /// Notes that a call waits for its answer, making up an id where there is none.
    fn expect(&mut self, id: Option<JsonStr<'a>>, name: &JsonStr<'a>, at: usize) -> Result<JsonStr<'a>, Refusal> {
        let given = id.filter(|id| !id.is_empty());
        let is_blank = given.is_none();
        let ordinal = self.open.calls.len();
        let id = given.unwrap_or_else(|| JsonStr::quoted(&format!("call_mp_{}_{ordinal}", self.prompt.turns.len())));
        if self.open.by_id.insert(id.decode().into_owned(), ordinal).is_some() {
            return Err(Refusal::at(at, format!("two tool calls of one message have the id `{}`", id.decode())));
        }
        self.open.calls.push(Call { id: id.clone(), name: name.clone(), is_blank, answer: None });
        Ok(id)
    }

    /// Takes a tool's answer.
    fn result(&mut self, message: Message<'a>, is_legacy: bool) -> Result<(), Refusal> {
        let at = message.at;
        let slot = match is_legacy {
            true => self.open.named(message.name.as_ref().map(|(_, name)| name)),
            false => self.open.of_id(message.tool_call_id.as_ref()),
        };
        let Some((slot, call)) = slot.and_then(|slot| Some((slot, self.open.calls.get(slot)?))) else {
            let (field, name) = match is_legacy {
                true => ("name", message.name.map(|(_, name)| name)),
                false => ("tool_call_id", message.tool_call_id),
            };
            let message = match name {
                Some(name) => format!("`{field}` `{}` names no call of the assistant message before it", name.decode()),
                None => {
                    format!("`{field}` is needed to tell which call of the assistant message before it is answered")
                }
            };
            return Err(Refusal::at(at, message));
        };
        let (id, earlier) = (call.id.clone(), call.answer);
        let mut content = message.content.unwrap_or_default();
        content.retain(|block| !matches!(&block.kind, BlockKind::Text(text) if text.is_empty()));
        let kind = BlockKind::ToolResult { id, content, is_error: message.is_error };
        let block = Block { cache: message.cache, ..Block::new(kind, message.at) };
        if !self.open.has_turn {
            self.open.has_turn = true;
            self.prompt.turns.push(Turn { role: Role::User, blocks: Vec::new(), at: message.at });
        }
        let Some(turn) = self.prompt.turns.last_mut() else {
            return Ok(());
        };
        if let Some(old) = earlier.and_then(|at| turn.blocks.get_mut(at)) {
            self.losses.at(old.at, "a later answer to the same call takes its place");
            *old = block;
            return Ok(());
        }
        if let Some(call) = self.open.calls.get_mut(slot) {
            call.answer = Some(turn.blocks.len());
        }
        turn.blocks.push(block);
        Ok(())
    }

    /// The history goes on: every call must have been answered.
    fn settle(&mut self, at: usize) -> Result<(), Refusal> {
        let open = std::mem::take(&mut self.open);
        if let Some(call) = open.calls.iter().find(|call| call.answer.is_none()) {
            let id = call.id.decode();
            return Err(Refusal::at(at, format!("the tool call `{id}` has no answer before the history goes on")));
        }
        if open.has_turn
            && let Some(turn) = self.prompt.turns.last_mut()
        {
            // Answers in the order of the calls, however they came.
            let mut blocks: Vec<_> = std::mem::take(&mut turn.blocks).into_iter().map(Some).collect();
            let places = open.calls.iter().filter_map(|call| call.answer);
            turn.blocks = places.filter_map(|at| blocks.get_mut(at).and_then(Option::take)).collect();
        }
        Ok(())
    }

    /// Calls that end the history may be open; calls of which some are answered may not.
    fn end(&mut self, at: usize) -> Result<(), Refusal> {
        if self.open.has_turn { self.settle(at) } else { Ok(()) }
    }
}

impl<'a> Open<'a> {
    fn of_id(&mut self, id: Option<&JsonStr<'a>>) -> Option<usize> {
        let Some(id) = id.filter(|id| !id.is_empty()) else {
            return self.named(None);
        };
        self.by_id.get(id.decode().as_ref()).copied()
    }

    /// Finds the first call without an id, and, where a name is given, of that name, that has no answer yet.
    fn named(&mut self, name: Option<&JsonStr<'a>>) -> Option<usize> {
        let rest = self.calls.get(self.next_blank..)?;
        let found = rest
            .iter()
            .position(|call| call.is_blank && call.answer.is_none() && name.is_none_or(|name| call.name == *name))?;
        let slot = self.next_blank + found;
        if name.is_none() {
            self.next_blank = slot + 1;
        }
        Some(slot)
    }
}

/// Puts a message's own cache breakpoint after the last of its blocks that can carry one.
fn mark(blocks: &mut [Block<'_>], cache: Option<Cache>) {
    let carries = |block: &&mut Block<'_>| match &block.kind {
        BlockKind::Text(text) | BlockKind::Refusal(text) => !text.is_blank(),
        BlockKind::Thinking { .. } | BlockKind::RedactedThinking { .. } | BlockKind::Foreign { .. } => false,
        BlockKind::Image(_) | BlockKind::Document { .. } | BlockKind::ToolUse { .. } | BlockKind::ToolResult { .. } => {
            true
        }
    };
    if let Some(last) = blocks.iter_mut().rev().find(carries) {
        last.cache = last.cache.or(cache);
    }
}

fn thought<'a>(text: JsonStr<'a>, signature: Option<JsonStr<'a>>, at: usize) -> Block<'a> {
    Block::new(BlockKind::Thinking { text, signature }, at)
}

/// A client may keep the thinking's text apart from its signature: one signature, one text.
fn fill_in<'a>(blocks: &mut Vec<Block<'a>>, reasoning: &JsonStr<'a>, at: usize) {
    let texts = blocks.iter().filter(|b| matches!(&b.kind, BlockKind::Thinking { text, .. } if !text.is_empty()));
    if texts.count() != 0 {
        return;
    }
    let mut thoughts = blocks
        .iter_mut()
        .filter_map(|block| if let BlockKind::Thinking { text, .. } = &mut block.kind { Some(text) } else { None });
    match (thoughts.next(), thoughts.next()) {
        (Some(text), None) => *text = reasoning.clone(),
        (None, _) => blocks.insert(0, thought(reasoning.clone(), None, at)),
        (Some(_), Some(_)) => {}
    }
}

/// Reads a call's arguments: text that must spell a JSON object.
fn arguments<'a>(c: &mut Cursor<'a>) -> Result<Args<'a>, Refusal> {
    let at = c.at();
    match c.peek()? {
        Kind::Null => {
            c.skip()?;
            Ok(Args::Json(Json::raw("{}")))
        }
        // Some clients send the object itself.
        Kind::Object => Ok(Args::Json(c.skip()?)),
        Kind::Str => {
            let literal = c.str()?;
            if literal.is_blank() {
                return Ok(Args::Json(Json::raw("{}")));
            }
            let text = literal.decode();
            let mut spelled = Cursor::new(&text);
            let kind = spelled.peek();
            if let Err(error) = spelled.skip().and_then(|_| spelled.end()) {
                return Err(Refusal::at(at, format!("`arguments` is not valid JSON: {error}")));
            }
            match kind {
                Ok(Kind::Object) => {}
                _ => return Err(Refusal::at(at, "`arguments` must spell a JSON object")),
            }
            Ok(Args::Text(literal))
        }
        found @ (Kind::Array | Kind::Num | Kind::Bool) => Err(c.mismatch("a string of JSON", found).into()),
    }
}
