//! `--authorized-keys-command`: a program that prints keys, as sshd's AuthorizedKeysCommand.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::{Bastion, Process, Service, get, make_key, until};

/// A bastion whose keys come from this shell script, and the directory of its files. `$D` in the script is that directory.
fn bastion(script: &str, arguments: &str) -> (Bastion, TempDir) {
    let directory = TempDir::new().unwrap();
    let file = program(directory.path(), script);
    let command = format!("{} {arguments}", file.display());
    (Bastion::with(&["--authorized-keys-command", &command]), directory)
}

fn program(directory: &Path, script: &str) -> PathBuf {
    let file = directory.join("keys");
    std::fs::write(&file, format!("#!/bin/sh\nD={}\n{script}\n", directory.display())).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    file
}

/// What a stock client hears, and how long it took.
fn refused(bastion: &Bastion, user: &str, key: &str) -> Duration {
    let began = Instant::now();
    let finished = Process::run("ssh", &mut bastion.ssh(user, key, &["-N", "-R", "api:0:127.0.0.1:9"]));
    assert!(finished.err.contains("Permission denied"), "{finished:?}");
    began.elapsed()
}

#[test]
fn the_lines_count_and_the_exit_code_does_not() {
    // As AWS's eic_run_authorized_keys: 255 also when there is something to print, an empty line behind it.
    let (bastion, directory) = bastion(
        "echo \"$@\" >>$D/asked\nenv >$D/environment\ncat $D/$1; echo; exit 255",
        "%u %f %t %k %%",
    );
    let line = make_key(&bastion.path("carol"), "whoever");
    std::fs::write(directory.path().join("carol"), format!("{line}\n")).unwrap();
    let service = Service::saying("carol's");
    let _ssh = bastion.laptop("carol", &[("api", service.port)]);
    assert_eq!(get(bastion.http, "carol:api", "/").text(), "carol's");
    let asked = std::fs::read_to_string(directory.path().join("asked")).unwrap();
    let shown = Process::run(
        "ssh-keygen",
        std::process::Command::new("ssh-keygen")
            .arg("-lf")
            .arg(bastion.path("carol.pub")),
    );
    let fingerprint = shown.out.split(' ').nth(1).unwrap();
    let key = line.split(' ').nth(1).unwrap();
    assert_eq!(
        asked.lines().next(),
        Some(format!("carol {fingerprint} ssh-ed25519 {key} %").as_str())
    );
    let environment = std::fs::read_to_string(directory.path().join("environment")).unwrap();
    let names: Vec<&str> = environment.lines().filter_map(|line| line.split('=').next()).collect();
    assert!(
        names
            .iter()
            .all(|name| ["PATH", "PWD", "_", "SHLVL", "OLDPWD"].contains(name)),
        "{environment}"
    );
    // Nobody else's key, nobody else's name; and the file's keys go on.
    make_key(&bastion.path("mallory"), "carol");
    refused(&bastion, "carol", "mallory");
    refused(&bastion, "dave", "carol");
    let _alice = bastion.laptop("alice", &[("api", service.port)]);
}

#[test]
fn options_of_a_line_are_not_overlooked() {
    let (bastion, directory) = bastion("cat $D/lines", "%u");
    let line = make_key(&bastion.path("carol"), "whoever");
    let service = Service::saying("carol's");
    let set = |text: String| std::fs::write(directory.path().join("lines"), text).unwrap();
    set(format!("restrict {line}\n"));
    refused(&bastion, "carol", "carol");
    set(format!("from=\"10.0.0.1\" {line}\n"));
    refused(&bastion, "carol", "carol");
    set(format!("environment=\"EPHEMWORK_USER=dave\" {line}\n"));
    refused(&bastion, "carol", "carol");
    set(format!("nonsense\nenvironment=\"EPHEMWORK_USER=carol\" {line}\n"));
    let _ssh = bastion.laptop("carol", &[("api", service.port)]);
}

#[test]
fn a_command_that_hangs_is_killed_with_its_children() {
    let (bastion, directory) = bastion("echo $$ >$D/pid\n(sleep 600; :) &\necho $! >$D/child\nsleep 600", "%u");
    make_key(&bastion.path("carol"), "whoever");
    let took = refused(&bastion, "carol", "carol");
    assert!(took > Duration::from_secs(5) && took < Duration::from_secs(20), "{took:?}");
    for file in ["pid", "child"] {
        let text = std::fs::read_to_string(directory.path().join(file)).unwrap();
        let process = PathBuf::from(format!("/proc/{}", text.trim()));
        until("the command's processes to be gone", || {
            let status = std::fs::read_to_string(process.join("status")).unwrap_or_default();
            (status.is_empty() || status.contains("State:\tZ")).then_some(())
        });
    }
    let said = bastion.process.err();
    assert!(said.contains("did not end within 6 s and was killed"), "{said}");
}

#[test]
fn what_goes_wrong_is_named_in_the_log() {
    let check = |script: &str, part: &str| {
        let (bastion, _directory) = bastion(script, "%u");
        make_key(&bastion.path("carol"), "whoever");
        refused(&bastion, "carol", "carol");
        until("the log to name it", || bastion.process.err().contains(part).then_some(()));
    };
    check("exit 1", "did not print the key for carol, it printed 0");
    check("yes 'ssh-ed25519 nonsense'", "prints more than 262144 bytes");
    let absent = Bastion::with(&["--authorized-keys-command", "/nowhere/keys %u"]);
    make_key(&absent.path("carol"), "whoever");
    refused(&absent, "carol", "carol");
    until("the log to name it", || {
        absent
            .process
            .err()
            .contains("/nowhere/keys could not be asked: No such file")
            .then_some(())
    });
}
