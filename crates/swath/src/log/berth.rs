//! A process's place at its ring: the level, what it has in hand, the one pen of all its threads.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::time::{Duration, Instant, SystemTime};

use swath_platform::{file, fork, process};
use tracing_core::{Dispatch, Level, LevelFilter, callsite, dispatcher};

use super::file::LogFile;
use super::record::{Record, filter_of, seal};
use super::ring::{Ring, Writer};
use super::scribe::Scribe;
use crate::board::Board;
use crate::panic_note;

/// The target of what a panic said.
const PANIC: &str = "panic";
/// How long a process that aborts waits for the pen.
const PEN_WITHIN: Duration = Duration::from_millis(50);

static BERTH: OnceLock<Berth> = OnceLock::new();
/// The template's, of which a copy has a copy until it has its own.
static TEMPLATES: OnceLock<Berth> = OnceLock::new();
/// The number of the task in hand; 0: none. Of the process, not of a thread: a task's threads work for it too.
static TASK: AtomicU64 = AtomicU64::new(0);

/// What the process's subscriber needs.
pub(super) struct Berth {
    ring: Ring<'static>,
    bell: &'static OwnedFd,
    /// A worker's: where it notes what it has in hand.
    cell: Option<(Board, usize)>,
    pid: u32,
    level: AtomicU64,
    offered: AtomicBool,
    pen: Mutex<Pen>,
}

struct Pen {
    writer: Writer<'static>,
    sequence: u64,
    file: Option<LogFile>,
}

/// The place of this process.
#[inline]
pub(super) fn current() -> Option<&'static Berth> {
    BERTH.get().or_else(|| TEMPLATES.get())
}

/// Takes the place, before any of the user's code runs; in a copy of a template, before any more of it does.
pub(crate) fn begin(ring: Ring<'static>, bell: &'static OwnedFd, cell: Option<(Board, usize)>) {
    take(&BERTH, ring, bell, cell);
    let Some(left) = TEMPLATES.get() else { return };
    // It has one thread: nobody has the pen.
    left.pen.lock().unwrap_or_else(PoisonError::into_inner).file = None;
    // The level is another place's now.
    callsite::rebuild_interest_cache();
}

/// As [`begin`], of a template.
pub(crate) fn begin_template(ring: Ring<'static>, bell: &'static OwnedFd) {
    take(&TEMPLATES, ring, bell, None);
}

fn take(
    place: &'static OnceLock<Berth>,
    ring: Ring<'static>,
    bell: &'static OwnedFd,
    cell: Option<(Board, usize)>,
) {
    let pid = process::getpid();
    fork::mark_own();
    let directory = ring.directory();
    let file = (!directory.is_empty()).then(|| LogFile::open(directory.as_ref(), pid)).flatten();
    let pen = Mutex::new(Pen { writer: Writer::new(ring), sequence: 0, file });
    let (level, offered) = (AtomicU64::new(0), AtomicBool::new(false));
    let _ = place.set(Berth { ring, bell, cell, pid, level, offered, pen });
    if cfg!(panic = "abort") {
        panic_note::install();
    }
    follow();
}

/// What a panic said, in a process that aborts of it: written whatever the level is, and whichever subscriber this thread has.
pub(crate) fn leave(file: &str, line: u32, message: &str) {
    let Some(berth) = current().filter(|berth| berth.is_ours()) else { return };
    let target = PANIC;
    let record = Record { target, file, line, message, ..berth.blank(Level::ERROR) };
    let mut words = Vec::new();
    record.encode(&mut words);
    // This thread itself may have it: what wrote a line to the file has panicked.
    if let Some(pen) = berth.pen_within(PEN_WITHIN) {
        berth.write(pen, &mut words, &record);
    }
}

/// Between turns: the level that the coordinator wants now.
#[inline]
pub(crate) fn follow() {
    if let Some(berth) = current()
        && berth.ring.level() != berth.level.load(Ordering::Relaxed)
    {
        berth.change();
    }
}

/// The task that this process has in hand; returns the one before.
#[inline]
pub(crate) fn set_task(id: u64) -> u64 {
    let before = TASK.load(Ordering::Relaxed);
    TASK.store(id, Ordering::Relaxed);
    before
}

impl Berth {
    #[cold]
    fn change(&'static self) {
        self.level.store(self.ring.level(), Ordering::Relaxed);
        // Not before somebody listens: a kernel that has a subscriber of its own may need the place.
        let first = !self.offered.swap(true, Ordering::Relaxed);
        // The program's own subscriber, if it has one already, is not ours to replace.
        let installed = first && dispatcher::set_global_default(Dispatch::new(Scribe::default())).is_ok();
        if !installed {
            // Callsites, and the process's level, are asked about anew.
            callsite::rebuild_interest_cache();
        }
    }

    #[inline]
    pub(super) fn level(&self) -> LevelFilter {
        filter_of(self.level.load(Ordering::Relaxed))
    }

    /// Not a forked copy.
    #[inline]
    pub(super) fn is_ours(&self) -> bool {
        fork::is_own(self.pid)
    }

    /// A record of this moment that says nothing yet.
    pub(super) fn blank(&self, level: Level) -> Record<'static> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Record {
            level,
            pid: self.pid,
            sequence: 0,
            time_ns: now.as_nanos() as u64,
            task: Some(TASK.load(Ordering::Relaxed)).filter(|task| *task != 0),
            chunk: self.chunk(),
            target: "",
            file: "",
            line: 0,
            message: "",
            spans: "",
            fields: "",
        }
    }

    fn chunk(&self) -> Option<u64> {
        let (board, index) = self.cell.as_ref()?;
        board.cell(*index).in_hand().map(|chunk| chunk as u64)
    }

    /// Steps 1 to 4, with the record's words.
    pub(super) fn put(&self, words: &mut [u64], record: &Record<'_>) {
        self.write(self.pen.lock().unwrap_or_else(PoisonError::into_inner), words, record);
    }

    /// The pen, unless somebody does not let go of it.
    fn pen_within(&self, patience: Duration) -> Option<MutexGuard<'_, Pen>> {
        let begun = Instant::now();
        loop {
            match self.pen.try_lock() {
                Ok(pen) => return Some(pen),
                Err(TryLockError::Poisoned(pen)) => return Some(pen.into_inner()),
                Err(TryLockError::WouldBlock) if begun.elapsed() >= patience => return None,
                Err(TryLockError::WouldBlock) => std::thread::yield_now(),
            }
        }
    }

    fn write(&self, mut pen: MutexGuard<'_, Pen>, words: &mut [u64], record: &Record<'_>) {
        seal(words, pen.sequence);
        pen.sequence += 1;
        pen.writer.append(words);
        let rings = pen.writer.wants_bell();
        if let Some(file) = &pen.file {
            file.append(record);
        }
        drop(pen);
        if rings {
            file::ring(self.bell);
        }
    }
}
