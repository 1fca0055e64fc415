//! The commands that tell why: `config explain`, `route test`, `keys list`, and what `/health/detailed` says of what rests.

use serde_json::Value;

use crate::support::cli::{Cli, Outcome};
use crate::support::gateway::Setup;
use crate::support::http::Request;
use crate::support::samples::SIDES;
use crate::support::upstream::{Script, Upstream};
use crate::support::{CLIENT_KEY, TempDir};

/// Keys that must be seen nowhere, and what is seen of them.
const SECRETS: [(&str, &str, &str); 3] = [
    ("A_API_KEY_1", "sk-a-one-0123456789abcdef", "eff65b97"),
    ("A_API_KEY_2", "sk-a-two-0123456789abcdef", "3972c062"),
    ("OWN_KEY", "sk-own-0123456789abcdef", "0d142d12"),
];

/// Two formats, a route with a key of its own, a provider that has none, one that needs none, a fallback.
fn home() -> TempDir {
    Setup::new()
        .file(
            "providers/a.json",
            r#"{"name":"a","endpoints":{"base_url":"https://a.example/v1","compatible_format":"anthropic"},
                "rate_limiting":{"cooldown_seconds":600},"request_config":{"timeout_seconds":30},
                "error_handling":{"503":{"action":"provider_cooldown","cooldown_seconds":20},
                                  "400":{"action":"auto_fix_tool_responses"}},
                "error_rules":[{"status":403,"body_contains":"not in your plan","scope":"route","cooldown_seconds":90}]}"#,
        )
        .file(
            "providers/o.json",
            r#"{"name":"o","endpoints":{"base_url":"https://o.example/v1","chat":"/chat/completions?key=${OWN_KEY}"},
                "quirks":{"drop_params":["seed"],"top_k":true}}"#,
        )
        .file(
            "providers/free.json",
            r#"{"name":"free","endpoints":{"base_url":"http://127.0.0.1:1"},"authentication":{"type":"none"}}"#,
        )
        .file(
            "models/fast.json",
            r#"{"logical_name":"fast","aliases":["quick"],"default_cooldown_seconds":60,
                "model_routings":[
                    {"provider":"a","model":"up-a","capabilities":{"sampling":false},"defaults":{"top_k":5}},
                    {"provider":"o","model":"up-o","api_key_env":["OWN_KEY","OTHER_KEY"]},
                    {"provider":"o","model":"up-o2"}],
                "fallback_model_routings":["slow"]}"#,
        )
        .file("models/slow.json", r#"{"logical_name":"slow","model_routings":[{"provider":"free","model":"up-free"}]}"#)
        .file("models/any.json", r#"{"logical_name":"any/*","model_routings":[{"provider":"a","model":"*"}]}"#)
        .write()
}

/// Runs a command on that configuration with its keys; none of them may be seen.
#[track_caller]
fn run(line: &[&str]) -> Outcome {
    let home = home();
    let config = home.path().join("config");
    let args = [line, &["--config", config.to_str().unwrap()]].concat();
    let outcome = SECRETS.iter().fold(Cli::new(&args), |cli, (name, key, _)| cli.env(name, key)).run();
    for (_, key, _) in SECRETS {
        let seen = outcome.stdout.contains(key) || outcome.stderr.contains(key);
        assert!(!seen, "a key is shown: {outcome:?}");
    }
    outcome
}

#[track_caller]
fn json(outcome: &Outcome) -> Value {
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|e| panic!("{e}: {outcome:?}"))
}

#[test]
fn a_model_is_explained_route_by_route() {
    let outcome = run(&["config", "explain", "quick", "--from", "openai"]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "{outcome:?}");
    let mut rest = outcome.stdout.as_str();
    for line in EXPLAINED {
        let found = rest.split_once(&format!("{line}\n"));
        rest = found.unwrap_or_else(|| panic!("{line:?} is not there, or not in its place:\n{}", outcome.stdout)).1;
    }
    // What is told of one route is not told again of the next.
    assert_eq!(outcome.stdout.matches("logit_bias").count(), 1, "{}", outcome.stdout);
}

