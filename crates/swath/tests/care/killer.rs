//! Kills workers, never faster than they work.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use swath::Pool;
use swath_platform::{process, signal};

/// Until it is `over`, kills whoever has claimed a few more since the last time; how many.
pub(crate) fn kill_those_who_work(pool: &Pool, over: &AtomicBool) -> u32 {
    let (mut count, mut seen) = (0, HashMap::new());
    while !over.load(Ordering::Relaxed) {
        for worker in pool.stats().workers {
            let before = seen.entry(worker.index).or_insert(worker.claims);
            // A pidfd, so that a pid that was reused meanwhile is not hit: the pool's list is read again after opening.
            let opened = process::pidfd_open(worker.pid).ok().filter(|_| worker.claims > *before + 5);
            if let Some(fd) = opened.filter(|_| pool.pids().contains(&worker.pid)) {
                *before = worker.claims;
                count += u32::from(process::pidfd_signal(&fd, signal::KILL).is_ok());
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    count
}
