//! Commands that look after a setup: doctor, env check, config init and schema, keys test, dev, completions and man.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use model_proxy::journal::Store;
use model_proxy::wire::Format;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::cli::{Cli, Outcome};
use crate::support::gateway::Setup;
use crate::support::samples::{CHAT, CHAT_REQUEST};
use crate::support::upstream::{Script, Seen, Upstream};
use crate::support::{CLIENT_KEY, TempDir};

fn json_of(outcome: &Outcome) -> Value {
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|e| panic!("{e}: {outcome:?}"))
}

/// What doctor found of one thing: (state, found and remedy).
fn found(outcome: &Outcome, name: &str) -> (String, String) {
    let all = json_of(outcome);
    let is_it = |check: &&Value| check["name"] == name;
    let check = all["checks"].as_array().unwrap().iter().find(is_it).unwrap_or_else(|| panic!("{name}: {outcome:?}"));
    let text = |field: &str| check[field].as_str().unwrap().to_owned();
    (text("state"), format!("{} → {}", text("found"), text("remedy")))
}

#[test]
fn the_doctor_finds_what_is_wrong_and_says_what_to_do() {
    // A port of its own, for the usual one may be taken.
    let doctor = || Cli::new(&["doctor", "--format", "json"]).env("MODEL_PROXY_LISTEN", "127.0.0.1:0");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().to_string();
    let well = doctor().env("CLIENT_API_KEY", "k").env("OPENAI_API_KEY", "sk-x").run();
    assert_eq!(well.code, Some(0), "{well:?}");
    assert!(json_of(&well)["checks"].as_array().unwrap().iter().all(|check| check["state"] != "fault"), "{well:?}");
    let model = r#"{"logical_name": "a", "model_routings": [{"provider": "opnai", "model": "x"}]}"#;
    for (outcome, name, state, says) in [
        (doctor().run(), "keys of providers", "warning", "OPENAI_API_KEY"),
        (doctor().run(), "clients", "warning", "set CLIENT_API_KEY"),
        (doctor().env("REQUIRE_CLIENT_API_KEY", "true").run(), "clients", "fault", "set CLIENT_API_KEY"),
        (doctor().file("config/models/a.json", model).run(), "configuration", "fault", "did you mean \"openai\""),
        (
            doctor().file("config/models/a.json", &model.replace("opnai", "openai")).run(),
            "models",
            "warning",
            "OPENAI_API_KEY",
        ),
        (doctor().file(".env", "OPENAI_API_KEY=two words\n").run(), "files of variables", "warning", "quotes"),
        (doctor().file(".env", "A=b\n").run(), "files of variables", "warning", "chmod 600"),
        (
            doctor().env("MODEL_PROXY_LOG_LEVLE", "info").run(),
            "variables",
            "warning",
            "did you mean MODEL_PROXY_LOG_LEVEL?",
        ),
        (doctor().env("MODEL_PROXY_LOG_FORMAT", "xml").run(), "settings", "fault", "takes human or json"),
        (doctor().env("REQUIRE_CLIENT_API_KEY", "ture").run(), "settings", "fault", "off, not \"ture\""),
        (doctor().env("MODEL_PROXY_JOURNAL", ".").run(), "journal", "fault", "is a directory"),
        (doctor().file("config/models/a.json", model).run(), "configuration", "fault", "used: 1 error; first"),
        (doctor().env("MODEL_PROXY_CA_FILE", "/no/such").run(), "certificates", "fault", "MODEL_PROXY_CA_FILE"),
        (doctor().run(), "state directory", "fine", "first request"),
        (doctor().env("XDG_STATE_HOME", "/proc/1").run(), "state directory", "fault", "cannot be made"),
        (doctor().env("MODEL_PROXY_LISTEN", &taken).run(), "settings", "fault", "is in use"),
        (doctor().env("MODEL_PROXY_METRICS_LISTEN", &taken).run(), "settings", "fault", "is in use"),
        (doctor().env("MODEL_PROXY_LISTEN", "unix:/no/x").run(), "settings", "fault", "/no/x"),
        (
            doctor().env("MODEL_PROXY_TLS_CERT", "/no").env("MODEL_PROXY_TLS_KEY", "/no").run(),
            "settings",
            "fault",
            "cannot be read",
        ),
        (doctor().file(".env/x", "").run(), "files of variables", "fault", "this user can read"),
        (
            doctor().file("j.db", "no database, but long enough to be one").env("MODEL_PROXY_JOURNAL", "j.db").run(),
            "journal",
            "warning",
            "sets it aside",
        ),
        (
            doctor().file("config/models/a.json", model).file("config/prices.json", "{").run(),
            "prices",
            "warning",
            "not JSON",
        ),
    ] {
        let (is, words) = found(&outcome, name);
        assert_eq!(is, state, "{name}: {words}");
        assert!(words.contains(says), "{name}: {words}");
        let faults = json_of(&outcome)["checks"].as_array().unwrap().iter().any(|check| check["state"] == "fault");
        assert_eq!(outcome.code, Some(i32::from(faults)), "{outcome:?}");
    }
    let text = Cli::new(&["doctor"]).run();
    assert!(text.stdout.contains("✓ program ") && text.stdout.contains("⚠ clients "), "{}", text.stdout);
    assert!(!text.stdout.contains('\u{1b}'), "no colour where nobody sits: {}", text.stdout);
}

