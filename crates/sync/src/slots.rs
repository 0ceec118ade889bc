//! The slot table: who takes part, in which incarnation, and whether it lives.
//!
//! One [`Slot`] of 256 bytes per party in shared memory; all zero is a free slot of generation 0, so a fresh
//! segment is a valid table. The steps S1–S6 that the code cites are in `README.md`.

#[cfg(not(loom))]
use std::mem::offset_of;

use swath_platform::life::{self, OWNER_DIED};

use crate::atomics::{AtomicU32, AtomicU64, Ordering, wake_all};
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
const GENERATION_MASK: u16 = (1 << GENERATION_BITS) - 1;
/// A slot whose generations are used up this far is passed over while fresher ones are free, so that an
/// owner forgotten in some lock meets its own number again only after millions of deaths.
const GENERATIONS_PER_ROUND: u32 = 10;

/// A party's name: which slot, and which incarnation of it.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct SlotId {
    /// Position in the table, below [`SLOTS_MAX`].
    pub index: u16,
    /// Incarnation, 1 to 4095.
    pub generation: u16,
}

/// What a slot's state word says.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum SlotState {
    /// Nobody's.
    Free,
    /// Reserved; its process is being started and has not entered.
    Starting,
    /// Entered. Whether it still lives is for [`SlotTable::liveness`] to say.
    Live,
    /// Its exit is confirmed; what it held can be taken.
    Dead,
}

impl SlotState {
    fn of_word(word: u32) -> (Self, u16) {
        let state = match word & 3 {
            0 => Self::Free,
            1 => Self::Starting,
            2 => Self::Live,
            _ => Self::Dead,
        };
        (state, (word >> 2) as u16 & GENERATION_MASK)
    }

    fn word(self, generation: u16) -> u32 {
        self as u32 | u32::from(generation) << 2
    }
}

/// What is known about a party.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Liveness {
    /// Its slot is reserved and it has not entered.
    Starting,
    /// Nothing says that it is dead.
    Alive,
    /// The kernel says that its armed thread is dead. Other threads of the process may still be ending.
    ThreadDead,
    /// Its exit is confirmed: no thread of it runs any more.
    Dead(DeathCause),
    /// Its slot is free or has another tenant, which happens only after a confirmed exit.
    Gone,
}

/// Who finds out that a party is dead.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Witness {
    /// The service thread of the coordinator that started it.
    Service,
    /// Whoever waits for it asks the kernel, by pidfd, else by the lock that it holds.
    Pidfd,
    /// As [`Self::Pidfd`] by the lock alone: its pid means nothing here.
    Lock,
}

impl Witness {
    fn of_word(word: u32) -> Self {
        match word {
            1 => Self::Pidfd,
            2 => Self::Lock,
            _ => Self::Service,
        }
    }
}

/// One party. Line by line: what peers read, what the party itself counts, its threads, its waits.
#[repr(C, align(256))]
pub struct Slot {
    state: AtomicU32,
    life: AtomicU32,
    /// Number of the thread that armed the life word, plus one; 0 when unarmed.
    life_thread: AtomicU32,
    cause: AtomicU32,
    pid: AtomicU32,
    /// In slot 0 only: counts the deaths of the whole table, for everyone who waits for some peer.
    deaths: AtomicU32,
    start_ticks: AtomicU64,
    _line0: [AtomicU64; 4],
    /// Who tells of its death: see [`Witness`].
    witness: AtomicU32,
    _word1: AtomicU32,
    _line1: [AtomicU64; 7],
    /// One bit per thread number in use.
    threads: [AtomicU32; 8],
    _line2: [AtomicU64; 4],
    waits: [AtomicU64; WAITS_PER_SLOT_MAX],
}

#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<Slot>() == 256 && size_of::<SlotTable>() == 256 * 1024);
    assert!(
        offset_of!(Slot, state) == 0 && offset_of!(Slot, life) == 4 && offset_of!(Slot, life_thread) == 8
    );
    assert!(offset_of!(Slot, cause) == 12 && offset_of!(Slot, pid) == 16 && offset_of!(Slot, deaths) == 20);
    assert!(offset_of!(Slot, start_ticks) == 24 && offset_of!(Slot, witness) == 64);
    assert!(offset_of!(Slot, threads) == 128 && offset_of!(Slot, waits) == 192);
};

