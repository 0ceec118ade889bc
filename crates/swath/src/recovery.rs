//! What the coordinator knows about the phase under way, and how it takes back what a dead worker held.
//!
//! Step 6 of the ledger's protocol. Called by the service thread after the fence, and by the coordinator's thread for failures
//! that living workers report; both under the crew's lock.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::atomic::AtomicU64;

use crate::arena::{self, At, Kind};
use crate::board::Flush;
use crate::cause::{Cause, ChunkFailure, What};
use crate::geometry::Geometry;
use crate::ledger::{Ledger, Owner, State, Tally};
use crate::operand::Bound;
use crate::undo;

/// Of very many causes of one chunk, so many of the first and of the last are kept.
const CAUSES_KEPT: usize = 16;

/// Attempts at one chunk so far.
#[derive(Default)]
struct History {
    attempts: u32,
    causes: Vec<Cause>,
}

impl History {
    fn add(&mut self, cause: Cause) {
        self.attempts += 1;
        if self.causes.len() >= 2 * CAUSES_KEPT {
            self.causes.remove(CAUSES_KEPT);
        }
        self.causes.push(cause);
    }
}

/// Decides whether a chunk whose kernel failed is tried again.
pub(crate) type RetryIf = fn(&What) -> bool;

/// The phase under way.
pub(crate) struct Recovery {
    entries: *const AtomicU64,
    pub(crate) epoch: u32,
    pub(crate) geometry: Geometry,
    /// The arrays, in the coordinator's own mapping.
    pub(crate) bound: Vec<Bound>,
    pub(crate) retries: u32,
    pub(crate) retry_if: Option<RetryIf>,
    /// A team's ranks are never run again.
    pub(crate) team: bool,
    /// No chunk is to be run again: the phase is being ended.
    pub(crate) ending: bool,
    histories: BTreeMap<usize, History>,
    pub(crate) failed: BTreeMap<usize, ChunkFailure>,
    pub(crate) retried: u64,
    pub(crate) killed_in_chunk: u64,
    pub(crate) workers_lost: u64,
}

// SAFETY: the pointer is to the ledger's mapping, which outlives the phase; all access is atomic.
unsafe impl Send for Recovery {}

/// What taking back the chunks of a dead worker led to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TakenBack {
    /// Chunks that are FREE again, in nobody's range.
    pub(crate) freed: usize,
    /// Chunks given up.
    pub(crate) failed: usize,
}

impl Recovery {
    /// A phase of `geometry.chunks()` chunks.
    ///
    /// # Safety
    /// 1. `entries` points at one atomic per chunk, mapped until the recovery is dropped.
    /// 2. `bound` is mapped writable where it is written, as long as that, and checked.
    pub(crate) unsafe fn new(
        entries: *const AtomicU64,
        epoch: u32,
        geometry: Geometry,
        bound: Vec<Bound>,
    ) -> Recovery {
        Recovery {
            entries,
            epoch,
            geometry,
            bound,
            retries: 0,
            retry_if: None,
            team: false,
            ending: false,
            histories: BTreeMap::new(),
            failed: BTreeMap::new(),
            retried: 0,
            killed_in_chunk: 0,
            workers_lost: 0,
        }
    }

