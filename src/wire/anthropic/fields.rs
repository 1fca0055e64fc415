//! The fate of every field: of the official types, of their betas, and of what older versions and other clouds put into
//! the body. See [`Fields`].

use crate::wire::Format;
use crate::wire::loss::{Field, Fields, Towards};

pub(super) static ALL: Fields = Fields {
    request: REQUEST,
    inside: INSIDE,
    reply: REPLY,
    stream: STREAM,
    towards: &[Towards {
        to: Format::OpenaiResponses,
        request: TO_RESPONSES,
        reply: REPLY_TO_RESPONSES,
        stream: STREAM_TO_RESPONSES,
    }],
};

/// What is another fate on the way to OpenAI's Responses.
const TO_RESPONSES: &[Field] = &[
    Field::drop("stop_sequences", "this format takes no stop sequences"),
    Field::drop("top_k", "this format does not have it"),
    Field::drop("system[].cache_control", MARK),
    Field::carry("messages[].content[image].cache_control"),
    Field::carry("messages[].content[image].cache_control.type|ttl"),
    Field::carry("messages[].content[tool_result].content[image].cache_control"),
    Field::carry("messages[].content[tool_result].content[image].cache_control.type|ttl"),
    Field::drop("messages[].content[thinking]", "thinking that this vendor did not seal is not taken back"),
    Field::carry("**.content[document].source(url).type|url"),
    Field::drop("**.content[document].context", "what a document is about has no place here"),
];

const REPLY_TO_RESPONSES: &[Field] =
    &[Field::drop("content[text].citations", "a citation here holds the words it cites, under a seal")];

const STREAM_TO_RESPONSES: &[Field] = &[
    Field::drop(
        "content_block_start.content_block(text).citations",
        "a citation here holds the words it cites, under a seal",
    ),
    Field::drop("content_block_delta.delta(citations_delta)", "a citation here holds the words it cites, under a seal"),
];

/// The field that asks for a conversation kept by the server. The gateway knows its refusal by this place and adds
/// the details that make an SDK go on without (CLIENTS.md, fact 5).
pub(super) const THREAD: &str = "thread";

/// The top level of the Messages request, of its betas, and the two that Bedrock and Vertex put into the body.
pub(super) const REQUEST: &[Field] = &[
    Field::carry("model"),
    Field::carry("messages"),
    Field::carry("max_tokens"),
    Field::carry("metadata"),
    Field::carry("output_config"),
    Field::carry("output_format"),
    Field::carry("service_tier"),
    Field::carry("stop_sequences"),
    Field::carry("stream"),
    Field::carry("system"),
    Field::carry("temperature"),
    Field::carry("thinking"),
    Field::carry("tool_choice"),
    Field::carry("tools"),
    Field::carry("top_k"),
    Field::carry("top_p"),
    Field::drop("anthropic_beta", "betas belong to Anthropic's own endpoints"),
    Field::drop("anthropic_version", "the version belongs to Anthropic's own endpoints"),
    Field::drop("betas", "betas belong to Anthropic's own endpoints"),
    Field::drop("billing_policy", "billing belongs to the Anthropic account"),
    Field::drop("cache_control", "other providers cache prompts by themselves"),
    Field::drop("compaction", "the conversation is not compacted by other providers"),
    Field::drop("container", "containers live on Anthropic's servers"),
    Field::drop("context_management", "the context is not edited by other providers"),
    Field::drop("diagnostics", "diagnostics are Anthropic's own"),
    Field::drop("fallback_credit_token", "billing belongs to the Anthropic account"),
    Field::drop("fallbacks", "falling back to other models is the proxy's business"),
    Field::drop("inference_geo", "the region is chosen by the route"),
    Field::drop("mcp_servers", "no other format calls MCP servers for the client"),
    Field::drop("speed", "the speed tier is Anthropic's own"),
    Field::drop("task_budget", "no other format has a budget for a whole task"),
    Field::refuse(THREAD, "this route does not support message threads: send the whole conversation without `thread`"),
    Field::drop("user_profile_id", "user profiles live on Anthropic's servers"),
    Field::drop("workspace_id", "workspaces belong to the Anthropic account"),
];

