//! Tasks that are not wanted any more, or have had their time: step 7.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Books, Desk, Hold, Kill};
use crate::error::ErrorKind;
use crate::task::cell::{State, Word};
use crate::task::ticket::{Stage, Ticket};

impl Desk {
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
    pub(super) fn halt(
        &self,
        books: &Books,
        cell: usize,
        serial: u32,
        only: Option<(usize, u64)>,
    ) -> Option<Kill> {
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
        self.halts(kill.worker, kill.claim)
    }

    /// Whether the worker is not to take another task after that claim.
    pub(crate) fn halts(&self, worker: usize, claim: u64) -> bool {
        self.table.post(worker).halt.load(Ordering::SeqCst) == claim
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
}
