//! The undo slot: a copy of the rows that a kernel is about to update in place, from which the coordinator restores them
//! if the worker dies before it commits.
//!
//! Undo rather than redo: one copy less, the kernel sees the array's own memory (and alignment, hence the same bits), and a
//! worker that dies while copying has not touched the array. Layout: the rows of each updated operand, one after the other,
//! in the order of the operands, segments of equal rows as they lie in the array.

use std::ops::Range;
use std::ptr;

use swath_array::ArrayRef;

use crate::operand::Bound;

/// How a range of rows lies in memory: `runs` contiguous runs, one after `stride` bytes the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Runs {
    runs: usize,
    bytes_per_row: usize,
    stride: usize,
}

/// One run in C order; in Fortran order, where the first axis is the contiguous one, one per column.
fn runs(array: &ArrayRef) -> Runs {
    let row_bytes = array.row_bytes();
    if array.is_c_order() {
        return Runs { runs: 1, bytes_per_row: row_bytes, stride: 0 };
    }
    let others: usize =
        array.shape.iter().take(array.ndim as usize).skip(1).map(|&axis| axis as usize).product();
    let item = row_bytes.checked_div(others).unwrap_or(0);
    Runs { runs: others, bytes_per_row: item, stride: item * array.rows() }
}

/// Bytes of undo slot that a chunk of at most `rows` rows needs for the updated operands of `bound`. What locked operands
/// need lies behind them.
pub(crate) fn bytes(bound: &[Bound], rows: usize) -> usize {
    let updated = bound.iter().filter(|b| b.is_updated());
    updated.map(|b| b.array.row_bytes().saturating_mul(rows)).fold(0, usize::saturating_add)
}

/// Which way to copy.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Save,
    Restore,
}

/// Copies `rows` of all updated operands into `slot`.
///
/// # Safety
/// 1. Every operand of `bound` was checked and is mapped writable if updated, and `rows` lies inside each of them.
/// 2. `slot` points at [`bytes`] bytes that nobody else uses, outside the arrays.
/// 3. Nobody else writes these rows meanwhile: the caller has claimed their chunk.
pub(crate) unsafe fn save(bound: &[Bound], rows: &Range<usize>, slot: *mut u8) {
    // SAFETY: passed on.
    unsafe { copy(bound, rows, slot, Way::Save) }
}

/// Copies them back.
///
/// # Safety
/// As for [`save`], where 3 is: the worker that had the chunk is fenced, or is the caller; and `slot` holds a whole copy of
/// these rows, which the chunk's ARMED in the ledger says.
pub(crate) unsafe fn restore(bound: &[Bound], rows: &Range<usize>, slot: *mut u8) {
    // SAFETY: passed on.
    unsafe { copy(bound, rows, slot, Way::Restore) }
}

/// # Safety
/// As for [`save`] and [`restore`].
unsafe fn copy(bound: &[Bound], rows: &Range<usize>, slot: *mut u8, way: Way) {
    let mut at = slot;
    for operand in bound.iter().filter(|b| b.is_updated()) {
        let layout = runs(&operand.array);
        let len = layout.bytes_per_row * rows.len();
        let offset = operand.array.data_offset as usize + rows.start * layout.bytes_per_row;
        for run in 0..layout.runs {
            // SAFETY: by 1 the rows lie inside the mapping; by 2 the slot has room for all runs of all operands and does not
            // overlap them; by 3 there is no race.
            unsafe {
                let there = operand.base.add(offset + run * layout.stride);
                match way {
                    Way::Save => ptr::copy_nonoverlapping(there, at, len),
                    Way::Restore => ptr::copy_nonoverlapping(at, there, len),
                }
                at = at.add(len);
            }
        }
    }
}
