//! Every limit of the synchronisation family, with its unit in its name. The README has the same table.

use std::time::Duration;

/// Parties of one session: processes that take part in its locks and queues.
pub const SLOTS_MAX: usize = 1024;
/// Threads of one process that can hold something at the same time.
pub const THREADS_PER_SLOT_MAX: usize = 255;
/// Longest sleep of anyone who waits for a peer before it looks whether that peer still lives.
pub const SLICE: Duration = Duration::from_millis(50);
/// Threads of one process whose waits are seen by the detection of deadlocks at the same time.
pub const WAITS_PER_SLOT_MAX: usize = 8;
/// Parties of a cycle of waiters that is found.
pub const CYCLE_MAX: usize = 64;
/// Who reads one `RwLock` at the same time; the next one waits.
pub const READERS_MAX: usize = 64;
/// How often one owner can take a `RecursiveMutex`.
pub const DEPTH_MAX: u32 = 1 << 16;
/// Permits of one semaphore.
pub const PERMITS_MAX: usize = 1 << 16;
/// Items for which a `SimpleQueue` has room.
pub const SIMPLE_QUEUE_CAPACITY: usize = 1024;
/// Items for which a `Queue`, a `JoinableQueue` or an `SpscRing` can have room.
pub const QUEUE_CAPACITY_MAX: usize = 1 << 31;
/// Messages for which a `Pipe` can have room, in each direction.
pub const PIPE_CAPACITY_MAX: usize = 1 << 24;
/// Bytes of a message that lies in its cell; a longer one lies in an extent.
pub const INLINE_BYTES_MAX: usize = 96;
/// Bytes of one message.
pub const MESSAGE_BYTES_MAX: u64 = 1 << 40;
