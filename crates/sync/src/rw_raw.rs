//! The words of a readers-writer lock. Steps R1–R5, X1–X5 of `README.md`.

use crate::atomics::{AtomicU32, Ordering, fence, wake_all};
use crate::deadline::Deadline;
use crate::lock_error::LockError;
use crate::owner::Owner;
use crate::party::Party;
use crate::peer::PeerWait;
use crate::poison::PoisonedBy;

/// How many can read at the same time. Further readers wait for a cell.
const CELLS: usize = if cfg!(loom) { 2 } else { crate::limits::READERS_MAX };

/// In the word or a cell: somebody may sleep on it, and is woken when it becomes 0.
const WAITERS: u32 = 1 << 31;
/// In the doubt word: the value has been given up; without it, the owner is (or died) writing.
const POISON: u32 = 1 << 31;

/// All zero is free and whole.
#[repr(C)]
pub(crate) struct RawRwLock {
    /// `WAITERS:1 | 0 | owner:30` of the writer, also while it waits for readers; 0 without one.
    word: AtomicU32,
    /// `POISON:1 | BY_DEATH:1 | owner:30`; 0 when the value is whole and nobody writes.
    doubt: AtomicU32,
    /// The process that the doubt word's owner was, with `POISON`.
    doubt_pid: AtomicU32,
    _reserved: AtomicU32,
    /// `WAITERS:1 | 0 | owner:30` of a reader each, in any order.
    cells: [AtomicU32; CELLS],
}

#[cfg(not(loom))]
const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<RawRwLock>() == 272 && align_of::<RawRwLock>() == 4);
    assert!(offset_of!(RawRwLock, word) == 0 && offset_of!(RawRwLock, doubt) == 4);
    assert!(offset_of!(RawRwLock, doubt_pid) == 8 && offset_of!(RawRwLock, cells) == 16);
};

impl RawRwLock {
    pub(crate) fn new() -> Self {
        let word = || AtomicU32::new(0);
        Self {
            word: word(),
            doubt: word(),
            doubt_pid: word(),
            _reserved: word(),
            cells: std::array::from_fn(|_| word()),
        }
    }

    /// R1–R5: until the caller is a reader; returns its cell.
    #[inline]
    pub(crate) fn read(&self, party: &Party, deadline: Deadline) -> Result<usize, LockError> {
        let me = party.owner();
        let home = home(me);
        // R1
        if self.cells[home].compare_exchange(0, me.bits(), Ordering::Acquire, Ordering::Relaxed).is_ok() {
            fence(Ordering::SeqCst); // R2: of reader and writer at least one sees the other
            if self.word.load(Ordering::Acquire) == 0 && self.doubt.load(Ordering::Relaxed) == 0 {
                return Ok(home);
            }
            self.leave(home); // R3
        }
        self.read_slow(party, deadline)
    }

    #[cold]
    fn read_slow(&self, party: &Party, deadline: Deadline) -> Result<usize, LockError> {
        let me = party.owner();
        let mut wait = PeerWait::new(party, deadline);
        let mut relock = false;
        loop {
            let word = self.word.load(Ordering::Acquire);
            if let Some(writer) = Owner::of_word(word) {
                if writer == me || relock {
                    return Err(LockError::Relock { holder: party.table().holder(me) });
                }
                if wait.finds_dead(writer)? {
                    self.pass_over(party, word)?; // R5
                    continue;
                }
                // Only now, as it looks at all cells: who reads already and waits for a writer waits for itself.
                relock = self.reads(me);
                if !relock && let Some(marked) = mark(&self.word, word) {
                    wait.sleep(&self.word, marked, writer)?; // R4
                }
                continue;
            }
            let Some(cell) = self.take_cell(party, false) else {
                self.await_cell(party, &mut wait)?;
                continue;
            };
            fence(Ordering::SeqCst); // R2
            if Owner::of_word(self.word.load(Ordering::Acquire)).is_some() {
                self.leave(cell); // R3
                continue;
            }
            return match self.doubt.load(Ordering::Relaxed) {
                0 => Ok(cell),
                doubt => {
                    self.leave(cell);
                    Err(self.in_doubt(party, doubt))
                }
            };
        }
    }

