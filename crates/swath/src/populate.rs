//! Faulting an array's pages in where they will be used: by the workers, each the rows that it will begin with.
//!
//! An array's memory is there from the beginning (it was reserved, so that there is no SIGBUS later), but each process maps a page
//! when it first touches it, one fault at a time: a first pass costs several times what a later one does. Every phase hands
//! the same first rows to the same worker, so this is the worker that should map them. On machines with several memory
//! nodes it does not move anything: the node was chosen when the memory was reserved.

use ndarray::{ArrayViewMut, Dimension, RemoveAxis};
use swath_array::{Element, SharedArray};
use swath_platform::memory;

use crate::context::Ctx;
use crate::error::Result;
use crate::operand::out;
use crate::pool::Pool;

impl Pool {
    /// Has the workers fault all pages of `array` in, each worker its share of the rows; the values stay as they are. What it
    /// costs now, the first phase over the array does not cost later.
    ///
    /// # Errors
    /// As [`Phase::for_each`](crate::Phase::for_each); no memory is left.
    pub fn populate<T: Element, D: Dimension + RemoveAxis>(
        &self,
        array: &mut SharedArray<T, D>,
    ) -> Result<()> {
        self.phase(out(array)).keeping_values().name("populate").for_each(touch::<T, D>)
    }
}

fn touch<T: Element, D: Dimension + RemoveAxis>(
    _: &Ctx<()>,
    mut rows: ArrayViewMut<'_, T, D>,
) -> std::io::Result<()> {
    if let Some(slice) = rows.as_slice_mut() {
        return memory::populate_write(slice.as_ptr().cast(), size_of_val(slice));
    }
    // Fortran order: a run of this chunk's rows in every column.
    for lane in rows.lanes(ndarray::Axis(0)) {
        if let Some(run) = lane.as_slice() {
            memory::populate_write(run.as_ptr().cast(), size_of_val(run))?;
        }
    }
    Ok(())
}
