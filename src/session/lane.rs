//! One connection to the bastion while it lives: claims and releases in their order, and what the bastion says.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use smol::channel::{Receiver, Sender};

use super::bastion::{Bastion, Place, Reached};
use super::happened::Teller;
use super::machine::{Event, Index};
use super::note::Note;
use super::records::Records;
use super::serve::{self, Upstream, Upstreams};
use super::{Said, Show};
use crate::error::Result;
use crate::name::{Service, Tag};
use crate::protocol::{self, Claim, Release};
use crate::rt;
use crate::tunnel::Link;

/// How long a release may take: a developer who pressed Ctrl-C waits for it, and the lease cleans up anyway.
const RELEASE: Duration = Duration::from_secs(2);
/// How long before its end a connection is replaced: what is in flight on it then has this long to finish.
const RENEWED: Duration = Duration::from_secs(300);
/// How many claims and releases wait for their turn; there are two a service at most, and a claim is never asked for twice.
const ASKS: usize = 1024;

/// What does not change from lane to lane.
pub(super) struct Way {
    pub(super) bastion: Bastion,
    pub(super) records: Records,
    pub(super) show: Show,
    /// What this machine is called.
    pub(super) machine: String,
    pub(super) tags: Vec<Tag>,
    pub(super) routes: Vec<Upstream>,
    pub(super) upstreams: Arc<Upstreams>,
    /// Where requests come in, once it is known.
    pub(super) place: Mutex<Option<Place>>,
}

/// What the loop asks of a lane.
pub(super) enum Ask {
    Claim(Index, Takeover),
    Release(Index),
    Close,
}

/// Whether a tag that another machine holds is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takeover {
    No,
    Yes,
}

/// The loop's handle of a lane.
pub(super) struct Lane {
    asks: Sender<Ask>,
    task: rt::Task<()>,
}

impl Lane {
    /// Connects; the loop hears of everything that happens to it.
    pub(super) fn open(way: Arc<Way>, number: u64, teller: Teller) -> Lane {
        let (asks, asked) = smol::channel::bounded(ASKS);
        let task = rt::spawn(async move {
            let say = |text| (way.show)(Said::Note(Note::Waits(text)));
            match way.bastion.connect(&way.records, &say).await {
                Ok(Reached {
                    link,
                    requests,
                    place,
                    host_key,
                    until,
                    rest,
                }) => {
                    *way.place.lock().unwrap_or_else(PoisonError::into_inner) = Some(place);
                    let served = rt::spawn(serve::run(requests, way.upstreams.clone()));
                    teller.tell(Event::Connected(number)).await;
                    let course = Course {
                        way: &way,
                        number,
                        bastion: &host_key,
                        teller: &teller,
                        until,
                    };
                    course.run(link, asked).await;
                    drop(served);
                    rest.end().await;
                }
                Err(error) => teller.tell(Event::ConnectFailed(number, error)).await,
            }
        });
        Lane { asks, task }
    }

    pub(super) fn ask(&self, ask: Ask) {
        // A lane that is over told so, and needs no answer.
        self.asks.try_send(ask).ok();
    }

    /// Says goodbye; bounded in time by the link.
    pub(super) async fn close(self) {
        self.ask(Ask::Close);
        self.task.await;
    }
}

struct Course<'a> {
    way: &'a Way,
    number: u64,
    /// The bastion's host key: what tokens are kept under.
    bastion: &'a str,
    teller: &'a Teller,
    /// When it is cut in any case.
    until: Option<rt::Instant>,
}

enum Turn {
    Ask(Ask),
    Said(protocol::Event),
    Over(String),
    /// Its time is over soon.
    Due,
}

impl Course<'_> {
    async fn run(&self, link: Link, asked: Receiver<Ask>) {
        let events = link.events();
        let mut until = self.until.and_then(|until| until.checked_sub(RENEWED));
        loop {
            let ask = async { Turn::Ask(asked.recv().await.unwrap_or(Ask::Close)) };
            let said = async {
                match events.recv().await {
                    Ok(event) => Turn::Said(event),
                    // Only the link itself says when it is over.
                    Err(_) => std::future::pending().await,
                }
            };
            let over = async { Turn::Over(link.closed().await) };
            let due = async {
                match until {
                    Some(at) => rt::sleep_until(at).await,
                    None => std::future::pending().await,
                }
                Turn::Due
            };
            match smol::future::or(smol::future::or(over, due), smol::future::or(said, ask)).await {
                Turn::Ask(Ask::Claim(index, takeover)) => match self.claim(&link, index, takeover).await {
                    Ok(()) => self.teller.tell(Event::Claimed(self.number, index)).await,
                    Err(error) => self.teller.tell(Event::ClaimFailed(self.number, index, error)).await,
                },
                Turn::Ask(Ask::Release(index)) => {
                    self.release(&link, index).await;
                    self.teller.tell(Event::Released(index)).await;
                }
                Turn::Ask(Ask::Close) => return link.close().await,
                Turn::Said(event) => self.said(event).await,
                Turn::Due => {
                    until = None;
                    self.teller.tell(Event::Draining(self.number)).await;
                }
                Turn::Over(why) => {
                    self.teller.tell(Event::Lost(self.number, why)).await;
                    break;
                }
            }
        }
        // Nobody waits for the answer of a link that is over.
        while let Ok(ask) = asked.try_recv() {
            if let Ask::Release(index) = ask {
                self.teller.tell(Event::Released(index)).await;
            }
        }
    }

    async fn claim(&self, link: &Link, index: Index, takeover: Takeover) -> Result<()> {
        let tag = &self.way.tags[index];
        self.way.upstreams.set(&tag.service, self.way.routes[index].clone());
        let claim = Claim {
            protocol: protocol::VERSION,
            service: tag.service.to_string(),
            host: self.way.machine.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            token: self.way.records.token(self.bastion, tag).await?,
            takeover: takeover == Takeover::Yes,
            lane: 0,
        };
        let claimed = link.claim(&claim).await?;
        self.way.records.set_token(self.bastion, tag, Some(claimed.token)).await
    }

    async fn release(&self, link: &Link, index: Index) {
        let tag = &self.way.tags[index];
        let release = async {
            let token = self.way.records.token(self.bastion, tag).await?;
            link.release(&Release {
                service: tag.service.to_string(),
                token,
            })
            .await?;
            self.way.records.set_token(self.bastion, tag, None).await
        };
        match rt::timeout(RELEASE, release).await {
            Some(Ok(())) => {}
            // The lease ends it, and the token that is kept lets the next `up` come back to it at once.
            Some(Err(why)) => tracing::warn!("{tag} was not released: {why}"),
            None => tracing::warn!("{tag} was not released within {} s", RELEASE.as_secs()),
        }
    }

    async fn said(&self, event: protocol::Event) {
        let index = |service: &Service| self.way.tags.iter().position(|tag| tag.service == *service);
        let (tag, by) = match event {
            protocol::Event::Draining => return self.teller.tell(Event::Draining(self.number)).await,
            protocol::Event::Displaced { tag, by } => (tag, Some(by)),
            protocol::Event::Released { tag } => (tag, None),
            protocol::Event::Unknown => return,
        };
        if let Some(index) = index(&tag.service) {
            self.teller.tell(Event::Displaced(index, by)).await;
        }
    }
}
