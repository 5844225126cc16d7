//! Two machines of one user want the same tag.

use std::process::Command;

use crate::support::{Bastion, Service, Workshop, get};

fn tunnel_to(service: &Service) -> String {
    format!("[service.api]\nport = {}\n", service.port)
}

#[test]
fn the_second_is_refused_until_it_takes_over_and_the_first_is_told() {
    let bastion = Bastion::local(&[]);
    let (mine, other) = (Service::saying("first"), Service::saying("second"));
    let first = Workshop::beside(&bastion, "alice", &tunnel_to(&mine));
    let mut up = first.up(&["api"], &["--no-run"]);
    assert_eq!(get(bastion.http, "alice:api", "/").text(), "first");

    let second = Workshop::beside(&bastion, "alice", &tunnel_to(&other));
    let refused = second.run(&["up", "api", "--no-run"]);
    assert_eq!(refused.code(), 6, "{refused:?}");
    let said = refused.out + &refused.err;
    assert!(said.contains("alice:api") && said.contains("--takeover"), "{said}");
    let host = String::from_utf8(Command::new("uname").arg("-n").output().unwrap().stdout).unwrap();
    assert!(said.contains(host.trim()), "the holder {host} is not named: {said}");
    assert_eq!(get(bastion.http, "alice:api", "/").text(), "first");

    let _taker = second.up(&["api"], &["--no-run", "--takeover"]);
    assert_eq!(get(bastion.http, "alice:api", "/").text(), "second");
    let status = up.wait();
    assert_eq!(status.code(), Some(6), "{}", up.said());
    let told = up.said();
    assert!(told.contains(host.trim()) && told.contains("--takeover"), "{told}");
    // The displaced one does not come back and take it again.
    assert_eq!(get(bastion.http, "alice:api", "/").text(), "second");
}

#[test]
fn up_takes_over_from_an_openssh_laptop() {
    let bastion = Bastion::local(&[]);
    let (mine, other) = (Service::saying("first"), Service::saying("second"));
    let _ssh = bastion.laptop("alice", &[("api", mine.port), ("web", mine.port)]);
    let workshop = Workshop::beside(&bastion, "alice", &tunnel_to(&other));
    let refused = workshop.run(&["up", "api", "--no-run"]);
    assert_eq!(refused.code(), 6, "{refused:?}");
    assert!((refused.out + &refused.err).contains("openssh@"), "the holder is not named");
    let _up = workshop.up(&["api"], &["--no-run", "--takeover"]);
    assert_eq!(get(bastion.http, "alice:api", "/").text(), "second");
    // What was not taken stays where it is.
    assert_eq!(get(bastion.http, "alice:web", "/").text(), "first");
}
