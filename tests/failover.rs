//! What is tried next when an attempt fails, what the client gets to see of it, and what is never tried twice. The
//! oracle is what the upstreams saw.

use std::time::Duration;

use crate::support::comes_true;
use crate::support::gateway::{Gateway, Setup};
use crate::support::http::{Client, Request};
use crate::support::samples::{CHAT, SIDES, Side};
use crate::support::upstream::{After, Script, Seen, Upstream};
use crate::support::wait_until;

/// The provider's key that a request came with.
fn key(seen: &Seen) -> &str {
    let value = seen.headers.one("authorization").or_else(|| seen.headers.one("x-api-key"));
    value.unwrap_or_default().trim_start_matches("Bearer ")
}

fn keys(upstream: &Upstream) -> Vec<String> {
    upstream.seen().iter().map(|seen| key(seen).to_owned()).collect()
}

/// A good answer to a request of this side's format.
fn good(side: &Side, seen: &Seen) -> Script {
    if seen.wants_stream() { Script::stream(side.stream) } else { Script::json(200, side.reply) }
}

/// One provider with the keys `key-1` and `key-2`.
fn two_keys(side: &Side, upstream: &Upstream) -> Gateway {
    Setup::new()
        .provider("p", side.format, upstream)
        .env("P_API_KEY_1", "key-1")
        .env("P_API_KEY_2", "key-2")
        .model("m", &[("p", "upstream-model")])
        .model("other", &[("p", "other-model")])
        .start()
}

/// Two providers with one key each, the second being asked when the first fails. They may differ in format.
fn two_routes(first: (&Side, &Upstream), second: (&Side, &Upstream)) -> Gateway {
    Setup::new()
        .provider("p", first.0.format, first.1)
        .provider("q", second.0.format, second.1)
        .env("P_API_KEY", "key-p")
        .env("Q_API_KEY", "key-q")
        .model("m", &[("p", "upstream-model"), ("q", "upstream-model")])
        .start()
}

/// An upstream that refuses one key with an answer and serves every other.
fn refusing(side: Side, bad: &'static str, refusal: Script) -> Upstream {
    Upstream::answering(move |seen, _| if key(seen) == bad { refusal.clone() } else { good(&side, seen) })
}

#[test]
fn a_refused_key_gives_way_to_the_next_and_rests() {
    for side in SIDES {
        for (status, refusals) in [(401, 1), (403, 3)] {
            let refusal = Script::json(status, side.error("authentication_error", "no such key"));
            let upstream = refusing(side, "key-1", refusal);
            let gateway = two_keys(&side, &upstream);
            for request in [side.request, side.stream_request, side.request].repeat(3) {
                let reply = gateway.post(side.path, request);
                assert_eq!(reply.status, 200, "{}", reply.text());
            }
            let keys = keys(&upstream);
            let refused = keys.iter().filter(|key| *key == "key-1").count();
            assert_eq!((refused, keys.len()), (refusals, 9 + refusals), "the refused key rests: {keys:?}");
        }
    }
}

// covers EC99
#[test]
fn when_every_key_is_refused_it_is_our_trouble_and_not_the_clients() {
    for side in SIDES {
        let upstream = Upstream::answering(move |_, _| {
            Script::json(401, side.error("authentication_error", "invalid x-api-key key-1"))
        });
        let gateway = two_keys(&side, &upstream);
        for request in [side.request, side.stream_request] {
            let reply = gateway.post(side.path, request);
            assert!([502, 503].contains(&reply.status), "{} {}", reply.status, reply.text());
            side.error_message(&reply);
            assert!(!reply.text().contains("key-1") && !reply.text().contains("key-2"), "{}", reply.text());
        }
        let first = &keys(&upstream)[..2];
        assert!(first.contains(&"key-1".to_owned()) && first.contains(&"key-2".to_owned()), "{first:?}");
        assert!(!gateway.stderr().contains("key-2"), "no key is logged: {}", gateway.stderr());
    }
}

#[test]
fn a_request_that_is_wrong_is_told_so_and_harms_nobody() {
    for side in SIDES {
        for status in [400, 413, 422] {
            let upstream = Upstream::start();
            let gateway = two_keys(&side, &upstream);
            let words = side.error("invalid_request_error", "messages.0: that is no role");
            for request in [side.request, side.stream_request] {
                upstream.queue(Script::json(status, &words));
                let before = upstream.count();
                let reply = gateway.post(side.path, request);
                assert_eq!((reply.status, reply.text()), (status, words.clone()));
                assert_eq!(upstream.count(), before + 1, "one call");
                let next = gateway.post(side.path, side.request);
                assert_eq!(next.status, 200, "the next request is served: {}", next.text());
            }
        }
    }
}

