//! How much of large bodies may be on its way through a lane, so that small requests do not wait behind it. (pure)
//!
//! Below HTTP/2 everything is a queue: SSH, sockets, and on Session Manager an agent that takes 1 KiB a millisecond. What a body fills
//! them with, every later request waits for. So the sender asks with a ping how long the queue is. A lane begins with a narrow window,
//! which doubles with each ping that came back quickly; after some of these nothing holds it back any more. Where pings come back
//! late, bodies are sent at the rate at which the lane delivers, as long as the queue stays within a few milliseconds.

use std::time::{Duration, Instant};

/// The window that a lane begins with, in bytes: what is on its way at 1.6 MB/s with a round trip of 40 ms.
const FIRST_WINDOW: u64 = 64 * 1024;

/// A lane that filled this window quickly needs none, in bytes: HTTP/2's own is as wide.
const LAST_WINDOW: u64 = 4 * 1024 * 1024;

/// A queue this long makes a lane slow.
const LONG: Duration = Duration::from_millis(15);

/// Likewise one that was quick before: when many processes compete for a CPU, a moment's delay says nothing of the lane.
const VERY_LONG: Duration = Duration::from_millis(50);

/// How long the queue of a slow lane is to be: enough that it does not run dry while timers are late, and little beside a round trip.
const QUEUE: Duration = Duration::from_millis(5);

/// A queue that is longer by this much halves the rate; in between in proportion.
const EXCESS: Duration = Duration::from_millis(60);

/// How much quicker at most a slow lane is tried with each ping while it has no queue.
const GROWTH: f64 = 0.04;

/// And with each ping until it has a queue for the first time: what a window let through before says too little of it.
const CLIMB: f64 = 0.15;

/// A lane that delivers this many bytes a second needs no pace: even a megabyte is gone in 60 ms.
const QUICK: f64 = 16_000_000.0;

/// The slowest pace, in bytes a second: a measurement that went wrong must not stop a lane.
const LEAST: f64 = 32_000.0;

/// The largest piece on a slow lane, in bytes: with the heads of frame and packet what two messages of Session Manager carry, in 2 ms.
const PIECE: usize = 2 * 1024 - 64;

/// What may be sent at once on a slow lane after a pause, in time: timers come some milliseconds late on a busy machine.
const BURST: Duration = Duration::from_millis(20);

/// The pause between two measurements of a slow lane, which averages over its steps.
const MEASURE: Duration = Duration::from_millis(50);

/// And of a quick one, where it only watches.
const WATCH: Duration = Duration::from_millis(200);

/// A pause after which measuring begins anew.
const IDLE: Duration = Duration::from_millis(200);

/// How long the shortest round trip counts, and how often the queue is emptied to see it again.
const MEMORY: Duration = Duration::from_secs(10);

/// By how much the rate is lowered for one measurement in order to see it.
const DIP: f64 = 0.7;

/// See the module.
#[derive(Debug)]
pub(crate) struct Pace {
    mode: Mode,
    /// Bytes of large bodies so far, and how many of these were sent before the last ping that came back.
    handed: u64,
    arrived: u64,
    /// Somebody had to wait since the last ping.
    held_back: bool,
    /// When something was sent last.
    taken: Option<Instant>,
    /// Somebody waits for more.
    waits: bool,
    ping: Option<Ping>,
    /// The last ping that came back, and when it did.
    last: Option<(Ping, Instant)>,
    /// The shortest round trip since then, and the one of the time before.
    shortest: Option<(Duration, Instant)>,
    earlier: Option<Duration>,
    /// The queue that the last two pings found.
    queues: [Duration; 2],
    /// A slow lane's rate has not been too much yet.
    climbs: bool,
    /// The rate to go back to after it was lowered for one measurement.
    dipped: Option<f64>,
}

#[derive(Clone, Copy, Debug)]
enum Mode {
    /// So many bytes may be on their way.
    Window(u64),
    /// Bytes a second; what may be sent at once, and as of when.
    Rate(f64, f64, Instant),
    Free,
}

#[derive(Clone, Copy, Debug)]
struct Ping {
    at: Instant,
    handed: u64,
    /// Bytes through the channel before it.
    sent: u64,
}

/// Nothing may be sent now; ask again after this time, or when a ping came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait(pub(crate) Option<Duration>);

impl Pace {
    pub(crate) fn new() -> Pace {
        Pace {
            mode: Mode::Window(FIRST_WINDOW),
            handed: 0,
            arrived: 0,
            held_back: false,
            taken: None,
            waits: false,
            ping: None,
            last: None,
            shortest: None,
            earlier: None,
            queues: [Duration::ZERO; 2],
            climbs: false,
            dipped: None,
        }
    }

