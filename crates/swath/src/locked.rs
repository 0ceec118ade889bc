//! `locked(&mut a)`: an array that all chunks update, one at a time, each exactly once.
//!
//! A lock alone would not do: a worker that dies in the middle leaves half an update, and one that dies after its update and
//! before its chunk is DONE would be run again, and update twice. So the update belongs to the chunk, like rows given as
//! `&mut`, and takes effect with it:
//!
//! 1. The kernel asks ([`LockedRows::lock`]): the phase's lock, one word on the board that holds the cell's number.
//!    *Killed after*: step 6 of the ledger, on the confirmed exit, passes the lock on.
//! 2. The whole array is copied to the worker's undo slot, then the cell's `locked` word names epoch and chunk.
//!    *Killed before the word*: the array is untouched. *Killed after*: the copy is put back, then the lock passes on.
//! 3. The kernel changes the array, and ends. The chunk becomes DONE: the update has taken effect.
//!    *Killed before*: put back. *Killed after*: the entry says DONE, nothing is put back.
//! 4. The word is cleared, the lock given up.
//!
//! So the lock is held from the first `lock` to the end of the chunk: ask late. All locked operands of a phase share it, and
//! all of them are copied, so nobody can wait for each other. For a sum of numbers that is exact in any order, `map` and
//! `reduce` need no lock at all; floating-point sums depend on the order of the chunks here, and there they do not.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr;

use ndarray::{ArrayViewMut, Dimension};
use swath_array::{ArrayRef, Element, SharedArray, rows_view_mut};

use crate::board::Board;
use crate::descriptor::Mode;
use crate::operand::{Bound, Described, Operand, described};

/// Operand that all chunks update under one lock; made by [`locked`].
#[derive(Debug)]
pub struct Locked<'a, T: Element, D: Dimension>(&'a mut SharedArray<T, D>);

/// The kernel may take the lock and then see and change all rows, whatever its chunk; see [`LockedRows::lock`]. What it
/// changes takes effect with its chunk, exactly once. Not for `fold`, and not the only operand: it is not cut into chunks.
pub fn locked<T: Element, D: Dimension>(array: &mut SharedArray<T, D>) -> Locked<'_, T, D> {
    Locked(array)
}

/// What a kernel gets of an array given as [`locked`].
pub struct LockedRows<'v, T, D> {
    bound: Bound,
    site: &'v Site,
    marker: PhantomData<(&'v mut T, D)>,
}

impl<T: Element, D: Dimension> LockedRows<'_, T, D> {
    /// Waits until no other chunk has the lock, and gives access to all rows. The lock is held until the chunk ends, so ask
    /// late; asking again costs nothing. The wait counts towards a chunk's timeout.
    ///
    /// # Panics
    /// When the phase is being ended: the chunk will not take effect, and is not blamed.
    pub fn lock(&mut self) -> ArrayViewMut<'_, T, D> {
        self.site.enter();
        // SAFETY: checked and mapped writable; all rows are inside; the lock makes them ours until the chunk ends, and this
        // view ends before, since it borrows what the kernel was lent.
        unsafe { rows_view_mut(self.bound.base, &self.bound.array, 0..self.bound.array.rows()) }
    }
}

// SAFETY: one array, described as locked, which is exclusive; its rows are shown under the phase's lock only.
unsafe impl<T: Element, D: Dimension> Operand for Locked<'_, T, D> {
    type View<'v> = LockedRows<'v, T, D>;
    const COUNT: usize = 1;

    fn describe<'a>(&'a self, into: &mut Vec<Described<'a>>) {
        into.push(described(self.0, Mode::Locked));
    }

    fn check(bound: &[Bound]) -> Result<(), swath_array::Error> {
        bound[0].array.check::<T, D>()
    }

    unsafe fn view<'v>(bound: &[Bound], _rows: &std::ops::Range<usize>) -> Self::View<'v> {
        // SAFETY: the turn that bound a locked operand gave it its site, which lives as long as the turn.
        let site = unsafe { &*bound[0].site };
        LockedRows { bound: bound[0], site, marker: PhantomData }
    }
}

/// Bytes of copy that the locked operands need.
pub(crate) fn bytes(bound: &[Bound]) -> usize {
    all(bound).map(|array| array.row_bytes().saturating_mul(array.rows())).fold(0, usize::saturating_add)
}

fn all(bound: &[Bound]) -> impl Iterator<Item = &ArrayRef> {
    bound.iter().filter(|b| b.is_locked()).map(|b| &b.array)
}

/// Puts the copy back.
///
/// # Safety
/// 1. The locked operands of `bound` are checked and mapped writable.
/// 2. `copy` points at [`bytes`]`(bound)` bytes that hold a whole copy, which the cell's `locked` word says.
/// 3. The lock is the caller's, or a fenced worker's.
pub(crate) unsafe fn restore(bound: &[Bound], copy: *const u8) {
    let mut at = copy;
    for operand in bound.iter().filter(|b| b.is_locked()) {
        let (there, len) = extent(operand);
        // SAFETY: by 1 the array lies inside its mapping; by 2 the copy is as long; by 3 nobody else touches either.
        unsafe {
            ptr::copy_nonoverlapping(at, there, len);
            at = at.add(len);
        }
    }
}

/// The array's bytes: contiguous in either order.
fn extent(operand: &Bound) -> (*mut u8, usize) {
    let len = operand.array.row_bytes() * operand.array.rows();
    (operand.base.wrapping_add(operand.array.data_offset as usize), len)
}

/// The lock as one turn sees it.
pub(crate) struct Site {
    board: Board,
    index: usize,
    epoch: u32,
    /// Where the copy goes, in the worker's undo slot.
    copy: *mut u8,
    bound: Vec<Bound>,
    chunk: Cell<usize>,
    held: Cell<bool>,
}

impl Site {
    /// For the locked operands of `bound`; `copy` has room for [`bytes`] of them.
    pub(crate) fn new(board: Board, index: usize, epoch: u32, bound: &[Bound], copy: *mut u8) -> Site {
        let bound = bound.iter().filter(|b| b.is_locked()).copied().collect();
        Site { board, index, epoch, copy, bound, chunk: Cell::new(0), held: Cell::new(false) }
    }

    /// A chunk begins.
    pub(crate) fn begin(&self, chunk: usize) {
        self.chunk.set(chunk);
    }

    /// Steps 1 and 2, once per chunk.
    fn enter(&self) {
        if self.held.get() {
            return;
        }
        if !self.board.lock(self.index, self.epoch) {
            std::panic::resume_unwind(Box::new("the phase is being ended"));
        }
        self.held.set(true);
        let mut at = self.copy;
        for operand in &self.bound {
            let (there, len) = extent(operand);
            // SAFETY: the array lies inside its mapping (checked when bound); the slot has room for all of them; the lock
            // keeps everybody else away from the array, and the slot is this worker's.
            unsafe {
                ptr::copy_nonoverlapping(there, at, len);
                at = at.add(len);
            }
        }
        self.board.cell(self.index).set_locked(self.epoch, Some(self.chunk.get()));
    }

    /// Step 4, after the chunk is DONE; or, with `undo`, before it is FAILED.
    pub(crate) fn leave(&self, undo: bool) {
        if !self.held.replace(false) {
            return;
        }
        if undo {
            // SAFETY: operands and copy are those of `enter`, which has finished the copy; the lock is ours.
            unsafe { restore(&self.bound, self.copy) };
        }
        self.board.cell(self.index).set_locked(self.epoch, None);
        self.board.unlock(self.index);
    }
}
