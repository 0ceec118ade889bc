//! How many items go to a worker at once: one, many, or as many as the engine finds worth it.
//!
//! ```text
//! cargo run --release --example guide_chunks
//! ```

use swath::prelude::*;

const ITEMS: u64 = 20_000;

/// A few steps of the Collatz sequence: a fraction of a microsecond.
fn steps(start: u64) -> u32 {
    let (mut n, mut steps) = (start + 1, 0);
    while n != 1 {
        n = if n % 2 == 0 { n / 2 } else { 3 * n + 1 };
        steps += 1;
    }
    steps
}

fn main() -> Result<()> {
    swath::init();
    let pool = Pool::builder().workers(4).build()?;

    let mut answers = Vec::new();
    for size in [1, 10, 100, 1000, 10_000] {
        let (values, report) = pool.map_with(steps, 0..ITEMS).chunk(size).collect_report()?;
        println!("{size:>6} items a chunk: {:>5} chunks, sum {}", report.chunks, values.iter().sum::<u32>());
        eprintln!("{size:>6} items a chunk: {:?}", report.wall);
        answers.push(values);
    }
    let (values, report) = pool.map_with(steps, 0..ITEMS).collect_report()?;
    eprintln!("  auto: {} items a chunk: {:?}", report.rows_per_chunk, report.wall);
    answers.push(values);
    println!("the same values for every size: {}", answers.windows(2).all(|pair| pair[0] == pair[1]));

    // The chunks of a phase never depend on time: the bits of a sum of floats would depend on it too.
    let numbers = SharedArray::<f64, _>::zeros(10_000_000)?;
    let (_, report) = pool.phase(&numbers).map(|_, rows| rows.sum()).reduce_report(0.0, |a, b| a + b)?;
    println!("a phase over 80 MB: {} chunks of {} rows, always", report.chunks, report.rows_per_chunk);
    Ok(())
}
