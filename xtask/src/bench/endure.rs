//! `cargo xtask bench load`: mixed traffic over many users and services while one fault follows the other, then a crowd of laptops and of
//! idle clients.
//!
//! Everything is real: `ephemwork-bastiond`, `ephemwork up` and stock OpenSSH clients as laptops, sockets, signals. Each body names its
//! tag and a nonce in each KiB ([`content`]), and [`verdict`] says what a fault excuses: never a wrong byte, a crossed answer, one that
//! looks complete and is not, or a silence. [`watch`] looks at what grows. At the end everybody goes home, and all counters are zero.

mod canary;
mod chance;
mod client;
mod content;
mod crowd;
mod daemon;
pub(crate) mod echo;
mod faults;
mod relay;
mod stream;
mod team;
mod verdict;
mod watch;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::process::{self, pause};
use super::product::Programs;
use canary::Canary;
use chance::Chance;
use client::{Client, Kind};
use faults::Course;
use team::Team;
use verdict::Verdict;
use watch::{Growth, Sample, Series, Watch, Watched};

/// What `--only` may name.
pub(super) const PARTS: &[&str] = &["mixed", "crowd"];

/// Clients of each kind, each with one exchange at a time, and how long each rests behind one, at most, in milliseconds. Together they use
/// some tenths of a core with an optimised build: what is looked for are mistakes and not a limit.
const CLIENTS: [(Kind, usize, u64); 8] = [
    (Kind::Small, 12, 60),
    (Kind::Large, 3, 400),
    (Kind::Upload, 3, 400),
    (Kind::WebSocket, 8, 500),
    (Kind::Events, 8, 500),
    (Kind::Aborted, 4, 250),
    (Kind::SlowReader, 5, 1000),
    (Kind::SlowWriter, 5, 1000),
];

/// For so much of the time the bastion is killed and drained too; then it lives on, so that what grows can be seen.
const WITH_BASTION: f64 = 0.45;

/// So much of the rest goes by before growth is measured: buffers and pools fill to what they need.
const WARM_UP: f64 = 0.2;

/// How long they take for that, in seconds; a short form waits so long, or half of the rest.
const FILLS: f64 = 90.0;

/// What may grow, in MiB: how much is under way at a moment differs by so much. Within the first minutes of the bastion's life its buffers
/// come to what the load needs, so that a short form sees more.
const BASTION_BAND: f64 = 8.0;
const SHORT_BAND: f64 = 24.0;
const LAPTOP_BAND: f64 = 2.0;

/// What the bastion's memory may come to at any time of its last life, in MiB: 133 were seen in half an hour.
const BASTION_MOST: f64 = 144.0;

/// Descriptors: as many as clients come and go.
const DESCRIPTORS_BAND: f64 = 40.0;
const LAPTOP_DESCRIPTORS_BAND: f64 = 8.0;

/// The databases of the bastion may be so large at any time, in MiB: sessions, and a record of who did what.
const DATABASE_BAND: f64 = 32.0;

/// Descriptors that the bastion may have at the end beyond those it began with: a file that its database opened meanwhile.
const DESCRIPTORS_LEFT: usize = 2;

/// MiB that it may have beyond the most while it served: everybody says goodbye at once, and the allocator keeps what that needed.
const MEMORY_LEFT: f64 = 32.0;

/// How long counters may take to come to zero once everybody has left; a lease is 30 s.
const SETTLES: Duration = Duration::from_secs(60);

/// A form of fewer minutes is short: in it nobody waits for the leases of OpenSSH clients, and the admin ends them.
const SHORT: f64 = 10.0;

/// How long, how many, and which chance.
#[derive(Debug)]
pub(super) struct Order<'a> {
    pub(super) minutes: f64,
    pub(super) users: usize,
    pub(super) services: usize,
    pub(super) laptops: usize,
    pub(super) idle_clients: usize,
    /// How long these are silent.
    pub(super) idle: Duration,
    pub(super) seed: u64,
    pub(super) only: &'a [String],
    pub(super) directory: &'a Path,
}

