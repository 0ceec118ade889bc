//! The coordinator's side of the guardian: start it, notice its death, start another, end it with the session.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use swath_platform::process;
use swath_platform::spawn::{Child, SpawnSelf};

use crate::control::Control;
use crate::descendants::environment;
use crate::limits::{GUARDIAN_BACKOFF_MAX_MS, GUARDIAN_BACKOFF_MS, GUARDIAN_END_MS, GUARDIAN_YOUNG_MS};
use crate::locked_file::LockedFile;
use crate::service::{Keep, Reactor, Service};
use crate::{CONTROL_FD, GUARDIAN_ARGV0};

const SIGKILL: i32 = 9;

/// Keeps one guardian alive.
#[derive(Clone, Debug)]
pub(crate) struct Guard(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    wanted: AtomicBool,
    state: Mutex<State>,
    /// The first start was tried.
    tried: Condvar,
}

#[derive(Debug)]
struct State {
    control: &'static Control,
    /// The guardian holds the lock too.
    file: Arc<LockedFile>,
    null: File,
    child: Option<Child>,
    tried: bool,
    started: Instant,
    failures: u32,
    ending: bool,
}

impl Guard {
    /// One that is started by [`Guard::want`].
    pub(crate) fn new(control: &'static Control, file: Arc<LockedFile>) -> std::io::Result<Guard> {
        let state = State {
            control,
            file,
            null: File::options().read(true).write(true).open("/dev/null")?,
            child: None,
            tried: false,
            started: Instant::now(),
            failures: 0,
            ending: false,
        };
        let (wanted, state) = (AtomicBool::new(false), Mutex::new(state));
        Ok(Guard(Arc::new(Shared { wanted, state, tried: Condvar::new() })))
    }

    /// Has the service thread start the first guardian, before whatever it is asked for later.
    pub(crate) fn want(&self, service: &Service) {
        if self.0.wanted.swap(true, Ordering::AcqRel) {
            return;
        }
        let guard = self.clone();
        service.post(move |reactor| guard.start(reactor));
    }

    /// Starts the first guardian, unless that was tried; then the lock file has its name. On the service thread.
    pub(crate) fn start(&self, reactor: &mut Reactor) {
        if self.state().tried {
            return;
        }
        self.launch_or_later(reactor);
        let mut state = self.state();
        if !state.ending
            && let Err(error) = state.file.name()
        {
            tracing::warn!("the session has no name: {error}");
        }
        state.tried = true;
        self.0.tried.notify_all();
    }

    /// Whether [`Self::start`] is over.
    pub(crate) fn was_started(&self) -> bool {
        self.state().tried
    }

    /// Waits until there is a guardian, or until the first could not be started; whether there is one. That it runs is not
    /// awaited: it finds out by itself that it came too late. Only after [`Guard::want`], and not on the service thread.
    pub(crate) fn await_first(&self) -> bool {
        let state = self.0.tried.wait_while(self.state(), |state| !state.tried);
        state.unwrap_or_else(PoisonError::into_inner).child.is_some()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn launch(&self, reactor: &mut Reactor) -> std::io::Result<()> {
        let mut state = self.state();
        if state.ending {
            return Ok(());
        }
        let child = reactor.spawn(&command(&state))?;
        let watched = child.pidfd.try_clone()?;
        state.control.set_guardian_pid(child.pid);
        state.child = Some(child);
        state.started = Instant::now();
        drop(state);
        let guard = self.clone();
        reactor.watch(watched, Box::new(move |reactor| guard.died(reactor)));
        Ok(())
    }

    /// Step L4: the guardian is gone. Unless the session is ending, another one takes its place.
    fn died(&self, reactor: &mut Reactor) -> Keep {
        let mut state = self.state();
        if state.ending {
            return Keep::No;
        }
        let status = state.child.take().and_then(|child| process::reap(&child.pidfd).ok().flatten());
        state.control.set_guardian_pid(0);
        let young = state.started.elapsed() < Duration::from_millis(GUARDIAN_YOUNG_MS);
        state.failures = if young { state.failures + 1 } else { 0 };
        let delay = backoff(state.failures);
        drop(state);
        tracing::warn!("the guardian ended ({status:?}); another one starts in {delay:?}");
        self.launch_after(reactor, delay);
        Keep::No
    }

    fn launch_or_later(&self, reactor: &mut Reactor) {
        if let Err(error) = self.launch(reactor) {
            tracing::warn!("no guardian can be started: {error}");
            self.launch_after(reactor, Duration::from_millis(GUARDIAN_BACKOFF_MAX_MS));
        }
    }

    fn launch_after(&self, reactor: &mut Reactor, delay: Duration) {
        let guard = self.clone();
        reactor.after(delay, Box::new(move |reactor| guard.launch_or_later(reactor)));
    }

    /// Step L5: from now on no other guardian is started, nor is the lock file given its name.
    pub(crate) fn is_to_end(&self) {
        self.state().ending = true;
    }

    /// Step L6: ends the guardian for good; from any thread.
    pub(crate) fn end(&self) {
        let Some(child) = self.state().child.take() else { return };
        let _ = process::pidfd_signal(&child.pidfd, SIGKILL);
        if process::wait_exit(&child.pidfd, Duration::from_millis(GUARDIAN_END_MS)) {
            let _ = process::reap(&child.pidfd);
        }
    }
}

fn command(state: &State) -> SpawnSelf {
    let (null, lock) = (state.null.as_raw_fd(), state.file.lock.as_raw_fd());
    let text = |text: &str| CString::new(text).expect("no NUL");
    SpawnSelf {
        argv: vec![text(GUARDIAN_ARGV0), text(&CONTROL_FD.to_string())],
        // Without the mark of a session that this coordinator may itself be a worker of: whoever cleans up after that one kills
        // what bears its mark, and this guardian is still needed then.
        env: Some(environment(None)),
        // Not our output: whoever reads it until its end must not wait for the guardian.
        fds: vec![(null, 0), (null, 1), (null, 2), (lock, CONTROL_FD)],
        new_group: true,
    }
}

/// How long to wait after that many guardians have died young.
fn backoff(failures: u32) -> Duration {
    let millis = match failures {
        0 => 0,
        n => GUARDIAN_BACKOFF_MS.saturating_mul(1 << (n - 1).min(20)).min(GUARDIAN_BACKOFF_MAX_MS),
    };
    Duration::from_millis(millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_replacement_is_at_once_then_they_slow_down() {
        let waits: Vec<u128> = (0..12).map(|n| backoff(n).as_millis()).collect();
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 320, 640, 1000, 1000, 1000, 1000]);
        assert_eq!(backoff(u32::MAX).as_millis(), 1000);
    }
}
