//! One connection to the bastion while it lives: claims and releases in their order, and what the bastion says.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use smol::channel::{Receiver, Sender};

use super::bastion::{Bastion, Place, Reached};
use super::happened::Teller;
use super::machine::{Event, Index};
use super::note::Note;
use super::records::Records;
use super::serve::{self, Leave, Upstream, Upstreams};
use super::{Said, Show};
use crate::error::Result;
use crate::name::{Service, Tag};
use crate::protocol::{self, Claim, Release};
use crate::rt;
use crate::tunnel::Link;
use crate::tunnel::traffic::{SAMPLE_EVERY, Traffic};

/// How long a release may take: a developer who pressed Ctrl-C waits for it, and the lease cleans up anyway.
const RELEASE: Duration = Duration::from_secs(2);
/// How many claims and releases wait for their turn; there are two a service at most, and a claim is never asked for twice.
const ASKS: usize = 1024;

/// How often it is looked whether this machine still has the address of a connection: two system calls.
const LOOK: Duration = Duration::from_secs(1);

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
    Claim(Index, Takeover, Lone),
    Release(Index),
    /// Take no new requests, answer those in flight, and close.
    Leave,
    Close,
}

/// Whether a tag that another machine holds is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takeover {
    No,
    Yes,
}

/// Whether a connection is the only one over which requests come: the bastion then forgets what it still has of dead ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lone(pub(crate) bool);

/// The loop's handle of a lane.
pub(super) struct Lane {
    asks: Sender<Ask>,
    task: rt::Task<()>,
    standing: Arc<OnceLock<Standing>>,
}

/// What is known of a lane once it stands.
pub(super) struct Standing {
    pub(super) through: Option<String>,
    /// Seconds since the Unix epoch.
    pub(super) since: u64,
    pub(super) traffic: Arc<Traffic>,
}

impl Lane {
    /// Connects; the loop hears of everything that happens to it.
    pub(super) fn open(way: Arc<Way>, number: u64, lane: u32, teller: Teller) -> Lane {
        let (asks, asked) = smol::channel::bounded(ASKS);
        let standing = Arc::new(OnceLock::new());
        let stands = Arc::clone(&standing);
        let task = rt::spawn(async move {
            let say = |text| (way.show)(Said::Note(Note::Waits(text)));
            match way.bastion.connect(&way.records, &say).await {
                Ok(Reached {
                    link,
                    requests,
                    place,
                    host_key,
                    local,
                    until,
                    rest,
                }) => {
                    let traffic = requests.channel.traffic();
                    let standing = Standing {
                        through: place.through.clone(),
                        since: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
                        traffic: Arc::clone(&traffic),
                    };
                    // It connects once.
                    stands.set(standing).unwrap_or_default();
                    *way.place.lock().unwrap_or_else(PoisonError::into_inner) = Some(place);
                    let leave = Arc::new(Leave::default());
                    let (upstreams, leaves) = (way.upstreams.clone(), Arc::clone(&leave));
                    let served = rt::spawn(async move { serve::run_until(requests, upstreams, &leaves).await });
                    teller.tell(Event::Connected(number)).await;
                    let course = Course {
                        way: &way,
                        number,
                        lane,
                        bastion: &host_key,
                        teller: &teller,
                        local,
                        until,
                        leave: &leave,
                    };
                    smol::future::or(course.run(link, asked, served), sample(&traffic)).await;
                    rest.end().await;
                }
                Err(error) => teller.tell(Event::ConnectFailed(number, error)).await,
            }
        });
        Lane { asks, task, standing }
    }

    /// `None` while it is being connected.
    pub(super) fn standing(&self) -> Option<&Standing> {
        self.standing.get()
    }

    /// Whether nothing of it is left.
    pub(super) fn is_over(&self) -> bool {
        self.task.is_finished()
    }

    pub(super) fn ask(&self, ask: Ask) {
        // A lane that is over told so, and needs no answer.
        self.asks.try_send(ask).ok();
    }

    /// Waits until it is closed, as it was asked to; bounded in time by the link.
    pub(super) async fn closed(self) {
        self.task.await;
    }
}

/// Keeps a lane's rates, for ever.
async fn sample(traffic: &Traffic) {
    loop {
        traffic.sample(rt::Instant::now());
        rt::sleep(SAMPLE_EVERY).await;
    }
}

