//! `barrier` (wait: first, middle, last arriver), `barrier-reset` and `barrier-action` of `swath_sync::Barrier`.
//!
//! What must hold: nobody hangs; whoever comes when a party is already known to be dead is told so (a barrier never passes
//! short); all survivors of a round are told the same; the round after a death is broken for all.

use std::time::Duration;

use swath_sync::{Barrier, BarrierError, Party, SlotId};

use super::props::{self, News, VICTIM};
use crate::scenario::{Case, Entrance, Finding, Moment, Scenario, Verdict, case, expect};
use crate::stage::Stage;

/// Counts on the stage: survivors that passed the round of the death, those that were told it is broken, those that had
/// been told to lead.
const PASSED: usize = 0;
const BROKEN: usize = 1;
const LED: usize = 2;
/// Set by the harness when the death has been confirmed before the companions on cue come.
const KNOWN_DEAD: usize = 3;

const PATIENCE: Duration = Duration::from_secs(10);
/// How often an action was run to its end.
const ACTED: usize = 4;

/// When the victim comes.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Place {
    /// Before the others, who come when it sleeps or is dead.
    First,
    /// One sleeps already, one comes later.
    Middle,
    /// The others sleep already.
    Last,
}

struct Wait {
    place: Place,
    others: usize,
    news: News,
}

impl Wait {
    fn parties(&self) -> Vec<SlotId> {
        (0..self.others).map(props::companion).chain([VICTIM]).collect()
    }

    fn comes_on_cue(&self, n: usize) -> bool {
        match self.place {
            Place::First => true,
            Place::Middle => n == 0,
            Place::Last => false,
        }
    }
}

impl Scenario for Wait {
    fn set(&self, stage: &Stage) {
        props::reserve_all(stage);
        props::set_barrier(stage, &self.parties());
    }

    fn companions(&self) -> &[Entrance] {
        use Entrance::{AfterVictim, BeforeVictim};
        match (self.place, self.others) {
            (Place::First, 1) => &[BeforeVictim],
            (Place::First, _) => &[BeforeVictim, BeforeVictim],
            (Place::Middle, _) => &[BeforeVictim, AfterVictim],
            (Place::Last, 1) => &[AfterVictim],
            (Place::Last, _) => &[AfterVictim, AfterVictim],
        }
    }

    fn companion(&self, n: usize, stage: &Stage) -> Finding {
        let me = props::become_party(stage, props::companion(n), true);
        stage.arrive(n + 1);
        if self.comes_on_cue(n) {
            stage.await_cue(1);
        }
        let known_dead = self.comes_on_cue(n) && props::read(stage, KNOWN_DEAD) > 0;
        let verdict = match round(stage, &me)? {
            Some(leads) => {
                expect(!known_dead, || "passed short: a party was known to be dead before".to_owned())?;
                props::add(stage, PASSED);
                if leads {
                    props::add(stage, LED);
                }
                Verdict::Clean
            }
            None => {
                props::add(stage, BROKEN);
                Verdict::Recovered
            }
        };
        // The next round: the victim, dead or about to be, never comes.
        match round(stage, &me)? {
            None => Ok(verdict),
            Some(_) => Err("passed a second round without the victim".to_owned()),
        }
    }

    fn victim<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        let me = props::become_party(stage, VICTIM, self.news != News::Service);
        let barrier = props::barrier(stage);
        Box::new(move || {
            let _ = std::hint::black_box(barrier.wait(&me));
        })
    }

    fn confirmed(&self, stage: &Stage) {
        if self.news != News::Mark {
            props::confirm_death(stage, VICTIM);
        }
        props::add(stage, KNOWN_DEAD);
    }

    fn aftermath(&self, _stage: &Stage, _moment: Moment) -> Finding {
        Ok(Verdict::Clean)
    }

    fn tally(&self, stage: &Stage, moment: Moment) -> Result<(), String> {
        let (passed, broken, led) =
            (props::read(stage, PASSED), props::read(stage, BROKEN), props::read(stage, LED));
        expect(passed == 0 || broken == 0, || {
            format!("{passed} passed and {broken} were told it is broken")
        })?;
        expect(led <= 1, || format!("{led} leaders"))?;
        match moment {
            Moment::Before => expect(passed == 0, || "passed without the victim".to_owned()),
            Moment::Within => Ok(()),
            Moment::After => expect(broken == 0, || "the victim passed and the others did not".to_owned()),
        }
    }
}

