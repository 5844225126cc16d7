//! What the window follows, in virtual time.

use std::collections::VecDeque;
use std::time::Duration;

use crate::ssm::rate::{Rate, Sent};

const PAYLOAD: usize = 1024;
const MOST: usize = 64 * 1024 * 1024;

/// A way to the agent: what is on it, in order, and when the acknowledgement of each comes.
struct Way {
    rate: Rate,
    now: Duration,
    /// From the sending to the acknowledgement of a message that does not queue.
    round_trip: Duration,
    /// What the narrowest part needs for one message.
    each: Duration,
    free_at: Duration,
    sent: VecDeque<(Duration, Sent)>,
}

impl Way {
    fn new(round_trip: u64, bytes_a_second: usize) -> Way {
        Way {
            rate: Rate::default(),
            now: Duration::ZERO,
            round_trip: Duration::from_millis(round_trip),
            each: Duration::from_secs(PAYLOAD as u64) / u32::try_from(bytes_a_second).unwrap(),
            free_at: Duration::ZERO,
            sent: VecDeque::new(),
        }
    }

    fn window(&self) -> usize {
        self.rate.window(PAYLOAD, MOST)
    }

    /// As much as may be on its way is sent until `until`; acknowledgements are held up for `held` first, and all come then.
    fn bulk(&mut self, until: Duration, held: Duration) {
        let released = self.now + held;
        while self.now < until {
            while self.sent.front().is_some_and(|(at, _)| (*at).max(released) <= self.now) {
                let (_, sent) = self.sent.pop_front().unwrap();
                self.rate.acknowledged(self.now, sent, PAYLOAD, true);
                // What it made room for goes out before the next is looked at.
                self.fill();
                self.now += Duration::from_nanos(200);
            }
            self.fill();
            self.now += Duration::from_micros(2);
        }
    }

    fn fill(&mut self) {
        if self.sent.is_empty() {
            self.rate.sent(self.now, true);
        }
        while (self.sent.len() + 1) * PAYLOAD <= self.window() {
            self.free_at = self.free_at.max(self.now) + self.each;
            let sent = self.rate.sent(self.now, false);
            self.sent.push_back((self.free_at + self.round_trip, sent));
        }
    }
}

#[test]
fn the_window_is_what_the_way_holds() {
    for (round_trip, rate) in [(1, 80_000_000), (40, 25_000_000), (150, 5_000_000)] {
        let mut way = Way::new(round_trip, rate);
        way.bulk(Duration::from_millis(30 * round_trip), Duration::ZERO);
        let right = 2 * rate * (round_trip as usize + 1) / 1000;
        let window = way.window();
        assert!(
            (right * 9 / 10..right * 12 / 10).contains(&window),
            "{round_trip} ms, {rate} bytes a second: {window}, not {right}"
        );
    }
}

/// A busy machine reads the acknowledgements of some milliseconds at once; that is no quicker way.
#[test]
fn acknowledgements_that_come_at_once_open_no_window() {
    let mut way = Way::new(1, 80_000_000);
    way.bulk(Duration::from_millis(50), Duration::ZERO);
    let before = way.window();
    for _ in 0..10 {
        way.bulk(way.now + Duration::from_millis(20), Duration::from_millis(10));
    }
    assert!(way.window() < before * 3 / 2, "{} instead of {before}", way.window());
}
