//! The reader's side of one process's life: takes its records, counts what is missing, shows them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing_core::Level;

use super::emit;
use super::journal::Journal;
use super::record::Record;
use super::ring::Sleep;

/// Follows one journal to its end. On the relay's thread.
pub(crate) struct Follower {
    journal: Arc<Journal>,
    /// The number of the next record.
    expected: u64,
}

impl Follower {
    pub(crate) fn new(journal: Arc<Journal>) -> Follower {
        Follower { journal, expected: 0 }
    }

    /// Shows what has come, `moved` counting along; false when the process is gone and all was shown.
    pub(crate) fn pump(&mut self, moved: &AtomicU64) -> bool {
        let (records, open) = self.journal.take();
        if !records.is_empty() {
            let journal = self.journal.clone();
            emit::with(journal.subscriber(), || {
                for words in &records {
                    // One that does not decode is missing: the next one's number says so.
                    if let Some(record) = Record::decode(words) {
                        self.show(&record);
                    }
                    moved.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        open
    }

    /// Step 6, then the record.
    fn show(&mut self, record: &Record<'_>) {
        let speaker = self.journal.speaker();
        if let Some(dropped) = record.sequence.checked_sub(self.expected).filter(|dropped| *dropped > 0) {
            let records = if dropped == 1 { "record" } else { "records" };
            let (message, fields) = (format!("{dropped} {records} dropped"), format!("dropped={dropped}"));
            let notice = Record {
                level: Level::WARN,
                target: "swath::log",
                file: "",
                line: 0,
                message: &message,
                spans: "",
                fields: &fields,
                task: None,
                chunk: None,
                ..*record
            };
            emit::emit(speaker, &notice);
        }
        self.expected = record.sequence + 1;
        emit::emit(speaker, record);
    }

    /// The process is gone, and there is nothing left to show.
    pub(crate) fn is_silent(&self) -> bool {
        self.journal.is_silent()
    }

    /// Step 7: true when there is something to read.
    pub(crate) fn doze(&self, nap: bool) -> bool {
        self.journal.doze(if nap { Sleep::Napping } else { Sleep::Asleep })
    }

    /// The reader is awake.
    pub(crate) fn wake(&self) {
        self.journal.wake();
    }
}
