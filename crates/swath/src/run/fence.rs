//! The fence: whatever way a phase ends, nobody writes to its arrays afterwards.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use swath_array::Taint;
use swath_platform::signal;

use super::plan::Plan;
use crate::cause::What;
use crate::crew::{Crew, Member, Rung, State};
use crate::gather::ArenaOf;
use crate::ledger::{Owner, State as Entry};
use crate::limits::{SLICE_MIN, UNKILLABLE_AFTER};
use crate::recovery::Recovery;
use crate::settings::{Progress, ProgressFn};
use swath_sync::SLICE;

/// The phase under way. Dropping it on any path, unwinding included, ends the phase: the borrow of `&mut a` ends there.
pub(crate) struct Fence<'r, 'p> {
    pub(super) crew: &'r Arc<Crew>,
    pub(super) plan: &'r Plan<'p>,
    pub(super) epoch: u32,
    pub(super) over: bool,
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

impl Fence<'_, '_> {
    /// Waits until the phase is complete, or must be ended.
    pub(super) fn wait(
        &self,
        began: Instant,
        interrupts: bool,
        progress: &mut Option<ProgressFn<'_>>,
    ) -> End {
        let board = &self.crew.board;
        let chunks = self.plan.geometry.chunks();
        let deadline = self.plan.settings.deadline.and_then(|limit| began.checked_add(limit));
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
            if let Some(why) = state
                .broken
                .as_ref()
                .map(|(_, why)| why)
                .filter(|_| !state.members.iter().any(|m| m.is_present()))
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
        let unread = |(index, member): (usize, &Member)| {
            let last = self.crew.board.cell(index).failures.load(Ordering::Acquire);
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
    pub(super) fn drain(&self, end: End) {
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
                rows: operand.mode.is_cut().then(|| holder.rows.clone()),
                why: format!("no exit within {:?} of SIGKILL", UNKILLABLE_AFTER),
            });
        }
    }

    /// The end: the recovery is taken out, and with it the service thread's way to the arrays. In the same breath the arenas
    /// are noted: a worker that dies later takes its arena with it, and the values in it are still to be read.
    pub(super) fn lift(mut self) -> (Recovery, Vec<ArenaOf>) {
        self.over = true;
        // A worker that comes late may find the ledger gone before there is another phase: it is to know why.
        self.crew.board.stop(self.epoch);
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
    rows: Range<usize>,
}

fn holders(state: &State) -> Vec<Holder> {
    let Some(phase) = &state.phase else { return Vec::new() };
    let ledger = phase.ledger();
    let mut found = Vec::new();
    for (index, member) in state.members.iter().enumerate().filter(|(_, m)| m.is_present()) {
        let owner = Owner { slot: member.slot.index, generation: member.slot.generation };
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
