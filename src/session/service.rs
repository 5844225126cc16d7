//! One command of a service as a process group: started, shown line by line, ended as a whole.
//!
//! The command waits at a gate (`read`) until its record is written, so that a group that runs is always one that the next
//! `ephemwork` finds. Its input is a pipe that says nothing and ends with this process: dev servers that end with their
//! input do so even after `kill -9` of ephemwork. What a command leaves behind in its group ends with it; what has left the
//! group is found by its mark, and ends with `run_command`, or, if bootstrap or build started it, with the service.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{PipeReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use smol::channel::{Receiver, Sender};

use super::happened::Teller;
use super::lines::Lines;
use super::logs::Log;
use super::machine::{Event, Index};
use super::mark::{self, Marks, Part};
use super::note::{Note, Stage, Status};
use super::records::{Group, Records};
use super::system::{self, Process};
use super::{Said, Show};
use crate::error::{Error, Exit, Result};
use crate::name::Service;
use crate::rt;

/// Waits for the record, then becomes the command.
const GATE: &str = r#"IFS= read -r go && exec /bin/sh -c "$1""#;
/// How long what a command wrote before its end may take to be read; something else may hold the pipe for ever.
const LAST_WORDS: Duration = Duration::from_millis(300);
/// Between two looks at whether a group is gone.
const LOOK: Duration = Duration::from_millis(20);
/// The same for what has left the group, which takes a look at every process of the system.
const LOOK_FAR: Duration = Duration::from_millis(100);
/// How long a killed group may take to be gone; the system needs milliseconds unless a disk or a debugger holds it.
const KILLED: Duration = Duration::from_secs(3);
/// How often a person is told that the end is awaited.
const PROGRESS: Duration = Duration::from_secs(1);
/// The reader's buffer, in bytes.
const BUFFER: usize = 16 * 1024;

/// What is to be started.
pub(super) struct Order {
    pub(super) index: Index,
    pub(super) service: Service,
    pub(super) stage: Stage,
    pub(super) shell: String,
    pub(super) directory: PathBuf,
    pub(super) environment: BTreeMap<OsString, OsString>,
    pub(super) stop_timeout: Duration,
    pub(super) marks: Marks,
}

/// A group that runs, or did. Dropping it kills the group.
pub(super) struct Running {
    group: u32,
    reach: Reach,
    gone: Arc<AtomicBool>,
    stop: Sender<()>,
}

impl Running {
    /// The group's number, which is its first process's.
    pub(super) fn pid(&self) -> u32 {
        self.group
    }

    /// Asks it to end, and makes it end after its stop timeout.
    pub(super) fn stop(&self) {
        // Full or closed: it was asked already, or is gone.
        self.stop.try_send(()).ok();
    }

