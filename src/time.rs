//! The only reader of the system's clocks.
//!
//! Decisions are made on [`Millis`], which never runs backwards; wall time is only for what people read.

use std::fmt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds of monotonic time since the process started. Zero is "long ago".
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Millis(pub u64);

impl Millis {
    /// The moment `duration` after this one. Far futures saturate.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long it is until `later`; nothing if that is past.
    #[must_use]
    pub fn until(self, later: Self) -> Duration {
        Duration::from_millis(later.0.saturating_sub(self.0))
    }
}

/// Reads time. Copies read the same clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts at 1: 0 stays free for "never".
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one reader")]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// The same clock as if it had been started earlier: for tests of what takes long.
    #[cfg(test)]
    pub(crate) fn ahead(self, by: Duration) -> Self {
        Self { start: self.start.checked_sub(by).unwrap_or(self.start) }
    }

    #[must_use]
    pub fn now(&self) -> Millis {
        Millis(1).after(self.start.elapsed())
    }

    /// Microseconds since the start: for measuring our own overhead.
    #[must_use]
    pub fn micros(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// A moment of [`Clock::micros`] as `now` would have told it.
    #[must_use]
    pub fn millis_of(micros: u64) -> Millis {
        Millis(1 + micros / 1000)
    }

    /// Seconds since 1970, by the wall clock.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one reader")]
    pub fn unix_seconds() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
    }
}

impl Clock {
    /// Milliseconds since 1970, by the wall clock.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one reader")]
    pub fn unix_millis() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Seconds since 1970 as RFC 3339 in UTC: `2026-11-23T15:18:00Z`.
#[derive(Clone, Copy, Debug)]
pub struct Rfc3339(pub u64);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.0 / 86_400, self.0 % 86_400);
        let (year, month, day) = civil(days);
        let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}Z")
    }
}

/// Days since 1970 as year, month, day. Howard Hinnant's `civil_from_days`, for days that are not negative.
fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let era = z / 146_097;
    let doe = z % 146_097;
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + u64::from(month <= 2), month, day)
}

/// The month, counted from January 1970, and when it ends, in seconds since 1970; in UTC.
#[must_use]
pub fn month_of(unix_seconds: u64) -> (u64, u64) {
    let (year, month, _) = civil(unix_seconds / 86_400);
    let (next_year, next) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    ((year - 1970) * 12 + month - 1, days_from_civil(next_year, next, 1) * 86_400)
}

/// The seconds since 1970 of an RFC 3339 time in UTC or with an offset; parts of a second are dropped.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<u64> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let mut date = date.splitn(3, '-').map(str::parse::<u64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let zone_at = time.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = time.split_at_checked(zone_at)?;
    let mut clock = clock.split('.').next()?.splitn(3, ':').map(str::parse::<u64>);
    let (h, m, s) = (clock.next()?.ok()?, clock.next()?.ok()?, clock.next()?.ok()?);
    if !(1970..=9999).contains(&year)
        || !(1..=12).contains(&month)
        || !(1..=31).contains(&day)
        || h > 24
        || m > 59
        || s > 60
    {
        return None;
    }
    let utc = days_from_civil(year, month, day) * 86_400 + h * 3600 + m * 60 + s;
    let Some(offset) = zone.strip_prefix(['+', '-']) else {
        return Some(utc);
    };
    let (oh, om) = offset.split_once(':')?;
    let shift = oh.parse::<u64>().ok()? * 3600 + om.parse::<u64>().ok()? * 60;
    if zone.starts_with('+') { utc.checked_sub(shift) } else { Some(utc + shift) }
}

/// The reverse of [`civil`].
fn days_from_civil(year: u64, month: u64, day: u64) -> u64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y / 400;
    let yoe = y % 400;
    let mp = (month + 9) % 12;
    let doy = (153 * mp + 2) / 5 + day - 1;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    (era * 146_097 + doe).saturating_sub(719_468)
}

/// The seconds since 1970 of an HTTP date (`Sun, 06 Nov 1994 08:49:37 GMT`, RFC 9110 5.6.7, the fixed form only).
#[must_use]
pub fn parse_http_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, rest) = text.split_once(", ")?;
    let mut words = rest.split(' ');
    let day = words.next()?.parse().ok()?;
    let name = words.next()?;
    let month = MONTHS.iter().position(|m| *m == name)? as u64 + 1;
    let year: u64 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.splitn(3, ':').map(str::parse::<u64>);
    let (h, m, s) = (clock.next()?.ok()?, clock.next()?.ok()?, clock.next()?.ok()?);
    if words.next() != Some("GMT") || !(1970..=9999).contains(&year) || !(1..=31).contains(&day) {
        return None;
    }
    Some(days_from_civil(year, month, day) * 86_400 + h * 3600 + m * 60 + s)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_dates_that_read_back() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_447_080, "2026-11-23T15:18:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
        ] {
            assert_eq!(Rfc3339(seconds).to_string(), text);
            assert_eq!(parse_rfc3339(text), Some(seconds));
        }
        assert_eq!(parse_rfc3339("2026-11-23T16:18:00.25+01:00"), Some(1_795_447_080));
        assert_eq!(parse_rfc3339("tomorrow"), None);
    }

    #[test]
    fn months_have_their_ends() {
        for (at, number, ends) in [
            ("1970-01-01T00:00:00Z", 0, "1970-02-01T00:00:00Z"),
            ("2024-02-29T23:59:59Z", 649, "2024-03-01T00:00:00Z"),
            ("2026-12-31T23:59:59Z", 683, "2027-01-01T00:00:00Z"),
        ] {
            let found = month_of(parse_rfc3339(at).unwrap());
            assert_eq!(found, (number, parse_rfc3339(ends).unwrap()), "{at}");
        }
    }

    #[test]
    fn reads_http_dates() {
        assert_eq!(parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(parse_http_date("06 Nov 1994"), None);
    }

    #[test]
    fn monotonic_arithmetic_saturates() {
        assert_eq!(Millis(5).until(Millis(3)), Duration::ZERO);
        assert_eq!(Millis(u64::MAX).after(Duration::MAX), Millis(u64::MAX));
    }
}
