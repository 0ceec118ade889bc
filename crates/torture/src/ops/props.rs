//! What of swath lies on the stage, and who plays: the slot table, a lock, an event, a barrier, and a count.
//!
//! The checker has slot 0 and plays the service thread, the victim has slot 1, companion `n` slot `n + 2`, the dead and the
//! forerunner the last two; all of generation 1, because every run begins with a fresh table.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU32, Ordering};

use swath_sync::{
    Barrier, BarrierPlan, DeathCause, Event, InPlace, Mutex, Party, Plan, SlotId, SlotState, SlotTable,
};

use crate::scenario::{Finding, Verdict, expect};
use crate::stage::{STATE_BYTES, Stage};
use crate::{party, victim, watchdog};

const LOCK_AT: usize = 512 * 1024;
const EVENT_AT: usize = LOCK_AT + 256;
const BARRIER_AT: usize = LOCK_AT + 512;
const COUNTS_AT: usize = LOCK_AT + 2048;
/// The count that is no count of survivors.
const BARRIER_PARTIES: usize = 7;
/// Where the operations of the engine keep their words.
pub(crate) const ENGINE_AT: usize = LOCK_AT + 4096;
const _: () = assert!(size_of::<SlotTable>() <= LOCK_AT && ENGINE_AT < STATE_BYTES);

/// The raw wait status of a process killed by SIGKILL.
const KILLED: DeathCause = DeathCause(libc::SIGKILL as u32);

/// The checker's slot.
pub(crate) const CHECKER: SlotId = SlotId { index: 0, generation: 1 };
/// The victim's slot.
pub(crate) const VICTIM: SlotId = SlotId { index: 1, generation: 1 };
/// The slot of somebody who is dead before the play begins.
pub(crate) const DEAD: SlotId = SlotId { index: 5, generation: 1 };
/// The forerunner's slot.
pub(crate) const FORERUNNER: SlotId = SlotId { index: 6, generation: 1 };
const PARTIES: u16 = 7;

/// Companion `n`'s slot.
pub(crate) fn companion(n: usize) -> SlotId {
    SlotId { index: n as u16 + 2, generation: 1 }
}

/// The value under the lock: two halves that are equal when nobody holds it.
pub(crate) type Pair = [u64; 2];

/// One more in both halves: not atomic, and not to be reordered into one store, for that is what a lock is for.
pub(crate) fn change(pair: &mut Pair) {
    pair[0] += 1;
    std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
    std::hint::black_box(&mut *pair);
    pair[1] += 1;
}

/// Under a lock that says that all is well.
pub(crate) fn look(pair: &Pair) -> Finding {
    expect(pair[0] == pair[1], || format!("acquired as if whole, but the halves are {pair:?}"))?;
    Ok(Verdict::Clean)
}

/// What whoever is told of a death does.
pub(crate) fn repair(pair: &mut Pair) {
    *pair = [pair[0].max(pair[1]); 2];
}

/// By what the death of the victim becomes known.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum News {
    /// The kernel's mark on the life word, then the service thread.
    Both,
    /// The mark alone: the service thread is slow (it says nothing until the survivors are through).
    Mark,
    /// The service thread alone: the life word is not armed.
    Service,
}

/// The table of this run.
pub(crate) fn table(stage: &Stage) -> &'static SlotTable {
    // SAFETY: page-aligned, large enough (asserted above), zero at the start of a run, mapped until the process ends, and
    // `Stage::clear` replaces it only when nobody of the last run is left.
    unsafe { SlotTable::from_ptr(stage.base()) }
}

/// The lock.
pub(crate) fn lock(stage: &Stage) -> &'static Mutex<Pair> {
    // SAFETY: (1) aligned, in bounds, 'static mapping; (2) zero at first, and nothing else lies there; (3) one table.
    unsafe { Mutex::at(stage.base().add(LOCK_AT)) }
}

/// The event.
pub(crate) fn event(stage: &Stage) -> &'static Event {
    // SAFETY: (1) aligned, in bounds, 'static mapping; (2) zero at first, and nothing else lies there.
    unsafe { Event::at(stage.base().add(EVENT_AT)) }
}

/// Makes the barrier; by `Scenario::set`.
pub(crate) fn set_barrier(stage: &Stage, parties: &[SlotId]) {
    place_barrier(stage, Barrier::of(parties));
}

