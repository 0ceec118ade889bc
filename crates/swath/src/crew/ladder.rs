//! The kill ladder, one for time-outs, deadlines, interrupts and the end of the pool.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use swath_platform::{process, signal};
use swath_segment::{Reactor, Service};

use super::forkserver::Forkserver;
use super::{Crew, State};
use crate::cause::What;
use crate::limits::{FINALIZER_TIMEOUT, TERM_GRACE, UNKILLABLE_AFTER};
use crate::task::desk::Kill;
use swath_sync::SLICE;

/// The rungs of the kill ladder. A time-out begins at the first, an end of the phase at the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rung {
    /// The kernel may look at `ctx.cancelled()`.
    Ask,
    /// SIGTERM.
    Terminate,
    /// SIGKILL of the worker and its process group.
    Kill,
    /// The exit is still not confirmed.
    Unkillable,
}

impl Crew {
    /// Kills worker `index`, beginning at `rung`. On the service thread.
    pub(crate) fn escalate(
        self: &Arc<Self>,
        reactor: &mut Reactor,
        index: usize,
        generation: u16,
        rung: Rung,
        why: What,
    ) {
        let mut state = self.lock();
        let member = &mut state.members[index];
        let Some(pidfd) = member.pidfd.clone().filter(|_| member.slot.generation == generation) else {
            return;
        };
        member.fate.get_or_insert(why.clone());
        let pid = member.pid;
        let mut asked = 0;
        let (next, pause) = match rung {
            Rung::Ask => {
                let cell = self.board.cell(index);
                asked = cell.claims.load(Ordering::Relaxed);
                cell.cancel.store(asked, Ordering::Relaxed);
                (Rung::Terminate, TERM_GRACE)
            }
            Rung::Terminate => {
                let _ = process::pidfd_signal(&*pidfd, signal::TERM);
                (Rung::Kill, TERM_GRACE)
            }
            Rung::Kill => {
                let _ = process::pidfd_signal(&*pidfd, signal::KILL);
                let _ = process::kill_group(pid, signal::KILL);
                (Rung::Unkillable, UNKILLABLE_AFTER)
            }
            Rung::Unkillable => {
                member.unkillable = true;
                tracing::error!("worker {index} (pid {pid}) does not die of SIGKILL");
                drop(state);
                self.changed.notify_all();
                self.board.ring_bell();
                return;
            }
        };
        drop(state);
        let crew = Arc::downgrade(self);
        let climb = move |reactor: &mut Reactor| {
            if let Some(crew) = crew.upgrade() {
                crew.climb(reactor, (index, generation, asked), next, why);
            }
        };
        reactor.after(pause, Box::new(climb));
    }

    /// The next rung, unless what it is about, the claim that was `asked` to stop, has come to its end.
    fn climb(
        self: &Arc<Self>,
        reactor: &mut Reactor,
        (index, generation, asked): (usize, u16, u64),
        rung: Rung,
        why: What,
    ) {
        if rung == Rung::Terminate {
            let mut state = self.lock();
            if state.members[index].slot.generation != generation {
                // Its successor may be halted for a task of its own.
                return;
            }
            let cell = self.board.cell(index);
            let desk = self.desk.get();
            let is_task = asked != 0 && desk.is_some_and(|desk| desk.halts(index, asked));
            let is_over = match is_task {
                true => desk.is_some_and(|desk| desk.resume(index)),
                // It has another one in hand, or none.
                false => cell.claims.load(Ordering::Relaxed) != asked || cell.in_hand().is_none(),
            };
            if is_over {
                state.members[index].fate = None;
                return;
            }
        }
        self.escalate(reactor, index, generation, rung, why);
    }

    /// Ends a halted worker for the sake of its task. On the service thread.
    pub(crate) fn end_task(self: &Arc<Self>, reactor: &mut Reactor, kill: &Kill, why: What) {
        if self.desk.get().is_some_and(|desk| desk.still_halts(kill)) {
            self.escalate(reactor, kill.worker, kill.generation, kill.rung(), why);
        }
    }

    /// Ends all workers and waits until each exit is confirmed. Idempotent.
    pub(crate) fn dismiss(self: &Arc<Self>) {
        self.lock().leaving = true;
        self.board.shut_down();
        self.end_template();
        let mut rung = Rung::Terminate;
        let finalizer = self.contract.finalizer.as_ref().map(|_| self.contract.finalizer_timeout);
        let mut patience = finalizer.map_or(TERM_GRACE, |limit| limit.unwrap_or(FINALIZER_TIMEOUT));
        loop {
            let deadline = Instant::now().checked_add(patience);
            if self.wait_absent(deadline) {
                self.settle();
                return;
            }
            if rung == Rung::Unkillable {
                tracing::error!("a worker does not die; its memory stays mapped until it does");
                return;
            }
            self.kill_all(rung);
            (rung, patience) = (Rung::Unkillable, TERM_GRACE + UNKILLABLE_AFTER + SLICE);
        }
    }

    /// After this the service thread has let go of the crew, so that the session ends with its last owner and not a moment
    /// after `main` has returned; and what the workers printed has been passed on, if somebody reads it.
    fn settle(&self) {
        Service::global().call(|_| ());
        self.outlet.drain();
    }

    fn wait_absent(&self, deadline: Option<Instant>) -> bool {
        let mut state = self.lock();
        let has_template = |state: &State| state.forkserver.as_ref().is_some_and(Forkserver::is_present);
        while has_template(&state) || state.members.iter().any(|m| m.pidfd.is_some()) {
            let left = deadline.map_or(SLICE, |at| at.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return false;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Begins to kill every worker that is there.
    pub(crate) fn kill_all(self: &Arc<Self>, rung: Rung) {
        let present: Vec<(usize, u16)> = {
            let state = self.lock();
            let members = state.members.iter().enumerate();
            members.filter(|(_, m)| m.pidfd.is_some()).map(|(index, m)| (index, m.slot.generation)).collect()
        };
        self.kill(&present, rung, &What::Killed { signal: signal::TERM, likely_out_of_memory: false });
    }

    /// Begins to kill these workers.
    pub(crate) fn kill(self: &Arc<Self>, whom: &[(usize, u16)], rung: Rung, why: &What) {
        Service::global().call(|reactor| {
            for (index, generation) in whom {
                self.escalate(reactor, *index, *generation, rung, why.clone());
            }
        });
    }
}
