//! The relay: one thread, `swath-output`, that passes on what workers print.
//!
//! It is not the service thread, because writing may wait for ever: for a reader that does not read (`program | less`), or for
//! the caller, who may hold the lock of standard output all the time. Then only workers that print more than their pipe
//! holds wait too; fences, replacements, deadlines and interrupts go on.
//!
//! It also follows the logs of workers and processes ([`crate::log`]): a subscriber may be as slow as a reader, and they do not wait for
//! it.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use swath_platform::file::{self, Readiness};
use swath_platform::process;

use crate::limits::{LOG_NAP, OUTPUT_MAX, TERM_GRACE};
use crate::log::{Follower, Journal};
use crate::output::Lines;
use swath_sync::SLICE;

/// What one worker says, in one way.
struct Source {
    flow: Flow,
    /// When something last came through.
    moved: Instant,
    /// When its worker was confirmed gone. What it started may still have the pipe open.
    gone: Arc<OnceLock<Instant>>,
    of: Counted,
}

/// How many sources of one pool, or one process, there are.
type Sources = Arc<AtomicUsize>;

/// One of them.
struct Counted(Sources);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

/// How it arrives.
enum Flow {
    /// Printed, on one stream.
    Lines(Lines),
    /// By `tracing`.
    Log(Follower),
}

impl Source {
    /// When it is given up though its pipe is still open: a grace after the worker's end, or after the last of its lines on a
    /// machine that is slow to pass them on.
    fn end(&self) -> Option<Instant> {
        // What is left of a log is here: it ends when it was shown.
        let (Flow::Lines(_), Some(gone)) = (&self.flow, self.gone.get()) else { return None };
        let gone = *gone;
        Some((self.moved.max(gone) + TERM_GRACE).min(gone + OUTPUT_MAX))
    }

    /// Passes on what has come; false at its end. `ready` is what was found out about its pipe.
    fn pump(&mut self, relay: &Relay, ready: Option<Readiness>) -> bool {
        match &mut self.flow {
            Flow::Log(follower) => follower.pump(&relay.moved),
            Flow::Lines(_) if ready != Some(Readiness::Ready) => true,
            Flow::Lines(lines) => {
                let before = lines.bytes();
                let open = lines.pump();
                if lines.bytes() != before {
                    self.moved = Instant::now();
                    relay.moved.fetch_add(1, Ordering::Relaxed);
                }
                open
            }
        }
    }

    /// The pipe to watch; nothing for a log, whose worker rings the bell.
    fn fd(&self) -> RawFd {
        match &self.flow {
            Flow::Lines(lines) => lines.fd(),
            // What poll passes over.
            Flow::Log(_) => -1,
        }
    }

    /// Nothing was said, and nothing will be.
    fn is_silent(&self) -> bool {
        self.log().is_some_and(Follower::is_silent)
    }

    fn log(&self) -> Option<&Follower> {
        match &self.flow {
            Flow::Log(follower) => Some(follower),
            Flow::Lines(_) => None,
        }
    }
}

/// The thread's mail.
struct Relay {
    bell: OwnedFd,
    new: Mutex<Vec<Source>>,
    ended: Condvar,
    /// Counts what came through.
    moved: AtomicU64,
    /// Pools and processes that ended before all was passed on.
    unfinished: Mutex<Vec<Sources>>,
}

/// Told when the worker is gone: what is in its pipe is still passed on, then it is closed.
pub(crate) struct Tap(Arc<OnceLock<Instant>>);

impl Tap {
    /// The worker's exit is confirmed.
    pub(crate) fn close(self) {
        let _ = self.0.set(Instant::now());
        if let Some(relay) = RELAY.get() {
            file::ring(&relay.bell);
        }
    }
}

/// The output of one pool's workers, or of one process.
#[derive(Default)]
pub(crate) struct Outlet(Sources);

static RELAY: OnceLock<Relay> = OnceLock::new();

impl Outlet {
    /// The descriptor by which a process wakes whoever reads its log.
    pub(crate) fn bell() -> Result<RawFd, String> {
        Relay::get().map(|relay| relay.bell.as_raw_fd())
    }

    /// Passes on what comes through these pipes. Also returns the bell.
    pub(crate) fn open(&self, pipes: impl IntoIterator<Item = Lines>) -> Result<(Tap, RawFd), String> {
        let relay = Relay::get()?;
        let gone = Arc::new(OnceLock::new());
        relay.add(pipes.into_iter().map(|lines| self.source(Flow::Lines(lines), gone.clone())));
        Ok((Tap(gone), relay.bell.as_raw_fd()))
    }

