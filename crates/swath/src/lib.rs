//! Data-parallel work in several processes at the speed of threads.
//!
//! Arrays lie in shared memory; worker processes run kernels on chunks of them in place; a worker may die at any
//! instruction, and every chunk still takes effect exactly once. Start at [`Pool`] and [`Phase`].
//!
//! What kernels and tasks say by `tracing` arrives at the program's own subscriber: as events of the target `swath::worker` with the
//! fields `message`, `worker`, `pid`, `task`, `chunk`, `target`, `file`, `line`, `spans`, `fields` and `time_ns`, after the subscriber
//! was asked whether it wants an event of the original's target, level, file and line. The subscriber is the one that is in force where
//! the pool is built, else the program's global one; in workers it does not exist, so set it after [`init()`]. See
//! [`PoolBuilder::log_level`] and [`PoolBuilder::log_to_files`]. Records of the crate `log` are not forwarded, and a process that a
//! kernel forks without exec says nothing.

mod arena;
mod attach;
mod board;
mod cause;
mod checksum;
mod context;
mod contract;
mod crew;
mod descriptor;
mod drive;
mod error;
mod freight;
mod gather;
mod geometry;
mod head_count;
mod init;
mod inline;
mod kernel;
#[doc(hidden)]
pub mod ledger;
pub mod limits;
mod locked;
mod log;
pub mod managed;
mod map;
mod memory_file;
mod operand;
mod output;
mod panic_note;
mod partial;
mod phase;
mod pool;
mod populate;
pub mod process;
mod range;
mod recovery;
mod reduce;
mod relay;
mod report;
mod respawn;
mod rng;
mod run;
mod samples;
mod settings;
pub mod shared;
mod stats;
mod task;
mod team;
mod template;
mod turn;
mod undo;
mod watch;
mod worker;

pub use swath_array as array;
pub use swath_segment as segment;
pub use swath_segment::admin;

pub use cause::{Cause, ChunkFailure, Crash, What};
pub use context::Ctx;
pub use contract::{set_worker_state, with_worker_state, worker_shared};
pub use drive::{IntoFailure, Kernel, Outcome, Step};
pub use error::{Error, ErrorKind, Result, RowsLeft};
pub use geometry::{AUTO_VERSION, Chunk};
pub use init::init;
pub use locked::{Locked, LockedRows, locked};
pub use managed::{Managed, Manager};
pub use map::{Batch, Imap, ImapUnordered, MapCall, Stream};
pub use operand::{Operand, Out, Whole, out, whole};
pub use phase::{Encoded, Fold, IntoArgs, Map, Phase};
pub use pool::{Pool, PoolBuilder};
pub use process::{
    Process, StartMethod, active_children, cpu_count, current_process, isolated, isolated_with,
    parent_process, start_methods, try_isolated,
};
pub use report::Report;
pub use rng::ChunkRng;
pub use settings::Progress;
pub use shared::Shared;
pub use stats::{Stats, TaskCounts, WorkerStats};
pub use swath_array::{ArrayHandle, Bool, DType, Element, ForeignArray, SharedArray, c32, c64};
pub use task::{
    AsCompleted, CurrentTask, Priority, Submission, Task, Until, Waited, as_completed, current_task, wait,
};
pub use team::{Team, TeamArray, TeamKernel, TeamOperand, TeamPhase};
pub use tracing::Level;
pub use tracing::level_filters::LevelFilter;

/// The primitives that [`Shared`] shares: their types, plans, guards and errors.
///
/// Their methods ask for the calling thread as a party of one certain session, which `Shared` knows and nobody else can name: a
/// party of another session would take a living holder for a dead one.
pub mod sync {
    pub use swath_sync::{
        Arithmetic, ArrayError, Barrier, BarrierError, BarrierPlan, BoundedSemaphore, BoundedSemaphorePlan,
        Called, Condvar, Consumer, DeathCause, Delivery, Event, Holder, InPlace, JoinableQueue,
        JoinableQueuePlan, ListError, ListValue, LockError, Locked, LockedArray, LockedArrayPlan,
        MessageFault, MessageQueue, MessageQueueError, MessageQueuePlan, Mutex, MutexGuard, NoParty, Number,
        Once, Permit, Pipe, PipeError, PipePlan, PipeSide, Plan, PoisonedBy, Producer, Queue, QueueError,
        QueuePlan, ReadGuard, Record, Recovered, RecoveredGuard, RecursiveGuard, RecursiveMutex,
        RecursivelyLocked, ReleaseError, RingError, RwLock, Semaphore, SemaphoreError, SemaphorePlan,
        ShareableList, ShareableListPlan, SimpleQueue, SimpleQueuePlan, SlotId, SpscRing, SpscRingPlan,
        Taken, Value, WaitAnyError, Waited, WriteGuard, Written, limits, raw_sync,
    };
}

/// What most programs name.
pub mod prelude {
    pub use crate::{
        ArrayHandle, Chunk, Ctx, Error, ErrorKind, Manager, Pool, Process, Report, Result, SharedArray, Team,
        TeamArray, locked, out, whole,
    };
    pub use ndarray::{
        self, ArrayView, ArrayView1, ArrayView2, ArrayViewMut, ArrayViewMut1, ArrayViewMut2, Axis, Ix1, Ix2,
        azip,
    };
}

/// The programs in the README compile.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
mod readme {}

/// So do those of the guide.
#[cfg(doctest)]
#[doc = include_str!("../../../examples/guide/coming-from-python.md")]
mod coming_from_python {}
