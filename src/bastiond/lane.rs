//! One SSH connection.

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use crate::bastiond::registry::LaneId;
use crate::name::User;
use crate::protocol::Event;

/// What the peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LaneKind {
    Laptop,
    OpenSsh,
}

/// One SSH connection.
pub(crate) struct Lane {
    pub id: LaneId,
    pub user: User,
    pub kind: LaneKind,
    pub address: String,
    pub client: String,
    pub since: u64,
    pub outstanding: AtomicU64,
    pub bytes_in: AtomicU64,
    pub bytes_out: AtomicU64,
    events: (smol::channel::Sender<Event>, smol::channel::Receiver<Event>),
    pub closed: Mutex<Option<String>>,
}

impl Lane {
    /// For tests until the real one is here.
    #[allow(dead_code)]
    pub(crate) fn stub(id: LaneId, user: User, kind: LaneKind, address: &str) -> Lane {
        Lane {
            id,
            user,
            kind,
            address: address.to_owned(),
            client: "stub".to_owned(),
            since: 0,
            outstanding: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            events: smol::channel::bounded(16),
            closed: Mutex::new(None),
        }
    }

    pub(crate) fn notify(&self, event: Event) {
        if self.events.0.try_send(event).is_err() {
            self.close("it does not read its events");
        }
    }

    pub(crate) fn events(&self) -> smol::channel::Receiver<Event> {
        self.events.1.clone()
    }

    pub(crate) fn close(&self, reason: &str) {
        if let Ok(mut closed) = self.closed.lock() {
            *closed = Some(reason.to_owned());
        }
    }
}
