//! One phase from the coordinator's side: publish, wait, take stock, and never return while anybody may still write.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use bytemuck::Zeroable;
use swath_array::Taint;
use swath_platform::signal;
use swath_segment::{Segment, SegmentRef};

use crate::board::{self, Board};
use crate::cause::What;
use crate::checksum::checksum;
use crate::crew::{Crew, Rung, State};
use crate::descriptor::{Descriptor, OperandRef, flag};
use crate::error::{ErrorKind, Result, RowsLeft};
use crate::gather::{ArenaOf, Gather};
use crate::geometry::Geometry;
use crate::ledger::State as Entry;
use crate::limits::{ARGS_INLINE_BYTES, OPERANDS_MAX, SLICE, SLICE_MIN};
use crate::operand::{Bound, Described};
use crate::partial::Partial;
use crate::recovery::Recovery;
use crate::report::Report;
use crate::settings::{Progress, Settings};
use crate::undo;
use crate::watch::Watch;

/// A phase, ready to run.
pub(crate) struct Plan<'p> {
    pub(crate) settings: Settings<'p>,
    pub(crate) operands: Vec<Described<'p>>,
    pub(crate) geometry: Geometry,
    pub(crate) driver: u64,
    pub(crate) kernel: u64,
    pub(crate) init: u64,
    pub(crate) args: Vec<u8>,
    /// Chunks have values.
    pub(crate) values: bool,
    /// Barrier and mutex of a team, and where this process has mapped them.
    pub(crate) team: Option<(SegmentRef, *mut u8)>,
}

impl Plan<'_> {
    /// The team's segment by id, for inline pools.
    pub(crate) fn team_base(&self) -> Option<(u64, *mut u8)> {
        self.team.map(|(segment, base)| (segment.id, base))
    }
}

/// Memory that phases of a pool use again and again.
#[derive(Default)]
pub(crate) struct Memory {
    ledger: Option<Segment>,
    partials: Option<Segment>,
    args: Option<Segment>,
    sequence: u32,
}

impl Memory {
    /// A segment of at least `bytes`, the old one if it is large enough.
    fn at_least(slot: &mut Option<Segment>, label: &'static str, bytes: usize) -> Result<SegmentRef> {
        if slot.as_ref().is_none_or(|segment| segment.len() < bytes) {
            // The old one goes first: two of them may not fit.
            *slot = None;
            *slot = Some(Segment::options().unnamed(label).create(bytes.next_power_of_two().max(4096))?);
        }
        Ok(slot.as_ref().map_or_else(SegmentRef::zeroed, Segment::reference))
    }

    fn base(slot: &Option<Segment>) -> *mut u8 {
        slot.as_ref().map_or(std::ptr::null_mut(), |segment| segment.as_ptr())
    }

    /// Everything that `plan` needs, allocated before any chunk runs, and its descriptor.
    pub(crate) fn describe(&mut self, plan: &Plan<'_>, strict_inputs: bool) -> Result<Box<Descriptor>> {
        let chunks = plan.geometry.chunks();
        self.sequence = self.sequence.checked_add(1).unwrap_or(1);
        let mut d = board::blank();
        d.sequence = self.sequence;
        d.epoch = self.sequence;
        d.flags = flags(plan, strict_inputs);
        (d.driver, d.kernel, d.init) = (plan.driver, plan.kernel, plan.init);
        d.rows = plan.geometry.rows() as u64;
        d.rows_per_chunk = plan.geometry.rows_per_chunk() as u64;
        d.seed = plan.settings.seed;
        d.chunk_timeout_ns = plan.settings.chunk_timeout.map_or(0, |t| t.as_nanos() as u64);
        d.operand_count = plan.operands.len() as u32;
        for (to, operand) in d.operands.iter_mut().zip(&plan.operands) {
            *to = OperandRef::new(operand.array, operand.mode);
        }
        d.ledger = Memory::at_least(&mut self.ledger, "ledger", chunks * size_of::<AtomicU64>())?;
        if plan.values {
            d.partials = Memory::at_least(&mut self.partials, "partials", chunks * size_of::<Partial>())?;
        }
        d.team = plan.team.map_or_else(SegmentRef::zeroed, |team| team.0);
        self.put_args(&mut d, &plan.args)?;
        Ok(d)
    }

