//! Who may log in, and whose the names are. [`Daemon::enter`] and [`Daemon::free`] change it, one at a time and durably, as
//! claims do.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::turn::uncut;
use super::{Daemon, Refused, lock};
use crate::bastiond::audit::Actor;
use crate::bastiond::authorize::Admitted;
use crate::bastiond::keys::Blob;
use crate::bastiond::lane::Lane;
use crate::bastiond::principal::Principal;
use crate::bastiond::registry::Releaser;
use crate::bastiond::store::Change;
use crate::bastiond::users::Denied;
use crate::name::{Tag, User};
use crate::protocol::audit::{Entry, Happened};
use crate::protocol::{Released, UserView, UsersView};

impl Daemon {
    /// Whether this key may log in as `user`, or a sentence about why not.
    pub(crate) async fn admit(&self, user: &User, key: &Blob) -> Result<Admitted, String> {
        let listed = lock(&self.authorized).clone();
        if listed.allows(key, user) {
            return Ok(Admitted::Listed);
        }
        self.sources.admit(user, key, self.clock).await
    }

    /// Gives the name to this caller if it is theirs, or nobody's yet. It is on disk before this answers.
    pub(crate) async fn enter(self: &Arc<Daemon>, user: &User, principal: &Principal, address: &str) -> Result<(), Refused> {
        let by = Actor {
            principal: Some(principal.to_string()),
            address: Some(address.to_owned()),
            ..Actor::default()
        };
        match self.enter_unless_refused(user, principal, by.clone()).await {
            Ok(()) => Ok(()),
            Err(refused) => Err(self.refused(user.as_str(), None, by, refused).await),
        }
    }

    async fn enter_unless_refused(self: &Arc<Daemon>, user: &User, principal: &Principal, by: Actor) -> Result<(), Refused> {
        let pattern = self.settings.access.eic.as_ref().and_then(|eic| eic.user.as_ref());
        if let Some(pattern) = pattern {
            // The ARN says the name; there is nothing to remember.
            let own = pattern.user(principal).map_err(|why| {
                Refused::new(403, format!("the bastion has no user name for {principal}"))
                    .because(why)
                    .hint("its admin sets the pattern of names (--user-from-arn)")
            })?;
            if own == *user {
                return Ok(());
            }
            return Err(Refused::new(403, format!("the user name {user} is not yours"))
                .because(format!("the bastion's pattern gives {principal} the name {own}"))
                .hint(format!("use it: user = \"{own}\" under [tunnel], or EPHEMWORK_USER={own}")));
        }
        let (daemon, user, principal) = (self.clone(), user.clone(), principal.clone());
        uncut(async move { daemon.enter_in_turn(&user, &principal, by).await }).await
    }

    async fn enter_in_turn(&self, user: &User, principal: &Principal, by: Actor) -> Result<(), Refused> {
        let _turn = self.turn.lock().await;
        let entered = lock(&self.users).enter(user, principal, self.now());
        let new = match entered {
            Ok(None) => return Ok(()),
            Ok(Some(new)) => new,
            Err(Denied::Taken(owner)) => {
                return Err(Refused::new(403, format!("the user name {user} belongs to {}", owner.principal))
                    .because(format!("you are {principal}, and a name belongs to whoever used it first"))
                    .hint(format!(
                        "take another name (user under [tunnel], or EPHEMWORK_USER), or ask an admin: ephemwork bastion users release {user}"
                    )));
            }
            Err(Denied::TooMany(limit)) => {
                return Err(Refused::new(
                    403,
                    format!("{limit} user names are taken already, which is as many as there may be"),
                )
                .because(format!("you are {principal}"))
                .hint("ask an admin to free one: ephemwork bastion users release NAME"));
            }
        };
        if self.used_by_others(user) {
            return Err(
                Refused::new(403, format!("the user name {user} belongs to a key of the bastion's own"))
                    .because(format!(
                        "you are {principal}, and somebody else logs in by that name with a key that the bastion lists"
                    ))
                    .hint("take another name (user under [tunnel], or EPHEMWORK_USER)"),
            );
        }
        let entry = self.entry_of_name(Happened::NameGiven, user.as_str(), by);
        self.commit(vec![Change::Own(new.clone()), Change::Note(entry)]).await?;
        tracing::info!(%user, caller = %principal, "the name is theirs from now on");
        lock(&self.users).own(new);
        Ok(())
    }

