//! A list of values in slots of fixed room. Steps V1–V4 of `README.md`.

mod value;

#[cfg(not(loom))]
use std::alloc::Layout;
use std::fmt;
use std::time::{Duration, Instant};

pub use self::value::ListValue;
use crate::atomics::{AtomicU32, AtomicU64, Ordering, fence, yield_now};
use crate::deadline::Deadline;
use crate::owner::{Holder, Owner};
use crate::park;
use crate::party::Party;
use crate::waiting::Waiting;

/// A list of values of mixed kinds, that all processes see: none, bool, i64, f64, text, bytes.
///
/// The number of slots and the room of each are decided when it is made. A value that does not fit its slot is an error and
/// changes nothing. Setting is whole or not at all, whoever dies in it; getting never waits for anybody. Nothing is lost: text
/// of any script, bytes that end in zeros. (Python's `ShareableList` cuts those off, and grows text over its neighbour.)
#[repr(C)]
pub struct ShareableList<C: ?Sized = [ListWord]> {
    quiet: Quiet,
    /// A directory of one word per slot, then the slots, each a version and two copies.
    words: C,
}

#[repr(C, align(64))]
struct Quiet {
    /// `taken:31 | asleep:1`, see `park`: somebody waits to set a slot that another is setting.
    parked: AtomicU32,
    _reserved: AtomicU32,
    len: AtomicU64,
}

/// A word of a list.
#[repr(transparent)]
pub struct ListWord(AtomicU64);

/// How often a getter looks when setters are faster.
const LOOKS_MAX: usize = 1000;
/// How often before it gives its processor away between looks.
const LOOKS_IN_A_ROW: usize = 100;
/// In a slot's version word: `version:34 | owner:30`.
const VERSION_SHIFT: u32 = 30;
/// Each copy begins with a word that says kind and length.
const COPY_HEAD: usize = 1;

/// Why a value was not set, or not got.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ListError {
    /// There is no such slot.
    #[error("index {index} is out of range: the list has {len} values")]
    Index {
        /// Which.
        index: usize,
        /// How many there are.
        len: usize,
    },
    /// The value is longer than its slot. The old one is kept.
    #[error("a value of {needed} bytes does not fit slot {index}, which has room for {room}")]
    TooLong {
        /// Which slot.
        index: usize,
        /// How long the value is.
        needed: usize,
        /// How long it may be.
        room: usize,
    },
    /// Somebody was setting the same slot until the deadline.
    #[error("{holder} is setting slot {index}")]
    TimedOut {
        /// Which slot.
        index: usize,
        /// Who.
        holder: Holder,
    },
    /// The slot was set again during each of 1000 looks at it.
    #[error("slot {index} was set again each time that it was looked at")]
    Overtaken {
        /// Which slot.
        index: usize,
    },
    /// What lies in the slot was not written by this code.
    #[error("slot {index} holds no value but garbage")]
    Garbage {
        /// Which slot.
        index: usize,
    },
}

/// Where a slot lies, checked.
#[derive(Copy, Clone)]
struct Place {
    at: usize,
    /// Words of room for a value's bytes.
    room: usize,
}

impl Place {
    fn copy(self, which: u64) -> usize {
        self.at + 1 + (which & 1) as usize * (COPY_HEAD + self.room)
    }
}

impl ShareableList {
    /// A list of these values; each slot has room for its value, at least 8 bytes.
    #[cfg(not(loom))]
    pub fn of(values: impl IntoIterator<Item = impl Into<ListValue>>) -> ShareableListPlan {
        let slots = values.into_iter().map(|value| (value.into(), 0)).collect();
        ShareableListPlan { slots }
    }

    /// A list of these values, each with room for so many bytes, or for its value if that is longer.
    #[cfg(not(loom))]
    pub fn with_room(slots: impl IntoIterator<Item = (impl Into<ListValue>, usize)>) -> ShareableListPlan {
        ShareableListPlan { slots: slots.into_iter().map(|(value, room)| (value.into(), room)).collect() }
    }

