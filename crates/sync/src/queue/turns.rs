//! Whose turn a cell is: claiming one to write, finding one to read, and what the dead left. Steps Q1–Q9 of `README.md`.

use bytemuck::Pod;

use super::word::{Position, State, Word, laps_from};
use super::{Cell, Queue};
use crate::atomics::{AtomicU64, Ordering, fence};
use crate::owner::Owner;
use crate::park;
use crate::party::Party;
use crate::slots::SlotTable;

/// In the word of what was put back: some item may lie behind the head.
const RETURNED: u32 = 1;
/// How often one look at the queue may start anew after a survey. More only if the cells are garbage.
const SURVEYS_MAX: usize = 2;

/// What belongs to an item outside its cell and must be given back when the item is thrown away.
pub(crate) trait Belongings<T> {
    /// Whether there can be any.
    const ANY: bool;

    /// Gives back what the cell names, as far as it is valid. May be called twice for the same.
    fn discard(&self, value: &T);
}

/// Items that own nothing.
pub(crate) struct Nothing;

impl<T> Belongings<T> for Nothing {
    const ANY: bool = false;

    fn discard(&self, _value: &T) {}
}

/// A cell and the word it was seen with, or that was written into it.
#[derive(Copy, Clone)]
pub(crate) struct Turn {
    pub(crate) index: usize,
    pub(crate) word: Word,
    /// What `returned` was before the look that found it.
    returned: u32,
}

impl Turn {
    fn position(self) -> Position {
        Position { lap: self.word.lap(), index: self.index }
    }
}

/// There is nothing to take; perhaps because somebody is still writing what comes next.
pub(crate) struct Nought {
    pub(crate) writer: Option<Owner>,
}

impl<T: Pod> Queue<T> {
    pub(super) fn word_of(&self, index: usize) -> Word {
        Word(self.cells[index].word.load(Ordering::SeqCst))
    }

    /// One compare-and-swap on one cell's word, which decides.
    pub(super) fn decide(&self, index: usize, old: Word, new: Word) -> Result<(), Word> {
        let word = &self.cells[index].word;
        word.compare_exchange(old.0, new.0, Ordering::SeqCst, Ordering::Acquire).map(|_| ()).map_err(Word)
    }

    fn hinted(&self, hint: &AtomicU64) -> Position {
        Position::of_hint(hint.load(Ordering::Relaxed), self.cells.len())
    }

    /// Q1: a cell for the caller to write, in the order of turns; `None` when the queue is full.
    pub(super) fn claim_turn<B: Belongings<T>>(&self, party: &Party, belongings: &B) -> Option<Turn> {
        let cells = self.cells.len();
        let mut at = self.hinted(&self.tail.0);
        let (mut carried, mut surveyed) = (0, 0);
        // Twice round at most: more turns than that are only found used if somebody else goes on all the time, or the
        // words are garbage; then the caller waits and looks again.
        for _ in 0..2 * cells + 2 {
            let seen = self.word_of(at.index);
            match (laps_from(at.lap, seen.lap()), seen.state()) {
                // Given back, and the next one is taken: too late for this one.
                (0, State::Free) if self.gave_back() && self.is_claimed(at.next(cells)) => self.skip(at),
                (0, State::Free) => {
                    let word = Word::owned(at.lap, State::Writing, party.owner());
                    if self.decide(at.index, seen, word).is_ok() {
                        crate::atomics::model_fence();
                        if self.gave_back() {
                            self.skip_those_before(at);
                        }
                        self.tail.0.store(at.next(cells).hint(), Ordering::Relaxed);
                        return Some(Turn { index: at.index, word, returned: 0 });
                    }
                }
                (0, _) => at = at.next(cells),
                // Q2: the hint is old; the cell says how far its column has come.
                (1.., State::Free) => {
                    at = Position { lap: seen.lap().wrapping_sub(1), ..at }.next(cells);
                }
                (1.., _) => at = Position { lap: seen.lap(), ..at }.next(cells),
                (-1, _) if self.recover(party, belongings, at.index, seen, false) => {}
                // Q3: a reader takes its time, or the item came back; it goes along, so that its cell holds up nobody.
                (-1, state)
                    if (matches!(state, State::Reading | State::Drained) || seen.came_back())
                        && carried < cells
                        && self.has_free() =>
                {
                    carried += usize::from(self.decide(at.index, seen, seen.carried()).is_ok());
                }
                (-1, State::Full | State::Writing | State::Reading | State::Drained) => return None,
                // The hint is garbage.
                _ if surveyed < SURVEYS_MAX => {
                    surveyed += 1;
                    at = self.survey().first_free?;
                }
                _ => return None,
            }
        }
        None
    }

