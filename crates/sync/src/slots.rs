//! The slot table: who takes part, in which incarnation, and whether it lives.
//!
//! One [`Slot`] of 256 bytes per party in shared memory; all zero is a free slot of generation 0, so a fresh
//! segment is a valid table. The steps S1–S5 that the code cites are in `README.md`.

mod slot;

use std::time::Duration;

use swath_platform::life::{self, OWNER_DIED};

use self::slot::{CLEANING, cause_of, cause_word, next_generation};
pub use self::slot::{Liveness, Slot, SlotId, SlotState, Witness};
use crate::atomics::{AtomicU32, AtomicU64, Ordering, wait_until, wake_all};
use crate::deadline::Deadline;
use crate::death::DeathCause;
use crate::limits::WAITS_PER_SLOT_MAX;
use crate::owner::{Holder, Owner};
#[cfg(not(loom))]
use crate::{party, witness};

/// How many parties a session has room for.
pub const SLOTS_MAX: usize = if cfg!(loom) { 3 } else { crate::limits::SLOTS_MAX };
/// Bits of a slot's generation. Generation 0 is never used.
pub const GENERATION_BITS: u32 = 12;

pub(crate) const SLOT_BITS: u32 = 10;
/// A slot whose generations are used up this far is passed over while fresher ones are free, so that an
/// owner forgotten in some lock meets its own number again only after millions of deaths.
const GENERATIONS_PER_ROUND: u32 = 10;

/// All parties of a session.
///
/// Who is declared dead loses its locks at that moment, so what peers believe about a party is said by `unsafe` functions:
/// [`Self::started`], [`Self::enter_watched`], [`Self::mark_dead`], [`Self::leave`]. So is who one is: [`Party::install`].
///
/// [`Party::install`]: crate::Party::install
#[repr(C)]
pub struct SlotTable {
    slots: [Slot; SLOTS_MAX],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<SlotTable>() == 256 * 1024);

