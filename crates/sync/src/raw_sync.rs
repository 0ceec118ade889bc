//! Our locks behind raw_sync's traits: code written for `raw_sync` survives the death of whoever holds a lock when its
//! `use` line says `swath_sync::raw_sync` instead. Steps A1–A6 of `README.md`.
//!
//! ```
//! use swath_sync::raw_sync::{Timeout, locks::*};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (mut memory, mut value) = ([0_u64; 8], 0_u64);
//! // In a program the memory is shared by processes: `new` in one, `from_existing` in the others.
//! let (lock, _) = unsafe { Mutex::new(memory.as_mut_ptr().cast(), (&raw mut value).cast())? };
//! let guard = lock.lock()?;
//! unsafe { *guard.cast::<u64>() += 1 };
//! drop(guard);
//! assert_eq!(unsafe { recoveries(lock.as_raw()) }, 0);
//! # Ok(())
//! # }
//! ```
//!
//! There is no slot table here: `new` gets a few bytes and nobody to watch over them. So the lock word itself names its
//! holder, by thread id and start time, which together no other thread ever has; who has waited a slice for it looks into
//! `/proc` whether that thread is still there. Slower to notice than the locks of a session (a slice, always), and all users must
//! see the same process ids. A lock that is taken over counts it ([`locks::recoveries`]); raw_sync's interface has no
//! other way to say that the value may be half changed.

#[cfg(not(loom))]
mod holder;
#[cfg(loom)]
#[path = "raw_sync/holder_of_model.rs"]
mod holder;
#[cfg(loom)]
mod lock_of_model;
mod mutex;
mod rwlock;
mod word;

pub use ::raw_sync::Timeout;

#[cfg(loom)]
pub use self::{
    holder::{be_holder, mark_dead},
    lock_of_model::ModelLock,
};

/// In the place of `raw_sync::locks`.
pub mod locks {
    pub use ::raw_sync::locks::{LockGuard, LockImpl, LockInit, ReadLockGuard};

    pub use super::mutex::Mutex;
    pub use super::rwlock::RwLock;
    pub use super::word::recoveries;
}

use std::error::Error;

use ::raw_sync::locks::{LockGuard, LockImpl, ReadLockGuard};

use crate::deadline::Deadline;

/// raw_sync's own.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn deadline(timeout: Timeout) -> Deadline {
    match timeout {
        Timeout::Infinite => Deadline::Never,
        Timeout::Val(timeout) => Deadline::In(timeout),
    }
}

// The guards have one private field and no constructor for other crates: an oversight, as the trait is public and made to
// be implemented. Checked here: they can be nothing but that field.
const _: () = {
    assert!(size_of::<LockGuard<'static>>() == size_of::<&dyn LockImpl>());
    assert!(size_of::<ReadLockGuard<'static>>() == size_of::<&dyn LockImpl>());
};

/// The guard of a lock that is held.
fn guard(lock: &dyn LockImpl) -> LockGuard<'_> {
    // SAFETY: the guard's only field is `lock: &dyn LockImpl` (raw_sync 0.1, `src/locks/mod.rs`), and by the sizes compared
    // above it fills the guard, so it lies at offset 0.
    unsafe { std::mem::transmute(lock) }
}

/// The guard of a lock that is held for reading.
fn read_guard(lock: &dyn LockImpl) -> ReadLockGuard<'_> {
    // SAFETY: as in `guard`.
    unsafe { std::mem::transmute(lock) }
}

#[cfg(not(loom))]
/// The place for a `T` at or behind `memory`: padding and pointer.
fn place<T>(memory: *mut u8) -> (usize, *mut T) {
    let padding = memory.align_offset(align_of::<T>());
    (padding, memory.wrapping_add(padding).cast())
}
