//! `message-put`, `message-get`, `pipe-send`, `pipe-receive`, `wait-any` of `swath_sync::{MessageQueue, Pipe}` with company.
//!
//! What must hold: nobody hangs; a message is there whole or not at all, and comes to exactly one; of a long one nothing is
//! left when all have been got, wherever its putter or its getter died.

use std::mem;
use std::time::Duration;

use swath_sync::{MessageQueueError, Party, PipeEnd, PipeError, PipeSide, Waitable, wait_any};

use super::letters;
use super::props::{self, CHECKER, News, VICTIM};
use crate::scenario::{Case, Entrance, Finding, Moment, Scenario, Verdict, case, expect};
use crate::stage::Stage;

/// Counts: messages that survivors got, companions that are through.
const GOT: usize = 0;
const THROUGH: usize = 7;
/// Longer than two slices.
const TWO_SLICES: Duration = Duration::from_millis(130);
const CELLS: usize = 4;

/// What the victim does between the brackets.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Deed {
    Put,
    Get,
    Send,
    Recv,
    /// Waits for an event or a message.
    WaitAny,
    /// Takes over the end of one who died in the middle of a long message.
    End,
}

struct Play {
    deed: Deed,
    /// How long each message is.
    len: usize,
    /// A companion sleeps at the other side, or gives the victim what it waits for when it sleeps.
    company: Option<Entrance>,
    /// Somebody died before with a message in hand.
    dead_before: bool,
    news: News,
}

impl Play {
    fn message(&self) -> Vec<u8> {
        (0..self.len).map(|at| (at * 7 + 1) as u8).collect()
    }

    fn on_pipe(&self) -> bool {
        matches!(self.deed, Deed::Send | Deed::Recv | Deed::End)
    }

    /// Whether there is one message at the beginning.
    fn one_there(&self) -> bool {
        matches!(self.deed, Deed::Get | Deed::Recv) && self.company != Some(Entrance::BeforeVictim)
    }

    fn got(&self, stage: &Stage, message: &[u8]) -> Result<(), String> {
        expect(message == self.message(), || format!("{} bytes that nobody put", message.len()))?;
        props::add(stage, GOT);
        Ok(())
    }

    fn end<'p>(&self, stage: &Stage, me: &Party, side: PipeSide) -> Result<PipeEnd<'p>, String> {
        letters::pipe(stage, CELLS).end(me, letters::files(), side).map_err(|error| error.to_string())
    }

    fn drain(&self, stage: &Stage, me: &Party) -> Result<(), String> {
        let (queue, files) = (letters::messages(stage, CELLS), letters::files());
        loop {
            let got = match self.news {
                News::Mark => queue.get_timeout(me, files, TWO_SLICES),
                _ => queue.try_get(me, files),
            };
            match got {
                Ok(message) => self.got(stage, &message)?,
                Err(MessageQueueError::Empty { .. }) => return Ok(()),
                Err(other) => return Err(other.to_string()),
            }
        }
    }

    fn drain_pipe(&self, stage: &Stage, end: &mut PipeEnd<'_>) -> Result<(), String> {
        loop {
            match end.try_recv_bytes() {
                Ok(message) => self.got(stage, &message)?,
                Err(PipeError::TimedOut | PipeError::PeerDied { .. }) => return Ok(()),
                Err(other) => return Err(other.to_string()),
            }
        }
    }
}

impl Scenario for Play {
    fn set(&self, stage: &Stage) {
        props::reserve_all(stage);
        letters::files().clear();
        if self.one_there() || self.dead_before {
            props::died_before(stage, |party| {
                if self.on_pipe() {
                    let side = if self.deed == Deed::Recv { PipeSide::B } else { PipeSide::A };
                    let mut end = self.end(stage, party, side).expect("a free end");
                    end.send_bytes(&self.message()).expect("room");
                    mem::forget(end);
                } else {
                    let queue = letters::messages(stage, CELLS);
                    queue.put(party, letters::files(), &self.message()).expect("room");
                }
            });
        }
    }

    fn companions(&self) -> &[Entrance] {
        self.company.as_slice()
    }

    fn companion(&self, n: usize, stage: &Stage) -> Finding {
        let me = props::become_party(stage, props::companion(n), true);
        let (queue, files) = (letters::messages(stage, CELLS), letters::files());
        match self.deed {
            Deed::Put => {
                stage.arrive(n + 1);
                let message = queue.get(&me, files).map_err(|error| error.to_string())?;
                self.got(stage, &message)?;
            }
            Deed::Get | Deed::WaitAny => {
                stage.arrive(n + 1);
                stage.await_cue(1);
                queue.put(&me, files, &self.message()).map_err(|error| error.to_string())?;
            }
            Deed::Send | Deed::End => {
                let mut end = self.end(stage, &me, PipeSide::B)?;
                stage.arrive(n + 1);
                let message = loop {
                    match end.recv_bytes() {
                        Err(PipeError::PeerDied { .. }) => std::thread::sleep(Duration::from_micros(50)),
                        other => break other.map_err(|error| error.to_string())?,
                    }
                };
                self.got(stage, &message)?;
            }
            Deed::Recv => {
                let mut end = self.end(stage, &me, PipeSide::B)?;
                stage.arrive(n + 1);
                stage.await_cue(1);
                match end.send_bytes(&self.message()) {
                    Ok(()) => {}
                    Err(other) => return Err(other.to_string()),
                }
            }
        }
        props::add(stage, THROUGH);
        Ok(Verdict::Clean)
    }

