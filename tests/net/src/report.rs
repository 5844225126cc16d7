//! What a client saw of a fault, and whether that was as it should be.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::client::Asked;

/// What is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Goal {
    /// The next good answer comes within this time.
    pub next: Option<Duration>,
    /// So many requests at most have another outcome than a good answer; `None`: it is not said how many.
    pub failed: Option<usize>,
    /// Both ends notice within this time.
    pub found: Option<Duration>,
    /// The next good answer comes within this time even on a busy machine.
    pub surely: Option<Duration>,
    /// While it lasts, once it is noticed, the laptop tries to connect at least this often.
    pub tries: Option<Duration>,
}

/// What happened, and when, in microseconds of [`crate::client::now`].
#[derive(Clone, Debug)]
pub struct Struck {
    /// The fault began.
    pub from: u64,
    /// It was over; the same for one that takes no time.
    pub healed: u64,
    /// How long until both ends had noticed.
    pub found: Option<Duration>,
    /// The longest time in which the laptop, which had noticed, did not try to connect.
    pub tries: Option<Duration>,
}

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    pub name: &'static str,
    pub goal: Goal,
    /// Requests that were under way when it began, or came until all was well.
    pub asked: usize,
    /// How many had each outcome.
    pub outcomes: BTreeMap<String, usize>,
    /// The longest time that a good answer took.
    pub longest: Duration,
    /// From the end of the fault to the next good answer; of a fault that takes no time the longest time without one.
    pub next: Duration,
    pub found: Option<Duration>,
    pub tries: Option<Duration>,
    /// Requests that were under way when it began and whose connection ended with it.
    cut: usize,
}

impl Row {
    /// From all requests that were under way at the beginning or came later.
    #[must_use]
    pub fn of(name: &'static str, goal: Goal, struck: &Struck, all: &[Asked]) -> Row {
        let mut outcomes = BTreeMap::new();
        for asked in all {
            let outcome = if asked.done.is_none() {
                "never answered"
            } else {
                &asked.outcome
            };
            *outcomes.entry(outcome.to_owned()).or_insert(0) += 1;
        }
        let good = || all.iter().filter(|asked| asked.is_good());
        let longest = good().filter_map(|asked| asked.done?.checked_sub(asked.sent)).max();
        let mut done: Vec<u64> = good().filter_map(|asked| asked.done).collect();
        done.sort_unstable();
        let next = if struck.healed > struck.from {
            let next = done.iter().find(|&&at| at >= struck.healed);
            next.map(|at| at - struck.healed)
        } else {
            let before = std::iter::once(&struck.from).chain(&done);
            before.zip(&done).map(|(before, at)| at.saturating_sub(*before)).max()
        };
        Row {
            name,
            goal,
            asked: all.len(),
            outcomes,
            longest: Duration::from_micros(longest.unwrap_or(0)),
            next: next.map_or(Duration::MAX, Duration::from_micros),
            found: struck.found,
            tries: struck.tries,
            cut: all
                .iter()
                .filter(|asked| asked.sent <= struck.from && asked.outcome == "cut off")
                .count(),
        }
    }

