//! Processes as the system tells of them: when one was born, who is in a group, what it is called.
//!
//! Linux tells it in /proc (proc(5)); elsewhere `ps` does, which POSIX has. Calls block for a moment.

use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process_group};

/// A process that can be told from a later one with the same number.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// When it was started, in the system's own words; empty when the system did not tell.
    pub(crate) birth: String,
}

impl Process {
    /// The process that has this number now.
    pub(crate) fn of(pid: u32) -> Option<Process> {
        let birth = birth(pid)?;
        Some(Process { pid, birth })
    }

    /// This process.
    pub(crate) fn own() -> Process {
        let pid = std::process::id();
        Process::of(pid).unwrap_or(Process {
            pid,
            birth: String::new(),
        })
    }

    /// Whether it still runs. A zombie does not.
    pub(crate) fn lives(&self) -> bool {
        Process::of(self.pid).as_ref() == Some(self)
    }

    /// Sends it a signal, if it is still itself.
    pub(crate) fn signal(&self, signal: Signal) {
        if let (true, Some(pid)) = (self.lives(), number(self.pid)) {
            // It may have ended in between, which is what was wanted.
            kill_process(pid, signal).ok();
        }
    }
}

fn number(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}

/// Sends a signal to a whole group; one that is gone is fine.
pub(crate) fn signal_group(group: u32, signal: Signal) {
    if let Some(group) = number(group) {
        kill_process_group(group, signal).ok();
    }
}

/// Whether anything of a group still runs. Zombies that nobody reaps do not count.
pub(crate) fn group_lives(group: u32) -> bool {
    let Some(number) = number(group) else { return false };
    // EPERM: what is left runs as another user (sudo), or is a zombie on macOS; neither can be ended from here.
    test_kill_process_group(number).is_ok() && !members(group).is_empty()
}

/// When a process was started, in words that no other process with its number ever has. `None` when there is none, or a zombie.
#[cfg(target_os = "linux")]
fn birth(pid: u32) -> Option<String> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let (state, _, start) = parse_stat(&String::from_utf8_lossy(&stat))?;
    // Ticks count from the start of the machine, so the machine's start belongs to them.
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    (!matches!(state, 'Z' | 'X')).then(|| format!("{}/{start}", boot.trim()))
}

#[cfg(not(target_os = "linux"))]
fn birth(pid: u32) -> Option<String> {
    let line = ps(&["-o", "stat=", "-o", "lstart=", "-p", &pid.to_string()])?;
    let (state, start) = line.trim().split_once(char::is_whitespace)?;
    (!state.starts_with('Z')).then(|| start.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The living members of a group.
#[cfg(target_os = "linux")]
pub(crate) fn members(group: u32) -> Vec<u32> {
    let of_group = |pid: &u32| {
        let stat = std::fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
        matches!(parse_stat(&String::from_utf8_lossy(&stat)), Some((state, of, _)) if of == group && !matches!(state, 'Z' | 'X'))
    };
    all().filter(of_group).collect()
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn members(group: u32) -> Vec<u32> {
    let text = ps(&["-A", "-o", "pid=", "-o", "pgid=", "-o", "stat="]).unwrap_or_default();
    let member = |line: &str| {
        let mut words = line.split_whitespace();
        let (pid, of, state) = (words.next()?, words.next()?, words.next()?);
        (of.parse() == Ok(group) && !state.starts_with('Z')).then(|| pid.parse().ok())?
    };
    text.lines().filter_map(member).collect()
}

/// Every process's number.
#[cfg(target_os = "linux")]
pub(crate) fn all() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// State, process group and start time (fields 3, 5 and 22 of proc(5)); the name in between may hold anything.
#[cfg(any(target_os = "linux", test))]
fn parse_stat(stat: &str) -> Option<(char, u32, u64)> {
    let (_, behind) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = behind.split_whitespace().collect();
    Some((
        fields.first()?.chars().next()?,
        fields.get(2)?.parse().ok()?,
        fields.get(19)?.parse().ok()?,
    ))
}

/// Whether a process was started with this `NAME=value` in its environment.
pub(crate) fn was_given(pid: u32, variable: &str) -> bool {
    #[cfg(target_os = "linux")]
    {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|&byte| byte == 0).any(|entry| entry == variable.as_bytes())
    }
    #[cfg(not(target_os = "linux"))]
    {
        let shown = ps(&["eww", "-o", "command=", "-p", &pid.to_string()]).unwrap_or_default();
        shown.split_whitespace().any(|word| word == variable)
    }
}

/// A process's command line.
pub(crate) fn command_line(pid: u32) -> Option<String> {
    let line = ps(&["-ww", "-o", "args=", "-p", &pid.to_string()])?;
    let line = line.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

/// `ps` with these arguments; `None` when it is missing or found nothing.
fn ps(arguments: &[&str]) -> Option<String> {
    let output = Command::new("ps").args(arguments).stdin(Stdio::null()).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_lines() {
        let line = "42 (a) b (c) S 1 7 7 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 9876 1 2";
        assert_eq!(parse_stat(line), Some(('S', 7, 9876)));
        assert_eq!(parse_stat("42 (a"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn this_process_lives_and_its_namesake_does_not() {
        let own = Process::own();
        assert!(own.lives());
        assert!(
            !Process {
                birth: "another day".into(),
                ..own
            }
            .lives()
        );
        assert_eq!(Process::of(u32::MAX), None);
    }
}
