//! Sessions, whose names are, and the audit, on disk: three redb tables, one durable transaction a change and its entry.
//!
//! A file that is damaged is set aside, never deleted and never trusted: sessions come back by themselves when their laptops claim
//! again.

mod audit;
#[cfg(test)]
mod crash;
mod rows;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use redb::backends::FileBackend;
use redb::{CompactionError, Database, DatabaseError, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};

use audit::{AUDIT, TRIM, Totals};
pub(crate) use audit::{Keep, Query};
use rows::{owner, record, stored, stored_owner};

use crate::bastiond::registry::Record;
use crate::bastiond::users::Owner;
use crate::error::{Error, Exit, Result};
use crate::name::{Tag, User};
use crate::protocol::audit::{AuditPage, Entry};
use crate::rt;

/// Tag to a record as JSON.
const SESSIONS: TableDefinition<&str, &[u8]> = TableDefinition::new("sessions");

/// User to an owner as JSON. Files of older daemons have no such table.
const USERS: TableDefinition<&str, &[u8]> = TableDefinition::new("users");

/// Pages kept in memory, in bytes. The largest registry is a few megabytes on disk and is read once.
const CACHE: usize = 1024 * 1024;

/// One step of a transaction.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// A session as it is now.
    Put(Record),
    /// A session that is no more.
    Forget(Tag),
    /// A name that belongs to somebody from now on.
    Own(Owner),
    /// A name that is nobody's any more.
    Free(User),
    /// What the audit says of it; its number is given here.
    Note(Entry),
}

/// Entries that one transaction of [`Store::trim`] removes: some milliseconds' work, for which a claim may wait.
const TRIM_AT_ONCE: usize = 512;

/// The smallest file that is worth compacting, in bytes.
const SMALL: u64 = 4 * 1024 * 1024;

/// The open file. After a failed write it is opened anew for the next one, so that a disk that was full for a while
/// does not end the daemon's memory for good.
#[derive(Clone)]
pub(crate) struct Store {
    file: PathBuf,
    keep: Keep,
    open: Arc<Mutex<Option<Open>>>,
}

struct Open {
    database: Database,
    audit: Totals,
}

/// What [`Store::open`] found.
pub(crate) struct Opened {
    pub store: Store,
    /// In the order of their tags.
    pub records: Vec<Record>,
    /// In the order of their names.
    pub owners: Vec<Owner>,
    /// Sentences about what was lost.
    pub warnings: Vec<String>,
}

impl Store {
    /// Opens or makes the file and reads what it holds. `now` names a damaged file that has to make room.
    ///
    /// # Errors
    /// Another process has it open, or the system refuses the file.
    pub(crate) fn open(file: &Path, keep: Keep, now: u64) -> Result<Opened> {
        let mut warnings = Vec::new();
        let (open, kept) = match file_backend(file).and_then(|backend| read(backend, &mut warnings)) {
            Ok(found) => found,
            Err(Failure::Damaged(why)) => {
                let aside = set_aside(file, now).map_err(|why| unusable(file, why))?;
                warnings.push(format!(
                    "the session store {} is damaged ({why}); it is kept as {} and a new one is begun. Laptops that are running claim their sessions again",
                    file.display(),
                    aside.display()
                ));
                let again = file_backend(file).and_then(|backend| read(backend, &mut warnings));
                again.map_err(|failure| failure.into_error(file))?
            }
            Err(failure) => return Err(failure.into_error(file)),
        };
        let store = Store {
            file: file.to_owned(),
            keep,
            open: Arc::new(Mutex::new(Some(open))),
        };
        if let Err(why) = store.compact_now() {
            warnings.push(format!("the session store {} is not made smaller: {why}", file.display()));
        }
        Ok(Opened {
            store,
            records: kept.records,
            owners: kept.owners,
            warnings,
        })
    }

    /// Carries out all changes or none. When this answers `Ok`, with the entries as they are kept, all survive a power cut. `now` in
    /// seconds since the epoch.
    ///
    /// # Errors
    /// What the disk said.
    pub(crate) async fn commit(&self, changes: Vec<Change>, now: u64) -> Result<Vec<Entry>, String> {
        let store = self.clone();
        rt::unblock(move || store.commit_now(changes, now)).await
    }

