//! The memory of one array: its segment, what is said about it, and the only place that turns its pointer into views.
//!
//! # Why views of it are sound
//!
//! 1. The mapping lives as long as the [`Storage`] and never moves; a tainted one is never unmapped at all.
//! 2. Only a raw pointer is kept. A view is derived per borrow: shared ones from `&Storage`, the mutable one from
//!    `&mut Storage`, which an `Arc` gives out only while no [`ArrayHandle`](crate::ArrayHandle) shares it; nor does another process
//!    (`keep_readers_out`).
//! 3. Workers write only during a phase or a team, which holds the borrow (or a fence over it) for as long.
//! 4. Other programs of the same user are trusted not to write: numpy's `r+` on a live array breaks 3.
//!
//! # Why it is `Send` and `Sync`
//!
//! The memory has no owner thread, elements are plain numbers (`Element: Send + Sync`), `&Storage` gives out shared views
//! only, and what changes behind `&Storage` (marks) stands behind a lock.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ndarray::{ArrayView, ArrayViewMut, Dimension};

use swath_segment::Stamp;

use crate::backing::Backing;
use crate::limits::{READERS_LOOK, READERS_WAIT};
use crate::travel;
use crate::{ArrayRef, Element, Error, Extent, Taint, Torn, rows_view, rows_view_mut};

pub(crate) struct Storage {
    backing: Backing,
    reference: ArrayRef,
    extent: Extent,
    /// Whether other processes may have it mapped.
    readers: Mutex<Readers>,
    /// Set once, after `marks.taint`: the fast answer to "is it tainted".
    tainted: AtomicBool,
    marks: Mutex<Marks>,
}

/// What the kernel was told of readers in other processes. Of memory that is never written from here: `Admitted`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Readers {
    KeptOut,
    Admitted,
}

#[derive(Default)]
struct Marks {
    taint: Option<Taint>,
    torn: Vec<Torn>,
}

// Compiled only if every part is.
const _: () = {
    const fn any_thread<X: Send + Sync>() {}
    any_thread::<Storage>();
};

impl Storage {
    /// An array of `extent` whose data begins at `data_offset` of `backing`.
    pub(crate) fn new(backing: Backing, data_offset: usize, extent: Extent) -> Result<Storage, Error> {
        let reference = ArrayRef::new(backing.reference(), data_offset, &extent, !backing.is_writable());
        reference.extent()?;
        // A file may be read by whom it was lent to when it was open before. Where it cannot be asked, it is before the first change.
        let out = backing.is_writable() && backing.try_keep_readers_out().unwrap_or(false);
        let readers = Mutex::new(if out { Readers::KeptOut } else { Readers::Admitted });
        Ok(Storage {
            backing,
            reference,
            extent,
            readers,
            tainted: AtomicBool::new(false),
            marks: Mutex::default(),
        })
    }

    pub(crate) fn reference(&self) -> &ArrayRef {
        &self.reference
    }

    pub(crate) fn extent(&self) -> &Extent {
        &self.extent
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.backing.name()
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.backing.path()
    }

    /// How errors call it.
    pub(crate) fn object(&self) -> String {
        match self.backing.name() {
            Some(name) => format!("the array \"{name}\""),
            None => match self.backing.file_path() {
                Some(path) => format!("the array in {}", path.display()),
                None => format!("the unnamed array {:?}", self.extent),
            },
        }
    }

    pub(crate) fn base_ptr(&self) -> *mut u8 {
        self.backing.as_ptr()
    }

