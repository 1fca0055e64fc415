//! Pages in browsers (CORS), and those who look after us: health, readiness, the names of requests.

use model_proxy::wire::Format;

use crate::support::CLIENT_KEY;
use crate::support::gateway::{Gateway, Setup};
use crate::support::http::{Headers, Reply, Request};
use crate::support::samples::{CHAT, CHAT_REPLY, CHAT_REQUEST, MESSAGES, SIDES};
use crate::support::upstream::{Script, Upstream};

fn upstream() -> Upstream {
    Upstream::answering(|seen, _| match (seen.wants_stream(), seen.text().contains("fail")) {
        (_, true) => Script::json(400, r#"{"error":{"message":"no","type":"invalid_request_error"}}"#),
        (true, false) => Script::stream(SIDES[0].stream),
        (false, false) => Script::json(200, CHAT_REPLY),
    })
}

fn start(upstream: &Upstream, origins: Option<&str>) -> Gateway {
    let setup = Setup::simple(Format::OpenaiChat, upstream);
    match origins {
        Some(origins) => setup.env("CORS_ORIGINS", origins).start(),
        None => setup.start(),
    }
}

/// What an answer says of origins: allowed, varies, exposed.
fn told(headers: &Headers) -> [Option<&str>; 3] {
    ["access-control-allow-origin", "vary", "access-control-expose-headers"].map(|name| headers.one(name))
}

const PAGE: &str = "https://app.test";

#[test]
fn every_answer_says_whose_page_may_read_it() {
    let (any, this, not_this) =
        ([Some("*"), None, Some("*")], [Some(PAGE), Some("origin"), Some("*")], [None, Some("origin"), None]);
    for (origins, page, expect) in [
        (None, Some(PAGE), any),
        (Some(" * "), Some(PAGE), any),
        (Some("https://other.test , https://app.test"), Some(PAGE), this),
        (Some("https://other.test"), Some(PAGE), not_this),
        (Some("https://app.test:8443"), Some(PAGE), not_this),
        (Some("https://app.test"), Some("https://app.test.evil.test"), not_this),
        (Some("https://app.test"), Some("null"), not_this),
        (Some("https://app.test"), None, not_this),
        (Some(""), Some(PAGE), [None; 3]),
        (None, None, [None; 3]),
    ] {
        let upstream = upstream();
        let gateway = start(&upstream, origins);
        let with = |request: Request| match page {
            Some(page) => request.header("origin", page),
            None => request,
        };
        for side in SIDES {
            let fails = side.request.replace("Hello", "fail");
            for (request, status) in [
                (Request::post(side.path, side.request).with_key(), 200),
                (Request::post(side.path, side.stream_request).with_key(), 200),
                (Request::post(side.path, fails).with_key(), 400),
                (Request::post(side.path, "{").with_key(), 400),
                (Request::post(side.path, side.request), 401),
                (Request::get(side.path).with_key(), 405),
                (Request::get("/v1/nothing").with_key(), 404),
                (Request::get("/health"), 200),
                (Request::post(side.path, "x").with_key().header("content-encoding", "br"), 415),
            ] {
                // What a cache may keep is told to everybody, if to anybody.
                let is_kept = request.method == "GET" && origins.is_none();
                let reply = gateway.send(&with(request));
                assert_eq!(reply.status, status, "{}", reply.text());
                let expect = if is_kept { any } else { expect };
                assert_eq!(told(&reply.headers), expect, "{origins:?} {page:?} {status}");
                assert_eq!(reply.headers.one("access-control-allow-credentials"), None, "never");
            }
        }
    }
}

#[test]
fn a_browser_asks_first_and_needs_no_key() {
    let upstream = upstream();
    let ask = |gateway: &Gateway, path: &str, more: &[(&str, &str)]| {
        let request = Request::new("OPTIONS", path).header("origin", PAGE);
        gateway.send(&more.iter().fold(request, |request, (name, value)| request.header(name, value)))
    };
    let method = ("access-control-request-method", "POST");
    let names = ("access-control-request-headers", "authorization, content-type,x-stainless-lang, anthropic-version");
    for (origins, allowed) in
        [(None, Some("*")), (Some(PAGE), Some(PAGE)), (Some("https://other.test"), None), (Some(""), None)]
    {
        let gateway = start(&upstream, origins);
        for (path, methods) in [
            (CHAT, "POST, OPTIONS"),
            (MESSAGES, "POST, OPTIONS"),
            ("/v1/models", "GET, HEAD, OPTIONS"),
            ("/v1/models/m", "GET, HEAD, OPTIONS"),
            ("/health/detailed", "GET, HEAD, OPTIONS"),
        ] {
            let reply = ask(&gateway, path, &[method, names, ("access-control-request-private-network", "true")]);
            assert_eq!((reply.status, reply.body.len(), reply.headers.one("allow")), (204, 0, Some(methods)), "{path}");
            let is = |name: &str| reply.headers.one(name).map(str::to_owned);
            assert_eq!(is("access-control-allow-origin").as_deref(), allowed);
            let given = |value: &str| allowed.map(|_| value.to_owned());
            assert_eq!(is("access-control-allow-methods"), given(methods));
            assert_eq!(
                is("access-control-allow-headers"),
                given(names.1),
                "as it was asked for: * leaves out authorization"
            );
            assert_eq!(is("access-control-max-age"), given("600"));
            assert_eq!(is("access-control-allow-private-network"), (allowed == Some(PAGE)).then(|| "true".to_owned()));
            assert!(is("vary").unwrap().contains("access-control-request-headers"), "caches must know");
            assert!(is("x-request-id").is_some());
        }
        let odd = ask(&gateway, CHAT, &[method, ("access-control-request-headers", "a b: c")]);
        assert_eq!(
            odd.headers.one("access-control-allow-headers").filter(|names| names.contains(':')),
            None,
            "no list of names"
        );
        assert_eq!(
            ask(&gateway, CHAT, &[]).headers.one("allow"),
            Some("POST, OPTIONS"),
            "whoever just asks is told too"
        );
        assert_eq!(ask(&gateway, "/v1/nothing", &[method]).status, 401, "nothing is there to ask of");
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn what_is_no_origin_is_told_at_the_start() {
    let home = crate::support::TempDir::new();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_model-proxy"))
        .args(["start", "--port", "0"])
        .env_clear()
        .env("CORS_ORIGINS", "https://a.test/app")
        .current_dir(home.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(2) && said.contains("CORS_ORIGINS: \"https://a.test/app\" is more than a scheme"),
        "{said}"
    );
}

#[test]
fn health_tells_whether_and_detailed_tells_why() {
    let upstream = Upstream::answering(|_, _| Script::json(401, "{}"));
    let gateway = Setup::simple(Format::OpenaiChat, &upstream)
        .provider("unkeyed", Format::OpenaiChat, &upstream)
        .model("u", &[("unkeyed", "x")])
        .start();
    let get = |path: &str| gateway.send(&Request::get(path));
    for path in ["/health", "/healthz"] {
        let json = get(path).json();
        assert_eq!((json["status"].as_str(), json["timestamp"].is_string()), (Some("healthy"), true), "{json}");
    }
    assert_eq!((get("/livez").status, get("/livez").text().as_str()), (200, "ok\n"));
    assert_eq!(
        (get("/readyz").status, get("/readyz?verbose").text().as_str()),
        (200, "[+]serving ok\n[+]a usable key ok\nok\n")
    );
    for path in ["/health", "/livez", "/readyz"] {
        let head = gateway.send(&Request::new("HEAD", path).header("connection", "close"));
        assert_eq!(head.status, 200, "{path}");
    }
    assert_eq!(get("/health/detailed").status, 401, "it needs a key");
    let detailed = || gateway.send(&Request::get("/health/detailed").with_key()).json();
    let json = detailed();
    assert_eq!(json["status"], "healthy", "a provider without a key is no failure of the whole: {json}");
    assert_eq!(json["components"]["providers"]["p"]["status"], "healthy");
    assert_eq!(json["components"]["providers"]["p"]["keys_total"], 1);
    assert_eq!(json["components"]["providers"]["unkeyed"]["status"], "unconfigured");
    assert_eq!(json["components"]["database"]["status"], "healthy");
    assert_eq!(json["components"]["model_config"]["models_count"], 4);
    assert!(json["components"]["model_config"]["hash"].is_string() && json["uptime_seconds"].is_u64(), "{json}");
    assert_eq!(
        (json["draining"].as_bool(), json["requests_in_flight"].as_u64(), json["version"].is_string()),
        (Some(false), Some(0), true)
    );
    assert_eq!(json["log"]["lines_dropped"], 0);
    assert!(json["connections"]["open"].as_u64() < json["connections"]["most"].as_u64(), "{json}");
    assert_eq!(gateway.post(CHAT, CHAT_REQUEST).status, 502, "the only key is refused");
    assert_eq!(
        (get("/readyz").status, get("/readyz").headers.one("retry-after"), get("/livez").status),
        (503, Some("1"), 200)
    );
    assert_eq!(get("/readyz?verbose=1").text(), "[+]serving ok\n[-]a usable key failed\nnot ready\n");
    let json = detailed();
    assert_eq!((json["status"].as_str(), json["resting"][0]["why"].is_string()), (Some("degraded"), true), "{json}");
}

#[test]
fn every_answer_has_a_name() {
    let upstream = Upstream::answering(|_, _| Script::json(200, CHAT_REPLY).header("x-request-id", "upstream-1"));
    let gateway = Setup::simple(Format::OpenaiChat, &upstream).start();
    let names = |reply: &Reply| {
        ["x-request-id", "request-id"].map(|name| reply.headers.one(name).unwrap_or_default().to_owned())
    };
    for (request, status) in [
        (Request::post(CHAT, CHAT_REQUEST).with_key(), 200),
        (Request::post(MESSAGES, SIDES[1].request).with_key(), 200),
        (Request::post(CHAT, CHAT_REQUEST), 401),
        (Request::get("/v1/nothing").with_key(), 404),
        (Request::get(CHAT).with_key(), 405),
        (Request::post(CHAT, "{").with_key(), 400),
        (Request::new("OPTIONS", CHAT), 204),
        (Request::get("/livez"), 200),
        (Request::get("/health"), 200),
        (Request::get("/v1/models").with_key(), 200),
        (Request::post(CHAT, "x").with_key().header("content-encoding", "gzip"), 415),
    ] {
        let made = gateway.send(&request);
        assert_eq!(made.status, status, "{}", made.text());
        let [x, plain] = names(&made);
        assert!(x == plain && x.starts_with("req_") && x.len() == 36, "{status}: {x} {plain}");
        assert_ne!(names(&gateway.send(&request))[0], x, "each has its own");
        let given = gateway.send(&request.clone().header("x-request-id", "mine-1/a"));
        assert_eq!(names(&given), ["mine-1/a", "mine-1/a"], "{status}");
        for bad in ["", "a b", "\u{e9}", &"x".repeat(129)] {
            let reply = gateway.send(&request.clone().header("x-request-id", bad));
            assert!(names(&reply)[0].starts_with("req_"), "{bad:?}: {:?}", names(&reply));
        }
        let twice = gateway.send(&request.clone().header("x-request-id", "a").header("x-request-id", "b"));
        assert!(names(&twice)[0].starts_with("req_"), "two names are none");
    }
    let reply =
        gateway.send(&Request::post(MESSAGES, "{").header("x-api-key", CLIENT_KEY).header("x-request-id", "mine-2"));
    assert_eq!(reply.json()["request_id"], "mine-2");
    let trace = [
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("tracestate", "a=1,b=2"),
        ("baggage", "user=secret"),
    ];
    for side in SIDES {
        let request = trace.iter().fold(Request::post(side.path, side.request).with_key(), |r, (n, v)| r.header(n, v));
        let reply = gateway.send(&request);
        assert_eq!(reply.headers.one("x-upstream-request-id"), Some("upstream-1"));
        let seen = upstream.last();
        assert_eq!(
            trace.map(|(name, _)| seen.headers.one(name)),
            [Some(trace[0].1), Some(trace[1].1), None],
            "and no baggage"
        );
    }
}
