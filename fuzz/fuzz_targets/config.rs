//! The text of ephemwork.toml.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ephemwork::fuzzing::config(bytes));
