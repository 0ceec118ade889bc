//! Every limit of the engine, with its unit in its name. The README has the same table.

use std::time::Duration;

/// Workers of one pool.
pub const WORKERS_MAX: usize = 1000;
/// Operands of one phase.
pub const OPERANDS_MAX: usize = 6;
/// Chunks of one phase: a chunk's index is a u32.
pub const CHUNKS_MAX: usize = u32::MAX as usize - 1;
/// Bytes of a chunk that `Chunk::Auto` aims at.
pub const AUTO_BYTES: usize = 1 << 20;
/// The same where rows are updated in place and copied first: larger copies fall out of the cache.
pub const AUTO_UNDO_BYTES: usize = 128 << 10;
/// Fewest chunks of `Chunk::Auto`, if there are as many rows.
pub const AUTO_CHUNKS_MIN: usize = 64;
/// Most chunks of `Chunk::Auto`.
pub const AUTO_CHUNKS_MAX: usize = 65_536;
/// Bytes of a phase's arguments that travel in the descriptor; larger ones get a segment.
pub const ARGS_INLINE_BYTES: usize = 4096;
/// Bytes of a partial result that travel in the table of partials; larger ones go to the worker's arena.
pub const PARTIAL_INLINE_BYTES: usize = 48;
/// Bytes of a panic message or an error text that travel from a worker; longer ones are cut, with a mark.
pub const ERROR_TEXT_BYTES: usize = 4096;
/// A worker publishes what it has folded at least this often, if publishing is cheap.
pub const FLUSH_AFTER: Duration = Duration::from_millis(50);
/// Bytes of an arena that are kept for the next phase.
pub const ARENA_KEEP_BYTES: u64 = 1 << 20;
/// Re-runs of a chunk after a death, so one attempt more than this.
pub const RETRIES_DEFAULT: u32 = 3;
/// From spawn until the worker has shown itself.
pub const HANDSHAKE: Duration = Duration::from_secs(5);
/// From spawn until a worker's initializer has run, or a template's preload hook, when nothing else is said.
pub const INITIALIZER_TIMEOUT: Duration = Duration::from_secs(60);
/// Workers that a template is asked for at a time.
pub const ORDERS_MAX: usize = 8;
/// How long a finalizer may take, when nothing else is said.
pub const FINALIZER_TIMEOUT: Duration = Duration::from_secs(5);
/// A worker that may grow only so much looks at its memory this often.
pub const GROWTH_LOOK: Duration = Duration::from_millis(10);
/// A pool that replaces workers when memory runs short looks at it this often.
pub const PRESSURE_LOOK: Duration = Duration::from_millis(50);
/// It replaces those only whose memory has grown by so many bytes.
pub const RECYCLE_WORTH_BYTES: u64 = 16 << 20;
/// From SIGTERM to SIGKILL.
pub const TERM_GRACE: Duration = Duration::from_millis(500);
/// How long after their workers' end lines that still move are passed on.
pub const OUTPUT_MAX: Duration = Duration::from_secs(10);
/// A killed worker whose exit is not confirmed by then is unkillable, and the arrays it could write are tainted.
pub const UNKILLABLE_AFTER: Duration = Duration::from_secs(5);
/// How deep processes may start each other.
pub const NESTING_MAX: u32 = 10;
/// First pause after a worker failed to start; doubles up to [`RESPAWN_PAUSE_MAX`].
pub const RESPAWN_PAUSE: Duration = Duration::from_millis(10);
/// Longest pause after a worker failed to start.
pub const RESPAWN_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Failed starts in a row, beyond the number of workers, before the pool is broken.
pub const START_FAILURES: u32 = 5;
/// Workers killed by SIGKILL in a row before one came up, until the pool is broken.
pub const START_KILLS: u32 = 1000;
/// Shortest wait for a peer without a look at who lives: doubles up to [`SLICE`](swath_sync::SLICE).
pub const SLICE_MIN: Duration = Duration::from_millis(1);
/// Chunk time-outs are sampled at an eighth of the time-out, within these bounds.
pub const SAMPLE_MIN: Duration = Duration::from_millis(5);
/// See [`SAMPLE_MIN`].
pub const SAMPLE_MAX: Duration = Duration::from_millis(50);
/// A line of a worker's output longer than this is passed on in pieces.
pub const OUTPUT_LINE_BYTES: usize = 64 << 10;
/// Tasks in the table that workers take from; more wait in the coordinator's own memory.
pub const TASKS_IN_TABLE: usize = 4096;
/// Tasks for one certain worker that are in the table at a time.
pub const POST_LANE: usize = 64;
/// Bytes of a task's arguments, or of its result, that travel in the table; longer ones go by a file in memory.
pub const TASK_INLINE_BYTES: usize = 96;
/// Extents of at least so many bytes give their memory back when they are free.
pub const EXTENT_KEEP_BYTES: u64 = 64 << 10;
/// Bytes of log records that a worker or process keeps for a starter that is slow to read them; then the oldest are dropped, and counted.
pub const LOG_RING_BYTES: usize = 16 << 10;
/// Bytes of one log record; longer texts are cut, with a mark.
pub const LOG_RECORD_BYTES: usize = 4 << 10;
/// How long the reader of logs naps after records came, instead of being woken for each.
pub const LOG_NAP: Duration = Duration::from_millis(10);
/// Dead workers of a pool, or dead processes, whose log records still wait for a slow subscriber; of further ones only the newest is kept.
pub const LOG_BACKLOG: usize = 64;
/// Lines of a dead worker's or process's log that its death's cause has, at most.
pub const LAST_WORDS: usize = 5;
/// Longest of these lines.
pub const LAST_WORD_BYTES: usize = 512;
/// Encoded bytes of items that a stream holds beyond its two chunks per worker.
pub const STREAM_BYTES: usize = 64 << 20;
/// Items of one chunk of a stream, at most.
pub const STREAM_CHUNK_MAX: usize = 16_384;

/// Of a limit of memory that the pool finds by itself, one of so many parts is left alone by tasks that say what they need.
pub const MEMORY_RESERVE_PARTS: u64 = 16;
/// Bytes of a message to a manager, or of its answer: the arguments of one call, or of all calls of a batch.
pub const MANAGED_MESSAGE_BYTES: u64 = 4 << 30;
/// Connections that a manager has at a time, when nothing else is said.
pub const MANAGED_CLIENTS: usize = 1000;
/// For the destructors of a manager's objects, at its end.
pub const MANAGED_END: Duration = Duration::from_secs(5);
