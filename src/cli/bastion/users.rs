//! `ephemwork bastion users`: whose the user names are, asked of the daemon's own socket.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use argh::FromArgs;
use http::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::super::say::{self, Form};
use crate::error::{Error, Exit, Result};
use crate::host::Host;
use crate::protocol::{Refusal, Released, UserView, UsersView};
use crate::session::socket;

/// Where the unit that `bastion init` installs puts it.
const SOCKET: &str = "/var/lib/ephemwork/control.sock";

/// Show whose the user names are; free one. To be run on the bastion itself.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "users",
    example = "{command_name}",
    example = "{command_name} --json",
    example = "{command_name} release alice",
    note = "A name belongs to the first caller of AWS who used it. Freed, its sessions and connections end, and the next one has it."
)]
pub(super) struct Arguments {
    #[argh(subcommand)]
    verb: Option<Verb>,
    /// the daemon's socket (default /var/lib/ephemwork/control.sock)
    #[argh(option, arg_name = "path")]
    control_socket: Option<String>,
    /// print one JSON object
    #[argh(switch)]
    json: bool,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Verb {
    Release(Release),
}

/// Free a user name for somebody else.
#[derive(FromArgs)]
#[argh(subcommand, name = "release", example = "{command_name} alice")]
struct Release {
    /// the name
    #[argh(positional, arg_name = "name")]
    name: String,
}

pub(super) fn run(host: &Host, arguments: Arguments) -> Result<Exit> {
    let socket = host.directory.join(arguments.control_socket.as_deref().unwrap_or(SOCKET));
    let form = Form::of(arguments.json);
    super::super::block_on(async {
        match arguments.verb {
            None => {
                let found: UsersView = call(&socket, Method::GET, "/v1/users", None).await?;
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                match form {
                    Form::Json => say::object(&json!({ "version": 1, "users": found.users })),
                    Form::Human => say::out(&table(&found.users, now)),
                }
            }
            Some(Verb::Release(Release { name })) => {
                let body = json!({ "user": name });
                let found: Released = call(&socket, Method::POST, "/v1/users/release", Some(body)).await?;
                match form {
                    Form::Json => say::object(&json!({ "version": 1, "user": name, "released": found.released })),
                    Form::Human if found.released => say::out(&format!("{name} is free\n")),
                    Form::Human => say::out(&format!("{name} belongs to nobody\n")),
                }
            }
        }
        Ok(Exit::Fine)
    })
}

async fn call<A: DeserializeOwned>(socket: &Path, method: Method, path: &str, body: Option<serde_json::Value>) -> Result<A> {
    let unreachable = |why: String| {
        Error::new(Exit::Unreachable, format!("no bastion answers at {}", socket.display()))
            .because(why)
            .hint("run it on the bastion, as root (sudo), or give --control-socket the socket of its state directory")
    };
    let (status, answer) = socket::call(socket, method, path, body).await.map_err(unreachable)?;
    if status.is_success() {
        return serde_json::from_slice(&answer).map_err(|why| {
            Error::new(Exit::Unreachable, "the bastion's answer is not understood")
                .because(why)
                .hint("use the ephemwork of the bastion's own version")
        });
    }
    Err(match serde_json::from_slice::<Refusal>(&answer) {
        Ok(refusal) if status != StatusCode::NOT_FOUND => Error {
            what: refusal.what,
            why: refusal.why,
            hint: refusal.hint,
            exit: if status.is_client_error() {
                Exit::Usage
            } else {
                Exit::Unreachable
            },
        },
        _ => Error::new(
            Exit::Unreachable,
            format!("the daemon at {} knows nothing of names", socket.display()),
        )
        .because(format!("it answered {status}"))
        .hint("bring it to this version"),
    })
}

fn table(users: &[UserView], now: u64) -> String {
    if users.is_empty() {
        return "no user name belongs to anybody yet\n".to_owned();
    }
    let mut rows = vec![[
        "NAME".to_owned(),
        "FOR".to_owned(),
        "CONNECTIONS".to_owned(),
        "SESSIONS".to_owned(),
        "CALLER".to_owned(),
    ]];
    for user in users {
        let since = user
            .since
            .map(|since| std::time::Duration::from_secs(now.saturating_sub(since)));
        rows.push([
            user.user.clone(),
            since.map_or("-".to_owned(), say::time),
            user.connections.to_string(),
            user.sessions.to_string(),
            user.principal
                .clone()
                .unwrap_or_else(|| "a key that the bastion lists".to_owned()),
        ]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
    let widths = [width(0), width(1), width(2), width(3)];
    let line = |row: &[String; 5]| {
        let mut line = String::new();
        for (text, width) in row.iter().zip(widths) {
            line += &format!("{text:width$}  ");
        }
        line + &row[4] + "\n"
    };
    rows.iter().map(line).collect()
}
