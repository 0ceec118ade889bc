//! `swath csv`: group-by over CSV files.
//!
//! Flags are checked in `flags.rs` without touching a file; here the job runs, and in `report.rs` it is accounted for.

mod flags;
mod report;

pub(crate) use flags::Flags;

use crate::exit::{Exit, failed, usage};
use crate::input::Inputs;
use crate::output;
use crate::progress::Progress;
use flags::Wanted;
use report::Report;
use std::io;
use std::time::Instant;
use swath::{ErrorKind, Pool};
use swath_jobs::csv::{Error, Finished, Format, Plan, RejectsError, run};

pub(crate) fn main(flags: Flags) -> Exit {
    let wanted = match flags.check() {
        Ok(wanted) => wanted,
        Err(why) => return usage(why),
    };
    let mut report = Report::new();
    let exit = match work(&wanted, &mut report) {
        Ok(exit) => exit,
        Err(failure) => {
            report.failure = Some(failure.why.clone());
            if failure.exit != Exit::Interrupted || !wanted.quiet {
                failed(&failure.why);
            }
            failure.exit
        }
    };
    match report.write(wanted.report.as_deref(), exit) {
        Ok(()) => exit,
        Err(why) => failed(why),
    }
}

/// The reason why there is no result.
struct Failure {
    why: String,
    exit: Exit,
}

impl From<String> for Failure {
    fn from(why: String) -> Failure {
        Failure { why, exit: Exit::Failed }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let interrupted = matches!(&error, Error::Engine(engine) if engine.kind() == ErrorKind::Interrupted);
        Failure { why: error.to_string(), exit: if interrupted { Exit::Interrupted } else { Exit::Failed } }
    }
}

fn work(wanted: &Wanted, report: &mut Report) -> Result<Exit, Failure> {
    let mut clock = Instant::now();
    let mut lap = || std::mem::replace(&mut clock, Instant::now()).elapsed();
    let inputs = Inputs::open(&wanted.files)?;
    let plan = Plan::new(&inputs.inputs, &wanted.settings)?;
    report.times.plan = lap();
    let mut builder = Pool::builder().handle_interrupts(true);
    if let Some(workers) = wanted.workers {
        builder = builder.workers(workers);
    }
    let pool = builder.build().map_err(Error::from)?;
    report.workers = pool.workers();
    report.times.start = lap();
    let mut progress = Progress::new(wanted.progress);
    let finished = run(&pool, &plan, &wanted.options, |phase, now| progress.show(phase, now));
    progress.end();
    let finished = finished?;
    report.times.work = lap();
    drop(pool);
    report.times.stop = lap();
    write(wanted, &plan, &finished)?;
    report.times.write = lap();
    let exit = left_out(wanted, &finished);
    report.finished = Some(finished);
    Ok(exit)
}

fn write(wanted: &Wanted, plan: &Plan, finished: &Finished) -> Result<(), String> {
    let format = wanted.format.unwrap_or(match wanted.output {
        None if output::is_terminal() => Format::Table,
        _ => Format::Csv,
    });
    if let Some(path) = &wanted.rejects {
        output::write(Some(path), |out| {
            finished.outcome.write_rejects(plan, out).map_err(|error| match error {
                RejectsError::Write(error) => error,
                RejectsError::Read(error) => io::Error::other(error.to_string()),
            })
        })?;
    }
    output::write(wanted.output.as_deref(), |out| finished.outcome.answer.write(format, out))
}

/// Lists what is not in the answer.
fn left_out(wanted: &Wanted, finished: &Finished) -> Exit {
    let outcome = &finished.outcome;
    if outcome.rejected == 0 && finished.left_out.is_empty() {
        return Exit::Done;
    }
    if !wanted.quiet {
        if outcome.rejected > 0 {
            eprintln!("swath: left out {} malformed records", outcome.rejected);
        }
        for reject in &outcome.first_rejects {
            eprintln!("  {reject}");
        }
        let more = outcome.rejected.saturating_sub(outcome.first_rejects.len() as u64);
        if more > 0 {
            eprintln!("  and {more} more");
        }
        for part in &finished.left_out {
            let (path, lo, hi) = (part.path.display(), part.lo, part.hi);
            eprintln!(
                "swath: left out the records that begin in bytes {lo} to {hi} of {path}: {}",
                part.cause
            );
        }
    }
    Exit::LeftOut
}
