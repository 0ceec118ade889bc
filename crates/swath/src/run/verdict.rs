//! What a phase has come to: its report, its error, and what became of the rows.

use std::time::{Duration, Instant};

use swath_platform::signal;

use super::fence::End;
use super::plan::Plan;
use crate::board::Board;
use crate::descriptor::Mode;
use crate::error::{ErrorKind, Result, RowsLeft};
use crate::ledger::State as Entry;
use crate::recovery::Recovery;
use crate::report::Report;

/// The phase's account.
pub(crate) fn report(plan: &Plan<'_>, recovery: &Recovery, board: &Board, began: Instant) -> Report {
    let mut report = Report::new(&plan.settings.name, board.workers());
    report.chunks = plan.geometry.chunks();
    report.rows_per_chunk = plan.geometry.rows_per_chunk();
    report.committed_by_worker = board.cells().map(|cell| u64::from(cell.done(recovery.epoch))).collect();
    report.retried = recovery.retried;
    report.killed_in_chunk = recovery.killed_in_chunk;
    report.workers_lost = recovery.workers_lost;
    report.failed = recovery.failed.values().cloned().collect();
    report.wall = began.elapsed();
    report
}

/// The phase's error, if it has one.
pub(crate) fn conclude(plan: &Plan<'_>, end: End, recovery: &Recovery, report: &Report) -> Result<()> {
    let name = if plan.settings.name.is_empty() {
        "the phase".to_owned()
    } else {
        format!("phase `{}`", plan.settings.name)
    };
    let error = match end {
        End::Complete if report.failed.is_empty() || plan.settings.keep_going => return Ok(()),
        End::Complete | End::Failed if plan.team.is_some() => {
            ErrorKind::Team.with(format!("{name}: a member of the team failed"))
        }
        End::Complete | End::Failed => {
            let (failed, all) = (report.failed.len(), report.chunks);
            ErrorKind::Failed.with(format!("{name}: {failed} of {all} chunks failed"))
        }
        End::Deadline => {
            let after = plan.settings.deadline.unwrap_or(Duration::ZERO);
            ErrorKind::Deadline.with(format!("{name} was not done after {after:?}"))
        }
        End::Interrupted => {
            let by = signal::caught().map_or_else(|| "the program".to_owned(), signal::name);
            ErrorKind::Interrupted.with(format!("{name} was interrupted by {by}"))
        }
        End::NoWorkers => {
            ErrorKind::NoWorkers.with(format!("{name}: all workers are gone and no new ones come up"))
        }
    };
    Err(error.with_failures(report.failed.clone()).with_rows(rows_left(plan, recovery)))
}

/// What became of the rows, as ranges.
fn rows_left(plan: &Plan<'_>, recovery: &Recovery) -> RowsLeft {
    let mut left = RowsLeft::default();
    let writes_out = plan.operands.iter().any(|o| o.mode == Mode::Out);
    let ledger = recovery.ledger();
    for chunk in 0..ledger.len() {
        let entry = ledger.entry(chunk);
        let torn = plan.team.is_some()
            || (writes_out && (entry.attempt() > 0 || entry.state() == Some(Entry::Failed)));
        let list = match entry.state() {
            Some(Entry::Done) => &mut left.done,
            _ if torn => &mut left.unknown,
            _ => &mut left.untouched,
        };
        let rows = recovery.geometry.rows_of(chunk);
        match list.last_mut() {
            Some(last) if last.end == rows.start => last.end = rows.end,
            _ => list.push(rows),
        }
    }
    left
}
