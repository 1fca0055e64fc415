//! What is written is what was counted, as Prometheus reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::*;

fn seen<'s>(model: &'s str, provider: &'s str, status: u16) -> Seen<'s> {
    Seen {
        model: Some(model),
        provider,
        format: "anthropic",
        status,
        total_us: 12_000,
        first_output_us: Some(6_000),
        upstream_us: 5_940,
        ..Seen::default()
    }
}

fn one<'s>(provider: &'s str, key_slot: &'s str, outcome: &'static str) -> Try<'s> {
    Try { provider, key_slot, outcome }
}

/// Reads the text as strictly as the format is described: every sample under its own TYPE, none twice, labels as the table has
/// them, buckets that only grow. Gives the samples.
fn read(text: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    let mut known = BTreeSet::new();
    let mut current: Option<(&Metric, BTreeMap<String, f64>)> = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            let metric = METRICS.iter().find(|m| name == format!("{PREFIX}{}", m.name)).unwrap();
            assert!(known.insert(name) && !help.is_empty(), "{name} twice");
            current = Some((metric, BTreeMap::new()));
            continue;
        }
        let (metric, buckets) = current.as_mut().unwrap();
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let kind = format!("{:?}", metric.kind).to_lowercase();
            assert_eq!(rest, format!("{PREFIX}{} {kind}", metric.name));
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let suffix = name.strip_prefix(&format!("{PREFIX}{}", metric.name)).unwrap();
        let allowed: &[&str] = if metric.kind == Kind::Histogram { &["_bucket", "_sum", "_count"] } else { &[""] };
        assert!(allowed.contains(&suffix), "{line}");
        let names: Vec<&str> =
            labels.trim_end_matches('}').split("\",").filter_map(|l| Some(l.split_once('=')?.0)).collect();
        let own: Vec<&str> = metric.labels.iter().copied().chain((suffix == "_bucket").then_some("le")).collect();
        assert_eq!(names, own, "{line}");
        if suffix == "_bucket" {
            let row = labels.split("le=").next().unwrap().to_owned();
            let last = buckets.insert(row, value).unwrap_or(0.0);
            assert!(last <= value, "{line}: buckets only grow");
        }
        assert!(samples.insert(series.to_owned(), value).is_none(), "{line} twice");
    }
    assert_eq!(known.len(), METRICS.len(), "every metric is told of");
    samples
}

