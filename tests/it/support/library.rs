//! The library itself, for what no executable shows: a made-up outside, and its runtime.

use std::{collections::BTreeMap, ffi::OsString, path::PathBuf};

use ephemwork::{host::Host, rt};

/// An outside with these variables and nothing else.
pub(crate) fn host(environment: &[(&'static str, String)]) -> Host {
    let variables = environment
        .iter()
        .map(|(name, value)| (OsString::from(name), OsString::from(value)));
    Host {
        executable: PathBuf::from("/usr/bin/ephemwork"),
        program: "ephemwork".to_owned(),
        arguments: Vec::new(),
        environment: variables.collect::<BTreeMap<_, _>>(),
        directory: PathBuf::from("/"),
        stdout_is_terminal: false,
        stderr_is_terminal: false,
    }
}

/// Runs `main` on the program's runtime.
#[track_caller]
pub(crate) fn run<T>(main: impl Future<Output = T>) -> T {
    rt::block_on(main).unwrap()
}
