//! Time by samples, not by one time stamp.
//!
//! Time passes only from sample to sample, and never more than two intervals at once. A machine that was suspended, or a
//! coordinator that was stopped, therefore does not cost workers their lives that were stopped with it.

use std::time::{Duration, Instant};

/// When the samples are taken.
pub(crate) struct Beat {
    last: Instant,
    pub(crate) interval: Duration,
}

impl Beat {
    pub(crate) fn new(interval: Duration) -> Beat {
        Beat { last: Instant::now(), interval }
    }

    /// The time that counts as passed since the sample before.
    pub(crate) fn passed(&mut self) -> Duration {
        let now = Instant::now();
        let passed = now.saturating_duration_since(self.last).min(2 * self.interval);
        self.last = now;
        passed
    }
}

/// What one worker has in hand, and for how long it was seen with it.
#[derive(Clone)]
pub(crate) struct Sample<K> {
    what: Option<K>,
    held_for: Duration,
    told: bool,
}

impl<K> Default for Sample<K> {
    fn default() -> Self {
        Sample { what: None, held_for: Duration::ZERO, told: false }
    }
}

impl<K: PartialEq> Sample<K> {
    /// It has `what` in hand, `passed` after the last sample. True once, when that has been so for as long as `limit`.
    pub(crate) fn is_overdue(&mut self, what: Option<K>, passed: Duration, limit: Duration) -> bool {
        if what.is_none() || self.what != what {
            *self = Sample { what, ..Sample::default() };
            return false;
        }
        self.held_for += passed;
        let overdue = self.held_for >= limit && !self.told;
        self.told |= overdue;
        overdue
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_held_from_sample_to_sample_grows_old() {
        let (second, limit) = (Duration::from_secs(1), Duration::from_secs(2));
        let mut sample = Sample::default();
        let mut look = |what| sample.is_overdue(what, second, limit);
        assert!(!look(Some(1)) && !look(Some(1)), "one second");
        assert!(look(Some(1)), "two seconds");
        assert!(!look(Some(1)), "said already");
        assert!(!look(Some(2)) && !look(None) && !look(Some(2)) && !look(Some(2)), "another, then again");
        assert!(look(Some(2)));
    }

    #[test]
    fn a_long_pause_counts_as_two_intervals() {
        let mut beat = Beat::new(Duration::from_nanos(1));
        std::thread::yield_now();
        assert!(beat.passed() <= Duration::from_nanos(2));
    }
}
