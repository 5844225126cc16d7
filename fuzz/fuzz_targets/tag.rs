//! The value of X-Ephemwork.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ephemwork::fuzzing::tag(bytes));
