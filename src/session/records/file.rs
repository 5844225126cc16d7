//! The file of the records: made whole, opened for one transaction, set aside when it is damaged.
//!
//! redb promises to report damage only where it checks a file as a whole, and may panic otherwise, which ends the process. So
//! every open checks all of it; it is some pages, and the check takes less than the disk's sync.

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use redb::backends::FileBackend;
use redb::{Database, DatabaseError};

use super::{GROUPS, TOKENS, UPS, Work};
use crate::error::{Error, Exit};

/// Pages kept in memory, in bytes: all of a usual file.
const CACHE: usize = 1024 * 1024;
/// The largest file that is taken for one of ours, in bytes: thousands of records. To check a larger one would take seconds.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// Why there was no transaction.
pub(super) enum Failure {
    /// Another process has it open.
    Taken,
    /// Its content is not what redb wrote; and which file it was, by its inode.
    Damaged(String, u64),
    /// The system says no.
    System(io::Error),
}

/// One durable transaction. Blocks.
pub(super) fn transaction<T>(path: &Path, work: &Work<T>) -> Result<T, Failure> {
    let file = match options().open(path) {
        Err(why) if why.kind() == ErrorKind::NotFound => {
            make(path)?;
            // Removed again in between: the next try makes it anew.
            options().open(path)
        }
        opened => opened,
    };
    let file = file.map_err(|why| match why.kind() {
        ErrorKind::NotFound => Failure::Taken,
        _ => Failure::System(why),
    })?;
    let found = file.metadata().map_err(Failure::System)?;
    if !found.is_file() {
        return Err(Failure::System(io::Error::new(
            ErrorKind::InvalidInput,
            "it is not a regular file",
        )));
    }
    if found.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600)).map_err(Failure::System)?;
    }
    let damaged = |why: String| Failure::Damaged(why, found.ino());
    if found.len() > MAX_FILE {
        return Err(damaged(format!("it is longer than {MAX_FILE} bytes")));
    }
    let attempt = || -> Result<Option<T>, redb::Error> {
        let database = database(file)?;
        // Locked only now: another may have set it aside since it was opened.
        if inode(path) != Some(found.ino()) {
            return Ok(None);
        }
        let transaction = database.begin_write()?;
        let value = work(&transaction)?;
        transaction.commit()?;
        Ok(Some(value))
    };
    match attempt() {
        Ok(Some(value)) => Ok(value),
        Ok(None) => Err(Failure::Taken),
        Err(redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch) => Err(Failure::Taken),
        Err(redb::Error::Io(why)) if !matches!(why.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) => {
            Err(Failure::System(why))
        }
        Err(why) => Err(damaged(why.to_string())),
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

fn database(file: File) -> Result<Database, DatabaseError> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
    builder.create_with_backend(FileBackend::new(file)?)
}

fn inode(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|found| found.ino())
}

/// Makes it under another name first, so that nobody ever opens half of one.
fn make(path: &Path) -> Result<(), Failure> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let mut name = path.as_os_str().to_owned();
    name.push(format!(
        ".{}-{}.new",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    ));
    let new = PathBuf::from(name);
    let made = write(&new).map_err(|why| match why {
        redb::Error::Io(why) => why,
        other => io::Error::other(other.to_string()),
    });
    // A link does not replace: of two that make one at once the first counts for both.
    let linked = made.and_then(|()| std::fs::hard_link(&new, path));
    std::fs::remove_file(&new).ok();
    match linked {
        Err(why) if why.kind() != ErrorKind::AlreadyExists => Err(Failure::System(why)),
        _ => Ok(()),
    }
}

fn write(new: &Path) -> Result<(), redb::Error> {
    let file = options().create(true).truncate(true).open(new)?;
    let transaction = database(file)?.begin_write()?;
    transaction.open_table(TOKENS)?;
    transaction.open_table(UPS)?;
    transaction.open_table(GROUPS)?;
    transaction.commit()?;
    Ok(())
}

/// Moves the damaged file out of the way; `None` when another process has it, or did so already. Blocks.
pub(super) fn set_aside(path: &Path, damaged: u64) -> io::Result<Option<PathBuf>> {
    let file = match File::open(path) {
        Err(why) if why.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    // The lock is redb's: nobody works in it, and two do not rename at once.
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(why)) => return Err(why),
        Ok(()) => {}
    }
    if inode(path) != Some(damaged) {
        return Ok(None);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".damaged-{now}"));
    // A second one within a second.
    while Path::new(&name).exists() {
        name.push("-");
    }
    std::fs::rename(path, &name)?;
    Ok(Some(PathBuf::from(name)))
}

