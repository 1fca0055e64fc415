//! `POST /v1/messages/count_tokens`: the upstream's own count where it is Anthropic's, else a guess that says so, and
//! never an error for a model that is known.

use model_proxy::wire::Format;
use serde_json::json;

use crate::support::gateway::{Gateway, Setup};
use crate::support::http::{Reply, Request};
use crate::support::samples::{CHAT, MESSAGES, SIDES};
use crate::support::upstream::{After, Script, Upstream};
use crate::support::wait_until;

const COUNT: &str = "/v1/messages/count_tokens";
const ESTIMATED: &str = "x-model-proxy-estimated";
/// No `max_tokens`: nothing is to be answered.
const REQUEST: &str = r#"{ "model":"m" , "messages":[{"role":"user","content":"Hello, \u00e9"}],"x_unknown":1.0e2}"#;
const COUNTED: &str = r#"{"input_tokens" : 2095, "x_unknown":1.0e2}"#;

/// An upstream that counts, and answers in its format.
fn counting() -> Upstream {
    Upstream::answering(|seen, _| match seen.path.as_str() {
        COUNT => Script::json(200, COUNTED).header("request-id", "req_up"),
        CHAT => Script::json(200, SIDES[0].reply),
        _ => Script::json(200, SIDES[1].reply),
    })
}

fn count(gateway: &Gateway) -> Reply {
    gateway.post(COUNT, REQUEST)
}

#[track_caller]
fn check_guess(reply: &Reply) {
    assert_eq!((reply.status, reply.headers.one(ESTIMATED)), (200, Some("true")), "{}", reply.text());
    let body = reply.json();
    let tokens = body["input_tokens"].as_u64().unwrap_or_default();
    assert!((5..30).contains(&tokens) && body.as_object().unwrap().len() == 1, "{body}");
}

#[track_caller]
fn check_count(reply: &Reply) {
    assert_eq!((reply.status, reply.headers.one(ESTIMATED)), (200, None), "{}", reply.text());
    assert_eq!(reply.text(), COUNTED, "as the upstream said it");
}

#[test]
fn an_anthropic_upstream_counts_itself() {
    let upstream = counting();
    let gateway = Setup::new()
        .provider("p", Format::Anthropic, &upstream)
        .env("P_API_KEY", "key-one")
        .file(
            "models/m.json",
            r#"{"logical_name":"m","defaults":{"temperature":0.5},"model_routings":[{"provider":"p","model":"up"}]}"#,
        )
        .start();
    let request = Request::post(&format!("{COUNT}?beta=true"), REQUEST)
        .with_key()
        .header("anthropic-version", "2026-10-21")
        .header("anthropic-beta", "token-counting-2024-11-01");
    let reply = gateway.send(&request);
    check_count(&reply);
    assert_eq!(reply.headers.one("content-type"), Some("application/json"));
    assert!(reply.headers.one("x-model-proxy-route").is_some_and(|route| route.starts_with("p/")), "who has counted");
    assert_eq!(reply.headers.one("x-upstream-request-id"), Some("req_up"));
    assert!(reply.headers.one("request-id").is_some());
    let seen = upstream.last();
    assert_eq!((seen.path.as_str(), seen.text()), (COUNT, REQUEST.replace("\"m\"", "\"up\"")), "nothing is set");
    assert_eq!(seen.headers.one("x-api-key"), Some("key-one"));
    assert_eq!(seen.headers.one("anthropic-version"), Some("2026-10-21"));
    assert_eq!(seen.headers.one("anthropic-beta"), Some("token-counting-2024-11-01"));
    wait_until("the line", || gateway.stderr().contains(" counted=2095"));
}

#[test]
fn for_another_format_it_is_guessed() {
    let (chat, messages) = (counting(), counting());
    let gateway = Setup::new()
        .provider("c", Format::OpenaiChat, &chat)
        .provider("a", Format::Anthropic, &messages)
        .env("C_API_KEY", "key-c")
        .env("A_API_KEY", "key-a")
        .model("m", &[("c", "up"), ("a", "up")])
        .start();
    check_guess(&count(&gateway));
    assert_eq!((chat.count(), messages.count()), (0, 0), "what the second would count is not what the first would");
}