    /// Ends it now.
    pub(super) fn kill(&self) {
        if !self.gone.load(Ordering::SeqCst) {
            self.reach.kill();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts a command. [`Event::SpawnFailed`] or [`Event::Exited`], and then [`Event::Gone`], come through `teller`.
pub(super) fn start(order: Order, records: Records, log: Log, show: Show, teller: Teller) -> Result<Running> {
    let failed = |why: std::io::Error| {
        let what = format!("{} of service {} cannot be started", order.stage.key(), order.service);
        let missing = !order.directory.is_dir();
        let error = Error::new(Exit::Service, what);
        match missing {
            true => error
                .because(format_args!("the directory {} does not exist", order.directory.display()))
                .hint(format!("set working_directory in [service.{}]", order.service)),
            false => error.because(why),
        }
    };
    let mark = order.marks.value(Part::of(order.stage));
    let (reader, writer) = std::io::pipe().map_err(failed)?;
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", GATE, "sh", &order.shell])
        .current_dir(&order.directory)
        .env_clear()
        .envs(&order.environment)
        .env(mark::NAME, &mark)
        .stdin(std::process::Stdio::piped())
        .stdout(writer.try_clone().map_err(failed)?)
        .stderr(writer)
        .process_group(0);
    let mut child = command.spawn().map_err(failed)?;
    // The command holds the pipe's other ends; with it they must close.
    drop(command);
    let group = child.id();
    let gone = Arc::new(AtomicBool::new(false));
    let (stop, stopped) = smol::channel::bounded(1);
    let output = read(reader, order.service.clone(), log, show).map_err(|why| {
        system::signal_group(group, Signal::KILL);
        child.wait().ok();
        failed(why)
    })?;
    let record = Group {
        leader: Process {
            pid: group,
            birth: String::new(),
        },
        owner: Process::own(),
        service: order.service.to_string(),
        mark: mark.clone(),
    };
    let reach = Reach {
        group: Some(group),
        mark: (order.stage == Stage::Run).then_some(mark),
    };
    let watch = Watch {
        index: order.index,
        reach: reach.clone(),
        records,
        record,
        output,
        gone: gone.clone(),
        stopped,
        timeout: order.stop_timeout,
    };
    rt::spawn(watch.run(child, teller)).detach();
    Ok(Running {
        group,
        reach,
        gone,
        stop,
    })
}

/// What is to be ended together.
#[derive(Clone, Debug)]
pub(super) struct Reach {
    /// A process group.
    pub(super) group: Option<u32>,
    /// A mark, wherever its carriers are.
    pub(super) mark: Option<String>,
}

impl Reach {
    /// The processes outside of the group.
    fn far(&self) -> Vec<Process> {
        let carriers = self.mark.as_deref().map(mark::carriers).unwrap_or_default();
        let far = carriers.into_iter().filter(|carrier| Some(carrier.group) != self.group);
        far.map(|carrier| carrier.process).collect()
    }

    /// Ends it now. Blocks for some milliseconds.
    pub(super) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Each process gets it once: for some a second TERM means to hurry.
    fn signal(&self, signal: Signal) {
        let far = self.far();
        if let Some(group) = self.group {
            system::signal_group(group, signal);
        }
        far.iter().for_each(|process| process.signal(signal));
    }

    async fn signalled(&self, signal: Signal) {
        let reach = self.clone();
        rt::unblock(move || reach.signal(signal)).await;
    }

    /// How long until the next look; `None` when nothing is left.
    async fn left(&self) -> Option<Duration> {
        let reach = self.clone();
        rt::unblock(move || match reach.group {
            Some(group) if system::group_lives(group) => Some(LOOK),
            _ => (!reach.far().is_empty()).then_some(LOOK_FAR),
        })
        .await
    }

    /// Whether nothing was left by then.
    async fn gone(&self, until: Instant) -> bool {
        while let Some(pause) = self.left().await {
            if Instant::now() >= until {
                return false;
            }
            rt::sleep(pause).await;
        }
        true
    }

    /// Asks it to end unless that was done already (`kill_at`), and makes it end.
    pub(super) async fn end(&self, kill_at: Option<Instant>, patience: Duration) {
        if self.left().await.is_none() {
            return;
        }
        let kill_at = match kill_at {
            Some(at) => at,
            None => {
                self.signalled(Signal::TERM).await;
                Instant::now() + patience
            }
        };
        if self.gone(kill_at).await {
            return;
        }
        let give_up = Instant::now() + KILLED;
        // What forks while it is killed is met in the next round.
        while Instant::now() < give_up {
            self.signalled(Signal::KILL).await;
            if self.gone(Instant::now() + LOOK_FAR).await {
                return;
            }
        }
    }
}

struct Watch {
    index: Index,
    reach: Reach,
    records: Records,
    record: Group,
    output: Output,
    gone: Arc<AtomicBool>,
    stopped: Receiver<()>,
    timeout: Duration,
}

impl Watch {
    async fn run(mut self, mut child: Child, teller: Teller) {
        let (index, group) = (self.index, child.id());
        let born = rt::unblock(move || Process::of(group)).await;
        self.record.leader = born.unwrap_or(self.record.leader);
        let input = child.stdin.take();
        let written = self.records.add_group(&self.record).await;
        if written.is_ok()
            && let Some(mut gate) = input.as_ref()
        {
            // A group that was killed meanwhile does not read.
            gate.write_all(b"\n").ok();
        } else {
            system::signal_group(group, Signal::KILL);
        }
        let exit = rt::unblock(move || child.wait());
        let mut exit = std::pin::pin!(exit);
        let asked = async {
            // An error means that the `up` itself is gone.
            self.stopped.recv().await.ok();
            None
        };
        let ended = smol::future::or(async { Some((&mut exit).await) }, asked).await;
        let _told = self.output.tell_slow_end(self.timeout);
        let kill_at = match ended {
            Some(_) => None,
            None => {
                self.reach.signalled(Signal::TERM).await;
                Some(Instant::now() + self.timeout)
            }
        };
        let status = match (ended, kill_at) {
            (Some(status), _) => status,
            (None, Some(at)) => {
                let patient = smol::future::or(async { Some((&mut exit).await) }, async {
                    rt::sleep_until(at).await;
                    None
                });
                match patient.await {
                    Some(status) => status,
                    None => {
                        self.reach.signalled(Signal::KILL).await;
                        exit.await
                    }
                }
            }
            (None, None) => exit.await,
        };
        self.output.last_words().await;
        match written {
            Ok(()) => teller.tell(Event::Exited(index, status_of(status))).await,
            Err(why) => teller.tell(Event::SpawnFailed(index, why)).await,
        }
        self.reach.end(kill_at, self.timeout).await;
        self.gone.store(true, Ordering::SeqCst);
        drop(input);
        if let Err(why) = self.records.remove_group(group).await {
            // The next sweep finds nobody of this birth and forgets it.
            tracing::debug!("{why}");
        }
        teller.tell(Event::Gone(index)).await;
    }
}

fn status_of(status: std::io::Result<ExitStatus>) -> Status {
    match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => Status::Code(code),
            (None, Some(signal)) => Status::Signal(signal),
            (None, None) => Status::Code(-1),
        },
        // Nobody else waits for our children; the system has lost it.
        Err(_) => Status::Code(-1),
    }
}

/// A command's output on its way to a person.
struct Output {
    lines: Arc<Mutex<Lines>>,
    done: Receiver<()>,
    service: Service,
    log: Log,
    show: Show,
}

impl Output {
    /// Says every second, until it is dropped, that the service's end takes time.
    fn tell_slow_end(&self, timeout: Duration) -> rt::Task<()> {
        let (service, show, begun) = (self.service.clone(), self.show.clone(), Instant::now());
        rt::spawn(async move {
            loop {
                rt::sleep(PROGRESS).await;
                show(Said::Note(Note::Ending(service.clone(), begun.elapsed(), timeout)));
            }
        })
    }

