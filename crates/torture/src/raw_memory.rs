//! The locks behind raw_sync's traits, in words that processes share.
#![allow(unsafe_code)]

use std::ptr;
use std::sync::atomic::AtomicU64;

use swath_sync::raw_sync::locks::{LockImpl, LockInit, Mutex, RwLock, recoveries};

/// Room for any of them; all zero is a free lock.
pub(crate) type Memory = [AtomicU64; 8];

/// Which lock it is.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(crate) enum Which {
    Mutex,
    RwLock,
}

impl Which {
    /// The lock that lies there.
    pub(crate) fn within(self, memory: &'static Memory) -> Box<dyn LockImpl> {
        let memory = memory.as_ptr().cast_mut().cast();
        // SAFETY: atomics that live for ever, with the room that raw_sync's own examples set aside for any lock; whatever they
        // hold is a lock. The value is not reached through it.
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
pub(crate) fn taken_over(lock: &dyn LockImpl) -> u32 {
    // SAFETY: a lock of `Which::within`, whose memory lives for ever.
    unsafe { recoveries(lock.as_raw()) }
}

/// The calling thread learns its own name, which it asks the kernel for only once.
pub(crate) fn learn_own_name() {
    let mut memory = [0_u64; 8];
    // SAFETY: room for a mutex, which is dropped first.
    let (lock, _) = unsafe { Mutex::new(memory.as_mut_ptr().cast(), ptr::null_mut()) }.expect("a mutex");
    drop(lock.lock().expect("a free lock"));
}
