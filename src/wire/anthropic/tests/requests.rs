//! Requests, in and out. Prompts are written in this format and then said to be OpenAI's where a rule asks for it.

use crate::wire::Format;
use crate::wire::caps::{Capabilities, Quirks, ThinkingModes};
use crate::wire::json::{Json, JsonStr};
use crate::wire::loss::{Losses, Place};
use crate::wire::prompt::{Args, BlockKind, Choice, Effort, Output, Prompt, Role, Source, Thinking, Tier, Tool};
use crate::wire::{Memory, Target};

use super::super::CODEC;
use super::super::fields::{REQUEST, THREAD};

fn decoded<'a>(body: &'a str, losses: &mut Losses) -> Prompt<'a> {
    (CODEC.decode_request)(body, losses).unwrap_or_else(|refusal| panic!("{refusal} in {body}"))
}

/// A request with one plain user message and these fields.
fn asking(fields: &str) -> String {
    let comma = if fields.is_empty() { "" } else { "," };
    format!(r#"{{"model":"m","messages":[{{"role":"user","content":"Q"}}]{comma}{fields}}}"#)
}

/// Encodes what a request means after `change`; gives the body without `model`, the memory, and what was lost.
fn encoded(
    body: &str,
    change: impl FnOnce(&mut Prompt<'_>, &mut Capabilities),
) -> Result<(String, Memory, String), (String, String)> {
    let mut losses = Losses::default();
    let mut prompt = decoded(body, &mut losses);
    let mut capabilities = Capabilities::default();
    prompt.from = Format::OpenaiChat;
    change(&mut prompt, &mut capabilities);
    let quirks = Quirks::default();
    let target = Target { model: "up", capabilities: &capabilities, quirks: &quirks };
    let mut out = Vec::new();
    match (CODEC.encode_request)(&prompt, &target, &mut out, &mut losses) {
        Ok(memory) => {
            let text = String::from_utf8(out).unwrap();
            let mut cursor = crate::wire::json::Cursor::new(&text);
            assert!(cursor.skip().and_then(|_| cursor.end()).is_ok(), "{text}");
            let rest = text.strip_prefix(r#"{"model":"up","#).unwrap().to_owned();
            Ok((rest, memory, losses.header(body)))
        }
        Err(refusal) => Err((refusal.place.path(body), refusal.message)),
    }
}

/// Checks the body that is written, from `max_tokens` on, and the paths of what was lost.
#[track_caller]
fn check(body: &str, change: impl FnOnce(&mut Prompt<'_>, &mut Capabilities), expect: &str, lost: &str) {
    let (got, _, header) = encoded(body, change).unwrap();
    assert_eq!((got.as_str(), header.as_str()), (expect, lost));
}

/// Checks only the messages that are written.
#[track_caller]
fn messages(inputs: &str, change: impl FnOnce(&mut Prompt<'_>, &mut Capabilities), expect: &str) {
    let (got, ..) = encoded(&format!(r#"{{"model":"m","messages":[{inputs}]}}"#), change).unwrap();
    let (_, written) = got.split_once(r#""messages":["#).unwrap();
    assert_eq!(written, format!("{expect}]}}"));
}

#[track_caller]
fn refused(body: &str, change: impl FnOnce(&mut Prompt<'_>, &mut Capabilities), place: &str, says: &str) {
    let (path, message) = encoded(body, change).unwrap_err();
    assert!(path == place && message.contains(says), "{path}: {message}");
}

fn nothing(_: &mut Prompt<'_>, _: &mut Capabilities) {}

const Q: &str = r#""messages":[{"role":"user","content":"Q"}]}"#;

#[test]
fn null_is_absent() {
    for field in REQUEST.iter().filter(|field| field.name != "messages") {
        let null = asking(&format!("\"{}\":null", field.name));
        let mut losses = Losses::default();
        let prompt = (CODEC.decode_request)(&null, &mut losses);
        assert!(prompt.is_ok() && losses.is_empty(), "{}: null is absent", field.name);
    }
}

#[test]
fn threads_are_refused_at_the_place_the_gateway_knows() {
    let body = asking(r#""thread":{"type":"create"}"#);
    let refused = (CODEC.decode_request)(&body, &mut Losses::default());
    assert_eq!(refused.unwrap_err().place, Place::Path(THREAD));
}

#[test]
fn a_field_nobody_knows_is_named() {
    let mut losses = Losses::default();
    let body = r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"a","x":1}],"y":2}],"z":3}"#;
    decoded(body, &mut losses);
    assert_eq!(losses.header(body), "messages[0].content[0].x, messages[0].y, z");
}

#[test]
fn reads_what_claude_code_sends() {
    let body = r#"{"model":"claude-fake","messages":[
        {"role":"user","content":[{"type":"text","text":"hi","cache_control":{"type":"ephemeral"}}]},
        {"role":"system","content":"Available agents"}],
        "system":[{"type":"text","text":"S","cache_control":{"type":"ephemeral","ttl":"1h"}}],
        "tools":[{"name":"Bash","description":"d","input_schema":{"type":"object"}}],
        "metadata":{"user_id":"{\"device_id\":\"x\"}"},"max_tokens":32000,"thinking":{"type":"adaptive"},
        "context_management":{"edits":[{"type":"clear_thinking_20251015","keep":"all"}]},
        "output_config":{"effort":"high"},"stream":true}"#;
    let mut losses = Losses::default();
    let prompt = decoded(body, &mut losses);
    assert_eq!(losses.header(body), "context_management");
    assert_eq!((prompt.turns.len(), prompt.system.len(), prompt.tools.len()), (2, 1, 1));
    assert_eq!(prompt.turns.last().unwrap().role, Role::System);
    assert_eq!((prompt.thinking, prompt.effort), (Some(Thinking::Adaptive), Some(Effort::High)));
    assert_eq!((prompt.max_tokens, prompt.stream), (Some(32_000), true));
    assert!(prompt.user.unwrap().is("{\"device_id\":\"x\"}"), "the user's id is carried");
}

#[test]
fn reads_every_small_field() {
    let body = asking(concat!(
        r#""thinking":{"type":"enabled","budget_tokens":2000,"display":"omitted"},"service_tier":"standard_only","#,
        r#""tool_choice":{"type":"any","disable_parallel_tool_use":true},"temperature":0.70,"top_k":5,"#,
        r#""stop_sequences":["a","b"],"output_config":{"format":{"type":"json_schema","schema":{"type":"object"}}}"#
    ));
    let prompt = decoded(&body, &mut Losses::default());
    assert_eq!((prompt.thinking, prompt.hide_thinking), (Some(Thinking::Budget(2000)), true));
    assert!(matches!((prompt.choice, prompt.parallel), (Some(Choice::Any), Some(false))), "the choice");
    assert_eq!((prompt.tier, prompt.stop.len()), (Some(Tier::Standard), 2));
    assert_eq!(prompt.temperature.unwrap().as_str(), "0.70");
    assert!(matches!(prompt.output, Some(Output::Schema { .. })), "the schema");
}

#[test]
fn ec43_answers_come_first_and_belong_together() {
    let body = r#"{"model":"m","messages":[{"role":"assistant","content":[
        {"type":"tool_use","id":"a","name":"f","input":{}},{"type":"tool_use","id":"b","name":"f","input":{}}]},
        {"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":"1"}]},
        {"role":"user","content":[{"type":"text","text":"and"},{"type":"tool_result","tool_use_id":"b"}]},
        {"role":"user","content":"more"}]}"#;
    let prompt = decoded(body, &mut Losses::default());
    let kinds: Vec<bool> =
        prompt.turns[1].blocks.iter().map(|b| matches!(b.kind, BlockKind::ToolResult { .. })).collect();
    assert_eq!((prompt.turns.len(), kinds), (2, vec![true, true, false, false]));
}

