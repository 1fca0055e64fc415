//! The journal: one row for every request that was let in, however it ended, and nobody waits for it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use model_proxy::wire::Format;
use parking_lot::Mutex;
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde_json::json;

use crate::support::gateway::{Gateway, Setup};
use crate::support::http::{Client, Request};
use crate::support::samples::{CHAT, CHAT_REPLY, CHAT_REQUEST, MESSAGES, SIDES};
use crate::support::upstream::{After, Script, Seen, Upstream};
use crate::support::{comes_true, wait_until};

const PATIENCE: Duration = Duration::from_secs(20);

fn file(gateway: &Gateway) -> PathBuf {
    gateway.home.path().join(".local/state/model-proxy/journal.db")
}

/// What a query says: values joined by `|`, rows by a line's end. Nothing, as long as there is no journal.
fn ask(path: &Path, sql: &str) -> String {
    let asked = || -> rusqlite::Result<String> {
        let connection = Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let mut statement = connection.prepare(sql)?;
        let width = statement.column_count();
        let rows = statement.query_map([], |row| {
            let value = |at| match row.get_ref(at) {
                Ok(ValueRef::Integer(n)) => n.to_string(),
                Ok(ValueRef::Text(text)) => String::from_utf8_lossy(text).into_owned(),
                _ => "-".to_owned(),
            };
            Ok((0..width).map(value).collect::<Vec<_>>().join("|"))
        })?;
        Ok(rows.collect::<Result<Vec<_>, _>>()?.join("\n"))
    };
    asked().unwrap_or_default()
}

fn count(path: &Path) -> usize {
    ask(path, "SELECT count(*) FROM requests").parse().unwrap_or(0)
}

#[track_caller]
fn wait_for(gateway: &Gateway, rows: usize) {
    let path = file(gateway);
    assert!(comes_true(PATIENCE, || rows <= count(&path)), "{} of {rows}: {}", count(&path), gateway.stderr());
}

