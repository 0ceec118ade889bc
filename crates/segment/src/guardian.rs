//! The guardian: a tiny process that outlives a killed coordinator just long enough to kill its workers and to remove
//! its names. Steps N1–N8 of `README.md`.
//!
//! It holds a duplicate of the session's lock, so nobody else reclaims before it is done.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use swath_platform::life::{OWNER_DIED, TID_MASK};
use swath_platform::{file, process};
use swath_sync::slots::{SLOTS_MAX, SlotState, Witness};

use crate::control::{self, Control};
use crate::descendants;
use crate::layout::HeaderImage;
use crate::limits::{GUARDIAN_EXITS_MS, GUARDIAN_SLICE_MS};
use crate::name::{SessionId, shm_path};
use crate::reclaim::{Removal, reclaim};
use crate::snapshot::{Snapshot, read_header};
use crate::{CONTROL_FD, GUARDIAN_ARGV0};

/// SIGHUP, SIGINT, SIGQUIT, SIGPIPE, SIGTERM, SIGTSTP: meant for the job, not for who tidies up after it.
const IGNORED: [i32; 6] = [1, 2, 3, 13, 15, 20];
const SIGKILL: i32 = 9;
const ENOENT: i32 = 2;
const ESRCH: i32 = 3;

/// If this process was started as a guardian: does a guardian's whole work and returns the exit code. `None` otherwise.
///
/// Must run before the program has opened anything (`swath::init()` first in `main`, or `.init_array`).
pub fn guardian_entry(argv: &[OsString]) -> Option<i32> {
    let (lock, header) = accept(argv)?;
    prepare();
    let Ok(control) = control::map(&lock) else { return Some(1) };
    await_death(control, &header);
    clean_up(control, &lock, &header);
    Some(0)
}

/// N1: the mark is argv and a control segment under the agreed number; and its coordinator is our parent or dead. Of one that is
/// being killed we are nobody's child before it has exited.
fn accept(argv: &[OsString]) -> Option<(OwnedFd, HeaderImage)> {
    if argv.len() != 2 || argv[0] != GUARDIAN_ARGV0 || argv[1] != OsStr::new(&CONTROL_FD.to_string()) {
        return None;
    }
    let (fd, header) = inherited_control()?;
    if !header.same_layout() {
        return None;
    }
    let is_parent = header.coordinator_pid == process::getppid();
    let is_dead = || coordinator(&header).is_none() || process::is_exiting(header.coordinator_pid);
    (is_parent || is_dead()).then_some((fd, header))
}

/// The descriptor under [`CONTROL_FD`], if it is a control segment; nothing is closed if it is not.
pub(crate) fn inherited_control() -> Option<(OwnedFd, HeaderImage)> {
    if !file::is_open(CONTROL_FD) {
        return None;
    }
    // A second description to look through: the inherited one may not be ours to close.
    let view = file::open_fd_of(process::getpid(), CONTROL_FD, true).ok()?;
    let stat = file::stat(&view).ok()?;
    let plausible = stat.is_regular()
        && stat.uid == process::geteuid()
        && stat.size == size_of::<Control>() as u64
        && file::is_memory(&view).ok()?;
    let header = read_header(&view).filter(|_| plausible)?;
    // SAFETY: the number is open (checked), and it is a control segment, which only our own spawner passes on under
    // this number: nobody else in this freshly started process owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(CONTROL_FD) };
    let _ = file::set_close_on_exec(&fd);
    Some((fd, header))
}

/// The coordinator, if it lives. Only what proves a death counts as one: a call that fails for want of something does
/// not, for then we would kill the workers of a living session.
fn coordinator(header: &HeaderImage) -> Option<OwnedFd> {
    let pid = header.coordinator_pid;
    let is_gone = |error: &io::Error| matches!(error.raw_os_error(), Some(ENOENT | ESRCH));
    loop {
        let pidfd = match process::pidfd_open(pid) {
            Ok(pidfd) => pidfd,
            Err(error) if is_gone(&error) => return None,
            Err(_) => {
                std::thread::sleep(Duration::from_millis(10));
                continue;
            }
        };
        return match process::start_ticks(pid) {
            Ok(ticks) if ticks != header.coordinator_start => None,
            Err(error) if is_gone(&error) => None,
            _ => (!process::exited(&pidfd)).then_some(pidfd),
        };
    }
}

/// N2: nothing of the host program's is kept: working directory, signals; descriptors were closed when it was started.
fn prepare() {
    process::set_comm(GUARDIAN_ARGV0);
    for signal in IGNORED {
        process::ignore_signal(signal);
    }
    process::raise_open_files();
    let _ = std::env::set_current_dir("/");
}

