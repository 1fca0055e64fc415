//! Where client and upstream speak one format, bytes go through as they came; only the model's name is replaced.

use serde_json::json;

use crate::support::gateway::{Gateway, Setup};
use crate::support::http::Request;
use crate::support::samples::{CHAT, MESSAGES, SIDES, Side};
use crate::support::upstream::{Script, Upstream};
use crate::support::{Chance, with_model};

/// A gateway to an upstream that speaks the side's format.
fn pair(side: &Side) -> (Upstream, Gateway) {
    let upstream = Upstream::start();
    let gateway = Setup::simple(side.format, &upstream).start();
    (upstream, gateway)
}

/// Sends a body and checks that it arrives as it is, but for the model.
#[track_caller]
fn check_request(upstream: &Upstream, gateway: &Gateway, path: &str, body: &[u8]) {
    let before = upstream.count();
    let reply = gateway.post(path, body);
    assert_eq!(reply.status, 200, "{}: {}", reply.text(), String::from_utf8_lossy(body));
    assert_eq!(upstream.count(), before + 1, "one call");
    let seen = upstream.last();
    let expect = with_model(body, "upstream-model");
    assert_eq!(seen.text(), String::from_utf8_lossy(&expect), "the body is as it came");
    assert_eq!(seen.path, path, "the path is the format's");
}

/// Bodies that a proxy which parses and prints them again would change. Each is a whole request of either format.
const BODIES: &[&str] = &[
    r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"Hello"}]}"#,
    // Key order, and a model that comes last.
    r#"{"messages":[{"content":"Hello","role":"user"}],"max_tokens":9,"model":"m"}"#,
    // Blank space of every kind.
    "\r\n{ \"model\" :\t\"m\" ,\n  \"max_tokens\" : 9 , \"messages\":[ {\"role\":\"user\" , \"content\":\"a\"} ] }\n",
    // Numbers as they are spelled.
    r#"{"model":"m","max_tokens":9,"temperature":1.0,"top_p":1e0,"seed":123456789012345678901234567890,"messages":[{"role":"user","content":"a"}],"x":-0.0,"y":1E+2}"#,
    // What nobody knows yet, nested, repeated.
    r#"{"model":"m","max_tokens":9,"future":{"a":[1,{"b":null}]},"future":2,"future":[],"messages":[{"role":"user","content":"a","x":1,"x":2}]}"#,
    // The word model where it is not the model.
    r#"{"metadata":{"model":"inner"},"max_tokens":9,"messages":[{"role":"user","content":"\"model\":\"m\" {\"model\":\"x\"}"}],"model":"m","tools":[]}"#,
    // Escapes in the key and in the name.
    r#"{"\u006dod\u0065l":"\u006d","max_tokens":9,"messages":[{"role":"user","content":"a"}]}"#,
    // Text in every spelling: escaped solidus, surrogate pairs, raw characters, U+2028.
    "{\"model\":\"m\",\"max_tokens\":9,\"messages\":[{\"role\":\"user\",\"content\":\"\\/ \\ud83d\\ude00 😀 \\u00e9 é \u{2028} \\u2028 \\u0000\"}]}",
    // Empty and odd keys.
    r#"{"":1,"model":"m","max_tokens":9,"a\"b":{"\\":[]},"messages":[{"role":"user","content":"a"}],"mode":"x","models":["y"]}"#,
];

// covers EC103 EC104
#[test]
fn requests_arrive_as_they_were_sent() {
    for side in SIDES {
        let (upstream, gateway) = pair(&side);
        for body in BODIES {
            check_request(&upstream, &gateway, side.path, body.as_bytes());
        }
        check_request(&upstream, &gateway, side.path, side.request.as_bytes());
        check_request(&upstream, &gateway, side.path, side.stream_request.as_bytes());
    }
}