/// Lines of it, in their order; what conversion loses is the tables' to say.
const EXPLAINED: &[&str] = &[
    "quick: the model fast, 4 routes, tried in this order, at most 16 attempts in 600 s; on_lossy: report\n",
    "1. a/up-a",
    "   speaks    anthropic to https://a.example/v1/messages",
    "   keys      A_API_KEY_1 (eff65b97), A_API_KEY_2 (3972c062), in turn; a session keeps to one",
    "   timeouts  connect 5 s, first byte 30 s, idle 30 s, total 600 s (total: whole replies only)",
    "   failures  403 with \"not in your plan\": the route rests 90 s, or longer if retry-after says so; the next route",
    "             401, 402, no credit left: the key rests 600 s; the next key",
    "             429: the key for this model rests 60 s, or as long as retry-after says, at most 3600 s; the next key",
    "             503: the provider rests 20 s, or longer if retry-after says so; the next route",
    "   sets      top_k, where the client does not",
    "     refused: n (one answer per request; several would multiply its cost unseen)",
    "     dropped: logit_bias, seed, frequency_penalty, presence_penalty (no other format has it)",
    "     dropped or changed on this route: temperature, temperature=1.5, top_p, top_k (the model takes no sampling parameters)",
    "\n2. o/up-o",
    "   speaks    openai_chat to https://o.example/v1/chat/completions?key=…",
    "   keys      OWN_KEY (0d142d12)",
    "   from openai_chat: as it came, but for the model's name, and without seed",
    "\n3. o/up-o2",
    "   keys      no key: set O_API_KEY or O_API_KEY_{INDEX}",
    "   failures  as for route 2",
    "\n4. free/up-free (fallback: a route of slow)",
    "   keys      none needed",
    "   from openai_chat: as it came, but for the model's name",
];

#[test]
fn a_status_that_a_rule_takes_whole_is_explained_once() {
    let home = Setup::new()
        .file(
            "providers/free.json",
            r#"{"name":"free","endpoints":{"base_url":"http://127.0.0.1:1"},"authentication":{"type":"none"},
                "error_rules":[{"status":409,"scope":"route","cooldown_seconds":7}]}"#,
        )
        .file("models/m.json", r#"{"logical_name":"m","model_routings":[{"provider":"free","model":"x"}]}"#)
        .write();
    let config = home.path().join("config");
    let outcome = Cli::new(&["config", "explain", "m", "--config", config.to_str().unwrap()]).run();
    let lines: Vec<&str> = outcome.stdout.lines().filter(|line| line.contains("409")).collect();
    assert!(matches!(lines[..], [line] if line.contains("409: the route rests 7 s")), "{outcome:?}");
}

#[test]
fn an_explanation_is_told_to_scripts_too() {
    let outcome = run(&["config", "explain", "fast", "--format", "json"]);
    let all = json(&outcome);
    assert_eq!(
        (&all["name"], &all["logical_name"], &all["aliases"][0]),
        (&"fast".into(), &"fast".into(), &"quick".into())
    );
    let routes = all["routes"].as_array().unwrap();
    let of = |route: usize, field: &str| routes[route][field].clone();
    assert_eq!(of(0, "keys")[0]["variable"], "A_API_KEY_1");
    assert_eq!(of(0, "keys")[1]["fingerprint"], SECRETS[1].2);
    assert_eq!((of(1, "keys")[0]["variable"].clone(), of(1, "remedy")), ("OWN_KEY".into(), Value::Null));
    assert_eq!((of(2, "needs_key"), of(2, "remedy")), (true.into(), "set O_API_KEY or O_API_KEY_{INDEX}".into()));
    assert_eq!((of(3, "needs_key"), of(3, "fallback")), (false.into(), "slow".into()));
    assert_eq!(of(0, "timeouts")["first_byte_seconds"], 30);
    let rule = |on: &str| {
        let failures = routes[0]["failures"].as_array().unwrap();
        failures.iter().find(|rule| rule["on"].as_array().unwrap().contains(&on.into())).unwrap().clone()
    };
    assert_eq!((&rule("429")["rests"], &rule("429")["seconds"]), (&"key_model".into(), &60.into()));
    assert_eq!((&rule("503")["rests"], &rule("503")["seconds"]), (&"provider".into(), &20.into()));
    assert_eq!((&rule("503")["retry_after"], &rule("429")["retry_after"]), (&"at_least".into(), &"instead".into()));
    assert_eq!((&rule("400")["then"], &rule("401")["seconds"]), (&"repair".into(), &600.into()));
    assert_eq!(of(0, "from")["anthropic"]["lane"], "verbatim");
    assert_eq!(of(1, "from")["openai_chat"]["never_sent"][0], "seed");
    let here = of(0, "from")["openai_chat"]["dropped_on_this_route"].to_string();
    assert!(here.contains("\"temperature\"") && here.contains("sampling"), "{here}");
    assert!(all["routes"][0]["from"]["openai_chat"]["fields"].is_null(), "only when asked for");
    let fields = json(&run(&["config", "explain", "fast", "--from", "openai", "--format", "json", "--fields"]));
    let rows = fields["routes"][0]["from"]["openai_chat"]["fields"].as_array().unwrap();
    assert!(rows.iter().any(|row| row["field"] == "logit_bias" && row["fate"] == "dropped"), "{rows:?}");
    assert!(fields["routes"][0]["from"]["anthropic"].is_null(), "one format was asked for");
}

