//! `swath-torture`: kills parties of swath's protocols at every instruction, and checks the survivors.
//!
//!     swath-torture steps [--op NAME] [--scenario NAME] [--full | --step K]
//!     swath-torture chaos [--kills N] [--seed S]
//!     swath-torture tasks [--kills N] [--seed S]
//!     swath-torture rivals
//!     swath-torture self-test
//!     swath-torture list
//!
//! README.md beside this crate says what a kill point is and how an operation is added.

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
compile_error!("swath-torture single-steps x86-64 processes by ptrace on Linux");

mod battery;
mod chaos;
mod forerunner;
mod ops;
mod party;
mod raw_memory;
mod report;
mod rivals;
mod room;
mod scenario;
mod seeded;
mod self_test;
mod stage;
mod surroundings;
mod tasks;
mod trace;
mod tracer;
mod victim;
mod watchdog;
mod word;

use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};

use battery::{Battery, Form, Point};
use surroundings::Privacy;

/// Exit code of a run that found a failure.
const EXIT_FAILED: u8 = 1;
/// Exit code of a run that could not begin.
const EXIT_USAGE: u8 = 2;

#[derive(Parser)]
#[command(name = "swath-torture", about = "Kills parties at every instruction and checks the survivors")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Kill the victim at every instruction of every operation.
    Steps {
        /// Only this operation.
        #[arg(long)]
        op: Option<String>,
        /// Only scenarios of this name.
        #[arg(long)]
        scenario: Option<String>,
        /// Every instruction of long operations too (the default samples those).
        #[arg(long, conflicts_with = "step")]
        full: bool,
        /// Only this kill point, as a failure names it: `117`, `117~` for asleep in the call at 117, `3:117` after the forerunner's
        /// third change.
        #[arg(long)]
        step: Option<Point>,
    },
    /// Kill parties at random moments while they play all primitives at once, and hold every result against a serial model.
    Chaos {
        /// How many deaths.
        #[arg(long, default_value_t = 3000)]
        kills: u64,
        /// Where the choices begin; another one each time if not given. Moments stay the scheduler's.
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Kill the workers of pools at random moments while tasks, maps and streams are played, and hold every end against a model.
    Tasks {
        /// How many deaths.
        #[arg(long, default_value_t = 3000)]
        kills: u64,
        /// Where the choices begin; another one each time if not given. Moments stay the scheduler's.
        #[arg(long)]
        seed: Option<u64>,
        /// This is the coordinator of such a run.
        #[arg(long, hide = true)]
        play: bool,
    },
    /// Put other systems' primitives through the same, and print what becomes of the survivors.
    Rivals,
    /// Prove the harness: every seeded bug must be caught, every sound toy must pass.
    SelfTest,
    /// Name all operations and scenarios.
    List,
}

fn main() -> ExitCode {
    ops::become_helper_process();
    tasks::become_worker();
    let arguments = Arguments::parse();
    let outcome = match arguments.command {
        Command::List => {
            list();
            return ExitCode::SUCCESS;
        }
        Command::Steps { op, scenario, full, step } => prepare().and_then(|()| {
            let form = step.map_or(if full { Form::Full } else { Form::Short }, Form::Only);
            steps(op.as_deref(), scenario.as_deref(), form)
        }),
        Command::Chaos { kills, seed } => surround().and_then(|()| {
            ops::warm_up();
            chaos::run(kills, seed.unwrap_or_else(|| u64::from(std::process::id())))
        }),
        Command::Tasks { kills, seed, play } => {
            let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
            if play {
                tasks::play(kills, seed);
            }
            surround().and_then(|()| tasks::run(kills, seed))
        }
        Command::Rivals => prepare().and_then(|()| {
            ops::warm_up();
            rivals::run()
        }),
        Command::SelfTest => prepare().and_then(|()| self_test::run()),
    };
    match outcome {
        Ok((passed, failed)) => {
            report::close(passed, failed);
            if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) }
        }
        Err(text) => {
            eprintln!("swath-torture: {text}");
            ExitCode::from(EXIT_USAGE)
        }
    }
}

/// Pins the harness and gives it surroundings of its own.
fn prepare() -> Result<(), String> {
    let cpu = tracer::pin().map_err(|error| format!("cannot pin to one processor: {error}"))?;
    println!("pinned to processor {cpu}");
    surround()
}

/// Gives the harness surroundings of its own.
fn surround() -> Result<(), String> {
    let privacy =
        surroundings::enter().map_err(|error| format!("cannot become the reaper of orphans: {error}"))?;
    match privacy {
        Privacy::Private => println!("a /dev/shm of our own"),
        Privacy::Shared => println!("the machine's /dev/shm (new names count as ours)"),
    }
    Ok(())
}

fn steps(op: Option<&str>, scenario: Option<&str>, form: Form) -> Result<(usize, usize), String> {
    let matches = |wanted: Option<&str>, name: &str| wanted.is_none_or(|wanted| wanted == name);
    let cases: Vec<_> = ops::all()
        .into_iter()
        .filter(|case| matches(op, case.operation) && matches(scenario, case.scenario))
        .collect();
    if cases.is_empty() {
        return Err("no such operation or scenario; `swath-torture list` names them".to_owned());
    }
    ops::warm_up();
    let battery = Battery::new().map_err(|error| error.to_string())?;
    let mut table = report::Table::default();
    let start = Instant::now();
    for case in &cases {
        let mut progress = report::Progress::start(case);
        let tally = battery.play(case, form, |done, all| progress.at(done, all));
        progress.end(&tally);
        tally.failures.iter().for_each(|failure| report::failure(case, failure));
        table.add(case, &tally);
    }
    let totals = table.print(form, start.elapsed());
    battery.close()?;
    Ok(totals)
}

fn list() {
    for case in ops::all() {
        println!("{:<16} {}", case.operation, case.scenario);
    }
}
