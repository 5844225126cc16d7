//! What went wrong, said so that a person can go on: what happened, because of what, and what to do next.
//!
//! An [`Error`] carries its exit code; `cli::say` is the one place that prints it. Nothing here prints.

use std::borrow::Cow;
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

/// The longest word of a message that is printed whole, in characters. A key of S3 may have 1024, and people need to copy it.
pub const LONGEST_WORD: usize = 1200;

/// The longest line of a message, in characters. EC2 tells a missing right in a code of some thousand, which AWS's tools decode; in such
/// a line a word may be as long.
pub const LONGEST_LINE: usize = 8000;

/// Before what EC2 wants to be decoded.
const ENCODED: &str = "ncoded authorization failure message";

/// A text as messages show it: of what is too long its beginning and its end, and how much was left out. What came from a person, a file
/// or a server may be of any length, and nobody reads a megabyte.
pub fn short(text: &str) -> Cow<'_, str> {
    if text.len() <= LONGEST_WORD {
        return Cow::Borrowed(text);
    }
    let line = |line: &str| {
        let words: Vec<Cow<'_, str>> = match line.contains(ENCODED) {
            true => vec![Cow::Borrowed(line)],
            false => line.split(' ').map(|word| middle(word, LONGEST_WORD)).collect(),
        };
        middle(&words.join(" "), LONGEST_LINE).into_owned()
    };
    Cow::Owned(text.split('\n').map(line).collect::<Vec<_>>().join("\n"))
}

fn middle(text: &str, most: usize) -> Cow<'_, str> {
    let count = text.chars().count();
    if count <= most {
        return Cow::Borrowed(text);
    }
    // What is quoted ends with its quote, and with what is said behind it.
    let kept = most / 8;
    let first: String = text.chars().take(kept).collect();
    let last: String = text.chars().skip(count - kept).collect();
    Cow::Owned(format!("{first}[{} characters left out]{last}", count - 2 * kept))
}

impl fmt::Display for Error {
    /// The three parts on as many lines, as they stand behind `error: `; [`short`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&short(&self.what))?;
        if let Some(why) = &self.why {
            // A cause of several lines begins on its own.
            let space = if why.starts_with('\n') { "" } else { " " };
            write!(f, ":{space}{}", short(why))?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  {}", short(hint))?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_shortened_in_its_middle() {
        let check = |text: &str, longest: usize, parts: &[&str]| {
            let shown = short(text);
            assert!(shown.chars().count() <= longest, "{}", shown.chars().count());
            parts
                .iter()
                .for_each(|part| assert!(shown.contains(part), "{part} is not in {shown}"));
        };
        let word = "é".repeat(100_000);
        check(
            &format!("--region is \"{word}\""),
            400,
            &["--region is \"é", "[99702 characters left out]", "é\""],
        );
        check(&format!("one\n{word} two\nthree"), 400, &["one\né", "é two\nthree"]);
        check(&"a ".repeat(50_000), 2100, &["characters left out"]);
        let encoded = format!("Encoded authorization failure message: {}", "x".repeat(3000));
        assert_eq!(short(&encoded), encoded);
        check(&encoded.replace('x', "xxxx"), 2100, &["characters left out"]);
        let most = "x".repeat(LONGEST_WORD);
        for whole in ["", "plain", most.as_str()] {
            assert_eq!(short(whole), whole);
        }
    }
}
