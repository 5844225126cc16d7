//! The processes of a benchmark: started, looked at through /proc, and ended on every way out, by number.
//!
//! Every child stands in one list from its start to its end. Dropping a [`Running`] ends it; a signal or a panic ends all.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

/// How long a process may take to end by itself before it is killed.
const GRACE: Duration = Duration::from_secs(2);

/// How long anything may take to become ready.
const READY: Duration = Duration::from_secs(20);

/// USER_HZ, the unit of times in /proc/PID/stat: 100 on every Linux that Rust has a target for.
const TICKS_PER_SECOND: f64 = 100.0;

static LIVE: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// A child that ends with its owner.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    /// For messages.
    name: String,
}

impl Running {
    /// Starts it with no input.
    pub(crate) fn start(name: &str, command: &mut Command) -> Result<Running, String> {
        let child = command.stdin(Stdio::null()).spawn();
        let child = child.map_err(|why| format!("{name} cannot be started: {why}"))?;
        if let Ok(mut live) = LIVE.lock() {
            live.push(child.id());
        }
        Ok(Running {
            child,
            name: name.to_owned(),
        })
    }

    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What follows `ready ` on its first line of output that starts so. It must have been given a piped stdout.
    pub(crate) fn ready_line(&mut self) -> Result<String, String> {
        self.line_after("ready ")
    }

    /// The same with another beginning.
    pub(crate) fn line_after(&mut self, beginning: &str) -> Result<String, String> {
        let Some(stdout) = self.child.stdout.take() else {
            return Err(format!("{} has no output to read", self.name));
        };
        let mut lines = BufReader::new(stdout).lines();
        let found = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix(beginning).map(str::to_owned));
        std::thread::spawn(move || for _ in lines {});
        found.ok_or_else(|| format!("{} ended before it was ready", self.name))
    }

    /// Everything it wrote to a piped stderr until a line fits; the rest is read and forgotten.
    pub(crate) fn stderr_until(&mut self, mut fits: impl FnMut(&str) -> bool) -> Result<(), String> {
        let Some(stderr) = self.child.stderr.take() else {
            return Err(format!("{} has no errors to read", self.name));
        };
        let mut said = String::new();
        let mut lines = BufReader::new(stderr).lines();
        for line in lines.by_ref().map_while(Result::ok) {
            if fits(&line) {
                std::thread::spawn(move || for _ in lines {});
                return Ok(());
            }
            said.push_str(&line);
            said.push('\n');
        }
        Err(format!("{} ended: {}", self.name, said.trim()))
    }

    /// Waits until something holds; fails when the process ends or time runs out.
    pub(crate) fn wait_until(&mut self, mut holds: impl FnMut() -> bool) -> Result<(), String> {
        let deadline = Instant::now() + READY;
        while !holds() {
            if let Ok(Some(status)) = self.child.try_wait() {
                let mut said = String::new();
                if let Some(stderr) = &mut self.child.stderr {
                    stderr.read_to_string(&mut said).ok();
                }
                return Err(format!(
                    "{} ended with {status} before it was ready: {}",
                    self.name,
                    said.trim()
                ));
            }
            if Instant::now() > deadline {
                return Err(format!("{} was not ready within {} s", self.name, READY.as_secs()));
            }
            pause(Duration::from_millis(5));
        }
        Ok(())
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends it a signal.
    pub(crate) fn send(&self, what: Signal) {
        signal(self.pid(), what);
    }

    /// Kills it, as a machine that loses its power does.
    pub(crate) fn kill(mut self) {
        signal(self.pid(), Signal::KILL);
        self.child.wait().ok();
    }

    /// Waits for its end, so long.
    pub(crate) fn wait_for_end(&mut self, limit: Duration) -> Result<ExitStatus, String> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended() {
                return Ok(status);
            }
            if Instant::now() > deadline {
                return Err(format!("{} did not end within {} s", self.name, limit.as_secs()));
            }
            pause(Duration::from_millis(5));
        }
    }

    /// Sends SIGINT and waits for the end.
    pub(crate) fn interrupt(mut self) -> Result<(), String> {
        signal(self.pid(), Signal::INT);
        let deadline = Instant::now() + READY;
        while Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return Ok(());
            }
            pause(Duration::from_millis(5));
        }
        Err(format!("{} did not end", self.name))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let pid = self.child.id();
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            let family = tree(pid);
            signal(pid, Signal::TERM);
            let deadline = Instant::now() + GRACE;
            while Instant::now() < deadline && !matches!(self.child.try_wait(), Ok(Some(_))) {
                pause(Duration::from_millis(5));
            }
            family.into_iter().for_each(|pid| signal(pid, Signal::KILL));
            self.child.wait().ok();
        }
        if let Ok(mut live) = LIVE.lock() {
            live.retain(|live| *live != pid);
        }
    }
}

