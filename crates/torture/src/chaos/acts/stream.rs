//! The model of what goes from one to one: numbers, in order, none twice. Each death at either end may cost one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::chaos::arena::Arena;
use crate::scenario::expect;

/// Who sends waits so long for room at most: the receiver may have gone to where all gather, and wait there for the sender.
pub(super) const PATIENCE: Duration = Duration::from_millis(100);

pub(super) struct Stream {
    /// The next number to send, and the one to be received next.
    sent: &'static AtomicU64,
    expected: &'static AtomicU64,
    /// Numbers that never came, and deaths that may explain them.
    missing: &'static AtomicU64,
    deaths: &'static AtomicU64,
}

impl Stream {
    pub(super) fn new(arena: &Arena<'_>) -> Stream {
        Stream { sent: arena.words(), expected: arena.words(), missing: arena.words(), deaths: arena.words() }
    }

    /// The number to send now.
    pub(super) fn next(&self) -> u64 {
        self.sent.fetch_add(1, Ordering::SeqCst)
    }

    /// The number was not sent: there was no room. The next one is the same.
    pub(super) fn take_back(&self) {
        self.sent.fetch_sub(1, Ordering::SeqCst);
    }

    /// A number has come.
    pub(super) fn came(&self, number: u64) -> Result<(), String> {
        let expected = self.expected.swap(number + 1, Ordering::SeqCst);
        let sent = self.sent.load(Ordering::SeqCst);
        expect(number >= expected && number < sent, || {
            format!("{number} came, not one of {expected}..{sent}")
        })?;
        self.missing.fetch_add(number - expected, Ordering::SeqCst);
        Ok(())
    }

    /// The party at one of its ends is dead.
    pub(super) fn bury(&self) {
        self.deaths.fetch_add(1, Ordering::SeqCst);
    }

    /// Everybody has left, and so many have not been received.
    pub(super) fn tally(&self, left: usize) -> Result<(), String> {
        let [sent, expected, missing, deaths] =
            [self.sent, self.expected, self.missing, self.deaths].map(|word| word.load(Ordering::SeqCst));
        let missing = missing + (sent - expected).saturating_sub(left as u64);
        expect(missing <= deaths, || format!("{missing} of {sent} never came, with {deaths} deaths"))
    }
}