    fn put_args(&mut self, d: &mut Descriptor, args: &[u8]) -> Result<()> {
        (d.args_len, d.args_checksum) = (args.len() as u64, checksum(args));
        match d.args_inline.0.get_mut(..args.len()) {
            Some(room) => room.copy_from_slice(args),
            None => {
                debug_assert!(args.len() > ARGS_INLINE_BYTES);
                d.args = Memory::at_least(&mut self.args, "arguments", args.len())?;
                // SAFETY: the segment has room for them, is writable, and no phase is under way that could read it.
                unsafe { std::ptr::copy_nonoverlapping(args.as_ptr(), Memory::base(&self.args), args.len()) };
            }
        }
        Ok(())
    }

    /// The ledger's words.
    pub(crate) fn entries(&self) -> *const AtomicU64 {
        Memory::base(&self.ledger).cast_const().cast()
    }

    /// The table of partials.
    pub(crate) fn partials(&self) -> *const Partial {
        Memory::base(&self.partials).cast_const().cast()
    }

    /// Where this process has mapped what a descriptor names, for inline pools.
    pub(crate) fn known(&self) -> Vec<(u64, *mut u8)> {
        let all = [&self.ledger, &self.partials, &self.args];
        all.into_iter().flatten().map(|segment| (segment.reference().id, segment.as_ptr())).collect()
    }
}

fn flags(plan: &Plan<'_>, strict_inputs: bool) -> u32 {
    let check = cfg!(debug_assertions) || std::env::var_os("SWATH_CHECK").is_some_and(|v| v == "1");
    let mut flags = 0;
    for (set, bit) in [
        (needs_undo(plan), flag::UNDO),
        (check && plan.team.is_none(), flag::CHECK),
        (plan.settings.keep_going, flag::KEEP_GOING),
        (strict_inputs, flag::STRICT_INPUTS),
        (plan.team.is_some(), flag::TEAM),
    ] {
        flags |= if set { bit } else { 0 };
    }
    flags
}

/// A team's arrays are never restored: no part of its work can be run again.
pub(crate) fn needs_undo(plan: &Plan<'_>) -> bool {
    plan.team.is_none() && bound_of(&plan.operands).iter().any(Bound::is_updated)
}

/// Bytes of undo slot per worker.
pub(crate) fn undo_bytes(plan: &Plan<'_>) -> usize {
    let bound = bound_of(&plan.operands);
    undo::bytes(bound.iter().filter(|b| b.is_updated()).map(|b| &b.array), plan.geometry.rows_per_chunk())
}

