//! A thread by a name that fits into a lock word and is never reused: `start ticks:40 | thread id:23`, bit 31 left free.

use std::cell::Cell;

use swath_platform::{fork, process};

/// Somebody may sleep on the word's lower half.
pub(super) const WAITERS: u64 = 1 << 31;

/// Linux's largest thread id is 2^22.
const TID_BITS: u32 = 23;
const TID_MASK: u64 = (1 << TID_BITS) - 1;
/// 2^40 ticks of 10 ms are 348 years.
const TICKS_MASK: u64 = (1 << 40) - 1;
/// The lowest 8 bits of the ticks lie below the flag, the others above it.
const TICKS_LOW_BITS: u32 = 8;

/// See the module. Never 0.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Holder(u64);

impl Holder {
    fn new(tid: u32, ticks: u64) -> Self {
        let (low, high) = (ticks & ((1 << TICKS_LOW_BITS) - 1), (ticks & TICKS_MASK) >> TICKS_LOW_BITS);
        Self(u64::from(tid) & TID_MASK | low << TID_BITS | high << 32)
    }

    /// The calling thread, asked for once.
    #[inline]
    ///
    /// # Errors
    /// Its start time cannot be read: without it the name would not be its alone.
    pub(super) fn current() -> std::io::Result<Self> {
        thread_local! {
            static ME: Cell<Option<(Holder, u32)>> = const { Cell::new(None) };
        }
        ME.with(|me| match me.get() {
            Some((holder, pid)) if fork::is_own(pid) => Ok(holder),
            _ => {
                fork::mark_own();
                let tid = process::gettid();
                let holder = Self::new(tid, process::start_ticks(tid)?);
                me.set(Some((holder, process::getpid())));
                Ok(holder)
            }
        })
    }

    /// Whom a word names; `None` when it is free.
    #[inline]
    pub(super) fn of_word(word: u64) -> Option<Self> {
        let bits = word & !WAITERS;
        (bits != 0).then_some(Self(bits))
    }

    #[inline]
    pub(super) fn bits(self) -> u64 {
        self.0
    }

    pub(super) fn tid(self) -> u32 {
        (self.0 & TID_MASK) as u32
    }

    fn ticks(self) -> u64 {
        self.0 >> 32 << TICKS_LOW_BITS | self.0 >> TID_BITS & ((1 << TICKS_LOW_BITS) - 1)
    }

    /// Whether that thread is no more. Where `/proc` cannot be read nobody is known to be dead.
    pub(super) fn is_dead(self) -> bool {
        match process::stat(self.tid()) {
            // A leader that has ended stays visible until its siblings have; it holds nothing any more.
            Ok(stat) => stat.start_ticks & TICKS_MASK != self.ticks() || matches!(stat.state, 'Z' | 'X'),
            Err(error) => {
                // Not shown is not gone: `/proc` may hide other users' processes.
                error.kind() == std::io::ErrorKind::NotFound && !process::exists(self.tid())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_come_back_and_leave_the_flag_alone() {
        for (tid, ticks) in [(1, 0), (1 << 22, 1), (77, 0x12_3456_789A), (4_194_303, TICKS_MASK)] {
            let holder = Holder::new(tid, ticks);
            assert_eq!((holder.tid(), holder.ticks()), (tid, ticks));
            assert_eq!(holder.bits() & WAITERS, 0);
            assert_eq!(Holder::of_word(holder.bits() | WAITERS), Some(holder));
        }
        assert_eq!(Holder::of_word(WAITERS), None);
    }

    #[test]
    fn a_living_thread_lives_and_an_ended_one_is_dead() {
        assert!(!Holder::current().unwrap().is_dead());
        let other = std::thread::spawn(|| {
            let me = Holder::current().unwrap();
            assert!(!me.is_dead());
            me
        });
        let other = other.join().unwrap();
        // A joined thread may still be on its way out of the kernel.
        while !other.is_dead() {
            std::thread::yield_now();
        }
        assert!(Holder::new(process::getpid(), 1).is_dead(), "the id is somebody else's by now");
    }
}