/// All parties of a session.
#[repr(C)]
pub struct SlotTable {
    slots: [Slot; SLOTS_MAX],
}

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

    /// S2: notes the process of a reserved slot; by the spawner, after the spawn.
    pub fn started(&self, id: SlotId, pid: u32, start_ticks: u64) {
        if self.state(id.index).1 == id.generation {
            let slot = self.slot(id.index);
            slot.start_ticks.store(start_ticks, Ordering::Release);
            slot.pid.store(pid, Ordering::Release);
        }
    }

    /// S3: STARTING → LIVE, by the party itself, from its compute thread; wakes who waits for it on
    /// [`Self::state_word`]. With `arm_life_word` the calling thread's death becomes known at once (see
    /// [`life`]); pass `false` for a party whose user code runs in several threads, and then locks are
    /// handed over on its confirmed exit only. Says whether the slot was still waiting for this generation: `false`
    /// means that the party has been given up and must end.
    pub fn enter(&'static self, id: SlotId, arm_life_word: bool) -> bool {
        let slot = self.slot(id.index);
        let starting = SlotState::Starting.word(id.generation);
        if slot.state.load(Ordering::Acquire) != starting {
            return false;
        }
        if slot.pid.load(Ordering::Relaxed) == 0 {
            slot.pid.store(std::process::id(), Ordering::Release);
        }
        if arm_life_word && life::self_test() {
            self.arm(id);
        }
        let live = SlotState::Live.word(id.generation);
        let entered =
            slot.state.compare_exchange(starting, live, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        wake_all(&slot.state);
        entered
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
    pub fn reserve_for_myself(&self, witness: Witness, start_ticks: u64) -> Option<SlotId> {
        #[cfg(not(loom))]
        swath_platform::fork::mark_own();
        let id = self.reserve()?;
        let slot = self.slot(id.index);
        slot.witness.store(witness as u32, Ordering::Release);
        self.started(id, std::process::id(), start_ticks);
        Some(id)
    }

    /// Says that peers look whether this party lives, for one that was [`Self::started`].
    pub fn set_witness(&self, id: SlotId, witness: Witness) {
        if self.state(id.index).1 == id.generation {
            self.slot(id.index).witness.store(witness as u32, Ordering::Release);
        }
    }

    /// Who tells of a party's death.
    pub fn witness(&self, index: u16) -> Witness {
        Witness::of_word(self.slot(index).witness.load(Ordering::Acquire))
    }

    /// Asks the kernel whether a party lives that has no service thread to watch it; if not, notes its death and frees
    /// its slot (S4, S5). System calls: for who has waited a slice for it, or is about to give up.
    #[cfg(not(loom))]
    pub fn ask(&self, id: SlotId) {
        let (state, generation) = self.state(id.index);
        let watched = self.witness(id.index) == Witness::Service;
        if watched
            || generation != id.generation
            || !matches!(state, SlotState::Starting | SlotState::Live)
            || witness::is_gone(self, id.index, self.witness(id.index), state == SlotState::Live)
                != Some(true)
        {
            return;
        }
        // If the slot went on to a later generation meanwhile, or somebody else was faster, it is not ours to free.
        if self.mark_dead(id, DeathCause::UNKNOWN) {
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

    /// LIVE → FREE, by the party itself when it takes part no more and holds nothing.
    pub fn leave(&self, id: SlotId) {
        if self.mark_dead(id, DeathCause::exit(0)) {
            self.release(id);
        }
    }

    /// State and generation of a slot.
    pub fn state(&self, index: u16) -> (SlotState, u16) {
        SlotState::of_word(self.state_word(index).load(Ordering::Acquire))
    }

    /// The state word: a futex for whoever waits until a party has entered.
    pub fn state_word(&self, index: u16) -> &AtomicU32 {
        &self.slot(index).state
    }

    /// The process of a slot; 0 before it is known.
    pub fn pid(&self, index: u16) -> u32 {
        self.slot(index).pid.load(Ordering::Acquire)
    }

    /// When that process began, in clock ticks since boot as /proc has it: with the pid it names one process.
    pub fn start_ticks(&self, index: u16) -> u64 {
        self.slot(index).start_ticks.load(Ordering::Acquire)
    }

    /// The life word: `thread id | WAITERS` while its thread lives, then the kernel's death mark; 0 when unarmed.
    pub fn life_word(&self, index: u16) -> &AtomicU32 {
        &self.slot(index).life
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
            SlotState::Dead => Liveness::Dead(DeathCause(slot.cause.load(Ordering::Acquire))),
            // The mark may be a later tenant's, if the slot changed hands after the load above; then this one is gone.
            _ if slot.life.load(Ordering::Acquire) & OWNER_DIED != 0 => Liveness::ThreadDead,
            SlotState::Starting => Liveness::Starting,
            SlotState::Live => Liveness::Alive,
        }
    }

    /// S4: notes a confirmed exit and wakes everyone who waits for this party, on whatever. By the service thread,
    /// only when no thread of the process runs any more. Does nothing for another generation.
    pub fn mark_dead(&self, id: SlotId, cause: DeathCause) -> bool {
        let slot = self.slot(id.index);
        let mut word = slot.state.load(Ordering::Acquire);
        loop {
            let (state, generation) = SlotState::of_word(word);
            if generation != id.generation || !matches!(state, SlotState::Starting | SlotState::Live) {
                return false;
            }
            slot.cause.store(cause.0, Ordering::Release);
            let dead = SlotState::Dead.word(generation);
            match slot.state.compare_exchange(word, dead, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(changed) => word = changed, // it entered meanwhile
            }
        }
        wake_all(&slot.state);
        self.announce_death();
        true
    }

    /// S5: DEAD → FREE, when nothing but forgotten locks can carry this generation any more.
    pub fn release(&self, id: SlotId) {
        // While it is DEAD nobody else writes there, so the next tenant finds it clean, and whoever looks at a slot that has
        // just been reserved sees nothing of the former one. Pid and cause stay: errors name the dead.
        if self.state(id.index) == (SlotState::Dead, id.generation) {
            self.slot(id.index).clean();
        }
        let (dead, free) = (SlotState::Dead.word(id.generation), SlotState::Free.word(id.generation));
        let _ = self.slot(id.index).state.compare_exchange(dead, free, Ordering::AcqRel, Ordering::Relaxed);
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
        let word = self.life_word(owner.slot().index);
        let value = word.load(Ordering::Acquire);
        let watched = value != 0 && self.armed_thread(owner.slot().index) == Some(owner.thread());
        (watched && value & OWNER_DIED == 0).then_some((word, value))
    }

    fn armed_thread(&self, index: u16) -> Option<u8> {
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

impl Slot {
    #[cfg(loom)]
    fn new() -> Self {
        let (word, long) = (|_| AtomicU32::new(0), |_| AtomicU64::new(0));
        Self {
            state: word(0),
            life: word(0),
            life_thread: word(0),
            cause: word(0),
            pid: word(0),
            deaths: word(0),
            start_ticks: long(0),
            _line0: std::array::from_fn(long),
            witness: word(0),
            _word1: word(0),
            _line1: std::array::from_fn(long),
            threads: std::array::from_fn(word),
            _line2: std::array::from_fn(long),
            waits: std::array::from_fn(long),
        }
    }

    /// Clears what the tenant leaves.
    fn clean(&self) {
        let words = [&self.life, &self.life_thread, &self.witness];
        words.into_iter().chain(&self.threads).for_each(|word| word.store(0, Ordering::Relaxed));
        [&self.start_ticks].into_iter().chain(&self.waits).for_each(|long| long.store(0, Ordering::Relaxed));
    }
}

fn next_generation(generation: u16) -> u16 {
    match (generation + 1) & GENERATION_MASK {
        0 => 1,
        next => next,
    }
}
