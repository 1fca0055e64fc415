//! What comes back from an upstream, however it comes: kinds of content, waiting times, breaks, and what is kept of it.

use std::time::{Duration, Instant};

use crate::support::gateway::{Gateway, Setup};
use crate::support::http::Request;
use crate::support::samples::{SIDES, Side};
use crate::support::upstream::{After, Script, Upstream};
use crate::support::wait_until;

/// Every upstream's format with every client's.
fn pairs() -> impl Iterator<Item = (Side, Side)> {
    SIDES.into_iter().flat_map(|side| SIDES.map(|client| (side, client)))
}

fn simple(side: &Side, upstream: &Upstream) -> Gateway {
    Setup::simple(side.format, upstream).start()
}

/// The words of a sample stream, wherever it came through.
#[track_caller]
fn check_stream(client: &Side, text: &str) {
    assert!(text.contains("Good") && client.has_ended_well(text), "{}: {text}", client.format);
}

// covers 8.1/content_type
#[test]
fn a_stream_is_one_whatever_it_is_called() {
    for (side, client) in pairs() {
        let upstream = Upstream::start();
        let gateway = simple(&side, &upstream);
        upstream.queue(Script::stream(side.stream).called(""));
        let reply = gateway.post(client.path, client.stream_request);
        check_stream(&client, &reply.text());
        // Whole although a stream was asked for.
        upstream.queue(Script::json(200, side.reply));
        let reply = gateway.post(client.path, client.stream_request);
        check_stream(&client, &reply.text());
        let kind = reply.headers.one("content-type").unwrap_or_default();
        assert!(kind.starts_with("text/event-stream"), "{kind}");
        upstream.queue(Script::json(200, side.error("invalid_request_error", "no such thing")));
        let reply = gateway.post(client.path, client.stream_request);
        assert_eq!((reply.status, client.error_message(&reply).as_str()), (400, "no such thing"));
    }
}

// covers EC79
#[test]
fn an_event_may_be_long_but_not_without_end() {
    for (side, client) in pairs() {
        let upstream = Upstream::start();
        let gateway = simple(&side, &upstream);
        let long = |mib: usize| side.stream.replace("Good ", &format!("Good {}", "x".repeat(mib << 20)));
        upstream.queue(Script::stream(long(3)));
        let reply = gateway.post(client.path, client.stream_request);
        assert!(3 << 20 < reply.body.len(), "{}", reply.body.len());
        check_stream(&client, &reply.text());
        // The first words go out before the event that has no end comes.
        let word = side.stream.find("day. ").unwrap();
        let stream = side.stream.replace("day. ", &format!("day. {}", "x".repeat(17 << 20)));
        upstream.queue(Script::stream(stream).cut(&[word]).between(Duration::from_millis(50)));
        let text = gateway.post(client.path, client.stream_request).text();
        assert!(text.contains("Good ") && text.contains("too long") && !client.has_ended_well(&text), "it is told");
        assert!(text.len() < 1 << 20, "and not passed on: {}", text.len());
    }
}

// covers EC93
#[test]
fn what_was_counted_before_the_client_left_is_kept() {
    let side = SIDES[1];
    for client in SIDES {
        let upto = side.stream.find("day. ").unwrap();
        let upstream = Upstream::answering(move |_, _| Script::stream(side.stream).stop_at(upto, After::Silence));
        let gateway = simple(&side, &upstream);
        let mut connection = gateway.connect();
        connection.start(&Request::post(client.path, client.stream_request).with_key());
        let mut text = String::new();
        while !text.contains("Good ") {
            text.push_str(&String::from_utf8_lossy(&connection.piece().unwrap().expect("the stream goes on")));
        }
        connection.leave();
        wait_until("the upstream to be told", || upstream.departures() == 1);
        wait_until("the request's line", || gateway.stderr().contains("client_closed"));
        assert!(gateway.stderr().contains("input_tokens=9"), "{}", gateway.stderr());
    }
}

// covers EC101
#[test]
fn a_waiting_time_under_a_200_makes_no_key_rest() {
    for side in SIDES {
        let upstream = Upstream::answering(move |_, _| {
            Script::json(200, side.reply).header("retry-after", "60").header("x-ratelimit-remaining-requests", "0")
        });
        let gateway = simple(&side, &upstream);
        for _ in 0..4 {
            assert_eq!(gateway.post(side.path, side.request).status, 200);
        }
    }
}