    /// Of a lane that nobody measures.
    pub(crate) fn free() -> Pace {
        Pace {
            mode: Mode::Free,
            ..Pace::new()
        }
    }

    /// Whether nothing holds bodies back.
    pub(crate) fn is_free(&self) -> bool {
        matches!(self.mode, Mode::Free)
    }

    /// How many of so many bytes may be sent now.
    pub(crate) fn take(&mut self, wanted: usize, now: Instant) -> Result<usize, Wait> {
        let taken = match &mut self.mode {
            Mode::Free => Ok(wanted),
            Mode::Window(limit) => {
                let room = limit.saturating_sub(self.handed - self.arrived);
                let room = usize::try_from(room).unwrap_or(usize::MAX);
                if room == 0 { Err(Wait(None)) } else { Ok(wanted.min(room)) }
            }
            Mode::Rate(rate, at_once, as_of) => {
                let piece = wanted.min(PIECE);
                let most = (*rate * BURST.as_secs_f64()).max(PIECE as f64);
                let gained = *rate * now.saturating_duration_since(*as_of).as_secs_f64();
                *at_once = (*at_once + gained).min(most);
                *as_of = now;
                let lacks = piece as f64 - *at_once;
                if lacks > 0.0 {
                    Err(Wait(Some(Duration::from_secs_f64(lacks / *rate))))
                } else {
                    *at_once -= piece as f64;
                    Ok(piece)
                }
            }
        };
        match taken {
            Ok(count) => {
                self.handed += count as u64;
                // What was delivered while there was nothing to deliver is no measure.
                let idle = self.taken.is_none_or(|before| now.saturating_duration_since(before) > IDLE);
                if idle && !self.waits {
                    self.last = None;
                }
                self.taken = Some(now);
            }
            Err(_) => self.held_back = true,
        }
        self.waits = taken.is_err();
        taken
    }

    /// Whether a ping would tell something.
    pub(crate) fn wants_ping(&self) -> bool {
        !self.is_free() && self.handed > self.arrived
    }

    /// A ping is being sent after so many bytes of everything.
    pub(crate) fn pinged(&mut self, sent: u64, now: Instant) {
        self.ping = Some(Ping {
            at: now,
            handed: self.handed,
            sent,
        });
    }

    /// It came back. Gives the round trip, and the pause until the next one.
    pub(crate) fn ponged(&mut self, now: Instant) -> (Duration, Duration) {
        let Some(ping) = self.ping.take() else {
            return (Duration::ZERO, WATCH);
        };
        let round_trip = now.saturating_duration_since(ping.at);
        let dip = self.remember(round_trip, now);
        let shortest = self.shortest.map_or(round_trip, |(shortest, _)| shortest);
        let queue = round_trip.saturating_sub(self.earlier.map_or(shortest, |earlier| earlier.min(shortest)));
        let delivered = self.last.and_then(|(before, then)| {
            let time = now.saturating_duration_since(then).as_secs_f64();
            (time > 0.0).then(|| ping.sent.saturating_sub(before.sent) as f64 / time)
        });
        self.last = Some((ping, now));
        self.arrived = ping.handed;
        self.queues = [queue, self.queues[0]];
        let held_back = std::mem::take(&mut self.held_back);
        let long = match self.mode {
            Mode::Free => queue > VERY_LONG,
            _ => queue > LONG,
        };
        match (self.mode, delivered) {
            (Mode::Window(_), Some(delivered)) if delivered > QUICK => self.mode = Mode::Free,
            (Mode::Window(_) | Mode::Free, Some(delivered)) if long && delivered < QUICK => {
                self.dipped = Some(delivered.max(LEAST));
                self.climbs = true;
                self.mode = Mode::Rate((delivered * factor(queue)).max(LEAST), 0.0, now);
            }
            (Mode::Window(limit), _) if held_back && !long => {
                self.mode = if limit >= LAST_WINDOW {
                    Mode::Free
                } else {
                    Mode::Window(limit * 2)
                };
            }
            (Mode::Rate(..), Some(delivered)) if held_back || long => self.adjust(delivered, dip),
            _ => {}
        }
        let pause = match self.mode {
            Mode::Window(_) => Duration::ZERO,
            Mode::Rate(..) => MEASURE,
            Mode::Free => WATCH,
        };
        (round_trip, pause)
    }

