//! The request waist: what a request means, whatever format it came in.
//!
//! Only what at least two formats have stands here. The rest stays raw and tagged with where it came from
//! ([`BlockKind::Foreign`], [`Tool::Foreign`]); it goes back into that format only. Everything borrows from the
//! client's body, and text stays the literal it came in.
//!
//! What decoders promise, so that encoders may rely on it:
//! - `system` holds only the instructions that stand before the first turn, as text blocks; later ones are turns
//!   of [`Role::System`].
//! - A tool's answer is a [`BlockKind::ToolResult`] in a [`Role::User`] turn. All answers to one assistant turn,
//!   and a user message directly after them, are one turn, answers first.
//! - In an assistant turn, thinking comes first, then text, then calls, unless the client's own format ordered them.
//! - Blocks remember the byte where they stand, so that a refusal can name the place.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::wire::Format;
use crate::wire::json::{Json, JsonStr};
use crate::wire::loss::{Losses, Refusal};

/// One request.
#[derive(Clone, Debug)]
pub struct Prompt<'a> {
    /// The format it was written in.
    pub from: Format,
    /// The model as the client names it.
    pub model: JsonStr<'a>,
    pub system: Vec<Block<'a>>,
    pub turns: Vec<Turn<'a>>,
    pub tools: Vec<Tool<'a>>,
    pub choice: Option<Choice<'a>>,
    /// Whether several calls may come in one answer; `None` leaves it to the model.
    pub parallel: Option<bool>,
    /// Most tokens of the answer.
    pub max_tokens: Option<u64>,
    /// Numbers stay spelled as they came.
    pub temperature: Option<Json<'a>>,
    pub top_p: Option<Json<'a>>,
    pub top_k: Option<Json<'a>>,
    pub stop: Vec<JsonStr<'a>>,
    pub stream: bool,
    /// An OpenAI client asked for the usage chunk. (Anthropic streams always tell usage.)
    pub include_usage: bool,
    pub effort: Option<Effort>,
    pub thinking: Option<Thinking>,
    /// The client does not want to see the thinking.
    pub hide_thinking: bool,
    pub output: Option<Output<'a>>,
    /// Who the end user is, for the provider's abuse tracking.
    pub user: Option<JsonStr<'a>>,
    pub tier: Option<Tier>,
    /// What only the two formats of one vendor have.
    pub twins: Vec<Twin<'a>>,
    /// The request used the deprecated `functions`: the answer has to be written that way.
    pub legacy_functions: bool,
    pub called: Called,
    /// What the answer repeats of the request, in formats that do so: members of its object, each with a comma before it.
    pub echo: Option<String>,
}

/// A field that the two formats of one vendor share and no other has.
#[derive(Clone, Debug)]
pub struct Twin<'a> {
    /// As OpenAI's chat calls it.
    pub name: &'static str,
    pub value: Json<'a>,
    pub at: usize,
    /// Why it does not go elsewhere; `None` where nobody is told.
    pub why: Option<&'static str>,
}

/// What the client calls the fields that have two names in its format or another name there: losses and refusals name
/// them so.
#[derive(Clone, Copy, Debug)]
pub struct Called {
    pub max_tokens: &'static str,
    pub user: &'static str,
    pub choice: &'static str,
}

