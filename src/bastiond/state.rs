//! What the daemon's parts share: who is connected, who holds which tag, and where a request goes.
//!
//! A claim or release is decided by the registry, committed by the store and then applied; one at a time ([`Daemon::turn`]).
//! The table's lock is never held across an `await`, and [`Daemon::route`] holds it for one hash lookup.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::bastiond::authorize::Authorized;
use crate::bastiond::changes::Changes;
use crate::bastiond::lane::{Lane, LaneKind};
use crate::bastiond::metrics::{Counters, Metrics};
use crate::bastiond::registry::{Asked, Denied, Grant, LaneId, Record, Registry, Releaser, Token};
use crate::bastiond::settings::{Settings, StagingUrl, Tunables};
use crate::bastiond::store::{Change, Store};
use crate::name::{Service, Tag, User};
use crate::protocol::{self, Claim, Claimed, Event, Holder, Refusal, Released};
use crate::rt;

/// What a client of a session without a lane is told to wait at most: the longest pause between two attempts of a laptop.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The bytes of a session token: 128 bits, beyond guessing within any lease.
const TOKEN_BYTES: usize = 16;

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
    /// It is claimed, and its laptop is away. Hold the request, then answer 503 with this Retry-After.
    Away { retry_after: Duration },
    /// Its lane with the fewest bytes outstanding.
    Lane(Arc<Lane>, Arc<Counters>),
}

/// A refusal with its HTTP status.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub status: u16,
    pub refusal: Refusal,
}

/// What a daemon begins with.
pub(crate) struct Beginning {
    pub settings: Settings,
    pub addresses: Addresses,
    pub store: Store,
    pub records: Vec<Record>,
    pub authorized: Authorized,
    pub staging_url: Option<StagingUrl>,
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
    lease_until: Option<u64>,
    changed: Changes,
}

