//! The locks behind raw_sync's traits on the stage, and the pair of halves beside them.
#![allow(unsafe_code)]

use std::ptr;
use std::sync::atomic::AtomicU64;

use swath_sync::raw_sync::locks::{LockImpl, LockInit, Mutex, RwLock, recoveries};

use crate::stage::Stage;

const LOCK_AT: usize = 0x9_0000;
const HALVES_AT: usize = LOCK_AT + 256;

/// Which lock it is.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(super) enum Which {
    Mutex,
    RwLock,
}

impl Which {
    /// The lock of this run; zero bytes are a free one.
    pub(super) fn on(self, stage: &Stage) -> Box<dyn LockImpl> {
        let memory = stage.base().wrapping_add(LOCK_AT);
        // SAFETY: aligned memory of the stage that nothing else uses, zero at the start of a run, mapped until the process
        // ends, with more room than a lock takes; the value is not reached through the lock.
        let attached = unsafe {
            match self {
                Which::Mutex => Mutex::from_existing(memory, ptr::null_mut()),
                Which::RwLock => RwLock::from_existing(memory, ptr::null_mut()),
            }
        };
        attached.expect("a lock is a few words").0
    }
}

/// How often that lock was taken over from the dead.
pub(super) fn taken_over(lock: &dyn LockImpl) -> u32 {
    // SAFETY: a lock of `Which::on`, and the stage stays mapped.
    unsafe { recoveries(lock.as_raw()) }
}

/// What the lock guards: two halves that are equal when nobody holds it.
pub(super) fn halves(stage: &Stage) -> &'static [AtomicU64; 2] {
    stage.part(HALVES_AT)
}

/// The calling thread learns its own name, which it asks the kernel for only once.
pub(super) fn learn_own_name() {
    let mut memory = [0_u64; 8];
    // SAFETY: room for a mutex, which is dropped first.
    let (lock, _) = unsafe { Mutex::new(memory.as_mut_ptr().cast(), ptr::null_mut()) }.expect("a mutex");
    drop(lock.lock().expect("a free lock"));
}
