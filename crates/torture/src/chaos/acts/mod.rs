//! The acts, one file per primitive.

mod barrier;
mod event;
mod mutex;

use super::act::Act;
use super::arena::Arena;

/// All of them, in fresh memory.
pub(crate) fn all(arena: &Arena<'_>) -> Vec<Box<dyn Act>> {
    vec![
        Box::new(mutex::Sum::new(arena)),
        Box::new(event::Bell::new(arena)),
        Box::new(barrier::Gathering::new(arena)),
    ]
}
