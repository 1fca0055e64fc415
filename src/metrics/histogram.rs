//! Times sorted into buckets.

/// Upper bounds in microseconds, and as Prometheus writes them.
pub(super) type Bounds = [(u64, &'static str); BUCKETS];

/// As many as a histogram has, without the last, which takes all.
pub(super) const BUCKETS: usize = 14;

/// From what a cache answers to what a model thinks for: OpenTelemetry's bounds for operations of generative models, halved
/// where proxies are fast.
pub(super) static LATENCY: &Bounds = &[
    (5_000, "0.005"),
    (10_000, "0.01"),
    (20_000, "0.02"),
    (40_000, "0.04"),
    (80_000, "0.08"),
    (160_000, "0.16"),
    (320_000, "0.32"),
    (640_000, "0.64"),
    (1_280_000, "1.28"),
    (2_560_000, "2.56"),
    (5_120_000, "5.12"),
    (10_240_000, "10.24"),
    (40_960_000, "40.96"),
    (163_840_000, "163.84"),
];

/// From ten microseconds to fifty milliseconds.
pub(super) static OVERHEAD: &Bounds = &[
    (10, "0.00001"),
    (25, "0.000025"),
    (50, "0.00005"),
    (75, "0.000075"),
    (100, "0.0001"),
    (150, "0.00015"),
    (250, "0.00025"),
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
];

#[derive(Clone, Debug)]
pub(super) struct Histogram {
    bounds: &'static Bounds,
    /// Not yet added up: each bucket has its own.
    counts: [u64; BUCKETS + 1],
    sum_us: u64,
}

impl Histogram {
    pub(super) fn new(bounds: &'static Bounds) -> Self {
        Self { bounds, counts: [0; BUCKETS + 1], sum_us: 0 }
    }

    pub(super) fn add(&mut self, us: u64) {
        let bucket = self.bounds.partition_point(|(bound, _)| *bound < us);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum_us = self.sum_us.saturating_add(us);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
    }

    /// Each bound with all that is not above it, `+Inf` last.
    pub(super) fn cumulated(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let mut total = 0;
        let bounds = self.bounds.iter().map(|(_, text)| *text).chain(["+Inf"]);
        bounds.zip(self.counts).map(move |(bound, count)| {
            total += count;
            (bound, total)
        })
    }

    pub(super) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub(super) fn sum_us(&self) -> u64 {
        self.sum_us
    }
}
