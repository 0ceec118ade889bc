//! Second pass: the records of one chunk, added to an accumulator.
//!
//! A chunk owns the records that start in it. Unless it begins where a file's records begin, its first bytes are the end
//! of a record that the chunk before owns; they are passed over, and its own last record is read to its end wherever
//! that is. Text is read in steps; what is left over of a step, the beginning of a record, moves to the front of the
//! window.

use super::chunk::Chunk;
use super::error::Error;
use super::fault::{Fault, Kind};
use super::partial::{Partial, Workplace};
use super::plan::Plan;
use super::rows::{Next, Rows};
use super::table::Table;

/// Adds the records that start in a chunk.
pub fn scan(plan: &Plan, chunk: Chunk, partial: &mut Partial) -> Result<(), Error> {
    let Partial { table, rejects, workplace } = partial;
    if rejects.is_behind_the_end(chunk) || !workplace.enter(plan, chunk)? {
        return Ok(());
    }
    let table = table.get_or_insert_with(|| Table::new(plan));
    loop {
        workplace.find_ends(plan);
        let next = Rows::new(plan, chunk, table, rejects, workplace).run();
        if next == Next::Chunk {
            return Ok(());
        }
        if let Some(fault) = workplace.broken_quote(chunk) {
            rejects.note(plan, fault);
            return Ok(());
        }
        if workplace.window.is_last() {
            return Ok(());
        }
        workplace.advance(plan, chunk, workplace.record())?;
    }
}

impl Workplace {
    /// Goes to the first record that starts in a chunk; `false` if none does.
    fn enter(&mut self, plan: &Plan, chunk: Chunk) -> Result<bool, Error> {
        let body = plan.sources[chunk.file as usize].body;
        // The byte before the chunk says whether a record begins at its first one.
        let before = u64::from(chunk.lo > body);
        self.window.restart(chunk.lo - before);
        self.structure.restart(before as usize, chunk.inside);
        self.taken = 0;
        self.read_on(plan, chunk, 0)?;
        if before == 0 || (!chunk.inside && self.window.text()[0] == b'\n') {
            return Ok(true);
        }
        self.pass_over(plan, chunk)
    }

    /// Looks for the end of the record in whose middle the chunk begins.
    fn pass_over(&mut self, plan: &Plan, chunk: Chunk) -> Result<bool, Error> {
        loop {
            self.find_ends(plan);
            let ends = self.structure.ends();
            if let Some(found) = (1..ends.len()).find(|&i| ends[i].of_record() == 1) {
                self.taken = found;
                return Ok(self.window.offset(self.record()) < chunk.hi);
            }
            let scanned = self.structure.scanned();
            // A quote in a wrong place is the business of the chunk that owns the record.
            let over = self.structure.stray().is_some() || self.window.is_last();
            if over || self.window.offset(scanned) >= chunk.hi {
                return Ok(false);
            }
            self.taken = ends.len() - 1;
            self.advance(plan, chunk, scanned)?;
        }
    }

    /// Where in the window the next record begins.
    fn record(&self) -> usize {
        self.structure.ends()[self.taken].next()
    }

    fn find_ends(&mut self, plan: &Plan) {
        let window = &self.window;
        self.structure.scan(window.text(), window.filled(), window.is_last(), plan.delimiter);
    }

    /// Forgets the text before `keep` and the ends that were taken, and reads on.
    fn advance(&mut self, plan: &Plan, chunk: Chunk, keep: usize) -> Result<(), Error> {
        self.structure.shift(self.taken, keep);
        self.taken = 0;
        self.read_on(plan, chunk, keep)
    }

    fn read_on(&mut self, plan: &Plan, chunk: Chunk, keep: usize) -> Result<(), Error> {
        self.window.advance(&mut self.inputs, &plan.sources, chunk.file as usize, keep, chunk.hi)
    }

    /// What is wrong with the quotes of the next record, if its end will never be found.
    fn broken_quote(&self, chunk: Chunk) -> Option<Fault> {
        let ends = &self.structure.ends()[self.taken..];
        let field = ends[ends.len() - 1].next();
        let (at, kind) = match self.structure.stray() {
            Some(stray) => (stray, Kind::StrayQuote),
            None if self.window.is_last() && self.structure.inside() => (field, Kind::OpenQuote),
            None => return None,
        };
        Some(Fault {
            file: chunk.file,
            record: self.window.offset(self.record()),
            length: 0,
            at: self.window.offset(at),
            field: 0,
            column: ends.len() as u32 - 1,
            kind,
        })
    }
}
