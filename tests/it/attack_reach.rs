//! What a laptop that has a key, and means ill, can reach: nothing on the bastion, nothing beyond it, and of the control API its own.

use std::{
    net::TcpStream,
    os::unix::net::UnixListener,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{
    Bastion, Process, Service, Wire,
    frames::{self, ACK, DATA, END_STREAM, Frames, Outcome, SETTINGS, frame},
    get, heavy, need_module, peer, until,
};

/// Runs the intruder to its end; what became of each thing it tried.
fn intrude(bastion: &Bastion, mode: &str, targets: &[&str]) -> Option<Vec<(String, Value)>> {
    let python = need_module("paramiko")?;
    let mut command = Command::new(python);
    command.arg(peer("intruder.py")).arg(mode);
    command.args([&bastion.ssh.ip().to_string(), &bastion.ssh.port().to_string(), "alice"]);
    command.arg(bastion.path("alice")).args(targets);
    let finished = Process::start("intruder", &mut command).finish_within(Duration::from_secs(120));
    assert_eq!(finished.code(), 0, "{finished:?}");
    let line = |line: &str| {
        let said: Value = serde_json::from_str(line).unwrap();
        (said["case"].as_str().unwrap().to_owned(), said["outcome"].clone())
    };
    Some(finished.out.lines().map(line).collect())
}

/// The listening sockets of a process, TCP, by their inodes.
fn listening(bastion: &Bastion) -> usize {
    let pid = bastion.process.pid();
    let inodes: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|entry| Some(std::fs::read_link(entry.ok()?.path()).ok()?.to_string_lossy().into_owned()))
        .filter_map(|link| Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let tables = ["tcp", "tcp6"].map(|name| std::fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap());
    let listens = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // proc_net_tcp: state 0A is TCP_LISTEN.
        fields.len() > 9 && fields[3] == "0A" && inodes.iter().any(|inode| inode == fields[9])
    };
    tables.iter().flat_map(|table| table.lines()).filter(listens).count()
}

/// A socket file that counts who comes.
fn watched(bastion: &Bastion, name: &str) -> (String, UnixListener) {
    let path = bastion.path(name);
    let listener = UnixListener::bind(&path).unwrap();
    listener.set_nonblocking(true).unwrap();
    (path.to_str().unwrap().to_owned(), listener)
}

#[test]
fn no_channel_leads_anywhere() {
    let bastion = Bastion::start();
    let inside = Service::saying("inside");
    let (socket, door) = watched(&bastion, "door.sock");
    let before = listening(&bastion);
    assert_eq!(before, 2, "the edge and SSH");
    let control = bastion.path("state/control.sock").to_str().unwrap().to_owned();
    let targets = [
        &format!("127.0.0.1:{}", inside.port),
        &format!("localhost:{}", inside.port),
        &format!("::1:{}", inside.port),
        &format!("0.0.0.0:{}", inside.port),
        &bastion.http.to_string(),
        &bastion.ssh.to_string(),
        "169.254.169.254:80",
        "fd00:ec2::254:80",
        &control,
        &socket,
    ];
    let targets: Vec<&str> = targets.iter().map(|target| target.as_ref()).collect();
    let Some(tried) = intrude(&bastion, "reach", &targets) else {
        return;
    };
    assert!(tried.len() > 80, "{tried:#?}");
    // A name of a service may be an address; it is a tag then, and binds nothing.
    let tags = ["tcpip-forward 127.0.0.1", "tcpip-forward 169.254.169.254"];
    // A shell and a command are granted so that a program of ours can say that there is none.
    let said = ["request shell", "request exec"];
    for (case, outcome) in &tried {
        let outcome = outcome.as_str().unwrap();
        let fine = match case.as_str() {
            case if tags.contains(&case) => outcome == "granted",
            case if said.contains(&case) => outcome == "granted; out ''",
            _ => outcome.starts_with("refused") || outcome == "disconnected",
        };
        assert!(fine, "{case}: {outcome}");
    }
    assert_eq!(inside.connections(), 0);
    assert!(door.accept().is_err(), "somebody came to the socket");
    assert_eq!(listening(&bastion), before);
    assert!(bastion.session("bob:web").is_none());
}

