//! What becomes of a request that loses something on its way: told, refused or not mentioned, as the model and the client
//! ask. The client's word wins.

use model_proxy::wire::Format;

use crate::support::gateway::{Gateway, Setup};
use crate::support::http::{Reply, Request};
use crate::support::samples::{CHAT, MESSAGES, SIDES, Side};
use crate::support::upstream::{Script, Upstream};
use crate::support::wait_until;

const DROPPED: &str = "x-model-proxy-dropped";
const ON_LOSSY: &str = "x-model-proxy-on-lossy";

/// A request of each format that loses two things in the other: `logit_bias` and a name, or `inference_geo` and
/// the mark of an error.
fn lossy(side: &Side, stream: bool) -> (String, [&'static str; 2]) {
    match side.format {
        Format::OpenaiChat => (
            format!(
                r#"{{"model":"m","stream":{stream},"logit_bias":{{"1":2}},"messages":[{{"role":"user","name":"Ada","content":"Hello"}}]}}"#
            ),
            ["messages[0].name", "logit_bias"],
        ),
        Format::OpenaiResponses => (
            format!(
                r#"{{"model":"m","stream":{stream},"max_tool_calls":3,"input":[{{"role":"user","content":"Hello"}}],"tools":[{{"type":"web_search"}}]}}"#
            ),
            ["max_tool_calls", "tools[0]"],
        ),
        Format::Anthropic => (
            format!(
                r#"{{"model":"m","stream":{stream},"max_tokens":9,"inference_geo":"us","messages":[{{"role":"user","content":"Hello"}},{{"role":"assistant","content":[{{"type":"tool_use","id":"t","name":"f","input":{{}}}}]}},{{"role":"user","content":[{{"type":"tool_result","tool_use_id":"t","content":"no","is_error":true}}]}}],"tools":[{{"name":"f","input_schema":{{"type":"object"}}}}]}}"#
            ),
            ["inference_geo", "messages[2].content[0]"],
        ),
    }
}

/// A model `m` of the other format, whose file says `on_lossy`.
fn start(side: &Side, upstream: &Upstream, on_lossy: Option<&str>) -> Gateway {
    let on_lossy = on_lossy.map_or_else(String::new, |word| format!(r#""on_lossy":"{word}","#));
    Setup::new()
        .provider("p", side.other().format, upstream)
        .env("P_API_KEY", "key-one")
        .file(
            "models/m.json",
            &format!(r#"{{"logical_name":"m",{on_lossy}"model_routings":[{{"provider":"p","model":"up"}}]}}"#),
        )
        .start()
}

/// The upstream of a client's request that is converted.
fn answering(side: &Side) -> Upstream {
    speaking(side.other())
}

fn speaking(upstream_side: Side) -> Upstream {
    Upstream::answering(move |seen, _| {
        if seen.wants_stream() { Script::stream(upstream_side.stream) } else { Script::json(200, upstream_side.reply) }
    })
}

fn ask(gateway: &Gateway, side: &Side, stream: bool, wish: Option<&str>) -> Reply {
    let request = Request::post(side.path, lossy(side, stream).0).with_key();
    gateway.send(&match wish {
        Some(wish) => request.header(ON_LOSSY, wish),
        None => request,
    })
}

#[test]
fn the_clients_word_wins_over_the_models() {
    const CASES: [(Option<&str>, Option<&str>, &str); 9] = [
        (None, None, "report"),
        (Some("report"), None, "report"),
        (Some("silent"), None, "silent"),
        (Some("reject"), None, "reject"),
        (None, Some("reject"), "reject"),
        (None, Some("silent"), "silent"),
        (Some("reject"), Some("report"), "report"),
        (Some("reject"), Some(" Silent"), "silent"),
        (Some("silent"), Some("REJECT"), "reject"),
    ];
    for side in SIDES {
        let paths = lossy(&side, false).1;
        for (model, client, expect) in CASES {
            let upstream = answering(&side);
            let gateway = start(&side, &upstream, model);
            for stream in [false, true] {
                let reply = ask(&gateway, &side, stream, client);
                let case = format!("{side:?} {model:?} {client:?} {stream}: {}", reply.text());
                let told: Vec<&str> = reply.headers.one(DROPPED).map(|h| h.split(", ").collect()).unwrap_or_default();
                match expect {
                    "report" => {
                        assert_eq!(reply.status, 200, "{case}");
                        assert!(paths.iter().all(|p| told.contains(p)) && told.len() == 2, "{told:?} {case}");
                    }
                    "silent" => assert_eq!((reply.status, told.len()), (200, 0), "{case}"),
                    _ => {
                        assert_eq!((reply.status, told.len()), (400, 0), "{case}");
                        let message = side.error_message(&reply);
                        let named = paths.iter().all(|path| message.contains(&format!("{path}: ")));
                        assert!(named, "each place with its reason: {case}");
                        if side.path == CHAT {
                            assert!(paths.iter().any(|p| reply.json()["error"]["param"] == *p), "{case}");
                        }
                    }
                }
            }
            assert_eq!(upstream.count(), if expect == "reject" { 0 } else { 2 }, "{model:?} {client:?}");
            assert!(upstream.seen().iter().all(|seen| seen.headers.one(ON_LOSSY).is_none()), "it stays here");
        }
    }
}

#[test]
fn what_is_no_choice_is_refused_with_the_choices() {
    for side in SIDES {
        let upstream = answering(&side);
        let gateway = start(&side, &upstream, None);
        let lossless = Request::post(side.path, side.request).with_key();
        for request in [
            lossless.clone().header(ON_LOSSY, "ignore"),
            lossless.clone().header(ON_LOSSY, ""),
            lossless.clone().header(ON_LOSSY, "report").header(ON_LOSSY, "reject"),
        ] {
            let reply = gateway.send(&request);
            assert_eq!(reply.status, 400, "{}", reply.text());
            let message = side.error_message(&reply);
            assert!(message.contains(ON_LOSSY) && message.contains("report, reject, silent"), "{message}");
        }
        assert_eq!(upstream.count(), 0);
        let reply = gateway.send(&lossless.header(ON_LOSSY, "reject"));
        assert_eq!((reply.status, reply.headers.one(DROPPED)), (200, None), "nothing is lost: {}", reply.text());
    }
}

/// The reader of the log is told whatever the client wants to know.
#[test]
fn the_log_names_what_was_dropped() {
    for side in SIDES {
        let paths = lossy(&side, false).1;
        for wish in ["report", "silent"] {
            let upstream = answering(&side);
            let gateway = start(&side, &upstream, None);
            assert_eq!(ask(&gateway, &side, true, Some(wish)).status, 200);
            wait_until("the line", || gateway.stderr().contains("status=200"));
            let said = gateway.stderr();
            let line = said.lines().find(|line| line.contains("status=200")).unwrap();
            let (_, dropped) = line.split_once(" dropped=\"").unwrap_or_else(|| panic!("{line}"));
            let mut dropped: Vec<&str> = dropped.split('"').next().unwrap().split(", ").collect();
            dropped.sort_unstable();
            let mut paths = paths;
            paths.sort_unstable();
            assert_eq!(dropped, paths, "{line}");
        }
    }
}

/// A route that would lose something gives way to one that does not.
#[test]
fn a_lossless_route_is_taken_where_nothing_may_be_lost() {
    for side in SIDES {
        let (lossy_upstream, same_upstream) = (answering(&side), speaking(side));
        let gateway = Setup::new()
            .provider("far", side.other().format, &lossy_upstream)
            .provider("near", side.format, &same_upstream)
            .env("FAR_API_KEY", "key-far")
            .env("NEAR_API_KEY", "key-near")
            .model("m", &[("far", "up"), ("near", "up")])
            .start();
        let reply = ask(&gateway, &side, false, Some("reject"));
        assert_eq!(
            (reply.status, reply.headers.one("x-model-proxy-route")),
            (200, Some("near/up")),
            "{}",
            reply.text()
        );
        assert_eq!((lossy_upstream.count(), same_upstream.count()), (0, 1));
    }
}

/// Thinking that an OpenAI upstream did in an earlier turn has no place at Anthropic's, though nothing else changes.
#[test]
fn thinking_taken_out_of_what_passes_through_is_told() {
    let side = SIDES[1];
    let upstream = answering(&side.other());
    let gateway = Setup::simple(side.format, &upstream).start();
    let request = r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"a"},{"role":"assistant","content":[{"type":"thinking","thinking":"x","signature":"mp1.abc"},{"type":"text","text":"b"}]},{"role":"user","content":"c"}]}"#;
    let reply = gateway.post(MESSAGES, request);
    assert_eq!((reply.status, reply.headers.one(DROPPED)), (200, Some("messages[1].content[0]")));
    assert!(!upstream.last().text().contains("mp1."), "{}", upstream.last().text());
    let reply = gateway.send(&Request::post(MESSAGES, request).with_key().header(ON_LOSSY, "reject"));
    assert_eq!((reply.status, upstream.count()), (400, 1), "{}", reply.text());
}