const INSIDE: &[Field] = &[
    Field::carry("metadata.user_id"),
    Field::carry("output_config.effort|format"),
    Field::carry("output_config.format.type|schema"),
    Field::carry("output_format.type|schema"),
    Field::drop("output_config.task_budget", "no other format has a budget for a whole task"),
    Field::drop("thinking(between_tools)", "thinking only between tools is off elsewhere"),
    Field::drop("thinking(*).display=\"updates\"", "no other format tells thinking as updates"),
    Field::carry("thinking(*).type|budget_tokens|display"),
    Field::drop("thinking(*).block_binding", "thinking is bound to a conversation by Anthropic only"),
    Field::carry("tool_choice(*).type|name|disable_parallel_tool_use"),
    Field::carry("tools[custom].type|name|description|input_schema|strict"),
    Field::carry("tools[custom].input_schema.type|properties|required"),
    Field::drop("tools[custom].cache_control", MARK),
    Field::drop("tools[custom].defer_loading", "no other format loads tools later"),
    Field::drop("tools[custom].allowed_callers", "elsewhere only the model calls tools"),
    Field::drop("tools[custom].input_examples", "no other format takes examples of a tool's input"),
    Field::drop("tools[custom].eager_input_streaming", "no other format chooses how arguments are streamed"),
    Field::refuse("tools[*]", "cannot be offered to this model"),
    Field::carry("system[].type|text|cache_control"),
    Field::carry("messages[].role|content|clear_at"),
    Field::drop("messages[].output_config", "no other format sets the effort of one message"),
    // Content that only Anthropic has.
    Field::refuse("messages[].content[*_tool_result]", FOREIGN),
    Field::refuse("messages[].content[server_tool_use]", FOREIGN),
    Field::refuse("messages[].content[mcp_*]", FOREIGN),
    Field::refuse("messages[].content[container_upload]", FOREIGN),
    Field::refuse("messages[].content[compaction]", FOREIGN),
    Field::refuse("messages[].content[fallback]", FOREIGN),
    Field::refuse("messages[].content[tool_addition]", FOREIGN),
    Field::refuse("messages[].content[tool_removal]", FOREIGN),
    Field::refuse("messages[].content[tool_result].content[tool_reference]", FOREIGN),
    Field::refuse("messages[].content[tool_result].content[browser_state]", FOREIGN),
    Field::refuse("**.content[document].source(content).content[image]", FOREIGN),
    // Content that both have, wherever it stands.
    Field::drop("**.citations.enabled", CITATIONS),
    Field::drop("**.citations", CITATIONS),
    Field::carry("**.content[search_result].title|source|content|cache_control"),
    Field::carry("**.content[search_result].cache_control.type|ttl"),
    Field::carry("**.content[search_result].content[].text"),
    Field::drop("**.content[search_result]", "a search result becomes a plain document"),
    Field::drop("**.source(content).content[text].cache_control", PLAIN),
    Field::drop("**.source(content).content[text].type", PLAIN),
    Field::drop("**.cache_control.scope", "cache scopes are Anthropic's own"),
    Field::carry("system[].cache_control.type|ttl"),
    Field::carry("**.content[text].type|text|cache_control"),
    Field::carry("**.content[text].cache_control.type|ttl"),
    Field::carry("**.content[image].type|source"),
    Field::drop("**.content[image].cache_control", MARK),
    Field::drop("**.content[image].transformations", "no other format transforms images"),
    Field::carry("**.content[document].type|source|title|context|cache_control"),
    Field::carry("**.content[document].cache_control.type|ttl"),
    Field::carry("**.source(base64).type|media_type|data"),
    Field::carry("**.content[image].source(url).type|url"),
    Field::refuse("**.content[document].source(url)", "this model takes no documents by URL"),
    Field::refuse("**.source(file)", "a file kept by another vendor cannot be read here"),
    Field::carry("**.source(text).data"),
    Field::drop("**.source(text)", PLAIN),
    Field::carry("**.source(content).content"),
    Field::drop("**.source(content).type", PLAIN),
    Field::drop("messages[].content[thinking]", "thinking that another vendor sealed stays with that vendor"),
    Field::drop("messages[].content[redacted_thinking]", "redacted thinking means nothing to another vendor"),
    Field::carry("messages[].content[tool_use].type|id|name|input"),
    Field::carry("messages[].content[tool_use].caller(direct).type"),
    Field::drop("messages[].content[tool_use].caller", "elsewhere only the model calls tools"),
    Field::carry("messages[].content[tool_result].type|tool_use_id|content"),
    Field::drop(
        "messages[].content[tool_result].is_error",
        "the format cannot mark an answer as an error: its words have to say it",
    ),
    Field::drop("messages[].content[*].toolset_name", "no other format has toolsets"),
    Field::carry("messages[].content[tool_result].cache_control"),
    Field::carry("messages[].content[tool_result].cache_control.type|ttl"),
    Field::drop("messages[].content[tool_use].cache_control", MARK),
];

