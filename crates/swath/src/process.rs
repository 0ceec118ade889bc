//! One function in a process of its own: [`Process`] to start and watch one, [`isolated`](crate::isolated) for one call with a value.
//!
//! ```no_run
//! use swath::Process;
//!
//! fn greet((name, times): (String, u32)) {
//!     (0..times).for_each(|_| println!("hello, {name}"));
//! }
//!
//! fn main() -> swath::Result<()> {
//!     swath::init();
//!     let process = Process::spawn(greet, ("world".to_owned(), 3))?;
//!     assert!(process.join()?.success());
//!     Ok(())
//! }
//! ```
//!
//! What it is: the same executable, started again, with nothing of this process but what it is given. Its function's arguments
//! are encoded, so closures capture nothing; `Shared` objects in them work there, and what it holds of them is recovered when it
//! dies. Standard input is empty, standard output and error are this program's. It leads a process group of its own, so a Ctrl-C at
//! the terminal reaches it by way of its starter. What it says by `tracing` arrives, under its name, at the subscriber that was in force where it
//! was started: all of it by the time [`Process::join`] returns. A forked copy has a copy of its starter's subscriber instead.
//!
//! When it ends: with its function. Or with its starter: killed at once, if that dies; waited for, or if it is a daemon
//! ended, if the starter ends by itself. Whatever becomes of its handle, no zombie is left. If a signal ended it, then so are the
//! programs that it had started in its group; if it ended by itself they go on.
//!
//! # The protocol
//!
//! The starter is the coordinator of a session, the new process a member of it, as a worker is, with a slot of its own and none of
//! a worker's work.
//!
//! | step | who | what | killed here → repaired there |
//! |---|---|---|---|
//! | P1 | starter | writes the errand (function, arguments, limits, name) into a parcel, an unnamed file; makes an empty ring for its log, another one | files gone with it |
//! | P2 | service thread | reserves a slot, starts `/proc/self/exe`: `swath-worker 3 SLOT GENERATION process DEPTH FD DEV INO`, with the bell of whoever reads the log as descriptor 4 and the ring as 5 | starter dead: the new process ends by C1 |
//! | P3 | service thread | has its log followed, watches its pidfd, then writes its pid into the slot | as P2; the guardian kills who is in the table |
//! | C1 | process | asks for SIGKILL at its starter's death, then looks whether the starter is still its parent | E1 |
//! | C2 | process | copies the parcel from `/proc/STARTER/fd/FD`, checks it, compares executables; maps the ring, and closes it: what is said from now on arrives | E1 |
//! | C3 | process | waits for P3, is LIVE: from now on it can own locks | E1 |
//! | C4 | process | directory, limits | E1 |
//! | C5 | process | decodes the arguments, calls the function | E1; its locks are recovered by who waits for them |
//! | C6 | process | the answer of an isolated call into another parcel, committed by one store; ends | no commit: no answer |
//! | E1 | service thread | exit confirmed: ends its group if it has to, takes its status, and what is left in the ring: it is shown after what was shown before | the guardian |
//! | E2 | service thread | marks the slot dead, frees it | the guardian |
//! | E3 | service thread | lets go of parcel, objects and session, then tells all who wait | – |
//!
//! After E3 nothing is left of it: descriptors, slot, zombie and, if it was the session's last user, the session are gone
//! before [`Process::join`] returns. A program that starts processes one after the other keeps a session between them by
//! holding one: a `Shared`, an array, a pool, or `swath::segment::Session::current()`.
//!
//! # Nesting
//!
//! A process, and a pool's worker, can start processes and pools of its own. It then has a session of its own, with a guardian
//! of its own, besides its place in its starter's session: every protocol above is between a coordinator and its members, and
//! nothing reaches over two levels. When the topmost is killed, each level dies of the one above it (C1), and each level's guardian
//! tidies up its session. The depth is in the command line, and limited ([`NESTING_MAX`](crate::limits::NESTING_MAX)).

mod allowance;
mod builder;
pub(crate) mod entry;
mod errand;
mod failure;
mod forked;
mod isolated;
mod launch;
pub(crate) mod lineage;
pub(crate) mod method;
mod parcel;
mod record;
mod roll;
mod status;
mod value;

pub use allowance::Limits;
pub use builder::{Input, Output, ProcessBuilder};
pub use failure::{Exceeded, Failure};
pub use isolated::{IsolatedBuilder, isolated, isolated_with, try_isolated};
pub use lineage::{Relative, current_process, parent_process};
pub use method::{StartMethod, start_methods};
pub use status::ExitStatus;
pub use value::ExitValue;

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use swath_platform::signal;

use crate::error::Result;
use crate::head_count;
use record::Record;

/// A process that runs one function. See the module.
///
/// A handle, not the process: clones are handles to the same one, and a process whose handles are all dropped goes on, is reaped
/// when it ends, and is waited for at this program's end unless it is a daemon.
#[derive(Clone)]
pub struct Process(Arc<Record>);

impl Process {
    /// Starts a process that runs `f(args)`, and does not wait for it.
    ///
    /// What `f` returns becomes the exit code: see [`ExitValue`]. The arguments are any serde value. `std::process::exit` works in
    /// it as anywhere.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotInitialised`](crate::ErrorKind::NotInitialised) without [`swath::init()`](crate::init()) in `main`;
    /// [`Codec`](crate::ErrorKind::Codec) if the arguments cannot be encoded;
    /// [`TooDeep`](crate::ErrorKind::TooDeep) in a process that is nested too deep; [`Spawn`](crate::ErrorKind::Spawn) and
    /// [`Memory`](crate::ErrorKind::Memory) if the system has no room for it. Whatever goes wrong in the new process is in its exit
    /// status: 121 if it could not begin.
    pub fn spawn<A, R>(f: fn(A) -> R, args: A) -> Result<Process>
    where
        A: Serialize + DeserializeOwned,
        R: ExitValue,
    {
        Process::builder().spawn(f, args)
    }

