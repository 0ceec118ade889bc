//! An act: one primitive in the game, what a party does with it, and the serial model that its state is held against.

use std::sync::atomic::{AtomicU64, Ordering};

use swath_sync::SlotId;

use super::me::Me;
use super::seat::SEATS;

/// One primitive. It is made before the parties are forked, so references into shared memory mean the same to all.
///
/// Every party plays every act once per lap, in an order of its own. A round must end as long as every seat is taken and
/// its party goes on, whatever order the others play in.
pub(crate) trait Act {
    /// Its name in the report.
    fn name(&self) -> &'static str;

    /// Its operations, as [`Me::inside`] numbers them.
    fn operations(&self) -> &'static [&'static str];

    /// Whether the round waits for all others: then it is played last in a lap, or parties would wait for each other
    /// in different places.
    fn gathers(&self) -> bool {
        false
    }

    /// What a party does; an error is a sentence that says what is wrong.
    fn round(&self, me: &Me) -> Result<(), String>;

    /// The party in `seat` is dead, and the table says so: checks what it left against what it had said, and does what
    /// the service thread would. Runs in the referee, beside the survivors: nothing here may block.
    fn bury(&self, _seat: usize, _dead: SlotId) -> Result<(), String> {
        Ok(())
    }

    /// All seats are taken again, by these; the newcomers have not begun.
    fn reopen(&self, _parties: &[SlotId; SEATS]) {}

    /// What there is to say about its state when somebody does not go on.
    fn describe(&self) -> String {
        String::new()
    }

    /// The game is over: lets those go who wait for somebody that has left. Called again and again.
    fn release(&self) {}

    /// Everybody has left: the state must be what the serial model says.
    fn tally(&self) -> Result<(), String> {
        Ok(())
    }
}

/// What each seat's parties have done for certain: written by the party after the operation has returned. The effect is
/// counted elsewhere, so it is as many, or one more if the party died in between.
pub(crate) struct Acknowledged(pub(crate) &'static [AtomicU64; SEATS]);

impl Acknowledged {
    /// The operation has returned.
    pub(crate) fn add(&self, seat: usize) {
        self.0[seat].fetch_add(1, Ordering::SeqCst);
    }

    /// The party in `seat` is dead and `effects` are there; the successor goes on from them.
    pub(crate) fn settle(&self, seat: usize, effects: u64) -> Result<(), String> {
        let said = self.0[seat].swap(effects, Ordering::SeqCst);
        if effects == said || effects == said + 1 {
            return Ok(());
        }
        Err(format!("the dead one in seat {seat} had completed {said} operations, but {effects} took effect"))
    }

    /// Nobody is there any more: exactly what was said has taken effect.
    pub(crate) fn equal(&self, effects: impl Iterator<Item = u64>) -> Result<(), String> {
        let said: Vec<u64> = self.0.iter().map(|word| word.load(Ordering::SeqCst)).collect();
        let found: Vec<u64> = effects.collect();
        if said == found { Ok(()) } else { Err(format!("{said:?} were completed, {found:?} took effect")) }
    }
}
