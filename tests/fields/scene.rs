//! Requests, replies and streams that set one field, and what is seen to happen to it when they are converted.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use bytes::Bytes;
use model_proxy::wire::caps::{Capabilities, Quirks, ReasoningReplay, ThinkingModes};
use model_proxy::wire::loss::Losses;
use model_proxy::wire::prompt::Effort;
use model_proxy::wire::sse::{FRAME_BYTES_MAX, Framer};
use model_proxy::wire::translate::{self, StreamTranslator};
use model_proxy::wire::{Format, Memory, Target};
use serde_json::{Map, Value, json};

use super::list::{List, Listed, kind_of};

/// What is seen to happen to a field.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Seen {
    /// Another value of it gives another output.
    Arrives,
    /// The output is the same whatever it says, and nobody is told.
    Silent,
    /// It has one value and cannot be left out, so that nothing can be compared; nothing is lost.
    Fixed,
    /// Reported, at these places and with these words.
    Lost(Vec<Said>),
    /// What it stands in is reported so, with or without it.
    Within(Vec<Said>),
    Refused(Said),
}

/// A place, and the words that were said of it.
pub type Said = (String, String);

/// What a conversion gave: the output and the losses, or the refusal.
type Outcome = Result<(String, Vec<Said>), Said>;

/// What is seen of each value of a field.
pub fn observe(list: &List, line: &Listed, to: Format) -> Vec<(Value, Seen)> {
    let values: Vec<Value> = list.values(line).into_iter().filter(|value| !is_container(list, line, value)).collect();
    let base = absent(list, line, &values).and_then(|path| outcome((list, to), path, None).ok());
    let outcomes: Vec<(Value, String, Outcome)> = values
        .into_iter()
        .map(|value| {
            let at = place(list, &line.path, &value);
            let outcome = outcome((list, to), &line.path, Some(&value));
            (value, at, outcome)
        })
        .collect();
    let mut outputs: BTreeSet<&str> =
        outcomes.iter().filter_map(|(_, _, o)| o.as_ref().ok()).map(|o| o.0.as_str()).collect();
    outputs.extend(base.iter().map(|base| base.0.as_str()));
    let compared = outcomes.len() + usize::from(base.is_some());
    let known = base.as_ref().map(|base| base.1.as_slice()).unwrap_or_default();
    let seen = |at: &str, outcome: &Outcome| match outcome {
        Err(refusal) => Seen::Refused(refusal.clone()),
        Ok((_, losses)) => {
            let of = |is: &dyn Fn(&Said) -> bool| losses.iter().filter(|loss| is(loss)).cloned().collect::<Vec<_>>();
            let new = of(&|loss| base.is_some() && !known.contains(loss));
            let around = of(&|loss| is_near(at, &loss.0));
            match (new.is_empty(), around.is_empty()) {
                (false, _) => Seen::Lost(new),
                (true, _) if 1 < outputs.len() => Seen::Arrives,
                (true, false) => Seen::Within(around),
                // A tag is what tells the kinds apart: without it, it is another kind.
                (true, true) if compared < 2 || kind_of(&line.path).is_some() => Seen::Fixed,
                (true, true) => Seen::Silent,
            }
        }
    };
    outcomes.iter().map(|(value, at, outcome)| (value.clone(), seen(at, outcome))).collect()
}

/// Whether a value is an object or a list of objects whose members are listed: those are tested one by one.
fn is_container(list: &List, line: &Listed, value: &Value) -> bool {
    let brackets: &[&str] = match value {
        Value::Object(_) => &["", "(", "{}"],
        Value::Array(items) if items.first().is_some_and(Value::is_object) => &["["],
        Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => &[],
    };
    brackets.iter().any(|bracket| !list.scopes(&line.path, bracket).is_empty())
}

/// What to leave out to see what a field does: itself, or, where it must be there and has but one value, the object it
/// stands in. `None`: that must be there too.
fn absent<'l>(list: &'l List, line: &'l Listed, values: &[Value]) -> Option<&'l str> {
    if !line.required {
        return Some(&line.path);
    }
    let (object, _) = line.path.rsplit_once('.').filter(|_| values.len() == 1)?;
    list.lines.get(object).filter(|line| !line.required).map(|line| line.path.as_str())
}

/// Whether what is said of one place is about the other: it is the same, inside it, or around it. A place that is known
/// before the request is read has no numbers in it, and may be a member's name alone.
pub fn is_near(place: &str, at: &str) -> bool {
    let is_within = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let members = place.match_indices('.').map(|(dot, _)| &place[dot + 1..]);
    is_within(at, place) || std::iter::once(place).chain(members).any(|inner| is_within(inner, at))
}

