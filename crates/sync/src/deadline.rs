//! How long a call may wait: the four forms that every blocking call has, as one value.

use std::time::{Duration, Instant};

use crate::atomics::now_ns;
use crate::park;

/// Until when to wait, on CLOCK_MONOTONIC.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Deadline {
    /// However long it lasts.
    Never,
    /// Not at all.
    Now,
    /// That long from the call. More than the clock can say is for ever.
    In(Duration),
    /// Up to that moment.
    At(Instant),
}

impl Deadline {
    /// In the nanoseconds of `now_ns`; `u64::MAX` is never, 0 is now.
    pub(crate) fn on_the_clock(self) -> u64 {
        match self {
            Self::Never => u64::MAX,
            Self::Now => 0,
            Self::In(timeout) => park::after(timeout),
            Self::At(moment) => park::after(moment.saturating_duration_since(Instant::now())),
        }
    }
}

/// Whether a moment that [`Deadline::on_the_clock`] gave has passed.
#[inline]
pub(crate) fn is_over(deadline_ns: u64) -> bool {
    deadline_ns == 0 || (deadline_ns != u64::MAX && now_ns() >= deadline_ns)
}
