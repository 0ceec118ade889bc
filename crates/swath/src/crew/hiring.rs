//! Starting workers, and deciding what follows when one does not start.

use std::ffi::CString;
use std::fs::File;
use std::io::PipeWriter;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use swath_platform::spawn::{Child, SpawnSelf};
use swath_platform::{life, process};
use swath_segment::{Keep, Reactor, Session};
use swath_sync::{DeathCause, SlotId, SlotState, Witness};

use super::ladder::Rung;
use super::{Crew, Member};
use crate::arena::At;
use crate::cause::What;
use crate::error::ErrorKind;
use crate::init;
use crate::ledger::Owner;
use crate::limits::HANDSHAKE;
use crate::log::place::BELL_FD;
use crate::memory_file;
use crate::output::{Lines, Stream};
use crate::process::lineage;
use crate::relay::Tap;
use crate::respawn::Decision;
use crate::worker::Assignment;

/// What there is for a worker before it is there.
pub(super) struct Recruit {
    pub(super) slot: SlotId,
    pub(super) arena: File,
    pub(super) tap: Tap,
}

impl Crew {
    /// Starts a worker in cell `index`. On the service thread.
    pub(super) fn hire(self: &Arc<Self>, reactor: &mut Reactor, index: usize) {
        self.hire_all(reactor, [index]);
    }

    /// Starts a worker in each of these cells. They need a while to come up, so all are started before one is put on the list.
    pub(super) fn hire_all(self: &Arc<Self>, reactor: &mut Reactor, cells: impl IntoIterator<Item = usize>) {
        let begun: Vec<_> = cells.into_iter().filter_map(|index| self.begin(reactor, index)).collect();
        for (index, recruit, child) in begun {
            self.enlist(reactor, index, recruit, child);
        }
    }

    /// A worker to be enlisted, unless none is wanted there, the template makes it, or it could not be started.
    fn begin(self: &Arc<Self>, reactor: &mut Reactor, index: usize) -> Option<(usize, Recruit, Child)> {
        if self.lock().leaving || index >= self.board.wanted() || self.order(reactor, index) {
            return None;
        }
        match self.try_begin(reactor, index) {
            Ok((recruit, child)) => Some((index, recruit, child)),
            Err(why) => {
                self.start_failed(reactor, index, format!("a worker could not be started: {why}"));
                None
            }
        }
    }

    fn try_begin(&self, reactor: &mut Reactor, index: usize) -> Result<(Recruit, Child), String> {
        let (slot, arena) = self.make_room(index)?;
        let (tap, ends, bell) = self.open_outlet().inspect_err(|_| self.vacate(slot))?;
        let child = self.spawn(reactor, init::WORKER, (index, slot), (&ends, bell), &[]);
        let child = child.inspect_err(|_| self.vacate(slot))?;
        Ok((Recruit { slot, arena, tap }, child))
    }

    /// A slot and an arena for a worker in cell `index`.
    pub(super) fn make_room(&self, index: usize) -> Result<(SlotId, File), String> {
        let (arena, arena_ref) =
            memory_file::new("swath-arena").map_err(|e| format!("memory for its results: {e}"))?;
        let slot = self.session.slots().reserve().ok_or("all slots of the session are taken")?;
        self.board.cell(index).assign(arena_ref.into(), self.journals.open(index));
        self.enrol(index, slot).inspect_err(|_| self.vacate(slot))?;
        Ok((slot, arena))
    }

    /// Gives back a slot for which there is no process.
    pub(super) fn vacate(&self, slot: SlotId) {
        if let Some(desk) = self.desk.get() {
            desk.strike_off(Owner { slot: slot.index, generation: slot.generation });
        }
        let slots = self.session.slots();
        // SAFETY: there is no process for it.
        unsafe { slots.mark_dead(slot, DeathCause::UNKNOWN) };
        slots.release(slot);
    }

