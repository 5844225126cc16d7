//! How much one user may have, and how much of the audit is kept.

use std::time::Duration;

use super::Texts;
use crate::bastiond::registry::{MAX_SESSIONS, MAX_SESSIONS_PER_USER};
use crate::bastiond::store::Keep;
use crate::protocol::MAX_LANES;

/// How long entries of the audit are kept, in days: a quarter of a year, after which nobody asks who held a tag.
const AUDIT_DAYS: u64 = 90;

/// How many bytes of entries are kept: some 50,000, what fifty developers do in that time.
const AUDIT_BYTES: u64 = 16 * 1024 * 1024;

/// The least and the most of both. The store is read as a whole when the daemon starts, so a gigabyte is seconds of start.
const DAYS: (u64, u64) = (1, 3650);
const BYTES: (u64, u64) = (64 * 1024, 1024 * 1024 * 1024);

const DAY: u64 = 24 * 3600;

/// The least rate of a user that is not 0, in bytes a second: below, a page would take longer than people wait.
const MIN_RATE: u64 = 64 * 1024;

/// The shortest and the longest lifetime of a session that is not 0, in seconds.
const LIFETIME: (u64, u64) = (1, 365 * DAY);

/// What one user may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quotas {
    /// Sessions of one user.
    pub sessions: usize,
    /// Connections of one session.
    pub lanes: usize,
    /// Bytes a second of one user, both directions together; 0 is no limit.
    pub rate: u64,
    /// How old a session may become.
    pub lifetime: Option<Duration>,
}

impl Default for Quotas {
    fn default() -> Quotas {
        Quotas {
            sessions: MAX_SESSIONS_PER_USER,
            lanes: MAX_LANES as usize,
            rate: 0,
            lifetime: None,
        }
    }
}

impl Texts {
    pub(super) fn keep(&mut self) -> Keep {
        Keep {
            age: self.number("audit_days", "days", DAYS).unwrap_or(AUDIT_DAYS) * DAY,
            bytes: self.number("audit_bytes", "bytes", BYTES).unwrap_or(AUDIT_BYTES),
        }
    }

    pub(super) fn quotas(&mut self) -> Quotas {
        let usual = Quotas::default();
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let sessions = self.number("user_sessions", "sessions", (1, MAX_SESSIONS as u64)).map(count);
        let lanes = self
            .number("session_lanes", "connections", (1, u64::from(MAX_LANES)))
            .map(count);
        let rate = self.one("user_rate", |text, _| match text.parse() {
            Ok(rate) if rate == 0 || rate >= MIN_RATE => Ok(rate),
            _ => Err(format!(
                "{text:?} is neither 0 (no limit) nor a number of bytes a second from {MIN_RATE} up"
            )),
        });
        let (least, most) = LIFETIME;
        let lifetime = self.one("session_lifetime", |text, _| match text.parse() {
            Ok(seconds) if seconds == 0 || (least..=most).contains(&seconds) => Ok(seconds),
            _ => Err(format!(
                "{text:?} is neither 0 (no limit) nor a number of seconds from {least} to {most}"
            )),
        });
        Quotas {
            sessions: sessions.unwrap_or(usual.sessions),
            lanes: lanes.unwrap_or(usual.lanes),
            rate: rate.unwrap_or(usual.rate),
            lifetime: lifetime.filter(|&seconds| seconds > 0).map(Duration::from_secs),
        }
    }

    /// A number from 0.
    pub(super) fn count(&mut self, key: &str, unit: &str, most: usize) -> Option<usize> {
        let number = self.number(key, unit, (0, most as u64))?;
        usize::try_from(number).ok()
    }

    fn number(&mut self, key: &str, unit: &str, (least, most): (u64, u64)) -> Option<u64> {
        self.one(key, |text, _| match text.parse() {
            Ok(number) if (least..=most).contains(&number) => Ok(number),
            _ => Err(format!("{text:?} is not a number of {unit} from {least} to {most}")),
        })
    }
}
