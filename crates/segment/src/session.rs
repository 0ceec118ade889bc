//! The session: what one coordinator process has in `/dev/shm`, from its first segment or pool to the last.
//!
//! Steps L1–L6 (its life) of `README.md`.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use swath_platform::{file, fork, life, process};
use swath_sync::slots::{SlotId, SlotTable, Witness};
use swath_sync::{NoParty, Party, Peers};

use crate::control::{self, Control};
use crate::error::{Error, Result};
use crate::guard::Guard;
use crate::guest::watch_peers;
use crate::layout::{HeaderImage, LAYOUT_HASH, LAYOUT_VERSION, MAGIC, NAMES_VERSION};
use crate::limits::{RETIRE_MS, SEGMENTS_MAX};
use crate::locked_file::LockedFile;
use crate::name::SessionId;
use crate::reclaim::{Removal, reclaim};
use crate::service::{Reactor, Service};
use crate::snapshot::Snapshot;
use crate::table::Table;

static INITIALISED: AtomicBool = AtomicBool::new(false);

/// Says that this program diverts guardians and workers at its start (`swath::init()` calls it): allows the guardian.
pub fn set_initialised() {
    INITIALISED.store(true, Ordering::Release);
}

/// What is called when workers should unmap retired segments now; gets the bytes that wait for it.
type RetireHook = Arc<dyn Fn(u64) + Send + Sync>;

/// Names a hook.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct HookId(u64);

/// One coordinator's session. One per process; shared by its pools and segments; ends with the last `Arc`. A process that was
/// started for another coordinator's session may be the coordinator of one of its own.
pub struct Session {
    file: Arc<LockedFile>,
    pid: u32,
    control: &'static Control,
    slot: SlotId,
    /// The same file, but not the same description: what workers inherit.
    shared: Arc<OwnedFd>,
    table: Mutex<Table>,
    guard: Option<Guard>,
    hooks: Mutex<Vec<(HookId, RetireHook)>>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.file.id.as_str())
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}

/// The process's session, if it has one.
struct Current {
    session: Weak<Session>,
    /// From before its creation until its end is complete.
    active: bool,
    pid: u32,
}