/// The operands in the coordinator's own mapping.
pub(crate) fn bound_of(operands: &[Described<'_>]) -> Vec<Bound> {
    operands.iter().map(|o| Bound { array: o.array, mode: o.mode, base: o.base }).collect()
}

/// Errors that no worker is needed for.
pub(crate) fn check(operands: &[Described<'_>]) -> Result<()> {
    if operands.len() > OPERANDS_MAX {
        return Err(
            ErrorKind::Shape.with(format!("{} arrays; a phase has at most {OPERANDS_MAX}", operands.len()))
        );
    }
    for operand in operands {
        if let Some(refused) = &operand.refused {
            let name =
                operand.name.map_or_else(|| "an unnamed array".to_owned(), |name| format!("array `{name}`"));
            return Err(ErrorKind::Memory.with(format!("{name}: {refused}")));
        }
        if operand.mode.writes() && operand.array.is_read_only() {
            return Err(
                ErrorKind::Memory.with("an array that was opened read-only cannot be written by a phase")
            );
        }
    }
    Ok(())
}

/// The phase under way. Dropping it on any path, unwinding included, ends the phase: the borrow of `&mut a` ends there.
pub(crate) struct Fence<'r, 'p> {
    crew: &'r Arc<Crew>,
    plan: &'r Plan<'p>,
    epoch: u32,
    over: bool,
}

/// How the wait for the chunks ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Every chunk is DONE or FAILED.
    Complete,
    /// A chunk failed and the phase is not to go on.
    Failed,
    Deadline,
    Interrupted,
    NoWorkers,
}

/// Runs `plan` on `crew`; `finish` takes the values while nothing of the phase has been reused.
pub(crate) fn run<T>(
    crew: &Arc<Crew>,
    memory: &mut Memory,
    mut plan: Plan<'_>,
    options: Options,
    finish: impl FnOnce(&Gather<'_>) -> Result<T>,
) -> Result<(T, Report)> {
    let began = Instant::now();
    let mut progress = plan.settings.progress.take();
    let descriptor = memory.describe(&plan, options.strict_inputs)?;
    let chunks = plan.geometry.chunks();
    {
        let mut state = crew.lock();
        crew.prepare_undo(&mut state, if needs_undo(&plan) { undo_bytes(&plan) } else { 0 })?;
        // SAFETY: the ledger has a word per chunk and lives in `memory`, the operands are borrowed by the plan; the fence
        // below takes the recovery out before either can go.
        let mut recovery = unsafe {
            Recovery::new(memory.entries(), descriptor.epoch, plan.geometry, bound_of(&plan.operands))
        };
        recovery.retries = plan.settings.retries;
        recovery.retry_if = plan.settings.retry_if;
        recovery.team = plan.team.is_some();
        recovery.ledger().open();
        state.phase = Some(recovery);
    }
    let fence = Fence { crew, plan: &plan, epoch: descriptor.epoch, over: false };
    let published = publish(&crew.board, descriptor, chunks, plan.team.is_some());
    let watch = plan.settings.chunk_timeout.map(|limit| Watch::start(crew, fence.epoch, limit));
    let end = fence.wait(began, options.interrupts, &mut progress);
    drop(watch);
    if end != End::Complete {
        fence.drain(end);
    }
    let (recovery, arenas) = fence.lift();
    let report = report(&plan, &recovery, &crew.board, began);
    let gather =
        Gather { epoch: published, ledger: recovery.ledger(), partials: memory.partials(), arenas: &arenas };
    conclude(&plan, end, &recovery, &report)?;
    let value = finish(&gather)?;
    Ok((value, report))
}

/// What the pool wants of every phase.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options {
    pub(crate) strict_inputs: bool,
    pub(crate) interrupts: bool,
}

/// Step 1 of the board's protocol.
pub(crate) fn publish(board: &Board, mut descriptor: Box<Descriptor>, chunks: usize, team: bool) -> u32 {
    let workers = board.workers();
    for (index, cell) in board.cells().enumerate() {
        let (lo, hi) = if team { (0, 0) } else { share(chunks, workers, index) };
        cell.range.set(lo, hi);
        cell.failures.store(0, std::sync::atomic::Ordering::Relaxed);
        cell.flush.store(0, std::sync::atomic::Ordering::Relaxed);
    }
    descriptor.sweeps = board.sweeps();
    board.publish(&descriptor);
    descriptor.epoch
}

/// Contiguous and even: worker `index` of `workers` begins with chunks `lo..hi`.
pub(crate) fn share(chunks: usize, workers: usize, index: usize) -> (u32, u32) {
    let border = |i: usize| (chunks as u128 * i as u128 / workers as u128) as u32;
    (border(index), border(index + 1))
}

impl Fence<'_, '_> {
    /// Waits until the phase is complete, or must be ended.
    fn wait(
        &self,
        began: Instant,
        interrupts: bool,
        progress: &mut Option<crate::settings::ProgressFn<'_>>,
    ) -> End {
        let board = &self.crew.board;
        let chunks = self.plan.geometry.chunks();
        let deadline = self.plan.settings.deadline.map(|d| began + d);
        let mut slice = SLICE_MIN;
        let mut shown = began;
        let mut thorough = chunks == 0;
        loop {
            let heard = board.bell();
            // Asked first, lest a program of phases that are over at the first look never hears of it.
            if interrupts && signal::caught().is_some() {
                return End::Interrupted;
            }
            if let Some(end) = self.look(chunks, thorough) {
                if let Some(show) = progress {
                    show(self.progress(began));
                }
                return end;
            }
            let mut patience = slice;
            if let Some(deadline) = deadline {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return End::Deadline;
                }
                patience = patience.min(left);
            }
            if let Some(show) = progress.as_mut().filter(|_| shown.elapsed() >= SLICE) {
                shown = Instant::now();
                show(self.progress(began));
            }
            board.wait_bell(heard, patience);
            thorough = board.bell() == heard && self.nothing_left_to_take();
            if thorough {
                slice = (slice * 2).min(SLICE);
                self.find_the_lost();
            }
        }
    }

    fn progress(&self, began: Instant) -> Progress {
        let state = self.crew.lock();
        Progress {
            done: self.finished(),
            chunks: self.plan.geometry.chunks(),
            workers: state.members.iter().filter(|m| m.is_present()).count(),
            retried: state.phase.as_ref().map_or(0, |p| p.retried),
            elapsed: began.elapsed(),
        }
    }

    /// Chunks finished, as far as the workers have said: a hint.
    fn finished(&self) -> usize {
        self.crew.board.cells().map(|cell| cell.done(self.epoch) as usize).sum()
    }

    /// Step 4: how the phase ends, if it does now.
    fn look(&self, chunks: usize, thorough: bool) -> Option<End> {
        let reported = self.any_news();
        let mut given_up = 0;
        if reported {
            let mut state = self.crew.lock();
            if self.crew.collect_failures(&mut state) > 0 {
                self.crew.board.announce_sweep();
            }
            if let Some(why) = state.broken.as_ref().filter(|_| !state.members.iter().any(|m| m.is_present()))
            {
                tracing::error!("the pool is broken: {why}");
                return Some(End::NoWorkers);
            }
            let phase = state.phase.as_ref()?;
            given_up = phase.failed.len();
            let go_on = self.plan.settings.keep_going || self.only_poison(phase);
            if given_up > 0 && !go_on {
                return Some(End::Failed);
            }
        }
        // Chunks of dead workers are counted by nobody; given-up ones by the recovery, possibly twice. Only a hint.
        if self.finished() + given_up < chunks && !reported && !thorough {
            return None;
        }
        let tally = self.crew.lock().phase.as_ref()?.tally();
        (tally.done + tally.failed == chunks).then_some(End::Complete)
    }

    /// Chunks that killed their workers are left alone while all others are finished; a kernel's own error ends the phase.
    fn only_poison(&self, phase: &Recovery) -> bool {
        !phase.team
            && phase.failed.values().all(|failure| {
                let last = failure.causes.last().map(|cause| &cause.what);
                matches!(last, Some(What::Exited { .. } | What::Killed { .. } | What::TimedOut { .. }))
            })
    }

    /// Whether a look at the recovery may find something: a failure, a death.
    fn any_news(&self) -> bool {
        let state = self.crew.lock();
        let Some(phase) = &state.phase else { return false };
        let unread = |(index, member): (usize, &crate::crew::Member)| {
            let last = self.crew.board.cell(index).failures.load(std::sync::atomic::Ordering::Acquire);
            last != member.failures_seen.word()
        };
        phase.workers_lost > 0
            || !phase.failed.is_empty()
            || state.broken.is_some()
            || state.members.iter().enumerate().any(unread)
    }

    /// All ranges are empty: what is not finished is in somebody's hand, or lost between a range and the ledger.
    fn nothing_left_to_take(&self) -> bool {
        self.crew.board.cells().all(|cell| cell.range.remaining() == 0)
    }

    /// Step 5: FREE entries that no range covers, as a stopped thief or claimer leaves them, are announced.
    fn find_the_lost(&self) {
        let lost = |phase: &Recovery| !phase.team && phase.ledger().next_free(0).is_some();
        if self.crew.lock().phase.as_ref().is_some_and(lost) {
            self.crew.board.announce_sweep();
        }
    }

    /// Ends the phase early: no new claims, chunks in hand are finished or, for a deadline, their workers killed.
    fn drain(&self, end: End) {
        if let Some(phase) = self.crew.lock().phase.as_mut() {
            phase.ending = true;
        }
        self.crew.board.stop(self.epoch);
        self.await_fence(match end {
            End::Deadline | End::Interrupted => Some(Rung::Terminate),
            // Survivors learn of it at their next barrier; who does not come to one is killed after a grace.
            _ if self.plan.team.is_some() => Some(Rung::Ask),
            _ => None,
        });
    }

    /// Waits until nobody holds a chunk. With a rung, or when waiting takes long while unwinding, whoever holds one is killed;
    /// who cannot be killed taints the arrays that it could write.
    fn await_fence(&self, kill: Option<Rung>) {
        let why = What::Killed { signal: signal::TERM, likely_out_of_memory: false };
        let mut told: Vec<(usize, u16)> = Vec::new();
        loop {
            let heard = self.crew.board.bell();
            let holders = {
                let mut state = self.crew.lock();
                self.crew.collect_failures(&mut state);
                holders(&state)
            };
            if holders.iter().all(|h| h.unkillable) {
                for holder in &holders {
                    self.taint(holder);
                }
                return;
            }
            if let Some(rung) = kill {
                let new: Vec<_> = holders.iter().map(|h| h.who).filter(|who| !told.contains(who)).collect();
                self.crew.kill(&new, rung, &why);
                told.extend(new);
            }
            self.crew.board.wait_bell(heard, SLICE);
        }
    }

    fn taint(&self, holder: &Holder) {
        for operand in self.plan.operands.iter().filter(|o| o.mode.writes()) {
            (operand.taint)(Taint {
                worker: holder.who.0 as u16,
                pid: holder.pid,
                rows: Some(holder.rows.clone()),
                why: format!("no exit within {:?} of SIGKILL", crate::limits::UNKILLABLE_AFTER),
            });
        }
    }

    /// The end: the recovery is taken out, and with it the service thread's way to the arrays. In the same breath the arenas
    /// are noted: a worker that dies later takes its arena with it, and the values in it are still to be read.
    fn lift(mut self) -> (Recovery, Vec<ArenaOf>) {
        self.over = true;
        let mut state = self.crew.lock();
        let mut recovery = state.phase.take().expect("a phase is under way until its fence is lifted");
        recovery.name_the_unexplained();
        let arenas = self.crew.arenas(&mut state);
        (recovery, arenas)
    }
}

