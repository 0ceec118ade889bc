//! Where a queue lies: its plan and its place in shared memory.

use std::alloc::Layout;

use bytemuck::Pod;

use super::{Cell, Queue};
use crate::limits::QUEUE_CAPACITY_MAX;
use crate::place::{InPlace, Plan};

/// A queue that has no place yet.
#[derive(Copy, Clone, Debug)]
pub struct QueuePlan<T> {
    pub(super) capacity: usize,
    pub(super) _item: std::marker::PhantomData<T>,
}

// SAFETY: 1: the head, then as many cells, padded to the alignment of the whole, as the fat reference has it. 2: atomics,
// and values of Pod. 3: indices are reduced to the number of cells, which is private.
unsafe impl<T: Pod> InPlace for Queue<T> {
    const KIND: &'static str = "queue";
    const ELEMENT: (usize, usize) = (size_of::<T>(), align_of::<T>());

    fn layout(cells: usize) -> Option<Layout> {
        if !(1..=QUEUE_CAPACITY_MAX).contains(&cells) {
            return None;
        }
        let head = Layout::new::<Queue<T, [Cell<T>; 0]>>();
        let (whole, at) = head.extend(Layout::array::<Cell<T>>(cells).ok()?).ok()?;
        debug_assert_eq!(at, std::mem::offset_of!(Queue<T, [Cell<T>; 0]>, cells));
        Some(whole.pad_to_align())
    }

    unsafe fn at<'a>(memory: *mut u8, cells: usize) -> &'a Self {
        debug_assert!(memory.addr().is_multiple_of(align_of::<Queue<T, [Cell<T>; 0]>>()));
        // SAFETY: by the caller's 1 and 2; any bytes are a valid queue.
        unsafe { &*(std::ptr::slice_from_raw_parts(memory, cells) as *const Self) }
    }
}

// SAFETY: zero is an empty queue.
unsafe impl<T: Pod> Plan for QueuePlan<T> {
    type Object = Queue<T>;

    fn cells(&self) -> usize {
        self.capacity
    }

    unsafe fn place(self, _memory: *mut u8) {}
}
