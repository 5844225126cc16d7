//! The machine's tests: tables in virtual time, and a small world that plays any course of events against it.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::{Action, Event, Index, Job, Machine, Moment, Outcome, Restart};
use crate::error::{Error, Exit};
use crate::name::{Service, Tag};
use crate::session::note::{Note, Stage, Status};

const ALL: [Stage; 3] = [Stage::Bootstrap, Stage::Build, Stage::Run];

fn job(name: &str, stages: &[Stage]) -> Job {
    Job {
        tag: Tag::parse(&format!("alice:{name}")).unwrap(),
        stages: stages.to_vec(),
        health_timeout: Duration::from_secs(60),
    }
}

fn ms(time: u64) -> Moment {
    Duration::from_millis(time)
}

fn unreachable() -> Error {
    Error::new(Exit::Unreachable, "no answer")
}

/// Plays lines of (time in ms, event) and compares what is done, notes apart.
fn check(mut machine: Machine, course: Vec<(u64, Event, Vec<Action>)>) -> Vec<Note> {
    let mut notes = Vec::new();
    for (time, event, expected) in course {
        let text = format!("{event:?}");
        let mut found = machine.step(event, ms(time), 1.0);
        found.retain(|action| match action {
            Action::Tell(note) => {
                notes.push(note.clone());
                false
            }
            _ => true,
        });
        assert_eq!(found, expected, "at {time} ms: {text}");
    }
    notes
}

fn until_ready() -> Vec<(u64, Event, Vec<Action>)> {
    vec![
        (0, Event::Begin, vec![Action::Spawn(0, Stage::Run), Action::Watch(0)]),
        (10, Event::Unhealthy(0, "refused".into()), vec![]),
        (20, Event::Healthy(0), vec![Action::Connect(1)]),
        (30, Event::Connected(1), vec![Action::Claim(1, 0)]),
        (40, Event::Claimed(1, 0), vec![]),
    ]
}

fn stopping() -> Vec<Action> {
    vec![Action::Release(1, 0), Action::Unroute(0), Action::Stop(0)]
}

