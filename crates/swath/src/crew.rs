//! The crew: the worker processes of one pool, as the service thread sees them.
//!
//! Only the service thread starts, reaps and fences. A worker's life here: Absent → Starting (spawned, slot STARTING) → up
//! (slot LIVE) → exit confirmed by its pidfd → its chunks taken back → slot released → Absent, and a successor after the
//! pause that [`Respawn`] decides. Nothing is ever taken back for silence: slow is not dead.

mod departure;
mod doorman;
mod forkserver;
mod hiring;
mod ladder;
mod pressure;

use std::ffi::CString;
use std::fs::File;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use swath_platform::oom;
use swath_segment::{Inbox, Segment, SegmentRef, Service, Session};
use swath_sync::{SLICE, SlotId, SlotState};

use self::pressure::Pressure;
use crate::arena::At;
use crate::board::Board;
use crate::cause::{Cause, What};
use crate::contract::Contract;
use crate::error::{ErrorKind, Result};
use crate::gather::ArenaOf;
use crate::ledger::Owner;
use crate::log::{self, Journals};
use crate::memory_file;
use crate::process::{StartMethod, lineage};
use crate::recovery::Recovery;
use crate::relay::{Outlet, Tap};
use crate::respawn::Respawn;
use crate::stats::{Stats, WorkerStats};
use crate::task::desk::Desk;

use doorman::Doorman;
use forkserver::Forkserver;
use hiring::environment;
pub(crate) use ladder::Rung;

/// One worker.
pub(crate) struct Member {
    pub(crate) slot: SlotId,
    pub(crate) pid: u32,
    /// `None` while absent.
    pidfd: Option<Arc<OwnedFd>>,
    /// What the worker's records are read from.
    pub(crate) arena: Option<File>,
    pub(crate) undo: Option<Segment>,
    /// Failures of this phase that were read.
    pub(crate) failures_seen: At,
    /// Why we are killing it, if we are.
    fate: Option<What>,
    pub(crate) unkillable: bool,
    tap: Option<Tap>,
}

/// The arena of a worker that died during the phase under way: partials may refer to it.
pub(crate) struct Past {
    pub(crate) cell: usize,
    pub(crate) generation: u16,
    pub(crate) arena: File,
    pub(crate) flush: u64,
}

/// What the crew's lock protects.
pub(crate) struct State {
    pub(crate) members: Vec<Member>,
    pub(crate) phase: Option<Recovery>,
    pub(crate) past: Vec<Past>,
    respawn: Respawn,
    /// Why there are no workers any more.
    pub(crate) broken: Option<(ErrorKind, String)>,
    leaving: bool,
    /// Workers that were started, and those that have died.
    pub(crate) started: u64,
    died: u64,
    /// What finalizers gave, by worker, of those that have left.
    pub(crate) farewells: Vec<(usize, std::result::Result<Vec<u8>, Cause>)>,
    oom_kills: Option<u64>,
    /// For [`StartMethod::Forkserver`].
    forkserver: Option<Forkserver>,
}

/// The workers of one pool.
pub(crate) struct Crew {
    pub(crate) board: Board,
    board_segment: Segment,
    pub(crate) session: Arc<Session>,
    env: Vec<CString>,
    /// Whether the kernel's mark on a worker's one thread tells of the worker. With more threads a sibling may still be writing
    /// what a lock guards, and only the confirmed exit counts.
    one_thread: bool,
    outlet: Outlet,
    /// What the workers say by `tracing`.
    pub(crate) journals: Journals,
    state: Mutex<State>,
    changed: Condvar,
    doorman: Doorman,
    desk: OnceLock<Arc<Desk>>,
    contract: Contract,
    /// Where workers send arrays that are results.
    pub(crate) inbox: Arc<Inbox>,
    #[expect(dead_code, reason = "workers open it through this process")]
    contract_file: File,
    /// Workers that have left since there was nothing to do.
    dormant: AtomicUsize,
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.doorman.leave(&self.session);
    }
}

