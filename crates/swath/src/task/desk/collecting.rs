//! Taking answers out of the table, and the end of a task.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use swath_array::travel::Incoming;

use super::{Books, Desk};
use crate::cause::{Cause, What};
use crate::error::ErrorKind;
use crate::freight;
use crate::task::cell::{Cell, State, Word};
use crate::task::letter::Bytes;
use crate::task::outcome::{Outcome, TaskFailure, kind_of};
use crate::task::ticket::{Stage, Ticket};

impl Desk {
    /// Step 5 for all cells that have an answer.
    pub(super) fn collect_all(&self, books: &mut Books) {
        for (index, cell) in self.table.cells()[..books.top].iter().enumerate() {
            if cell.word().is_finished() {
                self.collect(books, index);
            }
        }
    }

    /// Step 5: copies the answer in cell `index` and sets the cell free.
    pub(super) fn collect(&self, books: &mut Books, index: usize) {
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
                    self.forget_arrays(word);
                    return;
                }
                Err((kind_of(&cause.what), String::new()))
            }
        };
        if outcome.is_err() {
            self.forget_arrays(word);
        }
        cell.step(word, Word::new(word.serial(), State::Free, None));
        self.vacate(books, index);
        self.resolve(books, &ticket, outcome);
        books.forget(ticket);
    }

    /// What was sent for an answer that is none.
    fn forget_arrays(&self, word: Word) {
        let its = freight::for_task(word.owner(), word.serial());
        self.inbox.forget(|stamp| *stamp == its);
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
            && self.has_a_worker_for(&ticket.wishes)
            && life.causes.len() <= ticket.wishes.retries as usize
            && (matches!(cause.what, What::TimedOut { .. })
                || ticket.wishes.retry_if.is_some_and(|wanted| wanted(&cause.what)));
        drop(life);
        if again {
            self.again(books, index, word);
        }
        again
    }

    pub(super) fn vacate(&self, books: &mut Books, index: usize) {
        if let Some(seat) = books.seats[index].take() {
            books.free.push(index);
            seat.extent.into_iter().for_each(|extent| books.requests.free(extent));
            books.spend(seat.lent);
        }
    }

    /// The task in the freed cell `index` is over without a value.
    pub(super) fn give_up(&self, books: &mut Books, index: usize, kind: ErrorKind, why: String) {
        let Some(ticket) = books.seats[index].as_ref().map(|seat| seat.ticket.clone()) else { return };
        self.vacate(books, index);
        self.resolve(books, &ticket, Err((kind, why)));
        self.table.cells()[index].wake();
    }

    /// The end of a task, once.
    pub(super) fn resolve(
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
        if let Stage::Waiting(request) = &mut life.stage {
            books.spend(std::mem::take(&mut request.lent));
        }
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
}
