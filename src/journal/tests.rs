use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::Connection;

use crate::journal::read::Reader;
use crate::journal::row::{Part, Row, Spelled, Try};
use crate::journal::store::{Keep, Store, StoreError, VERSION};
use crate::journal::writer::{Journal, path_of_url};
use crate::time::Clock;
use crate::wire::event::Usage;

const KEEP: Keep = Keep { age: Duration::from_secs(86_400), bytes: 1 << 30 };

/// A folder of its own, which goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("model-proxy-journal-{name}-{}", std::process::id()));
        drop(fs::remove_dir_all(&path));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("journal.db")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn usage() -> Usage {
    Usage { input: Some(9), output: Some(4), cache_read: Some(3), ..Usage::default() }
}

fn answered(id: &str, at_ms: u64) -> (Row<'_>, Vec<Try<'static>>) {
    let row = Row {
        id,
        at_ms,
        client: "default",
        format: "openai_chat",
        asked: "quick",
        model: "fast",
        route: "q/large",
        stream: true,
        status: 200,
        ended: "complete",
        attempts: 2,
        usage: usage(),
        first_output_us: Some(1000),
        total_us: 2500,
        waited_us: 900,
        ..Row::default()
    };
    let failed = Try { route: "p/m", key: "P_KEY", fingerprint: Some(0xab), outcome: "rate_limited", ..Try::default() };
    let failed = Try { status: 429, took_us: 300, error: "slow down", ..failed };
    let ok = Try { route: "q/large", key: "Q_KEY", outcome: "ok", status: 200, begun_us: 400, ..Try::default() };
    (row, vec![failed, ok])
}

fn refused(at_ms: u64) -> Row<'static> {
    Row { id: "r", at_ms, format: "anthropic", asked: "none", status: 404, ended: "refused", ..Row::default() }
}

fn spelled(rows: &[(Row<'_>, Vec<Try<'_>>)]) -> Spelled {
    let mut spelled = Spelled::default();
    for (row, tries) in rows {
        row.write(tries, &mut spelled);
    }
    spelled
}

/// What a query says, its values joined by `|`, its rows by a line's end.
fn ask(path: &Path, sql: &str) -> String {
    let connection = Connection::open(path).unwrap();
    let mut statement = connection.prepare(sql).unwrap();
    let width = statement.column_count();
    let value = |row: &rusqlite::Row<'_>, at: usize| match row.get_ref(at).unwrap() {
        rusqlite::types::ValueRef::Null => "-".to_owned(),
        rusqlite::types::ValueRef::Integer(n) => n.to_string(),
        rusqlite::types::ValueRef::Real(n) => n.to_string(),
        rusqlite::types::ValueRef::Text(text) | rusqlite::types::ValueRef::Blob(text) => {
            String::from_utf8_lossy(text).into_owned()
        }
    };
    let rows = statement.query_map([], |row| Ok((0..width).map(|at| value(row, at)).collect::<Vec<_>>().join("|")));
    rows.unwrap().map(Result::unwrap).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_request_is_one_row_and_each_try_another() {
    let folder = Folder::new("rows");
    let mut store = Store::open(&folder.file()).unwrap();
    assert_eq!(
        store.write(spelled(&[answered("a", 1_795_000_000_123), answered("b", 1_795_000_000_124)]).rows()).unwrap(),
        2
    );
    let told = ask(
        &folder.file(),
        "SELECT request_id, at_ms, c.text, f.text, m.text, asked, r.text, stream, status, e.text, attempts, input, cache_read, \
         cache_write, output, output_guess, first_output_us, total_us, waited_us, dropped, error FROM requests q \
         JOIN names c ON c.id = client JOIN names f ON f.id = format JOIN names m ON m.id = model JOIN names r ON r.id = route \
         JOIN names e ON e.id = ended WHERE request_id = 'a'",
    );
    assert_eq!(
        told,
        "a|1795000000123|default|openai_chat|fast|quick|q/large|1|200|complete|2|9|3|-|4|-|1000|2500|900|-|-"
    );
    let tries = "SELECT number, r.text, k.text, o.text, status, begun_us, took_us, error FROM attempts JOIN names r ON r.id = route \
                 JOIN names k ON k.id = key JOIN names o ON o.id = outcome WHERE request = 1";
    assert_eq!(
        ask(&folder.file(), tries),
        "1|p/m|P_KEY 000000ab|rate_limited|429|0|300|slow down\n2|q/large|Q_KEY|ok|200|400|0|-"
    );
    let seed = "SELECT request_id, timestamp, endpoint, requested_model, resolved_provider, resolved_model, response_status, \
                response_time_ms, response_usage, provider_api_key_used, provider_retries, is_streaming, error_type FROM request_logs \
                WHERE id = 1";
    assert_eq!(
        ask(&folder.file(), seed),
        "a|2026-11-18 11:06:40|/v1/chat/completions|quick|q|large|200|2|\
         {\"prompt_tokens\":12,\"completion_tokens\":4,\"total_tokens\":16}|Q_KEY|1|1|rate_limited"
    );
}

