//! Two projects of one developer that share the local bastion.

use std::path::PathBuf;

use rustix::process::Signal;

use crate::support::{Process, Service, Workshop, fetch, until};

/// A second project of the workshop, with the same address.
fn project(workshop: &Workshop, name: &str, tunnel: &str, services: &str) -> PathBuf {
    let directory = workshop.project().join(name);
    std::fs::create_dir_all(&directory).unwrap();
    let text = format!("[tunnel]\nlisten = \"{}\"\n{tunnel}\n{services}", workshop.edge);
    std::fs::write(directory.join("ephemwork.toml"), text).unwrap();
    directory
}

#[track_caller]
fn up(workshop: &Workshop, directory: &PathBuf, service: &str) -> Process {
    let mut command = workshop.command(&["up", service, "--no-run"]);
    let mut up = Process::start(&format!("up {service}"), command.current_dir(directory));
    up.wait_for(&format!("X-Ephemwork: alice:{service}"));
    up
}

#[track_caller]
fn down(mut up: Process) {
    up.signal(Signal::TERM);
    assert_eq!(up.wait().code(), Some(0), "{}", up.said());
}

/// The project without a staging_url took the other's away.
#[test]
fn the_last_up_with_a_staging_url_decides_and_one_without_changes_nothing() {
    let service = Service::saying("mine");
    let (one, two) = (Service::saying("staging one"), Service::saying("staging two"));
    let workshop = Workshop::new("alice", "");
    let services = |name: &str| format!("[service.{name}]\nport = {}\n", service.port);
    let staging = |of: &Service| format!("staging_url = \"http://localhost:{}\"", of.port);
    let first = project(&workshop, "first", &staging(&one), &services("api"));
    let plain = project(&workshop, "plain", "", &services("web"));
    let second = project(&workshop, "second", &staging(&two), &services("shop"));
    let untagged = || fetch(workshop.edge, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");

    let first_up = up(&workshop, &first, "api");
    assert_eq!(untagged().text(), "staging one");
    let plain_up = up(&workshop, &plain, "web");
    assert_eq!(untagged().text(), "staging one", "a project without one took it away");
    let second_up = up(&workshop, &second, "shop");
    assert_eq!(untagged().text(), "staging two");
    let told = format!("process {} had them go to http://localhost:{}", first_up.pid(), one.port);
    assert!(second_up.err().contains(&told), "{}", second_up.said());
    // A new connection of the first to a new bastion says the same as the second.
    let bastion = rustix::process::Pid::from_raw(workshop.bastion_pid().unwrap()).unwrap();
    rustix::process::kill_process(bastion, Signal::KILL).unwrap();
    for up in [&first_up, &plain_up, &second_up] {
        until("everybody to be back", || up.said().contains("connected again").then_some(()));
    }
    assert_eq!(untagged().text(), "staging two");

    down(second_up);
    assert_eq!(untagged().text(), "staging one", "its end gives them back");
    down(first_up);
    assert_eq!(untagged().status(), 404, "who had one is gone");
    down(plain_up);
    // What the last one left behind does not count for the next.
    let first_up = up(&workshop, &first, "api");
    down(first_up);
    let _plain_up = up(&workshop, &plain, "web");
    assert_eq!(untagged().status(), 404);
}
