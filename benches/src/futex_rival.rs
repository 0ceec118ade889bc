//! The bare hand-over: two words, a store, a wake, a wait. Nothing can be faster between processes that sleep, and nobody
//! notices a death.

use std::sync::atomic::{AtomicU32, Ordering};

use swath_platform::futex;

use crate::partner::shared_memory;

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

    /// Hits the ball `times` times and waits for it each time.
    pub fn serve(&self, times: u32) {
        for round in 1..=times {
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
