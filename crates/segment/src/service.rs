//! The service thread: one per process, immortal. It starts processes, takes their exit status, fences them.
//!
//! It must never end, because the kernel sends a child its PDEATHSIG when the *thread* that started it ends, and because
//! the coordinator's life word is this thread's. So a panic in a callback is caught and logged. It blocks all signals:
//! handlers of the host program run on the host program's threads.
//!
//! It is a small reactor: descriptors to watch, timers, and closures that other threads hand over.

use std::any::Any;
use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use swath_platform::file::{self, Readiness};
use swath_platform::process;
use swath_platform::spawn::{Child, SpawnSelf};

use crate::error::{Error, Result};

type Job = Box<dyn FnOnce(&mut Reactor) + Send>;
type Watcher = Box<dyn FnMut(&mut Reactor) -> Keep + Send>;

/// The handle to the service thread.
#[derive(Debug)]
pub struct Service {
    /// The process it belongs to: a forked child has the handle, but not the thread.
    pid: u32,
    bell: OwnedFd,
    queue: Queue,
}

#[derive(Default)]
struct Queue(Mutex<VecDeque<Job>>);

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Queue")
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Job>> {
        // Nothing runs while it is held, so a poisoned queue is a sound one.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

thread_local! {
    static IS_SERVICE: Cell<bool> = const { Cell::new(false) };
}

impl Service {
    /// The process's service thread, started at the first call.
    ///
    /// # Panics
    ///
    /// When the thread cannot be started; [`Service::start`] tells instead.
    pub fn global() -> &'static Service {
        Service::start().expect("the service thread cannot be started")
    }

    /// The process's service thread, started at the first call.
    ///
    /// # Errors
    ///
    /// No thread or no descriptor can be had; this process was forked from the one that has the thread.
    pub fn start() -> Result<&'static Service> {
        static SERVICE: OnceLock<Service> = OnceLock::new();
        static STARTING: Mutex<()> = Mutex::new(());
        let _one = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        let service = match SERVICE.get() {
            Some(service) => service,
            None => {
                let bell = file::eventfd().map_err(|e| Error::system("eventfd", "service thread", e))?;
                let queue = Queue::default();
                let service = SERVICE.get_or_init(|| Service { pid: process::getpid(), bell, queue });
                service.start_thread()?;
                service
            }
        };
        if service.pid == process::getpid() {
            Ok(service)
        } else {
            Err(Error::Forked { coordinator: service.pid })
        }
    }

    fn start_thread(&'static self) -> Result<()> {
        let body = move || {
            IS_SERVICE.set(true);
            process::SignalsBlocked::new().for_ever();
            Reactor::new().run(self)
        };
        let builder = std::thread::Builder::new().name("swath-service".to_owned()).stack_size(256 << 10);
        builder.spawn(body).map(drop).map_err(|e| Error::system("start", "the service thread", e))
    }

    /// Runs `f` on the service thread and waits for its value; a panic in it continues here.
    ///
    /// # Panics
    ///
    /// On the service thread itself (use the reactor that you were given), and in a forked child.
    pub fn call<R: Send>(&self, f: impl FnOnce(&mut Reactor) -> R + Send) -> R {
        assert!(!Service::is_current(), "Service::call on the service thread would wait for itself");
        assert_eq!(self.pid, process::getpid(), "a forked child has no service thread");
        let (sender, receiver) = sync_channel::<std::result::Result<R, Box<dyn Any + Send>>>(1);
        let job: Box<dyn FnOnce(&mut Reactor) + Send + '_> = Box::new(move |reactor| {
            // `f` is consumed, and all that it borrowed given back, before the answer is sent.
            let answer = catch_unwind(AssertUnwindSafe(|| f(reactor)));
            let _ = sender.send(answer);
        });
        // SAFETY: only the lifetime changes. `f` borrows from our caller; it is run and dropped by the service thread before
        // the answer arrives, and we do not return before that: the thread never ends, never drops a job without
        // running it, and the queue is static. After the answer the job touches only the channel, which it co-owns.
        let job: Job = unsafe { std::mem::transmute::<Box<dyn FnOnce(&mut Reactor) + Send + '_>, Job>(job) };
        self.enqueue(job);
        match receiver.recv().expect("the service thread answers every call") {
            Ok(value) => value,
            Err(panic) => resume_unwind(panic),
        }
    }

    /// Has `f` run on the service thread, soon and after everything handed over before.
    pub fn post(&self, f: impl FnOnce(&mut Reactor) + Send + 'static) {
        self.enqueue(Box::new(f));
    }

    fn enqueue(&self, job: Job) {
        self.queue.lock().push_back(job);
        file::ring(&self.bell);
    }

    /// Whether the caller is the service thread.
    pub fn is_current() -> bool {
        IS_SERVICE.get()
    }
}

