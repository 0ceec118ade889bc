//! The answer: one row per group, sorted, every value as the text that is printed.

use super::aggregate::Operation;
use super::decimal::shortest;
use super::number::Number;
use super::plan::{Aggregate, Plan};
use super::table::Table;
use std::borrow::Cow;
use std::cmp::Ordering;

/// One field of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// No value; or, in a group column, null.
    Null,
    /// The text of a group column.
    Text(Vec<u8>),
    /// A number, so written that it reads back exactly; also `inf`, `-inf`, `NaN`.
    Number(String),
}

/// A header and rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The group columns, then the expressions as written.
    pub header: Vec<String>,
    /// How many columns, from the left, make the group.
    pub keys: usize,
    /// For each group its fields.
    pub rows: Vec<Vec<Value>>,
}

impl Answer {
    /// Puts the groups of a table in order and works out the aggregates.
    pub(crate) fn new(plan: &Plan, table: &Table) -> Answer {
        let names = plan.keys.iter().map(|&column| plan.columns[column].clone());
        let header = names.chain(plan.aggregates.iter().map(|a| a.name.clone())).collect();
        let rows = sorted(plan, table).into_iter().map(|group| row(plan, table, group)).collect();
        Answer { header, keys: plan.keys.len(), rows }
    }
}

fn row(plan: &Plan, table: &Table, group: usize) -> Vec<Value> {
    let text = |field: Option<Cow<[u8]>>| field.map_or(Value::Null, |text| Value::Text(text.into_owned()));
    let keys = table.key_fields(group).map(text);
    keys.chain(plan.aggregates.iter().map(|aggregate| value(table, group, aggregate))).collect()
}

fn value(table: &Table, group: usize, aggregate: &Aggregate) -> Value {
    let Some(column) = aggregate.value else { return Value::Number(table.records(group).to_string()) };
    let (cell, scale, range) = (table.cell(group, column), table.scale(column), table.range(group, column));
    let number = match aggregate.operation {
        Operation::Count => Some(cell.count().to_string()),
        Operation::Sum if cell.count() == 0 => None,
        Operation::Sum => Some(match cell.sum(scale) {
            Ok(exact) => exact.to_string(),
            Err(infinite) => shortest(infinite),
        }),
        Operation::Mean => cell.mean(scale).map(shortest),
        Operation::Min => range.map(|range| shortest(range.min())),
        Operation::Max => range.map(|range| shortest(range.max())),
    };
    number.map_or(Value::Null, Value::Number)
}

/// One field of a group's key, as it is sorted: null first; numbers by size, then by their text; or by the text alone.
#[derive(PartialEq, PartialOrd)]
struct Place<'t>(Option<(f64, u64, Cow<'t, [u8]>)>);

impl<'t> Place<'t> {
    fn new(field: Option<Cow<'t, [u8]>>, numeric: bool) -> Place<'t> {
        Place(field.map(|text| {
            let size = if numeric { size(&text).unwrap_or(0.0) } else { 0.0 };
            // Most texts differ here already, so that the rest of them need not be fetched.
            let mut start = [0; 8];
            let length = text.len().min(8);
            start[..length].copy_from_slice(&text[..length]);
            (size, u64::from_be_bytes(start), text)
        }))
    }

    fn order(&self, other: &Self) -> Ordering {
        self.partial_cmp(other).expect("no key is NaN")
    }
}

/// The numbers of all groups, in the order of the answer.
fn sorted(plan: &Plan, table: &Table) -> Vec<usize> {
    let numeric = numeric_columns(plan.keys.len(), table);
    let places =
        |group| table.key_fields(group).zip(&numeric).map(|(field, numeric)| Place::new(field, *numeric));
    let mut firsts: Vec<(Option<Place>, u32)> =
        (0..table.len()).map(|group| (places(group).next(), group as u32)).collect();
    let rest = |group: u32| places(group as usize).skip(1);
    let later = |a, b| rest(a).zip(rest(b)).map(|(a, b)| a.order(&b)).find(|order| order.is_ne());
    firsts.sort_unstable_by(|(a, a_group), (b, b_group)| {
        let first = a.partial_cmp(b).expect("no key is NaN");
        first.then_with(|| later(*a_group, *b_group).unwrap_or(Ordering::Equal))
    });
    firsts.into_iter().map(|(_, group)| group as usize).collect()
}

/// For each group column: whether all its keys are numbers.
fn numeric_columns(columns: usize, table: &Table) -> Vec<bool> {
    let mut numeric = vec![true; columns];
    for group in 0..table.len() {
        for (numeric, field) in numeric.iter_mut().zip(table.key_fields(group)) {
            *numeric = *numeric && field.is_none_or(|text| size(&text).is_some());
        }
        if numeric.iter().all(|numeric| !numeric) {
            break;
        }
    }
    numeric
}

fn size(text: &[u8]) -> Option<f64> {
    Number::parse(text).map(|number| number.nearest())
}