    /// Puts a worker that was started on the list.
    pub(super) fn enlist(
        self: &Arc<Self>,
        reactor: &mut Reactor,
        index: usize,
        recruit: Recruit,
        child: Child,
    ) {
        let Recruit { slot, arena, tap } = recruit;
        let (pid, pidfd) = (child.pid, Arc::new(child.pidfd));
        let (crew, generation) = (self.clone(), slot.generation);
        let fd = pidfd.as_raw_fd();
        reactor.watch(
            fd,
            Box::new(move |reactor| {
                crew.exited(reactor, index, generation);
                Keep::No
            }),
        );
        let mut state = self.lock();
        state.started += 1;
        let member = &mut state.members[index];
        *member = Member {
            slot,
            pid,
            pidfd: Some(pidfd),
            arena: Some(arena),
            undo: member.undo.take(),
            failures_seen: At::NONE,
            fate: None,
            unkillable: false,
            tap: Some(tap),
        };
        drop(state);
        if let Some(journal) = self.journals.current(index) {
            self.outlet.follow(journal);
        }
        // Only now may it begin: whoever works must be on the list of those whom the fence waits for.
        self.introduce(slot, pid);
        self.expect_handshake(reactor, index, generation);
        self.expect_ready(reactor, index, generation);
    }

    /// Tells a process that was started for `slot` that it is known.
    pub(super) fn introduce(&self, slot: SlotId, pid: u32) {
        let ticks = process::start_ticks(pid).unwrap_or(0);
        // SAFETY: it was started for this slot, and is not reaped before we watch it no more.
        unsafe { self.session.slots().started(slot, pid, ticks, Witness::Service) };
    }

    /// Lets the desk know, if there is one, of a worker to be started.
    fn enrol(&self, index: usize, slot: SlotId) -> Result<(), String> {
        let owner = Owner { slot: slot.index, generation: slot.generation };
        let enrolled = self.desk.get().map_or(Ok(()), |desk| desk.enrol(index, owner));
        enrolled.map_err(|e| format!("memory for its results: {e}"))
    }

    /// Where a new process's output goes: what follows it, the ends for the process, and the bell for its log.
    pub(super) fn open_outlet(&self) -> Result<(Tap, [PipeWriter; 2], RawFd), String> {
        let pipe = || std::io::pipe().map_err(|e| format!("a pipe for its output: {e}"));
        let ((out, out_end), (err, err_end)) = (pipe()?, pipe()?);
        let lines = |pipe: std::io::PipeReader, stream| Lines::new(File::from(OwnedFd::from(pipe)), stream);
        let (tap, bell) = self.outlet.open([lines(out, Stream::Out), lines(err, Stream::Err)])?;
        Ok((tap, [out_end, err_end], bell))
    }

    /// Starts this executable as what `role` says.
    pub(super) fn spawn(
        &self,
        reactor: &mut Reactor,
        role: &str,
        (cell, slot): (usize, SlotId),
        ([out, err], bell): (&[PipeWriter; 2], RawFd),
        more: &[(RawFd, RawFd)],
    ) -> Result<Child, String> {
        let null = File::open("/dev/null").map_err(|e| format!("/dev/null: {e}"))?;
        let life_word = self.one_thread && life::self_test();
        let assignment = Assignment { cell, life_word, board: self.board_segment.reference() };
        let depth = lineage::next_depth().map_err(|e| e.to_string())?;
        let mut argv =
            vec!["swath-worker".into(), "3".into(), slot.index.to_string(), slot.generation.to_string()];
        argv.extend([role.to_owned(), depth.to_string()]);
        argv.extend(assignment.to_args());
        let text = |s: String| CString::new(s).expect("numbers and names have no NUL");
        let inherited = [
            (null.as_raw_fd(), 0),
            (out.as_raw_fd(), 1),
            (err.as_raw_fd(), 2),
            (self.session.worker_control_fd(), 3),
            (bell, BELL_FD),
        ];
        let child = reactor.spawn(&SpawnSelf {
            argv: argv.into_iter().map(text).collect(),
            env: Some(self.env.clone()),
            fds: [&inherited, more].concat(),
            new_group: true,
        });
        child.map_err(|e| format!("spawn of /proc/self/exe: {e}"))
    }

