//! raw_sync's read-write lock: a writer's word and a few readers' words. Steps A5, A6.

use std::cell::UnsafeCell;
use std::ffi::c_void;

use ::raw_sync::Timeout;
#[cfg(not(loom))]
use ::raw_sync::locks::LockInit;
use ::raw_sync::locks::{LockGuard, LockImpl, ReadLockGuard};

use super::holder::Holder;
#[cfg(not(loom))]
use super::place;
use super::word::{ALL, Waited, Words, give_up, wait_for};
use super::{Result, deadline, guard, read_guard};
use crate::atomics::{AtomicU64, Ordering, fence};
use crate::deadline::Deadline;

/// How many read at the same time; the next one waits. With the padding all of it fits into the 64 bytes that programs
/// written for pthread locks tend to set aside.
const READERS: usize = if cfg!(loom) { 2 } else { 5 };

#[repr(C)]
pub(super) struct Cells {
    pub(super) writer: Words,
    readers: [AtomicU64; READERS],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Cells>() + align_of::<Cells>() <= 64);

#[cfg(loom)]
impl Cells {
    pub(super) fn new() -> Self {
        Self { writer: Words::new(), readers: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

/// 56 bytes of shared memory, all zero when free.
pub struct RwLock {
    cells: &'static Cells,
    data: UnsafeCell<*mut u8>,
}

impl RwLock {
    #[cfg(loom)]
    pub(super) fn of_model(cells: &'static Cells) -> RwLock {
        RwLock { cells, data: UnsafeCell::new(std::ptr::null_mut()) }
    }

    /// # Safety
    /// As [`LockInit::new`].
    #[cfg(not(loom))]
    unsafe fn at(memory: *mut u8, data: *mut u8, fresh: bool) -> (Box<dyn LockImpl>, usize) {
        let (padding, cells) = place::<Cells>(memory);
        // SAFETY: by the caller the memory has the size asked for and outlives the lock; while it is fresh nobody else
        // looks.
        let cells = unsafe {
            if fresh {
                cells.write_bytes(0, 1);
            }
            &*cells
        };
        (Box::new(RwLock { cells, data: UnsafeCell::new(data) }), padding + size_of::<Cells>())
    }

    /// A5: the writer's word first, so that no new readers come; then the readers leave, or are found dead.
    fn write(&self, deadline: Deadline) -> Result<()> {
        let deadline_ns = deadline.on_the_clock();
        self.cells.writer.acquire(deadline)?;
        fence(Ordering::SeqCst); // against A6: a reader that we do not see sees us
        let me = Holder::current()?;
        for cell in &self.cells.readers {
            loop {
                let word = cell.load(Ordering::Acquire);
                let Some(holder) = Holder::of_word(word) else { break };
                let why = match wait_for(cell, word, deadline_ns) {
                    _ if holder == me => "the calling thread reads it".to_owned(),
                    Waited::Look => continue,
                    Waited::Dead(seen) => {
                        let _ = cell.compare_exchange(seen, 0, Ordering::Acquire, Ordering::Relaxed);
                        continue;
                    }
                    Waited::TimedOut => format!("thread {} reads it", holder.tid()),
                };
                self.cells.writer.release(ALL);
                return Err(format!("the lock was not to be had in time: {why}").into());
            }
        }
        Ok(())
    }

    /// A6: announce, then look for a writer; step back for one.
    fn read(&self, deadline: Deadline) -> Result<()> {
        let (me, deadline_ns) = (Holder::current()?, deadline.on_the_clock());
        loop {
            let word = self.cells.writer.word.load(Ordering::Acquire);
            let cell = match Holder::of_word(word) {
                Some(writer) if writer == me => return Err("the calling thread writes it".into()),
                Some(_) => None,
                None => self.announce(me),
            };
            if let Some(cell) = cell {
                fence(Ordering::SeqCst); // against A5
                if Holder::of_word(self.cells.writer.word.load(Ordering::Acquire)).is_none() {
                    return Ok(());
                }
                give_up(cell, ALL);
                continue;
            }
            let (awaited, word) = match Holder::of_word(word) {
                Some(_) => (&self.cells.writer.word, word),
                None => (&self.cells.readers[0], self.cells.readers[0].load(Ordering::Acquire)),
            };
            match wait_for(awaited, word, deadline_ns) {
                Waited::Look => {}
                Waited::Dead(seen)
                    if Holder::of_word(self.cells.writer.word.load(Ordering::Acquire)).is_some() =>
                {
                    self.cells.writer.free_dead(me, seen);
                }
                Waited::Dead(seen) => {
                    let _ = awaited.compare_exchange(seen, 0, Ordering::Acquire, Ordering::Relaxed);
                }
                Waited::TimedOut => return Err("the lock was not to be had in time".into()),
            }
        }
    }

    fn announce(&self, me: Holder) -> Option<&AtomicU64> {
        let take = |cell: &&AtomicU64| {
            cell.compare_exchange(0, me.bits(), Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        self.cells.readers.iter().find(take)
    }
}

#[cfg(not(loom))]
impl LockInit for RwLock {
    fn size_of(addr: Option<*mut u8>) -> usize {
        addr.map_or(0, |memory| place::<Cells>(memory).0) + size_of::<Cells>()
    }

    unsafe fn new(mem: *mut u8, data: *mut u8) -> Result<(Box<dyn LockImpl>, usize)> {
        // SAFETY: passed on.
        Ok(unsafe { RwLock::at(mem, data, true) })
    }

    unsafe fn from_existing(mem: *mut u8, data: *mut u8) -> Result<(Box<dyn LockImpl>, usize)> {
        // SAFETY: passed on.
        Ok(unsafe { RwLock::at(mem, data, false) })
    }
}

impl LockImpl for RwLock {
    fn as_raw(&self) -> *mut c_void {
        std::ptr::from_ref(self.cells).cast_mut().cast()
    }

    fn lock(&self) -> Result<LockGuard<'_>> {
        self.write(Deadline::Never)?;
        Ok(guard(self))
    }

    fn try_lock(&self, timeout: Timeout) -> Result<LockGuard<'_>> {
        self.write(deadline(timeout))?;
        Ok(guard(self))
    }

    fn rlock(&self) -> Result<ReadLockGuard<'_>> {
        self.read(Deadline::Never)?;
        Ok(read_guard(self))
    }

    fn try_rlock(&self, timeout: Timeout) -> Result<ReadLockGuard<'_>> {
        self.read(deadline(timeout))?;
        Ok(read_guard(self))
    }

    fn release(&self) -> Result<()> {
        if self.cells.writer.release(ALL) {
            return Ok(());
        }
        let me = Holder::current()?;
        let held = |cell: &&AtomicU64| Holder::of_word(cell.load(Ordering::Relaxed)) == Some(me);
        match self.cells.readers.iter().find(held) {
            Some(cell) => {
                give_up(cell, ALL);
                Ok(())
            }
            None => Err("the calling thread does not hold the lock".into()),
        }
    }

    unsafe fn get_inner(&self) -> &mut *mut u8 {
        // SAFETY: the trait's: only holders, who change it only while they write.
        unsafe { &mut *self.data.get() }
    }
}
