//! The machine's part that keeps the connections to the bastion: how many there are to be, which is replaced, which one leaves.
//!
//! What holds: at most one connection is being made; a tag that is claimed at all stays claimed while one connection after the
//! other is lost; one that is to go leaves only after another carries everything.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Action, Event, Index, Lanes, Machine, Moment, Outcome, Phase};
use crate::error::{Error, Exit};
use crate::protocol::MAX_LANES;
use crate::session::note::Note;
use crate::session::pause;

/// The longest wait before adding a lane again while others carry the requests: nobody waits for it, and each attempt is a call of AWS.
const MOST_BESIDE: Duration = Duration::from_secs(60);
/// A connection that stood this long begins again with the first wait: one that is lost again and again makes at most one attempt in
/// this time.
const FORGIVEN: Duration = Duration::from_secs(1);
/// How often a person is told that the connection is still gone.
const REMIND: Duration = Duration::from_secs(10);
/// How long fewer lanes have to be enough before one leaves: uploads come in groups, and making a lane takes about a second.
const IDLE: Duration = Duration::from_secs(15);

/// Where the connections stand.
#[derive(Debug)]
pub(super) struct Tunnel {
    limits: Lanes,
    /// By the number of the connection; each until nothing more is heard of it.
    lanes: BTreeMap<u64, Lane>,
    /// The number of the last connection asked for.
    link: u64,
    /// Failures in a row.
    failures: u32,
    /// The next connection is not asked for before.
    not_before: Option<Moment>,
    /// Since when there is none, and when that was said last.
    lost: Option<(Moment, Moment)>,
    /// How many lanes there are to be.
    wanted: usize,
    /// How many would do, and since when these are fewer.
    enough: usize,
    fewer_since: Option<Moment>,
    /// It was said that a lane could not be added, and none was since.
    complained: bool,
}

#[derive(Debug)]
struct Lane {
    /// Which of the sessions' lanes it is.
    number: u32,
    state: State,
    asked: BTreeSet<Index>,
    held: BTreeSet<Index>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// Since then.
    Connecting(Moment),
    /// Connected since then.
    Up(Moment),
    /// As before, and another one is to take its place.
    Ending(Moment),
    /// Its daemon stops: it answers what it has.
    Draining,
    /// It was asked to leave.
    Leaving,
}

impl Lane {
    /// Whether new requests come over it.
    fn carries(&self) -> bool {
        matches!(self.state, State::Up(_) | State::Ending(_))
    }

    /// Whether it stays, as far as one knows.
    fn stays(&self) -> bool {
        matches!(self.state, State::Connecting(_) | State::Up(_))
    }
}

impl Tunnel {
    pub(super) fn new(limits: Lanes) -> Tunnel {
        Tunnel {
            limits,
            lanes: BTreeMap::new(),
            link: 0,
            failures: 0,
            not_before: None,
            lost: None,
            wanted: limits.least,
            enough: limits.least,
            fewer_since: None,
            complained: false,
        }
    }

    /// Whether requests of the service come.
    pub(super) fn holds(&self, index: Index) -> bool {
        self.lanes.values().any(|lane| lane.carries() && lane.held.contains(&index))
    }

    /// The connections over which requests come.
    #[cfg(test)]
    pub(super) fn carrying(&self) -> impl Iterator<Item = u64> {
        self.lanes.iter().filter(|(_, lane)| lane.carries()).map(|(&link, _)| link)
    }

    /// The connections that are made, stand, or end.
    #[cfg(test)]
    pub(super) fn open(&self) -> usize {
        self.lanes.len()
    }

    fn carried(&self) -> bool {
        self.lanes.values().any(Lane::carries)
    }

    fn staying(&self) -> usize {
        self.lanes.values().filter(|lane| lane.stays()).count()
    }

    /// Puts off the next attempt. The pause counts from `since`: an attempt that nobody answered has been a pause itself, and when the
    /// network is back nobody is to wait for another one.
    fn wait(&mut self, since: Moment, jitter: f64) {
        let most = if self.carried() { MOST_BESIDE } else { pause::MOST };
        self.not_before = Some(since + pause::after(self.failures, most, jitter));
        self.failures = self.failures.saturating_add(1);
    }

