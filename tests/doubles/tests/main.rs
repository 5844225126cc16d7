//! The double by itself, as a process: a small client of data channels that keeps to the rules, and one that breaks each of them.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "a test may panic, and waits for the world outside"
)]

mod bulk;
mod channel;
mod support;
mod violations;
