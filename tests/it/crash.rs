//! `kill -9` of bastiond, of `up` and of the service, each at several moments.

use std::{sync::mpsc, time::Duration};

use rustix::process::Signal;

use crate::support::{
    Bastion, LIMIT, Process, Service, Wire, Workshop, get, need,
    service::{After, ok},
    until,
};

#[test]
fn bastiond_killed_while_idle_comes_back_with_its_sessions() {
    let mut bastion = Bastion::lasting(&["--hold", "0"]);
    let service = Service::saying("yes");
    let ssh = bastion.laptop("alice", &[("api", service.port), ("web", service.port)]);
    let before = bastion.session("alice:api").unwrap();
    for _ in 0..3 {
        bastion.process.kill();
        bastion.restart();
        let after = bastion.session("alice:api").expect("the session is forgotten");
        assert_eq!(after["state"], "leased");
        assert_eq!(after["created"], before["created"]);
        assert_eq!(after["host"], before["host"]);
        // Known but away is another answer than unknown.
        assert_eq!(get(bastion.http, "alice:api", "/").status(), 503);
        assert_eq!(get(bastion.http, "alice:web", "/").status(), 503);
        assert_eq!(get(bastion.http, "alice:other", "/").status(), 404);
    }
    drop(ssh);
    let _ssh = bastion.laptop("alice", &[("api", service.port)]);
    assert_eq!(get(bastion.http, "alice:api", "/").text(), "yes");
    assert_eq!(bastion.session("alice:api").unwrap()["created"], before["created"]);
}

#[test]
fn bastiond_killed_in_the_middle_of_requests_and_claims() {
    let mut bastion = Bastion::lasting(&["--hold", "0"]);
    let service = Service::start(|head, wire| {
        if head.target() == "/long" {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nbeginning");
            wire.rest();
            return After::Close;
        }
        wire.send(ok("yes"));
        After::Keep
    });
    let _first = bastion.laptop("alice", &[("api", service.port)]);
    let mut long = Wire::to(bastion.http);
    long.send("GET /long HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\n\r\n");
    assert_eq!(long.head().expect("no head").status(), 200);
    // Claims are under way when it dies: each one was either answered, and then it is there, or it was not.
    let names: Vec<String> = (0..8).map(|number| format!("s{number}")).collect();
    let claims: Vec<Process> = names
        .iter()
        .map(|name| bastion.claim("bob", &[(name, service.port)]))
        .collect();
    until("some claim to be answered", || {
        claims.iter().any(|ssh| ssh.err().contains("Allocated port")).then_some(())
    });
    bastion.process.kill();
    assert!(long.rest().len() < 1_000_000, "the cut answer ends");
    let answered: Vec<bool> = claims.iter().map(|ssh| ssh.err().contains("Allocated port")).collect();
    bastion.restart();
    assert!(bastion.session("alice:api").is_some());
    for (name, answered) in names.iter().zip(answered) {
        let there = bastion.session(&format!("bob:{name}")).is_some();
        assert!(there || !answered, "the claim of {name} was answered and is forgotten");
    }
}

#[test]
fn one_state_directory_has_one_daemon() {
    let bastion = Bastion::start();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ephemwork"));
    command
        .args(["bastiond", "--http", "127.0.0.1:0", "--ssh", "127.0.0.1:0", "--state"])
        .arg(bastion.path("state"));
    let second = Process::run("a second bastiond", &mut command);
    assert!(!second.status.success());
    assert!(second.err.contains(&bastion.process.pid().to_string()), "{}", second.err);
    assert_eq!(get(bastion.http, "alice:api", "/").status(), 404);
}

#[test]
fn the_service_killed_during_a_request_is_a_502_and_its_return_is_noticed() {
    let bastion = Bastion::start();
    let (started, start) = mpsc::channel();
    let started = std::sync::Mutex::new(started);
    let service = Service::start(move |_, wire| {
        started.lock().unwrap().send(()).unwrap();
        wire.rest();
        After::Close
    });
    let port = service.port;
    let _ssh = bastion.laptop("alice", &[("api", port)]);
    let mut waiting = Wire::to(bastion.http);
    waiting.send("POST / HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\nContent-Length: 2\r\n\r\nab");
    start.recv_timeout(LIMIT).expect("the request did not reach the service");
    drop(service);
    let answer = waiting.answer("POST");
    assert_eq!(answer.status(), 502, "{answer:?}");
    assert_eq!(get(bastion.http, "alice:api", "/").status(), 502);
    // The same port, served by a new process: the session needs nothing but the service.
    let Some(python) = need("python3") else { return };
    std::fs::write(bastion.path("state/hello"), "again").unwrap();
    let mut command = std::process::Command::new(python);
    command
        .args(["-u", "-m", "http.server", "--bind", "127.0.0.1", &port.to_string()])
        .current_dir(bastion.path("state"));
    let mut server = Process::start("http.server", &mut command);
    server.wait_for("Serving HTTP");
    assert_eq!(get(bastion.http, "alice:api", "/hello").text(), "again");
    server.kill();
    assert_eq!(get(bastion.http, "alice:api", "/hello").status(), 502);
}

