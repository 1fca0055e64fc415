//! Replies and streams: what they mean, that both agree, and that cuts and round trips change nothing.

use crate::wire::event::{Delta, Event, Open, Reason, Stop, Usage};
use crate::wire::fault::{Fault, FaultKind};
use crate::wire::json::{Json, JsonStr};
use crate::wire::prompt::Args;
use crate::wire::reply::{Reply, ReplyBlock};
use crate::wire::sse::Frame;
use crate::wire::{Format, Memory, Sign};

use super::super::CODEC;
use super::{frames, shown, streamed, translated, whole};

/// Events as a stream: `event:` lines are made from `type`.
fn sse(events: &[&str]) -> String {
    events
        .iter()
        .map(|data| {
            let kind = data.split('"').nth(3).unwrap();
            format!("event: {kind}\ndata: {data}\n\n")
        })
        .collect()
}

const START: &str = r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"c","content":[],"stop_reason":null,"usage":{"input_tokens":9,"cache_read_input_tokens":2,"output_tokens":1}}}"#;
const STOP: &str = r#"{"type":"message_stop"}"#;

fn end(reason: &str) -> String {
    format!(
        r#"{{"type":"message_delta","delta":{{"stop_reason":"{reason}","stop_sequence":null}},"usage":{{"output_tokens":8}}}}"#
    )
}

/// The blocks' events between a start and an end.
fn stream(reason: &str, events: &[&str]) -> String {
    let end = end(reason);
    let mut all = vec![START];
    all.extend_from_slice(events);
    all.extend([end.as_str(), STOP]);
    sse(&all)
}

fn message(reason: &str, content: &str) -> String {
    format!(
        r#" {{"id":"msg_1","type":"message","role":"assistant","model":"c","content":[{content}],"stop_reason":"{reason}","stop_sequence":null,"usage":{{"input_tokens":9,"cache_read_input_tokens":2,"output_tokens":8}}}}"#
    )
}

/// Checks that a stream and a whole reply mean the same; that any cut of the bytes does; and that both mean the same
/// once more after they have been written and read again.
#[track_caller]
fn check(reason: &str, events: &[&str], content: &str) {
    let text = stream(reason, events);
    let body = message(reason, content);
    let (seen, fold) = streamed(&frames(&[text.as_bytes()]));
    let expect = shown(&whole(&body));
    assert_eq!(shown(&fold), expect);
    for end in ["\n", "\r\n"] {
        let text = text.replace('\n', end);
        for at in 0..text.len() {
            let (a, b) = text.as_bytes().split_at(at);
            assert_eq!(streamed(&frames(&[a, b])).0, seen, "cut at {at}");
        }
        let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(streamed(&frames(&bytes)).0, seen, "cut everywhere");
    }
    let memory = Memory { model: "c".to_owned(), ..Memory::default() };
    let again = translated(&frames(&[text.as_bytes()]), &memory);
    let (_, fold) = streamed(&frames(&[again.as_slice()]));
    assert_eq!(shown(&fold), expect, "{}", String::from_utf8_lossy(&again));
    let mut out = Vec::new();
    (CODEC.encode_reply)(&whole(&body), &memory, &mut out);
    assert_eq!(shown(&whole(std::str::from_utf8(&out).unwrap())), expect, "{}", String::from_utf8_lossy(&out));
}

const TEXT: [&str; 4] = [
    r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Gr\u00fc\u00df"}  }"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" dich 😀"}}"#,
    r#"{"type":"content_block_stop","index":0}"#,
];

#[test]
fn ec77_ec78_ec80_text() {
    check("end_turn", &TEXT, r#"{"type":"text","text":"Gr\u00fc\u00df dich 😀"}"#);
    check("max_tokens", &TEXT, r#"{"type":"text","text":"Grüß dich 😀"}"#);
}

#[test]
fn ec84_ec85_thinking() {
    check(
        "end_turn",
        &[
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"EqM"}}"#,
            r#"{"type":"content_block_stop","index":0}"#,
            r#"{"type":"content_block_start","index":1,"content_block":{"type":"thinking","thinking":""}}"#,
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"signature_delta","signature":"Xyz"}}"#,
            r#"{"type":"content_block_stop","index":1}"#,
            r#"{"type":"content_block_start","index":2,"content_block":{"type":"redacted_thinking","data":"D"}}"#,
            r#"{"type":"content_block_stop","index":2}"#,
        ],
        concat!(
            r#"{"type":"thinking","thinking":"hm","signature":"EqM"},"#,
            r#"{"type":"thinking","thinking":"","signature":"Xyz"},{"type":"redacted_thinking","data":"D"}"#
        ),
    );
}

