//! Locks, semaphores, conditions, barriers, shared values, queues and liveness for processes that may be killed at any
//! instruction.
//!
//! Everything here lives in shared memory as plain words: no pointers, no libc objects, no process ids as names. A
//! [`Party`] is (slot, generation, thread); the [`SlotTable`] says whether it lives. Whoever waits for a peer sleeps in
//! slices of at most [`SLICE`] and looks at the peer's liveness in between, so a death or a lost wake-up costs
//! a slice and never a hang. A death is a value: [`Locked::Recovered`], [`BarrierError::Broken`].
//!
//! The protocols, as numbered steps with "killed here → repaired there", are in this crate's `README.md`; the code
//! cites the steps.
//!
//! ```
//! use swath_sync::{Locked, Mutex, Party, SlotTable};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # // In a program this memory is the session's control segment, shared with the workers.
//! # let memory = std::alloc::Layout::new::<SlotTable>();
//! # let table = unsafe { SlotTable::from_ptr(std::alloc::alloc_zeroed(memory)) };
//! let id = table.reserve().expect("a free slot");
//! table.enter(id);
//! unsafe { Party::install(table, id) }; // the slot is ours, and there is no other table
//!
//! let me = Party::current()?;
//! let total = Mutex::new(0_u64);
//! match total.lock(&me)? {
//!     Locked::Acquired(mut guard) => *guard += 1,
//!     Locked::Recovered(mut guard) => {
//!         *guard = 0; // its last holder died in the middle: make the value whole, then say so
//!         *guard.repaired() += 1;
//!     }
//! }
//! # Ok(())
//! # }
//! ```

#[cfg(loom)]
pub mod atomics;
#[cfg(not(loom))]
mod atomics;
mod barrier;
mod condvar;
mod deadline;
mod death;
mod envelope;
mod event;
mod joinable;
mod lane;
pub mod limits;
mod list;
mod lock_error;
mod lock_word;
#[cfg(not(loom))]
mod locked_array;
mod messages;
mod mutex;
mod once;
mod owner;
mod park;
mod party;
mod peer;
mod pipe;
#[cfg(not(loom))]
mod place;
mod pod;
mod poison;
mod queue;
pub mod raw_sync;
mod record;
mod recursive;
mod ring;
mod rw_raw;
mod rwlock;
mod semaphore;
pub mod slots;
mod taken;
mod value;
mod wait_any;
mod waiting;
mod waits;
#[cfg(not(loom))]
mod witness;

#[cfg(not(loom))]
pub use barrier::BarrierPlan;
pub use barrier::{Barrier, BarrierError, Cell as BarrierCell};
pub use condvar::{Condvar, Waited};
pub use death::DeathCause;
pub use envelope::{Envelope, Extents, MessageFault};
pub use event::Event;
pub use joinable::{Delivery, JoinableQueue, SimpleQueue};
#[cfg(not(loom))]
pub use joinable::{JoinableQueuePlan, SimpleQueuePlan};
pub use limits::{
    DEPTH_MAX, INLINE_BYTES_MAX, MESSAGE_BYTES_MAX, PERMITS_MAX, SIMPLE_QUEUE_CAPACITY, SLICE,
    THREADS_PER_SLOT_MAX,
};
#[cfg(not(loom))]
pub use list::ShareableListPlan;
pub use list::{ListError, ListValue, ListWord, ShareableList};
pub use lock_error::LockError;
#[cfg(not(loom))]
pub use locked_array::{ArrayError, LockedArray, LockedArrayPlan};
#[cfg(not(loom))]
pub use messages::MessageQueuePlan;
pub use messages::{MessageQueue, MessageQueueError};
pub use mutex::{Locked, Mutex, MutexGuard, RecoveredGuard};
pub use once::{Called, Once};
pub use owner::Holder;
pub use park::{spin, spin_then_park, wake_left_behind, wake_one_parked, wake_parked};
pub use party::{NoParty, Party};
#[cfg(not(loom))]
pub use pipe::PipePlan;
pub use pipe::{Pipe, PipeCell, PipeEnd, PipeError, PipeSide};
#[cfg(not(loom))]
pub use place::{InPlace, Plan};
pub use poison::PoisonedBy;
#[cfg(not(loom))]
pub use queue::QueuePlan;
pub use queue::{Cell as QueueCell, Queue, QueueError};
pub use record::Record;
pub use recursive::{RecursiveGuard, RecursiveMutex, RecursivelyLocked, ReleaseError};
#[cfg(not(loom))]
pub use ring::SpscRingPlan;
pub use ring::{Consumer, Producer, RingCell, RingError, SpscRing};
pub use rwlock::{ReadGuard, RwLock, WriteGuard, Written};
pub use semaphore::{BoundedSemaphore, Cell as SemaphoreCell, Permit, Semaphore, SemaphoreError};
#[cfg(not(loom))]
pub use semaphore::{BoundedSemaphorePlan, SemaphorePlan};
pub use slots::{GENERATION_BITS, Liveness, SLOTS_MAX, Slot, SlotId, SlotState, SlotTable, Witness};
pub use taken::{Guarded, Recovered, Taken};
pub use value::{Arithmetic, Number, Value};
pub use wait_any::{
    Announced, Sentinel, WAIT_ANY_MAX, WaitAnyError, Waitable, try_wait_any, wait_any, wait_any_deadline,
    wait_any_timeout,
};
#[cfg(not(loom))]
pub use witness::Peers;