    /// Requests that had no good answer.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.outcomes
            .iter()
            .filter(|(outcome, _)| *outcome != "200")
            .map(|(_, count)| count)
            .sum()
    }

    /// What may never be, however slow the machine is; `None` when it was not.
    #[must_use]
    pub fn wrong(&self) -> Option<String> {
        let never = ["wrong bytes", "never answered", "503 without Retry-After"];
        if let Some(never) = never.into_iter().find(|never| self.outcomes.contains_key(*never)) {
            return Some(never.to_owned());
        }
        // A busy machine has more under way at the moment of a kill than one that only does this.
        if self.goal.failed.is_some_and(|most| self.failed() > most + self.cut) {
            return Some(format!("{} requests failed", self.failed()));
        }
        if self.goal.found.is_some() && self.found.is_none() {
            return Some("not found".to_owned());
        }
        if self.next != Duration::MAX && self.goal.surely.is_some_and(|most| self.next > most) {
            return Some(format!("the next good answer after {}", time(self.next)));
        }
        if let (Some(most), Some(paused)) = (self.goal.tries, self.tries)
            && paused > most + BUSY
        {
            return Some(format!("it did not try to connect for {}", time(paused)));
        }
        (self.next == Duration::MAX).then(|| "no good answer any more".to_owned())
    }

    /// What was missed of the goal; `None` when nothing was.
    #[must_use]
    pub fn missed(&self) -> Option<String> {
        if let Some(wrong) = self.wrong() {
            return Some(wrong);
        }
        let late = |goal: Option<Duration>, took: Duration| goal.is_some_and(|goal| took > goal);
        if self.goal.failed.is_some_and(|most| self.failed() > most) {
            return Some(format!("{} requests failed", self.failed()));
        }
        if late(self.goal.next, self.next) {
            return Some(format!("the next good answer after {}", time(self.next)));
        }
        if let Some(paused) = self.tries.filter(|paused| late(self.goal.tries, *paused)) {
            return Some(format!("it did not try to connect for {}", time(paused)));
        }
        match self.found {
            Some(found) if late(self.goal.found, found) => Some(format!("found after {}", time(found))),
            _ => None,
        }
    }

    /// What the client saw, in words.
    #[must_use]
    pub fn saw(&self) -> String {
        let good = self.outcomes.get("200").copied().unwrap_or(0);
        let mut words = format!("{good} answered, the longest after {}", time(self.longest));
        for (outcome, count) in self.outcomes.iter().filter(|(outcome, _)| *outcome != "200") {
            words.push_str(&format!("; {count} {outcome}"));
        }
        if let Some(found) = self.found {
            words.push_str(&format!(" (noticed after {})", time(found)));
        }
        if let Some(paused) = self.tries {
            words.push_str(&format!(" (tries at most {} apart)", time(paused)));
        }
        words
    }

    fn goal(&self) -> String {
        let next = self.goal.next.map(time);
        let failed = self.goal.failed.map(|most| format!("{most} failed"));
        let found = self.goal.found.map(|found| format!("noticed within {}", time(found)));
        let tries = self.goal.tries.map(|tries| format!("tries every {}", time(tries)));
        let all: Vec<String> = [next, failed, found, tries].into_iter().flatten().collect();
        all.join(", ")
    }

    /// A line of a table in Markdown.
    #[must_use]
    pub fn line(&self) -> String {
        let verdict = match (self.missed(), self.goal()) {
            (Some(why), _) => format!("MISSED: {why}"),
            (None, goal) if goal.is_empty() => String::new(),
            (None, _) => "reached".to_owned(),
        };
        format!(
            "| {} | {} | {} | {} | {verdict} |",
            self.name,
            self.saw(),
            time(self.next),
            self.goal()
        )
    }

    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "fault": self.name, "asked": self.asked, "outcomes": self.outcomes, "longest_ms": self.longest.as_millis() as u64,
            "next_good_ms": u64::try_from(self.next.as_millis()).ok(), "noticed_ms": self.found.map(|found| found.as_millis() as u64),
            "tries_ms": self.tries.map(|tries| tries.as_millis() as u64),
            "missed": self.missed(),
        })
    }
}

/// How much longer than the goal a busy machine may make the pause between two attempts: a timer and some exchanges lie in between.
const BUSY: Duration = Duration::from_secs(1);

/// The head of the table.
pub const HEAD: &str = "| fault | what clients saw | next good answer | goal | |\n|---|---|---|---|---|";

fn time(time: Duration) -> String {
    match time {
        Duration::MAX => "never".to_owned(),
        time if time < Duration::from_secs(1) => format!("{} ms", time.as_millis()),
        time if time.subsec_millis() == 0 => format!("{} s", time.as_secs()),
        time => format!("{:.1} s", time.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(sent: u64, done: u64, outcome: &str) -> Asked {
        Asked {
            sent,
            done: Some(done),
            outcome: outcome.to_owned(),
        }
    }

    #[test]
    fn rows() {
        let all = [
            asked(90, 110, "200"),
            asked(120, 500, "200"),
            asked(130, 140, "refused"),
            asked(510, 520, "200"),
        ];
        let at = |from, healed| Struck {
            from,
            healed,
            found: None,
            tries: None,
        };
        let goal = Goal {
            failed: Some(0),
            ..Goal::default()
        };
        let row = Row::of("it", goal, &at(100, 100), &all);
        assert_eq!((row.next.as_micros(), row.longest.as_micros(), row.failed()), (390, 380, 1));
        assert_eq!(row.missed().as_deref(), Some("1 requests failed"));
        let row = Row::of("it", Goal::default(), &at(100, 505), &all);
        assert_eq!((row.next.as_micros(), row.missed()), (15, None));
        let late = Goal {
            next: Some(Duration::from_micros(10)),
            ..Goal::default()
        };
        let row = Row::of("it", late, &at(100, 505), &all);
        assert!(row.missed().is_some() && row.wrong().is_none());
        let sure = Goal {
            surely: Some(Duration::from_micros(10)),
            ..Goal::default()
        };
        assert!(Row::of("it", sure, &at(100, 505), &all).wrong().is_some());
        let row = |tries: u64| {
            let goal = Goal {
                tries: Some(Duration::from_secs(2)),
                ..Goal::default()
            };
            let tries = Some(Duration::from_millis(tries));
            Row::of("it", goal, &Struck { tries, ..at(100, 505) }, &all)
        };
        assert!(row(2000).missed().is_none());
        assert!(row(2500).missed().is_some() && row(2500).wrong().is_none());
        assert!(row(3500).wrong().is_some());
        let row = Row::of("it", Goal::default(), &at(100, 600), &all);
        assert_eq!(row.next, Duration::MAX);
        assert!(row.wrong().is_some());
        let row = Row::of("it", Goal::default(), &at(100, 505), &[asked(90, 510, "wrong bytes")]);
        assert_eq!(row.wrong().as_deref(), Some("wrong bytes"));
    }
}
