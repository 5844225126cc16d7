//! Latencies in buckets that grow with the value, so that any quantile is right within two percent.

use std::time::Duration;

/// Buckets for each power of two; the widest error of a quantile is one of them.
const STEPS: usize = 64;

/// Powers of two above the first [`STEPS`] nanoseconds that are told apart: up to half an hour.
const POWERS: usize = 36;

/// How often each latency was seen.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    /// Nothing seen yet.
    pub(crate) fn new() -> Histogram {
        Histogram {
            counts: vec![0; STEPS * POWERS],
            total: 0,
        }
    }

    /// Counts one latency.
    pub(crate) fn add(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX).max(STEPS as u64);
        let power = nanos.ilog2() - STEPS.ilog2();
        let step = (nanos >> power) as usize - STEPS;
        let bucket = (power as usize * STEPS + step).min(self.counts.len() - 1);
        self.counts[bucket] += 1;
        self.total += 1;
    }

    /// The latency in milliseconds that a part of them (0.99, say) does not exceed.
    pub(crate) fn quantile(&self, part: f64) -> f64 {
        let rank = (self.total as f64 * part).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank.max(1) {
                let nanos = (((bucket % STEPS) + STEPS) as u64) << (bucket / STEPS);
                return nanos as f64 / 1e6;
            }
        }
        f64::NAN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        let mut histogram = Histogram::new();
        for micros in 1..=1000 {
            histogram.add(Duration::from_micros(micros));
        }
        for (part, millis) in [(0.001, 0.001), (0.5, 0.5), (0.99, 0.99), (1.0, 1.0)] {
            let found = histogram.quantile(part);
            assert!(
                (found - millis).abs() <= millis * 0.02,
                "{part}: {found} is not about {millis}"
            );
        }
        assert!(Histogram::new().quantile(0.5).is_nan());
    }
}
