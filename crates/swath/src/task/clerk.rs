//! The worker's side of tasks: takes one, runs it, answers.

use std::cell::Cell as ThreadCell;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::Serialize;
use serde::de::DeserializeOwned;
use swath_array::travel::{self, Item, To};
use swath_platform::cpu;

use super::cell::{State, Word};
use super::extents::{Extent, Extents};
use super::lane::Taken;
use super::table::{LANES, Post, Table};
use crate::board::Board;
use crate::cause::{Cause, Fault, What};
use crate::drive::IntoFailure;
use crate::freight;
use crate::kernel;
use crate::log;
use crate::memory_file::Place;
use crate::panic_note;
use crate::turn::Hand;

/// Calls a task's function: named in the cell beside the function itself, whose types it knows.
pub(crate) type Driver = fn(u64, &[u8], &mut Vec<u8>) -> Result<(), Fault>;

/// The driver of functions that return a value.
pub(crate) fn call<A: DeserializeOwned, R: Serialize>(
    function: u64,
    args: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    // SAFETY: the coordinator names this driver together with a function of exactly this type.
    let function = unsafe { kernel::function::<fn(A) -> R>(function) }.ok_or_else(What::not_here)?;
    let args = decode(args)?;
    encode(&panic_note::catching(|| Ok(function(args)))?, out)
}

/// The driver of functions that may fail.
pub(crate) fn try_call<A: DeserializeOwned, R: Serialize, E: IntoFailure>(
    function: u64,
    args: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    // SAFETY: as above.
    let function =
        unsafe { kernel::function::<fn(A) -> Result<R, E>>(function) }.ok_or_else(What::not_here)?;
    let args = decode(args)?;
    let value = panic_note::catching(|| function(args).map_err(|error| Box::new(error.into_failure())))?;
    encode(&value, out)
}

/// The driver of functions without arguments.
pub(crate) fn call_without<R: Serialize>(function: u64, _: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    // SAFETY: as above.
    let function = unsafe { kernel::function::<fn() -> R>(function) }.ok_or_else(What::not_here)?;
    encode(&panic_note::catching(|| Ok(function()))?, out)
}

fn decode<A: DeserializeOwned>(args: &[u8]) -> Result<A, Fault> {
    freight::unpack(args).map_err(|why| What::undecodable("its arguments", why))
}

fn encode<R: Serialize>(value: &R, out: &mut Vec<u8>) -> Result<(), Fault> {
    // A value's own `Serialize` may panic like any of the user's code.
    panic_note::catching(|| freight::put_reply(value, out).map_err(What::unencodable::<R>))
}

/// Calls the driver named `driver`; a panic of the function is an error.
pub(crate) fn drive(driver: u64, function: u64, args: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    // SAFETY: the coordinator, which runs the same executable, names a function of this type.
    let driver = unsafe { kernel::function::<Driver>(driver) }.ok_or_else(What::not_here)?;
    panic_note::install();
    // A library may have changed rounding or flush-to-zero; the next task must not notice.
    cpu::reset_float_state();
    out.clear();
    driver(function, args, out)
}

/// What a worker keeps from task to task.
pub(crate) struct Clerk {
    table: Table,
    requests: Arc<File>,
    results: Extents,
    /// Long results that nobody has collected yet: the cell, its word, where they lie.
    uncollected: Vec<(usize, Word, Extent)>,
    out: Vec<u8>,
}

impl Clerk {
    /// A clerk for worker `index` at a table that was attached.
    pub(crate) fn new(table: Table, index: usize, coordinator: u32) -> Result<Clerk, String> {
        let requests = Arc::new(Place::from(table.requests()).open(coordinator)?);
        let results = Arc::new(Place::from(table.post(index).file()).open(coordinator)?);
        let results = Extents::new(results);
        Ok(Clerk { table, requests, results, uncollected: Vec::new(), out: Vec::new() })
    }

    /// Steps 2 to 4, once. False when there is nothing to do, or when nothing more is to be done.
    pub(crate) fn run_one(&mut self, hand: &mut Hand) -> bool {
        let (table, board) = (self.table, hand.board);
        let post = table.post(hand.index);
        if self.is_halted(hand) || hand.left == 0 || !something_waits(&table, post) {
            return false;
        }
        // Step 7: counted before it is taken.
        hand.claims += 1;
        board.cell(hand.index).claims.store(hand.claims, Ordering::SeqCst);
        let Some(taken) = take(&table, post, hand) else { return false };
        post.set_current(Some((taken.cell, taken.word.serial())));
        // Arrays of its result are sent once it is known to be one.
        let (mut result, outgoing) = travel::replying(To::AnotherProcess, || self.run(&taken, hand));
        if board.cell(hand.index).cancel.load(Ordering::Relaxed) == hand.claims {
            // It may have returned early since it was asked to: that is no result.
            result = Err(Box::new(What::Cancelled));
        }
        let list = if result.is_ok() { outgoing.items() } else { Vec::new() };
        let sent = result.and_then(|()| {
            freight::send(outgoing, freight::for_task(hand.owner, taken.word.serial()))
                .map_err(What::not_sent)
        });
        self.answer(&taken, sent, &list, hand);
        hand.left -= 1;
        post.finished.fetch_add(1, Ordering::Relaxed);
        post.set_current(None);
        true
    }

