//! What a hostile tester found: each case tells how somebody got hurt.

use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{Bastion, Service, Workshop, get, lasting_address, until};

/// Far under the time for which a silent client, or a request for a laptop that is away, may be waited for.
const AT_ONCE: Duration = Duration::from_secs(5);

/// A browser connects ahead of its requests, and says nothing for minutes.
#[test]
fn a_client_that_says_nothing_does_not_delay_the_end() {
    let mut bastion = Bastion::start();
    let silent = TcpStream::connect(bastion.http).unwrap();
    until("the connection to be counted", || {
        let page = bastion.admin("GET", "/metrics").text();
        page.lines()
            .any(|line| line.contains("http_connections ") && !line.starts_with('#') && !line.ends_with(" 0"))
            .then_some(())
    });
    let begun = Instant::now();
    bastion.process.signal(Signal::TERM);
    assert_eq!(bastion.process.wait().code(), Some(0), "{}", bastion.process.said());
    assert!(begun.elapsed() < AT_ONCE, "it took {:?}", begun.elapsed());
    drop(silent);
}

/// Two of one machine share their token: with a takeover they displaced each other for ever.
#[test]
fn a_takeover_from_the_same_machine_is_refused() {
    let service = Service::saying("yes");
    let workshop = Workshop::new("alice", &format!("[service.api]\nport = {}\n", service.port));
    let _up = workshop.up(&["api"], &["--no-run"]);
    let second = workshop.run(&["up", "api", "--no-run", "--takeover"]);
    assert_eq!(second.code(), 6, "{second:?}");
    assert!(second.err.contains("ephemwork down api"), "{second:?}");
    assert_eq!(get(workshop.edge, "alice:api", "/").text(), "yes");
}

/// `/dev/zero` filled the memory.
#[test]
fn only_regular_files_are_read() {
    let workshop = Workshop::new(
        "alice",
        "[service.api]\nport = 9\nrun_command = \"true\"\nenv_file = \"/dev/zero\"\n",
    );
    let up = workshop.run(&["up", "api"]);
    assert_eq!(up.code(), 3, "{up:?}");
    assert!(up.err.contains("/dev/zero: it is not a regular file"), "{up:?}");
    let daemon = workshop.run(&[
        "bastiond",
        "--http",
        "127.0.0.1:0",
        "--ssh",
        "127.0.0.1:0",
        "--state",
        "s",
        "--config",
        "/dev/zero",
    ]);
    assert_eq!(daemon.code(), 3, "{daemon:?}");
    assert!(daemon.err.contains("it is not a regular file"), "{daemon:?}");
}

/// Of a file with one mistake it was said that all it has is missing.
#[test]
fn a_file_that_is_not_understood_lacks_nothing() {
    let workshop = Workshop::new("alice", "");
    for (line, said) in [("hold = \"x", "invalid basic string"), ("holt = 3", "holt")] {
        let text = format!("http = \"127.0.0.1:0\"\nssh = \"127.0.0.1:0\"\nstate = \"s\"\n{line}\n");
        std::fs::write(workshop.project().join("bastiond.toml"), text).unwrap();
        let daemon = workshop.run(&["bastiond", "--config", "bastiond.toml"]);
        assert_eq!(daemon.code(), 3, "{daemon:?}");
        assert!(daemon.err.contains(said) && !daemon.err.contains("is missing"), "{daemon:?}");
    }
}

/// The exit code is what a script has when nobody reads stderr, and a panic is no answer.
#[test]
#[cfg(target_os = "linux")]
fn a_full_stderr_costs_the_text_only() {
    for (arguments, code) in [
        (&["bastiond", "--bogus"][..], 2),
        (
            &[
                "bastiond",
                "--http",
                "127.0.0.1:0",
                "--ssh",
                "127.0.0.1:0",
                "--state",
                "/proc/x",
            ],
            3,
        ),
        (&["up", "--bogus"], 2),
    ] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let status = Command::new(env!("CARGO_BIN_EXE_ephemwork"))
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(full)
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(code), "{arguments:?}");
    }
}

