//! A barrier that breaks when a party dies. Steps B1–B9 of `README.md`.

mod fault;
mod words;

use std::fmt;
use std::time::{Duration, Instant};

pub use self::fault::BarrierError;
#[cfg(not(loom))]
pub use self::words::BarrierPlan;
pub use self::words::Cell;
use self::words::{Head, Phase, SHRINKS, State, VACANT};
use crate::atomics::{Ordering, fence};
use crate::deadline::Deadline;
use crate::park;
use crate::party::Party;
use crate::slots::{Liveness, SlotId, SlotTable};
use crate::waiting::Waiting;

/// Where known parties wait for each other, again and again.
///
/// A barrier knows its parties by slot and generation, so it never counts an anonymous arrival, and never passes short:
/// a party that dies breaks it for all the others, now and later, until [`Barrier::reset`]; or leaves it, if it was planned
/// to [shrink](BarrierPlan::shrink).
#[repr(C)]
pub struct Barrier<C: ?Sized = [Cell]> {
    head: Head,
    cells: C,
}

/// The action of a caller without one.
type NoAction = fn();

impl Barrier {
    /// A barrier of these parties.
    ///
    /// # Panics
    /// Without parties, or with more than a slot table has.
    #[cfg(not(loom))]
    pub fn of(parties: &[SlotId]) -> BarrierPlan {
        BarrierPlan::new(parties)
    }

    /// A barrier of so many parties, whoever comes: who waits for the first time takes a free seat and keeps it.
    ///
    /// # Panics
    /// Without parties, or with more than a slot table has.
    #[cfg(not(loom))]
    pub fn seats(parties: usize) -> BarrierPlan {
        BarrierPlan::seats(parties)
    }

    /// How many parties it has, free seats included; those that died and left do not count.
    pub fn parties(&self) -> usize {
        self.cells.iter().filter(|cell| cell.arrival.load(Ordering::Relaxed) as u32 != 0).count()
    }

    /// Waits until all parties have come, for as long as the barrier was planned to. Exactly one of them is told `true`,
    /// the leader.
    ///
    /// A timeout closes the barrier for all, as in other barriers: whether a party has passed is decided in one word,
    /// and it cannot be said to one that it has not while others go on as if it had.
    pub fn wait(&self, party: &Party) -> Result<bool, BarrierError> {
        self.wait_until(party, self.default_deadline(), None::<NoAction>)
    }

    /// Comes only if all others have, and passes with them; otherwise [`BarrierError::TimedOut`], and nothing has
    /// happened.
    pub fn try_wait(&self, party: &Party) -> Result<bool, BarrierError> {
        let phase = self.phase();
        if let State::Acting(_) = phase.state() {
            return Err(BarrierError::TimedOut);
        }
        let own = |cell: &Cell| cell.party() == Some(party.slot());
        let mut seats = usize::from(!self.cells.iter().any(own)); // that are ours to take
        let mut take = |cell: &Cell| cell.is_vacant() && std::mem::take(&mut seats) == 1;
        let mut here = |cell: &Cell| own(cell) || cell.has_arrived(phase.next_epoch()) || take(cell);
        if phase.state() == State::Open && !self.cells.iter().all(&mut here) {
            return match self.first_dead(party.table()) {
                Some(_) => self.wait_until(party, Deadline::Now, None::<NoAction>), // which breaks it, or shrinks
                None => Err(BarrierError::TimedOut),
            };
        }
        self.wait_until(party, Deadline::Now, None::<NoAction>)
    }

    /// [`Self::wait`], at most for `timeout`.
    pub fn wait_timeout(&self, party: &Party, timeout: Duration) -> Result<bool, BarrierError> {
        self.wait_until(party, Deadline::In(timeout), None::<NoAction>)
    }

    /// [`Self::wait`], at most until `deadline`.
    pub fn wait_deadline(&self, party: &Party, deadline: Instant) -> Result<bool, BarrierError> {
        self.wait_until(party, Deadline::At(deadline), None::<NoAction>)
    }

    /// [`Self::wait`], and the leader runs its `action` when all have come and before anybody passes. All should give the
    /// same one: who leads is not known before. Who dies in its action breaks the barrier, who panics aborts it.
    pub fn wait_with(&self, party: &Party, action: impl FnOnce()) -> Result<bool, BarrierError> {
        self.wait_until(party, self.default_deadline(), Some(action))
    }

    /// [`Self::wait_with`], at most for `timeout`. If it passes in the action, the barrier is closed while that runs.
    pub fn wait_with_timeout(
        &self,
        party: &Party,
        timeout: Duration,
        action: impl FnOnce(),
    ) -> Result<bool, BarrierError> {
        self.wait_until(party, Deadline::In(timeout), Some(action))
    }