    /// Chooses a slow lane's rate anew. What it delivers tells most while it is used up; otherwise it is what was sent, give or take a piece.
    /// A ping that came late, because somebody had to wait for a CPU, looks like a queue, but the next one does not: only what both found
    /// lowers the rate.
    fn adjust(&mut self, delivered: f64, dip: bool) {
        let Mode::Rate(before, at_once, as_of) = self.mode else {
            return;
        };
        let [last, earlier] = self.queues;
        let queue = last.min(earlier);
        self.climbs &= queue <= QUEUE;
        let before = self.dipped.take().unwrap_or(before);
        let rate = if queue <= QUEUE && last > QUEUE {
            before
        } else if self.climbs && queue <= QUEUE / 2 {
            before.max(delivered) * (1.0 + CLIMB)
        } else if queue <= QUEUE {
            before.max(delivered) * factor(queue)
        } else if queue < LONG {
            (3.0 * before + delivered) / 4.0 * factor(queue)
        } else {
            delivered * factor(queue)
        };
        let rate = rate.max(LEAST);
        self.mode = if rate > QUICK {
            Mode::Free
        } else if dip {
            self.dipped = Some(rate);
            Mode::Rate(rate * DIP, at_once, as_of)
        } else if queue >= LONG {
            self.dipped = Some(delivered.max(LEAST));
            Mode::Rate(rate, at_once, as_of)
        } else {
            Mode::Rate(rate, at_once, as_of)
        };
    }

    /// Keeps the shortest round trips; true when it is time to see one without a queue.
    fn remember(&mut self, round_trip: Duration, now: Instant) -> bool {
        match self.shortest {
            Some((shortest, since)) if now.saturating_duration_since(since) < MEMORY => {
                self.shortest = Some((shortest.min(round_trip), since));
                false
            }
            before => {
                self.earlier = before.map(|(shortest, _)| shortest);
                self.shortest = Some((round_trip, now));
                before.is_some()
            }
        }
    }
}