#[test]
fn the_seeds_database_is_read_before_anything_is_written() {
    let columns = "id INTEGER PRIMARY KEY, request_id, timestamp, endpoint, method, client_api_key_hash, requested_model, \
        resolved_provider, resolved_model, parameters, messages, response_status, response_time_ms, response_content, \
        response_usage, provider_api_key_used, provider_retries, is_streaming, error_message, error_type";
    for words in [&["db", "stats"][..], &["db", "tail"], &["db", "reset", "--confirm"], &["db", "prune", "--days", "1"]]
    {
        let home = Setup::new().write();
        let sql =
            format!("CREATE TABLE request_logs ({columns}); INSERT INTO request_logs (request_id) VALUES ('old')");
        Connection::open(home.path().join("sql_app.db")).unwrap().execute_batch(&sql).unwrap();
        let outcome = Cli::at(home.path(), words).env("DATABASE_URL", "sqlite:///./sql_app.db").run();
        assert_eq!(outcome.code, Some(0), "{words:?}: {outcome:?}");
        let kept = Connection::open(home.path().join("sql_app.db")).unwrap();
        let rows: i64 = kept.query_row("SELECT count(*) FROM request_logs", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, i64::from(words[1] != "reset"), "{words:?}");
    }
}

#[test]
fn another_programs_database_is_found_and_left_alone() {
    let home = Setup::new().write();
    let path = home.path().join("app.db");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE users (id); PRAGMA user_version = 1").unwrap();
    let before = fs::read(&path).unwrap();
    let words = &["doctor", "--fix", "--format", "json"];
    let outcome = Cli::at(home.path(), words).env("DATABASE_URL", "sqlite:///./app.db").run();
    let (state, says) = found(&outcome, "journal");
    assert!(state == "fault" && says.contains("of another program"), "{state}: {says}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_file_of_prices_alone_holds() {
    let prices = r#"{"models": {"demo/*": {"inptu": 1}}}"#;
    let run = |words: &[&str]| Cli::new(words).file("config/prices.json", prices).run();
    let outcome = run(&["config", "validate"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.stdout.contains("config/prices.json:/models/demo~1*/inptu"), "{outcome:?}");
    assert!(run(&["config", "list"]).stdout.contains("claude-"), "with the models that are built in");
    let (is, words) = found(&run(&["doctor", "--format", "json"]), "prices");
    assert!(is == "warning" && words.contains("inptu"), "{is}: {words}");
}

#[test]
fn the_doctor_mends_what_is_safe_and_nothing_else() {
    let home = TempDir::new();
    let path = |name: &str| home.path().join(name);
    let journal = path(".local/state/model-proxy/journal.db");
    fs::create_dir_all(journal.parent().unwrap()).unwrap();
    let old = Connection::open(&journal).unwrap();
    old.execute_batch(include_str!("../src/journal/schema.sql")).unwrap();
    old.execute_batch("CREATE VIEW request_logs AS SELECT 1 AS id; PRAGMA user_version = 1").unwrap();
    drop(old);
    let doctor = |words: &[&str]| Cli::at(home.path(), &[&["doctor", "--format", "json"], words].concat()).run();
    assert_eq!(found(&doctor(&[]), "journal").0, "warning");
    let mended = doctor(&["--fix"]);
    let done = json_of(&mended)["done"].to_string();
    for what in ["config/models/fast.json", ".env from .env.example", "journal.db up to date"] {
        assert!(done.contains(what), "{what}: {done}");
    }
    assert_eq!(found(&mended, "journal").0, "fine");
    assert_eq!(fs::metadata(path(".env")).unwrap().permissions().mode() & 0o777, 0o600);
    fs::write(path(".env"), "CLIENT_API_KEY=mine-0123456789abcdef\n").unwrap();
    fs::write(path("config/models/fast.json"), "{}").unwrap();
    let again = json_of(&doctor(&["--fix"]));
    assert_eq!(again["done"], json!([]), "what is there stays");
    assert_eq!(fs::read_to_string(path(".env")).unwrap(), "CLIENT_API_KEY=mine-0123456789abcdef\n");
    assert_eq!(fs::read_to_string(path("config/models/fast.json")).unwrap(), "{}");
    assert!(!again.to_string().contains("mine-"), "{again}");
}

#[test]
fn variables_are_shown_with_their_source_and_without_secrets() {
    let check = || Cli::new(&["env", "check"]).file(".env", "OPENAI_API_KEY=sk-canary-0123456789abcdef\n");
    let outcome = check().env("CLIENT_API_KEY", "client-canary-0123456789").run();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(!outcome.stdout.contains("canary") && !outcome.stderr.contains("canary"), "{outcome:?}");
    let has = |words: &[&str]| {
        outcome.stdout.lines().any(|line| line.split_whitespace().take(words.len()).eq(words.iter().copied()))
    };
    assert!(has(&["CLIENT_API_KEY", "cli…6789", "the", "process"]), "{}", outcome.stdout);
    assert!(
        has(&["OPENAI_API_KEY", "sk-…cdef", ".env"]) && has(&["LOG_LEVEL", "info", "default"]),
        "{}",
        outcome.stdout
    );
    let outcome = check().env("MODEL_PROXY_JORNAL", "x").run();
    assert_eq!(outcome.code, Some(1), "as the seed ended without a key: {outcome:?}");
    assert!(outcome.stderr.contains("did you mean MODEL_PROXY_JOURNAL?"), "{outcome:?}");
    let outcome = check().env("CLIENT_API_KEY", "k").env("FAIL_ON_STARTUP_VALIDATION", "ja").run();
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(
        outcome.stderr.contains("FAIL_ON_STARTUP_VALIDATION takes true, 1, yes, on or false, 0, no, off, not \"ja\""),
        "{outcome:?}"
    );
    let outcome = Cli::new(&["env", "check", "-f", "json"]).run();
    let all = json_of(&outcome);
    assert!(
        all["variables"].as_array().unwrap().iter().any(|v| v["name"] == "NO_COLOR" && v["from"] == json!(null)),
        "{all}"
    );
}

#[test]
fn a_beginners_files_are_valid_and_serve() {
    let home = TempDir::new();
    let run = |words: &[&str]| Cli::at(home.path(), words).env("GROQ_API_KEY", "gsk_x").run();
    let outcome = run(&["config", "init"]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    for file in
        ["config/models/fast.json", "config/models/any-groq.json", "config/schemas/model.schema.json", ".env.example"]
    {
        assert!(outcome.stdout.contains(&format!("wrote {file}\n")), "{file}: {}", outcome.stdout);
    }
    assert!(!home.path().join("config/models/any-openai.json").exists(), "only who has a key");
    let text = fs::read_to_string(home.path().join("config/models/any-groq.json")).unwrap();
    let schema: Value = serde_json::from_str(&text).unwrap();
    assert!(
        home.path().join("config/models").join(schema["$schema"].as_str().unwrap()).exists(),
        "editors find it: {text}"
    );
    let outcome = run(&["config", "validate"]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), ""), "{outcome:?}");
    assert!(outcome.stderr.contains("fine: 0 errors, 0 warnings"), "{outcome:?}");
    assert!(run(&["config", "list"]).stdout.contains("groq/*"), "its names pass through");
    let outcome = run(&["config", "init"]);
    assert!(
        outcome.stdout.contains("kept  config/models/fast.json\n") && !outcome.stdout.contains("wrote"),
        "{outcome:?}"
    );
    for kind in ["model", "provider", "client", "server", "prices"] {
        let outcome = Cli::new(&["config", "schema", kind]).run();
        assert_eq!(json_of(&outcome)["$id"], format!("urn:model-proxy:schema:{kind}"));
    }
    let outcome = Cli::new(&["config", "schema", "modle"]).run();
    assert_eq!(outcome.code, Some(2));
    assert!(outcome.stderr.contains("did you mean \"model\"?"), "{outcome:?}");
}

/// By its key.
fn judge(seen: &Seen, _: usize) -> Script {
    assert_eq!(seen.text(), "{}", "nothing that costs anything");
    let key = format!("{:?}", seen.headers);
    match () {
        () if key.contains("key-good") => {
            Script::json(400, r#"{"error":{"message":"you must provide a model parameter"}}"#)
        }
        () if key.contains("key-poor") => {
            Script::json(429, r#"{"error":{"code":"insufficient_quota","message":"no money"}}"#)
        }
        () => Script::json(401, r#"{"error":{"message":"Incorrect API key: key-strange-0123456789"}}"#),
    }
}

#[test]
fn keys_are_tried_at_their_provider() {
    let upstream = Upstream::answering(judge);
    let more = json!({ "api_keys": { "env_var_patterns": ["P_API_KEY_{INDEX}"] } });
    let setup =
        Setup::new().provider_with("p", Format::OpenaiChat, &upstream, &more).model("m", &[("p", "x"), ("p", "y")]);
    let home = setup.write();
    let test = |words: &[&str]| {
        let words = [&["keys", "test", "--config", "config"], words].concat();
        Cli::at(home.path(), &words).env("P_API_KEY_1", "key-good-0123456789")
    };
    let outcome = test(&["p"]).run();
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "{outcome:?}");
    assert!(outcome.stdout.contains("valid     400: you must provide"), "{}", outcome.stdout);
    let outcome = test(&["p", "-f", "json"])
        .env("P_API_KEY_2", "key-poor-0123456789")
        .env("P_API_KEY_3", "key-strange-0123456789")
        .run();
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let all = json_of(&outcome);
    let standings: Vec<&Value> = all.as_array().unwrap().iter().map(|key| &key["standing"]).collect();
    assert_eq!(standings, ["valid", "limited", "refused"], "{all}");
    assert!(!outcome.stdout.contains("strange"), "an upstream repeats a key, and we do not: {all}");
    assert_eq!(upstream.seen().len(), 4, "each key once");
    drop(upstream);
    let outcome = test(&[]).run();
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stdout.contains("unreachable"), "{outcome:?}");
    let outcome = test(&["openia"]).run();
    assert!(outcome.stderr.contains("did you mean \"openai\"?"), "{outcome:?}");
    let outcome = test(&["openai"]).run();
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.contains("no key of openai was found: set OPENAI_API_KEY"), "{outcome:?}");
}

#[test]
fn the_shell_asks_one_thing_after_the_other() {
    let gateway = Setup::new().start();
    gateway.post(CHAT, CHAT_REQUEST.replace("\"m\"", "\"demo\""));
    let journal = gateway.home.path().join(".local/state/model-proxy/journal.db");
    crate::support::wait_until("the journal", || {
        Connection::open(&journal)
            .and_then(|c| c.query_row("SELECT count(*) FROM requests", [], |row| row.get::<_, i64>(0)))
            .is_ok_and(|n| n == 1)
    });
    let lines = "models\n\nSELECT model, status FROM log;\nshow demo\nroute test 'demo'\nhelp db stats\nexit\nnever\n";
    let outcome = gateway.command(&["dev", "shell", "--config", "config"]).stdin(lines).run();
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "{outcome:?}");
    for said in
        ["demo/demo", "MODEL  STATUS\ndemo   200\n", "\"logical_name\": \"demo\"", "usage: model-proxy db stats"]
    {
        assert!(outcome.stdout.contains(said), "{said}: {}", outcome.stdout);
    }
    let lines = b"models\nshow \xff\nkeys --format json\nkeys list\n";
    let outcome = gateway.command(&["dev", "shell"]).stdin(lines).run();
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.stderr.contains("model-proxy: a line is not UTF-8, and is left out\n"), "{outcome:?}");
    assert!(
        outcome.stdout.contains("{\"live\":") && outcome.stdout.contains("FINGERPRINT"),
        "the rest is run: {outcome:?}"
    );
    for (line, says) in [
        ("nonsense", "no command \"nonsense\""),
        ("config show 'x", "is not closed"),
        ("start", "start it outside"),
        ("dev shell", "start it outside"),
        ("SELECT nowhere", "no such column"),
        ("DELETE FROM requests", "no command"),
        ("select 1; DELETE FROM requests", "Multiple statements"),
        ("with x as (select 1) delete from requests", "readonly"),
    ] {
        let outcome = gateway.command(&["dev", "shell"]).stdin(format!("{line}\n")).run();
        assert_eq!(outcome.code, Some(1), "{line}: {outcome:?}");
        assert!(outcome.stderr.contains(says), "{line}: {outcome:?}");
    }
}

