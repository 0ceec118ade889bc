//! The model of everything that items are put into and got from, by anybody: what was put is got exactly once. Only what a
//! killed getter had in hand may be gone with it, and what a killed putter was about to put may be there or not.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::chaos::arena::Arena;
use crate::chaos::me::Me;
use crate::chaos::seat::SEATS;
use crate::scenario::expect;

/// Items of one seat that are followed; then the act rests until the next game.
const ITEMS: usize = 1 << 14;
const WORDS: usize = ITEMS / 64;

pub(super) struct Post {
    /// Per seat, the items that its parties have begun to put, and those put for certain.
    begun: &'static [AtomicU64; SEATS],
    put: &'static [AtomicU64; SEATS],
    /// Per seat, the items that its parties have begun to get, and what came of it for certain.
    asked: &'static [AtomicU64; SEATS],
    answered: &'static [AtomicU64; SEATS],
    /// A bit per item that was got.
    got: &'static [[AtomicU64; WORDS]; SEATS],
    /// Puts and gets whose party died in them.
    half: &'static AtomicU64,
}

impl Post {
    pub(super) fn new(arena: &Arena<'_>) -> Post {
        Post {
            begun: arena.words(),
            put: arena.words(),
            asked: arena.words(),
            answered: arena.words(),
            got: arena.words(),
            half: arena.words(),
        }
    }

    /// Whether the seat has put all that can be followed.
    pub(super) fn is_full(&self, me: &Me) -> bool {
        self.begun[me.seat].load(Ordering::SeqCst) >= ITEMS as u64
    }

    /// A new item, to be put by `put`.
    pub(super) fn put(&self, me: &Me, put: impl FnOnce(u64) -> Result<(), String>) -> Result<(), String> {
        let number = self.begun[me.seat].fetch_add(1, Ordering::SeqCst);
        put(number * SEATS as u64 + me.seat as u64)?;
        self.put[me.seat].fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// What `get` gets, if anything, must have been put, and got by nobody.
    pub(super) fn get(
        &self,
        me: &Me,
        get: impl FnOnce() -> Result<Option<u64>, String>,
    ) -> Result<(), String> {
        self.asked[me.seat].fetch_add(1, Ordering::SeqCst);
        if let Some(item) = get()? {
            let (seat, number) = (item as usize % SEATS, item / SEATS as u64);
            let begun = self.begun[seat].load(Ordering::SeqCst);
            expect(number < begun, || format!("item {number} of seat {seat}, which has put {begun}"))?;
            let bit = 1 << (number % 64);
            let before = self.got[seat][number as usize / 64].fetch_or(bit, Ordering::SeqCst);
            expect(before & bit == 0, || format!("item {number} of seat {seat} came twice"))?;
        }
        self.answered[me.seat].fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// The party in that seat is dead.
    pub(super) fn bury(&self, seat: usize) -> Result<(), String> {
        for (begun, over) in [(&self.begun, &self.put), (&self.asked, &self.answered)] {
            let begun = begun[seat].load(Ordering::SeqCst);
            let missing = begun.wrapping_sub(over[seat].swap(begun, Ordering::SeqCst));
            self.half.fetch_add(missing, Ordering::SeqCst);
            expect(missing <= 1, || format!("{missing} operations under way at once"))?;
        }
        Ok(())
    }

    /// Everybody has left, and so many items lie there.
    pub(super) fn tally(&self, left: usize) -> Result<(), String> {
        // A put that was cut short counts as one.
        let put: u64 = self.put.iter().map(|count| count.load(Ordering::SeqCst)).sum();
        let bits = self.got.iter().flatten().map(|word| u64::from(word.load(Ordering::SeqCst).count_ones()));
        let (got, left, half) = (bits.sum::<u64>(), left as u64, self.half.load(Ordering::SeqCst));
        expect(got + left <= put && put <= got + left + half, || {
            format!("{put} items put, {got} got, {left} left, and {half} operations cut short by a death")
        })
    }
}