    /// One page of the audit.
    ///
    /// # Errors
    /// What the disk said.
    pub(crate) async fn audit(&self, query: Query) -> Result<AuditPage, String> {
        let store = self.clone();
        let read = move || {
            let transaction = {
                let slot = store.open.lock().unwrap_or_else(PoisonError::into_inner);
                let open = slot
                    .as_ref()
                    .ok_or("the store could not be written and is to be opened again")?;
                open.database.begin_read().map_err(|why| why.to_string())?
            };
            audit::page(&transaction, &query).map_err(|why| why.to_string())
        };
        rt::unblock(read).await
    }

    /// Removes entries that are too old or too many, some of them; whether there are more.
    ///
    /// # Errors
    /// What the disk said.
    pub(crate) async fn trim(&self, now: u64) -> Result<bool, String> {
        let store = self.clone();
        let trim = move || {
            let keep = store.keep;
            store.with(|open| {
                if !open.audit.overdue(keep, now) {
                    return Ok(false);
                }
                let mut totals = open.audit;
                let transaction = open.database.begin_write()?;
                totals.trim(&mut transaction.open_table(AUDIT)?, keep, now, TRIM_AT_ONCE)?;
                transaction.commit()?;
                let fewer = totals != open.audit;
                open.audit = totals;
                Ok(fewer && totals.overdue(keep, now))
            })
        };
        rt::unblock(trim).await
    }

    /// Makes the file smaller when most of it is free.
    ///
    /// # Errors
    /// What the disk said.
    pub(crate) async fn compact(&self) -> Result<(), String> {
        let store = self.clone();
        rt::unblock(move || store.compact_now()).await
    }

    /// Closes the file, so that the next open need not repair it.
    pub(crate) async fn close(&self) {
        let store = self.clone();
        rt::unblock(move || drop(store.open.lock().unwrap_or_else(PoisonError::into_inner).take())).await;
    }

    fn commit_now(&self, changes: Vec<Change>, now: u64) -> Result<Vec<Entry>, String> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        self.with(|open| {
            let mut totals = open.audit;
            let entries = write(&open.database, changes, &mut totals, self.keep, now)?;
            open.audit = totals;
            Ok(entries)
        })
    }

    fn compact_now(&self) -> Result<(), String> {
        let Ok(length) = std::fs::metadata(&self.file).map(|about| about.len()) else {
            return Ok(());
        };
        if length < SMALL {
            return Ok(());
        }
        self.with(|open| {
            let transaction = open.database.begin_write()?;
            let stats = transaction.stats()?;
            transaction.abort()?;
            let used = stats.allocated_pages().saturating_mul(stats.page_size() as u64);
            if used > length / 2 {
                return Ok(());
            }
            match open.database.compact() {
                Ok(_) => Ok(()),
                // Somebody reads the audit; the next time will do.
                Err(CompactionError::TransactionInProgress) => Ok(()),
                Err(CompactionError::Storage(why)) => Err(why.into()),
                // There are no savepoints.
                Err(_) => Ok(()),
            }
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Open) -> Result<T, redb::Error>) -> Result<T, String> {
        let mut slot = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut open = match slot.take() {
            Some(open) => open,
            None => open_again(&self.file).map_err(|why| why.to_string())?,
        };
        let done = work(&mut open).map_err(|why| why.to_string())?;
        *slot = Some(open);
        Ok(done)
    }
}

/// Why a file cannot be used.
enum Failure {
    /// Its content is not what redb or this program wrote.
    Damaged(String),
    /// Another process has it open.
    Taken,
    /// The system says no.
    System(String),
}

impl Failure {
    fn into_error(self, file: &Path) -> Error {
        match self {
            Failure::Damaged(why) | Failure::System(why) => unusable(file, why),
            Failure::Taken => Error::new(
                Exit::Conflict,
                format!("another process has the session store {} open", file.display()),
            )
            .hint("end it, or give this daemon another --state"),
        }
    }
}

