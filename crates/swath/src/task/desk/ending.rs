//! The end of many tasks at once: of a pool that closes, breaks, shrinks or has nobody left.

use super::{Books, Desk};
use crate::error::{ErrorKind, Result};
use crate::task::cell::{State, Word};
use crate::task::ticket::Ticket;

impl Desk {
    /// No more tasks. Those that wait are cancelled if `cancel_pending`.
    pub(crate) fn close(&self, cancel_pending: bool) {
        let mut books = self.lock();
        books.closed.get_or_insert((ErrorKind::Closed, "the pool is closed: it takes no more tasks".into()));
        if !cancel_pending {
            return;
        }
        books.tries_again = false;
        self.end_untaken(&mut books, |_| true, ErrorKind::Cancelled, "was cancelled");
    }

    /// Why nothing is taken any more, if that is so.
    pub(crate) fn refusal(&self) -> Result<()> {
        self.lock().refusal()
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
        self.end_untaken(&mut books, lost, ErrorKind::Cancelled, why);
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

    /// The pool has no workers any more, for the reason `why`.
    pub(crate) fn no_workers(&self, why: &str) {
        let mut books = self.lock();
        books.closed = Some((ErrorKind::NoWorkers, format!("the pool has no workers any more: {why}")));
        self.end_all(&mut books, ErrorKind::NoWorkers, &format!("found no worker: {why}"));
    }

    /// The pool is broken, for the reason `why`.
    pub(super) fn break_all(&self, books: &mut Books, why: &str) {
        books.closed = Some((ErrorKind::Broken, format!("the pool is broken: {why}")));
        self.end_all(books, ErrorKind::Broken, &format!("went down with its pool: {why}"));
        // What the others run is nobody's: they are to be free when the pool is repaired.
        for (index, cell) in self.table.cells()[..books.top].iter().enumerate() {
            let kill = self.halt(books, index, cell.word().serial(), None);
            books.condemned.extend(kill);
        }
    }

    /// Ends every task that is not over. Those in a worker's hands are over for their callers; their cells stay taken until the
    /// worker has answered or is dead.
    fn end_all(&self, books: &mut Books, kind: ErrorKind, why: &str) {
        self.collect_all(books);
        self.end_untaken(books, |_| true, kind, why);
        for (index, cell) in self.table.cells().iter().enumerate() {
            if let Some(ticket) = books.seats[index].as_ref().map(|seat| seat.ticket.clone()) {
                self.resolve(books, &ticket, Err((kind, why.to_owned())));
                cell.wake();
            }
        }
        self.table.ring_completion();
    }

    /// Ends those of `which` that no worker has in hand.
    fn end_untaken(&self, books: &mut Books, which: impl Fn(&Ticket) -> bool, kind: ErrorKind, why: &str) {
        for ticket in books.take_waiting(&which) {
            self.resolve(books, &ticket, Err((kind, why.to_owned())));
        }
        for (index, cell) in self.table.cells()[..books.top].iter().enumerate() {
            let word = cell.word();
            let free = Word::new(word.serial(), State::Free, None);
            let its = books.seats[index].as_ref().is_some_and(|seat| which(&seat.ticket));
            if its && word.state() == Some(State::Queued) && cell.step(word, free) {
                self.give_up(books, index, kind, why.to_owned());
            }
        }
    }
}
