//! From the last accumulator to what the user gets.

use super::answer::Answer;
use super::error::Error;
use super::fault::{Fault, Report};
use super::input;
use super::lines::Lines;
use super::partial::Partial;
use super::plan::Plan;
use super::record::quoted;
use super::settings::OnError;
use super::table::Table;
use std::io::{self, Write};

/// Malformed records that are described to the user.
const DESCRIBED: usize = 10;

/// A finished job.
#[derive(Debug)]
pub struct Outcome {
    /// One row per group.
    pub answer: Answer,
    /// How many records were left out.
    pub rejected: u64,
    /// The first of them in the input, described.
    pub first_rejects: Vec<Report>,
    rejects: Vec<Fault>,
}

impl Outcome {
    /// Decides what the accumulator of all chunks amounts to.
    pub fn new(plan: &Plan, whole: Partial) -> Result<Outcome, Error> {
        input::unchanged(&plan.sources)?;
        let mut lines = Lines::new(plan);
        if let Some(fault) = whole.rejects.first_fatal() {
            return Err(Error::Malformed(Box::new(fault.report(plan, &mut lines)?)));
        }
        let rejected = whole.rejects.count();
        let rejects = whole.rejects.into_kept();
        let first = rejects.iter().take(DESCRIBED).map(|fault| fault.report(plan, &mut lines));
        let first_rejects = first.collect::<Result<Vec<_>, _>>()?;
        if let (OnError::Skip { max: Some(limit), .. }, Some(first)) = (plan.on_error, first_rejects.first())
            && rejected > limit
        {
            return Err(Error::TooManyRejects { found: rejected, limit, first: Box::new(first.clone()) });
        }
        let table = whole.table.unwrap_or_else(|| Table::new(plan));
        Ok(Outcome { answer: Answer::new(plan, &table), rejected, first_rejects, rejects })
    }

    /// Writes the records that were left out as a CSV file: where each stands, what is wrong with it, and the record.
    ///
    /// Needs [`OnError::Skip`] with `keep`; without it, only the first few are known.
    pub fn write_rejects(&self, plan: &Plan, out: &mut dyn Write) -> Result<(), RejectsError> {
        let mut lines = Lines::new(plan);
        writeln!(out, "file,line,column,found,expected,record")?;
        for fault in &self.rejects {
            let report = fault.report(plan, &mut lines)?;
            let record = lines.text(fault.file, fault.record, fault.length)?;
            let column = report.column.map(|(name, _)| name).unwrap_or_default();
            let file = report.path.to_string_lossy().into_owned();
            let line = report.line.to_string();
            let fields = [&file, &line, &column, &report.found, &report.expected].map(|text| text.as_bytes());
            for field in fields {
                out.write_all(&quoted(field, b','))?;
                out.write_all(b",")?;
            }
            out.write_all(&quoted(&record, b','))?;
            out.write_all(b"\n")?;
        }
        Ok(())
    }
}

/// Why the rejected records could not be written.
#[derive(Debug, thiserror::Error)]
pub enum RejectsError {
    /// They could not be read again.
    #[error(transparent)]
    Read(#[from] Error),
    /// They could not be written.
    #[error(transparent)]
    Write(#[from] io::Error),
}
