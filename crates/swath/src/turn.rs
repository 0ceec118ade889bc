//! One worker's turn at one phase: finding chunks, owning them, and letting them take effect.
//!
//! Worker processes and inline pools run the same code; only how segments are reached differs ([`Attach`]).

mod accumulators;
mod binding;

use std::ops::Range;
use std::slice;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use swath_array::DType;
use swath_segment::member;
use swath_sync::Party;

use crate::arena::{Arena, At, Kind};
use crate::attach::Attach;
use crate::board::{Board, Cell};
use crate::cause::{Cause, Fault, What};
use crate::descriptor::{Descriptor, Mode, flag};
use crate::freight::{self, Complete};
use crate::geometry::Geometry;
use crate::kernel;
use crate::ledger::{Claim, Ledger, Owner};
use crate::limits::PARTIAL_INLINE_BYTES;
use crate::locked::Site;
use crate::operand::{Bound, Operand};
use crate::partial::Partial;
use crate::undo;

/// What a worker keeps from phase to phase.
pub(crate) struct Hand {
    /// The pool's board.
    pub(crate) board: Board,
    /// Index of its cell.
    pub(crate) index: usize,
    /// Its slot and generation.
    pub(crate) owner: Owner,
    /// Its process id.
    pub(crate) pid: u32,
    /// Its way to segments.
    pub(crate) attach: Attach,
    /// Its arena.
    pub(crate) arena: Arena,
    /// The epoch that the arena's records belong to.
    pub(crate) arena_epoch: u32,
    /// Claims of all its phases.
    pub(crate) claims: u64,
    /// Chunks and tasks that it may still do before it is replaced.
    pub(crate) left: u64,
    /// It is the coordinator itself: nobody else looks at failures meanwhile.
    pub(crate) inline: bool,
}

/// A chunk in hand.
pub(crate) struct InHand {
    claim: Claim,
    armed: bool,
    /// Its rows.
    pub(crate) rows: Range<usize>,
}

impl InHand {
    #[inline]
    pub(crate) fn chunk(&self) -> usize {
        self.claim.chunk()
    }

    #[inline]
    pub(crate) fn attempt(&self) -> u32 {
        self.claim.attempt()
    }
}

/// A turn.
pub(crate) struct Turn<'t> {
    pub(crate) hand: &'t mut Hand,
    pub(crate) descriptor: &'t Descriptor,
    ledger: Ledger<'t>,
    geometry: Geometry,
    /// Chunks finished in this epoch.
    done: u32,
    /// Sweeps seen to their end.
    swept: u32,
    sweep_from: Option<usize>,
    // What follows is known from the first claim on.
    bound: Vec<Bound>,
    undo: *mut u8,
    /// Of locked operands. Boxed: they point at it.
    site: Option<Box<Site>>,
    partials: *mut Partial,
}

