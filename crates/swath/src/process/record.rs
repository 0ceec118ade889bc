//! One started process, as its starter knows it: how to signal it, how to wait for it, how it ended.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use swath_platform::{futex, oom, process, signal};
use swath_segment::Session;
use swath_sync::{NoParty, Party, SlotId, SlotTable};

use super::allowance::Limits;
use super::status::ExitStatus;
use crate::error::{ErrorKind, Result};
use crate::log::Journal;
use crate::relay::Outlet;

/// Longest single wait on a pidfd; then again.
const LONG: Duration = Duration::from_secs(3600);

/// How a process ended, and what it had used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) status: ExitStatus,
    pub(crate) cpu: Duration,
    pub(crate) peak_bytes: Option<u64>,
    /// We sent SIGKILL.
    pub(crate) killed_by_us: bool,
    /// The kernel killed something for lack of memory while it lived.
    pub(crate) oom_kill: bool,
    /// The last lines of its log, oldest first.
    pub(crate) last_words: Vec<String>,
}

impl End {
    pub(crate) fn likely_out_of_memory(&self) -> bool {
        self.status.signal() == Some(signal::KILL) && self.oom_kill && !self.killed_by_us
    }
}

/// Who takes the exit status.
pub(crate) enum Reaper {
    /// The service thread, which publishes it. The party that its starter is in the session.
    Service { table: &'static SlotTable, starter: SlotId },
    /// Whoever asks: there is no service thread.
    Whoever,
}

/// What does not change.
pub(crate) struct About {
    pub(crate) name: String,
    pub(crate) daemon: bool,
    pub(crate) limits: Limits,
    /// Whether what it has started ends with it, however it ends. Else only if a signal ended it.
    pub(crate) takes_group_along: bool,
    /// Of one that was spawned.
    pub(crate) said: Option<Said>,
}

/// Where what it says is passed on: its lines, and its log.
pub(crate) struct Said {
    pub(crate) outlet: Outlet,
    pub(crate) journal: Arc<Journal>,
}

impl Said {
    /// It is about to say something.
    pub(crate) fn follow(&self) {
        self.outlet.follow_asleep(self.journal.clone());
    }

    /// It has ended. The end of the program waits for what is not passed on by then.
    pub(crate) fn entrust(&self) {
        self.outlet.entrust();
    }
}

/// What its starter has to know before it starts a process.
pub(crate) struct Before {
    oom_kills: Option<u64>,
    own_peak_bytes: u64,
}

impl Before {
    pub(crate) fn now() -> Before {
        Before { oom_kills: oom::kills(), own_peak_bytes: process::own_peak_bytes() }
    }
}

pub(crate) struct Record {
    pub(crate) about: About,
    pub(crate) pid: u32,
    pidfd: OwnedFd,
    starter: u32,
    reaper: Reaper,
    before: Before,
    fate: Arc<Fate>,
}

/// What is known of its end. It has no descriptor: whoever publishes it keeps nothing else.
#[derive(Default)]
pub(crate) struct Fate {
    state: Mutex<State>,
    ended: Condvar,
    /// 1 once it has ended: for who waits for several things at once.
    pub(crate) word: AtomicU32,
}

#[derive(Default)]
struct State {
    /// We sent SIGKILL.
    killed: bool,
    /// Its pid may be somebody else's since.
    reaped: Option<End>,
    /// All that was kept for it has been let go.
    over: bool,
}

impl State {
    fn end(&self) -> Option<End> {
        self.reaped.clone().filter(|_| self.over)
    }
}

impl Fate {
    /// Nothing that can panic half-way runs under this lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells all who wait that it has been reaped, and all is let go.
    pub(crate) fn publish(&self) {
        self.lock().over = true;
        self.ended.notify_all();
        self.word.store(1, Ordering::Release);
        futex::wake_all(&self.word);
    }
}

impl Record {
    pub(crate) fn new(about: About, pid: u32, pidfd: OwnedFd, reaper: Reaper, before: Before) -> Record {
        let fate = Arc::default();
        Record { about, pid, pidfd, starter: process::getpid(), reaper, before, fate }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.fate.lock()
    }

    pub(crate) fn fate(&self) -> &Arc<Fate> {
        &self.fate
    }

    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Whether this process has started it.
    pub(crate) fn is_ours(&self) -> bool {
        self.starter == process::getpid()
    }

