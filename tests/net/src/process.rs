//! Processes that end with their owner, each the leader of a group of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal};

/// A running program whose output is in a file.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts it without input; what it says goes to `log`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Running, String> {
        use std::os::unix::process::CommandExt as _;
        let broken = |why: std::io::Error| format!("{name} cannot be started: {why}");
        let file = File::create(log).map_err(broken)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().map_err(broken)?)
            .stderr(file)
            .process_group(0)
            .spawn()
            .map_err(broken)?;
        Ok(Running {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
        })
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it said so far.
    #[must_use]
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until it has said something.
    ///
    /// # Errors
    /// It ended, or did not say it in time.
    pub fn wait_for(&mut self, words: &str) -> Result<(), String> {
        let waited = crate::until(super::world::READY, words, || {
            if self.said().contains(words) {
                return Some(Ok(()));
            }
            self.ended().map(Err)
        });
        match waited {
            Ok(Ok(())) => Ok(()),
            Ok(Err(status)) => Err(format!("{} ended with {status}:\n{}", self.name, self.said())),
            Err(why) => Err(format!("{}: {why}:\n{}", self.name, self.said())),
        }
    }

    /// Whether it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends a signal to it alone.
    pub fn signal(&self, signal: Signal) {
        signal_to(self.pid(), signal);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(group) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            // A group that is empty already is what is wanted; one that is stopped is killed all the same.
            rustix::process::kill_process_group(group, Signal::KILL).ok();
        }
        self.child.wait().ok();
    }
}

/// Sends a signal to a process that may have ended.
pub fn signal_to(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        rustix::process::kill_process(pid, signal).ok();
    }
}

/// Runs a program to its end.
///
/// # Errors
/// It failed; with what it said.
pub fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|why| format!("{program}: {why}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(format!("{program} {}: {}", arguments.join(" "), text(&output.stderr).trim()))
}
