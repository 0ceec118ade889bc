//! A manager, as one process sees it: where it is, and the connections to it that are idle.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use swath_platform::process;
use swath_platform::stream::Stream;

use super::fault::ManagedError;
use super::frame::{Frame, receive, verb};
use super::house::at_work_on;
use super::server::hello;
use crate::cause::LastWords;
use crate::limits::{HANDSHAKE, MANAGED_MESSAGE_BYTES};
use crate::process::{Failure, Process};

/// Managers that this process keeps connections to, though it has no proxy of theirs at the moment: a task has one only as long as it
/// lasts.
const REMEMBERED: usize = 8;
/// Connections to one manager that this process keeps for its next calls. Those of a burst are given back: others need them.
const IDLE: usize = 4;
/// How long the starter of a manager waits for the exit status of one that hung up.
pub(crate) const STATUS_WITHIN: Duration = Duration::from_secs(2);

/// A manager, as it travels.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Address {
    pub(crate) name: String,
    /// Of its socket; no two managers have the same.
    pub(crate) socket: String,
    /// Who knows it is a client.
    pub(crate) secret: [u8; 16],
    pub(crate) pid: u32,
    pub(crate) start_ticks: u64,
    /// For calls that say nothing else.
    pub(crate) timeout: Option<Duration>,
}

pub(crate) struct Site {
    pub(crate) address: Address,
    ending: Mutex<Ending>,
    idle: Mutex<Vec<Idle>>,
}

/// What this process knows of its end.
enum Ending {
    /// Nothing: somebody else has started it.
    Unknown,
    /// This process has started it.
    Ours(Process),
    /// How it ended. Nothing is kept open for it any more.
    Known(String),
}

struct Idle {
    stream: Stream,
    /// A forked child has a copy, which it must not use.
    owner: u32,
}

/// How long a call may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// As the manager's builder said.
    Default,
    /// Each call so long.
    Each(Duration),
    /// All calls until then.
    Until(Instant),
}

impl Patience {
    /// As it travels: a deadline as what is left of it.
    pub(crate) fn travelling(self) -> Option<Duration> {
        match self {
            Patience::Default => None,
            Patience::Each(limit) => Some(limit),
            Patience::Until(at) => Some(at.saturating_duration_since(Instant::now())),
        }
    }
}

static SITES: Mutex<Vec<Arc<Site>>> = Mutex::new(Vec::new());

fn sites() -> MutexGuard<'static, Vec<Arc<Site>>> {
    SITES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is left of a call's time.
pub(crate) struct Clock {
    limit: Duration,
    deadline: Option<Instant>,
}

impl Clock {
    pub(crate) fn of(patience: Patience, timeout: Option<Duration>) -> Clock {
        let now = Instant::now();
        let limit = match patience {
            Patience::Default => timeout,
            Patience::Each(limit) => Some(limit),
            Patience::Until(at) => Some(at.saturating_duration_since(now)),
        };
        // A sum that no clock has: for ever.
        Clock { limit: limit.unwrap_or_default(), deadline: limit.and_then(|limit| now.checked_add(limit)) }
    }

    /// `None`: for ever.
    fn left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }
}

impl Site {
    /// The one for this address in this process.
    pub(crate) fn of(address: Address) -> Arc<Site> {
        let mut dropped = Vec::new();
        let mut sites = sites();
        if let Some(at) = sites.iter().position(|site| site.address.socket == address.socket) {
            // The latest last.
            let site = sites.remove(at);
            sites.push(site.clone());
            return site;
        }
        let site = Arc::new(Site { address, ending: Mutex::new(Ending::Unknown), idle: Mutex::default() });
        sites.push(site.clone());
        let unused = |site: &Arc<Site>| Arc::strong_count(site) == 1;
        while sites.len() > REMEMBERED
            && let Some(at) = sites.iter().position(unused)
        {
            dropped.push(sites.remove(at));
        }
        let is_over =
            |site: &mut Arc<Site>| unused(site) && site.idle().iter().any(|idle| idle.stream.is_disturbed());
        dropped.extend(sites.extract_if(.., is_over));
        drop(sites);
        site
    }

    /// This process has started it.
    pub(crate) fn is_ours(&self, process: Process) {
        *self.ending() = Ending::Ours(process);
    }

