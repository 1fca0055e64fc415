//! Reads a Messages request into a [`Prompt`] (CONVERSION 10.1).
//!
//! Every key of every object meets a `match`. A field only Anthropic knows has its row in `fields.rs`; one nobody knows
//! is named in the losses.

use crate::wire::Format;
use crate::wire::json::{Cursor, Kind};
use crate::wire::loss::{Fate, Losses, Refusal};
use crate::wire::prompt::{
    Block, BlockKind, Cache, Choice, Effort, Function, Output, Prompt, Role, Thinking, Tier, Tool, Turn,
};

use super::content::{Where, cache, content, is_set, lose, members};
use super::fields::REQUEST;
use super::kind_of;

pub(super) fn decode<'a>(body: &'a str, losses: &mut Losses) -> Result<Prompt<'a>, Refusal> {
    let mut reader =
        Reader { prompt: Prompt::new(Format::Anthropic), leading: Vec::new(), answers: false, calls: false };
    let mut cursor = Cursor::new(body);
    cursor.object()?;
    while let Some(key) = cursor.key()? {
        reader.field(&key.decode(), &mut cursor, losses)?;
    }
    cursor.end()?;
    let Reader { mut prompt, leading, .. } = reader;
    for turn in &mut prompt.turns {
        answers_first(&mut turn.blocks);
    }
    prompt.system.extend(leading);
    if prompt.turns.is_empty() {
        return Err(Refusal::field("messages", "messages: at least one message is required"));
    }
    Ok(prompt)
}

struct Reader<'a> {
    prompt: Prompt<'a>,
    /// System messages before the first turn: they follow `system`, wherever in the body that stands.
    leading: Vec<Block<'a>>,
    /// The last turn holds a tool's answer.
    answers: bool,
    /// The last turn holds a call.
    calls: bool,
}

impl<'a> Reader<'a> {
    fn field(&mut self, key: &str, cursor: &mut Cursor<'a>, losses: &mut Losses) -> Result<(), Refusal> {
        let prompt = &mut self.prompt;
        match key {
            "model" => prompt.model = cursor.opt_str()?.unwrap_or_default(),
            "messages" => self.messages(cursor, losses)?,
            "max_tokens" => prompt.max_tokens = cursor.opt_u64()?,
            "metadata" => self.metadata(cursor, losses)?,
            "output_config" => self.output_config(cursor, losses)?,
            "output_format" => {
                if let Some(format) = output_format(cursor, losses)? {
                    prompt.output = Some(format);
                }
            }
            "service_tier" => prompt.tier = tier(cursor, losses)?,
            "stop_sequences" => self.stop_sequences(cursor)?,
            "stream" => prompt.stream = cursor.opt_bool()?.unwrap_or(false),
            "system" => prompt.system = system(cursor, losses)?,
            "temperature" => prompt.temperature = cursor.opt_num()?,
            "thinking" => self.thinking(cursor, losses)?,
            "tool_choice" => self.tool_choice(cursor, losses)?,
            "tools" => prompt.tools = tools(cursor, losses)?,
            "top_k" => prompt.top_k = cursor.opt_num()?,
            "top_p" => prompt.top_p = cursor.opt_num()?,
            other => beyond(other, cursor, losses)?,
        }
        Ok(())
    }

    fn messages(&mut self, cursor: &mut Cursor<'a>, losses: &mut Losses) -> Result<(), Refusal> {
        self.prompt.turns.clear();
        self.leading.clear();
        let mut messages = Vec::new();
        cursor.array()?;
        while cursor.item()? {
            messages.push(message(cursor, losses)?);
        }
        let last_user = messages.iter().rposition(|(turn, _)| turn.role == Role::User);
        for (i, (turn, passes)) in messages.into_iter().enumerate() {
            // Cleared at the next user message means that the model is not shown it any more.
            if !passes || last_user < Some(i) {
                self.add(turn);
            }
        }
        Ok(())
    }