/// What the system said of the file, and what to do about it.
pub(super) fn system(path: &Path, why: &io::Error) -> Error {
    let directory = path.parent().unwrap_or(path).display();
    let elsewhere = "another place for ephemwork's state: export EPHEMWORK_HOME=/some/directory";
    let (what, hint) = match why.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => (
            "cannot be written, there is no room",
            format!("make room on the disk of {directory}: df -h {directory}"),
        ),
        ErrorKind::PermissionDenied => (
            "may not be read and written by this user",
            format!("see whose it is: ls -l {directory}; {elsewhere}"),
        ),
        ErrorKind::ReadOnlyFilesystem => ("lies on a disk that can only be read", elsewhere.to_owned()),
        _ => ("cannot be used", elsewhere.to_owned()),
    };
    Error::new(Exit::Config, format!("{} {what}", path.display()))
        .because(why)
        .hint(hint)
}

#[cfg(test)]
mod tests {
    use redb::ReadableTable;

    use super::*;

    fn put(path: &Path, number: u32, text: String) -> Result<(), Failure> {
        transaction(path, &move |transaction| {
            transaction.open_table(UPS)?.insert(number, text.as_str())?;
            Ok(())
        })
    }

    fn count(path: &Path) -> Result<usize, Failure> {
        transaction(path, &|transaction| {
            let table = transaction.open_table(UPS)?;
            let mut count = 0;
            for entry in table.iter()? {
                count += usize::from(!entry?.1.value().is_empty());
            }
            Ok(count)
        })
    }

    /// The process would end with 134: a panic here fails the whole run.
    #[test]
    fn no_damage_ends_the_process() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("laptop.redb");
        for number in 0..20 {
            assert!(put(&path, number, "x".repeat(number as usize * 7 + 1)).is_ok());
        }
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let whole = std::fs::read(&path).unwrap();
        let used: Vec<usize> = (0..whole.len()).filter(|&at| whole[at] != 0).collect();
        let mut damages = 0;
        // A fixed walk stands for chance: each round spoils other places in another way.
        for round in 0..80_usize {
            let mut bytes = whole.clone();
            match round % 4 {
                0 => bytes.truncate(round * 331 % whole.len()),
                1 => bytes[used[round * 7919 % used.len()]] ^= (round % 255 + 1) as u8,
                2 => bytes[round * 4096 % (whole.len() - 4096)..][..4096].fill(round as u8),
                _ => bytes[round * 13 % 512] ^= 0x5a,
            }
            std::fs::write(&path, &bytes).unwrap();
            match count(&path) {
                Ok(count) => assert!(count <= 20, "round {round}"),
                Err(Failure::Damaged(_, inode)) => {
                    damages += 1;
                    let aside = set_aside(&path, inode).unwrap().expect("it was there");
                    assert_eq!(std::fs::read(&aside).unwrap(), bytes, "round {round}");
                    std::fs::remove_file(aside).unwrap();
                    assert!(matches!(count(&path), Ok(0)), "round {round}");
                }
                Err(_) => panic!("round {round}"),
            }
        }
        assert!(damages > 20, "{damages}");
    }

    #[test]
    fn only_the_file_that_was_damaged_is_set_aside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("laptop.redb");
        assert!(put(&path, 1, "a".into()).is_ok());
        let inode = inode(&path).unwrap();
        assert_eq!(set_aside(&path, inode + 1).unwrap(), None);
        assert!(matches!(count(&path), Ok(1)));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(set_aside(&path, inode).unwrap(), None);
    }

    #[test]
    fn each_refusal_of_the_system_has_its_own_words() {
        let check = |kind: ErrorKind, part: &str| {
            let error = system(Path::new("/h/laptop.redb"), &io::Error::from(kind));
            assert_eq!(error.exit, Exit::Config);
            assert!(error.to_string().contains(part), "{error}");
        };
        check(ErrorKind::StorageFull, "there is no room");
        check(ErrorKind::StorageFull, "df -h /h");
        check(ErrorKind::PermissionDenied, "ls -l /h");
        check(ErrorKind::ReadOnlyFilesystem, "can only be read");
        check(ErrorKind::Other, "export EPHEMWORK_HOME=");
    }
}
