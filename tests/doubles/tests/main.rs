#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "a test may panic, and waits for the world outside"
)]

mod channel;
mod support;
mod violations;
