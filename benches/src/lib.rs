//! What the questions share: interleaved timing, workloads, and the rivals that do the same work.
//!
//! Every figure is a ratio of medians taken in one run: ours, theirs, ours, theirs, … on the same data, after a warm-up that is
//! not counted, with a proof that both did the same work. A ratio above 1 means that we are faster where throughput is
//! compared, and slower where latency is; each line says which.

pub mod arrays;
pub mod attempts;
pub mod crossbeam_rival;
pub mod csv_rivals;
pub mod futex_rival;
pub mod machine;
pub mod multiprocessing_rival;
pub mod partner;
pub mod pthread_rival;
pub mod raw_sync_rival;
pub mod rayon_rival;
pub mod spawn_rival;
pub mod timing;
