//! Requests, replies and streams of every format, as their vendors write them.

use model_proxy::wire::Format;

use super::http::Reply;

pub const CHAT: &str = "/v1/chat/completions";
pub const MESSAGES: &str = "/v1/messages";
pub const RESPONSES: &str = "/v1/responses";

pub const CHAT_REQUEST: &str = r#"{"model":"m","messages":[{"role":"user","content":"Hello"}]}"#;
pub const CHAT_STREAM_REQUEST: &str = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"Hello"}]}"#;
pub const MESSAGES_REQUEST: &str = r#"{"model":"m","max_tokens":64,"messages":[{"role":"user","content":"Hello"}]}"#;
pub const MESSAGES_STREAM_REQUEST: &str =
    r#"{"model":"m","max_tokens":64,"stream":true,"messages":[{"role":"user","content":"Hello"}]}"#;

pub const RESPONSES_REQUEST: &str = r#"{"model":"m","input":[{"role":"user","content":"Hello"}]}"#;
pub const RESPONSES_STREAM_REQUEST: &str = r#"{"model":"m","stream":true,"input":[{"role":"user","content":"Hello"}]}"#;

pub const CHAT_REPLY: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"upstream-model","choices":[{"index":0,"message":{"role":"assistant","content":"Good day. \u00e9 😀","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13},"system_fingerprint":"fp_1","x_unknown":1.0e2}"#;

pub const MESSAGES_REPLY: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"upstream-model","content":[{"type":"text","text":"Good day. \u00e9 😀"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":9,"output_tokens":4},"x_unknown":1.0e2}"#;

pub const RESPONSES_REPLY: &str = r#"{"id":"resp_1","object":"response","created_at":1700000000,"status":"completed","error":null,"incomplete_details":null,"instructions":null,"model":"upstream-model","output":[{"id":"msg_1","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Good day. \u00e9 😀","annotations":[],"logprobs":[]}]}],"parallel_tool_calls":true,"tool_choice":"auto","tools":[],"usage":{"input_tokens":9,"input_tokens_details":{"cached_tokens":0,"cache_write_tokens":0},"output_tokens":4,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":13},"x_unknown":1.0e2}"#;

pub const CHAT_STREAM: &str = concat!(
    ": a comment\n\n",
    r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"upstream-model","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#,
    "\n\n",
    r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"upstream-model","choices":[{"index":0,"delta":{"content":"Good "},"finish_reason":null}]}"#,
    "\r\n\r\n",
    r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"upstream-model","choices":[{"index":0,"delta":{"content":"day. é 😀"},"finish_reason":null}],"x_unknown":1.0e2}"#,
    "\n\n",
    r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"upstream-model","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
    "\n\n",
    r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"upstream-model","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13}}"#,
    "\n\ndata: [DONE]\n\n",
);

pub const MESSAGES_STREAM: &str = concat!(
    "event: message_start\n",
    r#"data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"upstream-model","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":9,"output_tokens":1}}}"#,
    "\n\nevent: content_block_start\n",
    r#"data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
    "\n\nevent: ping\ndata: {\"type\": \"ping\"}\n\nevent: content_block_delta\n",
    r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Good "}}"#,
    "\n\nevent: content_block_delta\r\n",
    r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"day. é 😀"},"x_unknown":1.0e2}"#,
    "\r\n\r\nevent: content_block_stop\n",
    r#"data: {"type":"content_block_stop","index":0}"#,
    "\n\nevent: message_delta\n",
    r#"data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":4}}"#,
    "\n\nevent: message_stop\n",
    r#"data: {"type":"message_stop"}"#,
    "\n\n",
);

pub const RESPONSES_STREAM: &str = concat!(
    "event: response.created\n",
    r#"data: {"type":"response.created","sequence_number":0,"response":{"id":"resp_1","object":"response","created_at":1700000000,"status":"in_progress","error":null,"incomplete_details":null,"model":"upstream-model","output":[],"parallel_tool_calls":true,"tool_choice":"auto","tools":[],"usage":null}}"#,
    "\n\nevent: response.output_item.added\n",
    r#"data: {"type":"response.output_item.added","sequence_number":1,"output_index":0,"item":{"id":"msg_1","type":"message","status":"in_progress","role":"assistant","content":[]}}"#,
    "\n\nevent: response.content_part.added\n",
    r#"data: {"type":"response.content_part.added","sequence_number":2,"item_id":"msg_1","output_index":0,"content_index":0,"part":{"type":"output_text","text":"","annotations":[],"logprobs":[]}}"#,
    "\n\nevent: response.output_text.delta\n",
    r#"data: {"type":"response.output_text.delta","sequence_number":3,"item_id":"msg_1","output_index":0,"content_index":0,"delta":"Good ","logprobs":[]}"#,
    "\n\nevent: response.output_text.delta\r\n",
    r#"data: {"type":"response.output_text.delta","sequence_number":4,"item_id":"msg_1","output_index":0,"content_index":0,"delta":"day. é 😀","logprobs":[],"x_unknown":1.0e2}"#,
    "\r\n\r\nevent: response.output_text.done\n",
    r#"data: {"type":"response.output_text.done","sequence_number":5,"item_id":"msg_1","output_index":0,"content_index":0,"text":"Good day. é 😀","logprobs":[]}"#,
    "\n\nevent: response.content_part.done\n",
    r#"data: {"type":"response.content_part.done","sequence_number":6,"item_id":"msg_1","output_index":0,"content_index":0,"part":{"type":"output_text","text":"Good day. é 😀","annotations":[],"logprobs":[]}}"#,
    "\n\nevent: response.output_item.done\n",
    r#"data: {"type":"response.output_item.done","sequence_number":7,"output_index":0,"item":{"id":"msg_1","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Good day. é 😀","annotations":[],"logprobs":[]}]}}"#,
    "\n\nevent: response.completed\n",
    r#"data: {"type":"response.completed","sequence_number":8,"response":{"id":"resp_1","object":"response","created_at":1700000000,"status":"completed","error":null,"incomplete_details":null,"model":"upstream-model","output":[{"id":"msg_1","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Good day. é 😀","annotations":[],"logprobs":[]}]}],"parallel_tool_calls":true,"tool_choice":"auto","tools":[],"usage":{"input_tokens":9,"input_tokens_details":{"cached_tokens":0,"cache_write_tokens":0},"output_tokens":4,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":13}}}"#,
    "\n\n",
);

const OPENAI_ERROR: &str = r#"{"error":{"message":"WORDS","type":"TYPE","param":null,"code":null}}"#;
const MESSAGES_ERROR: &str = r#"{"type":"error","error":{"type":"TYPE","message":"WORDS"},"request_id":"req_1"}"#;

/// One format with all its samples, for tests that hold for every format.
#[derive(Clone, Copy, Debug)]
pub struct Side {
    pub format: Format,
    pub path: &'static str,
    pub request: &'static str,
    pub stream_request: &'static str,
    pub reply: &'static str,
    pub stream: &'static str,
}

pub const SIDES: [Side; 3] = [
    Side {
        format: Format::OpenaiChat,
        path: CHAT,
        request: CHAT_REQUEST,
        stream_request: CHAT_STREAM_REQUEST,
        reply: CHAT_REPLY,
        stream: CHAT_STREAM,
    },
    Side {
        format: Format::Anthropic,
        path: MESSAGES,
        request: MESSAGES_REQUEST,
        stream_request: MESSAGES_STREAM_REQUEST,
        reply: MESSAGES_REPLY,
        stream: MESSAGES_STREAM,
    },
    Side {
        format: Format::OpenaiResponses,
        path: RESPONSES,
        request: RESPONSES_REQUEST,
        stream_request: RESPONSES_STREAM_REQUEST,
        reply: RESPONSES_REPLY,
        stream: RESPONSES_STREAM,
    },
];

impl Side {
    /// Another one.
    pub fn other(&self) -> Self {
        match self.format {
            Format::Anthropic => SIDES[0],
            Format::OpenaiChat | Format::OpenaiResponses => SIDES[1],
        }
    }

    pub fn error(&self, kind: &str, message: &str) -> String {
        let form = match self.format {
            Format::OpenaiChat | Format::OpenaiResponses => OPENAI_ERROR,
            Format::Anthropic => MESSAGES_ERROR,
        };
        form.replace("TYPE", kind).replace("WORDS", message)
    }

    /// The message of an error body of this format, its form checked.
    #[track_caller]
    pub fn error_message(&self, reply: &Reply) -> String {
        let body = reply.json();
        if self.format == Format::Anthropic {
            assert_eq!(body["type"], "error", "{body}");
        }
        let error = &body["error"];
        assert!(error["type"].is_string(), "an error has a type: {body}");
        error["message"].as_str().unwrap_or_else(|| panic!("an error has a message: {body}")).to_owned()
    }

    /// Whether a stream of this format says that it came to its end.
    pub fn has_ended_well(&self, stream: &str) -> bool {
        match self.format {
            Format::OpenaiChat => stream.contains("[DONE]"),
            Format::OpenaiResponses => stream.contains("response.completed"),
            Format::Anthropic => stream.contains("message_stop"),
        }
    }

    /// An error as an event of a stream.
    pub fn error_event(&self, kind: &str, message: &str) -> String {
        match self.format {
            Format::OpenaiChat => format!("data: {}\n\n", self.error(kind, message)),
            Format::OpenaiResponses => {
                let error = self.error(kind, message).replacen('{', r#"{"type":"error","sequence_number":9,"#, 1);
                format!("event: error\ndata: {error}\n\n")
            }
            Format::Anthropic => format!("event: error\ndata: {}\n\n", self.error(kind, message)),
        }
    }
}
