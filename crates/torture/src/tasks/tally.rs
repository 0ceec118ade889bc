//! What came of all rounds, and how it is printed.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

/// A long run says every so often how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// The sum over a run.
pub(crate) struct Tally {
    kills: u64,
    ends: BTreeMap<&'static str, u64>,
    acts: BTreeMap<&'static str, u64>,
    wrong: u64,
    leaked: u64,
    said: Instant,
}

/// Of one player, or of a round.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) ends: BTreeMap<&'static str, u64>,
    pub(crate) acts: BTreeMap<&'static str, u64>,
}

impl Counts {
    pub(crate) fn end(&mut self, how: &'static str) {
        *self.ends.entry(how).or_default() += 1;
    }

    pub(crate) fn act(&mut self, what: &'static str) {
        *self.acts.entry(what).or_default() += 1;
    }
}

impl Tally {
    /// Nothing yet.
    pub(crate) fn new() -> Tally {
        let (ends, acts) = (BTreeMap::new(), BTreeMap::new());
        Tally { kills: 0, ends, acts, wrong: 0, leaked: 0, said: Instant::now() }
    }

    pub(crate) fn add(&mut self, kills: u64, counts: &Counts) {
        self.kills += kills;
        counts.ends.iter().for_each(|(how, count)| *self.ends.entry(how).or_default() += count);
        counts.acts.iter().for_each(|(what, count)| *self.acts.entry(what).or_default() += count);
    }

    pub(crate) fn kills(&self) -> u64 {
        self.kills
    }

    /// What was found in a round.
    pub(crate) fn note(&mut self, fouls: &[String], left: Option<&str>) {
        for foul in fouls {
            self.wrong += 1;
            println!("WRONG  after {} kills: {foul}", self.kills);
        }
        if let Some(left) = left {
            self.leaked += 1;
            println!("LEAKED after {} kills: {left}", self.kills);
        }
    }

    /// Says now and then how far the run is.
    pub(crate) fn progress(&mut self, goal: u64, took: Duration) {
        if self.said.elapsed() >= PROGRESS_EVERY {
            self.said = Instant::now();
            println!("  {} of {goal} kills, {:.0} s", self.kills, took.as_secs_f64());
            let _ = std::io::stdout().flush();
        }
    }

    /// The report. A run that hung does not come so far.
    pub(crate) fn print(&self, took: Duration) {
        self.acts.iter().for_each(|(what, count)| println!("{count:>9} times {what}"));
        self.ends.iter().for_each(|(how, count)| println!("{count:>9} tasks: {how}"));
        println!(
            "{} kills in {:.1} s, {:.0} per second; {} tasks, each over once; 0 hung, {} wrong, {} leaked",
            self.kills,
            took.as_secs_f64(),
            self.kills as f64 / took.as_secs_f64(),
            self.ends.values().sum::<u64>(),
            self.wrong,
            self.leaked,
        );
    }
}
