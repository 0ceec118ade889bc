//! How the death of a party is learnt which nobody watches: by its pid, and by the lock that it holds while it lives.
//!
//! The lock lies on a file, and files are for the layer above: it registers, for each slot table that this process
//! uses, how the locks are looked at and whether the table's pids mean something here.

use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use swath_platform::process;

use crate::slots::{SlotTable, Witness};

/// What a process knows about the other parties of a table. Without it nobody's death is believed but what the table says.
#[derive(Clone)]
pub struct Peers {
    /// Whether pids in the table are of our pid namespace.
    pub same_pids: bool,
    /// Whether nobody holds the lock of the slot with this index; `None` if that cannot be told.
    pub lock_is_free: Arc<dyn Fn(u16) -> Option<bool> + Send + Sync>,
}

static KNOWN: Mutex<Vec<(usize, Peers)>> = Mutex::new(Vec::new());

fn known() -> MutexGuard<'static, Vec<(usize, Peers)>> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn key(table: &SlotTable) -> usize {
    ptr::from_ref(table).addr()
}

impl Peers {
    /// Registers this for `table`, in the place of what was registered before.
    ///
    /// # Safety
    /// 1. `same_pids` only if the pids in `table` mean to this process what they meant to who noted them;
    /// 2. `lock_is_free` says `Some(true)` of a slot only if its party (one that no service thread watches) has not entered
    ///    yet, has ended, or will not use anything any more that it has as a party.
    pub unsafe fn register(self, table: &'static SlotTable) {
        let mut known = known();
        known.retain(|(other, _)| *other != key(table));
        known.push((key(table), self));
    }

    /// Forgets what was registered for `table`.
    pub fn forget(table: &'static SlotTable) {
        known().retain(|(other, _)| *other != key(table));
    }
}

/// Whether the party is gone, as far as the kernel tells us: its process has exited, or (of one that has entered) nobody holds
/// its lock any more, as after an `exec`.
pub(crate) fn is_gone(table: &SlotTable, index: u16, witness: Witness, entered: bool) -> Option<bool> {
    let peers = known().iter().find(|(other, _)| *other == key(table)).map(|(_, peers)| peers.clone())?;
    let (pid, ticks) = (table.pid(index), table.start_ticks(index));
    let by_pid = pid != 0 && witness == Witness::Pidfd && peers.same_pids;
    let answer = if by_pid { process::has_exited(pid, ticks) } else { None };
    if answer == Some(true) || (answer.is_some() && !entered) {
        return answer;
    }
    (peers.lock_is_free)(index).or(answer)
}
