//! What the server says on stderr: one line per request, and why attempts failed. No prompts, no secrets. `log_line.rs` spells it.
//!
//! A line is written whole and its failure ignored: a closed pipe must not stop a request. Nor may one that nobody reads: once
//! the log has been started, all that is said waits for its thread, within bounds, and what is beyond them is counted.

use std::io::{self, Write as _};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::Duration;

use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::gateway::{Ended, Record, Recorder};
use crate::journal::{self, Journal, Part, Row};
use crate::metrics::{Metrics, Seen, Try};
use crate::route::table::Model;
use crate::secret::Secret;
use crate::server::log_line::{self, LogFormat};
use crate::time::{Clock, Rfc3339};
use crate::wire::event::Usage;

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

/// Lines that wait to be written, at most, and their bytes; beyond that they are counted instead (LIMITS section 3).
const WAITING_MAX: usize = 10_000;
const WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How long lines are gathered before they are written together: the eye does not notice, and a busy worker is not
/// made to wake the writer for each.
const GATHER: Duration = Duration::from_millis(20);

/// Room that is kept for lines between two writings: what a burst has needed beyond it is given back.
const KEPT_BYTES_MAX: usize = 1024 * 1024;

/// How long the end waits for the last lines to be taken: who does not read them must not keep a process from ending.
const FLUSH_MAX: Duration = Duration::from_secs(1);

/// The log. A request's line is spelled on its worker, whose memory it is about: what one thread makes and another drops costs
/// both of them the slow ways of the allocator.
#[derive(Clone, Copy, Debug)]
pub(super) struct Log {
    level: LogLevel,
    sink: &'static Sink,
}

/// Whose bodies are kept in the journal.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LogBodies {
    #[default]
    Off,
    /// Of what failed or broke.
    Errors,
    All,
}

impl LogBodies {
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "off" => Some(Self::Off),
            "errors" => Some(Self::Errors),
            "all" => Some(Self::All),
            _ => None,
        }
    }
}

/// The log's own thread, and what waits for it. There is one, as there is one stderr.
#[derive(Debug)]
struct Sink {
    waiting: Arc<Waiting>,
    writer: Thread,
    format: LogFormat,
}

static SINK: OnceLock<Sink> = OnceLock::new();

#[derive(Debug, Default)]
struct Waiting {
    lines: Mutex<Lines>,
    /// What the writer has written, to be filled again.
    spare: Mutex<String>,
}

#[derive(Debug, Default)]
struct Lines {
    text: String,
    count: usize,
    left_out: u64,
    /// Those since the start.
    left_out_in_all: u64,
    /// The second that was last spelled, and how.
    time: (u64, String),
}

impl Log {
    /// Starts the writer, unless it runs already.
    pub(super) fn start(level: LogLevel, format: LogFormat) -> io::Result<Self> {
        if let Some(sink) = SINK.get() {
            return Ok(Self { level, sink });
        }
        let waiting = Arc::new(Waiting::default());
        let shared = Arc::clone(&waiting);
        let thread = thread::Builder::new().name("log".to_owned()).spawn(move || {
            loop {
                thread::park();
                thread::sleep(GATHER);
                shared.write();
            }
        })?;
        let writer = thread.thread().clone();
        Ok(Self { level, sink: SINK.get_or_init(|| Sink { waiting, writer, format }) })
    }

    /// Lines that wait to be written.
    pub(super) fn lines_waiting(&self) -> usize {
        self.sink.waiting.lines.lock().count
    }

    /// Lines that could not be written, since the start.
    pub(super) fn lines_left_out(&self) -> u64 {
        self.sink.waiting.lines.lock().left_out_in_all
    }

    /// Takes the record of every request: counts it, and queues its line if its outcome is worth one at this level.
    pub(super) fn recorder(&self, metrics: Arc<Metrics>, journal: Option<Arc<Journal>>, bodies: LogBodies) -> Recorder {
        let Self { level, sink } = *self;
        Arc::new(move |record: Box<Record>| {
            observe(&record, &metrics);
            if let Some(journal) = &journal {
                keep(&record, journal, bodies);
            }
            let at = match (&record.ended, record.status) {
                (Ended::Broken(_), _) | (_, 500..) => LogLevel::Error,
                (_, 400..) => LogLevel::Warn,
                _ if record.tries.iter().any(|tried| !tried.why.is_empty()) => LogLevel::Warn,
                _ => LogLevel::Info,
            };
            if level < at {
                return;
            }
            let spell = |time: &str, out: &mut String| log_line::request(sink.format, (time, at), &record, out);
            let is_first = sink.waiting.lines.lock().add(spell);
            if is_first {
                sink.writer.unpark();
            }
        })
    }
}

