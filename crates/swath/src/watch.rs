//! Chunks that take too long: noticed by samples, not by one time stamp.
//!
//! Time passes for a chunk only from sample to sample, and never more than two intervals at once. A machine that was suspended,
//! or a coordinator that was stopped, therefore does not kill workers that were stopped with it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use swath_segment::{Reactor, Service};

use crate::cause::What;
use crate::crew::{Crew, Rung};
use crate::limits::{SAMPLE_MAX, SAMPLE_MIN};

/// What was seen of one worker.
#[derive(Clone, Copy, Default)]
struct Sample {
    generation: u16,
    claims: u64,
    held_for: Duration,
    told: bool,
}

/// Watches the workers of a crew until it is dropped.
pub(crate) struct Watch {
    alive: Arc<()>,
}

struct Watcher {
    crew: Weak<Crew>,
    alive: Weak<()>,
    epoch: u32,
    limit: Duration,
    interval: Duration,
    last: Instant,
    samples: Vec<Sample>,
}

impl Watch {
    /// Kills workers that have had the same chunk of `epoch` for longer than `limit`.
    pub(crate) fn start(crew: &Arc<Crew>, epoch: u32, limit: Duration) -> Watch {
        let alive = Arc::new(());
        let interval = (limit / 8).clamp(SAMPLE_MIN, SAMPLE_MAX);
        let watcher = Watcher {
            crew: Arc::downgrade(crew),
            alive: Arc::downgrade(&alive),
            epoch,
            limit,
            interval,
            last: Instant::now(),
            samples: vec![Sample::default(); crew.board.workers()],
        };
        Service::global().post(move |reactor| watcher.sleep(reactor));
        Watch { alive }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        debug_assert_eq!(Arc::strong_count(&self.alive), 1);
    }
}

impl Watcher {
    fn sleep(self, reactor: &mut Reactor) {
        reactor.after(self.interval, Box::new(move |reactor| self.look(reactor)));
    }

    fn look(mut self, reactor: &mut Reactor) {
        let Some(crew) = self.crew.upgrade().filter(|_| self.alive.strong_count() > 0) else { return };
        let now = Instant::now();
        let passed = now.saturating_duration_since(self.last).min(2 * self.interval);
        self.last = now;
        for index in 0..self.samples.len() {
            self.look_at(&crew, reactor, index, passed);
        }
        self.sleep(reactor);
    }

    fn look_at(&mut self, crew: &Arc<Crew>, reactor: &mut Reactor, index: usize, passed: Duration) {
        let (generation, present) = {
            let state = crew.lock();
            let member = &state.members[index];
            (member.slot.generation, member.is_present())
        };
        let cell = crew.board.cell(index);
        let (claims, busy) = (cell.claims.load(Ordering::Relaxed), cell.current(self.epoch).is_some());
        let sample = &mut self.samples[index];
        if !present || !busy || (sample.generation, sample.claims) != (generation, claims) {
            *sample = Sample { generation, claims, ..Sample::default() };
            return;
        }
        sample.held_for += passed;
        if sample.held_for >= self.limit && !sample.told {
            sample.told = true;
            crew.escalate(reactor, index, generation, Rung::Ask, What::TimedOut { limit: self.limit });
        }
    }
}
