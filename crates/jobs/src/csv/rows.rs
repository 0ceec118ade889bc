//! The loop that runs once per record.
//!
//! [`Rows::run`] knows nothing of quotes, nulls or exponents: it is for a record of the expected shape, a spelling met
//! before and plain numbers. Everything else is a function of its own that it calls.

use super::chunk::Chunk;
use super::fault::{Fault, Kind};
use super::keys;
use super::number::{self, Number, Plain};
use super::partial::Workplace;
use super::plan::Plan;
use super::record;
use super::reject::Rejects;
use super::structure::End;
use super::table::Table;
use swath_platform::simd::compiled_for_this_cpu;

/// What the loop stopped for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The next record is not wholly known: more text.
    Text,
    /// The chunk has no more records that matter.
    Chunk,
}

/// A value of a record that has been read but not added yet.
#[derive(Clone, Debug)]
pub(crate) enum Read {
    Plain(Plain),
    Null,
    Other(Box<Number>),
}

/// The records of a chunk that are wholly in the window.
pub(crate) struct Rows<'a> {
    plan: &'a Plan,
    table: &'a mut Table,
    rejects: &'a mut Rejects,
    text: &'a [u8],
    ends: &'a [End],
    /// Which of them is the one before the next record.
    taken: &'a mut usize,
    spelling: &'a mut Vec<u8>,
    values: &'a mut Vec<Read>,
    file: u32,
    /// The offset of the text in the file.
    base: u64,
    /// Where the chunk ends in the text.
    limit: usize,
}

/// A record: the end before it, and the ends of its fields.
#[derive(Clone, Copy)]
struct Record<'a>(&'a [End]);

impl Record<'_> {
    /// Where a field begins and ends; the carriage return of a line break is no part of it.
    #[inline(always)]
    fn field(self, text: &[u8], column: usize) -> (usize, usize) {
        let start = self.0[column].next();
        let end = self.0[column + 1].next() - 1;
        let is_last = column + 2 == self.0.len();
        let with_return = is_last && end > start && text[end - 1] == b'\r';
        (start, end - usize::from(with_return))
    }

    fn start(self) -> usize {
        self.0[0].next()
    }
}

