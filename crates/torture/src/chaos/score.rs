//! What came of all kills, and how it is printed.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use super::fault::Fault;
use super::game::Foul;

/// Of all kills at least so many percent must land inside an operation, or the run proves little.
const INSIDE_MIN: f64 = 30.0;
/// A long run says every so often how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// The sum over a run.
pub(crate) struct Score {
    faults: BTreeMap<&'static str, u64>,
    places: BTreeMap<String, u64>,
    kills: u64,
    inside: u64,
    recovered: u64,
    hung: u64,
    wrong: u64,
    leaked: u64,
    said: Instant,
}

impl Score {
    /// Nothing yet.
    pub(crate) fn new() -> Score {
        let (faults, places) = (BTreeMap::new(), BTreeMap::new());
        let (kills, inside, recovered, hung, wrong, leaked) = (0, 0, 0, 0, 0, 0);
        Score { faults, places, kills, inside, recovered, hung, wrong, leaked, said: Instant::now() }
    }

    /// A confirmed death, and where the party said that it was.
    pub(crate) fn death(&mut self, fault: Fault, place: String, inside: bool) {
        *self.faults.entry(fault.name()).or_default() += 1;
        *self.places.entry(place).or_default() += 1;
        self.kills += 1;
        self.inside += u64::from(inside);
    }

    /// All deaths.
    pub(crate) fn kills(&self) -> u64 {
        self.kills
    }

    /// How a game ended; whether well.
    pub(crate) fn note(&mut self, outcome: Result<u32, Foul>) -> bool {
        match outcome {
            Ok(recovered) => {
                self.recovered += u64::from(recovered);
                return true;
            }
            Err(Foul::Hung(what)) => {
                self.hung += 1;
                println!("HUNG   after {} kills: {what}", self.kills);
            }
            Err(Foul::Wrong(what)) => {
                self.wrong += 1;
                println!("WRONG  after {} kills: {what}", self.kills);
            }
        }
        false
    }

    /// Whether nothing was left of a game.
    pub(crate) fn note_left(&mut self, outcome: Result<(), String>) -> bool {
        let Err(what) = outcome else { return true };
        self.leaked += 1;
        println!("LEAKED after {} kills: {what}", self.kills);
        false
    }

    /// Whether enough kills landed inside an operation.
    pub(crate) fn hit_enough(&self) -> bool {
        self.share() >= INSIDE_MIN
    }

    fn share(&self) -> f64 {
        100.0 * self.inside as f64 / self.kills.max(1) as f64
    }

    /// Says now and then how far the run is.
    pub(crate) fn progress(&mut self, goal: u64, took: Duration) {
        if self.said.elapsed() >= PROGRESS_EVERY {
            self.said = Instant::now();
            println!("  {} of {goal} kills, {:.0} s", self.kills, took.as_secs_f64());
            let _ = std::io::stdout().flush();
        }
    }

    /// The report.
    pub(crate) fn print(&self, took: Duration) {
        self.faults.iter().for_each(|(fault, count)| println!("{count:>8} by {fault}"));
        self.places.iter().for_each(|(place, count)| println!("{count:>8} {place}"));
        println!(
            "{} kills in {:.1} s, {:.0} per second, {:.1} % inside an operation; {} recovered, {} hung, {} wrong, {} leaked",
            self.kills,
            took.as_secs_f64(),
            self.kills as f64 / took.as_secs_f64(),
            self.share(),
            self.recovered,
            self.hung,
            self.wrong,
            self.leaked,
        );
    }
}
