//! `Condvar`: a gate under a mutex. Parties in even seats close and open it, the others wait while it is closed; whoever opens
//! it last notifies all, so everybody comes through.

use std::time::Duration;

use swath_sync::{Condvar, LockError, Locked, Mutex, MutexGuard};

use crate::chaos::act::Act;
use crate::chaos::arena::Arena;
use crate::chaos::me::Me;
use crate::scenario::expect;

const LOCK: usize = 0;
const WAIT: usize = 1;
const WAIT_TIMEOUT: usize = 2;
const NOTIFY: usize = 3;

const CLOSED: u64 = 1;
const OPEN: u64 = 2;

pub(super) struct Gate {
    condition: &'static Condvar,
    gate: &'static Mutex<u64>,
}

impl Gate {
    pub(super) fn new(arena: &Arena<'_>) -> Gate {
        Gate { condition: arena.place(Condvar::new()), gate: arena.place(Mutex::new(OPEN)) }
    }

    /// The gate is one word: nothing to repair.
    fn whole(
        me: &Me,
        locked: Result<Locked<'static, u64>, LockError>,
    ) -> Result<MutexGuard<'static, u64>, String> {
        match locked.map_err(|error| error.to_string())? {
            Locked::Acquired(guard) => Ok(guard),
            Locked::Recovered(guard) => {
                me.recovered();
                Ok(guard.repaired())
            }
        }
    }

    fn set(&self, me: &Me, state: u64) -> Result<(), String> {
        let mut gate = Gate::whole(me, me.inside(LOCK, || self.gate.lock(&me.party)))?;
        *gate = state;
        me.may_crash();
        drop(gate);
        if state == OPEN {
            me.inside(NOTIFY, || self.condition.notify_all());
        }
        Ok(())
    }

    fn pass(&self, me: &Me) -> Result<(), String> {
        let mut gate = Gate::whole(me, me.inside(LOCK, || self.gate.lock(&me.party)))?;
        if me.one_in(4) {
            let limit = Duration::from_micros(50);
            let waited = me.inside(WAIT_TIMEOUT, || self.condition.wait_timeout(gate, limit));
            let (locked, _) = waited.map_err(|error| error.to_string())?;
            gate = Gate::whole(me, Ok(locked))?;
        }
        while *gate == CLOSED {
            gate =
                Gate::whole(me, me.inside(WAIT, || self.condition.wait_while(gate, |gate| *gate == CLOSED)))?;
        }
        expect(*gate == OPEN, || format!("the gate is {}", *gate))
    }
}

impl Act for Gate {
    fn name(&self) -> &'static str {
        "condvar"
    }

    fn operations(&self) -> &'static [&'static str] {
        &["lock", "wait_while", "wait_timeout", "notify_all"]
    }

    fn round(&self, me: &Me) -> Result<(), String> {
        if !me.seat.is_multiple_of(2) {
            return self.pass(me);
        }
        if me.one_in(3) {
            self.set(me, CLOSED)?;
            // So that somebody finds it closed.
            std::thread::yield_now();
        }
        self.set(me, OPEN)
    }
}
