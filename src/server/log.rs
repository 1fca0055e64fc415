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
    records: Mutex<Vec<(LogLevel, u64, Record)>>,
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
        Arc::new(move |record: Record| {
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
            records.push((at, Clock::unix_seconds(), record));
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
        let mut text = String::new();
        for (level, seconds, record) in &records {
            let _ = writeln!(text, "{} {} {}", Rfc3339(*seconds), level.as_str(), line(record));
        }
        let left_out = self.left_out.swap(0, Ordering::Relaxed);
        if 0 < left_out {
            let _ = writeln!(text, "{} warn {left_out} lines were left out", Rfc3339(Clock::unix_seconds()));
        }
        if !text.is_empty() {
            drop(io::stderr().write_all(text.as_bytes()));
        }
    }
}

fn line(record: &Record) -> String {
    let model: String = record.model.chars().take(100).flat_map(char::escape_default).collect();
    let mut line = format!(
        "{} {} model={model} route={} attempts={} status={} stream={} total_ms={:.1}",
        record.id.as_str(),
        record.format,
        if record.route.is_empty() { "-" } else { &record.route },
        record.attempts,
        record.status,
        record.stream,
        thousandth(record.total_us),
    );
    if let Some(us) = record.first_output_us {
        let _ = write!(line, " first_output_ms={:.1}", thousandth(us));
    }
    let usage = &record.usage;
    if !usage.is_empty() {
        let _ = write!(line, " input_tokens={} output_tokens={}", usage.input_total(), usage.output.unwrap_or(0));
    }
    if 0 < record.losses {
        let _ = write!(line, " dropped={}", record.losses);
    }
    match &record.ended {
        Ended::Complete => {}
        Ended::Broken(why) => {
            let _ = write!(line, " broken=\"{}\"", why.escape_debug());
        }
        Ended::ClientGone => line.push_str(" client_gone"),
    }
    for failure in &record.failures {
        let _ = write!(line, " failed=\"{}\"", failure.escape_debug());
    }
    line
}

#[expect(clippy::cast_precision_loss, reason = "shown to a tenth of a millisecond")]
fn thousandth(us: u64) -> f64 {
    us as f64 / 1000.0
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