    /// [`Self::wait_with`], at most until `deadline`.
    pub fn wait_with_deadline(
        &self,
        party: &Party,
        deadline: Instant,
        action: impl FnOnce(),
    ) -> Result<bool, BarrierError> {
        self.wait_until(party, Deadline::At(deadline), Some(action))
    }

    /// Closes the barrier: all who wait and all who come get [`BarrierError::Aborted`], until [`Barrier::reset`]. A
    /// barrier that is broken already stays so.
    pub fn abort(&self) {
        loop {
            let seen = self.phase();
            let closed = !matches!(seen.state(), State::Open | State::Acting(_));
            if closed || self.decide(seen, seen.in_state(State::Aborted)) {
                return;
            }
        }
    }

    /// Opens it again for these parties, no more than in the beginning. Who still waits inside gets
    /// [`BarrierError::Aborted`]; a straggler among them cannot be counted in the new round.
    ///
    /// For one caller at a time, when nobody is in a round: who has not yet returned from a round that has passed may be told
    /// [`BarrierError::Aborted`] too. Killed in it: the barrier stays closed, and a second reset begins anew.
    ///
    /// # Panics
    /// Without parties, or with more than there is room for.
    pub fn reset(&self, parties: &[SlotId]) {
        assert!((1..=self.cells.len()).contains(&parties.len()), "a barrier has room for its first parties");
        self.abort();
        let closed = self.phase();
        self.reopen(closed, |index| Cell::word(parties.get(index).copied()));
    }

    /// [`Self::reset`] with all seats free, as many as in the beginning.
    pub fn reset_seats(&self) {
        self.abort();
        self.reopen(self.phase(), |_| VACANT);
    }

    fn reopen(&self, closed: Phase, word: impl Fn(usize) -> u64) {
        for (index, cell) in self.cells.iter().enumerate() {
            cell.arrival.store(word(index), Ordering::SeqCst);
        }
        self.head.fault.store(0, Ordering::SeqCst);
        // Two epochs on: one would look like a passed barrier to who still waits in the old one.
        self.decide(closed, closed.passed().passed());
    }

    /// Who has not come in the present round.
    pub fn missing(&self) -> Vec<SlotId> {
        let epoch = self.phase().next_epoch();
        self.cells.iter().filter(|cell| !cell.has_arrived(epoch)).filter_map(Cell::party).collect()
    }

    fn default_deadline(&self) -> Deadline {
        match self.head.timeout_ns.load(Ordering::Relaxed) {
            0 => Deadline::Never,
            ns => Deadline::In(Duration::from_nanos(ns)),
        }
    }

    fn wait_until<F: FnOnce()>(
        &self,
        party: &Party,
        deadline: Deadline,
        mut action: Option<F>,
    ) -> Result<bool, BarrierError> {
        let seen = self.phase();
        if !matches!(seen.state(), State::Open | State::Acting(_)) {
            return Err(self.error(seen, party.table())); // B1
        }
        let open = seen.in_state(State::Open);
        self.arrive(party.slot(), open.next_epoch())?; // B2
        if self.all_arrived(open) {
            if let Some(led) = self.complete(party, open, &mut action) {
                return led;
            }
        } else {
            park::spin(|| self.phase() != open);
        }
        self.wait_parked(party, open, deadline, action)
    }

    /// B4–B8: until the round is over, looking after each slice at who has come and who lives.
    fn wait_parked<F: FnOnce()>(
        &self,
        party: &Party,
        open: Phase,
        deadline: Deadline,
        mut action: Option<F>,
    ) -> Result<bool, BarrierError> {
        let table = party.table();
        let mut waiting = Waiting::new(party, deadline);
        loop {
            waiting.look();
            let now = self.phase();
            let acting = matches!(now.state(), State::Acting(_));
            if now.in_state(State::Open) != open || !(acting || now == open) {
                return self.outcome(open, table);
            }
            if now == open && self.all_arrived(open) {
                // B5: who came last was stopped, or killed, before it could say so.
                if let Some(led) = self.complete(party, open, &mut action) {
                    return led;
                }
            } else if let Some(dead) = self.first_dead(table) {
                self.lose(table, now, dead);
            } else if waiting.is_over() {
                if !self.ask(table) {
                    self.decide(now, open.in_state(State::GivenUp)); // B7
                }
            } else {
                let mark = park::announce(&self.head.parked);
                if self.phase() == now && waiting.sleep(&self.head.parked, mark) {
                    self.ask(table); // B4, a whole slice
                }
            }
        }
    }

