//! Requests, named by the edge cases of CONVERSION 14.

use super::encoded;
use crate::wire::caps::{Capabilities, MaxTokensField, Quirks, ReasoningReplay, SystemRole, ToolId};
use crate::wire::json::{Json, JsonStr};
use crate::wire::loss::{Fate, Losses};
use crate::wire::openai_chat::CODEC;
use crate::wire::openai_chat::fields::REQUEST;
use crate::wire::prompt::{
    Args, Block, BlockKind, Cache, Choice, Effort, Function, Output, Prompt, Role, Source, Thinking, Tool, Turn,
};
use crate::wire::{Format, Memory, Target};

const USER: &str = r#"{"role":"user","content":"u"}"#;

/// A request of these messages and further fields.
fn body(messages: &str, more: &str) -> String {
    format!(r#"{{"model":"m","messages":[{messages}]{more}}}"#)
}

/// What a prompt says, short.
fn sketch(prompt: &Prompt<'_>) -> String {
    let system: Vec<_> = prompt.system.iter().map(block).collect();
    let turns = prompt.turns.iter().map(|turn| {
        let blocks: Vec<_> = turn.blocks.iter().map(block).collect();
        format!(" {:?}[{}]", turn.role, blocks.join(" "))
    });
    format!("[{}]{}", system.join(" "), turns.collect::<String>())
}

fn block(block: &Block<'_>) -> String {
    let cache = if block.cache.is_some() { "*" } else { "" };
    let text = match &block.kind {
        BlockKind::Text(text) => format!("'{}'", text.decode()),
        BlockKind::Image(source) => format!("image:{}", self::source(source)),
        BlockKind::Document { source, title, .. } => {
            format!("file:{}:{}", title.as_ref().map_or("", JsonStr::literal), self::source(source))
        }
        BlockKind::ToolUse { id, name, input } => format!("call:{}:{}:{}", id.decode(), name.decode(), args(input)),
        BlockKind::ToolResult { id, content, is_error } => {
            let content: Vec<_> = content.iter().map(self::block).collect();
            format!("result{}:{}({})", if *is_error { "!" } else { "" }, id.decode(), content.join(" "))
        }
        BlockKind::Thinking { text, signature } => {
            format!("think:{}:{}", text.decode(), signature.as_ref().map_or("-", JsonStr::literal))
        }
        BlockKind::RedactedThinking { data } => format!("redacted:{}", data.decode()),
        BlockKind::Refusal(text) => format!("refusal:{}", text.decode()),
        BlockKind::Foreign { kind, .. } => format!("foreign:{}", kind.decode()),
    };
    text + cache
}

fn args(args: &Args<'_>) -> String {
    match args {
        Args::Json(json) => json.as_str().to_owned(),
        Args::Text(text) => text.decode().into_owned(),
    }
}

fn source(source: &Source<'_>) -> String {
    match source {
        Source::Base64 { media_type, data } => format!("{},{}", media_type.literal(), data.literal()),
        Source::Url(url) => url.decode().into_owned(),
        Source::Text(text) => format!("text,{}", text.decode()),
        Source::File(id) => format!("id,{}", id.decode()),
    }
}

/// Checks what messages are read as; or, after `!`, where and why they are refused.
#[track_caller]
fn check(messages: &str, expect: &str) {
    let body = body(messages, "");
    let mut losses = Losses::default();
    let got = match (CODEC.decode_request)(&body, &mut losses) {
        Ok(prompt) => sketch(&prompt),
        Err(refusal) => format!("!{}: {}", refusal.place.path(&body), refusal.message),
    };
    if let Some(why) = expect.strip_prefix('!') {
        assert!(got.starts_with('!') && got.contains(why), "{got}");
        return;
    }
    assert_eq!(got, expect);
}

#[test]
fn ec6_leading_instructions_are_the_system() {
    check(
        r#"{"role":"system","content":"a"},{"role":"developer","content":[{"type":"text","text":"b"}]},{"role":"user","content":"u"}"#,
        "['a' 'b'] User['u']",
    );
}

#[test]
fn ec7_later_instructions_stay_where_they_are() {
    check(
        r#"{"role":"user","content":"u"},{"role":"developer","content":"d"},{"role":"assistant","content":"a"}"#,
        "[] User['u'] System['d'] Assistant['a']",
    );
}

#[test]
fn ec9_assistants_that_only_call_have_no_text() {
    check(
        r#"{"role":"assistant","content":"","tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]}"#,
        "[] Assistant[call:1:f:{}]",
    );
}

#[test]
fn ec11_to_14_arguments_must_spell_an_object() {
    let call =
        |args: &str| format!(r#"{{"role":"assistant","tool_calls":[{{"id":"1","function":{{"name":"f"{args}}}}}]}}"#);
    check(&call(r#","arguments":"""#), "[] Assistant[call:1:f:{}]");
    check(&call(r#","arguments":" \n""#), "[] Assistant[call:1:f:{}]");
    check(&call(""), "[] Assistant[call:1:f:{}]");
    check(&call(r#","arguments":{"a":1}"#), r#"[] Assistant[call:1:f:{"a":1}]"#);
    check(&call(r#","arguments":"{\"a\":1""#), "!messages[0].tool_calls[0].function.arguments: `arguments` is not");
    check(&call(r#","arguments":"[1,2]""#), "!messages[0].tool_calls[0].function.arguments: `arguments` must");
    let odd = r#"{"a":1e400,"a":"\ud800","b":12345678901234567890}"#;
    check(&call(&format!(r#","arguments":{}"#, quoted(odd))), &format!("[] Assistant[call:1:f:{odd}]"));
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", JsonStr::quote(text).literal())
}

fn calls(ids: &[&str]) -> String {
    let calls: Vec<_> = ids
        .iter()
        .map(|id| format!(r#"{{"id":"{id}","type":"function","function":{{"name":"f","arguments":"{{}}"}}}}"#))
        .collect();
    format!(r#"{{"role":"assistant","content":null,"tool_calls":[{}]}}"#, calls.join(","))
}

fn result(id: &str, content: &str) -> String {
    format!(r#"{{"role":"tool","tool_call_id":"{id}","content":{content}}}"#)
}

#[test]
fn ec15_16_answers_and_what_the_user_adds_are_one_turn() {
    let messages = [calls(&["1", "2"]), result("2", r#""b""#), result("1", r#""a""#), USER.to_owned()].join(",");
    check(&messages, "[] Assistant[call:1:f:{} call:2:f:{}] User[result:1('a') result:2('b') 'u']");
}

#[test]
fn ec17_an_answer_to_nothing_is_refused() {
    check(&[calls(&["1"]), result("9", r#""a""#)].join(","), "!messages[1]: `tool_call_id` `9` names no call");
    check(&result("1", r#""a""#), "!messages[0]: `tool_call_id`");
    let late = [calls(&["1"]), result("1", r#""a""#), USER.to_owned(), result("1", r#""b""#)].join(",");
    check(&late, "!messages[3]: `tool_call_id`");
}

#[test]
fn ec18_a_call_without_its_answer_is_refused() {
    check(&[calls(&["1"]), USER.to_owned()].join(","), "!messages[1]: the tool call `1` has no answer");
    let some = [calls(&["1", "2"]), result("1", r#""a""#)].join(",");
    check(&some, "!the tool call `2` has no answer");
    check(&[USER.to_owned(), calls(&["1"])].join(","), "[] User['u'] Assistant[call:1:f:{}]");
}

#[test]
fn ec19_20_answers_are_what_they_are() {
    let parts = r#"[{"type":"text","text":"a"},{"type":"text","text":"b"}]"#;
    check(&[calls(&["1"]), result("1", parts)].join(","), "[] Assistant[call:1:f:{}] User[result:1('a' 'b')]");
    check(&[calls(&["1"]), result("1", "[]")].join(","), "[] Assistant[call:1:f:{}] User[result:1()]");
    check(&[calls(&["1"]), result("1", r#""""#)].join(","), "[] Assistant[call:1:f:{}] User[result:1()]");
    let error = r#""{\"error\":1}""#;
    check(&[calls(&["1"]), result("1", error)].join(","), r#"[] Assistant[call:1:f:{}] User[result:1('{"error":1}')]"#);
}

#[test]
fn the_last_of_two_answers_counts() {
    let messages = [calls(&["1"]), result("1", r#""a""#), result("1", r#""b""#)].join(",");
    check(&messages, "[] Assistant[call:1:f:{}] User[result:1('b')]");
}

#[test]
fn calls_without_ids_are_answered_in_order() {
    let messages = [calls(&["", ""]), result("", r#""a""#), result("", r#""b""#)].join(",");
    check(
        &messages,
        "[] Assistant[call:call_mp_0_0:f:{} call:call_mp_0_1:f:{}] User[result:call_mp_0_0('a') result:call_mp_0_1('b')]",
    );
    let legacy = r#"{"role":"assistant","function_call":{"name":"f","arguments":"{}"}},{"role":"function","name":"f","content":"r"}"#;
    check(legacy, "[] Assistant[call:call_mp_0_0:f:{}] User[result:call_mp_0_0('r')]");
}

#[test]
fn ec22_23_24_images_in_every_spelling() {
    let image = |url: &str| format!(r#"{{"role":"user","content":[{{"type":"image_url","image_url":{url}}}]}}"#);
    let object = |url: &str| image(&format!(r#"{{"url":"{url}","detail":"high"}}"#));
    check(&object("data:image/jpg;base64,/9j/AAAA"), "[] User[image:image/jpeg,/9j/AAAA]");
    check(&object("DATA:Image/PNG;charset=utf-8;BASE64,AAAA"), "[] User[image:image/png,AAAA]");
    check(&object("data:;base64,iVBORw0KGgoA"), "[] User[image:image/png,iVBORw0KGgoA]");
    check(&object("data:image/png;base64,AAA"), "[] User[image:image/png,AAA=]");
    check(&object("data:image/png;base64,AA A\\nA"), "[] User[image:image/png,AAAA]");
    check(&object("data:image/png;base64,A-_A"), "[] User[image:image/png,A+/A]");
    check(&object("data:image\\/png;base64,A\\/AA"), "[] User[image:image/png,A/AA]");
    check(&object("data:image/svg+xml;base64,AAAA"), "!messages[0].content[0].image_url.url: an image must be");
    check(&object("data:image/png,AAAA"), "!messages[0].content[0].image_url.url: the data URL is not base64");
    check(&object("data:image/png;base64,A€AA"), "!messages[0].content[0].image_url.url: the data is not base64");
    check(&object("data:application/pdf;base64,AAAA"), "[] User[file::application/pdf,AAAA]");
    check(&image(r#""https://x/y.png""#), "[] User[image:https://x/y.png]");
    check(&object("https://x/y.PDF?z"), "[] User[file::https://x/y.PDF?z]");
}

#[test]
fn ec25_files_are_documents() {
    let file = |file: &str| format!(r#"{{"role":"user","content":[{{"type":"file","file":{file}}}]}}"#);
    check(
        &file(r#"{"filename":"a.pdf","file_data":"data:application/pdf;base64,JVBERi0="}"#),
        "[] User[file:a.pdf:application/pdf,JVBERi0=]",
    );
    check(&file(r#"{"file_data":"JVBERi0="}"#), "[] User[file::application/pdf,JVBERi0=]");
    check(&file(r#"{"file_data":"data:text/plain;base64,aGk="}"#), "[] User[file::text,hi]");
    check(&file(r#"{"file_id":"file-1"}"#), "[] User[file::id,file-1]");
}

#[test]
fn unknown_parts_are_kept_for_their_own_format() {
    check(r#"{"role":"user","content":[{"type":"input_audio","input_audio":{}}]}"#, "[] User[foreign:input_audio]");
}

#[test]
fn cache_marks_are_kept() {
    check(
        r#"{"role":"system","content":"s","cache_control":{"type":"ephemeral"}},{"role":"user","content":[{"type":"text","text":"u","cache_control":{"type":"ephemeral"}},"v"]}"#,
        "['s'*] User['u'* 'v']",
    );
}

#[test]
fn ec38_replayed_thinking_is_thinking() {
    let said = |more: &str| format!(r#"{USER},{{"role":"assistant","content":"a",{more}}}"#);
    check(&said(r#""reasoning_content":"t""#), "[] User['u'] Assistant[think:t:- 'a']");
    check(&said(r#""reasoning":"t","reasoning_content":"""#), "[] User['u'] Assistant[think:t:- 'a']");
    let detail = r#"{"type":"reasoning.text","text":"t","format":"anthropic-claude-v1","index":0"#;
    check(
        &said(&format!(r#""reasoning_content":"t","reasoning_details":[{detail},"signature":"s"}}]"#)),
        "[] User['u'] Assistant[think:t:s 'a']",
    );
    check(
        &said(&format!(
            r#""reasoning_details":[{detail}}},{detail},"signature":"s"}},{{"type":"reasoning.encrypted","data":"d","format":"anthropic-claude-v1"}}]"#
        )),
        "[] User['u'] Assistant[think:tt:s redacted:d 'a']",
    );
    check(
        &said(
            r#""reasoning":"t","reasoning_details":[{"type":"reasoning.text","signature":"s","format":"anthropic-claude-v1"}]"#,
        ),
        "[] User['u'] Assistant[think:t:s 'a']",
    );
    check(
        &said(r#""reasoning_details":[{"type":"reasoning.encrypted","data":"d","format":"openai-responses-v1"}]"#),
        "[] User['u'] Assistant['a']",
    );
}

/// Checks a field beside one user message: what was lost, or, after `!`, why it was refused.
#[track_caller]
fn check_field(more: &str, expect: &str) {
    let body = body(USER, more);
    let mut losses = Losses::default();
    let got = match (CODEC.decode_request)(&body, &mut losses) {
        Ok(_) => losses.header(&body),
        Err(refusal) => format!("!{}: {}", refusal.place.path(&body), refusal.message),
    };
    match expect.strip_prefix('!') {
        Some(why) => assert!(got.starts_with('!') && got.contains(why), "{got}"),
        None => assert_eq!(got, expect, "{more}"),
    }
}

#[test]
fn ec26_what_other_formats_lack_is_told_or_refused() {
    check_field(r#","n":2"#, "!n: ");
    check_field(r#","n":1,"logprobs":false,"logit_bias":{},"seed":null,"presence_penalty":0"#, "");
    check_field(r#","logprobs":true"#, "!logprobs: ");
    check_field(
        r#","logit_bias":{"1":2},"seed":1,"frequency_penalty":0.5,"wat":{}"#,
        "logit_bias, seed, frequency_penalty, wat",
    );
    check_field(r#","store":true,"metadata":{"a":"b"},"prompt_cache_key":"k","modalities":["text"]"#, "");
    check_field(r#","modalities":["text","audio"]"#, "!modalities: ");
    check_field(r#","temperature":2.5"#, "!temperature: ");
    check_field(r#","stream":true,"stream":false"#, "!`stream` stands twice");
}

#[test]
fn ec2_both_limits_must_agree() {
    check_field(r#","max_tokens":100,"max_completion_tokens":100"#, "");
    check_field(r#","max_tokens":100,"max_completion_tokens":99"#, "!max_tokens: ");
}

#[test]
fn null_is_absent_and_every_carried_field_is_read() {
    assert!(REQUEST.len() <= 64, "a bit for each");
    for field in REQUEST.iter().filter(|field| field.fate == Fate::Carry && field.name != "messages") {
        let value = match field.name {
            "model" => continue,
            "max_tokens" | "max_completion_tokens" | "temperature" | "top_p" | "top_k" => "1",
            "stream" | "parallel_tool_calls" => "true",
            "stream_options" => "{}",
            "tools" | "functions" => "[]",
            "reasoning_effort" => "\"low\"",
            "response_format" => r#"{"type":"text"}"#,
            _ => "\"auto\"",
        };
        check_field(&format!(r#","{}":{value}"#, field.name), "");
        check_field(&format!(r#","{}":null"#, field.name), "");
    }
}

#[test]
fn thinking_blocks_keep_their_text() {
    let history = r#"{"role":"user","content":"Q"},{"role":"assistant","content":"A",
        "thinking_blocks":[{"type":"thinking","thinking":"T","signature":"S"}]},{"role":"user","content":"Q"}"#;
    let body = format!(r#"{{"model":"m","messages":[{history}]}}"#);
    let prompt = (CODEC.decode_request)(&body, &mut Losses::default()).unwrap();
    let BlockKind::Thinking { text, signature: Some(signature) } = &prompt.turns[1].blocks[0].kind else {
        panic!("signed thinking")
    };
    assert!(text.is("T") && signature.is("S"), "one signature, one text");
}

#[test]
fn tools_and_choices_are_read() {
    let tools = r#","tools":[{"type":"function","function":{"name":"a"}},{"type":"function","function":{"name":"b","parameters":{"$defs":{},"type":"object"}}}]"#;
    let read = |more: &str| {
        let body = body(USER, more);
        let prompt = (CODEC.decode_request)(&body, &mut Losses::default()).unwrap();
        (prompt.tools.len(), format!("{:?}", prompt.choice), prompt.parallel, prompt.legacy_functions)
    };
    let choose = |choice: &str| read(&format!(r#"{tools},"tool_choice":{choice}"#));
    assert_eq!(choose(r#""any""#), (2, "Some(Any)".into(), None, false));
    assert_eq!(choose(r#""none""#), (2, "Some(None)".into(), None, false));
    let named = choose(r#"{"type":"function","function":{"name":"b"}}"#);
    assert!(named.1.contains("Tool(") && named.1.contains('b'), "{named:?}");
    let allowed = r#"{"type":"allowed_tools","allowed_tools":{"mode":"required","tools":[{"type":"function","function":{"name":"b"}}]}}"#;
    assert_eq!(choose(allowed), (1, "Some(Any)".into(), None, false));
    // EC27: what is about tools goes with them.
    let none = read(r#","tools":[],"tool_choice":"auto","parallel_tool_calls":true"#);
    assert_eq!(none, (0, "None".into(), None, false));
    let legacy = read(r#","functions":[{"name":"f"}],"function_call":"auto""#);
    assert_eq!(legacy, (1, "Some(Auto)".into(), Some(false), true));
    check_field(
        r#","tools":[{"type":"function","function":{"name":"a"}},{"type":"function","function":{"name":"a"}}]"#,
        "!tools[1].function: two tools",
    );
}

/// Writes a prompt for a route.
fn write(prompt: &Prompt<'_>, can: &Capabilities, quirks: &Quirks) -> Result<(String, Memory, String), String> {
    let mut losses = Losses::default();
    let mut out = Vec::new();
    let target = Target { model: "up", capabilities: can, quirks };
    let memory = (CODEC.encode_request)(prompt, &target, &mut out, &mut losses).map_err(|refusal| refusal.message)?;
    let lost: Vec<_> = losses.iter().map(|loss| loss.place.path("{}")).collect();
    Ok((String::from_utf8(out).unwrap(), memory, lost.join(",")))
}

fn prompt(turns: Vec<Turn<'static>>) -> Prompt<'static> {
    Prompt { model: JsonStr::quote("m"), turns, ..Prompt::new(Format::Anthropic) }
}

fn turn(role: Role, kinds: Vec<BlockKind<'static>>) -> Turn<'static> {
    Turn { role, blocks: kinds.into_iter().map(|kind| Block::new(kind, 0)).collect(), at: 0 }
}

/// An assistant turn of the two calls that the answers of these tests are for.
fn called() -> Turn<'static> {
    turn(Role::Assistant, vec![call("1"), call("2")])
}

/// That turn as it is written, and what follows it.
fn after_calls(rest: &str) -> String {
    let call =
        |id| format!(r#"{{"id":"{id}","type":"function","function":{{"name":"f","arguments":"{{\"a\": 1}}"}}}}"#);
    format!(r#"{{"role":"assistant","content":null,"tool_calls":[{},{}]}},{rest}"#, call("1"), call("2"))
}

fn text(text: &'static str) -> BlockKind<'static> {
    BlockKind::Text(JsonStr::quote(text))
}

fn call(id: &'static str) -> BlockKind<'static> {
    BlockKind::ToolUse {
        id: JsonStr::quote(id),
        name: JsonStr::quote("f"),
        input: Args::Json(Json::raw(r#"{"a": 1}"#)),
    }
}

fn answer(id: &'static str, content: Vec<BlockKind<'static>>) -> BlockKind<'static> {
    let content = content.into_iter().map(|kind| Block::new(kind, 0)).collect();
    BlockKind::ToolResult { id: JsonStr::quote(id), content, is_error: false }
}

fn picture() -> BlockKind<'static> {
    BlockKind::Image(Source::Base64 { media_type: JsonStr::quote("image/png"), data: JsonStr::quote("AAAA") })
}

/// Checks the messages written of turns for a provider.
#[track_caller]
fn check_messages(turns: Vec<Turn<'static>>, quirks: &Quirks, expect: &str) {
    let (written, ..) = write(&prompt(turns), &Capabilities::default(), quirks).unwrap();
    assert_eq!(written, format!(r#"{{"model":"up","messages":[{expect}]}}"#));
}

#[test]
fn ec42_images_of_tools_follow_their_run() {
    let turns = || {
        vec![called(), turn(Role::User, vec![answer("1", vec![text("t"), picture()]), answer("2", vec![]), text("u")])]
    };
    check_messages(
        turns(),
        &Quirks::default(),
        &after_calls(
            r#"{"role":"tool","tool_call_id":"1","content":"t\n\n[image attached below]"},{"role":"tool","tool_call_id":"2","content":""},{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}},{"type":"text","text":"u"}]}"#,
        ),
    );
    check_messages(
        turns(),
        &Quirks { tool_result_images: true, ..Quirks::default() },
        &after_calls(
            r#"{"role":"tool","tool_call_id":"1","content":[{"type":"text","text":"t"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]},{"role":"tool","tool_call_id":"2","content":""},{"role":"user","content":"u"}"#,
        ),
    );
}

#[test]
fn ec43_answers_come_before_words() {
    check_messages(
        vec![called(), turn(Role::User, vec![answer("1", vec![text("a")]), answer("2", vec![text("b")]), text("u")])],
        &Quirks::default(),
        &after_calls(
            r#"{"role":"tool","tool_call_id":"1","content":"a"},{"role":"tool","tool_call_id":"2","content":"b"},{"role":"user","content":"u"}"#,
        ),
    );
}

#[test]
fn ec44_45_assistants_say_and_call() {
    let thought = || BlockKind::Thinking { text: JsonStr::quote("t"), signature: Some(JsonStr::quote("s")) };
    let turns = || vec![turn(Role::Assistant, vec![thought(), text("a"), text("b"), call("1")])];
    let called = r#""tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{\"a\": 1}"}}]"#;
    check_messages(turns(), &Quirks::default(), &format!(r#"{{"role":"assistant","content":"ab",{called}}}"#));
    let replay = Quirks { reasoning_replay: ReasoningReplay::ToolTurns, ..Quirks::default() };
    check_messages(
        turns(),
        &replay,
        &format!(r#"{{"role":"assistant","content":"ab","reasoning_content":"t",{called}}}"#),
    );
    let alone = || vec![turn(Role::Assistant, vec![call("1")])];
    check_messages(alone(), &Quirks::default(), &format!(r#"{{"role":"assistant","content":null,{called}}}"#));
    let empty = Quirks { empty_content: true, ..Quirks::default() };
    check_messages(alone(), &empty, &format!(r#"{{"role":"assistant","content":"",{called}}}"#));
}

#[test]
fn ec53_ids_are_rewritten_in_pairs() {
    let quirks = Quirks { tool_id: ToolId::Mistral9, ..Quirks::default() };
    let turns = vec![
        turn(Role::Assistant, vec![call("toolu_01")]),
        turn(Role::User, vec![answer("toolu_01", vec![text("r")])]),
    ];
    let (written, ..) = write(&prompt(turns), &Capabilities::default(), &quirks).unwrap();
    let id = written.split(r#""id":""#).nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    assert!(id.len() == 9 && written.contains(&format!(r#""tool_call_id":"{id}""#)), "{written}");
}

#[test]
fn ec46_instructions_find_their_role() {
    let mut prompt = prompt(vec![turn(Role::User, vec![text("u")])]);
    let kinds = [text("x-anthropic-billing-header: cc_version=1; cch=abc;"), text("a"), text(" \n"), text("b")];
    prompt.system = kinds.into_iter().map(|kind| Block::new(kind, 0)).collect();
    let check = |quirks: &Quirks, expect: &str| {
        let (written, _, lost) = write(&prompt, &Capabilities::default(), quirks).unwrap();
        assert_eq!(written, format!(r#"{{"model":"up","messages":[{expect}]}}"#));
        assert_eq!(lost.replace(',', ""), "", "the place is the whole request");
    };
    let role = |system_role| Quirks { system_role, ..Quirks::default() };
    check(&role(SystemRole::System), r#"{"role":"system","content":"a\n\nb"},{"role":"user","content":"u"}"#);
    check(&role(SystemRole::Developer), r#"{"role":"developer","content":"a\n\nb"},{"role":"user","content":"u"}"#);
    check(&role(SystemRole::User), r#"{"role":"user","content":"a\n\nb\n\nu"}"#);
    check(
        &Quirks { content_as_string: false, ..Quirks::default() },
        r#"{"role":"system","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},{"role":"user","content":"u"}"#,
    );
}

#[test]
fn later_instructions_are_marked_where_the_model_takes_none() {
    let turns = || vec![turn(Role::User, vec![text("u")]), turn(Role::System, vec![text("s")])];
    check_messages(
        turns(),
        &Quirks::default(),
        r#"{"role":"user","content":"u"},{"role":"user","content":"<system>s</system>"}"#,
    );
    let can = Capabilities { inline_system: true, ..Capabilities::default() };
    let (written, ..) = write(&prompt(turns()), &can, &Quirks::default()).unwrap();
    assert!(written.contains(r#"{"role":"system","content":"s"}"#), "{written}");
}

#[test]
fn ec41_cache_marks_stay_here() {
    let mut prompt = prompt(vec![turn(Role::User, vec![text("u"), text("v")])]);
    for block in prompt.turns.iter_mut().flat_map(|turn| &mut turn.blocks) {
        block.cache = Some(Cache::OneHour);
    }
    let (written, ..) = write(&prompt, &Capabilities::default(), &Quirks::default()).unwrap();
    assert!(!written.contains("cache"), "{written}");
    let quirks = Quirks { prompt_cache_breakpoint: true, content_as_string: false, ..Quirks::default() };
    let (written, ..) = write(&prompt, &Capabilities::default(), &quirks).unwrap();
    assert!(written.contains(r#""prompt_cache_breakpoint":{"mode":"explicit","ttl":"12h"}"#), "{written}");
}

#[test]
fn ec52_a_prefill_is_refused_where_it_would_be_a_finished_turn() {
    let turns = vec![turn(Role::User, vec![text("u")]), turn(Role::Assistant, vec![text("{")])];
    let can = Capabilities { prefill: false, ..Capabilities::default() };
    assert!(write(&prompt(turns.clone()), &can, &Quirks::default()).is_err());
    assert!(write(&prompt(turns), &Capabilities::default(), &Quirks::default()).is_ok());
}

/// Checks what follows the messages, and what was lost.
#[track_caller]
fn check_rest(prompt: &Prompt<'_>, can: &Capabilities, quirks: &Quirks, expect: &str, lost: &str) {
    let (written, _, dropped) = write(prompt, can, quirks).unwrap();
    let rest = written.split_once(r#""content":"u"}]"#).unwrap().1;
    assert_eq!((rest.trim_end_matches('}'), dropped.as_str()), (expect, lost));
}

fn asked() -> Prompt<'static> {
    prompt(vec![turn(Role::User, vec![text("u")])])
}

#[test]
fn ec48_limits_are_kept() {
    let stop = ["1", "2", "3", "4", "5", "6"].map(JsonStr::quote).to_vec();
    let prompt = Prompt { stop, max_tokens: Some(9000), ..asked() };
    let can = Capabilities { max_output_tokens: Some(4096), ..Capabilities::default() };
    let quirks = Quirks { max_tokens_field: MaxTokensField::MaxCompletionTokens, ..Quirks::default() };
    let expect = r#","max_completion_tokens":4096,"stop":["1","2","3","4"]"#;
    check_rest(&prompt, &can, &quirks, expect, "max_tokens,stop_sequences");
    assert!(write(&Prompt { max_tokens: Some(0), ..asked() }, &can, &quirks).is_err(), "nothing to generate");
}

#[test]
fn numbers_stay_spelled_and_go_where_they_are_taken() {
    let number = |n| Some(Json::raw(n));
    let prompt = Prompt { temperature: number("0.70"), top_p: number("1.0"), top_k: number("40"), ..asked() };
    let (can, quirks) = (Capabilities::default(), Quirks::default());
    check_rest(&prompt, &can, &quirks, r#","temperature":0.70,"top_p":1.0"#, "top_k");
    let takes = Quirks { top_k: true, drop_params: vec!["temperature".into()], ..Quirks::default() };
    check_rest(&prompt, &can, &takes, r#","top_p":1.0,"top_k":40"#, "temperature");
    let none = Capabilities { sampling: false, ..Capabilities::default() };
    check_rest(&prompt, &none, &quirks, "", "temperature,top_k");
    let one = Capabilities { temperature_and_top_p: false, ..Capabilities::default() };
    check_rest(&prompt, &one, &quirks, r#","temperature":0.70"#, "top_k");
}

#[test]
fn ec39_a_long_user_is_hashed() {
    let long: &'static str = "0123456789012345678901234567890123456789012345678901234567890123456789";
    let prompt = Prompt { user: Some(JsonStr::quote(long)), ..asked() };
    let expect = format!(r#","user":"{}""#, crate::wire::openai_chat::names::sha256_hex(long));
    check_rest(&prompt, &Capabilities::default(), &Quirks::default(), &expect, "metadata.user_id");
    let short = Prompt { user: Some(JsonStr::quote("u1")), ..asked() };
    check_rest(&short, &Capabilities::default(), &Quirks::default(), r#","user":"u1""#, "");
}

#[test]
fn ec50_thinking_becomes_effort() {
    use Effort::{High, Low, Medium, Minimal, None as Off};
    let check = |thinking, effort, levels: &[Effort], expect: &str, lost: &str| {
        let can = Capabilities { effort: levels.to_vec(), ..Capabilities::default() };
        let expect = if expect.is_empty() { String::new() } else { format!(r#","reasoning_effort":"{expect}""#) };
        check_rest(&Prompt { thinking, effort, ..asked() }, &can, &Quirks::default(), &expect, lost);
    };
    let all = [Off, Minimal, Low, Medium, High];
    check(Some(Thinking::Budget(32_000)), None, &all, "high", "thinking.budget_tokens");
    check(Some(Thinking::Budget(1024)), None, &all, "low", "thinking.budget_tokens");
    check(Some(Thinking::Budget(32_000)), None, &[], "", "thinking.budget_tokens");
    check(Some(Thinking::Adaptive), None, &all, "", "");
    check(Some(Thinking::Adaptive), Some(Medium), &all, "medium", "");
    check(Some(Thinking::Disabled), Some(High), &all, "none", "output_config.effort");
    check(Some(Thinking::Disabled), None, &[Low, High], "low", "thinking");
    check(Some(Thinking::Disabled), None, &[], "", "");
    check(None, Some(Effort::Max), &all, "high", "output_config.effort");
    check(None, Some(Low), &[Off, Medium], "medium", "output_config.effort");
}

#[test]
fn streams_ask_for_their_usage() {
    let prompt = Prompt { stream: true, ..asked() };
    let can = Capabilities::default();
    check_rest(&prompt, &can, &Quirks::default(), r#","stream":true,"stream_options":{"include_usage":true"#, "");
    let none = Quirks { stream_options: false, ..Quirks::default() };
    check_rest(&prompt, &can, &none, r#","stream":true"#, "");
}

fn tool(name: &'static str, schema: &'static str, strict: Option<bool>) -> Tool<'static> {
    Tool::Function(Function {
        name: JsonStr::quote(name),
        description: None,
        schema: Some(Json::raw(schema)),
        strict,
        cache: Some(Cache::FiveMinutes),
        at: 0,
        group: None,
        text: false,
    })
}

#[test]
fn ec51_tools_and_their_choice_are_written() {
    let closed =
        r#"{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false}"#;
    let tools = vec![tool("a", closed, Some(true)), tool("b", r#"{ "properties":{} }"#, Some(true))];
    let base = Prompt { tools, choice: Some(Choice::None), parallel: Some(false), ..asked() };
    let (written, _, _) = write(&base, &Capabilities::default(), &Quirks::default()).unwrap();
    let expect = format!(
        r#","tools":[{{"type":"function","function":{{"name":"a","parameters":{closed},"strict":true}}}},{{"type":"function","function":{{"name":"b","parameters":{{"type":"object","properties":{{}}}}}}}}],"parallel_tool_calls":false,"tool_choice":"none"}}"#
    );
    assert!(written.ends_with(&expect), "{written}");
    let any = Quirks { tool_choice_required: false, ..Quirks::default() };
    let must = Prompt { choice: Some(Choice::Any), ..base };
    assert!(write(&must, &Capabilities::default(), &any).unwrap().0.ends_with(r#""tool_choice":"any"}"#));
    let free = Capabilities { forced_tool_choice: false, ..Capabilities::default() };
    assert!(write(&must, &free, &any).is_err(), "a choice that cannot be forced");
}

#[test]
fn ec36_long_tool_names_come_back() {
    let long: &'static str = "a_tool_with_a_name_that_is_longer_than_the_sixty_four_characters_openai_takes";
    let tools = vec![tool(long, r#"{"type":"object"}"#, None)];
    let prompt = Prompt { tools, choice: Some(Choice::Tool(JsonStr::quote(long))), ..asked() };
    let (written, memory, _) = write(&prompt, &Capabilities::default(), &Quirks::default()).unwrap();
    let [(short, own)] = memory.names.as_slice() else { panic!("{:?}", memory.names) };
    assert_eq!((short.len(), own.as_str(), written.matches(short.as_str()).count()), (64, long, 2));
    assert!(!written.contains(long), "{written}");
}

#[test]
fn ec47_server_tools_are_refused() {
    let json = Json::raw(r#"{"type":"web_search_20250305","name":"web_search"}"#);
    let tools =
        vec![Tool::Foreign { kind: JsonStr::quote("web_search_20250305"), name: None, json, at: 0, offered: None }];
    let why = write(&Prompt { tools, ..asked() }, &Capabilities::default(), &Quirks::default()).unwrap_err();
    assert!(why.contains("web_search_20250305"), "{why}");
}

#[test]
fn the_shape_of_an_answer_is_asked_for_as_the_model_takes_it() {
    let output =
        Some(Output::Schema { name: None, description: None, schema: Json::raw(r#"{"type":"object"}"#), strict: None });
    let prompt = Prompt { output, ..asked() };
    let expect = r#","response_format":{"type":"json_schema","json_schema":{"name":"response","schema":{"type":"object"},"strict":false"#;
    check_rest(&prompt, &Capabilities::default(), &Quirks::default(), expect, "");
    let none = Capabilities { structured_outputs: false, ..Capabilities::default() };
    let (written, memory, lost) = write(&prompt, &none, &Quirks::default()).unwrap();
    assert!(written.contains(r#""tool_choice":{"type":"function","function":{"name":"response"}}"#), "{written}");
    assert_eq!((memory.unwrap_tool.as_deref(), lost.as_str()), (Some("response"), "output_config.format"));
}

#[test]
fn what_means_nothing_here_is_refused() {
    let foreign = BlockKind::Foreign { kind: JsonStr::quote("search_result"), json: Json::raw("{}") };
    let url = BlockKind::Document { source: Source::Url(JsonStr::quote("https://x")), title: None, context: None };
    let file = BlockKind::Image(Source::File(JsonStr::quote("file_1")));
    for kind in [foreign, url, file] {
        let turns = vec![turn(Role::User, vec![kind.clone()])];
        assert!(write(&prompt(turns), &Capabilities::default(), &Quirks::default()).is_err(), "{kind:?}");
    }
    let blind = Capabilities { images: false, ..Capabilities::default() };
    assert!(write(&prompt(vec![turn(Role::User, vec![picture()])]), &blind, &Quirks::default()).is_err());
}

#[test]
fn what_is_written_means_what_was_read() {
    let messages = [calls(&["1", "2"]), result("1", r#""a\u2028b""#), result("2", "[]"), USER.to_owned()].join(",");
    let body = body(&messages, r#","temperature":0.10,"stop":["x"],"max_tokens":5,"stream":true"#);
    let again = encoded(&body, &Capabilities::default(), &Quirks::default()).unwrap().0;
    let read = |text: &str| sketch(&(CODEC.decode_request)(text, &mut Losses::default()).unwrap());
    assert_eq!(read(&body), read(&again), "{again}");
    assert!(again.contains("a\\u2028b") && again.contains("\"temperature\":0.10"), "{again}");
}

#[test]
fn a_request_needs_messages() {
    for body in [r#"{"model":"m"}"#, r#"{"model":"m","messages":null}"#] {
        let refused = (CODEC.decode_request)(body, &mut Losses::default()).unwrap_err();
        assert_eq!(refused.message, "`messages` is missing", "{body}");
    }
}

/// Whatever a request is, it is read or refused; what is read can be written, or is refused.
#[test]
fn any_request_is_read_or_refused() {
    let messages = [
        r#"{"role":"system","content":"s"}"#.to_owned(),
        calls(&["1", "2"]),
        result("2", r#"[{"type":"image_url","image_url":{"url":"data:image/png;base64,AAA"}}]"#),
        result("1", r#""\ud83d""#),
        r#"{"role":"user","content":[{"type":"file","file":{"file_data":"data:;base64,JVBERi0"}},"x"]}"#.to_owned(),
    ];
    let more = r#","tools":[{"type":"function","function":{"name":"f.g","parameters":{"properties":{"a":{}}}}}],"tool_choice":"any","stop":"x","reasoning_effort":"low""#;
    let whole = body(&messages.join(","), more);
    let mut x = 0x2545_f491_u32;
    for _ in 0..5000 {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        let mut bytes = whole.clone().into_bytes();
        let at = x as usize % bytes.len();
        match x >> 29 {
            0 => drop(bytes.remove(at)),
            1 => bytes.truncate(at),
            2 => bytes.insert(at, b'"'),
            3 => bytes.insert(at, b'\\'),
            4 => drop(bytes.splice(at..(at + 7).min(whole.len()), *b"null")),
            5 => bytes[at] = b'{',
            6 => bytes[at] = b'0',
            _ => bytes[at] = b'}',
        }
        if let Ok(text) = String::from_utf8(bytes) {
            drop(encoded(&text, &Capabilities::default(), &Quirks::default()));
        }
    }
    encoded(&whole, &Capabilities::default(), &Quirks::default()).unwrap();
}
