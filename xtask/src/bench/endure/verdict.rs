//! Whether what became of the exchanges is right. A wrong byte is never excused; what a fault may do, it may do only while it lasts and to
//! whom it concerns.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::{Value, json};

use super::client::{Fate, Kind};
use crate::bench::histogram::Histogram;

/// How many complaints are kept.
const MAX_COMPLAINTS: usize = 50;

/// The edge's reasons that a fault explains: a laptop or its service is away, comes back, or broke off.
const EXCUSABLE: [&str; 6] = [
    "reconnecting",
    "lane-lost",
    "too-many-requests",
    "port-refused",
    "service-closed",
    "not-served",
];

/// Whom a fault concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    All,
    /// These users.
    Users(Vec<String>),
}

impl Scope {
    fn covers(&self, tag: &str) -> bool {
        let user = tag.split(':').next().unwrap_or_default();
        match self {
            Scope::All => true,
            Scope::Users(users) => users.iter().any(|its| its == user),
        }
    }
}

#[derive(Debug)]
struct Span {
    what: &'static str,
    scope: Scope,
    to: Option<Instant>,
}

#[derive(Debug, Default)]
struct Judged {
    spans: Vec<Span>,
    /// How often, by kind and what it is called.
    tally: BTreeMap<(Kind, String), u64>,
    /// Failures in the time of faults.
    excused: u64,
    complaints: Vec<String>,
    complained: u64,
    /// How long whole ones took.
    took: BTreeMap<Kind, Histogram>,
}

/// What all clients tell.
#[derive(Debug, Default)]
pub(super) struct Verdict(Mutex<Judged>);

impl Verdict {
    fn judged(&self) -> MutexGuard<'_, Judged> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A fault begins; call before anything is done.
    pub(super) fn fault_begins(&self, what: &'static str, scope: Scope) -> usize {
        let mut judged = self.judged();
        judged.spans.push(Span { what, scope, to: None });
        judged.spans.len() - 1
    }

    /// Everything that it concerned has answered again.
    pub(super) fn fault_ended(&self, number: usize) {
        if let Some(span) = self.judged().spans.get_mut(number) {
            span.to = Some(Instant::now());
        }
    }

    /// Something is wrong with the run itself.
    pub(super) fn complain(&self, what: String) {
        eprintln!("wrong: {what}");
        let mut judged = self.judged();
        judged.complained += 1;
        if judged.complaints.len() < MAX_COMPLAINTS {
            judged.complaints.push(what);
        }
    }

    /// An exchange is over, on a connection that was last used at `since`: one that was kept may have ended then, and says so now.
    pub(super) fn exchanged(&self, kind: Kind, tag: &str, began: Instant, since: Instant, fate: &Fate) {
        let from = if *fate == Fate::Gone { since.min(began) } else { began };
        let took = began.elapsed();
        let excuse = {
            let mut judged = self.judged();
            *judged.tally.entry((kind, word(fate))).or_default() += 1;
            if *fate == Fate::Whole {
                judged.took.entry(kind).or_insert_with(Histogram::new).add(took);
                return;
            }
            let span = judged
                .spans
                .iter()
                .rev()
                .find(|span| span.scope.covers(tag) && span.to.is_none_or(|to| to >= from));
            let what = span.map(|span| span.what).filter(|_| excusable(fate));
            judged.excused += u64::from(what.is_some());
            what
        };
        if excuse.is_none() {
            self.complain(format!(
                "{} for {tag} after {:.3} s: {fate:?}",
                kind.name(),
                took.as_secs_f64()
            ));
        }
    }

    pub(super) fn complaints(&self) -> (u64, Vec<String>) {
        let judged = self.judged();
        (judged.complained, judged.complaints.clone())
    }

    /// Exchanges so far, and those of them that a fault ended.
    pub(super) fn count(&self) -> (u64, u64) {
        let judged = self.judged();
        (judged.tally.values().sum(), judged.excused)
    }

