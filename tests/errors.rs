//! What a client is told when it is wrong: the right status, in the form of its own format, and the upstream never
//! hears of it.

use serde_json::{Value, json};

use crate::support::gateway::{Gateway, Setup};
use crate::support::http::{Reply, Request};
use crate::support::samples::{CHAT, MESSAGES, RESPONSES, SIDES, Side};
use crate::support::upstream::{Script, Upstream};
use crate::support::wait_until;

/// What an error has to look like.
#[derive(Clone, Copy)]
struct Expect {
    status: u16,
    /// The `type` in OpenAI's form, and in Anthropic's.
    kinds: [&'static str; 2],
    /// The `code` in OpenAI's form, where it has to be one.
    code: Option<&'static str>,
    /// A piece of the message.
    says: &'static str,
}

#[track_caller]
fn check(side: &Side, reply: &Reply, expect: &Expect) {
    let body = reply.text();
    assert_eq!(reply.status, expect.status, "{body}");
    let message = side.error_message(reply);
    assert!(message.contains(expect.says), "{message:?} says {:?}", expect.says);
    let error = &reply.json()["error"];
    let kind = if side.path == MESSAGES { expect.kinds[1] } else { expect.kinds[0] };
    assert_eq!(error["type"], kind, "{body}");
    if side.path != MESSAGES {
        assert!(error.get("param").is_some() && error.get("code").is_some(), "OpenAI's form has both: {body}");
        if let Some(code) = expect.code {
            assert_eq!(error["code"], code, "{body}");
        }
    }
    assert_eq!(reply.headers.one("content-type"), Some("application/json"), "{body}");
    check_ids(side, reply);
}

/// Every answer can be named: by `x-request-id`, and by Anthropic's own header for its clients.
#[track_caller]
fn check_ids(side: &Side, reply: &Reply) {
    let id = reply.headers.one("x-request-id").unwrap_or_default();
    assert!(!id.is_empty(), "x-request-id: {:?}", reply.headers);
    if side.path == MESSAGES {
        let id = reply.headers.one("request-id").unwrap_or_default();
        assert!(!id.is_empty(), "request-id: {:?}", reply.headers);
        if reply.status >= 400 {
            assert!(reply.json()["request_id"].is_string(), "Anthropic's errors name their request: {}", reply.text());
        }
    }
}

/// Sends one request per side and checks that the upstream saw none of them.
#[track_caller]
fn check_all(expect: &Expect, request: impl Fn(&Side) -> Request) {
    for side in SIDES {
        let upstream = Upstream::start();
        let gateway = start(&side, &upstream);
        check(&side, &gateway.send(&request(&side)), expect);
        assert_eq!(upstream.count(), 0, "the upstream never hears of it");
    }
}

fn start(side: &Side, upstream: &Upstream) -> Gateway {
    Setup::simple(side.format, upstream).model("gpt-5-mini", &[("p", "x")]).start()
}

const INVALID: Expect =
    Expect { status: 400, kinds: ["invalid_request_error", "invalid_request_error"], code: None, says: "" };

const DENIED: Expect = Expect {
    status: 401,
    kinds: ["authentication_error", "authentication_error"],
    code: Some("invalid_api_key"),
    says: "key",
};

const UNKNOWN: Expect = Expect {
    status: 404,
    kinds: ["invalid_request_error", "not_found_error"],
    code: Some("model_not_found"),
    says: "gpt-5-mini",
};

#[test]
fn no_key_is_401() {
    check_all(&DENIED, |side| Request::post(side.path, side.request));
}

#[test]
fn a_wrong_key_is_401_and_is_not_repeated() {
    for name in ["authorization", "x-api-key"] {
        check_all(&DENIED, |side| Request::post(side.path, side.request).header(name, "Bearer not-the-key"));
    }
    let upstream = Upstream::start();
    let gateway = start(&SIDES[0], &upstream);
    let reply = gateway.send(&Request::post(CHAT, "{}").header("authorization", "Bearer not-the-key"));
    assert!(!reply.text().contains("not-the-key"), "{}", reply.text());
}

#[test]
fn either_header_carries_the_key() {
    for side in SIDES {
        let upstream = Upstream::start();
        let gateway = start(&side, &upstream);
        for (name, value) in [
            ("authorization", format!("Bearer {}", crate::support::CLIENT_KEY)),
            ("Authorization", format!("bearer {}", crate::support::CLIENT_KEY)),
            ("x-api-key", crate::support::CLIENT_KEY.to_owned()),
        ] {
            let reply = gateway.send(&Request::post(side.path, side.request).header(name, &value));
            assert_eq!(reply.status, 200, "{name}: {}", reply.text());
            check_ids(&side, &reply);
        }
    }
}

#[test]
fn an_unknown_model_is_404_and_names_near_ones() {
    check_all(&UNKNOWN, |side| Request::post(side.path, side.request.replace(r#""m""#, r#""gpt-5-mimi""#)).with_key());
}

#[test]
fn bad_json_is_400() {
    for body in ["", "{", "[]", "nope", r#"{"model":"m",}"#, r#"{"model":"m"} x"#, "{\"model\":\"\u{7f}\u{1}\"}"] {
        check_all(&INVALID, |side| Request::post(side.path, body).with_key());
    }
}

#[test]
fn a_missing_model_is_400() {
    let expect = Expect { says: "model", ..INVALID };
    check_all(&expect, |side| Request::post(side.path, r#"{"messages":[]}"#).with_key());
    for model in ["null", "1", r#"["m"]"#, "{}", r#""""#] {
        check_all(&expect, |side| Request::post(side.path, side.request.replace(r#""m""#, model)).with_key());
    }
}

#[test]
fn a_second_model_key_is_400_however_it_is_written() {
    let expect = Expect { says: "model", ..INVALID };
    for second in [r#""model":"m""#, r#""m\u006fdel":"other""#] {
        check_all(&expect, |side| {
            let body = side.request.replace(r#"{"model":"m""#, &format!(r#"{{"model":"m",{second}"#));
            Request::post(side.path, body).with_key()
        });
    }
}

#[test]
fn a_path_that_is_not_there_is_404() {
    for side in SIDES {
        let upstream = Upstream::start();
        let gateway = start(&side, &upstream);
        // What is below `/v1/responses` is passed through to who keeps responses.
        let below = if side.path == RESPONSES { "/v1/responsez".to_owned() } else { format!("{}/nope", side.path) };
        for path in [below, "/v1/nope".to_owned()] {
            let reply = gateway.send(&Request::post(&path, "{}").with_key());
            assert_eq!(reply.status, 404, "{path}: {}", reply.text());
            let message = &reply.json()["error"]["message"];
            assert!(message.is_string(), "{path}: {}", reply.text());
            assert!(reply.headers.one("x-request-id").is_some(), "{path}");
        }
        assert_eq!(upstream.count(), 0);
    }
}

#[test]
fn a_wrong_method_is_405_and_the_right_one_is_named() {
    for side in SIDES {
        let upstream = Upstream::start();
        let gateway = start(&side, &upstream);
        for method in ["GET", "PUT", "DELETE"] {
            let reply = gateway.send(&Request::new(method, side.path).with_key());
            assert_eq!(reply.status, 405, "{method}: {}", reply.text());
            assert!(reply.headers.one("allow").is_some_and(|v| v.contains("POST")), "{:?}", reply.headers);
            side.error_message(&reply);
        }
    }
}

#[test]
fn stream_aliases_stream_whatever_the_body_says() {
    // The seed's; it knew no third format.
    for side in [SIDES[0], SIDES[1]] {
        let upstream = Upstream::start();
        let gateway = start(&side, &upstream);
        let reply = gateway.post(&format!("{}-stream", side.path), side.request);
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert!(upstream.last().wants_stream(), "{}", upstream.last().text());
        assert_eq!(reply.text(), side.stream);
    }
}

#[test]
fn models_are_listed_in_both_shapes() {
    let upstream = Upstream::start();
    let gateway = start(&SIDES[0], &upstream);
    let openai = gateway.send(&Request::get("/v1/models").with_key());
    assert_eq!(openai.status, 200, "{}", openai.text());
    let body = openai.json();
    assert_eq!(body["object"], "list", "{body}");
    let ids = |body: &Value| -> Vec<String> {
        body["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap().to_owned()).collect()
    };
    assert!(ids(&body).contains(&"gpt-5-mini".to_owned()), "{body}");
    let anthropic = gateway.send(&Request::get("/v1/models").with_key().header("anthropic-version", "2023-06-01"));
    let body = anthropic.json();
    assert_eq!(body["has_more"], false, "{body}");
    assert_eq!(body["data"][0]["type"], "model", "{body}");
    assert!(ids(&body).contains(&"gpt-5-mini".to_owned()), "{body}");
    assert_eq!(gateway.send(&Request::get("/v1/models")).status, 401, "models are not for everyone");
}

#[test]
fn health_needs_no_key() {
    let upstream = Upstream::start();
    let gateway = start(&SIDES[0], &upstream);
    let reply = gateway.send(&Request::get("/health"));
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.json()["status"], "healthy", "{}", reply.text());
}

/// Some upstreams echo the credential they refuse. It is ours: neither the client nor the log may see it.
#[test]
fn a_key_that_the_upstream_echoes_is_hidden() {
    const KEY: &str = "sk-canary-0123456789abcdef";
    for side in &SIDES {
        for (status, client) in [(400, *side), (400, side.other()), (500, *side)] {
            let echo = side.error("invalid_request_error", &format!("what is {KEY}?"));
            let upstream = Upstream::answering(move |_, _| Script::json(status, &echo));
            let gateway = Setup::new()
                .provider("p", side.format, &upstream)
                .env("P_API_KEY", KEY)
                .model("m", &[("p", "upstream-model")])
                .start();
            let reply = gateway.post(client.path, client.request);
            assert_eq!(reply.status, status);
            assert_eq!(client.error_message(&reply), "what is sk-…cdef?", "{}", reply.text());
            wait_until("the request's line", || gateway.stderr().contains("failed="));
            assert!(!gateway.stderr().contains("canary"), "{}", gateway.stderr());
        }
    }
}

#[test]
fn a_request_has_one_host_and_a_target_of_sane_length() {
    for side in SIDES {
        let upstream = Upstream::start();
        let gateway = start(&side, &upstream);
        let path = side.path;
        for (head, status) in [
            (format!("POST {path} HTTP/1.1\r\n"), 400),
            (format!("POST {path} HTTP/1.1\r\nhost: a\r\nhost: b\r\n"), 400),
            (format!("POST {path}?{} HTTP/1.1\r\nhost: a\r\n", "q".repeat(17_000)), 414),
            (format!("POST {path} HTTP/1.1\r\nhost: a\r\nx: {}\r\n", "x".repeat(70_000)), 431),
        ] {
            let mut client = gateway.connect();
            client.write(format!("{head}content-length: 0\r\n\r\n").as_bytes());
            let reply = client.reply();
            assert_eq!(reply.status, status, "{}", reply.text());
        }
        assert_eq!(upstream.count(), 0, "none was sent on");
    }
}

/// Whoever tells the demo to fail wants to see one failure, not three minutes of a resting key.
#[test]
fn the_demo_fails_when_told_to_and_then_answers_again() {
    let upstream = Upstream::start();
    let gateway = start(&SIDES[0], &upstream);
    for side in SIDES {
        let ask = |what: &str| {
            let body = side.request.replace("\"m\"", "\"demo\"").replace("Hello", what);
            gateway.post(side.path, body).status
        };
        for (status, shown) in [(400, 400), (401, 502), (402, 502), (403, 502), (429, 429), (500, 500), (503, 503)] {
            assert_eq!(ask(&format!("demo:fail {status}")), shown, "{status}");
            assert_eq!(ask("hello"), 200, "after {status}");
        }
    }
}

// covers EC18 3.5/repaired
#[test]
fn a_call_without_a_result_is_refused_or_given_one_as_configured() {
    const UNANSWERED: &str = r#"{"model":"m","messages":[{"role":"user","content":"a"},{"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"user","content":"b"}],"tools":[{"type":"function","function":{"name":"f"}}]}"#;
    let upstream = Upstream::answering(|_, _| Script::json(200, SIDES[1].reply));
    let start = |more: &Value| {
        let setup = Setup::new().provider_with("p", SIDES[1].format, &upstream, more).env("P_API_KEY", "key-one");
        setup.model("m", &[("p", "upstream-model")]).start()
    };
    let reply = start(&json!({})).post(CHAT, UNANSWERED);
    assert_eq!(reply.status, 400, "{}", reply.text());
    assert!(SIDES[0].error_message(&reply).contains("`c1` has no answer"), "{}", reply.text());
    assert_eq!(upstream.count(), 0, "the upstream never hears of it");

    let mending = json!({ "error_handling": { "422": { "action": "auto_fix_tool_responses" } } });
    let reply = start(&mending).post(CHAT, UNANSWERED);
    assert_eq!(reply.status, 200, "{}", reply.text());
    let sent = upstream.seen().remove(0).json();
    let expect = json!([{ "type": "tool_result", "tool_use_id": "c1" }, { "type": "text", "text": "b" }]);
    assert_eq!(sent["messages"][2]["content"], expect);
}
