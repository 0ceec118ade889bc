//! `value` (addition), `record` (update), `array` (an element, a slice) of `swath_sync`'s shared values.

use std::time::Duration;

use swath_sync::{ArrayError, LockError, LockedArray, Party, PoisonedBy, Record, Taken, Value};

use super::props::{self, CHECKER, News, VICTIM};
use crate::scenario::{Case, Entrance, Fault, Finding, Moment, Scenario, Verdict, case, expect};
use crate::stage::Stage;

const VALUE_AT: usize = 0x8_7000;
const RECORD_AT: usize = 0x8_7100;
const ARRAY_AT: usize = 0x8_7400;
const ELEMENTS: usize = 6;
/// Count 0 of the stage: how many changes there were besides the victim's.
const OTHERS: usize = 0;

/// Eight words that are equal at any time.
type Row = [u64; 8];

#[derive(Copy, Clone, PartialEq, Eq)]
enum What {
    Value,
    Record,
    /// One element.
    Element,
    /// All elements, under one guard.
    Slice,
}

struct Change {
    what: What,
    /// Somebody changes it in the middle of the victim's way, if that has to wait for it.
    contended: bool,
    news: News,
    fault: Fault,
}

fn value(stage: &Stage) -> &'static Value<i64> {
    props::object(stage, VALUE_AT, 1)
}

fn record(stage: &Stage) -> &'static Record<Row> {
    props::object(stage, RECORD_AT, 1)
}

fn array(stage: &Stage) -> &'static LockedArray<u64> {
    props::object(stage, ARRAY_AT, ELEMENTS)
}

impl Change {
    /// Adds one, by whoever.
    fn add(&self, stage: &Stage, me: &Party) -> Finding {
        let text = |error: LockError| error.to_string();
        match self.what {
            What::Value => {
                value(stage).fetch_add(1);
            }
            What::Record => record(stage).update(me, |row| *row = row.map(|word| word + 1)).map_err(text)?,
            What::Element => return self.add_to_element(stage, me),
            What::Slice => match array(stage).lock(me).map_err(text)? {
                Taken::Acquired(mut guard) => guard.iter_mut().for_each(|element| *element += 1),
                Taken::Recovered(mut guard) => {
                    let most = guard.iter().copied().max().unwrap_or(0);
                    guard.fill(most + 1);
                    drop(guard.repaired());
                    return Ok(Verdict::Recovered);
                }
            },
        }
        Ok(Verdict::Clean)
    }

    fn add_to_element(&self, stage: &Stage, me: &Party) -> Finding {
        let array = array(stage);
        let mut verdict = Verdict::Clean;
        loop {
            let change = array.get(me, 1).and_then(|element| array.set(me, 1, element + 1));
            match change {
                Ok(()) => return Ok(verdict),
                Err(ArrayError::Lock(LockError::Poisoned { who: PoisonedBy::Death(_) })) => {
                    array.clear();
                    verdict = Verdict::Recovered;
                }
                Err(other) => return Err(other.to_string()),
            }
        }
    }

    /// The sum of all additions.
    fn sum(&self, stage: &Stage, me: &Party) -> Result<u64, String> {
        match self.what {
            What::Value => Ok(value(stage).load() as u64),
            What::Record => {
                let row = record(stage).get();
                expect(row.iter().all(|word| *word == row[0]), || format!("torn: {row:?}"))?;
                Ok(row[0])
            }
            What::Element => array(stage).get(me, 1).map_err(|error| error.to_string()),
            What::Slice => {
                let Ok(Taken::Acquired(guard)) = array(stage).lock(me) else {
                    return Err("in doubt".to_owned());
                };
                expect(guard.iter().all(|word| *word == guard[0]), || format!("torn: {guard:?}"))?;
                Ok(guard[0])
            }
        }
    }
}

impl Scenario for Change {
    fn set(&self, stage: &Stage) {
        props::reserve_all(stage);
    }

    fn companions(&self) -> &[Entrance] {
        if self.contended { &[Entrance::BeforeVictim] } else { &[] }
    }

    /// Stands in the middle of a change of the record until the victim sleeps.
    fn companion(&self, n: usize, stage: &Stage) -> Finding {
        let me = props::become_party(stage, props::companion(n), true);
        let changed = record(stage).update(&me, |row| {
            stage.arrive(n + 1);
            stage.await_cue(1);
            *row = row.map(|word| word + 1);
        });
        props::add(stage, OTHERS);
        changed.map(|()| Verdict::Clean).map_err(|error| error.to_string())
    }

    fn victim<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        let me = props::become_party(stage, VICTIM, self.news != News::Service);
        Box::new(move || drop(std::hint::black_box(self.add(stage, &me))))
    }

    fn short_points(&self) -> usize {
        if self.fault == Fault::Pause { 60 } else { 250 }
    }

    fn fault(&self) -> Fault {
        self.fault
    }

    /// A record is read beside whoever stands in the middle of a change.
    fn meanwhile(&self, stage: &Stage) -> Finding {
        let me = props::become_party(stage, props::companion(3), false);
        if self.what == What::Record {
            self.sum(stage, &me)?;
            return match record(stage).update_timeout(&me, Duration::from_millis(70), |_| ()) {
                Ok(()) | Err(LockError::TimedOut { .. }) => Ok(Verdict::Clean),
                Err(other) => Err(other.to_string()),
            };
        }
        props::add(stage, OTHERS);
        self.add(stage, &me)
    }

    fn aftermath(&self, stage: &Stage, _moment: Moment) -> Finding {
        if self.news != News::Mark {
            props::confirm_death(stage, VICTIM);
        }
        let me = props::become_party(stage, CHECKER, true);
        if self.what == What::Record || self.what == What::Value {
            self.sum(stage, &me)?; // before anybody could have repaired it
        }
        props::add(stage, OTHERS);
        let verdict = self.add(stage, &me)?;
        let told = matches!(self.what, What::Element | What::Slice);
        expect(told || verdict == Verdict::Clean, || "told of a death that changed nothing".to_owned())?;
        props::confirm_death(stage, VICTIM);
        props::release(stage, VICTIM)?;
        Ok(verdict)
    }

    fn tally(&self, stage: &Stage, moment: Moment) -> Result<(), String> {
        let me = props::become_party(stage, props::companion(2), false);
        let (sum, others) = (self.sum(stage, &me)?, u64::from(props::read(stage, OTHERS)));
        let expected = match moment {
            Moment::Before => others..=others,
            Moment::Within => others..=others + 1,
            Moment::After => others + 1..=others + 1,
        };
        expect(expected.contains(&sum), || format!("{sum} instead of {expected:?}"))
    }
}

/// All cases of this family.
pub(super) fn cases() -> Vec<Case> {
    use News::{Both, Mark, Service};
    let kill = |what, news| Change { what, contended: false, news, fault: Fault::Kill };
    let pause = |what| Change { what, contended: false, news: Both, fault: Fault::Pause };
    vec![
        case("value", "add", kill(What::Value, Both)),
        case("value", "paused", pause(What::Value)),
        case("record", "free", kill(What::Record, Both)),
        case("record", "free-mark-only", kill(What::Record, Mark)),
        case("record", "free-service-only", kill(What::Record, Service)),
        case(
            "record",
            "contended",
            Change { what: What::Record, contended: true, news: Both, fault: Fault::Kill },
        ),
        case("record", "paused", pause(What::Record)),
        case("array", "element", kill(What::Element, Both)),
        case("array", "slice", kill(What::Slice, Both)),
    ]
}