// covers EC101
#[test]
fn a_key_rests_until_the_limit_that_was_met_is_over() {
    for side in SIDES {
        let upstream = Upstream::answering(move |_, _| {
            Script::json(429, side.error("rate_limit_error", "slow down"))
                .header("x-ratelimit-remaining-tokens", "0")
                .header("x-ratelimit-reset-tokens", "1m30s")
                .header("x-ratelimit-remaining-requests", "5")
                .header("x-ratelimit-reset-requests", "1h")
        });
        let gateway = simple(&side, &upstream);
        assert_eq!(gateway.post(side.path, side.request).status, 429);
        let reply = gateway.post(side.path, side.request);
        assert_eq!((reply.status, upstream.count()), (429, 1), "it rests: {}", reply.text());
        let seconds: u32 = reply.headers.one("retry-after").and_then(|v| v.parse().ok()).expect("retry-after");
        assert!((80..=90).contains(&seconds), "{seconds}");
    }
}

// covers 9.4/translate_or_omit
#[test]
fn limits_are_told_in_the_clients_words_or_not_at_all() {
    let [chat, messages, _] = SIDES;
    let told = |side: Side, headers: &'static [(&str, &str)]| {
        let upstream = Upstream::answering(move |_, _| {
            headers.iter().fold(Script::json(200, side.reply), |script, (name, value)| script.header(name, value))
        });
        let client = side.other();
        let reply = simple(&side, &upstream).post(client.path, client.request);
        let limits = reply.headers.0.iter().filter(|(name, _)| name.contains("ratelimit"));
        limits.map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>()
    };
    let got = told(
        chat,
        &[
            ("x-ratelimit-limit-requests", "60"),
            ("x-ratelimit-remaining-requests", "59"),
            ("x-ratelimit-reset-requests", "1m0s"),
            ("x-ratelimit-limit-tokens", "100"),
        ],
    );
    assert_eq!(got.len(), 3, "{got:?}");
    for part in ["requests-limit: 60", "requests-remaining: 59", "requests-reset: 20"] {
        assert!(got.iter().any(|header| header.starts_with(&format!("anthropic-ratelimit-{part}"))), "{part}: {got:?}");
    }
    let got = told(
        messages,
        &[
            ("anthropic-ratelimit-tokens-limit", "100"),
            ("anthropic-ratelimit-tokens-remaining", "7"),
            ("anthropic-ratelimit-tokens-reset", "1994-11-06T08:49:37Z"),
            ("anthropic-ratelimit-input-tokens-limit", "50"),
        ],
    );
    let expect = ["x-ratelimit-limit-tokens: 100", "x-ratelimit-remaining-tokens: 7", "x-ratelimit-reset-tokens: 0s"];
    assert_eq!(got, expect);
}

// covers 9.2/x-should-retry
#[test]
fn after_several_tries_it_is_our_verdict_whether_to_retry() {
    for side in SIDES {
        // What passes by itself is told until when; SDKs wait for a second, and not for three minutes. What does not, not at all.
        for (status, says, code, verdict) in
            [(500, "false", 500, None), (429, "true", 429, Some("false")), (401, "true", 502, Some("false"))]
        {
            let upstream = Upstream::answering(move |_, _| {
                Script::json(status, side.error("api_error", "broken")).header("x-should-retry", says)
            });
            let gateway = Setup::new()
                .provider("p", side.format, &upstream)
                .provider("q", side.format, &upstream)
                .env("P_API_KEY", "key-p")
                .env("Q_API_KEY", "key-q")
                .model("m", &[("p", "up"), ("q", "up")])
                .start();
            let reply = gateway.post(side.path, side.request);
            assert_eq!((reply.status, upstream.count()), (code, 2), "{}", reply.text());
            assert_eq!(reply.headers.one("x-should-retry"), verdict);
            let after: Option<u64> = reply.headers.one("retry-after").map(|after| after.parse().unwrap());
            assert!(after.is_some_and(|after| (after <= 2) == verdict.is_none()), "{status} {after:?}");
        }
        // One try: the upstream's word.
        let upstream = Upstream::answering(move |_, _| {
            Script::json(400, side.error("invalid_request_error", "no")).header("x-should-retry", "false")
        });
        let reply = simple(&side, &upstream).post(side.path, side.request);
        assert_eq!(reply.headers.one("x-should-retry"), Some("false"));
    }
}

