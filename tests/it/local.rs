//! The local bastion when somebody spoilt what it keeps on disk, or has its address.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Service, Workshop, get, until};

/// Well under the half minute for which the end of a bastion is awaited.
const SOON: Duration = Duration::from_secs(20);

fn tunnel_to(api: &Service, web: &Service) -> String {
    format!("[service.api]\nport = {}\n[service.web]\nport = {}\n", api.port, web.port)
}

fn bastions(workshop: &Workshop) -> Vec<i32> {
    let of = |id: &i32| {
        let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains("bastiond")
    };
    workshop.processes().into_iter().filter(of).collect()
}

/// It said that the bastion "is ending" after half a minute of silence, or only that a socket is not there.
#[test]
fn a_bastion_that_lost_its_files_is_replaced() {
    let (service, web) = (Service::saying("yes"), Service::saying("web"));
    for (spoilt, how) in [
        ("ssh.sock", "gone"),
        ("control.sock", "gone"),
        ("ready.json", "gone"),
        ("ready.json", "garbage"),
    ] {
        let workshop = Workshop::new("alice", &tunnel_to(&service, &web));
        let mut first = workshop.up(&["api"], &["--no-run"]);
        let old = workshop.bastion_pid().unwrap();
        let path = workshop.bastion_state().join(spoilt);
        match how {
            "gone" => std::fs::remove_file(&path).unwrap(),
            _ => std::fs::write(&path, "{garbage").unwrap(),
        }
        let begun = Instant::now();
        let mut second = workshop.start(&["up", "web", "--no-run"]);
        second.wait_for(&format!("(process {old}) cannot be used"));
        second.wait_for("X-Ephemwork: alice:web");
        until("one new bastion", || {
            let now = workshop.bastion_pid()?;
            (now != old && bastions(&workshop) == [now]).then_some(())
        });
        assert!(begun.elapsed() < SOON, "{spoilt} {how}: {:?}", begun.elapsed());
        first.wait_for("connected again after");
        assert_eq!(get(workshop.edge, "alice:api", "/").text(), "yes", "{spoilt} {how}");
    }
}

/// A daemon that hangs answers nothing; it is told every second, and ended when it goes on.
#[test]
fn a_bastion_that_hangs_is_replaced() {
    let (service, web) = (Service::saying("yes"), Service::saying("web"));
    let workshop = Workshop::new("alice", &tunnel_to(&service, &web));
    let mut first = workshop.up(&["api"], &["--no-run"]);
    first.signal(Signal::INT);
    first.wait();
    let old = workshop.bastion_pid().unwrap();
    kill_process(Pid::from_raw(old).unwrap(), Signal::STOP).unwrap();
    let mut up = workshop.start(&["up", "api", "--no-run"]);
    up.wait_for("to answer, ");
    up.wait_for("X-Ephemwork: alice:api");
    assert_eq!(get(workshop.edge, "alice:api", "/").text(), "yes");
    assert_eq!(bastions(&workshop), [workshop.bastion_pid().unwrap()]);
}

/// A build of minutes was for nothing.
#[test]
fn an_address_that_something_else_has_is_found_before_anything_starts() {
    let workshop = Workshop::new(
        "alice",
        "[service.api]\nport = 9\nbuild_command = \"touch built\"\nrun_command = \"touch run; sleep 600\"\n",
    );
    let holder = TcpListener::bind(workshop.edge).unwrap();
    let up = workshop.run(&["up", "api"]);
    assert_eq!(up.code(), 6, "{up:?}");
    let parts = [
        format!("{} is taken", workshop.edge),
        format!("process {}", std::process::id()),
        "listen = ".to_owned(),
    ];
    for part in parts {
        assert!(up.err.contains(&part), "{part:?} is missing: {up:?}");
    }
    for file in ["built", "run"] {
        assert!(!workshop.project().join(file).exists(), "{file}: it was begun");
    }
    drop(holder);
}

const OTHER_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

/// One's own bastion, in one's own directory, which nobody else can enter: no reason to send a person to `kill`.
#[test]
fn a_bastion_that_shows_another_host_key_is_replaced() {
    let (service, web) = (Service::saying("yes"), Service::saying("web"));
    for key in [OTHER_KEY, "no key at all"] {
        let workshop = Workshop::new("alice", &tunnel_to(&service, &web));
        let mut first = workshop.up(&["api"], &["--no-run"]);
        let old = workshop.bastion_pid().unwrap();
        let ready = workshop.bastion_state().join("ready.json");
        let mut object: serde_json::Value = serde_json::from_slice(&std::fs::read(&ready).unwrap()).unwrap();
        object["host_key"] = key.into();
        std::fs::write(&ready, object.to_string()).unwrap();
        let mut second = workshop.start(&["up", "web", "--no-run"]);
        second.wait_for(&format!("(process {old}) cannot be used: it shows another host key"));
        second.wait_for("X-Ephemwork: alice:web");
        first.wait_for("connected again after");
        assert_eq!(bastions(&workshop), [workshop.bastion_pid().unwrap()]);
        assert_eq!(get(workshop.edge, "alice:api", "/").text(), "yes", "{key}");
        assert_eq!(get(workshop.edge, "alice:web", "/").text(), "web", "{key}");
    }
}

#[test]
fn keys_that_cannot_be_used_are_said_with_what_to_do() {
    let (service, web) = (Service::saying("yes"), Service::saying("web"));
    let workshop = Workshop::new("alice", &tunnel_to(&service, &web));
    let mut up = workshop.up(&["api"], &["--no-run"]);
    up.signal(Signal::INT);
    up.wait();
    let pid = workshop.bastion_pid().unwrap();
    let state = workshop.bastion_state();
    // Another host key than the one that the bastion shows.
    let ready = state.join("ready.json");
    let text = std::fs::read_to_string(&ready).unwrap();
    let mut object: serde_json::Value = serde_json::from_str(&text).unwrap();
    // It is not at the place where it would be one's own.
    object["host_key"] = OTHER_KEY.into();
    object["ssh"] = format!("unix:{}", state.join("ssh.link").display()).into();
    std::os::unix::fs::symlink(state.join("ssh.sock"), state.join("ssh.link")).unwrap();
    std::fs::write(&ready, object.to_string()).unwrap();
    let up = workshop.run(&["up", "api", "--no-run"]);
    assert_eq!(up.code(), 5, "{up:?}");
    assert!(
        up.err.contains("another host key") && up.err.contains(&format!("kill {pid}")),
        "{up:?}"
    );
    // The advice helps.
    kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    drop(workshop.up(&["api"], &["--no-run"]));
    // The bastion's own host key is spoilt.
    let pid = workshop.bastion_pid().unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    std::fs::write(state.join("host_key"), "garbage").unwrap();
    let up = workshop.run(&["up", "api", "--no-run"]);
    assert!(up.err.contains("host_key") && up.err.contains("move it away"), "{up:?}");
    // The laptop's own key is not even text.
    for garbage in [&b"\xff\xfe\x00"[..], b"no key"] {
        std::fs::write(workshop.home().join("key"), garbage).unwrap();
        let up = workshop.run(&["up", "api", "--no-run"]);
        assert_eq!(up.code(), 3, "{up:?}");
        assert!(up.err.contains("is not a key") && up.err.contains("rm "), "{up:?}");
    }
}