/// Somebody else's service was announced as ready, and answered the tagged requests.
#[test]
fn a_port_that_is_taken_during_the_build_is_found() {
    let port = lasting_address().port();
    let workshop = Workshop::new(
        "alice",
        &format!(
            "[service.api]\nport = {port}\nrun_command = \"sleep 600\"\nbuild_command = \"echo building; until [ -e go ]; do sleep 0.05; done\"\n"
        ),
    );
    let mut up = workshop.start(&["up", "api"]);
    up.wait_for("building");
    let thief = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    std::fs::write(workshop.project().join("go"), "").unwrap();
    let up = up.finish();
    assert_eq!(up.code(), 6, "{up:?}");
    assert!(up.err.contains(&format!("port {port} of service api is taken")), "{up:?}");
    drop(thief);
}

/// Requests for what was killed waited ten seconds each, until the lease was over.
#[test]
fn down_gives_back_what_a_killed_up_held() {
    let service = Service::saying("yes");
    let workshop = Workshop::new("alice", &format!("[service.api]\nport = {}\n", service.port));
    let mut up = workshop.up(&["api"], &["--no-run"]);
    up.kill();
    let down = workshop.run(&["down"]);
    assert_eq!(down.code(), 0, "{down:?}");
    let begun = Instant::now();
    assert_eq!(get(workshop.edge, "alice:api", "/").status(), 404);
    assert!(begun.elapsed() < AT_ONCE, "it took {:?}", begun.elapsed());
}

/// "nothing was up", it said, and the service ran on.
#[test]
fn down_says_which_up_does_not_answer() {
    let service = Service::saying("yes");
    let workshop = Workshop::new("alice", &format!("[service.api]\nport = {}\n", service.port));
    let up = workshop.up(&["api"], &["--no-run"]);
    for entry in std::fs::read_dir(workshop.home().join("run")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "sock") {
            std::fs::remove_file(path).unwrap();
        }
    }
    let down = workshop.run(&["down"]);
    assert_eq!(down.code(), 1, "{down:?}");
    assert!(down.err.contains(&format!("kill {}", up.pid())), "{down:?}");
}

/// Somebody pasted a file where a name belongs, and the terminal's scrollback was gone.
#[test]
fn what_is_much_too_long_is_not_echoed_whole() {
    const LENGTH: usize = 100_000;
    const ENOUGH: usize = 4000;
    let long = "x".repeat(LENGTH);
    let option = format!("--{long}");
    let workshop = Workshop::new("alice", "[service.api]\nport = 9\n");
    let check = |arguments: &[&str]| {
        let finished = workshop.run(arguments);
        let said = format!("{}{}", finished.out, finished.err);
        let short: Vec<&str> = arguments.iter().map(|argument| &argument[..argument.len().min(20)]).collect();
        assert_ne!(finished.code(), 0, "{short:?}");
        assert!(said.len() < ENOUGH, "{short:?}: {} bytes: {}", said.len(), &said[..ENOUGH]);
        assert!(said.contains("characters left out]"), "{short:?}: {said}");
    };
    for arguments in [
        [option.as_str()].as_slice(),
        &[&long],
        &["up", &option],
        &["up", &long],
        &["completions", &long],
        &["logs", &long],
        &["bastion", "policy", &long],
        &["bastion", "snippet", &long],
        &["bastion", "init", "--region", &long],
        &["bastion", "init", "--listener-arn", &long],
        &["bastion", "init", "--subnet-id", &long],
        &["bastion", "init", "--bastion-binary-s3-uri", &long, "--ami-id", &long],
        &["bastion", "init", "--json", "--ami-id", &long],
        &["bastiond", &option],
        &["bastiond", "--http", &long],
    ] {
        check(arguments);
    }
    for text in [
        format!("[tunnel]\ntype = \"{long}\"\n"),
        format!("[service.{long}]\nport = 1\n"),
        format!("{long} = 1\n"),
    ] {
        let workshop = Workshop::new("alice", &text);
        let finished = workshop.run(&["up", "api"]);
        let said = format!("{}{}", finished.out, finished.err);
        assert!(finished.code() == 3 && said.len() < ENOUGH, "{} bytes", said.len());
    }
}
