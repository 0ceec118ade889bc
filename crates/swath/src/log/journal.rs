//! The reader's side of a ring: a journal per life of the process that writes there, as far as it is not shown.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use tracing_core::subscriber::NoSubscriber;
use tracing_core::{Dispatch, dispatcher};

use super::Options;
use super::place::Sheet;
use super::record::{Record, rank};
use super::ring::{Reader, Ring, Sleep};
use crate::cause::at_most;
use crate::error::{ErrorKind, Result};
use crate::limits::{LAST_WORD_BYTES, LAST_WORDS, LOG_BACKLOG};

/// So many records are taken at a time: one process that says much does not keep the others from being heard.
const AT_A_TIME: usize = 256;

/// Who says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Speaker {
    /// A pool's worker, by its index.
    Worker(usize),
    /// A process of one's own, by its name.
    Process(String),
}

/// What one process has said, as far as it is not shown.
pub(crate) struct Journal {
    speaker: Speaker,
    /// In force where the pool was built, or the process started, if there was one: it may be a thread's own.
    subscriber: Option<Dispatch>,
    inner: Mutex<Inner>,
    backlog: Backlog,
}

#[derive(Default)]
struct Inner {
    /// `None` when the process is gone: the ring is its successor's, or nobody's.
    sheet: Option<Arc<Sheet>>,
    reader: Reader,
    /// What was left when it went.
    rest: VecDeque<Vec<u64>>,
    /// While there is such a rest.
    waits: Option<Waiting>,
}

/// How many of the dead have left something that is not shown.
#[derive(Clone, Default)]
pub(super) struct Backlog(Arc<AtomicUsize>);

/// One of them.
struct Waiting(Backlog);

impl Backlog {
    fn join(&self) -> Waiting {
        self.0.fetch_add(1, Ordering::Relaxed);
        Waiting(self.clone())
    }

    fn is_full(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= LOG_BACKLOG
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Inner {
    fn ring(&self) -> Option<Ring<'_>> {
        self.sheet.as_ref().and_then(|sheet| Ring::over(sheet.words()))
    }
}

/// The subscriber that is in force here.
pub(super) fn subscriber() -> Option<Dispatch> {
    let subscriber = dispatcher::get_default(|dispatch| dispatch.clone());
    (!subscriber.is::<NoSubscriber>()).then_some(subscriber)
}

impl Journal {
    /// Of somebody who is to write to `sheet`, where an empty ring is.
    pub(super) fn new(
        speaker: Speaker,
        sheet: Arc<Sheet>,
        subscriber: Option<Dispatch>,
        backlog: Backlog,
    ) -> Arc<Journal> {
        let inner = Mutex::new(Inner { sheet: Some(sheet), ..Inner::default() });
        Arc::new(Journal { speaker, subscriber, inner, backlog })
    }

    /// Of a process of that name, which is about to be started, and the file with its ring, which it is to have as
    /// [`RING_FD`](super::place::RING_FD). What it says is for the subscriber that is in force here, at the level of now. Its reader sleeps.
    pub(crate) fn of_process(name: &str, options: &Options) -> Result<(Arc<Journal>, File)> {
        static BACKLOG: LazyLock<Backlog> = LazyLock::new(Backlog::default);
        let level = rank(options.level());
        Journal::asleep(name, (level, options.directory()), subscriber(), BACKLOG.clone()).map_err(no_memory)
    }

    /// As [`Journal::of_process`], with all that there is to say.
    pub(super) fn asleep(
        name: &str,
        (level, directory): (u64, &OsStr),
        subscriber: Option<Dispatch>,
        backlog: Backlog,
    ) -> io::Result<(Arc<Journal>, File)> {
        let (sheet, file, _) = Sheet::new()?;
        Ring::reset(sheet.words(), level, directory).doze(Sleep::Asleep, &Reader::default());
        let speaker = Speaker::Process(name.to_owned());
        Ok((Journal::new(speaker, Arc::new(sheet), subscriber, backlog), file))
    }

    /// Held for a copy of the ring at most: nobody's code runs under it.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn speaker(&self) -> &Speaker {
        &self.speaker
    }

    pub(super) fn subscriber(&self) -> Option<&Dispatch> {
        self.subscriber.as_ref()
    }

    /// Records that have come, oldest first, and whether there may be more.
    pub(super) fn take(&self) -> (Vec<Vec<u64>>, bool) {
        let mut inner = self.lock();
        let mut taken: Vec<Vec<u64>> = Vec::new();
        let Some(sheet) = inner.sheet.clone() else {
            taken.extend(inner.rest.drain(..));
            inner.waits = None;
            return (taken, false);
        };
        if let Some(ring) = Ring::over(sheet.words()) {
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
        inner.sheet.is_none() || inner.ring().is_some_and(|ring| ring.doze(sleep, &inner.reader))
    }

    pub(super) fn is_silent(&self) -> bool {
        let inner = self.lock();
        inner.sheet.is_none() && inner.rest.is_empty()
    }

    pub(super) fn wake(&self) {
        if let Some(ring) = self.lock().ring() {
            ring.wake();
        }
    }

    /// Step 8: the writer's exit is confirmed. Takes over what the ring has; where many of the dead wait to be heard, no more than
    /// the last record of what was not read, whose number tells how many are missing. Its last words.
    pub(crate) fn close(&self) -> Vec<String> {
        let mut inner = self.lock();
        let Some(sheet) = inner.sheet.take() else { return Vec::new() };
        let Some(ring) = Ring::over(sheet.words()) else { return Vec::new() };
        let newest_only = self.backlog.is_full();
        let mut record = Vec::new();
        while inner.reader.next(ring, &mut record) {
            if newest_only {
                inner.rest.clear();
            }
            inner.rest.push_back(std::mem::take(&mut record));
        }
        inner.waits = (!inner.rest.is_empty()).then(|| self.backlog.join());
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

#[cold]
pub(super) fn no_memory(error: io::Error) -> crate::Error {
    ErrorKind::Memory.with(format!("memory for a log: {error}")).caused_by(error)
}
