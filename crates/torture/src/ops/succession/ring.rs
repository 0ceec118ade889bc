//! The ends of a ring.

use std::mem;

use swath_sync::{Consumer, Party, Producer, RingError, SpscRing};

use super::super::letters::{self, Item, item, number};
use super::super::props;
use super::{Ends, Heir, Heirloom};
use crate::scenario::{Finding, Verdict, expect};
use crate::stage::Stage;

const CELLS: usize = 4;
/// Items, by number, and counts of what was popped.
const THERE: [usize; 3] = [0, 1, 2];
const BY_FORERUNNER: usize = 3;
const BY_VICTIM: usize = 4;

/// The producer's end: each heir pushes one item.
pub(super) struct Push;
/// The consumer's end: each heir pops one.
pub(super) struct Pop;

fn ring(stage: &Stage) -> &'static SpscRing<Item> {
    letters::ring(stage, CELLS)
}

fn producer<'p>(stage: &Stage, me: &'p Party) -> Result<Producer<'p, Item>, String> {
    ring(stage).producer(me).map_err(|error| error.to_string())
}

fn consumer<'p>(stage: &Stage, me: &'p Party) -> Result<Consumer<'p, Item>, String> {
    ring(stage).consumer(me).map_err(|error| error.to_string())
}

/// Pops all; then the ring must be as good as new.
fn empty(stage: &Stage, me: &Party) -> Result<(), String> {
    let mut consumer = consumer(stage, me)?;
    let mut producer = producer(stage, me)?;
    let mut last = None;
    while let Ok(popped) = consumer.try_pop() {
        let popped = number(popped)?;
        expect(last < Some(popped), || format!("{popped} after {last:?}"))?;
        props::add(stage, popped);
        last = Some(popped);
    }
    for place in 0..CELLS {
        producer.try_push(item(place)).map_err(|error| format!("place {place}: {error}"))?;
    }
    expect(producer.try_push(item(0)) == Err(RingError::Full), || "more room than there is".to_owned())?;
    for place in 0..CELLS {
        expect(consumer.try_pop() == Ok(item(place)), || "out of order".to_owned())?;
    }
    Ok(())
}

impl Heirloom for Push {
    fn leave(&self, stage: &Stage, me: &Party) {
        let mut end = producer(stage, me).expect("a free end");
        end.try_push(item(THERE[0])).expect("there is room");
        mem::forget(end);
    }

    fn inherit(&self, stage: &Stage, me: &Party, heir: Heir) -> Finding {
        let mut end = producer(stage, me)?;
        let number = if heir == Heir::Forerunner { BY_FORERUNNER } else { BY_VICTIM };
        end.try_push(item(number)).map_err(|error| error.to_string())?;
        mem::forget(end);
        Ok(Verdict::Clean)
    }

    fn check(&self, stage: &Stage, me: &Party, ends: Ends) -> Finding {
        empty(stage, me)?;
        expect(props::read(stage, THERE[0]) == 1, || "the first item is gone".to_owned())?;
        for (number, heir) in [(BY_FORERUNNER, Heir::Forerunner), (BY_VICTIM, Heir::Victim)] {
            let (popped, expected) = (props::read(stage, number), ends.deeds_of(heir));
            expect(expected.contains(&popped), || format!("item {number} was popped {popped} times"))?;
        }
        Ok(Verdict::Clean)
    }
}

impl Heirloom for Pop {
    fn leave(&self, stage: &Stage, me: &Party) {
        let mut end = producer(stage, me).expect("a free end");
        THERE.iter().for_each(|there| end.try_push(item(*there)).expect("there is room"));
        mem::forget(consumer(stage, me).expect("a free end"));
        mem::forget(end);
    }

    fn inherit(&self, stage: &Stage, me: &Party, _heir: Heir) -> Finding {
        let mut end = consumer(stage, me)?;
        number(end.try_pop().map_err(|error| error.to_string())?)?;
        mem::forget(end);
        Ok(Verdict::Clean)
    }

    fn check(&self, stage: &Stage, me: &Party, ends: Ends) -> Finding {
        empty(stage, me)?;
        let popped: u32 = THERE.iter().map(|there| props::read(stage, *there)).sum();
        let taken = THERE.len() as u32 - popped;
        expect(ends.deeds().contains(&taken), || format!("{taken} items went with the dead"))?;
        // In order: what is left is the last ones.
        let left = THERE.iter().skip(taken as usize).all(|there| props::read(stage, *there) == 1);
        expect(left, || "an item was skipped".to_owned())?;
        Ok(Verdict::Clean)
    }
}
