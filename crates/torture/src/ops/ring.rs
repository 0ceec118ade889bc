//! `ring-push`, `ring-pop`, `ring-hold` of `swath_sync::SpscRing`.
//!
//! What must hold: nobody hangs; an item is pushed whole or not at all, and popped by the victim or by its heir, once; a dead
//! one's end can be had, and the ring is as good as new.

use std::mem;
use std::time::Duration;

use swath_sync::{Consumer, Party, Producer, RingError};

use super::letters::{self, Item, item, number};
use super::props::{self, CHECKER, News, VICTIM};
use crate::scenario::{Case, Entrance, Fault, Finding, Moment, Scenario, Verdict, case, expect};
use crate::stage::Stage;

/// The items, by number; the stage counts how often survivors popped each. The victim pushes this one.
const BY_VICTIM: usize = 0;
/// These lie there from the beginning.
const THERE: [usize; 2] = [1, 2];
/// A companion pushes this one, the checker that.
const BY_COMPANION: usize = 3;
const BY_CHECKER: usize = 4;
/// Count: companions that are through.
const THROUGH: usize = 7;

/// What the victim does between the brackets.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Deed {
    Push,
    Pop,
    /// Takes the producer's end and gives it back.
    Hold,
}

/// Who holds the other end.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Company {
    Nobody,
    /// Sleeps there when the victim comes.
    Asleep,
    /// Pushes or pops when the victim sleeps.
    OnCue,
}

struct Play {
    deed: Deed,
    company: Company,
    cells: usize,
    there: usize,
    news: News,
    fault: Fault,
}

impl Play {
    fn producer<'p>(&self, stage: &Stage, me: &'p Party) -> Result<Producer<'p, Item>, String> {
        letters::ring(stage, self.cells).producer(me).map_err(|error| error.to_string())
    }

    fn consumer<'p>(&self, stage: &Stage, me: &'p Party) -> Result<Consumer<'p, Item>, String> {
        letters::ring(stage, self.cells).consumer(me).map_err(|error| error.to_string())
    }

    fn note(stage: &Stage, popped: Item) -> Result<(), String> {
        props::add(stage, number(popped)?);
        Ok(())
    }
}

/// Until the dead one at the other end has an heir.
fn patiently<R>(mut attempt: impl FnMut() -> Result<R, RingError>) -> Result<R, String> {
    loop {
        match attempt() {
            Err(RingError::PeerDied { .. }) => std::thread::sleep(Duration::from_micros(50)),
            other => return other.map_err(|error| error.to_string()),
        }
    }
}

impl Scenario for Play {
    fn set(&self, stage: &Stage) {
        props::reserve_all(stage);
        if self.there > 0 || self.deed == Deed::Hold {
            props::died_before(stage, |party| {
                let mut end = self.producer(stage, party).expect("a free end");
                for there in &THERE[..self.there] {
                    end.try_push(item(*there)).expect("there is room");
                }
                mem::forget(end);
            });
        }
    }

    fn companions(&self) -> &[Entrance] {
        match self.company {
            Company::Nobody => &[],
            Company::Asleep => &[Entrance::AfterVictim],
            Company::OnCue => &[Entrance::BeforeVictim],
        }
    }

    fn companion(&self, n: usize, stage: &Stage) -> Finding {
        let me = props::become_party(stage, props::companion(n), true);
        if self.deed == Deed::Pop {
            let mut end = self.producer(stage, &me)?;
            stage.arrive(n + 1);
            if self.company == Company::OnCue {
                stage.await_cue(1);
            }
            patiently(|| end.push(item(BY_COMPANION)))?;
        } else {
            let mut end = self.consumer(stage, &me)?;
            stage.arrive(n + 1);
            if self.company == Company::OnCue {
                stage.await_cue(1);
            }
            Self::note(stage, patiently(|| end.pop())?)?;
        }
        props::add(stage, THROUGH);
        Ok(Verdict::Clean)
    }

