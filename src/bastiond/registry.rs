//! Who holds which tag, and the rules by which that changes. Pure: no clock, no file, no lock; `now` is seconds since the epoch.
//!
//! A change is decided first ([`Registry::claim`], [`Registry::release`]: `&self`), then committed by the caller, then
//! applied ([`Registry::grant`], [`Registry::forget`]). Only the caller knows whether the middle step worked.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use crate::bastiond::settings::Quotas;
use crate::name::{Tag, User};
use crate::protocol::MAX_LANES;
use crate::protocol::audit::Used;

/// The most sessions one user can hold, unless it is set. A developer with more services than this has a script that claims in a loop.
pub(crate) const MAX_SESSIONS_PER_USER: usize = 64;

/// The most sessions of one daemon: with [`MAX_SESSIONS_PER_USER`] it keeps tables and the metrics page within a few megabytes.
pub(crate) const MAX_SESSIONS: usize = 10_000;

/// The longest host name or version that is kept, in bytes: a DNS name's limit (RFC 1035, section 2.3.4).
pub(crate) const MAX_TEXT: usize = 255;

/// The daemon's number for one SSH connection; never used twice in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct LaneId(pub u64);

/// A session's secret. It is printed only where it is handed to its owner.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(Box<str>);

impl Token {
    pub(crate) fn new(text: impl Into<Box<str>>) -> Token {
        Token(text.into())
    }

    /// The secret itself, for its owner and for the store.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// Compares in a time that depends on the length only.
    pub(crate) fn matches(&self, shown: &str) -> bool {
        let (own, shown) = (self.0.as_bytes(), shown.as_bytes());
        own.len() == shown.len() && own.iter().zip(shown).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What of a session outlives the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub tag: Tag,
    pub token: Token,
    /// The laptop's host name.
    pub host: String,
    /// The laptop's program version.
    pub version: String,
    /// First claimed, also by an earlier holder.
    pub created: u64,
    /// Claimed by the present holder.
    pub held_since: u64,
    /// A lane was known to live.
    pub last_seen: u64,
    /// What went through it since `held_since`, as far as it was told by [`Registry::used`].
    pub used: Used,
}

/// A claimed tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub record: Record,
    /// By the laptop's own lane number.
    pub lanes: BTreeMap<u32, LaneId>,
    /// The last second of the lease; `None` while a lane lives.
    pub lease_until: Option<u64>,
}

/// A claim whose names are already parsed.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub tag: Tag,
    pub lane: LaneId,
    pub lane_number: u32,
    /// The laptop has no other connection.
    pub only: bool,
    pub host: String,
    pub version: String,
    pub token: Option<String>,
    pub takeover: bool,
    /// What this user may have.
    pub quotas: Quotas,
}

/// A claim that is allowed: what to store, and what it does to other connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub record: Record,
    pub lane: LaneId,
    pub lane_number: u32,
    /// The session existed before.
    pub resumed: bool,
    /// Nothing but `last_seen` differs from what is stored already.
    pub unchanged: bool,
    /// The connections that this one replaces; to be closed.
    pub replaced: Vec<LaneId>,
    /// The connections that lose the tag to this one; to be told.
    pub displaced: Vec<LaneId>,
    /// With a takeover: the host that loses the tag, and what went through it there.
    pub lost: Option<(String, Used)>,
}

/// Why a claim or a release is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// Another laptop of the same user holds the tag.
    Held { host: String, since: u64, lane: Option<LaneId> },
    /// The release showed a token that is not the session's, or none from a connection that does not carry it.
    NotHolder { host: String, since: u64 },
    /// The lane number is [`MAX_LANES`] or more.
    LaneNumber(u32),
    /// A host name or version longer than [`MAX_TEXT`], and which of both.
    TooLong(&'static str),
    /// The user has as many sessions as they may have; the number is the limit.
    TooMany(usize),
    /// The daemon has [`MAX_SESSIONS`].
    Full,
    /// The session has as many connections as it may have; the number is the limit.
    TooManyLanes(usize),
}

/// Who gives a session back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Releaser {
    /// A connection of the session's user.
    Lane(LaneId),
    /// Whoever may open the control socket.
    Admin,
}

/// All sessions of a daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Registry {
    sessions: HashMap<Tag, Session>,
    per_user: HashMap<User, usize>,
}

