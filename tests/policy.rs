//! What a model's and a provider's files say of failures, waits, sessions and silence, seen from outside.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::comes_true;
use crate::support::gateway::{Gateway, Setup};
use crate::support::http::Request;
use crate::support::samples::{SIDES, Side};
use crate::support::upstream::{After, Script, Seen, Upstream};

fn key(seen: &Seen) -> String {
    let value = seen.headers.one("authorization").or_else(|| seen.headers.one("x-api-key"));
    value.unwrap_or_default().trim_start_matches("Bearer ").to_owned()
}

fn keys(upstream: &Upstream) -> Vec<String> {
    upstream.seen().iter().map(key).collect()
}

fn good(side: &Side, seen: &Seen) -> Script {
    if seen.wants_stream() { Script::stream(side.stream) } else { Script::json(200, side.reply) }
}

/// Providers `p`, `q`, … with a key each and the model `m` that goes through them; `more` stands in the model's file.
fn through(providers: &[(&Side, &Upstream)], more: &Value) -> Setup {
    let mut setup = Setup::new();
    let mut routes = Vec::new();
    for ((side, upstream), name) in providers.iter().zip(["p", "q", "r"]) {
        setup = setup
            .provider(name, side.format, upstream)
            .env(&format!("{}_API_KEY", name.to_uppercase()), &format!("key-{name}-12345"));
        routes.push(json!({"provider": name, "model": "up"}));
    }
    let mut file = json!({"logical_name": "m", "model_routings": routes});
    for (name, value) in more.as_object().unwrap() {
        file[name] = value.clone();
    }
    setup.file("models/m.json", &file.to_string())
}

fn five_keys(side: &Side, upstream: &Upstream) -> Gateway {
    let mut setup = Setup::new().provider("p", side.format, upstream).model("m", &[("p", "up")]);
    for n in 1..=5 {
        setup = setup.env(&format!("P_API_KEY_{n}"), &format!("key-number-{n}"));
    }
    setup.start()
}

#[test]
fn a_request_waits_for_what_is_due_soon_and_is_told_of_what_is_not() {
    for side in SIDES {
        let upstream = Upstream::answering(move |seen, _| good(&side, seen));
        let gateway = through(&[(&side, &upstream)], &json!({})).start();
        let limited = |seconds: &str| {
            Script::json(429, side.error("rate_limit_error", "slow down")).header("retry-after", seconds)
        };
        upstream.queue(limited("1"));
        let first = gateway.post(side.path, side.request);
        assert_eq!((first.status, first.headers.one("retry-after")), (429, Some("1")), "{}", first.text());
        let asked = Instant::now();
        let second = gateway.post(side.path, side.request);
        assert_eq!(second.status, 200, "{}", second.text());
        assert!(Duration::from_millis(500) < asked.elapsed(), "it was waited for: {:?}", asked.elapsed());
        upstream.queue(limited("90"));
        assert_eq!(gateway.post(side.path, side.request).status, 429);
        let third = gateway.post(side.path, side.request);
        let wait: u64 = third.headers.one("retry-after").unwrap().parse().unwrap();
        assert!(third.status == 429 && (80..=90).contains(&wait), "{} {wait}", third.status);
        assert_eq!(third.headers.one("x-should-retry"), Some("false"), "longer than SDKs wait");
        assert_eq!(upstream.count(), 3, "what rests is not asked");
        let why = "untried=\"every key for model \\\"m\\\" is resting (rate limited); retry in";
        assert!(comes_true(Duration::from_secs(5), || gateway.stderr().contains(why)), "{}", gateway.stderr());
        side.error_message(&third);
    }
}

