//! What is particular to OpenAI's Responses: an endpoint beside the chat's, models that call tools only there, and responses
//! that some upstream keeps.

use std::time::Duration;

use model_proxy::wire::Format;
use serde_json::{Value, json};

use crate::clients::hash;
use crate::support::gateway::{Gateway, Setup};
use crate::support::http::{Reply, Request};
use crate::support::samples::{CHAT, MESSAGES, RESPONSES, SIDES, Side};
use crate::support::upstream::{After, Script, Seen, Upstream};

/// Speaks both of OpenAI's formats.
fn both(seen: &Seen) -> Script {
    let side = SIDES.into_iter().find(|side| side.path == seen.path).unwrap_or(SIDES[0]);
    if seen.wants_stream() { Script::stream(side.stream) } else { Script::json(200, side.reply) }
}

/// A provider of chats that has an endpoint for Responses too, and its model `m`.
fn setup(upstream: &Upstream, flags: &str) -> Setup {
    let endpoints = json!({ "endpoints": {
        "base_url": format!("http://{}/v1", upstream.address),
        "responses": "/responses",
        "compatible_format": "openai",
    } });
    let model = format!(
        r#"{{"logical_name":"m","model_routings":[{{"provider":"p","model":"up"}}],"capabilities":{{{flags}}}}}"#
    );
    Setup::new()
        .provider_with("p", Format::OpenaiChat, upstream, &endpoints)
        .env("P_API_KEY", "key-one")
        .file("models/m.json", &model)
}

fn post(gateway: &Gateway, path: &str, body: &Value) -> Reply {
    gateway.send(&Request::post(path, body.to_string()).with_key())
}

#[test]
fn who_speaks_it_is_taken_to_its_endpoint_as_it_is() {
    let upstream = Upstream::answering(|seen, _| both(seen));
    let gateway = setup(&upstream, "").start();
    let request = r#"{ "input" : "Hello", "model":"m", "previous_response_id":"resp_0", "store":true, "x": 1.0e2 }"#;
    let reply = gateway.send(&Request::post(RESPONSES, request).with_key());
    assert_eq!(reply.text(), SIDES[2].reply);
    let seen = upstream.last();
    assert_eq!((seen.path.as_str(), seen.text()), (RESPONSES, request.replace("\"m\"", "\"up\"")));
    assert_eq!(seen.headers.one("authorization"), Some("Bearer key-one"));
    assert_eq!(gateway.post(RESPONSES, SIDES[2].stream_request).text(), SIDES[2].stream);
    for side in [SIDES[0], SIDES[1]] {
        assert_eq!(gateway.post(side.path, side.request).status, 200);
        assert_eq!(upstream.last().path, CHAT, "the others go where they went");
    }
    let explained = gateway.command(&["config", "explain", "m", "--from", "openai_responses"]).run().stdout;
    for line in
        ["   also      openai_responses to http://", "   from openai_responses: as it came, but for the model's name\n"]
    {
        assert!(explained.contains(line), "{explained}");
    }
}

