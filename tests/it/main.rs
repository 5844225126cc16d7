#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and waits for the world outside"
)]

mod aws_client;
mod aws_gateway;
mod aws_operations;
mod bastion_drift;
mod bastion_faults;
mod bastion_live;
mod bastion_refusals;
mod bastion_unit;
mod bulk;
mod children;
mod completions;
mod config;
mod config_cases;
mod corpus;
mod crash;
mod daemon;
mod demo;
mod devservers;
mod directory;
mod doors;
mod down;
mod framing;
mod grpc;
mod http2;
mod init;
mod isolation;
mod laptop;
mod lease;
mod names;
mod openssh;
mod peers_alone;
mod preflight;
mod rekey;
mod release;
mod rough;
mod smuggling;
mod snippets;
mod sshd;
mod streaming;
mod support;
mod syscalls;
mod takeover;
mod unit_files;
mod up;
mod user_data;
mod ways;
mod websocket;
