//! What the tests with real processes share: one mapping, forked parties, and a watchdog instead of patience.
//!
//! A child is forked from a test process that has many threads, so its body keeps to shared memory, this crate's
//! operations and raw system calls. It dies with the thread that forked it.

#![allow(dead_code, unreachable_pub)] // each test file uses its part

use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use swath_sync::{DeathCause, Party, SlotId, SlotTable, Witness};

/// Long enough for the slowest machine, short enough to name what hangs.
const WATCHDOG: Duration = Duration::from_secs(60);

/// Ends the whole test process if the test has not ended in time.
pub struct Watchdog {
    _alive: mpsc::Sender<()>,
}

impl Watchdog {
    pub fn new(test: &'static str) -> Self {
        let (alive, ended) = mpsc::channel::<()>();
        thread::spawn(move || {
            if ended.recv_timeout(WATCHDOG) == Err(mpsc::RecvTimeoutError::Timeout) {
                eprintln!("watchdog: {test} hangs");
                std::process::abort();
            }
        });
        Self { _alive: alive }
    }
}

/// Zeroed memory that children share, for the life of the process.
pub fn shared_memory(bytes: usize) -> *mut u8 {
    // SAFETY: a fresh anonymous mapping.
    let memory = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    assert_ne!(memory, libc::MAP_FAILED);
    memory.cast()
}

/// Shared words for a test's own signals.
pub fn words<const N: usize>() -> &'static [AtomicU32; N] {
    // SAFETY: zeroed, aligned to a page, never unmapped.
    unsafe { &*shared_memory(N * 4).cast::<[AtomicU32; N]>() }
}

/// The table of this test process, which is itself a party of it.
pub fn table() -> &'static SlotTable {
    static TABLE: OnceLock<usize> = OnceLock::new();
    let address = *TABLE.get_or_init(|| {
        // Before any fork: a child must not find the test half done.
        assert!(swath_platform::life::self_test());
        let memory = shared_memory(size_of::<SlotTable>());
        // SAFETY: zeroed, aligned, never unmapped.
        let table = unsafe { SlotTable::from_ptr(memory) };
        let id = table.reserve().unwrap();
        assert!(table.enter(id));
        // SAFETY: 1. reserved above; 2. and 3. tests use no other table.
        unsafe { Party::install(table, id) };
        memory as usize
    });
    // SAFETY: as above.
    unsafe { SlotTable::from_ptr(address as *const u8) }
}

/// This test's thread as a party.
pub fn me() -> Party {
    table();
    Party::current().unwrap()
}

/// Whether a child has the kernel watch its thread.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Life {
    Watched,
    Unwatched,
}

/// A forked party. Killed, reaped and its slot released when dropped.
pub struct Child {
    pub id: SlotId,
    pub pid: u32,
    reaped: bool,
}

/// Forks a party that runs `body` and exits with 0, or with 101 if it panics.
pub fn fork(life: Life, body: impl FnOnce(&Party)) -> Child {
    let table = table();
    let id = table.reserve().unwrap();
    fork_as(id, life, body)
}

/// The same, in a slot that has been reserved already.
pub fn fork_as(id: SlotId, life: Life, body: impl FnOnce(&Party)) -> Child {
    let table = table();
    // SAFETY: the child keeps to what the module's first lines say.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", std::io::Error::last_os_error()),
        0 => {
            // SAFETY: plain system calls; `_exit` runs none of the test process's destructors. The slot was reserved for this
            // child, tests use no other table, what was the parent's is not the child's, and children have one thread.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                let run = || {
                    Party::install(table, id);
                    assert!(match life {
                        Life::Watched => table.enter_watched(id),
                        Life::Unwatched => table.enter(id),
                    });
                    body(&Party::current().unwrap());
                };
                let code = if catch_unwind(AssertUnwindSafe(run)).is_ok() { 0 } else { 101 };
                libc::_exit(code)
            }
        }
        pid => {
            watched_by(id, pid as u32, Witness::Service);
            Child { id, pid: pid as u32, reaped: false }
        }
    }
}

/// Notes the process of a slot, and who tells of its death.
pub fn watched_by(id: SlotId, pid: u32, witness: Witness) {
    // SAFETY: the tests' children have their slots from them.
    unsafe { table().started(id, pid, 0, witness) };
}

