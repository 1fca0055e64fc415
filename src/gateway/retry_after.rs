//! How long an upstream asks to be left alone.

use std::time::Duration;

use http::HeaderMap;

use crate::time::{parse_http_date, parse_rfc3339};

/// Reads `retry-after-ms`, else `retry-after` in seconds or as a date (RFC 9110 10.2.3). `unix_now` is the wall clock, for
/// dates.
pub(super) fn read(headers: &HeaderMap, unix_now: u64) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).map(str::trim);
    if let Some(span) = text("retry-after-ms").and_then(|t| t.parse::<f64>().ok()).and_then(|ms| span(ms / 1000.0)) {
        return Some(span);
    }
    let after = text("retry-after")?;
    if let Some(span) = after.parse::<f64>().ok().and_then(span) {
        return Some(span);
    }
    parse_http_date(after).map(|at| Duration::from_secs(at.saturating_sub(unix_now)))
}

/// Seconds as a span. What is beyond all reason is a long time, not none.
fn span(seconds: f64) -> Option<Duration> {
    (0.0 <= seconds).then(|| Duration::from_secs_f64(seconds.min(LONG_SECONDS)))
}

/// Thirty years: nobody believes as much, and no arithmetic overflows.
const LONG_SECONDS: f64 = 1e9;

/// When the limit that was met is over, as the headers on limits tell it: for those who send no `retry-after` with a 429.
///
/// Each limit has a `reset`; those of which something remains are not the one that was met.
pub(super) fn reset(headers: &HeaderMap, unix_now: u64) -> Option<Duration> {
    let is_met = |name: &str| {
        let left = headers.get(name.replace("reset", "remaining")).and_then(|v| v.to_str().ok());
        left.and_then(|left| left.trim().parse::<f64>().ok()).is_none_or(|left| left <= 0.0)
    };
    let resets = headers.iter().filter_map(|(name, value)| {
        let name = name.as_str();
        let is_reset = name.starts_with("x-ratelimit-reset")
            || (name.starts_with("anthropic-ratelimit-") && name.ends_with("-reset"));
        (is_reset && is_met(name)).then(|| moment(value.to_str().ok()?.trim(), unix_now)).flatten()
    });
    resets.max()
}

/// Reads `6m0s`, `130ms`, `10.33s`, seconds, seconds or milliseconds since 1970, or a date (CONVERSION 9.4).
pub(super) fn moment(text: &str, unix_now: u64) -> Option<Duration> {
    if let Ok(number) = text.parse::<f64>() {
        let since_1970 = match number {
            0.0..1e9 => return Some(Duration::from_secs_f64(number)),
            1e9..1e11 => number,
            1e11..1e15 => number / 1000.0,
            _ => return span(number),
        };
        return Some(Duration::from_secs_f64(since_1970).saturating_sub(Duration::from_secs(unix_now)));
    }
    spelled(text).or_else(|| parse_rfc3339(text).map(|at| Duration::from_secs(at.saturating_sub(unix_now))))
}

/// A duration as Go spells one: numbers, each with its unit.
fn spelled(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut seconds = 0.0;
    if text.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, after) = rest.split_at_checked(rest.find(|c: char| c.is_ascii_alphabetic())?)?;
        let unit_len = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, next) = after.split_at_checked(unit_len)?;
        let scale = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            "us" | "ns" => 0.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * scale;
        rest = next;
    }
    span(seconds)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn reads_seconds_milliseconds_and_dates() {
        type Pairs = &'static [(&'static str, &'static str)];
        let cases: [(Pairs, Option<u64>); 7] = [
            (&[("retry-after", "7")], Some(7_000)),
            (&[("retry-after", "0.5")], Some(500)),
            (&[("retry-after-ms", "1500"), ("retry-after", "9")], Some(1_500)),
            (&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")], Some(37_000)),
            (&[("retry-after", "Sun, 06 Nov 1994 08:48:37 GMT")], Some(0)),
            (&[("retry-after", "soon")], None),
            (&[("retry-after", "-1")], None),
        ];
        for (pairs, expect) in cases {
            let pair = |&(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v));
            let headers: HeaderMap = pairs.iter().map(pair).collect();
            let got = read(&headers, 784_111_740).map(|d| u64::try_from(d.as_millis()).unwrap());
            assert_eq!(got, expect, "{pairs:?}");
        }
    }
    // covers EC101 9.4/reset-formats
    #[test]
    fn reads_when_a_limit_is_over() {
        for (reset, millis) in [
            ("6m0s", Some(360_000_u64)),
            ("1h2m", Some(3_720_000)),
            ("130ms", Some(130)),
            ("10.33s", Some(10_330)),
            ("17", Some(17_000)),
            ("1994-11-06T08:49:37Z", Some(37_000)),
            ("1994-11-06T08:48:37Z", Some(0)),
            ("784111747000", Some(7_000)),
            ("1000000000", Some(215_888_260_000)),
            ("soon", None),
            ("5x", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(moment(reset, 784_111_740).map(|d| d.as_millis()), millis.map(u128::from), "{reset}");
        }
        let read = |pairs: &[(&'static str, &'static str)]| {
            let pair =
                |&(n, v): &(&'static str, &'static str)| (HeaderName::from_static(n), HeaderValue::from_static(v));
            reset(&pairs.iter().map(pair).collect(), 0).map(|d| d.as_secs())
        };
        let requests = [("x-ratelimit-reset-requests", "20s"), ("x-ratelimit-remaining-requests", "3")];
        let tokens = [("x-ratelimit-reset-tokens", "9s"), ("x-ratelimit-remaining-tokens", "0")];
        assert_eq!(read(&[requests, tokens].concat()), Some(9), "the limit that was met");
        assert_eq!(read(&requests), None);
        assert_eq!(read(&[("x-ratelimit-reset", "30")]), Some(30));
        assert_eq!(
            read(&[("anthropic-ratelimit-tokens-reset", "1970-01-01T00:00:05Z"), ("retry-after", "1")]),
            Some(5)
        );
    }
}
