//! `ephemwork completions SHELL`: the script that makes a shell complete ephemwork's commands, options and services.
//!
//! The scripts ask for the services with `ephemwork completions services`, which is fast and never complains: a shell must
//! not print errors while somebody types.

use std::fs;
use std::io::Read as _;

use argh::FromArgs;

use crate::config::{self, Config};
use crate::error::{Error, Exit, Result};
use crate::host::Host;

/// Print a script that makes your shell complete commands, options and the services of ephemwork.toml.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "completions",
    example = "source <(ephemwork completions bash)",
    example = "ephemwork completions zsh > ~/.zfunc/_ephemwork",
    example = "ephemwork completions fish | source"
)]
pub struct Completions {
    /// bash, zsh or fish
    #[argh(positional)]
    pub shell: String,
}

/// What to print on stdout.
///
/// # Errors
/// `Exit::Usage` for a shell that is not known.
pub fn run(host: &Host, completions: &Completions) -> Result<String> {
    Ok(match completions.shell.as_str() {
        "bash" => include_str!("../../assets/completions/ephemwork.bash").to_owned(),
        "zsh" => include_str!("../../assets/completions/ephemwork.zsh").to_owned(),
        "fish" => include_str!("../../assets/completions/ephemwork.fish").to_owned(),
        "services" => services(host),
        other => {
            let what = format!("there is no completion script for {other:?}");
            return Err(Error::new(Exit::Usage, what).hint("bash, zsh and fish have one: ephemwork completions bash"));
        }
    })
}

/// A service a line; none when there is no file or it has mistakes, which `up` will tell.
fn services(host: &Host) -> String {
    let names = |config: Config| config.services.keys().map(|name| format!("{name}\n")).collect();
    read(host).map(names).unwrap_or_default()
}

fn read(host: &Host) -> Option<Config> {
    let file = config::find(&host.directory, |file| file.is_file())?;
    let mut text = String::new();
    fs::File::open(&file)
        .ok()?
        .take(config::MAX_BYTES as u64 + 1)
        .read_to_string(&mut text)
        .ok()?;
    config::parse(&text, &file).ok()
}
