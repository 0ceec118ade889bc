//! The desk: the coordinator's side of tasks. It alone writes lanes and takes cells back.
//!
//! Whoever is in the way does the work: a submitter fills the table, a waiter collects what it waits for, the service thread
//! deals with deaths. Tasks that find no room in the table wait here; the steward brings them in, and is started for that.
//!
//! Locks, in this order: crew, books, ticket. No worker is signalled and no callback runs under the books.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use swath_array::travel::{Incoming, Lent};
use swath_segment::{Inbox, Segment, SegmentRef};

use super::admission::{Admission, Line, Share};
use super::cell::{Cell, State, Word};
use super::extents::{Extent, Extents};
use super::lane::Lane;
use super::letter::Bytes;
use super::outcome::{Outcome, TaskFailure, kind_of};
use super::table::{Priority, Table};
use super::ticket::{Callback, Request, Stage, Ticket, Wishes};
use crate::board::Board;
use crate::cause::{Cause, What};
use crate::crew::Rung;
use crate::error::{ErrorKind, Result};
use crate::freight;
use crate::ledger::Owner;
use crate::limits::{POST_LANE, TASKS_IN_TABLE};
use crate::memory_file;
use crate::stats::TaskCounts;
use swath_sync::SLICE;

/// A task in a cell.
struct Seat {
    ticket: Arc<Ticket>,
    /// Of its arguments.
    extent: Option<Extent>,
    /// Of the handles in them: until nobody who could look at them is left.
    #[expect(dead_code, reason = "kept for whoever runs the task")]
    lent: Lent,
    #[expect(dead_code, reason = "given back when nobody runs the task any more")]
    share: Option<Arc<Share>>,
    serial: u32,
}

/// A worker that may have tasks.
struct Enrolled {
    index: usize,
    file: Arc<File>,
}

/// What the desk's lock protects.
struct Books {
    requests: Extents,
    workers: HashMap<(u16, u16), Enrolled>,
    seats: Vec<Option<Seat>>,
    serials: Vec<u32>,
    free: Vec<usize>,
    /// Tasks without a cell, in the order in which they are to have one.
    waiting: Line,
    /// Tasks that wait for memory first.
    admission: Admission,
    /// Of tasks that are over: to be told so.
    due: Vec<Callback>,
    /// Callbacks of tasks that are not over.
    watched: usize,
    /// Cells from here on were never used.
    top: usize,
    /// Of all tasks so far.
    shortest_timeout: Duration,
    /// Workers that run tasks of a pool that broke.
    condemned: Vec<Kill>,
    /// The pool is being ended: its workers do not die, they are sent away.
    ending: bool,
    /// The workers are gone.
    over: bool,
    submitted: u64,
    unresolved: usize,
    counts: TaskCounts,
    /// Whether there are further attempts: also after a close, which is to finish what was submitted.
    tries_again: bool,
    /// Why nothing is taken any more.
    closed: Option<(ErrorKind, String)>,
}

impl Books {
    /// Tasks for which there is memory now may have a cell.
    fn admit(&mut self) {
        self.admission.admit(&mut self.waiting);
    }

    fn has_waiting(&self) -> bool {
        !self.waiting.is_empty() || !self.admission.is_empty()
    }

    fn all_waiting(&mut self) -> impl Iterator<Item = (&(Priority, u64), &mut Arc<Ticket>)> {
        self.waiting.iter_mut().chain(self.admission.line().iter_mut())
    }

    fn remove_waiting(&mut self, place: &(Priority, u64)) -> Option<Arc<Ticket>> {
        self.waiting.remove(place).or_else(|| self.admission.line().remove(place))
    }

    fn take_waiting(&mut self) -> Line {
        let mut all = std::mem::take(&mut self.waiting);
        all.append(self.admission.line());
        all
    }
}

/// What became of a worker's task, for the steps that follow without the lock.
pub(crate) struct Kill {
    pub(crate) worker: usize,
    pub(crate) generation: u16,
    /// The claim after which it takes nothing more.
    claim: u64,
    /// It looks from time to time whether it is wanted.
    listens: bool,
}

impl Kill {
    /// Where the ladder begins.
    pub(crate) fn rung(&self) -> Rung {
        if self.listens { Rung::Ask } else { Rung::Terminate }
    }
}