/// A request with a tool, as each format has it.
fn with_tool(side: &Side, more: &Value) -> Value {
    let parameters = json!({ "type": "object", "properties": {} });
    let mut body: Value = serde_json::from_str(side.request).unwrap();
    body["tools"] = match side.format {
        Format::OpenaiChat => json!([{ "type": "function", "function": { "name": "f", "parameters": parameters } }]),
        Format::OpenaiResponses => json!([{ "type": "function", "name": "f", "parameters": parameters }]),
        Format::Anthropic => json!([{ "name": "f", "input_schema": parameters }]),
    };
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

// covers EC49
#[test]
fn a_model_that_calls_tools_only_there_is_asked_there() {
    let upstream = Upstream::answering(|seen, _| both(seen));
    let flags = r#""tools_need_responses_api":true,"reasoning_default_on":true,"effort":["none","low","high"]"#;
    let gateway = setup(&upstream, flags).start();
    for (path, more, asked) in [
        (CHAT, json!({}), RESPONSES),
        (CHAT, json!({ "stream": true }), RESPONSES),
        (CHAT, json!({ "reasoning_effort": "high" }), RESPONSES),
        (CHAT, json!({ "reasoning_effort": "none" }), CHAT),
        (CHAT, json!({ "tools": null }), CHAT),
        (MESSAGES, json!({}), RESPONSES),
        (MESSAGES, json!({ "stream": true }), RESPONSES),
        (MESSAGES, json!({ "thinking": { "type": "disabled" } }), CHAT),
    ] {
        let side = SIDES.into_iter().find(|side| side.path == path).unwrap();
        let reply = post(&gateway, path, &with_tool(&side, &more));
        assert_eq!(reply.status, 200, "{path} {more}: {}", reply.text());
        assert_eq!(upstream.last().path, asked, "{path} {more}");
        let text = reply.text();
        let is_own = match path {
            CHAT => text.contains("chat.completion"),
            _ => text.contains("\"type\":\"message\""),
        };
        assert!(is_own && text.contains("Good "), "it comes back in the client's format: {text}");
    }
    let explained = gateway.command(&["config", "explain", "m"]).run().stdout;
    for (from, how) in [
        ("openai_chat", "as it came"),
        ("openai_chat with tools while the model thinks", "converted"),
        ("anthropic with tools while the model thinks", "converted"),
    ] {
        assert!(explained.contains(&format!("   from {from}: {how}")), "{explained}");
    }
    assert!(!explained.contains("openai_responses with tools"), "{explained}");
    assert!(
        explained.contains("unknown seal of thinking: nobody rests; the same key once more, without"),
        "{explained}"
    );
    let upstream = Upstream::answering(|seen, _| both(seen));
    let gateway = Setup::simple(Format::OpenaiChat, &upstream)
        .file("models/n.json", &format!(r#"{{"logical_name":"n","model_routings":[{{"provider":"p","model":"up"}}],"capabilities":{{{flags}}}}}"#))
        .start();
    let reply = post(&gateway, MESSAGES, &with_tool(&SIDES[1], &json!({ "model": "n" })));
    assert_eq!(reply.status, 400, "the provider has no such endpoint");
    assert!(reply.text().contains("only with its thinking off"), "{}", reply.text());
}

/// Two providers that keep responses: `p` knows none, `q` knows `resp_q`.
fn keepers() -> (Upstream, Upstream, Gateway) {
    const UNKNOWN: &str = r#"{"error":{"message":"Response with id 'resp_q' not found.","type":"invalid_request_error","param":null,"code":null}}"#;
    let p = Upstream::answering(|seen, _| match seen.text().contains("previous_response_id") {
        true => Script::json(400, UNKNOWN.replace("\"code\":null", "\"code\":\"previous_response_not_found\"")),
        false => Script::json(404, UNKNOWN),
    });
    let q = Upstream::answering(|seen, _| match seen.path.contains("resp_q") || seen.path == RESPONSES {
        true => Script::json(200, SIDES[2].reply),
        false => Script::json(404, UNKNOWN),
    });
    let kept = json!({ "passthrough": [{ "path": "/v1/responses/*", "methods": ["GET", "POST", "DELETE"] }] });
    let gateway = Setup::new()
        .provider_with("p", Format::OpenaiResponses, &p, &kept)
        .provider_with("q", Format::OpenaiResponses, &q, &kept)
        .env("P_API_KEY", "key-p")
        .env("Q_API_KEY", "key-q")
        .model("m", &[("p", "a"), ("q", "b")])
        .start();
    (p, q, gateway)
}

#[test]
fn a_response_that_is_kept_is_found_where_it_is() {
    let (p, q, gateway) = keepers();
    for (method, path) in [
        ("GET", "/v1/responses/resp_q?include[]=usage"),
        ("GET", "/v1/responses/resp_q/input_items?limit=2"),
        ("POST", "/v1/responses/resp_q/cancel"),
        ("DELETE", "/v1/responses/resp_q"),
    ] {
        let before = (p.count(), q.count());
        let reply = gateway.send(&Request::new(method, path).with_key());
        assert_eq!((reply.status, reply.text().as_str()), (200, SIDES[2].reply), "{method} {path}");
        assert_eq!((p.count(), q.count()), (before.0 + 1, before.1 + 1), "each was asked once");
        let seen = q.last();
        assert_eq!((seen.method.as_str(), seen.path.as_str()), (method, path));
        assert_eq!(seen.headers.one("authorization"), Some("Bearer key-q"));
        assert_eq!(reply.headers.one("x-model-proxy-attempts"), Some("2"));
    }
    let unknown = gateway.send(&Request::get("/v1/responses/resp_none").with_key());
    assert_eq!(unknown.status, 404, "nobody knows it, in their words: {}", unknown.text());
    let text = unknown.text();
    assert!(text.contains("not found") && text.contains("\"code\":null"), "{text}");
    let wrong = gateway.send(&Request::new("PUT", "/v1/responses/resp_q").with_key());
    assert!(wrong.status == 405 && wrong.text().contains("use GET or POST or DELETE"), "{}", wrong.text());
}

#[test]
fn a_keeper_without_a_key_is_told_with_the_next_step() {
    let kept = json!({ "passthrough": [{ "path": "/v1/responses/*", "methods": ["GET"] }] });
    let gateway = Setup::new().provider_with("p", Format::OpenaiResponses, &Upstream::start(), &kept).start();
    let reply = gateway.send(&Request::get("/v1/responses/resp_1").with_key());
    assert_eq!(reply.status, 503);
    let message = reply.json()["error"]["message"].to_string();
    assert!(
        message.contains("no provider that passes this path") && message.contains("model-proxy doctor"),
        "{message}"
    );
}

#[test]
fn a_turn_goes_on_where_the_turn_before_is_kept() {
    let (p, q, gateway) = keepers();
    let body = json!({ "model": "m", "input": "and?", "previous_response_id": "resp_q" });
    let reply = post(&gateway, RESPONSES, &body);
    assert_eq!((reply.status, p.count(), q.count()), (200, 1, 1), "{}", reply.text());
    assert_eq!(q.last().json()["model"], "b");
    // What a compaction is of, the body says.
    let compacted = post(&gateway, "/v1/responses/compact", &json!({ "model": "m", "input": [] }));
    assert_eq!(compacted.status, 404, "both were asked: {}", compacted.text());
    assert_eq!((p.last().path.as_str(), q.last().path.as_str()), ("/v1/responses/compact", "/v1/responses/compact"));
}

#[test]
fn what_only_its_vendor_keeps_is_refused_elsewhere_with_the_remedy() {
    for side in [SIDES[0], SIDES[1]] {
        let upstream = Upstream::start();
        let gateway = Setup::simple(side.format, &upstream).start();
        for (more, remedy) in [
            (json!({ "previous_response_id": "resp_1" }), "send them in `input`"),
            (json!({ "store": true }), "send `store` false"),
        ] {
            let mut body = json!({ "model": "m", "input": "hi" });
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let reply = post(&gateway, RESPONSES, &body);
            assert!(reply.status == 400 && reply.text().contains(remedy), "{}", reply.text());
        }
        assert_eq!(upstream.count(), 0);
    }
}

#[test]
fn its_input_is_counted_there_or_guessed() {
    let counted = r#"{"object":"response.input_tokens","input_tokens":11}"#;
    let upstream = Upstream::answering(move |_, _| Script::json(200, counted));
    let path = "/v1/responses/input_tokens";
    let body = json!({ "model": "m", "input": "Hello" });
    let reply = post(&setup(&upstream, "").start(), path, &body);
    assert_eq!((reply.text().as_str(), upstream.last().path.as_str()), (counted, path));
    assert_eq!(upstream.last().json(), json!({ "model": "up", "input": "Hello" }));
    let upstream = Upstream::start();
    let gateway = Setup::simple(Format::Anthropic, &upstream).start();
    let reply = post(&gateway, path, &body);
    assert_eq!(reply.headers.one("x-model-proxy-estimated"), Some("true"));
    assert_eq!(reply.json()["object"], "response.input_tokens");
    assert!(reply.json()["input_tokens"].as_u64().is_some_and(|n| 0 < n), "{}", reply.text());
    assert_eq!(post(&gateway, path, &json!({ "model": "m" })).status, 400);
}

#[test]
fn it_is_nowhere_only_if_all_have_said_so() {
    const UNKNOWN: &str = r#"{"error":{"message":"Response with id 'resp_x' not found.","type":"invalid_request_error","param":null,"code":null}}"#;
    let previous = UNKNOWN.replace("\"code\":null", "\"code\":\"previous_response_not_found\"");
    for (script, status) in [
        (Script::json(500, SIDES[2].error("server_error", "boom")), 500),
        (Script::json(401, SIDES[2].error("invalid_request_error", "no")), 502),
        (Script::json(429, SIDES[2].error("rate_limit_error", "slow")).header("retry-after", "7"), 429),
    ] {
        let previous = previous.clone();
        let p = Upstream::answering(move |seen, _| match seen.path == RESPONSES {
            true => Script::json(400, &previous),
            false => Script::json(404, UNKNOWN),
        });
        let q = Upstream::answering(move |_, _| script.clone());
        let kept = json!({ "passthrough": [{ "path": "/v1/responses/*", "methods": ["GET"] }] });
        let setup = || {
            let setup =
                Setup::new().env("P_API_KEY", "key-p").env("Q_API_KEY", "key-q").model("m", &[("p", "a"), ("q", "b")]);
            let setup = setup.provider_with("p", Format::OpenaiResponses, &p, &kept);
            setup.provider_with("q", Format::OpenaiResponses, &q, &kept).start()
        };
        let ask = |gateway: &Gateway, goes_on: bool| match goes_on {
            true => post(gateway, RESPONSES, &json!({ "model": "m", "input": "?", "previous_response_id": "resp_x" })),
            false => gateway.send(&Request::get("/v1/responses/resp_x").with_key()),
        };
        for goes_on in [false, true] {
            let gateway = setup();
            let reply = ask(&gateway, goes_on);
            assert_eq!(reply.status, status, "{goes_on}: {}", reply.text());
            // Whoever may keep it rests now, and is not asked.
            let before = q.count();
            let reply = ask(&gateway, goes_on);
            let text = reply.text();
            if before == q.count() {
                assert!(matches!(reply.status, 429 | 503) && text.contains("whoever may keep it is resting"), "{text}");
                assert!(reply.headers.one("retry-after").is_some(), "{goes_on}");
            } else {
                assert_eq!(reply.status, status, "{text}");
            }
        }
    }
}

#[test]
fn every_key_of_a_provider_is_asked() {
    let p = Upstream::answering(|seen, _| {
        let is_known = seen.headers.one("authorization") == Some("Bearer key-two");
        match (is_known, seen.path == RESPONSES) {
            (true, _) => Script::json(200, SIDES[2].reply),
            (false, true) => Script::json(400, r#"{"error":{"message":"x","code":"previous_response_not_found"}}"#),
            (false, false) => Script::json(404, r#"{"error":{"message":"x","code":null}}"#),
        }
    });
    let kept = json!({ "passthrough": [{ "path": "/v1/responses/*", "methods": ["GET"] }] });
    let setup = Setup::new().provider_with("p", Format::OpenaiResponses, &p, &kept).model("m", &[("p", "up")]);
    let gateway = setup.env("P_API_KEY", "key-one").env("P_API_KEY_2", "key-two").start();
    for _ in 0..3 {
        assert_eq!(gateway.send(&Request::get("/v1/responses/resp_1").with_key()).status, 200);
        let body = json!({ "model": "m", "input": "?", "previous_response_id": "resp_1" });
        assert_eq!(post(&gateway, RESPONSES, &body).status, 200);
    }
}

/// A stream in which the model thinks for a while and says nothing of it.
fn thinks_in_silence() -> Script {
    let (begun, rest) = SIDES[2].stream.split_once("event: response.output_item.added").unwrap();
    let thinks = "event: response.output_item.added\ndata: {\"type\":\"response.output_item.added\",\"sequence_number\":1,\"output_index\":0,\"item\":{\"id\":\"rs_1\",\"type\":\"reasoning\",\"summary\":[]}}\n\n";
    let rest = format!("event: response.output_item.added{rest}").replace("\"output_index\":0", "\"output_index\":1");
    let body = format!("{begun}{thinks}{rest}");
    Script::stream(&body).cut(&[begun.len() + thinks.len()]).between(Duration::from_millis(700))
}

#[test]
fn a_model_that_thinks_in_silence_is_not_given_up() {
    let thinks = Upstream::answering(|_, _| thinks_in_silence());
    let other = Upstream::start();
    let model = r#"{"logical_name":"m","output_gate":{"timeout_seconds":0.2},
        "model_routings":[{"provider":"p","model":"a"},{"provider":"q","model":"b"}]}"#;
    let gateway = Setup::new()
        .provider("p", Format::OpenaiResponses, &thinks)
        .provider("q", Format::OpenaiResponses, &other)
        .env("P_API_KEY", "key-p")
        .env("Q_API_KEY", "key-q")
        .file("models/m.json", model)
        .start();
    for side in SIDES {
        let reply = gateway.post(side.path, side.stream_request);
        assert!(reply.status == 200 && reply.text().contains("Good "), "{}", reply.text());
        assert_eq!(other.count(), 0, "{}", side.path);
    }
}

#[test]
fn a_stream_that_breaks_fails_the_response_that_had_begun() {
    let begun = &SIDES[2].stream[..SIDES[2].stream.find("event: response.output_text.done").unwrap()];
    for begun in [begun.to_owned(), format!(": a comment\n\n{begun}: another\n\n")] {
        goes_on_to_its_end(&begun);
    }
}

#[track_caller]
fn goes_on_to_its_end(begun: &str) {
    let stream = begun.to_owned();
    let upstream = Upstream::answering(move |_, _| Script::stream(&stream).stop_at(stream.len(), After::Close));
    let gateway = Setup::simple(Format::OpenaiResponses, &upstream).start();
    let text = gateway.post(RESPONSES, SIDES[2].stream_request).text();
    assert!(text.starts_with(begun), "what came is there as it came: {text}");
    let events: Vec<Value> = text
        .lines()
        .filter_map(|line| line.trim_end().strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap_or_else(|e| panic!("{e}: {data}")))
        .collect();
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], number, "{event}");
    }
    let [.., error, failed] = events.as_slice() else { panic!("{text}") };
    assert_eq!((&error["type"], &failed["type"]), (&json!("error"), &json!("response.failed")), "it is told twice");
    let response = &failed["response"];
    let is = |name: &str, value: Value| assert_eq!(response[name], value, "{name} of {response}");
    is("id", json!("resp_1"));
    is("status", json!("failed"));
    is("model", json!("upstream-model"));
    is("created_at", json!(1_700_000_000));
    assert!(response["error"]["message"].is_string() && response["output"] == json!([]), "{response}");
}

#[test]
fn thinking_that_another_has_sealed_is_left_out_and_said() {
    let strict = |known: &'static str, refusal: &'static str, reply: &'static str| {
        Upstream::answering(move |seen, _| {
            if seen.text().contains(known) { Script::json(400, refusal) } else { Script::json(200, reply) }
        })
    };
    let responses = strict(
        "gAAA",
        r#"{"error":{"message":"The encrypted content for item rs_1 could not be verified.","type":"invalid_request_error","param":null,"code":"invalid_encrypted_content"}}"#,
        SIDES[2].reply,
    );
    let anthropic = strict(
        "EqQB",
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"messages.1.content.0: Invalid `signature` in `thinking` block"}}"#,
        SIDES[1].reply,
    );
    let item = json!({ "type": "reasoning", "summary": [], "encrypted_content": "gAAA" });
    let own = json!({ "model": "m", "input": [{ "role": "user", "content": "a" }, item, item,
        { "role": "assistant", "content": "b" }, { "role": "user", "content": "c" }] });
    let said = |block: Value| {
        json!({ "model": "m", "max_tokens": 9, "messages": [{ "role": "user", "content": "a" },
            { "role": "assistant", "content": [block, { "type": "text", "text": "b" }] },
            { "role": "user", "content": "c" }] })
    };
    let through = said(json!({ "type": "thinking", "thinking": "Hm.", "signature": "mp1.r.rs_1.gAAA" }));
    let theirs = said(json!({ "type": "thinking", "thinking": "Hm.", "signature": "EqQB" }));
    for (upstream, format, path, body, place) in [
        (&responses, Format::OpenaiResponses, RESPONSES, &own, "input[1], input[2]"),
        (&responses, Format::OpenaiResponses, MESSAGES, &through, "messages[1].content[0]"),
        (&anthropic, Format::Anthropic, MESSAGES, &theirs, "messages[1].content[0]"),
    ] {
        let gateway = Setup::simple(format, upstream).start();
        let before = upstream.count();
        let reply = post(&gateway, path, body);
        assert_eq!((reply.status, upstream.count() - before), (200, 2), "{path}: {}", reply.text());
        assert!(reply.headers.one("x-model-proxy-dropped").is_some_and(|dropped| dropped.contains(place)), "{path}");
        let strict = Request::post(path, body.to_string()).with_key().header("x-model-proxy-on-lossy", "reject");
        let refused = gateway.send(&strict);
        assert_eq!(refused.status, 400, "whoever would rather have no answer has none: {}", refused.text());
    }
}

