//! `init`, `upgrade` and `destroy` without a command line: what `cli` and `xtask release --provision` call.

use std::time::Duration;

use super::converge::{Goal, LOOK, Run, Said};
use super::desired::{Desired, desired};
use super::observed::Observed;
use super::plan::{self, Aim, Patience, Plan};
use super::read::Look;
use super::settle::{self, Caller, Settled};
use super::wanted::Wanted;
use crate::aws::{Aws, Place};
use crate::error::{Error, Exit, Result};
use crate::host::Host;

/// Overrides [`LOOK`], in milliseconds.
pub const PACE: &str = "EPHEMWORK_AWS_PACE_MS";

/// A plan for the real account, ready to be carried out.
pub struct Prepared {
    pub look: Look,
    pub caller: Caller,
    pub observed: Observed,
    pub plan: Plan,
    pub goal: Goal,
    /// What is wanted; for a removal there is nothing.
    pub desired: Option<Box<Desired>>,
    pace: Duration,
}

impl Prepared {
    /// Carries it out.
    ///
    /// # Errors
    /// The first step that failed. Running the command again goes on from there.
    pub async fn carry_out(self, say: &mut (dyn FnMut(Said<'_>) + Send)) -> Result<Observed> {
        let mut run = Run {
            look: &self.look,
            goal: self.goal,
            pace: self.pace,
            say,
        };
        run.go(self.observed).await
    }
}

/// Opens the account.
///
/// # Errors
/// No region, or no credentials.
pub async fn open(host: &Host, wanted: &Wanted, profile: Option<&str>) -> Result<Aws> {
    let place = Place {
        region: wanted.region.clone(),
        profile: profile.map(str::to_owned),
    };
    let aws = Aws::open(host, &place).await?;
    wanted.guard_region(aws.region())?;
    Ok(aws)
}

/// Plans `init` or `upgrade`.
///
/// # Errors
/// A guard, a call that failed, a choice that only a person can make, or something in the way.
pub async fn build(host: &Host, aws: &Aws, wanted: &Wanted, aim: Aim, patience: Patience) -> Result<Prepared> {
    let pace = pace(host)?;
    let Settled {
        facts,
        observed,
        look,
        caller,
        notes,
        ..
    } = settle::settle(aws, wanted, aim).await?;
    let desired = Box::new(desired(facts));
    let mut plan = plan::towards(&desired, &observed, aim, patience)?;
    plan.notes.splice(0..0, notes);
    Ok(Prepared {
        look,
        caller,
        observed,
        plan,
        goal: Goal::Bastion {
            desired: desired.clone(),
            aim,
            patience,
        },
        desired: Some(desired),
        pace,
    })
}

/// Plans `destroy`.
///
/// # Errors
/// A guard, or a call that failed.
pub async fn remove(host: &Host, aws: &Aws, wanted: &Wanted) -> Result<Prepared> {
    let pace = pace(host)?;
    let caller = settle::caller(aws, wanted).await?;
    let look = settle::look(aws, wanted);
    let observed = look.all().await?;
    for group in observed.groups.iter().filter(|group| look.names.own(&group.tags)) {
        wanted.guard_vpc(&group.vpc, &group.name)?;
    }
    let plan = plan::removal(&look.names, &observed);
    Ok(Prepared {
        look,
        caller,
        observed,
        plan,
        goal: Goal::Nothing,
        desired: None,
        pace,
    })
}

/// Upgrades without asking, for CI: to the binary that `wanted` names.
///
/// # Errors
/// As [`build`] and [`Prepared::carry_out`]. The old instance serves on.
pub async fn upgrade(
    host: &Host,
    wanted: &Wanted,
    profile: Option<&str>,
    say: &mut (dyn FnMut(Said<'_>) + Send),
) -> Result<Observed> {
    let aws = open(host, wanted, profile).await?;
    let prepared = build(host, &aws, wanted, Aim::Upgrade, Patience::Wait).await?;
    prepared.carry_out(say).await
}

fn pace(host: &Host) -> Result<Duration> {
    let Some(text) = host.variable(PACE) else {
        return Ok(LOOK);
    };
    match text.parse() {
        Ok(milliseconds @ 0..=60_000) => Ok(Duration::from_millis(milliseconds)),
        _ => Err(Error::new(
            Exit::Config,
            format!("{PACE} is {text:?}, not a number of milliseconds up to 60000"),
        )
        .hint("leave it out: it only exists for slow accounts and quick tests")),
    }
}
