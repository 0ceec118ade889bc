//! What of the messaging primitives lies on the stage, beyond the locks.
#![allow(unsafe_code)]

use std::sync::OnceLock;

use swath_sync::{InPlace, JoinableQueue, MessageQueue, Pipe, Plan, SpscRing};

use crate::room::Room;
use crate::stage::{STATE_BYTES, Stage};

/// The first byte; up to the end of the state it belongs to the objects here, one per scenario.
const LETTERS_AT: usize = 0xA_0000;

/// An item: a number and its inverse, so that a torn one shows.
pub(crate) type Item = [u64; 2];

/// The item of a number.
pub(crate) fn item(number: usize) -> Item {
    [number as u64, !(number as u64)]
}

/// The number of an item, if it is whole.
pub(crate) fn number(item: Item) -> Result<usize, String> {
    if item[0] == !item[1] { Ok(item[0] as usize) } else { Err(format!("a torn item: {item:x?}")) }
}

/// The queue with so many cells; all zero is an empty one, so nobody needs to make it.
pub(crate) fn queue(stage: &Stage, cells: usize) -> &'static JoinableQueue<Item> {
    find(stage, JoinableQueue::with_capacity(cells))
}

/// The ring with so many cells.
pub(crate) fn ring(stage: &Stage, cells: usize) -> &'static SpscRing<Item> {
    find(stage, SpscRing::with_capacity(cells))
}

/// The queue of messages with so many cells.
pub(crate) fn messages(stage: &Stage, cells: usize) -> &'static MessageQueue {
    find(stage, MessageQueue::with_capacity(cells))
}

/// The pipe with so many cells each way.
pub(crate) fn pipe(stage: &Stage, cells: usize) -> &'static Pipe {
    find(stage, Pipe::with_capacity(cells))
}

/// Room for long messages, made before the harness counts its descriptors.
pub(crate) fn files() -> &'static Room {
    static ROOM: OnceLock<Room> = OnceLock::new();
    ROOM.get_or_init(Room::new)
}

fn find<P: Plan>(stage: &Stage, plan: P) -> &'static P::Object
where
    P::Object: InPlace,
{
    let layout = P::Object::layout(plan.cells()).expect("there is such an object");
    assert!(LETTERS_AT + layout.size() <= STATE_BYTES);
    // SAFETY: 1: in bounds (asserted), page-aligned, 'static mapping. 2: zero is what its plan makes, and nothing else lies
    // there.
    unsafe { P::Object::at(stage.base().add(LETTERS_AT), plan.cells()) }
}
