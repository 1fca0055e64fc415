//! How long things rest, who finds out whether they work again, and what is told meanwhile.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use model_proxy::time::{Clock, Rfc3339};

use crate::faults::lanes;
use crate::faults::scene::{Lane, key};
use crate::faults::table::{good, said};
use crate::support::gateway::{Gateway, Setup};
use crate::support::http::Reply;
use crate::support::samples::{SIDES, Side};
use crate::support::upstream::Upstream;

/// A limit as it is told, and how many seconds that are.
#[derive(Clone, Copy)]
struct Limit {
    headers: &'static [(&'static str, Told)],
    seconds: f64,
}

#[derive(Clone, Copy)]
enum Told {
    As(&'static str),
    /// So many seconds from now, as an HTTP date.
    Date(u64),
    /// The same as RFC 3339 has it.
    Moment(u64),
}

const fn limit(headers: &'static [(&'static str, Told)], seconds: f64) -> Limit {
    Limit { headers, seconds }
}

/// The longest rest an upstream is granted.
const HOUR: f64 = 3600.0;

/// The rest of who names no time, or none that makes sense.
const CONFIGURED: f64 = 180.0;

const LIMITS: &[Limit] = {
    use Told::*;
    &[
        limit(&[("retry-after", As("1"))], 1.0),
        limit(&[("retry-after", As("30"))], 30.0),
        limit(&[("retry-after", As("0.5"))], 0.5),
        limit(&[("retry-after", Date(40))], 40.0),
        limit(&[("retry-after-ms", As("1500"))], 1.5),
        limit(&[("retry-after-ms", As("20000")), ("retry-after", As("1"))], 20.0),
        limit(&[("anthropic-ratelimit-requests-reset", Moment(50))], 50.0),
        limit(&[("anthropic-ratelimit-tokens-reset", Moment(50))], 50.0),
        limit(
            &[("anthropic-ratelimit-requests-reset", Moment(9)), ("anthropic-ratelimit-tokens-reset", Moment(50))],
            50.0,
        ),
        limit(&[("x-ratelimit-reset-requests", As("1s"))], 1.0),
        limit(&[("x-ratelimit-reset-requests", As("6m0s"))], 360.0),
        limit(&[("x-ratelimit-reset-requests", As("20ms"))], 0.02),
        limit(&[("x-ratelimit-reset-tokens", As("1s"))], 1.0),
        limit(&[("x-ratelimit-reset-tokens", As("6m0s"))], 360.0),
        limit(&[("x-ratelimit-reset-tokens", As("20ms"))], 0.02),
        limit(&[("x-ratelimit-reset-requests", As("5s")), ("x-ratelimit-reset-tokens", As("40s"))], 40.0),
        limit(&[("retry-after", As("999999999"))], HOUR),
        limit(&[("retry-after", Date(40_000_000))], HOUR),
        limit(&[("retry-after-ms", As("90000000000"))], HOUR),
        limit(&[("x-ratelimit-reset-tokens", As("9000h"))], HOUR),
        limit(&[("anthropic-ratelimit-tokens-reset", Moment(40_000_000))], HOUR),
        limit(&[("retry-after", As("soon"))], CONFIGURED),
        limit(&[("retry-after", As("-5"))], CONFIGURED),
        limit(&[("retry-after", As("NaN"))], CONFIGURED),
        limit(&[("x-ratelimit-reset-tokens", As(""))], CONFIGURED),
        limit(&[], CONFIGURED),
    ]
};

/// Numbers that no clock has.
const ABSURD: &[Limit] = {
    use Told::*;
    &[
        limit(&[("retry-after", As("99999999999"))], HOUR),
        limit(&[("retry-after", As("99999999999999999999"))], HOUR),
        limit(&[("retry-after-ms", As("9999999999999"))], HOUR),
        limit(&[("x-ratelimit-reset-requests", As("9999999h"))], HOUR),
        limit(&[("x-ratelimit-reset-tokens", As("9999999h"))], HOUR),
    ]
};

impl Told {
    fn text(self, now: u64) -> String {
        match self {
            Self::As(text) => text.to_owned(),
            Self::Date(seconds) => http_date(now + seconds),
            Self::Moment(seconds) => Rfc3339(now + seconds).to_string(),
        }
    }
}

/// RFC 9110 5.6.7: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(unix: u64) -> String {
    let days = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let date = Rfc3339(unix).to_string();
    let weekday = days[usize::try_from(unix / 86_400 % 7).unwrap()];
    let month: usize = date[5..7].parse().unwrap();
    format!("{weekday}, {} {} {} {} GMT", &date[8..10], months[month - 1], &date[..4], &date[11..19])
}

