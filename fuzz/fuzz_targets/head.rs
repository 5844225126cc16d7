//! Bytes of an HTTP/1 client: the guard, and the rewriting of heads.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ephemwork::fuzzing::head(bytes));
