#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and waits for the world outside"
)]

mod config;
mod directory;
mod init;
