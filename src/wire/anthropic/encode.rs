//! Writes a Messages request for a route (CONVERSION 3 to 5).
//!
//! Asks [`crate::wire::caps`] what the model takes, and never looks at its name. Things are written in the order in
//! which Anthropic caches them: tools, system, messages.

use std::collections::HashSet;

use data_encoding::HEXLOWER;
use ring::digest::{SHA256, digest};

use crate::wire::json::{Json, JsonStr, Writer};
use crate::wire::loss::{Losses, Refusal};
use crate::wire::prompt::{Block, BlockKind, Cache, Choice, Output, Prompt, Thinking, Tier, Tool};
use crate::wire::{Memory, Target};

use super::names::{Ids, legal_name};
use super::reasoning::Reasoning;
use super::schema;
use super::tools::{check_choice, is_forced};

pub(super) fn encode(
    prompt: &Prompt<'_>,
    target: &Target<'_>,
    out: &mut Vec<u8>,
    losses: &mut Losses,
) -> Result<Memory, Refusal> {
    let surplus = breakpoints(prompt).saturating_sub(BREAKPOINTS_MAX);
    let mut body = Body {
        prompt,
        target,
        losses,
        names: Vec::new(),
        renamed: HashSet::new(),
        surplus,
        short: false,
        strict: 0,
        ids: Ids::default(),
    };
    check_choice(&body)?;
    let structure = body.structure()?;
    let forced = is_forced(prompt) || matches!(structure, Structure::Tool { .. });
    let mut reasoning = Reasoning::settle(prompt, target, forced, body.losses)?;
    if reasoning.thinking.is_some() && !body.sends("thinking", at_field(prompt, "reasoning_effort", "thinking")) {
        reasoning.thinking = None;
    }
    let mut w = Writer::new(out);
    w.object().key("model").str(target.model).key("max_tokens").int(reasoning.max_tokens);
    if prompt.stream {
        w.key("stream").bool(true);
    }
    body.thinking(&reasoning, &structure, &mut w)?;
    body.sampling(reasoning.is_on(), &mut w)?;
    body.stop(&mut w);
    body.user(&mut w);
    body.tier(&mut w);
    body.tools(&structure, &mut w)?;
    body.system(&structure, &mut w)?;
    body.messages(&mut w)?;
    w.end_object();
    let unwrap_tool = match structure {
        Structure::Tool { name, .. } => Some(name),
        Structure::Free | Structure::Spoken | Structure::Format(_) => None,
    };
    Ok(Memory { names: body.names, unwrap_tool, ..Memory::default() })
}

/// A request on its way out.
pub(super) struct Body<'p, 't> {
    pub(super) prompt: &'p Prompt<'p>,
    pub(super) target: &'t Target<'t>,
    pub(super) losses: &'t mut Losses,
    /// Tool names that were not legal: (as sent, as the client knows it).
    names: Vec<(String, String)>,
    /// The client's side of `names`, for a request that names thousands.
    renamed: HashSet<String>,
    /// Cache breakpoints to leave out before the last four.
    pub(super) surplus: usize,
    /// A breakpoint of five minutes has been written.
    short: bool,
    /// Strict tools written so far.
    pub(super) strict: usize,
    pub(super) ids: Ids,
}

/// How the answer is made to have the shape that was asked for.
pub(super) enum Structure<'p> {
    Free,
    /// By words in the system prompt.
    Spoken,
    /// By the model's structured outputs.
    Format(&'p Json<'p>),
    /// As the input of a tool, which the way back unwraps. `alone`: no other tool may be called.
    Tool {
        name: String,
        schema: &'p Json<'p>,
        alone: bool,
    },
}

/// Most cache breakpoints in a request; the last ones matter.
const BREAKPOINTS_MAX: usize = 4;

/// Longest `metadata.user_id`, in characters.
const USER_CHARS_MAX: usize = 256;

/// Why blank text is left out.
pub(super) const BLANK: &str = "text of white space alone is not taken";

/// Said where a client asks for JSON without a schema.
const JSON_ONLY: &str = "Answer with a single JSON object and nothing else: no prose, no code fence.";

