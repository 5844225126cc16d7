//! How much of the audit is kept.

use super::Texts;
use crate::bastiond::store::Keep;

/// How long entries of the audit are kept, in days: a quarter of a year, after which nobody asks who held a tag.
pub(super) const AUDIT_DAYS: u64 = 90;

/// How many bytes of entries are kept: some 50,000, what fifty developers do in that time.
pub(super) const AUDIT_BYTES: u64 = 16 * 1024 * 1024;

/// The least and the most of both. The store is read as a whole when the daemon starts, so a gigabyte is seconds of start.
const DAYS: (u64, u64) = (1, 3650);
const BYTES: (u64, u64) = (64 * 1024, 1024 * 1024 * 1024);

const DAY: u64 = 24 * 3600;

impl Texts {
    pub(super) fn keep(&mut self) -> Keep {
        Keep {
            age: self.number("audit_days", "days", DAYS).unwrap_or(AUDIT_DAYS) * DAY,
            bytes: self.number("audit_bytes", "bytes", BYTES).unwrap_or(AUDIT_BYTES),
        }
    }

    pub(super) fn number(&mut self, key: &str, unit: &str, (least, most): (u64, u64)) -> Option<u64> {
        self.one(key, |text, _| match text.parse() {
            Ok(number) if (least..=most).contains(&number) => Ok(number),
            _ => Err(format!("{text:?} is not a number of {unit} from {least} to {most}")),
        })
    }
}
