//! Connections that were closed behind our back.

use std::thread;
use std::time::Duration;

use crate::faults::scene::key;
use crate::faults::table::good;
use crate::support::gateway::Setup;
use crate::support::http::Request;
use crate::support::samples::{SIDES, Side};
use crate::support::upstream::{After, Script, Upstream};
use crate::support::wait_until;

/// The answer's end, the connection's, and the next request meet in every order.
#[test]
fn an_upstream_that_closes_behind_its_answers_fails_nobody() {
    let pauses = [(0, 0), (1, 0), (3, 0), (20, 20)].map(|(theirs, ours)| (ms(theirs), ms(ours)));
    thread::scope(|scope| {
        for side in SIDES {
            for after in [After::Close, After::Reset] {
                for (theirs, ours) in pauses {
                    // A reset right behind an answer may destroy it on its way.
                    if after == After::Close || !theirs.is_zero() {
                        scope.spawn(move || ask_sixty_times(&side, theirs, after, ours));
                    }
                }
            }
        }
    });
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn ask_sixty_times(side: &Side, theirs: Duration, after: After, ours: Duration) {
    let answers = *side;
    let upstream = Upstream::answering(move |seen, _| good(&answers, seen).then_after(theirs, after));
    let gateway = Setup::new()
        .provider("p", side.format, &upstream)
        .env("P_API_KEY_1", "key-1")
        .env("P_API_KEY_2", "key-2")
        .model("m", &[("p", "up")])
        .start();
    let mut client = gateway.connect();
    for n in 0..60 {
        let request = if n % 2 == 0 { side.request } else { side.stream_request };
        let reply = client.send(&Request::post(side.path, request).with_key());
        assert_eq!((reply.status, reply.is_whole), (200, true), "{n}, {theirs:?}, {after:?}: {}", reply.text());
        thread::sleep(ours);
    }
    let seen = upstream.seen();
    let first = seen.iter().filter(|seen| key(seen) == "1").count();
    assert_eq!((seen.len(), first), (60, 30), "each was read once, and no key ever rested");
}

#[test]
fn what_dies_on_a_reused_connection_is_sent_again_once_and_on_a_fresh_one_never() {
    for side in SIDES {
        for after in [After::Close, After::Reset] {
            for client in SIDES {
                for request in [client.request, client.stream_request] {
                    check_replay(&side, &client, request, after);
                }
            }
        }
    }
}

fn check_replay(side: &Side, client: &Side, request: &str, after: After) {
    let answers = *side;
    let first = Upstream::answering(move |seen, n| match n {
        0 => good(&answers, seen),
        _ => Script::nothing(after),
    });
    let second = Upstream::answering(move |seen, _| good(&answers, seen));
    let gateway = Setup::new()
        .provider("p", side.format, &first)
        .provider("q", side.format, &second)
        .env("P_API_KEY_1", "key-1")
        .env("P_API_KEY_2", "key-2")
        .env("Q_API_KEY", "key-q")
        .model("m", &[("p", "up"), ("q", "up")])
        .start();
    for _ in 0..2 {
        let reply = gateway.post(client.path, request);
        assert_eq!((reply.status, reply.is_whole), (200, true), "{}", reply.text());
    }
    let seen = first.seen();
    let tried: Vec<(usize, &str)> = seen.iter().map(|seen| (seen.connection, key(seen))).collect();
    assert_eq!(tried, [(0, "1"), (0, "2"), (1, "2")], "once more by the same key, on a fresh connection");
    assert_eq!(second.count(), 1, "and then elsewhere");
    wait_until("two lines", || gateway.stderr().matches(" status=").count() == 2);
    let line = gateway.stderr().lines().last().unwrap_or_default().to_owned();
    assert!(line.contains("route=q/up attempts=3 status=200") && line.matches(" failed=").count() == 2, "{line}");
}
