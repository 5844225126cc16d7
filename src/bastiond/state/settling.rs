//! The first time of a daemon that knows no session: it may have taken another's place, and that one's laptops are on their way.

use std::future::Future;
use std::time::{Duration, Instant};

use super::{Daemon, RETRY_AFTER, Route};
use crate::rt;

/// Until when tags that nobody has claimed are held like those whose laptop is away.
#[derive(Debug)]
pub(super) struct Settling(Option<Instant>);

impl Settling {
    /// For `time` from `now` on, unless the daemon knows sessions from before, which are leased.
    pub(super) fn begin(now: Instant, time: Duration, sessions: usize) -> Settling {
        Settling((sessions == 0 && !time.is_zero()).then(|| now + time))
    }

    fn left(&self, now: Instant) -> Option<Duration> {
        let left = self.0?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }
}

impl Daemon {
    /// Where a request goes whose tag nobody has claimed.
    pub(super) fn unclaimed(&self) -> Route {
        match self.settling.left(Instant::now()) {
            Some(left) => Route::Unclaimed {
                retry_after: left.min(RETRY_AFTER),
            },
            None => Route::Unknown,
        }
    }

    /// Resolves at the next change of any session, and when the first time is over.
    pub(super) fn settled(&self) -> impl Future<Output = ()> + Send + use<> {
        let (changed, left) = (self.changed(), self.settling.left(Instant::now()));
        async move {
            rt::timeout(left.unwrap_or_default(), changed).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_daemon_without_sessions_settles() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let check = |time: Duration, sessions: usize, after: Duration, expected: Option<Duration>| {
            assert_eq!(Settling::begin(now, time, sessions).left(now + after), expected);
        };
        check(3 * second, 0, Duration::ZERO, Some(3 * second));
        check(3 * second, 0, second, Some(2 * second));
        check(3 * second, 0, 3 * second, None);
        check(3 * second, 1, Duration::ZERO, None);
        check(Duration::ZERO, 0, Duration::ZERO, None);
    }
}
