//! Who waits for whom: published by those who wait long, walked to find a cycle.
//!
//! A waiter that has slept a whole slice writes a record into its slot: its thread, the owner it waits for, a number
//! for this wait, and a count of its looks at the lock. A walk follows owner → record → owner … for at most
//! [`CYCLE_MAX`] steps. A cycle is reported only if two walks found the same waits and *every* waiter of it has looked
//! in between (twice, to be sure that one look was whole) and seen the same owner: a waiter that slept through a hand-over cannot make a false cycle. (D1–D4)

use std::sync::atomic::AtomicU32 as PrivateU32;

use crate::atomics::{AtomicU64, Ordering};
use crate::limits::CYCLE_MAX;
use crate::owner::{Holder, OWNER_MASK, Owner};
use crate::party::Party;
use crate::slots::{Liveness, SlotTable};

const LOOKS_SHIFT: u32 = 30;
const LOOKS_MASK: u64 = (1 << 10) - 1;
const NUMBER_SHIFT: u32 = 40;
const THREAD_SHIFT: u32 = 56;

/// One wait: `thread + 1:8 | number:16 | looks:10 | owner:30`. 0 is an empty cell.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
struct Record(u64);

impl Record {
    fn new(me: Owner, number: u16, looks: u32, owner: Owner) -> Self {
        Self(
            (u64::from(me.thread()) + 1) << THREAD_SHIFT
                | u64::from(number) << NUMBER_SHIFT
                | (u64::from(looks) & LOOKS_MASK) << LOOKS_SHIFT
                | u64::from(owner.bits()),
        )
    }

    fn is_of_thread(self, thread: u8) -> bool {
        self.0 >> THREAD_SHIFT == u64::from(thread) + 1
    }

    fn owner(self) -> Option<Owner> {
        Owner::of_word((self.0 & u64::from(OWNER_MASK)) as u32)
    }

    fn looks(self) -> u64 {
        self.0 >> LOOKS_SHIFT & LOOKS_MASK
    }

    /// The same wait for the same owner, however often looked at.
    fn is_same_wait(self, other: Self) -> bool {
        (self.0 ^ other.0) & !(LOOKS_MASK << LOOKS_SHIFT) == 0
    }

    /// Two looks later than `before`. One is not enough: the look that it counts may have been on its way already.
    fn confirms(self, before: Self) -> bool {
        self.looks().wrapping_sub(before.looks()) & LOOKS_MASK >= 2
    }
}

/// A waiter's published wait and its memory of the last walk. Withdrawn when dropped.
pub(crate) struct Watch {
    cell: Option<&'static AtomicU64>,
    number: u16,
    looks: u32,
    before: Vec<(Owner, Record)>,
}

impl Watch {
    pub(crate) fn new() -> Self {
        Self { cell: None, number: 0, looks: 0, before: Vec::new() }
    }

    /// Called after each slice in which the lock was seen to be held by `owner`: publishes that, and walks. Returns the
    /// parties of a cycle through `me`, beginning with `me`, when it is certain.
    pub(crate) fn look(&mut self, party: &Party, owner: Owner) -> Option<Vec<Holder>> {
        self.publish(party, owner);
        let now = walk(party.table(), party.owner(), owner);
        if now.is_empty() || !same_path(&self.before, &now) {
            self.before = now; // D3: the first walk, or the first of this path
            return None;
        }
        // D4: a waiter that has not looked yet gets another slice; what it was seen at stays the measure.
        let certain = now.iter().zip(&self.before).all(|((_, new), (_, old))| new.confirms(*old));
        let table = party.table();
        let parties = || now.iter().map(|(owner, _)| table.holder(*owner));
        certain.then(|| std::iter::once(table.holder(party.owner())).chain(parties()).collect())
    }

    /// D1, D2: into a cell of the own slot; with all cells taken by sibling threads this wait stays unpublished.
    fn publish(&mut self, party: &Party, owner: Owner) {
        static NUMBER: PrivateU32 = PrivateU32::new(0);
        let me = party.owner();
        if let Some(cell) = self.cell {
            self.looks += 1;
            cell.store(Record::new(me, self.number, self.looks, owner).0, Ordering::Release);
            return;
        }
        self.number = NUMBER.fetch_add(1, Ordering::Relaxed) as u16;
        let record = Record::new(me, self.number, self.looks, owner);
        self.cell = party
            .table()
            .waits(me.slot().index)
            .iter()
            .find(|cell| cell.compare_exchange(0, record.0, Ordering::AcqRel, Ordering::Relaxed).is_ok());
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(cell) = self.cell {
            cell.store(0, Ordering::Release);
        }
    }
}

/// The owners from `first` round to `me`, each with what it published; empty if the path does not come round.
fn walk(table: &SlotTable, me: Owner, first: Owner) -> Vec<(Owner, Record)> {
    let mut path = Vec::new();
    let mut owner = first;
    while owner != me {
        let known = path.len() >= CYCLE_MAX || path.iter().any(|(passed, _)| *passed == owner);
        let record = if known { None } else { wait_of(table, owner) };
        let Some((record, next)) = record.and_then(|record| Some((record, record.owner()?))) else {
            return Vec::new();
        };
        path.push((owner, record));
        owner = next;
    }
    path
}

fn wait_of(table: &SlotTable, owner: Owner) -> Option<Record> {
    let waits = table.waits(owner.slot().index).iter().map(|cell| Record(cell.load(Ordering::Acquire)));
    let record = waits.into_iter().find(|record| record.is_of_thread(owner.thread()))?;
    // Read after the record: a dead party's record means nothing, its locks are about to be recovered.
    (table.liveness(owner.slot()) == Liveness::Alive).then_some(record)
}

fn same_path(before: &[(Owner, Record)], now: &[(Owner, Record)]) -> bool {
    before.len() == now.len()
        && before.iter().zip(now).all(|((old, before), (new, now))| old == new && now.is_same_wait(*before))
}
