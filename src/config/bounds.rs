//! The server's own limits, each with its reason: one table that `config/server.json`, its schema, the variables and the
//! documentation are made from. They are read at the start.

use std::time::Duration;

use crate::config::diagnostic::{Place, Report};
use crate::config::env::Env;
use crate::config::source::ServerFile;

/// One limit.
#[derive(Debug)]
pub struct Bound {
    /// Its key in `config/server.json`. The last word is the unit, where it has one.
    pub key: &'static str,
    /// The variable that wins over the file.
    pub var: &'static str,
    pub default: f64,
    pub least: f64,
    pub most: f64,
    /// What it bounds, what happens beyond it, and why it is as it is.
    pub help: &'static str,
    set: fn(&mut Bounds, f64),
}

/// What a limit is counted in.
trait Measure {
    fn of(number: f64) -> Self;
}

impl Measure for Duration {
    fn of(seconds: f64) -> Self {
        Self::try_from_secs_f64(seconds).unwrap_or_default()
    }
}

impl Measure for usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "every number was found within its range"
    )]
    fn of(number: f64) -> Self {
        number as Self
    }
}

impl Measure for u32 {
    fn of(number: f64) -> Self {
        Self::try_from(usize::of(number)).unwrap_or(Self::MAX)
    }
}

/// Makes the struct and the table, so that no limit can stand in one and not in the other.
macro_rules! bounds {
    ($($field:ident: $type:ty, $key:literal, $var:literal, $default:expr, $range:expr, $help:literal;)*) => {
        /// What the server bears of its clients, and keeps of its upstreams.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Bounds {
            $(#[doc = $help] pub $field: $type,)*
        }

        /// Every limit there is.
        pub const BOUNDS: &[Bound] = &[$(Bound {
            key: $key,
            var: concat!("MODEL_PROXY_", $var),
            default: $default,
            least: $range.0,
            most: $range.1,
            help: $help,
            set: |bounds, number| bounds.$field = Measure::of(number),
        },)*];

        impl Default for Bounds {
            fn default() -> Self {
                Self { $($field: Measure::of($default),)* }
            }
        }
    };
}

const KIB: f64 = 1024.0;
const MIB: f64 = 1024.0 * KIB;
/// Times: from a hundredth of a second to a day.
const TIME: (f64, f64) = (0.01, 86_400.0);
/// Counts of things that cost a descriptor or a task each.
const COUNT: (f64, f64) = (1.0, 1_000_000.0);
/// Days: up to a hundred years.
const DAYS: (f64, f64) = (1.0, 36_500.0);
/// Sizes of what is held in memory as a whole.
const SIZE: (f64, f64) = (KIB, 2048.0 * MIB);