impl Drop for Fence<'_, '_> {
    fn drop(&mut self) {
        if !self.over {
            self.drain(End::Interrupted);
            let mut state = self.crew.lock();
            state.phase = None;
            state.past.clear();
        }
    }
}

/// Who has a chunk in hand.
struct Holder {
    who: (usize, u16),
    pid: u32,
    unkillable: bool,
    rows: std::ops::Range<usize>,
}

fn holders(state: &State) -> Vec<Holder> {
    let Some(phase) = &state.phase else { return Vec::new() };
    let ledger = phase.ledger();
    let mut found = Vec::new();
    for (index, member) in state.members.iter().enumerate().filter(|(_, m)| m.is_present()) {
        let owner = crate::ledger::Owner { slot: member.slot.index, generation: member.slot.generation };
        let in_hand = |(_, s): &(usize, Entry)| matches!(s, Entry::Claimed | Entry::Armed);
        if let Some((chunk, _)) = ledger.owned_by(owner).find(in_hand) {
            found.push(Holder {
                who: (index, member.slot.generation),
                pid: member.pid,
                unkillable: member.unkillable,
                rows: phase.geometry.rows_of(chunk),
            });
        }
    }
    found
}

/// The phase's account.
pub(crate) fn report(plan: &Plan<'_>, recovery: &Recovery, board: &Board, began: Instant) -> Report {
    let mut report = Report::new(&plan.settings.name, board.workers());
    report.chunks = plan.geometry.chunks();
    report.rows_per_chunk = plan.geometry.rows_per_chunk();
    report.committed_by_worker = board.cells().map(|cell| u64::from(cell.done(recovery.epoch))).collect();
    report.retried = recovery.retried;
    report.killed_in_chunk = recovery.killed_in_chunk;
    report.workers_lost = recovery.workers_lost;
    report.failed = recovery.failed.values().cloned().collect();
    report.wall = began.elapsed();
    report
}

