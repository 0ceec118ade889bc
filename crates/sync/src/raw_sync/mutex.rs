//! raw_sync's mutex, with its holder in the word.

use std::cell::UnsafeCell;
use std::ffi::c_void;

use ::raw_sync::Timeout;
#[cfg(not(loom))]
use ::raw_sync::locks::LockInit;
use ::raw_sync::locks::{LockGuard, LockImpl};

#[cfg(not(loom))]
use super::place;
use super::word::Words;
use super::{Result, deadline, guard};
use crate::deadline::Deadline;

/// 16 bytes of shared memory, all zero when free.
pub struct Mutex {
    words: &'static Words,
    data: UnsafeCell<*mut u8>,
}

#[cfg(loom)]
impl Mutex {
    pub(super) fn of_model(words: &'static Words) -> Mutex {
        Mutex { words, data: UnsafeCell::new(std::ptr::null_mut()) }
    }
}

#[cfg(not(loom))]
impl Mutex {
    /// # Safety
    /// As [`LockInit::new`].
    unsafe fn at(memory: *mut u8, data: *mut u8, fresh: bool) -> (Box<dyn LockImpl>, usize) {
        let (padding, words) = place::<Words>(memory);
        // SAFETY: by the caller the memory has the size asked for and outlives the lock; while it is fresh nobody else
        // looks.
        let words = unsafe {
            if fresh {
                words.write_bytes(0, 1);
            }
            &*words
        };
        (Box::new(Mutex { words, data: UnsafeCell::new(data) }), padding + size_of::<Words>())
    }
}

#[cfg(not(loom))]
impl LockInit for Mutex {
    fn size_of(addr: Option<*mut u8>) -> usize {
        addr.map_or(0, |memory| place::<Words>(memory).0) + size_of::<Words>()
    }

    unsafe fn new(mem: *mut u8, data: *mut u8) -> Result<(Box<dyn LockImpl>, usize)> {
        // SAFETY: passed on.
        Ok(unsafe { Mutex::at(mem, data, true) })
    }

    unsafe fn from_existing(mem: *mut u8, data: *mut u8) -> Result<(Box<dyn LockImpl>, usize)> {
        // SAFETY: passed on.
        Ok(unsafe { Mutex::at(mem, data, false) })
    }
}

impl LockImpl for Mutex {
    fn as_raw(&self) -> *mut c_void {
        std::ptr::from_ref(self.words).cast_mut().cast()
    }

    fn lock(&self) -> Result<LockGuard<'_>> {
        self.words.acquire(Deadline::Never)?;
        Ok(guard(self))
    }

    fn try_lock(&self, timeout: Timeout) -> Result<LockGuard<'_>> {
        self.words.acquire(deadline(timeout))?;
        Ok(guard(self))
    }

    fn release(&self) -> Result<()> {
        if self.words.release(1) { Ok(()) } else { Err("the calling thread does not hold the lock".into()) }
    }

    unsafe fn get_inner(&self) -> &mut *mut u8 {
        // SAFETY: the trait's: only the holder, through one guard.
        unsafe { &mut *self.data.get() }
    }
}
