//! One SSH connection that can carry requests.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use smol::lock::{Semaphore, SemaphoreGuardArc};

use crate::bastiond::end::End;
use crate::bastiond::pace::Bucket;
use crate::bastiond::principal::Principal;
use crate::bastiond::registry::LaneId;
use crate::bastiond::ssh::{Forwards, Requests};
use crate::name::User;
use crate::protocol::Event;
use crate::rt;
use crate::tunnel::traffic::Traffic;
use crate::tunnel::window::MAX_STREAMS;

/// Events kept for a laptop that does not read them; one that lets so many wait is not alive.
const EVENT_QUEUE: usize = 64;

/// Requests at once through a stock OpenSSH client: one channel each, and its own loop gets slow beyond.
const MAX_FORWARDS: usize = 64;

/// The right to one request on a lane.
pub(crate) type Permit = SemaphoreGuardArc;

/// What the peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LaneKind {
    Laptop,
    OpenSsh,
}

/// How requests reach the peer.
pub(crate) enum Carrier {
    /// HTTP/2 on the requests channel.
    Laptop(Requests),
    /// A forwarded-tcpip channel for each connection.
    OpenSsh(Forwards),
}

/// See the module.
pub(crate) struct Lane {
    pub id: LaneId,
    pub user: User,
    /// The caller of AWS behind it.
    pub principal: Option<Principal>,
    pub kind: LaneKind,
    /// The peer's address.
    pub address: String,
    /// The peer's SSH identification string.
    pub client: String,
    /// The laptop's word for how it came.
    transport: OnceLock<String>,
    /// Connected since, seconds since the epoch.
    pub since: u64,
    /// Bytes that requests in flight are expected to move still.
    pub outstanding: AtomicU64,
    /// Requests in flight.
    pub streams: AtomicUsize,
    pub bytes_in: AtomicU64,
    pub bytes_out: AtomicU64,
    /// How fast its user may be, over all connections.
    pub pace: Arc<Bucket>,
    pub carrier: Carrier,
    permits: Arc<Semaphore>,
    /// It took no request although it seemed to live.
    failed: AtomicBool,
    /// What the laptop is to be told.
    events: Mutex<VecDeque<Event>>,
    /// Somebody is passing events on.
    telling: AtomicBool,
    end: End,
}

/// What one body is expected to move still, in bytes. (pure)
#[derive(Debug, Default)]
pub(crate) struct Expected {
    left: u64,
    /// So much of a body of unknown length came by.
    moved: Option<u64>,
}

/// A body of unknown length is expected to be small until this much of it came, in bytes.
const SMALL: u64 = 64 * 1024;

/// And then to have this much to come, in bytes: enough that other requests take another lane.
const GUESS: u64 = 1024 * 1024;

impl Expected {
    /// Of a body of this length, and what it adds to a lane.
    pub(crate) fn of(length: Option<u64>) -> Expected {
        Expected {
            left: length.unwrap_or(0),
            moved: length.is_none().then_some(0),
        }
    }

    /// What is expected still.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// So much of it came by. Gives what the lane's sum becomes more and less by.
    pub(crate) fn moved(&mut self, count: u64) -> (u64, u64) {
        match &mut self.moved {
            None => {
                let less = self.left.min(count);
                self.left -= less;
                (0, less)
            }
            Some(moved) => {
                *moved = moved.saturating_add(count);
                let more = if self.left == 0 && *moved >= SMALL { GUESS } else { 0 };
                self.left += more;
                (more, 0)
            }
        }
    }
}

/// Who a lane belongs to.
pub(crate) struct Peer {
    pub id: LaneId,
    pub user: User,
    pub principal: Option<Principal>,
    pub address: String,
    pub client: String,
    pub since: u64,
    pub pace: Arc<Bucket>,
}

impl Lane {
    /// A lane, and where it is told to end.
    pub(crate) fn new(peer: Peer, carrier: Carrier, end: End) -> Lane {
        let (kind, permits) = match &carrier {
            Carrier::Laptop(_) => (LaneKind::Laptop, MAX_STREAMS as usize),
            Carrier::OpenSsh(_) => (LaneKind::OpenSsh, MAX_FORWARDS),
        };
        Lane {
            id: peer.id,
            user: peer.user,
            principal: peer.principal,
            kind,
            address: peer.address,
            client: peer.client,
            transport: OnceLock::new(),
            since: peer.since,
            outstanding: AtomicU64::new(0),
            streams: AtomicUsize::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            pace: peer.pace,
            carrier,
            permits: Arc::new(Semaphore::new(permits)),
            failed: AtomicBool::new(false),
            events: Mutex::default(),
            telling: AtomicBool::new(false),
            end,
        }
    }

