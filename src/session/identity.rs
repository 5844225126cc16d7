//! Who runs this laptop, and what it is called.

use std::process::{Command, Stdio};

use crate::error::{Error, Exit, Result};
use crate::host::Host;
use crate::name::User;

const HOW: &str = "export EPHEMWORK_USER=alice   or   git config --global user.email alice@example.com";

/// The user: `EPHEMWORK_USER` as it is, else the part of git's `user.email` before `@`, in lower case.
///
/// # Errors
/// Neither is set, or it is not a user name.
pub(crate) fn user(host: &Host) -> Result<User> {
    decide(host.variable("EPHEMWORK_USER"), || git_email(host))
}

fn decide(variable: Option<&str>, email: impl FnOnce() -> Option<String>) -> Result<User> {
    if let Some(name) = variable {
        return User::parse(name).map_err(|why| {
            Error::new(Exit::Config, format!("EPHEMWORK_USER={name:?} is not a user name"))
                .because(why)
                .hint("export EPHEMWORK_USER=alice")
        });
    }
    let Some(email) = email().filter(|email| !email.is_empty()) else {
        return Err(Error::new(Exit::Config, "it is not known who you are")
            .because("EPHEMWORK_USER is not set, and git has no user.email")
            .hint(HOW));
    };
    let local = email.split('@').next().unwrap_or_default().to_lowercase();
    User::parse(&local).map_err(|why| {
        Error::new(
            Exit::Config,
            format!("{local:?}, from git's user.email {email:?}, is not a user name"),
        )
        .because(why)
        .hint("choose one: export EPHEMWORK_USER=alice")
    })
}

fn git_email(host: &Host) -> Option<String> {
    let output = Command::new("git")
        .args(["config", "--get", "user.email"])
        .current_dir(&host.directory)
        .env_clear()
        .envs(&host.environment)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    output.status.success().then(|| text.trim().to_owned())
}

/// This machine's name, for messages to people and to know a returning laptop.
pub(crate) fn machine() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "unknown".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users() {
        let check = |variable: Option<&str>, email: Option<&str>, expected: Result<&str, &str>| {
            let found = decide(variable, || email.map(str::to_owned));
            let found = found.map(|user| user.to_string()).map_err(|error| error.to_string());
            match (&found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(found), Err(part)) => assert!(found.contains(part), "{found}"),
                _ => panic!("{variable:?} {email:?}: {found:?}"),
            }
        };
        check(None, None, Err("git config --global user.email"));
        check(None, Some(""), Err("EPHEMWORK_USER is not set"));
        check(Some("Alice"), None, Err("'A' at position 1 is upper case"));
        check(Some("a b"), None, Err("' ' at position 2"));
        check(None, Some("alice+x@example.com"), Err("'+' at position 6"));
        check(None, Some("@example.com"), Err("it is empty"));
        check(Some("bob"), Some("alice@example.com"), Ok("bob"));
        check(None, Some("Alice.B@example.com"), Ok("alice.b"));
        check(None, Some("alice"), Ok("alice"));
    }
}