#[test]
fn a_row_has_nothing_of_the_row_before() {
    let all = Usage { cache_write: Some(2), cache_write_1h: Some(1), reasoning: Some(4), ..usage() };
    let texts = Row { path: "/v1/files", dropped: "seed", limited: "rpm", error: "no", ..answered("t", 1).0 };
    let more = Row { usage: all, counted: Some(5), output_guess: 7, ended: "broken", ..answered("u", 2).0 };
    let ok = |route| Try { route, key: "K", outcome: "ok", status: 200, begun_us: 1, took_us: 2, ..Try::default() };
    let one = Row { route: "p/m", attempts: 1, stream: false, ..answered("v", 3).0 };
    let empty = Row { id: "w", at_ms: 4, ended: "client_closed", ..Row::default() };
    let kinds =
        [(texts, vec![]), (more, vec![ok("q/large")]), (one, vec![ok("p/m")]), (empty, vec![]), answered("x", 5)];
    // Each after each, and each in a second of its own: of those that are kept out one a second has a row.
    let pairs = kinds.iter().flat_map(|a| kinds.iter().flat_map(move |b| [a.clone(), b.clone()]));
    let rows: Vec<_> =
        pairs.zip(1..).map(|((row, tries), second)| (Row { at_ms: second * 1000, ..row }, tries)).collect();
    let dumps = [rows.len(), 1].map(|together| {
        let folder = Folder::new(&format!("before-{together}"));
        let mut store = Store::open(&folder.file()).unwrap();
        for some in rows.chunks(together) {
            store.write(spelled(some).rows()).unwrap();
        }
        ask(&folder.file(), "SELECT * FROM requests ORDER BY id")
    });
    assert_eq!(dumps[0].lines().count(), rows.len(), "all have a row");
    assert_eq!(dumps[0], dumps[1], "together or one by one");
}

#[test]
fn sums_are_of_all_and_of_who_is_refused_one_a_second_has_a_row() {
    let folder = Folder::new("sums");
    let mut store = Store::open(&folder.file()).unwrap();
    let at = 1_795_000_000_000;
    for _ in 0..3 {
        let mut rows: Vec<_> = (0..50).map(|n| (refused(at + n), Vec::new())).collect();
        rows.push((refused(at + 1000), Vec::new()));
        rows.extend((0..4).map(|_| answered("a", at)));
        rows.push((
            Row { ended: "broken", usage: Usage::default(), output_guess: 7, ..answered("a", at).0 },
            Vec::new(),
        ));
        // Nobody could be asked: that is a failure. Whoever was let in has a row, whatever he asked for.
        rows.extend((0..2).map(|n| (Row { status: 503, ended: "complete", ..refused(at + n) }, Vec::new())));
        rows.extend((0..2).map(|n| (Row { status: 400, ended: "complete", ..refused(at + n) }, Vec::new())));
        store.write(spelled(&rows).rows()).unwrap();
    }
    let rows = "SELECT status, count(*), max(output_guess) FROM requests GROUP BY status";
    assert_eq!(
        ask(&folder.file(), rows),
        "200|15|7\n400|6|-\n404|6|-\n503|6|-",
        "a row of the second that begins anew, twice in each round"
    );
    let sums = "SELECT o.text, sum(requests), sum(attempts), sum(uncounted), sum(input), sum(cache_read), sum(output), \
                (SELECT sum(s.requests) FROM spread s WHERE s.hours = h.id) FROM hours h JOIN names o ON o.id = outcome \
                GROUP BY o.text";
    assert_eq!(
        ask(&folder.file(), sums),
        "broken|3|6|3|0|0|0|3\nfailed|6|0|0|0|0|0|6\nok|12|24|0|108|36|48|12\nrefused|159|0|0|0|0|0|159"
    );
}

