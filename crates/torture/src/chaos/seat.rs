//! A seat: a place in the game that one process after the other takes, and the words by which its holder says where it is.

use std::sync::atomic::{AtomicU32, Ordering};

use super::arena::Arena;

/// How many processes play at a time: more than processors, so that they are preempted anywhere too.
pub(crate) const SEATS: usize = 6;

/// Where a party was, as far as it has said.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Whereabouts {
    /// Starting, or between two acts.
    Outside,
    /// In an act's round, between two calls: it may hold what the act is about.
    Between { act: usize },
    /// Within a public call.
    Inside { act: usize, operation: usize },
}

/// The words of one seat, in a line of their own.
#[derive(Copy, Clone)]
pub(crate) struct Seat {
    words: &'static [AtomicU32; 4],
}

impl Seat {
    /// A seat in fresh memory.
    pub(crate) fn new(arena: &Arena<'_>) -> Seat {
        Seat { words: arena.words() }
    }

    /// The holder says where it is.
    pub(crate) fn is_at(&self, place: Whereabouts) {
        let word = match place {
            Whereabouts::Outside => 0,
            Whereabouts::Between { act } => (act as u32 + 1) << 8,
            Whereabouts::Inside { act, operation } => (act as u32 + 1) << 8 | (operation as u32 + 1),
        };
        self.words[0].store(word, Ordering::SeqCst);
    }

    /// Where the holder said it was; final when it is known to be dead.
    pub(crate) fn place(&self) -> Whereabouts {
        let word = self.words[0].load(Ordering::SeqCst) as usize;
        match (word >> 8, word & 0xff) {
            (0, _) => Whereabouts::Outside,
            (act, 0) => Whereabouts::Between { act: act - 1 },
            (act, operation) => Whereabouts::Inside { act: act - 1, operation: operation - 1 },
        }
    }

    /// A lap is done.
    pub(crate) fn lap(&self) {
        self.words[1].fetch_add(1, Ordering::SeqCst);
    }

    /// Laps of this seat, whoever held it.
    pub(crate) fn laps(&self) -> u32 {
        self.words[1].load(Ordering::SeqCst)
    }

    /// Asks the holder to crash by itself, in this way (not 0), between two calls; 0: takes the request back.
    pub(crate) fn ask_to_crash(&self, way: u32) {
        self.words[2].store(way, Ordering::SeqCst);
    }

    /// In which way it has been asked to crash.
    pub(crate) fn crash_asked(&self) -> u32 {
        self.words[2].load(Ordering::SeqCst)
    }

    /// The holder has been told of a death, or has repaired what one left.
    pub(crate) fn recovered(&self) {
        self.words[3].fetch_add(1, Ordering::SeqCst);
    }

    /// How often.
    pub(crate) fn recoveries(&self) -> u32 {
        self.words[3].load(Ordering::SeqCst)
    }
}
