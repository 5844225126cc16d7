//! The parameter in which a bastion publishes its host key.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ephemwork::fuzzing::host_key(bytes));
