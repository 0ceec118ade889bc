//! A lock of a model: it lies in loom's atomics instead of memory that the caller names.

use ::raw_sync::locks::LockImpl;

use super::mutex::Mutex;
use super::rwlock::{Cells, RwLock};
use super::word::Words;

/// A lock that the threads of a model share; leaked, models are short.
#[derive(Copy, Clone)]
pub enum ModelLock {
    /// A mutex.
    #[allow(private_interfaces)]
    Mutex(&'static Words),
    /// A readers-writer lock.
    #[allow(private_interfaces)]
    RwLock(&'static Cells),
}

impl ModelLock {
    /// A free mutex.
    pub fn mutex() -> Self {
        Self::Mutex(Box::leak(Box::new(Words::new())))
    }

    /// A free readers-writer lock.
    pub fn rwlock() -> Self {
        Self::RwLock(Box::leak(Box::new(Cells::new())))
    }

    /// As the calling thread sees it.
    pub fn attach(self) -> Box<dyn LockImpl> {
        match self {
            Self::Mutex(words) => Box::new(Mutex::of_model(words)),
            Self::RwLock(cells) => Box::new(RwLock::of_model(cells)),
        }
    }

    /// How often it was taken over from the dead.
    pub fn recoveries(self) -> u32 {
        match self {
            Self::Mutex(words) => words.recoveries(),
            Self::RwLock(cells) => cells.writer.recoveries(),
        }
    }
}
