//! Who is on the bastion, as it says itself: the end of `bastion status`.

use std::time::Duration;

use super::super::say::{self, Form};
use crate::config::Config;
use crate::error::Result;
use crate::host::Host;
use crate::protocol::{SessionState, SessionView};
use crate::provision::wanted::Wanted;
use crate::rt;
use crate::session::bastion::{Bastion, Ec2};
use crate::session::home::Home;
use crate::session::identity;
use crate::session::records::Records;

/// How long the bastion may take to be reached and to tell; the rest of the status is known without it.
const LIMIT: Duration = Duration::from_secs(30);

/// Its sessions, or why they are not known.
pub(super) async fn seen(
    host: &Host,
    mut config: Config,
    wanted: &Wanted,
    profile: Option<&str>,
    form: Form,
) -> Result<Vec<SessionView>, String> {
    config.tunnel.aws.region.clone_from(&wanted.region);
    let open = || -> Result<(Bastion, Records)> {
        let home = Home::open(host)?;
        let user = identity::user(host)?;
        let bastion = Ec2::new(host, &home, &user, &config, profile)?;
        Ok((Bastion::Ec2(bastion), Records::of(&home)))
    };
    let (bastion, records) = open().map_err(|error| error.to_string())?;
    let say = move |text: String| {
        if form == Form::Human {
            say::warn(&format!("{text}\n"));
        }
    };
    let asking = async {
        let reached = bastion.connect(&records, &say).await?;
        let sessions = reached.link.sessions(true).await;
        reached.link.close().await;
        reached.rest.end().await;
        sessions
    };
    let asked = rt::timeout(LIMIT, asking).await;
    bastion.leave(&records).await;
    match asked {
        Some(Ok(sessions)) => Ok(sessions.sessions),
        Some(Err(error)) => Err(error.to_string()),
        None => Err(format!("the bastion did not answer within {} s", LIMIT.as_secs())),
    }
}

/// The lines for a person. `now` in seconds since the Unix epoch.
pub(super) fn text(seen: &Result<Vec<SessionView>, String>, now: u64) -> String {
    let line = |name: &str, value: String| format!("  {name:10} {value}\n");
    match seen {
        Err(why) => line("sessions", format!("not known: {}", why.replace('\n', " "))),
        Ok(sessions) if sessions.is_empty() => line("sessions", "none".to_owned()),
        Ok(sessions) => {
            let mut lines: Vec<&SessionView> = sessions.iter().collect();
            lines.sort_by_key(|session| (session.tag.user.to_string(), session.tag.service.to_string()));
            let ago = |since: u64| say::time(Duration::from_secs(now.saturating_sub(since).max(1)));
            let text = |session: &&SessionView| {
                let state = match session.state {
                    SessionState::Live => format!("{} lanes from {}", session.lanes.len(), session.host),
                    SessionState::Leased => "waits for its laptop".to_owned(),
                };
                line(
                    "session",
                    format!(
                        "{}: {state}, since {} ago, {} requests",
                        session.tag,
                        ago(session.created),
                        session.requests
                    ),
                )
            };
            lines.iter().map(text).collect()
        }
    }
}
