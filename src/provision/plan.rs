//! The steps from what stands in the account to a bastion, to a newer one, or to nothing. Deciding only: the same data, the same plan.
//!
//! Carrying out a plan means to do its first step, look again and plan again, so a plan need not foresee what a step brings.

mod balancing;
mod identity;
mod instances;
mod network;
mod removal;
mod text;

use std::collections::BTreeMap;

pub use removal::{left, removal};
pub use text::{object, text};

use super::desired::Desired;
use super::observed::{Group, Observed, Tags};
use super::step::{Step, Wait};
use crate::error::{Error, Exit, Result};

/// The most rounds of plan, step, look that one command takes: a bastion from nothing takes about 30.
pub const MAX_STEPS: usize = 200;

/// Where a plan leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// A bastion that serves; whichever instance does is kept.
    Bastion,
    /// A bastion whose instance is of the desired revision.
    Upgrade,
}

/// Whether the end waits for what happens by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    Wait,
    /// Until everything is created, no longer.
    NoWait,
}

/// Steps in their order, and what should be known beside them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// What is not right and no step repairs, or what a reader would not expect.
    pub notes: Vec<String>,
    /// A bastion is there already, so that the steps are repairs.
    pub repairs: bool,
}

impl Plan {
    /// Whether any step changes the account.
    pub fn writes(&self) -> bool {
        self.steps.iter().any(Step::writes)
    }
}

/// The plan towards a bastion.
///
/// # Errors
/// Something stands in the way that no step may remove: a thing of somebody else's, or a bastion in another VPC.
pub fn towards(desired: &Desired, observed: &Observed, aim: Aim, patience: Patience) -> Result<Plan> {
    let mut planner = Planner {
        desired,
        observed,
        aim,
        plan: Plan {
            repairs: observed.instances.iter().any(|instance| instance.stays()),
            ..Plan::default()
        },
    };
    planner.obstacles()?;
    planner.stale_rules();
    planner.identity();
    planner.network();
    planner.target_group();
    planner.instances();
    let mut plan = planner.plan;
    // An old instance is removed only behind its successor's health, so those waits stay.
    let replaces = plan.steps.iter().any(|step| matches!(step, Step::Terminate { .. }));
    if patience == Patience::NoWait && !replaces {
        let needed = |step: &Step| matches!(step, Step::Await(Wait::Stopped { .. } | Wait::EndpointGone { .. }));
        plan.steps.retain(|step| step.writes() || needed(step));
    }
    Ok(plan)
}

struct Planner<'a> {
    desired: &'a Desired,
    observed: &'a Observed,
    aim: Aim,
    plan: Plan,
}

impl Planner<'_> {
    fn step(&mut self, step: Step) {
        self.plan.steps.push(step);
    }

    fn note(&mut self, note: impl Into<String>) {
        self.plan.notes.push(note.into());
    }

    fn obstacles(&self) -> Result<()> {
        let (facts, observed) = (&self.desired.facts, self.observed);
        let names = &facts.names;
        let elsewhere = |what: &str, vpc: &str| {
            Err(Error::new(
                Exit::Conflict,
                format!("{what} stands in {vpc}, and the subnet {} is in {}", facts.subnet, facts.vpc),
            )
            .because("a bastion does not move from one VPC to another")
            .hint("remove it first: ephemwork bastion destroy --live"))
        };
        let tagged = [
            ("the IAM role", &names.role, observed.role.as_ref().map(|role| &role.tags)),
            (
                "the instance profile",
                &names.role,
                observed.profile.as_ref().map(|profile| &profile.tags),
            ),
            (
                "the target group",
                &names.target_group,
                observed.target_group.as_ref().map(|group| &group.tags),
            ),
        ];
        let groups = observed.groups.iter().filter(|group| group.vpc == facts.vpc);
        let groups = groups.map(|group| ("the security group", &group.name, Some(&group.tags)));
        for (what, name, tags) in tagged.into_iter().chain(groups) {
            if let Some(whose) = tags.and_then(|tags| names.foreign(tags)) {
                let what = format!("{what} {name} {whose}");
                return Err(Error::new(Exit::Conflict, what).hint("give tunnel.project_name another value in ephemwork.toml"));
            }
        }
        // In another VPC a group may have any name; only one of ours is in the way.
        let own = |group: &&Group| names.own(&group.tags) && group.vpc != facts.vpc;
        if let Some(group) = observed.groups.iter().find(own) {
            return elsewhere(&format!("the security group {} ({})", group.name, group.id), &group.vpc);
        }
        if let Some(group) = observed.target_group.as_ref().filter(|group| group.vpc != facts.vpc) {
            return elsewhere(&format!("the target group {}", names.target_group), &group.vpc);
        }
        self.foreign_rules()
    }
}

/// The tags that are wanted and absent or different.
fn missing(wanted: &Tags, found: &Tags) -> Option<Tags> {
    let missing: BTreeMap<String, String> = wanted
        .iter()
        .filter(|(key, value)| found.get(*key) != Some(value))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    (!missing.is_empty()).then_some(missing)
}

#[cfg(test)]
pub(crate) use simulated::every_step;
#[cfg(test)]
mod simulated;
#[cfg(test)]
mod tests;