    fn has_free(&self) -> bool {
        self.cells.iter().any(|cell| Word(cell.word.load(Ordering::Relaxed)).state() == State::Free)
    }

    /// Q5: the item whose turn it is.
    pub(super) fn find_turn(&self) -> Result<Turn, Nought> {
        let cells = self.cells.len();
        let mut at = self.hinted(&self.head.0);
        let mut surveyed = 0;
        let returned = self.quiet.returned.load(Ordering::SeqCst);
        if returned & RETURNED != 0 {
            surveyed = 1;
            at = self.survey().first.unwrap_or(at);
        }
        let began = at;
        for _ in 0..2 * cells + 2 {
            let seen = self.word_of(at.index);
            match (laps_from(at.lap, seen.lap()), seen.state()) {
                (0 | -1, State::Full) => return Ok(Turn { index: at.index, word: seen, returned }),
                (0, State::Reading | State::Drained) => at = at.next(cells),
                // This turn is over. (The cell's lap does not say that later ones are: it may have been carried.)
                (1, _) => at = at.next(cells),
                (0, State::Free) | (-1, State::Reading | State::Drained) => {
                    self.pass(began, at, returned);
                    return Err(Nought { writer: None });
                }
                (0, State::Writing) => {
                    self.pass(began, at, returned);
                    return Err(Nought { writer: seen.owner() });
                }
                // The hint is far behind, or garbage.
                _ if surveyed < SURVEYS_MAX => {
                    surveyed += 1;
                    at = self.survey().first.unwrap_or(at);
                }
                _ => return Err(Nought { writer: seen.owner() }),
            }
        }
        Err(Nought { writer: None })
    }

    /// All turns before `to` are over, so nobody needs to look there again.
    fn pass(&self, from: Position, to: Position, returned: u32) {
        if from != to {
            self.head.0.store(to.hint(), Ordering::Relaxed);
            fence(Ordering::SeqCst);
            self.look_back(returned);
        }
    }

    /// After the head was moved on, and a fence: if something has been put back since the look that we acted on, it may
    /// lie behind where we moved it. Either we see that here, or who puts the mark away sees where the head is.
    #[inline(always)]
    fn look_back(&self, returned: u32) {
        if self.quiet.returned.load(Ordering::Relaxed) != returned {
            self.note_returned();
        }
    }

    /// Q6: takes the item by one step, or says that somebody else was faster.
    #[inline(always)]
    pub(super) fn take(&self, turn: Turn, new: Word) -> bool {
        let taken = self.decide(turn.index, turn.word, new).is_ok();
        if taken {
            self.head.0.store(turn.position().next(self.cells.len()).hint(), Ordering::Relaxed);
            fence(Ordering::SeqCst);
            self.look_back(turn.returned);
        }
        taken
    }

    /// Q7–Q9: from the state that is ours to another one, whatever lap it has been carried to. False if the cell is not
    /// ours, which garbage can do.
    pub(super) fn leave(&self, index: usize, state: State, me: Owner, next: impl Fn(u32) -> Word) -> bool {
        loop {
            let seen = self.word_of(index);
            if seen.state() != state || seen.owner() != Some(me) {
                return false;
            }
            if self.decide(index, seen, next(seen.lap())).is_ok() {
                return true;
            }
        }
    }

    /// The cell is free for its next lap: tells who waits for room, and who waits behind it.
    pub(super) fn freed(&self) {
        park::take_mark(&self.quiet.room, &self.quiet.room);
    }

