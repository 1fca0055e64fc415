//! The matrix of faults: whatever an upstream does, to whole replies and streams, in the client's format and in the
//! other. In each cell: what the client gets, what the upstreams saw, who rests afterwards, and one line in the log.
//!
//! The scenarios of Failover Bench (LIMITS 1.3), and where each is tested:
//!
//! | scenario | here |
//! |---|---|
//! | `retry-after` is honoured, seconds and dates | `rests::a_limit_is_rested_out_however_it_is_told` |
//! | and not only with a limit | `rests::an_overloaded_route_…`, `rests::a_failing_route_is_left_alone_as_long_as_it_asks` |
//! | all keys limited: 429 with the true time | `rests::when_no_key_of_a_route_is_left_the_next_route_serves_and_else_it_is_told` |
//! | a limited, refused or spent key gives way to the next | `STATUSES` "401", "402", "429", "429, no quota" |
//! | a failing provider gives way to the next | `STATUSES` "500" and on, `CONNECTIONS` |
//! | a silent route is not tried again | `SLOWNESS` "accepted, then nothing" |
//! | no first token in time fails over | `SLOWNESS` "head, then nothing", "a start, then nothing" |
//! | a stream that stalls after output ends as an error | `SLOWNESS` "output, then nothing" |
//! | a cut stream never ends cleanly | `CONNECTIONS` "closed after output", `a_stream_that_is_cut_after_any_event_is_replaced_or_broken` |
//! | an error inside a stream, first and later | `ODDITIES` "an error first", "an error after output" |
//! | a success that is none | `ODDITIES` "200, …" |
//! | the client's mistakes are tried once | `STATUSES` "400", "413", "422" |
//! | too long a prompt is not tried where it fits no better | `STATUSES` "400, too long" |
//! | a model that is gone upstream | `STATUSES` "404, no such model" |
//! | stale connections cost nothing | `stale::an_upstream_that_closes_behind_its_answers_fails_nobody` |
//! | a client that leaves stops the upstream | `leaving::a_client_that_leaves_stops_the_upstream_and_harms_nobody` |
//! | a route that recovers is found by one probe | `rests::one_request_finds_out_whether_a_route_works_again` |

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::faults::scene::{Lane, Scene};
use crate::faults::table::{CONNECTIONS, Fault, How, ODDITIES, Rests, SLOWNESS, STATUSES, Then, WORDS};
use crate::support::gateway::{Gateway, Setup};
use crate::support::http::Reply;
use crate::support::samples::{CHAT, MESSAGES, SIDES, Side};
use crate::support::upstream::{After, Script, Upstream};
use crate::support::wait_until;

mod leaving;
mod rests;
mod scene;
mod stale;
mod table;

#[test]
fn connections_that_fail() {
    check_all(CONNECTIONS);
}

#[test]
fn upstreams_that_are_slow_or_silent() {
    check_all(SLOWNESS);
}

#[test]
fn answers_that_are_odd() {
    check_all(ODDITIES);
}

#[test]
fn errors_of_every_status() {
    check_all(STATUSES);
}

/// Where a stream may be cut between two events, there is either no answer yet, or one that must not seem whole.
#[test]
fn a_stream_that_is_cut_after_any_event_is_replaced_or_broken() {
    for lane @ Lane { side, client, .. } in lanes().filter(|lane| lane.stream) {
        let ends = event_ends(side.stream);
        let places = ends.clone();
        let first = Upstream::answering(move |seen, _| {
            let n: usize = seen.json()["model"].as_str().unwrap().parse().unwrap();
            Script::stream(side.stream).stop_at(places[n], After::Close)
        });
        let second = Upstream::answering(move |_, _| Script::stream(side.stream));
        let setup = Setup::new()
            .provider("p", side.format, &first)
            .provider("q", side.format, &second)
            .env("P_API_KEY", "key-p")
            .env("Q_API_KEY", "key-q");
        let model = |setup: Setup, n: usize| setup.model(&format!("m{n}"), &[("p", &n.to_string()), ("q", "up")]);
        let gateway = (0..ends.len()).fold(setup, model).start();
        for (n, end) in ends.iter().enumerate() {
            let before = second.count();
            let reply = gateway.post(client.path, lane.request().replace("\"m\"", &format!("\"m{n}\"")));
            let (text, replaced) = (reply.text(), second.count() - before);
            let sent = &side.stream[..*end];
            assert_eq!(replaced == 1, !sent.contains("Good"), "{n} events, {} to {}", side.format, client.format);
            if replaced == 1 {
                assert!(client.has_ended_well(&text) && !text.contains("\"error\":{"), "{n} events: {text}");
            } else if FINISHES.iter().any(|word| sent.contains(word)) {
                assert!(text.contains("day. "), "all of it: {text}");
            } else {
                check_broken(&client, &reply);
            }
        }
        assert_eq!(first.count(), ends.len(), "each was asked once");
    }
}

/// By which an answer says that its content has ended.
const FINISHES: [&str; 3] =
    ["\"finish_reason\":\"stop\"", "\"stop_reason\":\"end_turn\"", "\"type\":\"response.completed\""];

