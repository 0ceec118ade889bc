//! A cell: one task on its way to a worker, and its result on the way back.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use swath_sync::{spin_then_park, wake_left_behind, wake_parked};

use super::letter::Letter;
use crate::ledger::Owner;

const SERIAL_AT: u32 = 32;
const STATE_AT: u32 = 28;
const SLOT_AT: u32 = 14;

/// Where a task in the table stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    /// The cell holds no task.
    Free = 0,
    /// Nobody has it.
    Queued = 1,
    /// A worker has it.
    Running = 2,
    /// Its value is in the response.
    Done = 3,
    /// What went wrong is in the response.
    Failed = 4,
}

/// A cell's state word, read at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word(u64);

impl Word {
    /// The word of a cell under `serial`; only a running or finished task has an owner.
    pub(crate) fn new(serial: u32, state: State, owner: Option<Owner>) -> Word {
        let owner = owner.unwrap_or(Owner { slot: 0, generation: 0 });
        Word(
            u64::from(serial) << SERIAL_AT
                | (state as u64) << STATE_AT
                | u64::from(owner.slot & 0x3ff) << SLOT_AT
                | u64::from(owner.generation & 0x3fff),
        )
    }

    pub(crate) fn serial(self) -> u32 {
        (self.0 >> SERIAL_AT) as u32
    }

    /// `None` for a word that no version of this code writes.
    pub(crate) fn state(self) -> Option<State> {
        Some(match self.0 >> STATE_AT & 0xf {
            0 => State::Free,
            1 => State::Queued,
            2 => State::Running,
            3 => State::Done,
            4 => State::Failed,
            _ => return None,
        })
    }

    /// Who has it or had it; meaningless while free or queued.
    pub(crate) fn owner(self) -> Owner {
        Owner { slot: (self.0 >> SLOT_AT & 0x3ff) as u16, generation: (self.0 & 0x3fff) as u16 }
    }

    /// Whether a worker has answered.
    pub(crate) fn is_finished(self) -> bool {
        matches!(self.state(), Some(State::Done | State::Failed))
    }
}

/// One cell of the table.
#[repr(C, align(64))]
pub(crate) struct Cell {
    state: AtomicU64,
    /// Whether somebody sleeps until the task is finished.
    parked: AtomicU32,
    /// Earlier attempts.
    pub(crate) attempt: AtomicU32,
    /// The task's number in its pool.
    pub(crate) task: AtomicU64,
    /// The functions, as offsets in the executable.
    pub(crate) driver: AtomicU64,
    pub(crate) kernel: AtomicU64,
    pad: [u64; 3],
    /// The arguments.
    pub(crate) request: Letter,
    /// The value, or what went wrong.
    pub(crate) response: Letter,
}

const _: () = assert!(size_of::<Cell>() == 320);

impl Cell {
    pub(crate) fn word(&self) -> Word {
        Word(self.state.load(Ordering::SeqCst))
    }

    /// A step of the protocol; false when the cell is not as `from` says.
    pub(crate) fn step(&self, from: Word, to: Word) -> bool {
        self.state.compare_exchange(from.0, to.0, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    /// Step 1, by the coordinator, which alone touches a FREE cell.
    pub(crate) fn publish(&self, serial: u32) {
        self.state.store(Word::new(serial, State::Queued, None).0, Ordering::SeqCst);
    }

    /// Whether the task under `serial` is neither queued nor running any more.
    pub(crate) fn is_over(&self, serial: u32) -> bool {
        let word = self.word();
        word.serial() != serial || !matches!(word.state(), Some(State::Queued | State::Running))
    }

    /// Waits until the task under `serial` is over, or `given_up` says that nobody wants it; false when `slice` has passed first.
    pub(crate) fn wait(
        &self,
        serial: u32,
        given_up: impl Fn() -> bool,
        slice: Option<std::time::Duration>,
    ) -> bool {
        spin_then_park(&self.parked, &self.parked, || self.is_over(serial) || given_up(), slice)
    }

    /// Wakes who waits. After every step that ends a task.
    pub(crate) fn wake(&self) {
        wake_parked(&self.parked, &self.parked);
    }

    /// As [`Cell::wake`], for a worker that died between its answer and the end of that.
    pub(crate) fn wake_left_behind(&self) {
        wake_left_behind(&self.parked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_its_parts() {
        let owner = Owner { slot: 1023, generation: 16383 };
        for state in [State::Free, State::Queued, State::Running, State::Done, State::Failed] {
            let word = Word::new(u32::MAX, state, Some(owner));
            assert_eq!((word.serial(), word.state(), word.owner()), (u32::MAX, Some(state), owner));
        }
        assert_eq!(Word(0).state(), Some(State::Free));
        assert_eq!(Word(0xf << STATE_AT).state(), None);
    }
}