    /// The same after a [`Self::take`], whose fence serves.
    #[inline(always)]
    pub(super) fn freed_and_fenced(&self) {
        if self.quiet.room.load(Ordering::Relaxed) & park::ASLEEP != 0 {
            self.freed();
        }
    }

    /// Q9: an item that lies in its cell again, perhaps behind the head: tells who waits for one.
    pub(super) fn returned(&self) {
        self.note_returned();
        park::take_mark(&self.quiet.items, &self.quiet.items);
    }

    fn note_returned(&self) {
        let word = &self.quiet.returned;
        let mut seen = word.load(Ordering::Relaxed);
        // The count tells a survey that is under way that its picture is old.
        while let Err(changed) =
            word.compare_exchange(seen, seen.wrapping_add(2) | RETURNED, Ordering::SeqCst, Ordering::Relaxed)
        {
            if changed == seen {
                return; // only in a model, by a thread that is dead
            }
            seen = changed;
        }
    }

    /// Where the items really begin, by looking at all cells.
    fn survey(&self) -> Survey {
        let returned = self.quiet.returned.load(Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let mut found = Survey::default();
        let mut first_full: Option<Position> = None;
        let least = |least: &mut Option<Position>, at: Position| {
            if least.is_none_or(|least| at.is_before(least)) {
                *least = Some(at);
            }
        };
        for index in 0..self.cells.len() {
            let seen = self.word_of(index);
            let at = Position { lap: seen.lap(), index };
            match seen.state() {
                State::Free => least(&mut found.first_free, at),
                State::Full => least(&mut first_full, at),
                State::Writing => {}
                State::Reading | State::Drained => continue,
            }
            least(&mut found.first, at);
        }
        let head = self.hinted(&self.head.0);
        let behind = first_full.is_some_and(|full| full.is_before(head));
        if behind && returned & RETURNED == 0 {
            self.note_returned();
        } else if !behind && returned & RETURNED != 0 {
            let word = &self.quiet.returned;
            let _ =
                word.compare_exchange(returned, returned & !RETURNED, Ordering::SeqCst, Ordering::Relaxed);
        }
        found
    }

    /// Q4: looks through all cells for what the dead left. With `ask`, the kernel is asked about every owner.
    pub(super) fn sweep<B: Belongings<T>>(&self, party: &Party, belongings: &B, ask: bool) {
        let deaths = party.table().deaths().load(Ordering::Acquire);
        for index in 0..self.cells.len() {
            let seen = self.word_of(index);
            if seen.owner().is_some() {
                self.recover(party, belongings, index, seen, ask);
            }
        }
        self.survey();
        self.quiet.swept.store(deaths, Ordering::Relaxed);
    }

    /// Q4: if the owner of the cell is dead, undoes what it was at. True if the word may have changed.
    pub(super) fn recover<B: Belongings<T>>(
        &self,
        party: &Party,
        belongings: &B,
        index: usize,
        seen: Word,
        ask: bool,
    ) -> bool {
        let Some(owner) = seen.owner() else { return false };
        if owner == party.owner() || !is_dead(party.table(), owner, ask) {
            return false;
        }
        match seen.state() {
            State::Free | State::Full => {}
            State::Writing | State::Drained if B::ANY => {
                // In our own name first: if we die here, the next one discards it again.
                let mine = Word::owned(seen.lap(), State::Drained, party.owner());
                if self.decide(index, seen, mine).is_ok() {
                    self.drain(index, party.owner(), belongings);
                }
            }
            State::Writing => self.give_back(index, seen),
            State::Drained => {
                if self.decide(index, seen, Word::free(seen.lap().wrapping_add(1))).is_ok() {
                    self.tombstone();
                }
            }
            State::Reading => {
                if self.decide(index, seen, Word::returned(seen.lap())).is_ok() {
                    self.returned();
                }
            }
        }
        true
    }

    /// Q3: a turn in which nothing was put is there for the next putter, unless a later one is taken already; then it is
    /// over. Of us and whoever takes the later one, one sees the other.
    pub(super) fn give_back(&self, index: usize, seen: Word) {
        let at = Position { lap: seen.lap(), index };
        self.quiet.gave_back.store(1, Ordering::SeqCst);
        crate::atomics::model_fence();
        let next = at.next(self.cells.len());
        if self.is_claimed(next) {
            let _ = self.decide(index, seen, Word::free(at.lap.wrapping_add(1)));
        } else if self.decide(index, seen, Word::free(at.lap)).is_ok() {
            crate::atomics::model_fence();
            if self.is_claimed(next) {
                self.skip(at);
            } else {
                self.tail.0.store(at.hint(), Ordering::Relaxed);
            }
        }
        self.tombstone();
    }

    /// Whether a turn was ever given back: until then nobody looks for any.
    #[inline(always)]
    fn gave_back(&self) -> bool {
        self.quiet.gave_back.load(Ordering::SeqCst) != 0
    }

    fn is_claimed(&self, at: Position) -> bool {
        let seen = self.word_of(at.index);
        match laps_from(at.lap, seen.lap()) {
            0 => seen.state() != State::Free,
            ahead => ahead > 0,
        }
    }

    /// The turn is over, if nobody has it.
    fn skip(&self, at: Position) {
        if self.decide(at.index, Word::free(at.lap), Word::free(at.lap.wrapping_add(1))).is_ok() {
            self.tombstone();
        }
    }

    #[cold]
    fn skip_those_before(&self, at: Position) {
        let mut at = at;
        for _ in 1..self.cells.len() {
            at = at.previous(self.cells.len());
            if self.word_of(at.index) != Word::free(at.lap) {
                return;
            }
            self.skip(at);
        }
    }

    /// Q8: gives back what belongs to the item of a cell that is drained in our name, then the cell.
    pub(super) fn drain<B: Belongings<T>>(&self, index: usize, me: Owner, belongings: &B) {
        belongings.discard(&self.cells[index].value.load());
        if self.leave(index, State::Drained, me, |lap| Word::free(lap.wrapping_add(1))) {
            self.tombstone();
            self.finished_one();
        }
    }

    /// A turn is over without an item: who waits for room has some, who waits for the item looks at the next.
    pub(super) fn tombstone(&self) {
        self.freed();
        park::take_mark(&self.quiet.items, &self.quiet.items);
    }

    /// Whether nothing is in the queue or in anybody's hands, at one moment during the call: two looks at all cells, between
    /// which no cell has gone on.
    pub(super) fn is_finished(&self) -> bool {
        let Some(before) = self.laps_if_unoccupied() else { return false };
        self.laps_if_unoccupied() == Some(before)
    }

    /// The sum of all laps, if no cell holds an item. Laps only grow, so two equal sums are the same laps.
    fn laps_if_unoccupied(&self) -> Option<u64> {
        let mut laps = 0;
        for cell in &self.cells {
            let seen = Word(cell.word.load(Ordering::SeqCst));
            match seen.state() {
                State::Free | State::Writing => laps += u64::from(seen.lap()),
                State::Full | State::Reading | State::Drained => return None,
            }
        }
        Some(laps)
    }

    pub(super) fn ask_about_owners(&self, table: &SlotTable) {
        let owners = self.cells.iter().filter_map(|cell| Word(cell.word.load(Ordering::Acquire)).owner());
        owners.for_each(|owner| table.ask(owner.slot()));
    }

    pub(super) fn has_a_dead_owner(&self, table: &SlotTable) -> bool {
        let owners = self.cells.iter().filter_map(|cell| Word(cell.word.load(Ordering::Acquire)).owner());
        owners.into_iter().any(|owner| table.is_dead(owner))
    }

    /// How many items lie in the cells.
    pub(super) fn count(&self) -> usize {
        self.cells.iter().filter(|cell: &&Cell<T>| Word(cell.word.load(Ordering::Acquire)).is_full()).count()
    }
}

/// The earliest turn that is not over, and the earliest that nobody has.
#[derive(Default)]
struct Survey {
    first: Option<Position>,
    first_free: Option<Position>,
}

fn is_dead(table: &SlotTable, owner: Owner, ask: bool) -> bool {
    if ask { table.learns_of_death(owner) } else { table.is_dead(owner) }
}
