//! What the daemon counts, and how Prometheus reads it. Counting is a few relaxed atomic additions; no lock, no allocation.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::name::Tag;

/// The most tags with series of their own; further tags share the label `other`. Each costs six lines of the page, and a
/// Prometheus server pays for every label value it has ever seen.
pub(crate) const MAX_TAG_SERIES: usize = 1000;

/// Upper ends of the latency histogram, in microseconds, and as Prometheus prints them in seconds.
const LATENCY: [(u64, &str); 12] = [
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (5_000_000, "5"),
    (30_000_000, "30"),
];

/// Requests by status class, of one tag or of all that have none.
#[derive(Debug, Default)]
pub(crate) struct Series([AtomicU64; 5]);

impl Series {
    /// Counts an answer. A status outside 100..600 counts as its nearest class.
    pub(crate) fn answered(&self, status: u16) {
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        self.0[class].fetch_add(1, Relaxed);
    }
}

/// One session's numbers, updated by the edge.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Requests answered.
    pub requests: AtomicU64,
    pub in_flight: AtomicU64,
    /// Bytes of bodies to the laptop.
    pub bytes_in: AtomicU64,
    /// Bytes of bodies from the laptop.
    pub bytes_out: AtomicU64,
    last_error: Mutex<Option<String>>,
    series: Arc<Series>,
}

impl Counters {
    /// Remembers the last failure of a request, a sentence.
    pub(crate) fn failed(&self, what: impl Into<String>) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(what.into());
    }

    /// The last failure.
    pub(crate) fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Everything the daemon counts.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Requests in flight, also those without a tag.
    pub in_flight: AtomicU64,
    /// Bytes of bodies to laptops.
    pub bytes_in: AtomicU64,
    /// Bytes of bodies from laptops.
    pub bytes_out: AtomicU64,
    /// Requests held now, waiting for a lane to come back.
    pub held: AtomicU64,
    /// Requests that were held.
    pub holds: AtomicU64,
    /// Held requests that ended with 503.
    pub holds_expired: AtomicU64,
    /// Open connections at the edge.
    pub http_connections: AtomicU64,
    /// Live SSH connections (lanes).
    pub lanes: AtomicU64,
    /// SSH connections that authenticated.
    pub lanes_total: AtomicU64,
    /// SSH connections that ended before authentication.
    pub handshake_failures: AtomicU64,
    /// Answers that the edge made itself, and those of untagged requests that went to staging.
    untagged: Series,
    latency: [AtomicU64; LATENCY.len()],
    latency_count: AtomicU64,
    latency_sum_us: AtomicU64,
    tags: Mutex<BTreeMap<Tag, Arc<Series>>>,
    other: Arc<Series>,
}

impl Metrics {
    /// A session's counters. A tag that comes back goes on counting where it was.
    pub(crate) fn counters(&self, tag: &Tag) -> Arc<Counters> {
        let mut tags = self.tags.lock().unwrap_or_else(PoisonError::into_inner);
        let series = match tags.get(tag) {
            Some(series) => series.clone(),
            None if tags.len() < MAX_TAG_SERIES => tags.entry(tag.clone()).or_default().clone(),
            None => self.other.clone(),
        };
        Arc::new(Counters {
            series,
            ..Counters::default()
        })
    }

    /// Counts one finished answer: of a session, or (`None`) of the edge itself or of staging.
    pub(crate) fn answered(&self, session: Option<&Counters>, status: u16, took: Duration) {
        match session {
            Some(counters) => {
                counters.requests.fetch_add(1, Relaxed);
                counters.series.answered(status);
            }
            None => self.untagged.answered(status),
        }
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(bucket) = LATENCY.iter().position(|&(end, _)| us <= end) {
            self.latency[bucket].fetch_add(1, Relaxed);
        }
        self.latency_count.fetch_add(1, Relaxed);
        self.latency_sum_us.fetch_add(us, Relaxed);
    }

    /// The page in Prometheus's text format, version 0.0.4.
    pub(crate) fn page(&self, sessions: usize) -> String {
        let mut page = String::with_capacity(4096);
        // Writing to a String cannot fail.
        page.write_fmt(format_args!("# sessions {sessions}\n")).unwrap_or_default();
        page
    }
}