impl Prompt<'_> {
    #[must_use]
    pub fn new(from: Format) -> Self {
        Self {
            from,
            model: JsonStr::default(),
            system: Vec::new(),
            turns: Vec::new(),
            tools: Vec::new(),
            choice: None,
            parallel: None,
            max_tokens: None,
            temperature: None,
            top_p: None,
            top_k: None,
            stop: Vec::new(),
            stream: false,
            include_usage: false,
            effort: None,
            thinking: None,
            hide_thinking: false,
            output: None,
            user: None,
            tier: None,
            twins: Vec::new(),
            legacy_functions: false,
            called: Called {
                max_tokens: "max_tokens",
                user: match from {
                    Format::OpenaiChat | Format::OpenaiResponses => "user",
                    Format::Anthropic => "metadata.user_id",
                },
                choice: "tool_choice",
            },
            echo: None,
        }
    }

    /// A field as the client calls it: by its name in OpenAI's chat, or in Anthropic's messages.
    #[must_use]
    pub fn path(&self, chat: &'static str, anthropic: &'static str) -> &'static str {
        match (self.from, chat) {
            (Format::OpenaiChat, _) => chat,
            (Format::Anthropic, _) => anthropic,
            (Format::OpenaiResponses, "reasoning_effort") => "reasoning.effort",
            (Format::OpenaiResponses, "response_format") => "text.format",
            (Format::OpenaiResponses, "messages") => "input",
            (Format::OpenaiResponses, "cache_control") => "prompt_cache_breakpoint",
            (Format::OpenaiResponses, "verbosity") => "text.verbosity",
            (Format::OpenaiResponses, _) => chat,
        }
    }

    /// The value of a field of the vendor's own.
    #[must_use]
    pub fn twin(&self, name: &str) -> Option<&Twin<'_>> {
        self.twins.iter().find(|twin| twin.name == name)
    }

    /// Reports what does not go to another vendor.
    pub fn leave_twins(&self, losses: &mut Losses) {
        for twin in &self.twins {
            if let Some(why) = twin.why {
                losses.at(twin.at, why);
            }
        }
    }

    /// Takes out thinking that has a seal. Each is a loss, for this reason.
    pub fn leave_seals(&mut self, why: &'static str, losses: &mut Losses) {
        for turn in &mut self.turns {
            turn.blocks.retain(|block| {
                let is_sealed = match &block.kind {
                    BlockKind::Thinking { signature, .. } => signature.is_some(),
                    BlockKind::RedactedThinking { .. } => true,
                    BlockKind::Text(_) | BlockKind::Image(_) | BlockKind::Document { .. } | BlockKind::Refusal(_) => {
                        false
                    }
                    BlockKind::ToolUse { .. } | BlockKind::ToolResult { .. } | BlockKind::Foreign { .. } => false,
                };
                if is_sealed {
                    losses.at(block.at, why);
                }
                !is_sealed
            });
        }
    }

    /// Whether the model is to think before it answers; by its own habit, where nothing is said.
    #[must_use]
    pub fn thinks(&self, by_habit: bool) -> bool {
        match (self.thinking, self.effort) {
            (Some(Thinking::Disabled), _) => false,
            (_, Some(effort)) => effort != Effort::None,
            (Some(Thinking::Budget(_)), None) => true,
            (Some(Thinking::Adaptive) | None, None) => by_habit,
        }
    }

    /// Whether any tool goes on to another vendor; reports those that are offered to their own only.
    pub fn sends_tools(&self, losses: &mut Losses) -> bool {
        let mut sends = false;
        for tool in &self.tools {
            match tool {
                Tool::Foreign { at, offered: Some(why), .. } => losses.at(*at, why),
                Tool::Foreign { offered: None, .. } | Tool::Function(_) => sends = true,
            }
        }
        sends
    }

    /// Checks that every call is answered in the user turn after it, and that nothing else is answered there: what all
    /// vendors hold a history to. Calls that end the history may be open.
    ///
    /// Two results for one call are fine here; which of them counts is the encoder's to say.
    pub fn check_calls(&self) -> Result<(), Refusal> {
        let mut open: Vec<Cow<'_, str>> = Vec::new();
        for turn in &self.turns {
            match turn.role {
                Role::Assistant => {
                    for (id, at) in turn.blocks.iter().filter_map(|b| Some((b.call_id()?, b.at))) {
                        if open.contains(&id) {
                            return Err(Refusal::at(at, format!("two tool calls have the id `{id}`")));
                        }
                        open.push(id);
                    }
                }
                Role::User => {
                    let answers: Vec<_> = turn.blocks.iter().filter_map(|b| Some((b.answered_id()?, b.at))).collect();
                    // Sets: a history may hold as many calls as a request has room for.
                    let asked: HashSet<&str> = open.iter().map(AsRef::as_ref).collect();
                    let answered: HashSet<&str> = answers.iter().map(|(id, _)| id.as_ref()).collect();
                    if let Some((id, at)) = answers.iter().find(|(id, _)| !asked.contains(id.as_ref())) {
                        let message = format!("this tool result is for `{id}`, which no call before it has as its id");
                        return Err(Refusal::at(*at, message));
                    }
                    if let Some(id) = open.iter().find(|id| !answered.contains(id.as_ref())) {
                        let message = format!("the tool call `{id}` has no result before the history goes on");
                        return Err(Refusal::at(turn.at, message));
                    }
                    open.clear();
                }
                Role::System => {}
            }
        }
        Ok(())
    }
}