    /// So many large bodies: each has a lane, and one lane is free of them, so that small requests do not wait behind any.
    fn bulk(&mut self, count: usize, now: Moment) {
        let beside = if count == 0 { 0 } else { count.saturating_add(1) };
        self.enough = beside.clamp(self.limits.least, self.limits.most);
        if self.enough >= self.wanted {
            self.wanted = self.enough;
            self.fewer_since = None;
        } else {
            self.fewer_since.get_or_insert(now);
        }
    }

    /// The lowest lane number that nobody has. A lane that was lost leaves its number to the one that replaces it, so that the
    /// bastion forgets the lost one at once.
    fn free_number(&self) -> Option<u32> {
        (0..MAX_LANES).find(|number| self.lanes.values().all(|lane| lane.number != *number))
    }
}

impl Machine {
    /// Every connection: its number, its lane number, and a word for its state.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = (u64, u32, &'static str)> {
        self.tunnel.lanes.iter().map(|(&link, lane)| {
            let state = match lane.state {
                State::Connecting(_) => "connecting",
                State::Up(_) => "up",
                State::Ending(_) => "ending",
                State::Draining => "draining",
                State::Leaving => "leaving",
            };
            (link, lane.number, state)
        })
    }

    /// Whether requests come over no other connection, as far as this laptop knows.
    pub(crate) fn is_only(&self, link: u64) -> bool {
        let mut others = self.tunnel.lanes.iter().filter(|&(&other, _)| other != link);
        others.all(|(_, lane)| !lane.carries())
    }

    /// When [`Machine::tunnel_due`] has something to do next.
    pub(super) fn tunnel_deadline(&self) -> Option<Moment> {
        if self.ending.is_some() {
            return None;
        }
        let connect = self.tunnel.not_before.filter(|_| self.wants_lane());
        let relax = self.tunnel.fewer_since.map(|since| since + IDLE);
        connect.into_iter().chain(relax).min()
    }

    /// Does what the time asks of the tunnel.
    pub(super) fn tunnel_due(&mut self, now: Moment) {
        if self.ending.is_some() {
            return;
        }
        self.tunnel_complete(now);
        if self.tunnel.fewer_since.is_some_and(|since| since + IDLE <= now) {
            self.tunnel.wanted = self.tunnel.enough;
            self.tunnel.fewer_since = None;
        }
        self.leave_spare();
        if self.wants_lane() && self.tunnel.not_before.is_none_or(|until| until <= now) {
            self.connect(now);
        }
    }

    fn wants_lane(&self) -> bool {
        if self
            .tunnel
            .lanes
            .values()
            .any(|lane| matches!(lane.state, State::Connecting(_)))
        {
            return false;
        }
        match self.tunnel.staying() {
            0 => {
                self.ready
                    || self
                        .works
                        .iter()
                        .all(|work| matches!(work.phase, Phase::Healthy { .. } | Phase::Ended))
            }
            staying => self.ready && staying < self.tunnel.wanted && self.all_held(),
        }
    }

    fn connect(&mut self, now: Moment) {
        if !self.ready {
            self.tell(Note::Connecting);
        }
        let number = match self.tunnel.free_number() {
            Some(number) => number,
            // The oldest of those that only end gives way.
            None => {
                let oldest = self.tunnel.lanes.iter().find(|(_, lane)| !lane.stays());
                let Some((&link, number)) = oldest.map(|(link, lane)| (link, lane.number)) else {
                    return;
                };
                self.close(link);
                number
            }
        };
        self.tunnel.link += 1;
        let lane = Lane {
            number,
            state: State::Connecting(now),
            asked: BTreeSet::new(),
            held: BTreeSet::new(),
        };
        self.tunnel.lanes.insert(self.tunnel.link, lane);
        self.actions.push(Action::Connect(self.tunnel.link, number));
    }

    /// Lets those go that are too many, and those whose place is taken.
    fn leave_spare(&mut self) {
        let needed = |index: &Index| self.works[*index].phase != Phase::Ended;
        let all: BTreeSet<Index> = (0..self.works.len()).filter(needed).collect();
        let full = |lane: &Lane| matches!(lane.state, State::Up(_)) && lane.asked.is_empty() && lane.held.is_superset(&all);
        let mut whole: Vec<(u32, u64)> = self
            .tunnel
            .lanes
            .iter()
            .filter(|(_, lane)| full(lane))
            .map(|(&link, lane)| (lane.number, link))
            .collect();
        if whole.is_empty() {
            return;
        }
        whole.sort_unstable();
        let spare = whole.iter().skip(self.tunnel.wanted).map(|&(_, link)| link);
        let replaced = self.tunnel.lanes.iter();
        let replaced = replaced.filter(|(_, lane)| matches!(lane.state, State::Ending(_) | State::Draining));
        let leaving: Vec<u64> = spare.chain(replaced.map(|(&link, _)| link)).collect();
        for link in leaving {
            if let Some(lane) = self.tunnel.lanes.get_mut(&link) {
                lane.state = State::Leaving;
                self.actions.push(Action::Leave(link));
            }
        }
    }

    pub(super) fn tunnel_event(&mut self, event: Event, now: Moment, jitter: f64) {
        match event {
            Event::Connected(link) => self.connected(link, now),
            Event::ConnectFailed(link, error) => self.connect_failed(link, error, now, jitter),
            Event::Claimed(link, index) => self.claimed(link, index),
            Event::ClaimFailed(link, index, error) => self.claim_failed(link, index, error, now, jitter),
            Event::Released(link, index) => self.released(link, index),
            Event::Lost(link, why) => self.lost(link, why, now, jitter),
            Event::Left(link) => drop(self.gone_lane(link)),
            Event::Draining(link) => self.draining(link, now, jitter),
            Event::Ending(link) => {
                if let Some(lane) = self.tunnel.lanes.get_mut(&link)
                    && let State::Up(since) = lane.state
                {
                    lane.state = State::Ending(since);
                }
            }
            Event::Bulk(count) => self.tunnel.bulk(count, now),
            _ => {}
        }
    }

    fn connected(&mut self, link: u64, now: Moment) {
        let Some(lane) = self.tunnel.lanes.get_mut(&link) else {
            return;
        };
        if self.ending.is_some() {
            return;
        }
        lane.state = State::Up(now);
        self.tunnel.complained = false;
        for (index, work) in self.works.iter().enumerate() {
            if work.phase != Phase::Ended {
                lane.asked.insert(index);
                self.actions.push(Action::Claim(link, index));
            }
        }
    }

    fn claimed(&mut self, link: u64, index: Index) {
        let Some(lane) = self.tunnel.lanes.get_mut(&link) else {
            return;
        };
        if !lane.asked.remove(&index) {
            return;
        }
        if self.works[index].phase != Phase::Ended {
            lane.held.insert(index);
        } else if self.works[index].releasing.insert(link) {
            // It ended while the claim was under way; one that is being given back over this connection already is not any more.
            self.actions.push(Action::Release(link, index));
        }
    }

    fn all_held(&self) -> bool {
        let done = |(index, work): (Index, &super::Work)| work.phase == Phase::Ended || self.tunnel.holds(index);
        self.works.iter().enumerate().all(done)
    }

    /// Says that everything is claimed, once for each time that nothing was.
    fn tunnel_complete(&mut self, now: Moment) {
        if !self.tunnel.carried() || !self.all_held() {
            return;
        }
        if !self.ready {
            self.ready = true;
            self.tell(Note::Ready);
        } else if let Some((since, _)) = self.tunnel.lost {
            self.tell(Note::Reconnected(now.saturating_sub(since)));
        }
        self.tunnel.lost = None;
    }

    /// The service has ended: its tag is given back where it is held, and wherever that was asked for.
    pub(super) fn give_back(&mut self, index: Index, release: bool) {
        let lanes = self.tunnel.lanes.iter().filter(|(_, lane)| lane.carries());
        let asked = lanes.clone().filter(|(_, lane)| lane.asked.contains(&index));
        let holder = lanes.clone().find(|(_, lane)| lane.held.contains(&index));
        let links: BTreeSet<u64> = asked.chain(holder).map(|(&link, _)| link).collect();
        if links.is_empty() {
            return;
        }
        if release {
            let give = links.iter().map(|&link| Action::Release(link, index));
            self.actions.extend(give);
            self.works[index].releasing = links;
        } else {
            for lane in self.tunnel.lanes.values_mut() {
                lane.held.remove(&index);
            }
        }
        self.actions.push(Action::Unroute(index));
    }

    fn released(&mut self, link: u64, index: Index) {
        let releasing = &mut self.works[index].releasing;
        if releasing.remove(&link) && releasing.is_empty() {
            for lane in self.tunnel.lanes.values_mut() {
                lane.held.remove(&index);
            }
        }
    }

    /// A connection is over. What was being given back over it is given back over another one.
    fn gone_lane(&mut self, link: u64) -> Option<Lane> {
        let lane = self.tunnel.lanes.remove(&link)?;
        for (index, work) in self.works.iter_mut().enumerate() {
            if !work.releasing.remove(&link) || !work.releasing.is_empty() {
                continue;
            }
            let mut others = self.tunnel.lanes.iter();
            if let Some((&other, _)) = others.find(|(_, lane)| lane.carries() && lane.held.contains(&index)) {
                work.releasing.insert(other);
                self.actions.push(Action::Release(other, index));
            }
        }
        Some(lane)
    }

    fn close(&mut self, link: u64) {
        if self.gone_lane(link).is_some() {
            self.actions.push(Action::Close(link));
        }
    }

    fn connect_failed(&mut self, link: u64, error: Error, now: Moment, jitter: f64) {
        let Some(lane) = self.gone_lane(link) else { return };
        if self.ending.is_some() {
            return;
        }
        let begun = match lane.state {
            State::Connecting(begun) => begun,
            _ => now,
        };
        if self.tunnel.carried() {
            return self.not_added(error, begun, jitter);
        }
        if !self.ready || error.exit != Exit::Unreachable {
            return self.end(Outcome::Failed(error));
        }
        let (since, said) = *self.tunnel.lost.get_or_insert((now, now));
        if now.saturating_sub(said) >= REMIND {
            self.tunnel.lost = Some((since, now));
            let why = error.why.unwrap_or(error.what);
            self.tell(Note::StillLost(now.saturating_sub(since), why));
        }
        self.tunnel.wait(begun, jitter);
    }

    /// Others carry the requests; a person is told once.
    fn not_added(&mut self, error: Error, since: Moment, jitter: f64) {
        self.tunnel.wait(since, jitter);
        if !std::mem::replace(&mut self.tunnel.complained, true) {
            let why = error.why.map_or(String::new(), |why| format!(": {why}"));
            let what = error.what;
            self.tell(Note::Warning(format!(
                "one more connection to the bastion could not be made ({what}{why}); requests go on over the others"
            )));
        }
    }

    fn claim_failed(&mut self, link: u64, index: Index, error: Error, now: Moment, jitter: f64) {
        let Some(lane) = self.tunnel.lanes.get_mut(&link) else {
            return;
        };
        if !lane.asked.remove(&index) || self.ending.is_some() || self.works[index].phase == Phase::Ended {
            return;
        }
        match error.exit {
            Exit::Conflict if self.ready => self.displaced(index, Some("another machine".to_owned())),
            Exit::Unreachable if self.ready => {
                self.actions.push(Action::Close(link));
                self.lost(link, error.why.unwrap_or(error.what), now, jitter);
            }
            _ if self.tunnel.holds(index) => {
                self.close(link);
                self.not_added(error, now, jitter);
            }
            _ => self.end(Outcome::Failed(error)),
        }
    }

    fn lost(&mut self, link: u64, why: String, now: Moment, jitter: f64) {
        let Some(lane) = self.gone_lane(link) else { return };
        let (State::Up(since) | State::Ending(since)) = lane.state else {
            return;
        };
        if self.ending.is_some() {
            return;
        }
        if !self.ready {
            let what = "the bastion closed the connection before the tags were claimed";
            return self.end(Outcome::Failed(Error::new(Exit::Unreachable, what).because(why)));
        }
        if now.saturating_sub(since) >= FORGIVEN {
            self.tunnel.failures = 0;
        }
        if !self.tunnel.carried() && self.tunnel.lost.is_none() {
            self.tunnel.lost = Some((now, now));
            self.tell(Note::Lost(why));
        }
        self.tunnel.wait(now, jitter);
    }

    /// The daemon stops, and all that stands now ends at it; what is connected from now on is its successor.
    fn draining(&mut self, link: u64, now: Moment, jitter: f64) {
        let known = self.tunnel.lanes.get(&link).is_some_and(Lane::carries);
        if self.ending.is_some() || !self.ready || !known {
            return;
        }
        for lane in self.tunnel.lanes.values_mut().filter(|lane| lane.carries()) {
            lane.state = State::Draining;
        }
        self.tunnel.lost = Some((now, now));
        self.tunnel.failures = 0;
        self.tell(Note::Draining);
        self.tunnel.wait(now, jitter);
    }
}