    /// Keeps what the waist promises: instructions before the first turn belong to `system`; a call's answers and the
    /// user's words after them are one turn, answers first. Assistant messages after one that calls are one with it, as
    /// they are to Anthropic: elsewhere the answers would have to come between them.
    fn add(&mut self, turn: Turn<'a>) {
        let turns = &mut self.prompt.turns;
        if turn.role == Role::System
            && turns.is_empty()
            && turn.blocks.iter().all(|b| matches!(b.kind, BlockKind::Text(_)))
        {
            self.leading.extend(turn.blocks);
            return;
        }
        let answers = turn.blocks.iter().any(is_answer);
        let calls = turn.blocks.iter().any(is_call);
        match turns.last_mut() {
            Some(last) if last.role == Role::User && turn.role == Role::User && (self.answers || answers) => {
                last.blocks.extend(turn.blocks);
                self.answers = true;
            }
            Some(last) if last.role == Role::Assistant && turn.role == Role::Assistant && self.calls => {
                last.blocks.extend(turn.blocks);
            }
            _ => {
                turns.push(turn);
                self.answers = answers;
                self.calls = calls;
            }
        }
    }

    fn metadata(&mut self, cursor: &mut Cursor<'a>, losses: &mut Losses) -> Result<(), Refusal> {
        let user = &mut self.prompt.user;
        members(cursor, losses, |key, cursor, _| {
            match key {
                "user_id" => *user = cursor.opt_str()?,
                _ => return Ok(false),
            }
            Ok(true)
        })
    }

    fn output_config(&mut self, cursor: &mut Cursor<'a>, losses: &mut Losses) -> Result<(), Refusal> {
        let prompt = &mut self.prompt;
        members(cursor, losses, |key, cursor, losses| {
            match key {
                "effort" => {
                    let at = cursor.at();
                    if let Some(word) = cursor.opt_str()? {
                        prompt.effort = Effort::parse(&word.decode());
                        if prompt.effort.is_none() {
                            losses.at(at, "an effort no other model knows");
                        }
                    }
                }
                "format" => {
                    if let Some(format) = output_format(cursor, losses)? {
                        prompt.output = Some(format);
                    }
                }
                // Betas put it here; older drafts at the top.
                "task_budget" => lose(cursor, losses, "no other format has a budget for a whole task")?,
                _ => return Ok(false),
            }
            Ok(true)
        })
    }