/// One round: `Some(leads)` or broken by the victim's death.
fn round(stage: &Stage, me: &Party) -> Result<Option<bool>, String> {
    match props::barrier(stage).wait_timeout(me, PATIENCE) {
        Ok(leads) => Ok(Some(leads)),
        Err(BarrierError::Broken { slot, .. }) if slot == VICTIM => Ok(None),
        Err(other) => Err(other.to_string()),
    }
}

/// The victim opens a barrier again that a death has broken; killed in it, a second reset does.
struct Reset;

impl Scenario for Reset {
    fn set(&self, stage: &Stage) {
        props::reserve_all(stage);
        props::set_barrier(stage, &[props::companion(0), props::DEAD]);
        props::died_before(stage, |_| {});
    }

    fn companions(&self) -> &[Entrance] {
        &[Entrance::BeforeVictim]
    }

    fn companion(&self, n: usize, stage: &Stage) -> Finding {
        let me = props::become_party(stage, props::companion(n), true);
        let broken = props::barrier(stage).wait_timeout(&me, PATIENCE);
        stage.arrive(n + 1);
        expect(matches!(broken, Err(BarrierError::Broken { .. })), || format!("not broken: {broken:?}"))?;
        stage.await_cue(1);
        // Now the checker resets: wait for the round that it opens.
        let opened = Stage::poll(Duration::from_secs(2), || props::read(stage, KNOWN_DEAD) > 0);
        expect(opened, || "the second reset did not end".to_owned())?;
        let passed = props::barrier(stage).wait_timeout(&me, PATIENCE);
        expect(passed.is_ok(), || format!("after the reset: {passed:?}"))?;
        Ok(Verdict::Clean)
    }

    fn victim<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        let _me = props::become_party(stage, VICTIM, true);
        let barrier = props::barrier(stage);
        Box::new(move || barrier.reset(&[props::companion(0), props::CHECKER]))
    }

    fn aftermath(&self, stage: &Stage, _moment: Moment) -> Finding {
        props::confirm_death(stage, VICTIM);
        let me = props::become_party(stage, props::CHECKER, true);
        let barrier = props::barrier(stage);
        barrier.reset(&[props::companion(0), props::CHECKER]);
        props::add(stage, KNOWN_DEAD);
        let passed = barrier.wait_timeout(&me, PATIENCE);
        expect(passed.is_ok(), || format!("after the reset: {passed:?}"))?;
        Ok(Verdict::Clean)
    }
}

/// All come with an action; the victim last, so that it leads, or first. `shrinks`: the others go on without it, unless it
/// died in its action.
struct Act {
    last: bool,
    shrinks: bool,
    news: News,
}

impl Scenario for Act {
    fn set(&self, stage: &Stage) {
        props::reserve_all(stage);
        let plan = Barrier::of(&[props::companion(0), props::companion(1), VICTIM]);
        props::place_barrier(stage, if self.shrinks { plan.shrink() } else { plan });
    }

    fn companions(&self) -> &[Entrance] {
        use Entrance::{AfterVictim, BeforeVictim};
        if self.last { &[AfterVictim, AfterVictim] } else { &[BeforeVictim, BeforeVictim] }
    }

    fn companion(&self, n: usize, stage: &Stage) -> Finding {
        let me = props::become_party(stage, props::companion(n), true);
        stage.arrive(n + 1);
        if !self.last {
            stage.await_cue(1);
        }
        match act(stage, &me)? {
            Some(leads) => {
                expect(props::read(stage, ACTED) == 1, || "passed without the action".to_owned())?;
                props::add(stage, PASSED);
                if leads {
                    props::add(stage, LED);
                }
            }
            None => props::add(stage, BROKEN),
        }
        // The next round, without the victim.
        match act(stage, &me)? {
            None => Ok(Verdict::Recovered),
            Some(_) if self.shrinks => Ok(Verdict::Clean),
            Some(_) => Err("passed a second round without the victim".to_owned()),
        }
    }

    fn victim<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        let me = props::become_party(stage, VICTIM, self.news != News::Service);
        let barrier = props::barrier(stage);
        Box::new(move || {
            let _ = std::hint::black_box(barrier.wait_with(&me, || props::add(stage, ACTED)));
        })
    }

    fn confirmed(&self, stage: &Stage) {
        if self.news != News::Mark {
            props::confirm_death(stage, VICTIM);
        }
    }

    fn aftermath(&self, _stage: &Stage, _moment: Moment) -> Finding {
        Ok(Verdict::Clean)
    }

    fn tally(&self, stage: &Stage, moment: Moment) -> Result<(), String> {
        let (passed, broken, led) =
            (props::read(stage, PASSED), props::read(stage, BROKEN), props::read(stage, LED));
        expect(passed == 0 || broken == 0, || format!("{passed} passed, {broken} were told it is broken"))?;
        expect(led <= 1, || format!("{led} leaders"))?;
        let fine = match moment {
            Moment::Before => (passed > 0) == self.shrinks,
            Moment::Within => true,
            Moment::After => broken == 0,
        };
        expect(fine, || format!("{passed} passed, {broken} were told it is broken"))
    }
}