#[test]
fn ec81_ec82_calls() {
    check(
        "tool_use",
        &[
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"a","name":"f","input":{}}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":""}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"x\":"}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"1.0}"}}"#,
            r#"{"type":"content_block_stop","index":0}"#,
            r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"b","name":"g","input":{"y": 2}}}"#,
            r#"{"type":"content_block_stop","index":1}"#,
            r#"{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"c","name":"h","input":{}}}"#,
            r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":""}}"#,
            r#"{"type":"content_block_stop","index":2}"#,
        ],
        concat!(
            r#"{"type":"tool_use","id":"a","name":"f","input":{"x":1.0}},"#,
            r#"{"type":"tool_use","id":"b","name":"g","input":{"y": 2}},"#,
            r#"{"type":"tool_use","id":"c","name":"h","input":{}}"#
        ),
    );
}

#[test]
fn ec83_the_servers_own_tools_and_citations() {
    let citation =
        r#"{"type":"web_search_result_location","url":"u","title":"t","encrypted_index":"e","cited_text":"c"}"#;
    check(
        "end_turn",
        &[
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"server_tool_use","id":"s","name":"web_search","input":{}}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{}"}}"#,
            r#"{"type":"content_block_stop","index":0}"#,
            r#"{"type":"content_block_start","index":1,"content_block":{"type":"web_search_tool_result","tool_use_id":"s","content":[]}}"#,
            r#"{"type":"content_block_stop","index":1}"#,
            r#"{"type":"content_block_start","index":2,"content_block":{"citations":[],"type":"text","text":""}}"#,
            &format!(
                r#"{{"type":"content_block_delta","index":2,"delta":{{"type":"citations_delta","citation":{citation}}}}}"#
            ),
            r#"{"type":"content_block_delta","index":2,"delta":{"type":"text_delta","text":"a"}}"#,
            r#"{"type":"content_block_stop","index":2}"#,
        ],
        &format!(
            concat!(
                r#"{{"type":"server_tool_use","id":"s","name":"web_search","input":{{}}}},"#,
                r#"{{"type":"web_search_tool_result","tool_use_id":"s","content":[]}},"#,
                r#"{{"type":"text","text":"a","citations":[{}]}}"#
            ),
            citation
        ),
    );
}

#[test]
fn ec54_ec56_why_it_stopped() {
    let call = r#"{"type":"tool_use","id":"a","name":"f","input":{}}"#;
    for (label, content, reason) in [
        ("end_turn", "", Reason::EndTurn),
        ("end_turn", call, Reason::ToolUse),
        ("tool_use", "", Reason::EndTurn),
        ("max_tokens", call, Reason::MaxTokens),
        ("refusal", "", Reason::Refusal),
        ("pause_turn", "", Reason::PauseTurn),
        ("model_context_window_exceeded", "", Reason::ContextWindow),
        ("compaction", "", Reason::EndTurn),
        ("some_future_reason", "", Reason::EndTurn),
    ] {
        assert_eq!(whole(&message(label, content)).stop, Some(Stop::because(reason)), "{label} {content}");
    }
    let null = message("x", call).replace("\"x\"", "null");
    assert_eq!(whole(&null).stop, Some(Stop::because(Reason::ToolUse)));
    let body = message("stop_sequence", "").replace("\"stop_sequence\":null", "\"stop_sequence\":\"END\"");
    let sequence = Some(JsonStr::quote("END"));
    assert_eq!(whole(&body).stop, Some(Stop { reason: Reason::StopSequence, sequence, explanation: None }));
}

