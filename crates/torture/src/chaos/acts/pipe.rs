//! `Pipe`: parties in even seats send to the one beside them, which answers; messages short and long, both ways.

use std::time::Duration;

use swath_sync::{Pipe, PipeEnd, PipeError, PipeSide, SlotId};

use super::stream::{PATIENCE, Stream};
use crate::chaos::act::Act;
use crate::chaos::arena::Arena;
use crate::chaos::me::Me;
use crate::chaos::seat::SEATS;
use crate::room::{Room, item, message};

/// More than can be sent while the other one waits elsewhere.
const CAPACITY: usize = 64;

const END: usize = 0;
const SEND: usize = 1;
const RECEIVE: usize = 2;
const POLL: usize = 3;
const LET_GO: usize = 4;

pub(super) struct Tubes {
    pipes: [&'static Pipe; SEATS / 2],
    /// One for each direction: what even seats send, and what odd ones do.
    streams: [[Stream; 2]; SEATS / 2],
    room: [Room; SEATS / 2],
}

impl Tubes {
    pub(super) fn new(arena: &Arena<'_>) -> Tubes {
        Tubes {
            pipes: [(); SEATS / 2].map(|()| arena.place(Pipe::with_capacity(CAPACITY))),
            streams: [(); SEATS / 2].map(|()| [(); 2].map(|()| Stream::new(arena))),
            room: [(); SEATS / 2].map(|()| Room::new()),
        }
    }

    fn receive(&self, me: &Me, end: &mut PipeEnd<'_>, from: &Stream) -> Result<(), String> {
        while me.inside(POLL, || end.poll(Duration::ZERO)) {
            match me.inside(RECEIVE, || end.recv_bytes()) {
                Ok(message) => from.came(item(&message)?)?,
                Err(PipeError::PeerDied { .. }) => break,
                Err(error) => return Err(error.to_string()),
            }
            me.may_crash();
        }
        Ok(())
    }
}

impl Act for Tubes {
    fn name(&self) -> &'static str {
        "pipe"
    }

    fn operations(&self) -> &'static [&'static str] {
        &["end", "send", "receive", "poll", "let go"]
    }

    fn round(&self, me: &Me) -> Result<(), String> {
        let (pair, role) = (me.seat / 2, me.seat % 2);
        let side = if role == 0 { PipeSide::A } else { PipeSide::B };
        let (pipe, room, streams) = (self.pipes[pair], &self.room[pair], &self.streams[pair]);
        let mut end =
            me.inside(END, || pipe.end(&me.party, room, side)).map_err(|error| error.to_string())?;
        self.receive(me, &mut end, &streams[1 - role])?;
        let message = message(streams[role].next(), me.one_in(3));
        match me.inside(SEND, || end.send_bytes_timeout(&message, PATIENCE)) {
            Ok(()) | Err(PipeError::PeerDied { .. }) => {}
            Err(PipeError::TimedOut) => streams[role].take_back(),
            Err(error) => return Err(error.to_string()),
        }
        self.receive(me, &mut end, &streams[1 - role])?;
        me.inside(LET_GO, || drop(end));
        Ok(())
    }

    fn bury(&self, seat: usize, _dead: SlotId) -> Result<(), String> {
        self.streams[seat / 2].iter().for_each(Stream::bury);
        Ok(())
    }
}
