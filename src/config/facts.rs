#![expect(clippy::disallowed_types, reason = "defaults hold any JSON")]
//! Capabilities, quirks and defaults, put together from the places that may state them.

use serde_json::{Map, Value, json};

use crate::config::source::{CapabilityFlags, Num, QuirkFlags};
use crate::wire::caps::{
    Capabilities, MaxTokensField, Quirks, ReasoningField, ReasoningReplay, SystemRole, ThinkingModes, ToolId,
};
use crate::wire::prompt::Effort;

/// What is known of a model; later statements win, flag by flag.
pub(crate) fn capabilities(stated: &[Option<&CapabilityFlags>]) -> Capabilities {
    let mut all = Capabilities::default();
    for flags in stated.iter().flatten() {
        all.max_output_tokens = flags.max_output_tokens.map_or(all.max_output_tokens, |n| Some(n.count()));
        all.default_max_tokens = flags.default_max_tokens.map_or(all.default_max_tokens, |n| Some(n.count()));
        set(&mut all.sampling, flags.sampling);
        set(&mut all.temperature_and_top_p, flags.temperature_and_top_p);
        set(&mut all.reasoning_default_on, flags.reasoning_default_on);
        set(&mut all.forced_tool_choice, flags.forced_tool_choice);
        set(&mut all.prefill, flags.prefill);
        set(&mut all.inline_system, flags.inline_system);
        set(&mut all.structured_outputs, flags.structured_outputs);
        set(&mut all.images, flags.images);
        set(&mut all.pdf, flags.pdf);
        set(&mut all.stop, flags.stop);
        set(&mut all.tools_need_responses_api, flags.tools_need_responses_api);
        set(&mut all.effort, flags.effort.as_ref().map(|e| e.iter().filter_map(|w| Effort::parse(w)).collect()));
        if let Some(modes) = &flags.thinking {
            let ThinkingModes { adaptive, enabled, disabled } = &mut all.thinking;
            set(adaptive, modes.adaptive);
            set(enabled, modes.enabled);
            set(disabled, modes.disabled);
        }
    }
    all
}

/// How an endpoint differs; later statements win, flag by flag.
pub(crate) fn quirks(stated: &[Option<&QuirkFlags>]) -> Quirks {
    let mut all = Quirks::default();
    for flags in stated.iter().flatten() {
        set(&mut all.max_tokens_field, word(&flags.max_tokens_field, &MAX_TOKENS_FIELDS));
        set(&mut all.system_role, word(&flags.system_role, &SYSTEM_ROLES));
        set(&mut all.content_as_string, flags.content_as_string);
        set(&mut all.stream_options, flags.stream_options);
        set(&mut all.strict_tools, flags.strict_tools);
        set(&mut all.tool_choice_required, flags.tool_choice_required);
        set(&mut all.tool_result_images, flags.tool_result_images);
        set(&mut all.reasoning_field, word(&flags.reasoning_field, &REASONING_FIELDS));
        set(&mut all.reasoning_replay, word(&flags.reasoning_replay, &REASONING_REPLAYS));
        set(&mut all.tool_id, word(&flags.tool_id, &TOOL_IDS));
        set(&mut all.user_max_len, flags.user_max_len.map(Num::count));
        set(&mut all.user_emails, flags.user_emails);
        set(&mut all.prompt_cache_breakpoint, flags.prompt_cache_breakpoint);
        set(&mut all.top_k, flags.top_k);
        set(&mut all.empty_content, flags.empty_content);
        set(&mut all.drop_params, flags.drop_params.clone());
        set(&mut all.think_tags, flags.think_tags);
        set(&mut all.thought_signatures, flags.thought_signatures);
    }
    all
}

/// Fields set where the client did not; later statements win, and a null takes a field away again.
pub(crate) fn defaults(stated: &[Option<&Map<String, Value>>]) -> Box<[(Box<str>, Box<str>)]> {
    let mut all: Map<String, Value> = Map::new();
    for (name, value) in stated.iter().copied().flatten().flatten() {
        if value.is_null() {
            all.shift_remove(name);
        } else {
            all.insert(name.clone(), value.clone());
        }
    }
    all.into_iter().map(|(name, value)| (name.into(), value.to_string().into())).collect()
}