bounds! {
    first_byte: Duration, "first_byte_seconds", "FIRST_BYTE_SECONDS", 10.0, TIME,
        "Longest wait for a connection's first byte, a TLS handshake included; then it is closed. Who connects and says nothing holds a descriptor.";
    head: Duration, "head_seconds", "HEAD_SECONDS", 10.0, TIME,
        "Longest time a request's head may take once it has begun, however steadily it comes; then 408, and the connection is closed. Slow heads are the oldest way to hold a server.";
    idle: Duration, "idle_seconds", "IDLE_SECONDS", 75.0, TIME,
        "How long a client's connection is kept without a request: longer than the 60 s after which common load balancers close theirs, so that they close first.";
    body_idle: Duration, "body_idle_seconds", "BODY_IDLE_SECONDS", 30.0, TIME,
        "Longest wait for more of a request's body; then 408, and the connection is closed.";
    body_total: Duration, "body_seconds", "BODY_SECONDS", 120.0, TIME,
        "Longest time a whole request body may take; then 408, and the connection is closed. A byte now and then does not help.";
    stalled: Duration, "stalled_seconds", "STALLED_SECONDS", 300.0, TIME,
        "How long a client may take nothing of an answer that waits for it; then its connection is closed, or over HTTP/2 its stream reset. Suspended laptops and debuggers come back sooner.";
    head_bytes: usize, "head_bytes", "HEAD_BYTES", 64.0 * KIB, (8.0 * KIB, MIB),
        "Largest request head; beyond it 431. Tokens of 16 KB and the headers of coding agents fit well.";
    head_fields: usize, "head_fields", "HEAD_FIELDS", 100.0, (10.0, 1000.0),
        "Most fields of a request head; beyond it 431. Clients send twenty to forty.";
    target_bytes: usize, "uri_bytes", "URI_BYTES", 16.0 * KIB, (64.0, 60.0 * KIB),
        "Longest path and query; beyond it 414.";
    body_bytes: usize, "body_bytes", "BODY_BYTES", 32.0 * MIB, SIZE,
        "Largest request body; beyond it 413, told from content-length before anything is read. Anthropic takes 32 MB.";
    json_depth: u32, "json_depth", "JSON_DEPTH", 128.0, (2.0, 128.0),
        "Deepest nesting of a request's JSON; beyond it 400. What serde_json takes, and so what most of those behind us do.";
    held_bytes: usize, "held_bytes", "HELD_BYTES", 512.0 * MIB, (MIB, 1_048_576.0 * MIB),
        "Bytes of bodies, requests and replies, held in all; beyond it 503 with retry-after. Without it many large requests at once would be the end of a small machine.";
    connections: usize, "connections", "CONNECTIONS", 10_000.0, COUNT,
        "Most connections of clients; those beyond it are closed at once. Never more than half of what the descriptor limit leaves after 64 of our own.";
    requests: usize, "requests_in_flight", "REQUESTS_IN_FLIGHT", 1024.0, COUNT,
        "Most requests under way at one moment; beyond it 503 with retry-after 1, at once: a queue would only make all of them late. Never more than three eighths of what the descriptor limit leaves, since each may need a connection to an upstream.";
    h2_streams: u32, "h2_streams", "H2_STREAMS", 128.0, (1.0, 100_000.0),
        "HTTP/2: most streams of a connection at once; those beyond it are refused.";
    h2_header_list_bytes: u32, "h2_header_list_bytes", "H2_HEADER_LIST_BYTES", 32.0 * KIB, (4.0 * KIB, MIB),
        "HTTP/2: largest header list, names and values and 32 bytes for each; beyond it 431, and a connection that goes on sending one is closed.";
    h2_stream_window_bytes: u32, "h2_stream_window_bytes", "H2_STREAM_WINDOW_BYTES", 64.0 * KIB, (16.0 * KIB, 16.0 * MIB),
        "HTTP/2: how much of a stream's body may come before it is read. Small windows bound what slow readers cost.";
    h2_connection_window_bytes: u32, "h2_connection_window_bytes", "H2_CONNECTION_WINDOW_BYTES", MIB, (64.0 * KIB, 64.0 * MIB),
        "HTTP/2: the same for all streams of a connection together.";
    h2_pending_resets: usize, "h2_pending_resets", "H2_PENDING_RESETS", 20.0, (1.0, 10_000.0),
        "HTTP/2: streams a client may open and reset before they are begun (rapid reset, CVE-2023-44487); beyond it the connection is closed with ENHANCE_YOUR_CALM.";
    h2_local_resets: usize, "h2_local_resets", "H2_LOCAL_RESETS", 1024.0, (1.0, 100_000.0),
        "HTTP/2: faulty streams we reset before the connection is closed with ENHANCE_YOUR_CALM.";
    h2_send_bytes: usize, "h2_send_buffer_bytes", "H2_SEND_BUFFER_BYTES", 256.0 * KIB, (16.0 * KIB, 16.0 * MIB),
        "HTTP/2: bytes of one answer that wait for a slow reader; beyond it the upstream is read no further. Over HTTP/1 these are as many as a head may have.";
    reply_bytes: usize, "reply_bytes", "REPLY_BYTES", 64.0 * MIB, SIZE,
        "Largest whole reply of an upstream; beyond it the attempt has failed (502).";
    event_bytes: usize, "event_bytes", "EVENT_BYTES", 16.0 * MIB, (64.0 * KIB, 1024.0 * MIB),
        "Longest event of an upstream's stream; beyond it the stream is broken off. A tool call may be streamed whole.";
    upstream_idle: Duration, "upstream_idle_seconds", "UPSTREAM_IDLE_SECONDS", 15.0, TIME,
        "How long a connection to an upstream rests before it is closed: shorter than the keep-alive of any provider worth the name, so that we close first. Node servers close after 5 s.";
    upstream_age: Duration, "upstream_age_seconds", "UPSTREAM_AGE_SECONDS", 600.0, TIME,
        "How old a connection to an upstream may grow: providers move, and one that never ends would never see the new address.";
    journal_days: u32, "journal_days", "JOURNAL_DAYS", 30.0, DAYS,
        "Days that the journal's rows and sums are kept. Last month's bill can be looked into.";
    journal_body_bytes: usize, "journal_body_bytes", "JOURNAL_BODY_BYTES", 64.0 * 1024.0, (1024.0, MIB),
        "Bytes of a request's body and of its answer that are kept where MODEL_PROXY_LOG_BODIES asks for them: the beginning of each.";
    journal_bytes: usize, "journal_bytes", "JOURNAL_BYTES", 1024.0 * MIB, (MIB, 1_048_576.0 * MIB),
        "Largest size of the journal; beyond it the oldest rows go first, and the sums stay. A million plain requests take 130 MB.";
    upstream_resting: usize, "upstream_idle_connections", "UPSTREAM_IDLE_CONNECTIONS", 256.0, (0.0, 100_000.0),
        "Most connections that rest for one upstream, in each worker. 32 are usual; with 64 requests at once half of them then connected anew, at a third of a request's whole cost. Never more than an eighth of what the descriptor limit leaves, by all workers.";
}