    fn expect_handshake(self: &Arc<Self>, reactor: &mut Reactor, index: usize, generation: u16) {
        let crew = Arc::downgrade(self);
        reactor.after(
            HANDSHAKE,
            Box::new(move |reactor| {
                let Some(crew) = crew.upgrade() else { return };
                let slot = crew.lock().members[index].slot;
                if slot.generation == generation
                    && crew.session.slots().state(slot.index) == (SlotState::Starting, generation)
                {
                    let what =
                        What::Setup { message: format!("it did not show itself within {HANDSHAKE:?}") };
                    crew.escalate(reactor, index, generation, Rung::Kill, what);
                }
            }),
        );
    }

    /// Nobody is left who could run a task, and nobody will come.
    fn tell_desk_if_broken(&self) {
        let state = self.lock();
        if let (Some((_, why)), Some(desk)) = (&state.broken, self.desk.get())
            && !state.members.iter().any(Member::is_present)
        {
            desk.no_workers(why);
        }
    }

    /// The initializer has its time, too.
    fn expect_ready(self: &Arc<Self>, reactor: &mut Reactor, index: usize, generation: u16) {
        let preloaded = self.lock().forkserver.is_some();
        let Some(limit) = self.contract.time_to_ready(preloaded) else { return };
        let crew = Arc::downgrade(self);
        reactor.after(
            limit,
            Box::new(move |reactor| {
                let Some(crew) = crew.upgrade() else { return };
                let same = crew.lock().members[index].slot.generation == generation;
                if same && !crew.board.cell(index).is_ready() {
                    crew.escalate(reactor, index, generation, Rung::Kill, What::TimedOut { limit });
                }
            }),
        );
    }

    pub(super) fn start_failed(self: &Arc<Self>, reactor: &mut Reactor, index: usize, why: String) {
        let decision = self.lock().respawn.failed_to_start();
        tracing::warn!("{why}");
        self.follow(reactor, index, decision, (ErrorKind::Spawn, why));
    }

    pub(super) fn follow(
        self: &Arc<Self>,
        reactor: &mut Reactor,
        index: usize,
        decision: Decision,
        (kind, why): (ErrorKind, String),
    ) {
        match decision {
            Decision::After(Duration::ZERO) => self.hire(reactor, index),
            Decision::After(pause) => {
                let crew = Arc::downgrade(self);
                let hire = move |reactor: &mut Reactor| {
                    if let Some(crew) = crew.upgrade() {
                        crew.hire(reactor, index);
                    }
                };
                reactor.after(pause, Box::new(hire));
            }
            Decision::GiveUp => return self.give_up((kind, why)),
        }
        self.tell_desk_if_broken();
        self.changed.notify_all();
        self.board.ring_bell();
    }

    /// The pool is broken.
    pub(super) fn give_up(&self, why: (ErrorKind, String)) {
        self.lock().broken = Some(why);
        self.tell_desk_if_broken();
        self.changed.notify_all();
        self.board.ring_bell();
    }
}

/// Ours, the session's id for what kernels start, and thread counts for libraries that would otherwise start one thread per
/// processor in every worker.
pub(super) fn environment(session: &Session, threads: usize) -> Vec<CString> {
    const THREADS: [&str; 6] = [
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "BLIS_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",
        "RAYON_NUM_THREADS",
    ];
    let mut all = swath_segment::environment(Some(session.id()));
    for name in THREADS {
        if std::env::var_os(name).is_none() {
            all.extend(CString::new(format!("{name}={threads}")));
        }
    }
    all
}