impl<'p> Body<'p, '_> {
    /// The name of a tool as it is sent; one that has to change is remembered for the way back.
    pub(super) fn name<'n>(&mut self, name: &'n JsonStr<'n>) -> JsonStr<'n> {
        let text = name.decode();
        let Some(legal) = legal_name(&text) else {
            return name.borrow();
        };
        if !self.renamed.contains(text.as_ref()) {
            self.renamed.insert(text.clone().into_owned());
            self.names.push((legal.clone(), text.into_owned()));
        }
        JsonStr::quoted(&legal)
    }

    /// Writes a cache breakpoint, unless it is one too many.
    pub(super) fn cache(&mut self, cache: Option<Cache>, at: usize, w: &mut Writer<'_>) {
        let Some(cache) = cache else {
            return;
        };
        if 0 < self.surplus {
            self.surplus -= 1;
            self.losses.at(at, "more than four cache breakpoints: the last four are kept");
            return;
        }
        w.key("cache_control").object().key("type").word("ephemeral");
        match cache {
            Cache::FiveMinutes => self.short = true,
            // Tools, system, messages: "a ttl='1h' cache_control block must not come after a ttl='5m'" one.
            Cache::OneHour if self.short => {
                self.losses
                    .at(at, "kept for five minutes, like what stands before it: longer may not come after shorter");
            }
            Cache::OneHour => {
                w.key("ttl").word("1h");
            }
        }
        w.end_object();
    }

    /// Whether a top-level field may be sent to this provider; if not, that is a loss.
    fn sends(&mut self, name: &'static str, client_name: &'static str) -> bool {
        let dropped = self.is_dropped(name);
        if dropped {
            self.losses.field(client_name, "the provider does not take it");
        }
        !dropped
    }

    fn is_dropped(&self, name: &str) -> bool {
        self.target.quirks.drop_params.iter().any(|param| param == name)
    }

    fn structure(&mut self) -> Result<Structure<'p>, Refusal> {
        let at = at_field(self.prompt, "response_format", "output_config.format");
        let caps = self.target.capabilities;
        let (name, schema, strict) = match &self.prompt.output {
            None => return Ok(Structure::Free),
            Some(Output::Json) => {
                self.losses.field(at, "asked for in words: the model has no JSON mode");
                return Ok(Structure::Spoken);
            }
            Some(Output::Schema { name, description, schema, strict }) => {
                if let Some((_, at)) = description {
                    self.losses.at(*at, "a schema has no description of its own here");
                }
                (name, schema, strict)
            }
        };
        if caps.structured_outputs && !self.is_dropped("output_config") {
            if *strict == Some(false) {
                self.losses.field(at, "the schema is always held to");
            }
            return Ok(Structure::Format(schema));
        }
        if is_forced(self.prompt) {
            self.losses.field(at, "a forced call leaves no answer to shape");
            return Ok(Structure::Free);
        }
        if !caps.forced_tool_choice || matches!(self.prompt.thinking, Some(Thinking::Budget(_))) {
            return Err(Refusal::field(at, "this model cannot answer by a schema in this request"));
        }
        self.losses.field(at, "asked for as a tool's input: the model has no structured outputs");
        let wanted = name.as_ref().map_or_else(|| "response".to_owned(), |name| name.decode().into_owned());
        let mut name = legal_name(&wanted).unwrap_or(wanted);
        if self.prompt.tools.iter().any(|tool| matches!(tool, Tool::Function(function) if function.name.is(&name))) {
            name = legal_name(&format!("{name}.")).unwrap_or(name);
        }
        let alone = self.prompt.tools.is_empty() || matches!(self.prompt.choice, Some(Choice::None));
        Ok(Structure::Tool { name, schema, alone })
    }

    /// Writes `thinking` and `output_config`.
    fn thinking(
        &mut self,
        reasoning: &Reasoning,
        structure: &Structure<'_>,
        w: &mut Writer<'_>,
    ) -> Result<(), Refusal> {
        if let Some(thinking) = reasoning.thinking {
            w.key("thinking").object().key("type");
            match thinking {
                Thinking::Disabled => w.word("disabled"),
                Thinking::Adaptive => w.word("adaptive"),
                Thinking::Budget(budget) => w.word("enabled").key("budget_tokens").int(budget),
            };
            if self.prompt.hide_thinking && reasoning.is_on() {
                w.key("display").word("omitted");
            }
            w.end_object();
        }
        let format = match structure {
            Structure::Format(schema) => Some(*schema),
            Structure::Free | Structure::Spoken | Structure::Tool { .. } => None,
        };
        let client = at_field(self.prompt, "reasoning_effort", "output_config");
        if (reasoning.effort.is_none() && format.is_none()) || !self.sends("output_config", client) {
            return Ok(());
        }
        w.key("output_config").object();
        if let Some(effort) = reasoning.effort {
            w.key("effort").str(effort.as_str());
        }
        if let Some(schema) = format {
            w.key("format").object().key("type").word("json_schema").key("schema");
            if schema::rewrite(schema, w)? {
                let at = at_field(self.prompt, "response_format", "output_config.format");
                self.losses.field(at, "keywords the model does not enforce were moved into descriptions");
            }
            w.end_object();
        }
        w.end_object();
        Ok(())
    }

    fn sampling(&mut self, thinks: bool, w: &mut Writer<'_>) -> Result<(), Refusal> {
        let prompt = self.prompt;
        let heat = prompt.temperature.as_ref().map(|t| t.as_f64().unwrap_or(f64::NAN));
        if heat.is_some_and(|t| !(0.0..=2.0).contains(&t)) {
            return Err(Refusal::field("temperature", "temperature: must be between 0 and 2"));
        }
        if thinks || !self.target.capabilities.sampling {
            let why = if thinks { "not taken while thinking" } else { "the model takes no sampling parameters" };
            // 1 is the default, and leaving it out says the same.
            for (name, lost) in [
                ("temperature", heat.is_some_and(|t| t != 1.0)),
                ("top_p", prompt.top_p.as_ref().is_some_and(|p| p.as_f64() != Some(1.0))),
                ("top_k", prompt.top_k.is_some()),
            ] {
                if lost {
                    self.losses.field(name, why);
                }
            }
            return Ok(());
        }
        if let Some(temperature) = &prompt.temperature
            && self.sends("temperature", "temperature")
        {
            if heat.is_some_and(|t| 1.0 < t) {
                self.losses.field("temperature", "cut to 1, the most there is");
                w.key("temperature").int(1);
            } else {
                w.key("temperature").json(temperature);
            }
        }
        if let Some(top_p) = &prompt.top_p {
            if heat.is_some() && !self.target.capabilities.temperature_and_top_p {
                self.losses.field("top_p", "the model takes it only without temperature");
            } else if self.sends("top_p", "top_p") {
                w.key("top_p").json(top_p);
            }
        }
        if let Some(top_k) = &prompt.top_k
            && self.sends("top_k", "top_k")
        {
            w.key("top_k").json(top_k);
        }
        Ok(())
    }

    fn stop(&mut self, w: &mut Writer<'_>) {
        let at = at_field(self.prompt, "stop", "stop_sequences");
        let kept: Vec<&JsonStr<'_>> = self.prompt.stop.iter().filter(|stop| !stop.is_blank()).collect();
        if kept.len() < self.prompt.stop.len() {
            self.losses.field(at, "a stop sequence of white space alone is not taken");
        }
        if kept.is_empty() {
            return;
        }
        if !self.target.capabilities.stop {
            self.losses.field(at, "the model takes no stop sequences");
        } else if self.sends("stop_sequences", at) {
            w.key("stop_sequences").array();
            for stop in kept {
                w.lit(stop);
            }
            w.end_array();
        }
    }

    fn user(&mut self, w: &mut Writer<'_>) {
        let at = self.prompt.called.user;
        let Some(user) = self.prompt.user.as_ref().filter(|user| !user.is_blank()) else {
            return;
        };
        let text = user.decode();
        if !self.target.quirks.user_emails && has_email(&text) {
            self.losses.field(at, "looks like an e-mail address, which Anthropic must not be sent");
        } else if self.sends("metadata", at) {
            w.key("metadata").object().key("user_id");
            if USER_CHARS_MAX < text.chars().count() {
                self.losses.field(at, "too long: its hash is sent");
                w.str(&HEXLOWER.encode(digest(&SHA256, text.as_bytes()).as_ref()));
            } else {
                w.lit(user);
            }
            w.end_object();
        }
    }

    fn tier(&mut self, w: &mut Writer<'_>) {
        self.prompt.leave_twins(self.losses);
        if let Some(tier) = self.prompt.tier
            && self.sends("service_tier", "service_tier")
        {
            w.key("service_tier").str(match tier {
                Tier::Auto => "auto",
                Tier::Standard => "standard_only",
            });
        }
    }

    /// Writes the instructions before the first turn: plain text where it is one, blocks where boundaries matter.
    fn system(&mut self, structure: &Structure<'_>, w: &mut Writer<'_>) -> Result<(), Refusal> {
        let mut texts: Vec<(&JsonStr<'_>, &Block<'_>)> = Vec::with_capacity(self.prompt.system.len());
        for block in &self.prompt.system {
            let BlockKind::Text(text) = &block.kind else {
                return Err(Refusal::at(block.at, "instructions can only be text"));
            };
            if !text.is_blank() {
                texts.push((text, block));
            } else if !text.is_empty() {
                self.losses.at(block.at, BLANK);
            }
        }
        let spoken = matches!(structure, Structure::Spoken);
        match (texts.as_slice(), spoken) {
            ([], false) => {}
            ([], true) => {
                w.key("system").str(JSON_ONLY);
            }
            ([(text, block)], false) if block.cache.is_none() => {
                w.key("system").lit(text);
            }
            (texts, _) => {
                w.key("system").array();
                for (text, block) in texts {
                    w.object().key("type").word("text").key("text").lit(text);
                    self.cache(block.cache, block.at, w);
                    w.end_object();
                }
                if spoken {
                    w.object().key("type").word("text").key("text").str(JSON_ONLY).end_object();
                }
                w.end_array();
            }
        }
        Ok(())
    }
}

