//! A client that leaves: the upstream stops at once, nobody is to blame, and it is told once.

use std::thread;
use std::time::{Duration, Instant};

use crate::faults::lanes;
use crate::faults::scene::{Lane, Scene};
use crate::faults::table::{Fault, How, Kind, Then, begun, fault, good, part_of_head, said, started};
use crate::support::gateway::{Gateway, Setup};
use crate::support::http::Request;
use crate::support::upstream::{After, Script, Upstream};
use crate::support::{comes_true, wait_until};

/// How far the upstream comes before the client leaves.
const STAGES: &[Fault] = {
    use {After::Silence, How::Answers, Kind::*};
    &[
        stage("before the head", Any, Answers(|_, _| Script::nothing(Silence))),
        stage("in the head", Any, Answers(|s, r| part_of_head(s, r).then(Silence))),
        stage("after the head", Any, Answers(|s, r| good(s, r).stop_at(0, Silence))),
        stage("in the body", Whole, Answers(|s, r| good(s, r).stop_at(40, Silence))),
        stage("after a start", Stream, Answers(|s, _| started(s, Silence))),
        stage(AFTER_OUTPUT, Stream, Answers(|s, _| begun(s, 0, Silence))),
    ]
};

const AFTER_OUTPUT: &str = "after output";

const fn stage(name: &'static str, kind: Kind, how: How) -> Fault {
    fault(name, kind, how, Then::Deliver, 0)
}

#[test]
fn a_client_that_leaves_stops_the_upstream_and_harms_nobody() {
    let cells = lanes().flat_map(|lane| STAGES.iter().filter(move |f| lane.can_meet(f)).map(move |f| (*f, lane)));
    let scenes: Vec<Scene> = cells.enumerate().map(|(n, (fault, lane))| Scene::new(n, fault, lane)).collect();
    let gateway = scenes.iter().fold(Setup::new(), |setup, scene| scene.set(setup)).start();
    thread::scope(|scope| {
        for scene in &scenes {
            scope.spawn(|| leave(scene, &gateway));
        }
    });
}

fn leave(scene: &Scene, gateway: &Gateway) {
    let Lane { side, client, stream } = scene.lane;
    let case = format!("{}, stream {stream}, {} to {}", scene.fault.name, side.format, client.format);
    let mut connection = gateway.connect();
    connection.ask(&scene.request("m"));
    scene.upstream.wait_for(1);
    if scene.fault.name == AFTER_OUTPUT {
        assert_eq!(connection.head().0, 200, "{case}");
        let mut text = String::new();
        while !text.contains("Good ") {
            let piece = connection.piece().unwrap().expect("the stream goes on");
            text.push_str(&String::from_utf8_lossy(&piece));
        }
    } else {
        // What the upstream has sent is to arrive first.
        thread::sleep(Duration::from_millis(30));
    }
    connection.leave();
    assert!(comes_true(Duration::from_secs(1), || scene.upstream.departures() == 1), "{case}: it is not told");
    assert_eq!(scene.upstream.count(), 1, "{case}: nobody else is asked");
    for key in ["2", "1"] {
        let (reply, keys) = scene.tried(gateway, "m");
        assert_eq!((reply.status, keys.as_str()), (200, key), "{case}: nobody rests");
    }
    assert!(comes_true(Duration::from_secs(5), || 3 <= scene.lines(gateway, "m").len()), "{case}: a line each");
    let lines = scene.lines(gateway, "m");
    let gone: Vec<&String> = lines.iter().filter(|line| line.contains(" client_closed")).collect();
    assert_eq!((lines.len(), gone.len()), (3, 1), "{case}: one line each: {lines:?}");
    assert!(gone[0].contains(" attempts=1 ") && !gone[0].contains(" failed="), "{case}: {gone:?}");
}

/// One provider, one key, no other way.
fn alone(lane: &Lane, upstream: &Upstream) -> Gateway {
    Setup::simple(lane.side.format, upstream).start()
}

/// Sends a request that the upstream is silent to, and leaves.
fn ask_and_leave(lane: &Lane, gateway: &Gateway, is_asked: impl FnMut() -> bool) {
    let mut connection = gateway.connect();
    connection.ask(&Request::post(lane.client.path, lane.request()).with_key());
    wait_until("the request to be on its way", is_asked);
    connection.leave();
    wait_until("its line", || gateway.stderr().contains(" client_closed"));
}

#[test]
fn what_a_client_that_left_was_to_find_out_the_next_one_does() {
    let check = |lane: Lane| {
        let side = lane.side;
        let first = Upstream::answering(move |seen, n| match n {
            0 => said(&side, 500),
            1 => Script::nothing(After::Silence),
            _ => good(&side, seen),
        });
        let gateway = alone(&lane, &first);
        let ask = || gateway.post(lane.client.path, lane.request()).status;
        assert_eq!(ask(), 500);
        // Waits for the second that the route rests, and then probes it.
        ask_and_leave(&lane, &gateway, || first.count() == 2);
        let left = Instant::now();
        assert_eq!((ask(), first.count()), (200, 3), "the next probes it");
        assert!(left.elapsed() < Duration::from_millis(700), "and at once: {:?}", left.elapsed());
    };
    thread::scope(|scope| lanes().for_each(|lane| drop(scope.spawn(move || check(lane)))));
}

#[test]
fn a_client_that_leaves_while_all_rest_is_not_asked_for() {
    let check = |lane: Lane| {
        let side = lane.side;
        let upstream = Upstream::answering(move |seen, n| match n {
            0 => said(&side, 429).header("retry-after", "1"),
            _ => good(&side, seen),
        });
        let gateway = alone(&lane, &upstream);
        assert_eq!(gateway.post(lane.client.path, lane.request()).status, 429);
        let asked = Instant::now();
        ask_and_leave(&lane, &gateway, || Duration::from_millis(50) < asked.elapsed());
        let gone = gateway.stderr().lines().filter(|line| line.contains(" client_closed")).count();
        let status = gateway.post(lane.client.path, lane.request()).status;
        assert_eq!((status, upstream.count(), gone), (200, 2, 1), "only who stayed was asked for");
    };
    thread::scope(|scope| lanes().for_each(|lane| drop(scope.spawn(move || check(lane)))));
}