/// The same with the client that everybody has.
#[test]
fn openssh_reaches_nothing_either() {
    let bastion = Bastion::start();
    let inside = Service::saying("inside");
    let control = bastion.path("state/control.sock").to_str().unwrap().to_owned();
    let near = inside.address().to_string();
    for target in [
        near.as_str(),
        "169.254.169.254:80",
        "[fd00:ec2::254]:80",
        &bastion.ssh.to_string(),
    ] {
        let finished = Process::run("ssh -W", &mut bastion.ssh("alice", "alice", &["-W", target]));
        assert!(!finished.status.success(), "{target}: {finished:?}");
        assert!(finished.err.contains("administratively prohibited"), "{target}: {finished:?}");
    }
    let local = bastion.path("local.sock");
    let forward = format!("{}:{control}", local.display());
    let ssh = Process::start("ssh -L", &mut bastion.ssh("alice", "alice", &["-N", "-L", &forward]));
    let mut wire = until("ssh -L to listen", || Wire::to_file(&local).ok());
    wire.send("GET /v1/sessions?all=true HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(wire.rest(), b"");
    until("the refusal", || {
        ssh.err().contains("administratively prohibited").then_some(())
    });
    // A layer-3 tunnel, a remote forward of a socket, a dynamic one from the bastion.
    for options in [
        &["-N", "-w", "0:0"][..],
        &["-N", "-R", &format!("{control}:127.0.0.1:9")],
        &["-N", "-R", "1080"],
    ] {
        let finished = Process::run("ssh", &mut bastion.ssh("alice", "alice", options));
        assert!(!finished.status.success(), "{options:?}: {finished:?}");
    }
    assert_eq!(inside.connections(), 0);
}

#[test]
fn nothing_is_granted_before_the_login() {
    let bastion = Bastion::start();
    let Some(tried) = intrude(&bastion, "early", &[]) else {
        return;
    };
    assert!(tried.len() > 40, "{tried:#?}");
    for (case, outcome) in &tried {
        match outcome.as_u64() {
            Some(tries) => assert!(tries <= 7, "{case}: {tries}"),
            None => assert_ne!(outcome, "logged in", "{case}"),
        }
    }
    let sessions = bastion.admin("GET", "/v1/sessions?all=true").text();
    assert!(sessions.contains("\"sessions\":[]"), "{sessions}");
    let said = bastion.process.err();
    assert!(!said.contains("connected user") && !said.contains("panicked"), "{said}");
}

/// Channels and windows without end: counted, or their connection ends; the others are served, and the memory stays.
#[test]
fn channels_and_windows_have_limits() {
    /// A connection's queues, and the largest packets.
    const GROWTH: u64 = 48 * 1024;
    let bastion = Bastion::start();
    let service = Service::saying("yes");
    let _bob = bastion.laptop("bob", &[("api", service.port)]);
    let _turn = heavy();
    let memory = || {
        let text = std::fs::read_to_string(format!("/proc/{}/status", bastion.process.pid())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    let before = memory();
    let Some(tried) = intrude(&bastion, "abuse", &[]) else {
        return;
    };
    assert!(tried.len() > 15, "{tried:#?}");
    for (case, outcome) in &tried {
        match outcome.as_u64() {
            Some(granted) => assert!((1..=8).contains(&granted), "{case}: {granted}"),
            None => assert!(
                outcome
                    .as_str()
                    .is_some_and(|text| text.starts_with("open") || text.starts_with("closed")),
                "{case}"
            ),
        }
    }
    assert_eq!(get(bastion.http, "bob:api", "/").text(), "yes");
    let grown = memory().saturating_sub(before);
    assert!(grown < GROWTH, "{grown} KiB");
    let said = bastion.process.err();
    assert!(!said.contains("panicked"), "{said}");
}

/// The control channel of one user, spoken by hand over OpenSSH.
struct Control {
    ssh: std::process::Child,
    frames: Frames,
    stream: u32,
}

impl Drop for Control {
    fn drop(&mut self) {
        self.ssh.kill().ok();
        self.ssh.wait().ok();
    }
}

impl Control {
    fn open(bastion: &Bastion, user: &str) -> Control {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let second = theirs.try_clone().unwrap();
        let mut command = bastion.ssh(user, user, &["-T", "-s"]);
        command.arg("ephemwork-control");
        command.stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)));
        command.stdout(Stdio::from(std::os::fd::OwnedFd::from(second)));
        let ssh = command.spawn().unwrap();
        let mut frames = Frames(Wire::of_file(ours));
        frames.0.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        frames.send(&frame(SETTINGS, 0, 0, b""));
        frames.send(&frame(SETTINGS, ACK, 0, b""));
        Control { ssh, frames, stream: 1 }
    }

    #[track_caller]
    fn call(&mut self, method: &str, path: &str, body: &Value) -> Value {
        let fields = [
            (":method", method),
            (":scheme", "http"),
            (":path", path),
            (":authority", "bastion"),
            ("content-type", "application/json"),
        ];
        self.frames.send(&frames::head(self.stream, 0, &fields));
        self.frames
            .send(&frame(DATA, END_STREAM, self.stream, body.to_string().as_bytes()));
        let outcome = self.frames.outcome(self.stream);
        self.stream += 2;
        match outcome {
            Outcome::Text(text) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
            other => panic!("{path}: {other:?}"),
        }
    }
}

