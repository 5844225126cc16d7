//! The laptop's verbs around `up`: down, status, detach, logs, and what they say when something is in the way.

use std::os::unix::fs::PermissionsExt;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Service, Workshop, get, lasting_address, need, until};

#[test]
fn down_ends_the_running_up_also_with_the_bastion_away() {
    let service = Service::saying("yes");
    let workshop = Workshop::new("alice", &format!("[service.api]\nport = {}\n", service.port));
    for away in [false, true] {
        let mut up = workshop.up(&["api"], &["--no-run"]);
        if away {
            // Stopped and not killed: it neither answers nor refuses, and nobody starts a new one.
            let pid = Pid::from_raw(workshop.bastion_pid().unwrap()).unwrap();
            kill_process(pid, Signal::STOP).unwrap();
        }
        let down = workshop.run(&["down"]);
        assert_eq!(down.code(), 0, "{down:?}");
        assert!(up.ended().is_some(), "down came back before up had ended");
        if !away {
            until("the tag to be gone", || {
                (get(workshop.edge, "alice:api", "/").status() == 404).then_some(())
            });
        }
    }
    // Nothing to end is not a failure.
    assert_eq!(workshop.run(&["down"]).code(), 0);
}

#[test]
fn status_tells_what_is_here_and_what_the_bastion_sees() {
    let service = Service::saying("yes");
    let workshop = Workshop::new("alice", &format!("[service.api]\nport = {}\n", service.port));
    let up = workshop.up(&["api"], &["--no-run"]);
    for _ in 0..3 {
        assert_eq!(get(workshop.edge, "alice:api", "/").status(), 200);
    }
    let plain = workshop.run(&["status"]);
    assert_eq!(plain.code(), 0, "{plain:?}");
    assert!(
        plain.out.contains("alice:api") && plain.out.contains(&service.port.to_string()),
        "{}",
        plain.out
    );
    let json = workshop.run(&["status", "--json"]);
    let object: serde_json::Value = serde_json::from_str(&json.out).unwrap_or_else(|why| panic!("{why}: {}", json.out));
    let text = object.to_string();
    for part in [
        "\"alice:api\"",
        &up.pid().to_string(),
        &service.port.to_string(),
        "live",
        "\"requests\":3",
    ] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    drop(up);
    let empty = workshop.run(&["status"]);
    assert_eq!(empty.code(), 0, "{empty:?}");
}

#[test]
fn a_taken_port_is_found_before_anything_starts() {
    let service = Service::saying("somebody else");
    let workshop = Workshop::new(
        "alice",
        &format!(
            "[service.api]\nport = {}\nbuild_command = \"touch built\"\nrun_command = \"sleep 600\"\n",
            service.port
        ),
    );
    let up = workshop.run(&["up", "api"]);
    assert_eq!(up.code(), 6, "{up:?}");
    let said = up.out + &up.err;
    assert!(said.contains(&service.port.to_string()), "{said}");
    assert!(
        said.contains(&std::process::id().to_string()),
        "the holder is not named: {said}"
    );
    assert!(!workshop.project().join("built").exists(), "the build ran");
}

#[test]
fn detach_returns_when_ready_and_logs_show_what_was_said() {
    let Some(python) = need("python3") else { return };
    let port = lasting_address().port();
    let workshop = Workshop::new(
        "alice",
        &format!(
            "[service.api]\nport = {port}\nrun_command = \"echo a line of the service; exec '{}' -u -m http.server --bind 127.0.0.1 {port}\"\n",
            python.display()
        ),
    );
    let up = workshop.run(&["up", "api", "-d"]);
    assert_eq!(up.code(), 0, "{up:?}");
    assert_eq!(get(workshop.edge, "alice:api", "/ephemwork.toml").status(), 200);
    let logs = workshop.run(&["logs", "api"]);
    assert!(logs.out.contains("a line of the service"), "{logs:?}");
    let home = std::fs::metadata(workshop.home()).unwrap().permissions().mode() & 0o777;
    assert_eq!(home, 0o700, "{home:o}");
    assert_eq!(workshop.run(&["down", "api"]).code(), 0);
    workshop.wait_no_orphan();
}

#[test]
fn a_service_that_fails_to_build_or_start_is_7_and_said() {
    for (line, expected) in [
        (
            "build_command = \"echo not today >&2; exit 3\"\nrun_command = \"sleep 600\"",
            "not today",
        ),
        ("run_command = \"echo cannot start >&2; exit 4\"", "cannot start"),
        ("run_command = \"sleep 600\"\nhealth_timeout_seconds = 1", "1"),
    ] {
        let workshop = Workshop::new(
            "alice",
            &format!("[service.api]\nport = {}\n{line}\n", lasting_address().port()),
        );
        let up = workshop.run(&["up", "api"]);
        assert_eq!(up.code(), 7, "{line}: {up:?}");
        let said = up.out + &up.err;
        assert!(said.contains(expected) && said.contains("api"), "{line}: {said}");
        workshop.wait_no_orphan();
    }
}

#[test]
fn ctrl_c_during_the_build_stops_the_whole_group() {
    let workshop = Workshop::new(
        "alice",
        &format!(
            "[service.api]\nport = {}\nbuild_command = \"echo building; sleep 600 & sleep 600\"\nrun_command = \"true\"\n",
            lasting_address().port()
        ),
    );
    let mut up = workshop.start(&["up", "api"]);
    up.wait_for("building");
    up.signal(Signal::INT);
    assert_eq!(up.wait().code(), Some(130), "{}", up.said());
    workshop.wait_no_orphan();
}

#[test]
fn demo_once_shows_both_ways() {
    let workshop = Workshop::new("alice", "");
    let mut command = workshop.command(&["demo", "--once"]);
    let demo = crate::support::Process::run("demo", &mut command);
    assert_eq!(demo.code(), 0, "{demo:?}");
    assert!(demo.out.contains("X-Ephemwork"), "{demo:?}");
}

#[test]
fn two_ups_at_once_share_one_local_bastion() {
    let (api, web) = (Service::saying("api"), Service::saying("web"));
    let workshop = Workshop::new(
        "alice",
        &format!("[service.api]\nport = {}\n[service.web]\nport = {}\n", api.port, web.port),
    );
    let mut first = workshop.start(&["up", "api", "--no-run"]);
    let mut second = workshop.start(&["up", "web", "--no-run"]);
    first.wait_for("X-Ephemwork: alice:api");
    second.wait_for("X-Ephemwork: alice:web");
    assert_eq!(get(workshop.edge, "alice:api", "/").text(), "api");
    assert_eq!(get(workshop.edge, "alice:web", "/").text(), "web");
    let bastions = workshop.processes().into_iter().filter(|id| {
        let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains("bastiond")
    });
    assert_eq!(bastions.count(), 1);
}
