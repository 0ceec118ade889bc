//! A histogram by several processes, twice: into one array under a lock, and by values that are added up afterwards.
//!
//! ```text
//! cargo run --release --example histogram
//! ```
//!
//! Under the lock every chunk counts its own rows first and takes the lock once, to add what it has counted: the lock is held
//! from there to the chunk's end. A worker that is killed before, in the middle or after changes nothing in the sum: the
//! update takes effect with its chunk, exactly once. But nothing here needs a lock: the six lines of `map` and `reduce` say the
//! same, and let nobody wait. Use `locked` when the array is too large to have one of per chunk.

use std::time::Instant;

use swath::prelude::*;

const VALUES: usize = 1_000_000;
const BINS: usize = 12;

/// Which bin a value belongs to.
fn bin(value: f64) -> usize {
    ((value + 3.0) / 6.0 * BINS as f64).clamp(0.0, (BINS - 1) as f64) as usize
}

fn main() -> Result<()> {
    swath::init();
    let pool = Pool::builder().build()?;
    let mut values = SharedArray::<f64, _>::zeros(VALUES)?;
    // About normal: twelve uniform numbers, less six. Random numbers of a chunk depend on seed and chunk alone.
    pool.phase(out(&mut values)).seed(1).for_each(|ctx, mut values| {
        let mut rng = ctx.rng();
        values.map_inplace(|value| *value = (0..12).map(|_| rng.next_f64()).sum::<f64>() - 6.0);
    })?;

    let mut counts = SharedArray::<u64, _>::zeros(BINS)?;
    let began = Instant::now();
    pool.phase((&values, locked(&mut counts))).for_each(|_, (values, mut counts)| {
        let mut own = [0_u64; BINS];
        values.for_each(|value| own[bin(*value)] += 1);
        counts.lock().iter_mut().zip(own).for_each(|(count, own)| *count += own);
    })?;
    let under_a_lock = began.elapsed();

    let began = Instant::now();
    let kernel = |_: &Ctx<()>, values: ArrayView1<'_, f64>| {
        let mut own = [0_u64; BINS];
        values.for_each(|value| own[bin(*value)] += 1);
        own
    };
    let add = |a: [u64; BINS], b: [u64; BINS]| std::array::from_fn(|bin| a[bin] + b[bin]);
    let sums = pool.phase(&values).map(kernel).reduce([0; BINS], add)?;
    let without = began.elapsed();

    let most = sums.iter().max().copied().unwrap_or(1).max(1);
    for (bin, count) in sums.iter().enumerate() {
        let from = -3.0 + bin as f64 * 6.0 / BINS as f64;
        println!("{from:5.1} {count:9} {}", "#".repeat((count * 50 / most) as usize));
    }
    println!(
        "under a lock: {under_a_lock:.1?}   map and reduce: {without:.1?}   workers: {}",
        pool.workers()
    );
    println!("the same: {}", counts.view().iter().eq(sums.iter()));
    Ok(())
}
