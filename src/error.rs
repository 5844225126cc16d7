//! What went wrong, said so that a person can go on: what happened, because of what, and what to do next.
//!
//! An [`Error`] carries its exit code; `cli::say` is the one place that prints it. Nothing here prints.

use std::fmt;

/// The exit codes of both programs; the README lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It worked.
    Fine = 0,
    /// A mistake in ephemwork itself, or something nobody expected.
    Bug = 1,
    /// The command line is wrong.
    Usage = 2,
    /// ephemwork.toml or a setting is wrong, or asks for what this version cannot do.
    Config = 3,
    /// AWS credentials or permissions.
    Credentials = 4,
    /// The bastion cannot be reached.
    Unreachable = 5,
    /// Somebody else holds what was asked for.
    Conflict = 6,
    /// The developer's own service failed: build, start or health.
    Service = 7,
    /// Ctrl-C, or SIGTERM before everything was ready.
    Interrupted = 130,
}

/// One failure in three parts. `what` is a sentence without a full stop; `why` is the cause as the system told it;
/// `hint` is a command or an act that helps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What happened.
    pub what: String,
    /// Because of what.
    pub why: Option<String>,
    /// What to do next.
    pub hint: Option<String>,
    /// What the process exits with.
    pub exit: Exit,
}

/// The result of everything that can fail before a user.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A failure of which only the sentence is known so far.
    pub fn new(exit: Exit, what: impl Into<String>) -> Error {
        Error {
            what: what.into(),
            why: None,
            hint: None,
            exit,
        }
    }

    /// Adds the cause.
    pub fn because(mut self, why: impl fmt::Display) -> Error {
        self.why = Some(why.to_string());
        self
    }

    /// Adds what to do next.
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Error {
    /// The three parts on as many lines, as they stand behind `error: `.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(why) = &self.why {
            // A cause of several lines begins on its own.
            let space = if why.starts_with('\n') { "" } else { " " };
            write!(f, ":{space}{why}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
