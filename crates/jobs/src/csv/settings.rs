//! What the user wants, before any file has been looked at.

use super::aggregate::Expression;
use super::error::Error;
use super::record;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Fields that mean "no value" unless the user says otherwise.
pub const DEFAULT_NULLS: [&str; 5] = ["", "NA", "NaN", "null", "N/A"];

/// A file to read.
#[derive(Clone, Debug)]
pub struct Input {
    /// What messages call it.
    pub name: PathBuf,
    /// Where every worker can open it.
    pub path: PathBuf,
}

impl From<PathBuf> for Input {
    fn from(path: PathBuf) -> Input {
        Input { name: path.clone(), path }
    }
}

/// What to do about a malformed record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnError {
    /// End the job, and report the first one in the input.
    Fail,
    /// Leave the record out of everything.
    Skip {
        /// How many may be left out before the job fails after all.
        max: Option<u64>,
        /// Whether all of them are needed afterwards, or only their number and the first few.
        keep: bool,
    },
}

/// The questions and the dialect.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Names of the columns that make a group; empty: one group of everything.
    pub group_by: Vec<String>,
    /// What to compute for each group.
    pub aggregates: Vec<Expression>,
    /// The byte between two fields; checked by [`Settings::delimiter`].
    pub delimiter: u8,
    /// Whether the first record of each file names the columns; else they are called 1, 2, 3 …
    pub header: bool,
    /// Fields that mean "no value"; compared with the whole field, without its quotes.
    pub nulls: Vec<String>,
    /// What to do about a malformed record.
    pub on_error: OnError,
}

impl Default for Settings {
    /// Counts the records of files with a header and commas.
    fn default() -> Settings {
        Settings {
            group_by: Vec::new(),
            aggregates: Vec::new(),
            delimiter: b',',
            header: true,
            nulls: DEFAULT_NULLS.map(str::to_owned).to_vec(),
            on_error: OnError::Fail,
        }
    }
}

impl Settings {
    /// Checks a delimiter; `\t` may be written as such.
    pub fn delimiter(text: &str) -> Result<u8, Error> {
        match text.as_bytes() {
            b"\\t" => Ok(b'\t'),
            [byte] if byte.is_ascii() && !b"\"\r\n\0".contains(byte) => Ok(*byte),
            _ => Err(Error::Delimiter(text.to_owned())),
        }
    }
}

/// Splits a list of names at its commas; a name with a comma in it is quoted as in a CSV file.
pub fn names(list: &str) -> Result<Vec<String>, Error> {
    let fields = record::split(list.as_bytes(), b',').map_err(|_| Error::List(list.to_owned()))?;
    Ok(fields.iter().map(|f| String::from_utf8_lossy(f).into_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delimiters() {
        assert_eq!(Settings::delimiter(";").ok(), Some(b';'));
        assert_eq!(Settings::delimiter("\\t").ok(), Some(b'\t'));
        for bad in ["", ",,", "\"", "\n", "\r", "\0", "é"] {
            assert!(Settings::delimiter(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn lists() {
        assert_eq!(names("a,b").expect("a list"), ["a", "b"]);
        assert_eq!(names("\"a,b\",c").expect("a list"), ["a,b", "c"]);
        assert!(names("\"a").is_err());
    }
}
