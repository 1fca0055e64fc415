//! Reads a request (CONVERSION 10): its top level here, its items and tools next door.

use crate::wire::Format;
use crate::wire::json::{Cursor, Json, JsonError, JsonStr, Kind, Writer};
use crate::wire::loss::{Fate, Losses, Refusal};
use crate::wire::openai_responses::fields::REQUEST;
use crate::wire::openai_responses::items::{self, Item};
use crate::wire::openai_responses::tools_in;
use crate::wire::openai_shared;
use crate::wire::prompt::{Block, BlockKind, Choice, Effort, Output, Prompt, Role, Turn, Twin};

/// Reads a request. What other formats cannot carry is in the losses, or refused with its place.
pub(super) fn decode<'a>(body: &'a str, losses: &mut Losses) -> Result<Prompt<'a>, Refusal> {
    let mut prompt = Prompt::new(Format::OpenaiResponses);
    prompt.called.max_tokens = "max_output_tokens";
    let mut reader = Reader { body, losses, prompt, later: Later::default(), echo: Echo::default() };
    reader.read()?;
    Ok(reader.prompt)
}

struct Reader<'a, 'l> {
    body: &'a str,
    losses: &'l mut Losses,
    prompt: Prompt<'a>,
    later: Later<'a>,
    echo: Echo,
}

/// What can only be understood when the whole request is known.
#[derive(Default)]
struct Later<'a> {
    input: Option<Cursor<'a>>,
    choice: Option<Cursor<'a>>,
    instructions: Option<Block<'a>>,
    /// Who it is, and the byte where it stands.
    user: Option<(JsonStr<'a>, usize)>,
    safety_identifier: Option<JsonStr<'a>>,
}

/// What a response repeats of its request, as members of its object.
#[derive(Default)]
struct Echo {
    members: String,
    has: [bool; NEEDED.len()],
}

/// What every response repeats, and how it does where the request says nothing.
const NEEDED: [(&str, &str); 3] = [("tools", "[]"), ("tool_choice", "\"auto\""), ("parallel_tool_calls", "true")];

/// What else it repeats.
const REPEATED: [&str; 12] = [
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "prompt_cache_key",
    "reasoning",
    "safety_identifier",
    "temperature",
    "text",
    "top_p",
    "truncation",
    "user",
];

impl Echo {
    fn note(&mut self, name: &str, value: &Json<'_>) {
        let needed = NEEDED.iter().position(|(needed, _)| *needed == name);
        if let Some(has) = needed.and_then(|at| self.has.get_mut(at)) {
            *has = true;
        } else if !REPEATED.contains(&name) {
            return;
        }
        let mut spelled = Vec::with_capacity(value.as_str().len());
        // As an event's data can hold it, on one line.
        Writer::new(&mut spelled).json(value);
        self.members.push_str(&format!(",\"{name}\":{}", String::from_utf8_lossy(&spelled)));
    }

    fn whole(mut self) -> String {
        for ((name, usual), has) in NEEDED.iter().zip(self.has) {
            if !has {
                self.members.push_str(&format!(",\"{name}\":{usual}"));
            }
        }
        self.members
    }
}

const UNKNOWN: &str = "not a field other formats know";

