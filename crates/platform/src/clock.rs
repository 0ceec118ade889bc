//! The one clock that all deadlines are on: `CLOCK_MONOTONIC`, in nanoseconds.
//!
//! Every process of a machine (of a time namespace, to be exact) reads the same value, so a deadline may travel
//! through shared memory. It counts neither adjustments of the date nor suspended time.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since some fixed moment before the machine's start.
#[inline]
pub fn now_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}

/// The moment `duration` from now; a duration that reaches past the clock's range gives `u64::MAX`, which every
/// wait takes as "never".
#[inline]
pub fn after(duration: Duration) -> u64 {
    now_ns().saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_runs_backwards() {
        let mut last = now_ns();
        for _ in 0..10_000 {
            let now = now_ns();
            assert!(now >= last);
            last = now;
        }
    }

    #[test]
    fn a_huge_duration_is_never() {
        assert_eq!(after(Duration::MAX), u64::MAX);
        assert!(after(Duration::from_secs(1)) >= now_ns());
    }
}
