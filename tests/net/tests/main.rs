//! The faults of a network on the real programs: see the library. Without root, iproute2 and nftables it says so and skips.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and reads its environment"
)]

mod faults;
mod kept;
