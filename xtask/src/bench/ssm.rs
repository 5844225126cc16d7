//! `cargo xtask bench ssm`: the way through Session Manager, against the double of its gateway and agent in tests/doubles, which
//! keeps to the real agent's pace: 1 KiB a message, then a sleep of 1 ms.
//!
//! Everything is real but AWS: `ephemwork up`, `ephemwork-bastiond`, the double, each a process, and what AWS's control plane says in
//! `tests/net`. "Down" is from the bastion to the laptop, where the agent's pace is the limit: bodies of requests. "Up" is the other way:
//! bodies of answers. Both are measured at the edge, and with round trips of 0 and 40 ms.

mod figures;
mod world;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::load::{End, Request};
use super::process;
use figures::Figures;
use world::{Laptop, Programs, World};

/// The project of the bastion and the laptops.
const PROJECT: &str = "bench";

/// Round trips, in milliseconds.
const NEAR: u64 = 0;
const FAR: u64 = 40;

/// What the agent sends at once, in bytes.
const PIECE: f64 = 1024.0;

/// Lanes of one session, at most.
const LANES: usize = 4;

/// A small answer, in bytes.
const SMALL: u64 = 1024;

/// A body that lasts until it is cut off, in bytes.
const ENDLESS: u64 = 1_000_000_000;

const DOWN: &str = "down MB/s, one lane";
const PACE: &str = "the agent's pace, MB/s";
const OF_PACE: &str = "down, of the pace";
const DOWN_FOUR: &str = "down MB/s, four lanes";
const FOUR_OF_ONE: &str = "down, four lanes of one";
const UP: &str = "up MB/s, one lane";
const UP_DOUBLE: &str = "up cpu us/KiB, double";
const UP_BASTION: &str = "up cpu us/KiB, bastion";
const UP_LAPTOP: &str = "up cpu us/KiB, laptop";
const AGAIN: &str = "messages sent again";
const ALONE: &str = "p50 ms, alone";
const BESIDE_UP: &str = "p50 ms beside a download (up)";
const BESIDE_UP_TAIL: &str = "p99 ms beside a download (up)";
const BESIDE_UP_RATE: &str = "that download meanwhile, MB/s";
const OTHER_UP: &str = "p50 ms meanwhile, another's (up)";
const BESIDE_DOWN: &str = "p50 ms beside an upload (down)";
const BESIDE_DOWN_TAIL: &str = "p99 ms beside an upload (down)";
const OTHER_DOWN: &str = "p50 ms meanwhile, another's (down)";

/// What `--only` may name here.
pub(super) const PARTS: &[&str] = &["down", "up", "beside"];

/// How long and how often.
#[derive(Clone, Copy, Debug)]
struct Tempo {
    rounds: usize,
    /// Bodies, in bytes.
    down: u64,
    up: u64,
    /// Before small requests are counted: more lanes, if the product makes them, have come by then.
    settle: Duration,
    /// Small requests.
    slice: Duration,
}

const FULL: Tempo = Tempo {
    rounds: 5,
    down: 8_000_000,
    up: 64_000_000,
    settle: Duration::from_secs(4),
    slice: Duration::from_secs(4),
};

const QUICK: Tempo = Tempo {
    rounds: 2,
    down: 3_000_000,
    up: 24_000_000,
    settle: Duration::from_secs(3),
    slice: Duration::from_secs(2),
};

/// How long what a cut-off body left on its way may take to be gone. Sockets on the way hold some MiB, at 0.9 MB/s.
const GONE: Duration = Duration::from_secs(30);

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order<'a> {
    pub(super) quick: bool,
    /// Of [`PARTS`]; none is all.
    pub(super) only: &'a [String],
    /// The executable; the double is beside it.
    pub(super) ephemwork: &'a Path,
    /// Where the developer's service is.
    pub(super) service: SocketAddr,
    /// An empty one.
    pub(super) directory: &'a Path,
}

