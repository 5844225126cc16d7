//! The changes of sessions: decided by the registry, committed by the store, applied, told to whom it concerns; one at a time.

use std::future::Future;
use std::sync::Arc;

use super::{Daemon, Refused, Table, audit, lock};
use crate::bastiond::audit::Actor;
use crate::bastiond::lane::{Lane, LaneKind};
use crate::bastiond::registry::{Asked, Denied, Grant, LaneId, MAX_SESSIONS, Releaser, Token};
use crate::bastiond::store::Change;
use crate::name::{Service, Tag, User};
use crate::protocol::audit::{Entry, Happened};
use crate::protocol::{self, Claim, Claimed, Event, Released};
use crate::rt;

/// The bytes of a session token: 128 bits, beyond guessing within any lease.
const TOKEN_BYTES: usize = 16;

impl Daemon {
    /// Binds a tag of `user` to a connection. The session is on disk before this answers. A caller that gives up waiting
    /// does not stop the claim half way.
    pub(crate) async fn claim(self: &Arc<Daemon>, user: &User, claim: &Claim, lane: &Arc<Lane>) -> Result<Claimed, Refused> {
        match self.claim_unless_refused(user, claim, lane).await {
            Ok(claimed) => Ok(claimed),
            Err(refused) => {
                let service = Service::parse(&claim.service).ok();
                let by = lane.actor(Some(&claim.host));
                Err(self
                    .refused(user.as_str(), service.as_ref().map(Service::as_str), by, refused)
                    .await)
            }
        }
    }

