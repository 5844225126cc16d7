//! `ephemwork bastion users`: whose the user names are, asked of the daemon's own socket or, by an admin, over a tunnel.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use argh::FromArgs;
use http::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::super::say::{self, Form};
use super::sessions;
use crate::config::{self, Config, TunnelKind};
use crate::error::{Error, Exit, Result};
use crate::host::Host;
use crate::protocol::{Refusal, ReleaseUser, Released, UserView, UsersView};
use crate::provision::wanted::Wanted;
use crate::session::socket;
use crate::tunnel::Link;

/// Where the unit that `bastion init` installs puts it.
const SOCKET: &str = "/var/lib/ephemwork/control.sock";

/// Show whose the user names are; free one. On the bastion itself, or from here by who fits an --admin pattern of it.
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
    /// release NAME: free a user name for somebody else
    #[argh(positional, arg_name = "release")]
    what: Vec<String>,
    /// the daemon's socket (default /var/lib/ephemwork/control.sock)
    #[argh(option, arg_name = "path")]
    control_socket: Option<String>,
    /// print one JSON object
    #[argh(switch)]
    json: bool,
    /// the AWS profile (default: AWS_PROFILE)
    #[argh(option, arg_name = "name")]
    profile: Option<String>,
    /// the AWS region (default: tunnel.region, AWS_REGION, the profile's)
    #[argh(option, arg_name = "name")]
    region: Option<String>,
}

/// Where the bastion is asked.
pub(super) enum Way {
    Socket(PathBuf),
    /// Over a tunnel of this project's.
    Tunnel(Box<(Config, Wanted)>),
}

/// The socket that is named, or that of the daemon on this machine; without one the project's bastion in AWS.
pub(super) fn way(host: &Host, named: Option<&str>, region: Option<&str>) -> Result<Way> {
    if let Some(path) = named {
        return Ok(Way::Socket(host.directory.join(path)));
    }
    let own = PathBuf::from(SOCKET);
    if own.exists() || config::find(&host.directory, |path| path.is_file()).is_none() {
        return Ok(Way::Socket(own));
    }
    let config = super::super::load(host)?;
    Ok(match config.tunnel.kind {
        TunnelKind::Ec2 => {
            let wanted = super::wanted(&config, region)?;
            Way::Tunnel(Box::new((config, wanted)))
        }
        TunnelKind::Local => Way::Socket(own),
    })
}

pub(super) fn run(host: &Host, arguments: Arguments) -> Result<Exit> {
    let form = Form::of(arguments.json);
    let what: Vec<&str> = arguments.what.iter().map(String::as_str).collect();
    let freed = match what.as_slice() {
        [] => None,
        ["release", name] => Some(*name),
        ["release"] => {
            return Err(Error::new(Exit::Usage, "which name is to be released?").hint("ephemwork bastion users release NAME"));
        }
        _ => {
            return Err(Error::new(
                Exit::Usage,
                format!("{:?} is nothing that can be done with names", what.join(" ")),
            )
            .hint("ephemwork bastion users, or ephemwork bastion users release NAME"));
        }
    };
    let way = way(host, arguments.control_socket.as_deref(), arguments.region.as_deref())?;
    let profile = arguments.profile.as_deref();
    super::super::block_on(async {
        match freed {
            None => {
                let found = match way {
                    Way::Socket(socket) => call::<UsersView>(&socket, Method::GET, "/v1/users", None).await?,
                    Way::Tunnel(to) => {
                        let ask = async |link: &Link| link.users().await;
                        sessions::over(host, to.0, &to.1, profile, form, ask).await?
                    }
                };
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                match form {
                    Form::Json => say::object(&json!({ "version": 1, "users": found.users })),
                    Form::Human => say::out(&table(&found.users, now)),
                }
            }
            Some(name) => {
                let release = ReleaseUser { user: name.to_owned() };
                let found = match way {
                    Way::Socket(socket) => {
                        call::<Released>(&socket, Method::POST, "/v1/users/release", Some(json!(release))).await?
                    }
                    Way::Tunnel(to) => {
                        let ask = async |link: &Link| link.release_user(&release).await;
                        sessions::over(host, to.0, &to.1, profile, form, ask).await?
                    }
                };
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

pub(super) async fn call<A: DeserializeOwned>(
    socket: &Path,
    method: Method,
    path: &str,
    body: Option<serde_json::Value>,
) -> Result<A> {
    let unreachable = |why: String| {
        Error::new(Exit::Unreachable, format!("no bastion answers at {}", socket.display()))
            .because(why)
            .hint("run it on the bastion, as root (sudo), or in a directory whose ephemwork.toml leads there, as one of its admins; or give \
                 --control-socket the socket of its state directory")
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
            format!("the daemon at {} does not know this call", socket.display()),
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
