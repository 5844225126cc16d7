//! AWS's side of tunnels: the double of tests/doubles behind an [`AwsWorld`], with an agent on each instance a test names.
//!
//! A double that saw a client break a rule panics when it is dropped, so that no test passes on what AWS would not take.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    Process,
    aws::{ACCESS_KEY, AwsWorld},
    fetch, until,
};

/// A running double. Its admin API is described in tests/doubles/src/main.rs.
pub(crate) struct Ssm {
    /// Sessions' calls, and what the test says.
    pub(crate) control: SocketAddr,
    /// Data channels and the endpoint's tunnels, by TLS.
    pub(crate) secure: SocketAddr,
    /// An office's HTTP proxy.
    #[allow(dead_code, reason = "as for the methods")]
    pub(crate) proxy: SocketAddr,
    process: Process,
    directory: TempDir,
}

#[allow(dead_code, reason = "the whole of its API, also what no test needs at the moment")]
impl Ssm {
    /// Sessions of `world` are made by it from now on. `settings` as on the command line: `latency_ms=20`, `paced=false`.
    #[track_caller]
    pub(crate) fn start(world: &AwsWorld, settings: &[&str]) -> Ssm {
        let directory = TempDir::new().unwrap();
        let mut command = Command::new(program());
        command.arg("--authority").arg(directory.path().join("ca.pem"));
        for setting in settings {
            command.args(["--set", setting]);
        }
        let mut process = Process::start("ssm-double", &mut command);
        process.wait_for("READY=");
        let ready: Value = until("the double's ports", || {
            let out = process.out();
            let (line, _) = out.split_once("READY=")?.1.split_once('\n')?;
            serde_json::from_str(line).ok()
        });
        let at = |name: &str| ready[name].as_str().unwrap().parse().unwrap();
        let ssm = Ssm {
            control: at("control"),
            secure: at("secure"),
            proxy: at("proxy"),
            process,
            directory,
        };
        world.double(ssm.control, ssm.secure);
        ssm.admin("key", json!({"id": ACCESS_KEY.0, "secret": ACCESS_KEY.1}));
        ssm
    }

    /// What a program's environment needs besides [`AwsWorld::environment`].
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        vec![("AWS_CA_BUNDLE", self.authority().display().to_string())]
    }

    /// The certificate of its authority, in PEM.
    pub(crate) fn authority(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// An instance whose agent is connected and whose port 22 is at `port`; its private address is for the endpoint.
    #[track_caller]
    pub(crate) fn instance(&self, id: &str, port: SocketAddr, private: Option<IpAddr>) {
        let private = private.map(|address| address.to_string());
        self.admin(
            "instance",
            json!({"instance": id, "address": port.to_string(), "private_ip": private}),
        );
    }

    /// Changes settings while it runs.
    #[track_caller]
    pub(crate) fn settings(&self, settings: Value) {
        self.admin("settings", settings);
    }

    /// Strikes all sessions that are open, or the one of its member `session`.
    #[track_caller]
    pub(crate) fn fault(&self, fault: Value) {
        self.admin("fault", fault);
    }

    /// All sessions that ever were, the oldest first.
    #[track_caller]
    pub(crate) fn sessions(&self) -> Vec<Value> {
        let mut all = self.admin("sessions", json!({})).as_array().unwrap().clone();
        all.sort_by_key(|session| session["number"].as_u64());
        all
    }

    /// The sessions that nobody has ended.
    #[track_caller]
    pub(crate) fn open_sessions(&self) -> Vec<Value> {
        let mut all = self.sessions();
        all.retain(|session| session["open"] == true);
        all
    }

    /// What clients did wrong so far, a sentence each.
    #[track_caller]
    pub(crate) fn violations(&self) -> Vec<String> {
        sentences(&self.admin("violations", json!({})))
    }

    /// [`Ssm::violations`], which are then forgotten: the test meant them.
    #[track_caller]
    pub(crate) fn forgive(&self) -> Vec<String> {
        sentences(&self.admin("forgive", json!({})))
    }

    /// Says something to its admin API and gives the answer.
    #[track_caller]
    pub(crate) fn admin(&self, path: &str, given: Value) -> Value {
        let body = given.to_string();
        let request = format!(
            "POST /admin/{path} HTTP/1.1\r\nHost: double\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let answer = fetch(self.control, request);
        assert_eq!(answer.status(), 200, "{path} {given}: {}", answer.text());
        serde_json::from_slice(&answer.body).unwrap()
    }
}

impl Drop for Ssm {
    fn drop(&mut self) {
        // A test that fails already has said enough, and a second panic would hide it.
        if !std::thread::panicking() && self.process.ended().is_none() {
            let found = self.violations();
            assert!(found.is_empty(), "what AWS would not take:\n{}", found.join("\n"));
        }
    }
}

fn sentences(found: &Value) -> Vec<String> {
    let text = |one: &Value| one.as_str().unwrap().to_owned();
    found.as_array().unwrap().iter().map(text).collect()
}

/// The double's executable. It belongs to another package, which a run of only these tests does not build.
#[track_caller]
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        const NAME: &str = "ephemwork-ssm-double";
        // The test executable lies in <target>/debug/deps.
        let own = std::env::current_exe().unwrap();
        let (debug, target) = (own.ancestors().nth(2).unwrap(), own.ancestors().nth(3).unwrap());
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(["build", "--quiet", "--locked", "--workspace", "--bin", NAME, "--target-dir"])
            .arg(target)
            .status()
            .expect("cargo can be started");
        assert!(built.success(), "{NAME} cannot be built");
        debug.join(NAME)
    })
}
