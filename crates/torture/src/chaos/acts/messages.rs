//! `MessageQueue`: as the queue, with messages short and long.

use swath_sync::{MessageQueue, MessageQueueError, SlotId};

use super::post::Post;
use super::queue::CAPACITY;
use crate::chaos::act::Act;
use crate::chaos::arena::Arena;
use crate::chaos::me::Me;
use crate::chaos::seat::SEATS;
use crate::room::{Room, item, message};

const PUT: usize = 0;
const GET: usize = 1;
const TRY_GET: usize = 2;

pub(super) struct Mail {
    queue: &'static MessageQueue,
    room: Room,
    post: Post,
}

impl Mail {
    pub(super) fn new(arena: &Arena<'_>) -> Mail {
        let queue = arena.place(MessageQueue::with_capacity(CAPACITY));
        Mail { queue, room: Room::new(), post: Post::new(arena) }
    }
}

impl Act for Mail {
    fn name(&self) -> &'static str {
        "message queue"
    }

    fn operations(&self) -> &'static [&'static str] {
        &["put", "get", "try_get"]
    }

    fn round(&self, me: &Me) -> Result<(), String> {
        let text = |error: MessageQueueError| error.to_string();
        if self.post.is_full(me) {
            return Ok(());
        }
        let try_get = || match me.inside(TRY_GET, || self.queue.try_get(&me.party, &self.room)) {
            Ok(message) => item(&message).map(Some),
            Err(MessageQueueError::Empty { .. }) => Ok(None),
            Err(error) => Err(text(error)),
        };
        if self.queue.len() > SEATS {
            self.post.get(me, try_get)?;
        }
        let long = me.one_in(3);
        self.post.put(me, |item| {
            let message = message(item, long);
            me.inside(PUT, || self.queue.put(&me.party, &self.room, &message)).map_err(text)
        })?;
        self.post.get(me, || {
            item(&me.inside(GET, || self.queue.get(&me.party, &self.room)).map_err(text)?).map(Some)
        })
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