impl Registry {
    /// What a restarted daemon knows: every stored session, without lanes, leased until `lease_until`.
    pub(crate) fn restored(records: impl IntoIterator<Item = Record>, lease_until: u64) -> Registry {
        let mut registry = Registry::default();
        for record in records {
            registry.insert(Session {
                record,
                lanes: BTreeMap::new(),
                lease_until: Some(lease_until),
            });
        }
        registry
    }

    /// One session.
    pub(crate) fn session(&self, tag: &Tag) -> Option<&Session> {
        self.sessions.get(tag)
    }

    /// All sessions, in no order.
    pub(crate) fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.sessions.values()
    }

    /// Whether a connection carries any session.
    pub(crate) fn carries(&self, lane: LaneId) -> bool {
        self.sessions
            .values()
            .any(|session| session.lanes.values().any(|&id| id == lane))
    }

    /// How many sessions there are.
    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether a claim is allowed, and what it would change. `fresh` is used where a new secret is due.
    pub(crate) fn claim(&self, asked: &Asked, fresh: Token, now: u64) -> Result<Grant, Denied> {
        if asked.lane_number >= MAX_LANES {
            return Err(Denied::LaneNumber(asked.lane_number));
        }
        for (what, text) in [("host", &asked.host), ("version", &asked.version)] {
            if text.len() > MAX_TEXT {
                return Err(Denied::TooLong(what));
            }
        }
        let Some(session) = self.sessions.get(&asked.tag) else {
            self.room_for(&asked.tag.user, asked.quotas.sessions)?;
            return Ok(grant(asked, fresh, now, now));
        };
        let own_connection = session.lanes.values().any(|&id| id == asked.lane);
        let token_fits = asked
            .token
            .as_deref()
            .is_some_and(|shown| session.record.token.matches(shown));
        let came_back = session.lanes.is_empty() && session.record.host == asked.host;
        if own_connection || token_fits {
            let grant = returned(session, asked, now);
            let stay = session
                .lanes
                .values()
                .filter(|&&id| id != asked.lane && !grant.replaced.contains(&id));
            if !own_connection && stay.count() >= asked.quotas.lanes {
                return Err(Denied::TooManyLanes(asked.quotas.lanes));
            }
            return Ok(grant);
        }
        if came_back {
            // The same machine without its token (its state was lost): whatever still knows the old token is not it any more.
            let mut grant = returned(session, asked, now);
            grant.record.token = fresh;
            grant.unchanged = false;
            return Ok(grant);
        }
        if !asked.takeover {
            return Err(Denied::Held {
                host: session.record.host.clone(),
                since: session.record.held_since,
                lane: session.lanes.values().next().copied(),
            });
        }
        Ok(Grant {
            resumed: true,
            displaced: session.lanes.values().copied().collect(),
            lost: Some((session.record.host.clone(), session.record.used)),
            ..grant(asked, fresh, session.record.created, now)
        })
    }

    /// Carries out a claim that was allowed and committed.
    pub(crate) fn grant(&mut self, grant: &Grant) {
        let mut lanes = match self.forget(&grant.record.tag) {
            Some(session) => session.lanes,
            None => BTreeMap::new(),
        };
        lanes.retain(|_, id| *id != grant.lane && !grant.replaced.contains(id) && !grant.displaced.contains(id));
        lanes.insert(grant.lane_number, grant.lane);
        self.insert(Session {
            record: grant.record.clone(),
            lanes,
            lease_until: None,
        });
    }

    /// Whether a release is allowed; `Ok(false)` when there is no such session.
    pub(crate) fn release(&self, tag: &Tag, token: Option<&str>, by: Releaser) -> Result<bool, Denied> {
        let Some(session) = self.sessions.get(tag) else {
            return Ok(false);
        };
        let may = match (by, token) {
            (Releaser::Admin, _) => true,
            (Releaser::Lane(_), Some(shown)) => session.record.token.matches(shown),
            (Releaser::Lane(lane), None) => session.lanes.values().any(|&id| id == lane),
        };
        if may {
            return Ok(true);
        }
        Err(Denied::NotHolder {
            host: session.record.host.clone(),
            since: session.record.held_since,
        })
    }

    /// Removes a session.
    pub(crate) fn forget(&mut self, tag: &Tag) -> Option<Session> {
        let session = self.sessions.remove(tag)?;
        if let Some(count) = self.per_user.get_mut(&tag.user) {
            *count -= 1;
            if *count == 0 {
                self.per_user.remove(&tag.user);
            }
        }
        Some(session)
    }

    /// A connection ended: sessions that had only it are leased until `lease_until`. Gives the tags that it carried.
    pub(crate) fn lane_down(&mut self, lane: LaneId, now: u64, lease_until: u64) -> Vec<Tag> {
        let mut touched = Vec::new();
        for session in self.sessions.values_mut() {
            let before = session.lanes.len();
            session.lanes.retain(|_, id| *id != lane);
            if session.lanes.len() == before {
                continue;
            }
            session.record.last_seen = session.record.last_seen.max(now);
            if session.lanes.is_empty() {
                session.lease_until = Some(lease_until);
            }
            touched.push(session.record.tag.clone());
        }
        touched
    }

    /// More went through a session.
    pub(crate) fn used(&mut self, tag: &Tag, more: Used) {
        if let Some(session) = self.sessions.get_mut(tag) {
            let used = &mut session.record.used;
            used.requests = used.requests.saturating_add(more.requests);
            used.bytes_in = used.bytes_in.saturating_add(more.bytes_in);
            used.bytes_out = used.bytes_out.saturating_add(more.bytes_out);
        }
    }

    /// Live sessions are seen now; gives their records as they are to be stored.
    pub(crate) fn seen(&mut self, now: u64) -> Vec<Record> {
        let live = self.sessions.values_mut().filter(|session| !session.lanes.is_empty());
        live.map(|session| {
            session.record.last_seen = session.record.last_seen.max(now);
            session.record.clone()
        })
        .collect()
    }

    /// The sessions whose lease is over.
    pub(crate) fn expired(&self, now: u64) -> Vec<Tag> {
        let over = self
            .sessions
            .values()
            .filter(|session| session.lease_until.is_some_and(|until| now > until));
        over.map(|session| session.record.tag.clone()).collect()
    }

    /// The sessions whose present holder has had them for longer than `lifetime`, in seconds.
    pub(crate) fn outlived(&self, lifetime: u64, now: u64) -> Vec<Tag> {
        let over = |session: &&Session| now > session.record.held_since.saturating_add(lifetime);
        let over = self.sessions.values().filter(over);
        over.map(|session| session.record.tag.clone()).collect()
    }

    /// The first second in which [`Registry::outlived`] gives something.
    pub(crate) fn next_outlived(&self, lifetime: u64) -> Option<u64> {
        let since = self.sessions.values().map(|session| session.record.held_since);
        since.min().map(|since| since.saturating_add(lifetime).saturating_add(1))
    }

    /// The first second in which [`Registry::expired`] gives something, if no lane comes back.
    pub(crate) fn next_expiry(&self) -> Option<u64> {
        let ends = self.sessions.values().filter_map(|session| session.lease_until);
        ends.min().map(|until| until + 1)
    }

    fn insert(&mut self, session: Session) {
        let tag = session.record.tag.clone();
        *self.per_user.entry(tag.user.clone()).or_default() += 1;
        self.sessions.insert(tag, session);
    }

    fn room_for(&self, user: &User, most: usize) -> Result<(), Denied> {
        if self.per_user.get(user).copied().unwrap_or(0) >= most {
            return Err(Denied::TooMany(most));
        }
        if self.sessions.len() >= MAX_SESSIONS {
            return Err(Denied::Full);
        }
        Ok(())
    }
}

