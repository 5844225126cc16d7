//! A small world that plays any course of events against the machine.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::courses::{ALL, job, ms, unreachable};
use super::{Action, Event, Index, Lanes, Machine, Moment, Restart};
use crate::protocol::MAX_LANES;
use crate::session::note::{Stage, Status};

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
    /// The lane number of each connection, from the moment it is asked for until nothing is left of it.
    numbers: BTreeMap<u64, u32>,
    /// The connections that stand.
    links: BTreeSet<u64>,
    /// Those that are about to go.
    going: BTreeSet<u64>,
    /// Which connection carries which tag, as the bastion sees it.
    held: BTreeSet<(u64, Index)>,
    lanes: Lanes,
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
        assert!(self.numbers.len() <= MAX_LANES as usize, "{:?}", self.numbers);
        let stay = self.numbers.keys().filter(|link| !self.going.contains(link)).count();
        assert!(stay <= self.lanes.most, "{stay} lanes: {:?}", self.machine);
    }

    /// Nothing is left of a connection.
    fn cut(&mut self, link: u64) {
        self.numbers.remove(&link);
        self.links.remove(&link);
        self.held.retain(|(of, _)| *of != link);
        self.due.retain(|event| match event {
            Event::Connected(of) | Event::Claimed(of, _) | Event::Left(of) => *of != link,
            _ => true,
        });
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
            Action::Connect(link, number) => {
                let connecting = self.due.iter().any(|event| matches!(event, Event::Connected(_)));
                assert!(!connecting, "two connections are made at once");
                assert!(number < MAX_LANES);
                let taken = self.numbers.values().any(|&other| other == number);
                assert!(!taken, "two lanes have number {number}: {:?}", self.numbers);
                self.numbers.insert(link, number);
                self.due.push(Event::Connected(link));
            }
            Action::Leave(link) => {
                assert!(self.links.contains(&link), "connection {link} does not stand");
                self.going.insert(link);
                let left: Vec<Index> = (0..2).filter(|&index| self.held.remove(&(link, index))).collect();
                for index in left {
                    let others = self
                        .held
                        .iter()
                        .any(|(other, of)| *of == index && !self.going.contains(other));
                    assert!(others, "service {index} has no lane after {link} left");
                }
                self.due.push(Event::Left(link));
            }
            Action::Close(link) => self.cut(link),
            Action::Claim(link, index) => self.due.push(Event::Claimed(link, index)),
            Action::Release(link, index) => {
                assert!(self.links.contains(&link), "connection {link} does not stand");
                self.held.retain(|(_, of)| *of != index);
                self.due
                    .retain(|event| !matches!(event, Event::Claimed(l, i) if (*l, *i) == (link, index)));
                self.due.push(Event::Released(link, index));
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
                let open: BTreeSet<u64> = self.machine.tunnel.carrying().collect();
                let left = self.held.iter().any(|(link, _)| open.contains(link));
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
            (Event::Connected(link), true) => {
                self.cut(link);
                Event::ConnectFailed(link, unreachable())
            }
            (Event::Left(link), _) => {
                self.cut(link);
                Event::Left(link)
            }
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

    /// One of the connections that stand.
    fn link(&self, number: u8) -> Option<u64> {
        let count = self.links.len().max(1);
        self.links.iter().nth(usize::from(number) % count).copied()
    }

    /// Lets everything come that is due, and time pass until nothing is.
    fn settle(&mut self) {
        for _ in 0..200 {
            while !self.due.is_empty() {
                self.answer(0, false, 0.5);
            }
            match self.machine.deadline() {
                Some(until) => {
                    self.now = self.now.max(until);
                    self.feed(Event::Tick, 0.5);
                }
                None => break,
            }
        }
    }

    /// Whether every service has what it needs.
    fn sound(&self) -> bool {
        self.machine.is_ready() && self.machine.ending.is_none()
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
                if let Some(link) = self.link(number) {
                    self.cut(link);
                    self.feed(Event::Lost(link, "reset".into()), jitter);
                }
            }
            13 => {
                if let Some(link) = self.link(number) {
                    // A laptop that is not ready yet does not listen, and one that leaves knows why.
                    if self.machine.is_ready() && self.machine.tunnel.carrying().any(|open| open == link) {
                        self.going.extend(self.links.iter());
                    }
                    self.feed(Event::Draining(link), jitter);
                }
            }
            17 => {
                if let Some(link) = self.link(number) {
                    self.going.insert(link);
                    self.feed(Event::Ending(link), jitter);
                }
            }
            18 | 19 => self.feed(Event::Bulk(usize::from(number % 8)), jitter),
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
        course in proptest::collection::vec((0u8..22, 0usize..2, any::<u8>()), 0..160),
        restart in prop_oneof![Just(Restart::Never), Just(Restart::OnFailure)],
        lanes in prop_oneof![Just(Lanes::fixed(1)), Just(Lanes::fixed(3)), Just(Lanes::AUTO)],
        stages in 0usize..4,
    ) {
        let jobs = vec![job("api", &ALL), job("web", &ALL[stages.min(3)..])];
        let mut world = World {
            machine: Machine::new(jobs, restart, lanes),
            now: Duration::ZERO,
            groups: vec![None; 2],
            watched: vec![false; 2],
            daemons: vec![false; 2],
            due: Vec::new(),
            numbers: BTreeMap::new(),
            links: BTreeSet::new(),
            going: BTreeSet::new(),
            held: BTreeSet::new(),
            lanes,
            killed: false,
            ended: false,
        };
        world.feed(Event::Begin, 0.5);
        for (kind, index, number) in course {
            world.happen(kind, index, number);
        }
        if world.sound() {
            // What was wanted a moment ago counts no more, and everything heals by itself.
            world.feed(Event::Bulk(0), 0.5);
            world.settle();
        }
        if world.sound() {
            prop_assert_eq!(world.machine.tunnel.carrying().count(), lanes.least, "{:?}", world.machine);
            prop_assert_eq!(world.machine.tunnel.open(), lanes.least, "{:?}", world.machine);
            for (index, work) in world.machine.works.iter().enumerate() {
                for &link in world.links.iter().filter(|_| work.phase != super::Phase::Ended) {
                    prop_assert!(world.held.contains(&(link, index)), "lane {} does not carry {}", link, index);
                }
            }
        }
        world.now += ms(1000);
        if !world.ended && world.machine.ending.is_none() {
            world.feed(Event::Interrupt, 0.5);
        }
        for _ in 0..60 {
            world.answer(0, false, 0.5);
        }
        prop_assert!(world.ended, "it does not end: {:?}", world.machine);
    }
}
