//! A worker's end: its exit is confirmed, what it held is taken back, its slot is free, and a successor follows or not.

use std::fs::File;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use swath_platform::process::{self, ExitStatus};
use swath_platform::signal;
use swath_segment::Reactor;
use swath_sync::{DeathCause, SlotState};

use super::{Crew, Past, State};
use crate::arena::{self, At, Kind};
use crate::board::Cell;
use crate::cause::{Cause, LastWords, What};
use crate::contract::Farewell;
use crate::error::ErrorKind;
use crate::ledger::Owner;
use crate::limits::{FINALIZER_TIMEOUT, LAST_WORDS};
use crate::process::Exceeded;
use crate::relay::Tap;
use crate::respawn::Decision;
use crate::task::desk::Kill;
use crate::worker::EXIT_LOST;

/// A worker that is gone.
struct Departed {
    pid: u32,
    kind: ErrorKind,
    what: What,
    /// Unless it has said itself why it left.
    last_words: Vec<String>,
    /// It had come up before.
    was_up: bool,
    /// It left by itself.
    retired: bool,
    /// All do.
    leaving: bool,
    /// Chunks that are free again.
    freed: usize,
    /// Workers that run tasks for nobody since it died.
    condemned: Vec<Kill>,
    decision: Decision,
    tap: Option<Tap>,
}

impl Crew {
    /// The fence: the exit of worker `index` is confirmed. On the service thread.
    pub(super) fn exited(self: &Arc<Self>, reactor: &mut Reactor, index: usize, generation: u16) {
        let Some(gone) = self.bury(index, generation) else { return };
        if let Some(tap) = gone.tap {
            tap.close();
        }
        for kill in gone.condemned {
            self.end_task(reactor, &kill, What::Cancelled);
        }
        if gone.freed > 0 {
            self.board.announce_sweep();
        }
        if self.desk.get().is_some() {
            // It may have been the one that was woken for a task.
            self.board.ring_doorbell();
        }
        if gone.leaving {
            self.changed.notify_all();
            self.board.ring_bell();
            return;
        }
        if gone.retired && self.contract.idle_timeout.is_some() && self.stays_away() {
            return;
        }
        let Departed { pid, what, last_words, .. } = gone;
        let why =
            format!("workers do not come up; the last one (pid {pid}): {what}{}", LastWords(&last_words));
        if !gone.was_up {
            tracing::warn!("{why}");
        }
        self.follow(reactor, index, gone.decision, (gone.kind, why));
    }

    /// Takes the dead worker's status, and back what it held; gives its slot free. `None` if that was done before.
    fn bury(&self, index: usize, generation: u16) -> Option<Departed> {
        let mut state = self.lock();
        let member = &mut state.members[index];
        if member.slot.generation != generation {
            return None;
        }
        let pidfd = member.pidfd.take()?;
        let (slot, pid, fate) = (member.slot, member.pid, member.fate.take());
        let tap = member.tap.take();
        let (status, usage) = process::reap_with_usage(&*pidfd).ok().flatten().unzip();
        // Whatever its kernels started dies with it.
        let _ = process::kill_group(pid, signal::KILL);
        let (slots, cell) = (self.session.slots(), self.board.cell(index));
        let was_up = slots.state(slot.index).0 == SlotState::Live && cell.is_ready();
        let retired = cell.has_retired() && status.is_some_and(|s| s.code() == Some(0));
        let farewell = member.arena.as_ref().and_then(|arena| read_farewell(arena, cell));
        let cause = status.map_or(DeathCause::UNKNOWN, |s| DeathCause(s.raw()));
        // SAFETY: its pidfd says that it has exited.
        unsafe { slots.mark_dead(slot, cause) };
        let oom_kill = state.notice_oom_kill();
        // It may have died by itself before our signal came.
        let ours = status.is_some_and(|s| matches!(s.signal(), Some(signal::TERM | signal::KILL)));
        let fate_was_ours = fate.is_some();
        let mut what = fate.filter(|_| ours).unwrap_or_else(|| what_of(status, oom_kill));
        let mut kind = ErrorKind::Spawn;
        match farewell {
            Some(words) if was_up => {
                let words = words.map_err(|what| Cause::new(index, pid, what));
                state.farewells.push((index, words));
            }
            Some(Err(why)) => (kind, what) = (ErrorKind::Initializer, why),
            None if was_up && state.leaving && self.contract.finalizer.is_some() => {
                // It had its time for that, if it was not already dead.
                let limit = self.contract.finalizer_timeout.unwrap_or(FINALIZER_TIMEOUT);
                let why = if ours { What::TimedOut { limit } } else { what.clone() };
                state.farewells.push((index, Err(Cause::new(index, pid, why))));
            }
            // Nothing else has a limit before it is up.
            None if !was_up && matches!(what, What::TimedOut { .. }) => kind = ErrorKind::Initializer,
            _ => {}
        }
        let mut last_words = self.journals.close(index);
        let exceeded = match (&what, &usage) {
            (What::Killed { signal, .. }, Some(usage)) => {
                Exceeded::by(*signal, usage.cpu, fate_was_ours, &self.contract.limits)
            }
            _ => None,
        };
        let peak_bytes = usage.map(|usage| usage.peak_bytes).filter(|peak| *peak > process::own_peak_bytes());
        let said = last_words.clone();
        let cause = Cause { exceeded, peak_bytes, last_words: said, ..Cause::new(index, pid, what.clone()) };
        last_words.truncate(if kind == ErrorKind::Initializer { 0 } else { LAST_WORDS });
        let cause = cause.struck(cell.crash.read());
        let (freed, condemned) = self.take_back(&mut state, index, cause);
        slots.release(slot);
        if retired && let Some(phase) = &mut state.phase {
            phase.workers_lost -= 1;
        }
        // One that came up and could then not do what all have to says as little as one that did not come up.
        let is_lost = status.is_some_and(|s| s.code() == Some(EXIT_LOST));
        let decision = match &what {
            _ if was_up && !is_lost => state.respawn.lost(),
            What::Killed { signal: signal::KILL, .. } => state.respawn.killed_at_start(),
            _ => state.respawn.failed_to_start(),
        };
        let leaving = state.leaving;
        state.died += u64::from(!retired && !leaving);
        Some(Departed {
            pid,
            kind,
            what,
            last_words,
            was_up,
            retired,
            leaving,
            freed,
            condemned,
            decision,
            tap,
        })
    }

