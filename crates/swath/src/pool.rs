//! Pools: the workers of a session that run phases together.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use swath_segment::Session;

use crate::crew::Crew;
use crate::error::{ErrorKind, Result};
use crate::gather::Gather;
use crate::head_count;
use crate::init;
use crate::inline::Inline;
use crate::log;
use crate::operand::Operand;
use crate::panic_note;
use crate::phase::{Encoded, Phase};
use crate::report::Report;
use crate::run::{self, Memory, Options, Plan};
use crate::task::background;
use crate::task::office::Office;

/// A number of worker processes, kept ready. Phases of several threads run one after the other.
///
/// Dropping it ends the workers and waits until they have ended.
pub struct Pool {
    staff: Staff,
    memory: Mutex<Memory>,
    options: Options,
    office: OnceLock<Arc<Office>>,
    /// Tasks of an inline pool so far.
    tasks: AtomicU64,
}

enum Staff {
    Crew(Arc<Crew>),
    Inline(Mutex<Box<Inline>>),
}

// SAFETY: an inline pool's pointers are into segments that it owns and that only the holder of its lock uses.
unsafe impl Send for Staff {}
// SAFETY: as above.
unsafe impl Sync for Staff {}

/// How a pool is to be.
#[derive(Debug, Default)]
#[must_use = "call build()"]
pub struct PoolBuilder {
    workers: Option<usize>,
    threads: Option<usize>,
    options: Options,
    pub(crate) log: log::Options,
}

impl PoolBuilder {
    /// How many worker processes; 0 is the same as [`PoolBuilder::inline`]. Without it: as many as the processors we may use.
    /// The environment variable `SWATH_WORKERS` overrides both.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// No processes: the caller runs the chunks itself, with the same borders and bits. For debuggers and small jobs.
    pub fn inline(self) -> Self {
        self.workers(0)
    }

    /// Threads that run inside a worker; 1 by default. With more, a worker's locks are handed on when its exit is confirmed, and not
    /// already at the kernel's mark for its first thread: say so too if your kernels start threads that write what a lock
    /// guards. Set for libraries in the workers' environment for OpenMP, the usual
    /// BLAS libraries and rayon, where you have not set it yourself.
    pub fn threads_per_worker(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Drops a worker's writable mapping of an array before a phase that only reads it, so that a stray write there is that
    /// worker's death and nothing else. Costs a mapping per change of roles.
    pub fn strict_inputs(mut self, strict: bool) -> Self {
        self.options.strict_inputs = strict;
        self
    }

    /// Ends a phase with [`ErrorKind::Interrupted`] on SIGINT and SIGTERM, with all workers stopped; a second signal ends the
    /// program at once. For programs that own their process, such as commands.
    pub fn handle_interrupts(mut self, handle: bool) -> Self {
        self.options.interrupts = handle;
        self
    }

    /// Starts the workers and waits until all have shown themselves.
    ///
    /// # Errors
    /// [`ErrorKind::NotInitialised`] without [`swath::init()`](crate::init()) in `main`; [`ErrorKind::Spawn`] when workers do not
    /// come up; [`ErrorKind::Memory`] when there is no room for the session; [`ErrorKind::WouldDeadlock`] in a worker.
    pub fn build(self) -> Result<Pool> {
        if panic_note::in_kernel() {
            return Err(ErrorKind::WouldDeadlock.with("a kernel cannot have a pool of its own"));
        }
        let head_count = head_count::decide(self.workers)?;
        tracing::info!("{} workers, since {}", head_count.workers, head_count.why);
        if self.options.interrupts {
            swath_platform::signal::catch(swath_platform::signal::INT);
            swath_platform::signal::catch(swath_platform::signal::TERM);
        }
        let staff = match head_count.workers {
            0 => Staff::Inline(Mutex::new(Box::new(Inline::new()?))),
            workers => {
                if !init::is_initialised() {
                    return Err(ErrorKind::NotInitialised.with(
                        "workers are this executable started again: call swath::init() first in main \
                         (in tests and benches: swath::worker_entry!();)",
                    ));
                }
                let threads = self.threads.unwrap_or(1).max(1);
                Staff::Crew(Crew::start(Session::current()?, workers, threads, self.log)?)
            }
        };
        Ok(Pool {
            staff,
            memory: Mutex::new(Memory::default()),
            options: self.options,
            office: OnceLock::new(),
            tasks: AtomicU64::new(0),
        })
    }
}

impl Pool {
    /// A pool to be.
    pub fn builder() -> PoolBuilder {
        PoolBuilder::default()
    }

