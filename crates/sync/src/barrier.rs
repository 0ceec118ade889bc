//! A barrier that breaks when a party dies. Steps B1–B7 of `README.md`.

use std::fmt;
use std::time::Duration;

use crate::atomics::{AtomicU32, AtomicU64, Ordering, fence, now_ns, wait_any_until};
use crate::death::DeathCause;
use crate::owner::Owner;
use crate::park;
use crate::party::Party;
use crate::slots::{Liveness, SlotId, SlotTable};

/// The low bits of the phase word. The rest is the epoch.
const STATE_BITS: u32 = 2;
const STATE_MASK: u32 = (1 << STATE_BITS) - 1;
const EPOCH_MASK: u32 = u32::MAX >> STATE_BITS;
/// Parties arrive and pass.
const OPEN: u32 = 0;
/// A party died.
const BROKEN: u32 = 1;
/// Somebody called [`Barrier::abort`].
const ABORTED: u32 = 2;
/// A party's timeout passed.
const GIVEN_UP: u32 = 3;

/// The fields of the fault word above the party's 22 bits.
const FAULT_PID_SHIFT: u32 = 22;
const FAULT_CAUSE_SHIFT: u32 = 44;
const FAULT_CAUSE_KNOWN: u64 = 1 << 16;

/// Where known parties wait for each other, again and again.
///
/// A barrier knows its parties by slot and generation, so it never counts an anonymous arrival, and never passes short:
/// a party that dies breaks it for all the others, now and later, until [`Barrier::reset`]. Lives in memory:
/// [`Barrier::size`] bytes, aligned to 64, made by [`Barrier::init`], found by [`Barrier::at`].
#[derive(Copy, Clone)]
pub struct Barrier<'a> {
    head: &'a Head,
    cells: &'a [Cell],
}

/// The first line: what everybody waits on.
#[repr(C, align(64))]
struct Head {
    /// `epoch:30 | state:2`; the futex.
    phase: AtomicU32,
    /// `taken:31 | asleep:1`: whether somebody may sleep on `phase`.
    parked: AtomicU32,
    parties: AtomicU32,
    _reserved: AtomicU32,
    /// `known:1 | wait status:16 | pid:22 | generation:12 | slot:10` of the death that broke it, else 0.
    fault: AtomicU64,
    _line: [AtomicU64; 5],
}

/// One party, in a line of its own: `epoch:32 | party:32`. The epoch is the one that the party has arrived to complete,
/// so 0 is nowhere.
#[repr(C, align(64))]
struct Cell {
    arrival: AtomicU64,
    _line: [AtomicU64; 7],
}

#[cfg(not(loom))]
const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<Head>() == 64 && size_of::<Cell>() == 64);
    assert!(offset_of!(Head, phase) == 0 && offset_of!(Head, parked) == 4 && offset_of!(Head, parties) == 8);
    assert!(offset_of!(Head, fault) == 16 && offset_of!(Cell, arrival) == 0);
};

/// Why a barrier did not let somebody pass.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BarrierError {
    /// A party died.
    #[error("the barrier is broken: slot {} (pid {pid}) died ({cause})", slot.index)]
    Broken {
        /// Which party.
        slot: SlotId,
        /// Its process.
        pid: u32,
        /// What ended it; [`DeathCause::UNKNOWN`] while only the kernel's mark tells.
        cause: DeathCause,
    },
    /// This party's timeout passed, or another's: then the barrier is closed for all. [`Barrier::missing`] names who had
    /// not come.
    #[error("not all parties came to the barrier in time")]
    TimedOut,
    /// Somebody called [`Barrier::abort`], or reset it while others were waiting.
    #[error("the barrier was aborted")]
    Aborted,
    /// The caller is none of the barrier's parties.
    #[error("slot {} (generation {}) is not a party of this barrier", slot.index, slot.generation)]
    NotAParty {
        /// The caller.
        slot: SlotId,
    },
}

