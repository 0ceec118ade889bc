//! The acts, one file per primitive; and the models that several of them share.

mod array;
mod barrier;
mod condvar;
mod event;
mod joinable;
mod list;
mod messages;
mod mutex;
mod once;
mod parts;
mod pipe;
mod post;
mod queue;
mod raw;
mod record;
mod recursive;
mod ring;
mod rwlock;
mod semaphore;
mod stream;
mod toy;
mod value;

use super::act::Act;
use super::arena::Arena;
use crate::raw_memory::Which;
pub(super) use toy::Flaw;

/// All of them, in fresh memory.
pub(super) fn all(arena: &Arena<'_>) -> Vec<Box<dyn Act>> {
    vec![
        Box::new(mutex::Sum::new(arena)),
        Box::new(recursive::Nested::new(arena)),
        Box::new(rwlock::Table::new(arena)),
        Box::new(raw::Counted::new(arena, Which::Mutex)),
        Box::new(raw::Counted::new(arena, Which::RwLock)),
        Box::new(semaphore::Permits::new(arena)),
        Box::new(condvar::Gate::new(arena)),
        Box::new(once::Beginnings::new(arena)),
        Box::new(event::Bell::new(arena)),
        Box::new(barrier::Gathering::new(arena)),
        Box::new(value::Counter::new(arena)),
        Box::new(record::Rows::new(arena)),
        Box::new(array::Column::new(arena)),
        Box::new(list::Board::new(arena)),
        Box::new(queue::Letters::new(arena)),
        Box::new(joinable::Work::new(arena)),
        Box::new(messages::Mail::new(arena)),
        Box::new(ring::Belts::new(arena)),
        Box::new(pipe::Tubes::new(arena)),
    ]
}

/// A toy alone.
pub(super) fn toy(arena: &Arena<'_>, flaw: Flaw) -> Vec<Box<dyn Act>> {
    vec![Box::new(toy::Toy::new(arena, flaw))]
}
