//! `queue-put`, `queue-get`, `join-done`, `join` … of `swath_sync::{Queue, JoinableQueue}`.
//!
//! What must hold: nobody hangs; an item is put whole or not at all, got by exactly one, and one that was in the hands of a
//! dead party is got by another; all room is there again; `join` returns exactly when all is done.

use std::mem;
use std::time::Duration;

use swath_sync::{JoinableQueue, Party, QueueError};

use super::letters::{self, Item, item, number};
use super::props::{self, CHECKER, News, VICTIM};
use crate::scenario::{Case, Entrance, Fault, Finding, Moment, Scenario, Verdict, case, expect};
use crate::stage::Stage;

/// The items, by number; the stage counts how often survivors got each. The victim puts this one.
const BY_VICTIM: usize = 0;
/// These are there from the beginning, as many as the scenario says.
const THERE: [usize; 2] = [1, 2];
/// Companions put this one.
const BY_COMPANION: usize = 3;
/// The checker puts these, so that who waits for an item gets one.
const BY_CHECKER: [usize; 2] = [4, 5];
/// Somebody else's, while the victim stands still.
const MEANWHILE: usize = 6;
/// Count: companions that are through.
const THROUGH: usize = 7;

/// Longer than two slices: so long an empty queue is looked at when no service thread tells of deaths.
const TWO_SLICES: Duration = Duration::from_millis(130);
/// How long the others try while the victim stands still: longer than a slice.
const PATIENCE: Duration = Duration::from_millis(70);

/// What the victim does between the brackets.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Deed {
    Put,
    Get,
    /// Gets it where it lies.
    GetWith,
    /// Says that an item it has is done.
    Done,
    /// Puts an item back that it has.
    PutBack,
    /// Waits until all is done.
    Join,
    Close,
}

/// Who else is there.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Company {
    Nobody,
    /// Sleeps in `get` when the victim comes.
    Getter,
    /// Puts an item when the victim sleeps.
    Putter,
    /// Gets an item, and is done with it, when the victim sleeps.
    Drainer,
    /// Sleeps in `put` when the victim comes: the queue is full.
    Blocked,
    /// Sleeps in `join` when the victim comes.
    Joiner,
    /// Somebody died writing the item of the next turn.
    DeadWriter,
    /// Somebody died with an item in hand.
    DeadReader,
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
    fn queue(&self, stage: &Stage) -> &'static JoinableQueue<Item> {
        letters::queue(stage, self.cells)
    }

    /// Gets what there is; `Ok(false)` when there is nothing.
    fn get_one(&self, stage: &Stage, me: &Party, patience: Option<Duration>) -> Result<bool, String> {
        let queue = self.queue(stage);
        let got = match patience {
            Some(patience) => queue.get_timeout(me, patience),
            None => queue.try_get(me),
        };
        match got {
            Ok(delivery) => {
                props::add(stage, number(*delivery)?);
                delivery.done();
                Ok(true)
            }
            Err(QueueError::Empty { .. } | QueueError::Closed) => Ok(false),
            Err(other) => Err(other.to_string()),
        }
    }

    fn drain(&self, stage: &Stage, me: &Party) -> Result<(), String> {
        let patience = (self.news == News::Mark).then_some(TWO_SLICES);
        while self.get_one(stage, me, patience)? {}
        Ok(())
    }
}

impl Scenario for Play {
    fn set(&self, stage: &Stage) {
        props::reserve_all(stage);
        let queue = self.queue(stage);
        if self.there > 0 || matches!(self.company, Company::DeadWriter | Company::DeadReader) {
            props::died_before(stage, |party| {
                for there in &THERE[..self.there] {
                    queue.try_put(party, item(*there)).expect("there is room");
                }
                match self.company {
                    Company::DeadReader => mem::forget(queue.try_get(party).expect("an item")),
                    Company::DeadWriter => {
                        let _ = queue.queue().put_with(party, |half| -> Result<(), ()> {
                            half[0] = 99;
                            std::process::exit(0)
                        });
                    }
                    _ => {}
                }
            });
        }
    }

    fn companions(&self) -> &[Entrance] {
        match self.company {
            Company::Nobody | Company::DeadWriter | Company::DeadReader => &[],
            Company::Putter | Company::Drainer => &[Entrance::BeforeVictim],
            Company::Getter | Company::Joiner | Company::Blocked => &[Entrance::AfterVictim],
        }
    }

    fn companion(&self, n: usize, stage: &Stage) -> Finding {
        let me = props::become_party(stage, props::companion(n), true);
        let queue = self.queue(stage);
        stage.arrive(n + 1);
        match self.company {
            Company::Getter => {
                let delivery = queue.get(&me).map_err(|error| error.to_string())?;
                props::add(stage, number(*delivery)?);
                delivery.done();
            }
            Company::Putter => {
                stage.await_cue(1);
                queue.put(&me, item(BY_COMPANION)).map_err(|error| error.to_string())?;
            }
            Company::Blocked => match queue.put(&me, item(BY_COMPANION)) {
                Err(QueueError::Closed) if self.deed == Deed::Close => {}
                put => put.map_err(|error| error.to_string())?,
            },
            Company::Drainer => {
                stage.await_cue(1);
                let delivery = queue.get(&me).map_err(|error| error.to_string())?;
                props::add(stage, number(*delivery)?);
                delivery.done();
            }
            Company::Joiner => queue.join(&me),
            Company::Nobody | Company::DeadWriter | Company::DeadReader => {}
        }
        props::add(stage, THROUGH);
        Ok(Verdict::Clean)
    }