impl<'a> Rows<'a> {
    pub(crate) fn new(
        plan: &'a Plan,
        chunk: Chunk,
        table: &'a mut Table,
        rejects: &'a mut Rejects,
        place: &'a mut Workplace,
    ) -> Rows<'a> {
        let base = place.window.offset(0);
        Rows {
            plan,
            table,
            rejects,
            text: place.window.text(),
            ends: place.structure.ends(),
            taken: &mut place.taken,
            spelling: &mut place.spelling,
            values: &mut place.values,
            file: chunk.file,
            base,
            limit: usize::try_from(chunk.hi - base).unwrap_or(usize::MAX),
        }
    }

    /// Adds all records that start before the limit and are wholly known.
    pub(crate) fn run(&mut self) -> Next {
        match (self.plan.keys.len(), self.plan.values.len()) {
            (1, 1) => compiled_for_this_cpu(
                #[inline(always)]
                || self.run_as::<true>(),
            ),
            _ => compiled_for_this_cpu(
                #[inline(always)]
                || self.run_as::<false>(),
            ),
        }
    }

    /// `ONE`: there is one group column and one value column.
    #[inline(always)]
    fn run_as<const ONE: bool>(&mut self) -> Next {
        let columns = self.plan.columns.len();
        let ends = self.ends;
        loop {
            let mut taken = *self.taken;
            while let Some(ends) = ends.get(taken..=taken + columns).filter(|ends| is_record(ends)) {
                let record = Record(ends);
                if record.start() >= self.limit
                    || !(if ONE { self.add_one(record) } else { self.add(record) })
                {
                    return Next::Chunk;
                }
                taken += columns;
            }
            *self.taken = taken;
            if ends[taken].next() >= self.limit {
                return Next::Chunk;
            }
            if let Some(next) = self.unexpected() {
                return next;
            }
        }
    }

    /// A record with one group column and one value column; `false` if nothing behind it matters.
    #[inline(always)]
    fn add_one(&mut self, record: Record) -> bool {
        let (start, end) = record.field(self.text, self.plan.values[0]);
        let number = match number::plain(self.text, start, end) {
            Some(number) if !self.plan.null_may_be_number() => number,
            _ => return self.add(record),
        };
        let (start, end) = record.field(self.text, self.plan.keys[0]);
        let group = match self.table.spelled(self.text, start, end) {
            Some(group) => group,
            None => self.table.meet(self.plan, &self.text[start..end], &[&self.text[start..end]]),
        };
        self.table.add_plain(group, 0, number);
        true
    }

    /// Any record of the expected shape; `false` if nothing behind it matters.
    ///
    /// All values are read before anything is added: a record counts as a whole or not at all.
    #[inline(never)]
    fn add(&mut self, record: Record) -> bool {
        self.values.clear();
        for &column in &self.plan.values {
            let (start, end) = record.field(self.text, column);
            match self.read(start, end) {
                Some(value) => self.values.push(value),
                None => return self.not_a_number(record, column, (start, end)),
            }
        }
        let group = self.group(record);
        if matches!(self.values.first(), None | Some(Read::Null)) {
            self.table.add_other(group);
        }
        for (value, read) in self.values.iter().enumerate() {
            match read {
                Read::Plain(number) => self.table.add_plain(group, value, *number),
                Read::Null => {}
                Read::Other(number) => self.table.add(group, value, number),
            }
        }
        true
    }

    #[inline(always)]
    fn read(&self, start: usize, end: usize) -> Option<Read> {
        match number::plain(self.text, start, end) {
            Some(number) if !self.plan.null_may_be_number() => Some(Read::Plain(number)),
            _ => self.read_closely(&self.text[start..end]),
        }
    }

    #[inline(never)]
    fn read_closely(&self, field: &[u8]) -> Option<Read> {
        let field = record::unquoted(field);
        if self.plan.is_null(&field) {
            return Some(Read::Null);
        }
        Number::parse(&field).map(|number| match number {
            Number::Plain(plain) => Read::Plain(plain),
            other => Read::Other(Box::new(other)),
        })
    }

    fn group(&mut self, record: Record) -> usize {
        let plan = self.plan;
        let (&[first, ..], &[.., last]) = (&plan.keys[..], &plan.keys[..]) else { return 0 };
        if plan.keys_side_by_side() {
            // The delimiters between the fields are as good as any.
            let (start, end) = (record.field(self.text, first).0, record.field(self.text, last).1);
            if let Some(group) = self.table.spelled(self.text, start, end) {
                return group;
            }
            return self.meet(record, &self.text[start..end]);
        }
        let mut spelling = std::mem::take(self.spelling);
        spelling.clear();
        for &column in &plan.keys {
            let (start, end) = record.field(self.text, column);
            spelling.extend_from_slice(&self.text[start..end]);
            spelling.push(plan.delimiter);
        }
        spelling.pop();
        let length = spelling.len();
        spelling.extend_from_slice(&[0; keys::READ_AHEAD]);
        let group = match self.table.spelled(&spelling, 0, length) {
            Some(group) => group,
            None => self.meet(record, &spelling[..length]),
        };
        *self.spelling = spelling;
        group
    }

    #[cold]
    fn meet(&mut self, record: Record, spelling: &[u8]) -> usize {
        let field = |&column: &usize| {
            let (start, end) = record.field(self.text, column);
            &self.text[start..end]
        };
        let fields: Vec<&[u8]> = self.plan.keys.iter().map(field).collect();
        self.table.meet(self.plan, spelling, &fields)
    }

    /// A record with too few or too many fields, or an empty line; what is next, if it is not the next record.
    #[cold]
    fn unexpected(&mut self) -> Option<Next> {
        let ends = &self.ends[*self.taken..];
        let Some(last) = (1..ends.len()).find(|&i| ends[i].of_record() == 1) else {
            return Some(Next::Text);
        };
        *self.taken += last;
        let record = Record(&ends[..=last]);
        let (start, end) = record.field(self.text, last - 1);
        let is_empty_line = last == 1 && start == end;
        if is_empty_line || self.note(record, 0, (record.start(), record.start()), Kind::Fields(last as u64))
        {
            return None;
        }
        Some(Next::Chunk)
    }

    #[cold]
    fn not_a_number(&mut self, record: Record, column: usize, field: (usize, usize)) -> bool {
        self.note(record, column, field, Kind::NotANumber)
    }

    fn note(&mut self, record: Record, column: usize, (start, end): (usize, usize), kind: Kind) -> bool {
        let fault = Fault {
            file: self.file,
            record: self.base + record.start() as u64,
            length: (record.field(self.text, record.0.len() - 2).1 - record.start()) as u64,
            at: self.base + start as u64,
            field: (end - start) as u64,
            column: column as u32,
            kind,
        };
        self.rejects.note(self.plan, fault)
    }
}

/// Whether the last of these ends, and none between the first and it, is the end of a record.
#[inline(always)]
fn is_record(ends: &[End]) -> bool {
    match ends {
        // The vectorised loop below costs more than it saves here.
        [_, one, last] => last.of_record() & !one.of_record() == 1,
        [_, before @ .., last] => {
            last.of_record() == 1 && before.iter().fold(0, |any, end| any | end.of_record()) == 0
        }
        _ => false,
    }
}
