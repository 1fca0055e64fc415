//! The configuration is changed while requests are served: nobody notices, and what is wrong does not take hold.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::gateway::{Gateway, Setup};
use crate::support::http::Request;
use crate::support::samples::{CHAT, CHAT_REPLY, CHAT_REQUEST, SIDES};
use crate::support::upstream::{Script, Seen, Upstream};
use crate::support::{comes_true, wait_until};

use model_proxy::wire::Format;

fn key(seen: &Seen) -> String {
    let value = seen.headers.one("authorization").or_else(|| seen.headers.one("x-api-key"));
    value.unwrap_or_default().trim_start_matches("Bearer ").to_owned()
}

fn health(gateway: &Gateway) -> Value {
    gateway.send(&Request::get("/health/detailed").with_key()).json()
}

fn model(upstream_model: &str) -> String {
    json!({"logical_name": "m", "model_routings": [{"provider": "p", "model": upstream_model}]}).to_string()
}

/// Puts a file in place whole: it may be read at any time.
fn put(gateway: &Gateway, name: &str, text: &str) {
    gateway.home.write("new", text);
    fs::rename(gateway.home.path().join("new"), gateway.home.path().join(name)).unwrap();
}

/// Waits until it has said so once more than before.
fn reload(gateway: &Gateway, word: &str) {
    let before = gateway.stderr().matches(word).count();
    gateway.signal("HUP");
    wait_until(word, || before < gateway.stderr().matches(word).count());
}

