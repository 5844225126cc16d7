//! The outside as plain data: arguments, environment, directories and what the output is, read once in `main`.
//!
//! Nothing else in the program asks the process for them, so a test can make any `Host` it likes.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use crate::error::{Error, Exit, Result};

/// For who has mistyped.
const WHAT_THERE_IS: &str = "see what there is: ephemwork --help";

/// Reads a text that a person named, of at most `limit` bytes. Only a regular file: a device has no end, and a pipe may never begin.
///
/// # Errors
/// It cannot be read, is no regular file, is longer, or is not UTF-8.
pub fn read_text(path: &Path, limit: u64) -> std::io::Result<String> {
    let wrong = |why: String| std::io::Error::new(std::io::ErrorKind::InvalidInput, why);
    if !std::fs::metadata(path)?.is_file() {
        return Err(wrong("it is not a regular file".to_owned()));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(wrong(format!("it is longer than {limit} bytes")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + good.iter().filter(|&&byte| byte == b'\n').count();
        let byte = error.as_bytes().get(good.len()).copied().unwrap_or_default();
        wrong(format!(
            "it is not UTF-8: line {line} has the byte 0x{byte:02x}; save it as UTF-8"
        ))
    })
}

/// What one run of the program was given.
#[derive(Clone, Debug)]
pub struct Host {
    /// The program's own file, to start another of itself.
    pub executable: PathBuf,
    /// `argv[0]`.
    pub program: String,
    /// The arguments behind it.
    pub arguments: Vec<String>,
    /// The environment; names and values that are not UTF-8 are kept for children only.
    pub environment: BTreeMap<OsString, OsString>,
    /// The current directory.
    pub directory: PathBuf,
    /// Whether stdout is a terminal.
    pub stdout_is_terminal: bool,
    /// Whether stderr is a terminal.
    pub stderr_is_terminal: bool,
}

impl Host {
    /// Reads the process's outside. Call once, first thing in `main`.
    ///
    /// # Errors
    /// The current directory is gone, or an argument is not UTF-8.
    #[allow(clippy::disallowed_methods, reason = "the one home of these calls")]
    pub fn of_process() -> Result<Host> {
        let mut arguments = Vec::new();
        for argument in std::env::args_os() {
            let text = argument
                .into_string()
                .map_err(|bad| Error::new(Exit::Usage, format!("the argument {bad:?} is not UTF-8")).hint(WHAT_THERE_IS))?;
            arguments.push(text);
        }
        let program = if arguments.is_empty() {
            "ephemwork".to_owned()
        } else {
            arguments.remove(0)
        };
        Ok(Host {
            executable: std::env::current_exe()
                .map_err(|why| Error::new(Exit::Bug, "this program's own file is not found").because(why))?,
            program,
            arguments,
            environment: std::env::vars_os().collect(),
            directory: std::env::current_dir().map_err(|why| {
                let gone = Error::new(Exit::Config, "the current directory is gone").because(why);
                gone.hint("go to one that exists: cd")
            })?,
            stdout_is_terminal: std::io::stdout().is_terminal(),
            stderr_is_terminal: std::io::stderr().is_terminal(),
        })
    }

    /// Whether an argument asks for JSON; also of arguments that are not even text.
    #[allow(clippy::disallowed_methods, reason = "the one home of these calls")]
    pub fn asks_for_json() -> bool {
        std::env::args_os().any(|argument| argument == "--json")
    }

    /// A variable's value, when it is set, not empty and UTF-8.
    pub fn variable(&self, name: &str) -> Option<&str> {
        let value = self.environment.get(Path::new(name).as_os_str())?.to_str()?;
        (!value.is_empty()).then_some(value)
    }

    /// Where the laptop's state lives: `EPHEMWORK_HOME`, else `~/.ephemwork`; `None` without either `EPHEMWORK_HOME` or `HOME`.
    pub fn home(&self) -> Option<PathBuf> {
        match self.variable("EPHEMWORK_HOME") {
            Some(home) => Some(self.directory.join(home)),
            None => self.variable("HOME").map(|home| Path::new(home).join(".ephemwork")),
        }
    }

    /// Whether stdout may be coloured: it is a terminal, and `NO_COLOR` (<https://no-color.org>) is not set.
    pub fn colour(&self) -> bool {
        self.stdout_is_terminal && self.variable("NO_COLOR").is_none() && self.variable("TERM") != Some("dumb")
    }
}
