//! Submitting tasks to a pool.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use swath_array::travel::{self, Lent, To};

use super::admission::Budget;
use super::call::Call;
use super::clerk::{self, Current, Driver};
use super::handle::Task;
use super::letter::Bytes;
use super::office::Office;
use super::outcome::{Outcome, TaskFailure, kind_of};
use super::table::Priority;
use super::ticket::{Request, Stage, Ticket, Wishes};
use crate::cause::{Cause, What};
use crate::drive::IntoFailure;
use crate::error::{ErrorKind, Result};
use crate::phase::{Encoded, encode};
use crate::pool::Pool;

/// A task that is being described; ended by [`Submission::submit`].
#[must_use = "a task is submitted by submit()"]
pub struct Submission<'p, R> {
    pool: &'p Pool,
    request: Result<Request>,
    wishes: Wishes,
    value: PhantomData<fn() -> R>,
}

impl Pool {
    /// Has a worker call `function(args)`. The function is one that captures nothing; what it needs travels in `args`.
    ///
    /// A worker that dies fails this task, and no other one, with [`ErrorKind::Died`]; see [`Pool::submit_with`] for retries,
    /// time-outs and more.
    ///
    /// # Errors
    /// The pool is closed or broken; the arguments cannot be encoded; the function is not in the main executable.
    pub fn submit<A, R>(&self, function: fn(A) -> R, args: A) -> Result<Task<R>>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        self.submit_with(function, args).submit()
    }

    /// As [`Pool::submit`], for functions that may fail: an error is the task's error, with its sources.
    ///
    /// # Errors
    /// As [`Pool::submit`].
    pub fn try_submit<A, R, E>(&self, function: fn(A) -> Result<R, E>, args: A) -> Result<Task<R>>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
        E: IntoFailure,
    {
        self.try_submit_with(function, args).submit()
    }

    /// As [`Pool::submit`], with options.
    pub fn submit_with<A, R>(&self, function: fn(A) -> R, args: A) -> Submission<'_, R>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        Submission::new(self, clerk::call::<A, R>, function as *const (), &args)
    }

    /// As [`Pool::try_submit`], with options.
    pub fn try_submit_with<A, R, E>(&self, function: fn(A) -> Result<R, E>, args: A) -> Submission<'_, R>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
        E: IntoFailure,
    {
        Submission::new(self, clerk::try_call::<A, R, E>, function as *const (), &args)
    }

    /// Calls `function(args)` in a worker and waits for its value.
    ///
    /// # Errors
    /// As [`Pool::submit`] and [`Task::result`].
    pub fn apply<A, R>(&self, function: fn(A) -> R, args: A) -> Result<R>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        self.submit(function, args)?.result()
    }

    /// As [`Pool::submit`]; calls `callback` with the value or `error_callback` with the error, in the pool's steward thread.
    ///
    /// # Errors
    /// As [`Pool::submit`].
    pub fn apply_async<A, R>(
        &self,
        function: fn(A) -> R,
        args: A,
        callback: impl FnOnce(R) + Send + 'static,
        error_callback: impl FnOnce(crate::Error) + Send + 'static,
    ) -> Result<Task<R>>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + 'static,
    {
        let task = self.submit(function, args)?;
        task.add_done_callback(move |task| match task.result() {
            Ok(value) => callback(value),
            Err(error) => error_callback(error),
        });
        Ok(task)
    }
}

impl<'p, R: Serialize + DeserializeOwned> Submission<'p, R> {
    fn new<A: Serialize>(pool: &'p Pool, driver: Driver, function: *const (), args: &A) -> Submission<'p, R> {
        let Encoded { bytes, lent, .. } = encode::<A, A>(args);
        let request = Call::new(driver, function, bytes).map(|call| Request { call, lent, share: None });
        Submission { pool, request, wishes: Wishes::default(), value: PhantomData }
    }

    /// A name for errors.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.wishes.name = name.into();
        self
    }

