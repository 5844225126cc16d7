//! One SSH connection that can carry requests.

use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use smol::channel::{Receiver, Sender};
use smol::lock::{Semaphore, SemaphoreGuardArc};

use crate::bastiond::registry::LaneId;
use crate::bastiond::ssh::Forwards;
use crate::name::User;
use crate::protocol::Event;
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
    /// HTTP/2 on the requests channel, once it is open.
    Laptop(OnceLock<h2::client::SendRequest<Bytes>>),
    /// A forwarded-tcpip channel for each connection.
    OpenSsh(Forwards),
}

/// See the module.
pub(crate) struct Lane {
    pub id: LaneId,
    pub user: User,
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
    events: (Sender<Event>, Receiver<Event>),
    end: Sender<String>,
}

/// Who a lane belongs to.
pub(crate) struct Peer {
    pub id: LaneId,
    pub user: User,
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
            events: smol::channel::bounded(EVENT_QUEUE),
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

    /// Tells the laptop; one that does not read its events any more is ended.
    pub(crate) fn notify(&self, event: Event) {
        if self.events.0.try_send(event).is_err() {
            self.close("it does not read its events");
        }
    }

    /// What the laptop is to be told, for the stream of events.
    pub(crate) fn events(&self) -> Receiver<Event> {
        self.events.1.clone()
    }

    /// Ends the SSH connection. The first reason counts.
    pub(crate) fn close(&self, reason: &str) {
        // A full or closed channel means that it is ending already.
        self.end.try_send(reason.to_owned()).unwrap_or_default();
    }
}