    fn stop_sequences(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Refusal> {
        self.prompt.stop.clear();
        if cursor.peek()? == Kind::Null {
            cursor.skip()?;
            return Ok(());
        }
        cursor.array()?;
        while cursor.item()? {
            self.prompt.stop.push(cursor.str()?);
        }
        Ok(())
    }

    fn thinking(&mut self, cursor: &mut Cursor<'a>, losses: &mut Losses) -> Result<(), Refusal> {
        let at = cursor.at();
        let mut kind = None;
        let mut budget = None;
        let mut hide = false;
        members(cursor, losses, |key, cursor, losses| {
            match key {
                "type" => kind = Some(cursor.str()?),
                "budget_tokens" => budget = cursor.opt_u64()?,
                "display" => {
                    let at = cursor.at();
                    let word = cursor.opt_str()?.unwrap_or_default();
                    hide = word.is("omitted");
                    if word.is("updates") {
                        losses.at(at, "no other format tells thinking as updates");
                    }
                }
                "block_binding" => lose(cursor, losses, "thinking is bound to a conversation by Anthropic only")?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let Some(kind) = kind else {
            return Ok(());
        };
        let thinking = match kind.decode().as_ref() {
            "enabled" => match budget {
                Some(budget) => Thinking::Budget(budget),
                None => return Err(Refusal::at(at, "thinking.budget_tokens: needed when thinking is enabled")),
            },
            "adaptive" => Thinking::Adaptive,
            "disabled" => Thinking::Disabled,
            "between_tools" => {
                losses.at(at, "thinking only between tools is off elsewhere");
                Thinking::Disabled
            }
            other => {
                return Err(Refusal::at(
                    at,
                    format!("thinking.type: `{other}` is not one of enabled, adaptive, disabled, between_tools"),
                ));
            }
        };
        self.prompt.thinking = Some(thinking);
        self.prompt.hide_thinking = hide;
        Ok(())
    }

    fn tool_choice(&mut self, cursor: &mut Cursor<'a>, losses: &mut Losses) -> Result<(), Refusal> {
        let at = cursor.at();
        let mut kind = None;
        let mut name = None;
        let mut single = None;
        members(cursor, losses, |key, cursor, _| {
            match key {
                "type" => kind = Some(cursor.str()?),
                "name" => name = cursor.opt_str()?,
                "disable_parallel_tool_use" => single = cursor.opt_bool()?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let Some(kind) = kind else {
            return Ok(());
        };
        self.prompt.parallel = single.map(|single| !single);
        self.prompt.choice = Some(match (kind.decode().as_ref(), name) {
            ("auto", _) => Choice::Auto,
            ("any", _) => Choice::Any,
            ("none", _) => Choice::None,
            ("tool", Some(name)) => Choice::Tool(name),
            ("tool", None) => return Err(Refusal::at(at, "tool_choice.name: needed to force one tool")),
            (other, _) => {
                return Err(Refusal::at(
                    at,
                    format!("tool_choice.type: `{other}` is not one of auto, any, tool, none"),
                ));
            }
        });
        Ok(())
    }
}

/// A field that is not carried: dropped, refused, or unknown.
fn beyond(key: &str, cursor: &mut Cursor<'_>, losses: &mut Losses) -> Result<(), Refusal> {
    let at = cursor.at();
    let value = cursor.skip()?;
    if !is_set(&value) {
        return Ok(());
    }
    match REQUEST.iter().find(|f| f.name == key).map(|f| (f.name, f.fate)) {
        Some((name, Fate::Drop(why))) => losses.field(name, why),
        Some((name, Fate::Refuse(why))) => return Err(Refusal::field(name, why)),
        Some((_, Fate::Ignore(_))) => {}
        Some((_, Fate::Carry | Fate::Twin(_) | Fate::QuietTwin(_))) => {
            debug_assert!(false, "{key} is carried, so `field` reads it");
        }
        None => losses.at(at, "not a field of this format as the proxy knows it"),
    }
    Ok(())
}

/// Reads a message, and whether it is an instruction that the model is shown for one turn of the user's only.
fn message<'a>(cursor: &mut Cursor<'a>, losses: &mut Losses) -> Result<(Turn<'a>, bool), Refusal> {
    let at = cursor.at();
    let mut role = None;
    let mut blocks = Vec::new();
    let mut clear = None;
    members(cursor, losses, |key, cursor, losses| {
        match key {
            "role" => role = Some((cursor.at(), cursor.str()?)),
            "content" => blocks = content(cursor, Where::Message, losses)?,
            "clear_at" => clear = cursor.opt_str()?,
            "output_config" => lose(cursor, losses, "no other format sets the effort of one message")?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let Some((role_at, role)) = role else {
        return Err(Refusal::at(at, "role: needed in every message"));
    };
    let role = match role.decode().as_ref() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" => Role::System,
        other => return Err(Refusal::at(role_at, format!("role: `{other}` is not one of user, assistant, system"))),
    };
    match blocks.iter().find(|b| !may_stand(role, &b.kind)) {
        Some(block) => Err(Refusal::at(block.at, "this content block does not belong in a message of this role")),
        None => {
            let passes = role == Role::System && clear.is_some_and(|at| at.is("next_user_message"));
            Ok((Turn { role, blocks, at }, passes))
        }
    }
}

/// Calls and thinking are the assistant's, answers the user's: encoders rely on it.
fn may_stand(role: Role, kind: &BlockKind<'_>) -> bool {
    match kind {
        BlockKind::ToolUse { .. } | BlockKind::Thinking { .. } | BlockKind::RedactedThinking { .. } => {
            role == Role::Assistant
        }
        BlockKind::ToolResult { .. } => role == Role::User,
        BlockKind::Text(_)
        | BlockKind::Image(_)
        | BlockKind::Document { .. }
        | BlockKind::Refusal(_)
        | BlockKind::Foreign { .. } => true,
    }
}

fn is_call(block: &Block<'_>) -> bool {
    matches!(block.kind, BlockKind::ToolUse { .. })
}

fn is_answer(block: &Block<'_>) -> bool {
    matches!(block.kind, BlockKind::ToolResult { .. })
}

/// Moves tool results to the front; the rest, and they, keep their order.
fn answers_first(blocks: &mut [Block<'_>]) {
    blocks.sort_by_key(|block| !is_answer(block));
}

fn system<'a>(cursor: &mut Cursor<'a>, losses: &mut Losses) -> Result<Vec<Block<'a>>, Refusal> {
    let blocks = content(cursor, Where::Message, losses)?;
    match blocks.iter().find(|b| !matches!(b.kind, BlockKind::Text(_))) {
        Some(block) => Err(Refusal::at(block.at, "system: only text blocks may stand here")),
        None => Ok(blocks),
    }
}

/// `output_config.format`, and `output_format` as older betas call it.
fn output_format<'a>(cursor: &mut Cursor<'a>, losses: &mut Losses) -> Result<Option<Output<'a>>, Refusal> {
    let at = cursor.at();
    let mut kind = None;
    let mut schema = None;
    members(cursor, losses, |key, cursor, _| {
        match key {
            "type" => kind = Some(cursor.str()?),
            "schema" => schema = cursor.opt_skip()?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    match (kind, schema) {
        (None, None) => Ok(None),
        (Some(kind), Some(schema)) if kind.is("json_schema") && schema.kind() == Kind::Object => {
            Ok(Some(Output::Schema { name: None, description: None, schema, strict: Some(true) }))
        }
        _ => Err(Refusal::at(at, "the output format must be {\"type\":\"json_schema\",\"schema\":…}")),
    }
}

fn tier(cursor: &mut Cursor<'_>, losses: &mut Losses) -> Result<Option<Tier>, Refusal> {
    let at = cursor.at();
    let Some(word) = cursor.opt_str()? else {
        return Ok(None);
    };
    Ok(match word.decode().as_ref() {
        "auto" => Some(Tier::Auto),
        "standard_only" => Some(Tier::Standard),
        _ => {
            losses.at(at, "a service tier no other format knows");
            None
        }
    })
}

fn tools<'a>(cursor: &mut Cursor<'a>, losses: &mut Losses) -> Result<Vec<Tool<'a>>, Refusal> {
    let mut tools = Vec::new();
    if cursor.peek()? == Kind::Null {
        cursor.skip()?;
        return Ok(tools);
    }
    cursor.array()?;
    while cursor.item()? {
        let at = cursor.at();
        let tool = match kind_of(cursor)? {
            Some(kind) if !kind.is("custom") => {
                let name = tool_name(&mut cursor.clone())?;
                Tool::Foreign { kind, name, json: cursor.skip()?, at, offered: None }
            }
            _ => Tool::Function(function(cursor, at, losses)?),
        };
        tools.push(tool);
    }
    Ok(tools)
}

fn tool_name<'a>(cursor: &mut Cursor<'a>) -> Result<Option<crate::wire::json::JsonStr<'a>>, Refusal> {
    cursor.object()?;
    while let Some(key) = cursor.key()? {
        if key.is("name") {
            return Ok(cursor.any_str()?);
        }
        cursor.skip()?;
    }
    Ok(None)
}

fn function<'a>(cursor: &mut Cursor<'a>, at: usize, losses: &mut Losses) -> Result<Function<'a>, Refusal> {
    let mut name = None;
    let mut description = None;
    let mut schema = None;
    let mut strict = None;
    let mut breakpoint: Option<Cache> = None;
    members(cursor, losses, |key, cursor, losses| {
        match key {
            "type" => {
                cursor.skip()?;
            }
            "name" => name = cursor.opt_str()?,
            "description" => description = cursor.opt_str()?,
            "input_schema" => schema = cursor.opt_skip()?,
            "strict" => strict = cursor.opt_bool()?,
            "cache_control" => breakpoint = cache(cursor, losses)?,
            "defer_loading" => lose(cursor, losses, "no other format loads tools later")?,
            "allowed_callers" => lose(cursor, losses, "elsewhere only the model calls tools")?,
            "input_examples" => lose(cursor, losses, "no other format takes examples of a tool's input")?,
            "eager_input_streaming" => lose(cursor, losses, "no other format chooses how arguments are streamed")?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    match name {
        Some(name) if !name.is_empty() => {
            Ok(Function { name, description, schema, strict, cache: breakpoint, at, group: None, text: false })
        }
        _ => Err(Refusal::at(at, "name: needed in every tool")),
    }
}