    /// The ledger.
    pub(crate) fn ledger(&self) -> Ledger<'_> {
        let chunks = self.geometry.chunks();
        let entries = match chunks {
            0 => &[],
            // SAFETY: by 1 of `new`.
            _ => unsafe { std::slice::from_raw_parts(self.entries, chunks) },
        };
        Ledger::new(entries, self.epoch)
    }

    pub(crate) fn tally(&self) -> Tally {
        self.ledger().tally()
    }

    /// Step 6, for all that the fenced `owner` held. `locked` is the chunk of this phase with which it had the locked
    /// operands, `flush` the worker's flush word, `undo_slot` the coordinator's mapping of its undo slot.
    pub(crate) fn take_back(
        &mut self,
        owner: Owner,
        cause: &Cause,
        (flush, locked): (u64, Option<usize>),
        undo_slot: *mut u8,
    ) -> TakenBack {
        self.workers_lost += 1;
        let published = Flush::of_epoch(flush, self.epoch).is_some_and(|f| !f.swept);
        let held: Vec<(usize, State)> = self.ledger().owned_by(owner).collect();
        let mut taken = TakenBack::default();
        let mut in_hand = false;
        for (chunk, state) in held {
            match state {
                // The worker published its accumulator and died before it had told the ledger so.
                State::Folded if published => {
                    self.ledger().take_back(chunk, owner, State::Done);
                    continue;
                }
                // Its value died with the accumulator; the chunk did no harm, so this is no attempt of its own.
                State::Folded => {
                    self.ledger().take_back(chunk, owner, State::Free);
                    taken.freed += 1;
                    continue;
                }
                State::Armed => {
                    let rows = self.geometry.rows_of(chunk);
                    // SAFETY: operands are bound to the coordinator's mapping (2 of `new`); ARMED says that the slot holds a
                    // whole copy; the worker is fenced, so nobody else touches the rows or the slot.
                    unsafe { undo::restore(&self.bound, &rows, undo_slot) };
                }
                _ => {}
            }
            if locked == Some(chunk) {
                let copy = undo_slot.wrapping_add(undo::bytes(&self.bound, self.geometry.rows_per_chunk()));
                // SAFETY: bound as above; the cell's word says that the copy is whole; the worker is fenced, and the lock
                // is still in its name.
                unsafe { crate::locked::restore(&self.bound, copy) };
            }
            in_hand = true;
            if self.another_attempt(chunk, cause.clone(), true) {
                self.ledger().take_back(chunk, owner, State::Free);
                taken.freed += 1;
            } else {
                self.ledger().take_back(chunk, owner, State::Failed);
                taken.failed += 1;
            }
        }
        self.killed_in_chunk += u64::from(in_hand);
        taken
    }

    /// A living worker reports that `chunk` failed; it has put the rows back and set the entry to FAILED. True when the
    /// chunk is FREE again.
    pub(crate) fn reported(&mut self, chunk: usize, cause: Cause) -> bool {
        if chunk >= self.geometry.chunks() {
            return false;
        }
        let retriable = match &cause.what {
            What::TimedOut { .. } => true,
            what => self.retry_if.is_some_and(|wanted| wanted(what)),
        };
        self.another_attempt(chunk, cause, retriable) && self.ledger().retry(chunk)
    }

    /// Notes the end of an attempt, and says whether there is another one.
    fn another_attempt(&mut self, chunk: usize, cause: Cause, retriable: bool) -> bool {
        let history = self.histories.entry(chunk).or_default();
        history.add(cause);
        // A team's failures are all worth telling: the first one reported is rarely the one that began it.
        if self.ending && !self.team {
            return true;
        }
        if retriable && !self.team && history.attempts <= self.retries {
            self.retried += 1;
            return true;
        }
        let failure = ChunkFailure {
            chunk,
            rows: self.geometry.rows_of(chunk),
            attempts: history.attempts,
            causes: history.causes.clone(),
        };
        self.failed.insert(chunk, failure);
        false
    }

    /// FAILED entries whose reason did not arrive get one that says so.
    pub(crate) fn name_the_unexplained(&mut self) {
        let ledger = self.ledger();
        let unexplained: Vec<usize> = (0..ledger.len())
            .filter(|chunk| {
                ledger.entry(*chunk).state() == Some(State::Failed) && !self.failed.contains_key(chunk)
            })
            .collect();
        for chunk in unexplained {
            let what = What::Setup { message: "the worker had no memory left to say why".into() };
            let failure = ChunkFailure {
                chunk,
                rows: self.geometry.rows_of(chunk),
                attempts: 1,
                causes: vec![Cause::new(0, 0, what)],
            };
            self.failed.insert(chunk, failure);
        }
    }
}

/// The failures in a worker's arena that are newer than `seen`, oldest first.
pub(crate) fn read_failures(arena: &File, epoch: u32, last: At, seen: At) -> Vec<(usize, Cause)> {
    let mut found = Vec::new();
    let mut at = last;
    while at != seen && at != At::NONE {
        // A record of an earlier phase ends the list.
        let Ok(record) = arena::read(arena, epoch, Kind::Failure, at) else { break };
        if let Ok((chunk, cause)) = postcard::from_bytes::<(u64, Cause)>(&record.bytes) {
            found.push((chunk as usize, cause));
        }
        at = record.previous;
    }
    found.reverse();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Owner = Owner { slot: 2, generation: 3 };

    fn died() -> Cause {
        Cause::new(0, 1, What::Killed { signal: 9, likely_out_of_memory: false })
    }

    fn recovery(words: &[AtomicU64], retries: u32) -> Recovery {
        let geometry = Geometry::ranks(words.len());
        // SAFETY: the words outlive the recovery in these tests, and there are no operands.
        let mut recovery = unsafe { Recovery::new(words.as_ptr(), 9, geometry, Vec::new()) };
        recovery.retries = retries;
        recovery.ledger().open();
        recovery
    }

    #[test]
    fn a_chunk_is_tried_retries_plus_one_times() {
        let words: Vec<AtomicU64> = (0..2).map(|_| AtomicU64::new(0)).collect();
        let mut recovery = recovery(&words, 2);
        for attempt in 0..3 {
            assert_eq!(recovery.ledger().claim(1, OWNER).expect("free").attempt(), attempt);
            let taken = recovery.take_back(OWNER, &died(), (0, None), std::ptr::null_mut());
            let last = attempt == 2;
            assert_eq!(taken, TakenBack { freed: usize::from(!last), failed: usize::from(last) });
        }
        assert_eq!(recovery.tally(), Tally { free: 1, failed: 1, ..Tally::default() });
        assert_eq!((recovery.retried, recovery.killed_in_chunk), (2, 3));
        let failure = &recovery.failed[&1];
        assert_eq!((failure.attempts, failure.causes.len()), (3, 3));
    }

    #[test]
    fn folded_chunks_follow_their_accumulator() {
        let words: Vec<AtomicU64> = (0..1).map(|_| AtomicU64::new(0)).collect();
        let fold = |recovery: &Recovery| {
            let claim = recovery.ledger().claim(0, OWNER).expect("free");
            assert!(recovery.ledger().fold(claim));
        };
        let mut lost = recovery(&words, 0);
        fold(&lost);
        assert_eq!(lost.take_back(OWNER, &died(), (0, None), std::ptr::null_mut()).freed, 1);
        assert!(lost.failed.is_empty(), "an accumulated chunk did not kill anybody");
        fold(&lost);
        let published = Flush::new(1, false, 9).word();
        assert_eq!(
            lost.take_back(OWNER, &died(), (published, None), std::ptr::null_mut()),
            TakenBack::default()
        );
        assert_eq!(lost.tally().done, 1);
    }
}
