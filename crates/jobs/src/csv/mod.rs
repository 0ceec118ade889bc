//! Group-by over CSV files.
//!
//! The job in the order in which it happens:
//!
//! 1. [`Settings`] say what is wanted; [`Plan`] ties them to files: it reads the first record of each, finds the
//!    columns, and notes length and modification time. Nothing else is decided later.
//! 2. The bytes behind the headers are cut into [`Chunk`]s: ranges that depend on nothing but the lengths of the files.
//! 3. First pass: the quotes of every chunk are counted ([`borders`]). A byte is inside a quoted field if the number of
//!    quotes before it is odd, so the sums of the counts say in which state every chunk begins.
//! 4. Second pass ([`scan`]): a chunk owns the records that *start* in it and reads past its end to finish the last of
//!    them. Its values go into the accumulator of whoever scans it, a [`Partial`].
//! 5. Accumulators merge into one, which becomes an [`Answer`]: sorted, exact, and the same bytes whatever the number of
//!    workers, the order of the chunks, and how often a chunk was begun.
//!
//! Records follow RFC 4180: fields are separated by the delimiter, records by `\n` or `\r\n`; a field that begins with a
//! quote ends with one, and between them delimiters and line breaks are ordinary and a quote is written twice. A quote
//! anywhere else is an error that ends the job under every policy, because nobody can say where the next record begins.
//! A byte order mark in front of the header is passed over. An empty line is passed over too, unless the table has one
//! column: there it is an empty field.

mod aggregate;
mod answer;
pub mod borders;
mod cell;
pub mod chunk;
mod decimal;
mod error;
mod fault;
mod input;
mod keys;
mod lines;
mod number;
mod outcome;
mod partial;
mod plan;
mod record;
mod reject;
mod rows;
mod run;
pub mod scan;
mod settings;
mod structure;
mod table;
mod window;
mod write;

#[cfg(test)]
mod tests;

pub use aggregate::{Expression, Operation};
pub use answer::{Answer, Value};
pub use chunk::Chunk;
pub use error::Error;
pub use fault::{Fault, Kind, Report};
pub use outcome::{Outcome, RejectsError};
pub use partial::Partial;
pub use plan::{Aggregate, Plan, Source};
pub use reject::Rejects;
pub use run::{Finished, LeftOut, RunOptions, run};
pub use settings::{DEFAULT_NULLS, Input, OnError, Settings, names};
pub use write::Format;