/// A task in a worker's hands that may not stay there for ever.
pub(crate) struct Hold {
    worker: usize,
    /// The number of the claim: it is another one for the worker's next task, and for its successor's.
    pub(crate) claim: u64,
    cell: usize,
    serial: u32,
    pub(crate) limit: Duration,
}

/// The desk of one pool.
pub(crate) struct Desk {
    pub(crate) table: Table,
    inbox: Arc<Inbox>,
    segment: Segment,
    board: Board,
    books: Mutex<Books>,
    /// Notified when the last task is over, and when there is something for the steward.
    changed: Condvar,
}

impl Desk {
    /// A desk for the pool of `board`.
    pub(crate) fn new(board: Board, inbox: Arc<Inbox>, memory_budget: Option<u64>) -> Result<Desk> {
        let segment = Segment::options().unnamed("tasks").create(Table::bytes(board.workers()))?;
        let (requests, reference) = memory_file::new("swath-requests")
            .map_err(|e| ErrorKind::Memory.with(format!("memory for arguments: {e}")).caused_by(e))?;
        // SAFETY: a new segment is zeroed, page-aligned and writable; it is kept beside the table.
        let table = unsafe { Table::create(segment.as_ptr(), board.workers(), reference.into()) };
        let books = Books {
            requests: Extents::new(Arc::new(requests)),
            workers: HashMap::new(),
            seats: (0..TASKS_IN_TABLE).map(|_| None).collect(),
            serials: vec![0; TASKS_IN_TABLE],
            free: (0..TASKS_IN_TABLE).rev().collect(),
            waiting: Line::new(),
            admission: Admission::new(memory_budget),
            due: Vec::new(),
            watched: 0,
            top: 0,
            shortest_timeout: Duration::MAX,
            condemned: Vec::new(),
            ending: false,
            over: false,
            submitted: 0,
            unresolved: 0,
            counts: TaskCounts::default(),
            tries_again: true,
            closed: None,
        };
        Ok(Desk { table, inbox, segment, board, books: Mutex::new(books), changed: Condvar::new() })
    }

    /// The table's segment.
    pub(crate) fn reference(&self) -> SegmentRef {
        self.segment.reference()
    }

    /// Nothing that can panic half-way runs under this lock, so a poisoned one is a sound one.
    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- workers -----------------------------------------------------------------------------------------------------

    /// A worker that is about to be started, or that is about to be told of the table.
    pub(crate) fn enrol(&self, index: usize, owner: Owner) -> io::Result<()> {
        let (file, reference) = memory_file::new("swath-results")?;
        self.table.post(index).assign(reference.into());
        let enrolled = Enrolled { index, file: Arc::new(file) };
        self.lock().workers.insert((owner.slot, owner.generation), enrolled);
        Ok(())
    }

    /// A worker that was enrolled could not be started.
    pub(crate) fn strike_off(&self, owner: Owner) {
        self.lock().workers.remove(&(owner.slot, owner.generation));
    }

    /// Step 6: `owner` is dead, its exit confirmed, for the reason `cause`. Whom to kill for it.
    pub(crate) fn take_back(&self, owner: Owner, cause: &Cause) -> Vec<Kill> {
        let mut books = self.lock();
        for (index, cell) in self.table.cells().iter().enumerate() {
            let word = cell.word();
            match word.state() {
                Some(State::Running) if word.owner() == owner => self.died(&mut books, index, word, cause),
                Some(State::Done | State::Failed) if word.owner() == owner => self.collect(&mut books, index),
                _ => {}
            }
        }
        books.workers.remove(&(owner.slot, owner.generation));
        let its = freight::stamp(owner, 0);
        self.inbox.forget(|stamp| *stamp == its);
        let condemned = std::mem::take(&mut books.condemned);
        drop(books);
        // It may have died between an answer and the wake.
        self.table.cells().iter().for_each(|cell| cell.wake());
        self.table.ring_completion();
        condemned
    }

