//! Sessions and named shared memory: create, attach, list, reclaim.
//!
//! A [`Session`] is what one coordinator process has in `/dev/shm`: a lock file that is also the control segment, and
//! segments. It begins with the first segment or pool and ends when the last of them is dropped. Whatever dies on the
//! way, the names go: by their owner, by its guardian, or by the next session of the same user ([`admin::clean`] does
//! the same). How, step by step, is in this crate's `README.md`; the code cites its steps.
//!
//! ```
//! use swath_segment::{Kind, Segment};
//!
//! # fn main() -> Result<(), swath_segment::Error> {
//! let segment = Segment::options().unnamed("scratch").kind(Kind::Engine).create(8192)?;
//! assert_eq!(segment.len(), 8192);
//! assert!(!segment.as_ptr().is_null());
//! # Ok(())
//! # }
//! ```

pub mod admin;
mod attach;
mod backing;
pub mod control;
mod descendants;
mod error;
mod foreign;
mod guard;
mod guardian;
mod guest;
mod handover;
pub mod layout;
pub mod limits;
mod locked_file;
mod membership;
mod name;
mod npy;
mod object;
mod reader;
mod reclaim;
mod reference;
mod room;
mod segment;
mod service;
mod session;
mod snapshot;
mod table;

pub use attach::{Attachments, Mode};
pub use control::Control;
pub use descendants::{SESSION_VARIABLE, environment};
pub use error::{Error, Result};
pub use foreign::Foreign;
pub use guardian::guardian_entry;
pub use handover::{Inbox, Stamp};
pub use membership::{Membership, is_member, member, worker_membership};
pub use name::{SHM_DIR, shm_path, validate as validate_name};
pub use object::{OBJECT_OFFSET, Object, ObjectForm, ObjectImage};
pub use reader::Reader;
pub use reference::SegmentRef;
pub use segment::{Kind, Segment, SegmentOptions};
pub use service::{Keep, Reactor, Service, Token, WatchFd};
pub use session::{HookId, Session, set_initialised};

pub use swath_platform::spawn::{Child, SpawnSelf};

/// The first argument of a worker.
pub const WORKER_ARGV0: &str = "swath-worker";
/// The first argument of a guardian.
pub const GUARDIAN_ARGV0: &str = "swath-guardian";
/// The descriptor under which workers and guardians inherit the control segment.
pub const CONTROL_FD: i32 = 3;