/// What the rate at which a lane delivers is multiplied by when its queue is this long.
fn factor(queue: Duration) -> f64 {
    let (queue, right) = (queue.as_secs_f64(), QUEUE.as_secs_f64());
    if queue <= right {
        1.0 + GROWTH * (right - queue) / right
    } else {
        (1.0 - (queue - right) / (2.0 * EXCESS.as_secs_f64())).max(0.5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// A lane in virtual time: a queue that is emptied at a rate, and a round trip beside it.
    struct Lane {
        pace: Pace,
        now: Instant,
        rate: f64,
        round_trip: Duration,
        /// When the queue will be empty.
        empty_at: Instant,
        sent: u64,
        pong: Option<Instant>,
        next_ping: Instant,
        queues: VecDeque<Duration>,
        /// How often its sender looks.
        steps: [u64; 3],
        /// How late pings come back, in turn, in microseconds.
        late: [u64; 7],
    }

    impl Lane {
        fn new(rate: f64, round_trip: u64) -> Lane {
            let now = Instant::now();
            Lane {
                pace: Pace::new(),
                now,
                rate,
                round_trip: Duration::from_millis(round_trip),
                empty_at: now,
                sent: 0,
                pong: None,
                next_ping: now,
                queues: VecDeque::new(),
                steps: [250, 250, 250],
                late: [0; 7],
            }
        }

        /// A body without end for this long; gives bytes a second, and the queue's median over the last ten seconds.
        fn bulk(&mut self, time: Duration) -> (f64, Duration) {
            let (end, before) = (self.now + time, self.sent);
            let mut steps = self.steps.into_iter().cycle().map(Duration::from_micros);
            let mut late = self.late.into_iter().cycle().map(Duration::from_micros);
            while self.now < end {
                // HTTP/2's own window, and the round trip that it takes to hear of it.
                let on_its_way = |lane: &Lane| {
                    let queue = lane.empty_at.saturating_duration_since(lane.now);
                    queue.as_secs_f64() * lane.rate < 4_000_000.0
                };
                while on_its_way(self)
                    && let Ok(count) = self.pace.take(32 * 1024, self.now)
                {
                    self.sent += count as u64;
                    self.empty_at = self.empty_at.max(self.now) + Duration::from_secs_f64(count as f64 / self.rate);
                }
                let queue = self.empty_at.saturating_duration_since(self.now);
                if self.pong.is_none() && self.now >= self.next_ping {
                    self.pace.pinged(self.sent, self.now);
                    self.pong = Some(self.now + queue + self.round_trip + late.next().unwrap_or_default());
                }
                if self.pong.is_some_and(|at| at <= self.now) {
                    self.pong = None;
                    let (_, pause) = self.pace.ponged(self.now);
                    self.next_ping = self.now + pause;
                }
                self.queues.push_back(queue);
                if self.queues.len() > 40_000 {
                    self.queues.pop_front();
                }
                self.now += steps.next().unwrap_or_default();
            }
            let mut queues: Vec<Duration> = self.queues.iter().copied().collect();
            queues.sort_unstable();
            let left = self.empty_at.saturating_duration_since(self.now).as_secs_f64() * self.rate;
            let rate = ((self.sent - before) as f64 - left) / time.as_secs_f64();
            (rate, queues[queues.len() / 2])
        }
    }

    #[test]
    fn a_slow_lane_is_used_up_with_a_short_queue() {
        // Also with timers of a busy machine.
        for (round_trip, steps) in [
            (0, [250; 3]),
            (1, [250; 3]),
            (40, [250; 3]),
            (150, [250; 3]),
            (0, [900, 2300, 4100]),
            (40, [900, 2300, 4100]),
        ] {
            let mut lane = Lane::new(900_000.0, round_trip);
            lane.steps = steps;
            lane.bulk(Duration::from_secs(3));
            let (rate, queue) = lane.bulk(Duration::from_secs(30));
            let (least, most) = if round_trip > 100 { (0.9, 16) } else { (0.95, 12) };
            assert!(rate > least * lane.rate, "{round_trip} ms: {rate} bytes a second");
            assert!(queue < Duration::from_millis(most), "{round_trip} ms: a queue of {queue:?}");
        }
    }

    /// Pings that are late now and then are no queue.
    #[test]
    fn a_busy_machine_does_not_slow_a_lane_down() {
        for round_trip in [0, 40] {
            let mut lane = Lane::new(900_000.0, round_trip);
            (lane.steps, lane.late) = ([900, 1300, 1100], [0, 12_000, 1_000, 2_000, 18_000, 7_000, 500]);
            lane.bulk(Duration::from_secs(3));
            let (rate, queue) = lane.bulk(Duration::from_secs(30));
            assert!(rate > 0.95 * lane.rate, "{round_trip} ms: {rate} bytes a second");
            assert!(queue < Duration::from_millis(14), "{round_trip} ms: a queue of {queue:?}");
        }
    }

    /// From the first byte on: no queue is ever longer than what the first window makes.
    #[test]
    fn the_beginning_does_not_fill_the_queue() {
        for round_trip in [0, 40] {
            let mut lane = Lane::new(900_000.0, round_trip);
            for _ in 0..100 {
                lane.bulk(Duration::from_millis(10));
                let queue = lane.empty_at.saturating_duration_since(lane.now);
                assert!(queue < Duration::from_millis(300), "{round_trip} ms: {queue:?}");
            }
        }
    }

    #[test]
    fn a_quick_lane_is_free_soon() {
        let mut lane = Lane::new(500_000_000.0, 0);
        lane.bulk(Duration::from_millis(20));
        assert!(lane.pace.is_free(), "{:?}", lane.pace);
        let mut far = Lane::new(200_000_000.0, 40);
        far.bulk(Duration::from_millis(600));
        assert!(far.pace.is_free(), "{:?}", far.pace);
    }

    #[test]
    fn a_lane_that_changes_is_followed() {
        let mut lane = Lane::new(500_000_000.0, 10);
        lane.bulk(Duration::from_secs(1));
        lane.rate = 1_000_000.0;
        // What was on its way already takes its time.
        lane.bulk(Duration::from_secs(30));
        let (rate, queue) = lane.bulk(Duration::from_secs(5));
        assert!(rate > 900_000.0 && queue < Duration::from_millis(8), "{rate}, {queue:?}");
        lane.rate = 4_000_000.0;
        lane.bulk(Duration::from_secs(4));
        let (rate, queue) = lane.bulk(Duration::from_secs(5));
        assert!(rate > 3_600_000.0 && queue < Duration::from_millis(8), "{rate}, {queue:?}");
    }

    #[test]
    fn no_measurement_stops_a_lane() {
        let mut pace = Pace::new();
        let mut now = Instant::now();
        for _ in 0..1000 {
            while pace.take(100_000, now).is_ok() {
                if pace.is_free() {
                    return;
                }
            }
            pace.pinged(0, now);
            now += Duration::from_secs(5);
            pace.ponged(now);
        }
        now += Duration::from_secs(1);
        assert!(pace.take(100_000, now).is_ok(), "{pace:?}");
    }
}