static CURRENT: Mutex<Current> = Mutex::new(Current { session: Weak::new(), active: false, pid: 0 });
static ENDED: Condvar = Condvar::new();

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    /// The session of this process, begun now if there is none.
    ///
    /// # Errors
    ///
    /// In a copy that was forked from a coordinator; when `/dev/shm` has no room or cannot be used.
    pub fn current() -> Result<Arc<Session>> {
        let session = Session::current_unguarded()?;
        session.guard();
        Ok(session)
    }

    /// As [`Session::current`], for who starts processes at once, and calls [`Session::guard`] or [`Session::guard_now`] when they have been
    /// started and before they run anything of the user's: so they need not wait until the guardian has been.
    ///
    /// # Errors
    ///
    /// As [`Session::current`].
    pub fn current_unguarded() -> Result<Arc<Session>> {
        let mut current = lock(&CURRENT);
        loop {
            if current.active && current.pid != process::getpid() {
                return Err(Error::Forked { coordinator: current.pid });
            }
            if let Some(session) = current.session.upgrade() {
                return Ok(session);
            }
            if !current.active {
                break;
            }
            // The last `Arc` is gone, its end is under way in another thread.
            current = ENDED.wait(current).unwrap_or_else(PoisonError::into_inner);
        }
        let session = Arc::new(Session::begin()?);
        *current = Current { session: Arc::downgrade(&session), active: true, pid: session.pid };
        Ok(session)
    }

    /// The id of the session that this process has at this moment, if any.
    pub fn current_if_any() -> Option<Arc<Session>> {
        let current = lock(&CURRENT);
        current.session.upgrade().filter(|_| current.pid == process::getpid())
    }

    /// L1–L4. Everything that was made is unmade on the way out of an error.
    fn begin() -> Result<Session> {
        let service = Service::start()?;
        if let Err(error) = reclaim(false) {
            tracing::debug!("dead sessions are not reclaimed: {error}");
        }
        let claimed = LockedFile::claim()?;
        let shared = file::reopen(&claimed.lock, true)
            .map_err(|e| Error::system("reopen", "the control segment", e))?;
        let shared = Arc::new(shared);
        let control = control::map(&claimed.lock)?;
        // From here on nothing fails.
        let claimed = Arc::new(claimed);
        let pid = process::getpid();
        let started = process::start_ticks(pid).unwrap_or(0);
        let slot = coordinator_slot(control.slots(), pid, started);
        control.publish_header(&header(&claimed.id, pid, started));
        control.slots().enter(slot);
        // Before it starts anybody who would look.
        // SAFETY: the service thread takes no locks.
        service.post(move |_| unsafe { control.slots().watch(slot) });
        fork::mark_own();
        watch_peers(control.slots(), &control.header(), shared.clone(), Some(slot.index));
        let guard = guard(control, &claimed);
        let (table, hooks) = (Mutex::new(Table::new(control, shared.clone())), Mutex::default());
        Ok(Session { file: claimed, pid, control, slot, shared, table, guard, hooks })
    }

    /// 128 random bits in base32.
    pub fn id(&self) -> &str {
        self.file.id.as_str()
    }

    /// The control segment.
    pub fn control(&self) -> &'static Control {
        self.control
    }

    /// The calling thread as a party of this session, its coordinator.
    ///
    /// # Errors
    ///
    /// This process was forked from the coordinator; too many threads.
    ///
    /// # Safety
    ///
    /// 1. What is used with this party is used with parties of this session only.
    #[inline]
    pub unsafe fn party(&self) -> std::result::Result<Party, NoParty> {
        // SAFETY: 1. `begin` reserved it for this process; 2. the caller's 1.
        unsafe { Party::of(self.slots(), self.slot, self.pid) }
    }

    /// The slot table.
    pub fn slots(&self) -> &'static SlotTable {
        self.control.slots()
    }

    /// The coordinator's own slot.
    pub fn slot(&self) -> SlotId {
        self.slot
    }

    /// The descriptor to pass to a worker under number 3: another open file description than the one that holds the lock,
    /// so a worker does not keep the session alive.
    pub fn worker_control_fd(&self) -> RawFd {
        self.shared.as_raw_fd()
    }

    /// L4: has the guardian started soon, if it was not yet: before whatever the service thread is asked for later.
    pub fn guard(&self) {
        if let (Some(guard), Ok(service)) = (&self.guard, Service::start()) {
            guard.want(service);
        }
    }

    /// L4: has the guardian started, if it was not yet. On the service thread.
    pub fn guard_now(&self, reactor: &mut Reactor) {
        if let Some(guard) = &self.guard {
            guard.start(reactor);
        }
    }

    /// Whether the first guardian has been started.
    pub fn was_guarded(&self) -> bool {
        self.guard.as_ref().is_some_and(Guard::was_started)
    }

    /// L4: from now on there may be names.
    pub(crate) fn await_name(&self) -> Result<()> {
        self.is_guarded();
        self.file.name()
    }

    /// Whether a guardian watches over this session (only after [`set_initialised`]); the first one's start is awaited. Not on
    /// the service thread.
    pub fn is_guarded(&self) -> bool {
        self.guard();
        self.guard.as_ref().is_some_and(Guard::await_first)
    }

    /// Has `hook` called whenever workers should unmap retired segments now: when a large one was dropped, and when a
    /// creation found no room. It must not block and not touch the session.
    pub fn on_retire(&self, hook: impl Fn(u64) + Send + Sync + 'static) -> HookId {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = HookId(NEXT.fetch_add(1, Ordering::Relaxed));
        lock(&self.hooks).push((id, Arc::new(hook)));
        id
    }

    /// Forgets a hook.
    pub fn forget_hook(&self, id: HookId) {
        lock(&self.hooks).retain(|hook| hook.0 != id);
    }

    pub(crate) fn ring_hooks(&self, bytes: u64) {
        // Outside the lock: a hook may be slow, and another thread may want to forget it.
        let hooks: Vec<RetireHook> = lock(&self.hooks).iter().map(|hook| hook.1.clone()).collect();
        for hook in hooks {
            hook(bytes);
        }
    }

    pub(crate) fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }

    pub(crate) fn names(&self) -> (&SessionId, u32) {
        (&self.file.id, process::geteuid())
    }

    /// Bytes of dropped segments that workers may still have mapped.
    pub fn pinned(&self) -> u64 {
        self.table().sweep()
    }

    /// Step G4: when there is no room, waits a little for workers to unmap what was dropped, and tries again.
    pub(crate) fn with_room<T>(&self, mut attempt: impl FnMut(u64) -> Result<T>) -> Result<T> {
        let first = attempt(self.pinned());
        let mut pinned = self.pinned();
        if !is_want_of_room(&first) || pinned == 0 {
            return first;
        }
        self.ring_hooks(pinned);
        let deadline = Instant::now() + Duration::from_millis(RETIRE_MS);
        loop {
            std::thread::sleep(Duration::from_millis(1));
            let left = self.pinned();
            if left < pinned || Instant::now() >= deadline {
                pinned = left;
                let again = attempt(pinned);
                if !is_want_of_room(&again) || pinned == 0 || Instant::now() >= deadline {
                    return again;
                }
            }
        }
    }

    /// L5, L6.
    fn end(&mut self) {
        if let Some(snapshot) = Snapshot::read(&self.file.lock) {
            // Leaked segments; all others unlinked themselves.
            let removal = Removal { id: &self.file.id, uid: process::geteuid(), dry_run: false };
            for failure in removal.remove_all(&snapshot) {
                tracing::warn!("a name stays: {failure}");
            }
        }
        if let Some(guard) = &self.guard {
            guard.is_to_end();
            self.file.unlink();
            guard.end();
        }
        self.file.unlink();
        if let Ok(service) = Service::start() {
            service.post(|_| life::disarm());
        }
        Peers::forget(self.control.slots());
        control::unmap();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // A forked child has a copy of the value, not the session.
        if self.pid != process::getpid() {
            return;
        }
        self.end();
        let mut current = lock(&CURRENT);
        current.active = false;
        ENDED.notify_all();
    }
}

