//! What a channel says to its driver: what to write, what happened, and its counters.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use super::settings::PLAIN_PAYLOAD;

/// One websocket message that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input<'a> {
    /// The service sends none; ignored.
    Text(&'a str),
    /// One whole message. It may be kept until `recv`, so it should not hold on to a buffer much larger than itself.
    Binary(Bytes),
}

/// One websocket message to write.
#[derive(Clone, PartialEq, Eq)]
pub enum Transmit {
    /// The first of each websocket. It holds the token: a secret, which does not print itself.
    Text(String),
    Binary(Bytes),
}

impl fmt::Debug for Transmit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Transmit::Text(text) => write!(f, "Text({} bytes)", text.len()),
            Transmit::Binary(bytes) => write!(f, "Binary({} bytes)", bytes.len()),
        }
    }
}

/// What happened. Those marked final come once, and nothing but what was received before follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// HandshakeComplete: from now on data is sent.
    Ready {
        /// The agent's version, four numbers with dots; empty when it did not say.
        agent_version: String,
        /// A sentence of the account's administrator for the person, often empty.
        customer_message: String,
    },
    /// The agent is not attached: data is held back, except for a probe now and then.
    Paused,
    /// The agent is attached again; what was on its way is sent once more.
    Resumed,
    /// Data was sent and none of it acknowledged within [`Settings::first_ack`](super::Settings::first_ack): nothing accepts connections on the port and the
    /// agent's worker died of it, or the worker died of something else. Told once; the channel goes on, the driver should not.
    FirstAckMissing,
    /// No HandshakeComplete within [`Settings::handshake`](super::Settings::handshake) of the first websocket. Told once; the channel goes on, the driver should not.
    HandshakeMissing,
    /// The channel cannot be what is wanted, and has told the agent so; the driver ends the session.
    Refused(Refusal),
    /// The agent could not connect to the port.
    PortRefused,
    /// The websocket seems dead; the driver closes it, says [`disconnected`](super::Channel::disconnected), and resumes the session. Told once for each websocket.
    Reconnect(Reason),
    /// Final: `channel_closed`. What a person should read, often empty: the session ended because one side ended it.
    Closed { output: String },
    /// Final: the peer broke the protocol beyond repair. Only a new session helps.
    Violated(Violation),
}

/// Why a handshake was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The session is not a port session, but of the type that is named.
    SessionType(String),
    /// The session is to be encrypted with a KMS key, which port sessions of AWS never are.
    Encryption,
    /// The agent wants something done that nobody knows.
    Action(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::SessionType(name) => write!(f, "the session is of type {name:?}; a port session is needed"),
            Refusal::Encryption => {
                f.write_str("the session is to be encrypted with a KMS key, which is not done for port sessions")
            }
            Refusal::Action(name) => write!(f, "the agent asks for {name:?}, which is not known here"),
        }
    }
}

/// Why a websocket seems dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nothing came for this long while acknowledgements were awaited.
    Silence(Duration),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Silence(time) => write!(f, "nothing arrived for {} s though answers were due", time.as_secs()),
        }
    }
}

/// How the peer broke the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// The agent sent data without a handshake: a shell's session, not a port's.
    NoHandshake,
    /// HandshakeRequest could not be read.
    Handshake,
    /// This many messages in a row were damaged.
    Damaged(u32),
    /// The gateway refuses messages of this many bytes of payload (close code 1009), and smaller ones would not help or cannot be made.
    TooLarge(usize),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::NoHandshake => f.write_str("the agent sent data without a handshake, as in a shell session"),
            Violation::Handshake => f.write_str("the agent's handshake cannot be read"),
            Violation::Damaged(count) => write!(f, "{count} messages in a row arrived damaged"),
            Violation::TooLarge(bytes) if *bytes > PLAIN_PAYLOAD => {
                write!(
                    f,
                    "the gateway refuses messages with {bytes} bytes of payload, after it took such ones"
                )
            }
            Violation::TooLarge(bytes) => write!(f, "the gateway refuses even messages with {bytes} bytes of payload"),
        }
    }
}

/// What went through, for status, metrics and benchmarks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Websockets opened.
    pub websockets: u64,
    /// Stream messages sent for the first time.
    pub sent: u64,
    /// Stream messages sent again.
    pub retransmitted: u64,
    /// Bytes of data sent for the first time.
    pub bytes_sent: u64,
    /// Acknowledgements of our messages.
    pub acks_received: u64,
    /// Of those, for messages that were acknowledged before.
    pub acks_repeated: u64,
    /// Stream messages that arrived and were new.
    pub received: u64,
    /// Bytes of data that arrived in order.
    pub bytes_received: u64,
    /// Stream messages that arrived once more.
    pub duplicates: u64,
    /// Acknowledgements of the agent's messages.
    pub acks_sent: u64,
    /// Messages dropped because there was no room; the agent sends them again.
    pub dropped: u64,
    /// Messages that could not be read, or did not have the digest they say.
    pub damaged: u64,
    /// `pause_publication`s.
    pub pauses: u64,
}
