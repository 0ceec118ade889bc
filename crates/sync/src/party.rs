//! Who I am: the process's place in a slot table, and this thread's number in it.

use std::marker::PhantomData;

use crate::owner::Owner;
use crate::slots::{SlotId, SlotTable};

/// One thread of one party: what every operation that can own something asks for.
///
/// Cheap to copy, made for one thread: its number, held until the thread ends, is what tells it from its siblings. A copy
/// that a fork takes along is the parent's: ask [`Party::current`] in the child, which says so. What it takes along of
/// guards and permits gives nothing back there.
#[derive(Copy, Clone)]
pub struct Party {
    table: &'static SlotTable,
    owner: Owner,
    /// `!Send`, `!Sync`: the number is this thread's.
    _here: PhantomData<*const ()>,
}

/// Why the calling thread is no party.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoParty {
    /// [`Party::install`] has not been called.
    #[error("this process has not entered a slot table")]
    NotInstalled,
    /// The identity is that of the process which this one was forked from.
    #[error("this process was forked from pid {parent}, whose identity it cannot use")]
    Forked {
        /// Whose identity it is.
        parent: u32,
    },
    /// All numbers of the slot are in use.
    #[error("more than {} threads of this process use shared locks", crate::THREADS_PER_SLOT_MAX)]
    TooManyThreads,
}

impl Party {
    /// The slot and incarnation of this process.
    pub fn slot(&self) -> SlotId {
        self.owner.slot()
    }

    /// The table that it is a slot of.
    pub fn table(&self) -> &'static SlotTable {
        self.table
    }

    #[inline(always)]
    pub(crate) fn owner(&self) -> Owner {
        self.owner
    }

    /// Whether what is done here is this party's: in a forked copy of its process it is not, and what the copy has of
    /// guards and permits is the other process's to give back.
    #[inline(always)]
    pub(crate) fn is_here(&self) -> bool {
        #[cfg(not(loom))]
        return !swath_platform::fork::is_copy();
        #[cfg(loom)]
        true
    }

    /// The party that a model's thread plays.
    #[cfg(loom)]
    pub fn for_model(table: &'static SlotTable, id: SlotId) -> Self {
        Self { table, owner: Owner::new(id, 0), _here: PhantomData }
    }
}

impl std::fmt::Debug for Party {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Party").field("slot", &self.slot()).field("thread", &self.owner.thread()).finish()
    }
}

#[cfg(not(loom))]
pub(crate) use identity::join;

#[cfg(not(loom))]
mod identity {
    //! The process-wide identity and the thread numbers. Statics and thread-locals of std: models do without.

    use std::cell::Cell;
    use std::process;
    use std::ptr;
    use std::sync::atomic::{AtomicPtr, AtomicU64};

    use swath_platform::fork;

    use super::*;
    use crate::atomics::Ordering;
    use crate::limits::THREADS_PER_SLOT_MAX;

    /// `pid:32 | generation:16 | slot:16`; 0 before `install` and while it runs.
    static IDENTITY: AtomicU64 = AtomicU64::new(0);
    static TABLE: AtomicPtr<SlotTable> = AtomicPtr::new(ptr::null_mut());

    /// This thread's number in one table, given back when the thread ends.
    struct Member {
        table: &'static SlotTable,
        id: SlotId,
        pid: u32,
        thread: u8,
    }

    thread_local! {
        /// One for each table, the one asked for last at the end.
        static MEMBERS: Cell<Vec<Member>> = const { Cell::new(Vec::new()) };
    }

    impl Party {
        /// Makes `id` the identity of this process, for all its threads. A later call replaces it (a new session, or
        /// the child of a fork, which starts with its parent's and must not use it).
        ///
        /// # Safety
        /// 1. `id` was reserved in `table` for this process, and no other one has it;
        /// 2. what is used with a party of this process is used with parties of `table` only: a party of another table takes a
        ///    living holder for a dead one;
        /// 3. nothing that was made with parties of an earlier identity of this process is used any more.
        pub unsafe fn install(table: &'static SlotTable, id: SlotId) {
            IDENTITY.store(0, Ordering::SeqCst);
            fork::mark_own();
            TABLE.store(ptr::from_ref(table).cast_mut(), Ordering::SeqCst);
            let packed =
                u64::from(process::id()) << 32 | u64::from(id.generation) << 16 | u64::from(id.index);
            IDENTITY.store(packed, Ordering::SeqCst);
        }

