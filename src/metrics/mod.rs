//! What an operator counts: every metric there is in one table, counted where it happens and written when somebody asks.
//!
//! Each worker has [`Metrics`] of its own, so no two wait for each other; they are added together when they are read. What
//! is known is one row for each (model, provider, format, stream, status) that has been: labels are names of the
//! configuration, and there is a bound on rows, so that nobody can make them many.

mod histogram;
mod text;

pub use text::{Scraped, render};

use std::sync::Arc;

use ahash::AHashMap;
use parking_lot::Mutex;

use crate::metrics::histogram::{Histogram, LATENCY, OVERHEAD};

/// One metric.
#[derive(Debug)]
pub struct Metric {
    /// Without the prefix.
    pub name: &'static str,
    pub kind: Kind,
    /// In the order they are written.
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// What every name begins with.
pub const PREFIX: &str = "model_proxy_";

/// Every metric there is. `docs/METRICS.md` is made from it.
pub const METRICS: &[Metric] = &[
    gauge("build_info", &["version"], "1, with the version that runs"),
    gauge("config_info", &["hash"], "1, with the hash of the configuration in force"),
    counter("config_reloads_total", &["result"], "times the configuration was read again: ok or failed"),
    gauge(
        "config_last_reload_timestamp_seconds",
        &[],
        "when the configuration in force was read, in seconds since 1970",
    ),
    counter(
        "requests_total",
        &["model", "provider", "format", "stream", "status"],
        "requests that were let in, by the status the client was given; 0 if it left before; model other where there is none of the name; provider of the last attempt, empty without one",
    ),
    histogram(
        "request_duration_seconds",
        &["model", "provider"],
        "from a request's body being here to the end of its answer",
    ),
    histogram(
        "time_to_first_token_seconds",
        &["model", "provider"],
        "from a request's body being here to its first output",
    ),
    histogram(
        "overhead_seconds",
        &[],
        "the proxy's own part of the time to the first output: what is left of it without waiting for upstreams",
    ),
    counter(
        "upstream_attempts_total",
        &["provider", "key_slot", "outcome"],
        "attempts by how they ended; key_slot is the variable the key came from",
    ),
    counter(
        "fallbacks_total",
        &["from", "to", "reason"],
        "times another provider was tried, by how the attempt before ended",
    ),
    counter(
        "tokens_total",
        &["model", "provider", "type"],
        "tokens as upstreams count them: input (without those of caches), output, cache_read, cache_write, reasoning (part of output)",
    ),
    counter("streams_broken_total", &["model", "provider"], "streams that broke after their first output"),
    counter("client_disconnects_total", &["model", "provider"], "requests whose client left before their end"),
    counter("lossy_requests_total", &["model", "provider"], "requests that lost something in conversion"),
    counter("rate_limited_total", &["client", "kind"], "requests refused by our own limits"),
    counter("refused_total", &["status"], "requests refused at the door, before any model was asked for"),
    counter(
        "label_sets_folded_total",
        &[],
        "what was counted under the name other because there were too many label sets",
    ),
    gauge("key_cooldown", &["provider", "key_slot"], "1 while a key rests"),
    gauge("key_ready_in_seconds", &["provider", "key_slot"], "until a key is tried again; 0 while it is ready"),
    gauge("in_flight_requests", &[], "requests under way"),
    gauge("held_bytes", &[], "bytes of bodies held"),
    gauge("open_connections", &[], "connections of clients"),
    counter(
        "log_dropped_total",
        &[],
        "lines of the log that were left out because it could not be written fast enough",
    ),
    gauge("log_queue_depth", &[], "lines of the log that wait to be written"),
    counter("journal_rows_total", &[], "requests that were written to the journal"),
    counter("journal_dropped_total", &[], "requests that could not be written to the journal in time"),
    gauge("journal_queue_depth", &[], "requests that wait to be written to the journal"),
    gauge("journal_failing", &[], "1 while the journal cannot be written"),
    gauge("process_resident_memory_bytes", &[], "memory the process holds"),
    counter("process_cpu_seconds_total", &[], "CPU time the process has used"),
    gauge("process_open_fds", &[], "descriptors the process has open"),
    gauge("process_max_fds", &[], "descriptors the process may have open"),
    gauge("process_start_time_seconds", &[], "when the process started, in seconds since 1970"),
];

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, labels, help }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, labels, help }
}

const fn histogram(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Histogram, labels, help }
}

/// One request, when it is over.
#[derive(Clone, Debug, Default)]
pub struct Seen<'s> {
    /// The logical model, or the wildcard it was found by; `None` if there is none of that name.
    pub model: Option<&'s str>,
    /// Of the last attempt.
    pub provider: &'s str,
    pub format: &'static str,
    pub stream: bool,
    pub status: u16,
    pub total_us: u64,
    pub first_output_us: Option<u64>,
    /// As much of the time to the first output as was spent waiting for upstreams.
    pub upstream_us: u64,
    /// Input, output, cache read, cache write, reasoning.
    pub tokens: [u64; 5],
    pub broken: bool,
    pub client_left: bool,
    pub lossy: bool,
    /// The client that met a limit of ours, and which.
    pub limited: Option<(&'s str, &'static str)>,
}

/// One attempt: where, with which key, and how it ended.
#[derive(Clone, Copy, Debug)]
pub struct Try<'s> {
    pub provider: &'s str,
    pub key_slot: &'s str,
    pub outcome: &'static str,
}