    /// B3: all have come. The result of the one who lets them pass; `None` if that is not the caller, or if it has
    /// changed who all are. Nobody passes beside a party that is known to be dead, even if it had come before it died.
    fn complete<F: FnOnce()>(
        &self,
        party: &Party,
        open: Phase,
        action: &mut Option<F>,
    ) -> Option<Result<bool, BarrierError>> {
        let table = party.table();
        if let Some(dead) = self.first_dead(table) {
            self.lose(table, open, dead);
            return None;
        }
        if action.is_none() {
            return self.decide(open, open.passed()).then_some(Ok(true));
        }
        let acting = open.in_state(State::Acting(party.slot()));
        if !self.decide(open, acting) {
            return None; // B8 by another one
        }
        let panicked = Panicked { barrier: self, acting };
        if let Some(action) = action.take() {
            action();
        }
        std::mem::forget(panicked);
        while let Some(dead) = self.first_dead(table) {
            self.lose(table, acting, dead);
            if self.phase() != acting {
                break;
            }
        }
        let led = self.decide(acting, open.passed()); // B9
        Some(if led { Ok(true) } else { self.outcome(open, table) })
    }

    /// A party is dead. B6, or, if the barrier shrinks and it was not its leader in its action, it leaves.
    #[cold]
    fn lose(&self, table: &SlotTable, seen: Phase, dead: SlotId) {
        let led = seen.state() == State::Acting(dead);
        if self.head.flags.load(Ordering::Relaxed) & SHRINKS != 0 && !led {
            self.cells.iter().for_each(|cell| cell.clear_of(dead));
            return;
        }
        self.blame(table, dead);
        self.decide(seen, seen.in_state(State::Broken));
    }

    /// B2: into the own cell, unless a reset has given it to somebody else meanwhile; else into a free seat.
    fn arrive(&self, slot: SlotId, epoch: u32) -> Result<(), BarrierError> {
        let me = Cell::word(Some(slot));
        let new = u64::from(epoch) << 32 | me;
        // AcqRel, because B3 may read it in the same breath: of two who come last, one must see both.
        let swap = |cell: &Cell, old| {
            let came = cell.arrival.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed).is_ok();
            fence(Ordering::SeqCst);
            came
        };
        for cell in &self.cells {
            let old = cell.arrival.load(Ordering::Relaxed);
            if u64::from(old as u32) == me {
                swap(cell, old);
                return Ok(());
            }
        }
        let seated = self.cells.iter().any(|cell| swap(cell, VACANT));
        if seated { Ok(()) } else { Err(BarrierError::NotAParty { slot }) }
    }

    fn all_arrived(&self, open: Phase) -> bool {
        self.cells.iter().all(|cell| cell.has_arrived(open.next_epoch()))
    }

    fn first_dead(&self, table: &SlotTable) -> Option<SlotId> {
        self.cells.iter().filter_map(Cell::party).find(|party| {
            matches!(table.liveness(*party), Liveness::ThreadDead | Liveness::Dead(_) | Liveness::Gone)
        })
    }

    /// Asks the kernel about all parties; whether one turns out to be dead.
    #[cold]
    fn ask(&self, table: &SlotTable) -> bool {
        self.cells.iter().filter_map(Cell::party).for_each(|party| table.ask(party));
        self.first_dead(table).is_some()
    }

    fn phase(&self) -> Phase {
        Phase(self.head.phase.load(Ordering::Acquire))
    }

    /// The one place where a round changes its state, in whatever way: one compare-and-swap, then the wake. Killed between
    /// the two: sleepers look at the end of their slice.
    fn decide(&self, seen: Phase, next: Phase) -> bool {
        let phase = &self.head.phase;
        let decided = phase.compare_exchange(seen.0, next.0, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        // Who sleeps need not know that somebody is in its action.
        if decided && !matches!(next.state(), State::Acting(_)) {
            park::take_mark(&self.head.parked, &self.head.parked);
        }
        decided
    }

    /// What has become of the round that was `open`.
    fn outcome(&self, open: Phase, table: &SlotTable) -> Result<bool, BarrierError> {
        let now = self.phase();
        if now.epoch() == open.next_epoch() {
            return Ok(false); // passed, whatever happened to the round after
        }
        if now.epoch() == open.epoch() && now.state() != State::Open {
            return Err(self.error(now, table));
        }
        Err(BarrierError::Aborted) // reset while we waited
    }
}

/// Somebody is in its action; dropped by a panic only.
struct Panicked<'a> {
    barrier: &'a Barrier,
    acting: Phase,
}

impl Drop for Panicked<'_> {
    fn drop(&mut self) {
        self.barrier.decide(self.acting, self.acting.in_state(State::Aborted));
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = self.phase();
        f.debug_struct("Barrier")
            .field("parties", &self.parties())
            .field("epoch", &phase.epoch())
            .field("state", &phase.state())
            .finish_non_exhaustive()
    }
}