#[test]
fn tests_and_lints_are_for_a_checkout() {
    for words in [&["dev", "test"][..], &["dev", "lint", "--fix"]] {
        let outcome = Cli::new(words).run();
        assert_eq!(outcome.code, Some(2));
        assert!(outcome.stderr.contains("checkout of model-proxy"), "{outcome:?}");
    }
    // A cargo that only says what it was asked.
    let home = TempDir::new();
    let cargo = home.path().join("cargo");
    fs::write(&cargo, "#!/bin/sh\necho \"$@\" in \"$PWD\"\ncase \"$1\" in clippy) exit 3 ;; esac\n").unwrap();
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(home.path().join("Cargo.toml"), "[package]\nname = \"model-proxy\"\n").unwrap();
    let below = home.path().join("src");
    fs::create_dir(&below).unwrap();
    let run = |words: &[&str]| {
        let outcome = Cli::at(&below, words).env("PATH", &format!("{}:/bin:/usr/bin", home.path().display())).run();
        (outcome.code, outcome.stdout.replace(&home.path().canonicalize().unwrap().display().to_string(), "ROOT"))
    };
    assert_eq!(run(&["dev", "test", "-v"]), (Some(0), "test --locked -- --show-output in ROOT\n".to_owned()));
    assert_eq!(
        run(&["dev", "lint"]),
        (Some(1), "fmt --check in ROOT\nclippy --all-targets --locked -- -D warnings in ROOT\n".to_owned())
    );
    assert_eq!(
        run(&["dev", "lint", "--fix"]),
        (Some(1), "fmt in ROOT\nclippy --all-targets --fix --allow-dirty --allow-staged in ROOT\n".to_owned())
    );
}

