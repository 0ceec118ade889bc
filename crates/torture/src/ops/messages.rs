//! `message-put`, `message-get` of `swath_sync::MessageQueue`, with messages short and long.
//!
//! What must hold: nobody hangs; a message is put whole or not at all, and got once; when the queue is empty, no room is
//! taken up, whoever died with a message in hand.

use swath_sync::{MessageQueue, MessageQueueError, Party};

use super::props::{self, CHECKER, VICTIM};
use crate::room::{Room, item, message};
use crate::scenario::{Case, Entrance, Finding, Moment, Scenario, Verdict, case, expect};
use crate::stage::Stage;

const QUEUE_AT: usize = 0x9_8000;
const CELLS: usize = 4;
const THERE: u64 = 1;
const BY_VICTIM: u64 = 2;
const BY_CHECKER: u64 = 3;

struct Play {
    gets: bool,
    long: bool,
    /// Made before the harness counts its descriptors.
    room: Room,
}

impl Play {
    fn queue(&self, stage: &Stage) -> &'static MessageQueue {
        props::object(stage, QUEUE_AT, CELLS)
    }

    fn put(&self, stage: &Stage, me: &Party, number: u64) -> Result<(), String> {
        let put = self.queue(stage).put(me, &self.room, &message(number, self.long));
        put.map_err(|error| error.to_string())
    }
}

impl Scenario for Play {
    fn set(&self, stage: &Stage) {
        props::reserve_all(stage);
        props::place(stage, QUEUE_AT, MessageQueue::with_capacity(CELLS));
        self.room.clear();
    }

    fn companions(&self) -> &[Entrance] {
        &[Entrance::BeforeVictim]
    }

    /// Puts what lies there from the beginning.
    fn companion(&self, n: usize, stage: &Stage) -> Finding {
        let me = props::become_party(stage, props::companion(n), true);
        self.put(stage, &me, THERE)?;
        stage.arrive(n + 1);
        stage.await_cue(1);
        Ok(Verdict::Clean)
    }

    fn victim<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        let me = props::become_party(stage, VICTIM, true);
        Box::new(move || {
            if self.gets {
                let _ = std::hint::black_box(self.queue(stage).get(&me, &self.room));
            } else {
                let _ = std::hint::black_box(self.put(stage, &me, BY_VICTIM));
            }
        })
    }

    fn confirmed(&self, stage: &Stage) {
        props::confirm_death(stage, VICTIM);
    }

    fn aftermath(&self, stage: &Stage, moment: Moment) -> Finding {
        let me = props::become_party(stage, CHECKER, true);
        self.put(stage, &me, BY_CHECKER)?;
        let mut times = [0; 4];
        while times[BY_CHECKER as usize] == 0 {
            let got = self.queue(stage).get(&me, &self.room).map_err(|error| error.to_string())?;
            times[item(&got)? as usize & 3] += 1;
        }
        // One that came back may come after it.
        loop {
            match self.queue(stage).try_get(&me, &self.room) {
                Ok(got) => times[item(&got)? as usize & 3] += 1,
                Err(MessageQueueError::Empty { .. }) => break,
                Err(error) => return Err(error.to_string()),
            }
        }
        let [_, there, by_victim, by_checker] = times;
        let right = match (moment, self.gets) {
            (Moment::Before, _) => there == 1 && by_victim == 0,
            (Moment::After, true) => there == 0 && by_victim == 0,
            (Moment::After, false) => there == 1 && by_victim == 1,
            (Moment::Within, true) => there <= 1 && by_victim == 0,
            (Moment::Within, false) => there == 1 && by_victim <= 1,
        };
        expect(right && by_checker == 1, || format!("messages came {:?} times", &times[1..]))?;
        let bytes = self.room.taken_up();
        expect(bytes == 0, || format!("the queue is empty, and {bytes} bytes are taken up"))?;
        Ok(Verdict::Clean)
    }
}

/// All cases of this family.
pub(super) fn cases() -> Vec<Case> {
    let play = |gets, long| Play { gets, long, room: Room::new() };
    vec![
        case("message-put", "short", play(false, false)),
        case("message-put", "long", play(false, true)),
        case("message-get", "short", play(true, false)),
        case("message-get", "long", play(true, true)),
    ]
}
