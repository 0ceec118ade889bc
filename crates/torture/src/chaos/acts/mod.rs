//! The acts, one file per primitive.

mod barrier;
mod condvar;
mod event;
mod mutex;
mod once;
mod parts;
mod queue;
mod recursive;
mod rwlock;
mod semaphore;
mod toy;

use super::act::Act;
use super::arena::Arena;
pub(super) use toy::Flaw;

/// All of them, in fresh memory.
pub(super) fn all(arena: &Arena<'_>) -> Vec<Box<dyn Act>> {
    vec![
        Box::new(mutex::Sum::new(arena)),
        Box::new(recursive::Nested::new(arena)),
        Box::new(rwlock::Table::new(arena)),
        Box::new(semaphore::Permits::new(arena)),
        Box::new(condvar::Gate::new(arena)),
        Box::new(once::Beginnings::new(arena)),
        Box::new(event::Bell::new(arena)),
        Box::new(barrier::Gathering::new(arena)),
        Box::new(queue::Letters::new(arena)),
    ]
}

/// A toy alone.
pub(super) fn toy(arena: &Arena<'_>, flaw: Flaw) -> Vec<Box<dyn Act>> {
    vec![Box::new(toy::Toy::new(arena, flaw))]
}
