//! What a service's commands start outside of their process group: `setsid`, and daemons that fork twice.

use std::process::Command;

use rustix::process::Signal;

use crate::support::{Process, Workshop, lasting_address, need, until};

/// Forks twice, so that it is in another group and session, and nobody's child; writes its number; says that it was asked to end.
const DAEMON: &str = r#"
import os, signal, sys, time
name, ignores = sys.argv[1], len(sys.argv) > 2
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
def asked(*_):
    open(name + ".asked", "w").close()
    if not ignores: os._exit(0)
signal.signal(signal.SIGTERM, asked)
for end in (0, 1, 2): os.close(end)
open(name + ".new", "w").write(str(os.getpid()))
os.rename(name + ".new", name + ".pid")
while True: time.sleep(600)
"#;

/// A service whose commands may call `{daemon}` NAME [ignore].
fn workshop(lines: &str) -> Option<Workshop> {
    let (python, _) = (need("python3")?, need("setsid")?);
    let port = lasting_address().port();
    let lines = lines.replace("{daemon}", &format!("'{}' daemon.py", python.display()));
    let serve = format!("exec '{}' -u -m http.server --bind 127.0.0.1 $PORT", python.display());
    let lines = lines.replace("{serve}", &serve);
    let workshop = Workshop::new("alice", &format!("[service.api]\nport = {port}\n{lines}\n"));
    std::fs::write(workshop.project().join("daemon.py"), DAEMON).unwrap();
    Some(workshop)
}

fn daemon(workshop: &Workshop, name: &str) -> i32 {
    let path = workshop.project().join(format!("{name}.pid"));
    until(&format!("the daemon {name}"), || {
        std::fs::read_to_string(&path).ok()?.parse().ok()
    })
}

fn was_asked(workshop: &Workshop, name: &str) -> bool {
    workshop.project().join(format!("{name}.asked")).exists()
}

#[test]
fn daemons_of_the_service_end_with_it() {
    for ends in ["ctrl-c", "down", "failure"] {
        let Some(workshop) = workshop("run_command = \"{daemon} one; setsid sleep 600 & {serve}\"") else {
            return;
        };
        let mut up = workshop.up(&["api"], &[]);
        let pid = daemon(&workshop, "one");
        assert!(workshop.processes().contains(&pid));
        match ends {
            "ctrl-c" => up.signal(Signal::INT),
            "down" => assert_eq!(workshop.run(&["down"]).code(), 0),
            _ => {
                let server = workshop.processes().into_iter().find(|pid| {
                    let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                    line.contains("http.server")
                });
                let server = rustix::process::Pid::from_raw(server.unwrap()).unwrap();
                rustix::process::kill_process(server, Signal::KILL).unwrap();
            }
        }
        up.wait();
        let bastion = workshop.bastion_pid();
        let left: Vec<i32> = workshop.processes().into_iter().filter(|&id| Some(id) != bastion).collect();
        assert_eq!(left, [0; 0], "{ends}: {}", up.said());
        assert!(was_asked(&workshop, "one"), "{ends}: it was not asked first");
    }
}

#[test]
fn a_daemon_that_ignores_term_is_killed_after_its_time_or_at_once() {
    for hurry in [false, true] {
        let timeout = if hurry { 600 } else { 1 };
        let lines = format!("stop_timeout_seconds = {timeout}\nrun_command = \"{{daemon}} one ignore; {{serve}}\"");
        let Some(workshop) = workshop(&lines) else { return };
        let mut up = workshop.up(&["api"], &[]);
        daemon(&workshop, "one");
        up.signal(Signal::INT);
        until("the daemon to be asked", || was_asked(&workshop, "one").then_some(()));
        let status = until("the end", || {
            if hurry {
                up.signal(Signal::INT);
            }
            up.ended()
        });
        assert_eq!(status.code(), Some(130), "{}", up.said());
        let bastion = workshop.bastion_pid();
        assert!(workshop.processes().iter().all(|&id| Some(id) == bastion), "{}", up.said());
    }
}

