//! All kinds of locks behind one face, for what holds of each of them; and filters of system calls.

#![allow(dead_code, unreachable_pub)] // each test file uses its part

use std::fmt;
use std::mem;
use std::time::Duration;

use swath_sync::{
    BoundedSemaphore, InPlace, LockError, LockedArray, Mutex, Party, Plan, RecursiveMutex, RwLock, Semaphore,
    SemaphoreError, Taken,
};

use crate::support::shared_memory;

/// An object in memory that children share.
pub fn lock_of<P: Plan>(plan: P) -> &'static P::Object {
    let cells = plan.cells();
    let memory = shared_memory(P::Object::layout(cells).unwrap().size());
    // SAFETY: zeroed, aligned to a page, never unmapped, and nobody knows it yet.
    unsafe {
        plan.place(memory);
        P::Object::at(memory, cells)
    }
}

/// A lock of some kind, or what is like one.
#[derive(Copy, Clone)]
pub enum Kind {
    Mutex(&'static Mutex<u64>),
    /// For writing.
    Write(&'static RwLock<u64>),
    Recursive(&'static RecursiveMutex<u64>),
    Array(&'static LockedArray<u64>),
    Semaphore(&'static Semaphore),
    Bounded(&'static BoundedSemaphore),
}

pub fn all_locks() -> Vec<Kind> {
    vec![
        Kind::Mutex(lock_of(Mutex::new(0))),
        Kind::Write(lock_of(RwLock::new(0))),
        Kind::Recursive(lock_of(RecursiveMutex::new(0))),
        Kind::Array(lock_of(LockedArray::zeros(4))),
        Kind::Semaphore(lock_of(Semaphore::new(1))),
        Kind::Bounded(lock_of(BoundedSemaphore::new(1))),
    ]
}

/// The process that died holding what was taken, if the lock tells.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Dead(pub Option<u32>);

/// Why a lock was not taken; parties by pid.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Denied {
    TimedOut(Vec<u32>),
    Relock,
    Deadlock(Vec<u32>),
    Other(String),
}

impl From<LockError> for Denied {
    fn from(error: LockError) -> Denied {
        match error {
            LockError::TimedOut { holder, .. } => Denied::TimedOut(vec![holder.pid]),
            LockError::Relock { .. } => Denied::Relock,
            LockError::Deadlock { parties } => {
                Denied::Deadlock(parties.iter().map(|party| party.pid).collect())
            }
            other => Denied::Other(other.to_string()),
        }
    }
}

impl From<SemaphoreError> for Denied {
    fn from(error: SemaphoreError) -> Denied {
        match error {
            SemaphoreError::TimedOut { holders } => {
                Denied::TimedOut(holders.iter().map(|holder| holder.pid).collect())
            }
            other => Denied::Other(other.to_string()),
        }
    }
}

/// Leaves the lock taken, its guard forgotten, and repairs what a dead one left.
macro_rules! taken {
    ($taken:expr) => {
        match $taken? {
            Taken::Acquired(guard) => {
                mem::forget(guard);
                Ok(Dead(None))
            }
            Taken::Recovered(recovered) => {
                let dead = recovered.dead().pid;
                mem::forget(recovered.repaired());
                Ok(Dead(Some(dead)))
            }
        }
    };
}

impl Kind {
    /// Takes it for as long as the process lives, or until [`Self::give`].
    pub fn take(self, party: &Party) -> Result<Dead, Denied> {
        match self {
            Kind::Mutex(lock) => taken!(lock.lock(party)),
            Kind::Write(lock) => taken!(lock.write(party)),
            Kind::Recursive(lock) => taken!(lock.lock(party)),
            Kind::Array(lock) => taken!(lock.lock(party)),
            Kind::Semaphore(lock) => kept(lock.acquire(party)),
            Kind::Bounded(lock) => kept(lock.acquire(party)),
        }
    }

    pub fn try_take(self, party: &Party) -> Result<Dead, Denied> {
        match self {
            Kind::Mutex(lock) => taken!(lock.try_lock(party)),
            Kind::Write(lock) => taken!(lock.try_write(party)),
            Kind::Recursive(lock) => taken!(lock.try_lock(party)),
            Kind::Array(lock) => taken!(lock.try_lock(party)),
            Kind::Semaphore(lock) => kept(lock.try_acquire(party)),
            Kind::Bounded(lock) => kept(lock.try_acquire(party)),
        }
    }

    pub fn take_timeout(self, party: &Party, timeout: Duration) -> Result<Dead, Denied> {
        match self {
            Kind::Mutex(lock) => taken!(lock.lock_timeout(party, timeout)),
            Kind::Write(lock) => taken!(lock.write_timeout(party, timeout)),
            Kind::Recursive(lock) => taken!(lock.lock_timeout(party, timeout)),
            Kind::Array(lock) => taken!(lock.lock_timeout(party, timeout)),
            Kind::Semaphore(lock) => kept(lock.acquire_timeout(party, timeout)),
            Kind::Bounded(lock) => kept(lock.acquire_timeout(party, timeout)),
        }
    }

    /// What the forgotten guard's drop would have done: the lock's own steps, on its words.
    pub fn give(self, party: &Party) {
        match self {
            Kind::Semaphore(lock) => lock.release(party).unwrap(),
            Kind::Bounded(lock) => lock.release(party).unwrap(),
            Kind::Recursive(lock) => lock.release(party).unwrap(),
            Kind::Mutex(lock) => unlock(std::ptr::from_ref(lock).cast(), false),
            Kind::Array(lock) => unlock(std::ptr::from_ref(lock).cast(), false),
            Kind::Write(lock) => unlock(std::ptr::from_ref(lock).cast(), true),
        }
    }

    /// Whether the next one is told of a holder's death; permits just come back.
    pub fn tells(self) -> bool {
        self.has_one_holder()
    }

    /// Whether a wait for it is for one party, so that it can be part of a deadlock.
    pub fn has_one_holder(self) -> bool {
        !matches!(self, Kind::Semaphore(_) | Kind::Bounded(_))
    }

    pub fn refuses_its_holder(self) -> bool {
        self.has_one_holder() && !matches!(self, Kind::Recursive(_))
    }

    pub fn has_no_name_in_debug(self) -> bool {
        !self.has_one_holder()
    }
}

fn kept(permit: Result<swath_sync::Permit<'_>, SemaphoreError>) -> Result<Dead, Denied> {
    permit?.keep();
    Ok(Dead(None))
}

/// The word (and, of a readers-writer lock, first the doubt word) to 0, and all sleepers awake.
fn unlock(words: *const std::sync::atomic::AtomicU32, clears_doubt: bool) {
    use std::sync::atomic::Ordering;
    // SAFETY: the first two words of these locks are atomics (see `layout.rs`).
    let (word, doubt) = unsafe { (&*words, &*words.add(1)) };
    if clears_doubt {
        doubt.store(0, Ordering::SeqCst);
    }
    word.store(0, Ordering::SeqCst);
    swath_platform::futex::wake_all(word);
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Mutex(lock) => lock.fmt(f),
            Kind::Write(lock) => lock.fmt(f),
            Kind::Recursive(lock) => lock.fmt(f),
            Kind::Array(lock) => lock.fmt(f),
            Kind::Semaphore(lock) => lock.fmt(f),
            Kind::Bounded(lock) => lock.fmt(f),
        }
    }
}

/// What seccomp(2) calls an instruction.
fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const ANY_BIT: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
/// Where the lower halves of the arguments lie in `struct seccomp_data`.
const fn argument(n: u32) -> u32 {
    16 + 8 * n
}

/// From here on this process's system calls go through the filter, for ever.
fn install(filter: &mut [libc::sock_filter]) {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: a live program of that length; the kernel copies it.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program), 0);
    }
}

