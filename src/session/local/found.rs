//! Whether a local bastion serves, ends, or runs without being of use; and the end of one that does.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use http::Method;
use rustix::process::Signal;

use super::Ready;
use crate::protocol::Health;
use crate::rt;
use crate::session::home::Home;
use crate::session::socket;
use crate::session::system::{self, Process};

/// How long a useless daemon may take to end when asked: its requests in flight may finish. Asked twice it ends at once.
const ASKED: Duration = Duration::from_secs(5);
/// How long one that was killed, or asked twice, may take.
const KILLED: Duration = Duration::from_secs(2);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// What a state directory tells.
pub(super) enum Found {
    Serving(Ready),
    /// It was told to end, or begins, and still runs.
    Busy(Process),
    /// It runs and cannot be used, for this reason.
    Useless(Process, String),
    /// It runs and did not answer in time.
    Silent(Process, String),
    Nobody,
}

/// The daemon of a state directory, if it answers.
pub(crate) async fn serving(directory: &Path) -> Option<Ready> {
    let ready = read(directory).ok()??;
    match health(&ready.control).await {
        Ok(health) => (health.status != "draining").then_some(ready),
        Err(_) => None,
    }
}

pub(super) async fn look(home: &Home, directory: &Path) -> Found {
    let found = read(directory);
    let said = found.as_ref().ok().and_then(Option::as_ref).map(|ready| ready.pid);
    let place = directory.to_owned();
    let holder = async || rt::unblock(move || holder(&place, said)).await;
    match found {
        Ok(Some(ready)) => {
            let answer = health(&ready.control).await;
            let draining = matches!(&answer, Ok(health) if health.status == "draining");
            if answer.is_ok() && !draining && !ssh_is_gone(&ready) {
                return Found::Serving(ready);
            }
            let Some(process) = holder().await else {
                // The file of a daemon that was killed.
                return Found::Nobody;
            };
            // It removes the file first when it ends.
            let ends = draining || !directory.join("ready.json").exists();
            match answer {
                _ if ends => Found::Busy(process),
                Ok(_) => Found::Useless(process, format!("its socket {} is gone", ready.ssh)),
                Err(Unanswered::Late(why)) => Found::Silent(process, why),
                Err(Unanswered::No(why)) => {
                    Found::Useless(process, format!("{} does not answer: {why}", ready.control.display()))
                }
            }
        }
        Ok(None) => match holder().await {
            // It writes the file as soon as it can serve, and removes it before it drains; so this one lost it.
            Some(process) if serves_without_file(home, directory).await => {
                Found::Useless(process, "its ready.json is gone".to_owned())
            }
            Some(process) => Found::Busy(process),
            None => Found::Nobody,
        },
        Err(why) => match holder().await {
            Some(process) => Found::Useless(process, format!("its ready.json is not what it wrote: {why}")),
            None => Found::Nobody,
        },
    }
}

/// What `ready.json` says; `None` when there is none.
fn read(directory: &Path) -> Result<Option<Ready>, String> {
    match std::fs::read(directory.join("ready.json")) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|why| why.to_string()),
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(why) => Err(why.to_string()),
    }
}

/// Why there is no health.
enum Unanswered {
    No(String),
    Late(String),
}

async fn health(control: &Path) -> Result<Health, Unanswered> {
    let begun = Instant::now();
    let answer = socket::call(control, Method::GET, "/v1/health", None).await;
    let why = match answer {
        Ok((status, body)) if status.is_success() => match serde_json::from_slice(&body) {
            Ok(health) => return Ok(health),
            Err(why) => why.to_string(),
        },
        Ok((status, _)) => format!("it answered {status}"),
        Err(why) if begun.elapsed() >= socket::LIMIT => return Err(Unanswered::Late(why)),
        Err(why) => why,
    };
    Err(Unanswered::No(why))
}

fn ssh_is_gone(ready: &Ready) -> bool {
    use std::os::unix::fs::FileTypeExt;
    let Some(path) = ready.ssh.strip_prefix("unix:") else {
        return false;
    };
    !std::fs::metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

async fn serves_without_file(home: &Home, directory: &Path) -> bool {
    let Ok(control) = home.socket(directory.join("control.sock")) else {
        return false;
    };
    let serving = health(&control).await.is_ok_and(|health| health.status != "draining");
    // Between the sockets and the file of one that begins lies a moment.
    serving && matches!(read(directory), Ok(None))
}

/// The daemon of the directory, if it has this number.
pub(super) async fn of(directory: &Path, pid: u32) -> Option<Process> {
    let directory = directory.to_owned();
    let holder = rt::unblock(move || holder(&directory, Some(pid))).await;
    holder.filter(|daemon| daemon.pid == pid)
}

/// The daemon that runs on the directory, by the number in its lock file or its ready file. Blocks.
fn holder(directory: &Path, said: Option<u32>) -> Option<Process> {
    let locked = std::fs::read_to_string(directory.join("lock")).unwrap_or_default();
    let numbers = locked.trim().parse().ok().into_iter().chain(said);
    let real = std::fs::canonicalize(directory).unwrap_or_default();
    let places: [PathBuf; 2] = [directory.to_owned(), real];
    // Another process may have the number by now.
    let ours = |pid: &u32| {
        let line = system::command_line(*pid).unwrap_or_default();
        line.contains("bastiond") && places.iter().any(|place| line.contains(&place.display().to_string()))
    };
    numbers.filter(ours).find_map(Process::of)
}

/// Ends a daemon that cannot be used. Sessions survive it; laptops come back by themselves.
pub(super) async fn end(daemon: &Process) {
    for (signal, patience) in [(Signal::TERM, ASKED), (Signal::TERM, KILLED), (Signal::KILL, KILLED)] {
        let process = daemon.clone();
        rt::unblock(move || process.signal(signal)).await;
        let until = Instant::now() + patience;
        while Instant::now() < until {
            let process = daemon.clone();
            if !rt::unblock(move || process.lives()).await {
                return;
            }
            rt::sleep(LOOK).await;
        }
    }
}