#[test]
fn a_name_behind_a_wildcard_is_explained_as_what_it_is_upstream() {
    let outcome = run(&["config", "explain", "any/thing", "--from", "anthropic"]);
    assert!(outcome.stdout.starts_with("any/thing: the model any/*, 1 route, at most"), "{outcome:?}");
    assert!(outcome.stdout.contains("\n1. a/thing\n"), "{outcome:?}");
    let outcome = run(&["config", "explain", "any/*", "--from", "anthropic", "--fields"]);
    assert!(outcome.stdout.contains("\n1. a/*\n"), "{outcome:?}");
    let every = run(&["config", "explain", "fast", "--from", "openai", "--fields"]).stdout;
    assert!(every.contains("     dropped         logit_bias (no other format has it)\n"), "{every}");
    assert!(
        every.contains("     carried         messages[*].{role,content,tool_calls,function_call,tool_call_id}\n"),
        "{every}"
    );
}

#[test]
fn what_cannot_be_explained_is_named_with_what_may_be_meant() {
    for (args, code, says) in [
        (&["config", "explain", "fats"][..], 1, "no model \"fats\" (did you mean \"fast\"?)"),
        (&["config", "explain", "zzzzz"], 1, "no model \"zzzzz\"; see config list"),
        (&["config", "explain"], 2, "needs the name of a model"),
        (&["config", "explain", "fast", "--from", "antropic"], 2, "did you mean \"anthropic\"?"),
        (&["config", "explain", "fast", "--format", "yaml"], 2, "table or json"),
        (&["config", "explain", "fast", "--field"], 2, "did you mean --fields?"),
        (&["config", "explian", "fast"], 2, "did you mean \"explain\"?"),
        (&["config", "show", "fats"], 1, "no model \"fats\" (did you mean \"fast\"?)"),
        (&["route", "test", "fats"], 1, "did you mean \"fast\"?"),
        (&["route", "test"], 2, "needs the name of a model"),
        (&["route", "tset", "fast"], 2, "did you mean \"test\"?"),
        (&["route", "test", "fast", "--keys", "0"], 2, "--keys takes a number from 1"),
        (&["route", "test", "fast", "--outcom", "ok"], 2, "did you mean --outcome?"),
        (&["keys", "list", "--endpoint", "ftp://a"], 2, "--endpoint takes http://HOST:PORT"),
        (&["key", "list"], 2, "did you mean \"keys\"?"),
    ] {
        let outcome = run(args);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(code), ""), "{args:?}: {outcome:?}");
        assert!(outcome.stderr.contains(says), "{args:?}: {outcome:?}");
    }
    let outcome = run(&["route", "test", "fast", "--outcome", "tiemout"]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""), "{outcome:?}");
    assert!(outcome.stderr.contains("did you mean \"timeout\"?"), "{outcome:?}");
    for word in ["ok", "STATUS", "connect", "reset", "garbage", "retry-after=5", "wait=30s", "request"] {
        assert!(outcome.stderr.contains(word), "{word}: {outcome:?}");
        let help = Cli::new(&["route", "test", "--help"]).run();
        assert!(help.stdout.contains(&format!("\n  {word}")), "{word}: {help:?}");
    }
}