    /// How many values it has. That does not change.
    pub fn len(&self) -> usize {
        // Each slot has a word in the directory and at least five of its own.
        (self.quiet.len.load(Ordering::Relaxed) as usize).min(self.words.len() / 6)
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes slot `index` has room for.
    pub fn room(&self, index: usize) -> Result<usize, ListError> {
        self.place(index).map(|place| place.room * 8)
    }

    /// The value of slot `index`, as some `set` left it. Never waits.
    ///
    /// # Errors
    /// [`ListError::Overtaken`] when setters are faster all the time: by a long value that is set without a pause.
    pub fn get(&self, index: usize) -> Result<ListValue, ListError> {
        let place = self.place(index)?;
        for look in 0..LOOKS_MAX {
            if look >= LOOKS_IN_A_ROW {
                yield_now();
            }
            let seen = self.word(place.at).load(Ordering::Acquire);
            let version = seen >> VERSION_SHIFT;
            let copy = place.copy(version);
            let head = self.word(copy).load(Ordering::Relaxed);
            let used = value::len_of(head).div_ceil(8).min(place.room);
            let words: Vec<u64> =
                (0..used).map(|at| self.word(copy + COPY_HEAD + at).load(Ordering::Relaxed)).collect();
            fence(Ordering::Acquire);
            // V4: the copy is overwritten only after the next version is there.
            if self.word(place.at).load(Ordering::Relaxed) >> VERSION_SHIFT == version {
                return ListValue::of_words(head, &words).ok_or(ListError::Garbage { index });
            }
        }
        Err(ListError::Overtaken { index })
    }

    /// Sets slot `index`, waiting while another party sets the same slot.
    pub fn set(&self, party: &Party, index: usize, value: impl Into<ListValue>) -> Result<(), ListError> {
        self.set_until(party, index, &value.into(), Deadline::Never)
    }

    /// Sets slot `index` if nobody else is setting it.
    pub fn try_set(&self, party: &Party, index: usize, value: impl Into<ListValue>) -> Result<(), ListError> {
        self.set_until(party, index, &value.into(), Deadline::Now)
    }

    /// Sets slot `index`, waiting at most for `timeout`.
    pub fn set_timeout(
        &self,
        party: &Party,
        index: usize,
        value: impl Into<ListValue>,
        timeout: Duration,
    ) -> Result<(), ListError> {
        self.set_until(party, index, &value.into(), Deadline::In(timeout))
    }

    /// Sets slot `index`, waiting at most until `deadline`.
    pub fn set_deadline(
        &self,
        party: &Party,
        index: usize,
        value: impl Into<ListValue>,
        deadline: Instant,
    ) -> Result<(), ListError> {
        self.set_until(party, index, &value.into(), Deadline::At(deadline))
    }

    /// How many values equal `value`.
    pub fn count(&self, value: impl Into<ListValue>) -> usize {
        let value = value.into();
        self.iter().filter(|other| other.as_ref() == Ok(&value)).count()
    }

    /// The first slot whose value equals `value`.
    pub fn index_of(&self, value: impl Into<ListValue>) -> Option<usize> {
        let value = value.into();
        self.iter().position(|other| other.as_ref() == Ok(&value))
    }

    /// The values in order, each as it is when it is reached.
    pub fn iter(&self) -> impl Iterator<Item = Result<ListValue, ListError>> {
        (0..self.len()).map(|index| self.get(index))
    }

    /// All values, each as it is when it is reached.
    pub fn to_vec(&self) -> Result<Vec<ListValue>, ListError> {
        self.iter().collect()
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        &self.words[at].0
    }

    /// The place of a slot: the directory is read once, and checked.
    fn place(&self, index: usize) -> Result<Place, ListError> {
        let len = self.len();
        if index >= len {
            return Err(ListError::Index { index, len });
        }
        let entry = self.word(index).load(Ordering::Relaxed);
        let place = Place { at: (entry >> 32) as usize, room: (entry & u64::from(u32::MAX)) as usize };
        let end = place.at + 1 + 2 * (COPY_HEAD + place.room);
        if place.at < len || end > self.words.len() {
            return Err(ListError::Garbage { index });
        }
        Ok(place)
    }

    fn set_until(
        &self,
        party: &Party,
        index: usize,
        value: &ListValue,
        deadline: Deadline,
    ) -> Result<(), ListError> {
        let place = self.place(index)?;
        let needed = value.len();
        if needed > place.room * 8 {
            return Err(ListError::TooLong { index, needed, room: place.room * 8 });
        }
        let version = self.claim(party, index, place, deadline)?;
        // V2: into the copy that nobody reads.
        let copy = place.copy(version.wrapping_add(1));
        fence(Ordering::Release);
        let (head, words) = value.words();
        self.word(copy).store(head, Ordering::Relaxed);
        for (at, word) in words.into_iter().enumerate() {
            self.word(copy + COPY_HEAD + at).store(word, Ordering::Relaxed);
        }
        // V3
        self.word(place.at).store(version.wrapping_add(1) << VERSION_SHIFT, Ordering::Release);
        park::take_mark(&self.quiet.parked, &self.quiet.parked);
        Ok(())
    }

    /// V1: the slot's version, once nobody else is setting it.
    fn claim(&self, party: &Party, index: usize, place: Place, deadline: Deadline) -> Result<u64, ListError> {
        let (word, me, table) = (self.word(place.at), party.owner(), party.table());
        let mut waiting = Waiting::new(party, deadline);
        loop {
            waiting.look();
            let seen = word.load(Ordering::Acquire);
            let owner = Owner::of_word(seen as u32);
            // Our own name is garbage, or what a panic left: we are not in there.
            let free = owner.is_none_or(|owner| owner == me || table.is_dead(owner));
            if free {
                let mine = (seen >> VERSION_SHIFT) << VERSION_SHIFT | u64::from(me.bits());
                if word.compare_exchange(seen, mine, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                    return Ok(seen >> VERSION_SHIFT);
                }
                continue;
            }
            let Some(holder) = owner else { continue };
            if waiting.is_over() {
                if table.learns_of_death(holder) {
                    continue;
                }
                return Err(ListError::TimedOut { index, holder: table.holder(holder) });
            }
            let mark = park::announce(&self.quiet.parked);
            if word.load(Ordering::Acquire) == seen && waiting.sleep(&self.quiet.parked, mark) {
                table.learns_of_death(holder);
            }
        }
    }

    /// A list for a model, of empty values with these rooms in words. `N` is what they need.
    #[cfg(loom)]
    pub fn for_model<const N: usize>(rooms: &[usize]) -> Box<Self> {
        let list: Box<Self> = Box::new(ShareableList::<[ListWord; N]> {
            quiet: Quiet {
                parked: AtomicU32::new(0),
                _reserved: AtomicU32::new(0),
                len: AtomicU64::new(rooms.len() as u64),
            },
            words: std::array::from_fn(|_| ListWord(AtomicU64::new(0))),
        });
        let mut at = rooms.len();
        for (index, room) in rooms.iter().enumerate() {
            list.word(index).store((at as u64) << 32 | *room as u64, Ordering::Relaxed);
            at += slot_words(*room);
        }
        assert_eq!(at, N);
        list
    }
}

/// A version, and two copies of `room` words each.
fn slot_words(room: usize) -> usize {
    1 + 2 * (COPY_HEAD + room)
}

impl fmt::Debug for ShareableList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A list that has no place yet.
#[cfg(not(loom))]
#[derive(Clone, Debug)]
pub struct ShareableListPlan {
    slots: Vec<(ListValue, usize)>,
}

#[cfg(not(loom))]
impl ShareableListPlan {
    fn room(value: &ListValue, room: usize) -> usize {
        value.len().max(room).max(8).div_ceil(8)
    }
}

#[cfg(not(loom))]
// SAFETY: 1: a line, then as many words. 2: atomics. 3: every offset is checked against the private number of words before
// it is used, and each access is checked again.
unsafe impl crate::place::InPlace for ShareableList {
    const KIND: &'static str = "list";

