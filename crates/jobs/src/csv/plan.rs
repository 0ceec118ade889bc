//! Wishes tied to files: everything that is decided before the first chunk is read.
//!
//! A plan travels to every worker, so that all of them mean the same columns, the same null texts and the same files.

use super::aggregate::{Expression, Operation};
use super::error::Error;
use super::settings::{Input, OnError, Settings};
use super::{chunk, input, record};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Columns that a table may have.
const COLUMNS_MAX: usize = 1 << 20;
/// Bytes that a header may have.
const HEADER_MAX: usize = 64 << 20;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A file as it was when the job was planned.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Source {
    /// What messages call it.
    pub name: PathBuf,
    /// Where it is opened.
    pub path: PathBuf,
    /// Its length in bytes.
    pub len: u64,
    /// When it was last written to: seconds and nanoseconds.
    pub modified: (i64, i64),
    /// Where the first record behind the header begins.
    pub body: u64,
}

/// One column of the answer behind those of the group.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Aggregate {
    /// The expression as written.
    pub name: String,
    /// What is computed.
    pub operation: Operation,
    /// Of which of the plan's value columns; `None` counts records.
    pub value: Option<usize>,
}

/// What to read, and what to make of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The files, in the order they were named.
    pub sources: Vec<Source>,
    /// The names of all columns.
    pub columns: Vec<String>,
    /// The byte between two fields.
    pub delimiter: u8,
    /// What to do about a malformed record.
    pub on_error: OnError,
    /// The columns that make a group.
    pub keys: Vec<usize>,
    /// The columns whose values are needed, each once.
    pub values: Vec<usize>,
    /// What to compute.
    pub aggregates: Vec<Aggregate>,
    /// How many bytes make a chunk.
    pub chunk_bytes: u64,
    nulls: Vec<Vec<u8>>,
    null_may_be_number: bool,
    keys_side_by_side: bool,
}

impl Plan {
    /// Looks at the files and ties the settings to them.
    pub fn new(inputs: &[Input], settings: &Settings) -> Result<Plan, Error> {
        let (sources, columns) = table(inputs, settings)?;
        let find = |name: &String| find(name, &columns, &sources[0].name);
        let keys = settings.group_by.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        let (aggregates, values) = tie(&settings.aggregates, find)?;
        let nulls: Vec<Vec<u8>> = settings.nulls.iter().map(|text| text.as_bytes().to_vec()).collect();
        Ok(Plan {
            chunk_bytes: chunk::size(sources.iter().map(|s| s.len - s.body).sum()),
            null_may_be_number: nulls.iter().any(|text| super::number::Number::parse(text).is_some()),
            keys_side_by_side: keys.windows(2).all(|pair| pair[1] == pair[0] + 1),
            delimiter: settings.delimiter,
            on_error: settings.on_error,
            sources,
            columns,
            keys,
            values,
            aggregates,
            nulls,
        })
    }

    /// Whether a field, without its quotes, means "no value".
    pub(crate) fn is_null(&self, field: &[u8]) -> bool {
        self.nulls.iter().any(|text| text == field)
    }

    /// For each value column, whether its least or greatest value is asked for.
    pub(crate) fn ranged_values(&self) -> Vec<bool> {
        let asks = |a: &Aggregate, value| {
            a.value == Some(value) && matches!(a.operation, Operation::Min | Operation::Max)
        };
        (0..self.values.len()).map(|value| self.aggregates.iter().any(|a| asks(a, value))).collect()
    }

    /// Whether the group columns are neighbours, in the order in which they stand in the file.
    pub(crate) fn keys_side_by_side(&self) -> bool {
        self.keys_side_by_side
    }

    /// Whether a field must be compared with the null texts before it is read as a number.
    pub(crate) fn null_may_be_number(&self) -> bool {
        self.null_may_be_number
    }
}

/// Opens all files and checks that they are one table.
fn table(inputs: &[Input], settings: &Settings) -> Result<(Vec<Source>, Vec<String>), Error> {
    let mut sources = Vec::with_capacity(inputs.len());
    let mut columns: Option<Vec<String>> = None;
    for input in inputs {
        let (source, found) = examine(input, settings)?;
        match &columns {
            None => columns = Some(found),
            Some(expected) => same_table(&sources, &source, expected, &found, settings.header)?,
        }
        sources.push(source);
    }
    Ok((sources, columns.ok_or(Error::NoInput)?))
}

