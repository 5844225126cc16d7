#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and waits for the world outside"
)]

mod completions;
mod config;
mod config_cases;
mod corpus;
mod init;
mod names;
