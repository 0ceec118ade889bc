//! `pipe-send`, `pipe-receive`, `pipe-end` of `swath_sync::Pipe`, with messages short and long.
//!
//! What must hold: nobody hangs; a message is sent whole or not at all, and received once; the other end is told of the death;
//! a dead one's end can be had, and no room stays taken up.

use swath_sync::{Party, Pipe, PipeEnd, PipeError, PipeSide};

use super::props::{self, CHECKER, VICTIM};
use crate::room::{Room, item, message};
use crate::scenario::{Case, Entrance, Finding, Moment, Scenario, Verdict, case, expect};
use crate::stage::Stage;

const PIPE_AT: usize = 0xA_0000;
const CELLS: usize = 4;
const THERE: u64 = 1;
const BY_VICTIM: u64 = 2;
const BY_CHECKER: u64 = 3;

#[derive(Copy, Clone, PartialEq, Eq)]
enum Deed {
    Send,
    Receive,
    /// Takes the end and gives it back.
    End,
}

struct Play {
    deed: Deed,
    long: bool,
    /// Made before the harness counts its descriptors.
    room: Room,
}

impl Play {
    fn pipe(&self, stage: &Stage) -> &'static Pipe {
        props::object(stage, PIPE_AT, CELLS)
    }

    fn end<'p>(&'p self, stage: &Stage, me: &Party, side: PipeSide) -> Result<PipeEnd<'p>, String> {
        self.pipe(stage).end(me, &self.room, side).map_err(|error| error.to_string())
    }

    fn send(&self, end: &mut PipeEnd<'_>, number: u64) -> Result<(), String> {
        end.send_bytes(&message(number, self.long)).map_err(|error| error.to_string())
    }

    /// How often each message comes until there is none.
    fn drain(end: &mut PipeEnd<'_>, times: &mut [usize; 4]) -> Result<(), String> {
        loop {
            match end.try_recv_bytes() {
                Ok(got) => times[item(&got)? as usize & 3] += 1,
                Err(PipeError::TimedOut | PipeError::PeerDied { .. }) => return Ok(()),
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}

impl Scenario for Play {
    fn set(&self, stage: &Stage) {
        props::reserve_all(stage);
        props::place(stage, PIPE_AT, Pipe::with_capacity(CELLS));
        self.room.clear();
    }

    fn companions(&self) -> &[Entrance] {
        &[Entrance::BeforeVictim]
    }

    /// Sends what lies there from the beginning, and gives its end back.
    fn companion(&self, n: usize, stage: &Stage) -> Finding {
        let me = props::become_party(stage, props::companion(n), true);
        let mut end = self.end(stage, &me, PipeSide::B)?;
        self.send(&mut end, THERE)?;
        drop(end);
        stage.arrive(n + 1);
        stage.await_cue(1);
        Ok(Verdict::Clean)
    }

    fn victim<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        let me = props::become_party(stage, VICTIM, true);
        if self.deed == Deed::End {
            return Box::new(move || {
                let _ = std::hint::black_box(self.end(stage, &me, PipeSide::A).is_ok());
            });
        }
        let mut end = self.end(stage, &me, PipeSide::A).expect("nobody holds it");
        Box::new(move || {
            if self.deed == Deed::Send {
                let _ = std::hint::black_box(self.send(&mut end, BY_VICTIM));
            } else {
                let _ = std::hint::black_box(end.recv_bytes());
            }
            // Giving the end back is not what is looked at here.
            std::mem::forget(end);
        })
    }

    fn confirmed(&self, stage: &Stage) {
        props::confirm_death(stage, VICTIM);
    }

    fn aftermath(&self, stage: &Stage, moment: Moment) -> Finding {
        let me = props::become_party(stage, CHECKER, true);
        let mut times = [0; 4];
        // The peer's end, then the dead one's, whose heir finds what lay there and what it had begun.
        let mut peer = self.end(stage, &me, PipeSide::B)?;
        Play::drain(&mut peer, &mut times)?;
        let mut heir = self.end(stage, &me, PipeSide::A)?;
        Play::drain(&mut heir, &mut times)?;
        let [_, there, by_victim, _] = times;
        let right = match (moment, self.deed) {
            (Moment::Before, _) | (_, Deed::End) => there == 1 && by_victim == 0,
            (Moment::After, Deed::Receive) => there == 0 && by_victim == 0,
            (Moment::After, Deed::Send) => there == 1 && by_victim == 1,
            (Moment::Within, Deed::Receive) => there <= 1 && by_victim == 0,
            (Moment::Within, Deed::Send) => there == 1 && by_victim <= 1,
        };
        expect(right, || format!("messages came {:?} times", &times[1..]))?;
        self.send(&mut heir, BY_CHECKER)?;
        let got = item(&peer.recv_bytes().map_err(|error| error.to_string())?)?;
        expect(got == BY_CHECKER, || format!("{got} came after what was there"))?;
        let bytes = self.room.taken_up();
        expect(bytes == 0, || format!("the pipe is empty, and {bytes} bytes are taken up"))?;
        Ok(Verdict::Clean)
    }
}

/// All cases of this family.
pub(super) fn cases() -> Vec<Case> {
    let play = |deed, long| Play { deed, long, room: Room::new() };
    vec![
        case("pipe-send", "short", play(Deed::Send, false)),
        case("pipe-send", "long", play(Deed::Send, true)),
        case("pipe-receive", "short", play(Deed::Receive, false)),
        case("pipe-receive", "long", play(Deed::Receive, true)),
        case("pipe-end", "free", play(Deed::End, false)),
    ]
}
