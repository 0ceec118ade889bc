//! Permits that come back when their holder dies. Steps N1–N5 of `README.md`.

mod bounded;

#[cfg(not(loom))]
use std::alloc::Layout;
use std::fmt;
use std::mem;
#[cfg(not(loom))]
use std::ptr;
use std::time::{Duration, Instant};

pub use self::bounded::BoundedSemaphore;
#[cfg(not(loom))]
pub use self::bounded::BoundedSemaphorePlan;
use crate::atomics::{AtomicU32, Ordering};
use crate::deadline::Deadline;
#[cfg(not(loom))]
use crate::limits::PERMITS_MAX;
use crate::owner::{Holder, Owner};
use crate::park;
use crate::party::Party;
#[cfg(not(loom))]
use crate::place::{InPlace, Plan};
use crate::waiting::Waiting;

/// The cell's permit does not exist.
const NONE: u32 = 0;
/// Nobody has it.
const FREE: u32 = 1 << 31;
/// Its owner has let the guard go and keeps the permit until `release`.
const KEPT: u32 = 1 << 30;

/// A number of permits, each of which at most one thread has.
///
/// Each permit is a cell with its holder's name, so the number is never stored: no death can lose a permit or make one, and
/// those of a dead holder are there for the next one. All zero bytes are a semaphore without permits. A permit is a
/// [`Permit`]; a holder may [`keep`](Permit::keep) it without the guard, or [`consume`](Permit::consume) it (then one
/// party signals by [`release`](Self::release), and another waits by acquiring).
///
/// There is no order among those who wait, and a wait for permits takes no part in the search for deadlocks.
#[repr(C)]
pub struct Semaphore<C: ?Sized = [Cell]> {
    head: Head,
    cells: C,
}

/// What those who wait sleep on.
#[repr(C)]
#[derive(Debug)]
struct Head {
    /// `taken:31 | asleep:1`, see `park`.
    parked: AtomicU32,
    _reserved: [AtomicU32; 3],
}

/// One permit: `FREE:1 | KEPT:1 | owner:30`, 0 if it does not exist.
#[repr(transparent)]
#[derive(Debug)]
pub struct Cell(AtomicU32);

#[cfg(not(loom))]
const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<Semaphore<[Cell; 3]>>() == 28 && align_of::<Semaphore<[Cell; 3]>>() == 4);
    assert!(offset_of!(Semaphore<[Cell; 3]>, head) == 0 && offset_of!(Semaphore<[Cell; 3]>, cells) == 16);
};

/// Why a permit was not taken or given back.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SemaphoreError {
    /// The deadline passed while all permits were held by parties that live.
    #[error("no permit was to be had in time: {}", who(holders))]
    TimedOut {
        /// Who holds them, each once.
        holders: Vec<Holder>,
    },
    /// There are as many permits as the semaphore has room for.
    #[error("the semaphore has all of its {capacity} permits already")]
    Full {
        /// How many that are.
        capacity: usize,
    },
    /// More releases than acquisitions: nobody keeps a permit that could be given back.
    #[error("released more often than acquired: all of the {initial} permits are free or held by guards")]
    OverRelease {
        /// How many permits there are.
        initial: usize,
    },
}

fn who(holders: &[Holder]) -> String {
    if holders.is_empty() {
        return "there are none".to_owned();
    }
    let names: Vec<_> = holders.iter().map(Holder::to_string).collect();
    format!("held by {}", names.join(", "))
}

/// A semaphore before it has a place.
#[cfg(not(loom))]
#[derive(Copy, Clone, Debug)]
pub struct SemaphorePlan {
    initial: usize,
    capacity: usize,
}

impl Semaphore {
    /// A semaphore with `initial` permits and room for `capacity`.
    ///
    /// # Panics
    /// Without room, or with room for more than [`PERMITS_MAX`], or for less than `initial`.
    #[cfg(not(loom))]
    pub fn with(initial: usize, capacity: usize) -> SemaphorePlan {
        assert!((1..=PERMITS_MAX).contains(&capacity), "room for 1 to {PERMITS_MAX} permits");
        assert!(initial <= capacity, "{initial} permits and room for {capacity}");
        SemaphorePlan { initial, capacity }
    }

    /// A semaphore with so many permits, and room for no more.
    ///
    /// # Panics
    /// Without permits, or with more than [`PERMITS_MAX`].
    #[cfg(not(loom))]
    #[allow(clippy::new_ret_no_self)]
    pub fn new(initial: usize) -> SemaphorePlan {
        Self::with(initial, initial)
    }

