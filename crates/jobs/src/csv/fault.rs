//! What is wrong with a record: first as a place, then as a sentence.
//!
//! A worker notes a [`Fault`], which is a few numbers. Only when the job is over and one of them is to be shown does the
//! coordinator go back to the file, count lines, and make a [`Report`] of it.

use super::error::Error;
use super::lines::Lines;
use super::plan::Plan;
use super::record;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// Bytes of a field that a report shows.
const SHOWN: u64 = 60;

/// Which rule was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// A value that is neither a number nor a null text.
    NotANumber,
    /// A record with that many fields.
    Fields(u64),
    /// A quote inside a field that does not begin with one, or behind the one that closes it.
    StrayQuote,
    /// A quote that nothing closes.
    OpenQuote,
}

/// A malformed record. The order of faults is the order of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Fault {
    /// Which of the plan's files.
    pub file: u32,
    /// Where the record begins.
    pub record: u64,
    /// How long it is, without its line break; 0 if nobody can say.
    pub length: u64,
    /// Where the trouble is: the field, or the quote.
    pub at: u64,
    /// How long the field is.
    pub field: u64,
    /// In which column, counted from 0.
    pub column: u32,
    /// Which rule was broken.
    pub kind: Kind,
}

impl Fault {
    /// Whether nothing behind this record can be trusted.
    pub fn is_fatal(&self) -> bool {
        matches!(self.kind, Kind::StrayQuote | Kind::OpenQuote)
    }

    /// Says it in words; `lines` goes back to the file for that.
    pub(crate) fn report(&self, plan: &Plan, lines: &mut Lines) -> Result<Report, Error> {
        let place = if matches!(self.kind, Kind::Fields(_)) { self.record } else { self.at };
        let (found, expected) = self.words(plan, lines)?;
        Ok(Report {
            path: plan.sources[self.file as usize].name.clone(),
            line: lines.line(self.file, place)?,
            column: self.column_name(plan),
            found,
            expected,
        })
    }

    fn column_name(&self, plan: &Plan) -> Option<(String, usize)> {
        let column = self.column as usize;
        let name = plan.columns.get(column).filter(|_| !matches!(self.kind, Kind::Fields(_)))?;
        Some((name.clone(), column + 1))
    }

    fn words(&self, plan: &Plan, lines: &Lines) -> Result<(String, String), Error> {
        let columns = || plan.columns.len().to_string();
        Ok(match self.kind {
            Kind::NotANumber => {
                (shown(&lines.text(self.file, self.at, self.field.min(SHOWN + 1))?), "a number".to_owned())
            }
            Kind::Fields(1) => ("1 field".to_owned(), columns()),
            Kind::Fields(count) => (format!("{count} fields"), columns()),
            Kind::StrayQuote => (
                "a quote in the middle of a field".to_owned(),
                "quotes around the whole field, and doubled inside it".to_owned(),
            ),
            Kind::OpenQuote => ("a quote that is never closed".to_owned(), "a closing quote".to_owned()),
        })
    }
}

/// A field between quotes, shortened if it is long.
fn shown(field: &[u8]) -> String {
    let short = &field[..field.len().min(SHOWN as usize)];
    let text = String::from_utf8_lossy(&record::unquoted(short)).into_owned();
    format!("{text:?}{}", if short.len() < field.len() { " …" } else { "" })
}

/// What the user is told about a malformed record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The file.
    pub path: PathBuf,
    /// The line, counted from 1.
    pub line: u64,
    /// Name and number of the column, if it is about one.
    pub column: Option<(String, usize)>,
    /// What stands there.
    pub found: String,
    /// What should.
    pub expected: String,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, line {}", self.path.display(), self.line)?;
        if let Some((name, number)) = &self.column {
            write!(f, ", column {name:?} ({number})")?;
        }
        write!(f, ": found {}, expected {}", self.found, self.expected)
    }
}
