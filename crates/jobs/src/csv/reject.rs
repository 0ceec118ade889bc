//! The malformed records that an accumulator has met.
//!
//! Under "fail" only the first one *in the input* matters, so a worker that has met one need not look at anything behind
//! it, but must still look at everything before it. Under "skip" they are counted; the places of all of them, or of the
//! first few, are kept so that the coordinator can say more.

use super::chunk::Chunk;
use super::fault::Fault;
use super::plan::Plan;
use super::settings::OnError;
use serde::{Deserialize, Serialize};

/// Places that are kept if not all of them are needed.
const FIRST_FEW: usize = 10;

/// Malformed records.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Rejects {
    count: u64,
    kept: Vec<Fault>,
    /// Whether `kept` has all of them.
    keep_all: bool,
    /// The first one that ends the job.
    first_fatal: Option<Fault>,
}

impl Rejects {
    /// Notes a malformed record; `false` if the rest of the chunk does not matter any more.
    pub(crate) fn note(&mut self, plan: &Plan, fault: Fault) -> bool {
        match plan.on_error {
            OnError::Skip { keep, .. } if !fault.is_fatal() => {
                self.count += 1;
                self.keep_all = keep;
                self.keep(fault);
                true
            }
            _ => {
                self.end_with(Some(fault));
                false
            }
        }
    }

    /// Whether nothing in a chunk can matter any more.
    pub(crate) fn is_behind_the_end(&self, chunk: Chunk) -> bool {
        self.first_fatal.is_some_and(|fault| (fault.file, fault.record) < (chunk.file, chunk.lo))
    }

    /// Adds everything of other rejects.
    pub(crate) fn merge(&mut self, other: Rejects) {
        self.count += other.count;
        self.end_with(other.first_fatal);
        self.keep_all |= other.keep_all;
        other.kept.into_iter().for_each(|fault| self.keep(fault));
    }

    fn end_with(&mut self, fault: Option<Fault>) {
        self.first_fatal = self.first_fatal.into_iter().chain(fault).min();
    }

    fn keep(&mut self, fault: Fault) {
        if self.keep_all {
            self.kept.push(fault);
            return;
        }
        let place = self.kept.partition_point(|known| *known < fault);
        if place < FIRST_FEW {
            self.kept.insert(place, fault);
            self.kept.truncate(FIRST_FEW);
        }
    }

    /// How many records were left out.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The first malformed record in the input that no policy can leave out.
    pub fn first_fatal(&self) -> Option<Fault> {
        self.first_fatal
    }

    /// The places of the records that were left out, in the order of the input: all, or the first few.
    pub fn into_kept(mut self) -> Vec<Fault> {
        self.kept.sort_unstable();
        self.kept
    }
}
