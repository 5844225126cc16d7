//! How `up` treats the service: what it asks of it, and what it blames it for.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, mpsc};

use rustix::process::Signal;

use crate::support::{
    Head, LIMIT, Process, Service, Wire, Workshop, fetch, get,
    service::{After, ok},
    until,
};

/// A framework logged a broken pipe for every look at its health.
#[test]
fn the_health_check_reads_the_answer_to_its_end() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (ended, end) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut head, mut piece) = (Vec::new(), [0; 1024]);
            while !head.windows(4).any(|four| four == b"\r\n\r\n") {
                match stream.read(&mut piece) {
                    Ok(count @ 1..) => head.extend_from_slice(&piece[..count]),
                    _ => break,
                }
            }
            if !head.starts_with(b"GET /health ") {
                continue;
            }
            let body = "x".repeat(100 * 1024);
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let written = stream.write_all(answer.as_bytes());
            // A client that goes with bytes unread resets the connection instead of closing it.
            let closed = stream.read(&mut piece);
            ended.send((written.is_ok(), closed.map_err(|why| why.kind()))).unwrap();
        }
    });
    let workshop = Workshop::new(
        "alice",
        &format!("[service.api]\nport = {port}\nhealth_check_path = \"/health\"\n"),
    );
    let _up = workshop.up(&["api"], &["--no-run"]);
    assert_eq!(end.recv_timeout(LIMIT).unwrap(), (true, Ok(0)));
}

/// It is ready as soon as it has answered, however long it goes on.
#[test]
fn an_endless_health_answer_is_an_answer() {
    let service = Service::start(|_, wire| {
        wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n");
        wire.rest();
        After::Close
    });
    let workshop = Workshop::new(
        "alice",
        &format!(
            "[service.api]\nport = {}\nhealth_check_path = \"/events\"\nhealth_timeout_seconds = 10\n",
            service.port
        ),
    );
    drop(workshop.up(&["api"], &["--no-run"]));
}

/// What the service finds in Host, and where the client's is then; for a request and for an upgrade.
#[test]
fn host_is_kept_or_replaced_as_it_is_told() {
    fn shown(head: &Head) -> String {
        let of = |name: &str| head.field(name).unwrap_or("none").to_owned();
        format!("{} {}", of("host"), of("x-forwarded-host"))
    }
    let service = Service::start(|head, wire| {
        let shown = shown(head);
        match head.field("upgrade") {
            Some(_) => wire.send(format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: test\r\nX-Shown: {shown}\r\n\r\n"
            )),
            None => wire.send(ok(&shown)),
        }
        After::Keep
    });
    let workshop = Workshop::new("alice", "");
    let port = service.port;
    for (host_header, expected) in [
        ("", "staging.example.com none".to_owned()),
        ("host_header = \"keep\"", "staging.example.com none".to_owned()),
        ("host_header = \"local\"", format!("localhost:{port} staging.example.com")),
        ("host_header = \"my.test:1\"", "my.test:1 staging.example.com".to_owned()),
    ] {
        workshop.write("", &format!("[service.api]\nport = {port}\n{host_header}\n"));
        let mut up = workshop.up(&["api"], &["--no-run"]);
        let head = "GET / HTTP/1.1\r\nHost: staging.example.com\r\nX-Ephemwork: alice:api\r\n";
        assert_eq!(fetch(workshop.edge, format!("{head}\r\n")).text(), expected);
        let mut wire = Wire::to(workshop.edge);
        wire.send(format!("{head}Connection: upgrade\r\nUpgrade: test\r\n\r\n"));
        let answer = wire.head().expect("no answer to the upgrade");
        assert_eq!(
            (answer.status(), answer.field("x-shown")),
            (101, Some(expected.as_str())),
            "{host_header}"
        );
        // What another proxy said before stays.
        let told = fetch(workshop.edge, format!("{head}X-Forwarded-Host: first.example\r\n\r\n")).text();
        assert!(told.ends_with(" first.example"), "{host_header}: {told}");
        up.signal(Signal::INT);
        up.wait();
    }
}

/// "nothing accepts connections on port 8000", it said, and the developer looked for the mistake in the service.
#[test]
fn too_many_open_files_are_not_the_services_fault() {
    const OPEN: usize = 48;
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let opened = gate.clone();
    let service = Service::start(move |_, wire| {
        let (open, changed) = &*opened;
        let mut guard = open.lock().unwrap();
        while !*guard {
            guard = changed.wait(guard).unwrap();
        }
        drop(guard);
        wire.send(ok("yes"));
        After::Keep
    });
    let workshop = Workshop::new("alice", &format!("[service.api]\nport = {}\n", service.port));
    let mut command = Command::new("/bin/sh");
    let script = format!("ulimit -n {OPEN}; exec \"$0\" up api --no-run");
    command
        .args(["-c", &script, env!("CARGO_BIN_EXE_ephemwork")])
        .envs(
            workshop
                .command(&[])
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .current_dir(workshop.project());
    // The bastion has its own limit, which this one would inherit.
    drop(workshop.up(&["api"], &["--no-run"]));
    let mut up = Process::start("up with few files", &mut command);
    up.wait_for("X-Ephemwork: alice:api");
    let edge = workshop.edge;
    let askers: Vec<_> = (0..2 * OPEN)
        .map(|_| std::thread::spawn(move || get(edge, "alice:api", "/")))
        .collect();
    let status = || workshop.run(&["status", "--json"]).out;
    until("a request to fail", || status().contains("Too many open files").then_some(()));
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    let answers: Vec<_> = askers.into_iter().map(|asker| asker.join().unwrap()).collect();
    let failed: Vec<_> = answers.iter().filter(|answer| answer.status() == 502).collect();
    assert!(!failed.is_empty());
    for answer in failed {
        let text = answer.text();
        assert!(text.contains("it is not the service's fault"), "{answer:?}");
        assert!(!text.contains("nothing accepts"), "{answer:?}");
    }
    // Once there is room again it goes on.
    assert_eq!(get(edge, "alice:api", "/").text(), "yes");
}
