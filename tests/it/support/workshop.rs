//! A developer's directory with an ephemwork.toml and a home of its own, for `ephemwork up` and its sisters.

use std::{
    net::SocketAddr,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{Bastion, Process, lasting_address, until};

/// Project and home of one developer, in local mode. When it is dropped, every process that was started with this home ends.
pub(crate) struct Workshop {
    /// The edge of its local bastion.
    pub(crate) edge: SocketAddr,
    user: String,
    directory: TempDir,
}

impl Workshop {
    /// With this ephemwork.toml behind its `[tunnel]` part.
    pub(crate) fn new(user: &str, services: &str) -> Workshop {
        Workshop::on(lasting_address(), user, services)
    }

    /// As a machine of its own whose local bastion is this one ([`Bastion::local`]).
    pub(crate) fn beside(bastion: &Bastion, user: &str, services: &str) -> Workshop {
        let workshop = Workshop::on(bastion.http, user, services);
        let state = workshop.bastion_state();
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(state.parent().unwrap())
            .unwrap();
        std::os::unix::fs::symlink(bastion.path("state"), state).unwrap();
        workshop
    }

    fn on(edge: SocketAddr, user: &str, services: &str) -> Workshop {
        let directory = TempDir::new().unwrap();
        std::fs::create_dir(directory.path().join("project")).unwrap();
        let workshop = Workshop {
            edge,
            user: user.to_owned(),
            directory,
        };
        workshop.write("", services);
        workshop
    }

    /// Writes ephemwork.toml anew; `tunnel` are more lines of its `[tunnel]` part.
    pub(crate) fn write(&self, tunnel: &str, services: &str) {
        let text = format!("[tunnel]\ntype = \"local\"\nlisten = \"{}\"\n{tunnel}\n{services}", self.edge);
        std::fs::write(self.project().join("ephemwork.toml"), text).unwrap();
    }

    pub(crate) fn project(&self) -> PathBuf {
        self.directory.path().join("project")
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    /// The real executable in the project's directory.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ephemwork"));
        command
            .args(arguments)
            .current_dir(self.project())
            .env("EPHEMWORK_HOME", self.home())
            .env("EPHEMWORK_USER", &self.user)
            .env("HOME", self.directory.path())
            .env("NO_COLOR", "1");
        command
    }

    /// Starts it and leaves it running.
    pub(crate) fn start(&self, arguments: &[&str]) -> Process {
        Process::start(&format!("ephemwork {}", arguments.join(" ")), &mut self.command(arguments))
    }

    /// Runs it to its end.
    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str]) -> super::process::Finished {
        Process::run(&format!("ephemwork {}", arguments.join(" ")), &mut self.command(arguments))
    }

    /// `up` with these arguments, once its closing block says which header to send for each of `services`.
    #[track_caller]
    pub(crate) fn up(&self, services: &[&str], options: &[&str]) -> Process {
        let arguments: Vec<&str> = ["up"].iter().chain(services).chain(options).copied().collect();
        let mut up = self.start(&arguments);
        for service in services {
            up.wait_for(&format!("X-Ephemwork: {}:{service}", self.user));
        }
        up
    }

    /// The processes that carry this home in their environment, by id.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let mark = format!("EPHEMWORK_HOME={}", self.home().display());
        let carries = |directory: &Path| {
            let environment = std::fs::read(directory.join("environ")).unwrap_or_default();
            environment.split(|&byte| byte == 0).any(|entry| entry == mark.as_bytes())
        };
        let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        all.filter_map(|entry| {
            let id = entry.file_name().to_str()?.parse().ok()?;
            carries(&entry.path()).then_some(id)
        })
        .collect()
    }

    /// Waits until nothing of this home runs except its local bastion.
    #[track_caller]
    pub(crate) fn wait_no_orphan(&self) {
        let bastion = self.bastion_pid();
        until("every process of the developer's to end", || {
            self.processes().iter().all(|&id| Some(id) == bastion).then_some(())
        });
    }

    /// The state directory of its local bastion.
    pub(crate) fn bastion_state(&self) -> PathBuf {
        self.home().join("local").join(self.edge.to_string().replace(':', "_"))
    }

    /// The process id of its local bastion, when it says that it is ready.
    pub(crate) fn bastion_pid(&self) -> Option<i32> {
        let text = std::fs::read(self.bastion_state().join("ready.json")).ok()?;
        let ready: serde_json::Value = serde_json::from_slice(&text).ok()?;
        i32::try_from(ready["pid"].as_i64()?).ok()
    }
}

/// A running `up` with its workshop; the process ends first.
pub(crate) struct Up {
    pub(crate) process: Process,
    #[allow(dead_code, reason = "kept for its end")]
    workshop: Workshop,
}

impl Bastion {
    /// `ephemwork up --no-run` as the laptop; the bastion must be of local mode ([`Bastion::local`]).
    #[track_caller]
    pub(crate) fn up(&self, user: &str, services: &[(&str, u16)]) -> Up {
        let table = |(service, port): &(&str, u16)| format!("[service.\"{service}\"]\nport = {port}\n");
        let text: String = services.iter().map(table).collect();
        let workshop = Workshop::beside(self, user, &text);
        let names: Vec<&str> = services.iter().map(|(service, _)| *service).collect();
        let process = workshop.up(&names, &["--no-run"]);
        Up { process, workshop }
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        for id in self.processes() {
            if let Some(pid) = Pid::from_raw(id) {
                // It may have ended between the look and the kill.
                kill_process(pid, Signal::KILL).ok();
            }
        }
    }
}
