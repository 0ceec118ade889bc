//! Waiting for several things at once. Steps W1–W4 and A1–A3 of `README.md`.

use std::time::{Duration, Instant};

use bytemuck::Pod;

use crate::atomics::{AtomicU32, Ordering, now_ns, wait_any_until};
use crate::deadline::Deadline;
use crate::event::Event;
use crate::joinable::{JoinableQueue, SimpleQueue};
use crate::messages::MessageQueue;
use crate::park;
use crate::party::Party;
use crate::pipe::PipeEnd;
use crate::queue::Queue;
use crate::ring::Consumer;
use crate::slots::{Liveness, SlotId, SlotTable};

/// How many things [`wait_any`] waits for at most; one word more is the table's count of deaths.
pub const WAIT_ANY_MAX: usize = swath_platform::futex::WORDS_MAX - 1;

/// The word that a thing's waiters sleep on, and the value to sleep while it has. Not to be written by them.
#[derive(Copy, Clone, Debug)]
pub struct Announced<'a>(&'a AtomicU32, u32);

impl<'a> Announced<'a> {
    /// Whoever makes the thing ready changes `word`, and then wakes who sleeps there.
    pub fn new(word: &'a AtomicU32, value: u32) -> Self {
        Self(word, value)
    }
}

impl<'a> From<(&'a AtomicU32, u32)> for Announced<'a> {
    fn from((word, value): (&'a AtomicU32, u32)) -> Self {
        Self(word, value)
    }
}

/// Something that becomes ready, and a word that changes when it does.
pub trait Waitable {
    /// Whether it is ready now: whoever wants it need not wait, though somebody else may take it first.
    fn is_ready(&self, party: &Party) -> bool;

    /// Marks that somebody is about to sleep until it is ready. Whoever makes it ready after this wakes who sleeps there.
    fn announce(&self, party: &Party) -> Announced<'_>;
}

/// Why none was ready.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WaitAnyError {
    /// Not until the deadline.
    #[error("nothing became ready in time")]
    TimedOut,
    /// More than [`WAIT_ANY_MAX`].
    #[error("{number} things to wait for are more than {WAIT_ANY_MAX}")]
    TooMany {
        /// How many.
        number: usize,
    },
}

/// Waits until at least one of `things` is ready and says which are, by their indices. For ever, if there are none.
pub fn wait_any(party: &Party, things: &[&dyn Waitable]) -> Result<Vec<usize>, WaitAnyError> {
    wait_until(party, things, Deadline::Never)
}

/// Which of `things` are ready now.
pub fn try_wait_any(party: &Party, things: &[&dyn Waitable]) -> Result<Vec<usize>, WaitAnyError> {
    wait_until(party, things, Deadline::Now)
}

/// As [`wait_any`], at most for `timeout`.
pub fn wait_any_timeout(
    party: &Party,
    things: &[&dyn Waitable],
    timeout: Duration,
) -> Result<Vec<usize>, WaitAnyError> {
    wait_until(party, things, Deadline::In(timeout))
}

/// As [`wait_any`], at most until `deadline`.
pub fn wait_any_deadline(
    party: &Party,
    things: &[&dyn Waitable],
    deadline: Instant,
) -> Result<Vec<usize>, WaitAnyError> {
    wait_until(party, things, Deadline::At(deadline))
}

fn wait_until(
    party: &Party,
    things: &[&dyn Waitable],
    deadline: Deadline,
) -> Result<Vec<usize>, WaitAnyError> {
    if things.len() > WAIT_ANY_MAX {
        return Err(WaitAnyError::TooMany { number: things.len() });
    }
    let ready = || -> Vec<usize> {
        let indices = things.iter().enumerate();
        indices.filter(|(_, thing)| thing.is_ready(party)).map(|(index, _)| index).collect()
    };
    let any = || things.iter().any(|thing| thing.is_ready(party));
    if !matches!(deadline, Deadline::Now) {
        park::spin(any);
    }
    let deadline_ns = deadline.on_the_clock();
    let deaths = party.table().deaths();
    loop {
        // The count of deaths first: one after the looks ends the sleep at once.
        let mut words = vec![(deaths, deaths.load(Ordering::Acquire))];
        let found = ready();
        if !found.is_empty() {
            return Ok(found);
        }
        if deadline_ns == 0 || (deadline_ns != u64::MAX && now_ns() >= deadline_ns) {
            return Err(WaitAnyError::TimedOut);
        }
        words.extend(
            things.iter().map(|thing| thing.announce(party)).map(|Announced(word, value)| (word, value)),
        ); // A1
        if !any() {
            wait_any_until(&words, park::slice_end(deadline_ns)); // A2, A3
        }
    }
}

