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

/// A process that was started with a variable in its environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Marked {
    pub(crate) process: Process,
    /// Its process group.
    pub(crate) group: u32,
    /// The variable's value.
    pub(crate) value: String,
}

/// The living processes of this user, this one apart, that were started with such a value of the variable `name`.
#[cfg(target_os = "linux")]
pub(crate) fn marked(name: &str, wanted: &dyn Fn(&str) -> bool) -> Vec<Marked> {
    let carries = |pid: u32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let mut values = environment.split(|&byte| byte == 0).filter_map(|entry| {
            let value = entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            std::str::from_utf8(value).ok()
        });
        values.find(|value| wanted(value)).map(str::to_owned)
    };
    let own = std::process::id();
    let found = |pid: u32| {
        carries(pid)?;
        let process = Process::of(pid)?;
        let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
        let (_, group, _) = parse_stat(&String::from_utf8_lossy(&stat))?;
        // Read once more: in between the number may have become another's, whose birth this would be.
        let value = carries(pid)?;
        Some(Marked { process, group, value })
    };
    all().filter(|&pid| pid != own).filter_map(found).collect()
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn marked(name: &str, wanted: &dyn Fn(&str) -> bool) -> Vec<Marked> {
    marked_by_ps(name, wanted)
}

/// What makes `ps` show everything with its environment behind the command: macOS has an option of its own (ps(1)), others BSD's `e`.
#[cfg(target_os = "macos")]
const WITH_ENVIRONMENT: [&str; 3] = ["-A", "-E", "-ww"];
#[cfg(all(not(target_os = "macos"), any(not(target_os = "linux"), test)))]
const WITH_ENVIRONMENT: [&str; 1] = ["axeww"];

#[cfg(any(not(target_os = "linux"), test))]
fn marked_by_ps(name: &str, wanted: &dyn Fn(&str) -> bool) -> Vec<Marked> {
    let look = || {
        let columns = ["-o", "pid=", "-o", "pgid=", "-o", "stat=", "-o", "command="];
        let arguments: Vec<&str> = WITH_ENVIRONMENT.into_iter().chain(columns).collect();
        ps(&arguments).unwrap_or_default()
    };
    let carriers = |text: &str| -> Vec<(u32, u32, String)> {
        let lines = text.lines().filter_map(|line| marked_line(line, name, wanted));
        lines.filter(|(pid, ..)| *pid != std::process::id()).collect()
    };
    let first = carriers(&look());
    if first.is_empty() {
        return Vec::new();
    }
    let born = first.into_iter().filter_map(|(pid, ..)| Process::of(pid));
    let born: Vec<Process> = born.collect();
    // Looked at once more: in between a number may have become another's, whose birth this would be.
    let second = carriers(&look());
    let both = born.into_iter().filter_map(|process| {
        let (_, group, value) = second.iter().find(|(pid, ..)| *pid == process.pid)?.clone();
        Some(Marked { process, group, value })
    });
    both.collect()
}

/// Number, group and value in a line of `ps`; the environment's words stand behind those of the command.
#[cfg(any(not(target_os = "linux"), test))]
fn marked_line(line: &str, name: &str, wanted: &dyn Fn(&str) -> bool) -> Option<(u32, u32, String)> {
    let mut words = line.split_whitespace();
    let (pid, group, state) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?, words.next()?);
    let mut values = words.filter_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    let value = values.find(|value| wanted(value)).filter(|_| !state.starts_with('Z'))?;
    Some((pid, group, value.to_owned()))
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
    fn a_mark_is_found_by_every_way() {
        let value = format!("1/test/{}", std::process::id());
        let mut child = Command::new("/bin/sh")
            .args(["-c", "read -r line"])
            .env("EPHEMWORK_TEST_MARK", &value)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        // Between fork and exec it has its parent's environment.
        let begun = std::time::Instant::now();
        while marked("EPHEMWORK_TEST_MARK", &|found| found == value).is_empty() {
            assert!(begun.elapsed().as_secs() < 20, "it is not found");
        }
        for way in [marked, marked_by_ps] {
            let found = way("EPHEMWORK_TEST_MARK", &|found| found == value);
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].process, Process::of(child.id()).unwrap());
            assert_eq!((found[0].value.as_str(), found[0].group != 0), (value.as_str(), true));
            assert_eq!(
                way("EPHEMWORK_TEST_MARK", &|found| value.starts_with(found) && found != value),
                []
            );
        }
        drop(child.stdin.take());
        child.wait().unwrap();
        for way in [marked, marked_by_ps] {
            assert_eq!(way("EPHEMWORK_TEST_MARK", &|found| found == value), []);
        }
    }

    #[test]
    fn lines_of_ps() {
        let check = |line: &str, expected: Option<(u32, u32, &str)>| {
            let found = marked_line(line, "M", &|value| value == "1/a");
            assert_eq!(
                found,
                expected.map(|(pid, group, value)| (pid, group, value.to_owned())),
                "{line}"
            );
        };
        check("  12   10 Ss   node server.js A=1 M=1/a B=2", Some((12, 10, "1/a")));
        check("12 10 Z+ (node) M=1/a", None);
        check("12 10 S sh -c x M=1/ab NM=1/a", None);
        check("", None);
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
