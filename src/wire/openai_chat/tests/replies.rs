//! Replies, whole and streamed, named by the edge cases of CONVERSION 14.

use super::{Got, memory, streamed, whole};
use crate::wire::event::{Delta, Event, Open, Reason, Stop, Usage};
use crate::wire::fault::{Fault, FaultKind};
use crate::wire::json::{Json, JsonStr};
use crate::wire::openai_chat::CODEC;
use crate::wire::prompt::Args;
use crate::wire::{Format, Memory, StreamDecoder};

/// Events, short.
fn brief(got: &Got) -> String {
    let short = |event: &String| -> String {
        let text =
            event.replace("JsonStr(\"", "").replace("\")", "").replace("Delta(", "").replace("Args(Text(", "args(");
        let text = text
            .replace("Open(", "")
            .replace("Stop(Stop { reason: ", "")
            .replace(", sequence: None, explanation: None }", "");
        text.trim_end_matches(')').to_owned()
    };
    got.events.iter().filter(|event| !event.starts_with("Start")).map(short).collect::<Vec<_>>().join(" | ")
}

/// A stream of chunks, each given as its choice's delta and reason.
fn stream(chunks: &[(&str, &str)], end: &str) -> String {
    let chunk = |(delta, finish): &(&str, &str)| {
        format!(
            "data: {{\"id\":\"c1\",\"model\":\"up\",\"created\":1,\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}]}}\n\n"
        )
    };
    chunks.iter().map(chunk).collect::<String>() + end
}

const DONE: &str = "data: [DONE]\n\n";

/// Checks the events of a stream, cut anywhere.
#[track_caller]
fn check(stream: &str, expect: &str) {
    let got = streamed(stream.as_bytes(), usize::MAX, &memory());
    assert_eq!(brief(&got), expect);
    for size in 1..=stream.len().min(300) {
        let cut = streamed(stream.as_bytes(), size, &memory());
        assert_eq!((&cut.events, &cut.stream), (&got.events, &got.stream), "in pieces of {size}");
    }
}

