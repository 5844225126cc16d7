//! Tables in virtual time of what happens to several lanes.

use super::courses::{check, job, ms, unreachable};
use super::{Action, Event, Index, Lanes, Machine};
use crate::error::{Error, Exit};
use crate::session::note::Note;

fn machine(lanes: Lanes) -> Machine {
    Machine::new(vec![job("api", &[])], super::Restart::Never, lanes)
}

/// Ready over connection 1 at 20 ms.
fn ready() -> Vec<(u64, Event, Vec<Action>)> {
    vec![
        (0, Event::Begin, vec![Action::Watch(0)]),
        (0, Event::Healthy(0), vec![Action::Connect(1, 0)]),
        (10, Event::Connected(1), vec![Action::Claim(1, 0)]),
        (20, Event::Claimed(1, 0), vec![]),
    ]
}

/// One more lane is connected and claims at once.
fn added(time: u64, link: u64, then: Vec<Action>) -> [(u64, Event, Vec<Action>); 2] {
    [
        (time, Event::Connected(link), vec![Action::Claim(link, 0)]),
        (time, Event::Claimed(link, 0), then),
    ]
}

const API: Index = 0;

#[test]
fn fixed_lanes_come_one_after_the_other_once_the_first_is_ready() {
    let mut course = ready();
    course[3].2 = vec![Action::Connect(2, 1)];
    course.extend(added(30, 2, vec![]));
    course[4].2.push(Action::Connect(3, 2));
    course.extend(added(40, 3, vec![]));
    course.push((50, Event::Bulk(9), vec![]));
    course.push((60, Event::Bulk(0), vec![]));
    course.push((100_000, Event::Tick, vec![]));
    let notes = check(machine(Lanes::fixed(3)), course);
    assert_eq!(notes.iter().filter(|note| **note == Note::Ready).count(), 1, "{notes:?}");
}

#[test]
fn lanes_come_with_bulk_and_leave_when_they_are_idle() {
    let mut course = ready();
    // One body: a second lane for everything else.
    course.push((1000, Event::Bulk(1), vec![Action::Connect(2, 1)]));
    course.extend(added(1100, 2, vec![]));
    course.push((1200, Event::Bulk(0), vec![]));
    course.push((16_199, Event::Tick, vec![]));
    // Many: as many as there may be, one at a time.
    course.push((16_199, Event::Bulk(50), vec![Action::Connect(3, 2)]));
    course.push((
        16_200,
        Event::Connected(3),
        vec![Action::Claim(3, API), Action::Connect(4, 3)],
    ));
    course.push((16_300, Event::Connected(4), vec![Action::Claim(4, API)]));
    course.push((16_300, Event::Claimed(4, API), vec![]));
    course.push((16_310, Event::Claimed(3, API), vec![]));
    course.push((17_000, Event::Bulk(2), vec![]));
    course.push((25_000, Event::Bulk(1), vec![]));
    course.push((31_999, Event::Tick, vec![]));
    course.push((32_000, Event::Tick, vec![Action::Leave(3), Action::Leave(4)]));
    course.push((32_100, Event::Left(4), vec![]));
    // Their numbers are free again once they are gone.
    course.push((32_200, Event::Bulk(2), vec![Action::Connect(5, 3)]));
    check(machine(Lanes::AUTO), course);
}

#[test]
fn the_deadline_of_idle_lanes_is_announced() {
    let mut machine = machine(Lanes::AUTO);
    for (time, event, _) in ready() {
        machine.step(event, ms(time), 0.0);
    }
    machine.step(Event::Bulk(1), ms(1000), 0.0);
    machine.step(Event::Connected(2), ms(1100), 0.0);
    machine.step(Event::Claimed(2, API), ms(1100), 0.0);
    assert_eq!(machine.deadline(), None);
    machine.step(Event::Bulk(0), ms(2000), 0.0);
    assert_eq!(machine.deadline(), Some(ms(17_000)));
    assert_eq!(machine.step(Event::Tick, ms(17_000), 0.0), [Action::Leave(2)]);
    assert_eq!(machine.deadline(), None);
}

/// One lane of several is no loss, and the one that replaces it has its number, so that the bastion forgets it at once.
#[test]
fn a_lost_lane_is_replaced_in_silence() {
    let mut course = ready();
    course.push((1000, Event::Bulk(1), vec![Action::Connect(2, 1)]));
    course.extend(added(1100, 2, vec![]));
    course.push((9000, Event::Lost(1, "reset".into()), vec![]));
    course.push((9049, Event::Tick, vec![]));
    course.push((9050, Event::Tick, vec![Action::Connect(3, 0)]));
    course.push((9060, Event::ConnectFailed(3, unreachable()), vec![]));
    course.push((9160, Event::Tick, vec![Action::Connect(4, 0)]));
    course.push((9170, Event::ConnectFailed(4, unreachable()), vec![]));
    course.push((9370, Event::Tick, vec![Action::Connect(5, 0)]));
    course.extend(added(9380, 5, vec![]));
    let notes = check(machine(Lanes::AUTO), course);
    assert!(
        !notes.iter().any(|note| matches!(note, Note::Lost(_) | Note::Reconnected(_))),
        "{notes:?}"
    );
    let warnings = notes.iter().filter(|note| matches!(note, Note::Warning(_))).count();
    assert_eq!(warnings, 1, "{notes:?}");
}

