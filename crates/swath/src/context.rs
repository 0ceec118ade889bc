//! What a kernel is told besides its rows.

use std::cell::{RefCell, RefMut};
use std::ops::Range;
use std::sync::atomic::Ordering;

use crate::board::Board;
use crate::rng::ChunkRng;

/// Handed to every call of a kernel. `A` is the type given to [`args`](crate::Phase::args), `()` without.
pub struct Ctx<A> {
    args: A,
    worker: usize,
    seed: u64,
    board: Board,
    rows: Range<usize>,
    chunk: usize,
    attempt: u32,
    /// The worker's claim count while this chunk is in hand: what its cancel word is compared with.
    claim: u64,
    rng: RefCell<Option<ChunkRng>>,
}

impl<A> Ctx<A> {
    /// A context without a chunk yet.
    pub(crate) fn new(args: A, worker: usize, seed: u64, board: Board) -> Ctx<A> {
        Ctx { args, worker, seed, board, rows: 0..0, chunk: 0, attempt: 0, claim: 0, rng: RefCell::new(None) }
    }

    /// Moves on to the next chunk.
    #[inline]
    pub(crate) fn enter(&mut self, chunk: usize, rows: Range<usize>, attempt: u32, claim: u64) {
        (self.chunk, self.rows, self.attempt, self.claim) = (chunk, rows, attempt, claim);
        *self.rng.get_mut() = None;
    }

    /// The phase's arguments.
    pub fn args(&self) -> &A {
        &self.args
    }

    /// The rows of this chunk, counted in the whole array.
    pub fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    /// Index of this chunk.
    pub fn chunk(&self) -> usize {
        self.chunk
    }

    /// Index of this worker in its pool. Results must not depend on it.
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// Earlier attempts at this chunk: 0 at first, at most 31.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Random numbers of this chunk: the same for any number of workers, order of chunks and attempt. Calls continue one
    /// sequence.
    ///
    /// # Panics
    /// When an earlier borrow is still alive.
    pub fn rng(&self) -> RefMut<'_, ChunkRng> {
        RefMut::map(self.rng.borrow_mut(), |generator| {
            generator.get_or_insert_with(|| ChunkRng::new(self.seed, self.chunk as u64))
        })
    }

    /// True when nobody wants this chunk's result any more; a long kernel may look and return early. One that does not is
    /// killed after a grace.
    #[inline]
    pub fn cancelled(&self) -> bool {
        self.board.cell(self.worker).cancel.load(Ordering::Relaxed) == self.claim
    }
}
