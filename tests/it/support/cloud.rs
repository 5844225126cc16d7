//! A bastiond on an instance of the test's AWS: it asks EC2 Instance Connect who may log in.

use ephemwork::error::Error;
use ephemwork::name::User;
use ephemwork::protocol::{self, Claim};
use ephemwork::tunnel::{ClientKey, Link, Login, Transport};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::aws::AwsWorld;
use super::{Bastion, Process, library, make_key};

/// The instance on which the bastion runs.
pub(crate) const INSTANCE: &str = "i-0123456789abcdef0";

/// An ARN of a role's session in the account, as EC2 Instance Connect names callers.
pub(crate) fn session(name: &str) -> String {
    format!("arn:aws:sts::123456789012:assumed-role/developer/{name}")
}

pub(crate) struct Cloud {
    pub(crate) world: AwsWorld,
    pub(crate) bastion: Bastion,
    directory: TempDir,
}

impl Cloud {
    /// `bastiond --authorize eic` with more arguments, and the keys of alice and bob in a file besides. None without the peers.
    #[track_caller]
    pub(crate) fn start(more: &[&str]) -> Option<Cloud> {
        let world = AwsWorld::start()?;
        let roots = world.metadata(json!({"instance": INSTANCE}))["roots"].clone();
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("roots.pem");
        std::fs::write(&file, roots.as_str().unwrap()).unwrap();
        let (imds, roots) = (world.url(), file.to_str().unwrap().to_owned());
        let arguments = ["--authorize", "eic", "--imds", &imds, "--roots", &roots];
        let arguments: Vec<&str> = arguments.iter().chain(more).copied().collect();
        Some(Cloud {
            bastion: Bastion::with_environment(&arguments, &[("EPHEMWORK_LOG", "debug")]),
            world,
            directory,
        })
    }

    /// A key pair of somebody, on disk under that name; the public half.
    #[track_caller]
    pub(crate) fn key(&self, name: &str) -> String {
        let file = self.bastion.path(name);
        match std::fs::read_to_string(file.with_extension("pub")) {
            Ok(line) => line.trim().to_owned(),
            Err(_) => make_key(&file, &format!("{name}@laptop")),
        }
    }

    /// As if `caller` had sent this key for `user` a moment ago.
    #[track_caller]
    pub(crate) fn push(&self, key: &str, user: &str, caller: &str) {
        self.world.push_key(INSTANCE, user, &self.key(key), caller);
    }

    /// A stock client of `user` with this key, run until it is refused; what it said.
    #[track_caller]
    pub(crate) fn refused(&self, user: &str, key: &str) -> String {
        self.key(key);
        let finished = Process::run("ssh", &mut self.bastion.ssh(user, key, &["-N", "-R", "api:0:127.0.0.1:9"]));
        assert!(!finished.status.success(), "{finished:?}");
        finished.err
    }

    /// An ephemwork laptop's claim of `user:api` with this key: the tag, or the error that a person sees.
    #[track_caller]
    pub(crate) fn claim(&self, user: &str, key: &str) -> Result<String, Error> {
        library::run(async {
            let (link, _requests) = self.connect(user, key).await?;
            let claimed = link.claim(&claim()).await;
            link.close().await;
            claimed.map(|claimed| claimed.tag.to_string())
        })
    }

    /// A laptop's connection.
    pub(crate) async fn connect(&self, user: &str, key: &str) -> Result<(Link, ephemwork::tunnel::Requests), Error> {
        self.key(key);
        let text = std::fs::read_to_string(self.bastion.path(key)).unwrap();
        let known = std::fs::read_to_string(self.bastion.path("known_hosts")).unwrap();
        let login = Login {
            user: User::parse(user).unwrap(),
            key: ClientKey::from_openssh(&text).unwrap(),
            host_key: known.split_once(' ').unwrap().1.trim().to_owned(),
        };
        Ok(Link::connect(&Transport::Tcp(self.bastion.ssh.to_string()), &login).await?)
    }

    /// Names and their owners, as `bastion users --json` prints them.
    #[track_caller]
    pub(crate) fn users(&self) -> Value {
        let finished = self.cli(&["--json"]);
        let users: Value = serde_json::from_str(&finished.out).unwrap_or_else(|why| panic!("{why}: {finished:?}"));
        users["users"].clone()
    }

    /// `ephemwork bastion users` on the bastion.
    #[track_caller]
    pub(crate) fn cli(&self, arguments: &[&str]) -> super::process::Finished {
        let socket = self.bastion.path("state/control.sock");
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ephemwork"));
        command
            .args(["bastion", "users", "--control-socket"])
            .arg(socket)
            .args(arguments);
        command.current_dir(self.directory.path());
        Process::run("ephemwork bastion users", &mut command)
    }
}

/// What a laptop asks for.
pub(crate) fn claim() -> Claim {
    Claim {
        protocol: protocol::VERSION,
        service: "api".to_owned(),
        host: "laptop".to_owned(),
        version: "0".to_owned(),
        token: None,
        takeover: false,
        lane: 0,
        only: false,
    }
}
