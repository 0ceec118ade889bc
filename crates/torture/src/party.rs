//! What is said about parties without anybody checking it: who one is, and who is dead.
//!
//! The harness gives slots to processes by number, plays have one table and their processes one thread each, and it says of
//! somebody that he is dead when it has seen his exit.
#![allow(unsafe_code)]

use swath_sync::{DeathCause, Party, SlotId, SlotTable};

/// Enters a slot that was reserved for the calling process; says whether it still was.
pub(crate) fn enter(table: &'static SlotTable, id: SlotId, arm_life_word: bool) -> bool {
    if arm_life_word {
        // SAFETY: there is no other thread.
        unsafe { table.enter_watched(id) }
    } else {
        table.enter(id)
    }
}

/// Makes it the calling process's identity.
pub(crate) fn install(table: &'static SlotTable, id: SlotId) {
    // SAFETY: 1. by its number it is ours; 2. there is no other table; 3. a process has one role.
    unsafe { Party::install(table, id) };
}

/// The service thread's word after a confirmed exit.
pub(crate) fn confirm_death(table: &SlotTable, id: SlotId, cause: DeathCause) {
    // SAFETY: the exit was seen.
    unsafe { table.mark_dead(id, cause) };
}