// covers 9.1/long_body
#[test]
fn the_words_of_an_error_are_told_however_long_its_body_is() {
    for (side, client) in pairs() {
        let words = side.error("invalid_request_error", "this is wrong");
        let padded = format!("{},\"echo\":\"{}\"}}", words.strip_suffix('}').unwrap(), "y".repeat(200_000));
        let upstream = Upstream::answering(move |_, _| Script::json(400, &padded));
        let reply = simple(&side, &upstream).post(client.path, client.request);
        assert_eq!((reply.status, client.error_message(&reply).as_str()), (400, "this is wrong"));
        assert!(reply.body.len() < 10_000, "not the whole of it: {}", reply.body.len());
    }
}

// covers EC72 8.2/finish_wait_ends
#[test]
fn an_upstream_that_never_closes_does_not_hold_up_an_answer_that_is_complete() {
    let [chat, messages, _] = SIDES;
    let finished = chat.stream.find("data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"upstream-model\",\"choices\":[],").unwrap();
    for after in [After::Silence, After::Reset, After::Close] {
        let upstream = Upstream::answering(move |_, _| {
            Script::stream(chat.stream).cut(&[60]).between(Duration::from_millis(20)).stop_at(finished, after)
        });
        let gateway = simple(&chat, &upstream);
        let started = Instant::now();
        let text = gateway.post(messages.path, messages.stream_request).text();
        check_stream(&messages, &text);
        assert!(started.elapsed() < Duration::from_secs(8), "{after:?}: {:?}", started.elapsed());
        assert!(text.contains("\"stop_reason\":\"end_turn\"") && !text.contains("\"error\""), "{after:?}: {text}");
    }
}

// covers 6/pause_turn
#[test]
fn a_pause_is_told_in_a_header_where_the_format_has_no_word_for_it() {
    let [chat, messages, _] = SIDES;
    let reply = messages.reply.replace("end_turn", "pause_turn");
    let upstream = Upstream::answering(move |_, _| Script::json(200, &reply));
    let gateway = simple(&messages, &upstream);
    let told = |client: &Side| {
        let reply = gateway.post(client.path, client.request);
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.headers.one("x-model-proxy-stop-reason").map(str::to_owned)
    };
    assert_eq!(told(&chat).as_deref(), Some("pause_turn"));
    assert_eq!(told(&messages), None, "it is in the reply");
}

/// Whatever an upstream sends, the gateway is there for the next request.
#[test]
fn bytes_that_are_no_text_harm_nobody() {
    let spoilt: [&[u8]; 6] =
        [b"\xff\xfe\x00", b"data: \xff\n\n", b"{\"a\":\"\xc3\x28\"}", b"\x00", b"\xed\xa0\x80", b"[[[["];
    for (side, client) in pairs() {
        let upstream = Upstream::start();
        let gateway = Setup::simple(side.format, &upstream).model("x/*", &[("p", "*")]).start();
        for (at, bytes) in spoilt.iter().enumerate() {
            let good = side.stream.find("day. ").unwrap();
            let inside = [&side.stream.as_bytes()[..good], bytes, &side.stream.as_bytes()[good..]].concat();
            let scripts = [
                (Script::json(200, bytes), client.request),
                (Script::json(400, bytes), client.request),
                (Script::stream(bytes), client.stream_request),
                (Script::stream(inside), client.stream_request),
            ];
            for (script, request) in scripts {
                upstream.queue(script);
                let body = request.replace(r#""m""#, &format!("\"x/{at}-{}\"", upstream.count()));
                let reply = gateway.post(client.path, body);
                assert!([200, 400, 502].contains(&reply.status), "{at}: {} {}", reply.status, reply.text());
            }
        }
        assert!(!gateway.stderr().contains("panic"), "{}", gateway.stderr());
    }
}