    /// The worker that ran the task in cell `index` is dead.
    fn died(&self, books: &mut Books, index: usize, word: Word, cause: &Cause) {
        let Some(seat) = &books.seats[index] else { return };
        let ticket = seat.ticket.clone();
        let (again, breaks) = {
            let mut life = ticket.lock();
            life.causes.push(cause.clone());
            let wanted = !life.cancelled && matches!(life.stage, Stage::Seated { .. });
            let died = kind_of(&cause.what) == ErrorKind::Died;
            (
                wanted && books.tries_again && life.causes.len() <= ticket.wishes.retries as usize,
                wanted && died && ticket.wishes.breaks,
            )
        };
        if breaks {
            self.break_all(books, &format!("task {} took its worker with it: {}", ticket.id, cause.what));
        } else if again {
            self.again(books, index, word);
            return;
        }
        let cell = &self.table.cells()[index];
        cell.step(word, Word::new(word.serial(), State::Free, None));
        match books.ending {
            true => {
                self.give_up(books, index, ErrorKind::Cancelled, "was cancelled: its pool has ended".into())
            }
            false => self.give_up(books, index, kind_of(&cause.what), String::new()),
        }
    }

    /// Another attempt at the task in cell `index`, which is in nobody's hands.
    fn again(&self, books: &mut Books, index: usize, word: Word) {
        let Some(seat) = &books.seats[index] else { return };
        let cell = &self.table.cells()[index];
        cell.attempt.fetch_add(1, Ordering::Relaxed);
        cell.publish(word.serial());
        books.counts.retried += 1;
        let (serial, wishes) = (seat.serial, seat.ticket.wishes.clone());
        let lane = self.lane_of(&wishes);
        if lane.put_again(serial, index) {
            self.ring_for(&wishes);
            return;
        }
        // Not with the room that lanes have; a worker that writes what it should not may have done it.
        cell.step(Word::new(serial, State::Queued, None), Word::new(serial, State::Free, None));
        self.give_up(books, index, ErrorKind::Failed, "found no place for another attempt".into());
    }

