//! The machine's part that keeps the connection to the bastion.

use std::time::Duration;

use super::{Action, Claim, Event, Index, Machine, Moment, Outcome, Phase};
use crate::error::{Error, Exit};
use crate::session::note::Note;

/// The first wait before connecting again: as good as at once, and yet no busy loop.
const FIRST: Duration = Duration::from_millis(50);
/// The longest wait before connecting again: what a developer who opens the lid still finds quick.
const MOST: Duration = Duration::from_secs(5);
/// A connection that stood this long begins again with [`FIRST`].
const FORGIVEN: Duration = Duration::from_secs(5);
/// How often a person is told that the connection is still gone.
const REMIND: Duration = Duration::from_secs(10);

/// Where the connection stands.
#[derive(Debug, Default)]
pub(super) struct Tunnel {
    state: State,
    /// The number of the last connection asked for.
    link: u64,
    /// Failures in a row.
    failures: u32,
    /// Since when there is none, and when that was said last.
    lost: Option<(Moment, Moment)>,
}

#[derive(Debug, Default, PartialEq)]
enum State {
    #[default]
    Idle,
    Connecting,
    /// Connected since then.
    Up(Moment),
    Waiting(Moment),
}

impl Tunnel {
    pub(super) fn deadline(&self) -> Option<Moment> {
        match self.state {
            State::Waiting(until) => Some(until),
            _ => None,
        }
    }

    /// The connection that stands.
    pub(super) fn link(&self) -> Option<u64> {
        matches!(self.state, State::Up(_)).then_some(self.link)
    }

    /// Puts off the next attempt. Half of the wait is chance, so that laptops that lost a bastion together do not come back together.
    fn wait(&mut self, now: Moment, jitter: f64) {
        let whole = FIRST.saturating_mul(1 << self.failures.min(16)).min(MOST);
        self.failures = self.failures.saturating_add(1);
        self.state = State::Waiting(now + whole.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0));
    }
}

impl Machine {
    /// Does what the time asks of the tunnel.
    pub(super) fn tunnel_due(&mut self, now: Moment) {
        if self.ending.is_some() {
            if let State::Waiting(_) = self.tunnel.state {
                self.tunnel.state = State::Idle;
            }
            return;
        }
        let begin = match self.tunnel.state {
            State::Idle => self
                .works
                .iter()
                .all(|work| matches!(work.phase, Phase::Healthy { .. } | Phase::Ended)),
            State::Waiting(until) => until <= now,
            _ => false,
        };
        if begin {
            if !self.ready {
                self.tell(Note::Connecting);
            }
            self.tunnel.link += 1;
            self.tunnel.state = State::Connecting;
            self.actions.push(Action::Connect(self.tunnel.link));
        }
        self.tunnel_complete(now);
    }

    pub(super) fn tunnel_event(&mut self, event: Event, now: Moment, jitter: f64) {
        let (Event::Connected(link)
        | Event::ConnectFailed(link, _)
        | Event::Claimed(link, _)
        | Event::ClaimFailed(link, ..)
        | Event::Lost(link, _)
        | Event::Draining(link)) = event
        else {
            return;
        };
        if link != self.tunnel.link {
            return;
        }
        match event {
            Event::Connected(_) => self.connected(now),
            Event::ConnectFailed(_, error) => self.connect_failed(error, now, jitter),
            Event::Claimed(_, index) => self.claimed(index),
            Event::ClaimFailed(_, index, error) => self.claim_failed(index, error, now, jitter),
            Event::Lost(_, why) => self.lost(why, now, jitter),
            Event::Draining(_) => self.draining(now, jitter),
            _ => {}
        }
    }

    fn connected(&mut self, now: Moment) {
        if self.ending.is_some() {
            return;
        }
        self.tunnel.state = State::Up(now);
        for (index, work) in self.works.iter_mut().enumerate() {
            if work.phase != Phase::Ended {
                work.claim = Claim::Asked;
                self.actions.push(Action::Claim(self.tunnel.link, index));
            }
        }
    }

    fn claimed(&mut self, index: Index) {
        let work = &mut self.works[index];
        match (work.claim, self.tunnel.link()) {
            (Claim::Asked, _) => work.claim = Claim::Held,
            // It was displaced while the claim was under way.
            (Claim::None, Some(link)) if work.phase == Phase::Ended => {
                work.claim = Claim::Releasing;
                self.actions.push(Action::Release(link, index));
            }
            _ => {}
        }
    }

    /// Says that everything is claimed, once for each connection.
    fn tunnel_complete(&mut self, now: Moment) {
        let done = |work: &super::Work| work.phase == Phase::Ended || work.claim == Claim::Held;
        if self.tunnel.link().is_none() || !self.works.iter().all(done) {
            return;
        }
        if !self.ready {
            self.ready = true;
            self.tell(Note::Ready);
        } else if let Some((since, _)) = self.tunnel.lost.take() {
            self.tell(Note::Reconnected(now.saturating_sub(since)));
        }
        self.tunnel.lost = None;
    }

    fn connect_failed(&mut self, error: Error, now: Moment, jitter: f64) {
        if self.ending.is_some() {
            return;
        }
        if !self.ready || error.exit != Exit::Unreachable {
            self.tunnel.state = State::Idle;
            return self.end(Outcome::Failed(error));
        }
        let (since, said) = *self.tunnel.lost.get_or_insert((now, now));
        if now.saturating_sub(said) >= REMIND {
            self.tunnel.lost = Some((since, now));
            let why = error.why.unwrap_or(error.what);
            self.tell(Note::StillLost(now.saturating_sub(since), why));
        }
        self.tunnel.wait(now, jitter);
    }

    fn claim_failed(&mut self, index: Index, error: Error, now: Moment, jitter: f64) {
        if self.works[index].claim != Claim::Asked {
            return;
        }
        self.works[index].claim = Claim::None;
        match error.exit {
            _ if self.ending.is_some() => {}
            Exit::Conflict if self.ready => self.displaced(index, Some("another machine".to_owned())),
            Exit::Unreachable if self.ready => self.lost(error.why.unwrap_or(error.what), now, jitter),
            _ => self.end(Outcome::Failed(error)),
        }
    }

    fn lost(&mut self, why: String, now: Moment, jitter: f64) {
        let State::Up(since) = self.tunnel.state else { return };
        for work in &mut self.works {
            work.claim = Claim::None;
        }
        self.tunnel.state = State::Idle;
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
        if self.tunnel.lost.is_none() {
            self.tunnel.lost = Some((now, now));
            self.tell(Note::Lost(why));
        }
        self.tunnel.wait(now, jitter);
    }

    fn draining(&mut self, now: Moment, jitter: f64) {
        if self.ending.is_some() || !self.ready || self.tunnel.link().is_none() {
            return;
        }
        for work in &mut self.works {
            if work.claim != Claim::Releasing {
                work.claim = Claim::None;
            }
        }
        self.tunnel.lost = Some((now, now));
        self.tunnel.failures = 0;
        self.tell(Note::Draining);
        self.tunnel.wait(now, jitter);
    }
}
