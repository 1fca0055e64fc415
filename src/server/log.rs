//! What the server says on stderr: one line per request, and why attempts failed. No prompts, no secrets.
//!
//! A line is written whole and its failure ignored: a closed pipe must not stop a request.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;

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
    pub fn parse(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        Self::NAMES.iter().find(|(n, _)| *n == name).map(|(_, level)| *level)
    }
}

/// Takes the record of every request and writes its line, if its outcome is worth one at this level.
pub(super) fn recorder(level: LogLevel) -> Recorder {
    Arc::new(move |record: &Record| {
        let at = match (&record.ended, record.status) {
            (Ended::Broken(_), _) | (_, 500..) => LogLevel::Error,
            (_, 400..) => LogLevel::Warn,
            _ if !record.failures.is_empty() => LogLevel::Warn,
            _ => LogLevel::Info,
        };
        if at <= level {
            say(at, &line(record));
        }
    })
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
            let _ = write!(line, " broken={}", quoted(why));
        }
        Ended::ClientGone => line.push_str(" client_gone"),
    }
    for failure in &record.failures {
        let _ = write!(line, " failed={}", quoted(failure));
    }
    line
}

/// In double quotes, in which an apostrophe needs no escape.
fn quoted(text: &str) -> String {
    format!("{text:?}")
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
    let word = match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
    };
    let line = format!("{} {word} {text}\n", Rfc3339(Clock::unix_seconds()));
    drop(std::io::stderr().write_all(line.as_bytes()));
}