    fn lane_of(&self, wishes: &Wishes) -> Lane<'_> {
        match wishes.worker {
            Some(worker) => self.table.post(worker).lane(),
            None => self.table.lane(wishes.priority),
        }
    }

    /// There is something in their lane.
    fn ring_for(&self, wishes: &Wishes) {
        match wishes.worker {
            Some(_) => self.board.ring_doorbell(),
            None => self.board.ring_one(),
        }
    }

    // ---- submitting --------------------------------------------------------------------------------------------------

    /// Step 1: a new task.
    pub(crate) fn submit(&self, wishes: Wishes, request: Request) -> Result<Arc<Ticket>> {
        let mut books = self.lock();
        if let Some((kind, why)) = &books.closed {
            return Err(kind.with(why.clone()));
        }
        if wishes.memory > 0 {
            books.admission.check(wishes.memory)?;
        }
        books.submitted += 1;
        books.unresolved += 1;
        books.shortest_timeout = books.shortest_timeout.min(wishes.timeout.unwrap_or(Duration::MAX));
        let ticket = Arc::new(Ticket::new(books.submitted, wishes, request));
        match ticket.wishes.memory {
            0 => drop(books.waiting.insert(ticket.place(), ticket.clone())),
            _ => books.admission.wait(&ticket),
        }
        self.fill(&mut books);
        Ok(ticket)
    }

    /// Gives free cells to those who wait. What has ended makes room first, when there is none.
    fn fill(&self, books: &mut Books) {
        books.admit();
        let mut passed_over = Vec::new();
        while let Some((place, ticket)) = books.waiting.pop_first() {
            if books.free.is_empty() {
                self.collect_all(books);
            }
            // Those for a worker that has enough of them do not stand in the way of others.
            let seated = books.free.pop().map(|cell| (cell, self.seat(books, cell, &ticket)));
            match seated {
                Some((_, true)) => continue,
                Some((cell, false)) => books.free.push(cell),
                None => {}
            }
            passed_over.push((place, ticket));
            if seated.is_none() || passed_over.len() > POST_LANE {
                break;
            }
        }
        books.waiting.extend(passed_over);
        if books.has_waiting() {
            self.changed.notify_all();
        }
    }

    /// Puts `ticket` into a free cell and into its lane; false when that has no room.
    fn seat(&self, books: &mut Books, index: usize, ticket: &Arc<Ticket>) -> bool {
        let mut life = ticket.lock();
        let Stage::Waiting(Request { call, lent, share }) = &life.stage else { return true };
        let cell = &self.table.cells()[index];
        let extent = match cell.request.write(&call.args, &mut books.requests) {
            Ok(extent) => extent,
            Err(error) => {
                drop(life);
                let why = format!("could not be given its arguments: {error}");
                self.resolve(books, ticket, Err((ErrorKind::Memory, why)));
                books.free.push(index);
                return true;
            }
        };
        cell.driver.store(call.driver, Ordering::Relaxed);
        cell.kernel.store(call.function, Ordering::Relaxed);
        cell.attempt.store(0, Ordering::Relaxed);
        cell.task.store(ticket.id, Ordering::Relaxed);
        let serial = books.serials[index].wrapping_add(1);
        books.serials[index] = serial;
        books.top = books.top.max(index + 1);
        books.seats[index] =
            Some(Seat { ticket: ticket.clone(), extent, lent: lent.clone(), share: share.clone(), serial });
        cell.publish(serial);
        if self.lane_of(&ticket.wishes).put(serial, index) {
            self.ring_for(&ticket.wishes);
            ticket.enter(&mut life, Stage::Seated { cell: index, serial });
            return true;
        }
        cell.step(Word::new(serial, State::Queued, None), Word::new(serial, State::Free, None));
        if let Some(extent) = books.seats[index].take().and_then(|seat| seat.extent) {
            books.requests.free(extent);
        }
        false
    }

    // ---- collecting --------------------------------------------------------------------------------------------------

    /// Step 5 for all cells that have an answer.
    fn collect_all(&self, books: &mut Books) {
        for (index, cell) in self.table.cells()[..books.top].iter().enumerate() {
            if cell.word().is_finished() {
                self.collect(books, index);
            }
        }
    }

    /// Step 5: copies the answer in cell `index` and sets the cell free.
    fn collect(&self, books: &mut Books, index: usize) {
        let cell = &self.table.cells()[index];
        let word = cell.word();
        let Some(seat) = books.seats[index].as_ref().filter(|s| s.serial == word.serial()) else { return };
        let ticket = seat.ticket.clone();
        let owner = word.owner();
        let file = books.workers.get(&(owner.slot, owner.generation)).map(|worker| worker.file.clone());
        let response =
            cell.response.read(|| file.ok_or_else(|| io::Error::other("its worker's file is gone")));
        let outcome = match (word.state(), response) {
            (_, Err(error)) => Err((ErrorKind::Codec, format!("has lost its result: {error}"))),
            (Some(State::Done), Ok(value)) => self.with_arrays(value, cell),
            (_, Ok(record)) => {
                let mut cause = postcard::from_bytes::<Cause>(&record).unwrap_or_else(|_| {
                    let worker = books.workers.get(&(owner.slot, owner.generation)).map_or(0, |w| w.index);
                    let message = "the worker had no memory left to say why".into();
                    Cause::new(worker, 0, What::Setup { message })
                });
                if cause.what == What::Cancelled {
                    // It listened. To what, only we know.
                    let limit = ticket.wishes.timeout.filter(|_| !ticket.lock().cancelled);
                    cause.what = limit.map_or(What::Cancelled, |limit| What::TimedOut { limit });
                }
                if self.failed(books, index, word, &ticket, &cause) {
                    return;
                }
                Err((kind_of(&cause.what), String::new()))
            }
        };
        cell.step(word, Word::new(word.serial(), State::Free, None));
        self.vacate(books, index);
        self.resolve(books, &ticket, outcome);
    }

    /// A value, its list of arrays taken off and the arrays out of the inbox.
    fn with_arrays(&self, mut value: Bytes, cell: &Cell) -> Result<(Bytes, Incoming), (ErrorKind, String)> {
        let list = cell.response.list.load(Ordering::Relaxed) as usize;
        if list == 0 {
            return Ok((value, Incoming::default()));
        }
        let items = value.split_off(list).and_then(|list| freight::read_list(&list));
        let items = items.ok_or((ErrorKind::Codec, "has lost the list of its arrays".to_owned()))?;
        Ok((value, freight::collect(&items, Some(&self.inbox))))
    }

    /// A worker reports that a task failed; true when there is another attempt.
    fn failed(&self, books: &mut Books, index: usize, word: Word, ticket: &Ticket, cause: &Cause) -> bool {
        let mut life = ticket.lock();
        life.causes.push(cause.clone());
        let again = books.tries_again
            && !life.cancelled
            && !ticket.is_over()
            && life.causes.len() <= ticket.wishes.retries as usize
            && (matches!(cause.what, What::TimedOut { .. })
                || ticket.wishes.retry_if.is_some_and(|wanted| wanted(&cause.what)));
        drop(life);
        if again {
            self.again(books, index, word);
        }
        again
    }

    fn vacate(&self, books: &mut Books, index: usize) {
        if let Some(seat) = books.seats[index].take() {
            books.free.push(index);
            seat.extent.into_iter().for_each(|extent| books.requests.free(extent));
        }
    }

    /// The task in the freed cell `index` is over without a value.
    fn give_up(&self, books: &mut Books, index: usize, kind: ErrorKind, why: String) {
        let Some(ticket) = books.seats[index].as_ref().map(|seat| seat.ticket.clone()) else { return };
        self.vacate(books, index);
        self.resolve(books, &ticket, Err((kind, why)));
        self.table.cells()[index].wake();
    }

    /// The end of a task, once.
    fn resolve(
        &self,
        books: &mut Books,
        ticket: &Ticket,
        end: Result<(Bytes, Incoming), (ErrorKind, String)>,
    ) {
        let mut life = ticket.lock();
        if matches!(life.stage, Stage::Resolved(_)) {
            return;
        }
        let failure = |kind, why, causes| {
            let (task, name) = (ticket.id, ticket.wishes.name.clone());
            Outcome::Failure(TaskFailure { kind, task, name, causes, why })
        };
        let outcome = match end {
            _ if life.cancelled => failure(ErrorKind::Cancelled, "was cancelled".into(), Vec::new()),
            Ok((value, arrays)) => Outcome::Value(value, arrays),
            Err((kind, why)) => failure(kind, why, life.causes.clone()),
        };
        let count = match &outcome {
            Outcome::Value(..) => &mut books.counts.successful,
            Outcome::Failure(failure) if failure.kind == ErrorKind::Cancelled => &mut books.counts.cancelled,
            Outcome::Failure(_) => &mut books.counts.failed,
        };
        *count += 1;
        ticket.enter(&mut life, Stage::Resolved(Arc::new(outcome)));
        books.watched -= life.callbacks.len();
        books.due.append(&mut life.callbacks);
        books.unresolved -= 1;
        drop(life);
        if !books.due.is_empty() {
            self.changed.notify_all();
        }
        self.table.ring_completion();
    }

    /// Ends every task that is not over. Those in a worker's hands are over for their callers; their cells stay taken until the
    /// worker has answered or is dead.
    fn end_all(&self, books: &mut Books, kind: ErrorKind, why: &str) {
        for (_, ticket) in books.take_waiting() {
            self.resolve(books, &ticket, Err((kind, why.to_owned())));
        }
        self.collect_all(books);
        for (index, cell) in self.table.cells().iter().enumerate() {
            let Some(ticket) = books.seats[index].as_ref().map(|seat| seat.ticket.clone()) else { continue };
            let word = cell.word();
            let free = Word::new(word.serial(), State::Free, None);
            if word.state() == Some(State::Queued) && cell.step(word, free) {
                self.vacate(books, index);
            }
            self.resolve(books, &ticket, Err((kind, why.to_owned())));
            cell.wake();
        }
        self.table.ring_completion();
    }

    fn break_all(&self, books: &mut Books, why: &str) {
        books.closed = Some((ErrorKind::Broken, format!("the pool is broken: {why}")));
        self.end_all(books, ErrorKind::Broken, &format!("went down with its pool: {why}"));
        // What the others run is nobody's: they are to be free when the pool is repaired.
        for (index, cell) in self.table.cells()[..books.top].iter().enumerate() {
            let kill = self.halt(books, index, cell.word().serial(), None);
            books.condemned.extend(kill);
        }
    }

    /// The pool has no workers any more, for the reason `why`.
    pub(crate) fn no_workers(&self, why: &str) {
        let mut books = self.lock();
        books.closed = Some((ErrorKind::NoWorkers, format!("the pool has no workers any more: {why}")));
        self.end_all(&mut books, ErrorKind::NoWorkers, &format!("found no worker: {why}"));
    }

    // ---- waiting -----------------------------------------------------------------------------------------------------

    /// Waits until the task is over; false when `deadline` has passed first.
    pub(crate) fn wait(&self, ticket: &Ticket, deadline: Option<Instant>) -> bool {
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let life = ticket.lock();
            match &life.stage {
                Stage::Resolved(_) => return true,
                _ if left.is_some_and(|left| left.is_zero()) => return false,
                Stage::Waiting(_) => {
                    drop(ticket.wait(life, left.unwrap_or(SLICE).min(SLICE)));
                    // The steward brings it in, unless it is the steward that waits here, in a callback.
                    self.pump();
                }
                Stage::Seated { cell, serial } => {
                    let (cell, serial) = (*cell, *serial);
                    drop(life);
                    // Where both share a processor, the worker begins when we let go of it, and not before.
                    if !self.table.cells()[cell].is_over(serial) {
                        std::thread::yield_now();
                    }
                    if self.table.cells()[cell].wait(serial, || ticket.is_over(), left) {
                        self.collect_one(cell, serial);
                    }
                }
            }
        }
    }

    fn pump(&self) {
        let mut books = self.lock();
        self.collect_all(&mut books);
        self.fill(&mut books);
    }

    /// A look at the task: collects it if there is an answer.
    pub(crate) fn look(&self, ticket: &Ticket) {
        let seat = match ticket.lock().stage {
            Stage::Seated { cell, serial } => (cell, serial),
            _ => return,
        };
        self.collect_one(seat.0, seat.1);
    }

    fn collect_one(&self, cell: usize, serial: u32) {
        let mut books = self.lock();
        let word = self.table.cells()[cell].word();
        if word.serial() == serial && word.is_finished() {
            self.collect(&mut books, cell);
            self.fill(&mut books);
        }
    }

    /// Whether no task is left that a worker should run.
    pub(crate) fn is_idle(&self) -> bool {
        let books = self.lock();
        let open = |cell: &Cell| matches!(cell.word().state(), Some(State::Queued | State::Running));
        !books.has_waiting() && !self.table.cells()[..books.top].iter().any(open)
    }

    /// Whether a worker has the task in hand.
    pub(crate) fn is_running(&self, ticket: &Ticket) -> bool {
        match ticket.lock().stage {
            Stage::Seated { cell, serial } => {
                let word = self.table.cells()[cell].word();
                word.serial() == serial && word.state() == Some(State::Running)
            }
            _ => false,
        }
    }

    // ---- the steward's part ------------------------------------------------------------------------------------------

    /// Has `callback` called when the task is over; gives it back when that is so and no steward will be there any more.
    pub(crate) fn tell(&self, ticket: &Ticket, callback: Callback) -> Option<Callback> {
        let mut books = self.lock();
        let mut life = ticket.lock();
        match life.stage {
            Stage::Resolved(_) if books.over => return Some(callback),
            Stage::Resolved(_) => books.due.push(callback),
            _ => {
                life.callbacks.push(callback);
                books.watched += 1;
            }
        }
        self.changed.notify_all();
        None
    }

    /// Brings tasks in and takes what is due.
    pub(crate) fn tend(&self) -> Tending {
        let mut books = self.lock();
        self.collect_all(&mut books);
        self.fill(&mut books);
        Tending {
            due: std::mem::take(&mut books.due),
            waiting: books.has_waiting(),
            watched: books.watched > 0,
            over: books.over,
        }
    }

    /// Waits until there may be something to tend.
    pub(crate) fn wait_for_work(&self) {
        let books = self.lock();
        if books.due.is_empty() && !books.has_waiting() && books.watched == 0 && !books.over {
            drop(self.changed.wait(books).unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// The shortest time-out of all tasks so far.
    pub(crate) fn shortest_timeout(&self) -> Duration {
        self.lock().shortest_timeout
    }

    // ---- cancelling --------------------------------------------------------------------------------------------------

    /// Step 7: nobody wants the task any more. Whether that was in time; whom to kill for it.
    pub(crate) fn cancel(&self, ticket: &Arc<Ticket>) -> (bool, Option<Kill>) {
        let mut books = self.lock();
        let mut life = ticket.lock();
        if let Stage::Seated { cell, serial } = life.stage {
            let word = self.table.cells()[cell].word();
            if word.serial() == serial && word.is_finished() {
                drop(life);
                self.collect(&mut books, cell);
                self.fill(&mut books);
                life = ticket.lock();
            }
        }
        match life.stage {
            Stage::Resolved(_) => (false, None),
            Stage::Waiting(_) => {
                life.cancelled = true;
                drop(life);
                books.remove_waiting(&ticket.place());
                self.resolve(&mut books, ticket, Err((ErrorKind::Cancelled, String::new())));
                // It may have stood before others that want less memory.
                self.fill(&mut books);
                (true, None)
            }
            Stage::Seated { cell, serial } => {
                life.cancelled = true;
                drop(life);
                let queued = Word::new(serial, State::Queued, None);
                if self.table.cells()[cell].step(queued, Word::new(serial, State::Free, None)) {
                    self.give_up(&mut books, cell, ErrorKind::Cancelled, String::new());
                    self.fill(&mut books);
                    return (true, None);
                }
                (true, self.halt(&books, cell, serial, None))
            }
        }
    }

    /// Step 7: the worker that runs the task in `cell` takes nothing more. `None` when nobody runs it any more, or not in the
    /// claim `only` of that worker.
    fn halt(&self, books: &Books, cell: usize, serial: u32, only: Option<(usize, u64)>) -> Option<Kill> {
        let cell = &self.table.cells()[cell];
        let word = cell.word();
        if word.serial() != serial || word.state() != Some(State::Running) {
            return None;
        }
        let owner = word.owner();
        let worker = books.workers.get(&(owner.slot, owner.generation))?.index;
        let claim = self.board.cell(worker).claims.load(Ordering::SeqCst);
        if only.is_some_and(|only| only != (worker, claim)) {
            return None;
        }
        let post = self.table.post(worker);
        let before = post.halt.swap(claim, Ordering::SeqCst);
        if cell.word() == word {
            // Still the same: it sees the halt before it takes another one.
            let listens = post.listens.load(Ordering::Relaxed) == claim;
            return Some(Kill { worker, generation: owner.generation, claim, listens });
        }
        // It has ended the task by itself, so nobody is killed; and the number may be that of its next claim, after which it is to go on.
        if before != claim {
            post.halt.store(before, Ordering::SeqCst);
            self.board.ring_doorbell();
        }
        None
    }

    /// Whether the worker still stands where it was to be killed: it may have been let go since, and have another task. On the
    /// service thread, which lets it go.
    pub(crate) fn still_halts(&self, kill: &Kill) -> bool {
        self.table.post(kill.worker).halt.load(Ordering::SeqCst) == kill.claim
    }

    /// A worker that was halted has ended its task by itself: it may go on.
    pub(crate) fn resume(&self, worker: usize) -> bool {
        let _nobody_halts_it_meanwhile = self.lock();
        let post = self.table.post(worker);
        let idle = post.current().is_none_or(|(cell, serial)| self.table.cells()[cell].is_over(serial));
        if idle && post.halt.load(Ordering::SeqCst) != 0 {
            post.halt.store(0, Ordering::SeqCst);
            self.board.ring_doorbell();
            return true;
        }
        false
    }

    /// The task that worker `index` has in hand, if there is a limit to its time, for the watch.
    pub(crate) fn in_hand(&self, index: usize) -> Option<Hold> {
        let claims = &self.board.cell(index).claims;
        let claim = claims.load(Ordering::SeqCst);
        let (cell, serial) = self.table.post(index).current()?;
        // What was read in between belongs to this claim, or the worker has just gone on.
        if claims.load(Ordering::SeqCst) != claim {
            return None;
        }
        let books = self.lock();
        let seat = books.seats[cell].as_ref().filter(|seat| seat.serial == serial)?;
        Some(Hold { worker: index, claim, cell, serial, limit: seat.ticket.wishes.timeout? })
    }

    /// Step 7 for a task that has had its time; not for the one after it.
    pub(crate) fn overdue(&self, hold: &Hold) -> Option<Kill> {
        self.halt(&self.lock(), hold.cell, hold.serial, Some((hold.worker, hold.claim)))
    }

    // ---- the end -----------------------------------------------------------------------------------------------------

    /// No more tasks. Those that wait are cancelled if `cancel_pending`.
    pub(crate) fn close(&self, cancel_pending: bool) {
        let mut books = self.lock();
        books.closed.get_or_insert((ErrorKind::Closed, "the pool is closed: it takes no more tasks".into()));
        if !cancel_pending {
            return;
        }
        books.tries_again = false;
        for (_, ticket) in books.take_waiting() {
            self.resolve(&mut books, &ticket, Err((ErrorKind::Cancelled, "was cancelled".into())));
        }
        for index in 0..TASKS_IN_TABLE {
            let cell = &self.table.cells()[index];
            let word = cell.word();
            let free = Word::new(word.serial(), State::Free, None);
            if word.state() == Some(State::Queued) && cell.step(word, free) {
                self.give_up(&mut books, index, ErrorKind::Cancelled, "was cancelled".into());
            }
        }
    }

    /// The pool is being ended: what no worker has is cancelled now, what one has when it is gone.
    pub(crate) fn end(&self) {
        self.lock().ending = true;
        self.close(true);
    }

    /// Workers from `first` on are let go: what was for one of them alone is cancelled.
    pub(crate) fn let_go(&self, first: usize) {
        let mut books = self.lock();
        let lost = |ticket: &Ticket| ticket.wishes.worker.is_some_and(|worker| worker >= first);
        let why = "was cancelled: the worker that it was for has been let go";
        let waiting: Vec<_> =
            books.all_waiting().filter(|(_, ticket)| lost(ticket)).map(|(place, _)| *place).collect();
        for place in waiting {
            if let Some(ticket) = books.remove_waiting(&place) {
                self.resolve(&mut books, &ticket, Err((ErrorKind::Cancelled, why.into())));
            }
        }
        for (index, cell) in self.table.cells().iter().enumerate() {
            let word = cell.word();
            let free = Word::new(word.serial(), State::Free, None);
            let its = books.seats[index].as_ref().is_some_and(|seat| lost(&seat.ticket));
            if its && word.state() == Some(State::Queued) && cell.step(word, free) {
                self.give_up(&mut books, index, ErrorKind::Cancelled, why.into());
            }
        }
    }

    /// Counts of tasks so far, by how they ended.
    pub(crate) fn counts(&self) -> TaskCounts {
        let books = self.lock();
        let running = self.table.cells()[..books.top].iter();
        let running = running.filter(|cell| cell.word().state() == Some(State::Running)).count() as u64;
        TaskCounts {
            submitted: books.submitted,
            unresolved: books.unresolved as u64,
            running,
            ..books.counts
        }
    }

    /// Takes tasks again, if there is somebody to run them.
    pub(crate) fn reopen(&self) {
        let mut books = self.lock();
        let opened =
            |(kind, _): &mut (ErrorKind, String)| matches!(kind, ErrorKind::Broken | ErrorKind::Closed);
        books.tries_again |= books.closed.take_if(opened).is_some();
    }

    /// The workers are gone, or going: whatever is not over is over now.
    pub(crate) fn abandon(&self) {
        let mut books = self.lock();
        books.closed.get_or_insert((ErrorKind::Closed, "the pool is closed: it takes no more tasks".into()));
        self.end_all(&mut books, ErrorKind::Cancelled, "was cancelled: its pool has ended");
        books.over = true;
        self.changed.notify_all();
    }

    /// Waits until every task is over; false when `deadline` has passed first.
    pub(crate) fn wait_all(&self, deadline: Option<Instant>) -> bool {
        loop {
            let seen = self.table.completions();
            let mut books = self.lock();
            self.collect_all(&mut books);
            self.fill(&mut books);
            if books.unresolved == 0 {
                return true;
            }
            drop(books);
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return false;
            }
            self.table.wait_completion(seen, left);
        }
    }
}

/// What [`Desk::tend`] found.
pub(crate) struct Tending {
    /// To be called now.
    pub(crate) due: Vec<Callback>,
    /// Tasks have no cell yet.
    pub(crate) waiting: bool,
    /// Somebody is to be told of tasks that are not over.
    pub(crate) watched: bool,
    /// The workers are gone.
    pub(crate) over: bool,
}