#[test]
fn what_is_too_old_goes_in_steps_and_so_does_what_is_too_much() {
    let folder = Folder::new("prune");
    let mut store = Store::open(&folder.file()).unwrap();
    let day = 86_400_000;
    let rows: Vec<_> = (0..40_000).map(|n| answered("0123456789", day * if n < 20_000 { 1 } else { 3 } + n)).collect();
    store.write(spelled(&rows).rows()).unwrap();
    let full = store.bytes().unwrap();
    let mut steps = 0;
    while store.prune(Keep { age: Duration::from_secs(86_400), ..KEEP }, day * 3 + 30_000).unwrap() {
        steps += 1;
    }
    assert_eq!(steps, 10, "two thousand at a time");
    let counts =
        "SELECT (SELECT count(*) FROM requests), (SELECT count(*) FROM attempts), (SELECT count(*) FROM hours)";
    assert_eq!(ask(&folder.file(), counts), "20000|40000|1", "tries and sums go with them");
    while store.prune(Keep { bytes: full / 4, ..KEEP }, day * 3 + 30_000).unwrap() {}
    assert!(store.bytes().unwrap() <= full / 4);
    let left = ask(&folder.file(), "SELECT min(at_ms), count(*) < 20000, max(at_ms) FROM requests");
    assert!(left.ends_with(&format!("|1|{}", day * 3 + 39_999)), "the oldest go first: {left}");
    assert_eq!(ask(&folder.file(), "SELECT sum(requests) FROM hours"), "20000", "sums stay");
    drop(store);
    // Some is left for what comes next.
    let size = fs::metadata(folder.file()).unwrap().len();
    assert!(size < full / 4 + 3 * 1024 * 1024, "the room is given back: {size} of {full}");
}

#[test]
fn what_the_seed_wrote_is_kept_and_read_beside_ours() {
    let folder = Folder::new("seed");
    let seed = Connection::open(folder.file()).unwrap();
    seed.execute_batch(
        "CREATE TABLE logs (id INTEGER PRIMARY KEY, service VARCHAR);
         CREATE TABLE request_logs (id INTEGER PRIMARY KEY, request_id VARCHAR NOT NULL, timestamp DATETIME NOT NULL, \
         endpoint VARCHAR NOT NULL, method VARCHAR NOT NULL, client_api_key_hash VARCHAR, requested_model VARCHAR NOT NULL, \
         resolved_provider VARCHAR NOT NULL, resolved_model VARCHAR NOT NULL, parameters JSON NOT NULL, messages JSON NOT NULL, \
         response_status INTEGER, response_time_ms INTEGER, response_content TEXT, response_usage JSON, \
         provider_api_key_used VARCHAR, provider_retries INTEGER, is_streaming BOOLEAN, error_message TEXT, error_type VARCHAR);
         CREATE UNIQUE INDEX ix_request_logs_request_id ON request_logs (request_id);
         INSERT INTO request_logs VALUES (1, 'old', '2025-01-01 00:00:00', '/v1/messages', 'POST', NULL, 'm', 'fallback_router', 'm', \
         '{}', '[]', 200, 5, 'hi', NULL, NULL, 0, 0, NULL, NULL);",
    )
    .unwrap();
    drop(seed);
    let reader = Reader::open_up_to_date(&folder.file(), Box::new(|_, _| None)).unwrap();
    assert_eq!(reader.last().unwrap(), 0, "it can be looked at before anything was written");
    drop(reader);
    let mut store = Store::open(&folder.file()).unwrap();
    store.write(spelled(&[answered("new", 1_795_000_000_000)]).rows()).unwrap();
    drop(store);
    drop(Store::open(&folder.file()).unwrap());
    let both = "SELECT request_id, requested_model, response_content FROM request_logs ORDER BY timestamp";
    assert_eq!(ask(&folder.file(), both), "old|m|hi\nnew|quick|-");
}