/// What bash would offer for the last word of a line, typed in this folder.
fn offered(home: &TempDir, words: &[&str]) -> Vec<String> {
    let script = Cli::new(&["completions", "bash"]).run().stdout;
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_model-proxy")).parent().unwrap();
    let line = format!(
        "{script}\nPATH={}:$PATH\nCOMP_WORDS=({})\nCOMP_CWORD={}\n_model_proxy\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"",
        binary.display(),
        quoted.join(" "),
        words.len() - 1
    );
    let output =
        Command::new("bash").args(["-euc", &line]).current_dir(home.path()).env("HOME", home.path()).output().unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().lines().filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_options_values_and_models() {
    for (words, expect) in [
        (&["model-proxy", "st"][..], &["start"][..]),
        (&["model-proxy", "config", "s"], &["show", "schema"]),
        (&["model-proxy", "config", "list", "--form"], &["--format"]),
        (&["model-proxy", "db", "stats", "--by", "c"], &["client"]),
        (&["model-proxy", "db", "stats", "--by", "client", "--format", ""], &["table", "json"]),
        (&["model-proxy", "completions", "f"], &["fish"]),
        (&["model-proxy", "config", "show", "dem"], &["demo"]),
        (&["model-proxy", "config", "explain", "--from", "openai_chat", "dem"], &["demo"]),
        (&["model-proxy", "--v"], &["--version"]),
        (&["model-proxy", "keys", "new", "x", "--model", "dem"], &["demo"]),
        (&["model-proxy", "convert", "--model", "dem"], &["demo"]),
        (&["model-proxy", "keys", "test", "openr"], &["openrouter"]),
        (&["model-proxy", "help", "conf"], &["config"]),
        (&["model-proxy", "help", "config", "s"], &["show", "schema"]),
        (&["model-proxy", "start", "--env-file", "my"], &["my file", "my-*"]),
        (&["model-proxy", "config", "init", "my"], &[]),
    ] {
        let home = TempDir::new();
        home.write("my file", "");
        home.write("my-*", "");
        assert_eq!(offered(&home, words), expect, "{words:?}");
    }
    let outcome = Cli::new(&["completions", "tcsh"]).run();
    assert_eq!(outcome.code, Some(2), "{outcome:?}");
    let outcome = Cli::new(&["completions", "providers"]).run();
    assert!(outcome.code == Some(0) && outcome.stdout.starts_with("anthropic\nazure\n"), "{outcome:?}");
    let outcome = Cli::new(&["completions", "models"]).file("config/models/a.json", "{").run();
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""), "{outcome:?}");
    let page = Cli::new(&["man"]).run();
    assert!(page.stdout.starts_with(".TH MODEL-PROXY 1") && page.stdout.is_ascii(), "{}", page.stdout);
}

