//! Decides what a running `up` does next: one [`Event`] in, the [`Action`]s to carry out in return.
//!
//! Nothing here has a clock, a process or a socket: time is a duration since the `up` began, randomness an argument.
//! What holds at any moment: a service has at most one process group; a command is started only when nothing of the one before
//! is left; when [`Action::End`] was said, every group was stopped or killed, every tag released or out of reach, and
//! nothing is asked any more.

#[cfg(test)]
mod courses;
mod event;
#[cfg(test)]
mod lanes;
mod tunnel;
#[cfg(test)]
mod world;

use std::collections::BTreeSet;
use std::time::Duration;

pub(crate) use event::{Action, Event, Index, Job, Lanes, Moment, Outcome, Restart};

use super::note::{Note, Stage, Status};
use crate::error::{Error, Exit};

/// The first wait before a service is started again; doubled with each failure. Short, so that a typo fixed in an editor counts soon.
const RESTART_FIRST: Duration = Duration::from_millis(500);
/// The longest wait before a service is started again.
const RESTART_MOST: Duration = Duration::from_secs(30);
/// A service that was healthy this long begins again with [`RESTART_FIRST`].
const RESTART_FORGIVEN: Duration = Duration::from_secs(60);
/// How often a person is told that something is still awaited.
const PROGRESS: Duration = Duration::from_secs(1);
/// The longest time between two such words about bootstrap and build.
const PREPARING_MOST: Duration = Duration::from_secs(30);
/// A second signal within this time is the first one delivered twice (`timeout` signals its child and its group), not a person's second thought.
const SAME_SIGNAL: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug)]
pub(crate) struct Machine {
    restart: Restart,
    works: Vec<Work>,
    tunnel: tunnel::Tunnel,
    ready: bool,
    ending: Option<Outcome>,
    signalled: Option<Moment>,
    ended: bool,
    actions: Vec<Action>,
}

/// A service and where it stands.
#[derive(Debug)]
struct Work {
    job: Job,
    phase: Phase,
    group: Group,
    /// The connections over which its tag is being given back.
    releasing: BTreeSet<u64>,
    daemons: Daemons,
    /// Failures in a row.
    failures: u32,
    /// When it must answer for the first time.
    deadline: Option<Moment>,
}

#[derive(Debug, PartialEq)]
enum Phase {
    Waiting,
    Preparing {
        since: Moment,
        tell: Moment,
    },
    Starting {
        since: Moment,
        tell: Moment,
        deadline: Moment,
        last: String,
    },
    Healthy {
        since: Moment,
    },
    Backoff {
        until: Moment,
    },
    Ended,
}

/// The process group of a service.
#[derive(Debug, PartialEq)]
enum Group {
    None,
    Running(Stage),
    /// The command ended by itself; what it left behind is being ended.
    Leftovers(Stage, Status),
    Stopping,
}

/// What left the groups of bootstrap and build, and stays as long as the service.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Daemons {
    None,
    /// There may be some.
    Possible,
    Ending,
}

impl Work {
    /// Whether anything of it is still to end.
    fn left(&self) -> bool {
        self.group != Group::None || !self.releasing.is_empty() || self.daemons != Daemons::None
    }
}

impl Machine {
    pub(crate) fn new(jobs: Vec<Job>, restart: Restart, lanes: Lanes) -> Machine {
        let work = |job| Work {
            job,
            phase: Phase::Waiting,
            group: Group::None,
            releasing: BTreeSet::new(),
            daemons: Daemons::None,
            failures: 0,
            deadline: None,
        };
        Machine {
            restart,
            works: jobs.into_iter().map(work).collect(),
            tunnel: tunnel::Tunnel::new(lanes),
            ready: false,
            ending: None,
            signalled: None,
            ended: false,
            actions: Vec::new(),
        }
    }

