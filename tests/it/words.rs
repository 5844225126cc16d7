//! What the laptop's commands say when something is wrong, and how: as text, and as JSON whatever it is.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use crate::support::{Process, Workshop, lasting_address, process::Finished};

/// The error's object.
#[track_caller]
fn error(done: &Finished, code: i32) -> serde_json::Value {
    assert_eq!(done.code(), code, "{done:?}");
    let object: serde_json::Value = serde_json::from_str(&done.out).unwrap_or_else(|why| panic!("{why}: {done:?}"));
    assert_eq!(object["error"]["code"], code, "{object}");
    assert!(
        object["error"]["what"].as_str().is_some_and(|what| what.len() > 10),
        "{object}"
    );
    object["error"].clone()
}

#[track_caller]
fn has_hint(error: &serde_json::Value, part: &str) {
    let hint = error["hint"].as_str().unwrap_or_default();
    assert!(hint.contains(part), "{part:?} is not in the hint of {error}");
}

#[test]
fn json_is_json_before_anything_is_understood() {
    let workshop = Workshop::new("alice", "");
    has_hint(
        &error(&workshop.run(&["up", "--nonsense", "--json"]), 2),
        "ephemwork up --help",
    );
    has_hint(&error(&workshop.run(&["--json"]), 2), "--help");
    has_hint(&error(&workshop.run(&["statsu", "--json"]), 2), "--help");

    let mut command = workshop.command(&["status", "--json"]);
    let done = Process::run("not UTF-8", command.arg(OsStr::from_bytes(b"\xff\xfe")));
    has_hint(&error(&done, 2), "--help");
    let mut command = workshop.command(&["up"]);
    let done = Process::run("not UTF-8", command.arg(OsStr::from_bytes(b"\xff\xfe")));
    assert_eq!((done.code(), done.out.as_str()), (2, ""), "{done:?}");
    assert!(done.err.starts_with("error: the argument"), "{done:?}");

    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", "mkdir gone && cd gone && rmdir ../gone && exec \"$0\" up api --json"])
        .arg(env!("CARGO_BIN_EXE_ephemwork"))
        .current_dir(workshop.project());
    has_hint(&error(&Process::run("nowhere", &mut command), 3), "cd");

    let mut command = workshop.command(&["status", "--json"]);
    has_hint(
        &error(&Process::run("loud", command.env("EPHEMWORK_LOG", "loud")), 3),
        "EPHEMWORK_LOG=",
    );
}

#[test]
fn names_that_mean_nothing_are_said() {
    let workshop = Workshop::new("alice", "[service.api]\nport = 9\n[service.web]\nport = 8\n");
    let up = error(&workshop.run(&["up", "something-else", "--json"]), 2);
    assert_eq!(up["why"], "it has: api, web");
    has_hint(&up, "ephemwork up api");
    let down = workshop.run(&["down", "nosuch", "--json"]);
    assert_eq!(down.code(), 0, "{down:?}");
    let object: serde_json::Value = serde_json::from_str(&down.out).unwrap();
    assert_eq!(object["not_up"], serde_json::json!(["nosuch"]), "{object}");
}

#[test]
fn a_file_that_is_no_text_is_said_with_its_line() {
    let workshop = Workshop::new("alice", "");
    let file = workshop.project().join("ephemwork.toml");
    std::fs::write(&file, b"# caf\xc3\xa9\n# caf\xe9\n").unwrap();
    let found = error(&workshop.run(&["up", "api", "--json"]), 3);
    let why = found["why"].as_str().unwrap();
    assert!(
        why.contains("not UTF-8") && why.contains("line 2") && why.contains("0xe9"),
        "{found}"
    );
    has_hint(&found, "ephemwork init");
}

#[test]
fn the_words_fit_together() {
    let workshop = Workshop::new("alice", "[service.api]\nport = 0\nprot = 1\n");
    let done = workshop.run(&["up", "api"]);
    assert_eq!(done.code(), 3, "{done:?}");
    let head = done.err.lines().next().unwrap();
    assert!(head.ends_with("ephemwork.toml:"), "{head:?}");
    let why = error(&workshop.run(&["up", "api", "--json"]), 3)["why"].clone();
    assert!(!why.as_str().unwrap().starts_with(char::is_whitespace), "{why}");

    let port = lasting_address().port();
    for (line, expected) in [
        ("run_command = \"kill -9 $$\"", "service api was killed by signal 9 (SIGKILL)"),
        (
            "build_command = \"kill -TERM $$\"\nrun_command = \"true\"",
            "build_command of service api was killed by signal 15 (SIGTERM)",
        ),
        ("run_command = \"exit 4\"", "service api ended with exit status 4"),
    ] {
        workshop.write("", &format!("[service.api]\nport = {port}\n{line}\n"));
        let done = workshop.run(&["up", "api"]);
        assert_eq!(done.code(), 7, "{done:?}");
        assert!(done.err.contains(expected), "{done:?}");
        assert!(!(done.out + &done.err).contains("with killed"));
    }
    let demo = workshop.run(&["demo", "--once"]);
    assert!(!demo.out.contains("\n\n\n"), "{}", demo.out);
}
