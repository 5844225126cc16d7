//! The network as it is, for the tests and for `cargo xtask bench faults`: laptop, bastion and client each in a network namespace of
//! its own with a router between them, the real executables in them, and faults put on them while a client asks all the time.
//!
//! `up` reaches its bastion as it does from a VPN (`type = "ec2"`, `transport = "tcp"`), so that nothing of AWS is needed but two
//! calls, which [`plane`] answers. The bastion is kept as systemd keeps it by its unit: see [`keeper`]. It needs root.

#![allow(
    clippy::disallowed_methods,
    reason = "programs and tests of their own: plain threads that may sleep and read the environment"
)]

mod bulk;
pub mod client;
mod faults;
pub mod keeper;
mod names;
pub mod plane;
pub mod process;
pub mod report;
pub mod router;
pub mod service;
mod space;
pub mod world;

pub use faults::{FAULTS, Fault, Form};
pub use space::missing;

use std::time::{Duration, Instant};

/// Stops this thread for a moment.
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Looks every some milliseconds until there is something, for a while.
///
/// # Errors
/// `what` was not there in time.
pub fn until<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T, String> {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if begun.elapsed() > limit {
            return Err(format!("waited {} s for {what}", limit.as_secs()));
        }
        pause(Duration::from_millis(5));
    }
}

/// Plays a role until it is killed, or to its end.
///
/// # Errors
/// It cannot be played.
pub fn run(role: &str, arguments: &[String]) -> Result<(), String> {
    match role {
        "client" => client::main(arguments),
        "hog" => client::hog(arguments),
        "bulk" => bulk::main(arguments),
        "service" => service::main(arguments),
        "keeper" => keeper::main(arguments),
        "plane" => plane::main(arguments),
        "names" => names::main(arguments),
        "router" => router::main(arguments),
        _ => Err("there is no such role".to_owned()),
    }
}
