//! What was counted, in Prometheus' text format (version 0.0.4).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use crate::metrics::histogram::Histogram;
use crate::metrics::{Kind, METRICS, Metric, Metrics, PREFIX, Row};

/// What is looked up when somebody asks: (labels, value) by the metric's name.
#[derive(Debug, Default)]
pub struct Scraped(BTreeMap<&'static str, Vec<(Vec<String>, f64)>>);

impl Scraped {
    /// Says a value of a metric that is not counted but looked up.
    pub fn say(&mut self, name: &'static str, labels: &[&str], value: f64) {
        let labels = labels.iter().map(|&label| label.to_owned()).collect();
        self.0.entry(name).or_default().push((labels, value));
    }
}

/// Writes everything, of all workers together.
#[must_use]
pub fn render(workers: &[Arc<Metrics>], scraped: &Scraped) -> String {
    let all = All::of(workers);
    let mut out = String::new();
    for metric in METRICS {
        let _ = writeln!(out, "# HELP {PREFIX}{} {}", metric.name, metric.help);
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let _ = writeln!(out, "# TYPE {PREFIX}{} {kind}", metric.name);
        match all.histograms(metric.name) {
            Some(histograms) => {
                for (labels, histogram) in &histograms {
                    write_histogram(metric, labels, histogram, &mut out);
                }
            }
            None => {
                for (labels, count) in all.counters(metric.name) {
                    line(metric, "", &labels, None, &count.to_string(), &mut out);
                }
            }
        }
        for (labels, value) in scraped.0.get(metric.name).into_iter().flatten() {
            line(metric, "", labels, None, &value.to_string(), &mut out);
        }
    }
    out
}

type Labels = Vec<String>;

/// Everything of all workers, by names.
#[derive(Default)]
struct All {
    rows: BTreeMap<(String, String, &'static str, bool, u16), Row>,
    attempts: BTreeMap<Labels, u64>,
    fallbacks: BTreeMap<Labels, u64>,
    limited: BTreeMap<Labels, u64>,
    refused: BTreeMap<Labels, u64>,
    folded: u64,
}

impl All {
    fn of(workers: &[Arc<Metrics>]) -> Self {
        let mut all = Self::default();
        for worker in workers {
            let counted = worker.0.lock();
            let name = |name| counted.names.text(name).to_owned();
            for (key, row) in &counted.rows {
                let key = (name(key.model), name(key.provider), key.format, key.stream, key.status);
                all.rows.entry(key).or_default().merge(row);
            }
            for ((provider, slot, outcome), count) in &counted.attempts {
                *all.attempts.entry(vec![name(*provider), name(*slot), (*outcome).to_owned()]).or_default() += count;
            }
            for ((from, to, reason), count) in &counted.fallbacks {
                *all.fallbacks.entry(vec![name(*from), name(*to), (*reason).to_owned()]).or_default() += count;
            }
            for ((client, kind), count) in &counted.limited {
                *all.limited.entry(vec![name(*client), (*kind).to_owned()]).or_default() += count;
            }
            for (status, count) in &counted.refused {
                *all.refused.entry(vec![status.to_string()]).or_default() += count;
            }
            all.folded += counted.folded;
        }
        all
    }

    /// A histogram's series; `None`: it is none.
    fn histograms(&self, name: &str) -> Option<Vec<(Labels, Histogram)>> {
        let pick: fn(&Row) -> &Histogram = match name {
            "request_duration_seconds" => |row| &row.duration,
            "time_to_first_token_seconds" => |row| &row.first_output,
            "overhead_seconds" => |row| &row.overhead,
            _ => return None,
        };
        let mut series: BTreeMap<Labels, Histogram> = BTreeMap::new();
        for ((model, provider, ..), row) in &self.rows {
            let labels = if name == "overhead_seconds" { Vec::new() } else { vec![model.clone(), provider.clone()] };
            let more = pick(row);
            series.entry(labels).and_modify(|sum| sum.merge(more)).or_insert_with(|| more.clone());
        }
        Some(series.into_iter().filter(|(_, histogram)| 0 < histogram.count()).collect())
    }

    /// A counter's series; none of what is looked up.
    fn counters(&self, name: &str) -> Vec<(Labels, u64)> {
        let by_route = |pick: fn(&Row) -> u64| self.by_route(|row| [(None, pick(row))].into_iter());
        match name {
            "requests_total" => {
                let series = self.rows.iter().map(|((model, provider, format, stream, status), row)| {
                    let labels =
                        [model.as_str(), provider, format, if *stream { "true" } else { "false" }, &status.to_string()];
                    (labels.map(str::to_owned).to_vec(), row.requests)
                });
                series.collect()
            }
            "tokens_total" => self.by_route(|row| KINDS.map(Some).into_iter().zip(row.tokens)),
            "streams_broken_total" => by_route(|row| row.broken),
            "client_disconnects_total" => by_route(|row| row.client_left),
            "lossy_requests_total" => by_route(|row| row.lossy),
            "upstream_attempts_total" => self.attempts.clone().into_iter().collect(),
            "fallbacks_total" => self.fallbacks.clone().into_iter().collect(),
            "rate_limited_total" => self.limited.clone().into_iter().collect(),
            "refused_total" => self.refused.clone().into_iter().collect(),
            "label_sets_folded_total" => vec![(Vec::new(), self.folded)],
            _ => Vec::new(),
        }
    }

    /// What each model and provider have of something, where that is anything.
    fn by_route<I>(&self, pick: impl Fn(&Row) -> I) -> Vec<(Labels, u64)>
    where
        I: Iterator<Item = (Option<&'static str>, u64)>,
    {
        let mut series: BTreeMap<Labels, u64> = BTreeMap::new();
        for ((model, provider, ..), row) in &self.rows {
            for (kind, count) in pick(row).filter(|(_, count)| 0 < *count) {
                let labels = [Some(model.as_str()), Some(provider), kind].into_iter().flatten().map(str::to_owned);
                *series.entry(labels.collect()).or_default() += count;
            }
        }
        series.into_iter().collect()
    }
}

/// Kinds of tokens, in the order they are counted in.
const KINDS: [&str; 5] = ["input", "output", "cache_read", "cache_write", "reasoning"];

fn write_histogram(metric: &Metric, labels: &[String], histogram: &Histogram, out: &mut String) {
    for (bound, count) in histogram.cumulated() {
        line(metric, "_bucket", labels, Some(("le", bound)), &count.to_string(), out);
    }
    let us = histogram.sum_us();
    line(metric, "_sum", labels, None, &format!("{}.{:06}", us / 1_000_000, us % 1_000_000), out);
    line(metric, "_count", labels, None, &histogram.count().to_string(), out);
}

fn line(metric: &Metric, suffix: &str, labels: &[String], more: Option<(&str, &str)>, value: &str, out: &mut String) {
    let _ = write!(out, "{PREFIX}{}{suffix}", metric.name);
    let named = metric.labels.iter().copied().zip(labels.iter().map(String::as_str));
    let mut mark = '{';
    for (name, text) in named.chain(more) {
        let _ = write!(out, "{mark}{name}=\"");
        for c in text.chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                c => out.push(c),
            }
        }
        out.push('"');
        mark = ',';
    }
    if mark == ',' {
        out.push('}');
    }
    let _ = writeln!(out, " {value}");
}