    /// Takes in what happened. `jitter` is a random number from 0 to 1, used when a wait is chosen.
    pub(crate) fn step(&mut self, event: Event, now: Moment, jitter: f64) -> Vec<Action> {
        if self.ended {
            return Vec::new();
        }
        match event {
            Event::Begin => (0..self.works.len()).for_each(|index| self.advance(index, None, now)),
            Event::SpawnFailed(index, error) => {
                self.works[index].group = Group::None;
                self.end(Outcome::Failed(error));
            }
            Event::Exited(index, status) => self.exited(index, status, now),
            Event::Gone(index) => self.gone(index, now),
            Event::Cleared(index) => self.works[index].daemons = Daemons::None,
            Event::Unhealthy(index, why) => {
                if let Phase::Starting { last, .. } = &mut self.works[index].phase {
                    *last = why;
                }
            }
            Event::Healthy(index) => self.healthy(index, now),
            Event::Down(indices) => self.down(indices),
            Event::Interrupt => self.signal(Outcome::Interrupted, now),
            Event::Terminate if self.ready => self.signal(Outcome::Fine, now),
            Event::Terminate => self.signal(Outcome::Interrupted, now),
            Event::Displaced(index, by) => self.displaced(index, by),
            Event::Outlived(index, why) => self.outlived(index, &why),
            Event::Connected(_)
            | Event::ConnectFailed(..)
            | Event::Claimed(..)
            | Event::ClaimFailed(..)
            | Event::Released(..)
            | Event::Lost(..)
            | Event::Left(_)
            | Event::Draining(_)
            | Event::Ending(_)
            | Event::Bulk(_) => self.tunnel_event(event, now, jitter),
            Event::Tick => {}
        }
        (0..self.works.len()).for_each(|index| self.due(index, now));
        self.tunnel_due(now);
        self.finish();
        std::mem::take(&mut self.actions)
    }