    /// Shows what comes by this journal, to its end.
    pub(crate) fn follow(&self, journal: Arc<Journal>) {
        if let Some(relay) = RELAY.get() {
            relay.add([self.source(Flow::Log(Follower::new(journal)), Arc::default())]);
        }
    }

    /// As [`Outlet::follow`], of a writer that may never say anything, and finds its reader asleep: the relay hears of it when it does.
    pub(crate) fn follow_asleep(&self, journal: Arc<Journal>) {
        if let Some(relay) = RELAY.get() {
            relay.lock().push(self.source(Flow::Log(Follower::new(journal)), Arc::default()));
        }
    }

    fn source(&self, flow: Flow, gone: Arc<OnceLock<Instant>>) -> Source {
        self.0.fetch_add(1, Ordering::Relaxed);
        Source { flow, moved: Instant::now(), gone, of: Counted(self.0.clone()) }
    }

    /// Waits until everything has been passed on, but not for ever: nobody may be reading. What is left then goes on being passed
    /// on, and the end of the program waits for it once more.
    pub(crate) fn drain(&self) {
        let Some(relay) = RELAY.get() else { return };
        if !relay.await_last(&self.0) {
            self.entrust();
        }
    }

    /// Whose output it is has ended. The end of the program waits for what is not passed on by then.
    pub(crate) fn entrust(&self) {
        let Some(relay) = RELAY.get() else { return };
        // Those that the relay has not even looked at.
        relay.lock().retain(|source| !Arc::ptr_eq(&source.of.0, &self.0) || !source.is_silent());
        let mut unfinished = relay.unfinished();
        unfinished.retain(|sources| !Arc::ptr_eq(sources, &self.0) && sources.load(Ordering::Acquire) > 0);
        if self.0.load(Ordering::Acquire) > 0 {
            unfinished.push(self.0.clone());
            file::ring(&relay.bell);
        }
    }
}

/// At the end of the program: what could not be passed on when its pool ended, because a reader or the lock of standard output
/// kept us waiting, perhaps can be now.
pub(crate) extern "C" fn last_drain() {
    let Some(relay) = RELAY.get() else { return };
    let unfinished = std::mem::take(&mut *relay.unfinished());
    // One that does not move keeps the others from it too.
    let _ = unfinished.iter().all(|sources| relay.await_last(sources));
}

