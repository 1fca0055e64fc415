//! How much to think and how much to say: `max_tokens`, `thinking` and `output_config.effort` decide one another,
//! so they are settled together (CONVERSION 5.1).

use crate::wire::Target;
use crate::wire::caps::Capabilities;
use crate::wire::loss::{Losses, Refusal};
use crate::wire::prompt::{BlockKind, Effort, Prompt, Role, Thinking};

use super::encode::at_field;
use super::names::is_vendors;
use super::turns::is_hollow;

/// What a request says of thinking and of length.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Reasoning {
    /// In tokens; never 0, which would only warm the cache.
    pub(super) max_tokens: u64,
    pub(super) thinking: Option<Thinking>,
    pub(super) effort: Option<Effort>,
}

impl Reasoning {
    /// Settles all three. `forced`: the answer has to be a call.
    pub(super) fn settle(
        prompt: &Prompt<'_>,
        target: &Target<'_>,
        forced: bool,
        losses: &mut Losses,
    ) -> Result<Self, Refusal> {
        let caps = target.capabilities;
        let (max_tokens, ours) = limit(prompt, caps, losses)?;
        let effort = effort(prompt, caps, losses);
        let mut this = Self { max_tokens, thinking: thinking(prompt, caps, effort, losses), effort };
        if let Some(Thinking::Budget(_)) = this.thinking {
            let why = if forced {
                Some("thinking is off where a tool call is forced")
            } else if lost_thinking(prompt) {
                Some("thinking is off: the last turn's thinking did not come back")
            } else {
                None
            };
            if let Some(why) = why {
                this.thinking = None;
                losses.field(at_field(prompt, "reasoning_effort", "thinking"), why);
            }
        }
        this.fit(prompt, caps, ours, losses);
        Ok(this)
    }

    /// Whether the model is told to think: then it takes no sampling parameters.
    pub(super) fn is_on(&self) -> bool {
        matches!(self.thinking, Some(Thinking::Adaptive | Thinking::Budget(_)))
    }

    /// Keeps the budget below the length of the answer. `ours`: the client set no length, so it may grow.
    fn fit(&mut self, prompt: &Prompt<'_>, caps: &Capabilities, ours: bool, losses: &mut Losses) {
        let Some(Thinking::Budget(wanted)) = self.thinking else {
            return;
        };
        if ours && self.max_tokens <= wanted {
            let room = wanted.saturating_add(self.max_tokens);
            self.max_tokens = caps.max_output_tokens.map_or(room, |most| room.min(most)).max(1);
        }
        let budget = wanted.max(BUDGET_MIN).min(self.max_tokens.saturating_sub(1));
        let at = at_field(prompt, "reasoning_effort", "thinking.budget_tokens");
        if budget < BUDGET_MIN {
            self.thinking = None;
            losses.field(at, "no room to think below max_tokens");
        } else if budget != wanted {
            self.thinking = Some(Thinking::Budget(budget));
            losses.field(at, "the thinking budget was fitted below max_tokens");
        }
    }
}

/// Fewest tokens of a thinking budget (`thinking_config_enabled_param`).
const BUDGET_MIN: u64 = 1024;

/// Sent when neither the client nor the configuration knows a limit, in tokens: every Claude takes it.
const MAX_TOKENS_DEFAULT: u64 = 4096;

/// The length of the answer, and whether it is ours rather than the client's.
fn limit(prompt: &Prompt<'_>, caps: &Capabilities, losses: &mut Losses) -> Result<(u64, bool), Refusal> {
    let most = caps.max_output_tokens;
    match prompt.max_tokens {
        Some(0) => Err(Refusal::field(prompt.called.max_tokens, "must be at least 1")),
        Some(wanted) => match most {
            Some(most) if most < wanted => {
                losses.field(prompt.called.max_tokens, "cut to the most the model can answer with");
                Ok((most.max(1), false))
            }
            _ => Ok((wanted, false)),
        },
        None => {
            let ours = caps.default_max_tokens.or(most).unwrap_or(MAX_TOKENS_DEFAULT);
            Ok((most.map_or(ours, |most| ours.min(most)).max(1), true))
        }
    }
}

