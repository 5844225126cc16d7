//! HTTP/2's windows on the requests channel. (pure)
//!
//! A stream's window is how much of one body may be on its way to a reader that does not read. One transfer alone gets a wide one, so
//! that the link is never idle while it waits to be told to go on; the more streams there are, the narrower it gets, so that small
//! requests do not queue behind bulk. The rule behind the numbers: all that stuck readers can hold together never exceeds the
//! connection's window. Then any number of them only stops their own streams.

use std::time::{Duration, Instant};

/// A stream's window while it is the only one, in bytes: what is on its way on a link of 100 MB/s with a round trip of 40 ms.
pub(crate) const ALONE: u32 = 4 * 1024 * 1024;

/// A stream's window while there are at most [`FEW_STREAMS`], in bytes.
pub(crate) const FEW: u32 = 1024 * 1024;

/// So many streams are few: a page that is loading beside a download or two.
const FEW_STREAMS: usize = 4;

/// A stream's window while there are at most [`MANY_STREAMS`], in bytes.
pub(crate) const MANY: u32 = 256 * 1024;

/// So many streams are not yet a crowd.
const MANY_STREAMS: usize = 64;

/// A stream's window otherwise, in bytes: they fill any link together, and what nobody reads costs the bastion no more than this each.
const CROWD: u32 = 64 * 1024;

/// Requests at once on one lane. The edge lets more of them wait.
pub(crate) const MAX_STREAMS: u32 = 250;

/// What is sent before the peer hears that the windows are narrower now, in bytes: all that SSH lets be on its way.
const UNHEARD: u32 = crate::tunnel::ssh::WINDOW;

/// The connection's window, in bytes: every stream stuck, each with the widest window it can have had, and nobody else delayed.
pub(crate) const CONNECTION: u32 = ALONE + FEW_STREAMS as u32 * FEW + (MAX_STREAMS + 6) * MANY + UNHEARD;

/// How long streams have to be fewer before windows get wider: short requests come and go, and each change is a message.
const SETTLED: Duration = Duration::from_millis(100);

/// Decides the window that streams are offered.
#[derive(Debug)]
pub(crate) struct Windows {
    offered: u32,
    /// Since when a wider one would do.
    fewer_since: Option<Instant>,
}

impl Windows {
    /// [`ALONE`] is offered, which is what the connection has to begin with.
    pub(crate) fn new() -> Windows {
        Windows {
            offered: ALONE,
            fewer_since: None,
        }
    }

    /// What to offer instead, when so many streams are open: a narrower window at once, a wider one when it lasts.
    /// `now` is asked for only when it matters.
    pub(crate) fn change(&mut self, streams: usize, now: impl FnOnce() -> Instant) -> Option<u32> {
        let right = match streams {
            0 | 1 => ALONE,
            2..=FEW_STREAMS => FEW,
            ..=MANY_STREAMS => MANY,
            _ => CROWD,
        };
        if right <= self.offered {
            self.fewer_since = None;
            return (right < self.offered).then_some(right);
        }
        let now = now();
        let since = *self.fewer_since.get_or_insert(now);
        (now.duration_since(since) >= SETTLED).then_some(right)
    }

    /// The peer is being told.
    pub(crate) fn offered(&mut self, window: u32) {
        self.offered = window;
        self.fewer_since = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrower_at_once_and_wider_when_it_lasts() {
        let start = Instant::now();
        let after = |milliseconds| move || start + Duration::from_millis(milliseconds);
        let mut windows = Windows::new();
        let mut step = |streams, milliseconds, expected: Option<u32>| {
            let change = windows.change(streams, after(milliseconds));
            assert_eq!(change, expected, "{streams} streams at {milliseconds} ms");
            if let Some(window) = change {
                windows.offered(window);
            }
        };
        step(0, 0, None);
        step(1, 0, None);
        step(2, 1, Some(FEW));
        step(4, 1, None);
        step(5, 1, Some(MANY));
        step(64, 1, None);
        step(65, 1, Some(CROWD));
        step(250, 1, None);
        step(64, 2, None);
        step(65, 3, None);
        step(64, 4, None);
        step(64, 104, Some(MANY));
        step(1, 104, None);
        step(5, 105, None);
        step(1, 106, None);
        step(5, 150, None);
        step(1, 160, None);
        step(1, 259, None);
        step(1, 260, Some(ALONE));
        step(1, 261, None);
    }

    /// A change that could not be sent is asked for again.
    #[test]
    fn unsent_changes_are_repeated() {
        let now = Instant::now();
        let mut windows = Windows::new();
        assert_eq!(windows.change(9, || now), Some(MANY));
        assert_eq!(windows.change(9, || now), Some(MANY));
    }

    /// The rule, for streams that get stuck one after the other.
    #[test]
    fn all_stuck_streams_fit() {
        let mut windows = Windows::new();
        let mut held = u64::from(UNHEARD);
        let mut window = ALONE;
        for streams in 1..=MAX_STREAMS as usize {
            if let Some(narrower) = windows.change(streams, Instant::now) {
                windows.offered(narrower);
                window = narrower;
            }
            held += u64::from(window);
        }
        assert!(held < u64::from(CONNECTION), "{held} of {CONNECTION}");
    }
}