/// Why a call cannot be asked for where every tool was its vendor's own.
pub const NONE_LEFT: &str = "a call is asked for, and no tool is left that could be called here";

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    System,
    User,
    Assistant,
}

/// One message, or several that mean one.
#[derive(Clone, Debug)]
pub struct Turn<'a> {
    pub role: Role,
    pub blocks: Vec<Block<'a>>,
    /// The byte of the request where it begins.
    pub at: usize,
}

/// One piece of content.
#[derive(Clone, Debug)]
pub struct Block<'a> {
    pub kind: BlockKind<'a>,
    /// A prompt-cache breakpoint stands after it.
    pub cache: Option<Cache>,
    /// How closely an image is to be looked at, as OpenAI's formats ask.
    pub detail: Option<JsonStr<'a>>,
    /// The byte of the request where it begins.
    pub at: usize,
}

impl<'a> Block<'a> {
    #[must_use]
    pub fn new(kind: BlockKind<'a>, at: usize) -> Self {
        Self { kind, cache: None, detail: None, at }
    }

    fn call_id(&self) -> Option<Cow<'_, str>> {
        if let BlockKind::ToolUse { id, .. } = &self.kind { Some(id.decode()) } else { None }
    }

    fn answered_id(&self) -> Option<Cow<'_, str>> {
        if let BlockKind::ToolResult { id, .. } = &self.kind { Some(id.decode()) } else { None }
    }
}

#[derive(Clone, Debug)]
pub enum BlockKind<'a> {
    Text(JsonStr<'a>),
    Image(Source<'a>),
    Document {
        source: Source<'a>,
        title: Option<JsonStr<'a>>,
        context: Option<JsonStr<'a>>,
    },
    ToolUse {
        id: JsonStr<'a>,
        name: JsonStr<'a>,
        input: Args<'a>,
    },
    ToolResult {
        id: JsonStr<'a>,
        content: Vec<Block<'a>>,
        is_error: bool,
    },
    /// What the model thought. A signature vouches for it to the vendor that wrote it, and to nobody else; one that
    /// begins with [`ENVELOPE`] vouches for nothing.
    Thinking {
        text: JsonStr<'a>,
        signature: Option<JsonStr<'a>>,
    },
    RedactedThinking {
        data: JsonStr<'a>,
    },
    /// The model's own refusal, replayed.
    Refusal(JsonStr<'a>),
    /// Content only its own format knows; elsewhere it is refused, never dropped.
    Foreign {
        kind: JsonStr<'a>,
        json: Json<'a>,
    },
}

/// Begins a signature that we made, because the upstream gave none and the client's type demands one. Whoever sees it
/// come back knows that no vendor vouches for the block.
pub const ENVELOPE: &str = "mp1.";

/// A tool call's arguments: JSON in one format, a string that spells JSON in another.
#[derive(Clone, Debug)]
pub enum Args<'a> {
    /// A JSON value, as Anthropic's `input`.
    Json(Json<'a>),
    /// A literal whose text is JSON, or a fragment of it, as OpenAI's `arguments`.
    Text(JsonStr<'a>),
}

/// Where the bytes of an image or a document are.
#[derive(Clone, Debug)]
pub enum Source<'a> {
    /// Bare base64, never a data URL.
    Base64 {
        media_type: JsonStr<'a>,
        data: JsonStr<'a>,
    },
    Url(JsonStr<'a>),
    /// Plain text (documents only).
    Text(JsonStr<'a>),
    /// A file some vendor keeps: means nothing to another.
    File(JsonStr<'a>),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cache {
    FiveMinutes,
    OneHour,
}

#[derive(Clone, Debug)]
pub enum Tool<'a> {
    Function(Function<'a>),
    /// A tool only its own format knows: a server tool, a grammar.
    Foreign {
        kind: JsonStr<'a>,
        name: Option<JsonStr<'a>>,
        json: Json<'a>,
        at: usize,
        /// Why it can be left out elsewhere: the answer is one without it too. `None`: it cannot.
        offered: Option<&'static str>,
    },
}

#[derive(Clone, Debug)]
pub struct Function<'a> {
    pub name: JsonStr<'a>,
    pub description: Option<JsonStr<'a>>,
    /// JSON Schema of the arguments. `None`: the client gave none.
    pub schema: Option<Json<'a>>,
    pub strict: Option<bool>,
    pub cache: Option<Cache>,
    pub at: usize,
    /// The group it stands in, where a format has groups; `name` tells both.
    pub group: Option<Group<'a>>,
    /// It is given a text: `schema` has one argument for it, `input`.
    pub text: bool,
}

/// A tool's place in a group of tools.
#[derive(Clone, Debug)]
pub struct Group<'a> {
    pub namespace: JsonStr<'a>,
    /// Its name there.
    pub name: JsonStr<'a>,
}

#[derive(Clone, Debug)]
pub enum Choice<'a> {
    Auto,
    None,
    /// Some tool must be called.
    Any,
    Tool(JsonStr<'a>),
}

/// How hard to think, in the words both vendors use.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Effort {
    None,
    Minimal,
    Low,
    Medium,
    High,
    Xhigh,
    Max,
}

impl Effort {
    pub const ALL: [Self; 7] = [Self::None, Self::Minimal, Self::Low, Self::Medium, Self::High, Self::Xhigh, Self::Max];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Minimal => "minimal",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Xhigh => "xhigh",
            Self::Max => "max",
        }
    }

    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|e| e.as_str() == word)
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Thinking {
    Disabled,
    /// The model decides how much.
    Adaptive,
    /// At most so many tokens.
    Budget(u64),
}