/// What a watcher wants after it was called.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Keep {
    /// To be called again.
    Yes,
    /// To be forgotten.
    No,
}

/// Names a watch or a timer.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Token(u64);

/// A descriptor to watch: owned (closed with the watch) or only looked at (the caller keeps it open until `unwatch`).
#[derive(Debug)]
pub enum WatchFd {
    /// Closed when the watch ends.
    Owned(OwnedFd),
    /// Somebody else's.
    Borrowed(RawFd),
}

impl From<OwnedFd> for WatchFd {
    fn from(fd: OwnedFd) -> WatchFd {
        WatchFd::Owned(fd)
    }
}

impl From<RawFd> for WatchFd {
    fn from(fd: RawFd) -> WatchFd {
        WatchFd::Borrowed(fd)
    }
}

impl WatchFd {
    fn raw(&self) -> RawFd {
        match self {
            WatchFd::Owned(fd) => fd.as_raw_fd(),
            WatchFd::Borrowed(fd) => *fd,
        }
    }
}

struct Watch {
    fd: WatchFd,
    /// Taken out while it runs.
    watcher: Option<Watcher>,
}

/// What runs on the service thread. Every callback gets it.
pub struct Reactor {
    watches: BTreeMap<Token, Watch>,
    timers: BTreeMap<(Instant, Token), Job>,
    next: u64,
}

impl std::fmt::Debug for Reactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reactor with {} watches and {} timers", self.watches.len(), self.timers.len())
    }
}

impl Reactor {
    fn new() -> Reactor {
        Reactor { watches: BTreeMap::new(), timers: BTreeMap::new(), next: 0 }
    }

    fn token(&mut self) -> Token {
        self.next += 1;
        Token(self.next)
    }

    /// Calls `watcher` whenever the descriptor is readable or hung up (a pidfd: the process has exited).
    pub fn watch(&mut self, fd: impl Into<WatchFd>, watcher: Watcher) -> Token {
        let token = self.token();
        self.watches.insert(token, Watch { fd: fd.into(), watcher: Some(watcher) });
        token
    }

    /// Forgets a watch and closes its descriptor if it owned it; also from inside its own callback.
    pub fn unwatch(&mut self, token: Token) {
        self.watches.remove(&token);
    }

    /// Calls `f` once, after the delay.
    pub fn after(&mut self, delay: Duration, f: Box<dyn FnOnce(&mut Reactor) + Send>) -> Token {
        let token = self.token();
        // What the clock does not reach never comes.
        if let Some(at) = Instant::now().checked_add(delay) {
            self.timers.insert((at, token), f);
        }
        token
    }

    /// Forgets a timer that has not been called yet.
    pub fn cancel(&mut self, token: Token) {
        self.timers.retain(|key, _| key.1 != token);
    }

    /// Starts a process whose parent, as far as PDEATHSIG goes, is the thread that never ends.
    ///
    /// # Errors
    ///
    /// Those of [`SpawnSelf::spawn`].
    pub fn spawn(&mut self, what: &SpawnSelf) -> io::Result<Child> {
        what.spawn()
    }