/// Quirks as the files write them.
#[expect(clippy::disallowed_methods, reason = "json! calls to_value; nothing reads this back")]
pub(crate) fn show_quirks(all: &Quirks) -> Value {
    json!({
        "max_tokens_field": name(all.max_tokens_field, &MAX_TOKENS_FIELDS),
        "system_role": name(all.system_role, &SYSTEM_ROLES),
        "content_as_string": all.content_as_string,
        "stream_options": all.stream_options,
        "strict_tools": all.strict_tools,
        "tool_choice_required": all.tool_choice_required,
        "tool_result_images": all.tool_result_images,
        "reasoning_field": name(all.reasoning_field, &REASONING_FIELDS),
        "reasoning_replay": name(all.reasoning_replay, &REASONING_REPLAYS),
        "tool_id": name(all.tool_id, &TOOL_IDS),
        "user_max_len": all.user_max_len,
        "user_emails": all.user_emails,
        "prompt_cache_breakpoint": all.prompt_cache_breakpoint,
        "top_k": all.top_k,
        "empty_content": all.empty_content,
        "drop_params": all.drop_params,
        "think_tags": all.think_tags,
        "thought_signatures": all.thought_signatures,
    })
}

fn set<T>(fact: &mut T, stated: Option<T>) {
    if let Some(stated) = stated {
        *fact = stated;
    }
}

#[expect(clippy::ref_option, reason = "a field as it stands in the source")]
fn word<T: Copy>(stated: &Option<String>, words: &[(&str, T)]) -> Option<T> {
    let stated = stated.as_deref()?;
    words.iter().find(|(name, _)| *name == stated).map(|(_, value)| *value)
}

fn name<'w, T: Copy + PartialEq>(value: T, words: &[(&'w str, T)]) -> Option<&'w str> {
    words.iter().find(|(_, known)| *known == value).map(|(name, _)| *name)
}

const MAX_TOKENS_FIELDS: [(&str, MaxTokensField); 2] =
    [("max_tokens", MaxTokensField::MaxTokens), ("max_completion_tokens", MaxTokensField::MaxCompletionTokens)];

const SYSTEM_ROLES: [(&str, SystemRole); 3] =
    [("system", SystemRole::System), ("developer", SystemRole::Developer), ("user", SystemRole::User)];

const REASONING_FIELDS: [(&str, ReasoningField); 4] = [
    ("reasoning_content", ReasoningField::ReasoningContent),
    ("reasoning", ReasoningField::Reasoning),
    ("reasoning_details", ReasoningField::ReasoningDetails),
    ("none", ReasoningField::None),
];

const REASONING_REPLAYS: [(&str, ReasoningReplay); 3] =
    [("none", ReasoningReplay::None), ("tool_turns", ReasoningReplay::ToolTurns), ("always", ReasoningReplay::Always)];

const TOOL_IDS: [(&str, ToolId); 3] =
    [("any", ToolId::Any), ("anthropic", ToolId::Anthropic), ("mistral9", ToolId::Mistral9)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_statements_win_flag_by_flag() {
        let flags = |text: &str| serde_json::from_str::<CapabilityFlags>(text).unwrap();
        let all = capabilities(&[
            Some(&flags(
                r#"{"max_output_tokens":"64000","images":false,"thinking":{"adaptive":true,"disabled":true}}"#,
            )),
            None,
            Some(&flags(r#"{"images":true,"effort":["low","max"],"thinking":{"disabled":false},"sampling":null}"#)),
        ]);
        assert_eq!(all.max_output_tokens, Some(64_000));
        assert!(all.images && all.sampling && all.thinking.adaptive && !all.thinking.disabled, "{all:?}");
        assert_eq!(all.effort, [Effort::Low, Effort::Max]);
    }

    #[test]
    fn quirks_are_words_and_flags() {
        let flags: QuirkFlags = serde_json::from_str(
            r#"{"tool_id":"mistral9","system_role":"user","user_max_len":0,"drop_params":["seed"],"top_k":true}"#,
        )
        .unwrap();
        let all = quirks(&[None, Some(&flags)]);
        assert_eq!((all.tool_id, all.system_role, all.user_max_len), (ToolId::Mistral9, SystemRole::User, 0));
        assert!(all.top_k && all.stream_options, "{all:?}");
        assert_eq!(all.drop_params, ["seed"]);
    }

    #[test]
    fn a_null_takes_a_default_away() {
        let map = |text: &str| serde_json::from_str::<Map<String, Value>>(text).unwrap();
        let all = defaults(&[
            Some(&map(r#"{"temperature":1.0,"top_p":0.5,"x":{"b":1,"a":[2]}}"#)),
            Some(&map(r#"{"top_p":null}"#)),
        ]);
        let all: Vec<(&str, &str)> = all.iter().map(|(k, v)| (&**k, &**v)).collect();
        assert_eq!(all, [("temperature", "1.0"), ("x", r#"{"b":1,"a":[2]}"#)]);
    }
}
