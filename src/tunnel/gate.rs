//! Where large bodies wait for their turn on a lane, so that small requests pass them: [`Pace`] with clock, pings and wakers.
//!
//! Whatever is small passes without being counted, and on a quick lane everything does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use h2::{Ping, PingPong};
use smol::channel::{Receiver, Sender};

use super::pace::{Pace, Wait};
use super::traffic::Traffic;
use crate::rt;

/// So much of a body is small, in bytes: sent before anybody could have asked how long the queue is.
const SMALL: u64 = 16 * 1024;

/// After so many bytes of a body a quick lane is looked at again: 300 ms of one that became slow.
const LOOK: u64 = 256 * 1024;

/// How long a body waits at most before it asks again: a bound for what no ping tells.
const PATIENCE: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Nothing is held back; what [`Pace::is_free`] says, without its lock.
    free: AtomicBool,
    pace: Mutex<Pace>,
    /// Bodies wait one after the other.
    turn: smol::lock::Mutex<()>,
    /// A ping came back.
    came: (Sender<()>, Receiver<()>),
    /// There is something to measure.
    wanted: (Sender<()>, Receiver<()>),
    traffic: Arc<Traffic>,
}

/// One body on its way through a gate.
#[derive(Debug)]
pub(crate) struct Passing<'a> {
    gate: &'a Gate,
    passed: u64,
    looked: u64,
}

impl Gate {
    pub(crate) fn new(traffic: Arc<Traffic>) -> Gate {
        Gate {
            free: AtomicBool::new(false),
            pace: Mutex::new(Pace::new()),
            turn: smol::lock::Mutex::new(()),
            came: smol::channel::bounded(1),
            wanted: smol::channel::bounded(1),
            traffic,
        }
    }

    /// For a body.
    pub(crate) fn passing(&self) -> Passing<'_> {
        Passing {
            gate: self,
            passed: 0,
            looked: 0,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many of so many bytes may be sent; at least one.
    async fn pass(&self, wanted: usize) -> usize {
        let _turn = self.turn.lock().await;
        loop {
            let taken = self.lock().take(wanted, Instant::now());
            // Full says the same.
            self.wanted.0.try_send(()).unwrap_or_default();
            let Wait(time) = match taken {
                Ok(count) => return count,
                Err(wait) => wait,
            };
            let came = async {
                // The gate has a sender itself, so this does not fail.
                self.came.1.recv().await.unwrap_or_default();
            };
            smol::future::or(came, rt::sleep(time.unwrap_or(PATIENCE).min(PATIENCE))).await;
        }
    }

    /// Measures whenever there is something to measure, until the lane ends; dropping it opens the gate for ever.
    pub(crate) async fn keep(&self, pings: &smol::lock::Mutex<PingPong>) {
        let _open = Open(self);
        // The first tells the round trip while the lane is empty.
        self.wanted.0.try_send(()).unwrap_or_default();
        while self.wanted.1.recv().await.is_ok() {
            loop {
                let pong = {
                    let mut pings = pings.lock().await;
                    self.lock().pinged(self.traffic.totals().1, Instant::now());
                    pings.ping(Ping::opaque()).await
                };
                if pong.is_err() {
                    return;
                }
                let (round_trip, pause, again) = {
                    let mut pace = self.lock();
                    let (round_trip, pause) = pace.ponged(Instant::now());
                    self.free.store(pace.is_free(), Ordering::Relaxed);
                    (round_trip, pause, pace.wants_ping())
                };
                self.traffic.measured(round_trip);
                self.came.0.try_send(()).unwrap_or_default();
                if !pause.is_zero() {
                    rt::sleep(pause).await;
                }
                if !again {
                    break;
                }
            }
        }
    }
}

/// Nobody measures any more, and nobody waits.
struct Open<'a>(&'a Gate);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.free.store(true, Ordering::Relaxed);
        *self.0.lock() = Pace::free();
        self.0.came.0.try_send(()).unwrap_or_default();
    }
}

impl Passing<'_> {
    /// It is part of something large.
    pub(crate) fn large(&mut self) {
        self.passed = self.passed.max(SMALL);
    }

    /// How many of the next so many bytes may be sent now; at least one, when there are any.
    pub(crate) async fn next(&mut self, wanted: usize) -> usize {
        let count = if self.passed + wanted as u64 <= SMALL {
            wanted
        } else if self.gate.free.load(Ordering::Relaxed) {
            if self.passed - self.looked >= LOOK {
                self.looked = self.passed;
                self.gate.wanted.0.try_send(()).unwrap_or_default();
            }
            wanted
        } else {
            self.gate.pass(wanted).await
        };
        self.passed = self.passed.saturating_add(count as u64);
        count
    }
}
