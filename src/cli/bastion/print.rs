//! Plans and progress of `bastion` as a person reads them.

use std::time::Duration;

use super::super::say;
use crate::provision::converge::Said;
use crate::provision::cost;
use crate::provision::desired::Facts;
use crate::provision::plan::{self, Plan};
use crate::provision::rights;
use crate::provision::step::Step;

/// What takes longer than this says so, and says so again after as long as [`AGAIN`].
const SILENCE: Duration = Duration::from_secs(1);

/// Between two lines about the same wait.
const AGAIN: Duration = Duration::from_secs(10);

/// The whole of a dry run: where, what, the steps, cost, rights, the way back.
pub(super) fn plan(plan: &Plan, facts: Option<&Facts>, verbose: bool, verb: &str) -> String {
    let count = plan.steps.iter().filter(|step| step.writes()).count();
    let changes = if count == 1 { "change" } else { "changes" };
    let kind = if plan.repairs && verb == "init" {
        "The bastion is there and differs from what it should be"
    } else {
        "To do"
    };
    let mut text = format!("{kind}: {count} {changes}\n\n{}\n", plan::text(plan, verbose));
    let documents = |step: &Step| !step.documents().is_empty();
    if !verbose && plan.steps.iter().any(documents) {
        text += "policy documents and user data: --verbose\n\n";
    }
    if let Some(facts) = facts {
        text += &format!(
            "cost a month: {}\n",
            cost::monthly(&facts.instance_type, facts.listener.is_some())
        );
    }
    if plan.writes() {
        text += "\nIAM rights for these steps, beside looking (ephemwork bastion policy admin has both):\n";
        text += &rights::text(&plan.steps);
    }
    if verb != "destroy" {
        text += "\nto undo all of it: ephemwork bastion destroy --live\n";
    }
    text
}

/// Says steps as they happen: each begins on a line of its own, what takes longer says what it waits for.
pub(super) struct Progress {
    to: fn(&str),
    number: usize,
    told: Option<(Duration, String)>,
}

impl Progress {
    pub(super) fn new(to: fn(&str)) -> Progress {
        Progress {
            to,
            number: 0,
            told: None,
        }
    }

    pub(super) fn show(&mut self, said: Said<'_>) {
        match said {
            Said::Begin(step) => {
                self.number += 1;
                self.told = None;
                (self.to)(&format!("{:4}  {}\n", self.number, step.title()));
            }
            Said::Waiting { since, why, .. } => {
                let due = match &self.told {
                    None => since >= SILENCE,
                    Some((last, before)) => since >= *last + AGAIN || (*before != why && since >= *last + SILENCE),
                };
                if due {
                    (self.to)(&format!("        {}: {why}\n", say::time(since)));
                    self.told = Some((since, why));
                }
            }
            Said::Done { took, .. } => {
                if took >= SILENCE {
                    (self.to)(&format!("        done, {}\n", say::time(took)));
                }
            }
        }
    }
}
