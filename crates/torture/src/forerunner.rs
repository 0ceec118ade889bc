//! The forerunner: a party that is killed inside its operation before the victim begins its own.
//!
//! For the survivors only one thing of it counts, the shared memory that it leaves. So it is not killed at every instruction,
//! but once for every state that the memory passes through while it is stepped: *death n* comes when the state has
//! changed n times, half-way to the next change. Death 0 is before the first change, the last one after the last.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::scenario::Moment;
use crate::stage::{STATE_BYTES, Stage};
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
    /// Steps it through to its end and compares the state after every instruction.
    pub(crate) fn study(stage: &Stage, tracee: &mut Tracee<'_>) -> Result<Forerunner, Stop> {
        let (mut changes, mut state) = (vec![0], digest(stage));
        let (trace, end) = Trace::record(stage, tracee, |step| {
            let found = digest(stage);
            if found != state {
                state = found;
                changes.push(step);
            }
        });
        if end != Stop::Ended {
            return Err(end);
        }
        let ends = changes.iter().skip(1).copied().chain([trace.steps() + 1]);
        let deaths = changes.iter().zip(ends).map(|(from, to)| from.midpoint(to)).collect();
        Ok(Forerunner { trace, deaths })
    }

    /// What its trace has in common with another one's can be found again.
    pub(crate) fn find_landmarks(&mut self, other: &Forerunner) {
        self.trace.find_landmarks(&other.trace);
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

/// Two different states have the same one by accident only.
fn digest(stage: &Stage) -> u64 {
    const LANES: usize = 4;
    let words: &[AtomicU64; STATE_BYTES / size_of::<u64>()] = stage.part(0);
    let (rows, _) = words.as_chunks::<LANES>();
    let mut lanes = [1_u64, 2, 3, 4];
    for row in rows {
        for (lane, word) in lanes.iter_mut().zip(row) {
            *lane =
                (*lane ^ word.load(Ordering::Relaxed)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
        }
    }
    lanes.into_iter().fold(0, |sum, lane| (sum ^ lane).wrapping_mul(0xD6E8_FEB8_6659_FD93).rotate_left(31))
}
