//! What a running `up` has to tell a person, as data; `cli::say` makes sentences of it.

use std::time::Duration;

use crate::name::Service;

/// Which of a service's commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// `bootstrap_command`.
    Bootstrap,
    /// `build_command`.
    Build,
    /// `run_command`.
    Run,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// By itself, with this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// A command of a service was started.
    Stage(Service, Stage),
    /// Its bootstrap or build has been running for this long.
    Preparing(Service, Stage, Duration),
    /// The service is awaited for this long; the text is what the last look found.
    Waiting(Service, Duration, String),
    /// The service answers.
    Healthy(Service),
    /// A command ended that nobody asked to end; it will be started again after the given time, if any.
    Exited(Service, Stage, Status, Option<Duration>),
    /// The running service did not become healthy again after a restart, for this reason.
    Sick(Service, String, Duration),
    /// What runs of the service is to end, and does not yet after this long; after the second time it is killed.
    Ending(Service, Duration, Duration),
    /// The bastion is being connected for the first time.
    Connecting,
    /// Everything is claimed; the closing block belongs here.
    Ready,
    /// The connection is gone, for this reason.
    Lost(String),
    /// It is still gone after this long.
    StillLost(Duration, String),
    /// It is back after this long.
    Reconnected(Duration),
    /// The bastion is about to stop or restart.
    Draining,
    /// Another machine, or the bastion's admin (`None`), took the service's tag.
    Displaced(Service, Option<String>),
    /// The bastion ended the service's session, for this reason.
    Outlived(Service, String),
    /// One service ends because `down` asked for it.
    Down(Service),
    /// Everything ends.
    Stopping,
    /// What the way to the bastion waits for, or mends.
    Waits(String),
    /// Something that went wrong without consequence.
    Warning(String),
}

impl Stage {
    /// The key in ephemwork.toml.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Stage::Bootstrap => "bootstrap_command",
            Stage::Build => "build_command",
            Stage::Run => "run_command",
        }
    }
}

impl Status {
    /// Whether it ended well.
    pub(crate) fn success(self) -> bool {
        self == Status::Code(0)
    }

    /// How it ended, behind the name of what did: `ended with exit status 1`, `was killed by signal 9 (SIGKILL)`.
    pub(crate) fn after(self, verb: &str) -> String {
        match self {
            Status::Code(code) => format!("{verb} with exit status {code}"),
            Status::Signal(number) => match signal_name(number) {
                Some(name) => format!("was killed by signal {number} ({name})"),
                None => format!("was killed by signal {number}"),
            },
        }
    }
}

/// The signals whose numbers are the same on Linux and macOS (signal(7), POSIX kill(1)).
fn signal_name(number: i32) -> Option<&'static str> {
    Some(match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        _ => return None,
    })
}