#[test]
fn a_wrong_request_is_told_so_in_the_clients_format() {
    for side in SIDES {
        let other = side.other();
        let upstream = Upstream::answering(move |_, _| {
            Script::json(400, other.error("invalid_request_error", "prompt is too long: 9 tokens > 8 maximum"))
        });
        let gateway = two_keys(&other, &upstream);
        for request in [side.request, side.stream_request] {
            let reply = gateway.post(side.path, request);
            assert_eq!(reply.status, 400, "{}", reply.text());
            assert!(side.error_message(&reply).contains("prompt is too long: 9 tokens > 8 maximum"));
        }
        assert_eq!(upstream.count(), 2, "one call each");
    }
}

#[test]
fn a_limited_key_gives_way_and_rests_as_long_as_it_was_told() {
    for side in SIDES {
        let refusal = Script::json(429, side.error("rate_limit_error", "slow down")).header("retry-after", "30");
        let upstream = refusing(side, "key-1", refusal);
        let gateway = two_keys(&side, &upstream);
        for _ in 0..4 {
            let reply = gateway.post(side.path, side.request);
            assert_eq!(reply.status, 200, "{}", reply.text());
        }
        let keys = keys(&upstream);
        assert_eq!(keys.iter().filter(|key| *key == "key-1").count(), 1, "{keys:?}");
    }
}

#[test]
fn when_every_key_is_limited_the_client_learns_how_long() {
    for side in SIDES {
        let upstream = Upstream::answering(move |_, _| {
            Script::json(429, side.error("rate_limit_error", "slow down")).header("retry-after", "30")
        });
        let gateway = two_keys(&side, &upstream);
        for _ in 0..2 {
            let reply = gateway.post(side.path, side.request);
            assert_eq!(reply.status, 429, "{}", reply.text());
            side.error_message(&reply);
            let seconds: u32 = reply.headers.one("retry-after").and_then(|v| v.parse().ok()).expect("retry-after");
            assert!((1..=30).contains(&seconds), "{seconds}");
        }
    }
}

#[test]
fn a_failing_provider_gives_way_to_the_next_route() {
    for side in SIDES {
        for status in [500, 502, 503, 529] {
            let first =
                Upstream::answering(move |_, _| Script::json(status, side.error("api_error", "something broke")));
            let second = Upstream::start();
            let gateway = two_routes((&side, &first), (&side, &second));
            for (request, answer) in [(side.request, side.reply), (side.stream_request, side.stream)] {
                let reply = gateway.post(side.path, request);
                assert_eq!((reply.status, reply.text().as_str()), (200, answer), "{status}");
            }
            assert!(first.count() >= 1 && second.count() == 2, "{status}");
        }
    }
}

#[test]
fn the_next_route_may_speak_the_other_format() {
    for side in SIDES {
        let first = Upstream::answering(move |_, _| Script::json(500, side.error("api_error", "something broke")));
        let second = Upstream::start();
        let gateway = two_routes((&side, &first), (&side.other(), &second));
        for request in [side.request, side.stream_request] {
            let reply = gateway.post(side.path, request);
            assert_eq!(reply.status, 200, "{}", reply.text());
            assert!(reply.text().contains("Good"), "{}", reply.text());
            if request == side.stream_request {
                assert!(side.has_ended_well(&reply.text()), "{}", reply.text());
            }
        }
        assert_eq!(second.last().path, side.other().path);
    }
}

