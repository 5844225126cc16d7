//! What an agent asks for before a session's first data, and what it says at the end of that.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ephemwork::fuzzing::ssm_handshake(bytes));
