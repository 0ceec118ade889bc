//! Taking the values of a finished phase: partials in chunk order, accumulators of all workers that had one.

use std::fs::File;

use serde::de::DeserializeOwned;

use crate::arena::{self, At, Kind};
use crate::board::Flush;
use crate::error::{Error, ErrorKind, Result};
use crate::freight;
use crate::ledger::{Ledger, State};
use crate::partial::{Partial, Place};

/// One worker's arena, of the living or the dead.
pub(crate) struct ArenaOf {
    pub(crate) cell: usize,
    pub(crate) generation: u16,
    pub(crate) file: File,
    /// The worker's flush word.
    pub(crate) flush: u64,
}

/// Where a finished phase's values are.
pub(crate) struct Gather<'g> {
    pub(crate) epoch: u32,
    pub(crate) ledger: Ledger<'g>,
    pub(crate) partials: *const Partial,
    pub(crate) arenas: &'g [ArenaOf],
}

impl Gather<'_> {
    /// The values of all chunks that are DONE, in chunk order.
    pub(crate) fn values<R: DeserializeOwned>(&self) -> Result<Vec<R>> {
        let done = (0..self.ledger.len()).filter(|chunk| self.is_done(*chunk));
        done.map(|chunk| self.value(chunk)).collect()
    }

    fn value<R: DeserializeOwned>(&self, chunk: usize) -> Result<R> {
        self.with_bytes(chunk, |bytes| freight::unpack(bytes))
    }

    /// Whether `chunk` has taken effect.
    pub(crate) fn is_done(&self, chunk: usize) -> bool {
        self.ledger.entry(chunk).state() == Some(State::Done)
    }

    /// Decodes what a chunk that is DONE gave.
    pub(crate) fn with_bytes<R>(
        &self,
        chunk: usize,
        decode: impl FnOnce(&[u8]) -> Result<R, String>,
    ) -> Result<R> {
        // SAFETY: the table has an entry per chunk, which the chunk's owner wrote before DONE, which we have seen.
        let partial = unsafe { self.partials.add(chunk).read() };
        let lost = |why: String| codec::<R>(format!("the value of chunk {chunk}: {why}"));
        match partial.place() {
            Some(Place::Inline(bytes)) => decode(bytes).map_err(lost),
            Some(Place::Arena { cell, generation, at }) => {
                let arena = self.arenas.iter().find(|a| (a.cell, a.generation) == (cell, generation));
                let arena = arena.ok_or_else(|| lost("its arena is gone".into()))?;
                let record =
                    arena::read(&arena.file, self.epoch, Kind::Value, at).map_err(|e| lost(e.to_string()))?;
                decode(&record.bytes).map_err(lost)
            }
            None => Err(lost("its entry makes no sense".into())),
        }
    }

    /// All published accumulators.
    pub(crate) fn accumulators<Acc: DeserializeOwned>(&self) -> Result<Vec<Acc>> {
        let mut all = Vec::new();
        for arena in self.arenas {
            let mut at = Flush::of_epoch(arena.flush, self.epoch).map_or(At::NONE, |f| At::from_word(f.at));
            while at != At::NONE {
                let record = arena::read(&arena.file, self.epoch, Kind::Accumulator, at);
                let record = record.map_err(|e| codec::<Acc>(format!("an accumulator: {e}")))?;
                all.push(postcard::from_bytes(&record.bytes).map_err(|e| codec::<Acc>(e.to_string()))?);
                at = record.previous;
            }
        }
        Ok(all)
    }
}

fn codec<R>(why: String) -> Error {
    ErrorKind::Codec.with(format!("{why} (of type {})", std::any::type_name::<R>()))
}
