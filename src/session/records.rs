//! What the laptop must remember between two commands: session tokens, running `up`s, and the process groups they started.
//!
//! redb locks its file, so it is opened for moments only, and again and again for a while when another process has it. `file`
//! says what becomes of one that cannot be used.

mod file;
pub(crate) mod sessions;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redb::{ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::home::Home;
use super::system::Process;
use crate::error::{Error, Exit, Result};
use crate::name::Tag;
use crate::rt;
use file::Failure;

/// Tokens by bastion and tag.
const TOKENS: TableDefinition<(&str, &str), &str> = TableDefinition::new("tokens");
/// Running `up`s by process number, as JSON.
const UPS: TableDefinition<u32, &str> = TableDefinition::new("ups");
/// Process groups by number, as JSON.
const GROUPS: TableDefinition<u32, &str> = TableDefinition::new("groups");

/// How long another process may hold the file: a transaction takes milliseconds, a slow disk's sync a second.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries; a transaction's time.
const AGAIN: Duration = Duration::from_millis(5);
/// How many damaged files in a row are set aside; the second one means that the disk spoils what is written.
const MAX_LOST: u32 = 2;

/// A running `up`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Up {
    pub(crate) process: Process,
    /// Its control socket.
    pub(crate) socket: PathBuf,
    /// What it serves, as `user:service`.
    pub(crate) tags: Vec<String>,
    /// The address of its local bastion's edge.
    #[serde(default)]
    pub(crate) listen: Option<SocketAddr>,
    /// Its `tunnel.staging_url`.
    #[serde(default)]
    pub(crate) staging: Option<String>,
    /// Seconds since the Unix epoch.
    #[serde(default)]
    pub(crate) since: u64,
}

/// A process group that an `up` started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Group {
    /// Its first process, whose number is the group's.
    pub(crate) leader: Process,
    /// The `up`.
    pub(crate) owner: Process,
    pub(crate) service: String,
    /// The value of its mark, which everything in the group was started with.
    pub(crate) mark: String,
}

/// An `up`, and a tag in its entry that it does not serve any more.
pub(crate) type Gone = (Process, String);

/// The file. It is open only while a method runs.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    file: PathBuf,
    /// What this process learned itself, by bastion and tag: a running `up` keeps its sessions when the file is lost.
    tokens: Arc<Mutex<BTreeMap<(String, String), String>>>,
    /// Sentences about what was lost, until somebody tells them.
    warnings: Arc<Mutex<Vec<String>>>,
}

type Work<T> = dyn Fn(&WriteTransaction) -> Result<T, redb::Error> + Send + Sync;

impl Records {
    pub(crate) fn of(home: &Home) -> Records {
        Records::in_file(home.records())
    }

    fn in_file(file: PathBuf) -> Records {
        Records {
            file,
            tokens: Arc::default(),
            warnings: Arc::default(),
        }
    }