/// The same, of a plan.
pub(crate) fn place_barrier(stage: &Stage, plan: BarrierPlan) {
    let parties = plan.cells();
    assert!(Barrier::layout(parties).is_some_and(|layout| layout.size() <= COUNTS_AT - BARRIER_AT));
    count(stage, BARRIER_PARTIES).store(parties as u32, Ordering::SeqCst);
    // SAFETY: (1) 64-aligned, in bounds (asserted), zero at the start of a run; (2) the run has not begun.
    unsafe { plan.place(stage.base().add(BARRIER_AT)) };
}

/// The barrier.
pub(crate) fn barrier(stage: &Stage) -> &'static Barrier {
    let parties = read(stage, BARRIER_PARTIES) as usize;
    // SAFETY: (1) the mapping is 'static; (2) every scenario that asks for it has called `set_barrier` in `set`.
    unsafe { Barrier::at(stage.base().add(BARRIER_AT), parties) }
}

/// Makes an object at `offset`, one that no other scenario uses; by `Scenario::set`.
pub(crate) fn place<P: Plan>(stage: &Stage, offset: usize, plan: P) {
    let layout = P::Object::layout(plan.cells()).expect("a small object");
    assert!(
        offset >= ENGINE_AT && offset.is_multiple_of(layout.align()) && offset + layout.size() <= STATE_BYTES
    );
    // SAFETY: (1) in bounds and aligned (asserted), zero at the start of a run; (2) the run has not begun.
    unsafe { plan.place(stage.base().add(offset)) }
}

/// The object that was placed there; zero bytes are an object too where its type says so.
pub(crate) fn object<T: InPlace + ?Sized>(stage: &Stage, offset: usize, cells: usize) -> &'static T {
    let layout = T::layout(cells).expect("a small object");
    assert!(
        offset >= ENGINE_AT && offset.is_multiple_of(layout.align()) && offset + layout.size() <= STATE_BYTES
    );
    // SAFETY: (1) in bounds and aligned (asserted), the mapping is 'static; (2) `place` or zero, by `set`.
    unsafe { T::at(stage.base().add(offset), cells) }
}

/// Words for what the survivors count.
pub(crate) fn count(stage: &Stage, which: usize) -> &'static AtomicU32 {
    let words: &'static [AtomicU32; 8] = stage.part(COUNTS_AT);
    &words[which]
}

/// Reserves the slots of everyone; by `Scenario::set`.
pub(crate) fn reserve_all(stage: &Stage) {
    let table = table(stage);
    for index in 0..PARTIES {
        assert_eq!(
            table.reserve(),
            Some(SlotId { index, generation: 1 }),
            "a fresh table hands out slots in order"
        );
    }
}

/// Enters `id` and becomes it.
pub(crate) fn become_party(stage: &Stage, id: SlotId, arm_life_word: bool) -> Party {
    let table = table(stage);
    party::install(table, id);
    assert!(party::enter(table, id, arm_life_word), "the slot was reserved");
    Party::current().expect("installed")
}

/// What the service thread does after the confirmed exit.
pub(crate) fn confirm_death(stage: &Stage, id: SlotId) {
    party::confirm_death(table(stage), id, KILLED);
}

/// The slots of the dead are free again and can be given to newcomers.
pub(crate) fn release(stage: &Stage, id: SlotId) -> Result<(), String> {
    let table = table(stage);
    table.release(id);
    match table.state(id.index) {
        (SlotState::Free, generation) if generation == id.generation => Ok(()),
        other => Err(format!("a released slot is {other:?}")),
    }
}

/// A party that does `deed` and ends without undoing it, before the play begins; its death is confirmed.
pub(crate) fn died_before(stage: &Stage, deed: impl FnOnce(&Party)) {
    let role = crate::stage::ROLES - 2;
    let forked = victim::fork_role(stage, role, || {
        deed(&become_party(stage, DEAD, true));
        Ok(crate::scenario::Verdict::Clean)
    });
    if let Ok(pid) = forked {
        watchdog::reap(pid, true);
    }
    confirm_death(stage, DEAD);
}

/// Adds one to a count.
pub(crate) fn add(stage: &Stage, which: usize) {
    count(stage, which).fetch_add(1, Ordering::SeqCst);
}

/// Reads a count.
pub(crate) fn read(stage: &Stage, which: usize) -> u32 {
    count(stage, which).load(Ordering::SeqCst)
}
