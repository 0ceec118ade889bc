//! Waiting for room, for an item, or until all are done, and looking after the dead meanwhile. Steps P1–P4 and Q4 of `README.md`.

use bytemuck::Pod;

use super::{Belongings, Nought, Queue, QueueError, Turn};
use crate::atomics::{AtomicU32, Ordering};
use crate::deadline::Deadline;
use crate::owner::Owner;
use crate::park;
use crate::party::Party;
use crate::waiting::Waiting;

/// Why an attempt did not succeed: for now, or for good.
pub(crate) enum Refusal {
    Later(Option<Owner>),
    Closed,
}

impl<T: Pod> Queue<T> {
    #[inline(always)]
    pub(super) fn find_or_closed(&self) -> Result<Turn, Refusal> {
        match self.find_turn() {
            Ok(turn) => Ok(turn),
            Err(nought) if self.is_closed() => self.find_in_closed(nought),
            Err(Nought { writer }) => Err(Refusal::Later(writer)),
        }
    }

    /// The queue is closed, so who claims a turn from now on gives it up: one more look decides.
    #[cold]
    fn find_in_closed(&self, _before: Nought) -> Result<Turn, Refusal> {
        crate::atomics::model_fence();
        match self.find_turn() {
            Ok(turn) => Ok(turn),
            Err(Nought { writer: Some(writer) }) => Err(Refusal::Later(Some(writer))),
            Err(Nought { writer: None }) => Err(Refusal::Closed),
        }
    }

    #[cold]
    pub(super) fn await_item<R, B: Belongings<T>>(
        &self,
        party: &Party,
        deadline: Deadline,
        belongings: &B,
        refusal: Refusal,
        attempt: impl Fn() -> Result<R, Refusal>,
    ) -> Result<R, QueueError> {
        if let Refusal::Closed = refusal {
            return Err(QueueError::Closed);
        }
        self.wait_for(party, deadline, &self.quiet.items, belongings, attempt).map_err(
            |refusal| match refusal {
                Refusal::Closed => QueueError::Closed,
                Refusal::Later(writer) => {
                    QueueError::Empty { behind: writer.map(|writer| party.table().holder(writer)) }
                }
            },
        )
    }

    /// Tries again until it is there, looking after the dead in between.
    #[cold]
    pub(super) fn wait_for<R, B: Belongings<T>>(
        &self,
        party: &Party,
        deadline: Deadline,
        parked: &AtomicU32,
        belongings: &B,
        attempt: impl Fn() -> Result<R, Refusal>,
    ) -> Result<R, Refusal> {
        let now = matches!(deadline, Deadline::Now);
        if !now && let Some(result) = spin_for(&attempt) {
            return result;
        }
        let mut waiting = Waiting::new(party, deadline);
        loop {
            waiting.look();
            if waiting.deaths_seen() != self.quiet.swept.load(Ordering::Relaxed) {
                self.sweep(party, belongings, false);
            }
            let refused = match attempt() {
                Err(Refusal::Later(writer)) => writer,
                other => return other,
            };
            if refused.is_some_and(|writer| party.table().is_dead(writer)) {
                self.sweep(party, belongings, false);
                if !waiting.is_over() {
                    continue;
                }
            }
            if waiting.is_over() {
                self.sweep(party, belongings, !now);
                return attempt();
            }
            let mark = park::announce(parked);
            match attempt() {
                Err(Refusal::Later(_)) => {}
                other => return other,
            }
            if waiting.sleep(parked, mark) {
                self.sweep(party, belongings, true);
            }
        }
    }

    /// Waits until nothing is in the queue or in anybody's hands; for `join`.
    pub(crate) fn wait_finished<B: Belongings<T>>(
        &self,
        party: &Party,
        deadline: Deadline,
        belongings: &B,
    ) -> bool {
        let attempt = || if self.is_finished() { Ok(()) } else { Err(Refusal::Later(None)) };
        attempt().is_ok() || self.wait_for(party, deadline, &self.quiet.finished, belongings, attempt).is_ok()
    }

    /// An item is done: tells who waits for all of them, if this was the last. Whoever comes last sees that it is.
    pub(crate) fn finished_one(&self) {
        crate::atomics::model_fence();
        if self.quiet.finished.load(Ordering::SeqCst) & park::ASLEEP != 0 && self.is_finished() {
            park::take_mark(&self.quiet.finished, &self.quiet.finished);
        }
    }

    /// Whether a getter would not wait, or would find something that a dead party left.
    pub(crate) fn has_item_or_is_closed(&self, party: &Party) -> bool {
        match self.find_or_closed() {
            Ok(_) | Err(Refusal::Closed) => true,
            Err(Refusal::Later(_)) => {
                let table = party.table();
                let news = table.deaths().load(Ordering::Acquire) != self.quiet.swept.load(Ordering::Relaxed);
                news && self.has_a_dead_owner(table)
            }
        }
    }

    /// The word to sleep on until there is an item, and the value to sleep while it has. Asks about all who have something
    /// in hand, once a slice: an item whose holder nobody watches comes back by that.
    pub(crate) fn announce_getter(&self, party: &Party) -> (&AtomicU32, u32) {
        self.ask_about_owners(party.table());
        (&self.quiet.items, park::announce(&self.quiet.items))
    }
}

/// Tries again and again for a moment, as a hand-over between running processes takes.
fn spin_for<R>(attempt: &impl Fn() -> Result<R, Refusal>) -> Option<Result<R, Refusal>> {
    let found = std::cell::Cell::new(None);
    let ready = || match attempt() {
        Err(Refusal::Later(_)) => false,
        other => {
            found.set(Some(other));
            true
        }
    };
    park::spin(ready);
    found.take()
}
