//! What is asked about a group: `count`, `mean:temp`, `max(humid)`.
//!
//! An expression is kept as it was written, because that is the name of its column in the answer.

use super::error::Error;
use serde::{Deserialize, Serialize};

/// What is computed from the values of one column in one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// How many records, or how many values.
    Count,
    /// The exact sum.
    Sum,
    /// The exact sum divided by the number of values, rounded once.
    Mean,
    /// The least value.
    Min,
    /// The greatest value.
    Max,
}

impl Operation {
    const NAMES: [(&'static str, Operation); 5] = [
        ("count", Operation::Count),
        ("sum", Operation::Sum),
        ("mean", Operation::Mean),
        ("min", Operation::Min),
        ("max", Operation::Max),
    ];

    fn named(name: &str) -> Option<Operation> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, operation)| *operation)
    }
}

/// One expression, not yet tied to a column of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expression {
    /// As the user wrote it.
    pub written: String,
    /// What to compute.
    pub operation: Operation,
    /// Of which column; `None` only for `count`, which then counts records.
    pub column: Option<String>,
}

impl Expression {
    /// Reads `count`, `OP:COLUMN` or `OP(COLUMN)`.
    pub fn parse(written: &str) -> Result<Expression, Error> {
        let bad = || Error::Expression { written: written.to_owned() };
        let (name, column) = match (written.split_once(':'), written.split_once('(')) {
            (Some((name, column)), _) if !name.contains('(') => (name, Some(column)),
            (_, Some((name, rest))) => (name, Some(rest.strip_suffix(')').ok_or_else(bad)?)),
            _ => (written, None),
        };
        let operation = Operation::named(name).ok_or_else(bad)?;
        match column {
            None if operation != Operation::Count => return Err(bad()),
            Some("") => return Err(bad()),
            _ => {}
        }
        Ok(Expression { written: written.to_owned(), operation, column: column.map(str::to_owned) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(written: &str) -> Option<(Operation, Option<String>)> {
        Expression::parse(written).ok().map(|e| (e.operation, e.column))
    }

    #[test]
    fn both_spellings_mean_the_same() {
        assert_eq!(parsed("mean:temp"), Some((Operation::Mean, Some("temp".into()))));
        assert_eq!(parsed("mean(temp)"), parsed("mean:temp"));
        assert_eq!(parsed("sum:a(b)"), Some((Operation::Sum, Some("a(b)".into()))));
        assert_eq!(parsed("max(a:b)"), Some((Operation::Max, Some("a:b".into()))));
        assert_eq!(parsed("count"), Some((Operation::Count, None)));
        assert_eq!(parsed("count:x"), Some((Operation::Count, Some("x".into()))));
    }

    #[test]
    fn anything_else_is_refused() {
        for written in ["", "mean", "sum", "mean:", "mean()", "mean(x", "median:x", "Mean:x", "count("] {
            assert_eq!(parsed(written), None, "{written:?}");
        }
    }
}
