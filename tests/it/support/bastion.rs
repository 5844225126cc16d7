//! A running bastiond, and OpenSSH clients as its laptops.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use super::{Answer, Process, Wire, lasting_address, make_key, until};

/// The users whose keys every test bastion knows.
const USERS: [&str; 2] = ["alice", "bob"];

/// The real executable as the daemon, with its state in a directory of its own.
pub(crate) struct Bastion {
    pub(crate) process: Process,
    /// The edge.
    pub(crate) http: SocketAddr,
    /// The SSH server.
    pub(crate) ssh: SocketAddr,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    files: Option<u32>,
    directory: TempDir,
}

/// What the daemon writes when it is ready.
#[derive(serde::Deserialize)]
struct Ready {
    pid: u32,
    http: SocketAddr,
    ssh: SocketAddr,
    host_key: String,
}

impl Bastion {
    /// On ports of the system's choice.
    pub(crate) fn start() -> Bastion {
        Bastion::with(&[])
    }

    /// With more arguments.
    pub(crate) fn with(more: &[&str]) -> Bastion {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Bastion::on(any, any, more, &[])
    }

    /// With more arguments and variables.
    pub(crate) fn with_environment(more: &[&str], environment: &[(&str, &str)]) -> Bastion {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Bastion::on(any, any, more, environment)
    }

    /// One of local mode, which `up` takes for its own: see [`super::Workshop::beside`].
    pub(crate) fn local(more: &[&str]) -> Bastion {
        let arguments: Vec<&str> = ["--local"].iter().chain(more).copied().collect();
        Bastion::on(lasting_address(), lasting_address(), &arguments, &[])
    }

    /// The same with variables.
    pub(crate) fn local_with_environment(environment: &[(&str, &str)]) -> Bastion {
        Bastion::on(lasting_address(), lasting_address(), &["--local"], environment)
    }

    /// With more arguments, and so many file descriptors.
    pub(crate) fn with_files(files: u32, more: &[&str]) -> Bastion {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Bastion::launched(any, any, more, &[], Some(files))
    }

    /// On ports that are the same after [`Bastion::restart`].
    pub(crate) fn lasting(more: &[&str]) -> Bastion {
        Bastion::on(lasting_address(), lasting_address(), more, &[])
    }

    fn on(http: SocketAddr, ssh: SocketAddr, more: &[&str], environment: &[(&str, &str)]) -> Bastion {
        Bastion::launched(http, ssh, more, environment, None)
    }

    fn launched(http: SocketAddr, ssh: SocketAddr, more: &[&str], environment: &[(&str, &str)], files: Option<u32>) -> Bastion {
        let directory = TempDir::new().unwrap();
        let state = directory.path().join("state");
        std::fs::create_dir(&state).unwrap();
        let keys = state.join("authorized_keys");
        let lines = USERS.map(|user| make_key(&directory.path().join(user), &format!("{user}@laptop")));
        std::fs::write(&keys, lines.join("\n") + "\n").unwrap();
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let mut arguments: Vec<String> = ["--state", &path(&state), "--authorized-keys", &path(&keys)]
            .map(str::to_owned)
            .to_vec();
        arguments.extend(more.iter().map(|&text| text.to_owned()));
        let environment: Vec<(String, String)> = environment
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let (process, ready) = launch(&state, (http, ssh), &arguments, &environment, files);
        let bastion = Bastion {
            process,
            http: ready.http,
            ssh: ready.ssh,
            arguments,
            environment,
            files,
            directory,
        };
        bastion.pin(&ready.host_key);
        bastion
    }

    /// Starts it again on the same addresses and state after it has ended.
    pub(crate) fn restart(&mut self) {
        assert!(self.process.ended().is_some(), "bastiond still runs");
        let (process, ready) = launch(
            &self.path("state"),
            (self.http, self.ssh),
            &self.arguments,
            &self.environment,
            self.files,
        );
        self.process = process;
        self.pin(&ready.host_key);
    }