    /// Whether a name that belongs to no caller is used all the same: by a key of the file, or by a session or connection of
    /// somebody whom a command let in.
    fn used_by_others(&self, user: &User) -> bool {
        let listed = lock(&self.authorized).clone();
        let table = self.table();
        listed.knows(user)
            || table.lanes.values().any(|lane| lane.user == *user)
            || table.registry.sessions().any(|session| session.record.tag.user == *user)
    }

    /// Whether the name of a connection is still its caller's.
    pub(crate) fn owns(&self, lane: &Lane) -> bool {
        let from_arn = self.settings.access.eic.as_ref().is_some_and(|eic| eic.user.is_some());
        let owner = lock(&self.users).owner(&lane.user).map(|owner| owner.principal.clone());
        from_arn || lane.principal.is_none() || owner == lane.principal
    }

    /// Whether a caller may list and free names.
    pub(crate) fn is_admin(&self, lane: &Lane) -> bool {
        let (Some(eic), Some(principal)) = (&self.settings.access.eic, &lane.principal) else {
            return false;
        };
        eic.admins.iter().any(|pattern| pattern.matches(principal))
    }

    /// Every name that belongs to somebody, and what is done with it.
    pub(crate) fn users(&self) -> UsersView {
        let mut used: BTreeMap<User, (u64, u64)> = BTreeMap::new();
        {
            let table = self.table();
            for lane in table.lanes.values() {
                used.entry(lane.user.clone()).or_default().0 += 1;
            }
            for session in table.registry.sessions() {
                used.entry(session.record.tag.user.clone()).or_default().1 += 1;
            }
        }
        let owners = lock(&self.users);
        for owner in owners.all() {
            used.entry(owner.user.clone()).or_default();
        }
        let view = |(user, (connections, sessions)): (User, (u64, u64))| {
            let owner = owners.owner(&user);
            UserView {
                principal: owner.map(|owner| owner.principal.to_string()),
                since: owner.map(|owner| owner.since),
                user: user.to_string(),
                connections,
                sessions,
            }
        };
        UsersView {
            users: used.into_iter().map(view).collect(),
        }
    }

    /// Frees a name: its sessions are released and its connections ended, so that nothing of the old owner is left under it.
    pub(crate) async fn free(self: &Arc<Daemon>, user: &User, by: Actor) -> Result<Released, Refused> {
        let (daemon, user) = (self.clone(), user.clone());
        uncut(async move { daemon.free_in_turn(&user, by).await }).await
    }

    async fn free_in_turn(&self, user: &User, by: Actor) -> Result<Released, Refused> {
        let _turn = self.turn.lock().await;
        let Some(owner) = lock(&self.users).owner(user).cloned() else {
            return Ok(Released { released: false });
        };
        let tags: Vec<Tag> = {
            let table = self.table();
            let all = table.registry.sessions().map(|session| &session.record.tag);
            all.filter(|tag| tag.user == *user).cloned().collect()
        };
        let freed = Entry {
            from: Some(owner.principal.to_string()),
            ..self.entry_of_name(Happened::NameFreed, user.as_str(), by.clone())
        };
        let forget = tags.iter().flat_map(|tag| {
            let entry = self.end_of(Happened::Released, tag, by.clone());
            [Change::Forget(tag.clone()), Change::Note(entry)]
        });
        let changes = forget.chain([Change::Free(user.clone()), Change::Note(freed)]);
        self.commit(changes.collect()).await?;
        lock(&self.users).free(user);
        for tag in &tags {
            self.forget(tag, Releaser::Admin, None);
        }
        let lanes: Vec<Arc<Lane>> = {
            let table = self.table();
            table.lanes.values().filter(|lane| lane.user == *user).cloned().collect()
        };
        tracing::info!(%user, was = %owner.principal, sessions = tags.len(), connections = lanes.len(), "the name is free");
        for lane in lanes {
            lane.close(&format!("the bastion's admin freed the user name {user}"));
        }
        Ok(Released { released: true })
    }
}
