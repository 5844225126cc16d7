//! One request from its head to the end of its answer, counted however it ends.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::shared::{Open, Shared};
use crate::bastiond::metrics::Counters;
use crate::bastiond::state::Daemon;

/// A request in flight. Whoever drops it says how far its answer came, or else its client has left.
pub(crate) struct Exchange {
    daemon: Arc<Daemon>,
    began: Instant,
    fate: Fate,
    open: Open,
}

/// Why an answer broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The service or the lane did.
    BrokeOff,
    /// It has more or larger trailers than are passed on.
    Trailers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The client left before the end.
    Left,
    /// The answer broke off.
    Cut(Cut),
    Whole,
}

impl Exchange {
    pub(crate) fn begin(daemon: &Arc<Daemon>, shared: &Shared) -> Exchange {
        daemon.metrics.in_flight.fetch_add(1, Relaxed);
        Exchange {
            daemon: Arc::clone(daemon),
            began: Instant::now(),
            fate: Fate::Left,
            open: shared.open(),
        }
    }

    /// Its answer begins: of a session, or (`None`) of the edge itself or of staging.
    pub(crate) fn answered(&self, session: Option<&Counters>, status: u16) {
        self.daemon.metrics.answered(session, status);
        self.open.answered();
    }

    /// Its answer was handed on to its end.
    pub(crate) fn whole(mut self) {
        self.fate = Fate::Whole;
    }

    /// Its answer broke off.
    pub(crate) fn cut(mut self, why: Cut) {
        self.fate = Fate::Cut(why);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let metrics = &self.daemon.metrics;
        metrics.in_flight.fetch_sub(1, Relaxed);
        match self.fate {
            Fate::Left => {
                metrics.left.fetch_add(1, Relaxed);
            }
            Fate::Cut(Cut::BrokeOff) => {
                metrics.cut.fetch_add(1, Relaxed);
            }
            Fate::Cut(Cut::Trailers) => {
                metrics.cut_by_trailers.fetch_add(1, Relaxed);
            }
            Fate::Whole => metrics.finished(self.began.elapsed()),
        }
    }
}