/// Refuses the seal `gAAA`; without it answers as `then` says for the key.
fn knows_no_seal(then: impl Fn(&str) -> Script + Send + Sync + 'static) -> Upstream {
    const REFUSAL: &str = r#"{"error":{"message":"The encrypted content could not be verified.","type":"invalid_request_error","param":null,"code":"invalid_encrypted_content"}}"#;
    Upstream::answering(move |seen, _| match seen.text().contains("gAAA") {
        true => Script::json(400, REFUSAL),
        false => then(seen.headers.one("authorization").unwrap_or_default()),
    })
}

#[test]
fn failover_goes_on_without_the_seal_that_was_refused() {
    let body = json!({ "model": "m", "input": [{ "role": "user", "content": "a" },
        { "type": "reasoning", "summary": [], "encrypted_content": "gAAA" },
        { "role": "assistant", "content": "b" }, { "role": "user", "content": "c" }] });
    let limited = || Script::json(429, SIDES[2].error("rate_limit_error", "slow"));
    let p =
        knows_no_seal(move |key| if key == "Bearer key-two" { Script::json(200, SIDES[2].reply) } else { limited() });
    let setup = Setup::new().provider("p", Format::OpenaiResponses, &p).model("m", &[("p", "up")]);
    let gateway = setup.env("P_API_KEY", "key-one").env("P_API_KEY_2", "key-two").start();
    for _ in 0..2 {
        assert_eq!(post(&gateway, RESPONSES, &body).status, 200);
    }
    let down = || Script::json(503, SIDES[2].error("server_error", "down"));
    let (p, q) = (knows_no_seal(move |_| down()), knows_no_seal(|_| Script::json(200, SIDES[2].reply)));
    let setup = Setup::new().provider("p", Format::OpenaiResponses, &p).provider("q", Format::OpenaiResponses, &q);
    let setup = setup.env("P_API_KEY", "key-p").env("Q_API_KEY", "key-q");
    let gateway = setup.model("m", &[("p", "a"), ("q", "b")]).model("n", &[("p", "a")]).start();
    assert_eq!(post(&gateway, RESPONSES, &body).status, 200, "the next is asked as the first was");
    assert_eq!(q.count(), 2);
    let alone =
        Setup::new().provider("p", Format::OpenaiResponses, &p).env("P_API_KEY", "key-p").model("m", &[("p", "a")]);
    let reply = post(&alone.start(), RESPONSES, &body);
    assert_eq!(reply.status, 503, "what was mended is not to blame: {}", reply.text());
}