    /// How many permits it has room for.
    pub fn capacity(&self) -> usize {
        self.cells.len()
    }

    /// How many permits are free, at this moment; those of the dead count as free.
    pub fn available(&self, party: &Party) -> usize {
        let free = |cell: &&Cell| match cell.load() {
            FREE => true,
            seen => Owner::of_word(seen).is_some_and(|owner| party.table().is_dead(owner)),
        };
        self.cells.iter().filter(free).count()
    }

    /// Takes a permit, however long that lasts.
    #[inline]
    pub fn acquire(&self, party: &Party) -> Result<Permit<'_>, SemaphoreError> {
        self.acquire_until(party, Deadline::Never)
    }

    /// Takes a permit if one is free or a dead one's, without waiting; otherwise [`SemaphoreError::TimedOut`].
    #[inline]
    pub fn try_acquire(&self, party: &Party) -> Result<Permit<'_>, SemaphoreError> {
        self.acquire_until(party, Deadline::Now)
    }

    /// Takes a permit, waiting at most for `timeout`.
    pub fn acquire_timeout(&self, party: &Party, timeout: Duration) -> Result<Permit<'_>, SemaphoreError> {
        self.acquire_until(party, Deadline::In(timeout))
    }

    /// Takes a permit, waiting at most until `deadline`.
    pub fn acquire_deadline(&self, party: &Party, deadline: Instant) -> Result<Permit<'_>, SemaphoreError> {
        self.acquire_until(party, Deadline::At(deadline))
    }

    /// Gives a permit back that the calling thread keeps, else one that another thread of this process keeps; else makes
    /// a new one. Never waits.
    ///
    /// # Errors
    /// [`SemaphoreError::Full`].
    pub fn release(&self, party: &Party) -> Result<(), SemaphoreError> {
        if self.release_own(party) || self.free_first(|seen| seen == NONE) {
            return Ok(());
        }
        Err(SemaphoreError::Full { capacity: self.capacity() })
    }

    fn release_own(&self, party: &Party) -> bool {
        let me = party.owner();
        let mine = |seen: u32| seen == me.bits() | KEPT;
        let ours = |seen: u32| {
            seen & (FREE | KEPT) == KEPT
                && Owner::of_word(seen).is_some_and(|owner| owner.slot() == me.slot())
        };
        self.free_first(mine) || self.free_first(ours)
    }

    /// N4: frees the first permit of this kind, if there is one.
    fn free_first(&self, kind: impl Fn(u32) -> bool) -> bool {
        self.cells.iter().any(|cell| {
            let seen = cell.load();
            kind(seen) && self.give(cell, seen)
        })
    }

    /// N4, N5. Killed before: N2. Killed between the two: sleepers look at the end of their slice.
    fn give(&self, cell: &Cell, seen: u32) -> bool {
        let given = cell.change(seen, FREE);
        if given {
            park::take_mark(&self.head.parked, &self.head.parked);
        }
        given
    }

    fn acquire_until(&self, party: &Party, deadline: Deadline) -> Result<Permit<'_>, SemaphoreError> {
        match self.take_free(party) {
            Some(cell) => Ok(Permit { semaphore: self, cell, party: *party }),
            None => self.acquire_slow(party, deadline),
        }
    }

    #[cold]
    fn acquire_slow(&self, party: &Party, deadline: Deadline) -> Result<Permit<'_>, SemaphoreError> {
        let permit = |cell| Permit { semaphore: self, cell, party: *party };
        let mut waiting = Waiting::new(party, deadline);
        if !matches!(deadline, Deadline::Now) {
            park::spin(|| self.cells.iter().any(|cell| cell.load() == FREE));
        }
        loop {
            waiting.look();
            if let Some(cell) = self.take(party, false) {
                return Ok(permit(cell));
            }
            if waiting.is_over() {
                let last = self.take(party, true).map(permit);
                return last.ok_or_else(|| SemaphoreError::TimedOut { holders: self.holders(party) });
            }
            let mark = park::announce(&self.head.parked);
            if let Some(cell) = self.take(party, false) {
                return Ok(permit(cell)); // the mark stays: one wake too many
            }
            // N3
            if waiting.sleep(&self.head.parked, mark)
                && let Some(cell) = self.take(party, true)
            {
                return Ok(permit(cell));
            }
        }
    }

    /// N1, else N2. `ask` the kernel about each holder.
    fn take(&self, party: &Party, ask: bool) -> Option<usize> {
        let (table, me) = (party.table(), party.owner().bits());
        self.take_free(party).or_else(|| {
            self.cells.iter().position(|cell| {
                let seen = cell.load();
                let dead = Owner::of_word(seen).is_some_and(|owner| {
                    if ask { table.learns_of_death(owner) } else { table.is_dead(owner) }
                });
                dead && cell.change(seen, me)
            })
        })
    }

    /// N1, beginning at a place of one's own.
    #[inline]
    fn take_free(&self, party: &Party) -> Option<usize> {
        let (me, count) = (party.owner(), self.cells.len());
        let home = (usize::from(me.slot().index) + usize::from(me.thread()) * 7) % count.max(1);
        (home..count).chain(0..home).find(|index| {
            let cell = &self.cells[*index];
            cell.load() == FREE && cell.change(FREE, me.bits())
        })
    }

    fn holders(&self, party: &Party) -> Vec<Holder> {
        let mut holders = Vec::new();
        for owner in self.cells.iter().filter_map(|cell| Owner::of_word(cell.load())) {
            let holder = party.table().holder(owner);
            if !holders.contains(&holder) {
                holders.push(holder);
            }
        }
        holders
    }
}

