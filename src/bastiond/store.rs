//! Sessions, and whose names are, on disk: two redb tables, one durable transaction a change.
//!
//! A record's form on disk is [`Stored`]; fields that a newer daemon adds are ignored by an older one. A file that is damaged
//! is set aside, never deleted and never trusted: sessions come back by themselves when their laptops claim again.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use redb::backends::FileBackend;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition};
use serde::{Deserialize, Serialize};

use crate::bastiond::principal::Principal;
use crate::bastiond::registry::{Record, Token};
use crate::bastiond::users::Owner;
use crate::error::{Error, Exit, Result};
use crate::name::{Tag, User};
use crate::rt;

/// Tag to [`Stored`] as JSON.
const SESSIONS: TableDefinition<&str, &[u8]> = TableDefinition::new("sessions");

/// User to [`StoredOwner`] as JSON. Files of older daemons have no such table.
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
}

/// The open file. After a failed write it is opened anew for the next one, so that a disk that was full for a while
/// does not end the daemon's memory for good.
#[derive(Clone)]
pub(crate) struct Store {
    file: PathBuf,
    database: Arc<Mutex<Option<Database>>>,
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

#[derive(Serialize, Deserialize)]
struct Stored {
    token: String,
    host: String,
    version: String,
    created: u64,
    held_since: u64,
    last_seen: u64,
}

#[derive(Serialize, Deserialize)]
struct StoredOwner {
    principal: String,
    since: u64,
}

impl Store {
    /// Opens or makes the file and reads what it holds. `now` names a damaged file that has to make room.
    ///
    /// # Errors
    /// Another process has it open, or the system refuses the file.
    pub(crate) fn open(file: &Path, now: u64) -> Result<Opened> {
        let mut warnings = Vec::new();
        let (database, kept) = match read(file, &mut warnings) {
            Ok(found) => found,
            Err(Failure::Damaged(why)) => {
                let aside = set_aside(file, now).map_err(|why| unusable(file, why))?;
                warnings.push(format!(
                    "the session store {} is damaged ({why}); it is kept as {} and a new one is begun. Laptops that are running claim their sessions again",
                    file.display(),
                    aside.display()
                ));
                read(file, &mut warnings).map_err(|failure| failure.into_error(file))?
            }
            Err(failure) => return Err(failure.into_error(file)),
        };
        let store = Store {
            file: file.to_owned(),
            database: Arc::new(Mutex::new(Some(database))),
        };
        Ok(Opened {
            store,
            records: kept.records,
            owners: kept.owners,
            warnings,
        })
    }

    /// Carries out all changes or none. When this answers `Ok` they survive a power cut.
    ///
    /// # Errors
    /// What the disk said.
    pub(crate) async fn commit(&self, changes: Vec<Change>) -> Result<(), String> {
        let store = self.clone();
        rt::unblock(move || store.commit_now(&changes)).await
    }

    /// Closes the file, so that the next open need not repair it.
    pub(crate) async fn close(&self) {
        let store = self.clone();
        rt::unblock(move || drop(store.database.lock().unwrap_or_else(PoisonError::into_inner).take())).await;
    }

    fn commit_now(&self, changes: &[Change]) -> Result<(), String> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut slot = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let database = match slot.take() {
            Some(database) => database,
            None => open_file(&self.file)
                .map_err(|why| DatabaseError::Storage(StorageError::Io(why)))
                .and_then(create)
                .map_err(|why| why.to_string())?,
        };
        write(&database, changes).map_err(|why| why.to_string())?;
        *slot = Some(database);
        Ok(())
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

fn read(file: &Path, warnings: &mut Vec<String>) -> Result<(Database, Kept), Failure> {
    let opened = open_file(file).map_err(|why| Failure::System(why.to_string()))?;
    let database = create(opened).map_err(redb::Error::from)?;
    let kept = Kept {
        records: rows(&database, SESSIONS, "session", record, warnings)?,
        owners: rows(&database, USERS, "owner of a name", owner, warnings)?,
    };
    Ok((database, kept))
}

fn open_file(file: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.open(file)
}

fn create(file: File) -> Result<Database, DatabaseError> {
    let mut builder = Database::builder();
    // A plain open may panic on a file that was altered; the check reads all of it, which is a few pages.
    builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
    builder.create_with_backend(FileBackend::new(file)?)
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

fn write(database: &Database, changes: &[Change]) -> Result<(), redb::Error> {
    // redb's default durability is `Immediate`: `commit` returns after fsync.
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(SESSIONS)?;
        let mut users = transaction.open_table(USERS)?;
        for change in changes {
            match change {
                Change::Put(record) => {
                    table.insert(record.tag.to_string().as_str(), stored(record).as_slice())?;
                }
                Change::Forget(tag) => {
                    table.remove(tag.to_string().as_str())?;
                }
                Change::Own(owner) => {
                    users.insert(owner.user.as_str(), stored_owner(owner).as_slice())?;
                }
                Change::Free(user) => {
                    users.remove(user.as_str())?;
                }
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

/// Moves the file out of the way, under a name that no other has.
fn set_aside(file: &Path, now: u64) -> io::Result<PathBuf> {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".damaged-{now}"));
    let aside = PathBuf::from(name);
    std::fs::rename(file, &aside)?;
    Ok(aside)
}

fn stored(record: &Record) -> Vec<u8> {
    let stored = Stored {
        token: record.token.reveal().to_owned(),
        host: record.host.clone(),
        version: record.version.clone(),
        created: record.created,
        held_since: record.held_since,
        last_seen: record.last_seen,
    };
    serde_json::to_vec(&stored).unwrap_or_default()
}

fn record(tag: &str, stored: &[u8]) -> Result<Record, String> {
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
    })
}

fn stored_owner(owner: &Owner) -> Vec<u8> {
    let stored = StoredOwner {
        principal: owner.principal.as_str().to_owned(),
        since: owner.since,
    };
    serde_json::to_vec(&stored).unwrap_or_default()
}

fn owner(user: &str, stored: &[u8]) -> Result<Owner, String> {
    let stored: StoredOwner = serde_json::from_slice(stored).map_err(|why| why.to_string())?;
    Ok(Owner {
        user: User::parse(user).map_err(|why| why.to_string())?,
        principal: Principal::parse(&stored.principal)?,
        since: stored.since,
    })
}

#[cfg(test)]
mod changes;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn sample(tag: &str, last_seen: u64) -> Record {
        Record {
            tag: Tag::parse(tag).unwrap(),
            token: Token::new("0123456789abcdef"),
            host: "laptop".to_owned(),
            version: "0.1.0".to_owned(),
            created: 1,
            held_since: 2,
            last_seen,
        }
    }