    async fn claim_unless_refused(self: &Arc<Daemon>, user: &User, claim: &Claim, lane: &Arc<Lane>) -> Result<Claimed, Refused> {
        if !(protocol::OLDEST..=protocol::VERSION).contains(&claim.protocol) {
            return Err(Refused::protocol(claim.protocol));
        }
        let service = Service::parse(&claim.service)
            .map_err(|why| Refused::new(400, format!("{:?} is not a service name", claim.service)).because(why))?;
        let asked = Asked {
            tag: Tag::new(user.clone(), service),
            lane: lane.id,
            lane_number: claim.lane,
            only: claim.only,
            host: protocol::shown(&claim.host),
            version: protocol::shown(&claim.version),
            token: claim.token.clone(),
            takeover: claim.takeover,
            quotas: self.tunables().quotas,
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
        let (grant, by) = {
            let mut table = self.table();
            let Some(lane) = table.lanes.get(&asked.lane).filter(|lane| self.owns(lane)).cloned() else {
                return Err(Refused::new(410, "the connection of this claim has ended"));
            };
            table.account(&asked.tag);
            let granted = table.registry.claim(asked, fresh, self.now());
            let grant = granted.map_err(|denied| table.refused(&asked.tag, denied))?;
            (grant, lane.actor(Some(&asked.host)))
        };
        if !grant.unchanged {
            let event = match &grant.lost {
                Some(_) => Happened::TookOver,
                None if grant.resumed => Happened::Returned,
                None => Happened::Claimed,
            };
            let (from, used) = grant.lost.clone().unzip();
            let entry = Entry {
                from,
                used,
                ..self.entry(event, &asked.tag, by)
            };
            self.commit(vec![Change::Put(grant.record.clone()), Change::Note(entry)])
                .await?;
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
        if grant.lost.is_some()
            && let Some(way) = table.routes.get_mut(tag)
        {
            // What its last holder's requests moved is not the new one's.
            way.count();
        }
        if !table.lanes.contains_key(&grant.lane) {
            // It ended while the record was being written; its session is leased like any other whose lane ended.
            let now = self.now();
            let until = now.saturating_add(self.tunables().lease.as_secs());
            table.registry.lane_down(grant.lane, now, until);
        }
        table.refresh(tag, &self.metrics);
        let replaced: Vec<Arc<Lane>> = grant.replaced.iter().filter_map(|id| table.lanes.get(id).cloned()).collect();
        let displaced: Vec<Arc<Lane>> = grant.displaced.iter().filter_map(|id| table.lanes.get(id).cloned()).collect();
        let idle: Vec<bool> = displaced.iter().map(|lane| !table.registry.carries(lane.id)).collect();
        drop(table);
        lock(&self.changed).tell();
        tracing::info!(%tag, host = %grant.record.host, resumed = grant.resumed, displaced = displaced.len(), "claimed");
        for lane in replaced {
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
        let (decided, actor) = {
            let mut table = self.table();
            table.account(tag);
            let decided = table.registry.release(tag, token, by);
            (decided.map_err(|denied| table.refused(tag, denied)), table.actor(by, tag))
        };
        let held = match decided {
            Ok(held) => held,
            Err(refused) => {
                let service = Some(tag.service.as_str());
                return Err(self.refused(tag.user.as_str(), service, actor, refused).await);
            }
        };
        if held {
            let entry = self.end_of(Happened::Released, tag, actor);
            self.commit(vec![Change::Forget(tag.clone()), Change::Note(entry)]).await?;
            self.forget(tag, by, None);
        }
        Ok(Released { released: held })
    }

    /// The entry of a session that is about to be forgotten.
    pub(super) fn end_of(&self, event: Happened, tag: &Tag, by: Actor) -> Entry {
        let mut table = self.table();
        table.account(tag);
        let record = table.registry.session(tag).map(|session| &session.record);
        let entry = self.entry(event, tag, by);
        Entry {
            host: entry.host.clone().or_else(|| record.map(|record| record.host.clone())),
            used: record.map(|record| record.used),
            ..entry
        }
    }

    /// `why` is a sentence for a laptop that did not ask for it.
    pub(super) fn forget(&self, tag: &Tag, by: Releaser, why: Option<&str>) {
        let mut table = self.table();
        let Some(session) = table.registry.forget(tag) else { return };
        table.refresh(tag, &self.metrics);
        let others = session.lanes.values().filter(|&&id| by != Releaser::Lane(id));
        let others: Vec<Arc<Lane>> = others.filter_map(|id| table.lanes.get(id).cloned()).collect();
        let idle: Vec<bool> = others.iter().map(|lane| !table.registry.carries(lane.id)).collect();
        drop(table);
        tracing::info!(%tag, by_admin = by == Releaser::Admin, why, "released");
        lock(&self.changed).tell();
        for (lane, idle) in others.iter().zip(idle) {
            lane.notify(Event::Released {
                tag: tag.clone(),
                why: why.map(str::to_owned),
            });
            if idle && lane.kind == LaneKind::OpenSsh {
                let why = why.map(|why| format!(": {why}")).unwrap_or_default();
                lane.close(&format!("{tag} was released{why}"));
            }
        }
    }

    pub(super) async fn commit(&self, changes: Vec<Change>) -> Result<(), Refused> {
        let stored = self.store.commit(changes, self.now()).await.map_err(|why| {
            tracing::error!(%why, "the session store cannot be written");
            Refused::new(503, "the bastion cannot write its session store")
                .because(why)
                .hint("ask its admin to look at the disk")
        })?;
        stored.iter().for_each(audit::tell);
        Ok(())
    }
}

impl Table {
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
            Denied::TooMany(limit) => Refused::new(429, format!("{} holds {limit} sessions already", tag.user))
                .because("this bastion lets one user have no more (user_sessions)")
                .hint("give one back: ephemwork down SERVICE; or ask the bastion's admin for more (--user-sessions)"),
            Denied::Full => Refused::new(429, format!("{MAX_SESSIONS} sessions are held already, of all users"))
                .because("a bastion holds no more")
                .hint("ask its admin, who sees them all: ephemwork status --all"),
            Denied::TooManyLanes(limit) => Refused::new(429, format!("{tag} has {limit} connections already"))
                .because("this bastion lets one session have no more (session_lanes)")
                .hint(format!(
                    "lanes = {limit} under [tunnel] asks for no more; the bastion's admin may allow more (--session-lanes)"
                )),
        }
    }
}

/// Runs a change to its end even when the caller is dropped, so that disk and table never differ.
pub(super) async fn uncut<T: Send + 'static>(
    change: impl Future<Output = Result<T, Refused>> + Send + 'static,
) -> Result<T, Refused> {
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
