//! One worker's turn at one phase: finding chunks, owning them, and letting them take effect.
//!
//! Worker processes and inline pools run the same code; only how segments are reached differs ([`Attach`]).

use std::ops::Range;
use std::slice;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use swath_array::DType;
use swath_segment::member;
use swath_sync::Party;

use crate::arena::{Arena, At, Kind};
use crate::attach::Attach;
use crate::board::{Board, Cell, Flush};
use crate::cause::{Cause, Fault, What, shorten};
use crate::checksum::checksum;
use crate::descriptor::{Descriptor, Mode, flag};
use crate::freight;
use crate::geometry::Geometry;
use crate::kernel;
use crate::ledger::{Claim, Ledger, Owner};
use crate::limits::PARTIAL_INLINE_BYTES;
use crate::locked::{self, Site};
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
        found.ok_or_else(|| setup("the kernel is not in this executable"))
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
        self.hand.left -= 1;
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

    // ---- set-up, once per turn, with a claim in hand -----------------------------------------------------------------

    /// Attaches arrays, undo slot and partials, and decodes the arguments.
    pub(crate) fn prepare<A: DeserializeOwned>(
        &mut self,
        arrays: usize,
        check: fn(&[Bound]) -> Result<(), swath_array::Error>,
    ) -> Result<A, Fault> {
        self.prepare_memory()?;
        if self.bound.len() < arrays {
            return Err(setup("the phase names fewer arrays than its kernel takes"));
        }
        check(&self.bound).map_err(|e| setup(e.to_string()))?;
        self.args()
    }

    /// As `prepare`, for phases without arrays whose arguments are not one encoded value.
    pub(crate) fn prepare_bytes(&mut self) -> Result<&'t [u8], Fault> {
        self.prepare_memory()?;
        self.arg_bytes()
    }

    fn prepare_memory(&mut self) -> Result<(), Fault> {
        if self.hand.arena_epoch != self.descriptor.epoch {
            self.hand.arena.clear().map_err(|e| setup(format!("its arena: {e}")))?;
            self.hand.arena_epoch = self.descriptor.epoch;
        }
        self.bind().map_err(setup)
    }

    fn bind(&mut self) -> Result<(), String> {
        let strict = self.descriptor.has(flag::STRICT_INPUTS);
        for operand in self.descriptor.operands() {
            let mode = operand.mode().ok_or("an operand of an unknown kind")?;
            if strict && !mode.writes() {
                self.hand.attach.make_read_only(&operand.array.segment);
            }
            let base = self.hand.attach.get(&operand.array.segment, mode.writes())?;
            self.bound.push(Bound::new(operand.array, mode, base));
        }
        self.bind_undo()?;
        if self.descriptor.partials.id != 0 {
            let table = &self.descriptor.partials;
            if table.len < (self.geometry.chunks() * size_of::<Partial>()) as u64 {
                return Err("the table of partials is shorter than its phase".into());
            }
            self.partials = self.hand.attach.get(table, true)?.cast();
        }
        Ok(())
    }

    fn bind_undo(&mut self) -> Result<(), String> {
        let locked = self.bound.iter().any(Bound::is_locked);
        if !locked && !self.descriptor.has(flag::UNDO) {
            return Ok(());
        }
        let slot = self.cell().undo();
        let rows = undo::bytes(&self.bound, self.geometry.rows_per_chunk());
        if rows.saturating_add(locked::bytes(&self.bound)) as u64 > slot.len {
            return Err("the undo slot is too small".into());
        }
        self.undo = self.hand.attach.get(&slot, true)?;
        if locked {
            let (board, epoch) = (self.hand.board, self.descriptor.epoch);
            let copy = self.undo.wrapping_add(rows);
            let site = Box::new(Site::new(board, self.hand.index, epoch, &self.bound, copy));
            for operand in self.bound.iter_mut().filter(|b| b.is_locked()) {
                operand.site = &raw const *site;
            }
            self.site = Some(site);
        }
        Ok(())
    }

    fn args<A: DeserializeOwned>(&mut self) -> Result<A, Fault> {
        freight::unpack(self.arg_bytes()?).map_err(|why| setup(format!("its arguments do not decode: {why}")))
    }

    fn arg_bytes(&mut self) -> Result<&'t [u8], Fault> {
        let (descriptor, len) = (self.descriptor, self.descriptor.args_len as usize);
        let bytes: &'t [u8] = match descriptor.args_inline.0.get(..len) {
            Some(inline) => inline,
            None => {
                let segment = &descriptor.args;
                if segment.len < len as u64 {
                    return Err(setup("the arguments are longer than their segment"));
                }
                let base = self.hand.attach.get(segment, false).map_err(setup)?;
                // SAFETY: in bounds by the check above; the coordinator wrote it before it published the phase, and does
                // not change it while a claim is held; mappings stay until `retire`, which happens between turns.
                unsafe { slice::from_raw_parts(base, len) }
            }
        };
        if checksum(bytes) != descriptor.args_checksum {
            return Err(setup("the arguments did not arrive whole"));
        }
        Ok(bytes)
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
        let base = self.hand.attach.get(&self.descriptor.team, true).map_err(setup)?;
        // A worker may have a session of its own besides.
        // SAFETY: 1. the team's barrier and mutex are the pool's, all of whose workers are of that session.
        let party = unsafe { member() };
        let party = party.map_err(|e| setup(e.to_string()))?;
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
        match postcard::to_slice(value, &mut short) {
            Ok(encoded) => self.put_bytes(held, encoded),
            Err(postcard::Error::SerializeBufferFull) => {
                let encoded = postcard::to_stdvec(value).map_err(|e| unencodable::<R>(&e))?;
                self.put_bytes(held, &encoded)
            }
            Err(e) => Err(unencodable::<R>(&e)),
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
        appended.map_err(|e| setup(format!("no room for {} bytes of result: {e}", bytes.len())))
    }

    // ---- accumulators ------------------------------------------------------------------------------------------------

    /// The chunk's value is in the accumulator.
    pub(crate) fn fold(&mut self, held: InHand) -> Option<usize> {
        let chunk = held.chunk();
        self.ledger.fold(held.claim).then_some(chunk)
    }

    /// Publishes an accumulator and lets the chunks that it holds take effect. In order: (a) the record is written, (b) one
    /// store of the cell's flush word publishes it, (c) the chunks become DONE, (d) a second store says that they all are.
    /// *Killed before b*: they are FOLDED and run again. *Killed after b*: whoever repairs sets the rest to DONE.
    pub(crate) fn flush<Acc: Serialize>(&mut self, accumulator: &Acc, chunks: &[usize]) -> Result<(), Fault> {
        let epoch = self.descriptor.epoch;
        let encoded = postcard::to_stdvec(accumulator).map_err(|e| unencodable::<Acc>(&e))?;
        let word = self.cell().flush.load(Ordering::Relaxed);
        let previous = Flush::of_epoch(word, epoch).map_or(At::NONE, |flush| At::from_word(flush.at));
        let at = self.append(Kind::Accumulator, &encoded, previous)?;
        self.cell().flush.store(Flush::new(at.word(), false, epoch).word(), Ordering::Release);
        for &chunk in chunks {
            self.ledger.commit_folded(chunk, self.hand.owner);
        }
        self.cell().flush.store(Flush::new(at.word(), true, epoch).word(), Ordering::Release);
        self.count(chunks.len() as u32);
        Ok(())
    }

    /// An accumulator cannot be published: its chunks fail, for the same reason each.
    #[cold]
    pub(crate) fn fail_folded(&mut self, chunks: &[usize], what: &Fault) {
        for &chunk in chunks {
            self.ledger.unfold(chunk, self.hand.owner);
            if let Some(held) = self.take(chunk) {
                self.fail(held, What::clone(what));
            }
        }
    }

    /// Throws an accumulator away: its chunks are run again by whoever finds them.
    #[cold]
    pub(crate) fn discard(&mut self, chunks: &[usize]) {
        for &chunk in chunks {
            self.ledger.unfold(chunk, self.hand.owner);
        }
        if !chunks.is_empty() {
            self.hand.board.announce_sweep();
        }
    }
}

#[cold]
fn setup(message: impl Into<String>) -> Fault {
    Box::new(What::Setup { message: shorten(message.into()) })
}

#[cold]
fn unencodable<R>(error: &postcard::Error) -> Fault {
    Box::new(What::Failed {
        message: format!("its result of type {} cannot be encoded: {error}", std::any::type_name::<R>()),
        chain: Vec::new(),
    })
}
