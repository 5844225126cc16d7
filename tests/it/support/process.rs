//! A child process that is collected, watched and certainly ended.

use std::{
    ffi::OsStr,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::{LIMIT, until, until_within};

/// A running child in its own process group; both of its outputs are read all the time.
pub(crate) struct Process {
    name: String,
    child: Child,
    out: Output,
    err: Output,
    /// Where what it said is kept in the end.
    transcript: Option<PathBuf>,
}

/// What a child wrote to one of its outputs so far.
struct Output {
    text: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts it; `name` is for messages.
    #[track_caller]
    pub(crate) fn start(name: &str, command: &mut Command) -> Process {
        use std::os::unix::process::CommandExt;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|why| panic!("cannot start {name} ({command:?}): {why}"));
        let out = Output::collect(child.stdout.take().unwrap());
        let err = Output::collect(child.stderr.take().unwrap());
        Process {
            name: name.to_owned(),
            child,
            out,
            err,
            transcript: transcript(name, command),
        }
    }

    /// Runs it to its end.
    #[track_caller]
    pub(crate) fn run(name: &str, command: &mut Command) -> Finished {
        Process::start(name, command).finish()
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its standard output so far.
    pub(crate) fn out(&self) -> String {
        self.out.text()
    }

    /// Its standard error so far.
    pub(crate) fn err(&self) -> String {
        self.err.text()
    }

    /// Both outputs so far.
    pub(crate) fn said(&self) -> String {
        self.out() + &self.err()
    }

    /// Waits until it has said `text` on either output.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) {
        let name = self.name.clone();
        until(&format!("{name} to say {text:?}"), || {
            let said = self.said().contains(text);
            if !said && let Some(status) = self.child.try_wait().unwrap() {
                let last = self.said();
                assert!(
                    last.contains(text),
                    "{name} ended with {status} before it said {text:?}:\n{last}"
                );
            }
            said.then_some(())
        });
    }

    /// Whether it has ended, and how.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.wait_within(LIMIT)
    }

    /// Waits for its end for at most `limit`, and until all it said is read.
    #[track_caller]
    pub(crate) fn wait_within(&mut self, limit: Duration) -> ExitStatus {
        let name = self.name.clone();
        let status = until_within(limit, &format!("{name} to end"), || self.ended());
        self.out.close();
        self.err.close();
        status
    }

    /// Waits for its end and hands over all it said.
    #[track_caller]
    pub(crate) fn finish(self) -> Finished {
        self.finish_within(LIMIT)
    }

    /// [`Process::finish`] for what may take longer than the usual limit.
    #[track_caller]
    pub(crate) fn finish_within(mut self, limit: Duration) -> Finished {
        let status = self.wait_within(limit);
        Finished {
            status,
            out: self.out(),
            err: self.err(),
        }
    }

    /// Sends it (not its group) a signal; one that has already ended is left alone.
    pub(crate) fn signal(&mut self, signal: Signal) {
        if self.ended().is_none()
            && let Err(why) = kill_process(Pid::from_child(&self.child), signal)
        {
            panic!("cannot signal {}: {why}", self.name);
        }
    }

    /// `kill -9` of this one process, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait();
    }
}

/// Where a program of the product is to be kept; `make test` says in which directory.
fn transcript(name: &str, command: &Command) -> Option<PathBuf> {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let directory = std::env::var_os("EPHEMWORK_TEST_TRANSCRIPTS")?;
    let ours = |text: &OsStr| {
        Path::new(text)
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("ephemwork"))
    };
    if !ours(command.get_program()) && !command.get_args().any(ours) {
        return None;
    }
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name: String = name
        .chars()
        .take(40)
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    Some(Path::new(&directory).join(format!("{}-{number}-{name}.txt", std::process::id())))
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.try_wait().ok().flatten().is_none() {
            // The child is not reaped, so its id cannot belong to anybody else; a group that is gone already is fine.
            kill_process_group(Pid::from_child(&self.child), Signal::KILL).ok();
            self.child.wait().ok();
        }
        if let Some(path) = self.transcript.take() {
            self.out.close();
            self.err.close();
            std::fs::write(path, self.said()).ok();
        }
        if std::thread::panicking() {
            eprintln!(
                "---- {} (pid {}) out\n{}---- err\n{}----",
                self.name,
                self.pid(),
                self.out(),
                self.err()
            );
        }
    }
}

impl Output {
    fn collect(mut from: impl Read + Send + 'static) -> Output {
        let text = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&text);
        let reader = std::thread::spawn(move || {
            let mut piece = [0; 8192];
            while let Ok(len @ 1..) = from.read(&mut piece) {
                sink.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .extend_from_slice(&piece[..len]);
            }
        });
        Output {
            text,
            reader: Some(reader),
        }
    }

    fn text(&self) -> String {
        let bytes = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until everything is read, for a bounded time: a grandchild may still hold the pipe open.
    fn close(&mut self) {
        const GRANDCHILD: Duration = Duration::from_secs(2);
        let Some(reader) = self.reader.take() else { return };
        let start = std::time::Instant::now();
        while !reader.is_finished() && start.elapsed() < GRANDCHILD {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// A process that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Finished {
    /// Its exit code; a signal's end is a failure of the test.
    #[track_caller]
    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("ended by a signal: {self:?}"))
    }
}
