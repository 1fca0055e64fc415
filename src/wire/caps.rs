//! What a model can do and how a provider wants to be spoken to. Data from the configuration, never code:
//! converters ask these flags and no converter knows a model or a provider by name (CONVERSION 11).

use crate::wire::prompt::Effort;

/// What the upstream model accepts. The default is what an unknown model gets: nothing is assumed to be refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Capabilities {
    /// Most tokens it can answer with; larger wishes are cut to it.
    pub max_output_tokens: Option<u64>,
    /// Sent where a format needs a limit and the client gave none.
    pub default_max_tokens: Option<u64>,
    /// Takes `temperature`, `top_p`, `top_k`.
    pub sampling: bool,
    /// Takes `temperature` and `top_p` in one request.
    pub temperature_and_top_p: bool,
    /// Ways of thinking it takes.
    pub thinking: ThinkingModes,
    /// Levels of effort it takes; empty: it takes none.
    pub effort: Vec<Effort>,
    /// It thinks unless told otherwise.
    pub reasoning_default_on: bool,
    /// Takes a choice that forces a call.
    pub forced_tool_choice: bool,
    /// Continues an assistant message that is left open.
    pub prefill: bool,
    /// Takes system messages between turns.
    pub inline_system: bool,
    /// Takes a JSON Schema for its answer.
    pub structured_outputs: bool,
    pub images: bool,
    pub pdf: bool,
    /// Takes stop sequences.
    pub stop: bool,
    /// Function tools work only through the Responses API.
    pub tools_need_responses_api: bool,
}

impl Default for Capabilities {
    fn default() -> Self {
        Self {
            max_output_tokens: None,
            default_max_tokens: None,
            sampling: true,
            temperature_and_top_p: true,
            thinking: ThinkingModes::default(),
            effort: Vec::new(),
            reasoning_default_on: false,
            forced_tool_choice: true,
            prefill: true,
            inline_system: false,
            structured_outputs: true,
            images: true,
            pdf: true,
            stop: true,
            tools_need_responses_api: false,
        }
    }
}

/// Which values of `thinking.type` a model takes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ThinkingModes {
    pub adaptive: bool,
    pub enabled: bool,
    pub disabled: bool,
}

/// How the provider's endpoint differs from the format's own vendor.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Quirks {
    /// `max_completion_tokens` (OpenAI, Azure) or `max_tokens` (most others).
    pub max_tokens_field: MaxTokensField,
    pub system_role: SystemRole,
    /// User and system content must be a plain string where it can be.
    pub content_as_string: bool,
    /// Takes `stream_options`.
    pub stream_options: bool,
    /// Takes `strict` in tools.
    pub strict_tools: bool,
    /// Takes `tool_choice: "required"`; otherwise it is called `any`.
    pub tool_choice_required: bool,
    /// Takes images inside tool messages.
    pub tool_result_images: bool,
    pub reasoning_field: ReasoningField,
    pub reasoning_replay: ReasoningReplay,
    pub tool_id: ToolId,
    /// Longest `user` in characters; longer ones are hashed.
    pub user_max_len: u64,
    /// May be told who the user is even where that is an e-mail address.
    pub user_emails: bool,
    /// Takes `prompt_cache_breakpoint`.
    pub prompt_cache_breakpoint: bool,
    /// Takes `top_k` (not OpenAI itself).
    pub top_k: bool,
    /// An assistant message of calls alone needs `content: ""` rather than null.
    pub empty_content: bool,
    /// Top-level fields never sent.
    pub drop_params: Vec<String>,
    /// Answers carry `<think>…</think>` inside their text.
    pub think_tags: bool,
    /// Calls carry a signature that has to come back with them (Gemini).
    pub thought_signatures: bool,
}

impl Default for Quirks {
    fn default() -> Self {
        Self {
            max_tokens_field: MaxTokensField::MaxTokens,
            system_role: SystemRole::System,
            content_as_string: true,
            stream_options: true,
            strict_tools: true,
            tool_choice_required: true,
            tool_result_images: false,
            reasoning_field: ReasoningField::ReasoningContent,
            reasoning_replay: ReasoningReplay::None,
            tool_id: ToolId::Any,
            user_max_len: 64,
            user_emails: false,
            prompt_cache_breakpoint: false,
            top_k: false,
            empty_content: false,
            drop_params: Vec::new(),
            think_tags: false,
            thought_signatures: false,
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MaxTokensField {
    MaxTokens,
    MaxCompletionTokens,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SystemRole {
    System,
    Developer,
    /// Folded into the first user message.
    User,
}

/// Where the provider takes replayed reasoning, if it does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReasoningField {
    ReasoningContent,
    Reasoning,
    /// OpenRouter's list: what a Claude thought goes back with its signature, and nothing else does.
    ReasoningDetails,
    None,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReasoningReplay {
    /// Reasoning never goes back.
    None,
    /// It must accompany assistant turns that call tools.
    ToolTurns,
    Always,
}

/// What ids of tool calls must look like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ToolId {
    Any,
    /// `^[a-zA-Z0-9_-]+$`
    Anthropic,
    /// Exactly nine letters and digits.
    Mistral9,
}
