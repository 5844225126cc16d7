//! Two `up` of one user want the same tag.

use crate::support::{Service, Workshop, get};

/// A second project of the same developer on "another machine": a home of its own that shares only the local bastion and the key.
fn other_machine(first: &Workshop, services: &str) -> Workshop {
    let other = first.twin(services);
    std::fs::create_dir_all(other.home()).unwrap();
    for name in ["key", "key.pub", "local"] {
        std::os::unix::fs::symlink(first.home().join(name), other.home().join(name)).unwrap();
    }
    other
}

#[test]
fn the_second_is_refused_until_it_takes_over_and_the_first_is_told() {
    let (mine, other) = (Service::saying("first"), Service::saying("second"));
    let first = Workshop::new("alice", &format!("[service.api]\nport = {}\n", mine.port));
    let mut up = first.up(&["api"], &["--no-run"]);
    assert_eq!(get(first.edge, "alice:api", "/").text(), "first");

    let second = other_machine(&first, &format!("[service.api]\nport = {}\n", other.port));
    let refused = second.run(&["up", "api", "--no-run"]);
    assert_eq!(refused.code(), 6, "{refused:?}");
    let said = refused.out + &refused.err;
    assert!(said.contains("alice:api") && said.contains("--takeover"), "{said}");
    let host = String::from_utf8(std::process::Command::new("uname").arg("-n").output().unwrap().stdout).unwrap();
    assert!(said.contains(host.trim()), "the holder {host} is not named: {said}");
    assert_eq!(get(first.edge, "alice:api", "/").text(), "first");

    let _taker = second.up(&["api"], &["--no-run", "--takeover"]);
    assert_eq!(get(first.edge, "alice:api", "/").text(), "second");
    let status = up.wait();
    assert_eq!(status.code(), Some(6), "{}", up.said());
    assert!(up.said().contains("alice:api"), "{}", up.said());
    // The displaced one does not come back and take it again.
    assert_eq!(get(first.edge, "alice:api", "/").text(), "second");
}