    fn victim<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        let me = props::become_party(stage, VICTIM, self.news != News::Service);
        let (queue, files, message) = (letters::messages(stage, CELLS), letters::files(), self.message());
        match self.deed {
            Deed::Put => Box::new(move || {
                let _ = queue.put(&me, files, &message);
            }),
            Deed::Get => Box::new(move || mem::forget(queue.get(&me, files))),
            Deed::Send => {
                let mut end = self.end(stage, &me, PipeSide::A).expect("a free end");
                Box::new(move || {
                    let _ = end.send_bytes(&message);
                    mem::forget(end);
                })
            }
            Deed::Recv => {
                let mut end = self.end(stage, &me, PipeSide::A).expect("a free end");
                Box::new(move || {
                    mem::forget(end.recv_bytes());
                    mem::forget(end);
                })
            }
            Deed::End => Box::new(move || drop(self.end(stage, &me, PipeSide::A))),
            Deed::WaitAny => {
                let event = props::event(stage);
                Box::new(move || {
                    let things: [&dyn Waitable; 2] = [event, &queue];
                    let _ = std::hint::black_box(wait_any(&me, &things));
                })
            }
        }
    }

    fn short_points(&self) -> usize {
        250
    }

    fn aftermath(&self, stage: &Stage, _moment: Moment) -> Finding {
        if self.news != News::Mark {
            props::confirm_death(stage, VICTIM);
        }
        let me = props::become_party(stage, CHECKER, true);
        let files = letters::files();
        let through = || Stage::poll(Duration::from_secs(1), || props::read(stage, THROUGH) > 0);
        let waits = self.company == Some(Entrance::AfterVictim);
        if self.on_pipe() {
            let mut a = self.end(stage, &me, PipeSide::A)?;
            if waits && self.deed != Deed::Recv {
                a.send_bytes(&self.message()).map_err(|error| error.to_string())?;
            }
            expect(self.company.is_none() || through(), || "a companion is not through".to_owned())?;
            let mut b = self.end(stage, &me, PipeSide::B)?;
            self.drain_pipe(stage, &mut a)?;
            self.drain_pipe(stage, &mut b)?;
            a.send_bytes(&self.message()).map_err(|error| error.to_string())?;
            let echo = b.try_recv_bytes().map_err(|error| error.to_string())?;
            expect(echo == self.message(), || "the pipe is not as good as new".to_owned())?;
        } else {
            let queue = letters::messages(stage, CELLS);
            if waits {
                queue.put(&me, files, &self.message()).map_err(|error| error.to_string())?;
            }
            expect(self.company.is_none() || through(), || "a companion is not through".to_owned())?;
            self.drain(stage, &me)?;
            for _ in 0..CELLS {
                queue.try_put(&me, files, &self.message()).map_err(|error| error.to_string())?;
            }
            for _ in 0..CELLS {
                queue.try_get(&me, files).map_err(|error| error.to_string())?;
            }
        }
        expect(files.taken_up() == 0, || format!("{} bytes are lost", files.taken_up()))?;
        props::confirm_death(stage, VICTIM);
        props::release(stage, VICTIM)?;
        Ok(Verdict::Clean)
    }

    fn tally(&self, stage: &Stage, moment: Moment) -> Result<(), String> {
        // What others put: one that is there, one of a companion, one of the checker for who waits.
        let others = u32::from(self.one_there() || self.dead_before) + self.company.iter().len() as u32;
        let expected = match (self.deed, moment) {
            (Deed::Put | Deed::Send, Moment::After) => others + 1..=others + 1,
            (Deed::Put | Deed::Send, Moment::Within) => others..=others + 1,
            (Deed::Get | Deed::Recv, Moment::After) => others - 1..=others - 1,
            (Deed::Get | Deed::Recv, Moment::Within) => others - 1..=others,
            _ => others..=others,
        };
        let got = props::read(stage, GOT);
        expect(expected.contains(&got), || format!("{got} messages were got, not {expected:?}"))
    }
}

/// All cases of this family.
pub(super) fn cases() -> Vec<Case> {
    const SHORT: usize = 20;
    const LONG: usize = 200;
    let play = |deed, len, company, news| Play { deed, len, company, dead_before: false, news };
    let alone = |deed, len| play(deed, len, None, News::Both);
    let (asleep, on_cue) = (Some(Entrance::AfterVictim), Some(Entrance::BeforeVictim));
    vec![
        case("message-put", "long-mark-only", play(Deed::Put, LONG, None, News::Mark)),
        case("message-put", "long-waiter", play(Deed::Put, LONG, asleep, News::Both)),
        case("message-get", "long-mark-only", play(Deed::Get, LONG, None, News::Mark)),
        case("message-get", "long-waiting", play(Deed::Get, LONG, on_cue, News::Both)),
        case("pipe-send", "long-mark-only", play(Deed::Send, LONG, None, News::Mark)),
        case("pipe-send", "long-waiter", play(Deed::Send, LONG, asleep, News::Both)),
        case("pipe-receive", "long-waiting", play(Deed::Recv, LONG, on_cue, News::Both)),
        case("pipe-end", "a-dead-ones", Play { dead_before: true, ..alone(Deed::End, LONG) }),
        case("wait-any", "something-there", Play { dead_before: true, ..alone(Deed::WaitAny, SHORT) }),
        case("wait-any", "asleep", play(Deed::WaitAny, SHORT, on_cue, News::Both)),
    ]
}