/// Waits until all that was said is written, if it is taken: before the process ends.
pub(super) fn flush() {
    let Some(Sink { waiting, writer, .. }) = SINK.get() else {
        return;
    };
    let is_written = || waiting.lines.lock().count == 0 && waiting.spare.try_lock().is_some();
    for _ in 0..FLUSH_LOOKS_MAX {
        if is_written() {
            return;
        }
        writer.unpark();
        thread::sleep(FLUSH_MAX / FLUSH_LOOKS_MAX);
    }
}

/// How often it is looked meanwhile whether they are.
const FLUSH_LOOKS_MAX: u32 = 500;

/// Counts a request.
fn observe(record: &Record, metrics: &Metrics) {
    let Usage { input, output, cache_read, cache_write, reasoning, .. } = record.usage;
    let last = record.tries.last();
    let seen = Seen {
        model: record.found.as_ref().map(|model| &*model.name),
        provider: last.map_or("", |tried| &*tried.provider.name),
        format: record.format.as_str(),
        stream: record.stream,
        // Whoever left before was told nothing.
        status: record.status,
        total_us: record.total_us,
        first_output_us: record.first_output_us.filter(|_| !record.tries.is_empty()),
        upstream_us: record.upstream_us,
        tokens: [input, output, cache_read, cache_write, reasoning].map(Option::unwrap_or_default),
        broken: matches!(record.ended, Ended::Broken(_)),
        client_left: record.ended == Ended::ClientClosed,
        lossy: !record.dropped.is_empty(),
        limited: record.limited.map(|kind| (&*record.client, kind)),
    };
    let tries = record.tries.iter().map(|tried| Try {
        provider: &tried.provider.name,
        key_slot: &tried.key.name,
        outcome: tried.outcome,
    });
    metrics.observe(&seen, tries);
}

/// Puts a request into the journal.
fn keep(record: &Record, journal: &Journal, bodies: LogBodies) {
    let last_why = || record.tries.last().map_or("", |tried| &*tried.why);
    let (ended, error) = match &record.ended {
        Ended::Complete if !record.untried.is_empty() => ("complete", record.untried.as_str()),
        Ended::Complete => ("complete", last_why()),
        Ended::Broken(why) => ("broken", why.as_str()),
        Ended::ClientClosed => ("client_closed", last_why()),
    };
    let is_error = 400 <= record.status || matches!(record.ended, Ended::Broken(_));
    let is_wanted = bodies == LogBodies::All || bodies == LogBodies::Errors && is_error;
    let bodies = record.bodies.as_ref().filter(|_| is_wanted).map(|bodies| bodies.texts());
    // What passes is known by its pattern: paths have ids in them, and there is no end of those.
    let passed = |model: &Arc<Model>| {
        model.routes.iter().find_map(|route| route.passes(&record.path)).map(|(passed, _)| passed.path.clone())
    };
    let path = record.found.as_ref().filter(|_| !record.path.is_empty()).and_then(passed);
    let row = Row {
        id: record.id.as_str(),
        at_ms: Clock::unix_millis().saturating_sub(record.total_us / 1000),
        client: &record.client,
        format: record.format.as_str(),
        path: path.as_deref().unwrap_or(&record.path),
        asked: &record.model,
        model: record.found.as_ref().map_or("", |model| &model.name),
        route: &record.route,
        stream: record.stream,
        status: record.status,
        ended,
        attempts: record.attempts,
        usage: record.usage,
        output_guess: record.output_guess,
        counted: record.counted,
        first_output_us: record.first_output_us.filter(|_| !record.tries.is_empty()),
        total_us: record.total_us,
        waited_us: record.upstream_us,
        dropped: &record.dropped,
        limited: record.limited.unwrap_or_default(),
        error,
        bodies: bodies.as_ref().map(|both| both.each_ref().map(|(text, length)| Part { text, length: *length })),
    };
    let tries = record.tries.iter().map(|tried| journal::Try {
        route: &tried.route,
        key: &tried.key.name,
        fingerprint: tried.key.secret.as_ref().map(Secret::short),
        outcome: tried.outcome,
        status: tried.status,
        begun_us: tried.begun_us,
        took_us: tried.took_us,
        error: &tried.why,
    });
    journal.log(&row, &tries.collect::<SmallVec<[_; 2]>>());
}

