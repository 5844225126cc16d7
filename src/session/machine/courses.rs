//! The machine's tests as tables in virtual time.

use std::time::Duration;

use super::{Action, Event, Job, Lanes, Machine, Moment, Outcome, Restart};
use crate::error::{Error, Exit};
use crate::name::{Service, Tag};
use crate::session::note::{Note, Stage, Status};

pub(super) const ALL: [Stage; 3] = [Stage::Bootstrap, Stage::Build, Stage::Run];

pub(super) fn job(name: &str, stages: &[Stage]) -> Job {
    Job {
        tag: Tag::parse(&format!("alice:{name}")).unwrap(),
        stages: stages.to_vec(),
        health_timeout: Duration::from_secs(60),
    }
}

pub(super) fn ms(time: u64) -> Moment {
    Duration::from_millis(time)
}

pub(super) fn unreachable() -> Error {
    Error::new(Exit::Unreachable, "no answer")
}

/// Plays lines of (time in ms, event) and compares what is done, notes apart.
pub(super) fn check(mut machine: Machine, course: Vec<(u64, Event, Vec<Action>)>) -> Vec<Note> {
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

pub(super) fn until_ready() -> Vec<(u64, Event, Vec<Action>)> {
    vec![
        (0, Event::Begin, vec![Action::Spawn(0, Stage::Run), Action::Watch(0)]),
        (10, Event::Unhealthy(0, "refused".into()), vec![]),
        (20, Event::Healthy(0), vec![Action::Connect(1, 0)]),
        (30, Event::Connected(1), vec![Action::Claim(1, 0)]),
        (40, Event::Claimed(1, 0), vec![]),
    ]
}

pub(super) fn stopping() -> Vec<Action> {
    vec![Action::Release(1, 0), Action::Unroute(0), Action::Stop(0)]
}

pub(super) fn failed(actions: &[Action]) -> &Error {
    match actions {
        [.., Action::End(Outcome::Failed(error))] => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn all_stages_and_ctrl_c() {
    let notes = check(
        Machine::new(vec![job("api", &ALL)], Restart::Never, Lanes::fixed(1)),
        vec![
            (0, Event::Begin, vec![Action::Spawn(0, Stage::Bootstrap)]),
            (10, Event::Exited(0, Status::Code(0)), vec![]),
            (20, Event::Gone(0), vec![Action::Spawn(0, Stage::Build)]),
            (30, Event::Exited(0, Status::Code(0)), vec![]),
            (40, Event::Gone(0), vec![Action::Spawn(0, Stage::Run), Action::Watch(0)]),
            (1040, Event::Tick, vec![]),
            (1050, Event::Healthy(0), vec![Action::Connect(1, 0)]),
            (1060, Event::Connected(1), vec![Action::Claim(1, 0)]),
            (1070, Event::Claimed(1, 0), vec![]),
            (9000, Event::Interrupt, stopping()),
            (9010, Event::Interrupt, vec![]),
            (9020, Event::Released(1, 0), vec![]),
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
    check(
        Machine::new(vec![job("api", &[Stage::Run])], Restart::Never, Lanes::fixed(1)),
        course,
    );
}

#[test]
fn ctrl_c_in_a_build_stops_it() {
    check(
        Machine::new(vec![job("api", &ALL)], Restart::OnFailure, Lanes::fixed(1)),
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
    course.push((70, Event::Released(1, 0), vec![Action::End(Outcome::Fine)]));
    check(
        Machine::new(vec![job("api", &[Stage::Run])], Restart::Never, Lanes::fixed(1)),
        course,
    );
}

#[test]
fn a_failing_build_is_said_with_its_status() {
    let mut machine = Machine::new(vec![job("api", &ALL)], Restart::OnFailure, Lanes::fixed(1));
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
    check(
        Machine::new(vec![job("api", &[Stage::Run])], Restart::OnFailure, Lanes::fixed(1)),
        course,
    );
}

#[test]
fn never_healthy_is_an_error_at_the_deadline() {
    for restart in [Restart::Never, Restart::OnFailure] {
        let mut machine = Machine::new(vec![job("api", &[Stage::Run])], restart, Lanes::fixed(1));
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
    course.push((1050, Event::Tick, vec![Action::Connect(2, 0)]));
    course.push((1060, Event::ConnectFailed(2, unreachable()), vec![]));
    course.push((1149, Event::Tick, vec![]));
    course.push((1150, Event::Tick, vec![Action::Connect(3, 0)]));
    // The old connection's last words count no longer.
    course.push((1165, Event::Lost(1, "reset".into()), vec![]));
    course.push((1170, Event::Connected(3), vec![Action::Claim(3, 0)]));
    course.push((1180, Event::Claimed(3, 0), vec![]));
    let notes = check(
        Machine::new(vec![job("api", &[Stage::Run])], Restart::Never, Lanes::fixed(1)),
        course,
    );
    assert_eq!(
        notes[notes.len() - 2..],
        [Note::Lost("reset".into()), Note::Reconnected(ms(180))]
    );
}

#[test]
fn reconnect_waits_are_bounded() {
    let mut machine = Machine::new(vec![job("api", &[Stage::Run])], Restart::Never, Lanes::fixed(1));
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
        assert_eq!(actions, [Action::Connect(link, 0)]);
        machine.step(Event::ConnectFailed(link, unreachable()), now, 0.9);
    }
}

#[test]
fn an_attempt_that_nobody_answers_is_a_pause_itself() {
    let mut course = until_ready();
    course.push((1000, Event::Lost(1, "silence".into()), vec![]));
    course.push((1050, Event::Tick, vec![Action::Connect(2, 0)]));
    for link in 2..10 {
        let time = 1050 + (link - 1) * 10_000;
        course.push((
            time,
            Event::ConnectFailed(link, unreachable()),
            vec![Action::Connect(link + 1, 0)],
        ));
    }
    check(
        Machine::new(vec![job("api", &[Stage::Run])], Restart::Never, Lanes::fixed(1)),
        course,
    );
}

#[test]
fn first_connection_must_succeed() {
    let mut course = until_ready();
    course.truncate(3);
    course.push((30, Event::ConnectFailed(1, unreachable()), vec![Action::Stop(0)]));
    course.push((40, Event::Gone(0), vec![Action::End(Outcome::Failed(unreachable()))]));
    check(
        Machine::new(vec![job("api", &[Stage::Run])], Restart::Never, Lanes::fixed(1)),
        course,
    );
}

#[test]
fn displaced_services_end_and_the_last_ends_all() {
    let run = [Stage::Run];
    let mut machine = Machine::new(vec![job("api", &run), job("web", &[])], Restart::Never, Lanes::fixed(1));
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
    let mut machine = Machine::new(vec![job("api", &[]), job("web", &[])], Restart::Never, Lanes::fixed(1));
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
    let mut machine = Machine::new(vec![job("api", &run), job("web", &run)], Restart::Never, Lanes::fixed(1));
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
    machine.step(Event::Released(1, 0), ms(3), 0.0);
    assert_eq!(machine.step(Event::Gone(0), ms(3), 0.0), []);
    assert_eq!((machine.state(0), machine.state(1)), ("stopped", "ready"));
    machine.step(Event::Down(vec![1]), ms(4), 0.0);
    machine.step(Event::Gone(1), ms(5), 0.0);
    assert_eq!(machine.step(Event::Released(1, 1), ms(5), 0.0), [Action::End(Outcome::Fine)]);
}

#[test]
fn draining_connects_anew() {
    let mut course = until_ready();
    course.push((1000, Event::Draining(1), vec![]));
    course.push((1050, Event::Tick, vec![Action::Connect(2, 1)]));
    course.push((1060, Event::Connected(2), vec![Action::Claim(2, 0)]));
    course.push((1070, Event::Lost(1, "closed".into()), vec![]));
    course.push((1080, Event::Claimed(2, 0), vec![]));
    let notes = check(
        Machine::new(vec![job("api", &[Stage::Run])], Restart::Never, Lanes::fixed(1)),
        course,
    );
    assert_eq!(notes[notes.len() - 2..], [Note::Draining, Note::Reconnected(ms(80))]);
}