/// Ends every child and what it started, for the ways out on which nothing is dropped.
pub(crate) fn end_all() {
    let live = LIVE.try_lock().map(|live| live.clone()).unwrap_or_default();
    let families: Vec<u32> = live.iter().flat_map(|pid| tree(*pid)).collect();
    families.iter().for_each(|pid| signal(*pid, Signal::TERM));
    pause(Duration::from_millis(300));
    families.iter().for_each(|pid| signal(*pid, Signal::KILL));
}

fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended by itself in this moment, which is as well.
        rustix::process::kill_process(pid, signal).ok();
    }
}

/// Stops this thread for a moment.
#[allow(
    clippy::disallowed_methods,
    reason = "a benchmark's conductor is a plain thread and no task runs on it"
)]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// A process and all its descendants.
pub(crate) fn tree(root: u32) -> Vec<u32> {
    let mut parents: Vec<(u32, u32)> = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        if let Ok(pid) = entry.file_name().to_string_lossy().parse()
            && let Some(fields) = stat(pid)
            && let Some(parent) = fields.get(1).and_then(|field| field.parse().ok())
        {
            parents.push((pid, parent));
        }
    }
    let mut found = vec![root];
    let mut at = 0;
    while at < found.len() {
        let parent = found[at];
        found.extend(parents.iter().filter(|(_, its)| *its == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    found
}

/// The fields of /proc/PID/stat behind the command's name (proc(5)): state, parent, ...
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

/// The processor time in seconds that processes and their descendants have used, ended and awaited ones included.
pub(crate) fn cpu(roots: &[u32]) -> f64 {
    let mut ticks = 0;
    for pid in roots.iter().flat_map(|root| tree(*root)) {
        let fields = stat(pid).unwrap_or_default();
        // utime, stime, cutime, cstime: fields 14 to 17, of which the first two stand before the name's end.
        ticks += fields
            .iter()
            .skip(11)
            .take(4)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum::<u64>();
    }
    ticks as f64 / TICKS_PER_SECOND
}

/// What processes and their descendants occupy, in MiB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// Resident pages, those shared counted in each.
    pub rss: f64,
    /// Resident pages, each shared one divided among its users.
    pub pss: f64,
    /// Those of `pss` that are data, not pages of the program's file.
    pub data: f64,
}

/// See [`Memory`].
pub(crate) fn memory(roots: &[u32]) -> Memory {
    let mut sum = Memory {
        rss: 0.0,
        pss: 0.0,
        data: 0.0,
    };
    for pid in roots.iter().flat_map(|root| tree(*root)) {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok())
                .unwrap_or(0.0)
                / 1024.0
        };
        sum.rss += field("Rss:");
        sum.pss += field("Pss:");
        sum.data += field("Pss_Anon:");
    }
    sum
}

/// How often [`settled`] looks, and how long at most.
const LOOK: Duration = Duration::from_secs(1);
const SETTLED: Duration = Duration::from_secs(30);

/// What it moves by at most, in MiB, for so long, when it has settled: mimalloc gives back what a thousand logins needed after some six
/// seconds, and not bit by bit.
const STILL: f64 = 0.2;
const STILL_FOR: Duration = Duration::from_secs(8);

/// The memory once it stays: what the beginning needed is given back some seconds later.
pub(crate) fn settled(roots: &[u32]) -> Memory {
    let begun = Instant::now();
    let (mut since, mut still) = (begun, memory(roots));
    loop {
        pause(LOOK);
        let now = memory(roots);
        if (now.pss - still.pss).abs() >= STILL {
            (since, still) = (Instant::now(), now);
        }
        if since.elapsed() >= STILL_FOR || begun.elapsed() > SETTLED {
            return now;
        }
    }
}

/// What a process has open; `None` when it is gone.
pub(crate) fn descriptors(pid: u32) -> Option<usize> {
    Some(fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count())
}

/// How many threads a process has.
pub(crate) fn threads(pid: u32) -> Option<usize> {
    Some(fs::read_dir(format!("/proc/{pid}/task")).ok()?.count())
}

/// What one process has for itself, in MiB: heap and stacks, and not the program, which is shared by all who run it.
pub(crate) fn own_memory(pid: u32) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss_Anon:"))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
}
