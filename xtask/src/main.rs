//! The project's own chores, one verb a file: `cargo xtask tidy | dist | release | bench | transcripts`.

mod bench;
mod dist;
mod release;
mod tidy;
mod transcripts;

use std::process::ExitCode;

use argh::FromArgs;
use ephemwork::host::Host;

/// Chores of the ephemwork project.
#[derive(FromArgs)]
struct Arguments {
    #[argh(subcommand)]
    verb: Verb,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Verb {
    Tidy(tidy::Arguments),
    Dist(dist::Arguments),
    Release(release::Arguments),
    Bench(bench::Arguments),
    Service(bench::service::Arguments),
    Lane(bench::lane::Arguments),
    Echo(bench::endure::echo::Arguments),
    Transcripts(transcripts::Arguments),
}

fn main() -> ExitCode {
    let host = match Host::of_process() {
        Ok(host) => host,
        Err(why) => return fail(&why.to_string()),
    };
    let arguments: Vec<&str> = host.arguments.iter().map(String::as_str).collect();
    let verb = match Arguments::from_args(&["cargo xtask"], &arguments) {
        Ok(arguments) => arguments.verb,
        Err(early) if early.status.is_ok() => {
            println!("{}", early.output);
            return ExitCode::SUCCESS;
        }
        Err(early) => {
            eprintln!("{}", early.output);
            return ExitCode::from(2);
        }
    };
    let done = match verb {
        Verb::Tidy(arguments) => tidy::main(&arguments),
        Verb::Dist(arguments) => dist::main(&host, &arguments),
        Verb::Release(arguments) => release::main(&host, &arguments),
        Verb::Bench(arguments) => bench::main(&host, &arguments),
        Verb::Service(arguments) => bench::service::main(&arguments),
        Verb::Lane(arguments) => bench::lane::main(&arguments),
        Verb::Echo(arguments) => bench::endure::echo::main(&arguments),
        Verb::Transcripts(arguments) => transcripts::main(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => fail(&why),
    }
}

fn fail(why: &str) -> ExitCode {
    eprintln!("error: {why}");
    ExitCode::FAILURE
}

/// The repository's top directory, as it was when this was built.
fn top() -> &'static std::path::Path {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}
