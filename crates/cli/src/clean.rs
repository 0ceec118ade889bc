//! `swath clean`: removes what dead sessions left behind.

use crate::exit::{Exit, failed};
use crate::output;
use crate::size::Size;
use clap::Args;
use std::io::{self, Write};
use swath::admin;
use swath::segment::admin::CleanReport;

/// Remove the segments of dead sessions of this user, and only those
#[derive(Args)]
#[command(after_help = "Example:\n  swath clean --dry-run")]
pub(crate) struct Flags {
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn main(flags: &Flags) -> Exit {
    let report = match admin::clean(flags.dry_run) {
        Ok(report) => report,
        Err(error) => return failed(error),
    };
    if let Err(error) = output::write(None, |out| list(&report, flags.dry_run, out)) {
        return failed(error);
    }
    for failure in &report.failed {
        eprintln!("swath: {failure}");
    }
    if report.failed.is_empty() { Exit::Done } else { Exit::LeftOut }
}

fn list(report: &CleanReport, dry_run: bool, out: &mut dyn Write) -> io::Result<()> {
    let verb = if dry_run { "would remove" } else { "removed" };
    for session in &report.cleaned {
        let (id, pid, size) = (&session.id, session.owner_pid, Size(session.bytes));
        writeln!(out, "{verb} session {id} of process {pid}: {} names, {size}", session.names.len())?;
        for name in &session.names {
            writeln!(out, "  {name}")?;
        }
        for pid in &session.programs {
            let verb = if dry_run { "would kill" } else { "killed" };
            writeln!(out, "  {verb} program {pid}, which its workers had started")?;
        }
        if let Some(layout) = &session.other_layout {
            writeln!(out, "  (of another build, {layout}: its segments stay)")?;
        }
    }
    Ok(())
}
