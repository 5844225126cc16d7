//! A service's output in a file, so that `ephemwork logs` can show it later.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The size at which a log moves to `.1` and a new one begins, in bytes: hours of a chatty dev server, and no full disk.
const MAX_LOG: u64 = 10 * 1024 * 1024;

/// One service's log. A log that cannot be written costs no more than itself.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    path: Arc<PathBuf>,
    open: Arc<Mutex<Option<(File, u64)>>>,
}

impl Log {
    /// Goes on in the file, or begins it.
    pub(crate) fn append(path: PathBuf) -> Log {
        let open = open(&path);
        Log {
            path: Arc::new(path),
            open: Arc::new(Mutex::new(open)),
        }
    }

    pub(crate) fn line(&self, line: &str) {
        let mut guard = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((file, size)) = guard.as_mut() else { return };
        if file.write_all(format!("{line}\n").as_bytes()).is_err() {
            *guard = None;
            return;
        }
        *size += line.len() as u64 + 1;
        if *size >= MAX_LOG {
            std::fs::rename(&*self.path, old(&self.path)).ok();
            *guard = open(&self.path);
        }
    }
}

/// Where a full log goes.
pub(crate) fn old(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    PathBuf::from(name)
}

fn open(path: &Path) -> Option<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path).ok()?;
    let size = file.metadata().ok()?.len();
    Some((file, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_log_moves_away() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("api.log");
        let log = Log::append(path.clone());
        let line = "x".repeat(1 << 20);
        (0..11).for_each(|_| log.line(&line));
        log.line("last");
        assert!(std::fs::metadata(old(&path)).unwrap().len() >= MAX_LOG);
        assert!(std::fs::read_to_string(&path).unwrap().ends_with("last\n"));
    }
}
