//! The second way to learn that a party is dead which nobody watches: the lock that it holds while it lives.
//!
//! The lock lies on a file, and files are for the layer above: it registers, for each slot table that this process
//! uses, a function that says whether a slot's lock is free.

use std::ptr;
use std::sync::{Mutex, PoisonError};

use crate::slots::SlotTable;

/// Whether nobody holds the lock of the slot with this index; `None` if it cannot be told.
pub type LockProbe = fn(&SlotTable, u16) -> Option<bool>;

static PROBES: Mutex<Vec<(usize, LockProbe)>> = Mutex::new(Vec::new());

/// Registers how the locks of the parties of `table` are looked at; replaces an earlier function for the same table.
pub fn register_lock_probe(table: &'static SlotTable, probe: LockProbe) {
    let mut probes = PROBES.lock().unwrap_or_else(PoisonError::into_inner);
    let key = ptr::from_ref(table).addr();
    probes.retain(|(known, _)| *known != key);
    probes.push((key, probe));
}

pub(crate) fn lock_is_free(table: &SlotTable, index: u16) -> Option<bool> {
    let key = ptr::from_ref(table).addr();
    let probes = PROBES.lock().unwrap_or_else(PoisonError::into_inner);
    let probe = probes.iter().find(|(known, _)| *known == key)?.1;
    drop(probes);
    probe(table, index)
}