/// A large file as the seed leaves it: it cannot give its room back bit by bit.
fn seed_of(folder: &Folder, rows: usize) -> Store {
    let seed = Connection::open(folder.file()).unwrap();
    let columns = "id INTEGER PRIMARY KEY, request_id, timestamp, endpoint, method, client_api_key_hash, requested_model, \
        resolved_provider, resolved_model, parameters, messages, response_status, response_time_ms, response_content, \
        response_usage, provider_api_key_used, provider_retries, is_streaming, error_message, error_type";
    seed.execute_batch(&format!(
        "CREATE TABLE request_logs ({columns}); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) \
         INSERT INTO request_logs (request_id, timestamp, messages) SELECT i, '2026-11-18 10:00:00.000000', zeroblob(3000) FROM n"
    ))
    .unwrap();
    drop(seed);
    let mut store = Store::open(&folder.file()).unwrap();
    store.write(spelled(&[answered("new", 1_795_000_000_000)]).rows()).unwrap();
    store
}

#[test]
fn what_the_seed_wrote_goes_before_ours_and_its_file_is_no_endless_work() {
    let seed_left = "SELECT (SELECT count(*) FROM seed_request_logs), (SELECT count(*) FROM requests)";
    for (keep, now_ms, left) in [
        (Keep { bytes: 8 << 20, ..KEEP }, 1_795_000_000_000, "2000|1"),
        (KEEP, 1_795_000_000_000, "8000|1"),
        (KEEP, 1_795_000_000_000 + 85_000_000, "0|1"),
    ] {
        let folder = Folder::new("seed-size");
        let mut store = seed_of(&folder, 8000);
        let steps = (0..100).take_while(|_| store.prune(keep, now_ms).unwrap()).count();
        assert!(steps < 10, "{steps} steps");
        assert_eq!(ask(&folder.file(), seed_left), left);
    }
}

#[test]
fn another_programs_file_is_left_alone() {
    for (name, sql) in [
        ("users", "CREATE TABLE users (id INTEGER); PRAGMA user_version = 1"),
        ("none", "CREATE TABLE requests (id INTEGER)"),
        ("both", "CREATE TABLE request_logs (id INTEGER); CREATE TABLE names (id INTEGER)"),
        ("some", "CREATE TABLE requests (id INTEGER); CREATE TABLE names (id INTEGER); PRAGMA user_version = 2"),
    ] {
        let folder = Folder::new(name);
        Connection::open(folder.file()).unwrap().execute_batch(sql).unwrap();
        let before = fs::read(folder.file()).unwrap();
        assert!(matches!(Store::open(&folder.file()), Err(StoreError::Foreign)), "{sql}");
        let read = Reader::open_up_to_date(&folder.file(), Box::new(|_, _| None));
        assert!(matches!(read, Err(StoreError::Foreign)), "{sql}");
        assert_eq!(fs::read(folder.file()).unwrap(), before, "not a byte is another");
    }
}

#[test]
fn the_only_try_that_went_well_is_told_in_the_requests_own_row() {
    let folder = Folder::new("plain");
    let mut store = Store::open(&folder.file()).unwrap();
    let (row, tries) = answered("a", 1_795_000_000_000);
    let plain = Try { took_us: 600, ..tries[1].clone() };
    let another = |one: Try<'static>| (Row { attempts: 1, ..row.clone() }, vec![one]);
    let rows = [
        another(plain.clone()),
        another(Try { status: 201, ..plain.clone() }),
        another(Try { route: "q/*", ..plain.clone() }),
        another(Try { outcome: "server_error", status: 500, error: "boom", ..plain }),
    ];
    store.write(spelled(&rows).rows()).unwrap();
    assert_eq!(
        ask(&folder.file(), "SELECT * FROM tries ORDER BY request"),
        "1|1|q/large|Q_KEY|ok|200|400|600|-\n2|1|q/large|Q_KEY|ok|201|400|600|-\n3|1|q/*|Q_KEY|ok|200|400|600|-\n\
         4|1|q/large|Q_KEY|server_error|500|400|600|boom"
    );
    let broken = Folder::new("plain-broken");
    let (row, tries) = another(tries[1].clone());
    let row = Row { ended: "broken", ..row };
    Store::open(&broken.file()).unwrap().write(spelled(&[(row, tries)]).rows()).unwrap();
    assert_eq!(ask(&broken.file(), "SELECT outcome FROM tries"), "ok", "whatever became of the request");
    let where_told = "SELECT (SELECT group_concat(request) FROM attempt_rows), (SELECT group_concat(id) FROM requests WHERE key > 0), \
                      (SELECT count(*) FROM attempts), (SELECT group_concat(provider_api_key_used) FROM request_logs)";
    assert_eq!(ask(&folder.file(), where_told), "2,3,4|1|4|Q_KEY,Q_KEY,Q_KEY,Q_KEY");
    assert!(store.prune(Keep { age: Duration::ZERO, bytes: 0 }, u64::MAX).unwrap());
    assert_eq!(ask(&folder.file(), "SELECT count(*) FROM attempts"), "0");
}

