//! Where a task says, attempt by attempt, who runs it and since when: memory that its coordinator looks at.

use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use swath_platform::{clock, process};

use crate::partner::{open_shared_file, shared_file};

const BYTES: usize = 4096;

/// Zero: not begun.
#[repr(C)]
struct Attempt {
    pid: AtomicU32,
    began_ns: AtomicU64,
}

#[repr(C)]
struct Words {
    over: AtomicU32,
    attempts: [Attempt; 2],
}

/// The first two attempts at a task.
#[derive(Clone, Copy)]
pub struct Attempts(&'static Words);

impl Attempts {
    /// In memory that another process finds by the path returned.
    ///
    /// # Errors
    /// There is no memory.
    pub fn shared() -> io::Result<(String, Attempts)> {
        let (path, memory) = shared_file(BYTES)?;
        // SAFETY: zeroed, page-aligned, never unmapped.
        Ok((path, Attempts(unsafe { &*memory.cast::<Words>() })))
    }

    /// The same, in the other process.
    ///
    /// # Errors
    /// There is no such file.
    pub fn open(path: &str) -> io::Result<Attempts> {
        let memory = open_shared_file(path, BYTES)?;
        // SAFETY: as above: the other process made it.
        Ok(Attempts(unsafe { &*memory.cast::<Words>() }))
    }

    /// For the next task, when nobody runs the last one any more.
    pub fn reset(&self) {
        for attempt in &self.0.attempts {
            attempt.pid.store(0, Ordering::SeqCst);
        }
        self.0.over.store(0, Ordering::SeqCst);
    }

    /// This process has begun attempt `number`, now; returns when it is let go.
    pub fn stay(&self, number: usize) {
        let attempt = &self.0.attempts[number];
        attempt.began_ns.store(clock::now_ns(), Ordering::SeqCst);
        attempt.pid.store(process::getpid(), Ordering::SeqCst);
        while self.0.over.load(Ordering::SeqCst) == 0 {
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    /// Waits until attempt `number` has begun: who runs it, and since when. `None` after `patience`.
    pub fn wait(&self, number: usize, patience: Duration) -> Option<(u32, u64)> {
        let attempt = &self.0.attempts[number];
        let since = Instant::now();
        while attempt.pid.load(Ordering::SeqCst) == 0 {
            if since.elapsed() > patience {
                return None;
            }
            std::thread::sleep(Duration::from_micros(50));
        }
        Some((attempt.pid.load(Ordering::SeqCst), attempt.began_ns.load(Ordering::SeqCst)))
    }

    /// Lets the one go that runs.
    pub fn end(&self) {
        self.0.over.store(1, Ordering::SeqCst);
    }
}
