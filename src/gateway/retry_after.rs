//! How long an upstream asks to be left alone.

use std::time::Duration;

use http::HeaderMap;

use crate::time::parse_http_date;

/// Reads `retry-after-ms`, else `retry-after` in seconds or as a date (RFC 9110 10.2.3). `unix_now` is the wall clock, for
/// dates.
pub(super) fn read(headers: &HeaderMap, unix_now: u64) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).map(str::trim);
    if let Some(ms) = text("retry-after-ms").and_then(|t| t.parse::<f64>().ok()).filter(|ms| (0.0..1e12).contains(ms)) {
        return Some(Duration::from_secs_f64(ms / 1000.0));
    }
    let after = text("retry-after")?;
    if let Some(seconds) = after.parse::<f64>().ok().filter(|s| (0.0..1e9).contains(s)) {
        return Some(Duration::from_secs_f64(seconds));
    }
    parse_http_date(after).map(|at| Duration::from_secs(at.saturating_sub(unix_now)))
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
}