    /// An error in a forked copy of the process that started it.
    pub(crate) fn check_ours(&self) -> Result<()> {
        if self.is_ours() {
            return Ok(());
        }
        let Record { starter, about: About { name, .. }, .. } = self;
        Err(ErrorKind::Usage.with(format!("{name} was started by process {starter}, not by this one")))
    }

    /// As whom this process waits for it beside shared objects.
    pub(crate) fn party(&self) -> std::result::Result<Party, NoParty> {
        match self.reaper {
            // SAFETY: 1. the starter's session has reserved it for the starter; 2. it is used with no object but those that ask
            // as whom they are used.
            Reaper::Service { table, starter } => unsafe { Party::of(table, starter, self.starter) },
            Reaper::Whoever => match Session::current_if_any() {
                // SAFETY: as above.
                Some(session) => unsafe { session.party() },
                None => Party::current(),
            },
        }
    }

    /// Takes the exit status, its exit being confirmed. Before that, while its pid is still its own, whatever it has started
    /// is ended, if it has to be.
    pub(crate) fn reap(&self) -> End {
        let mut state = self.lock();
        if let Some(end) = &state.reaped {
            return end.clone();
        }
        let peeked = process::peek(&self.pidfd).ok().flatten();
        if self.about.takes_group_along || peeked.is_some_and(|status| status.signal().is_some()) {
            let _ = process::kill_group(self.pid, signal::KILL);
        }
        let reaped = process::reap_with_usage(&self.pidfd).ok().flatten();
        let usage = reaped.map(|r| r.1).unwrap_or_default();
        let Before { oom_kills, own_peak_bytes } = self.before;
        let end = End {
            status: ExitStatus::of(reaped.map(|r| r.0)),
            cpu: usage.cpu,
            peak_bytes: Some(usage.peak_bytes).filter(|bytes| *bytes > own_peak_bytes),
            killed_by_us: state.killed,
            oom_kill: oom_kills < oom::kills(),
            last_words: self.about.said.iter().flat_map(|said| said.journal.close()).collect(),
        };
        state.reaped.insert(end).clone()
    }

    /// How it ended, if it has.
    pub(crate) fn end(&self) -> Option<End> {
        let whoever = matches!(self.reaper, Reaper::Whoever) && self.is_ours();
        let known = self.lock().end();
        if known.is_some() || !whoever || !process::exited(&self.pidfd) {
            return known;
        }
        let end = self.reap();
        self.fate.publish();
        Some(end)
    }

    /// Waits until it has ended, and what it has said is passed on; or until the deadline has come.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> Option<End> {
        let end = self.wait_exit(deadline)?;
        if let Some(said) = &self.about.said {
            said.outlet.drain();
        }
        Some(end)
    }

    /// Waits until it has ended, or the deadline has come.
    pub(crate) fn wait_exit(&self, deadline: Option<Instant>) -> Option<End> {
        let left = || deadline.map_or(LONG, |at| at.saturating_duration_since(Instant::now()).min(LONG));
        loop {
            if let Some(end) = self.end() {
                return Some(end);
            }
            let time = left();
            if time.is_zero() {
                return None;
            }
            match self.reaper {
                Reaper::Whoever => drop(process::wait_exit(&self.pidfd, time)),
                Reaper::Service { .. } => {
                    let running = |state: &mut State| state.end().is_none();
                    drop(self.fate.ended.wait_timeout_while(self.lock(), time, running));
                }
            }
        }
    }

    /// Sends it a signal; nothing happens if it has ended.
    pub(crate) fn signal(&self, number: i32) -> Result<()> {
        let mut state = self.lock();
        if state.reaped.is_some() {
            return Ok(());
        }
        state.killed |= number == signal::KILL;
        match process::pidfd_signal(&self.pidfd, number) {
            Err(error) if error.raw_os_error() != Some(ESRCH) => {
                let text = format!("{} to {} (pid {})", signal::name(number), self.about.name, self.pid);
                Err(ErrorKind::Spawn.with(format!("{text}: {error}")).caused_by(error))
            }
            _ => Ok(()),
        }
    }

    /// SIGKILL, to its whole group.
    pub(crate) fn kill(&self) -> Result<()> {
        let sent = self.signal(signal::KILL);
        let state = self.lock();
        // Not reaped, so the number is still that of its group.
        if state.reaped.is_none() && self.is_ours() {
            let _ = process::kill_group(self.pid, signal::KILL);
        }
        sent
    }
}

/// The same number on every Linux architecture.
const ESRCH: i32 = 3;
