//! What was measured, as a table for people and as JSON: medians, ratios to the peer, and the goals beside them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{peer, product};

/// The load on the service with nothing between, which shows how far the load itself could go.
pub(crate) const DIRECT: &str = "direct";

/// What a goal compares.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Goal {
    /// Ours divided by the peer's (`ssh -N -R` as people run it) is at least this.
    RatioAtLeast(f64),
    /// Ours divided by the peer's is at most this.
    RatioAtMost(f64),
    /// Our own number is at most this.
    AtMost(f64),
}

/// The goals of the project, by metric.
const GOALS: &[(&str, Goal)] = &[
    ("req/s c=1", Goal::RatioAtLeast(3.2)),
    ("req/s c=16", Goal::RatioAtLeast(4.8)),
    ("req/s c=64", Goal::RatioAtLeast(2.4)),
    ("p99 ms c=16", Goal::RatioAtMost(1.0 / 15.0)),
    ("cpu us/req c=16", Goal::RatioAtMost(0.65)),
    ("cpu us/req c=64", Goal::RatioAtMost(0.65)),
    ("download MB/s", Goal::RatioAtLeast(1.8)),
    ("upload MB/s", Goal::RatioAtLeast(1.4)),
    ("syscalls/req bastion", Goal::AtMost(8.0)),
    ("syscalls/req laptop", Goal::AtMost(8.0)),
    // Both readings of "1,000 idle tunnels within 50 MB": the whole process, and what the tunnels add to it.
    ("bastion MiB, 1000 idle tunnels", Goal::AtMost(50_000_000.0 / 1_048_576.0)),
    (
        "bastion MiB more than with none, 1000 idle",
        Goal::AtMost(50_000_000.0 / 1_048_576.0),
    ),
    ("bastion MiB grown, requests", Goal::AtMost(4.0)),
    ("laptop MiB grown, requests", Goal::AtMost(4.0)),
    ("bastion MiB grown, aborted", Goal::AtMost(4.0)),
    ("laptop MiB grown, aborted", Goal::AtMost(4.0)),
];

/// Samples by metric and system, in the order in which metrics were first seen.
#[derive(Debug, Default)]
pub(crate) struct Report {
    metrics: Vec<String>,
    samples: BTreeMap<(String, String), Vec<f64>>,
    /// What was not measured, and why.
    skipped: Vec<String>,
}

impl Report {
    /// Adds one sample.
    pub(crate) fn add(&mut self, metric: &str, system: &str, value: f64) {
        if !self.metrics.iter().any(|known| known == metric) {
            self.metrics.push(metric.to_owned());
        }
        self.samples
            .entry((metric.to_owned(), system.to_owned()))
            .or_default()
            .push(value);
    }

    /// Says at once, and again in the report, what is left out.
    pub(crate) fn skip(&mut self, what: &str) {
        println!("skipped: {what}");
        self.skipped.push(what.to_owned());
    }

    fn median(&self, metric: &str, system: &str) -> Option<f64> {
        let mut values = self.samples.get(&(metric.to_owned(), system.to_owned()))?.clone();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        Some(if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        })
    }

    fn ratio(&self, metric: &str, to: &str) -> Option<f64> {
        Some(self.median(metric, product::NAME)? / self.median(metric, to)?)
    }

    /// Whether a goal is reached; `None` without a goal or without what it needs.
    fn reached(&self, metric: &str) -> Option<(Goal, bool)> {
        let (_, goal) = GOALS.iter().find(|(name, _)| *name == metric)?;
        let reached = match goal {
            Goal::RatioAtLeast(least) => self.ratio(metric, peer::STOCK)? >= *least,
            Goal::RatioAtMost(most) => self.ratio(metric, peer::STOCK)? <= *most,
            Goal::AtMost(most) => self.median(metric, product::NAME)? <= *most,
        };
        Some((*goal, reached))
    }

    /// The table.
    pub(crate) fn table(&self) -> String {
        let mut out = format!(
            "{:<32} {:>10} {:>10} {:>10} {:>10} {:>8} {:>8} {:>8} {:>10}  {}\n",
            "median", "ephemwork", "ssh -N -R", "aes -N -R", "aes -tt -R", "x -N", "x aes", "x aes -tt", DIRECT, "goal"
        );
        for metric in &self.metrics {
            let cell = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), number);
            let goal = match self.reached(metric) {
                Some((goal, true)) => format!("{} reached", said(goal)),
                Some((goal, false)) => format!("{} MISSED", said(goal)),
                None => String::new(),
            };
            let line = format!(
                "{metric:<32} {:>10} {:>10} {:>10} {:>10} {:>8} {:>8} {:>8} {:>10}  {goal}",
                cell(self.median(metric, product::NAME)),
                cell(self.median(metric, peer::STOCK)),
                cell(self.median(metric, peer::AES)),
                cell(self.median(metric, peer::NO_NAGLE)),
                cell(self.ratio(metric, peer::STOCK)),
                cell(self.ratio(metric, peer::AES)),
                cell(self.ratio(metric, peer::NO_NAGLE)),
                cell(self.median(metric, DIRECT)),
            );
            out.push_str(line.trim_end());
            out.push('\n');
        }
        for skipped in &self.skipped {
            out.push_str(&format!("skipped: {skipped}\n"));
        }
        out
    }

    /// Everything, samples included.
    pub(crate) fn json(&self, about: Value) -> Value {
        let mut metrics = Vec::new();
        for metric in &self.metrics {
            let mut systems = serde_json::Map::new();
            for ((name, system), values) in &self.samples {
                if name == metric {
                    systems.insert(
                        system.clone(),
                        json!({ "median": self.median(metric, system), "samples": values }),
                    );
                }
            }
            let goal = self
                .reached(metric)
                .map(|(goal, reached)| json!({ "goal": said(goal), "reached": reached }));
            metrics.push(json!({
                "metric": metric,
                "systems": systems,
                "ratio_to_stock": self.ratio(metric, peer::STOCK),
                "ratio_to_aes": self.ratio(metric, peer::AES),
                "ratio_to_no_nagle": self.ratio(metric, peer::NO_NAGLE),
                "goal": goal,
            }));
        }
        json!({ "version": 1, "about": about, "metrics": metrics, "skipped": self.skipped })
    }
}

fn said(goal: Goal) -> String {
    match goal {
        Goal::RatioAtLeast(least) => format!(">= {least}x"),
        Goal::RatioAtMost(most) => format!("<= {most:.2}x"),
        Goal::AtMost(most) => format!("<= {most}"),
    }
}

/// Three digits that matter.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_and_medians() {
        let mut report = Report::default();
        for (ours, theirs) in [(500.0, 100.0), (330.0, 100.0), (100.0, 400.0)] {
            report.add("req/s c=1", product::NAME, ours);
            report.add("req/s c=1", peer::STOCK, theirs);
            report.add("syscalls/req laptop", product::NAME, 9.0);
        }
        report.add("p99 ms c=16", product::NAME, 1.0);
        report.skip("nothing, really");
        assert_eq!(report.median("req/s c=1", product::NAME), Some(330.0));
        assert_eq!(report.reached("req/s c=1"), Some((Goal::RatioAtLeast(3.2), true)));
        assert_eq!(report.reached("syscalls/req laptop"), Some((Goal::AtMost(8.0), false)));
        assert_eq!(report.reached("p99 ms c=16"), None);
        assert_eq!(report.reached("unheard of"), None);
        assert!(report.table().contains("skipped: nothing, really"));
    }
}
