//! The target group and the rules of the listener.

use std::collections::BTreeSet;

use super::super::desired::{self, DEREGISTRATION_DELAY, DesiredRule, HEALTH_INTERVAL, HEALTH_PATH};
use super::super::names::{Names, PROJECT};
use super::super::observed::{Observed, Rule, TargetGroup};
use super::super::step::{RuleText, Step, new};
use super::{Planner, missing};
use crate::error::{Error, Exit, Result};
use crate::name::HEADER_DISPLAY;

/// The priorities that a listener has ("Listener rules" in the guide of Application Load Balancers).
const PRIORITIES: std::ops::RangeInclusive<u32> = 1..=50_000;

impl Planner<'_> {
    fn own(&self, rule: &Rule) -> bool {
        own_rule(&self.desired.facts.names, self.observed.target_group.as_ref(), rule)
    }

    /// Two projects cannot share a listener: each would take all requests with the header.
    pub(super) fn foreign_rules(&self) -> Result<()> {
        let Some(listener) = &self.desired.facts.listener else {
            return Ok(());
        };
        let ours = &self.desired.facts.names.project;
        for rule in self.observed.rules.iter().filter(|rule| rule.listener == *listener) {
            let header = |condition: &super::super::observed::Condition| {
                condition
                    .header
                    .as_deref()
                    .is_some_and(|header| header.eq_ignore_ascii_case(HEADER_DISPLAY))
            };
            let other = rule.tags.get(PROJECT).filter(|project| *project != ours);
            if let Some(other) = other.filter(|_| rule.conditions.iter().any(header)) {
                return Err(Error::new(
                    Exit::Conflict,
                    format!("the listener already sends {HEADER_DISPLAY} to the bastion of the project {other:?}"),
                )
                .because(format_args!("its rule {} matches every request with the header", rule.arn))
                .hint("share that project's bastion (tunnel.project_name), or use another listener"));
            }
        }
        Ok(())
    }

    /// Rules of ours where no rule of ours belongs. A target group serves one load balancer only, so they go first.
    pub(super) fn stale_rules(&mut self) {
        let Some(listener) = self.desired.facts.listener.clone() else {
            return;
        };
        for rule in &self.observed.rules {
            if self.own(rule) && rule.listener != listener {
                self.step(delete(rule, "it stands on another listener"));
            }
        }
    }

    pub(super) fn target_group(&mut self) {
        let (desired, observed) = (self.desired, self.observed);
        let Some(listener) = &desired.facts.listener else {
            return;
        };
        let arn = match &observed.target_group {
            None => {
                self.step(Step::CreateTargetGroup {
                    name: desired.facts.names.target_group.clone(),
                    vpc: desired.facts.vpc.clone(),
                    tags: desired.tags.clone(),
                });
                let arn = new("target group");
                self.step(Step::SetAttributes {
                    target_group: arn.clone(),
                });
                arn
            }
            Some(found) => {
                self.repair(found);
                found.arn.clone()
            }
        };
        self.rules(listener, &arn);
    }

    fn repair(&mut self, found: &TargetGroup) {
        let target_group = found.arn.clone();
        if found.health_path != HEALTH_PATH || found.health_interval != HEALTH_INTERVAL {
            self.step(Step::SetHealthCheck {
                target_group: target_group.clone(),
            });
        }
        let delay = found.attributes.get("deregistration_delay.timeout_seconds");
        if delay != Some(&DEREGISTRATION_DELAY.to_string()) {
            self.step(Step::SetAttributes { target_group });
        }
        if let Some(tags) = missing(&self.desired.tags, &found.tags) {
            let arn = found.arn.clone();
            self.step(Step::TagBalancing { arn, tags });
        }
    }

    fn rules(&mut self, listener: &str, target_group: &str) {
        let on_it: Vec<&Rule> = self.observed.rules.iter().filter(|rule| rule.listener == listener).collect();
        let mut taken: BTreeSet<u32> = on_it.iter().filter_map(|rule| rule.priority).collect();
        let mut own: Vec<&Rule> = on_it.iter().copied().filter(|rule| self.own(rule)).collect();
        own.sort_by_key(|rule| rule.priority);
        let mut unmatched: Vec<&DesiredRule> = Vec::new();
        let mut last = 0;
        for wanted in &self.desired.rules {
            match own.iter().position(|rule| rule.conditions == wanted.conditions) {
                Some(index) => last = last.max(self.keep(own.remove(index), wanted, target_group)),
                None => unmatched.push(wanted),
            }
        }
        for wanted in unmatched {
            if !own.is_empty() {
                last = last.max(self.keep(own.remove(0), wanted, target_group));
                continue;
            }
            let Some(priority) = PRIORITIES.into_iter().find(|priority| !taken.contains(priority)) else {
                self.note("the listener has no free priority");
                return;
            };
            taken.insert(priority);
            last = last.max(priority);
            self.step(Step::CreateRule {
                listener: listener.to_owned(),
                priority,
                rule: text(wanted),
                target_group: target_group.to_owned(),
                tags: self.desired.tags.clone(),
            });
        }
        for rule in own {
            self.step(delete(rule, "there is one too many"));
        }
        let before: Vec<String> = on_it
            .iter()
            .filter(|rule| !self.own(rule))
            .filter_map(|rule| rule.priority)
            .filter(|priority| *priority < last)
            .map(|priority| priority.to_string())
            .collect();
        for rule in rules_of_others(&self.desired.facts.names, self.observed) {
            self.note(format!("{rule}; it is left as it is"));
        }
        if !before.is_empty() {
            self.note(format!(
                "listener rules of others come first ({}): a request that they match never reaches the bastion. Give them higher \
                 numbers if it should",
                before.join(", ")
            ));
        }
    }

    /// Repairs a rule where it differs; its priority stays.
    fn keep(&mut self, rule: &Rule, wanted: &DesiredRule, target_group: &str) -> u32 {
        let priority = rule.priority.unwrap_or_default();
        if rule.conditions != wanted.conditions || rule.forwards != [target_group.to_owned()] {
            self.step(Step::ModifyRule {
                arn: rule.arn.clone(),
                priority,
                rule: text(wanted),
                target_group: target_group.to_owned(),
            });
        }
        if let Some(tags) = missing(&self.desired.tags, &rule.tags) {
            let arn = rule.arn.clone();
            self.step(Step::TagBalancing { arn, tags });
        }
        priority
    }
}