    fn open(file: &Path) -> Opened {
        Store::open(file, 77).unwrap_or_else(|why| panic!("{why}"))
    }

    #[test]
    fn what_was_committed_is_there_after_an_abrupt_end() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("sessions.redb");
        let first = open(&file);
        assert_eq!(first.records, []);
        let put = |tag, seen| Change::Put(sample(tag, seen));
        first.store.commit_now(&[put("alice:api", 1), put("bob:web", 1)]).unwrap();
        first.store.commit_now(&[put("alice:api", 9)]).unwrap();
        first.store.commit_now(&[Change::Forget(sample("bob:web", 0).tag)]).unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        // The image as `kill -9` leaves it: nothing is closed, nothing is flushed any more.
        let image = directory.path().join("image.redb");
        std::fs::copy(&file, &image).unwrap();
        let second = open(&image);
        assert_eq!(second.warnings, Vec::<String>::new());
        assert_eq!(second.records, [sample("alice:api", 9)]);
    }

    #[test]
    fn names_and_files_of_older_daemons() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("sessions.redb");
        // As a daemon wrote it that knew of sessions only.
        let old = create(open_file(&file).unwrap()).unwrap();
        let transaction = old.begin_write().unwrap();
        let record = sample("alice:api", 1);
        transaction
            .open_table(SESSIONS)
            .unwrap()
            .insert("alice:api", stored(&record).as_slice())
            .unwrap();
        transaction.commit().unwrap();
        drop(old);
        let first = open(&file);
        assert_eq!(
            (first.records, first.owners, first.warnings),
            (vec![record], Vec::new(), Vec::new())
        );
        let own = |user: &str| Owner {
            user: User::parse(user).unwrap(),
            principal: Principal::parse("arn:aws:iam::123456789012:user/alice").unwrap(),
            since: 5,
        };
        let both = [Change::Own(own("alice")), Change::Own(own("bob"))];
        first.store.commit_now(&both).unwrap();
        first.store.commit_now(&[Change::Free(own("bob").user)]).unwrap();
        drop(first.store);
        assert_eq!(open(&file).owners, [own("alice")]);
    }

    #[test]
    fn two_daemons_cannot_share_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("sessions.redb");
        let first = open(&file);
        let second = Store::open(&file, 0).err().map(|error| error.exit);
        assert_eq!(second, Some(Exit::Conflict));
        drop(first);
        open(&file);
    }

    #[test]
    fn a_damaged_file_is_set_aside() {
        let check = |name: &str, damage: &dyn Fn(&mut Vec<u8>)| {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("sessions.redb");
            let first = open(&file);
            first.store.commit_now(&[Change::Put(sample("alice:api", 1))]).unwrap();
            drop(first);
            let mut bytes = std::fs::read(&file).unwrap();
            damage(&mut bytes);
            std::fs::write(&file, &bytes).unwrap();
            let second = open(&file);
            assert_eq!(second.records, [], "{name}");
            assert_eq!(second.warnings.len(), 1, "{name}: {:?}", second.warnings);
            let aside = directory.path().join("sessions.redb.damaged-77");
            assert_eq!(std::fs::read(aside).unwrap(), bytes, "{name}");
            second.store.commit_now(&[Change::Put(sample("bob:web", 2))]).unwrap();
            drop(second);
            assert_eq!(open(&file).records, [sample("bob:web", 2)], "{name}");
        };
        check("another kind of file", &|bytes| *bytes = vec![b'x'; 5000]);
        check("a cut file", &|bytes| bytes.truncate(bytes.len() / 3));
        check("zeros behind the head", &|bytes| bytes[512..].fill(0));
        check("a few flipped bytes", &|bytes| {
            for byte in bytes[4096..].iter_mut().step_by(97) {
                *byte ^= 0x55;
            }
        });
    }

    #[test]
    fn no_damage_ends_the_process() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("sessions.redb");
        let first = open(&file);
        for number in 0..40 {
            let record = sample(&format!("alice:s{number}"), number);
            first.store.commit_now(&[Change::Put(record)]).unwrap();
        }
        drop(first);
        let whole = std::fs::read(&file).unwrap();
        // A fixed walk over the file stands for chance: each round spoils one other place in another way.
        for round in 0..60_usize {
            let mut bytes = whole.clone();
            let place = (round * 7919) % 40_000 % bytes.len();
            bytes[place] ^= u8::try_from(round % 255 + 1).unwrap();
            std::fs::write(&file, &bytes).unwrap();
            // Opening works, with or without what was there; it must not panic.
            drop(open(&file));
        }
    }

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