    /// Lanes are chosen by this, the least first: one that works, has room, and has the fewest bytes outstanding.
    pub(crate) fn burden(&self) -> (bool, bool, u64) {
        let full = self.kind == LaneKind::Laptop && self.streams.load(Ordering::Relaxed) >= MAX_STREAMS as usize;
        (
            self.failed.load(Ordering::Relaxed),
            full,
            self.outstanding.load(Ordering::Relaxed),
        )
    }

    /// It broke, or did not take a request: it is chosen no more, and ended if it lives.
    pub(crate) fn failed(&self) {
        self.failed.store(true, Ordering::Relaxed);
        self.close("it takes no requests");
    }

    /// Whether it is one of those.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// The laptop says how it came; its first word counts.
    pub(crate) fn came_by(&self, transport: &str) {
        self.transport.set(transport.to_owned()).unwrap_or_default();
    }

    /// How it came: by the laptop's word, else as the daemon sees it.
    pub(crate) fn transport(&self) -> &str {
        match (self.transport.get(), self.kind) {
            (_, LaneKind::OpenSsh) => "openssh",
            (Some(said), _) => said,
            (None, LaneKind::Laptop) if self.address.contains(':') => "tcp",
            (None, LaneKind::Laptop) => "unix",
        }
    }

    /// What goes through it, where that is counted.
    pub(crate) fn traffic(&self) -> Option<&Traffic> {
        match &self.carrier {
            Carrier::Laptop(requests) => requests.traffic(),
            Carrier::OpenSsh(_) => None,
        }
    }

    /// Waits until the lane has room for one more request.
    pub(crate) async fn permit(&self) -> Permit {
        match self.permits.try_acquire_arc() {
            Some(permit) => permit,
            None => self.permits.acquire_arc().await,
        }
    }

    /// Tells the laptop; one that does not take its events any more is ended. A stock client has nothing that could be told.
    pub(crate) fn notify(self: &Arc<Self>, event: Event) {
        if self.kind == LaneKind::OpenSsh {
            return;
        }
        let mut events = self.events();
        if events.len() >= EVENT_QUEUE {
            return self.close("it does not take its events");
        }
        events.push_back(event);
        drop(events);
        if !self.telling.swap(true, Ordering::AcqRel) {
            rt::spawn(tell(Arc::clone(self))).detach();
        }
    }

    /// Nobody passes events on: a test looks at them.
    #[cfg(test)]
    pub(crate) fn keep_events(&self) {
        self.telling.store(true, Ordering::Release);
    }

    /// The next event for the laptop, if there is one.
    pub(crate) fn next_event(&self) -> Option<Event> {
        self.events().pop_front()
    }

    fn events(&self) -> MutexGuard<'_, VecDeque<Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the SSH connection. The first reason counts.
    pub(crate) fn close(&self, reason: &str) {
        self.end.now(reason);
    }
}

/// Passes a lane's events on, in their order, until there are no more.
async fn tell(lane: Arc<Lane>) {
    let Carrier::Laptop(requests) = &lane.carrier else { return };
    loop {
        while let Some(event) = lane.next_event() {
            if let Err(why) = requests.tell(&lane, &event).await {
                return lane.close(&format!("it did not take an event: {why}"));
            }
        }
        lane.telling.store(false, Ordering::Release);
        // One that came in between found `telling` set.
        if lane.events().is_empty() || lane.telling.swap(true, Ordering::AcqRel) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_bodies_are_expected_to_move() {
        let check = |length, moves: &[u64], left| {
            let mut expected = Expected::of(length);
            let mut sum = expected.left();
            for &count in moves {
                let (more, less) = expected.moved(count);
                sum = sum + more - less;
            }
            assert_eq!((expected.left(), sum), (left, left), "{length:?} {moves:?}");
        };
        check(Some(0), &[], 0);
        check(Some(100), &[40, 40], 20);
        // A body that is longer than it said.
        check(Some(100), &[90, 90, 90], 0);
        check(None, &[SMALL - 1], 0);
        check(None, &[SMALL - 1, 1, 5 * GUESS], GUESS);
        check(None, &[u64::MAX, u64::MAX], GUESS);
    }
}
