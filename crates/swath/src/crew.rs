//! The crew: the worker processes of one pool, as the service thread sees them.
//!
//! Only the service thread starts, reaps and fences. A worker's life here: Absent → Starting (spawned, slot STARTING) → up
//! (slot LIVE) → exit confirmed by its pidfd → its chunks taken back → slot released → Absent, and a successor after the
//! pause that [`Respawn`] decides. Nothing is ever taken back for silence: slow is not dead.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytemuck::Zeroable;
use swath_platform::process::{self, ExitStatus};
use swath_platform::spawn::SpawnSelf;
use swath_platform::{file, life, oom, signal};
use swath_segment::{HookId, Keep, Reactor, Segment, SegmentRef, Service, Session};
use swath_sync::{DeathCause, SlotId, SlotState};

use crate::arena::At;
use crate::board::Board;
use crate::cause::{Cause, What};
use crate::error::{ErrorKind, Result};
use crate::gather::ArenaOf;
use crate::ledger::Owner;
use crate::limits::{HANDSHAKE, SLICE, TERM_GRACE, UNKILLABLE_AFTER};
use crate::output::{Lines, Stream};
use crate::recovery::Recovery;
use crate::relay::{Outlet, Tap};
use crate::respawn::{Decision, Respawn};
use crate::worker::Assignment;

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
    pub(crate) broken: Option<String>,
    leaving: bool,
    oom_kills: Option<u64>,
}

/// The workers of one pool.
pub(crate) struct Crew {
    pub(crate) board: Board,
    board_segment: Segment,
    pub(crate) session: Arc<Session>,
    env: Vec<CString>,
    outlet: Outlet,
    state: Mutex<State>,
    changed: Condvar,
    doorman: Doorman,
}

/// Rings the doorbell for arrays that were dropped, so that parked workers unmap them, for as long as there is a board.
struct Doorman {
    board: Arc<Mutex<Option<Board>>>,
    hook: HookId,
}

impl Doorman {
    fn new(session: &Session, board: Board) -> Doorman {
        let board = Arc::new(Mutex::new(Some(board)));
        let shared = board.clone();
        let hook = session.on_retire(move |_| {
            if let Some(board) = *shared.lock().unwrap_or_else(PoisonError::into_inner) {
                board.ring_doorbell();
            }
        });
        Doorman { board, hook }
    }

    fn leave(&self, session: &Session) {
        session.forget_hook(self.hook);
        // A hook that is running now ends before this returns; none begins after.
        *self.board.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.doorman.leave(&self.session);
    }
}

