//! Whether the machine itself stood still. Where many others compute, a process may get no processor for longer than SSH's keepalive
//! waits; that is no mistake of the product's, and it is told in the report.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::verdict::{Scope, Verdict};
use crate::bench::process::pause;

/// Between two looks.
const EVERY: Duration = Duration::from_millis(250);

/// When the work takes this long, or a sleep is late by it, there was no processor.
const LATE: Duration = Duration::from_secs(1);

/// The work: a millisecond at most.
const TURNS: u64 = 20_000;

/// How long connections that were lost then may take to come back.
const RECOVERS: Duration = Duration::from_secs(30);

pub(super) struct Canary {
    over: Arc<AtomicBool>,
    thread: JoinHandle<(u32, Duration)>,
}

impl Canary {
    pub(super) fn start(verdict: &Arc<Verdict>) -> Canary {
        let over = Arc::new(AtomicBool::new(false));
        let (stop, verdict) = (Arc::clone(&over), Arc::clone(verdict));
        let thread = std::thread::spawn(move || sing(&stop, &verdict));
        Canary { over, thread }
    }

    /// How often it found no processor, and for how long altogether.
    pub(super) fn end(self) -> Result<(u32, Duration), String> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the canary's thread ended".to_owned())
    }
}

fn sing(over: &AtomicBool, verdict: &Verdict) -> (u32, Duration) {
    let (mut times, mut long) = (0, Duration::ZERO);
    let mut starved: Option<(usize, Instant)> = None;
    while !over.load(Ordering::Relaxed) {
        let began = Instant::now();
        work();
        let worked = began.elapsed();
        pause(EVERY);
        let late = began.elapsed().saturating_sub(worked + EVERY);
        let found_none = worked > LATE || late > LATE;
        match (&starved, found_none) {
            (None, true) => {
                times += 1;
                long += worked + late;
                starved = Some((verdict.fault_begins("no processor", Scope::All), Instant::now()));
            }
            (Some((number, _)), true) => {
                long += worked + late;
                starved = Some((*number, Instant::now()));
            }
            (Some((number, last)), false) if last.elapsed() > RECOVERS => {
                verdict.fault_ended(*number);
                starved = None;
            }
            _ => {}
        }
    }
    if let Some((number, _)) = starved {
        verdict.fault_ended(number);
    }
    (times, long)
}

fn work() {
    let mut sum = 0_u64;
    for turn in 0..TURNS {
        sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(turn));
    }
}