/// Measures; prints the table and gives it as JSON.
pub(super) fn measure(order: &Order<'_>, about: &Value) -> (Value, Result<(), String>) {
    let mut figures = Figures::default();
    let result = measure_into(order, &mut figures);
    if let Err(why) = &result {
        figures.note(&format!("the rest was not measured: {why}"));
    }
    println!("\n{}", figures.table());
    (figures.json(about), result)
}

fn measure_into(order: &Order<'_>, figures: &mut Figures) -> Result<(), String> {
    let tempo = if order.quick { QUICK } else { FULL };
    let programs = Programs {
        ephemwork: order.ephemwork.to_owned(),
        double: order.ephemwork.with_file_name("ephemwork-ssm-double"),
    };
    let wanted = |part: &str| order.only.is_empty() || order.only.iter().any(|only| only == part);
    for round_trip in [NEAR, FAR] {
        println!("a round trip of {round_trip} ms ...");
        let directory = order.directory.join(format!("ssm-{round_trip}"));
        let world = World::start(&directory, order.service, &programs, round_trip)?;
        let bench = Bench {
            one: world.laptop("alice", "lanes = 1")?,
            several: if wanted("down") {
                several(&world, figures)?
            } else {
                Vec::new()
            },
            own: world.laptop("carol", "")?,
            world,
            tempo,
            round_trip,
        };
        for _ in 0..tempo.rounds {
            if wanted("down") {
                bench.down(figures)?;
            }
            if wanted("up") {
                bench.up(figures)?;
            }
            if wanted("beside") {
                bench.beside(figures)?;
            }
        }
        bench.world.violations()?;
    }
    Ok(())
}

/// What carries four lanes: one laptop with as many, or, where the product makes only one, as many laptops.
fn several(world: &World, figures: &mut Figures) -> Result<Vec<Laptop>, String> {
    let before = world.sessions(0)?;
    let mut laptops = vec![world.laptop("bob", &format!("lanes = {LANES}"))?];
    if world.sessions(before + LANES)? - before < LANES {
        figures.note("lanes = 4 made one lane: four laptops with one each stand for them");
        for index in 1..LANES {
            laptops.push(world.laptop(&format!("bob{index}"), "lanes = 1")?);
        }
    }
    Ok(laptops)
}

struct Bench {
    world: World,
    /// With one lane.
    one: Laptop,
    /// With four, together.
    several: Vec<Laptop>,
    /// As the product decides by itself.
    own: Laptop,
    tempo: Tempo,
    round_trip: u64,
}

impl Bench {
    /// Bodies towards the laptop, by one lane and by four.
    fn down(&self, figures: &mut Figures) -> Result<(), String> {
        let (bytes, round_trip) = (self.tempo.down, self.round_trip);
        let before = self.world.counted()?;
        let load = self.world.load(&self.one.tag, Request::Upload(bytes), End::Count(1));
        let one = bytes as f64 / 1e6 / load.run()?.elapsed.as_secs_f64();
        let after = self.world.counted()?;
        let pace = PIECE * (after.messages - before.messages) / 1e6 / (after.paced - before.paced);
        figures.add(DOWN, round_trip, one);
        figures.add(PACE, round_trip, pace);
        figures.add(OF_PACE, round_trip, one / pace);

        let transfers: Vec<_> = (0..LANES)
            .map(|index| {
                let tag = &self.several[index % self.several.len()].tag;
                let load = self.world.load(tag, Request::Upload(bytes), End::Count(1));
                std::thread::spawn(move || load.run())
            })
            .collect();
        // The rates of each while all ran: they begin together and end nearly so.
        let mut slowest = Duration::ZERO;
        for transfer in transfers {
            let outcome = transfer.join().map_err(|_| "a transfer's thread ended".to_owned())??;
            slowest = slowest.max(outcome.elapsed);
        }
        let four = (bytes * LANES as u64) as f64 / 1e6 / slowest.as_secs_f64();
        figures.add(DOWN_FOUR, round_trip, four);
        figures.add(FOUR_OF_ONE, round_trip, four / one);
        Ok(())
    }

