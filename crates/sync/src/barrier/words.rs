//! The words of a barrier, and its plan.

#[cfg(not(loom))]
use std::alloc::Layout;
#[cfg(not(loom))]
use std::ptr;
#[cfg(not(loom))]
use std::time::Duration;

use super::Barrier;
use crate::atomics::{AtomicU32, AtomicU64, Ordering};
use crate::owner::Owner;
#[cfg(not(loom))]
use crate::place::{InPlace, Plan};
#[cfg(not(loom))]
use crate::slots::SLOTS_MAX;
use crate::slots::SlotId;

/// In the flags: a party that dies leaves, and the others go on.
pub(super) const SHRINKS: u32 = 1;

/// The first line: what everybody waits on.
#[repr(C, align(64))]
#[derive(Debug)]
pub(super) struct Head {
    /// See [`Phase`].
    pub(super) phase: AtomicU64,
    /// `taken:31 | asleep:1`, see `park`; the futex.
    pub(super) parked: AtomicU32,
    pub(super) flags: AtomicU32,
    /// `known:1 | wait status:16 | pid:22 | generation:12 | slot:10` of the death that broke it, else 0.
    pub(super) fault: AtomicU64,
    /// How long a wait lasts that does not say; 0 is for ever.
    pub(super) timeout_ns: AtomicU64,
    _line: [AtomicU64; 4],
}

/// In a cell's low half: a seat for whoever comes first, for whom all wait.
pub(super) const VACANT: u64 = 1 << 31;

/// One party, in a line of its own: `epoch:32 | party:32`. The epoch is the one that the party has arrived to complete,
/// so 0 is nowhere; party 0 is nobody, for whom nobody waits; `VACANT` is whoever comes.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Cell {
    pub(super) arrival: AtomicU64,
    _line: [AtomicU64; 7],
}

#[cfg(not(loom))]
const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<Head>() == 64 && size_of::<Cell>() == 64);
    assert!(offset_of!(Head, phase) == 0 && offset_of!(Head, parked) == 8 && offset_of!(Head, flags) == 12);
    assert!(offset_of!(Head, fault) == 16 && offset_of!(Head, timeout_ns) == 24);
    assert!(offset_of!(Cell, arrival) == 0 && offset_of!(Barrier<[Cell; 1]>, cells) == 64);
};

/// What has become of a round.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// Parties arrive.
    Open,
    /// A party died.
    Broken,
    /// Somebody called `abort`, or panicked in its action.
    Aborted,
    /// A party's deadline passed.
    GivenUp,
    /// All have come, and this party runs its action before they pass.
    Acting(SlotId),
}

/// A round and its state in one word: `epoch:32 | 0:7 | leader:22 | state:3`.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Phase(pub(super) u64);

const LEADER_SHIFT: u32 = 3;
const LEADER_MASK: u64 = (1 << 22) - 1;
const EPOCH_SHIFT: u32 = 32;

impl Phase {
    pub(super) fn new(epoch: u32, state: State) -> Self {
        let low = match state {
            State::Open => 0,
            State::Broken => 1,
            State::Aborted => 2,
            State::GivenUp => 3,
            State::Acting(leader) => 4 | u64::from(Owner::new(leader, 0).bits()) << LEADER_SHIFT,
        };
        Self(u64::from(epoch) << EPOCH_SHIFT | low)
    }

    pub(super) fn epoch(self) -> u32 {
        (self.0 >> EPOCH_SHIFT) as u32
    }

    pub(super) fn state(self) -> State {
        let leader = Owner::of_word((self.0 >> LEADER_SHIFT & LEADER_MASK) as u32);
        match (self.0 & 7, leader) {
            (0, _) => State::Open,
            (1, _) => State::Broken,
            (3, _) => State::GivenUp,
            (4, Some(leader)) => State::Acting(leader.slot()),
            _ => State::Aborted,
        }
    }

    /// The same round in another state.
    pub(super) fn in_state(self, state: State) -> Self {
        Self::new(self.epoch(), state)
    }

    /// The epoch that arrivals in this round complete. Never 0, which is nowhere.
    pub(super) fn next_epoch(self) -> u32 {
        self.epoch().wrapping_add(1).max(1)
    }

    /// The next round.
    pub(super) fn passed(self) -> Self {
        Self::new(self.next_epoch(), State::Open)
    }
}