const REPLY: &[Field] = &[
    Field::carry("id|type|role|content|stop_reason|usage"),
    Field::drop("model", NAMED),
    Field::carry("content[text].type|text|citations"),
    Field::carry("content[text].citations[web_search_result_location].type|url|title"),
    Field::drop("content[text].citations[web_search_result_location]", SEALED),
    Field::drop("content[text].citations[*]", DOCUMENTS),
    Field::carry("content[thinking].type|thinking|signature"),
    Field::carry("content[redacted_thinking].type|data"),
    Field::carry("content[tool_use].type|id|name|input"),
    Field::drop("content[tool_use].caller", DIRECT),
    Field::drop("content[tool_use].toolset_name", DIRECT),
    Field::drop("content[*]", SERVER),
    Field::drop("stop_sequence", SEQUENCE),
    Field::carry("stop_details"),
    Field::carry("stop_details.explanation"),
    Field::drop("stop_details", REFUSAL),
    Field::carry("usage.input_tokens|output_tokens|cache_creation_input_tokens|cache_read_input_tokens"),
    Field::carry("usage.cache_creation|output_tokens_details"),
    Field::carry("usage.cache_creation.ephemeral_5m_input_tokens|ephemeral_1h_input_tokens"),
    Field::carry("usage.output_tokens_details.thinking_tokens"),
    Field::drop("usage", COUNTS),
    Field::drop("container", "containers live on Anthropic's servers"),
    Field::drop("context_management", "never asked for: asking is dropped"),
    Field::drop("diagnostics", "never asked for: asking is dropped"),
    Field::drop("input_transformations", "what Anthropic did to the request is Anthropic's own"),
];

