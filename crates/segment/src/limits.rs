//! Every limit of this crate, named.

/// Longest name of a segment, in bytes.
pub const NAME_MAX: usize = 64;

/// Segments that a session can have at one time, retired but pinned ones included.
pub const SEGMENTS_MAX: usize = 4096;

/// Entries whose memory is reserved when a session begins: two pages. More are when they are needed, twice as many each time.
pub(crate) const ENTRIES_AT_FIRST: usize = 64;

/// The control segment may never be larger: Docker's `/dev/shm` has 64 MiB.
pub const CONTROL_MAX_BYTES: usize = 1 << 20;

/// How long a creation without room waits for workers to unmap retired segments.
pub const RETIRE_MS: u64 = 200;

/// From this size on, dropping a segment rings parked workers, so that they unmap it now.
pub const RETIRE_RING_BYTES: usize = 16 << 20;

/// From this size on, a creation asks the memory cgroups first (a small one costs less than the question).
pub const HEADROOM_ASK_BYTES: u64 = 1 << 20;

/// How long a guardian sleeps between two looks at the coordinator's pidfd; its life word wakes it at once.
pub const GUARDIAN_SLICE_MS: u64 = 500;

/// How long a guardian waits for killed workers to be gone.
pub const GUARDIAN_EXITS_MS: u64 = 1500;

/// A guardian that ends sooner than this after its start counts as failed.
pub const GUARDIAN_YOUNG_MS: u64 = 1000;

/// Waits between guardians that fail one after another: this, doubled each time …
pub const GUARDIAN_BACKOFF_MS: u64 = 10;

/// … and at most this.
pub const GUARDIAN_BACKOFF_MAX_MS: u64 = 1000;

/// How long the end of a session waits for the guardian it has killed.
pub const GUARDIAN_END_MS: u64 = 1000;

/// How long a cleaner goes on killing what a dead session's workers had started.
pub const DESCENDANTS_MS: u64 = 1000;

/// Longest header of a `.npy` segment that `list` reads.
pub const NPY_HEADER_MAX: usize = 4096;

/// Attempts to lock the unfinished file under a path; each further one means that somebody finished or dropped theirs in
/// the moment between.
pub const CLAIM_ATTEMPTS: u32 = 100;

/// From this size on, a segment is mapped at a multiple of 2 MiB in all processes, so that it can have huge pages.
pub const ALIGN_FROM_BYTES: usize = 4 << 20;