    /// R1 in the cell nearest to one's own that is free or a dead reader's. `ask` the kernel about each reader.
    fn take_cell(&self, party: &Party, ask: bool) -> Option<usize> {
        let (table, me) = (party.table(), party.owner());
        (0..CELLS).map(|n| (home(me) + n) % CELLS).find(|index| {
            let cell = &self.cells[*index];
            let seen = cell.load(Ordering::Relaxed);
            let free = match Owner::of_word(seen) {
                None => true,
                Some(reader) if ask => table.learns_of_death(reader),
                Some(reader) => table.is_dead(reader),
            };
            // A writer may sleep on the dead one's cell: the mark stays.
            let mine = me.bits() | seen & WAITERS;
            free && cell.compare_exchange(seen, mine, Ordering::Acquire, Ordering::Relaxed).is_ok()
        })
    }

    /// All cells are taken: sleeps on the caller's own one. Others may become free meanwhile, so this is no wait for its
    /// reader alone, and no part of a deadlock.
    fn await_cell(&self, party: &Party, wait: &mut PeerWait<'_>) -> Result<(), LockError> {
        let cell = &self.cells[home(party.owner())];
        let seen = cell.load(Ordering::Relaxed);
        let Some(reader) = Owner::of_word(seen) else { return Ok(()) };
        if wait.finds_dead(reader)? {
            return Ok(());
        }
        let Some(marked) = mark(cell, seen) else { return Ok(()) };
        if wait.doze(cell, marked, reader)
            && let Some(index) = self.take_cell(party, true)
        {
            self.leave(index); // taken in the usual way, now that the kernel has been asked
        }
        Ok(())
    }