#[test]
fn all_workers_are_added_together() {
    let (a, b) = (Metrics::new(), Metrics::new());
    let full = Seen { stream: true, tokens: [9, 4, 3, 2, 1], broken: true, lossy: true, ..seen("m", "p", 200) };
    a.observe(&full, [one("q", "Q_1", "rate_limited"), one("q", "Q_2", "timeout"), one("p", "P", "ok")].into_iter());
    b.observe(&full, [one("p", "P", "ok")].into_iter());
    b.observe(&Seen { client_left: true, first_output_us: None, ..seen("m", "p", 0) }, [].into_iter());
    b.observe(&Seen { limited: Some(("ci", "requests_per_minute")), ..seen("", "", 429) }, [].into_iter());
    a.refused(401, None);
    b.refused(429, Some(("ci", "requests_per_minute")));
    let mut scraped = Scraped::default();
    scraped.say("build_info", &["0.1"], 1.0);
    scraped.say("process_cpu_seconds_total", &[], 1.25);
    let text = render(&[a, b], &scraped);
    let samples = read(&text);
    for (series, value) in [
        (r#"requests_total{model="m",provider="p",format="anthropic",stream="true",status="200"}"#, 2.0),
        (r#"requests_total{model="m",provider="p",format="anthropic",stream="false",status="0"}"#, 1.0),
        (r#"upstream_attempts_total{provider="q",key_slot="Q_1",outcome="rate_limited"}"#, 1.0),
        (r#"upstream_attempts_total{provider="p",key_slot="P",outcome="ok"}"#, 2.0),
        (r#"fallbacks_total{from="q",to="p",reason="timeout"}"#, 1.0),
        (r#"tokens_total{model="m",provider="p",type="input"}"#, 18.0),
        (r#"tokens_total{model="m",provider="p",type="reasoning"}"#, 2.0),
        (r#"streams_broken_total{model="m",provider="p"}"#, 2.0),
        (r#"lossy_requests_total{model="m",provider="p"}"#, 2.0),
        (r#"client_disconnects_total{model="m",provider="p"}"#, 1.0),
        (r#"rate_limited_total{client="ci",kind="requests_per_minute"}"#, 2.0),
        (r#"refused_total{status="401"}"#, 1.0),
        (r#"request_duration_seconds_bucket{model="m",provider="p",le="0.01"}"#, 0.0),
        (r#"request_duration_seconds_bucket{model="m",provider="p",le="0.02"}"#, 3.0),
        (r#"request_duration_seconds_sum{model="m",provider="p"}"#, 0.036),
        (r#"time_to_first_token_seconds_count{model="m",provider="p"}"#, 2.0),
        (r#"overhead_seconds_bucket{le="0.00005"}"#, 0.0),
        (r#"overhead_seconds_bucket{le="0.000075"}"#, 3.0),
        (r#"overhead_seconds_bucket{le="+Inf"}"#, 3.0),
        ("process_cpu_seconds_total", 1.25),
        ("label_sets_folded_total", 0.0),
    ] {
        assert_eq!(samples.get(&format!("{PREFIX}{series}")), Some(&value), "{series}\n{text}");
    }
}

#[test]
fn names_are_spelled_so_that_they_can_be_read() {
    let metrics = Metrics::new();
    metrics.observe(&seen("a\"b\\c\nd", "p", 200), [].into_iter());
    let text = render(&[metrics], &Scraped::default());
    assert!(text.contains(r#"{model="a\"b\\c\nd",provider="p","#), "{text}");
}

#[test]
fn too_many_label_sets_are_counted_as_one() {
    let metrics = Metrics::new();
    for n in 0..10_000 {
        metrics.observe(&seen(&format!("m{n}"), "p", 200), [].into_iter());
    }
    let text = render(&[Arc::clone(&metrics)], &Scraped::default());
    let samples = read(&text);
    let rows = samples.keys().filter(|series| series.starts_with("model_proxy_requests_total")).count();
    assert!(rows <= ROWS_MAX + 1, "{rows}");
    let folded = samples["model_proxy_label_sets_folded_total"];
    assert_eq!(
        samples[r#"model_proxy_requests_total{model="other",provider="other",format="anthropic",stream="false",status="200"}"#],
        folded
    );
    assert_eq!(folded, 10_000.0 - f64::from(u32::try_from(rows - 1).unwrap()));
    // What has no name of its own any more is counted all the same.
    metrics.observe(&seen("m0", "p", 200), [one("new", "NEW", "ok"), one("p", "P", "ok")].into_iter());
    metrics.refused(429, Some(("new", "requests_per_minute")));
    let text = render(&[metrics], &Scraped::default());
    let samples = read(&text);
    for (series, value) in [
        (r#"upstream_attempts_total{provider="other",key_slot="other",outcome="ok"}"#, 1.0),
        (r#"fallbacks_total{from="other",to="p",reason="ok"}"#, 1.0),
        (r#"rate_limited_total{client="other",kind="requests_per_minute"}"#, 1.0),
    ] {
        assert_eq!(samples.get(&format!("{PREFIX}{series}")), Some(&value), "{series}");
    }
    assert!(folded < samples["model_proxy_label_sets_folded_total"], "and told");
}

#[test]
fn once_known_nothing_is_allocated() {
    let metrics = Metrics::new();
    let round = || metrics.observe(&seen("m", "p", 200), [one("p", "P", "ok")].into_iter());
    round();
    assert_eq!(allocation_counter::measure(|| (0..100).for_each(|_| round())).count_total, 0);
}

#[test]
fn the_page_is_made_from_the_table() {
    let mut page = String::from(
        "# Metrics\n\n`GET /metrics`, in Prometheus' text format: with a client's key on the main port, or without one on a port of its own \
         (`--metrics-listen`). Made from `src/metrics/mod.rs`.\n\n| metric | kind | labels | |\n|---|---|---|---|\n",
    );
    for Metric { name, kind, labels, help } in METRICS {
        let kind = format!("{kind:?}").to_lowercase();
        let _ = writeln!(page, "| `{PREFIX}{name}` | {kind} | {} | {help} |", labels.join(", "));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/METRICS.md");
    #[expect(clippy::disallowed_methods, reason = "asked of whoever runs the test")]
    if std::env::var_os("MODEL_PROXY_BLESS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    assert!(
        std::fs::read_to_string(path).unwrap_or_default() == page,
        "make it with MODEL_PROXY_BLESS=1 cargo test --lib the_page_is"
    );
}