    /// What was lost since this was asked last, as sentences for a person.
    pub(crate) fn warnings(&self) -> Vec<String> {
        std::mem::take(&mut *self.warnings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The token of a session, if this laptop had it.
    pub(crate) async fn token(&self, bastion: &str, tag: &Tag) -> Result<Option<String>> {
        let key = (bastion.to_owned(), tag.to_string());
        let known = self.tokens.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        let stored = self.with(Box::new(move |transaction| {
            let table = transaction.open_table(TOKENS)?;
            let token = table
                .get((key.0.as_str(), key.1.as_str()))?
                .map(|value| value.value().to_owned());
            Ok(token)
        }));
        Ok(stored.await?.or(known))
    }

    /// Remembers a session's token, or forgets it.
    pub(crate) async fn set_token(&self, bastion: &str, tag: &Tag, token: Option<String>) -> Result<()> {
        let key = (bastion.to_owned(), tag.to_string());
        self.learn(key.clone(), token.clone());
        self.with(Box::new(move |transaction| {
            let mut table = transaction.open_table(TOKENS)?;
            let key = (key.0.as_str(), key.1.as_str());
            match &token {
                Some(token) => table.insert(key, token.as_str())?,
                None => table.remove(key)?,
            };
            Ok(())
        }))
        .await
    }

    fn learn(&self, key: (String, String), token: Option<String>) {
        let mut known = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        match token {
            Some(token) => known.insert(key, token),
            None => known.remove(&key),
        };
    }

    /// Enters an `up`, unless another entry has one of its tags: then that one and the tag. What `gone` names counts no more,
    /// and is taken out of its entry.
    pub(crate) async fn enter(&self, up: &Up, gone: &[Gone]) -> Result<Option<(Up, String)>> {
        let (up, gone) = (up.clone(), gone.to_vec());
        self.with(Box::new(move |transaction| {
            let mut table = transaction.open_table(UPS)?;
            let mut others: Vec<Up> = Vec::new();
            for entry in table.iter()? {
                others.extend(serde_json::from_str::<Up>(entry?.1.value()).ok());
            }
            others.retain(|other| other.process != up.process);
            for other in &mut others {
                let before = other.tags.len();
                let process = other.process.clone();
                other.tags.retain(|tag| !gone.contains(&(process.clone(), tag.clone())));
                if let Some(tag) = other.tags.iter().find(|tag| up.tags.contains(tag)) {
                    return Ok(Some((other.clone(), tag.clone())));
                }
                if other.tags.len() != before {
                    table.insert(process.pid, json(other).as_str())?;
                }
            }
            table.insert(up.process.pid, json(&up).as_str())?;
            Ok(None)
        }))
        .await
    }

    /// Enters an `up` that runs already.
    pub(crate) async fn adopt(&self, up: &Up) -> Result<()> {
        self.insert(UPS, up.process.pid, json(up)).await
    }

    pub(crate) async fn remove_up(&self, pid: u32) -> Result<()> {
        self.remove(UPS, pid).await
    }

    pub(crate) async fn ups(&self) -> Result<Vec<Up>> {
        self.all(UPS).await
    }

    pub(crate) async fn add_group(&self, group: &Group) -> Result<()> {
        self.insert(GROUPS, group.leader.pid, json(group)).await
    }

    pub(crate) async fn remove_group(&self, group: u32) -> Result<()> {
        self.remove(GROUPS, group).await
    }

    pub(crate) async fn groups(&self) -> Result<Vec<Group>> {
        self.all(GROUPS).await
    }

    async fn insert(&self, table: TableDefinition<'static, u32, &'static str>, key: u32, value: String) -> Result<()> {
        self.with(Box::new(move |transaction| {
            transaction.open_table(table)?.insert(key, value.as_str())?;
            Ok(())
        }))
        .await
    }

    async fn remove(&self, table: TableDefinition<'static, u32, &'static str>, key: u32) -> Result<()> {
        self.with(Box::new(move |transaction| {
            transaction.open_table(table)?.remove(key)?;
            Ok(())
        }))
        .await
    }

    /// Everything in a table that this version understands.
    async fn all<T>(&self, table: TableDefinition<'static, u32, &'static str>) -> Result<Vec<T>>
    where
        T: for<'de> Deserialize<'de> + Send + 'static,
    {
        self.with(Box::new(move |transaction| {
            let table = transaction.open_table(table)?;
            let mut found = Vec::new();
            for entry in table.iter()? {
                let (_, value) = entry?;
                found.extend(serde_json::from_str(value.value()).ok());
            }
            Ok(found)
        }))
        .await
    }

    /// One durable transaction, tried until no other process has the file.
    async fn with<T: Send + 'static>(&self, work: Box<Work<T>>) -> Result<T> {
        let begun = rt::Instant::now();
        let work = Arc::new(work);
        let mut lost = 0;
        loop {
            let (path, again) = (self.file.clone(), work.clone());
            let tried = rt::unblock(move || file::transaction(&path, &**again)).await;
            match tried {
                Ok(value) => return Ok(value),
                Err(Failure::Taken) if begun.elapsed() < PATIENCE => rt::sleep(AGAIN).await,
                Err(Failure::Damaged(why, inode)) if lost < MAX_LOST && begun.elapsed() < PATIENCE => {
                    match self.set_aside(inode).await? {
                        Some(aside) => {
                            lost += 1;
                            self.warn(lost_records(&self.file, &aside, &why));
                        }
                        None => rt::sleep(AGAIN).await,
                    }
                }
                Err(failure) => return Err(self.failure(failure)),
            }
        }
    }

    async fn set_aside(&self, inode: u64) -> Result<Option<PathBuf>> {
        let path = self.file.clone();
        let aside = rt::unblock(move || file::set_aside(&path, inode)).await;
        aside.map_err(|why| file::system(&self.file, &why))
    }

    fn warn(&self, warning: String) {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).push(warning);
    }