    /// Worker processes; 0 for an inline pool.
    pub fn workers(&self) -> usize {
        match &self.staff {
            Staff::Crew(crew) => crew.board.workers(),
            Staff::Inline(_) => 0,
        }
    }

    /// Process ids of the workers that are there now.
    pub fn pids(&self) -> Vec<u32> {
        match &self.staff {
            Staff::Crew(crew) => {
                crew.lock().members.iter().filter(|m| m.is_present()).map(|m| m.pid).collect()
            }
            Staff::Inline(_) => Vec::new(),
        }
    }

    /// A phase over `operands`: `&a`, `&mut a`, [`out`](crate::out), [`whole`](crate::whole), or a tuple of them.
    pub fn phase<O: Operand>(&self, operands: O) -> Phase<'_, O, Encoded<()>> {
        Phase::new(self, operands)
    }

    /// Where this pool's tasks are looked after, set up at the first call.
    pub(crate) fn office(&self) -> Result<&Arc<Office>> {
        if let Some(office) = self.office.get() {
            return Ok(office);
        }
        let office = match &self.staff {
            Staff::Crew(crew) => Office::new(Some(crew.desk()?), Arc::downgrade(crew)),
            Staff::Inline(_) => Office::new(None, Weak::new()),
        };
        Ok(self.office.get_or_init(|| Arc::new(office)))
    }

    /// The number of an inline pool's next task.
    pub(crate) fn next_task(&self) -> u64 {
        self.tasks.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// No more tasks; those that were submitted are finished.
    pub fn close(&self) {
        if let Some(desk) = self.office().ok().and_then(|office| office.desk()) {
            desk.close(false);
        }
    }

    /// Waits until every task is over. Call [`Pool::close`] first if other threads submit.
    pub fn join(&self) {
        if let Some(desk) = self.office.get().and_then(|office| office.desk()) {
            desk.wait_all(None);
        }
    }

    /// As [`Pool::join`], at most `patience`; whether every task is over.
    pub fn join_timeout(&self, patience: Duration) -> bool {
        let deadline = Instant::now().checked_add(patience);
        let desk = self.office.get().and_then(|office| office.desk());
        desk.is_none_or(|desk| desk.wait_all(deadline))
    }

    /// Ends the pool now: tasks that are not over are cancelled, workers are ended, as when it is dropped.
    pub fn terminate(self) {
        drop(self);
    }

    /// A pool that was broken by a task's death, or closed, takes tasks again. No effect on one without workers.
    pub fn reset(&self) {
        if let Some(desk) = self.office.get().and_then(|office| office.desk()) {
            desk.reopen();
        }
    }

    /// Python's `Executor.shutdown`: takes no more tasks; with `cancel_pending`, those that no worker has are cancelled; with `wait`,
    /// returns when all are over. Without it, returns at once, and the rest is finished in the background: the program
    /// waits for that before it exits.
    pub fn shutdown(self, wait: bool, cancel_pending: bool) {
        if let Some(desk) = self.office().ok().and_then(|office| office.desk()) {
            desk.close(cancel_pending);
        }
        match wait {
            true => self.join(),
            false => background::finish(self),
        }
    }

    pub(crate) fn crew(&self) -> Option<&Arc<Crew>> {
        match &self.staff {
            Staff::Crew(crew) => Some(crew),
            Staff::Inline(_) => None,
        }
    }

    /// Runs a phase, one at a time.
    pub(crate) fn run<T>(
        &self,
        plan: Plan<'_>,
        finish: impl FnOnce(&Gather<'_>) -> Result<T>,
    ) -> Result<(T, Report)> {
        if panic_note::in_kernel() {
            return Err(ErrorKind::WouldDeadlock.with("a phase from within a kernel would wait for itself"));
        }
        // A panic in a caller's closure leaves nothing half done in here: the fence has ended the phase.
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        match &self.staff {
            Staff::Crew(crew) => run::run(crew, &mut memory, plan, self.options, finish),
            Staff::Inline(inline) => {
                let mut inline = inline.lock().unwrap_or_else(PoisonError::into_inner);
                inline.run(&mut memory, plan, finish)
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Staff::Crew(crew) = &self.staff {
            if let Some(desk) = self.office.get().and_then(|office| office.desk()) {
                desk.end();
            }
            crew.dismiss();
        }
        if let Some(office) = self.office.get() {
            office.shut();
        }
    }
}
