//! Pools: the workers of a session that run phases together.

use std::sync::{Arc, Mutex, PoisonError};

use swath_segment::Session;

use crate::crew::Crew;
use crate::error::{ErrorKind, Result};
use crate::gather::Gather;
use crate::head_count;
use crate::init;
use crate::inline::Inline;
use crate::operand::Operand;
use crate::panic_note;
use crate::phase::{Encoded, Phase};
use crate::report::Report;
use crate::run::{self, Memory, Options, Plan};

/// A number of worker processes, kept ready. Phases of several threads run one after the other.
///
/// Dropping it ends the workers and waits until they have ended.
pub struct Pool {
    staff: Staff,
    memory: Mutex<Memory>,
    options: Options,
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
    /// come up; [`ErrorKind::Memory`] when there is no room for the session; [`ErrorKind::WouldDeadlock`] in a kernel of an inline pool.
    pub fn build(self) -> Result<Pool> {
        if panic_note::in_kernel() {
            return Err(
                ErrorKind::WouldDeadlock.with("a kernel of an inline pool cannot have a pool of its own")
            );
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
                Staff::Crew(Crew::start(Session::current()?, workers, self.threads.unwrap_or(1).max(1))?)
            }
        };
        Ok(Pool { staff, memory: Mutex::new(Memory::default()), options: self.options })
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
            crew.dismiss();
        }
    }
}