#[test]
fn a_limit_is_rested_out_however_it_is_told() {
    check_limits(LIMITS);
}

#[test]
fn a_limit_beyond_all_reason_is_an_hour_and_not_none() {
    check_limits(ABSURD);
}

/// Each limit is met by an upstream model of its own: it is the key's for that model.
#[track_caller]
fn check_limits(limits: &'static [Limit]) {
    let check = |Lane { side, client, .. }: Lane| {
        let met: Vec<AtomicBool> = limits.iter().map(|_| AtomicBool::new(false)).collect();
        let upstream = Upstream::answering(move |seen, _| {
            let n: usize = seen.json()["model"].as_str().unwrap().parse().unwrap();
            if met[n].swap(true, Ordering::SeqCst) {
                return good(&side, seen);
            }
            let now = Clock::unix_seconds();
            limits[n].headers.iter().fold(said(&side, 429), |script, (name, told)| script.header(name, &told.text(now)))
        });
        let setup = Setup::new().provider("p", side.format, &upstream).env("P_API_KEY", "key-1");
        let models = (0..limits.len()).map(|n| (format!("m{n}"), n.to_string()));
        let gateway = models.fold(setup, |setup, (name, up)| setup.model(&name, &[("p", &up)])).start();
        thread::scope(|scope| {
            for (n, limit) in limits.iter().enumerate() {
                let gateway = &gateway;
                scope.spawn(move || check_limit(gateway, &client, &format!("m{n}"), *limit));
            }
        });
        let waited = limits.iter().filter(|limit| limit.seconds < PATIENCE).count();
        assert_eq!(upstream.count(), limits.len() + waited, "what rests is not asked");
    };
    thread::scope(|scope| lanes().filter(|lane| !lane.stream).for_each(|lane| drop(scope.spawn(move || check(lane)))));
}

/// How long a request waits for what rests.
const PATIENCE: f64 = 3.0;

fn check_limit(gateway: &Gateway, client: &Side, model: &str, Limit { headers, seconds }: Limit) {
    let request = client.request.replace("\"m\"", &format!("\"{model}\""));
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let case = format!("{names:?} of {seconds} s to {}", client.format);
    let asked = Instant::now();
    let first = gateway.post(client.path, request.as_str());
    assert_eq!(first.status, 429, "{case}: {}", first.text());
    let again = Instant::now();
    let second = gateway.post(client.path, request.as_str());
    let passed = asked.elapsed().as_secs_f64();
    if seconds < PATIENCE {
        assert_eq!(second.status, 200, "{case}: it is waited for: {}", second.text());
        assert!(seconds <= passed, "{case}: not before its time: {passed}");
        assert!(again.elapsed().as_secs_f64() < seconds + 1.5, "{case}: nor long after: {:?}", again.elapsed());
        return;
    }
    client.error_message(&second);
    assert_eq!(second.status, 429, "{case}: {}", second.text());
    let told = after(&second);
    // A date has whole seconds; a rest of our own choosing is up to a tenth longer.
    let least = seconds - passed - if headers.iter().any(|(_, told)| !matches!(told, Told::As(_))) { 1.0 } else { 0.0 };
    let most = if seconds == CONFIGURED { seconds * 1.1 } else { seconds };
    assert!(least <= told && told <= most.ceil(), "{case}: {told}");
}

/// The seconds that a reply says to wait.
#[track_caller]
fn after(reply: &Reply) -> f64 {
    let told = reply.headers.one("retry-after").unwrap_or_else(|| panic!("retry-after: {}", reply.text()));
    told.parse().unwrap()
}

/// One provider, one key.
fn alone(side: &Side, upstream: &Upstream) -> Gateway {
    Setup::simple(side.format, upstream).start()
}

/// One route fails and the other serves.
fn two_routes(side: &Side, first: &Upstream, second: &Upstream) -> Gateway {
    Setup::new()
        .provider("p", side.format, first)
        .provider("q", side.format, second)
        .env("P_API_KEY", "key-p")
        .env("Q_API_KEY", "key-q")
        .model("m", &[("p", "up"), ("q", "up")])
        .start()
}