fn failed(actions: &[Action]) -> &Error {
    match actions {
        [.., Action::End(Outcome::Failed(error))] => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn all_stages_and_ctrl_c() {
    let notes = check(
        Machine::new(vec![job("api", &ALL)], Restart::Never),
        vec![
            (0, Event::Begin, vec![Action::Spawn(0, Stage::Bootstrap)]),
            (10, Event::Exited(0, Status::Code(0)), vec![]),
            (20, Event::Gone(0), vec![Action::Spawn(0, Stage::Build)]),
            (30, Event::Exited(0, Status::Code(0)), vec![]),
            (40, Event::Gone(0), vec![Action::Spawn(0, Stage::Run), Action::Watch(0)]),
            (1040, Event::Tick, vec![]),
            (1050, Event::Healthy(0), vec![Action::Connect(1)]),
            (1060, Event::Connected(1), vec![Action::Claim(1, 0)]),
            (1070, Event::Claimed(1, 0), vec![]),
            (9000, Event::Interrupt, stopping()),
            (9010, Event::Interrupt, vec![]),
            (9020, Event::Released(0), vec![]),
            (9030, Event::Exited(0, Status::Signal(15)), vec![]),
            (9040, Event::Gone(0), vec![Action::Clear(0)]),
            (9045, Event::Cleared(0), vec![Action::End(Outcome::Interrupted)]),
            (9050, Event::Tick, vec![]),
        ],
    );
    let api = Service::parse("api").unwrap();
    assert!(
        notes.contains(&Note::Waiting(api, ms(1000), "it was not looked at yet".into())),
        "{notes:?}"
    );
    assert!(notes.contains(&Note::Ready), "{notes:?}");
}

#[test]
fn a_second_ctrl_c_kills_and_ends() {
    let mut course = until_ready();
    course.push((5000, Event::Interrupt, stopping()));
    course.push((
        5200,
        Event::Interrupt,
        vec![Action::Kill(0), Action::End(Outcome::Interrupted)],
    ));
    check(Machine::new(vec![job("api", &[Stage::Run])], Restart::Never), course);
}

#[test]
fn ctrl_c_in_a_build_stops_it() {
    check(
        Machine::new(vec![job("api", &ALL)], Restart::OnFailure),
        vec![
            (0, Event::Begin, vec![Action::Spawn(0, Stage::Bootstrap)]),
            (10, Event::Terminate, vec![Action::Stop(0)]),
            (20, Event::Exited(0, Status::Code(0)), vec![]),
            (30, Event::Gone(0), vec![Action::Clear(0)]),
            // A second Ctrl-C while it is waited for.
            (
                500,
                Event::Interrupt,
                vec![Action::Kill(0), Action::End(Outcome::Interrupted)],
            ),
        ],
    );
}

#[test]
fn terminated_when_ready_is_fine() {
    let mut course = until_ready();
    course.push((50, Event::Terminate, stopping()));
    course.push((60, Event::Gone(0), vec![]));
    course.push((70, Event::Released(0), vec![Action::End(Outcome::Fine)]));
    check(Machine::new(vec![job("api", &[Stage::Run])], Restart::Never), course);
}

#[test]
fn a_failing_build_is_said_with_its_status() {
    let mut machine = Machine::new(vec![job("api", &ALL)], Restart::OnFailure);
    machine.step(Event::Begin, ms(0), 0.0);
    machine.step(Event::Exited(0, Status::Code(3)), ms(1), 0.0);
    assert_eq!(machine.step(Event::Gone(0), ms(2), 0.0), [Action::Clear(0)]);
    let end = machine.step(Event::Cleared(0), ms(3), 0.0);
    let error = failed(&end);
    assert_eq!(error.what, "bootstrap_command of service api failed with exit status 3");
    assert_eq!(error.exit, Exit::Service);
}

#[test]
fn restarts_with_backoff() {
    let mut course = until_ready();
    for (fail, again) in [(1000, 1500), (2000, 3000), (4000, 6000), (10_000, 14_000)] {
        course.push((fail, Event::Exited(0, Status::Code(1)), vec![]));
        course.push((fail + 10, Event::Gone(0), vec![]));
        course.push((again - 1, Event::Tick, vec![]));
        course.push((again, Event::Tick, vec![Action::Spawn(0, Stage::Run), Action::Watch(0)]));
        course.push((again + 1, Event::Healthy(0), vec![]));
    }
    // Healthy for a minute: the next failure counts as the first.
    course.push((100_000, Event::Exited(0, Status::Signal(9)), vec![]));
    course.push((100_000, Event::Gone(0), vec![]));
    course.push((100_500, Event::Tick, vec![Action::Spawn(0, Stage::Run), Action::Watch(0)]));
    // What is still left of the group delays the start.
    course.push((100_600, Event::Exited(0, Status::Code(1)), vec![Action::Unwatch(0)]));
    course.push((103_000, Event::Tick, vec![]));
    course.push((103_100, Event::Gone(0), vec![Action::Spawn(0, Stage::Run), Action::Watch(0)]));
    check(Machine::new(vec![job("api", &[Stage::Run])], Restart::OnFailure), course);
}

#[test]
fn never_healthy_is_an_error_at_the_deadline() {
    for restart in [Restart::Never, Restart::OnFailure] {
        let mut machine = Machine::new(vec![job("api", &[Stage::Run])], restart);
        machine.step(Event::Begin, ms(0), 0.0);
        machine.step(Event::Unhealthy(0, "status 500".into()), ms(10), 0.0);
        assert_eq!(machine.deadline(), Some(ms(1000)));
        let stop = machine.step(Event::Tick, ms(60_000), 0.0);
        assert!(stop.ends_with(&[Action::Unwatch(0), Action::Stop(0)]), "{stop:?}");
        let end = machine.step(Event::Gone(0), ms(60_010), 0.0);
        assert_eq!(failed(&end).why.as_deref(), Some("status 500"));
    }
}

#[test]
fn reconnects_with_growing_waits() {
    let mut course = until_ready();
    course.push((1000, Event::Lost(1, "reset".into()), vec![]));
    course.push((1049, Event::Tick, vec![]));
    course.push((1050, Event::Tick, vec![Action::Connect(2)]));
    course.push((1060, Event::ConnectFailed(2, unreachable()), vec![]));
    course.push((1159, Event::Tick, vec![]));
    course.push((1160, Event::Tick, vec![Action::Connect(3)]));
    // The old connection's last words count no longer.
    course.push((1165, Event::Lost(1, "reset".into()), vec![]));
    course.push((1170, Event::Connected(3), vec![Action::Claim(3, 0)]));
    course.push((1180, Event::Claimed(3, 0), vec![]));
    let notes = check(Machine::new(vec![job("api", &[Stage::Run])], Restart::Never), course);
    assert_eq!(
        notes[notes.len() - 2..],
        [Note::Lost("reset".into()), Note::Reconnected(ms(180))]
    );
}

#[test]
fn reconnect_waits_are_bounded() {
    let mut machine = Machine::new(vec![job("api", &[Stage::Run])], Restart::Never);
    for (time, event, _) in until_ready() {
        machine.step(event, ms(time), 0.0);
    }
    machine.step(Event::Lost(1, "reset".into()), ms(100), 0.0);
    let mut now = ms(100);
    for link in 2..200 {
        let until = machine.deadline().expect("it waits");
        assert!(until - now <= Duration::from_secs(5), "{link}: {:?}", until - now);
        now = until;
        let actions = machine.step(Event::Tick, now, 0.3);
        assert_eq!(actions, [Action::Connect(link)]);
        machine.step(Event::ConnectFailed(link, unreachable()), now, 0.9);
    }
}

#[test]
fn first_connection_must_succeed() {
    let mut course = until_ready();
    course.truncate(3);
    course.push((30, Event::ConnectFailed(1, unreachable()), vec![Action::Stop(0)]));
    course.push((40, Event::Gone(0), vec![Action::End(Outcome::Failed(unreachable()))]));
    check(Machine::new(vec![job("api", &[Stage::Run])], Restart::Never), course);
}

#[test]
fn displaced_services_end_and_the_last_ends_all() {
    let run = [Stage::Run];
    let mut machine = Machine::new(vec![job("api", &run), job("web", &[])], Restart::Never);
    machine.step(Event::Begin, ms(0), 0.0);
    for event in [
        Event::Healthy(0),
        Event::Healthy(1),
        Event::Connected(1),
        Event::Claimed(1, 0),
        Event::Claimed(1, 1),
    ] {
        machine.step(event, ms(1), 0.0);
    }
    let actions = machine.step(Event::Displaced(0, Some("desk".into())), ms(2), 0.0);
    assert!(actions.ends_with(&[Action::Unroute(0), Action::Stop(0)]), "{actions:?}");
    machine.step(Event::Gone(0), ms(3), 0.0);
    let end = machine.step(Event::Displaced(1, Some("desk".into())), ms(4), 0.0);
    assert_eq!(failed(&end).exit, Exit::Conflict);
}

#[test]
fn a_claim_that_is_answered_after_its_service_was_displaced_is_given_back() {
    let mut machine = Machine::new(vec![job("api", &[]), job("web", &[])], Restart::Never);
    for event in [
        Event::Begin,
        Event::Healthy(0),
        Event::Healthy(1),
        Event::Connected(1),
        Event::Displaced(0, None),
    ] {
        machine.step(event, ms(1), 0.0);
    }
    assert_eq!(machine.step(Event::Claimed(1, 0), ms(2), 0.0), [Action::Release(1, 0)]);
}

#[test]
fn down_for_one_then_for_the_other() {
    let run = [Stage::Run];
    let mut machine = Machine::new(vec![job("api", &run), job("web", &run)], Restart::Never);
    for event in [
        Event::Begin,
        Event::Healthy(0),
        Event::Healthy(1),
        Event::Connected(1),
        Event::Claimed(1, 0),
        Event::Claimed(1, 1),
    ] {
        machine.step(event, ms(1), 0.0);
    }
    let actions = machine.step(Event::Down(vec![0]), ms(2), 0.0);
    assert!(actions.ends_with(&stopping()), "{actions:?}");
    machine.step(Event::Released(0), ms(3), 0.0);
    assert_eq!(machine.step(Event::Gone(0), ms(3), 0.0), []);
    assert_eq!((machine.state(0), machine.state(1)), ("stopped", "ready"));
    machine.step(Event::Down(vec![1]), ms(4), 0.0);
    machine.step(Event::Gone(1), ms(5), 0.0);
    assert_eq!(machine.step(Event::Released(1), ms(5), 0.0), [Action::End(Outcome::Fine)]);
}

#[test]
fn draining_connects_anew() {
    let mut course = until_ready();
    course.push((1000, Event::Draining(1), vec![]));
    course.push((1050, Event::Tick, vec![Action::Connect(2)]));
    course.push((1060, Event::Connected(2), vec![Action::Claim(2, 0)]));
    course.push((1070, Event::Lost(1, "closed".into()), vec![]));
    course.push((1080, Event::Claimed(2, 0), vec![]));
    let notes = check(Machine::new(vec![job("api", &[Stage::Run])], Restart::Never), course);
    assert_eq!(notes[notes.len() - 2..], [Note::Draining, Note::Reconnected(ms(80))]);
}

/// What exists outside the machine.
struct World {
    machine: Machine,
    now: Moment,
    /// Per service: whether a group exists, whether its command ended.
    groups: Vec<Option<bool>>,
    watched: Vec<bool>,
    /// Whether something of bootstrap or build may still run.
    daemons: Vec<bool>,
    /// Answers that are due, in the order in which they may come.
    due: Vec<Event>,
    links: BTreeSet<u64>,
    held: BTreeSet<(u64, Index)>,
    killed: bool,
    ended: bool,
}

impl World {
    fn feed(&mut self, event: Event, jitter: f64) {
        let actions = self.machine.step(event, self.now, jitter);
        assert!(!self.ended || actions.is_empty(), "{actions:?} after the end");
        for action in actions {
            assert!(!self.ended, "{action:?} after the end");
            self.carry(action);
        }
    }

    fn carry(&mut self, action: Action) {
        match action {
            Action::Spawn(index, stage) => {
                assert_eq!(self.groups[index], None, "two children of service {index}");
                self.groups[index] = Some(false);
                self.daemons[index] |= stage != Stage::Run;
            }
            Action::Clear(index) => {
                assert_eq!(self.groups[index], None, "its service still runs");
                self.due.push(Event::Cleared(index));
            }
            Action::Stop(index) => {
                assert!(self.groups[index].is_some(), "stopped what does not run");
                self.due.push(Event::Gone(index));
            }
            Action::Kill(index) => {
                self.killed = true;
                self.groups[index] = None;
                self.daemons[index] = false;
            }
            Action::Watch(index) => self.watched[index] = true,
            Action::Unwatch(index) => self.watched[index] = false,
            Action::Connect(link) => self.due.push(Event::Connected(link)),
            Action::Claim(link, index) => self.due.push(Event::Claimed(link, index)),
            Action::Release(link, index) => {
                self.held.remove(&(link, index));
                self.due
                    .retain(|event| !matches!(event, Event::Claimed(l, i) if (*l, *i) == (link, index)));
                self.due.push(Event::Released(index));
            }
            Action::Unroute(_) | Action::Tell(_) => {}
            Action::End(_) => {
                self.ended = true;
                assert!(
                    self.groups.iter().all(Option::is_none),
                    "a child outlives the end: {:?}",
                    self.groups
                );
                assert!(!self.daemons.contains(&true), "a daemon outlives the end");
                let open = self.machine.tunnel.link();
                let left = self.held.iter().any(|(link, _)| Some(*link) == open);
                assert!(self.killed || !left, "a tag is still held");
            }
        }
    }

    /// Delivers one of the due answers, or makes it a failure.
    fn answer(&mut self, which: usize, fails: bool, jitter: f64) {
        if self.due.is_empty() {
            return;
        }
        let event = match (self.due.remove(which % self.due.len()), fails) {
            (Event::Connected(link), true) => Event::ConnectFailed(link, unreachable()),
            (Event::Connected(link), false) => {
                self.links.insert(link);
                Event::Connected(link)
            }
            (Event::Claimed(link, index), true) => Event::ClaimFailed(link, index, unreachable()),
            (Event::Claimed(link, index), false) => {
                self.held.insert((link, index));
                Event::Claimed(link, index)
            }
            (Event::Gone(index), _) => {
                if self.groups[index].take().is_none() {
                    return;
                }
                Event::Gone(index)
            }
            (Event::Cleared(index), _) => {
                self.daemons[index] = false;
                Event::Cleared(index)
            }
            (other, _) => other,
        };
        self.feed(event, jitter);
    }

    fn happen(&mut self, kind: u8, index: Index, number: u8) {
        let jitter = f64::from(number) / 255.0;
        match kind {
            0..=5 => self.answer(usize::from(number), number.is_multiple_of(7), jitter),
            6 | 7 => {
                if let Some(until) = self.machine.deadline() {
                    self.now = self.now.max(until);
                }
                self.feed(Event::Tick, jitter);
            }
            8 | 9 => {
                if self.groups[index] == Some(false) {
                    self.groups[index] = Some(true);
                    self.feed(Event::Exited(index, Status::Code(i32::from(number % 3))), jitter);
                    self.due.push(Event::Gone(index));
                }
            }
            10 | 11 if self.watched[index] => {
                self.watched[index] = number.is_multiple_of(4);
                let bad = Event::Unhealthy(index, "refused".into());
                self.feed(if self.watched[index] { bad } else { Event::Healthy(index) }, jitter);
            }
            12 => {
                if let Some(link) = self.links.pop_first() {
                    self.held.retain(|(of, _)| *of != link);
                    self.feed(Event::Lost(link, "reset".into()), jitter);
                }
            }
            13 => {
                if let Some(&link) = self.links.last() {
                    self.feed(Event::Draining(link), jitter);
                }
            }
            14 => {
                self.held.retain(|(_, of)| *of != index);
                self.feed(Event::Displaced(index, None), jitter);
            }
            15 if number < 30 => self.feed(Event::Interrupt, jitter),
            16 if number < 60 => self.feed(Event::Down(vec![index]), jitter),
            _ => self.now += ms(u64::from(number) * 10),
        }
    }
}

proptest! {
    #[test]
    fn any_course_ends_clean(
        course in proptest::collection::vec((0u8..20, 0usize..2, any::<u8>()), 0..120),
        restart in prop_oneof![Just(Restart::Never), Just(Restart::OnFailure)],
        stages in 0usize..4,
    ) {
        let jobs = vec![job("api", &ALL), job("web", &ALL[stages.min(3)..])];
        let mut world = World {
            machine: Machine::new(jobs, restart),
            now: Duration::ZERO,
            groups: vec![None; 2],
            watched: vec![false; 2],
            daemons: vec![false; 2],
            due: Vec::new(),
            links: BTreeSet::new(),
            held: BTreeSet::new(),
            killed: false,
            ended: false,
        };
        world.feed(Event::Begin, 0.5);
        for (kind, index, number) in course {
            world.happen(kind, index, number);
        }
        world.now += ms(1000);
        if !world.ended && world.machine.ending.is_none() {
            world.feed(Event::Interrupt, 0.5);
        }
        for _ in 0..20 {
            world.answer(0, false, 0.5);
        }
        prop_assert!(world.ended, "it does not end: {:?}", world.machine);
    }
}
