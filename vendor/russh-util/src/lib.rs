//! What russh asks of a runtime; a copy with one change, see Cargo.toml.

pub mod runtime;
pub mod time;
