//! Who is dead, for the toys: written by whoever confirmed the death. A place may be given to a newcomer, who has
//! the next generation.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::stage::Stage;

/// The victim's party number.
pub(crate) const VICTIM: u32 = 1;
/// The checker's.
pub(crate) const CHECKER: u32 = 9;
/// Where the roster lies on the stage; toys keep their own state elsewhere.
const AT: usize = 0;
const PARTIES: usize = 16;

/// Party of companion `n`.
pub(crate) fn companion(n: usize) -> u32 {
    n as u32 + 2
}

/// Per party: how many generations have been here before, and how many of all are dead.
pub(crate) struct Roster {
    gone: &'static [AtomicU32; PARTIES],
    dead: &'static [AtomicU32; PARTIES],
}

impl Roster {
    /// The roster of this run.
    pub(crate) fn of(stage: &Stage) -> Roster {
        Roster { gone: stage.part(AT), dead: stage.part(AT + PARTIES * size_of::<u32>()) }
    }

    /// After the confirmed exit of the party's present generation.
    pub(crate) fn mark_dead(&self, party: u32) {
        let now = self.gone[party as usize].load(Ordering::SeqCst) + 1;
        self.dead[party as usize].store(now, Ordering::SeqCst);
    }

    /// The dead one's place is taken by a newcomer.
    pub(crate) fn newcomer(&self, party: u32) {
        self.gone[party as usize].fetch_add(1, Ordering::SeqCst);
    }

    /// Is that generation of the party dead? Generations count from 1.
    pub(crate) fn is_dead(&self, party: u32, generation: u32) -> bool {
        self.dead[party as usize].load(Ordering::SeqCst) >= generation
    }

    /// Is whoever holds the place now dead?
    pub(crate) fn is_place_dead(&self, party: u32) -> bool {
        self.is_dead(party, self.gone[party as usize].load(Ordering::SeqCst) + 1)
    }
}
