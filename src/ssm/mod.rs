//! Session Manager's data channel for a port session, seen from the client: one reliable byte stream each way over websockets
//! that come and go. (pure)
//!
//! [`Channel`] has no socket, clock, randomness or task. Its driver opens websockets and tells the channel, hands in what arrives
//! ([`Channel::handle_input`]), writes out what [`Channel::poll_transmit`] gives, and comes back when [`Channel::poll_timeout`] says.
//! Between `send` and `recv` stands what the service does not promise: order, acknowledgement, retransmission, a bounded window.
//! Basic mode only: one session carries one TCP connection of the instance. Multiplexing (smux) is never spoken.
//!
//! The wire format is that of amazon-ssm-agent's `agent/session/contracts` and session-manager-plugin's `message` package: binary
//! messages with a header of 116 bytes, acknowledged one by one, numbered from 0 in each direction.

mod channel;
mod event;
mod handshake;
mod id;
mod incoming;
mod message;
mod outgoing;
mod rate;
mod settings;

#[cfg(test)]
mod tests;

pub use channel::Channel;
pub use event::{Counters, Event, Input, Reason, Refusal, Transmit, Violation};
pub use handshake::{Complete, Request};
pub use id::Id;
pub use message::{Kind, Malformed, Message};
pub use settings::{MAX_PAYLOAD, MIN_PAYLOAD, PLAIN_PAYLOAD, Settings};

/// Time since a beginning that the driver chooses, the same for every call to one channel. It never goes backwards.
pub type Moment = std::time::Duration;