#[test]
fn leading_system_messages_follow_system() {
    let body = r#"{"messages":[{"role":"system","content":"b"},{"role":"user","content":"Q"}],"system":"a"}"#;
    let prompt = decoded(body, &mut Losses::default());
    assert_eq!((prompt.system.len(), prompt.turns.len()), (2, 1));
}

#[test]
fn a_cleared_instruction_is_shown_for_its_turn_only() {
    let shown = |messages: &str| {
        let body = format!(r#"{{"messages":[{{"role":"user","content":"a"}},{messages}]}}"#);
        let mut losses = Losses::default();
        let roles: Vec<Role> = decoded(&body, &mut losses).turns.iter().map(|turn| turn.role).collect();
        assert!(losses.is_empty(), "it means what it says");
        roles
    };
    let (passing, lasting) = (
        r#"{"role":"system","content":"S","clear_at":"next_user_message"}"#,
        r#"{"role":"system","content":"S","clear_at":"never"}"#,
    );
    let rest = r#"{"role":"assistant","content":"b"},{"role":"user","content":"c"}"#;
    assert_eq!(shown(passing), [Role::User, Role::System]);
    assert_eq!(shown(&format!("{passing},{rest}")), [Role::User, Role::Assistant, Role::User]);
    assert_eq!(shown(&format!("{lasting},{rest}")), [Role::User, Role::System, Role::Assistant, Role::User]);
}

#[test]
fn what_only_anthropic_knows_stays_raw() {
    let body = r#"{"messages":[{"role":"user","content":[{"type":"container_upload","file_id":"f"},
        {"type":"document","source":{"type":"content","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}},
        {"type":"image","source":{"type":"future","x":1}}]}],
        "tools":[{"type":"web_search_20250305","name":"web_search"},{"type":"custom","name":"f"}]}"#;
    let prompt = decoded(body, &mut Losses::default());
    let [upload, document, image] = prompt.turns[0].blocks.as_slice() else { panic!("three blocks") };
    assert!(matches!(&upload.kind, BlockKind::Foreign { json, .. } if json.as_str().contains("\"f\"")), "raw");
    assert!(matches!(&image.kind, BlockKind::Foreign { .. }), "an unknown source");
    let BlockKind::Document { source: Source::Text(text), .. } = &document.kind else { panic!("text") };
    assert_eq!(text.decode(), "a\n\nb");
    assert!(matches!(prompt.tools.as_slice(), [Tool::Foreign { .. }, Tool::Function(_)]), "tools");
    let refused = (CODEC.decode_request)(
        r#"{"messages":[{"role":"user","content":[{"type":"thinking"}]}]}"#,
        &mut Losses::default(),
    );
    assert!(refused.is_err(), "thinking is the assistant's");
}

