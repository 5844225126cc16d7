//! `ephemwork bastion audit`: who did what with which tag, asked of the daemon's own socket or, by an admin, over a tunnel.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use argh::FromArgs;
use http::Method;
use serde_json::json;

use super::super::say::{self, Form};
use super::sessions;
use super::users::{Way, call, way};
use crate::error::{Error, Exit, Result};
use crate::host::Host;
use crate::log::escaped;
use crate::name::User;
use crate::protocol::audit::{AuditPage, Entry, Used};
use crate::tunnel::Link;

/// How far back it goes unless it is told.
const SINCE: Duration = Duration::from_secs(24 * 3600);

/// Pages that are asked for at most; the daemon's own limit on the audit is below that.
const MAX_PAGES: usize = 1000;

/// Show who claimed, took over and released which tag, and who was refused. On the bastion itself, or from here by who fits an --admin
/// pattern of it.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "audit",
    example = "{command_name}",
    example = "{command_name} --since 7d --user alice",
    example = "{command_name} --since 2026-11-20 --json",
    note = "The bastion keeps 90 days of it, 16 MiB at most (--audit-days and --audit-bytes of the daemon); its log has the same lines."
)]
pub(super) struct Arguments {
    /// from when on: 90m, 24h, 7d, 2026-11-20 or 2026-11-20T10:00:00Z (default 24h)
    #[argh(option, arg_name = "when")]
    since: Option<String>,
    /// only what is about this user name
    #[argh(option, arg_name = "name")]
    user: Option<String>,
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

pub(super) fn run(host: &Host, arguments: Arguments) -> Result<Exit> {
    let form = Form::of(arguments.json);
    let now = SystemTime::now();
    let since = match &arguments.since {
        Some(text) => since(text, now).map_err(|why| Error::new(Exit::Usage, format!("--since is {text:?}")).because(why))?,
        None => seconds(now - SINCE),
    };
    let user = arguments.user.as_deref().map(User::parse).transpose();
    let user = user.map_err(|why| Error::new(Exit::Usage, "--user is no user name").because(why))?;
    let mut query = format!("/v1/audit?since={since}");
    if let Some(user) = user {
        query += &format!("&user={user}");
    }
    let way = way(host, arguments.control_socket.as_deref(), arguments.region.as_deref())?;
    let profile = arguments.profile.as_deref();
    super::super::block_on(async {
        let entries = match way {
            Way::Socket(socket) => {
                all(&query, async |path: &str| {
                    call::<AuditPage>(&socket, Method::GET, path, None).await
                })
                .await?
            }
            Way::Tunnel(to) => {
                let ask = async |link: &Link| all(&query, async |path: &str| link.audit(path).await).await;
                sessions::over(host, to.0, &to.1, profile, form, ask).await?
            }
        };
        match form {
            Form::Json => say::object(&json!({ "version": 1, "entries": entries })),
            Form::Human if entries.is_empty() => say::warn("nothing happened since then\n"),
            Form::Human => say::out(&entries.iter().map(line).collect::<String>()),
        }
        Ok(Exit::Fine)
    })
}

/// All pages.
async fn all(query: &str, ask: impl AsyncFn(&str) -> Result<AuditPage>) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut after = String::new();
    for _ in 0..MAX_PAGES {
        let page = ask(&format!("{query}{after}")).await?;
        entries.extend(page.entries);
        match page.next {
            Some(number) => after = format!("&after={number}"),
            None => return Ok(entries),
        }
    }
    Err(Error::new(Exit::Unreachable, "the bastion's audit has no end").hint("ask for less of it: --since 24h"))
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A time, or a duration before `now`, as seconds since the epoch.
fn since(text: &str, now: SystemTime) -> Result<u64, String> {
    if let Ok(before) = humantime::parse_duration(text) {
        return Ok(seconds(now.checked_sub(before).unwrap_or(UNIX_EPOCH)));
    }
    // A day alone is its beginning.
    let day = text.len() == 10 && text.as_bytes().get(4) == Some(&b'-');
    let whole = if day { format!("{text}T00:00:00") } else { text.to_owned() };
    let time = humantime::parse_rfc3339_weak(&whole);
    time.map(seconds)
        .map_err(|_| "write 90m, 24h, 7d, 2026-11-20, or 2026-11-20T10:00:00Z".to_owned())
}

/// An entry for a person: when, what, whose, and then everything that is known.
fn line(entry: &Entry) -> String {
    let time = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(entry.time));
    let whose = match &entry.service {
        Some(service) => format!("{}:{service}", entry.user),
        None => entry.user.clone(),
    };
    let mut rest = Vec::new();
    if entry.times > 1 {
        rest.push(format!("{} times", entry.times));
    }
    rest.extend(entry.host.as_ref().map(|host| format!("host {host}")));
    rest.extend(entry.from.as_ref().map(|from| format!("from {from}")));
    rest.extend(entry.principal.as_ref().map(|principal| format!("by {principal}")));
    let address = entry
        .address
        .as_ref()
        .map(|address| format!(" ({address})"))
        .unwrap_or_default();
    rest.extend(
        entry
            .transport
            .as_ref()
            .map(|transport| format!("through {transport}{address}")),
    );
    rest.extend(entry.used.map(used));
    rest.extend(entry.why.clone());
    format!(
        "{time}  {:13}  {whose:20}  {}\n",
        entry.event.as_str(),
        escaped(&rest.join(", "))
    )
}

fn used(used: Used) -> String {
    format!(
        "{}, {} in, {} out",
        say::count(used.requests, "request"),
        bytes(used.bytes_in),
        bytes(used.bytes_out)
    )
}

/// Bytes in the largest unit that leaves a number before the point.
fn bytes(count: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|&(size, _)| count >= size) {
        Some((size, name)) => format!("{}.{} {name}", count / size, count % size * 10 / size),
        None => format!("{count} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::audit::Happened;

    #[test]
    fn times() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let check = |text: &str, expected: Option<u64>| assert_eq!(since(text, now).ok(), expected, "{text}");
        check("90m", Some(1_000_000 - 5400));
        check("1d", Some(1_000_000 - 86_400));
        check("1000000days", Some(0));
        check("1970-01-02", Some(86_400));
        check("1970-01-02T00:00:01Z", Some(86_401));
        check("1970-01-02 00:00:01", Some(86_401));
        check("yesterday", None);
        check("", None);
        check("1970-99-99", None);
    }

    #[test]
    fn lines() {
        let entry = Entry {
            number: 7,
            time: 86_401,
            event: Happened::TookOver,
            user: "alice".to_owned(),
            service: Some("api".to_owned()),
            principal: None,
            host: Some("sofa\u{1b}[2J".to_owned()),
            transport: Some("ssm".to_owned()),
            address: Some("127.0.0.1:5".to_owned()),
            from: Some("desk".to_owned()),
            used: Some(Used {
                requests: 3,
                bytes_in: 1536,
                bytes_out: 12,
            }),
            why: None,
            times: 1,
        };
        let expected = "1970-01-02T00:00:01Z  took-over      alice:api             host sofa\\u{1b}[2J, from desk, \
                        through ssm (127.0.0.1:5), 3 requests, 1.5 KiB in, 12 B out\n";
        assert_eq!(line(&entry), expected);
    }
}
