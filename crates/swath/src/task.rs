//! Tasks: one function call each, submitted to a pool, with a handle to wait for its result.
//!
//! ```text
//! head | lanes: cells waiting to be run | posts: one per worker | cells: one per task in the table
//! ```
//!
//! The table is a segment of the pool's own, made at the first task. Everything in it is an atomic word. A *cell* carries a
//! task to a worker and its result back; it is used again and again, each time under another *serial*. Its state is one word:
//!
//! ```text
//!  63          32 31    28 27    24 23      14 13          0
//! [    serial    | state |   0    |   slot   | generation  ]
//! ```
//!
//! The protocol, with the place where each death is repaired:
//!
//! 1. *Submit.* The coordinator takes a free cell, writes the request (functions, arguments, attempt), then the state QUEUED
//!    under a new serial (Release), puts `{serial, cell}` into a lane and rings one worker. Only the coordinator writes lanes, under its lock.
//! 2. *Take.* A worker reads the entry at a lane's head and moves the cell QUEUED → RUNNING{worker} by one compare-and-swap that
//!    names the serial, and then the lane's head past it. Whoever finds at the head an entry whose cell is no longer QUEUED
//!    under that serial moves the head too: *killed between the two*, nothing is lost and nobody stands in the way.
//! 3. *Run.* The worker copies the request; calls the function; writes the response: up to 96 bytes in the cell, more into
//!    its own file ([`extents`]), with length and checksum.
//!    Arrays in it are sent to the pool's inbox first (`swath_segment::Inbox`), where a death cannot reach them; the response ends with their list.
//! 4. *Finish.* RUNNING{worker} → DONE or FAILED: the one instruction at which the task takes effect. Then the worker wakes
//!    whoever sleeps on the cell, and counts the table's completions up. *Killed in between*: 6.
//! 5. *Collect.* Whoever waits in the coordinator, under its lock, copies the response, takes its arrays out of the inbox and sets the cell FREE. The worker
//!    sees in the cell's state that its extent is free again: no message goes back.
//! 6. *A worker is dead*: the service thread, after the fence, moves the cell that it was RUNNING back to QUEUED (another
//!    attempt) or resolves the task with the cause of the death; responses that it had finished are copied, since its file goes with it;
//!    arrays that it had sent for no response are forgotten, and all sleepers are woken, since it may have died before it did.
//! 7. *Cancel, time-out.* A task that is QUEUED goes to FREE. One that is RUNNING costs its worker: it is told to claim nothing
//!    more (`halt`, the number of its claim), then the kill ladder runs, then 6. A worker counts its claim *before* it takes a cell and looks at
//!    `halt` after it has finished one; the coordinator writes `halt` and looks at the cell again. One of both sees the other (all SeqCst),
//!    so the signal hits this task or an idle worker, and never the task after it.
//!
//! The coordinator's death ends everything, as always.

pub(crate) mod admission;
pub(crate) mod background;
mod call;
mod cell;
pub(crate) mod clerk;
pub(crate) mod desk;
mod extents;
mod group;
mod handle;
mod lane;
mod letter;
pub(crate) mod office;
mod outcome;
mod steward;
mod submit;
pub(crate) mod table;
mod ticket;
mod watch;

pub(crate) use call::Call;
pub use clerk::{CurrentTask, current_task};
pub(crate) use clerk::{Driver, call, call_without, try_call};
pub(crate) use group::first_done;
pub use group::{AsCompleted, Until, Waited, as_completed, wait};
pub use handle::Task;
pub(crate) use outcome::kind_of;
pub use submit::Submission;
pub(crate) use submit::submit_bytes;
pub use table::Priority;
