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
}

#[test]
fn a_good_configuration_validates() {
    let upstream = Upstream::start();
    let home = Setup::simple(SIDES[0].format, &upstream).write();
    let config = home.path().join("config");
    let outcome = Cli::new(&["config", "validate", "--config", config.to_str().unwrap()]).run();
    assert_eq!(outcome.code, Some(0), "it needs neither keys nor network: {outcome:?}");
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
    assert!(!commands.is_empty(), "the banner shows how to ask: {banner}");
    for command in commands {
        let outcome = Cli::shell(&command).env("CLIENT_API_KEY", CLIENT_KEY).run();
        assert_eq!(outcome.code, Some(0), "{command}: {outcome:?}");
        let said = outcome.stdout;
        assert!(!said.is_empty() && !said.contains("\"error\""), "{command}: {said}");
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