    /// Another one in its place, on the same addresses, which knows nothing of what the first knew and has its own host key.
    pub(crate) fn replace(&mut self) {
        self.process.kill();
        let state = self.path("state");
        for entry in std::fs::read_dir(&state).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().is_some_and(|name| name != "authorized_keys") {
                std::fs::remove_file(path).unwrap();
            }
        }
        self.restart();
    }

    /// A file in its directory: `state` (with `authorized_keys`), the users' keys.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Asks the admin's socket.
    #[track_caller]
    pub(crate) fn admin(&self, method: &str, path: &str) -> Answer {
        ask(&self.path("state/control.sock"), method, path)
    }

    /// The session of `tag` as the daemon sees it.
    pub(crate) fn session(&self, tag: &str) -> Option<serde_json::Value> {
        let answer = self.admin("GET", "/v1/sessions?all=true");
        assert_eq!(answer.status(), 200, "{answer:?}");
        let all: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        let all = all["sessions"].as_array().unwrap().clone();
        all.into_iter().find(|session| session["tag"] == tag)
    }

    /// Waits until the session is `live` or `leased`.
    #[track_caller]
    pub(crate) fn wait_state(&self, tag: &str, state: &str) {
        until(&format!("{tag} to be {state}"), || {
            (self.session(tag)?["state"] == state).then_some(())
        });
    }

    /// OpenSSH's client with strict settings: only this key, only this host key, no configuration of the machine.
    pub(crate) fn ssh(&self, user: &str, key: &str, options: &[&str]) -> Command {
        let mut command = Command::new("ssh");
        let known = format!("UserKnownHostsFile={}", self.path("known_hosts").display());
        command.args(["-F", "/dev/null", "-p", &self.ssh.port().to_string(), "-i"]);
        command.arg(self.path(key));
        for option in [
            &known,
            "GlobalKnownHostsFile=/dev/null",
            "StrictHostKeyChecking=yes",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "BatchMode=yes",
            "ExitOnForwardFailure=yes",
            "ConnectTimeout=20",
        ] {
            command.args(["-o", option]);
        }
        command.args(options).arg(format!("{user}@{}", self.ssh.ip()));
        command
    }

    /// An OpenSSH laptop that claims these services, not waited for.
    pub(crate) fn claim(&self, user: &str, services: &[(&str, u16)]) -> Process {
        let forwards: Vec<String> = services
            .iter()
            .flat_map(|(service, port)| ["-R".to_owned(), format!("{service}:0:127.0.0.1:{port}")])
            .collect();
        let mut options = vec!["-N"];
        options.extend(forwards.iter().map(String::as_str));
        Process::start(&format!("ssh of {user}"), &mut self.ssh(user, user, &options))
    }

    /// An OpenSSH laptop whose claims were accepted.
    #[track_caller]
    pub(crate) fn laptop(&self, user: &str, services: &[(&str, u16)]) -> Process {
        let mut ssh = self.claim(user, services);
        until(&format!("ssh of {user} to be accepted"), || {
            let accepted = ssh.err().matches("Allocated port").count();
            assert!(
                accepted == services.len() || ssh.ended().is_none(),
                "ssh ended:\n{}",
                ssh.err()
            );
            (accepted == services.len()).then_some(())
        });
        ssh
    }

    fn pin(&self, host_key: &str) {
        let line = format!("[{}]:{} {host_key}\n", self.ssh.ip(), self.ssh.port());
        std::fs::write(self.path("known_hosts"), line).unwrap();
    }
}

/// The daemon's or an `up`'s control socket, one request.
#[track_caller]
pub(crate) fn ask(socket: &Path, method: &str, path: &str) -> Answer {
    let mut wire = Wire::to_file(socket).unwrap_or_else(|why| panic!("{}: {why}", socket.display()));
    wire.send(format!(
        "{method} {path} HTTP/1.1\r\nHost: control\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    ));
    wire.answer(method)
}

fn launch(
    state: &Path,
    (http, ssh): (SocketAddr, SocketAddr),
    arguments: &[String],
    environment: &[(String, String)],
    files: Option<u32>,
) -> (Process, Ready) {
    let program = env!("CARGO_BIN_EXE_ephemwork");
    let mut command = Command::new(program);
    if let Some(files) = files {
        command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {files}; exec \"$0\" \"$@\""), program]);
    }
    command
        .args(["bastiond", "--http", &http.to_string(), "--ssh", &ssh.to_string()])
        .args(arguments)
        .env_remove("NOTIFY_SOCKET")
        .envs(environment.iter().map(|(name, value)| (name, value)));
    let mut process = Process::start("bastiond", &mut command);
    let ready = until("bastiond to be ready", || {
        assert!(process.ended().is_none(), "bastiond ended at once:\n{}", process.said());
        let text = std::fs::read(state.join("ready.json")).ok()?;
        let ready: Ready = serde_json::from_slice(&text).expect("ready.json is not what it should be");
        // One that was killed leaves its file behind.
        (ready.pid == process.pid()).then_some(ready)
    });
    (process, ready)
}
