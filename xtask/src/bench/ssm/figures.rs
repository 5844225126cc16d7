//! What was measured, for people and as JSON: medians at each round trip, the goals, and what is known of AWS's own client.

use serde_json::{Value, json};

use super::{FAR, NEAR};

/// What a number has to be.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Goal {
    AtLeast(f64),
    /// In milliseconds above the round trip.
    RoundTripAnd(f64),
}

/// The goals, by metric, with the round trip at which each counts; `None` is every one.
const GOALS: &[(&str, Option<u64>, Goal)] = &[
    (super::OF_PACE, None, Goal::AtLeast(0.95)),
    (super::FOUR_OF_ONE, None, Goal::AtLeast(3.8)),
    (super::UP, Some(FAR), Goal::AtLeast(10.0)),
    (super::BESIDE_UP, None, Goal::RoundTripAnd(4.0)),
    (super::BESIDE_DOWN, None, Goal::RoundTripAnd(4.0)),
];

/// AWS's session-manager-plugin with AWS's agent, a round trip of 40 ms: SSM-PROTOCOL, section 15.
const PLUGIN: &[(&str, &str)] = &[(super::DOWN, "0.70"), (super::UP, "0.70"), (super::ALONE, "43")];

/// Samples by metric and round trip, in the order in which metrics were first seen.
#[derive(Debug, Default)]
pub(super) struct Figures {
    samples: Vec<(&'static str, [Vec<f64>; 2])>,
    notes: Vec<String>,
}

impl Figures {
    /// Adds one sample.
    pub(super) fn add(&mut self, metric: &'static str, round_trip: u64, value: f64) {
        let at = usize::from(round_trip != NEAR);
        match self.samples.iter_mut().find(|(known, _)| *known == metric) {
            Some((_, samples)) => samples[at].push(value),
            None => {
                let mut samples = [Vec::new(), Vec::new()];
                samples[at].push(value);
                self.samples.push((metric, samples));
            }
        }
    }

    /// Says at once, and again in the report, what a reader has to know.
    pub(super) fn note(&mut self, what: &str) {
        println!("{what}");
        self.notes.push(what.to_owned());
    }

    /// The table.
    pub(super) fn table(&self) -> String {
        let mut out = format!(
            "{:<36} {:>9} {:>9}  {:<28} {}\n",
            "median", "0 ms", "40 ms", "goal", "AWS's plugin at 40 ms"
        );
        for (metric, samples) in &self.samples {
            let cell = |values: &Vec<f64>| median(values).map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
            let plugin = PLUGIN.iter().find(|(name, _)| name == metric).map_or("", |(_, said)| said);
            let goal = goal(metric, samples).map_or_else(String::new, |(said, reached)| {
                format!("{said} {}", if reached { "reached" } else { "MISSED" })
            });
            let line = format!(
                "{metric:<36} {:>9} {:>9}  {goal:<28} {plugin}",
                cell(&samples[0]),
                cell(&samples[1])
            );
            out.push_str(line.trim_end());
            out.push('\n');
        }
        for note in &self.notes {
            out.push_str(&format!("note: {note}\n"));
        }
        out
    }

    /// Everything, samples included.
    pub(super) fn json(&self, about: &Value) -> Value {
        let metrics: Vec<Value> = self
            .samples
            .iter()
            .map(|(metric, samples)| {
                let at = |values: &Vec<f64>| json!({"median": median(values), "samples": values});
                let goal = goal(metric, samples).map(|(said, reached)| json!({"goal": said, "reached": reached}));
                json!({"metric": metric, "0 ms": at(&samples[0]), "40 ms": at(&samples[1]), "goal": goal})
            })
            .collect();
        json!({"version": 1, "about": about, "metrics": metrics, "notes": self.notes})
    }
}

/// A metric's goal in words, and whether it is reached wherever it counts and was measured.
fn goal(metric: &str, samples: &[Vec<f64>; 2]) -> Option<(String, bool)> {
    let (_, counts, goal) = GOALS.iter().find(|(name, ..)| *name == metric)?;
    let mut reached = None;
    for (round_trip, values) in [NEAR, FAR].into_iter().zip(samples) {
        if counts.is_none_or(|only| only == round_trip)
            && let Some(value) = median(values)
        {
            let this = match goal {
                Goal::AtLeast(least) => value >= *least,
                Goal::RoundTripAnd(more) => value <= round_trip as f64 + more,
            };
            reached = Some(reached.unwrap_or(true) && this);
        }
    }
    let said = match goal {
        Goal::AtLeast(least) => format!(">= {least}"),
        Goal::RoundTripAnd(more) => format!("<= round trip + {more}"),
    };
    Some((said, reached?))
}

/// `None` of nothing.
fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_count_where_they_do() {
        let check = |metric: &'static str, near: &[f64], far: &[f64], expected: Option<bool>| {
            let found = goal(metric, &[near.to_vec(), far.to_vec()]);
            assert_eq!(found.map(|(_, reached)| reached), expected, "{metric} {near:?} {far:?}");
        };
        check(super::super::OF_PACE, &[0.96], &[0.97], Some(true));
        check(super::super::OF_PACE, &[0.96], &[0.9, 0.97, 0.91], Some(false));
        check(super::super::OF_PACE, &[], &[], None);
        check(super::super::UP, &[3.0], &[10.0], Some(true));
        check(super::super::UP, &[3.0], &[], None);
        check(super::super::BESIDE_UP, &[3.9], &[44.1], Some(false));
        check(super::super::BESIDE_UP, &[3.9], &[43.9], Some(true));
        check(super::super::DOWN, &[1.0], &[1.0], None);
    }
}
