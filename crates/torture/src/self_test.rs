//! Who tests the tester: seeded bugs must be caught, by the sign expected; the sound toys must pass.

use std::time::{Duration, Instant};

use crate::battery::{Battery, Failure, Form, Outcome};
use crate::report::Progress;
use crate::seeded::{self, Seed, Sign};

/// Toys sleep in slices of 10 ms and the checker's deadline is only reached by a hang, so it can be short.
const DEADLINE: Duration = Duration::from_millis(700);

/// Runs all; gives (passed, failed).
pub(crate) fn run() -> Result<(usize, usize), String> {
    let mut battery = Battery::new().map_err(|error| error.to_string())?;
    battery.deadline = DEADLINE;
    let start = Instant::now();
    let mut passed = vec![counts(&battery)];
    println!("sound toys, each of which must pass:");
    for case in seeded::sound() {
        let mut progress = Progress::start(&case);
        let tally = battery.play(&case, Form::Full, |done, all| progress.at(done, all));
        progress.end(&tally);
        tally.failures.iter().for_each(|failure| crate::report::failure(&case, failure));
        passed.push(tally.passed());
    }
    println!("seeded bugs, each of which must be caught:");
    for seed in seeded::bugs() {
        passed.push(catch(&battery, &seed));
    }
    battery.close()?;
    let (caught, missed) = crate::chaos::self_test()?;
    println!("took {:.1} s", start.elapsed().as_secs_f64());
    let good = passed.iter().filter(|passed| **passed).count();
    Ok((good + caught, passed.len() - good + missed))
}

/// A hundred instructions more are a hundred steps more, and a fault comes at every one.
fn counts(battery: &Battery) -> bool {
    let (nothing, nops) = seeded::nops();
    let less = battery.play(&nothing, Form::Full, |_, _| {});
    let more = battery.play(&nops, Form::Full, |_, _| {});
    let exact = more.steps == less.steps + seeded::NOPS;
    let all = more.counters == more.struck && more.clean == more.steps + 1;
    println!(
        "{} steps are counted: {} for nothing, {} with {} instructions more; struck at {} of {} program counters",
        if exact && all { "ok  " } else { "FAIL" },
        less.steps,
        more.steps,
        seeded::NOPS,
        more.struck.len(),
        more.counters.len(),
    );
    exact && all
}

fn catch(battery: &Battery, seed: &Seed) -> bool {
    for case in &seed.cases {
        let tally = battery.play(case, Form::UntilCaught, |_, _| {});
        let caught = tally.failures.iter().find(|failure| sign_of(failure) == Some(seed.sign));
        if let Some(failure) = caught {
            let (sign, text) = match &failure.outcome {
                Outcome::Hung(text) => ("hung", text),
                Outcome::Wrong(text) => ("wrong", text),
                Outcome::Fine(_) => return false,
            };
            println!("ok   {:<76} {sign} at step {} of `{}`: {text}", seed.bug, failure.point, case.scenario);
            return true;
        }
    }
    println!("FAIL {:<76} not caught", seed.bug);
    false
}

fn sign_of(failure: &Failure) -> Option<Sign> {
    match failure.outcome {
        Outcome::Hung(_) => Some(Sign::Hung),
        Outcome::Wrong(_) => Some(Sign::Wrong),
        Outcome::Fine(_) => None,
    }
}