#[test]
fn a_rest_that_is_over_soon_is_waited_for_and_grows() {
    let check = |Lane { side, client, stream }: Lane| {
        let upstream = Upstream::answering(move |seen, n| if n < 2 { said(&side, 500) } else { good(&side, seen) });
        let gateway = alone(&side, &upstream);
        let request = if stream { client.stream_request } else { client.request };
        for (status, waits) in [(500, 0.0), (500, 1.0), (200, 2.0), (200, 0.0)] {
            let begun = Instant::now();
            let reply = gateway.post(client.path, request);
            let took = begun.elapsed().as_secs_f64();
            assert_eq!(reply.status, status, "{}", reply.text());
            // The rest began a little before the client knew, and may be a tenth longer.
            assert!(waits * 0.8 <= took && took < waits + 1.0, "{took} s, and not about {waits}");
        }
        assert_eq!(upstream.count(), 4, "each was tried once");
    };
    thread::scope(|scope| lanes().for_each(|lane| drop(scope.spawn(move || check(lane)))));
}

#[test]
fn an_overloaded_route_is_left_alone_as_long_as_it_asks() {
    check_left_alone(529);
}

/// LIMITS 3: what an upstream asks for is the floor of its rest, whatever the status.
#[test]
fn a_failing_route_is_left_alone_as_long_as_it_asks() {
    check_left_alone(503);
}

/// With nothing else to ask, and longer than a request waits.
#[track_caller]
fn check_left_alone(status: u16) {
    for Lane { side, client, stream } in lanes() {
        let upstream = Upstream::answering(move |_, _| said(&side, status).header("retry-after", "30"));
        let gateway = alone(&side, &upstream);
        let request = if stream { client.stream_request } else { client.request };
        let first = gateway.post(client.path, request);
        assert!([503, status].contains(&first.status), "{}", first.text());
        let second = gateway.post(client.path, request);
        client.error_message(&second);
        assert_eq!((second.status, upstream.count()), (503, 1), "told, and not tried: {}", second.text());
        assert!((25.0..=30.0).contains(&after(&second)), "{}", after(&second));
    }
}

#[test]
fn one_request_finds_out_whether_a_route_works_again() {
    let check = |Lane { side, client, stream }: Lane| {
        let first = Upstream::answering(move |seen, n| match n {
            0 => said(&side, 500),
            _ => good(&side, seen).before_head(Duration::from_millis(800)),
        });
        let second = Upstream::answering(move |seen, _| good(&side, seen));
        let gateway = two_routes(&side, &first, &second);
        let request = if stream { client.stream_request } else { client.request };
        assert_eq!(gateway.post(client.path, request).status, 200);
        // A second and a tenth at most: the one time that passes for itself here.
        thread::sleep(Duration::from_millis(1_150));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| assert_eq!(gateway.post(client.path, request).status, 200));
            }
        });
        assert_eq!((first.count(), second.count()), (2, 8), "one is the probe, the others stay away");
        assert_eq!(gateway.post(client.path, request).status, 200);
        assert_eq!((first.count(), second.count()), (3, 8), "and then it is trusted");
    };
    thread::scope(|scope| lanes().for_each(|lane| drop(scope.spawn(move || check(lane)))));
}

#[test]
fn a_key_that_is_denied_three_times_in_a_row_rests() {
    for side in SIDES {
        let times = AtomicUsize::new(0);
        let upstream = Upstream::answering(move |seen, _| match key(seen) {
            // In a row means with no success in between: after two there is one.
            "1" if times.fetch_add(1, Ordering::SeqCst) != 2 => said(&side, 403),
            _ => good(&side, seen),
        });
        let gateway = Setup::new()
            .provider("p", side.format, &upstream)
            .env("P_API_KEY_1", "key-1")
            .env("P_API_KEY_2", "key-2")
            .model("m", &[("p", "up")])
            .start();
        for _ in 0..14 {
            assert_eq!(gateway.post(side.path, side.request).status, 200);
        }
        let keys: String = upstream.seen().iter().map(|seen| key(seen).to_owned()).collect();
        // It is 1's turn and 2's alternately; where 1 is denied 2 serves.
        let turns = "12 2 12 2 1 2 12 2 12 2 12 2 2 2";
        let turns = turns.replace(' ', "");
        assert_eq!(keys, turns, "twice forgiven, then three times and no more");
    }
}

