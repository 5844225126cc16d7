//! What the daemon counts, and how Prometheus reads it. Counting is a few relaxed atomic additions; no lock, no allocation.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::name::Tag;
use crate::protocol::LaneView;

/// The most tags with series of their own; further tags share the label `other`. Each costs six lines of the page, and a
/// Prometheus server pays for every label value it has ever seen.
pub(crate) const MAX_TAG_SERIES: usize = 1000;

/// The most lanes with series of their own, for the same reason; each costs four lines. A lane's labels are a tag and a lane number,
/// which return, and never an address or the number of a connection, which do not.
pub(crate) const MAX_LANE_SERIES: usize = 1000;

/// A lane under the first tag that it carries.
pub(crate) struct LaneSeries {
    pub tag: Tag,
    pub view: LaneView,
}

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

/// What was one too many.
#[derive(Debug, Default)]
pub(crate) struct Refused {
    /// Connections: of one address, or at all.
    pub connections: AtomicU64,
    /// Requests of one address at once.
    pub requests: AtomicU64,
    /// Requests of an address that asks for more and more tags.
    pub tags: AtomicU64,
    /// Requests whose heads would be too much together with those of the others.
    pub heads: AtomicU64,
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
    /// Requests whose client left before their answer was complete.
    pub left: AtomicU64,
    /// Answers that broke off in the middle.
    pub cut: AtomicU64,
    /// Answers that were cut off because of their trailers.
    pub cut_by_trailers: AtomicU64,
    /// Requests held now, waiting for a lane to come back.
    pub held: AtomicU64,
    /// Requests that were held.
    pub holds: AtomicU64,
    /// Held requests that ended with 503.
    pub holds_expired: AtomicU64,
    /// Open connections at the edge.
    pub http_connections: AtomicU64,
    /// What the edge refused because of its number, not of what it was.
    pub refused: Refused,
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

    /// Counts one answer at its beginning: of a session, or (`None`) of the edge itself or of staging.
    pub(crate) fn answered(&self, session: Option<&Counters>, status: u16) {
        match session {
            Some(counters) => {
                counters.requests.fetch_add(1, Relaxed);
                counters.series.answered(status);
            }
            None => self.untagged.answered(status),
        }
    }

    /// Counts one answer at its end. `took` is the time from the request's head on.
    pub(crate) fn finished(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(bucket) = LATENCY.iter().position(|&(end, _)| us <= end) {
            self.latency[bucket].fetch_add(1, Relaxed);
        }
        self.latency_count.fetch_add(1, Relaxed);
        self.latency_sum_us.fetch_add(us, Relaxed);
    }

    /// The page in Prometheus's text format, version 0.0.4.
    pub(crate) fn page(&self, live: usize, leased: usize, lanes: &[LaneSeries]) -> String {
        let mut page = Page(String::with_capacity(4096));
        let now = |value: &AtomicU64| value.load(Relaxed);
        page.head("sessions", "gauge", "Sessions by state.");
        page.sample("sessions", "{state=\"live\"}", live as u64);
        page.sample("sessions", "{state=\"leased\"}", leased as u64);
        page.gauge("lanes", "Live SSH connections.", now(&self.lanes));
        page.counter("lanes_total", "SSH connections that authenticated.", now(&self.lanes_total));
        page.counter(
            "handshake_failures_total",
            "SSH connections that ended before authentication.",
            now(&self.handshake_failures),
        );
        page.gauge(
            "http_connections",
            "Open connections at the edge.",
            now(&self.http_connections),
        );
        page.head(
            "refused_total",
            "counter",
            "What the edge refused because it was one too many, by reason.",
        );
        for (reason, count) in [
            ("too-many-connections", &self.refused.connections),
            ("client-busy", &self.refused.requests),
            ("too-many-tags", &self.refused.tags),
            ("heads-too-many", &self.refused.heads),
        ] {
            page.sample("refused_total", &format!("{{reason=\"{reason}\"}}"), now(count));
        }
        page.gauge(
            "requests_in_flight",
            "Requests that are being answered.",
            now(&self.in_flight),
        );
        page.counter(
            "requests_left_total",
            "Requests whose client left before their answer was complete.",
            now(&self.left),
        );
        page.head("answers_cut_total", "counter", "Answers that broke off, by reason.");
        page.sample("answers_cut_total", "{reason=\"broke-off\"}", now(&self.cut));
        page.sample(
            "answers_cut_total",
            "{reason=\"trailers-too-large\"}",
            now(&self.cut_by_trailers),
        );
        page.gauge(
            "held_requests",
            "Requests that wait for a laptop to come back.",
            now(&self.held),
        );
        page.counter(
            "holds_total",
            "Requests that waited for a laptop to come back.",
            now(&self.holds),
        );
        page.counter(
            "holds_expired_total",
            "Held requests that ended with 503.",
            now(&self.holds_expired),
        );
        page.counter("sent_bytes_total", "Bytes of request bodies to laptops.", now(&self.bytes_in));
        page.counter(
            "received_bytes_total",
            "Bytes of answer bodies from laptops.",
            now(&self.bytes_out),
        );
        page.head(
            "requests_total",
            "counter",
            "Answers by tag and class of status; without a tag: of the edge itself or of staging.",
        );
        page.series("", &self.untagged);
        let tags: Vec<(String, Arc<Series>)> = {
            let tags = self.tags.lock().unwrap_or_else(PoisonError::into_inner);
            tags.iter().map(|(tag, series)| (tag.to_string(), series.clone())).collect()
        };
        for (tag, series) in &tags {
            page.series(tag, series);
        }
        page.series("other", &self.other);
        page.head(
            "request_duration_seconds",
            "histogram",
            "From a request's head to the end of its complete answer.",
        );
        let mut sum = 0;
        for (bucket, (_, end)) in self.latency.iter().zip(LATENCY) {
            sum += now(bucket);
            page.sample("request_duration_seconds_bucket", &format!("{{le=\"{end}\"}}"), sum);
        }
        // Counted after the buckets, so that it is never below them.
        let count = now(&self.latency_count).max(sum);
        page.sample("request_duration_seconds_bucket", "{le=\"+Inf\"}", count);
        let us = now(&self.latency_sum_us);
        page.0.push_str(&format!(
            "ephemwork_request_duration_seconds_sum {}.{:06}\n",
            us / 1_000_000,
            us % 1_000_000
        ));
        page.sample("request_duration_seconds_count", "", count);
        page.lanes(lanes);
        page.0
    }
}

struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.0
            .push_str(&format!("# HELP ephemwork_{name} {help}\n# TYPE ephemwork_{name} {kind}\n"));
    }

    fn sample(&mut self, name: &str, labels: &str, value: u64) {
        self.0.push_str(&format!("ephemwork_{name}{labels} {value}\n"));
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, "gauge", help);
        self.sample(name, "", value);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, "counter", help);
        self.sample(name, "", value);
    }

    fn lanes(&mut self, lanes: &[LaneSeries]) {
        self.head(
            "lane_bytes_per_second",
            "gauge",
            "Bytes a second through a lane over the last seconds, heads and bodies.",
        );
        for LaneSeries { tag, view } in lanes {
            for (direction, rate) in [("in", view.in_per_second), ("out", view.out_per_second)] {
                let labels = format!("{{tag=\"{tag}\",lane=\"{}\",direction=\"{direction}\"}}", view.number);
                self.sample("lane_bytes_per_second", &labels, rate);
            }
        }
        self.head(
            "lane_outstanding_bytes",
            "gauge",
            "Bytes that the requests on a lane are expected to move still.",
        );
        for LaneSeries { tag, view } in lanes {
            let labels = format!("{{tag=\"{tag}\",lane=\"{}\"}}", view.number);
            self.sample("lane_outstanding_bytes", &labels, view.outstanding);
        }
        self.head("lane_round_trip_seconds", "gauge", "The last round trip measured on a lane.");
        for LaneSeries { tag, view } in lanes {
            if let Some(us) = view.round_trip_us {
                self.0.push_str(&format!(
                    "ephemwork_lane_round_trip_seconds{{tag=\"{tag}\",lane=\"{}\"}} {}.{:06}\n",
                    view.number,
                    us / 1_000_000,
                    us % 1_000_000
                ));
            }
        }
    }

    /// A tag's alphabet needs no escaping in a label.
    fn series(&mut self, tag: &str, series: &Series) {
        for (class, count) in series.0.iter().enumerate() {
            let count = count.load(Relaxed);
            if count > 0 {
                let labels = format!("{{tag=\"{tag}\",status=\"{}xx\"}}", class + 1);
                self.sample("requests_total", &labels, count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(text: &str) -> Tag {
        Tag::parse(text).unwrap()
    }

    #[test]
    fn a_page() {
        let metrics = Metrics::default();
        let api = metrics.counters(&tag("alice:api"));
        metrics.answered(Some(&api), 200);
        metrics.finished(Duration::from_micros(800));
        metrics.answered(Some(&api), 101);
        metrics.finished(Duration::from_micros(1_000));
        metrics.answered(None, 404);
        metrics.finished(Duration::from_secs(60));
        // A session that was released and claimed again goes on.
        let again = metrics.counters(&tag("alice:api"));
        metrics.answered(Some(&again), 299);
        metrics.finished(Duration::from_millis(3));
        assert_eq!((api.requests.load(Relaxed), again.requests.load(Relaxed)), (2, 1));
        let page = metrics.page(1, 2, &[]);
        let check = |line: &str, expected: bool| assert_eq!(page.lines().any(|found| found == line), expected, "{line}\n{page}");
        check("ephemwork_sessions{state=\"live\"} 1", true);
        check("ephemwork_sessions{state=\"leased\"} 2", true);
        check("ephemwork_requests_total{tag=\"alice:api\",status=\"2xx\"} 2", true);
        check("ephemwork_requests_total{tag=\"alice:api\",status=\"1xx\"} 1", true);
        check("ephemwork_requests_total{tag=\"\",status=\"4xx\"} 1", true);
        check("ephemwork_request_duration_seconds_bucket{le=\"0.001\"} 2", true);
        check("ephemwork_request_duration_seconds_bucket{le=\"0.005\"} 3", true);
        check("ephemwork_request_duration_seconds_bucket{le=\"30\"} 3", true);
        check("ephemwork_request_duration_seconds_bucket{le=\"+Inf\"} 4", true);
        check("ephemwork_request_duration_seconds_sum 60.004800", true);
        check("ephemwork_requests_total{tag=\"other\",status=\"2xx\"} 0", false);
        for line in page.lines() {
            assert!(
                line.starts_with("# ") || line.rsplit_once(' ').unwrap().1.parse::<f64>().is_ok(),
                "{line}"
            );
        }
    }

    #[test]
    fn labels_are_bounded() {
        let metrics = Metrics::default();
        for number in 0..MAX_TAG_SERIES + 5 {
            let counters = metrics.counters(&tag(&format!("alice:s{number}")));
            metrics.answered(Some(&counters), 500);
        }
        let page = metrics.page(0, 0, &[]);
        assert_eq!(page.matches("tag=\"alice:").count(), MAX_TAG_SERIES);
        assert!(page.contains("ephemwork_requests_total{tag=\"other\",status=\"5xx\"} 5\n"));
    }
}
