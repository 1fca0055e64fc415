#![expect(clippy::disallowed_types, reason = "what is told is looked at in every part")]
//! The format beside the others: requests, replies and streams both ways.

use bytes::Bytes;

use crate::wire::caps::{Capabilities, Quirks};
use crate::wire::loss::{Losses, Refusal};
use crate::wire::prompt::Effort;
use crate::wire::{Format, Memory, Sealed, Target, translate};

use Format::{Anthropic, OpenaiChat, OpenaiResponses};

fn request(formats: (Format, Format), body: &str) -> Result<(String, Memory, Vec<String>), Refusal> {
    let capabilities = Capabilities { effort: Effort::ALL.to_vec(), inline_system: true, ..Capabilities::default() };
    let quirks = Quirks::default();
    let target = Target { model: "up", capabilities: &capabilities, quirks: &quirks };
    let mut losses = Losses::default();
    let (out, memory) = translate::request(formats, body, None, &target, &mut losses)?;
    Ok((String::from_utf8(out).unwrap(), memory, losses.lines(body)))
}

#[track_caller]
fn check(formats: (Format, Format), body: &str, expect: &str, lost: &[&str]) {
    let (got, _, losses) = request(formats, body).unwrap_or_else(|refusal| panic!("{body}: {refusal}"));
    assert_eq!(
        (got.as_str(), losses.iter().map(String::as_str).collect::<Vec<_>>()),
        (expect, lost.to_vec()),
        "{body}"
    );
}

/// As Codex asks, in its second turn.
const CODEX: &str = r#"{"model":"m","stream":true,"input":[
    {"type":"message","id":"msg_1","role":"developer","content":[{"type":"input_text","text":"You are an agent."}]},
    {"type":"message","id":"msg_2","role":"user","content":[{"type":"input_text","text":"go"}]},
    {"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"Hm."}],"content":null,"encrypted_content":"gAAA=="},
    {"type":"message","status":"completed","id":"msg_3","role":"assistant","content":[{"type":"output_text","text":"Calling.","annotations":[],"logprobs":[]}]},
    {"type":"function_call","status":"completed","id":"fc_1","name":"exec","arguments":"{\"cmd\":\"ls\"}","call_id":"call_1"},
    {"type":"function_call","id":"fc_2","namespace":"agents","name":"close","arguments":"{}","call_id":"call_2"},
    {"type":"custom_tool_call","id":"ctc_1","name":"patch","input":"*** \"x\"","call_id":"call_3"},
    {"type":"function_call_output","call_id":"call_1","output":"a\nb"},
    {"type":"function_call_output","call_id":"call_2","output":[{"type":"input_text","text":"closed"}]},
    {"type":"custom_tool_call_output","call_id":"call_3","output":"done"}],
    "tools":[{"type":"function","name":"exec","description":"runs","strict":false,"parameters":{"type":"object","properties":{"cmd":{"type":"string"}}}},
    {"type":"namespace","name":"agents","description":"d","tools":[{"type":"function","name":"close","strict":false,"parameters":{"type":"object","properties":{}}}]},
    {"type":"custom","name":"patch","description":"edits","format":{"type":"grammar","syntax":"lark","definition":"start: x"}},
    {"type":"web_search","external_web_access":true}],
    "tool_choice":"auto","parallel_tool_calls":true,"reasoning":{"summary":"auto"},"store":false,
    "include":["reasoning.encrypted_content"],"prompt_cache_key":"k","client_metadata":{}}"#;

const LOST: [&str; 3] = [
    "tools[1]: no other format groups tools: each goes on under the group's name and its own",
    "tools[2].format: told in words: no other format holds a text to a grammar",
    "tools[3]: the search runs at the vendor, and this route is another",
];

#[test]
fn codex_is_understood_by_a_chat_model() {
    let expect = concat!(
        r#"{"model":"up","messages":[{"role":"system","content":"You are an agent."},{"role":"user","content":"go"},"#,
        r#"{"role":"assistant","content":"Calling.","tool_calls":[{"id":"call_1","type":"function","function":{"name":"exec","arguments":"{\"cmd\":\"ls\"}"}},"#,
        r#"{"id":"call_2","type":"function","function":{"name":"agents__close","arguments":"{}"}},"#,
        r#"{"id":"call_3","type":"function","function":{"name":"patch","arguments":"{\"input\":\"*** \\\"x\\\"\"}"}}]},"#,
        r#"{"role":"tool","tool_call_id":"call_1","content":"a\nb"},{"role":"tool","tool_call_id":"call_2","content":"closed"},"#,
        r#"{"role":"tool","tool_call_id":"call_3","content":"done"}],"#,
        r#""tools":[{"type":"function","function":{"name":"exec","description":"runs","parameters":{"type":"object","properties":{"cmd":{"type":"string"}}}}},"#,
        r#"{"type":"function","function":{"name":"agents__close","parameters":{"type":"object","properties":{}}}},"#,
        r#"{"type":"function","function":{"name":"patch","description":"edits\n\nThe input must follow this lark grammar:\nstart: x","parameters":"#,
        r#"{"type":"object","properties":{"input":{"type":"string"}},"required":["input"],"additionalProperties":false}}}],"#,
        r#""tool_choice":"auto","stream":true,"stream_options":{"include_usage":true}}"#
    );
    let lost = [LOST[0], LOST[1], "input[2]: this provider takes no thinking back here", LOST[2]];
    check((OpenaiResponses, OpenaiChat), CODEX, expect, &lost);
}