impl Cell {
    fn load(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    fn change(&self, from: u32, to: u32) -> bool {
        self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

/// A permit, given back when dropped. Leaked it stays with its holder, as if kept without a way to release it.
#[must_use = "dropping it gives the permit back at once"]
pub struct Permit<'a> {
    semaphore: &'a Semaphore,
    cell: usize,
    /// Makes it `!Send` too: the cell names this thread.
    party: Party,
}

impl Permit<'_> {
    /// Keeps the permit without the guard, until [`Semaphore::release`] or the end of the process.
    pub fn keep(self) {
        let me = self.party.owner().bits();
        self.turn_into(me | KEPT);
    }

    /// Makes the permit cease to exist, so that nothing comes back, by a death neither: who acquires has been given a
    /// signal, and [`Semaphore::release`] gives the next one.
    pub fn consume(self) {
        self.turn_into(NONE);
    }

    fn turn_into(self, word: u32) {
        let this = mem::ManuallyDrop::new(self);
        this.semaphore.cells[this.cell].change(this.party.owner().bits(), word);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if !self.party.is_here() {
            return;
        }
        self.semaphore.give(&self.semaphore.cells[self.cell], self.party.owner().bits());
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("cell", &self.cell).field("party", &self.party).finish()
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let free = self.cells.iter().filter(|cell| cell.load() == FREE).count();
        f.debug_struct("Semaphore")
            .field("free", &free)
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}

#[cfg(loom)]
impl<const N: usize> Semaphore<[Cell; N]> {
    /// A semaphore of this process's own memory, for models.
    pub fn for_model(initial: usize) -> Box<Semaphore> {
        let word = |word| AtomicU32::new(word);
        let cell = |index| Cell(word(if index < initial { FREE } else { NONE }));
        let head = Head { parked: word(0), _reserved: [word(0), word(0), word(0)] };
        Box::new(Semaphore { head, cells: std::array::from_fn::<_, N, _>(cell) })
    }
}

#[cfg(not(loom))]
const CELLS_AT: usize = 16;

#[cfg(not(loom))]
// SAFETY: 1: the cells behind the head. 2: atomics only. 3: cells are found by position in the slice alone.
unsafe impl InPlace for Semaphore {
    const KIND: &'static str = "semaphore";

    fn layout(cells: usize) -> Option<Layout> {
        let fits = (1..=PERMITS_MAX).contains(&cells);
        fits.then(|| Layout::from_size_align(CELLS_AT + cells * size_of::<Cell>(), align_of::<Cell>()).ok())?
    }

    unsafe fn at<'a>(memory: *mut u8, cells: usize) -> &'a Self {
        debug_assert!(memory.cast::<Cell>().is_aligned());
        // SAFETY: by the caller's 1 and 2; the length becomes that of the tail.
        unsafe { &*(ptr::slice_from_raw_parts(memory.cast::<Cell>(), cells) as *const Self) }
    }
}

#[cfg(not(loom))]
// SAFETY: head and `cells` cells are written; zero is a head.
unsafe impl Plan for SemaphorePlan {
    type Object = Semaphore;

    fn cells(&self) -> usize {
        self.capacity
    }

    unsafe fn place(self, memory: *mut u8) {
        // SAFETY: by the caller's 1 there are so many cells behind the head, all zero: NONE.
        let cells = unsafe { std::slice::from_raw_parts(memory.add(CELLS_AT).cast::<Cell>(), self.initial) };
        cells.iter().for_each(|cell| cell.0.store(FREE, Ordering::Relaxed));
    }
}