#[test]
fn without_a_key_and_without_a_network_it_is_guessed() {
    let upstream = counting();
    check_guess(&count(&Setup::new().provider("p", Format::Anthropic, &upstream).model("m", &[("p", "up")]).start()));
    assert_eq!(upstream.count(), 0);
    let gateway = Setup::new().model("m", &[("demo", "demo")]).start();
    check_guess(&count(&gateway));
    let native =
        r#"{"logical_name":"m","model_routings":[{"provider":"demo","model":"d","wire_protocol":"anthropic"}]}"#;
    let reply = count(&Setup::new().file("models/m.json", native).start());
    assert_eq!((reply.status, reply.headers.one(ESTIMATED)), (200, None), "the demo counts what it answers");
    assert!(reply.json()["input_tokens"].is_u64(), "{}", reply.text());
}

/// Some upstreams have no such path, or fail at it: the guess stands in, and their answers are as good as before.
#[test]
fn where_upstreams_cannot_count_it_is_guessed_and_nobody_rests() {
    let error = |kind: &str| SIDES[1].error(kind, "no");
    let failures = [
        Script::json(404, error("not_found_error")),
        Script::json(404, "<html>"),
        Script::json(405, ""),
        Script::json(500, error("api_error")),
        Script::json(501, ""),
        Script::json(529, error("overloaded_error")),
        Script::json(429, error("rate_limit_error")).header("retry-after", "60"),
        Script::json(401, error("authentication_error")),
        Script::json(403, error("permission_error")),
        Script::json(200, "{}"),
        Script::json(200, r#"{"input_tokens":"7"}"#),
        Script::json(200, "hello"),
        Script::json(200, COUNTED).stop_at(9, After::Close),
    ];
    let upstream = counting();
    let gateway = Setup::simple(Format::Anthropic, &upstream).start();
    for failure in failures {
        let case = format!("{failure:?}");
        upstream.queue(failure);
        let before = upstream.count();
        check_guess(&count(&gateway));
        assert_eq!(upstream.count(), before + 1, "{case}");
        let answer = gateway.post(MESSAGES, SIDES[1].request);
        assert_eq!(answer.status, 200, "{case}: {}", answer.text());
        check_count(&count(&gateway));
    }
    // A pooled connection that died says nothing at all: it is asked once more.
    upstream.queue(Script::nothing(After::Close));
    check_count(&count(&gateway));
}

#[test]
fn other_keys_and_routes_of_the_format_are_asked() {
    let (first, second) = (counting(), counting());
    let gateway = Setup::new()
        .provider("p", Format::Anthropic, &first)
        .provider("q", Format::Anthropic, &second)
        .env("P_API_KEY_1", "key-one")
        .env("P_API_KEY_2", "key-two")
        .env("Q_API_KEY", "key-q")
        .model("m", &[("p", "up"), ("q", "up")])
        .start();
    first.queue(Script::json(429, SIDES[1].error("rate_limit_error", "slow down")));
    check_count(&count(&gateway));
    let keys: Vec<String> =
        first.seen().iter().map(|s| s.headers.one("x-api-key").unwrap_or_default().to_owned()).collect();
    assert_eq!((keys.len(), keys[0] == keys[1]), (2, false), "{keys:?}");
    first.queue(Script::json(404, ""));
    let reply = count(&gateway);
    check_count(&reply);
    assert!(reply.headers.one("x-model-proxy-route").is_some_and(|route| route.starts_with("q/")), "who has counted");
    assert_eq!(reply.headers.one("x-model-proxy-attempts"), Some("2"));
}

/// A request that the upstream finds wrong is the client's to mend: no guess hides it.
#[test]
fn the_clients_mistake_is_returned_as_said() {
    let upstream = counting();
    let gateway = Setup::simple(Format::Anthropic, &upstream).start();
    for status in [400, 413, 422] {
        let said = SIDES[1].error("invalid_request_error", "messages: at least one message is required");
        upstream.queue(Script::json(status, &said));
        let reply = count(&gateway);
        assert_eq!((reply.status, reply.text(), reply.headers.one(ESTIMATED)), (status, said, None));
    }
    assert_eq!(upstream.count(), 3, "nothing is tried again");
}

#[test]
fn the_door_is_that_of_messages() {
    let side = SIDES[1];
    let upstream = counting();
    for format in Format::ALL {
        let gateway = Setup::simple(format, &upstream).start();
        for (request, status, says) in [
            (Request::post(COUNT, REQUEST), 401, "key"),
            (Request::get(COUNT).with_key(), 405, "POST"),
            (Request::post(COUNT, "{").with_key(), 400, "invalid request body"),
            (Request::post(COUNT, "").with_key(), 400, "invalid request body"),
            (Request::post(COUNT, r#"{"messages":[]}"#).with_key(), 400, "model"),
            (Request::post(COUNT, r#"{"model":"n","messages":[]}"#).with_key(), 404, "\"m\""),
        ] {
            let reply = gateway.send(&request);
            assert_eq!(reply.status, status, "{}", reply.text());
            assert!(side.error_message(&reply).contains(says), "{}", reply.text());
        }
    }
    assert_eq!(upstream.count(), 0);
    let gateway = Setup::simple(Format::OpenaiChat, &upstream).start();
    for (body, says) in
        [(r#"{"model":"m"}"#, "messages"), (r#"{"model":"m","messages":[nul]}"#, "invalid request body")]
    {
        let reply = gateway.post(COUNT, body);
        assert_eq!(reply.status, 400, "what is guessed is a request: {}", reply.text());
        assert!(side.error_message(&reply).contains(says), "{}", reply.text());
    }
    let near = gateway.post("/v1/messages/count_token", REQUEST);
    assert!(near.status == 404 && side.error_message(&near).contains(COUNT), "{}", near.text());
}

/// Where counting stands, by what a provider's file says of messages.
#[test]
fn the_path_stands_beside_that_of_messages() {
    for (endpoints, expect) in [
        (json!({ "completions": "/v1/messages" }), Some(COUNT)),
        (
            json!({ "completions": "/x", "messages": "/anthropic/v1/messages" }),
            Some("/anthropic/v1/messages/count_tokens"),
        ),
        (json!({ "completions": "/messages/?a=b" }), Some("/messages/count_tokens?a=b")),
        (json!({}), Some("/messages/count_tokens")),
        (json!({ "completions": "/models/{model}:invoke" }), None),
        (json!({ "completions": "/models/{model}:invoke", "count_tokens": "/{model}/count" }), Some("/up/count")),
        (json!({ "completions": "/v1/messages", "count_tokens": "/elsewhere" }), Some("/elsewhere")),
        (json!({ "completions": "/v1/messages", "count_tokens": "" }), None),
        (json!({ "completions": "/v1/messages", "count_tokens": null }), Some(COUNT)),
    ] {
        let upstream = Upstream::answering(|_, _| Script::json(200, COUNTED));
        let mut file = json!({ "base_url": format!("http://{}", upstream.address), "compatible_format": "anthropic" });
        for (key, value) in endpoints.as_object().unwrap() {
            file[key] = value.clone();
        }
        let gateway = Setup::new()
            .provider_with("p", Format::Anthropic, &upstream, &json!({ "endpoints": file }))
            .env("P_API_KEY", "key-one")
            .model("m", &[("p", "up")])
            .start();
        let reply = count(&gateway);
        let paths: Vec<String> = upstream.seen().into_iter().map(|seen| seen.path).collect();
        match expect {
            Some(path) => {
                check_count(&reply);
                assert_eq!(paths, [path], "{endpoints}");
            }
            None => {
                check_guess(&reply);
                assert_eq!(paths, [""; 0], "{endpoints}");
            }
        }
    }
}
