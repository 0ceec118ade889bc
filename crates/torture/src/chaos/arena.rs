//! Where the acts' objects lie: one after the other on the stage, behind the slot table.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::cell::Cell;

use swath_sync::{InPlace, Plan, SlotTable};

use crate::stage::{STATE_BYTES, Stage, Staged};

/// Hands out zeroed memory of a fresh stage, each byte once.
pub(crate) struct Arena<'s> {
    stage: &'s Stage,
    used: Cell<usize>,
}

impl<'s> Arena<'s> {
    /// A fresh stage: nobody of the last game is left.
    pub(crate) fn new(stage: &'s Stage) -> std::io::Result<Arena<'s>> {
        stage.clear()?;
        Ok(Arena { stage, used: Cell::new(size_of::<SlotTable>()) })
    }

    /// The table of the parties.
    pub(crate) fn table(&self) -> &'static SlotTable {
        // SAFETY: page-aligned, large enough (a stage has room for a table), zero at the start of a game, mapped until
        // the process ends.
        unsafe { SlotTable::from_ptr(self.stage.base()) }
    }

    /// Memory for something that is placed by hand.
    pub(crate) fn room(&self, layout: Layout) -> *mut u8 {
        let offset = self.take(layout);
        self.stage.base().wrapping_add(offset)
    }

    /// Makes an object.
    pub(crate) fn place<P: Plan>(&self, plan: P) -> &'static P::Object {
        let cells = plan.cells();
        let layout = P::Object::layout(cells).expect("an object of this size exists");
        let memory = self.room(layout);
        // SAFETY: fresh, zero, aligned, in bounds (`take`), mapped until the process ends; nobody else knows of it.
        unsafe {
            plan.place(memory);
            P::Object::at(memory, cells)
        }
    }

    /// Plain words, all zero.
    pub(crate) fn words<T: Staged>(&self) -> &'static T {
        self.stage.part(self.take(Layout::new::<T>()))
    }

    fn take(&self, layout: Layout) -> usize {
        // A line for each at least, so that one act's words do not slow another's.
        let offset = self.used.get().next_multiple_of(layout.align().max(64));
        self.used.set(offset + layout.size());
        assert!(self.used.get() <= STATE_BYTES, "the stage is full");
        offset
    }
}
