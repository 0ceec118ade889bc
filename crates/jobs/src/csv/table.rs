//! All groups and their cells: what a scan adds to, and what accumulators are merged into.
//!
//! A group has a number, in the order in which groups were met; nothing in an answer depends on it. Its *key* is what
//! stands in the group columns, written in one way: delimiters between the fields, a field quoted only if it must be,
//! and null as something that is no field at all. A file may spell the same key in other ways (`"a"` for `a`, every null text);
//! such a spelling is added to the index when it is met for the first time, so that the scan neither takes quotes off
//! nor looks for nulls in a record whose like has been seen.

use super::cell::{Cell, Range};
use super::keys::Keys;
use super::number::{Number, Plain};
use super::plan::Plan;
use super::record;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Null in a key. No field is spelled like that, since a quote stands at its beginning or nowhere, and no delimiter either.
const NULL: &[u8] = b"\xff\"";

/// Groups, each with its number of records and one cell per value column.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Table {
    /// For each value column, the scale of all its cells.
    scales: Vec<u32>,
    /// How many columns make a key.
    key_columns: usize,
    /// What stands between two of them.
    delimiter: u8,
    /// All keys, one after the other.
    keys: Vec<u8>,
    /// Where in `keys` each group's key ends.
    ends: Vec<usize>,
    /// For each value column, whether anybody asks for the range of its values.
    ranged: Vec<bool>,
    /// For each group, the number of records that the cell of the first value column does not count.
    others: Vec<u64>,
    /// For each group, its cells.
    cells: Vec<Cell>,
    /// For each cell, the range of its values, if that is asked for.
    ranges: Vec<Range>,
    /// From keys, and other spellings of them, to groups.
    #[serde(skip)]
    index: Keys,
}

impl Table {
    /// A table for a plan; without group columns it has its one group from the start.
    pub(crate) fn new(plan: &Plan) -> Table {
        let scales = vec![0; plan.values.len()];
        let (key_columns, delimiter, ranged) = (plan.keys.len(), plan.delimiter, plan.ranged_values());
        let mut table = Table { scales, key_columns, delimiter, ranged, ..Table::default() };
        if plan.keys.is_empty() {
            table.group(&[]);
        }
        table
    }

    /// The group whose key is spelled `text[start..end]`, if that spelling has been met.
    #[inline(always)]
    pub(crate) fn spelled(&self, text: &[u8], start: usize, end: usize) -> Option<usize> {
        self.index.find(text, start, end).map(|number| number as usize)
    }

    /// The group of a spelling that is met for the first time.
    #[cold]
    pub(crate) fn meet(&mut self, plan: &Plan, spelling: &[u8], fields: &[&[u8]]) -> usize {
        let mut key = Vec::with_capacity(spelling.len());
        for (column, field) in fields.iter().enumerate() {
            if column > 0 {
                key.push(self.delimiter);
            }
            let text = record::unquoted(field);
            if plan.is_null(&text) {
                key.extend_from_slice(NULL);
            } else {
                key.extend_from_slice(&record::quoted(&text, self.delimiter));
            }
        }
        let group = self.group(&key);
        if key != spelling {
            self.index.insert(spelling, group as u32);
        }
        group
    }

    /// The group with a key, new if need be.
    fn group(&mut self, key: &[u8]) -> usize {
        if let Some(number) = self.index.find_bytes(key) {
            return number as usize;
        }
        let number = self.ends.len();
        self.index.insert(key, u32::try_from(number).expect("fewer than 2³² groups"));
        self.keys.extend_from_slice(key);
        self.ends.push(self.keys.len());
        self.others.push(0);
        self.cells.resize_with(self.cells.len() + self.scales.len(), Cell::default);
        self.ranges.resize(self.cells.len(), Range::EMPTY);
        number
    }

    /// One more record in a group, without a value in the first value column.
    pub(crate) fn add_other(&mut self, group: usize) {
        self.others[group] += 1;
    }

    /// A number without exponent, of the value column `value`; of the first one, this is also one more record.
    #[inline(always)]
    pub(crate) fn add_plain(&mut self, group: usize, value: usize, number: Plain) {
        if number.scale > self.scales[value] {
            self.rescale(value, number.scale);
        }
        let cell = group * self.scales.len() + value;
        self.cells[cell].add_plain(number, self.scales[value]);
        if self.ranged[value] {
            self.ranges[cell].widen(number.nearest());
        }
    }

    /// The same for any number.
    pub(crate) fn add(&mut self, group: usize, value: usize, number: &Number) {
        if let Number::Plain(plain) = number {
            return self.add_plain(group, value, *plain);
        }
        let cell = group * self.scales.len() + value;
        self.cells[cell].add(number, self.scales[value]);
        self.ranges[cell].widen(number.nearest());
    }

    #[cold]
    fn rescale(&mut self, value: usize, to: u32) {
        let columns = self.scales.len();
        let from = std::mem::replace(&mut self.scales[value], to);
        self.cells.iter_mut().skip(value).step_by(columns).for_each(|cell| cell.rescale(from, to));
    }

    /// Adds everything of another table of the same plan.
    pub(crate) fn merge(&mut self, mut other: Table) {
        self.restore_index();
        self.match_scales(&mut other);
        let columns = self.scales.len();
        for theirs in 0..other.ends.len() {
            let mine = self.group(other.key(theirs));
            self.others[mine] += other.others[theirs];
            for value in 0..columns {
                let (mine, theirs) = (mine * columns + value, theirs * columns + value);
                self.cells[mine].merge(&other.cells[theirs], self.scales[value]);
                self.ranges[mine].merge(other.ranges[theirs]);
            }
        }
    }

    fn match_scales(&mut self, other: &mut Table) {
        for value in 0..self.scales.len() {
            let (mine, theirs) = (self.scales[value], other.scales[value]);
            if mine < theirs {
                self.rescale(value, theirs);
            } else if theirs < mine {
                other.rescale(value, mine);
            }
        }
    }

    /// A table that has travelled has lost its index.
    fn restore_index(&mut self) {
        if self.index.is_empty() {
            let mut index = Keys::default();
            (0..self.ends.len()).for_each(|group| index.insert(self.key(group), group as u32));
            self.index = index;
        }
    }

    /// How many groups there are.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    fn key(&self, group: usize) -> &[u8] {
        let start = group.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.keys[start..self.ends[group]]
    }

    /// For each group column its text, or `None` for null.
    pub(crate) fn key_fields(&self, group: usize) -> impl Iterator<Item = Option<Cow<'_, [u8]>>> {
        let fields = record::raw_fields(self.key(group), self.delimiter).take(self.key_columns);
        fields.map(|field| (field != NULL).then(|| record::unquoted(field)))
    }

    /// How many records a group has.
    pub(crate) fn records(&self, group: usize) -> u64 {
        let counted = if self.scales.is_empty() { 0 } else { self.cell(group, 0).count() };
        self.others[group] + counted
    }

    /// Number and sum of a value column in a group.
    pub(crate) fn cell(&self, group: usize, value: usize) -> &Cell {
        &self.cells[group * self.scales.len() + value]
    }

    /// The scale of the sums of a value column.
    pub(crate) fn scale(&self, value: usize) -> u32 {
        self.scales[value]
    }

    /// The least and the greatest value; known only if the plan asks for one of them.
    pub(crate) fn range(&self, group: usize, value: usize) -> Option<Range> {
        let counted = self.cell(group, value).count() > 0;
        counted.then(|| self.ranges[group * self.scales.len() + value])
    }
}
