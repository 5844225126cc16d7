//! systemd's own word on the unit files: nothing in them is unknown to it, and the sandbox is as tight as it was.

use std::{os::unix::fs::symlink, path::Path, process::Command};

use tempfile::TempDir;

use crate::support::{Process, need};

/// The most exposure that `systemd-analyze security` may find, in tenths. Of the 10.0 of a unit without a sandbox a daemon that
/// listens on two ports of the network keeps something under 2.
const EXPOSURE: &str = "20";

#[track_caller]
fn check(unit: &str) {
    let Some(analyze) = need("systemd-analyze") else { return };
    let directory = TempDir::new().unwrap();
    let program = directory.path().join("ephemwork-bastiond");
    symlink(env!("CARGO_BIN_EXE_ephemwork"), &program).unwrap();
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(unit)).unwrap();
    // The file as it stands, but for the place of the program, which must exist.
    let place = "/usr/local/bin/ephemwork-bastiond";
    assert!(text.contains(place), "{unit}");
    let publish = "/usr/local/bin/ephemwork-publish-host-key";
    let text = text.replace(publish, program.to_str().unwrap());
    let file = directory.path().join("ephemwork-bastiond.service");
    std::fs::write(&file, text.replace(place, program.to_str().unwrap())).unwrap();

    let mut verify = Command::new(&analyze);
    verify.args(["verify", "--man=no"]).arg(&file);
    let verified = Process::run("systemd-analyze verify", &mut verify);
    // An unknown key is only a warning, and a sandbox that is not there.
    let ours: Vec<_> = verified.err.lines().filter(|line| line.contains("ephemwork")).collect();
    assert!(verified.status.success() && ours.is_empty(), "{unit}: {verified:?}");

    let mut security = Command::new(&analyze);
    security
        .args(["security", "--offline=true", "--no-pager", "--threshold", EXPOSURE])
        .arg(&file);
    let secured = Process::run("systemd-analyze security", &mut security);
    assert!(secured.status.success(), "{unit}:\n{}{}", secured.out, secured.err);
    assert!(secured.out.contains("Overall exposure level"), "{secured:?}");
}

#[test]
fn by_hand() {
    check("assets/ephemwork-bastiond.service");
}

#[test]
fn on_aws() {
    check("assets/aws/ephemwork-bastiond.service");
}
