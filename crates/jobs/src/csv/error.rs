//! Everything that can end a CSV job without an answer.

use std::io;
use std::path::{Path, PathBuf};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused something.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file it was about.
        path: PathBuf,
        /// What was tried, as a verb.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The input is something that has no bytes at positions, such as a directory or a pipe.
    #[error("{}: not a regular file", path.display())]
    NotAFile {
        /// The input.
        path: PathBuf,
    },
    /// Nothing to read at all.
    #[error("no input file was named")]
    NoInput,
    /// A file without a single record, where the first record tells the columns.
    #[error("{}: the file is empty; expected {expected}", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// What its first line should have been.
        expected: &'static str,
    },
    /// A file whose length or modification time is not what it was when the job was planned.
    #[error("{}: the file changed while it was read: {what}", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// In which way.
        what: String,
    },
    /// A delimiter that cannot separate fields.
    #[error("delimiter {0:?}: expected one ASCII character other than a quote, a line break or NUL")]
    Delimiter(String),
    /// An aggregate expression that is none.
    #[error(
        "aggregate {written:?}: expected count, count:COL, sum:COL, mean:COL, min:COL or max:COL (or mean(COL) and so on)"
    )]
    Expression {
        /// As the user wrote it.
        written: String,
    },
    /// A comma-separated list of names that ends inside a quote, or has stray quotes.
    #[error("list {0:?}: expected names separated by commas, quoted where a name contains a comma")]
    List(String),
    /// A name that is in no header.
    #[error("no column is called {name:?}; the columns of {} are: {}", path.display(), shown(columns))]
    UnknownColumn {
        /// The name asked for.
        name: String,
        /// The file whose header was read.
        path: PathBuf,
        /// All names in it.
        columns: Vec<String>,
    },
    /// A name that stands in the header more than once.
    #[error("column {name:?} is ambiguous: {} has it at {}", path.display(), places(positions))]
    AmbiguousColumn {
        /// The name asked for.
        name: String,
        /// The file whose header was read.
        path: PathBuf,
        /// Column numbers, counted from one.
        positions: Vec<usize>,
    },
    /// Two files that are not one table.
    #[error(
        "{}: its header differs from that of {}: column {column} is {found}, expected {expected}",
        path.display(), first.display()
    )]
    HeaderMismatch {
        /// The file that differs.
        path: PathBuf,
        /// The file it was compared with.
        first: PathBuf,
        /// The first column that differs, counted from one.
        column: usize,
        /// What the file has there.
        found: String,
        /// What the first file has there.
        expected: String,
    },
    /// A header that breaks the rules of quoting.
    #[error("{}, line 1: the header cannot be read: {what}", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A record that does not fit in a worker's memory.
    #[error(
        "{}, byte {offset}: a record of more than {limit} bytes; is a closing quote missing?",
        path.display()
    )]
    RecordTooLong {
        /// The file.
        path: PathBuf,
        /// Where the record begins.
        offset: u64,
        /// The limit, in bytes.
        limit: usize,
    },
    /// More files, columns or bytes than the job can count.
    #[error("too many {what}: {found}, at most {limit}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        found: u64,
        /// How many there may be.
        limit: u64,
    },
    /// A record that is not as it should be; the first one in the input.
    #[error("{0}")]
    Malformed(Box<super::fault::Report>),
    /// More malformed records than the user was ready to lose.
    #[error("{found} malformed records, more than the {limit} allowed; the first: {first}")]
    TooManyRejects {
        /// How many were found.
        found: u64,
        /// How many were allowed.
        limit: u64,
        /// The first one in the input.
        first: Box<super::fault::Report>,
    },
    /// A worker could not do its part; in its own words.
    #[error("{0}")]
    Worker(String),
    /// The engine could not run the job.
    #[error(transparent)]
    Engine(#[from] swath::Error),
}

impl Error {
    /// For `map_err`: the error of one operation on one file.
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io { path: path.to_owned(), action, source }
    }
}

fn places(positions: &[usize]) -> String {
    let numbers: Vec<String> = positions.iter().map(usize::to_string).collect();
    format!("columns {}", numbers.join(" and "))
}

/// Column names for a person: a file that is no text must not write control characters to a terminal.
fn shown(columns: &[String]) -> String {
    let names = columns.iter().map(|name| match name.chars().any(char::is_control) {
        true => name.escape_debug().to_string(),
        false => name.clone(),
    });
    names.collect::<Vec<_>>().join(", ")
}