    fn run(&mut self, service: &Service) -> ! {
        loop {
            self.run_jobs(service);
            self.run_timers();
            if let Err(error) = self.wait(&service.bell) {
                // ENOMEM at worst: go on, but do not spin.
                tracing::error!("poll on the service thread: {error}");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }

    fn run_jobs(&mut self, service: &Service) {
        // Those of now: a job that posts another must not keep timers and watches from their turn.
        let jobs = std::mem::take(&mut *service.queue.lock());
        for job in jobs {
            self.guarded("a posted closure", |reactor| job(reactor));
        }
    }

    fn run_timers(&mut self) {
        let now = Instant::now();
        while let Some(first) = self.timers.first_entry() {
            if first.key().0 > now {
                break;
            }
            let job = first.remove();
            self.guarded("a timer", job);
        }
    }

    fn wait(&mut self, bell: &OwnedFd) -> io::Result<()> {
        let timeout = self.timers.keys().next().map(|key| key.0.saturating_duration_since(Instant::now()));
        let tokens: Vec<Token> = self.watches.keys().copied().collect();
        let fds: Vec<RawFd> =
            self.watches.values().map(|watch| watch.fd.raw()).chain([bell.as_raw_fd()]).collect();
        let ready = file::poll_readable(&fds, timeout)?;
        if ready.last() == Some(&Readiness::Ready) {
            file::unring(bell);
        }
        for (token, readiness) in tokens.into_iter().zip(ready) {
            match readiness {
                Readiness::Silent => {}
                Readiness::Ready => self.run_watcher(token),
                Readiness::Closed => {
                    tracing::error!("a watched descriptor was closed by somebody else; the watch ends");
                    self.unwatch(token);
                }
            }
        }
        Ok(())
    }

    fn run_watcher(&mut self, token: Token) {
        // Absent: unwatched by a callback that ran just before.
        let Some(mut watcher) = self.watches.get_mut(&token).and_then(|watch| watch.watcher.take()) else {
            return;
        };
        let keep = self.guarded("a watcher", |reactor| watcher(reactor));
        if keep == Some(Keep::Yes) {
            if let Some(watch) = self.watches.get_mut(&token) {
                watch.watcher = Some(watcher);
            }
        } else {
            self.unwatch(token);
        }
    }

    fn guarded<R>(&mut self, what: &str, f: impl FnOnce(&mut Reactor) -> R) -> Option<R> {
        match catch_unwind(AssertUnwindSafe(|| f(self))) {
            Ok(value) => Some(value),
            Err(panic) => {
                tracing::error!("{what} of the service thread panicked: {}", panic_text(panic.as_ref()));
                None
            }
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no text)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn a_call_borrows_and_answers() {
        let local = String::from("borrowed");
        let answer = Service::global().call(|_| {
            assert!(Service::is_current());
            local.len()
        });
        assert_eq!(answer, 8);
        assert!(!Service::is_current());
    }

    #[test]
    fn a_panic_reaches_the_caller_and_not_the_thread() {
        let caught = catch_unwind(|| Service::global().call(|_| panic!("told to")));
        assert_eq!(panic_text(caught.unwrap_err().as_ref()), "told to");
        Service::global().post(|_| panic!("told to, unheard"));
        assert_eq!(Service::global().call(|_| 7), 7);
    }

    #[test]
    fn watches_and_timers_are_called_and_can_be_forgotten() {
        let bell = file::eventfd().unwrap();
        let count = Arc::new(AtomicU32::new(0));
        let (sender, receiver) = sync_channel(4);
        let (seen, fd) = (count.clone(), bell.try_clone().unwrap());
        Service::global().call(|reactor| {
            let own = fd.try_clone().unwrap();
            reactor.watch(
                own,
                Box::new(move |reactor| {
                    file::unring(&fd);
                    let sender = sender.clone();
                    let forgotten = reactor.after(Duration::ZERO, Box::new(|_| panic!("cancelled")));
                    reactor.cancel(forgotten);
                    reactor.after(Duration::from_millis(1), Box::new(move |_| sender.send(()).unwrap()));
                    if seen.fetch_add(1, Ordering::SeqCst) == 1 { Keep::No } else { Keep::Yes }
                }),
            );
        });
        for _ in 0..2 {
            file::ring(&bell);
            receiver.recv_timeout(Duration::from_secs(10)).unwrap();
        }
        file::ring(&bell);
        assert_eq!(Service::global().call(|_| count.load(Ordering::SeqCst)), 2);
    }
}