/// What the answer's text has to look like.
#[derive(Clone, Debug)]
pub enum Output<'a> {
    /// Some JSON object.
    Json,
    /// JSON of this schema.
    Schema {
        name: Option<JsonStr<'a>>,
        /// What it is for, as OpenAI's formats tell the model.
        description: Option<(JsonStr<'a>, usize)>,
        schema: Json<'a>,
        strict: Option<bool>,
    },
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tier {
    /// The best that is to be had.
    Auto,
    /// Never more than the ordinary.
    Standard,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_and_results_must_pair() {
        let call = |id| {
            Block::new(
                BlockKind::ToolUse {
                    id: JsonStr::quote(id),
                    name: JsonStr::quote("f"),
                    input: Args::Json(Json::raw("{}")),
                },
                1,
            )
        };
        let result =
            |id| Block::new(BlockKind::ToolResult { id: JsonStr::quote(id), content: Vec::new(), is_error: false }, 2);
        let text = || Block::new(BlockKind::Text(JsonStr::quote("t")), 3);
        let turn = |role, blocks| Turn { role, blocks, at: 9 };
        for (turns, expect) in [
            (vec![turn(Role::Assistant, vec![call("a")]), turn(Role::User, vec![result("a"), text()])], None),
            (vec![turn(Role::Assistant, vec![call("a")])], None),
            (vec![turn(Role::Assistant, vec![call("a"), call("a")]), turn(Role::User, vec![result("a")])], Some(1)),
            (vec![turn(Role::User, vec![result("a")])], Some(2)),
            (vec![turn(Role::Assistant, vec![call("a")]), turn(Role::User, vec![result("b")])], Some(2)),
            (vec![turn(Role::Assistant, vec![call("a")]), turn(Role::User, vec![text()])], Some(9)),
            (vec![turn(Role::Assistant, vec![call("a"), call("b")]), turn(Role::User, vec![result("b")])], Some(9)),
        ] {
            let prompt = Prompt { turns, ..Prompt::new(Format::Anthropic) };
            let got = prompt.check_calls().err().map(|r| r.place);
            assert_eq!(got, expect.map(crate::wire::loss::Place::Byte), "{:?}", prompt.turns);
        }
    }
}
