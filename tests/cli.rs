//! The command line as a person or a script meets it: words, exit codes, what the banner promises.

use crate::support::CLIENT_KEY;
use crate::support::cli::Cli;
use crate::support::gateway::Setup;
use crate::support::samples::SIDES;
use crate::support::upstream::Upstream;

/// The example of the README this product grew from, which its own loader refused.
const SEED_EXAMPLE: &str = r#"{
  "logical_name": "gpt-5.2",
  "timeout_seconds": 60,
  "model_routings": [
    {
      "provider": "openai",
      "model": "gpt-5.2"
    },
    {
      "provider": "azure",
      "model": "gpt-5.2"
    }
  ],
  "fallback_model_routings": ["gpt-5.1"]
}
"#;

#[test]
fn help_names_the_commands_and_ends_with_0() {
    for args in
        [&["--help"][..], &["help"], &["start", "--help"], &["config", "--help"], &["config", "validate", "--help"]]
    {
        let outcome = Cli::new(args).run();
        assert_eq!(outcome.code, Some(0), "{args:?}: {outcome:?}");
        assert!(outcome.stderr.is_empty(), "{args:?}: help is what was asked for: {outcome:?}");
        assert!(outcome.stdout.contains("model-proxy"), "{args:?}: {outcome:?}");
    }
    let outcome = Cli::new(&["--help"]).run();
    for command in ["start", "config", "health", "version"] {
        assert!(outcome.stdout.contains(command), "{command}: {}", outcome.stdout);
    }
}

#[test]
fn version_is_the_packages() {
    for args in [&["--version"][..], &["version"]] {
        let outcome = Cli::new(args).run();
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        assert!(outcome.stdout.contains(env!("CARGO_PKG_VERSION")), "{outcome:?}");
    }
}

#[test]
fn held_wrong_it_ends_with_2_and_says_how() {
    let wrong = [
        &[][..],
        &["strat"],
        &["start", "--prot", "1"],
        &["start", "--port", "no"],
        &["start", "--port"],
        &["start", "--workers", "0"],
        &["config"],
    ];
    for args in wrong {
        let outcome = Cli::new(args).run();
        assert_eq!(outcome.code, Some(2), "{args:?}: {outcome:?}");
        assert!(!outcome.stderr.is_empty() || !outcome.stdout.is_empty(), "{args:?}: {outcome:?}");
    }
    let outcome = Cli::new(&["strat"]).run();
    assert!(outcome.stderr.contains("start"), "a near command is named: {outcome:?}");
    for (args, says) in [
        (&["help", "strat"][..], "did you mean \"start\"?"),
        (&["help", "config", "lst"], "did you mean \"list\"?"),
        (&["help", "config", "list", "all"], "there is no command \"config list all\""),
    ] {
        let outcome = Cli::new(args).run();
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""), "{args:?}: {outcome:?}");
        assert!(outcome.stderr.contains(says), "{args:?}: {outcome:?}");
    }
}

#[test]
fn a_variable_that_says_nothing_is_named_at_start() {
    for (name, value, says) in [
        (
            "REQUIRE_CLIENT_API_KEY",
            "ture",
            "REQUIRE_CLIENT_API_KEY takes true, 1, yes, on or false, 0, no, off, not \"ture\"",
        ),
        ("FAIL_ON_STARTUP_VALIDATION", "ja", "FAIL_ON_STARTUP_VALIDATION takes true, 1"),
        ("MODEL_PROXY_PERSIST_COOLDOWNS", "ture", "takes true, false or a file, not \"ture\" (did you mean \"true\"?"),
        ("LOG_LEVEL", "verbose", "model-proxy: LOG_LEVEL takes error"),
        ("MODEL_PROXY_LOG_LEVEL", "verbose", "model-proxy: MODEL_PROXY_LOG_LEVEL takes error"),
    ] {
        let outcome = Cli::new(&["start", "--port", "0"]).env("CLIENT_API_KEY", CLIENT_KEY).env(name, value).run();
        assert_eq!(outcome.code, Some(2), "{outcome:?}");
        assert!(outcome.stderr.contains(says), "{outcome:?}");
    }
}

