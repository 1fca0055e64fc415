//! What the server says on stderr: one line per request, and why attempts failed. No prompts, no secrets.
//!
//! A line is written whole and its failure ignored: a closed pipe must not stop a request.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use parking_lot::Mutex;

use crate::gateway::{Ended, Record, Recorder};
use crate::time::{Clock, Rfc3339};

/// What is worth a line.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
}

impl LogLevel {
    /// The names that are taken; the seed's `trace`, `critical` and `warning` too.
    pub const NAMES: [(&'static str, Self); 7] = [
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("critical", Self::Error),
        ("warning", Self::Warn),
        ("trace", Self::Debug),
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }

    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        Self::NAMES.iter().find(|(n, _)| *n == name).map(|(_, level)| *level)
    }
}

/// Requests whose lines wait to be written, at most; beyond that they are counted instead (LIMITS section 3).
const WAITING_MAX: usize = 10_000;

/// How long lines are gathered before they are written together: the eye does not notice, and a busy worker is not
/// made to wake the writer for each.
const GATHER: Duration = Duration::from_millis(20);

/// The log's own thread, and what waits for it. A request's line costs the worker a push.
#[derive(Debug)]
pub(super) struct Log {
    level: LogLevel,
    waiting: Arc<Waiting>,
    writer: Thread,
}

#[derive(Debug, Default)]
struct Waiting {
    records: Mutex<Vec<(LogLevel, Box<Record>)>>,
    left_out: AtomicU64,
}

impl Log {
    /// Starts the writer.
    pub(super) fn start(level: LogLevel) -> io::Result<Self> {
        let waiting = Arc::new(Waiting::default());
        let shared = Arc::clone(&waiting);
        let thread = thread::Builder::new().name("log".to_owned()).spawn(move || {
            loop {
                thread::park();
                thread::sleep(GATHER);
                shared.write();
            }
        })?;
        Ok(Self { level, waiting, writer: thread.thread().clone() })
    }

    /// Takes the record of every request and queues its line, if its outcome is worth one at this level.
    pub(super) fn recorder(&self) -> Recorder {
        let (level, waiting, writer) = (self.level, Arc::clone(&self.waiting), self.writer.clone());
        Arc::new(move |record: Box<Record>| {
            let at = match (&record.ended, record.status) {
                (Ended::Broken(_), _) | (_, 500..) => LogLevel::Error,
                (_, 400..) => LogLevel::Warn,
                _ if !record.failures.is_empty() => LogLevel::Warn,
                _ => LogLevel::Info,
            };
            if level < at {
                return;
            }
            let mut records = waiting.records.lock();
            if WAITING_MAX <= records.len() {
                waiting.left_out.fetch_add(1, Ordering::Relaxed);
                return;
            }
            records.push((at, record));
            let is_first = records.len() == 1;
            drop(records);
            if is_first {
                writer.unpark();
            }
        })
    }

    /// Writes what waits now: before the process ends.
    pub(super) fn flush(&self) {
        self.waiting.write();
    }
}

impl Waiting {
    fn write(&self) {
        let records = std::mem::take(&mut *self.records.lock());
        let mut text = String::with_capacity(records.len() * 256);
        // Lines wait for the blink of an eye: one reading of the clock does for all of them.
        let time = Rfc3339(Clock::unix_seconds()).to_string();
        for (level, record) in &records {
            for word in [&time, " ", level.as_str(), " "] {
                text.push_str(word);
            }
            line(record, &mut text);
            text.push('\n');
        }
        let left_out = self.left_out.swap(0, Ordering::Relaxed);
        if 0 < left_out {
            let _ = writeln!(text, "{time} warn {left_out} lines were left out");
        }
        if !text.is_empty() {
            drop(io::stderr().write_all(text.as_bytes()));
        }
    }
}

/// Appends a request's line. Every request has one, so numbers are spelled by hand: the standard formatting of one line
/// cost as much as a tenth of a request.
fn line(record: &Record, out: &mut String) {
    let mut word = |name: &str, value: &str| {
        out.push_str(name);
        out.push_str(value);
    };
    word(record.id.as_str(), " ");
    word(record.format.as_str(), "");
    let plain = record.model.bytes().take(100).all(|b| b.is_ascii_graphic());
    if plain {
        word(" model=", record.model.get(..100).unwrap_or(&record.model));
    } else {
        word(
            " model=",
            &record.model.chars().take(100).flat_map(char::escape_default).collect::<String>().replace(' ', "\\x20"),
        );
    }
    word(" route=", if record.route.is_empty() { "-" } else { &record.route });
    number(" attempts=", u64::from(record.attempts), out);
    number(" status=", u64::from(record.status), out);
    out.push_str(if record.stream { " stream=true" } else { " stream=false" });
    millis(" total_ms=", record.total_us, out);
    if let Some(us) = record.first_output_us {
        millis(" first_output_ms=", us, out);
    }
    if !record.usage.is_empty() {
        number(" input_tokens=", record.usage.input_total(), out);
        number(" output_tokens=", record.usage.output.unwrap_or(0), out);
    }
    if let Some(tokens) = record.counted {
        number(" counted=", tokens, out);
    }
    if !record.dropped.is_empty() {
        quoted(" dropped=", &record.dropped, out);
    }
    match &record.ended {
        Ended::Complete => {}
        Ended::Broken(why) => quoted(" broken=", why, out),
        Ended::ClientGone => out.push_str(" client_gone"),
    }
    for failure in &record.failures {
        quoted(" failed=", failure, out);
    }
}

fn quoted(name: &str, text: &str, out: &mut String) {
    let text = text.escape_debug().to_string().replace("\\'", "'");
    out.push_str(name);
    out.push('"');
    out.push_str(&text);
    out.push('"');
}

fn number(name: &str, n: u64, out: &mut String) {
    out.push_str(name);
    let digit = |n: u64| char::from(b'0' + u8::try_from(n % 10).unwrap_or(0));
    let mut unit = 1;
    while unit <= n / 10 {
        unit *= 10;
    }
    while 0 < unit {
        out.push(digit(n / unit));
        unit /= 10;
    }
}

/// Microseconds as milliseconds, to a tenth.
fn millis(name: &str, us: u64, out: &mut String) {
    number(name, us / 1000, out);
    number(".", us / 100 % 10, out);
}

pub(super) fn info(text: &str) {
    say(LogLevel::Info, text);
}

pub(super) fn error(text: &str) {
    say(LogLevel::Error, text);
}

fn say(level: LogLevel, text: &str) {
    let line = format!("{} {} {text}\n", Rfc3339(Clock::unix_seconds()), level.as_str());
    drop(io::stderr().write_all(line.as_bytes()));
}