impl<'a> Reader<'a, '_> {
    fn read(&mut self) -> Result<(), Refusal> {
        let mut cursor = Cursor::new(self.body);
        let mut seen: u64 = 0;
        cursor.object()?;
        while let Some(key) = cursor.key()? {
            let at = cursor.at();
            let name = key.decode();
            if cursor.peek()? == Kind::Null {
                cursor.skip()?;
                continue;
            }
            // The one long member is repeated by nobody, and never idle.
            let value = if name == "input" { Json::raw("null") } else { cursor.clone().skip()? };
            self.echo.note(&name, &value);
            let Some((index, field)) = (0_u32..).zip(REQUEST).find(|(_, field)| field.name == name) else {
                cursor.skip()?;
                self.losses.at(at, UNKNOWN);
                continue;
            };
            let bit = 1_u64 << (index % 64);
            if seen & bit != 0 {
                return Err(Refusal::at(at, format!("`{name}` stands twice in the request")));
            }
            seen |= bit;
            if name == "include" {
                include(&value, at)?;
            }
            let is_idle = is_idle(field.name, &value);
            match field.fate {
                Fate::Carry => {
                    self.carry(field.name, &mut cursor, at)?;
                    continue;
                }
                Fate::Drop(why) if !is_idle => self.losses.at(at, why),
                Fate::Refuse(why) if !is_idle => {
                    return Err(Refusal::at(at, format!("`{name}` cannot be carried to this model: {why}")));
                }
                Fate::Drop(_) | Fate::Refuse(_) | Fate::Ignore(_) => {}
                Fate::QuietTwin(_) => {
                    self.prompt.twins.push(Twin { name: field.name, value: value.clone(), at, why: None });
                }
                // None of this format's stands at the top level.
                Fate::Twin(_) => debug_assert!(false, "{name} is shared but not read"),
            }
            cursor.skip()?;
        }
        cursor.end()?;
        self.settle()
    }

    fn carry(&mut self, name: &'static str, c: &mut Cursor<'a>, at: usize) -> Result<(), Refusal> {
        let prompt = &mut self.prompt;
        match name {
            "model" => prompt.model = c.str()?,
            "input" => {
                self.later.input = Some(c.clone());
                c.step_over()?;
            }
            "instructions" => {
                if c.peek()? != Kind::Str {
                    return Err(Refusal::at(at, "`instructions` must be a text: put anything else into `input`"));
                }
                let text = c.str()?;
                self.later.instructions = Some(Block::new(BlockKind::Text(text), at)).filter(|b| !is_empty(b));
            }
            "max_output_tokens" => prompt.max_tokens = c.opt_u64()?,
            "temperature" => prompt.temperature = temperature(c, at)?,
            "top_p" => prompt.top_p = c.opt_num()?,
            "stream" => prompt.stream = c.opt_bool()?.unwrap_or(false),
            "tools" => tools_in::tools(c, &mut prompt.tools, self.losses)?,
            "tool_choice" => {
                self.later.choice = Some(c.clone());
                c.step_over()?;
            }
            "parallel_tool_calls" => prompt.parallel = c.opt_bool()?,
            "reasoning" => self.reasoning(c)?,
            "text" => self.text(c)?,
            "user" => self.later.user = c.opt_str()?.map(|user| (user, at)),
            "safety_identifier" => self.later.safety_identifier = c.opt_str()?,
            "service_tier" => openai_shared::tier(prompt, c.skip()?, at, self.losses),
            other => {
                debug_assert!(false, "{other} is carried but not read");
                c.skip()?;
                self.losses.at(at, UNKNOWN);
            }
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<(), Refusal> {
        let prompt = &mut self.prompt;
        if prompt.model.is_empty() {
            return Err(Refusal::field("model", "`model` is missing"));
        }
        openai_shared::users(prompt, self.later.user.take(), self.later.safety_identifier.take(), self.losses);
        if let Some(choice) = self.later.choice.take() {
            tools_in::choice(choice, prompt, self.losses)?;
        }
        if prompt.tools.is_empty() {
            if let Some(Choice::Any | Choice::Tool(_)) = prompt.choice {
                return Err(Refusal::field(
                    "tool_choice",
                    "no tool is there that could be called: send `tools`, or no choice",
                ));
            }
            prompt.choice = None;
            prompt.parallel = None;
        }
        prompt.system.extend(self.later.instructions.take());
        prompt.echo = Some(std::mem::take(&mut self.echo).whole());
        let Some(mut input) = self.later.input.take() else {
            return Err(Refusal::field("input", "`input` is missing"));
        };
        self.input(&mut input)
    }

    fn input(&mut self, c: &mut Cursor<'a>) -> Result<(), Refusal> {
        let at = c.at();
        let mut history = History { prompt: &mut self.prompt, answers: false };
        if c.peek()? == Kind::Str {
            let blocks = vec![Block::new(BlockKind::Text(c.str()?), at)];
            history.prompt.turns.push(Turn { role: Role::User, blocks, at });
            return Ok(());
        }
        c.array()?;
        while c.item()? {
            let item = items::item(c, self.body, self.losses)?;
            history.add(item);
        }
        if self.prompt.turns.is_empty() && self.prompt.system.is_empty() {
            return Err(Refusal::at(at, "`input` must not be empty"));
        }
        Ok(())
    }

    fn reasoning(&mut self, c: &mut Cursor<'a>) -> Result<(), Refusal> {
        c.object()?;
        while let Some(key) = c.key()? {
            let at = c.at();
            match key.decode().as_ref() {
                "effort" => {
                    if let Some(word) = c.opt_str()? {
                        let word = word.decode();
                        let effort = Effort::parse(&word);
                        self.prompt.effort = effort;
                        if effort.is_none() {
                            return Err(Refusal::at(at, format!("`reasoning.effort` cannot be `{word}`")));
                        }
                    }
                }
                "summary" | "generate_summary" => drop(c.skip()?),
                _ => unknown(c, at, self.losses)?,
            }
        }
        Ok(())
    }

    fn text(&mut self, c: &mut Cursor<'a>) -> Result<(), Refusal> {
        c.object()?;
        while let Some(key) = c.key()? {
            let at = c.at();
            match key.decode().as_ref() {
                "format" if c.peek()? == Kind::Object => self.prompt.output = self.format(c)?,
                "verbosity" => {
                    if let Some(value) = c.opt_skip()?.filter(|value| !openai_shared::is_idle("verbosity", value)) {
                        let why = Some("no other vendor's format has it");
                        self.prompt.twins.push(Twin { name: "verbosity", value, at, why });
                    }
                }
                _ => unknown(c, at, self.losses)?,
            }
        }
        Ok(())
    }

    fn format(&mut self, c: &mut Cursor<'a>) -> Result<Option<Output<'a>>, Refusal> {
        let at = c.at();
        let (mut kind, mut name, mut description, mut schema, mut strict) = (None, None, None, None, None);
        c.object()?;
        while let Some(key) = c.key()? {
            let at = c.at();
            match key.decode().as_ref() {
                "type" => kind = c.opt_str()?,
                "name" => name = c.opt_str()?,
                "description" => description = c.opt_str()?.filter(|text| !text.is_empty()).map(|text| (text, at)),
                "schema" => schema = c.opt_skip()?,
                "strict" => strict = c.opt_bool()?,
                _ => unknown(c, at, self.losses)?,
            }
        }
        match (kind.unwrap_or_default().decode().as_ref(), schema) {
            ("text", _) => Ok(None),
            ("json_object", _) => Ok(Some(Output::Json)),
            ("json_schema", Some(schema)) if schema.kind() == Kind::Object => {
                Ok(Some(Output::Schema { name, description, schema, strict }))
            }
            ("json_schema", _) => Err(Refusal::at(at, "`text.format` of type `json_schema` needs a `schema`")),
            (other, _) => Err(Refusal::at(at, format!("`text.format` of type `{other}` cannot be carried"))),
        }
    }
}

/// Makes turns of items: what the assistant does between two words of others is one turn of its, and so are the answers to its
/// calls with the user's words right after them.
struct History<'a, 'p> {
    prompt: &'p mut Prompt<'a>,
    /// The last turn holds answers.
    answers: bool,
}

impl<'a> History<'a, '_> {
    fn add(&mut self, item: Item<'a>) {
        match item {
            Item::Nothing => {}
            Item::Message { role: Role::Assistant, blocks, at } => self.assistant(blocks, at),
            Item::Done(block) => {
                let at = block.at;
                self.assistant(vec![block], at);
            }
            Item::Message { role: Role::System, blocks, at } => {
                if self.prompt.turns.is_empty() {
                    self.prompt.system.extend(blocks);
                } else {
                    self.prompt.turns.push(Turn { role: Role::System, blocks, at });
                    self.answers = false;
                }
            }
            Item::Message { role: Role::User, blocks, at } => {
                let joins = std::mem::take(&mut self.answers);
                match self.prompt.turns.last_mut().filter(|_| joins) {
                    Some(turn) => turn.blocks.extend(blocks),
                    None => self.prompt.turns.push(Turn { role: Role::User, blocks, at }),
                }
            }
            Item::Output { id, content, at } => {
                let block = Block::new(BlockKind::ToolResult { id, content, is_error: false }, at);
                match self.prompt.turns.last_mut().filter(|_| self.answers) {
                    Some(turn) => turn.blocks.push(block),
                    None => self.prompt.turns.push(Turn { role: Role::User, blocks: vec![block], at }),
                }
                self.answers = true;
            }
        }
    }

    fn assistant(&mut self, blocks: Vec<Block<'a>>, at: usize) {
        self.answers = false;
        if blocks.is_empty() {
            return;
        }
        match self.prompt.turns.last_mut().filter(|turn| turn.role == Role::Assistant) {
            Some(turn) => turn.blocks.extend(blocks),
            None => self.prompt.turns.push(Turn { role: Role::Assistant, blocks, at }),
        }
    }
}

/// What an answer is to hold besides: all but one thing are the vendor's own tools', which are refused or dropped by themselves.
fn include(list: &Json<'_>, at: usize) -> Result<(), Refusal> {
    let mut c = list.cursor();
    c.array()?;
    while c.item()? {
        if c.skip()?.as_str() == "\"message.output_text.logprobs\"" {
            return Err(Refusal::at(
                at,
                "probabilities cannot be carried to this model: no other format tells them so",
            ));
        }
    }
    Ok(())
}

/// Whether a field that is set so has no effect on the answer: then nothing is lost with it.
fn is_idle(name: &str, value: &Json<'_>) -> bool {
    match name {
        "background" | "store" => value.as_str() == "false",
        "truncation" => value.as_str() == "\"disabled\"",
        "top_logprobs" => value.as_f64() == Some(0.0),
        "context_management" => value.as_str() == "[]",
        _ => false,
    }
}

fn is_empty(block: &Block<'_>) -> bool {
    matches!(&block.kind, BlockKind::Text(text) if text.is_empty())
}

fn temperature<'a>(c: &mut Cursor<'a>, at: usize) -> Result<Option<Json<'a>>, Refusal> {
    let number = c.opt_num()?;
    match number.as_ref().and_then(Json::as_f64) {
        Some(t) if !(0.0..=2.0).contains(&t) => Err(Refusal::at(at, "`temperature` must be from 0 to 2")),
        Some(_) | None => Ok(number),
    }
}

/// Steps over a field nobody knows, and says so if it was set.
pub(super) fn unknown(c: &mut Cursor<'_>, at: usize, losses: &mut Losses) -> Result<(), JsonError> {
    if c.opt_skip()?.is_some() {
        losses.at(at, UNKNOWN);
    }
    Ok(())
}