impl Bounds {
    /// What a file says and, over it, what the environment does. A number out of range is reported.
    pub(crate) fn new(file: Option<&ServerFile>, env: &Env, report: &mut Report) -> Self {
        let mut bounds = Self::default();
        for bound in BOUNDS {
            // What does not fit was reported, and taken out, by the schema.
            if let Some(number) = file.and_then(|file| file.get(bound.key)).and_then(|value| value.as_f64()) {
                (bound.set)(&mut bounds, number);
            }
            let Some(text) = env.text(bound.var) else {
                continue;
            };
            match text.parse::<f64>().ok().filter(|number| bound.takes(*number)) {
                Some(number) => (bound.set)(&mut bounds, number),
                None => {
                    let place = Place { pointer: bound.var.to_owned(), ..Place::file("environment") };
                    let (least, most) = (bound.least, bound.most);
                    let kind = if bound.is_whole() { "a whole number" } else { "a number" };
                    report.error(&place, format!("must be {kind} from {least} to {most}, not {text:?}"));
                }
            }
        }
        if bounds.held_bytes < bounds.body_bytes {
            let (held, body) = (bounds.held_bytes, bounds.body_bytes);
            let place = Place { pointer: "/held_bytes".to_owned(), ..Place::file("server.json") };
            let message =
                format!("is less than body_bytes ({held} < {body}): the largest bodies would never have room");
            report
                .error(&place, message)
                .hint("make held_bytes larger, or body_bytes smaller; either may be a variable");
        }
        bounds
    }
}

