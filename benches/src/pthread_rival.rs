//! glibc's process-shared mutex around a counter, in memory that processes share.

use crate::partner::shared_memory;

#[repr(C)]
struct Words {
    mutex: libc::pthread_mutex_t,
    value: u64,
}

/// A counter under a pthread mutex; a forked partner has it too.
#[derive(Clone, Copy)]
pub struct Counter(*mut Words);

impl Counter {
    /// Zero.
    pub fn new() -> Counter {
        let words = shared_memory(4096).cast::<Words>();
        // SAFETY: fresh memory of the right size and alignment; the attribute lives for the calls.
        unsafe {
            let mut attributes: libc::pthread_mutexattr_t = std::mem::zeroed();
            assert_eq!(libc::pthread_mutexattr_init(&mut attributes), 0);
            assert_eq!(libc::pthread_mutexattr_setpshared(&mut attributes, libc::PTHREAD_PROCESS_SHARED), 0);
            assert_eq!(libc::pthread_mutex_init(&raw mut (*words).mutex, &attributes), 0);
        }
        Counter(words)
    }

    /// Lock, add one, unlock.
    #[inline]
    pub fn add_one(&self) {
        // SAFETY: initialised, never unmapped; the value is touched under the lock only.
        unsafe {
            libc::pthread_mutex_lock(&raw mut (*self.0).mutex);
            (*self.0).value += 1;
            libc::pthread_mutex_unlock(&raw mut (*self.0).mutex);
        }
    }

    /// The count, when nobody adds any more.
    pub fn value(&self) -> u64 {
        // SAFETY: never unmapped.
        unsafe { (*self.0).value }
    }
}

impl Default for Counter {
    fn default() -> Counter {
        Counter::new()
    }
}