/// What is to be printed and kept.
#[derive(Debug, Default)]
struct Report {
    tables: Vec<String>,
    parts: Vec<(&'static str, Value)>,
    wrong: Vec<String>,
}

impl Report {
    fn demand(&mut self, what: &str, holds: bool) {
        if !holds {
            self.wrong.push(what.to_owned());
        }
    }
}

/// Runs what was ordered; the document, and whether all of it held.
pub(super) fn run(order: &Order<'_>, programs: &Programs, about: &Value) -> (Value, Result<(), String>) {
    let mut report = Report::default();
    let wanted = |part: &str| order.only.is_empty() || order.only.iter().any(|only| only == part);
    let mut result = Ok(());
    if wanted("mixed") {
        result = result.and(mixed(order, programs, &mut report));
    }
    if wanted("crowd") {
        result = result.and(crowd::run(order, programs, &mut report));
    }
    println!();
    for table in &report.tables {
        println!("{table}");
    }
    for wrong in &report.wrong {
        println!("wrong: {wrong}");
    }
    let result = result.and(match report.wrong.len() {
        0 => Ok(()),
        count => Err(format!(
            "{count} things are not as they have to be; the seed was {}",
            order.seed
        )),
    });
    let mut document = json!({"version": 1, "about": about, "seed": order.seed, "wrong": report.wrong});
    for (name, part) in report.parts {
        document[name] = part;
    }
    (document, result)
}

/// The clients, until they are told to stop.
struct Traffic {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Traffic {
    fn start(team: &Team, verdict: &Arc<Verdict>, chance: &mut Chance) -> Traffic {
        let over = Arc::new(AtomicBool::new(false));
        let tags: Arc<Vec<String>> = Arc::new(team.laptops.iter().flat_map(team::Laptop::tags).collect());
        let mut threads = Vec::new();
        for (kind, count, rest) in CLIENTS {
            for _ in 0..count {
                let mut client = Client::new(team.edge(), chance.split());
                let (tags, verdict, over) = (Arc::clone(&tags), Arc::clone(verdict), Arc::clone(&over));
                threads.push(std::thread::spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        let chosen = client.chance().below(tags.len() as u64) as usize;
                        let began = Instant::now();
                        let fate = client.exchange(kind, &tags[chosen]);
                        verdict.exchanged(kind, &tags[chosen], began, client.since(), &fate);
                        pause(Duration::from_millis(client.chance().below(rest)));
                    }
                }));
            }
        }
        Traffic { over, threads }
    }

    fn end(self) -> Result<(), String> {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().map_err(|_| "a client's thread ended".to_owned())?;
        }
        Ok(())
    }
}

/// What the daemon had before anybody came.
struct Before {
    descriptors: usize,
    memory: f64,
}

fn mixed(order: &Order<'_>, programs: &Programs, report: &mut Report) -> Result<(), String> {
    let mut chance = Chance::new(order.seed);
    let verdict = Arc::new(Verdict::default());
    println!("{} users with {} services each ...", order.users, order.services);
    let directory = order.directory.join("mixed");
    let mut team = Team::start(&directory, programs, order.users, order.services, chance.split())?;
    let before = Before {
        descriptors: team.daemon.descriptors(),
        memory: process::own_memory(team.daemon.pid()).unwrap_or_default(),
    };
    team.arrive()?;
    println!("{} minutes of traffic and faults; seed {} ...", order.minutes, order.seed);
    let watched = |team: &Team| Watched {
        bastion: team.daemon.pid(),
        laptops: team.steady(),
    };
    let watch = Watch::start(team.daemon.state.clone(), watched(&team));
    let traffic = Traffic::start(&team, &verdict, &mut chance);
    let canary = Canary::start(&verdict);
    let mut course = Course::default();
    let length = order.minutes * 60.0;
    let mut said = 0.0;
    let mut struck = Ok(());
    while watch.now() < length && struck.is_ok() {
        let with_bastion = watch.now() < length * WITH_BASTION;
        struck = course.next(with_bastion, &mut team, &verdict, &mut chance);
        watch.is(watched(&team));
        if watch.now() >= said + 60.0 {
            said = watch.now();
            let (count, excused) = verdict.count();
            println!(
                "  {said:.0} s: {count} exchanges, {excused} ended by one of {} faults",
                course.count()
            );
        }
    }
    let until = watch.now();
    traffic.end()?;
    let series = watch.end()?;
    let (starved, starved_for) = canary.end()?;
    if starved > 0 {
        report.tables.push(format!(
            "the machine had no processor for this {starved} times, {:.1} s in all: what was lost then is not counted\n",
            starved_for.as_secs_f64()
        ));
    }
    let rest = length * (1.0 - WITH_BASTION);
    let from = length - rest + (rest * WARM_UP).max(FILLS.min(rest / 2.0));
    report.tables.push(verdict.table());
    report.tables.push(course.table());
    let band = if order.minutes < SHORT { SHORT_BAND } else { BASTION_BAND };
    let served = series
        .bastion
        .iter()
        .map(|sample| sample.memory)
        .fold(before.memory, f64::max);
    let grown = growth(&series, &team, from..until, band, report);
    let ended = struck.and_then(|()| everybody_leaves(&mut team, &before, served, order.minutes < SHORT, report));
    let (count, complaints) = verdict.complaints();
    report.demand(
        &format!("{count} exchanges are not explained by any fault"),
        complaints.is_empty(),
    );
    let found = team.found_wrong();
    report.demand(&format!("the services found wrong: {found:?}"), found.is_empty());
    let panics = team.panics();
    report.demand(&format!("panics: {panics:?}"), panics.is_empty());
    report.parts.push((
        "mixed",
        json!({
            "minutes": order.minutes, "users": order.users, "services": order.services, "exchanges": verdict.json(),
            "faults": course.json(), "starved_s": starved_for.as_secs_f64(), "growth": grown,
        }),
    ));
    if report.wrong.is_empty() && ended.is_ok() {
        return Ok(());
    }
    let kept = order.directory.with_extension("kept");
    // What went wrong is to be read in the logs.
    if std::fs::rename(&directory, &kept).is_ok() {
        println!("logs are kept in {}", kept.display());
    }
    ended
}

