//! What the machine is told and what it asks for.

use std::time::Duration;

use crate::error::Error;
use crate::name::Tag;
use crate::session::note::{Note, Stage, Status};

/// Time since the `up` began.
pub(crate) type Moment = Duration;

/// The position of a service in [`Orders::jobs`].
pub(crate) type Index = usize;

/// One service of an `up`.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) tag: Tag,
    /// The commands it has, in their order. Without [`Stage::Run`] somebody else runs it, and it is only awaited.
    pub(crate) stages: Vec<Stage>,
    /// How long it may take from its first start until it answers.
    pub(crate) health_timeout: Duration,
}

/// Whether a service that failed is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Restart {
    Never,
    OnFailure,
}

/// How many lanes an `up` keeps: the least always, up to the most while large bodies are on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lanes {
    pub(crate) least: usize,
    pub(crate) most: usize,
}

impl Lanes {
    /// The most that is of use: Session Manager paces each lane, and a developer's uplink carries four of them.
    pub(crate) const MOST: usize = 4;

    /// As many as there is use for.
    pub(crate) const AUTO: Lanes = Lanes {
        least: 1,
        most: Lanes::MOST,
    };

    /// Whether how many there are depends on what there is to do.
    pub(crate) fn varies(self) -> bool {
        self.least != self.most
    }

    /// Always so many, at least one and at most [`Lanes::MOST`].
    pub(crate) fn fixed(count: usize) -> Lanes {
        let count = count.clamp(1, Lanes::MOST);
        Lanes {
            least: count,
            most: count,
        }
    }
}

/// What happened.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// The loop runs.
    Begin,
    /// A command could not be started; nothing of it is left.
    SpawnFailed(Index, Error),
    /// The command itself ended; others of its group may still run.
    Exited(Index, Status),
    /// Nothing of the command's group is left.
    Gone(Index),
    /// What [`Action::Clear`] asked for is done.
    Cleared(Index),
    /// The service was looked at and did not answer, for this reason.
    Unhealthy(Index, String),
    /// The service answered.
    Healthy(Index),
    /// The connection that [`Action::Connect`] asked for stands.
    Connected(u64),
    /// It does not.
    ConnectFailed(u64, Error),
    /// A tag is this laptop's, over this connection.
    Claimed(u64, Index),
    /// It is not.
    ClaimFailed(u64, Index, Error),
    /// A connection is gone.
    Lost(u64, String),
    /// The bastion is about to stop; it told it over this connection.
    Draining(u64),
    /// This connection's transport will end soon by itself, and is to be replaced before.
    Ending(u64),
    /// What [`Action::Leave`] asked for is done: the connection is closed.
    Left(u64),
    /// So many large bodies are on their way, over all connections together.
    Bulk(usize),
    /// A tag is somebody else's now: another host's, or nobody's.
    Displaced(Index, Option<String>),
    /// The bastion ended the session, for this reason; it may be claimed anew.
    Outlived(Index, String),
    /// A release over this connection was answered, or nobody waits for the answer any longer.
    Released(u64, Index),
    /// `ephemwork down` for these services; none means all.
    Down(Vec<Index>),
    /// Ctrl-C.
    Interrupt,
    /// SIGTERM, or the terminal is gone.
    Terminate,
    /// The time of [`Machine::deadline`] has come.
    Tick,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Start this command of the service in a group of its own.
    Spawn(Index, Stage),
    /// Ask the group to end, and make it end when it takes too long; [`Event::Gone`] follows in any case.
    Stop(Index),
    /// End the group and everything else of the service now, before the next action.
    Kill(Index),
    /// End what left the groups of bootstrap and build, with the same patience as [`Action::Stop`]; [`Event::Cleared`] follows.
    Clear(Index),
    /// Look at the service until it answers; [`Event::Unhealthy`] and then [`Event::Healthy`] follow.
    Watch(Index),
    /// Look no longer.
    Unwatch(Index),
    /// Connect to the bastion, as this lane number of the sessions; exactly one of [`Event::Connected`] and
    /// [`Event::ConnectFailed`] follows.
    Connect(u64, u32),
    /// Take no new requests over this connection, and close it when those in flight are answered; [`Event::Left`] or
    /// [`Event::Lost`] follows.
    Leave(u64),
    /// Close this connection now; nothing more is heard of it.
    Close(u64),
    /// Claim the service's tag over this connection and let its requests through.
    Claim(u64, Index),
    /// Give the tag back; [`Event::Released`] follows within bounded time.
    Release(u64, Index),
    /// Let no more requests through to the service.
    Unroute(Index),
    /// Tell a person.
    Tell(Note),
    /// The last action.
    End(Outcome),
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was asked to end.
    Fine,
    /// By Ctrl-C, or by SIGTERM before it was ready.
    Interrupted,
    /// It could not go on.
    Failed(Error),
}
