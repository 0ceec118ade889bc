//! A thread of a model by a name: it says itself which one it is, and a death is what the model says.

use std::cell::Cell;

use crate::atomics::{AtomicU32, Ordering};

/// Somebody may sleep on the word's lower half.
pub(super) const WAITERS: u64 = 1 << 31;
/// In the place of a start time.
const STARTED: u64 = 1 << 32;
const THREADS_MAX: u32 = 4;

loom::thread_local! {
    static ME: Cell<u32> = Cell::new(0);
}

loom::lazy_static! {
    static ref DEAD: Vec<AtomicU32> = (0..THREADS_MAX).map(|_| AtomicU32::new(0)).collect();
}

/// The calling thread is that one, from 1 on.
pub fn be_holder(number: u32) {
    ME.with(|me| me.set(number));
}

/// That thread is gone, for all to see in the model's `/proc`.
pub fn mark_dead(number: u32) {
    DEAD[number as usize].store(1, Ordering::SeqCst);
}

/// As the real one.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Holder(u64);

impl Holder {
    pub(super) fn current() -> std::io::Result<Self> {
        Ok(Self(u64::from(ME.with(Cell::get)) | STARTED))
    }

    pub(super) fn of_word(word: u64) -> Option<Self> {
        let bits = word & !WAITERS;
        (bits != 0).then_some(Self(bits))
    }

    pub(super) fn bits(self) -> u64 {
        self.0
    }

    pub(super) fn tid(self) -> u32 {
        self.0 as u32
    }

    pub(super) fn is_dead(self) -> bool {
        DEAD[self.tid() as usize].load(Ordering::SeqCst) != 0
    }
}