    /// Nobody will call it any more.
    pub(crate) fn forget(&self) {
        sites().retain(|site| site.address.socket != self.address.socket);
        let idle = std::mem::take(&mut *self.idle());
        drop(idle);
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a message, and waits for its answer.
    pub(crate) fn ask(
        &self,
        verb: u64,
        object: u64,
        frame: Frame,
        patience: Patience,
    ) -> Result<Vec<u8>, ManagedError> {
        if frame.len() > MANAGED_MESSAGE_BYTES {
            return Err(ManagedError::TooLong { bytes: frame.len() });
        }
        if verb != verb::REMOVE
            && object != 0
            && object == at_work_on()
            && self.address.pid == process::getpid()
        {
            return Err(ManagedError::WouldDeadlock);
        }
        let clock = Clock::of(patience, self.address.timeout);
        if clock.left() == Some(Duration::ZERO) {
            return Err(ManagedError::TimedOut { limit: clock.limit, sent: false });
        }
        let stream = match self.take_idle() {
            Some(stream) => stream,
            None => self.connect(&clock)?,
        };
        let given = self.exchange(&stream, &frame.seal(verb, object), &clock)?;
        // Only now: after an error a late answer may still come. And who has no room for us has hung up.
        let mut idle = self.idle();
        if idle.len() < IDLE && !matches!(given, Err(ManagedError::Full { .. })) {
            idle.push(Idle { stream, owner: process::getpid() });
        }
        drop(idle);
        given
    }

    /// As [`Site::ask`], over a connection that is kept for it; it takes its time.
    pub(crate) fn ask_over(
        &self,
        stream: &Stream,
        verb: u64,
        patience: Patience,
    ) -> Result<(), ManagedError> {
        let clock = Clock::of(patience, None);
        self.exchange(stream, &Frame::new().seal(verb, 0), &clock)?.map(drop)
    }

    fn take_idle(&self) -> Option<Stream> {
        let mut idle = self.idle();
        loop {
            let Idle { stream, owner } = idle.pop()?;
            if owner == process::getpid() {
                return Some(stream);
            }
        }
    }

    pub(crate) fn connect(&self, clock: &Clock) -> Result<Stream, ManagedError> {
        loop {
            let begun = Instant::now();
            let connected = self.shake_hands(clock);
            // It gives up on who does not say hello: this process may have been stopped in between. Nothing was asked yet.
            let too_slow =
                begun.elapsed() >= HANDSHAKE && matches!(connected, Err(ManagedError::Gone { .. }));
            if !(too_slow && self.lives() && clock.left() != Some(Duration::ZERO)) {
                return connected;
            }
        }
    }

    fn shake_hands(&self, clock: &Clock) -> Result<Stream, ManagedError> {
        let Address { socket, pid, secret, .. } = &self.address;
        let stream = Stream::connect(socket.as_bytes(), clock.deadline)
            .map_err(|error| self.failed(error, clock, false))?;
        let peer = stream.peer().map_err(|error| self.failed(error, clock, false))?;
        // Its name is free when it has ended: somebody else may have taken it.
        if peer.uid != process::geteuid() || peer.pid != *pid {
            return Err(self.gone(clock));
        }
        let hello = hello(secret).map_err(|what| ManagedError::Connection { what, sent: false })?;
        self.exchange(&stream, &Frame::with(&hello).seal(verb::HELLO, 0), clock).map_err(
            |error| match error {
                ManagedError::TimedOut { limit, .. } => ManagedError::TimedOut { limit, sent: false },
                ManagedError::Connection { what, .. } => ManagedError::Connection { what, sent: false },
                other => other,
            },
        )??;
        Ok(stream)
    }

    /// The outer error: the connection is not usable any more.
    fn exchange(
        &self,
        stream: &Stream,
        message: &[u8],
        clock: &Clock,
    ) -> Result<Result<Vec<u8>, ManagedError>, ManagedError> {
        let sent = stream.send_all(message, clock.deadline);
        // Who is not admitted is told so, and hung up on: perhaps before it has sent anything.
        let hung_up = sent.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::TimedOut);
        if let Err(error) = sent
            && !hung_up
        {
            return Err(self.failed(error, clock, false));
        }
        // It is answered sooner than a sleeper wakes.
        swath_sync::spin(|| stream.is_disturbed());
        let given = match receive(stream, MANAGED_MESSAGE_BYTES, clock.deadline) {
            Ok(given) => given.ok_or_else(|| self.gone(clock))?,
            Err(error) => return Err(self.failed(error, clock, true)),
        };
        match given.0.verb {
            verb::DONE => Ok(Ok(given.1)),
            _ => {
                let why = postcard::from_bytes(&given.1);
                let codec = |e| ManagedError::Codec { what: format!("the manager's answer: {e}") };
                Ok(Err(why.unwrap_or_else(codec)))
            }
        }
    }