    fn victim<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        let me = props::become_party(stage, VICTIM, self.news != News::Service);
        let queue = self.queue(stage);
        match self.deed {
            Deed::Put => Box::new(move || {
                let _ = queue.put(&me, item(BY_VICTIM));
            }),
            Deed::Get => Box::new(move || {
                let _ = std::hint::black_box(queue.queue().get(&me));
            }),
            Deed::GetWith => Box::new(move || {
                let _ = queue.queue().get_with(&me, |item| std::hint::black_box(*item));
            }),
            Deed::Done => {
                let delivery = queue.try_get(&me).expect("an item");
                Box::new(move || delivery.done())
            }
            Deed::PutBack => {
                let delivery = queue.try_get(&me).expect("an item");
                Box::new(move || drop(delivery))
            }
            Deed::Join => Box::new(move || queue.join(&me)),
            Deed::Close => Box::new(move || queue.queue().close()),
        }
    }

    fn short_points(&self) -> usize {
        if self.fault == Fault::Pause { 60 } else { 250 }
    }

    fn fault(&self) -> Fault {
        self.fault
    }

    /// A stopped party is not dead: nothing of it is taken, and nobody waits longer than told.
    fn meanwhile(&self, stage: &Stage) -> Finding {
        let me = props::become_party(stage, props::companion(2), false);
        match self.queue(stage).put_timeout(&me, item(MEANWHILE), PATIENCE) {
            Ok(()) => {}
            other => return Err(format!("there was room: {other:?}")),
        }
        props::add(stage, BY_COMPANION); // it is among the items
        self.get_one(stage, &me, Some(PATIENCE))?;
        Ok(Verdict::Clean)
    }

    fn aftermath(&self, stage: &Stage, moment: Moment) -> Finding {
        if self.news != News::Mark {
            props::confirm_death(stage, VICTIM);
        }
        let me = props::become_party(stage, CHECKER, true);
        let queue = self.queue(stage);
        if self.deed == Deed::Close {
            expect(moment != Moment::Before || !queue.queue().is_closed(), || "closed by nobody".to_owned())?;
            expect(moment != Moment::After || queue.queue().is_closed(), || "not closed".to_owned())?;
            queue.queue().close();
        }
        if self.company == Company::Getter {
            for by_checker in BY_CHECKER {
                queue.put(&me, item(by_checker)).map_err(|error| error.to_string())?;
            }
            let through = Stage::poll(Duration::from_secs(1), || props::read(stage, THROUGH) > 0);
            expect(through, || "who waited for an item did not get one of two".to_owned())?;
        }
        if self.company == Company::Drainer {
            let through = Stage::poll(Duration::from_secs(1), || props::read(stage, THROUGH) > 0);
            expect(through, || "there was an item, and who waited for one did not get it".to_owned())?;
        }
        self.drain(stage, &me)?;
        if self.company != Company::Nobody {
            let ends = !matches!(self.company, Company::DeadReader | Company::DeadWriter);
            let through = !ends || Stage::poll(Duration::from_secs(1), || props::read(stage, THROUGH) > 0);
            expect(through, || "a companion is not through".to_owned())?;
            self.drain(stage, &me)?;
        }
        if self.deed != Deed::Close {
            self.use_all_room(&me, queue)?;
        }
        expect(queue.try_join(&me), || "all is done, and join says no".to_owned())?;
        props::confirm_death(stage, VICTIM);
        props::release(stage, VICTIM)?;
        Ok(Verdict::Clean)
    }

    fn tally(&self, stage: &Stage, moment: Moment) -> Result<(), String> {
        let got = |which: usize| props::read(stage, which);
        let each_once = (0..=MEANWHILE).all(|which| got(which) <= 1);
        expect(each_once, || format!("got twice: {:?}", (0..=MEANWHILE).map(got).collect::<Vec<_>>()))?;
        let by_victim = match (self.deed, moment) {
            (Deed::Put, Moment::After) => 1..=1,
            (Deed::Put, Moment::Within) => 0..=1,
            _ => 0..=0,
        };
        expect(by_victim.contains(&got(BY_VICTIM)), || {
            format!("the victim's item was got {} times", got(BY_VICTIM))
        })?;
        // The victim took one of them away, in some deeds.
        let takes = matches!(self.deed, Deed::Get | Deed::GetWith | Deed::Done);
        let others = THERE[..self.there].iter().chain([&BY_COMPANION]).map(|which| got(*which)).sum::<u32>();
        let companion = match self.company {
            Company::Putter => 1..=1,
            Company::Blocked if self.deed == Deed::Close => 0..=1,
            Company::Blocked => 1..=1,
            _ => 0..=0,
        };
        let (least, most) = (self.there as u32 + companion.start(), self.there as u32 + companion.end());
        let put_meanwhile = if self.fault == Fault::Pause { got(BY_COMPANION) } else { 0 };
        let others = others - put_meanwhile + got(MEANWHILE);
        let (least, most) = (least + put_meanwhile, most + put_meanwhile);
        let (least, most) = match moment {
            Moment::Before => (least, most),
            Moment::After if takes => (least - 1, most - 1),
            Moment::Within if takes => (least - 1, most),
            _ => (least, most),
        };
        expect((least..=most).contains(&others), || format!("{others} items were got, not {least} to {most}"))
    }
}

