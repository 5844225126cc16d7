//! `ephemwork demo`: a newcomer's first command.

use std::net::TcpListener;

use rustix::process::Signal;

use crate::support::{Process, Workshop};

/// A demo whose directory for temporary files is the workshop's.
fn demo(workshop: &Workshop, arguments: &[&str]) -> std::process::Command {
    let mut command = workshop.command(arguments);
    command.env("TMPDIR", workshop.project());
    command
}

fn nothing_is_left(workshop: &Workshop) {
    let left: Vec<_> = std::fs::read_dir(workshop.project())
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert_eq!(left, ["ephemwork.toml"]);
    let mark = workshop.project().display().to_string();
    let running = std::fs::read_dir("/proc").into_iter().flatten().flatten().filter(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&mark)
    });
    assert_eq!(running.count(), 0);
}

#[test]
fn once_shows_both_answers_and_leaves_nothing() {
    let workshop = Workshop::new("alice", "");
    // Whether the usual address is free does not matter: the second of two has another one.
    let _taken = TcpListener::bind("127.0.0.1:7070");
    let done = Process::run("demo", &mut demo(&workshop, &["demo", "--once"]));
    assert_eq!(done.code(), 0, "{done:?}");
    for part in [
        "X-Ephemwork: alice:api",
        "Hello from this machine",
        "Hello from staging",
        "Served-By: alice:api",
    ] {
        assert!(done.out.contains(part), "{part:?} is missing in {done:?}");
    }
    assert_eq!(done.err, "");
    // No other command finds the demo's directory.
    assert!(!done.out.contains("ephemwork down"), "{done:?}");
    nothing_is_left(&workshop);
}

#[test]
fn several_at_once_all_show_it() {
    let workshop = Workshop::new("alice", "");
    let demos: Vec<Process> = (0..5)
        .map(|_| Process::start("demo", &mut demo(&workshop, &["demo", "--once"])))
        .collect();
    for mut demo in demos {
        assert_eq!(demo.wait().code(), Some(0), "{}", demo.said());
    }
    nothing_is_left(&workshop);
}

#[test]
fn it_stays_until_ctrl_c() {
    let workshop = Workshop::new("alice", "");
    let mut running = Process::start("demo", &mut demo(&workshop, &["demo"]));
    running.wait_for("Ctrl-C ends the demo");
    running.signal(Signal::INT);
    assert_eq!(running.wait().code(), Some(130), "{}", running.said());
    nothing_is_left(&workshop);
}

#[test]
fn ctrl_c_in_the_middle_leaves_nothing() {
    let workshop = Workshop::new("alice", "");
    let mut running = Process::start("demo", &mut demo(&workshop, &["demo"]));
    running.wait_for("starting");
    running.signal(Signal::INT);
    running.wait();
    nothing_is_left(&workshop);
}