    /// Starts a forked copy of this process, which runs `f` and ends: `f` may capture, and nothing is encoded.
    ///
    /// ```no_run
    /// # fn main() -> swath::Result<()> {
    /// let table: Vec<u64> = (0..1_000_000).collect();
    /// let process = swath::Process::fork(move || table.iter().sum::<u64>() == 0)?;
    /// assert_eq!(process.join()?.code(), Some(0));
    /// # Ok(()) }
    /// ```
    ///
    /// A copy has one thread, and the locks of all others, for ever: the allocator's, the log's. So this is refused in a process
    /// with more than one thread, and any session, and so any pool, array, `Shared` and spawned process, has a thread. (Handles that
    /// were lent to this process have none; they are good in the copy.) The copy keeps
    /// all open descriptors; it ends by `_exit`, so what this program has registered for its end does not run in it. It has no
    /// guardian: what it has started itself is not looked for when this program is killed, the copy itself dies with it.
    ///
    /// # Errors
    ///
    /// [`Usage`](crate::ErrorKind::Usage) with more than one thread, all of which it names; [`TooDeep`](crate::ErrorKind::TooDeep);
    /// [`Spawn`](crate::ErrorKind::Spawn).
    pub fn fork<R: ExitValue>(f: impl FnOnce() -> R) -> Result<Process> {
        Process::builder().fork(f)
    }

    /// A process to be.
    pub fn builder() -> ProcessBuilder {
        ProcessBuilder::default()
    }

    /// Waits until it has ended, and until its lines and what it said by `tracing` have been passed on; for those not for ever, since nobody
    /// may be reading.
    ///
    /// # Errors
    ///
    /// Only in a forked copy of the process that started it.
    pub fn join(&self) -> Result<ExitStatus> {
        self.0.check_ours()?;
        Ok(self.0.wait(None).expect("without a deadline it has ended").status)
    }

    /// As [`Process::join`], at most for `timeout`; `None` if it still runs. With a timeout of zero it does not wait.
    ///
    /// # Errors
    ///
    /// As [`Process::join`].
    pub fn join_timeout(&self, timeout: Duration) -> Result<Option<ExitStatus>> {
        self.0.check_ours()?;
        // A sum that no clock has: for ever.
        let end = self.0.wait(Instant::now().checked_add(timeout));
        Ok(end.map(|end| end.status))
    }

    /// How it ended; `None` while it runs.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.0.end().map(|end| end.status)
    }

    /// Whether it runs.
    pub fn is_alive(&self) -> bool {
        self.exit_status().is_none()
    }

    /// Why it ended as it did, with the limit that it ran into; `None` while it runs, and if its exit code is 0.
    pub fn failure(&self) -> Option<Failure> {
        let Record { about, pid, .. } = &*self.0;
        Failure::of_end(&about.name, *pid, &self.0.end()?, &about.limits)
    }

    /// Asks it to end, by SIGTERM. Nothing happens if it has ended.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn terminate(&self) -> Result<()> {
        self.0.signal(signal::TERM)
    }

    /// Ends it, and its whole process group, by SIGKILL. Nothing happens if it has ended.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn kill(&self) -> Result<()> {
        self.0.kill()
    }

    /// Sends it SIGINT, as a Ctrl-C does: it ends, unless it does something about it.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn interrupt(&self) -> Result<()> {
        self.0.signal(signal::INT)
    }

    /// Its process id. Somebody else may have it once the process has ended.
    pub fn id(&self) -> u32 {
        self.0.pid
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.about.name
    }

    /// Whether it ends with this program.
    pub fn is_daemon(&self) -> bool {
        self.0.about.daemon
    }

    /// A descriptor that becomes readable when it ends: for `poll` and the like. To wait for it beside queues, events and other
    /// processes, give the process itself to [`wait_any`](crate::shared::wait_any).
    pub fn sentinel(&self) -> BorrowedFd<'_> {
        self.0.pidfd()
    }

    pub(crate) fn record(&self) -> &Record {
        &self.0
    }

    /// Gives the handle up for good, for who wants to be sure that the process has ended. Afterwards there is nothing left to call
    /// a method on.
    ///
    /// # Errors
    ///
    /// It still runs: the error gives the handle back.
    pub fn close(self) -> std::result::Result<(), StillRunning> {
        if self.is_alive() { Err(StillRunning(self)) } else { Ok(()) }
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.sentinel()
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {}), ", self.name(), self.id())?;
        match self.exit_status() {
            Some(status) => write!(f, "ended: {status}"),
            None => f.write_str("running"),
        }
    }
}

/// The process cannot be closed: it still runs.
#[derive(Debug)]
pub struct StillRunning(pub Process);

impl fmt::Display for StillRunning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StillRunning(process) = self;
        write!(f, "{} (pid {}) still runs: join or end it before it is closed", process.name(), process.id())
    }
}

impl std::error::Error for StillRunning {}

impl From<StillRunning> for crate::Error {
    fn from(error: StillRunning) -> crate::Error {
        crate::ErrorKind::Usage.with(error.to_string()).caused_by(error)
    }
}

/// The processes that this one has started and that have not ended, in the order of their starts.
pub fn active_children() -> Vec<Process> {
    roll::living().into_iter().map(Process).collect()
}

/// How many processors this process may use: those of its affinity mask, but no more than its cgroup's quota. It is how many
/// workers a pool has when nobody says.
pub fn cpu_count() -> usize {
    head_count::processors()
}
