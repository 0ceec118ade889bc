//! Extents for models: a page for each offset that may be taken, of two words, each access of which is a step.

#![allow(dead_code, unreachable_pub)] // each model uses its part

use std::io;

use swath_sync::Extents;
use swath_sync::atomics::{AtomicU32, Ordering};

/// What offsets are multiples of.
const PAGE: u64 = 1 << 16;
const PAGES: usize = 6;
/// Long enough not to lie in a cell of a model, and to be written in two parts.
pub const LONG: usize = 16;

/// Room for a few long messages, all of whose bytes are the same.
pub struct Room {
    pages: [[AtomicU32; 2]; PAGES],
}

impl Room {
    /// An empty one, leaked: ends of pipes want it for their time.
    pub fn new() -> &'static Self {
        let page = |_| [AtomicU32::new(0), AtomicU32::new(0)];
        Box::leak(Box::new(Self { pages: std::array::from_fn(page) }))
    }

    /// How many pages are in use.
    pub fn taken_up(&self) -> usize {
        let used = |page: &&[AtomicU32; 2]| page.iter().any(|half| half.load(Ordering::SeqCst) != 0);
        self.pages.iter().filter(used).count()
    }

    fn page(&self, at: u64) -> &[AtomicU32; 2] {
        &self.pages[(at / PAGE) as usize]
    }
}

/// A long message.
pub fn message(byte: u8) -> Vec<u8> {
    vec![byte; LONG]
}

impl Extents for Room {
    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.page(at).iter().for_each(|half| half.store(u32::from(bytes[0]), Ordering::Relaxed));
        Ok(())
    }

    fn read(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        let [one, other] = self.page(at).each_ref().map(|half| half.load(Ordering::Relaxed) as u8);
        let (left, right) = bytes.split_at_mut(LONG / 2);
        left.fill(one);
        right.fill(other);
        Ok(())
    }

    fn free(&self, at: u64, _len: u64) -> io::Result<()> {
        self.page(at).iter().for_each(|half| half.store(0, Ordering::Relaxed));
        Ok(())
    }
}

/// So many steps bring whoever uses a fatal room to where it stays until it dies.
pub const ENOUGH_STEPS: u32 = 120;

/// Where the user of a room never comes back from.
#[derive(Copy, Clone, PartialEq, Eq)]
pub enum Stuck {
    /// Half of a message is written.
    Writing,
    /// A message is got and not given back.
    Freeing,
}

/// A room that is the end of its user.
pub struct Fatal(pub &'static Room, pub Stuck);

impl Fatal {
    /// Leaked, as the room.
    pub fn new(room: &'static Room, stuck: Stuck) -> &'static Self {
        Box::leak(Box::new(Self(room, stuck)))
    }

    fn stay(&self, at: u64) -> ! {
        loop {
            self.0.page(at)[0].load(Ordering::Relaxed);
        }
    }
}

impl Extents for Fatal {
    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        if self.1 == Stuck::Writing {
            self.0.page(at)[0].store(u32::from(bytes[0]), Ordering::Relaxed);
            self.stay(at);
        }
        self.0.write(at, bytes)
    }

    fn read(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.0.read(at, bytes)
    }

    fn free(&self, at: u64, len: u64) -> io::Result<()> {
        if self.1 == Stuck::Freeing {
            self.stay(at);
        }
        self.0.free(at, len)
    }
}
