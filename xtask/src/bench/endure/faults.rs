//! The faults: one after the other, each until everybody whom it concerned is answered again, then a moment of calm in which nothing may
//! go wrong.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::chance::Chance;
use super::daemon::Daemon;
use super::team::Team;
use super::verdict::{Scope, Verdict};
use crate::bench::process::pause;

/// The calm behind a fault, at least and at most, in milliseconds.
const CALM: (u64, u64) = (1_000, 4_000);

/// How long a laptop is stopped, at most, in milliseconds: below the 9 s after which an SSH keepalive gives it up.
const STOPPED: u64 = 6_000;

/// How long something that died stays away, at most, in milliseconds: below the hold.
const AWAY: u64 = 5_000;

/// A way is cut for one connection in so many.
const CUT_ONE_IN: u64 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    BastionKilled,
    BastionDrained,
    LaptopStopped,
    LaptopKilled,
    TakenOver,
    Cut,
    ServicesKilled,
}

impl Fault {
    const ALL: [Fault; 7] = [
        Fault::BastionKilled,
        Fault::Cut,
        Fault::LaptopKilled,
        Fault::TakenOver,
        Fault::BastionDrained,
        Fault::LaptopStopped,
        Fault::ServicesKilled,
    ];

    fn name(self) -> &'static str {
        match self {
            Fault::BastionKilled => "bastiond killed (-9) and started",
            Fault::BastionDrained => "bastiond drained (SIGTERM) and started",
            Fault::LaptopStopped => "a laptop stopped for up to 6 s",
            Fault::LaptopKilled => "a laptop killed (-9), back within 5 s",
            Fault::TakenOver => "a user's other machine takes over",
            Fault::Cut => "TCP connections of laptops cut",
            Fault::ServicesKilled => "a fifth of the services killed, back within 5 s",
        }
    }

    fn of_bastion(self) -> bool {
        matches!(self, Fault::BastionKilled | Fault::BastionDrained)
    }
}

/// How often each fault was, and how long it took until all was well, from its repair on.
#[derive(Debug, Default)]
pub(super) struct Course {
    order: Vec<Fault>,
    taken: BTreeMap<&'static str, Vec<Duration>>,
}

impl Course {
    /// The next fault, of all or only of those that leave the bastion alone; each kind comes once before any comes again.
    pub(super) fn next(
        &mut self,
        bastion_too: bool,
        team: &mut Team,
        verdict: &Verdict,
        chance: &mut Chance,
    ) -> Result<(), String> {
        if self.order.is_empty() {
            self.order = Fault::ALL.to_vec();
            for place in (1..self.order.len()).rev() {
                self.order.swap(place, chance.below(place as u64 + 1) as usize);
            }
        }
        let Some(fault) = self.order.pop() else { return Ok(()) };
        if fault.of_bastion() && !bastion_too {
            return Ok(());
        }
        let took = strike(fault, team, verdict, chance).map_err(|why| format!("{}: {why}", fault.name()))?;
        self.taken.entry(fault.name()).or_default().push(took);
        pause(Duration::from_millis(CALM.0 + chance.below(CALM.1 - CALM.0)));
        Ok(())
    }

    pub(super) fn count(&self) -> usize {
        self.taken.values().map(Vec::len).sum()
    }

    /// Number, median and longest, in seconds.
    fn rows(&self) -> impl Iterator<Item = (&'static str, usize, f64, f64)> {
        self.taken.iter().map(|(name, taken)| {
            let mut seconds: Vec<f64> = taken.iter().map(Duration::as_secs_f64).collect();
            seconds.sort_by(f64::total_cmp);
            let last = seconds.last().copied().unwrap_or(f64::NAN);
            let middle = seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN);
            (*name, seconds.len(), middle, last)
        })
    }

    pub(super) fn table(&self) -> String {
        let mut text =
            String::from("| fault | times | every tag answers again after, median, s | longest, s |\n|---|---|---|---|\n");
        for (name, count, middle, last) in self.rows() {
            text.push_str(&format!("| {name} | {count} | {middle:.2} | {last:.2} |\n"));
        }
        text
    }

    pub(super) fn json(&self) -> Value {
        let row = |(name, count, middle, last)| json!({"fault": name, "count": count, "median_s": middle, "longest_s": last});
        self.rows().map(row).collect()
    }
}

/// One fault to its end. Gives the time from its repair (the daemon serves again, the process was started again) until all is well.
fn strike(fault: Fault, team: &mut Team, verdict: &Verdict, chance: &mut Chance) -> Result<Duration, String> {
    let everybody: Vec<usize> = (0..team.laptops.len()).collect();
    let concerned = match fault {
        Fault::BastionKilled | Fault::BastionDrained | Fault::Cut => everybody,
        Fault::ServicesKilled => team.members(Team::a_group(chance)),
        Fault::LaptopStopped | Fault::LaptopKilled | Fault::TakenOver => {
            let fits = |index: &usize| {
                let laptop = &team.laptops[*index];
                !(laptop.steady || laptop.openssh && fault == Fault::TakenOver)
            };
            let fitting: Vec<usize> = everybody.into_iter().filter(fits).collect();
            let chosen = chance.below(fitting.len() as u64) as usize;
            fitting.get(chosen..=chosen).unwrap_or_default().to_vec()
        }
    };
    let users = concerned.iter().map(|&index| team.laptops[index].user.clone()).collect();
    let scope = match concerned.len() == team.laptops.len() {
        true => Scope::All,
        false => Scope::Users(users),
    };
    let number = verdict.fault_begins(fault.name(), scope);
    let away = Duration::from_millis(chance.below(AWAY));
    let Some(&first) = concerned.first() else {
        return Err("there is nobody whom it could concern".to_owned());
    };
    match fault {
        Fault::BastionKilled => team.restart_daemon(Daemon::kill)?,
        Fault::BastionDrained => team.restart_daemon(Daemon::end)?,
        Fault::Cut => {
            let (carried, cut) = team.relay.cut(CUT_ONE_IN, chance);
            if cut == 0 {
                return Err(format!("none of {carried} connections could be cut"));
            }
        }
        Fault::LaptopStopped => {
            team.signal_laptop(first, Signal::STOP);
            pause(Duration::from_millis(500 + chance.below(STOPPED - 500)));
            team.signal_laptop(first, Signal::CONT);
        }
        Fault::LaptopKilled => {
            team.kill_laptop(first);
            pause(away);
            team.start_laptop(first, &[])?;
        }
        Fault::TakenOver => team.take_over(first)?,
        Fault::ServicesKilled => {
            let group = team.laptops[first].group();
            team.kill_services(group);
            pause(away);
            team.start_services(group)?;
        }
    }
    let repaired = Instant::now();
    team.well(&concerned)?;
    let took = repaired.elapsed();
    verdict.fault_ended(number);
    Ok(took)
}