    fn victim<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        let me = props::become_party(stage, VICTIM, self.news != News::Service);
        let ring = letters::ring(stage, self.cells);
        match self.deed {
            Deed::Push => {
                let mut end = ring.producer(&me).expect("nobody living holds it");
                Box::new(move || {
                    let _ = end.push(item(BY_VICTIM));
                    mem::forget(end);
                })
            }
            Deed::Pop => {
                let mut end = ring.consumer(&me).expect("nobody living holds it");
                Box::new(move || {
                    let _ = std::hint::black_box(end.pop());
                    mem::forget(end);
                })
            }
            Deed::Hold => Box::new(move || drop(ring.producer(&me))),
        }
    }

    fn fault(&self) -> Fault {
        self.fault
    }

    /// A stopped holder is not dead: nobody gets its end.
    fn meanwhile(&self, stage: &Stage) -> Finding {
        let me = props::become_party(stage, props::companion(2), false);
        let ring = letters::ring(stage, self.cells);
        let held = match self.deed {
            Deed::Pop => ring.consumer(&me).err(),
            _ => ring.producer(&me).err(),
        };
        expect(matches!(held, Some(RingError::Held { .. })), || format!("a living one's end: {held:?}"))?;
        Ok(Verdict::Clean)
    }

    fn aftermath(&self, stage: &Stage, _moment: Moment) -> Finding {
        // After a pause the victim has ended too, and still holds its end.
        if self.news != News::Mark || self.fault == Fault::Pause {
            props::confirm_death(stage, VICTIM);
        }
        let me = props::become_party(stage, CHECKER, true);
        let through = || Stage::poll(Duration::from_secs(1), || props::read(stage, THROUGH) > 0);
        if self.deed == Deed::Pop {
            let mut consumer = self.consumer(stage, &me)?;
            let mut stops = 0;
            while stops < 2 {
                match consumer.try_pop() {
                    Ok(popped) => Self::note(stage, popped)?,
                    Err(RingError::Empty | RingError::PeerDied { .. }) => {
                        expect(self.company == Company::Nobody || through(), || {
                            "no room was made".to_owned()
                        })?;
                        stops += 1;
                    }
                    Err(other) => return Err(other.to_string()),
                }
            }
            drop(consumer);
        } else {
            let mut producer = self.producer(stage, &me)?;
            if self.company == Company::Asleep {
                patiently(|| producer.push(item(BY_CHECKER)))?;
            }
            expect(self.company == Company::Nobody || through(), || {
                "who waited for an item got none".to_owned()
            })?;
            drop(producer);
        }
        self.use_it(stage, &me)?;
        props::confirm_death(stage, VICTIM);
        props::release(stage, VICTIM)?;
        Ok(Verdict::Clean)
    }

    fn tally(&self, stage: &Stage, moment: Moment) -> Result<(), String> {
        let popped = |which: usize| props::read(stage, which);
        expect((0..=BY_CHECKER).all(|which| popped(which) <= 1), || "popped twice".to_owned())?;
        let by_victim = match (self.deed, moment) {
            (Deed::Push, Moment::After) => 1..=1,
            (Deed::Push, Moment::Within) => 0..=1,
            _ => 0..=0,
        };
        expect(by_victim.contains(&popped(BY_VICTIM)), || {
            format!("the victim's item was popped {} times", popped(BY_VICTIM))
        })?;
        let lie_there =
            self.there as u32 + u32::from(self.deed == Deed::Pop && self.company != Company::Nobody);
        let others = [THERE[0], THERE[1], BY_COMPANION].map(popped).iter().sum::<u32>();
        let expected = match moment {
            Moment::After if self.deed == Deed::Pop => lie_there - 1..=lie_there - 1,
            Moment::Within if self.deed == Deed::Pop => lie_there - 1..=lie_there,
            _ => lie_there..=lie_there,
        };
        expect(expected.contains(&others), || format!("{others} items were popped, not {expected:?}"))
    }
}

impl Play {
    /// Empties the ring and uses all of it.
    fn use_it(&self, stage: &Stage, me: &Party) -> Result<(), String> {
        let (mut producer, mut consumer) = (self.producer(stage, me)?, self.consumer(stage, me)?);
        while let Ok(popped) = consumer.try_pop() {
            Self::note(stage, popped)?;
        }
        for round in 0..2 {
            for place in 0..self.cells {
                producer.try_push(item(place)).map_err(|error| format!("{place}, round {round}: {error}"))?;
            }
            expect(producer.try_push(item(0)) == Err(RingError::Full), || {
                "more room than there is".to_owned()
            })?;
            for place in 0..self.cells {
                let popped = consumer.try_pop().map_err(|error| error.to_string())?;
                expect(number(popped)? == place, || "out of order".to_owned())?;
            }
        }
        expect(consumer.try_pop() == Err(RingError::Empty), || "more items than there are".to_owned())
    }
}

/// All cases of this family.
pub(super) fn cases() -> Vec<Case> {
    use Company::{Asleep, Nobody, OnCue};
    let play =
        |deed, company, cells, there, news| Play { deed, company, cells, there, news, fault: Fault::Kill };
    let kill = |deed, company, cells, there| play(deed, company, cells, there, News::Both);
    let pause = |deed, there| Play { fault: Fault::Pause, ..kill(deed, Nobody, 4, there) };
    vec![
        case("ring-push", "free", kill(Deed::Push, Nobody, 4, 1)),
        case("ring-push", "mark-only", play(Deed::Push, Nobody, 4, 1, News::Mark)),
        case("ring-push", "service-only", play(Deed::Push, Nobody, 4, 1, News::Service)),
        case("ring-push", "waiter", kill(Deed::Push, Asleep, 2, 0)),
        case("ring-push", "full", kill(Deed::Push, OnCue, 1, 1)),
        case("ring-push", "paused", pause(Deed::Push, 1)),
        case("ring-pop", "free", kill(Deed::Pop, Nobody, 4, 2)),
        case("ring-pop", "mark-only", play(Deed::Pop, Nobody, 4, 2, News::Mark)),
        case("ring-pop", "waiting", kill(Deed::Pop, OnCue, 2, 0)),
        case("ring-pop", "room-for-a-waiter", kill(Deed::Pop, Asleep, 1, 1)),
        case("ring-pop", "paused", pause(Deed::Pop, 2)),
        case("ring-hold", "a-dead-ones", kill(Deed::Hold, Nobody, 4, 1)),
        case("ring-hold", "a-dead-ones-mark-only", play(Deed::Hold, Nobody, 4, 1, News::Mark)),
    ]
}