/// From here on the kernel refuses these system calls to this process, as an old one or a container's filter would.
pub fn refuse(calls: &[libc::c_long], errno: i32) {
    let mut filter = vec![instruction(LOAD, 0, 0, 0)];
    for call in calls {
        filter.push(instruction(EQUAL, 0, 1, *call as u32));
        filter.push(instruction(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32));
    }
    filter.push(instruction(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    install(&mut filter);
}

const FUTEX_CLOCK_REALTIME: u32 = 256;

/// From here on this process dies of a futex wait with a time of the wall clock.
pub fn die_of_waiting_by_the_wall_clock() {
    install(&mut [
        instruction(LOAD, 0, 0, 0),
        instruction(EQUAL, 0, 2, libc::SYS_futex as u32),
        instruction(LOAD, 0, 0, argument(1)),
        instruction(ANY_BIT, 3, 4, FUTEX_CLOCK_REALTIME),
        instruction(EQUAL, 0, 3, libc::SYS_futex_waitv as u32),
        instruction(LOAD, 0, 0, argument(4)),
        instruction(EQUAL, 1, 0, libc::CLOCK_MONOTONIC as u32),
        instruction(RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
        instruction(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]);
}

/// The proof that the filter bites.
pub fn wait_by_the_wall_clock() {
    let word = 0_u32;
    let end = libc::timespec { tv_sec: 1, tv_nsec: 0 };
    let operation = libc::FUTEX_WAIT_BITSET as u32 | FUTEX_CLOCK_REALTIME;
    // SAFETY: live locals.
    unsafe {
        let none = std::ptr::null::<u32>();
        libc::syscall(libc::SYS_futex, &raw const word, operation, 0, &raw const end, none, u32::MAX);
    }
}
