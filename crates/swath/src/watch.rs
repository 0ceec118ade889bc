//! Chunks that take too long: noticed by samples.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use swath_segment::{Reactor, Service};

use crate::cause::What;
use crate::crew::{Crew, Rung};
use crate::limits::{SAMPLE_MAX, SAMPLE_MIN};
use crate::samples::{Beat, Sample};

/// Watches the workers of a crew until it is dropped.
pub(crate) struct Watch {
    alive: Arc<()>,
}

struct Watcher {
    crew: Weak<Crew>,
    alive: Weak<()>,
    epoch: u32,
    limit: Duration,
    beat: Beat,
    /// By generation and claim.
    samples: Vec<Sample<(u16, u64)>>,
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
            beat: Beat::new(interval),
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
        reactor.after(self.beat.interval, Box::new(move |reactor| self.look(reactor)));
    }

    fn look(mut self, reactor: &mut Reactor) {
        let Some(crew) = self.crew.upgrade().filter(|_| self.alive.strong_count() > 0) else { return };
        let passed = self.beat.passed();
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
        let in_hand = (present && busy).then_some((generation, claims));
        if self.samples[index].is_overdue(in_hand, passed, self.limit) {
            crew.escalate(reactor, index, generation, Rung::Ask, What::TimedOut { limit: self.limit });
        }
    }
}
