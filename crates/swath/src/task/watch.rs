//! Tasks that take too long: noticed by samples on the service thread, as chunks are.
//!
//! Time passes for a task only from sample to sample, and never more than two intervals at once: a machine that was suspended
//! does not cost workers their lives.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use swath_segment::{Reactor, Service};

use super::desk::{Desk, Hold};
use crate::cause::What;
use crate::crew::Crew;
use crate::limits::{SAMPLE_MAX, SAMPLE_MIN};

/// What was seen of one worker.
#[derive(Clone, Copy, Default)]
struct Sample {
    /// The number of its claim: no two tasks, and no two attempts at one, have the same.
    claim: u64,
    held_for: Duration,
    told: bool,
}

struct Watch {
    desk: Weak<Desk>,
    crew: Weak<Crew>,
    last: Instant,
    interval: Duration,
    samples: Vec<Sample>,
}

/// Watches for as long as there is a pool.
pub(super) fn start(desk: Weak<Desk>, crew: Weak<Crew>) {
    let Some(workers) = crew.upgrade().map(|crew| crew.board.workers()) else { return };
    let samples = vec![Sample::default(); workers];
    let watch = Watch { desk, crew, last: Instant::now(), interval: SAMPLE_MIN, samples };
    Service::global().post(move |reactor| watch.sleep(reactor));
}

impl Watch {
    fn sleep(self, reactor: &mut Reactor) {
        reactor.after(self.interval, Box::new(move |reactor| self.look(reactor)));
    }

    fn look(mut self, reactor: &mut Reactor) {
        let (Some(desk), Some(crew)) = (self.desk.upgrade(), self.crew.upgrade()) else { return };
        let now = Instant::now();
        let passed = now.saturating_duration_since(self.last).min(2 * self.interval);
        self.last = now;
        let mut shortest = SAMPLE_MAX * 8;
        for index in 0..self.samples.len() {
            if let Some(limit) = self.look_at(&desk, &crew, reactor, index, passed) {
                shortest = shortest.min(limit);
            }
        }
        // Quick enough for a short one that may come, unless only long ones are there.
        self.interval = (shortest / 8).min(desk.shortest_timeout() / 8).clamp(SAMPLE_MIN, SAMPLE_MAX);
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
        if sample.claim != claim {
            *sample = Sample { claim, ..Sample::default() };
            return Some(limit);
        }
        sample.held_for += passed;
        if sample.held_for >= limit && !sample.told {
            sample.told = true;
            if let Some(kill) = desk.overdue(&hold) {
                crew.escalate(reactor, kill.worker, kill.generation, kill.rung(), What::TimedOut { limit });
            }
        }
        Some(limit)
    }
}
