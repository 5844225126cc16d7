//! The short form of `cargo xtask bench load`: five minutes of traffic and faults, and a small crowd. `EPHEMWORK_LOAD_MINUTES` says
//! another number of minutes.

use std::path::Path;
use std::process::Command;

/// Each kind of fault comes several times, and the bastion then lives on for more than two minutes.
const MINUTES: &str = "5";

#[test]
#[cfg(target_os = "linux")]
#[allow(clippy::disallowed_methods, reason = "how long a test runs is said from outside")]
fn traffic_faults_and_a_crowd() {
    let minutes = std::env::var("EPHEMWORK_LOAD_MINUTES").unwrap_or_else(|_| MINUTES.to_owned());
    let xtask = Path::new(env!("CARGO_BIN_EXE_xtask"));
    let ephemwork = xtask.with_file_name("ephemwork");
    assert!(
        ephemwork.exists(),
        "{} is not built: cargo test --workspace",
        ephemwork.display()
    );
    let mut load = Command::new(xtask);
    load.args(["bench", "load", "--quick", "--minutes", &minutes, "--ephemwork"])
        .arg(ephemwork);
    let status = load.status().unwrap();
    assert!(status.success(), "the load ended with {status}; what was wrong stands above");
}