/// How many cache breakpoints the request carries.
fn breakpoints(prompt: &Prompt<'_>) -> usize {
    fn of(block: &Block<'_>) -> usize {
        let inner = match &block.kind {
            // What is left out takes its breakpoint along.
            BlockKind::Text(text) | BlockKind::Refusal(text) if text.is_blank() => return 0,
            BlockKind::ToolResult { content, .. } => content.iter().map(of).sum(),
            BlockKind::Text(_)
            | BlockKind::Refusal(_)
            | BlockKind::Image(_)
            | BlockKind::Document { .. }
            | BlockKind::ToolUse { .. }
            | BlockKind::Thinking { .. }
            | BlockKind::RedactedThinking { .. }
            | BlockKind::Foreign { .. } => 0,
        };
        inner + usize::from(block.cache.is_some())
    }
    let tools = prompt.tools.iter().filter(|tool| matches!(tool, Tool::Function(function) if function.cache.is_some()));
    let turns = prompt.turns.iter().flat_map(|turn| &turn.blocks);
    tools.count() + prompt.system.iter().chain(turns).map(of).sum::<usize>()
}

/// Whether some word in the text is an e-mail address by its looks: `a@b.c`.
fn has_email(text: &str) -> bool {
    text.split(|c: char| c.is_whitespace() || "\"'<>,;(){}[]".contains(c)).any(|word| {
        word.split_once('@').is_some_and(|(name, domain)| {
            !name.is_empty() && domain.split_once('.').is_some_and(|(host, top)| !host.is_empty() && !top.is_empty())
        })
    })
}

/// A field's path as the client knows it: the same thing is called differently in each format.
pub(super) fn at_field(prompt: &Prompt<'_>, chat: &'static str, anthropic: &'static str) -> &'static str {
    prompt.path(chat, anthropic)
}