// covers 5.4/fallback
#[test]
fn each_route_is_sent_the_clients_own_request() {
    let [chat, messages, _] = SIDES;
    let thought = r#"{"type":"thinking","thinking":"Hm.","signature":"EqQB"}"#;
    let request = format!(
        r#"{{"model":"m", "max_tokens":9,"messages":[{{"role":"user","content":"hi"}},{{"role":"assistant","content":[{thought},{{"type":"text","text":"ho","cache_control":{{"type":"ephemeral"}}}}]}},{{"role":"user","content":"so?"}}]}}"#
    );
    let first = Upstream::answering(move |_, _| Script::json(500, chat.error("api_error", "something broke")));
    let second = Upstream::start();
    let gateway = two_routes((&chat, &first), (&messages, &second));
    let reply = gateway.post(messages.path, request.as_str());
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(!first.last().text().contains("EqQB"), "{}", first.last().text());
    assert_eq!(second.last().text(), request.replace(r#""m""#, r#""upstream-model""#));
}

#[test]
fn a_dead_port_and_a_closed_door_give_way() {
    for side in SIDES {
        for after in [After::Close, After::Reset] {
            let first = Upstream::answering(move |_, _| Script::nothing(after));
            let second = Upstream::start();
            let gateway = two_routes((&side, &first), (&side, &second));
            assert_eq!(gateway.post(side.path, side.request).status, 200, "{after:?}");
            assert_eq!(first.count(), 1, "what failed on a fresh connection is not sent there again");
        }
        let gone = Upstream::start();
        let second = Upstream::start();
        let gateway = two_routes((&side, &gone), (&side, &second));
        drop(gone);
        // The listener ends when its thread wakes; from then on connecting fails.
        wait_until("the second route", || gateway.post(side.path, side.request).status == 200 && 1 <= second.count());
    }
}

#[test]
fn a_fallback_model_is_the_last_resort() {
    for side in SIDES {
        let first = Upstream::answering(move |_, _| Script::json(500, side.error("api_error", "something broke")));
        let second = Upstream::start();
        let model = r#"{"logical_name":"m","model_routings":[{"provider":"p","model":"a"}],"fallback_model_routings":["spare"]}"#;
        let gateway = Setup::new()
            .provider("p", side.format, &first)
            .provider("q", side.format, &second)
            .env("P_API_KEY", "key-p")
            .env("Q_API_KEY", "key-q")
            .file("models/m.json", model)
            .model("spare", &[("q", "spare-upstream")])
            .start();
        assert_eq!(gateway.post(side.path, side.request).status, 200);
        assert_eq!(second.last().json()["model"], "spare-upstream");
    }
}

#[test]
fn a_silent_route_gives_way_in_its_time() {
    for side in SIDES {
        let first = Upstream::answering(|_, _| Script::nothing(After::Silence));
        let second = Upstream::start();
        let brief = serde_json::json!({ "request_config": { "timeout_seconds": 1 } });
        let gateway = Setup::new()
            .provider_with("p", side.format, &first, &brief)
            .provider("q", side.format, &second)
            .env("P_API_KEY", "key-p")
            .env("Q_API_KEY", "key-q")
            .model("m", &[("p", "a"), ("q", "b")])
            .start();
        assert_eq!(gateway.post(side.path, side.request).status, 200);
        assert_eq!((first.count(), second.count()), (1, 1), "silence is met once");
        wait_until("the silent connection to be closed", || first.departures() == 1);
    }
}

// covers EC100 9.3/held_back
#[test]
fn a_stream_that_opens_with_an_error_has_not_begun() {
    for side in SIDES {
        let opening = match side.path {
            CHAT => String::new(),
            _ => side.stream.split_inclusive("\n\n").next().unwrap().to_owned(),
        };
        let first = Upstream::answering(move |_, _| {
            Script::stream(format!("{opening}{}", side.error_event("overloaded_error", "Overloaded")))
        });
        let second = Upstream::start();
        let gateway = two_routes((&side, &first), (&side, &second));
        let reply = gateway.post(side.path, side.stream_request);
        assert_eq!((reply.status, reply.text().as_str()), (200, side.stream));
        assert_eq!((first.count(), second.count()), (1, 1));
    }
}

// covers EC100
#[test]
fn a_stream_with_nothing_but_an_error_is_an_error_to_the_client() {
    for side in SIDES {
        for client in SIDES {
            let upstream =
                Upstream::answering(move |_, _| Script::stream(side.error_event("overloaded_error", "Overloaded")));
            let gateway = two_keys(&side, &upstream);
            let reply = gateway.post(client.path, client.stream_request);
            assert!(reply.status >= 500, "nothing was promised yet: {} {}", reply.status, reply.text());
            client.error_message(&reply);
        }
    }
}

/// How a stream may break after its first output.
fn breaks(side: &Side) -> Vec<(&'static str, Script)> {
    let said = side.stream.find("Good ").unwrap();
    let upto = said + side.stream[said..].find("\n\n").unwrap() + 2;
    let cut = Script::stream(side.stream);
    let event = format!("{}{}", &side.stream[..upto], side.error_event("overloaded_error", "Overloaded"));
    let pause = Duration::from_millis(50);
    vec![
        ("closed inside a chunked body", cut.clone().stop_at(upto, After::Close)),
        ("closed inside an event", cut.clone().stop_at(upto + 30, After::Close)),
        ("reset", cut.stop_at(upto, After::Reset)),
        // What comes in one read with an error has not been sent on yet, and may still be replaced: so it comes apart.
        ("an error event", Script::stream(event).cut(&[upto]).between(pause)),
        ("a proper end without the last event", Script::stream(&side.stream[..upto]).cut(&[said]).between(pause)),
    ]
}

#[test]
fn a_stream_that_breaks_after_output_ends_as_an_error_and_is_not_asked_again() {
    for side in SIDES {
        for client in SIDES {
            for (how, script) in breaks(&side) {
                let first = Upstream::answering(move |_, _| script.clone());
                let second = Upstream::start();
                let gateway = two_routes((&side, &first), (&side, &second));
                let reply = gateway.post(client.path, client.stream_request);
                let text = reply.text();
                let case = format!("{how}, {} to {}: {text}", side.format, client.format);
                assert_eq!(reply.status, 200, "{case}");
                assert!(text.contains("Good "), "{case}");
                assert!(!client.has_ended_well(&text), "no clean end: {case}");
                let error = match client.path {
                    CHAT => text.contains("data: {\"error\":"),
                    _ => text.contains("event: error\ndata: {\"type\":\"error\""),
                };
                assert!(error, "an error event: {case}");
                assert_eq!((first.count(), second.count()), (1, 0), "no second call: {case}");
            }
        }
    }
}

#[test]
fn a_whole_reply_that_breaks_is_tried_elsewhere() {
    for side in SIDES {
        for client in SIDES {
            for script in [
                Script::json(200, side.reply).stop_at(40, After::Close),
                Script::json(200, side.reply).stop_at(40, After::Reset),
                Script::json(200, "<html>busy</html>"),
                Script::json(200, side.error("api_error", "an error under a 200")),
            ] {
                let first = Upstream::answering(move |_, _| script.clone());
                let second = Upstream::start();
                let gateway = two_routes((&side, &first), (&side, &second));
                let reply = gateway.post(client.path, client.request);
                assert_eq!(reply.status, 200, "{}", reply.text());
                assert!(reply.is_whole && reply.text().contains("Good day"), "{}", reply.text());
                assert_eq!((first.count(), second.count()), (1, 1));
            }
        }
    }
}

/// A client that asks and leaves; the upstream has to learn of it within a second, and nothing else is tried.
#[track_caller]
fn check_leaving(script: &Script, client: &Side, side: &Side, leave: impl FnOnce(&Upstream, Client)) {
    let script = script.clone();
    let upstream = Upstream::answering(move |_, _| script.clone());
    let gateway = two_keys(side, &upstream);
    let connection = gateway.connect();
    leave(&upstream, connection);
    let told = comes_true(Duration::from_secs(1), || upstream.departures() == 1);
    assert!(told, "{} to {}: the upstream is not told", side.format, client.format);
    assert_eq!(upstream.count(), 1, "nobody else is asked");
}

#[test]
fn a_client_that_leaves_before_the_answer_closes_the_upstream() {
    for side in SIDES {
        for client in SIDES {
            for request in [client.request, client.stream_request] {
                check_leaving(&Script::nothing(After::Silence), &client, &side, |upstream, mut connection| {
                    connection.ask(&Request::post(client.path, request).with_key());
                    upstream.wait_for(1);
                    connection.leave();
                });
            }
        }
    }
}

#[test]
fn a_client_that_leaves_inside_a_stream_closes_the_upstream() {
    for side in SIDES {
        let upto = side.stream.find("day. ").unwrap();
        let script = Script::stream(side.stream).stop_at(upto, After::Silence);
        for client in SIDES {
            check_leaving(&script, &client, &side, |_, mut connection| {
                let (status, _) = connection.start(&Request::post(client.path, client.stream_request).with_key());
                assert_eq!(status, 200);
                let mut text = String::new();
                while !text.contains("Good ") {
                    let piece = connection.piece().unwrap().expect("the stream goes on");
                    text.push_str(&String::from_utf8_lossy(&piece));
                }
                connection.leave();
            });
        }
    }
}

#[test]
fn a_stale_connection_is_replaced_and_the_key_is_not_blamed() {
    for side in SIDES {
        for after in [After::Close, After::Reset] {
            let upstream = Upstream::answering(move |seen, at| match at {
                1 => Script::nothing(after),
                _ => good(&side, seen),
            });
            let gateway = Setup::simple(side.format, &upstream).start();
            for _ in 0..2 {
                let reply = gateway.post(side.path, side.request);
                assert_eq!(reply.status, 200, "{after:?}: {}", reply.text());
            }
            let seen = upstream.seen();
            let connections: Vec<usize> = seen.iter().map(|s| s.connection).collect();
            assert_eq!(connections, [0, 0, 1], "sent again on a fresh connection");
            assert!(seen.iter().all(|s| key(s) == "key-one"), "by the same key");
            assert_eq!(gateway.post(side.path, side.request).status, 200, "which did not have to rest");
        }
    }
}

#[test]
fn an_upstream_that_closes_after_every_answer_costs_nobody_anything() {
    for side in SIDES {
        let upstream = Upstream::answering(move |seen, _| good(&side, seen).then(After::Close));
        let gateway = Setup::simple(side.format, &upstream).start();
        for _ in 0..20 {
            assert_eq!(gateway.post(side.path, side.request).status, 200);
        }
        assert_eq!(upstream.count(), 20, "no request was sent twice");
    }
}

#[test]
fn keys_take_turns() {
    for side in SIDES {
        let upstream = Upstream::start();
        let gateway = two_keys(&side, &upstream);
        for _ in 0..6 {
            assert_eq!(gateway.post(side.path, side.request).status, 200);
        }
        let keys = keys(&upstream);
        assert_eq!(keys.iter().filter(|key| *key == "key-1").count(), 3, "{keys:?}");
    }
}

/// An error the upstream tells of under a 200, whole or as its stream's first event.
fn under_200(side: &Side, seen: &Seen, kind: &str) -> Script {
    if seen.wants_stream() {
        Script::stream(side.error_event(kind, "so it is"))
    } else {
        Script::json(200, side.error(kind, "so it is"))
    }
}

// covers EC94
#[test]
fn an_error_under_a_200_is_judged_as_what_it_says() {
    for side in SIDES {
        for client in SIDES {
            let upstream = Upstream::answering(move |seen, at| match at {
                0 | 1 => under_200(&side, seen, "invalid_request_error"),
                _ => good(&side, seen),
            });
            let gateway = two_keys(&side, &upstream);
            for request in [client.request, client.stream_request] {
                let reply = gateway.post(client.path, request);
                assert_eq!((reply.status, client.error_message(&reply).as_str()), (400, "so it is"));
            }
            assert_eq!(upstream.count(), 2, "each was tried once");
            let refusing = Upstream::answering(move |seen, _| match key(seen) {
                "key-1" => under_200(&side, seen, "authentication_error"),
                _ => good(&side, seen),
            });
            let gateway = two_keys(&side, &refusing);
            for request in [client.request, client.stream_request, client.request] {
                assert_eq!(gateway.post(client.path, request).status, 200);
            }
            let keys = keys(&refusing);
            assert_eq!(
                keys.iter().filter(|key| *key == "key-1").count(),
                1,
                "the key rests, the route does not: {keys:?}"
            );
        }
    }
}

#[test]
fn what_no_resting_route_can_carry_is_refused_at_once() {
    let [chat, messages, _] = SIDES;
    let upstream = Upstream::answering(move |_, _| Script::json(500, messages.error("api_error", "down")));
    let gateway = two_routes((&messages, &upstream), (&messages, &upstream));
    assert_eq!(gateway.post(chat.path, chat.request).status, 500);
    let audio =
        chat.request.replace(r#""Hello""#, r#"[{"type":"input_audio","input_audio":{"data":"AA==","format":"wav"}}]"#);
    let asked = upstream.count();
    assert_eq!(gateway.post(chat.path, audio).status, 400);
    assert_eq!(upstream.count(), asked, "it was sent nowhere");
}

#[test]
fn a_key_the_upstream_repeats_reaches_nobody() {
    for side in SIDES {
        for client in SIDES {
            for status in [400, 401, 500] {
                let words = side.error("some_error", "no such key: sk-canary-0123456789");
                let upstream = Upstream::answering(move |_, _| Script::json(status, &words));
                let gateway = Setup::new()
                    .provider("p", side.format, &upstream)
                    .env("P_API_KEY", "sk-canary-0123456789")
                    .model("m", &[("p", "upstream-model")])
                    .start();
                let reply = gateway.post(client.path, client.request);
                assert!(400 <= reply.status && !reply.text().contains("canary"), "{}", reply.text());
                wait_until("the request's line", || gateway.stderr().contains("attempts=1"));
                assert!(!gateway.stderr().contains("canary"), "{}", gateway.stderr());
            }
        }
    }
}

#[test]
fn a_models_name_cannot_lead_a_key_elsewhere() {
    let [chat, ..] = SIDES;
    let upstream = Upstream::answering(move |seen, _| good(&chat, seen));
    let path = serde_json::json!({ "endpoints": {
        "base_url": format!("http://{}", upstream.address), "completions": "/models/{model}/chat?v=1",
    }});
    let gateway = Setup::new()
        .provider_with("p", chat.format, &upstream, &path)
        .env("P_API_KEY", "key-one")
        .model("any/*", &[("p", "*")])
        .start();
    let ask = |model: &str| gateway.post(chat.path, chat.request.replace(r#""m""#, &format!("\"any/{model}\"")));
    assert_eq!(ask("../../admin?x=").status, 400);
    assert_eq!(ask("a b?c#d").status, 200);
    assert_eq!(ask("plain/name:1").status, 200);
    let paths: Vec<String> = upstream.seen().iter().map(|seen| seen.path.clone()).collect();
    assert_eq!(paths, ["/models/a%20b%3Fc%23d/chat?v=1", "/models/plain/name:1/chat?v=1"]);
}

#[test]
fn an_error_whose_body_trickles_does_not_hold_up_the_next_route() {
    for side in SIDES {
        let words = side.error("api_error", &"slowly ".repeat(100));
        let cuts: Vec<usize> = (1..words.len()).collect();
        let slow =
            Upstream::answering(move |_, _| Script::json(500, &words).cut(&cuts).between(Duration::from_millis(100)));
        let second = Upstream::start();
        let hasty = serde_json::json!({ "request_config": { "timeout_seconds": 0.5 } });
        let gateway = Setup::new()
            .provider_with("p", side.format, &slow, &hasty)
            .provider("q", side.format, &second)
            .env("P_API_KEY", "key-p")
            .env("Q_API_KEY", "key-q")
            .model("m", &[("p", "upstream-model"), ("q", "upstream-model")])
            .start();
        let started = std::time::Instant::now();
        assert_eq!(gateway.post(side.path, side.request).status, 200);
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    }
}

#[test]
fn what_a_resting_route_could_carry_is_not_called_wrong() {
    let [chat, messages, _] = SIDES;
    let broken = Upstream::answering(move |_, _| Script::json(500, messages.error("api_error", "down")));
    let limited = Upstream::answering(move |_, _| {
        Script::json(429, chat.error("rate_limit_error", "slow down")).header("retry-after", "30")
    });
    let gateway = two_routes((&messages, &broken), (&chat, &limited));
    assert_eq!(gateway.post(chat.path, chat.request).status, 429);
    let part = r#"[{"type":"input_audio","input_audio":{"data":"AA==","format":"wav"}}]"#;
    let reply = gateway.post(chat.path, chat.request.replace(r#""Hello""#, part));
    assert_eq!(reply.status, 429, "{}", reply.text());
    let seconds: u32 = reply.headers.one("retry-after").unwrap().parse().unwrap();
    assert!((1..=30).contains(&seconds), "{seconds}");
}

#[test]
fn what_is_neither_an_answer_nor_an_error_is_never_passed_on() {
    for side in SIDES {
        for status in [101, 302, 304, 700] {
            let odd = Script::json(status, "{}").header("location", "http://127.0.0.1:1/");
            let first = Upstream::answering(move |_, _| odd.clone());
            let second = Upstream::start();
            let gateway = two_routes((&side, &first), (&side, &second));
            assert_eq!(gateway.post(side.path, side.request).status, 200, "{status}: the next route answers");
            let gateway = Setup::simple(side.format, &first).start();
            assert_eq!(gateway.post(side.path, side.request).status, 502, "{status}");
        }
    }
}
