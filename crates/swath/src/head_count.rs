//! How many workers, when nobody says.
//!
//! Pools of workers share what their pool has: a worker counts on its part of the processors, and so do the workers of its own
//! pools, level by level. Without that, nested pools that nobody gave a number would have as many workers as the machine has
//! processors, to the power of their depth.

use std::sync::atomic::{AtomicUsize, Ordering};

use swath_platform::cpu;

use crate::error::{Error, ErrorKind};
use crate::limits::WORKERS_MAX;

/// A number of workers and where it comes from, for the log.
pub(crate) struct HeadCount {
    /// 0: inline.
    pub(crate) workers: usize,
    /// One clause.
    pub(crate) why: String,
}

/// `SWATH_WORKERS` if set, else what the program asked for, else the processors we may use: affinity mask and cgroup quota.
pub(crate) fn decide(asked: Option<usize>) -> Result<HeadCount, Error> {
    let over = std::env::var("SWATH_WORKERS").ok();
    // Who says a number need not wait until the machine was looked at.
    let machine = || (cpu::affinity_count(), cpu::cgroup_quota(), budget());
    choose(over.as_deref(), asked, machine)
}

/// Processors that this process, or the pool whose worker it is, may count on; more than any machine has where nobody shares them
/// out.
static SHARED: AtomicUsize = AtomicUsize::new(usize::MAX);
/// Among so many workers.
static SHARERS: AtomicUsize = AtomicUsize::new(1);

/// This process is one of `workers` who count on so many processors together. What that makes is found out when somebody asks.
#[inline]
pub(crate) fn share(processors: usize, workers: usize) {
    SHARED.store(processors.max(1), Ordering::Relaxed);
    SHARERS.store(workers.max(1), Ordering::Relaxed);
}

/// What this process's pools may count on: for the workers of each of them together, and for a process that it starts.
pub(crate) fn budget() -> usize {
    match (SHARED.load(Ordering::Relaxed), SHARERS.load(Ordering::Relaxed)) {
        (usize::MAX, 1) => usize::MAX,
        (shared, sharers) => (shared.min(processors()) / sharers).max(1),
    }
}

/// The processors that we may use, at least one.
pub(crate) fn processors() -> usize {
    choose(None, None, || (cpu::affinity_count(), cpu::cgroup_quota(), usize::MAX))
        .map_or(WORKERS_MAX, |count| count.workers)
}

fn choose(
    over: Option<&str>,
    asked: Option<usize>,
    machine: impl FnOnce() -> (usize, Option<f64>, usize),
) -> Result<HeadCount, Error> {
    let (workers, why) = match (over.filter(|text| !text.is_empty()), asked) {
        (Some(text), _) => {
            let number = text.trim().parse().map_err(|_| {
                ErrorKind::Usage
                    .with(format!("SWATH_WORKERS is `{text}`; it must be a number, 0 for no processes"))
            })?;
            (number, "SWATH_WORKERS says so".to_owned())
        }
        (None, Some(number)) => (number, "the program asks for them".to_owned()),
        (None, None) => {
            let (mask, quota, share) = machine();
            let quota = quota.map_or(usize::MAX, |q| (q.ceil() as usize).max(1));
            match share.min(quota).min(mask) {
                least if least == mask => (mask, "this process may run on that many processors".to_owned()),
                least if least == quota => (quota, "the cgroup's CPU quota allows them".to_owned()),
                least => (least, "that is this worker's share of its pool's processors".to_owned()),
            }
        }
    };
    if workers > WORKERS_MAX {
        return Err(ErrorKind::Usage.with(format!("{workers} workers; a pool has at most {WORKERS_MAX}")));
    }
    Ok(HeadCount { workers, why })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_beats_the_program_and_both_beat_the_machine() {
        let n = |over, asked, mask, quota| {
            choose(over, asked, || (mask, quota, usize::MAX)).map(|h| h.workers).ok()
        };
        assert_eq!(n(Some("3"), Some(5), 8, None), Some(3));
        assert_eq!(n(Some("0"), Some(5), 8, None), Some(0));
        assert_eq!(n(None, Some(5), 8, None), Some(5));
        assert_eq!(n(None, None, 8, Some(1.5)), Some(2));
        assert_eq!(n(None, None, 8, Some(0.1)), Some(1));
        assert_eq!(n(None, None, 2, Some(16.0)), Some(2));
        assert_eq!(n(Some("many"), None, 2, None), None);
        assert_eq!(n(None, Some(1_000_000), 2, None), None);
    }

    #[test]
    fn a_share_counts_where_nobody_says_otherwise() {
        let n = |over, asked, share| choose(over, asked, || (8, Some(6.0), share)).map(|h| h.workers).ok();
        assert_eq!(n(None, None, 2), Some(2));
        assert_eq!(n(None, None, 7), Some(6));
        assert_eq!(n(None, Some(5), 2), Some(5));
        assert_eq!(n(Some("4"), None, 2), Some(4));
    }
}
