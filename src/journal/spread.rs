//! How long requests took, in eight buckets for each doubling: whatever is read from them is within 7 % of what
//! was measured, from a microsecond to a day.

/// The last bucket: longer than any request takes.
const BUCKET_MAX: u32 = 8 * 40;

/// The bucket of a time in microseconds.
#[must_use]
pub(super) fn bucket_of(us: u64) -> u32 {
    let us = us.max(1);
    let octave = us.ilog2();
    // The three bits below the highest.
    let part = if octave < 3 { us << (3 - octave) } else { us >> (octave - 3) } & 7;
    (octave * 8 + u32::try_from(part).unwrap_or(0)).min(BUCKET_MAX)
}

/// The middle of a bucket, in microseconds.
#[must_use]
pub fn middle_of(bucket: u32) -> u64 {
    let (octave, part) = (bucket / 8, u64::from(bucket % 8));
    let at = |eighths: u64| if octave < 3 { (eighths << octave) >> 3 } else { eighths << (octave - 3) };
    u64::midpoint(at(8 + part), at(9 + part)).max(1)
}

/// The time within which so many of a hundred requests ended, of (bucket, requests) in order; `None` of none.
#[must_use]
pub fn percentile(spread: &[(u32, u64)], percent: u64) -> Option<u64> {
    let all: u64 = spread.iter().map(|(_, requests)| requests).sum();
    let wanted = (all * percent).div_ceil(100).max(1);
    let mut passed = 0;
    let found = spread.iter().find(|(_, requests)| {
        passed += requests;
        wanted <= passed
    });
    found.map(|(bucket, _)| middle_of(*bucket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_read_back_is_nearly_what_it_was() {
        let mut us = 8_u64;
        let mut last = 0;
        while us < 86_400_000_000 {
            let bucket = bucket_of(us);
            assert!(last <= bucket, "in order");
            last = bucket;
            let back = middle_of(bucket);
            assert!(back.abs_diff(us) * 100 <= us * 7, "{us} as {back}");
            us += us / 37 + 1;
        }
        for us in 0..8 {
            assert!(middle_of(bucket_of(us)).abs_diff(us) <= 1, "{us}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKET_MAX);
    }

    #[test]
    fn percentiles_are_of_all_that_were_counted() {
        let spread: Vec<(u32, u64)> = (1..=100).map(|n| (bucket_of(n * 1000), 1)).collect();
        for (percent, expect) in [(50, 50_000_u64), (95, 95_000), (99, 99_000), (100, 100_000)] {
            let found = percentile(&spread, percent).unwrap();
            assert!(found.abs_diff(expect) * 100 <= expect * 7, "{percent}: {found}");
        }
        assert_eq!(percentile(&[], 50), None);
    }
}
