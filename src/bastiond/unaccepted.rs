//! A listener that the system lets accept nothing (out of file descriptors, mostly): said at once, not again and again, and when it is over.

use std::io;
use std::time::{Duration, Instant};

/// How often it is said while it lasts.
const SAY_EVERY: Duration = Duration::from_secs(30);

/// What one listener knows of it.
#[derive(Debug)]
pub(crate) struct Unaccepted {
    /// For people: "HTTP".
    what: &'static str,
    /// When it was said last, while it lasts, and how often it happened since it began.
    said: Option<(Instant, u64)>,
}

impl Unaccepted {
    pub(crate) fn new(what: &'static str) -> Unaccepted {
        Unaccepted { what, said: None }
    }

    /// A connection could not be accepted.
    pub(crate) fn failed(&mut self, why: &io::Error) {
        let (last, count) = self.said.map_or((None, 1), |(last, count)| (Some(last), count + 1));
        let now = Instant::now();
        if last.is_some_and(|last| now.duration_since(last) < SAY_EVERY) {
            self.said = last.map(|last| (last, count));
            return;
        }
        self.said = Some((now, count));
        let hint = match why.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
            Some(rustix::io::Errno::MFILE) => "; raise its limit of open files (LimitNOFILE= in the unit, ulimit -n)",
            Some(rustix::io::Errno::NFILE) => "; the whole system is out of open files (fs.file-max)",
            _ => "",
        };
        tracing::error!("connections to {} are not accepted, they wait: {why}{hint}", self.what);
    }

    /// One was accepted.
    pub(crate) fn succeeded(&mut self) {
        if let Some((_, count)) = self.said.take() {
            tracing::info!(tries = count, "connections to {} are accepted again", self.what);
        }
    }
}