    /// R5: the writer is dead. If it died before its first or after its last store, out of the way with it.
    #[cold]
    fn pass_over(&self, party: &Party, word: u32) -> Result<(), LockError> {
        let doubt = self.doubt.load(Ordering::Acquire);
        if doubt != 0 {
            return Err(self.in_doubt(party, doubt));
        }
        // Nobody but the writer sets the doubt word, so it is still 0 if the word is still the dead one's.
        if self.word.compare_exchange(word, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            && word & WAITERS != 0
        {
            wake_all(&self.word);
        }
        Ok(())
    }

    #[cold]
    fn in_doubt(&self, party: &Party, doubt: u32) -> LockError {
        match (self.poisoned(), Owner::of_word(doubt)) {
            (None, Some(dead)) => LockError::NeedsRepair { dead: party.table().holder(dead) },
            (Some(who), _) => LockError::Poisoned { who },
            // Written by a stranger.
            (None, None) => LockError::NeedsRepair { dead: party.table().holder(party.owner()) },
        }
    }

    /// Whether the caller reads already.
    fn reads(&self, me: Owner) -> bool {
        self.cells.iter().any(|cell| Owner::of_word(cell.load(Ordering::Relaxed)) == Some(me))
    }

    /// The reader's last step. Killed before: X2 sweeps the cell. Killed after, before the wake: a slice ends.
    #[inline]
    pub(crate) fn leave(&self, cell: usize) {
        if self.cells[cell].swap(0, Ordering::Release) & WAITERS != 0 {
            wake_all(&self.cells[cell]);
        }
    }

    /// X1–X3: until the caller is the only one; `Some` names a writer that died in the middle of its change.
    pub(crate) fn write(&self, party: &Party, deadline: Deadline) -> Result<Option<Owner>, LockError> {
        let me = party.owner();
        let mut wait = PeerWait::new(party, deadline);
        if self.word.compare_exchange(0, me.bits(), Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.await_word(party, &mut wait)?;
        }
        fence(Ordering::SeqCst); // X1: from here on no new reader stays
        for cell in &self.cells {
            if let Err(error) = self.await_reader(party, &mut wait, cell) {
                self.give_back();
                return Err(error);
            }
        }
        let doubt = self.doubt.load(Ordering::Acquire);
        if let Some(who) = self.poisoned_by(doubt) {
            self.give_back();
            return Err(LockError::Poisoned { who });
        }
        self.doubt.store(me.bits(), Ordering::Relaxed); // X3
        fence(Ordering::Release); // no store of the caller's is done before
        Ok(Owner::of_word(doubt))
    }

    /// X1 on a word that is not free.
    #[cold]
    fn await_word(&self, party: &Party, wait: &mut PeerWait<'_>) -> Result<(), LockError> {
        let me = party.owner();
        let relock = || Err(LockError::Relock { holder: party.table().holder(me) });
        if self.reads(me) {
            return relock(); // it would wait for us
        }
        loop {
            let word = self.word.load(Ordering::Relaxed);
            let next = match Owner::of_word(word) {
                None => me.bits(),
                Some(owner) if owner == me => return relock(),
                Some(owner) if wait.finds_dead(owner)? => me.bits() | WAITERS,
                Some(owner) => {
                    if let Some(marked) = mark(&self.word, word) {
                        wait.sleep(&self.word, marked, owner)?;
                    }
                    continue;
                }
            };
            if self.word.compare_exchange(word, next, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                return Ok(());
            }
        }
    }

    /// X2: until the cell is empty; a dead reader's is emptied.
    #[inline]
    fn await_reader(
        &self,
        party: &Party,
        wait: &mut PeerWait<'_>,
        cell: &AtomicU32,
    ) -> Result<(), LockError> {
        loop {
            let seen = cell.load(Ordering::Acquire);
            let Some(reader) = Owner::of_word(seen) else { return Ok(()) };
            // Of our own cells, too, that come later: their reader would wait for itself.
            if self.reads(party.owner()) {
                return Err(LockError::Relock { holder: party.table().holder(party.owner()) });
            }
            if wait.finds_dead(reader)? {
                let _ = cell.compare_exchange(seen, 0, Ordering::AcqRel, Ordering::Relaxed);
                if seen & WAITERS != 0 {
                    wake_all(cell); // who waits for a cell
                }
            } else if let Some(marked) = mark(cell, seen) {
                wait.sleep(cell, marked, reader)?;
            }
        }
    }

    /// X4, X5: the change is complete.
    pub(crate) fn unlock(&self) {
        self.doubt.store(0, Ordering::Release); // X4. Killed before: recovered. Killed after: R5, or the next X1
        self.give_back();
    }

    /// X5: also of who takes the word and gives up.
    fn give_back(&self) {
        if self.word.swap(0, Ordering::AcqRel) & WAITERS != 0 {
            wake_all(&self.word);
        }
    }

    /// Instead of X4: the name before the mark, the mark before X5.
    #[cold]
    pub(crate) fn poison(&self, who: PoisonedBy) {
        let (word, pid) = who.to_word();
        self.doubt_pid.store(pid, Ordering::Relaxed);
        self.doubt.store(word | POISON, Ordering::Release);
        self.give_back();
    }

    /// Who gave the value up, if somebody did.
    pub(crate) fn poisoned(&self) -> Option<PoisonedBy> {
        self.poisoned_by(self.doubt.load(Ordering::Acquire))
    }

    /// The same, as a doubt word says that was read before.
    fn poisoned_by(&self, word: u32) -> Option<PoisonedBy> {
        let poisoned = word & POISON != 0;
        poisoned.then(|| PoisonedBy::of_word(word & !POISON, self.doubt_pid.load(Ordering::Relaxed)))?
    }

    /// Takes the poison away, and nothing else: not the name of who writes.
    pub(crate) fn clear(&self) {
        let word = self.doubt.load(Ordering::Acquire);
        if word & POISON != 0 {
            let _ = self.doubt.compare_exchange(word, 0, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// The writer, and how many cells are taken.
    pub(crate) fn holders(&self) -> (Option<Owner>, usize) {
        let taken = self.cells.iter().filter(|cell| Owner::of_word(cell.load(Ordering::Relaxed)).is_some());
        (Owner::of_word(self.word.load(Ordering::Relaxed)), taken.count())
    }
}

/// Where a reader looks for a cell first. Slots in sequence are given cells of different cache lines.
#[inline(always)]
fn home(owner: Owner) -> usize {
    let number = usize::from(owner.slot().index) + usize::from(owner.thread()) * 7;
    (number * 17 + number / 4) % CELLS
}

/// M4: sets the mark; `None` if the word has changed.
fn mark(word: &AtomicU32, seen: u32) -> Option<u32> {
    let marked = seen | WAITERS;
    let done =
        seen == marked || word.compare_exchange(seen, marked, Ordering::Relaxed, Ordering::Relaxed).is_ok();
    done.then_some(marked)
}