impl Lines {
    /// Adds a line; whether it is the first that waits.
    fn add(&mut self, spell: impl FnOnce(&str, &mut String)) -> bool {
        if WAITING_MAX <= self.count || WAITING_BYTES_MAX <= self.text.len() {
            self.left_out += 1;
            self.left_out_in_all += 1;
            return false;
        }
        let seconds = Clock::unix_seconds();
        if self.time.0 != seconds {
            self.time = (seconds, Rfc3339(seconds).to_string());
        }
        spell(&self.time.1, &mut self.text);
        self.count += 1;
        self.count == 1
    }
}

impl Waiting {
    fn write(&self) {
        // Held throughout, so that lines stay in order whoever writes them.
        let mut spare = self.spare.lock();
        let mut text = self.taken(std::mem::take(&mut *spare));
        if !text.is_empty() {
            drop(io::stderr().write_all(text.as_bytes()));
        }
        text.clear();
        text.shrink_to(KEPT_BYTES_MAX);
        *spare = text;
    }

    /// The lines that wait, and how many could not; an empty text is left to be filled.
    fn taken(&self, mut text: String) -> String {
        let mut lines = self.lines.lock();
        std::mem::swap(&mut lines.text, &mut text);
        lines.count = 0;
        let left_out = std::mem::take(&mut lines.left_out);
        drop(lines);
        if 0 < left_out {
            let (time, format) = (Rfc3339(Clock::unix_seconds()).to_string(), SINK.get().map(|sink| sink.format));
            let words = format!("{left_out} lines were left out");
            log_line::said(format.unwrap_or_default(), (&time, LogLevel::Warn), &words, &mut text);
        }
        text
    }
}

pub(super) fn info(text: &str) {
    say(LogLevel::Info, text);
}

pub(super) fn warn(text: &str) {
    say(LogLevel::Warn, text);
}

pub(super) fn error(text: &str) {
    say(LogLevel::Error, text);
}

fn say(level: LogLevel, text: &str) {
    let Some(Sink { waiting, writer, format }) = SINK.get() else {
        drop(io::stderr().write_all(spelled(LogFormat::Human, level, text).as_bytes()));
        return;
    };
    // Not for ever: a panic is told of here, and might have come from here.
    let Some(mut lines) = waiting.lines.try_lock_for(FLUSH_MAX) else {
        return;
    };
    if lines.add(|time, out| log_line::said(*format, (time, level), text, out)) {
        writer.unpark();
    }
}

/// A line as the log would write it, for what is said before there is one.
#[must_use]
pub fn spelled(format: LogFormat, level: LogLevel, text: &str) -> String {
    let mut line = String::new();
    log_line::said(format, (&Rfc3339(Clock::unix_seconds()).to_string(), level), text, &mut line);
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_so_many_waiting_lines_they_are_counted_and_told() {
        let waiting = Waiting::default();
        for n in 0..WAITING_MAX + 3 {
            let is_first = waiting.lines.lock().add(|time, out| {
                log_line::request(LogFormat::Human, (time, LogLevel::Info), &Record::default(), out);
            });
            assert_eq!(is_first, n == 0, "the writer is woken once");
        }
        let text = waiting.taken(String::new());
        assert_eq!(text.lines().count(), WAITING_MAX + 1);
        assert!(text.ends_with(" warn 3 lines were left out\n"), "{:?}", text.lines().last());
        assert_eq!(waiting.taken(String::new()), "", "told once");
        assert!(waiting.lines.lock().add(|_, _| {}), "and it begins anew");
        waiting.taken(String::new());
        waiting.lines.lock().add(|_, out| out.push_str(&"x".repeat(WAITING_BYTES_MAX)));
        waiting.lines.lock().add(|_, out| out.push('y'));
        assert!(!waiting.taken(String::new()).contains('y'), "nor without a bound in bytes");
    }
}
