//! The coordinator's side of the segment table: which entries are free, live, retired but pinned.
//!
//! Only the coordinator writes entries, under this lock; others read them as snapshots.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::control::{self, Control};
use crate::error::{Error, Result};
use crate::layout::{EntryImage, EntryState, FLAG_TAINTED, id_of, index_of};
use crate::limits::{ENTRIES_AT_FIRST, SEGMENTS_MAX};
use crate::reference::padded;

/// Bookkeeping of one session's table.
#[derive(Debug)]
pub(crate) struct Table {
    control: &'static Control,
    file: Arc<OwnedFd>,
    /// So many entries have their memory: a session that makes few segments is there sooner.
    reserved: usize,
    free: Vec<usize>,
    /// Retired entries, oldest first, with what they pin.
    retired: VecDeque<Retired>,
    next_sequence: u64,
}

#[derive(Copy, Clone, Debug)]
struct Retired {
    index: usize,
    number: u64,
    bytes: u64,
    tainted: bool,
}

impl Table {
    /// Of a control segment that lies in `file`.
    pub(crate) fn new(control: &'static Control, file: Arc<OwnedFd>) -> Table {
        let free = (0..SEGMENTS_MAX).rev().collect();
        let (reserved, retired) = (ENTRIES_AT_FIRST, VecDeque::new());
        Table { control, file, reserved, free, retired, next_sequence: 1 }
    }

    /// Step G3: writes the intent, before any system call makes anything. The name may depend on the sequence number.
    pub(crate) fn enter(&mut self, name: impl FnOnce(u64) -> String, flags: u32) -> Result<EntryImage> {
        let index = self.free_index()?;
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let image = EntryImage {
            state: EntryState::Entered.word(),
            id: id_of(sequence, index),
            dev: 0,
            ino: 0,
            len: 0,
            retired_at: 0,
            flags,
            fd: -1,
            reserved: 0,
            name: padded(&name(sequence)),
        };
        self.control.names()[index].enter(&image);
        Ok(image)
    }

    fn free_index(&mut self) -> Result<usize> {
        if self.free.is_empty() {
            self.sweep();
        }
        if let Some(&index) = self.free.last() {
            self.reserve(index)?;
            self.free.pop();
            return Ok(index);
        }
        // A worker that still has a retired segment mapped sees another id in its entry: as good as retired. Only the
        // account of what it pins is lost.
        let oldest = self.retired.iter().position(|retired| !retired.tainted);
        let full = Error::TooManySegments { limit: SEGMENTS_MAX, retired: self.retired.len() };
        oldest.and_then(|at| self.retired.remove(at)).map(|retired| retired.index).ok_or(full)
    }

    /// Has the memory of entry `index` be there: a store must not fail for want of it.
    fn reserve(&mut self, index: usize) -> Result<()> {
        if index < self.reserved {
            return Ok(());
        }
        let wanted = (index + 1).next_power_of_two();
        control::reserve(&self.file, &[Control::entries(self.reserved..wanted)])?;
        self.reserved = wanted;
        Ok(())
    }

    /// Step G8: what has become known of a segment.
    pub(crate) fn update(&mut self, image: &EntryImage) {
        self.control.names()[index_of(image.id)].rewrite(image);
    }

    /// Forgets an entry whose segment nobody ever attached to.
    pub(crate) fn forget(&mut self, id: u64) {
        let index = index_of(id);
        self.control.names()[index].clear();
        self.free.push(index);
    }

    /// Step R2: the owner has unlinked it; workers may have it mapped.
    pub(crate) fn retire(&mut self, id: u64, tainted: bool) {
        let index = index_of(id);
        let entry = &self.control.names()[index];
        let mut image = entry.image();
        image.state = EntryState::Retired.word();
        image.retired_at = self.control.retired() + 1;
        image.fd = -1;
        if tainted {
            image.flags |= FLAG_TAINTED;
        }
        // First the entry, then the number: whoever acknowledges the number has seen the entry.
        entry.rewrite(&image);
        let number = self.control.next_retirement();
        self.retired.push_back(Retired { index, number, bytes: image.len, tainted });
        self.sweep();
    }

    /// Step R4: frees the entries that nobody can have mapped any more. The bytes that stay pinned.
    pub(crate) fn sweep(&mut self) -> u64 {
        let Some(newest) = self.retired.iter().filter(|retired| !retired.tainted).map(|r| r.number).max()
        else {
            return self.pinned();
        };
        let horizon = self.control.pinning(newest).map(|slot| self.control.acknowledged(slot)).min();
        let horizon = horizon.unwrap_or(u64::MAX);
        let (control, free) = (self.control, &mut self.free);
        self.retired.retain(|retired| {
            let gone = !retired.tainted && retired.number <= horizon;
            if gone {
                control.names()[retired.index].clear();
                free.push(retired.index);
            }
            !gone
        });
        self.pinned()
    }

    /// Bytes of retired segments that somebody may still have mapped.
    pub(crate) fn pinned(&self) -> u64 {
        self.retired.iter().map(|retired| retired.bytes).sum()
    }
}
