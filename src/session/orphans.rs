//! Ends what an `up` that was killed left running, and finds again what lost its record.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::home::Home;
use super::records::{Group, Records, Up};
use super::system::{self, Process};
use super::{control, mark};
use crate::error::Result;
use crate::rt;

/// How long an orphan may take to end when asked. Its developer wants to start anew, and it serves nobody.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a killed one may take.
const KILLED: Duration = Duration::from_secs(2);
/// Between two looks at whether they are gone.
const LOOK: Duration = Duration::from_millis(20);

/// What a sweep did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Swept {
    /// The services of which something was ended.
    pub(crate) ended: Vec<String>,
    /// What else a person must know, as sentences.
    pub(crate) warnings: Vec<String>,
}

/// Ends everything whose `up` lives no more, by its record and by its mark, and forgets it.
pub(crate) async fn sweep(records: &Records, home: &Home) -> Result<Swept> {
    let groups = killed_groups(records).await?;
    let warnings = records.warnings();
    if !warnings.is_empty() {
        adopt(records, home).await?;
    }
    let ended = end(&groups, home).await;
    for group in &groups {
        records.remove_group(group.leader.pid).await?;
    }
    for up in records.ups().await? {
        let process = up.process.clone();
        if !rt::unblock(move || process.lives()).await {
            std::fs::remove_file(&up.socket).ok();
            records.remove_up(up.process.pid).await?;
        }
    }
    Ok(Swept { ended, warnings })
}

async fn killed_groups(records: &Records) -> Result<Vec<Group>> {
    let mut groups = records.groups().await?;
    let checked = rt::unblock(move || {
        groups.retain(|group| !group.owner.lives());
        groups
    });
    Ok(checked.await)
}

/// Ends all of them, with one deadline. Returns whose they were.
async fn end(groups: &[Group], home: &Home) -> Vec<String> {
    let mut ended = signal(groups, home, Signal::TERM).await;
    if ended.is_empty() {
        return ended;
    }
    ended.sort();
    ended.dedup();
    let asked = Instant::now();
    while asked.elapsed() < PATIENCE && any_left(groups, home).await {
        rt::sleep(LOOK).await;
    }
    let killing = Instant::now();
    // What forks while it is killed is met in the next round.
    while killing.elapsed() < KILLED && !signal(groups, home, Signal::KILL).await.is_empty() {
        rt::sleep(LOOK).await;
    }
    ended
}

async fn any_left(groups: &[Group], home: &Home) -> bool {
    let (groups, home) = (groups.to_vec(), home.clone());
    rt::unblock(move || groups.iter().any(|group| !members(group).is_empty()) || !mark::orphans(&home).is_empty()).await
}

/// Signals everything that is left, each process once. Returns the services whose processes there were.
async fn signal(groups: &[Group], home: &Home, signal: Signal) -> Vec<String> {
    let (groups, home) = (groups.to_vec(), home.clone());
    rt::unblock(move || {
        let mut left: Vec<(Process, String)> = Vec::new();
        for group in &groups {
            left.extend(members(group).into_iter().map(|process| (process, group.service.clone())));
        }
        for (marked, service) in mark::orphans(&home) {
            if left.iter().all(|(process, _)| *process != marked.process) {
                left.push((marked.process, service));
            }
        }
        left.iter().for_each(|(process, _)| process.signal(signal));
        left.into_iter().map(|(_, service)| service).collect()
    })
    .await
}

/// Who is left of a recorded group: everybody while its first process is the recorded one; later only those who carry its mark,
/// because the number may be another's by now.
fn members(group: &Group) -> Vec<Process> {
    let of_group = |numbers: Vec<u32>| numbers.into_iter().filter_map(Process::of).collect();
    if group.leader.lives() {
        return of_group(system::members(group.leader.pid));
    }
    let marked = mark::carriers(&group.mark).into_iter();
    marked
        .filter(|carrier| carrier.group == group.leader.pid)
        .map(|carrier| carrier.process)
        .collect()
}

/// Enters the running `up`s whose entries were lost, by their control sockets.
async fn adopt(records: &Records, home: &Home) -> Result<()> {
    let known = records.ups().await?;
    for (pid, socket) in home.sockets() {
        let process = rt::unblock(move || Process::of(pid)).await;
        let Some(process) = process.filter(|process| known.iter().all(|up| up.process != *process)) else {
            continue;
        };
        if let Some(status) = control::status(&socket).await {
            let tags = status.services.into_iter().filter(|service| service.state != "stopped");
            let up = Up {
                process,
                socket,
                tags: tags.map(|service| service.tag).collect(),
                listen: status
                    .url
                    .as_deref()
                    .and_then(|url| url.strip_prefix("http://")?.parse().ok()),
                staging: status.staging_url,
                since: status.since,
            };
            records.adopt(&up).await?;
        }
    }
    Ok(())
}