impl Play {
    fn use_all_room(&self, me: &Party, queue: &JoinableQueue<Item>) -> Result<(), String> {
        for round in 0..2 {
            for place in 0..self.cells {
                let put = queue.try_put(me, item(place));
                expect(put.is_ok(), || format!("room {place} of {}, round {round}: {put:?}", self.cells))?;
            }
            let full = queue.try_put(me, item(0)) == Err(QueueError::Full);
            expect(full, || "more room than there is".to_owned())?;
            for place in 0..self.cells {
                let delivery = queue.try_get(me).map_err(|error| format!("item {place}: {error}"))?;
                expect(number(*delivery)? == place, || "out of order".to_owned())?;
                delivery.done();
            }
        }
        Ok(())
    }
}

/// All cases of this family.
pub(super) fn cases() -> Vec<Case> {
    use Company::{Blocked, DeadReader, DeadWriter, Drainer, Getter, Joiner, Nobody, Putter};
    let play =
        |deed, company, cells, there, news| Play { deed, company, cells, there, news, fault: Fault::Kill };
    let kill = |deed, company, there| play(deed, company, 4, there, News::Both);
    let pause = |deed, there| Play { fault: Fault::Pause, ..kill(deed, Nobody, there) };
    vec![
        case("queue-put", "free", kill(Deed::Put, Nobody, 1)),
        case("queue-put", "one-cell", play(Deed::Put, Nobody, 1, 0, News::Both)),
        case("queue-put", "mark-only", play(Deed::Put, Nobody, 3, 1, News::Mark)),
        case("queue-put", "service-only", play(Deed::Put, Nobody, 3, 1, News::Service)),
        case("queue-put", "waiter", kill(Deed::Put, Getter, 0)),
        case("queue-put", "waiter-mark-only", play(Deed::Put, Getter, 3, 0, News::Mark)),
        case("queue-put", "full", play(Deed::Put, Drainer, 1, 1, News::Both)),
        case("queue-put", "after-a-dead-writer", play(Deed::Put, DeadWriter, 1, 0, News::Both)),
        case("queue-put", "after-a-dead-reader", play(Deed::Put, DeadReader, 2, 1, News::Both)),
        case("queue-put", "paused", pause(Deed::Put, 1)),
        case("queue-get", "free", kill(Deed::Get, Nobody, 2)),
        case("queue-get", "mark-only", play(Deed::Get, Nobody, 3, 2, News::Mark)),
        case("queue-get", "in-place", kill(Deed::GetWith, Nobody, 2)),
        case("queue-get", "in-place-mark-only", play(Deed::GetWith, Nobody, 3, 2, News::Mark)),
        case("queue-get", "waiting", kill(Deed::Get, Putter, 0)),
        case("queue-get", "waiting-in-place", kill(Deed::GetWith, Putter, 0)),
        case("queue-get", "room-for-a-waiter", play(Deed::Get, Blocked, 1, 1, News::Both)),
        case("queue-get", "room-for-a-waiter-in-place", play(Deed::GetWith, Blocked, 1, 1, News::Both)),
        case("queue-get", "from-a-dead-reader", kill(Deed::Get, DeadReader, 1)),
        case("queue-get", "from-a-dead-reader-in-place", kill(Deed::GetWith, DeadReader, 1)),
        case("queue-get", "behind-a-dead-writer", play(Deed::Get, DeadWriter, 3, 1, News::Both)),
        case("queue-get", "paused", pause(Deed::Get, 2)),
        case("queue-get", "paused-in-place", pause(Deed::GetWith, 2)),
        case("queue-close", "getter-waits", kill(Deed::Close, Nobody, 1)),
        case("queue-close", "putter-waits", play(Deed::Close, Blocked, 1, 1, News::Both)),
        case("join-done", "alone", kill(Deed::Done, Nobody, 1)),
        case("join-done", "joiner", kill(Deed::Done, Joiner, 1)),
        case("join-done", "joiner-mark-only", play(Deed::Done, Joiner, 3, 1, News::Mark)),
        case("join-put-back", "alone", kill(Deed::PutBack, Nobody, 2)),
        case("join-put-back", "getter", kill(Deed::PutBack, Getter, 1)),
        case("join", "free", kill(Deed::Join, Nobody, 0)),
        case("join", "one-to-do", kill(Deed::Join, Drainer, 1)),
    ]
}
