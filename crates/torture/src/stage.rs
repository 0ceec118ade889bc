//! The stage: the memory that one run of a scenario shares between its processes.
//!
//! Two mappings, both `MAP_SHARED | MAP_ANONYMOUS` and inherited by fork: the *state* under test, fresh zero pages for
//! every run at an address that never changes (so that two runs execute the same instructions), and the *board*, by
//! which the harness and its processes talk about the run: who has arrived, whether the cue was given, what somebody
//! found wrong.
#![allow(unsafe_code)]

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::scenario::Moment;
use crate::word;

/// Bytes of state that a scenario may use.
pub(crate) const STATE_BYTES: usize = 1 << 20;
/// Processes of one run: the victim, up to six companions, the one that checks afterwards.
pub(crate) const ROLES: usize = 8;
/// The victim's place on the board.
pub(crate) const VICTIM: usize = 0;
/// The checker's place on the board; companion `n` has place `n + 1`.
pub(crate) const CHECKER: usize = ROLES - 1;

const TEXT_BYTES: usize = 500;
/// x86-64 only.
const PAGE_BYTES: usize = 4096;

/// A type that may be laid over fresh zero pages that other processes see too.
///
/// # Safety
/// 1. All bytes zero is a valid value. 2. Other processes may change it at any time: atomics (or cells guarded by
///    atomics) only. 3. It holds no pointers and needs no drop.
pub(crate) unsafe trait Staged: 'static {}

// SAFETY: (1), (2), (3): plain atomics.
unsafe impl Staged for AtomicU32 {}
// SAFETY: as AtomicU32.
unsafe impl Staged for AtomicU64 {}
// SAFETY: an array of what is Staged.
unsafe impl<T: Staged, const N: usize> Staged for [T; N] {}

#[repr(C)]
struct Text {
    len: AtomicU32,
    bytes: [AtomicU8; TEXT_BYTES],
}

#[repr(C)]
struct Board {
    cue: AtomicU32,
    /// 1 + how far the forerunner came.
    forerun: AtomicU32,
    arrived: [AtomicU32; ROLES],
    texts: [Text; ROLES],
}

/// See the module. One exists per harness process; children inherit it by fork.
pub(crate) struct Stage {
    state: *mut u8,
    board: &'static Board,
}

impl Stage {
    /// Maps both areas.
    pub(crate) fn build() -> io::Result<Stage> {
        let state = map_shared(ptr::null_mut(), STATE_BYTES, 0)?;
        let board = map_shared(ptr::null_mut(), size_of::<Board>(), 0)?;
        // SAFETY: a fresh mapping of the right size, page-aligned, never unmapped; Board is atomics only, zero is valid.
        let board = unsafe { &*board.cast::<Board>() };
        Ok(Stage { state, board })
    }

    /// Fresh zero pages at the same address, and an empty board. No process but the caller may be using the stage.
    pub(crate) fn clear(&self) -> io::Result<()> {
        map_shared(self.state, STATE_BYTES, libc::MAP_FIXED)?;
        self.board.cue.store(0, Ordering::SeqCst);
        self.board.forerun.store(0, Ordering::SeqCst);
        for role in 0..ROLES {
            self.board.arrived[role].store(0, Ordering::SeqCst);
            self.board.texts[role].len.store(0, Ordering::SeqCst);
        }
        Ok(())
    }

