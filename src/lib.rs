//! ephemwork: run one service of a staging environment on a laptop.
//!
//! One binary with two names. [`Applet::of`] decides which from `argv`; `main.rs` calls it.
//! The modules below stand in reading order; ARCHITECTURE.md is the map.

pub mod config;
pub mod error;
mod hop;
pub mod name;
pub mod protocol;
pub mod ssm;

pub mod host;
pub mod log;
pub mod rt;

pub mod aws;
pub mod tunnel;
mod upstream;

pub mod provision;
pub mod session;

pub mod bastiond;
pub mod cli;

#[doc(hidden)]
pub mod fuzzing;

/// Buffers of bodies come and go with every turn; the system's allocator gives each back to the kernel and fetches it again, and
/// musl's, which the release would have otherwise, is slower still.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The program's name and version as `--version` prints it: version, git revision, protocol version.
pub fn version(program: &str) -> String {
    format!(
        "{program} {} ({}, protocol {})",
        env!("CARGO_PKG_VERSION"),
        env!("EPHEMWORK_REVISION"),
        protocol::VERSION
    )
}

/// Which of the two programs this process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applet {
    /// The laptop's command line.
    Cli,
    /// The bastion's daemon.
    Bastiond,
}

impl Applet {
    /// From `argv[0]` and the arguments behind it: the daemon when the file is called `ephemwork-bastiond` or the first argument
    /// is `bastiond`; then that argument is used up.
    pub fn of<'a>(program: &str, arguments: &'a [String]) -> (Applet, &'a [String]) {
        let file = program.rsplit('/').next().unwrap_or(program);
        if file == "ephemwork-bastiond" {
            return (Applet::Bastiond, arguments);
        }
        match arguments {
            [first, rest @ ..] if first == "bastiond" => (Applet::Bastiond, rest),
            _ => (Applet::Cli, arguments),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applets() {
        let check = |argv: &[&str], applet: Applet, rest: &[&str]| {
            let arguments: Vec<String> = argv[1..].iter().map(|&text| text.to_owned()).collect();
            let found = Applet::of(argv[0], &arguments);
            assert_eq!(found.0, applet, "{argv:?}");
            assert_eq!(found.1, rest, "{argv:?}");
        };
        check(&["ephemwork"], Applet::Cli, &[]);
        check(&["ephemwork", "up", "bastiond"], Applet::Cli, &["up", "bastiond"]);
        check(&["ephemwork", "bastiond", "--help"], Applet::Bastiond, &["--help"]);
        check(&["ephemwork-bastiond", "bastiond"], Applet::Bastiond, &["bastiond"]);
        check(&["/usr/local/bin/ephemwork-bastiond"], Applet::Bastiond, &[]);
        check(&["./ephemwork-bastiond.old", "up"], Applet::Cli, &["up"]);
        check(&["anything"], Applet::Cli, &[]);
    }
}
