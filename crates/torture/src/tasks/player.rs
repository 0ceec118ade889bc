//! A player: plays acts on a pool until it is told to leave, and holds every task against the model.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use swath::{ErrorKind, Pool, Priority};

use super::acts;
use super::deed::{Deed, perform};
use super::judge::{Facts, Order, Record, Wishes};
use super::tally::Counts;
use super::watch;
use crate::chaos::dice::Dice;

/// After so many fouls there is no more to learn from this round.
const FOULS_MAX: usize = 3;
/// More retries than there will be kills: whatever happens, it is run in the end.
pub(crate) const ALWAYS: u32 = 100_000;
/// Tasks whose handles are kept beyond their end, to be looked at again when the pool is gone.
const KEPT_MAX: usize = 300;

/// See the module.
pub(crate) struct Player {
    pub(crate) dice: Dice,
    /// Whether tasks may be the end of the pool.
    pub(crate) breaking: bool,
    pub(crate) counts: Counts,
    pub(crate) fouls: Vec<String>,
    /// Tasks that nobody has waited for.
    pub(crate) left: Vec<Record>,
    /// Tasks that are over, and how.
    pub(crate) judged: Vec<(Record, &'static str)>,
}

impl Player {
    pub(crate) fn new(dice: Dice, breaking: bool) -> Player {
        let (counts, fouls, left, judged) = (Counts::default(), Vec::new(), Vec::new(), Vec::new());
        Player { dice, breaking, counts, fouls, left, judged }
    }

    /// Plays one act after the other.
    pub(crate) fn play(mut self, pool: &Pool, facts: &Facts, over: &AtomicBool) -> Player {
        while !over.load(Ordering::SeqCst) && self.fouls.len() < FOULS_MAX {
            let act = acts::choose(&mut self.dice, self.breaking);
            self.counts.act(act.name);
            watch::doing(act.name);
            (act.play)(&mut self, pool, facts);
            watch::done();
        }
        self
    }

    pub(crate) fn micros(&mut self, below: usize) -> Duration {
        Duration::from_micros(self.dice.below(below) as u64)
    }

    /// Submits one; a broken pool is repaired first. `None` is a foul, which is noted.
    pub(crate) fn submit(
        &mut self,
        pool: &Pool,
        facts: &Facts,
        deed: Deed,
        wishes: Wishes,
    ) -> Option<Record> {
        if wishes.breaks {
            facts.may_break.store(true, Ordering::SeqCst);
        }
        let priority = [Priority::High, Priority::Normal, Priority::Low][self.dice.below(3)];
        loop {
            let mut call = pool.submit_with(perform, deed.clone()).retries(wishes.retries).priority(priority);
            if let Some(limit) = wishes.timeout {
                call = call.timeout(limit);
            }
            if let Some(worker) = wishes.worker {
                call = call.on_worker(worker);
            }
            if wishes.breaks {
                call = call.break_pool_on_death();
            }
            match call.submit() {
                Ok(task) => {
                    let order =
                        Order { deed, wishes, cancels: Vec::new(), told: Arc::default(), callbacks: 0 };
                    return Some(Record { order, task });
                }
                Err(error) if error.kind() == ErrorKind::Broken && facts.may_break.load(Ordering::SeqCst) => {
                    pool.reset();
                }
                Err(error) => {
                    self.fouls.push(format!("{} is refused: {error}", deed.name()));
                    return None;
                }
            }
        }
    }

    /// Wants to be told of its end.
    pub(crate) fn register(&mut self, record: &mut Record) {
        let told: Arc<AtomicU32> = record.order.told.clone();
        record.order.callbacks += 1;
        record.task.add_done_callback(move |task| {
            // One that is told too early is told twice: that is what is counted.
            told.fetch_add(1 + u32::from(!task.done()), Ordering::SeqCst);
            watch::progress();
        });
    }

    /// Waits until it is over, however long that takes, and judges.
    pub(crate) fn finish(&mut self, record: Record, facts: &Facts) {
        watch::doing(record.describe());
        record.task.wait();
        self.judge(record, facts);
    }

    /// It must be over.
    pub(crate) fn judge(&mut self, record: Record, facts: &Facts) {
        watch::progress();
        match record.judge(facts) {
            Err(foul) => self.fouls.push(foul),
            Ok(how) => {
                self.counts.end(how);
                if record.order.callbacks > 0 || self.judged.len() < KEPT_MAX && self.dice.below(8) == 0 {
                    self.judged.push((record, how));
                }
            }
        }
    }

    /// Waits for all, in some order.
    pub(crate) fn finish_all(&mut self, mut records: Vec<Record>, facts: &Facts) {
        self.dice.shuffle(&mut records);
        records.into_iter().for_each(|record| self.finish(record, facts));
    }
}