impl<'t> Turn<'t> {
    /// A turn at the phase that `descriptor` (a private copy) describes. An error means that the phase cannot be reached, as
    /// happens to a worker that slept through it.
    pub(crate) fn new(hand: &'t mut Hand, descriptor: &'t Descriptor) -> Result<Turn<'t>, String> {
        let rows = descriptor.rows as usize;
        let geometry = Geometry::from_parts(rows, descriptor.rows_per_chunk as usize);
        let entries: &'t [AtomicU64] = if geometry.chunks() == 0 {
            &[]
        } else {
            if (descriptor.ledger.len as usize) / 8 < geometry.chunks() {
                return Err("the ledger is shorter than its phase".into());
            }
            let base = hand.attach.get(&descriptor.ledger, true)?;
            // SAFETY: the mapping has room by the check above, is page-aligned, and is only accessed as atomics; mappings
            // stay until `retire`, which happens between turns.
            unsafe { slice::from_raw_parts(base.cast::<AtomicU64>(), geometry.chunks()) }
        };
        let done = hand.board.cell(hand.index).done(descriptor.epoch);
        Ok(Turn {
            ledger: Ledger::new(entries, descriptor.epoch),
            geometry,
            done,
            swept: descriptor.sweeps,
            sweep_from: None,
            bound: Vec::new(),
            undo: std::ptr::null_mut(),
            site: None,
            partials: std::ptr::null_mut(),
            hand,
            descriptor,
        })
    }

    #[inline]
    fn cell(&self) -> &Cell {
        self.hand.board.cell(self.hand.index)
    }

    /// The kernel, as the function type that the driver knows.
    ///
    /// # Safety
    /// 1. `F` is the `fn` type whose address the coordinator named in this descriptor, next to the driver that calls this.
    pub(crate) unsafe fn function<F: Copy>(&self, name: u64) -> Result<F, Fault> {
        // SAFETY: by 1.
        let found = unsafe { kernel::function(name) };
        found.ok_or_else(What::not_here)
    }

    // ---- claims ------------------------------------------------------------------------------------------------------

    /// The next chunk: of the own range, else half of somebody's, else what a sweep finds.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<InHand> {
        loop {
            if self.hand.board.stopped(self.descriptor.epoch) || self.hand.left == 0 {
                return None;
            }
            let chunk = match self.cell().range.take() {
                Some(chunk) => chunk as usize,
                None if self.steal() => continue,
                None => self.sweep()?,
            };
            if let Some(claim) = self.ledger.claim(chunk, self.hand.owner) {
                return Some(self.hold(claim));
            }
        }
    }

    /// Claims exactly `chunk`: how a team's ranks take their places.
    pub(crate) fn take(&mut self, chunk: usize) -> Option<InHand> {
        let claim = self.ledger.claim(chunk, self.hand.owner)?;
        Some(self.hold(claim))
    }

    #[inline]
    fn hold(&mut self, claim: Claim) -> InHand {
        self.hand.claims += 1;
        // A team's members take their places even if they have done their share.
        self.hand.left = self.hand.left.saturating_sub(1);
        let (cell, claims) = (self.hand.board.cell(self.hand.index), self.hand.claims);
        cell.claims.store(claims, Ordering::Relaxed);
        cell.set_current(self.descriptor.epoch, Some(claim.chunk()));
        InHand { rows: self.geometry.rows_of(claim.chunk()), armed: false, claim }
    }

    /// Moves the back half of the longest range of all into the own one.
    #[cold]
    fn steal(&mut self) -> bool {
        let own = self.hand.index;
        let cells = self.hand.board.cells().enumerate().filter(|(index, _)| *index != own);
        let Some((_, victim)) = cells.max_by_key(|(_, cell)| cell.range.remaining()) else { return false };
        let Some((lo, hi)) = victim.range.steal() else { return false };
        // Killed or stopped here, the stolen chunks are in nobody's range: FREE in the ledger, found by a sweep.
        self.cell().range.set(lo, hi);
        true
    }

    /// Scans the ledger for FREE chunks if some were announced since the last scan.
    #[cold]
    fn sweep(&mut self) -> Option<usize> {
        loop {
            let from = match self.sweep_from {
                Some(from) => from,
                None => {
                    let announced = self.hand.board.sweeps();
                    if announced == self.swept {
                        return None;
                    }
                    self.swept = announced;
                    0
                }
            };
            let found = self.ledger.next_free(from);
            self.sweep_from = found.map(|chunk| chunk + 1);
            if found.is_some() {
                return found;
            }
        }
    }

    /// Whether chunks were given back since the phase began, which deaths do.
    pub(crate) fn deaths_in_this_phase(&self) -> bool {
        self.hand.board.sweeps() != self.descriptor.sweeps
    }

    /// Nothing in hand: says so, for time-outs.
    pub(crate) fn idle(&self) {
        self.cell().set_current(self.descriptor.epoch, None);
    }

    // ---- life of a chunk ---------------------------------------------------------------------------------------------

    /// Step 3 of the ledger's protocol for operands with undo; the check pattern for the others.
    #[inline]
    pub(crate) fn begin(&mut self, held: &mut InHand) {
        if self.descriptor.has(flag::UNDO) {
            // SAFETY: operands are checked and attached (prepare), rows are of a chunk inside them, the slot is this
            // worker's own and large enough (bind), and the claim makes the rows ours.
            unsafe { undo::save(&self.bound, &held.rows, self.undo) };
            held.armed = self.ledger.arm(&mut held.claim);
        }
        if let Some(site) = &self.site {
            site.begin(held.chunk());
        }
        if self.descriptor.has(flag::CHECK) {
            self.fill_with_pattern(&held.rows);
        }
    }

    /// The views of a chunk in hand.
    ///
    /// # Safety
    /// 1. `prepare` succeeded in this turn, with `O`'s count and check.
    /// 2. The views are dropped before `held` is finished or failed.
    #[inline]
    pub(crate) unsafe fn views<'v, O: Operand>(&self, held: &InHand) -> O::View<'v> {
        // SAFETY: checked and attached by 1; the rows lie inside; the claim in `held` is ours until 2.
        unsafe { O::view(&self.bound, &held.rows) }
    }

    /// The operands of a prepared turn.
    pub(crate) fn bound(&self) -> &[Bound] {
        &self.bound
    }

    /// Where the team meets; `None` in an inline pool.
    pub(crate) fn meeting(&mut self) -> Result<Option<(*mut u8, Party)>, Fault> {
        if self.hand.inline {
            return Ok(None);
        }
        let base = self.hand.attach.get(&self.descriptor.team, true).map_err(What::setup)?;
        // A worker may have a session of its own besides.
        // SAFETY: 1. the team's barrier and mutex are the pool's, all of whose workers are of that session.
        let party = unsafe { member() };
        let party = party.map_err(|e| What::setup(e.to_string()))?;
        Ok(Some((base, party)))
    }

    /// Every byte of the rows of `out` operands set to a value that no kernel can take for its own.
    fn fill_with_pattern(&self, rows: &Range<usize>) {
        for operand in self.bound.iter().filter(|b| b.mode == Mode::Out && b.array.is_c_order()) {
            let dtype = DType::from_code(operand.array.dtype);
            let float =
                matches!(dtype, Some(DType::Float32 | DType::Float64 | DType::Complex64 | DType::Complex128));
            let pattern = if float { 0xff } else { 0xa5 };
            let row_bytes = operand.array.row_bytes();
            let at = operand.array.data_offset as usize + rows.start * row_bytes;
            // SAFETY: C order, so the rows are contiguous; they lie inside the array, which is mapped writable; any bits are
            // a value of any element type; the chunk is ours.
            unsafe { operand.base.add(at).write_bytes(pattern, rows.len() * row_bytes) };
        }
    }

    /// Writes the chunk's value where the coordinator finds it once the chunk is DONE.
    pub(crate) fn put_value<R: Serialize>(&mut self, held: &InHand, value: &R) -> Result<(), Fault> {
        let mut short = [0u8; PARTIAL_INLINE_BYTES];
        match postcard::to_slice(&Complete(value), &mut short) {
            Ok(encoded) => self.put_bytes(held, encoded),
            Err(postcard::Error::SerializeBufferFull) => {
                let encoded = freight::encode(value).map_err(What::unencodable::<R>)?;
                self.put_bytes(held, &encoded)
            }
            Err(e) => Err(What::unencodable::<R>(freight::reason(e))),
        }
    }

    /// As `put_value`, of a value that is encoded already.
    pub(crate) fn put_bytes(&mut self, held: &InHand, encoded: &[u8]) -> Result<(), Fault> {
        let entry = match Partial::inline(encoded) {
            Some(entry) => entry,
            None => {
                let at = self.append(Kind::Value, encoded, At::NONE)?;
                Partial::in_arena(self.hand.index, self.hand.owner.generation, at)
            }
        };
        // SAFETY: the table has an entry per chunk (bind), and only the chunk's owner writes it.
        unsafe { self.partials.add(held.chunk()).write(entry) };
        Ok(())
    }

    /// Step 5: the chunk takes effect.
    #[inline]
    pub(crate) fn commit(&mut self, held: InHand) {
        if self.ledger.commit(held.claim) {
            self.count(1);
        }
        if let Some(site) = &self.site {
            site.leave(false);
        }
    }

    #[inline]
    fn count(&mut self, chunks: u32) {
        self.done += chunks;
        self.hand.board.cell(self.hand.index).set_done(self.descriptor.epoch, self.done);
    }

    /// The chunk is given up: its rows are put back, the reason is published, the coordinator is told.
    #[cold]
    pub(crate) fn fail(&mut self, held: InHand, what: What) {
        if held.armed {
            // SAFETY: as in `begin`; the slot holds a whole copy, since the claim is armed, and we are its owner.
            unsafe { undo::restore(&self.bound, &held.rows, self.undo) };
        }
        if let Some(site) = &self.site {
            site.leave(true);
        }
        let cause = Cause::new(self.hand.index, self.hand.pid, what);
        let record = postcard::to_stdvec(&(held.chunk() as u64, cause)).unwrap_or_default();
        let previous = At::from_word(self.cell().failures.load(Ordering::Relaxed));
        // Without room for the record the chunk fails all the same; the coordinator then says that the reason is lost.
        if let Ok(at) = self.hand.arena.append(self.descriptor.epoch, Kind::Failure, &record, previous) {
            self.cell().failures.store(at.word(), Ordering::Release);
        }
        if self.ledger.fail(held.claim) {
            self.count(1);
        }
        if self.hand.inline && !self.descriptor.has(flag::KEEP_GOING) {
            self.hand.board.stop(self.descriptor.epoch);
        }
        self.hand.board.ring_bell();
    }

    /// What to say of a chunk that took too long.
    #[cold]
    pub(crate) fn timed_out(&self) -> Fault {
        Box::new(What::TimedOut { limit: Duration::from_nanos(self.descriptor.chunk_timeout_ns) })
    }

    fn append(&mut self, kind: Kind, bytes: &[u8], previous: At) -> Result<At, Fault> {
        let appended = self.hand.arena.append(self.descriptor.epoch, kind, bytes, previous);
        appended.map_err(|e| What::setup(format!("no room for {} bytes of result: {e}", bytes.len())))
    }
}
