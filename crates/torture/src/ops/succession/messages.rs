//! Long messages: what the dead noted in a cell must be given back, once, and by whoever comes last.

use std::io;

use swath_sync::{Extents, MessageQueue, Party, PipeEnd, PipeSide};

use super::super::letters;
use super::super::props;
use super::{Ends, Heir, Heirloom};
use crate::room;
use crate::scenario::{Finding, Verdict, expect};
use crate::stage::Stage;

const CELLS: usize = 4;
/// Messages, by number, and counts of what was got.
const THERE: [usize; 3] = [0, 1, 2];
const BY_FORERUNNER: usize = 3;
const BY_VICTIM: usize = 4;

/// What each heir does.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(super) enum Post {
    /// Puts one, past one that somebody died writing.
    Put,
    /// Gets one, past one that somebody died giving back.
    Get,
    /// Sends one through the end of a pipe that somebody died sending through.
    Send,
}

fn queue(stage: &Stage) -> &'static MessageQueue {
    letters::messages(stage, CELLS)
}

/// The room, for somebody who dies in using it: half-way through a message, or before it gives one back.
struct Fatal<'r>(&'r room::Room);

impl Extents for Fatal<'_> {
    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write(at, &bytes[..bytes.len() / 2])?;
        std::process::exit(0)
    }

    fn read(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.0.read(at, bytes)
    }

    fn free(&self, _at: u64, _len: u64) -> io::Result<()> {
        std::process::exit(0)
    }
}

fn message(number: usize) -> Vec<u8> {
    room::message(number as u64, true)
}

fn got(stage: &Stage, message: &[u8]) -> Result<(), String> {
    let which = room::item(message)? as usize;
    props::add(stage, which);
    expect(props::read(stage, which) == 1, || format!("message {which} came twice"))
}

impl Post {
    fn end<'p>(self, stage: &Stage, me: &Party, side: PipeSide) -> Result<PipeEnd<'p>, String> {
        letters::pipe(stage, CELLS).end(me, letters::files(), side).map_err(|error| error.to_string())
    }

    /// Gets what there is; then all room must be there.
    fn empty(self, stage: &Stage, me: &Party) -> Result<(), String> {
        let (queue, files) = (queue(stage), letters::files());
        if self == Post::Send {
            let mut sender = self.end(stage, me, PipeSide::A)?;
            let mut receiver = self.end(stage, me, PipeSide::B)?;
            while let Ok(message) = receiver.try_recv_bytes() {
                got(stage, &message)?;
            }
            sender.send_bytes(&message(0)).map_err(|error| error.to_string())?;
            let echo = receiver.try_recv_bytes().map_err(|error| error.to_string())?;
            return expect(echo == message(0), || "the pipe is not as good as new".to_owned());
        }
        while let Ok(message) = queue.try_get(me, files) {
            got(stage, &message)?;
        }
        for place in 0..CELLS {
            queue.try_put(me, files, &message(place)).map_err(|error| format!("room {place}: {error}"))?;
        }
        for place in 0..CELLS {
            let back = queue.try_get(me, files).map_err(|error| format!("message {place}: {error}"))?;
            expect(back == message(place), || "out of order".to_owned())?;
        }
        Ok(())
    }
}

impl Heirloom for Post {
    fn make(&self, _stage: &Stage) {
        letters::files().clear();
    }

    fn leave(&self, stage: &Stage, me: &Party) {
        let (queue, files) = (queue(stage), letters::files());
        let fatal = Fatal(files);
        match self {
            Post::Put => drop(queue.put(me, &fatal, &message(THERE[0]))),
            Post::Get => {
                for there in THERE {
                    queue.put(me, files, &message(there)).expect("there is room");
                }
                drop(queue.get(me, &fatal));
            }
            Post::Send => {
                let pipe = letters::pipe(stage, CELLS);
                let mut end = pipe.end(me, &fatal, PipeSide::A).expect("a free end");
                drop(end.send_bytes(&message(THERE[0])));
            }
        }
    }

    fn inherit(&self, stage: &Stage, me: &Party, heir: Heir) -> Finding {
        let (queue, files) = (queue(stage), letters::files());
        let mine = message(if heir == Heir::Forerunner { BY_FORERUNNER } else { BY_VICTIM });
        match self {
            Post::Put => queue.put(me, files, &mine).map_err(|error| error.to_string())?,
            Post::Get => drop(queue.get(me, files).map_err(|error| error.to_string())?),
            Post::Send => {
                let mut end = self.end(stage, me, PipeSide::A)?;
                end.send_bytes(&mine).map_err(|error| error.to_string())?;
                std::mem::forget(end);
            }
        }
        Ok(Verdict::Clean)
    }

    fn check(&self, stage: &Stage, me: &Party, ends: Ends) -> Finding {
        self.empty(stage, me)?;
        let read = |which: usize| props::read(stage, which);
        if *self == Post::Get {
            // The first was got by who died giving it back.
            let gone = THERE.iter().skip(1).filter(|there| read(**there) == 0).count() as u32;
            expect(read(THERE[0]) == 0 && ends.deeds().contains(&gone), || {
                format!("{gone} messages went with the dead, not {:?}", ends.deeds())
            })?;
        } else {
            for (number, heir) in [(BY_FORERUNNER, Heir::Forerunner), (BY_VICTIM, Heir::Victim)] {
                let expected = ends.deeds_of(heir);
                expect(expected.contains(&read(number)), || {
                    format!("message {number} was got {} times, not {expected:?}", read(number))
                })?;
            }
            expect(read(THERE[0]) == 0, || "half a message was got".to_owned())?;
        }
        let lost = letters::files().taken_up();
        expect(lost == 0, || format!("{lost} bytes are lost"))?;
        Ok(Verdict::Clean)
    }
}