/// What grew over the last life of the bastion.
fn growth(series: &Series, team: &Team, when: Range<f64>, memory: f64, report: &mut Report) -> Value {
    let last: Vec<&Sample> = series
        .bastion
        .iter()
        .filter(|sample| sample.pid == team.daemon.pid() && when.contains(&sample.at))
        .collect();
    let of = |value: fn(&Sample) -> f64| -> Vec<(f64, f64)> { last.iter().map(|sample| (sample.at, value(sample))).collect() };
    let laptops = series.laptops.iter().filter(|sample| when.contains(&sample.at));
    let laptops: Vec<_> = laptops.collect();
    let rows = [
        ("bastion, memory, MiB", of(|sample| sample.memory), memory),
        ("bastion, descriptors", of(|sample| sample.descriptors), DESCRIPTORS_BAND),
        ("bastion, threads", of(|sample| sample.threads), 4.0),
        ("bastion, requests in flight", of(|sample| sample.in_flight), 40.0),
        (
            "bastion, client connections",
            of(|sample| sample.http_connections),
            DESCRIPTORS_BAND,
        ),
        ("bastion, lanes", of(|sample| sample.lanes), 40.0),
        ("bastion, requests held", of(|sample| sample.held), 40.0),
        (
            "bastion, databases, MiB",
            of(|sample| sample.database / f64::from(1 << 20)),
            DATABASE_BAND,
        ),
        (
            "a laptop that lives throughout, memory, MiB",
            laptops.iter().map(|sample| (sample.at, sample.mean)).collect(),
            LAPTOP_BAND,
        ),
        (
            "the same, descriptors",
            laptops.iter().map(|sample| (sample.at, sample.descriptors)).collect(),
            LAPTOP_DESCRIPTORS_BAND,
        ),
    ];
    let mut table = String::from(
        "| over the bastion's last life | at its beginning | at its end | most | trend | band |\n|---|---|---|---|---|---|\n",
    );
    let mut grown = json!({});
    for (name, values, band) in rows {
        let Some(growth) = Growth::of(&values) else {
            report.demand(&format!("too few looks at: {name}"), false);
            continue;
        };
        table.push_str(&format!(
            "| {name} | {:.1} | {:.1} | {:.1} | {:+.2} in {:.0} s | +{band} |\n",
            growth.first, growth.last, growth.most, growth.trend, growth.seconds
        ));
        report.demand(
            &format!("{name} has grown by {:.1} (band {band})", growth.grown()),
            growth.grown() <= band,
        );
        grown[name] = growth.json();
    }
    let most = last.iter().map(|sample| sample.memory).fold(0.0, f64::max);
    report.demand(
        &format!("the bastion's memory came to {most:.1} MiB (at most {BASTION_MOST})"),
        most <= BASTION_MOST,
    );
    report.tables.push(table);
    grown
}

/// Clients are gone; laptops go; then nothing is left.
fn everybody_leaves(team: &mut Team, before: &Before, served: f64, short: bool, report: &mut Report) -> Result<(), String> {
    let zero = |team: &Team, names: &[&str]| -> Result<(), String> {
        let deadline = Instant::now() + SETTLES;
        loop {
            let metrics = team.daemon.metrics()?;
            let left: Vec<String> = names
                .iter()
                .filter(|name| metrics.value(name) != 0.0)
                .map(|name| format!("{name} {}", metrics.value(name)))
                .collect();
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("not zero {} s after the end: {left:?}", SETTLES.as_secs()));
            }
            pause(Duration::from_millis(100));
        }
    };
    team.let_go_of_the_edge();
    zero(team, &["http_connections", "requests_in_flight", "held_requests"])?;
    team.go_home()?;
    if short {
        zero(team, &["lanes", "sessions{state=\"live\"}"])?;
        let openssh = team.laptops.iter().filter(|laptop| laptop.openssh);
        openssh
            .flat_map(team::Laptop::tags)
            .try_for_each(|tag| team.daemon.release(&tag))?;
    }
    zero(team, &["lanes", "sessions{state=\"live\"}", "sessions{state=\"leased\"}"])?;
    let (descriptors, memory) = (
        team.daemon.descriptors(),
        process::own_memory(team.daemon.pid()).unwrap_or(f64::MAX),
    );
    report.tables.push(format!(
        "when everybody has left: 0 requests, connections, lanes and sessions; {descriptors} descriptors (before anybody came {}); {memory:.1} MiB (before {:.1}, at most {served:.1})\n",
        before.descriptors, before.memory
    ));
    report.demand(
        &format!("{descriptors} descriptors are left, there were {}", before.descriptors),
        descriptors <= before.descriptors + DESCRIPTORS_LEFT,
    );
    report.demand(
        &format!("{memory:.1} MiB are left, there were {served:.1} while it served"),
        memory <= served + MEMORY_LEFT,
    );
    team.daemon.end()
}
