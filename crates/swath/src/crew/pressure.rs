//! Memory that runs short: before the kernel kills somebody, the worker that has grown most is replaced.
//!
//! A sample on the service thread compares what is used of the tightest limit (a cgroup's, or the machine's) with the share that the pool was
//! told. Above it, one worker at a time is told to leave: the one whose private memory has grown most since it was first seen with its initializer done,
//! if that is worth it. It leaves between two tasks or phases, as after its share of tasks. The next one is told when it is gone.

use std::sync::Weak;

use swath_platform::memory;
use swath_segment::Reactor;

use super::Crew;
use crate::contract::private_bytes;
use crate::limits::{PRESSURE_LOOK, RECYCLE_WORTH_BYTES};

/// One worker, as it was first seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct First {
    generation: u16,
    bytes: u64,
}

/// The samples of one pool.
pub(super) struct Pressure {
    crew: Weak<Crew>,
    share: f64,
    seen: Vec<First>,
    /// Cell and generation of the worker that was told to leave.
    told: Option<(usize, u16)>,
}

/// A worker now: cell, generation, private memory.
type Now = (usize, u16, u64);

impl Pressure {
    /// Looks from now on, for as long as there is a crew.
    pub(super) fn start(crew: Weak<Crew>, workers: usize, share: f64, reactor: &mut Reactor) {
        Pressure { crew, share, seen: vec![First::default(); workers], told: None }.sleep(reactor);
    }

    fn sleep(self, reactor: &mut Reactor) {
        reactor.after(PRESSURE_LOOK, Box::new(move |reactor| self.look(reactor)));
    }

    fn look(mut self, reactor: &mut Reactor) {
        let Some(crew) = self.crew.upgrade() else { return };
        let present: Vec<(usize, u16, u32)> = {
            let state = crew.lock();
            // What an initializer loads is no growth.
            let at_work = |index: usize| crew.board.cell(index).is_ready();
            let members = state.members.iter().enumerate();
            let members = members.filter(|(index, member)| member.is_present() && at_work(*index));
            members.map(|(index, member)| (index, member.slot.generation, member.pid)).collect()
        };
        let now: Vec<Now> =
            present.iter().map(|&(index, generation, pid)| (index, generation, private_bytes(pid))).collect();
        let used = memory::memory_headroom().map_or(0.0, |room| used_share(room.available, room.limit));
        if let Some((index, generation)) = self.choose(&now, used) {
            tracing::info!(
                "worker {index} is replaced, since {:.0} % of the memory are in use and it has grown most",
                used * 100.0
            );
            crew.board.cell(index).tell_to_leave(generation);
            crew.board.ring_doorbell();
        }
        drop(crew);
        self.sleep(reactor);
    }

    /// Whom to tell, when `used` of the limit is in use.
    fn choose(&mut self, now: &[Now], used: f64) -> Option<(usize, u16)> {
        for &(index, generation, bytes) in now {
            let first = &mut self.seen[index];
            if first.generation != generation {
                *first = First { generation, bytes };
            }
        }
        let is_there =
            |told: (usize, u16)| now.iter().any(|&(index, generation, _)| (index, generation) == told);
        if self.told.is_some_and(is_there) || used < self.share {
            return None;
        }
        let grown = |&(index, _, bytes): &Now| bytes.saturating_sub(self.seen[index].bytes);
        let most =
            now.iter().filter(|worker| grown(worker) >= RECYCLE_WORTH_BYTES).max_by_key(|w| grown(w))?;
        self.told = Some((most.0, most.1));
        self.told
    }
}

fn used_share(available: u64, limit: u64) -> f64 {
    1.0 - available.min(limit) as f64 / limit.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_one_that_has_grown_most_leaves_and_then_the_next() {
        let mut pressure =
            Pressure { crew: Weak::new(), share: 0.9, seen: vec![First::default(); 3], told: None };
        let at = |a, b, c| [(0, 1, a * MIB), (1, 1, b * MIB), (2, 1, c * MIB)];
        assert_eq!(pressure.choose(&at(500, 10, 10), 0.95), None, "large, but not grown");
        assert_eq!(pressure.choose(&at(510, 100, 200), 0.89), None, "there is room");
        assert_eq!(pressure.choose(&at(510, 100, 200), 0.9), Some((2, 1)));
        assert_eq!(pressure.choose(&at(510, 100, 200), 0.99), None, "it has not gone yet");
        let after = [(0, 1, 510 * MIB), (1, 1, 100 * MIB), (2, 2, 10 * MIB)];
        assert_eq!(pressure.choose(&after, 0.99), Some((1, 1)));
        let after = [(0, 1, 510 * MIB), (2, 2, 20 * MIB)];
        assert_eq!(pressure.choose(&after, 0.99), None, "10 MiB are not worth it");
    }

    #[test]
    fn shares_of_odd_limits_are_shares() {
        assert_eq!(used_share(0, 0), 1.0);
        assert_eq!(used_share(50, 100), 0.5);
        assert_eq!(used_share(u64::MAX, 100), 0.0);
    }
}
