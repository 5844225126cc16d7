//! What runs inside a namespace: `ephemwork-net client|hog|service|keeper|plane|names|router ARGUMENTS`, each as its module says.

#![allow(
    clippy::disallowed_methods,
    reason = "a program of its own: it reads its arguments, and its threads may sleep"
)]

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((role, rest)) = arguments.split_first() else {
        eprintln!("usage: ephemwork-net client|hog|service|keeper|plane|names|router ARGUMENTS");
        return ExitCode::from(2);
    };
    match ephemwork_net::run(role, rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("ephemwork-net {role}: {why}");
            ExitCode::FAILURE
        }
    }
}
