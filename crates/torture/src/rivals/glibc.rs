//! glibc's process-shared mutex (plain and robust), readers-writer lock and semaphore.
#![allow(unsafe_code)]

use std::ffi::CStr;

use super::lock::{Lock, Who};
use crate::stage::Stage;

/// Where the object lies on the stage.
const AT: usize = 4096;

/// Its name and version.
pub(super) fn system() -> String {
    // SAFETY: a static string of the library.
    let version = unsafe { CStr::from_ptr(libc::gnu_get_libc_version()) };
    format!("glibc {}", version.to_string_lossy())
}

/// An object of C's, in memory that all processes of a run share.
pub(super) fn object<T>(stage: &Stage, offset: usize) -> *mut T {
    stage.base().wrapping_add(AT + offset).cast()
}

/// `Ok`, or the error as the system says it.
pub(super) fn check(code: i32) -> Result<(), String> {
    if code == 0 { Ok(()) } else { Err(std::io::Error::from_raw_os_error(code).to_string()) }
}

/// Makes a process-shared mutex there.
pub(super) fn make_mutex(at: *mut libc::pthread_mutex_t, robust: bool) {
    // SAFETY: an attribute object of our own; the mutex lies in zeroed memory of the stage that nobody uses yet.
    unsafe {
        let mut attributes: libc::pthread_mutexattr_t = std::mem::zeroed();
        libc::pthread_mutexattr_init(&mut attributes);
        libc::pthread_mutexattr_setpshared(&mut attributes, libc::PTHREAD_PROCESS_SHARED);
        let kind = if robust { libc::PTHREAD_MUTEX_ROBUST } else { libc::PTHREAD_MUTEX_STALLED };
        libc::pthread_mutexattr_setrobust(&mut attributes, kind);
        libc::pthread_mutex_init(at, &attributes);
    }
}

/// Takes it, and makes it consistent if its holder died; whether that was so.
pub(super) fn take_mutex(at: *mut libc::pthread_mutex_t) -> Result<bool, String> {
    // SAFETY: `make_mutex` was called there, and the stage stays mapped.
    let code = unsafe { libc::pthread_mutex_lock(at) };
    if code == libc::EOWNERDEAD {
        // SAFETY: as above; we hold it.
        return check(unsafe { libc::pthread_mutex_consistent(at) }).map(|()| true);
    }
    check(code).map(|()| false)
}

/// Gives it back.
pub(super) fn give_mutex(at: *mut libc::pthread_mutex_t) {
    // SAFETY: as `take_mutex`; we hold it.
    unsafe { libc::pthread_mutex_unlock(at) };
}

/// `pthread_mutex_t`.
#[derive(Copy, Clone)]
pub(super) struct Mutex {
    pub(super) robust: bool,
}

impl Lock for Mutex {
    fn make(self, stage: &Stage) {
        make_mutex(object(stage, 0), self.robust);
    }

    fn take(self, stage: &Stage, _who: Who) -> Result<bool, String> {
        take_mutex(object(stage, 0))
    }

    fn give(self, stage: &Stage) {
        give_mutex(object(stage, 0));
    }
}

/// `pthread_rwlock_t`; the victim reads or writes, all others write.
#[derive(Copy, Clone)]
pub(super) struct RwLock {
    pub(super) victim_reads: bool,
}

impl Lock for RwLock {
    fn make(self, stage: &Stage) {
        // SAFETY: an attribute object of our own; zeroed memory of the stage that nobody uses yet.
        unsafe {
            let mut attributes: libc::pthread_rwlockattr_t = std::mem::zeroed();
            libc::pthread_rwlockattr_init(&mut attributes);
            libc::pthread_rwlockattr_setpshared(&mut attributes, libc::PTHREAD_PROCESS_SHARED);
            libc::pthread_rwlock_init(object(stage, 0), &attributes);
        }
    }

    fn take(self, stage: &Stage, who: Who) -> Result<bool, String> {
        let at = object(stage, 0);
        let reads = self.victim_reads && who == Who::Victim;
        // SAFETY: `make` was called there, and the stage stays mapped.
        let code =
            unsafe { if reads { libc::pthread_rwlock_rdlock(at) } else { libc::pthread_rwlock_wrlock(at) } };
        check(code).map(|()| false)
    }

    fn victim_changes(self) -> bool {
        !self.victim_reads
    }

    fn give(self, stage: &Stage) {
        // SAFETY: as above; we hold it.
        unsafe { libc::pthread_rwlock_unlock(object(stage, 0)) };
    }
}

/// `sem_t` with one permit.
#[derive(Copy, Clone)]
pub(super) struct Semaphore;

impl Lock for Semaphore {
    fn make(self, stage: &Stage) {
        // SAFETY: zeroed memory of the stage that nobody uses yet.
        unsafe { libc::sem_init(object(stage, 0), 1, 1) };
    }

    fn take(self, stage: &Stage, _who: Who) -> Result<bool, String> {
        // SAFETY: `make` was called there, and the stage stays mapped.
        match unsafe { libc::sem_wait(object(stage, 0)) } {
            0 => Ok(false),
            _ => Err(std::io::Error::last_os_error().to_string()),
        }
    }

    fn victim_changes(self) -> bool {
        false
    }

    fn give(self, stage: &Stage) {
        // SAFETY: as above.
        unsafe { libc::sem_post(object(stage, 0)) };
    }
}