#[test]
fn ec63_64_thinking_then_text() {
    let chunks = [
        (r#"{"role":"assistant","content":""}"#, "null"),
        (r#"{"content":"","reasoning":"t1"}"#, "null"),
        (r#"{"content":"","reasoning":"t2","reasoning_details":[{"type":"reasoning.text","text":"t2"}]}"#, "null"),
        (r#"{"content":"a"}"#, "null"),
        (r#"{"content":"b"}"#, "null"),
        ("{}", r#""stop""#),
    ];
    let usage = "data: {\"id\":\"c1\",\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2,\"total_tokens\":5}}\n\n";
    let got = streamed(stream(&chunks, &format!("{usage}{DONE}")).as_bytes(), 1, &memory());
    assert_eq!(got.usage, Usage { input: Some(3), output: Some(2), ..Usage::default() });
    check(
        &stream(&chunks, DONE),
        "Thinking | Thinking(t1 | Thinking(t2 | Close | Text | Text(a | Text(b | Close | EndTurn | End",
    );
}

#[test]
fn ec65_interleaved_calls_are_put_in_order() {
    check(
        &stream(
            &[
                (r#"{"tool_calls":[{"index":0,"id":"1","function":{"name":"f","arguments":""}}]}"#, "null"),
                (r#"{"tool_calls":[{"index":1,"id":"2","function":{"name":"g","arguments":"{"}}]}"#, "null"),
                (r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\":"}}]}"#, "null"),
                (
                    r#"{"tool_calls":[{"index":1,"function":{"arguments":"}"}},{"index":0,"function":{"arguments":"1}"}}]}"#,
                    "null",
                ),
                ("{}", r#""tool_calls""#),
            ],
            DONE,
        ),
        "ToolUse { id: 1, name: f } | args({\\\\\\\"a\\\\\\\": | args(1} | Close | ToolUse { id: 2, name: g } | args({} | Close | ToolUse | End",
    );
}

#[test]
fn ec66_68_calls_in_every_numbering() {
    let one = "ToolUse { id: 1, name: f } | args({} | Close | ToolUse | End";
    let done = ("{}", r#""tool_calls""#);
    // Counted from one; the arguments before the name; whole in one chunk, under `stop`.
    check(
        &stream(
            &[
                (r#"{"tool_calls":[{"index":1,"id":"1","function":{"name":"f"}}]}"#, "null"),
                (r#"{"tool_calls":[{"index":1,"function":{"arguments":"{}"}}]}"#, "null"),
                done,
            ],
            DONE,
        ),
        one,
    );
    check(
        &stream(
            &[
                (r#"{"tool_calls":[{"index":0,"id":"1","function":{"arguments":"{"}}]}"#, "null"),
                (r#"{"tool_calls":[{"index":0,"function":{"name":"f","arguments":"}"}}]}"#, "null"),
                done,
            ],
            DONE,
        ),
        one,
    );
    check(
        &stream(&[(r#"{"tool_calls":[{"id":"1","function":{"name":"f","arguments":"{}"}}]}"#, r#""stop""#)], DONE),
        one,
    );
}

#[test]
fn ec67_calls_without_an_index_are_told_apart() {
    let two =
        "ToolUse { id: 1, name: f } | args({} | Close | ToolUse { id: 2, name: f } | args({} | Close | ToolUse | End";
    check(
        &stream(
            &[(
                r#"{"tool_calls":[{"id":"1","function":{"name":"f","arguments":"{}"}},{"id":"2","function":{"name":"f","arguments":"{}"}}]}"#,
                r#""stop""#,
            )],
            DONE,
        ),
        two,
    );
    check(
        &stream(
            &[
                (r#"{"tool_calls":[{"id":"1","function":{"name":"f","arguments":"{"}}]}"#, "null"),
                (r#"{"tool_calls":[{"function":{"arguments":"}"}}]}"#, "null"),
                (r#"{"tool_calls":[{"id":"2","function":{"name":"f","arguments":"{}"}}]}"#, r#""tool_calls""#),
            ],
            DONE,
        ),
        &two.replacen("args({}", "args({ | args(}", 1),
    );
    // Gemini: no index, no ids.
    let got = streamed(
        stream(
            &[(r#"{"tool_calls":[{"id":"","function":{"name":"f","arguments":"{}"}},{"id":"","function":{"name":"f","arguments":"{}"}}]}"#, r#""stop""#)],
            DONE,
        )
        .as_bytes(),
        9,
        &memory(),
    );
    assert_eq!(got.whole.matches("\"id\":\"call_").count(), 2, "{}", got.whole);
}

#[test]
fn ec69_to_72_the_end_of_a_stream() {
    let said = [(r#"{"content":"a"}"#, "null"), ("{}", r#""length""#)];
    let text = "Text | Text(a | Close | MaxTokens | End";
    check(&stream(&said, DONE), text);
    check(&stream(&said, ""), text);
    check(&stream(&[said[0], said[1], ("{}", r#""stop""#)], DONE), text);
    check(&stream(&said[..1], DONE), "Text | Text(a | Close | EndTurn | End");
    check(&stream(&[said[0], ("{}", "\"\"")], DONE), "Text | Text(a | Close | EndTurn | End");
    for broken in [stream(&said[..1], ""), String::new(), DONE.to_owned(), "data: {\n\n".to_owned()] {
        let got = streamed(broken.as_bytes(), 5, &memory());
        assert_eq!((got.fault.unwrap().status, got.stream.contains("[DONE]")), (502, false), "{broken}");
    }
}

#[test]
fn ec73_an_error_wins_over_everything() {
    let error =
        "data: {\"error\":{\"message\":\"busy\",\"code\":429},\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n";
    let got = streamed(stream(&[(r#"{"content":"a"}"#, "null")], error).as_bytes(), 8, &memory());
    assert_eq!(got.fault.as_ref().map(|f| (f.status, f.message.as_str())), Some((429, "busy")));
    assert!(got.stream.contains("\"error\":{\"message\":\"busy\"") && !got.stream.contains("[DONE]"), "{}", got.stream);
    let inside = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"error\",\"error\":{\"code\":502,\"message\":\"m\"}}]}\n\n";
    assert_eq!(streamed(inside.as_bytes(), 8, &memory()).fault.map(|f| f.status), Some(502));
}

#[test]
fn ec77_78_comments_and_characters_in_pieces() {
    let text = ": OPENROUTER PROCESSING\r\n\r\ndata:{\"id\":\"c\",\"choices\":[{\"delta\":{\"content\":\"😀\"},\"finish_reason\":\"eos\"}]}\r\n\r\ndata: [DONE]\r\n\r\n";
    check(text, "Text | Text(😀 | Close | EndTurn | End");
}

#[test]
fn ec87_an_empty_first_chunk_names_nothing() {
    let azure = "data: {\"id\":\"\",\"model\":\"\",\"object\":\"\",\"choices\":[],\"prompt_filter_results\":[]}\n\n";
    let got = streamed(format!("{azure}{}", stream(&[("{}", r#""stop""#)], DONE)).as_bytes(), 20, &memory());
    assert!(got.stream.starts_with("data: {\"id\":\"chatcmpl-c1\""), "{}", got.stream);
}

#[test]
fn choices_nobody_asked_for_are_left_alone() {
    let other =
        "data: {\"id\":\"c\",\"choices\":[{\"index\":1,\"delta\":{\"content\":\"x\"},\"finish_reason\":\"stop\"}]}\n\n";
    check(
        &format!("{other}{}", stream(&[(r#"{"content":"a"}"#, r#""stop""#)], DONE)),
        "Text | Text(a | Close | EndTurn | End",
    );
}

#[test]
fn a_message_counts_only_where_no_delta_was() {
    let chunk = |m: &str| format!("data: {{\"id\":\"c\",\"choices\":[{m}]}}\n\n");
    let whole = chunk(r#"{"message":{"content":"ab"},"finish_reason":"stop"}"#);
    check(&whole, "Text | Text(ab | Close | EndTurn | End");
    let said = chunk(r#"{"delta":{"content":"ab"}}"#);
    check(&format!("{said}{whole}"), "Text | Text(ab | Close | EndTurn | End");
}

#[test]
fn calls_that_cannot_be_ordered_break_the_answer() {
    let part = "x".repeat(1024 * 1024);
    let held = format!(r#"{{"tool_calls":[{{"index":1,"id":"2","function":{{"name":"g","arguments":"{part}"}}}}]}}"#);
    let first = r#"{"tool_calls":[{"index":0,"id":"1","function":{"name":"f","arguments":"{"}}]}"#;
    let got = streamed(
        stream(
            &[(first, "null"), (&held, "null"), (&held, "null"), (&held, "null"), (&held, "null"), (&held, "null")],
            DONE,
        )
        .as_bytes(),
        usize::MAX,
        &memory(),
    );
    assert!(got.fault.unwrap().message.contains("too long to be ordered"));
    let rest = r#"{"tool_calls":[{"index":0,"function":{"arguments":"1}"}}]}"#;
    check(
        &stream(&[(first, "null"), (r#"{"content":"a"}"#, "null"), (rest, "null")], DONE),
        "ToolUse { id: 1, name: f } | args({ | args(1} | Close | Text | Text(a | Close | ToolUse | End",
    );
    let late = r#"{"tool_calls":[{"index":0,"function":{"arguments":"2"}}]}"#;
    let ended = [(first, "null"), (rest, "null"), (r#"{"content":"a"}"#, "null"), (late, "null")];
    let got = streamed(stream(&ended, DONE).as_bytes(), 64, &memory());
    assert!(got.fault.unwrap().message.contains("had ended"));
}

/// Checks what a whole reply's choice is read as.
#[track_caller]
fn check_whole(choice: &str, expect: &str) {
    let got = whole(&format!(r#"{{"id":"c1","model":"up","created":1,"choices":[{choice}]}}"#), &memory());
    assert_eq!(brief(&got), expect);
}

#[test]
fn ec54_55_the_content_tells_why_it_ended() {
    let called = r#"{"message":{"content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]},"finish_reason":"#;
    let call = "ToolUse { id: 1, name: f } | args({} | Close | ";
    check_whole(&format!(r#"{called}"stop"}}"#), &format!("{call}ToolUse | End"));
    check_whole(&format!(r#"{called}""}}"#), &format!("{call}ToolUse | End"));
    check_whole(&format!(r#"{called}"length"}}"#), &format!("{call}MaxTokens | End"));
    for label in ["\"stop\"", "\"eos\"", "null", "\"\"", "\"tool_calls\""] {
        check_whole(
            &format!(r#"{{"message":{{"content":"a"}},"finish_reason":{label}}}"#),
            "Text | Text(a | Close | EndTurn | End",
        );
    }
    check_whole(
        r#"{"message":{"content":null,"refusal":"no"},"finish_reason":"stop"}"#,
        "Refusal | Text(no | Close | Refusal | End",
    );
}

#[test]
fn ec88_a_filtered_choice_is_a_refusal() {
    check_whole(r#"{"index":0,"finish_reason":"content_filter"}"#, "Refusal | End");
    check_whole(r#"{"index":0,"content_filter_results":{"hate":{"filtered":true}}}"#, "Refusal | End");
}

#[test]
fn ec89_90_content_in_every_shape() {
    check_whole(
        r#"{"message":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"t"}]},{"type":"text","text":"a"}]},"finish_reason":"stop"}"#,
        "Thinking | Thinking(t | Close | Text | Text(a | Close | EndTurn | End",
    );
    check_whole(
        r#"{"message":{"content":{"a":[1]}},"finish_reason":"stop"}"#,
        "Text | Text({\\\\\\\"a\\\\\\\":[1]} | Close | EndTurn | End",
    );
    check_whole(
        r#"{"message":{"content":"a","reasoning":"t","reasoning_details":[{"type":"reasoning.text","text":"t","signature":"s","format":"anthropic-claude-v1"}]}}"#,
        "Thinking | Thinking(t | Signature(s | Close | Text | Text(a | Close | EndTurn | End",
    );
}

#[test]
fn ec91_94_what_stands_before_a_reply_and_what_is_none() {
    let padded =
        format!("{}{}", "\n ".repeat(2000), r#"{"choices":[{"message":{"content":"a"},"finish_reason":"stop"}]}"#);
    assert_eq!(brief(&whole(&padded, &memory())), "Text | Text(a | Close | EndTurn | End");
    for (body, status) in [
        (r#"{"error":{"message":"m","code":429}}"#, 429),
        (r#"{"error":"text","code":"x"}"#, 500),
        (r#"{"object":"error","message":"m"}"#, 500),
        (r#"{"id":"x","choices":[]}"#, 502),
        ("<html>", 502),
        ("", 502),
    ] {
        assert_eq!(whole(body, &memory()).fault.map(|fault| fault.status), Some(status), "{body}");
    }
}

/// The same answer, whole and streamed, must be the same reply.
#[test]
fn a_whole_reply_is_the_fold_of_its_stream() {
    let head = r#""id":"c1","model":"up","created":1"#;
    let cases = [
        (
            r#"{"content":"ab"}"#,
            vec![r#"{"role":"assistant","content":""}"#, r#"{"content":"a"}"#, r#"{"content":"b"}"#],
        ),
        (
            r#"{"content":"a","reasoning_content":"tu"}"#,
            vec![r#"{"reasoning_content":"t"}"#, r#"{"reasoning_content":"u"}"#, r#"{"content":"a"}"#],
        ),
        (
            r#"{"content":null,"tool_calls":[{"id":"1","function":{"name":"f","arguments":"{\"a\":1}"}},{"id":"2","function":{"name":"g"}}]}"#,
            vec![
                r#"{"tool_calls":[{"index":0,"id":"1","function":{"name":"f","arguments":"{\"a\""}}]}"#,
                r#"{"tool_calls":[{"index":0,"function":{"arguments":":1}"}}]}"#,
                r#"{"tool_calls":[{"index":1,"id":"2","function":{"name":"g","arguments":""}}]}"#,
            ],
        ),
    ];
    for (message, deltas) in cases {
        let chunks: Vec<_> = deltas.iter().map(|delta| (*delta, "null")).chain([("{}", r#""stop""#)]).collect();
        let pieces = streamed(stream(&chunks, DONE).as_bytes(), 3, &memory());
        let body = format!(r#"{{{head},"choices":[{{"index":0,"message":{message},"finish_reason":"stop"}}]}}"#);
        let one = whole(&body, &memory());
        assert_eq!(one.whole, pieces.whole);
        // And what is written as a stream is read as the same reply again.
        assert_eq!(streamed(one.stream.as_bytes(), 11, &memory()).whole, one.whole);
    }
}

/// Writes events, as a whole and as a stream; both are checked for the wanted pieces.
fn written(events: &[Event<'static>], memory: &Memory) -> (String, String) {
    let mut reply = crate::wire::reply::Reply::default();
    let mut encoder = (CODEC.encoder)(memory);
    let mut stream = Vec::new();
    for event in events {
        encoder.event(event, &mut stream);
        crate::wire::event::Sink::event(&mut reply, event.clone());
    }
    let mut whole = Vec::new();
    (CODEC.encode_reply)(&reply, memory, &mut whole);
    (String::from_utf8(whole).unwrap(), String::from_utf8(stream).unwrap())
}

fn s(text: &'static str) -> JsonStr<'static> {
    JsonStr::quote(text)
}

fn answer(middle: Vec<Event<'static>>, stop: Stop<'static>) -> Vec<Event<'static>> {
    let mut events = vec![Event::Start { id: Some(s("msg_01")), model: Some(s("up")), usage: Usage::default() }];
    events.extend(middle);
    events.extend([Event::Stop(stop), Event::End]);
    events
}

#[track_caller]
fn check_written(events: &[Event<'static>], memory: &Memory, whole: &[&str], stream: &[&str]) {
    let (got_whole, got_stream) = written(events, memory);
    for piece in whole {
        assert!(got_whole.contains(piece), "{piece}\nin {got_whole}");
    }
    let mut rest = got_stream.as_str();
    for piece in stream {
        let Some((_, after)) = rest.split_once(piece) else { panic!("{piece}\nin {got_stream}") };
        rest = after;
    }
}

#[test]
fn ec57_58_refusals_and_silence() {
    let refused = Stop { reason: Reason::Refusal, sequence: None, explanation: Some(s("because")) };
    check_written(
        &answer(vec![], refused),
        &memory(),
        &[r#""content":null,"refusal":"because""#, r#""finish_reason":"content_filter""#],
        &[r#""delta":{"refusal":"because"}"#, r#""delta":{},"finish_reason":"content_filter"}]"#, "data: [DONE]"],
    );
    check_written(
        &answer(vec![], Stop::because(Reason::Refusal)),
        &memory(),
        &[r#""refusal":"The model declined"#],
        &[],
    );
    check_written(
        &answer(vec![], Stop::because(Reason::EndTurn)),
        &memory(),
        &[r#""content":"","refusal":null"#, r#""finish_reason":"stop""#],
        &[r#""finish_reason":"stop""#],
    );
}

#[test]
fn ec56_every_reason_has_a_word() {
    for (reason, word) in [
        (Reason::ContextWindow, "length"),
        (Reason::MaxTokens, "length"),
        (Reason::PauseTurn, "stop"),
        (Reason::StopSequence, "stop"),
        (Reason::ToolUse, "stop"),
    ] {
        let word = format!(r#""finish_reason":"{word}""#);
        check_written(&answer(vec![], Stop::because(reason)), &memory(), &[&word], &[&word]);
    }
}

fn call(args: Vec<Event<'static>>) -> Vec<Event<'static>> {
    let mut events = vec![Event::Open(Open::ToolUse { id: s("toolu_1"), name: s("short") })];
    events.extend(args);
    events.push(Event::Close);
    events
}

#[test]
fn ec81_82_calls_are_told_with_their_arguments() {
    let whole = vec![Event::Delta(Delta::Args(Args::Json(Json::raw(r#"{"a": "\n"}"#))))];
    let ends = Stop::because(Reason::ToolUse);
    let memory = Memory { names: vec![("short".into(), "a.long.name".into())], ..memory() };
    let args = r#""arguments":"{\"a\": \"\\n\"}""#;
    check_written(
        &answer(call(whole), ends.clone()),
        &memory,
        &[r#""content":null"#, r#""name":"a.long.name","#, args, r#""finish_reason":"tool_calls""#],
        &[
            r#"{"tool_calls":[{"index":0,"id":"toolu_1","type":"function","function":{"name":"a.long.name","arguments":""}}]}"#,
            args,
            r#""finish_reason":"tool_calls""#,
        ],
    );
    let none = vec![Event::Delta(Delta::Args(Args::Text(s(""))))];
    check_written(&answer(call(none), ends.clone()), &memory, &[r#""arguments":"{}""#], &[r#"{"arguments":"{}"}"#]);
    let legacy = Memory { legacy_functions: true, ..memory };
    check_written(
        &answer(call(vec![]), ends),
        &legacy,
        &[r#""function_call":{"name":"a.long.name","arguments":"{}"}"#, r#""finish_reason":"function_call""#],
        &[r#""function_call":{"name":"a.long.name","arguments":""}"#, r#"{"function_call":{"arguments":"{}"}}"#],
    );
}

#[test]
fn an_unwrapped_tool_is_the_text() {
    let memory = Memory { unwrap_tool: Some("short".into()), ..memory() };
    let args = vec![Event::Delta(Delta::Args(Args::Text(s(r#"{"a":1}"#))))];
    check_written(
        &answer(call(args), Stop::because(Reason::ToolUse)),
        &memory,
        &[r#""content":"{\"a\":1}""#, r#""finish_reason":"stop""#],
        &[r#"{"content":"{\"a\":1}"}"#, r#""finish_reason":"stop""#],
    );
}

#[test]
fn ec84_85_thinking_keeps_its_seal() {
    let events = answer(
        vec![
            Event::Open(Open::Thinking),
            Event::Delta(Delta::Thinking(s("t"))),
            Event::Delta(Delta::Signature(s("sig"))),
            Event::Close,
            Event::Open(Open::RedactedThinking { data: s("d") }),
            Event::Close,
            Event::Open(Open::Text),
            Event::Delta(Delta::Text(s("a"))),
            Event::Close,
        ],
        Stop::because(Reason::EndTurn),
    );
    check_written(
        &events,
        &memory(),
        &[
            r#""content":"a""#,
            r#""reasoning_content":"t","reasoning_details":[{"type":"reasoning.text","text":"t","signature":"sig","format":"anthropic-claude-v1","index":0},{"type":"reasoning.encrypted","data":"d","format":"anthropic-claude-v1","index":1}]"#,
        ],
        &[
            r#"{"reasoning_content":"t","reasoning_details":[{"type":"reasoning.text","text":"t","format":"anthropic-claude-v1","index":0}]}"#,
            r#"{"reasoning_details":[{"type":"reasoning.text","signature":"sig","format":"anthropic-claude-v1","index":0}]}"#,
            r#""data":"d","format":"anthropic-claude-v1","index":1"#,
            r#"{"content":"a"}"#,
        ],
    );
    let (whole, stream) = written(&events, &Memory { hide_thinking: true, ..memory() });
    assert!(!whole.contains("reasoning") && !stream.contains("reasoning"), "{whole}{stream}");
    let bare = answer(
        vec![Event::Open(Open::Thinking), Event::Delta(Delta::Signature(s("sig"))), Event::Close],
        Stop::because(Reason::EndTurn),
    );
    check_written(&bare, &memory(), &[r#""text":"","signature":"sig""#], &[r#""signature":"sig""#]);
}

#[test]
fn ec83_cited_pages_are_annotations_and_server_tools_nothing() {
    let cite = r#"{"type":"web_search_result_location","url":"https://x","title":"X","cited_text":"c"}"#;
    let foreign = Open::Foreign { from: Format::Anthropic, kind: s("server_tool_use"), json: Json::raw("{}") };
    let events = answer(
        vec![
            Event::Open(foreign),
            Event::Delta(Delta::Foreign(Json::raw("{}"))),
            Event::Close,
            Event::Open(Open::Text),
            Event::Delta(Delta::Text(s("😀\n"))),
            Event::Close,
            Event::Open(Open::Text),
            Event::Delta(Delta::Citation(Json::raw(cite))),
            Event::Delta(Delta::Text(s("abc"))),
            Event::Close,
        ],
        Stop::because(Reason::EndTurn),
    );
    let note = r#""annotations":[{"type":"url_citation","url_citation":{"url":"https://x","title":"X","start_index":2,"end_index":5}}]"#;
    check_written(&events, &memory(), &[r#""content":"😀\nabc""#, note], &[r#"{"content":"abc"}"#, note]);
    assert!(!written(&events, &memory()).1.contains("tool_calls"));
}

#[test]
fn ec92_usage_is_told_to_those_who_ask() {
    let usage = Usage {
        input: Some(25),
        cache_read: Some(75),
        cache_write: Some(0),
        output: Some(8),
        reasoning: Some(3),
        ..Usage::default()
    };
    let events = answer(
        vec![Event::Usage(Usage { output: Some(8), ..Usage::default() }), Event::Usage(usage)],
        Stop::because(Reason::EndTurn),
    );
    let told = r#""usage":{"prompt_tokens":100,"completion_tokens":8,"total_tokens":108,"prompt_tokens_details":{"cached_tokens":75,"cache_write_tokens":0},"completion_tokens_details":{"reasoning_tokens":3}}"#;
    check_written(
        &events,
        &memory(),
        &[told],
        &[r#""finish_reason":null}],"usage":null}"#, r#""choices":[],"#, told, "[DONE]"],
    );
    let (_, stream) = written(&events, &Memory { include_usage: false, ..memory() });
    assert!(!stream.contains("usage"), "{stream}");
}

#[test]
fn ec74_a_break_is_told_without_an_end() {
    let events = [
        Event::Start { id: None, model: None, usage: Usage::default() },
        Event::Ping,
        Event::Fault(Fault::new(529, FaultKind::Overloaded, "busy")),
    ];
    let (_, stream) = written(&events, &memory());
    assert!(
        stream.contains("\n\n: ping\n\ndata: {\"error\":{\"message\":\"busy\",\"type\":\"server_error\""),
        "{stream}"
    );
    assert!(!stream.contains("[DONE]"), "{stream}");
}

#[test]
fn plain_text_costs_no_allocation() {
    let chunk = r#"{"id":"c1","object":"chat.completion.chunk","created":1,"model":"up","choices":[{"index":0,"delta":{"content":"a word"},"finish_reason":null}],"usage":null}"#;
    let mut decoder = crate::wire::openai_chat::stream::Decoder::default();
    let mut encoder = (CODEC.encoder)(&memory());
    let mut out = Vec::with_capacity(64 * 1024);
    let mut step = || {
        out.clear();
        decoder.frame(None, chunk, &mut |event: Event<'_>| encoder.event(&event, &mut out));
    };
    step();
    step();
    let cost = allocation_counter::measure(|| {
        for _ in 0..100 {
            step();
        }
    });
    assert_eq!(cost.count_total, 0, "a plain delta is passed on without allocating");
}

/// Any bytes give a grammatical answer: every prefix of a stream, and every prefix of a reply.
#[test]
fn any_beginning_is_an_answer() {
    let stream = stream(
        &[
            (r#"{"content":"a","reasoning":"t"}"#, "null"),
            (r#"{"tool_calls":[{"index":0,"id":"1","function":{"name":"f","arguments":"{}"}}]}"#, r#""stop""#),
        ],
        DONE,
    );
    for end in 0..stream.len() {
        streamed(&stream.as_bytes()[..end], usize::MAX, &memory());
    }
    let reply = r#"{"id":"c","choices":[{"message":{"content":[{"type":"text","text":"a"}],"tool_calls":[{}]},"finish_reason":1}]}"#;
    for end in 0..=reply.len() {
        whole(reply.get(..end).unwrap(), &memory());
    }
}

/// Chunks in any order give a grammatical answer, and its stream can be read again.
#[test]
fn any_order_of_chunks_is_an_answer() {
    let deltas = [
        r#"{"content":"a"}"#,
        r#"{"content":[{"type":"text","text":"b"},{"type":"x"},1]}"#,
        r#"{"reasoning":"t"}"#,
        r#"{"reasoning_details":[{"text":"u","signature":"s","format":"anthropic-claude-v1"},{"data":"d","format":"anthropic-claude-v1"}]}"#,
        r#"{"refusal":"no"}"#,
        r#"{"tool_calls":[{"index":0,"id":"1","function":{"name":"f","arguments":"{"}}]}"#,
        r#"{"tool_calls":[{"index":0,"function":{"arguments":"}"}}]}"#,
        r#"{"tool_calls":[{"index":1,"id":"2","function":{"name":"g"}},{"index":0,"function":{"arguments":" "}}]}"#,
        r#"{"tool_calls":[{"function":{"name":"h","arguments":"{}"}},{},{"custom":{"name":"c"}}]}"#,
        r#"{"function_call":{"name":"f","arguments":"{}"}}"#,
    ];
    let mut x = 0x9e37_79b9_u32;
    let mut pick = |n: usize| {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        x as usize % n
    };
    for _ in 0..3000 {
        let chunks: Vec<_> = (0..pick(9))
            .map(|_| (deltas[pick(deltas.len())], ["null", "null", "null", "\"stop\"", "\"length\""][pick(5)]))
            .collect();
        let text = stream(&chunks, [DONE, ""][pick(2)]);
        let got = streamed(text.as_bytes(), usize::MAX, &memory());
        if got.fault.is_none() {
            let again = streamed(got.stream.as_bytes(), usize::MAX, &memory());
            assert_eq!(again.fault, None, "{text}\n{}", got.stream);
        }
    }
}
