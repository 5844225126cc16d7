//! The blocks of keys that EC2 Instance Connect shows an instance.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ephemwork::fuzzing::imds_block(bytes));
