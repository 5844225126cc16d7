//! Whose the user names are, where callers of AWS log in: the first who used a name has it until an admin frees it. Pure.

use std::collections::BTreeMap;

use crate::bastiond::principal::Principal;
use crate::name::User;

/// The most names of one principal. Somebody with a name for each laptop has a few; more is a script, or a squatter.
pub(crate) const MAX_PER_PRINCIPAL: usize = 16;

/// The most names of one daemon, beyond any team.
pub(crate) const MAX_NAMES: usize = 10_000;

/// Who has a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub user: User,
    pub principal: Principal,
    /// Seconds since the epoch.
    pub since: u64,
}

/// All names that belong to somebody.
#[derive(Debug, Default)]
pub(crate) struct Users(BTreeMap<User, Owner>);

/// Why somebody may not have a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// It is another's.
    Taken(Owner),
    /// They have [`MAX_PER_PRINCIPAL`] already, or the daemon has [`MAX_NAMES`]; the number is the limit.
    TooMany(usize),
}

impl Users {
    pub(crate) fn restored(owners: Vec<Owner>) -> Users {
        Users(owners.into_iter().map(|owner| (owner.user.clone(), owner)).collect())
    }

    /// Decides whether `principal` may be `user`: `None` when they have the name, else the owner that they become once it is stored.
    pub(crate) fn enter(&self, user: &User, principal: &Principal, now: u64) -> Result<Option<Owner>, Denied> {
        match self.0.get(user) {
            Some(owner) if owner.principal == *principal => return Ok(None),
            Some(owner) => return Err(Denied::Taken(owner.clone())),
            None => {}
        }
        if self.0.len() >= MAX_NAMES {
            return Err(Denied::TooMany(MAX_NAMES));
        }
        if self.0.values().filter(|owner| owner.principal == *principal).count() >= MAX_PER_PRINCIPAL {
            return Err(Denied::TooMany(MAX_PER_PRINCIPAL));
        }
        Ok(Some(Owner {
            user: user.clone(),
            principal: principal.clone(),
            since: now,
        }))
    }

    /// It is stored.
    pub(crate) fn own(&mut self, owner: Owner) {
        self.0.insert(owner.user.clone(), owner);
    }

    /// The name is nobody's any more.
    pub(crate) fn free(&mut self, user: &User) {
        self.0.remove(user);
    }

    pub(crate) fn owner(&self, user: &User) -> Option<&Owner> {
        self.0.get(user)
    }

    /// In the order of the names.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Owner> {
        self.0.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> User {
        User::parse(name).unwrap()
    }

    fn principal(name: &str) -> Principal {
        Principal::parse(&format!("arn:aws:iam::123456789012:user/{name}")).unwrap()
    }

    fn enter(users: &mut Users, name: &str, by: &str) -> Result<bool, Denied> {
        let entered = users.enter(&user(name), &principal(by), 7)?;
        let new = entered.is_some();
        entered.into_iter().for_each(|owner| users.own(owner));
        Ok(new)
    }

    #[test]
    fn the_first_has_the_name() {
        let mut users = Users::default();
        assert_eq!(enter(&mut users, "alice", "alice"), Ok(true));
        let owner = users.owner(&user("alice")).unwrap().clone();
        assert_eq!(enter(&mut users, "alice", "mallory"), Err(Denied::Taken(owner.clone())));
        assert_eq!(enter(&mut users, "alice", "alice"), Ok(false));
        assert_eq!(enter(&mut users, "alice2", "alice"), Ok(true));
        let mut users = Users::restored(users.all().cloned().collect());
        assert_eq!(enter(&mut users, "alice", "mallory"), Err(Denied::Taken(owner)));
        users.free(&user("alice"));
        assert_eq!(enter(&mut users, "alice", "mallory"), Ok(true));
    }

    #[test]
    fn nobody_has_all_names() {
        let mut users = Users::default();
        for number in 0..MAX_PER_PRINCIPAL {
            assert_eq!(enter(&mut users, &format!("a{number}"), "alice"), Ok(true));
        }
        assert_eq!(enter(&mut users, "b", "alice"), Err(Denied::TooMany(MAX_PER_PRINCIPAL)));
        assert_eq!(enter(&mut users, "b", "bob"), Ok(true));
    }
}
