//! What time, signals and the admin do to the state: leases end, settings are read again, the daemon drains.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Daemon, StagingUrl, lock};
use crate::bastiond::audit::Actor;
use crate::bastiond::authorize::Authorized;
use crate::bastiond::lane::Lane;
use crate::bastiond::registry::Releaser;
use crate::bastiond::settings::Tunables;
use crate::bastiond::store::Change;
use crate::name::Tag;
use crate::protocol::Event;
use crate::protocol::audit::{Entry, Happened};
use crate::rt;
use crate::tunnel::traffic::SAMPLE_EVERY;

/// The pause before ended leases are tried again when the store could not be written.
const RETRY: Duration = Duration::from_secs(5);

/// How often the time at which live sessions were last seen is stored, and what went through them. It is shown to people, who count in
/// minutes.
const LAST_SEEN_EVERY: Duration = Duration::from_secs(300);

impl Daemon {
    /// Forgets sessions when their leases end, and when they are as old as they may become, for ever.
    pub(crate) async fn end_leases(&self) {
        loop {
            let changed = self.changed();
            let lifetime = self.tunables().quotas.lifetime;
            let next = {
                let registry = &self.table().registry;
                let outlived = lifetime.and_then(|lifetime| registry.next_outlived(lifetime.as_secs()));
                registry.next_expiry().into_iter().chain(outlived).min()
            };
            let now = self.now();
            match next {
                None => changed.await,
                Some(at) if at > now => {
                    let over = rt::sleep(Duration::from_secs(at - now));
                    smol::future::or(changed, over).await;
                }
                Some(_) => {
                    if !self.forget_expired().await || !self.forget_outlived(lifetime).await {
                        rt::sleep(RETRY).await;
                    }
                }
            }
        }
    }

    async fn forget_expired(&self) -> bool {
        let _turn = self.turn.lock().await;
        let expired: Vec<Tag> = self.table().registry.expired(self.now());
        let changes = expired.iter().flat_map(|tag| {
            let entry = self.end_of(Happened::LeaseOver, tag, Actor::default());
            [Change::Forget(tag.clone()), Change::Note(entry)]
        });
        let changes = changes.collect();
        if self.commit(changes).await.is_err() {
            return false;
        }
        let mut table = self.table();
        for tag in &expired {
            table.registry.forget(tag);
            table.refresh(tag, &self.metrics);
            tracing::info!(%tag, "the lease is over, the session is forgotten");
        }
        drop(table);
        lock(&self.changed).tell();
        true
    }

    async fn forget_outlived(&self, lifetime: Option<Duration>) -> bool {
        let Some(lifetime) = lifetime else { return true };
        let _turn = self.turn.lock().await;
        let outlived = self.table().registry.outlived(lifetime.as_secs(), self.now());
        let why = format!(
            "it is {} old, and this bastion lets sessions become no older (session_lifetime)",
            humantime::format_duration(lifetime)
        );
        let changes = outlived.iter().flat_map(|tag| {
            let entry = Entry {
                why: Some(why.clone()),
                ..self.end_of(Happened::LifetimeOver, tag, Actor::default())
            };
            [Change::Forget(tag.clone()), Change::Note(entry)]
        });
        let changes = changes.collect();
        if self.commit(changes).await.is_err() {
            return false;
        }
        for tag in &outlived {
            self.forget(tag, Releaser::Admin, Some(&why));
        }
        true
    }

    /// Stores now and then when live sessions were last seen, for ever.
    pub(crate) async fn keep_last_seen(&self) {
        loop {
            rt::sleep(LAST_SEEN_EVERY).await;
            let _turn = self.turn.lock().await;
            let seen = {
                let mut table = self.table();
                table.account_all();
                table.registry.seen(self.now())
            };
            if !seen.is_empty() && self.commit(seen.into_iter().map(Change::Put).collect()).await.is_err() {
                tracing::warn!("when sessions were last seen is not stored");
            }
        }
    }

    /// Takes samples of what goes through the lanes, for ever.
    pub(crate) async fn keep_rates(&self) {
        loop {
            let changed = self.changed();
            let lanes = self.lanes();
            if lanes.is_empty() {
                changed.await;
                continue;
            }
            let now = Instant::now();
            lanes
                .iter()
                .filter_map(|lane| lane.traffic())
                .for_each(|traffic| traffic.sample(now));
            drop(lanes);
            rt::sleep(SAMPLE_EVERY).await;
        }
    }

    /// Whether there is no lane and no session.
    pub(crate) fn idle(&self) -> bool {
        let table = self.table();
        table.lanes.is_empty() && table.registry.len() == 0
    }

    /// Takes settings and keys that were read again. Connections of users whose keys were all taken out of the file are ended.
    pub(crate) fn reload(&self, tunables: Tunables, authorized: Authorized) {
        let before = lock(&self.authorized).clone();
        let gone: Vec<Arc<Lane>> = {
            let table = self.table();
            table
                .lanes
                .values()
                .filter(|lane| lane.principal.is_none() && before.knows(&lane.user) && !authorized.knows(&lane.user))
                .cloned()
                .collect()
        };
        self.paces.set_rate(tunables.quotas.rate);
        *lock(&self.tunables) = Arc::new(tunables);
        // Lifetimes may end earlier now.
        lock(&self.changed).tell();
        *lock(&self.authorized) = Arc::new(authorized);
        for lane in gone {
            tracing::warn!(user = %lane.user, "the user has no key any more, the connection is ended");
            lane.close("your key was taken out of the bastion's authorized_keys");
        }
    }

    /// Changes where untagged requests go.
    pub(crate) fn set_staging_url(&self, url: Option<StagingUrl>) {
        *lock(&self.staging_url) = url;
    }

    /// Begins to drain: nothing new is accepted, every laptop is told to connect again.
    pub(crate) fn begin_drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        lock(&self.drain).tell();
        for lane in self.lanes() {
            lane.notify(Event::Draining);
        }
    }

    /// Writes the last of the store and closes it.
    pub(crate) async fn close_store(&self) {
        let _turn = self.turn.lock().await;
        if self.commit(self.last_changes()).await.is_err() {
            tracing::warn!("what went through the sessions last is not stored");
        }
        self.store.close().await;
    }

    /// Ends every SSH connection.
    pub(crate) fn close_lanes(&self, reason: &str) {
        for lane in self.lanes() {
            lane.close(reason);
        }
    }

    fn lanes(&self) -> Vec<Arc<Lane>> {
        self.table().lanes.values().cloned().collect()
    }
}