#[test]
fn a_chat_clients_sealed_thinking_is_left_out_too() {
    let upstream = Upstream::answering(|seen, _| match seen.text().contains("EqQB") {
        true => Script::json(
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"messages.1.content.0: Invalid `signature` in `thinking` block"}}"#,
        ),
        false => Script::json(200, SIDES[1].reply),
    });
    let gateway = Setup::simple(Format::Anthropic, &upstream).start();
    let detail = json!({ "type": "reasoning.text", "text": "Hm.", "signature": "EqQB", "format": "anthropic-claude-v1", "index": 0 });
    let body = json!({ "model": "m", "messages": [{ "role": "user", "content": "a" },
        { "role": "assistant", "content": "b", "reasoning_details": [detail] }, { "role": "user", "content": "c" }] });
    let reply = post(&gateway, CHAT, &body);
    assert_eq!((reply.status, upstream.count()), (200, 2), "{}", reply.text());
    let dropped = reply.headers.one("x-model-proxy-dropped").unwrap_or_default();
    assert!(dropped.contains("messages[1].reasoning_details"), "{dropped}");
}

#[test]
fn a_page_where_an_api_should_be_is_not_the_clients_mistake() {
    let page = Upstream::answering(|_, _| Script::json(404, "<html>404 Not Found</html>").called("text/html"));
    let other = Upstream::start();
    for side in SIDES {
        let setup = Setup::new().provider("p", side.format, &page).provider("q", side.format, &other);
        let setup = setup.env("P_API_KEY", "key-p").env("Q_API_KEY", "key-q");
        let gateway = setup.model("m", &[("p", "a"), ("q", "b")]).model("n", &[("p", "a")]).start();
        assert_eq!(gateway.post(side.path, side.request).text(), side.reply);
        let reply = gateway.post(side.path, side.request.replace("\"m\"", "\"n\""));
        assert_eq!(reply.status, 502);
        assert!(reply.text().contains("is its path right?"), "{}", reply.text());
    }
}

