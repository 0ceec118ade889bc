//! How many items make a chunk, when nobody says: measured on the first ones.
//!
//! A claim costs tens of nanoseconds, so a chunk that takes [`CHUNK_WORTH`] is long enough; shorter ones only cost, longer ones leave workers
//! idle at the end and lose more with a death. Values never depend on it.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::MapCall;
use crate::error::Result;
use crate::report::Report;
use crate::settings::Settings;

/// What a chunk should take.
const CHUNK_WORTH: Duration = Duration::from_micros(100);
/// Items per worker that are measured, one by one.
const MEASURED: usize = 16;
/// Chunks per worker at least: what is left to share out at the end.
const SHARES: usize = 16;

/// A map in two phases: the first items, one by one; then all others, so many at a time as the first ones say.
pub(super) fn run<'p, A: Serialize + 'p, R: DeserializeOwned>(
    mut call: MapCall<'p, A, R>,
) -> Result<(Vec<Result<R>>, Report)> {
    let workers = call.pool.workers().max(1);
    let mut items = std::mem::replace(&mut call.items, Box::new(std::iter::empty()));
    let (mut values, mut times) = (Vec::new(), Vec::new());
    let mut first = items.by_ref().take(MEASURED * workers);
    let mut report = call.phase(call.settings.again(), &mut first, 1, &mut values, Some(&mut times))?;
    if values.len() < MEASURED * workers {
        return Ok((values, report));
    }
    // The middle one: some were interrupted, the first of each worker found cold caches.
    times.sort_unstable();
    let each = times.get(times.len() / 2).copied().unwrap_or(0);
    let chunk = choose(Duration::from_nanos(each), workers, items.size_hint().0);
    let settings = std::mem::replace(&mut call.settings, Settings::new());
    let rest = call.phase(settings, &mut items, chunk, &mut values, None)?;
    report.absorb(&rest);
    report.rows_per_chunk = chunk;
    Ok((values, report))
}

/// The size of chunks of items that take `each`, when `left` are left at least (0: nobody knows).
fn choose(each: Duration, workers: usize, left: usize) -> usize {
    let worth = CHUNK_WORTH.as_nanos() / each.as_nanos().max(1);
    let most = if left == 0 { usize::MAX } else { (left / (workers * SHARES)).max(1) };
    usize::try_from(worth).unwrap_or(usize::MAX).clamp(1, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_items_go_together_and_long_ones_alone() {
        let nanos = Duration::from_nanos;
        assert_eq!(choose(nanos(2_000), 2, 1_000_000), 50);
        assert_eq!(choose(nanos(2_000_000), 2, 1_000_000), 1);
        assert_eq!(choose(nanos(2_000), 2, 320), 10, "ten shares each");
        assert_eq!(choose(nanos(0), 2, 0), 100_000, "too short to measure");
    }
}