impl Crew {
    /// Starts `workers` workers and waits until each has shown itself.
    pub(crate) fn start(
        session: Arc<Session>,
        (wanted, most): (usize, usize),
        threads: usize,
        (mut contract, method): (Contract, StartMethod),
        log: log::Options,
    ) -> Result<Arc<Crew>> {
        let workers = most.max(wanted);
        lineage::next_depth()?;
        let inbox = Inbox::open()?;
        contract.inbox = Some(inbox.address().to_owned());
        let identity = swath_platform::exe::identity()
            .map_err(|e| ErrorKind::Spawn.with(format!("/proc/self/exe: {e}")))?;
        let board_segment =
            Segment::options().unnamed("board").session(&session).create(Board::bytes(workers))?;
        let (contract_file, told) = written(&contract).map_err(|e| {
            ErrorKind::Memory.with(format!("memory for the workers' contract: {e}")).caused_by(e)
        })?;
        // SAFETY: a new segment is zeroed, page-aligned and writable; the crew keeps it as long as the board is used.
        let board = unsafe { Board::create(board_segment.as_ptr(), workers, identity, told) };
        board.want(wanted);
        let state = State {
            members: (0..workers).map(|_| Member::absent()).collect(),
            phase: None,
            past: Vec::new(),
            respawn: Respawn::new(workers),
            broken: None,
            leaving: false,
            started: 0,
            died: 0,
            farewells: Vec::new(),
            oom_kills: None,
            forkserver: (method == StartMethod::Forkserver).then(Forkserver::default),
        };
        let journals = Journals::new(workers, log)?;
        let doorman = Doorman::new(&session, board);
        let crew = Arc::new(Crew {
            doorman,
            board,
            board_segment,
            env: environment(&session, threads),
            one_thread: threads == 1,
            session,
            outlet: Outlet::default(),
            journals,
            state: Mutex::new(state),
            changed: Condvar::new(),
            desk: OnceLock::new(),
            contract,
            inbox,
            contract_file,
            dormant: AtomicUsize::new(0),
        });
        Service::global().call(|reactor| {
            crew.hire_all(reactor, 0..wanted);
            // While they come up; who is gone already is looked for later.
            crew.lock().oom_kills = oom::kills();
            if let Some(share) = crew.contract.recycle_at {
                Pressure::start(Arc::downgrade(&crew), workers, share, reactor);
            }
        });
        let open_at_once =
            crew.session.was_guarded() || method == StartMethod::Forkserver || crew.contract.has_hooks();
        if open_at_once {
            crew.open();
        }
        crew.wait_until_up().inspect_err(|_| crew.dismiss())?;
        if !open_at_once {
            // Only now: it would take the processor from those that come up.
            crew.open();
        }
        Ok(crew)
    }

    /// What is the user's may run, as soon as there is a guardian who would tidy up after it.
    fn open(self: &Arc<Self>) {
        self.session.guard();
        let crew = self.clone();
        Service::global().post(move |_| crew.board.open());
    }

    /// The crew's state. Nothing that can panic half-way runs under this lock, so a poisoned one is a sound one.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until every worker has shown itself, run its initializer, and is not about to leave. Those that have left for want of
    /// work come back.
    pub(crate) fn wait_until_up(self: &Arc<Self>) -> Result<()> {
        let slots = self.session.slots();
        loop {
            // Read before the look: who is ready later rings again.
            let bell = self.board.bell();
            let state = self.lock();
            if let Some((kind, why)) = &state.broken {
                return Err(kind.with(why.clone()));
            }
            let ready = |(cell, m): (usize, &Member)| {
                let up = (SlotState::Live, m.slot.generation);
                let cell = self.board.cell(cell);
                m.is_present() && slots.state(m.slot.index) == up && cell.is_ready() && !cell.has_retired()
            };
            if state.members.iter().enumerate().take(self.board.wanted()).all(ready) {
                return Ok(());
            }
            drop(state);
            // At each look: some may be on their way out now.
            self.rouse();
            self.board.wait_bell(bell, SLICE);
        }
    }

    /// The desk at which this pool's tasks are looked after, set up at the first call.
    pub(crate) fn desk(self: &Arc<Self>, memory_budget: Option<u64>) -> Result<Arc<Desk>> {
        match self.desk.get() {
            Some(desk) => Ok(desk.clone()),
            // On the service thread, which starts workers: one that is being started knows it or is told of it.
            None => Service::global().call(|_| self.set_up_desk(memory_budget)),
        }
    }

    fn set_up_desk(&self, memory_budget: Option<u64>) -> Result<Arc<Desk>> {
        if let Some(desk) = self.desk.get() {
            return Ok(desk.clone());
        }
        let desk = Arc::new(Desk::new(self.board, self.inbox.clone(), memory_budget)?);
        let state = self.lock();
        let members = state.members.iter().enumerate().filter(|(_, m)| m.is_present());
        let ordered = state.forkserver.iter().flat_map(Forkserver::ordered);
        for (index, slot) in members.map(|(index, m)| (index, m.slot)).chain(ordered) {
            let owner = Owner { slot: slot.index, generation: slot.generation };
            desk.enrol(index, owner)
                .map_err(|e| ErrorKind::Memory.with(format!("memory for results: {e}")).caused_by(e))?;
        }
        self.board.announce_tasks(desk.reference());
        let _ = self.desk.set(desk.clone());
        Ok(desk)
    }