#[test]
fn a_kept_stream_that_breaks_has_been_given_as_far_as_it_came() {
    let sent = SIDES[2].stream.find("event: response.output_text.done").unwrap();
    let p = Upstream::answering(move |_, _| Script::stream(SIDES[2].stream).stop_at(sent, After::Close));
    let kept = json!({ "passthrough": [{ "path": "/v1/responses/*", "methods": ["GET"] }] });
    let setup = Setup::new().provider_with("p", Format::OpenaiResponses, &p, &kept);
    let gateway = setup.env("P_API_KEY", "key-p").start();
    for _ in 0..20 {
        let mut client = gateway.connect();
        let (status, _) = client.start(&Request::get("/v1/responses/resp_1?stream=true").with_key());
        let mut got = Vec::new();
        let end = loop {
            match client.piece() {
                Ok(Some(piece)) => got.extend(piece),
                end => break end,
            }
        };
        assert_eq!((status, got.len()), (200, sent), "{end:?}");
        assert!(end.is_err(), "it does not end as if it were whole");
    }
}

#[test]
fn a_client_that_may_use_few_models_is_told_how_to_ask_for_its_responses() {
    let p = Upstream::answering(|_, _| Script::json(200, SIDES[2].reply));
    let kept = json!({ "passthrough": [{ "path": "/v1/responses/*", "methods": ["GET"] }] });
    let few = format!(r#"{{"key_sha256":"{}","models":["m"]}}"#, hash("key-few"));
    let setup = Setup::new().provider_with("p", Format::OpenaiResponses, &p, &kept).model("m", &[("p", "up")]);
    let gateway = setup.env("P_API_KEY", "key-p").file("clients/few.json", &few).start();
    let request = || Request::get("/v1/responses/resp_1").header("authorization", "Bearer key-few");
    let reply = gateway.send(&request());
    assert!(reply.status == 403 && reply.text().contains("x-model-proxy-model"), "{}", reply.text());
    assert_eq!(gateway.send(&request().header("x-model-proxy-model", "m")).status, 200);
}

#[test]
fn what_cannot_be_asked_cannot_be_counted() {
    let gateway = Setup::simple(Format::Anthropic, &Upstream::start()).start();
    for body in [
        json!({ "model": "m", "input": 3 }),
        json!({ "model": "m", "input": "hi", "previous_response_id": "resp_1" }),
        json!({ "model": "m", "input": [{ "type": "item_reference", "id": "msg_1" }] }),
    ] {
        assert_eq!(post(&gateway, "/v1/responses/input_tokens", &body).status, 400, "{body}");
    }
    // Where it is kept, but could not be counted: that may pass. What only its conversion refuses has words all the same.
    let upstream = Upstream::answering(|_, _| Script::json(500, "{}"));
    let gateway = Setup::simple(Format::OpenaiResponses, &upstream).start();
    for (more, status) in [
        (json!({ "previous_response_id": "resp_1" }), 503),
        (json!({ "input": [{ "type": "item_reference", "id": "msg_1" }] }), 503),
        (json!({ "background": true }), 200),
        (json!({ "tools": [{ "type": "shell" }], "tool_choice": { "type": "shell" } }), 200),
    ] {
        let mut body = json!({ "model": "m", "input": "hi" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let reply = post(&gateway, "/v1/responses/input_tokens", &body);
        assert_eq!(reply.status, status, "{body}: {}", reply.text());
    }
}
