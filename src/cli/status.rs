//! `ephemwork status`: this user's sessions, here and as the local bastions see them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use argh::FromArgs;
use http::Method;
use serde::Serialize;
use serde_json::json;

use super::say::{self, Form};
use crate::error::{Exit, Result};
use crate::host::Host;
use crate::name::User;
use crate::protocol::{SessionState, SessionView, Sessions};
use crate::session::control::{self, ServiceStatus, Status};
use crate::session::home::Home;
use crate::session::orphans::{self, Swept};
use crate::session::records::Records;
use crate::session::{bastion, identity, local, socket};

/// Show what is up: on this machine, and as the bastion sees it.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "status",
    example = "{command_name}",
    example = "{command_name} --all --json"
)]
pub(super) struct Arguments {
    /// print one JSON object
    #[argh(switch)]
    json: bool,
    /// show everyone's sessions
    #[argh(switch)]
    all: bool,
}

/// What a bastion sees.
#[derive(Serialize)]
struct Seen {
    url: String,
    pid: u32,
    sessions: Vec<SessionView>,
    /// Why the list is not complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

pub(super) fn run(host: &Host, arguments: Arguments) -> Result<Exit> {
    let home = Home::open(host)?;
    super::block_on(async {
        let records = Records::of(&home);
        let Swept { ended: swept, warnings } = orphans::sweep(&records, &home).await?;
        warnings.iter().for_each(|text| say::warn(&format!("warning: {text}\n")));
        let left = bastion::sweep(host, &records).await;
        left.iter().for_each(|text| say::warn(&format!("{text}\n")));
        let here: Vec<Status> = control::running(&records)
            .await?
            .into_iter()
            .map(|(_, status)| status)
            .collect();
        // Without a name there is nobody else to tell apart.
        let user = if arguments.all { None } else { identity::user(host).ok() };
        let mut bastions = Vec::new();
        for directory in home.locals() {
            if let Some(ready) = local::serving(&directory).await {
                bastions.push(seen(&ready, user.as_ref()).await);
            }
        }
        match Form::of(arguments.json) {
            Form::Json => {
                say::object(&json!({ "version": 1, "here": here, "bastions": bastions, "cleaned": swept, "warnings": warnings }))
            }
            Form::Human => {
                for service in swept {
                    say::warn(&format!("ended what a killed up had left running of {service}\n"));
                }
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                say::out(&table(&here, &bastions, now));
            }
        }
        Ok(Exit::Fine)
    })
}

async fn seen(ready: &local::Ready, user: Option<&User>) -> Seen {
    let mut seen = Seen {
        url: format!("http://{}", ready.http),
        pid: ready.pid,
        sessions: Vec::new(),
        error: None,
    };
    let answer = socket::call(&ready.control, Method::GET, "/v1/sessions?all=true", None).await;
    let parsed = answer.and_then(|(status, body)| match status.is_success() {
        true => serde_json::from_slice::<Sessions>(&body).map_err(|why| why.to_string()),
        false => Err(format!("it answered {status}")),
    });
    match parsed {
        Ok(sessions) => {
            seen.sessions = sessions.sessions;
            seen.sessions
                .retain(|session| user.is_none_or(|user| session.tag.user == *user));
        }
        Err(why) => seen.error = Some(why),
    }
    seen
}

const HEADS: [&str; 8] = ["TAG", "STATE", "PORT", "PID", "SINCE", "REQUESTS", "BASTION", "LAST ERROR"];

fn table(here: &[Status], bastions: &[Seen], now: u64) -> String {
    let mut rows: Vec<[String; 8]> = Vec::new();
    let mut shown = Vec::new();
    for status in here {
        for service in &status.services {
            let session = find(bastions, status, service);
            shown.push((status.url.clone().unwrap_or_default(), service.tag.clone()));
            rows.push(own_row(status, service, session, now));
        }
    }
    for bastion in bastions {
        for session in &bastion.sessions {
            if !shown.contains(&(bastion.url.clone(), session.tag.to_string())) {
                rows.push(other_row(session, now));
            }
        }
    }
    let mut text = String::new();
    if rows.is_empty() {
        text += "nothing is up; begin with: ephemwork up SERVICE\n";
    } else {
        rows.insert(0, HEADS.map(str::to_owned));
        text += &aligned(&rows);
    }
    for status in here {
        if let Some(through) = &status.through {
            text += &format!("\nprocess {} reaches the bastion through {through}\n", status.pid);
        }
    }
    for bastion in bastions {
        match &bastion.error {
            None => text += &format!("\nlocal bastion at {} (process {})\n", bastion.url, bastion.pid),
            Some(why) => {
                text += &format!(
                    "\nlocal bastion at {} (process {}) does not list its sessions: {why}\n",
                    bastion.url, bastion.pid
                )
            }
        }
    }
    text
}

fn find<'a>(bastions: &'a [Seen], status: &Status, service: &ServiceStatus) -> Option<&'a SessionView> {
    let bastion = bastions.iter().find(|bastion| Some(&bastion.url) == status.url.as_ref())?;
    bastion.sessions.iter().find(|session| session.tag.to_string() == service.tag)
}

fn own_row(status: &Status, service: &ServiceStatus, session: Option<&SessionView>, now: u64) -> [String; 8] {
    let last = service
        .last_error
        .clone()
        .or_else(|| session.and_then(|session| session.last_error.clone()));
    [
        service.tag.clone(),
        service.state.clone(),
        service.port.to_string(),
        service.pid.map_or("-".to_owned(), |pid| pid.to_string()),
        ago(status.since, now),
        session.map_or(service.requests, |session| session.requests).to_string(),
        session.map_or("-".to_owned(), state),
        last.unwrap_or_default(),
    ]
}

fn other_row(session: &SessionView, now: u64) -> [String; 8] {
    let place = if session.state == SessionState::Live {
        format!("on {}", session.host)
    } else {
        "away".to_owned()
    };
    let dash = || "-".to_owned();
    let last = session.last_error.clone().unwrap_or_default();
    [
        session.tag.to_string(),
        place,
        dash(),
        dash(),
        ago(session.created, now),
        session.requests.to_string(),
        state(session),
        last,
    ]
}

fn state(session: &SessionView) -> String {
    match session.state {
        SessionState::Live => "live".to_owned(),
        SessionState::Leased => "leased".to_owned(),
    }
}

fn ago(since: u64, now: u64) -> String {
    format!(
        "{} ago",
        say::time(Duration::from_secs(now.saturating_sub(since)).max(Duration::from_secs(1)))
    )
}

fn aligned(rows: &[[String; 8]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..8).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, &width)| format!("{cell:width$}"))
            .collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    text
}
