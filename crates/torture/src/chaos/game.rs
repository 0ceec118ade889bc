//! The game: seats with parties that play all acts, lap after lap, and a referee who kills some of them, buries them as the
//! service thread would, fills their seats, and waits until the survivors have gone on.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use swath_sync::{DeathCause, SlotId, SlotTable};

use super::act::Act;
use super::arena::Arena;
use super::dice::Dice;
use super::fault::{self, Fault};
use super::me::Me;
use super::score::Score;
use super::seat::{SEATS, Seat, Whereabouts};
use super::urgency;
use crate::party;
use crate::scenario::{Finding, Verdict};
use crate::stage::Stage;
use crate::victim;
use crate::watchdog::{self, DEADLINE, Ending};

/// At most so many die at a time; the others are the survivors.
const VICTIMS_MAX: usize = 3;
/// Faults come at a random moment within this time.
const LURK: Duration = Duration::from_micros(600);
/// A party that was asked to crash by itself does so at its next opportunity; after this long it is killed.
const CRASH_WITHIN: Duration = Duration::from_millis(3);

/// What ended a game early.
pub(crate) enum Foul {
    /// Somebody did not go on.
    Hung(String),
    /// Somebody found, or left, something that the serial model does not allow.
    Wrong(String),
}

/// See the module.
pub(crate) struct Game<'s> {
    stage: &'s Stage,
    table: &'static SlotTable,
    acts: Vec<Box<dyn Act>>,
    seats: [Seat; SEATS],
    parties: [SlotId; SEATS],
    pids: [i32; SEATS],
    dice: Dice,
    /// The parties look at it after each lap.
    over: &'static AtomicU32,
}

impl<'s> Game<'s> {
    /// Fresh memory, all seats taken, to play the acts that `make` gives.
    pub(crate) fn begin(
        stage: &'s Stage,
        seed: u64,
        make: impl FnOnce(&Arena<'_>) -> Vec<Box<dyn Act>>,
    ) -> Result<Game<'s>, String> {
        let arena = Arena::new(stage).map_err(|error| error.to_string())?;
        let table = arena.table();
        let parties = [(); SEATS].map(|()| table.reserve().expect("a fresh table has room"));
        let mut game = Game {
            stage,
            table,
            acts: make(&arena),
            seats: [(); SEATS].map(|()| Seat::new(&arena)),
            parties,
            pids: [0; SEATS],
            dice: Dice::new(seed),
            over: arena.words(),
        };
        game.acts.iter().for_each(|act| act.reopen(&parties));
        for seat in 0..SEATS {
            game.fill(seat)?;
        }
        Ok(game)
    }

    /// Some parties die, together or one after the other; then the survivors must go on.
    pub(crate) fn strike(&mut self, score: &mut Score) -> Result<(), Foul> {
        let mut seats: Vec<usize> = (0..SEATS).collect();
        self.dice.shuffle(&mut seats);
        let (victims, survivors) = seats.split_at(1 + self.dice.below(VICTIMS_MAX));
        let faults: Vec<(usize, Fault)> =
            victims.iter().map(|seat| (*seat, Fault::choose(&mut self.dice))).collect();
        for (seat, fault) in &faults {
            std::thread::sleep(Duration::from_nanos(self.dice.below(LURK.as_nanos() as usize) as u64));
            fault.strike(self.pids[*seat], self.seats[*seat]);
        }
        for (seat, fault) in &faults {
            fault.complete(self.pids[*seat]);
            urgency::hurry(self.pids[*seat]);
        }
        for (seat, fault) in &faults {
            self.bury(*seat, *fault, score)?;
        }
        // All dead are known before a seat is filled: an act may only open again when all are there.
        for (seat, _) in &faults {
            self.parties[*seat] = self.table.reserve().expect("the dead have left theirs");
        }
        self.acts.iter().for_each(|act| act.reopen(&self.parties));
        for (seat, _) in &faults {
            self.fill(*seat).map_err(Foul::Wrong)?;
        }
        self.await_lap(survivors)
    }

    /// Everybody leaves after the lap under way; then the state is looked at.
    pub(crate) fn end(mut self) -> Result<u32, Foul> {
        self.over.store(1, Ordering::SeqCst);
        let deadline = Instant::now() + DEADLINE;
        for seat in 0..SEATS {
            let ending = loop {
                self.acts.iter().for_each(|act| act.release());
                match watchdog::reap(self.pids[seat], false) {
                    Some(ending) => break ending,
                    None if Instant::now() > deadline => return Err(Foul::Hung(self.describe(seat))),
                    None => std::thread::sleep(Duration::from_micros(50)),
                }
            };
            self.pids[seat] = 0;
            if ending != Ending::Exited(victim::EXIT_CLEAN) {
                return Err(self.foul(seat, ending));
            }
        }
        for act in &self.acts {
            act.tally().map_err(|wrong| Foul::Wrong(format!("{}: {wrong}", act.name())))?;
        }
        Ok(self.seats.iter().map(|seat| seat.recoveries()).sum())
    }