    /// When [`Event::Tick`] is due next.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        let works = self.works.iter().filter_map(|work| match work.phase {
            Phase::Preparing { tell, .. } if matches!(work.group, Group::Running(_)) => Some(tell),
            Phase::Starting { tell, deadline, .. } => Some(tell.min(deadline)),
            Phase::Backoff { until } if work.group == Group::None => Some(until),
            _ => None,
        });
        works.chain(self.tunnel_deadline()).min()
    }

    /// Whether everything was claimed once.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready
    }

    /// What `status` says of a service: a word, for people and for JSON.
    pub(crate) fn state(&self, index: Index) -> &'static str {
        let work = &self.works[index];
        match &work.phase {
            _ if self.ending.is_some() => "stopping",
            Phase::Waiting | Phase::Preparing { .. } => "preparing",
            Phase::Starting { .. } => "starting",
            Phase::Healthy { .. } if self.tunnel.holds(index) => "ready",
            Phase::Healthy { .. } if self.ready => "reconnecting",
            Phase::Healthy { .. } => "connecting",
            Phase::Backoff { .. } => "restarting",
            Phase::Ended if work.left() => "stopping",
            Phase::Ended => "stopped",
        }
    }

    fn tell(&mut self, note: Note) {
        self.actions.push(Action::Tell(note));
    }

    /// Goes to the service's command after `done`.
    fn advance(&mut self, index: Index, done: Option<Stage>, now: Moment) {
        let work = &self.works[index];
        let order = [Stage::Bootstrap, Stage::Build, Stage::Run];
        let after = done.map_or(0, |done| done as usize + 1);
        match order[after..].iter().find(|stage| work.job.stages.contains(stage)) {
            Some(&stage @ (Stage::Bootstrap | Stage::Build)) => {
                let tell = now + PROGRESS;
                self.works[index].phase = Phase::Preparing { since: now, tell };
                self.spawn(index, stage);
            }
            Some(Stage::Run) => self.start(index, now),
            None => self.watch(index, now),
        }
    }

    fn spawn(&mut self, index: Index, stage: Stage) {
        let work = &mut self.works[index];
        work.group = Group::Running(stage);
        if stage != Stage::Run {
            work.daemons = Daemons::Possible;
        }
        let note = Note::Stage(work.job.tag.service.clone(), stage);
        self.tell(note);
        self.actions.push(Action::Spawn(index, stage));
    }

    fn start(&mut self, index: Index, now: Moment) {
        self.spawn(index, Stage::Run);
        self.watch(index, now);
    }

    fn watch(&mut self, index: Index, now: Moment) {
        let work = &mut self.works[index];
        let first = *work.deadline.get_or_insert(now + work.job.health_timeout);
        // After it was ready once, each start has the whole time again.
        let deadline = if self.ready { now + work.job.health_timeout } else { first };
        work.phase = Phase::Starting {
            since: now,
            tell: now + PROGRESS,
            deadline,
            last: "it was not looked at yet".to_owned(),
        };
        self.actions.push(Action::Watch(index));
    }

    fn exited(&mut self, index: Index, status: Status, now: Moment) {
        let work = &mut self.works[index];
        let Group::Running(stage) = work.group else { return };
        work.group = Group::Leftovers(stage, status);
        if stage != Stage::Run && status.success() {
            return;
        }
        let service = work.job.tag.service.clone();
        let again = self.restart == Restart::OnFailure && stage == Stage::Run && !status.success();
        if again {
            let wait = self.back_off(index, now);
            return self.tell(Note::Exited(service, stage, status, Some(wait)));
        }
        self.tell(Note::Exited(service.clone(), stage, status, None));
        let what = match stage {
            Stage::Run => format!("service {service} {}", status.after("ended")),
            _ => format!("{} of service {service} {}", stage.key(), status.after("failed")),
        };
        let hint = match stage {
            Stage::Run if status.success() => {
                format!(
                    "run_command must stay in the foreground; to reach a service that runs elsewhere: ephemwork up {service} --no-run"
                )
            }
            _ => format!("its output is above, and in: ephemwork logs {service}"),
        };
        self.end(Outcome::Failed(Error::new(Exit::Service, what).hint(hint)));
    }

    /// Puts off the next start; returns by how much.
    fn back_off(&mut self, index: Index, now: Moment) -> Duration {
        let work = &mut self.works[index];
        let forgiven = matches!(work.phase, Phase::Healthy { since } if now.saturating_sub(since) >= RESTART_FORGIVEN);
        work.failures = if forgiven { 1 } else { work.failures.saturating_add(1) };
        let wait = RESTART_FIRST
            .saturating_mul(1 << (work.failures - 1).min(16))
            .min(RESTART_MOST);
        if let Phase::Starting { .. } = work.phase {
            self.actions.push(Action::Unwatch(index));
        }
        work.phase = Phase::Backoff { until: now + wait };
        wait
    }

    fn gone(&mut self, index: Index, now: Moment) {
        let work = &mut self.works[index];
        let group = std::mem::replace(&mut work.group, Group::None);
        if let (Group::Leftovers(stage, status), Phase::Preparing { .. }) = (group, &work.phase)
            && status.success()
        {
            self.advance(index, Some(stage), now);
        }
    }

    fn healthy(&mut self, index: Index, now: Moment) {
        let work = &mut self.works[index];
        if !matches!(work.phase, Phase::Starting { .. }) {
            return;
        }
        work.phase = Phase::Healthy { since: now };
        let service = work.job.tag.service.clone();
        self.tell(Note::Healthy(service));
    }

    /// Does what the time asks of one service.
    fn due(&mut self, index: Index, now: Moment) {
        let work = &mut self.works[index];
        match (&mut work.phase, &work.group) {
            (Phase::Backoff { until }, Group::None) if *until <= now => self.start(index, now),
            // It tells more by itself; twice as long each time says that nothing hangs, and does not drown that.
            (Phase::Preparing { since, tell }, Group::Running(stage)) if *tell <= now => {
                let so_far = now.saturating_sub(*since);
                *tell = now + so_far.min(PREPARING_MOST);
                let note = Note::Preparing(work.job.tag.service.clone(), *stage, so_far);
                self.tell(note);
            }
            (Phase::Starting { deadline, last, .. }, _) if *deadline <= now => {
                let why = last.clone();
                self.too_late(index, why, now);
            }
            (Phase::Starting { since, tell, last, .. }, _) if *tell <= now => {
                *tell = now + PROGRESS;
                let note = Note::Waiting(work.job.tag.service.clone(), now.saturating_sub(*since), last.clone());
                self.tell(note);
            }
            _ => {}
        }
    }

    fn too_late(&mut self, index: Index, why: String, now: Moment) {
        let limit = self.works[index].job.health_timeout;
        let service = self.works[index].job.tag.service.clone();
        let runs = matches!(self.works[index].group, Group::Running(_));
        if self.ready && self.restart == Restart::OnFailure && runs {
            let wait = self.back_off(index, now);
            self.works[index].group = Group::Stopping;
            self.actions.push(Action::Stop(index));
            return self.tell(Note::Sick(service, why, wait));
        }
        let what = format!("service {service} was not healthy within {} s", limit.as_secs());
        let hint = match runs {
            true => format!(
                "see: ephemwork logs {service}; in [service.{service}] health_check_path says what is asked (2xx or 3xx is healthy), \
                 and health_timeout_seconds how long"
            ),
            false => format!(
                "start it, or let ephemwork do that: run_command in [service.{service}], and `up` without --no-run; \
                 health_check_path there says what is asked (2xx or 3xx is healthy)"
            ),
        };
        self.end(Outcome::Failed(Error::new(Exit::Service, what).because(why).hint(hint)));
    }

    /// Ends one service for good.
    fn stop(&mut self, index: Index, release: bool) {
        let work = &mut self.works[index];
        if let Phase::Starting { .. } = work.phase {
            self.actions.push(Action::Unwatch(index));
        }
        if std::mem::replace(&mut work.phase, Phase::Ended) != Phase::Ended {
            self.give_back(index, release);
        }
        let work = &mut self.works[index];
        // Leftovers are being ended already.
        if let Group::Running(_) = work.group {
            work.group = Group::Stopping;
            self.actions.push(Action::Stop(index));
        }
    }

    fn down(&mut self, indices: Vec<Index>) {
        if self.ending.is_some() {
            return;
        }
        for index in indices.iter().copied() {
            if self.works[index].phase != Phase::Ended {
                let note = Note::Down(self.works[index].job.tag.service.clone());
                self.tell(note);
                self.stop(index, true);
            }
        }
        if indices.is_empty() || self.all_ended() {
            self.end(Outcome::Fine);
        }
    }

    fn displaced(&mut self, index: Index, by: Option<String>) {
        let work = &self.works[index];
        if work.phase == Phase::Ended || self.ending.is_some() {
            return;
        }
        let service = work.job.tag.service.clone();
        self.tell(Note::Displaced(service.clone(), by.clone()));
        self.stop(index, false);
        if self.all_ended() {
            let tag = &self.works[index].job.tag;
            let what = match by {
                Some(by) => format!("{tag} is served by {by} now"),
                None => format!("the bastion's admin released {tag}"),
            };
            let hint = format!("to take it back: ephemwork up {service} --takeover");
            self.end(Outcome::Failed(Error::new(Exit::Conflict, what).hint(hint)));
        }
    }

    /// The bastion ended the session by its own rule.
    fn outlived(&mut self, index: Index, why: &str) {
        let work = &self.works[index];
        if work.phase == Phase::Ended || self.ending.is_some() {
            return;
        }
        let tag = work.job.tag.clone();
        self.tell(Note::Outlived(tag.service.clone(), why.to_owned()));
        self.stop(index, false);
        if self.all_ended() {
            let error = Error::new(Exit::Conflict, format!("the bastion ended {tag}")).because(why);
            let hint = format!("claim it anew: ephemwork up {}", tag.service);
            self.end(Outcome::Failed(error.hint(hint)));
        }
    }

    fn all_ended(&self) -> bool {
        self.works.iter().all(|work| work.phase == Phase::Ended)
    }

    fn signal(&mut self, outcome: Outcome, now: Moment) {
        let again = self.signalled.is_some_and(|first| now.saturating_sub(first) < SAME_SIGNAL);
        self.signalled.get_or_insert(now);
        match self.ending {
            _ if again => {}
            None => self.end(outcome),
            Some(_) => self.end_now(outcome),
        }
    }

    fn end(&mut self, outcome: Outcome) {
        if self.ending.is_some() {
            return;
        }
        self.ending = Some(outcome);
        self.tell(Note::Stopping);
        (0..self.works.len()).for_each(|index| self.stop(index, true));
    }

    /// Ends without waiting for anything.
    fn end_now(&mut self, outcome: Outcome) {
        for (index, work) in self.works.iter_mut().enumerate() {
            work.releasing.clear();
            let group = std::mem::replace(&mut work.group, Group::None);
            let daemons = std::mem::replace(&mut work.daemons, Daemons::None);
            if group != Group::None || daemons != Daemons::None {
                self.actions.push(Action::Kill(index));
            }
        }
        if self.ending == Some(Outcome::Fine) {
            self.ending = Some(outcome);
        }
    }

    fn finish(&mut self) {
        for (index, work) in self.works.iter_mut().enumerate() {
            if work.phase == Phase::Ended && work.group == Group::None && work.daemons == Daemons::Possible {
                work.daemons = Daemons::Ending;
                self.actions.push(Action::Clear(index));
            }
        }
        if self.ending.is_none() || self.works.iter().any(Work::left) {
            return;
        }
        self.ended = true;
        if let Some(outcome) = self.ending.clone() {
            self.actions.push(Action::End(outcome));
        }
    }
}