/// One round with an action: `Some(leads)` or broken by the victim's death.
fn act(stage: &Stage, me: &Party) -> Result<Option<bool>, String> {
    match props::barrier(stage).wait_with_timeout(me, PATIENCE, || props::add(stage, ACTED)) {
        Ok(leads) => Ok(Some(leads)),
        Err(BarrierError::Broken { slot, .. }) if slot == VICTIM => Ok(None),
        Err(other) => Err(other.to_string()),
    }
}

/// A barrier with free seats: one party has sat down and waits, the victim comes. If it dies before it has a seat, somebody
/// else takes it; after, the barrier breaks.
struct Seats;

impl Scenario for Seats {
    fn set(&self, stage: &Stage) {
        props::reserve_all(stage);
        props::place_barrier(stage, Barrier::seats(2));
    }

    fn companions(&self) -> &[Entrance] {
        &[Entrance::AfterVictim]
    }

    fn companion(&self, n: usize, stage: &Stage) -> Finding {
        let me = props::become_party(stage, props::companion(n), true);
        stage.arrive(n + 1);
        round(stage, &me).map(|passed| if passed.is_some() { Verdict::Clean } else { Verdict::Recovered })
    }

    fn victim<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        let me = props::become_party(stage, VICTIM, true);
        let barrier = props::barrier(stage);
        Box::new(move || {
            let _ = std::hint::black_box(barrier.wait(&me));
        })
    }

    fn aftermath(&self, stage: &Stage, moment: Moment) -> Finding {
        props::confirm_death(stage, VICTIM);
        let me = props::become_party(stage, props::CHECKER, true);
        let come = props::barrier(stage).wait_timeout(&me, PATIENCE);
        match (come, moment) {
            // The victim's seat was free, or had been: the one who waits is let through.
            (Ok(_), Moment::Before | Moment::Within) => Ok(Verdict::Clean),
            // It died in its seat before the round was over.
            (Err(BarrierError::Broken { .. }), Moment::Within) => Ok(Verdict::Recovered),
            // The round was over: both seats are taken, one of them by a dead party.
            (
                Err(BarrierError::NotAParty { .. } | BarrierError::Broken { .. }),
                Moment::Within | Moment::After,
            ) => Ok(Verdict::Clean),
            (other, moment) => Err(format!("{other:?} after a death {moment:?}")),
        }
    }
}

/// All cases of this family.
pub(super) fn cases() -> Vec<Case> {
    use Place::{First, Last, Middle};
    let wait = |place, others, news| Wait { place, others, news };
    vec![
        case("barrier", "seats", Seats),
        case("barrier", "first-arriver", wait(First, 1, News::Both)),
        case("barrier", "first-arriver-mark-only", wait(First, 1, News::Mark)),
        case("barrier", "first-arriver-service-only", wait(First, 1, News::Service)),
        case("barrier", "first-of-three", wait(First, 2, News::Both)),
        case("barrier", "middle-of-three", wait(Middle, 2, News::Both)),
        case("barrier", "last-arriver", wait(Last, 1, News::Both)),
        case("barrier", "last-arriver-mark-only", wait(Last, 1, News::Mark)),
        case("barrier", "last-arriver-service-only", wait(Last, 1, News::Service)),
        case("barrier", "last-of-three", wait(Last, 2, News::Both)),
        case("barrier-reset", "broken", Reset),
        case("barrier-action", "first", Act { last: false, shrinks: false, news: News::Both }),
        case("barrier-action", "leader", Act { last: true, shrinks: false, news: News::Both }),
        case("barrier-action", "leader-mark-only", Act { last: true, shrinks: false, news: News::Mark }),
        case("barrier-action", "shrinking", Act { last: false, shrinks: true, news: News::Both }),
        case("barrier-action", "shrinking-leader", Act { last: true, shrinks: true, news: News::Both }),
        case(
            "barrier-action",
            "shrinking-leader-service-only",
            Act { last: true, shrinks: true, news: News::Service },
        ),
    ]
}
