//! `Queue`: everybody puts an item and gets one.

use swath_sync::{Queue, QueueError, SlotId};

use super::post::Post;
use crate::chaos::act::Act;
use crate::chaos::arena::Arena;
use crate::chaos::me::Me;
use crate::chaos::seat::SEATS;

/// Room for what each party of a lap puts, many times over.
pub(super) const CAPACITY: usize = 64;

const PUT: usize = 0;
const GET: usize = 1;
const TRY_GET: usize = 2;

pub(super) struct Letters {
    queue: &'static Queue<u64>,
    post: Post,
}

impl Letters {
    pub(super) fn new(arena: &Arena<'_>) -> Letters {
        Letters { queue: arena.place(Queue::with_capacity(CAPACITY)), post: Post::new(arena) }
    }
}

impl Act for Letters {
    fn name(&self) -> &'static str {
        "queue"
    }

    fn operations(&self) -> &'static [&'static str] {
        &["put", "get", "try_get"]
    }

    /// Everybody puts before it gets, so there is something for all who wait. What the dead have put and not got is
    /// taken away first, as long as it is more than all can want.
    fn round(&self, me: &Me) -> Result<(), String> {
        let text = |error: QueueError| error.to_string();
        if self.post.is_full(me) {
            return Ok(());
        }
        if self.queue.len() > SEATS {
            self.post.get(me, || Ok(me.inside(TRY_GET, || self.queue.try_get(&me.party)).ok()))?;
        }
        self.post.put(me, |item| me.inside(PUT, || self.queue.put(&me.party, item)).map_err(text))?;
        me.may_crash();
        self.post.get(me, || me.inside(GET, || self.queue.get(&me.party)).map(Some).map_err(text))
    }

    fn describe(&self) -> String {
        format!("{}: {} of {CAPACITY} wait", self.name(), self.queue.len())
    }

    fn bury(&self, seat: usize, _dead: SlotId) -> Result<(), String> {
        self.post.bury(seat)
    }

    fn tally(&self) -> Result<(), String> {
        self.post.tally(self.queue.len())
    }
}