    fn failed(&self, error: io::Error, clock: &Clock, sent: bool) -> ManagedError {
        use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, TimedOut, UnexpectedEof};
        match error.kind() {
            TimedOut => ManagedError::TimedOut { limit: clock.limit, sent },
            BrokenPipe | ConnectionRefused | ConnectionReset | UnexpectedEof => self.gone(clock),
            _ => ManagedError::Connection { what: error.to_string(), sent },
        }
    }

    fn ending(&self) -> MutexGuard<'_, Ending> {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it ended, if this process has started it; its status is awaited `within` that time.
    pub(crate) fn end(&self, within: Duration) -> Option<String> {
        let process = match &*self.ending() {
            Ending::Unknown => return None,
            Ending::Ours(process) => process.clone(),
            Ending::Known(known) => return Some(known.clone()),
        };
        // Outside of the lock: others have their own time.
        let status = process.join_timeout(within).ok()??;
        let text = |failure: Failure| {
            let Failure { what, exceeded, last_words, .. } = failure;
            let exceeded = exceeded.map_or_else(String::new, |exceeded| format!(", {exceeded}"));
            format!("{what}{exceeded}{}", LastWords(&last_words))
        };
        let known = process.failure().map_or_else(|| format!("it ended with {status}"), text);
        *self.ending() = Ending::Known(known.clone());
        Some(known)
    }

    fn lives(&self) -> bool {
        process::has_exited(self.address.pid, self.address.start_ticks) == Some(false)
    }

    fn gone(&self, clock: &Clock) -> ManagedError {
        let Address { name, pid, .. } = &self.address;
        let known = self.end(clock.left().map_or(STATUS_WITHIN, |left| left.min(STATUS_WITHIN)));
        let unreachable = || {
            self.lives().then(|| {
                "it cannot be reached, though its process lives (is it on its way out, or in another network namespace?)"
                    .to_owned()
            })
        };
        ManagedError::Gone { manager: name.clone(), pid: *pid, cause: known.or_else(unreachable) }
    }
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.address.name, self.address.pid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use swath_platform::stream::Listener;

    /// As if this process had been stopped for so long between its `connect` and its hello.
    #[test]
    fn who_was_too_slow_for_the_handshake_tries_again() {
        let socket = format!("swath-test-handshake-{}", process::getpid());
        let listener = Listener::bind(socket.as_bytes()).expect("a free name");
        let pid = process::getpid();
        let start_ticks = process::start_ticks(pid).expect("ours");
        let name = "test".to_owned();
        let site = Site::of(Address { name, socket, secret: [7; 16], pid, start_ticks, timeout: None });
        let server = std::thread::spawn(move || {
            let given_up = listener.accept().expect("somebody connects");
            std::thread::sleep(HANDSHAKE);
            drop(given_up);
            let taken = listener.accept().expect("and again");
            let said = receive(&taken, 1 << 10, None).expect("a frame").expect("hello");
            assert_eq!(said.0.verb, verb::HELLO);
            taken.send_all(&Frame::new().seal(verb::DONE, 0), None).expect("taken");
            drop(taken);
            // Who hangs up at once has ended, as far as anybody can tell.
            drop(listener.accept().expect("a third time"));
        });
        let clock = || Clock::of(Patience::Default, None);
        site.connect(&clock()).expect("the second time");
        let error = site.connect(&clock()).expect_err("hung up on");
        assert!(matches!(error, ManagedError::Gone { .. }), "{error}");
        server.join().expect("no panic");
        site.forget();
    }
}