#[test]
fn absurd_counts_are_kept_as_the_most_that_is_believed() {
    let folder = Folder::new("absurd");
    let (mut row, tries) = answered("a", 1_795_000_000_000);
    row.usage.input = Some(u64::MAX - 1);
    row.usage.output = Some(i64::MAX as u64);
    let mut store = Store::open(&folder.file()).unwrap();
    for _ in 0..3 {
        store.write(spelled(&[(row.clone(), tries.clone()), (row.clone(), tries.clone())]).rows()).unwrap();
    }
    assert_eq!(ask(&folder.file(), "SELECT input, output FROM hours"), "6000000000000|6000000000000");
}

#[test]
fn a_model_behind_a_wildcard_is_told_by_its_name() {
    let folder = Folder::new("wildcard");
    let (row, mut tries) = answered("a", 1_795_000_000_000);
    tries[1].route = "q/*";
    let mut store = Store::open(&folder.file()).unwrap();
    store.write(spelled(&[(row.clone(), tries.clone())]).rows()).unwrap();
    let routes = "SELECT r.text, (SELECT group_concat(route) FROM tries), (SELECT t.text FROM hours h JOIN names t ON t.id = h.route) \
                  FROM requests JOIN names r ON r.id = route";
    assert_eq!(ask(&folder.file(), routes), "q/large|p/m,q/*|q/large");
    Connection::open(folder.file()).unwrap().execute("INSERT INTO names VALUES (100000, 'last')", []).unwrap();
    for route in ["q/large", "q/other"] {
        store.write(spelled(&[(Row { route, ..row.clone() }, tries.clone())]).rows()).unwrap();
    }
    let all =
        "SELECT group_concat(text) FROM (SELECT r.text FROM requests q JOIN names r ON r.id = route ORDER BY q.id)";
    assert_eq!(ask(&folder.file(), all), "q/large,q/large,q/*", "beyond so many names by its pattern");
}

#[test]
fn a_row_that_cannot_be_written_is_the_only_one_that_is_lost() {
    let folder = Folder::new("poison");
    drop(Store::open(&folder.file()).unwrap());
    let rule = "CREATE TRIGGER no BEFORE INSERT ON requests WHEN NEW.request_id = 'bad' \
                BEGIN SELECT RAISE(ABORT, 'never'); END";
    Connection::open(folder.file()).unwrap().execute_batch(rule).unwrap();
    let (journal, told) = started(folder.file());
    for id in ["a", "bad", "b"] {
        let (row, tries) = answered(id, Clock::unix_millis());
        journal.log(&row, &tries);
    }
    until("all are settled", || journal.standing().written + journal.standing().dropped == 3);
    assert_eq!(ask(&folder.file(), "SELECT group_concat(request_id) FROM requests"), "a,b");
    let standing = journal.standing();
    assert_eq!((standing.written, standing.dropped, standing.failing), (2, 1, None));
    assert!(told.lock().iter().any(|line| line.contains("a row cannot be written: never")), "{:?}", told.lock());
}

