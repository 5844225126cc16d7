//! Why a stream through Session Manager ended, in words.

use std::fmt;

use super::DEAD;
use crate::tunnel::Unopened;

/// Why a stream ended, or never was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// The first websocket could not be opened.
    Unopened(Unopened),
    /// The service ended the session; what it said for people, often nothing.
    Closed(String),
    /// The session cannot be resumed.
    Gone(String),
    /// Nothing accepts connections on the port.
    PortClosed,
    /// The agent did not greet.
    NoHandshake,
    /// The document or the agent asks for what cannot be.
    Unfit(String),
    /// What was sent is not acknowledged any more.
    Silent,
    /// This side is done.
    Left,
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Over::Unopened(why) => why.fmt(f),
            Over::Closed(text) if text.trim().is_empty() => f.write_str("Session Manager ended the session"),
            Over::Closed(text) => write!(f, "Session Manager ended the session: {}", one_line(text)),
            Over::Gone(why) => write!(f, "the session cannot be resumed: {why}"),
            Over::PortClosed => f.write_str("nothing accepts connections on port 22 of the instance"),
            Over::NoHandshake => f.write_str("the instance's agent does not answer"),
            Over::Unfit(why) => f.write_str(why),
            Over::Silent => write!(f, "nothing was heard of the instance for {} s", DEAD.as_secs()),
            Over::Left => f.write_str("the connection was closed"),
        }
    }
}

fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().filter(|word| !word.starts_with("-----")).collect();
    words.join(" ")
}
