//! What the daemon's parts share: who is connected, who holds which tag, and where a request goes.
//!
//! `turn.rs` changes who holds what, `upkeep.rs` does what time and the admin ask for, `view.rs` shows it all.
//! The table's lock is never held across an `await`, and [`Daemon::route`] holds it for one hash lookup.

mod audit;
mod settling;
mod turn;
mod upkeep;
mod users;
mod view;

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::bastiond::audit::Refusals;
use crate::bastiond::authorize::{Authorized, Sources};
use crate::bastiond::changes::Changes;
use crate::bastiond::lane::Lane;
use crate::bastiond::metrics::{Counters, Metrics};
use crate::bastiond::pace::Paces;
pub(crate) use crate::bastiond::refused::Refused;
use crate::bastiond::registry::{LaneId, Record, Registry};
use crate::bastiond::settings::{Settings, StagingUrl, Tunables};
use crate::bastiond::store::Store;
use crate::bastiond::users::{Owner, Users};
use crate::name::Tag;
use crate::protocol::audit::Used;

use settling::Settling;

/// What a client of a session without a lane is told to wait at most: the longest pause between two attempts of a laptop.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Seconds since the epoch.
pub(crate) type Clock = fn() -> u64;

/// Shared by every part of the daemon as `Arc<Daemon>`.
pub(crate) struct Daemon {
    pub settings: Settings,
    pub metrics: Metrics,
    /// Where the sockets really are (a port 0 is resolved).
    pub addresses: Addresses,
    /// When the daemon started, seconds since the epoch.
    pub started: u64,
    clock: Clock,
    settling: Settling,
    store: Store,
    /// Whoever changes sessions durably holds it from decision to application.
    turn: smol::lock::Mutex<()>,
    table: Mutex<Table>,
    /// Told whenever a lane or a session comes or goes.
    changed: Mutex<Changes>,
    draining: AtomicBool,
    drain: Mutex<Changes>,
    next_lane: AtomicU64,
    authorized: Mutex<Arc<Authorized>>,
    sources: Sources,
    users: Mutex<Users>,
    refusals: Mutex<Refusals>,
    /// How fast each user may be.
    pub paces: Paces,
    tunables: Mutex<Arc<Tunables>>,
    staging_url: Mutex<Option<StagingUrl>>,
}

/// Where the daemon listens, as `ready.json` prints it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Addresses {
    pub http: String,
    /// `host:port` or `unix:/path`.
    pub ssh: String,
}

/// Where a request goes.
pub(crate) enum Route {
    /// Nobody claimed the tag.
    Unknown,
    /// The same, but its laptop may be on its way: as [`Route::Away`].
    Unclaimed { retry_after: Duration },
    /// It is claimed, and its laptop is away, or about to be. Hold the request, then answer 503 with this Retry-After.
    Away { retry_after: Duration },
    /// Its lane with the fewest bytes outstanding.
    Lane(Arc<Lane>, Arc<Counters>),
}

/// What a daemon begins with.
pub(crate) struct Beginning {
    pub settings: Settings,
    pub addresses: Addresses,
    pub store: Store,
    pub records: Vec<Record>,
    pub owners: Vec<Owner>,
    pub authorized: Authorized,
    pub clock: Clock,
}

#[derive(Default)]
struct Table {
    registry: Registry,
    routes: HashMap<Tag, Way>,
    lanes: HashMap<LaneId, Arc<Lane>>,
}

/// A session as the hot path needs it; made anew whenever its lanes change.
struct Way {
    lanes: Vec<Arc<Lane>>,
    counters: Arc<Counters>,
    /// What of the counters is in the session's record.
    counted: Used,
    lease_until: Option<u64>,
    changed: Changes,
}

impl Daemon {
    /// A daemon that knows its stored sessions, each leased as if its lane had ended now.
    pub(crate) fn new(beginning: Beginning) -> Arc<Daemon> {
        let now = (beginning.clock)();
        let metrics = Metrics::default();
        let settling = Settling::begin(Instant::now(), beginning.settings.settle, beginning.records.len());
        let lease = beginning.settings.tunables.lease;
        let rate = beginning.settings.tunables.quotas.rate;
        let mut table = Table {
            registry: Registry::restored(beginning.records, now.saturating_add(lease.as_secs())),
            ..Table::default()
        };
        let tags: Vec<Tag> = table.registry.sessions().map(|session| session.record.tag.clone()).collect();
        for tag in &tags {
            table.refresh(tag, &metrics);
        }
        Arc::new(Daemon {
            tunables: Mutex::new(Arc::new(beginning.settings.tunables.clone())),
            staging_url: Mutex::new(beginning.settings.staging_url.clone()),
            sources: Sources::new(&beginning.settings.access),
            users: Mutex::new(Users::restored(beginning.owners)),
            refusals: Mutex::default(),
            paces: Paces::new(rate),
            settings: beginning.settings,
            metrics,
            addresses: beginning.addresses,
            started: now,
            clock: beginning.clock,
            settling,
            store: beginning.store,
            turn: smol::lock::Mutex::new(()),
            table: Mutex::new(table),
            changed: Mutex::default(),
            draining: AtomicBool::new(false),
            drain: Mutex::default(),
            next_lane: AtomicU64::new(1),
            authorized: Mutex::new(Arc::new(beginning.authorized)),
        })
    }

