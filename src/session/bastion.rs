//! The way to the bastion of an `up`: the local one, or the one in AWS. Each call of [`Bastion::connect`] makes one more connection.

mod ec2;
mod find;
mod sessions;
mod trouble;

use std::net::SocketAddr;
use std::time::Instant;

pub(crate) use ec2::Ec2;
pub(crate) use sessions::sweep;

use super::local::{Local, Say};
use super::records::Records;
use crate::error::Result;
use crate::tunnel::{Link, Requests};

/// Which bastion, with all that reaching it takes.
#[derive(Clone)]
pub(crate) enum Bastion {
    /// The one on this machine, which is started when it does not run.
    Local(Box<Local>),
    /// The one of the project in AWS.
    Ec2(Ec2),
}

/// A connection that stands.
pub(crate) struct Reached {
    pub(crate) link: Link,
    pub(crate) requests: Requests,
    pub(crate) place: Place,
    /// The bastion's host key, `ssh-ed25519 AAAA…`: what tokens are kept under.
    pub(crate) host_key: String,
    /// This machine's address on the way, where the connection ends with it.
    pub(crate) local: Option<SocketAddr>,
    /// When another connection must take its place, because somebody in between ends this one soon after.
    pub(crate) until: Option<Instant>,
    pub(crate) rest: Rest,
}

/// Where requests come in, and how this laptop is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// The edge's URL, where this machine can call it.
    pub(crate) url: Option<String>,
    /// In words; `None` where there is nothing to tell.
    pub(crate) through: Option<String>,
}

/// What outlives a connection unless it is ended.
pub(crate) enum Rest {
    Nothing,
    /// A session of Session Manager.
    Session(Box<sessions::Open>),
}

impl Rest {
    /// Ends it, bounded in time.
    pub(crate) async fn end(self) {
        match self {
            Rest::Nothing => {}
            Rest::Session(open) => open.end().await,
        }
    }
}

impl Bastion {
    /// Looks whether it can be of use, before anything is built and started.
    ///
    /// # Errors
    /// It cannot.
    pub(super) async fn check(&self, say: Say<'_>) -> Result<()> {
        match self {
            Bastion::Local(local) => local.check().await,
            Bastion::Ec2(ec2) => ec2.check(say).await,
        }
    }

    /// Connects. `say` hears what takes longer than a moment.
    pub(crate) async fn connect(&self, records: &Records, say: Say<'_>) -> Result<Reached> {
        match self {
            Bastion::Local(local) => {
                let (link, requests, ready) = local.connect(records, say).await?;
                Ok(Reached {
                    link,
                    requests,
                    place: Place {
                        url: Some(format!("http://{}", ready.http)),
                        through: None,
                    },
                    host_key: ready.host_key,
                    local: None,
                    until: None,
                    rest: Rest::Nothing,
                })
            }
            Bastion::Ec2(ec2) => ec2.connect(records, say).await,
        }
    }

    /// A connection fell silent, which the next one is made to survive.
    pub(super) fn fell_silent(&self) {
        if let Bastion::Ec2(ec2) = self {
            ec2.narrows().suspect();
        }
    }

    /// This machine is in another network than its last connection.
    pub(super) fn moved(&self) {
        if let Bastion::Ec2(ec2) = self {
            ec2.narrows().forget();
        }
    }

    /// What to tell a person when requests without the header go elsewhere than another running `up` asked for.
    pub(super) async fn staging_taken(&self, records: &Records) -> Result<Option<String>> {
        match self {
            Bastion::Local(local) => local.staging_taken(records).await,
            Bastion::Ec2(_) => Ok(None),
        }
    }

    /// At the end of an `up`, bounded in time: what its connections left behind is ended, and the others' settings count.
    pub(crate) async fn leave(&self, records: &Records) {
        match self {
            Bastion::Local(local) => local.stage_for_others(records).await,
            Bastion::Ec2(ec2) => ec2.leave().await,
        }
    }
}