/// Of two failures the more useful is shown, whichever comes first.
#[test]
fn the_most_useful_error_is_shown() {
    const CASES: &[(u16, u16, u16)] = &[
        (401, 500, 500),
        (403, 429, 429),
        (429, 500, 429),
        (402, 401, 502),
        (302, 500, 500),
        (302, 401, 502),
        (401, 408, 408),
        (200, 429, 429),
    ];
    let orders: Vec<[u16; 3]> =
        CASES.iter().flat_map(|&(one, two, shown)| [[one, two, shown], [two, one, shown]]).collect();
    for Lane { side, client, stream } in lanes() {
        // A key is the status it meets.
        let upstream = Upstream::answering(move |seen, _| said(&side, key(seen).parse().unwrap()));
        let setup = orders.iter().enumerate().fold(Setup::new(), |setup, (n, [one, two, _])| {
            let [p, q] = [format!("p{n}"), format!("q{n}")];
            setup
                .provider(&p, side.format, &upstream)
                .provider(&q, side.format, &upstream)
                .env(&format!("P{n}_API_KEY"), &format!("key-{one}"))
                .env(&format!("Q{n}_API_KEY"), &format!("key-{two}"))
                .model(&format!("m{n}"), &[(&p, "up"), (&q, "up")])
        });
        let gateway = setup.start();
        for (n, [one, two, shown]) in orders.iter().enumerate() {
            let request = if stream { client.stream_request } else { client.request };
            let reply = gateway.post(client.path, request.replace("\"m\"", &format!("\"m{n}\"")));
            let case = format!("{one}, then {two}: {}", reply.text());
            assert_eq!((reply.status, upstream.count()), (*shown, 2 * n + 2), "{case}");
            assert_eq!(reply.headers.one("x-model-proxy-attempts"), Some("2"), "{case}");
            client.error_message(&reply);
        }
    }
}

/// All keys of the first route fail, and then all there are.
#[test]
fn when_no_key_of_a_route_is_left_the_next_route_serves_and_else_it_is_told() {
    for (status, later) in [(401, 503), (402, 503), (429, 429)] {
        for Lane { side, client, stream } in lanes() {
            let upstream = Upstream::answering(move |seen, _| match key(seen) {
                "q" => good(&side, seen),
                _ => said(&side, status),
            });
            let gateway = Setup::new()
                .provider("p", side.format, &upstream)
                .provider("q", side.format, &upstream)
                .env("P_API_KEY_1", "key-1")
                .env("P_API_KEY_2", "key-2")
                .env("Q_API_KEY", "key-q")
                .model("m", &[("p", "up"), ("q", "up")])
                .model("alone", &[("p", "else")])
                .start();
            let request = if stream { client.stream_request } else { client.request };
            for _ in 0..2 {
                assert_eq!(gateway.post(client.path, request).status, 200, "{status}");
            }
            let keys: Vec<String> = upstream.seen().iter().map(|seen| key(seen).to_owned()).collect();
            assert_eq!(keys, ["1", "2", "q", "q"], "{status}");
            let alone = |asks: usize| {
                let before = upstream.count();
                let reply = gateway.post(client.path, request.replace("\"m\"", "\"alone\""));
                let said = client.error_message(&reply);
                assert_eq!(upstream.count(), before + asks, "{status}: {said}");
                reply
            };
            // A limit is the model's, so another model has to meet its own; a refusal is the key's.
            if status == 429 {
                assert_eq!(alone(2).status, 429);
            }
            let reply = alone(0);
            assert_eq!(reply.status, later, "{}", reply.text());
            assert!((100.0..=660.0).contains(&after(&reply)), "{status}: {}", after(&reply));
        }
    }
}

/// Whoever is told of a limit after several tries is told how long it is, and not to try again where that is longer than
/// SDKs wait.
#[test]
fn a_limit_met_twice_tells_how_long_it_is() {
    for Lane { side, client, stream } in lanes() {
        for asks in [Some("30"), None] {
            let upstream = Upstream::answering(move |_, _| {
                asks.into_iter().fold(said(&side, 429), |script, seconds| script.header("retry-after", seconds))
            });
            let gateway = two_routes(&side, &upstream, &upstream);
            let reply = gateway.post(client.path, if stream { client.stream_request } else { client.request });
            assert_eq!((reply.status, upstream.count()), (429, 2), "{}", reply.text());
            let seconds: f64 = reply.headers.one("retry-after").unwrap().parse().unwrap();
            let retry = reply.headers.one("x-should-retry");
            match asks {
                Some(_) => assert!((30.0..=31.0).contains(&seconds) && retry.is_none(), "{seconds} {retry:?}"),
                None => assert!(180.0 <= seconds && retry == Some("false"), "{seconds} {retry:?}"),
            }
        }
    }
}
