//! Who waits: callers, and the steward for all others.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use swath_sync::SLICE;

use super::Desk;
use crate::task::cell::{Cell, State};
use crate::task::ticket::{Callback, Stage, Ticket};

impl Desk {
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
        let books = self.books_alone();
        if books.due.is_empty() && !books.has_waiting() && books.watched == 0 && !books.over {
            drop(self.changed.wait(books).unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// The shortest time-out of all tasks so far.
    pub(crate) fn shortest_timeout(&self) -> Duration {
        self.lock().shortest_timeout
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
