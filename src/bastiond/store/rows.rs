//! What a row is on disk: JSON, in which fields that a newer daemon adds are ignored by an older one.

use serde::{Deserialize, Serialize};

use crate::bastiond::principal::Principal;
use crate::bastiond::registry::{Record, Token};
use crate::bastiond::users::Owner;
use crate::name::{Tag, User};
use crate::protocol::audit::Used;

#[derive(Serialize, Deserialize)]
struct Stored {
    token: String,
    host: String,
    version: String,
    created: u64,
    held_since: u64,
    last_seen: u64,
    #[serde(default)]
    used: Used,
}

#[derive(Serialize, Deserialize)]
struct StoredOwner {
    principal: String,
    since: u64,
}

pub(super) fn stored(record: &Record) -> Vec<u8> {
    let stored = Stored {
        token: record.token.reveal().to_owned(),
        host: record.host.clone(),
        version: record.version.clone(),
        created: record.created,
        held_since: record.held_since,
        last_seen: record.last_seen,
        used: record.used,
    };
    serde_json::to_vec(&stored).unwrap_or_default()
}

pub(super) fn record(tag: &str, stored: &[u8]) -> Result<Record, String> {
    let tag = Tag::parse(tag).map_err(|why| why.to_string())?;
    let stored: Stored = serde_json::from_slice(stored).map_err(|why| why.to_string())?;
    Ok(Record {
        tag,
        token: Token::new(stored.token),
        host: stored.host,
        version: stored.version,
        created: stored.created,
        held_since: stored.held_since,
        last_seen: stored.last_seen,
        used: stored.used,
    })
}

pub(super) fn stored_owner(owner: &Owner) -> Vec<u8> {
    let stored = StoredOwner {
        principal: owner.principal.as_str().to_owned(),
        since: owner.since,
    };
    serde_json::to_vec(&stored).unwrap_or_default()
}

pub(super) fn owner(user: &str, stored: &[u8]) -> Result<Owner, String> {
    let stored: StoredOwner = serde_json::from_slice(stored).map_err(|why| why.to_string())?;
    Ok(Owner {
        user: User::parse(user).map_err(|why| why.to_string())?,
        principal: Principal::parse(&stored.principal)?,
        since: stored.since,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_other_versions() {
        let check = |tag: &str, json: &str, fine: bool| assert_eq!(record(tag, json.as_bytes()).is_ok(), fine, "{tag} {json}");
        let whole = r#"{"token":"t","host":"h","version":"v","created":1,"held_since":2,"last_seen":3,"later":[]}"#;
        check("alice", whole, false);
        check("alice:api", "{}", false);
        check("alice:api", "", false);
        check("alice:api", whole, true);
    }
}