    fn layout(cells: usize) -> Option<Layout> {
        let (whole, _) = Layout::new::<Quiet>().extend(Layout::array::<ListWord>(cells).ok()?).ok()?;
        Some(whole.pad_to_align())
    }

    unsafe fn at<'a>(memory: *mut u8, cells: usize) -> &'a Self {
        // SAFETY: by the caller's 1 and 2; any bytes are a valid list.
        unsafe { &*(std::ptr::slice_from_raw_parts(memory, cells) as *const Self) }
    }
}

#[cfg(not(loom))]
// SAFETY: the directory and the first version of each slot are written; the rest is zero.
unsafe impl crate::place::Plan for ShareableListPlan {
    type Object = ShareableList;

    /// # Panics
    /// With more than 2^32 words in all.
    fn cells(&self) -> usize {
        let slots = self.slots.iter().map(|(value, room)| 1 + slot_words(Self::room(value, *room)));
        let words = slots.sum::<usize>();
        assert!(words <= u32::MAX as usize, "a list has room for 32 GiB");
        words
    }

    unsafe fn place(self, memory: *mut u8) {
        let cells = self.cells();
        // SAFETY: by the caller's 1 and 2.
        let list: &ShareableList = unsafe { <ShareableList as crate::place::InPlace>::at(memory, cells) };
        let mut at = self.slots.len();
        for (index, (value, room)) in self.slots.iter().enumerate() {
            let room = Self::room(value, *room);
            list.word(index).store((at as u64) << 32 | room as u64, Ordering::Relaxed);
            let (head, words) = value.words();
            list.word(at + 1).store(head, Ordering::Relaxed);
            for (offset, word) in words.into_iter().enumerate() {
                list.word(at + 1 + COPY_HEAD + offset).store(word, Ordering::Relaxed);
            }
            at += slot_words(room);
        }
        list.quiet.len.store(self.slots.len() as u64, Ordering::Release);
    }
}