#[test]
fn ec57_a_refusal_explains_itself() {
    let details = r#""stop_details":{"type":"refusal","category":"bio","explanation":"no"},"usage""#;
    let body = message("refusal", "").replace("\"usage\"", details);
    let reply = whole(&body);
    let explanation = Some(JsonStr::quote("no"));
    assert_eq!(reply.stop, Some(Stop { reason: Reason::Refusal, sequence: None, explanation }));
    let mut out = Vec::new();
    (CODEC.encode_reply)(&reply, &Memory::default(), &mut out);
    let got = String::from_utf8(out).unwrap();
    assert!(got.contains(r#""stop_details":{"type":"refusal","category":null,"explanation":"no"}"#), "{got}");
}

#[test]
fn ec62_counts_are_taken_over_not_added() {
    let text = sse(&[
        START,
        r#"{"type":"message_delta","delta":{},"usage":{"input_tokens":61,"output_tokens":5}}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":8,"output_tokens_details":{"thinking_tokens":3},"cache_creation":{"ephemeral_5m_input_tokens":4,"ephemeral_1h_input_tokens":6}}}"#,
        STOP,
    ]);
    let (_, reply) = streamed(&frames(&[text.as_bytes()]));
    let expect = Usage {
        input: Some(61),
        cache_read: Some(2),
        cache_write: Some(10),
        cache_write_1h: Some(6),
        output: Some(8),
        reasoning: Some(3),
    };
    assert_eq!(reply.usage, expect);
}

#[track_caller]
fn breaks(text: &str, kind: FaultKind, says: &str) {
    let (events, reply) = streamed(&frames(&[text.as_bytes()]));
    let fault = reply.fault.unwrap_or_else(|| panic!("no fault in {events:#?}"));
    assert!(fault.kind == kind && fault.message.contains(says), "{fault:?}");
}

#[test]
fn ec72_ec74_ec86_what_is_broken_ends_in_a_fault() {
    let half = sse(&[START, TEXT[0], TEXT[1]]);
    breaks(&half, FaultKind::Server, "ended before the answer did");
    breaks(&sse(&[START, TEXT[0], TEXT[1], TEXT[3], &end("end_turn")]), FaultKind::Server, "ended before");
    breaks("", FaultKind::Server, "ended before");
    let error = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    breaks(&format!("{half}{}", sse(&[error])), FaultKind::Overloaded, "Overloaded");
    breaks(&format!("event: error\ndata: {error}\n\n"), FaultKind::Overloaded, "Overloaded");
    breaks("data: {\"error\":{\"message\":\"m\",\"code\":429}}\n\n", FaultKind::RateLimit, "m");
    breaks(&sse(&[START, START]), FaultKind::Server, "second message");
    breaks(&format!("{half}data: {{\"type\":\n\n"), FaultKind::Server, "cannot be read");
    breaks(&format!("{half}data: [DONE]\n\n"), FaultKind::Server, "cannot be read");
    breaks(&sse(&[TEXT[0]]), FaultKind::Server, "does not begin");
    breaks(&sse(&[START, TEXT[1]]), FaultKind::Server, "not open");
    let other = TEXT[1].replace("\"index\":0", "\"index\":1");
    breaks(&sse(&[START, TEXT[0], &other]), FaultKind::Server, "mixed");
    let alien = r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"x"}}"#;
    breaks(&sse(&[START, TEXT[0], alien]), FaultKind::Server, "does not belong");
    breaks(&sse(&[START, &end("end_turn"), TEXT[0]]), FaultKind::Server, "went on");
}

