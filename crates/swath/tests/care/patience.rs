//! Waiting for what must come, for so long that only what never comes is missed.

use std::time::{Duration, Instant};

/// Far more than anything takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until it holds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