/// Where the events of a stream end.
fn event_ends(stream: &str) -> Vec<usize> {
    let blank = |n: &usize| stream[..*n].ends_with("\n\n") || stream[..*n].ends_with("\n\r\n");
    (0..stream.len()).filter(|n| stream.is_char_boundary(*n)).filter(blank).collect()
}

/// Every way a request can take.
fn lanes() -> impl Iterator<Item = Lane> {
    let pairs = SIDES.into_iter().flat_map(|side| SIDES.map(|client| (side, client)));
    pairs.flat_map(|(side, client)| [false, true].map(|stream| Lane { side, client, stream }))
}

/// Checks the faults on all lanes and then names every cell that failed.
#[track_caller]
fn check_all(faults: &[Fault]) {
    let cells = lanes().flat_map(|lane| faults.iter().filter(move |f| lane.can_meet(f)).map(move |f| (*f, lane)));
    let scenes: Vec<Scene> = cells.enumerate().map(|(n, (fault, lane))| Scene::new(n, fault, lane)).collect();
    let gateway = scenes.iter().fold(Setup::new(), |setup, scene| scene.set(setup)).start();
    // What waits for time waits together; the rest are few at a time, as each has to be done before a rest is over.
    let is_slow = scenes.iter().any(|scene| matches!(scene.fault.how, How::Slowly(_)));
    let workers = if is_slow { scenes.len() } else { 4 };
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(scene) = scenes.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let why = fails(scene, &gateway);
                    failed.lock().extend(why);
                }
            });
        }
    });
    let failed = failed.into_inner();
    assert!(failed.is_empty(), "{} of {} cells fail:\n{}", failed.len(), scenes.len(), failed.join("\n"));
}

/// The cell's name, if it fails.
fn fails(scene: &Scene, gateway: &Gateway) -> Option<String> {
    let checked = thread::scope(|scope| scope.spawn(|| check(scene, gateway)).join());
    let why = checked.err()?;
    let why = why.downcast_ref::<String>().cloned().unwrap_or_default();
    let Lane { side, client, stream } = scene.lane;
    let kind = if stream { "stream" } else { "whole" };
    Some(format!("{}, {kind}, {} to {}: {why}", scene.fault.name, side.format, client.format))
}

fn check(scene: &Scene, gateway: &Gateway) {
    let Fault { how, then, .. } = scene.fault;
    let (reply, keys) = scene.tried(gateway, "m");
    let met = Instant::now();
    let expect = match then {
        _ if matches!(how, How::Refuses) => "q",
        Then::Deliver | Then::Refuse | Then::Break => "1",
        Then::NextKey(_) => "1 2",
        Then::NextRoute(_) => "1 q",
    };
    assert_eq!(keys, expect, "who was asked: {} {}", reply.status, reply.text());
    match then {
        Then::Deliver | Then::NextKey(_) | Then::NextRoute(_) => check_good(scene, &reply),
        Then::Refuse => check_error(scene, &reply),
        Then::Break => {
            check_broken(&scene.lane.client, &reply);
            let is_told = scene.fault.name == "an error after output";
            assert_eq!(reply.text().contains(WORDS), is_told, "its own words where there are any: {}", reply.text());
        }
    }
    check_rests(scene, gateway, met);
    check_exhausted(scene, gateway);
    check_log(scene, gateway);
}

/// A good answer; the very one the upstream gave, where nothing is translated.
fn check_good(scene: &Scene, reply: &Reply) {
    let Lane { side, client, stream } = scene.lane;
    let text = reply.text();
    assert!(reply.status == 200 && reply.is_whole && text.contains("Good"), "{} {text}", reply.status);
    assert!(!stream || client.has_ended_well(&text), "a stream that ends: {text}");
    if side.format == client.format {
        assert_eq!(text, if stream { side.stream } else { side.reply }, "as it came");
    }
}

/// An error in the client's format that keeps the upstream's words.
fn check_error(scene: &Scene, reply: &Reply) {
    let client = scene.lane.client;
    let told = client.error_message(reply);
    assert_eq!(reply.status, shown(scene), "{}", reply.text());
    assert!(told.contains(WORDS), "its own words: {told}");
}

/// The status that this client sees.
fn shown(scene: &Scene) -> u16 {
    let Lane { side, client, .. } = scene.lane;
    match scene.fault.shown {
        529 if client.path != MESSAGES && side.format != client.format => 503,
        status => status,
    }
}

/// Output, then an error event, and no clean end.
#[track_caller]
fn check_broken(client: &Side, reply: &Reply) {
    let text = reply.text();
    assert!(reply.status == 200 && text.contains("Good "), "{} {text}", reply.status);
    assert!(!client.has_ended_well(&text), "no clean end: {text}");
    let event = if client.path == CHAT { "data: {\"error\":" } else { "event: error\ndata: {\"type\":\"error\"" };
    assert_eq!(text.matches(event).count(), 1, "one error event: {text}");
}