    /// Starts a party for an empty seat whose slot is reserved.
    fn fill(&mut self, seat: usize) -> Result<(), String> {
        let (id, dice) = (self.parties[seat], Dice::new(self.dice.roll()));
        let life = || self.life(seat, id, dice);
        let pid = victim::fork_role(self.stage, seat, life).map_err(|error| error.to_string())?;
        self.pids[seat] = pid;
        Ok(())
    }

    /// A party's whole life.
    fn life(&self, seat: usize, id: SlotId, dice: Dice) -> Finding {
        urgency::queue_up();
        fault::be_vulnerable();
        let me = Me::enter(self.table, id, seat, self.seats[seat], dice);
        while self.over.load(Ordering::SeqCst) == 0 {
            me.lap(&self.acts)?;
        }
        Ok(Verdict::Clean)
    }

    /// Waits for the victim's end; then what the service thread does, sometimes late.
    fn bury(&mut self, seat: usize, fault: Fault, score: &mut Score) -> Result<(), Foul> {
        let (pid, id) = (self.pids[seat], self.parties[seat]);
        let (began, mut killed) = (Instant::now(), fault.signal() == libc::SIGKILL);
        let ending = loop {
            match watchdog::reap(pid, false) {
                Some(ending) => break ending,
                None if began.elapsed() > DEADLINE => return Err(Foul::Hung(self.describe(seat))),
                // It has not come to a moment at which it could do as it was asked.
                None if !killed && began.elapsed() > CRASH_WITHIN => {
                    killed = true;
                    watchdog::kill(pid);
                }
                None => std::thread::sleep(Duration::from_micros(20)),
            }
        };
        self.pids[seat] = 0;
        self.seats[seat].ask_to_crash(0);
        let signal = if killed { libc::SIGKILL } else { fault.signal() };
        if ending != Ending::Signalled(signal) && ending != Ending::Signalled(fault.signal()) {
            return Err(self.foul(seat, ending));
        }
        let place = self.seats[seat].place();
        score.death(fault, self.tell(place), matches!(place, Whereabouts::Inside { .. }));
        if self.dice.below(8) == 0 {
            // The kernel's mark alone has to do for a while.
            std::thread::sleep(Duration::from_micros(self.dice.below(2000) as u64));
        }
        party::confirm_death(self.table, id, DeathCause(signal as u32));
        for act in &self.acts {
            act.bury(seat, id).map_err(|wrong| Foul::Wrong(format!("{}: {wrong}", act.name())))?;
        }
        self.table.release(id);
        Ok(())
    }

    /// Each of these finishes a lap from now on.
    fn await_lap(&mut self, seats: &[usize]) -> Result<(), Foul> {
        let deadline = Instant::now() + DEADLINE;
        let goals: Vec<(usize, u32)> =
            seats.iter().map(|seat| (*seat, self.seats[*seat].laps() + 1)).collect();
        for (seat, goal) in goals {
            while self.seats[seat].laps() < goal {
                if let Some(ending) = watchdog::reap(self.pids[seat], false) {
                    self.pids[seat] = 0;
                    return Err(self.foul(seat, ending));
                }
                if Instant::now() > deadline {
                    return Err(Foul::Hung(self.describe(seat)));
                }
                std::thread::sleep(Duration::from_micros(30));
            }
        }
        Ok(())
    }

    fn foul(&self, seat: usize, ending: Ending) -> Foul {
        match ending {
            Ending::Exited(victim::EXIT_WRONG) => Foul::Wrong(self.stage.said(seat)),
            other => Foul::Wrong(format!("the party in seat {seat} ended by itself: {other:?}")),
        }
    }

    /// A place in words.
    fn tell(&self, place: Whereabouts) -> String {
        match place {
            Whereabouts::Outside => "outside of all".to_owned(),
            Whereabouts::Between { act } => format!("{}: between two calls", self.acts[act].name()),
            Whereabouts::Inside { act, operation } => {
                let act = &self.acts[act];
                format!("{}: inside {}", act.name(), act.operations()[operation])
            }
        }
    }

    fn describe(&self, seat: usize) -> String {
        let all = self.seats.iter().enumerate().map(|(n, seat)| format!("{n} {}", self.tell(seat.place())));
        let acts = self.acts.iter().map(|act| act.describe()).filter(|text| !text.is_empty());
        let all: Vec<_> = all.chain(acts).collect();
        format!("seat {seat} does not go on; {}", all.join("; "))
    }
}

impl Drop for Game<'_> {
    fn drop(&mut self) {
        for pid in self.pids.iter().filter(|pid| **pid != 0) {
            watchdog::kill(*pid);
            watchdog::reap(*pid, true);
        }
    }
}