/// Whether a rule is this project's: by its tags, or because it is just like one that has lost them.
pub(super) fn own_rule(names: &Names, target_group: Option<&TargetGroup>, rule: &Rule) -> bool {
    let like_ours = || {
        names.foreign(&rule.tags).is_none()
            && target_group.is_some_and(|group| rule.forwards == [group.arn.clone()])
            && desired::rules().iter().any(|one| one.conditions == rule.conditions)
    };
    rule.priority.is_some() && (names.own(&rule.tags) || like_ours())
}

/// Rules that somebody else made and that send requests to the bastion: a team's own path, or a part of its traffic.
pub(super) fn rules_of_others(names: &Names, observed: &Observed) -> Vec<String> {
    let group = observed.target_group.as_ref().filter(|group| names.own(&group.tags));
    let forwards = |rule: &&Rule| group.is_some_and(|group| rule.forwards.contains(&group.arn));
    let rules = observed
        .rules
        .iter()
        .filter(forwards)
        .filter(|rule| !own_rule(names, group, rule));
    rules
        .map(|rule| {
            let number = rule.priority.map_or("default".to_owned(), |priority| priority.to_string());
            format!(
                "the listener rule {number} ({}) forwards to the bastion and is not ephemwork's",
                rule.arn
            )
        })
        .collect()
}

fn text(rule: &DesiredRule) -> RuleText {
    RuleText {
        purpose: rule.purpose,
        conditions: rule.conditions.clone(),
    }
}

pub(super) fn delete(rule: &Rule, why: &str) -> Step {
    Step::DeleteRule {
        arn: rule.arn.clone(),
        priority: rule.priority.unwrap_or_default(),
        why: why.to_owned(),
    }
}