    /// Whether a worker that has left for want of work is not needed now. Whoever has work says so first, and looks here then.
    fn stays_away(&self) -> bool {
        let needed = || self.lock().phase.is_some() || self.desk.get().is_some_and(|desk| !desk.is_idle());
        self.dormant.fetch_add(1, Ordering::SeqCst);
        if needed() {
            self.dormant.fetch_sub(1, Ordering::SeqCst);
            return false;
        }
        true
    }

    /// Takes back what the dead worker of cell `index` held; how many chunks are free again, and who is to be killed for it.
    fn take_back(&self, state: &mut State, index: usize, cause: Cause) -> (usize, Vec<Kill>) {
        let member = &mut state.members[index];
        let owner = Owner { slot: member.slot.index, generation: member.slot.generation };
        let cell = self.board.cell(index);
        let flush = cell.flush.load(Ordering::Acquire);
        self.collect_failures_of(state, index);
        let member = &mut state.members[index];
        let undo = member.undo.as_ref().map_or(ptr::null_mut(), |segment| segment.as_ptr());
        // Between phases nobody wants its values any more.
        let arena = member.arena.take().filter(|_| state.phase.is_some());
        state.past.extend(arena.map(|arena| Past {
            cell: index,
            generation: owner.generation,
            arena,
            flush,
        }));
        let freed = state.phase.as_mut().map_or(0, |phase| {
            let locked = cell.locked(phase.epoch);
            phase.take_back(owner, &cause, (flush, locked), undo).freed
        });
        let condemned = self.desk.get().map(|desk| desk.take_back(owner, &cause));
        // Whatever it had changed has been put back.
        self.board.unlock(index);
        (freed, condemned.unwrap_or_default())
    }
}

/// The last words of the worker whose arena this is.
fn read_farewell(arena: &File, cell: &Cell) -> Option<Farewell> {
    let at = At::from_word(cell.farewell.load(Ordering::Acquire));
    let record = arena::read(arena, 0, Kind::Farewell, at).ok()?;
    postcard::from_bytes(&record.bytes).ok()
}

pub(super) fn what_of(status: Option<ExitStatus>, oom_kill: bool) -> What {
    match status.map(|s| (s.signal(), s.code())) {
        Some((Some(signal), _)) => {
            What::Killed { signal, likely_out_of_memory: oom_kill && signal == signal::KILL }
        }
        Some((None, Some(code))) => What::Exited { code },
        _ => What::Setup {
            message: "its process is gone, and the host program has taken its exit status".into(),
        },
    }
}