#[test]
fn all_lanes_lost_is_said_once_and_all_come_back() {
    let mut course = ready();
    course[3].2 = vec![Action::Connect(2, 1)];
    course.extend(added(30, 2, vec![]));
    course.push((9000, Event::Lost(2, "reset".into()), vec![]));
    course.push((9010, Event::Lost(1, "reset".into()), vec![]));
    course.push((9060, Event::Tick, vec![Action::Connect(3, 0)]));
    course.push((9070, Event::Connected(3), vec![Action::Claim(3, API)]));
    course.push((9080, Event::Claimed(3, API), vec![Action::Connect(4, 1)]));
    course.extend(added(9090, 4, vec![]));
    let notes = check(machine(Lanes::fixed(2)), course);
    let about: Vec<&Note> = notes
        .iter()
        .filter(|note| matches!(note, Note::Lost(_) | Note::Reconnected(_)))
        .collect();
    assert_eq!(about, [&Note::Lost("reset".into()), &Note::Reconnected(ms(70))]);
}

/// A transport that is about to end: the new connection first, then the old one answers what it has.
#[test]
fn an_ending_lane_leaves_after_another_took_its_place() {
    let mut course = ready();
    course.push((1000, Event::Ending(1), vec![Action::Connect(2, 1)]));
    course.push((1010, Event::Ending(1), vec![]));
    course.push((1020, Event::ConnectFailed(2, unreachable()), vec![]));
    course.push((1070, Event::Tick, vec![Action::Connect(3, 1)]));
    course.push((1080, Event::Connected(3), vec![Action::Claim(3, API)]));
    course.push((1090, Event::Claimed(3, API), vec![Action::Leave(1)]));
    course.push((5000, Event::Left(1), vec![]));
    let notes = check(machine(Lanes::AUTO), course);
    assert!(
        !notes.iter().any(|note| matches!(note, Note::Lost(_) | Note::Draining)),
        "{notes:?}"
    );
}

#[test]
fn a_daemon_that_stops_drains_every_lane() {
    let mut course = ready();
    course[3].2 = vec![Action::Connect(2, 1)];
    course.extend(added(30, 2, vec![]));
    course.push((1000, Event::Draining(2), vec![]));
    course.push((1001, Event::Draining(1), vec![]));
    course.push((1050, Event::Tick, vec![Action::Connect(3, 2)]));
    course.push((1060, Event::Connected(3), vec![Action::Claim(3, API)]));
    // Late words of the old daemon do not concern the new one.
    course.push((1065, Event::Draining(1), vec![]));
    course.push((1070, Event::Lost(2, "closed".into()), vec![]));
    course.push((1080, Event::Claimed(3, API), vec![Action::Leave(1), Action::Connect(4, 1)]));
    course.extend(added(1090, 4, vec![]));
    let notes = check(machine(Lanes::fixed(2)), course);
    let said = notes.iter().filter(|note| **note == Note::Draining).count();
    assert_eq!(said, 1, "{notes:?}");
}

/// Of all lanes only one gives the tag back, and so does one whose claim is still under way.
#[test]
fn the_end_while_a_lane_is_added() {
    let mut course = ready();
    course.push((1000, Event::Bulk(1), vec![Action::Connect(2, 1)]));
    course.push((1010, Event::Connected(2), vec![Action::Claim(2, API)]));
    let stop = vec![Action::Release(1, API), Action::Release(2, API), Action::Unroute(API)];
    course.push((1020, Event::Interrupt, stop));
    course.push((1030, Event::Released(1, API), vec![]));
    course.push((1040, Event::Claimed(2, API), vec![]));
    course.push((1050, Event::Released(2, API), vec![Action::End(super::Outcome::Interrupted)]));
    check(machine(Lanes::AUTO), course);
}

#[test]
fn the_end_while_a_lane_is_being_connected() {
    let mut course = ready();
    course.push((1000, Event::Bulk(1), vec![Action::Connect(2, 1)]));
    course.push((1020, Event::Interrupt, vec![Action::Release(1, API), Action::Unroute(API)]));
    course.push((1025, Event::Connected(2), vec![]));
    course.push((1030, Event::Released(1, API), vec![Action::End(super::Outcome::Interrupted)]));
    check(machine(Lanes::AUTO), course);
}

/// What was being given back over a connection that broke is given back over another.
#[test]
fn a_release_survives_its_lane() {
    let mut course = ready();
    course.push((1000, Event::Bulk(1), vec![Action::Connect(2, 1)]));
    course.extend(added(1100, 2, vec![]));
    course.push((1200, Event::Interrupt, vec![Action::Release(1, API), Action::Unroute(API)]));
    course.push((1210, Event::Lost(1, "reset".into()), vec![Action::Release(2, API)]));
    course.push((1220, Event::Released(1, API), vec![]));
    course.push((1230, Event::Released(2, API), vec![Action::End(super::Outcome::Interrupted)]));
    check(machine(Lanes::AUTO), course);
}

#[test]
fn a_lane_that_may_not_claim_is_closed_and_the_others_go_on() {
    let mut course = ready();
    course.push((1000, Event::Bulk(1), vec![Action::Connect(2, 1)]));
    course.push((1010, Event::Connected(2), vec![Action::Claim(2, API)]));
    let refused = Error::new(Exit::Config, "lane 1 is beyond the most that a session may have");
    course.push((1020, Event::ClaimFailed(2, API, refused), vec![Action::Close(2)]));
    course.push((1070, Event::Tick, vec![Action::Connect(3, 1)]));
    let notes = check(machine(Lanes::AUTO), course);
    assert!(matches!(notes.last(), Some(Note::Warning(_))), "{notes:?}");
}