impl SlotTable {
    /// The table at `pointer`.
    ///
    /// # Safety
    /// 1. `pointer` is aligned to 256 and valid for reads and writes of `size_of::<SlotTable>()` bytes;
    /// 2. the bytes were zero before the first party used them, and nothing but this type writes them since;
    /// 3. they stay mapped, there, until the process ends (the kernel writes to life words).
    #[cfg(not(loom))]
    pub unsafe fn from_ptr(pointer: *const u8) -> &'static Self {
        debug_assert!(pointer.cast::<Self>().is_aligned(), "a slot table is aligned to 256 bytes");
        // SAFETY: 1 and 3 make the reference valid; every field is an atomic, for which any bytes are valid and shared
        // writes are allowed.
        unsafe { &*pointer.cast::<Self>() }
    }

    /// A table of loom's atomics for a model.
    #[cfg(loom)]
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self { slots: std::array::from_fn(|_| Slot::new()) }
    }

    fn slot(&self, index: u16) -> &Slot {
        &self.slots[usize::from(index)]
    }

    /// S1: takes a free slot for a party that is about to be started: FREE → STARTING under the next generation.
    /// `None` when all [`SLOTS_MAX`] are in use.
    pub fn reserve(&self) -> Option<SlotId> {
        loop {
            let (index, word) = self.freshest_free()?;
            let slot = self.slot(index);
            let generation = next_generation(SlotState::of_word(word).1);
            let reserved = SlotState::Starting.word(generation);
            if slot.state.compare_exchange(word, reserved, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                // The rest was cleared when the slot was freed. Nobody takes a starting party's slot that is not told to.
                slot.pid.store(0, Ordering::Relaxed);
                return Some(SlotId { index, generation });
            }
        }
    }

    /// The first slot of a table that nobody else has used yet, under this generation: for who makes one table after the other at the same
    /// address, and would not be taken for the one of before.
    pub fn reserve_first(&self, generation: u16) -> Option<SlotId> {
        let (fresh, reserved) = (SlotState::Free.word(0), SlotState::Starting.word(generation));
        let state = &self.slot(0).state;
        let done = state.compare_exchange(fresh, reserved, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        done.then_some(SlotId { index: 0, generation })
    }

    /// The free slot with the lowest index among those in the earliest round of generations.
    fn freshest_free(&self) -> Option<(u16, u32)> {
        let mut best: Option<(u16, u32, u16)> = None;
        for (index, slot) in self.slots.iter().enumerate() {
            let word = slot.state.load(Ordering::Acquire);
            let (state, generation) = SlotState::of_word(word);
            let round = generation >> GENERATIONS_PER_ROUND;
            if state == SlotState::Free && best.is_none_or(|(_, _, least)| round < least) {
                best = Some((index as u16, word, round));
                if round == 0 {
                    break;
                }
            }
        }
        best.map(|(index, word, _)| (index, word))
    }

    /// S2: notes the process of a reserved slot, and who tells of its death; by the spawner, after the spawn. Does nothing for
    /// another generation.
    ///
    /// # Safety
    /// 1. `pid` and `start_ticks` are those of the process that `id` was reserved for; with [`Witness::Service`] nobody
    ///    believes them.
    pub unsafe fn started(&self, id: SlotId, pid: u32, start_ticks: u64, witness: Witness) {
        if self.state(id.index).1 == id.generation {
            let slot = self.slot(id.index);
            slot.start_ticks.store(start_ticks, Ordering::Release);
            slot.pid.store(pid, Ordering::Release);
            slot.witness.store(witness as u32, Ordering::Release);
        }
    }

    /// S3: STARTING → LIVE, by the party itself; wakes who waits for it. Its locks are handed over on its confirmed exit only.
    /// Says whether the slot was still waiting for this generation: `false` means that the party has been given up and must
    /// end.
    pub fn enter(&self, id: SlotId) -> bool {
        let slot = self.slot(id.index);
        let starting = SlotState::Starting.word(id.generation);
        if slot.state.load(Ordering::Acquire) != starting {
            return false;
        }
        if slot.pid.load(Ordering::Relaxed) == 0 {
            slot.pid.store(std::process::id(), Ordering::Release);
        }
        let live = SlotState::Live.word(id.generation);
        let entered =
            slot.state.compare_exchange(starting, live, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        wake_all(&slot.state);
        entered
    }

    /// As [`Self::enter`], and the calling thread's death becomes known at once (see [`life`]): what it holds is handed over
    /// while the rest of its process may still be ending.
    ///
    /// # Safety
    /// 1. What the calling thread gets as a party (guards, and references to what they guard) is used in this thread only.
    pub unsafe fn enter_watched(&'static self, id: SlotId) -> bool {
        if self.state(id.index) == (SlotState::Starting, id.generation) && life::self_test() {
            self.arm(id);
        }
        self.enter(id)
    }

    /// The second half of [`Self::enter_watched`], for a party that has entered: by the thread whose death is to be known.
    ///
    /// # Safety
    /// 1. As there.
    pub unsafe fn watch(&'static self, id: SlotId) {
        if self.state(id.index) == (SlotState::Live, id.generation) && life::self_test() {
            self.arm(id);
        }
    }

    /// L1, L2: first who is armed, then the kernel's list and the word (see [`life::arm`]).
    #[cfg(not(loom))]
    fn arm(&'static self, id: SlotId) {
        let slot = self.slot(id.index);
        if let Ok(thread) = party::join(self, id) {
            slot.life_thread.store(u32::from(thread) + 1, Ordering::Release);
            life::arm(&slot.life);
        }
    }

    #[cfg(loom)]
    fn arm(&'static self, _id: SlotId) {}

    /// S1, S2 for a party that nobody started: it reserves its own slot, and its peers look whether it lives. Between this
    /// and [`Self::enter`] it takes its lock; who looks too early gives the slot up, and `enter` says so.
    ///
    /// # Safety
    /// 1. `start_ticks` are this process's, or 0 if they cannot be known.
    pub unsafe fn reserve_for_myself(&self, witness: Witness, start_ticks: u64) -> Option<SlotId> {
        #[cfg(not(loom))]
        swath_platform::fork::mark_own();
        let id = self.reserve()?;
        // SAFETY: our pid, and by 1 our ticks.
        unsafe { self.started(id, std::process::id(), start_ticks, witness) };
        Some(id)
    }

    /// Who tells of a party's death.
    pub fn witness(&self, index: u16) -> Witness {
        Witness::of_word(self.slot(index).witness.load(Ordering::Acquire))
    }

    /// Asks the kernel whether a party lives that has no service thread to watch it; if not, notes its death and frees
    /// its slot (S4, S5). System calls: for who has waited a slice for it, or is about to give up.
    #[cfg(not(loom))]
    pub fn ask(&self, id: SlotId) {
        let slot = self.slot(id.index);
        let word = slot.state.load(Ordering::Acquire);
        let (state, generation) = SlotState::of_word(word);
        let witness = self.witness(id.index);
        if witness != Witness::Service
            && generation == id.generation
            && matches!(state, SlotState::Starting | SlotState::Live)
            && witness::is_gone(self, id.index, witness, state == SlotState::Live) == Some(true)
            // If it has entered meanwhile, or somebody else was faster, the answer was about somebody else.
            && self.die(id, word, DeathCause::UNKNOWN).is_ok()
        {
            self.release(id);
        }
    }

    /// Asks about every party that nobody watches: before a slot is looked for, so that the dead do not fill the table.
    pub fn ask_about_all(&self) {
        for index in 0..SLOTS_MAX as u16 {
            if self.witness(index) != Witness::Service {
                self.ask(SlotId { index, generation: self.state(index).1 });
            }
        }
    }

    /// Models have no kernel to ask.
    #[cfg(loom)]
    pub fn ask(&self, _id: SlotId) {}

    /// LIVE → FREE, by the party itself when it takes part no more.
    ///
    /// # Safety
    /// 1. `id` is the calling process's own;
    /// 2. its parties, and the guards, permits and ends that they have, are not used any more.
    pub unsafe fn leave(&self, id: SlotId) {
        // SAFETY: by 2.
        if unsafe { self.mark_dead(id, DeathCause::exit(0)) } {
            self.release(id);
        }
    }

    /// State and generation of a slot.
    pub fn state(&self, index: u16) -> (SlotState, u16) {
        SlotState::of_word(self.state_word(index).load(Ordering::Acquire))
    }

    /// The state word: whoever waits for a change of it sleeps on it.
    pub(crate) fn state_word(&self, index: u16) -> &AtomicU32 {
        &self.slot(index).state
    }

    /// Sleeps while the party is STARTING, at most for `timeout`.
    pub fn await_entry(&self, id: SlotId, timeout: Duration) {
        let starting = SlotState::Starting.word(id.generation);
        wait_until(self.state_word(id.index), starting, Deadline::In(timeout).on_the_clock());
    }

    /// The process of a slot; 0 before it is known.
    pub fn pid(&self, index: u16) -> u32 {
        self.slot(index).pid.load(Ordering::Acquire)
    }

    /// When that process began, in clock ticks since boot as /proc has it: with the pid it names one process.
    pub fn start_ticks(&self, index: u16) -> u64 {
        self.slot(index).start_ticks.load(Ordering::Acquire)
    }

    /// What the life word says: `thread id | WAITERS` while its thread lives, then the kernel's death mark; 0 when unarmed.
    pub fn life(&self, index: u16) -> u32 {
        self.slot(index).life.load(Ordering::Acquire)
    }

    /// Sleeps while the life word says `seen`, at most for `timeout`.
    pub fn await_mark(&self, index: u16, seen: u32, timeout: Duration) {
        wait_until(&self.slot(index).life, seen, Deadline::In(timeout).on_the_clock());
    }

    /// What is known about a party at this moment. A death is never unsaid: once `Dead` or `Gone`, always so.
    pub fn liveness(&self, id: SlotId) -> Liveness {
        let slot = self.slot(id.index);
        let (state, generation) = SlotState::of_word(slot.state.load(Ordering::Acquire));
        if generation != id.generation {
            return Liveness::Gone;
        }
        match state {
            SlotState::Free => Liveness::Gone,
            SlotState::Dead => Liveness::Dead(cause_of(slot.cause.load(Ordering::Acquire), id.generation)),
            // The mark may be a later tenant's, if the slot changed hands after the load above; then this one is gone.
            _ if slot.life.load(Ordering::Acquire) & OWNER_DIED != 0 => Liveness::ThreadDead,
            SlotState::Starting => Liveness::Starting,
            SlotState::Live => Liveness::Alive,
        }
    }

    /// S4: notes a confirmed exit and wakes everyone who waits for this party, on whatever. By the service thread. Does
    /// nothing for another generation; says whether it was this call that did it.
    ///
    /// # Safety
    /// 1. The process of `id` has ended, or will not use its parties any more, nor the guards, permits and ends that they have.
    pub unsafe fn mark_dead(&self, id: SlotId, cause: DeathCause) -> bool {
        let mut word = self.slot(id.index).state.load(Ordering::Acquire);
        loop {
            let (state, generation) = SlotState::of_word(word);
            if generation != id.generation || !matches!(state, SlotState::Starting | SlotState::Live) {
                return false;
            }
            match self.die(id, word, cause) {
                Ok(()) => return true,
                Err(changed) => word = changed, // it entered meanwhile
            }
        }
    }

    /// S4, from this very state.
    fn die(&self, id: SlotId, word: u32, cause: DeathCause) -> Result<(), u32> {
        let slot = self.slot(id.index);
        // The cause before the state. It is changed from what it was before the look at the state: who was stopped in between
        // does not write over a later tenant's.
        let mut noted = slot.cause.load(Ordering::Acquire);
        loop {
            let now = slot.state.load(Ordering::Acquire);
            if now != word {
                return Err(now);
            }
            let new = cause_word(id.generation, cause);
            match slot.cause.compare_exchange(noted, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(other) => noted = other,
            }
        }
        let dead = SlotState::Dead.word(id.generation);
        slot.state.compare_exchange(word, dead, Ordering::AcqRel, Ordering::Acquire)?;
        wake_all(&slot.state);
        self.announce_death();
        Ok(())
    }

    /// S5: DEAD → FREE, when nothing but forgotten locks can carry this generation any more.
    pub fn release(&self, id: SlotId) {
        let state = &self.slot(id.index).state;
        let dead = SlotState::Dead.word(id.generation);
        // One of several cleans: what it clears must not be the next tenant's.
        if state.compare_exchange(dead, dead | CLEANING, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            // The next tenant finds it clean, and whoever looks at a slot that has just been reserved sees nothing of the
            // former one. Pid and cause stay: errors name the dead.
            self.slot(id.index).clean();
            state.store(SlotState::Free.word(id.generation), Ordering::Release);
        }
    }

    /// The word on which all who wait for a peer sleep besides their own; it changes at every confirmed death.
    pub(crate) fn deaths(&self) -> &AtomicU32 {
        &self.slots[0].deaths
    }

    fn announce_death(&self) {
        self.deaths().fetch_add(1, Ordering::AcqRel);
        wake_all(self.deaths());
    }

    /// Whether a lock of this owner may be handed over: its exit is confirmed, or the kernel has marked the very
    /// thread that holds the lock.
    pub(crate) fn is_dead(&self, owner: Owner) -> bool {
        match self.liveness(owner.slot()) {
            Liveness::Dead(_) | Liveness::Gone => true,
            Liveness::ThreadDead => self.armed_thread(owner.slot().index) == Some(owner.thread()),
            Liveness::Starting | Liveness::Alive => false,
        }
    }

    /// Asks the kernel, where that is our task ([`Self::ask`]), and says whether the owner is dead.
    #[cold]
    pub(crate) fn learns_of_death(&self, owner: Owner) -> bool {
        self.ask(owner.slot());
        self.is_dead(owner)
    }

    /// The life word and the value it has while this owner's thread lives, if the kernel watches that thread.
    pub(crate) fn watched_life(&self, owner: Owner) -> Option<(&AtomicU32, u32)> {
        let word = &self.slot(owner.slot().index).life;
        let value = word.load(Ordering::Acquire);
        let watched = value != 0 && self.armed_thread(owner.slot().index) == Some(owner.thread());
        (watched && value & OWNER_DIED == 0).then_some((word, value))
    }

    /// The thread number that the life word tells of.
    pub(crate) fn armed_thread(&self, index: u16) -> Option<u8> {
        let armed = self.slot(index).life_thread.load(Ordering::Acquire);
        u8::try_from(armed.wrapping_sub(1)).ok()
    }

    /// An owner as errors name it.
    pub(crate) fn holder(&self, owner: Owner) -> Holder {
        let slot = owner.slot();
        let pid = self.pid(slot.index);
        // The generation is read after the pid: if it is still this one, so was the pid.
        let pid = if self.state(slot.index).1 == slot.generation { pid } else { 0 };
        Holder { slot, thread: owner.thread(), pid }
    }

    #[cfg(not(loom))]
    pub(crate) fn threads(&self, index: u16) -> &[AtomicU32; 8] {
        &self.slot(index).threads
    }

    pub(crate) fn waits(&self, index: u16) -> &[AtomicU64; WAITS_PER_SLOT_MAX] {
        &self.slot(index).waits
    }
}