fn outcome((list, to): (&List, Format), path: &str, value: Option<&Value>) -> Outcome {
    let mut body = list.with(path, value);
    accompany(path, &mut body);
    let from = list.format;
    match list.kind {
        "request" => request(from, to, &scene(list, body).0),
        "reply" => {
            let told = translate::reply(from, to, &body.to_string(), &memory());
            told.map(|(out, usage)| (format!("{} {usage:?}", String::from_utf8(out).unwrap()), Vec::new()))
                .map_err(|fault| (String::new(), fault.message))
        }
        _ => stream(from, to, &frames(list, path, body), list.is_error(path)),
    }
}

/// A schema that arguments can be held to.
const STRICT: &str = r#"{"type":"object","properties":{},"required":[],"additionalProperties":false}"#;

/// What has to stand beside fields so that they mean something: part of the fields' path, and where to put what.
const COMPANIONS: &[(&str, &str, &str)] = &[
    ("", "/messages/0/content", r#""s1""#),
    ("input[function_call_output]", "/input/0/call_id", r#""s1""#),
    ("content[input_image]", "/input/0/content/0/image_url", r#""https://a.b/c.png""#),
    ("output[input_image]", "/input/0/output/0/image_url", r#""https://a.b/c.png""#),
    ("content[input_file]", "/input/0/content/0/file_data", r#""data:application/pdf;base64,JVBERi0x""#),
    ("output[input_file]", "/input/0/output/0/file_data", r#""data:application/pdf;base64,JVBERi0x""#),
    ("content[output_text]", "/input/0/role", r#""assistant""#),
    ("content[refusal]", "/input/0/role", r#""assistant""#),
    ("output[reasoning].id", "/output/0/encrypted_content", r#""s1""#),
    ("tools[namespace].t", "/tools/0/description", r#""""#),
    ("tools[namespace].tools[function].strict", "/tools/0/tools/0/parameters", STRICT),
    ("tools[function].function.strict", "/tools/0/function/parameters", STRICT),
    ("incomplete_details.reason", "/status", r#""incomplete""#),
    (
        "tool_choice(allowed_tools).type",
        "/tool_choice/tools",
        r#"[{"type":"function","name":"s1"},{"type":"function","name":"s2"}]"#,
    ),
    ("tool_choice(allowed_tools).mode", "/tool_choice/tools", r#"[{"type":"function","name":"s1"}]"#),
    ("content[file]", "/messages/0/content/0/file/file_data", r#""data:application/pdf;base64,JVBERi0x""#),
    (
        "response_format(json_schema)",
        "/response_format/json_schema/schema",
        r#"{"type":"object","properties":{},"additionalProperties":false}"#,
    ),
    (
        "tool_choice(allowed_tools)",
        "/tool_choice/allowed_tools/tools",
        r#"[{"type":"function","function":{"name":"s1"}}]"#,
    ),
    ("allowed_tools.tools[].", "/tool_choice/allowed_tools/tools/0/function", r#"{"name":"s1"}"#),
    ("content[thinking]", "/messages/0/content/0/signature", r#""s1""#),
    ("messages[].clear_at", "/messages/0/role", r#""system""#),
    ("messages[].output_config", "/messages/0/role", r#""system""#),
    ("content[tool_result].cache_control", "/messages/0/content/0/content", r#""s1""#),
    ("stream_options", "/stream", "true"),
    ("delta.tool_calls[]", "/choices/0/delta/tool_calls/0/id", r#""s1""#),
    ("delta.tool_calls[].function", "/choices/0/delta/tool_calls/0/function/name", r#""s1""#),
    ("delta.tool_calls[].", "/choices/0/delta/tool_calls/0/function", r#"{"name":"s1"}"#),
    ("delta.function_call", "/choices/0/delta/function_call/name", r#""s1""#),
    ("choices[].stop_reason", "/choices/0/finish_reason", r#""stop""#),
    ("stop_details", "/stop_reason", r#""refusal""#),
    ("message_delta.delta.stop_details", "/delta/stop_reason", r#""refusal""#),
];

/// Puts the companions of a field beside it, unless they are the field itself, or would stand around it.
fn accompany(path: &str, body: &mut Value) {
    let own = format!("/{}", place_of(path, 0).replace("[0]", "/0").replace('.', "/"));
    let own = if path.starts_with("message_delta.") { own.replacen("/message_delta", "", 1) } else { own };
    for (part, pointer, value) in COMPANIONS.iter().filter(|(part, ..)| path.contains(part)) {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let is_file = part.ends_with("file]") || part.ends_with("input_image]");
        let is_other = is_file && (path.ends_with("file_id") || path.ends_with("file_url"));
        if own.starts_with(pointer) || is_other {
            continue;
        }
        if let Some(Value::Object(members)) = body.pointer_mut(parent) {
            members.insert(key.to_owned(), serde_json::from_str(value).unwrap());
        }
    }
}

/// Where in what is sent the field stands.
pub fn place(list: &List, path: &str, value: &Value) -> String {
    let mut body = list.with(path, Some(value));
    accompany(path, &mut body);
    place_of(path, if list.kind == "request" { scene(list, body).1 } else { 0 })
}

/// The same, where so many messages stand before its own.
fn place_of(path: &str, before: usize) -> String {
    let mut place = String::new();
    for (part, depth) in path.split('.').zip(0..) {
        let name = part.split(['[', '(', '{']).next().unwrap();
        let index = if depth == 0 && matches!(name, "messages" | "input") { before } else { 0 };
        place.push_str(if depth == 0 { "" } else { "." });
        place.push_str(name);
        match part[name.len()..].chars().next() {
            Some('[') => write!(place, "[{index}]").unwrap(),
            Some('{') => place.push_str(".k"),
            _ => {}
        }
    }
    place
}

fn memory() -> Memory {
    Memory { model: "m".into(), seed: 7, created: 9, include_usage: true, ..Memory::default() }
}

/// Converts a request for a route that can do all there is.
fn request(from: Format, to: Format, body: &Value) -> Outcome {
    let body = body.to_string();
    let capabilities = Capabilities {
        thinking: ThinkingModes { adaptive: true, enabled: true, disabled: true },
        effort: Effort::ALL.to_vec(),
        inline_system: true,
        ..Capabilities::default()
    };
    let quirks = Quirks {
        content_as_string: false,
        reasoning_replay: ReasoningReplay::Always,
        prompt_cache_breakpoint: true,
        top_k: true,
        tool_result_images: true,
        ..Quirks::default()
    };
    let target = Target { model: "up", capabilities: &capabilities, quirks: &quirks };
    let mut losses = Losses::default();
    match translate::request((from, to), &body, None, &target, &mut losses) {
        Ok((out, memory)) => {
            // What the answer repeats goes nowhere.
            let memory = Memory { input_estimate: 0, echo: None, ..memory };
            let losses = losses.iter().map(|loss| (loss.place.path(&body), loss.why.to_owned())).collect();
            Ok((format!("{} {memory:?}", String::from_utf8(out).unwrap()), losses))
        }
        Err(refusal) => Err((refusal.place.path(&body), refusal.message)),
    }
}

fn stream(from: Format, to: Format, frames: &[Value], is_error: bool) -> Outcome {
    let mut text = String::new();
    for frame in frames {
        let event =
            frame.get("type").and_then(Value::as_str).map_or_else(String::new, |name| format!("event: {name}\n"));
        write!(text, "{event}data: {frame}\n\n").unwrap();
    }
    if from == Format::OpenaiChat {
        text.push_str("data: [DONE]\n\n");
    }
    let mut framer = Framer::new(FRAME_BYTES_MAX);
    framer.push(Bytes::from(text));
    let mut translator = StreamTranslator::new(from, to, &memory());
    let mut out = Vec::new();
    while let Some(frame) = framer.next() {
        translator.frame(&frame.unwrap(), &mut out);
    }
    translator.finish(&mut out);
    match translator.seen().fault.clone() {
        Some(fault) if !is_error => Err((String::new(), fault.message)),
        _ => Ok((format!("{} {:?}", String::from_utf8(out).unwrap(), translator.seen().usage), Vec::new())),
    }
}

/// Puts around a request what it needs to be one: the calls its results answer, tools for its choice, somebody who
/// speaks. Also tells how many messages now stand before its own.
fn scene(list: &List, mut body: Value) -> (Value, usize) {
    let root = body.as_object_mut().unwrap();
    let list_of = if list.format == Format::OpenaiResponses { "input" } else { "messages" };
    if list.format == Format::OpenaiResponses {
        root.entry("model").or_insert_with(|| json!("m"));
        root.entry("input").or_insert_with(|| json!([{"role": "user", "content": "go on"}]));
    }
    let own = root.get(list_of).and_then(|m| m.get(0)).cloned().unwrap_or_default();
    let (before, after) = match list.format {
        Format::OpenaiChat => around_chat(&own),
        Format::OpenaiResponses => around_responses(&own),
        Format::Anthropic => around_anthropic(&own, root),
    };
    let count = before.len();
    if let Some(Value::Array(messages)) = root.get_mut(list_of) {
        messages.splice(0..0, before);
        messages.extend(after);
    }
    let needs_tools =
        ["tool_choice", "parallel_tool_calls", "function_call"].iter().any(|name| root.contains_key(*name));
    if needs_tools && !root.contains_key("tools") && !root.contains_key("functions") {
        let tools = match list.format {
            Format::OpenaiChat => json!([{"type": "function", "function": {"name": "s1"}}]),
            Format::OpenaiResponses => json!([{"type": "function", "name": "s1"}, {"type": "function", "name": "s2"}]),
            Format::Anthropic => json!([{"name": "s1", "input_schema": {"type": "object"}}]),
        };
        root.insert("tools".into(), tools);
    }
    (body, count)
}

fn around_responses(own: &Value) -> (Vec<Value>, Vec<Value>) {
    let user = json!({"role": "user", "content": "go on"});
    let (kind, id) = (own["type"].as_str().unwrap_or_default(), &own["call_id"]);
    match kind {
        "function_call_output" => {
            (vec![user, json!({"type": "function_call", "call_id": id, "name": "s1", "arguments": "{}"})], vec![])
        }
        "custom_tool_call_output" => {
            (vec![user, json!({"type": "custom_tool_call", "call_id": id, "name": "s1", "input": "x"})], vec![])
        }
        "function_call" => (vec![user], vec![json!({"type": "function_call_output", "call_id": id, "output": "r"})]),
        "custom_tool_call" => {
            (vec![user], vec![json!({"type": "custom_tool_call_output", "call_id": id, "output": "r"})])
        }
        // What it thought comes before what it said.
        "reasoning" => (vec![user.clone()], vec![json!({"role": "assistant", "content": "t"}), user]),
        _ if own["role"] == "user" => (vec![], vec![]),
        _ => (vec![user.clone()], vec![user]),
    }
}

fn around_chat(own: &Value) -> (Vec<Value>, Vec<Value>) {
    let user = json!({"role": "user", "content": "go on"});
    let call = json!({"type": "function", "function": {"name": "s1", "arguments": "{}"}});
    let with_id = |id: &Value| {
        let mut call = call.clone();
        call.as_object_mut().unwrap().insert("id".into(), id.clone());
        call
    };
    match own["role"].as_str() {
        Some("tool") => {
            (vec![user, json!({"role": "assistant", "tool_calls": [with_id(&own["tool_call_id"])]})], vec![])
        }
        Some("function") => {
            let call = json!({"name": own["name"], "arguments": "{}"});
            (vec![user, json!({"role": "assistant", "function_call": call})], vec![])
        }
        Some("assistant") => {
            let calls = own["tool_calls"].as_array().cloned().unwrap_or_default();
            let answers = calls.iter().map(|call| json!({"role": "tool", "tool_call_id": call["id"], "content": "r"}));
            let mut after: Vec<Value> = answers.collect();
            if let Some(name) = own["function_call"].get("name") {
                after.push(json!({"role": "function", "name": name, "content": "r"}));
            }
            if after.is_empty() {
                after.push(user.clone());
            }
            (vec![user], after)
        }
        _ => (vec![], vec![user]),
    }
}

/// Blocks only the user sends; the others are the assistant's.
const USERS: [&str; 9] = [
    "text",
    "image",
    "document",
    "search_result",
    "tool_result",
    "container_upload",
    "tool_addition",
    "tool_removal",
    "",
];

fn around_anthropic(own: &Value, root: &mut Map<String, Value>) -> (Vec<Value>, Vec<Value>) {
    let user = json!({"role": "user", "content": "go on"});
    let block = own["content"][0].clone();
    let kind = block["type"].as_str().unwrap_or_default();
    let message = root.get_mut("messages").and_then(|m| m.get_mut(0));
    if !USERS.contains(&kind) {
        let message = message.and_then(Value::as_object_mut).unwrap();
        message.insert("role".into(), json!("assistant"));
        if kind.ends_with("thinking") {
            message
                .get_mut("content")
                .and_then(Value::as_array_mut)
                .unwrap()
                .push(json!({"type": "text", "text": "t"}));
        }
    }
    match kind {
        "tool_result" => {
            let call = json!({"type": "tool_use", "id": block["tool_use_id"], "name": "s1", "input": {}});
            (vec![user, json!({"role": "assistant", "content": [call]})], vec![])
        }
        "tool_use" => {
            let result = json!({"type": "tool_result", "tool_use_id": block["id"], "content": "r"});
            (vec![user], vec![json!({"role": "user", "content": [result]})])
        }
        _ if own["role"] == "user" && USERS.contains(&kind) => (vec![], vec![]),
        _ => (vec![user.clone()], vec![user]),
    }
}

/// A whole stream around one frame.
fn frames(list: &List, path: &str, body: Value) -> Vec<Value> {
    if list.format == Format::OpenaiChat {
        let chunk = |delta: Value, finish: Value| {
            json!({"id": "s1", "object": "chat.completion.chunk", "created": 7, "model": "s1",
                "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
        };
        let is_end = !body["choices"][0]["finish_reason"].is_null();
        let mut frames = vec![body, chunk(json!({}), json!("stop"))];
        if is_end {
            frames.pop();
        }
        return frames;
    }
    let event = list.event_of(path);
    if list.format == Format::OpenaiResponses {
        return frames_of_responses(event, body);
    }
    let start = json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant",
        "model": "m", "content": [], "stop_reason": null, "stop_sequence": null,
        "usage": {"input_tokens": 1, "output_tokens": 1}}});
    let block = |block: Value| json!({"type": "content_block_start", "index": 0, "content_block": block});
    let stop = json!({"type": "content_block_stop", "index": 0});
    // The last count is the truth: a count of the start shows only where the end does not count.
    let usage = if event == "message_start" { json!({}) } else { json!({"output_tokens": 2}) };
    let ending = json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage});
    let over = json!({"type": "message_stop"});
    let opened = match body["delta"]["type"].as_str() {
        Some("thinking_delta" | "signature_delta") => json!({"type": "thinking", "thinking": "", "signature": ""}),
        Some("input_json_delta") => json!({"type": "tool_use", "id": "toolu_1", "name": "s1", "input": {}}),
        Some("compaction_delta") => json!({"type": "compaction", "content": null}),
        _ => json!({"type": "text", "text": ""}),
    };
    match event {
        "message_start" => vec![body, ending, over],
        "content_block_start" => vec![start, body, stop, ending, over],
        "content_block_delta" => vec![start, block(opened), body, stop, ending, over],
        "content_block_stop" => vec![start, block(opened), body, ending, over],
        "message_delta" => vec![start, body, over],
        "message_stop" => vec![start, ending, body],
        _ => vec![start, body, ending, over],
    }
}

fn frames_of_responses(event: &str, body: Value) -> Vec<Value> {
    let response = |status: &str| {
        json!({"id": "resp_1", "object": "response", "created_at": 7, "model": "m", "status": status, "output": [],
            "tools": [], "tool_choice": "auto", "parallel_tool_calls": true, "usage": null})
    };
    let created = json!({"type": "response.created", "sequence_number": 0, "response": response("in_progress")});
    let mut completed = json!({"type": "response.completed", "sequence_number": 9, "response": response("completed")});
    completed["response"]["usage"] = json!({"input_tokens": 1, "output_tokens": 1, "total_tokens": 2});
    let added = |item: Value| json!({"type": "response.output_item.added", "sequence_number": 1, "output_index": 0, "item": item});
    let message =
        added(json!({"type": "message", "id": "s1", "role": "assistant", "status": "in_progress", "content": []}));
    let thought = added(json!({"type": "reasoning", "id": "s1", "summary": []}));
    let call = |kind: &str| {
        added(json!({"type": kind, "id": "s1", "call_id": "c1", "name": "s1", "arguments": "", "input": ""}))
    };
    let part = |part: Value| {
        json!({"type": "response.content_part.added", "sequence_number": 2, "item_id": "s1", "output_index": 0,
            "content_index": 0, "part": part})
    };
    let text = part(json!({"type": "output_text", "text": "", "annotations": []}));
    let refusal = part(json!({"type": "refusal", "refusal": ""}));
    let is = |begin: &str| event.strip_prefix("response.").is_some_and(|rest| rest.starts_with(begin));
    match event {
        "response.created" => vec![body, completed],
        "response.completed" | "response.incomplete" | "response.failed" | "error" => vec![created, body],
        _ if is("content_part") => vec![created, message, body, completed],
        _ if is("output_text") => vec![created, message, text, body, completed],
        _ if is("refusal") => vec![created, message, refusal, body, completed],
        _ if is("reasoning") => vec![created, thought, body, completed],
        _ if is("function_call") => vec![created, call("function_call"), body, completed],
        _ if is("custom_tool_call") => vec![created, call("custom_tool_call"), body, completed],
        _ => vec![created, body, completed],
    }
}