    pub(super) fn table(&self) -> String {
        let judged = self.judged();
        let mut kinds: Vec<Kind> = judged.tally.keys().map(|(kind, _)| *kind).collect();
        kinds.dedup();
        let mut text = String::from(
            "| traffic | exchanges | whole | ended by a fault, told | of them | wrong, crossed, hung | median of whole ones, s | longest, s |\n|---|---|---|---|---|---|---|---|\n",
        );
        for kind in kinds {
            let of_kind: Vec<(&str, u64)> = judged
                .tally
                .iter()
                .filter(|((its, _), _)| *its == kind)
                .map(|((_, word), count)| (word.as_str(), *count))
                .collect();
            let sum = |fits: &dyn Fn(&str) -> bool| -> u64 {
                of_kind.iter().filter(|(word, _)| fits(word)).map(|(_, count)| count).sum()
            };
            let never = |word: &str| matches!(word, "wrong" | "hung");
            let told: Vec<String> = of_kind
                .iter()
                .filter(|(word, _)| *word != "whole" && !never(word))
                .map(|(word, count)| format!("{count} {word}"))
                .collect();
            let took = |part| judged.took.get(&kind).map_or(f64::NAN, |took| took.quantile(part) / 1000.0);
            text.push_str(&format!(
                "| {} | {} | {} | {} | {} | {} | {:.3} | {:.1} |\n",
                kind.name(),
                sum(&|_| true),
                sum(&|word| word == "whole"),
                sum(&|word| word != "whole" && !never(word)),
                told.join(", "),
                sum(&never),
                took(0.5),
                took(1.0),
            ));
        }
        text
    }

    pub(super) fn json(&self) -> Value {
        let judged = self.judged();
        let tally: Vec<Value> = judged
            .tally
            .iter()
            .map(|((kind, word), count)| json!({"traffic": kind.name(), "fate": word, "count": count}))
            .collect();
        json!({"exchanges": tally, "excused": judged.excused, "complained": judged.complained, "complaints": judged.complaints})
    }
}

fn excusable(fate: &Fate) -> bool {
    match fate {
        Fate::Own(_, reason) => EXCUSABLE.contains(&reason.as_str()),
        Fate::Refused | Fate::Gone | Fate::Cut => true,
        Fate::Whole | Fate::Hung | Fate::Wrong(_) => false,
    }
}

fn word(fate: &Fate) -> String {
    match fate {
        Fate::Whole => "whole".to_owned(),
        Fate::Own(status, reason) => format!("{status} {reason}"),
        Fate::Refused => "no connection".to_owned(),
        Fate::Gone => "no answer".to_owned(),
        Fate::Cut => "cut".to_owned(),
        Fate::Hung => "hung".to_owned(),
        Fate::Wrong(_) => "wrong".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_fault_excuses() {
        let verdict = Verdict::default();
        let before = Instant::now();
        let told = |tag: &str, fate: Fate| {
            let (count, _) = verdict.complaints();
            let now = Instant::now();
            verdict.exchanged(Kind::Small, tag, now, now, &fate);
            verdict.complaints().0 == count
        };
        assert!(told("a:x", Fate::Whole));
        assert!(!told("a:x", Fate::Cut), "nothing excuses it");
        let fault = verdict.fault_begins("a", Scope::Users(vec!["a".to_owned()]));
        for fate in [
            Fate::Cut,
            Fate::Gone,
            Fate::Refused,
            Fate::Own(503, "reconnecting".to_owned()),
        ] {
            assert!(told("a:x", fate.clone()), "{fate:?}");
            assert!(!told("b:x", fate), "it concerns another");
        }
        for fate in [
            Fate::Hung,
            Fate::Wrong("x".to_owned()),
            Fate::Own(404, "unknown-tag".to_owned()),
        ] {
            assert!(!told("a:x", fate.clone()), "{fate:?} is never excused");
        }
        verdict.fault_ended(fault);
        crate::bench::process::pause(std::time::Duration::from_millis(2));
        assert!(!told("a:x", Fate::Cut), "it is over");
        let (count, _) = verdict.complaints();
        verdict.exchanged(Kind::Small, "a:x", before, before, &Fate::Cut);
        assert_eq!(verdict.complaints().0, count, "it began before the fault ended");
        verdict.exchanged(Kind::Small, "a:x", Instant::now(), before, &Fate::Gone);
        assert_eq!(verdict.complaints().0, count, "its connection ended then");
        verdict.exchanged(Kind::Small, "a:x", Instant::now(), before, &Fate::Cut);
        assert_eq!(verdict.complaints().0, count + 1, "it began afterwards");
    }
}
