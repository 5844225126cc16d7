//! bastiond's state directory: what is in it, whose it is, and what a daemon that was killed leaves behind.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// How long anything may take that takes milliseconds on an idle machine.
const LIMIT: Duration = Duration::from_secs(30);

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

struct Daemon(Option<Child>);

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Daemon {
    fn start(state: &Path, more: &[&str]) -> Daemon {
        let child = command(state, more).stderr(Stdio::piped()).spawn().unwrap();
        let pid = child.id();
        let daemon = Daemon(Some(child));
        until("ready.json of the new daemon", || {
            let text = std::fs::read_to_string(state.join("ready.json")).ok()?;
            let ready: Value = serde_json::from_str(&text).unwrap();
            (ready["pid"] == pid).then_some(())
        });
        daemon
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.0.as_ref().unwrap().id()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    fn end(mut self) -> Output {
        let mut child = self.0.take().unwrap();
        until("the daemon's end", || child.try_wait().unwrap());
        child.wait_with_output().unwrap()
    }
}

fn command(state: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ephemwork"));
    command.args(["bastiond", "--http", "127.0.0.1:0", "--ssh", "127.0.0.1:0", "--state"]);
    command.arg(state).args(more);
    command
}

fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(start.elapsed() < LIMIT, "waited {LIMIT:?} for {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Status and body of one call over the control socket.
fn call(state: &Path, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut stream = UnixStream::connect(state.join("control.sock")).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    // A daemon that refuses a long body does not read it to its end.
    stream.write_all(body.as_bytes()).ok();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

fn mode(file: &Path) -> u32 {
    std::fs::metadata(file).unwrap().permissions().mode() & 0o777
}

#[test]
fn one_daemon_a_directory_and_nothing_left_behind() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let daemon = Daemon::start(&state, &[]);
    assert_eq!(mode(&state), 0o700);
    for secret in ["host_key", "sessions.redb", "control.sock", "lock"] {
        assert_eq!(mode(&state.join(secret)), 0o600, "{secret}");
    }
    let ready: Value = serde_json::from_slice(&std::fs::read(state.join("ready.json")).unwrap()).unwrap();
    let key = std::fs::read_to_string(state.join("host_key.pub")).unwrap();
    assert!(key.starts_with(ready["host_key"].as_str().unwrap()), "{key}");
    assert_eq!(ready["protocol"], 1);
    assert_eq!(ready["control"], state.join("control.sock").to_str().unwrap());

    let second = command(&state, &[]).output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(6), "{said}");
    assert!(said.contains(&format!("process {}", ready["pid"])), "{said}");
    assert!(
        state.join("ready.json").exists(),
        "the second daemon took the first one's ready.json away"
    );

    daemon.signal(Signal::TERM);
    let output = daemon.end();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!state.join("ready.json").exists());
    assert!(!state.join("control.sock").exists());

    let again = Daemon::start(&state, &[]);
    let after: Value = serde_json::from_slice(&std::fs::read(state.join("ready.json")).unwrap()).unwrap();
    assert_eq!(after["host_key"], ready["host_key"], "the host key must stay");
    drop(again);
    // That one was killed: its ready.json and its sockets are still there, and stop nobody.
    assert!(state.join("control.sock").exists());
    let third = Daemon::start(&state, &[]);
    assert_eq!(call(&state, "GET", "/v1/health", "").0, 200);
    drop(third);
}

#[test]
fn a_damaged_store_is_set_aside_and_said() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path();
    std::fs::write(state.join("sessions.redb"), vec![b'?'; 10_000]).unwrap();
    let daemon = Daemon::start(state, &[]);
    assert_eq!(call(state, "GET", "/v1/sessions", "").1, serde_json::json!({"sessions": []}));
    daemon.signal(Signal::TERM);
    let said = String::from_utf8(daemon.end().stderr).unwrap();
    assert!(
        said.contains("WARN the session store") && said.contains("is damaged"),
        "{said}"
    );
    let names = std::fs::read_dir(state)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.starts_with("sessions.redb.damaged-")).count(), 1);
}

#[test]
fn a_taken_port_is_one_clear_error() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    for flag in ["http", "ssh", "metrics"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ephemwork"));
        command.arg("bastiond").arg("--state").arg(directory.path().join(flag));
        for other in ["http", "ssh", "metrics"] {
            let at = if other == flag { address.as_str() } else { "127.0.0.1:0" };
            command.arg(format!("--{other}")).arg(at);
        }
        let output = command.env("EPHEMWORK_LOG", "error").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(6), "{said}");
        assert!(
            said.starts_with(&format!("error: cannot listen on {address} (--{flag}): ")),
            "{said}"
        );
        assert_eq!(said.matches("error: ").count(), 1, "{said}");
    }
}

#[test]
fn calls_that_are_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path();
    let daemon = Daemon::start(state, &[]);
    let check = |method: &str, path: &str, body: &str, status: u16, part: &str| {
        let (found, answer) = call(state, method, path, body);
        assert_eq!(found, status, "{method} {path} {body:.40}: {answer}");
        assert!(answer.to_string().contains(part), "{method} {path} {body:.40}: {answer}");
    };
    check("GET", "/", "", 404, "/v1/sessions");
    check("PUT", "/v1/release", "{}", 405, "use POST");
    check("POST", "/v1/release", "", 400, "not the JSON");
    check("POST", "/v1/release", "{\"service\": 5}", 400, "not the JSON");
    check("POST", "/v1/release", "{\"service\": \"api\"}", 400, "user:service");
    check("POST", "/v1/release", &" ".repeat(20_000), 413, "longer than 16384 bytes");
    check("POST", "/v1/staging", "{\"staging_url\": null}", 403, "--local");
    check(
        "POST",
        "/v1/release",
        "{\"service\": \"alice:api\"}",
        200,
        "\"released\":false",
    );
    daemon.signal(Signal::HUP);
    check("GET", "/v1/health", "", 200, "serving");
    drop(daemon);
    let local = Daemon::start(state, &["--local", "--exit-when-idle", "600"]);
    check(
        "POST",
        "/v1/staging",
        "{\"staging_url\": \"staging\"}",
        400,
        "must begin with http",
    );
    check(
        "POST",
        "/v1/staging",
        "{\"staging_url\": \"https://staging:8443\"}",
        200,
        "https://staging:8443",
    );
    check("POST", "/v1/staging", "{\"staging_url\": null}", 200, "null");
    drop(local);
}

#[test]
fn an_idle_daemon_ends() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(directory.path(), &["--exit-when-idle", "1"]);
    assert_eq!(daemon.end().status.code(), Some(0));
    assert!(!directory.path().join("ready.json").exists());
}
