//! One running `up`: the loop that turns what happens into events, and the machine's answers into acts.
//!
//! It decides nothing; `machine` does. Every task that it starts tells the loop through one queue, and ends with it.

pub(crate) mod bastion;
pub(crate) mod control;
mod dotenv;
mod entry;
mod happened;
mod health;
pub(crate) mod home;
pub(crate) mod identity;
mod lane;
mod lines;
mod load;
pub(crate) mod local;
pub(crate) mod logs;
mod machine;
pub(crate) mod mark;
pub(crate) mod note;
pub(crate) mod orphans;
pub mod pause;
pub(crate) mod plan;
pub(crate) mod port;
pub(crate) mod records;
pub mod serve;
mod service;
pub(crate) mod socket;
pub(crate) mod system;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use smol::channel::Receiver;

pub(crate) use lane::Takeover;
pub(crate) use machine::{Outcome, Restart};

use crate::config;
use crate::error::Result;
use crate::name::Service;
use crate::rt::{self, Signal, Signals};
use bastion::Place;
use control::{Asked, LaneStatus, ServiceStatus, Status};
use happened::Happened;
use lane::{Ask, Lane, Lone, Way};
use machine::{Action, Event, Index, Job, Machine};
use mark::{Marks, Part};
use note::Note;
use plan::{Plan, Planned};
use records::Records;
use service::{Order, Reach, Running};

/// How long goodbyes to the bastion may take at the end.
const GOODBYE: Duration = Duration::from_secs(2);

/// How many questions of `status` and `down` wait for the loop; further ones wait in their connections.
const ASKED: usize = 16;

/// What a person is told while an `up` runs.
#[derive(Clone, Debug)]
pub(crate) enum Said {
    /// Something happened.
    Note(Note),
    /// Everything is claimed; requests come in there.
    Ready(Place),
    /// A service printed a line.
    Line(Service, String),
}

/// Who tells it; a line may wait for a slow terminal there, a note never does.
pub(crate) type Show = Arc<dyn Fn(Said) + Send + Sync>;

/// What the loop hears.
enum Heard {
    Happened(Event),
    Asked(Asked),
    Signal(Signal),
    Time,
}

/// Runs it to its end. Whatever the outcome, nothing of it runs afterwards.
pub(crate) async fn run(plan: Plan, signals: &mut Signals, show: Show) -> Outcome {
    let begin = async { Ok(begin(plan, show).await) };
    let interrupted = async { Err(signals.next().await) };
    match smol::future::or(begin, interrupted).await {
        Ok(Ok(mut session)) => {
            let outcome = session.serve(signals).await;
            session.end().await;
            outcome
        }
        Ok(Err(error)) => Outcome::Failed(error),
        Err(_) => Outcome::Interrupted,
    }
}

struct Session {
    plan: Plan,
    machine: Machine,
    show: Show,
    records: Records,
    way: Arc<Way>,
    begun: Instant,
    since: u64,
    happened: Happened,
    asked: Receiver<Asked>,
    socket: std::path::PathBuf,
    _control: rt::Task<()>,
    marks: Vec<Marks>,
    running: BTreeMap<Index, Running>,
    /// Whose run command was started before; what still holds the port of these may be their own.
    started: BTreeSet<Index>,
    watched: BTreeMap<Index, rt::Task<()>>,
    lanes: BTreeMap<u64, Lane>,
    /// Looks how many lanes there is use for.
    _load: Option<rt::Task<()>>,
}

