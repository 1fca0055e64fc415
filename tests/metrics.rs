//! What is counted is what was, to the number.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use model_proxy::wire::Format;

use crate::support::gateway::{Gateway, Setup};
use crate::support::http::{self, Request};
use crate::support::samples::{CHAT, CHAT_REPLY, CHAT_REQUEST, MESSAGES, MESSAGES_REQUEST, SIDES};
use crate::support::upstream::{After, Script, Upstream};
use crate::support::{CLIENT_KEY, comes_true, wait_until};

/// All samples, without the prefix.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        (series.strip_prefix("model_proxy_").unwrap().to_owned(), value.parse().unwrap())
    };
    lines.map(sample).collect()
}

fn scrape(gateway: &Gateway) -> BTreeMap<String, f64> {
    let reply = gateway.send(&Request::get("/metrics").with_key());
    assert_eq!(reply.headers.one("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"), "Prometheus' own");
    samples(&reply.text())
}

#[test]
fn every_way_a_request_can_end_is_counted() {
    let upstream = Upstream::answering(|seen, _| {
        let text = seen.text();
        let key = seen.headers.one("authorization").unwrap_or_default().to_owned();
        match (text.contains("break"), text.contains("wait"), key.ends_with("one"), seen.wants_stream()) {
            (true, ..) => Script::stream(SIDES[0].stream).stop_at(SIDES[0].stream.find("day").unwrap(), After::Close),
            (_, true, ..) => {
                Script::stream(SIDES[0].stream).stop_at(SIDES[0].stream.find("day").unwrap(), After::Silence)
            }
            (_, _, true, _) => Script::json(429, "{}").header("retry-after", "100"),
            (.., true) => Script::stream(SIDES[0].stream),
            (.., false) => Script::json(200, CHAT_REPLY),
        }
    });
    let gateway = Setup::simple(Format::OpenaiChat, &upstream)
        .provider("q", Format::OpenaiChat, &upstream)
        .unset("P_API_KEY")
        .env("P_API_KEY", "key-one")
        .env("Q_API_KEY", "key-two")
        .model("m", &[("p", "x"), ("q", "y")])
        .file("clients/ci.json", &format!(r#"{{"key_sha256":"{}","requests_per_minute":1}}"#, sha("key-ci")))
        .start();
    for body in [CHAT_REQUEST, CHAT_REQUEST] {
        assert_eq!(gateway.post(CHAT, body).status, 200);
    }
    // Something is lost on the way to a chat upstream.
    let lossy = MESSAGES_REQUEST.replace("\"messages\"", "\"top_k\":5,\"messages\"");
    assert_eq!(gateway.post(MESSAGES, lossy).status, 200);
    assert_eq!(gateway.post(CHAT, SIDES[0].stream_request.replace("Hello", "break")).status, 200);
    let mut leaving = gateway.connect();
    leaving.start(&Request::post(CHAT, SIDES[0].stream_request.replace("Hello", "wait")).with_key());
    leaving.leave();
    wait_until("its line", || gateway.stderr().contains("client_closed"));
    assert_eq!(gateway.post(CHAT, CHAT_REQUEST.replace("\"m\"", "\"nothing\"")).status, 404);
    assert_eq!(gateway.post(CHAT, CHAT_REQUEST.replace("\"m\"", "\"any/secret-name\"")).status, 429);
    assert_eq!(gateway.send(&Request::post(CHAT, CHAT_REQUEST)).status, 401);
    for status in [200, 429, 429] {
        assert_eq!(gateway.send(&Request::post(CHAT, CHAT_REQUEST).header("authorization", "key-ci")).status, status);
    }
    let all = scrape(&gateway);
    for (series, value) in [
        (r#"requests_total{model="m",provider="q",format="openai_chat",stream="false",status="200"}"#, 3.0),
        (r#"requests_total{model="m",provider="q",format="anthropic",stream="false",status="200"}"#, 1.0),
        (r#"requests_total{model="m",provider="q",format="openai_chat",stream="true",status="200"}"#, 2.0),
        (r#"requests_total{model="other",provider="",format="openai_chat",stream="false",status="404"}"#, 1.0),
        (r#"requests_total{model="any/*",provider="p",format="openai_chat",stream="false",status="429"}"#, 1.0),
        (r#"upstream_attempts_total{provider="p",key_slot="P_API_KEY",outcome="rate_limited"}"#, 2.0),
        (r#"upstream_attempts_total{provider="q",key_slot="Q_API_KEY",outcome="ok"}"#, 6.0),
        (r#"fallbacks_total{from="p",to="q",reason="rate_limited"}"#, 1.0),
        (r#"tokens_total{model="m",provider="q",type="input"}"#, 36.0),
        (r#"tokens_total{model="m",provider="q",type="output"}"#, 16.0),
        (r#"streams_broken_total{model="m",provider="q"}"#, 1.0),
        (r#"client_disconnects_total{model="m",provider="q"}"#, 1.0),
        (r#"lossy_requests_total{model="m",provider="q"}"#, 1.0),
        (r#"rate_limited_total{client="ci",kind="requests_per_minute"}"#, 2.0),
        (r#"refused_total{status="401"}"#, 1.0),
        (r#"refused_total{status="429"}"#, 2.0),
        (r#"key_cooldown{provider="q",key_slot="Q_API_KEY"}"#, 0.0),
        (r#"request_duration_seconds_count{model="m",provider="q"}"#, 6.0),
        (r#"time_to_first_token_seconds_count{model="m",provider="q"}"#, 6.0),
        ("overhead_seconds_count", 7.0),
        ("in_flight_requests", 0.0),
        ("held_bytes", 0.0),
        ("label_sets_folded_total", 0.0),
        (r#"config_reloads_total{result="ok"}"#, 0.0),
        (&format!(r#"build_info{{version="{}"}}"#, env!("CARGO_PKG_VERSION")), 1.0),
    ] {
        assert_eq!(all.get(series), Some(&value), "{series}: {all:#?}");
    }
    let sum =
        |name: &str| all.iter().filter(|(series, _)| series.starts_with(name)).map(|(_, value)| value).sum::<f64>();
    let (overhead, first) = (sum("overhead_seconds_sum"), sum("time_to_first_token_seconds_sum"));
    assert!(0.0 < overhead && overhead < first, "ours is part of it: {overhead} of {first}");
    for name in [
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_max_fds",
        "process_start_time_seconds",
        "open_connections",
    ] {
        assert!(0.0 < all[name], "{name}");
    }
    assert!(
        !all.keys().any(|series| series.contains("secret-name") || series.contains("key-")),
        "no names of strangers, no keys"
    );
    gateway.signal("HUP");
    wait_until("the reload", || gateway.stderr().contains("reloaded"));
    let later = scrape(&gateway);
    assert_eq!(later[r#"config_reloads_total{result="ok"}"#], 1.0);
    assert_eq!(later["overhead_seconds_count"], 7.0, "what was counted stays");
}

fn sha(key: &str) -> String {
    data_encoding::HEXLOWER.encode(ring::digest::digest(&ring::digest::SHA256, key.as_bytes()).as_ref())
}

#[test]
fn resting_keys_are_told_while_they_rest() {
    let upstream = Upstream::answering(|_, _| Script::json(401, "{}"));
    let gateway = Setup::simple(Format::OpenaiChat, &upstream).start();
    assert_eq!(gateway.post(CHAT, CHAT_REQUEST).status, 502);
    let all = scrape(&gateway);
    assert_eq!(all[r#"key_cooldown{provider="p",key_slot="P_API_KEY"}"#], 1.0);
    assert!(0.0 < all[r#"key_ready_in_seconds{provider="p",key_slot="P_API_KEY"}"#]);
    assert_eq!(all[r#"upstream_attempts_total{provider="p",key_slot="P_API_KEY",outcome="key_refused"}"#], 1.0);
}

#[test]
fn they_can_have_a_port_of_their_own() {
    let upstream = Upstream::answering(|_, _| Script::json(200, CHAT_REPLY));
    let mut gateway = Setup::simple(Format::OpenaiChat, &upstream)
        .env("MODEL_PROXY_CONNECTIONS", "3")
        .arg("--metrics-listen")
        .arg("127.0.0.1:0")
        .arg("--workers")
        .arg("2")
        .start();
    let said = gateway.stderr();
    let (_, rest) = said.split_once("metrics  http://").unwrap();
    let address: SocketAddr = rest.split_once("/metrics\n").unwrap().0.parse().unwrap();
    for _ in 0..8 {
        assert_eq!(gateway.post(CHAT, CHAT_REQUEST).status, 200);
    }
    let open = http::send(address, &Request::get("/metrics"));
    let series = r#"requests_total{model="m",provider="p",format="openai_chat",stream="false",status="200"}"#;
    assert_eq!((open.status, samples(&open.text())[series]), (200, 8.0), "of both workers");
    for (request, status) in [
        (Request::get("/health"), 404),
        (Request::post(CHAT, CHAT_REQUEST).with_key(), 404),
        (Request::post("/metrics", "{}"), 405),
    ] {
        assert_eq!(http::send(address, &request).status, status, "nothing else is there");
    }
    let crowd: Vec<_> = (0..3).map(|_| gateway.connect()).collect();
    for path in ["/metrics", "/livez", "/readyz"] {
        assert_eq!(http::send(address, &Request::get(path)).status, 200, "{path}: also when nobody else gets in");
    }
    drop(crowd);
    let moved = gateway.send(&Request::get("/metrics").with_key());
    assert_eq!(moved.status, 404);
    assert!(moved.text().contains(&format!("served at http://{address}/metrics")), "{}", moved.text());
    assert_eq!(gateway.send(&Request::get("/metrics")).status, 401);
    assert_eq!(gateway.terminate(), Some(0));
    assert!(
        comes_true(std::time::Duration::from_secs(5), || std::net::TcpStream::connect(address).is_err()),
        "it ends with the rest"
    );
    assert!(!CLIENT_KEY.is_empty() && !said.contains(CLIENT_KEY));
}