/// N3: until the kernel marks the life word of the coordinator's service thread, or the pidfd says that it has exited.
fn await_death(control: &Control, header: &HeaderImage) {
    let slice = Duration::from_millis(GUARDIAN_SLICE_MS);
    let Some(pidfd) = coordinator(header) else { return };
    let slots = control.slots();
    while !process::exited(&pidfd) {
        let value = slots.life(0);
        if value & OWNER_DIED != 0 {
            return;
        }
        if value & TID_MASK == 0 {
            // Not armed: this kernel does not mark life words, or the session has just begun.
            process::wait_exit(&pidfd, slice);
        } else {
            slots.await_mark(0, value, slice);
        }
    }
}

/// N4–N8: workers, names, lock file; sessions that workers had just begun.
fn clean_up(control: &Control, lock: &OwnedFd, header: &HeaderImage) {
    let deadline = Instant::now() + Duration::from_millis(GUARDIAN_EXITS_MS);
    let workers = Workers::of(control);
    let killed = workers.kill();
    let id = header.id().and_then(SessionId::parse);
    let remove_names = || {
        if let (Some(id), Some(snapshot)) = (&id, Snapshot::read(lock)) {
            Removal { id, uid: header.uid, dry_run: false }.remove_all(&snapshot);
        }
    };
    remove_names();
    let stat = file::stat(lock);
    let still = stat.as_ref().is_ok_and(|stat| await_stillness(header, stat, deadline));
    remove_names();
    for pidfd in &killed {
        process::wait_exit(pidfd, deadline.saturating_duration_since(Instant::now()));
    }
    let marked = id.as_ref().map(descendants::marked_by);
    let led = workers.lead();
    descendants::kill_all(deadline, |pid| led(pid) || marked.as_ref().is_some_and(|marked| marked(pid)));
    if let (Some(id), Ok(stat), true) = (&id, stat, still) {
        let _ = file::unlink_if(&shm_path(&id.lock_name(header.uid)), stat.identity());
    }
    // N8
    let _ = reclaim(false);
}

/// N6: until no thread of the coordinator can make a name any more. The first of its threads to die has woken us, another
/// may have been killed in the middle of the call that makes one. `false`: it takes too long.
fn await_stillness(header: &HeaderImage, lock: &file::Stat, deadline: Instant) -> bool {
    loop {
        let still = coordinator(header).is_none()
            || process::is_exiting(header.coordinator_pid)
            || executes_another_program(header, lock);
        if still || Instant::now() >= deadline {
            return still;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether the coordinator has memory, but not the control segment in it: its `exec` is complete.
fn executes_another_program(header: &HeaderImage, lock: &file::Stat) -> bool {
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", header.coordinator_pid));
    maps.is_ok_and(|maps| !maps.is_empty() && !lock.is_in_maps(&maps))
}

/// The workers of the slot table: pid → start time.
struct Workers(BTreeMap<u32, u64>);

impl Workers {
    fn of(control: &Control) -> Workers {
        let slots = control.slots();
        // Guests are other programs, which live on.
        let is_worker =
            |slot: &u16| slots.state(*slot).0 != SlotState::Free && slots.witness(*slot) == Witness::Service;
        let used = (1..SLOTS_MAX as u16).filter(is_worker);
        let named = used.map(|slot| (slots.pid(slot), slots.start_ticks(slot)));
        Workers(named.filter(|&(pid, start)| pid > 1 && start != 0).collect())
    }

    /// N4: each through a pidfd that was opened first and compared afterwards, and with it the group that it leads.
    fn kill(&self) -> Vec<OwnedFd> {
        let kill = |(&pid, &start): (&u32, &u64)| {
            let pidfd = process::pidfd_open(pid).ok()?;
            let stat = process::stat(pid).ok().filter(|stat| stat.start_ticks == start)?;
            if stat.group == pid {
                let _ = process::kill_group(pid, SIGKILL);
            }
            process::pidfd_signal(&pidfd, SIGKILL).ok()?;
            Some(pidfd)
        };
        self.0.iter().filter_map(kill).collect()
    }

    /// Whether a worker leads a process's group: what a kernel started stays in it when the worker is gone, if it does not leave.
    /// Same group, same terminal session as ours, not older than the worker.
    fn lead(&self) -> impl Fn(u32) -> bool {
        let ours = process::stat(process::getpid()).map(|own| own.session).ok();
        move |pid| {
            let Ok(stat) = process::stat(pid) else { return false };
            let in_time = self.0.get(&stat.group).is_some_and(|&start| stat.start_ticks >= start);
            in_time && Some(stat.session) == ours && stat.state != 'Z'
        }
    }
}
