//! The laptop's command line: the verbs, and which function carries out which.

mod bastion;
pub mod completions;
mod demo;
mod detach;
mod doctor;
mod down;
pub mod init;
mod logs;
mod say;
mod status;
mod up;

use std::process::ExitCode;

use argh::FromArgs;

use crate::config::{self, Config};
use crate::error::{Error, Exit, Result};
use crate::host::{Host, read_text};
use crate::log::{self, LevelFilter};
use say::Form;

/// Run one service of a staging environment on this machine; everything else stays in staging.
#[derive(FromArgs)]
#[argh(
    example = "{command_name} demo",
    example = "{command_name} up api",
    error_code(1, "a mistake in ephemwork itself"),
    error_code(2, "the command line is wrong"),
    error_code(3, "ephemwork.toml or a setting is wrong"),
    error_code(4, "AWS credentials or permissions"),
    error_code(5, "the bastion or AWS cannot be reached, or a daemon does not start"),
    error_code(6, "somebody else holds the tag, the port or the state directory"),
    error_code(7, "a service failed: bootstrap, build, start or health, or it ended by itself"),
    error_code(130, "ended by Ctrl-C, or by SIGTERM before everything was ready")
)]
struct Arguments {
    /// print program, version, git revision and protocol version
    #[argh(switch)]
    version: bool,
    #[argh(subcommand)]
    verb: Option<Verb>,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Verb {
    Up(up::Arguments),
    Down(down::Arguments),
    Status(status::Arguments),
    Logs(logs::Arguments),
    Init(init::Init),
    Demo(demo::Arguments),
    Bastion(bastion::Arguments),
    Doctor(doctor::Arguments),
    Completions(completions::Completions),
    Bastiond(Bastiond),
}

/// Run the bastion's daemon, which `up` does by itself in local mode.
#[derive(FromArgs)]
#[argh(subcommand, name = "bastiond", example = "{command_name} --help")]
struct Bastiond {}

/// The whole program when it is called `ephemwork`.
pub fn main(host: &Host, arguments: &[String]) -> ExitCode {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let form = Form::of(words.contains(&"--json"));
    let exit = match Arguments::from_args(&["ephemwork"], &words) {
        Ok(Arguments { version: true, .. }) => {
            say::out(&format!("{}\n", crate::version("ephemwork")));
            Exit::Fine
        }
        Ok(Arguments { verb: Some(verb), .. }) => match run(host, verb) {
            Ok(exit) => exit,
            Err(error) => say::failure(&error, form),
        },
        Ok(Arguments { verb: None, .. }) if form == Form::Json => {
            say::failure(&Error::new(Exit::Usage, "no command is given").hint("ephemwork --help"), form)
        }
        Ok(Arguments { verb: None, .. }) => {
            let help = Arguments::from_args(&["ephemwork"], &["--help"])
                .err()
                .map(|early| early.output);
            say::warn(&help.unwrap_or_default());
            Exit::Usage
        }
        Err(early) if early.status.is_ok() => {
            say::out(&format!("{}\n", early.output.trim_end()));
            Exit::Fine
        }
        Err(early) => {
            let (what, hint) = usage(&early.output, &words);
            say::failure(&Error::new(Exit::Usage, what).hint(hint), form)
        }
    };
    ExitCode::from(exit as u8)
}

/// Says why nothing could begin.
pub fn refuse(error: &Error, json: bool) -> ExitCode {
    ExitCode::from(say::failure(error, Form::of(json)) as u8)
}

fn run(host: &Host, verb: Verb) -> Result<Exit> {
    let level = host.variable(log::VARIABLE).unwrap_or(LOGGED);
    log::init(
        log::Format::Text,
        Some(level),
        LevelFilter::WARN,
        host.stderr_is_terminal && host.colour(),
    )?;
    match verb {
        Verb::Up(arguments) => up::run(host, arguments),
        Verb::Down(arguments) => down::run(host, arguments),
        Verb::Status(arguments) => status::run(host, arguments),
        Verb::Logs(arguments) => logs::run(host, arguments),
        Verb::Init(arguments) => {
            say::out(&init::run(host, &arguments)?);
            Ok(Exit::Fine)
        }
        Verb::Demo(arguments) => demo::run(host, arguments),
        Verb::Bastion(arguments) => bastion::run(host, arguments),
        Verb::Doctor(arguments) => doctor::run(host, arguments),
        Verb::Completions(arguments) => {
            say::out(&completions::run(host, &arguments)?);
            Ok(Exit::Fine)
        }
        // `Applet::of` has caught it as the first argument.
        Verb::Bastiond(_) => {
            Err(Error::new(Exit::Usage, "bastiond must be the first argument").hint("ephemwork bastiond --help"))
        }
    }
}

/// argh's complaint as one sentence, and the help that fits the verb.
fn usage(output: &str, words: &[&str]) -> (String, String) {
    let what = output
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("Run "))
        .collect::<Vec<_>>()
        .join(" ");
    let verb = words.iter().copied().find(|word| VERBS.contains(word));
    (
        what,
        verb.map_or("ephemwork --help".to_owned(), |verb| format!("ephemwork {verb} --help")),
    )
}

/// What is logged to stderr without `EPHEMWORK_LOG`.
const LOGGED: &str = "error,ephemwork=warn";

const VERBS: [&str; 10] = [
    "bastion",
    "doctor",
    "up",
    "down",
    "status",
    "logs",
    "init",
    "demo",
    "completions",
    "bastiond",
];

/// Runs a future to its end.
fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    crate::rt::block_on(future)
        .unwrap_or_else(|why| Err(Error::new(Exit::Bug, "the system refuses what the program needs to start").because(why)))
}

/// The nearest ephemwork.toml above the current directory.
fn load(host: &Host) -> Result<Config> {
    let Some(file) = config::find(&host.directory, |path| path.is_file()) else {
        return Err(Error::new(
            Exit::Config,
            format!("there is no {} here or in a directory above", config::FILE),
        )
        .because(format_args!("looked from {}", host.directory.display()))
        .hint("make one: ephemwork init"));
    };
    let text = read_text(&file, config::MAX_BYTES as u64).map_err(|why| {
        let error = Error::new(Exit::Config, format!("{} cannot be read", file.display())).because(why);
        error.hint(format!(
            "correct the file, or begin anew: mv {0} {0}.old && ephemwork init",
            file.display()
        ))
    })?;
    config::parse(&text, &file).map_err(|mistakes| config::failure(&mistakes, &text, &file))
}
