//! The laptop's home directory: where everything lies that outlives one command. Only its owner may look into it.

use std::fs::{DirBuilder, Permissions};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, Exit, Result};
use crate::host::Host;

/// The longest path of a unix socket that every system takes, in bytes: macOS has room for 104 with the end (unix(4)), Linux for 108.
const MAX_SOCKET_PATH: usize = 103;

/// `EPHEMWORK_HOME`.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    root: PathBuf,
}

impl Home {
    /// Finds it and makes what is missing.
    ///
    /// # Errors
    /// There is no such place, or it cannot be made.
    pub(crate) fn open(host: &Host) -> Result<Home> {
        let Some(root) = host.home() else {
            return Err(Error::new(Exit::Config, "there is no home directory for ephemwork's state")
                .because("neither EPHEMWORK_HOME nor HOME is set")
                .hint("export EPHEMWORK_HOME=/some/directory"));
        };
        let home = Home { root };
        for directory in ["", "run", "logs", "local"] {
            private_directory(&home.root.join(directory)).map_err(|why| {
                Error::new(
                    Exit::Config,
                    format!("{} cannot be made", home.root.join(directory).display()),
                )
                .because(why)
                .hint("another place: export EPHEMWORK_HOME=/some/directory")
            })?;
        }
        Ok(home)
    }

    /// The directory itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn records(&self) -> PathBuf {
        self.root.join("laptop.redb")
    }

    /// Where the `up` with this process number has its control socket.
    pub(crate) fn control(&self, pid: u32) -> Result<PathBuf> {
        self.socket(self.root.join("run").join(format!("{pid}.sock")))
    }

    /// The control sockets that lie in it, by process number.
    pub(crate) fn sockets(&self) -> Vec<(u32, PathBuf)> {
        let entries = std::fs::read_dir(self.root.join("run")).into_iter().flatten().flatten();
        let pid = |path: &Path| path.file_name()?.to_str()?.strip_suffix(".sock")?.parse().ok();
        entries
            .filter_map(|entry| Some((pid(&entry.path())?, entry.path())))
            .collect()
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.root.join("key")
    }

    /// What was printed, a directory for each project.
    pub(crate) fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// The state of the local bastion whose edge listens there.
    pub(crate) fn local(&self, listen: SocketAddr) -> PathBuf {
        self.root.join("local").join(listen.to_string().replace([':', '[', ']'], "_"))
    }

    /// The directories of all local bastions.
    pub(crate) fn locals(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.root.join("local")).into_iter().flatten().flatten();
        let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
        found.sort();
        found
    }

    /// Where a socket can be made: at `wanted`, or, when that path is longer than the system takes, in a short private directory.
    pub(crate) fn socket(&self, wanted: PathBuf) -> Result<PathBuf> {
        if wanted.as_os_str().len() <= MAX_SOCKET_PATH {
            return Ok(wanted);
        }
        let number = hash(wanted.as_os_str().as_encoded_bytes());
        let user = rustix::process::geteuid().as_raw();
        let directory = PathBuf::from(format!("/tmp/ephemwork-{user}"));
        let own = private_directory(&directory).and_then(|()| std::fs::symlink_metadata(&directory));
        match own {
            Ok(found) if found.is_dir() && found.uid() == user => Ok(directory.join(format!("{number:016x}.sock"))),
            _ => Err(
                Error::new(Exit::Config, format!("{} is too long a path for a socket", wanted.display()))
                    .because(format_args!(
                        "a socket's path has at most {MAX_SOCKET_PATH} bytes, and {} is not this user's",
                        directory.display()
                    ))
                    .hint("a shorter place: export EPHEMWORK_HOME=/some/directory"),
            ),
        }
    }
}

/// A number for a text that is the same on every run and in every version (FNV-1a, 64 bits). No protection against intent.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let step = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// Makes a directory that only its owner may enter; one that exists is made so.
pub(crate) fn private_directory(path: &Path) -> std::io::Result<()> {
    match DirBuilder::new().recursive(true).mode(0o700).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = std::fs::symlink_metadata(path)?;
    if found.is_dir() && found.permissions().mode() & 0o077 != 0 {
        std::fs::set_permissions(path, Permissions::from_mode(0o700))?;
    }
    Ok(())
}