    /// How long an attempt may run. Then its worker is told, ended, and replaced: [`ErrorKind::TimedOut`]. Noticed within an eighth
    /// of it, 5 to 50 ms.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.wishes.timeout = Some(limit);
        self
    }

    /// How often it is run again after its worker died or its time was up; 0 by default.
    pub fn retries(mut self, retries: u32) -> Self {
        self.wishes.retries = retries;
        self
    }

    /// Runs it again, within [`Submission::retries`], also when the function itself failed and `wanted` says so.
    pub fn retry_if(mut self, wanted: fn(&What) -> bool) -> Self {
        self.wishes.retry_if = Some(wanted);
        self
    }

    /// Which tasks it overtakes.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.wishes.priority = priority;
        self
    }

    /// The memory that it is expected to need at most, in bytes. Such tasks are begun only while all that are begun fit together into the
    /// pool's budget ([`PoolBuilder::memory_budget`](crate::PoolBuilder::memory_budget)), in the order of priority and submission: a large one is
    /// not overtaken by smaller ones behind it that say what they need, but by tasks that do not say. Nobody enforces it: for that
    /// see [`PoolBuilder::limits`](crate::PoolBuilder::limits).
    ///
    /// A task that needs more than the whole budget is refused: [`Submission::submit`] then fails with [`ErrorKind::Memory`].
    pub fn memory(mut self, bytes: u64) -> Self {
        self.wishes.memory = bytes;
        self
    }

    /// Only worker `index` runs it: one that has something cached.
    pub fn on_worker(mut self, index: usize) -> Self {
        self.wishes.worker = Some(index);
        self
    }

    /// The death of its worker is the end of the pool: every task that is not over fails with [`ErrorKind::Broken`], and so does
    /// every later one, as with Python's `BrokenProcessPool`.
    pub fn break_pool_on_death(mut self) -> Self {
        self.wishes.breaks = true;
        self
    }

    /// Hands it over.
    ///
    /// # Errors
    /// As [`Pool::submit`].
    pub fn submit(self) -> Result<Task<R>> {
        let Submission { pool, request, wishes, .. } = self;
        let request = request?;
        if let Some(worker) = wishes.worker.filter(|worker| *worker >= pool.workers().max(1)) {
            return Err(ErrorKind::Usage.with(format!("worker {worker} of {}", pool.workers())));
        }
        let office = pool.office()?;
        let Some(desk) = office.desk() else {
            if wishes.memory > 0 {
                Budget::find(pool.memory_budget()).check(wishes.memory)?;
            }
            let ticket = here(pool.next_task(), wishes, &request.call);
            return Ok(Task::new(office.clone(), ticket));
        };
        if let Some(crew) = pool.crew() {
            crew.journals.follow_level();
        }
        let timed = wishes.timeout.is_some();
        let ticket = desk.submit(wishes, request)?;
        office.rouse();
        if timed {
            office.need_watch();
        }
        if Office::is_waiting(&ticket) {
            office.need_steward();
        }
        Ok(Task::new(office.clone(), ticket))
    }
}

/// A task of any driver, its arguments encoded already.
pub(crate) fn submit_bytes<R: Serialize + DeserializeOwned>(
    pool: &Pool,
    driver: Driver,
    function: *const (),
    (args, lent): (Vec<u8>, Lent),
    retries: u32,
    timeout: Option<Duration>,
) -> Result<Task<R>> {
    let request = Call::new(driver, function, Ok(args)).map(|call| Request { call, lent, share: None });
    let wishes = Wishes { retries, timeout, ..Wishes::default() };
    Submission { pool, request, wishes, value: PhantomData }.submit()
}

/// Runs a task of an inline pool, here and now.
fn here(id: u64, wishes: Wishes, call: &Call) -> Arc<Ticket> {
    let mut causes = Vec::new();
    let outcome = loop {
        let current = Current { task: id, attempt: causes.len() as u32, site: None };
        let mut out = Vec::new();
        let (done, outgoing) =
            travel::replying(To::ThisProcess, || current.during(|| call.run_into(&mut out)));
        let arrays = done.and_then(|()| outgoing.arrive().map_err(What::not_sent));
        match arrays {
            Ok(arrays) => break Outcome::Value(Bytes::Heap(out), arrays),
            Err(what) => {
                let again = wishes.retry_if.is_some_and(|wanted| wanted(&what));
                causes.push(Cause::new(0, swath_platform::process::getpid(), *what));
                if again && causes.len() <= wishes.retries as usize {
                    continue;
                }
                let kind = causes.last().map_or(ErrorKind::Failed, |cause| kind_of(&cause.what));
                let name = wishes.name.clone();
                break Outcome::Failure(TaskFailure { kind, task: id, name, causes, why: String::new() });
            }
        }
    };
    let ticket = Arc::new(Ticket::new(id, wishes, Request::default()));
    ticket.enter(&mut ticket.lock(), Stage::Resolved(Arc::new(outcome)));
    ticket
}