/// Waits until this machine has an address no more. Nothing is ever heard on a connection from such an address, so that nobody need wait for
/// its silence.
async fn moved(local: SocketAddr) {
    let any_port = SocketAddr::new(local.ip(), 0);
    loop {
        rt::sleep(LOOK).await;
        // A socket that is bound and closed sends nothing.
        match UdpSocket::bind(any_port) {
            Err(why) if why.kind() == io::ErrorKind::AddrNotAvailable => return,
            _ => {}
        }
    }
}

struct Course<'a> {
    way: &'a Way,
    number: u64,
    /// Its number among the lanes of its sessions.
    lane: u32,
    /// The bastion's host key: what tokens are kept under.
    bastion: &'a str,
    teller: &'a Teller,
    /// This machine's address on the way.
    local: Option<SocketAddr>,
    /// When another connection must take its place.
    until: Option<rt::Instant>,
    leave: &'a Leave,
}

enum Turn {
    Ask(Ask),
    Said(protocol::Event),
    Over(String),
    /// Its time is over soon.
    Due,
    /// It was asked to leave, and everything is answered.
    Left,
}

impl Course<'_> {
    async fn run(&self, link: Link, asked: Receiver<Ask>, mut served: rt::Task<()>) {
        let events = link.events();
        let mut leaving = false;
        let mut until = self.until;
        loop {
            let ask = async { Turn::Ask(asked.recv().await.unwrap_or(Ask::Close)) };
            let said = async {
                match events.recv().await {
                    Ok(event) => Turn::Said(event),
                    // Only the link itself says when it is over.
                    Err(_) => std::future::pending().await,
                }
            };
            let over = async {
                let why = link.closed().await;
                if link.fell_silent() {
                    self.way.bastion.fell_silent();
                }
                Turn::Over(why)
            };
            let moved = async {
                match self.local {
                    Some(local) => moved(local).await,
                    None => std::future::pending().await,
                }
                self.way.bastion.moved();
                Turn::Over("this machine has left the network of the connection".to_owned())
            };
            let over = smol::future::or(over, moved);
            let due = async {
                match until {
                    Some(at) => rt::sleep_until(at).await,
                    None => std::future::pending().await,
                }
                Turn::Due
            };
            let left = async {
                if !leaving {
                    std::future::pending::<()>().await;
                }
                (&mut served).await;
                Turn::Left
            };
            let told = smol::future::or(said, ask);
            let ends = smol::future::or(smol::future::or(over, left), due);
            match smol::future::or(ends, told).await {
                Turn::Ask(Ask::Claim(index, takeover, lone)) => match self.claim(&link, index, takeover, lone).await {
                    Ok(()) => self.teller.tell(Event::Claimed(self.number, index)).await,
                    Err(error) => self.teller.tell(Event::ClaimFailed(self.number, index, error)).await,
                },
                Turn::Ask(Ask::Release(index)) => {
                    self.release(&link, index).await;
                    self.teller.tell(Event::Released(self.number, index)).await;
                }
                Turn::Ask(Ask::Leave) => {
                    // A bastion that does not know the call sends no more either, once its HTTP/2 is told to end.
                    if let Err(why) = link.leave().await {
                        tracing::debug!("a lane leaves unannounced: {why}");
                    }
                    self.leave.ask();
                    leaving = true;
                }
                Turn::Left => {
                    link.close().await;
                    self.teller.tell(Event::Left(self.number)).await;
                    break;
                }
                Turn::Ask(Ask::Close) => return link.close().await,
                Turn::Said(event) => self.said(event).await,
                Turn::Due => {
                    until = None;
                    self.teller.tell(Event::Ending(self.number)).await;
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
                self.teller.tell(Event::Released(self.number, index)).await;
            }
        }
    }

    async fn claim(&self, link: &Link, index: Index, takeover: Takeover, Lone(only): Lone) -> Result<()> {
        let tag = &self.way.tags[index];
        self.way.upstreams.offer(&tag.service, &self.way.routes[index]);
        let claim = Claim {
            protocol: protocol::VERSION,
            service: tag.service.to_string(),
            host: self.way.machine.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            token: self.way.records.token(self.bastion, tag).await?,
            takeover: takeover == Takeover::Yes,
            lane: self.lane,
            only,
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
            protocol::Event::Released { tag, why: Some(why) } => {
                if let Some(index) = index(&tag.service) {
                    self.teller.tell(Event::Outlived(index, why)).await;
                }
                return;
            }
            protocol::Event::Released { tag, why: None } => (tag, None),
            protocol::Event::Unknown => return,
        };
        if let Some(index) = index(&tag.service) {
            self.teller.tell(Event::Displaced(index, by)).await;
        }
    }
}