/// The level of effort, if the model takes levels.
fn effort(prompt: &Prompt<'_>, caps: &Capabilities, losses: &mut Losses) -> Option<Effort> {
    let levels = &caps.effort;
    let wanted = match (prompt.effort, prompt.thinking) {
        (None, None | Some(Thinking::Disabled | Thinking::Adaptive)) => return None,
        (Some(effort), _) => effort,
        // A budget for a model that only knows levels.
        (None, Some(Thinking::Budget(budget))) => {
            if caps.thinking.enabled || levels.is_empty() {
                return None;
            }
            effort_of(budget)
        }
    };
    let usable = || levels.iter().copied().filter(|level| *level != Effort::None);
    let Some(level) = usable().filter(|level| *level <= wanted).max().or_else(|| usable().min()) else {
        // Without `thinking` beside it, the level decides how to think, and `thinking` tells what became of it.
        if prompt.thinking.is_some() {
            losses.field(at_field(prompt, "reasoning_effort", "output_config.effort"), "the model takes no levels");
        }
        return None;
    };
    // `thinking` tells what became of the wish for none.
    if prompt.effort.is_some_and(|asked| asked != level && asked != Effort::None) {
        losses.field(at_field(prompt, "reasoning_effort", "output_config.effort"), "the nearest level the model takes");
    }
    Some(level)
}

/// What `thinking` says.
fn thinking(prompt: &Prompt<'_>, caps: &Capabilities, effort: Option<Effort>, losses: &mut Losses) -> Option<Thinking> {
    let modes = caps.thinking;
    let at = at_field(prompt, "reasoning_effort", "thinking");
    let level = prompt.effort.unwrap_or(Effort::Medium);
    match (prompt.thinking, prompt.effort) {
        (Some(Thinking::Disabled), _) | (None, Some(Effort::None)) => {
            if modes.disabled {
                return Some(Thinking::Disabled);
            }
            if caps.reasoning_default_on {
                losses.field(at, "the model always thinks");
            }
            None
        }
        (Some(Thinking::Adaptive), _) if modes.adaptive => Some(Thinking::Adaptive),
        (Some(Thinking::Adaptive), _) if modes.enabled => {
            losses.field(at, "the model thinks by a budget");
            Some(Thinking::Budget(budget_of(level)))
        }
        (Some(Thinking::Budget(budget)), _) if modes.enabled => Some(Thinking::Budget(budget)),
        (Some(Thinking::Budget(_)), _) if modes.adaptive => {
            losses.field(at, "the model thinks as much as it finds right");
            Some(Thinking::Adaptive)
        }
        (Some(Thinking::Adaptive | Thinking::Budget(_)), _) => {
            losses.field(at, "the model takes no such way of thinking");
            None
        }
        (None, Some(_)) if effort.is_some() => modes.adaptive.then_some(Thinking::Adaptive),
        (None, Some(level)) if modes.enabled => Some(Thinking::Budget(budget_of(level))),
        (None, Some(_)) => {
            losses.field(at, "the model takes no level of effort");
            modes.adaptive.then_some(Thinking::Adaptive)
        }
        (None, None) => None,
    }
}

/// Budgets for levels, in tokens (CONVERSION 5.1: policy numbers).
fn budget_of(effort: Effort) -> u64 {
    match effort {
        Effort::None | Effort::Minimal => 1024,
        Effort::Low => 2048,
        Effort::Medium => 8192,
        Effort::High => 16_384,
        Effort::Xhigh | Effort::Max => 32_768,
    }
}

fn effort_of(budget: u64) -> Effort {
    match budget {
        0..=2048 => Effort::Low,
        2049..=12_000 => Effort::Medium,
        _ => Effort::High,
    }
}

/// Whether the conversation stands inside an answer whose thinking the client did not send back: a run of tool calls,
/// or the beginning of an answer that is to be continued. Models with budgets refuse that: "Expected `thinking` or
/// `redacted_thinking`, but found `tool_use`".
fn lost_thinking(prompt: &Prompt<'_>) -> bool {
    let mut turns = prompt.turns.iter().rev().filter(|turn| !is_hollow(turn)).peekable();
    let is_begun = turns.peek().is_some_and(|turn| turn.role == Role::Assistant);
    let Some(last) = turns.find(|turn| turn.role == Role::Assistant) else {
        return false;
    };
    let calls = last.blocks.iter().any(|b| matches!(b.kind, BlockKind::ToolUse { .. }));
    let thought = last.blocks.iter().any(|b| match &b.kind {
        BlockKind::Thinking { signature, .. } => signature.as_ref().is_some_and(is_vendors),
        BlockKind::RedactedThinking { data } => is_vendors(data),
        BlockKind::Text(_)
        | BlockKind::Image(_)
        | BlockKind::Document { .. }
        | BlockKind::ToolUse { .. }
        | BlockKind::ToolResult { .. }
        | BlockKind::Refusal(_)
        | BlockKind::Foreign { .. } => false,
    });
    (calls || is_begun) && !thought
}