/// Tables are swapped under load as fast as they can be read. With MODEL_PROXY_LONG_TESTS for thirty seconds.
#[test]
fn under_load_in_both_formats_no_request_notices() {
    let time = match std::env::var_os("MODEL_PROXY_LONG_TESTS") {
        Some(_) => Duration::from_secs(30),
        None => Duration::from_secs(2),
    };
    let side = SIDES[0];
    let upstream = Upstream::answering(move |seen, _| match seen.wants_stream() {
        true => Script::stream(side.stream),
        false => Script::json(200, side.reply),
    });
    let gateway = Setup::simple(side.format, &upstream).start();
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = SIDES
        .into_iter()
        .flat_map(|client| [(client, client.request), (client, client.stream_request)])
        .map(|(client, request)| {
            let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
            let mut connection = gateway.connect();
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let reply = connection.send(&Request::post(client.path, request).with_key());
                    let text = reply.text();
                    assert_eq!(reply.status, 200, "{text}");
                    let is_whole = !request.contains("stream");
                    assert!(is_whole || client.has_ended_well(&text), "{text}");
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let until = Instant::now() + time;
    let mut round = 0;
    while Instant::now() < until {
        round += 1;
        put(&gateway, "config/models/m.json", &model(&format!("upstream-{round}")));
        gateway.signal("HUP");
        thread::sleep(Duration::from_millis(50));
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }
    assert!(20 < asked.load(Ordering::Relaxed), "{asked:?}");
    let said = gateway.stderr();
    assert!(5 < said.matches("reloaded, for SIGHUP").count(), "{said}");
    assert!(!said.contains(" error ") && !said.contains("failed="), "{said}");
    assert!(comes_true(Duration::from_secs(5), || {
        reload(&gateway, "reloaded");
        assert_eq!(gateway.post(CHAT, CHAT_REQUEST).status, 200);
        upstream.last().json()["model"] == format!("upstream-{round}")
    }));
}

#[test]
fn what_is_wrong_does_not_take_hold_and_is_told() {
    let upstream = Upstream::answering(|_, _| Script::json(200, CHAT_REPLY));
    let gateway = Setup::simple(Format::OpenaiChat, &upstream).start();
    let before = health(&gateway);
    let hash = |health: &Value| health["components"]["model_config"]["hash"].clone();
    gateway.home.write(
        "config/models/m.json",
        r#"{"logical_name": "m", "model_routings": [{"provider": "nobody", "model": "x"}]}"#,
    );
    reload(&gateway, "the last good configuration stays in force");
    assert!(gateway.stderr().contains("models/m.json:/model_routings/0/provider: no provider \"nobody\""));
    assert_eq!(gateway.post(CHAT, CHAT_REQUEST).status, 200);
    let told = health(&gateway);
    let error = &told["components"]["model_config"]["last_reload_error"]["error"];
    assert!(error.as_str().is_some_and(|e| e.contains("no provider \"nobody\"")), "{told}");
    assert_eq!(hash(&told), hash(&before));
    gateway.home.write("config/models/m.json", &model("mended"));
    reload(&gateway, "reloaded, for SIGHUP");
    let mended = health(&gateway);
    assert!(mended["components"]["model_config"]["last_reload_error"].is_null(), "{mended}");
    assert_ne!(hash(&mended), hash(&before));
    assert_eq!(gateway.post(CHAT, CHAT_REQUEST).status, 200);
    assert_eq!(upstream.last().json()["model"], "mended");
}

#[test]
fn a_configuration_that_is_gone_is_not_replaced_by_what_is_built_in() {
    let upstream = Upstream::answering(|_, _| Script::json(200, CHAT_REPLY));
    let gateway = Setup::simple(Format::OpenaiChat, &upstream).unnamed().start();
    let at = |name: &str| gateway.home.path().join(name);
    fs::rename(at("config"), at("elsewhere")).unwrap();
    reload(&gateway, "the last good configuration stays in force");
    assert_eq!(gateway.post(CHAT, CHAT_REQUEST).status, 200);
    fs::rename(at("elsewhere"), at("config")).unwrap();
    reload(&gateway, "reloaded, for SIGHUP: nothing changed");
}

#[test]
fn what_changed_is_said_by_name_and_never_by_value() {
    let upstream = Upstream::answering(|_, _| Script::json(200, CHAT_REPLY));
    let setup = Setup::new().provider("p", Format::OpenaiChat, &upstream).model("m", &[("p", "up")]);
    let gateway = setup.start();
    let hash = health(&gateway)["components"]["model_config"]["hash"].as_str().unwrap().to_owned();
    reload(&gateway, &format!("nothing changed, 2 models, hash {hash}"));
    put(&gateway, ".env", "P_API_KEY=key-one-12345\nMODEL_PROXY_DRAIN_SECONDS=5\n");
    reload(&gateway, "MODEL_PROXY_DRAIN_SECONDS, P_API_KEY changed, 2 models");
    assert!(gateway.stderr().contains("MODEL_PROXY_DRAIN_SECONDS has changed: it is read at the next start only"));
    put(&gateway, ".env", "");
    reload(&gateway, "warning: no route has a key");
    put(&gateway, "config/models/m.json", &model("another"));
    reload(&gateway, &format!("2 models, hash {hash} → "));
    let said = gateway.stderr();
    assert_eq!(said.matches("warning: no route has a key").count(), 2, "at start and when it was lost, once: {said}");
    assert!(!said.contains("key-one-12345"), "{said}");
}

#[test]
fn wrong_prices_keep_nobody_from_being_served() {
    let upstream = Upstream::answering(|_, _| Script::json(200, CHAT_REPLY));
    let setup = Setup::simple(Format::OpenaiChat, &upstream);
    let gateway = setup.file("prices.json", r#"{"models":{"loc/a":{"inptu":1}}}"#).start();
    assert!(gateway.stderr().contains("config/prices.json:/models/loc~1a/inptu: warning: "), "{}", gateway.stderr());
    put(&gateway, "config/prices.json", "{");
    reload(&gateway, "reloaded, for SIGHUP");
    assert!(gateway.stderr().contains("config/prices.json:1:1: warning: "), "{}", gateway.stderr());
    let outcome = gateway.command(&["config", "validate", "--config", "config"]).run();
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let outcome = gateway.command(&["config", "validate", "config/prices.json"]).run();
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
}

#[test]
fn a_signal_that_comes_early_ends_nothing_but_what_it_should() {
    let setup = Setup::new();
    for name in ["HUP", "TERM"] {
        let mut gateway = setup.start();
        gateway.signal(name);
        if name == "HUP" {
            wait_until("the reload", || gateway.stderr().contains("reloaded, for SIGHUP"));
            gateway.signal("INT");
        }
        assert_eq!(gateway.ended(), Some(0), "{name}");
    }
}

#[test]
fn without_a_directory_variables_are_read_again() {
    let upstream = Upstream::answering(|_, _| Script::json(200, CHAT_REPLY));
    let gateway = Setup::new().unnamed().start();
    assert_eq!(gateway.post(CHAT, MISTRAL_REQUEST).status, 503, "no key yet");
    // Nothing listens there: that it is asked at all is enough.
    put(&gateway, ".env", &format!("MISTRAL_API_KEY=key-one-12345\nHTTPS_PROXY=http://{}\n", upstream.address));
    reload(&gateway, "HTTPS_PROXY, MISTRAL_API_KEY changed");
    assert_eq!(gateway.post(CHAT, MISTRAL_REQUEST).status, 502, "it cannot be reached");
}

const MISTRAL_REQUEST: &str = r#"{"model":"mistral/any","messages":[{"role":"user","content":"Hello"}]}"#;

#[test]
fn files_are_watched_where_that_is_asked_for() {
    let upstream = Upstream::answering(|_, _| Script::json(200, CHAT_REPLY));
    let gateway = Setup::simple(Format::OpenaiChat, &upstream).arg("--reload").start();
    let reloads = || gateway.stderr().matches("reloaded, for files have changed").count();
    put(&gateway, "config/models/m.json", &model("another"));
    wait_until("the change to be seen", || reloads() == 1);
    assert_eq!(gateway.post(CHAT, CHAT_REQUEST).status, 200);
    assert_eq!(upstream.last().json()["model"], "another");
    gateway.home.write("config/models/group/of/more.json", &model("m").replace("\"m\",", "\"more\","));
    wait_until("a new file to be seen", || reloads() == 2);
    assert_eq!(gateway.post(CHAT, CHAT_REQUEST.replace("\"m\"", "\"more\"")).status, 200);
    put(&gateway, ".env", "P_API_KEY_2=key-two-12345\n");
    wait_until("a variable to be seen", || reloads() == 3);
    assert!(gateway.stderr().contains("P_API_KEY_2 changed"), "{}", gateway.stderr());
}

#[test]
fn a_key_is_pulled_out_and_another_put_in_while_requests_are_served() {
    let upstream = Upstream::answering(|seen, _| match key(seen).as_str() {
        "key-old-12345" => Script::json(401, SIDES[0].error("authentication_error", "revoked")),
        _ => Script::json(200, CHAT_REPLY),
    });
    let setup = Setup::new().provider("p", Format::OpenaiChat, &upstream).model("m", &[("p", "up")]);
    let gateway = setup.start();
    let env = |text: &str| fs::write(gateway.home.path().join(".env"), text).unwrap();
    assert_eq!(gateway.post(CHAT, CHAT_REQUEST).status, 503, "no key yet");
    env("P_API_KEY_1=key-old-12345\n");
    reload(&gateway, "reloaded");
    assert_eq!(gateway.post(CHAT, CHAT_REQUEST).status, 502, "it was revoked");
    assert_eq!(gateway.post(CHAT, CHAT_REQUEST).status, 503, "it rests");
    reload(&gateway, "reloaded");
    assert_eq!(gateway.post(CHAT, CHAT_REQUEST).status, 503, "and does so after a reload");
    assert_eq!(upstream.count(), 1);
    env("P_API_KEY_1=key-old-12345\nP_API_KEY_2=key-new-12345\n");
    reload(&gateway, "reloaded");
    assert_eq!(gateway.post(CHAT, CHAT_REQUEST).status, 200, "a new one serves at once");
    assert_eq!(key(&upstream.last()), "key-new-12345");
    env("");
    reload(&gateway, "reloaded");
    assert_eq!(gateway.post(CHAT, CHAT_REQUEST).status, 503, "none is left");
    let said = gateway.stderr();
    assert!(!said.contains("key-old-12345") && !said.contains("key-new-12345"), "{said}");
}

#[test]
fn who_rests_rests_over_a_restart_where_that_is_asked_for() {
    let upstream = Upstream::answering(|_, n| match n {
        0 => Script::json(429, SIDES[0].error("rate_limit_error", "slow down")).header("retry-after", "90"),
        _ => Script::json(200, CHAT_REPLY),
    });
    let folder = crate::support::TempDir::new();
    let file = folder.path().join("kept.json");
    let start =
        || Setup::simple(Format::OpenaiChat, &upstream).env("MODEL_PROXY_PERSIST_COOLDOWNS", file.to_str().unwrap());
    let mut first = start().start();
    assert_eq!(first.post(CHAT, CHAT_REQUEST).status, 429);
    assert_eq!(first.terminate(), Some(0));
    let kept = fs::read_to_string(&file).unwrap();
    assert!(kept.contains("rate limited") && !kept.contains("key-one"), "{kept}");
    let second = start().start();
    let reply = second.post(CHAT, CHAT_REQUEST);
    let wait: u64 = reply.headers.one("retry-after").unwrap().parse().unwrap();
    assert!(reply.status == 429 && (80..=91).contains(&wait), "{} {wait}", reply.status);
    assert_eq!(upstream.count(), 1);
}