    /// Read-only views; `Err` if tainted.
    pub(crate) fn view<T: Element, D: Dimension>(&self) -> Result<ArrayView<'_, T, D>, Error> {
        self.usable()?;
        debug_assert!(self.reference.check::<T, D>().is_ok());
        // SAFETY: (1) the mapping is the backing's, whole; (2) `new` checked the reference, T and D are fixed by the typed
        // owner of this storage; (3) all rows; (4) by "Why views of it are sound".
        Ok(unsafe { rows_view(self.backing.as_ptr(), &self.reference, 0..self.reference.rows()) })
    }

    /// The mutable view; `Err` if tainted or mapped for reading only.
    pub(crate) fn view_mut<T: Element, D: Dimension>(&mut self) -> Result<ArrayViewMut<'_, T, D>, Error> {
        self.changeable()?;
        debug_assert!(self.reference.check::<T, D>().is_ok());
        // SAFETY: as in `view`; the mapping is writable; `&mut self` is the only path to it (point 2).
        Ok(unsafe { rows_view_mut(self.backing.as_ptr(), &self.reference, 0..self.reference.rows()) })
    }

    /// All bytes of the data; `Err` as in `view_mut`.
    pub(crate) fn bytes_mut(&mut self) -> Result<&mut [u8], Error> {
        self.changeable()?;
        let first = self.backing.as_ptr().wrapping_add(self.reference.data_offset as usize);
        // SAFETY: `new` checked that this range lies in the mapping; any bytes are a u8; exclusive as in `view_mut`.
        Ok(unsafe { std::slice::from_raw_parts_mut(first, self.extent.bytes()) })
    }

    /// `Err` if tainted.
    pub(crate) fn usable(&self) -> Result<(), Error> {
        if !self.tainted.load(Ordering::Acquire) {
            return Ok(());
        }
        self.taint().map_or(Ok(()), |taint| Err(Error::Tainted { object: self.object(), taint }))
    }

    /// `Err` if tainted or mapped for reading only.
    pub(crate) fn changeable(&self) -> Result<(), Error> {
        self.usable()?;
        match self.backing.is_writable() {
            true => Ok(()),
            false => {
                let why = if self.is_lent() {
                    "it is another process's"
                } else {
                    "its file was opened for reading only"
                };
                Err(Error::NotWritable { object: self.object(), why: why.to_owned() })
            }
        }
    }

    // ---- travel ------------------------------------------------------------------------------------------------------

    /// Whether other processes may have it mapped.
    pub(crate) fn may_be_read(&self) -> bool {
        *self.readers() == Readers::Admitted
    }

    /// A handle to it is being encoded.
    pub(crate) fn let_readers_in(&self) -> Result<(), Error> {
        let mut readers = self.readers();
        if *readers == Readers::KeptOut {
            self.backing.let_readers_in()?;
            *readers = Readers::Admitted;
        }
        Ok(())
    }

    /// From now on no other process has it mapped, nor can. `Err` while one has; who is about to let go is waited for, for a moment.
    pub(crate) fn keep_readers_out(&self) -> Result<(), Error> {
        let end = Instant::now() + READERS_WAIT;
        while !self.try_keep_readers_out()? {
            if Instant::now() >= end {
                let why = "another process has kept a handle to it".to_owned();
                return Err(Error::NotWritable { object: self.object(), why });
            }
            std::thread::sleep(READERS_LOOK);
        }
        Ok(())
    }

    fn try_keep_readers_out(&self) -> Result<bool, Error> {
        let mut readers = self.readers();
        if *readers == Readers::Admitted && self.backing.try_keep_readers_out()? {
            *readers = Readers::KeptOut;
        }
        Ok(*readers == Readers::KeptOut)
    }

    /// Whether another process has lent it to this one.
    pub(crate) fn is_lent(&self) -> bool {
        self.backing.is_lent()
    }

    /// The process whose descriptor the reference names.
    pub(crate) fn holder(&self) -> u32 {
        self.backing.holder()
    }

    /// `Err` if it has a name or a path, which stay with their maker.
    pub(crate) fn is_anonymous(&self) -> Result<(), Error> {
        if self.backing.name().is_none() && self.backing.file_path().is_none() {
            return Ok(());
        }
        let why = "its name belongs to the process that made it; make it without one to return it";
        Err(Error::NotGiven { object: self.object(), why })
    }

    /// Sends it away; this one is dropped then.
    pub(crate) fn hand_over(&self, address: &str, stamp: Stamp) -> Result<(), Error> {
        self.usable()?;
        self.backing.hand_over(address, stamp)
    }

    // ---- marks -------------------------------------------------------------------------------------------------------

    /// The first taint stays.
    pub(crate) fn set_taint(&self, taint: Taint) {
        self.marks().taint.get_or_insert(taint);
        self.tainted.store(true, Ordering::Release);
    }

    pub(crate) fn taint(&self) -> Option<Taint> {
        self.marks().taint.clone()
    }

    pub(crate) fn mark_torn(&self, torn: Torn) {
        self.marks().torn.push(torn);
    }

    pub(crate) fn torn(&self) -> Vec<Torn> {
        self.marks().torn.clone()
    }

    pub(crate) fn clear_torn(&self) {
        self.marks().torn.clear();
    }

    /// Makes a file-backed array final.
    pub(crate) fn finish(&mut self) -> Result<(), Error> {
        self.usable()?;
        if self.backing.file_path().is_none() {
            return Err(Error::NotInFile { object: self.object() });
        }
        self.backing.finish()
    }

    /// A panic while it was held cannot have left it half changed.
    fn readers(&self) -> MutexGuard<'_, Readers> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A panic while the marks were held cannot leave them half changed.
    fn marks(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        travel::forget_dead(self.identity());
        if *self.tainted.get_mut() {
            self.backing.leak();
        }
    }
}