#[test]
fn a_file_of_the_first_version_is_brought_up_to_date() {
    for with_seed in [false, true] {
        let folder = Folder::new(if with_seed { "first-seed" } else { "first" });
        let first = Connection::open(folder.file()).unwrap();
        first.execute_batch(include_str!("schema.sql")).unwrap();
        first
            .execute_batch(
                "CREATE VIEW request_logs AS SELECT id FROM requests; PRAGMA user_version = 1; \
                 INSERT INTO names VALUES (1, 'openai_chat'); INSERT INTO requests (request_id, at_ms, client, format, stream, \
                 status, ended, attempts, total_us, waited_us) VALUES ('old', 1, 1, 1, 0, 200, 1, 0, 5, 0);",
            )
            .unwrap();
        if with_seed {
            let columns = "id, request_id, timestamp, endpoint, method, client_api_key_hash, requested_model, resolved_provider, \
                resolved_model, parameters, messages, response_status, response_time_ms, response_content, response_usage, \
                provider_api_key_used, provider_retries, is_streaming, error_message, error_type";
            first.execute_batch(&format!("CREATE TABLE seed_request_logs ({columns})")).unwrap();
            first.execute("INSERT INTO seed_request_logs (request_id) VALUES ('older')", []).unwrap();
        }
        drop(first);
        let mut store = Store::open(&folder.file()).unwrap();
        let (mut row, tries) = answered("new", 1_795_000_000_000);
        row.bodies = Some([
            Part { text: r#"{"messages":[{"role":"user"}]}"#, length: 30 },
            Part { text: "beginning", length: 70_000 },
        ]);
        store.write(spelled(&[(row, tries)]).rows()).unwrap();
        let all = ask(&folder.file(), "SELECT request_id FROM request_logs ORDER BY request_id");
        assert_eq!(all, if with_seed { "new\nold\nolder" } else { "new\nold" });
        let bodies =
            "SELECT l.request_id, asked_bytes, answered, answered_bytes FROM log l JOIN bodies b ON b.request = l.id";
        assert_eq!(ask(&folder.file(), bodies), "new|30|beginning|70000");
        let seeds = "SELECT messages, response_content FROM request_logs WHERE request_id = 'new'";
        assert_eq!(ask(&folder.file(), seeds), "[{\"role\":\"user\"}]|beginning");
        let keep = Keep { age: Duration::ZERO, bytes: u64::MAX };
        while store.prune(keep, u64::MAX / 2).unwrap() {}
        assert_eq!(ask(&folder.file(), "SELECT count(*) FROM bodies"), "0", "they go with their rows");
    }
}

#[test]
fn a_file_of_a_later_version_is_left_alone() {
    let folder = Folder::new("newer");
    drop(Store::open(&folder.file()).unwrap());
    Connection::open(folder.file()).unwrap().pragma_update(None, "user_version", VERSION + 1).unwrap();
    let error = Store::open(&folder.file()).unwrap_err();
    assert!(matches!(error, StoreError::Newer(found) if found == VERSION + 1), "{error}");
}

/// A journal, and what it has said.
fn started(path: PathBuf) -> (Journal, Arc<Mutex<Vec<String>>>) {
    let said: Arc<Mutex<Vec<String>>> = Arc::default();
    let heard = Arc::clone(&said);
    let say = move |_: bool, words: &str| heard.lock().push(words.to_owned());
    (Journal::start(path, KEEP, Box::new(say)).unwrap(), said)
}

fn log(journal: &Journal, count: usize) {
    let (row, tries) = answered("a", Clock::unix_millis());
    for _ in 0..count {
        journal.log(&row, &tries);
    }
}

#[track_caller]
fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("never: {what}");
}

#[test]
fn the_end_waits_for_what_was_given() {
    let folder = Folder::new("end");
    let (journal, said) = started(folder.file());
    assert!(!folder.file().exists(), "there is nothing to write");
    log(&journal, 500);
    journal.end();
    assert_eq!(fs::metadata(folder.file()).unwrap().permissions().mode() & 0o777, 0o600, "nobody else's business");
    assert_eq!(ask(&folder.file(), "SELECT count(*) FROM requests"), "500");
    assert_eq!((journal.standing().written, journal.standing().waiting), (500, 0));
    assert_eq!(*said.lock(), [""; 0]);
}

#[test]
fn a_damaged_file_is_set_aside_and_said_so() {
    for damage in ["head", "whole"] {
        let folder = Folder::new(damage);
        let mut store = Store::open(&folder.file()).unwrap();
        let rows: Vec<_> = (0..500).map(|_| answered("a", 1_795_000_000_000)).collect();
        store.write(spelled(&rows).rows()).unwrap();
        drop(store);
        let mut bytes = fs::read(folder.file()).unwrap();
        let from = if damage == "head" { 0 } else { 4096 };
        bytes[from..].fill(0x5a);
        fs::write(folder.file(), &bytes).unwrap();
        let (journal, said) = started(folder.file());
        log(&journal, 3);
        journal.end();
        assert_eq!(ask(&folder.file(), "SELECT count(*) FROM requests"), "3", "{damage}: {:?}", said.lock());
        let said = said.lock().join("\n");
        let aside = said.split_once("it was set aside as ").unwrap_or_else(|| panic!("{damage}: {said}")).1;
        assert_eq!(fs::read(aside.lines().next().unwrap()).unwrap()[4096..], bytes[4096..], "nothing of it is lost");
    }
}