    /// Seconds since the epoch.
    pub(crate) fn now(&self) -> u64 {
        (self.clock)()
    }

    /// A number for a new SSH connection.
    pub(crate) fn next_lane_id(&self) -> LaneId {
        LaneId(self.next_lane.fetch_add(1, Ordering::Relaxed))
    }

    /// Where a request of this tag goes now.
    pub(crate) fn route(&self, tag: &Tag) -> Route {
        let table = self.table();
        let Some(way) = table.routes.get(tag) else {
            return self.unclaimed();
        };
        match way.lanes.iter().min_by_key(|lane| lane.burden()) {
            Some(lane) if !lane.has_failed() => Route::Lane(lane.clone(), way.counters.clone()),
            // Its end is on its way to the table.
            Some(_) => Route::Away {
                retry_after: RETRY_AFTER,
            },
            None => {
                let left = way.lease_until.unwrap_or(0).saturating_sub(self.now());
                Route::Away {
                    retry_after: Duration::from_secs(left.max(1)).min(RETRY_AFTER),
                }
            }
        }
    }

    /// Resolves when the tag's lanes change, when it is forgotten or claimed, and at once when it is neither [`Route::Away`] nor
    /// [`Route::Unclaimed`]. A change counts from this call on, not from the first poll.
    pub(crate) fn hold(&self, tag: &Tag) -> impl Future<Output = ()> + Send + use<> {
        let settled = self.settled();
        let change = match self.table().routes.get(tag) {
            Some(way) if way.lanes.iter().all(|lane| lane.has_failed()) => Some(Some(way.changed.next())),
            Some(_) => None,
            None => Some(None),
        };
        async move {
            match change {
                Some(Some(change)) => change.await,
                Some(None) => settled.await,
                None => {}
            }
        }
    }

    /// The tag of the only session, when there is exactly one.
    pub(crate) fn only_session(&self) -> Option<Tag> {
        let table = self.table();
        let mut tags = table.routes.keys();
        let only = tags.next()?;
        tags.next().is_none().then(|| only.clone())
    }

    /// Resolves at the next change of any lane or session, counted from this call on.
    pub(crate) fn changed(&self) -> impl Future<Output = ()> + Send + use<> {
        lock(&self.changed).next()
    }

    /// Whether the daemon is about to stop.
    pub(crate) fn draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Resolves when draining begins; at once when it has begun.
    pub(crate) fn drain_begins(&self) -> impl Future<Output = ()> + Send + use<> {
        let begins = lock(&self.drain).next();
        let begun = self.draining();
        async move {
            if !begun {
                begins.await;
            }
        }
    }

    /// What SIGHUP may change, as it is now.
    pub(crate) fn tunables(&self) -> Arc<Tunables> {
        lock(&self.tunables).clone()
    }

    /// Where untagged requests go in local mode.
    pub(crate) fn staging_url(&self) -> Option<StagingUrl> {
        lock(&self.staging_url).clone()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }
}

impl Daemon {
    /// An SSH connection authenticated.
    pub(crate) fn lane_up(&self, lane: Arc<Lane>) {
        self.table().lanes.insert(lane.id, lane);
        self.metrics.lanes.fetch_add(1, Ordering::Relaxed);
        self.metrics.lanes_total.fetch_add(1, Ordering::Relaxed);
        lock(&self.changed).tell();
    }

    /// An SSH connection takes no new requests: sessions that had only it are leased from now on.
    pub(crate) fn leave(&self, lane: &Lane) {
        let now = self.now();
        let lease_until = now.saturating_add(self.tunables().lease.as_secs());
        let mut table = self.table();
        for tag in table.registry.lane_down(lane.id, now, lease_until) {
            table.refresh(&tag, &self.metrics);
        }
        drop(table);
        lock(&self.changed).tell();
    }

    /// An SSH connection ended: sessions that had only it are leased from now on.
    pub(crate) async fn lane_down(&self, id: LaneId) {
        let now = self.now();
        let lease_until = now.saturating_add(self.tunables().lease.as_secs());
        {
            let mut table = self.table();
            if table.lanes.remove(&id).is_none() {
                return;
            }
            for tag in table.registry.lane_down(id, now, lease_until) {
                table.refresh(&tag, &self.metrics);
            }
        }
        self.metrics.lanes.fetch_sub(1, Ordering::Relaxed);
        lock(&self.changed).tell();
    }
}

impl Table {
    /// Makes the hot path's entry of one tag say what the registry says, and tells whoever waits for it.
    fn refresh(&mut self, tag: &Tag, metrics: &Metrics) {
        let Some(session) = self.registry.session(tag) else {
            self.routes.remove(tag);
            return;
        };
        let lanes = session.lanes.values().filter_map(|id| self.lanes.get(id).cloned()).collect();
        let lease_until = session.lease_until;
        match self.routes.get_mut(tag) {
            Some(way) => {
                way.lanes = lanes;
                way.lease_until = lease_until;
                way.changed.tell();
            }
            None => {
                let way = Way {
                    lanes,
                    counters: metrics.counters(tag),
                    counted: Used::default(),
                    lease_until,
                    changed: Changes::default(),
                };
                self.routes.insert(tag.clone(), way);
            }
        }
    }
}

/// A poisoned lock means that a holder panicked, and a panic ends this program; what it guards is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
