//! Interleaved pairs: two contenders in turn, medians, and the spread, so that a noisy run shows itself.

use std::time::{Duration, Instant};

/// The times of one contender, in seconds, sorted.
#[derive(Debug, Clone)]
pub struct Times(Vec<f64>);

impl Times {
    /// Sorts the times.
    pub fn new(mut seconds: Vec<f64>) -> Times {
        seconds.sort_by(f64::total_cmp);
        Times(seconds)
    }

    /// The middle one.
    pub fn median(&self) -> f64 {
        self.at(0.5)
    }

    /// The value below which this share lies.
    pub fn at(&self, share: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        self.0.get((last as f64 * share).round() as usize).copied().unwrap_or(f64::NAN)
    }
}

/// Runs both in turn: one uncounted round, then `rounds` counted ones.
pub fn pairs(
    rounds: usize,
    mut ours: impl FnMut() -> Duration,
    mut theirs: impl FnMut() -> Duration,
) -> (Times, Times) {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let (x, y) = (ours().as_secs_f64(), theirs().as_secs_f64());
        if round > 0 {
            a.push(x);
            b.push(y);
        }
    }
    (Times::new(a), Times::new(b))
}

/// How long `f` takes.
pub fn time<R>(f: impl FnOnce() -> R) -> Duration {
    let began = Instant::now();
    std::hint::black_box(f());
    began.elapsed()
}

/// How long one of `n` calls takes.
pub fn each(n: u32, mut f: impl FnMut()) -> Duration {
    let began = Instant::now();
    for _ in 0..n {
        f();
    }
    began.elapsed() / n
}