#[test]
fn codex_is_understood_by_claude() {
    let (got, memory, _) = request((OpenaiResponses, Anthropic), CODEX).unwrap();
    assert!(
        got.contains(r#""system":[{"type":"text","text":"You are an agent."}]"#)
            || got.contains(r#""system":"You are an agent.""#),
        "{got}"
    );
    assert!(got.contains(r#"{"type":"tool_use","id":"call_1","name":"exec","input":{"cmd":"ls"}}"#), "{got}");
    assert!(got.contains(r#"{"type":"tool_use","id":"call_3","name":"patch","input":{"input":"*** \"x\""}}"#), "{got}");
    assert!(!got.contains("gAAA"), "what OpenAI sealed stays with OpenAI: {got}");
    assert_eq!(memory.groups, [("agents__close".to_owned(), "agents".to_owned(), "close".to_owned())]);
    assert_eq!(memory.texts, ["patch"]);
    let echo = memory.echo.unwrap();
    assert!(
        echo.starts_with(r#","tools":[{"type":"function","name":"exec""#)
            && echo.contains(r#","parallel_tool_calls":true"#),
        "{echo}"
    );
}

#[test]
fn what_is_kept_elsewhere_is_refused_with_its_remedy() {
    let with = |more: &str| format!(r#"{{"model":"m","input":"hi",{more}}}"#);
    for (body, path, says) in [
        (with(r#""previous_response_id":"resp_1""#), "previous_response_id", "send them in `input`"),
        (with(r#""conversation":"conv_1""#), "conversation", "send them in `input`"),
        (with(r#""store":true"#), "store", "`store` false"),
        (with(r#""background":true"#), "background", "stream"),
        (with(r#""prompt":{"id":"p"}"#), "prompt", "send its text"),
        (r#"{"model":"m","input":[{"id":"msg_1"}]}"#.to_owned(), "input[0]", "send it whole"),
        (r#"{"model":"m","input":[{"type":"item_reference","id":"msg_1"}]}"#.to_owned(), "input[0]", "send it whole"),
        (
            r#"{"model":"m","input":[{"type":"function_call_output","call_id":"c","output":"x"}]}"#.to_owned(),
            "input[0]",
            "call",
        ),
        (with(r#""tools":[{"type":"file_search","vector_store_ids":[]}]"#), "tools[0]", "file_search"),
        (
            with(r#""tool_choice":{"type":"web_search"},"tools":[{"type":"web_search"}]"#),
            "tool_choice",
            "cannot be carried",
        ),
        (with(r#""tool_choice":"required""#), "tool_choice", "no tool is there"),
        (with(r#""input":"twice""#), "input", "twice"),
        (r#"{"model":"m"}"#.to_owned(), "input", "missing"),
    ] {
        for to in [OpenaiChat, Anthropic] {
            let refusal = request((OpenaiResponses, to), &body).expect_err(&body);
            assert_eq!(refusal.place.path(&body), path, "{body}: {refusal}");
            assert!(refusal.message.contains(says), "{body}: {refusal}");
        }
    }
    for idle in
        [r#""store":false"#, r#""background":false"#, r#""truncation":"disabled""#, r#""text":{"verbosity":"medium"}"#]
    {
        assert_eq!(request((OpenaiResponses, OpenaiChat), &with(idle)).unwrap().2, [""; 0], "{idle}");
    }
}

/// As Claude Code asks, with a seal that a Responses upstream has made.
const CLAUDE: &str = r#"{"model":"m","max_tokens":100,"stream":true,"system":[{"type":"text","text":"Be brief.","cache_control":{"type":"ephemeral"}}],
    "thinking":{"type":"enabled","budget_tokens":4096},
    "messages":[{"role":"user","content":"go"},
    {"role":"assistant","content":[{"type":"thinking","thinking":"Hm.","signature":"mp1.r.rs_1.gAAA=="},{"type":"thinking","thinking":"x","signature":"EqQB"},
    {"type":"text","text":"Calling."},{"type":"tool_use","id":"toolu_1","name":"exec","input":{"cmd":"ls"}}]},
    {"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_1","content":[{"type":"text","text":"a"},
    {"type":"image","source":{"type":"base64","media_type":"image/png","data":"iVBORw0KGgo="}}]},{"type":"text","text":"and?"}]}],
    "tools":[{"name":"exec","input_schema":{"type":"object"}}],"tool_choice":{"type":"any","disable_parallel_tool_use":true},
    "stop_sequences":["END"],"top_k":5,"metadata":{"user_id":"u"}}"#;

#[test]
fn claude_code_is_understood_by_a_responses_model() {
    let expect = concat!(
        r#"{"model":"up","instructions":"Be brief.","input":[{"role":"user","content":[{"type":"input_text","text":"go"}]},"#,
        r#"{"type":"reasoning","summary":[{"type":"summary_text","text":"Hm."}],"encrypted_content":"gAAA=="},"#,
        r#"{"role":"assistant","content":[{"type":"output_text","text":"Calling."}]},"#,
        r#"{"type":"function_call","call_id":"toolu_1","name":"exec","arguments":"{\"cmd\":\"ls\"}"},"#,
        r#"{"type":"function_call_output","call_id":"toolu_1","output":[{"type":"input_text","text":"a"},"#,
        r#"{"type":"input_image","image_url":"data:image/png;base64,iVBORw0KGgo="}]},"#,
        r#"{"role":"user","content":[{"type":"input_text","text":"and?"}]}],"#,
        r#""tools":[{"type":"function","name":"exec","parameters":{"type":"object","properties":{}},"strict":false}],"#,
        r#""parallel_tool_calls":false,"tool_choice":"required","max_output_tokens":100,"#,
        r#""reasoning":{"effort":"medium","summary":"auto"},"safety_identifier":"u","store":false,"#,
        r#""include":["reasoning.encrypted_content"],"stream":true}"#
    );
    let lost = [
        "system[0]: this provider takes no cache breakpoint there",
        "messages[1].content[1]: thinking that this vendor did not seal is not taken back",
        "stop_sequences: this format takes no stop sequences",
        "top_k: this format does not have it",
        "thinking.budget_tokens: sent as the nearest level of effort this model takes",
    ];
    check((Anthropic, OpenaiResponses), CLAUDE, expect, &lost);
}

/// A whole response with all that is understood.
const REPLY: &str = r#"{"id":"resp_1","object":"response","created_at":1,"status":"completed","model":"up","error":null,"output":[
    {"id":"rs_1","type":"reasoning","summary":[{"type":"summary_text","text":"Hm."},{"type":"summary_text","text":"So."}],"encrypted_content":"gAAA=="},
    {"id":"ws_1","type":"web_search_call","status":"completed","action":{"type":"search","query":"q"}},
    {"id":"msg_1","type":"message","role":"assistant","status":"completed","content":[{"type":"output_text","text":"One \"two\".","annotations":[],"logprobs":[]}]},
    {"id":"fc_1","type":"function_call","status":"completed","call_id":"call_1","name":"exec","arguments":"{\"cmd\":\"ls\"}"}],
    "parallel_tool_calls":true,"tool_choice":"auto","tools":[],
    "usage":{"input_tokens":20,"input_tokens_details":{"cached_tokens":8},"output_tokens":5,"output_tokens_details":{"reasoning_tokens":3},"total_tokens":25}}"#;

#[test]
fn a_response_is_told_to_both() {
    let memory = Memory { model: "mine".to_owned(), ..Memory::default() };
    let told = |to| String::from_utf8(translate::reply(OpenaiResponses, to, REPLY, &memory).unwrap().0).unwrap();
    let anthropic = told(Anthropic);
    assert!(anthropic.contains(r#""content":[{"type":"thinking","thinking":"Hm.\n\nSo.","signature":"mp1.r.rs_1.gAAA=="},{"type":"text","text":"One \"two\"."},{"type":"tool_use","id":"call_1","name":"exec","input":{"cmd":"ls"}}],"stop_reason":"tool_use""#), "{anthropic}");
    assert!(
        anthropic.contains(r#""input_tokens":12"#) && anthropic.contains(r#""cache_read_input_tokens":8"#),
        "{anthropic}"
    );
    let chat = told(OpenaiChat);
    assert!(
        chat.contains(r#""content":"One \"two\".","refusal":null,"reasoning_content":"Hm.\n\nSo.""#)
            && chat.contains(r#""finish_reason":"tool_calls""#),
        "{chat}"
    );
    assert!(chat.contains(r#""prompt_tokens":20"#), "{chat}");
}

#[test]
fn ends_and_errors_are_what_they_are() {
    let of = |body: &str| {
        let read = translate::reply(OpenaiResponses, Anthropic, body, &Memory::default());
        read.map(|(text, _)| String::from_utf8(text).unwrap()).map_err(|fault| (fault.status, fault.message))
    };
    let ended = |more: &str| of(&REPLY.replace(r#""status":"completed","model""#, &format!("{more},\"model\"")));
    let cut = ended(r#""status":"incomplete","incomplete_details":{"reason":"max_output_tokens"}"#).unwrap();
    assert!(cut.contains(r#""stop_reason":"max_tokens""#), "{cut}");
    let filtered = ended(r#""status":"incomplete","incomplete_details":{"reason":"content_filter"}"#).unwrap();
    assert!(filtered.contains(r#""stop_reason":"refusal""#), "{filtered}");
    let failed = REPLY.replace(
        r#""status":"completed","model":"up","error":null"#,
        r#""status":"failed","error":{"code":"rate_limit_exceeded","message":"slow down"}"#,
    );
    assert_eq!(of(&failed), Err((429, "slow down".to_owned())));
    assert_eq!(ended(r#""status":"queued""#).unwrap_err().0, 502);
    for nonsense in ["", "{}", "[]", r#"{"output":7}"#, r#"{"output":[7]}"#, r#"{"status":"completed","output":[{}"#] {
        assert_eq!(of(nonsense).map_err(|(status, _)| status), Err(502), "{nonsense}");
    }
}

fn frames(events: &[&str]) -> Bytes {
    let frame = |event: &&str| {
        let kind = event.split('"').nth(3).unwrap();
        format!("event: {kind}\ndata: {event}\n\n")
    };
    events.iter().map(frame).collect::<String>().into()
}

/// The same as it is streamed, two calls side by side.
const STREAM: [&str; 20] = [
    r#"{"type":"response.created","sequence_number":0,"response":{"id":"resp_1","model":"up","status":"in_progress","output":[]}}"#,
    r#"{"type":"response.output_item.added","output_index":0,"item":{"id":"rs_0","type":"reasoning","summary":[]}}"#,
    r#"{"type":"response.reasoning_summary_text.delta","output_index":0,"summary_index":0,"delta":"Hm."}"#,
    r#"{"type":"response.reasoning_summary_text.delta","output_index":0,"summary_index":1,"delta":"So."}"#,
    r#"{"type":"response.output_item.done","output_index":0,"item":{"id":"rs_1","type":"reasoning","summary":[{"type":"summary_text","text":"Hm."},{"type":"summary_text","text":"So."}],"encrypted_content":"gAAA=="}}"#,
    r#"{"type":"response.output_item.added","output_index":1,"item":{"id":"msg_1","type":"message","content":[]}}"#,
    r#"{"type":"response.content_part.added","output_index":1,"content_index":0,"part":{"type":"output_text","text":""}}"#,
    r#"{"type":"response.output_text.delta","output_index":1,"content_index":0,"delta":"One"}"#,
    r#"{"type":"response.output_text.delta","output_index":1,"content_index":0,"delta":" two."}"#,
    r#"{"type":"response.output_item.done","output_index":1,"item":{"id":"msg_1","type":"message","content":[{"type":"output_text","text":"One two."}]}}"#,
    r#"{"type":"keepalive","sequence_number":9}"#,
    r#"{"type":"response.output_item.added","output_index":2,"item":{"id":"fc_1","type":"function_call","call_id":"call_1","name":"exec","arguments":""}}"#,
    r#"{"type":"response.output_item.added","output_index":3,"item":{"id":"fc_2","type":"function_call","call_id":"call_2","name":"look","arguments":""}}"#,
    r#"{"type":"response.function_call_arguments.delta","output_index":2,"delta":"{\"cmd\":"}"#,
    r#"{"type":"response.function_call_arguments.delta","output_index":3,"delta":"{}"}"#,
    r#"{"type":"response.output_item.done","output_index":3,"item":{"id":"fc_2","type":"function_call","call_id":"call_2","name":"look","arguments":"{}"}}"#,
    r#"{"type":"response.function_call_arguments.delta","output_index":2,"delta":"\"ls\"}"}"#,
    r#"{"type":"response.function_call_arguments.done","output_index":2,"arguments":"{\"cmd\":\"ls\"}"}"#,
    r#"{"type":"response.output_item.done","output_index":2,"item":{"id":"fc_1","type":"function_call","call_id":"call_1","name":"exec","arguments":"{\"cmd\":\"ls\"}"}}"#,
    r#"{"type":"response.completed","response":{"id":"resp_1","status":"completed","output":[],"usage":{"input_tokens":20,"output_tokens":5}}}"#,
];

fn streamed(formats: (Format, Format), events: &[&str], memory: &Memory) -> (String, translate::Seen) {
    let (out, seen) = translate::stream(formats.0, formats.1, [frames(events)], memory);
    (String::from_utf8(out).unwrap(), seen)
}

#[test]
fn a_stream_is_told_in_legal_blocks() {
    let (anthropic, seen) = streamed((OpenaiResponses, Anthropic), &STREAM, &Memory::default());
    assert!(seen.ended && seen.fault.is_none(), "{seen:?}");
    for (piece, times) in [
        ("content_block_start\n", 4),
        (r#""thinking":"\n\n""#, 1),
        (r#""signature":"mp1.r.rs_1.gAAA==""#, 1),
        (r#""partial_json":"{\"cmd\":""#, 1),
        (r#""name":"look""#, 1),
        (r#""stop_reason":"tool_use""#, 1),
        ("event: message_stop", 1),
    ] {
        assert_eq!(anthropic.matches(piece).count(), times, "{piece}: {anthropic}");
    }
    let broken = |events: &[&str]| streamed((OpenaiResponses, Anthropic), events, &Memory::default()).1;
    assert_eq!(broken(&STREAM[..19]).fault.unwrap().status, 502, "it never ends cleanly without its last event");
    assert_eq!(broken(&[]).fault.unwrap().status, 502);
    for (event, status) in [
        (
            r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"server_error","message":"x"}}}"#,
            500,
        ),
        (r#"{"type":"error","code":"rate_limit_exceeded","message":"slow"}"#, 429),
        (r#"{"type":"error","error":{"type":"server_error","code":"server_error","message":"x"}}"#, 500),
        (r#"{"type":"response.completed"}"#, 502),
    ] {
        assert_eq!(broken(&[STREAM[0], event]).fault.map(|fault| fault.status), Some(status), "{event}");
    }
    let only_end = [
        STREAM[0],
        r#"{"type":"response.completed","response":{"id":"r","status":"completed","output":[{"type":"message","content":[{"type":"output_text","text":"all"}]}]}}"#,
    ];
    let (text, seen) = streamed((OpenaiResponses, OpenaiChat), &only_end, &Memory::default());
    assert!(text.contains(r#""content":"all""#) && seen.ended, "some tell nothing before the end: {text}");
}

/// Thinking, words, a call of a group and one that is given a text.
const CHUNKS: &str = concat!(
    "data: {\"id\":\"chatcmpl-1\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"reasoning_content\":\"Hm.\"}}]}\n\n",
    "data: {\"id\":\"chatcmpl-1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"One\"}}]}\n\n",
    "data: {\"id\":\"chatcmpl-1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" two.\"}}]}\n\n",
    "data: {\"id\":\"chatcmpl-1\",\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"call_1\",\"function\":{\"name\":\"agents__close\",\"arguments\":\"{\\\"a\\\":\"}}]}}]}\n\n",
    "data: {\"id\":\"chatcmpl-1\",\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"1}\"}}]}}]}\n\n",
    "data: {\"id\":\"chatcmpl-1\",\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":1,\"id\":\"call_2\",\"function\":{\"name\":\"patch\",\"arguments\":\"{\\\"input\\\":\\\"a\\\\nb\\\"}\"}}]}}]}\n\n",
    "data: {\"id\":\"chatcmpl-1\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4}}\n\n",
    "data: [DONE]\n\n"
);

fn of_codex() -> Memory {
    Memory {
        model: "mine".to_owned(),
        groups: vec![("agents__close".to_owned(), "agents".to_owned(), "close".to_owned())],
        texts: vec!["patch".to_owned()],
        echo: Some(r#","tools":[],"tool_choice":"none","parallel_tool_calls":false"#.to_owned()),
        ..Memory::default()
    }
}

#[test]
fn another_formats_stream_is_told_in_items() {
    let memory = of_codex();
    let (out, seen) = translate::stream(OpenaiChat, OpenaiResponses, [Bytes::from(CHUNKS)], &memory);
    let text = String::from_utf8(out).unwrap();
    assert!(seen.ended, "{text}");
    let kinds: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(
        kinds,
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.reasoning_summary_part.added",
            "response.reasoning_summary_text.delta",
            "response.reasoning_summary_text.done",
            "response.reasoning_summary_part.done",
            "response.output_item.done",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.output_item.added",
            "response.function_call_arguments.delta",
            "response.function_call_arguments.delta",
            "response.function_call_arguments.done",
            "response.output_item.done",
            "response.output_item.added",
            "response.custom_tool_call_input.delta",
            "response.custom_tool_call_input.done",
            "response.output_item.done",
            "response.completed"
        ]
    );
    for (number, line) in text.lines().filter_map(|line| line.strip_prefix("data: ")).enumerate() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert_eq!(event["sequence_number"], number, "{line}");
    }
    let last: serde_json::Value =
        serde_json::from_str(text.lines().rev().nth(1).unwrap().strip_prefix("data: ").unwrap()).unwrap();
    let response = &last["response"];
    assert_eq!(
        (&response["id"], &response["model"], &response["tool_choice"]),
        (&"resp_1".into(), &"mine".into(), &"none".into())
    );
    assert_eq!(response["output"][0]["summary"][0]["text"], "Hm.");
    assert_eq!(response["output"][1]["content"][0]["text"], "One two.");
    assert_eq!(
        (&response["output"][2]["namespace"], &response["output"][2]["name"]),
        (&"agents".into(), &"close".into())
    );
    assert_eq!(
        (&response["output"][3]["type"], &response["output"][3]["input"]),
        (&"custom_tool_call".into(), &"a\nb".into())
    );
    assert_eq!(response["usage"]["input_tokens"], 9);
    // The same as a whole reply.
    let whole = concat!(
        r#"{"id":"chatcmpl-1","choices":[{"index":0,"message":{"role":"assistant","reasoning_content":"Hm.","content":"One two.","tool_calls":["#,
        r#"{"id":"call_1","function":{"name":"agents__close","arguments":"{\"a\":1}"}},{"id":"call_2","function":{"name":"patch","arguments":"{\"input\":\"a\\nb\"}"}}]},"finish_reason":"tool_calls"}],"#,
        r#""usage":{"prompt_tokens":9,"completion_tokens":4}}"#
    );
    let (body, _) = translate::reply(OpenaiChat, OpenaiResponses, whole, &memory).unwrap();
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&body).unwrap(), *response);
}

#[test]
fn a_break_is_told_twice_and_never_ends_cleanly() {
    let half = "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"One\"}}]}\n\n";
    let (out, seen) = translate::stream(OpenaiChat, OpenaiResponses, [Bytes::from(half)], &Memory::default());
    let text = String::from_utf8(out).unwrap();
    assert!(seen.fault.is_some() && !text.contains("response.completed"), "{text}");
    let tail = text.split("event: error\n").nth(1).unwrap();
    assert!(tail.contains(r#""error":{"type":"server_error""#) && tail.contains("event: response.failed\n"), "{tail}");
    assert!(tail.contains(r#""status":"failed""#), "{tail}");
}

/// The events of a stream that begins and is completed with this output.
fn completed(events: &[&str], output: &str) -> Vec<String> {
    let end = format!(
        r#"{{"type":"response.completed","response":{{"id":"resp_1","status":"completed","output":[{output}],"usage":{{"input_tokens":20,"output_tokens":5}}}}}}"#
    );
    [STREAM[0]].iter().chain(events).map(|event| (*event).to_owned()).chain([end]).collect()
}

/// What a chat client is told: its words, its refusal, and its calls.
fn told(events: &[String]) -> (String, String, Vec<(String, String)>) {
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    let (text, seen) = streamed((OpenaiResponses, OpenaiChat), &events, &Memory::default());
    assert!(seen.ended && seen.fault.is_none(), "{text}");
    let mut told = (String::new(), String::new(), Vec::new());
    for data in text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]") {
        let chunk: serde_json::Value = serde_json::from_str(data).unwrap();
        let delta = &chunk["choices"][0]["delta"];
        told.0.push_str(delta["content"].as_str().unwrap_or_default());
        told.1.push_str(delta["refusal"].as_str().unwrap_or_default());
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            if let Some(name) = call["function"]["name"].as_str() {
                told.2.push((name.to_owned(), String::new()));
            }
            told.2.last_mut().unwrap().1.push_str(call["function"]["arguments"].as_str().unwrap_or_default());
        }
    }
    told
}

const ADDED: &str = r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"message","content":[]}}"#;
const WORDS: &str = r#"{"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":"One."}"#;
const CALL: &str = r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"function_call","call_id":"c1","name":"f","arguments":""}}"#;

#[test]
fn no_part_of_an_item_is_lost_that_grows_beside_another() {
    let late = r#"{"type":"response.output_text.delta","output_index":1,"content_index":0,"delta":"Two"}"#;
    let rest = r#"{"type":"response.output_text.delta","output_index":1,"content_index":0,"delta":" three."}"#;
    let end = |index: u8, text: &str| {
        format!(
            r#"{{"type":"response.output_item.done","output_index":{index},"item":{{"type":"message","content":[{{"type":"output_text","text":"{text}"}}]}}}}"#
        )
    };
    let (first, second) = (end(0, "One."), end(1, "Two three."));
    for events in [
        vec![ADDED, WORDS, late, first.as_str(), rest, &second],
        vec![ADDED, WORDS, late, rest, &second, &first],
        vec![ADDED, WORDS, first.as_str(), late, rest, &second],
    ] {
        assert_eq!(told(&completed(&events, "")).0, "One.Two three.", "{events:?}");
    }
    // Its end is never told: what the response says of it, or else a fault.
    let output = r#"{"type":"message","content":[{"type":"output_text","text":"One."}]},{"type":"message","content":[{"type":"output_text","text":"Two three."}]}"#;
    let events = [ADDED, WORDS, late, &first, rest];
    assert_eq!(told(&completed(&events, output)).0, "One.Two three.");
    let events = completed(&events, "");
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    let (_, seen) = streamed((OpenaiResponses, OpenaiChat), &events, &Memory::default());
    assert_eq!(seen.fault.map(|fault| fault.status), Some(502), "what was never told whole is no clean end");
}

#[test]
fn beyond_what_is_remembered_items_wait_until_they_are_done() {
    let delta = |index: usize, text: &str| {
        format!(r#"{{"type":"response.output_text.delta","output_index":{index},"content_index":0,"delta":"{text}"}}"#)
    };
    let done = |index: usize, text: &str| {
        format!(
            r#"{{"type":"response.output_item.done","output_index":{index},"item":{{"type":"message","content":[{{"type":"output_text","text":"{text}"}}]}}}}"#
        )
    };
    let many = 1..=1100;
    let mut events = vec![ADDED.to_owned(), WORDS.to_owned()];
    events.extend(many.clone().map(|index| delta(index, "a")));
    events.push(done(0, "One."));
    // Each goes on, and ends; none may begin in its middle.
    events.extend(many.flat_map(|index| [delta(index, "b"), done(index, "ab")]));
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    assert_eq!(told(&completed(&events, "")).0, format!("One.{}", "ab".repeat(1100)));
}

#[test]
fn an_answer_of_millions_of_items_is_none() {
    let of = |count: usize| format!(r#"{{"status":"completed","output":[{}{{}}]}}"#, "{},".repeat(count - 1));
    let read = |body: &str| translate::reply(OpenaiResponses, Anthropic, body, &Memory::default());
    assert!(read(&of(60_000)).is_ok());
    assert_eq!(read(&of(70_000)).map(drop).map_err(|fault| fault.status), Err(502));
}

#[test]
fn what_the_events_left_out_the_response_tells() {
    let call = |id: &str, name: &str| {
        format!(r#"{{"type":"function_call","call_id":"{id}","name":"{name}","arguments":"{{\"a\":1}}"}}"#)
    };
    let (one, two) = (call("c1", "f"), call("c2", "g"));
    let arguments = r#"{"type":"response.function_call_arguments.done","output_index":0,"arguments":"{\"a\":1}"}"#;
    let done = format!(r#"{{"type":"response.output_item.done","output_index":0,"item":{one}}}"#);
    let (f, g) = (("f".to_owned(), r#"{"a":1}"#.to_owned()), ("g".to_owned(), r#"{"a":1}"#.to_owned()));
    let both = format!("{one},{two}");
    let renamed = call("other", "f");
    for (events, output, expect) in [
        (vec![CALL, arguments], "", vec![f.clone()]),
        (vec![CALL, arguments, done.as_str()], one.as_str(), vec![f.clone()]),
        (vec![CALL], &one, vec![f.clone()]),
        (vec![CALL, &done], &both, vec![f.clone(), g]),
        // The ids are others at the end, and the calls are not more.
        (vec![CALL, &done], &renamed, vec![f.clone()]),
        (vec![CALL, &done], "7", vec![f]),
    ] {
        assert_eq!(told(&completed(&events, output)).2, expect, "{events:?} {output}");
    }
    let message = r#"{"type":"message","content":[{"type":"output_text","text":"Words."}]}"#;
    assert_eq!(told(&completed(&[CALL, &done], &format!("{message},{one}"))).0, "Words.");
    assert_eq!(told(&completed(&[ADDED, WORDS], message)).0, "One.", "it has told them once");
}

#[test]
fn an_output_that_is_there_settles_what_there_is() {
    let done = r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"message","content":[{"type":"output_text","text":"One."}]}}"#;
    let message = r#"{"type":"message","content":[{"type":"output_text","text":"One."}]}"#;
    for stray in [
        r#"{"type":"response.function_call_arguments.delta","output_index":1,"delta":""}"#,
        r#"{"type":"response.reasoning_summary_text.delta","output_index":1,"summary_index":0,"delta":"Hm."}"#,
    ] {
        assert_eq!(told(&completed(&[ADDED, WORDS, stray, done], message)).0, "One.", "{stray}");
    }
    // An empty delta is nothing, whatever else there is.
    let empty = r#"{"type":"response.reasoning_text.delta","output_index":1,"content_index":0,"delta":""}"#;
    assert_eq!(told(&completed(&[ADDED, WORDS, empty, done], "")).0, "One.");
    let thinks = r#"{"type":"response.reasoning_summary_text.delta","output_index":0,"summary_index":0,"delta":"Hm."}"#;
    let sealed = r#"{"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"Hm."}],"encrypted_content":"gAAA"}"#;
    let events = completed(&[thinks], sealed);
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    let (text, _) = streamed((OpenaiResponses, Anthropic), &events, &Memory::default());
    assert!(text.contains(r#""signature":"mp1.r.rs_1.gAAA""#), "its seal may stand there alone: {text}");
}

#[test]
fn parts_that_only_the_finished_message_has_are_told() {
    let done = r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"message","content":[{"type":"output_text","text":"One."},{"type":"refusal","refusal":"No."}]}}"#;
    let (words, refusal, _) = told(&completed(&[ADDED, WORDS, done], ""));
    assert_eq!((words.as_str(), refusal.as_str()), ("One.", "No."));
    let cited = r#"{"type":"response.output_text.annotation.added","output_index":0,"content_index":0,"annotation":{"type":"url_citation","url":"https://a.b","title":"A"}}"#;
    let events = completed(&[ADDED, cited], "");
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    let (text, _) = streamed((OpenaiResponses, OpenaiChat), &events, &Memory::default());
    assert!(text.contains("https://a.b"), "a citation may come before the words: {text}");
}

#[test]
fn the_last_event_tells_how_it_ended() {
    let of = |kind: &str, more: &str| {
        let end = format!(r#"{{"type":"response.{kind}","response":{{"id":"r","output":[]{more}}}}}"#);
        streamed((OpenaiResponses, Anthropic), &[STREAM[0], ADDED, WORDS, &end], &Memory::default())
    };
    let failed = of("failed", r#","error":{"code":"server_error","message":"x"}"#).1;
    assert_eq!(failed.fault.map(|fault| (fault.status, fault.message)), Some((500, "x".to_owned())));
    let (cut, seen) = of("incomplete", r#","incomplete_details":{"reason":"max_output_tokens"}"#);
    assert!(seen.ended && cut.contains(r#""stop_reason":"max_tokens""#), "{cut}");
    assert!(of("completed", "").1.ended);
    assert!(of("completed", r#","status":"in_progress""#).1.ended, "the event is the end");
    let (cut, _) = of("completed", r#","status":"incomplete","incomplete_details":{"reason":"max_output_tokens"}"#);
    assert!(cut.contains(r#""stop_reason":"max_tokens""#), "{cut}");
}

#[test]
fn every_event_is_one_line_whatever_the_request_was() {
    let body = "{\n\"model\": \"m\",\r\n\"input\": \"hi\",\n\"metadata\": {\n\"a\":\"b\u{2028}c\u{85}d\"\n}\n}";
    let (_, memory, _) = request((OpenaiResponses, OpenaiChat), body).unwrap();
    let echo = memory.echo.as_deref().unwrap();
    assert!(echo.contains(r#""metadata":{ "a":"b\u2028c\u0085d" }"#), "{echo}");
    let (out, _) = translate::stream(OpenaiChat, OpenaiResponses, [Bytes::from(CHUNKS)], &memory);
    let text = String::from_utf8(out).unwrap();
    for data in text.lines().filter(|line| !line.is_empty() && !line.starts_with("event: ")) {
        let data = data.strip_prefix("data: ").unwrap_or_else(|| panic!("torn: {data}"));
        assert!(serde_json::from_str::<serde_json::Value>(data).is_ok(), "{data}");
    }
}

#[test]
fn unsealed_thinking_is_taken_out_where_nobody_would_vouch_for_it() {
    let (text, _) = translate::stream(OpenaiChat, OpenaiResponses, [Bytes::from(CHUNKS)], &of_codex());
    let text = String::from_utf8(text).unwrap();
    let item =
        text.lines().find(|line| line.contains(r#""encrypted_content":"mp1."#)).unwrap_or_else(|| panic!("{text}"));
    let item: serde_json::Value = serde_json::from_str(item.strip_prefix("data: ").unwrap()).unwrap();
    let body = format!(r#"{{"model":"m","input":[{{"role":"user","content":"hi"}},{}]}}"#, item["item"]);
    assert_eq!(super::unvouched::unvouched(body.as_bytes(), Sealed::ByUs).len(), 1, "{body}");
}
