//! The bare hand-over: two words, a store, a wake, a wait. Nothing can be faster between processes that sleep, and nobody
//! notices a death.

use std::sync::atomic::{AtomicU32, Ordering};

use swath_platform::futex;

use crate::partner::{open_shared_file, shared_file, shared_memory};

/// Two words, each in a line of its own.
#[repr(C, align(64))]
struct Word(AtomicU32);

/// A ball between two processes.
#[derive(Clone, Copy)]
pub struct PingPong(&'static [Word; 2]);

impl PingPong {
    /// In memory that a forked partner shares.
    pub fn new() -> PingPong {
        // SAFETY: zeroed, page-aligned, never unmapped.
        PingPong(unsafe { &*shared_memory(4096).cast::<[Word; 2]>() })
    }

    /// In memory that another process finds by the path returned.
    ///
    /// # Errors
    /// There is no memory.
    pub fn shared() -> std::io::Result<(String, PingPong)> {
        let (path, memory) = shared_file(4096)?;
        // SAFETY: zeroed, page-aligned, never unmapped.
        Ok((path, PingPong(unsafe { &*memory.cast::<[Word; 2]>() })))
    }

    /// The ball of [`PingPong::shared`], in the other process.
    ///
    /// # Errors
    /// There is no such file.
    pub fn open(path: &str) -> std::io::Result<PingPong> {
        let memory = open_shared_file(path, 4096)?;
        // SAFETY: as above: the other process made it.
        Ok(PingPong(unsafe { &*memory.cast::<[Word; 2]>() }))
    }

    /// Nobody has hit it yet. While nobody plays.
    pub fn reset(&self) {
        self.0.iter().for_each(|word| word.0.store(0, Ordering::SeqCst));
    }

    /// Hits the ball `times` times and waits for it each time.
    pub fn serve(&self, times: u32) {
        self.serve_from(0, times);
    }

    /// The same, after `before` hits.
    pub fn serve_from(&self, before: u32, times: u32) {
        for round in before + 1..=before + times {
            hit(&self.0[0].0, round);
            await_ball(&self.0[1].0, round);
        }
    }

    /// The other side.
    pub fn answer(&self, times: u32) {
        for round in 1..=times {
            await_ball(&self.0[0].0, round);
            hit(&self.0[1].0, round);
        }
    }
}

impl Default for PingPong {
    fn default() -> PingPong {
        PingPong::new()
    }
}

fn hit(word: &AtomicU32, round: u32) {
    word.store(round, Ordering::SeqCst);
    futex::wake(word, 1);
}

fn await_ball(word: &AtomicU32, round: u32) {
    while word.load(Ordering::SeqCst) != round {
        futex::wait(word, round - 1, None);
    }
}
