//! The state directory: one daemon at a time, its ready file, and the unix sockets that it makes.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::{Error, Exit, Result};
use crate::rt;

/// What `ready.json` says, for whoever started the daemon.
#[derive(Debug, Serialize)]
pub(crate) struct Ready {
    pub pid: u32,
    /// Where the edge listens.
    pub http: String,
    /// Where SSH listens: `host:port` or `unix:/path`.
    pub ssh: String,
    /// The control socket's path.
    pub control: PathBuf,
    /// `ssh-ed25519 AAAA…`
    pub host_key: String,
    pub version: &'static str,
    pub protocol: u32,
}

/// A state directory that this process holds until it is dropped.
pub(crate) struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Makes the directory (mode 0700) and takes it.
    ///
    /// # Errors
    /// Another daemon holds it, or the system refuses.
    pub(crate) fn take(path: &Path) -> Result<Directory> {
        let unusable = |why: io::Error| {
            Error::new(Exit::Config, format!("the state directory {} cannot be used", path.display()))
                .because(why)
                .hint("give --state a directory that this user may write")
        };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut lock = options.open(path.join("lock")).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(held(path, &mut lock)),
            Err(std::fs::TryLockError::Error(why)) => return Err(unusable(why)),
        }
        let directory = Directory {
            path: path.to_owned(),
            _lock: lock,
        };
        directory.own().map_err(unusable)?;
        Ok(directory)
    }

    /// A file of the directory.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes `ready.json` at once: a reader sees all of it or nothing.
    ///
    /// # Errors
    /// The disk refuses.
    pub(crate) fn ready(&self, ready: &Ready) -> Result<()> {
        let write = || {
            let next = self.file("ready.json.next");
            let mut text = serde_json::to_vec(ready)?;
            text.push(b'\n');
            std::fs::write(&next, text)?;
            std::fs::rename(&next, self.file("ready.json"))
        };
        write().map_err(|why| {
            Error::new(
                Exit::Config,
                format!("{} cannot be written", self.file("ready.json").display()),
            )
            .because(why)
        })
    }

    /// Removes `ready.json`, so that nobody takes this daemon for a running one.
    pub(crate) fn not_ready(&self) {
        remove(&self.file("ready.json"));
    }

    fn own(&self) -> io::Result<()> {
        // What a daemon that was killed left behind would name the wrong ports.
        match std::fs::remove_file(self.file("ready.json")) {
            Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(why),
            _ => {}
        }
        let mut lock = &self._lock;
        lock.set_len(0)?;
        write!(lock, "{}", std::process::id())
    }
}

fn held(path: &Path, lock: &mut File) -> Error {
    let mut pid = String::new();
    let read = lock.take(20).read_to_string(&mut pid);
    let who = match read {
        Ok(_) if !pid.trim().is_empty() => format!("process {}", pid.trim()),
        _ => "another process".to_owned(),
    };
    Error::new(
        Exit::Conflict,
        format!(
            "another daemon ({who}) already runs on the state directory {}",
            path.display()
        ),
    )
    .hint("end it, or give this one another --state")
}

/// Listens on a unix socket that only this user may open. A socket that nobody answers any more is replaced.
///
/// # Errors
/// Another process listens there, or the system refuses the path.
pub(crate) fn listen(path: &Path) -> Result<rt::UnixListener> {
    let failed = |why: io::Error| {
        Error::new(Exit::Config, format!("cannot listen on the unix socket {}", path.display()))
            .because(why)
            .hint("such a path is at most about 100 bytes long, and its directory must exist and be writable")
    };
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(
                Error::new(Exit::Conflict, format!("{} exists and is not a socket", path.display()))
                    .hint("remove it, or choose another path"),
            );
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return Err(
                Error::new(Exit::Conflict, format!("another process listens on {}", path.display()))
                    .hint("end it, or choose another path"),
            );
        }
        Ok(_) => std::fs::remove_file(path).map_err(failed)?,
        Err(_) => {}
    }
    let listener = rt::UnixListener::bind(path).map_err(failed)?;
    // Until this line the directory (0700 by default) and the usual umask keep others out: to connect is to write. Setting
    // the umask instead would reach every thread of the process.
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

/// Removes a file of this daemon; that it is gone already is fine.
pub(crate) fn remove(path: &Path) {
    match std::fs::remove_file(path) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %why, "a file is left behind");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_daemon_a_directory() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/state");
        let first = Directory::take(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        let error = Directory::take(&path).err().unwrap();
        assert_eq!(error.exit, Exit::Conflict);
        assert!(error.what.contains(&format!("process {}", std::process::id())), "{error}");
        std::fs::write(first.file("ready.json"), "stale").unwrap();
        drop(first);
        let second = Directory::take(&path).unwrap();
        assert!(!second.file("ready.json").exists());
    }

    #[test]
    fn a_socket_of_nobody_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let listening = rt::block_on(async {
            let first = listen(&path).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            assert_eq!(listen(&path).err().map(|error| error.exit), Some(Exit::Conflict));
            drop(first);
            listen(&path).is_ok()
        });
        assert!(listening.unwrap());
        let plain = directory.path().join("plain");
        std::fs::write(&plain, "precious").unwrap();
        let refused = rt::block_on(async { listen(&plain).err().map(|error| error.exit) });
        assert_eq!(refused.unwrap(), Some(Exit::Conflict));
        assert_eq!(std::fs::read(&plain).unwrap(), b"precious");
    }
}
