//! `wait-any` of `swath_sync`: an event, or an item of a queue, whichever comes first. (For messages: `post.rs`.)
//!
//! What must hold: who waits is woken by either, also beside another one that died when it had been woken; an item is taken once; an
//! item that comes back from a dead reader ends the wait.

use std::mem;
use std::time::Duration;

use swath_sync::{Event, JoinableQueue, Liveness, Party, Waitable, wait_any};

use super::letters::{self, Item, item, number};
use super::props::{self, CHECKER, News, VICTIM};
use crate::scenario::{Case, Entrance, Finding, Moment, Scenario, Verdict, case, expect};
use crate::stage::Stage;

const CELLS: usize = 2;
/// Count: how often the item was got by survivors.
const GOT: usize = 1;
/// Count: others that waited and are through.
const THROUGH: usize = 7;
/// Who was not woken within two slices will not be.
const TWO_SLICES: Duration = Duration::from_millis(130);

/// What ends the wait.
#[derive(Copy, Clone, PartialEq, Eq)]
enum End {
    /// The item was there before.
    There,
    /// Somebody puts it when the victim sleeps.
    Put,
    /// Somebody sets the event then.
    Set,
    /// Who had the item in hand dies then.
    Returned,
}

struct Wait {
    end: End,
    /// Another one waits for the same.
    beside: bool,
    news: News,
}

fn queue(stage: &Stage) -> &'static JoinableQueue<Item> {
    letters::queue(stage, CELLS)
}

fn event(stage: &Stage) -> &'static Event {
    props::event(stage)
}

/// Until the event is set, or an item was taken; whether it was.
fn wait_and_take(stage: &Stage, me: &Party) -> Result<Option<usize>, String> {
    let (event, queue) = (event(stage), queue(stage));
    let things: [&dyn Waitable; 2] = [event, &queue];
    loop {
        let ready = wait_any(me, &things).map_err(|error| error.to_string())?;
        if ready.contains(&0) {
            return Ok(None);
        }
        // Somebody else may have been faster.
        if let Ok(delivery) = queue.try_get(me) {
            let taken = number(*delivery)?;
            delivery.done();
            return Ok(Some(taken));
        }
    }
}

impl Wait {
    /// The one who ends the wait on cue.
    fn give(&self, stage: &Stage, me: &Party) -> Result<(), String> {
        if self.end == End::Returned {
            queue(stage).put(me, item(GOT)).map_err(|error| error.to_string())?;
            mem::forget(queue(stage).try_get(me).map_err(|error| error.to_string())?);
        }
        stage.arrive(1);
        stage.await_cue(1);
        match self.end {
            End::Put => queue(stage).put(me, item(GOT)).map_err(|error| error.to_string()),
            End::Set => {
                event(stage).set();
                Ok(())
            }
            // It goes as it is, with the item.
            End::There | End::Returned => Ok(()),
        }
    }

    /// The service thread, for the one who dies with the item.
    fn confirm(&self, stage: &Stage) {
        stage.arrive(2);
        let giver = props::companion(0);
        while props::table(stage).liveness(giver) != Liveness::ThreadDead {
            std::thread::sleep(Duration::from_micros(100));
        }
        props::confirm_death(stage, giver);
    }
}

impl Scenario for Wait {
    fn set(&self, stage: &Stage) {
        props::reserve_all(stage);
        if self.end == End::There {
            props::died_before(stage, |party| queue(stage).try_put(party, item(GOT)).expect("there is room"));
        }
    }

    fn companions(&self) -> &[Entrance] {
        use Entrance::{AfterVictim, BeforeVictim};
        match (self.end, self.beside) {
            (End::There, _) => &[],
            (End::Returned, _) => &[BeforeVictim, BeforeVictim],
            (_, true) => &[BeforeVictim, AfterVictim],
            (_, false) => &[BeforeVictim],
        }
    }

    fn companion(&self, n: usize, stage: &Stage) -> Finding {
        let me = props::become_party(stage, props::companion(n), true);
        match (n, self.end) {
            (0, _) => self.give(stage, &me)?,
            (_, End::Returned) => self.confirm(stage),
            _ => {
                stage.arrive(n + 1);
                if let Some(taken) = wait_and_take(stage, &me)? {
                    props::add(stage, taken);
                    // There is nothing more to come for the victim.
                    event(stage).set();
                }
                props::add(stage, THROUGH);
            }
        }
        Ok(Verdict::Clean)
    }

    fn victim<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        let me = props::become_party(stage, VICTIM, self.news != News::Service);
        Box::new(move || mem::forget(std::hint::black_box(wait_and_take(stage, &me))))
    }

    fn short_points(&self) -> usize {
        if self.beside { 100 } else { 250 }
    }

    fn aftermath(&self, stage: &Stage, _moment: Moment) -> Finding {
        if self.news != News::Mark {
            props::confirm_death(stage, VICTIM);
        }
        let me = props::become_party(stage, CHECKER, true);
        let queue = queue(stage);
        if self.beside {
            // Nobody helps the other one, unless the victim has taken what both waited for.
            let through = || props::read(stage, THROUGH) > 0;
            let woken = Stage::poll(TWO_SLICES, through);
            expect(woken || self.end == End::Put && queue.try_join(&me), || {
                "what it waits for is there, and the other one sleeps".to_owned()
            })?;
        }
        if self.end == End::Put || self.end == End::Returned {
            // On its way at the cue.
            let arrived = || queue.try_join(&me) || !queue.queue().is_empty();
            expect(Stage::poll(TWO_SLICES, arrived), || "nothing was put".to_owned())?;
        }
        event(stage).set();
        expect(wait_and_take(stage, &me)?.is_none(), || "the event is set, and not seen".to_owned())?;
        props::confirm_death(stage, VICTIM);
        props::release(stage, VICTIM)?;
        Ok(Verdict::Clean)
    }

    fn tally(&self, stage: &Stage, moment: Moment) -> Result<(), String> {
        let me = props::become_party(stage, props::companion(2), false);
        let queue = queue(stage);
        while let Ok(delivery) = queue.try_get(&me) {
            props::add(stage, number(*delivery)?);
            delivery.done();
        }
        let got = props::read(stage, GOT);
        let expected = match (self.end, moment) {
            (End::Set, _) => 0..=0,
            (_, Moment::Before) => 1..=1,
            (_, Moment::Within) => 0..=1,
            // The other one may have been faster.
            (_, Moment::After) => 0..=u32::from(self.beside),
        };
        expect(expected.contains(&got), || format!("the item was got {got} times by survivors"))?;
        expect(queue.try_join(&me), || "all is done, and join says no".to_owned())
    }
}

/// All cases of this family.
pub(super) fn cases() -> Vec<Case> {
    use News::{Both, Mark, Service};
    let alone = |end, news| Wait { end, beside: false, news };
    let beside = |end| Wait { end, beside: true, news: Both };
    vec![
        case("wait-any", "item-there", alone(End::There, Both)),
        case("wait-any", "item-put", alone(End::Put, Both)),
        case("wait-any", "item-put-mark-only", alone(End::Put, Mark)),
        case("wait-any", "item-put-service-only", alone(End::Put, Service)),
        case("wait-any", "event-set", alone(End::Set, Both)),
        case("wait-any", "reader-dies", alone(End::Returned, Both)),
        case("wait-any", "item-put-beside-another", beside(End::Put)),
        case("wait-any", "event-set-beside-another", beside(End::Set)),
    ]
}
