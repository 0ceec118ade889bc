//! How many workers, when nobody says.

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
    choose(over.as_deref(), asked, cpu::affinity_count(), cpu::cgroup_quota())
}

/// The processors that we may use, at least one.
pub(crate) fn processors() -> usize {
    choose(None, None, cpu::affinity_count(), cpu::cgroup_quota()).map_or(WORKERS_MAX, |count| count.workers)
}

fn choose(
    over: Option<&str>,
    asked: Option<usize>,
    mask: usize,
    quota: Option<f64>,
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
        (None, None) => match quota.map(|q| (q.ceil() as usize).max(1)) {
            Some(quota) if quota < mask => (quota, "the cgroup's CPU quota allows them".to_owned()),
            _ => (mask, "this process may run on that many processors".to_owned()),
        },
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
        let n = |over, asked, mask, quota| choose(over, asked, mask, quota).map(|h| h.workers).ok();
        assert_eq!(n(Some("3"), Some(5), 8, None), Some(3));
        assert_eq!(n(Some("0"), Some(5), 8, None), Some(0));
        assert_eq!(n(None, Some(5), 8, None), Some(5));
        assert_eq!(n(None, None, 8, Some(1.5)), Some(2));
        assert_eq!(n(None, None, 8, Some(0.1)), Some(1));
        assert_eq!(n(None, None, 2, Some(16.0)), Some(2));
        assert_eq!(n(Some("many"), None, 2, None), None);
        assert_eq!(n(None, Some(1_000_000), 2, None), None);
    }
}
