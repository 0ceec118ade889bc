//! When to replace a worker, when to wait, when to give up: a pure policy.

use std::time::Duration;

use crate::limits::{RESPAWN_PAUSE, RESPAWN_PAUSE_MAX, START_FAILURES, START_KILLS};

/// What to do about a worker that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Start another one after this pause.
    After(Duration),
    /// The pool is broken: nothing that was started lately came up.
    GiveUp,
}

/// Counts failed starts in a row.
///
/// A worker that came up and died later is replaced at once, however often: what it worked on bounds that (a chunk that
/// kills its workers is given up after its retries). Workers that never come up would be started for ever.
#[derive(Debug, Default)]
pub(crate) struct Respawn {
    workers: u32,
    failures: u32,
    kills: u32,
}

impl Respawn {
    pub(crate) fn new(workers: usize) -> Respawn {
        Respawn { workers: workers as u32, failures: 0, kills: 0 }
    }

    /// A worker that had come up is gone.
    pub(crate) fn lost(&mut self) -> Decision {
        (self.failures, self.kills) = (0, 0);
        Decision::After(Duration::ZERO)
    }

    /// A worker was killed from outside before it came up, which says nothing about whether it could have.
    pub(crate) fn killed_at_start(&mut self) -> Decision {
        self.kills += 1;
        if self.kills < START_KILLS { Decision::After(Duration::ZERO) } else { Decision::GiveUp }
    }

    /// A worker did not come up.
    pub(crate) fn failed_to_start(&mut self) -> Decision {
        self.failures += 1;
        if self.failures >= START_FAILURES + self.workers {
            return Decision::GiveUp;
        }
        let doublings = self.failures.saturating_sub(1).min(16);
        Decision::After((RESPAWN_PAUSE * 2u32.pow(doublings)).min(RESPAWN_PAUSE_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_end() {
        let mut policy = Respawn::new(2);
        let pauses: Vec<_> = std::iter::from_fn(|| match policy.failed_to_start() {
            Decision::After(pause) => Some(pause.as_millis()),
            Decision::GiveUp => None,
        })
        .collect();
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320]);
    }

    #[test]
    fn a_worker_that_came_up_clears_the_count() {
        let mut policy = Respawn::new(1);
        for _ in 0..1000 {
            policy.failed_to_start();
            policy.killed_at_start();
            assert_eq!(policy.lost(), Decision::After(Duration::ZERO));
        }
    }
}
