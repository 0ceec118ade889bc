//! Pools: the workers of a session that run phases together.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use swath_array::travel::Lent;
use swath_segment::{Inbox, Session};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cause::{Cause, Fault};
use crate::contract::{Contract, encode_shared};
use crate::crew::Crew;
use crate::drive::IntoFailure;
use crate::error::{Error, ErrorKind, Result};
use crate::freight;
use crate::gather::Gather;
use crate::head_count;
use crate::init;
use crate::inline::Inline;
use crate::limits::WORKERS_MAX;
use crate::log;
use crate::operand::Operand;
use crate::panic_note;
use crate::phase::{Encoded, Phase, encode};
use crate::process::{Limits, StartMethod, method};
use crate::report::Report;
use crate::run::{self, Memory, Options, Plan};
use crate::stats::{Stats, TaskCounts};
use crate::task::office::Office;
use crate::task::{self, Call, background};

/// A number of worker processes, kept ready. Phases of several threads run one after the other.
///
/// Dropping it ends the workers and waits until they have ended.
pub struct Pool {
    staff: Staff,
    memory: Mutex<Memory>,
    options: Options,
    office: OnceLock<Arc<Office>>,
    /// What the workers were told at their beginning refers to it.
    _lent: Lent,
    /// Tasks of an inline pool so far.
    tasks: AtomicU64,
}

enum Staff {
    Crew(Arc<Crew>),
    Inline(Mutex<Box<Inline>>, Option<Call>),
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
    most: usize,
    threads: Option<usize>,
    options: Options,
    contract: Contract,
    lent: Lent,
    method: Option<StartMethod>,
    /// The first thing that was asked for and cannot be.
    refused: Option<Error>,
    pub(crate) log: log::Options,
}