/// `outcomes` on the model `fast` with two keys for each route: what is printed, and the exit code.
#[track_caller]
fn check(outcomes: &[&str], code: i32, expect: &str) {
    let mut args = vec!["route", "test", "fast", "--keys", "2"];
    for outcome in outcomes {
        args.extend(["--outcome", outcome]);
    }
    let outcome = run(&args);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(code), ""), "{outcome:?}");
    let stdout = without_chance(&outcome.stdout);
    assert_eq!(stdout, expect, "{outcomes:?}:\n{stdout}");
}

/// Rests may be spread a little so that what failed together does not come back together.
fn without_chance(text: &str) -> String {
    let mut parts = text.split(" rests ");
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (_, after) = part.split_once(" s ").unwrap_or_else(|| panic!("how long? {part}"));
        shown += &format!(" rests ~ s {after}");
    }
    shown
}

#[test]
fn a_plan_is_tried_out_decision_by_decision() {
    check(
        &["429 retry-after=5", "connect"],
        0,
        "request 1, at +0 s
  1  a/up-a with key 1: 429 retry-after=5
     due to the key for this model, which rests ~ s (rate limited, 1 failure); next: the next key
  2  a/up-a with key 2: connect
     due to the route, which rests ~ s (unreachable, 1 failure); next: the next route
  3  o/up-o with key 1: 200
     it is the answer
  the client gets 200 from o/up-o, after 3 attempts
",
    );
    check(
        &["422", "ok"],
        1,
        "request 1, at +0 s
  1  a/up-a with key 1: 422
     due to the request, nobody rests; next: the client gets it as the upstream said it
  the client gets 422 (\"made up by route test\"), after 1 attempt
  nothing was tried for: ok
",
    );
}

#[test]
fn requests_find_what_those_before_them_left() {
    check(
        &["503", "request", "wait=30s", "request"],
        0,
        "request 1, at +0 s
  1  a/up-a with key 1: 503
     due to the provider, which rests ~ s (upstream failed, 1 failure); next: the next route
  2  o/up-o with key 1: 200
     it is the answer
  the client gets 200 from o/up-o, after 2 attempts
request 2, at +0 s
  -  a/up-a is passed over: the provider rests ~ s more: upstream failed
  1  o/up-o with key 2: 200
     it is the answer
  the client gets 200 from o/up-o, after 1 attempt
request 3, at +30 s
  1  a/up-a with key 1: 200
     it is the answer
  the client gets 200 from a/up-a, after 1 attempt
",
    );
}

/// What is due soon is waited for, and a wait of the plan's own is told.
#[test]
fn a_short_rest_is_waited_for() {
    let args = ["route", "test", "any/x", "--keys", "1", "-o", "429,retry-after=2", "-o", "request", "-f", "json"];
    let outcome = run(&args);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let all = json(&outcome);
    assert_eq!((&all["requests"][0]["end"], &all["requests"][0]["client"]["status"]), (&"gave_up".into(), &429.into()));
    assert_eq!(all["requests"][0]["client"]["retry_after_seconds"], 2);
    let steps = all["requests"][1]["steps"].as_array().unwrap();
    assert!(steps[0]["why"].as_str().unwrap().contains("rests 2 s more: rate limited"), "{steps:?}");
    assert_eq!((&steps[1]["waited_seconds"], &steps[2]["at_seconds"]), (&2.into(), &2.into()));
}

#[test]
fn the_providers_own_rules_are_followed_by_their_words() {
    let test = |outcome: &str| json(&run(&["route", "test", "fast", "--keys", "2", "-o", outcome, "-f", "json"]));
    let first = |all: &Value| all["requests"][0]["steps"][0].clone();
    let ruled = first(&test("403 says=This is NOT IN YOUR PLAN, sorry"));
    assert_eq!((&ruled["rests"]["scope"], &ruled["then"]), (&"route".into(), &"next_route".into()));
    let other = first(&test("403"));
    assert_eq!((&other["rests"], &other["then"]), (&Value::Null, &"next_key".into()), "the third in a row rests");
}

#[test]
fn a_plan_gives_up_and_says_what_the_client_gets() {
    check(
        &["stale", "200 overloaded_error", "402", "401", "timeout", "garbage"],
        1,
        "request 1, at +0 s
  1  a/up-a with key 1: stale
     due to the kept connection, nobody rests; next: the same key once more, on a fresh connection
  2  a/up-a with key 1: 200 overloaded_error
     due to the route, which rests ~ s (overloaded, or asks to be left alone, 1 failure); next: the next route
  3  o/up-o with key 1: 402
     due to the key, which rests ~ s (no credit left, 1 failure); next: the next key
  4  o/up-o with key 2: 401
     due to the key, which rests ~ s (credential refused, 1 failure); next: the next key
  -  o/up-o2 with key 1 is passed over: the key rests ~ s more: no credit left
  -  o/up-o2 with key 2 is passed over: the key rests ~ s more: credential refused
  5  free/up-free, which needs no key: timeout
     due to the route, which rests ~ s (unreachable, 1 failure); next: the next route
  the plan gives up: all that may be tried was
  the client gets 503 (\"made up by route test\"), after 5 attempts
  nothing was tried for: garbage
",
    );
}

#[test]
fn what_the_upstream_asks_for_is_the_rest_there_is() {
    let all =
        json(&run(&["route", "test", "fast", "-o", "429,retry-after=5", "-o", "429 retry-after=2h", "-f", "json"]));
    let steps = all["requests"][0]["steps"].as_array().unwrap();
    let rests: Vec<&Value> = steps.iter().map(|step| &step["rests"]["seconds"]).collect();
    assert_eq!((rests[0], rests[1]), (&5.into(), &3600.into()), "up to an hour: {steps:?}");
}

#[test]
fn keys_that_are_there_are_used_and_routes_without_are_passed_over() {
    let outcome = run(&["route", "test", "fast", "-o", "connect", "-o", "500", "--format", "json"]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let all = json(&outcome);
    let steps = all["requests"][0]["steps"].as_array().unwrap();
    assert_eq!((&steps[0]["tried"], &steps[0]["key"]), (&"a/up-a".into(), &"A_API_KEY_1".into()));
    assert_eq!((&steps[0]["fingerprint"], &steps[0]["then"]), (&SECRETS[0].2.into(), &"next_route".into()));
    assert_eq!((&steps[0]["rests"]["scope"], &steps[0]["rests"]["strikes"]), (&"route".into(), &1.into()));
    assert_eq!((&steps[1]["tried"], &steps[1]["key"]), (&"o/up-o".into(), &"OWN_KEY".into()));
    assert_eq!(steps[2]["passed_over"], "o/up-o2");
    assert!(steps[2]["why"].as_str().unwrap().contains("set O_API_KEY"), "{steps:?}");
    assert_eq!((&steps[3]["tried"], &steps[3]["via"]), (&"free/up-free".into(), &"slow".into()));
    assert_eq!(
        (&all["requests"][0]["end"], &all["requests"][0]["client"]["status"]),
        (&"delivered".into(), &200.into())
    );
}

#[test]
fn without_a_key_the_plan_says_so() {
    let home = Setup::new().model("m", &[("openai", "x")]).write();
    let config = home.path().join("config");
    let args = ["route", "test", "m", "--config", config.to_str().unwrap()];
    let outcome = Cli::new(&args).run();
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.stdout.contains("openai/x is passed over: no key: set OPENAI_API_KEY"), "{outcome:?}");
    assert!(
        outcome.stdout.contains("no route has a key") && outcome.stdout.contains("the client gets 503"),
        "{outcome:?}"
    );
    let pretended = Cli::new(&[&args[..], &["--keys", "1"]].concat()).run();
    assert_eq!(pretended.code, Some(0), "{pretended:?}");
}

#[test]
fn keys_are_listed_without_a_server() {
    let outcome = run(&["keys", "list", "--endpoint", "http://127.0.0.1:1"]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:?}");
    assert!(outcome.stderr.contains("http://127.0.0.1:1 does not answer"), "{outcome:?}");
    assert_eq!(
        outcome.stdout,
        "KEY          FINGERPRINT  PROVIDER  MODELS       STATE
A_API_KEY_1  eff65b97     a         any/*, fast  not known
A_API_KEY_2  3972c062     a         any/*, fast  not known
OWN_KEY      0d142d12     o         fast         not known
"
    );
    let all = json(&run(&["keys", "list", "--endpoint", "http://127.0.0.1:1", "--format", "json"]));
    assert_eq!((&all["live"], &all["keys"][0]["resting"]), (&false.into(), &Value::Null));
}

#[test]
fn a_running_server_tells_what_rests_and_why() {
    let side = SIDES[0];
    let upstream = Upstream::start();
    let setup = Setup::new()
        .provider("p", side.format, &upstream)
        .env("P_API_KEY_1", "key-number-one")
        .env("P_API_KEY_2", "key-number-two")
        .model("m", &[("p", "upstream-model")])
        .model("bad", &[("p", "bad-model")]);
    let gateway = setup.start();
    let health = || gateway.send(&Request::get("/health/detailed").with_key()).json();
    assert_eq!(health()["resting"], serde_json::json!([]), "{}", health());
    assert_eq!(health()["components"]["providers"]["p"]["keys_total"], 2, "the seed's shape stays: {}", health());
    let limited = Script::json(429, side.error("rate_limit_error", "slow down")).header("retry-after", "40");
    upstream.queue(limited);
    upstream.queue(Script::json(401, side.error("authentication_error", "no")));
    assert_ne!(gateway.post(side.path, side.request).status, 200, "neither key works");
    let resting = health()["resting"].clone();
    let of = |scope: &str| {
        let found = resting.as_array().unwrap().iter().find(|rest| rest["scope"] == scope).cloned();
        found.unwrap_or_else(|| panic!("{scope}: {resting}"))
    };
    assert_eq!(of("key_model")["variable"], "P_API_KEY_1");
    assert_eq!(
        (&of("key_model")["model"], &of("key_model")["why"]),
        (&"upstream-model".into(), &"rate limited".into())
    );
    assert!((35..=40).contains(&of("key_model")["seconds"].as_u64().unwrap()), "{resting}");
    assert_eq!((&of("key")["variable"], &of("key")["model"]), (&"P_API_KEY_2".into(), &Value::Null));
    assert_eq!((&of("key")["why"], &of("key")["strikes"]), (&"credential refused".into(), &1.into()));
    assert!(of("key")["until"].as_str().unwrap().ends_with('Z'), "{resting}");

    let home = setup.write();
    let config = home.path().join("config");
    let endpoint = format!("http://{}", gateway.address);
    let list = |format: &str, client_key: &str| {
        let args = ["keys", "list", "--endpoint", &endpoint, "--format", format, "--config", config.to_str().unwrap()];
        let cli = Cli::new(&args).env("P_API_KEY_1", "key-number-one").env("P_API_KEY_2", "key-number-two");
        cli.env("CLIENT_API_KEY", client_key).run()
    };
    let outcome = list("table", CLIENT_KEY);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "{outcome:?}");
    assert!(outcome.stdout.contains("for upstream-model rests "), "{outcome:?}");
    assert!(outcome.stdout.contains(": credential refused, 1 failure\n"), "{outcome:?}");
    assert!(!outcome.stdout.contains("key-number"), "{outcome:?}");
    let all = json(&list("json", CLIENT_KEY));
    assert_eq!((&all["live"], &all["keys"][0]["resting"][0]["scope"]), (&true.into(), &"key_model".into()));
    let refused = list("table", "another");
    assert_eq!(refused.code, Some(0), "{refused:?}");
    assert!(refused.stderr.contains("refuses the client key"), "{refused:?}");
    assert!(refused.stdout.contains("not known"), "{refused:?}");
}

#[test]
fn no_health_detail_is_told_without_the_key() {
    let upstream = Upstream::start();
    let gateway = Setup::simple(SIDES[0].format, &upstream).start();
    let reply = gateway.send(&Request::get("/health/detailed"));
    assert_eq!(reply.status, 401, "{}", reply.text());
}