impl Crew {
    /// Starts `workers` workers and waits until each has shown itself.
    pub(crate) fn start(session: Arc<Session>, workers: usize, threads: usize) -> Result<Arc<Crew>> {
        let identity = swath_platform::exe::identity()
            .map_err(|e| ErrorKind::Spawn.with(format!("/proc/self/exe: {e}")))?;
        let board_segment = Segment::options().unnamed("board").create(Board::bytes(workers))?;
        // SAFETY: a new segment is zeroed, page-aligned and writable; the crew keeps it as long as the board is used.
        let board = unsafe { Board::create(board_segment.as_ptr(), workers, identity) };
        let state = State {
            members: (0..workers).map(|_| Member::absent()).collect(),
            phase: None,
            past: Vec::new(),
            respawn: Respawn::new(workers),
            broken: None,
            leaving: false,
            oom_kills: oom::kills(),
        };
        let doorman = Doorman::new(&session, board);
        let crew = Arc::new(Crew {
            doorman,
            board,
            board_segment,
            session,
            env: environment(threads),
            outlet: Outlet::default(),
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        Service::global().call(|reactor| (0..workers).for_each(|index| crew.hire(reactor, index)));
        crew.wait_until_up().inspect_err(|_| crew.dismiss())?;
        Ok(crew)
    }

    /// The crew's state. Nothing that can panic half-way runs under this lock, so a poisoned one is a sound one.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until every worker has shown itself.
    pub(crate) fn wait_until_up(&self) -> Result<()> {
        let slots = self.session.slots();
        let mut state = self.lock();
        loop {
            if let Some(why) = &state.broken {
                return Err(ErrorKind::Spawn.with(why.clone()));
            }
            let up = |m: &Member| {
                m.pidfd.is_some() && slots.state(m.slot.index) == (SlotState::Live, m.slot.generation)
            };
            let Some(late) = state.members.iter().find(|m| !up(m)) else { return Ok(()) };
            let index = late.slot.index;
            let absent = late.pidfd.is_none();
            drop(state);
            if absent {
                std::thread::sleep(Duration::from_millis(1));
            } else {
                let word = slots.state_word(index);
                let seen = word.load(Ordering::Acquire);
                if slots.state(index).0 == SlotState::Starting {
                    swath_platform::futex::wait(word, seen, Some(Duration::from_millis(5)));
                }
            }
            state = self.lock();
        }
    }

    // ---- starting ----------------------------------------------------------------------------------------------------

    /// Starts a worker in cell `index`. On the service thread.
    fn hire(self: &Arc<Self>, reactor: &mut Reactor, index: usize) {
        if self.lock().leaving {
            return;
        }
        if let Err(why) = self.try_hire(reactor, index) {
            self.start_failed(reactor, index, format!("a worker could not be started: {why}"));
        }
    }

    fn try_hire(self: &Arc<Self>, reactor: &mut Reactor, index: usize) -> Result<(), String> {
        let slots = self.session.slots();
        let (arena, arena_ref) = new_arena().map_err(|e| format!("memory for its results: {e}"))?;
        let slot = slots.reserve().ok_or("all slots of the session are taken")?;
        self.board.cell(index).assign(arena_ref);
        let (child, tap) = self.spawn(reactor, index, slot).inspect_err(|_| {
            slots.mark_dead(slot, DeathCause::UNKNOWN);
            slots.release(slot);
        })?;
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
        // Only now may it begin: whoever works must be on the list of those whom the fence waits for.
        slots.started(slot, pid, process::start_ticks(pid).unwrap_or(0));
        self.expect_handshake(reactor, index, generation);
        Ok(())
    }

    fn spawn(
        &self,
        reactor: &mut Reactor,
        index: usize,
        slot: SlotId,
    ) -> Result<(swath_platform::spawn::Child, Tap), String> {
        let pipe = || std::io::pipe().map_err(|e| format!("a pipe for its output: {e}"));
        let ((out, out_end), (err, err_end)) = (pipe()?, pipe()?);
        let lines = |pipe: std::io::PipeReader, stream| Lines::new(File::from(OwnedFd::from(pipe)), stream);
        // Before the spawn: once the child is there nothing may fail.
        let tap = self.outlet.open([lines(out, Stream::Out), lines(err, Stream::Err)])?;
        let null = File::open("/dev/null").map_err(|e| format!("/dev/null: {e}"))?;
        let assignment =
            Assignment { cell: index, life_word: life::self_test(), board: self.board_segment.reference() };
        let mut argv =
            vec!["swath-worker".into(), "3".into(), slot.index.to_string(), slot.generation.to_string()];
        argv.extend(assignment.to_args());
        let text = |s: String| CString::new(s).expect("numbers and names have no NUL");
        let child = reactor.spawn(&SpawnSelf {
            argv: argv.into_iter().map(text).collect(),
            env: Some(self.env.clone()),
            fds: vec![
                (null.as_raw_fd(), 0),
                (out_end.as_raw_fd(), 1),
                (err_end.as_raw_fd(), 2),
                (self.session.worker_control_fd(), 3),
            ],
            new_group: true,
        });
        let child = child.map_err(|e| format!("spawn of /proc/self/exe: {e}"))?;
        Ok((child, tap))
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

    fn start_failed(self: &Arc<Self>, reactor: &mut Reactor, index: usize, why: String) {
        let decision = self.lock().respawn.failed_to_start();
        tracing::warn!("{why}");
        self.follow(reactor, index, decision, why);
    }

    fn follow(self: &Arc<Self>, reactor: &mut Reactor, index: usize, decision: Decision, why: String) {
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
            Decision::GiveUp => self.lock().broken = Some(why),
        }
        self.changed.notify_all();
        self.board.ring_bell();
    }

    // ---- ending ------------------------------------------------------------------------------------------------------

    /// The fence: the exit of worker `index` is confirmed. On the service thread.
    fn exited(self: &Arc<Self>, reactor: &mut Reactor, index: usize, generation: u16) {
        let mut state = self.lock();
        let member = &mut state.members[index];
        if member.slot.generation != generation {
            return;
        }
        let Some(pidfd) = member.pidfd.take() else { return };
        let (slot, pid, fate) = (member.slot, member.pid, member.fate.take());
        let tap = member.tap.take();
        let status = process::reap(&*pidfd).ok().flatten();
        // Whatever its kernels started dies with it.
        let _ = process::kill_group(pid, signal::KILL);
        let slots = self.session.slots();
        let was_up = slots.state(slot.index).0 == SlotState::Live;
        slots.mark_dead(slot, status.map_or(DeathCause::UNKNOWN, |s| DeathCause(s.raw())));
        let oom_kill = state.notice_oom_kill();
        // It may have died by itself before our signal came.
        let ours = status.is_some_and(|s| matches!(s.signal(), Some(signal::TERM | signal::KILL)));
        let what = fate.filter(|_| ours).unwrap_or_else(|| what_of(status, oom_kill));
        let freed = self.take_back(&mut state, index, Cause { worker: index, pid, what: what.clone() });
        slots.release(slot);
        let leaving = state.leaving;
        let decision = match &what {
            _ if was_up => state.respawn.lost(),
            What::Killed { signal: signal::KILL, .. } => state.respawn.killed_at_start(),
            _ => state.respawn.failed_to_start(),
        };
        drop(state);
        if let Some(tap) = tap {
            tap.close();
        }
        if freed > 0 {
            self.board.announce_sweep();
        }
        if leaving {
            self.changed.notify_all();
            self.board.ring_bell();
            return;
        }
        let why = format!("workers do not come up; the last one (pid {pid}): {what}");
        if !was_up {
            tracing::warn!("{why}");
        }
        self.follow(reactor, index, decision, why);
    }

    /// Takes back what the dead worker of cell `index` held; how many chunks are free again.
    fn take_back(&self, state: &mut State, index: usize, cause: Cause) -> usize {
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
        state.phase.as_mut().map_or(0, |phase| phase.take_back(owner, &cause, flush, undo).freed)
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
        let (next, pause) = match rung {
            Rung::Ask => {
                let cell = self.board.cell(index);
                cell.cancel.store(cell.claims.load(Ordering::Relaxed), Ordering::Relaxed);
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
                crew.climb(reactor, index, generation, next, why);
            }
        };
        reactor.after(pause, Box::new(climb));
    }

    /// The next rung, unless what it is about has come to its end.
    fn climb(self: &Arc<Self>, reactor: &mut Reactor, index: usize, generation: u16, rung: Rung, why: What) {
        if rung == Rung::Terminate {
            let mut state = self.lock();
            let cell = self.board.cell(index);
            // The kernel listened: the chunk in hand is another one.
            if cell.cancel.load(Ordering::Relaxed) != cell.claims.load(Ordering::Relaxed) {
                let member = &mut state.members[index];
                if member.slot.generation == generation {
                    member.fate = None;
                }
                return;
            }
        }
        self.escalate(reactor, index, generation, rung, why);
    }

    /// Ends all workers and waits until each exit is confirmed. Idempotent.
    pub(crate) fn dismiss(self: &Arc<Self>) {
        self.lock().leaving = true;
        self.board.shut_down();
        let mut rung = Rung::Terminate;
        let mut patience = TERM_GRACE;
        loop {
            let deadline = Instant::now() + patience;
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

    fn wait_absent(&self, deadline: Instant) -> bool {
        let mut state = self.lock();
        while state.members.iter().any(|m| m.pidfd.is_some()) {
            let left = deadline.saturating_duration_since(Instant::now());
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

fn what_of(status: Option<ExitStatus>, oom_kill: bool) -> What {
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

/// A file in memory, and the reference by which a worker finds it.
fn new_arena() -> std::io::Result<(File, SegmentRef)> {
    let file = File::from(file::memfd("swath-arena")?);
    let stat = file::stat(&file)?;
    let reference = SegmentRef { dev: stat.dev, ino: stat.ino, fd: file.as_raw_fd(), ..Zeroable::zeroed() };
    Ok((file, reference))
}

/// Ours, and thread counts for libraries that would otherwise start one thread per processor in every worker.
fn environment(threads: usize) -> Vec<CString> {
    use std::os::unix::ffi::OsStrExt;
    const THREADS: [&str; 6] = [
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "BLIS_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",
        "RAYON_NUM_THREADS",
    ];
    let entry = |name: &std::ffi::OsStr, value: &std::ffi::OsStr| {
        CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok()
    };
    let mut all: Vec<CString> =
        std::env::vars_os().filter_map(|(name, value)| entry(&name, &value)).collect();
    for name in THREADS {
        if std::env::var_os(name).is_none() {
            all.extend(entry(name.as_ref(), threads.to_string().as_ref()));
        }
    }
    all
}
