//! One direction of the relay between client and agent: messages on their way, each due at a time, and what befalls them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::chance::Dice;

/// How many bytes may be on the way before the sender has to wait.
pub(crate) const ROOM: usize = 8 * 1024 * 1024;
/// How much later than the others a message comes that is to be out of order.
const DETOUR: Duration = Duration::from_millis(15);

/// In which fraction of messages something happens, 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Odds {
    pub(crate) drop: f64,
    pub(crate) duplicate: f64,
    pub(crate) reorder: f64,
    pub(crate) corrupt: f64,
}

/// What becomes of one copy of a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Copy {
    pub(crate) late: Duration,
    pub(crate) corrupt: bool,
}

impl Odds {
    /// The copies that arrive of one message.
    pub(crate) fn strike(&self, dice: &mut Dice) -> Vec<Copy> {
        if *self == Odds::default() {
            return vec![Copy {
                late: Duration::ZERO,
                corrupt: false,
            }];
        }
        let copies = match (dice.happens(self.drop), dice.happens(self.duplicate)) {
            (true, _) => 0,
            (false, true) => 2,
            (false, false) => 1,
        };
        let copy = |_| Copy {
            late: if dice.happens(self.reorder) { DETOUR } else { Duration::ZERO },
            corrupt: dice.happens(self.corrupt),
        };
        (0..copies).map(copy).collect()
    }
}

/// Messages of the kind `T` on their way.
pub(crate) struct Lane<T> {
    due: BTreeMap<(Instant, u64), (usize, T)>,
    count: u64,
    bytes: usize,
}

impl<T> Default for Lane<T> {
    fn default() -> Lane<T> {
        Lane {
            due: BTreeMap::new(),
            count: 0,
            bytes: 0,
        }
    }
}

impl<T> Lane<T> {
    pub(crate) fn push(&mut self, due: Instant, bytes: usize, item: T) {
        self.count += 1;
        self.bytes += bytes;
        self.due.insert((due, self.count), (bytes, item));
    }

    /// The next one that is due.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<T> {
        let entry = self.due.first_entry()?;
        if entry.key().0 > now {
            return None;
        }
        let (bytes, item) = entry.remove();
        self.bytes -= bytes;
        Some(item)
    }

    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.due.first_key_value().map(|((due, _), _)| *due)
    }

    pub(crate) fn full(&self) -> bool {
        self.bytes >= ROOM
    }

    pub(crate) fn clear(&mut self) {
        self.due.clear();
        self.bytes = 0;
    }
}
