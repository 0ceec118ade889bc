//! A toy lock for the self-test: sound, or with one of two flaws that the game must catch.
//!
//! The word is the holder's process; whoever finds that process dead takes over and repairs.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use swath_sync::SlotId;

use super::parts::Parts;
use crate::chaos::act::Act;
use crate::chaos::arena::Arena;
use crate::chaos::me::Me;
use crate::watchdog;

const LOCK: usize = 0;
const UNLOCK: usize = 1;

/// What is wrong with the toy.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Flaw {
    /// Nothing.
    None,
    /// Who takes over is not told, and takes the value as it is.
    SilentHandover,
    /// Nobody knows who holds it.
    NoOwner,
}

pub(super) struct Toy {
    holder: &'static AtomicU32,
    sum: &'static AtomicU32,
    parts: Parts,
    flaw: Flaw,
}

impl Toy {
    pub(super) fn new(arena: &Arena<'_>, flaw: Flaw) -> Toy {
        Toy { holder: arena.words(), sum: arena.words(), parts: Parts::new(arena), flaw }
    }

    /// Whether it was taken from a dead one.
    fn lock(&self) -> bool {
        let me = if self.flaw == Flaw::NoOwner { u32::MAX } else { std::process::id() };
        loop {
            let holder = self.holder.load(Ordering::SeqCst);
            let dead = !matches!(holder, 0 | u32::MAX)
                && watchdog::state_of(holder as i32).is_none_or(|state| matches!(state, 'Z' | 'X'));
            if (holder == 0 || dead)
                && self.holder.compare_exchange(holder, me, Ordering::SeqCst, Ordering::SeqCst).is_ok()
            {
                return dead;
            }
            std::thread::sleep(Duration::from_micros(50));
        }
    }
}

impl Act for Toy {
    fn name(&self) -> &'static str {
        "toy"
    }

    fn operations(&self) -> &'static [&'static str] {
        &["lock", "unlock"]
    }

    fn round(&self, me: &Me) -> Result<(), String> {
        let dead = me.inside(LOCK, || self.lock());
        if dead && self.flaw != Flaw::SilentHandover {
            me.recovered();
            self.sum.store(self.parts.sum() as u32, Ordering::SeqCst);
        }
        self.parts.check(u64::from(self.sum.load(Ordering::SeqCst)))?;
        self.parts.raise(me);
        // Long enough for kills to find the two different.
        std::thread::sleep(Duration::from_micros(20));
        me.may_crash();
        self.sum.fetch_add(1, Ordering::SeqCst);
        me.inside(UNLOCK, || self.holder.store(0, Ordering::SeqCst));
        self.parts.acknowledge(me);
        // There is no order among those who wait: without a pause, who had it would have it again.
        std::thread::sleep(Duration::from_micros(500));
        Ok(())
    }

    fn bury(&self, seat: usize, _dead: SlotId) -> Result<(), String> {
        self.parts.bury(seat)
    }

    fn tally(&self) -> Result<(), String> {
        self.parts.tally()
    }
}
