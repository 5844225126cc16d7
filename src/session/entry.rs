//! Whether there is room for an `up` on this machine: its tags, then its ports. Nothing was started yet.

use std::path::PathBuf;

use super::control;
use super::local::Say;
use super::plan::{Plan, Planned, Runner};
use super::port;
use super::records::{Gone, Records, Up};
use super::system::Process;
use crate::config::TunnelKind;
use crate::error::{Error, Exit, Result};
use crate::rt;

/// Enters this process as the one that serves the plan's tags, and makes its control socket.
///
/// `since` is now, in seconds since the Unix epoch. One transaction decides among those that come at once, so that exactly one of them goes on.
///
/// # Errors
/// Another `up` of this machine serves a tag, a port is taken, or the socket cannot be made.
pub(super) async fn enter(records: &Records, plan: &Plan, since: u64, say: Say<'_>) -> Result<(PathBuf, rt::UnixListener)> {
    let process = Process::own();
    let socket = plan.home.control(process.pid)?;
    // Another process had this number once.
    std::fs::remove_file(&socket).ok();
    // It listens before it is entered: who finds the entry may ask at once.
    let listener = rt::UnixListener::bind(&socket).map_err(|why| {
        Error::new(
            Exit::Config,
            format!("the control socket {} cannot be made", socket.display()),
        )
        .because(why)
    })?;
    let up = Up {
        process,
        socket: socket.clone(),
        tags: plan.services.iter().map(|planned| planned.tag.to_string()).collect(),
        listen: (plan.config.tunnel.kind == TunnelKind::Local).then_some(plan.config.tunnel.listen),
        staging: plan.config.tunnel.staging_url.as_ref().map(ToString::to_string),
        since,
    };
    let entered = async {
        claim(records, plan, &up).await?;
        plan.bastion.check(say).await?;
        ports_are_free(plan).await
    };
    if let Err(error) = entered.await {
        std::fs::remove_file(&socket).ok();
        if let Err(why) = records.remove_up(up.process.pid).await {
            // The next sweep finds that nobody lives there.
            tracing::debug!("{why}");
        }
        return Err(error);
    }
    Ok((socket, listener))
}

/// Enters it once nobody serves one of its tags any more.
async fn claim(records: &Records, plan: &Plan, up: &Up) -> Result<()> {
    let mut gone: Vec<Gone> = Vec::new();
    // Each round either ends or finds one more entry that does not count.
    while let Some((holder, tag)) = records.enter(up, &gone).await? {
        if !serves(&holder, &tag).await {
            gone.push((holder.process, tag));
            continue;
        }
        let service = plan.services.iter().find(|planned| planned.tag.to_string() == tag);
        let service = service.map_or(tag.as_str(), |planned| planned.tag.service.as_str());
        // Also with a takeover: that is for another machine. Two of this one share their token, and would displace each other for ever.
        return Err(Error::new(Exit::Conflict, format!("{tag} is up already"))
            .because(format_args!("process {} of this machine serves it", holder.process.pid))
            .hint(format!("end that one: ephemwork down {service}")));
    }
    Ok(())
}

/// Whether an entered `up` still serves a tag: it lives, and has not stopped that service for good.
async fn serves(holder: &Up, tag: &str) -> bool {
    let process = holder.process.clone();
    if !rt::unblock(move || process.lives()).await {
        return false;
    }
    let stopped = |status: control::Status| {
        let mut services = status.services.iter();
        services.any(|service| service.tag == tag && service.state == "stopped")
    };
    // One that does not answer may be about to begin; its entry counts.
    !control::status(&holder.socket).await.is_some_and(stopped)
}

async fn ports_are_free(plan: &Plan) -> Result<()> {
    if plan.choices.runner == Runner::Other {
        return Ok(());
    }
    for planned in &plan.services {
        let port = planned.config.port;
        if let Some(taken) = rt::unblock(move || port::taken(port)).await {
            return Err(port_taken(planned, taken));
        }
    }
    Ok(())
}

pub(super) fn port_taken(planned: &Planned, taken: port::Taken) -> Error {
    let (service, port) = (&planned.tag.service, planned.config.port);
    let by = taken
        .by
        .unwrap_or_else(|| "a process that the system does not name".to_owned());
    Error::new(Exit::Conflict, format!("port {port} of service {service} is taken"))
        .because(format_args!("{by} holds it"))
        .hint(format!(
            "end it; or, if it is the service itself: ephemwork up {service} --no-run"
        ))
}
