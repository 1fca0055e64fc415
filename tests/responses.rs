//! What is particular to OpenAI's Responses: an endpoint beside the chat's, models that call tools only there, and responses
//! that some upstream keeps.

use model_proxy::wire::Format;
use serde_json::{Value, json};

use crate::support::gateway::{Gateway, Setup};
use crate::support::http::{Reply, Request};
use crate::support::samples::{CHAT, MESSAGES, RESPONSES, SIDES, Side};
use crate::support::upstream::{Script, Seen, Upstream};

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
    assert!(unknown.text().contains("not found"), "{}", unknown.text());
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
