//! The forerunner: a party that is killed inside its operation before the victim begins its own.
//!
//! For the survivors only one thing of it counts, the shared memory that it leaves. So it is not killed at every instruction,
//! but once for every state that the memory passes through while it is stepped: *death n* comes when the state has
//! changed n times, half-way to the next change. Death 0 is before the first change, the last one after the last.

use crate::scenario::Moment;
use crate::stage::Stage;
use crate::trace::{self, Plan, Point, Trace};
use crate::tracer::{Stop, Tracee};

/// What a forerunner does when nobody kills it, and where it is killed.
pub(crate) struct Forerunner {
    trace: Trace,
    deaths: Vec<usize>,
}

/// One of its deaths.
#[derive(Copy, Clone)]
pub(crate) struct Fate<'f> {
    forerunner: &'f Forerunner,
    death: usize,
}

impl Forerunner {
    /// Steps it through to its end.
    pub(crate) fn study(stage: &Stage, tracee: &mut Tracee<'_>) -> Result<Forerunner, Stop> {
        let (trace, end) = Trace::record(stage, tracee);
        if end != Stop::Ended {
            return Err(end);
        }
        let begins = [0].into_iter().chain(trace.changes.iter().copied());
        let ends = trace.changes.iter().copied().chain([trace.steps() + 1]);
        let deaths = begins.zip(ends).map(|(from, to)| from.midpoint(to)).collect();
        Ok(Forerunner { trace, deaths })
    }

    /// What its trace has in common with another one's can be found again.
    pub(crate) fn with_landmarks_of(self, other: &Forerunner) -> Forerunner {
        Forerunner { trace: self.trace.with_landmarks_of(&other.trace), ..self }
    }

    /// All that can befall it.
    pub(crate) fn fates(&self) -> impl Iterator<Item = Fate<'_>> {
        (0..self.deaths.len()).map(|death| Fate { forerunner: self, death })
    }
}

impl Fate<'_> {
    /// How many changes it will have made.
    pub(crate) fn changes(self) -> usize {
        self.death
    }

    /// Brings it to its death; landmarks of the last `back` steps before are passed over, or all of them.
    pub(crate) fn befall(
        self,
        stage: &Stage,
        mut tracee: Tracee<'_>,
        back: Option<usize>,
    ) -> Result<(), Stop> {
        let Forerunner { trace, deaths } = self.forerunner;
        let step = deaths[self.death];
        let plan = back.map_or_else(Plan::default, |back| trace.plan(step, back));
        let stop = trace::approach(stage, &mut tracee, Point::at(step), &plan);
        tracee.kill();
        let moment = match stop {
            // It took a shorter way this time.
            Stop::Ended => Moment::After,
            Stop::Here if self.death == 0 => Moment::Before,
            Stop::Here if self.death + 1 == deaths.len() => Moment::After,
            Stop::Here => Moment::Within,
            other => return Err(other),
        };
        stage.note_forerun(moment);
        Ok(())
    }
}
