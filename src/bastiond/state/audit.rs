//! The audit: what is stored of every change, what is told to the log, and who asks for it.

use std::time::Duration;

use super::{Daemon, Refused, Table, Way, lock};
use crate::bastiond::audit::{self, Actor};
use crate::bastiond::lane::Lane;
use crate::bastiond::registry::Releaser;
use crate::bastiond::store::{Change, Query};
use crate::log;
use crate::name::Tag;
use crate::protocol::audit::{AuditPage, Entry, Happened, Used};
use crate::rt;

/// How often merged refusals are stored, and entries that are too old or too many removed.
const TIDY_EVERY: Duration = Duration::from_secs(60);

/// After so many of these the store's file is made smaller when most of it is free: once an hour.
const COMPACT_AFTER: u32 = 60;

impl Daemon {
    /// An entry about a tag.
    pub(super) fn entry(&self, event: Happened, tag: &Tag, by: Actor) -> Entry {
        audit::entry(event, tag.user.as_str(), Some(tag.service.as_str()), by, self.now())
    }

    /// An entry about a name.
    pub(super) fn entry_of_name(&self, event: Happened, user: &str, by: Actor) -> Entry {
        audit::entry(event, user, None, by, self.now())
    }

    /// A refusal is an entry before it is answered. One that the asker can do nothing about (the bastion drains, its disk is full) is not
    /// about them.
    pub(crate) async fn refused(&self, user: &str, service: Option<&str>, by: Actor, refused: Refused) -> Refused {
        if !matches!(refused.status, 400 | 403 | 409 | 429) {
            return refused;
        }
        let why = audit::cut(&refused.sentence());
        let entry = Entry {
            why: Some(why),
            ..audit::entry(Happened::Refused, user, service, by, self.now())
        };
        let now = lock(&self.refusals).refused(entry);
        if let Some(entry) = now {
            self.note(vec![entry]).await;
        }
        refused
    }

    /// One page of the audit, with what was refused a moment ago.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) async fn audit(&self, query: Query) -> Result<AuditPage, Refused> {
        let merged = lock(&self.refusals).all();
        self.note(merged).await;
        self.store.audit(query).await.map_err(|why| {
            Refused::new(503, "the bastion cannot read its audit")
                .because(why)
                .hint("ask its admin to look at the disk")
        })
    }

    /// Keeps the audit within its limits, for ever.
    pub(crate) async fn keep_audit(&self) {
        for round in 1_u32.. {
            rt::sleep(TIDY_EVERY).await;
            let (merged, uncounted) = lock(&self.refusals).over(self.now());
            if uncounted > 0 {
                tracing::warn!(uncounted, "refusals are not in the audit: too many different ones at once");
            }
            self.note(merged).await;
            loop {
                match self.store.trim(self.now()).await {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(why) => {
                        tracing::warn!(%why, "old entries of the audit are not removed");
                        break;
                    }
                }
            }
            if round % COMPACT_AFTER == 0
                && let Err(why) = self.store.compact().await
            {
                tracing::warn!(%why, "the session store is not made smaller");
            }
        }
    }

    /// Stores entries that belong to no change. A disk that takes nothing costs them their place in the store, not in the log.
    async fn note(&self, entries: Vec<Entry>) {
        if entries.is_empty() {
            return;
        }
        let changes = entries.iter().cloned().map(Change::Note).collect();
        if self.commit(changes).await.is_err() {
            entries.iter().for_each(tell);
        }
    }

    /// What is stored at the daemon's end: what went through its sessions, and refusals that are still counted.
    pub(super) fn last_changes(&self) -> Vec<Change> {
        let merged = lock(&self.refusals).all();
        let mut table = self.table();
        table.account_all();
        let records = table.registry.sessions().map(|session| Change::Put(session.record.clone()));
        records.chain(merged.into_iter().map(Change::Note)).collect()
    }
}

/// Prints an entry into the log.
pub(super) fn tell(entry: &Entry) {
    let text = serde_json::json!({ log::AUDIT: entry });
    tracing::info!(target: log::AUDIT, "{text}");
}

impl Lane {
    /// Who is at its other end.
    pub(crate) fn actor(&self, host: Option<&str>) -> Actor {
        Actor {
            principal: self.principal.as_ref().map(ToString::to_string),
            host: host.map(str::to_owned),
            transport: Some(self.transport().to_owned()),
            address: Some(self.address.clone()),
        }
    }
}

impl Table {
    /// Who gives a session back.
    pub(super) fn actor(&self, by: Releaser, tag: &Tag) -> Actor {
        let lane = match by {
            Releaser::Lane(id) => self.lanes.get(&id),
            Releaser::Admin => return Actor::socket(),
        };
        let host = self.registry.session(tag).map(|session| session.record.host.as_str());
        lane.map(|lane| lane.actor(host)).unwrap_or_default()
    }

    /// Adds to a session's record what went through it since the last time. Only in a change's turn: a grant carries the sum.
    pub(super) fn account(&mut self, tag: &Tag) {
        if let Some(way) = self.routes.get_mut(tag) {
            self.registry.used(tag, way.count());
        }
    }

    /// [`Table::account`] of all.
    pub(super) fn account_all(&mut self) {
        for (tag, way) in &mut self.routes {
            self.registry.used(tag, way.count());
        }
    }
}

impl Way {
    /// What went through it since the last call.
    pub(super) fn count(&mut self) -> Used {
        use std::sync::atomic::Ordering::Relaxed;
        let now = Used {
            requests: self.counters.requests.load(Relaxed),
            bytes_in: self.counters.bytes_in.load(Relaxed),
            bytes_out: self.counters.bytes_out.load(Relaxed),
        };
        let before = std::mem::replace(&mut self.counted, now);
        Used {
            requests: now.requests.saturating_sub(before.requests),
            bytes_in: now.bytes_in.saturating_sub(before.bytes_in),
            bytes_out: now.bytes_out.saturating_sub(before.bytes_out),
        }
    }
}
