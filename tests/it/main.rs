#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and waits for the world outside"
)]

mod aws_client;
mod aws_gateway;
mod aws_operations;
mod bulk;
mod children;
mod completions;
mod config;
mod config_cases;
mod contested;
mod corpus;
mod crash;
mod daemon;
mod daemons;
mod demo;
mod descriptors;
mod devservers;
mod directory;
mod doors;
mod down;
mod env_file;
mod floods;
mod framing;
mod grpc;
mod halfclose;
mod http2;
mod init;
mod isolation;
mod laptop;
mod lease;
mod local;
mod logs;
mod manners;
mod metrics;
mod names;
mod openssh;
mod peers_alone;
mod preflight;
mod reasons;
mod records;
mod rekey;
mod rough;
mod shared;
mod smuggling;
mod sshd;
mod staging;
mod streaming;
mod support;
mod syscalls;
mod takeover;
mod targets;
mod trailers;
mod up;
mod ways;
mod websocket;
mod words;
