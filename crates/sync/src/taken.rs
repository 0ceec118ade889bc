//! What a lock gives: the guard, or the guard of a value whose last holder died.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};

use crate::owner::Holder;

/// What a guard can say about its value. Only this crate's guards can.
pub trait Guarded: sealed::Sealed {
    /// The value is whole again.
    #[doc(hidden)]
    fn set_repaired(&self);

    /// The value stays in doubt, in the name of the dead one.
    #[doc(hidden)]
    fn set_doubtful(&mut self, dead: Holder);
}

pub(crate) mod sealed {
    /// Keeps [`super::Guarded`] to this crate.
    pub trait Sealed {}
}

/// A lock that was taken.
#[must_use = "dropping it gives the lock back at once"]
#[derive(Debug)]
pub enum Taken<G: Guarded> {
    /// The value is as its last holder left it.
    Acquired(G),
    /// The last holder died holding the lock; the value may be half changed.
    Recovered(Recovered<G>),
}

impl<G: Guarded> Taken<G> {
    /// The guard, unless the last holder died; then `None`, and the lock is poisoned.
    pub fn acquired(self) -> Option<G> {
        match self {
            Self::Acquired(guard) => Some(guard),
            Self::Recovered(_) => None,
        }
    }

    /// The guard; if the last holder died, `repair` makes the value whole first.
    pub fn or_repair(self, repair: impl FnOnce(&mut G)) -> G {
        match self {
            Self::Acquired(guard) => guard,
            Self::Recovered(mut recovered) => {
                repair(&mut recovered.guard);
                recovered.repaired()
            }
        }
    }

    /// As the lock's slow path has it: with the dead holder, if it was taken from one.
    pub(crate) fn new(guard: G, dead: Option<Holder>) -> Self {
        match dead {
            None => Self::Acquired(guard),
            Some(dead) => Self::Recovered(Recovered { guard, dead }),
        }
    }
}

/// Access to a value whose last holder died. Make it whole and call [`Self::repaired`]; dropped without that, it
/// poisons the lock in the dead one's name.
#[must_use = "dropping it without `repaired` poisons the lock"]
pub struct Recovered<G: Guarded> {
    guard: G,
    dead: Holder,
}

impl<G: Guarded> Recovered<G> {
    /// Who died holding the lock.
    pub fn dead(&self) -> Holder {
        self.dead
    }

    /// The guard of the value that is in doubt.
    pub fn guard(&self) -> &G {
        &self.guard
    }

    /// Says that the value is whole, and goes on as a holder like any other.
    pub fn repaired(self) -> G {
        let this = ManuallyDrop::new(self);
        this.guard.set_repaired();
        // SAFETY: `this` is never used again nor dropped, so the guard is moved, not copied.
        unsafe { std::ptr::read(&this.guard) }
    }
}

impl<G: Guarded + Deref> Deref for Recovered<G> {
    type Target = G::Target;

    fn deref(&self) -> &G::Target {
        &self.guard
    }
}

impl<G: Guarded + DerefMut> DerefMut for Recovered<G> {
    fn deref_mut(&mut self) -> &mut G::Target {
        &mut self.guard
    }
}

impl<G: Guarded> Drop for Recovered<G> {
    fn drop(&mut self) {
        self.guard.set_doubtful(self.dead);
    }
}

impl<G: Guarded + fmt::Debug> fmt::Debug for Recovered<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recovered").field("dead", &self.dead).field("guard", &self.guard).finish()
    }
}
