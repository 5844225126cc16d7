//! Who is let in: how many connections there may be, and how much of the edge one client may have.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use http::{HeaderMap, StatusCode};

use super::own::Own;
use crate::bastiond::clients::{Asked, Client, Clients, Kind, Seat};
use crate::bastiond::guard::Refusal;
use crate::bastiond::settings::Settings;
use crate::bastiond::state::{Daemon, Route};
use crate::name::Tag;

/// The most connections at once. An idle one costs some KiB; a load balancer has a few hundred, and one for each WebSocket.
const MAX_CONNECTIONS: usize = 16_384;

/// File descriptors that are not for connections at the edge: two for each of 4096 SSH connections, and the daemon's own. Where the
/// system gives fewer than twice as many, the edge has half.
const OTHER_FILES: usize = 2 * 4096 + 256;

/// What the heads of requests may take together, in bytes: those that are still coming, and of those in flight what is above
/// [`SMALL_HEAD`]. The smallest instance has 512 MiB, and each of its clients may send heads of 64 KiB.
const MAX_HEADS: usize = 64 << 20;

/// A head that is not worth counting, in bytes; a browser's with its cookies is smaller.
const SMALL_HEAD: usize = 8 << 10;

const HEADS_TOO_LARGE: Refusal = Refusal {
    status: StatusCode::SERVICE_UNAVAILABLE,
    reason: "heads-too-many",
    what: "the heads of all requests at hand have 64 MiB together, and the bastion takes no more",
};

/// Connections beyond the limit that are told so at once: an eighth of the limit, and no more than this. Others are closed without a word.
const MAX_TOLD: usize = 256;

/// See the module.
pub(crate) struct Door {
    daemon: Arc<Daemon>,
    /// `None`: nobody is counted by address.
    clients: Option<Mutex<Clients>>,
    /// Proxies in front of the edge.
    proxies: usize,
    /// A tag is remembered as a number that nobody outside can foresee.
    marks: RandomState,
    most: usize,
    open: AtomicUsize,
    /// Bytes, as [`MAX_HEADS`] counts them.
    heads: AtomicUsize,
}

/// Bytes of heads, until it is dropped.
pub(crate) struct Heads {
    door: Arc<Door>,
    bytes: usize,
}

/// A connection, until it ends.
pub(crate) struct Entered {
    door: Arc<Door>,
    peer: IpAddr,
    /// What every request on it is answered with.
    refusal: Option<Own>,
    _seated: Option<Seated>,
}

/// What a request is counted as, until the last clone is dropped: its answer has one, and the connection that it may become.
#[derive(Clone)]
pub(crate) struct Counted {
    _parts: Arc<(Option<Seated>, Heads)>,
}

/// A client's, until it is dropped.
struct Seated {
    door: Arc<Door>,
    seat: Seat,
}

impl Door {
    /// `files` is how many descriptors the process may open.
    pub(crate) fn new(daemon: &Arc<Daemon>, files: usize) -> Door {
        let Settings {
            client_requests,
            trusted_hops,
            ..
        } = daemon.settings;
        Door {
            daemon: Arc::clone(daemon),
            clients: client_requests.map(|most| Mutex::new(Clients::new(most))),
            proxies: trusted_hops,
            marks: RandomState::new(),
            most: files.saturating_sub(OTHER_FILES).max(files / 2).min(MAX_CONNECTIONS),
            open: AtomicUsize::new(0),
            heads: AtomicUsize::new(0),
        }
    }

    /// A connection was accepted; `None` when not even a refusal is to be had.
    pub(crate) fn connect(self: &Arc<Door>, peer: IpAddr) -> Option<Entered> {
        let open = self.open.fetch_add(1, Ordering::Relaxed);
        let mut entered = Entered {
            door: Arc::clone(self),
            peer,
            refusal: None,
            _seated: None,
        };
        let client = Client::of(peer);
        if open >= self.most {
            entered.refusal = Some(Own::full(self.most));
        } else if self.proxies == 0
            && let Some(mut clients) = self.clients()
        {
            // Behind a proxy all connections are the proxy's.
            let seat = clients.enter(client, Kind::Connection, Instant::now());
            drop(clients);
            match seat {
                Some(seat) => entered._seated = Some(self.seated(seat)),
                None => entered.refusal = Some(Own::too_many_connections(client)),
            }
        }
        if entered.refusal.is_some() {
            self.daemon.metrics.refused.connections.fetch_add(1, Ordering::Relaxed);
        }
        (open < self.most + (self.most / 8).clamp(1, MAX_TOLD)).then_some(entered)
    }

