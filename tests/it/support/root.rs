//! A throw-away root directory with a shell and the usual programs, to run in it what belongs to a machine of its own.
//!
//! Nothing is mounted and nothing of this machine can be reached from inside but by copies, so that it works wherever
//! `chroot` does; it needs root.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use super::{Process, need, peers::missing, process::Finished};

/// The PATH in there, as cloud-init has it.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What every small machine has: bash, and of coreutils and grep what a script may expect.
const PROGRAMS: &[&str] = &[
    "bash",
    "cat",
    "chmod",
    "cp",
    "cut",
    "date",
    "echo",
    "env",
    "grep",
    "head",
    "id",
    "install",
    "ln",
    "ls",
    "mkdir",
    "mktemp",
    "mv",
    "readlink",
    "rm",
    "sed",
    "sha256sum",
    "sort",
    "tail",
    "tee",
    "test",
    "timeout",
    "touch",
    "tr",
    "true",
    "uname",
    "wc",
];

/// The directory; gone when dropped.
pub(crate) struct Root {
    directory: TempDir,
}

impl Root {
    /// None where it cannot be: the test is skipped with one line, or fails under EPHEMWORK_REQUIRE_PEERS=1.
    #[track_caller]
    pub(crate) fn make() -> Option<Root> {
        need("chroot")?;
        need("ldd")?;
        if !rustix::process::getuid().is_root() {
            missing("root's right to chroot");
            return None;
        }
        let root = Root {
            directory: TempDir::new().unwrap(),
        };
        for place in [
            "bin",
            "dev",
            "etc/systemd/system",
            "proc",
            "root",
            "tmp",
            "usr/bin",
            "usr/local/bin",
            "var/lib",
            "log",
        ] {
            std::fs::create_dir_all(root.path(place)).unwrap();
        }
        // A plain file is enough where devices cannot be made: nothing in there reads from it.
        std::fs::write(root.path("dev/null"), "").unwrap();
        for program in PROGRAMS {
            root.copy(&need(program)?, &format!("usr/bin/{program}"));
        }
        for shell in ["bin/bash", "bin/sh"] {
            std::os::unix::fs::symlink("/usr/bin/bash", root.path(shell)).unwrap();
        }
        Some(root)
    }

    /// A path in there, seen from outside.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.directory.path().join(inside.trim_start_matches('/'))
    }

    /// Copies a program with the libraries that it is linked against.
    #[track_caller]
    pub(crate) fn copy(&self, program: &Path, inside: &str) {
        // A static program has no libraries, and ldd says so by failing.
        let listed = Command::new("ldd").arg(program).output().unwrap();
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        for library in listed.split_whitespace().filter(|word| word.starts_with('/')) {
            let place = self.path(library);
            if !place.exists() {
                std::fs::create_dir_all(place.parent().unwrap()).unwrap();
                std::fs::copy(library, place).unwrap();
            }
        }
        std::fs::copy(program, self.path(inside)).unwrap_or_else(|why| panic!("{}: {why}", program.display()));
    }

    /// Writes a script that can be executed.
    pub(crate) fn script(&self, inside: &str, text: &str) {
        self.write(inside, text);
        let place = self.path(inside);
        std::fs::set_permissions(place, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) fn write(&self, inside: &str, text: &str) {
        std::fs::write(self.path(inside), text).unwrap();
    }

    /// A file's text; nothing when there is none.
    pub(crate) fn read(&self, inside: &str) -> String {
        std::fs::read_to_string(self.path(inside)).unwrap_or_default()
    }

    /// Runs a program in there to its end, with an environment of nothing but PATH.
    #[track_caller]
    pub(crate) fn run(&self, program: &str) -> Finished {
        let mut command = Command::new(need("chroot").expect("it was there"));
        command.arg(self.directory.path()).arg(program).env_clear().env("PATH", PATH);
        Process::run(program, &mut command)
    }
}