#[test]
fn a_good_configuration_validates() {
    let upstream = Upstream::start();
    let home = Setup::simple(SIDES[0].format, &upstream).write();
    let config = home.path().join("config");
    let outcome = Cli::new(&["config", "validate", "--config", config.to_str().unwrap()]).run();
    assert_eq!(outcome.code, Some(0), "it needs neither keys nor network: {outcome:?}");
}

#[test]
fn a_directory_is_no_file_to_validate() {
    let outcome = Cli::new(&["config", "validate", "/tmp"]).run();
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""), "{outcome:?}");
    assert!(outcome.stderr.contains("/tmp: is a directory: name its files, or it with --config"), "{outcome:?}");
}

/// Ten files with one fault each, and what the line about it has to say.
const FAULTS: [(&str, &str, &str); 10] = [
    (
        "models/a.json",
        r#"{"logical_name":"a","model_routings":[{"provider":"opneai","model":"x"}]}"#,
        "did you mean \"openai\"?",
    ),
    ("models/b.json", r#"{"logical_name":"b","model_routings":[{"provider":"openai""#, ""),
    ("models/c.json", r#"{"model_routings":[{"provider":"openai","model":"x"}]}"#, "logical_name"),
    ("models/d.json", r#"{"logical_name":"d","model_routings":[{"provider":"openai"}]}"#, "model"),
    (
        "models/e.json",
        r#"{"logical_name":"e","model_routings":[{"provider":"openai","model":"x","wire_protocol":"opnai"}]}"#,
        "wire_protocol",
    ),
    ("models/f.json", r#"{"logical_name":"f","model_routings":"openai"}"#, "model_routings"),
    (
        "models/g.json",
        r#"{"logical_name":"g","model_routings":[{"provider":"openai","model":"x","timeout_seconds":-1}]}"#,
        "timeout_seconds",
    ),
    (
        "providers/x.json",
        r#"{"name":"x","enabled":true,"endpoints":{"completions":"/v1/chat/completions"},"authentication":{"header_name":"Authorization"}}"#,
        "base_url",
    ),
    (
        "providers/y.json",
        r#"{"name":"y","enabled":true,"endpoints":{"base_url":"ftp://example.com","completions":"/x"},"authentication":{"header_name":"Authorization"}}"#,
        "base_url",
    ),
    (
        "providers/z.json",
        r#"{"name":"z","enabled":true,"endpoints":{"base_url":"https://example.com","completions":"/x","compatible_format":"opnai"},"authentication":{"header_name":"Authorization"}}"#,
        "compatible_format",
    ),
];

#[test]
fn ten_faults_are_ten_lines() {
    let setup = FAULTS.iter().fold(Setup::new(), |setup, (file, text, _)| setup.file(file, text));
    let home = setup.write();
    let config = home.path().join("config");
    let outcome = Cli::new(&["config", "validate", "--config", config.to_str().unwrap()]).run();
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let all = format!("{}{}", outcome.stdout, outcome.stderr);
    let lines: Vec<&str> = all.lines().filter(|line| line.contains(".json:")).collect();
    for (file, _, says) in FAULTS {
        let found = lines.iter().any(|line| line.contains(file) && line.contains(says));
        assert!(found, "a line about {file} that says {says:?}:\n{all}");
    }
    assert_eq!(lines.len(), FAULTS.len(), "one line for one fault:\n{all}");
}

#[test]
fn the_seeds_example_loads() {
    let home = Setup::new().file("models/gpt-5-2.json", SEED_EXAMPLE).write();
    let config = home.path().join("config");
    let outcome = Cli::new(&["config", "validate", "--config", config.to_str().unwrap()]).run();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let gateway = Setup::new().file("models/gpt-5-2.json", SEED_EXAMPLE).env("OPENAI_API_KEY", "sk-none").start();
    let list = gateway.send(&crate::support::http::Request::get("/v1/models").with_key());
    assert!(list.text().contains("gpt-5.2"), "{}", list.text());
}

#[test]
fn an_open_door_to_the_world_is_refused() {
    let upstream = Upstream::start();
    let home = Setup::simple(SIDES[0].format, &upstream).write();
    let config = home.path().join("config");
    let args = ["start", "--host", "0.0.0.0", "--port", "0", "--config", config.to_str().unwrap()];
    let outcome = Cli::new(&args).env("P_API_KEY", "key-one").run();
    assert_eq!(outcome.code, Some(2), "{outcome:?}");
    assert!(outcome.stderr.contains("CLIENT_API_KEY"), "it says what to set: {outcome:?}");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let upstream = Upstream::start();
    let home = Setup::simple(SIDES[0].format, &upstream).write();
    let config = home.path().join("config");
    let port = upstream.address.port().to_string();
    let args = ["start", "--port", &port, "--config", config.to_str().unwrap()];
    let outcome = Cli::new(&args).env("CLIENT_API_KEY", CLIENT_KEY).env("P_API_KEY", "key-one").run();
    assert_eq!(outcome.code, Some(2), "{outcome:?}");
    assert!(outcome.stderr.contains(&port), "{outcome:?}");
}

#[test]
fn a_broken_configuration_does_not_start() {
    let setup = Setup::new().file(FAULTS[0].0, FAULTS[0].1);
    let home = setup.write();
    let config = home.path().join("config");
    let args = ["start", "--port", "0", "--config", config.to_str().unwrap()];
    let outcome = Cli::new(&args).env("CLIENT_API_KEY", CLIENT_KEY).run();
    assert_eq!(outcome.code, Some(2), "{outcome:?}");
    assert!(outcome.stderr.contains("opneai"), "{outcome:?}");
}

#[test]
fn health_tells_a_running_gateway_from_none() {
    let upstream = Upstream::start();
    let gateway = Setup::simple(SIDES[0].format, &upstream).start();
    let endpoint = format!("http://{}", gateway.address);
    assert_eq!(Cli::new(&["health", "--endpoint", &endpoint]).run().code, Some(0));
    drop(gateway);
    assert_eq!(Cli::new(&["health", "--endpoint", &endpoint]).run().code, Some(1));
}

#[test]
fn what_the_banner_tells_to_type_works() {
    if Cli::shell("curl --version").run().code != Some(0) {
        eprintln!("skipped: there is no curl to run the banner's lines with");
        return;
    }
    let upstream = Upstream::start();
    let gateway = Setup::simple(SIDES[0].format, &upstream).start();
    let banner = gateway.stderr();
    let commands = curl_commands(&banner);
    assert_eq!(commands.len(), SIDES.len(), "the banner shows how to ask, in every format: {banner}");
    for command in commands {
        let outcome = Cli::shell(&command).env("CLIENT_API_KEY", CLIENT_KEY).run();
        assert_eq!(outcome.code, Some(0), "{command}: {outcome:?}");
        let said: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
        // A response says that there is none.
        assert!(said["id"].is_string() && said["error"].is_null(), "{command}: {said}");
    }
}

/// The banner's commands, with lines that end in a backslash joined to the next.
fn curl_commands(banner: &str) -> Vec<String> {
    let joined = banner.replace("\\\n", " ");
    let lines = joined.lines().filter_map(|line| line.find("curl ").map(|at| line[at..].to_owned()));
    lines.collect()
}

/// A checkout's own configuration names dozens of models: the banner must not drown in what has no key.
#[test]
fn many_missing_keys_are_one_line_at_start() {
    for (models, expect) in
        [(3, "m2.json:/model_routings: warning: no route has a key"), (9, "9 models or routes lack a key")]
    {
        let mut setup = Setup::new();
        for n in 0..models {
            setup = setup.model(&format!("m{n}"), &[("openai", "x")]);
        }
        let gateway = setup.start();
        let said = gateway.stderr();
        assert!(said.contains(expect), "{said}");
        assert_eq!(said.matches("no route has a key").count(), if models == 3 { 3 } else { 0 }, "{said}");
    }
}

const QUESTION: &str = r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#;

#[test]
fn convert_says_a_request_in_the_other_format() {
    let input = r#"{"model":"m","max_tokens":9,"logit_bias":{"1":1},"messages":[{"role":"user","content":"hi"}]}"#;
    let args = ["convert", "--from", "openai", "--to", "anthropic"];
    let from_pipe = Cli::new(&args).stdin(input).run();
    assert_eq!(from_pipe.code, Some(0), "{from_pipe:?}");
    assert_eq!(from_pipe.stdout, format!("{QUESTION}\n"));
    let lost: Vec<&str> = from_pipe.stderr.lines().collect();
    assert!(matches!(lost[..], [line] if line.starts_with("logit_bias: ")), "{from_pipe:?}");
    for file in ["-", "in.json"] {
        let outcome = Cli::new(&[&args[..], &[file]].concat()).stdin(input).file("in.json", input).run();
        assert_eq!((outcome.code, &outcome.stdout), (Some(0), &from_pipe.stdout), "{file}");
    }
    let back = Cli::new(&["convert", "--from", "anthropic", "--to", "openai_chat"]).stdin(QUESTION).run();
    assert_eq!((back.code, back.stderr.as_str()), (Some(0), ""), "{back:?}");
    assert_eq!(back.stdout.trim_end(), r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":9}"#);
}

#[test]
fn convert_refuses_with_1_and_the_place() {
    for (input, says) in [
        (r#"{"model":"m","n":2,"messages":[{"role":"user","content":"hi"}]}"#, "n: "),
        ("{", "invalid request body: "),
        ("", "invalid request body: "),
        (r#"{"model":"m","messages":[{"role":"user","content":[{"type":"what"}]}]}"#, "messages[0].content[0]"),
    ] {
        let outcome = Cli::new(&["convert", "--from", "openai_chat", "--to", "anthropic"]).stdin(input).run();
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""), "{input}: {outcome:?}");
        assert!(outcome.stderr.contains(&format!("model-proxy: {says}")), "{input}: {outcome:?}");
    }
}

#[test]
fn convert_says_replies_and_streams_in_the_clients_format() {
    let reply = r#"{"id":"c","object":"chat.completion","model":"up","choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}"#;
    let stream = "data: {\"id\":\"c\",\"model\":\"up\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hello\"}}]}\n\ndata: {\"id\":\"c\",\"model\":\"up\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    let error = r#"{"error":{"message":"slow down","type":"rate_limit_error","code":null}}"#;
    let run = |kind: &str, input: &str| {
        Cli::new(&["convert", "--from", "openai_chat", "--to", "anthropic", kind]).stdin(input).run()
    };
    let whole = run("--reply", reply);
    assert_eq!((whole.code, whole.stderr.as_str()), (Some(0), ""), "{whole:?}");
    assert!(whole.stdout.contains(r#""model":"up","content":[{"type":"text","text":"hello"}]"#), "{whole:?}");
    let told = run("--stream", &format!("{stream}data: [DONE]\n\n"));
    assert_eq!((told.code, told.stderr.as_str()), (Some(0), ""), "{told:?}");
    assert!(told.stdout.starts_with("event: message_start\n") && told.stdout.contains("message_stop"), "{told:?}");
    // What is an error, or breaks off, ends with 1, and the client's words for it are the result.
    let failed = run("--reply", error);
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(failed.stdout.starts_with(r#"{"type":"error","error":{"type":"rate_limit_error""#), "{failed:?}");
    assert_eq!(failed.stderr, "model-proxy: the reply is an error: 429: slow down\n");
    for (kind, input, says) in [
        ("--stream", &stream[..80], "the stream breaks off: 502: "),
        ("--stream", &format!("data: {error}\n\n"), "the stream breaks off: 429: slow down"),
        ("--stream", "", "the stream breaks off: "),
        ("--reply", "<html>", "the reply is an error: "),
    ] {
        let broken = run(kind, input);
        assert_eq!(broken.code, Some(1), "{input}: {broken:?}");
        assert!(broken.stderr.contains(says), "{input}: {broken:?}");
        assert!(broken.stdout.contains(r#""type":"error""#), "{input}: the client is told: {broken:?}");
    }
}

#[test]
fn convert_for_a_model_does_what_its_route_would() {
    let provider = |name: &str, format: &str| {
        format!(
            r#"{{"name":"{name}","endpoints":{{"base_url":"http://127.0.0.1:1","compatible_format":"{format}"}},"quirks":{{"max_tokens_field":"max_completion_tokens"}}}}"#
        )
    };
    let model = r#"{"logical_name":"both","defaults":{"top_p":0.25},"capabilities":{"max_output_tokens":5},
        "model_routings":[{"provider":"a","model":"up-a"},{"provider":"o","model":"up-o"},{"provider":"o","model":"later"}]}"#;
    let one = r#"{"logical_name":"one","model_routings":[{"provider":"o","model":"up-o"}]}"#;
    let home = Setup::new()
        .file("providers/a.json", &provider("a", "anthropic"))
        .file("providers/o.json", &provider("o", "openai"))
        .file("models/both.json", model)
        .file("models/one.json", one)
        .write();
    let config = home.path().join("config");
    let run = |from: &str, to: &str, model: &str| {
        let args = ["convert", "--from", from, "--to", to, "--model", model, "--config", config.to_str().unwrap()];
        Cli::new(&args).stdin(QUESTION).run()
    };
    let up = run("openai_chat", "anthropic", "both");
    assert_eq!(up.code, Some(0), "{up:?}");
    assert!(up.stdout.contains(r#""model":"up-a","max_tokens":5"#) && up.stdout.contains(r#""top_p":0.25"#), "{up:?}");
    assert!(up.stderr.starts_with("max_tokens: "), "{up:?}");
    let up = run("anthropic", "openai_chat", "both");
    assert!(up.stdout.contains(r#""model":"up-o""#) && up.stdout.contains(r#""max_completion_tokens":5"#), "{up:?}");
    for (model, says) in
        [("one", "no route of model \"one\" speaks anthropic: o/up-o speaks openai_chat"), ("bth", "both")]
    {
        let wrong = run("openai_chat", "anthropic", model);
        assert_eq!((wrong.code, wrong.stdout.as_str()), (Some(2), ""), "{wrong:?}");
        assert!(wrong.stderr.contains(says), "{wrong:?}");
    }
}

#[test]
fn convert_held_wrong_ends_with_2() {
    let both = ["convert", "--from", "openai", "--to", "anthropic"];
    for (args, says) in [
        (&["convert"][..], "--from is missing; it takes openai_chat, openai_responses or anthropic"),
        (&["convert", "--from", "openai"], "--to is missing"),
        (&["convert", "--from", "openai", "--to", "antropic"], "did you mean \"anthropic\"?"),
        (&[&both[..], &["--reply", "--stream"]].concat(), "exclude each other"),
        (&[&both[..], &["nowhere.json"]].concat(), "nowhere.json: "),
        (&[&both[..], &["a", "b"]].concat(), "one word too many"),
        (&[&both[..], &["--model", "x", "--config", "nowhere"]].concat(), "nowhere"),
    ] {
        let outcome = Cli::new(args).stdin(QUESTION).run();
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""), "{args:?}: {outcome:?}");
        assert!(outcome.stderr.contains(says), "{args:?}: {outcome:?}");
    }
}
