//! Programs that the tests talk to and that Rust does not bring: Python with packages, Node, curl, strace.

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
};

/// The program of this name: of the peers' own directories, else of the PATH. Without it the test is skipped with one line,
/// or fails when EPHEMWORK_REQUIRE_PEERS=1.
#[track_caller]
pub(crate) fn need(program: &str) -> Option<PathBuf> {
    let found = places()
        .into_iter()
        .map(|place| place.join(program))
        .find(|path| path.is_file());
    if found.is_none() {
        missing(program);
    }
    found
}

/// A Python that has this module.
#[track_caller]
pub(crate) fn need_module(module: &str) -> Option<PathBuf> {
    // Loading a large package takes a second, and many tests ask for the same one.
    static KNOWN: Mutex<BTreeMap<String, bool>> = Mutex::new(BTreeMap::new());
    let python = need("python3")?;
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let has = *known.entry(module.to_owned()).or_insert_with(|| {
        Command::new(&python)
            .args(["-c", &format!("import {module}")])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    });
    drop(known);
    if !has {
        missing(&format!("Python's {module}"));
    }
    has.then_some(python)
}

/// A file of tests/peers.
pub(crate) fn peer(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(name)
}

/// Where tests/peers/install puts its things.
pub(crate) fn directory() -> PathBuf {
    // The test executable lies in <target>/debug/deps.
    let target = std::env::current_exe()
        .ok()
        .and_then(|path| path.ancestors().nth(3).map(Path::to_owned));
    target.unwrap_or_default().join("peers")
}

fn places() -> Vec<PathBuf> {
    let venv = std::env::var_os("EPHEMWORK_PEERS").map_or_else(|| directory().join("venv"), PathBuf::from);
    let mut places = vec![venv.join("bin"), directory().join("node/node_modules/.bin")];
    places.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    places
}

#[track_caller]
pub(super) fn missing(what: &str) {
    let required = std::env::var("EPHEMWORK_REQUIRE_PEERS").is_ok_and(|value| value == "1");
    assert!(!required, "{what} is missing; run tests/peers/install");
    // Straight to the terminal: the test passes, so that its captured output would not be shown.
    writeln!(std::io::stderr(), "skipped: {what} is missing; run tests/peers/install").ok();
}