impl Daemon {
    /// A daemon that knows its stored sessions, each leased as if its lane had ended now.
    pub(crate) fn new(beginning: Beginning) -> Arc<Daemon> {
        let now = (beginning.clock)();
        let metrics = Metrics::default();
        let lease = beginning.settings.tunables.lease;
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
            settings: beginning.settings,
            metrics,
            addresses: beginning.addresses,
            started: now,
            clock: beginning.clock,
            store: beginning.store,
            turn: smol::lock::Mutex::new(()),
            table: Mutex::new(table),
            changed: Mutex::new(Changes::new()),
            draining: AtomicBool::new(false),
            drain: Mutex::new(Changes::new()),
            next_lane: AtomicU64::new(1),
            authorized: Mutex::new(Arc::new(beginning.authorized)),
            staging_url: Mutex::new(beginning.staging_url),
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
            return Route::Unknown;
        };
        match way.lanes.iter().min_by_key(|lane| lane.outstanding.load(Ordering::Relaxed)) {
            Some(lane) => Route::Lane(lane.clone(), way.counters.clone()),
            None => {
                let left = way.lease_until.unwrap_or(0).saturating_sub(self.now());
                Route::Away {
                    retry_after: Duration::from_secs(left.max(1)).min(RETRY_AFTER),
                }
            }
        }
    }

    /// Resolves when the tag's lanes change, when it is forgotten, and at once when it is not [`Route::Away`].
    /// A change counts from this call on, not from the first poll.
    pub(crate) fn hold(&self, tag: &Tag) -> impl Future<Output = ()> + Send + use<> {
        let change = match self.table().routes.get(tag) {
            Some(way) if way.lanes.is_empty() => Some(way.changed.next()),
            _ => None,
        };
        async move {
            if let Some(change) = change {
                change.await;
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

    /// The tags with a live lane, ascending.
    pub(crate) fn live_tags(&self) -> Vec<Tag> {
        let table = self.table();
        let live = table.routes.iter().filter(|(_, way)| !way.lanes.is_empty());
        let mut tags: Vec<Tag> = live.map(|(tag, _)| tag.clone()).collect();
        tags.sort();
        tags
    }

    /// Whether `key` (`ssh-ed25519 AAAA…`, without comment) may log in as `user`.
    pub(crate) fn user_of_key(&self, key: &str, user: &str) -> bool {
        let Ok(user) = User::parse(user) else { return false };
        lock(&self.authorized).allows(key, &user)
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

    /// Binds a tag of `user` to a connection. The session is on disk before this answers. A caller that gives up waiting
    /// does not stop the claim half way.
    pub(crate) async fn claim(self: &Arc<Daemon>, user: &User, claim: &Claim, lane: &Arc<Lane>) -> Result<Claimed, Refused> {
        if claim.protocol != protocol::VERSION {
            return Err(Refused::protocol(claim.protocol));
        }
        let service = Service::parse(&claim.service)
            .map_err(|why| Refused::new(400, format!("{:?} is not a service name", claim.service)).because(why))?;
        let asked = Asked {
            tag: Tag::new(user.clone(), service),
            lane: lane.id,
            lane_number: claim.lane,
            host: claim.host.clone(),
            version: claim.version.clone(),
            token: claim.token.clone(),
            takeover: claim.takeover,
        };
        let daemon = self.clone();
        uncut(async move { daemon.claim_in_turn(&asked).await }).await
    }

    async fn claim_in_turn(&self, asked: &Asked) -> Result<Claimed, Refused> {
        let fresh = fresh_token()?;
        let _turn = self.turn.lock().await;
        if self.draining() {
            return Err(Refused::new(503, "the bastion is about to stop").hint("connect again in a moment"));
        }
        let grant = {
            let table = self.table();
            if !table.lanes.contains_key(&asked.lane) {
                return Err(Refused::new(410, "the connection of this claim has ended"));
            }
            table
                .registry
                .claim(asked, fresh, self.now())
                .map_err(|denied| table.refused(&asked.tag, denied))?
        };
        if !grant.unchanged {
            self.commit(vec![Change::Put(grant.record.clone())]).await?;
        }
        self.apply(&grant);
        Ok(Claimed {
            tag: grant.record.tag,
            token: grant.record.token.reveal().to_owned(),
            lease_seconds: self.tunables().lease.as_secs(),
            created: grant.record.created,
            resumed: grant.resumed,
        })
    }

    fn apply(&self, grant: &Grant) {
        let tag = &grant.record.tag;
        let mut table = self.table();
        table.registry.grant(grant);
        if !table.lanes.contains_key(&grant.lane) {
            // It ended while the record was being written; its session is leased like any other whose lane ended.
            let now = self.now();
            let until = now.saturating_add(self.tunables().lease.as_secs());
            table.registry.lane_down(grant.lane, now, until);
        }
        table.refresh(tag, &self.metrics);
        let replaced = grant.replaced.and_then(|id| table.lanes.get(&id).cloned());
        let displaced: Vec<Arc<Lane>> = grant.displaced.iter().filter_map(|id| table.lanes.get(id).cloned()).collect();
        let idle: Vec<bool> = displaced.iter().map(|lane| !table.registry.carries(lane.id)).collect();
        drop(table);
        lock(&self.changed).tell();
        if let Some(lane) = replaced {
            lane.close("its laptop came back over a new connection");
        }
        for (lane, idle) in displaced.iter().zip(idle) {
            lane.notify(Event::Displaced {
                tag: tag.clone(),
                by: grant.record.host.clone(),
            });
            if idle && lane.kind == LaneKind::OpenSsh {
                lane.close(&format!("{} took {tag} over", grant.record.host));
            }
        }
    }

    /// Gives a session back. Releasing what nobody holds is fine.
    pub(crate) async fn release(self: &Arc<Daemon>, tag: &Tag, token: Option<&str>, by: Releaser) -> Result<Released, Refused> {
        let (daemon, tag, token) = (self.clone(), tag.clone(), token.map(str::to_owned));
        uncut(async move { daemon.release_in_turn(&tag, token.as_deref(), by).await }).await
    }

    async fn release_in_turn(&self, tag: &Tag, token: Option<&str>, by: Releaser) -> Result<Released, Refused> {
        let _turn = self.turn.lock().await;
        let held = {
            let table = self.table();
            let decided = table.registry.release(tag, token, by);
            decided.map_err(|denied| table.refused(tag, denied))?
        };
        if held {
            self.commit(vec![Change::Forget(tag.clone())]).await?;
            self.forget(tag, by);
        }
        Ok(Released { released: held })
    }

    fn forget(&self, tag: &Tag, by: Releaser) {
        let mut table = self.table();
        let Some(session) = table.registry.forget(tag) else { return };
        table.refresh(tag, &self.metrics);
        let others = session.lanes.values().filter(|&&id| by != Releaser::Lane(id));
        let others: Vec<Arc<Lane>> = others.filter_map(|id| table.lanes.get(id).cloned()).collect();
        let idle: Vec<bool> = others.iter().map(|lane| !table.registry.carries(lane.id)).collect();
        drop(table);
        lock(&self.changed).tell();
        for (lane, idle) in others.iter().zip(idle) {
            lane.notify(Event::Released { tag: tag.clone() });
            if idle && lane.kind == LaneKind::OpenSsh {
                lane.close(&format!("{tag} was released"));
            }
        }
    }

    async fn commit(&self, changes: Vec<Change>) -> Result<(), Refused> {
        self.store.commit(changes).await.map_err(|why| {
            tracing::error!(%why, "the session store cannot be written");
            Refused::new(503, "the bastion cannot write its session store")
                .because(why)
                .hint("ask its admin to look at the disk")
        })
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
                    lease_until,
                    changed: Changes::new(),
                };
                self.routes.insert(tag.clone(), way);
            }
        }
    }

    fn refused(&self, tag: &Tag, denied: Denied) -> Refused {
        let address = |lane: Option<LaneId>| Some(self.lanes.get(&lane?)?.address.clone());
        match denied {
            Denied::Held { host, since, lane } => Refused::new(409, format!("{tag} is held by {host}"))
                .hint("take it over with --takeover, or release it there")
                .holder(host, since, address(lane)),
            Denied::NotHolder { host, since } => Refused::new(409, format!("{tag} is held by {host}, not by this laptop"))
                .hint("release it there, or show its token")
                .holder(host, since, None),
            Denied::LaneNumber(number) => Refused::new(400, format!("lane {number} is beyond the most that a session may have")),
            Denied::TooLong(what) => Refused::new(400, format!("the {what} of this claim is too long")),
            Denied::TooMany(limit) => {
                Refused::new(429, format!("{limit} sessions are held already")).hint("release one that is not needed")
            }
        }
    }
}