    /// Whether the coordinator is about to end this worker.
    pub(crate) fn is_halted(&self, hand: &Hand) -> bool {
        let halt = self.table.post(hand.index).halt.load(Ordering::SeqCst);
        halt != 0 && halt == hand.claims
    }

    /// Step 3.
    fn run(&mut self, taken: &Taken, hand: &Hand) -> Result<(), Fault> {
        let cell = &self.table.cells()[taken.cell];
        let requests = self.requests.clone();
        let args =
            cell.request.read(|| Ok(requests)).map_err(|e| What::setup(format!("its arguments: {e}")))?;
        let (driver, function) = (cell.driver.load(Ordering::Relaxed), cell.kernel.load(Ordering::Relaxed));
        let current = Current {
            task: cell.task.load(Ordering::Relaxed),
            attempt: cell.attempt.load(Ordering::Relaxed),
            site: Some((hand.board, self.table, hand.index, hand.claims)),
        };
        current.during(|| drive(driver, function, &args, &mut self.out))
    }

    /// Steps 3 and 4: the response, then the one instruction.
    fn answer(&mut self, taken: &Taken, result: Result<(), Fault>, list: &[Item], hand: &Hand) {
        self.forget_collected();
        let cell = &self.table.cells()[taken.cell];
        let list = freight::put_list(list, &mut self.out);
        cell.response.list.store(list as u64, Ordering::Relaxed);
        let mut state = State::Done;
        let mut written = match &result {
            Ok(()) => cell.response.write(&self.out, &mut self.results),
            Err(_) => Ok(None),
        };
        let fault = match (&written, result) {
            (Err(e), _) => Some(What::setup(format!("no room for {} bytes of result: {e}", self.out.len()))),
            (_, Err(fault)) => Some(fault),
            _ => None,
        };
        if let Some(what) = fault {
            state = State::Failed;
            let cause = Cause::new(hand.index, hand.pid, *what);
            let record = postcard::to_stdvec(&cause).unwrap_or_default();
            // An empty response says that there was no memory left even for the reason.
            written = cell.response.write(&record, &mut self.results);
            if written.is_err() {
                written = cell.response.write(&[], &mut self.results);
            }
        }
        let over = Word::new(taken.word.serial(), state, Some(hand.owner));
        self.uncollected.extend(written.ok().flatten().map(|extent| (taken.cell, over, extent)));
        if cell.step(taken.word, over) {
            cell.wake();
            self.table.ring_completion();
        }
        if self.out.capacity() > OUT_KEEP_BYTES {
            self.out = Vec::new();
        }
    }

    /// Step 5, seen from here: what was collected is free.
    fn forget_collected(&mut self) {
        let cells = self.table.cells();
        for (cell, word, extent) in std::mem::take(&mut self.uncollected) {
            match cells[cell].word() == word {
                true => self.uncollected.push((cell, word, extent)),
                false => self.results.free(extent),
            }
        }
    }
}

/// A larger buffer is given back after its task.
const OUT_KEEP_BYTES: usize = 1 << 20;

fn something_waits(table: &Table, post: &Post) -> bool {
    !post.lane().is_empty() || LANES.iter().any(|priority| !table.lane(*priority).is_empty())
}

/// Step 2: of the own lane first, then by priority.
fn take(table: &Table, post: &Post, hand: &Hand) -> Option<Taken> {
    let (cells, owner) = (table.cells(), hand.owner);
    let own = post.lane().take(cells, owner);
    own.or_else(|| LANES.iter().find_map(|priority| table.lane(*priority).take(cells, owner)))
}

thread_local! {
    static CURRENT: ThreadCell<Option<Current>> = const { ThreadCell::new(None) };
}

#[derive(Clone, Copy)]
pub(crate) struct Current {
    pub(crate) task: u64,
    pub(crate) attempt: u32,
    /// Board, table, worker, claim; `None` in an inline pool.
    pub(crate) site: Option<(Board, Table, usize, u64)>,
}

impl Current {
    /// Runs `body` as this task.
    pub(crate) fn during<T>(self, body: impl FnOnce() -> T) -> T {
        let outer = CURRENT.replace(Some(self));
        let before = log::berth::set_task(self.task);
        let value = body();
        log::berth::set_task(before);
        CURRENT.set(outer);
        value
    }
}

/// The task that this thread runs.
#[derive(Clone, Copy)]
pub struct CurrentTask(Current);

/// The task that this thread runs; `None` outside of tasks.
pub fn current_task() -> Option<CurrentTask> {
    CURRENT.get().map(CurrentTask)
}

impl CurrentTask {
    /// Its number in its pool, as [`Task::id`](crate::Task::id).
    pub fn id(&self) -> u64 {
        self.0.task
    }

    /// Earlier attempts at it: 0 at first.
    pub fn attempt(&self) -> u32 {
        self.0.attempt
    }

    /// Index of this worker in its pool; 0 in an inline pool.
    pub fn worker(&self) -> usize {
        self.0.site.map_or(0, |(_, _, worker, _)| worker)
    }

    /// True when nobody wants the result any more: it was cancelled, or its time is up. A long task may look from time to time
    /// and return early, and keeps its worker. One that has never looked is ended at once, one that has after a grace.
    pub fn cancelled(&self) -> bool {
        let Some((board, table, worker, claim)) = self.0.site else { return false };
        table.post(worker).listens.store(claim, Ordering::Relaxed);
        board.cell(worker).cancel.load(Ordering::Relaxed) == claim
    }
}
