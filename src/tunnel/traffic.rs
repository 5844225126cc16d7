//! What goes through a lane: bytes each way, how many a second lately, and its round trip where it was measured.
//!
//! Counting is an addition for each read and write of the channel; rates come of samples that somebody takes now and then.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// How often samples are to be taken.
pub(crate) const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// Over how many samples rates are taken: the last seconds.
const SAMPLES: usize = 6;

/// See the module. Sent and received are seen from this end.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    received: AtomicU64,
    sent: AtomicU64,
    /// In microseconds; 0 when nobody knows.
    round_trip: AtomicU64,
    samples: Mutex<VecDeque<Sample>>,
    /// Somebody waits for what is received next.
    awaited: AtomicBool,
    waits: Mutex<Option<Waker>>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    received: u64,
    sent: u64,
}

/// Bytes a second over the last seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rates {
    pub(crate) received: u64,
    pub(crate) sent: u64,
}

impl Traffic {
    pub(crate) fn received(&self, count: usize) {
        self.received.fetch_add(count as u64, SeqCst);
        if self.awaited.load(SeqCst) {
            self.awaited.store(false, SeqCst);
            if let Some(waker) = self.waits.lock().unwrap_or_else(PoisonError::into_inner).take() {
                waker.wake();
            }
        }
    }

    /// Waits until more was received in all than so many bytes; for one at a time.
    pub(crate) async fn received_beyond(&self, count: u64) {
        poll_fn(|cx| {
            *self.waits.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
            self.awaited.store(true, SeqCst);
            match self.received.load(SeqCst) > count {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }

    pub(crate) fn sent(&self, count: usize) {
        self.sent.fetch_add(count as u64, Relaxed);
    }

    /// Bytes received and sent so far.
    pub(crate) fn totals(&self) -> (u64, u64) {
        (self.received.load(Relaxed), self.sent.load(Relaxed))
    }

    /// A round trip was measured.
    pub(crate) fn measured(&self, round_trip: Duration) {
        let us = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX);
        self.round_trip.store(us.max(1), Relaxed);
    }

    /// The last one that was measured.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        match self.round_trip.load(Relaxed) {
            0 => None,
            us => Some(Duration::from_micros(us)),
        }
    }

    /// Remembers how it stands now.
    pub(crate) fn sample(&self, now: Instant) {
        let (received, sent) = self.totals();
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.len() == SAMPLES {
            samples.pop_front();
        }
        samples.push_back(Sample { at: now, received, sent });
    }

    /// From the oldest sample to the youngest; 0 while there are not two.
    pub(crate) fn rates(&self) -> Rates {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some(first), Some(last)) = (samples.front(), samples.back()) else {
            return Rates::default();
        };
        let ms = u64::try_from(last.at.duration_since(first.at).as_millis()).unwrap_or(u64::MAX);
        let rate = |from: u64, to: u64| (to.saturating_sub(from)).saturating_mul(1000).checked_div(ms).unwrap_or(0);
        Rates {
            received: rate(first.received, last.received),
            sent: rate(first.sent, last.sent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_last_seconds() {
        let traffic = Traffic::default();
        let start = Instant::now();
        let rates = |received, sent| Rates { received, sent };
        assert_eq!(traffic.rates(), rates(0, 0));
        traffic.received(500);
        traffic.sample(start);
        assert_eq!(traffic.rates(), rates(0, 0), "one sample is no rate");
        traffic.received(2000);
        traffic.sent(400);
        traffic.sample(start + Duration::from_secs(2));
        assert_eq!(traffic.rates(), rates(1000, 200));
        for second in 3..20 {
            traffic.sample(start + Duration::from_secs(second));
        }
        assert_eq!(traffic.rates(), rates(0, 0), "what was long ago counts no more");
        assert_eq!(traffic.totals(), (2500, 400));
        assert_eq!(traffic.round_trip(), None);
        traffic.measured(Duration::from_millis(40));
        assert_eq!(traffic.round_trip(), Some(Duration::from_millis(40)));
    }

    #[test]
    fn what_is_received_wakes_who_waits() {
        let traffic = Traffic::default();
        smol::block_on(async {
            let limit = async {
                smol::Timer::after(Duration::from_secs(10)).await;
                panic!("nobody was woken");
            };
            let waits = async {
                traffic.received_beyond(0).await;
                traffic.received_beyond(5).await;
            };
            let receives = async {
                for _ in 0..6 {
                    smol::future::yield_now().await;
                    traffic.received(1);
                }
                std::future::pending().await
            };
            smol::future::or(smol::future::or(waits, receives), limit).await;
        });
        assert_eq!(traffic.totals(), (6, 0));
    }
}