#[test]
fn what_is_new_or_left_open_does_no_harm() {
    let open = r#"{"type":"content_block_start","content_block":{"type":"text","text":"a"}}"#;
    let odd = r#"{"type":"content_block_delta","delta":{"type":"future_delta","text":5}}"#;
    let body = stream("end_turn", &[r#"{"type":"future_event","x":1}"#, open, odd, TEXT[0], TEXT[1]]);
    let text = format!(": c\n\nevent: ping\ndata: {{\"type\":\"ping\"}}\n\n{body}");
    let (_, reply) = streamed(&frames(&[text.as_bytes()]));
    assert!(reply.fault.is_none() && reply.blocks.len() == 2, "{reply:?}");
    // Without `event:` lines, and with more after the end.
    let bare: String = text.lines().filter(|l| !l.starts_with("event")).map(|l| format!("{l}\n")).collect();
    let bare = format!("{bare}data: [DONE]\n\n");
    assert_eq!(shown(&streamed(&frames(&[bare.as_bytes()])).1), shown(&reply));
}

#[test]
fn ec94_an_error_under_200_is_an_error() {
    let error = r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#;
    assert_eq!(whole(error).fault.unwrap().kind, FaultKind::Overloaded);
    assert_eq!((CODEC.inspect_reply)(error).unwrap_err().kind, FaultKind::Overloaded);
    for body in ["", "<html>", "{}", "[]", r#"{"content":"x"}"#, r#"{"content":[{"type":"tool_use","id":"i"}]}"#] {
        assert!(whole(body).fault.is_some(), "{body}");
    }
    for at in 1..200 {
        let body =
            message("end_turn", r#"{"type":"text","text":"abc"},{"type":"tool_use","id":"i","name":"n","input":{}}"#);
        assert!(whole(body.get(..at).unwrap()).fault.is_some(), "{at}");
    }
}

#[test]
fn a_call_without_an_id_is_given_one() {
    let body =
        message("tool_use", r#"{"type":"tool_use","name":"f","input":{}},{"type":"tool_use","id":"","name":"f"}"#);
    let reply = whole(&body);
    let [ReplyBlock::ToolUse { id: a, .. }, ReplyBlock::ToolUse { id: b, .. }] = reply.blocks.as_slice() else {
        panic!("two calls: {reply:?}")
    };
    assert!(a != b && a.literal().starts_with("toolu_mp_") && a.literal().len() == 33, "{a:?} {b:?}");
}

/// What an upstream of another format may have answered.
fn foreign() -> Reply<'static> {
    Reply {
        id: Some(JsonStr::quote("chatcmpl-1")),
        model: Some(JsonStr::quote("gpt")),
        blocks: vec![
            ReplyBlock::Thinking { text: JsonStr::quote("hm"), signature: None },
            ReplyBlock::Text { text: JsonStr::default(), citations: Vec::new() },
            ReplyBlock::Foreign {
                from: Format::OpenaiChat,
                kind: JsonStr::quote("audio"),
                json: Json::raw("{}"),
                more: Vec::new(),
            },
            ReplyBlock::ToolUse {
                id: JsonStr::quote("call_1"),
                name: JsonStr::quote("short"),
                args: Args::Text(JsonStr::quoted(" ")),
            },
            ReplyBlock::ToolUse {
                id: JsonStr::quote("call_2"),
                name: JsonStr::quote("g"),
                args: Args::Text(JsonStr::quoted("{\"a\":")),
            },
        ],
        usage: Usage { input: Some(25), cache_read: Some(75), output: Some(3), ..Usage::default() },
        stop: Some(Stop::because(Reason::EndTurn)),
        fault: None,
    }
}

#[test]
fn ec54_ec59_writes_what_another_format_answered() {
    let memory = Memory {
        model: "mine".to_owned(),
        seed: 7,
        names: vec![("short".to_owned(), "long.name".to_owned())],
        ..Memory::default()
    };
    let mut out = Vec::new();
    (CODEC.encode_reply)(&foreign(), &memory, &mut out);
    let got = String::from_utf8(out).unwrap();
    let (head, rest) = got.split_once(r#"","type":"message","#).unwrap();
    assert!(head.starts_with(r#"{"id":"msg_"#) && head.len() == 35, "{head}");
    let (before, after) = rest.split_once(r#""signature":"mp1."#).unwrap();
    assert_eq!(before, r#""role":"assistant","model":"mine","content":[{"type":"thinking","thinking":"hm","#);
    let expect = concat!(
        r#""},{"type":"tool_use","id":"call_1","name":"long.name","input":{}},"#,
        r#"{"type":"tool_use","id":"call_2","name":"g","input":{"_raw":"{\"a\":"}}],"#,
        r#""stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":25,"cache_creation_input_tokens":null,"#,
        r#""cache_read_input_tokens":75,"output_tokens":3}}"#
    );
    assert_eq!(after.get(16..), Some(expect));
}

#[test]
fn a_tool_that_shaped_the_answer_is_unwrapped() {
    let memory = Memory { unwrap_tool: Some("shape".to_owned()), ..Memory::default() };
    let body = message("tool_use", r#"{"type":"tool_use","id":"a","name":"shape","input":{"x":"\u00e9"}}"#);
    let mut out = Vec::new();
    (CODEC.encode_reply)(&whole(&body), &memory, &mut out);
    let got = String::from_utf8(out).unwrap();
    let text = r#""content":[{"type":"text","text":"{\"x\":\"\\u00e9\"}"}],"stop_reason":"end_turn""#;
    assert!(got.contains(text), "{got}");
    let text = stream(
        "tool_use",
        &[
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"a","name":"shape","input":{}}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"x\":1}"}}"#,
            r#"{"type":"content_block_stop","index":0}"#,
        ],
    );
    let again = translated(&frames(&[text.as_bytes()]), &memory);
    let (_, reply) = streamed(&frames(&[again.as_slice()]));
    assert!(matches!(reply.blocks.as_slice(), [ReplyBlock::Text { text, .. }] if text.is("{\"x\":1}")), "{reply:?}");
    assert_eq!(reply.stop, Some(Stop::because(Reason::EndTurn)));
}

/// Writes events as a stream.
fn written(memory: &Memory, events: &[Event<'_>]) -> String {
    let mut encoder = (CODEC.encoder)(memory);
    let mut out = Vec::new();
    for event in events {
        encoder.event(event, &mut out);
    }
    String::from_utf8(out).unwrap()
}

fn begun() -> Event<'static> {
    Event::Start { id: None, model: None, usage: Usage::default() }
}

#[test]
fn ec63_ec64_a_stream_is_written_in_order() {
    let memory = Memory { model: "m".to_owned(), seed: 7, input_estimate: 12, ..Memory::default() };
    let text = |text: &'static str| JsonStr::quote(text);
    let got = written(
        &memory,
        &[
            begun(),
            Event::Open(Open::Text),
            Event::Close,
            Event::Open(Open::Thinking),
            Event::Delta(Delta::Thinking(text("h"))),
            Event::Delta(Delta::Thinking(text("m"))),
            Event::Close,
            Event::Open(Open::Text),
            Event::Delta(Delta::Text(text(""))),
            Event::Delta(Delta::Text(text("a"))),
            Event::Close,
            Event::Open(Open::ToolUse { id: text("i"), name: text("f") }),
            Event::Close,
            Event::Stop(Stop::because(Reason::EndTurn)),
            Event::Usage(Usage { input: Some(5), output: Some(6), ..Usage::default() }),
            Event::End,
        ],
    );
    let (reply, lines) = (streamed(&frames(&[got.as_bytes()])).1, got.lines().filter(|l| !l.is_empty()));
    assert!(got.contains(r#""usage":{"input_tokens":12,"cache_creation_input_tokens":null"#), "{got}");
    let data: Vec<&str> = lines.filter_map(|line| line.strip_prefix("data: ")).skip(1).collect();
    let signature = data[4];
    assert!(signature.contains(r#""delta":{"type":"signature_delta","signature":"mp1."#), "{signature}");
    let rest: Vec<&str> = data.iter().copied().filter(|line| *line != signature).collect();
    assert_eq!(
        rest,
        [
            r#"{"type":"ping"}"#,
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"h"}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"m"}}"#,
            r#"{"type":"content_block_stop","index":0}"#,
            r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}"#,
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"a"}}"#,
            r#"{"type":"content_block_stop","index":1}"#,
            r#"{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"i","name":"f","input":{}}}"#,
            r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":""}}"#,
            r#"{"type":"content_block_stop","index":2}"#,
            r#"{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"input_tokens":5,"cache_creation_input_tokens":null,"cache_read_input_tokens":null,"output_tokens":6}}"#,
            r#"{"type":"message_stop"}"#,
        ]
    );
    // The same mark is made for the same thinking, whole or streamed.
    let ReplyBlock::Thinking { signature: Some(streamed), .. } = &reply.blocks[0] else { panic!("{reply:?}") };
    let mut out = Vec::new();
    (CODEC.encode_reply)(&foreign(), &memory, &mut out);
    assert!(String::from_utf8(out).unwrap().contains(streamed.literal()), "{streamed:?}");
}

#[test]
fn ec73_nothing_follows_a_fault() {
    let fault = || Event::Fault(Fault::new(529, FaultKind::Overloaded, "m"));
    let got = written(&Memory::default(), &[begun(), Event::Open(Open::Text), fault(), Event::End]);
    assert!(got.ends_with("\"message\":\"m\"}}\n\n") && !got.contains("message_stop"), "{got}");
    assert!(written(&Memory::default(), &[fault()]).starts_with("event: error\n"), "an error alone");
}

#[test]
fn hidden_thinking_keeps_its_signature_only() {
    let memory = Memory { hide_thinking: true, ..Memory::default() };
    let got = written(
        &memory,
        &[
            begun(),
            Event::Open(Open::Thinking),
            Event::Delta(Delta::Thinking(JsonStr::quote("secret"))),
            Event::Delta(Delta::Signature(JsonStr::quote("Eq"))),
            Event::Delta(Delta::Signature(JsonStr::quote("MB"))),
            Event::Close,
            Event::Stop(Stop::because(Reason::EndTurn)),
            Event::End,
        ],
    );
    assert!(!got.contains("secret") && got.contains(r#""signature":"EqMB""#), "{got}");
    let mut out = Vec::new();
    (CODEC.encode_reply)(&streamed(&frames(&[got.as_bytes()])).1, &memory, &mut out);
    assert!(
        String::from_utf8(out).unwrap().contains(r#"{"type":"thinking","thinking":"","signature":"EqMB"}"#),
        "whole"
    );
}

#[test]
fn line_separators_do_not_tear_the_stream() {
    let text = JsonStr::quote("a\u{2028}b");
    let got = written(&Memory::default(), &[begun(), Event::Open(Open::Text), Event::Delta(Delta::Text(text))]);
    assert!(got.contains("a\\u2028b"), "{got}");
}

#[track_caller]
fn sees(event: &str, expect: &str) {
    for frame in [sse(&[event]), format!("data: {event}\n\n")] {
        let seen = (CODEC.inspect)(&Frame::of(frame.into_bytes().into()), crate::wire::Past::Nothing);
        let sign = match &seen.sign {
            Sign::Quiet => "quiet",
            Sign::Begun => "begun",
            Sign::Output => "output",
            Sign::Finished => "finished",
            Sign::Over => "over",
            Sign::Fault(_) => "fault",
        };
        let counted = seen.usage.map_or(String::new(), |usage| format!(" {:?}", usage.output));
        assert_eq!(format!("{sign}{counted}"), expect, "{event}");
    }
}

#[test]
fn a_look_at_a_frame_tells_enough() {
    sees(START, "quiet Some(1)");
    sees(r#"{"type":"ping"}"#, "quiet");
    sees(TEXT[0], "quiet");
    sees(TEXT[1], "output");
    sees(TEXT[3], "quiet");
    sees(r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":""}}"#, "quiet");
    sees(r#"{"type":"content_block_delta","index":0,"delta":{"type":"future_delta"}}"#, "output");
    sees(r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":""}}"#, "begun");
    sees(
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"a","name":"f"}}"#,
        "output",
    );
    sees(&end("end_turn"), "quiet Some(8)");
    sees(r#"{"type":"message_delta","delta":{"stop_reason":null},"usage":{"output_tokens":3}}"#, "quiet Some(3)");
    sees(STOP, "over");
    sees(r#"{"type":"error","error":{"type":"api_error","message":"m"}}"#, "fault");
    sees(r#"{"type":"future_event"}"#, "quiet");
    let comment = (CODEC.inspect)(&Frame::of(bytes::Bytes::from_static(b": hi\n\n")), crate::wire::Past::Nothing);
    assert!(matches!(comment.sign, Sign::Quiet), "a comment");
}

#[test]
fn a_delta_costs_no_allocation() {
    let deltas = [
        (TEXT[0], TEXT[1]),
        (
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":""}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"h\nm"}}"#,
        ),
        (
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"a","name":"f","input":{}}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"x\":"}}"#,
        ),
    ];
    for (open, delta) in deltas {
        let mut decoder = (CODEC.decoder)();
        let mut encoder = (CODEC.encoder)(&Memory::default());
        let mut out = Vec::with_capacity(4096);
        for data in [START, open, delta] {
            decoder.frame(None, data, &mut |event: Event<'_>| encoder.event(&event, &mut out));
        }
        let mut seen = 0;
        let decoding = allocation_counter::measure(|| {
            decoder.frame(Some(b"content_block_delta"), delta, &mut |_: Event<'_>| seen += 1);
        });
        assert_eq!((decoding.count_total, seen), (0, 1), "reading {delta}");
        out.clear();
        let both = allocation_counter::measure(|| {
            decoder.frame(None, delta, &mut |event: Event<'_>| encoder.event(&event, &mut out));
        });
        assert!(both.count_total == 0 && !out.is_empty(), "writing {delta}: {}", both.count_total);
    }
}

#[test]
fn any_bytes_are_a_stream_of_the_grammar() {
    let text = stream(
        "tool_use",
        &[
            TEXT[0],
            TEXT[1],
            TEXT[3],
            r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"a","name":"f","input":{}}}"#,
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{}"}}"#,
        ],
    );
    // Each byte left out, or spoilt; `streamed` asserts the grammar.
    for at in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        if bytes[at].is_ascii() {
            bytes.remove(at);
            streamed(&frames(&[bytes.as_slice()]));
            bytes.insert(at, b'0');
            streamed(&frames(&[bytes.as_slice()]));
        }
    }
}
