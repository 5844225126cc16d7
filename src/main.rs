//! `argv` to applet to exit code.

use std::io::Write as _;
use std::process::ExitCode;

use ephemwork::{Applet, bastiond, cli, host::Host};

fn main() -> ExitCode {
    let host = match Host::of_process() {
        Ok(host) => host,
        Err(why) => {
            // A stderr that takes nothing costs the text only.
            writeln!(std::io::stderr(), "error: {why}").unwrap_or_default();
            return ExitCode::from(1);
        }
    };
    let (applet, arguments) = Applet::of(&host.program, &host.arguments);
    match applet {
        Applet::Cli => cli::main(&host, arguments),
        Applet::Bastiond => bastiond::main(&host, arguments),
    }
}