/// A line for a shell, in which `model-proxy` is the one that is tested.
fn line(text: &str) -> String {
    text.replace("model-proxy", env!("CARGO_BIN_EXE_model-proxy"))
}

#[test]
fn what_cannot_be_written_ends_with_1_and_says_so() {
    let home = TempDir::new();
    home.write("in.json", r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#);
    drop(Store::open(&home.path().join("j.db")).unwrap());
    let run = |text: &str| Cli::shell_at(home.path(), &line(text)).env("MODEL_PROXY_JOURNAL", "j.db").run();
    for words in [
        "--version",
        "help",
        "version",
        "man",
        "completions bash",
        "config list",
        "config show demo",
        "config explain demo",
        "config schema model",
        "route test demo",
        "env check",
        "db stats",
        "db query 'SELECT 1'",
        "db query -f csv 'SELECT 1'",
        "db query -f json 'SELECT 1'",
        "db prune",
        "convert --from openai --to openai in.json",
    ] {
        let full = run(&format!("model-proxy {words} > /dev/full"));
        assert_eq!(full.code, Some(1), "{words}: {full:?}");
        assert!(full.stderr.contains("model-proxy: the result cannot be written: No space left"), "{words}: {full:?}");
        // Nobody reads: that is told to nobody.
        let left = run(&format!("{{ sleep 0.1; model-proxy {words} 2>err; echo $? >code; }} | true; cat code err"));
        let told = if words == "env check" { "1\n" } else { "0\n" };
        assert!(left.stdout.starts_with(told) && !left.stdout.contains("written"), "{words}: {left:?}");
    }
}

#[test]
fn a_key_that_nobody_was_told_opens_nothing() {
    let home = TempDir::new();
    let file = home.path().join("config/clients/x.json");
    let run = |text: &str| Cli::shell_at(home.path(), &line(text)).run();
    for line in [
        "model-proxy keys new x > /dev/full",
        "model-proxy keys new x --format json > /dev/full",
        "{ sleep 0.1; model-proxy keys new x; } | true",
    ] {
        let outcome = run(line);
        assert!(
            outcome.stderr.contains("nobody was told the key, so config/clients/x.json is again as it was"),
            "{outcome:?}"
        );
        assert!(!outcome.stderr.contains("wrote") && !file.exists(), "{line}: {outcome:?}");
        assert_eq!(outcome.code == Some(1), line.contains("full"), "{outcome:?}");
    }
    assert_eq!(run("model-proxy keys new x").code, Some(0));
    let before = fs::read_to_string(&file).unwrap();
    assert_eq!(run("model-proxy keys new x --add > /dev/full").code, Some(1));
    assert_eq!(fs::read_to_string(&file).unwrap(), before);
}

#[test]
fn scripts_get_json_of_what_they_ask() {
    let gateway = Setup::new().start();
    gateway.post(CHAT, CHAT_REQUEST.replace("\"m\"", "\"demo\""));
    let journal = gateway.home.path().join(".local/state/model-proxy/journal.db");
    crate::support::wait_until("the journal", || {
        Connection::open(&journal)
            .and_then(|c| c.query_row("SELECT count(*) FROM requests", [], |row| row.get::<_, i64>(0)))
            .is_ok_and(|n| n == 1)
    });
    Connection::open(&journal).unwrap().execute("UPDATE requests SET at_ms = 0", []).unwrap();
    let run = |words: &[&str]| {
        let outcome = gateway.command(&[words, &["--format", "json"]].concat()).env("CLIENT_API_KEY", CLIENT_KEY).run();
        assert_eq!(outcome.code, Some(0), "{words:?}: {outcome:?}");
        json_of(&outcome)
    };
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(run(&["version"]), json!({ "name": "model-proxy", "version": version }));
    assert!(run(&["version", "-v"])["hyper"].is_string(), "{}", run(&["version", "-v"]));
    let endpoint = format!("http://{}", gateway.address);
    let health = json!({ "endpoint": endpoint, "healthy": true, "status": 200 });
    assert_eq!(run(&["health"]), health);
    assert_eq!(run(&["health", "-d"])["detailed"]["status"], "healthy");
    let shown = journal.display().to_string();
    let pruned = run(&["db", "prune"]);
    assert_eq!((&pruned["journal"], &pruned["removed"]), (&json!(shown), &json!(1)), "{pruned}");
    assert!(pruned["bytes_before"].is_u64() && pruned["bytes"].is_u64(), "{pruned}");
    assert_eq!(run(&["db", "reset", "-y"]), json!({ "journal": shown, "removed": 0 }));
    let init = run(&["config", "init", "fresh"]);
    assert!(init["files"].as_array().unwrap().contains(&json!({ "file": "fresh/models/fast.json", "written": true })));
    let init = run(&["config", "init", "fresh"]);
    assert!(init["files"].as_array().unwrap().iter().all(|file| file["written"] == false), "{init}");
    let fine = run(&["config", "validate", "--config", "fresh"]);
    assert_eq!((&fine["usable"], &fine["errors"], &fine["findings"]), (&json!(true), &json!(0), &json!([])), "{fine}");
    drop(gateway);
    let outcome = Cli::new(&["health", "-e", &endpoint, "-f", "json"]).run();
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert_eq!(json_of(&outcome), json!({ "endpoint": endpoint, "healthy": false, "status": null }));
}

#[test]
fn findings_are_told_to_scripts_with_their_places() {
    let model = r#"{"logical_name": "a", "model_routings": [{"provider": "opnai", "model": "x"}]}"#;
    let outcome = Cli::new(&["config", "validate", "-f", "json"]).file("config/models/a.json", model).run();
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let all = json_of(&outcome);
    assert_eq!((&all["usable"], &all["models"], &all["errors"]), (&json!(false), &json!(null), &json!(1)), "{all}");
    let finding = &all["findings"][0];
    assert_eq!(finding["file"], "config/models/a.json");
    assert_eq!(finding["pointer"], "/model_routings/0/provider");
    assert_eq!(finding["severity"], "error");
    assert!(finding["message"].as_str().unwrap().contains("opnai"), "{all}");
    assert!(finding.as_object().unwrap().contains_key("hint"), "{all}");
}

/// Whatever a model is called: a configuration may be somebody else's.
#[test]
fn bash_runs_no_name_and_takes_none_for_files() {
    let home = TempDir::new();
    for file in ["gpt-4", "gpt-5"] {
        home.write(file, "");
    }
    for (stem, name) in [("a", "$(touch${IFS}PWNED)`touch PWNED`"), ("b", "gpt-*"), ("c", "two words")] {
        let model = json!({ "logical_name": name, "model_routings": [{ "provider": "demo", "model": "demo" }] });
        home.write(&format!("config/models/{stem}.json"), &model.to_string());
    }
    let all = ["demo", r"\$\(touch\$\{IFS\}PWNED\)\`touch\ PWNED\`", r"gpt-\*", r"two\ words"];
    let mut offers = offered(&home, &["model-proxy", "config", "show", ""]);
    offers.sort_unstable();
    let mut expect = all.map(str::to_owned);
    expect.sort_unstable();
    assert_eq!(offers, expect, "as they would be typed");
    for (begun, offer) in
        [("gpt-", all[2]), (r"gpt-\*", all[2]), ("gpt-*", all[2]), ("$(", all[1]), (r"two\ w", all[3])]
    {
        assert_eq!(offered(&home, &["model-proxy", "config", "explain", begun]), [offer], "{begun}");
    }
    assert!(!home.path().join("PWNED").exists(), "a name was run");
}
