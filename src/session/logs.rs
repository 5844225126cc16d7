//! A service's output in a file, so that `ephemwork logs` can show it later.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::home::{Home, hash, private_directory};
use crate::config;
use crate::name::Service;

/// The size at which a log moves to `.1` and a new one begins, in bytes: hours of a chatty dev server, and no full disk.
const MAX_LOG: u64 = 10 * 1024 * 1024;

/// One service's log. A log that cannot be written costs no more than itself, and goes on when it can be written again.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    path: Arc<PathBuf>,
    writing: Arc<Mutex<Writing>>,
}

#[derive(Debug)]
struct Writing {
    /// With its size, in bytes.
    open: Option<(File, u64)>,
    /// Lines that are not in it since the last one that is, and why the first of them is not.
    lost: Option<(u64, String)>,
}

impl Log {
    /// Goes on in the file, or begins it.
    pub(crate) fn append(path: PathBuf) -> Log {
        let writing = Writing {
            open: open(&path).ok(),
            lost: None,
        };
        Log {
            path: Arc::new(path),
            writing: Arc::new(Mutex::new(writing)),
        }
    }

    /// Says why lines are lost, with the first one that is.
    pub(crate) fn line(&self, line: &str) -> Option<String> {
        let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let Err(why) = writing.line(&self.path, line) else {
            return None;
        };
        // Opened anew with the next line: the disk may have room by then, or the file be another.
        writing.open = None;
        match &mut writing.lost {
            Some((count, _)) => {
                *count += 1;
                None
            }
            None => {
                writing.lost = Some((1, why.to_string()));
                Some(format!("{}: {why}", self.path.display()))
            }
        }
    }
}

impl Writing {
    fn line(&mut self, path: &Path, line: &str) -> std::io::Result<()> {
        let (file, size) = match &mut self.open {
            Some(open) => open,
            closed => closed.insert(open(path)?),
        };
        let text = match &self.lost {
            // The line before may have been cut.
            Some((1, why)) => format!("\nephemwork: a line is missing here: {why}\n{line}\n"),
            Some((count, why)) => format!("\nephemwork: {count} lines are missing here: {why}\n{line}\n"),
            None => format!("{line}\n"),
        };
        file.write_all(text.as_bytes())?;
        self.lost = None;
        *size += text.len() as u64;
        if *size >= MAX_LOG {
            // Where it cannot move it begins anew all the same.
            std::fs::rename(path, old(path)).or_else(|_| file.set_len(0))?;
            self.open = None;
        }
        Ok(())
    }
}

/// The logs of one project: two may have services of one name.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    directory: PathBuf,
}

impl Place {
    /// Of the project with this ephemwork.toml: named by its directory and a short hash of the whole path.
    pub(crate) fn of(home: &Home, file: &Path) -> Place {
        let directory = file.parent().unwrap_or(file);
        let real = std::fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
        let number = hash(real.as_os_str().as_encoded_bytes()) as u32;
        let name = format!("{}-{number:08x}", config::project_name_of(&real));
        Place {
            directory: home.logs().join(name),
        }
    }

    /// Every project's.
    pub(crate) fn all(home: &Home) -> Vec<Place> {
        let entries = std::fs::read_dir(home.logs()).into_iter().flatten().flatten();
        let directories = entries.map(|entry| entry.path()).filter(|path| path.is_dir());
        let mut found: Vec<Place> = directories.map(|directory| Place { directory }).collect();
        found.sort_by(|a, b| a.directory.cmp(&b.directory));
        found
    }

    /// Makes it, and notes whose it is.
    pub(crate) fn make(&self, file: &Path) -> std::io::Result<()> {
        private_directory(&self.directory)?;
        let project = file.parent().unwrap_or(file);
        std::fs::write(self.directory.join(PROJECT), project.as_os_str().as_encoded_bytes())
    }

    /// A service's output.
    pub(crate) fn service(&self, service: &Service) -> PathBuf {
        self.directory.join(format!("{service}.log"))
    }

    /// What a detached `up` prints. A service's log ends in `.log`, so no service can have this name.
    pub(crate) fn detached(&self) -> PathBuf {
        self.directory.join("up.detached")
    }

    /// The services that have a log.
    pub(crate) fn services(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let name = |entry: std::fs::DirEntry| Some(entry.file_name().to_str()?.strip_suffix(".log")?.to_owned());
        let mut names: Vec<String> = entries.filter_map(name).collect();
        names.sort();
        names
    }

    /// The project's directory, for people.
    pub(crate) fn project(&self) -> String {
        let noted = std::fs::read(self.directory.join(PROJECT)).unwrap_or_default();
        match noted.is_empty() {
            true => self.directory.display().to_string(),
            false => String::from_utf8_lossy(&noted).into_owned(),
        }
    }
}

/// The file that says whose logs these are.
const PROJECT: &str = "project";

/// A log that begins anew; what was there is kept as the one before.
pub(crate) fn anew(path: &Path) -> std::io::Result<File> {
    match std::fs::rename(path, old(path)) {
        Err(why) if why.kind() != std::io::ErrorKind::NotFound => return Err(why),
        _ => {}
    }
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// Where a full log goes.
pub(crate) fn old(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    PathBuf::from(name)
}

fn open(path: &Path) -> std::io::Result<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
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
        (0..11).for_each(|_| assert_eq!(log.line(&line), None));
        assert_eq!(log.line("last"), None);
        assert!(std::fs::metadata(old(&path)).unwrap().len() >= MAX_LOG);
        assert!(std::fs::read_to_string(&path).unwrap().ends_with("last\n"));
    }
}