/// What one worker has counted.
#[derive(Debug, Default)]
pub struct Metrics(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    names: Names,
    rows: AHashMap<RowKey, Row>,
    attempts: AHashMap<(Name, Name, &'static str), u64>,
    fallbacks: AHashMap<(Name, Name, &'static str), u64>,
    limited: AHashMap<(Name, &'static str), u64>,
    refused: AHashMap<u16, u64>,
    folded: u64,
}

/// A name as a number: a label set is then a few bytes.
type Name = u16;

#[derive(Debug, Default)]
struct Names {
    known: AHashMap<Box<str>, Name>,
    all: Vec<Box<str>>,
}

impl Names {
    /// The number of a name; `None` if there are too many already.
    fn of(&mut self, name: &str) -> Option<Name> {
        if let Some(known) = self.known.get(name) {
            return Some(*known);
        }
        let number = Name::try_from(self.all.len()).ok().filter(|n| usize::from(*n) < NAMES_MAX)?;
        self.known.insert(name.into(), number);
        self.all.push(name.into());
        Some(number)
    }

    fn text(&self, name: Name) -> &str {
        self.all.get(usize::from(name)).map_or(OTHER, |name| name)
    }
}

/// What stands for models that are too many to be told apart.
const OTHER: &str = "other";

/// Names of models, providers, keys and clients. They come from the configuration, which may be another after a reload.
const NAMES_MAX: usize = 4096;

/// Label sets of requests: as many as a large configuration has, and a bound on memory (600 bytes each).
const ROWS_MAX: usize = 4096;

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct RowKey {
    model: Name,
    provider: Name,
    format: &'static str,
    stream: bool,
    status: u16,
}

#[derive(Clone, Debug)]
struct Row {
    requests: u64,
    duration: Histogram,
    first_output: Histogram,
    overhead: Histogram,
    tokens: [u64; 5],
    broken: u64,
    client_left: u64,
    lossy: u64,
}

impl Default for Row {
    fn default() -> Self {
        let (duration, first_output, overhead) =
            (Histogram::new(LATENCY), Histogram::new(LATENCY), Histogram::new(OVERHEAD));
        Self { requests: 0, duration, first_output, overhead, tokens: [0; 5], broken: 0, client_left: 0, lossy: 0 }
    }
}

impl Metrics {
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Counts a request that is over, and its attempts in order.
    pub fn observe<'s>(&self, seen: &Seen<'s>, tries: impl Iterator<Item = Try<'s>>) {
        let counted = &mut *self.0.lock();
        counted.row(seen).add(seen);
        let mut before: Option<Try<'_>> = None;
        for one in tries {
            counted.attempt(one, before);
            before = Some(one);
        }
        if let Some((client, kind)) = seen.limited {
            counted.limit(client, kind);
        }
    }

    /// Counts a request that was turned away at the door.
    pub fn refused(&self, status: u16, limited: Option<(&str, &'static str)>) {
        let counted = &mut *self.0.lock();
        *counted.refused.entry(status).or_default() += 1;
        if let Some((client, kind)) = limited {
            counted.limit(client, kind);
        }
    }
}

impl Counted {
    fn row(&mut self, seen: &Seen<'_>) -> &mut Row {
        let Seen { model, provider, format, stream, status, .. } = *seen;
        let names = self.names.of(model.unwrap_or(OTHER)).zip(self.names.of(provider));
        let key = names.map(|(model, provider)| RowKey { model, provider, format, stream, status });
        let key = key.filter(|key| self.rows.len() < ROWS_MAX || self.rows.contains_key(key));
        let key = key.unwrap_or_else(|| {
            self.folded += 1;
            RowKey { model: Name::MAX, provider: Name::MAX, format, stream, status }
        });
        self.rows.entry(key).or_default()
    }

    /// The number of a name, or what stands for those that are too many.
    fn name(&mut self, name: &str) -> Name {
        self.names.of(name).unwrap_or_else(|| {
            self.folded += 1;
            Name::MAX
        })
    }

    fn attempt(&mut self, one: Try<'_>, before: Option<Try<'_>>) {
        let Try { provider, key_slot, outcome } = one;
        let (to, slot) = (self.name(provider), self.name(key_slot));
        *self.attempts.entry((to, slot, outcome)).or_default() += 1;
        if let Some(before) = before.filter(|before| before.provider != provider) {
            let from = self.name(before.provider);
            *self.fallbacks.entry((from, to, before.outcome)).or_default() += 1;
        }
    }

    fn limit(&mut self, client: &str, kind: &'static str) {
        let client = self.name(client);
        *self.limited.entry((client, kind)).or_default() += 1;
    }
}

impl Row {
    fn add(&mut self, seen: &Seen<'_>) {
        self.requests += 1;
        self.duration.add(seen.total_us);
        if let Some(first) = seen.first_output_us {
            self.first_output.add(first);
            self.overhead.add(first.saturating_sub(seen.upstream_us));
        }
        for (total, more) in self.tokens.iter_mut().zip(seen.tokens) {
            *total = total.saturating_add(more);
        }
        self.broken += u64::from(seen.broken);
        self.client_left += u64::from(seen.client_left);
        self.lossy += u64::from(seen.lossy);
    }

    fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.duration.merge(&other.duration);
        self.first_output.merge(&other.first_output);
        self.overhead.merge(&other.overhead);
        for (total, more) in self.tokens.iter_mut().zip(other.tokens) {
            *total = total.saturating_add(more);
        }
        self.broken += other.broken;
        self.client_left += other.client_left;
        self.lossy += other.lossy;
    }
}

#[cfg(test)]
mod tests;