#[test]
fn what_the_end_cannot_write_is_counted_and_said() {
    let folder = Folder::new("lost");
    fs::write(folder.0.join("inner"), "a file where a folder should be").unwrap();
    let (journal, said) = started(folder.0.join("inner/journal.db"));
    log(&journal, 7);
    journal.end();
    assert_eq!(journal.standing().dropped, 7);
    assert!(said.lock().join("\n").contains("7 rows are lost with the end"), "{:?}", said.lock());
}

#[test]
fn what_keeps_it_from_being_written_is_waited_for() {
    let folder = Folder::new("wait");
    let inner = folder.0.join("inner");
    fs::write(&inner, "a file where a folder should be").unwrap();
    let path = inner.join("journal.db");
    let (journal, said) = started(path.clone());
    log(&journal, 5);
    until("it fails", || journal.standing().failing.is_some());
    log(&journal, 10_100);
    let standing = journal.standing();
    assert_eq!((standing.waiting, standing.dropped, standing.written), (10_005, 100, 0), "bounded, and counted");
    fs::remove_file(&inner).unwrap();
    until("it is written", || journal.standing().written == 10_005);
    assert_eq!(journal.standing().failing, None);
    assert_eq!(ask(&path, "SELECT count(*) FROM requests"), "10005");
    let words = said.lock().join("\n");
    assert!(words.contains("requests go on, and rows wait") && words.contains("100 rows were lost"), "{words}");
    assert_eq!(words.matches("requests go on").count(), 1, "said once");
    // Somebody else writes, for longer than is waited.
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    log(&journal, 1);
    until("it is locked", || journal.standing().failing.is_some_and(|why| why.contains("locked")));
    other.execute_batch("COMMIT").unwrap();
    until("it goes on", || journal.standing().written == 10_006);
    // Somebody puts another in its place.
    let older = inner.join("older.db");
    drop(Store::open(&older).unwrap());
    fs::rename(&older, &path).unwrap();
    for suffix in ["-wal", "-shm"] {
        drop(fs::remove_file(inner.join(format!("journal.db{suffix}"))));
    }
    log(&journal, 2);
    until("the other is written to", || journal.standing().written == 10_008);
    assert_eq!(ask(&path, "SELECT count(*) FROM requests"), "2");
    // Somebody takes the file away.
    drop(other);
    fs::remove_dir_all(&inner).unwrap();
    log(&journal, 1);
    until("it is made anew", || journal.standing().written == 10_009);
    assert_eq!(ask(&path, "SELECT count(*) FROM requests"), "1");
}

#[test]
fn a_full_disk_loses_no_batch() {
    let folder = Folder::new("full");
    let mut store = Store::open(&folder.file()).unwrap();
    let rows: Vec<_> = (0..2000).map(|_| answered("a", 1_795_000_000_000)).collect();
    let batch = spelled(&rows);
    store.write(batch.rows()).unwrap();
    // As if there were no more room.
    let pages: i64 = ask(&folder.file(), "PRAGMA page_count").parse().unwrap();
    store.limit_pages(pages + 3);
    let error = store.write(batch.rows()).unwrap_err();
    assert!(error.to_string().contains("full"), "{error}");
    assert_eq!(ask(&folder.file(), "SELECT count(*) FROM requests"), "2000", "all of it or nothing");
    store.limit_pages(pages * 4);
    assert_eq!(store.write(batch.rows()).unwrap(), 2000);
    assert_eq!(ask(&folder.file(), "SELECT count(*), (SELECT sum(requests) FROM hours) FROM requests"), "4000|4000");
}

#[test]
fn a_database_url_names_a_file() {
    for (url, path) in [
        ("sqlite:///./sql_app.db", Ok("./sql_app.db")),
        ("sqlite:////var/lib/a.db", Ok("/var/lib/a.db")),
        ("sqlite+aiosqlite:///a.db?x=1", Ok("a.db")),
        ("sqlite://", Err("names no file")),
        ("sqlite:///:memory:", Err("names no file")),
        ("postgresql://u:p@h/d", Err("is no SQLite database")),
        ("/a.db", Err("is no SQLite database")),
    ] {
        match (path_of_url(url), path) {
            (Ok(found), Ok(path)) => assert_eq!(found, Path::new(path), "{url}"),
            (Err(found), Err(says)) => assert!(found.starts_with(says) && !found.contains("u:p"), "{url}: {found}"),
            (found, _) => panic!("{url}: {found:?}"),
        }
    }
}
