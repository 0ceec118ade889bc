//! Accumulators of folds: chunks that take effect together.

use std::sync::atomic::Ordering;

use serde::Serialize;

use super::{InHand, Turn};
use crate::arena::{At, Kind};
use crate::board::Flush;
use crate::cause::{Fault, What};
use crate::freight;

impl Turn<'_> {
    /// The chunk's value is in the accumulator.
    pub(crate) fn fold(&mut self, held: InHand) -> Option<usize> {
        let chunk = held.chunk();
        self.ledger.fold(held.claim).then_some(chunk)
    }

    /// Publishes an accumulator and lets the chunks that it holds take effect. In order: (a) the record is written, (b) one
    /// store of the cell's flush word publishes it, (c) the chunks become DONE, (d) a second store says that they all are.
    /// *Killed before b*: they are FOLDED and run again. *Killed after b*: whoever repairs sets the rest to DONE.
    pub(crate) fn flush<Acc: Serialize>(&mut self, accumulator: &Acc, chunks: &[usize]) -> Result<(), Fault> {
        let epoch = self.descriptor.epoch;
        let encoded = freight::encode(accumulator).map_err(What::unencodable::<Acc>)?;
        let word = self.cell().flush.load(Ordering::Relaxed);
        let previous = Flush::of_epoch(word, epoch).map_or(At::NONE, |flush| At::from_word(flush.at));
        let at = self.append(Kind::Accumulator, &encoded, previous)?;
        self.cell().flush.store(Flush::new(at.word(), false, epoch).word(), Ordering::Release);
        for &chunk in chunks {
            self.ledger.commit_folded(chunk, self.hand.owner);
        }
        self.cell().flush.store(Flush::new(at.word(), true, epoch).word(), Ordering::Release);
        self.count(chunks.len() as u32);
        Ok(())
    }

    /// An accumulator cannot be published: its chunks fail, for the same reason each.
    #[cold]
    pub(crate) fn fail_folded(&mut self, chunks: &[usize], what: &Fault) {
        for &chunk in chunks {
            self.ledger.unfold(chunk, self.hand.owner);
            if let Some(held) = self.take(chunk) {
                self.fail(held, What::clone(what));
            }
        }
    }

    /// Throws an accumulator away: its chunks are run again by whoever finds them.
    #[cold]
    pub(crate) fn discard(&mut self, chunks: &[usize]) {
        for &chunk in chunks {
            self.ledger.unfold(chunk, self.hand.owner);
        }
        if !chunks.is_empty() {
            self.hand.board.announce_sweep();
        }
    }
}
