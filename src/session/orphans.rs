//! Ends what an `up` that was killed left running.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::records::{Group, Records};
use super::service::wait_gone;
use super::system::{self, Process};
use crate::error::Result;
use crate::rt;

/// How long an orphan may take to end when asked. Its developer wants to start anew, and it serves nobody.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a killed one may take.
const KILLED: Duration = Duration::from_secs(2);

/// Ends every recorded group whose `up` lives no more, and forgets it. Returns whose they were.
pub(crate) async fn sweep(records: &Records) -> Result<Vec<String>> {
    let mut ended = Vec::new();
    for group in records.groups().await? {
        let owner = group.owner.clone();
        if rt::unblock(move || owner.lives()).await {
            continue;
        }
        if end(&group).await {
            ended.push(group.service.clone());
        }
        records.remove_group(group.leader.pid).await?;
    }
    for up in records.ups().await? {
        let process = up.process.clone();
        if !rt::unblock(move || process.lives()).await {
            std::fs::remove_file(&up.socket).ok();
            records.remove_up(up.process.pid).await?;
        }
    }
    Ok(ended)
}

/// Ends one group; whether there was anything to end.
async fn end(group: &Group) -> bool {
    let (number, asked) = (group.leader.pid, group.clone());
    if !rt::unblock(move || signal(&asked, Signal::TERM)).await {
        return false;
    }
    if !wait_gone(number, Instant::now() + PATIENCE).await {
        let killed = group.clone();
        rt::unblock(move || signal(&killed, Signal::KILL)).await;
        wait_gone(number, Instant::now() + KILLED).await;
    }
    true
}

/// Signals the group while its first process is the recorded one; later only those of its members that carry its mark, because
/// the number may be another's by now. Whether anybody was there.
fn signal(group: &Group, signal: Signal) -> bool {
    if group.leader.lives() {
        system::signal_group(group.leader.pid, signal);
        return true;
    }
    let marked = |pid: &u32| system::was_given(*pid, &group.mark);
    let left: Vec<Process> = system::members(group.leader.pid)
        .into_iter()
        .filter(marked)
        .filter_map(Process::of)
        .collect();
    left.iter().for_each(|process| process.signal(signal));
    !left.is_empty()
}