/// Objects with cells have no size of their own, so it is `&queue` of a `queue: &Queue<_>` that goes into the list.
impl<W: Waitable + ?Sized> Waitable for &W {
    fn is_ready(&self, party: &Party) -> bool {
        (**self).is_ready(party)
    }

    fn announce(&self, party: &Party) -> Announced<'_> {
        (**self).announce(party)
    }
}

impl Waitable for Event {
    fn is_ready(&self, _party: &Party) -> bool {
        self.is_set()
    }

    fn announce(&self, _party: &Party) -> Announced<'_> {
        self.announce_waiter().into()
    }
}

/// Ready when there is an item to get, or the queue is closed.
impl<T: Pod> Waitable for Queue<T> {
    fn is_ready(&self, party: &Party) -> bool {
        self.has_item_or_is_closed(party)
    }

    fn announce(&self, party: &Party) -> Announced<'_> {
        self.announce_getter(party).into()
    }
}

/// As the queue.
impl<T: Pod> Waitable for JoinableQueue<T> {
    fn is_ready(&self, party: &Party) -> bool {
        self.queue().is_ready(party)
    }

    fn announce(&self, party: &Party) -> Announced<'_> {
        self.queue().announce(party)
    }
}

/// As the queue.
impl<T: Pod> Waitable for SimpleQueue<T> {
    fn is_ready(&self, party: &Party) -> bool {
        self.queue().is_ready(party)
    }

    fn announce(&self, party: &Party) -> Announced<'_> {
        self.queue().announce(party)
    }
}

/// Ready when there is a message to get, or the queue is closed.
impl Waitable for MessageQueue {
    fn is_ready(&self, party: &Party) -> bool {
        self.queue().is_ready(party)
    }

    fn announce(&self, party: &Party) -> Announced<'_> {
        self.queue().announce_getter(party).into()
    }
}

/// Ready when there is an item to pop, or there will be none: closed, or the producer dead.
impl<T: Pod> Waitable for Consumer<'_, T> {
    fn is_ready(&self, party: &Party) -> bool {
        self.pop_would_not_wait(party)
    }

    fn announce(&self, party: &Party) -> Announced<'_> {
        self.lane().announce_reader(party).into()
    }
}

/// Ready when there is a message to receive, or there will be none: closed, or the other end's holder dead.
impl Waitable for PipeEnd<'_> {
    fn is_ready(&self, _party: &Party) -> bool {
        self.reader_is_ready()
    }

    fn announce(&self, party: &Party) -> Announced<'_> {
        self.reader_lane().announce_reader(party).into()
    }
}

/// Another party, to wait for its end. Ready when it is dead, or its slot is free or another's.
#[derive(Copy, Clone)]
pub struct Sentinel {
    table: &'static SlotTable,
    id: SlotId,
}

impl Sentinel {
    /// Of the party `id` of this table.
    pub fn new(table: &'static SlotTable, id: SlotId) -> Self {
        Self { table, id }
    }

    /// Whose end it tells.
    pub fn party(&self) -> SlotId {
        self.id
    }
}

impl std::fmt::Debug for Sentinel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Sentinel").field(&self.id).finish()
    }
}

impl Waitable for Sentinel {
    fn is_ready(&self, _party: &Party) -> bool {
        matches!(self.table.liveness(self.id), Liveness::Dead(_) | Liveness::Gone)
    }

    fn announce(&self, _party: &Party) -> Announced<'_> {
        self.table.ask(self.id); // once for each sleep, if that is our task
        let word = self.table.state_word(self.id.index);
        Announced(word, word.load(Ordering::Acquire))
    }
}