/// Cleans up after others, looks whether there is room, and makes the control socket.
async fn begin(plan: Plan, show: Show) -> Result<Session> {
    let records = Records::of(&plan.home);
    let swept = orphans::sweep(&records, &plan.home).await?;
    let ended = |service| format!("ended what an earlier up had left running of {service}");
    for text in swept.warnings.into_iter().chain(swept.ended.into_iter().map(ended)) {
        show(Said::Note(Note::Warning(text)));
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (socket, listener) = {
        let say = |text| show(Said::Note(Note::Waits(text)));
        entry::enter(&records, &plan, since, &say).await?
    };
    if let Some(text) = plan.bastion.staging_taken(&records).await? {
        show(Said::Note(Note::Warning(text)));
    }
    let tags: Vec<_> = plan.services.iter().map(|planned| planned.tag.clone()).collect();
    // A log that cannot be written costs no more than itself.
    if let Err(why) = plan.logs.make(&plan.config.file) {
        show(Said::Note(Note::Warning(format!("nothing is logged: {why}"))));
    }
    let (ask, asked) = smol::channel::bounded(ASKED);
    let way = Way {
        bastion: plan.bastion.clone(),
        records: records.clone(),
        show: show.clone(),
        machine: identity::machine(),
        tags,
        routes: plan.services.iter().map(route).collect(),
        upstreams: Arc::new(serve::Upstreams::new()),
        place: Mutex::new(None),
    };
    let jobs = plan.services.iter().map(|planned| Job {
        tag: planned.tag.clone(),
        stages: planned.stages.clone(),
        health_timeout: planned.config.health_timeout,
    });
    let machine = Machine::new(jobs.collect(), plan.choices.restart, plan.lanes);
    let happened = Happened::new();
    let load = plan
        .lanes
        .varies()
        .then(|| rt::spawn(load::watch(way.upstreams.load(), happened.teller())));
    Ok(Session {
        machine,
        show,
        records,
        way: Arc::new(way),
        begun: Instant::now(),
        since,
        happened,
        _load: load,
        asked,
        socket,
        _control: rt::spawn(control::serve(listener, ask)),
        marks: plan
            .services
            .iter()
            .map(|planned| Marks::new(&plan.home, &planned.tag.service))
            .collect(),
        running: BTreeMap::new(),
        started: BTreeSet::new(),
        watched: BTreeMap::new(),
        lanes: BTreeMap::new(),
        plan,
    })
}

fn route(planned: &Planned) -> serve::Upstream {
    let protocol = match planned.config.protocol {
        config::Protocol::Http1 => serve::Protocol::Http1,
        config::Protocol::H2c => serve::Protocol::H2c,
    };
    serve::Upstream {
        port: planned.config.port,
        protocol,
        host: match &planned.config.host_header {
            config::HostHeader::Keep => None,
            config::HostHeader::Local => Some(format!("localhost:{}", planned.config.port)),
            config::HostHeader::Value(host) => Some(host.clone()),
        },
    }
}

impl Session {
    async fn serve(&mut self, signals: &mut Signals) -> Outcome {
        let mut event = Event::Begin;
        loop {
            let actions = self.machine.step(event, self.begun.elapsed(), chance());
            for action in actions {
                if let Action::End(outcome) = action {
                    return outcome;
                }
                self.act(action);
            }
            event = self.next(signals).await;
        }
    }

    async fn next(&mut self, signals: &mut Signals) -> Event {
        loop {
            let heard = {
                let signal = async { Heard::Signal(signals.next().await) };
                let happened = async { Heard::Happened(self.happened.next().await) };
                let asked = async { self.asked.recv().await.map_or(Heard::Time, Heard::Asked) };
                let time = async {
                    match self.machine.deadline() {
                        Some(at) => rt::sleep_until(self.begun + at).await,
                        None => std::future::pending().await,
                    }
                    Heard::Time
                };
                smol::future::or(signal, smol::future::or(smol::future::or(happened, asked), time)).await
            };
            return match heard {
                Heard::Happened(event) => event,
                Heard::Signal(Signal::Interrupt) => Event::Interrupt,
                Heard::Signal(Signal::Terminate | Signal::Hangup) => Event::Terminate,
                Heard::Time => Event::Tick,
                Heard::Asked(Asked::Down(names)) => match self.indices(&names) {
                    Some(indices) => Event::Down(indices),
                    None => continue,
                },
                Heard::Asked(Asked::Status(reply)) => {
                    // Who asked may have hung up.
                    reply.try_send(self.status()).ok();
                    continue;
                }
            };
        }
    }

    /// The services with these names; `None` when there are names and none is ours.
    fn indices(&self, names: &[String]) -> Option<Vec<Index>> {
        let position = |name: &String| {
            self.plan
                .services
                .iter()
                .position(|planned| planned.tag.service.as_str() == name)
        };
        let found: Vec<Index> = names.iter().filter_map(position).collect();
        (names.is_empty() || !found.is_empty()).then_some(found)
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Spawn(index, stage) => self.spawn(index, stage),
            Action::Stop(index) => self.running.get(&index).into_iter().for_each(Running::stop),
            Action::Kill(index) => {
                self.running.get(&index).into_iter().for_each(Running::kill);
                self.daemons(index).kill();
            }
            Action::Clear(index) => {
                let (daemons, patience) = (self.daemons(index), self.plan.services[index].config.stop_timeout);
                let teller = self.happened.teller();
                rt::spawn(async move {
                    daemons.end(None, patience).await;
                    teller.tell(Event::Cleared(index)).await;
                })
                .detach();
            }
            Action::Watch(index) => self.watch(index),
            Action::Unwatch(index) => drop(self.watched.remove(&index)),
            Action::Connect(link, number) => {
                self.lanes.retain(|_, lane| !lane.is_over());
                let lane = Lane::open(self.way.clone(), link, number, self.happened.teller());
                self.lanes.insert(link, lane);
            }
            Action::Leave(link) => self.ask(link, Ask::Leave),
            Action::Close(link) => self.ask(link, Ask::Close),
            Action::Claim(link, index) => {
                // Only the first claim takes over; a laptop that was displaced later does not fight back.
                let takeover = if self.machine.is_ready() {
                    Takeover::No
                } else {
                    self.plan.choices.takeover
                };
                self.ask(link, Ask::Claim(index, takeover, Lone(self.machine.is_only(link))));
            }
            Action::Release(link, index) => self.ask(link, Ask::Release(index)),
            Action::Unroute(index) => self.way.upstreams.remove(&self.plan.services[index].tag.service),
            Action::Tell(Note::Ready) => (self.show)(Said::Ready(self.place())),
            Action::Tell(note) => (self.show)(Said::Note(note)),
            Action::End(_) => {}
        }
    }

    /// What left the groups of bootstrap and build.
    fn daemons(&self, index: Index) -> Reach {
        Reach {
            group: None,
            mark: Some(self.marks[index].value(Part::Prepare)),
        }
    }

    fn ask(&self, link: u64, ask: Ask) {
        if let Some(lane) = self.lanes.get(&link) {
            lane.ask(ask);
        }
    }

    fn spawn(&mut self, index: Index, stage: note::Stage) {
        let planned = &self.plan.services[index];
        // Somebody may have come while it was built. Health would find that one, and the tunnel lead to it.
        if stage == note::Stage::Run
            && self.started.insert(index)
            && let Some(taken) = port::taken(planned.config.port)
        {
            let error = entry::port_taken(planned, taken);
            return self.happened.push(Event::SpawnFailed(index, error));
        }
        let order = Order {
            index,
            service: planned.tag.service.clone(),
            stage,
            shell: planned.command(stage).to_owned(),
            directory: planned.config.working_directory.clone(),
            environment: planned.environment.clone(),
            stop_timeout: planned.config.stop_timeout,
            marks: self.marks[index].clone(),
        };
        let log = logs::Log::append(self.plan.logs.service(&planned.tag.service));
        let teller = self.happened.teller();
        match service::start(order, self.records.clone(), log, self.show.clone(), teller) {
            Ok(running) => drop(self.running.insert(index, running)),
            Err(error) => self.happened.push(Event::SpawnFailed(index, error)),
        }
    }

    fn watch(&mut self, index: Index) {
        let config = &self.plan.services[index].config;
        let check = health::Check {
            port: config.port,
            path: config.health_check_path.clone(),
            protocol: config.protocol,
        };
        let teller = self.happened.teller();
        self.watched.insert(index, rt::spawn(health::wait(check, index, teller)));
    }

    fn place(&self) -> Place {
        let place = self.way.place.lock().unwrap_or_else(PoisonError::into_inner);
        place.clone().unwrap_or_default()
    }

    fn status(&self) -> Status {
        let services = self.plan.services.iter().enumerate().map(|(index, planned)| {
            let counters = self.way.upstreams.counters(&planned.tag.service);
            let state = self.machine.state(index);
            ServiceStatus {
                tag: planned.tag.to_string(),
                service: planned.tag.service.to_string(),
                state: state.to_owned(),
                port: planned.config.port,
                pid: self.running.get(&index).filter(|_| state != "stopped").map(Running::pid),
                requests: counters.requests,
                last_error: counters.last_error,
            }
        });
        let place = self.place();
        Status {
            pid: std::process::id(),
            user: self.plan.user.to_string(),
            file: self.plan.config.file.clone(),
            url: place.url,
            through: place.through,
            staging_url: self.plan.config.tunnel.staging_url.as_ref().map(ToString::to_string),
            since: self.since,
            services: services.collect(),
            lanes: self
                .machine
                .lanes()
                .map(|(link, number, state)| self.lane(link, number, state))
                .collect(),
        }
    }

    fn lane(&self, link: u64, number: u32, state: &'static str) -> LaneStatus {
        let standing = self.lanes.get(&link).and_then(Lane::standing);
        let traffic = standing.map(|standing| &standing.traffic);
        let rates = traffic.map(|traffic| traffic.rates()).unwrap_or_default();
        LaneStatus {
            number,
            state: state.to_owned(),
            through: standing.and_then(|standing| standing.through.clone()),
            since: standing.map(|standing| standing.since),
            bytes_in: traffic.map_or(0, |traffic| traffic.totals().0),
            bytes_out: traffic.map_or(0, |traffic| traffic.totals().1),
            in_per_second: rates.received,
            out_per_second: rates.sent,
            round_trip_us: traffic
                .and_then(|traffic| traffic.round_trip())
                .map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
        }
    }

    /// Leaves nothing: whatever still runs is killed by being dropped.
    async fn end(mut self) {
        self.happened.close();
        self.running.clear();
        self.watched.clear();
        let lanes = std::mem::take(&mut self.lanes);
        rt::timeout(GOODBYE, async {
            lanes.values().for_each(|lane| lane.ask(Ask::Close));
            for lane in lanes.into_values() {
                lane.closed().await;
            }
        })
        .await;
        if let Err(why) = self.records.remove_up(std::process::id()).await {
            // The next sweep finds that nobody lives there.
            tracing::debug!("{why}");
        }
        rt::timeout(GOODBYE, self.plan.bastion.leave(&self.records)).await;
        for text in self.records.warnings() {
            (self.show)(Said::Note(Note::Warning(text)));
        }
        std::fs::remove_file(&self.socket).ok();
    }
}

/// A number from 0 to 1.
fn chance() -> f64 {
    let number = getrandom::u32().unwrap_or(u32::MAX / 2);
    f64::from(number) / f64::from(u32::MAX)
}