#[test]
fn requests_of_one_session_stay_with_one_key() {
    for side in SIDES {
        let upstream = Upstream::answering(move |seen, _| good(&side, seen));
        let gateway = five_keys(&side, &upstream);
        let mut used = BTreeSet::new();
        for session in 0..8 {
            let before = upstream.count();
            for _ in 0..3 {
                let request = Request::post(side.path, side.request)
                    .with_key()
                    .header("x-claude-code-session-id", &format!("s-{session}"));
                assert_eq!(gateway.send(&request).status, 200);
            }
            let keys: BTreeSet<String> = keys(&upstream).split_off(before).into_iter().collect();
            assert_eq!(keys.len(), 1, "{keys:?}");
            used.extend(keys);
        }
        assert!(1 < used.len(), "sessions are spread: {used:?}");
        let by_body = side.request.replace(r#""model":"m""#, r#""model":"m","metadata":{"user_id":"s-0"}"#);
        let before = upstream.count();
        for _ in 0..3 {
            assert_eq!(gateway.post(side.path, by_body.clone()).status, 200);
        }
        let keys = keys(&upstream).split_off(before);
        assert_eq!(keys, [keys[0].clone(), keys[0].clone(), keys[0].clone()], "and {}", upstream.seen()[0].text());
        // Another gateway with the same keys agrees.
        let twin = five_keys(&side, &upstream);
        assert_eq!(twin.post(side.path, by_body).status, 200);
        assert_eq!(key(&upstream.last()), keys[0]);
    }
}

#[test]
fn what_is_too_long_goes_only_to_what_is_declared_larger() {
    for side in SIDES {
        let too_long = move || Script::json(400, side.error("invalid_request_error", "prompt is too long: 9 > 8"));
        let small = Upstream::answering(move |_, _| too_long());
        let same = Upstream::answering(move |_, _| too_long());
        let large = Upstream::answering(move |seen, _| good(&side, seen));
        let setup = |tokens: u32| {
            through(
                &[(&side, &small), (&side, &same), (&side, &large)],
                &json!({"model_routings": [
                    {"provider": "p", "model": "up", "context_tokens": 200_000},
                    {"provider": "q", "model": "up"},
                    {"provider": "r", "model": "up", "context_tokens": tokens},
                ]}),
            )
        };
        let reply = setup(1_000_000).start().post(side.path, side.request);
        assert_eq!((reply.status, reply.headers.one("x-model-proxy-route")), (200, Some("r/up")), "{}", reply.text());
        let reply = setup(200_000).start().post(side.path, side.request);
        assert_eq!((reply.status, side.error_message(&reply).as_str()), (400, "prompt is too long: 9 > 8"));
        assert_eq!((small.count(), same.count(), large.count()), (2, 0, 1), "only where it may fit");
    }
}

#[test]
fn a_providers_rules_say_whose_trouble_an_error_is() {
    for side in SIDES {
        let upstream = Upstream::answering(move |seen, _| match key(seen).as_str() {
            "key-1-12345" => Script::json(400, side.error("invalid_request_error", "Tenant is FROZEN today")),
            _ => good(&side, seen),
        });
        let rules = json!({"error_rules": [{"status": 400, "body_contains": "frozen", "scope": "key", "cooldown_seconds": 60}]});
        let gateway = Setup::new()
            .provider_with("p", side.format, &upstream, &rules)
            .env("P_API_KEY_1", "key-1-12345")
            .env("P_API_KEY_2", "key-2-12345")
            .model("m", &[("p", "up")])
            .start();
        for _ in 0..4 {
            assert_eq!(gateway.post(side.path, side.request).status, 200);
        }
        let refused = keys(&upstream).iter().filter(|key| *key == "key-1-12345").count();
        assert_eq!((refused, upstream.count()), (1, 5), "the key rests");
    }
}

#[test]
fn an_account_without_credit_is_the_keys_trouble_whatever_the_status() {
    for side in SIDES {
        for status in [400, 403] {
            let words = "Your credit balance is too low to access the API.";
            let upstream =
                Upstream::answering(move |_, _| Script::json(status, side.error("invalid_request_error", words)));
            let gateway = through(&[(&side, &upstream)], &json!({})).start();
            let reply = gateway.post(side.path, side.request);
            let said = side.error_message(&reply);
            assert!(reply.status == 502 && said.contains("\"p\""), "{} {said}", reply.status);
            let next = gateway.post(side.path, side.request);
            assert_eq!((next.status, upstream.count()), (503, 1), "the key rests: {}", next.text());
        }
    }
}

#[test]
fn a_models_budget_of_attempts_is_kept() {
    for side in SIDES {
        let upstream = Upstream::answering(move |_, _| Script::json(401, side.error("authentication_error", "no")));
        let mut setup = through(&[(&side, &upstream)], &json!({"max_attempts": 2}));
        for n in 1..=5 {
            setup = setup.env(&format!("P_API_KEY_{n}"), &format!("key-number-{n}"));
        }
        let reply = setup.start().post(side.path, side.request);
        assert_eq!((reply.status, upstream.count()), (502, 2), "{}", reply.text());
    }
}

#[test]
fn a_silent_stream_is_kept_alive_in_its_clients_format() {
    for (side, client) in SIDES.into_iter().flat_map(|side| SIDES.map(|client| (side, client))) {
        let at = side.stream.find("day").unwrap();
        let upstream =
            Upstream::answering(move |_, _| Script::stream(side.stream).cut(&[at]).between(Duration::from_millis(700)));
        let gateway = through(&[(&side, &upstream)], &json!({"keep_alive_seconds": 0.2})).start();
        let reply = gateway.post(client.path, client.stream_request);
        let beat = client.format.codec().keep_alive;
        let text = reply.text();
        let beats =
            text.matches(beat).count() - usize::from(side.format == client.format && side.stream.contains(beat));
        assert!(2 <= beats && client.has_ended_well(&text), "{beats} {text}");
        // Where nothing is translated, all else is as it came.
        if side.format == client.format {
            let original = side.stream.replace(beat, "");
            assert_eq!(text.replace(beat, ""), original);
        }
    }
}

#[test]
fn a_client_may_be_answered_before_anybody_answers() {
    for (side, client) in SIDES.into_iter().flat_map(|side| SIDES.map(|client| (side, client))) {
        let dead = Upstream::answering(move |_, _| {
            Script::json(500, side.error("api_error", "broken")).before_head(Duration::from_millis(400))
        });
        let alive = Upstream::answering(move |seen, _| good(&side, seen).before_head(Duration::from_millis(300)));
        let early = json!({"early_commit_ms": 100, "keep_alive_seconds": 0.15});
        let gateway = through(&[(&side, &dead), (&side, &alive)], &early).start();
        let mut connection = gateway.connect();
        let asked = Instant::now();
        let (status, headers) = connection.start(&Request::post(client.path, client.stream_request).with_key());
        assert!(asked.elapsed() < Duration::from_millis(390), "before the first has failed: {:?}", asked.elapsed());
        assert!(status == 200 && headers.one("content-type").is_some_and(|t| t.starts_with("text/event-stream")));
        let mut text = String::new();
        while let Ok(Some(piece)) = connection.piece() {
            text.push_str(&String::from_utf8_lossy(&piece));
        }
        assert!(text.starts_with(client.format.codec().keep_alive), "{text}");
        assert!(client.has_ended_well(&text) && text.contains("Good "), "{text}");
        assert_eq!((dead.count(), alive.count()), (1, 1));
        assert!(comes_true(Duration::from_secs(5), || gateway.stderr().contains("route=q/up attempts=2 status=200")));
        // What is whole, or fast, is answered as ever.
        let prompt = Upstream::answering(move |seen, _| good(&side, seen));
        let fast = through(&[(&side, &prompt)], &early).start();
        for request in [client.request, client.stream_request] {
            let reply = fast.post(client.path, request);
            assert_eq!((reply.status, reply.headers.one("x-model-proxy-route")), (200, Some("p/up")));
        }
    }
}

#[test]
fn what_an_early_answer_has_lost_is_told_in_a_comment() {
    let (side, client) = (SIDES[0], SIDES[1]);
    let late = Upstream::answering(move |seen, _| good(&side, seen).before_head(Duration::from_millis(300)));
    let request = client.stream_request.replace(r#""model":"m""#, r#""model":"m","container":"c_1""#);
    for (on_lossy, is_told) in [("report", true), ("silent", false)] {
        let terms = json!({"early_commit_ms": 50, "on_lossy": on_lossy});
        let text = through(&[(&side, &late)], &terms).start().post(client.path, request.clone()).text();
        assert!(client.has_ended_well(&text), "{text}");
        assert_eq!(text.contains(": x-model-proxy-dropped: container\n\n"), is_told, "{on_lossy}: {text}");
    }
}

#[test]
fn what_fails_after_an_early_answer_is_told_in_the_stream() {
    for side in SIDES {
        let dead = Upstream::answering(move |_, _| {
            Script::json(500, side.error("api_error", "broken")).before_head(Duration::from_millis(250))
        });
        let gateway = through(&[(&side, &dead)], &json!({"early_commit_ms": 50})).start();
        let reply = gateway.post(side.path, side.stream_request);
        let text = reply.text();
        assert!(reply.status == 200 && text.contains("broken") && !side.has_ended_well(&text), "{text}");
        assert!(comes_true(Duration::from_secs(5), || gateway.stderr().matches("broken=").count() == 1));
    }
}

#[test]
fn a_client_that_leaves_early_closes_the_upstream_and_cools_nobody() {
    for side in SIDES {
        let upstream = Upstream::answering(move |seen, n| match n {
            0 => Script::nothing(After::Silence),
            _ => good(&side, seen),
        });
        let gateway = through(&[(&side, &upstream)], &json!({"early_commit_ms": 50})).start();
        let mut connection = gateway.connect();
        let (status, _) = connection.start(&Request::post(side.path, side.stream_request).with_key());
        assert_eq!(status, 200);
        connection.leave();
        assert!(comes_true(Duration::from_secs(1), || upstream.departures() == 1), "the upstream is let go");
        assert_eq!(gateway.post(side.path, side.request).status, 200);
        assert!(comes_true(Duration::from_secs(5), || gateway.stderr().matches("client_closed").count() == 1));
    }
}

#[test]
fn the_gates_bounds_are_the_routes_own() {
    for side in SIDES {
        // Starts, and then nothing: for how long is that no answer?
        let start = side.stream.find("Good").unwrap() - 60;
        let start = side.stream[..start].rfind("\n\n").unwrap() + 2;
        let stalls = Upstream::answering(move |_, _| Script::stream(side.stream).stop_at(start, After::Silence));
        let alive = Upstream::answering(move |seen, _| good(&side, seen));
        let gate = |gate: Value| through(&[(&side, &stalls), (&side, &alive)], &json!({"output_gate": gate})).start();
        let asked = Instant::now();
        let reply = gate(json!({"timeout_seconds": 0.3})).post(side.path, side.stream_request);
        assert_eq!((reply.status, reply.headers.one("x-model-proxy-route")), (200, Some("q/up")));
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
        let gateway = gate(json!({"max_events": 1}));
        let mut connection = gateway.connect();
        let (status, headers) = connection.start(&Request::post(side.path, side.stream_request).with_key());
        assert_eq!((status, headers.one("x-model-proxy-route")), (200, Some("p/up")), "one event is enough here");
    }
}

/// The README's table of the policy is what `judge` says.
#[test]
fn the_readme_shows_the_policy() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- policy -->\n", "<!-- /policy -->");
    let (before, rest) = readme.split_once(begin).expect("the README has the table's begin");
    let (_, after) = rest.split_once(end).expect("the README has the table's end");
    let wanted = format!("{before}{begin}{}{end}{after}", model_proxy::route::told::table());
    if std::env::var_os("MODEL_PROXY_BLESS").is_some() {
        fs::write(&path, &wanted).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap();
    assert!(found == wanted, "README.md is stale: MODEL_PROXY_BLESS=1 cargo test --test main policy writes it anew");
}

#[test]
fn a_reply_without_end_is_no_answer() {
    let side = SIDES[0];
    let endless = format!("{{\"padding\":\"{}\"}}", "x".repeat(65 * 1024 * 1024));
    let large = Upstream::answering(move |_, _| Script::json(200, &endless));
    let alive = Upstream::answering(move |seen, _| good(&side, seen));
    let gateway = through(&[(&side, &large), (&side, &alive)], &json!({})).start();
    let reply = gateway.post(side.path, side.request);
    assert_eq!((reply.status, reply.headers.one("x-model-proxy-route")), (200, Some("q/up")), "{}", reply.text());
    assert!(gateway.peak_rss_kib() < 300 * 1024, "{} KiB", gateway.peak_rss_kib());
}
