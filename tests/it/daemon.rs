//! bastiond as a process: its readiness, its end, its settings, its counters.

use std::{
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixDatagram,
    process::Command,
    sync::mpsc,
};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::{
    Bastion, LIMIT, Process, Service, Wire, fetch, get, lasting_address,
    service::{After, ok},
    until,
};

fn bastiond(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ephemwork"));
    command.arg("bastiond").args(arguments);
    command
}

#[test]
fn both_names_print_their_versions() {
    let directory = TempDir::new().unwrap();
    let link = directory.path().join("ephemwork-bastiond");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_ephemwork"), &link).unwrap();
    for (mut command, name) in [
        (Command::new(env!("CARGO_BIN_EXE_ephemwork")), "ephemwork "),
        (Command::new(link), "ephemwork-bastiond "),
        (bastiond(&[]), "ephemwork-bastiond "),
    ] {
        let said = Process::run(name, command.arg("--version"));
        assert_eq!(said.code(), 0, "{said:?}");
        assert!(said.out.starts_with(name), "{said:?}");
        assert!(
            said.out.contains(env!("CARGO_PKG_VERSION")) && said.out.contains("protocol 1"),
            "{said:?}"
        );
    }
}

#[test]
fn wrong_settings_are_told_all_at_once() {
    let directory = TempDir::new().unwrap();
    let state = directory.path().to_str().unwrap();
    let said = Process::run(
        "bastiond",
        &mut bastiond(&[
            "--http",
            "nowhere",
            "--ssh",
            "127.0.0.1:99999",
            "--state",
            state,
            "--lease",
            "never",
        ]),
    );
    assert!(matches!(said.code(), 2 | 3), "{said:?}");
    for wrong in ["nowhere", "99999", "never"] {
        assert!(said.err.contains(wrong), "{wrong}: {said:?}");
    }
    let said = Process::run("bastiond", &mut bastiond(&[]));
    assert!(matches!(said.code(), 2 | 3), "{said:?}");
    assert!(said.err.contains("--http") && said.err.contains("--state"), "{said:?}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap().to_string();
    let said = Process::run(
        "bastiond",
        &mut bastiond(&["--http", &at, "--ssh", "127.0.0.1:0", "--state", state]),
    );
    assert!(said.code() != 0 && said.err.contains(&at), "{said:?}");
}

#[test]
fn a_settings_file_and_systemd() {
    let directory = TempDir::new().unwrap();
    let (http, ssh) = (lasting_address(), lasting_address());
    let file = directory.path().join("bastiond.toml");
    let state = directory.path().join("state");
    std::fs::create_dir(&state).unwrap();
    std::fs::write(
        &file,
        format!("http = \"{http}\"\nssh = \"{ssh}\"\nstate = \"state\"\nhold = 1\n"),
    )
    .unwrap();
    let notify = directory.path().join("notify.sock");
    let systemd = UnixDatagram::bind(&notify).unwrap();
    systemd.set_read_timeout(Some(LIMIT)).unwrap();
    let mut command = bastiond(&["--config", file.to_str().unwrap()]);
    let mut process = Process::start("bastiond", command.env("NOTIFY_SOCKET", &notify));
    let mut message = [0; 1000];
    // The listening sockets come first, to be kept.
    let mut told = Vec::new();
    while told.last().is_none_or(|last: &String| !last.contains("READY=1")) {
        let len = systemd.recv(&mut message).expect("systemd is not told");
        told.push(String::from_utf8_lossy(&message[..len]).into_owned());
    }
    for socket in ["http", "ssh"] {
        assert!(
            told.iter()
                .any(|one| one.contains("FDSTORE=1") && one.contains(&format!("FDNAME={socket}"))),
            "{told:?}"
        );
    }
    let health = fetch(http, "GET /ephemwork-health HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(health.status(), 200);
    assert!(Wire::to(ssh).take(8).starts_with(b"SSH-2.0-"));
    process.signal(Signal::TERM);
    let len = systemd.recv(&mut message).expect("systemd is not told of the end");
    assert!(String::from_utf8_lossy(&message[..len]).contains("STOPPING=1"));
    assert_eq!(process.wait().code(), Some(0));
}

#[test]
fn sigterm_finishes_what_is_in_flight() {
    let (started, start) = mpsc::channel();
    let (go_on, gone_on) = mpsc::channel::<()>();
    let (started, gone_on) = (std::sync::Mutex::new(started), std::sync::Mutex::new(gone_on));
    let service = Service::start(move |head, wire| {
        if head.target() == "/long" {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst");
            started.lock().unwrap().send(()).unwrap();
            gone_on.lock().unwrap().recv_timeout(LIMIT).unwrap();
            wire.send("then5");
            return After::Keep;
        }
        wire.send(ok("yes"));
        After::Keep
    });
    let mut bastion = Bastion::start();
    let _ssh = bastion.laptop("alice", &[("api", service.port)]);
    let mut long = Wire::to(bastion.http);
    long.send("GET /long HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\n\r\n");
    start.recv_timeout(LIMIT).unwrap();
    let mut idle = Wire::to(bastion.http);
    idle.send("GET / HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\n\r\n");
    assert_eq!(idle.answer("GET").text(), "yes");
    bastion.process.signal(Signal::TERM);
    until("new connections to be refused", || TcpStream::connect(bastion.http).err());
    // An idle connection is closed, the one in the middle of its answer is not.
    assert_eq!(idle.rest(), b"");
    assert!(
        bastion.process.ended().is_none(),
        "it did not wait:\n{}",
        bastion.process.err()
    );
    go_on.send(()).unwrap();
    let answer = long.answer("GET");
    assert_eq!((answer.status(), answer.text().as_str()), (200, "firstthen5"));
    assert_eq!(bastion.process.wait().code(), Some(0), "{}", bastion.process.err());
    assert!(!bastion.path("state/ready.json").exists());
}

#[test]
fn a_drain_has_an_end() {
    let service = Service::start(|_, wire| {
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst");
        wire.rest();
        After::Close
    });
    let mut bastion = Bastion::with(&["--drain", "1"]);
    let _ssh = bastion.laptop("alice", &[("api", service.port)]);
    let mut long = Wire::to(bastion.http);
    long.send("GET / HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\n\r\n");
    assert_eq!(long.head().expect("no head").status(), 200);
    bastion.process.signal(Signal::TERM);
    assert_eq!(bastion.process.wait().code(), Some(0), "{}", bastion.process.err());
    assert!(long.rest().len() < 10);
}

#[test]
fn it_ends_by_itself_when_idle_and_not_before() {
    let mut bastion = Bastion::with(&["--exit-when-idle", "1", "--lease", "1"]);
    let service = Service::saying("yes");
    let mut ssh = bastion.laptop("alice", &[("api", service.port)]);
    // Two times the idle time with a session and without a request: it stays. Time itself is what is tested here.
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!(get(bastion.http, "alice:api", "/").text(), "yes");
    ssh.kill();
    assert_eq!(bastion.process.wait().code(), Some(0), "{}", bastion.process.err());
}

#[test]
fn counters_count() {
    let page_at = lasting_address();
    let bastion = Bastion::with(&["--metrics", &page_at.to_string(), "--hold", "0"]);
    let service = Service::replying(|head, _| match head.target() {
        "/bad" => b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".to_vec(),
        _ => ok("0123456789"),
    });
    let mut ssh = bastion.laptop("alice", &[("api", service.port)]);
    for path in ["/", "/", "/bad"] {
        get(bastion.http, "alice:api", path);
    }
    get(bastion.http, "nobody:api", "/");
    let page = |at: SocketAddr| fetch(at, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").text();
    let expected = [
        "ephemwork_requests_total{tag=\"alice:api\",status=\"2xx\"} 2",
        "ephemwork_requests_total{tag=\"alice:api\",status=\"5xx\"} 1",
        "ephemwork_requests_total{tag=\"\",status=\"4xx\"} 1",
        "ephemwork_sessions{state=\"live\"} 1",
        "ephemwork_lanes 1",
        "ephemwork_requests_in_flight 0",
        "ephemwork_received_bytes_total 20",
        "ephemwork_request_duration_seconds_count 4",
    ];
    for line in expected {
        until(line, || page(page_at).lines().any(|found| found == line).then_some(()));
    }
    // The same page on the admin's socket.
    let own = bastion.admin("GET", "/metrics").text();
    assert!(own.contains("ephemwork_sessions{state=\"live\"} 1"), "{own}");
    ssh.kill();
    bastion.wait_state("alice:api", "leased");
    assert_eq!(get(bastion.http, "alice:api", "/").status(), 503);
    let page = page(page_at);
    assert!(
        page.contains("ephemwork_sessions{state=\"leased\"} 1") && page.contains("ephemwork_lanes 0"),
        "{page}"
    );
}

#[test]
fn the_admin_socket_knows_its_calls() {
    let bastion = Bastion::start();
    for path in ["/v1/health", "/v1/version"] {
        let answer = bastion.admin("GET", path);
        let health: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(health["status"], "serving", "{health}");
        assert_eq!(health["protocol"], 1);
        assert_eq!(health["http"], bastion.http.to_string());
    }
    for (method, path, status) in [
        ("GET", "/v1/nothing", 404),
        ("POST", "/v1/sessions", 405),
        ("POST", "/v1/claim", 403),
        ("GET", "/v1/events", 404),
    ] {
        let answer = bastion.admin(method, path);
        assert_eq!(answer.status(), status, "{method} {path}: {answer:?}");
        let refusal: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert!(refusal["what"].as_str().is_some_and(|what| what.len() > 5), "{refusal}");
    }
}