/// A service of `up` that is a real process of its own.
fn python_service() -> Option<(Workshop, String)> {
    let python = need("python3")?;
    let port = crate::support::lasting_address().port();
    let services = format!(
        "[service.api]\nport = {port}\nrun_command = \"exec '{}' -u -m http.server --bind 127.0.0.1 {port}\"\n",
        python.display()
    );
    let workshop = Workshop::new("alice", &services);
    std::fs::write(workshop.project().join("hello"), "from up").unwrap();
    Some((workshop, services))
}

#[test]
fn up_returns_by_itself_after_bastiond_was_killed() {
    let Some((workshop, _)) = python_service() else { return };
    let mut up = workshop.up(&["api"], &[]);
    for round in 0..3 {
        let old = workshop.bastion_pid().expect("no bastion");
        rustix::process::kill_process(rustix::process::Pid::from_raw(old).unwrap(), Signal::KILL).unwrap();
        until("the session to be back", || {
            assert!(up.ended().is_none(), "up gave up");
            if workshop.bastion_pid() == Some(old) {
                return None;
            }
            let stream = std::net::TcpStream::connect_timeout(&workshop.edge, Duration::from_secs(1)).ok()?;
            let mut wire = Wire::of(stream);
            wire.try_send(b"GET /hello HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\n\r\n")
                .ok()?;
            let head = wire.head()?;
            (head.status() == 200).then_some(())
        });
        assert_eq!(get(workshop.edge, "alice:api", "/hello").text(), "from up", "round {round}");
    }
    until("each loss and each return to be said", || {
        let said = up.said();
        let (lost, back) = (said.matches("lost").count(), said.matches("reconnected after").count());
        (lost == 3 && back == 3).then_some(())
    });
}

#[test]
fn up_killed_while_serving_leaves_nothing_that_the_next_up_does_not_clean() {
    let Some((workshop, _)) = python_service() else { return };
    for verb in [&["status"][..], &["down"], &["up", "api"]] {
        let mut up = workshop.up(&["api"], &[]);
        up.kill();
        drop(up);
        if verb == ["up", "api"] {
            let again = workshop.up(&["api"], &[]);
            assert_eq!(get(workshop.edge, "alice:api", "/hello").text(), "from up");
            drop(again);
            assert_eq!(workshop.run(&["down"]).code(), 0);
        } else {
            workshop.run(verb);
        }
        workshop.wait_no_orphan();
    }
}

#[test]
fn up_killed_during_build_or_start_leaves_no_orphan() {
    let Some((workshop, services)) = python_service() else {
        return;
    };
    let moments = [
        ("bootstrap_command = \"echo moment-now; sleep 600\"\n", ""),
        ("build_command = \"echo moment-now; sleep 600 & wait\"\n", ""),
        ("health_check_path = \"/never\"\nbuild_command = \"echo moment-now\"\n", ""),
    ];
    for (more, tunnel) in moments {
        workshop.write(tunnel, &format!("{services}{more}"));
        let mut up = workshop.start(&["up", "api"]);
        up.wait_for("moment-now");
        up.kill();
        drop(up);
        let finished = workshop.run(&["down"]);
        assert_eq!(finished.code(), 0, "{finished:?}");
        workshop.wait_no_orphan();
    }
}

#[test]
fn the_service_of_up_killed_ends_up_with_7() {
    let Some((workshop, services)) = python_service() else {
        return;
    };
    let kill_service = || {
        let bastion = workshop.bastion_pid();
        let port = services
            .lines()
            .find_map(|line| line.strip_prefix("port = "))
            .unwrap()
            .to_owned();
        let victim = workshop.processes().into_iter().find(|&id| {
            let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            Some(id) != bastion && line.contains("http.server") && line.contains(&port)
        });
        let victim = victim.expect("the service does not run");
        rustix::process::kill_process(rustix::process::Pid::from_raw(victim).unwrap(), Signal::KILL).unwrap();
        victim
    };
    let up = workshop.up(&["api"], &[]);
    kill_service();
    let finished = up.finish();
    assert_eq!(finished.code(), 7, "{finished:?}");
    let said = finished.out + &finished.err;
    assert!(
        said.contains("api") && (said.contains("signal") || said.contains("SIGKILL")),
        "{said}"
    );
    workshop.wait_no_orphan();

    // With --restart on-failure it comes back.
    let mut up = workshop.up(&["api"], &["--restart", "on-failure"]);
    kill_service();
    until("the service to be back", || {
        assert!(up.ended().is_none(), "up ended");
        (get(workshop.edge, "alice:api", "/hello").status() == 200).then_some(())
    });
}
