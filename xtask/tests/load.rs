//! The short form of `cargo xtask bench load`: some minutes of traffic and faults, and a small crowd. `EPHEMWORK_LOAD_MINUTES=2` asks for
//! it; it is not run otherwise.

use std::path::Path;
use std::process::Command;

#[test]
#[cfg(target_os = "linux")]
#[allow(clippy::disallowed_methods, reason = "how long a test runs is said from outside")]
fn traffic_faults_and_a_crowd() {
    let Ok(minutes) = std::env::var("EPHEMWORK_LOAD_MINUTES") else {
        eprintln!("skipped: EPHEMWORK_LOAD_MINUTES says how many minutes of load (2 or more)");
        return;
    };
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
