//! `JoinableQueue`: an item in hand comes back when its holder dies or puts it back, and is done once.
//!
//! What a dead getter had in hand lies in its cell until somebody gets it, and goes along when the turn of that cell comes: who
//! puts waits for room, never for a getter.

use swath_sync::{JoinableQueue, QueueError, SlotId};

use super::post::Post;
use super::queue::CAPACITY;
use crate::chaos::act::Act;
use crate::chaos::arena::Arena;
use crate::chaos::me::Me;
use crate::chaos::seat::SEATS;

const PUT: usize = 0;
const GET: usize = 1;
const TRY_GET: usize = 2;
const DONE: usize = 3;
const PUT_BACK: usize = 4;

pub(super) struct Work {
    queue: &'static JoinableQueue<u64>,
    post: Post,
}

impl Work {
    pub(super) fn new(arena: &Arena<'_>) -> Work {
        Work { queue: arena.place(JoinableQueue::with_capacity(CAPACITY)), post: Post::new(arena) }
    }

    /// One item, done; or given back once before.
    fn work(&self, me: &Me, wait: bool) -> Result<Option<u64>, String> {
        loop {
            let delivery = if wait {
                me.inside(GET, || self.queue.get(&me.party))
            } else {
                me.inside(TRY_GET, || self.queue.try_get(&me.party))
            };
            let delivery = match delivery {
                Ok(delivery) => delivery,
                Err(QueueError::Empty { .. }) if !wait => return Ok(None),
                Err(error) => return Err(error.to_string()),
            };
            let item = *delivery;
            me.may_crash();
            if me.one_in(8) {
                me.inside(PUT_BACK, || drop(delivery));
                continue;
            }
            me.inside(DONE, || delivery.done());
            return Ok(Some(item));
        }
    }
}

impl Act for Work {
    fn name(&self) -> &'static str {
        "joinable queue"
    }

    fn operations(&self) -> &'static [&'static str] {
        &["put", "get", "try_get", "done", "put back"]
    }

    fn round(&self, me: &Me) -> Result<(), String> {
        if self.post.is_full(me) {
            return Ok(());
        }
        if self.queue.queue().len() > SEATS {
            self.post.get(me, || self.work(me, false))?;
        }
        self.post.put(me, |item| {
            me.inside(PUT, || self.queue.put(&me.party, item)).map_err(|error| error.to_string())
        })?;
        self.post.get(me, || self.work(me, true))
    }

    fn describe(&self) -> String {
        format!("{}: {} of {CAPACITY} wait", self.name(), self.queue.queue().len())
    }

    fn bury(&self, seat: usize, _dead: SlotId) -> Result<(), String> {
        self.post.bury(seat)
    }

    fn tally(&self) -> Result<(), String> {
        self.post.tally(self.queue.queue().len())
    }
}