    fn seated(self: &Arc<Door>, seat: Seat) -> Seated {
        let door = Arc::clone(self);
        Seated { door, seat }
    }

    fn clients(&self) -> Option<MutexGuard<'_, Clients>> {
        let clients = self.clients.as_ref()?;
        Some(clients.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Entered {
    /// Nothing but a refusal is to be had on this connection.
    pub(crate) fn is_refused(&self) -> bool {
        self.refusal.is_some()
    }

    fn client(&self, headers: &HeaderMap) -> Client {
        Client::behind(headers, self.peer, self.door.proxies)
    }

    /// For the heads that come on this connection.
    pub(crate) fn heads(&self) -> Heads {
        let door = Arc::clone(&self.door);
        Heads { door, bytes: 0 }
    }

    /// A request came. What it is counted as lasts until it is dropped.
    pub(crate) fn request(&self, headers: &HeaderMap) -> Result<Counted, Own> {
        if let Some(refusal) = &self.refusal {
            return Err(refusal.clone());
        }
        let mut head = self.heads();
        let bytes = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        if bytes > SMALL_HEAD {
            head.hold(bytes).map_err(|refusal| Own::refused(&refusal))?;
        }
        let Some(mut clients) = self.door.clients() else {
            return Ok(Counted::of(None, head));
        };
        let client = self.client(headers);
        let seat = clients.enter(client, Kind::Request, Instant::now());
        drop(clients);
        match seat {
            Some(seat) => Ok(Counted::of(Some(self.door.seated(seat)), head)),
            None => {
                self.door.daemon.metrics.refused.requests.fetch_add(1, Ordering::Relaxed);
                Err(Own::too_many_at_once(client))
            }
        }
    }

    /// A request asks for a tag.
    pub(crate) fn tag(&self, headers: &HeaderMap, tag: &Tag) -> Result<(), Own> {
        let Some(mut clients) = self.door.clients() else {
            return Ok(());
        };
        let client = self.client(headers);
        let (mark, now) = (self.door.marks.hash_one(tag), Instant::now());
        match clients.asks(client, mark, now) {
            Asked::Known => Ok(()),
            Asked::New => {
                // Where laptops are still on their way nobody can be told from nobody.
                if !matches!(self.door.daemon.route(tag), Route::Unknown) {
                    clients.exists(client, mark, now);
                }
                Ok(())
            }
            Asked::Wait(time) => {
                self.door.daemon.metrics.refused.tags.fetch_add(1, Ordering::Relaxed);
                Err(Own::too_many_tags(client, time))
            }
        }
    }
}

impl Counted {
    fn of(seated: Option<Seated>, head: Heads) -> Counted {
        let _parts = Arc::new((seated, head));
        Counted { _parts }
    }
}

impl Heads {
    /// So many bytes now, instead of what it was; not when all have too many.
    pub(crate) fn hold(&mut self, bytes: usize) -> Result<(), Refusal> {
        let all = &self.door.heads;
        if bytes <= self.bytes {
            all.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        } else {
            let more = bytes - self.bytes;
            if all.fetch_add(more, Ordering::Relaxed) + more > MAX_HEADS {
                all.fetch_sub(more, Ordering::Relaxed);
                self.door.daemon.metrics.refused.heads.fetch_add(1, Ordering::Relaxed);
                return Err(HEADS_TOO_LARGE);
            }
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Heads {
    fn drop(&mut self) {
        self.door.heads.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.door.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        if let Some(mut clients) = self.door.clients() {
            clients.leave(self.seat, Instant::now());
        }
    }
}