impl Relay {
    /// The relay of this process; its thread is started at the first call.
    fn get() -> Result<&'static Relay, String> {
        // Whether there is a thread: one that could not be started is tried again.
        static STARTED: Mutex<bool> = Mutex::new(false);
        let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(relay) = RELAY.get().filter(|_| *started) {
            return Ok(relay);
        }
        if RELAY.get().is_none() {
            let bell = file::eventfd().map_err(|e| format!("eventfd for its output: {e}"))?;
            let (new, unfinished) = (Mutex::default(), Mutex::default());
            let (ended, moved) = (Condvar::new(), AtomicU64::new(0));
            let _ = RELAY.set(Relay { bell, new, ended, moved, unfinished });
            process::at_exit(last_drain);
        }
        let relay = RELAY.get().expect("set above");
        let body = || {
            process::SignalsBlocked::new().for_ever();
            relay.run()
        };
        let thread = std::thread::Builder::new().name("swath-output".to_owned()).stack_size(256 << 10);
        thread.spawn(body).map_err(|e| format!("a thread for its output: {e}"))?;
        *started = true;
        Ok(relay)
    }

    fn add(&self, sources: impl IntoIterator<Item = Source>) {
        self.lock().extend(sources);
        file::ring(&self.bell);
    }

    fn unfinished(&self) -> MutexGuard<'_, Vec<Sources>> {
        self.unfinished.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Source>> {
        self.new.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until none of them is left, while something moves at least once in a grace; whether that came.
    fn await_last(&self, sources: &Sources) -> bool {
        let begun = Instant::now();
        let (mut moved, mut deadline) = (self.moved.load(Ordering::Relaxed), begun + TERM_GRACE);
        let mut new = self.lock();
        while sources.load(Ordering::Acquire) > 0 {
            let time = deadline.saturating_duration_since(Instant::now());
            if time.is_zero() {
                let now = self.moved.load(Ordering::Relaxed);
                if now == moved || begun.elapsed() >= OUTPUT_MAX {
                    return false;
                }
                (moved, deadline) = (now, Instant::now() + TERM_GRACE);
                continue;
            }
            new = self.ended.wait_timeout(new, time).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn run(&self) -> ! {
        let mut sources: Vec<Source> = Vec::new();
        let mut seen = 0;
        loop {
            sources.append(&mut self.lock());
            let moved = self.moved.load(Ordering::Relaxed);
            // Passing on what one source says may take long. Only what a look after its end found empty is given up.
            let looked = Instant::now();
            let ready = self.wait(&sources, moved != seen);
            seen = moved;
            let mut ready = ready.into_iter();
            let before = sources.len();
            sources.retain_mut(|source| {
                let open = source.pump(self, ready.next());
                open && source.end().is_none_or(|end| looked < end)
            });
            if sources.len() < before {
                // Under the lock, so that whoever waits has either seen the sources go or hears this.
                let _new = self.lock();
                self.ended.notify_all();
            }
        }
    }

    /// Waits for output or mail; which sources are ready. Logs are looked at in any case, and soon if there was news a moment ago.
    fn wait(&self, sources: &[Source], nap: bool) -> Vec<Readiness> {
        let fds: Vec<RawFd> =
            [self.bell.as_raw_fd()].into_iter().chain(sources.iter().map(Source::fd)).collect();
        let until = sources.iter().filter_map(Source::end).min();
        let mut patience = until.map(|end| end.saturating_duration_since(Instant::now()));
        let logs = || sources.iter().filter_map(Source::log);
        if nap && logs().next().is_some() {
            patience = Some(patience.map_or(LOG_NAP, |patience| patience.min(LOG_NAP)));
        }
        if logs().any(|log| log.doze(nap)) {
            patience = Some(Duration::ZERO);
        }
        let ready = file::poll_readable(&fds, patience);
        logs().for_each(Follower::wake);
        let Ok(mut ready) = ready else {
            // Out of memory, at worst.
            std::thread::sleep(SLICE);
            return Vec::new();
        };
        if ready.remove(0) == Readiness::Ready {
            file::unring(&self.bell);
        }
        ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Stream;
    use std::fs::File;
    use std::io::Write;

    fn pipe() -> (Lines, std::io::PipeWriter) {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        (Lines::new(File::from(OwnedFd::from(reader)), Stream::Err), writer)
    }

    #[test]
    fn a_drain_ends_when_all_pipes_are_at_their_end_or_too_late() {
        let outlet = Outlet::default();
        let ((a, a_end), (b, b_end)) = (pipe(), pipe());
        let (tap, _) = outlet.open([a, b]).expect("a relay");
        drop((a_end, b_end));
        outlet.drain();
        assert_eq!(outlet.0.load(Ordering::Acquire), 0);
        tap.close();
        // Somebody else has the pipe: given up a grace after the worker's end.
        let ((a, _a_end), (b, _b_end)) = (pipe(), pipe());
        let (tap, _) = outlet.open([a, b]).expect("a relay");
        tap.close();
        let late = Instant::now() + TERM_GRACE + Duration::from_secs(20);
        while outlet.0.load(Ordering::Acquire) > 0 {
            assert!(Instant::now() < late, "never given up");
            outlet.drain();
        }
    }
    /// Whoever holds the lock of the output for longer than a grace costs nobody his last lines.
    #[test]
    fn what_came_while_the_relay_was_kept_waiting_is_passed_on() {
        let outlet = Outlet::default();
        let ((a, mut a_end), (b, mut b_end)) = (pipe(), pipe());
        let (a_seen, seen) =
            (a.try_clone_pipe(), || RELAY.get().expect("a relay").moved.load(Ordering::Relaxed));
        let (tap, _) = outlet.open([a, b]).expect("a relay");
        let before = seen();
        let held = std::io::stderr().lock();
        writeln!(a_end, "said before").expect("room");
        let is_empty = || {
            file::poll_readable(&[a_seen.as_raw_fd()], Some(Duration::ZERO)).expect("a look")[0]
                != Readiness::Ready
        };
        while !is_empty() {
            std::thread::yield_now();
        }
        // The relay has read it, and waits for the lock.
        writeln!(b_end, "said meanwhile").expect("room");
        tap.close();
        std::thread::sleep(TERM_GRACE + SLICE);
        drop(held);
        while outlet.0.load(Ordering::Acquire) > 0 {
            outlet.drain();
        }
        assert_eq!(seen() - before, 2, "both lines");
        drop((a_end, b_end));
    }
}
