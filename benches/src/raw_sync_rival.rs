//! raw_sync's process-shared mutex around a counter.

use raw_sync::locks::{LockImpl, LockInit, Mutex};

/// Room for its pthread mutex; it says how much it needs, at most 64 bytes with glibc.
const WORDS: usize = 64;

/// A counter under a raw_sync mutex.
pub struct Counter {
    lock: Box<dyn LockImpl>,
    // Boxed, so that what the lock points at does not move; kept alive beside it.
    memory: Box<[u64; WORDS]>,
    value: Box<u64>,
}

impl Counter {
    /// Zero.
    pub fn new() -> Counter {
        let mut memory = Box::new([0u64; WORDS]);
        let mut value = Box::new(0u64);
        let (at, data) = (memory.as_mut_ptr().cast::<u8>(), (&raw mut *value).cast::<u8>());
        assert!(Mutex::size_of(Some(at)) <= WORDS * 8);
        // SAFETY: `at` has room by the assertion, both live as long as the lock (fields drop in order, the lock first).
        let (lock, _) = unsafe { Mutex::new(at, data) }.expect("a pthread mutex");
        Counter { lock, memory, value }
    }

    /// Lock, add one, unlock.
    #[inline]
    pub fn add_one(&mut self) {
        let guard = self.lock.lock().expect("nobody died");
        // SAFETY: the guard points at `value`, which only its holder touches.
        unsafe { *(*guard).cast::<u64>() += 1 };
    }

    /// The count.
    pub fn value(&self) -> u64 {
        debug_assert_ne!(self.memory.len(), 0);
        *self.value
    }
}

impl Default for Counter {
    fn default() -> Counter {
        Counter::new()
    }
}
