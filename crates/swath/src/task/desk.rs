//! The desk: the coordinator's side of tasks. It alone writes lanes and takes cells back.
//!
//! Whoever is in the way does the work: a submitter fills the table, a waiter collects what it waits for, the service thread
//! deals with deaths. Tasks that find no room in the table wait here; the steward brings them in, and is started for that.
//!
//! Locks, in this order: crew, books, ticket. No worker is signalled and no callback runs under the books.

mod cancelling;
mod collecting;
mod ending;
mod waiting;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use swath_array::travel::Lent;
use swath_segment::{Inbox, Segment, SegmentRef};

use super::admission::{Admission, Line, Share};
use super::cell::{Cell, State, Word};
use super::extents::{Extent, Extents};
use super::lane::Lane;
use super::outcome::kind_of;
use super::table::{Priority, Table};
use super::ticket::{Callback, Request, Stage, Ticket, Wishes};
use crate::board::Board;
use crate::cause::Cause;
use crate::crew::Rung;
use crate::error::{ErrorKind, Result};
use crate::freight;
use crate::ledger::Owner;
use crate::limits::{POST_LANE, TASKS_IN_TABLE};
use crate::memory_file;
use crate::stats::TaskCounts;

/// A task in a cell.
struct Seat {
    ticket: Arc<Ticket>,
    /// Of its arguments.
    extent: Option<Extent>,
    /// Of the handles in them: until nobody who could look at them is left.
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
    /// What nobody needs any more and what may take long to let go of: gigabytes of arrays.
    spent: Vec<Box<dyn Send>>,
}

/// The desk's lock, taken. What is [spent](Books::spent) goes when it has been given back.
struct Opened<'d> {
    books: MutexGuard<'d, Books>,
    spent: Vec<Box<dyn Send>>,
}

impl Deref for Opened<'_> {
    type Target = Books;

    fn deref(&self) -> &Books {
        &self.books
    }
}

impl DerefMut for Opened<'_> {
    fn deref_mut(&mut self) -> &mut Books {
        &mut self.books
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        // The fields go in their order.
        self.spent = std::mem::take(&mut self.books.spent);
    }
}

impl Books {
    /// These arrays are of no use any more for a task that is not over yet: whoever else has one of them may want it back then.
    fn spend(&mut self, lent: Lent) {
        let lent = lent.sole();
        if !lent.is_empty() {
            self.spent.push(Box::new(lent));
        }
    }

    /// A task that is over. If nobody waits for it, it goes with its result.
    fn forget(&mut self, ticket: Arc<Ticket>) {
        if Arc::strong_count(&ticket) == 1 {
            self.spent.push(Box::new(ticket));
        }
    }

    /// Why nothing is taken any more, if that is so.
    fn refusal(&self) -> Result<()> {
        self.closed.as_ref().map_or(Ok(()), |(kind, why)| Err(kind.with(why.clone())))
    }

    /// Tasks for which there is memory now may have a cell.
    fn admit(&mut self) {
        self.admission.admit(&mut self.waiting);
    }

    fn has_waiting(&self) -> bool {
        !self.waiting.is_empty() || !self.admission.is_empty()
    }

    fn remove_waiting(&mut self, place: &(Priority, u64)) -> Option<Arc<Ticket>> {
        self.waiting.remove(place).or_else(|| self.admission.line().remove(place))
    }

    /// Takes those of `which` that have no cell.
    fn take_waiting(&mut self, which: impl Fn(&Ticket) -> bool) -> Vec<Arc<Ticket>> {
        let mut taken = Vec::new();
        for line in [&mut self.waiting, self.admission.line()] {
            line.retain(|_, ticket| {
                let goes = which(ticket);
                taken.extend(goes.then(|| ticket.clone()));
                !goes
            });
        }
        taken
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
            spent: Vec::new(),
        };
        Ok(Desk { table, inbox, segment, board, books: Mutex::new(books), changed: Condvar::new() })
    }

    /// The table's segment.
    pub(crate) fn reference(&self) -> SegmentRef {
        self.segment.reference()
    }

    fn lock(&self) -> Opened<'_> {
        Opened { books: self.books_alone(), spent: Vec::new() }
    }

    /// Nothing that can panic half-way runs under this lock, so a poisoned one is a sound one.
    fn books_alone(&self) -> MutexGuard<'_, Books> {
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
        self.inbox.forget(|stamp| freight::is_for_a_task_of(owner, stamp));
        let condemned = std::mem::take(&mut books.condemned);
        let used = books.top;
        drop(books);
        // It may have died between an answer and the wake, and in the middle of the wake, when who sleeps is not marked any more.
        self.table.cells()[..used].iter().for_each(Cell::wake_left_behind);
        self.table.ring_left_behind();
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
                wanted
                    && books.tries_again
                    && self.has_a_worker_for(&ticket.wishes)
                    && life.causes.len() <= ticket.wishes.retries as usize,
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

    /// Whether the worker that it is for has not been let go. Under the books: who lets workers go says so first, and takes them then.
    fn has_a_worker_for(&self, wishes: &Wishes) -> bool {
        wishes.worker.is_none_or(|worker| worker < self.board.wanted())
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
        books.refusal()?;
        if !self.has_a_worker_for(&wishes) {
            let (worker, of) = (wishes.worker.unwrap_or_default(), self.board.wanted());
            return Err(ErrorKind::Usage.with(format!("worker {worker} of {of}")));
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
}
