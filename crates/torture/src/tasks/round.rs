//! A round: a pool, players and a killer, an end of the pool; then every task is looked at.

use std::sync::atomic::{AtomicBool, Ordering};

use swath::Pool;

use super::ending::Ending;
use super::judge::{Facts, Record};
use super::killer::{self, Mood};
use super::player::Player;
use super::remains::Remains;
use super::tally::{Counts, Tally};
use super::watch;
use crate::chaos::dice::Dice;

/// Kills of one round.
const KILLS: usize = 80;

/// See the module.
pub(crate) struct Round {
    number: u64,
    workers: usize,
    players: usize,
    mood: Mood,
    /// Whether tasks may be the end of the pool.
    breaking: bool,
    quota: u64,
    ending: Ending,
    dice: Dice,
}

impl Round {
    /// As the dice fall.
    pub(crate) fn new(dice: &mut Dice, number: u64) -> Round {
        Round {
            number,
            workers: 1 + dice.below(3),
            players: 1 + dice.below(3),
            mood: [Mood::Storm, Mood::Storm, Mood::Storm, Mood::Calm, Mood::Calm, Mood::Quiet][dice.below(6)],
            breaking: dice.below(6) == 0,
            quota: 5 + dice.below(KILLS) as u64,
            ending: Ending::choose(dice),
            dice: Dice::new(dice.roll()),
        }
    }

    /// Plays it; what was wrong.
    pub(crate) fn play(mut self, tally: &mut Tally, goal: u64, before: Option<&Remains>) -> Vec<String> {
        watch::doing(format!("round {}: builds a pool of {}", self.number, self.workers));
        let pool = match Pool::builder().workers(self.workers).build() {
            Ok(pool) => pool,
            Err(error) => return vec![format!("no pool: {error}")],
        };
        let facts = Facts::default();
        let quota = self.quota.min(goal - tally.kills());
        let (players, mut kills) = self.turn(&pool, &facts, quota);
        let (mut fouls, mut counts, mut left) =
            (Vec::new(), Counts::default(), Vec::<(Record, Option<&str>)>::new());
        for player in players {
            fouls.extend(player.fouls);
            player.counts.ends.into_iter().for_each(|(how, n)| *counts.ends.entry(how).or_default() += n);
            player.counts.acts.into_iter().for_each(|(what, n)| *counts.acts.entry(what).or_default() += n);
            left.extend(player.left.into_iter().map(|record| (record, None)));
            left.extend(player.judged.into_iter().map(|(record, how)| (record, Some(how))));
        }
        fouls.extend(before.and_then(|before| before.compare_with_pool(self.workers).err()));
        watch::doing(format!("round {}: {}", self.number, self.ending.name()));
        counts.act(self.ending.name());
        kills += self.ending.end(pool, &facts, &mut self.dice);
        for (record, how) in &left {
            fouls.extend(after_all(record, *how, &facts, &mut counts).err());
        }
        watch::done();
        tally.add(kills, &counts);
        let heading = format!("round {}, {} workers, {}", self.number, self.workers, self.ending.name());
        fouls.into_iter().map(|foul| format!("{heading}: {foul}")).collect()
    }

    /// Players play until the killer has done its part.
    fn turn(&mut self, pool: &Pool, facts: &Facts, quota: u64) -> (Vec<Player>, u64) {
        let over = AtomicBool::new(false);
        let (number, mood, breaking) = (self.number, self.mood, self.breaking);
        std::thread::scope(|scope| {
            let players: Vec<_> = (0..self.players)
                .map(|n| {
                    let player = Player::new(Dice::new(self.dice.roll()), breaking);
                    let (over, facts) = (&over, &facts);
                    let body = move || player.play(pool, facts, over);
                    let name = format!("player {n} of round {number}");
                    std::thread::Builder::new().name(name).spawn_scoped(scope, body).expect("a thread")
                })
                .collect();
            let kills = killer::kill(pool, facts, Dice::new(self.dice.roll()), mood, quota);
            over.store(true, Ordering::SeqCst);
            (players.into_iter().map(|player| player.join().expect("players do not panic")).collect(), kills)
        })
    }
}

/// The pool is gone, or about to be: the task is over, or soon, as it must be; and its callbacks were called, once each.
fn after_all(
    record: &Record,
    before: Option<&'static str>,
    facts: &Facts,
    counts: &mut Counts,
) -> Result<(), String> {
    watch::doing(format!("the end of {}", record.describe()));
    record.task.wait();
    let how = record.judge(facts)?;
    match before {
        None => counts.end(how),
        Some(before) if before == how => {}
        Some(before) => return Err(format!("{}: first {before}, then {how}", record.describe())),
    }
    let order = &record.order;
    let told = || order.told.load(Ordering::SeqCst);
    watch::doing(format!("callbacks of {}, {} of {}", record.describe(), told(), order.callbacks));
    while told() < order.callbacks {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    match told() == order.callbacks {
        true => Ok(()),
        false => Err(format!("{}: {} calls of {} callbacks", record.describe(), told(), order.callbacks)),
    }
}