impl Head {
    fn new(flags: u32, timeout_ns: u64) -> Self {
        Self {
            phase: AtomicU64::new(0),
            parked: AtomicU32::new(0),
            flags: AtomicU32::new(flags),
            fault: AtomicU64::new(0),
            timeout_ns: AtomicU64::new(timeout_ns),
            _line: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl Cell {
    /// Of a party that has not come.
    pub(super) fn word(party: Option<SlotId>) -> u64 {
        party.map_or(0, |party| u64::from(Owner::new(party, 0).bits()))
    }

    fn of(word: u64) -> Self {
        Self { arrival: AtomicU64::new(word), _line: std::array::from_fn(|_| AtomicU64::new(0)) }
    }

    /// Whether nobody has to wait for this one any more.
    pub(super) fn has_arrived(&self, epoch: u32) -> bool {
        let arrival = self.arrival.load(Ordering::Acquire);
        arrival >> 32 == u64::from(epoch) || arrival as u32 == 0
    }

    /// Whether this is a free seat.
    pub(super) fn is_vacant(&self) -> bool {
        self.arrival.load(Ordering::Relaxed) == VACANT
    }

    pub(super) fn party(&self) -> Option<SlotId> {
        Owner::of_word(self.arrival.load(Ordering::Relaxed) as u32).map(Owner::slot)
    }

    /// Makes it nobody's, if it is still this party's.
    pub(super) fn clear_of(&self, party: SlotId) {
        let old = self.arrival.load(Ordering::Relaxed);
        // By name, whatever else a stranger may have written there: who calls this must see the name gone.
        if Owner::of_word(old as u32).map(Owner::slot) == Some(party) {
            let _ = self.arrival.compare_exchange(old, 0, Ordering::AcqRel, Ordering::Relaxed);
        }
    }
}

#[cfg(loom)]
impl<const N: usize> Barrier<[Cell; N]> {
    /// A barrier of these parties in this process's own memory, for models.
    pub fn for_model(parties: [SlotId; N], shrinks: bool) -> Box<Barrier> {
        let flags = if shrinks { SHRINKS } else { 0 };
        Box::new(Barrier {
            head: Head::new(flags, 0),
            cells: parties.map(|party| Cell::of(Cell::word(Some(party)))),
        })
    }
}

/// A barrier before it has a place.
#[cfg(not(loom))]
#[derive(Clone, Debug)]
pub struct BarrierPlan {
    cells: Vec<u64>,
    flags: u32,
    timeout_ns: u64,
}

#[cfg(not(loom))]
impl BarrierPlan {
    /// # Panics
    /// Without parties, or with more than a slot table has.
    pub(super) fn new(parties: &[SlotId]) -> Self {
        Self::of(parties.iter().map(|party| Cell::word(Some(*party))).collect())
    }

    /// # Panics
    /// The same.
    pub(super) fn seats(seats: usize) -> Self {
        Self::of(vec![VACANT; seats])
    }

    fn of(cells: Vec<u64>) -> Self {
        assert!((1..=SLOTS_MAX).contains(&cells.len()), "a barrier of {} parties", cells.len());
        Self { cells, flags: 0, timeout_ns: 0 }
    }

    /// How long [`Barrier::wait`] and [`Barrier::wait_with`] wait; without it, for ever.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout_ns = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX).max(1);
        self
    }

    /// A party that dies leaves, and the others go on without it, instead of a broken barrier. For work that does not need
    /// all of them. Who dies in its action breaks the barrier all the same.
    pub fn shrink(mut self) -> Self {
        self.flags |= SHRINKS;
        self
    }
}

#[cfg(not(loom))]
// SAFETY: 1: the cells behind the head. 2: atomics only. 3: cells are found by position in the slice alone.
unsafe impl InPlace for Barrier {
    const KIND: &'static str = "barrier";

    fn layout(cells: usize) -> Option<Layout> {
        let bytes = size_of::<Head>() + cells.min(SLOTS_MAX) * size_of::<Cell>();
        (1..=SLOTS_MAX).contains(&cells).then(|| Layout::from_size_align(bytes, align_of::<Head>()).ok())?
    }

    unsafe fn at<'a>(memory: *mut u8, cells: usize) -> &'a Self {
        debug_assert!(memory.cast::<Head>().is_aligned());
        // SAFETY: by the caller's 1 and 2; the length becomes that of the tail.
        unsafe { &*(ptr::slice_from_raw_parts(memory.cast::<Cell>(), cells) as *const Self) }
    }
}

#[cfg(not(loom))]
// SAFETY: the head and all cells are written.
unsafe impl Plan for BarrierPlan {
    type Object = Barrier;

    fn cells(&self) -> usize {
        self.cells.len()
    }

    unsafe fn place(self, memory: *mut u8) {
        // SAFETY: by the caller's 1 there is room for the head and as many cells as parties; by 2 nobody looks.
        unsafe {
            memory.cast::<Head>().write(Head::new(self.flags, self.timeout_ns));
            let cells = memory.add(size_of::<Head>()).cast::<Cell>();
            for (index, word) in self.cells.iter().enumerate() {
                cells.add(index).write(Cell::of(*word));
            }
        }
    }
}