#[test]
fn ec1_there_is_always_a_length() {
    check(&asking(""), nothing, &format!(r#""max_tokens":4096,{Q}"#), "");
    check(&asking(""), |_, c| c.max_output_tokens = Some(8192), &format!(r#""max_tokens":8192,{Q}"#), "");
    let ours = |_: &mut Prompt<'_>, c: &mut Capabilities| {
        (c.default_max_tokens, c.max_output_tokens) = (Some(9000), Some(8192));
    };
    check(&asking(""), ours, &format!(r#""max_tokens":8192,{Q}"#), "");
    check(&asking(r#""max_tokens":99999"#), ours, &format!(r#""max_tokens":8192,{Q}"#), "max_tokens");
    refused(&asking(r#""max_tokens":0"#), nothing, "max_tokens", "at least 1");
}

#[test]
fn ec3_ec4_sampling_is_what_the_model_takes() {
    let hot = asking(r#""temperature":1.7,"top_p":0.90"#);
    let head = r#""max_tokens":4096,"#;
    check(&hot, nothing, &format!(r#"{head}"temperature":1,"top_p":0.90,{Q}"#), "temperature");
    check(&hot, |_, c| c.sampling = false, &format!("{head}{Q}"), "temperature, top_p");
    let cool = asking(r#""temperature":0.20,"top_p":0.9"#);
    check(&cool, |_, c| c.temperature_and_top_p = false, &format!(r#"{head}"temperature":0.20,{Q}"#), "top_p");
    refused(&asking(r#""temperature":2.5"#), nothing, "temperature", "between 0 and 2");
    refused(&asking(r#""temperature":1e400"#), nothing, "temperature", "between 0 and 2");
}

#[test]
fn ec5_blank_stop_sequences_are_dropped() {
    let head = r#""max_tokens":4096,"#;
    let body = asking(r#""stop_sequences":["\n","X"]"#);
    check(&body, nothing, &format!(r#"{head}"stop_sequences":["X"],{Q}"#), "stop");
    check(&body, |_, c| c.stop = false, &format!("{head}{Q}"), "stop");
    check(&asking(r#""stop_sequences":[]"#), nothing, &format!("{head}{Q}"), "");
}

#[test]
fn ec6_ec46_instructions_keep_their_boundaries() {
    let head = r#""max_tokens":4096,"#;
    check(&asking(r#""system":"S\u00e9""#), nothing, &format!(r#"{head}"system":"S\u00e9",{Q}"#), "");
    let two = asking(r#""system":[{"type":"text","text":"a"},{"type":"text","text":" "},{"type":"text","text":"b"}]"#);
    let expect = r#""system":[{"type":"text","text":"a"},{"type":"text","text":"b"}],"#;
    check(&two, nothing, &format!("{head}{expect}{Q}"), "system[1]");
}

#[test]
fn ec7_later_instructions_stay_where_they_are() {
    let inputs = concat!(
        r#"{"role":"user","content":"a"},{"role":"system","content":"S"},{"role":"user","content":"b"},"#,
        r#"{"role":"assistant","content":"c"},{"role":"user","content":"d"},{"role":"system","content":"T"}"#
    );
    messages(
        inputs,
        |_, c| c.inline_system = true,
        concat!(
            r#"{"role":"user","content":"a"},{"role":"user","content":"b"},"#,
            r#"{"role":"system","content":[{"type":"text","text":"S"}]},{"role":"assistant","content":"c"},"#,
            r#"{"role":"user","content":"d"},{"role":"system","content":[{"type":"text","text":"T"}]}"#
        ),
    );
    messages(
        inputs,
        nothing,
        concat!(
            r#"{"role":"user","content":"a"},"#,
            r#"{"role":"user","content":[{"type":"text","text":"<system>\nS\n</system>"}]},"#,
            r#"{"role":"user","content":"b"},{"role":"assistant","content":"c"},{"role":"user","content":"d"},"#,
            r#"{"role":"user","content":[{"type":"text","text":"<system>\nT\n</system>"}]}"#
        ),
    );
}

#[test]
fn ec7_nothing_comes_between_a_call_and_its_answer() {
    let inputs = concat!(
        r#"{"role":"assistant","content":[{"type":"tool_use","id":"i","name":"f","input":{}}]},"#,
        r#"{"role":"system","content":"S"},"#,
        r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"i","content":"1"}]}"#
    );
    let call = r#"{"role":"assistant","content":[{"type":"tool_use","id":"i","name":"f","input":{}}]},"#;
    let answer = r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"i","content":"1"}]},"#;
    let said = r#"{"role":"user","content":[{"type":"text","text":"<system>\nS\n</system>"}]}"#;
    messages(inputs, nothing, &format!("{call}{answer}{said}"));
    let said = r#"{"role":"system","content":[{"type":"text","text":"S"}]}"#;
    messages(inputs, |_, c| c.inline_system = true, &format!("{call}{answer}{said}"));
}

#[test]
fn ec8_instructions_alone_are_no_request() {
    let mut losses = Losses::default();
    let refusal = (CODEC.decode_request)(r#"{"system":"S","messages":[]}"#, &mut losses).unwrap_err();
    assert!(refusal.message.contains("at least one message"), "{refusal}");
    refused(&asking(""), |p, _| p.turns[0].role = Role::System, "messages", "at least one user message");
}

#[test]
fn ec9_ec10_empty_messages() {
    let body = r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":" "}]}"#;
    refused(body, nothing, "messages[2]", "must not be empty");
    let inputs = concat!(
        r#"{"role":"user","content":"a"},{"role":"assistant","content":"  \n"},{"role":"user","content":"b"},"#,
        r#"{"role":"assistant","content":""}"#
    );
    messages(inputs, nothing, r#"{"role":"user","content":"a"},{"role":"user","content":"b"}"#);
}

/// One call in history whose arguments are text, and its answer.
fn with_arguments(arguments: &str) -> Result<String, (String, String)> {
    let body = concat!(
        r#"{"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"i","name":"f","input":{}}]},"#,
        r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"i"}]}]}"#
    );
    let literal = JsonStr::quoted(arguments);
    let change = |prompt: &mut Prompt<'_>, _: &mut Capabilities| {
        if let BlockKind::ToolUse { input, .. } = &mut prompt.turns[0].blocks[0].kind {
            *input = Args::Text(literal);
        }
    };
    let (got, ..) = encoded(body, change)?;
    let (_, input) = got.split_once("\"input\":").unwrap();
    Ok(input.split_once(r#"}]},{"role":"user""#).unwrap().0.to_owned())
}

#[test]
fn ec11_to_ec14_arguments_become_input() {
    for (arguments, input) in [
        ("", "{}"),
        (" \n", "{}"),
        (r#"{"b":1,"a":[1e400,12345678901234567890123]}"#, r#"{"b":1,"a":[1e400,12345678901234567890123]}"#),
        (r#"{"a":"\ud800","a":2}"#, r#"{"a":"\ud800","a":2}"#),
    ] {
        assert_eq!(with_arguments(arguments).as_deref(), Ok(input), "{arguments}");
    }
    for (arguments, says) in [(r#"{"a":1"#, "not valid JSON"), ("[1,2]", "must be an object"), ("{} x", "not valid")] {
        let (path, message) = with_arguments(arguments).unwrap_err();
        assert!(path == "messages[0].content[0]" && message.contains(says), "{path}: {message}");
    }
}

#[test]
fn ec15_to_ec20_calls_and_their_answers() {
    let call = r#"{"role":"assistant","content":[{"type":"tool_use","id":"i","name":"f","input":{}}]}"#;
    let body = format!(r#"{{"messages":[{call},{{"role":"user","content":"no"}}]}}"#);
    refused(&body, nothing, "messages[0].content[0]", "has no result");
    let body = format!(r#"{{"messages":[{{"role":"user","content":"Q"}},{call}]}}"#);
    refused(&body, nothing, "messages[1].content[0]", "has no result");
    let orphan = r#"{"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"i"}]}]}"#;
    refused(orphan, nothing, "messages[0].content[0]", "unexpected tool result");
    let twice = concat!(
        r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"i","content":"1"},"#,
        r#"{"type":"tool_result","tool_use_id":"i","content":[{"type":"text","text":"{\"error\":1}"},{"type":"text","text":"b"}]},"#,
        r#"{"type":"text","text":"t"}]}"#
    );
    messages(
        &format!("{call},{twice}"),
        nothing,
        concat!(
            r#"{"role":"assistant","content":[{"type":"tool_use","id":"i","name":"f","input":{}}]},"#,
            r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"i","content":[{"type":"text","text":"{\"error\":1}"},{"type":"text","text":"b"}]},"#,
            r#"{"type":"text","text":"t"}]}"#
        ),
    );
    let empty = r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"i","content":[{"type":"text","text":" "}],"is_error":true}]}"#;
    messages(
        &format!("{call},{empty}"),
        nothing,
        &format!(r#"{call},{{"role":"user","content":[{{"type":"tool_result","tool_use_id":"i","is_error":true}}]}}"#),
    );
}

#[test]
fn ec21_ids_agree_on_both_sides() {
    let inputs = concat!(
        r#"{"role":"assistant","content":[{"type":"tool_use","id":"a.b","name":"f","input":{}},{"type":"tool_use","id":"a:b","name":"f","input":{}}]},"#,
        r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"a:b"},{"type":"tool_result","tool_use_id":"a.b"}]}"#
    );
    messages(inputs, nothing, &inputs.replace("a.b", "toolu_mp_mexge").replace("a:b", "toolu_mp_me5ge"));
}

#[test]
fn ec22_to_ec25_pictures_and_documents() {
    let block = |source: &str, kind: &str| {
        let inputs = format!(r#"{{"role":"user","content":[{{"type":"{kind}","source":{source}}}]}}"#);
        encoded(&format!(r#"{{"messages":[{inputs}]}}"#), nothing)
            .map(|(got, ..)| got.split_once(r#""content":["#).unwrap().1.strip_suffix("]}]}").unwrap().to_owned())
    };
    let base64 = |media: &str, data: &str| format!(r#"{{"type":"base64","media_type":"{media}","data":"{data}"}}"#);
    for (media, data, kind, media_out, data_out) in [
        ("image/jpg", "/9j/AAAA", "image", "image/jpeg", "/9j/AAAA"),
        ("", "iVBORw0K", "image", "image/png", "iVBORw0K"),
        ("image/png", "iVBO\\nRw", "image", "image/png", "iVBORw=="),
        ("IMAGE/GIF; x=y", "a-_b", "image", "image/gif", "a+/b"),
        ("application/pdf", "JVBERi0x", "document", "application/pdf", "JVBERi0x"),
    ] {
        let expect = format!(r#"{{"type":"{kind}","source":{}}}"#, base64(media_out, data_out));
        assert_eq!(block(&base64(media, data), "image"), Ok(expect), "{media}");
    }
    let url = r#"{"type":"url","url":"https://e.x/a.PDF?b"}"#;
    assert_eq!(block(url, "image"), Ok(format!(r#"{{"type":"document","source":{url}}}"#)));
    let text = r#"{"type":"document","source":{"type":"text","media_type":"text/plain","data":"hi\n"}}"#;
    assert_eq!(block(&base64("text/markdown", "aGkK"), "document").as_deref(), Ok(text));
    assert!(block(&base64("image/svg+xml", "AAAA"), "image").unwrap_err().1.contains("svg"), "refused");
    assert!(block(&base64("image/png", "é"), "image").unwrap_err().1.contains("not base64"), "refused");
    assert!(block(r#"{"type":"file","file_id":"f"}"#, "document").unwrap_err().1.contains("another vendor"), "refused");
    let refusal = encoded(&asking(""), |p, c| {
        p.turns[0].blocks[0].kind = BlockKind::Image(Source::Url(JsonStr::quote("u")));
        c.images = false;
    });
    assert!(refusal.unwrap_err().1.contains("takes no images"), "refused");
}

const TOOLS: &str = r#""tools":[{"name":"f","input_schema":{"type":"object"}}]"#;
const TOOLS_OUT: &str = r#""tools":[{"name":"f","input_schema":{"type":"object"}}],"#;

#[test]
fn ec27_ec28_ec51_the_choice_needs_tools() {
    let head = r#""max_tokens":4096,"#;
    check(&asking(r#""tools":[],"tool_choice":{"type":"auto"}"#), nothing, &format!("{head}{Q}"), "");
    check(
        &asking(TOOLS),
        |p, _| p.parallel = Some(false),
        &format!(r#"{head}{TOOLS_OUT}"tool_choice":{{"type":"auto","disable_parallel_tool_use":true}},{Q}"#),
        "",
    );
    check(
        &asking(TOOLS),
        |p, _| (p.choice, p.parallel) = (Some(Choice::None), Some(false)),
        &format!(r#"{head}{TOOLS_OUT}"tool_choice":{{"type":"none"}},{Q}"#),
        "",
    );
    check(
        &asking(TOOLS),
        |p, _| p.choice = Some(Choice::Tool(JsonStr::quote("f"))),
        &format!(r#"{head}{TOOLS_OUT}"tool_choice":{{"type":"tool","name":"f"}},{Q}"#),
        "",
    );
    refused(&asking(""), |p, _| p.choice = Some(Choice::Any), "tool_choice", "no tools");
}

fn budgets(c: &mut Capabilities) {
    c.thinking = ThinkingModes { adaptive: false, enabled: true, disabled: true };
}

fn levels(c: &mut Capabilities) {
    c.thinking = ThinkingModes { adaptive: true, enabled: false, disabled: true };
    c.effort = vec![Effort::Low, Effort::Medium, Effort::High, Effort::Max];
}

#[test]
fn ec29_forced_calls_and_thinking() {
    let forced = |p: &mut Prompt<'_>| (p.choice, p.effort) = (Some(Choice::Any), Some(Effort::High));
    let head = r#""max_tokens":4096,"#;
    let any = r#""tool_choice":{"type":"any"},"#;
    check(&asking(TOOLS), |p, c| (forced(p), budgets(c)).0, &format!("{head}{TOOLS_OUT}{any}{Q}"), "reasoning_effort");
    check(
        &asking(TOOLS),
        |p, c| (forced(p), levels(c)).0,
        &format!(r#"{head}"thinking":{{"type":"adaptive"}},"output_config":{{"effort":"high"}},{TOOLS_OUT}{any}{Q}"#),
        "",
    );
    refused(&asking(TOOLS), |p, c| (forced(p), c.forced_tool_choice = false).0, "tool_choice", "cannot be forced");
}

#[test]
fn ec30_the_budget_stays_below_the_length() {
    let with = |tokens: &str, effort: Effort, expect: &str, lost: &str| {
        check(&asking(tokens), |p, c| (p.effort = Some(effort), budgets(c)).0, &format!("{expect}{Q}"), lost);
    };
    let budget =
        |max: u64, n: u64| format!(r#""max_tokens":{max},"thinking":{{"type":"enabled","budget_tokens":{n}}},"#);
    with(r#""max_tokens":4000"#, Effort::High, &budget(4000, 3999), "reasoning_effort");
    with(r#""max_tokens":800"#, Effort::High, r#""max_tokens":800,"#, "reasoning_effort");
    with(r#""max_tokens":9000"#, Effort::Low, &budget(9000, 2048), "");
    with("", Effort::High, &budget(20_480, 16_384), "");
    with(r#""temperature":0.3"#, Effort::Minimal, &budget(4096, 1024), "temperature");
}

#[test]
fn ec31_effort_is_never_more_than_asked() {
    let effort = |asked: Effort, sent: &str, lost: &str| {
        check(
            &asking(""),
            |p, c| (p.effort = Some(asked), levels(c)).0,
            &format!(r#""max_tokens":4096,"thinking":{{"type":"adaptive"}},"output_config":{{"effort":"{sent}"}},{Q}"#),
            lost,
        );
    };
    effort(Effort::Xhigh, "high", "reasoning_effort");
    effort(Effort::Minimal, "low", "reasoning_effort");
    effort(Effort::Max, "max", "");
    check(
        &asking(""),
        |p, c| (p.effort = Some(Effort::None), levels(c)).0,
        &format!(r#""max_tokens":4096,"thinking":{{"type":"disabled"}},"output_config":{{"effort":"low"}},{Q}"#),
        "",
    );
    check(&asking(""), |p, _| p.effort = Some(Effort::High), &format!(r#""max_tokens":4096,{Q}"#), "reasoning_effort");
    check(
        &asking(""),
        |p, c| (p.effort = Some(Effort::None), c.reasoning_default_on = true).0,
        &format!(r#""max_tokens":4096,{Q}"#),
        "reasoning_effort",
    );
    check(
        &asking(r#""thinking":{"type":"enabled","budget_tokens":30000}"#),
        |_, c| levels(c),
        &format!(r#""max_tokens":4096,"thinking":{{"type":"adaptive"}},"output_config":{{"effort":"high"}},{Q}"#),
        "reasoning_effort",
    );
}

#[test]
fn ec32_schemas_become_objects_and_keep_their_order() {
    for (schema, sent) in [
        ("null", r#"{"type":"object","properties":{}}"#),
        ("{}", r#"{"type":"object","properties":{}}"#),
        (r##"{"$schema":"s","$defs":{"z":1,"a":2}}"##, r##"{"type":"object","$schema":"s","$defs":{"z":1,"a":2}}"##),
        (r#"{"properties":{},"type":"object"}"#, r#"{"properties":{},"type":"object"}"#),
    ] {
        let body = asking(&format!(r#""tools":[{{"name":"f","description":"","input_schema":{schema}}}]"#));
        check(&body, nothing, &format!(r#""max_tokens":4096,"tools":[{{"name":"f","input_schema":{sent}}}],{Q}"#), "");
    }
    for (schema, says) in
        [("[]", "must be an object"), (r##"{"$ref":"#/a"}"##, "$ref"), (r#"{"type":"array"}"#, "`object`")]
    {
        let body = asking(&format!(r#""tools":[{{"name":"f","input_schema":{schema}}}]"#));
        refused(&body, nothing, "tools[0]", says);
    }
    let twice = asking(r#""tools":[{"name":"f"},{"name":"f"}]"#);
    refused(&twice, nothing, "tools[1]", "two tools");
    refused(&asking(r#""tools":[{"type":"web_search_20250305","name":"w"}]"#), nothing, "tools[0]", "web_search");
}

#[test]
fn an_effort_that_is_not_sent_is_named() {
    let body = asking(r#""thinking":{"type":"adaptive"},"output_config":{"effort":"high"}"#);
    let adaptive = |_: &mut Prompt<'_>, c: &mut Capabilities| c.thinking.adaptive = true;
    check(&body, adaptive, &format!(r#""max_tokens":4096,"thinking":{{"type":"adaptive"}},{Q}"#), "reasoning_effort");
}

#[test]
fn the_answers_tool_has_a_name_of_its_own() {
    let body = asking(r#""tools":[{"name":"shape"}]"#);
    let (got, memory, _) = encoded(&body, |p, c| (schema(p), c.structured_outputs = false).0).unwrap();
    let name = memory.unwrap_tool.unwrap();
    assert!(name != "shape" && got.contains(&format!("\"name\":\"{name}\"")), "{got}");
}

fn schema(p: &mut Prompt<'_>) {
    let schema = Json::raw(r#"{"type":"object","properties":{"n":{"type":"integer","minimum":1}}}"#);
    p.output =
        Some(Output::Schema { name: Some(JsonStr::quote("shape")), description: None, schema, strict: Some(true) });
}

#[test]
fn ec33_ec34_the_answers_shape() {
    check(
        &asking(""),
        |p, _| schema(p),
        &format!(
            r#""max_tokens":4096,"output_config":{{"format":{{"type":"json_schema","schema":{{"type":"object","properties":{{"n":{{"description":"{{minimum: 1}}","type":"integer"}}}},"additionalProperties":false}}}}}},{Q}"#
        ),
        "response_format",
    );
    let old = |p: &mut Prompt<'_>, c: &mut Capabilities| (schema(p), c.structured_outputs = false).0;
    let (got, memory, lost) = encoded(&asking(""), old).unwrap();
    assert_eq!((memory.unwrap_tool.as_deref(), lost.as_str()), (Some("shape"), "response_format"));
    assert!(got.contains(r#""tool_choice":{"type":"tool","name":"shape","disable_parallel_tool_use":true}"#), "{got}");
    let (got, ..) = encoded(&asking(TOOLS), old).unwrap();
    assert!(got.contains(r#""tool_choice":{"type":"any","disable_parallel_tool_use":true}"#), "{got}");
    refused(&asking(""), |p, c| (old(p, c), c.forced_tool_choice = false).0, "response_format", "by a schema");
    let (got, _, lost) = encoded(&asking(r#""system":"S""#), |p, _| p.output = Some(Output::Json)).unwrap();
    assert!(lost == "response_format" && got.contains("single JSON object") && got.contains("\"S\""), "{got}");
}

#[test]
fn ec35_who_the_user_is() {
    let user = |user: &str, sent: &str, lost: &str| {
        let body = asking(&format!(r#""metadata":{{"user_id":"{user}"}}"#));
        check(&body, nothing, &format!(r#""max_tokens":4096,{sent}{Q}"#), lost);
    };
    user("u-1", r#""metadata":{"user_id":"u-1"},"#, "");
    user("a@b.c", "", "metadata.user_id");
    user("{\\\"mail\\\":\\\"x.y@corp.example\\\"}", "", "metadata.user_id");
    user("@handle", r#""metadata":{"user_id":"@handle"},"#, "");
    let (got, ..) = encoded(&asking(&format!(r#""metadata":{{"user_id":"{}"}}"#, "x".repeat(300))), nothing).unwrap();
    assert!(!got.contains("xxx"), "hashed: {got}");
}

#[test]
fn ec36_tool_names_are_restored() {
    let body = asking(r#""tools":[{"name":"a.b"}],"tool_choice":{"type":"tool","name":"a.b"}"#);
    let (got, memory, _) = encoded(&body, nothing).unwrap();
    let [(sent, client)] = memory.names.as_slice() else { panic!("one name") };
    assert_eq!((client.as_str(), got.matches(sent.as_str()).count()), ("a.b", 2));
}

#[test]
fn ec37_tools_are_made_up_from_history() {
    let inputs = concat!(
        r#"{"role":"assistant","content":[{"type":"tool_use","id":"i","name":"f","input":{}}]},"#,
        r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"i"}]}"#
    );
    check(
        &format!(r#"{{"messages":[{inputs}]}}"#),
        nothing,
        &format!(
            r#""max_tokens":4096,"tools":[{{"name":"f","input_schema":{{"type":"object"}}}}],"tool_choice":{{"type":"none"}},"messages":[{inputs}]}}"#
        ),
        "tools",
    );
}

#[test]
fn ec38_only_signed_thinking_goes_back() {
    let turn = |signature: &str| {
        format!(
            r#"{{"role":"user","content":"Q"}},{{"role":"assistant","content":[{{"type":"thinking","thinking":"t","signature":"{signature}"}},{{"type":"text","text":"a"}}]}},{{"role":"user","content":"b"}}"#
        )
    };
    messages(&turn("EqMB"), nothing, &turn("EqMB"));
    for ours in ["", "mp1.abc"] {
        messages(
            &turn(ours),
            nothing,
            r#"{"role":"user","content":"Q"},{"role":"assistant","content":[{"type":"text","text":"a"}]},{"role":"user","content":"b"}"#,
        );
    }
    let lost = concat!(
        r#"{"max_tokens":9000,"tools":[{"name":"f"}],"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"i","name":"f","input":{}}]},"#,
        r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"i"}]}]}"#
    );
    let (got, _, header) = encoded(lost, |p, c| (p.effort = Some(Effort::High), budgets(c)).0).unwrap();
    assert!(!got.contains("thinking") && header == "reasoning_effort", "{got}");
}

#[test]
fn the_beginning_of_an_answer() {
    let inputs = r#"{"role":"user","content":"Q"},{"role":"assistant","content":"The answer: \n "}"#;
    messages(inputs, nothing, r#"{"role":"user","content":"Q"},{"role":"assistant","content":"The answer:"}"#);
    let body = format!(r#"{{"messages":[{inputs}]}}"#);
    refused(&body, |_, c| c.prefill = false, "messages[1]", "does not support continuing");
}

#[test]
fn the_last_four_cache_breakpoints_are_kept() {
    let block = |n: u8| format!(r#"{{"type":"text","text":"{n}","cache_control":{{"type":"ephemeral","ttl":"1h"}}}}"#);
    let blocks: Vec<String> = (0..6).map(block).collect();
    let body = format!(r#"{{"messages":[{{"role":"user","content":[{}]}}]}}"#, blocks.join(","));
    let (got, _, lost) = encoded(&body, nothing).unwrap();
    assert_eq!(
        (got.matches("cache_control").count(), lost.as_str()),
        (4, "messages[0].content[0], messages[0].content[1]")
    );
    assert!(got.contains(r#""text":"5","cache_control":{"type":"ephemeral","ttl":"1h"}"#), "{got}");
}

#[test]
fn another_formats_content_is_refused_where_it_stands() {
    let body = r#"{"messages":[{"role":"user","content":[{"type":"input_audio","x":1}]}]}"#;
    refused(body, nothing, "messages[0].content[0]", "input_audio");
    let (got, ..) = encoded(body, |p, _| p.from = Format::Anthropic).unwrap();
    assert!(got.contains(r#"[{"type":"input_audio","x":1}]"#), "{got}");
}

#[test]
fn dropped_parameters_are_never_sent() {
    let body = asking(r#""top_k":3,"service_tier":"auto""#);
    let mut losses = Losses::default();
    let prompt = decoded(&body, &mut losses);
    let quirks = Quirks { drop_params: vec!["top_k".to_owned()], ..Quirks::default() };
    let capabilities = Capabilities::default();
    let mut out = Vec::new();
    let target = Target { model: "up", capabilities: &capabilities, quirks: &quirks };
    (CODEC.encode_request)(&prompt, &target, &mut out, &mut losses).unwrap();
    let got = String::from_utf8(out).unwrap();
    assert!(!got.contains("top_k") && got.contains("service_tier"), "{got}");
    assert_eq!(losses.header(&body), "top_k");
}

#[test]
fn any_text_is_a_prompt_or_a_refusal() {
    let body = r#"{"model":"m","messages":[{"role":"assistant","content":[{"type":"tool_use","id":"i","name":"f","input":{"a":1}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"i","content":[{"type":"image","source":{"type":"url","url":"u"}}]}]}],"tools":[{"name":"f"}],"thinking":{"type":"adaptive"}}"#;
    for at in 0..body.len() {
        let (start, rest) = body.split_at(at);
        for text in [start.to_owned(), format!("{start}{}", rest.get(1..).unwrap()), format!("{start}7{rest}")] {
            let mut losses = Losses::default();
            if let Ok(prompt) = (CODEC.decode_request)(&text, &mut losses) {
                let (capabilities, quirks) = (Capabilities::default(), Quirks::default());
                let target = Target { model: "up", capabilities: &capabilities, quirks: &quirks };
                let mut out = Vec::new();
                let _refused = (CODEC.encode_request)(&prompt, &target, &mut out, &mut losses).is_err();
            }
        }
    }
}
