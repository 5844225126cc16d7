//! `argv` to applet to exit code.

use std::process::ExitCode;

use ephemwork::{Applet, bastiond, cli, host::Host};

fn main() -> ExitCode {
    let host = match Host::of_process() {
        Ok(host) => host,
        Err(error) => return cli::refuse(&error, Host::asks_for_json()),
    };
    let (applet, arguments) = Applet::of(&host.program, &host.arguments);
    match applet {
        Applet::Cli => cli::main(&host, arguments),
        Applet::Bastiond => bastiond::main(&host, arguments),
    }
}