impl From<redb::Error> for Failure {
    fn from(error: redb::Error) -> Failure {
        match error {
            redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => Failure::Taken,
            redb::Error::Io(why) if !matches!(why.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) => {
                Failure::System(why.to_string())
            }
            other => Failure::Damaged(other.to_string()),
        }
    }
}

fn unusable(file: &Path, why: impl std::fmt::Display) -> Error {
    Error::new(Exit::Config, format!("the session store {} cannot be used", file.display()))
        .because(why)
        .hint("see that --state names a directory of this user on a disk with room")
}

struct Kept {
    records: Vec<Record>,
    owners: Vec<Owner>,
}

fn read(backend: impl StorageBackend, warnings: &mut Vec<String>) -> Result<(Open, Kept), Failure> {
    let database = create(backend).map_err(redb::Error::from)?;
    let kept = Kept {
        records: rows(&database, SESSIONS, "session", record, warnings)?,
        owners: rows(&database, USERS, "owner of a name", owner, warnings)?,
    };
    let audit = Totals::of(&database)?;
    Ok((Open { database, audit }, kept))
}

fn open_again(file: &Path) -> Result<Open, redb::Error> {
    let file = open_file(file)?;
    let database = create(FileBackend::new(file)?)?;
    let audit = Totals::of(&database)?;
    Ok(Open { database, audit })
}

fn file_backend(file: &Path) -> Result<FileBackend, Failure> {
    let file = open_file(file).map_err(|why| Failure::System(why.to_string()))?;
    FileBackend::new(file).map_err(|why| redb::Error::from(why).into())
}

fn open_file(file: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.open(file)
}

fn create(backend: impl StorageBackend) -> Result<Database, DatabaseError> {
    let mut builder = Database::builder();
    // A plain open may panic on a file that was altered; the check reads all of it, some megabytes at most.
    builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
    builder.create_with_backend(backend)
}

fn rows<T>(
    database: &Database,
    table: TableDefinition<&str, &[u8]>,
    what: &str,
    read: impl Fn(&str, &[u8]) -> Result<T, String>,
    warnings: &mut Vec<String>,
) -> Result<Vec<T>, redb::Error> {
    let transaction = database.begin_read()?;
    let table = match transaction.open_table(table) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(why) => return Err(why.into()),
    };
    let mut found = Vec::new();
    for row in table.iter()? {
        let (key, stored) = row?;
        match read(key.value(), stored.value()) {
            Ok(one) => found.push(one),
            Err(why) => warnings.push(format!("a stored {what} is left out: {:?}: {why}", key.value())),
        }
    }
    Ok(found)
}

fn write(
    database: &Database,
    changes: Vec<Change>,
    totals: &mut Totals,
    keep: Keep,
    now: u64,
) -> Result<Vec<Entry>, redb::Error> {
    // redb's default durability is `Immediate`: `commit` returns after fsync.
    let transaction = database.begin_write()?;
    let mut entries = Vec::new();
    {
        let mut table = transaction.open_table(SESSIONS)?;
        let mut users = transaction.open_table(USERS)?;
        let mut audit = transaction.open_table(AUDIT)?;
        for change in changes {
            match change {
                Change::Put(record) => {
                    table.insert(record.tag.to_string().as_str(), stored(&record).as_slice())?;
                }
                Change::Forget(tag) => {
                    table.remove(tag.to_string().as_str())?;
                }
                Change::Own(owner) => {
                    users.insert(owner.user.as_str(), stored_owner(&owner).as_slice())?;
                }
                Change::Free(user) => {
                    users.remove(user.as_str())?;
                }
                Change::Note(mut entry) => {
                    totals.append(&mut audit, &mut entry)?;
                    entries.push(entry);
                }
            }
        }
        totals.trim(&mut audit, keep, now, entries.len() + TRIM)?;
    }
    transaction.commit()?;
    Ok(entries)
}

/// Moves the file out of the way, under a name that no other has.
fn set_aside(file: &Path, now: u64) -> io::Result<PathBuf> {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".damaged-{now}"));
    let aside = PathBuf::from(name);
    std::fs::rename(file, &aside)?;
    Ok(aside)
}

#[cfg(test)]
mod changes;

#[cfg(test)]
mod tests;
