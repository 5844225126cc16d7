//! The faults of a network on the real programs: see the library. Without root, iproute2 and nftables it says so and skips.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and reads its environment"
)]

mod faults;
mod idle;
mod kept;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Namespaces are named after the process, also the one that tries whether any can be made: whoever needs them does so alone.
fn one_world() -> MutexGuard<'static, ()> {
    static WORLD: Mutex<()> = Mutex::new(());
    WORLD.lock().unwrap_or_else(PoisonError::into_inner)
}
