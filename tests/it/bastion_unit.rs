//! The systemd unit of the instance starts the real program: its line is read from the file and run, on other ports.

use std::process::Command;

use crate::support::{Process, fetch, until};

const UNIT: &str = include_str!("../../assets/aws/ephemwork-bastiond.service");

#[test]
fn the_line_of_the_unit_starts_the_daemon() {
    let line = UNIT.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let mut words = line.split(' ');
    assert_eq!(words.next(), Some("/usr/local/bin/ephemwork-bastiond"));
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let arguments: Vec<String> = words
        .map(|word| match word {
            "0.0.0.0:80" | "0.0.0.0:22" => "127.0.0.1:0".to_owned(),
            "/var/lib/ephemwork" => state.display().to_string(),
            word => word.to_owned(),
        })
        .collect();
    assert!(
        line.contains("--http 0.0.0.0:80") && line.contains("--ssh 0.0.0.0:22"),
        "{line}"
    );
    // Whoever can send a key through IAM can log in, and nobody else: there is no file of keys on the instance.
    assert!(
        line.contains("--authorize eic") && !line.contains("--authorized-keys"),
        "{line}"
    );
    let program = directory.path().join("ephemwork-bastiond");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_ephemwork"), &program).unwrap();
    let process = Process::start("bastiond", Command::new(program).args(arguments));
    let ready = until("the daemon", || std::fs::read(state.join("ready.json")).ok());
    let ready: serde_json::Value = serde_json::from_slice(&ready).unwrap();
    let at = ready["http"].as_str().unwrap().parse().unwrap();
    let answer = fetch(at, "GET /ephemwork-health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!(answer.status(), 200);
    // What user-data.sh publishes.
    let key = std::fs::read_to_string(state.join("host_key.pub")).unwrap();
    assert!(key.starts_with("ssh-ed25519 "), "{key}");
    drop(process);
}

#[test]
fn the_unit_is_hardened() {
    for line in [
        "DynamicUser=yes",
        "ProtectSystem=strict",
        "CapabilityBoundingSet=CAP_NET_BIND_SERVICE",
        "AmbientCapabilities=CAP_NET_BIND_SERVICE",
        "Restart=always",
        "StartLimitIntervalSec=0",
        "NoNewPrivileges=yes",
    ] {
        assert!(UNIT.lines().any(|one| one == line), "{line}");
    }
    assert!(UNIT.contains("\nMemoryMax="));
    // What asks the instance metadata service must reach it.
    assert!(!UNIT.contains("IPAddressDeny") && !UNIT.contains("PrivateNetwork"));
}
