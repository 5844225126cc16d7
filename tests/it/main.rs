#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and waits for the world outside"
)]

mod bulk;
mod config;
mod crash;
mod daemon;
mod devservers;
mod doors;
mod framing;
mod grpc;
mod http2;
mod init;
mod isolation;
mod laptop;
mod lease;
mod openssh;
mod peers_alone;
mod preflight;
mod rekey;
mod smuggling;
mod sshd;
mod streaming;
mod support;
mod syscalls;
mod takeover;
mod ways;
mod websocket;