impl PoolBuilder {
    /// How many worker processes; 0 is the same as [`PoolBuilder::inline`]. Without it: as many as the processors we may use; in
    /// a worker, its part of its own pool's: half of them, rounded down, but one at least, in each of two workers.
    /// The environment variable `SWATH_WORKERS` overrides both.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// How many workers there can be after [`Pool::resize`]; as many as at first, without it. Fewer than those are an error of `build`.
    pub fn max_workers(mut self, workers: usize) -> Self {
        self.most = workers;
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

    /// How workers begin; [`StartMethod::Spawn`] by default. The environment variable `SWATH_START_METHOD` (`spawn` or `forkserver`)
    /// overrides both.
    pub fn start_method(mut self, method: StartMethod) -> Self {
        self.method = Some(method);
        self
    }

    /// Calls `function(args)` once in the template that workers are copies of ([`StartMethod::Forkserver`]), before there is any: what it
    /// loads, into a static of yours (a `OnceLock`), all workers have, in the same memory until somebody writes to it. The template is
    /// replaced when it dies; then the hook is called again, for the workers to come. Workers that are spawned call it themselves, before
    /// their initializer: the program is right with any start method, and only dearer.
    ///
    /// A hook that panics, or leaves threads behind (a copy would have their locks, and not them), fails [`PoolBuilder::build`]
    /// ([`ErrorKind::Initializer`]). Randomness that it has drawn on is the same in every worker: seed generators in an initializer.
    /// What it says by `tracing` arrives as that of a process named `swath-template`.
    ///
    /// ```
    /// # use std::sync::OnceLock;
    /// # use swath::{Pool, StartMethod};
    /// static MODEL: OnceLock<Vec<f32>> = OnceLock::new();
    ///
    /// fn load(weights: usize) {
    ///     MODEL.get_or_init(|| vec![0.5; weights]);
    /// }
    ///
    /// fn weight(at: usize) -> f32 {
    ///     MODEL.get().expect("preloaded")[at]
    /// }
    ///
    /// # fn main() -> swath::Result<()> {
    /// # if true { return Ok(()) }
    /// let pool = Pool::builder().workers(4).start_method(StartMethod::Forkserver).preload(load, 1_000_000).build()?;
    /// assert_eq!(pool.apply(weight, 7)?, 0.5);
    /// # Ok(())
    /// # }
    /// ```
    pub fn preload<A, R>(mut self, function: fn(A) -> R, args: A) -> Self
    where
        A: Serialize + DeserializeOwned,
        R: Serialize,
    {
        let Encoded { bytes, lent, .. } = encode::<A, A>(&args);
        self.lent.extend(lent);
        let call = Call::new(task::call::<A, R>, function as *const (), bytes);
        self.contract.preload = self.take(call);
        self
    }

    /// As [`PoolBuilder::preload`], for functions that may fail.
    pub fn try_preload<A, E>(mut self, function: fn(A) -> Result<(), E>, args: A) -> Self
    where
        A: Serialize + DeserializeOwned,
        E: IntoFailure,
    {
        let Encoded { bytes, lent, .. } = encode::<A, A>(&args);
        self.lent.extend(lent);
        let call = Call::new(task::try_call::<A, (), E>, function as *const (), bytes);
        self.contract.preload = self.take(call);
        self
    }

    /// How long the preload hook may take; a minute by default. Then the template is killed.
    pub fn preload_timeout(mut self, limit: Duration) -> Self {
        self.contract.preload_timeout = Some(limit);
        self
    }

    /// Calls `function(args)` in every worker before it is given work, in replacements too. A worker whose initializer panics does
    /// not come up; if that goes on, the pool does not either ([`ErrorKind::Initializer`]).
    pub fn initializer<A, R>(mut self, function: fn(A) -> R, args: A) -> Self
    where
        A: Serialize + DeserializeOwned,
        R: Serialize,
    {
        let Encoded { bytes, lent, .. } = encode::<A, A>(&args);
        self.lent.extend(lent);
        let call = Call::new(task::call::<A, R>, function as *const (), bytes);
        self.contract.initializer = self.take(call);
        self
    }

    /// As [`PoolBuilder::initializer`], for functions that may fail.
    pub fn try_initializer<A, E>(mut self, function: fn(A) -> Result<(), E>, args: A) -> Self
    where
        A: Serialize + DeserializeOwned,
        E: IntoFailure,
    {
        let Encoded { bytes, lent, .. } = encode::<A, A>(&args);
        self.lent.extend(lent);
        let call = Call::new(task::try_call::<A, (), E>, function as *const (), bytes);
        self.contract.initializer = self.take(call);
        self
    }

    /// How long an initializer may take; a minute by default. Then its worker is killed.
    pub fn initializer_timeout(mut self, limit: Duration) -> Self {
        self.contract.initializer_timeout = Some(limit);
        self
    }

    /// Calls `function()` in every worker that leaves in peace: at the end of the pool, after its share of tasks, for want of work. What it
    /// returns, [`Pool::finish`] has.
    pub fn finalizer<R: Serialize>(mut self, function: fn() -> R) -> Self {
        let call = Call::new(task::call_without::<R>, function as *const (), Ok(Vec::new()));
        self.contract.finalizer = self.take(call);
        self
    }

    /// How long finalizers may take at the end of the pool; 5 s by default.
    pub fn finalizer_timeout(mut self, limit: Duration) -> Self {
        self.contract.finalizer_timeout = Some(limit);
        self
    }

    /// An object that all workers have: sent once per worker, not with every task; [`worker_shared`](crate::worker_shared) lends it.
    pub fn shared<T: Serialize>(mut self, object: &T) -> Self {
        let (encoded, lent) = encode_shared(object);
        self.lent.extend(lent);
        self.contract.shared = self.take(encoded);
        self
    }

    /// Replaces a worker after so many tasks and chunks, for functions that leak.
    pub fn max_tasks_per_worker(mut self, tasks: u64) -> Self {
        if tasks == 0 {
            self.refused.get_or_insert(ErrorKind::Usage.with("max_tasks_per_worker(0): give at least 1"));
        }
        self.contract.max_tasks = Some(tasks);
        self
    }

    /// Replaces a worker, between two tasks or phases, whose private memory has grown by more than this since it came up.
    pub fn max_growth_per_worker(mut self, bytes: u64) -> Self {
        self.contract.max_growth = Some(bytes);
        self
    }

    /// Replaces workers before memory runs out: when so large a share of the tightest limit (a cgroup's, or the machine's memory) is in use,
    /// the worker whose private memory has grown most, by 16 MiB at least, leaves between two tasks or phases; then, if that was not
    /// enough, the next. Looked at about twenty times a second; off by default. 0.9 is a good share for functions that leak or cache.
    pub fn recycle_at_memory(mut self, share: f64) -> Self {
        if !(share > 0.0 && share <= 1.0) {
            let text = format!("recycle_at_memory({share}): give a share between 0 and 1");
            self.refused.get_or_insert(ErrorKind::Usage.with(text));
        }
        self.contract.recycle_at = Some(share);
        self
    }

    /// What tasks that say how much memory they need ([`Submission::memory`](crate::Submission::memory)) may need together, in bytes. Without it: what the
    /// tightest cgroup, or the machine, has available when none of them is begun, less a sixteenth of its limit.
    pub fn memory_budget(mut self, bytes: u64) -> Self {
        self.options.memory_budget = Some(bytes);
        self
    }

    /// Lets workers go that have had nothing to do for so long; they come back when there is work.
    pub fn idle_timeout(mut self, patience: Duration) -> Self {
        self.contract.idle_timeout = Some(patience);
        self
    }

    /// What each worker may use: memory, processor time, open files. A task or chunk that wants more dies of it, and its cause says how.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.contract.limits = limits;
        self
    }

