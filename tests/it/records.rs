//! The laptop's records when their file is damaged, or when the system does not let anybody use it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::support::{Process, Service, Workshop, get, lasting_address, until};

fn file(workshop: &Workshop) -> PathBuf {
    workshop.home().join("laptop.redb")
}

/// The files that were set aside.
fn aside(workshop: &Workshop) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(workshop.home())
        .unwrap()
        .flatten()
        .map(|entry| entry.path());
    entries
        .filter(|path| path.to_string_lossy().contains("laptop.redb.damaged-"))
        .collect()
}

fn spoil(path: &Path, damage: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = std::fs::read(path).unwrap();
    damage(&mut bytes);
    std::fs::write(path, &bytes).unwrap();
    bytes
}

/// It ended with 134, and with it every verb.
#[test]
fn no_damage_ends_a_verb_and_what_is_damaged_is_kept() {
    let workshop = Workshop::new("alice", "");
    assert_eq!(workshop.run(&["status"]).code(), 0);
    let mode = std::fs::metadata(file(&workshop)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "{mode:o}");
    let whole = std::fs::read(file(&workshop)).unwrap();
    let damages: [fn(&mut Vec<u8>); 6] = [
        |bytes| *bytes = b"not a database\n".repeat(1000),
        |bytes| bytes.truncate(bytes.len() / 3),
        |bytes| bytes[4096..].fill(0),
        |bytes| bytes[64..320].fill(0x5a),
        |bytes| bytes[4096..].iter_mut().step_by(97).for_each(|byte| *byte ^= 0x55),
        |bytes| bytes.truncate(7),
    ];
    for (number, damage) in damages.iter().enumerate() {
        std::fs::write(file(&workshop), &whole).unwrap();
        let spoilt = spoil(&file(&workshop), damage);
        let done = workshop.run(&["status"]);
        assert_eq!(done.code(), 0, "damage {number}: {done:?}");
        assert!(
            done.err.contains("warning: ") && done.err.contains("is damaged"),
            "{number}: {done:?}"
        );
        let kept = aside(&workshop);
        assert_eq!(kept.len(), 1, "damage {number}: {kept:?}");
        assert!(done.err.contains(&kept[0].display().to_string()), "{done:?}");
        assert_eq!(std::fs::read(&kept[0]).unwrap(), spoilt, "damage {number}");
        std::fs::remove_file(&kept[0]).unwrap();
        let again = workshop.run(&["status"]);
        assert_eq!((again.code(), again.err.as_str()), (0, ""), "damage {number}: {again:?}");
    }
}

#[test]
fn orphans_are_found_without_their_records() {
    let port = lasting_address().port();
    let workshop = Workshop::new(
        "alice",
        &format!("[service.api]\nport = {port}\nbuild_command = \"echo begun; sleep 600\"\nrun_command = \"true\"\n"),
    );
    for verb in ["status", "down"] {
        let mut up = workshop.start(&["up", "api"]);
        up.wait_for("begun");
        up.kill();
        spoil(&file(&workshop), |bytes| bytes[4096..].fill(7));
        assert!(!workshop.processes().is_empty(), "the test is void");
        let done = workshop.run(&[verb]);
        assert_eq!(done.code(), 0, "{done:?}");
        assert!((done.out + &done.err).contains("left running of api"));
        assert_eq!(workshop.processes(), [0; 0], "{verb}");
    }
}

#[test]
fn a_running_up_is_found_again_and_keeps_its_session() {
    let service = Service::saying("yes");
    let workshop = Workshop::new("alice", &format!("[service.api]\nport = {}\n", service.port));
    let mut up = workshop.up(&["api"], &["--no-run"]);
    spoil(&file(&workshop), |bytes| bytes.truncate(1000));
    let status = workshop.run(&["status", "--json"]);
    let object: serde_json::Value = serde_json::from_str(&status.out).unwrap_or_else(|why| panic!("{why}: {status:?}"));
    assert_eq!(object["here"][0]["services"][0]["tag"], "alice:api", "{object}");
    assert!(object["warnings"][0].as_str().unwrap().contains("is damaged"), "{object}");
    // The bastion knows the session by its token; the file that had it is gone.
    let bastion = rustix::process::Pid::from_raw(workshop.bastion_pid().unwrap()).unwrap();
    rustix::process::kill_process(bastion, Signal::KILL).unwrap();
    up.wait_for("connected again after");
    assert_eq!(get(workshop.edge, "alice:api", "/").text(), "yes");
    // A second one is still refused, and `down` ends the first.
    assert_eq!(workshop.run(&["up", "api", "--no-run"]).code(), 6);
    assert_eq!(workshop.run(&["down"]).code(), 0);
    assert_eq!(until("up to end", || up.ended()).code(), Some(0), "{}", up.said());
}

#[test]
fn what_the_system_refuses_is_3_with_its_own_words() {
    let workshop = Workshop::new("alice", "");
    let full = |workshop: &Workshop| {
        // A limit on the size of files stands for a full disk; without the trap its signal would end the process.
        let mut command = Command::new("/bin/sh");
        command
            .args([
                "-c",
                "trap '' XFSZ; ulimit -f 0; exec \"$0\" status",
                env!("CARGO_BIN_EXE_ephemwork"),
            ])
            .env("EPHEMWORK_HOME", workshop.home())
            .current_dir(workshop.project());
        Process::run("status on a full disk", &mut command)
    };
    for round in ["without a file", "with one"] {
        let done = full(&workshop);
        assert_eq!(done.code(), 3, "{round}: {done:?}");
        assert!(
            done.err.contains("there is no room") && done.err.contains("df -h"),
            "{round}: {done:?}"
        );
        assert_eq!(workshop.run(&["status"]).code(), 0, "{round}");
        let left = std::fs::read_dir(workshop.home()).unwrap().flatten();
        let left: Vec<_> = left
            .filter(|entry| entry.file_name().to_string_lossy().contains(".new"))
            .collect();
        assert_eq!(left.len(), 0, "{round}: {left:?}");
    }
    assert_eq!(aside(&workshop).len(), 0, "a full disk is no damage");
    std::fs::remove_file(file(&workshop)).unwrap();
    std::fs::create_dir(file(&workshop)).unwrap();
    let done = workshop.run(&["down", "--json"]);
    assert_eq!(done.code(), 3, "{done:?}");
    let object: serde_json::Value = serde_json::from_str(&done.out).unwrap();
    assert!(
        object["error"]["hint"].as_str().unwrap().contains("EPHEMWORK_HOME"),
        "{object}"
    );
}
