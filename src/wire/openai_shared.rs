//! What OpenAI's two formats read and write alike, and no other vendor's has.

use crate::wire::json::{Cursor, Json, JsonError, JsonStr, Kind};
use crate::wire::loss::Losses;
use crate::wire::prompt::{Block, BlockKind, Cache, Prompt, Tier, Twin};

/// Reads a service tier. Those of the vendor's own are kept as they are for its other format.
pub(in crate::wire) fn tier<'a>(prompt: &mut Prompt<'a>, value: Json<'a>, at: usize, losses: &mut Losses) {
    const OTHER: &str = "no other vendor has this tier";
    let (tier, why) = match value.as_str() {
        "\"auto\"" => (Some(Tier::Auto), None),
        "\"default\"" => (Some(Tier::Standard), None),
        "\"priority\"" | "\"fast\"" => (Some(Tier::Auto), Some("the best tier there is can be asked for, and no more")),
        "\"flex\"" | "\"scale\"" | "\"ultrafast\"" => (None, Some(OTHER)),
        // Of somebody who speaks the same format.
        _ => {
            losses.at(at, OTHER);
            (None, None)
        }
    };
    prompt.tier = tier;
    if why.is_some() {
        prompt.twins.push(Twin { name: "service_tier", value, at, why });
    }
}

/// The tier as both spell it; `None` where nothing is to be said.
pub(in crate::wire) fn spelled_tier<'p>(prompt: &'p Prompt<'_>) -> Option<Json<'p>> {
    match (prompt.twin("service_tier"), prompt.tier) {
        (Some(twin), _) => Some(twin.value.borrow()),
        (None, Some(Tier::Standard)) => Some(Json::raw("\"default\"")),
        // What they do unasked.
        (None, Some(Tier::Auto) | None) => None,
    }
}

/// Settles who the end user is. `user`: by the older of two names, and the byte where it stands.
pub(in crate::wire) fn users<'a>(
    prompt: &mut Prompt<'a>,
    user: Option<(JsonStr<'a>, usize)>,
    newer: Option<JsonStr<'a>>,
    losses: &mut Losses,
) {
    prompt.user = match (user, newer) {
        (user, Some(newer)) => {
            if let Some((_, at)) = user.filter(|(user, _)| *user != newer) {
                losses.at(at, "`safety_identifier` takes its place");
            }
            prompt.called.user = "safety_identifier";
            Some(newer)
        }
        (user, None) => user.map(|(user, _)| user),
    };
}

/// What a provider's cache is told besides the breakpoints, in both formats.
pub(in crate::wire) const CACHE: [&str; 3] = ["prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"];

/// Whether a value of a field the two share says no more than its absence.
pub(in crate::wire) fn is_idle(name: &str, value: &Json<'_>) -> bool {
    name == "verbosity" && value.as_str() == "\"medium\""
}

/// Reads `cache_control` (OpenRouter, LiteLLM) or `prompt_cache_breakpoint`.
pub(in crate::wire) fn cache(c: &mut Cursor<'_>, losses: &mut Losses) -> Result<Option<Cache>, JsonError> {
    if c.peek()? != Kind::Object {
        c.skip()?;
        return Ok(None);
    }
    let mut cache = Cache::FiveMinutes;
    c.object()?;
    while let Some(key) = c.key()? {
        let at = c.at();
        let value = c.skip()?;
        if !key.is("ttl") {
            continue;
        }
        match value.as_str() {
            "\"1h\"" => cache = Cache::OneHour,
            "\"12h\"" => {
                losses.at(at, "kept for an hour, which is the longest");
                cache = Cache::OneHour;
            }
            "\"5m\"" | "null" => {}
            _ => losses.at(at, "kept for five minutes, as if nothing was said"),
        }
    }
    Ok(Some(cache))
}

/// The instructions that are meant for the model.
pub(in crate::wire) fn instructions<'p>(prompt: &'p Prompt<'_>, losses: &mut Losses) -> Vec<&'p Block<'p>> {
    let mut system = Vec::new();
    for block in &prompt.system {
        let BlockKind::Text(text) = &block.kind else {
            system.push(block);
            continue;
        };
        if text.literal().trim_start().starts_with(BILLING) {
            // It changes with every request, so the provider's cache would never be hit; and it is no instruction.
            losses.at(block.at, "Claude Code's billing line means nothing to this provider and would spoil its cache");
        } else if !text.is_blank() {
            system.push(block);
        }
    }
    system
}

/// How Claude Code's first system block begins.
const BILLING: &str = "x-anthropic-billing-header:";
