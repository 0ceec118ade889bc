//! The coordinator's side: a ring per cell of the pool, and a journal per worker's life.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use swath_segment::{Kind, Segment, SegmentRef};
use tracing_core::subscriber::NoSubscriber;
use tracing_core::{Dispatch, dispatcher};

use super::Options;
use super::place::words;
use super::record::{Record, rank};
use super::ring::{RING_BYTES, Reader, Ring, Sleep};
use crate::cause::at_most;
use crate::error::Result;
use crate::limits::{LAST_WORD_BYTES, LAST_WORDS, LOG_BACKLOG};

/// So many records are taken at a time: one worker that says much does not keep the others from being heard.
const AT_A_TIME: usize = 256;

/// The logs of one pool's workers.
pub(crate) struct Journals {
    options: Options,
    /// In force where the pool was built, if there was one: it may be a thread's own.
    subscriber: Option<Dispatch>,
    level: AtomicU64,
    cells: Vec<Mutex<Cell>>,
    /// One for each journal that is not shown to its end.
    unfinished: Arc<()>,
}

struct Cell {
    /// Used by one worker after the other.
    segment: Arc<Segment>,
    journal: Option<Arc<Journal>>,
}

impl Journals {
    /// Rings for `workers` workers.
    pub(crate) fn new(workers: usize, mut options: Options) -> Result<Journals> {
        options.prepare()?;
        let cells = (0..workers).map(|_| {
            let segment = Segment::options().unnamed("log").kind(Kind::Engine).create(RING_BYTES)?;
            Ok(Mutex::new(Cell { segment: Arc::new(segment), journal: None }))
        });
        let subscriber = dispatcher::get_default(|dispatch| dispatch.clone());
        Ok(Journals {
            cells: cells.collect::<Result<_>>()?,
            level: AtomicU64::new(rank(options.level())),
            subscriber: (!subscriber.is::<NoSubscriber>()).then_some(subscriber),
            options,
            unfinished: Arc::default(),
        })
    }

    fn lock(&self, index: usize) -> MutexGuard<'_, Cell> {
        self.cells[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An empty ring for the worker that is about to be started in cell `index`.
    pub(crate) fn open(&self, index: usize) -> SegmentRef {
        let mut cell = self.lock(index);
        Ring::reset(words(&cell.segment), self.level.load(Ordering::Relaxed), self.options.directory());
        let inner = Inner { segment: Some(cell.segment.clone()), ..Inner::default() };
        cell.journal = Some(Arc::new(Journal {
            worker: index,
            subscriber: self.subscriber.clone(),
            inner: Mutex::new(inner),
            _of: self.unfinished.clone(),
        }));
        cell.segment.reference()
    }

    /// The journal of the worker that has been started there.
    pub(crate) fn current(&self, index: usize) -> Option<Arc<Journal>> {
        self.lock(index).journal.clone()
    }

    /// Step 8: the exit of the worker of cell `index` is confirmed. Its last words.
    pub(crate) fn close(&self, index: usize) -> Vec<String> {
        let Some(journal) = self.lock(index).journal.take() else { return Vec::new() };
        let of_the_dead = Arc::strong_count(&self.unfinished).saturating_sub(1 + self.cells.len());
        journal.close(of_the_dead > LOG_BACKLOG)
    }

    /// Workers are told if the program wants another level than before. Before work is given to them.
    #[inline]
    pub(crate) fn follow_level(&self) {
        let level = rank(self.options.level());
        if level != self.level.load(Ordering::Relaxed) {
            self.set_level(level);
        }
    }

    #[cold]
    fn set_level(&self, level: u64) {
        self.level.store(level, Ordering::Relaxed);
        for index in 0..self.cells.len() {
            if let Some(ring) = Ring::over(words(&self.lock(index).segment)) {
                ring.set_level(level);
            }
        }
    }
}

/// What one worker has said, as far as it is not shown.
pub(crate) struct Journal {
    worker: usize,
    subscriber: Option<Dispatch>,
    inner: Mutex<Inner>,
    _of: Arc<()>,
}

#[derive(Default)]
struct Inner {
    /// `None` when the worker is gone: the ring is its successor's.
    segment: Option<Arc<Segment>>,
    reader: Reader,
    /// What was left when it went.
    rest: VecDeque<Vec<u64>>,
}

impl Inner {
    fn ring(&self) -> Option<Ring<'_>> {
        self.segment.as_ref().and_then(|segment| Ring::over(words(segment)))
    }
}

impl Journal {
    /// Held for a copy of the ring at most: nobody's code runs under it.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn worker(&self) -> usize {
        self.worker
    }

    pub(super) fn subscriber(&self) -> Option<&Dispatch> {
        self.subscriber.as_ref()
    }

    /// Records that have come, oldest first, and whether there may be more.
    pub(super) fn take(&self) -> (Vec<Vec<u64>>, bool) {
        let mut inner = self.lock();
        let mut taken: Vec<Vec<u64>> = Vec::new();
        let Some(segment) = inner.segment.clone() else {
            taken.extend(inner.rest.drain(..));
            return (taken, false);
        };
        if let Some(ring) = Ring::over(words(&segment)) {
            let mut record = Vec::new();
            while taken.len() < AT_A_TIME && inner.reader.next(ring, &mut record) {
                taken.push(std::mem::take(&mut record));
            }
            inner.reader.show(ring);
        }
        (taken, true)
    }

    pub(super) fn doze(&self, sleep: Sleep) -> bool {
        let inner = self.lock();
        inner.segment.is_none() || inner.ring().is_some_and(|ring| ring.doze(sleep, &inner.reader))
    }

    pub(super) fn wake(&self) {
        if let Some(ring) = self.lock().ring() {
            ring.wake();
        }
    }

    /// Takes over what the ring has; with `newest_only`, no more than the last record of what was not read, whose number
    /// tells how many are missing.
    fn close(&self, newest_only: bool) -> Vec<String> {
        let mut inner = self.lock();
        let Some(segment) = inner.segment.take() else { return Vec::new() };
        let Some(ring) = Ring::over(words(&segment)) else { return Vec::new() };
        let mut record = Vec::new();
        while inner.reader.next(ring, &mut record) {
            if newest_only {
                inner.rest.clear();
            }
            inner.rest.push_back(std::mem::take(&mut record));
        }
        let (mut reader, mut last) = (Reader::default(), VecDeque::new());
        while reader.next(ring, &mut record) {
            if last.len() == LAST_WORDS {
                last.pop_front();
            }
            last.push_back(std::mem::take(&mut record));
        }
        let said = last.iter().filter_map(|words| Record::decode(words));
        said.map(|record| at_most(&record.to_line(), LAST_WORD_BYTES).to_owned()).collect()
    }
}