#[test]
fn the_control_api_gives_a_user_their_own() {
    let bastion = Bastion::start();
    let service = Service::saying("bob's");
    let _bob = bastion.laptop("bob", &[("api", service.port)]);
    assert_eq!(get(bastion.http, "bob:api", "/").text(), "bob's");
    let mut alice = Control::open(&bastion, "alice");
    let claim = |service: &str| json!({"protocol": ephemwork::protocol::VERSION, "service": service, "host": "h", "version": "0", "takeover": true, "lane": 0});
    // A service's name is no way into somebody else's tags.
    for name in ["bob:api", "alice:api", "../bob/api", "api\nbob", "bob%3aapi", ""] {
        let answer = alice.call("POST", "/v1/claim", &claim(name));
        assert!(answer.get("what").is_some(), "{name:?}: {answer}");
    }
    let mine = alice.call("POST", "/v1/claim", &claim("api"));
    assert_eq!(mine["tag"], "alice:api", "{mine}");
    // What it gives back is one's own: bob's stays, whatever is said of the user.
    for body in [
        json!({"service": "bob:api"}),
        json!({"service": "web", "user": "bob"}),
        json!({"user": "bob"}),
    ] {
        let answer = alice.call("POST", "/v1/release", &body);
        assert!(answer["released"] != true, "{body}: {answer}");
    }
    let own = alice.call("GET", "/v1/sessions", &Value::Null);
    let tags: Vec<&Value> = own["sessions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|session| &session["tag"])
        .collect();
    assert_eq!(tags, ["alice:api"], "{own}");
    // Of others it tells that they are there; not from where, with what, and how it goes.
    let all = alice.call("GET", "/v1/sessions?all=true", &Value::Null);
    let bobs = all["sessions"]
        .as_array()
        .unwrap()
        .iter()
        .find(|session| session["tag"] == "bob:api")
        .unwrap();
    assert_eq!(
        (&bobs["state"], &bobs["host"], &bobs["version"]),
        (&json!("live"), &json!(""), &json!("")),
        "{bobs}"
    );
    assert_eq!((&bobs["requests"], &bobs["lanes"]), (&json!(0), &json!([])), "{bobs}");
    assert!(
        !all.to_string().contains("token") && !all.to_string().contains("openssh@"),
        "{all}"
    );
    for (method, path, body) in [
        ("GET", "/v1/users", Value::Null),
        ("POST", "/v1/users/release", json!({"user": "bob"})),
        ("GET", "/metrics", Value::Null),
        ("POST", "/v1/staging", json!({"staging_url": "http://169.254.169.254"})),
        ("GET", "/v1/../../etc/passwd", Value::Null),
    ] {
        let answer = alice.call(method, path, &body);
        assert!(answer.get("what").is_some(), "{path}: {answer}");
    }
    assert_eq!(get(bastion.http, "bob:api", "/").text(), "bob's");
    assert_eq!(bastion.session("bob:api").unwrap()["requests"], 2);
}

/// Only its owner opens the admin's socket, whatever the umask was, and nothing else of the state is for others to read.
#[test]
fn the_state_is_its_owners() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let bastion = Bastion::start();
    let state = bastion.path("state");
    let owner = std::fs::metadata(format!("/proc/{}", bastion.process.pid())).unwrap().uid();
    let mut private = 0;
    for entry in std::fs::read_dir(&state).unwrap() {
        let path = entry.unwrap().path();
        let found = std::fs::metadata(&path).unwrap();
        assert_eq!(found.uid(), owner, "{}", path.display());
        let name = path.file_name().unwrap().to_str().unwrap();
        if ["host_key", "sessions.redb", "control.sock"].contains(&name) {
            private += 1;
            assert_eq!(
                found.permissions().mode() & 0o077,
                0,
                "{name}: {:o}",
                found.permissions().mode()
            );
        }
    }
    assert_eq!(private, 3);
    // Somebody else is refused by the system; only root can try.
    if rustix::process::geteuid().is_root() && Command::new("setpriv").arg("--version").output().is_ok() {
        let script = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])";
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "/usr/bin/python3",
            "-c",
            script,
        ]);
        command.arg(state.join("control.sock"));
        let finished = Process::run("nobody", &mut command);
        assert!(finished.err.contains("PermissionError"), "{finished:?}");
    }
    // Nobody is asked on the port of SSH or of the edge what only the socket tells.
    drop(TcpStream::connect(bastion.ssh).unwrap());
    for path in ["/v1/sessions?all=true", "/metrics", "/v1/users"] {
        let answer = crate::support::fetch(bastion.http, format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert_eq!((answer.status(), answer.served_by()), (404, "edge; reason=no-tag"));
    }
}