/// A claim of a tag for a holder that did not hold it before.
fn grant(asked: &Asked, token: Token, created: u64, now: u64) -> Grant {
    Grant {
        record: Record {
            tag: asked.tag.clone(),
            token,
            host: asked.host.clone(),
            version: asked.version.clone(),
            created,
            held_since: now,
            last_seen: now,
            used: Used::default(),
        },
        lane: asked.lane,
        lane_number: asked.lane_number,
        resumed: false,
        unchanged: false,
        replaced: Vec::new(),
        displaced: Vec::new(),
        lost: None,
    }
}

/// A claim by the holder itself, over a new connection or the same.
fn returned(session: &Session, asked: &Asked, now: u64) -> Grant {
    let held = &session.record;
    let others = session.lanes.iter().filter(|&(_, &id)| id != asked.lane);
    let dead = others.filter(|&(&number, _)| asked.only || number == asked.lane_number);
    Grant {
        resumed: true,
        unchanged: held.host == asked.host && held.version == asked.version,
        replaced: dead.map(|(_, &id)| id).collect(),
        record: Record {
            token: held.token.clone(),
            created: held.created,
            held_since: held.held_since,
            used: held.used,
            ..grant(asked, held.token.clone(), held.created, now).record
        },
        ..grant(asked, held.token.clone(), held.created, now)
    }
}

#[cfg(test)]
mod tests;