    /// A number that is another one when the state is, but for an accident. Pages that nobody has touched are passed over.
    pub(crate) fn digest(&self) -> u64 {
        let mut touched = [0_u8; STATE_BYTES / PAGE_BYTES];
        // SAFETY: `touched` has a byte for each page of the state, which is mapped.
        let told = unsafe { libc::mincore(self.state.cast(), STATE_BYTES, touched.as_mut_ptr()) } == 0;
        let mut sum = 0;
        for (page, _) in touched.iter().enumerate().filter(|(_, touched)| !told || **touched & 1 != 0) {
            let words: &[AtomicU64; PAGE_BYTES / size_of::<u64>()] = self.part(page * PAGE_BYTES);
            for word in words {
                sum =
                    (sum ^ word.load(Ordering::Relaxed)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
            }
        }
        sum
    }

    /// The state's first byte.
    pub(crate) fn base(&self) -> *mut u8 {
        self.state
    }

    /// A part of the state at a byte offset.
    pub(crate) fn part<T: Staged>(&self, offset: usize) -> &'static T {
        assert!(offset + size_of::<T>() <= STATE_BYTES && offset.is_multiple_of(align_of::<T>()));
        // SAFETY: in bounds and aligned (asserted); the mapping lives as long as the process; `Staged` allows zero bytes
        // and writers elsewhere.
        unsafe { &*self.state.add(offset).cast::<T>() }
    }

    /// A companion says that it stands where the scenario wants it (or is about to fall asleep there).
    pub(crate) fn arrive(&self, role: usize) {
        self.board.arrived[role].store(1, Ordering::SeqCst);
        word::wake(&self.board.arrived[role], i32::MAX);
    }

    /// Has that role arrived?
    pub(crate) fn has_arrived(&self, role: usize) -> bool {
        self.board.arrived[role].load(Ordering::SeqCst) != 0
    }

    /// The harness has killed the forerunner there.
    pub(crate) fn note_forerun(&self, moment: Moment) {
        self.board.forerun.store(1 + moment as u32, Ordering::SeqCst);
    }

    /// How far the forerunner came, if there was one.
    pub(crate) fn forerun(&self) -> Option<Moment> {
        let noted = self.board.forerun.load(Ordering::SeqCst);
        [Moment::Before, Moment::Within, Moment::After].into_iter().find(|moment| 1 + *moment as u32 == noted)
    }

    /// The harness gives the cue: the victim is asleep and wants to be woken, or is dead.
    pub(crate) fn give_cue(&self) {
        self.board.cue.fetch_add(1, Ordering::SeqCst);
        word::wake(&self.board.cue, i32::MAX);
    }

    /// A companion waits for the `nth` cue (from 1).
    pub(crate) fn await_cue(&self, nth: u32) {
        loop {
            let cue = self.board.cue.load(Ordering::SeqCst);
            if cue >= nth {
                return;
            }
            word::wait(&self.board.cue, cue, Some(Duration::from_millis(500)));
        }
    }

    /// Waits until `ready` or `limit` has passed; for the harness.
    pub(crate) fn poll(limit: Duration, mut ready: impl FnMut() -> bool) -> bool {
        let start = Instant::now();
        loop {
            if ready() {
                return true;
            }
            if start.elapsed() > limit {
                return false;
            }
            std::thread::sleep(Duration::from_micros(30));
        }
    }

    /// Leaves a sentence for the report (cut at 500 bytes).
    pub(crate) fn say(&self, role: usize, what: &str) {
        let text = &self.board.texts[role];
        let len = what.len().min(TEXT_BYTES);
        for (cell, byte) in text.bytes.iter().zip(what.bytes()) {
            cell.store(byte, Ordering::Relaxed);
        }
        text.len.store(len as u32, Ordering::Release);
    }

    /// What that role has said.
    pub(crate) fn said(&self, role: usize) -> String {
        let text = &self.board.texts[role];
        let len = text.len.load(Ordering::Acquire) as usize;
        let bytes: Vec<u8> = text.bytes.iter().take(len).map(|cell| cell.load(Ordering::Relaxed)).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

fn map_shared(at: *mut u8, len: usize, flags: i32) -> io::Result<*mut u8> {
    // SAFETY: a new anonymous mapping; with MAP_FIXED it replaces only the state mapping that `Stage` made before, whose
    // users are gone (contract of `clear`).
    let p = unsafe {
        libc::mmap(
            at.cast(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS | flags,
            -1,
            0,
        )
    };
    if p == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(p.cast()) }
}