    /// Waits for the output's end, and shows a line that has none.
    async fn last_words(&self) {
        // Closed at the end of the pipe; otherwise something that the command left behind holds it.
        rt::timeout(LAST_WORDS, self.done.recv()).await;
        let rest = self.lines.lock().unwrap_or_else(PoisonError::into_inner).finish();
        if let Some(line) = rest {
            let (service, log, show) = (self.service.clone(), self.log.clone(), self.show.clone());
            // Showing may wait for the terminal, and the loop must not.
            let shown = rt::unblock(move || {
                line_of(&service, line, &log, &show);
            });
            rt::timeout(LAST_WORDS, shown).await;
        }
    }
}

/// A complete line, for the log and for people. May wait for the terminal.
fn line_of(service: &Service, line: String, log: &Log, show: &Show) {
    if let Some(why) = log.line(&line) {
        let text = format!("{service}: what it prints is not logged for now: {why}");
        show(Said::Note(Note::Warning(text)));
    }
    show(Said::Line(service.clone(), line));
}

/// Reads on a thread of its own: showing a line may wait for a slow terminal, which must hold up this child and nobody else.
fn read(mut pipe: PipeReader, service: Service, log: Log, show: Show) -> std::io::Result<Output> {
    let lines = Arc::new(Mutex::new(Lines::default()));
    let (end, done) = smol::channel::bounded::<()>(1);
    let output = Output {
        lines: lines.clone(),
        done,
        service: service.clone(),
        log: log.clone(),
        show: show.clone(),
    };
    let work = move || {
        let mut buffer = vec![0; BUFFER];
        while let Ok(count @ 1..) = pipe.read(&mut buffer) {
            let mut complete = Vec::new();
            lines
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(&buffer[..count], |line| complete.push(line));
            for line in complete {
                line_of(&service, line, &log, &show);
            }
        }
        drop(end);
    };
    std::thread::Builder::new()
        .name(format!("output of {}", output.service))
        .spawn(work)?;
    Ok(output)
}
