//! `SpscRing`: parties in even seats push to the one beside them. A dead one's end is its successor's.

use std::time::Duration;

use swath_sync::{RingError, SlotId, SpscRing};

use super::stream::{PATIENCE, Stream};
use crate::chaos::act::Act;
use crate::chaos::arena::Arena;
use crate::chaos::me::Me;
use crate::chaos::seat::SEATS;

/// More than is pushed while the consumer waits elsewhere, unless it gets no processor for long.
const CAPACITY: usize = 64;

const HOLD: usize = 0;
const PUSH: usize = 1;
const POP: usize = 2;
const POP_TIMEOUT: usize = 3;
const LET_GO: usize = 4;

pub(super) struct Belts {
    rings: [&'static SpscRing<u64>; SEATS / 2],
    streams: [Stream; SEATS / 2],
}

impl Belts {
    pub(super) fn new(arena: &Arena<'_>) -> Belts {
        Belts {
            rings: [(); SEATS / 2].map(|()| arena.place(SpscRing::with_capacity(CAPACITY))),
            streams: [(); SEATS / 2].map(|()| Stream::new(arena)),
        }
    }
}

impl Act for Belts {
    fn name(&self) -> &'static str {
        "ring"
    }

    fn operations(&self) -> &'static [&'static str] {
        &["hold", "push", "pop", "pop_timeout", "let go"]
    }

    fn round(&self, me: &Me) -> Result<(), String> {
        let (ring, stream) = (self.rings[me.seat / 2], &self.streams[me.seat / 2]);
        let text = |error: RingError| error.to_string();
        if me.seat.is_multiple_of(2) {
            let mut end = me.inside(HOLD, || ring.producer(&me.party)).map_err(text)?;
            match me.inside(PUSH, || end.push_timeout(stream.next(), PATIENCE)) {
                // It is in the ring all the same, or was not sent: a death explains it.
                Ok(()) | Err(RingError::PeerDied { .. }) => {}
                Err(RingError::Full) => stream.take_back(),
                Err(error) => return Err(text(error)),
            }
            me.inside(LET_GO, || drop(end));
            return Ok(());
        }
        let mut end = me.inside(HOLD, || ring.consumer(&me.party)).map_err(text)?;
        while !ring.is_empty() {
            stream.came(me.inside(POP, || end.pop()).map_err(text)?)?;
            me.may_crash();
        }
        match me.inside(POP_TIMEOUT, || end.pop_timeout(Duration::from_micros(20))) {
            Ok(number) => stream.came(number)?,
            Err(RingError::Empty | RingError::PeerDied { .. }) => {}
            Err(error) => return Err(text(error)),
        }
        me.inside(LET_GO, || drop(end));
        Ok(())
    }

    fn bury(&self, seat: usize, _dead: SlotId) -> Result<(), String> {
        self.streams[seat / 2].bury();
        Ok(())
    }

    fn describe(&self) -> String {
        format!("rings: {:?} of {CAPACITY} wait", self.rings.map(SpscRing::len))
    }

    fn tally(&self) -> Result<(), String> {
        self.streams.iter().zip(self.rings).try_for_each(|(stream, ring)| stream.tally(ring.len()))
    }
}
