//! What stands between a laptop and its bastion in AWS: each with its own sentence and repair.

use serde_json::json;

use crate::support::{Remote, Service};

/// An `up` that cannot work says all of these and ends with this code.
#[track_caller]
fn check(remote: &Remote, user: &str, tunnel: &str, code: i32, parts: &[&str]) {
    let service = Service::saying("never");
    let workshop = remote.workshop(user, tunnel, &[("api", service.port)]);
    let done = remote.run(&workshop, &["up", "api", "--no-run"]);
    assert_eq!(done.code(), code, "{done:?}");
    for part in parts {
        assert!(done.err.contains(part), "{part:?} is missing in:\n{}", done.err);
    }
    let open = remote.ssm.open_sessions();
    assert_eq!(open.len(), 0, "{open:?}");
}

#[test]
fn before_anything_is_called() {
    let Some(remote) = Remote::start(&[]) else { return };
    let unfit = "the user name \"1alice\" cannot be used with a bastion in AWS";
    check(&remote, "1alice", "", 3, &[unfit, "begin with a letter", "EPHEMWORK_USER"]);
    assert_eq!(remote.world.count(), 0);
}

#[test]
fn no_bastion_or_none_that_runs() {
    let Some(remote) = Remote::start(&[]) else { return };
    let named = |state: &str| format!("the bastion {} is {state}", remote.id);
    remote.world.aws("ec2", "StopInstances", json!({"InstanceIds": [remote.id]}));
    check(&remote, "alice", "", 5, &[&named("stopped"), "ephemwork bastion init --live"]);
    remote
        .world
        .aws("ec2", "TerminateInstances", json!({"InstanceIds": [remote.id]}));
    check(
        &remote,
        "alice",
        "",
        5,
        &[&named("terminated"), "make another: ephemwork bastion init --live"],
    );
    let none = "there is no bastion for project \"shop\" in us-east-1";
    check(
        &remote,
        "alice",
        "region = \"us-east-1\"",
        5,
        &[none, "ephemwork bastion init"],
    );
}