    /// Each worker runs on one processor, of those that this program may use, in turn.
    pub fn pin_workers(mut self) -> Self {
        self.contract.pin = true;
        self
    }

    /// The value, or a note of why there is none, for `build` to return.
    fn take<T>(&mut self, value: Result<T>) -> Option<T> {
        value.map_err(|error| self.refused.get_or_insert(error)).ok()
    }

    /// Starts the workers and waits until all have shown themselves and run their initializer.
    ///
    /// # Errors
    /// What was refused before; [`ErrorKind::Initializer`]; [`ErrorKind::NotInitialised`] without [`swath::init()`](crate::init()) in `main`; [`ErrorKind::Spawn`] when workers do not
    /// come up; [`ErrorKind::Memory`] when there is no room for the session; [`ErrorKind::Usage`] for a start method that pools do not have, or not here; [`ErrorKind::WouldDeadlock`] in a kernel of an inline pool.
    pub fn build(self) -> Result<Pool> {
        if let Some(error) = self.refused {
            return Err(error);
        }
        if panic_note::in_kernel() {
            return Err(
                ErrorKind::WouldDeadlock.with("a kernel of an inline pool cannot have a pool of its own")
            );
        }
        if let Some(workers) = self.workers.filter(|workers| (1..*workers).contains(&self.most)) {
            let why = format!("workers({workers}) are more than max_workers({})", self.most);
            return Err(ErrorKind::Usage.with(why));
        }
        let head_count = head_count::decide(self.workers)?;
        let method = method::for_pool(self.method)?;
        tracing::info!("{} workers, since {}", head_count.workers, head_count.why);
        if self.options.interrupts {
            swath_platform::signal::catch(swath_platform::signal::INT);
            swath_platform::signal::catch(swath_platform::signal::TERM);
        }
        let staff = match head_count.workers {
            0 => {
                self.contract
                    .run_preload()
                    .and_then(|()| self.contract.enter())
                    .map_err(|what| ErrorKind::Initializer.with(format!("the initializer failed: {what}")))?;
                Staff::Inline(Mutex::new(Box::new(Inline::new()?)), self.contract.finalizer)
            }
            workers => {
                if !init::is_initialised() {
                    return Err(ErrorKind::NotInitialised.with(
                        "workers are this executable started again: call swath::init() first in main \
                         (in tests and benches: swath::worker_entry!();)",
                    ));
                }
                let threads = self.threads.unwrap_or(1).max(1);
                let contract = Contract { processors: head_count::budget(), ..self.contract };
                Staff::Crew(Crew::start(
                    Session::current_unguarded()?,
                    (workers, self.most.min(WORKERS_MAX)),
                    threads,
                    (contract, method),
                    self.log,
                )?)
            }
        };
        Ok(Pool {
            staff,
            memory: Mutex::new(Memory::default()),
            options: self.options,
            office: OnceLock::new(),
            _lent: self.lent,
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
            Staff::Crew(crew) => crew.board.wanted(),
            Staff::Inline(..) => 0,
        }
    }

    /// Has `workers` workers from now on, at most as many as [`PoolBuilder::max_workers`] said. New ones have come up when this returns; those
    /// that are too many leave when they have nothing in hand. No effect on phases under way.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`]: none, too many, or an inline pool. [`ErrorKind::Spawn`]: they do not come up.
    pub fn resize(&self, workers: usize) -> Result<()> {
        let Some(crew) = self.crew() else {
            return Err(ErrorKind::Usage.with("an inline pool has no workers"));
        };
        let most = crew.board.workers();
        if workers == 0 || workers > most {
            return Err(
                ErrorKind::Usage.with(format!("resize({workers}): this pool has 1 to {most} workers"))
            );
        }
        // Between phases: a team has as many members as there are workers.
        let _memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        crew.resize(workers)
    }

    /// What the pool has done so far, and who does it.
    pub fn stats(&self) -> Stats {
        let desk = self.office.get().and_then(|office| office.desk());
        let tasks = desk.map_or_else(TaskCounts::default, |desk| desk.counts());
        Stats { tasks, ..self.crew().map_or_else(Stats::default, |crew| crew.stats()) }
    }

    /// Process ids of the workers that are there now.
    pub fn pids(&self) -> Vec<u32> {
        match &self.staff {
            Staff::Crew(crew) => {
                crew.lock().members.iter().filter(|m| m.is_present()).map(|m| m.pid).collect()
            }
            Staff::Inline(..) => Vec::new(),
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
            Staff::Crew(crew) => {
                Office::new(Some(crew.desk(self.options.memory_budget)?), Arc::downgrade(crew))
            }
            Staff::Inline(..) => Office::new(None, Weak::new()),
        };
        Ok(self.office.get_or_init(|| Arc::new(office)))
    }

    /// An error when the pool was closed, or broken by a task's death.
    pub(crate) fn takes_tasks(&self) -> Result<()> {
        self.office.get().and_then(|office| office.desk()).map_or(Ok(()), |desk| desk.refusal())
    }

    /// Where workers send arrays that are results; `None` in an inline pool.
    pub(crate) fn inbox(&self) -> Option<&Inbox> {
        match &self.staff {
            Staff::Crew(crew) => Some(&crew.inbox),
            Staff::Inline(..) => None,
        }
    }

    /// What was said of [`PoolBuilder::memory_budget`].
    pub(crate) fn memory_budget(&self) -> Option<u64> {
        self.options.memory_budget
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

    /// Finishes all tasks, ends the workers, and returns what their finalizers gave, by worker; those of workers that were replaced after
    /// their share of tasks are there too.
    ///
    /// # Errors
    /// [`ErrorKind::Codec`]: the finalizer gives values of another type.
    pub fn finish<F: DeserializeOwned>(self) -> Result<Vec<Result<F>>> {
        self.close();
        self.join();
        let mut farewells = match &self.staff {
            Staff::Crew(crew) => {
                crew.dismiss();
                std::mem::take(&mut crew.lock().farewells)
            }
            Staff::Inline(_, finalizer) => {
                let pid = swath_platform::process::getpid();
                let cause = |what: Fault| Cause::new(0, pid, *what);
                finalizer.iter().map(|call| (0, call.run().map_err(cause))).collect()
            }
        };
        farewells.sort_by_key(|(worker, _)| *worker);
        let decode = |words: std::result::Result<Vec<u8>, Cause>| match words {
            Err(cause) => Ok(Err(ErrorKind::Failed
                .with(format!("a finalizer failed; {cause}"))
                .with_causes(vec![cause]))),
            Ok(bytes) => postcard::from_bytes(&bytes).map(Ok).map_err(|e| {
                let name = std::any::type_name::<F>();
                ErrorKind::Codec.with(format!("a finalizer's value is not of type {name}: {e}"))
            }),
        };
        farewells.into_iter().map(|(_, words)| decode(words)).collect()
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
            Staff::Inline(..) => None,
        }
    }

    /// Runs a phase, one at a time. What is planned for so many workers has them: none comes or goes by [`Pool::resize`] meanwhile.
    pub(crate) fn run<'p, T>(
        &self,
        plan: impl FnOnce() -> Result<Plan<'p>>,
        finish: impl FnOnce(&Gather<'_>) -> Result<T>,
    ) -> Result<(T, Report)> {
        if panic_note::in_kernel() {
            return Err(ErrorKind::WouldDeadlock.with("a phase from within a kernel would wait for itself"));
        }
        // A panic in a caller's closure leaves nothing half done in here: the fence has ended the phase.
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let plan = plan()?;
        match &self.staff {
            Staff::Crew(crew) => {
                let is_map = plan.operands.is_empty();
                let ended = run::run(crew, &mut memory, plan, self.options, finish);
                if is_map {
                    // Of attempts that came to nothing.
                    crew.inbox.forget(freight::is_for_map);
                }
                ended
            }
            Staff::Inline(inline, _) => {
                let mut inline = inline.lock().unwrap_or_else(PoisonError::into_inner);
                let ended = inline.run(&mut memory, plan, finish);
                freight::forget_here();
                ended
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
