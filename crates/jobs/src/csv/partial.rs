//! What one worker knows: a table, the malformed records, and the memory it works in.

use super::input::Inputs;
use super::reject::Rejects;
use super::rows::Read;
use super::structure::Structure;
use super::table::Table;
use super::window::Window;
use serde::{Deserialize, Serialize};

/// An accumulator of chunks. Merging is exact and commutes.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Partial {
    /// Absent until the first chunk: an accumulator begins before it has seen the plan.
    pub(crate) table: Option<Table>,
    pub(crate) rejects: Rejects,
    #[serde(skip)]
    pub(crate) workplace: Workplace,
}

/// What is used again from chunk to chunk and does not travel.
#[derive(Debug, Default)]
pub(crate) struct Workplace {
    pub(crate) inputs: Inputs,
    pub(crate) window: Window,
    pub(crate) structure: Structure,
    /// Which of the known ends is the one before the next record.
    pub(crate) taken: usize,
    /// A group key of several columns that do not stand side by side.
    pub(crate) spelling: Vec<u8>,
    /// The values of a record, until all of them have been read.
    pub(crate) values: Vec<Read>,
}

impl Partial {
    /// Adds everything of another accumulator of the same plan.
    pub fn merge(mut self, other: Partial) -> Partial {
        self.rejects.merge(other.rejects);
        self.table = match (self.table, other.table) {
            (Some(mut mine), Some(theirs)) => {
                mine.merge(theirs);
                Some(mine)
            }
            (mine, theirs) => mine.or(theirs),
        };
        self
    }
}