    /// Who works here, and how many have come and gone.
    pub(crate) fn stats(&self) -> Stats {
        let state = self.lock();
        let desk = self.desk.get();
        let present = state.members.iter().enumerate().filter(|(_, member)| member.is_present());
        let workers = present.map(|(index, member)| WorkerStats {
            index,
            pid: member.pid,
            generation: member.slot.generation,
            claims: self.board.cell(index).claims.load(Ordering::Relaxed),
            tasks: desk.map_or(0, |desk| desk.table.post(index).finished.load(Ordering::Relaxed)),
        });
        Stats { workers: workers.collect(), started: state.started, died: state.died, ..Stats::default() }
    }

    /// There is work: workers that have left for want of it come back.
    pub(crate) fn rouse(self: &Arc<Self>) {
        if self.dormant.load(Ordering::SeqCst) == 0 {
            return;
        }
        let crew = self.clone();
        Service::global().post(move |reactor| {
            if crew.dormant.swap(0, Ordering::SeqCst) == 0 {
                return;
            }
            crew.hire_all(reactor, crew.absent(0..crew.board.wanted()));
        });
    }

    /// Has `workers` workers from now on, as far as there are cells for them. Those that are too many leave as soon as they have
    /// nothing in hand; those that are too few have come up when this returns.
    pub(crate) fn resize(self: &Arc<Self>, workers: usize) -> Result<()> {
        let before = self.board.wanted();
        self.board.want(workers);
        if workers < before {
            if let Some(desk) = self.desk.get() {
                desk.let_go(workers);
            }
            return Ok(());
        }
        Service::global().call(|reactor| self.hire_all(reactor, self.absent(before..workers)));
        self.wait_until_up()
    }

    /// Those of these cells in which there is no worker.
    fn absent(&self, cells: Range<usize>) -> Vec<usize> {
        let state = self.lock();
        cells.filter(|&index| !state.members[index].is_present()).collect()
    }

    /// Reads what living workers report; how many chunks are free again.
    pub(crate) fn collect_failures(&self, state: &mut State) -> usize {
        (0..state.members.len()).map(|index| self.collect_failures_of(state, index)).sum()
    }

    fn collect_failures_of(&self, state: &mut State, index: usize) -> usize {
        let (Some(phase), member) = (state.phase.as_mut(), &mut state.members[index]) else { return 0 };
        let last = At::from_word(self.board.cell(index).failures.load(Ordering::Acquire));
        let Some(arena) = member.arena.as_ref().filter(|_| last != member.failures_seen) else { return 0 };
        let found = crate::recovery::read_failures(arena, phase.epoch, last, member.failures_seen);
        member.failures_seen = last;
        found.into_iter().filter(|(chunk, cause)| phase.reported(*chunk, cause.clone())).count()
    }

    /// Gives every worker an undo slot of at least `bytes`. Between phases.
    pub(crate) fn prepare_undo(&self, state: &mut State, bytes: usize) -> Result<()> {
        for (index, member) in state.members.iter_mut().enumerate() {
            member.failures_seen = At::NONE;
            if bytes > 0 && member.undo.as_ref().is_none_or(|slot| slot.len() < bytes) {
                member.undo = None;
                let slot = Segment::options().unnamed("undo").create(bytes.next_multiple_of(4096))?;
                self.board.cell(index).set_undo(slot.reference());
                member.undo = Some(slot);
            }
        }
        Ok(())
    }

    /// The arenas in which a finished phase's values may be.
    pub(crate) fn arenas(&self, state: &mut State) -> Vec<ArenaOf> {
        let past = std::mem::take(&mut state.past);
        let living = state.members.iter().enumerate().filter_map(|(cell, member)| {
            let file = member.arena.as_ref()?.try_clone().ok()?;
            let flush = self.board.cell(cell).flush.load(Ordering::Acquire);
            Some(ArenaOf { cell, generation: member.slot.generation, file, flush })
        });
        let dead = past.into_iter().map(|p| ArenaOf {
            cell: p.cell,
            generation: p.generation,
            file: p.arena,
            flush: p.flush,
        });
        dead.chain(living).collect()
    }
}

impl Member {
    fn absent() -> Member {
        Member {
            slot: SlotId { index: 0, generation: 0 },
            pid: 0,
            pidfd: None,
            arena: None,
            undo: None,
            failures_seen: At::NONE,
            fate: None,
            unkillable: false,
            tap: None,
        }
    }

    /// Whether there is a process.
    pub(crate) fn is_present(&self) -> bool {
        self.pidfd.is_some()
    }
}

impl State {
    /// True when the kernel has killed something for lack of memory since the last look.
    fn notice_oom_kill(&mut self) -> bool {
        let now = oom::kills();
        std::mem::replace(&mut self.oom_kills, now) < now
    }
}

/// The contract, where workers read it.
fn written(contract: &Contract) -> std::io::Result<(File, SegmentRef)> {
    let (file, reference) = memory_file::new("swath-contract")?;
    file.write_all_at(&postcard::to_stdvec(contract).map_err(std::io::Error::other)?, 0)?;
    Ok((file, reference.into()))
}