impl Bound {
    /// Times may have parts; what is counted has none.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.key.ends_with("_seconds")
    }

    fn takes(&self, number: f64) -> bool {
        (self.least..=self.most).contains(&number) && (!self.is_whole() || number.fract() == 0.0)
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::config::schema;

    fn read(file: &str, vars: &[(&str, &str)]) -> Result<Bounds, String> {
        let mut report = Report::default();
        let schema = schema::Schema::compile(schema::SERVER).unwrap();
        let file: Option<ServerFile> = schema.read(file, &Place::file("server.json"), &mut report);
        let bounds = Bounds::new(file.as_ref(), &Env::of(vars.iter().copied()), &mut report);
        let found = report.sorted();
        if found.is_empty() { Ok(bounds) } else { Err(found.iter().map(|d| format!("{d}\n")).collect()) }
    }

    #[test]
    fn what_is_said_last_holds() {
        assert_eq!(read("{}", &[]).unwrap(), Bounds::default(), "nothing is said");
        let bounds = read(r#"{"$schema":"x","head_seconds":0.5,"body_bytes":2048}"#, &[]).unwrap();
        assert_eq!((bounds.head, bounds.body_bytes), (Duration::from_millis(500), 2048));
        let bounds =
            read(r#"{"head_seconds":0.5}"#, &[("MODEL_PROXY_HEAD_SECONDS", "3"), ("MODEL_PROXY_H2_STREAMS", "")]);
        assert_eq!(bounds.unwrap().head, Duration::from_secs(3), "the environment wins");
    }

    #[test]
    fn what_does_not_fit_is_told_with_its_place() {
        for (file, vars, said) in [
            (r#"{"head_secconds":1}"#, &[][..], "server.json:/head_secconds: "),
            (r#"{"head_secconds":1}"#, &[], "did you mean \"head_seconds\"?"),
            (
                r#"{"body_bytes":"a lot"}"#,
                &[],
                "server.json:/body_bytes: must be a whole number from 1024 to 2147483648, not a string",
            ),
            (r#"{"body_bytes":1.5}"#, &[], "server.json:/body_bytes: "),
            (r#"{"body_bytes":0}"#, &[], "server.json:/body_bytes: "),
            (
                r#"{"h2_streams":1000000000}"#,
                &[],
                "server.json:/h2_streams: must be a whole number from 1 to 100000, not 1000000000",
            ),
            (
                "{}",
                &[("MODEL_PROXY_IDLE_SECONDS", "soon")],
                "environment:MODEL_PROXY_IDLE_SECONDS: must be a number from 0.01 to 86400, not \"soon\"",
            ),
            ("{}", &[("MODEL_PROXY_CONNECTIONS", "-1")], "must be a whole number from 1 to 1000000, not \"-1\""),
            ("{}", &[("MODEL_PROXY_CONNECTIONS", "2.5")], "must be a whole number"),
            (r#"{"held_bytes":1048576}"#, &[], "server.json:/held_bytes: is less than body_bytes (1048576 < 33554432)"),
            ("{}", &[("MODEL_PROXY_CONNECTIONS", "NaN")], "must be a whole number"),
        ] {
            let found = read(file, vars).unwrap_err();
            assert!(found.contains(said), "{file} {vars:?}: {found}");
        }
    }

    /// The schema's text: made from the table, and kept beside the others for editors.
    fn schema_text() -> String {
        let mut text = String::from(
            r#"{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "$id": "urn:model-proxy:schema:server",
  "title": "Server",
  "description": "What the server bears of its clients, and keeps of its upstreams: config/server.json, read at the start. Every key has a variable, MODEL_PROXY_ and its name in capitals, that wins over it. Keys that begin with x- or _ are free for notes.",
  "type": "object",
  "examples": [{"body_bytes": 67108864, "requests_in_flight": 256}],
  "properties": {
    "$schema": {"title": "Schema", "description": "Where this schema is, for editors.", "type": ["string", "null"]}"#,
        );
        for bound in BOUNDS {
            let Bound { key, default, least, most, help, .. } = bound;
            let kind = if bound.is_whole() { "integer" } else { "number" };
            let (mut title, rest) = (key.replace('_', " "), help.replace('"', "\\\""));
            title.get_mut(..1).unwrap().make_ascii_uppercase();
            let _ = write!(
                text,
                ",\n    \"{key}\": {{\n      \"title\": \"{title}\",\n      \"description\": \"{rest}\",\n      \"type\": \"{kind}\",\n      \"minimum\": {least},\n      \"maximum\": {most},\n      \"default\": {default}\n    }}"
            );
        }
        text.push_str("\n  },\n  \"patternProperties\": {\"^(x-|_)\": {}},\n  \"additionalProperties\": false\n}\n");
        text
    }

    /// The table for people: `docs/SERVER.md`.
    fn page() -> String {
        let mut text = String::from(
            "# The server's own limits\n\nEach may be set in `config/server.json` or by its variable, which wins; both are read at the start. \
             `config validate` checks the file. Made from `src/config/bounds.rs`.\n\n| key | variable | default | |\n|---|---|---:|---|\n",
        );
        for Bound { key, var, default, help, .. } in BOUNDS {
            let _ = writeln!(text, "| `{key}` | `{var}` | {default} | {help} |");
        }
        text
    }

    /// The shipped file: everything, as it is by itself.
    fn shipped() -> String {
        let mut text = String::from("{\n  \"$schema\": \"../schemas/server.schema.json\"");
        for Bound { key, default, .. } in BOUNDS {
            let _ = write!(text, ",\n  \"{key}\": {default}");
        }
        text.push_str("\n}\n");
        text
    }

    #[test]
    fn schema_page_and_shipped_file_are_made_from_the_table() {
        for (name, text) in [
            ("schemas/server.schema.json", schema_text()),
            ("docs/SERVER.md", page()),
            ("config/server.json", shipped()),
        ] {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
            #[expect(clippy::disallowed_methods, reason = "asked of whoever runs the test")]
            if std::env::var_os("MODEL_PROXY_BLESS").is_some() {
                std::fs::write(&path, &text).unwrap();
            }
            let kept = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(kept == text, "{name}: make it with MODEL_PROXY_BLESS=1 cargo test --lib made_from_the_table");
        }
        assert_eq!(read(&shipped(), &[]).unwrap(), Bounds::default(), "the shipped file changes nothing");
    }

    #[test]
    fn every_default_is_within_its_range_and_every_variable_is_the_keys() {
        for bound in BOUNDS {
            assert!(bound.takes(bound.default), "{}", bound.key);
            let name = bound.var.strip_prefix("MODEL_PROXY_").unwrap().to_lowercase();
            assert_eq!(name, bound.key, "one name");
        }
    }
}