    /// A body from the laptop, by one lane.
    fn up(&self, figures: &mut Figures) -> Result<(), String> {
        let (bytes, round_trip) = (self.tempo.up, self.round_trip);
        let load = self.world.load(&self.one.tag, Request::Download(bytes), End::Count(1));
        let (before, busy) = (self.world.counted()?, self.world.cpu(&self.one));
        let elapsed = load.run()?.elapsed;
        let (after, now) = (self.world.counted()?, self.world.cpu(&self.one));
        figures.add(UP, round_trip, bytes as f64 / 1e6 / elapsed.as_secs_f64());
        for (metric, (before, now)) in [UP_DOUBLE, UP_BASTION, UP_LAPTOP].into_iter().zip(busy.into_iter().zip(now)) {
            figures.add(metric, round_trip, (now - before) * 1e6 / (bytes as f64 / PIECE));
        }
        figures.add(AGAIN, round_trip, after.again - before.again);
        Ok(())
    }

    /// Small requests alone, and beside a body each way. Those of another laptop, whose session carries nothing else, tell how much of it is
    /// waiting for the processors that everything here shares.
    fn beside(&self, figures: &mut Figures) -> Result<(), String> {
        let (alone, _) = self.small(&self.own)?;
        figures.add(ALONE, self.round_trip, alone);
        for (request, half, tail, rate, other) in [
            (
                Request::Download(ENDLESS),
                BESIDE_UP,
                BESIDE_UP_TAIL,
                Some(BESIDE_UP_RATE),
                OTHER_UP,
            ),
            (Request::Upload(ENDLESS), BESIDE_DOWN, BESIDE_DOWN_TAIL, None, OTHER_DOWN),
        ] {
            let over = Arc::new(AtomicBool::new(false));
            let bulk = self.world.load(&self.own.tag, request, End::Raised(over.clone()));
            let transfer = std::thread::spawn(move || bulk.run());
            process::pause(self.tempo.settle);
            let (before, begun) = (self.world.counted(), Instant::now());
            let small = self.small(&self.own);
            let (after, time) = (self.world.counted(), begun.elapsed().as_secs_f64());
            let others = self.small(&self.one);
            over.store(true, Ordering::Relaxed);
            transfer.join().map_err(|_| "the bulk transfer's thread ended".to_owned())??;
            let (p50, p99) = small?;
            figures.add(half, self.round_trip, p50);
            figures.add(tail, self.round_trip, p99);
            if let Some(rate) = rate {
                figures.add(rate, self.round_trip, (after?.up - before?.up) / 1e6 / time);
            }
            figures.add(other, self.round_trip, others?.0);
            self.gone()?;
        }
        Ok(())
    }

    /// Median and 99th percentile of small requests one after the other; of none, the time in which there was none.
    fn small(&self, laptop: &Laptop) -> Result<(f64, f64), String> {
        let load = self
            .world
            .load(&laptop.tag, Request::Download(SMALL), End::After(self.tempo.slice));
        let outcome = load.run()?;
        Ok(match outcome.requests {
            0 => {
                let least = outcome.elapsed.as_secs_f64() * 1e3;
                (least, least)
            }
            _ => (outcome.latency.quantile(0.5), outcome.latency.quantile(0.99)),
        })
    }

    /// Waits until nothing of a body that was cut off is on its way.
    fn gone(&self) -> Result<(), String> {
        let begun = Instant::now();
        while begun.elapsed() < GONE {
            let before = self.world.counted()?.messages;
            let load = self.world.load(&self.own.tag, Request::Download(SMALL), End::Count(1));
            let took = load.run()?.elapsed;
            // A request and its answer are a handful of messages.
            if took < Duration::from_millis(self.round_trip + 20) && self.world.counted()?.messages - before < 16.0 {
                return Ok(());
            }
        }
        Err(format!(
            "what a cut-off body left was still on its way after {} s",
            GONE.as_secs()
        ))
    }
}