fn is_want_of_room<T>(outcome: &Result<T>) -> bool {
    matches!(outcome, Err(Error::NoRoom { .. } | Error::NoMemory { .. }))
}

/// Slot 0, under a generation that differs from session to session: they share one address, and thread numbers taken in
/// an earlier session must not count in this one.
fn coordinator_slot(slots: &'static SlotTable, pid: u32, started: u64) -> SlotId {
    static SESSIONS: AtomicU64 = AtomicU64::new(0);
    const GENERATIONS: u64 = 1000;
    let generation = 1 + SESSIONS.fetch_add(1, Ordering::Relaxed) % GENERATIONS;
    let slot = slots.reserve_first(generation as u16).expect("a fresh slot table has room");
    // Workers die with us; guests have to find out.
    // SAFETY: it is for us.
    unsafe { slots.started(slot, pid, started, Witness::Pidfd) };
    slot
}

fn header(id: &SessionId, pid: u32, started: u64) -> HeaderImage {
    let mut text = [0; 32];
    text[..id.as_str().len()].copy_from_slice(id.as_str().as_bytes());
    HeaderImage {
        magic: MAGIC,
        layout_version: LAYOUT_VERSION,
        names_version: NAMES_VERSION,
        layout_hash: LAYOUT_HASH,
        id: text,
        coordinator_pid: pid,
        uid: process::geteuid(),
        coordinator_start: started,
        pid_namespace: process::pid_namespace(),
        guardian_pid: 0,
        names_offset: Control::TABLE_OFFSET as u64,
        names_count: SEGMENTS_MAX as u32,
        names_stride: size_of::<control::Entry>() as u32,
        slots_offset: Control::SLOTS_OFFSET as u64,
        total: size_of::<Control>() as u64,
        created: SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs()),
    }
}

/// L4. A session without guardian works; what a kill leaves is then found by its lock.
fn guard(control: &'static Control, file: &Arc<LockedFile>) -> Option<Guard> {
    static WARNED: AtomicBool = AtomicBool::new(false);
    if !INITIALISED.load(Ordering::Acquire) {
        if !WARNED.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "swath::init() was not called: if this process is killed, its segments stay until the next session or \
                 `swath clean`"
            );
        }
        return None;
    }
    let guard = Guard::new(control, file.clone());
    guard.inspect_err(|error| tracing::warn!("no guardian can be started: {error}")).ok()
}