/// The phase's error, if it has one.
pub(crate) fn conclude(plan: &Plan<'_>, end: End, recovery: &Recovery, report: &Report) -> Result<()> {
    let name = if plan.settings.name.is_empty() {
        "the phase".to_owned()
    } else {
        format!("phase `{}`", plan.settings.name)
    };
    let error = match end {
        End::Complete if report.failed.is_empty() || plan.settings.keep_going => return Ok(()),
        End::Complete | End::Failed if plan.team.is_some() => {
            ErrorKind::Team.with(format!("{name}: a member of the team failed"))
        }
        End::Complete | End::Failed => {
            let (failed, all) = (report.failed.len(), report.chunks);
            ErrorKind::Failed.with(format!("{name}: {failed} of {all} chunks failed"))
        }
        End::Deadline => {
            let after = plan.settings.deadline.unwrap_or(Duration::ZERO);
            ErrorKind::Deadline.with(format!("{name} was not done after {after:?}"))
        }
        End::Interrupted => {
            let by = signal::caught().map_or_else(|| "the program".to_owned(), signal::name);
            ErrorKind::Interrupted.with(format!("{name} was interrupted by {by}"))
        }
        End::NoWorkers => {
            ErrorKind::NoWorkers.with(format!("{name}: all workers are gone and no new ones come up"))
        }
    };
    Err(error.with_failures(report.failed.clone()).with_rows(rows_left(plan, recovery)))
}

/// What became of the rows, as ranges.
fn rows_left(plan: &Plan<'_>, recovery: &Recovery) -> RowsLeft {
    let mut left = RowsLeft::default();
    let writes_out = plan.operands.iter().any(|o| o.mode == crate::descriptor::Mode::Out);
    let ledger = recovery.ledger();
    for chunk in 0..ledger.len() {
        let entry = ledger.entry(chunk);
        let torn = plan.team.is_some()
            || (writes_out && (entry.attempt() > 0 || entry.state() == Some(Entry::Failed)));
        let list = match entry.state() {
            Some(Entry::Done) => &mut left.done,
            _ if torn => &mut left.unknown,
            _ => &mut left.untouched,
        };
        let rows = recovery.geometry.rows_of(chunk);
        match list.last_mut() {
            Some(last) if last.end == rows.start => last.end = rows.end,
            _ => list.push(rows),
        }
    }
    left
}
