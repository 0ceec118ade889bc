//! What the coordinator still has when its pools are gone: descriptors, threads, children, memory.

use std::time::{Duration, Instant};

/// What ends in the background ends within this time.
const SETTLES_WITHIN: Duration = Duration::from_secs(10);
/// More than this, after thousands of kills, is not what an allocator keeps.
const GROWTH_MAX_KIB: u64 = 24 << 10;

/// Descriptors of a pool, besides those of its workers.
const OF_A_POOL: usize = 20;
/// Descriptors of a worker, twice: one may be on its way out.
const OF_A_WORKER: usize = 16;

/// A look at this process.
pub(crate) struct Remains {
    descriptors: usize,
    threads: usize,
    children: usize,
    memory_kib: u64,
}

impl Remains {
    /// As soon as two looks in a row are the same.
    pub(crate) fn settle() -> Remains {
        let until = Instant::now() + SETTLES_WITHIN;
        loop {
            let before = Remains::look();
            std::thread::sleep(Duration::from_millis(50));
            let now = Remains::look();
            if before.equals(&now) || Instant::now() > until {
                return now;
            }
        }
    }

    fn look() -> Remains {
        let count = |path: &str| std::fs::read_dir(path).map_or(0, |entries| entries.count());
        let children = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten().map(|thread| {
            let text = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            text.split_whitespace().count()
        });
        Remains {
            children: children.sum(),
            descriptors: count("/proc/self/fd"),
            threads: count("/proc/self/task"),
            memory_kib: memory_kib(),
        }
    }

    fn equals(&self, other: &Remains) -> bool {
        (self.descriptors, self.threads, self.children) == (other.descriptors, other.threads, other.children)
    }

    /// Waits until all is as it was; an error says what is too much.
    pub(crate) fn compare(&self) -> Result<(), String> {
        self.wait_for(|now| {
            now.descriptors <= self.descriptors
                && now.threads <= self.threads
                && now.children <= self.children
        })
    }

    /// While a pool is there, and nothing goes on in it: what it has does not grow with the deaths.
    pub(crate) fn compare_with_pool(&self, workers: usize) -> Result<(), String> {
        let most = self.descriptors + OF_A_POOL + workers * OF_A_WORKER;
        self.wait_for(|now| now.descriptors <= most)
    }

    fn wait_for(&self, holds: impl Fn(&Remains) -> bool) -> Result<(), String> {
        let until = Instant::now() + SETTLES_WITHIN;
        loop {
            let now = Remains::look();
            if holds(&now) {
                return Ok(());
            }
            if Instant::now() > until {
                let of = |r: &Remains| {
                    format!("{} descriptors, {} threads, {} children", r.descriptors, r.threads, r.children)
                };
                return Err(format!("{} instead of {}", of(&now), of(self)));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// What is too much memory by now, if it is.
    pub(crate) fn grown(&self) -> Option<String> {
        let now = memory_kib();
        println!("memory: {} KiB when warm, {now} KiB in the end", self.memory_kib);
        (now > self.memory_kib + GROWTH_MAX_KIB)
            .then(|| format!("{now} KiB of memory instead of {}", self.memory_kib))
    }
}

/// Its own pages and those of its files in memory.
fn memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok()
    };
    of("RssAnon:").unwrap_or(0) + of("RssShmem:").unwrap_or(0)
}
