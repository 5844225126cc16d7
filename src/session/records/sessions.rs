//! Sessions of Session Manager that an `up` started, so that a later run ends what a killed one left at AWS.

use redb::{ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};

use super::{Records, json};
use crate::error::Result;
use crate::session::system::Process;

/// By the reason that StartSession was given, as JSON.
const SESSIONS: TableDefinition<&str, &str> = TableDefinition::new("aws-sessions");

/// A session that was started, or is about to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Started {
    /// Who started it.
    pub(crate) owner: Process,
    pub(crate) region: String,
    /// The AWS profile, when one was named.
    #[serde(default)]
    pub(crate) profile: Option<String>,
    /// The instance.
    pub(crate) target: String,
    /// What AWS lists it with: by this it is found when its id was never learned.
    pub(crate) reason: String,
    /// Its id, once AWS told it.
    #[serde(default)]
    pub(crate) session: Option<String>,
    /// Seconds since the Unix epoch.
    pub(crate) since: u64,
}

impl Records {
    /// Enters a session, or what is known of it now.
    pub(crate) async fn set_session(&self, started: &Started) -> Result<()> {
        let (key, value) = (started.reason.clone(), json(started));
        self.with(Box::new(move |transaction| {
            transaction.open_table(SESSIONS)?.insert(key.as_str(), value.as_str())?;
            Ok(())
        }))
        .await
    }

    /// Forgets a session that is over.
    pub(crate) async fn remove_session(&self, reason: &str) -> Result<()> {
        let key = reason.to_owned();
        self.with(Box::new(move |transaction| {
            transaction.open_table(SESSIONS)?.remove(key.as_str())?;
            Ok(())
        }))
        .await
    }

    /// All that are entered.
    pub(crate) async fn sessions(&self) -> Result<Vec<Started>> {
        self.with(Box::new(move |transaction| {
            let table = transaction.open_table(SESSIONS)?;
            let mut found = Vec::new();
            for entry in table.iter()? {
                found.extend(serde_json::from_str(entry?.1.value()).ok());
            }
            Ok(found)
        }))
        .await
    }
}