/// Length, time and columns of one file.
fn examine(input: &Input, settings: &Settings) -> Result<(Source, Vec<String>), Error> {
    let file = File::open(&input.path).map_err(Error::io(&input.name, "open it"))?;
    let metadata = input::regular(&input.name, &file)?;
    let (start, first) = first_record(&input.name, &file, metadata.len())?;
    if metadata.len() == start as u64 {
        let expected = if settings.header { "a header line" } else { "at least one record" };
        return Err(Error::Empty { path: input.name.clone(), expected });
    }
    let columns = columns_of(&input.name, &first, settings)?;
    let behind = ((start + first.len() + 1) as u64).min(metadata.len());
    let source = Source {
        name: input.name.clone(),
        path: input.path.clone(),
        len: metadata.len(),
        modified: input::modified(&metadata),
        body: if settings.header { behind } else { start as u64 },
    };
    Ok((source, columns))
}

/// Where the first record begins (behind a byte order mark), and its bytes without the line feed.
fn first_record(name: &Path, file: &File, len: u64) -> Result<(usize, Vec<u8>), Error> {
    let mut text: Vec<u8> = Vec::new();
    let (mut scanned, mut inside, mut start) = (0, false, 0);
    loop {
        let more = (len - text.len() as u64).min(text.len().max(4096) as u64) as usize;
        let old = text.len();
        text.resize(old + more, 0);
        file.read_exact_at(&mut text[old..], old as u64).map_err(Error::io(name, "read it"))?;
        if old == 0 && text.starts_with(BYTE_ORDER_MARK) {
            start = BYTE_ORDER_MARK.len();
            scanned = start;
        }
        for at in scanned..text.len() {
            inside ^= text[at] == b'"';
            if text[at] == b'\n' && !inside {
                return Ok((start, text[start..at].to_vec()));
            }
        }
        scanned = text.len();
        if text.len() as u64 == len {
            return Ok((start, text.split_off(start)));
        }
        if text.len() > HEADER_MAX {
            let what = "it has no end within 64 MiB; is a closing quote missing?";
            return Err(Error::Header { path: name.to_owned(), what });
        }
    }
}

fn columns_of(name: &Path, first: &[u8], settings: &Settings) -> Result<Vec<String>, Error> {
    let bad = |_| Error::Header {
        path: name.to_owned(),
        what: "a quote stands neither around a whole field nor doubled inside one",
    };
    let fields = record::split(record::without_return(first), settings.delimiter).map_err(bad)?;
    if fields.len() > COLUMNS_MAX {
        return Err(Error::TooMany {
            what: "columns",
            found: fields.len() as u64,
            limit: COLUMNS_MAX as u64,
        });
    }
    Ok(match settings.header {
        true => fields.iter().map(|f| String::from_utf8_lossy(f).into_owned()).collect(),
        false => (1..=fields.len()).map(|number| number.to_string()).collect(),
    })
}

fn same_table(
    sources: &[Source],
    source: &Source,
    expected: &[String],
    found: &[String],
    header: bool,
) -> Result<(), Error> {
    if expected == found {
        return Ok(());
    }
    let column = expected.iter().zip(found).take_while(|(a, b)| a == b).count();
    let describe = |columns: &[String]| match columns.get(column) {
        Some(name) if header => format!("{name:?}"),
        Some(_) => "there".to_owned(),
        None => "missing".to_owned(),
    };
    Err(Error::HeaderMismatch {
        path: source.name.clone(),
        first: sources[0].name.clone(),
        column: column + 1,
        found: describe(found),
        expected: describe(expected),
    })
}

fn find(name: &str, columns: &[String], path: &Path) -> Result<usize, Error> {
    let positions: Vec<usize> = (0..columns.len()).filter(|&i| columns[i] == name).collect();
    match positions[..] {
        [only] => Ok(only),
        [] => {
            let (name, path, columns) = (name.to_owned(), path.to_owned(), columns.to_vec());
            Err(Error::UnknownColumn { name, path, columns })
        }
        _ => Err(Error::AmbiguousColumn {
            name: name.to_owned(),
            path: path.to_owned(),
            positions: positions.iter().map(|i| i + 1).collect(),
        }),
    }
}

/// Aggregates that point into a list of value columns in which no column stands twice.
fn tie(
    expressions: &[Expression],
    find: impl Fn(&String) -> Result<usize, Error>,
) -> Result<(Vec<Aggregate>, Vec<usize>), Error> {
    let mut values: Vec<usize> = Vec::new();
    let mut aggregates = Vec::with_capacity(expressions.len());
    for expression in expressions {
        let value = match &expression.column {
            None => None,
            Some(name) => {
                let column = find(name)?;
                let known = values.iter().position(|v| *v == column);
                Some(known.unwrap_or_else(|| {
                    values.push(column);
                    values.len() - 1
                }))
            }
        };
        let (name, operation) = (expression.written.clone(), expression.operation);
        aggregates.push(Aggregate { name, operation, value });
    }
    Ok((aggregates, values))
}
