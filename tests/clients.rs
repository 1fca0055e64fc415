//! Named clients: who may ask, for what, and exactly how much.

use std::fs;
use std::process::Command;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use model_proxy::wire::Format;
use ring::digest::{SHA256, digest};

use crate::support::gateway::{Gateway, Setup};
use crate::support::http::{Client, Reply, Request};
use crate::support::samples::{CHAT, CHAT_REPLY, CHAT_REQUEST, MESSAGES, MESSAGES_REQUEST, SIDES, Side};
use crate::support::upstream::{After, Script, Upstream};
use crate::support::{CLIENT_KEY, comes_true, wait_until};

pub fn hash(key: &str) -> String {
    data_encoding::HEXLOWER.encode(digest(&SHA256, key.as_bytes()).as_ref())
}

/// A client's file: its key, and what else stands in it.
fn file(key: &str, more: &str) -> String {
    format!(r#"{{"key_sha256":"{}"{more}}}"#, hash(key))
}

fn upstream() -> Upstream {
    Upstream::answering(|seen, _| match seen.wants_stream() {
        true => Script::stream(SIDES[0].stream),
        false => Script::json(200, CHAT_REPLY),
    })
}

fn ask(gateway: &Gateway, key: &str, side: &Side) -> Reply {
    gateway.send(&Request::post(side.path, side.request).header("authorization", &format!("Bearer {key}")))
}

#[test]
fn each_client_may_use_its_models_and_sees_no_others() {
    let upstream = upstream();
    let gateway = Setup::simple(Format::OpenaiChat, &upstream)
        .model("other", &[("p", "x")])
        .file("clients/ci.json", &file("key-ci", r#","models":["m","any/a*"]"#))
        .start();
    for side in SIDES {
        for (key, model, status) in [
            ("key-ci", "m", 200),
            ("key-ci", "any/abc", 200),
            ("key-ci", "any/xyz", 403),
            ("key-ci", "other", 403),
            (CLIENT_KEY, "other", 200),
            ("key-c", "m", 401),
        ] {
            let before = upstream.count();
            let body = side.request.replace("\"m\"", &format!("\"{model}\""));
            let reply = gateway.send(&Request::post(side.path, body).header("x-api-key", key));
            assert_eq!(reply.status, status, "{key} {model}: {}", reply.text());
            assert_eq!(upstream.count() - before, usize::from(status == 200));
            if status == 403 {
                let says = format!("the client \"ci\" may not use the model \"{model}\"; it may use m, any/a*");
                assert_eq!(side.error_message(&reply), says);
            }
        }
    }
    let get = |path: &str, key: &str| gateway.send(&Request::get(path).header("authorization", key));
    let names = |key: &str| {
        let list = get("/v1/models", key).json();
        list["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("key-ci"), ["m"]);
    assert!(names(CLIENT_KEY).contains(&"other".to_owned()));
    assert_eq!((get("/v1/models/other", "key-ci").status, get("/v1/models/m", "key-ci").status), (404, 200));
    let counted = gateway.send(
        &Request::post("/v1/messages/count_tokens", r#"{"model":"other","messages":[]}"#).header("x-api-key", "key-ci"),
    );
    assert_eq!(counted.status, 403, "{}", counted.text());
    wait_until("the lines", || gateway.stderr().contains("openai_chat client=ci model=m "));
    assert!(gateway.stderr().contains("untried=\"the client \\\"ci\\\" may not use"), "{}", gateway.stderr());
}

#[test]
fn who_is_removed_is_shut_out_on_its_open_connections() {
    let upstream = upstream();
    let gateway = Setup::simple(Format::OpenaiChat, &upstream)
        .file("clients/ci.json", &file("key-ci", ""))
        .file("clients/b.json", &file("key-b", ""))
        .start();
    let mut open = gateway.connect();
    let request = Request::post(CHAT, CHAT_REQUEST).header("authorization", "Bearer key-ci");
    assert_eq!(open.send(&request).status, 200);
    fs::remove_file(gateway.home.path().join("config/clients/ci.json")).unwrap();
    gateway.home.write("config/clients/new.json", &file("key-new", ""));
    gateway.signal("HUP");
    wait_until("the reload", || gateway.stderr().contains("reloaded"));
    assert_eq!(open.send(&request).status, 401, "at its next request");
    assert_eq!((ask(&gateway, "key-new", &SIDES[0]).status, ask(&gateway, "key-b", &SIDES[0]).status), (200, 200));
}

#[test]
fn where_the_last_client_is_removed_nobody_may_ask() {
    let upstream = upstream();
    let gateway = Setup::simple(Format::OpenaiChat, &upstream)
        .unset("CLIENT_API_KEY")
        .file("clients/ci.json", &file("key-ci", ""))
        .start();
    let reload = |times: usize| {
        gateway.signal("HUP");
        wait_until("the reload", || gateway.stderr().matches("reloaded, ").count() == times);
    };
    assert_eq!(ask(&gateway, "key-ci", &SIDES[0]).status, 200);
    fs::remove_file(gateway.home.path().join("config/clients/ci.json")).unwrap();
    reload(1);
    for key in ["key-ci", ""] {
        assert_eq!(ask(&gateway, key, &SIDES[0]).status, 401, "{key:?}");
    }
    assert!(gateway.stderr().contains("no client is left, so every request is refused; make a key with"));
    gateway.home.write("config/clients/new.json", &file("key-new", ""));
    reload(2);
    assert_eq!(ask(&gateway, "key-new", &SIDES[0]).status, 200);
}

#[test]
fn the_key_of_this_run_ends_with_the_first_client_and_that_is_said() {
    let upstream = upstream();
    let gateway = Setup::simple(Format::OpenaiChat, &upstream).unset("CLIENT_API_KEY").start();
    let banner = gateway.stderr();
    let made = banner.split_once("Bearer ").unwrap().1.split('"').next().unwrap();
    assert_eq!(ask(&gateway, made, &SIDES[0]).status, 200);
    gateway.home.write("config/clients/ci.json", &file("key-ci", ""));
    for times in 1..=2 {
        gateway.signal("HUP");
        wait_until("the reload", || gateway.stderr().matches("reloaded, ").count() == times);
    }
    assert_eq!((ask(&gateway, made, &SIDES[0]).status, ask(&gateway, "key-ci", &SIDES[0]).status), (401, 200));
    assert_eq!(gateway.stderr().matches("made for this run is no longer taken").count(), 1, "once");
}

#[test]
fn the_one_key_is_read_again_too() {
    let upstream = upstream();
    let gateway = Setup::simple(Format::OpenaiChat, &upstream)
        .file("../.env", "CLIENT_API_KEY=first\n")
        .unset("CLIENT_API_KEY")
        .start();
    assert_eq!(ask(&gateway, "first", &SIDES[0]).status, 200);
    gateway.home.write(".env", "CLIENT_API_KEY=second\n");
    gateway.signal("HUP");
    wait_until("the reload", || gateway.stderr().contains("CLIENT_API_KEY changed"));
    assert_eq!((ask(&gateway, "first", &SIDES[0]).status, ask(&gateway, "second", &SIDES[0]).status), (401, 200));
}

/// Any number at once against a limit: exactly so many pass, over real sockets and several workers.
#[test]
fn of_a_crowd_exactly_so_many_pass() {
    let upstream = upstream();
    let gateway = Setup::simple(Format::OpenaiChat, &upstream)
        .env("RATE_LIMIT_REQUESTS_PER_MINUTE", "20")
        .arg("--workers")
        .arg("2")
        .file("clients/ci.json", &file("key-ci", r#","requests_per_minute":7"#))
        .start();
    for (key, limit) in [(CLIENT_KEY, 20), ("key-ci", 7)] {
        let barrier = Barrier::new(50);
        let replies: Vec<Reply> = thread::scope(|scope| {
            let one = || {
                let mut client = gateway.connect();
                barrier.wait();
                client.send(&Request::post(CHAT, CHAT_REQUEST).header("authorization", key))
            };
            let threads = [0; 50].map(|_| scope.spawn(one));
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let passed = replies.iter().filter(|reply| reply.status == 200).count();
        assert_eq!(passed, limit, "of fifty");
        for refused in replies.iter().filter(|reply| reply.status != 200) {
            assert_eq!(refused.status, 429, "{}", refused.text());
            let after: u64 = refused.headers.one("retry-after").unwrap().parse().unwrap();
            assert!((55..=60).contains(&after), "{after}");
        }
    }
    assert_eq!(upstream.count(), 27, "what is refused reaches nobody");
}

#[test]
fn limits_are_told_in_both_vendors_words_on_every_reply() {
    let upstream = Upstream::answering(|_, _| {
        Script::json(200, CHAT_REPLY)
            .header("x-ratelimit-limit-requests", "9999")
            .header("x-ratelimit-remaining-requests", "9998")
    });
    let gateway = Setup::simple(Format::OpenaiChat, &upstream)
        .file("clients/ci.json", &file("key-ci", r#","requests_per_minute":2,"tokens_per_minute":10000"#))
        .start();
    let free = ask(&gateway, CLIENT_KEY, &SIDES[0]);
    assert_eq!(free.headers.one("x-ratelimit-limit-requests"), Some("9999"), "where we do not limit, the upstream's");
    for (side, left, status) in [(SIDES[0], "1", 200), (SIDES[1], "0", 200), (SIDES[0], "0", 429), (SIDES[1], "0", 429)]
    {
        let reply = ask(&gateway, "key-ci", &side);
        assert_eq!(reply.status, status, "{}", reply.text());
        for (name, value) in [
            ("x-ratelimit-limit-requests", "2"),
            ("x-ratelimit-remaining-requests", left),
            ("anthropic-ratelimit-requests-limit", "2"),
            ("anthropic-ratelimit-requests-remaining", left),
            ("x-ratelimit-limit-tokens", "10000"),
        ] {
            assert_eq!((reply.headers.one(name), reply.headers.count(name)), (Some(value), 1), "{name}");
        }
        assert!(reply.headers.one("x-ratelimit-reset-requests").unwrap().ends_with('s'));
        assert!(reply.headers.one("anthropic-ratelimit-requests-reset").unwrap().ends_with('Z'));
        if status == 429 {
            let says = "the client \"ci\" may use 2 requests a minute; retry in ";
            assert!(side.error_message(&reply).starts_with(says), "{}", reply.text());
            let kind = reply.json()["error"]["type"].clone();
            assert!(side.path == CHAT || kind == "rate_limit_error", "{kind}");
        }
    }
    // The upload is not awaited of who has nothing left.
    let mut client = gateway.connect();
    client.write(format!("POST {CHAT} HTTP/1.1\r\nhost: t\r\nauthorization: key-ci\r\ncontent-length: 1000000\r\nexpect: 100-continue\r\n\r\n").as_bytes());
    assert_eq!(client.head().0, 429);
}

/// The real usage counts, and what fails costs nothing: the reply uses 13 tokens, whatever was held for it.
#[test]
fn tokens_are_settled_by_what_was_used() {
    let upstream = Upstream::answering(|seen, n| match (seen.wants_stream(), n) {
        (_, 0..3) => {
            Script::json(400, r#"{"error":{"message":"no","type":"invalid_request_error","param":null,"code":null}}"#)
        }
        (true, _) => Script::stream(SIDES[0].stream),
        (false, _) => Script::json(200, CHAT_REPLY),
    });
    let gateway = Setup::simple(Format::OpenaiChat, &upstream)
        .file("clients/ci.json", &file("key-ci", r#","tokens_per_minute":1200"#))
        .start();
    let left = |reply: &Reply| reply.headers.one("x-ratelimit-remaining-tokens").unwrap().parse::<u64>().unwrap();
    for side in [SIDES[0], SIDES[1], SIDES[0]] {
        assert_eq!(ask(&gateway, "key-ci", &side).status, 400, "a mistake costs nothing");
    }
    let stream =
        |side: &Side| gateway.send(&Request::post(side.path, side.stream_request).header("authorization", "key-ci"));
    let mut used = 0;
    for side in [SIDES[0], SIDES[1]] {
        for reply in [ask(&gateway, "key-ci", &side), stream(&side)] {
            assert_eq!(reply.status, 200, "{}", reply.text());
            // While it is under way more is held for it.
            assert!(left(&reply) < 1200 - used, "{used}");
            used += 13;
        }
    }
    let small = Request::post(CHAT, CHAT_REQUEST.replace(r#""messages""#, r#""max_tokens":1,"messages""#))
        .header("authorization", "key-ci");
    let reply = gateway.send(&small);
    let held = 1200 - used - left(&reply);
    assert!((2..40).contains(&held), "some words and one token: {held}");
    let text = "word ".repeat(3000);
    let large =
        gateway.send(&Request::post(CHAT, CHAT_REQUEST.replace("Hello", &text)).header("authorization", "key-ci"));
    assert_eq!(
        (large.status, large.headers.one("retry-after"), large.headers.one("x-should-retry")),
        (429, None, Some("false"))
    );
    assert!(large.text().contains("this request alone is larger"), "{}", large.text());
}

/// Anthropic counts the input and one token of output at an answer's beginning: who leaves then has paid for more.
#[test]
fn who_leaves_before_the_end_pays_what_was_held() {
    let stream = SIDES[1].stream;
    let upstream = Upstream::answering(move |_, _| {
        Script::stream(stream).stop_at(stream.find("event: message_delta").unwrap(), After::Silence)
    });
    let gateway = Setup::simple(Format::Anthropic, &upstream)
        .file("clients/ci.json", &file("key-ci", r#","tokens_per_minute":100000,"requests_at_once":1"#))
        .start();
    let request = SIDES[1].stream_request.replace(r#""max_tokens":64"#, r#""max_tokens":3000"#);
    let request = Request::post(MESSAGES, request).header("x-api-key", "key-ci");
    let mut left = Vec::new();
    for _ in 0..2 {
        wait_until("a place", || {
            let mut client = gateway.connect();
            let (status, headers) = client.start(&request);
            if status != 200 {
                return false;
            }
            left.push(headers.one("x-ratelimit-remaining-tokens").unwrap().parse::<u64>().unwrap());
            let mut seen = Vec::new();
            while !String::from_utf8_lossy(&seen).contains("day") {
                seen.extend(client.piece().unwrap().unwrap());
            }
            client.leave();
            true
        });
    }
    assert_eq!(left[0] - left[1], 100_000 - left[0], "the first is still counted as it was held: {left:?}");
}

/// The most usual stream: OpenAI's, of which nobody has asked for a count. Its events are counted instead.
#[test]
fn what_nobody_counts_is_guessed_by_what_has_passed() {
    let chunk = |text: &str| {
        format!(
            "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1767225600,\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null}}]}}\n\n"
        )
    };
    let end = chunk("").replace("null", "\"stop\"");
    let stream =
        [chunk("a word").repeat(6000), chunk(&"long ".repeat(2000)), end, "data: [DONE]\n\n".to_owned()].concat();
    let upstream = Upstream::answering(move |_, _| Script::stream(&stream));
    let gateway = Setup::simple(Format::OpenaiChat, &upstream)
        .file("clients/ci.json", &file("key-ci", r#","tokens_per_minute":100000"#))
        .start();
    let stream = Request::post(CHAT, SIDES[0].stream_request).header("authorization", "key-ci");
    let left = |reply: &Reply| reply.headers.one("x-ratelimit-remaining-tokens").unwrap().parse::<u64>().unwrap();
    let (first, second) = (gateway.send(&stream), gateway.send(&stream));
    let used = left(&first) - left(&second);
    assert!((8_000..10_000).contains(&used), "six thousand words, and two thousand in one event: {used}");
}

/// A failure costs nothing, though it was told under a status that said 200.
#[test]
fn a_failure_that_is_told_late_costs_nothing() {
    let upstream = Upstream::answering(|_, _| Script::json(503, "{}").before_head(Duration::from_millis(300)));
    let terms =
        r#"{"logical_name":"m","early_commit_ms":50,"max_attempts":1,"model_routings":[{"provider":"p","model":"x"}]}"#;
    let gateway = Setup::simple(Format::OpenaiChat, &upstream)
        .file("models/m.json", terms)
        .env("KEY_COOLDOWN_SECONDS", "0")
        .file("clients/ci.json", &file("key-ci", r#","tokens_per_minute":5000"#))
        .start();
    let request = Request::post(CHAT, SIDES[0].stream_request).header("authorization", "key-ci");
    let told: Vec<String> = (0..3)
        .map(|_| {
            let reply = gateway.send(&request);
            assert!(reply.status == 200 && reply.text().contains("error"), "{}", reply.text());
            reply.headers.one("x-ratelimit-remaining-tokens").unwrap().to_owned()
        })
        .collect();
    assert_eq!(told[0], told[2], "as if nothing had been asked: {told:?}");
}

/// Whoever has had the last event has had all of it, though the upstream's bytes have not ended.
#[test]
fn who_leaves_after_the_last_event_pays_what_was_counted() {
    for side in SIDES {
        let stream = side.stream;
        let upstream = Upstream::answering(move |_, _| {
            Script::stream([stream, ": more\n\n"].concat()).stop_at(stream.len(), After::Silence)
        });
        let gateway = Setup::simple(side.format, &upstream)
            .file("clients/ci.json", &file("key-ci", r#","tokens_per_minute":5000"#))
            .start();
        let request = Request::post(side.path, side.stream_request).header("authorization", "key-ci");
        let mut client = gateway.connect();
        let (_, headers) = client.start(&request);
        let held = 5000 - headers.one("x-ratelimit-remaining-tokens").unwrap().parse::<u64>().unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(&stream.as_bytes()[stream.len() - 10..]) {
            seen.extend(client.piece().unwrap().unwrap());
        }
        client.leave();
        wait_until("its line", || gateway.stderr().contains("status=200"));
        assert!(!gateway.stderr().contains("client_closed"), "{}", gateway.stderr());
        let (_, headers) = gateway.connect().start(&request);
        let left: u64 = headers.one("x-ratelimit-remaining-tokens").unwrap().parse().unwrap();
        assert_eq!(left, 5000 - 13 - held, "as counted");
    }
}

#[test]
fn places_are_free_again_however_a_request_ends() {
    let upstream = Upstream::answering(|seen, _| match (seen.wants_stream(), seen.text().contains("fail")) {
        (true, _) => Script::stream(SIDES[0].stream).stop_at(SIDES[0].stream.find("day").unwrap(), After::Silence),
        (false, true) => Script::json(503, "{}"),
        (false, false) => Script::json(200, CHAT_REPLY),
    });
    let gateway = Setup::simple(Format::OpenaiChat, &upstream)
        .file("clients/ci.json", &file("key-ci", r#","requests_at_once":1,"per_model":{"m":{"requests_at_once":1}}"#))
        .start();
    for _ in 0..3 {
        assert_eq!(ask(&gateway, "key-ci", &SIDES[0]).status, 200);
        let mut open: Client = gateway.connect();
        let (status, _) = open.start(&Request::post(MESSAGES, SIDES[1].stream_request).header("x-api-key", "key-ci"));
        assert_eq!(status, 200);
        let refused = ask(&gateway, "key-ci", &SIDES[1]);
        assert_eq!((refused.status, refused.headers.one("retry-after")), (429, Some("1")), "{}", refused.text());
        assert!(refused.text().contains("1 requests at once"), "{}", refused.text());
        open.leave();
        assert!(
            comes_true(Duration::from_secs(10), || ask(&gateway, "key-ci", &SIDES[0]).status == 200),
            "it has left"
        );
        let failing = CHAT_REQUEST.replace("Hello", "fail").replace("\"m\"", "\"any/x\"");
        let failed = gateway.send(&Request::post(CHAT, failing).header("x-api-key", "key-ci"));
        assert_eq!(failed.status, 503, "{}", failed.text());
    }
}

#[test]
fn a_budget_outlives_a_restart() {
    let upstream = upstream();
    let setup = Setup::simple(Format::OpenaiChat, &upstream)
        .file("clients/ci.json", &file("key-ci", r#","tokens_per_day":1040,"tokens_per_month":100000"#));
    let mut gateway = setup.start();
    assert_eq!(ask(&gateway, "key-ci", &SIDES[0]).status, 200, "13 of 1040 are used");
    assert_eq!(gateway.terminate(), Some(0));
    let kept = gateway.home.path().join(".local/state/model-proxy/budgets.json");
    let text = fs::read_to_string(&kept).unwrap();
    assert!(text.contains("\"ci\":{\"day\":[") && text.contains(",13]"), "{text}");
    let state = gateway.home.path().join(".local/state").display().to_string();
    let second = setup.env("XDG_STATE_HOME", &state).start();
    // The words of the prompt and the usual answer of 1024 would fit, were nothing spent.
    let refused = ask(&second, "key-ci", &SIDES[0]);
    assert_eq!(refused.status, 429, "{}", refused.text());
    assert!(refused.text().contains("1040 tokens a day; retry in"), "{}", refused.text());
    assert_eq!(refused.headers.one("x-should-retry"), Some("false"), "not within an SDK's patience");
}

#[test]
fn a_budget_at_one_model_outlives_a_restart_too_and_old_ones_are_let_go() {
    let upstream = upstream();
    let setup = Setup::simple(Format::OpenaiChat, &upstream)
        .model("other", &[("p", "x")])
        .file("clients/ci.json", &file("key-ci", r#","per_model":{"m":{"tokens_per_month":1040}}"#));
    let home = setup.write();
    let state = home.path().join("state");
    let kept = state.join("model-proxy/budgets.json");
    fs::create_dir_all(kept.parent().unwrap()).unwrap();
    fs::write(&kept, r#"{"gone":{"day":[20000,5],"month":[660,5]}}"#).unwrap();
    let setup = setup.env("XDG_STATE_HOME", &state.display().to_string());
    let mut gateway = setup.start();
    assert_eq!(ask(&gateway, "key-ci", &SIDES[0]).status, 200, "13 of 1040 are used");
    assert_eq!(gateway.terminate(), Some(0));
    let text = fs::read_to_string(&kept).unwrap();
    assert!(text.contains("\"models\":{\"m\":{\"day\":[") && !text.contains("gone"), "{text}");
    let second = setup.start();
    let refused = ask(&second, "key-ci", &SIDES[0]);
    assert_eq!(refused.status, 429, "{}", refused.text());
    let message = SIDES[0].error_message(&refused);
    assert!(message.contains("1040 tokens a month of the model \"m\"; retry in"), "{message}");
    let other = CHAT_REQUEST.replace("\"m\"", "\"other\"");
    assert_eq!(second.send(&Request::post(CHAT, other).header("x-api-key", "key-ci")).status, 200, "of one model only");
}

#[test]
fn headers_tell_the_limit_of_which_less_is_left() {
    let upstream = upstream();
    let more = r#","requests_per_minute":3,"per_model":{"quick":{"requests_per_minute":2,"tokens_per_minute":9000}}"#;
    let gateway = Setup::simple(Format::OpenaiChat, &upstream)
        .file(
            "models/m.json",
            r#"{"logical_name":"m","aliases":["quick"],"model_routings":[{"provider":"p","model":"x"}]}"#,
        )
        .file("clients/ci.json", &file("key-ci", more))
        .start();
    let told = |model: &str| {
        let body = CHAT_REQUEST.replace("\"m\"", &format!("{model:?}"));
        let reply = gateway.send(&Request::post(CHAT, body).header("x-api-key", "key-ci"));
        let one = |name: &str| reply.headers.one(name).map(str::to_owned);
        let [limit, left, tokens] =
            ["limit-requests", "remaining-requests", "limit-tokens"].map(|name| one(&format!("x-ratelimit-{name}")));
        (reply.status, limit.unwrap(), left.unwrap(), tokens)
    };
    let of = |status, limit: &str, left: &str, tokens: Option<&str>| {
        (status, limit.to_owned(), left.to_owned(), tokens.map(str::to_owned))
    };
    assert_eq!(told("m"), of(200, "2", "1", Some("9000")), "the model's, though it is named by an alias");
    assert_eq!(told("quick"), of(200, "2", "0", Some("9000")));
    assert_eq!(told("m"), of(429, "2", "0", Some("9000")), "whose limit it was");
    assert_eq!(told("any/x"), of(200, "3", "0", None), "elsewhere its own");
    assert_eq!(told("any/x"), of(429, "3", "0", None));
}

#[test]
fn who_has_nothing_left_may_still_count() {
    let upstream = Upstream::answering(|seen, _| match seen.path.contains("count_tokens") {
        true => Script::json(200, r#"{"input_tokens":7}"#).header("anthropic-ratelimit-requests-remaining", "555"),
        false => Script::json(200, SIDES[1].reply),
    });
    let gateway = Setup::simple(Format::Anthropic, &upstream)
        .file("clients/ci.json", &file("key-ci", r#","requests_per_minute":1"#))
        .start();
    let statuses = [0, 1].map(|_| ask(&gateway, "key-ci", &SIDES[1]).status);
    assert_eq!(statuses, [200, 429]);
    let count = Request::post("/v1/messages/count_tokens", MESSAGES_REQUEST).header("x-api-key", "key-ci");
    let counted = gateway.send(&count);
    assert_eq!((counted.status, counted.text().as_ref()), (200, r#"{"input_tokens":7}"#));
    let left = |reply: &Reply| reply.headers.one("anthropic-ratelimit-requests-remaining").map(str::to_owned);
    assert_eq!(left(&counted).as_deref(), Some("0"), "the client's own, not the upstream's of a key of ours");
}

/// Runs a command in a folder, as a user would.
fn run(folder: &std::path::Path, words: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_model-proxy"))
        .args(words)
        .env_clear()
        .env("HOME", folder)
        .current_dir(folder)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_key_is_made_shown_once_and_works() {
    let upstream = upstream();
    let setup = Setup::simple(Format::OpenaiChat, &upstream).unset("CLIENT_API_KEY");
    let home = setup.write();
    let (code, first, said) = run(home.path(), &["keys", "new", "ci", "--model", "m", "--requests-per-minute", "60"]);
    assert_eq!(code, 0, "{said}");
    let first = first.trim();
    assert!(
        first.starts_with("mp-") && first.len() == 35 && said.contains("wrote config/clients/ci.json"),
        "{first} {said}"
    );
    let path = home.path().join("config/clients/ci.json");
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(
        text,
        format!(
            "{{\n  \"$schema\": \"../../schemas/client.schema.json\",\n  \"name\": \"ci\",\n  \"key_sha256\": \"{}\",\n  \"models\": [\"m\"],\n  \"requests_per_minute\": 60\n}}\n",
            hash(first)
        )
    );
    let (code, second, _) = run(home.path(), &["keys", "new", "ci", "--add", "--format", "json"]);
    let second: serde_json::Value = serde_json::from_str(&second).unwrap();
    assert_eq!((code, second["file"].as_str()), (0, Some("config/clients/ci.json")));
    let second = second["key"].as_str().unwrap();
    let changed = fs::read_to_string(&path).unwrap();
    assert!(changed.contains(&format!("[\"{}\", \"{}\"]", hash(first), hash(second))), "{changed}");
    assert!(!changed.contains(first) && !changed.contains(second), "no key stands in a file");
    for (words, says) in [
        (
            &["keys", "new", "ci"][..],
            "config/clients/ci.json is there already; give its client one more key with --add",
        ),
        (&["keys", "new", "none", "--add"], "there is no such client"),
        (&["keys", "new", "x", "--model", "mm"], "there is no such model (did you mean \"m\"?)"),
        (
            &["keys", "new", "x", "--tokens-per-day", "0"],
            "--tokens-per-day takes a whole number of 1 or more, not \"0\"",
        ),
        (
            &["keys", "new", "ci", "--add", "--tokens-per-day", "5"],
            "--tokens-per-day belongs into config/clients/ci.json",
        ),
        (&["keys", "new", "../x"], "is no name"),
        (&["keys", "new"], "a name is missing"),
    ] {
        let (code, out, said) = run(home.path(), words);
        assert!(code == 2 && out.is_empty() && said.contains(says), "{words:?}: {code} {out} {said}");
    }
    fs::write(home.path().join(".env"), "CLIENT_API_KEY=x\n").unwrap();
    let (code, out, said) = run(home.path(), &["keys", "new", "default"]);
    let says = "\"default\" is the name of another client";
    assert!(code != 0 && out.is_empty() && said.contains(says), "{code} {out} {said}");
    assert!(!home.path().join("config/clients/default.json").exists(), "what breaks the rest is not left behind");
    let gateway = setup.file("clients/ci.json", &changed).start();
    for key in [first, second] {
        assert_eq!(ask(&gateway, key, &SIDES[0]).status, 200);
    }
    assert_eq!(ask(&gateway, CLIENT_KEY, &SIDES[0]).status, 401, "there is no other");
    assert!(
        !gateway.stderr().contains("client   CLIENT_API_KEY is not set"),
        "no key was made for the run: {}",
        gateway.stderr()
    );
}

#[test]
fn without_a_directory_one_is_begun_and_the_models_stay() {
    let home = crate::support::TempDir::new();
    let (code, key, said) = run(home.path(), &["keys", "new", "laptop"]);
    assert_eq!(code, 0, "{said}");
    assert!(home.path().join("config/clients/laptop.json").exists() && key.starts_with("mp-"));
    let (code, list, said) = run(home.path(), &["config", "list"]);
    assert!(code == 0 && list.contains("demo") && list.contains("gpt-5"), "{list}{said}");
}