/// What the service thread does after a confirmed exit, or if nobody ever comes.
pub fn declare_dead(id: SlotId, cause: DeathCause) {
    // SAFETY: the tests say so of slots that nobody was started for, and of children that were reaped.
    unsafe { table().mark_dead(id, cause) };
}

impl Child {
    pub fn signal(&self, signal: i32) {
        // SAFETY: our own child, not reaped yet, so the pid is its.
        assert_eq!(unsafe { libc::kill(self.pid as i32, signal) }, 0);
    }

    /// Kills it and proves that it died of that. The slot table is told nothing yet.
    pub fn kill(&mut self) {
        self.signal(libc::SIGKILL);
        assert_eq!(self.reap(), DeathCause::killed_by(libc::SIGKILL), "the crash must happen");
    }

    /// Waits for its end and says what it was.
    pub fn reap(&mut self) -> DeathCause {
        let mut status = 0;
        // SAFETY: our own child, reaped once.
        while unsafe { libc::waitpid(self.pid as i32, &raw mut status, 0) } < 0 {}
        self.reaped = true;
        DeathCause(status as u32)
    }

    /// What the service thread does after a confirmed exit.
    pub fn mark_dead(&self, cause: DeathCause) {
        assert!(self.reaped);
        declare_dead(self.id, cause);
    }

    /// It ended by itself and well.
    /// Killed, and its exit confirmed to the table.
    pub fn bury(&mut self) {
        self.kill();
        self.mark_dead(DeathCause::killed_by(libc::SIGKILL));
    }

    pub fn join(mut self) {
        let cause = self.reap();
        self.mark_dead(cause);
        assert_eq!(cause, DeathCause::exit(0), "child in slot {}", self.id.index);
    }

    /// All of them ended by themselves and well.
    pub fn join_all(children: impl IntoIterator<Item = Self>) {
        children.into_iter().for_each(Self::join);
    }

    /// The state letter that /proc shows.
    pub fn state(&self) -> char {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap();
        stat[stat.rfind(')').unwrap()..].chars().nth(2).unwrap()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.reaped {
            self.signal(libc::SIGKILL);
            let cause = self.reap();
            self.mark_dead(cause);
        }
        declare_dead(self.id, DeathCause::UNKNOWN);
        table().release(self.id);
    }
}

/// Waits for a condition that a watchdog guarantees an end of.
pub fn until(condition: impl Fn() -> bool) {
    while !condition() {
        thread::yield_now();
    }
}

pub fn raise(flag: &AtomicU32) {
    flag.fetch_add(1, Ordering::SeqCst);
}

pub fn raised(flag: &AtomicU32) -> bool {
    flag.load(Ordering::SeqCst) != 0
}

/// A child's last line: waits to be killed.
pub fn await_the_end() -> ! {
    loop {
        // SAFETY: a plain system call.
        unsafe { libc::pause() };
    }
}

/// Three children do `lap` after lap until each of so many `kills`, spread over them, has hit one, which is then replaced. How many
/// laps were begun: each kill may have come between a lap's effect and the child's note of it.
pub fn laps_under_kills(kills: u64, lap: impl Fn(&Party) + Copy) -> RangeInclusive<u64> {
    const CHILDREN: usize = 3;
    let done: &[AtomicU32; CHILDREN] = words();
    let work = |index: usize| {
        fork(if index == 0 { Life::Unwatched } else { Life::Watched }, |party| {
            loop {
                lap(party);
                done[index].fetch_add(1, Ordering::SeqCst);
            }
        })
    };
    let total = || done.iter().map(|done| u64::from(done.load(Ordering::SeqCst))).sum::<u64>();
    let mut children: [Child; CHILDREN] = [0, 1, 2].map(work);
    for kill in 0..kills {
        let index = (kill % CHILDREN as u64) as usize;
        let reached = total() + 1 + kill * 7 % 100;
        until(|| total() >= reached);
        children[index].bury();
        children[index] = work(index);
    }
    children.iter_mut().for_each(Child::bury);
    total()..=total() + kills + CHILDREN as u64
}
