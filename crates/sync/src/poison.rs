//! Who left a value in doubt, and how a word says it: `BY_DEATH:1 | owner:30`. Steps M7 and X4 of `README.md`.

use std::fmt;

use crate::owner::{Holder, Owner};

/// By a death that was not repaired, not by a panic.
const BY_DEATH: u32 = 1 << 30;

/// Why and by whom a lock is poisoned.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum PoisonedBy {
    /// This party died holding the lock, and who recovered it did not repair the value.
    Death(Holder),
    /// This party panicked holding the lock.
    Panic(Holder),
}

impl PoisonedBy {
    /// Whom a word names, if it names anybody, with the process that this was. Other flags than ours are not to be in it.
    pub(crate) fn of_word(word: u32, pid: u32) -> Option<Self> {
        let owner = Owner::of_word(word)?;
        let who = Holder { slot: owner.slot(), thread: owner.thread(), pid };
        Some(if word & BY_DEATH != 0 { Self::Death(who) } else { Self::Panic(who) })
    }

    /// The word, and the process.
    pub(crate) fn to_word(self) -> (u32, u32) {
        let (who, flag) = match self {
            Self::Death(who) => (who, BY_DEATH),
            Self::Panic(who) => (who, 0),
        };
        (Owner::new(who.slot, who.thread).bits() | flag, who.pid)
    }
}

impl fmt::Display for PoisonedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Death(who) => write!(f, "{who} died holding it and the value was not repaired"),
            Self::Panic(who) => write!(f, "{who} panicked holding it"),
        }
    }
}