impl Refused {
    pub(crate) fn new(status: u16, what: impl Into<String>) -> Refused {
        let refusal = Refusal {
            what: what.into(),
            why: None,
            hint: None,
            holder: None,
        };
        Refused { status, refusal }
    }

    pub(crate) fn because(mut self, why: impl std::fmt::Display) -> Refused {
        self.refusal.why = Some(why.to_string());
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Refused {
        self.refusal.hint = Some(hint.into());
        self
    }

    fn holder(mut self, host: String, since: u64, address: Option<String>) -> Refused {
        self.refusal.holder = Some(Holder { host, address, since });
        self
    }

    fn protocol(theirs: u32) -> Refused {
        Refused::new(
            400,
            format!(
                "this bastion speaks protocol {}, the laptop speaks {theirs}",
                protocol::VERSION
            ),
        )
        .hint("bring both to the same version")
    }
}

/// Runs a change to its end even when the caller is dropped, so that disk and table never differ.
async fn uncut<T: Send + 'static>(change: impl Future<Output = Result<T, Refused>> + Send + 'static) -> Result<T, Refused> {
    let (send, receive) = smol::channel::bounded(1);
    let task = rt::spawn(async move {
        // Nobody waits any more when this fails; the change is done all the same.
        send.send(change.await).await.ok();
    });
    task.detach();
    match receive.recv().await {
        Ok(result) => result,
        Err(_) => Err(Refused::new(500, "the change was lost inside the bastion")),
    }
}

fn fresh_token() -> Result<Token, Refused> {
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(|why| Refused::new(500, "the bastion has no randomness").because(why))?;
    Ok(Token::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
}

/// A poisoned lock means that a holder panicked, and a panic ends this program; what it guards is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
