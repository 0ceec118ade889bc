//! The logs of a pool: a ring per cell, used by one worker after the other, and a journal per worker's life.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use swath_segment::SegmentRef;
use tracing_core::Dispatch;

use super::Options;
use super::journal::{Backlog, Journal, Speaker, no_memory, subscriber};
use super::place::Sheet;
use super::record::rank;
use super::ring::Ring;
use crate::error::Result;
use crate::memory_file::Place;

/// Under which name a template speaks.
const TEMPLATE: &str = "swath-template";

/// The logs of one pool's workers.
pub(crate) struct Journals {
    options: Options,
    subscriber: Option<Dispatch>,
    level: AtomicU64,
    cells: Vec<Mutex<Cell>>,
    backlog: Backlog,
}

struct Cell {
    sheet: Arc<Sheet>,
    place: Place,
    #[expect(dead_code, reason = "workers open it through this process")]
    file: File,
    journal: Option<Arc<Journal>>,
}

impl Journals {
    /// Rings for `workers` workers.
    pub(crate) fn new(workers: usize, mut options: Options) -> Result<Journals> {
        options.prepare()?;
        let cells = (0..workers).map(|_| {
            let (sheet, file, place) = Sheet::new().map_err(no_memory)?;
            Ok(Mutex::new(Cell { sheet: Arc::new(sheet), place, file, journal: None }))
        });
        Ok(Journals {
            cells: cells.collect::<Result<_>>()?,
            level: AtomicU64::new(rank(options.level())),
            subscriber: subscriber(),
            options,
            backlog: Backlog::default(),
        })
    }

    fn lock(&self, index: usize) -> MutexGuard<'_, Cell> {
        self.cells[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An empty ring for the worker that is about to be started in cell `index`.
    pub(crate) fn open(&self, index: usize) -> SegmentRef {
        let mut cell = self.lock(index);
        Ring::reset(cell.sheet.words(), self.level.load(Ordering::Relaxed), self.options.directory());
        let (sheet, subscriber) = (cell.sheet.clone(), self.subscriber.clone());
        cell.journal = Some(Journal::new(Speaker::Worker(index), sheet, subscriber, self.backlog.clone()));
        cell.place.into()
    }

    /// The journal of a template that is about to be started, and the file with its ring, as of a process.
    pub(crate) fn open_template(&self) -> io::Result<(Arc<Journal>, File)> {
        let told = (self.level.load(Ordering::Relaxed), self.options.directory());
        Journal::asleep(TEMPLATE, told, self.subscriber.clone(), self.backlog.clone())
    }

    /// The journal of the worker that has been started there.
    pub(crate) fn current(&self, index: usize) -> Option<Arc<Journal>> {
        self.lock(index).journal.clone()
    }

    /// The exit of the worker of cell `index` is confirmed. Its last words.
    pub(crate) fn close(&self, index: usize) -> Vec<String> {
        self.lock(index).journal.take().map_or_else(Vec::new, |journal| journal.close())
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
            if let Some(ring) = Ring::over(self.lock(index).sheet.words()) {
                ring.set_level(level);
            }
        }
    }
}
