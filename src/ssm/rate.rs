//! How long the way to the agent and back is, how fast it is, and what follows: when a message counts as lost, and how much may be on its way.
//!
//! The window follows the link as in BBR (draft-ietf-ccwg-bbr): twice what the fastest recent rate delivers in the shortest recent round trip. More
//! would only wait in buffers before the narrowest part, and with it every acknowledgement and small message behind it.

use super::Moment;
use std::time::Duration;

/// The timeout before the first measurement.
const FIRST_TIMEOUT: Duration = Duration::from_millis(200);
/// The shortest timeout: acknowledgements come only after the agent wrote the data out.
const LEAST_TIMEOUT: Duration = Duration::from_millis(100);
/// The longest timeout, backed off or not.
const MOST_TIMEOUT: Duration = Duration::from_secs(8);
/// What a round trip varies at least, above its smoothed value.
const LEAST_VARIATION: Duration = Duration::from_millis(10);
/// Doublings of the timeout at most.
const MOST_BACKOFF: u32 = 6;
/// Two of these are how long the shortest round trip is remembered.
const LEAST_PERIOD: Duration = Duration::from_secs(10);
/// Two of these at least are how long the fastest rate is remembered; the other bound is ten round trips.
const FASTEST_PERIOD: Duration = Duration::from_secs(1);
/// The window is never narrower than this, in bytes: half a second at 1 Mbit/s.
const LEAST_WINDOW: usize = 64 * 1024;
/// Nor than so many full messages.
const LEAST_MESSAGES: usize = 16;
/// Added to the shortest round trip where the window is computed: what the ends' scheduling may take. More would be a queue before small
/// messages: at 70 MB/s and no distance 10 ms of it were 10 ms of waiting.
const SLACK: Duration = Duration::from_millis(1);

/// What is known of a message's sending when its acknowledgement comes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    pub(super) at: Moment,
    /// What had been delivered by then, in bytes, and when the last of it was.
    delivered: u64,
    delivered_at: Moment,
    /// When the last of it had been sent.
    delivered_sent: Moment,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Rate {
    /// Smoothed round trip and its variation.
    smoothed: Option<(Duration, Duration)>,
    latest: Duration,
    least: Recent<Duration>,
    /// Bytes per second.
    fastest: Recent<u64>,
    delivered: u64,
    delivered_at: Moment,
    delivered_sent: Moment,
    backoff: u32,
}

/// The best of the last one to two periods.
#[derive(Debug, Default)]
struct Recent<T> {
    current: Option<T>,
    before: Option<T>,
    turned: Moment,
}

impl<T: Copy> Recent<T> {
    fn add(&mut self, value: T, now: Moment, period: Duration, best: fn(T, T) -> T) {
        let age = now.saturating_sub(self.turned);
        if age >= period {
            self.before = self.current.take().filter(|_| age < period * 2);
            self.turned = now;
        }
        self.current = Some(self.current.map_or(value, |current| best(current, value)));
    }

    fn best(&self, best: fn(T, T) -> T) -> Option<T> {
        match (self.current, self.before) {
            (Some(one), Some(other)) => Some(best(one, other)),
            (one, other) => one.or(other),
        }
    }
}

impl Rate {
    /// A message is handed out; `idle` when no other was on its way.
    pub(super) fn sent(&mut self, now: Moment, idle: bool) -> Sent {
        if idle {
            (self.delivered_at, self.delivered_sent) = (now, now);
        }
        Sent {
            at: now,
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            delivered_sent: self.delivered_sent,
        }
    }

    /// A message of so many bytes arrived. Only one that was sent once measures anything (Karn).
    pub(super) fn acknowledged(&mut self, now: Moment, sent: Sent, bytes: usize, once: bool) {
        self.delivered += bytes as u64;
        self.delivered_at = now;
        self.delivered_sent = self.delivered_sent.max(sent.at);
        if !once {
            return;
        }
        self.backoff = 0;
        let sample = now.saturating_sub(sent.at);
        self.latest = sample;
        self.smoothed = Some(match self.smoothed {
            None => (sample, sample / 2),
            Some((smoothed, variation)) => {
                let off = smoothed.abs_diff(sample);
                (smoothed - smoothed / 8 + sample / 8, variation - variation / 4 + off / 4)
            }
        });
        self.least.add(sample, now, LEAST_PERIOD, Duration::min);
        // Acknowledgements that were held up come all at once, and what came at once would be a rate of gigabytes: no more can have been
        // delivered in a time than was sent in one (draft-cheng-iccrg-delivery-rate-estimation).
        let sending = sent.at.saturating_sub(sent.delivered_sent);
        let elapsed = now.saturating_sub(sent.delivered_at).max(sending).as_micros();
        let delivered = u128::from(self.delivered - sent.delivered);
        if let Some(rate) = (delivered * 1_000_000).checked_div(elapsed) {
            let rate = u64::try_from(rate).unwrap_or(u64::MAX);
            self.fastest
                .add(rate, now, FASTEST_PERIOD.max(self.smoothed() * 10), u64::max);
        }
    }

    /// Nothing measured before is taken for granted on another websocket but the round trip.
    pub(super) fn restart(&mut self) {
        self.backoff = 0;
        self.fastest = Recent::default();
    }

    /// A timeout passed without acknowledgement: the next one is twice as long.
    pub(super) fn back_off(&mut self) {
        self.backoff = (self.backoff + 1).min(MOST_BACKOFF);
    }

    /// How often [`Rate::back_off`] since a round trip was measured.
    pub(super) fn backoff(&self) -> u32 {
        self.backoff
    }

    /// After how long a message counts as lost.
    pub(super) fn timeout(&self) -> Duration {
        let plain = match self.smoothed {
            None => FIRST_TIMEOUT,
            Some(_) => self.usual().max(LEAST_TIMEOUT),
        };
        (plain * (1 << self.backoff)).min(MOST_TIMEOUT)
    }

    /// The longest that a round trip usually takes.
    pub(super) fn usual(&self) -> Duration {
        match self.smoothed {
            None => FIRST_TIMEOUT,
            Some((smoothed, variation)) => smoothed + LEAST_VARIATION.max(variation * 4),
        }
    }

    /// After how long a message counts as lost when one that was sent later has arrived (RACK, RFC 8985).
    pub(super) fn overtaken(&self) -> Duration {
        self.latest.max(self.smoothed()) + LEAST_VARIATION.max(self.smoothed() / 4)
    }

    /// The shortest round trip of late; zero when none is known.
    pub(super) fn least(&self) -> Duration {
        self.least.best(Duration::min).unwrap_or_default()
    }

    /// How many bytes may be on their way, at most `most`.
    pub(super) fn window(&self, payload: usize, most: usize) -> usize {
        let round = u128::from((self.least() + SLACK).as_micros() as u64);
        let fastest = u128::from(self.fastest.best(u64::max).unwrap_or(0));
        let product = usize::try_from(2 * fastest * round / 1_000_000).unwrap_or(usize::MAX);
        product.max(LEAST_WINDOW).max(LEAST_MESSAGES * payload).min(most)
    }

    fn smoothed(&self) -> Duration {
        self.smoothed.map_or(Duration::ZERO, |(smoothed, _)| smoothed)
    }
}
