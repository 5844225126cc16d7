//! A stream to the bastion and SSH over it, with the two channels that everything else uses.
//!
//! [`Link::connect`] makes one lane: transport, SSH, the requests channel for `session::serve` and the control
//! channel behind [`Link`]'s methods. A link never reconnects by itself; whoever holds it decides.

pub(crate) mod eice;
pub(crate) mod gate;
pub(crate) mod link;
pub(crate) mod measure;
mod pace;
mod skew;
pub mod ssh;
pub(crate) mod ssm;
pub(crate) mod stream;
pub(crate) mod traffic;
mod transport;
mod websocket;
pub(crate) mod window;

pub use link::{Link, Requests};
pub use ssh::{ClientKey, Login, Unconnected};
pub use transport::Transport;
pub(crate) use transport::{Narrows, Stream};
pub(crate) use websocket::Unopened;