    fn failure(&self, failure: Failure) -> Error {
        let what = format!("{} cannot be used", self.file.display());
        match failure {
            Failure::Taken => Error::new(Exit::Conflict, what)
                .because(format_args!("another process has had it open for {} s", PATIENCE.as_secs()))
                .hint("see who is up: ephemwork status"),
            Failure::Damaged(why, _) => Error::new(Exit::Config, what)
                .because(format_args!("it is damaged again and again: {why}"))
                .hint("another place for ephemwork's state: export EPHEMWORK_HOME=/some/directory"),
            Failure::System(why) => file::system(&self.file, &why),
        }
    }
}

fn lost_records(file: &std::path::Path, aside: &std::path::Path, why: &str) -> String {
    format!(
        "{} is damaged ({why}); it is kept as {}, and a new one is begun. What runs of a killed `up` is found by its mark all the same; \
         a tag that a killed `up` held is free when its lease ends, or with: ephemwork up SERVICE --takeover",
        file.display(),
        aside.display()
    )
}

fn json(value: &impl Serialize) -> String {
    // These types hold nothing that JSON cannot say.
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn up(process: Process, tags: &[&str]) -> Up {
        Up {
            process,
            socket: PathBuf::new(),
            tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
            listen: None,
            staging: None,
            since: 0,
        }
    }

    #[test]
    fn many_at_once_and_none_is_lost() {
        let directory = tempfile::tempdir().unwrap();
        let records = Records::in_file(directory.path().join("laptop.redb"));
        rt::block_on(async {
            let tasks: Vec<_> = (1..20u32)
                .map(|pid| {
                    let records = records.clone();
                    rt::spawn(async move {
                        let process = Process {
                            pid,
                            birth: "today".into(),
                        };
                        let up = up(process, &[&format!("alice:s{pid}")]);
                        records.enter(&up, &[]).await
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
            assert_eq!(records.ups().await.unwrap().len(), 19);
            records.remove_up(7).await.unwrap();
            assert_eq!(records.ups().await.unwrap().len(), 18);
            let process = Process {
                pid: 99,
                birth: "today".into(),
            };
            let late = up(process, &["alice:s8", "alice:s99"]);
            let (holder, tag) = records.enter(&late, &[]).await.unwrap().expect("s8 is taken");
            assert_eq!((holder.process.pid, tag.as_str()), (8, "alice:s8"));
            assert_eq!(records.enter(&late, &[(holder.process, tag)]).await.unwrap(), None);
            assert_eq!(
                records
                    .ups()
                    .await
                    .unwrap()
                    .iter()
                    .filter(|up| up.tags.contains(&late.tags[0]))
                    .count(),
                1
            );
            let tag = Tag::parse("alice:api").unwrap();
            records.set_token("b", &tag, Some("secret".into())).await.unwrap();
            assert_eq!(records.token("b", &tag).await.unwrap().as_deref(), Some("secret"));
            assert_eq!(records.token("c", &tag).await.unwrap(), None);
        })
        .unwrap();
    }
}