/// What the model's name asks for.
fn scripted(seen: &Seen, _: usize) -> Script {
    let half = || Script::stream(SIDES[0].stream).stop_at(SIDES[0].stream.find("day").unwrap(), After::Close);
    match (seen.wants_stream(), seen.text()) {
        (_, text) if text.contains("\"bad\"") => {
            Script::json(400, r#"{"error":{"message":"no such thing","type":"x"}}"#)
        }
        (_, text) if text.contains("\"down\"") => Script::json(503, "{}"),
        (true, text) if text.contains("\"torn\"") => half(),
        (true, text) if text.contains("\"left\"") => half().then(After::Silence),
        (true, _) => Script::stream(SIDES[0].stream),
        (false, _) => Script::json(200, CHAT_REPLY),
    }
}

#[test]
fn every_request_has_a_row_however_it_ended() {
    let upstream = Upstream::answering(scripted);
    let setup = ["bad", "torn", "left"]
        .iter()
        .fold(Setup::simple(Format::OpenaiChat, &upstream), |s, name| s.model(name, &[("p", name)]));
    let setup = setup.env("Q_API_KEY", "key-q");
    let gateway = setup.provider("q", Format::OpenaiChat, &upstream).model("two", &[("q", "down"), ("p", "x")]).start();
    let stream = |model: &str| SIDES[0].stream_request.replace("\"m\"", &format!("{model:?}"));
    let whole = |model: &str| CHAT_REQUEST.replace("\"m\"", &format!("{model:?}"));
    gateway.post(CHAT, CHAT_REQUEST);
    gateway.post(MESSAGES, SIDES[1].stream_request);
    gateway.post(CHAT, whole("two"));
    gateway.post(CHAT, whole("bad"));
    gateway.post(CHAT, stream("torn"));
    let mut client: Client = gateway.connect();
    client.start(&Request::post(CHAT, stream("left")).with_key());
    client.leave();
    gateway.post("/v1/messages/count_tokens", r#"{"model":"m","messages":[{"role":"user","content":"Hello"}]}"#);
    // All of these within a second: whoever was let in has a row of its own.
    gateway.post(CHAT, whole("nowhere"));
    gateway.post(CHAT, whole("nowhere"));
    gateway.post(CHAT, "{");
    gateway.post(CHAT, whole("any/thing"));
    let strict = Request::post(
        MESSAGES,
        r#"{"model":"m","max_tokens":9,"top_k":3,"messages":[{"role":"user","content":"Hello"}]}"#,
    );
    assert_eq!(gateway.send(&strict.with_key().header("x-model-proxy-on-lossy", "reject")).status, 400);
    wait_for(&gateway, 12);
    let rows = ask(
        &file(&gateway),
        "SELECT f.text, m.text, r.text, stream, status, e.text, attempts, input, output, counted IS NOT NULL, \
         first_output_us IS NOT NULL, waited_us <= total_us FROM requests q JOIN names f ON f.id = format \
         LEFT JOIN names m ON m.id = model LEFT JOIN names r ON r.id = route JOIN names e ON e.id = ended ORDER BY at_ms, q.id",
    );
    let mut found: Vec<&str> = rows.lines().collect();
    found.sort_unstable();
    let mut expected = [
        "openai_chat|m|p/upstream-model|0|200|complete|1|9|4|0|1|1",
        "anthropic|m|p/upstream-model|1|200|complete|1|9|4|0|1|1",
        "openai_chat|two|p/x|0|200|complete|2|9|4|0|1|1",
        "openai_chat|bad|p/bad|0|400|complete|1|-|-|0|1|1",
        "openai_chat|torn|p/torn|1|200|broken|1|-|-|0|1|1",
        "openai_chat|left|p/left|1|200|client_closed|1|-|-|0|1|1",
        "anthropic|m|-|0|200|complete|0|-|-|1|0|1",
        "openai_chat|-|-|0|404|complete|0|-|-|0|0|1",
        "openai_chat|-|-|0|404|complete|0|-|-|0|0|1",
        "openai_chat|-|-|0|400|complete|0|-|-|0|0|1",
        "openai_chat|any/*|p/thing|0|200|complete|1|9|4|0|1|1",
        "anthropic|m|p/upstream-model|0|400|complete|0|-|-|0|1|1",
    ];
    expected.sort_unstable();
    let said = "SELECT q.error, a.error, o.text FROM requests q JOIN attempts a ON a.request = q.id JOIN names o ON o.id = a.outcome \
                WHERE q.status = 400 AND q.attempts = 0";
    let why =
        "the request cannot be sent on whole, as on_lossy asks; lost would be top_k: this provider does not take it";
    assert_eq!(ask(&file(&gateway), said), format!("{why}|{why}|not_sayable"));
    assert_eq!(found, expected, "{}", gateway.stderr());
    let tries = ask(
        &file(&gateway),
        "SELECT number, r.text, substr(k.text, 1, 10), o.text, a.status, a.begun_us + a.took_us <= q.total_us, a.error FROM attempts a \
         JOIN requests q ON q.id = a.request JOIN names r ON r.id = a.route JOIN names k ON k.id = a.key \
         JOIN names o ON o.id = a.outcome WHERE q.attempts = 2 OR q.status = 400 ORDER BY q.id, number",
    );
    let tries: Vec<&str> = tries.lines().collect();
    assert!(tries[0].starts_with("1|q/down|Q_API_KEY |server_error|503|1|"), "{tries:?}");
    assert_eq!(tries[1], "2|p/x|P_API_KEY |ok|200|1|-");
    assert_eq!(tries[2], "1|p/bad|P_API_KEY |client_error|400|1|400: no such thing");
    let words = ask(&file(&gateway), "SELECT error FROM requests WHERE status = 404");
    assert!(words.contains("nowhere"), "{words}");
    let health = gateway.send(&Request::get("/health/detailed").with_key()).json();
    let database = &health["components"]["database"];
    assert_eq!(*database, json!({ "status": "healthy", "rows_written": 12, "rows_waiting": 0, "rows_dropped": 0 }));
    let metrics = gateway.send(&Request::get("/metrics").with_key());
    for line in ["model_proxy_journal_rows_total 12\n", "model_proxy_journal_failing 0\n"] {
        assert!(metrics.text().contains(line), "{}", metrics.text());
    }
}

/// Whoever is not let in can't fill the file.
#[test]
fn who_is_turned_away_is_counted_and_one_in_a_second_has_a_row() {
    let gateway = Setup::new().start();
    for n in 0..30 {
        gateway.send(&Request::post(CHAT, CHAT_REQUEST).header("authorization", "Bearer wrong"));
        gateway.send(&Request::get(&format!("/nowhere/{n}")).with_key());
    }
    let path = file(&gateway);
    let counted = "SELECT sum(requests) FROM hours h JOIN names o ON o.id = h.outcome WHERE o.text = 'refused'";
    assert!(comes_true(PATIENCE, || ask(&path, counted) == "60"), "{}", ask(&path, counted));
    let rows = count(&path);
    assert!((1..30).contains(&rows), "{rows}");
    let row = ask(&path, "SELECT client, ended, status, attempts, error FROM log ORDER BY id LIMIT 1");
    assert_eq!(row, "|refused|401|0|POST /v1/chat/completions: invalid API key");
    assert!(ask(&path, "SELECT count(*) FROM names").parse::<u32>().unwrap() < 10, "no path is anybody's name");
    let (_, out, _) = run(&gateway, &["db", "stats"]);
    assert!(masked(&out).contains("- 60 0 0 0 60 0 "), "{out}");
}

/// Whatever lane an answer takes.
#[test]
fn what_was_asked_and_answered_is_kept_where_that_is_wanted() {
    for (mode, rows) in [("all", "6"), ("errors", "2"), ("off", "0")] {
        let upstream = Upstream::answering(scripted);
        let setup = ["bad", "torn"]
            .iter()
            .fold(Setup::simple(Format::OpenaiChat, &upstream), |s, name| s.model(name, &[("p", name)]));
        let setup = setup.env("MODEL_PROXY_LOG_BODIES", mode).env("MODEL_PROXY_JOURNAL_BODY_BYTES", "2000");
        let gateway = setup.start();
        let key = "sk-0123456789abcdefghijklmn";
        let told = CHAT_REQUEST.replace("Hello", &format!("Hello {key}"));
        assert_ne!(told, CHAT_REQUEST);
        let same = gateway.post(CHAT, told);
        let streamed = gateway.post(CHAT, SIDES[0].stream_request);
        let other = gateway.post(MESSAGES, SIDES[1].stream_request);
        let refused = gateway.post(CHAT, CHAT_REQUEST.replace("\"m\"", "\"bad\""));
        let torn = gateway.post(CHAT, SIDES[0].stream_request.replace("\"m\"", "\"torn\""));
        let long = "x".repeat(5000);
        gateway.post(CHAT, CHAT_REQUEST.replace("Hello", &long));
        wait_for(&gateway, 6);
        let path = file(&gateway);
        let kept = |of: &str| {
            ask(
                &path,
                &format!(
                    "SELECT answered FROM log l JOIN bodies b ON b.request = l.id WHERE {of} ORDER BY l.id LIMIT 1"
                ),
            )
        };
        assert_eq!(ask(&path, "SELECT count(*) FROM bodies"), rows, "{mode}");
        if mode != "off" {
            assert_eq!(kept("status = 400"), refused.text());
            assert_eq!(kept("ended = 'broken'"), torn.text());
            let fits = "SELECT min(asked_bytes >= length(asked) AND answered_bytes >= length(answered)) FROM bodies";
            assert_eq!(ask(&path, fits), "1");
        }
        if mode == "all" {
            assert_eq!(kept("status = 200 AND stream = 0"), same.text());
            assert_eq!(kept("ended = 'complete' AND stream = 1 AND format = 'openai_chat'"), streamed.text());
            assert_eq!(kept("format = 'anthropic'"), other.text());
            let asked = ask(&path, "SELECT asked FROM bodies ORDER BY request LIMIT 1");
            assert!(asked.contains("Hello sk-…") && !asked.contains(key), "{asked}");
            let cut = ask(&path, "SELECT length(asked), asked_bytes > 5000 FROM bodies ORDER BY request DESC LIMIT 1");
            assert_eq!(cut, "2000|1");
        }
    }
    for (mode, journal, says) in [("everything", "j.db", "errors, all or off"), ("all", "off", "none is kept")] {
        let outcome = crate::support::cli::Cli::new(&["start", "--port", "0"])
            .env("MODEL_PROXY_LOG_BODIES", mode)
            .env("MODEL_PROXY_JOURNAL", journal)
            .run();
        assert_eq!(outcome.code, Some(2), "{outcome:?}");
        assert!(outcome.stderr.contains(says), "{outcome:?}");
    }
}

/// As `kill -9` does, again and again, while requests come from all sides.
#[test]
fn whoever_is_killed_leaves_a_sound_file_and_a_second_at_most_is_missing() {
    let upstream = Upstream::answering(|_, _| Script::json(200, CHAT_REPLY));
    let setup = Setup::simple(Format::OpenaiChat, &upstream);
    let keep = crate::support::TempDir::new();
    let path = keep.path().join("kept.db");
    let setup = setup.env("MODEL_PROXY_JOURNAL", &path.display().to_string());
    let mut certain = 0;
    for round in 0..4 {
        let mut gateway = setup.start();
        let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
        let early = thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut client = gateway.connect();
                    let request = Request::post(CHAT, CHAT_REQUEST).with_key();
                    while !stop.load(Ordering::Relaxed) {
                        client.send(&request);
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            thread::sleep(Duration::from_millis(500));
            let early = answered.load(Ordering::Relaxed);
            // What ended more than a second ago is there, whatever happens now.
            thread::sleep(Duration::from_millis(1000 + 70 * round));
            stop.store(true, Ordering::Relaxed);
            early
        });
        gateway.signal("KILL");
        assert_eq!(gateway.ended(), None, "by a signal");
        certain += early;
        assert_eq!(ask(&path, "PRAGMA integrity_check"), "ok", "round {round}");
        let found = count(&path);
        assert!(0 < early && certain <= found, "round {round}: {found} of {certain}");
        let sums: usize = ask(&path, "SELECT sum(requests) FROM hours").parse().unwrap();
        assert_eq!(sums, found, "both or neither");
        certain = found;
    }
}

#[test]
fn nobody_waits_for_a_journal_that_cannot_be_written() {
    let upstream = Upstream::answering(|_, _| Script::json(200, CHAT_REPLY));
    let setup = Setup::simple(Format::OpenaiChat, &upstream);
    let keep = crate::support::TempDir::new();
    let folder = keep.path().join("state");
    fs::write(&folder, "no folder").unwrap();
    let gateway = setup.env("DATABASE_URL", &format!("sqlite:///{}", folder.join("a.db").display())).start();
    assert_eq!(gateway.post(CHAT, CHAT_REQUEST).status, 200);
    wait_until("it is said", || gateway.stderr().contains("requests go on, and rows wait as long as there is room"));
    let health = || gateway.send(&Request::get("/health/detailed").with_key()).json();
    let told = health();
    assert_eq!(told["components"]["database"]["status"], "unhealthy", "{told}");
    assert!(told["components"]["database"]["error"].as_str().unwrap().contains("state"), "{told}");
    assert_eq!(told["status"], "healthy", "requests are answered all the same");
    assert!(gateway.send(&Request::get("/metrics").with_key()).text().contains("model_proxy_journal_failing 1\n"));
    assert_eq!(gateway.send(&Request::get("/readyz")).status, 200);
    assert_eq!(gateway.post(CHAT, CHAT_REQUEST).status, 200);
    fs::remove_file(&folder).unwrap();
    wait_until("it goes on", || count(&folder.join("a.db")) == 2);
    wait_until("health says so", || health()["components"]["database"]["status"] == "healthy");
}

#[test]
fn there_is_none_where_nobody_wants_it() {
    let upstream = Upstream::answering(|_, _| Script::json(200, CHAT_REPLY));
    let mut gateway = Setup::simple(Format::OpenaiChat, &upstream).env("MODEL_PROXY_JOURNAL", "off").start();
    assert_eq!(gateway.post(CHAT, CHAT_REQUEST).status, 200);
    let health = gateway.send(&Request::get("/health/detailed").with_key()).json();
    assert_eq!(health["components"]["database"], json!({ "status": "disabled" }));
    assert_eq!(gateway.terminate(), Some(0));
    assert!(!file(&gateway).exists());
}

#[test]
fn the_last_rows_are_written_at_the_end() {
    let upstream = Upstream::answering(|_, _| Script::json(200, CHAT_REPLY));
    let mut gateway = Setup::simple(Format::OpenaiChat, &upstream).start();
    for _ in 0..20 {
        assert_eq!(gateway.post(CHAT, CHAT_REQUEST).status, 200);
    }
    assert_eq!(gateway.terminate(), Some(0));
    assert_eq!(count(&file(&gateway)), 20);
}

/// Runs a command where a gateway has run: (exit code, stdout, stderr).
fn run(gateway: &Gateway, words: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_model-proxy"))
        .args(words)
        .env_clear()
        .env("HOME", gateway.home.path())
        .current_dir(gateway.home.path())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// Without what is another each time: times, and what is as wide as they are.
fn masked(text: &str) -> String {
    let word = |word: &str| match word {
        _ if word.starts_with("20") && word.ends_with('Z') => "TIME".to_owned(),
        _ if word.starts_with("req_") => "ID".to_owned(),
        _ if word.ends_with("ms") => "MS".to_owned(),
        _ => word.to_owned(),
    };
    let line = |line: &str| line.split_whitespace().map(word).collect::<Vec<_>>().join(" ");
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// A gateway that has answered three, failed one, and refused one.
fn asked() -> (Upstream, Gateway) {
    let upstream = Upstream::answering(scripted);
    let setup = Setup::simple(Format::OpenaiChat, &upstream).model("bad", &[("p", "bad")]);
    let gateway = setup.start();
    for body in [CHAT_REQUEST, SIDES[0].stream_request, &CHAT_REQUEST.replace("\"m\"", "\"bad\"")] {
        gateway.post(CHAT, body);
    }
    gateway.post(MESSAGES, SIDES[1].request);
    gateway.post(CHAT, CHAT_REQUEST.replace("\"m\"", "\"nowhere\""));
    wait_for(&gateway, 5);
    (upstream, gateway)
}

#[test]
fn statistics_are_told_by_whatever_is_asked_for() {
    let (_upstream, gateway) = asked();
    let told = |words: &[&str]| {
        let (code, out, said) = run(&gateway, words);
        assert_eq!((code, said.as_str()), (0, ""), "{words:?}");
        masked(&out)
    };
    let head = "REQUESTS FAILED BROKEN CLIENT_CLOSED REFUSED TRIES INPUT OUTPUT COST P50 P95 P99";
    assert_eq!(
        told(&["db", "stats"]),
        format!(
            "MODEL {head}\nm 3 0 0 0 0 3 27 12 ? MS MS MS\n- 1 0 0 0 1 0 0 0 $0 - - -\nbad 1 1 0 0 0 1 0 0 $0 MS MS MS"
        )
    );
    let (code, out, said) = run(&gateway, &["db", "stats", "--by", "provider", "--since", "90m"]);
    assert_eq!(
        (code, masked(&out)),
        (0, format!("PROVIDER {head}\np 4 1 0 0 0 4 27 12 ? MS MS MS\n- 1 0 0 0 1 0 0 0 $0 - - -"))
    );
    assert!(said.starts_with("counted from 20") && said.ends_with(":00:00Z on: sums are kept by the hour\n"), "{said}");
    assert_eq!(told(&["db", "stats", "--since", "90m", "-f", "json"]), told(&["db", "stats", "-f", "json"]));
    for (by, says) in [("client", "default 5 1 0 0 1"), ("key", "P_API_KEY "), ("route", "p/bad 1 1"), ("day", "20")] {
        let table = told(&["db", "stats", "--by", by]);
        assert!(table.lines().any(|line| line.starts_with(says)), "{by}: {table}");
    }
    let json: serde_json::Value = serde_json::from_str(&told(&["db", "stats", "--format", "json"])).unwrap();
    let model = &json[0];
    assert_eq!((&model["name"], &model["requests"], &model["client_closed"]), (&json!("m"), &json!(3), &json!(0)));
    assert_eq!(
        model["tokens"],
        json!({ "input": 27, "cache_read": 0, "cache_write": 0, "cache_write_1h": 0, "output": 12, "reasoning": 0 })
    );
    assert!(0 < model["p50_us"].as_u64().unwrap() && model["p50_us"].as_u64() <= model["p99_us"].as_u64(), "{model}");
    assert_eq!(json[1]["p50_us"], json!(null), "who is refused is not timed");
}

/// A price that is mended has mended what was asked before.
#[test]
fn what_it_cost_is_reckoned_when_it_is_asked_for() {
    let (_upstream, gateway) = asked();
    let config = gateway.home.path().join("config");
    fs::create_dir_all(config.join("models")).unwrap();
    let put = |models: &serde_json::Value| {
        fs::write(config.join("prices.json"), json!({ "models": models }).to_string()).unwrap();
    };
    let stats = || {
        let (code, out, said) = run(&gateway, &["db", "stats", "--format", "json", "--by", "provider"]);
        assert_eq!(code, 0, "{said}");
        let all: serde_json::Value = serde_json::from_str(&out).unwrap();
        (all[0]["cost_usd"].as_f64(), all[0]["unpriced"].as_u64().unwrap(), said)
    };
    assert_eq!(stats(), (None, 3, String::new()), "what is not known is not 0");
    put(&json!({ "p/upstream-model": { "input": 0, "output": 0 } }));
    assert_eq!(stats(), (Some(0.0), 0, String::new()), "what is free is");
    put(&json!({ "p/upstream-model": { "input": 1000, "output": 10_000 } }));
    let (cost, unpriced, said) = stats();
    assert!((cost.unwrap() - (0.027 + 0.12)).abs() < 1e-9, "{cost:?}");
    assert_eq!((unpriced, said.as_str()), (0, ""));
    put(&json!({ "p/*": { "input": 0, "output": 100_000 } }));
    assert!((stats().0.unwrap() - 1.2).abs() < 1e-9, "by today's price");
    let (_, out, _) = run(&gateway, &["db", "stats"]);
    assert!(masked(&out).contains("m 3 0 0 0 0 3 27 12 $1.20 "), "{out}");
    let (_, out, _) = run(&gateway, &["db", "tail", "-n", "2"]);
    assert!(out.contains(" 9+4 tokens $0.4000\n"), "{out}");
    let (_, out, _) = run(&gateway, &["db", "query", "-f", "csv", "SELECT sum(cost) FROM log"]);
    assert_eq!(out, "sum(cost)\r\n1.2\r\n");
    let (_, out, _) = run(&gateway, &["db", "export", "-f", "csv"]);
    assert!(out.starts_with("id,request_id,") && out.lines().next().unwrap().ends_with(",cost"), "{out}");
    put(&json!({ "p/*": { "input": 1 } }));
    assert_eq!((stats().0, stats().1), (None, 3), "a kind of token without a price costs an unknown amount");
    put(&json!({ "p/*": { "inptu": 1 } }));
    let (cost, unpriced, said) = stats();
    assert_eq!((cost, unpriced), (None, 3));
    assert!(said.contains("prices.json:/models/p~1*/inptu: unknown field") && said.contains("\"input\""), "{said}");
}

#[test]
fn the_last_requests_are_shown_and_those_that_come() {
    let (_upstream, gateway) = asked();
    let (code, out, _) = run(&gateway, &["db", "tail", "-n", "4"]);
    assert_eq!(code, 0);
    assert_eq!(
        masked(&out),
        "TIME ID default openai_chat m → p/upstream-model 200 MS 9+4 tokens\n\
         TIME ID default openai_chat bad → p/bad 400 MS \"400: no such thing\"\n\
         TIME ID default anthropic m → p/upstream-model 200 MS 9+4 tokens\n\
         TIME ID default openai_chat nowhere → - 404 MS \"the model \\\"nowhere\\\" does not exist; `GET /v1/models` lists those there are\""
    );
    let mut follow = Command::new(env!("CARGO_BIN_EXE_model-proxy"))
        .args(["db", "tail", "-n", "1", "-f", "--format", "json"])
        .env_clear()
        .env("HOME", gateway.home.path())
        .current_dir(gateway.home.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut next = || serde_json::from_str::<serde_json::Value>(&lines.next().unwrap()).unwrap();
    assert_eq!(next()["status"], 404);
    gateway.post(CHAT, CHAT_REQUEST);
    let came = next();
    assert_eq!((&came["asked"], &came["status"], &came["output_tokens"]), (&json!("m"), &json!(200), &json!(4)));
    let (code, ..) = run(&gateway, &["db", "reset", "-y"]);
    assert_eq!(code, 0);
    gateway.post(MESSAGES, SIDES[1].request);
    let came = next();
    assert_eq!((&came["format"], &came["status"]), (&json!("anthropic"), &json!(200)), "from the beginning again");
    // Whoever followed has left.
    drop(lines);
    gateway.post(CHAT, CHAT_REQUEST);
    wait_until("its end", || follow.try_wait().unwrap().is_some());
}

/// `db tail -f` where a gateway runs.
struct Follow {
    child: Child,
    lines: mpsc::Receiver<String>,
    said: Arc<Mutex<String>>,
}

impl Follow {
    fn new(home: &Path, words: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_model-proxy"))
            .args(["db", "tail", "-f"])
            .args(words)
            .env_clear()
            .env("HOME", home)
            .current_dir(home)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (send, lines) = mpsc::channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || out.lines().map_while(Result::ok).all(|line| send.send(line).is_ok()));
        let said = Arc::new(Mutex::new(String::new()));
        let (err, kept) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&said));
        thread::spawn(move || err.lines().map_while(Result::ok).for_each(|line| *kept.lock() += &format!("{line}\n")));
        Self { child, lines, said }
    }

    /// The next line, masked.
    #[track_caller]
    fn next(&self) -> String {
        let line = self.lines.recv_timeout(PATIENCE);
        masked(&line.unwrap_or_else(|_| panic!("no line came: {}", self.said.lock())))
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn who_follows_waits_for_the_first_request_and_for_another_file() {
    let upstream = Upstream::answering(|_, _| Script::json(200, CHAT_REPLY));
    let gateway = Setup::simple(Format::OpenaiChat, &upstream).start();
    let path = file(&gateway);
    let follow = Follow::new(gateway.home.path(), &[]);
    wait_until("it is said", || follow.said.lock().ends_with("there is no journal; waiting for a request\n"));
    gateway.post(CHAT, CHAT_REQUEST);
    assert_eq!(follow.next(), "TIME ID default openai_chat m → p/upstream-model 200 MS 9+4 tokens");
    for way in ["removed", "set aside"] {
        // As it is set aside where it is found to be damaged.
        for suffix in ["", "-wal", "-shm"] {
            let (part, aside) = (format!("journal.db{suffix}"), format!("aside{suffix}"));
            drop(match way {
                "removed" => fs::remove_file(path.with_file_name(part)),
                _ => fs::rename(path.with_file_name(part), path.with_file_name(aside)),
            });
        }
        gateway.post(MESSAGES, SIDES[1].request);
        assert_eq!(follow.next(), "TIME ID default anthropic m → p/upstream-model 200 MS 9+4 tokens", "{way}");
    }
    let told = follow.said.lock().matches("there is no journal").count();
    assert!((1..=3).contains(&told), "once for each file: {}", follow.said.lock());
    // From now on.
    let late = Follow::new(gateway.home.path(), &["-n", "0"]);
    thread::sleep(Duration::from_millis(500));
    gateway.post(CHAT, CHAT_REQUEST.replace("\"m\"", "\"any/late\""));
    assert!(late.next().contains(" any/late "), "nothing that was there before");
}

#[test]
fn the_journal_is_shortened_and_emptied_while_it_is_written() {
    let (_upstream, gateway) = asked();
    let (code, out, said) = run(&gateway, &["db", "prune", "--days", "1"]);
    assert!(code == 0 && out.contains("bytes before"), "{out}{said}");
    assert_eq!(count(&file(&gateway)), 5, "nothing is so old");
    let (code, _, said) = run(&gateway, &["db", "reset"]);
    assert!(code == 2 && said.contains("would be removed; say so with --confirm"), "{said}");
    let (code, out, said) = run(&gateway, &["db", "reset", "-y"]);
    assert!(code == 0 && out.starts_with("removed 5 requests"), "{out}{said}");
    assert_eq!(ask(&file(&gateway), "SELECT (SELECT count(*) FROM attempts), (SELECT count(*) FROM hours)"), "0|0");
    gateway.post(CHAT, CHAT_REQUEST);
    wait_for(&gateway, 1);
    assert!(masked(&run(&gateway, &["db", "tail"]).1).contains("→ p/upstream-model 200"), "its names are known");
}

#[test]
fn what_cannot_be_read_is_told_with_its_reason() {
    let upstream = Upstream::start();
    let gateway = Setup::simple(Format::OpenaiChat, &upstream).start();
    fs::write(gateway.home.path().join("text"), "no database at all, but long enough to be looked at").unwrap();
    fs::write(gateway.home.path().join("empty"), "").unwrap();
    for (words, exit, says) in [
        (&["db", "stats"][..], 1, "nothing has been asked yet"),
        (&["db", "tail", "--journal", "text"], 1, "text: the file is damaged"),
        (&["db", "tail", "-f", "--journal", "text"], 1, "text: the file is damaged"),
        (&["db", "tail", "-f", "--journal", "."], 1, ".: is a directory"),
        (&["db", "reset", "-y", "--journal", "text"], 1, "text: the file is damaged"),
        (&["db", "reset", "-y", "--journal", "empty"], 1, "empty: is no journal of model-proxy"),
        (
            &["db", "stats", "--by", "modle"],
            2,
            "--by takes model, provider, route, key, client, day, not \"modle\" (did you mean \"model\"?)",
        ),
        (
            &["db", "stats", "--since", "yesterday"],
            2,
            "--since takes a time like 90m, 24h or 7d, or all, not \"yesterday\"",
        ),
        (&["db", "stat"], 2, "stats"),
    ] {
        let (code, out, said) = run(&gateway, words);
        assert!(code == exit && out.is_empty() && said.contains(says), "{words:?}: {code} {out} {said}");
    }
    assert_eq!(fs::metadata(gateway.home.path().join("empty")).unwrap().len(), 0, "nothing is made of it");
}

#[test]
fn rows_are_given_to_whoever_reckons_elsewhere() {
    let (_upstream, gateway) = asked();
    let told = |words: &[&str]| {
        let (code, out, said) = run(&gateway, words);
        assert_eq!((code, said.as_str()), (0, ""), "{words:?}");
        out
    };
    let sql = "SELECT model, status, count(*) AS n FROM log GROUP BY 1, 2 ORDER BY 3 DESC, 2";
    assert_eq!(told(&["db", "query", sql]), "MODEL  STATUS  N\nm      200     3\nbad    400     1\n-      404     1\n");
    assert_eq!(
        told(&["db", "query", sql, "--format", "json"]).lines().next(),
        Some(r#"{"model":"m","status":200,"n":3}"#)
    );
    assert_eq!(told(&["db", "query", sql, "--format", "csv"]), "model,status,n\r\nm,200,3\r\nbad,400,1\r\n,404,1\r\n");
    assert_eq!(told(&["db", "query", "SELECT outcome FROM tries WHERE status = 400"]), "OUTCOME\nclient_error\n");
    let rows = told(&["db", "export", "--since", "1h"]);
    let rows: Vec<serde_json::Value> = rows.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 5);
    assert_eq!((&rows[0]["asked"], &rows[0]["input"], &rows[4]["model"]), (&json!("m"), &json!(9), &json!(null)));
    let csv = told(&["db", "export", "--format", "csv"]);
    assert_eq!(csv.matches("\r\n").count(), 6, "{csv}");
    assert!(csv.starts_with("id,request_id,at_ms,client,"), "{csv}");
    gateway.post(CHAT, CHAT_REQUEST.replace("\"m\"", "\"any/\\u001b[2J\""));
    wait_for(&gateway, 6);
    let screen = [told(&["db", "tail"]), told(&["db", "query", "SELECT char(27) || '[2J'"])].concat();
    assert!(!screen.contains('\u{1b}') && screen.contains("\\u{1b}[2J"), "nothing moves the cursor: {screen}");
    for (sql, exit, says) in [
        ("DELETE FROM requests", 2, "readonly"),
        ("SELEC 1", 2, "syntax error"),
        ("SELECT nosuch FROM log", 2, "no such column: nosuch"),
        ("SELECT 1; SELECT 2", 2, "Multiple statements"),
        ("", 2, "empty"),
        ("VACUUM INTO 'copy.db'", 2, "no copy is written"),
        ("ATTACH 'copy.db' AS copy", 2, "no other file is attached"),
    ] {
        let (code, out, said) = run(&gateway, &["db", "query", sql]);
        assert!(code == exit && out.is_empty() && said.contains(says), "{sql}: {code} {out} {said}");
    }
    assert!(!gateway.home.path().join("copy.db").exists(), "whoever may not read the journal may not read a copy");
    let (code, _, said) = run(&gateway, &["db", "query"]);
    assert!(code == 2 && said.contains("takes one query"), "{said}");
    let (code, _, said) = run(&gateway, &["db", "export", "--format", "table"]);
    assert!(code == 2 && said.contains("--format takes ndjson, csv, not \"table\""), "{said}");
}