        /// The calling thread as a party; takes a thread number on the first call. Keep the result for a stretch of
        /// work rather than asking per operation.
        pub fn current() -> Result<Self, NoParty> {
            let packed = IDENTITY.load(Ordering::SeqCst);
            let table = TABLE.load(Ordering::SeqCst);
            if packed == 0 || table.is_null() || IDENTITY.load(Ordering::SeqCst) != packed {
                return Err(NoParty::NotInstalled);
            }
            let id = SlotId { index: packed as u16, generation: (packed >> 16) as u16 };
            // SAFETY: `install` stored it from a `&'static SlotTable`.
            let table = unsafe { &*table };
            Self::found(table, id, (packed >> 32) as u32)
        }

        /// The calling thread as a party of a table that is not the process's own: `pid` is the process that entered it
        /// as `id`, this one unless it was forked since.
        ///
        /// # Safety
        /// 1. `id` was reserved in `table` for the process `pid`, and no other one has it;
        /// 2. what is used with this party is used with parties of `table` only.
        pub unsafe fn of(table: &'static SlotTable, id: SlotId, pid: u32) -> Result<Self, NoParty> {
            Self::found(table, id, pid)
        }

        fn found(table: &'static SlotTable, id: SlotId, pid: u32) -> Result<Self, NoParty> {
            if !fork::is_own(pid) {
                return Err(NoParty::Forked { parent: pid });
            }
            let thread = join(table, id)?;
            Ok(Self { table, owner: Owner::new(id, thread), _here: PhantomData })
        }
    }

    /// The calling thread's number in this slot, taken now if it has none yet.
    pub(crate) fn join(table: &'static SlotTable, id: SlotId) -> Result<u8, NoParty> {
        MEMBERS.with(|cell| {
            let mut members = cell.take();
            let thread = find_or_take(&mut members, table, id);
            cell.set(members);
            thread
        })
    }

    fn find_or_take(members: &mut Vec<Member>, table: &'static SlotTable, id: SlotId) -> Result<u8, NoParty> {
        if let Some(at) = members.iter().rposition(|member| ptr::eq(member.table, table)) {
            let member = &members[at];
            if member.id == id && fork::is_own(member.pid) {
                let thread = member.thread;
                let last = members.len() - 1;
                members.swap(at, last);
                return Ok(thread);
            }
            members.remove(at); // of an earlier incarnation, or of the process that we were forked from
        }
        let thread = take_number(table, id).ok_or(NoParty::TooManyThreads)?;
        fork::mark_own();
        members.push(Member { table, id, pid: process::id(), thread });
        Ok(thread)
    }

    fn take_number(table: &SlotTable, id: SlotId) -> Option<u8> {
        for thread in 0..THREADS_PER_SLOT_MAX {
            let (word, bit) = (&table.threads(id.index)[thread / 32], 1 << (thread % 32));
            if word.load(Ordering::Relaxed) & bit == 0 && word.fetch_or(bit, Ordering::AcqRel) & bit == 0 {
                return Some(thread as u8);
            }
        }
        None
    }

    impl Drop for Member {
        /// Gives the number back, unless this is a forked copy, the slot has another tenant by now, or the kernel has marked
        /// the number as a dead one's: who got it would be taken for dead.
        fn drop(&mut self) {
            let same = self.table.state(self.id.index).1 == self.id.generation;
            let watched = self.table.armed_thread(self.id.index) == Some(self.thread);
            if fork::is_own(self.pid) && same && !watched {
                let thread = usize::from(self.thread);
                let word = &self.table.threads(self.id.index)[thread / 32];
                word.fetch_and(!(1 << (thread % 32)), Ordering::AcqRel);
            }
        }
    }
}
