//! Messages of Session Manager's data channel, by themselves and taken in by a channel.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ephemwork::fuzzing::ssm_message(bytes));
