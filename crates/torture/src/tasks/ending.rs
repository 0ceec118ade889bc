//! The ways in which a pool ends, each with workers that are killed meanwhile.

use std::sync::atomic::Ordering;
use std::time::Duration;

use swath::Pool;

use super::judge::Facts;
use super::killer;
use crate::chaos::dice::Dice;

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending {
    Drop,
    Terminate,
    CloseAndJoin,
    ShutdownAndWait,
    ShutdownInBackground,
    CancelAndWait,
    CancelInBackground,
}

impl Ending {
    pub(crate) fn choose(dice: &mut Dice) -> Ending {
        const ALL: [Ending; 7] = [
            Ending::Drop,
            Ending::Terminate,
            Ending::CloseAndJoin,
            Ending::ShutdownAndWait,
            Ending::ShutdownInBackground,
            Ending::CancelAndWait,
            Ending::CancelInBackground,
        ];
        ALL[dice.below(ALL.len())]
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Ending::Drop => "pool dropped",
            Ending::Terminate => "pool terminated",
            Ending::CloseAndJoin => "pool closed and joined",
            Ending::ShutdownAndWait => "pool shut down, waiting",
            Ending::ShutdownInBackground => "pool shut down in the background",
            Ending::CancelAndWait => "pool shut down, what is pending cancelled, waiting",
            Ending::CancelInBackground => "pool shut down in the background, what is pending cancelled",
        }
    }

    /// Whether tasks that are not over may be cancelled by it.
    fn cancels(self) -> bool {
        !matches!(self, Ending::CloseAndJoin | Ending::ShutdownAndWait | Ending::ShutdownInBackground)
    }

    /// Ends the pool; how many workers were killed meanwhile.
    pub(crate) fn end(self, pool: Pool, facts: &Facts, dice: &mut Dice) -> u64 {
        facts.ended.store(self.cancels(), Ordering::SeqCst);
        // Those that are there now: nobody knows of others, once the pool is out of our hands.
        let victims = if dice.below(2) == 0 { killer::present(&pool) } else { Vec::new() };
        let mut fate = Dice::new(dice.roll());
        std::thread::scope(|scope| {
            let killer = scope.spawn(move || {
                std::thread::sleep(Duration::from_micros(fate.below(3000) as u64));
                victims.iter().map(|victim| killer::strike(victim, facts, &mut fate)).sum::<u64>()
            });
            match self {
                Ending::Drop => drop(pool),
                Ending::Terminate => pool.terminate(),
                Ending::CloseAndJoin => {
                    pool.close();
                    pool.join();
                }
                Ending::ShutdownAndWait => pool.shutdown(true, false),
                Ending::ShutdownInBackground => pool.shutdown(false, false),
                Ending::CancelAndWait => pool.shutdown(true, true),
                Ending::CancelInBackground => pool.shutdown(false, true),
            }
            killer.join().expect("the killer does not panic")
        })
    }
}