const STREAM: &[Field] = &[
    Field::carry("message_start.type|message"),
    Field::carry("message_start.message.id|type|role|content|usage"),
    Field::drop("message_start.message.model", NAMED),
    Field::drop("message_start.message.stop_reason|stop_sequence|stop_details", "the end tells why it ended"),
    Field::carry("message_start.message.usage.input_tokens|output_tokens"),
    Field::carry("message_start.message.usage.cache_creation_input_tokens|cache_read_input_tokens"),
    Field::carry("message_start.message.usage.cache_creation|output_tokens_details"),
    Field::carry("message_start.message.usage.cache_creation.ephemeral_5m_input_tokens|ephemeral_1h_input_tokens"),
    Field::carry("message_start.message.usage.output_tokens_details.thinking_tokens"),
    Field::drop("message_start.message.usage", COUNTS),
    Field::drop("message_start.message.container", "containers live on Anthropic's servers"),
    Field::drop("message_start.message.context_management|diagnostics", "never asked for: asking is dropped"),
    Field::drop("message_start.message.input_transformations", "what Anthropic did to the request is Anthropic's own"),
    Field::carry("content_block_start.type|index|content_block"),
    Field::carry("content_block_start.content_block(text).type|text|citations"),
    Field::carry("content_block_start.content_block(text).citations[web_search_result_location].type|url|title"),
    Field::drop("content_block_start.content_block(text).citations[web_search_result_location]", SEALED),
    Field::drop("content_block_start.content_block(text).citations[*]", DOCUMENTS),
    Field::carry("content_block_start.content_block(thinking).type|thinking|signature"),
    Field::carry("content_block_start.content_block(redacted_thinking).type|data"),
    Field::carry("content_block_start.content_block(tool_use).type|id|name|input"),
    Field::drop("content_block_start.content_block(tool_use).caller", DIRECT),
    Field::drop("content_block_start.content_block(tool_use).toolset_name", DIRECT),
    Field::drop("content_block_start.content_block(*)", SERVER),
    Field::carry("content_block_delta.type|index|delta"),
    Field::carry("content_block_delta.delta(text_delta).type|text"),
    Field::carry("content_block_delta.delta(thinking_delta).type|thinking"),
    Field::drop("content_block_delta.delta(thinking_delta).estimated_tokens", "an estimate; the count follows"),
    Field::carry("content_block_delta.delta(signature_delta).type|signature"),
    Field::carry("content_block_delta.delta(input_json_delta).type|partial_json"),
    Field::carry("content_block_delta.delta(citations_delta).type|citation"),
    Field::carry("content_block_delta.delta(citations_delta).citation(web_search_result_location).type|url|title"),
    Field::drop("content_block_delta.delta(citations_delta).citation(web_search_result_location)", SEALED),
    Field::drop("content_block_delta.delta(citations_delta).citation(*)", DOCUMENTS),
    Field::drop("content_block_delta.delta(compaction_delta)", SERVER),
    Field::carry("content_block_stop.type|index"),
    Field::carry("message_delta.type|delta|usage"),
    Field::carry("message_delta.delta.stop_reason|stop_details"),
    Field::drop("message_delta.delta.stop_sequence", SEQUENCE),
    Field::carry("message_delta.delta.stop_details.explanation"),
    Field::drop("message_delta.delta.stop_details", REFUSAL),
    Field::drop("message_delta.delta.container", "containers live on Anthropic's servers"),
    Field::carry("message_delta.usage.input_tokens|output_tokens|output_tokens_details"),
    Field::carry("message_delta.usage.cache_creation_input_tokens|cache_read_input_tokens"),
    Field::carry("message_delta.usage.output_tokens_details.thinking_tokens"),
    Field::drop("message_delta.usage", COUNTS),
    Field::drop("message_delta.context_management", "never asked for: asking is dropped"),
    Field::drop("message_delta.input_transformations", "what Anthropic did to the request is Anthropic's own"),
    Field::carry("message_stop.type"),
    Field::drop("ping", "keeps the connection alive: the client's format has its own way"),
    Field::carry("error.type|error"),
    Field::carry("error.error.type|message"),
];

const MARK: &str = "this provider takes no cache breakpoint there";
const PLAIN: &str = "a document of text becomes plain text";
const FOREIGN: &str = "has no counterpart on this route";
pub(super) const CITATIONS: &str = "citations have no place in other formats";
const NAMED: &str = "the client is told the name it asked for";
const SEALED: &str = "where a citation stands in the text tells what it cites";
const DOCUMENTS: &str = "elsewhere only pages of the web are cited";
const DIRECT: &str = "never set: elsewhere only the model calls tools, and there are no toolsets";
const SERVER: &str = "what the vendor's servers did is done; a client would do it again";
const SEQUENCE: &str = "the format does not tell which sequence stopped the answer";
const REFUSAL: &str = "of a refusal the format has only the words";
const COUNTS: &str = "counts that only Anthropic makes";
