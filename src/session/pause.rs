//! How long a laptop waits before it connects again.

use std::time::Duration;

/// The first wait before connecting again: as good as at once, and yet no busy loop.
const FIRST: Duration = Duration::from_millis(50);

/// The longest wait before connecting again: what a developer who opens the lid still finds quick.
pub const MOST: Duration = Duration::from_secs(5);

/// The wait after so many failures in a row, at most `most`; `jitter` is a random number from 0 to 1. Half of the wait is chance, so that
/// laptops that lost a bastion together do not come back together.
pub fn after(failures: u32, most: Duration, jitter: f64) -> Duration {
    let whole = FIRST.saturating_mul(1 << failures.min(16)).min(most);
    whole.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits() {
        let check = |failures, jitter, millis| assert_eq!(after(failures, MOST, jitter), Duration::from_millis(millis));
        check(0, 0.0, 25);
        check(0, 1.0, 50);
        check(3, 1.0, 400);
        check(7, 0.0, 2500);
        check(u32::MAX, 1.0, 5000);
        check(u32::MAX, 7.0, 5000);
    }
}