/// Who rests, by what two further requests for the model and two for another do. Keys take turns, so with nobody at
/// rest each request comes to another key.
fn check_rests(scene: &Scene, gateway: &Gateway, met: Instant) {
    let rests = match scene.fault.then {
        Then::Deliver | Then::Refuse | Then::Break => Rests::Nobody,
        Then::NextKey(rests) | Then::NextRoute(rests) => rests,
    };
    let asked = |model: &str| {
        let [first, second] = [(); 2].map(|()| scene.tried(gateway, model));
        for (reply, _) in [&first, &second] {
            check_good(scene, reply);
        }
        let once = |reply: &Reply| reply.headers.one("x-model-proxy-attempts") == Some("1");
        let once = once(&first.0) && once(&second.0);
        (format!("{} {}", first.1, second.1), once)
    };
    let (same, once) = asked("m");
    let in_time = met.elapsed() < Duration::from_millis(900);
    let (other, _) = asked("o");
    let (of_same, of_other) = match rests {
        _ if matches!(scene.fault.how, How::Refuses) => ("q q", "q q"),
        Rests::Nobody => ("2 1", "1 2"),
        Rests::Key => ("2 2", "2 2"),
        Rests::KeyModel => ("2 2", "1 2"),
        Rests::Route => ("q q", "1 2"),
    };
    // A route rests for a second, which may be over on a machine that was busy elsewhere.
    let as_expected = same == of_same && once;
    assert!(
        !in_time && rests == Rests::Route || as_expected,
        "{rests:?} rests, but {same} were asked, at once: {once}"
    );
    assert_eq!(other, of_other, "{rests:?} rests: asked for another model");
}

/// What the client learns when all routes fail alike; and when it asks again of keys that rest for long.
fn check_exhausted(scene: &Scene, gateway: &Gateway) {
    let Fault { how, then, .. } = scene.fault;
    let rests = match then {
        Then::Deliver | Then::Refuse | Then::Break => return,
        Then::NextKey(rests) | Then::NextRoute(rests) => rests,
    };
    let (reply, keys) = scene.tried(gateway, "x");
    assert_eq!(keys, if matches!(how, How::Refuses) { "" } else { "a b" }, "{} {}", reply.status, reply.text());
    let told = scene.lane.client.error_message(&reply);
    assert_eq!(reply.status, shown(scene), "when all fail: {told}");
    assert!([502, 504].contains(&scene.fault.shown) || told.contains(WORDS), "its own words: {told}");
    if matches!(rests, Rests::Key) && reply.status == 502 || scene.fault.name == "403" {
        let named = told.contains(&scene.last_provider()) && !told.contains(WORDS);
        assert!(named, "whose key it was, and not as if it were the client's: {told}");
    }
    // It was tried twice already: SDKs may come back where they are told when, and wait so long.
    let retry = reply.headers.one("x-should-retry");
    let after: Option<u64> = reply.headers.one("retry-after").and_then(|seconds| seconds.parse().ok());
    let is_soon = after.is_some_and(|seconds| seconds <= 60);
    assert_eq!(retry, if is_soon { None } else { Some("false") }, "{after:?}");
    assert!(rests != Rests::Route || is_soon, "a failing route may be back in a second: {after:?}");
    let status = match rests {
        Rests::Key => 503,
        Rests::KeyModel => 429,
        Rests::Nobody | Rests::Route => return,
    };
    let (reply, keys) = scene.tried(gateway, "x");
    scene.lane.client.error_message(&reply);
    assert_eq!((reply.status, keys.as_str()), (status, ""), "all rest: {}", reply.text());
    let seconds: u64 = reply.headers.one("retry-after").and_then(|v| v.parse().ok()).expect("retry-after");
    assert!(100 < seconds, "a configured rest is minutes: {seconds}");
}

/// Every request has one line, with how it ended.
fn check_log(scene: &Scene, gateway: &Gateway) {
    wait_until("the log's lines", || 3 <= scene.lines(gateway, "m").len() && 2 <= scene.lines(gateway, "o").len());
    let lines = scene.lines(gateway, "m");
    assert_eq!(lines.len(), 3, "one each: {lines:?}");
    let (attempts, failures) = match scene.fault.then {
        Then::Deliver => (1, 0),
        Then::Refuse => (1, 1),
        Then::Break => (1, 0),
        Then::NextKey(_) | Then::NextRoute(_) => (2, 1),
    };
    let status = if scene.fault.then == Then::Refuse { shown(scene) } else { 200 };
    let outcome = format!(" attempts={attempts} status={status} ");
    assert!(lines[0].contains(&outcome), "{outcome}: {}", lines[0]);
    assert_eq!(lines[0].matches(" failed=").count(), failures, "{}", lines[0]);
    assert_eq!(lines[0].contains(" broken="), scene.fault.then == Then::Break, "{}", lines[0]);
    assert!(!lines.concat().contains("client_closed"), "{lines:?}");
    if failures == 1 && attempts == 2 {
        wait_until("the line of what failed", || !scene.lines(gateway, "x").is_empty());
        let line = scene.lines(gateway, "x").remove(0);
        let outcome = format!(" attempts=2 status={} ", shown(scene));
        assert!(line.contains(&outcome) && line.matches(" failed=").count() == 2, "{outcome}: {line}");
    }
}
