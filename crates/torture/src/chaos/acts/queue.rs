//! `Queue`: everybody puts an item and gets one. What was put is got exactly once; only what a killed getter had in hand may
//! be gone with it, and what a killed putter was about to put may be there or not.

use std::sync::atomic::{AtomicU64, Ordering};

use swath_sync::{Queue, SlotId};

use crate::chaos::act::Act;
use crate::chaos::arena::Arena;
use crate::chaos::me::Me;
use crate::chaos::seat::SEATS;
use crate::scenario::expect;

const CAPACITY: usize = 64;
/// Items of one seat that are followed; then the act rests until the next game.
const ITEMS: usize = 1 << 15;
const WORDS: usize = ITEMS / 64;

const PUT: usize = 0;
const GET: usize = 1;
const TRY_GET: usize = 2;

pub(super) struct Letters {
    queue: &'static Queue<u64>,
    /// Per seat, the items that its parties have begun to put, and those put for certain.
    begun: &'static [AtomicU64; SEATS],
    put: &'static [AtomicU64; SEATS],
    /// Per seat, the items that its parties have begun to get, and what came of it for certain.
    asked: &'static [AtomicU64; SEATS],
    answered: &'static [AtomicU64; SEATS],
    /// A bit per item that was got.
    got: &'static [[AtomicU64; WORDS]; SEATS],
    /// Puts and gets whose party died in them.
    half_put: &'static AtomicU64,
    half_got: &'static AtomicU64,
}

impl Letters {
    pub(super) fn new(arena: &Arena<'_>) -> Letters {
        Letters {
            queue: arena.place(Queue::with_capacity(CAPACITY)),
            begun: arena.words(),
            put: arena.words(),
            asked: arena.words(),
            answered: arena.words(),
            got: arena.words(),
            half_put: arena.words(),
            half_got: arena.words(),
        }
    }

    fn put(&self, me: &Me) -> Result<(), String> {
        let number = self.begun[me.seat].fetch_add(1, Ordering::SeqCst);
        let item = number * SEATS as u64 + me.seat as u64;
        me.inside(PUT, || self.queue.put(&me.party, item)).map_err(|error| error.to_string())?;
        self.put[me.seat].fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// One item that somebody has put and nobody has got.
    fn got(&self, item: u64) -> Result<(), String> {
        let (seat, number) = (item as usize % SEATS, item / SEATS as u64);
        let begun = self.begun[seat].load(Ordering::SeqCst);
        expect(number < begun, || format!("item {number} of seat {seat}, which has put {begun}"))?;
        let bit = 1 << (number % 64);
        let before = self.got[seat][number as usize / 64].fetch_or(bit, Ordering::SeqCst);
        expect(before & bit == 0, || format!("item {number} of seat {seat} came twice"))
    }

    fn get(&self, me: &Me, wait: bool) -> Result<(), String> {
        self.asked[me.seat].fetch_add(1, Ordering::SeqCst);
        if wait {
            let item = me.inside(GET, || self.queue.get(&me.party)).map_err(|error| error.to_string())?;
            self.got(item)?;
        } else if let Ok(item) = me.inside(TRY_GET, || self.queue.try_get(&me.party)) {
            self.got(item)?;
        }
        self.answered[me.seat].fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

impl Act for Letters {
    fn name(&self) -> &'static str {
        "queue"
    }

    fn operations(&self) -> &'static [&'static str] {
        &["put", "get", "try_get"]
    }

    /// Everybody puts before it gets, so there is something for all who wait. What the dead have put and not got is
    /// taken away first, as long as it is more than all can want.
    fn round(&self, me: &Me) -> Result<(), String> {
        if self.begun[me.seat].load(Ordering::SeqCst) >= ITEMS as u64 {
            return Ok(());
        }
        if self.queue.len() > SEATS {
            self.get(me, false)?;
        }
        self.put(me)?;
        me.may_crash();
        self.get(me, true)
    }

    fn bury(&self, seat: usize, _dead: SlotId) -> Result<(), String> {
        let settle = |begun: &AtomicU64, over: &AtomicU64, half: &AtomicU64| {
            let begun = begun.load(Ordering::SeqCst);
            let missing = begun.wrapping_sub(over.swap(begun, Ordering::SeqCst));
            half.fetch_add(missing, Ordering::SeqCst);
            expect(missing <= 1, || format!("{missing} operations under way at once"))
        };
        settle(&self.begun[seat], &self.put[seat], self.half_put)?;
        settle(&self.asked[seat], &self.answered[seat], self.half_got)
    }

    fn tally(&self) -> Result<(), String> {
        let put: u64 = self.put.iter().map(|count| count.load(Ordering::SeqCst)).sum();
        let bits = self.got.iter().flatten().map(|word| u64::from(word.load(Ordering::SeqCst).count_ones()));
        let (got, left) = (bits.sum::<u64>(), self.queue.len() as u64);
        // A half put is counted as put.
        let half = self.half_put.load(Ordering::SeqCst) + self.half_got.load(Ordering::SeqCst);
        expect(got + left <= put && put <= got + left + half, || {
            format!("{put} items put, {got} got, {left} left, and {half} operations cut short by a death")
        })
    }
}
