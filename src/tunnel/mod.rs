//! A stream to the bastion and SSH over it, with the two channels that everything else uses.
//!
//! [`Link::connect`] makes one lane: transport, SSH, the requests channel for `session::serve` and the control
//! channel behind [`Link`]'s methods. A link never reconnects by itself; whoever holds it decides.

mod link;
pub mod ssh;
pub(crate) mod stream;
mod transport;
pub(crate) mod window;

pub use link::{Link, Requests};
pub use ssh::{ClientKey, Login, is_wrong_host_key};
pub use transport::Transport;
