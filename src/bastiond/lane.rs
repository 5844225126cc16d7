//! One SSH connection that can carry requests.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smol::channel::Sender;
use smol::lock::{Semaphore, SemaphoreGuardArc};

use crate::bastiond::principal::Principal;
use crate::bastiond::registry::LaneId;
use crate::bastiond::ssh::{Forwards, Requests};
use crate::name::User;
use crate::protocol::Event;
use crate::rt;
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
    /// Connected since, seconds since the epoch.
    pub since: u64,
    /// Bytes that requests in flight are expected to move.
    pub outstanding: AtomicU64,
    /// Requests in flight.
    pub streams: AtomicUsize,
    pub bytes_in: AtomicU64,
    pub bytes_out: AtomicU64,
    pub carrier: Carrier,
    permits: Arc<Semaphore>,
    /// What the laptop is to be told.
    events: Mutex<VecDeque<Event>>,
    /// Somebody is passing events on.
    telling: AtomicBool,
    end: Sender<String>,
}

/// Who a lane belongs to.
pub(crate) struct Peer {
    pub id: LaneId,
    pub user: User,
    pub principal: Option<Principal>,
    pub address: String,
    pub client: String,
    pub since: u64,
}

impl Lane {
    /// A lane, and where it is told to end.
    pub(crate) fn new(peer: Peer, carrier: Carrier, end: Sender<String>) -> Lane {
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
            since: peer.since,
            outstanding: AtomicU64::new(0),
            streams: AtomicUsize::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            carrier,
            permits: Arc::new(Semaphore::new(permits)),
            events: Mutex::default(),
            telling: AtomicBool::new(false),
            end,
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
        // A full or closed channel means that it is ending already.
        self.end.try_send(reason.to_owned()).unwrap_or_default();
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
