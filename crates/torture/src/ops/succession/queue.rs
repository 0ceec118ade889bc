//! A turn of a queue that somebody died writing, and an item that somebody died over.

use std::mem;

use swath_sync::{JoinableQueue, Party, QueueError};

use super::super::letters::{self, Item, item, number};
use super::super::props;
use super::{Ends, Heir, Heirloom};
use crate::scenario::{Finding, Verdict, expect};
use crate::stage::Stage;

const CELLS: usize = 4;
/// Items, by number, and counts of what was got.
const THERE: [usize; 3] = [0, 1, 2];
const BY_FORERUNNER: usize = 3;
const BY_VICTIM: usize = 4;

/// Each heir puts an item, past what the dead left half written.
pub(super) struct Put;

/// Each heir gets an item, perhaps the one that the dead had, and is done with it or puts it back.
pub(super) struct Get {
    pub(super) put_back: bool,
}

fn queue(stage: &Stage) -> &'static JoinableQueue<Item> {
    letters::queue(stage, CELLS)
}

/// Gets all; then the queue must be as good as new.
fn empty(stage: &Stage, me: &Party) -> Result<(), String> {
    let queue = queue(stage);
    while let Ok(delivery) = queue.try_get(me) {
        let which = number(*delivery)?;
        props::add(stage, which);
        expect(props::read(stage, which) == 1, || format!("item {which} came twice"))?;
        delivery.done();
    }
    for place in 0..CELLS {
        let put = queue.try_put(me, item(place));
        expect(put.is_ok(), || format!("room {place} of {CELLS}: {put:?}"))?;
    }
    expect(queue.try_put(me, item(0)) == Err(QueueError::Full), || "more room than there is".to_owned())?;
    for place in 0..CELLS {
        let delivery = queue.try_get(me).map_err(|error| format!("item {place}: {error}"))?;
        expect(number(*delivery)? == place, || "out of order".to_owned())?;
        delivery.done();
    }
    expect(queue.try_join(me), || "all is done, and join says no".to_owned())
}

impl Heirloom for Put {
    fn leave(&self, stage: &Stage, me: &Party) {
        let _ = queue(stage).queue().put_with(me, |half| -> Result<(), ()> {
            half[0] = 99;
            std::process::exit(0)
        });
    }

    fn inherit(&self, stage: &Stage, me: &Party, heir: Heir) -> Finding {
        let number = if heir == Heir::Forerunner { BY_FORERUNNER } else { BY_VICTIM };
        queue(stage).put(me, item(number)).map_err(|error| error.to_string())?;
        Ok(Verdict::Clean)
    }

    fn check(&self, stage: &Stage, me: &Party, ends: Ends) -> Finding {
        empty(stage, me)?;
        for (number, heir) in [(BY_FORERUNNER, Heir::Forerunner), (BY_VICTIM, Heir::Victim)] {
            let (got, expected) = (props::read(stage, number), ends.deeds_of(heir));
            expect(expected.contains(&got), || format!("item {number} was got {got} times"))?;
        }
        Ok(Verdict::Clean)
    }
}

impl Heirloom for Get {
    fn leave(&self, stage: &Stage, me: &Party) {
        let queue = queue(stage);
        THERE.iter().for_each(|there| queue.try_put(me, item(*there)).expect("there is room"));
        mem::forget(queue.try_get(me).expect("an item"));
    }

    fn inherit(&self, stage: &Stage, me: &Party, _heir: Heir) -> Finding {
        let delivery = queue(stage).get(me).map_err(|error| error.to_string())?;
        number(*delivery)?;
        if !self.put_back {
            delivery.done();
        }
        Ok(Verdict::Clean)
    }

    fn check(&self, stage: &Stage, me: &Party, ends: Ends) -> Finding {
        empty(stage, me)?;
        let got: u32 = THERE.iter().map(|there| props::read(stage, *there)).sum();
        let gone = THERE.len() as u32 - got;
        let expected = if self.put_back { 0..=0 } else { ends.deeds() };
        expect(expected.contains(&gone), || format!("{gone} items went with the dead, not {expected:?}"))?;
        Ok(Verdict::Clean)
    }
}
