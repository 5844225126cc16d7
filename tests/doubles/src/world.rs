//! Everything the double knows: instances, sessions, keys, what it was told, and what clients did wrong.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::eice::Endpoint;
use crate::proxy;
use crate::session::{Session, Standing};
use crate::settings::Settings;

/// What a client did wrong, a sentence each, with the session it was in.
#[derive(Default)]
pub(crate) struct Violations(Mutex<Vec<(String, String)>>);

impl Violations {
    /// Remembers one and says it.
    pub(crate) fn record(&self, place: &str, what: &str) {
        eprintln!("violation in {place}: {what}");
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((place.to_owned(), what.to_owned()));
    }

    pub(crate) fn all(&self) -> Vec<(String, String)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gives them and forgets them.
    pub(crate) fn take(&self) -> Vec<(String, String)> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// An instance with an agent.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    /// Where its port 22 is.
    pub(crate) port: SocketAddr,
    /// Its private address, for the endpoint.
    pub(crate) private: Option<IpAddr>,
    /// Whether its agent is there.
    pub(crate) connected: bool,
}

/// An access key that the endpoint knows.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) secret: String,
    /// The session token that a temporary key must come with.
    pub(crate) token: Option<String>,
}

pub(crate) struct Known {
    pub(crate) settings: Settings,
    /// What strikes new sessions.
    pub(crate) standing: Standing,
    pub(crate) instances: BTreeMap<String, Instance>,
    pub(crate) sessions: BTreeMap<String, Arc<Session>>,
    pub(crate) keys: BTreeMap<String, Key>,
    pub(crate) endpoint: Endpoint,
    /// Upgrades of data channels are refused with this status.
    pub(crate) refuse_upgrade: Option<u16>,
    pub(crate) proxy: proxy::Mode,
}

pub(crate) struct World {
    pub(crate) violations: Arc<Violations>,
    /// The websockets' door.
    pub(crate) secure: SocketAddr,
    known: Mutex<Known>,
}

impl World {
    pub(crate) fn new(known: Known, secure: SocketAddr) -> World {
        World {
            violations: Arc::default(),
            secure,
            known: Mutex::new(known),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn session(&self, id: &str) -> Option<Arc<Session>> {
        self.lock().sessions.get(id).cloned()
    }

    pub(crate) fn sessions(&self) -> Vec<Arc<Session>> {
        self.lock().sessions.values().cloned().collect()
    }

    pub(crate) fn open_sessions(&self) -> Vec<Arc<Session>> {
        let all = self.sessions();
        all.into_iter().filter(|session| session.lock().over.is_none()).collect()
    }
}
