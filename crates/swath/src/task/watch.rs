//! Tasks that take too long: noticed by samples on the service thread, as chunks are.

use std::sync::{Arc, Weak};
use std::time::Duration;

use swath_segment::{Reactor, Service};

use super::desk::{Desk, Hold};
use crate::cause::What;
use crate::crew::Crew;
use crate::limits::{SAMPLE_MAX, SAMPLE_MIN};
use crate::samples::{Beat, Sample};

struct Watch {
    desk: Weak<Desk>,
    crew: Weak<Crew>,
    beat: Beat,
    /// By claim: no two tasks, and no two attempts at one, have the same number.
    samples: Vec<Sample<u64>>,
}

/// Watches for as long as there is a pool.
pub(super) fn start(desk: Weak<Desk>, crew: Weak<Crew>) {
    let Some(workers) = crew.upgrade().map(|crew| crew.board.workers()) else { return };
    let samples = vec![Sample::default(); workers];
    let watch = Watch { desk, crew, beat: Beat::new(SAMPLE_MIN), samples };
    Service::global().post(move |reactor| watch.sleep(reactor));
}

impl Watch {
    fn sleep(self, reactor: &mut Reactor) {
        reactor.after(self.beat.interval, Box::new(move |reactor| self.look(reactor)));
    }

    fn look(mut self, reactor: &mut Reactor) {
        let (Some(desk), Some(crew)) = (self.desk.upgrade(), self.crew.upgrade()) else { return };
        let passed = self.beat.passed();
        let mut shortest = SAMPLE_MAX * 8;
        for index in 0..self.samples.len() {
            if let Some(limit) = self.look_at(&desk, &crew, reactor, index, passed) {
                shortest = shortest.min(limit);
            }
        }
        // Quick enough for a short one that may come, unless only long ones are there.
        self.beat.interval = (shortest / 8).min(desk.shortest_timeout() / 8).clamp(SAMPLE_MIN, SAMPLE_MAX);
        drop((desk, crew));
        self.sleep(reactor);
    }

    fn look_at(
        &mut self,
        desk: &Desk,
        crew: &Arc<Crew>,
        reactor: &mut Reactor,
        index: usize,
        passed: Duration,
    ) -> Option<Duration> {
        let sample = &mut self.samples[index];
        let Some(hold) = desk.in_hand(index) else {
            *sample = Sample::default();
            return None;
        };
        let Hold { claim, limit, .. } = hold;
        if sample.is_overdue(Some(claim), passed, limit)
            && let Some(kill) = desk.overdue(&hold)
        {
            crew.end_task(reactor, &kill, What::TimedOut { limit });
        }
        Some(limit)
    }
}
