//! The rivals: other systems' primitives between processes, put through the same battery as ours.
//!
//! A party is killed while it holds, while it waits, and at every instruction in between until something fails; then a
//! survivor tries to go on, two seconds at most. What is printed is what was seen.

mod glibc;
mod glibc_barrier;
mod glibc_condition;
mod lock;
mod multiprocessing;
mod raw_sync;
mod swath;
mod table;

use crate::battery::{Battery, Form, Outcome as Strike, Tally};
use crate::scenario::Case;
use crate::surroundings::Surroundings;
use crate::watchdog::DEADLINE;
use table::Outcome;

/// A party killed in one place of one primitive.
struct Trial {
    system: String,
    primitive: &'static str,
    place: &'static str,
    form: Form,
    case: Case,
}

/// Plays all trials; gives (tried, not tried).
pub(crate) fn run() -> Result<(usize, usize), String> {
    let battery = Battery::new().map_err(|error| error.to_string())?;
    let (mut tried, mut missed) = (0, 0);
    table::head();
    for trial in trials() {
        let tally = battery.play(&trial.case, trial.form, |_, _| {});
        match outcome(&tally) {
            Some(outcome) => {
                let points = points(&tally, trial.form);
                table::row(&trial.system, trial.primitive, trial.place, &outcome, &points);
                tried += 1;
            }
            None => {
                println!("NOT TRIED: {} {}, {}", trial.system, trial.primitive, trial.place);
                missed += 1;
            }
        }
    }
    battery.close()?;
    let Some(system) = multiprocessing::system() else {
        println!("SKIPPED: Python's multiprocessing (there is no python3)");
        return Ok((tried, missed));
    };
    for (primitive, place) in multiprocessing::TRIALS {
        let before = Surroundings::take();
        let mut outcome = multiprocessing::play(primitive, place)?;
        if let Err(left) = before.compare(DEADLINE) {
            outcome = Outcome::Leaks(left);
        }
        table::row(&system, primitive, place, &outcome, "1");
        tried += 1;
    }
    Ok((tried, missed))
}

fn trials() -> Vec<Trial> {
    let glibc = glibc::system();
    let raw_sync = "raw_sync 0.1".to_owned();
    let mut trials = Vec::new();
    let mut add = |system: &str, primitive, cases: Vec<(&'static str, Form, Case)>| {
        trials.extend(cases.into_iter().map(|(place, form, case)| {
            let system = system.to_owned();
            Trial { system, primitive, place, form, case }
        }));
    };
    add(&glibc, "mutex", lock::cases(glibc::Mutex { robust: false }));
    add(&glibc, "robust mutex", lock::cases(glibc::Mutex { robust: true }));
    add(&glibc, "rwlock, reader", lock::cases(glibc::RwLock { victim_reads: true }));
    add(&glibc, "rwlock, writer", lock::cases(glibc::RwLock { victim_reads: false }));
    add(&glibc, "semaphore", lock::cases(glibc::Semaphore));
    add(&glibc, "barrier", glibc_barrier::cases());
    add(&glibc, "condition", glibc_condition::cases());
    add(&raw_sync, "Mutex", lock::cases(raw_sync::Mutex));
    add(&raw_sync, "Event", raw_sync::event_cases());
    add("swath", "Mutex", lock::cases(swath::Ours::Mutex));
    add("swath", "RwLock, reader", lock::cases(swath::Ours::RwLock { victim_reads: true }));
    add("swath", "RwLock, writer", lock::cases(swath::Ours::RwLock { victim_reads: false }));
    add("swath", "Semaphore", lock::cases(swath::Ours::Semaphore));
    trials
}

fn outcome(tally: &Tally) -> Option<Outcome> {
    let failure = tally.failures.first().map(|failure| &failure.outcome);
    match failure {
        Some(Strike::Hung(_)) => Some(Outcome::Hangs),
        Some(Strike::Wrong(what)) if what.contains("left behind") => Some(Outcome::Leaks(what.clone())),
        Some(Strike::Wrong(what)) => {
            Some(Outcome::Wrong(what.split_once(": ").map_or(what.as_str(), |w| w.1).to_owned()))
        }
        Some(Strike::Fine(_)) | None if tally.recovered > 0 => Some(Outcome::Recovers),
        Some(Strike::Fine(_)) | None => (tally.clean > 0).then_some(Outcome::Survives),
    }
}

/// How many points were tried; of a search that ended at a failure, where that was.
fn points(tally: &Tally, form: Form) -> String {
    let tried = tally.clean + tally.recovered + tally.hung + tally.wrong;
    match tally.failures.first() {
        Some(failure) if form == Form::UntilCaught => {
            format!("{tried}, until step {} of {}", failure.point, tally.steps)
        }
        _ => tried.to_string(),
    }
}