impl Head {
    fn new() -> Self {
        Self {
            phase: AtomicU32::new(0),
            parked: AtomicU32::new(0),
            parties: AtomicU32::new(0),
            _reserved: AtomicU32::new(0),
            fault: AtomicU64::new(0),
            _line: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl Cell {
    fn new(party: SlotId) -> Self {
        Self {
            arrival: AtomicU64::new(u64::from(Owner::new(party, 0).bits())),
            _line: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

/// A barrier in memory of this process, for models.
#[cfg(loom)]
pub struct OwnedBarrier {
    head: Head,
    cells: Vec<Cell>,
}

#[cfg(loom)]
impl OwnedBarrier {
    /// A barrier of these parties.
    pub fn new(parties: &[SlotId]) -> Self {
        let head = Head::new();
        head.parties.store(parties.len() as u32, Ordering::Relaxed);
        Self { head, cells: parties.iter().map(|party| Cell::new(*party)).collect() }
    }

    /// Its handle.
    pub fn get(&self) -> Barrier<'_> {
        Barrier { head: &self.head, cells: &self.cells }
    }
}

impl<'a> Barrier<'a> {
    /// How many bytes a barrier of so many parties takes.
    pub const fn size(parties: usize) -> usize {
        size_of::<Head>() + parties * size_of::<Cell>()
    }

    /// Makes a barrier of these parties at `pointer`.
    ///
    /// # Safety
    /// 1. `pointer` is aligned to 64 and valid for reads and writes of [`Barrier::size`] bytes during `'a`;
    /// 2. nobody uses the memory meanwhile, and until it is used for something else nothing but this type writes it.
    ///
    /// # Panics
    /// Without parties.
    #[cfg(not(loom))]
    pub unsafe fn init(pointer: *mut u8, parties: &[SlotId]) -> Self {
        assert!(!parties.is_empty(), "a barrier without parties");
        debug_assert!(pointer.cast::<Head>().is_aligned());
        let head = Head::new();
        head.parties.store(parties.len() as u32, Ordering::Relaxed);
        // SAFETY: by 1 the head and the cells after it are in bounds and aligned; by 2 nobody looks.
        unsafe {
            pointer.cast::<Head>().write(head);
            let cells = pointer.add(size_of::<Head>()).cast::<Cell>();
            for (index, party) in parties.iter().enumerate() {
                cells.add(index).write(Cell::new(*party));
            }
            Self::at(pointer)
        }
    }

    /// The barrier that was made at `pointer`.
    ///
    /// # Safety
    /// 1. [`Barrier::init`] was called there, in this process or another that maps the same memory;
    /// 2. its conditions hold during `'a` here too.
    #[cfg(not(loom))]
    pub unsafe fn at(pointer: *const u8) -> Self {
        debug_assert!(pointer.cast::<Head>().is_aligned());
        // SAFETY: by 1 and 2 there is a head, and as many cells behind it as it says; all fields are atomics.
        unsafe {
            let head = &*pointer.cast::<Head>();
            let parties = head.parties.load(Ordering::Relaxed) as usize;
            let cells = pointer.add(size_of::<Head>()).cast::<Cell>();
            Self { head, cells: std::slice::from_raw_parts(cells, parties) }
        }
    }

    /// How many parties it has.
    pub fn parties(&self) -> usize {
        self.cells.len()
    }

    /// Waits until all parties have come, at most for `timeout`. Exactly one of them is told `true`, the leader.
    ///
    /// A timeout closes the barrier for all, as in other barriers: whether a party has passed is decided in one word,
    /// and it cannot be said to one that it has not while others go on as if it had.
    pub fn wait(&self, party: &Party, timeout: Option<Duration>) -> Result<bool, BarrierError> {
        let table = party.table();
        let seen = self.head.phase.load(Ordering::Acquire);
        if seen & STATE_MASK != OPEN {
            return Err(self.error(seen, table)); // B1
        }
        self.arrive(party.slot(), epoch_after(seen))?; // B2
        if self.all_arrived(seen) {
            return if self.complete(table, seen) { Ok(true) } else { self.outcome(seen, table) };
        }
        let moved = || self.head.phase.load(Ordering::Acquire) != seen;
        if park::spin(moved) {
            return self.outcome(seen, table);
        }
        self.wait_parked(table, seen, timeout)
    }

    /// B4–B6: asleep, in slices, looking after each at who has come and who lives.
    #[cold]
    fn wait_parked(
        &self,
        table: &SlotTable,
        seen: u32,
        timeout: Option<Duration>,
    ) -> Result<bool, BarrierError> {
        let deadline_ns = timeout.map_or(u64::MAX, park::after);
        loop {
            let deaths = table.deaths().load(Ordering::Acquire); // before the look, so that a death after it ends B4
            if self.head.phase.load(Ordering::Acquire) != seen {
                return self.outcome(seen, table);
            }
            if self.all_arrived(seen) {
                // B5: who came last was stopped, or killed, before it could say so.
                if self.complete(table, seen) {
                    return Ok(true);
                }
            } else if let Some(dead) = self.first_dead(table) {
                self.break_for(table, seen, dead); // B6
            } else if now_ns() >= deadline_ns {
                self.decide(seen, seen | GIVEN_UP);
            } else {
                let mark = park::announce(&self.head.parked);
                let words = [(&self.head.phase, seen), (&self.head.parked, mark), (table.deaths(), deaths)];
                wait_any_until(&words, park::slice_end(deadline_ns)); // B4
            }
        }
    }

    /// B3: all have come. True for the one who lets them pass; nobody passes beside a party that is known to be dead, even
    /// if it had come before it died.
    fn complete(&self, table: &SlotTable, seen: u32) -> bool {
        match self.first_dead(table) {
            None => self.decide(seen, epoch_after(seen) << STATE_BITS),
            Some(dead) => {
                self.break_for(table, seen, dead);
                false
            }
        }
    }

    /// B6: a party is dead.
    #[cold]
    fn break_for(&self, table: &SlotTable, seen: u32, dead: SlotId) {
        self.blame(table, dead);
        self.decide(seen, seen | BROKEN);
    }

    /// Closes the barrier: all who wait and all who come get [`BarrierError::Aborted`], until [`Barrier::reset`]. A
    /// barrier that is broken already stays so.
    pub fn abort(&self) {
        loop {
            let seen = self.head.phase.load(Ordering::Acquire);
            if seen & STATE_MASK != OPEN || self.decide(seen, seen | ABORTED) {
                return;
            }
        }
    }

    /// Opens it again for these parties, as many as before. Who still waits inside gets
    /// [`BarrierError::Aborted`]; a straggler among them cannot be counted in the new round.
    ///
    /// For one caller at a time. Killed in it: the barrier stays closed, and a second reset begins anew.
    ///
    /// # Panics
    /// When the number of parties differs.
    pub fn reset(&self, parties: &[SlotId]) {
        assert_eq!(parties.len(), self.cells.len(), "a barrier keeps its number of parties");
        self.abort();
        let closed = self.head.phase.load(Ordering::Acquire);
        for (cell, party) in self.cells.iter().zip(parties) {
            cell.arrival.store(u64::from(Owner::new(*party, 0).bits()), Ordering::SeqCst);
        }
        self.head.fault.store(0, Ordering::SeqCst);
        // Two epochs on: one would look like a passed barrier to who still waits in the old one.
        let epoch = ((closed >> STATE_BITS) + 2) & EPOCH_MASK;
        self.decide(closed, epoch << STATE_BITS);
    }

    /// Who has not come in the present round.
    pub fn missing(&self) -> Vec<SlotId> {
        let seen = self.head.phase.load(Ordering::Acquire);
        let absent = self.cells.iter().filter(|cell| !cell.has_arrived(epoch_after(seen)));
        absent.map(Cell::party).collect()
    }

    /// B2: into the own cell, unless a reset has given it to somebody else meanwhile.
    fn arrive(&self, slot: SlotId, epoch: u32) -> Result<(), BarrierError> {
        let me = u64::from(Owner::new(slot, 0).bits());
        for cell in self.cells {
            let old = cell.arrival.load(Ordering::Relaxed);
            if old & u64::from(u32::MAX) == me {
                let new = u64::from(epoch) << 32 | me;
                // AcqRel, because B3 may read it in the same breath: of two who come last, one must see both.
                let _ = cell.arrival.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed);
                fence(Ordering::SeqCst);
                return Ok(());
            }
        }
        Err(BarrierError::NotAParty { slot })
    }

    fn all_arrived(&self, seen: u32) -> bool {
        self.cells.iter().all(|cell| cell.has_arrived(epoch_after(seen)))
    }

    fn first_dead(&self, table: &SlotTable) -> Option<SlotId> {
        self.cells.iter().map(Cell::party).find(|party| {
            matches!(table.liveness(*party), Liveness::ThreadDead | Liveness::Dead(_) | Liveness::Gone)
        })
    }

    /// The one place where a round ends, in whatever way: one compare-and-swap, then the wake. Killed between the
    /// two: sleepers look at the end of their slice.
    fn decide(&self, seen: u32, next: u32) -> bool {
        let decided =
            self.head.phase.compare_exchange(seen, next, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if decided {
            park::take_mark(&self.head.parked, &self.head.phase);
        }
        decided
    }

    /// What has become of the round in which `seen` was the phase.
    fn outcome(&self, seen: u32, table: &SlotTable) -> Result<bool, BarrierError> {
        let now = self.head.phase.load(Ordering::Acquire);
        let (then, now_epoch) = (seen >> STATE_BITS, now >> STATE_BITS);
        if now_epoch == epoch_after(seen) {
            return Ok(false); // passed, whatever happened to the round after
        }
        if now_epoch == then && now & STATE_MASK != OPEN {
            return Err(self.error(now, table));
        }
        Err(BarrierError::Aborted) // reset while we waited
    }

    /// B6, first half: the dead one's name, once; the first to write it is believed.
    fn blame(&self, table: &SlotTable, dead: SlotId) {
        let cause = match table.liveness(dead) {
            Liveness::Dead(cause) if cause != DeathCause::UNKNOWN => {
                FAULT_CAUSE_KNOWN | u64::from(cause.0 & 0xFFFF)
            }
            _ => 0,
        };
        let holder = Owner::new(dead, 0);
        let fault = u64::from(holder.bits())
            | u64::from(table.holder(holder).pid) << FAULT_PID_SHIFT
            | cause << FAULT_CAUSE_SHIFT;
        let _ = self.head.fault.compare_exchange(0, fault, Ordering::AcqRel, Ordering::Relaxed);
    }

    #[cold]
    fn error(&self, phase: u32, table: &SlotTable) -> BarrierError {
        match phase & STATE_MASK {
            BROKEN => {
                let fault = self.head.fault.load(Ordering::Acquire);
                let owner = Owner::of_word((fault & ((1 << FAULT_PID_SHIFT) - 1)) as u32);
                let Some(slot) = owner.map(Owner::slot) else { return BarrierError::Aborted };
                let pid = (fault >> FAULT_PID_SHIFT & ((1 << 22) - 1)) as u32;
                let noted = fault >> FAULT_CAUSE_SHIFT;
                let cause = match table.liveness(slot) {
                    Liveness::Dead(cause) => cause,
                    _ if noted & FAULT_CAUSE_KNOWN != 0 => DeathCause((noted & 0xFFFF) as u32),
                    _ => DeathCause::UNKNOWN,
                };
                BarrierError::Broken { slot, pid, cause }
            }
            GIVEN_UP => BarrierError::TimedOut,
            _ => BarrierError::Aborted,
        }
    }
}

impl Cell {
    fn has_arrived(&self, epoch: u32) -> bool {
        self.arrival.load(Ordering::Acquire) >> 32 == u64::from(epoch)
    }

    fn party(&self) -> SlotId {
        let bits = self.arrival.load(Ordering::Relaxed) as u32;
        Owner::of_word(bits).map_or(SlotId { index: 0, generation: 0 }, Owner::slot)
    }
}

/// The epoch that arrivals in this phase complete. Never 0 in practice: 2^30 rounds come before.
fn epoch_after(phase: u32) -> u32 {
    ((phase >> STATE_BITS) + 1) & EPOCH_MASK
}

impl fmt::Debug for Barrier<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = self.head.phase.load(Ordering::Relaxed);
        f.debug_struct("Barrier")
            .field("parties", &self.parties())
            .field("epoch", &(phase >> STATE_BITS))
            .field("state", &(phase & STATE_MASK))
            .finish_non_exhaustive()
    }
}
