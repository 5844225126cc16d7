//! What the bastion says itself, asked over a tunnel: who is on it, for the end of `bastion status`.

use std::time::Duration;

use super::super::say::{self, Form};
use crate::config::Config;
use crate::error::{Error, Exit, Result};
use crate::host::Host;
use crate::protocol::{SessionState, SessionView};
use crate::provision::wanted::Wanted;
use crate::rt;
use crate::session::bastion::{Bastion, Ec2};
use crate::session::home::Home;
use crate::session::identity;
use crate::session::records::Records;
use crate::tunnel::Link;

/// How long the bastion may take to be reached and to tell.
const LIMIT: Duration = Duration::from_secs(30);

/// Its sessions, or why they are not known: the rest of the status is known without it.
pub(super) async fn seen(
    host: &Host,
    config: Config,
    wanted: &Wanted,
    profile: Option<&str>,
    form: Form,
) -> Result<Vec<SessionView>, String> {
    let asked = over(host, config, wanted, profile, form, async |link: &Link| {
        link.sessions(true).await
    });
    match asked.await {
        Ok(sessions) => Ok(sessions.sessions),
        Err(error) => Err(error.to_string()),
    }
}

/// Asks the bastion something over a connection of its own, by the first way that leads there; nothing of it is left.
///
/// # Errors
/// It cannot be reached within [`LIMIT`], or what `ask` says.
pub(super) async fn over<T>(
    host: &Host,
    mut config: Config,
    wanted: &Wanted,
    profile: Option<&str>,
    form: Form,
    ask: impl AsyncFnOnce(&Link) -> Result<T>,
) -> Result<T> {
    config.tunnel.aws.region.clone_from(&wanted.region);
    let home = Home::open(host)?;
    let user = identity::user(host)?;
    let bastion = Bastion::Ec2(Ec2::new(host, &home, &user, &config, profile)?);
    let records = Records::of(&home);
    let say = move |text: String| {
        if form == Form::Human {
            say::warn(&format!("{text}\n"));
        }
    };
    let asking = async {
        let reached = bastion.connect(&records, &say).await?;
        let answer = ask(&reached.link).await;
        reached.link.close().await;
        reached.rest.end().await;
        answer
    };
    let asked = rt::timeout(LIMIT, asking).await;
    bastion.leave(&records).await;
    asked.unwrap_or_else(|| {
        let what = format!("the bastion did not answer within {} s", LIMIT.as_secs());
        Err(Error::new(Exit::Unreachable, what).hint("see what works: ephemwork doctor --transport"))
    })
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
                if session.host.is_empty() {
                    let state = match session.state {
                        SessionState::Live => "somebody else's",
                        SessionState::Leased => "somebody else's, waits for its laptop",
                    };
                    return line(
                        "session",
                        format!("{}: {state}, since {} ago", session.tag, ago(session.created)),
                    );
                }
                let state = match session.state {
                    SessionState::Live => format!("{} from {}", say::count(session.lanes.len() as u64, "lane"), session.host),
                    SessionState::Leased => "waits for its laptop".to_owned(),
                };
                line(
                    "session",
                    format!(
                        "{}: {state}, since {} ago, {}",
                        session.tag,
                        ago(session.created),
                        say::count(session.requests, "request")
                    ),
                )
            };
            lines.iter().map(text).collect()
        }
    }
}