#[test]
fn a_long_request_arrives_whole_however_it_is_cut() {
    let long = "0123456789abcdef".repeat(64 * 1024);
    for side in SIDES {
        let (upstream, gateway) = pair(&side);
        let body = side.request.replace("Hello", &long);
        check_request(&upstream, &gateway, side.path, body.as_bytes());
        let mut chance = Chance::new(7);
        for _ in 0..8 {
            let mut client = gateway.connect();
            let head = format!(
                "POST {} HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {}\r\ntransfer-encoding: chunked\r\n\r\n",
                side.path,
                crate::support::CLIENT_KEY
            );
            client.write(head.as_bytes());
            let mut rest = side.request.as_bytes();
            while !rest.is_empty() {
                let (piece, after) = rest.split_at((1 + chance.below(20)).min(rest.len()));
                client.write(&[format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
                rest = after;
            }
            client.write(b"0\r\n\r\n");
            assert_eq!(client.reply().status, 200);
            assert_eq!(upstream.last().body, with_model(side.request.as_bytes(), "upstream-model"));
        }
    }
}

#[test]
fn replies_come_back_as_they_were_given() {
    for side in SIDES {
        let (upstream, gateway) = pair(&side);
        for seed in 0..20 {
            let places = Chance::new(seed).places(side.reply.len(), 5);
            upstream.queue(Script::json(200, side.reply).cut(&places));
            let reply = gateway.post(side.path, side.request);
            assert_eq!(reply.status, 200);
            assert_eq!(reply.text(), side.reply, "cut at {places:?}");
            assert_eq!(reply.headers.one("content-type"), Some("application/json"));
        }
    }
}

// covers EC105
#[test]
fn streams_come_back_as_they_were_given_wherever_they_are_cut() {
    for side in SIDES {
        let (upstream, gateway) = pair(&side);
        let mut client = gateway.connect();
        let request = Request::post(side.path, side.stream_request).with_key();
        for seed in 0..60 {
            let places = Chance::new(seed).places(side.stream.len(), 1 + usize::try_from(seed).unwrap() % 12);
            upstream.queue(Script::stream(side.stream).cut(&places));
            let reply = client.send(&request);
            assert_eq!(reply.status, 200);
            assert_eq!(reply.text(), side.stream, "cut at {places:?}");
            assert!(reply.is_whole, "cut at {places:?}");
            let kind = reply.headers.one("content-type").unwrap_or_default();
            assert!(kind.starts_with("text/event-stream"), "{kind}");
        }
        let every: Vec<usize> = (1..side.stream.len()).collect();
        upstream.queue(Script::stream(side.stream).cut(&every));
        assert_eq!(client.send(&request).text(), side.stream, "cut at every byte");
    }
}

#[test]
fn events_that_nobody_knows_pass_through() {
    let unknown = "event: from_the_future\nid: 7\nretry: 10\ndata: {\"type\":\"from_the_future\",\ndata: \"n\":1.50}\n\n: aside\n\n";
    for side in SIDES {
        let (upstream, gateway) = pair(&side);
        // After the first whole event, and before the last one.
        let first = side.stream.find("}\n\n").unwrap() + 3;
        let last = side.stream.trim_end().rfind("\n\n").unwrap() + 2;
        for at in [first, last] {
            let stream = [&side.stream[..at], unknown, &side.stream[at..]].concat();
            upstream.queue(Script::stream(&stream));
            assert_eq!(gateway.post(side.path, side.stream_request).text(), stream);
        }
    }
}

// covers EC102
#[test]
fn blocks_that_nobody_knows_pass_both_ways() {
    let side = SIDES[1];
    let (upstream, gateway) = pair(&side);
    let body = r#"{"model":"m","max_tokens":9,"future_field":{"x":1e400},"messages":[{"role":"user","content":[{"type":"from_the_future","n":18446744073709551616,"model":"m"}]},{"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"EqM="},{"type":"server_tool_use","id":"srvtoolu_1","name":"web_search","input":{ "b":1.0,"a":2 }}]},{"role":"user","content":"go on"}],"context_management":{"edits":[]}}"#;
    check_request(&upstream, &gateway, side.path, body.as_bytes());
    let reply = r#"{"id":"msg_1","type":"message","role":"assistant","model":"up","content":[{"type":"from_the_future","n":1.50}],"stop_reason":"some_future_reason","usage":{"input_tokens":1,"output_tokens":1,"future":null}}"#;
    upstream.queue(Script::json(200, reply));
    assert_eq!(gateway.post(side.path, side.request).text(), reply);
}

// covers EC105
#[test]
fn the_model_in_replies_is_the_clients_where_that_is_configured() {
    for side in SIDES {
        let upstream = Upstream::start();
        let model = r#"{"logical_name":"m","rewrite_model":true,"model_routings":[{"provider":"p","model":"up"}]}"#;
        let gateway = Setup::new()
            .provider("p", side.format, &upstream)
            .env("P_API_KEY", "key-one")
            .file("models/m.json", model)
            .start();
        for (request, answer) in [(side.request, side.reply), (side.stream_request, side.stream)] {
            let expect = answer.replace(r#""model":"upstream-model""#, r#""model":"m""#);
            assert!(expect != answer && gateway.post(side.path, request).text() == expect, "{}", side.format);
        }
    }
}

#[test]
fn a_wildcard_name_is_filled_in() {
    for side in SIDES {
        let (upstream, gateway) = pair(&side);
        let body = side.request.as_bytes();
        for name in ["thing-1:free", "other"] {
            let body = with_model(body, &format!("any/{name}"));
            let reply = gateway.post(side.path, body.clone());
            assert_eq!(reply.status, 200, "{}", reply.text());
            assert_eq!(upstream.last().body, with_model(&body, name));
            assert_eq!(reply.headers.one("x-model-proxy-route"), Some(format!("p/{name}").as_str()));
        }
        let reply = gateway.post(side.path, side.request);
        assert_eq!(reply.headers.one("x-model-proxy-route"), Some("p/upstream-model"));
    }
}

#[test]
fn no_header_of_the_clients_takes_the_place_of_the_credential() {
    for side in SIDES {
        let upstream = Upstream::start();
        let more = json!({ "authentication": { "header_name": "X-Session-Id", "header_format": "{api_key}" } });
        let gateway = Setup::new()
            .provider_with("p", side.format, &upstream, &more)
            .env("P_API_KEY", "key-one")
            .model("m", &[("p", "upstream-model")])
            .start();
        let reply = gateway.send(&Request::post(side.path, side.request).with_key().header("x-session-id", "mine"));
        assert_eq!(reply.status, 200, "{}", reply.text());
        let seen = upstream.last().headers;
        assert_eq!((seen.one("x-session-id"), seen.count("x-session-id")), (Some("key-one"), 1));
    }
}

// covers 9.4/never_leaked
#[test]
fn what_the_upstream_says_of_limits_comes_down_and_its_cookies_do_not() {
    let down = [
        ("x-ratelimit-limit-requests", "60"),
        ("x-ratelimit-remaining-tokens", "149984"),
        ("x-ratelimit-reset-requests", "1s"),
        ("anthropic-ratelimit-requests-remaining", "49"),
        ("retry-after", "7"),
    ];
    let up_there = [
        ("set-cookie", "a=b"),
        ("anthropic-organization-id", "0a1b2c3d"),
        ("openai-organization", "org-1"),
        ("cf-ray", "1-FRA"),
        ("alt-svc", "h3=\":443\""),
        ("proxy-authenticate", "Basic"),
        ("keep-alive", "timeout=5"),
    ];
    for side in SIDES {
        let (upstream, gateway) = pair(&side);
        let id = if side.path == CHAT { "x-request-id" } else { "request-id" };
        let all = down.iter().chain(&up_there);
        let script = |status, body: &str| {
            all.clone().fold(Script::json(status, body), |s, (n, v)| s.header(n, v)).header(id, "req_from_upstream")
        };
        // A reply, and an error of the client's own making: both are the upstream's to say.
        for (status, body) in [(200, side.reply.to_owned()), (400, side.error("invalid_request_error", "no"))] {
            upstream.queue(script(status, &body));
            let reply = gateway.post(side.path, side.request);
            assert_eq!(reply.status, status);
            assert_eq!(reply.text(), body);
            for (name, value) in down {
                assert_eq!(reply.headers.one(name), Some(value), "{name} of a {status}");
            }
            for (name, _) in up_there {
                assert_eq!(reply.headers.one(name), None, "{name} of a {status}");
            }
            let ids = reply.headers.0.iter().any(|(_, value)| value == "req_from_upstream");
            assert!(ids, "the upstream's request id: {:?}", reply.headers);
        }
    }
}

// covers EC102
#[test]
fn versions_and_betas_go_up_and_credentials_do_not() {
    for side in SIDES {
        let (upstream, gateway) = pair(&side);
        let request = Request::post(side.path, side.request)
            .with_key()
            .header("x-api-key", crate::support::CLIENT_KEY)
            .header("anthropic-version", "2026-10-21")
            .header("anthropic-beta", "one-2026-01-01,two-2026-02-02")
            .header("cookie", "a=b")
            .header("x-forwarded-for", "10.1.2.3")
            .header("x-forwarded-host", "inside")
            .header("forwarded", "for=10.1.2.3")
            .header("proxy-authorization", "Basic eDp5")
            .header("accept-encoding", "gzip, br");
        let reply = gateway.send(&request);
        assert_eq!(reply.status, 200, "{}", reply.text());
        let seen = upstream.last().headers;
        for name in ["cookie", "x-forwarded-for", "x-forwarded-host", "forwarded", "proxy-authorization"] {
            assert_eq!(seen.one(name), None, "{name} stays here");
        }
        assert!(seen.0.iter().all(|(_, value)| !value.contains(crate::support::CLIENT_KEY)), "{seen:?}");
        assert!(matches!(seen.one("accept-encoding"), None | Some("identity")), "{seen:?}");
        assert_eq!(seen.count("host"), 1);
        assert_eq!(seen.one("host"), Some(upstream.address.to_string().as_str()));
        let (key, value) =
            if side.path == MESSAGES { ("x-api-key", "key-one") } else { ("authorization", "Bearer key-one") };
        assert_eq!((seen.one(key), seen.count(key)), (Some(value), 1), "the provider's own key");
        if side.path == MESSAGES {
            assert_eq!(seen.one("anthropic-version"), Some("2026-10-21"));
            assert_eq!(seen.one("anthropic-beta"), Some("one-2026-01-01,two-2026-02-02"));
            assert_eq!(seen.one("authorization"), None);
        }
    }
}

// covers 10.1/version-header EC40
#[test]
fn versions_and_betas_stay_with_their_format() {
    for side in SIDES {
        let other = side.other();
        let upstream = Upstream::start();
        let gateway = Setup::new()
            .provider("p", other.format, &upstream)
            .env("P_API_KEY", "key-one")
            .model("m", &[("p", "upstream-model")])
            .start();
        let request = Request::post(side.path, side.request)
            .with_key()
            .header("anthropic-version", "2026-10-21")
            .header("anthropic-beta", "one-2026-01-01")
            .header("x-claude-code-session-id", "s");
        let reply = gateway.send(&request);
        assert_eq!(reply.status, 200, "{}", reply.text());
        let seen = upstream.last().headers;
        for name in ["anthropic-beta", "x-claude-code-session-id"] {
            assert_eq!(seen.one(name), None, "{name} stays here");
        }
        // A request of ours may hold sampling parameters, which only this version takes.
        let ours = (other.path == MESSAGES).then_some("2023-06-01");
        assert_eq!(seen.one("anthropic-version"), ours);
    }
}

#[test]
fn many_requests_share_one_connection() {
    for side in SIDES {
        let (upstream, gateway) = pair(&side);
        let mut client = gateway.connect();
        for request in [side.request, side.stream_request].repeat(10) {
            let reply = client.send(&Request::post(side.path, request).with_key());
            assert_eq!(reply.status, 200);
        }
        assert_eq!(upstream.count(), 20);
        assert_eq!(upstream.connections(), 1, "the pool gives back what was used");
    }
}

#[test]
fn fields_that_are_never_sent_are_taken_out_and_told() {
    let side = SIDES[0];
    let upstream = Upstream::start();
    let drops = serde_json::json!({ "quirks": { "drop_params": ["n", "logit_bias", "model", "stream"] } });
    let gateway = |more: &str| {
        Setup::new()
            .provider_with("p", side.format, &upstream, &drops)
            .env("P_API_KEY", "key-one")
            .file(
                "models/m.json",
                &format!(r#"{{"logical_name":"m",{more}"model_routings":[{{"provider":"p","model":"up"}}]}}"#),
            )
            .start()
    };
    let request = r#"{ "n":1,"model":"m" , "logit_bias":{"1":2}, "messages":[],"x":1.0e2 ,"stream":false}"#;
    let reply = gateway("").post(side.path, request);
    assert_eq!((reply.status, reply.headers.one("x-model-proxy-dropped")), (200, Some("n, logit_bias")));
    let sent = String::from_utf8(upstream.seen()[0].body.clone()).unwrap();
    assert_eq!(sent, r#"{ "model":"up", "messages":[],"x":1.0e2 ,"stream":false}"#);
    let reply = gateway(r#""on_lossy":"silent","#).post(side.path, request);
    assert_eq!((reply.status, reply.headers.one("x-model-proxy-dropped")), (200, None));
    let reply = gateway(r#""on_lossy":"reject","#).post(side.path, request);
    assert_eq!((reply.status, upstream.count()), (400, 2));
}

#[test]
fn a_field_that_is_never_sent_is_not_changed_first() {
    let side = SIDES[1];
    let upstream = Upstream::start();
    let drops = serde_json::json!({ "quirks": { "drop_params": ["thinking"] } });
    let gateway = Setup::new()
        .provider_with("p", side.format, &upstream, &drops)
        .env("P_API_KEY", "key-one")
        .model("m", &[("p", "up")])
        .start();
    let ours = r#"{"type":"thinking","thinking":"t","signature":"mp1.abc"},"#;
    let call = r#"{"type":"tool_use","id":"a","name":"f","input":{}}"#;
    let body = |thinking: &str, model: &str, thought: &str| {
        format!(
            r#"{{"max_tokens":9{thinking},"model":"{model}","messages":[{{"role":"assistant","content":[{thought}{call}]}}]}}"#
        )
    };
    let asked = body(r#","thinking":{"type":"enabled","budget_tokens":1024}"#, "m", ours);
    assert_eq!(gateway.post(side.path, asked.as_str()).status, 200);
    assert_eq!(upstream.last().text(), body("", "up", ""));
}