/// `bootstrap_command = "pg_ctl start"` is what it is for.
#[test]
fn a_database_that_bootstrap_starts_lives_as_long_as_the_service() {
    let Some(workshop) = workshop(
        "bootstrap_command = \"{daemon} database\"\nbuild_command = \"{daemon} watcher\"\nrun_command = \"{daemon} worker; {serve}\"",
    ) else {
        return;
    };
    let mut up = workshop.up(&["api"], &[]);
    for name in ["database", "watcher", "worker"] {
        let pid = daemon(&workshop, name);
        assert!(workshop.processes().contains(&pid), "{name} is gone");
    }
    up.signal(Signal::TERM);
    assert_eq!(up.wait().code(), Some(0), "{}", up.said());
    let bastion = workshop.bastion_pid();
    assert!(workshop.processes().iter().all(|&id| Some(id) == bastion), "{}", up.said());
    assert!(was_asked(&workshop, "database") && was_asked(&workshop, "worker"));
}

#[test]
fn what_a_killed_up_left_outside_of_its_group_is_found() {
    for verb in [&["status"][..], &["down"], &["up", "api"]] {
        let Some(workshop) = workshop("bootstrap_command = \"{daemon} one\"\nrun_command = \"setsid sleep 600 & {serve}\"")
        else {
            return;
        };
        let mut up = workshop.up(&["api"], &[]);
        let pid = daemon(&workshop, "one");
        up.kill();
        drop(up);
        assert!(workshop.processes().contains(&pid), "the test is void");
        let mut done = workshop.start(verb);
        done.wait_for("left running of api");
        let bastion = workshop.bastion_pid();
        if verb != ["up", "api"] {
            assert_eq!(done.wait().code(), Some(0), "{}", done.said());
            assert!(workshop.processes().iter().all(|&id| Some(id) == bastion), "{verb:?}");
        }
        until("the daemon to be gone", || {
            (!workshop.processes().contains(&pid)).then_some(())
        });
        assert!(was_asked(&workshop, "one"), "{verb:?}: it was not asked first");
    }
}

/// Who is not certainly an orphan of this home lives on.
#[test]
fn nobody_else_is_ended() {
    let Some(workshop) = workshop("run_command = \"{daemon} one; {serve}\"") else {
        return;
    };
    let up = workshop.up(&["api"], &[]);
    let pid = daemon(&workshop, "one");
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    let mark = environment
        .split(|&byte| byte == 0)
        .find_map(|entry| std::str::from_utf8(entry).ok()?.strip_prefix("EPHEMWORK_GROUP="))
        .expect("no mark");
    let parts: Vec<&str> = mark.split('/').collect();
    let other = |at: usize, text: &str| {
        let mut parts = parts.clone();
        parts[at] = text;
        parts.join("/")
    };
    // Another form, another home, no mark at all, and one that only looks like it.
    let values = [other(0, "2"), other(1, "0123456789abcdef"), String::new(), format!("x{mark}")];
    let mut strangers: Vec<Process> = values
        .iter()
        .map(|value| Process::start("stranger", Command::new("sleep").arg("600").env("EPHEMWORK_GROUP", value)))
        .collect();
    // The same home, and an owner that has ended: this one is an orphan.
    let mut orphan = Process::start(
        "orphan",
        Command::new("sleep").arg("600").env("EPHEMWORK_GROUP", other(2, "4194303")),
    );
    let status = workshop.run(&["status"]);
    assert_eq!(status.code(), 0, "{status:?}");
    orphan.wait();
    for (stranger, value) in strangers.iter_mut().zip(&values) {
        assert!(stranger.ended().is_none(), "{value:?} was ended");
    }
    assert!(workshop.processes().contains(&pid), "what a living up has was ended");
    drop(up);
}
