//! Why a lock was not taken.

use std::time::Duration;

use crate::owner::Holder;
use crate::poison::PoisonedBy;

/// Why a lock was not taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LockError {
    /// The deadline passed while somebody who lives held it.
    #[error("the lock was not to be had in time: {holder} has held it for at least {held_for:?}")]
    TimedOut {
        /// Who holds it.
        holder: Holder,
        /// Since this waiter first saw that.
        held_for: Duration,
    },
    /// The value is in doubt.
    #[error("the lock is poisoned: {who}")]
    Poisoned {
        /// Who left it so, and how.
        who: PoisonedBy,
    },
    /// The calling thread holds it already.
    #[error("the calling thread, {holder}, holds the lock already")]
    Relock {
        /// The calling thread.
        holder: Holder,
    },
    /// The calling thread holds it as often as it may.
    #[error("the calling thread holds the lock {limit} times already")]
    TooDeep {
        /// How often that is.
        limit: u32,
    },
    /// A writer died in the middle of its change: the value is not to be looked at before the next writer, who gets
    /// [`Taken::Recovered`](crate::Taken), has made it whole.
    #[error("{dead} died writing and the value has not been repaired: take the lock for writing")]
    NeedsRepair {
        /// The writer.
        dead: Holder,
    },
    /// The parties wait for each other's locks, the caller first, each for the next, the last for the first.
    #[error("deadlock: {}", cycle(parties))]
    Deadlock {
        /// The parties of the cycle.
        parties: Vec<Holder>,
    },
}

fn cycle(parties: &[Holder]) -> String {
    let names = parties.iter().chain(parties.first()).map(Holder::to_string);
    names.collect::<Vec<_>>().join(" waits for ")
}
