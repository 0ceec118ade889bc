//! `Semaphore` with half as many permits as seats: never more holders than permits, and nobody waits for a dead one's.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use swath_sync::{Semaphore, SemaphoreError};

use crate::chaos::act::Act;
use crate::chaos::arena::Arena;
use crate::chaos::me::Me;
use crate::chaos::seat::SEATS;
use crate::scenario::expect;
use crate::watchdog;

const PERMITS: usize = SEATS / 2;

const ACQUIRE: usize = 0;
const ACQUIRE_TIMEOUT: usize = 1;
const RELEASE: usize = 2;
const RELEASE_KEPT: usize = 3;

pub(super) struct Permits {
    semaphore: &'static Semaphore,
    /// Per seat, odd while its party has a permit.
    turns: &'static [AtomicU64; SEATS],
    pids: &'static [AtomicU64; SEATS],
}

impl Permits {
    pub(super) fn new(arena: &Arena<'_>) -> Permits {
        let semaphore = arena.place(Semaphore::new(PERMITS));
        Permits { semaphore, turns: arena.words(), pids: arena.words() }
    }

    /// One turn is over, another begins: odd from after the acquisition until before the release. A dead one's may be
    /// odd still.
    fn turn(&self, me: &Me, holds: bool) {
        let turn = self.turns[me.seat].load(Ordering::SeqCst);
        self.turns[me.seat].store(turn + if (turn % 2 == 1) == holds { 2 } else { 1 }, Ordering::SeqCst);
    }

    /// Twice the same look: so it was all at one moment. Those who live after it have held a permit then.
    fn count(&self) -> Result<(), String> {
        let look = || self.turns.each_ref().map(|turn| turn.load(Ordering::SeqCst));
        let (one, other) = (look(), look());
        let holders = || (0..SEATS).filter(|seat| one[*seat] % 2 == 1);
        if one != other || holders().count() <= PERMITS {
            return Ok(());
        }
        let lives = |seat: &usize| {
            let pid = self.pids[*seat].load(Ordering::SeqCst) as i32;
            watchdog::state_of(pid).is_some_and(|state| !matches!(state, 'Z' | 'X'))
        };
        let living = holders().filter(lives).count();
        // A seat may have changed hands meanwhile; then its number is another one.
        expect(living <= PERMITS || look() != one, || format!("{living} have one of {PERMITS} permits"))
    }
}

impl Act for Permits {
    fn name(&self) -> &'static str {
        "semaphore"
    }

    fn operations(&self) -> &'static [&'static str] {
        &["acquire", "acquire_timeout", "release", "release of a kept one"]
    }

    fn round(&self, me: &Me) -> Result<(), String> {
        self.pids[me.seat].store(u64::from(std::process::id()), Ordering::SeqCst);
        let permit = if me.one_in(4) {
            let limit = Duration::from_micros(200);
            me.inside(ACQUIRE_TIMEOUT, || self.semaphore.acquire_timeout(&me.party, limit))
        } else {
            me.inside(ACQUIRE, || self.semaphore.acquire(&me.party))
        };
        let permit = match permit {
            Ok(permit) => permit,
            Err(SemaphoreError::TimedOut { .. }) => return Ok(()),
            Err(error) => return Err(error.to_string()),
        };
        self.turn(me, true);
        me.may_crash();
        self.count()?;
        self.turn(me, false);
        if me.one_in(3) {
            permit.keep();
            return me
                .inside(RELEASE_KEPT, || self.semaphore.release(&me.party))
                .map_err(|error| error.to_string());
        }
        me.inside(RELEASE, || drop(permit));
        Ok(())
    }
}
